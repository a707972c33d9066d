/* Prefix sums: a tree in shared memory, and one pass over all blocks in which each looks back. */
#include "check.h"

enum { THREADS = 256, WAITING = 0, SUM = 1, PREFIX = 2 };

/* In place over 2 * THREADS elements, exclusive. */
__global__ void tree(int *data, int *total)
{
    __shared__ int t[2 * THREADS];
    int i = threadIdx.x, offset = 1;
    t[2 * i] = data[2 * i];
    t[2 * i + 1] = data[2 * i + 1];
    for (int d = THREADS; d > 0; d >>= 1, offset *= 2) {
        __syncthreads();
        if (i < d)
            t[offset * (2 * i + 2) - 1] += t[offset * (2 * i + 1) - 1];
    }
    __syncthreads();
    if (i == 0) {
        *total = t[2 * THREADS - 1];
        t[2 * THREADS - 1] = 0;
    }
    for (int d = 1; d < 2 * THREADS; d *= 2) {
        offset >>= 1;
        __syncthreads();
        if (i < d) {
            int left = offset * (2 * i + 1) - 1, right = offset * (2 * i + 2) - 1, old = t[left];
            t[left] = t[right];
            t[right] += old;
        }
    }
    __syncthreads();
    data[2 * i] = t[2 * i];
    data[2 * i + 1] = t[2 * i + 1];
}

/* State and value of a block are one word, so that they change together. */
__device__ unsigned ticket;

__global__ void look_back(const int *in, int *out, volatile unsigned long long *states, int n)
{
    __shared__ int warp_sums[THREADS / 32], before;
    __shared__ unsigned tile;
    if (threadIdx.x == 0)
        tile = atomicAdd(&ticket, 1);
    __syncthreads();
    int i = tile * THREADS + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int value = i < n ? in[i] : 0;
    for (int step = 1; step < 32; step *= 2) {
        int other = __shfl_up_sync(~0u, value, step);
        value += lane >= step ? other : 0;
    }
    if (lane == 31)
        warp_sums[warp] = value;
    __syncthreads();
    for (int w = 0; w < warp; w++)
        value += warp_sums[w];
    if (threadIdx.x == THREADS - 1) {
        states[tile] = (unsigned long long)(tile ? SUM : PREFIX) << 32 | (unsigned)value;
        __threadfence();
        int sum = 0;
        for (int at = (int)tile - 1; at >= 0; at--) {
            unsigned long long state;
            while ((state = states[at]) >> 32 == WAITING)
                ;
            sum += (int)(unsigned)state;
            if (state >> 32 == PREFIX)
                break;
        }
        before = sum;
        states[tile] = (unsigned long long)PREFIX << 32 | (unsigned)(sum + value);
    }
    __syncthreads();
    if (i < n)
        out[i] = value + before;
}

int main()
{
    Array<int> data(2 * THREADS), total(1);
    Array<int> want(2 * THREADS);
    int sum = 0;
    for (int i = 0; i < 2 * THREADS; i++) {
        data[i] = (int)(random_bits() % 1000) - 300;
        want[i] = sum;
        sum += data[i];
    }
    data.put();
    tree<<<1, THREADS>>>(data.device, total.device);
    data.get();
    total.get();
    for (int i = 0; i < 2 * THREADS; i++)
        equal("tree", i, data[i], want[i]);
    equal("total", 0, total[0], sum);

    const int n = 40000, tiles = (n + THREADS - 1) / THREADS;
    Array<int> in(n), out(n);
    Array<unsigned long long> states(tiles);
    for (int i = 0; i < n; i++)
        in[i] = (int)(random_bits() % 2001) - 1000;
    in.put();
    states.put();
    look_back<<<tiles, THREADS>>>(in.device, out.device, states.device, n);
    out.get();
    sum = 0;
    for (int i = 0; i < n; i++) {
        sum += in[i];
        equal("look back", i, out[i], sum);
    }
    return finish(__FILE__);
}
