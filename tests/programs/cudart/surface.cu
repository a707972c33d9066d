/* Calls of the runtime that no other program makes, each once with whole arguments and what must come of it.
   For CUDA 13's headers only: earlier ones declare some of the calls with other arguments. */
#include <cstdint>
#include <cstring>
#include <vector>

#include "check.h"

/* What the headers of the compiler's packages do not declare: a header of its own, and CUDA 13.1. */
extern "C" cudaError_t cudaProfilerStart(void);
extern "C" cudaError_t cudaProfilerStop(void);
#if CUDART_VERSION < 13010
extern "C" cudaError_t cudaGraphGetId(cudaGraph_t, unsigned *);
extern "C" cudaError_t cudaGraphExecGetId(cudaGraphExec_t, unsigned *);
extern "C" cudaError_t cudaGraphNodeGetContainingGraph(cudaGraphNode_t, cudaGraph_t *);
extern "C" cudaError_t cudaGraphNodeGetLocalId(cudaGraphNode_t, unsigned *);
extern "C" cudaError_t cudaGraphNodeGetToolsId(cudaGraphNode_t, unsigned long long *);
#endif

__global__ void set_to(int *at, int value)
{
    at[threadIdx.x] = value;
}

__device__ int variable[4];

static int read(const int *at)
{
    int value = -1;
    NEED(cudaMemcpy(&value, at, sizeof value, cudaMemcpyDeviceToHost));
    return value;
}

static void device()
{
    cudaFuncCache cache;
    cudaSharedMemConfig banks;
    unsigned flags;
    int value, count = 1;
    GIVES(cudaInitDevice(0, 0, 0), cudaSuccess);
    GIVES(cudaSetValidDevices(&value, 0), cudaSuccess);
    value = 0;
    GIVES(cudaSetValidDevices(&value, count), cudaSuccess);
    GIVES(cudaGetDeviceFlags(&flags), cudaSuccess);
    GIVES(cudaDeviceSetCacheConfig(cudaFuncCachePreferL1), cudaSuccess);
    GIVES(cudaDeviceGetCacheConfig(&cache), cudaSuccess);
    HOLDS(cache == cudaFuncCachePreferL1);
    GIVES(cudaDeviceSetSharedMemConfig(cudaSharedMemBankSizeEightByte), cudaSuccess);
    GIVES(cudaDeviceGetSharedMemConfig(&banks), cudaSuccess);
    HOLDS(banks == cudaSharedMemBankSizeEightByte);
    GIVES(cudaDeviceGetP2PAttribute(&value, cudaDevP2PAttrAccessSupported, 0, 0), cudaErrorInvalidDevice);
    unsigned capabilities[2] = {9, 9};
    cudaAtomicOperation operations[2] = {cudaAtomicOperationIntegerAdd, cudaAtomicOperationCAS};
    GIVES(cudaDeviceGetHostAtomicCapabilities(capabilities, operations, 2, 0), cudaSuccess);
    HOLDS(capabilities[0] == 0 && capabilities[1] == 0);
    GIVES(cudaDeviceGetP2PAtomicCapabilities(capabilities, operations, 2, 0, 0), cudaErrorInvalidDevice);
    GIVES(cudaCtxResetPersistingL2Cache(), cudaErrorNotSupported);
    GIVES(cudaDeviceFlushGPUDirectRDMAWrites(cudaFlushGPUDirectRDMAWritesTargetCurrentDevice,
                                             cudaFlushGPUDirectRDMAWritesToOwner), cudaErrorNotSupported);
    GIVES(cudaProfilerStart(), cudaSuccess);
    GIVES(cudaProfilerStop(), cudaSuccess);
    GIVES(cudaDeviceGraphMemTrim(0), cudaSuccess);
    uint64_t bytes = 1;
    GIVES(cudaDeviceGetGraphMemAttribute(0, cudaGraphMemAttrUsedMemCurrent, &bytes), cudaSuccess);
    HOLDS(bytes == 0);
    GIVES(cudaDeviceSetGraphMemAttribute(0, cudaGraphMemAttrUsedMemHigh, &bytes), cudaSuccess);
    cudaGetLastError();
}

static void functions()
{
    const char *name;
    size_t offset, bytes;
    cudaFunction_t function;
    cudaKernel_t kernel;
    GIVES(cudaFuncGetName(&name, (const void *)set_to), cudaSuccess);
    HOLDS(strstr(name, "set_to") != nullptr);
    GIVES(cudaFuncGetParamInfo((const void *)set_to, 1, &offset, &bytes), cudaSuccess);
    HOLDS(offset == 8 && bytes == 4);
    GIVES(cudaFuncGetParamInfo((const void *)set_to, 2, &offset, &bytes), cudaErrorInvalidValue);
    GIVES(cudaFuncSetCacheConfig((const void *)set_to, cudaFuncCachePreferShared), cudaSuccess);
    GIVES(cudaFuncSetSharedMemConfig((const void *)set_to, cudaSharedMemBankSizeDefault), cudaSuccess);
    GIVES(cudaGetFuncBySymbol(&function, (const void *)set_to), cudaSuccess);
    HOLDS(function != nullptr);
    GIVES(cudaGetKernel(&kernel, (const void *)set_to), cudaSuccess);
    HOLDS(kernel != nullptr);
    GIVES(cudaKernelSetAttributeForDevice(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 1024, 0), cudaSuccess);
    GIVES(cudaOccupancyAvailableDynamicSMemPerBlock(&bytes, (const void *)set_to, 1, 128), cudaSuccess);
    HOLDS(bytes >= 16 << 10);
    int *at;
    NEED(cudaMalloc(&at, 16));
    int number = 41;
    void *arguments[] = {&at, &number};
    int cooperative;
    NEED(cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, 0));
    GIVES(cudaLaunchCooperativeKernel((const void *)set_to, dim3(1), dim3(4), arguments, 0, 0),
          cooperative ? cudaSuccess : cudaErrorNotSupported);
    HOLDS(!cooperative || read(at + 3) == 41);
    cudaGetLastError();
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1);
    config.blockDim = dim3(4);
    number = 42;
    GIVES(cudaLaunchKernelExC(&config, (const void *)set_to, arguments), cudaSuccess);
    HOLDS(read(at + 2) == 42);
    NEED(cudaFree(at));
}

/* PTX of a kernel `fill(int *at, int value)` and of a variable. */
static const char *const ptx = ".version 7.0\n.target sm_50\n.address_size 64\n"
    ".visible .global .align 4 .u32 word = 7;\n"
    ".visible .entry fill(.param .u64 at, .param .u32 value)\n"
    "{\n.reg .b32 %r1; .reg .b64 %d1;\nld.param.u64 %d1, [at]; ld.param.u32 %r1, [value];\n"
    "st.global.u32 [%d1], %r1;\nret;\n}\n";

static void libraries()
{
    cudaLibrary_t library;
    cudaKernel_t kernel, listed;
    unsigned count = 0;
    void *at;
    size_t bytes;
    GIVES(cudaLibraryLoadData(&library, ptx, nullptr, nullptr, 0, nullptr, nullptr, 0), cudaSuccess);
    GIVES(cudaLibraryGetKernel(&kernel, library, "fill"), cudaSuccess);
    GIVES(cudaLibraryGetKernelCount(&count, library), cudaSuccess);
    HOLDS(count == 1);
    GIVES(cudaLibraryEnumerateKernels(&listed, 1, library), cudaSuccess);
    HOLDS(listed == kernel);
    GIVES(cudaLibraryGetGlobal(&at, &bytes, library, "word"), cudaSuccess);
    HOLDS(bytes == 4 && read((int *)at) == 7);
    int value = 9;
    void *arguments[] = {&at, &value};
    GIVES(cudaLaunchKernel((const void *)kernel, dim3(1), dim3(1), arguments, 0, 0), cudaSuccess);
    HOLDS(read((int *)at) == 9);
    void *function;
    GIVES(cudaLibraryGetManaged(&at, &bytes, library, "nothing"), cudaErrorSymbolNotFound);
    GIVES(cudaLibraryGetUnifiedFunction(&function, library, "nothing"), cudaErrorSymbolNotFound);
    GIVES(cudaLibraryUnload(library), cudaSuccess);
    GIVES(cudaLibraryLoadFromFile(&library, "/no/such/file", nullptr, nullptr, 0, nullptr, nullptr, 0),
          cudaErrorFileNotFound);
    cudaGetLastError();
}

static void streams()
{
    cudaStream_t stream, other;
    cudaEvent_t event;
    cudaLaunchAttributeValue value = {}, copied = {};
    int ordinal = -1;
    NEED(cudaStreamCreate(&stream));
    NEED(cudaStreamCreate(&other));
    NEED(cudaEventCreate(&event));
    GIVES(cudaStreamGetDevice(stream, &ordinal), cudaSuccess);
    HOLDS(ordinal == 0);
    value.syncPolicy = cudaSyncPolicyYield;
    GIVES(cudaStreamSetAttribute(stream, cudaLaunchAttributeSynchronizationPolicy, &value), cudaSuccess);
    GIVES(cudaStreamCopyAttributes(other, stream), cudaSuccess);
    GIVES(cudaStreamGetAttribute(other, cudaLaunchAttributeSynchronizationPolicy, &copied), cudaSuccess);
    HOLDS(copied.syncPolicy == cudaSyncPolicyYield);
    GIVES(cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault), cudaSuccess);
    GIVES(cudaEventSynchronize(event), cudaSuccess);
    NEED(cudaEventDestroy(event));
    NEED(cudaStreamDestroy(other));
    NEED(cudaStreamDestroy(stream));
}

static void count_up(void *data)
{
    ++*(int *)data;
}

/* A graph node of every kind, asked and changed. */
static void nodes()
{
    cudaGraph_t graph, clone, inner, found_graph;
    cudaGraphNode_t kernel, copy, set, host, record, wait, child, empty, found;
    cudaGraphExec_t exec;
    cudaEvent_t event, other, got;
    int *at, *out, value = 5, back = 0, calls = 0;
    size_t count;
    unsigned id = 0, number = 77;
    unsigned long long tools = 0, flags = 9;
    NEED(cudaMalloc(&at, 64));
    NEED(cudaMalloc(&out, 64));
    NEED(cudaEventCreate(&event));
    NEED(cudaEventCreate(&other));
    NEED(cudaGraphCreate(&graph, 0));
    NEED(cudaGraphCreate(&inner, 0));
    GIVES(cudaGraphAddEmptyNode(&empty, inner, nullptr, 0), cudaSuccess);

    void *arguments[] = {&at, &value};
    cudaKernelNodeParams launch = {};
    launch.func = (void *)set_to;
    launch.gridDim = dim3(1);
    launch.blockDim = dim3(4);
    launch.kernelParams = arguments;
    GIVES(cudaGraphAddKernelNode(&kernel, graph, nullptr, 0, &launch), cudaSuccess);
    cudaKernelNodeParams asked = {};
    GIVES(cudaGraphKernelNodeGetParams(kernel, &asked), cudaSuccess);
    HOLDS(asked.blockDim.x == 4 && *(int *)asked.kernelParams[1] == 5);
    cudaLaunchAttributeValue attribute = {};
    attribute.priority = -1;
    GIVES(cudaGraphKernelNodeSetAttribute(kernel, cudaLaunchAttributePriority, &attribute), cudaSuccess);
    attribute.priority = 0;
    GIVES(cudaGraphKernelNodeGetAttribute(kernel, cudaLaunchAttributePriority, &attribute), cudaSuccess);
    HOLDS(attribute.priority == -1);

    GIVES(cudaGraphAddMemcpyNode1D(&copy, graph, &kernel, 1, out, at, 16, cudaMemcpyDeviceToDevice), cudaSuccess);
    cudaMemcpy3DParms parameters = {};
    GIVES(cudaGraphMemcpyNodeGetParams(copy, &parameters), cudaSuccess);
    HOLDS(parameters.extent.width == 16 && parameters.dstPtr.ptr == out);
    GIVES(cudaGraphMemcpyNodeSetParams1D(copy, out, at, 8, cudaMemcpyDeviceToDevice), cudaSuccess);
    GIVES(cudaGraphMemcpyNodeSetParams(copy, &parameters), cudaSuccess);

    cudaMemsetParams fill = {};
    fill.dst = out + 8;
    fill.elementSize = 4;
    fill.value = 3;
    fill.width = 4;
    fill.height = 1;
    GIVES(cudaGraphAddMemsetNode(&set, graph, nullptr, 0, &fill), cudaSuccess);
    cudaMemsetParams filled = {};
    GIVES(cudaGraphMemsetNodeGetParams(set, &filled), cudaSuccess);
    HOLDS(filled.dst == out + 8 && filled.width == 4 && filled.value == 3);
    fill.value = 6;
    GIVES(cudaGraphMemsetNodeSetParams(set, &fill), cudaSuccess);

    cudaHostNodeParams call = {count_up, &calls}, called = {};
    GIVES(cudaGraphAddHostNode(&host, graph, &copy, 1, &call), cudaSuccess);
    GIVES(cudaGraphHostNodeGetParams(host, &called), cudaSuccess);
    HOLDS(called.fn == count_up && called.userData == &calls);
    GIVES(cudaGraphHostNodeSetParams(host, &call), cudaSuccess);

    GIVES(cudaGraphAddEventRecordNode(&record, graph, &host, 1, event), cudaSuccess);
    GIVES(cudaGraphEventRecordNodeGetEvent(record, &got), cudaSuccess);
    HOLDS(got == event);
    GIVES(cudaGraphEventRecordNodeSetEvent(record, other), cudaSuccess);
    GIVES(cudaGraphAddEventWaitNode(&wait, graph, nullptr, 0, event), cudaSuccess);
    GIVES(cudaGraphEventWaitNodeGetEvent(wait, &got), cudaSuccess);
    HOLDS(got == event);
    GIVES(cudaGraphEventWaitNodeSetEvent(wait, event), cudaSuccess);
    GIVES(cudaGraphAddChildGraphNode(&child, graph, nullptr, 0, inner), cudaSuccess);
    GIVES(cudaGraphChildGraphNodeGetGraph(child, &found_graph), cudaSuccess);
    HOLDS(found_graph != nullptr && found_graph != inner);

    /* Names and places. */
    GIVES(cudaGraphGetId(graph, &id), cudaSuccess);
    GIVES(cudaGraphNodeGetContainingGraph(copy, &found_graph), cudaSuccess);
    HOLDS(found_graph == graph);
    GIVES(cudaGraphNodeGetLocalId(copy, &number), cudaSuccess);
    HOLDS(number == 1);
    GIVES(cudaGraphNodeGetToolsId(copy, &tools), cudaSuccess);
    HOLDS(tools != 0);
    count = 0;
    GIVES(cudaGraphGetRootNodes(graph, nullptr, &count), cudaSuccess);
    HOLDS(count == 4);

    /* Edges. */
    GIVES(cudaGraphAddDependencies(graph, &set, &host, nullptr, 1), cudaSuccess);
    count = 0;
    GIVES(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &count), cudaSuccess);
    HOLDS(count == 4);
    GIVES(cudaGraphNodeGetDependencies(host, nullptr, nullptr, &count), cudaSuccess);
    HOLDS(count == 2);
    GIVES(cudaGraphNodeGetDependentNodes(set, nullptr, nullptr, &count), cudaSuccess);
    HOLDS(count == 1);
    GIVES(cudaGraphRemoveDependencies(graph, &set, &host, nullptr, 1), cudaSuccess);
    GIVES(cudaGraphRemoveDependencies(graph, &set, &host, nullptr, 1), cudaErrorInvalidValue);

    /* A clone, and a node of any kind. */
    GIVES(cudaGraphClone(&clone, graph), cudaSuccess);
    GIVES(cudaGraphNodeFindInClone(&found, copy, clone), cudaSuccess);
    HOLDS(found != copy);
    GIVES(cudaGraphDestroyNode(found), cudaSuccess);
    GIVES(cudaGraphDestroy(clone), cudaSuccess);
    cudaGraphNodeParams any = {};
    any.type = cudaGraphNodeTypeMemset;
    any.memset = {};
    any.memset.dst = out + 12;
    any.memset.elementSize = 4;
    any.memset.value = 1;
    any.memset.width = 1;
    any.memset.height = 1;
    GIVES(cudaGraphAddNode(&found, graph, nullptr, nullptr, 0, &any), cudaSuccess);
    any.memset.value = 2;
    GIVES(cudaGraphNodeSetParams(found, &any), cudaSuccess);
    GIVES(cudaGraphDebugDotPrint(graph, "/dev/null", cudaGraphDebugDotFlagsVerbose), cudaSuccess);

    /* Executed, and changed while it is executable. */
    cudaStream_t stream;
    NEED(cudaStreamCreate(&stream));
    GIVES(cudaGraphInstantiateWithFlags(&exec, graph, 0), cudaSuccess);
    GIVES(cudaGraphExecGetFlags(exec, &flags), cudaSuccess);
    HOLDS(flags == 0);
    GIVES(cudaGraphExecGetId(exec, &id), cudaSuccess);
    GIVES(cudaGraphUpload(exec, stream), cudaSuccess);
    GIVES(cudaGraphLaunch(exec, stream), cudaSuccess);
    NEED(cudaStreamSynchronize(stream));
    HOLDS(read(out + 3) == 5 && read(out + 8) == 6 && read(out + 12) == 2 && calls == 1);
    value = 11;
    GIVES(cudaGraphExecKernelNodeSetParams(exec, kernel, &launch), cudaSuccess);
    GIVES(cudaGraphExecMemcpyNodeSetParams1D(exec, copy, out, at, 4, cudaMemcpyDeviceToDevice), cudaSuccess);
    GIVES(cudaGraphExecMemcpyNodeSetParams(exec, copy, &parameters), cudaSuccess);
    fill.value = 7;
    GIVES(cudaGraphExecMemsetNodeSetParams(exec, set, &fill), cudaSuccess);
    GIVES(cudaGraphExecHostNodeSetParams(exec, host, &call), cudaSuccess);
    GIVES(cudaGraphExecEventRecordNodeSetEvent(exec, record, event), cudaSuccess);
    GIVES(cudaGraphExecEventWaitNodeSetEvent(exec, wait, other), cudaSuccess);
    GIVES(cudaGraphExecChildGraphNodeSetParams(exec, child, inner), cudaSuccess);
    any.memset.value = 8;
    GIVES(cudaGraphExecNodeSetParams(exec, found, &any), cudaSuccess);
    GIVES(cudaGraphNodeSetEnabled(exec, set, 0), cudaSuccess);
    GIVES(cudaGraphNodeGetEnabled(exec, set, &number), cudaSuccess);
    HOLDS(number == 0);
    GIVES(cudaGraphLaunch(exec, stream), cudaSuccess);
    NEED(cudaStreamSynchronize(stream));
    HOLDS(read(out + 3) == 11 && read(out + 8) == 6 && read(out + 12) == 8 && calls == 2);
    cudaGraphExecUpdateResultInfo result;
    GIVES(cudaGraphExecUpdate(exec, graph, &result), cudaSuccess);
    HOLDS(result.result == cudaGraphExecUpdateSuccess);
    GIVES(cudaGraphDestroyNode(found), cudaSuccess);
    GIVES(cudaGraphExecUpdate(exec, graph, &result), cudaErrorGraphExecUpdateFailure);
    HOLDS(result.result == cudaGraphExecUpdateErrorTopologyChanged);
    GIVES(cudaGraphExecDestroy(exec), cudaSuccess);
    cudaGraphInstantiateParams with = {};
    GIVES(cudaGraphInstantiateWithParams(&exec, graph, &with), cudaSuccess);
    HOLDS(with.result_out == cudaGraphInstantiateSuccess);
    GIVES(cudaGraphExecDestroy(exec), cudaSuccess);

    /* Objects that a graph keeps. */
    cudaUserObject_t object;
    int destroyed = 0;
    GIVES(cudaUserObjectCreate(&object, &destroyed, count_up, 1, cudaUserObjectNoDestructorSync), cudaSuccess);
    GIVES(cudaUserObjectRetain(object, 1), cudaSuccess);
    GIVES(cudaGraphRetainUserObject(graph, object, 1, cudaGraphUserObjectMove), cudaSuccess);
    GIVES(cudaUserObjectRelease(object, 1), cudaSuccess);
    GIVES(cudaGraphReleaseUserObject(graph, object, 1), cudaSuccess);

    /* Variables of the program. */
    GIVES(cudaGraphAddMemcpyNodeToSymbol(&found, graph, nullptr, 0, variable, &value, 4, 8, cudaMemcpyHostToDevice),
          cudaSuccess);
    GIVES(cudaGraphMemcpyNodeSetParamsToSymbol(found, variable, &value, 4, 4, cudaMemcpyHostToDevice), cudaSuccess);
    GIVES(cudaGraphAddMemcpyNodeFromSymbol(&copy, graph, &found, 1, &back, variable, 4, 8, cudaMemcpyDeviceToHost),
          cudaSuccess);
    GIVES(cudaGraphMemcpyNodeSetParamsFromSymbol(copy, &back, variable, 4, 4, cudaMemcpyDeviceToHost), cudaSuccess);
    GIVES(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    GIVES(cudaGraphExecMemcpyNodeSetParamsToSymbol(exec, found, variable, &value, 4, 4, cudaMemcpyHostToDevice),
          cudaSuccess);
    GIVES(cudaGraphExecMemcpyNodeSetParamsFromSymbol(exec, copy, &back, variable, 4, 4, cudaMemcpyDeviceToHost),
          cudaSuccess);
    GIVES(cudaGraphLaunch(exec, stream), cudaSuccess);
    NEED(cudaStreamSynchronize(stream));
    HOLDS(back == 11);
    GIVES(cudaGraphExecDestroy(exec), cudaSuccess);
    GIVES(cudaGraphDestroy(graph), cudaSuccess);
    GIVES(cudaGraphDestroy(inner), cudaSuccess);
    NEED(cudaStreamDestroy(stream));
    NEED(cudaEventDestroy(event));
    NEED(cudaEventDestroy(other));
    NEED(cudaFree(at));
    NEED(cudaFree(out));
}

/* Memory that a graph allocates and frees. */
static void memory_nodes()
{
    cudaGraph_t graph;
    cudaGraphNode_t alloc, set, release;
    cudaGraphExec_t exec;
    void *freed = nullptr;
    NEED(cudaGraphCreate(&graph, 0));
    cudaMemAllocNodeParams wanted = {}, asked = {};
    wanted.poolProps.allocType = cudaMemAllocationTypePinned;
    wanted.poolProps.location.type = cudaMemLocationTypeDevice;
    wanted.bytesize = 4096;
    GIVES(cudaGraphAddMemAllocNode(&alloc, graph, nullptr, 0, &wanted), cudaSuccess);
    GIVES(cudaGraphMemAllocNodeGetParams(alloc, &asked), cudaSuccess);
    HOLDS(wanted.dptr != nullptr && asked.dptr == wanted.dptr && asked.bytesize == 4096);
    cudaMemsetParams fill = {};
    fill.dst = wanted.dptr;
    fill.elementSize = 1;
    fill.width = 4096;
    fill.height = 1;
    GIVES(cudaGraphAddMemsetNode(&set, graph, &alloc, 1, &fill), cudaSuccess);
    GIVES(cudaGraphAddMemFreeNode(&release, graph, &set, 1, wanted.dptr), cudaSuccess);
    GIVES(cudaGraphMemFreeNodeGetParams(release, &freed), cudaSuccess);
    HOLDS(freed == wanted.dptr);
    GIVES(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    GIVES(cudaGraphLaunch(exec, 0), cudaSuccess);
    GIVES(cudaDeviceSynchronize(), cudaSuccess);
    GIVES(cudaGraphExecDestroy(exec), cudaSuccess);
    GIVES(cudaGraphDestroy(graph), cudaSuccess);
}

/* A capture into a graph that is there, with its dependencies changed on the way. */
static void capture()
{
    cudaStream_t stream;
    cudaGraph_t graph, captured, got;
    cudaStreamCaptureStatus status;
    unsigned long long id;
    const cudaGraphNode_t *nodes;
    const cudaGraphEdgeData *edges;
    size_t count;
    int *at;
    NEED(cudaMalloc(&at, 16));
    NEED(cudaStreamCreate(&stream));
    NEED(cudaGraphCreate(&graph, 0));
    GIVES(cudaStreamBeginCaptureToGraph(stream, graph, nullptr, nullptr, 0, cudaStreamCaptureModeRelaxed), cudaSuccess);
    NEED(cudaMemsetAsync(at, 0, 16, stream));
    GIVES(cudaStreamGetCaptureInfo(stream, &status, &id, &got, &nodes, &edges, &count), cudaSuccess);
    HOLDS(status == cudaStreamCaptureStatusActive && got == graph && count == 1);
    GIVES(cudaStreamUpdateCaptureDependencies(stream, nullptr, nullptr, 0, cudaStreamSetCaptureDependencies),
          cudaSuccess);
    NEED(cudaMemsetAsync(at, 0, 16, stream));
    GIVES(cudaStreamEndCapture(stream, &captured), cudaSuccess);
    HOLDS(captured == graph);
    count = 0;
    GIVES(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &count), cudaSuccess);
    HOLDS(count == 0);
    NEED(cudaGraphDestroy(graph));
    NEED(cudaStreamDestroy(stream));
    NEED(cudaFree(at));
}

int main()
{
    device();
    functions();
    libraries();
    streams();
    nodes();
    memory_nodes();
    capture();
    return failures != 0;
}
