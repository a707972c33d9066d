/* nvcc: -default-stream per-thread */
/* Against CUDA 13's headers only. */
#include "twins.h"
