/* nvcc: --extended-lambda -std=c++17 */
/* Templates, functions without a name, parameter packs and constants at compile time. */
#include "check.h"

template <class F> __global__ void for_each(int n, F f)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        f(i);
}

template <int N> struct Power {
    template <class T> static __host__ __device__ constexpr T of(T x)
    {
        if constexpr (N == 0)
            return T(1);
        else
            return x * Power<N - 1>::of(x);
    }
};

template <class... T> __host__ __device__ auto sum(T... values) { return (values + ...); }

__host__ __device__ constexpr int triangle(int n) { return n == 0 ? 0 : n + triangle(n - 1); }

template <class T, int ROWS, int COLUMNS> struct Matrix {
    T at[ROWS][COLUMNS];
    template <int OTHER> __host__ __device__ Matrix<T, ROWS, OTHER> operator*(const Matrix<T, COLUMNS, OTHER> &b) const
    {
        Matrix<T, ROWS, OTHER> c{};
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < OTHER; j++)
                for (int k = 0; k < COLUMNS; k++)
                    c.at[i][j] += at[i][k] * b.at[k][j];
        return c;
    }
};

template <class Functor> struct Twice {
    Functor f;
    __device__ int operator()(int x) const { return f(f(x)); }
};

int main()
{
    const int n = 1000;
    Array<int> out(n);
    int *to = out.device, factor = 3;
    for_each<<<4, 64>>>(n, [=] __device__(int i) { to[i] = i * factor + triangle(10); });
    out.get();
    for (int i = 0; i < n; i++)
        equal("captured", i, out[i], i * 3 + 55);
    for_each<<<4, 64>>>(n, [=] __device__(int i) {
        auto local = [&](int x) { return x + i; };
        to[i] = sum(i, local(1), Power<3>::of(i % 10), (int)sum(0.5f, 1.5, 'a'));
    });
    out.get();
    for (int i = 0; i < n; i++) {
        int d = i % 10;
        equal("packs", i, out[i], i + i + 1 + d * d * d + 99);
    }
    for_each<<<1, 32>>>(n, [=] __device__(int i) {
        Matrix<int, 2, 3> a{{{i, 1, 2}, {3, 4, i}}};
        Matrix<int, 3, 2> b{{{1, 2}, {3, i}, {5, 6}}};
        auto c = a * b;
        to[i] = c.at[0][0] + 10 * c.at[0][1] + 100 * c.at[1][0] + 1000 * c.at[1][1];
    });
    out.get();
    for (int i = 0; i < n; i++)
        equal("matrix", i, out[i], (i + 13) + 10 * (2 * i + i + 12) + 100 * (15 + 5 * i) + 1000 * (6 + 4 * i + 6 * i));
    auto plus = [] __host__ __device__(int x) { return x + 5; };
    Twice<decltype(plus)> twice{plus};
    for_each<<<1, 64>>>(n, [=] __device__(int i) { to[i] = twice(i); });
    out.get();
    for (int i = 0; i < n; i++)
        equal("functor", i, out[i], plus(plus(i)));
    return finish(__FILE__);
}
