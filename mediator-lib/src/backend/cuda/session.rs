//! The tables of a session, and what the call bodies share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;

use cudarc::driver::sys::CUdevice_attribute_enum as Attr;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    BlasId, CtxId, DevPtr, EventId, FunctionId, GraphId, LinkId, ModuleId, StreamId,
};
use vgpu_protocol::limits::{
    MAX_BLAS_HANDLES, MAX_CONTEXTS, MAX_EVENTS, MAX_FUNCTIONS, MAX_GRAPHS, MAX_LINKS, MAX_MODULES,
    MAX_STREAMS,
};

use super::CudaBackend;
use super::blas::BlasEntry;
use super::ctx::ContextEntry;
use super::event::EventEntry;
use super::graph::GraphEntry;
use super::host_call::HostCalls;
use super::launch::FunctionEntry;
use super::link::LinkEntry;
use super::mapped::Mapped;
use super::mem::{DeviceRange, PinnedEntry, pinned_range};
use super::module::{ModuleEntry, UNCOUNTED_BYTES};
use super::staging::{Leftovers, Staging};
use super::stream::{PacedStream, StreamEntry, wait_until};
use super::sys::blas::lt::Handle as LtHandle;
use super::sys::object::{Context, DISABLE_TIMING, Event, Stream};
use super::sys::order::Capture;
use crate::backend::start::Start;
use crate::backend::{BackendSession, Pause, SUSPENDED, SessionContext, Wait};
use crate::handles::Table;

/// A session on the host's GPU.
#[derive(Debug)]
pub struct CudaSession {
    pub(super) backend: Arc<CudaBackend>,
    pub(super) context: SessionContext,
    /// The primary context in it is a context like the others: the driver's own would be shared by
    /// all sessions.
    pub(super) start: Start,
    pub(super) objects: Objects,
    /// What is left of [`UNCOUNTED_BYTES`].
    pub(super) uncounted_left: u64,
    pub(super) staging: Staging,
    pub(super) pause: Pause,
    pub(super) host_calls: HostCalls,
    /// The graph that the bodies' work goes to, in place of a stream.
    pub(super) recording: Option<Capture>,
}

/// All that a session owns on the GPU.
#[derive(Debug)]
pub(super) struct Objects {
    pub links: Table<LinkId, LinkEntry>,
    pub functions: Table<FunctionId, FunctionEntry>,
    pub modules: Table<ModuleId, ModuleEntry>,
    pub streams: Table<StreamId, StreamEntry>,
    pub events: Table<EventId, EventEntry>,
    pub graphs: Table<GraphId, GraphEntry>,
    pub blas: Table<BlasId, BlasEntry>,
    /// One for each context that asked for it.
    pub lt: BTreeMap<CtxId, LtHandle>,
    pub contexts: Table<CtxId, ContextEntry>,
    /// Memory that belongs to no context.
    pub mapped: Mapped,
    /// Pieces of BAR1's heap by address. Dropped last: work of the contexts may use them.
    pub pinned: BTreeMap<u64, PinnedEntry>,
}

impl Objects {
    fn streams_of(&self, ctx: CtxId) -> impl Iterator<Item = &Stream> {
        self.streams
            .iter()
            .filter(move |(_, s)| s.ctx == ctx)
            .map(|(_, s)| &s.paced.stream)
    }

    fn is_idle(&self) -> bool {
        self.contexts
            .iter()
            .all(|(id, entry)| entry.is_idle(self.streams_of(id)))
    }

    /// Destroys all contexts, and with them everything. Waits for work in flight. The context that
    /// pins the arena goes last: copies of the others may still be reading it.
    fn destroy(mut self, pinned_by: Option<CtxId>) {
        self.blas.take_if(|_| true);
        self.lt.clear();
        let (last, first): (Vec<_>, Vec<_>) = self
            .contexts
            .iter()
            .partition(|(id, _)| Some(*id) == pinned_by);
        for (_, entry) in first.into_iter().chain(last) {
            if let Err(status) = entry.ctx.destroy() {
                // The context of a failed kernel says so once more.
                tracing::debug!(%status, "cuCtxDestroy");
            }
        }
        // Of what is dropped now, only memory that belongs to no context reaches the driver.
    }
}

impl CudaSession {
    pub fn new(backend: Arc<CudaBackend>, context: SessionContext) -> CudaSession {
        let staging = Staging::new(context.arena, Arc::clone(&context.cancel));
        CudaSession {
            backend,
            context,
            start: Start::default(),
            objects: Objects {
                links: Table::new(MAX_LINKS),
                functions: Table::new(MAX_FUNCTIONS),
                modules: Table::new(MAX_MODULES),
                streams: Table::new(MAX_STREAMS),
                events: Table::new(MAX_EVENTS),
                graphs: Table::new(MAX_GRAPHS),
                blas: Table::new(MAX_BLAS_HANDLES),
                lt: BTreeMap::new(),
                contexts: Table::new(MAX_CONTEXTS),
                mapped: Mapped::new(),
                pinned: BTreeMap::new(),
            },
            uncounted_left: UNCOUNTED_BYTES,
            staging,
            pause: Pause::default(),
            host_calls: HostCalls::default(),
            recording: None,
        }
    }

    pub(super) fn new_context(&mut self, flags: u32) -> Result<CtxId, Status> {
        if self.objects.contexts.len() >= MAX_CONTEXTS {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        self.objects.contexts.add(ContextEntry::create(
            &self.backend.driver,
            self.backend.device,
            flags,
        )?)
    }

    /// The context that is current in the calling guest thread, unless an error has ended it.
    pub(super) fn current(&self, ctx: CtxId) -> Result<&ContextEntry, Status> {
        self.start.require_init()?;
        let entry = self.objects.contexts.get(ctx)?;
        entry.error.map_or(Ok(entry), Err)
    }

    pub(super) fn current_mut(&mut self, ctx: CtxId) -> Result<&mut ContextEntry, Status> {
        self.current(ctx)?;
        self.objects.contexts.get_mut(ctx)
    }

    /// The context of a stream; for the default stream the current one.
    pub(super) fn owner(&self, ctx: CtxId, stream: StreamId) -> Result<CtxId, Status> {
        let owner = if stream.0 == 0 {
            ctx
        } else {
            self.objects.streams.get(stream)?.ctx
        };
        self.current(owner)?;
        Ok(owner)
    }

    /// A stream; `owner` is what [`owner`](CudaSession::owner) said.
    pub(super) fn stream(&self, owner: CtxId, stream: StreamId) -> Result<&Stream, Status> {
        if let Some(capture) = &self.recording {
            Ok(capture.stream())
        } else if stream.0 == 0 {
            Ok(&self.objects.contexts.get(owner)?.default.stream)
        } else {
            Ok(&self.objects.streams.get(stream)?.paced.stream)
        }
    }

    fn paced(&mut self, owner: CtxId, stream: StreamId) -> Result<&mut PacedStream, Status> {
        if stream.0 == 0 {
            Ok(&mut self.objects.contexts.get_mut(owner)?.default)
        } else {
            Ok(&mut self.objects.streams.get_mut(stream)?.paced)
        }
    }

    /// Makes room in a stream's queue.
    pub(super) fn pace(&mut self, owner: CtxId, stream: StreamId) -> Result<(), Status> {
        if self.recording.is_some() {
            return Ok(());
        }
        let due = self.paced(owner, stream)?.due();
        if let Some(mark) = due {
            self.wait_until_reached(owner, vec![mark])?;
        }
        let paced = self.paced(owner, stream)?.pace();
        self.note(owner, paced)
    }

    /// Waits until events are reached. Where the worker suspends calls the body has to return the
    /// error; it runs again, from its beginning, once they are, and this wait is then over. So
    /// nothing may have changed before a body's wait.
    pub(super) fn wait_until_reached(
        &mut self,
        ctx: CtxId,
        marks: Vec<Arc<Event>>,
    ) -> Result<(), Status> {
        if let Some(over) = self.pause.take_over() {
            return self.note(ctx, over);
        }
        let reached = move || {
            for mark in &marks {
                if !mark.is_reached()? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        if !self.pause.may_suspend() {
            let waited = wait_until(&self.context.cancel, reached);
            return self.note(ctx, waited);
        }
        let already = reached();
        if self.note(ctx, already)? {
            return Ok(());
        }
        let wait = move || match reached() {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(status) => Some(Err(status)),
        };
        Err(self.pause.suspend(Box::new(wait)))
    }

    /// An event behind what a stream has been given.
    fn mark(ctx: &Arc<Context>, stream: &Stream) -> Result<Arc<Event>, Status> {
        let mark = Event::create(ctx, DISABLE_TIMING)?;
        mark.record(stream, 0)?;
        Ok(Arc::new(mark))
    }

    /// Submits work to a stream.
    pub(super) fn submit(
        &mut self,
        owner: CtxId,
        stream: StreamId,
        work: impl FnOnce(&Stream) -> Result<(), Status>,
    ) -> Result<(), Status> {
        self.pace(owner, stream)?;
        let submitted = work(self.stream(owner, stream)?);
        self.note(owner, submitted)
    }

    /// Keeps an error that ends a context.
    pub(super) fn note<T>(&mut self, ctx: CtxId, result: Result<T, Status>) -> Result<T, Status> {
        if let Err(status) = &result
            && status.is_sticky()
            && let Ok(entry) = self.objects.contexts.get_mut(ctx)
            && entry.error.is_none()
        {
            tracing::info!(vm_id = self.context.vm_id, channel = self.context.channel, %status, "a context has failed");
            entry.error = Some(*status);
        }
        result
    }

    /// Checks a range that is read: of the context's memory, or of the session's. `None` for one
    /// of no bytes, which every call accepts.
    pub(super) fn source(
        &self,
        owner: CtxId,
        ptr: DevPtr,
        bytes: u64,
    ) -> Result<Option<DeviceRange>, Status> {
        self.access(owner, ptr, bytes, false)
    }

    /// The same for one that is written.
    pub(super) fn range(
        &self,
        owner: CtxId,
        ptr: DevPtr,
        bytes: u64,
    ) -> Result<Option<DeviceRange>, Status> {
        self.access(owner, ptr, bytes, true)
    }

    fn access(
        &self,
        owner: CtxId,
        ptr: DevPtr,
        bytes: u64,
        write: bool,
    ) -> Result<Option<DeviceRange>, Status> {
        let entry = self.current(owner)?;
        if bytes == 0 {
            return Ok(None);
        }
        let own = entry.allocations.range(ptr.0, bytes);
        own.or_else(|_| self.objects.mapped.range(ptr.0, bytes, write))
            .or_else(|_| pinned_range(&self.objects.pinned, ptr.0, bytes))
            .map(Some)
    }

    /// Waits until a context has done all its work; see
    /// [`wait_until_reached`](CudaSession::wait_until_reached).
    pub(super) fn wait_idle(&mut self, ctx: CtxId) -> Result<(), Status> {
        if let Some(over) = self.pause.take_over() {
            return self.note(ctx, over);
        }
        if !self.pause.may_suspend() {
            return self.block_until_idle(ctx);
        }
        let marks = self.marks(ctx);
        let marks = self.note(ctx, marks)?;
        self.wait_until_reached(ctx, marks)
    }

    /// Events behind all that a context has been given.
    fn marks(&self, ctx: CtxId) -> Result<Vec<Arc<Event>>, Status> {
        let entry = self.objects.contexts.get(ctx)?;
        self.objects
            .streams_of(ctx)
            .chain(&entry.dying)
            .filter(|stream| stream.is_idle() == Ok(false))
            .chain([&entry.default.stream])
            .map(|stream| Self::mark(&entry.ctx, stream))
            .collect()
    }

    fn is_idle(&self, ctx: CtxId) -> bool {
        let entry = self.objects.contexts.get(ctx);
        entry.is_ok_and(|entry| entry.is_idle(self.objects.streams_of(ctx)))
    }

    /// Waits until no context of the session that still works has work: mappings belong to all of
    /// them. While the body is suspended other threads of the guest may submit more: it is waited for
    /// as well, as the driver would, in a way that cannot be ended.
    pub(super) fn wait_all_idle(&mut self) -> Result<(), Status> {
        let all: Vec<CtxId> = self.objects.contexts.iter().map(|(id, _)| id).collect();
        if !self.pause.may_suspend() {
            for ctx in all {
                // A context that has failed has no work left; its own calls report its error.
                if let Err(end @ (Status::ERROR_DEINITIALIZED | Status::ERROR_OUT_OF_MEMORY)) =
                    self.block_until_idle(ctx)
                {
                    return Err(end);
                }
            }
            return Ok(());
        }
        if let Some(Err(end @ Status::ERROR_DEINITIALIZED)) = self.pause.take_over() {
            return Err(end);
        }
        if all.iter().all(|ctx| self.is_idle(*ctx)) {
            return Ok(());
        }
        let mut marks = Vec::new();
        for ctx in all {
            match self.marks(ctx) {
                Ok(of_context) => marks.extend(of_context),
                Err(Status::ERROR_OUT_OF_MEMORY) => return Err(Status::ERROR_OUT_OF_MEMORY),
                Err(_) => {}
            }
        }
        let wait = move || {
            let running = |mark: &Arc<Event>| mark.is_reached() == Ok(false);
            (!marks.iter().any(running)).then_some(Ok(()))
        };
        Err(self.pause.suspend(Box::new(wait)))
    }

    fn block_until_idle(&mut self, ctx: CtxId) -> Result<(), Status> {
        let entry = self.objects.contexts.get(ctx)?;
        let waited = entry.wait_idle(self.objects.streams_of(ctx), &self.context.cancel);
        self.note(ctx, waited)
    }

    /// Lets go of something whose release waits for work in flight in the driver.
    pub(super) fn discard<T>(&mut self, ctx: CtxId, object: T) {
        if self.block_until_idle(ctx) == Err(Status::ERROR_DEINITIALIZED) {
            // The session ends, and this goes with its context.
            std::mem::forget(object);
        }
    }

    /// Waits for the work of a stream.
    pub(super) fn wait_for_stream(&mut self, owner: CtxId, stream: StreamId) -> Result<(), Status> {
        if let Some(over) = self.pause.take_over() {
            return self.note(owner, over);
        }
        let entry = self.objects.contexts.get(owner)?;
        if !self.pause.may_suspend() {
            let waited = entry.wait_for_stream(self.stream(owner, stream)?, &self.context.cancel);
            return self.note(owner, waited);
        }
        let mark = Self::mark(&entry.ctx, self.stream(owner, stream)?);
        let mark = self.note(owner, mark)?;
        self.wait_until_reached(owner, vec![mark])
    }

    /// Waits for a context's work before something of it is destroyed: an error that has ended it
    /// does not keep it. What other threads of the guest submit meanwhile is waited for, too: the
    /// driver would do it in a way that cannot be ended.
    pub(super) fn settle(&mut self, ctx: CtxId) -> Result<(), Status> {
        loop {
            let resumed = self.pause.is_over();
            match self.wait_idle(ctx) {
                // Without memory for an event nothing was waited for.
                Err(
                    end @ (Status::ERROR_DEINITIALIZED | Status::ERROR_OUT_OF_MEMORY | SUSPENDED),
                ) => return Err(end),
                Ok(()) if resumed && !self.is_idle(ctx) => {}
                _ => return Ok(()),
            }
        }
    }

    /// Destroys a context with everything in it, after [`settle`](CudaSession::settle).
    pub(super) fn destroy_context(&mut self, ctx: CtxId) -> Result<(), Status> {
        self.objects.contexts.get(ctx)?;
        self.staging.forget_context(ctx)?;
        self.objects.blas.take_if(|b| b.ctx == ctx);
        self.objects.lt.remove(&ctx);
        let entry = self.objects.contexts.remove(ctx)?;
        let destroyed = entry.ctx.destroy();
        // What goes now does not reach the driver any more.
        self.objects.functions.take_if(|f| f.ctx == ctx);
        for module in self.objects.modules.take_if(|m| m.ctx == ctx) {
            self.give_back(&module);
        }
        self.objects.streams.take_if(|s| s.ctx == ctx);
        self.objects.events.take_if(|e| e.ctx == ctx);
        self.objects.graphs.take_if(|g| g.ctx == ctx);
        self.objects.links.take_if(|l| l.ctx == ctx);
        self.objects.pinned.retain(|_, p| p.ctx != ctx);
        match destroyed {
            // The error that had ended it was reported; the context is gone.
            Err(status) if status.is_sticky() => Ok(()),
            other => other,
        }
    }

    /// Threads that can be resident on the GPU.
    pub(super) fn resident_threads(&self) -> u64 {
        let value = |attribute: Attr| {
            let found = self
                .backend
                .info
                .attributes
                .iter()
                .find(|(number, _)| *number == attribute as i32);
            found
                .and_then(|(_, value)| u64::try_from(*value).ok())
                .unwrap_or(u64::from(u32::MAX))
        };
        value(Attr::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).saturating_mul(value(
            Attr::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR,
        ))
    }
}

impl BackendSession for CudaSession {
    fn take_error(&mut self, ctx: CtxId) -> Option<Status> {
        self.objects.contexts.get(ctx).ok()?.error
    }

    fn begin(&mut self, may_suspend: bool, over: Option<Result<(), Status>>) {
        self.pause.begin(may_suspend, over);
    }

    fn take_wait(&mut self) -> Option<Wait> {
        self.pause.take_wait()
    }

    fn has_output(&self) -> bool {
        self.context.captured.as_ref().is_some_and(|c| c.any())
    }

    fn must_look(&self) -> bool {
        // The driver announces nothing.
        true
    }
}

impl Drop for CudaSession {
    fn drop(&mut self) {
        let leftovers = self.staging.end();
        let objects = std::mem::replace(
            &mut self.objects,
            Objects {
                links: Table::new(0),
                functions: Table::new(0),
                modules: Table::new(0),
                streams: Table::new(0),
                events: Table::new(0),
                graphs: Table::new(0),
                blas: Table::new(0),
                lt: BTreeMap::new(),
                contexts: Table::new(0),
                mapped: Mapped::new(),
                pinned: BTreeMap::new(),
            },
        );
        if objects.is_idle() {
            destroy(objects, leftovers, true);
            return;
        }
        // The channel must not wait for a kernel that may never end. Its memory stays counted
        // against the VM's share until it is free.
        let unended = Arc::clone(&self.backend.unended_sessions);
        unended.fetch_add(1, Ordering::AcqRel);
        let work = move || {
            destroy(objects, leftovers, false);
            unended.fetch_sub(1, Ordering::AcqRel);
        };
        if let Err(error) = Builder::new().name("vgpu-cuda-end".to_owned()).spawn(work) {
            // The closure is gone, and what it owned with it: the contexts were destroyed here.
            tracing::error!(%error, "cannot start the thread that ends a session");
            self.backend.unended_sessions.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Destroys all that a session owned. Memory that the GPU may still be reading is kept until the
/// contexts are gone, which undoes the pin; with no work left it is unpinned in the regular way.
fn destroy(mut objects: Objects, mut leftovers: Leftovers, idle: bool) {
    if idle {
        leftovers.unpin();
        objects.pinned.clear();
    }
    objects.destroy(leftovers.pinned_by());
    drop(leftovers);
}
