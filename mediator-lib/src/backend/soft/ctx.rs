//! Contexts of a session.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::sys::CUlimit_enum as Limit;
use vgpu_protocol::Status;
use vgpu_soft_gpu::runtime::{LimitError, MAX_PRINTF_BYTES, MAX_STACK_BYTES};
use vgpu_soft_gpu::{AddressSpace, DeviceRuntime};

use super::order::Order;
use super::output::Output;
use crate::budget::Share;

/// The part of a context that work in flight keeps alive.
pub struct Context {
    /// Its device memory.
    pub space: Arc<AddressSpace>,
    /// Its kernels' system calls.
    pub runtime: Arc<DeviceRuntime>,
    /// Where their text goes.
    pub output: Arc<Output>,
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
    /// The device heap's share of the VM's memory, once it is there.
    pub heap: Option<Share>,
    /// Order of its work.
    pub order: Order,
}

/// One allocation.
pub struct Allocation {
    /// Its share of the VM's memory; moves to the queue when the guest frees it.
    pub share: Share,
}

impl Context {
    pub fn new(space: AddressSpace, output: Arc<Output>) -> Arc<Context> {
        Arc::new(Context {
            space: Arc::new(space),
            runtime: Arc::default(),
            output,
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

const STACK: u32 = Limit::CU_LIMIT_STACK_SIZE as u32;
const PRINTF: u32 = Limit::CU_LIMIT_PRINTF_FIFO_SIZE as u32;
const HEAP: u32 = Limit::CU_LIMIT_MALLOC_HEAP_SIZE as u32;

/// A limit of the context.
///
/// # Errors
/// `ERROR_UNSUPPORTED_LIMIT` for what the software GPU does not have: dynamic parallelism and an
/// L2 cache that could be divided.
pub fn limit(runtime: &DeviceRuntime, limit: u32) -> Result<u64, Status> {
    match limit {
        STACK => Ok(runtime.stack_bytes()),
        PRINTF => Ok(runtime.printf_bytes()),
        HEAP => Ok(runtime.heap_bytes()),
        _ => Err(unknown(limit)),
    }
}

/// Sets a limit; `memory` is what the VM has. Stack and FIFO are clamped to what there can be, as
/// `cuCtxSetLimit` allows.
///
/// # Errors
/// `ERROR_INVALID_VALUE` once a kernel or a module uses it, and for a heap above `memory`.
pub fn set_limit(
    runtime: &DeviceRuntime,
    limit: u32,
    value: u64,
    memory: u64,
) -> Result<(), Status> {
    let set = match limit {
        STACK => runtime.set_stack_bytes(value.min(MAX_STACK_BYTES)),
        PRINTF => runtime.set_printf_bytes(value.min(MAX_PRINTF_BYTES)),
        HEAP => runtime.set_heap_bytes(value, memory),
        _ => return Err(unknown(limit)),
    };
    set.map_err(|why| match why {
        LimitError::InUse | LimitError::TooLarge { .. } => Status::ERROR_INVALID_VALUE,
    })
}

/// `ERROR_INVALID_VALUE` for what is no `CUlimit`.
fn unknown(limit: u32) -> Status {
    if limit < Limit::CU_LIMIT_MAX as u32 {
        Status::ERROR_UNSUPPORTED_LIMIT
    } else {
        Status::ERROR_INVALID_VALUE
    }
}
