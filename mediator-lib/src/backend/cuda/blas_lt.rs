//! cublasLt: what reaches the host's library is checked here.

use std::sync::{Arc, OnceLock};

use vgpu_protocol::Status;
use vgpu_protocol::blas::{BlasStatus, ty, type_bytes};
use vgpu_protocol::blas_lt::Epilogue;
use vgpu_protocol::calls::{BlasMatrix, BlasScalar, CtxId, LtMatmul, LtMatrix, LtReady};
use vgpu_protocol::calls::{LtTransform, StreamId};

use super::blas::{refused, status_of};
use super::session::CudaSession;
use super::sys::blas::lt::{Handle, Library, Matmul};
use super::sys::object::Stream;

/// Names of the library, newest first.
const LIBRARIES: &[&str] = &[
    "libcublasLt.so.13",
    "libcublasLt.so.12",
    "libcublasLt.so.11",
];

/// Environment variable that names another library file in their place.
pub const LIBRARY_VARIABLE: &str = "VGPU_LIBCUBLASLT";

/// Workspace that the library can use, in bytes: what NVIDIA's guide recommends for GPUs from Hopper
/// on (cuBLAS, `cublasSetWorkspace`).
const WORKSPACE_BYTES: u64 = 32 << 20;

/// The host's library, once it has been looked for.
#[derive(Debug, Default)]
pub struct HostLt {
    library: OnceLock<Option<Arc<Library>>>,
    /// Named in place of [`LIBRARIES`].
    named: Option<String>,
}

impl HostLt {
    /// `named` in place of what the environment says: for tests.
    pub fn new(named: Option<String>) -> HostLt {
        HostLt {
            library: OnceLock::new(),
            named: named.or_else(|| std::env::var(LIBRARY_VARIABLE).ok()),
        }
    }

    /// The library; loaded at the first call, which tells what is missing.
    pub fn get(&self) -> Option<&Arc<Library>> {
        let load = || {
            let loaded = match self.named.as_deref() {
                Some(name) => Library::load(&[name]),
                None => Library::load(LIBRARIES),
            };
            match loaded {
                Ok(library) => {
                    tracing::info!(library = library.name, "the host's cublasLt is used");
                    Some(Arc::new(library))
                }
                Err(reason) => {
                    tracing::warn!(
                        "no cublasLt on this host: guests get CUBLAS_STATUS_NOT_INITIALIZED from cublasLtCreate. Install one of {}, or name it with {LIBRARY_VARIABLE}=PATH ({reason})",
                        LIBRARIES.join(", ")
                    );
                    None
                }
            }
        };
        self.library.get_or_init(load).as_ref()
    }
}

/// True for a factor that is known to be 0.
fn is_zero(factor: &BlasScalar, bytes: u64) -> bool {
    let value = factor.value.iter().take(bytes as usize);
    factor.device.0 == 0 && value.copied().all(|byte| byte == 0)
}

impl CudaSession {
    /// Checks that a matrix lies in the guest's memory.
    fn require_lt(&self, owner: CtxId, m: &LtMatrix) -> Result<(), Status> {
        let size = |value: u64| i64::try_from(value).map_err(|_| Status::ERROR_INVALID_VALUE);
        let (rows, cols) = (size(m.rows)?, size(m.cols)?);
        let blas = BlasMatrix {
            at: m.at,
            ty: m.ty,
            ld: m.ld,
            stride: m.stride,
        };
        if m.mode != 0 {
            return self.require_pointers(owner, &blas, m.batch);
        }
        // Row by row it is the transpose's columns.
        let size = match m.order {
            0 => (rows, cols),
            _ => (cols, rows),
        };
        self.require_matrix(owner, &blas, size, m.stride, m.batch)
    }

    /// Checks bias and auxiliary matrix.
    fn require_epilogue(
        &self,
        owner: CtxId,
        op: &LtMatmul,
        epilogue: Epilogue,
    ) -> Result<(), Status> {
        if epilogue.bias {
            let bias = LtMatrix {
                at: op.bias,
                ty: op.bias_ty,
                cols: 1,
                ld: op.d.ld,
                stride: op.bias_stride,
                ..op.d.clone()
            };
            self.require_lt(owner, &LtMatrix { order: 0, ..bias })?;
        }
        if epilogue.aux {
            let bits = epilogue.has_bits();
            let scaled = |count: i64| if bits { count / 8 } else { count };
            let aux = LtMatrix {
                at: op.aux,
                ty: if bits { ty::R_8I } else { op.aux_ty },
                // Of bits all that the leading dimension spans.
                rows: if bits {
                    scaled(op.aux_ld) as u64
                } else {
                    op.d.rows
                },
                ld: scaled(op.aux_ld),
                stride: scaled(op.aux_stride),
                ..op.d.clone()
            };
            self.require_lt(owner, &aux)?;
        }
        Ok(())
    }

    /// Calls the library in a context, on a stream.
    fn with_lt(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        call: impl FnOnce(&mut Handle, &Stream) -> Result<(), BlasStatus>,
    ) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        self.pace(owner, stream)?;
        let mut handle = match self.objects.lt.remove(&owner) {
            Some(handle) => handle,
            None => {
                let library = self.backend.lt.get().ok_or(Status::ERROR_NOT_SUPPORTED)?;
                Handle::create(library, &self.current(owner)?.ctx).map_err(status_of)?
            }
        };
        let called = self
            .stream(owner, stream)
            .map(|stream| call(&mut handle, stream));
        self.objects.lt.insert(owner, handle);
        called?.map_err(|status| {
            tracing::warn!(
                vm_id = self.context.vm_id,
                channel = self.context.channel,
                status = status.name(),
                "cublasLt"
            );
            status_of(status)
        })
    }

    /// `cublasLtCreate`: whether there is one.
    pub(super) fn lt_ready(&mut self, ctx: CtxId) -> Result<LtReady, Status> {
        let entry = self.current(ctx)?;
        let status = match self.backend.lt.get() {
            None => BlasStatus::NOT_INITIALIZED,
            Some(_) if self.objects.lt.contains_key(&ctx) => BlasStatus::SUCCESS,
            Some(library) => match Handle::create(library, &entry.ctx) {
                Ok(handle) => {
                    self.objects.lt.insert(ctx, handle);
                    BlasStatus::SUCCESS
                }
                Err(status) => status,
            },
        };
        Ok(LtReady {
            status: status.0,
            workspace_bytes: WORKSPACE_BYTES,
        })
    }

    /// `cublasLtMatmul`.
    pub(super) fn lt_matmul(&mut self, ctx: CtxId, op: &LtMatmul) -> Result<(), Status> {
        let (_, epilogue) = op.check().map_err(refused)?;
        let owner = self.owner(ctx, op.stream)?;
        if op.is_empty() {
            return Ok(());
        }
        let bytes = type_bytes(op.scale).ok_or(Status::ERROR_INVALID_VALUE)?;
        for matrix in [&op.a, &op.b, &op.d] {
            self.require_lt(owner, matrix)?;
        }
        // C is not read where beta is 0, and may then be missing.
        if op.c.at.0 != 0 || !is_zero(&op.beta, bytes) {
            self.require_lt(owner, &op.c)?;
        }
        self.require_epilogue(owner, op, epilogue)?;
        let matmul = Matmul {
            op,
            epilogue,
            alpha: self.factor(owner, &op.alpha, bytes)?,
            beta: self.factor(owner, &op.beta, bytes)?,
            workspace: self.range(owner, op.workspace, op.workspace_bytes)?,
        };
        self.with_lt(ctx, op.stream, |handle, stream| {
            handle.matmul(stream, &matmul)
        })
    }

    /// `cublasLtMatrixTransform`.
    pub(super) fn lt_transform(&mut self, ctx: CtxId, op: &LtTransform) -> Result<(), Status> {
        op.check().map_err(refused)?;
        let owner = self.owner(ctx, op.stream)?;
        if op.is_empty() {
            return Ok(());
        }
        let bytes = type_bytes(op.scale).ok_or(Status::ERROR_INVALID_VALUE)?;
        self.require_lt(owner, &op.a)?;
        self.require_lt(owner, &op.c)?;
        if op.b.at.0 != 0 {
            self.require_lt(owner, &op.b)?;
        }
        let alpha = self.factor(owner, &op.alpha, bytes)?;
        let beta = self.factor(owner, &op.beta, bytes)?;
        self.with_lt(ctx, op.stream, |handle, stream| {
            handle.transform(stream, op, (&alpha, &beta))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgpu_protocol::calls::DevPtr;

    #[test]
    fn only_host_factors_are_known_to_be_zero() {
        let mut factor = BlasScalar::default();
        factor.value[4] = 1;
        assert!(is_zero(&factor, 4) && !is_zero(&factor, 8));
        factor.device = DevPtr(16);
        assert!(!is_zero(&factor, 4));
    }
}
