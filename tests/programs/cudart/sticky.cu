/* Errors that stay and errors that do not: which calls give them, how often, and what ends them. */
#include <thread>

#include "check.h"

__global__ void good(int *at) { *at = 1; }
__global__ void bad(int *at) { at[1 << 26] = 1; }

static void not_sticky()
{
    void *at;
    /* The last error is the newest one, until it is fetched; success does not clear it. */
    GIVES(cudaSetDevice(55), cudaErrorInvalidDevice);
    GIVES(cudaMalloc(&at, 16), cudaSuccess);
    HOLDS(cudaPeekAtLastError() == cudaErrorInvalidDevice);
    GIVES(cudaMemcpy(at, at, 4, (cudaMemcpyKind)99), cudaErrorInvalidMemcpyDirection);
    HOLDS(cudaGetLastError() == cudaErrorInvalidMemcpyDirection);
    HOLDS(cudaGetLastError() == cudaSuccess);
    /* Too much memory leaves all as it was. */
    void *huge;
    GIVES(cudaMalloc(&huge, (size_t)1 << 50), cudaErrorMemoryAllocation);
    HOLDS(cudaGetLastError() == cudaErrorMemoryAllocation);
    good<<<1, 1>>>((int *)at);
    HOLDS(cudaGetLastError() == cudaSuccess);
    GIVES(cudaDeviceSynchronize(), cudaSuccess);
    /* A launch that was refused is known at once, and forgotten. */
    good<<<1, 5000>>>((int *)at);
    HOLDS(cudaGetLastError() == cudaErrorInvalidConfiguration);
    GIVES(cudaDeviceSynchronize(), cudaSuccess);
    /* Not ready is an answer, not an error. */
    cudaEvent_t event;
    NEED(cudaEventCreate(&event));
    GIVES(cudaEventQuery(event), cudaSuccess);
    GIVES(cudaEventElapsedTime(nullptr, event, event), cudaErrorInvalidValue);
    cudaGetLastError();
    NEED(cudaEventDestroy(event));
    NEED(cudaFree(at));
    GIVES(cudaFree(at), cudaErrorInvalidValue);
    HOLDS(cudaGetLastError() == cudaErrorInvalidValue);
}

static void sticky()
{
    int *at;
    cudaStream_t stream;
    cudaEvent_t event;
    NEED(cudaMalloc(&at, 64));
    NEED(cudaStreamCreate(&stream));
    NEED(cudaEventCreate(&event));
    bad<<<1, 1, 0, stream>>>(at);
    HOLDS(cudaGetLastError() == cudaSuccess); /* not yet known, or not yet told */
    GIVES(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
    /* Every call of this context from now on. */
    GIVES(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    HOLDS(cudaGetLastError() == cudaErrorIllegalAddress);
    GIVES(cudaMemcpy(at, at, 4, cudaMemcpyDeviceToDevice), cudaErrorIllegalAddress);
    GIVES(cudaEventRecord(event, stream), cudaErrorIllegalAddress);
    void *other;
    GIVES(cudaMalloc(&other, 4), cudaErrorIllegalAddress);
    good<<<1, 1>>>(at);
    HOLDS(cudaGetLastError() == cudaErrorIllegalAddress);
    HOLDS(cudaGetLastError() != cudaSuccess || cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    /* In other threads, too. */
    cudaError_t elsewhere = cudaSuccess;
    std::thread([&] { elsewhere = cudaDeviceSynchronize(); }).join();
    HOLDS(elsewhere == cudaErrorIllegalAddress);
    /* Questions to the device itself are answered. */
    int count = 0;
    GIVES(cudaGetDeviceCount(&count), cudaSuccess);
    HOLDS(count == 1);
    GIVES(cudaDeviceReset(), cudaSuccess);
    cudaGetLastError();
    int value = 0;
    NEED(cudaMalloc(&at, 4));
    good<<<1, 1>>>(at);
    NEED(cudaMemcpy(&value, at, 4, cudaMemcpyDeviceToHost));
    HOLDS(value == 1);
}

int main()
{
    not_sticky();
    sticky();
    sticky();
    return failures != 0;
}
