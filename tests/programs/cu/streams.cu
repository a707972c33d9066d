/* Streams and events: what depends on each other is ordered, what does not may overlap. */
#include "check.h"

__global__ void step(int *values, int n, int multiply, int add)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        values[i] = values[i] * multiply + add;
}

int main()
{
    const int n = 5000, streams = 6;
    cudaStream_t stream[streams];
    cudaEvent_t event[streams], start, end;
    for (int i = 0; i < streams; i++) {
        NEED(cudaStreamCreateWithFlags(&stream[i], i % 2 ? cudaStreamNonBlocking : cudaStreamDefault));
        NEED(cudaEventCreateWithFlags(&event[i], cudaEventDisableTiming));
    }
    NEED(cudaEventCreate(&start));
    NEED(cudaEventCreate(&end));
    Array<int> values(n);
    for (int i = 0; i < n; i++)
        values[i] = i;
    NEED(cudaEventRecord(start, stream[0]));
    NEED(cudaMemcpyAsync(values.device, values.host, n * sizeof(int), cudaMemcpyHostToDevice, stream[0]));
    /* A ring of streams, each of which waits for the one before: the steps do not commute. */
    for (int round = 0; round < 12; round++) {
        int me = round % streams, next = (round + 1) % streams;
        step<<<8, 64, 0, stream[me]>>>(values.device, n, 3, round);
        NEED(cudaEventRecord(event[me], stream[me]));
        NEED(cudaStreamWaitEvent(stream[next], event[me], 0));
    }
    NEED(cudaMemcpyAsync(values.host, values.device, n * sizeof(int), cudaMemcpyDeviceToHost, stream[0]));
    NEED(cudaEventRecord(end, stream[0]));
    NEED(cudaEventSynchronize(end));
    float milliseconds = -1;
    NEED(cudaEventElapsedTime(&milliseconds, start, end));
    HOLDS(milliseconds >= 0);
    for (int i = 0; i < n; i++) {
        int want = i;
        for (int round = 0; round < 12; round++)
            want = want * 3 + round;
        equal("ring", i, values[i], want);
    }
    /* The default stream waits for those that are not non-blocking, and they for it. */
    NEED(cudaMemset(values.device, 0, n * sizeof(int)));
    step<<<8, 64, 0, stream[0]>>>(values.device, n, 1, 5);
    step<<<8, 64>>>(values.device, n, 7, 0);
    step<<<8, 64, 0, stream[2]>>>(values.device, n, 1, 1);
    values.get();
    for (int i = 0; i < n; i++)
        equal("default", i, values[i], 36);
    for (int i = 0; i < streams; i++) {
        NEED(cudaStreamQuery(stream[i]));
        NEED(cudaStreamDestroy(stream[i]));
        NEED(cudaEventDestroy(event[i]));
    }
    return finish(__FILE__);
}
