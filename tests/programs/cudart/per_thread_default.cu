/* nvcc: -default-stream per-thread */
/* Compiled so that the default stream is each thread's own. */
#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"

__global__ void store(int *at, int value) { *at = value; }

static void CUDART_CB wait_for(void *data)
{
    while (!*(std::atomic<bool> *)data)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

int main()
{
    std::atomic<bool> open{false};
    int *at, value = 0;
    unsigned long long here = 0, there = 0;
    NEED(cudaMalloc(&at, 2 * sizeof(int)));
    NEED(cudaMemset(at, 0, 2 * sizeof(int)));
    NEED(cudaDeviceSynchronize());
    NEED(cudaStreamGetId(0, &here));
    /* Another thread's default stream is closed; this one's goes on. */
    std::thread other([&] {
        NEED(cudaStreamGetId(0, &there));
        NEED(cudaLaunchHostFunc(0, wait_for, &open));
        store<<<1, 1>>>(at, 5);
    });
    other.join();
    HOLDS(here != there);
    store<<<1, 1>>>(at + 1, 6);
    NEED(cudaStreamSynchronize(0));
    NEED(cudaMemcpy(&value, at + 1, sizeof(int), cudaMemcpyDeviceToHost));
    HOLDS(value == 6);
    open = true;
    NEED(cudaDeviceSynchronize());
    NEED(cudaMemcpy(&value, at, sizeof(int), cudaMemcpyDeviceToHost));
    HOLDS(value == 5);
    NEED(cudaFree(at));
    return failures != 0;
}
