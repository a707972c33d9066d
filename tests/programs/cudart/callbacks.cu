/* Functions of the program in streams: their place in the order, their data and their threads. */
#include <atomic>
#include <thread>
#include <vector>

#include "check.h"

__global__ void add(int *at, int amount) { *at += amount; }

struct Step {
    std::vector<int> *log;
    int number;
};

static void CUDART_CB note(void *data)
{
    Step *step = (Step *)data;
    step->log->push_back(step->number);
}

struct Seen {
    std::atomic<int> calls{0}, status{-1};
    cudaStream_t stream = nullptr;
    std::thread::id thread;
};

static void CUDART_CB callback(cudaStream_t stream, cudaError_t status, void *data)
{
    Seen *seen = (Seen *)data;
    seen->stream = stream;
    seen->status = status;
    seen->thread = std::this_thread::get_id();
    seen->calls++;
}

int main()
{
    cudaStream_t stream, other;
    int *at, value = -1;
    std::vector<int> log;
    std::vector<Step> steps;
    NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    NEED(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    NEED(cudaMalloc(&at, sizeof(int)));
    NEED(cudaMemset(at, 0, sizeof(int)));
    NEED(cudaDeviceSynchronize());
    for (int i = 0; i < 100; i++)
        steps.push_back({&log, i});
    for (int i = 0; i < 100; i++) {
        add<<<1, 1, 0, stream>>>(at, 1);
        NEED(cudaLaunchHostFunc(stream, note, &steps[i]));
    }
    NEED(cudaStreamSynchronize(stream));
    bool good = log.size() == 100;
    for (size_t i = 0; good && i < log.size(); i++)
        good = log[i] == (int)i;
    report("functions run in order", good, std::to_string(log.size()) + " ran");

    /* What a function leaves in the program's memory is there for the copy behind it; what a copy brought, for it. */
    static int from = 0, to = -1, inside = -1;
    NEED(cudaMemcpyAsync(&to, at, sizeof(int), cudaMemcpyDeviceToHost, stream));
    NEED(cudaLaunchHostFunc(stream, [](void *) { inside = to; from = to + 1; }, nullptr));
    NEED(cudaMemcpyAsync(at, &from, sizeof(int), cudaMemcpyHostToDevice, other)); /* reads at once: still 0 */
    NEED(cudaDeviceSynchronize());
    HOLDS(inside == 100 && from == 101);

    Seen seen;
    add<<<1, 1, 0, stream>>>(at, 1);
    NEED(cudaStreamAddCallback(stream, callback, &seen, 0));
    NEED(cudaStreamSynchronize(stream));
    HOLDS(seen.calls == 1 && seen.status == cudaSuccess && seen.stream == stream);
    HOLDS(seen.thread != std::this_thread::get_id());
    GIVES(cudaStreamAddCallback(stream, callback, &seen, 5), cudaErrorInvalidValue);
    GIVES(cudaStreamAddCallback(stream, nullptr, &seen, 0), cudaErrorInvalidValue);
    GIVES(cudaLaunchHostFunc(stream, nullptr, nullptr), cudaErrorInvalidValue);
    cudaGetLastError();
    /* From many threads into many streams. */
    std::atomic<int> total{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([&total] {
            cudaStream_t mine;
            NEED(cudaStreamCreate(&mine));
            for (int i = 0; i < 50; i++)
                NEED(cudaLaunchHostFunc(mine, [](void *data) { ++*(std::atomic<int> *)data; }, &total));
            NEED(cudaStreamSynchronize(mine));
            NEED(cudaStreamDestroy(mine));
        });
    for (auto &thread : threads)
        thread.join();
    HOLDS(total == 200);
    NEED(cudaMemcpy(&value, at, sizeof(int), cudaMemcpyDeviceToHost));
    NEED(cudaStreamDestroy(stream));
    NEED(cudaStreamDestroy(other));
    NEED(cudaFree(at));
    return failures != 0;
}
