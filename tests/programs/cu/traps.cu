/* A kernel that gives up, and accesses that are not allowed: the error, and that a reset heals it. */
#include "check.h"

__global__ void gives_up(int *out)
{
    if (threadIdx.x == 5)
        __trap();
    out[threadIdx.x] = 1;
}

__global__ void writes(int *at) { *at = 7; }

__global__ void reads(const int *at, int *out) { *out = *at; }

__global__ void shared_overrun(int *out, int n)
{
    extern __shared__ int shared[];
    shared[n] = 1;
    *out = shared[n];
}

static void heal()
{
    NEED(cudaDeviceReset());
    cudaGetLastError();
    int *at, value = 0;
    NEED(cudaMalloc(&at, 4));
    writes<<<1, 1>>>(at);
    NEED(cudaMemcpy(&value, at, 4, cudaMemcpyDeviceToHost));
    equal("healed", 0, value, 7);
}

int main()
{
    int *at;
    NEED(cudaMalloc(&at, 4096));
    gives_up<<<1, 32>>>(at);
    GIVES(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    GIVES(cudaFree(at), cudaErrorLaunchFailure);
    heal();
    writes<<<1, 1>>>((int *)((char *)nullptr + 16));
    GIVES(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    heal();
    NEED(cudaMalloc(&at, 4096));
    writes<<<1, 1>>>((int *)((char *)at + 2));
    GIVES(cudaDeviceSynchronize(), cudaErrorMisalignedAddress);
    GIVES(cudaGetLastError(), cudaErrorMisalignedAddress);
    heal();
    NEED(cudaMalloc(&at, 4096));
    int *freed;
    NEED(cudaMalloc(&freed, 1 << 22));
    NEED(cudaFree(freed));
    reads<<<1, 1>>>(freed, at);
    GIVES(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    heal();
    NEED(cudaMalloc(&at, 4096));
    shared_overrun<<<1, 1, 64>>>(at, 1 << 20);
    GIVES(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    heal();
    return finish(__FILE__);
}
