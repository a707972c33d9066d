/* Which work waits for which: legacy and per-thread default streams, blocking and non-blocking ones, and events. A
   function of the program holds a stream until the test lets it go, so that "waits" can be seen. */
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "check.h"

__global__ void store(int *at, int value) { *at = value; }

__global__ void copy_value(const int *from, int *to) { *to = *from; }

/* A door in a stream. */
struct Door {
    std::atomic<bool> open{false}, reached{false};
    static void CUDART_CB wait(void *data)
    {
        Door *door = (Door *)data;
        door->reached = true;
        while (!door->open)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
};

static int *cells;

static int cell(int i)
{
    int value = -1;
    NEED(cudaMemcpyAsync(&value, cells + i, sizeof(int), cudaMemcpyDeviceToHost, 0));
    NEED(cudaStreamSynchronize(0));
    return value;
}

/* Work of `second` that is submitted after a closed door in `first`: waits for it, or may pass. */
static void pair(const char *name, cudaStream_t first, cudaStream_t second, bool waits)
{
    Door door;
    NEED(cudaMemset(cells, 0, 4 * sizeof(int)));
    NEED(cudaDeviceSynchronize());
    NEED(cudaLaunchHostFunc(first, Door::wait, &door));
    store<<<1, 1, 0, first>>>(cells, 7);
    copy_value<<<1, 1, 0, second>>>(cells, cells + 1);
    cudaEvent_t after;
    NEED(cudaEventCreateWithFlags(&after, cudaEventDisableTiming));
    NEED(cudaEventRecord(after, second));
    bool good = cudaStreamQuery(first) == cudaErrorNotReady;
    if (waits) {
        while (!door.reached)
            std::this_thread::yield();
        good = good && cudaEventQuery(after) == cudaErrorNotReady;
    }
    door.open = true;
    NEED(cudaDeviceSynchronize());
    good = good && cudaEventQuery(after) == cudaSuccess && cell(0) == 7;
    if (waits)
        good = good && cell(1) == 7;
    report(name, good, "the order is wrong");
    NEED(cudaEventDestroy(after));
}

/* Work that must not wait for a closed door ends while it is closed. */
static void passes(const char *name, cudaStream_t first, cudaStream_t second)
{
    Door door;
    NEED(cudaMemset(cells, 0, 4 * sizeof(int)));
    NEED(cudaDeviceSynchronize());
    NEED(cudaLaunchHostFunc(first, Door::wait, &door));
    store<<<1, 1, 0, second>>>(cells + 2, 9);
    cudaError_t end = cudaStreamSynchronize(second);
    bool held = !door.open && cudaStreamQuery(first) == cudaErrorNotReady;
    door.open = true;
    NEED(cudaDeviceSynchronize());
    report(name, end == cudaSuccess && held && cell(2) == 9, "it waited, or failed");
}

/* Events join streams; an event that is recorded again means the newer work. */
static void events()
{
    cudaStream_t a, b;
    cudaEvent_t event;
    Door door;
    NEED(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    NEED(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    NEED(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    GIVES(cudaEventQuery(event), cudaSuccess);
    NEED(cudaStreamWaitEvent(b, event, 0)); /* never recorded: nothing to wait for */
    NEED(cudaStreamSynchronize(b));
    NEED(cudaMemset(cells, 0, 4 * sizeof(int)));
    NEED(cudaEventRecord(event, b));
    NEED(cudaLaunchHostFunc(a, Door::wait, &door));
    store<<<1, 1, 0, a>>>(cells, 3);
    NEED(cudaEventRecord(event, a));
    NEED(cudaStreamWaitEvent(b, event, 0));
    copy_value<<<1, 1, 0, b>>>(cells, cells + 1);
    GIVES(cudaEventQuery(event), cudaErrorNotReady);
    GIVES(cudaStreamQuery(b), cudaErrorNotReady);
    HOLDS(cudaPeekAtLastError() == cudaSuccess || cudaPeekAtLastError() == cudaErrorNotReady);
    cudaGetLastError();
    door.open = true;
    NEED(cudaEventSynchronize(event));
    NEED(cudaStreamSynchronize(b));
    HOLDS(cell(1) == 3);
    /* A stream that is destroyed with work in it finishes it. */
    Door last;
    NEED(cudaLaunchHostFunc(a, Door::wait, &last));
    store<<<1, 1, 0, a>>>(cells + 3, 11);
    NEED(cudaEventRecord(event, a));
    NEED(cudaStreamDestroy(a));
    last.open = true;
    NEED(cudaEventSynchronize(event));
    HOLDS(cell(3) == 11);
    NEED(cudaStreamDestroy(b));
    NEED(cudaEventDestroy(event));
}

/* Each thread has a default stream of its own, ordered with the legacy one. */
static void per_thread()
{
    std::vector<std::thread> threads;
    std::atomic<int> good{0};
    for (int t = 0; t < 6; t++)
        threads.emplace_back([t, &good] {
            int *mine, value = -1;
            unsigned long long here = 0, legacy = 0;
            bool ok = cudaMalloc(&mine, 2 * sizeof(int)) == cudaSuccess;
            for (int i = 0; i < 50; i++)
                store<<<1, 1, 0, cudaStreamPerThread>>>(mine, t * 1000 + i);
            copy_value<<<1, 1, 0, cudaStreamPerThread>>>(mine, mine + 1);
            ok = ok && cudaMemcpyAsync(&value, mine + 1, sizeof(int), cudaMemcpyDeviceToHost, cudaStreamPerThread) == cudaSuccess;
            ok = ok && cudaStreamSynchronize(cudaStreamPerThread) == cudaSuccess && value == t * 1000 + 49;
            ok = ok && cudaStreamGetId(cudaStreamPerThread, &here) == cudaSuccess;
            ok = ok && cudaStreamGetId(cudaStreamLegacy, &legacy) == cudaSuccess && here != legacy;
            good += ok && cudaFree(mine) == cudaSuccess;
        });
    for (auto &thread : threads)
        thread.join();
    report("threads use their own default streams", good == 6, std::to_string(good.load()) + " of 6");
}

int main()
{
    cudaStream_t blocking, other, apart, apart2;
    NEED(cudaMalloc(&cells, 4 * sizeof(int)));
    NEED(cudaStreamCreate(&blocking));
    NEED(cudaStreamCreate(&other));
    NEED(cudaStreamCreateWithFlags(&apart, cudaStreamNonBlocking));
    NEED(cudaStreamCreateWithFlags(&apart2, cudaStreamNonBlocking));
    pair("the legacy stream waits for a blocking one", blocking, cudaStreamLegacy, true);
    pair("a blocking stream waits for the legacy one", cudaStreamLegacy, blocking, true);
    pair("the legacy stream waits for a per-thread one", cudaStreamPerThread, cudaStreamLegacy, true);
    pair("a per-thread stream waits for the legacy one", cudaStreamLegacy, cudaStreamPerThread, true);
    pair("stream 0 is the legacy stream", 0, blocking, true);
    pair("one stream is in order", apart, apart, true);
    passes("a non-blocking stream does not wait for the legacy one", cudaStreamLegacy, apart);
    passes("the legacy stream does not wait for a non-blocking one", apart, cudaStreamLegacy);
    passes("two non-blocking streams do not wait", apart, apart2);
    passes("two blocking streams do not wait", blocking, other);
    passes("a per-thread stream does not wait for a blocking one", blocking, cudaStreamPerThread);
    events();
    per_thread();
    for (cudaStream_t stream : {blocking, other, apart, apart2})
        NEED(cudaStreamDestroy(stream));
    return failures != 0;
}
