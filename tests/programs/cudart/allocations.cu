/* A hundred thousand allocations: none overlaps another, all are given back, the sum stays right. */
#include <algorithm>
#include <cstdint>
#include <vector>

#include "check.h"

__global__ void stamp(unsigned **at, const unsigned *words, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        at[i][0] = i;
        at[i][words[i] - 1] = i ^ 0x5555;
    }
}

__global__ void check(unsigned **at, const unsigned *words, int n, int *bad)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && ((words[i] > 1 && at[i][0] != i) || at[i][words[i] - 1] != (i ^ 0x5555)))
        atomicAdd(bad, 1);
}

static size_t used()
{
    size_t free_bytes, total;
    NEED(cudaMemGetInfo(&free_bytes, &total));
    return total - free_bytes;
}

int main()
{
    const int n = 100000;
    std::vector<unsigned *> at(n);
    std::vector<unsigned> words(n), order(n);
    unsigned state = 1;
    auto random = [&] { return state = state * 1664525 + 1013904223, state >> 8; };
    size_t before = used();
    for (int i = 0; i < n; i++) {
        words[i] = 1 + random() % (i % 1000 == 0 ? 20000 : 60);
        order[i] = i;
        NEED(cudaMalloc(&at[i], words[i] * sizeof(unsigned)));
    }
    bool aligned = true, apart = true;
    for (auto a : at)
        aligned = aligned && (uintptr_t)a % 256 == 0;
    report("all are aligned", aligned, "to less than 256 bytes");
    std::sort(order.begin(), order.end(), [&](unsigned a, unsigned b) { return at[a] < at[b]; });
    for (int i = 1; i < n; i++)
        apart = apart && at[order[i - 1]] + words[order[i - 1]] <= at[order[i]];
    report("none overlaps", apart, "two do");
    HOLDS(used() >= before + n * sizeof(unsigned));
    unsigned **at_device, *words_device;
    int *bad, count = -1;
    NEED(cudaMalloc(&at_device, n * sizeof(at[0])));
    NEED(cudaMalloc(&words_device, n * sizeof(words[0])));
    NEED(cudaMalloc(&bad, sizeof(int)));
    NEED(cudaMemset(bad, 0, sizeof(int)));
    NEED(cudaMemcpy(at_device, at.data(), n * sizeof(at[0]), cudaMemcpyHostToDevice));
    NEED(cudaMemcpy(words_device, words.data(), n * sizeof(words[0]), cudaMemcpyHostToDevice));
    stamp<<<(n + 255) / 256, 256>>>(at_device, words_device, n);
    check<<<(n + 255) / 256, 256>>>(at_device, words_device, n, bad);
    NEED(cudaMemcpy(&count, bad, sizeof(int), cudaMemcpyDeviceToHost));
    report("each holds its own", count == 0, std::to_string(count) + " do not");
    for (int i = n - 1; i > 0; i--)
        std::swap(order[i], order[random() % (i + 1)]);
    for (int i = 0; i < n; i++)
        NEED(cudaFree(at[order[i]]));
    NEED(cudaFree(at_device));
    NEED(cudaFree(words_device));
    NEED(cudaFree(bad));
    NEED(cudaDeviceSynchronize());
    report("all is given back", used() <= before + (4 << 20), std::to_string(used() - before) + " bytes more are used");
    /* The space is whole again. */
    size_t free_bytes, total;
    void *large;
    NEED(cudaMemGetInfo(&free_bytes, &total));
    GIVES(cudaMalloc(&large, free_bytes / 2), cudaSuccess);
    NEED(cudaFree(large));
    return failures != 0;
}
