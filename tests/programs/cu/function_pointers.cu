/* Pointers to functions: in tables, given from the program, and different ones in one warp. */
#include "check.h"

typedef int (*Operation)(int, int);

__device__ int add(int a, int b) { return a + b; }
__device__ int subtract(int a, int b) { return a - b; }
__device__ int multiply(int a, int b) { return a * b; }
__device__ __noinline__ int mix(int a, int b)
{
    int sum = 0;
    for (int i = 0; i < (b & 7); i++)
        sum += a ^ i;
    return sum;
}

__device__ Operation table[4] = {add, subtract, multiply, mix};
__device__ Operation chosen = multiply;

static int on_host(int which, int a, int b)
{
    int sum = 0;
    switch (which) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    }
    for (int i = 0; i < (b & 7); i++)
        sum += a ^ i;
    return sum;
}

__global__ void each_its_own(int *out)
{
    int i = threadIdx.x;
    out[i] = table[i % 4](i, i + 3);
}

__global__ void given(int *out, Operation operation)
{
    out[threadIdx.x] = operation(threadIdx.x, 7);
}

template <class F> __device__ __noinline__ int twice(F f, int x) { return f(f(x, 1), 2); }

__global__ void passed_on(int *out)
{
    Operation f = threadIdx.x % 2 ? add : multiply;
    out[threadIdx.x] = twice(f, threadIdx.x);
}

int main()
{
    const int threads = 96;
    Array<int> out(threads);
    each_its_own<<<1, threads>>>(out.device);
    out.get();
    for (int i = 0; i < threads; i++)
        equal("of a table", i, out[i], on_host(i % 4, i, i + 3));
    Operation operation;
    NEED(cudaMemcpyFromSymbol(&operation, chosen, sizeof(operation)));
    given<<<1, threads>>>(out.device, operation);
    out.get();
    for (int i = 0; i < threads; i++)
        equal("given", i, out[i], i * 7);
    Operation operations[4];
    NEED(cudaMemcpyFromSymbol(operations, table, sizeof(operations)));
    for (int which = 0; which < 4; which++) {
        given<<<1, threads>>>(out.device, operations[which]);
        out.get();
        for (int i = 0; i < threads; i++)
            equal("given by table", which * 1000 + i, out[i], on_host(which, i, 7));
    }
    passed_on<<<1, threads>>>(out.device);
    out.get();
    for (int i = 0; i < threads; i++)
        equal("passed on", i, out[i], i % 2 ? i + 3 : i * 2);
    return finish(__FILE__);
}
