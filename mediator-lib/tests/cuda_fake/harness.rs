//! What the tests of the `cuda` backend share: a driver of their own, and a session on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use vgpu_mediator::arena::Arena;
use vgpu_mediator::backend::cuda::{CudaBackend, CudaUnavailable};
use vgpu_mediator::backend::{Backend, BackendSession, SessionContext};
use vgpu_mediator::budget::Budget;
use vgpu_mediator::cancel::Cancel;
use vgpu_mediator::counters::Counters;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    ArenaSpan, CtxId, DevPtr, FunctionId, FunctionInfo, ModuleId, StreamId,
};
use vgpu_protocol::window::Window;

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

/// The library as cargo has built it.
fn built_library() -> Vec<u8> {
    let exe = std::env::current_exe().expect("a test has a path");
    let built = exe
        .parent()
        .expect("in a folder")
        .join("libvgpu_fake_cuda.so");
    let library = fs::read(&built).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: cargo builds it as a dependency of these tests (tests/fake-cuda)",
            built.display()
        )
    });
    loaded_part(library)
}

/// Leaves out what is not loaded, debug information above all: each test writes a copy.
fn loaded_part(mut elf: Vec<u8>) -> Vec<u8> {
    let number = |at: usize, bytes: usize| {
        (0..bytes)
            .rev()
            .fold(0usize, |n, i| n << 8 | usize::from(elf[at + i]))
    };
    // ELF-64: e_phoff, e_phentsize, e_phnum; p_offset and p_filesz of each program header.
    let (table, bytes, count) = (number(32, 8), number(54, 2), number(56, 2));
    let ends = (0..count)
        .map(|i| table + i * bytes)
        .map(|header| number(header + 8, 8) + number(header + 32, 8));
    let end = ends.max().expect("a library has segments");
    elf.truncate(end);
    // e_shoff, and e_shnum with e_shstrndx.
    elf[40..48].fill(0);
    elf[60..64].fill(0);
    elf
}

/// Overwrites an exported name, so that the dynamic linker does not find it.
fn take_out(library: &mut [u8], name: &str) {
    let wanted = [&[0], name.as_bytes(), &[0]].concat();
    let found: Vec<usize> = library
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, w)| *w == wanted)
        .map(|(i, _)| i)
        .collect();
    assert!(!found.is_empty(), "{name} is not in the library");
    found.iter().for_each(|at| library[at + 1] = b'X');
}

/// A copy of the fake library: a driver that no other test uses.
pub struct FakeDriver {
    dir: PathBuf,
    pub library: PathBuf,
}

impl FakeDriver {
    pub fn new(conf: &str) -> FakeDriver {
        FakeDriver::without(&[], conf)
    }

    /// A driver without these functions: their names are overwritten in the file.
    pub fn without(names: &[&str], conf: &str) -> FakeDriver {
        static DRIVER: OnceLock<Vec<u8>> = OnceLock::new();
        let mut bytes: &[u8] = DRIVER.get_or_init(|| {
            let mut bytes = built_library();
            take_out(&mut bytes, "vgpu_stub_shim");
            bytes
        });
        let mut changed;
        if !names.is_empty() {
            changed = bytes.to_vec();
            names.iter().for_each(|name| take_out(&mut changed, name));
            bytes = &changed;
        }
        FakeDriver::from_bytes(bytes, conf)
    }

    /// The library with the mark of this project's own library for guests.
    pub fn with_shim_mark() -> FakeDriver {
        FakeDriver::from_bytes(&built_library(), "")
    }

    fn from_bytes(bytes: &[u8], conf: &str) -> FakeDriver {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("vgpu-fake-cuda-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        let library = dir.join("libcuda.so.1");
        fs::write(&library, bytes).expect("a copy of the library");
        let driver = FakeDriver { dir, library };
        driver.configure(conf);
        driver
    }

    pub fn configure(&self, conf: &str) {
        fs::write(self.dir.join("libcuda.so.conf"), conf).expect("the configuration");
    }

    pub fn try_open(&self, gpu: Option<&str>) -> Result<Arc<CudaBackend>, CudaUnavailable> {
        CudaBackend::open_library(path(&self.library), gpu)
    }

    pub fn open(&self) -> Arc<CudaBackend> {
        self.try_open(None).expect("the fake driver opens")
    }

    /// The calls so far, without queries.
    pub fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.join("libcuda.so.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    pub fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|line| *line == call).count()
    }

    /// As [`count`](FakeDriver::count), with the calls that failed.
    pub fn count_with_failures(&self, call: &str) -> usize {
        self.calls()
            .iter()
            .filter(|line| line.split(' ').next() == Some(call))
            .count()
    }

    /// What is left after the last call that destroyed something.
    pub fn live(&self) -> String {
        self.calls()
            .iter()
            .rfind(|line| line.starts_with("live"))
            .cloned()
            .unwrap_or_default()
    }

    pub fn assert_all_freed(&self) {
        assert_eq!(
            self.live(),
            "live contexts=0 streams=0 events=0 modules=0 memory=0 pins=0"
        );
    }
}

impl Drop for FakeDriver {
    fn drop(&mut self) {
        // The library stays mapped; a folder that cannot be removed is in the way of nothing.
        let _ = fs::remove_dir_all(&self.dir);
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
    indices: Window,
}

pub const ARENA_BYTES: u64 = MIB;

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
        let cancel = Arc::new(Cancel::default());
        let context = SessionContext {
            vm_id: 111,
            channel: 0,
            arena: Arena::new(arena, indices, 0).expect("inside"),
            cancel: Arc::clone(&cancel),
            budget: Arc::clone(&budget),
            counters: Arc::new(Counters::default()),
        };
        let session = Arc::clone(backend).open(context)?;
        Ok(Channel {
            session,
            cancel,
            budget,
            arena,
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
