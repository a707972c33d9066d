/* Vectors, variables, errors and devices. */
#include <cstring>
#include <vector>

#include "check.h"

__global__ void add(const float *a, const float *b, float *c, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        c[i] = a[i] + b[i];
}

__device__ int counters[4] = {1, 2, 3, 4};
__constant__ float factor = 2.0f;

__global__ void count(float *out)
{
    counters[threadIdx.x] += 10;
    out[threadIdx.x] = factor * counters[threadIdx.x];
}

__global__ void fill_dynamic(int *out, int n)
{
    extern __shared__ int shared[];
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        shared[i] = i;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        out[i] = shared[n - 1 - i];
}

__global__ void stray(int *at)
{
    at[1 << 20] = 1;
}

static void vectors()
{
    const int n = 10000;
    std::vector<float> a(n), b(n), c(n);
    for (int i = 0; i < n; i++) {
        a[i] = i;
        b[i] = 2 * i;
    }
    float *da, *db, *dc;
    NEED(cudaMalloc(&da, n * sizeof(float)));
    NEED(cudaMalloc(&db, n * sizeof(float)));
    NEED(cudaMalloc(&dc, n * sizeof(float)));
    NEED(cudaMemcpy(da, a.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    NEED(cudaMemcpy(db, b.data(), n * sizeof(float), cudaMemcpyDefault));
    add<<<(n + 255) / 256, 256>>>(da, db, dc, n);
    NEED(cudaGetLastError());
    NEED(cudaMemcpy(c.data(), dc, n * sizeof(float), cudaMemcpyDeviceToHost));
    bool good = true;
    for (int i = 0; i < n; i++)
        good = good && c[i] == 3.0f * i;
    report("a kernel adds vectors", good, "wrong sums");

    NEED(cudaMemset(dc, 0, n * sizeof(float)));
    NEED(cudaMemcpy(da, dc, n * sizeof(float), cudaMemcpyDeviceToDevice));
    NEED(cudaMemcpy(c.data(), da, n * sizeof(float), cudaMemcpyDeviceToHost));
    good = true;
    for (int i = 0; i < n; i++)
        good = good && c[i] == 0.0f;
    report("cudaMemset and a copy on the device", good, "not zero");

    /* The same by a function pointer. */
    void *args[] = {&da, &db, &dc, (void *)&n};
    NEED(cudaLaunchKernel((const void *)add, dim3((n + 127) / 128), dim3(128), args, 0, 0));
    NEED(cudaDeviceSynchronize());
    NEED(cudaMemcpy(c.data(), dc, n * sizeof(float), cudaMemcpyDeviceToHost));
    HOLDS(c[7] == 14.0f);
    NEED(cudaFree(da));
    NEED(cudaFree(db));
    NEED(cudaFree(dc));
    GIVES(cudaFree(nullptr), cudaSuccess);
}

static void variables()
{
    float *out, host[4];
    int values[4];
    size_t size;
    void *at;

    NEED(cudaMalloc(&out, sizeof(host)));
    count<<<1, 4>>>(out);
    NEED(cudaMemcpy(host, out, sizeof(host), cudaMemcpyDeviceToHost));
    HOLDS(host[0] == 22.0f && host[3] == 28.0f);
    NEED(cudaMemcpyFromSymbol(values, counters, sizeof(values)));
    HOLDS(values[0] == 11 && values[3] == 14);
    int seven = 7;
    NEED(cudaMemcpyToSymbol(counters, &seven, sizeof(int), 2 * sizeof(int)));
    float three = 3.0f;
    NEED(cudaMemcpyToSymbolAsync(factor, &three, sizeof(float), 0, cudaMemcpyHostToDevice, 0));
    count<<<1, 4>>>(out);
    NEED(cudaMemcpy(host, out, sizeof(host), cudaMemcpyDeviceToHost));
    HOLDS(host[2] == 51.0f);
    NEED(cudaGetSymbolSize(&size, counters));
    HOLDS(size == sizeof(values));
    NEED(cudaGetSymbolAddress(&at, counters));
    NEED(cudaMemcpyFromSymbolAsync(values, counters, sizeof(int), 8, cudaMemcpyDeviceToHost, 0));
    NEED(cudaStreamSynchronize(0));
    HOLDS(values[0] == 17);
    NEED(cudaMemcpy(values, (int *)at + 2, sizeof(int), cudaMemcpyDeviceToHost));
    HOLDS(values[0] == 17);
    int unknown;
    GIVES(cudaGetSymbolAddress(&at, unknown), cudaErrorInvalidSymbol);
    GIVES(cudaMemcpyToSymbol(counters, values, 17), cudaErrorInvalidValue);
    GIVES(cudaMemcpyToSymbol(counters, values, 4, 0, cudaMemcpyDeviceToHost),
          cudaErrorInvalidMemcpyDirection);
    NEED(cudaFree(out));
    cudaGetLastError();
}

static void errors()
{
    void *at;
    HOLDS(cudaGetLastError() == cudaSuccess);
    GIVES(cudaSetDevice(99), cudaErrorInvalidDevice);
    HOLDS(cudaPeekAtLastError() == cudaErrorInvalidDevice);
    HOLDS(cudaGetLastError() == cudaErrorInvalidDevice);
    HOLDS(cudaGetLastError() == cudaSuccess);
    GIVES(cudaMalloc(&at, (size_t)1 << 60), cudaErrorMemoryAllocation);
    GIVES(cudaMemcpy(nullptr, nullptr, 4, (cudaMemcpyKind)9), cudaErrorInvalidMemcpyDirection);
    GIVES(cudaMalloc(nullptr, 4), cudaErrorInvalidValue);
    GIVES(cudaFree((void *)0x1234), cudaErrorInvalidValue);
    GIVES(cudaMalloc(&at, 0), cudaSuccess);
    HOLDS(at == nullptr);
    GIVES(cudaMemcpy2D(&at, 8, &at, 8, 16, 1, cudaMemcpyHostToHost), cudaErrorInvalidPitchValue);
    GIVES(cudaStreamDestroy((cudaStream_t)0x1234), cudaErrorInvalidResourceHandle);
    GIVES(cudaEventRecord((cudaEvent_t)0x1234), cudaErrorInvalidResourceHandle);
    cudaGetLastError();
    /* Errors of a launch show in cudaGetLastError alone. */
    add<<<1, 4096>>>(nullptr, nullptr, nullptr, 0);
    HOLDS(cudaGetLastError() == cudaErrorInvalidConfiguration);
    add<<<0, 32>>>(nullptr, nullptr, nullptr, 0);
    HOLDS(cudaGetLastError() == cudaErrorInvalidConfiguration);
    fill_dynamic<<<1, 32, 100000>>>(nullptr, 0);
    HOLDS(cudaGetLastError() == cudaErrorInvalidValue);
    GIVES(cudaLaunchKernel((const void *)&errors, dim3(1), dim3(1), nullptr, 0, 0),
          cudaErrorInvalidDeviceFunction);
    HOLDS(cudaGetLastError() == cudaErrorInvalidDeviceFunction);
    HOLDS(!strcmp(cudaGetErrorName(cudaErrorNotReady), "cudaErrorNotReady"));
    HOLDS(!strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory"));
    HOLDS(!strcmp(cudaGetErrorName((cudaError_t)12345), "unrecognized error code"));
}

static void functions()
{
    cudaFuncAttributes attributes;
    int blocks, *out;
    const int n = 16384; /* 64 KiB: more than a block has unless it asks for it */
    std::vector<int> host(n);

    NEED(cudaFuncGetAttributes(&attributes, (const void *)fill_dynamic));
    HOLDS(attributes.maxThreadsPerBlock == 1024);
    NEED(cudaFuncSetAttribute((const void *)fill_dynamic,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, n * sizeof(int)));
    NEED(cudaFuncGetAttributes(&attributes, (const void *)fill_dynamic));
    HOLDS(attributes.maxDynamicSharedSizeBytes == n * sizeof(int));
    NEED(cudaMalloc(&out, n * sizeof(int)));
    fill_dynamic<<<1, 256, n * sizeof(int)>>>(out, n);
    NEED(cudaGetLastError());
    NEED(cudaMemcpy(host.data(), out, n * sizeof(int), cudaMemcpyDeviceToHost));
    HOLDS(host[0] == n - 1 && host[n - 1] == 0);
    NEED(cudaFree(out));
    NEED(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add, 256, 0));
    HOLDS(blocks > 0 && blocks <= 32);
    NEED(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, fill_dynamic, 256,
                                                                 n * sizeof(int), 0));
    HOLDS(blocks >= 1 && blocks <= 3);
    GIVES(cudaFuncGetAttributes(&attributes, (const void *)&functions),
          cudaErrorInvalidDeviceFunction);
    cudaGetLastError();
}

static void devices()
{
    cudaDeviceProp prop;
    int count, device = -1, value, driver, runtime, can;
    size_t free_bytes, total, limit;
    char id[32];
    cudaPointerAttributes pointer;

    NEED(cudaGetDeviceCount(&count));
    HOLDS(count == 1);
    NEED(cudaGetDevice(&device));
    HOLDS(device == 0);
    NEED(cudaGetDeviceProperties(&prop, 0));
    NEED(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0));
    HOLDS(prop.multiProcessorCount == value);
    NEED(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    HOLDS(prop.sharedMemPerBlockOptin == (size_t)value);
    NEED(cudaDeviceGetAttribute(&value, cudaDevAttrClusterLaunch, 0));
    HOLDS(prop.clusterLaunch == value);
    HOLDS(prop.warpSize == 32 && prop.major >= 5 && prop.name[0]);
    NEED(cudaMemGetInfo(&free_bytes, &total));
    HOLDS(prop.totalGlobalMem == total && free_bytes <= total);
    NEED(cudaDeviceGetPCIBusId(id, sizeof(id), 0));
    unsigned domain, bus, slot;
    HOLDS(sscanf(id, "%x:%x:%x", &domain, &bus, &slot) == 3 && (int)bus == prop.pciBusID);
    NEED(cudaDeviceGetByPCIBusId(&device, id));
    HOLDS(device == 0);
    NEED(cudaDeviceCanAccessPeer(&can, 0, 0));
    HOLDS(can == 0);
    GIVES(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 7), cudaErrorInvalidDevice);
    GIVES(cudaDeviceGetAttribute(&value, (cudaDeviceAttr)-1, 0), cudaErrorInvalidValue);
    NEED(cudaDriverGetVersion(&driver));
    NEED(cudaRuntimeGetVersion(&runtime));
    HOLDS(driver >= runtime / 1000 * 1000);
    NEED(cudaDeviceGetLimit(&limit, cudaLimitStackSize));
    HOLDS(limit > 0);
    NEED(cudaChooseDevice(&device, &prop));
    HOLDS(device == 0);
    void *at;
    NEED(cudaMalloc(&at, 64));
    NEED(cudaPointerGetAttributes(&pointer, (char *)at + 8));
    HOLDS(pointer.type == cudaMemoryTypeDevice && pointer.device == 0 &&
          pointer.devicePointer == (char *)at + 8);
    NEED(cudaPointerGetAttributes(&pointer, &prop));
    HOLDS(pointer.type == cudaMemoryTypeUnregistered && pointer.devicePointer == nullptr);
    NEED(cudaFree(at));
    cudaGetLastError();
}

/* After a reset everything is made anew; the program's functions and variables work on. */
static void reset()
{
    int value = 0;
    NEED(cudaDeviceReset());
    NEED(cudaMemcpyFromSymbol(&value, counters, sizeof(int), 3 * sizeof(int)));
    HOLDS(value == 4);
    vectors();
}

/* An error of a kernel ends the context: every later call gives it, until a reset. */
static void sticky()
{
    int *at;
    NEED(cudaMalloc(&at, 4));
    stray<<<1, 1>>>(at);
    HOLDS(cudaGetLastError() == cudaSuccess);
    GIVES(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    HOLDS(cudaGetLastError() == cudaErrorIllegalAddress);
    GIVES(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    void *other;
    GIVES(cudaMalloc(&other, 4), cudaErrorIllegalAddress);
    NEED(cudaDeviceReset());
    cudaGetLastError();
    vectors();
}

int main()
{
    vectors();
    variables();
    errors();
    functions();
    devices();
    reset();
    sticky();
    return failures != 0;
}
