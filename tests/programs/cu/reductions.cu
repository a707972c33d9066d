/* Sums, extremes and their places, over sizes that fill no block, in several types. */
#include "check.h"

enum { THREADS = 192 };

struct Best {
    double value;
    int place;
};

template <class T> struct Sum {
    static __host__ __device__ T start() { return T(0); }
    static __host__ __device__ T join(T a, T b) { return a + b; }
};

template <class T> struct Most {
    static __host__ __device__ T start() { return T(-1000000); }
    static __host__ __device__ T join(T a, T b) { return a > b ? a : b; }
};

struct First {
    static __host__ __device__ Best start() { return {1e300, 0x7fffffff}; }
    static __host__ __device__ Best join(Best a, Best b)
    {
        return a.value < b.value || (a.value == b.value && a.place < b.place) ? a : b;
    }
};

template <class T, class F> __device__ void reduce(T mine, T *out)
{
    __shared__ T shared[THREADS];
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (int n = THREADS; n > 1;) {
        int half = (n + 1) / 2;
        if (threadIdx.x + half < n)
            shared[threadIdx.x] = F::join(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
        n = half;
    }
    if (threadIdx.x == 0)
        out[blockIdx.x] = shared[0];
}

template <class T, class F> __global__ void all(const T *in, T *out, int n)
{
    T mine = F::start();
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS)
        mine = F::join(mine, in[i]);
    reduce<T, F>(mine, out);
}

__global__ void places(const double *in, Best *out, int n)
{
    Best mine = First::start();
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS)
        mine = First::join(mine, {in[i], i});
    reduce<Best, First>(mine, out);
}

template <class T> static void type(const char *name)
{
    for (int n : {1, 31, 192, 1000, 54321}) {
        Array<T> in(n), out(8), last(1);
        T sum = 0, most = Most<T>::start();
        for (int i = 0; i < n; i++) {
            in[i] = (T)((int)(random_bits() % 2000) - 1000) / 4;
            sum += in[i];
            most = in[i] > most ? in[i] : most;
        }
        in.put();
        all<T, Sum<T>><<<8, THREADS>>>(in.device, out.device, n);
        all<T, Sum<T>><<<1, THREADS>>>(out.device, last.device, 8);
        last.get();
        equal(name, n, last[0], sum);
        all<T, Most<T>><<<8, THREADS>>>(in.device, out.device, n);
        all<T, Most<T>><<<1, THREADS>>>(out.device, last.device, 8);
        last.get();
        equal(name, n, last[0], most);
    }
}

int main()
{
    type<int>("int");
    type<float>("float");
    type<double>("double");
    type<long long>("long long");
    const int n = 30000;
    Array<double> in(n);
    Array<Best> out(6);
    Best want = First::start();
    for (int i = 0; i < n; i++) {
        in[i] = (double)(random_bits() % 5000);
        want = First::join(want, {in[i], i});
    }
    in.put();
    places<<<6, THREADS>>>(in.device, out.device, n);
    out.get();
    Best got = out[0];
    for (int i = 1; i < 6; i++)
        got = First::join(got, out[i]);
    equal("least", 0, got.value, want.value);
    equal("its place", 0, got.place, want.place);
    return finish(__FILE__);
}
