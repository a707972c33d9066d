/*
 * Calls of the driver API that no other program makes, each once with whole arguments and what must come of it,
 * against NVIDIA's own cuda.h: a line for each check, `PASS name` or `FAIL name: why`.
 *
 * cc driver_surface.c -lcuda && ./a.out
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cuda.h>

/* Of a later version than some headers. */
CUresult cuFuncGetParamCount(CUfunction function, size_t *count);

static int failures;

static void report(const char *what, CUresult got, CUresult expected)
{
    const char *name = "?";

    if (got == expected) {
        printf("PASS %s\n", what);
        return;
    }
    cuGetErrorName(got, &name);
    printf("FAIL %s: %s (%d), expected %d\n", what, name, got, expected);
    failures++;
}
#define GIVES(call, expected) report(#call, call, expected)
#define OK(call) GIVES(call, CUDA_SUCCESS)

static void holds(const char *what, int good)
{
    printf(good ? "PASS %s\n" : "FAIL %s: does not hold\n", what);
    failures += !good;
}
#define HOLDS(condition) holds(#condition, condition)

static const char ptx[] = ".version 7.0\n.target sm_50\n.address_size 64\n"
    ".visible .global .align 4 .u32 word = 7;\n"
    ".visible .entry fill(.param .u64 at, .param .u32 value)\n"
    "{\n.reg .b32 %r<3>; .reg .b64 %d<4>;\nld.param.u64 %d1, [at]; ld.param.u32 %r1, [value];\n"
    "mov.u32 %r2, %tid.x; mul.wide.u32 %d2, %r2, 4; add.s64 %d3, %d1, %d2;\n"
    "st.global.u32 [%d3], %r1;\nret;\n}\n";

static unsigned word_at(CUdeviceptr at)
{
    unsigned word = 0xdead;

    cuMemcpyDtoH(&word, at, sizeof word);
    return word;
}

static void devices(CUdevice device)
{
    CUdevprop properties;
    CUuuid uuid, newer;
    unsigned flags;
    int a, b, active, can = 1;
    cuuint64_t bytes = 1;

    OK(cuDeviceComputeCapability(&a, &b, device));
    HOLDS(a >= 5 && b >= 0);
    OK(cuDeviceGetProperties(&properties, device));
    HOLDS(properties.maxThreadsPerBlock >= 512 && properties.SIMDWidth == 32);
    OK(cuDeviceCanAccessPeer(&can, device, device));
    OK(cuDeviceGetUuid(&uuid, device));
    OK(cuDeviceGetUuid_v2(&newer, device));
    HOLDS(!memcmp(&uuid, &newer, sizeof uuid));
    OK(cuDeviceGetGraphMemAttribute(device, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &bytes));
    HOLDS(bytes == 0);
    OK(cuDeviceSetGraphMemAttribute(device, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &bytes));
    OK(cuDeviceGraphMemTrim(device));
    OK(cuDevicePrimaryCtxSetFlags(device, CU_CTX_SCHED_YIELD));
    OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
    HOLDS(flags == CU_CTX_SCHED_YIELD);
}

static void contexts(CUcontext context, CUdevice device)
{
    CUfunc_cache cache;
    CUsharedconfig banks;
    CUdevice of = -1;
    unsigned version = 0, flags;
    unsigned long long id = 0, other_id = 0;
    CUcontext other;
    int least = 1, greatest = 1;

    OK(cuCtxGetApiVersion(context, &version));
    HOLDS(version >= 3010);
    OK(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_SHARED));
    OK(cuCtxGetCacheConfig(&cache));
    HOLDS(cache == CU_FUNC_CACHE_PREFER_SHARED);
    OK(cuCtxSetSharedMemConfig(CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE));
    OK(cuCtxGetSharedMemConfig(&banks));
    HOLDS(banks == CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE);
    OK(cuCtxGetDevice(&of));
    HOLDS(of == device);
    OK(cuCtxSetFlags(CU_CTX_SCHED_SPIN));
    OK(cuCtxGetFlags(&flags));
    HOLDS(flags == CU_CTX_SCHED_SPIN);
    OK(cuCtxGetStreamPriorityRange(&least, &greatest));
    HOLDS(least == 0 && greatest <= 0);
    OK(cuCtxCreate(&other, NULL, 0, device));
    OK(cuCtxGetId(context, &id));
    OK(cuCtxGetId(other, &other_id));
    HOLDS(id != other_id);
    OK(cuCtxPopCurrent(&other));
    OK(cuCtxPushCurrent(other));
    OK(cuCtxDestroy(other));
}

static void functions(CUdeviceptr at)
{
    char path[] = "/tmp/vgpu-driver-surface-XXXXXX";
    CUmodule module, of;
    CUfunction function;
    CUlibrary library, from_file;
    CUkernel kernel;
    CUfunctionLoadingState state;
    CUmoduleLoadingMode mode;
    CUdeviceptr variable;
    CUlinkState link;
    void *image;
    size_t bytes, offset, count;
    int blocks, block, file, clusters = 0, processors = 0, size = 0;
    unsigned value = 3;
    void *parameters[] = {&at, &value};
    CUlaunchAttribute cluster;
    CUlaunchConfig config;

    OK(cuModuleGetLoadingMode(&mode));
    HOLDS(mode == CU_MODULE_EAGER_LOADING || mode == CU_MODULE_LAZY_LOADING);
    OK(cuModuleLoadFatBinary(&module, ptx));
    OK(cuModuleGetFunction(&function, module, "fill"));
    OK(cuFuncGetParamCount(function, &count));
    HOLDS(count == 2);
    OK(cuFuncIsLoaded(&state, function));
    OK(cuFuncLoad(function));
    OK(cuFuncSetCacheConfig(function, CU_FUNC_CACHE_PREFER_L1));
    OK(cuFuncSetSharedMemConfig(function, CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE));
    OK(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, function, 64, 0, 0));
    HOLDS(blocks > 0);
    OK(cuOccupancyMaxPotentialBlockSizeWithFlags(&blocks, &block, function, NULL, 0, 0, 0));
    HOLDS(block >= 32);
    OK(cuDeviceGetAttribute(&clusters, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 0));
    if (!clusters) {
        /* Each block is a cluster of its own. */
        memset(&config, 0, sizeof config);
        memset(&cluster, 0, sizeof cluster);
        config.gridDimX = config.gridDimY = config.gridDimZ = 1;
        config.blockDimX = 64;
        config.blockDimY = config.blockDimZ = 1;
        cluster.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        cluster.value.clusterDim.x = cluster.value.clusterDim.y = cluster.value.clusterDim.z = 1;
        config.attrs = &cluster;
        config.numAttrs = 1;
        OK(cuOccupancyMaxPotentialClusterSize(&size, function, &config));
        HOLDS(size == 1);
        OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, 64, 0));
        OK(cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
        OK(cuOccupancyMaxActiveClusters(&clusters, function, &config));
        HOLDS(clusters == blocks * processors);
    }

    OK(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
    OK(cuLibraryGetModule(&of, library));
    OK(cuLibraryGetGlobal(&variable, &bytes, library, "word"));
    HOLDS(bytes == 4 && word_at(variable) == 7);
    OK(cuLibraryGetKernel(&kernel, library, "fill"));
    OK(cuKernelGetParamInfo(kernel, 1, &offset, &bytes));
    HOLDS(offset == 8 && bytes == 4);
    OK(cuKernelSetCacheConfig(kernel, CU_FUNC_CACHE_PREFER_NONE, 0));
    OK(cuLaunchKernel((CUfunction)kernel, 1, 1, 1, 4, 1, 1, 0, NULL, parameters, NULL));
    HOLDS(word_at(at + 12) == 3);
    OK(cuLibraryUnload(library));
    file = mkstemp(path);
    HOLDS(file >= 0 && write(file, ptx, sizeof ptx) == sizeof ptx);
    close(file);
    OK(cuLibraryLoadFromFile(&from_file, path, NULL, NULL, 0, NULL, NULL, 0));
    OK(cuLibraryUnload(from_file));

    OK(cuLinkCreate(0, NULL, NULL, &link));
    OK(cuLinkAddData(link, CU_JIT_INPUT_PTX, (void *)ptx, sizeof ptx, "fill.ptx", 0, NULL, NULL));
    OK(cuLinkComplete(link, &image, &bytes));
    OK(cuModuleLoadData(&of, image));
    OK(cuLinkDestroy(link));
    OK(cuModuleUnload(of));
    OK(cuLinkCreate(0, NULL, NULL, &link));
    OK(cuLinkAddFile(link, CU_JIT_INPUT_PTX, path, 0, NULL, NULL));
    OK(cuLinkDestroy(link));
    unlink(path);
    OK(cuModuleUnload(module));
}

static void virtual_memory(CUdevice device)
{
    CUmemAllocationProp wanted, is;
    CUmemGenericAllocationHandle memory, same;
    CUmemAccessDesc access;
    CUdeviceptr range;
    unsigned long long flags = 0;
    size_t unit = 0;

    memset(&wanted, 0, sizeof wanted);
    wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    wanted.location.id = device;
    OK(cuMemGetAllocationGranularity(&unit, &wanted, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    HOLDS(unit >= 4096);
    OK(cuMemAddressReserve(&range, 4 * unit, 0, 0, 0));
    OK(cuMemCreate(&memory, unit, &wanted, 0));
    OK(cuMemMap(range, unit, 0, memory, 0));
    access.location = wanted.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    OK(cuMemSetAccess(range, unit, &access, 1));
    OK(cuMemGetAccess(&flags, &access.location, range));
    HOLDS(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    OK(cuMemGetAllocationPropertiesFromHandle(&is, memory));
    HOLDS(is.type == wanted.type && is.location.id == device);
    OK(cuMemRetainAllocationHandle(&same, (void *)range));
    OK(cuMemRelease(same));
    OK(cuMemsetD32(range, 9, unit / 4));
    HOLDS(word_at(range + unit - 4) == 9);
    OK(cuMemUnmap(range, unit));
    OK(cuMemRelease(memory));
    OK(cuMemAddressFree(range, 4 * unit));
}

static void memory(CUdeviceptr at, CUstream stream)
{
    unsigned host[16] = {1, 2, 3, 4};
    CUDA_MEMCPY2D copy;

    memset(&copy, 0, sizeof copy);
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = host;
    copy.srcPitch = 8;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = at;
    copy.dstPitch = 16;
    copy.WidthInBytes = 8;
    copy.Height = 2;
    OK(cuMemcpy2DAsync(&copy, stream));
    OK(cuStreamSynchronize(stream));
    HOLDS(word_at(at + 20) == 4);
    host[3] = 5;
    OK(cuMemcpy2DUnaligned(&copy));
    HOLDS(word_at(at + 20) == 5);
    OK(cuMemsetD16Async(at, 0x1234, 4, stream));
    OK(cuMemsetD2D8Async(at + 16, 16, 7, 4, 2, stream));
    OK(cuMemsetD2D16Async(at + 64, 32, 9, 2, 2, stream));
    OK(cuStreamSynchronize(stream));
    HOLDS(word_at(at + 4) == 0x12341234 && word_at(at + 32) == 0x07070707 && word_at(at + 96) == 0x00090009);
    OK(cuMemsetD2D32(at, 16, 11, 2, 2));
    HOLDS(word_at(at + 20) == 11);
}

static void streams(CUcontext context, CUdevice device, CUdeviceptr at, CUstream stream)
{
    CUstreamAttrValue value, copied;
    CUstreamBatchMemOpParams operations[2];
    CUcontext of;
    CUgreenCtx green = (CUgreenCtx)stream;
    CUdevice on = -1;
    CUstream other;

    OK(cuStreamGetCtx_v2(stream, &of, &green));
    HOLDS(of == context && green == NULL);
    OK(cuStreamGetDevice(stream, &on));
    HOLDS(on == device);
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    memset(&value, 0, sizeof value);
    value.syncPolicy = CU_SYNC_POLICY_YIELD;
    OK(cuStreamSetAttribute(stream, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
    OK(cuStreamCopyAttributes(other, stream));
    OK(cuStreamGetAttribute(other, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &copied));
    HOLDS(copied.syncPolicy == CU_SYNC_POLICY_YIELD);
    OK(cuStreamDestroy(other));
    OK(cuStreamWriteValue32(stream, at, 21, CU_STREAM_WRITE_VALUE_DEFAULT));
    OK(cuStreamWaitValue32(stream, at, 21, CU_STREAM_WAIT_VALUE_EQ));
    OK(cuStreamWriteValue64(stream, at + 8, 22, CU_STREAM_WRITE_VALUE_DEFAULT));
    OK(cuStreamWaitValue64(stream, at + 8, 22, CU_STREAM_WAIT_VALUE_GEQ));
    memset(operations, 0, sizeof operations);
    operations[0].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    operations[0].writeValue.address = at + 16;
    operations[0].writeValue.value = 23;
    operations[1].operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
    operations[1].waitValue.address = at + 16;
    operations[1].waitValue.value = 23;
    operations[1].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
    OK(cuStreamBatchMemOp(stream, 2, operations, 0));
    OK(cuStreamSynchronize(stream));
    HOLDS(word_at(at) == 21 && word_at(at + 8) == 22 && word_at(at + 16) == 23);
}

static void count_up(void *data)
{
    ++*(int *)data;
}

static void graphs(CUcontext context, CUdeviceptr at, CUstream stream)
{
    CUgraph graph;
    CUgraphNode kernel, set, host, record, wait, words, any;
    CUgraphExec exec;
    CUmodule module;
    CUfunction function;
    CUevent event, other, got;
    CUDA_KERNEL_NODE_PARAMS launch, asked;
    CUDA_MEMSET_NODE_PARAMS fill;
    CUDA_HOST_NODE_PARAMS call, called;
    CUDA_BATCH_MEM_OP_NODE_PARAMS batch;
    CUDA_GRAPH_INSTANTIATE_PARAMS with;
    CUstreamBatchMemOpParams operation;
    CUgraphNodeParams node;
    CUuserObject object;
    cuuint64_t flags = 9;
    unsigned value = 4;
    int calls = 0, destroyed = 0;
    void *parameters[] = {&at, &value};
    size_t count;

    OK(cuModuleLoadData(&module, ptx));
    OK(cuModuleGetFunction(&function, module, "fill"));
    OK(cuGraphCreate(&graph, 0));
    OK(cuEventCreate(&event, 0));
    OK(cuEventCreate(&other, 0));
    memset(&launch, 0, sizeof launch);
    launch.func = function;
    launch.gridDimX = launch.gridDimY = launch.gridDimZ = 1;
    launch.blockDimX = 4;
    launch.blockDimY = launch.blockDimZ = 1;
    launch.kernelParams = parameters;
    OK(cuGraphAddKernelNode(&kernel, graph, NULL, 0, &launch));
    OK(cuGraphKernelNodeGetParams(kernel, &asked));
    HOLDS(asked.blockDimX == 4 && *(unsigned *)asked.kernelParams[1] == 4);
    OK(cuGraphKernelNodeSetParams(kernel, &launch));
    memset(&fill, 0, sizeof fill);
    fill.dst = at + 16;
    fill.elementSize = 4;
    fill.value = 5;
    fill.width = fill.height = 1;
    OK(cuGraphAddMemsetNode(&set, graph, NULL, 0, &fill, context));
    fill.value = 6;
    OK(cuGraphMemsetNodeSetParams(set, &fill));
    call.fn = count_up;
    call.userData = &calls;
    OK(cuGraphAddHostNode(&host, graph, &kernel, 1, &call));
    OK(cuGraphHostNodeGetParams(host, &called));
    HOLDS(called.fn == count_up && called.userData == &calls);
    OK(cuGraphAddEventRecordNode(&record, graph, &host, 1, event));
    OK(cuGraphEventRecordNodeSetEvent(record, other));
    OK(cuGraphEventRecordNodeGetEvent(record, &got));
    HOLDS(got == other);
    OK(cuGraphAddEventWaitNode(&wait, graph, NULL, 0, other));
    OK(cuGraphEventWaitNodeSetEvent(wait, event));
    OK(cuGraphEventWaitNodeGetEvent(wait, &got));
    HOLDS(got == event);
    memset(&operation, 0, sizeof operation);
    operation.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    operation.writeValue.address = at + 32;
    operation.writeValue.value = 7;
    memset(&batch, 0, sizeof batch);
    batch.ctx = context;
    batch.count = 1;
    batch.paramArray = &operation;
    OK(cuGraphAddBatchMemOpNode(&words, graph, NULL, 0, &batch));
    operation.writeValue.value = 8;
    OK(cuGraphBatchMemOpNodeSetParams(words, &batch));
    memset(&node, 0, sizeof node);
    node.type = CU_GRAPH_NODE_TYPE_MEMSET;
    node.memset.dst = at + 48;
    node.memset.elementSize = 4;
    node.memset.value = 9;
    node.memset.width = node.memset.height = 1;
    node.memset.ctx = context;
    OK(cuGraphAddNode(&any, graph, NULL, NULL, 0, &node));
    node.memset.value = 10;
    OK(cuGraphNodeSetParams(any, &node));
    OK(cuGraphAddDependencies(graph, &set, &any, NULL, 1));
    OK(cuGraphGetEdges(graph, NULL, NULL, NULL, &count));
    HOLDS(count == 3);
    OK(cuGraphNodeGetDependencies(any, NULL, NULL, &count));
    HOLDS(count == 1);
    OK(cuGraphNodeGetDependentNodes(set, NULL, NULL, &count));
    HOLDS(count == 1);
    OK(cuGraphRemoveDependencies(graph, &set, &any, NULL, 1));
    memset(&with, 0, sizeof with);
    OK(cuGraphInstantiateWithParams(&exec, graph, &with));
    HOLDS(with.result_out == CUDA_GRAPH_INSTANTIATE_SUCCESS);
    OK(cuGraphExecGetFlags(exec, &flags));
    HOLDS(flags == 0);
    OK(cuGraphUpload(exec, stream));
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    HOLDS(word_at(at + 12) == 4 && word_at(at + 16) == 6 && word_at(at + 32) == 8 && word_at(at + 48) == 10);
    HOLDS(calls == 1);
    value = 12;
    OK(cuGraphExecKernelNodeSetParams(exec, kernel, &launch));
    fill.value = 13;
    OK(cuGraphExecMemsetNodeSetParams(exec, set, &fill, context));
    OK(cuGraphExecHostNodeSetParams(exec, host, &call));
    OK(cuGraphExecEventRecordNodeSetEvent(exec, record, event));
    OK(cuGraphExecEventWaitNodeSetEvent(exec, wait, other));
    operation.writeValue.value = 14;
    OK(cuGraphExecBatchMemOpNodeSetParams(exec, words, &batch));
    node.memset.value = 15;
    OK(cuGraphExecNodeSetParams(exec, any, &node));
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    HOLDS(word_at(at + 12) == 12 && word_at(at + 16) == 13 && word_at(at + 32) == 14 && word_at(at + 48) == 15);
    OK(cuUserObjectCreate(&object, &destroyed, count_up, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    OK(cuUserObjectRetain(object, 1));
    OK(cuUserObjectRelease(object, 2));
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(graph));
    OK(cuEventDestroy(event));
    OK(cuEventDestroy(other));
    OK(cuModuleUnload(module));
}

static void capture(CUdeviceptr at, CUstream stream)
{
    CUgraph graph, got;
    CUstreamCaptureStatus status;
    const CUgraphNode *nodes;
    const CUgraphEdgeData *edges;
    cuuint64_t id;
    size_t count;

    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    OK(cuMemsetD8Async(at, 0, 16, stream));
    OK(cuStreamGetCaptureInfo(stream, &status, &id, &got, &nodes, &edges, &count));
    HOLDS(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && count == 1);
    OK(cuStreamUpdateCaptureDependencies(stream, NULL, NULL, 0, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
    OK(cuStreamEndCapture(stream, &graph));
    HOLDS(graph == got);
    OK(cuGraphDestroy(graph));
}

int main(void)
{
    CUdevice device;
    CUcontext context;
    CUdeviceptr at;
    CUstream stream;

    OK(cuInit(0));
    OK(cuDeviceGet(&device, 0));
    devices(device);
    OK(cuDevicePrimaryCtxRetain(&context, device));
    OK(cuCtxSetCurrent(context));
    OK(cuMemAlloc(&at, 256));
    OK(cuMemsetD8(at, 0, 256));
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    contexts(context, device);
    functions(at);
    virtual_memory(device);
    memory(at, stream);
    streams(context, device, at, stream);
    graphs(context, at, stream);
    capture(at, stream);
    OK(cuDevicePrimaryCtxReset(device));
    /* It went with its context. */
    HOLDS(cuMemFree(at) != CUDA_SUCCESS);
    return failures != 0;
}
