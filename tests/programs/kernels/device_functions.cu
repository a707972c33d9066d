// Functions that stay functions, one of them recursive.
__device__ __noinline__ int gcd(int a, int b)
{
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

__device__ __noinline__ unsigned fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

__device__ __noinline__ void divide(int a, int b, int *quotient, int *rest)
{
    *quotient = a / b;
    *rest = a % b;
}

extern "C" __global__ void device_functions(const int *in, int *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) {
        return;
    }
    int quotient, rest;
    divide(in[i], 7 + i % 5, &quotient, &rest);
    out[i * 4 + 0] = gcd(in[i], 360);
    out[i * 4 + 1] = (int)fibonacci(in[i] % 12);
    out[i * 4 + 2] = quotient;
    out[i * 4 + 3] = rest;
}
