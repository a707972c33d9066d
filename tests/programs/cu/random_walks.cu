/* A generator of random numbers that counts (Philox), and an estimate made of millions of them. */
#include "check.h"

struct Four {
    unsigned x, y, z, w;
};

__host__ __device__ static unsigned high(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }

__host__ __device__ static Four philox(Four c, unsigned k0, unsigned k1)
{
    for (int i = 0; i < 10; i++) {
        unsigned h0 = high(0xD2511F53, c.x), l0 = 0xD2511F53 * c.x, h1 = high(0xCD9E8D57, c.z), l1 = 0xCD9E8D57 * c.z;
        c = Four{h1 ^ c.y ^ k0, l1, h0 ^ c.w ^ k1, l0};
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return c;
}

__global__ void kernel(unsigned long long *inside, Four *samples, int rounds)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned count = 0;
    for (int r = 0; r < rounds; r++) {
        Four f = philox(Four{i, (unsigned)r, 0, 0}, 42, 7);
        if (r == 0)
            samples[i] = f;
        float a = f.x * 0x1p-32f, b = f.y * 0x1p-32f, c = f.z * 0x1p-32f, d = f.w * 0x1p-32f;
        count += a * a + b * b < 1.0f;
        count += c * c + d * d < 1.0f;
    }
    for (int step = 16; step; step /= 2)
        count += __shfl_down_sync(~0u, count, step);
    if (threadIdx.x % 32 == 0)
        atomicAdd(inside, (unsigned long long)count);
}

int main()
{
    const int threads = 4096, rounds = 60;
    Array<unsigned long long> inside(1);
    Array<Four> samples(threads);
    inside.put();
    kernel<<<threads / 128, 128>>>(inside.device, samples.device, rounds);
    inside.get();
    samples.get();
    for (int i = 0; i < threads; i++) {
        Four want = philox(Four{(unsigned)i, 0, 0, 0}, 42, 7);
        equal("sample", i, samples[i].x ^ samples[i].w, want.x ^ want.w);
    }
    near("pi", 0, 4.0 * inside[0] / (2.0 * threads * rounds), 3.14159265, 0.003);
    return finish(__FILE__);
}
