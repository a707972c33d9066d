//! What a GPU must be able to do for a session, and the two that can.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{Calls, CtxId, HelloInfo};

use crate::arena::Arena;
use crate::budget::Budget;
use crate::cancel::Cancel;
use crate::counters::Counters;

mod check;
pub mod cuda;
pub mod soft;
mod start;

/// What a session has in common with its channel; given to the backend when it is opened.
#[derive(Clone, Debug)]
pub struct SessionContext {
    /// The device's `vm_id`.
    pub vm_id: u32,
    /// The channel's number.
    pub channel: u32,
    /// The channel's staging arena.
    pub arena: Arena,
    /// Set when the session must end.
    pub cancel: Arc<Cancel>,
    /// The VM's share of device memory.
    pub budget: Arc<Budget>,
    /// The channel's calls.
    pub counters: Arc<Counters>,
}

impl SessionContext {
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

/// One session: the bodies of all rows of the call table.
pub trait BackendSession: Calls + Send {
    /// The first error of asynchronous work in `ctx` that no call has returned yet. A sticky one
    /// stays.
    fn take_error(&mut self, ctx: CtxId) -> Option<Status>;
}
