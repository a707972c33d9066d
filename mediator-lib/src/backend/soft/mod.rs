//! The `soft` backend: the software GPU behind the call table.
//!
//! | module | holds |
//! |---|---|
//! | [`device`] | what the software GPU says of itself |
//! | [`engine`] | the queue in which a session's work runs, in order, beside its worker |
//! | [`op`] | one piece of such work |
//! | [`ctx`] | contexts |
//! | [`copy`] | raw copies between arena and device memory (the backend's only unsafe code) |
//! | [`module`], [`launch`] | modules and kernels, what a launch must satisfy |
//! | [`session`] | the session's tables and helpers |
//! | [`calls`] | the bodies of the call table's rows |

mod calls;
mod copy;
mod ctx;
mod device;
mod engine;
mod launch;
mod module;
mod op;
mod session;

use std::io;
use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::limits::MAX_RESERVED_BYTES;
use vgpu_soft_gpu::Gpu;

use super::{Backend, BackendSession, SessionContext};
use crate::budget::Budget;
use session::SoftSession;

/// The software GPU of one device.
pub struct SoftBackend {
    gpu: Arc<Gpu>,
    memory_bytes: u64,
    /// Address space for contexts.
    reservations: Arc<Budget>,
}

impl SoftBackend {
    /// Starts a software GPU that computes on all cores of the host.
    pub fn new() -> io::Result<Arc<SoftBackend>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(SoftBackend {
            gpu: Gpu::new(threads)?,
            memory_bytes: device::default_memory_bytes(),
            reservations: Budget::new(MAX_RESERVED_BYTES),
        }))
    }
}

impl Backend for SoftBackend {
    fn name(&self) -> &'static str {
        "soft"
    }

    fn driver_version(&self) -> i32 {
        device::DRIVER_VERSION
    }

    fn total_memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn open(self: Arc<Self>, context: SessionContext) -> Result<Box<dyn BackendSession>, Status> {
        Ok(Box::new(SoftSession::new(self, context)?))
    }
}
