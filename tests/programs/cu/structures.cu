/* Structures as parameters and results, with all kinds of members, up to 4 KB. */
#include "check.h"

struct Mixed {
    char c;
    double d;
    short s;
    bool b;
    float3 f;
    long long l;
    unsigned char bytes[5];
};

struct Large {
    int values[1000];
};

struct Bits {
    unsigned a : 3, b : 7, c : 22;
    signed d : 5;
};

union Either {
    float f;
    unsigned u;
};

struct Empty {};

__device__ __noinline__ Mixed changed(Mixed m, int i)
{
    m.d += i;
    m.bytes[i % 5] += 1;
    m.f.y *= 2;
    m.b = !m.b;
    return m;
}

__global__ void one(Mixed m, char before, Mixed *out, Empty, short after)
{
    out[threadIdx.x] = changed(m, threadIdx.x);
    out[threadIdx.x].c += before;
    out[threadIdx.x].s += after;
}

__global__ void large(const __grid_constant__ Large l, int *out, int n)
{
    /* Each thread looks at a place of its own. */
    int i = threadIdx.x;
    const int *values = l.values;
    int sum = 0;
    for (int k = 0; k < n; k++)
        sum += values[(i * 31 + k * 7) % 1000];
    out[i] = sum + l.values[999];
}

__global__ void small(Bits bits, Either either, uchar3 c, double2 d, int *out)
{
    out[0] = bits.a * 1000 + bits.b;
    out[1] = bits.c;
    out[2] = bits.d;
    out[3] = (int)(either.u >> 16);
    out[4] = c.x + c.y * 2 + c.z * 3;
    out[5] = (int)(d.x * d.y);
}

int main()
{
    const int threads = 40;
    Array<Mixed> out(threads);
    Mixed m = {'x', 1.5, -3, true, {1, 2, 3}, 1ll << 40, {1, 2, 3, 4, 250}};
    one<<<1, threads>>>(m, 2, out.device, Empty(), 5);
    out.get();
    for (int i = 0; i < threads; i++) {
        Mixed &o = out[i];
        equal<int>("char", i, o.c, 'x' + 2);
        equal("double", i, o.d, 1.5 + i);
        equal<int>("short", i, o.s, 2);
        equal<int>("bool", i, o.b, 0);
        equal("float3", i, o.f.x + 10 * o.f.y + 100 * o.f.z, 341.0f);
        equal("long", i, o.l, 1ll << 40);
        for (int k = 0; k < 5; k++)
            equal<int>("bytes", i * 5 + k, o.bytes[k], m.bytes[k] + (i % 5 == k));
    }
    Large l;
    Array<int> ints(threads);
    for (int i = 0; i < 1000; i++)
        l.values[i] = (int)(random_bits() % 100);
    large<<<1, threads>>>(l, ints.device, 20);
    ints.get();
    for (int i = 0; i < threads; i++) {
        int sum = l.values[999];
        for (int k = 0; k < 20; k++)
            sum += l.values[(i * 31 + k * 7) % 1000];
        equal("large", i, ints[i], sum);
    }
    Bits bits = {5, 99, 123456, -7};
    Either either = {1.0f};
    small<<<1, 1>>>(bits, either, make_uchar3(1, 2, 250), make_double2(1.5, 8), ints.device);
    ints.get();
    const int want[6] = {5099, 123456, -7, 0x3f80, 755, 12};
    for (int i = 0; i < 6; i++)
        equal("small", i, ints[i], want[i]);
    return finish(__FILE__);
}
