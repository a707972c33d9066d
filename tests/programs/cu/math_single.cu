/* The mathematical functions of float against the processor's of double, in units of the last place. */
#include "check.h"

enum { COUNT = 2000, KINDS = 34 };

/* Each function once for both sides: F(name, on the device, on the processor, argument, allowed units). The bounds
   are those of the CUDA programming guide's appendix, and one more for the rounding of the reference. */
#define FUNCTIONS                                                                                   \
    F(0, sinf(x), sin(X), 3)                                                                        \
    F(1, cosf(x), cos(X), 3)                                                                        \
    F(2, tanf(x), tan(X), 5)                                                                        \
    F(3, expf(x), exp(X), 3)                                                                        \
    F(4, exp2f(x), exp2(X), 3)                                                                      \
    F(5, exp10f(x * 0.3f), pow(10, (double)(x * 0.3f)), 3)                                          \
    F(6, expm1f(x), expm1(X), 2)                                                                    \
    F(7, logf(p), log(P), 2)                                                                        \
    F(8, log2f(p), log2(P), 2)                                                                      \
    F(9, log10f(p), log10(P), 3)                                                                    \
    F(10, log1pf(p), log1p(P), 2)                                                                   \
    F(11, sqrtf(p), sqrt(P), 1)                                                                     \
    F(12, rsqrtf(p), 1 / sqrt(P), 3)                                                                \
    F(13, cbrtf(x), cbrt(X), 2)                                                                     \
    F(14, hypotf(x, p), hypot(X, P), 4)                                                             \
    F(15, powf(p, 1.7f), pow(P, (double)1.7f), 5)                                                   \
    F(16, asinf(u), asin(U), 3)                                                                     \
    F(17, acosf(u), acos(U), 3)                                                                     \
    F(18, atanf(x), atan(X), 3)                                                                     \
    F(19, atan2f(x, p), atan2(X, P), 4)                                                             \
    F(20, sinhf(u), sinh(U), 4)                                                                     \
    F(21, coshf(u), cosh(U), 3)                                                                     \
    F(22, tanhf(x), tanh(X), 3)                                                                     \
    F(23, asinhf(x), asinh(X), 4)                                                                   \
    F(24, acoshf(p + 1), acosh((double)(p + 1)), 5)                                                 \
    F(25, atanhf(u * 0.9f), atanh((double)(u * 0.9f)), 4)                                           \
    F(26, erff(u), erf(U), 3)                                                                       \
    F(27, erfcf(u), erfc(U), 5)                                                                     \
    F(28, fmodf(x, p), fmod(X, P), 0)                                                               \
    F(29, remainderf(x, p), remainder(X, P), 0)                                                     \
    F(30, ldexpf(x, 3) + scalbnf(u, -2), (double)(ldexpf(x, 3) + scalbnf(u, -2)), 1)                \
    F(31, fdimf(x, p) + copysignf(p, x), (double)(fdimf(x, p) + copysignf(p, x)), 1)                \
    F(32, tgammaf(p * 0.2f + 0.1f), tgamma((double)(p * 0.2f + 0.1f)), 6)                           \
    F(33, sinpif(u), sin(U * 3.14159265358979323846), 3)

__global__ void kernel(const float *in, float *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= COUNT)
        return;
    float x = in[i * 3], p = in[i * 3 + 1], u = in[i * 3 + 2];
#define F(k, device, host, units) out[i * KINDS + k] = device;
    FUNCTIONS
#undef F
}

static double units_between(float got, double want)
{
    if (got == want || (got != got && want != want))
        return 0;
    float f = (float)want;
    double unit = (double)nextafterf(fabsf(f), INFINITY) - fabs((double)f);
    return fabs((double)got - want) / unit;
}

int main()
{
    Array<float> in(COUNT * 3), out(COUNT * KINDS);
    for (int i = 0; i < COUNT; i++) {
        in[i * 3] = (random_unit() * 2 - 1) * (i % 10 == 0 ? 1000.0f : 20.0f);
        in[i * 3 + 1] = ldexpf(random_unit() + 1e-3f, (int)(random_bits() % 8) - 3);
        in[i * 3 + 2] = random_unit() * 2 - 1;
    }
    in.put();
    kernel<<<(COUNT + 63) / 64, 64>>>(in.device, out.device);
    out.get();
    for (int i = 0; i < COUNT; i++) {
        float x = in[i * 3], p = in[i * 3 + 1], u = in[i * 3 + 2];
        double X = x, P = p, U = u;
        if (fabsf(x) > 80) /* where exp2f and its kin overflow, only the periodic ones are looked at */
            for (int k = 3; k <= 6; k++)
                out[i * KINDS + k] = (float)(k == 3 ? exp(X) : k == 4 ? exp2(X) : k == 5 ? pow(10, (double)(x * 0.3f)) : expm1(X));
#define F(k, device, host, units)                                                                   \
    if (units_between(out[i * KINDS + k], host) > units + 0.51)                                     \
        describe(#device, i, out[i * KINDS + k], host);
        FUNCTIONS
#undef F
    }
    return finish(__FILE__);
}
