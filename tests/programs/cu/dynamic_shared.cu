/* Shared memory whose size the launch names: of several types, beside fixed memory, and above 48 KiB. */
#include "check.h"

__global__ void mixed(int *out, int n)
{
    extern __shared__ double doubles[];
    __shared__ int fixed[32];
    int *ints = (int *)(doubles + n);
    char *chars = (char *)(ints + n);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        doubles[i] = i * 0.5;
        ints[i] = i * 3;
        chars[i] = (char)i;
    }
    if (threadIdx.x < 32)
        fixed[threadIdx.x] = 1000 + threadIdx.x;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        int j = n - 1 - i;
        out[i] = (int)(doubles[j] * 2) + ints[j] + chars[j] + fixed[i % 32];
    }
}

template <class T> __global__ void reversed(T *values, int n)
{
    extern __shared__ unsigned char bytes[];
    T *shared = reinterpret_cast<T *>(bytes);
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        shared[i] = values[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        values[i] = shared[n - 1 - i];
}

__global__ void sizes(unsigned *out)
{
    unsigned total, dynamic;
    asm volatile("mov.u32 %0, %%total_smem_size;" : "=r"(total));
    asm volatile("mov.u32 %0, %%dynamic_smem_size;" : "=r"(dynamic));
    out[0] = total;
    out[1] = dynamic;
}

template <class T> static void large(int n)
{
    Array<T> values(n);
    for (int i = 0; i < n; i++)
        values[i] = (T)i;
    values.put();
    size_t bytes = n * sizeof(T);
    if (bytes > 48 * 1024) {
        reversed<T><<<1, 256, bytes>>>(values.device, n);
        GIVES(cudaGetLastError(), cudaErrorInvalidValue);
        NEED(cudaFuncSetAttribute(reversed<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    }
    reversed<T><<<1, 256, bytes>>>(values.device, n);
    values.get();
    for (int i = 0; i < n; i++)
        equal("reversed", i, values[i], (T)(n - 1 - i));
}

int main()
{
    for (int n : {1, 100, 1000}) {
        Array<int> out(n);
        mixed<<<1, 128, n * 13>>>(out.device, n);
        out.get();
        for (int i = 0; i < n; i++) {
            int j = n - 1 - i;
            equal("mixed", i, out[i], j + j * 3 + (char)j + 1000 + i % 32);
        }
    }
    large<short>(1000);
    large<int>(16 * 1024);
    large<double>(8 * 1024);
    Array<unsigned> out(2);
    sizes<<<1, 1, 3000>>>(out.device);
    out.get();
    HOLDS(out[1] == 3000 && out[0] >= 3000);
    return finish(__FILE__);
}
