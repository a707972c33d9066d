/* Tensor-core instructions by hand: ldmatrix and mma, with the fragments' layout as the PTX ISA draws it. */
#include <cuda_fp16.h>

#include "check.h"

/* One warp: C (16 x 8) = A (16 x 16, by rows) * B (16 x 8, given as 8 columns of 16). */
__global__ void product(const __half *a, const __half *b, float *c)
{
    __shared__ __align__(16) __half as[16 * 16], bs[8 * 16];
    int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32)
        as[i] = a[i];
    for (int i = lane; i < 128; i += 32)
        bs[i] = b[i];
    __syncwarp();
    unsigned fa[4], fb[2];
    unsigned at = (unsigned)__cvta_generic_to_shared(&as[lane % 16 * 16 + lane / 16 * 8]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3])
                 : "r"(at));
    at = (unsigned)__cvta_generic_to_shared(&bs[lane % 8 * 16 + lane / 8 % 2 * 8]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(fb[0]), "=r"(fb[1]) : "r"(at));
    float d[4] = {0, 0, 0, 0};
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
#else
    for (int half = 0; half < 2; half++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(fa[half * 2]), "r"(fa[half * 2 + 1]), "r"(fb[half]));
#endif
    int row = lane / 4, column = lane % 4 * 2;
    c[row * 8 + column] = d[0];
    c[row * 8 + column + 1] = d[1];
    c[(row + 8) * 8 + column] = d[2];
    c[(row + 8) * 8 + column + 1] = d[3];
}

/* 8 x 8 x 16 of bytes. */
__global__ void bytes(const signed char *a, const signed char *b, int *c)
{
    int lane = threadIdx.x, row = lane / 4, k = lane % 4 * 4;
    unsigned fa = *(const unsigned *)(a + row * 16 + k), fb = *(const unsigned *)(b + row * 16 + k);
    int d[2] = {5, 5};
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(d[0]), "+r"(d[1])
                 : "r"(fa), "r"(fb));
    c[row * 8 + lane % 4 * 2] = d[0];
    c[row * 8 + lane % 4 * 2 + 1] = d[1];
}

/* A matrix of 8 x 8 halves comes out transposed. */
__global__ void transposed(const __half *in, __half *out)
{
    __shared__ __align__(16) __half tile[64];
    int lane = threadIdx.x;
    for (int i = lane; i < 64; i += 32)
        tile[i] = in[i];
    __syncwarp();
    unsigned at = (unsigned)__cvta_generic_to_shared(&tile[lane % 8 * 8]), fragment;
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(fragment) : "r"(at));
    *(unsigned *)(out + lane / 4 * 8 + lane % 4 * 2) = fragment;
}

int main()
{
    Array<__half> a(256), b(128), out(64);
    Array<float> c(128);
    for (int i = 0; i < 256; i++)
        a[i] = __float2half((float)((int)(random_bits() % 17) - 8));
    for (int i = 0; i < 128; i++)
        b[i] = __float2half((float)((int)(random_bits() % 17) - 8) * 0.5f);
    a.put();
    b.put();
    product<<<1, 32>>>(a.device, b.device, c.device);
    c.get();
    for (int i = 0; i < 128; i++) {
        float sum = 0;
        for (int k = 0; k < 16; k++)
            sum += __half2float(a[i / 8 * 16 + k]) * __half2float(b[i % 8 * 16 + k]);
        equal("halves", i, c[i], sum);
    }
    Array<signed char> x(128), y(128);
    Array<int> z(64);
    for (int i = 0; i < 128; i++)
        x[i] = (signed char)random_bits(), y[i] = (signed char)random_bits();
    x.put();
    y.put();
    bytes<<<1, 32>>>(x.device, y.device, z.device);
    z.get();
    for (int i = 0; i < 64; i++) {
        int sum = 5;
        for (int k = 0; k < 16; k++)
            sum += x[i / 8 * 16 + k] * y[i % 8 * 16 + k];
        equal("bytes", i, z[i], sum);
    }
    transposed<<<1, 32>>>(a.device, out.device);
    out.get();
    for (int i = 0; i < 64; i++)
        equal("transposed", i, __half2float(out[i]), __half2float(a[i % 8 * 8 + i / 8]));
    return finish(__FILE__);
}
