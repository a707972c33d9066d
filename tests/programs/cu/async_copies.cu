/* Copies to shared memory that run beside the computation: two stages in flight (compute_80 and later; before, the
   compiler copies at once). */
#include <cuda_pipeline.h>

#include "check.h"

enum { THREADS = 128, TILE = THREADS * 4, STAGES = 2 };

__global__ void sums(const float *in, float *out, int tiles)
{
    __shared__ __align__(16) float stage[STAGES][TILE];
    float sum = 0;
    for (int tile = 0; tile < STAGES && tile < tiles; tile++) {
        __pipeline_memcpy_async(&stage[tile][threadIdx.x * 4], in + tile * TILE + threadIdx.x * 4, 16);
        __pipeline_commit();
    }
    for (int tile = 0; tile < tiles; tile++) {
        if (tile + 1 < tiles)
            __pipeline_wait_prior(1);
        else
            __pipeline_wait_prior(0);
        __syncthreads();
        /* A neighbour's elements. */
        for (int k = 0; k < 4; k++)
            sum += stage[tile % STAGES][(threadIdx.x * 4 + k + 64) % TILE] * (tile + 1);
        __syncthreads();
        if (tile + STAGES < tiles) {
            __pipeline_memcpy_async(&stage[tile % STAGES][threadIdx.x * 4], in + (tile + STAGES) * TILE + threadIdx.x * 4, 16);
            __pipeline_commit();
        }
    }
    out[threadIdx.x] = sum;
}

/* Four bytes, of which the last are zeroes. */
__global__ void zero_fill(const int *in, int *out)
{
    __shared__ int stage[THREADS];
    stage[threadIdx.x] = -1;
    __pipeline_memcpy_async(&stage[threadIdx.x], in + threadIdx.x, 4, threadIdx.x % 2 ? 4 : 0);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    out[threadIdx.x] = stage[threadIdx.x];
}

int main()
{
    const int tiles = 9;
    Array<float> in(TILE * tiles), out(THREADS);
    Array<int> ints(THREADS), filled(THREADS);
    for (int i = 0; i < TILE * tiles; i++)
        in[i] = (float)(random_bits() % 100);
    for (int i = 0; i < THREADS; i++)
        ints[i] = i + 1000;
    in.put();
    ints.put();
    sums<<<1, THREADS>>>(in.device, out.device, tiles);
    out.get();
    for (int i = 0; i < THREADS; i++) {
        float want = 0;
        for (int tile = 0; tile < tiles; tile++)
            for (int k = 0; k < 4; k++)
                want += in[tile * TILE + (i * 4 + k + 64) % TILE] * (float)(tile + 1);
        equal("sum", i, out[i], want);
    }
    zero_fill<<<1, THREADS>>>(ints.device, filled.device);
    filled.get();
    for (int i = 0; i < THREADS; i++)
        equal("filled", i, filled[i], i % 2 ? 0 : i + 1000);
    return finish(__FILE__);
}
