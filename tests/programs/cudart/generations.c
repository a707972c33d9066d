/* Compiled twice: as it is, and as by nvcc -default-stream per-thread (CUDA_API_PER_THREAD_DEFAULT_STREAM). */
/*
 * Names that only some versions of the runtime have, or have with other arguments: each is called with whole arguments,
 * by a C program that is compiled against that version's headers and linked with our library of its major version.
 * What a later version calls without the suffix is called so there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

void launch_sum(const int *values, int n, cudaStream_t stream);
const void *sum_function(void);
const void *total_symbol(void);

static int failures;

static void report(const char *what, int good)
{
    printf("%s %s\n", good ? "PASS" : "FAIL", what);
    failures += !good;
}
#define HOLDS(condition) report(#condition, condition)
#define GIVES(call, expected) report(#call " gives " #expected, (call) == (expected))

static void need(cudaError_t error, const char *call)
{
    if (error != cudaSuccess) {
        printf("FAIL %s: %s\n", call, cudaGetErrorName(error));
        exit(1);
    }
}
#define NEED(call) need(call, #call)

/* Device memory of 64 words. */
static int *at;
/* The thread's own default stream, or one that was made: batches are refused by the legacy one. */
static cudaStream_t on;

static void begin(void)
{
    NEED(cudaMalloc((void **)&at, 256));
    NEED(cudaMemset(at, 0, 256));
#ifndef CUDA_API_PER_THREAD_DEFAULT_STREAM
    NEED(cudaStreamCreate(&on));
#endif
}

static int word(size_t i)
{
    int value = -1;

    NEED(cudaStreamSynchronize(on));
    NEED(cudaMemcpy(&value, at + i, sizeof value, cudaMemcpyDeviceToHost));
    return value;
}

#if CUDART_VERSION < 13000
/* Names from before the first version that had devices in their names. */
static void of_threads(void)
{
    enum cudaFuncCache cache;
    size_t bytes = 0, same = 1;
    double number = 1.5;

    NEED(cudaThreadSetLimit(cudaLimitStackSize, 4096));
    NEED(cudaThreadGetLimit(&bytes, cudaLimitStackSize));
    NEED(cudaDeviceGetLimit(&same, cudaLimitStackSize));
    HOLDS(bytes >= 4096 && bytes == same);
    NEED(cudaThreadSetCacheConfig(cudaFuncCachePreferL1));
    NEED(cudaThreadGetCacheConfig(&cache));
    HOLDS(cache == cudaFuncCachePreferL1);
    /* "If the device does natively support doubles, then this function does nothing." */
    NEED(cudaSetDoubleForDevice(&number));
    HOLDS(number == 1.5);
    NEED(cudaSetDoubleForHost(&number));
    HOLDS(number == 1.5);
    NEED(cudaMemsetAsync(at, 1, 4, on));
    NEED(cudaThreadSynchronize());
    NEED(cudaStreamQuery(on));
}

/* It destroys what the device holds, as cudaDeviceReset does; what is called next begins anew. */
static void end_of_thread(void)
{
    int value;

    NEED(cudaThreadExit());
    GIVES(cudaMemcpy(&value, at, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    cudaGetLastError();
    on = 0;
    begin();
    NEED(cudaMemsetAsync(at, 3, 4, on));
    HOLDS(word(0) == 0x03030303);
}

#if CUDART_VERSION >= 12000
#define cudaStreamGetCaptureInfo_v2 cudaStreamGetCaptureInfo
#endif

static void captured(void)
{
    enum cudaStreamCaptureStatus status;
    unsigned long long id = 0;
    cudaGraph_t got = NULL, graph;
    const cudaGraphNode_t *nodes = NULL;
    enum cudaGraphNodeType type;
    size_t count = 9;

    NEED(cudaStreamBeginCapture(on, cudaStreamCaptureModeRelaxed));
    NEED(cudaMemsetAsync(at, 1, 4, on));
    NEED(cudaStreamGetCaptureInfo_v2(on, &status, &id, &got, &nodes, &count));
    HOLDS(status == cudaStreamCaptureStatusActive && id != 0 && count == 1);
    NEED(cudaGraphNodeGetType(nodes[0], &type));
    HOLDS(type == cudaGraphNodeTypeMemset);
    NEED(cudaStreamEndCapture(on, &graph));
    HOLDS(got == graph);
    NEED(cudaGraphDestroy(graph));
}
#endif

#if CUDART_VERSION < 12000
extern void **__cudaRegisterFatBinary(void *);
extern void __cudaRegisterFatBinaryEnd(void **);
extern void __cudaUnregisterFatBinary(void **);
extern void __cudaRegisterTexture(void **, const struct textureReference *, const void **, const char *, int, int, int);
extern void __cudaRegisterSurface(void **, const struct surfaceReference *, const void **, const char *, int, int);

/* What nvcc 11 writes for texture and surface references. They are registered; there are no textures to bind. */
static void references(void)
{
    static struct textureReference texture;
    static struct surfaceReference surface;
    /* A fat binary without images, and the structure around it. */
    static const struct {
        unsigned magic;
        unsigned short version, header;
        unsigned long long bytes;
    } images = {0xba55ed50, 1, 16, 0};
    static struct {
        int magic, version;
        const void *images;
        void *file;
    } wrapper = {0x466243b1, 1, &images, NULL};
    const struct textureReference *found = NULL;
    const struct surfaceReference *found_surface = NULL;
    void **binary = __cudaRegisterFatBinary(&wrapper);

    HOLDS(binary != NULL);
    __cudaRegisterTexture(binary, &texture, (const void **)(void *)&texture, "texture", 2, 0, 0);
    __cudaRegisterSurface(binary, &surface, (const void **)(void *)&surface, "surface", 2, 0);
    __cudaRegisterFatBinaryEnd(binary);
    GIVES(cudaGetTextureReference(&found, &texture), cudaErrorNotSupported);
    GIVES(cudaGetSurfaceReference(&found_surface, &surface), cudaErrorNotSupported);
    cudaGetLastError();
    __cudaUnregisterFatBinary(binary);
    NEED(cudaMemset(at, 0, 4));
}
#endif

#if CUDART_VERSION >= 12030

#if CUDART_VERSION >= 13000
#define cudaGraphAddNode_v2 cudaGraphAddNode
#define cudaGraphAddDependencies_v2 cudaGraphAddDependencies
#define cudaGraphGetEdges_v2 cudaGraphGetEdges
#define cudaGraphNodeGetDependencies_v2 cudaGraphNodeGetDependencies
#define cudaGraphNodeGetDependentNodes_v2 cudaGraphNodeGetDependentNodes
#define cudaGraphRemoveDependencies_v2 cudaGraphRemoveDependencies
#define cudaGetDeviceProperties_v2 cudaGetDeviceProperties
#define cudaMemAdvise_v2 cudaMemAdvise
#define cudaMemPrefetchAsync_v2 cudaMemPrefetchAsync
#define cudaStreamGetCaptureInfo_v3 cudaStreamGetCaptureInfo
#define cudaStreamUpdateCaptureDependencies_v2 cudaStreamUpdateCaptureDependencies
#define cudaEventElapsedTime_v2 cudaEventElapsedTime
#endif

static void properties(void)
{
    struct cudaDeviceProp device;
    int threads = 0;

    NEED(cudaGetDeviceProperties_v2(&device, 0));
    NEED(cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, 0));
    HOLDS(device.warpSize == 32 && device.maxThreadsPerMultiProcessor == threads);
}

static void graphs(void)
{
    struct cudaGraphNodeParams fill = {0};
    cudaGraphEdgeData edge = {0};
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaGraphInstantiateParams with = {0};
    cudaGraphConditionalHandle handle;
    cudaGraphNode_t nodes[2], from, to;
    size_t count = 1;

    NEED(cudaGraphCreate(&graph, 0));
    fill.type = cudaGraphNodeTypeMemset;
    fill.memset.dst = at + 8;
    fill.memset.elementSize = 4;
    fill.memset.value = 7;
    fill.memset.width = 2;
    fill.memset.height = 1;
    NEED(cudaGraphAddNode_v2(&nodes[0], graph, NULL, NULL, 0, &fill));
    fill.memset.dst = at + 9;
    fill.memset.value = 9;
    NEED(cudaGraphAddNode_v2(&nodes[1], graph, NULL, NULL, 0, &fill));
    NEED(cudaGraphAddDependencies_v2(graph, &nodes[0], &nodes[1], &edge, 1));
    NEED(cudaGraphGetEdges_v2(graph, &from, &to, &edge, &count));
    HOLDS(count == 1 && from == nodes[0] && to == nodes[1] && edge.type == cudaGraphDependencyTypeDefault);
    from = to = NULL;
    NEED(cudaGraphNodeGetDependencies_v2(nodes[1], &from, &edge, &count));
    HOLDS(count == 1 && from == nodes[0]);
    NEED(cudaGraphNodeGetDependentNodes_v2(nodes[0], &to, &edge, &count));
    HOLDS(count == 1 && to == nodes[1]);
    NEED(cudaGraphInstantiateWithParams(&exec, graph, &with));
    HOLDS(with.result_out == cudaGraphInstantiateSuccess);
    NEED(cudaGraphLaunch(exec, on));
    HOLDS(word(8) == 7 && word(9) == 9 && word(10) == 9);
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphRemoveDependencies_v2(graph, &nodes[0], &nodes[1], &edge, 1));
    NEED(cudaGraphGetEdges_v2(graph, NULL, NULL, NULL, &count));
    HOLDS(count == 0);
    GIVES(cudaGraphConditionalHandleCreate(&handle, graph, 0, 0), cudaErrorNotSupported);
    NEED(cudaGraphDestroy(graph));
}

static void captured_to_graph(void)
{
    enum cudaStreamCaptureStatus status;
    unsigned long long id = 0;
    cudaGraph_t graph, got = NULL;
    const cudaGraphNode_t *nodes;
    const cudaGraphEdgeData *edges;
    cudaGraphExec_t exec;
    size_t count = 9;

    NEED(cudaGraphCreate(&graph, 0));
    NEED(cudaStreamBeginCaptureToGraph(on, graph, NULL, NULL, 0, cudaStreamCaptureModeRelaxed));
    NEED(cudaMemsetAsync(at + 12, 1, 4, on));
    NEED(cudaStreamGetCaptureInfo_v3(on, &status, &id, &got, &nodes, &edges, &count));
    HOLDS(status == cudaStreamCaptureStatusActive && id != 0 && got == graph && count == 1);
    NEED(cudaStreamUpdateCaptureDependencies_v2(on, NULL, NULL, 0, cudaStreamSetCaptureDependencies));
    NEED(cudaStreamGetCaptureInfo_v3(on, &status, &id, NULL, NULL, NULL, &count));
    HOLDS(count == 0);
    NEED(cudaMemsetAsync(at + 13, 2, 4, on));
    got = NULL;
    NEED(cudaStreamEndCapture(on, &got));
    HOLDS(got == graph);
    NEED(cudaGraphGetEdges_v2(graph, NULL, NULL, NULL, &count));
    HOLDS(count == 0);
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphLaunch(exec, on));
    HOLDS(word(12) == 0x01010101 && word(13) == 0x02020202);
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphDestroy(graph));
}

/* Where managed memory was last sent. */
static int sent_to(const void *memory, size_t bytes)
{
    int place = -7;

    NEED(cudaMemRangeGetAttribute(&place, sizeof place, cudaMemRangeAttributeLastPrefetchLocation, memory, bytes));
    return place;
}

static void managed(void)
{
    const struct cudaMemLocation device = {.type = cudaMemLocationTypeDevice, .id = 0};
    const struct cudaMemLocation host = {.type = cudaMemLocationTypeHost};
    int *memory, mostly = 0, total = 0, i;

    NEED(cudaMallocManaged((void **)&memory, 4096, cudaMemAttachGlobal));
    NEED(cudaMemAdvise_v2(memory, 4096, cudaMemAdviseSetReadMostly, device));
    NEED(cudaMemRangeGetAttribute(&mostly, sizeof mostly, cudaMemRangeAttributeReadMostly, memory, 4096));
    HOLDS(mostly == 1);
    NEED(cudaMemPrefetchAsync_v2(memory, 4096, host, 0, on));
    HOLDS(sent_to(memory, 4096) == cudaCpuDeviceId);
    NEED(cudaMemPrefetchAsync_v2(memory, 4096, device, 0, on));
    HOLDS(sent_to(memory, 4096) == 0);
#if CUDART_VERSION >= 13000
    void *pieces[] = {memory, memory + 512};
    size_t bytes[] = {2048, 2048}, first = 0;
    struct cudaMemLocation to = host;
    NEED(cudaMemPrefetchBatchAsync(pieces, bytes, 2, &to, &first, 1, 0, on));
    HOLDS(sent_to(memory, 4096) == cudaCpuDeviceId);
    to = device;
    NEED(cudaMemDiscardAndPrefetchBatchAsync(pieces, bytes, 2, &to, &first, 1, 0, on));
    HOLDS(sent_to(memory, 4096) == 0);
    NEED(cudaMemDiscardBatchAsync(pieces, bytes, 2, 0, on));
#endif
    NEED(cudaStreamSynchronize(on));
    for (i = 0; i < 1000; i++)
        memory[i] = i;
    NEED(cudaMemcpyToSymbol(total_symbol(), &total, sizeof total, 0, cudaMemcpyHostToDevice));
    launch_sum(memory, 1000, on);
    NEED(cudaStreamSynchronize(on));
    NEED(cudaMemcpyFromSymbol(&total, total_symbol(), sizeof total, 0, cudaMemcpyDeviceToHost));
    HOLDS(total == 1000 * 999 / 2);
    NEED(cudaFree(memory));
}

static void notified(cudaAsyncNotificationInfo_t *info, void *data, cudaAsyncCallbackHandle_t handle)
{
    (void)info, (void)handle;
    *(int *)data = 1;
}

/* The device has nothing to tell. */
static void notifications(void)
{
    cudaAsyncCallbackHandle_t handle = NULL;
    int told = 0;

    GIVES(cudaDeviceRegisterAsyncNotification(0, notified, &told, &handle), cudaErrorNotSupported);
    GIVES(cudaDeviceUnregisterAsyncNotification(0, handle), cudaErrorNotSupported);
    HOLDS(!told);
    cudaGetLastError();
}
#endif

#if CUDART_VERSION >= 12080
static void streams(void)
{
    enum cudaDriverEntryPointQueryResult found;
    cudaEvent_t begin, end;
    void *function = NULL;
    float time = -1;
    int ordinal = -1;

    NEED(cudaStreamGetDevice(on, &ordinal));
    HOLDS(ordinal == 0);
    NEED(cudaEventCreate(&begin));
    NEED(cudaEventCreate(&end));
    NEED(cudaEventRecord(begin, on));
    NEED(cudaEventRecord(end, on));
    NEED(cudaEventSynchronize(end));
    NEED(cudaEventElapsedTime_v2(&time, begin, end));
    HOLDS(time >= 0);
    NEED(cudaEventDestroy(begin));
    NEED(cudaEventDestroy(end));
    NEED(cudaGetDriverEntryPointByVersion("cuStreamQuery", &function, 12000, cudaEnableDefault, &found));
    HOLDS(function && found == cudaDriverEntryPointSuccess);
}

static void batches(void)
{
    int from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    void *targets[] = {at + 16, at + 24};
    void *sources[] = {from, from + 4};
    size_t bytes[] = {16, 16}, index = 0;
    struct cudaMemcpyAttributes attributes = {0};
    struct cudaMemcpy3DBatchOp box;

    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    /* Two rows of two words, of rows of four, side by side. */
    memset(&box, 0, sizeof box);
    box.src.type = box.dst.type = cudaMemcpyOperandTypePointer;
    box.src.op.ptr.ptr = at + 16;
    box.src.op.ptr.rowLength = 32;
    box.src.op.ptr.layerHeight = 2;
    box.dst.op.ptr.ptr = at + 32;
    box.extent.width = 8;
    box.extent.height = 2;
    box.extent.depth = 1;
    box.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
#if CUDART_VERSION >= 13000
    NEED(cudaMemcpyBatchAsync(targets, (const void *const *)sources, bytes, 2, &attributes, &index, 1, on));
    HOLDS(word(16) == 1 && word(19) == 4 && word(20) == 0 && word(24) == 5 && word(27) == 8);
    NEED(cudaMemcpy3DBatchAsync(1, &box, 0, on));
#else
    size_t failed = 7;
    NEED(cudaMemcpyBatchAsync(targets, sources, bytes, 2, &attributes, &index, 1, &failed, on));
    HOLDS(word(16) == 1 && word(19) == 4 && word(20) == 0 && word(24) == 5 && word(27) == 8);
    NEED(cudaMemcpy3DBatchAsync(1, &box, &failed, 0, on));
#endif
    HOLDS(word(32) == 1 && word(33) == 2 && word(34) == 5 && word(35) == 6 && word(36) == 0);
}
#endif

#if CUDART_VERSION >= 13000
static void pools(void)
{
    struct cudaMemLocation here = {.type = cudaMemLocationTypeDevice, .id = 0};
    struct cudaMemPoolProps props = {0};
    cudaMemPool_t first, other, made;
    void *memory;

    NEED(cudaMemGetDefaultMemPool(&first, &here, cudaMemAllocationTypePinned));
    NEED(cudaDeviceGetDefaultMemPool(&other, 0));
    HOLDS(first == other);
    props.allocType = cudaMemAllocationTypePinned;
    props.location = here;
    NEED(cudaMemPoolCreate(&made, &props));
    NEED(cudaMemSetMemPool(&here, cudaMemAllocationTypePinned, made));
    NEED(cudaMemGetMemPool(&other, &here, cudaMemAllocationTypePinned));
    HOLDS(other == made);
    NEED(cudaDeviceGetMemPool(&other, 0));
    HOLDS(other == made);
    NEED(cudaMallocAsync(&memory, 64, on));
    NEED(cudaFreeAsync(memory, on));
    NEED(cudaStreamSynchronize(on));
    NEED(cudaMemSetMemPool(&here, cudaMemAllocationTypePinned, first));
    NEED(cudaMemPoolDestroy(made));
}
#endif

#if CUDART_VERSION >= 13050
static void count_up(void *data)
{
    ++*(int *)data;
}

static void functions(void)
{
    size_t count = 0;
    int calls = 0;

    NEED(cudaFuncGetParamCount(sum_function(), &count));
    HOLDS(count == 2);
    NEED(cudaLaunchHostFunc_v2(on, count_up, &calls, cudaHostTaskBlocking));
    NEED(cudaLaunchHostFunc_v2(on, count_up, &calls, cudaHostTaskSpinWait));
    NEED(cudaStreamSynchronize(on));
    HOLDS(calls == 2);
}
#endif

int main(void)
{
    begin();
#if CUDART_VERSION < 13000
    of_threads();
    captured();
#endif
#if CUDART_VERSION < 12000
    references();
#endif
#if CUDART_VERSION >= 12030
    properties();
    graphs();
    captured_to_graph();
    managed();
    notifications();
#endif
#if CUDART_VERSION >= 12080
    streams();
    batches();
#endif
#if CUDART_VERSION >= 13000
    pools();
#endif
#if CUDART_VERSION >= 13050
    functions();
#endif
#if CUDART_VERSION < 13000
    end_of_thread();
#endif
    return failures != 0;
}
