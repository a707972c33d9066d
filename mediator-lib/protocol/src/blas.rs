//! What guest and host both check of cuBLAS's arguments, by the cuBLAS Library's documentation.

use crate::calls::{BlasGemm, BlasMatrix, BlasRoutine, BlasTrsmBatched, Routine};

/// A `cublasStatus_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlasStatus(pub u32);

#[allow(missing_docs, reason = "the names are NVIDIA's own")]
impl BlasStatus {
    pub const SUCCESS: BlasStatus = BlasStatus(0);
    pub const NOT_INITIALIZED: BlasStatus = BlasStatus(1);
    pub const ALLOC_FAILED: BlasStatus = BlasStatus(3);
    pub const INVALID_VALUE: BlasStatus = BlasStatus(7);
    pub const ARCH_MISMATCH: BlasStatus = BlasStatus(8);
    pub const MAPPING_ERROR: BlasStatus = BlasStatus(11);
    pub const EXECUTION_FAILED: BlasStatus = BlasStatus(13);
    pub const INTERNAL_ERROR: BlasStatus = BlasStatus(14);
    pub const NOT_SUPPORTED: BlasStatus = BlasStatus(15);
    pub const LICENSE_ERROR: BlasStatus = BlasStatus(16);

    /// The documented name.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            BlasStatus::SUCCESS => "CUBLAS_STATUS_SUCCESS",
            BlasStatus::NOT_INITIALIZED => "CUBLAS_STATUS_NOT_INITIALIZED",
            BlasStatus::ALLOC_FAILED => "CUBLAS_STATUS_ALLOC_FAILED",
            BlasStatus::INVALID_VALUE => "CUBLAS_STATUS_INVALID_VALUE",
            BlasStatus::ARCH_MISMATCH => "CUBLAS_STATUS_ARCH_MISMATCH",
            BlasStatus::MAPPING_ERROR => "CUBLAS_STATUS_MAPPING_ERROR",
            BlasStatus::EXECUTION_FAILED => "CUBLAS_STATUS_EXECUTION_FAILED",
            BlasStatus::INTERNAL_ERROR => "CUBLAS_STATUS_INTERNAL_ERROR",
            BlasStatus::NOT_SUPPORTED => "CUBLAS_STATUS_NOT_SUPPORTED",
            BlasStatus::LICENSE_ERROR => "CUBLAS_STATUS_LICENSE_ERROR",
            _ => return None,
        })
    }
}

/// Numbers of `cudaDataType` (`library_types.h`).
#[allow(missing_docs, reason = "the names are NVIDIA's own")]
pub mod ty {
    pub const R_32F: u32 = 0;
    pub const R_64F: u32 = 1;
    pub const R_16F: u32 = 2;
    pub const R_8I: u32 = 3;
    pub const C_32F: u32 = 4;
    pub const C_64F: u32 = 5;
    pub const C_8I: u32 = 7;
    pub const R_32I: u32 = 10;
    pub const R_16BF: u32 = 14;
}

/// What a `cublasComputeType_t` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComputeKind {
    /// `CUBLAS_COMPUTE_16F` and `_PEDANTIC`.
    F16,
    /// `CUBLAS_COMPUTE_32F` and `_PEDANTIC`.
    F32,
    /// `CUBLAS_COMPUTE_32F_FAST_16F`, `_FAST_16BF`, `_FAST_TF32`, `_EMULATED_16BFX9`: single precision
    /// for matrices of single precision, which may be computed with less, or with more.
    F32Fast,
    /// `CUBLAS_COMPUTE_64F`, `_PEDANTIC`, `_EMULATED_FIXEDPOINT`.
    F64,
    /// `CUBLAS_COMPUTE_32I` and `_PEDANTIC`.
    I32,
}

impl ComputeKind {
    /// By the number of `cublasComputeType_t`.
    pub fn from_number(number: u32) -> Option<ComputeKind> {
        Some(match number {
            64 | 65 => ComputeKind::F16,
            68 | 69 => ComputeKind::F32,
            74 | 75 | 77 | 78 => ComputeKind::F32Fast,
            70 | 71 | 79 => ComputeKind::F64,
            72 | 73 => ComputeKind::I32,
            _ => return None,
        })
    }

    /// True for the types of A, B and C that the table of `cublasGemmEx` lists.
    pub fn takes(self, a: u32, b: u32, c: u32) -> bool {
        use ty::*;
        if a != b {
            return false;
        }
        match self {
            ComputeKind::F16 => (a, c) == (R_16F, R_16F),
            ComputeKind::I32 => (a, c) == (R_8I, R_32I),
            ComputeKind::F32 => matches!(
                (a, c),
                (R_16BF, R_16BF)
                    | (R_16F, R_16F)
                    | (R_8I, R_32F)
                    | (R_16BF, R_32F)
                    | (R_16F, R_32F)
                    | (R_32F, R_32F)
                    | (C_8I, C_32F)
                    | (C_32F, C_32F)
            ),
            ComputeKind::F32Fast => matches!((a, c), (R_32F, R_32F) | (C_32F, C_32F)),
            ComputeKind::F64 => matches!((a, c), (R_64F, R_64F) | (C_64F, C_64F)),
        }
    }

    /// `cudaDataType` of alpha and beta, by that of C.
    pub fn scale_type(self, c: u32) -> u32 {
        let complex = matches!(c, ty::C_32F | ty::C_64F);
        match (self, complex) {
            (ComputeKind::F16, _) => ty::R_16F,
            (ComputeKind::I32, _) => ty::R_32I,
            (ComputeKind::F32 | ComputeKind::F32Fast, false) => ty::R_32F,
            (ComputeKind::F32 | ComputeKind::F32Fast, true) => ty::C_32F,
            (ComputeKind::F64, false) => ty::R_64F,
            (ComputeKind::F64, true) => ty::C_64F,
        }
    }
}

/// Size in bytes of an element, or of a scalar.
pub fn type_bytes(ty: u32) -> Option<u64> {
    Some(match ty {
        ty::R_8I => 1,
        ty::R_16F | ty::R_16BF | ty::C_8I => 2,
        ty::R_32F | ty::R_32I => 4,
        ty::R_64F | ty::C_32F => 8,
        ty::C_64F => 16,
        _ => return None,
    })
}

fn valid(condition: bool) -> Result<(), BlasStatus> {
    if condition {
        Ok(())
    } else {
        Err(BlasStatus::INVALID_VALUE)
    }
}

/// A leading dimension of at least `max(1, rows)`.
fn leading(matrix: &BlasMatrix, rows: i64) -> Result<(), BlasStatus> {
    valid(matrix.ld >= rows.max(1))
}

impl BlasGemm {
    /// Checks all that the documentation of `cublasGemmEx` calls an invalid value, then the table of
    /// types.
    ///
    /// # Errors
    /// `CUBLAS_STATUS_INVALID_VALUE`, `CUBLAS_STATUS_NOT_SUPPORTED`.
    pub fn check(&self) -> Result<ComputeKind, BlasStatus> {
        valid(self.m >= 0 && self.n >= 0 && self.k >= 0 && self.batch >= 0)?;
        valid(self.transa <= 2 && self.transb <= 2)?;
        leading(&self.a, if self.transa == 0 { self.m } else { self.k })?;
        leading(&self.b, if self.transb == 0 { self.k } else { self.n })?;
        leading(&self.c, self.m)?;
        let kind = ComputeKind::from_number(self.compute).ok_or(BlasStatus::INVALID_VALUE)?;
        if !kind.takes(self.a.ty, self.b.ty, self.c.ty) {
            return Err(BlasStatus::NOT_SUPPORTED);
        }
        // "CUBLAS_COMPUTE_32I and CUBLAS_COMPUTE_32I_PEDANTIC compute types are only supported with A,
        // B being 4-byte aligned and lda, ldb being multiples of 4."
        let by_fours = self.a.ld % 4 == 0
            && self.b.ld % 4 == 0
            && self.a.at.0.is_multiple_of(4)
            && self.b.at.0.is_multiple_of(4);
        if kind == ComputeKind::I32 && !by_fours {
            return Err(BlasStatus::NOT_SUPPORTED);
        }
        Ok(kind)
    }
}

impl BlasTrsmBatched {
    /// Checks all that the documentation of `cublas<t>trsmBatched` calls an invalid value.
    ///
    /// # Errors
    /// `CUBLAS_STATUS_INVALID_VALUE`.
    pub fn check(&self) -> Result<(), BlasStatus> {
        valid(self.m >= 0 && self.n >= 0 && self.batch >= 0)?;
        valid(self.side <= 1 && self.uplo <= 1 && self.trans <= 2 && self.diag <= 1)?;
        leading(&self.a, if self.side == 0 { self.m } else { self.n })?;
        leading(&self.b, self.m)?;
        let known = matches!(self.a.ty, ty::R_32F | ty::R_64F | ty::C_32F | ty::C_64F);
        valid(known && self.a.ty == self.b.ty)
    }
}

impl BlasRoutine {
    /// Checks all that the documentation calls an invalid value: sizes, numbers of enumerations,
    /// leading dimensions, increments.
    ///
    /// # Errors
    /// `CUBLAS_STATUS_INVALID_VALUE`.
    pub fn check(&self) -> Result<Routine, BlasStatus> {
        use Routine::*;
        let routine = Routine::from_wire(self.routine).ok_or(BlasStatus::INVALID_VALUE)?;
        valid(self.side <= 1 && self.uplo <= 1 && self.diag <= 1)?;
        valid(self.transa <= 2 && self.transb <= 2)?;
        valid(self.m >= 0 && self.k >= 0 && self.ku >= 0 && self.batch >= 0)?;
        // "If n ≤ 0 there is nothing to do", as in reference BLAS; only the vectors' routines say so.
        valid(self.n >= 0)?;
        let (m, n, k) = (self.m, self.n, self.k);
        let order = if self.side == 0 { m } else { n };
        let increments = |vectors: &[&BlasMatrix]| valid(vectors.iter().all(|v| v.ld != 0));
        match routine {
            Axpy | Copy | Swap | Scal | Rot | Rotm | Dot | Nrm2 | Asum | Amax | Amin => Ok(()),
            Gemv | GemvBatched | GemvStridedBatched | Ger => {
                leading(&self.a, m)?;
                increments(&[&self.b, &self.c])
            }
            Gbmv => {
                valid(self.a.ld > k.saturating_add(self.ku))?;
                increments(&[&self.b, &self.c])
            }
            Symv | Hemv | Syr2 | Her2 => {
                leading(&self.a, n)?;
                increments(&[&self.b, &self.c])
            }
            Sbmv | Hbmv => {
                valid(self.a.ld > k)?;
                increments(&[&self.b, &self.c])
            }
            Spmv | Hpmv | Spr2 | Hpr2 => increments(&[&self.b, &self.c]),
            Syr | Her | Trmv | Trsv => {
                leading(&self.a, n)?;
                increments(&[&self.b])
            }
            Spr | Hpr | Tpmv | Tpsv => increments(&[&self.b]),
            Tbmv | Tbsv => {
                valid(self.a.ld > k)?;
                increments(&[&self.b])
            }
            Symm | Hemm => {
                leading(&self.a, order)?;
                leading(&self.b, m)?;
                leading(&self.c, m)
            }
            Syrk | Herk | Syrkx | Herkx | Syr2k | Her2k => {
                let rows = if self.transa == 0 { n } else { k };
                leading(&self.a, rows)?;
                if !matches!(routine, Syrk | Herk) {
                    leading(&self.b, rows)?;
                }
                let complex = matches!(self.ty, ty::C_32F | ty::C_64F);
                let hermitian = matches!(routine, Herk | Herkx | Her2k);
                // Transposed without conjugation is not Hermitian, and the reverse.
                valid(!hermitian || self.transa != 1)?;
                valid(hermitian || !complex || self.transa != 2)?;
                leading(&self.c, n)
            }
            Trmm => {
                leading(&self.a, order)?;
                leading(&self.b, m)?;
                leading(&self.c, m)
            }
            Trsm => {
                leading(&self.a, order)?;
                leading(&self.b, m)
            }
            Geam => {
                leading(&self.a, if self.transa == 0 { m } else { n })?;
                leading(&self.b, if self.transb == 0 { m } else { n })?;
                leading(&self.c, m)
            }
            Dgmm => {
                leading(&self.a, m)?;
                leading(&self.c, m)
            }
            GetrfBatched => leading(&self.a, n),
            GetriBatched => {
                leading(&self.a, n)?;
                leading(&self.c, n)
            }
            // "n … less than 32".
            MatinvBatched => {
                leading(&self.a, n)?;
                leading(&self.c, n)?;
                valid(n <= 32)
            }
            GetrsBatched => {
                leading(&self.a, n)?;
                leading(&self.b, n)
            }
        }?;
        Ok(routine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_types_is_nvidia_s() {
        let types = [
            ty::R_32F,
            ty::R_64F,
            ty::R_16F,
            ty::R_8I,
            ty::C_32F,
            ty::C_64F,
            ty::C_8I,
            ty::R_32I,
            ty::R_16BF,
        ];
        // Rows of each compute type in the table.
        for (numbers, rows) in [
            (&[64, 65][..], 1),
            (&[72, 73], 1),
            (&[68, 69], 8),
            (&[74, 75, 77], 2),
            (&[70, 71], 2),
        ] {
            for number in numbers {
                let kind = ComputeKind::from_number(*number).expect("a compute type");
                let mut found = 0;
                for a in types {
                    for b in types {
                        found += types.iter().filter(|c| kind.takes(a, b, **c)).count();
                    }
                }
                assert_eq!(found, rows, "{kind:?}");
            }
        }
        for number in [0, 63, 66, 67, 76, 80, u32::MAX] {
            assert_eq!(ComputeKind::from_number(number), None);
        }
    }
}
