//! Random calls with random arguments: whatever a guest sends, the session answers.

mod blas;

use vgpu_conformance::{Bench, Client};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    ArenaSpan, CALLS, CtxId, DevPtr, EventId, FunctionId, GraphChange, GraphId, GraphNode,
    JitOption, LaunchAttribute, LinkId, MemOp, ModuleId, Opcode, PhysicalId, StreamId, request,
    stubs,
};
use vgpu_protocol::wire::{Blob, Value, Writer};
use vgpu_test_harness::bodies::hostile::Random;
use vgpu_test_harness::ptx;

/// Numbers at which things go wrong, among others.
struct Guest {
    random: Random,
    pointers: Vec<u64>,
    contexts: Vec<u32>,
    modules: Vec<u32>,
    functions: Vec<u32>,
}

/// One of the newest, most of the time.
fn known(random: &mut Random, ids: &[u32]) -> u32 {
    let draw = random.draw();
    match ids.len() {
        0 => draw as u32 % 4,
        _ if draw.is_multiple_of(16) => draw as u32 >> 8,
        n => ids[n - 1 - (draw >> 8) as usize % n.min(3)],
    }
}

impl Guest {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.random.draw() % from.len() as u64) as usize]
    }

    fn word(&mut self) -> u32 {
        let any = self.random.draw() as u32;
        let small = any % 9;
        self.pick(&[
            0,
            1,
            2,
            3,
            4,
            small,
            small,
            32,
            64,
            1024,
            1025,
            1 << 16,
            1 << 31,
            u32::MAX - 1,
            u32::MAX,
            any,
        ])
    }

    fn long(&mut self) -> u64 {
        let any = self.random.draw();
        let word = u64::from(self.word());
        self.pick(&[
            word,
            word,
            word,
            any % 10_000,
            1 << 32,
            1 << 47,
            1 << 63,
            u64::MAX - 7,
            u64::MAX,
            any,
        ])
    }

    fn ptr(&mut self) -> DevPtr {
        let (known, skew, wild) = (self.pointers.clone(), self.random.draw() % 300, self.long());
        if known.is_empty() {
            return DevPtr(wild);
        }
        let base = self.pick(&known);
        DevPtr(self.pick(&[
            base,
            base,
            base + skew,
            base + 65_536,
            base.wrapping_sub(1),
            wild,
        ]))
    }

    fn chunk(&mut self) -> u64 {
        let (chunk, wild) = (2 << 20, self.long());
        self.pick(&[chunk, chunk, 2 * chunk, wild])
    }

    fn data(&mut self) -> Vec<u8> {
        let length = self.pick(&[0usize, 1, 7, 8, 28, 32, 255, 4096, 8192]);
        vec![self.random.draw() as u8; length]
    }

    fn span(&mut self) -> ArenaSpan {
        ArenaSpan {
            position: self.long(),
            bytes: self.long(),
        }
    }

    fn name(&mut self) -> &'static str {
        self.pick(&[
            "", "poke", "poke", "poke", "add", "add", "counter", "nothing", "poke\0", "ü",
            "forever.",
        ])
    }

    /// Nodes of a graph, or changes of nodes; some of them bytes that are neither.
    fn nodes(&mut self, changes: bool) -> Vec<u8> {
        if self.random.draw().is_multiple_of(8) {
            return self.data();
        }
        let mut w = Writer::new();
        let count = self.random.draw() % 6;
        count.put(&mut w);
        for node in 0..count as u32 {
            let mut request = Writer::new();
            let function = FunctionId(known(&mut self.random, &self.functions));
            let opcode = match self.random.draw() % 6 {
                0 => 0,
                1 => request::memset(
                    &mut request,
                    self.ptr(),
                    4,
                    5,
                    self.long() % 64,
                    StreamId(0),
                ) as u32,
                2 => request::event_record(&mut request, EventId(self.word() % 6), StreamId(0), 1)
                    as u32,
                3 => request::launch_host_func(&mut request, StreamId(0), self.long()) as u32,
                4 => request::launch_kernel(
                    &mut request,
                    function,
                    [1; 3],
                    [1; 3],
                    0,
                    StreamId(0),
                    &[],
                ) as u32,
                _ => self.word(),
            };
            let request = Blob(request.parts().concat());
            if changes {
                let wild = self.word();
                let node = self.pick(&[node, node, wild]);
                GraphChange {
                    node,
                    opcode,
                    request,
                }
                .put(&mut w);
            } else {
                let any = self.word();
                let before = (0..node).filter(|i| any >> i & 1 != 0);
                let mut after: Vec<u32> = before.collect();
                if self.random.draw().is_multiple_of(16) {
                    after.push(any);
                }
                GraphNode {
                    opcode,
                    request,
                    after,
                }
                .put(&mut w);
            }
        }
        w.parts().concat()
    }

    /// Makes one call; its error is as good as its success.
    fn call(&mut self, c: &Client, opcode: Opcode) -> Result<(), Status> {
        let ctx = CtxId(known(&mut self.random, &self.contexts));
        let stream = StreamId(self.word() % 6);
        let event = EventId(self.word() % 6);
        let graph = GraphId(self.word() % 6);
        let module = ModuleId(known(&mut self.random, &self.modules));
        let function = FunctionId(known(&mut self.random, &self.functions));
        match opcode {
            Opcode::vgpuHello => stubs::hello(c, ctx, "random \"\\\n", self.word()).map(drop),
            Opcode::vgpuCounters => stubs::counters(c, ctx).map(drop),
            Opcode::vgpuDeviceTable => stubs::device_table(c, ctx).map(drop),
            Opcode::cuInit => stubs::init(c, ctx, self.word() & 1),
            Opcode::cuDevicePrimaryCtxRetain => {
                let made = stubs::primary_ctx_retain(c, ctx, self.word() & 1)?;
                self.contexts.push(made.0);
                Ok(())
            }
            Opcode::cuDevicePrimaryCtxRelease => {
                stubs::primary_ctx_release(c, ctx, self.word() & 1)
            }
            Opcode::cuDevicePrimaryCtxReset => stubs::primary_ctx_reset(c, ctx, self.word() & 7),
            Opcode::cuCtxCreate => {
                let made = stubs::ctx_create(c, ctx, self.word(), self.word() & 1)?;
                self.contexts.push(made.0);
                Ok(())
            }
            Opcode::cuCtxDestroy if self.word() & 7 == 0 => stubs::ctx_destroy(c, ctx, ctx),
            Opcode::cuCtxDestroy => stubs::ctx_destroy(c, ctx, CtxId(self.word())),
            Opcode::cuCtxSynchronize => stubs::ctx_synchronize(c, ctx),
            Opcode::cuCtxGetLimit => stubs::ctx_get_limit(c, ctx, self.word()).map(drop),
            Opcode::cuCtxSetLimit => stubs::ctx_set_limit(c, ctx, self.word(), self.long()),
            Opcode::cuModuleLoadDataEx => {
                let broken = self.data();
                let image = self.pick(&[
                    ptx::VECTOR_ADD.as_bytes(),
                    ptx::MISCHIEF.as_bytes(),
                    b".version 8.0",
                    &broken,
                ]);
                let options = vec![
                    JitOption {
                        option: self.word(),
                        value: self.long()
                    };
                    (self.word() % 3) as usize
                ];
                let loaded = stubs::module_load(c, ctx, image, options)?;
                if loaded.status == 0 {
                    self.modules.push(loaded.module.0);
                }
                Ok(())
            }
            Opcode::cuModuleUnload => stubs::module_unload(c, ctx, module),
            Opcode::cuModuleGetFunction => {
                let name = self.name();
                self.functions
                    .push(stubs::module_get_function(c, ctx, module, name)?.function.0);
                Ok(())
            }
            Opcode::cuModuleGetGlobal => {
                let (ptr, _) = stubs::module_get_global(c, ctx, module, self.name())?;
                self.pointers.push(ptr.0);
                Ok(())
            }
            Opcode::cuModuleEnumerateFunctions => stubs::module_functions(c, ctx, module).map(drop),
            Opcode::cuFuncSetAttribute => stubs::func_set_attribute(
                c,
                ctx,
                function,
                self.word() as i32 & 15,
                self.word() as i32,
            ),
            Opcode::cuLaunchKernelEx => {
                let attribute = |guest: &mut Guest| LaunchAttribute {
                    id: guest.word() % 20,
                    value: [guest.long(); 8],
                };
                let attributes = (0..self.word() % 4).map(|_| attribute(self)).collect();
                let params = self.ptr().0.to_le_bytes();
                stubs::launch_kernel_ex(
                    c,
                    ctx,
                    function,
                    [1; 3],
                    [32, 1, 1],
                    0,
                    stream,
                    attributes,
                    &params,
                )
            }
            Opcode::cuLaunchKernel => {
                let (grid, block) = (
                    [self.word() % 70_000, 1, self.word() % 3],
                    [self.word(), self.word() % 3, 1],
                );
                let mut params = self.ptr().0.to_le_bytes().to_vec();
                if self.word() & 3 == 0 {
                    params = self.data();
                }
                // A large grid of harmless threads only takes time.
                let grid = if block[0] > 64 {
                    [1, grid[1], grid[2]]
                } else {
                    [grid[0] % 50, grid[1], grid[2]]
                };
                stubs::launch_kernel(
                    c,
                    ctx,
                    function,
                    grid,
                    block,
                    self.word() % 60_000,
                    stream,
                    &params,
                )
            }
            Opcode::cuMemGetInfo => stubs::mem_get_info(c, ctx).map(drop),
            Opcode::cuMemAlloc => {
                let ptr = stubs::mem_alloc(c, ctx, self.long())?;
                self.pointers.push(ptr.0);
                Ok(())
            }
            Opcode::cuMemAllocPitch => {
                let (ptr, _) =
                    stubs::mem_alloc_pitch(c, ctx, self.long(), self.long(), self.word() % 20)?;
                self.pointers.push(ptr.0);
                Ok(())
            }
            Opcode::cuMemFree => stubs::mem_free(c, ctx, self.ptr()),
            Opcode::cuMemcpyHtoD_inline => {
                stubs::memcpy_htod_inline(c, ctx, self.ptr(), stream, &self.data())
            }
            Opcode::cuMemcpyHtoD => stubs::memcpy_htod(c, ctx, self.ptr(), stream, self.span()),
            Opcode::cuMemcpyDtoH_inline => {
                stubs::memcpy_dtoh_inline(c, ctx, self.ptr(), stream, self.word()).map(drop)
            }
            Opcode::cuMemcpyDtoH => stubs::memcpy_dtoh(c, ctx, self.ptr(), stream, self.span()),
            Opcode::cuMemcpyDtoD => {
                stubs::memcpy_dtod(c, ctx, self.ptr(), self.ptr(), self.long(), stream)
            }
            Opcode::cuMemsetD => stubs::memset(
                c,
                ctx,
                self.ptr(),
                self.word() as u8,
                self.word(),
                self.long(),
                stream,
            ),
            Opcode::cuMemsetD2D => stubs::memset_2d(
                c,
                ctx,
                self.ptr(),
                self.long(),
                self.word() as u8,
                self.word(),
                self.long(),
                self.long(),
                stream,
            ),
            Opcode::cuMemHostAlloc | Opcode::cuMemAllocManaged => {
                let bytes = self.long();
                let made = match opcode {
                    Opcode::cuMemHostAlloc => stubs::host_alloc(c, ctx, bytes),
                    _ => stubs::managed_alloc(c, ctx, bytes),
                };
                self.pointers.push(made?.1.0);
                Ok(())
            }
            Opcode::cuMemFreeHost => stubs::host_free(c, ctx, self.ptr()),
            Opcode::cuMemAddressReserve => {
                let (bytes, align) = (
                    self.chunk() << (self.word() % 6),
                    self.pick(&[0, 0, 4 << 20, 3]),
                );
                let ptr = stubs::address_reserve(c, ctx, bytes, align, self.ptr())?;
                self.pointers.push(ptr.0);
                Ok(())
            }
            Opcode::cuMemAddressFree => stubs::address_free(c, ctx, self.ptr(), self.long()),
            Opcode::cuMemCreate => {
                let chunks = u64::from(self.word() % 4);
                stubs::physical_create(c, ctx, self.pick(&[chunks << 21, 4 << 20]))
                    .or_else(|_| stubs::physical_create(c, ctx, self.long()))
                    .map(drop)
            }
            Opcode::cuMemRelease => stubs::physical_release(c, ctx, PhysicalId(self.word() % 9)),
            Opcode::cuMemMap => {
                let physical = PhysicalId(self.word() % 9);
                stubs::physical_map(c, ctx, self.ptr(), self.chunk(), physical)
            }
            Opcode::cuMemUnmap => stubs::physical_unmap(c, ctx, self.ptr(), self.chunk()),
            Opcode::cuMemSetAccess => {
                stubs::physical_set_access(c, ctx, self.ptr(), self.chunk(), self.word() % 5)
            }
            Opcode::cuMemGetAllocationGranularity => {
                stubs::physical_granularity(c, ctx, self.word()).map(drop)
            }
            Opcode::cuStreamCreateWithPriority => {
                stubs::stream_create(c, ctx, stream, self.word() & 3, self.word() as i32)
            }
            Opcode::cuStreamDestroy => stubs::stream_destroy(c, ctx, stream),
            Opcode::cuStreamSynchronize => stubs::stream_synchronize(c, ctx, stream),
            Opcode::cuStreamQuery => stubs::stream_query(c, ctx, stream),
            Opcode::cuStreamWaitEvent => {
                stubs::stream_wait_event(c, ctx, stream, event, self.word() & 3)
            }
            Opcode::cuEventCreate => stubs::event_create(c, ctx, event, self.word()),
            Opcode::cuEventDestroy => stubs::event_destroy(c, ctx, event),
            Opcode::cuEventRecord => stubs::event_record(c, ctx, event, stream, self.word() & 3),
            Opcode::cuEventSynchronize => stubs::event_synchronize(c, ctx, event),
            Opcode::cuEventQuery => stubs::event_query(c, ctx, event),
            Opcode::cuEventElapsedTime => {
                stubs::event_elapsed_time(c, ctx, event, EventId(self.word() % 6)).map(drop)
            }
            Opcode::cuLaunchHostFunc => stubs::launch_host_func(c, ctx, stream, self.long()),
            Opcode::cuStreamBatchMemOp => {
                // No waits: nobody would end them.
                let operations = (0..self.word() % 4).map(|_| MemOp {
                    kind: self.pick(&[0, 2, 3, 5, 6, 7]),
                    address: self.ptr(),
                    value: self.long(),
                    flags: self.word(),
                });
                let operations = operations.collect();
                stubs::stream_batch_mem_op(c, ctx, stream, operations)
            }
            Opcode::cuGraphInstantiate => {
                stubs::graph_instantiate(c, ctx, graph, &self.nodes(false))
            }
            Opcode::cuGraphExecUpdate => stubs::graph_update(c, ctx, graph, &self.nodes(true)),
            Opcode::cuGraphLaunch => stubs::graph_launch(c, ctx, graph, stream),
            Opcode::cuGraphUpload => stubs::graph_upload(c, ctx, graph, stream),
            Opcode::cuGraphExecDestroy => stubs::graph_destroy(c, ctx, graph),
            Opcode::cuLinkCreate => stubs::link_create(c, ctx, Vec::new()).map(drop),
            Opcode::cuLinkAddData => {
                let broken = self.data();
                let data = self.pick(&[
                    ptx::VECTOR_ADD.as_bytes(),
                    ptx::MISCHIEF.as_bytes(),
                    &broken,
                ]);
                let (link, kind) = (LinkId(self.word() % 4), self.word() % 7);
                stubs::link_add(c, ctx, link, kind, "name", Vec::new(), data).map(drop)
            }
            Opcode::cuLinkComplete => {
                stubs::link_complete(c, ctx, LinkId(self.word() % 4)).map(drop)
            }
            Opcode::cuLinkDestroy => stubs::link_destroy(c, ctx, LinkId(self.word() % 4)),
            Opcode::nvmlSystem => stubs::nvml_system(c, ctx).map(drop),
            Opcode::nvmlDeviceValue => stubs::nvml_value(c, ctx, self.word()).map(drop),
            Opcode::nvmlDeviceText => stubs::nvml_text(c, ctx, self.word()).map(drop),
            Opcode::nvmlDeviceGetMemoryInfo => stubs::nvml_memory(c, ctx).map(drop),
            Opcode::nvmlDeviceGetComputeRunningProcesses => stubs::nvml_processes(c, ctx).map(drop),
            Opcode::vgpuOutput => stubs::output(c, ctx).map(drop),
            Opcode::cublasCreate => stubs::blas_create(c, ctx, self.blas_id()).map(drop),
            Opcode::cublasDestroy => stubs::blas_destroy(c, ctx, self.blas_id()),
            Opcode::cublasSetWorkspace => {
                stubs::blas_set_workspace(c, ctx, self.blas_target(), self.ptr(), self.long())
            }
            Opcode::cublasGemmEx => stubs::blas_gemm(c, ctx, self.gemm()),
            Opcode::cublasGemmBatchedEx => stubs::blas_gemm_batched(c, ctx, self.gemm()),
            Opcode::cublasGemmStridedBatchedEx => stubs::blas_gemm_strided(c, ctx, self.gemm()),
            Opcode::cublasTrsmBatched => stubs::blas_trsm_batched(c, ctx, self.trsm()),
            Opcode::cublasLevel1 => stubs::blas_level1(c, ctx, self.routine()),
            Opcode::cublasLevel2 => stubs::blas_level2(c, ctx, self.routine()),
            Opcode::cublasLevel3 => stubs::blas_level3(c, ctx, self.routine()),
            Opcode::cublasBatchedLapack => stubs::blas_lapack(c, ctx, self.routine()),
            Opcode::cublasLevel1Result => stubs::blas_result(c, ctx, self.routine()),
            Opcode::cublasLtCreate => stubs::blas_lt_create(c, ctx).map(drop),
            Opcode::cublasLtMatmul => stubs::blas_lt_matmul(c, ctx, self.lt_matmul()),
            Opcode::cublasLtMatrixTransform => {
                stubs::blas_lt_transform(c, ctx, self.lt_transform())
            }
            Opcode::cublasLevel1HostResult => {
                stubs::blas_host_result(c, ctx, self.routine()).map(drop)
            }
        }
    }
}

pub fn calls(bench: &Bench) {
    let seeds = std::env::var("VGPU_RANDOM_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(6);
    for seed in 1..=seeds {
        let client = bench.client();
        let mut guest = Guest {
            random: Random::new(seed * 0x9e37_79b9),
            pointers: Vec::new(),
            contexts: Vec::new(),
            modules: Vec::new(),
            functions: Vec::new(),
        };
        let (mut good, mut launched) = (0, 0);
        for _ in 0..3000 {
            let row = guest.random.draw() as usize % CALLS.len();
            let opcode = Opcode::from_wire(CALLS[row].opcode).expect("in the table");
            // Posted calls half of the time as such.
            let outcome = if guest.random.draw() & 1 == 0 {
                client.now(|c| guest.call(c, opcode))
            } else {
                guest.call(&client, opcode)
            };
            good += u32::from(outcome.is_ok());
            launched += u32::from(opcode == Opcode::cuLaunchKernel && outcome.is_ok());
        }
        assert!(
            good > 300 && launched > 3,
            "seed {seed}: {good} calls succeeded, {launched} launches"
        );
        drop(client);
        let (client, ctx) = bench.ready();
        client.alloc(ctx, 4096);
    }
}
