//! The table itself. A new call is one row here and a body in each backend.

/// Invokes `$then!` with every row, in sections by noun; each section becomes a trait.
#[doc(hidden)]
#[macro_export]
macro_rules! calls {
    ($then:ident) => {
        $then! {
            /// The connection and the devices.
            trait DeviceCalls {
                /// Names the client and learns who answers.
                0x0001 asks vgpuHello [""] fn hello(client: Text<{ MAX_CLIENT_BYTES as u64 }>, pid: u32) -> HelloInfo;
                /// The channel's calls so far, by name, as a JSON object.
                0x0002 asks vgpuCounters [""] fn counters() -> String;
                /// Everything immutable about the devices.
                0x0003 asks vgpuDeviceTable [""] fn device_table() -> Vec<DeviceInfo>;

                /// Initialises the driver for this session.
                0x0030 asks cuInit ["group__CUDA__INITIALIZE"] fn init(flags: u32) -> ();
            }

            /// Contexts.
            trait ContextCalls {
                /// Creates the primary context, or counts one more user of it.
                0x0040 asks cuDevicePrimaryCtxRetain ["group__CUDA__PRIMARY__CTX"] fn primary_ctx_retain(device: u32) -> CtxId;
                /// Counts one user less; the last one destroys the context.
                0x0041 asks cuDevicePrimaryCtxRelease ["group__CUDA__PRIMARY__CTX"] fn primary_ctx_release(device: u32) -> ();
                /// Destroys the primary context whoever uses it.
                0x0042 asks cuDevicePrimaryCtxReset ["group__CUDA__PRIMARY__CTX"] fn primary_ctx_reset(device: u32) -> ();
                /// Creates a context.
                0x0043 asks cuCtxCreate ["group__CUDA__CTX"] fn ctx_create(flags: u32, device: u32) -> CtxId;
                /// Destroys a context with all that it owns.
                0x0044 asks cuCtxDestroy ["group__CUDA__CTX"] fn ctx_destroy(which: CtxId) -> ();
                /// Waits until the context has done all its work.
                0x0045 waits cuCtxSynchronize ["group__CUDA__CTX"] fn ctx_synchronize() -> ();
                /// A resource limit of the context, in the unit of the `CUlimit`.
                0x0046 waits cuCtxGetLimit ["group__CUDA__CTX"] fn ctx_get_limit(limit: u32) -> u64;
                /// Sets a resource limit.
                0x0047 waits cuCtxSetLimit ["group__CUDA__CTX"] fn ctx_set_limit(limit: u32, value: u64) -> ();
            }

            /// Modules, kernels and launches.
            trait ModuleCalls {
                /// Loads PTX or a fat binary.
                0x0050 waits cuModuleLoadDataEx ["group__CUDA__MODULE"] fn module_load(
                    image: Bytes<{ MAX_MESSAGE_BYTES - 4096 }>, options: List<JitOption, { MAX_JIT_OPTIONS as u64 }>) -> ModuleLoaded;
                /// Unloads a module.
                0x0051 posted cuModuleUnload ["group__CUDA__MODULE"] fn module_unload(module: ModuleId) -> ();
                /// Looks a kernel up by name.
                0x0052 waits cuModuleGetFunction ["group__CUDA__MODULE"] fn module_get_function(
                    module: ModuleId, name: Text<{ MAX_NAME_BYTES as u64 }>) -> FunctionInfo;
                /// Looks a global variable up by name: address and size in bytes.
                0x0053 waits cuModuleGetGlobal ["group__CUDA__MODULE"] fn module_get_global(
                    module: ModuleId, name: Text<{ MAX_NAME_BYTES as u64 }>) -> (DevPtr, u64);
                /// Names of a module's kernels.
                0x0190 waits cuModuleEnumerateFunctions ["group__CUDA__MODULE"] fn module_functions(module: ModuleId) -> Vec<String>;
                /// Sets a `CUfunction_attribute`.
                0x0054 waits cuFuncSetAttribute ["group__CUDA__EXEC"] fn func_set_attribute(
                    function: FunctionId, attribute: i32, value: i32) -> ();
                /// Launches a kernel. Grid and block are in blocks and threads, x y z; dynamic shared memory in bytes.
                0x0055 posted cuLaunchKernel ["group__CUDA__EXEC"] fn launch_kernel(
                    function: FunctionId, grid: [u32; 3], block: [u32; 3], shared_bytes: u32, stream: StreamId,
                    params: Bytes<{ MAX_PARAM_BYTES as u64 }>) -> ();
                /// The same with launch attributes.
                0x0056 posted cuLaunchKernelEx ["group__CUDA__EXEC"] fn launch_kernel_ex(
                    function: FunctionId, grid: [u32; 3], block: [u32; 3], shared_bytes: u32, stream: StreamId,
                    attributes: List<LaunchAttribute, { MAX_LAUNCH_ATTRIBUTES as u64 }>,
                    params: Bytes<{ MAX_PARAM_BYTES as u64 }>) -> ();
            }

            /// Device memory: allocation, copies and sets.
            trait MemoryCalls {
                /// Free and total device memory of the VM, in bytes.
                0x0060 waits cuMemGetInfo ["group__CUDA__MEM"] fn mem_get_info() -> (u64, u64);
                /// Allocates device memory.
                0x0061 waits cuMemAlloc ["group__CUDA__MEM"] fn mem_alloc(bytes: u64) -> DevPtr;
                /// Allocates rows of `width` bytes with a pitch that suits `element` bytes: address and pitch.
                0x0062 waits cuMemAllocPitch ["group__CUDA__MEM"] fn mem_alloc_pitch(width: u64, height: u64, element: u32) -> (DevPtr, u64);
                /// Frees device memory after the work that was submitted before.
                0x0063 posted cuMemFree ["group__CUDA__MEM"] fn mem_free(ptr: DevPtr) -> ();
                /// Copies bytes of this record to the device.
                0x0064 posted cuMemcpyHtoD_inline ["group__CUDA__MEM"] fn memcpy_htod_inline(
                    dst: DevPtr, stream: StreamId, data: Bytes<{ MAX_INLINE_COPY_BYTES as u64 }>) -> ();
                /// Copies a piece of the staging arena to the device.
                0x0065 posted cuMemcpyHtoD ["group__CUDA__MEM"] fn memcpy_htod(dst: DevPtr, stream: StreamId, span: ArenaSpan) -> ();
                /// Copies from the device into the reply.
                0x0066 waits cuMemcpyDtoH_inline ["group__CUDA__MEM"] fn memcpy_dtoh_inline(src: DevPtr, stream: StreamId, bytes: u32) -> Blob;
                /// Copies from the device to a piece of the staging arena.
                0x0067 waits cuMemcpyDtoH ["group__CUDA__MEM"] fn memcpy_dtoh(src: DevPtr, stream: StreamId, span: ArenaSpan) -> ();
                /// Copies within device memory.
                0x0068 posted cuMemcpyDtoD ["group__CUDA__MEM"] fn memcpy_dtod(dst: DevPtr, src: DevPtr, bytes: u64, stream: StreamId) -> ();
                /// Sets `count` elements of `width` bytes (1, 2 or 4).
                0x0069 posted cuMemsetD ["group__CUDA__MEM"] fn memset(dst: DevPtr, width: u8, value: u32, count: u64, stream: StreamId) -> ();
                /// Sets `rows` rows of `count` elements of `width` bytes, `pitch` bytes apart.
                0x006a posted cuMemsetD2D ["group__CUDA__MEM"] fn memset_2d(
                    dst: DevPtr, pitch: u64, width: u8, value: u32, count: u64, rows: u64, stream: StreamId) -> ();
            }

            /// Memory of the host that the program and the GPU both reach, in the heap of BAR1.
            trait HostMemoryCalls {
                /// Allocates pinned memory: where it begins in BAR1, and its address for the GPU.
                0x0070 waits cuMemHostAlloc ["group__CUDA__MEM"] fn host_alloc(bytes: u64) -> (u64, DevPtr);
                /// The same for managed memory.
                0x0071 waits cuMemAllocManaged ["group__CUDA__MEM"] fn managed_alloc(bytes: u64) -> (u64, DevPtr);
                /// Frees pinned or managed memory after the work that was submitted before.
                0x0072 asks cuMemFreeHost ["group__CUDA__MEM"] fn host_free(ptr: DevPtr) -> ();
            }

            /// Virtual memory management: physical memory and where it is seen. It belongs to the session, not to a context.
            trait VirtualMemoryCalls {
                /// Reserves addresses, at `hint` where that is possible. `align` 0 is the granularity.
                0x0100 waits cuMemAddressReserve ["group__CUDA__VA"] fn address_reserve(bytes: u64, align: u64, hint: DevPtr) -> DevPtr;
                /// Gives a reservation back, in which nothing is mapped.
                0x0101 waits cuMemAddressFree ["group__CUDA__VA"] fn address_free(ptr: DevPtr, bytes: u64) -> ();
                /// Makes physical memory of the device.
                0x0102 waits cuMemCreate ["group__CUDA__VA"] fn physical_create(bytes: u64) -> PhysicalId;
                /// Lets go of physical memory; it is freed once nothing maps it.
                0x0103 posted cuMemRelease ["group__CUDA__VA"] fn physical_release(physical: PhysicalId) -> ();
                /// Maps the first `bytes` of physical memory at reserved addresses. Nobody may access it yet.
                0x0104 waits cuMemMap ["group__CUDA__VA"] fn physical_map(ptr: DevPtr, bytes: u64, physical: PhysicalId) -> ();
                /// Unmaps whole mappings, after the work that was submitted before.
                0x0105 waits cuMemUnmap ["group__CUDA__VA"] fn physical_unmap(ptr: DevPtr, bytes: u64) -> ();
                /// Sets the `CUmemAccess_flags` of the device for whole mappings.
                0x0106 waits cuMemSetAccess ["group__CUDA__VA"] fn physical_set_access(ptr: DevPtr, bytes: u64, flags: u32) -> ();
                /// Least (0) or recommended (1) size and alignment of physical memory, in bytes.
                0x0107 waits cuMemGetAllocationGranularity ["group__CUDA__VA"] fn physical_granularity(option: u32) -> u64;
            }

            /// Streams.
            trait StreamCalls {
                /// Creates a stream under a name that the guest has chosen.
                0x0080 posted cuStreamCreateWithPriority ["group__CUDA__STREAM"] fn stream_create(stream: StreamId, flags: u32, priority: i32) -> ();
                /// Destroys a stream once its work is done.
                0x0081 posted cuStreamDestroy ["group__CUDA__STREAM"] fn stream_destroy(stream: StreamId) -> ();
                /// Waits until a stream has done its work.
                0x0082 waits cuStreamSynchronize ["group__CUDA__STREAM"] fn stream_synchronize(stream: StreamId) -> ();
                /// Success, or CUDA_ERROR_NOT_READY while work is left.
                0x0083 waits cuStreamQuery ["group__CUDA__STREAM"] fn stream_query(stream: StreamId) -> ();
                /// Makes a stream wait for an event's last record.
                0x0084 posted cuStreamWaitEvent ["group__CUDA__STREAM"] fn stream_wait_event(stream: StreamId, event: EventId, flags: u32) -> ();
            }

            /// Events.
            trait EventCalls {
                /// Creates an event under a name that the guest has chosen.
                0x0090 posted cuEventCreate ["group__CUDA__EVENT"] fn event_create(event: EventId, flags: u32) -> ();
                /// Destroys an event.
                0x0091 posted cuEventDestroy ["group__CUDA__EVENT"] fn event_destroy(event: EventId) -> ();
                /// Records an event in a stream.
                0x0092 posted cuEventRecord ["group__CUDA__EVENT"] fn event_record(event: EventId, stream: StreamId, flags: u32) -> ();
                /// Waits until the event's last record has been reached.
                0x0093 waits cuEventSynchronize ["group__CUDA__EVENT"] fn event_synchronize(event: EventId) -> ();
                /// Success, or CUDA_ERROR_NOT_READY.
                0x0094 waits cuEventQuery ["group__CUDA__EVENT"] fn event_query(event: EventId) -> ();
                /// Milliseconds between two recorded events.
                0x0095 waits cuEventElapsedTime ["group__CUDA__EVENT"] fn event_elapsed_time(start: EventId, end: EventId) -> f32;
            }

            /// What kernels write.
            trait OutputCalls {
                /// Takes text of kernels: for the standard output (printf) and the standard error (assert).
                0x0180 asks vgpuOutput [""] fn output() -> (Blob, Blob);
            }

            /// What NVML tells of the device.
            trait NvmlCalls {
                /// Versions of the host's driver and of its NVML.
                0x0280 asks nvmlSystem ["group__nvmlSystemQueries"] fn nvml_system() -> NvmlSystem;
                /// A number of the device, by its `NvmlField`.
                0x0281 asks nvmlDeviceValue ["group__nvmlDeviceQueries"] fn nvml_value(field: u32) -> u64;
                /// A text of the device, by its `NvmlText`.
                0x0282 asks nvmlDeviceText ["group__nvmlDeviceQueries"] fn nvml_text(field: u32) -> String;
                /// The VM's device memory in bytes: its share, and what its processes hold.
                0x0283 asks nvmlDeviceGetMemoryInfo ["group__nvmlDeviceQueries"] fn nvml_memory() -> (u64, u64);
                /// The VM's processes that use the device.
                0x0284 asks nvmlDeviceGetComputeRunningProcesses ["group__nvmlDeviceQueries"] fn nvml_processes() -> Vec<NvmlProcess>;
            }

            /// What orders streams with the guest's program and with memory.
            trait OrderCalls {
                /// Has the guest call a function of its program when the stream comes to it.
                0x0140 posted cuLaunchHostFunc ["group__CUDA__EXEC"] fn launch_host_func(stream: StreamId, number: u64) -> ();
                /// Writes words of memory, and waits for words of memory, in stream order.
                0x0141 posted cuStreamBatchMemOp ["group__CUDA__MEMOP"] fn stream_batch_mem_op(
                    stream: StreamId, operations: List<MemOp, { MAX_MEM_OPS as u64 }>) -> ();
            }

            /// Executable graphs.
            trait GraphCalls {
                /// Makes an executable graph, under a name that the guest has chosen, from a list of `GraphNode`.
                0x0150 waits cuGraphInstantiate ["group__CUDA__GRAPH"] fn graph_instantiate(
                    graph: GraphId, nodes: Bytes<{ MAX_GRAPH_BYTES as u64 }>) -> ();
                /// Changes nodes of an executable graph for its later launches: a list of `GraphChange`.
                0x0151 posted cuGraphExecUpdate ["group__CUDA__GRAPH"] fn graph_update(
                    graph: GraphId, changes: Bytes<{ MAX_GRAPH_BYTES as u64 }>) -> ();
                /// Launches an executable graph.
                0x0152 posted cuGraphLaunch ["group__CUDA__GRAPH"] fn graph_launch(graph: GraphId, stream: StreamId) -> ();
                /// Prepares an executable graph for its first launch.
                0x0153 posted cuGraphUpload ["group__CUDA__GRAPH"] fn graph_upload(graph: GraphId, stream: StreamId) -> ();
                /// Destroys an executable graph; launches in flight go on.
                0x0154 posted cuGraphExecDestroy ["group__CUDA__GRAPH"] fn graph_destroy(graph: GraphId) -> ();
            }

            /// The linker.
            trait LinkCalls {
                /// Begins to link.
                0x0184 waits cuLinkCreate ["group__CUDA__MODULE"] fn link_create(
                    options: List<JitOption, { MAX_JIT_OPTIONS as u64 }>) -> LinkId;
                /// Adds an input of a `CUjitInputType` under a name for messages.
                0x0185 waits cuLinkAddData ["group__CUDA__MODULE"] fn link_add(
                    link: LinkId, kind: u32, name: Text<{ MAX_NAME_BYTES as u64 }>,
                    options: List<JitOption, { MAX_JIT_OPTIONS as u64 }>, data: Bytes<{ MAX_LINK_INPUT_BYTES }>) -> JitReport;
                /// Links: logs, and the image, which is a module's.
                0x0186 waits cuLinkComplete ["group__CUDA__MODULE"] fn link_complete(link: LinkId) -> (JitReport, Blob);
                /// Lets go of a linker and its inputs.
                0x0187 posted cuLinkDestroy ["group__CUDA__MODULE"] fn link_destroy(link: LinkId) -> ();
            }

            /// cuBLAS.
            trait BlasCalls {
                /// Creates a handle under a name that the guest has chosen: a `cublasStatus_t`.
                0x0200 waits cublasCreate ["cublas/#cublascreate"] fn blas_create(handle: BlasId) -> u32;
                /// Destroys a handle.
                0x0201 posted cublasDestroy ["cublas/#cublasdestroy"] fn blas_destroy(handle: BlasId) -> ();
                /// Gives a handle device memory to work in, until its stream is set again; 0 bytes take it away.
                0x0202 posted cublasSetWorkspace ["cublas/#cublassetworkspace"] fn blas_set_workspace(
                    target: BlasTarget, at: DevPtr, bytes: u64) -> ();
                /// A matrix product: cublasGemmEx, cublas<t>gemm and their like.
                0x0210 posted cublasGemmEx ["cublas/#cublasgemmex"] fn blas_gemm(op: BlasGemm) -> ();
                /// Matrix products of matrices whose addresses lie in arrays in device memory.
                0x0211 posted cublasGemmBatchedEx ["cublas/#cublasgemmbatchedex"] fn blas_gemm_batched(op: BlasGemm) -> ();
                /// Matrix products of matrices at fixed distances.
                0x0212 posted cublasGemmStridedBatchedEx ["cublas/#cublasgemmstridedbatchedex"] fn blas_gemm_strided(op: BlasGemm) -> ();
                /// Solves triangular systems of matrices whose addresses lie in arrays in device memory.
                0x0213 posted cublasTrsmBatched ["cublas/#cublas-t-trsmbatched"] fn blas_trsm_batched(op: BlasTrsmBatched) -> ();
                /// A routine of level 1 without a result: axpy, copy, swap, scal, rot, rotm.
                0x0220 posted cublasLevel1 ["cublas/#cublas-level-1-function-reference"] fn blas_level1(op: BlasRoutine) -> ();
                /// A routine of level 2: a matrix and vectors.
                0x0221 posted cublasLevel2 ["cublas/#cublas-level-2-function-reference"] fn blas_level2(op: BlasRoutine) -> ();
                /// A routine of level 3 other than a product: symm, syrk, trmm, trsm and their like.
                0x0222 posted cublasLevel3 ["cublas/#cublas-level-3-function-reference"] fn blas_level3(op: BlasRoutine) -> ();
                /// Factorisations of batches: getrf, getrs, getri, matinv.
                0x0223 posted cublasBatchedLapack ["cublas/#cublas-t-getrfbatched"] fn blas_lapack(op: BlasRoutine) -> ();
                /// A routine of level 1 with a result in device memory: dot, nrm2, asum, amax, amin.
                0x0224 posted cublasLevel1Result ["cublas/#cublas-level-1-function-reference"] fn blas_result(op: BlasRoutine) -> ();
                /// The same with the result in host memory: its bytes.
                0x0225 waits cublasLevel1HostResult ["cublas/#cublas-level-1-function-reference"] fn blas_host_result(op: BlasRoutine) -> Blob;
                /// Asks whether there is a cublasLt.
                0x0230 waits cublasLtCreate ["cublas/#cublasltcreate"] fn blas_lt_create() -> LtReady;
                /// A matrix product with an epilogue.
                0x0231 posted cublasLtMatmul ["cublas/#cublasltmatmul"] fn blas_lt_matmul(op: LtMatmul) -> ();
                /// A matrix in another order or type.
                0x0232 posted cublasLtMatrixTransform ["cublas/#cublasltmatrixtransform"] fn blas_lt_transform(op: LtTransform) -> ();
            }
        }
    };
}
