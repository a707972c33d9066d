/* Many threads, and a child of fork. */
#include <atomic>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "check.h"

__global__ void twice(int *values, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] *= 2;
}

static bool work(int seed)
{
    const int n = 1000;
    std::vector<int> host(n);
    for (int i = 0; i < n; i++)
        host[i] = seed + i;
    int *values;
    cudaStream_t stream;
    bool good = cudaStreamCreate(&stream) == cudaSuccess &&
                cudaMalloc(&values, n * sizeof(int)) == cudaSuccess &&
                cudaMemcpyAsync(values, host.data(), n * sizeof(int), cudaMemcpyHostToDevice,
                                stream) == cudaSuccess;
    twice<<<(n + 63) / 64, 64, 0, stream>>>(values, n);
    good = good && cudaGetLastError() == cudaSuccess &&
           cudaMemcpyAsync(host.data(), values, n * sizeof(int), cudaMemcpyDeviceToHost, stream) ==
               cudaSuccess &&
           cudaStreamSynchronize(stream) == cudaSuccess && cudaFree(values) == cudaSuccess &&
           cudaStreamDestroy(stream) == cudaSuccess;
    for (int i = 0; i < n; i++)
        good = good && host[i] == 2 * (seed + i);
    return good;
}

/* Each thread has its own last error. */
static void threads()
{
    std::atomic<int> good{0};
    std::vector<std::thread> all;
    for (int t = 0; t < 8; t++)
        all.emplace_back([t, &good] {
            bool mine = true;
            for (int round = 0; round < 5; round++)
                mine = mine && work(100 * t + round);
            if (t % 2) {
                cudaSetDevice(77);
                mine = mine && cudaGetLastError() == cudaErrorInvalidDevice;
            }
            mine = mine && cudaGetLastError() == cudaSuccess;
            good += mine;
        });
    for (auto &thread : all)
        thread.join();
    report("eight threads compute", good == 8, std::to_string(good.load()) + " of 8");
}

int main()
{
    threads();
    pid_t child = fork();
    if (child == 0)
        _exit(work(5) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    report("a child of fork computes", status == 0, "status " + std::to_string(status));
    report("the parent goes on", work(9), "wrong results");
    return failures != 0;
}
