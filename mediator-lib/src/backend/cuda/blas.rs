//! cuBLAS: what reaches the host's library is checked here.

use std::sync::{Arc, OnceLock};

use vgpu_protocol::Status;
use vgpu_protocol::blas::{BlasStatus, type_bytes};
use vgpu_protocol::calls::{BlasGemm, BlasMatrix, BlasScalar, BlasTarget, CtxId, DevPtr};

use super::session::CudaSession;
use super::sys::blas::{Factor, Handle, Library};
use super::sys::object::Stream;

/// Names of the library, newest first.
const LIBRARIES: &[&str] = &["libcublas.so.13", "libcublas.so.12", "libcublas.so.11"];

/// Environment variable that names another library file in their place.
pub const LIBRARY_VARIABLE: &str = "VGPU_LIBCUBLAS";

/// The host's library, once it has been looked for.
#[derive(Debug, Default)]
pub struct HostBlas {
    library: OnceLock<Option<Arc<Library>>>,
    /// Named in place of [`LIBRARIES`].
    named: Option<String>,
}

impl HostBlas {
    /// `named` in place of what the environment says: for tests.
    pub fn new(named: Option<String>) -> HostBlas {
        HostBlas {
            library: OnceLock::new(),
            named: named.or_else(|| std::env::var(LIBRARY_VARIABLE).ok()),
        }
    }

    /// The library; loaded at the first call, which tells what is missing.
    pub fn get(&self) -> Option<&Arc<Library>> {
        let load = || match self
            .named
            .as_deref()
            .map_or_else(|| Library::load(LIBRARIES), |name| Library::load(&[name]))
        {
            Ok(library) => {
                tracing::info!(library = library.name, "the host's cuBLAS is used");
                Some(Arc::new(library))
            }
            Err(reason) => {
                tracing::warn!(
                    "no cuBLAS on this host: guests get CUBLAS_STATUS_NOT_INITIALIZED. Install one of {}, or name it with {LIBRARY_VARIABLE}=PATH ({reason})",
                    LIBRARIES.join(", ")
                );
                None
            }
        };
        self.library.get_or_init(load).as_ref()
    }
}

/// A handle as the session's table holds it.
#[derive(Debug)]
pub struct BlasEntry {
    /// Its context.
    pub ctx: CtxId,
    /// The library's handle; taken out while it is used.
    pub handle: Option<Handle>,
}

/// What a call has become of that its guest no longer waits for.
pub fn status_of(status: BlasStatus) -> Status {
    match status {
        BlasStatus::INVALID_VALUE => Status::ERROR_INVALID_VALUE,
        BlasStatus::NOT_SUPPORTED | BlasStatus::ARCH_MISMATCH => Status::ERROR_NOT_SUPPORTED,
        BlasStatus::ALLOC_FAILED => Status::ERROR_OUT_OF_MEMORY,
        BlasStatus::NOT_INITIALIZED => Status::ERROR_NOT_INITIALIZED,
        _ => Status::ERROR_UNKNOWN,
    }
}

/// As a guest's own library should have refused it.
pub fn refused(status: BlasStatus) -> Status {
    match status {
        BlasStatus::NOT_SUPPORTED => Status::ERROR_NOT_SUPPORTED,
        _ => Status::ERROR_INVALID_VALUE,
    }
}

/// Lowest offset and length, in elements, of a column-major matrix of `rows` × `cols` and of those
/// that follow it in a strided batch.
fn extent(rows: i64, cols: i64, ld: i64, stride: i64, batch: i64) -> Option<(i64, i64)> {
    if rows == 0 || cols == 0 || batch == 0 {
        return Some((0, 0));
    }
    let one = (cols - 1).checked_mul(ld)?.checked_add(rows)?;
    let far = (batch - 1).checked_mul(stride)?;
    Some((far.min(0), far.checked_abs()?.checked_add(one)?))
}

impl CudaSession {
    /// Takes a factor of a message: bytes, or an address that is checked.
    pub(super) fn factor(
        &self,
        owner: CtxId,
        scalar: &BlasScalar,
        bytes: u64,
    ) -> Result<Factor, Status> {
        if scalar.device.0 == 0 {
            let word = |at: usize| {
                let mut word = [0; 8];
                word.copy_from_slice(&scalar.value[at..at + 8]);
                u64::from_ne_bytes(word)
            };
            return Ok(Factor::Host([word(0), word(8)]));
        }
        let range = self.range(owner, scalar.device, bytes)?;
        range.map(Factor::Device).ok_or(Status::ERROR_INVALID_VALUE)
    }

    /// Checks that a matrix, or all of a strided batch, lies in the guest's memory.
    pub(super) fn require_matrix(
        &self,
        owner: CtxId,
        m: &BlasMatrix,
        (rows, cols): (i64, i64),
        stride: i64,
        batch: i64,
    ) -> Result<(), Status> {
        let bytes = type_bytes(m.ty).ok_or(Status::ERROR_INVALID_VALUE)?;
        let scaled = |count: i64| count.checked_mul(bytes as i64);
        let (low, length) = extent(rows, cols, m.ld, stride, batch)
            .and_then(|(low, length)| Some((scaled(low)?, scaled(length)?)))
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        let first = m.at.0.wrapping_add_signed(low);
        self.range(owner, DevPtr(first), length as u64)?;
        Ok(())
    }

    /// Checks an array of addresses. What it points to is found by kernels of the library, whose
    /// accesses the context confines as it does a guest's own kernels'.
    pub(super) fn require_pointers(
        &self,
        owner: CtxId,
        m: &BlasMatrix,
        batch: i64,
    ) -> Result<(), Status> {
        let bytes = batch.checked_mul(8).ok_or(Status::ERROR_INVALID_VALUE)?;
        self.range(owner, m.at, bytes as u64)?;
        Ok(())
    }

    /// Checks the memory of a product. Of matrices that are not touched nothing is checked.
    pub(super) fn require_gemm(
        &self,
        owner: CtxId,
        op: &BlasGemm,
        pointers: bool,
        batch: i64,
    ) -> Result<(), Status> {
        let turned = |operation: u32, rows, cols| {
            if operation == 0 {
                (rows, cols)
            } else {
                (cols, rows)
            }
        };
        let parts = [
            (&op.a, turned(op.transa, op.m, op.k)),
            (&op.b, turned(op.transb, op.k, op.n)),
            (&op.c, (op.m, op.n)),
        ];
        for (m, size) in parts {
            if pointers {
                self.require_pointers(owner, m, batch)?;
            } else {
                self.require_matrix(owner, m, size, m.stride, batch)?;
            }
        }
        Ok(())
    }

    /// Calls the library with a handle, on the stream of a message.
    pub(super) fn with_blas(
        &mut self,
        ctx: CtxId,
        target: &BlasTarget,
        call: impl FnOnce(&mut Handle, &Stream) -> Result<(), BlasStatus>,
    ) -> Result<(), Status> {
        let owner = self.owner(ctx, target.stream)?;
        if self.objects.blas.get(target.handle)?.ctx != owner {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        self.pace(owner, target.stream)?;
        let entry = self.objects.blas.get_mut(target.handle)?;
        let mut handle = entry.handle.take().ok_or(Status::ERROR_INVALID_HANDLE)?;
        let called = self
            .stream(owner, target.stream)
            .map(|stream| call(&mut handle, stream));
        self.objects.blas.get_mut(target.handle)?.handle = Some(handle);
        called?.map_err(|status| {
            tracing::warn!(
                vm_id = self.context.vm_id,
                channel = self.context.channel,
                status = status.name(),
                "cuBLAS"
            );
            status_of(status)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_of_batches() {
        assert_eq!(extent(2, 3, 5, 0, 1), Some((0, 12)));
        assert_eq!(extent(2, 3, 5, 20, 4), Some((0, 72)));
        assert_eq!(extent(2, 3, 5, -20, 4), Some((-60, 72)));
        assert_eq!(extent(0, 3, 5, 20, 4), Some((0, 0)));
        assert_eq!(extent(2, i64::MAX, 5, 0, 1), None);
        assert_eq!(extent(2, 2, 2, i64::MIN, 2), None);
        assert_eq!(extent(2, 2, 2, i64::MAX, 2), None);
    }
}
