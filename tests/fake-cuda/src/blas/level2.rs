//! A matrix and vectors.

use std::ffi::{c_int, c_longlong, c_uint};

use super::{Scalar, routines};

/// Elements of x and y.
fn turned(trans: c_uint, m: c_int, n: c_int) -> (c_int, c_int) {
    if trans == 0 { (n, m) } else { (m, n) }
}

routines! {
    [cublasSgemv_v2 4, cublasDgemv_v2 8, cublasCgemv_v2 8, cublasZgemv_v2 16]
    (
        trans: c_uint, m: c_int, n: c_int, alpha: Scalar, a: u64, lda: c_int, x: u64, incx: c_int,
        beta: Scalar, y: u64, incy: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.factor("beta", beta, t);
        let (of_x, of_y) = turned(trans, m, n);
        c.matrix(a, m, n, lda, t);
        c.vector(x, of_x, incx, t);
        c.vector(y, of_y, incy, t);
    }

    [cublasSgbmv_v2 4, cublasDgbmv_v2 8, cublasCgbmv_v2 8, cublasZgbmv_v2 16]
    (
        trans: c_uint, m: c_int, n: c_int, kl: c_int, ku: c_int, alpha: Scalar, a: u64, lda: c_int,
        x: u64, incx: c_int, beta: Scalar, y: u64, incy: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.factor("beta", beta, t);
        let (of_x, of_y) = turned(trans, m, n);
        c.band(a, n, kl + ku, lda, t);
        c.vector(x, of_x, incx, t);
        c.vector(y, of_y, incy, t);
    }

    [
        cublasSger_v2 4, cublasDger_v2 8, cublasCgeru_v2 8, cublasZgeru_v2 16,
        cublasCgerc_v2 8, cublasZgerc_v2 16,
    ]
    (
        m: c_int, n: c_int, alpha: Scalar, x: u64, incx: c_int, y: u64, incy: c_int, a: u64, lda: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.vector(x, m, incx, t);
        c.vector(y, n, incy, t);
        c.matrix(a, m, n, lda, t);
    }

    [
        cublasSsymv_v2 4, cublasDsymv_v2 8, cublasCsymv_v2 8, cublasZsymv_v2 16,
        cublasChemv_v2 8, cublasZhemv_v2 16,
    ]
    (
        uplo: c_uint, n: c_int, alpha: Scalar, a: u64, lda: c_int, x: u64, incx: c_int,
        beta: Scalar, y: u64, incy: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.factor("beta", beta, t);
        c.matrix(a, n, n, lda, t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [cublasSsbmv_v2 4, cublasDsbmv_v2 8, cublasChbmv_v2 8, cublasZhbmv_v2 16]
    (
        uplo: c_uint, n: c_int, k: c_int, alpha: Scalar, a: u64, lda: c_int, x: u64, incx: c_int,
        beta: Scalar, y: u64, incy: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.factor("beta", beta, t);
        c.band(a, n, k, lda, t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [cublasSspmv_v2 4, cublasDspmv_v2 8, cublasChpmv_v2 8, cublasZhpmv_v2 16]
    (
        uplo: c_uint, n: c_int, alpha: Scalar, ap: u64, x: u64, incx: c_int, beta: Scalar, y: u64, incy: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.factor("beta", beta, t);
        c.packed(ap, n, t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [cublasSsyr_v2 4, cublasDsyr_v2 8, cublasCsyr_v2 8, cublasZsyr_v2 16]
    (uplo: c_uint, n: c_int, alpha: Scalar, x: u64, incx: c_int, a: u64, lda: c_int) |c, t| {
        c.factor("alpha", alpha, t);
        c.vector(x, n, incx, t);
        c.matrix(a, n, n, lda, t);
    }

    [cublasCher_v2 8, cublasZher_v2 16]
    (uplo: c_uint, n: c_int, alpha: Scalar, x: u64, incx: c_int, a: u64, lda: c_int) |c, t| {
        c.factor("alpha", alpha, t / 2);
        c.vector(x, n, incx, t);
        c.matrix(a, n, n, lda, t);
    }

    [cublasSspr_v2 4, cublasDspr_v2 8]
    (uplo: c_uint, n: c_int, alpha: Scalar, x: u64, incx: c_int, ap: u64) |c, t| {
        c.factor("alpha", alpha, t);
        c.vector(x, n, incx, t);
        c.packed(ap, n, t);
    }

    [cublasChpr_v2 8, cublasZhpr_v2 16]
    (uplo: c_uint, n: c_int, alpha: Scalar, x: u64, incx: c_int, ap: u64) |c, t| {
        c.factor("alpha", alpha, t / 2);
        c.vector(x, n, incx, t);
        c.packed(ap, n, t);
    }

    [
        cublasSsyr2_v2 4, cublasDsyr2_v2 8, cublasCsyr2_v2 8, cublasZsyr2_v2 16,
        cublasCher2_v2 8, cublasZher2_v2 16,
    ]
    (
        uplo: c_uint, n: c_int, alpha: Scalar, x: u64, incx: c_int, y: u64, incy: c_int, a: u64, lda: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
        c.matrix(a, n, n, lda, t);
    }

    [cublasSspr2_v2 4, cublasDspr2_v2 8, cublasChpr2_v2 8, cublasZhpr2_v2 16]
    (uplo: c_uint, n: c_int, alpha: Scalar, x: u64, incx: c_int, y: u64, incy: c_int, ap: u64) |c, t| {
        c.factor("alpha", alpha, t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
        c.packed(ap, n, t);
    }

    [
        cublasStrmv_v2 4, cublasDtrmv_v2 8, cublasCtrmv_v2 8, cublasZtrmv_v2 16,
        cublasStrsv_v2 4, cublasDtrsv_v2 8, cublasCtrsv_v2 8, cublasZtrsv_v2 16,
    ]
    (uplo: c_uint, trans: c_uint, diag: c_uint, n: c_int, a: u64, lda: c_int, x: u64, incx: c_int) |c, t| {
        c.matrix(a, n, n, lda, t);
        c.vector(x, n, incx, t);
    }

    [
        cublasStbmv_v2 4, cublasDtbmv_v2 8, cublasCtbmv_v2 8, cublasZtbmv_v2 16,
        cublasStbsv_v2 4, cublasDtbsv_v2 8, cublasCtbsv_v2 8, cublasZtbsv_v2 16,
    ]
    (
        uplo: c_uint, trans: c_uint, diag: c_uint, n: c_int, k: c_int, a: u64, lda: c_int, x: u64, incx: c_int,
    ) |c, t| {
        c.band(a, n, k, lda, t);
        c.vector(x, n, incx, t);
    }

    [
        cublasStpmv_v2 4, cublasDtpmv_v2 8, cublasCtpmv_v2 8, cublasZtpmv_v2 16,
        cublasStpsv_v2 4, cublasDtpsv_v2 8, cublasCtpsv_v2 8, cublasZtpsv_v2 16,
    ]
    (uplo: c_uint, trans: c_uint, diag: c_uint, n: c_int, ap: u64, x: u64, incx: c_int) |c, t| {
        c.packed(ap, n, t);
        c.vector(x, n, incx, t);
    }

    [cublasSgemvBatched 4, cublasDgemvBatched 8, cublasCgemvBatched 8, cublasZgemvBatched 16]
    (
        trans: c_uint, m: c_int, n: c_int, alpha: Scalar, a: u64, lda: c_int, x: u64, incx: c_int,
        beta: Scalar, y: u64, incy: c_int, batch: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.factor("beta", beta, t);
        for at in [a, x, y] {
            c.addresses(at, batch);
        }
    }

    // Halves, with factors of single precision.
    [cublasHSHgemvBatched = cublasSgemvBatched 4, cublasHSSgemvBatched = cublasSgemvBatched 4, cublasTSTgemvBatched = cublasSgemvBatched 4, cublasTSSgemvBatched = cublasSgemvBatched 4]
    (
        trans: c_uint, m: c_int, n: c_int, alpha: Scalar, a: u64, lda: c_int, x: u64, incx: c_int,
        beta: Scalar, y: u64, incy: c_int, batch: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.factor("beta", beta, t);
        for at in [a, x, y] {
            c.addresses(at, batch);
        }
    }

    [
        cublasSgemvStridedBatched 4, cublasDgemvStridedBatched 8, cublasCgemvStridedBatched 8,
        cublasZgemvStridedBatched 16,
    ]
    (
        trans: c_uint, m: c_int, n: c_int, alpha: Scalar, a: u64, lda: c_int, stride_a: c_longlong,
        x: u64, incx: c_int, stride_x: c_longlong, beta: Scalar, y: u64, incy: c_int, stride_y: c_longlong,
        batch: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, t);
        c.factor("beta", beta, t);
        let (of_x, of_y) = turned(trans, m, n);
        c.batch(a, m, n, lda, t, (stride_a, batch));
        c.batch(x, 1, of_x, incx.abs(), t, (stride_x, batch));
        c.batch(y, 1, of_y, incy.abs(), t, (stride_y, batch));
    }

    [cublasHSHgemvStridedBatched = cublasSgemvStridedBatched 2, cublasTSTgemvStridedBatched = cublasSgemvStridedBatched 2]
    (
        trans: c_uint, m: c_int, n: c_int, alpha: Scalar, a: u64, lda: c_int, stride_a: c_longlong,
        x: u64, incx: c_int, stride_x: c_longlong, beta: Scalar, y: u64, incy: c_int, stride_y: c_longlong,
        batch: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, 4);
        c.factor("beta", beta, 4);
        let (of_x, of_y) = turned(trans, m, n);
        c.batch(a, m, n, lda, t, (stride_a, batch));
        c.batch(x, 1, of_x, incx.abs(), t, (stride_x, batch));
        c.batch(y, 1, of_y, incy.abs(), t, (stride_y, batch));
    }

    [cublasHSSgemvStridedBatched = cublasSgemvStridedBatched 2, cublasTSSgemvStridedBatched = cublasSgemvStridedBatched 2]
    (
        trans: c_uint, m: c_int, n: c_int, alpha: Scalar, a: u64, lda: c_int, stride_a: c_longlong,
        x: u64, incx: c_int, stride_x: c_longlong, beta: Scalar, y: u64, incy: c_int, stride_y: c_longlong,
        batch: c_int,
    ) |c, t| {
        c.factor("alpha", alpha, 4);
        c.factor("beta", beta, 4);
        let (of_x, of_y) = turned(trans, m, n);
        c.batch(a, m, n, lda, t, (stride_a, batch));
        c.batch(x, 1, of_x, incx.abs(), t, (stride_x, batch));
        c.batch(y, 1, of_y, incy.abs(), 4, (stride_y, batch));
    }
}
