/* Matrix products of warps through the compiler's fragments: half, integers, bfloat16, tf32 and double. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include "check.h"

using namespace nvcuda;

__global__ void halves(const __half *a, const __half *b, float *c, int n, int k)
{
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
    int row = blockIdx.y * 16, column = blockIdx.x * 16;
    wmma::fill_fragment(fc, 1.0f);
    for (int at = 0; at < k; at += 16) {
        wmma::load_matrix_sync(fa, a + row * k + at, k);
        wmma::load_matrix_sync(fb, b + column * k + at, k);
        wmma::mma_sync(fc, fa, fb, fc);
    }
    for (int i = 0; i < fc.num_elements; i++)
        fc.x[i] *= 2.0f;
    wmma::store_matrix_sync(c + row * n + column, fc, n, wmma::mem_row_major);
}

__global__ void narrow_halves(const __half *a, const __half *b, __half *c)
{
    wmma::fragment<wmma::matrix_a, 32, 8, 16, __half, wmma::col_major> fa;
    wmma::fragment<wmma::matrix_b, 32, 8, 16, __half, wmma::row_major> fb;
    wmma::fragment<wmma::accumulator, 32, 8, 16, __half> fc;
    wmma::fill_fragment(fc, __float2half(0.0f));
    wmma::load_matrix_sync(fa, a, 32);
    wmma::load_matrix_sync(fb, b, 8);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(c, fc, 32, wmma::mem_col_major);
}

__global__ void bytes(const signed char *a, const signed char *b, int *c)
{
    wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::row_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, int> fc;
    wmma::fill_fragment(fc, 0);
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
}

/* Types that came with compute capability 8.0. */
__global__ void newer(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, const float *ta, const float *tb, float *tc,
                      const double *da, const double *db, double *dc, int *ran)
{
#if __CUDA_ARCH__ >= 800
    {
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> fa;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::row_major> fb;
        wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
        wmma::fill_fragment(fc, 0.0f);
        wmma::load_matrix_sync(fa, a, 16);
        wmma::load_matrix_sync(fb, b, 16);
        wmma::mma_sync(fc, fa, fb, fc);
        wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
    }
    {
        wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fa;
        wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fb;
        wmma::fragment<wmma::accumulator, 16, 16, 8, float> fc;
        wmma::fill_fragment(fc, 0.0f);
        wmma::load_matrix_sync(fa, ta, 8);
        wmma::load_matrix_sync(fb, tb, 16);
        for (int i = 0; i < fa.num_elements; i++)
            fa.x[i] = wmma::__float_to_tf32(fa.x[i]);
        for (int i = 0; i < fb.num_elements; i++)
            fb.x[i] = wmma::__float_to_tf32(fb.x[i]);
        wmma::mma_sync(fc, fa, fb, fc);
        wmma::store_matrix_sync(tc, fc, 16, wmma::mem_row_major);
    }
    {
        wmma::fragment<wmma::matrix_a, 8, 8, 4, double, wmma::row_major> fa;
        wmma::fragment<wmma::matrix_b, 8, 8, 4, double, wmma::col_major> fb;
        wmma::fragment<wmma::accumulator, 8, 8, 4, double> fc;
        wmma::fill_fragment(fc, 0.5);
        wmma::load_matrix_sync(fa, da, 4);
        wmma::load_matrix_sync(fb, db, 4);
        wmma::mma_sync(fc, fa, fb, fc);
        wmma::store_matrix_sync(dc, fc, 8, wmma::mem_row_major);
    }
    *ran = 1;
#else
    *ran = 0;
#endif
}

static int small() { return (int)(random_bits() % 9) - 4; }

int main()
{
    const int m = 48, n = 32, k = 64;
    Array<__half> a(m * k), b(n * k), hc(32 * 8);
    Array<float> c(m * n);
    for (int i = 0; i < m * k; i++)
        a[i] = __float2half((float)small());
    for (int i = 0; i < n * k; i++)
        b[i] = __float2half((float)small());
    a.put();
    b.put();
    halves<<<dim3(n / 16, m / 16), 32>>>(a.device, b.device, c.device, n, k);
    c.get();
    for (int i = 0; i < m * n; i++) {
        float sum = 1;
        for (int t = 0; t < k; t++)
            sum += __half2float(a[i / n * k + t]) * __half2float(b[i % n * k + t]);
        equal("half", i, c[i], 2 * sum);
    }
    narrow_halves<<<1, 32>>>(a.device, b.device, hc.device);
    hc.get();
    for (int i = 0; i < 32 * 8; i++) {
        int row = i % 32, column = i / 32;
        float sum = 0;
        for (int t = 0; t < 16; t++)
            sum += __half2float(a[t * 32 + row]) * __half2float(b[t * 8 + column]);
        equal("32 x 8", i, __half2float(hc[i]), sum);
    }
    Array<signed char> ba(256), bb(256);
    Array<int> bc(256), ran(1);
    Array<__nv_bfloat16> na(256), nb(256);
    Array<float> nc(256), ta(128), tb(128), tc(256);
    Array<double> da(32), db(32), dc(64);
    for (int i = 0; i < 256; i++) {
        ba[i] = (signed char)random_bits();
        bb[i] = (signed char)random_bits();
        na[i] = __float2bfloat16((float)small());
        nb[i] = __float2bfloat16((float)small());
    }
    for (int i = 0; i < 128; i++)
        ta[i] = (float)small() * 0.25f, tb[i] = (float)small();
    for (int i = 0; i < 32; i++)
        da[i] = small() * 0.1, db[i] = small();
    ba.put(), bb.put(), na.put(), nb.put(), ta.put(), tb.put(), da.put(), db.put();
    bytes<<<1, 32>>>(ba.device, bb.device, bc.device);
    bc.get();
    newer<<<1, 32>>>(na.device, nb.device, nc.device, ta.device, tb.device, tc.device, da.device, db.device, dc.device, ran.device);
    ran.get(), nc.get(), tc.get(), dc.get();
    for (int i = 0; i < 256; i++) {
        int row = i / 16, column = i % 16, sum = 0;
        float bf = 0, tf = 0;
        for (int t = 0; t < 16; t++) {
            sum += ba[row * 16 + t] * bb[t * 16 + column];
            bf += __bfloat162float(na[row * 16 + t]) * __bfloat162float(nb[t * 16 + column]);
        }
        for (int t = 0; t < 8; t++)
            tf += ta[row * 8 + t] * tb[t * 16 + column];
        equal("bytes", i, bc[i], sum);
        if (ran[0]) {
            equal("bfloat16", i, nc[i], bf);
            equal("tf32", i, tc[i], tf);
        }
    }
    if (ran[0])
        for (int i = 0; i < 64; i++) {
            double sum = 0.5;
            for (int t = 0; t < 4; t++)
                sum += da[i / 8 * 4 + t] * db[i % 8 * 4 + t];
            near("double", i, dc[i], sum, 1e-14);
        }
    return finish(__FILE__);
}
