/*
 * Names of the driver API that cuda.h hides behind macros, or that only later versions of it have: the twins for the
 * default stream of the thread (_ptsz, _ptds) and the older and newer forms of calls. Each is called once with whole
 * arguments, and what it has done is looked at: a line for each check, `PASS name` or `FAIL name: why`.
 *
 * cc driver_twins.c -lcuda && ./a.out
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda.h>

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

static void *need(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);

    if (!found) {
        printf("FAIL %s: there is no such function\n", name);
        exit(1);
    }
    return found;
}

/* A function by its name, with the type of another that cuda.h declares; the name is no macro's here. */
#define GIVES(expected, name, like, ...) report(#name, ((__typeof__(&like))need(#name))(__VA_ARGS__), expected)
#define CALL(name, like, ...) report(#name, ((__typeof__(&like))need(#name))(__VA_ARGS__), CUDA_SUCCESS)
#define OK(call) report(#call, call, CUDA_SUCCESS)
#define HOLDS(condition)                                                              \
    do {                                                                              \
        int holds = (condition);                                                      \
        printf(holds ? "PASS %s\n" : "FAIL %s: does not hold\n", #condition);         \
        failures += !holds;                                                           \
    } while (0)

/* Types of functions that some headers do not have. */
CUresult older_batch(CUdeviceptr *, CUdeviceptr *, size_t *, size_t, CUmemcpyAttributes *, size_t *, size_t, size_t *, CUstream);
CUresult newer_batch(CUdeviceptr *, CUdeviceptr *, size_t *, size_t, CUmemcpyAttributes *, size_t *, size_t, CUstream);
CUresult older_boxes(size_t, void *, size_t *, unsigned long long, CUstream);
CUresult newer_boxes(size_t, void *, unsigned long long, CUstream);
CUresult older_host(void **, unsigned);
CUresult host_function(CUstream, CUhostFn, void *, unsigned);
CUresult older_prefetch(CUdeviceptr, size_t, CUdevice, CUstream);
CUresult newer_prefetch(CUdeviceptr, size_t, CUmemLocation, unsigned, CUstream);
CUresult prefetches(CUdeviceptr *, size_t *, size_t, CUmemLocation *, size_t *, size_t, unsigned long long, CUstream);
CUresult discards(CUdeviceptr *, size_t *, size_t, unsigned long long, CUstream);
CUresult pool_of(CUmemoryPool *, CUmemLocation *, CUmemAllocationType);
CUresult set_pool_of(CUmemLocation *, CUmemAllocationType, CUmemoryPool);
CUresult number_of(void *, unsigned *);
CUresult long_number_of(void *, unsigned long long *);
CUresult graph_of(CUgraphNode, CUgraph *);
CUresult add_node(CUgraphNode *, CUgraph, const CUgraphNode *, const CUgraphEdgeData *, size_t, CUgraphNodeParams *);
CUresult set_node(CUgraphNode, CUgraphNodeParams *);
CUresult begin(CUstream);
CUresult begin_2(CUstream, CUstreamCaptureMode);
CUresult capture_info(CUstream, CUstreamCaptureStatus *, cuuint64_t *);
CUresult capture_info_2(CUstream, CUstreamCaptureStatus *, cuuint64_t *, CUgraph *, const CUgraphNode **, size_t *);
CUresult capture_info_3(CUstream, CUstreamCaptureStatus *, cuuint64_t *, CUgraph *, const CUgraphNode **,
                        const CUgraphEdgeData **, size_t *);
CUresult update(CUstream, CUgraphNode *, size_t, unsigned);
CUresult update_2(CUstream, CUgraphNode *, const CUgraphEdgeData *, size_t, unsigned);
CUresult context_of(CUstream, CUcontext *);
CUresult context_of_2(CUstream, CUcontext *, CUgreenCtx *);

static const char ptx[] = ".version 7.0\n.target sm_50\n.address_size 64\n"
    ".visible .entry fill(.param .u64 at, .param .f32 value)\n"
    "{\n.reg .f32 %f; .reg .b32 %r<3>; .reg .b64 %d<4>;\nld.param.u64 %d1, [at]; ld.param.f32 %f, [value];\n"
    "mov.u32 %r2, %tid.x; mul.wide.u32 %d2, %r2, 4; add.s64 %d3, %d1, %d2;\n"
    "st.global.f32 [%d3], %f;\nret;\n}\n";

static unsigned host[256], back[256];
static CUdeviceptr at;
static CUcontext context;

static void wait_for_all(void)
{
    CALL(cuStreamSynchronize_ptsz, cuStreamSynchronize, NULL);
}

static unsigned word(size_t i)
{
    unsigned value = 0xdead;

    cuMemcpyDtoH(&value, at + 4 * i, sizeof value);
    return value;
}

/* Whether `count` words from `first` on are those of the host's from `from` on. */
static int same(size_t first, size_t from, size_t count)
{
    memset(back, 0, sizeof back);
    cuMemcpyDtoH(back, at + 4 * first, 4 * count);
    return !memcmp(back, host + from, 4 * count);
}

static void copies(void)
{
    CUDA_MEMCPY2D flat;
    CUDA_MEMCPY3D box;
    CUDA_MEMCPY3D_PEER peer;
    CUdeviceptr to[2], from[2];
    size_t sizes[2] = {64, 16}, first = 0, failed = 7;
    CUmemcpyAttributes how;
    CUDA_MEMCPY3D_BATCH_OP boxes[1];
    int i;

    for (i = 0; i < 256; i++)
        host[i] = 1000 + i;
    CALL(cuMemcpyHtoD_v2_ptds, cuMemcpyHtoD, at, host, 64);
    HOLDS(same(0, 0, 16));
    CALL(cuMemcpyHtoDAsync_v2_ptsz, cuMemcpyHtoDAsync, at + 64, host + 16, 64, NULL);
    wait_for_all();
    HOLDS(same(16, 16, 16));
    CALL(cuMemcpyDtoD_v2_ptds, cuMemcpyDtoD, at + 128, at, 64);
    HOLDS(same(32, 0, 16));
    CALL(cuMemcpyDtoDAsync_v2_ptsz, cuMemcpyDtoDAsync, at + 192, at + 64, 64, NULL);
    wait_for_all();
    HOLDS(same(48, 16, 16));
    CALL(cuMemcpyDtoH_v2_ptds, cuMemcpyDtoH, back, at + 64, 64);
    HOLDS(!memcmp(back, host + 16, 64));
    CALL(cuMemcpyDtoHAsync_v2_ptsz, cuMemcpyDtoHAsync, back, at, 64, NULL);
    wait_for_all();
    HOLDS(!memcmp(back, host, 64));
    CALL(cuMemcpy_ptds, cuMemcpy, at + 256, at + 64, 64);
    HOLDS(same(64, 16, 16));
    CALL(cuMemcpyAsync_ptsz, cuMemcpyAsync, at + 256, (CUdeviceptr)(size_t)host, 64, NULL);
    wait_for_all();
    HOLDS(same(64, 0, 16));
    CALL(cuMemcpyPeer_ptds, cuMemcpyPeer, at + 320, context, at, context, 64);
    HOLDS(same(80, 0, 16));
    CALL(cuMemcpyPeerAsync_ptsz, cuMemcpyPeerAsync, at + 320, context, at + 64, context, 64, NULL);
    wait_for_all();
    HOLDS(same(80, 16, 16));

    memset(&flat, 0, sizeof flat);
    flat.srcMemoryType = CU_MEMORYTYPE_HOST;
    flat.srcHost = host;
    flat.srcPitch = 16;
    flat.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    flat.dstDevice = at + 512;
    flat.dstPitch = 32;
    flat.WidthInBytes = 8;
    flat.Height = 2;
    CALL(cuMemcpy2D_v2_ptds, cuMemcpy2D, &flat);
    HOLDS(same(128, 0, 2) && same(136, 4, 2));
    flat.srcHost = host + 8;
    CALL(cuMemcpy2DUnaligned_v2, cuMemcpy2DUnaligned, &flat);
    HOLDS(same(128, 8, 2) && same(136, 12, 2));
    flat.srcHost = host + 16;
    CALL(cuMemcpy2DUnaligned_v2_ptds, cuMemcpy2DUnaligned, &flat);
    HOLDS(same(128, 16, 2) && same(136, 20, 2));
    flat.srcHost = host + 24;
    CALL(cuMemcpy2DAsync_v2, cuMemcpy2DAsync, &flat, NULL);
    OK(cuCtxSynchronize());
    HOLDS(same(128, 24, 2) && same(136, 28, 2));
    flat.srcHost = host + 32;
    CALL(cuMemcpy2DAsync_v2_ptsz, cuMemcpy2DAsync, &flat, NULL);
    wait_for_all();
    HOLDS(same(128, 32, 2) && same(136, 36, 2));

    memset(&box, 0, sizeof box);
    box.srcMemoryType = CU_MEMORYTYPE_HOST;
    box.srcHost = host;
    box.srcPitch = 16;
    box.srcHeight = 2;
    box.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    box.dstDevice = at + 640;
    box.dstPitch = 8;
    box.dstHeight = 2;
    box.WidthInBytes = 8;
    box.Height = box.Depth = 2;
    CALL(cuMemcpy3D_v2_ptds, cuMemcpy3D, &box);
    HOLDS(same(160, 0, 2) && same(162, 4, 2) && same(166, 12, 2));
    box.srcHost = host + 40;
    CALL(cuMemcpy3DAsync_v2_ptsz, cuMemcpy3DAsync, &box, NULL);
    wait_for_all();
    HOLDS(same(160, 40, 2) && same(166, 52, 2));
    memset(&peer, 0, sizeof peer);
    peer.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    peer.srcDevice = at;
    peer.srcPitch = 16;
    peer.srcHeight = 2;
    peer.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    peer.dstDevice = at + 768;
    peer.dstPitch = 8;
    peer.dstHeight = 2;
    peer.srcContext = peer.dstContext = context;
    peer.WidthInBytes = 8;
    peer.Height = peer.Depth = 2;
    CALL(cuMemcpy3DPeer, cuMemcpy3DPeer, &peer);
    HOLDS(same(192, 0, 2) && same(198, 12, 2));
    peer.srcDevice = at + 64;
    CALL(cuMemcpy3DPeerAsync, cuMemcpy3DPeerAsync, &peer, NULL);
    OK(cuCtxSynchronize());
    HOLDS(same(192, 16, 2) && same(198, 28, 2));
    peer.srcDevice = at;
    CALL(cuMemcpy3DPeer_ptds, cuMemcpy3DPeer, &peer);
    HOLDS(same(192, 0, 2));
    peer.srcDevice = at + 64;
    CALL(cuMemcpy3DPeerAsync_ptsz, cuMemcpy3DPeerAsync, &peer, NULL);
    wait_for_all();
    HOLDS(same(192, 16, 2));

    /* Two pieces, and a box; none but the newest forms may go to a default stream. */
    CUstream stream;
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    memset(&how, 0, sizeof how);
    how.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    to[0] = at + 1024;
    to[1] = at + 1088;
    memset(boxes, 0, sizeof boxes);
    boxes[0].src.type = boxes[0].dst.type = CU_MEMCPY_OPERAND_TYPE_POINTER;
    boxes[0].src.op.ptr.locHint.type = boxes[0].dst.op.ptr.locHint.type = CU_MEM_LOCATION_TYPE_DEVICE;
    boxes[0].dst.op.ptr.ptr = at + 1280;
    boxes[0].extent.width = 16;
    boxes[0].extent.height = boxes[0].extent.depth = 1;
    boxes[0].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    for (i = 0; i < 4; i++) {
        from[0] = at + 16 * i;
        from[1] = at + 16 * i + 64;
        boxes[0].src.op.ptr.ptr = at + 16 * i;
        switch (i) {
        case 0:
            CALL(cuMemcpyBatchAsync, older_batch, to, from, sizes, 2, &how, &first, 1, &failed, stream);
            CALL(cuMemcpy3DBatchAsync, older_boxes, 1, boxes, &failed, 0, stream);
            break;
        case 1:
            CALL(cuMemcpyBatchAsync_ptsz, older_batch, to, from, sizes, 2, &how, &first, 1, &failed, stream);
            CALL(cuMemcpy3DBatchAsync_ptsz, older_boxes, 1, boxes, &failed, 0, stream);
            break;
        case 2:
            CALL(cuMemcpyBatchAsync_v2, newer_batch, to, from, sizes, 2, &how, &first, 1, stream);
            CALL(cuMemcpy3DBatchAsync_v2, newer_boxes, 1, boxes, 0, stream);
            break;
        default:
            CALL(cuMemcpyBatchAsync_v2_ptsz, newer_batch, to, from, sizes, 2, &how, &first, 1, stream);
            CALL(cuMemcpy3DBatchAsync_v2_ptsz, newer_boxes, 1, boxes, 0, stream);
        }
        OK(cuStreamSynchronize(stream));
        HOLDS(same(256, 4 * i, 16) && same(272, 4 * i + 16, 4) && same(320, 4 * i, 4));
    }
    OK(cuStreamDestroy(stream));
}

static void sets(void)
{
    CALL(cuMemsetD8_v2_ptds, cuMemsetD8, at, 0, 1024);
    HOLDS(word(0) == 0 && word(255) == 0);
    CALL(cuMemsetD16_v2_ptds, cuMemsetD16, at, 0x1234, 3);
    CALL(cuMemsetD32_v2_ptds, cuMemsetD32, at + 16, 77, 2);
    CALL(cuMemsetD2D8_v2_ptds, cuMemsetD2D8, at + 32, 16, 1, 4, 2);
    CALL(cuMemsetD2D16_v2_ptds, cuMemsetD2D16, at + 64, 16, 2, 2, 2);
    CALL(cuMemsetD2D32_v2_ptds, cuMemsetD2D32, at + 96, 16, 3, 1, 2);
    CALL(cuMemsetD2D32_v2, cuMemsetD2D32, at + 128, 16, 4, 1, 2);
    HOLDS(word(0) == 0x12341234 && word(1) == 0x1234 && word(5) == 77 && word(6) == 0);
    HOLDS(word(8) == 0x01010101 && word(9) == 0 && word(12) == 0x01010101 && word(20) == 0x00020002);
    HOLDS(word(24) == 3 && word(25) == 0 && word(28) == 3 && word(36) == 4);
    CALL(cuMemsetD16Async_ptsz, cuMemsetD16Async, at, 5, 2, NULL);
    CALL(cuMemsetD32Async_ptsz, cuMemsetD32Async, at + 16, 6, 2, NULL);
    CALL(cuMemsetD2D8Async_ptsz, cuMemsetD2D8Async, at + 32, 16, 7, 4, 2, NULL);
    CALL(cuMemsetD2D16Async_ptsz, cuMemsetD2D16Async, at + 64, 16, 8, 2, 2, NULL);
    CALL(cuMemsetD2D32Async_ptsz, cuMemsetD2D32Async, at + 96, 16, 9, 1, 2, NULL);
    wait_for_all();
    HOLDS(word(0) == 0x00050005 && word(5) == 6 && word(12) == 0x07070707 && word(20) == 0x00080008 && word(28) == 9);
}

static void memory(CUdevice device)
{
    CUdeviceptr managed, piece;
    CUmemoryPool pool, got = NULL;
    CUmemPoolPtrExportData data;
    CUmemLocation there = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    size_t sizes[1] = {4096}, first = 0;
    void *pinned, *values[2];
    int mostly = 7, preferred = 7;
    size_t lengths[2] = {4, 4};
    CUmem_range_attribute which[2] = {CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION};

    there.id = device;
    CALL(cuMemAllocHost_v2, cuMemAllocHost, &pinned, 100);
    memset(pinned, 1, 100);
    OK(cuMemFreeHost(pinned));
    /* As CUDA 2 had it, with a size of 32 bits. */
    CALL(cuMemAllocHost, older_host, &pinned, 100);
    memset(pinned, 1, 100);
    OK(cuMemFreeHost(pinned));
    OK(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
    CALL(cuMemPrefetchAsync_ptsz, older_prefetch, managed, 4096, device, NULL);
    CALL(cuMemPrefetchAsync_v2_ptsz, newer_prefetch, managed, 4096, there, 0, NULL);
    CALL(cuMemPrefetchBatchAsync, prefetches, &managed, sizes, 1, &there, &first, 1, 0, NULL);
    CALL(cuMemPrefetchBatchAsync_ptsz, prefetches, &managed, sizes, 1, &there, &first, 1, 0, NULL);
    CALL(cuMemDiscardBatchAsync, discards, &managed, sizes, 1, 0, NULL);
    CALL(cuMemDiscardBatchAsync_ptsz, discards, &managed, sizes, 1, 0, NULL);
    CALL(cuMemDiscardAndPrefetchBatchAsync, prefetches, &managed, sizes, 1, &there, &first, 1, 0, NULL);
    CALL(cuMemDiscardAndPrefetchBatchAsync_ptsz, prefetches, &managed, sizes, 1, &there, &first, 1, 0, NULL);
    CALL(cuStreamAttachMemAsync_ptsz, cuStreamAttachMemAsync, NULL, managed, 0, CU_MEM_ATTACH_GLOBAL);
    values[0] = &mostly;
    values[1] = &preferred;
    CALL(cuMemRangeGetAttributes, cuMemRangeGetAttributes, values, lengths, which, 2, managed, 4096);
    HOLDS(mostly == 0 && preferred == CU_DEVICE_INVALID);
    OK(cuMemFree(managed));

    CALL(cuMemGetDefaultMemPool, pool_of, &pool, &there, CU_MEM_ALLOCATION_TYPE_PINNED);
    CALL(cuMemSetMemPool, set_pool_of, &there, CU_MEM_ALLOCATION_TYPE_PINNED, pool);
    CALL(cuMemGetMemPool, pool_of, &got, &there, CU_MEM_ALLOCATION_TYPE_PINNED);
    HOLDS(got == pool);
    CALL(cuMemAllocAsync_ptsz, cuMemAllocAsync, &piece, 256, NULL);
    CALL(cuMemcpyHtoDAsync_v2_ptsz, cuMemcpyHtoDAsync, piece, host, 64, NULL);
    CALL(cuMemcpyDtoHAsync_v2_ptsz, cuMemcpyDtoHAsync, back, piece, 64, NULL);
    wait_for_all();
    HOLDS(!memcmp(back, host, 64));
    GIVES(CUDA_ERROR_NOT_SUPPORTED, cuMemPoolExportPointer, cuMemPoolExportPointer, &data, piece);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, cuMemPoolImportPointer, cuMemPoolImportPointer, &piece, pool, &data);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, cuMemPoolImportFromShareableHandle, cuMemPoolImportFromShareableHandle, &got,
          (void *)(size_t)3, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    CALL(cuMemFreeAsync_ptsz, cuMemFreeAsync, piece, NULL);
    CALL(cuMemAllocFromPoolAsync_ptsz, cuMemAllocFromPoolAsync, &piece, 256, pool, NULL);
    CALL(cuMemFreeAsync_ptsz, cuMemFreeAsync, piece, NULL);
    wait_for_all();
}

static void count_up(void *data)
{
    ++*(int *)data;
}

static void CUDA_CB called_back(CUstream stream, CUresult status, void *data)
{
    (void)stream;
    *(int *)data += status == CUDA_SUCCESS ? 10 : 1000;
}

static void launches(CUfunction function)
{
    float value = 1.5f;
    void *parameters[] = {&at, &value};
    CUlaunchConfig config;
    int calls = 0;
    unsigned bits;

    memset(&config, 0, sizeof config);
    config.gridDimX = config.gridDimY = config.gridDimZ = config.blockDimY = config.blockDimZ = 1;
    config.blockDimX = 8;
    memcpy(&bits, &value, 4);
    CALL(cuLaunchKernelEx_ptsz, cuLaunchKernelEx, &config, function, parameters, NULL);
    wait_for_all();
    HOLDS(word(7) == bits);
    value = 2.5f;
    memcpy(&bits, &value, 4);
    CALL(cuLaunchCooperativeKernel, cuLaunchCooperativeKernel, function, 1, 1, 1, 8, 1, 1, 0, NULL, parameters);
    OK(cuCtxSynchronize());
    HOLDS(word(7) == bits);
    value = 3.5f;
    memcpy(&bits, &value, 4);
    CALL(cuLaunchCooperativeKernel_ptsz, cuLaunchCooperativeKernel, function, 1, 1, 1, 8, 1, 1, 0, NULL, parameters);
    wait_for_all();
    HOLDS(word(7) == bits);
    /* As CUDA 3 had it. */
    value = 4.5f;
    memcpy(&bits, &value, 4);
    OK(cuFuncSetBlockShape(function, 8, 1, 1));
    OK(cuParamSetSize(function, 12));
    OK(cuParamSetv(function, 0, &at, 8));
    CALL(cuParamSetf, cuParamSetf, function, 8, value);
    CALL(cuLaunchGridAsync, cuLaunchGridAsync, function, 1, 1, NULL);
    OK(cuCtxSynchronize());
    HOLDS(word(7) == bits);
    CALL(cuLaunchHostFunc_ptsz, cuLaunchHostFunc, NULL, count_up, &calls);
    CALL(cuLaunchHostFunc_v2, host_function, NULL, count_up, &calls, 0);
    CALL(cuLaunchHostFunc_v2_ptsz, host_function, NULL, count_up, &calls, 1);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchHostFunc_v2_ptsz, host_function, NULL, count_up, &calls, 9);
    CALL(cuStreamAddCallback_ptsz, cuStreamAddCallback, NULL, called_back, &calls, 0);
    OK(cuCtxSynchronize());
    HOLDS(calls == 13);
}

static void streams(CUdevice device)
{
    CUstream stream;
    CUstreamAttrValue value;
    CUstreamBatchMemOpParams operation;
    CUcontext of;
    CUgreenCtx green = (CUgreenCtx)context;
    CUdevice on = -1;
    CUevent event;
    unsigned flags = 9;
    unsigned long long id = 0, other = 0;
    int priority = 9;

    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CALL(cuStreamGetCtx_ptsz, context_of, NULL, &of);
    HOLDS(of == context);
    CALL(cuStreamGetCtx_v2_ptsz, context_of_2, NULL, &of, &green);
    HOLDS(of == context && green == NULL);
    CALL(cuStreamGetDevice_ptsz, cuStreamGetDevice, NULL, &on);
    HOLDS(on == device);
    CALL(cuStreamGetFlags_ptsz, cuStreamGetFlags, stream, &flags);
    HOLDS(flags == CU_STREAM_NON_BLOCKING);
    CALL(cuStreamGetPriority_ptsz, cuStreamGetPriority, stream, &priority);
    HOLDS(priority == 0);
    CALL(cuStreamGetId_ptsz, cuStreamGetId, stream, &id);
    CALL(cuStreamGetId_ptsz, cuStreamGetId, NULL, &other);
    HOLDS(id != other);
    memset(&value, 0, sizeof value);
    value.syncPolicy = CU_SYNC_POLICY_YIELD;
    CALL(cuStreamSetAttribute_ptsz, cuStreamSetAttribute, stream, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value);
    CALL(cuStreamCopyAttributes_ptsz, cuStreamCopyAttributes, NULL, stream);
    memset(&value, 0, sizeof value);
    CALL(cuStreamGetAttribute_ptsz, cuStreamGetAttribute, NULL, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value);
    HOLDS(value.syncPolicy == CU_SYNC_POLICY_YIELD);

    OK(cuEventCreate(&event, 0));
    CALL(cuEventRecord_ptsz, cuEventRecord, event, NULL);
    CALL(cuStreamWaitEvent_ptsz, cuStreamWaitEvent, stream, event, 0);
    CALL(cuEventRecordWithFlags_ptsz, cuEventRecordWithFlags, event, NULL, 0);
    OK(cuEventSynchronize(event));
    OK(cuEventDestroy(event));

    OK(cuMemsetD8(at, 0, 256));
    CALL(cuStreamWriteValue32_ptsz, cuStreamWriteValue32, NULL, at, 1, 0);
    CALL(cuStreamWaitValue32_ptsz, cuStreamWaitValue32, NULL, at, 1, CU_STREAM_WAIT_VALUE_EQ);
    CALL(cuStreamWriteValue32_v2_ptsz, cuStreamWriteValue32, NULL, at + 4, 2, 0);
    CALL(cuStreamWaitValue32_v2_ptsz, cuStreamWaitValue32, NULL, at + 4, 2, CU_STREAM_WAIT_VALUE_GEQ);
    CALL(cuStreamWriteValue64_ptsz, cuStreamWriteValue64, NULL, at + 8, 3, 0);
    CALL(cuStreamWaitValue64_ptsz, cuStreamWaitValue64, NULL, at + 8, 3, CU_STREAM_WAIT_VALUE_EQ);
    CALL(cuStreamWriteValue64_v2_ptsz, cuStreamWriteValue64, NULL, at + 16, 4, 0);
    CALL(cuStreamWaitValue64_v2_ptsz, cuStreamWaitValue64, NULL, at + 16, 4, CU_STREAM_WAIT_VALUE_AND);
    memset(&operation, 0, sizeof operation);
    operation.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    operation.writeValue.address = at + 24;
    operation.writeValue.value = 5;
    CALL(cuStreamBatchMemOp_ptsz, cuStreamBatchMemOp, NULL, 1, &operation, 0);
    operation.writeValue.address = at + 28;
    CALL(cuStreamBatchMemOp_v2_ptsz, cuStreamBatchMemOp, NULL, 1, &operation, 0);
    operation.writeValue.address = at + 32;
    CALL(cuStreamBatchMemOp_v2, cuStreamBatchMemOp, NULL, 1, &operation, 0);
    OK(cuCtxSynchronize());
    HOLDS(word(0) == 1 && word(1) == 2 && word(2) == 3 && word(4) == 4 && word(6) == 5 && word(7) == 5 && word(8) == 5);
    OK(cuStreamDestroy(stream));
}

static void captures(void)
{
    CUstreamCaptureStatus status;
    CUgraph graph, got, own;
    const CUgraphNode *nodes;
    const CUgraphEdgeData *edges;
    cuuint64_t id = 0;
    size_t count = 9;

    CALL(cuStreamBeginCapture_ptsz, begin, NULL);
    CALL(cuMemsetD32Async_ptsz, cuMemsetD32Async, at, 3, 1, NULL);
    CALL(cuStreamIsCapturing_ptsz, cuStreamIsCapturing, NULL, &status);
    HOLDS(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
    CALL(cuStreamGetCaptureInfo_ptsz, capture_info, NULL, &status, &id);
    HOLDS(id != 0);
    CALL(cuStreamGetCaptureInfo_v2_ptsz, capture_info_2, NULL, &status, &id, &got, &nodes, &count);
    HOLDS(count == 1);
    CALL(cuStreamGetCaptureInfo_v3_ptsz, capture_info_3, NULL, &status, &id, &got, &nodes, &edges, &count);
    HOLDS(count == 1);
    CALL(cuStreamUpdateCaptureDependencies_ptsz, update, NULL, NULL, 0, CU_STREAM_SET_CAPTURE_DEPENDENCIES);
    CALL(cuStreamGetCaptureInfo_v2_ptsz, capture_info_2, NULL, &status, &id, &got, &nodes, &count);
    HOLDS(count == 0);
    CALL(cuStreamUpdateCaptureDependencies_v2_ptsz, update_2, NULL, NULL, NULL, 0, CU_STREAM_ADD_CAPTURE_DEPENDENCIES);
    CALL(cuStreamEndCapture_ptsz, cuStreamEndCapture, NULL, &graph);
    HOLDS(graph == got);
    OK(cuGraphDestroy(graph));

    CALL(cuStreamBeginCapture_v2_ptsz, begin_2, NULL, CU_STREAM_CAPTURE_MODE_RELAXED);
    CALL(cuStreamEndCapture_ptsz, cuStreamEndCapture, NULL, &graph);
    OK(cuGraphDestroy(graph));
    OK(cuGraphCreate(&own, 0));
    CALL(cuStreamBeginCaptureToGraph_ptsz, cuStreamBeginCaptureToGraph, NULL, own, NULL, NULL, 0,
         CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    CALL(cuMemsetD32Async_ptsz, cuMemsetD32Async, at, 4, 1, NULL);
    CALL(cuStreamEndCapture_ptsz, cuStreamEndCapture, NULL, &graph);
    HOLDS(graph == own);
    OK(cuGraphGetNodes(own, NULL, &count));
    HOLDS(count == 1);
    OK(cuGraphDestroy(own));
}

static void graphs(CUdevice device)
{
    CUgraph graph, of = NULL;
    CUgraphExec exec;
    CUgraphNode set, copy, alloc, release;
    CUgraphNodeParams node;
    CUDA_MEMCPY3D box, is;
    CUDA_MEM_ALLOC_NODE_PARAMS memory, memory_is;
    CUDA_GRAPH_INSTANTIATE_PARAMS with;
    CUdeviceptr freed = 0;
    unsigned a = 0, b = 0, c = 0, d = 0;
    unsigned long long one = 0, two = 0;

    OK(cuGraphCreate(&graph, 0));
    memset(&node, 0, sizeof node);
    node.type = CU_GRAPH_NODE_TYPE_MEMSET;
    node.memset.dst = at;
    node.memset.elementSize = 4;
    node.memset.value = 9;
    node.memset.width = node.memset.height = 1;
    node.memset.ctx = context;
    CALL(cuGraphAddNode_v2, add_node, &set, graph, NULL, NULL, 0, &node);
    OK(cuGraphDestroyNode(set));
    CALL(cuGraphAddNode_v3, add_node, &set, graph, NULL, NULL, 0, &node);
    node.memset.value = 11;
    CALL(cuGraphNodeSetParams_v2, set_node, set, &node);
    memset(&box, 0, sizeof box);
    box.srcMemoryType = box.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    box.srcDevice = at;
    box.dstDevice = at + 64;
    box.WidthInBytes = 4;
    box.Height = box.Depth = 1;
    OK(cuGraphAddMemcpyNode(&copy, graph, &set, 1, &box, context));
    CALL(cuGraphMemcpyNodeGetParams, cuGraphMemcpyNodeGetParams, copy, &is);
    HOLDS(is.dstDevice == at + 64 && is.WidthInBytes == 4);
    box.dstDevice = at + 128;
    CALL(cuGraphMemcpyNodeSetParams, cuGraphMemcpyNodeSetParams, copy, &box);
    memset(&memory, 0, sizeof memory);
    memory.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    memory.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    memory.poolProps.location.id = device;
    memory.bytesize = 1024;
    OK(cuGraphAddMemAllocNode(&alloc, graph, NULL, 0, &memory));
    CALL(cuGraphMemAllocNodeGetParams, cuGraphMemAllocNodeGetParams, alloc, &memory_is);
    HOLDS(memory_is.dptr == memory.dptr && memory_is.bytesize == 1024);
    OK(cuGraphAddMemFreeNode(&release, graph, &alloc, 1, memory.dptr));
    CALL(cuGraphMemFreeNodeGetParams, cuGraphMemFreeNodeGetParams, release, &freed);
    HOLDS(freed == memory.dptr);

    CALL(cuGraphGetId, number_of, graph, &a);
    CALL(cuGraphNodeGetLocalId, number_of, set, &b);
    CALL(cuGraphNodeGetLocalId, number_of, copy, &c);
    HOLDS(b != c);
    CALL(cuGraphNodeGetToolsId, long_number_of, set, &one);
    CALL(cuGraphNodeGetToolsId, long_number_of, copy, &two);
    HOLDS(one != two);
    CALL(cuGraphNodeGetContainingGraph, graph_of, copy, &of);
    HOLDS(of == graph);

    memset(&with, 0, sizeof with);
    CALL(cuGraphInstantiateWithParams_ptsz, cuGraphInstantiateWithParams, &exec, graph, &with);
    CALL(cuGraphExecGetId, number_of, exec, &d);
    HOLDS(a != d);
    CALL(cuGraphUpload_ptsz, cuGraphUpload, exec, NULL);
    CALL(cuGraphLaunch_ptsz, cuGraphLaunch, exec, NULL);
    wait_for_all();
    HOLDS(word(0) == 11 && word(32) == 11);
    box.dstDevice = at + 192;
    CALL(cuGraphExecMemcpyNodeSetParams, cuGraphExecMemcpyNodeSetParams, exec, copy, &box, context);
    CALL(cuGraphLaunch_ptsz, cuGraphLaunch, exec, NULL);
    wait_for_all();
    HOLDS(word(48) == 11);
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(graph));
}

static void modules(void)
{
    CUlinkState link;
    CUmodule module;
    CUdriverProcAddressQueryResult found;
    void *image, *function = NULL;
    size_t bytes;
    char path[] = "/tmp/vgpu-driver-twins-XXXXXX";
    int file = mkstemp(path);
    FILE *text = fdopen(file, "w");

    fputs(ptx, text);
    fclose(text);
    CALL(cuLinkCreate_v2, cuLinkCreate, 0, NULL, NULL, &link);
    CALL(cuLinkAddData_v2, cuLinkAddData, link, CU_JIT_INPUT_PTX, (void *)ptx, sizeof ptx, "a", 0, NULL, NULL);
    OK(cuLinkComplete(link, &image, &bytes));
    OK(cuModuleLoadData(&module, image));
    OK(cuModuleUnload(module));
    OK(cuLinkDestroy(link));
    CALL(cuLinkCreate_v2, cuLinkCreate, 0, NULL, NULL, &link);
    CALL(cuLinkAddFile_v2, cuLinkAddFile, link, CU_JIT_INPUT_PTX, path, 0, NULL, NULL);
    OK(cuLinkDestroy(link));
    remove(path);
    CALL(cuGetProcAddress_v2_ptsz, cuGetProcAddress, "cuMemcpyHtoD", &function, 12000, 0, &found);
    HOLDS(function == need("cuMemcpyHtoD_v2_ptds") && found == CU_GET_PROC_ADDRESS_SUCCESS);
}

int main(void)
{
    CUdevice device;
    CUmodule module;
    CUfunction function;
    unsigned flags;
    int active;

    OK(cuInit(0));
    OK(cuDeviceGet(&device, 0));
    CALL(cuDevicePrimaryCtxSetFlags_v2, cuDevicePrimaryCtxSetFlags, device, CU_CTX_SCHED_YIELD);
    OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
    HOLDS(flags == CU_CTX_SCHED_YIELD);
    OK(cuDevicePrimaryCtxRetain(&context, device));
    OK(cuCtxSetCurrent(context));
    OK(cuMemAlloc(&at, 4096));
    OK(cuModuleLoadData(&module, ptx));
    OK(cuModuleGetFunction(&function, module, "fill"));
    copies();
    sets();
    memory(device);
    launches(function);
    streams(device);
    captures();
    graphs(device);
    modules();
    OK(cuModuleUnload(module));
    OK(cuMemFree(at));
    OK(cuDevicePrimaryCtxReset(device));
    return failures != 0;
}
