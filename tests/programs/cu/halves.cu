/* half and half2: operations against sums in double that are rounded once. */
#include <cuda_fp16.h>

#include "check.h"

enum { COUNT = 2048, KINDS = 12 };

__global__ void kernel(const __half *in, __half *out, float *floats, int *flags)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    __half a = in[i * 3], b = in[i * 3 + 1], c = in[i * 3 + 2];
    __half *o = out + i * KINDS;
    o[0] = __hadd(a, b);
    o[1] = __hsub(a, b);
    o[2] = __hmul(a, b);
    o[3] = __hfma(a, b, c);
    o[4] = __hneg(a);
    o[5] = __habs(a);
    o[6] = __hmin(a, b);
    o[7] = __hmax(a, b);
    o[8] = __float2half_rn(__half2float(a) * 3.0f);
    __half2 sum = __hadd2(__halves2half2(a, b), __halves2half2(c, a));
    o[9] = __low2half(sum);
    o[10] = __high2half(sum);
    o[11] = __hadd_sat(a, b);
    floats[i * 2] = __half2float(a);
    floats[i * 2 + 1] = __half2float(hsqrt(__habs(b)));
    flags[i] = __hlt(a, b) + 2 * __heq(a, b) + 4 * __hge(a, b) + 8 * __hisnan(a) + 16 * __hltu(a, b) +
               32 * (__half2int_rz(a) == (int)__half2float(a));
}

static double d(__half x) { return (double)__half2float(x); }

static __half rounded(double x) { return __double2half(x); }

static void compare(const char *what, size_t i, __half got, __half want)
{
    equal(what, i, d(got), d(want));
}

int main()
{
    Array<__half> in(COUNT * 3), out(COUNT * KINDS);
    Array<float> floats(COUNT * 2);
    Array<int> flags(COUNT);
    const float edges[] = {0, -0.0f, 1, -1, INFINITY, -INFINITY, NAN, 65504, 6.1e-5f, 6e-8f, 1.5f, 2049};
    for (int i = 0; i < COUNT * 3; i++) {
        unsigned short bits = (unsigned short)random_bits();
        if (i < 12 * 12 * 3)
            in[i] = __float2half(edges[i % 3 == 0 ? i / 3 % 12 : i % 3 == 1 ? i / 36 % 12 : i * 7 % 12]);
        else if (i % 2)
            memcpy(&in[i], &bits, 2);
        else
            in[i] = __float2half(random_unit() * 8 - 4);
    }
    in.put();
    kernel<<<COUNT / 128, 128>>>(in.device, out.device, floats.device, flags.device);
    out.get();
    floats.get();
    flags.get();
    for (int i = 0; i < COUNT; i++) {
        double a = d(in[i * 3]), b = d(in[i * 3 + 1]), c = d(in[i * 3 + 2]);
        __half *o = &out[i * KINDS];
        compare("add", i, o[0], rounded(a + b));
        compare("sub", i, o[1], rounded(a - b));
        compare("mul", i, o[2], rounded(a * b));
        /* A double holds a * b + c of halves but for the smallest of terms: those are left out. */
        double fused = a * b + c;
        if (!(fabs(a * b) > 0 && fabs(c) > 0 && (fabs(a * b) < 1e-8 || fabs(c) < 1e-8)))
            compare("fma", i, o[3], rounded(fused));
        compare("neg", i, o[4], rounded(-a));
        compare("abs", i, o[5], rounded(fabs(a)));
        compare("min", i, o[6], rounded(fmin(a, b)));
        compare("max", i, o[7], rounded(fmax(a, b)));
        compare("times 3", i, o[8], __float2half_rn((float)a * 3.0f));
        compare("low", i, o[9], rounded(a + c));
        compare("high", i, o[10], rounded(b + a));
        double sum = a + b;
        compare("sat", i, o[11], rounded(sum != sum ? 0 : fmin(1, fmax(0, sum))));
        equal("float", i, floats[i * 2], (float)a);
        equal("sqrt", i, floats[i * 2 + 1], (float)d(rounded(sqrt(fabs(b)))));
        bool nan = a != a || b != b;
        int want = (a < b) + 2 * (a == b) + 4 * (a >= b) + 8 * (a != a) + 16 * (nan || a < b);
        equal("flags", i, flags[i] & 31, want);
    }
    return finish(__FILE__);
}
