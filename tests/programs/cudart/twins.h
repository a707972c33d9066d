/* CUDA 13's headers only. Calls that have a twin for the default stream of the thread, each with the default stream, and
   those of pools and of managed memory: compiled as they are, and with that stream for the default. */
#pragma once
#include "check.h"
#include <cstring>
#include <dlfcn.h>

__device__ int symbol[64];
__managed__ int shared_words[8];

__global__ void fill(int *at, int value) { at[threadIdx.x] = value; }

static int words[256], back[256];
static int *at;

static void wait() { NEED(cudaStreamSynchronize(0)); }

/* Whether `count` words from `first` on are those of the host's from `from` on. */
static bool same(size_t first, size_t from, size_t count)
{
    memset(back, 0, sizeof back);
    NEED(cudaMemcpy(back, at + first, 4 * count, cudaMemcpyDeviceToHost));
    return !memcmp(back, words + from, 4 * count);
}

static int word(size_t i)
{
    int value = -1;
    NEED(cudaMemcpyAsync(&value, at + i, 4, cudaMemcpyDeviceToHost, 0));
    wait();
    return value;
}

static void copies()
{
    for (int i = 0; i < 256; i++)
        words[i] = 1000 + i;
    NEED(cudaMemcpy(at, words, 64, cudaMemcpyHostToDevice));
    HOLDS(same(0, 0, 16));
    NEED(cudaMemcpyAsync(at + 16, words + 16, 64, cudaMemcpyDefault, 0));
    wait();
    HOLDS(same(16, 16, 16));
    NEED(cudaMemcpy2D(at + 32, 32, words, 16, 8, 2, cudaMemcpyHostToDevice));
    HOLDS(same(32, 0, 2) && same(40, 4, 2));
    NEED(cudaMemcpy2DAsync(at + 32, 32, words + 8, 16, 8, 2, cudaMemcpyHostToDevice, 0));
    wait();
    HOLDS(same(32, 8, 2) && same(40, 12, 2));
    cudaMemcpy3DParms box = {};
    box.srcPtr = make_cudaPitchedPtr(words, 16, 16, 2);
    box.dstPtr = make_cudaPitchedPtr(at + 64, 8, 8, 2);
    box.extent = make_cudaExtent(8, 2, 2);
    box.kind = cudaMemcpyHostToDevice;
    NEED(cudaMemcpy3D(&box));
    HOLDS(same(64, 0, 2) && same(66, 4, 2) && same(70, 12, 2));
    box.srcPtr.ptr = words + 16;
    NEED(cudaMemcpy3DAsync(&box, 0));
    wait();
    HOLDS(same(64, 16, 2) && same(70, 28, 2));
    cudaMemcpy3DPeerParms peer = {};
    peer.srcPtr = make_cudaPitchedPtr(at, 16, 16, 2);
    peer.dstPtr = make_cudaPitchedPtr(at + 96, 8, 8, 2);
    peer.extent = make_cudaExtent(8, 2, 2);
    NEED(cudaMemcpy3DPeer(&peer));
    HOLDS(same(96, 0, 2) && same(102, 12, 2));
    peer.srcPtr.ptr = at + 16;
    NEED(cudaMemcpy3DPeerAsync(&peer, 0));
    wait();
    HOLDS(same(96, 16, 2));
    NEED(cudaMemcpyToSymbol(symbol, words, 64, 16));
    NEED(cudaMemcpyFromSymbol(back, symbol, 64, 16));
    HOLDS(!memcmp(back, words, 64));
    NEED(cudaMemcpyToSymbolAsync(symbol, words + 32, 64, 0, cudaMemcpyHostToDevice, 0));
    NEED(cudaMemcpyFromSymbolAsync(back, symbol, 64, 0, cudaMemcpyDeviceToHost, 0));
    wait();
    HOLDS(!memcmp(back, words + 32, 64));
}

static void sets()
{
    NEED(cudaMemset(at, 0, 1024));
    NEED(cudaMemsetAsync(at, 1, 4, 0));
    NEED(cudaMemset2D(at + 8, 16, 2, 4, 2));
    NEED(cudaMemset2DAsync(at + 32, 16, 3, 4, 2, 0));
    cudaPitchedPtr box = make_cudaPitchedPtr(at + 64, 16, 8, 2);
    NEED(cudaMemset3D(box, 4, make_cudaExtent(8, 2, 2)));
    box.ptr = at + 128;
    NEED(cudaMemset3DAsync(box, 5, make_cudaExtent(8, 2, 2), 0));
    HOLDS(word(0) == 0x01010101 && word(1) == 0 && word(8) == 0x02020202 && word(9) == 0 && word(12) == 0x02020202);
    HOLDS(word(36) == 0x03030303 && word(76) == 0x04040404 && word(78) == 0 && word(141) == 0x05050505);
}

static void count_up(void *data) { ++*(int *)data; }

static void CUDART_CB called_back(cudaStream_t, cudaError_t status, void *data)
{
    *(int *)data += status == cudaSuccess ? 10 : 1000;
}

static void launches()
{
    int value = 5, calls = 0;
    void *parameters[] = {&at, &value};
    NEED(cudaLaunchKernel((const void *)fill, dim3(1), dim3(8), parameters, 0, 0));
    HOLDS(word(7) == 5);
    value = 6;
    NEED(cudaLaunchCooperativeKernel((const void *)fill, dim3(1), dim3(8), parameters, 0, 0));
    HOLDS(word(7) == 6);
    value = 7;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1);
    config.blockDim = dim3(8);
    NEED(cudaLaunchKernelExC(&config, (const void *)fill, parameters));
    HOLDS(word(7) == 7);
    fill<<<1, 8>>>(at, 8);
    NEED(cudaGetLastError());
    HOLDS(word(7) == 8);
    NEED(cudaLaunchHostFunc(0, count_up, &calls));
    NEED(cudaStreamAddCallback(0, called_back, &calls, 0));
    NEED(cudaDeviceSynchronize());
    HOLDS(calls == 11);
    /* The device has no clusters of more than one block. */
    int blocks = -1, size = -1;
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    config.attrs = &cluster;
    config.numAttrs = 1;
    int clusters = 0;
    NEED(cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, 0));
    if (!clusters) {
        int each = 0, processors = 0;
        NEED(cudaOccupancyMaxPotentialClusterSize(&size, (const void *)fill, &config));
        HOLDS(size == 1);
        NEED(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, (const void *)fill, 8, 0));
        NEED(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
        NEED(cudaOccupancyMaxActiveClusters(&blocks, (const void *)fill, &config));
        HOLDS(blocks == each * processors);
        cluster.val.clusterDim.x = 2;
        GIVES(cudaOccupancyMaxActiveClusters(&blocks, (const void *)fill, &config), cudaErrorNotSupported);
        config.numAttrs = 0;
        GIVES(cudaOccupancyMaxActiveClusters(&blocks, (const void *)fill, &config), cudaErrorInvalidValue);
        cudaGetLastError();
    }
    void *function = nullptr;
    cudaDriverEntryPointQueryResult found;
    using Entry = cudaError_t (*)(const char *, void **, unsigned long long, cudaDriverEntryPointQueryResult *);
    for (const char *name : {"cudaGetDriverEntryPoint", "cudaGetDriverEntryPoint_ptsz"}) {
        /* CUDA 13 has them no more. */
        auto entry = (Entry)dlsym(RTLD_DEFAULT, name);
        if (!entry)
            continue;
        NEED(entry("cuMemcpy", &function, cudaEnableDefault, &found));
        HOLDS(function && found == cudaDriverEntryPointSuccess);
    }
}

static void streams()
{
    cudaStream_t stream, other;
    cudaEvent_t event;
    unsigned flags = 9;
    int priority = 9;
    NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    NEED(cudaStreamGetFlags(stream, &flags));
    HOLDS(flags == cudaStreamNonBlocking);
    NEED(cudaStreamGetPriority(0, &priority));
    HOLDS(priority == 0);
    cudaStreamAttrValue value = {};
    value.syncPolicy = cudaSyncPolicyYield;
    NEED(cudaStreamSetAttribute(stream, cudaStreamAttributeSynchronizationPolicy, &value));
    NEED(cudaStreamCreate(&other));
    NEED(cudaStreamCopyAttributes(other, stream));
    value = {};
    NEED(cudaStreamGetAttribute(other, cudaStreamAttributeSynchronizationPolicy, &value));
    HOLDS(value.syncPolicy == cudaSyncPolicyYield);
    NEED(cudaStreamDestroy(other));
    NEED(cudaEventCreate(&event));
    NEED(cudaEventRecord(event, 0));
    NEED(cudaStreamWaitEvent(stream, event, 0));
    NEED(cudaEventRecordWithFlags(event, 0, cudaEventRecordDefault));
    NEED(cudaEventSynchronize(event));
    NEED(cudaStreamQuery(0));
    NEED(cudaEventDestroy(event));

    /* The legacy default stream captures nothing: a stream of its own does there. */
    cudaStream_t on = cudaStreamBeginCapture(0, cudaStreamCaptureModeRelaxed) == cudaSuccess ? 0 : stream;
    cudaGetLastError();
    if (on)
        NEED(cudaStreamBeginCapture(on, cudaStreamCaptureModeRelaxed));
    NEED(cudaMemsetAsync(at, 0, 4, on));
    cudaStreamCaptureStatus status;
    NEED(cudaStreamIsCapturing(on, &status));
    HOLDS(status == cudaStreamCaptureStatusActive);
    unsigned long long id = 0;
    cudaGraph_t graph, got;
    const cudaGraphNode_t *nodes;
    const cudaGraphEdgeData *edges;
    size_t count = 0;
    NEED(cudaStreamGetCaptureInfo(on, &status, &id, &got, &nodes, &edges, &count));
    HOLDS(count == 1);
    NEED(cudaStreamUpdateCaptureDependencies(on, nullptr, nullptr, 0, cudaStreamSetCaptureDependencies));
    NEED(cudaMemsetAsync(at + 1, 6, 4, on));
    NEED(cudaStreamEndCapture(on, &graph));
    HOLDS(graph == got);
    cudaGraphExec_t exec;
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphUpload(exec, 0));
    NEED(cudaGraphLaunch(exec, 0));
    HOLDS(word(1) == 0x06060606);
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphDestroy(graph));
    NEED(cudaStreamDestroy(stream));
}

static void pools()
{
    cudaMemPool_t pool, current = nullptr;
    void *piece, *other;
    NEED(cudaDeviceGetDefaultMemPool(&pool, 0));
    NEED(cudaDeviceGetMemPool(&current, 0));
    HOLDS(current == pool);
    NEED(cudaMallocAsync(&piece, 256, 0));
    NEED(cudaMemcpyAsync(piece, words, 64, cudaMemcpyHostToDevice, 0));
    NEED(cudaMemcpyAsync(back, piece, 64, cudaMemcpyDeviceToHost, 0));
    wait();
    HOLDS(!memcmp(back, words, 64));
    NEED(cudaFreeAsync(piece, 0));
    cudaMemPoolProps props = {};
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    NEED(cudaMemPoolCreate(&current, &props));
    unsigned long long keep = 1 << 20, is = 0;
    NEED(cudaMemPoolSetAttribute(current, cudaMemPoolAttrReleaseThreshold, &keep));
    NEED(cudaMemPoolGetAttribute(current, cudaMemPoolAttrReleaseThreshold, &is));
    HOLDS(is == keep);
    cudaMemAccessDesc access = {props.location, cudaMemAccessFlagsProtReadWrite};
    NEED(cudaMemPoolSetAccess(current, &access, 1));
    cudaMemAccessFlags flags;
    NEED(cudaMemPoolGetAccess(&flags, current, &props.location));
    HOLDS(flags == cudaMemAccessFlagsProtReadWrite);
    NEED(cudaDeviceSetMemPool(0, current));
    NEED(cudaMallocFromPoolAsync(&other, 256, current, 0));
    GIVES(cudaMemPoolExportToShareableHandle(&piece, current, cudaMemHandleTypePosixFileDescriptor, 0),
          cudaErrorNotSupported);
    cudaMemPoolPtrExportData data;
    GIVES(cudaMemPoolExportPointer(&data, other), cudaErrorNotSupported);
    GIVES(cudaMemPoolImportPointer(&piece, current, &data), cudaErrorNotSupported);
    cudaMemPool_t of;
    GIVES(cudaMemPoolImportFromShareableHandle(&of, (void *)3, cudaMemHandleTypePosixFileDescriptor, 0),
          cudaErrorNotSupported);
    cudaGetLastError();
    NEED(cudaFreeAsync(other, 0));
    wait();
    NEED(cudaMemPoolTrimTo(current, 0));
    NEED(cudaDeviceSetMemPool(0, pool));
    NEED(cudaMemPoolDestroy(current));
}

static void managed()
{
    int *shared, mostly = 9, place = 9;
    NEED(cudaMallocManaged(&shared, 4096));
    cudaMemLocation here = {cudaMemLocationTypeDevice, 0};
    NEED(cudaMemAdvise(shared, 4096, cudaMemAdviseSetReadMostly, here));
    NEED(cudaMemPrefetchAsync(shared, 4096, here, 0, 0));
    NEED(cudaStreamAttachMemAsync(0, shared, 0, cudaMemAttachGlobal));
    NEED(cudaMemRangeGetAttribute(&mostly, 4, cudaMemRangeAttributeReadMostly, shared, 4096));
    HOLDS(mostly == 1);
    void *values[] = {&mostly, &place};
    size_t sizes[] = {4, 4};
    cudaMemRangeAttribute which[] = {cudaMemRangeAttributeReadMostly, cudaMemRangeAttributeLastPrefetchLocation};
    NEED(cudaMemRangeGetAttributes(values, sizes, which, 2, shared, 4096));
    HOLDS(mostly == 1 && place == 0);
    fill<<<1, 8>>>(shared, 3);
    wait();
    HOLDS(shared[7] == 3);
    NEED(cudaFree(shared));
    shared_words[0] = 1;
    fill<<<1, 8>>>(shared_words, 4);
    wait();
    HOLDS(shared_words[0] == 4 && shared_words[7] == 4);
}

/* What is not possible, by its documented error. */
static void refused()
{
    static char own[4096];
    cudaIpcEventHandle_t handle;
    cudaEvent_t event;
    const void *table;
    int possible = 1;
    NEED(cudaDeviceGetAttribute(&possible, cudaDevAttrHostRegisterSupported, 0));
    if (!possible)
        GIVES(cudaHostRegister(own, sizeof own, 0), cudaErrorNotSupported);
    GIVES(cudaHostUnregister(own), cudaErrorHostMemoryNotRegistered);
    NEED(cudaEventCreate(&event));
    /* It was not made for other processes. */
    HOLDS(cudaIpcGetEventHandle(&handle, event) != cudaSuccess);
    NEED(cudaEventDestroy(event));
    HOLDS(cudaIpcCloseMemHandle(at) != cudaSuccess);
    cudaUUID_t uuid = {};
    HOLDS(cudaGetExportTable(&table, &uuid) != cudaSuccess);
    HOLDS(cudaDeviceGetNvSciSyncAttributes(own, 0, 1) != cudaSuccess);
    cudaGetLastError();
}

static void nodes()
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaGraphNode_t copy, one, two;
    NEED(cudaGraphCreate(&graph, 0));
    cudaMemcpy3DParms box = {};
    box.srcPtr = make_cudaPitchedPtr(words, 4, 4, 1);
    box.dstPtr = make_cudaPitchedPtr(at + 9, 4, 4, 1);
    box.extent = make_cudaExtent(4, 1, 1);
    box.kind = cudaMemcpyHostToDevice;
    NEED(cudaGraphAddMemcpyNode(&copy, graph, nullptr, 0, &box));
    int value = 12;
    void *parameters[] = {&at, &value};
    cudaKernelNodeParams launch = {(void *)fill, dim3(1), dim3(8), 0, parameters, nullptr};
    NEED(cudaGraphAddKernelNode(&one, graph, nullptr, 0, &launch));
    NEED(cudaGraphAddKernelNode(&two, graph, &one, 1, &launch));
    cudaKernelNodeAttrValue is = {};
    is.priority = 0;
    NEED(cudaGraphKernelNodeSetAttribute(one, cudaLaunchAttributePriority, &is));
    NEED(cudaGraphKernelNodeCopyAttributes(two, one));
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphLaunch(exec, 0));
    HOLDS(word(9) == 1000 && word(7) == 12);
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphDestroy(graph));
}

int main()
{
    NEED(cudaMalloc(&at, 4096));
    copies();
    sets();
    launches();
    streams();
    pools();
    managed();
    refused();
    nodes();
    NEED(cudaFree(at));
    return failures != 0;
}
