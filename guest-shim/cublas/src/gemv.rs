//! Batches of products with a vector.

use vgpu_protocol::blas::ty::{C_32F, C_64F, R_16BF, R_16F, R_32F, R_64F};
use vgpu_protocol::calls::{BlasMatrix, BlasRoutine, Routine};

use crate::abi::{Device, In, exports};
use crate::routine::{new, part, send};

macro_rules! gemv_batched {
    ($(fn $name:ident | $twin:ident: $ty:expr, $out:expr, $scale:expr;)*) => {$(exports! {
        /// `y = alpha op(A) x + beta y`, by arrays of addresses.
        fn $name | $twin [Int] (
            handle: u64, trans: u32, m: Int, n: Int, alpha: In<u8>, a: Device, lda: Int, x: Device, incx: Int,
            beta: In<u8>, y: Device, incy: Int, batch: Int,
        ) {
            let op = BlasRoutine {
                transa: trans, m: m.into(), n: n.into(), batch: batch.into(),
                a: part($ty, a, lda.into()), b: part($ty, x, incx.into()), c: part($out, y, incy.into()),
                ..new(Routine::GemvBatched, $scale, ($scale, $scale))
            };
            send(handle, op, Some(alpha), Some(beta), &[m.into(), n.into(), batch.into()])
        }
    })*};
}
gemv_batched! {
    fn cublasSgemvBatched | cublasSgemvBatched_64: R_32F, R_32F, R_32F;
    fn cublasDgemvBatched | cublasDgemvBatched_64: R_64F, R_64F, R_64F;
    fn cublasCgemvBatched | cublasCgemvBatched_64: C_32F, C_32F, C_32F;
    fn cublasZgemvBatched | cublasZgemvBatched_64: C_64F, C_64F, C_64F;
    fn cublasHSHgemvBatched | cublasHSHgemvBatched_64: R_16F, R_16F, R_32F;
    fn cublasHSSgemvBatched | cublasHSSgemvBatched_64: R_16F, R_32F, R_32F;
    fn cublasTSTgemvBatched | cublasTSTgemvBatched_64: R_16BF, R_16BF, R_32F;
    fn cublasTSSgemvBatched | cublasTSSgemvBatched_64: R_16BF, R_32F, R_32F;
}

fn strided(part: BlasMatrix, stride: i64) -> BlasMatrix {
    BlasMatrix { stride, ..part }
}

macro_rules! gemv_strided {
    ($(fn $name:ident | $twin:ident: $ty:expr, $out:expr, $scale:expr;)*) => {$(exports! {
        /// `y = alpha op(A) x + beta y`, at fixed distances.
        fn $name | $twin [Int] (
            handle: u64, trans: u32, m: Int, n: Int, alpha: In<u8>, a: Device, lda: Int, stride_a: i64,
            x: Device, incx: Int, stride_x: i64, beta: In<u8>, y: Device, incy: Int, stride_y: i64, batch: Int,
        ) {
            let op = BlasRoutine {
                transa: trans, m: m.into(), n: n.into(), batch: batch.into(),
                a: strided(part($ty, a, lda.into()), stride_a),
                b: strided(part($ty, x, incx.into()), stride_x),
                c: strided(part($out, y, incy.into()), stride_y),
                ..new(Routine::GemvStridedBatched, $scale, ($scale, $scale))
            };
            send(handle, op, Some(alpha), Some(beta), &[m.into(), n.into(), batch.into()])
        }
    })*};
}
gemv_strided! {
    fn cublasSgemvStridedBatched | cublasSgemvStridedBatched_64: R_32F, R_32F, R_32F;
    fn cublasDgemvStridedBatched | cublasDgemvStridedBatched_64: R_64F, R_64F, R_64F;
    fn cublasCgemvStridedBatched | cublasCgemvStridedBatched_64: C_32F, C_32F, C_32F;
    fn cublasZgemvStridedBatched | cublasZgemvStridedBatched_64: C_64F, C_64F, C_64F;
    fn cublasHSHgemvStridedBatched | cublasHSHgemvStridedBatched_64: R_16F, R_16F, R_32F;
    fn cublasHSSgemvStridedBatched | cublasHSSgemvStridedBatched_64: R_16F, R_32F, R_32F;
    fn cublasTSTgemvStridedBatched | cublasTSTgemvStridedBatched_64: R_16BF, R_16BF, R_32F;
    fn cublasTSSgemvStridedBatched | cublasTSSgemvStridedBatched_64: R_16BF, R_32F, R_32F;
}
