/* Lanes exchange values: all forms, widths and types, with some lanes away. */
#include <cuda_fp16.h>

#include "check.h"

enum { KINDS = 8 };

template <class T> __global__ void all(T *out, int width, unsigned amount)
{
    int lane = threadIdx.x;
    T mine = (T)(lane * 3 + 1), *o = out + lane * KINDS;
    const unsigned full = 0xffffffff;
    o[0] = __shfl_sync(full, mine, amount, width);
    o[1] = __shfl_up_sync(full, mine, amount, width);
    o[2] = __shfl_down_sync(full, mine, amount, width);
    o[3] = __shfl_xor_sync(full, mine, amount, width);
    o[4] = __shfl_sync(full, mine, lane + 5, width);
    /* Only even lanes take part. */
    o[5] = mine;
    if (lane % 2 == 0)
        o[5] = __shfl_xor_sync(0x55555555, mine, 2, 32);
    T sum = mine;
    for (int step = 16; step; step /= 2)
        sum += __shfl_down_sync(full, sum, step);
    o[6] = __shfl_sync(full, sum, 0);
    T prefix = mine;
    for (int step = 1; step < 32; step *= 2) {
        T other = __shfl_up_sync(full, prefix, step);
        if (lane >= step)
            prefix += other;
    }
    o[7] = prefix;
}

template <class T> static void type(const char *name)
{
    Array<T> out(32 * KINDS);
    for (int width = 2; width <= 32; width *= 2)
        for (unsigned amount : {0u, 1u, 3u, 17u, 31u}) {
            all<T><<<1, 32>>>(out.device, width, amount);
            out.get();
            for (int lane = 0; lane < 32; lane++) {
                int base = lane & ~(width - 1), at = lane & (width - 1), from[5];
                from[0] = base + (amount & (width - 1));
                from[1] = at >= (int)amount ? lane - (int)amount : lane;
                from[2] = at + (int)amount < width ? lane + (int)amount : lane;
                /* xor may go to a lower segment, not to a higher one. */
                int target = lane ^ (int)amount;
                from[3] = target < base + width ? target : lane;
                from[4] = base + ((lane + 5) & (width - 1));
                T *o = &out[lane * KINDS];
                for (int k = 0; k < 5; k++)
                    equal(name, lane * KINDS + k, o[k], (T)(from[k] * 3 + 1));
                equal(name, lane * KINDS + 5, o[5], (T)((lane % 2 ? lane : lane ^ 2) * 3 + 1));
                equal(name, lane * KINDS + 6, o[6], (T)(31 * 32 / 2 * 3 + 32));
                equal(name, lane * KINDS + 7, o[7], (T)(lane * (lane + 1) / 2 * 3 + lane + 1));
            }
        }
}

__global__ void pairs(float *out)
{
    int lane = threadIdx.x;
    __half2 mine = __floats2half2_rn((float)lane, (float)-lane);
    __half2 other = __shfl_xor_sync(0xffffffff, mine, 1);
    out[lane * 2] = __low2float(other);
    out[lane * 2 + 1] = __high2float(other);
}

int main()
{
    type<int>("int");
    type<unsigned>("unsigned");
    type<float>("float");
    type<long long>("long long");
    type<double>("double");
    Array<float> out(64);
    pairs<<<1, 32>>>(out.device);
    out.get();
    for (int lane = 0; lane < 32; lane++) {
        equal("half2, low", lane, out[lane * 2], (float)(lane ^ 1));
        equal("half2, high", lane, out[lane * 2 + 1], (float)-(lane ^ 1));
    }
    return finish(__FILE__);
}
