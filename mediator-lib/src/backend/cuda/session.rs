//! The tables of a session, and what the call bodies share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;

use cudarc::driver::sys::CUdevice_attribute_enum as Attr;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, EventId, FunctionId, ModuleId, StreamId};
use vgpu_protocol::limits::{MAX_CONTEXTS, MAX_EVENTS, MAX_FUNCTIONS, MAX_MODULES, MAX_STREAMS};

use super::CudaBackend;
use super::ctx::ContextEntry;
use super::event::EventEntry;
use super::launch::FunctionEntry;
use super::mem::DeviceRange;
use super::module::{ModuleEntry, UNCOUNTED_BYTES};
use super::staging::{Leftovers, Staging};
use super::stream::{PacedStream, StreamEntry};
use super::sys::object::Stream;
use crate::backend::start::Start;
use crate::backend::{BackendSession, SessionContext};
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
}

/// All that a session owns on the GPU.
#[derive(Debug)]
pub(super) struct Objects {
    pub functions: Table<FunctionId, FunctionEntry>,
    pub modules: Table<ModuleId, ModuleEntry>,
    pub streams: Table<StreamId, StreamEntry>,
    pub events: Table<EventId, EventEntry>,
    pub contexts: Table<CtxId, ContextEntry>,
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
    fn destroy(self, pinned_by: Option<CtxId>) {
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
        // Nothing that is dropped now reaches the driver.
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
                functions: Table::new(MAX_FUNCTIONS),
                modules: Table::new(MAX_MODULES),
                streams: Table::new(MAX_STREAMS),
                events: Table::new(MAX_EVENTS),
                contexts: Table::new(MAX_CONTEXTS),
            },
            uncounted_left: UNCOUNTED_BYTES,
            staging,
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
        if stream.0 == 0 {
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
        let cancel = Arc::clone(&self.context.cancel);
        let paced = self.paced(owner, stream)?.pace(&cancel);
        self.note(owner, paced)
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

    /// Checks a range of device memory; `None` for one of no bytes, which every call accepts.
    pub(super) fn range(
        &self,
        owner: CtxId,
        ptr: DevPtr,
        bytes: u64,
    ) -> Result<Option<DeviceRange>, Status> {
        let entry = self.current(owner)?;
        if bytes == 0 {
            Ok(None)
        } else {
            entry.allocations.range(ptr.0, bytes).map(Some)
        }
    }

    /// Waits until a context has done all its work.
    pub(super) fn wait_idle(&mut self, ctx: CtxId) -> Result<(), Status> {
        let entry = self.objects.contexts.get(ctx)?;
        let waited = entry.wait_idle(self.objects.streams_of(ctx), &self.context.cancel);
        self.note(ctx, waited)
    }

    /// Lets go of something whose release waits for work in flight in the driver.
    pub(super) fn discard<T>(&mut self, ctx: CtxId, object: T) {
        if self.wait_idle(ctx) == Err(Status::ERROR_DEINITIALIZED) {
            // The session ends, and this goes with its context.
            std::mem::forget(object);
        }
    }

    /// Waits for the work of a stream.
    pub(super) fn wait_for_stream(&mut self, owner: CtxId, stream: StreamId) -> Result<(), Status> {
        let entry = self.objects.contexts.get(owner)?;
        let waited = entry.wait_for_stream(self.stream(owner, stream)?, &self.context.cancel);
        self.note(owner, waited)
    }

    /// Destroys a context with everything in it, once its work is done.
    pub(super) fn destroy_context(&mut self, ctx: CtxId) -> Result<(), Status> {
        self.objects.contexts.get(ctx)?;
        if self.wait_idle(ctx) == Err(Status::ERROR_DEINITIALIZED) {
            // The session ends, and the context with it.
            return Err(Status::ERROR_DEINITIALIZED);
        }
        self.staging.forget_context(ctx)?;
        let entry = self.objects.contexts.remove(ctx)?;
        let destroyed = entry.ctx.destroy();
        // What goes now does not reach the driver any more.
        self.objects.functions.take_if(|f| f.ctx == ctx);
        for module in self.objects.modules.take_if(|m| m.ctx == ctx) {
            self.give_back(&module);
        }
        self.objects.streams.take_if(|s| s.ctx == ctx);
        self.objects.events.take_if(|e| e.ctx == ctx);
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
}

impl Drop for CudaSession {
    fn drop(&mut self) {
        let leftovers = self.staging.end();
        let objects = std::mem::replace(
            &mut self.objects,
            Objects {
                functions: Table::new(0),
                modules: Table::new(0),
                streams: Table::new(0),
                events: Table::new(0),
                contexts: Table::new(0),
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
fn destroy(objects: Objects, mut leftovers: Leftovers, idle: bool) {
    if idle {
        leftovers.unpin();
    }
    objects.destroy(leftovers.pinned_by());
    drop(leftovers);
}
