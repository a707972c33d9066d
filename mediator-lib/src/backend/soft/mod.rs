//! The `soft` backend: the software GPU behind the call table.
//!
//! | module | holds |
//! |---|---|
//! | [`device`] | what the software GPU says of itself |
//! | [`engine`] | the scheduler of a session's work, beside its worker |
//! | [`order`] | what streams order |
//! | [`op`] | one piece of such work |
//! | [`graph`] | executable graphs |
//! | [`ctx`] | contexts |
//! | [`copy`] | raw copies between arena and device memory (the backend's only unsafe code) |
//! | [`module`], [`launch`] | modules and kernels, what a launch must satisfy |
//! | [`link`] | the linker |
//! | [`output`] | text of kernels on its way to the guest |
//! | [`blas`], [`routine`] | cuBLAS: products, everything else |
//! | [`mapped`] | physical memory and where it is mapped |
//! | [`session`] | the session's tables and helpers |
//! | [`calls`] | the bodies of the call table's rows |

mod blas;
mod blas_lt;
mod calls;
mod copy;
mod ctx;
mod device;
mod engine;
mod graph;
mod launch;
mod link;
mod mapped;
mod module;
mod op;
mod order;
mod output;
mod routine;
mod session;

use std::io;
use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::limits::{MAX_MAPPINGS, MAX_RESERVED_BYTES};
use vgpu_soft_gpu::Gpu;

use super::{Backend, BackendSession, SessionContext};
use crate::budget::{Budget, Share};
use session::SoftSession;

/// The software GPU of one device.
pub struct SoftBackend {
    gpu: Arc<Gpu>,
    memory_bytes: u64,
    /// Address space for contexts.
    reservations: Arc<Budget>,
    /// Mappings of physical memory, and reservations: counted, not in bytes.
    mappings: Arc<Budget>,
}

impl SoftBackend {
    /// Starts a software GPU that computes on all cores of the host.
    pub fn new() -> io::Result<Arc<SoftBackend>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(SoftBackend {
            gpu: Gpu::new(threads)?,
            memory_bytes: device::default_memory_bytes(),
            reservations: Budget::new(MAX_RESERVED_BYTES),
            mappings: Budget::new(MAX_MAPPINGS),
        }))
    }
}

/// Takes address space for a context that may hold `limit_bytes`: a space reserves twice that.
///
/// # Errors
/// `ERROR_OUT_OF_MEMORY` where the VM's contexts have reserved what they may.
fn reserve(reservations: &Arc<Budget>, limit_bytes: u64) -> Result<Share, Status> {
    let reserved = reservations.take(limit_bytes.saturating_mul(2));
    reserved.ok_or(Status::ERROR_OUT_OF_MEMORY)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_reserve_what_they_may_and_no_more() {
        let reservations = Budget::new(MAX_RESERVED_BYTES);
        let half = MAX_RESERVED_BYTES / 4;
        let first = reserve(&reservations, half).expect("room");
        let second = reserve(&reservations, half - 1).expect("room");
        assert_eq!(
            reserve(&reservations, 2).err(),
            Some(Status::ERROR_OUT_OF_MEMORY)
        );
        let third = reserve(&reservations, 1).expect("room");
        drop((first, second, third));
        assert!(reserve(&reservations, u64::MAX).is_err());
        assert!(reserve(&reservations, MAX_RESERVED_BYTES / 2).is_ok());
    }
}
