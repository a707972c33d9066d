/* Memory that grows in place, by the driver's calls for addresses and memory apart, as allocators of frameworks do. */
#include <vector>

#include <cuda.h>

#include "check.h"

#if CUDART_VERSION >= 12050
template <class F> static F entry(const char *name, unsigned version)
{
    void *at = nullptr;
    cudaDriverEntryPointQueryResult result;
    NEED(cudaGetDriverEntryPointByVersion(name, &at, version, cudaEnableDefault, &result));
    if (result != cudaDriverEntryPointSuccess || !at) {
        printf("FAIL %s is not there\n", name);
        exit(1);
    }
    return (F)at;
}
#define ENTRY(name) static auto name##_ = entry<decltype(&name)>(#name, 12000)
#else
#error "this program needs CUDA 12.5 or newer"
#endif

#define DRIVER(call, expected)                                                                      \
    do {                                                                                            \
        CUresult driver_result = (call);                                                            \
        report(#call, driver_result == (expected), "error " + std::to_string(driver_result));       \
    } while (0)

__global__ void fill(int *at, size_t n, int value)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        at[i] = value;
}

__global__ void sum(const int *at, size_t n, unsigned long long *out)
{
    unsigned long long mine = 0;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        mine += at[i];
    atomicAdd(out, mine);
}

int main()
{
    NEED(cudaFree(0));
    ENTRY(cuMemGetAllocationGranularity);
    ENTRY(cuMemAddressReserve);
    ENTRY(cuMemAddressFree);
    ENTRY(cuMemCreate);
    ENTRY(cuMemRelease);
    ENTRY(cuMemMap);
    ENTRY(cuMemUnmap);
    ENTRY(cuMemSetAccess);
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    size_t piece = 0, reserved = (size_t)32 << 30;
    DRIVER(cuMemGetAllocationGranularity_(&piece, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM), CUDA_SUCCESS);
    HOLDS(piece > 0 && piece % 4096 == 0);
    piece = piece < (2 << 20) ? 2 << 20 : piece;
    size_t free_before, free_after, total;
    NEED(cudaMemGetInfo(&free_before, &total));
    CUdeviceptr base = 0;
    DRIVER(cuMemAddressReserve_(&base, reserved, 0, 0, 0), CUDA_SUCCESS);
    NEED(cudaMemGetInfo(&free_after, &total));
    HOLDS(free_before - free_after < (16 << 20)); /* addresses cost nothing */
    CUmemAccessDesc access = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    unsigned long long *out, host = 0, want = 0;
    NEED(cudaMalloc(&out, sizeof(*out)));
    std::vector<CUmemGenericAllocationHandle> handles;
    size_t size = 0;
    for (int step = 1; step <= 4; step++) {
        CUmemGenericAllocationHandle handle;
        size_t more = piece * step;
        DRIVER(cuMemCreate_(&handle, more, &prop, 0), CUDA_SUCCESS);
        DRIVER(cuMemMap_(base + size, more, 0, handle, 0), CUDA_SUCCESS);
        DRIVER(cuMemSetAccess_(base + size, more, &access, 1), CUDA_SUCCESS);
        handles.push_back(handle);
        fill<<<16, 128>>>((int *)(base + size), more / sizeof(int), step);
        size += more;
        want += more / sizeof(int) * step;
        /* What was there stays, at the same addresses, and one kernel sees all of it. */
        NEED(cudaMemset(out, 0, sizeof(*out)));
        sum<<<16, 128>>>((const int *)base, size / sizeof(int), out);
        NEED(cudaMemcpy(&host, out, sizeof(host), cudaMemcpyDeviceToHost));
        HOLDS(host == want);
    }
    /* A copy over the seam of two pieces. */
    std::vector<int> seam(2048);
    NEED(cudaMemcpy(seam.data(), (void *)(base + piece - 4096), seam.size() * sizeof(int), cudaMemcpyDeviceToHost));
    HOLDS(seam[0] == 1 && seam[1023] == 1 && seam[1024] == 2 && seam[2047] == 2);
    GIVES(cudaMemcpy(seam.data(), (void *)(base + size - 8), 16, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    cudaGetLastError();
    DRIVER(cuMemAddressFree_(base, reserved), CUDA_ERROR_INVALID_VALUE); /* something is mapped */
    DRIVER(cuMemUnmap_(base, size), CUDA_SUCCESS);
    for (auto handle : handles)
        DRIVER(cuMemRelease_(handle), CUDA_SUCCESS);
    DRIVER(cuMemAddressFree_(base, reserved), CUDA_SUCCESS);
    NEED(cudaFree(out));
    NEED(cudaDeviceSynchronize());
    NEED(cudaMemGetInfo(&free_after, &total));
    HOLDS(free_before - free_after < (16 << 20));
    return failures != 0;
}
