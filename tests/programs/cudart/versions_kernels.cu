/* Kernels for versions.c, behind functions that C can call. */
#include <cuda_runtime.h>

__device__ int total;

__global__ void sum(const int *values, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        atomicAdd(&total, values[i]);
}

extern "C" void launch_sum(const int *values, int n, cudaStream_t stream)
{
    sum<<<(n + 127) / 128, 128, 0, stream>>>(values, n);
}

extern "C" const void *sum_function(void)
{
    return (const void *)sum;
}

extern "C" const void *total_symbol(void)
{
    return &total;
}
