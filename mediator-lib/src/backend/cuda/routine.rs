//! cuBLAS's routines of levels 1 to 3 and of batches: their memory is checked, and the host's library called.

use vgpu_protocol::Status;
use vgpu_protocol::blas::{ty, type_bytes};
use vgpu_protocol::calls::{BlasMatrix, BlasRoutine, CtxId, DevPtr, Level, Routine};

use super::blas::refused;
use super::session::CudaSession;
use super::sys::blas::routine::{Factors, result_bytes};

/// The real type of the numbers of a type.
fn real(number: u32) -> u32 {
    match number {
        ty::C_32F => ty::R_32F,
        ty::C_64F => ty::R_64F,
        own => own,
    }
}

/// Checks that the types are those of a function of the library: it is chosen by some of them, and touches
/// elements and factors of the types in its name, whatever the message says of the others.
fn require_types(routine: Routine, op: &BlasRoutine) -> Result<(), Status> {
    use Routine::*;
    let one = |number| [number, number, number];
    let (elements, scalars) = match routine {
        GemvBatched | GemvStridedBatched if op.a.ty != op.ty => {
            // Halves with single precision: the result is of either.
            (
                [op.a.ty, op.a.ty, op.c.ty],
                [(ty::R_32F, ty::R_32F)].to_vec(),
            )
        }
        // Functions whose types are arguments.
        Syrk if op.a.ty != op.ty => (
            [op.a.ty, ty::C_32F, ty::C_32F],
            vec![(ty::C_32F, ty::C_32F)],
        ),
        Herk if op.a.ty != op.ty => (
            [op.a.ty, ty::C_32F, ty::C_32F],
            vec![(ty::R_32F, ty::R_32F)],
        ),
        _ if matches!(routine.level(), Level::One | Level::Result) && op.a.ty != op.ty => {
            let halves = matches!(op.a.ty, ty::R_16F | ty::R_16BF) && op.ty == ty::R_32F;
            if !halves {
                return Err(Status::ERROR_NOT_SUPPORTED);
            }
            (
                one(op.a.ty),
                vec![(op.ty, op.ty), (op.a.ty, op.a.ty), (op.a.ty, op.ty)],
            )
        }
        // A complex vector may be scaled and rotated by real numbers.
        Scal => (one(op.ty), vec![(op.ty, op.ty), (real(op.ty), op.ty)]),
        Rot => (
            one(op.ty),
            vec![(real(op.ty), op.ty), (real(op.ty), real(op.ty))],
        ),
        Her | Hpr => (one(op.ty), vec![(real(op.ty), op.ty)]),
        Herk => (one(op.ty), vec![(real(op.ty), real(op.ty))]),
        Her2k | Herkx => (one(op.ty), vec![(op.ty, real(op.ty))]),
        // The first is the result's, where a function has one as argument.
        Nrm2 | Asum => (one(op.ty), vec![(op.ty, op.ty), (real(op.ty), op.ty)]),
        _ => (one(op.ty), vec![(op.ty, op.ty)]),
    };
    // Of what a routine does not use the sender says nothing else.
    let fits = [op.a.ty, op.b.ty, op.c.ty] == elements
        || matches!(routine.level(), Level::One | Level::Result)
            && [op.a.ty, op.b.ty] == elements[..2];
    if fits && scalars.contains(&op.scalars) {
        Ok(())
    } else {
        Err(Status::ERROR_INVALID_VALUE)
    }
}

impl CudaSession {
    /// Checks a vector. Its increment may be negative: the memory is the same.
    fn require_vector(&self, owner: CtxId, v: &BlasMatrix, count: i64) -> Result<(), Status> {
        if count == 0 {
            return Ok(());
        }
        let last = (count - 1).checked_mul(v.ld.checked_abs().ok_or(Status::ERROR_INVALID_VALUE)?);
        let elements = last.and_then(|last| last.checked_add(1));
        self.require_elements(owner, v, elements)
    }

    fn require_elements(
        &self,
        owner: CtxId,
        m: &BlasMatrix,
        elements: Option<i64>,
    ) -> Result<(), Status> {
        let size = type_bytes(m.ty).ok_or(Status::ERROR_INVALID_VALUE)?;
        let bytes = elements.and_then(|e| e.checked_mul(size as i64));
        let bytes = bytes.ok_or(Status::ERROR_INVALID_VALUE)?;
        self.range(owner, m.at, bytes as u64)?;
        Ok(())
    }

    /// Checks A as it is stored.
    fn require_a(&self, owner: CtxId, routine: Routine, op: &BlasRoutine) -> Result<(), Status> {
        use Routine::*;
        let (m, n, k) = (op.m, op.n, op.k);
        let order = if op.side == 0 { m } else { n };
        let turned = |rows, cols| {
            if op.transa == 0 {
                (rows, cols)
            } else {
                (cols, rows)
            }
        };
        let size = match routine {
            Gemv | Ger | Dgmm => (m, n),
            Geam => turned(m, n),
            Symm | Hemm | Trmm | Trsm => (order, order),
            Syrk | Herk | Syrkx | Herkx | Syr2k | Her2k => turned(n, k),
            Gbmv | Sbmv | Hbmv | Tbmv | Tbsv => {
                if n == 0 {
                    return Ok(());
                }
                // Columns of so many diagonals.
                let above = if routine == Gbmv { op.ku } else { 0 };
                let last = (n - 1).checked_mul(op.a.ld);
                let all =
                    last.and_then(|last| last.checked_add(k)?.checked_add(above)?.checked_add(1));
                return self.require_elements(owner, &op.a, all);
            }
            Spmv | Hpmv | Spr | Hpr | Spr2 | Hpr2 | Tpmv | Tpsv => {
                let all = n.checked_add(1).and_then(|next| n.checked_mul(next));
                return self.require_elements(owner, &op.a, all.map(|all| all / 2));
            }
            _ => (n, n),
        };
        self.require_matrix(owner, &op.a, size, 0, 1)
    }

    fn require_routine(
        &self,
        owner: CtxId,
        routine: Routine,
        op: &BlasRoutine,
    ) -> Result<(), Status> {
        use Routine::*;
        let (m, n) = (op.m, op.n);
        match routine {
            Scal | Nrm2 | Asum | Amax | Amin => return self.require_vector(owner, &op.a, n),
            Axpy | Copy | Swap | Rot | Rotm | Dot => {
                self.require_vector(owner, &op.a, n)?;
                return self.require_vector(owner, &op.b, n);
            }
            GemvBatched => {
                for part in [&op.a, &op.b, &op.c] {
                    self.require_pointers(owner, part, op.batch)?;
                }
                return Ok(());
            }
            GemvStridedBatched => {
                let (rows, cols) = if op.transa == 0 { (m, n) } else { (n, m) };
                self.require_matrix(owner, &op.a, (m, n), op.a.stride, op.batch)?;
                for (v, count) in [(&op.b, cols), (&op.c, rows)] {
                    let step = v.ld.checked_abs().ok_or(Status::ERROR_INVALID_VALUE)?;
                    let row = BlasMatrix {
                        ld: step,
                        ..v.clone()
                    };
                    self.require_matrix(owner, &row, (1, count), v.stride, op.batch)?;
                }
                return Ok(());
            }
            GetrfBatched => return self.require_pointers(owner, &op.a, op.batch),
            GetriBatched | MatinvBatched => {
                self.require_pointers(owner, &op.a, op.batch)?;
                return self.require_pointers(owner, &op.c, op.batch);
            }
            GetrsBatched => {
                self.require_pointers(owner, &op.a, op.batch)?;
                return self.require_pointers(owner, &op.b, op.batch);
            }
            _ => {}
        }
        self.require_a(owner, routine, op)?;
        match routine {
            Gemv | Gbmv => {
                let (rows, cols) = if op.transa == 0 { (m, n) } else { (n, m) };
                self.require_vector(owner, &op.b, cols)?;
                self.require_vector(owner, &op.c, rows)
            }
            Ger => {
                self.require_vector(owner, &op.b, m)?;
                self.require_vector(owner, &op.c, n)
            }
            Symv | Hemv | Sbmv | Hbmv | Spmv | Hpmv | Syr2 | Her2 | Spr2 | Hpr2 => {
                self.require_vector(owner, &op.b, n)?;
                self.require_vector(owner, &op.c, n)
            }
            Dgmm => {
                self.require_vector(owner, &op.b, if op.side == 0 { m } else { n })?;
                self.require_matrix(owner, &op.c, (m, n), 0, 1)
            }
            Geam => {
                let size = if op.transb == 0 { (m, n) } else { (n, m) };
                self.require_matrix(owner, &op.b, size, 0, 1)?;
                self.require_matrix(owner, &op.c, (m, n), 0, 1)
            }
            Symm | Hemm | Trmm => {
                self.require_matrix(owner, &op.b, (m, n), 0, 1)?;
                self.require_matrix(owner, &op.c, (m, n), 0, 1)
            }
            Trsm => self.require_matrix(owner, &op.b, (m, n), 0, 1),
            Syrk | Herk => self.require_matrix(owner, &op.c, (n, n), 0, 1),
            Syrkx | Herkx | Syr2k | Her2k => {
                let size = if op.transa == 0 { (n, op.k) } else { (op.k, n) };
                self.require_matrix(owner, &op.b, size, 0, 1)?;
                self.require_matrix(owner, &op.c, (n, n), 0, 1)
            }
            // Triangles with a vector, and updates by one.
            _ => self.require_vector(owner, &op.b, n),
        }
    }

    /// Runs a routine; gives the bytes of a result that the library has put into host memory.
    pub(super) fn routine(
        &mut self,
        ctx: CtxId,
        op: &BlasRoutine,
        level: Level,
    ) -> Result<Vec<u8>, Status> {
        let routine = op.check().map_err(refused)?;
        if routine.level() != level {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        require_types(routine, op)?;
        let owner = self.owner(ctx, op.target.stream)?;
        self.require_routine(owner, routine, op)?;
        let bytes = |ty| type_bytes(ty).ok_or(Status::ERROR_INVALID_VALUE);
        let first = if routine == Routine::Rotm {
            // The parameters: five elements.
            5 * bytes(op.ty)?
        } else {
            bytes(op.scalars.0)?
        };
        let mut factors = Factors {
            alpha: self.factor(owner, &op.alpha, first)?,
            beta: self.factor(owner, &op.beta, bytes(op.scalars.1)?)?,
            result: None,
            pivots: None,
            info: None,
        };
        if level == Level::Result && op.result.0 != 0 {
            if matches!(routine, Routine::Amax | Routine::Amin) && op.result_bytes == 8 {
                // The functions of 32-bit sizes store 32-bit indices.
                return Err(Status::ERROR_NOT_SUPPORTED);
            }
            let bytes = result_bytes(routine, op) as u64;
            factors.result = self.range(owner, op.result, bytes)?;
        }
        if level == Level::Batched {
            let words = |count: Option<i64>| count.and_then(|c| c.checked_mul(4));
            let pivots = words(op.n.checked_mul(op.batch)).ok_or(Status::ERROR_INVALID_VALUE)?;
            let info = words(Some(op.batch)).ok_or(Status::ERROR_INVALID_VALUE)?;
            let at = |ptr: DevPtr, bytes: i64| match ptr.0 {
                0 => Ok(None),
                _ => self.range(owner, ptr, bytes as u64),
            };
            factors.pivots = at(op.result, pivots)?;
            // Of getrs it is one word in the guest's memory, which the guest sets itself.
            factors.info = at(op.info, info)?;
        }
        let mut result = Vec::new();
        self.with_blas(ctx, &op.target, |handle, stream| {
            result = handle.routine(stream, routine, op, &factors)?;
            Ok(())
        })?;
        Ok(result)
    }
}
