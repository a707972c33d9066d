/* The mathematical functions of double against the processor's. */
#include "check.h"

enum { COUNT = 1000, KINDS = 30 };

#define FUNCTIONS                                                                                   \
    F(0, sin(x)) F(1, cos(x)) F(2, tan(u)) F(3, exp(u * 30)) F(4, exp2(u * 30)) F(5, expm1(u))      \
    F(6, log(p)) F(7, log2(p)) F(8, log10(p)) F(9, log1p(p)) F(10, sqrt(p)) F(11, cbrt(x))          \
    F(12, hypot(x, p)) F(13, pow(p, u * 5)) F(14, asin(u)) F(15, acos(u)) F(16, atan(x))            \
    F(17, atan2(x, p)) F(18, sinh(u)) F(19, cosh(u)) F(20, tanh(x)) F(21, asinh(x))                 \
    F(22, acosh(p + 1)) F(23, atanh(u * 0.9)) F(24, erf(u)) F(25, erfc(u)) F(26, tgamma(p + 0.5))   \
    F(27, lgamma(p + 3)) F(28, fmod(x, p)) F(29, remainder(x, p))

__global__ void kernel(const double *in, double *out, double *others)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= COUNT)
        return;
    double x = in[i * 3], p = in[i * 3 + 1], u = in[i * 3 + 2];
#define F(k, call) out[i * KINDS + k] = call;
    FUNCTIONS
#undef F
    double whole, part = modf(x, &whole);
    int exponent, quotient;
    double fraction = frexp(x, &exponent);
    double rest = remquo(x, p, &quotient);
    double s, c;
    sincos(x, &s, &c);
    double *o = others + i * 8;
    o[0] = part, o[1] = whole, o[2] = ldexp(fraction, exponent), o[3] = rest, o[4] = s, o[5] = c;
    o[6] = normcdfinv(normcdf(u)), o[7] = rhypot(x, p) * hypot(x, p) + rsqrt(p) * sqrt(p) + j0(0.0);
}

int main()
{
    Array<double> in(COUNT * 3), out(COUNT * KINDS), others(COUNT * 8);
    for (int i = 0; i < COUNT; i++) {
        in[i * 3] = (random_unit() * 2 - 1) * (i % 10 == 0 ? 1e6 : 20.0);
        in[i * 3 + 1] = ldexp(random_unit() + 1e-3, (int)(random_bits() % 8) - 3);
        in[i * 3 + 2] = random_unit() * 2 - 1;
    }
    in.put();
    kernel<<<(COUNT + 63) / 64, 64>>>(in.device, out.device, others.device);
    out.get();
    others.get();
    for (int i = 0; i < COUNT; i++) {
        double x = in[i * 3], p = in[i * 3 + 1], u = in[i * 3 + 2];
#define F(k, call)                                                                                  \
    {                                                                                               \
        double want = call, got = out[i * KINDS + k];                                               \
        if (!(fabs(got - want) <= 4e-15 * fabs(want) + 1e-300))                                     \
            describe(#call, i, got, want);                                                          \
    }
        FUNCTIONS
#undef F
        double whole, part = modf(x, &whole), *o = &others[i * 8];
        int quotient;
        equal("modf", i, o[0], part);
        equal("modf's whole", i, o[1], whole);
        equal("frexp and ldexp", i, o[2], x);
        equal("remquo", i, o[3], remquo(x, p, &quotient));
        near("sincos' sine", i, o[4], sin(x), 1e-15);
        near("sincos' cosine", i, o[5], cos(x), 1e-15);
        near("normcdfinv", i, o[6], u, 1e-13);
        near("reciprocals", i, o[7], 3, 1e-14);
    }
    return finish(__FILE__);
}
