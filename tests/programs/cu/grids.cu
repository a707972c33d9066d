/* Grids and blocks of all shapes, up to the device's limits. */
#include "check.h"

__global__ void places(unsigned *out)
{
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    unsigned i = block * threads + thread;
    out[i] = i * 3 + threadIdx.z + blockIdx.z * 7;
}

__global__ void count(unsigned long long *total)
{
    if (threadIdx.x == 0)
        atomicAdd(total, 1 + (blockIdx.x == gridDim.x - 1 ? 1000000000ull : 0));
}

static void shape(dim3 grid, dim3 block)
{
    size_t threads = (size_t)block.x * block.y * block.z, n = (size_t)grid.x * grid.y * grid.z * threads;
    Array<unsigned> out(n);
    places<<<grid, block>>>(out.device);
    out.get();
    for (size_t i = 0; i < n; i++) {
        unsigned z = (unsigned)(i % threads / (block.x * block.y)), bz = (unsigned)(i / threads / (grid.x * grid.y));
        equal("place", i, out[i], (unsigned)i * 3 + z + bz * 7);
    }
}

int main()
{
    shape(dim3(1), dim3(1));
    shape(dim3(7, 5, 3), dim3(4, 3, 2));
    shape(dim3(2, 2, 2), dim3(8, 8, 16));
    shape(dim3(3), dim3(1024));
    shape(dim3(1, 9), dim3(1, 1024));
    shape(dim3(2, 1, 4), dim3(3, 5, 64));
    shape(dim3(33, 1, 2), dim3(31, 33));
    shape(dim3(5), dim3(37));
    Array<unsigned long long> total(1);
    total.put();
    count<<<300000, 32>>>(total.device);
    total.get();
    equal("many blocks", 0, total[0], 300000 + 1000000000ull);
    total[0] = 0;
    total.put();
    count<<<dim3(1, 65535), 1>>>(total.device);
    total.get();
    equal("rows", 0, total[0], 65535 * 1000000001ull);
    count<<<dim3(1, 65536), 1>>>(total.device);
    GIVES(cudaGetLastError(), cudaErrorInvalidConfiguration);
    count<<<1, dim3(1, 1, 65)>>>(total.device);
    GIVES(cudaGetLastError(), cudaErrorInvalidConfiguration);
    count<<<1, dim3(1025)>>>(total.device);
    GIVES(cudaGetLastError(), cudaErrorInvalidConfiguration);
    count<<<1, dim3(32, 33)>>>(total.device);
    GIVES(cudaGetLastError(), cudaErrorInvalidConfiguration);
    return finish(__FILE__);
}
