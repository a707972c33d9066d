/* More than 4 GiB of addresses: places that 32 bits cannot count. Only the pages that are touched take memory. */
#include "check.h"

__global__ void touch(unsigned char *at, const size_t *places, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        at[places[i]] = (unsigned char)(i + 1);
}

__global__ void stride(float *at, size_t columns, size_t rows, float *out)
{
    size_t row = threadIdx.x * (rows / blockDim.x), column = columns - 1;
    at[row * columns + column] = (float)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = at[(size_t)(blockDim.x - 1 - threadIdx.x) * (rows / blockDim.x) * columns + columns - 1];
}

int main()
{
    size_t free_bytes, total, bytes = ((size_t)4 << 30) + (64 << 20);
    NEED(cudaMemGetInfo(&free_bytes, &total));
    if (free_bytes < bytes + (256 << 20))
        return skip(__FILE__, "the device has less than 4.4 GiB free");
    unsigned char *at;
    NEED(cudaMalloc(&at, bytes));
    const int n = 64;
    Array<size_t> places(n);
    for (int i = 0; i < n; i++)
        places[i] = i == 0 ? bytes - 1 : i == 1 ? (size_t)1 << 32 : (bytes / n) * i + i;
    places.put();
    touch<<<1, n>>>(at, places.device, n);
    for (int i = 0; i < n; i++) {
        unsigned char value = 0;
        NEED(cudaMemcpy(&value, at + places[i], 1, cudaMemcpyDeviceToHost));
        equal<int>("place", i, value, i + 1);
    }
    Array<float> out(32);
    size_t columns = 1 << 20, rows = bytes / 4 / columns;
    stride<<<1, 32>>>((float *)at, columns, rows, out.device);
    out.get();
    for (int i = 0; i < 32; i++)
        equal("stride", i, out[i], (float)(31 - i));
    NEED(cudaFree(at));
    return finish(__FILE__);
}
