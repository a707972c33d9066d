//! What the tests of the `cuda` backend share: a driver of their own, and a session on it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vgpu_mediator::arena::Arena;
use vgpu_mediator::backend::cuda::{CudaBackend, CudaUnavailable};
use vgpu_mediator::backend::{Backend, BackendSession, SessionContext};
use vgpu_mediator::budget::Budget;
use vgpu_mediator::callbacks::Callbacks;
use vgpu_mediator::cancel::Cancel;
use vgpu_mediator::captured::Captured;
use vgpu_mediator::counters::Counters;
use vgpu_mediator::heap::{Heap, HeapMemory};
use vgpu_mediator::waker::Waker;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    ArenaSpan, CtxId, DevPtr, FunctionId, FunctionInfo, GraphNode, ModuleId, Opcode, StreamId,
};
use vgpu_protocol::window::Window;
use vgpu_protocol::wire::{Blob, Value, Writer};
pub use vgpu_test_harness::fake_driver::FakeDriver;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;

/// The current context's default stream.
pub const DEFAULT: StreamId = StreamId(0);

pub const PTX: &str = ".version 8.0\n.target sm_90\n\
    .global .align 4 .b8 table[64];\n\
    .entry fill(.param .u64 to, .param .u32 value, .param .u32 count) { ret; }\n\
    .entry busy(.param .u32 count) { ret; }\n\
    .entry endless() { ret; }\n\
    .entry illegal() { ret; }\n\
    .entry nothing() { ret; }\n";

/// The fake driver, as a backend.
pub trait OpenDriver {
    fn try_open(&self, gpu: Option<&str>) -> Result<Arc<CudaBackend>, CudaUnavailable>;

    fn open(&self) -> Arc<CudaBackend> {
        self.try_open(None).expect("the fake driver opens")
    }

    /// With its NVML, cuBLAS and cublasLt, which are in the same file.
    fn open_whole(&self) -> Arc<CudaBackend>;
}

impl OpenDriver for FakeDriver {
    fn try_open(&self, gpu: Option<&str>) -> Result<Arc<CudaBackend>, CudaUnavailable> {
        CudaBackend::open_library(path(&self.library), gpu)
    }

    fn open_whole(&self) -> Arc<CudaBackend> {
        let library = path(&self.library);
        CudaBackend::open_with_blas(library, library, library, None).expect("the fake driver opens")
    }
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("the temporary folder's path is text")
}

/// A channel with a session on it.
pub struct Channel {
    pub session: Box<dyn BackendSession>,
    pub cancel: Arc<Cancel>,
    pub budget: Arc<Budget>,
    pub arena: Window,
    pub heap: Window,
    pub callbacks: Arc<Callbacks>,
    pub indices: Window,
}

pub const ARENA_BYTES: u64 = MIB;

/// Bytes of a channel's heap.
pub const HEAP_BYTES: u64 = MIB;

/// What this process writes: nothing.
struct Silent;

impl Captured for Silent {
    fn any(&self) -> bool {
        false
    }

    fn take(&self) -> (Vec<u8>, Vec<u8>) {
        (Vec::new(), Vec::new())
    }
}

struct LeakedHeap(Window);

impl HeapMemory for LeakedHeap {
    fn window(&self) -> Window {
        self.0
    }

    fn offset(&self) -> u64 {
        0
    }

    fn clear(&self, offset: u64, bytes: u64) -> bool {
        self.0.write(offset, &vec![0; bytes as usize]).is_ok()
    }
}

fn leaked_window(bytes: u64) -> Window {
    let memory = Box::leak(vec![0u64; bytes as usize / 8].into_boxed_slice());
    // SAFETY: leaked, so valid for ever, 8-byte aligned, and used through the window alone.
    unsafe { Window::new(memory.as_mut_ptr().cast(), bytes as usize) }
}

impl Channel {
    pub fn open(backend: &Arc<CudaBackend>) -> Channel {
        Channel::with_memory(backend, 16 * MIB)
    }

    pub fn with_memory(backend: &Arc<CudaBackend>, bytes: u64) -> Channel {
        Channel::try_open(backend, Budget::new(bytes)).expect("a session opens")
    }

    pub fn try_open(backend: &Arc<CudaBackend>, budget: Arc<Budget>) -> Result<Channel, Status> {
        let (arena, indices) = (leaked_window(ARENA_BYTES), leaked_window(64));
        let heap = leaked_window(HEAP_BYTES);
        let cancel = Arc::new(Cancel::default());
        let waker = Arc::<Waker>::default();
        let context = SessionContext {
            callbacks: Arc::new(Callbacks::new(Arc::clone(&waker))),
            waker,
            vm_id: 111,
            channel: 0,
            arena: Arena::new(arena, indices, 0).expect("inside"),
            cancel: Arc::clone(&cancel),
            budget: Arc::clone(&budget),
            counters: Arc::new(Counters::default()),
            processes: Arc::default(),
            captured: Some(Arc::new(Silent)),
            heap: Heap::new(Box::new(LeakedHeap(heap)), None),
        };
        let callbacks = Arc::clone(&context.callbacks);
        let session = Arc::clone(backend).open(context)?;
        Ok(Channel {
            callbacks,
            session,
            cancel,
            budget,
            arena,
            heap,
            indices,
        })
    }

    /// Initialises, and creates a context.
    pub fn context(&mut self) -> CtxId {
        self.session.init(CtxId(0), 0).expect("cuInit");
        self.session
            .ctx_create(CtxId(0), 0, 0)
            .expect("cuCtxCreate")
    }

    pub fn module(&mut self, ctx: CtxId) -> ModuleId {
        let loaded = self
            .session
            .module_load(ctx, PTX.as_bytes(), Vec::new())
            .expect("cuModuleLoadData");
        assert_eq!(loaded.status, 0, "{}", loaded.error_log);
        loaded.module
    }

    pub fn kernel(&mut self, ctx: CtxId, module: ModuleId, name: &str) -> FunctionInfo {
        self.session
            .module_get_function(ctx, module, name)
            .expect("cuModuleGetFunction")
    }

    pub fn launch(
        &mut self,
        ctx: CtxId,
        kernel: FunctionId,
        stream: StreamId,
        params: &[u8],
    ) -> Result<(), Status> {
        self.session
            .launch_kernel(ctx, kernel, [1; 3], [32, 1, 1], 0, stream, params)
    }

    pub fn read(&mut self, ctx: CtxId, from: DevPtr, bytes: u32) -> Vec<u8> {
        self.session
            .memcpy_dtoh_inline(ctx, from, DEFAULT, bytes)
            .expect("cuMemcpyDtoH")
            .0
    }

    /// How far the host is done with the arena.
    pub fn arena_done(&self) -> u64 {
        self.indices
            .word64(0)
            .expect("inside")
            .load(Ordering::Acquire)
    }
}

pub fn span(position: u64, bytes: u64) -> ArenaSpan {
    ArenaSpan { position, bytes }
}

pub fn fill_params(to: DevPtr, value: u32, count: u32) -> Vec<u8> {
    [
        &to.0.to_le_bytes()[..],
        &value.to_le_bytes(),
        &count.to_le_bytes(),
    ]
    .concat()
}

/// Waits for what another thread does. The limit only ends a test that would hang.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("it did not happen: {what}");
}

/// Bytes of a list of wire structs.
pub fn list<T: Value>(values: &[T]) -> Vec<u8> {
    let mut w = Writer::new();
    (values.len() as u64).put(&mut w);
    values.iter().for_each(|v| v.put(&mut w));
    w.parts().concat()
}

/// A node whose call `encode` writes.
pub fn node(encode: impl FnOnce(&mut Writer<'_>) -> Opcode, after: &[u32]) -> GraphNode {
    let mut w = Writer::new();
    let opcode = encode(&mut w) as u32;
    GraphNode {
        opcode,
        request: Blob(w.parts().concat()),
        after: after.to_vec(),
    }
}
