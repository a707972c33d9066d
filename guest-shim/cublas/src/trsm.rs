//! Batches of triangular systems.

use vgpu_protocol::blas::ty;
use vgpu_protocol::calls::{BlasMatrix, BlasScalar, BlasTrsmBatched, stubs};

use crate::abi::{Device, Done, In, exports, of_driver};
use crate::channel::remote;
use crate::handle;
use crate::scalar;

fn send(handle: u64, mut op: BlasTrsmBatched, alpha: In<u8>) -> Done {
    let handle = handle::get(handle)?;
    op.check()?;
    op.alpha = scalar::read(handle.device_pointers(), alpha, op.a.ty)?;
    if op.m == 0 || op.n == 0 || op.batch == 0 {
        return Ok(());
    }
    let remote = remote()?;
    let (place, target) = handle.target(remote)?;
    op.target = target;
    stubs::blas_trsm_batched(&place, place.ctx, op).map_err(of_driver)
}

macro_rules! batched {
    ($(fn $name:ident | $twin:ident: $ty:expr;)*) => {$(
        exports! {
            /// Solves triangular systems, by arrays of addresses.
            fn $name | $twin [Int] (
                handle: u64, side: u32, uplo: u32, trans: u32, diag: u32, m: Int, n: Int, alpha: In<u8>,
                a: Device, lda: Int, b: Device, ldb: Int, batch: Int,
            ) {
                let part = |at: Device, ld: Int| BlasMatrix { at: at.ptr(), ty: $ty, ld: ld.into(), stride: 0 };
                let op = BlasTrsmBatched {
                    side,
                    uplo,
                    trans,
                    diag,
                    m: m.into(),
                    n: n.into(),
                    batch: batch.into(),
                    a: part(a, lda),
                    b: part(b, ldb),
                    alpha: BlasScalar::default(),
                    target: Default::default(),
                };
                send(handle, op, alpha)
            }
        }
    )*};
}
batched! {
    fn cublasStrsmBatched | cublasStrsmBatched_64: ty::R_32F;
    fn cublasDtrsmBatched | cublasDtrsmBatched_64: ty::R_64F;
    fn cublasCtrsmBatched | cublasCtrsmBatched_64: ty::C_32F;
    fn cublasZtrsmBatched | cublasZtrsmBatched_64: ty::C_64F;
}
