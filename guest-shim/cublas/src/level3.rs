//! Level 3, other than products of two general matrices, and cuBLAS's extensions.

use vgpu_protocol::blas::ty::{C_32F, C_64F, R_32F, R_64F};
use vgpu_protocol::calls::{BlasRoutine, Routine};

use crate::abi::{Device, In, exports};
use crate::routine::{new, part, send};

macro_rules! symm {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// A product with a symmetric or Hermitian matrix on one side.
        fn $name | $twin [Int] (
            handle: u64, side: u32, uplo: u32, m: Int, n: Int, alpha: In<u8>, a: Device, lda: Int, b: Device, ldb: Int,
            beta: In<u8>, c: Device, ldc: Int,
        ) {
            let op = BlasRoutine {
                side, uplo, m: m.into(), n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, b, ldb.into()), c: part($ty, c, ldc.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), Some(beta), &[m.into(), n.into()])
        }
    })*};
}
symm! {
    fn cublasSsymm_v2 | cublasSsymm_v2_64: Symm, R_32F;
    fn cublasDsymm_v2 | cublasDsymm_v2_64: Symm, R_64F;
    fn cublasCsymm_v2 | cublasCsymm_v2_64: Symm, C_32F;
    fn cublasZsymm_v2 | cublasZsymm_v2_64: Symm, C_64F;
    fn cublasChemm_v2 | cublasChemm_v2_64: Hemm, C_32F;
    fn cublasZhemm_v2 | cublasZhemm_v2_64: Hemm, C_64F;
}

macro_rules! syrk {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr, $scalar:expr;)*) => {$(exports! {
        /// A product of a matrix with its own transpose.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, trans: u32, n: Int, k: Int, alpha: In<u8>, a: Device, lda: Int, beta: In<u8>,
            c: Device, ldc: Int,
        ) {
            let op = BlasRoutine {
                uplo, transa: trans, n: n.into(), k: k.into(),
                a: part($ty, a, lda.into()), c: part($ty, c, ldc.into()),
                ..new(Routine::$routine, $ty, ($scalar, $scalar))
            };
            send(handle, op, Some(alpha), Some(beta), &[n.into()])
        }
    })*};
}
syrk! {
    fn cublasSsyrk_v2 | cublasSsyrk_v2_64: Syrk, R_32F, R_32F;
    fn cublasDsyrk_v2 | cublasDsyrk_v2_64: Syrk, R_64F, R_64F;
    fn cublasCsyrk_v2 | cublasCsyrk_v2_64: Syrk, C_32F, C_32F;
    fn cublasZsyrk_v2 | cublasZsyrk_v2_64: Syrk, C_64F, C_64F;
    fn cublasCherk_v2 | cublasCherk_v2_64: Herk, C_32F, R_32F;
    fn cublasZherk_v2 | cublasZherk_v2_64: Herk, C_64F, R_64F;
}

macro_rules! syr2k {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr, $beta:expr;)*) => {$(exports! {
        /// Products of two matrices whose sum, or result, is symmetric or Hermitian.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, trans: u32, n: Int, k: Int, alpha: In<u8>, a: Device, lda: Int, b: Device, ldb: Int,
            beta: In<u8>, c: Device, ldc: Int,
        ) {
            let op = BlasRoutine {
                uplo, transa: trans, n: n.into(), k: k.into(),
                a: part($ty, a, lda.into()), b: part($ty, b, ldb.into()), c: part($ty, c, ldc.into()),
                ..new(Routine::$routine, $ty, ($ty, $beta))
            };
            send(handle, op, Some(alpha), Some(beta), &[n.into()])
        }
    })*};
}
syr2k! {
    fn cublasSsyr2k_v2 | cublasSsyr2k_v2_64: Syr2k, R_32F, R_32F;
    fn cublasDsyr2k_v2 | cublasDsyr2k_v2_64: Syr2k, R_64F, R_64F;
    fn cublasCsyr2k_v2 | cublasCsyr2k_v2_64: Syr2k, C_32F, C_32F;
    fn cublasZsyr2k_v2 | cublasZsyr2k_v2_64: Syr2k, C_64F, C_64F;
    fn cublasCher2k_v2 | cublasCher2k_v2_64: Her2k, C_32F, R_32F;
    fn cublasZher2k_v2 | cublasZher2k_v2_64: Her2k, C_64F, R_64F;
    fn cublasSsyrkx | cublasSsyrkx_64: Syrkx, R_32F, R_32F;
    fn cublasDsyrkx | cublasDsyrkx_64: Syrkx, R_64F, R_64F;
    fn cublasCsyrkx | cublasCsyrkx_64: Syrkx, C_32F, C_32F;
    fn cublasZsyrkx | cublasZsyrkx_64: Syrkx, C_64F, C_64F;
    fn cublasCherkx | cublasCherkx_64: Herkx, C_32F, R_32F;
    fn cublasZherkx | cublasZherkx_64: Herkx, C_64F, R_64F;
}

macro_rules! trmm {
    ($(fn $name:ident | $twin:ident: $ty:expr;)*) => {$(exports! {
        /// A product with a triangular matrix on one side.
        fn $name | $twin [Int] (
            handle: u64, side: u32, uplo: u32, trans: u32, diag: u32, m: Int, n: Int, alpha: In<u8>, a: Device, lda: Int,
            b: Device, ldb: Int, c: Device, ldc: Int,
        ) {
            let op = BlasRoutine {
                side, uplo, transa: trans, diag, m: m.into(), n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, b, ldb.into()), c: part($ty, c, ldc.into()),
                ..new(Routine::Trmm, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), None, &[m.into(), n.into()])
        }
    })*};
}
trmm! {
    fn cublasStrmm_v2 | cublasStrmm_v2_64: R_32F;
    fn cublasDtrmm_v2 | cublasDtrmm_v2_64: R_64F;
    fn cublasCtrmm_v2 | cublasCtrmm_v2_64: C_32F;
    fn cublasZtrmm_v2 | cublasZtrmm_v2_64: C_64F;
}

macro_rules! trsm {
    ($(fn $name:ident | $twin:ident: $ty:expr;)*) => {$(exports! {
        /// Solves triangular systems.
        fn $name | $twin [Int] (
            handle: u64, side: u32, uplo: u32, trans: u32, diag: u32, m: Int, n: Int, alpha: In<u8>, a: Device, lda: Int,
            b: Device, ldb: Int,
        ) {
            let op = BlasRoutine {
                side, uplo, transa: trans, diag, m: m.into(), n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, b, ldb.into()),
                ..new(Routine::Trsm, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), None, &[m.into(), n.into()])
        }
    })*};
}
trsm! {
    fn cublasStrsm_v2 | cublasStrsm_v2_64: R_32F;
    fn cublasDtrsm_v2 | cublasDtrsm_v2_64: R_64F;
    fn cublasCtrsm_v2 | cublasCtrsm_v2_64: C_32F;
    fn cublasZtrsm_v2 | cublasZtrsm_v2_64: C_64F;
}

macro_rules! geam {
    ($(fn $name:ident | $twin:ident: $ty:expr;)*) => {$(exports! {
        /// `C = alpha op(A) + beta op(B)`.
        fn $name | $twin [Int] (
            handle: u64, transa: u32, transb: u32, m: Int, n: Int, alpha: In<u8>, a: Device, lda: Int, beta: In<u8>,
            b: Device, ldb: Int, c: Device, ldc: Int,
        ) {
            let op = BlasRoutine {
                transa, transb, m: m.into(), n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, b, ldb.into()), c: part($ty, c, ldc.into()),
                ..new(Routine::Geam, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), Some(beta), &[m.into(), n.into()])
        }
    })*};
}
geam! {
    fn cublasSgeam | cublasSgeam_64: R_32F;
    fn cublasDgeam | cublasDgeam_64: R_64F;
    fn cublasCgeam | cublasCgeam_64: C_32F;
    fn cublasZgeam | cublasZgeam_64: C_64F;
}

macro_rules! dgmm {
    ($(fn $name:ident | $twin:ident: $ty:expr;)*) => {$(exports! {
        /// `C = A diag(x)`, or with the diagonal on the left.
        fn $name | $twin [Int] (
            handle: u64, side: u32, m: Int, n: Int, a: Device, lda: Int, x: Device, incx: Int, c: Device, ldc: Int,
        ) {
            let op = BlasRoutine {
                side, m: m.into(), n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()), c: part($ty, c, ldc.into()),
                ..new(Routine::Dgmm, $ty, ($ty, $ty))
            };
            send(handle, op, None, None, &[m.into(), n.into()])
        }
    })*};
}
dgmm! {
    fn cublasSdgmm | cublasSdgmm_64: R_32F;
    fn cublasDdgmm | cublasDdgmm_64: R_64F;
    fn cublasCdgmm | cublasCdgmm_64: C_32F;
    fn cublasZdgmm | cublasZdgmm_64: C_64F;
}
