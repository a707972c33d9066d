/* What must fail in the runtime API, and how: the error that its reference documents. */
#include <climits>
#include <cstdint>
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

/* A row: the result, and the call with what is bad about it. `cargo xtask test --only abi` compares each with the comments of
   NVIDIA's headers: the function's own comment names the result of BAD; that of BEYOND stands in the list of all results, and
   the last words are what that says of it. */
#define BAD(expected, call) GIVES(call, expected)
#define BEYOND(expected, call, why) GIVES(call, expected)

static void null_pointers()
{
    void *memory;
    NEED(cudaMalloc(&memory, 64));
    BAD(cudaErrorInvalidValue, cudaMalloc((void **)nullptr, 16));
    BEYOND(cudaErrorInvalidValue, cudaGetDeviceCount(nullptr), "a parameter is not acceptable");
    BAD(cudaErrorInvalidValue, cudaGetDevice(nullptr));
    BEYOND(cudaErrorInvalidValue, cudaGetDeviceProperties(nullptr, 0), "a parameter is not acceptable");
    BAD(cudaErrorInvalidValue, cudaDeviceGetAttribute(nullptr, cudaDevAttrWarpSize, 0));
    BAD(cudaErrorInvalidValue, cudaDriverGetVersion(nullptr));
    BAD(cudaErrorInvalidValue, cudaRuntimeGetVersion(nullptr));
    BAD(cudaErrorInvalidValue, cudaStreamCreate(nullptr));
    BAD(cudaErrorInvalidValue, cudaEventCreate((cudaEvent_t *)nullptr));
    BAD(cudaErrorInvalidValue, cudaPointerGetAttributes(nullptr, memory));
    BEYOND(cudaErrorInvalidValue, cudaFuncGetAttributes(nullptr, (const void *)nothing),
           "a parameter is not acceptable");
    BAD(cudaErrorInvalidValue, cudaMemcpy(memory, nullptr, 16, cudaMemcpyHostToDevice));
    BAD(cudaErrorInvalidValue, cudaMemcpy(nullptr, memory, 16, cudaMemcpyDeviceToHost));
    BAD(cudaErrorInvalidValue, cudaMemset(nullptr, 0, 16));
    BAD(cudaErrorInvalidValue, cudaGraphCreate(nullptr, 0));
    BAD(cudaErrorInvalidValue, cudaStreamIsCapturing(0, nullptr));
    BAD(cudaErrorInvalidValue, cudaOccupancyMaxActiveBlocksPerMultiprocessor(nullptr, nothing, 32, 0));
    NEED(cudaFree(memory));
}

static void numbers()
{
    int value;
    size_t size;
    cudaDeviceProp properties;
    for (int device : {99, -1, INT_MAX}) {
        BAD(cudaErrorInvalidDevice, cudaSetDevice(device));
        BAD(cudaErrorInvalidDevice, cudaGetDeviceProperties(&properties, device));
        BAD(cudaErrorInvalidDevice, cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, device));
    }
    BAD(cudaErrorInvalidValue, cudaDeviceGetAttribute(&value, (cudaDeviceAttr)9999, 0));
    BEYOND(cudaErrorInvalidValue, cudaDeviceSetCacheConfig((cudaFuncCache)9), "a parameter is not acceptable");
    BAD(cudaErrorInvalidValue, cudaDeviceGetLimit(&size, (cudaLimit)99));
    BAD(cudaErrorInvalidValue, cudaDeviceSetLimit((cudaLimit)99, 1));
    BAD(cudaErrorInvalidValue, cudaSetDeviceFlags(0xff00));
    cudaStream_t stream;
    cudaEvent_t event;
    BAD(cudaErrorInvalidValue, cudaStreamCreateWithFlags(&stream, 77));
    BAD(cudaErrorInvalidValue, cudaEventCreateWithFlags(&event, 0x80));
    BAD(cudaErrorInvalidValue, cudaEventCreateWithFlags(&event, cudaEventInterprocess));
    cudaStreamCaptureMode mode = (cudaStreamCaptureMode)9;
    BAD(cudaErrorInvalidValue, cudaThreadExchangeStreamCaptureMode(&mode));
    HOLDS(strcmp(cudaGetErrorName((cudaError_t)12345), "unrecognized error code") == 0);
    HOLDS(strcmp(cudaGetErrorString((cudaError_t)12345), "unrecognized error code") == 0);
    char id[64];
    BAD(cudaErrorInvalidValue, cudaDeviceGetPCIBusId(id, 4, 0));
    BAD(cudaErrorInvalidValue, cudaDeviceGetByPCIBusId(&value, "no such place"));
    BAD(cudaErrorInvalidDevice, cudaDeviceGetByPCIBusId(&value, "ffff:ff:1f.0"));
    /* A device is no peer of itself. */
    BAD(cudaErrorInvalidDevice, cudaDeviceEnablePeerAccess(0, 0));
    BAD(cudaErrorInvalidDevice, cudaDeviceEnablePeerAccess(7, 0));
    BAD(cudaErrorInvalidDevice, cudaDeviceDisablePeerAccess(7));
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
    BAD(cudaErrorMemoryAllocation, cudaMalloc(&at, total + 1));
    BAD(cudaErrorMemoryAllocation, cudaMalloc(&at, SIZE_MAX));
    NEED(cudaMalloc(&at, 1000));
    BAD(cudaErrorInvalidValue, cudaMemcpy(at, host.data(), far, cudaMemcpyHostToDevice));
    BAD(cudaErrorInvalidValue, cudaMemcpy(host.data(), at, far, cudaMemcpyDeviceToHost));
    BAD(cudaErrorInvalidValue, cudaMemcpy(host.data(), none, 16, cudaMemcpyDeviceToHost));
    BAD(cudaErrorInvalidValue, cudaMemcpy(at, host.data(), (size_t)-1, cudaMemcpyHostToDevice));
    BAD(cudaErrorInvalidMemcpyDirection, cudaMemcpy(at, host.data(), 16, (cudaMemcpyKind)9));
    BAD(cudaErrorInvalidMemcpyDirection, cudaMemcpyAsync(at, host.data(), 16, (cudaMemcpyKind)-1, 0));
    BAD(cudaErrorInvalidPitchValue, cudaMemcpy2D(at, 8, host.data(), 16, 16, 2, cudaMemcpyHostToDevice));
    BAD(cudaErrorInvalidPitchValue, cudaMemcpy2D(at, 16, host.data(), 8, 16, 2, cudaMemcpyHostToDevice));
    cudaError_t set = cudaMemset(at, 1, far);
    if (set == cudaSuccess)
        set = cudaDeviceSynchronize();
    report("cudaMemset past the end", set == cudaErrorInvalidValue, cudaGetErrorName(set));
    BAD(cudaErrorInvalidValue, cudaFree(at + 256));
    BAD(cudaErrorInvalidValue, cudaFree(host.data()));
    GIVES(cudaFree(at), cudaSuccess);
    BAD(cudaErrorInvalidValue, cudaFree(at));
    BAD(cudaErrorInvalidValue, cudaMemcpy(host.data(), at, 16, cudaMemcpyDeviceToHost));
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

/* Memory of the host, of pools, and of both sides. */
static void other_memory()
{
    void *at, *device;
    size_t pitch, free_bytes, total;
    char own[64];
    cudaMemPool_t pool;
    cudaMemPoolProps props = {};
    int value = 0;
    NEED(cudaMemGetInfo(&free_bytes, &total));
    BAD(cudaErrorInvalidValue, cudaHostAlloc((void **)nullptr, 16, 0));
    BAD(cudaErrorInvalidValue, cudaHostAlloc(&at, 16, 0x80));
    BAD(cudaErrorMemoryAllocation, cudaHostAlloc(&at, (size_t)1 << 46, 0));
    BAD(cudaErrorInvalidValue, cudaHostGetDevicePointer(&device, own, 0));
    NEED(cudaMallocHost(&at, 64));
    NEED(cudaFreeHost(at));
    BAD(cudaErrorInvalidValue, cudaFreeHost(at));
    BAD(cudaErrorInvalidValue, cudaFreeHost(own));
    BAD(cudaErrorInvalidValue, cudaMallocManaged((void **)nullptr, 16));
    BAD(cudaErrorInvalidValue, cudaMallocManaged(&at, 0));
    BAD(cudaErrorInvalidValue, cudaMallocManaged(&at, 16, 9));
    BAD(cudaErrorMemoryAllocation, cudaMallocManaged(&at, (size_t)1 << 46));
    BAD(cudaErrorInvalidValue, cudaMallocPitch(&at, (size_t *)nullptr, 16, 2));
    BAD(cudaErrorMemoryAllocation, cudaMallocPitch(&at, &pitch, total, 2));
    BAD(cudaErrorInvalidValue, cudaMallocAsync((void **)nullptr, 16, 0));
    BEYOND(cudaErrorMemoryAllocation, cudaMallocAsync(&at, total + 1, 0),
           "not enough memory; the reference says cudaErrorOutOfMemory here, which no header has");
    BAD(cudaErrorInvalidValue, cudaFreeAsync(own, 0));
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    BAD(cudaErrorInvalidValue, cudaMemPoolCreate(nullptr, &props));
    NEED(cudaMemPoolCreate(&pool, &props));
    BAD(cudaErrorInvalidValue, cudaMemPoolSetAttribute(pool, (cudaMemPoolAttr)99, &value));
    NEED(cudaMemPoolDestroy(pool));
    BAD(cudaErrorInvalidValue, cudaMemPoolDestroy(pool));
    BAD(cudaErrorInvalidValue, cudaMemPoolTrimTo(pool, 0));
    cudaGetLastError();

    /* "The memory areas may not overlap": what comes of it is not said, but that other memory stays as it is. */
    unsigned char bytes[192], after[192];
    bool good = true;
    for (int i = 0; i < 192; i++)
        bytes[i] = i;
    NEED(cudaMalloc(&at, sizeof bytes));
    NEED(cudaMemcpy(at, bytes, sizeof bytes, cudaMemcpyHostToDevice));
    (void)cudaMemcpy((char *)at + 68, (char *)at + 64, 32, cudaMemcpyDeviceToDevice);
    NEED(cudaMemcpy(after, at, sizeof after, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 192; i++)
        good = good && (after[i] == i || (i >= 68 && i < 100));
    report("memory around an overlapping copy", good, "has changed");
    NEED(cudaFree(at));
    cudaGetLastError();
}

static void graphs()
{
    cudaGraph_t graph, clone;
    cudaGraphExec_t exec;
    cudaGraphNode_t node;
    NEED(cudaGraphCreate(&graph, 0));
    BAD(cudaErrorInvalidValue, cudaGraphCreate(&clone, 1));
    BAD(cudaErrorInvalidValue, cudaGraphClone(nullptr, graph));
    BAD(cudaErrorInvalidValue, cudaGraphClone(&clone, nullptr));
    BAD(cudaErrorInvalidValue, cudaGraphAddEmptyNode(nullptr, graph, nullptr, 0));
    BAD(cudaErrorInvalidValue, cudaGraphAddEmptyNode(&node, graph, nullptr, 1));
    BAD(cudaErrorInvalidValue, cudaGraphAddKernelNode(&node, graph, nullptr, 0, nullptr));
    BAD(cudaErrorInvalidValue, cudaGraphInstantiateWithFlags(&exec, graph, 0x100));
    NEED(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    NEED(cudaGraphExecDestroy(exec));
    BAD(cudaErrorInvalidValue, cudaGraphExecDestroy(exec));
    BAD(cudaErrorInvalidValue, cudaGraphLaunch(exec, 0));
    NEED(cudaGraphDestroy(graph));
    BAD(cudaErrorInvalidValue, cudaGraphDestroy(graph));
    BAD(cudaErrorInvalidValue, cudaGraphClone(&clone, graph));
    BAD(cudaErrorInvalidValue, cudaGraphInstantiateWithFlags(&exec, graph, 0));
    cudaGetLastError();
}

static void symbols()
{
    int value = 0;
    void *at;
    size_t size;
    BAD(cudaErrorInvalidSymbol, cudaGetSymbolAddress(&at, (const void *)&value));
    BAD(cudaErrorInvalidSymbol, cudaGetSymbolSize(&size, (const void *)&value));
    BAD(cudaErrorInvalidSymbol, cudaMemcpyToSymbol((const void *)&value, &value, 4, 0, cudaMemcpyHostToDevice));
    BAD(cudaErrorInvalidValue, cudaMemcpyToSymbol(table, &value, sizeof table + 1));
    BAD(cudaErrorInvalidValue, cudaMemcpyToSymbol(table, &value, 4, sizeof table));
    BAD(cudaErrorInvalidMemcpyDirection, cudaMemcpyToSymbol(table, &value, 4, 0, cudaMemcpyDeviceToHost));
}

static void handles()
{
    cudaStream_t stream;
    cudaEvent_t event, other;
    float time;
    NEED(cudaStreamCreate(&stream));
    NEED(cudaStreamDestroy(stream));
    BAD(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(stream));
    BAD(cudaErrorInvalidResourceHandle, cudaStreamQuery(stream));
    BAD(cudaErrorInvalidResourceHandle, cudaStreamDestroy(stream));
    BAD(cudaErrorInvalidResourceHandle, cudaStreamDestroy(nullptr));
    touch<<<1, 1, 0, stream>>>(nullptr);
    BAD(cudaErrorInvalidResourceHandle, cudaGetLastError());
    NEED(cudaEventCreate(&event));
    NEED(cudaEventCreate(&other));
    BAD(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&time, event, other));
    NEED(cudaEventDestroy(event));
    BAD(cudaErrorInvalidResourceHandle, cudaEventDestroy(event));
    BAD(cudaErrorInvalidResourceHandle, cudaEventQuery(event));
    BAD(cudaErrorInvalidResourceHandle, cudaEventSynchronize(event));
    BAD(cudaErrorInvalidResourceHandle, cudaEventRecord(event, 0));
    BAD(cudaErrorInvalidResourceHandle, cudaEventRecord(nullptr, 0));
    BAD(cudaErrorInvalidResourceHandle, cudaStreamWaitEvent(0, event, 0));
    BAD(cudaErrorInvalidValue, cudaStreamWaitEvent(0, other, 9));
    NEED(cudaEventDestroy(other));
    NEED(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    NEED(cudaEventRecord(event, 0));
    NEED(cudaEventSynchronize(event));
    BAD(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&time, event, event));
    NEED(cudaEventDestroy(event));
    cudaGetLastError();
}

static void launches()
{
    nothing<<<0, 1>>>();
    BAD(cudaErrorInvalidConfiguration, cudaGetLastError());
    nothing<<<1, 0>>>();
    BAD(cudaErrorInvalidConfiguration, cudaGetLastError());
    nothing<<<1, 1025>>>();
    BAD(cudaErrorInvalidConfiguration, cudaGetLastError());
    nothing<<<dim3(1, 1, 70000), 1>>>();
    BAD(cudaErrorInvalidConfiguration, cudaGetLastError());
    nothing<<<1, 1, 1 << 24>>>();
    BAD(cudaErrorInvalidValue, cudaGetLastError());
    int value;
    BAD(cudaErrorInvalidDeviceFunction, cudaLaunchKernel((const void *)&value, dim3(1), dim3(1), nullptr, 0, 0));
    cudaFuncAttributes attributes;
    BAD(cudaErrorInvalidDeviceFunction, cudaFuncGetAttributes(&attributes, (const void *)&value));
    BAD(cudaErrorInvalidValue, cudaFuncSetAttribute((const void *)nothing, (cudaFuncAttribute)99, 1));
    BAD(cudaErrorInvalidValue,
        cudaFuncSetAttribute((const void *)nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 24));
    BAD(cudaErrorInvalidValue, cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, nothing, 0, 0));
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
    BEYOND(cudaErrorIllegalState, cudaStreamEndCapture(stream, &graph), "the stream is not in the right state");
    BEYOND(cudaErrorStreamCaptureUnsupported, cudaStreamBeginCapture(0, cudaStreamCaptureModeGlobal),
           "not permitted while a stream captures");
    BAD(cudaErrorInvalidValue, cudaStreamBeginCapture(stream, (cudaStreamCaptureMode)9));
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    BEYOND(cudaErrorIllegalState, cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal),
           "the stream is not in the right state");
    BEYOND(cudaErrorStreamCaptureUnsupported, cudaStreamSynchronize(stream), "not permitted while a stream captures");
    BEYOND(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph),
           "a previous error has invalidated the capture");
    HOLDS(graph == nullptr);
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    BEYOND(cudaErrorStreamCaptureUnsupported, cudaMalloc(&at, 16), "not permitted while a stream captures");
    BEYOND(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph),
           "a previous error has invalidated the capture");
    NEED(cudaStreamDestroy(stream));
    cudaGetLastError();
}

/* What is not there says so. */
static void unsupported()
{
    cudaArray_t array;
    cudaChannelFormatDesc format = cudaCreateChannelDesc(32, 0, 0, 0, cudaChannelFormatKindFloat);
    HOLDS(format.x == 32 && format.f == cudaChannelFormatKindFloat);
    BEYOND(cudaErrorNotSupported, cudaMallocArray(&array, &format, 16, 16), "not supported on this system or device");
    cudaTextureObject_t texture;
    cudaResourceDesc resource = {};
    cudaTextureDesc description = {};
    BEYOND(cudaErrorNotSupported, cudaCreateTextureObject(&texture, &resource, &description, nullptr),
           "not supported on this system or device");
    void *memory;
    cudaIpcMemHandle_t handle;
    NEED(cudaMalloc(&memory, 16));
    BAD(cudaErrorNotSupported, cudaIpcGetMemHandle(&handle, memory));
    NEED(cudaFree(memory));
    cudaGetLastError();
}

/* An error stays until it is asked for; a call that succeeds does not take it away. */
static void last_error()
{
    void *at;
    BAD(cudaErrorInvalidDevice, cudaSetDevice(99));
    NEED(cudaMalloc(&at, 16));
    NEED(cudaFree(at));
    BAD(cudaErrorInvalidDevice, cudaPeekAtLastError());
    BAD(cudaErrorInvalidDevice, cudaPeekAtLastError());
    BAD(cudaErrorInvalidDevice, cudaGetLastError());
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
    BAD(cudaErrorInvalidValue, cudaMemcpy(&value, at, 1, cudaMemcpyDeviceToHost));
    BAD(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(stream));
    BAD(cudaErrorInvalidResourceHandle, cudaEventRecord(event, 0));
    cudaGetLastError();
    NEED(cudaMalloc(&at, 16));
    NEED(cudaFree(at));
}

int main()
{
    null_pointers();
    numbers();
    memory();
    other_memory();
    graphs();
    symbols();
    handles();
    launches();
    captures();
    unsupported();
    last_error();
    after_reset();
    return failures != 0;
}
