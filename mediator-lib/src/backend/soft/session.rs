//! The tables of a session and what the call bodies share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, EventId, FunctionId, ModuleId, StreamId};
use vgpu_protocol::limits::{MAX_CONTEXTS, MAX_EVENTS, MAX_FUNCTIONS, MAX_MODULES, MAX_STREAMS};
use vgpu_soft_gpu::{AddressSpace, Function, Module};

use super::SoftBackend;
use super::ctx::{Context, ContextEntry};
use super::engine::Engine;
use super::op::{Op, Work};
use crate::backend::start::Start;
use crate::backend::{BackendSession, SessionContext};
use crate::budget::Share;
use crate::handles::Table;

/// A session on the software GPU.
pub struct SoftSession {
    pub(super) backend: Arc<SoftBackend>,
    pub(super) context: SessionContext,
    pub(super) start: Start,
    pub(super) contexts: Table<CtxId, ContextEntry>,
    pub(super) modules: Table<ModuleId, ModuleEntry>,
    pub(super) functions: Table<FunctionId, FunctionEntry>,
    pub(super) streams: Table<StreamId, StreamEntry>,
    pub(super) events: Table<EventId, EventEntry>,
    /// Number of the last queued operation that frees memory.
    pub(super) last_free: u64,
    // Dropped last: what the tables own has no work in flight when its thread has ended.
    pub(super) engine: Engine,
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
}

pub(super) struct StreamEntry {
    pub ctx: CtxId,
    /// Number of its last operation.
    pub last: u64,
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
        let engine =
            Engine::new(Arc::clone(&backend.gpu), &context.cancel, name).map_err(|error| {
                tracing::error!(%error, "cannot start a session's thread");
                Status::ERROR_OPERATING_SYSTEM
            })?;
        Ok(SoftSession {
            backend,
            context,
            start: Start::default(),
            contexts: Table::new(MAX_CONTEXTS),
            modules: Table::new(MAX_MODULES),
            functions: Table::new(MAX_FUNCTIONS),
            streams: Table::new(MAX_STREAMS),
            events: Table::new(MAX_EVENTS),
            last_free: 0,
            engine,
        })
    }

    pub(super) fn new_context(&mut self) -> Result<CtxId, Status> {
        // Unified addressing: an address names one context's memory.
        let taken: Vec<u16> = self
            .contexts
            .iter()
            .map(|(_, c)| c.shared.space.slot())
            .collect();
        let slot = (0..=u16::MAX)
            .find(|slot| !taken.contains(slot))
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let limit = self.context.budget.limit();
        let reservation = super::reserve(&self.backend.reservations, limit)?;
        let space = AddressSpace::in_slot(limit, slot).map_err(|error| {
            tracing::error!(%error, "cannot reserve address space for a context");
            Status::ERROR_OUT_OF_MEMORY
        })?;
        self.contexts.add(ContextEntry {
            shared: Context::new(space),
            allocations: BTreeMap::new(),
            _reservation: reservation,
            default_stream_last: 0,
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

    /// Waits until everything submitted has been done.
    pub(super) fn drain(&self) -> Result<(), Status> {
        self.engine.wait(self.engine.submitted())
    }

    /// Waits for the work with this number and reports what went wrong in the context by then.
    pub(super) fn wait_and_report(&self, ctx: CtxId, number: u64) -> Result<(), Status> {
        self.engine.wait(number)?;
        self.contexts.get(ctx)?.shared.take_error()
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
        let op = Op {
            ctx: Arc::clone(&self.contexts.get(owner)?.shared),
            work,
        };
        let number = if short {
            self.engine.submit_short(op)
        } else {
            self.engine.submit(op)
        };
        if stream.0 == 0 {
            self.contexts.get_mut(owner)?.default_stream_last = number;
        } else {
            self.streams.get_mut(stream)?.last = number;
        }
        Ok(number)
    }

    /// Number of the last work that a stream must have done to be idle.
    pub(super) fn stream_last(&self, ctx: CtxId, stream: StreamId) -> Result<(CtxId, u64), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        let last = if stream.0 == 0 {
            self.contexts.get(owner)?.default_stream_last
        } else {
            self.streams.get(stream)?.last
        };
        Ok((owner, last))
    }

    /// Checks that a range of device memory lies in one live allocation.
    pub(super) fn require_range(&self, ctx: CtxId, ptr: DevPtr, bytes: u64) -> Result<(), Status> {
        let entry = self.current(ctx)?;
        if bytes == 0 {
            return Ok(());
        }
        entry
            .shared
            .space
            .host_range(ptr.0, bytes)
            .map(|_| ())
            .map_err(|_| Status::ERROR_INVALID_VALUE)
    }

    /// Lets go of a context and of everything in it, once its work is done.
    pub(super) fn destroy_context(&mut self, ctx: CtxId) -> Result<(), Status> {
        self.contexts.get(ctx)?;
        self.drain()?;
        self.functions.take_if(|f| f.ctx == ctx);
        self.modules.take_if(|m| m.ctx == ctx);
        self.streams.take_if(|s| s.ctx == ctx);
        self.events.take_if(|e| e.ctx == ctx);
        self.contexts.remove(ctx)?;
        Ok(())
    }
}

impl BackendSession for SoftSession {
    fn take_error(&mut self, ctx: CtxId) -> Option<Status> {
        self.contexts.get(ctx).ok()?.shared.take_error().err()
    }
}
