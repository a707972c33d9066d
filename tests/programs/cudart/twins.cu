/* Against CUDA 13's headers only. */
#include "twins.h"
