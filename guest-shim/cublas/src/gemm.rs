//! The gemm family.

use vgpu_protocol::blas::{ComputeKind, ty};
use vgpu_protocol::calls::{BlasGemm, BlasMatrix, BlasScalar, stubs};

use crate::abi::{Device, Done, INVALID, In, exports, of_driver};
use crate::channel::remote;
use crate::handle::{self, Handle};
use crate::scalar;

/// `CUBLAS_COMPUTE_16F`, `_32F`, `_64F`.
const COMPUTE_16F: u32 = 64;
pub const COMPUTE_32F: u32 = 68;
pub const COMPUTE_64F: u32 = 70;
/// `CUBLAS_GEMM_DEFAULT`.
pub const DEFAULT: i32 = -1;

/// Which of the three messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    One,
    Pointers,
    Strided,
}

/// Sizes and operations.
pub struct Shape {
    /// `cublasOperation_t` of A and B.
    pub trans: (u32, u32),
    /// Rows of C.
    pub m: i64,
    /// Columns of C.
    pub n: i64,
    /// The inner size.
    pub k: i64,
    /// Number of matrices.
    pub batch: i64,
}

pub fn matrix(at: Device, ty: u32, ld: i64, stride: i64) -> BlasMatrix {
    BlasMatrix {
        at: at.ptr(),
        ty,
        ld,
        stride,
    }
}

/// Sends a product. The order of the checks: the handle, sizes and scalars, the table of types.
fn send(
    handle: u64,
    batch: Batch,
    shape: Shape,
    factors: (In<u8>, In<u8>),
    parts: [BlasMatrix; 3],
    how: (u32, i32),
) -> Done {
    let handle = handle::get(handle)?;
    let op = build(&handle, shape, factors, parts, how)?;
    submit(&handle, batch, op)
}

/// The message for a product, checked.
pub fn build(
    handle: &Handle,
    shape: Shape,
    (alpha, beta): (In<u8>, In<u8>),
    [a, b, c]: [BlasMatrix; 3],
    (compute, algo): (u32, i32),
) -> Done<BlasGemm> {
    let mut op = BlasGemm {
        transa: shape.trans.0,
        transb: shape.trans.1,
        m: shape.m,
        n: shape.n,
        k: shape.k,
        batch: shape.batch,
        a,
        b,
        c,
        compute,
        algo,
        alpha: BlasScalar::default(),
        beta: BlasScalar::default(),
        target: Default::default(),
    };
    if alpha.is_null() || beta.is_null() {
        return Err(INVALID);
    }
    let kind: ComputeKind = op.check()?;
    let (device, scale) = (handle.device_pointers(), kind.scale_type(op.c.ty));
    op.alpha = scalar::read(device, alpha, scale)?;
    op.beta = scalar::read(device, beta, scale)?;
    Ok(op)
}

/// Sends the message.
pub fn submit(handle: &Handle, batch: Batch, mut op: BlasGemm) -> Done {
    if op.m == 0 || op.n == 0 || op.batch == 0 {
        return Ok(());
    }
    let remote = remote()?;
    let (place, target) = handle.target(remote)?;
    op.target = target;
    match batch {
        Batch::One => stubs::blas_gemm(&place, place.ctx, op),
        Batch::Pointers => stubs::blas_gemm_batched(&place, place.ctx, op),
        Batch::Strided => stubs::blas_gemm_strided(&place, place.ctx, op),
    }
    .map_err(of_driver)
}

exports! {
    /// A product of matrices of any types of the table.
    fn cublasGemmEx | cublasGemmEx_64 [Int] (
        handle: u64, transa: u32, transb: u32, m: Int, n: Int, k: Int, alpha: In<u8>,
        a: Device, a_type: u32, lda: Int, b: Device, b_type: u32, ldb: Int, beta: In<u8>,
        c: Device, c_type: u32, ldc: Int, compute: u32, algo: i32,
    ) {
        let shape = Shape { trans: (transa, transb), m: m.into(), n: n.into(), k: k.into(), batch: 1 };
        let parts = [matrix(a, a_type, lda.into(), 0), matrix(b, b_type, ldb.into(), 0), matrix(c, c_type, ldc.into(), 0)];
        send(handle, Batch::One, shape, (alpha, beta), parts, (compute, algo))
    }

    /// The same for arrays of addresses.
    fn cublasGemmBatchedEx | cublasGemmBatchedEx_64 [Int] (
        handle: u64, transa: u32, transb: u32, m: Int, n: Int, k: Int, alpha: In<u8>,
        a: Device, a_type: u32, lda: Int, b: Device, b_type: u32, ldb: Int, beta: In<u8>,
        c: Device, c_type: u32, ldc: Int, batch: Int, compute: u32, algo: i32,
    ) {
        let shape = Shape { trans: (transa, transb), m: m.into(), n: n.into(), k: k.into(), batch: batch.into() };
        let parts = [matrix(a, a_type, lda.into(), 0), matrix(b, b_type, ldb.into(), 0), matrix(c, c_type, ldc.into(), 0)];
        send(handle, Batch::Pointers, shape, (alpha, beta), parts, (compute, algo))
    }

    /// The same for matrices at fixed distances.
    fn cublasGemmStridedBatchedEx | cublasGemmStridedBatchedEx_64 [Int] (
        handle: u64, transa: u32, transb: u32, m: Int, n: Int, k: Int, alpha: In<u8>,
        a: Device, a_type: u32, lda: Int, stride_a: i64, b: Device, b_type: u32, ldb: Int, stride_b: i64, beta: In<u8>,
        c: Device, c_type: u32, ldc: Int, stride_c: i64, batch: Int, compute: u32, algo: i32,
    ) {
        let shape = Shape { trans: (transa, transb), m: m.into(), n: n.into(), k: k.into(), batch: batch.into() };
        let parts = [
            matrix(a, a_type, lda.into(), stride_a),
            matrix(b, b_type, ldb.into(), stride_b),
            matrix(c, c_type, ldc.into(), stride_c),
        ];
        send(handle, Batch::Strided, shape, (alpha, beta), parts, (compute, algo))
    }
}

/// `cublas<t>gemm`: types and compute type follow from t.
macro_rules! typed {
    ($(fn $name:ident | $twin:ident: $ty:expr, $compute:expr;)*) => {$(
        exports! {
            /// A product of matrices of one type.
            fn $name | $twin [Int] (
                handle: u64, transa: u32, transb: u32, m: Int, n: Int, k: Int, alpha: In<u8>,
                a: Device, lda: Int, b: Device, ldb: Int, beta: In<u8>, c: Device, ldc: Int,
            ) {
                let shape = Shape { trans: (transa, transb), m: m.into(), n: n.into(), k: k.into(), batch: 1 };
                let parts = [matrix(a, $ty, lda.into(), 0), matrix(b, $ty, ldb.into(), 0), matrix(c, $ty, ldc.into(), 0)];
                send(handle, Batch::One, shape, (alpha, beta), parts, ($compute, DEFAULT))
            }
        }
    )*};
}
typed! {
    fn cublasSgemm_v2 | cublasSgemm_v2_64: ty::R_32F, COMPUTE_32F;
    fn cublasDgemm_v2 | cublasDgemm_v2_64: ty::R_64F, COMPUTE_64F;
    fn cublasCgemm_v2 | cublasCgemm_v2_64: ty::C_32F, COMPUTE_32F;
    fn cublasZgemm_v2 | cublasZgemm_v2_64: ty::C_64F, COMPUTE_64F;
    fn cublasHgemm | cublasHgemm_64: ty::R_16F, COMPUTE_16F;
    fn cublasCgemm3m | cublasCgemm3m_64: ty::C_32F, COMPUTE_32F;
    fn cublasZgemm3m | cublasZgemm3m_64: ty::C_64F, COMPUTE_64F;
}

/// `cublas<t>gemmBatched`.
macro_rules! batched {
    ($(fn $name:ident | $twin:ident: $ty:expr, $compute:expr;)*) => {$(
        exports! {
            /// Products of matrices of one type, by arrays of addresses.
            fn $name | $twin [Int] (
                handle: u64, transa: u32, transb: u32, m: Int, n: Int, k: Int, alpha: In<u8>,
                a: Device, lda: Int, b: Device, ldb: Int, beta: In<u8>, c: Device, ldc: Int, batch: Int,
            ) {
                let shape = Shape { trans: (transa, transb), m: m.into(), n: n.into(), k: k.into(), batch: batch.into() };
                let parts = [matrix(a, $ty, lda.into(), 0), matrix(b, $ty, ldb.into(), 0), matrix(c, $ty, ldc.into(), 0)];
                send(handle, Batch::Pointers, shape, (alpha, beta), parts, ($compute, DEFAULT))
            }
        }
    )*};
}
batched! {
    fn cublasSgemmBatched | cublasSgemmBatched_64: ty::R_32F, COMPUTE_32F;
    fn cublasDgemmBatched | cublasDgemmBatched_64: ty::R_64F, COMPUTE_64F;
    fn cublasCgemmBatched | cublasCgemmBatched_64: ty::C_32F, COMPUTE_32F;
    fn cublasZgemmBatched | cublasZgemmBatched_64: ty::C_64F, COMPUTE_64F;
    fn cublasHgemmBatched | cublasHgemmBatched_64: ty::R_16F, COMPUTE_16F;
    fn cublasCgemm3mBatched | cublasCgemm3mBatched_64: ty::C_32F, COMPUTE_32F;
}

/// `cublas<t>gemmStridedBatched`.
macro_rules! strided {
    ($(fn $name:ident | $twin:ident: $ty:expr, $compute:expr;)*) => {$(
        exports! {
            /// Products of matrices of one type, at fixed distances.
            fn $name | $twin [Int] (
                handle: u64, transa: u32, transb: u32, m: Int, n: Int, k: Int, alpha: In<u8>,
                a: Device, lda: Int, stride_a: i64, b: Device, ldb: Int, stride_b: i64, beta: In<u8>,
                c: Device, ldc: Int, stride_c: i64, batch: Int,
            ) {
                let shape = Shape { trans: (transa, transb), m: m.into(), n: n.into(), k: k.into(), batch: batch.into() };
                let parts = [
                    matrix(a, $ty, lda.into(), stride_a),
                    matrix(b, $ty, ldb.into(), stride_b),
                    matrix(c, $ty, ldc.into(), stride_c),
                ];
                send(handle, Batch::Strided, shape, (alpha, beta), parts, ($compute, DEFAULT))
            }
        }
    )*};
}
strided! {
    fn cublasSgemmStridedBatched | cublasSgemmStridedBatched_64: ty::R_32F, COMPUTE_32F;
    fn cublasDgemmStridedBatched | cublasDgemmStridedBatched_64: ty::R_64F, COMPUTE_64F;
    fn cublasCgemmStridedBatched | cublasCgemmStridedBatched_64: ty::C_32F, COMPUTE_32F;
    fn cublasZgemmStridedBatched | cublasZgemmStridedBatched_64: ty::C_64F, COMPUTE_64F;
    fn cublasHgemmStridedBatched | cublasHgemmStridedBatched_64: ty::R_16F, COMPUTE_16F;
    fn cublasCgemm3mStridedBatched | cublasCgemm3mStridedBatched_64: ty::C_32F, COMPUTE_32F;
}

/// `cublasSgemmEx`, `cublasCgemmEx`: single precision inside.
macro_rules! single {
    ($(fn $name:ident | $twin:ident: $($c:path)|*;)*) => {$(
        exports! {
            /// A product of matrices of several types, computed in single precision.
            fn $name | $twin [Int] (
                handle: u64, transa: u32, transb: u32, m: Int, n: Int, k: Int, alpha: In<u8>,
                a: Device, a_type: u32, lda: Int, b: Device, b_type: u32, ldb: Int, beta: In<u8>,
                c: Device, c_type: u32, ldc: Int,
            ) {
                if ![$($c),*].contains(&c_type) {
                    handle::get(handle)?;
                    return Err(vgpu_protocol::blas::BlasStatus::NOT_SUPPORTED);
                }
                let shape = Shape { trans: (transa, transb), m: m.into(), n: n.into(), k: k.into(), batch: 1 };
                let parts = [matrix(a, a_type, lda.into(), 0), matrix(b, b_type, ldb.into(), 0), matrix(c, c_type, ldc.into(), 0)];
                send(handle, Batch::One, shape, (alpha, beta), parts, (COMPUTE_32F, DEFAULT))
            }
        }
    )*};
}
single! {
    fn cublasSgemmEx | cublasSgemmEx_64: ty::R_32F | ty::R_16F | ty::R_16BF;
    fn cublasCgemmEx | cublasCgemmEx_64: ty::C_32F;
    fn cublasCgemm3mEx | cublasCgemm3mEx_64: ty::C_32F;
}
