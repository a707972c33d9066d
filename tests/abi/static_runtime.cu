/* Asks for devices and says what came of it: compiled with -cudart static. */
#include <cstdio>

int main()
{
    int count = -1;
    cudaError_t error = cudaGetDeviceCount(&count);

    if (error != cudaSuccess) {
        printf("cudaGetDeviceCount: %s (%d)\n", cudaGetErrorName(error), error);
        return 1;
    }
    printf("%d devices\n", count);
    return 0;
}
