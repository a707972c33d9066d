/* A histogram in shared memory that blocks add up. */
#include "check.h"

enum { BINS = 256 };

__global__ void histogram(const unsigned char *in, unsigned *bins, size_t n)
{
    __shared__ unsigned mine[BINS];
    for (int i = threadIdx.x; i < BINS; i += blockDim.x)
        mine[i] = 0;
    __syncthreads();
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        atomicAdd(&mine[in[i]], 1);
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += blockDim.x)
        if (mine[i])
            atomicAdd(&bins[i], mine[i]);
}

int main()
{
    const int n = 500000;
    Array<unsigned char> in(n);
    Array<unsigned> bins(BINS);
    unsigned want[BINS] = {};
    for (int i = 0; i < n; i++) {
        uint32_t x = random_bits();
        want[in[i] = (unsigned char)(x & (x >> 8))]++;
    }
    in.put();
    bins.put();
    histogram<<<24, 512>>>(in.device, bins.device, n);
    bins.get();
    for (int i = 0; i < BINS; i++)
        equal("bin", i, bins[i], want[i]);
    return finish(__FILE__);
}
