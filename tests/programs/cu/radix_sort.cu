/* A radix sort, four bits at a time, stable, of keys with their places. */
#include "check.h"

enum { THREADS = 128, RADIX = 16 };

__global__ void count(const unsigned *keys, unsigned *counts, int n, int shift)
{
    __shared__ unsigned mine[RADIX];
    if (threadIdx.x < RADIX)
        mine[threadIdx.x] = 0;
    __syncthreads();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n)
        atomicAdd(&mine[(keys[i] >> shift) % RADIX], 1);
    __syncthreads();
    if (threadIdx.x < RADIX)
        counts[threadIdx.x * gridDim.x + blockIdx.x] = mine[threadIdx.x];
}

/* Exclusive sums over all counts, by one warp. */
__global__ void sums(unsigned *counts, int n)
{
    unsigned carry = 0;
    for (int at = 0; at < n; at += 32) {
        int i = at + threadIdx.x;
        unsigned mine = i < n ? counts[i] : 0, sum = mine;
        for (int step = 1; step < 32; step *= 2) {
            unsigned other = __shfl_up_sync(~0u, sum, step);
            sum += threadIdx.x >= step ? other : 0;
        }
        if (i < n)
            counts[i] = carry + sum - mine;
        carry += __shfl_sync(~0u, sum, 31);
    }
}

/* Keys of equal digit keep their order: a warp after the other, in a warp by the lanes before. */
__global__ void scatter(const unsigned *keys, const unsigned *values, unsigned *keys_out, unsigned *values_out,
                        const unsigned *counts, int n, int shift)
{
    __shared__ unsigned next[RADIX];
    if (threadIdx.x < RADIX)
        next[threadIdx.x] = counts[threadIdx.x * gridDim.x + blockIdx.x];
    int i = blockIdx.x * THREADS + threadIdx.x, lane = threadIdx.x % 32;
    for (int warp = 0; warp < THREADS / 32; warp++) {
        __syncthreads();
        if (threadIdx.x / 32 != warp)
            continue;
        unsigned digit = i < n ? (keys[i] >> shift) % RADIX : RADIX;
        unsigned same = __match_any_sync(~0u, digit);
        int rank = __popc(same & ((1u << lane) - 1));
        unsigned base = digit < RADIX ? next[digit] : 0;
        __syncwarp();
        if (digit < RADIX) {
            keys_out[base + rank] = keys[i];
            values_out[base + rank] = values[i];
            if (rank == 0)
                next[digit] = base + __popc(same);
        }
        __syncwarp();
    }
}

int main()
{
    const int n = 10007, blocks = (n + THREADS - 1) / THREADS;
    Array<unsigned> keys(n), values(n), keys_out(n), values_out(n), counts(RADIX * blocks);
    for (int i = 0; i < n; i++) {
        keys[i] = i % 3 ? random_bits() : random_bits() % 50;
        values[i] = i;
    }
    keys.put();
    values.put();
    unsigned *k[2] = {keys.device, keys_out.device}, *v[2] = {values.device, values_out.device};
    for (int shift = 0, from = 0; shift < 32; shift += 4, from ^= 1) {
        count<<<blocks, THREADS>>>(k[from], counts.device, n, shift);
        sums<<<1, 32>>>(counts.device, RADIX * blocks);
        scatter<<<blocks, THREADS>>>(k[from], v[from], k[1 - from], v[1 - from], counts.device, n, shift);
    }
    Array<unsigned> original(n);
    memcpy(original.host, keys.host, n * sizeof(unsigned));
    keys.get();
    values.get();
    Array<unsigned> seen(n);
    for (int i = 0; i < n; i++) {
        equal("key of its place", i, keys[i], original[values[i] % n]);
        equal("each once", i, seen[values[i] % n]++, 0u);
        if (i && (keys[i - 1] > keys[i] || (keys[i - 1] == keys[i] && values[i - 1] >= values[i])))
            describe("order", i, keys[i], keys[i - 1]);
    }
    return finish(__FILE__);
}
