/* 128-bit integers: the compiler makes carries, wide products and divisions of them. */
#include "check.h"

typedef unsigned __int128 u128;
typedef __int128 s128;

enum { COUNT = 256, RESULTS = 8 };

struct Pair {
    u128 a, b;
};

__host__ __device__ static void operate(const Pair &p, u128 *out)
{
    u128 b = p.b ? p.b : 1;
    out[0] = p.a + p.b;
    out[1] = p.a - p.b;
    out[2] = p.a * p.b;
    out[3] = p.a / b;
    out[4] = p.a % b;
    out[5] = p.a << (int)(p.b & 127);
    out[6] = (u128)((s128)p.a >> (int)(p.b & 127));
    out[7] = ((s128)p.a < (s128)p.b) + 2 * (p.a < p.b) + 4 * (p.a == p.b);
}

__global__ void kernel(const Pair *pairs, u128 *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    operate(pairs[i], out + i * RESULTS);
}

static u128 wide()
{
    u128 x = random_bits();
    for (int i = 0; i < 3; i++)
        x = (x << 32) | random_bits();
    return x;
}

int main()
{
    Array<Pair> pairs(COUNT);
    Array<u128> out(COUNT * RESULTS);
    for (int i = 0; i < COUNT; i++) {
        pairs[i].a = wide() >> (random_bits() % 128);
        pairs[i].b = wide() >> (random_bits() % 128);
        if (i % 16 == 0)
            pairs[i].b = pairs[i].a;
        if (i % 16 == 1)
            pairs[i].a = ~(u128)0;
    }
    pairs.put();
    kernel<<<COUNT / 64, 64>>>(pairs.device, out.device);
    out.get();
    for (int i = 0; i < COUNT; i++) {
        u128 want[RESULTS];
        operate(pairs[i], want);
        for (int k = 0; k < RESULTS; k++)
            if (out[i * RESULTS + k] != want[k])
                describe("128 bits", i * RESULTS + k, (double)out[i * RESULTS + k], (double)want[k]);
    }
    return finish(__FILE__);
}
