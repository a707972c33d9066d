/* Arithmetic of float and double with each rounding, bit for bit. */
#include <cfenv>
#include <cfloat>

#include "check.h"

enum { COUNT = 1024, MODES = 4, KINDS = 6 };

template <int MODE> __device__ void single(float a, float b, float c, float *out)
{
    if (MODE == 0) {
        out[0] = __fadd_rn(a, b), out[1] = __fsub_rn(a, b), out[2] = __fmul_rn(a, b);
        out[3] = __fdiv_rn(a, b), out[4] = __fsqrt_rn(c), out[5] = __fmaf_rn(a, b, c);
    } else if (MODE == 1) {
        out[0] = __fadd_rz(a, b), out[1] = __fsub_rz(a, b), out[2] = __fmul_rz(a, b);
        out[3] = __fdiv_rz(a, b), out[4] = __fsqrt_rz(c), out[5] = __fmaf_rz(a, b, c);
    } else if (MODE == 2) {
        out[0] = __fadd_ru(a, b), out[1] = __fsub_ru(a, b), out[2] = __fmul_ru(a, b);
        out[3] = __fdiv_ru(a, b), out[4] = __fsqrt_ru(c), out[5] = __fmaf_ru(a, b, c);
    } else {
        out[0] = __fadd_rd(a, b), out[1] = __fsub_rd(a, b), out[2] = __fmul_rd(a, b);
        out[3] = __fdiv_rd(a, b), out[4] = __fsqrt_rd(c), out[5] = __fmaf_rd(a, b, c);
    }
}

template <int MODE> __device__ void twofold(double a, double b, double c, double *out)
{
    if (MODE == 0) {
        out[0] = __dadd_rn(a, b), out[1] = __dsub_rn(a, b), out[2] = __dmul_rn(a, b);
        out[3] = __ddiv_rn(a, b), out[4] = __dsqrt_rn(c), out[5] = __fma_rn(a, b, c);
    } else if (MODE == 1) {
        out[0] = __dadd_rz(a, b), out[1] = __dsub_rz(a, b), out[2] = __dmul_rz(a, b);
        out[3] = __ddiv_rz(a, b), out[4] = __dsqrt_rz(c), out[5] = __fma_rz(a, b, c);
    } else if (MODE == 2) {
        out[0] = __dadd_ru(a, b), out[1] = __dsub_ru(a, b), out[2] = __dmul_ru(a, b);
        out[3] = __ddiv_ru(a, b), out[4] = __dsqrt_ru(c), out[5] = __fma_ru(a, b, c);
    } else {
        out[0] = __dadd_rd(a, b), out[1] = __dsub_rd(a, b), out[2] = __dmul_rd(a, b);
        out[3] = __ddiv_rd(a, b), out[4] = __dsqrt_rd(c), out[5] = __fma_rd(a, b, c);
    }
}

__global__ void singles(const float *in, float *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float a = in[i * 3], b = in[i * 3 + 1], c = in[i * 3 + 2];
    out += i * MODES * KINDS;
    single<0>(a, b, c, out);
    single<1>(a, b, c, out + KINDS);
    single<2>(a, b, c, out + 2 * KINDS);
    single<3>(a, b, c, out + 3 * KINDS);
}

__global__ void doubles(const double *in, double *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    double a = in[i * 3], b = in[i * 3 + 1], c = in[i * 3 + 2];
    out += i * MODES * KINDS;
    twofold<0>(a, b, c, out);
    twofold<1>(a, b, c, out + KINDS);
    twofold<2>(a, b, c, out + 2 * KINDS);
    twofold<3>(a, b, c, out + 3 * KINDS);
}

/* Volatile, so that the compiler computes where the rounding is set. */
template <class T> static void host(T a_, T b_, T c_, T *out)
{
    const int modes[MODES] = {FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD};
    for (int m = 0; m < MODES; m++, out += KINDS) {
        volatile T a = a_, b = b_, c = c_;
        fesetround(modes[m]);
        volatile T sum = a + b, difference = a - b, product = a * b, quotient = a / b;
        volatile T root = std::sqrt(c), fused = std::fma(a, b, c);
        fesetround(FE_TONEAREST);
        out[0] = sum, out[1] = difference, out[2] = product;
        out[3] = quotient, out[4] = root, out[5] = fused;
    }
}

template <class T> static T value(int i)
{
    const T edges[] = {0, (T)-0.0, 1, -1, (T)INFINITY, -(T)INFINITY, (T)NAN,
                       sizeof(T) == 4 ? (T)FLT_MAX : (T)DBL_MAX, sizeof(T) == 4 ? (T)FLT_MIN : (T)DBL_MIN,
                       sizeof(T) == 4 ? (T)1e-45f : (T)4.9e-324, (T)1.5, (T)3};
    if (i >= 0 && i < 12)
        return edges[i];
    T x = (T)((int32_t)random_bits()) / (T)(1 << 20) + (T)random_bits() / (T)1e15;
    return std::ldexp(x, (int)(random_bits() % (sizeof(T) == 4 ? 200 : 1800)) - (sizeof(T) == 4 ? 100 : 900));
}

template <class T> static void type(const char *name, void (*kernel)(const T *, T *))
{
    Array<T> in(COUNT * 3), out(COUNT * MODES * KINDS);
    for (int i = 0; i < COUNT; i++)
        for (int k = 0; k < 3; k++)
            in[i * 3 + k] = value<T>(i < 144 ? (k == 0 ? i % 12 : k == 1 ? i / 12 : (i * 5) % 12) : -1);
    in.put();
    kernel<<<COUNT / 128, 128>>>(in.device, out.device);
    out.get();
    for (int i = 0; i < COUNT; i++) {
        T want[MODES * KINDS];
        host<T>(in[i * 3], in[i * 3 + 1], in[i * 3 + 2], want);
        for (int k = 0; k < MODES * KINDS; k++) {
            T got = out[i * MODES * KINDS + k];
            bool nan = got != got && want[k] != want[k];
            if (!nan && memcmp(&got, &want[k], sizeof(T)))
                describe(name, i * MODES * KINDS + k, got, want[k]);
        }
    }
}

int main()
{
    type<float>("float", singles);
    type<double>("double", doubles);
    return finish(__FILE__);
}
