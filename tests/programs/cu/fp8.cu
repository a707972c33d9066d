/* 8-bit floats: all values to half, and rounding with saturation, against tables made by hand. */
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "check.h"

enum { COUNT = 8192 };

__global__ void widen(float *out)
{
    int i = threadIdx.x;
    out[i] = __half2float(__half(__nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)i, __NV_E4M3)));
    out[256 + i] = __half2float(__half(__nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)i, __NV_E5M2)));
}

__global__ void narrow(const float *in, unsigned char *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i * 4] = __nv_cvt_float_to_fp8(in[i], __NV_SATFINITE, __NV_E4M3);
    out[i * 4 + 1] = __nv_cvt_float_to_fp8(in[i], __NV_SATFINITE, __NV_E5M2);
    __nv_fp8x2_storage_t two = __nv_cvt_float2_to_fp8x2(make_float2(in[i], -in[i]), __NV_SATFINITE, __NV_E4M3);
    out[i * 4 + 2] = two & 255;
    out[i * 4 + 3] = two >> 8;
}

static float value(int bits, int exponent_bits)
{
    int mantissa_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (bits & 127) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
    float sign = bits & 128 ? -1 : 1;
    if (exponent_bits == 5 && exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    if (exponent_bits == 4 && (bits & 127) == 127)
        return NAN;
    if (exponent == 0)
        return sign * ldexpf((float)mantissa, 1 - bias - mantissa_bits);
    return sign * ldexpf((float)(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
}

/* The nearest of all finite values; between two, the even one. */
static int nearest(float x, int exponent_bits)
{
    if (x != x)
        return 127;
    int best = 0;
    double distance = INFINITY;
    for (int bits = 0; bits < 128; bits++) {
        float v = value(bits, exponent_bits);
        if (v != v || isinf(v))
            continue;
        /* What is above all values becomes the greatest. */
        double here = fabs((double)v - fmin(fabs((double)x), 1e6));
        if (here < distance || (here == distance && !(bits & 1)))
            distance = here, best = bits;
    }
    return best | (signbit(x) ? 128 : 0);
}

int main()
{
    Array<float> wide(512), in(COUNT);
    Array<unsigned char> out(COUNT * 4);
    widen<<<1, 256>>>(wide.device);
    wide.get();
    for (int i = 0; i < 256; i++) {
        equal("e4m3", i, wide[i], value(i, 4));
        equal("e5m2", i, wide[256 + i], value(i, 5));
    }
    for (int i = 0; i < COUNT; i++)
        in[i] = ldexpf(random_unit() * 2 - 1, (int)(random_bits() % 40) - 20);
    /* Every value, and every place between two. */
    for (int i = 0; i < 127; i++) {
        in[i * 2] = value(i, 4);
        in[i * 2 + 1] = (value(i, 4) + value(i + 1, 4)) / 2;
        in[512 + i * 2] = value(i, 5);
        in[512 + i * 2 + 1] = (value(i, 5) + value(i + 1, 5)) / 2;
    }
    in[300] = INFINITY, in[301] = -INFINITY, in[302] = NAN, in[303] = -0.0f, in[304] = 1e30f, in[305] = -464;
    in.put();
    narrow<<<COUNT / 128, 128>>>(in.device, out.device);
    out.get();
    for (int i = 0; i < COUNT; i++) {
        if (in[i] != in[i]) {
            equal("NaN", i, out[i * 4] & 127, 127);
            continue;
        }
        equal<int>("to e4m3", i, out[i * 4], nearest(in[i], 4));
        equal<int>("to e5m2", i, out[i * 4 + 1], nearest(in[i], 5));
        equal<int>("two, low", i, out[i * 4 + 2], nearest(in[i], 4));
        equal<int>("two, high", i, out[i * 4 + 3], nearest(-in[i], 4));
    }
    return finish(__FILE__);
}
