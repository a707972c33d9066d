//! The driver API: NVIDIA's names, found in `libcuda.so.1` when the runtime is first used.
//!
//! Only what `cuda.h` documents is used, so that any `libcuda.so.1` will do. A name that it lacks
//! gives CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER (36).
#![allow(unsafe_code)]
#![allow(
    non_snake_case,
    clippy::too_many_arguments,
    reason = "the names and arguments are NVIDIA's"
)]

use std::ffi::{CString, c_char, c_void};

use cudarc::driver::sys::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_MEMCPY2D, CUDA_MEMCPY3D,
    CUDA_MEMCPY3D_PEER, CUDA_MEMSET_NODE_PARAMS, CUgraphNodeParams,
};
use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphExec, CUgraphNode,
    CUkernel, CUlaunchConfig, CUlibrary, CUmemLocation, CUmemPoolProps, CUmemoryPool, CUstream,
    CUuserObject, CUuuid,
};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, In, Out, Text, Zero};

/// `CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER`.
const NEWER_DRIVER: Status = Status(36);

/// The opened library.
struct Library(*mut c_void);

impl Library {
    fn open() -> Option<Library> {
        // SAFETY: a NUL-terminated name. The library's constructors run: they are trusted as those
        // of any library that a program links.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        (!library.is_null()).then_some(Library(library))
    }

    /// Gives a function as `F`, the type of function pointer that cuda.h declares for the name.
    fn find<F: Copy>(&self, name: &str) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let name = CString::new(name).ok()?;
        // SAFETY: the library stays open, the name is NUL-terminated.
        let at = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        // SAFETY: of pointer size by the assertion; not null; and `F` is the type that cuda.h
        // declares for the name (the table below).
        (!at.is_null()).then(|| unsafe { std::mem::transmute_copy::<*mut c_void, F>(&at) })
    }
}

/// Makes the table. In `twins`, the second name is the export for per-thread default streams.
macro_rules! driver {
    (
        plain { $($name:ident($($arg:ident: $ty:ty),* $(,)?);)* }
        twins { $($tname:ident | $twin:ident($($targ:ident: $tty:ty),* $(,)?);)* }
    ) => {
        /// Functions of the driver.
        pub struct Driver {
            $($name: Option<extern "C" fn($($ty),*) -> u32>,)*
            $($tname: [Option<extern "C" fn($($tty),*) -> u32>; 2],)*
        }

        impl Driver {
            /// Opens the library; `None` where there is none.
            pub fn open() -> Option<Driver> {
                let library = Library::open()?;
                Some(Driver {
                    $($name: library.find(stringify!($name)),)*
                    $($tname: [
                        library.find(stringify!($tname)),
                        library.find(stringify!($twin)),
                    ],)*
                })
            }

            $(
                /// NVIDIA's function of this name.
                pub fn $name(&self, $($arg: $ty),*) -> Done {
                    Status(self.$name.ok_or(NEWER_DRIVER)?($($arg),*)).ok()
                }
            )*
            $(
                /// NVIDIA's function of this name, or its twin.
                pub fn $tname(&self, zero: Zero, $($targ: $tty),*) -> Done {
                    let function = self.$tname[usize::from(zero == Zero::PerThread)];
                    Status(function.ok_or(NEWER_DRIVER)?($($targ),*)).ok()
                }
            )*
        }
    };
}

/// A function of the program that runs on the host (`CUhostFn`).
pub type HostFn = Option<unsafe extern "C" fn(*mut c_void)>;
/// `CUstreamCallback`, which is the runtime's `cudaStreamCallback_t`, too.
pub type StreamCallback = Option<unsafe extern "C" fn(CUstream, u32, *mut c_void)>;
/// Any pointer that is only passed on.
pub type Opaque = *mut c_void;

driver! {
    plain {
        cuInit(flags: u32);
        cuDriverGetVersion(version: Out<i32>);
        cuGetProcAddress_v2(name: Text, out: Out<Opaque>, version: i32, flags: u64, status: Out<i32>);

        cuDeviceGetCount(count: Out<i32>);
        cuDeviceGet(device: Out<CUdevice>, ordinal: i32);
        cuDeviceGetName(name: Out<c_char>, len: i32, device: CUdevice);
        cuDeviceGetUuid_v2(uuid: Out<CUuuid>, device: CUdevice);
        cuDeviceGetLuid(luid: Out<c_char>, mask: Out<u32>, device: CUdevice);
        cuDeviceTotalMem_v2(bytes: Out<usize>, device: CUdevice);
        cuDeviceGetAttribute(value: Out<i32>, attribute: i32, device: CUdevice);
        cuDeviceGetPCIBusId(id: Out<c_char>, len: i32, device: CUdevice);
        cuDeviceGetByPCIBusId(device: Out<CUdevice>, id: Text);
        cuDeviceCanAccessPeer(can: Out<i32>, device: CUdevice, peer: CUdevice);
        cuDeviceGetP2PAttribute(value: Out<i32>, attribute: i32, from: CUdevice, to: CUdevice);
        cuDeviceGetNvSciSyncAttributes(list: Opaque, device: CUdevice, flags: i32);
        cuDeviceGetDefaultMemPool(pool: Out<CUmemoryPool>, device: CUdevice);
        cuDeviceGetMemPool(pool: Out<CUmemoryPool>, device: CUdevice);
        cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool);
        cuDeviceGraphMemTrim(device: CUdevice);
        cuDeviceGetGraphMemAttribute(device: CUdevice, attribute: i32, value: Host);
        cuDeviceSetGraphMemAttribute(device: CUdevice, attribute: i32, value: Host);
        cuDeviceGetHostAtomicCapabilities(capabilities: Out<u32>, operations: In<i32>, count: u32, device: CUdevice);
        cuDeviceGetP2PAtomicCapabilities(capabilities: Out<u32>, operations: In<i32>, count: u32, from: CUdevice, to: CUdevice);
        cuDeviceRegisterAsyncNotification(device: CUdevice, callback: Opaque, data: Opaque, out: Out<Opaque>);
        cuDeviceUnregisterAsyncNotification(device: CUdevice, callback: Opaque);
        cuFlushGPUDirectRDMAWrites(target: i32, scope: i32);

        cuDevicePrimaryCtxRetain(ctx: Out<CUcontext>, device: CUdevice);
        cuDevicePrimaryCtxReset_v2(device: CUdevice);
        cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: u32);
        cuDevicePrimaryCtxGetState(device: CUdevice, flags: Out<u32>, active: Out<i32>);
        cuCtxGetCurrent(ctx: Out<CUcontext>);
        cuCtxSetCurrent(ctx: CUcontext);
        cuCtxGetDevice(device: Out<CUdevice>);
        cuCtxGetFlags(flags: Out<u32>);
        cuCtxSynchronize();
        cuCtxGetLimit(value: Out<usize>, limit: i32);
        cuCtxSetLimit(limit: i32, value: usize);
        cuCtxGetCacheConfig(config: Out<i32>);
        cuCtxSetCacheConfig(config: i32);
        cuCtxGetSharedMemConfig(config: Out<i32>);
        cuCtxSetSharedMemConfig(config: i32);
        cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>);
        cuCtxResetPersistingL2Cache();
        cuCtxEnablePeerAccess(peer: CUcontext, flags: u32);
        cuCtxDisablePeerAccess(peer: CUcontext);

        cuLibraryLoadData(out: Out<CUlibrary>, code: Host, names: In<i32>, values: In<Opaque>, count: u32, library_names: In<i32>, library_values: In<Opaque>, library_count: u32);
        cuLibraryLoadFromFile(out: Out<CUlibrary>, file: Text, names: In<i32>, values: In<Opaque>, count: u32, library_names: In<i32>, library_values: In<Opaque>, library_count: u32);
        cuLibraryUnload(library: CUlibrary);
        cuLibraryGetKernel(out: Out<CUkernel>, library: CUlibrary, name: Text);
        cuLibraryGetKernelCount(count: Out<u32>, library: CUlibrary);
        cuLibraryEnumerateKernels(kernels: Out<CUkernel>, count: u32, library: CUlibrary);
        cuLibraryGetGlobal(at: Out<CUdeviceptr>, bytes: Out<usize>, library: CUlibrary, name: Text);
        cuLibraryGetManaged(at: Out<CUdeviceptr>, bytes: Out<usize>, library: CUlibrary, name: Text);
        cuLibraryGetUnifiedFunction(at: Out<Opaque>, library: CUlibrary, name: Text);
        cuKernelGetFunction(out: Out<CUfunction>, kernel: CUkernel);
        cuKernelGetAttribute(value: Out<i32>, attribute: i32, kernel: CUkernel, device: CUdevice);
        cuKernelSetAttribute(attribute: i32, value: i32, kernel: CUkernel, device: CUdevice);
        cuKernelSetCacheConfig(kernel: CUkernel, config: i32, device: CUdevice);
        cuKernelGetName(name: Out<Opaque>, kernel: CUkernel);
        cuKernelGetParamInfo(kernel: CUkernel, index: usize, offset: Out<usize>, bytes: Out<usize>);
        cuKernelGetParamCount(kernel: CUkernel, count: Out<usize>);
        cuFuncSetSharedMemConfig(function: CUfunction, config: i32);

        cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<i32>, function: CUfunction, threads: i32, shared: usize);
        cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks: Out<i32>, function: CUfunction, threads: i32, shared: usize, flags: u32);
        cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, function: CUfunction, blocks: i32, threads: i32);
        cuOccupancyMaxPotentialClusterSize(size: Out<i32>, function: CUfunction, config: In<CUlaunchConfig>);
        cuOccupancyMaxActiveClusters(clusters: Out<i32>, function: CUfunction, config: In<CUlaunchConfig>);

        cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>);
        cuMemAlloc_v2(at: Out<CUdeviceptr>, bytes: usize);
        cuMemAllocPitch_v2(at: Out<CUdeviceptr>, pitch: Out<usize>, width: usize, height: usize, element: u32);
        cuMemAllocManaged(at: Out<CUdeviceptr>, bytes: usize, flags: u32);
        cuMemFree_v2(at: CUdeviceptr);
        cuMemHostAlloc(at: Out<Opaque>, bytes: usize, flags: u32);
        cuMemFreeHost(at: Opaque);
        cuMemHostRegister_v2(at: Opaque, bytes: usize, flags: u32);
        cuMemHostUnregister(at: Opaque);
        cuMemHostGetDevicePointer_v2(out: Out<CUdeviceptr>, at: Opaque, flags: u32);
        cuMemHostGetFlags(flags: Out<u32>, at: Opaque);
        cuPointerGetAttributes(count: u32, attributes: In<i32>, values: In<Opaque>, at: CUdeviceptr);
        cuMemcpyPeer(dst: CUdeviceptr, dst_ctx: CUcontext, src: CUdeviceptr, src_ctx: CUcontext, bytes: usize);
        cuMemAdvise(at: CUdeviceptr, bytes: usize, advice: i32, device: CUdevice);
        cuMemAdvise_v2(at: CUdeviceptr, bytes: usize, advice: i32, location: CUmemLocation);
        cuMemRangeGetAttribute(data: Host, bytes: usize, attribute: i32, at: CUdeviceptr, count: usize);
        cuMemRangeGetAttributes(data: In<Opaque>, bytes: In<usize>, attributes: In<i32>, attribute_count: usize, at: CUdeviceptr, count: usize);
        cuMemPoolCreate(pool: Out<CUmemoryPool>, props: In<CUmemPoolProps>);
        cuMemPoolDestroy(pool: CUmemoryPool);
        cuMemPoolTrimTo(pool: CUmemoryPool, keep: usize);
        cuMemPoolSetAttribute(pool: CUmemoryPool, attribute: i32, value: Host);
        cuMemPoolGetAttribute(pool: CUmemoryPool, attribute: i32, value: Host);
        cuMemPoolSetAccess(pool: CUmemoryPool, map: Host, count: usize);
        cuMemPoolGetAccess(flags: Out<i32>, pool: CUmemoryPool, location: In<CUmemLocation>);
        cuMemPoolExportToShareableHandle(handle: Opaque, pool: CUmemoryPool, kind: i32, flags: u64);
        cuMemPoolImportFromShareableHandle(pool: Out<CUmemoryPool>, handle: Opaque, kind: i32, flags: u64);
        cuMemPoolExportPointer(data: Opaque, at: CUdeviceptr);
        cuMemPoolImportPointer(at: Out<CUdeviceptr>, pool: CUmemoryPool, data: Opaque);
        cuMemGetDefaultMemPool(pool: Out<CUmemoryPool>, location: In<CUmemLocation>, kind: i32);
        cuMemGetMemPool(pool: Out<CUmemoryPool>, location: In<CUmemLocation>, kind: i32);
        cuMemSetMemPool(location: In<CUmemLocation>, kind: i32, pool: CUmemoryPool);
        cuIpcGetEventHandle(handle: Opaque, event: CUevent);
        cuIpcGetMemHandle(handle: Opaque, at: CUdeviceptr);
        cuIpcCloseMemHandle(at: CUdeviceptr);

        cuStreamCreate(stream: Out<CUstream>, flags: u32);
        cuStreamCreateWithPriority(stream: Out<CUstream>, flags: u32, priority: i32);
        cuStreamDestroy_v2(stream: CUstream);
        cuThreadExchangeStreamCaptureMode(mode: Out<i32>);
        cuEventCreate(event: Out<CUevent>, flags: u32);
        cuEventDestroy_v2(event: CUevent);
        cuEventQuery(event: CUevent);
        cuEventSynchronize(event: CUevent);
        cuEventElapsedTime(milliseconds: Out<f32>, start: CUevent, end: CUevent);

        cuGraphCreate(graph: Out<CUgraph>, flags: u32);
        cuGraphDestroy(graph: CUgraph);
        cuGraphClone(clone: Out<CUgraph>, graph: CUgraph);
        cuGraphDebugDotPrint(graph: CUgraph, path: Text, flags: u32);
        cuGraphAddKernelNode_v2(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, params: In<CUDA_KERNEL_NODE_PARAMS>);
        cuGraphKernelNodeGetParams_v2(node: CUgraphNode, params: Out<CUDA_KERNEL_NODE_PARAMS>);
        cuGraphKernelNodeSetParams_v2(node: CUgraphNode, params: In<CUDA_KERNEL_NODE_PARAMS>);
        cuGraphKernelNodeCopyAttributes(dst: CUgraphNode, src: CUgraphNode);
        cuGraphKernelNodeGetAttribute(node: CUgraphNode, attribute: i32, value: Opaque);
        cuGraphKernelNodeSetAttribute(node: CUgraphNode, attribute: i32, value: Opaque);
        cuGraphAddMemcpyNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, params: In<CUDA_MEMCPY3D>, ctx: CUcontext);
        cuGraphMemcpyNodeGetParams(node: CUgraphNode, params: Out<CUDA_MEMCPY3D>);
        cuGraphMemcpyNodeSetParams(node: CUgraphNode, params: In<CUDA_MEMCPY3D>);
        cuGraphAddMemsetNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, params: In<CUDA_MEMSET_NODE_PARAMS>, ctx: CUcontext);
        cuGraphMemsetNodeGetParams(node: CUgraphNode, params: Out<CUDA_MEMSET_NODE_PARAMS>);
        cuGraphMemsetNodeSetParams(node: CUgraphNode, params: In<CUDA_MEMSET_NODE_PARAMS>);
        cuGraphAddHostNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, params: In<CUDA_HOST_NODE_PARAMS>);
        cuGraphHostNodeGetParams(node: CUgraphNode, params: Out<CUDA_HOST_NODE_PARAMS>);
        cuGraphHostNodeSetParams(node: CUgraphNode, params: In<CUDA_HOST_NODE_PARAMS>);
        cuGraphAddChildGraphNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, child: CUgraph);
        cuGraphChildGraphNodeGetGraph(node: CUgraphNode, graph: Out<CUgraph>);
        cuGraphAddEmptyNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize);
        cuGraphAddEventRecordNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, event: CUevent);
        cuGraphEventRecordNodeGetEvent(node: CUgraphNode, event: Out<CUevent>);
        cuGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent);
        cuGraphAddEventWaitNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, event: CUevent);
        cuGraphEventWaitNodeGetEvent(node: CUgraphNode, event: Out<CUevent>);
        cuGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent);
        cuGraphAddMemAllocNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, params: Opaque);
        cuGraphMemAllocNodeGetParams(node: CUgraphNode, params: Opaque);
        cuGraphAddMemFreeNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, at: CUdeviceptr);
        cuGraphMemFreeNodeGetParams(node: CUgraphNode, at: Out<CUdeviceptr>);
        cuGraphAddNode(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, params: Out<CUgraphNodeParams>);
        cuGraphAddNode_v2(node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, edges: Host, count: usize, params: Out<CUgraphNodeParams>);
        cuGraphNodeSetParams(node: CUgraphNode, params: Out<CUgraphNodeParams>);
        cuGraphExecNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: Out<CUgraphNodeParams>);
        cuGraphNodeFindInClone(found: Out<CUgraphNode>, original: CUgraphNode, clone: CUgraph);
        cuGraphNodeGetType(node: CUgraphNode, kind: Out<i32>);
        cuGraphGetId(graph: CUgraph, id: Out<u32>);
        cuGraphExecGetId(exec: CUgraphExec, id: Out<u32>);
        cuGraphNodeGetContainingGraph(node: CUgraphNode, graph: Out<CUgraph>);
        cuGraphNodeGetLocalId(node: CUgraphNode, id: Out<u32>);
        cuGraphNodeGetToolsId(node: CUgraphNode, id: Out<u64>);
        cuGraphGetNodes(graph: CUgraph, nodes: Out<CUgraphNode>, count: Out<usize>);
        cuGraphGetRootNodes(graph: CUgraph, nodes: Out<CUgraphNode>, count: Out<usize>);
        cuGraphGetEdges(graph: CUgraph, from: Out<CUgraphNode>, to: Out<CUgraphNode>, count: Out<usize>);
        cuGraphGetEdges_v2(graph: CUgraph, from: Out<CUgraphNode>, to: Out<CUgraphNode>, edges: Host, count: Out<usize>);
        cuGraphNodeGetDependencies(node: CUgraphNode, nodes: Out<CUgraphNode>, count: Out<usize>);
        cuGraphNodeGetDependencies_v2(node: CUgraphNode, nodes: Out<CUgraphNode>, edges: Host, count: Out<usize>);
        cuGraphNodeGetDependentNodes(node: CUgraphNode, nodes: Out<CUgraphNode>, count: Out<usize>);
        cuGraphNodeGetDependentNodes_v2(node: CUgraphNode, nodes: Out<CUgraphNode>, edges: Host, count: Out<usize>);
        cuGraphAddDependencies(graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, count: usize);
        cuGraphAddDependencies_v2(graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, edges: Host, count: usize);
        cuGraphRemoveDependencies(graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, count: usize);
        cuGraphRemoveDependencies_v2(graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, edges: Host, count: usize);
        cuGraphDestroyNode(node: CUgraphNode);
        cuGraphInstantiate_v2(exec: Out<CUgraphExec>, graph: CUgraph, node: Out<CUgraphNode>, log: Out<c_char>, len: usize);
        cuGraphInstantiateWithFlags(exec: Out<CUgraphExec>, graph: CUgraph, flags: u64);
        cuGraphExecGetFlags(exec: CUgraphExec, flags: Out<u64>);
        cuGraphExecDestroy(exec: CUgraphExec);
        cuGraphExecUpdate(exec: CUgraphExec, graph: CUgraph, node: Out<CUgraphNode>, result: Out<i32>);
        cuGraphExecUpdate_v2(exec: CUgraphExec, graph: CUgraph, result: Opaque);
        cuGraphExecKernelNodeSetParams_v2(exec: CUgraphExec, node: CUgraphNode, params: In<CUDA_KERNEL_NODE_PARAMS>);
        cuGraphExecMemcpyNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: In<CUDA_MEMCPY3D>, ctx: CUcontext);
        cuGraphExecMemsetNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: In<CUDA_MEMSET_NODE_PARAMS>, ctx: CUcontext);
        cuGraphExecHostNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: In<CUDA_HOST_NODE_PARAMS>);
        cuGraphExecChildGraphNodeSetParams(exec: CUgraphExec, node: CUgraphNode, child: CUgraph);
        cuGraphExecEventRecordNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent);
        cuGraphExecEventWaitNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent);
        cuGraphNodeSetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: u32);
        cuGraphNodeGetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: Out<u32>);
        cuGraphConditionalHandleCreate(handle: Out<u64>, graph: CUgraph, ctx: CUcontext, value: u32, flags: u32);
        cuUserObjectCreate(object: Out<CUuserObject>, data: Opaque, destroy: HostFn, count: u32, flags: u32);
        cuUserObjectRetain(object: CUuserObject, count: u32);
        cuUserObjectRelease(object: CUuserObject, count: u32);
        cuGraphRetainUserObject(graph: CUgraph, object: CUuserObject, count: u32, flags: u32);
        cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: u32);

        cuProfilerStart();
        cuProfilerStop();
    }
    twins {
        cuLaunchKernel | cuLaunchKernel_ptsz(function: CUfunction, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared: u32, stream: CUstream, params: In<Opaque>, extra: In<Opaque>);
        cuLaunchKernelEx | cuLaunchKernelEx_ptsz(config: In<CUlaunchConfig>, function: CUfunction, params: In<Opaque>, extra: In<Opaque>);
        cuLaunchCooperativeKernel | cuLaunchCooperativeKernel_ptsz(function: CUfunction, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared: u32, stream: CUstream, params: In<Opaque>);
        cuLaunchHostFunc | cuLaunchHostFunc_ptsz(stream: CUstream, function: HostFn, data: Opaque);

        cuLaunchHostFunc_v2 | cuLaunchHostFunc_v2_ptsz(stream: CUstream, function: HostFn, data: Opaque, mode: u32);
        cuMemcpy | cuMemcpy_ptds(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize);
        cuMemcpyAsync | cuMemcpyAsync_ptsz(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream);
        cuMemcpyHtoD_v2 | cuMemcpyHtoD_v2_ptds(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize);
        cuMemcpyHtoDAsync_v2 | cuMemcpyHtoDAsync_v2_ptsz(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream);
        cuMemcpyDtoH_v2 | cuMemcpyDtoH_v2_ptds(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize);
        cuMemcpyDtoHAsync_v2 | cuMemcpyDtoHAsync_v2_ptsz(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream);
        cuMemcpyDtoD_v2 | cuMemcpyDtoD_v2_ptds(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize);
        cuMemcpyDtoDAsync_v2 | cuMemcpyDtoDAsync_v2_ptsz(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream);
        cuMemcpyPeerAsync | cuMemcpyPeerAsync_ptsz(dst: CUdeviceptr, dst_ctx: CUcontext, src: CUdeviceptr, src_ctx: CUcontext, bytes: usize, stream: CUstream);
        cuMemcpy2DUnaligned_v2 | cuMemcpy2DUnaligned_v2_ptds(copy: In<CUDA_MEMCPY2D>);
        cuMemcpy2DAsync_v2 | cuMemcpy2DAsync_v2_ptsz(copy: In<CUDA_MEMCPY2D>, stream: CUstream);
        cuMemcpy3D_v2 | cuMemcpy3D_v2_ptds(copy: In<CUDA_MEMCPY3D>);
        cuMemcpy3DAsync_v2 | cuMemcpy3DAsync_v2_ptsz(copy: In<CUDA_MEMCPY3D>, stream: CUstream);
        cuMemcpy3DPeer | cuMemcpy3DPeer_ptds(copy: In<CUDA_MEMCPY3D_PEER>);
        cuMemcpy3DPeerAsync | cuMemcpy3DPeerAsync_ptsz(copy: In<CUDA_MEMCPY3D_PEER>, stream: CUstream);
        cuMemcpyBatchAsync | cuMemcpyBatchAsync_ptsz(dsts: Opaque, srcs: Opaque, sizes: Opaque, count: usize, attributes: Opaque, indices: Opaque, attribute_count: usize, fail: Out<usize>, stream: CUstream);
        cuMemcpyBatchAsync_v2 | cuMemcpyBatchAsync_v2_ptsz(dsts: Opaque, srcs: Opaque, sizes: Opaque, count: usize, attributes: Opaque, indices: Opaque, attribute_count: usize, stream: CUstream);
        cuMemcpy3DBatchAsync | cuMemcpy3DBatchAsync_ptsz(count: usize, list: Opaque, fail: Out<usize>, flags: u64, stream: CUstream);
        cuMemcpy3DBatchAsync_v2 | cuMemcpy3DBatchAsync_v2_ptsz(count: usize, list: Opaque, flags: u64, stream: CUstream);
        cuMemsetD8_v2 | cuMemsetD8_v2_ptds(at: CUdeviceptr, value: u8, bytes: usize);
        cuMemsetD8Async | cuMemsetD8Async_ptsz(at: CUdeviceptr, value: u8, bytes: usize, stream: CUstream);
        cuMemsetD2D8_v2 | cuMemsetD2D8_v2_ptds(at: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize);
        cuMemsetD2D8Async | cuMemsetD2D8Async_ptsz(at: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize, stream: CUstream);
        cuMemPrefetchAsync | cuMemPrefetchAsync_ptsz(at: CUdeviceptr, bytes: usize, device: CUdevice, stream: CUstream);
        cuMemPrefetchAsync_v2 | cuMemPrefetchAsync_v2_ptsz(at: CUdeviceptr, bytes: usize, location: CUmemLocation, flags: u32, stream: CUstream);
        cuMemPrefetchBatchAsync | cuMemPrefetchBatchAsync_ptsz(at: Opaque, sizes: Opaque, count: usize, locations: Opaque, indices: Opaque, location_count: usize, flags: u64, stream: CUstream);
        cuMemDiscardBatchAsync | cuMemDiscardBatchAsync_ptsz(at: Opaque, sizes: Opaque, count: usize, flags: u64, stream: CUstream);
        cuMemDiscardAndPrefetchBatchAsync | cuMemDiscardAndPrefetchBatchAsync_ptsz(at: Opaque, sizes: Opaque, count: usize, locations: Opaque, indices: Opaque, location_count: usize, flags: u64, stream: CUstream);
        cuMemAllocAsync | cuMemAllocAsync_ptsz(at: Out<CUdeviceptr>, bytes: usize, stream: CUstream);
        cuMemAllocFromPoolAsync | cuMemAllocFromPoolAsync_ptsz(at: Out<CUdeviceptr>, bytes: usize, pool: CUmemoryPool, stream: CUstream);
        cuMemFreeAsync | cuMemFreeAsync_ptsz(at: CUdeviceptr, stream: CUstream);

        cuStreamSynchronize | cuStreamSynchronize_ptsz(stream: CUstream);
        cuStreamQuery | cuStreamQuery_ptsz(stream: CUstream);
        cuStreamWaitEvent | cuStreamWaitEvent_ptsz(stream: CUstream, event: CUevent, flags: u32);
        cuStreamAddCallback | cuStreamAddCallback_ptsz(stream: CUstream, callback: StreamCallback, data: Opaque, flags: u32);
        cuStreamAttachMemAsync | cuStreamAttachMemAsync_ptsz(stream: CUstream, at: CUdeviceptr, bytes: usize, flags: u32);
        cuStreamGetFlags | cuStreamGetFlags_ptsz(stream: CUstream, flags: Out<u32>);
        cuStreamGetPriority | cuStreamGetPriority_ptsz(stream: CUstream, priority: Out<i32>);
        cuStreamGetId | cuStreamGetId_ptsz(stream: CUstream, id: Out<u64>);
        cuStreamGetDevice | cuStreamGetDevice_ptsz(stream: CUstream, device: Out<CUdevice>);
        cuStreamCopyAttributes | cuStreamCopyAttributes_ptsz(dst: CUstream, src: CUstream);
        cuStreamGetAttribute | cuStreamGetAttribute_ptsz(stream: CUstream, attribute: i32, value: Opaque);
        cuStreamSetAttribute | cuStreamSetAttribute_ptsz(stream: CUstream, attribute: i32, value: Opaque);
        cuStreamBeginCapture_v2 | cuStreamBeginCapture_v2_ptsz(stream: CUstream, mode: i32);
        cuStreamBeginCaptureToGraph | cuStreamBeginCaptureToGraph_ptsz(stream: CUstream, graph: CUgraph, deps: In<CUgraphNode>, edges: Host, count: usize, mode: i32);
        cuStreamEndCapture | cuStreamEndCapture_ptsz(stream: CUstream, graph: Out<CUgraph>);
        cuStreamIsCapturing | cuStreamIsCapturing_ptsz(stream: CUstream, status: Out<i32>);
        cuStreamGetCaptureInfo | cuStreamGetCaptureInfo_ptsz(stream: CUstream, status: Out<i32>, id: Out<u64>);
        cuStreamGetCaptureInfo_v2 | cuStreamGetCaptureInfo_v2_ptsz(stream: CUstream, status: Out<i32>, id: Out<u64>, graph: Out<CUgraph>, deps: Out<Opaque>, count: Out<usize>);
        cuStreamGetCaptureInfo_v3 | cuStreamGetCaptureInfo_v3_ptsz(stream: CUstream, status: Out<i32>, id: Out<u64>, graph: Out<CUgraph>, deps: Out<Opaque>, edges: Out<Opaque>, count: Out<usize>);
        cuStreamUpdateCaptureDependencies | cuStreamUpdateCaptureDependencies_ptsz(stream: CUstream, deps: In<CUgraphNode>, count: usize, flags: u32);
        cuStreamUpdateCaptureDependencies_v2 | cuStreamUpdateCaptureDependencies_v2_ptsz(stream: CUstream, deps: In<CUgraphNode>, edges: Host, count: usize, flags: u32);
        cuEventRecord | cuEventRecord_ptsz(event: CUevent, stream: CUstream);
        cuEventRecordWithFlags | cuEventRecordWithFlags_ptsz(event: CUevent, stream: CUstream, flags: u32);
        cuGraphInstantiateWithParams | cuGraphInstantiateWithParams_ptsz(exec: Out<CUgraphExec>, graph: CUgraph, params: Opaque);
        cuGraphLaunch | cuGraphLaunch_ptsz(exec: CUgraphExec, stream: CUstream);
        cuGraphUpload | cuGraphUpload_ptsz(exec: CUgraphExec, stream: CUstream);
    }
}
