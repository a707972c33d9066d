/*
 * What must fail in the driver API, and how, against NVIDIA's own cuda.h: a line for each row, `PASS row` or
 * `FAIL row: why`.
 *
 * A row is the result, the call, and what is bad about it. `cargo xtask test --only abi` compares each row with the
 * header's comments: the result of BAD stands among those that the function's own comment names; that of BEYOND does not,
 * and its last word is what the result's comment says of it.
 *
 * cc driver_errors.c -lcuda -lpthread && ./a.out
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda.h>

static int failures;

static void row(CUresult expected, CUresult got, const char *call, const char *what)
{
    const char *name = "?";

    if (got == expected) {
        printf("PASS %s: %s\n", call, what);
        return;
    }
    cuGetErrorName(got, &name);
    printf("FAIL %s: %s: %s (%d), expected %d\n", call, what, name, got, expected);
    failures++;
}
#define BAD(expected, call, what) row(expected, call, #call, what)
#define BEYOND(expected, call, what, why) row(expected, call, #call, what ", " why)

static void need(CUresult got, const char *call)
{
    if (got != CUDA_SUCCESS) {
        printf("FAIL %s: %d\n", call, got);
        exit(1);
    }
}
#define NEED(call) need(call, #call)

static const char ptx[] = ".version 7.0\n.target sm_50\n.address_size 64\n"
    ".visible .global .align 4 .u32 word = 7;\n"
    ".visible .entry fill(.param .u64 at)\n{\nret;\n}\n";

/* What most rows use. */
static CUdevice device;
static CUcontext context;
static CUmodule module;
static CUfunction function;
static CUstream stream;
static CUevent event;
static CUdeviceptr at;
static char host[4096];
static void *parameters[] = {&at};

#define NO_DEVICE 99

static void null_pointers(void)
{
    CUmodule loaded;
    CUfunction found;
    CUdeviceptr address;
    CUgraph graph;
    CUgraphNode node;
    CUdevice other;
    size_t bytes;
    CUmemAllocationProp memory = {.type = CU_MEM_ALLOCATION_TYPE_PINNED};
    CUmemPoolProps pool = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED};
    size_t unit;

    memory.location.type = pool.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    BAD(CUDA_ERROR_INVALID_VALUE, cuDriverGetVersion(NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGetErrorName(CUDA_SUCCESS, NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGetErrorString(CUDA_SUCCESS, NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGet(NULL, 0), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetCount(NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetName(NULL, 16, device), "no place for the name");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetUuid(NULL, device), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceTotalMem(NULL, device), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(NULL, CU_DEVICE_ATTRIBUTE_WARP_SIZE, device),
        "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetPCIBusId(NULL, 16, device), "no place for the text");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetByPCIBusId(NULL, "0000:00:00.0"), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetByPCIBusId(&other, NULL), "no text");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDevicePrimaryCtxRetain(NULL, device), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDevicePrimaryCtxGetState(device, NULL, NULL), "no place for the results");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxCreate(NULL, NULL, 0, device), "no place for the result");
    BEYOND(CUDA_ERROR_INVALID_VALUE, cuCtxGetCurrent(NULL), "no place for the result", "a parameter is not acceptable");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxGetDevice(NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxGetLimit(NULL, CU_LIMIT_STACK_SIZE), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxGetCacheConfig(NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(NULL, ptx), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(&loaded, NULL), "no image");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleLoad(&loaded, NULL), "no name of a file");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleGetFunction(NULL, module, "fill"), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleGetFunction(&found, module, NULL), "no name");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleGetGlobal(&address, &bytes, module, NULL), "no name");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemGetInfo(NULL, &bytes), "no place for a result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAlloc(NULL, 16), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch(NULL, &bytes, 16, 2, 4), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch(&address, NULL, 16, 2, 4), "no place for the pitch");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAllocHost(NULL, 16), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemHostAlloc(NULL, 16, 0), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(NULL, 16, CU_MEM_ATTACH_GLOBAL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAllocAsync(NULL, 16, stream), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemPoolCreate(NULL, &pool), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAddressReserve(NULL, 1 << 21, 0, 0, 0), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemCreate(NULL, 1 << 21, &memory, 0), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemGetAllocationGranularity(NULL, &memory, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
        "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemGetAllocationGranularity(&unit, NULL, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
        "no properties");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(at, NULL, 16), "no source");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(NULL, at, 16), "no target");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoD(0, at, 16), "no target");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoD(at, 0, 16), "no source");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(NULL), "no parameters");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(NULL), "no parameters");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemsetD8(0, 1, 16), "no target");
    BAD(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute(NULL, CU_POINTER_ATTRIBUTE_CONTEXT, at),
        "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(NULL, CU_STREAM_DEFAULT), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuStreamGetFlags(stream, NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuStreamGetPriority(stream, NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuStreamGetId(stream, NULL), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuStreamIsCapturing(stream, NULL), "no place for the result");
    BEYOND(CUDA_ERROR_INVALID_VALUE, cuStreamAddCallback(stream, NULL, NULL, 0), "no function",
           "a parameter is not acceptable");
    BEYOND(CUDA_ERROR_INVALID_VALUE, cuLaunchHostFunc(stream, NULL, NULL), "no function",
           "a parameter is not acceptable");
    BAD(CUDA_ERROR_INVALID_VALUE, cuEventCreate(NULL, CU_EVENT_DEFAULT), "no place for the result");
    BEYOND(CUDA_ERROR_INVALID_VALUE, cuEventElapsedTime(NULL, event, event), "no place for the result",
           "a parameter is not acceptable");
    BAD(CUDA_ERROR_INVALID_VALUE, cuFuncGetAttribute(NULL, CU_FUNC_ATTRIBUTE_NUM_REGS, function),
        "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(NULL, function, 32, 0),
        "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(NULL, function, parameters, NULL), "no configuration");
    NEED(cuGraphCreate(&graph, 0));
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphCreate(NULL, 0), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphClone(NULL, graph), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiate(NULL, graph, 0), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphAddEmptyNode(NULL, graph, NULL, 0), "no place for the result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphAddKernelNode(&node, graph, NULL, 0, NULL), "no parameters");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphAddEmptyNode(&node, graph, NULL, 1), "no list of dependencies");
    NEED(cuGraphDestroy(graph));
    BAD(CUDA_ERROR_INVALID_VALUE, cuThreadExchangeStreamCaptureMode(NULL), "no place for the mode");
}

static void null_handles(void)
{
    CUfunction found;
    CUgraph graph;
    CUgraphExec exec;
    int value;

    BAD(CUDA_ERROR_INVALID_CONTEXT, cuCtxPushCurrent(NULL), "no context");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(NULL, stream), "no event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(NULL), "no event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventSynchronize(NULL), "no event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy(NULL), "no event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamWaitEvent(stream, NULL, 0), "no event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy(NULL), "the default stream");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, NULL), "no function");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel(NULL, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL), "no function");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleGetFunction(&found, NULL, "fill"), "no module");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleUnload(NULL), "no module");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(NULL), "no graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphExecDestroy(NULL), "no executable graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphClone(&graph, NULL), "no graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiate(&exec, NULL, 0), "no graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(NULL, stream), "no executable graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(NULL), "no pool");
    BAD(CUDA_ERROR_INVALID_VALUE, cuUserObjectRelease(NULL, 1), "no object");
}

static void devices(void)
{
    CUcontext made;
    CUuuid uuid;
    CUdevice other;
    char text[64];
    size_t bytes;
    int value;
    const int none[] = {NO_DEVICE, -1, INT32_MAX};
    size_t i;

    for (i = 0; i < sizeof none / sizeof *none; i++) {
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&other, none[i]), "no such ordinal");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetName(text, sizeof text, none[i]), "no such device");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetUuid(&uuid, none[i]), "no such device");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceTotalMem(&bytes, none[i]), "no such device");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, none[i]),
            "no such device");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetPCIBusId(text, sizeof text, none[i]), "no such device");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDevicePrimaryCtxRetain(&made, none[i]), "no such device");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDevicePrimaryCtxRelease(none[i]), "no such device");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuCtxCreate(&made, NULL, 0, none[i]), "no such device");
        BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceCanAccessPeer(&value, device, none[i]), "no such device");
    }
    BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, device,
                                                           device), "a device is no peer of itself");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetByPCIBusId(&other, "no such place"), "no address");
    BAD(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetByPCIBusId(&other, "ffff:ff:1f.0"), "no device there");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetPCIBusId(text, 4, device), "too little room");
}

static void sizes(void)
{
    CUDA_MEMCPY2D box = {.srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = host, .dstMemoryType = CU_MEMORYTYPE_DEVICE};
    CUmemAllocationProp wanted = {.type = CU_MEM_ALLOCATION_TYPE_PINNED};
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;
    void *extra[] = {CU_LAUNCH_PARAM_END};
    size_t pitch;
    int blocks;

    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAlloc(&address, 0), "no bytes");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(&address, 0, CU_MEM_ATTACH_GLOBAL), "no bytes");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch(&address, &pitch, 16, 2, 3), "elements of 3 bytes");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemFree(at + 256), "not the beginning of an allocation");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(host), "memory that the driver did not allocate");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(at, host, (size_t)1 << 30), "past the end of the allocation");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(host, at, (size_t)1 << 30), "past the end of the allocation");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoD(at, at, (size_t)1 << 30), "past the end of the allocation");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(host, 8, 8), "an address where nothing is");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemsetD8(at, 1, (size_t)1 << 30), "past the end of the allocation");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(at, host, SIZE_MAX), "-1 bytes");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(host, at, SIZE_MAX), "-1 bytes");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoD(at, at, SIZE_MAX - 15), "-16 bytes");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemsetD32(at, 1, SIZE_MAX / 2), "a product that is too large");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemsetD32(at + 2, 1, 1), "an address that is not a multiple of 4");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemsetD16(at + 1, 1, 1), "an address that is not a multiple of 2");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemsetD2D8(at, 8, 1, 16, 2), "a pitch below the width");
    box.dstDevice = at;
    box.srcPitch = box.dstPitch = 8;
    box.WidthInBytes = 16;
    box.Height = 2;
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(&box), "a pitch below the width");
    box.srcPitch = box.dstPitch = 16;
    box.Height = SIZE_MAX;
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(&box), "-1 rows");
    wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&handle, 100, &wanted, 0), "not a multiple of the granularity");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAddressReserve(&address, 100, 0, 0, 0), "not a multiple of a page");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAddressReserve(&address, 1 << 21, 3, 0, 0), "an alignment that is no power of 2");
    BAD(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 0, 1, 1, 1, 1, 1, 0, stream, parameters, NULL), "no blocks");
    BAD(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1, 0, 1, 0, stream, parameters, NULL), "no threads");
    BAD(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1025, 1, 1, 0, stream, parameters, NULL),
        "too many threads");
    BAD(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 65536, 1, 1, 1, 1, 0, stream, parameters, NULL),
        "too many blocks");
    BAD(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 1 << 24, stream, parameters, NULL),
        "too much shared memory");
    BAD(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, extra),
        "both kinds of parameters");
    BAD(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 24),
        "too much shared memory");
    BAD(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, 0, 0), "no threads");
    BAD(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, -32, 0), "-32 threads");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemHostGetDevicePointer(&address, host, 0), "memory that is not pinned");
}

/* Values that no enumeration has, and flags that no call has. */
static void unknown_values(void)
{
    CUcontext made;
    CUstream other;
    CUevent one;
    CUgraph graph;
    CUgraphExec exec;
    CUmemoryPool pool;
    CUmodule loaded;
    CUdeviceptr address;
    CUstreamCaptureMode mode = (CUstreamCaptureMode)9;
    void *pointer;
    const char *text;
    size_t bytes;
    uint64_t word = 0;
    int number;

    BAD(CUDA_ERROR_INVALID_VALUE, cuInit(1), "flags");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGetErrorName((CUresult)12345, &text), "no such result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGetErrorString((CUresult)12345, &text), "no such result");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&number, (CUdevice_attribute)9999, device), "no such attribute");
    BAD(CUDA_ERROR_INVALID_VALUE, cuDevicePrimaryCtxSetFlags(device, 0xff00), "no such flags");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxCreate(&made, NULL, 0xff00, device), "no such flags");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxCreate(&made, NULL, CU_CTX_SCHED_MASK, device), "all ways to wait");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxGetLimit(&bytes, (CUlimit)99), "no such limit");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxSetLimit((CUlimit)99, 1), "no such limit");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxSetCacheConfig((CUfunc_cache)9), "no such preference");
    BAD(CUDA_ERROR_INVALID_VALUE, cuCtxSetSharedMemConfig((CUsharedconfig)9), "no such width");
    BAD(CUDA_ERROR_INVALID_VALUE, cuFuncGetAttribute(&number, (CUfunction_attribute)99, function), "no such attribute");
    BAD(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(function, (CUfunction_attribute)99, 1), "no such attribute");
    BAD(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_NUM_REGS, 1),
        "an attribute that is only read");
    BAD(CUDA_ERROR_INVALID_VALUE, cuFuncSetCacheConfig(function, (CUfunc_cache)9), "no such preference");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemHostAlloc(&pointer, 16, 0x80), "no such flag");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(&address, 16, 9), "no such flag");
    BAD(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute(&word, (CUpointer_attribute)9999, at), "no such attribute");
    BAD(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute(&word, CU_POINTER_ATTRIBUTE_CONTEXT, 8),
        "an address where nothing is");
    BAD(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(&other, 77), "no such flags");
    BEYOND(CUDA_ERROR_INVALID_VALUE, cuStreamWaitEvent(stream, event, 9), "no such flags",
           "a parameter is not acceptable");
    BEYOND(CUDA_ERROR_INVALID_VALUE, cuStreamAddCallback(stream, NULL, NULL, 1), "no such flags",
           "a parameter is not acceptable");
    BAD(CUDA_ERROR_INVALID_VALUE, cuStreamBeginCapture(stream, (CUstreamCaptureMode)9), "no such mode");
    BAD(CUDA_ERROR_INVALID_VALUE, cuThreadExchangeStreamCaptureMode(&mode), "no such mode");
    BAD(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&one, 0x80), "no such flags");
    BAD(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&one, CU_EVENT_INTERPROCESS), "for other processes, with times");
    NEED(cuGraphCreate(&graph, 0));
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphCreate(&graph, 1), "flags");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiate(&exec, graph, 0x100), "no such flags");
    NEED(cuGraphDestroy(graph));
    NEED(cuDeviceGetDefaultMemPool(&pool, device));
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemPoolSetAttribute(pool, (CUmemPool_attribute)99, &word), "no such attribute");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool), "the device's own pool");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress("cuInit", &pointer, 12000, 99, NULL), "no such flags");
    BAD(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "no_such_kernel"), "no such name");
    BAD(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal(&address, &bytes, module, "no_such_variable"), "no such name");
    BAD(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&loaded, "/no/such/file"), "no such file");
    BAD(CUDA_ERROR_INVALID_PTX, cuModuleLoadData(&loaded, ".version 7.0\n.target sm_50\nnonsense"), "broken PTX");
    NEED(cuModuleGetFunction(&function, module, "fill"));
}

static void destroyed_handles(void)
{
    CUstream gone;
    CUevent over;
    CUmodule unloaded;
    CUfunction found, of_unloaded;
    CUlibrary library;
    CUkernel kernel;
    CUgraph graph, clone;
    CUgraphExec exec;
    CUmemoryPool pool;
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED};
    CUlinkState link;
    CUdeviceptr memory;
    void *pinned;
    unsigned flags;
    float time;

    NEED(cuStreamCreate(&gone, CU_STREAM_NON_BLOCKING));
    NEED(cuStreamDestroy(gone));
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(gone), "a destroyed stream");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(gone), "a destroyed stream");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy(gone), "a destroyed stream");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamGetFlags(gone, &flags), "a destroyed stream");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamWaitEvent(gone, event, 0), "a destroyed stream");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(event, gone), "a destroyed stream");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, gone, parameters, NULL),
        "a destroyed stream");
    BEYOND(CUDA_ERROR_INVALID_HANDLE, cuMemsetD8Async(at, 1, 1, gone), "a destroyed stream",
           "a resource handle was not valid");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuMemcpyHtoDAsync(at, host, 1, gone), "a destroyed stream");

    NEED(cuEventCreate(&over, CU_EVENT_DEFAULT));
    NEED(cuEventDestroy(over));
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(over), "a destroyed event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventSynchronize(over), "a destroyed event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(over, stream), "a destroyed event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamWaitEvent(stream, over, 0), "a destroyed event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&time, over, over), "a destroyed event");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy(over), "a destroyed event");
    NEED(cuEventCreate(&over, CU_EVENT_DEFAULT));
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&time, over, over), "an event that was not recorded");
    NEED(cuEventDestroy(over));
    NEED(cuEventCreate(&over, CU_EVENT_DISABLE_TIMING));
    NEED(cuEventRecord(over, stream));
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&time, over, over), "an event without times");
    NEED(cuEventDestroy(over));

    NEED(cuModuleLoadData(&unloaded, ptx));
    NEED(cuModuleGetFunction(&of_unloaded, unloaded, "fill"));
    NEED(cuModuleUnload(unloaded));
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleGetFunction(&found, unloaded, "fill"), "an unloaded module");
    BAD(CUDA_ERROR_INVALID_VALUE, cuModuleUnload(unloaded), "an unloaded module");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel(of_unloaded, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL),
        "a function of an unloaded module");
    NEED(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
    NEED(cuLibraryUnload(library));
    BAD(CUDA_ERROR_INVALID_VALUE, cuLibraryUnload(library), "an unloaded library");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuLibraryGetKernel(&kernel, library, "fill"), "an unloaded library");
    NEED(cuLinkCreate(0, NULL, NULL, &link));
    NEED(cuLinkDestroy(link));
    BAD(CUDA_ERROR_INVALID_HANDLE, cuLinkDestroy(link), "a destroyed linker");

    NEED(cuGraphCreate(&graph, 0));
    NEED(cuGraphInstantiate(&exec, graph, 0));
    NEED(cuGraphExecDestroy(exec));
    NEED(cuGraphDestroy(graph));
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(graph), "a destroyed graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphClone(&clone, graph), "a destroyed graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiate(&exec, graph, 0), "a destroyed graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphExecDestroy(exec), "a destroyed executable graph");
    BAD(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(exec, stream), "a destroyed executable graph");

    NEED(cuMemAlloc(&memory, 4096));
    NEED(cuMemFree(memory));
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemFree(memory), "freed memory");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(host, memory, 1), "freed memory");
    NEED(cuMemHostAlloc(&pinned, 4096, 0));
    NEED(cuMemFreeHost(pinned));
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(pinned), "freed memory");
    props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    NEED(cuMemPoolCreate(&pool, &props));
    NEED(cuMemPoolDestroy(pool));
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool), "a destroyed pool");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemPoolTrimTo(pool, 0), "a destroyed pool");
}

static void *destroy(void *made)
{
    return (void *)(intptr_t)cuCtxDestroy(made);
}

static void contexts(void)
{
    CUcontext other, current;
    CUstream stream_of_other, made;
    CUevent event_of_other;
    CUdeviceptr memory_of_other, memory;
    pthread_t thread;
    void *destroyed = (void *)1;
    unsigned version;
    float time;

    NEED(cuCtxCreate(&other, NULL, 0, device));
    NEED(cuStreamCreate(&stream_of_other, CU_STREAM_NON_BLOCKING));
    NEED(cuEventCreate(&event_of_other, CU_EVENT_DEFAULT));
    NEED(cuMemAlloc(&memory_of_other, 64));
    NEED(cuEventRecord(event_of_other, stream_of_other));
    NEED(cuCtxPopCurrent(&other));
    NEED(cuEventRecord(event, stream));
    NEED(cuStreamSynchronize(stream));
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(event_of_other, stream), "an event of another context");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(event, stream_of_other), "a stream of another context");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&time, event, event_of_other), "events of two contexts");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream_of_other, parameters, NULL),
        "a stream of another context");

    /* "If ctx is current to the calling thread then ctx will also be popped." */
    NEED(cuCtxDestroy(other));
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy(other), "a destroyed context");
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent(other), "a destroyed context");
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuCtxPushCurrent(other), "a destroyed context");
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuCtxGetApiVersion(other, &version), "a destroyed context");
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuMemcpyPeer(at, context, at, other, 16), "a destroyed context");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(stream_of_other), "a stream of a destroyed context");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy(stream_of_other), "a stream of a destroyed context");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(event_of_other), "an event of a destroyed context");
    BAD(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy(event_of_other), "an event of a destroyed context");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemFree(memory_of_other), "memory of a destroyed context");
    BAD(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(host, memory_of_other, 1), "memory of a destroyed context");

    /* Destroyed by another thread, it is still current in this one. */
    NEED(cuCtxCreate(&other, NULL, 0, device));
    if (pthread_create(&thread, NULL, destroy, other) || pthread_join(thread, &destroyed) || destroyed) {
        printf("FAIL cuCtxDestroy in another thread\n");
        exit(1);
    }
    BEYOND(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuMemAlloc(&memory, 16), "the context current to the thread",
           "has been destroyed");
    BEYOND(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuStreamCreate(&made, 0), "the context current to the thread",
           "has been destroyed");
    BEYOND(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize(), "the context current to the thread",
           "has been destroyed");
    NEED(cuCtxPopCurrent(&current));

    NEED(cuCtxSetCurrent(NULL));
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuMemAlloc(&memory, 16), "no current context");
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuStreamCreate(&made, 0), "no current context");
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize(), "no current context");
    BAD(CUDA_ERROR_INVALID_CONTEXT, cuCtxPopCurrent(&current), "no current context");
    NEED(cuCtxSetCurrent(context));
}

static void too_little_memory(void)
{
    CUmemAllocationProp wanted = {.type = CU_MEM_ALLOCATION_TYPE_PINNED};
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address, all[64];
    size_t unit, free_bytes, total, pitch;
    void *pointer;
    int made = 0;
    char byte = 0;

    NEED(cuMemGetInfo(&free_bytes, &total));
    BAD(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&address, total + 1), "more than there is");
    BAD(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&address, SIZE_MAX), "more than there is");
    BAD(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocPitch(&address, &pitch, total, 2, 4), "more than there is");
    BAD(CUDA_ERROR_OUT_OF_MEMORY, cuMemHostAlloc(&pointer, (size_t)1 << 46, 0), "more than there is");
    BAD(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocManaged(&address, (size_t)1 << 46, CU_MEM_ATTACH_GLOBAL),
        "more than there is");
    BAD(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocAsync(&address, total + 1, stream), "more than there is");
    wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    NEED(cuMemGetAllocationGranularity(&unit, &wanted, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    BAD(CUDA_ERROR_OUT_OF_MEMORY, cuMemCreate(&handle, (total / unit + 1) * unit, &wanted, 0), "more than there is");
    while (made < 64 && cuMemAlloc(&all[made], total / 8) == CUDA_SUCCESS)
        made++;
    BAD(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&address, total / 8), "all is allocated");
    /* What there was is unharmed. */
    NEED(cuMemsetD8(all[0], 7, 1));
    NEED(cuMemcpyDtoH(&byte, all[0], 1));
    row(CUDA_SUCCESS, made >= 4 && made < 64 && byte == 7 ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN, "cuMemcpyDtoH", "after it");
    while (made-- > 0)
        NEED(cuMemFree(all[made]));
}

/* "The memory areas may not overlap": what comes of it is not said, but that other memory stays as it is. */
static void overlapping_copies(void)
{
    unsigned char bytes[192], after[192];
    int i, good = 1;

    for (i = 0; i < 192; i++)
        bytes[i] = i;
    NEED(cuMemcpyHtoD(at, bytes, sizeof bytes));
    cuMemcpyDtoD(at + 68, at + 64, 32);
    NEED(cuMemcpyDtoH(after, at, sizeof after));
    for (i = 0; i < 192; i++)
        good &= after[i] == i || (i >= 68 && i < 100);
    row(CUDA_SUCCESS, good ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN, "cuMemcpyDtoD", "an overlapping copy, the memory around it");
}

int main(void)
{
    int count;

    BAD(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&count), "before cuInit");
    BAD(CUDA_ERROR_NOT_INITIALIZED, cuCtxGetCurrent(&context), "before cuInit");
    BAD(CUDA_ERROR_NOT_INITIALIZED, cuMemAlloc(&at, 16), "before cuInit");
    NEED(cuInit(0));
    NEED(cuDeviceGet(&device, 0));
    NEED(cuDevicePrimaryCtxRetain(&context, device));
    NEED(cuCtxSetCurrent(context));
    NEED(cuModuleLoadData(&module, ptx));
    NEED(cuModuleGetFunction(&function, module, "fill"));
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    NEED(cuEventCreate(&event, CU_EVENT_DEFAULT));
    NEED(cuMemAlloc(&at, 1024));
    null_pointers();
    null_handles();
    devices();
    sizes();
    unknown_values();
    destroyed_handles();
    contexts();
    too_little_memory();
    overlapping_copies();
    /* After all of this the context works. */
    NEED(cuMemsetD8(at, 1, 1024));
    NEED(cuCtxSynchronize());
    return failures != 0;
}
