//! Where a routine runs.

use std::sync::Arc;

use vgpu_soft_gpu::{Abort, AddressSpace, Gpu, TaskError};

/// Why a routine failed. All but [`BlasError::Unsupported`] are found while it runs, as a GPU finds
/// them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlasError {
    /// A matrix that is not inside one allocation.
    #[error("{what} at address {addr:#x} with {bytes} bytes is not inside one live allocation")]
    IllegalAddress {
        /// Which argument.
        what: &'static str,
        /// Its lowest address.
        addr: u64,
        /// From there to its last byte.
        bytes: u64,
    },
    /// A matrix whose address is no multiple of its element's size.
    #[error("{what} at address {addr:#x} is not aligned to its elements of {bytes} bytes")]
    Misaligned {
        /// Which argument.
        what: &'static str,
        /// Its address.
        addr: u64,
        /// Bytes of an element.
        bytes: u64,
    },
    /// Types or a layout that the routine does not have.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// The session ends.
    #[error("the routine was aborted")]
    Aborted,
    /// A defect of ours.
    #[error("internal error")]
    Internal,
}

/// Where a routine runs: threads, memory, and the flag that ends it.
#[derive(Clone, Copy)]
pub struct Exec<'a> {
    /// The threads.
    pub gpu: &'a Gpu,
    /// The context's memory.
    pub space: &'a Arc<AddressSpace>,
    /// Ends the routine.
    pub abort: &'a Abort,
}

impl std::fmt::Debug for Exec<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").finish_non_exhaustive()
    }
}

impl Exec<'_> {
    /// Runs tasks on all threads.
    pub fn for_each(
        &self,
        count: u64,
        task: impl Fn(u64) -> Result<(), BlasError> + Send + Sync + 'static,
    ) -> Result<(), BlasError> {
        self.gpu
            .for_each(count, self.abort, task)
            .map_err(|error| match error {
                TaskError::Aborted => BlasError::Aborted,
                TaskError::Panicked => BlasError::Internal,
                TaskError::Failed(error) => error,
            })
    }
}

/// Fails once the session is to end: called between the steps of a long task.
pub fn go_on(abort: &Abort) -> Result<(), BlasError> {
    if abort.is_set() {
        Err(BlasError::Aborted)
    } else {
        Ok(())
    }
}
