/* bfloat16: conversions of every value and arithmetic, rounded once. */
#include <cuda_bf16.h>

#include "check.h"

enum { COUNT = 4096, KINDS = 7 };

__global__ void kernel(const __nv_bfloat16 *in, __nv_bfloat16 *out, int *fuses)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    __nv_bfloat16 a = in[i * 3], b = in[i * 3 + 1], c = in[i * 3 + 2];
    __nv_bfloat16 *o = out + i * KINDS;
    o[0] = __hadd(a, b);
    o[1] = __hsub(a, b);
    o[2] = __hmul(a, b);
#if __CUDA_ARCH__ >= 800
    *fuses = 1;
    o[3] = __hfma(a, b, c);
#else
    /* Before compute_80 there is no such instruction, and the function is not declared. */
    *fuses = 0;
    o[3] = __float2bfloat16_rn(__bfloat162float(a) * __bfloat162float(b));
#endif
    o[4] = __hmax(a, b);
    __nv_bfloat162 product = __hmul2(__halves2bfloat162(a, b), __halves2bfloat162(c, c));
    o[5] = __low2bfloat16(product);
    o[6] = __high2bfloat16(product);
}

__global__ void all_values(float *floats, unsigned short *back, unsigned short *rounded)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    __nv_bfloat16 x = __ushort_as_bfloat16((unsigned short)i);
    floats[i] = __bfloat162float(x);
    back[i] = __bfloat16_as_ushort(__float2bfloat16_rn(floats[i]));
    rounded[i] = __bfloat16_as_ushort(__float2bfloat16_rn(__uint_as_float(i * 65537u + 12345u)));
}

static double d(__nv_bfloat16 x) { return (double)__bfloat162float(x); }

static float of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* To nearest even, by hand: the second half of the bits decides. */
static unsigned short nearest(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (f != f)
        return 0x7fff;
    return (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void compare(const char *what, int i, __nv_bfloat16 got, double want)
{
    /* Exact sums and products of these operands have few bits more than a double: to odd first. */
    float f = (float)want;
    double rest = want - (double)f;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (rest != 0 && rest == rest && !(bits & 1) && !isinf(f)) {
        bool away = (rest > 0) == (f > 0 || (f == 0 && want > 0));
        bits = away ? bits | 1 : (bits - 1) | 1;
        f = of_bits(bits);
    }
    float want_float = of_bits((uint32_t)nearest(f) << 16);
    equal(what, i, d(got), (double)want_float);
}

int main()
{
    Array<__nv_bfloat16> in(COUNT * 3), out(COUNT * KINDS);
    Array<int> fuses(1);
    for (int i = 0; i < COUNT * 3; i++)
        in[i] = __float2bfloat16(ldexpf(random_unit() * 2 - 1, (int)(random_bits() % 12)));
    const float edges[] = {0, 1, -1, INFINITY, -INFINITY, NAN, 3e38f, 256};
    for (int i = 0; i < 64 * 3; i++)
        in[i] = __float2bfloat16(edges[i % 3 == 0 ? i / 3 % 8 : i % 3 == 1 ? i / 24 % 8 : i % 8]);
    in.put();
    kernel<<<COUNT / 128, 128>>>(in.device, out.device, fuses.device);
    out.get();
    fuses.get();
    for (int i = 0; i < COUNT; i++) {
        double a = d(in[i * 3]), b = d(in[i * 3 + 1]), c = d(in[i * 3 + 2]);
        __nv_bfloat16 *o = &out[i * KINDS];
        compare("add", i, o[0], a + b);
        compare("sub", i, o[1], a - b);
        compare("mul", i, o[2], a * b);
        compare("fma", i, o[3], fuses[0] ? a * b + c : a * b);
        compare("max", i, o[4], fmax(a, b));
        compare("low", i, o[5], a * c);
        compare("high", i, o[6], b * c);
    }
    Array<float> floats(65536);
    Array<unsigned short> back(65536), rounded(65536);
    all_values<<<256, 256>>>(floats.device, back.device, rounded.device);
    floats.get();
    back.get();
    rounded.get();
    for (uint32_t i = 0; i < 65536; i++) {
        float f = of_bits(i << 16);
        equal("to float", i, floats[i], f);
        equal<int>("and back", i, back[i], f != f ? 0x7fff : i);
        equal<int>("rounded", i, rounded[i], nearest(of_bits(i * 65537u + 12345u)));
    }
    return finish(__FILE__);
}
