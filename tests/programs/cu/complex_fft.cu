/* A Fourier transform in shared memory, forth and back, in complex numbers of both sizes. */
#include <cuComplex.h>

#include "check.h"

enum { N = 256 };

__global__ void transform(cuDoubleComplex *data, double direction)
{
    __shared__ cuDoubleComplex s[N];
    int i = threadIdx.x;
    s[__brev(i) >> 24] = data[blockIdx.x * N + i];
    __syncthreads();
    for (int half = 1; half < N; half *= 2) {
        if (i < N / 2) {
            int group = i / half * half * 2 + i % half;
            double sine, cosine;
            sincospi(direction * (i % half) / half, &sine, &cosine);
            cuDoubleComplex w = cuCmul(s[group + half], make_cuDoubleComplex(cosine, sine)), u = s[group];
            s[group] = cuCadd(u, w);
            s[group + half] = cuCsub(u, w);
        }
        __syncthreads();
    }
    data[blockIdx.x * N + i] = s[i];
}

__global__ void divide(const cuFloatComplex *a, const cuFloatComplex *b, cuFloatComplex *out, float *sizes)
{
    int i = threadIdx.x;
    out[i] = cuCdivf(a[i], b[i]);
    sizes[i] = cuCabsf(a[i]);
}

int main()
{
    const int batches = 3;
    Array<cuDoubleComplex> data(N * batches), original(N * batches);
    for (int i = 0; i < N * batches; i++)
        data[i] = original[i] = make_cuDoubleComplex(random_unit() - 0.5, random_unit() - 0.5);
    data.put();
    transform<<<batches, N>>>(data.device, -1);
    data.get();
    for (int batch = 0; batch < batches; batch++)
        for (int k = 0; k < N; k += 37) {
            double re = 0, im = 0;
            for (int i = 0; i < N; i++) {
                double angle = -2 * 3.14159265358979323846 * ((k * i) % N) / N;
                cuDoubleComplex x = original[batch * N + i];
                re += x.x * cos(angle) - x.y * sin(angle);
                im += x.x * sin(angle) + x.y * cos(angle);
            }
            near("real", batch * N + k, data[batch * N + k].x, re, 1e-11);
            near("imaginary", batch * N + k, data[batch * N + k].y, im, 1e-11);
        }
    transform<<<batches, N>>>(data.device, 1);
    data.get();
    for (int i = 0; i < N * batches; i++)
        near("and back", i, data[i].x / N + data[i].y / N, original[i].x + original[i].y, 1e-12);
    Array<cuFloatComplex> a(64), b(64), out(64);
    Array<float> sizes(64);
    for (int i = 0; i < 64; i++) {
        a[i] = make_cuFloatComplex(random_unit() * 4 - 2, random_unit() * 4 - 2);
        b[i] = make_cuFloatComplex(random_unit() + 1, random_unit() - 2);
    }
    a.put();
    b.put();
    divide<<<1, 64>>>(a.device, b.device, out.device, sizes.device);
    out.get();
    sizes.get();
    for (int i = 0; i < 64; i++) {
        cuFloatComplex want = cuCdivf(a[i], b[i]);
        near("quotient", i, out[i].x, want.x, 1e-5);
        near("quotient", i, out[i].y, want.y, 1e-5);
        near("size", i, sizes[i], cuCabsf(a[i]), 1e-6);
    }
    return finish(__FILE__);
}
