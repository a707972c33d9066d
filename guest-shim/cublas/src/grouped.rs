//! Groups of batches of products: one message for each group.

use vgpu_protocol::blas::{BlasStatus, ComputeKind, ty};

use crate::abi::{Device, Done, INVALID, In, exports};
use crate::gemm::{Batch, COMPUTE_32F, COMPUTE_64F, DEFAULT, Shape, build, matrix, submit};
use crate::handle;

/// What the groups have in common, and their arrays in the program's memory.
struct Groups<I> {
    count: i64,
    sizes: In<I>,
    trans: [In<u32>; 2],
    shape: [In<I>; 3],
    ld: [In<I>; 3],
    factors: [In<u8>; 2],
    at: [Device; 3],
    types: [u32; 3],
    compute: u32,
}

/// Sends all groups, once all are checked.
fn all<I: Copy + Into<i64>>(handle: u64, g: Groups<I>) -> Done {
    let checked = handle::get(handle)?;
    // "alpha_array: … host memory": device pointers are not documented.
    if checked.device_pointers() {
        return Err(BlasStatus::NOT_SUPPORTED);
    }
    if g.count < 0 {
        return Err(INVALID);
    }
    let kind = ComputeKind::from_number(g.compute).ok_or(INVALID)?;
    let scale = vgpu_protocol::blas::type_bytes(kind.scale_type(g.types[2])).ok_or(INVALID)?;
    // "… supported: bfloat16, half and single precision computed in single precision, and doubles."
    let [a, b, c] = g.types;
    let known = match kind {
        ComputeKind::F32 | ComputeKind::F32Fast => {
            matches!(a, ty::R_16F | ty::R_16BF | ty::R_32F)
        }
        ComputeKind::F64 => a == ty::R_64F,
        _ => false,
    };
    if !known || a != b || a != c {
        return Err(BlasStatus::NOT_SUPPORTED);
    }
    let (mut before, mut messages) = (0i64, Vec::new());
    for group in 0..g.count as usize {
        let number = |array: &In<I>| -> Done<i64> { Ok(array.at(group)?.into()) };
        let batch = number(&g.sizes)?;
        let place =
            |at: Device| Device::at(at.ptr().0.wrapping_add((before as u64).wrapping_mul(8)));
        let part =
            |i: usize| -> Done<_> { Ok(matrix(place(g.at[i]), g.types[i], number(&g.ld[i])?, 0)) };
        let shape = Shape {
            trans: (g.trans[0].at(group)?, g.trans[1].at(group)?),
            m: number(&g.shape[0])?,
            n: number(&g.shape[1])?,
            k: number(&g.shape[2])?,
            batch,
        };
        let factor = |array: In<u8>| array.offset(group * scale as usize);
        let factors = (factor(g.factors[0]), factor(g.factors[1]));
        let parts = [part(0)?, part(1)?, part(2)?];
        messages.push(build(
            &checked,
            shape,
            factors,
            parts,
            (g.compute, DEFAULT),
        )?);
        before = before.checked_add(batch).ok_or(INVALID)?;
    }
    for message in messages {
        submit(&checked, Batch::Pointers, message)?;
    }
    Ok(())
}

macro_rules! typed {
    ($(fn $name:ident | $twin:ident: $ty:expr, $compute:expr;)*) => {$(exports! {
        /// Groups of products of matrices of one type.
        fn $name | $twin [Int] (
            handle: u64, transa: In<u32>, transb: In<u32>, m: In<Int>, n: In<Int>, k: In<Int>, alpha: In<u8>,
            a: Device, lda: In<Int>, b: Device, ldb: In<Int>, beta: In<u8>, c: Device, ldc: In<Int>,
            count: Int, sizes: In<Int>,
        ) {
            all(handle, Groups {
                count: count.into(), sizes, trans: [transa, transb], shape: [m, n, k], ld: [lda, ldb, ldc],
                factors: [alpha, beta], at: [a, b, c], types: [$ty; 3], compute: $compute,
            })
        }
    })*};
}
typed! {
    fn cublasSgemmGroupedBatched | cublasSgemmGroupedBatched_64: ty::R_32F, COMPUTE_32F;
    fn cublasDgemmGroupedBatched | cublasDgemmGroupedBatched_64: ty::R_64F, COMPUTE_64F;
}

exports! {
    /// Groups of products of matrices of any types of the table.
    fn cublasGemmGroupedBatchedEx | cublasGemmGroupedBatchedEx_64 [Int] (
        handle: u64, transa: In<u32>, transb: In<u32>, m: In<Int>, n: In<Int>, k: In<Int>, alpha: In<u8>,
        a: Device, a_type: u32, lda: In<Int>, b: Device, b_type: u32, ldb: In<Int>, beta: In<u8>,
        c: Device, c_type: u32, ldc: In<Int>, count: Int, sizes: In<Int>, compute: u32,
    ) {
        all(handle, Groups {
            count: count.into(), sizes, trans: [transa, transb], shape: [m, n, k], ld: [lda, ldb, ldc],
            factors: [alpha, beta], at: [a, b, c], types: [a_type, b_type, c_type], compute,
        })
    }
}
