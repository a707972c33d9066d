//! What a GPU must be able to do for a session, and the two that can.

use std::cell::Cell;
use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{Calls, CtxId, HelloInfo};
use vgpu_protocol::wire::{Reader, Value};

use crate::arena::Arena;
use crate::budget::Budget;
use crate::callbacks::Callbacks;
use crate::cancel::Cancel;
use crate::captured::Captured;
use crate::counters::{Counters, Moved};
use crate::heap::Heap;
use crate::processes::Processes;
use crate::waker::Waker;

mod check;
pub mod cuda;
mod launch_attributes;
mod mem_op;
pub mod soft;
mod start;

/// What a session has in common with its channel; given to the backend when it is opened.
#[derive(Clone)]
pub struct SessionContext {
    /// The device's `vm_id`.
    pub vm_id: u32,
    /// The channel's number.
    pub channel: u32,
    /// The channel's staging arena.
    pub arena: Arena,
    /// Set when the session must end.
    pub cancel: Arc<Cancel>,
    /// The session's part of the VM's share of device memory.
    pub budget: Arc<Budget>,
    /// The VM's sessions.
    pub processes: Arc<Processes>,
    /// The channel's calls.
    pub counters: Arc<Counters>,
    /// Wakes the session's worker.
    pub waker: Arc<Waker>,
    /// Functions of the guest's program that streams call.
    pub callbacks: Arc<Callbacks>,
    /// BAR1's heap.
    pub heap: Arc<Heap>,
    /// What this process writes, where it serves this session only.
    pub captured: Option<Arc<dyn Captured>>,
}

impl std::fmt::Debug for SessionContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionContext")
            .field("vm_id", &self.vm_id)
            .field("channel", &self.channel)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl SessionContext {
    /// The VM's share of device memory, and what its sessions have taken of it, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        let total = self.budget.limit();
        (total, total - self.budget.free())
    }

    /// Counts what a copy moved.
    pub fn moved(&self, way: Moved, bytes: u64) {
        self.counters.moved(way, bytes);
    }

    /// The same for one whose bytes went through a record or the staging arena.
    pub fn staged(&self, way: Moved, bytes: u64) {
        self.counters.moved(way, bytes);
        self.counters.staged(bytes);
    }

    /// The answer to the connect message.
    pub fn hello(&self, backend: &dyn Backend) -> HelloInfo {
        HelloInfo {
            vm_id: self.vm_id,
            channel: self.channel,
            backend: backend.name().to_owned(),
            driver_version: backend.driver_version(),
        }
    }
}

/// A GPU.
pub trait Backend: Send + Sync {
    /// `soft` or `cuda`.
    fn name(&self) -> &'static str;

    /// What `cuDriverGetVersion` answers.
    fn driver_version(&self) -> i32;

    /// Total memory of the GPU, in bytes: the most that a VM's share can be.
    fn total_memory_bytes(&self) -> u64;

    /// Opens a session. Dropping it frees everything that it owns.
    fn open(self: Arc<Self>, context: SessionContext) -> Result<Box<dyn BackendSession>, Status>;
}

/// A list of wire structs that came as bytes.
///
/// # Errors
/// `ERROR_INVALID_VALUE` for bytes that are none.
fn list<T: Value>(bytes: &[u8]) -> Result<Vec<T>, Status> {
    let mut reader = Reader::new(bytes);
    let list = Vec::<T>::get(&mut reader).map_err(|_| Status::ERROR_INVALID_VALUE)?;
    reader.finish().map_err(|_| Status::ERROR_INVALID_VALUE)?;
    Ok(list)
}

/// What a body returns that has to wait, where the worker suspends calls: it is run again, from its
/// beginning, once the wait is over. Never sent.
pub const SUSPENDED: Status = Status(u32::MAX);

/// What a suspended call waits for: `Some` once it is over.
pub type Wait = Box<dyn FnMut() -> Option<Result<(), Status>> + Send>;

/// A session's part in suspending calls.
#[derive(Default)]
pub struct Pause {
    may_suspend: bool,
    /// What a suspended call's wait has come to: the next wait is that one.
    over: Cell<Option<Result<(), Status>>>,
    waits: Cell<Option<Wait>>,
}

impl Pause {
    /// See [`BackendSession::begin`].
    pub fn begin(&mut self, may_suspend: bool, over: Option<Result<(), Status>>) {
        *self = Pause {
            may_suspend,
            over: Cell::new(over),
            waits: Cell::new(None),
        };
    }

    /// True where a body that waits is to be suspended.
    pub fn may_suspend(&self) -> bool {
        self.may_suspend
    }

    /// Whether the body runs again after its wait.
    pub fn is_over(&self) -> bool {
        let over = self.over.take();
        self.over.set(over);
        over.is_some()
    }

    /// What the wait has come to for which the body was suspended, once.
    pub fn take_over(&self) -> Option<Result<(), Status>> {
        self.over.take()
    }

    /// Suspends the body: it has to return this.
    pub fn suspend(&self, wait: Wait) -> Status {
        self.waits.set(Some(wait));
        SUSPENDED
    }

    /// See [`BackendSession::take_wait`].
    pub fn take_wait(&mut self) -> Option<Wait> {
        self.waits.take()
    }
}

impl std::fmt::Debug for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pause").finish_non_exhaustive()
    }
}

/// One session: the bodies of all rows of the call table.
pub trait BackendSession: Calls + Send {
    /// The first error of asynchronous work in `ctx` that no call has returned yet. A sticky one
    /// stays.
    fn take_error(&mut self, ctx: CtxId) -> Option<Status>;

    /// Whether `vgpuOutput` would give text.
    fn has_output(&self) -> bool {
        false
    }

    /// Called before every body: whether it may be suspended, and, where it was, what its wait has
    /// come to.
    fn begin(&mut self, may_suspend: bool, over: Option<Result<(), Status>>);

    /// What the body that has just returned [`SUSPENDED`] waits for.
    fn take_wait(&mut self) -> Option<Wait>;

    /// True where the worker should take no further message for now.
    fn is_full(&self) -> bool {
        false
    }

    /// True where suspended calls have to be looked at again and again.
    fn must_look(&self) -> bool {
        false
    }
}
