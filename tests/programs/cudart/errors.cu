/* What must fail in the runtime API, and how: the error that its reference documents. */
#include <climits>
#include <cstring>
#include <vector>

#include "check.h"

__global__ void nothing() {}
__global__ void touch(int *at)
{
    if (at)
        *at = 1;
}

__device__ int table[4];

static bool one_of(cudaError_t error, std::initializer_list<cudaError_t> expected)
{
    for (cudaError_t e : expected)
        if (e == error)
            return true;
    return false;
}

/* Handles that name nothing: the reference has no word for which of these it is. */
#define NO_HANDLE(call)                                                                        \
    do {                                                                                       \
        cudaError_t got = (call);                                                              \
        report(#call, one_of(got, {cudaErrorInvalidResourceHandle, cudaErrorInvalidValue,      \
                                   cudaErrorContextIsDestroyed}),                              \
               cudaGetErrorName(got));                                                         \
    } while (0)

static void null_pointers()
{
    void *memory;
    NEED(cudaMalloc(&memory, 64));
    GIVES(cudaMalloc((void **)nullptr, 16), cudaErrorInvalidValue);
    GIVES(cudaGetDeviceCount(nullptr), cudaErrorInvalidValue);
    GIVES(cudaGetDevice(nullptr), cudaErrorInvalidValue);
    GIVES(cudaGetDeviceProperties(nullptr, 0), cudaErrorInvalidValue);
    GIVES(cudaDeviceGetAttribute(nullptr, cudaDevAttrWarpSize, 0), cudaErrorInvalidValue);
    GIVES(cudaDriverGetVersion(nullptr), cudaErrorInvalidValue);
    GIVES(cudaRuntimeGetVersion(nullptr), cudaErrorInvalidValue);
    GIVES(cudaStreamCreate(nullptr), cudaErrorInvalidValue);
    GIVES(cudaEventCreate((cudaEvent_t *)nullptr), cudaErrorInvalidValue);
    GIVES(cudaPointerGetAttributes(nullptr, memory), cudaErrorInvalidValue);
    GIVES(cudaFuncGetAttributes(nullptr, (const void *)nothing), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(memory, nullptr, 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(nullptr, memory, 16, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    GIVES(cudaMemset(nullptr, 0, 16), cudaErrorInvalidValue);
    GIVES(cudaGraphCreate(nullptr, 0), cudaErrorInvalidValue);
    GIVES(cudaStreamIsCapturing(0, nullptr), cudaErrorInvalidValue);
    GIVES(cudaOccupancyMaxActiveBlocksPerMultiprocessor(nullptr, nothing, 32, 0), cudaErrorInvalidValue);
    NEED(cudaFree(memory));
}

static void numbers()
{
    int value;
    size_t size;
    cudaDeviceProp properties;
    for (int device : {99, -1, INT_MAX}) {
        GIVES(cudaSetDevice(device), cudaErrorInvalidDevice);
        GIVES(cudaGetDeviceProperties(&properties, device), cudaErrorInvalidDevice);
        GIVES(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, device), cudaErrorInvalidDevice);
    }
    GIVES(cudaDeviceGetAttribute(&value, (cudaDeviceAttr)9999, 0), cudaErrorInvalidValue);
    GIVES(cudaDeviceSetCacheConfig((cudaFuncCache)9), cudaErrorInvalidValue);
    /* Both are documented, and which is for what is not said. */
    HOLDS(one_of(cudaDeviceGetLimit(&size, (cudaLimit)99), {cudaErrorUnsupportedLimit, cudaErrorInvalidValue}));
    HOLDS(one_of(cudaDeviceSetLimit((cudaLimit)99, 1), {cudaErrorUnsupportedLimit, cudaErrorInvalidValue}));
    GIVES(cudaSetDeviceFlags(0xff00), cudaErrorInvalidValue);
    cudaStream_t stream;
    cudaEvent_t event;
    GIVES(cudaStreamCreateWithFlags(&stream, 77), cudaErrorInvalidValue);
    GIVES(cudaEventCreateWithFlags(&event, 0x80), cudaErrorInvalidValue);
    GIVES(cudaEventCreateWithFlags(&event, cudaEventInterprocess), cudaErrorInvalidValue);
    cudaStreamCaptureMode mode = (cudaStreamCaptureMode)9;
    GIVES(cudaThreadExchangeStreamCaptureMode(&mode), cudaErrorInvalidValue);
    HOLDS(strcmp(cudaGetErrorName((cudaError_t)12345), "unrecognized error code") == 0);
    HOLDS(strcmp(cudaGetErrorString((cudaError_t)12345), "unrecognized error code") == 0);
    char id[64];
    GIVES(cudaDeviceGetPCIBusId(id, 4, 0), cudaErrorInvalidValue);
    GIVES(cudaDeviceGetByPCIBusId(&value, "no such place"), cudaErrorInvalidValue);
    GIVES(cudaDeviceGetByPCIBusId(&value, "ffff:ff:1f.0"), cudaErrorInvalidDevice);
    /* A device is no peer of itself. */
    GIVES(cudaDeviceEnablePeerAccess(0, 0), cudaErrorInvalidDevice);
    GIVES(cudaDeviceEnablePeerAccess(7, 0), cudaErrorInvalidDevice);
    GIVES(cudaDeviceDisablePeerAccess(7), cudaErrorInvalidDevice);
}

static void memory()
{
    const size_t far = 64 << 20;
    std::vector<char> host(far);
    char *at, *none = (char *)8;
    size_t free_bytes, total;
    NEED(cudaMemGetInfo(&free_bytes, &total));
    GIVES(cudaMalloc(&at, 0), cudaSuccess);
    HOLDS(at == nullptr);
    GIVES(cudaMalloc(&at, total + 1), cudaErrorMemoryAllocation);
    GIVES(cudaMalloc(&at, SIZE_MAX), cudaErrorMemoryAllocation);
    NEED(cudaMalloc(&at, 1000));
    GIVES(cudaMemcpy(at, host.data(), far, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(host.data(), at, far, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(host.data(), none, 16, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(at, host.data(), (size_t)-1, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(at, host.data(), 16, (cudaMemcpyKind)9), cudaErrorInvalidMemcpyDirection);
    GIVES(cudaMemcpyAsync(at, host.data(), 16, (cudaMemcpyKind)-1, 0), cudaErrorInvalidMemcpyDirection);
    GIVES(cudaMemcpy2D(at, 8, host.data(), 16, 16, 2, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
    GIVES(cudaMemcpy2D(at, 16, host.data(), 8, 16, 2, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
    cudaError_t set = cudaMemset(at, 1, far);
    if (set == cudaSuccess)
        set = cudaDeviceSynchronize();
    report("cudaMemset past the end", set == cudaErrorInvalidValue, cudaGetErrorName(set));
    GIVES(cudaFree(at + 256), cudaErrorInvalidValue);
    GIVES(cudaFree(host.data()), cudaErrorInvalidValue);
    GIVES(cudaFree(at), cudaSuccess);
    GIVES(cudaFree(at), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(host.data(), at, 16, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    cudaGetLastError();

    /* All of it, and then one allocation too many; what was there is unharmed. */
    std::vector<char *> all;
    cudaError_t last = cudaSuccess;
    while (all.size() < 4096 && (last = cudaMalloc(&at, total / 8)) == cudaSuccess)
        all.push_back(at);
    report("memory runs out", last == cudaErrorMemoryAllocation && all.size() >= 4, cudaGetErrorName(last));
    NEED(cudaMemset(all[0], 7, 16));
    NEED(cudaMemcpy(host.data(), all[0], 16, cudaMemcpyDeviceToHost));
    HOLDS(host[15] == 7);
    for (char *p : all)
        NEED(cudaFree(p));
    cudaGetLastError();
}

static void symbols()
{
    int value = 0;
    void *at;
    size_t size;
    GIVES(cudaGetSymbolAddress(&at, (const void *)&value), cudaErrorInvalidSymbol);
    GIVES(cudaGetSymbolSize(&size, (const void *)&value), cudaErrorInvalidSymbol);
    GIVES(cudaMemcpyToSymbol((const void *)&value, &value, 4, 0, cudaMemcpyHostToDevice), cudaErrorInvalidSymbol);
    GIVES(cudaMemcpyToSymbol(table, &value, sizeof table + 1), cudaErrorInvalidValue);
    GIVES(cudaMemcpyToSymbol(table, &value, 4, sizeof table), cudaErrorInvalidValue);
    GIVES(cudaMemcpyToSymbol(table, &value, 4, 0, cudaMemcpyDeviceToHost), cudaErrorInvalidMemcpyDirection);
}

static void handles()
{
    cudaStream_t stream;
    cudaEvent_t event, other;
    float time;
    NEED(cudaStreamCreate(&stream));
    NEED(cudaStreamDestroy(stream));
    NO_HANDLE(cudaStreamSynchronize(stream));
    NO_HANDLE(cudaStreamQuery(stream));
    NO_HANDLE(cudaStreamDestroy(stream));
    NO_HANDLE(cudaStreamDestroy(nullptr));
    touch<<<1, 1, 0, stream>>>(nullptr);
    NO_HANDLE(cudaGetLastError());
    NEED(cudaEventCreate(&event));
    NEED(cudaEventCreate(&other));
    GIVES(cudaEventElapsedTime(&time, event, other), cudaErrorInvalidResourceHandle);
    NEED(cudaEventDestroy(event));
    NO_HANDLE(cudaEventDestroy(event));
    NO_HANDLE(cudaEventQuery(event));
    NO_HANDLE(cudaEventSynchronize(event));
    NO_HANDLE(cudaEventRecord(event, 0));
    NO_HANDLE(cudaEventRecord(nullptr, 0));
    NO_HANDLE(cudaStreamWaitEvent(0, event, 0));
    GIVES(cudaStreamWaitEvent(0, other, 9), cudaErrorInvalidValue);
    NEED(cudaEventDestroy(other));
    NEED(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    NEED(cudaEventRecord(event, 0));
    NEED(cudaEventSynchronize(event));
    GIVES(cudaEventElapsedTime(&time, event, event), cudaErrorInvalidResourceHandle);
    NEED(cudaEventDestroy(event));
    cudaGetLastError();
}

static void launches()
{
    nothing<<<0, 1>>>();
    GIVES(cudaGetLastError(), cudaErrorInvalidConfiguration);
    nothing<<<1, 0>>>();
    GIVES(cudaGetLastError(), cudaErrorInvalidConfiguration);
    nothing<<<1, 1025>>>();
    GIVES(cudaGetLastError(), cudaErrorInvalidConfiguration);
    nothing<<<dim3(1, 1, 70000), 1>>>();
    GIVES(cudaGetLastError(), cudaErrorInvalidConfiguration);
    nothing<<<1, 1, 1 << 24>>>();
    GIVES(cudaGetLastError(), cudaErrorInvalidValue);
    int value;
    GIVES(cudaLaunchKernel((const void *)&value, dim3(1), dim3(1), nullptr, 0, 0), cudaErrorInvalidDeviceFunction);
    cudaFuncAttributes attributes;
    GIVES(cudaFuncGetAttributes(&attributes, (const void *)&value), cudaErrorInvalidDeviceFunction);
    GIVES(cudaFuncSetAttribute((const void *)nothing, (cudaFuncAttribute)99, 1), cudaErrorInvalidValue);
    GIVES(cudaFuncSetAttribute((const void *)nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 24),
          cudaErrorInvalidValue);
    GIVES(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, nothing, 0, 0), cudaErrorInvalidValue);
    /* A launch that failed leaves nothing behind. */
    cudaGetLastError();
    nothing<<<1, 1>>>();
    GIVES(cudaDeviceSynchronize(), cudaSuccess);
}

static void captures()
{
    cudaStream_t stream;
    cudaGraph_t graph = nullptr;
    void *at;
    NEED(cudaStreamCreate(&stream));
    GIVES(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);
    GIVES(cudaStreamBeginCapture(0, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
    GIVES(cudaStreamBeginCapture(stream, (cudaStreamCaptureMode)9), cudaErrorInvalidValue);
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    GIVES(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
    GIVES(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
    GIVES(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    HOLDS(graph == nullptr);
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    GIVES(cudaMalloc(&at, 16), cudaErrorStreamCaptureUnsupported);
    GIVES(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    NEED(cudaStreamDestroy(stream));
    cudaGetLastError();
}

/* What is not there says so. */
static void unsupported()
{
    cudaArray_t array;
    cudaChannelFormatDesc format = cudaCreateChannelDesc(32, 0, 0, 0, cudaChannelFormatKindFloat);
    HOLDS(format.x == 32 && format.f == cudaChannelFormatKindFloat);
    GIVES(cudaMallocArray(&array, &format, 16, 16), cudaErrorNotSupported);
    cudaTextureObject_t texture;
    cudaResourceDesc resource = {};
    cudaTextureDesc description = {};
    GIVES(cudaCreateTextureObject(&texture, &resource, &description, nullptr), cudaErrorNotSupported);
    void *memory;
    cudaIpcMemHandle_t handle;
    NEED(cudaMalloc(&memory, 16));
    GIVES(cudaIpcGetMemHandle(&handle, memory), cudaErrorNotSupported);
    NEED(cudaFree(memory));
    cudaGetLastError();
}

/* An error stays until it is asked for; a call that succeeds does not take it away. */
static void last_error()
{
    void *at;
    GIVES(cudaSetDevice(99), cudaErrorInvalidDevice);
    NEED(cudaMalloc(&at, 16));
    NEED(cudaFree(at));
    GIVES(cudaPeekAtLastError(), cudaErrorInvalidDevice);
    GIVES(cudaPeekAtLastError(), cudaErrorInvalidDevice);
    GIVES(cudaGetLastError(), cudaErrorInvalidDevice);
    GIVES(cudaGetLastError(), cudaSuccess);
}

/* What belonged to the device before a reset is gone. */
static void after_reset()
{
    char *at, value;
    cudaStream_t stream;
    cudaEvent_t event;
    NEED(cudaMalloc(&at, 16));
    NEED(cudaStreamCreate(&stream));
    NEED(cudaEventCreate(&event));
    NEED(cudaDeviceReset());
    GIVES(cudaMemcpy(&value, at, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    NO_HANDLE(cudaStreamSynchronize(stream));
    NO_HANDLE(cudaEventRecord(event, 0));
    cudaGetLastError();
    NEED(cudaMalloc(&at, 16));
    NEED(cudaFree(at));
}

int main()
{
    null_pointers();
    numbers();
    memory();
    symbols();
    handles();
    launches();
    captures();
    unsupported();
    last_error();
    after_reset();
    return failures != 0;
}
