/* Between floating point and integers: each rounding, and values that do not fit. */
#include "check.h"

enum { COUNT = 1024, KINDS = 14 };

__global__ void kernel(const double *in, long long *out, double *back)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    double d = in[i];
    float f = (float)d;
    long long *o = out + i * KINDS;
    o[0] = __float2int_rn(f);
    o[1] = __float2int_rz(f);
    o[2] = __float2int_ru(f);
    o[3] = __float2int_rd(f);
    o[4] = __float2uint_rz(f);
    o[5] = __float2ll_rn(f);
    o[6] = (long long)__float2ull_rz(f);
    o[7] = __double2int_rn(d);
    o[8] = __double2uint_ru(d);
    o[9] = __double2ll_rd(d);
    o[10] = (long long)__double2ull_rn(d);
    o[11] = llrint(d);
    o[12] = lroundf(f);
    o[13] = (long long)__float_as_int(rintf(f)) ^ __float_as_int(truncf(f)) ^ __float_as_int(ceilf(f)) ^
            __float_as_int(floorf(f));
    long long n = (long long)(d * 1000);
    double *b = back + i * 8;
    b[0] = __int2float_rn((int)n);
    b[1] = __int2float_rz((int)n);
    b[2] = __uint2float_ru((unsigned)n);
    b[3] = __ll2float_rd(n);
    b[4] = __ll2double_rn(n);
    b[5] = __ull2float_rn((unsigned long long)n);
    b[6] = __double2float_rz(d);
    b[7] = (float)d;
}

/* Conversions clamp to the type's range. A NaN is 0, but from double, or to 64 bits, the greatest bit alone (PTX ISA,
   "cvt"). */
template <class T> static long long clamped(double x, double nan)
{
    const double low = (T)-1 < (T)0 ? -ldexp(1, sizeof(T) * 8 - 1) : 0;
    const double high = ldexp(1, sizeof(T) * 8 - ((T)-1 < (T)0));
    if (x != x)
        return nan == 0 ? 0 : (long long)(T)((unsigned long long)1 << (sizeof(T) * 8 - 1));
    if (x <= low)
        return (long long)(T)low;
    if (x >= high)
        return (T)-1 < (T)0 ? (long long)(T)~((unsigned long long)1 << (sizeof(T) * 8 - 1)) : (long long)(T)-1;
    return (long long)(T)x;
}

/* The float beside `x` in the direction of the rounding. */
static float toward(long double x, int direction)
{
    float f = (float)x;
    if (direction == 0 && fabsl((long double)f) > fabsl(x))
        f = nextafterf(f, 0);
    if (direction > 0 && (long double)f < x)
        f = nextafterf(f, INFINITY);
    if (direction < 0 && (long double)f > x)
        f = nextafterf(f, -INFINITY);
    return f;
}

static int bits(float f)
{
    int i;
    memcpy(&i, &f, 4);
    return i;
}

int main()
{
    Array<double> in(COUNT), back(COUNT * 8);
    Array<long long> out(COUNT * KINDS);
    for (int i = 0; i < COUNT; i++)
        in[i] = ldexp((double)random_unit() * 2 - 1, (int)(random_bits() % 70)) + (i % 2 ? 0.5 : 0);
    const double edges[] = {0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2147483647, 2147483648.0, -2147483648.0, 4294967295.0,
                            4294967296.0, 9.3e18, -9.3e18, 1.9e19, INFINITY, -INFINITY, NAN, -0.0, 1e-40, 16777217, -1};
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
        in[i] = edges[i];
    in.put();
    kernel<<<COUNT / 64, 64>>>(in.device, out.device, back.device);
    out.get();
    back.get();
    for (int i = 0; i < COUNT; i++) {
        double d = in[i];
        float f = (float)d;
        long long *o = &out[i * KINDS];
        equal<long long>("int rn", i, o[0], clamped<int>(rint(f), 0));
        equal<long long>("int rz", i, o[1], clamped<int>(trunc(f), 0));
        equal<long long>("int ru", i, o[2], clamped<int>(ceil(f), 0));
        equal<long long>("int rd", i, o[3], clamped<int>(floor(f), 0));
        equal<long long>("uint rz", i, o[4], clamped<unsigned>(trunc(f), 0));
        equal<long long>("ll rn", i, o[5], clamped<long long>(rint(f), 1));
        equal<long long>("ull rz", i, o[6], clamped<unsigned long long>(trunc(f), 1));
        equal<long long>("double int rn", i, o[7], clamped<int>(rint(d), 1));
        equal<long long>("double uint ru", i, o[8], clamped<unsigned>(ceil(d), 1));
        equal<long long>("double ll rd", i, o[9], clamped<long long>(floor(d), 1));
        equal<long long>("double ull rn", i, o[10], clamped<unsigned long long>(rint(d), 1));
        if (fabs(d) < 4e18) {
            equal<long long>("llrint", i, o[11], llrint(d));
            equal<long long>("lroundf", i, o[12], lroundf(f));
        }
        if (d == d)
            equal<long long>("integral floats", i, o[13],
                             bits(rintf(f)) ^ bits(truncf(f)) ^ bits(ceilf(f)) ^ bits(floorf(f)));
        if (!(fabs(d) < 9e15))
            continue;
        long long n = (long long)(d * 1000);
        double *b = &back[i * 8];
        equal("int2float rn", i, b[0], (double)(float)(int)n);
        equal("int2float rz", i, b[1], (double)toward((int)n, 0));
        equal("uint2float ru", i, b[2], (double)toward((unsigned)n, 1));
        equal("ll2float rd", i, b[3], (double)toward((long double)n, -1));
        equal("ll2double", i, b[4], (double)n);
        equal("ull2float", i, b[5], (double)(float)(unsigned long long)n);
        equal("double2float rz", i, b[6], (double)toward((long double)d, 0));
        equal("double2float", i, b[7], (double)(float)d);
    }
    return finish(__FILE__);
}
