//! The tables of a session and what the call bodies share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    BlasId, CtxId, DevPtr, EventId, FunctionId, GraphId, LinkId, ModuleId, StreamId,
};
use vgpu_protocol::limits::{
    MAX_BLAS_HANDLES, MAX_CONTEXTS, MAX_EVENTS, MAX_FUNCTIONS, MAX_GRAPHS, MAX_LINKS, MAX_MODULES,
    MAX_STREAMS,
};
use vgpu_soft_gpu::{AddressSpace, Function, Kept, Module, Prepared};

use super::SoftBackend;
use super::blas::BlasEntry;
use super::ctx::{Context, ContextEntry};
use super::engine::Engine;
use super::graph::{GraphEntry, Step};
use super::link::LinkEntry;
use super::mapped::Mapped;
use super::op::{Op, Work};
use super::order::{Order, Place};
use super::output::Output;
use crate::arena::Spans;
use crate::backend::start::Start;
use crate::backend::{BackendSession, Pause, SessionContext, Wait};
use crate::budget::Share;
use crate::counters::KernelCount;
use crate::handles::Table;
use crate::heap::Block;

/// A session on the software GPU.
pub struct SoftSession {
    pub(super) backend: Arc<SoftBackend>,
    pub(super) context: SessionContext,
    pub(super) start: Start,
    pub(super) contexts: Table<CtxId, ContextEntry>,
    pub(super) modules: Table<ModuleId, ModuleEntry>,
    pub(super) functions: Table<FunctionId, FunctionEntry>,
    /// What launches of this thread leave to the next one, and the functions that hold memory for theirs.
    pub(super) kept: Kept,
    pub(super) holders: VecDeque<FunctionId>,
    pub(super) streams: Table<StreamId, StreamEntry>,
    pub(super) events: Table<EventId, EventEntry>,
    pub(super) links: Table<LinkId, LinkEntry>,
    /// Text of kernels.
    pub(super) output: Arc<Output>,
    pub(super) graphs: Table<GraphId, GraphEntry>,
    /// What the call that is being recorded does, in place of doing it.
    pub(super) recording: Option<Vec<Step>>,
    /// Pieces of the staging arena in use.
    pub(super) spans: Arc<Spans>,
    pause: Pause,
    /// Used again for each operation.
    pub(super) before: Vec<u64>,
    pub(super) blas: Table<BlasId, BlasEntry>,
    /// Memory that belongs to no context.
    pub(super) mapped: Mapped,
    // Dropped last: what the tables own has no work in flight when its thread has ended.
    pub(super) engine: Engine,
    /// Pieces of BAR1's heap by address. Dropped after the engine, whose work may use them.
    pub(super) pinned: BTreeMap<u64, PinnedEntry>,
}

/// Host memory that kernels reach.
pub(super) struct PinnedEntry {
    pub ctx: CtxId,
    pub block: Block,
}

pub(super) struct ModuleEntry {
    pub ctx: CtxId,
    pub module: Arc<Module>,
    pub share: Option<Share>,
}

pub(super) struct FunctionEntry {
    pub ctx: CtxId,
    pub module: ModuleId,
    pub function: Arc<Function>,
    /// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
    pub max_dynamic_shared: u32,
    /// Counts what it executes.
    pub count: Arc<KernelCount>,
    /// For launches like the last one.
    pub prepared: Option<Prepared>,
}

#[derive(Debug)]
pub(super) struct StreamEntry {
    pub ctx: CtxId,
    /// Ordered with the default stream.
    pub blocking: bool,
    /// Smaller numbers go first.
    pub priority: i32,
    /// Number of its last operation.
    pub last: u64,
    /// It stands among its context's streams that may have work in flight.
    pub active: bool,
}

pub(super) struct EventEntry {
    pub ctx: CtxId,
    /// False with `CU_EVENT_DISABLE_TIMING`.
    pub timing: bool,
    pub record: Option<Record>,
}

#[derive(Clone)]
pub(super) struct Record {
    /// Number of the operation that notes the time.
    pub op: u64,
    pub time: Arc<OnceLock<Instant>>,
}

impl SoftSession {
    pub fn new(backend: Arc<SoftBackend>, context: SessionContext) -> Result<SoftSession, Status> {
        let name = format!("vgpu-soft-{}", context.channel);
        let engine = Engine::new(
            Arc::clone(&backend.gpu),
            &context.cancel,
            Arc::clone(&context.waker),
            Arc::clone(&context.callbacks),
            name,
        )
        .map_err(|error| {
            tracing::error!(%error, "cannot start a session's thread");
            Status::ERROR_OPERATING_SYSTEM
        })?;
        Ok(SoftSession {
            backend,
            spans: Arc::new(Spans::new(context.arena)),
            pause: Pause::default(),
            before: Vec::new(),
            context,
            start: Start::default(),
            contexts: Table::new(MAX_CONTEXTS),
            modules: Table::new(MAX_MODULES),
            functions: Table::new(MAX_FUNCTIONS),
            kept: Kept::default(),
            holders: VecDeque::new(),
            streams: Table::new(MAX_STREAMS),
            events: Table::new(MAX_EVENTS),
            links: Table::new(MAX_LINKS),
            output: Arc::default(),
            graphs: Table::new(MAX_GRAPHS),
            recording: None,
            blas: Table::new(MAX_BLAS_HANDLES),
            mapped: Mapped::default(),
            engine,
            pinned: BTreeMap::new(),
        })
    }

    pub(super) fn new_context(&mut self) -> Result<CtxId, Status> {
        let limit = self.context.budget.limit();
        let reservation = super::reserve(&self.backend.reservations, limit)?;
        let space =
            AddressSpace::beside(Arc::clone(&self.mapped.unified), limit).map_err(|error| {
                tracing::error!(%error, "cannot reserve address space for a context");
                Status::ERROR_OUT_OF_MEMORY
            })?;
        self.contexts.add(ContextEntry {
            shared: Context::new(space, Arc::clone(&self.output)),
            heap: None,
            allocations: BTreeMap::new(),
            _reservation: reservation,
            order: Order::default(),
        })
    }

    /// The context that is current in the calling thread, unless an error has ended it.
    pub(super) fn current(&self, ctx: CtxId) -> Result<&ContextEntry, Status> {
        self.start.require_init()?;
        let entry = self.contexts.get(ctx)?;
        entry.shared.sticky()?;
        Ok(entry)
    }

    pub(super) fn current_mut(&mut self, ctx: CtxId) -> Result<&mut ContextEntry, Status> {
        self.current(ctx)?;
        self.contexts.get_mut(ctx)
    }

    /// Waits for the work with this number. Where the worker suspends calls, the body has to
    /// return the error `SUSPENDED`; it runs again, from its beginning, once the work is done,
    /// and this wait is then over. So nothing may have changed before a body's wait.
    pub(super) fn wait(&self, number: u64) -> Result<(), Status> {
        if let Some(over) = self.pause.take_over() {
            return over;
        }
        if self.engine.is_done(number) {
            return Ok(());
        }
        if !self.pause.may_suspend() {
            return self.engine.wait(number);
        }
        Err(self.pause.suspend(self.engine.waiting_for(number)))
    }

    /// Waits for the work with this number and reports what went wrong in the context by then.
    pub(super) fn wait_and_report(&self, ctx: CtxId, number: u64) -> Result<(), Status> {
        self.wait(number)?;
        self.contexts.get(ctx)?.shared.take_error()
    }

    /// Waits until a context has done all its work.
    pub(super) fn settle(&mut self, ctx: CtxId) -> Result<(), Status> {
        if let Some(over) = self.pause.take_over() {
            return over;
        }
        let last = self.place(ctx, Place::Context, Work::Nothing, true, &[])?;
        self.wait(last)
    }

    /// Waits until every context has done all its work: for what belongs to all of them.
    pub(super) fn settle_all(&mut self) -> Result<(), Status> {
        if let Some(over) = self.pause.take_over() {
            return over;
        }
        let all: Vec<CtxId> = self.contexts.iter().map(|(id, _)| id).collect();
        let mut last = Vec::new();
        for ctx in &all {
            last.push(self.place(*ctx, Place::Context, Work::Nothing, true, &[])?);
        }
        match all.first() {
            Some(first) => {
                let end = self.place(*first, Place::Context, Work::Nothing, true, &last)?;
                self.wait(end)
            }
            None => Ok(()),
        }
    }

    /// The context of a stream; for the default stream the current one. Its number 0 makes work on
    /// it belong to the whole context.
    pub(super) fn stream_ctx(&self, ctx: CtxId, stream: StreamId) -> Result<CtxId, Status> {
        if stream.0 == 0 {
            self.current(ctx)?;
            return Ok(ctx);
        }
        let owner = self.streams.get(stream)?.ctx;
        self.current(owner)?;
        Ok(owner)
    }

    /// Queues work on a stream. `short` work may be done by the calling thread.
    pub(super) fn submit(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        work: Work,
        short: bool,
    ) -> Result<u64, Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        self.place(owner, Place::Stream(stream), work, short, &[])
    }

    /// Queues work of a context that also follows the operations `after`.
    pub(super) fn place(
        &mut self,
        owner: CtxId,
        place: Place,
        work: Work,
        short: bool,
        after: &[u64],
    ) -> Result<u64, Status> {
        if let Some(steps) = &mut self.recording {
            steps.push(Step::Work(work));
            return Ok(0);
        }
        let entry = self.contexts.get_mut(owner)?;
        let op = Op {
            ctx: Arc::clone(&entry.shared),
            work,
        };
        let mut before = std::mem::take(&mut self.before);
        before.clear();
        before.extend_from_slice(after);
        entry
            .order
            .before(place, &mut self.streams, &self.engine, &mut before)?;
        let priority = match place {
            Place::Stream(StreamId(0)) | Place::Context => 0,
            Place::Stream(id) => self.streams.get(id)?.priority,
        };
        let number = self.engine.submit(op, &before, priority, short);
        self.before = before;
        entry.order.added(place, &mut self.streams, number)?;
        Ok(number)
    }

    /// Queues what frees something: it follows all earlier work of the context.
    pub(super) fn submit_free(&mut self, owner: CtxId, work: Work) -> Result<u64, Status> {
        self.place(owner, Place::Context, work, true, &[])
    }

    /// Context of a stream, and number of the operation that is done when the stream's work so far
    /// is.
    pub(super) fn stream_last(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
    ) -> Result<(CtxId, u64), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        let last = if stream.0 == 0 {
            // It is ordered with others.
            self.submit(ctx, stream, Work::Nothing, true)?
        } else {
            self.streams.get(stream)?.last
        };
        Ok((owner, last))
    }

    /// Waits for the work of a stream so far and reports what went wrong in its context by then;
    /// gives the context.
    pub(super) fn stream_wait(&mut self, ctx: CtxId, stream: StreamId) -> Result<CtxId, Status> {
        self.wait_in(ctx, stream, |session| {
            Ok(session.stream_last(ctx, stream)?.1)
        })
    }

    /// The same for a call that is itself work of the stream: it also follows what the stream's next
    /// operation would follow, such as earlier work of the default stream.
    pub(super) fn stream_arrive(&mut self, ctx: CtxId, stream: StreamId) -> Result<CtxId, Status> {
        self.wait_in(ctx, stream, |session| {
            session.submit(ctx, stream, Work::Nothing, true)
        })
    }

    fn wait_in(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        last: impl FnOnce(&mut SoftSession) -> Result<u64, Status>,
    ) -> Result<CtxId, Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        match self.pause.take_over() {
            Some(over) => over?,
            None => {
                let last = last(self)?;
                self.wait(last)?;
            }
        }
        self.contexts.get(owner)?.shared.take_error()?;
        Ok(owner)
    }

    /// Checks that a range can be read: it lies in one live allocation, or in memory of the session.
    pub(super) fn require_source(&self, ctx: CtxId, ptr: DevPtr, bytes: u64) -> Result<(), Status> {
        self.require_access(ctx, ptr, bytes, false)
    }

    /// Checks that a range can be read and written.
    pub(super) fn require_range(&self, ctx: CtxId, ptr: DevPtr, bytes: u64) -> Result<(), Status> {
        self.require_access(ctx, ptr, bytes, true)
    }

    fn require_access(
        &self,
        ctx: CtxId,
        ptr: DevPtr,
        bytes: u64,
        write: bool,
    ) -> Result<(), Status> {
        let entry = self.current(ctx)?;
        if bytes == 0 {
            return Ok(());
        }
        entry
            .shared
            .space
            .reach(ptr.0, bytes, write)
            .map(|_| ())
            .map_err(|_| Status::ERROR_INVALID_VALUE)
    }

    /// Lets go of a context and of everything in it. Its work is done: see
    /// [`settle`](SoftSession::settle).
    pub(super) fn destroy_context(&mut self, ctx: CtxId) -> Result<(), Status> {
        self.contexts.get(ctx)?;
        self.functions.take_if(|f| f.ctx == ctx);
        self.modules.take_if(|m| m.ctx == ctx);
        self.streams.take_if(|s| s.ctx == ctx);
        self.events.take_if(|e| e.ctx == ctx);
        self.graphs.take_if(|g| g.ctx == ctx);
        self.links.take_if(|l| l.ctx == ctx);
        self.blas.take_if(|b| b.ctx == ctx);
        for (address, _) in self.pinned.extract_if(.., |_, p| p.ctx == ctx) {
            self.mapped.unified.close_window(address);
        }
        self.contexts.remove(ctx)?;
        Ok(())
    }
}

impl BackendSession for SoftSession {
    fn take_error(&mut self, ctx: CtxId) -> Option<Status> {
        self.contexts.get(ctx).ok()?.shared.take_error().err()
    }

    fn has_output(&self) -> bool {
        self.output.any()
    }

    fn begin(&mut self, may_suspend: bool, over: Option<Result<(), Status>>) {
        self.pause.begin(may_suspend, over);
    }

    fn take_wait(&mut self) -> Option<Wait> {
        self.pause.take_wait()
    }

    fn is_full(&self) -> bool {
        self.engine.is_full()
    }
}
