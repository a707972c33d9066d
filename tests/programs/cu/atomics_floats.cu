/* Atomic sums of floating point, 16-bit compare and swap, and operations made of compare and swap. */
#include <cuda_fp16.h>

#include "check.h"

enum { BLOCKS = 8, THREADS = 128, TOTAL = BLOCKS * THREADS };

__device__ float atomic_max(float *at, float value)
{
    int old = __float_as_int(*at), seen;
    do {
        seen = old;
        old = atomicCAS((int *)at, seen, __float_as_int(fmaxf(value, __int_as_float(seen))));
    } while (old != seen);
    return __int_as_float(old);
}

__global__ void kernel(float *f, double *d, __half2 *h, __half *single, unsigned short *words)
{
    __shared__ float sum;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x == 0)
        sum = 0;
    __syncthreads();
    atomicAdd(&sum, (float)threadIdx.x);
    atomicAdd(&f[0], (float)(i % 64));
    float old = atomicExch(&f[3], (float)i);
    atomicAdd(&f[4], old);
    atomic_max(&f[1], (float)((i * 37) % TOTAL));
    atomicAdd(&d[0], i * 0.25);
    atomicAdd_block(&d[1 + blockIdx.x], 1.0);
    atomicAdd(h, __floats2half2_rn(1.0f, -1.0f));
    atomicAdd(single, __float2half(0.5f));
    unsigned short had = words[0], seen;
    do {
        seen = had;
        had = atomicCAS(&words[0], seen, (unsigned short)(seen + 1));
    } while (had != seen);
    __syncthreads();
    if (threadIdx.x == 0)
        atomicAdd(&f[2], sum);
}

int main()
{
    Array<float> f(8);
    Array<double> d(BLOCKS + 1);
    Array<__half2> h(1);
    Array<__half> single(2);
    Array<unsigned short> words(2);
    f.put();
    d.put();
    h.put();
    single.put();
    words.put();
    kernel<<<BLOCKS, THREADS>>>(f.device, d.device, h.device, single.device, words.device);
    f.get();
    d.get();
    h.get();
    single.get();
    words.get();
    equal("float", 0, f[0], (float)(TOTAL / 64 * (63 * 32)));
    equal("max", 0, f[1], (float)(TOTAL - 1));
    equal("shared", 0, f[2], (float)(BLOCKS * (THREADS - 1) * THREADS / 2));
    equal("exchange", 0, f[3] + f[4], (float)(TOTAL * (TOTAL - 1) / 2));
    equal("double", 0, d[0], TOTAL * (TOTAL - 1) / 2 * 0.25);
    for (int i = 0; i < BLOCKS; i++)
        equal("of a block", i, d[1 + i], (double)THREADS);
    equal("half2, low", 0, __low2float(h[0]), (float)TOTAL);
    equal("half2, high", 0, __high2float(h[0]), (float)-TOTAL);
    equal("half", 0, __half2float(single[0]), TOTAL * 0.5f);
    equal<int>("16 bits", 0, words[0], TOTAL);
    equal<int>("its neighbour", 0, words[1], 0);
    return finish(__FILE__);
}
