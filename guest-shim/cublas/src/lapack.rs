//! Batches of small systems: LU factorisation, solving and inverting.

use vgpu_protocol::blas::ty::{C_32F, C_64F, R_32F, R_64F};
use vgpu_protocol::calls::{BlasRoutine, Routine};

use crate::abi::{Device, Out, exports};
use crate::handle;
use crate::routine::{new, part, send};

macro_rules! getrf {
    ($(fn $name:ident: $ty:expr;)*) => {$(exports! {
        /// LU factorisation, with row exchanges where there is an array for them.
        fn $name(handle: u64, n: i32, a: Device, lda: i32, pivots: Device, info: Device, batch: i32) {
            let op = BlasRoutine {
                n: n.into(), batch: batch.into(), a: part($ty, a, lda.into()), result: pivots.ptr(), info: info.ptr(),
                ..new(Routine::GetrfBatched, $ty, ($ty, $ty))
            };
            send(handle, op, None, None, &[batch.into()])
        }
    })*};
}
getrf! {
    fn cublasSgetrfBatched: R_32F;
    fn cublasDgetrfBatched: R_64F;
    fn cublasCgetrfBatched: C_32F;
    fn cublasZgetrfBatched: C_64F;
}

macro_rules! getri {
    ($(fn $name:ident: $ty:expr;)*) => {$(exports! {
        /// The inverse from a factorisation.
        fn $name(handle: u64, n: i32, a: Device, lda: i32, pivots: Device, c: Device, ldc: i32, info: Device, batch: i32) {
            let op = BlasRoutine {
                n: n.into(), batch: batch.into(), a: part($ty, a, lda.into()), c: part($ty, c, ldc.into()),
                result: pivots.ptr(), info: info.ptr(),
                ..new(Routine::GetriBatched, $ty, ($ty, $ty))
            };
            send(handle, op, None, None, &[batch.into()])
        }
    })*};
}
getri! {
    fn cublasSgetriBatched: R_32F;
    fn cublasDgetriBatched: R_64F;
    fn cublasCgetriBatched: C_32F;
    fn cublasZgetriBatched: C_64F;
}

macro_rules! matinv {
    ($(fn $name:ident: $ty:expr;)*) => {$(exports! {
        /// The inverse of matrices of at most 32 rows.
        fn $name(handle: u64, n: i32, a: Device, lda: i32, c: Device, ldc: i32, info: Device, batch: i32) {
            let op = BlasRoutine {
                n: n.into(), batch: batch.into(), a: part($ty, a, lda.into()), c: part($ty, c, ldc.into()), info: info.ptr(),
                ..new(Routine::MatinvBatched, $ty, ($ty, $ty))
            };
            send(handle, op, None, None, &[batch.into()])
        }
    })*};
}
matinv! {
    fn cublasSmatinvBatched: R_32F;
    fn cublasDmatinvBatched: R_64F;
    fn cublasCmatinvBatched: C_32F;
    fn cublasZmatinvBatched: C_64F;
}

/// The number of the first bad argument, as LAPACK counts them, negative.
fn bad_argument(trans: u32, n: i32, count: i32, lda: i32, ldb: i32, batch: i32) -> i32 {
    let bad = [
        (trans > 2, 1),
        (n < 0, 2),
        (count < 0, 3),
        (lda < n.max(1), 5),
        (ldb < n.max(1), 8),
        (batch < 0, 10),
    ];
    bad.iter()
        .find(|(bad, _)| *bad)
        .map_or(0, |(_, number)| -number)
}

macro_rules! getrs {
    ($(fn $name:ident: $ty:expr;)*) => {$(exports! {
        /// Solves with a factorisation; `info`, in host memory, tells of a bad argument.
        fn $name(
            handle: u64, trans: u32, n: i32, count: i32, a: Device, lda: i32, pivots: Device, b: Device, ldb: i32,
            info: Out<i32>, batch: i32,
        ) {
            handle::get(handle)?;
            info.set(bad_argument(trans, n, count, lda, ldb, batch))?;
            let op = BlasRoutine {
                transa: trans, n: n.into(), k: count.into(), batch: batch.into(),
                a: part($ty, a, lda.into()), b: part($ty, b, ldb.into()), result: pivots.ptr(),
                ..new(Routine::GetrsBatched, $ty, ($ty, $ty))
            };
            send(handle, op, None, None, &[n.into(), count.into(), batch.into()])
        }
    })*};
}
getrs! {
    fn cublasSgetrsBatched: R_32F;
    fn cublasDgetrsBatched: R_64F;
    fn cublasCgetrsBatched: C_32F;
    fn cublasZgetrsBatched: C_64F;
}
