/* Constants: with values of the program, set by it, and read at places that only the thread knows. */
#include "check.h"

struct Setting {
    float scale;
    short offsets[3];
    double weight;
    char name[8];
};

__constant__ float table[64];
__constant__ Setting setting = {2.5f, {1, -2, 3}, 0.125, "const"};
__constant__ int primes[] = {2, 3, 5, 7, 11, 13, 17, 19};
__constant__ const int *pointer;
static __constant__ unsigned long long wide = 0x123456789abcdef0ull;

__global__ void kernel(double *out)
{
    int i = threadIdx.x;
    double *o = out + i * 5;
    o[0] = table[i % 64] + table[3];
    o[1] = setting.scale * setting.offsets[i % 3] + setting.weight + setting.name[i % 5];
    o[2] = primes[(i * 5) % 8];
    o[3] = pointer[i];
    o[4] = (double)(wide >> (i % 64));
}

int main()
{
    const int threads = 96;
    Array<double> out(threads * 5);
    Array<int> ints(threads);
    float values[64];
    for (int i = 0; i < 64; i++)
        values[i] = i * 1.5f;
    for (int i = 0; i < threads; i++)
        ints[i] = i * i;
    ints.put();
    NEED(cudaMemcpyToSymbol(table, values, sizeof(values)));
    const int *at = ints.device;
    NEED(cudaMemcpyToSymbol(pointer, &at, sizeof(at)));
    for (int round = 0; round < 2; round++) {
        kernel<<<1, threads>>>(out.device);
        out.get();
        for (int i = 0; i < threads; i++) {
            const short offsets[3] = {1, -2, 3};
            const int p[8] = {2, 3, 5, 7, 11, 13, 17, 19};
            double *o = &out[i * 5];
            equal("table", i, o[0], (double)(values[i % 64] + values[3]));
            equal("structure", i, o[1], (double)(2.5f * offsets[i % 3] + 0.125 + "const"[i % 5]));
            equal("primes", i, o[2], (double)p[(i * 5) % 8]);
            equal("pointer", i, o[3], (double)(i * i));
            equal("wide", i, o[4], (double)(0x123456789abcdef0ull >> (i % 64)));
        }
        /* A part of it changes. */
        float one = 100;
        values[5] = one;
        NEED(cudaMemcpyToSymbol(table, &one, sizeof(one), 5 * sizeof(float)));
    }
    return finish(__FILE__);
}
