//! Conformance tests: one body for both backends.
//!
//! A body gets a [`Bench`], which opens sessions on one backend, and drives them through the call
//! table's stubs. What it asserts is what NVIDIA documents; the real driver, where there is one,
//! is the judge of both.

use std::cell::Cell;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vgpu_mediator::arena::Arena;
use vgpu_mediator::callbacks::Turn;
use vgpu_mediator::cancel::Cancel;
use vgpu_mediator::counters::Counters;
use vgpu_mediator::{BackendChoice, Mediator, MediatorConfig, Reply, Session};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, FunctionInfo, Mode, ModuleId, Opcode, Remote, StreamId, stubs,
};
use vgpu_protocol::layout::{INDEX_BYTES, index};
use vgpu_protocol::message::{Flags, Message};
use vgpu_protocol::window::Window;
use vgpu_protocol::wire::{WireError, Writer};
use vgpu_stub::SharedMemory;
use vgpu_test_harness::runner::Skip;

/// The default stream.
pub const STREAM: StreamId = StreamId(0);

/// Bytes of a client's staging arena.
pub const ARENA_BYTES: u64 = 1 << 20;

/// Bytes of the heap of a VM's BAR1.
pub const HEAP_BYTES: u64 = 16 << 20;

/// Opens sessions on one backend.
#[derive(Clone, Copy, Debug)]
pub struct Bench(pub BackendChoice);

impl Bench {
    /// A mediator for a VM with this much device memory.
    pub fn mediator(&self, memory_bytes: u64) -> Arc<Mediator> {
        self.try_mediator(memory_bytes).expect("the backend opens")
    }

    fn try_mediator(&self, memory_bytes: u64) -> Result<Arc<Mediator>, String> {
        let bar1 = SharedMemory::new(HEAP_BYTES).map_err(|error| error.to_string())?;
        Mediator::new(MediatorConfig {
            vm_id: 111,
            backend: self.0,
            memory_bytes: Some(memory_bytes),
            heap: bar1.heap(0, None),
            ..MediatorConfig::default()
        })
        .map_err(|error| error.to_string())
    }

    /// Why the backend cannot be tested here.
    pub fn available(&self) -> Result<(), Skip> {
        match self.0 {
            BackendChoice::Soft => Ok(()),
            _ => self.try_mediator(64 << 20).map(|_| ()).map_err(Skip),
        }
    }

    /// A session that has called `cuInit`.
    pub fn client(&self) -> Client {
        let client = Client::open(&self.mediator(256 << 20));
        stubs::init(&client, CtxId(0), 0).expect("cuInit");
        client
    }

    /// A session and its primary context.
    pub fn ready(&self) -> (Client, CtxId) {
        let client = self.client();
        let ctx = stubs::primary_ctx_retain(&client, CtxId(0), 0).expect("context");
        (client, ctx)
    }
}

/// A session that is driven in this thread.
pub struct Client {
    session: RefCell<Session>,
    /// The staging arena.
    pub arena: Window,
    /// BAR1's heap, as the program sees it.
    pub heap: Window,
    /// Ends the session.
    pub cancel: Arc<Cancel>,
    waits: Cell<bool>,
    seq: Cell<u32>,
    /// Functions that streams have called.
    pub called: RefCell<Vec<Turn>>,
    /// Functions are left waiting.
    pub holds: Cell<bool>,
    // Last: session and windows are in it.
    _memory: SharedMemory,
}

impl Client {
    /// Opens a session.
    pub fn open(mediator: &Arc<Mediator>) -> Client {
        static CHANNEL: AtomicU32 = AtomicU32::new(0);
        let memory = SharedMemory::new(INDEX_BYTES + ARENA_BYTES).expect("memory");
        let window = memory.window();
        let indices = window.slice(0, INDEX_BYTES).expect("inside");
        let arena = window.slice(INDEX_BYTES, ARENA_BYTES).expect("inside");
        let cancel = Arc::new(Cancel::default());
        let view = Arena::new(arena, indices, index::ARENA_HEAD).expect("inside");
        let channel = CHANNEL.fetch_add(1, Ordering::Relaxed) % 64;
        let session = mediator
            .open(channel, view, Arc::clone(&cancel))
            .expect("a session");
        // As a worker does: calls that wait are suspended.
        session.waker().set_hook(|| ());
        Client {
            session: RefCell::new(session),
            arena,
            heap: mediator.heap().window().expect("BAR1 has a heap"),
            cancel,
            waits: Cell::new(false),
            seq: Cell::new(0),
            called: RefCell::default(),
            holds: Cell::new(false),
            _memory: memory,
        }
    }

    /// Calls a function whose turn has come.
    pub fn attend(&self) {
        if self.holds.get() {
            return;
        }
        let session = self.session.borrow();
        if let Some(turn) = session.callbacks().next() {
            let mut called = self.called.borrow_mut();
            called.push(turn);
            session.callbacks().done(called.len() as u64);
        }
    }

    /// Makes a call and waits for its own result, also of one that is posted.
    pub fn now<T>(&self, call: impl FnOnce(&Client) -> Result<T, Status>) -> Result<T, Status> {
        self.waits.set(true);
        let result = call(self);
        self.waits.set(false);
        result
    }

    /// What the session did.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(self.session.borrow().counters())
    }

    /// Device memory.
    pub fn alloc(&self, ctx: CtxId, bytes: u64) -> DevPtr {
        stubs::mem_alloc(self, ctx, bytes).expect("device memory")
    }

    /// Writes device memory, at most 8 KiB.
    pub fn write(&self, ctx: CtxId, ptr: DevPtr, data: &[u8]) {
        self.now(|c| stubs::memcpy_htod_inline(c, ctx, ptr, STREAM, data))
            .expect("copied");
    }

    /// Reads device memory, at most 8 KiB.
    pub fn read(&self, ctx: CtxId, ptr: DevPtr, bytes: u32) -> Vec<u8> {
        stubs::memcpy_dtoh_inline(self, ctx, ptr, STREAM, bytes)
            .expect("copied")
            .0
    }

    /// Loads PTX that is good.
    pub fn load(&self, ctx: CtxId, ptx: &str) -> ModuleId {
        let loaded = stubs::module_load(self, ctx, ptx.as_bytes(), Vec::new()).expect("an answer");
        assert_eq!(
            Status(loaded.status),
            Status::SUCCESS,
            "{}",
            loaded.error_log
        );
        loaded.module
    }

    /// Looks a kernel up that is there.
    pub fn function(&self, ctx: CtxId, module: ModuleId, name: &str) -> FunctionInfo {
        stubs::module_get_function(self, ctx, module, name).expect("the kernel")
    }

    /// Launches one block of `threads` threads and waits for the launch's own result.
    pub fn launch(
        &self,
        ctx: CtxId,
        f: &FunctionInfo,
        threads: u32,
        params: &[u8],
    ) -> Result<(), Status> {
        self.now(|c| {
            stubs::launch_kernel(
                c,
                ctx,
                f.function,
                [1; 3],
                [threads, 1, 1],
                0,
                STREAM,
                params,
            )
        })
    }
}

impl Remote for Client {
    fn call<T>(
        &self,
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        decode: &mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Status> {
        let posted = opcode.info().mode == Mode::posted && !self.waits.get();
        self.seq.set(self.seq.get().wrapping_add(1));
        let message = Message {
            opcode: opcode as u16,
            flags: if posted {
                Flags::POSTED
            } else {
                Flags::empty()
            },
            seq: self.seq.get(),
            word: ctx.0,
        };
        let mut reply = Writer::new();
        let payload = request.parts().concat();
        while self.session.borrow().is_full() {
            self.attend();
            if self.cancel.is_set() {
                return Err(Status::ERROR_DEINITIALIZED);
            }
            std::thread::yield_now();
        }
        let mut session = self.session.borrow_mut();
        let mut outcome = session.handle(&message, &payload, &mut reply);
        drop(session);
        while outcome == Reply::Later {
            self.attend();
            let resumed = self.session.borrow_mut().resume(&mut reply);
            match resumed {
                Some((of, resumed)) if of.seq == message.seq => outcome = resumed,
                Some(_) => {}
                None if self.cancel.is_set() => return Err(Status::ERROR_DEINITIALIZED),
                None => std::thread::yield_now(),
            }
        }
        match outcome {
            Reply::None => Ok(decode(&[]).expect("posted calls return nothing")),
            Reply::Send(status) => {
                status.ok()?;
                Ok(decode(&reply.parts().concat()).expect("the reply decodes"))
            }
            Reply::Broken | Reply::Later => panic!("{}: internal error", opcode.info().name),
        }
    }
}
