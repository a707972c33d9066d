//! Contexts of a session.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::sys::CUlimit_enum as Limit;
use vgpu_protocol::Status;
use vgpu_soft_gpu::AddressSpace;

use crate::budget::Share;

/// The part of a context that work in flight keeps alive.
pub struct Context {
    /// Its device memory.
    pub space: Arc<AddressSpace>,
    sticky: AtomicU32,
    pending: AtomicU32,
}

/// A context as the session's table holds it.
pub struct ContextEntry {
    /// What work in flight shares.
    pub shared: Arc<Context>,
    /// Allocations by address; the number is the size in bytes.
    pub allocations: BTreeMap<u64, Allocation>,
    /// Its share of the address space that the VM's contexts may reserve.
    pub _reservation: Share,
    /// Number of the last operation on the default stream.
    pub default_stream_last: u64,
}

/// One allocation.
pub struct Allocation {
    /// Its share of the VM's memory; moves to the queue when the guest frees it.
    pub share: Share,
}

impl Context {
    pub fn new(space: AddressSpace) -> Arc<Context> {
        Arc::new(Context {
            space: Arc::new(space),
            sticky: AtomicU32::new(0),
            pending: AtomicU32::new(0),
        })
    }

    /// Keeps an error of asynchronous work: the first one counts.
    pub fn fail(&self, status: Status) {
        let word = if status.is_sticky() {
            &self.sticky
        } else {
            &self.pending
        };
        // The first error stays; a lost race means that there was one.
        let _ = word.compare_exchange(0, status.0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The error that ended the context, if one did.
    pub fn sticky(&self) -> Result<(), Status> {
        Status(self.sticky.load(Ordering::Acquire)).ok()
    }

    /// Takes the first error of asynchronous work.
    pub fn take_error(&self) -> Result<(), Status> {
        self.sticky()?;
        Status(self.pending.swap(0, Ordering::AcqRel)).ok()
    }
}

/// The only limits that mean something to the software GPU, and what they are.
pub fn limit(limit: u32) -> Result<u64, Status> {
    const STACK: u32 = Limit::CU_LIMIT_STACK_SIZE as u32;
    const PRINTF: u32 = Limit::CU_LIMIT_PRINTF_FIFO_SIZE as u32;
    const HEAP: u32 = Limit::CU_LIMIT_MALLOC_HEAP_SIZE as u32;
    match limit {
        STACK => Ok(1024),
        PRINTF | HEAP => Ok(0),
        _ => Err(Status::ERROR_NOT_SUPPORTED),
    }
}
