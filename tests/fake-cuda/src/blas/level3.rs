//! Matrices, and factorisations of batches.

use std::ffi::{c_int, c_uint};

use super::{Scalar, routines};

/// Rows and columns of a matrix as it is stored.
fn stored(trans: c_uint, rows: c_int, cols: c_int) -> (c_int, c_int) {
    if trans == 0 {
        (rows, cols)
    } else {
        (cols, rows)
    }
}

/// Order of the matrix on one side of another one.
fn order(side: c_uint, m: c_int, n: c_int) -> c_int {
    if side == 0 { m } else { n }
}

routines! {
    [
        cublasSsymm_v2 4, cublasDsymm_v2 8, cublasCsymm_v2 8, cublasZsymm_v2 16,
        cublasChemm_v2 8, cublasZhemm_v2 16,
    ]
    (
        side: c_uint, uplo: c_uint, m: c_int, n: c_int, alpha: Scalar, a: u64, lda: c_int, b: u64, ldb: c_int,
        beta: Scalar, c: u64, ldc: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        looked.factor("beta", beta, t);
        let of_a = order(side, m, n);
        looked.matrix(a, of_a, of_a, lda, t);
        looked.matrix(b, m, n, ldb, t);
        looked.matrix(c, m, n, ldc, t);
    }

    [cublasSsyrk_v2 4, cublasDsyrk_v2 8, cublasCsyrk_v2 8, cublasZsyrk_v2 16]
    (
        uplo: c_uint, trans: c_uint, n: c_int, k: c_int, alpha: Scalar, a: u64, lda: c_int, beta: Scalar,
        c: u64, ldc: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        looked.factor("beta", beta, t);
        let (rows, cols) = stored(trans, n, k);
        looked.matrix(a, rows, cols, lda, t);
        looked.matrix(c, n, n, ldc, t);
    }

    [cublasCherk_v2 8, cublasZherk_v2 16]
    (
        uplo: c_uint, trans: c_uint, n: c_int, k: c_int, alpha: Scalar, a: u64, lda: c_int, beta: Scalar,
        c: u64, ldc: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t / 2);
        looked.factor("beta", beta, t / 2);
        let (rows, cols) = stored(trans, n, k);
        looked.matrix(a, rows, cols, lda, t);
        looked.matrix(c, n, n, ldc, t);
    }

    [
        cublasSsyr2k_v2 4, cublasDsyr2k_v2 8, cublasCsyr2k_v2 8, cublasZsyr2k_v2 16,
        cublasSsyrkx 4, cublasDsyrkx 8, cublasCsyrkx 8, cublasZsyrkx 16,
    ]
    (
        uplo: c_uint, trans: c_uint, n: c_int, k: c_int, alpha: Scalar, a: u64, lda: c_int, b: u64, ldb: c_int,
        beta: Scalar, c: u64, ldc: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        looked.factor("beta", beta, t);
        let (rows, cols) = stored(trans, n, k);
        looked.matrix(a, rows, cols, lda, t);
        looked.matrix(b, rows, cols, ldb, t);
        looked.matrix(c, n, n, ldc, t);
    }

    [cublasCher2k_v2 8, cublasZher2k_v2 16, cublasCherkx 8, cublasZherkx 16]
    (
        uplo: c_uint, trans: c_uint, n: c_int, k: c_int, alpha: Scalar, a: u64, lda: c_int, b: u64, ldb: c_int,
        beta: Scalar, c: u64, ldc: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        looked.factor("beta", beta, t / 2);
        let (rows, cols) = stored(trans, n, k);
        looked.matrix(a, rows, cols, lda, t);
        looked.matrix(b, rows, cols, ldb, t);
        looked.matrix(c, n, n, ldc, t);
    }

    [cublasStrmm_v2 4, cublasDtrmm_v2 8, cublasCtrmm_v2 8, cublasZtrmm_v2 16]
    (
        side: c_uint, uplo: c_uint, trans: c_uint, diag: c_uint, m: c_int, n: c_int, alpha: Scalar,
        a: u64, lda: c_int, b: u64, ldb: c_int, c: u64, ldc: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        let of_a = order(side, m, n);
        looked.matrix(a, of_a, of_a, lda, t);
        looked.matrix(b, m, n, ldb, t);
        looked.matrix(c, m, n, ldc, t);
    }

    [cublasStrsm_v2 4, cublasDtrsm_v2 8, cublasCtrsm_v2 8, cublasZtrsm_v2 16]
    (
        side: c_uint, uplo: c_uint, trans: c_uint, diag: c_uint, m: c_int, n: c_int, alpha: Scalar,
        a: u64, lda: c_int, b: u64, ldb: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        let of_a = order(side, m, n);
        looked.matrix(a, of_a, of_a, lda, t);
        looked.matrix(b, m, n, ldb, t);
    }

    [cublasSgeam 4, cublasDgeam 8, cublasCgeam 8, cublasZgeam 16]
    (
        transa: c_uint, transb: c_uint, m: c_int, n: c_int, alpha: Scalar, a: u64, lda: c_int,
        beta: Scalar, b: u64, ldb: c_int, c: u64, ldc: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        looked.factor("beta", beta, t);
        let (rows, cols) = stored(transa, m, n);
        looked.matrix(a, rows, cols, lda, t);
        let (rows, cols) = stored(transb, m, n);
        looked.matrix(b, rows, cols, ldb, t);
        looked.matrix(c, m, n, ldc, t);
    }

    [cublasSdgmm 4, cublasDdgmm 8, cublasCdgmm 8, cublasZdgmm 16]
    (
        side: c_uint, m: c_int, n: c_int, a: u64, lda: c_int, x: u64, incx: c_int, c: u64, ldc: c_int,
    ) |looked, t| {
        looked.matrix(a, m, n, lda, t);
        looked.vector(x, order(side, m, n), incx, t);
        looked.matrix(c, m, n, ldc, t);
    }

    [cublasStrsmBatched 4, cublasDtrsmBatched 8, cublasCtrsmBatched 8, cublasZtrsmBatched 16]
    (
        side: c_uint, uplo: c_uint, trans: c_uint, diag: c_uint, m: c_int, n: c_int, alpha: Scalar,
        a: u64, lda: c_int, b: u64, ldb: c_int, batch: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        looked.addresses(a, batch);
        looked.addresses(b, batch);
    }

    [cublasSgetrfBatched 4, cublasDgetrfBatched 8, cublasCgetrfBatched 8, cublasZgetrfBatched 16]
    (n: c_int, a: u64, lda: c_int, pivots: u64, info: u64, batch: c_int) |looked, t| {
        looked.addresses(a, batch);
        looked.optional(pivots, n, batch);
        looked.optional(info, 1, batch);
    }

    [cublasSgetriBatched 4, cublasDgetriBatched 8, cublasCgetriBatched 8, cublasZgetriBatched 16]
    (
        n: c_int, a: u64, lda: c_int, pivots: u64, c: u64, ldc: c_int, info: u64, batch: c_int,
    ) |looked, t| {
        looked.addresses(a, batch);
        looked.addresses(c, batch);
        looked.optional(pivots, n, batch);
        looked.optional(info, 1, batch);
    }

    [cublasSmatinvBatched 4, cublasDmatinvBatched 8, cublasCmatinvBatched 8, cublasZmatinvBatched 16]
    (n: c_int, a: u64, lda: c_int, inverse: u64, ld_inverse: c_int, info: u64, batch: c_int) |looked, t| {
        looked.addresses(a, batch);
        looked.addresses(inverse, batch);
        looked.optional(info, 1, batch);
    }

    // What it says of its arguments goes to host memory, in whichever mode.
    [cublasSgetrsBatched 4, cublasDgetrsBatched 8, cublasCgetrsBatched 8, cublasZgetrsBatched 16]
    (
        trans: c_uint, n: c_int, nrhs: c_int, a: u64, lda: c_int, pivots: u64, b: u64, ldb: c_int, info: u64,
        batch: c_int,
    ) |looked, t| {
        looked.addresses(a, batch);
        looked.addresses(b, batch);
        looked.optional(pivots, n, batch);
        looked.host_word(info);
    }
}
