//! Routines of levels 1 to 3 and of batches. For each there are up to four functions, which differ in
//! the type of the elements alone: pointers are passed without it.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use vgpu_protocol::blas::{BlasStatus, ty, type_bytes};
use vgpu_protocol::calls::{BlasRoutine, Routine};

use super::super::object::Stream;
use super::{Factor, Handle, Library, check, entered, int, symbol};
use crate::backend::cuda::mem::DeviceRange;

/// What was checked beside the matrices.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    /// `alpha`.
    pub alpha: Factor,
    /// `beta`.
    pub beta: Factor,
    /// Where a result goes in device memory.
    pub result: Option<DeviceRange>,
    /// Row exchanges of a batch.
    pub pivots: Option<DeviceRange>,
    /// What went wrong with each matrix of a batch.
    pub info: Option<DeviceRange>,
}

type At = *const c_void;

impl Library {
    /// A function by its name.
    fn named(&self, name: &str) -> Result<*mut c_void, BlasStatus> {
        let at = symbol(self.handle, &format!("{name}\0"));
        if at.is_null() {
            return Err(BlasStatus::NOT_SUPPORTED);
        }
        Ok(at)
    }
}

/// The letter of a type in names.
fn letter(number: u32) -> Result<&'static str, BlasStatus> {
    match number {
        ty::R_32F => Ok("S"),
        ty::R_64F => Ok("D"),
        ty::C_32F => Ok("C"),
        ty::C_64F => Ok("Z"),
        _ => Err(BlasStatus::NOT_SUPPORTED),
    }
}

/// The function whose types are arguments, where the elements are not of the type in which is computed.
fn ex_name(routine: Routine, op: &BlasRoutine) -> Option<&'static str> {
    use Routine::*;
    if op.a.ty == op.ty {
        return None;
    }
    Some(match routine {
        Axpy => "cublasAxpyEx",
        Scal => "cublasScalEx",
        Copy => "cublasCopyEx",
        Swap => "cublasSwapEx",
        Rot => "cublasRotEx",
        Rotm => "cublasRotmEx",
        Dot if op.transb == 2 => "cublasDotcEx",
        Dot => "cublasDotEx",
        Nrm2 => "cublasNrm2Ex",
        Asum => "cublasAsumEx",
        Amax => "cublasIamaxEx",
        Amin => "cublasIaminEx",
        Syrk => "cublasCsyrkEx",
        Herk => "cublasCherkEx",
        _ => return None,
    })
}

/// Types in the names of products with a vector of halves: input, factors, result.
fn half_gemv(op: &BlasRoutine) -> Option<&'static str> {
    Some(match (op.a.ty, op.c.ty) {
        (ty::R_16F, ty::R_16F) => "HSH",
        (ty::R_16F, ty::R_32F) => "HSS",
        (ty::R_16BF, ty::R_16BF) => "TST",
        (ty::R_16BF, ty::R_32F) => "TSS",
        _ => return None,
    })
}

/// The function's name.
fn name(routine: Routine, op: &BlasRoutine) -> Result<String, BlasStatus> {
    use Routine::*;
    if let Some(name) = ex_name(routine, op) {
        return Ok(name.to_owned());
    }
    let t = letter(op.ty)?;
    let complex = matches!(t, "C" | "Z");
    let small = if t == "C" { "s" } else { "d" };
    let lower = format!("{routine:?}").to_lowercase();
    // A complex vector is scaled and rotated by real numbers, too.
    let real = |number: u32| matches!(number, ty::R_32F | ty::R_64F);
    Ok(match routine {
        Scal if complex && real(op.scalars.0) => format!("cublas{t}{small}scal_v2"),
        Rot if complex && real(op.scalars.1) => format!("cublas{t}{small}rot_v2"),
        Nrm2 | Asum if complex => {
            let outer = if t == "C" { "Sc" } else { "Dz" };
            format!("cublas{outer}{lower}_v2")
        }
        Amax | Amin => format!("cublasI{}{lower}_v2", t.to_lowercase()),
        Dot if complex => format!("cublas{t}dot{}_v2", if op.transb == 2 { "c" } else { "u" }),
        Ger if complex => format!("cublas{t}ger{}_v2", if op.transb == 2 { "c" } else { "u" }),
        Syrkx | Herkx | Geam | Dgmm => format!("cublas{t}{lower}"),
        GemvBatched | GemvStridedBatched if op.a.ty != op.ty => {
            let types = half_gemv(op).ok_or(BlasStatus::NOT_SUPPORTED)?;
            let rest = if routine == GemvBatched {
                "Batched"
            } else {
                "StridedBatched"
            };
            format!("cublas{types}gemv{rest}")
        }
        GemvBatched | GetrfBatched | GetrsBatched | GetriBatched | MatinvBatched => {
            let stem = lower.trim_end_matches("batched");
            format!("cublas{t}{stem}Batched")
        }
        GemvStridedBatched => format!("cublas{t}gemvStridedBatched"),
        _ => format!("cublas{t}{lower}_v2"),
    })
}

impl Handle {
    /// Calls the library's function for a routine. Gives the bytes of a result in host memory.
    #[allow(clippy::too_many_lines, reason = "one arm for each signature")]
    pub fn routine(
        &mut self,
        stream: &Stream,
        routine: Routine,
        op: &BlasRoutine,
        factors: &Factors,
    ) -> Result<Vec<u8>, BlasStatus> {
        use Routine::*;
        let ctx = Arc::clone(&self.ctx);
        let _alive = ctx.enter().map_err(entered)?;
        let modes = (op.target.math, op.target.atomics);
        // Which factors there are says the routine; results follow the same mode.
        let none = Factor::Host([0; 2]);
        let of_result = factors.result.map_or(none, Factor::Device);
        let used: &[&Factor] = match routine {
            Copy | Swap | Dgmm | Trmv | Tbmv | Tpmv | Trsv | Tbsv | Tpsv => &[&none],
            GetrfBatched | GetrsBatched | GetriBatched | MatinvBatched => &[&none],
            Dot | Nrm2 | Asum | Amax | Amin => &[&of_result],
            Axpy | Scal | Rotm | Ger | Syr | Her | Spr | Hpr => &[&factors.alpha],
            Syr2 | Her2 | Spr2 | Hpr2 | Trmm | Trsm => &[&factors.alpha],
            _ => &[&factors.alpha, &factors.beta],
        };
        self.prepare(stream, modes, used)?;
        let at = self.library.named(&name(routine, op)?)?;
        let h = self.raw;
        let (m, n, k, ku, batch) = (
            int(op.m)?,
            int(op.n)?,
            int(op.k)?,
            int(op.ku)?,
            int(op.batch)?,
        );
        let (lda, ldb, ldc) = (int(op.a.ld)?, int(op.b.ld)?, int(op.c.ld)?);
        let (a, b, c) = (op.a.at.0 as At, op.b.at.0 as At, op.c.at.0 as At);
        let (side, uplo, diag): (c_uint, c_uint, c_uint) = (op.side, op.uplo, op.diag);
        let (ta, tb): (c_uint, c_uint) = (op.transa, op.transb);
        let (alpha, beta) = (factors.alpha.at(), factors.beta.at());
        let address = |range: Option<DeviceRange>| range.map_or(0, DeviceRange::address) as At;
        let mut host = [0u64; 2];
        let result: At = match factors.result {
            Some(range) => range.address() as At,
            None => host.as_mut_ptr().cast_const().cast(),
        };
        let mut status: c_int = 0;
        macro_rules! call {
            ($($value:expr => $ty:ty),* $(,)?) => {{
                // SAFETY:
                // - the function of this name has these parameters (cublas_api.h; those that differ in
                //   the type of elements alone are one here);
                // - a live handle; numbers, which the library checks; factors that live until the call
                //   returns or lie in device memory as the mode says; device memory that the caller has
                //   checked; a place of 16 bytes for a result in host memory.
                let returned = unsafe {
                    let f: unsafe extern "C" fn($($ty),*) -> c_uint = std::mem::transmute(at);
                    f($($value),*)
                };
                check(returned)?
            }};
        }
        type H = cudarc::cublas::sys::cublasHandle_t;
        type I = c_int;
        type U = c_uint;
        let (at_type, bt, ct, factor, ex) = (op.a.ty, op.b.ty, op.c.ty, op.scalars.0, op.ty);
        let typed = ex_name(routine, op).is_some();
        match routine {
            Axpy if typed => {
                call!(h => H, n => I, alpha => At, factor => U, a => At, at_type => U, lda => I, b => At, bt => U, ldb => I, ex => U)
            }
            Scal if typed => {
                call!(h => H, n => I, alpha => At, factor => U, a => At, at_type => U, lda => I, ex => U)
            }
            Copy | Swap if typed => {
                call!(h => H, n => I, a => At, at_type => U, lda => I, b => At, bt => U, ldb => I)
            }
            Rot if typed => {
                call!(h => H, n => I, a => At, at_type => U, lda => I, b => At, bt => U, ldb => I, alpha => At, beta => At, op.scalars.1 => U, ex => U)
            }
            Dot if typed => {
                call!(h => H, n => I, a => At, at_type => U, lda => I, b => At, bt => U, ldb => I, result => At, factor => U, ex => U)
            }
            Nrm2 | Asum if typed => {
                call!(h => H, n => I, a => At, at_type => U, lda => I, result => At, factor => U, ex => U)
            }
            Amax | Amin if typed => {
                call!(h => H, n => I, a => At, at_type => U, lda => I, result => At)
            }
            Syrk | Herk if typed => {
                call!(h => H, uplo => U, ta => U, n => I, k => I, alpha => At, a => At, at_type => U, lda => I, beta => At, c => At, ct => U, ldc => I)
            }
            // Of halves the parameters would be halves.
            Rotm if typed => return Err(BlasStatus::NOT_SUPPORTED),
            Axpy => call!(h => H, n => I, alpha => At, a => At, lda => I, b => At, ldb => I),
            Copy | Swap => call!(h => H, n => I, a => At, lda => I, b => At, ldb => I),
            Scal => call!(h => H, n => I, alpha => At, a => At, lda => I),
            Rot => {
                call!(h => H, n => I, a => At, lda => I, b => At, ldb => I, alpha => At, beta => At)
            }
            Rotm => {
                let params: At = match &factors.alpha {
                    Factor::Device(range) => range.address() as At,
                    Factor::Host(_) => op.param.as_ptr().cast(),
                };
                call!(h => H, n => I, a => At, lda => I, b => At, ldb => I, params => At);
            }
            Dot => call!(h => H, n => I, a => At, lda => I, b => At, ldb => I, result => At),
            Nrm2 | Asum | Amax | Amin => call!(h => H, n => I, a => At, lda => I, result => At),
            Gemv => {
                call!(h => H, ta => U, m => I, n => I, alpha => At, a => At, lda => I, b => At, ldb => I, beta => At, c => At, ldc => I)
            }
            Gbmv => {
                call!(h => H, ta => U, m => I, n => I, k => I, ku => I, alpha => At, a => At, lda => I, b => At, ldb => I, beta => At, c => At, ldc => I)
            }
            Ger => {
                call!(h => H, m => I, n => I, alpha => At, b => At, ldb => I, c => At, ldc => I, a => At, lda => I)
            }
            Symv | Hemv => {
                call!(h => H, uplo => U, n => I, alpha => At, a => At, lda => I, b => At, ldb => I, beta => At, c => At, ldc => I)
            }
            Sbmv | Hbmv => {
                call!(h => H, uplo => U, n => I, k => I, alpha => At, a => At, lda => I, b => At, ldb => I, beta => At, c => At, ldc => I)
            }
            Spmv | Hpmv => {
                call!(h => H, uplo => U, n => I, alpha => At, a => At, b => At, ldb => I, beta => At, c => At, ldc => I)
            }
            Syr | Her => {
                call!(h => H, uplo => U, n => I, alpha => At, b => At, ldb => I, a => At, lda => I)
            }
            Spr | Hpr => call!(h => H, uplo => U, n => I, alpha => At, b => At, ldb => I, a => At),
            Syr2 | Her2 => {
                call!(h => H, uplo => U, n => I, alpha => At, b => At, ldb => I, c => At, ldc => I, a => At, lda => I)
            }
            Spr2 | Hpr2 => {
                call!(h => H, uplo => U, n => I, alpha => At, b => At, ldb => I, c => At, ldc => I, a => At)
            }
            Trmv | Trsv => {
                call!(h => H, uplo => U, ta => U, diag => U, n => I, a => At, lda => I, b => At, ldb => I)
            }
            Tbmv | Tbsv => {
                call!(h => H, uplo => U, ta => U, diag => U, n => I, k => I, a => At, lda => I, b => At, ldb => I)
            }
            Tpmv | Tpsv => {
                call!(h => H, uplo => U, ta => U, diag => U, n => I, a => At, b => At, ldb => I)
            }
            Symm | Hemm => {
                call!(h => H, side => U, uplo => U, m => I, n => I, alpha => At, a => At, lda => I, b => At, ldb => I, beta => At, c => At, ldc => I)
            }
            Syrk | Herk => {
                call!(h => H, uplo => U, ta => U, n => I, k => I, alpha => At, a => At, lda => I, beta => At, c => At, ldc => I)
            }
            Syr2k | Her2k | Syrkx | Herkx => {
                call!(h => H, uplo => U, ta => U, n => I, k => I, alpha => At, a => At, lda => I, b => At, ldb => I, beta => At, c => At, ldc => I)
            }
            Trmm => {
                call!(h => H, side => U, uplo => U, ta => U, diag => U, m => I, n => I, alpha => At, a => At, lda => I, b => At, ldb => I, c => At, ldc => I)
            }
            Trsm => {
                call!(h => H, side => U, uplo => U, ta => U, diag => U, m => I, n => I, alpha => At, a => At, lda => I, b => At, ldb => I)
            }
            Geam => {
                call!(h => H, ta => U, tb => U, m => I, n => I, alpha => At, a => At, lda => I, beta => At, b => At, ldb => I, c => At, ldc => I)
            }
            Dgmm => {
                call!(h => H, side => U, m => I, n => I, a => At, lda => I, b => At, ldb => I, c => At, ldc => I)
            }
            GemvBatched => {
                call!(h => H, ta => U, m => I, n => I, alpha => At, a => At, lda => I, b => At, ldb => I, beta => At, c => At, ldc => I, batch => I)
            }
            GemvStridedBatched => {
                call!(h => H, ta => U, m => I, n => I, alpha => At, a => At, lda => I, op.a.stride => i64, b => At, ldb => I, op.b.stride => i64, beta => At, c => At, ldc => I, op.c.stride => i64, batch => I)
            }
            GetrfBatched => {
                call!(h => H, n => I, a => At, lda => I, address(factors.pivots) => At, address(factors.info) => At, batch => I)
            }
            GetriBatched => {
                call!(h => H, n => I, a => At, lda => I, address(factors.pivots) => At, c => At, ldc => I, address(factors.info) => At, batch => I)
            }
            MatinvBatched => {
                call!(h => H, n => I, a => At, lda => I, c => At, ldc => I, address(factors.info) => At, batch => I)
            }
            GetrsBatched => {
                let info: At = (&raw mut status).cast_const().cast();
                call!(h => H, ta => U, n => I, k => I, a => At, lda => I, address(factors.pivots) => At, b => At, ldb => I, info => At, batch => I);
            }
        }
        if factors.result.is_some() {
            return Ok(Vec::new());
        }
        let bytes: Vec<u8> = host.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(bytes[..result_bytes(routine, op)].to_vec())
    }
}

/// Size of a result in bytes.
pub fn result_bytes(routine: Routine, op: &BlasRoutine) -> usize {
    let typed = ex_name(routine, op).is_some();
    match routine {
        Routine::Dot | Routine::Nrm2 | Routine::Asum if typed => {
            type_bytes(op.scalars.0).unwrap_or(0) as usize
        }
        Routine::Dot if op.ty == ty::C_64F => 16,
        Routine::Dot if op.ty == ty::C_32F => 8,
        Routine::Amax | Routine::Amin => 4,
        Routine::Dot | Routine::Nrm2 | Routine::Asum => {
            if matches!(op.ty, ty::R_64F | ty::C_64F) {
                8
            } else {
                4
            }
        }
        _ => 0,
    }
}
