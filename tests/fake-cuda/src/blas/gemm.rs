//! Products.

use std::ffi::{c_int, c_longlong, c_uint};

use super::{Scalar, bytes_of, routines};
use crate::state::die;

/// Bytes of the factors of a `cublasComputeType_t`.
fn factor_bytes(compute: c_uint, c_type: c_uint) -> i64 {
    let times = if matches!(c_type, 4 | 5) { 2 } else { 1 };
    match compute {
        64 | 65 => 2,
        68 | 69 | 74 | 75 | 77 | 78 => 4 * times,
        70 | 71 | 79 => 8 * times,
        72 | 73 => 4,
        _ => die(&format!("{compute} is no cublasComputeType_t")),
    }
}

/// Rows and columns of a matrix as it is stored.
fn stored(trans: c_uint, rows: c_int, cols: c_int) -> (c_int, c_int) {
    if trans == 0 {
        (rows, cols)
    } else {
        (cols, rows)
    }
}

routines! {
    [cublasGemmEx 0]
    (
        transa: c_uint, transb: c_uint, m: c_int, n: c_int, k: c_int, alpha: Scalar,
        a: u64, a_type: c_uint, lda: c_int, b: u64, b_type: c_uint, ldb: c_int, beta: Scalar,
        c: u64, c_type: c_uint, ldc: c_int, compute: c_uint, algo: c_int,
    ) |looked, t| {
        let bytes = factor_bytes(compute, c_type);
        looked.factor("alpha", alpha, bytes);
        looked.factor("beta", beta, bytes);
        let (rows, cols) = stored(transa, m, k);
        looked.matrix(a, rows, cols, lda, bytes_of(a_type));
        let (rows, cols) = stored(transb, k, n);
        looked.matrix(b, rows, cols, ldb, bytes_of(b_type));
        looked.matrix(c, m, n, ldc, bytes_of(c_type));
    }

    [cublasGemmBatchedEx 0]
    (
        transa: c_uint, transb: c_uint, m: c_int, n: c_int, k: c_int, alpha: Scalar,
        a: u64, a_type: c_uint, lda: c_int, b: u64, b_type: c_uint, ldb: c_int, beta: Scalar,
        c: u64, c_type: c_uint, ldc: c_int, batch: c_int, compute: c_uint, algo: c_int,
    ) |looked, t| {
        let bytes = factor_bytes(compute, c_type);
        looked.factor("alpha", alpha, bytes);
        looked.factor("beta", beta, bytes);
        for at in [a, b, c] {
            looked.addresses(at, batch);
        }
    }

    [cublasGemmStridedBatchedEx 0]
    (
        transa: c_uint, transb: c_uint, m: c_int, n: c_int, k: c_int, alpha: Scalar,
        a: u64, a_type: c_uint, lda: c_int, stride_a: c_longlong,
        b: u64, b_type: c_uint, ldb: c_int, stride_b: c_longlong, beta: Scalar,
        c: u64, c_type: c_uint, ldc: c_int, stride_c: c_longlong, batch: c_int, compute: c_uint, algo: c_int,
    ) |looked, t| {
        let bytes = factor_bytes(compute, c_type);
        looked.factor("alpha", alpha, bytes);
        looked.factor("beta", beta, bytes);
        let (rows, cols) = stored(transa, m, k);
        looked.batch(a, rows, cols, lda, bytes_of(a_type), (stride_a, batch));
        let (rows, cols) = stored(transb, k, n);
        looked.batch(b, rows, cols, ldb, bytes_of(b_type), (stride_b, batch));
        looked.batch(c, m, n, ldc, bytes_of(c_type), (stride_c, batch));
    }
}
