//! Level 2: a matrix and vectors.

use vgpu_protocol::blas::ty::{C_32F, C_64F, R_32F, R_64F};
use vgpu_protocol::calls::{BlasRoutine, Routine};

use crate::abi::{Device, In, exports};
use crate::routine::{new, part, send};

/// `CUBLAS_OP_T` and `CUBLAS_OP_C`: whether an update conjugates y.
const U: u32 = 1;
const C: u32 = 2;

macro_rules! gemv {
    ($(fn $name:ident | $twin:ident: $ty:expr;)*) => {$(exports! {
        /// `y = alpha op(A) x + beta y`.
        fn $name | $twin [Int] (
            handle: u64, trans: u32, m: Int, n: Int, alpha: In<u8>, a: Device, lda: Int,
            x: Device, incx: Int, beta: In<u8>, y: Device, incy: Int,
        ) {
            let op = BlasRoutine {
                transa: trans, m: m.into(), n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()), c: part($ty, y, incy.into()),
                ..new(Routine::Gemv, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), Some(beta), &[m.into(), n.into()])
        }
    })*};
}
gemv! {
    fn cublasSgemv_v2 | cublasSgemv_v2_64: R_32F;
    fn cublasDgemv_v2 | cublasDgemv_v2_64: R_64F;
    fn cublasCgemv_v2 | cublasCgemv_v2_64: C_32F;
    fn cublasZgemv_v2 | cublasZgemv_v2_64: C_64F;
}

macro_rules! gbmv {
    ($(fn $name:ident | $twin:ident: $ty:expr;)*) => {$(exports! {
        /// The same with a band matrix.
        fn $name | $twin [Int] (
            handle: u64, trans: u32, m: Int, n: Int, kl: Int, ku: Int, alpha: In<u8>, a: Device, lda: Int,
            x: Device, incx: Int, beta: In<u8>, y: Device, incy: Int,
        ) {
            let op = BlasRoutine {
                transa: trans, m: m.into(), n: n.into(), k: kl.into(), ku: ku.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()), c: part($ty, y, incy.into()),
                ..new(Routine::Gbmv, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), Some(beta), &[m.into(), n.into()])
        }
    })*};
}
gbmv! {
    fn cublasSgbmv_v2 | cublasSgbmv_v2_64: R_32F;
    fn cublasDgbmv_v2 | cublasDgbmv_v2_64: R_64F;
    fn cublasCgbmv_v2 | cublasCgbmv_v2_64: C_32F;
    fn cublasZgbmv_v2 | cublasZgbmv_v2_64: C_64F;
}

macro_rules! ger {
    ($(fn $name:ident | $twin:ident: $ty:expr, $conj:expr;)*) => {$(exports! {
        /// `A = alpha x yᵀ + A`.
        fn $name | $twin [Int] (
            handle: u64, m: Int, n: Int, alpha: In<u8>, x: Device, incx: Int, y: Device, incy: Int, a: Device, lda: Int,
        ) {
            let op = BlasRoutine {
                transb: $conj, m: m.into(), n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()), c: part($ty, y, incy.into()),
                ..new(Routine::Ger, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), None, &[m.into(), n.into()])
        }
    })*};
}
ger! {
    fn cublasSger_v2 | cublasSger_v2_64: R_32F, U;
    fn cublasDger_v2 | cublasDger_v2_64: R_64F, U;
    fn cublasCgeru_v2 | cublasCgeru_v2_64: C_32F, U;
    fn cublasCgerc_v2 | cublasCgerc_v2_64: C_32F, C;
    fn cublasZgeru_v2 | cublasZgeru_v2_64: C_64F, U;
    fn cublasZgerc_v2 | cublasZgerc_v2_64: C_64F, C;
}

macro_rules! symv {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// A product with a symmetric or Hermitian matrix.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, n: Int, alpha: In<u8>, a: Device, lda: Int, x: Device, incx: Int,
            beta: In<u8>, y: Device, incy: Int,
        ) {
            let op = BlasRoutine {
                uplo, n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()), c: part($ty, y, incy.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), Some(beta), &[n.into()])
        }
    })*};
}
symv! {
    fn cublasSsymv_v2 | cublasSsymv_v2_64: Symv, R_32F;
    fn cublasDsymv_v2 | cublasDsymv_v2_64: Symv, R_64F;
    fn cublasCsymv_v2 | cublasCsymv_v2_64: Symv, C_32F;
    fn cublasZsymv_v2 | cublasZsymv_v2_64: Symv, C_64F;
    fn cublasChemv_v2 | cublasChemv_v2_64: Hemv, C_32F;
    fn cublasZhemv_v2 | cublasZhemv_v2_64: Hemv, C_64F;
}

macro_rules! sbmv {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// A product with a symmetric or Hermitian band matrix.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, n: Int, k: Int, alpha: In<u8>, a: Device, lda: Int, x: Device, incx: Int,
            beta: In<u8>, y: Device, incy: Int,
        ) {
            let op = BlasRoutine {
                uplo, n: n.into(), k: k.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()), c: part($ty, y, incy.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), Some(beta), &[n.into()])
        }
    })*};
}
sbmv! {
    fn cublasSsbmv_v2 | cublasSsbmv_v2_64: Sbmv, R_32F;
    fn cublasDsbmv_v2 | cublasDsbmv_v2_64: Sbmv, R_64F;
    fn cublasChbmv_v2 | cublasChbmv_v2_64: Hbmv, C_32F;
    fn cublasZhbmv_v2 | cublasZhbmv_v2_64: Hbmv, C_64F;
}

macro_rules! spmv {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// A product with a packed symmetric or Hermitian matrix.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, n: Int, alpha: In<u8>, a: Device, x: Device, incx: Int,
            beta: In<u8>, y: Device, incy: Int,
        ) {
            let op = BlasRoutine {
                uplo, n: n.into(),
                a: part($ty, a, 1), b: part($ty, x, incx.into()), c: part($ty, y, incy.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), Some(beta), &[n.into()])
        }
    })*};
}
spmv! {
    fn cublasSspmv_v2 | cublasSspmv_v2_64: Spmv, R_32F;
    fn cublasDspmv_v2 | cublasDspmv_v2_64: Spmv, R_64F;
    fn cublasChpmv_v2 | cublasChpmv_v2_64: Hpmv, C_32F;
    fn cublasZhpmv_v2 | cublasZhpmv_v2_64: Hpmv, C_64F;
}

macro_rules! syr {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr, $alpha:expr;)*) => {$(exports! {
        /// An update by a vector.
        fn $name | $twin [Int] (handle: u64, uplo: u32, n: Int, alpha: In<u8>, x: Device, incx: Int, a: Device, lda: Int) {
            let op = BlasRoutine {
                uplo, n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()),
                ..new(Routine::$routine, $ty, ($alpha, $ty))
            };
            send(handle, op, Some(alpha), None, &[n.into()])
        }
    })*};
}
syr! {
    fn cublasSsyr_v2 | cublasSsyr_v2_64: Syr, R_32F, R_32F;
    fn cublasDsyr_v2 | cublasDsyr_v2_64: Syr, R_64F, R_64F;
    fn cublasCsyr_v2 | cublasCsyr_v2_64: Syr, C_32F, C_32F;
    fn cublasZsyr_v2 | cublasZsyr_v2_64: Syr, C_64F, C_64F;
    fn cublasCher_v2 | cublasCher_v2_64: Her, C_32F, R_32F;
    fn cublasZher_v2 | cublasZher_v2_64: Her, C_64F, R_64F;
}

macro_rules! spr {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr, $alpha:expr;)*) => {$(exports! {
        /// An update of a packed matrix by a vector.
        fn $name | $twin [Int] (handle: u64, uplo: u32, n: Int, alpha: In<u8>, x: Device, incx: Int, a: Device) {
            let op = BlasRoutine {
                uplo, n: n.into(),
                a: part($ty, a, 1), b: part($ty, x, incx.into()),
                ..new(Routine::$routine, $ty, ($alpha, $ty))
            };
            send(handle, op, Some(alpha), None, &[n.into()])
        }
    })*};
}
spr! {
    fn cublasSspr_v2 | cublasSspr_v2_64: Spr, R_32F, R_32F;
    fn cublasDspr_v2 | cublasDspr_v2_64: Spr, R_64F, R_64F;
    fn cublasChpr_v2 | cublasChpr_v2_64: Hpr, C_32F, R_32F;
    fn cublasZhpr_v2 | cublasZhpr_v2_64: Hpr, C_64F, R_64F;
}

macro_rules! syr2 {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// An update by two vectors.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, n: Int, alpha: In<u8>, x: Device, incx: Int, y: Device, incy: Int, a: Device, lda: Int,
        ) {
            let op = BlasRoutine {
                uplo, n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()), c: part($ty, y, incy.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), None, &[n.into()])
        }
    })*};
}
syr2! {
    fn cublasSsyr2_v2 | cublasSsyr2_v2_64: Syr2, R_32F;
    fn cublasDsyr2_v2 | cublasDsyr2_v2_64: Syr2, R_64F;
    fn cublasCsyr2_v2 | cublasCsyr2_v2_64: Syr2, C_32F;
    fn cublasZsyr2_v2 | cublasZsyr2_v2_64: Syr2, C_64F;
    fn cublasCher2_v2 | cublasCher2_v2_64: Her2, C_32F;
    fn cublasZher2_v2 | cublasZher2_v2_64: Her2, C_64F;
}

macro_rules! spr2 {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// An update of a packed matrix by two vectors.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, n: Int, alpha: In<u8>, x: Device, incx: Int, y: Device, incy: Int, a: Device,
        ) {
            let op = BlasRoutine {
                uplo, n: n.into(),
                a: part($ty, a, 1), b: part($ty, x, incx.into()), c: part($ty, y, incy.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, Some(alpha), None, &[n.into()])
        }
    })*};
}
spr2! {
    fn cublasSspr2_v2 | cublasSspr2_v2_64: Spr2, R_32F;
    fn cublasDspr2_v2 | cublasDspr2_v2_64: Spr2, R_64F;
    fn cublasChpr2_v2 | cublasChpr2_v2_64: Hpr2, C_32F;
    fn cublasZhpr2_v2 | cublasZhpr2_v2_64: Hpr2, C_64F;
}

macro_rules! trmv {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// A triangular matrix and a vector.
        fn $name | $twin [Int] (handle: u64, uplo: u32, trans: u32, diag: u32, n: Int, a: Device, lda: Int, x: Device, incx: Int) {
            let op = BlasRoutine {
                uplo, transa: trans, diag, n: n.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, None, None, &[n.into()])
        }
    })*};
}
trmv! {
    fn cublasStrmv_v2 | cublasStrmv_v2_64: Trmv, R_32F;
    fn cublasDtrmv_v2 | cublasDtrmv_v2_64: Trmv, R_64F;
    fn cublasCtrmv_v2 | cublasCtrmv_v2_64: Trmv, C_32F;
    fn cublasZtrmv_v2 | cublasZtrmv_v2_64: Trmv, C_64F;
    fn cublasStrsv_v2 | cublasStrsv_v2_64: Trsv, R_32F;
    fn cublasDtrsv_v2 | cublasDtrsv_v2_64: Trsv, R_64F;
    fn cublasCtrsv_v2 | cublasCtrsv_v2_64: Trsv, C_32F;
    fn cublasZtrsv_v2 | cublasZtrsv_v2_64: Trsv, C_64F;
}

macro_rules! tbmv {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// A triangular band matrix and a vector.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, trans: u32, diag: u32, n: Int, k: Int, a: Device, lda: Int, x: Device, incx: Int,
        ) {
            let op = BlasRoutine {
                uplo, transa: trans, diag, n: n.into(), k: k.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, None, None, &[n.into()])
        }
    })*};
}
tbmv! {
    fn cublasStbmv_v2 | cublasStbmv_v2_64: Tbmv, R_32F;
    fn cublasDtbmv_v2 | cublasDtbmv_v2_64: Tbmv, R_64F;
    fn cublasCtbmv_v2 | cublasCtbmv_v2_64: Tbmv, C_32F;
    fn cublasZtbmv_v2 | cublasZtbmv_v2_64: Tbmv, C_64F;
    fn cublasStbsv_v2 | cublasStbsv_v2_64: Tbsv, R_32F;
    fn cublasDtbsv_v2 | cublasDtbsv_v2_64: Tbsv, R_64F;
    fn cublasCtbsv_v2 | cublasCtbsv_v2_64: Tbsv, C_32F;
    fn cublasZtbsv_v2 | cublasZtbsv_v2_64: Tbsv, C_64F;
}

macro_rules! tpmv {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// A packed triangular matrix and a vector.
        fn $name | $twin [Int] (handle: u64, uplo: u32, trans: u32, diag: u32, n: Int, a: Device, x: Device, incx: Int) {
            let op = BlasRoutine {
                uplo, transa: trans, diag, n: n.into(),
                a: part($ty, a, 1), b: part($ty, x, incx.into()),
                ..new(Routine::$routine, $ty, ($ty, $ty))
            };
            send(handle, op, None, None, &[n.into()])
        }
    })*};
}
tpmv! {
    fn cublasStpmv_v2 | cublasStpmv_v2_64: Tpmv, R_32F;
    fn cublasDtpmv_v2 | cublasDtpmv_v2_64: Tpmv, R_64F;
    fn cublasCtpmv_v2 | cublasCtpmv_v2_64: Tpmv, C_32F;
    fn cublasZtpmv_v2 | cublasZtpmv_v2_64: Tpmv, C_64F;
    fn cublasStpsv_v2 | cublasStpsv_v2_64: Tpsv, R_32F;
    fn cublasDtpsv_v2 | cublasDtpsv_v2_64: Tpsv, R_64F;
    fn cublasCtpsv_v2 | cublasCtpsv_v2_64: Tpsv, C_32F;
    fn cublasZtpsv_v2 | cublasZtpsv_v2_64: Tpsv, C_64F;
}
