/* Functions that call themselves and each other, with a stack that the program makes larger. */
#include "check.h"

__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

__device__ __noinline__ unsigned ackermann(unsigned m, unsigned n)
{
    if (m == 0)
        return n + 1;
    return n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

__device__ bool odd(int n);
__device__ __noinline__ bool even(int n) { return n == 0 ? true : odd(n - 1); }
__device__ __noinline__ bool odd(int n) { return n == 0 ? false : even(n - 1); }

__device__ __noinline__ void quick_sort(int *values, int low, int high)
{
    if (low >= high)
        return;
    int pivot = values[(low + high) / 2], i = low, j = high;
    while (i <= j) {
        while (values[i] < pivot)
            i++;
        while (values[j] > pivot)
            j--;
        if (i <= j) {
            int t = values[i];
            values[i++] = values[j];
            values[j--] = t;
        }
    }
    quick_sort(values, low, j);
    quick_sort(values, i, high);
}

__device__ __noinline__ int depth(int n)
{
    volatile int here[16];
    here[n % 16] = n;
    return n == 0 ? 0 : depth(n - 1) + (here[n % 16] == n);
}

__global__ void kernel(int *out, int *values, int length)
{
    int i = threadIdx.x, *o = out + i * 4;
    o[0] = fibonacci(i % 15);
    o[1] = ackermann(2, i % 6);
    o[2] = even(i) + 2 * odd(i);
    quick_sort(values + i * length, 0, length - 1);
    o[3] = depth(i);
}

int main()
{
    const int threads = 64, length = 50;
    NEED(cudaDeviceSetLimit(cudaLimitStackSize, 32 * 1024));
    size_t limit;
    NEED(cudaDeviceGetLimit(&limit, cudaLimitStackSize));
    HOLDS(limit >= 32 * 1024);
    Array<int> out(threads * 4), values(threads * length);
    long long sum = 0;
    for (int i = 0; i < threads * length; i++)
        sum += values[i] = (int)(random_bits() % 1000);
    values.put();
    kernel<<<1, threads>>>(out.device, values.device, length);
    out.get();
    values.get();
    int fib[16] = {0, 1};
    for (int i = 2; i < 16; i++)
        fib[i] = fib[i - 1] + fib[i - 2];
    for (int i = 0; i < threads; i++) {
        equal("fibonacci", i, out[i * 4], fib[i % 15]);
        equal("ackermann", i, out[i * 4 + 1], 2 * (i % 6) + 3);
        equal("even and odd", i, out[i * 4 + 2], i % 2 ? 2 : 1);
        equal("depth", i, out[i * 4 + 3], i);
        for (int k = 0; k < length; k++) {
            sum -= values[i * length + k];
            if (k && values[i * length + k - 1] > values[i * length + k])
                describe("order", i * length + k, values[i * length + k], values[i * length + k - 1]);
        }
    }
    equal("sum", 0, sum, 0LL);
    return finish(__FILE__);
}
