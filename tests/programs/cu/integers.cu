/* Integer arithmetic of every width: the same function on both sides. */
#include "check.h"

enum { OPERATIONS = 20, PAIRS = 400 };

template <class T> __host__ __device__ T operate(int which, T a, T b)
{
    const int bits = sizeof(T) * 8;
    const int shift = (int)(b & (bits - 1));
    switch (which) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    case 3: return b == 0 || b == (T)-1 ? a : a / b;
    case 4: return b == 0 || b == (T)-1 ? a : a % b;
    case 5: return a & b;
    case 6: return a | b;
    case 7: return a ^ b;
    case 8: return (T)~a;
    case 9: return (T)(a << shift);
    case 10: return (T)(a >> shift);
    case 11: return a < b ? a : b;
    case 12: return a > b ? a : b;
    case 13: return (T)(a == b) + (T)(a != b) * 2 + (T)(a < b) * 4 + (T)(a >= b) * 8;
    case 14: return (T)(a ? 1 : 0) + (T)(!b);
    case 15: return (T)(a / 7);
    case 16: return (T)(a % 10);
    case 17: return (T)(a / 16 + b % 8);
    case 18: return (T)(a * 5 + b * 3 - 1);
    default: return (T)-a;
    }
}

template <class T> __global__ void kernel(const T *a, const T *b, T *out)
{
    int pair = blockIdx.x;
    int which = threadIdx.x;
    out[pair * OPERATIONS + which] = operate<T>(which, a[pair], b[pair]);
}

template <class T> static void type(const char *name)
{
    Array<T> a(PAIRS), b(PAIRS), out(PAIRS * OPERATIONS);
    const T edges[] = {0, 1, 2, (T)-1, (T)-2, (T)((T)1 << (sizeof(T) * 8 - 1)), (T)~((T)1 << (sizeof(T) * 8 - 1)), 3, 100};
    const int count = sizeof(edges) / sizeof(edges[0]);
    for (int i = 0; i < PAIRS; i++) {
        a[i] = i < count * count ? edges[i / count] : (T)(((uint64_t)random_bits() << 32) | random_bits());
        b[i] = i < count * count ? edges[i % count] : (T)(((uint64_t)random_bits() << 32 | random_bits()) >> (i % 60));
    }
    a.put();
    b.put();
    kernel<T><<<PAIRS, OPERATIONS>>>(a.device, b.device, out.device);
    out.get();
    for (int i = 0; i < PAIRS; i++)
        for (int which = 0; which < OPERATIONS; which++) {
            /* Signed overflow is undefined in C++: those are computed without a sign. */
            T want;
            typedef unsigned long long U;
            switch (which) {
            case 0: want = (T)((U)a[i] + (U)b[i]); break;
            case 1: want = (T)((U)a[i] - (U)b[i]); break;
            case 2: want = (T)((U)a[i] * (U)b[i]); break;
            case 9: want = (T)((U)a[i] << (int)(b[i] & (T)(sizeof(T) * 8 - 1))); break;
            case 18: want = (T)((U)a[i] * 5 + (U)b[i] * 3 - 1); break;
            case 19: want = (T)(0 - (U)a[i]); break;
            default: want = operate<T>(which, a[i], b[i]);
            }
            equal(name, i * OPERATIONS + which, out[i * OPERATIONS + which], want);
        }
}

int main()
{
    type<int8_t>("int8_t");
    type<uint8_t>("uint8_t");
    type<int16_t>("int16_t");
    type<uint16_t>("uint16_t");
    type<int32_t>("int32_t");
    type<uint32_t>("uint32_t");
    type<int64_t>("int64_t");
    type<uint64_t>("uint64_t");
    return finish(__FILE__);
}
