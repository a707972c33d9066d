/* Loads and stores of vector types, through caches by name, and of columns of structures. */
#include "check.h"

__global__ void kernel(const float4 *a, const int2 *b, const uchar4 *c, const longlong2 *d, const short4 *e, float4 *out,
                       int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float4 x = __ldg(&a[i]);
    int2 y = __ldcs(&b[i]);
    uchar4 z = __ldcg(&c[i]);
    longlong2 w = d[i];
    short4 v = e[n - 1 - i];
    float4 r;
    r.x = x.x + y.x + z.w;
    r.y = x.y + y.y + (float)(w.x % 1000);
    r.z = x.z + v.x + v.w;
    r.w = x.w + (float)(w.y >> 32) + z.x * 2 + z.y * 3 + z.z * 5;
    __stcs(&out[i], r);
}

__global__ void prefetches(const double2 *in, double2 *out)
{
    int i = threadIdx.x;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(in + i));
    double2 v;
    asm volatile("ld.global.v2.f64 {%0, %1}, [%2];" : "=d"(v.x), "=d"(v.y) : "l"(in + i));
    asm volatile("st.global.wt.v2.f64 [%0], {%1, %2};" ::"l"(out + i), "d"(v.y), "d"(v.x) : "memory");
}

int main()
{
    const int n = 777;
    Array<float4> a(n), out(n);
    Array<int2> b(n);
    Array<uchar4> c(n);
    Array<longlong2> d(n);
    Array<short4> e(n);
    for (int i = 0; i < n; i++) {
        a[i] = make_float4((float)i, i * 2.0f, i * 3.0f, i * 4.0f);
        b[i] = make_int2(-i, i * i % 100);
        c[i] = make_uchar4((unsigned char)i, 2, 255, (unsigned char)(i * 3));
        d[i] = make_longlong2((long long)i << 35, (long long)i << 33);
        e[i] = make_short4((short)i, 0, 0, (short)-2);
    }
    a.put(), b.put(), c.put(), d.put(), e.put();
    kernel<<<7, 128>>>(a.device, b.device, c.device, d.device, e.device, out.device, n);
    out.get();
    for (int i = 0; i < n; i++) {
        float4 o = out[i];
        equal("x", i, o.x, (float)(unsigned char)(i * 3));
        equal("y", i, o.y, i * 2.0f + i * i % 100 + (float)(((long long)i << 35) % 1000));
        equal("z", i, o.z, i * 3.0f + (n - 1 - i) - 2);
        equal("w", i, o.w, i * 4.0f + i * 2 + (unsigned char)i * 2 + 6 + 1275);
    }
    Array<double2> in(64), swapped(64);
    for (int i = 0; i < 64; i++)
        in[i] = make_double2(i, -i);
    in.put();
    prefetches<<<1, 64>>>(in.device, swapped.device);
    swapped.get();
    for (int i = 0; i < 64; i++)
        equal("swapped", i, swapped[i].x * 1000 + swapped[i].y, -i * 1000.0 + i);
    return finish(__FILE__);
}
