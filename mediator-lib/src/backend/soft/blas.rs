//! cuBLAS: calls to routines of `vgpu-soft-blas`.

use vgpu_protocol::Status;
use vgpu_protocol::blas::{BlasStatus, ComputeKind};
use vgpu_protocol::calls::{BlasGemm, BlasMatrix, BlasScalar, BlasTrsmBatched, CtxId};
use vgpu_soft_blas::finish::Finish;
use vgpu_soft_blas::gemm::{Compute, Gemm, gemm};
use vgpu_soft_blas::num::{c32, c64};
use vgpu_soft_blas::solve::{Solve, solve};
use vgpu_soft_blas::{Addressing, BlasError, Exec, Matrix, Num, Scalar, Shape, Type};
use vgpu_soft_gpu::{Abort, Gpu};

use super::blas_lt::Transform;
use super::ctx::Context;
use super::routine::RoutineWork;

/// A handle as the session's table holds it.
#[derive(Debug)]
pub struct BlasEntry {
    /// The context that it was created in.
    pub ctx: CtxId,
}

/// A call of cuBLAS, checked and ready to run.
#[derive(Clone, Debug)]
pub enum BlasWork {
    /// The gemm family.
    Gemm(Box<Gemm>),
    /// Triangular systems.
    Solve {
        /// Type of the elements.
        ty: Type,
        /// `alpha` in it.
        alpha: Scalar,
        /// The systems, without `alpha`.
        system: Solve<()>,
    },
    /// The other routines.
    Routine(RoutineWork),
    /// A matrix in another order or type.
    Transform(Box<Transform>),
}

/// What is found wrong here has passed the guest's library, which checks the same: there is no
/// `cublasStatus_t` to give any more.
pub fn refused(status: BlasStatus) -> Status {
    if status == BlasStatus::NOT_SUPPORTED {
        Status::ERROR_NOT_SUPPORTED
    } else {
        Status::ERROR_INVALID_VALUE
    }
}

pub fn ty(number: u32) -> Result<Type, Status> {
    Type::from_cuda(number).ok_or(Status::ERROR_NOT_SUPPORTED)
}

pub fn size(value: i64) -> Result<u64, Status> {
    u64::try_from(value).map_err(|_| Status::ERROR_INVALID_VALUE)
}

pub fn scalar(scalar: &BlasScalar) -> Scalar {
    match scalar.device.0 {
        0 => Scalar::Value(scalar.value),
        address => Scalar::Device(address),
    }
}

/// A matrix that takes part as `rows` × `cols` after its operation.
fn matrix(
    what: &'static str,
    m: &BlasMatrix,
    operation: u32,
    (rows, cols): (u64, u64),
    batch: Addressing,
) -> Result<Matrix, Status> {
    let (rows, cols) = if operation == 0 {
        (rows, cols)
    } else {
        (cols, rows)
    };
    Ok(Matrix::new(what, m.at.0, ty(m.ty)?, rows, cols, m.ld)
        .op(operation)
        .batched(batch))
}

/// Which of the three rows of the gemm family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    One,
    Pointers,
    Strided,
}

impl BlasWork {
    /// A call of the gemm family.
    pub fn gemm(op: &BlasGemm, batch: Batch) -> Result<BlasWork, Status> {
        let kind = op.check().map_err(refused)?;
        let (m, n, k) = (size(op.m)?, size(op.n)?, size(op.k)?);
        let place = |stride: i64| match batch {
            Batch::Pointers => Addressing::Pointers,
            _ => Addressing::Strided(stride),
        };
        let (a, b, c) = (place(op.a.stride), place(op.b.stride), place(op.c.stride));
        Ok(BlasWork::Gemm(Box::new(Gemm {
            m,
            n,
            k,
            alpha: scalar(&op.alpha),
            a: matrix("A", &op.a, op.transa, (m, k), a)?,
            b: matrix("B", &op.b, op.transb, (k, n), b)?,
            beta: scalar(&op.beta),
            c: matrix("C", &op.c, 0, (m, n), c)?,
            batch: if batch == Batch::One {
                1
            } else {
                size(op.batch)?
            },
            compute: match kind {
                ComputeKind::F16 => Compute::F16,
                ComputeKind::F32 | ComputeKind::F32Fast => Compute::F32,
                ComputeKind::F64 => Compute::F64,
                ComputeKind::I32 => Compute::I32,
            },
            from: None,
            finish: Finish::NONE,
        })))
    }

    /// A call of `cublas<t>trsmBatched`.
    pub fn trsm_batched(op: &BlasTrsmBatched) -> Result<BlasWork, Status> {
        op.check().map_err(refused)?;
        let (m, n) = (size(op.m)?, size(op.n)?);
        let (left, unknowns) = (op.side == 0, if op.side == 0 { m } else { n });
        let shape = Shape::Triangle {
            upper: op.uplo == 1,
            unit: op.diag == 1,
        };
        let mut a = matrix(
            "A",
            &op.a,
            op.trans,
            (unknowns, unknowns),
            Addressing::Pointers,
        )?
        .shaped(shape);
        let mut b = matrix("B", &op.b, 0, (m, n), Addressing::Pointers)?;
        if !left {
            // X op(A) = B is op(A)ᵀ Xᵀ = Bᵀ.
            a.trans = !a.trans;
            b.trans = true;
        }
        Ok(BlasWork::Solve {
            ty: ty(op.b.ty)?,
            alpha: scalar(&op.alpha),
            system: Solve {
                n: unknowns,
                cols: if left { n } else { m },
                alpha: (),
                a,
                b,
                batch: size(op.batch)?,
            },
        })
    }

    /// Does the work.
    pub fn run(&self, ctx: &Context, gpu: &Gpu, abort: &Abort) -> Result<(), Status> {
        let exec = Exec {
            gpu,
            space: &ctx.space,
            abort,
        };
        let done = match self {
            BlasWork::Gemm(work) => gemm(&exec, work),
            BlasWork::Solve { ty, alpha, system } => match ty {
                Type::F32 => run_solve::<f32>(&exec, alpha, system),
                Type::F64 => run_solve::<f64>(&exec, alpha, system),
                Type::C32 => run_solve::<c32>(&exec, alpha, system),
                Type::C64 => run_solve::<c64>(&exec, alpha, system),
                _ => Err(BlasError::Unsupported("the type of a triangular system")),
            },
            // A result in host memory is asked for by a call that waits, not by queued work.
            BlasWork::Routine(work) => work.run(&exec).map(|_| ()),
            BlasWork::Transform(work) => work.run(&exec),
        };
        done.map_err(|error| failed(&error))
    }
}

fn run_solve<T: Num>(exec: &Exec<'_>, alpha: &Scalar, s: &Solve<()>) -> Result<(), BlasError> {
    let alpha = alpha.get::<T>(exec.space, T::OWN)?;
    let &Solve {
        n,
        cols,
        a,
        b,
        batch,
        alpha: (),
    } = s;
    solve(
        exec,
        Solve {
            n,
            cols,
            alpha,
            a,
            b,
            batch,
        },
    )
}

/// Tells of an error, and gives what it is for the context.
pub fn failed(error: &BlasError) -> Status {
    tracing::error!(%error, "a routine of cuBLAS ended with an error");
    status_of(error)
}

fn status_of(error: &BlasError) -> Status {
    match error {
        BlasError::IllegalAddress { .. } => Status::ERROR_ILLEGAL_ADDRESS,
        BlasError::Misaligned { .. } => Status::ERROR_MISALIGNED_ADDRESS,
        BlasError::Unsupported(_) => Status::ERROR_NOT_SUPPORTED,
        BlasError::Aborted => Status::ERROR_LAUNCH_TIMEOUT,
        BlasError::Internal => Status::ERROR_LAUNCH_FAILED,
    }
}
