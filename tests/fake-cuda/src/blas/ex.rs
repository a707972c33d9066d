//! Functions whose types are arguments.

use std::ffi::{c_int, c_uint};

use super::{Scalar, bytes_of, routines};

routines! {
    [cublasAxpyEx 0]
    (
        n: c_int, alpha: Scalar, alpha_type: c_uint, x: u64, x_type: c_uint, incx: c_int,
        y: u64, y_type: c_uint, incy: c_int, execution: c_uint,
    ) |c, t| {
        c.factor("alpha", alpha, bytes_of(alpha_type));
        c.vector(x, n, incx, bytes_of(x_type));
        c.vector(y, n, incy, bytes_of(y_type));
    }

    [cublasScalEx 0]
    (n: c_int, alpha: Scalar, alpha_type: c_uint, x: u64, x_type: c_uint, incx: c_int, execution: c_uint) |c, t| {
        c.factor("alpha", alpha, bytes_of(alpha_type));
        c.vector(x, n, incx, bytes_of(x_type));
    }

    [cublasCopyEx 0, cublasSwapEx 0]
    (n: c_int, x: u64, x_type: c_uint, incx: c_int, y: u64, y_type: c_uint, incy: c_int) |c, t| {
        c.vector(x, n, incx, bytes_of(x_type));
        c.vector(y, n, incy, bytes_of(y_type));
    }

    [cublasRotEx 0]
    (
        n: c_int, x: u64, x_type: c_uint, incx: c_int, y: u64, y_type: c_uint, incy: c_int,
        cosine: Scalar, sine: Scalar, factor_type: c_uint, execution: c_uint,
    ) |c, t| {
        c.factor("cosine", cosine, bytes_of(factor_type));
        c.factor("sine", sine, bytes_of(factor_type));
        c.vector(x, n, incx, bytes_of(x_type));
        c.vector(y, n, incy, bytes_of(y_type));
    }

    [cublasDotEx 0, cublasDotcEx 0]
    (
        n: c_int, x: u64, x_type: c_uint, incx: c_int, y: u64, y_type: c_uint, incy: c_int,
        result: Scalar, result_type: c_uint, execution: c_uint,
    ) |c, t| {
        c.vector(x, n, incx, bytes_of(x_type));
        c.vector(y, n, incy, bytes_of(y_type));
        c.result(result, bytes_of(result_type));
    }

    [cublasNrm2Ex 0, cublasAsumEx 0]
    (
        n: c_int, x: u64, x_type: c_uint, incx: c_int, result: Scalar, result_type: c_uint, execution: c_uint,
    ) |c, t| {
        c.vector(x, n, incx, bytes_of(x_type));
        c.result(result, bytes_of(result_type));
    }

    [cublasIamaxEx 0, cublasIaminEx 0]
    (n: c_int, x: u64, x_type: c_uint, incx: c_int, result: Scalar) |c, t| {
        c.vector(x, n, incx, bytes_of(x_type));
        c.result(result, 4);
    }

    // Factors are cuComplex, or of a Hermitian update float.
    [cublasCsyrkEx 8, cublasCherkEx 4]
    (
        uplo: c_uint, trans: c_uint, n: c_int, k: c_int, alpha: Scalar, a: u64, a_type: c_uint, lda: c_int,
        beta: Scalar, c: u64, c_type: c_uint, ldc: c_int,
    ) |looked, t| {
        looked.factor("alpha", alpha, t);
        looked.factor("beta", beta, t);
        let (rows, cols) = if trans == 0 { (n, k) } else { (k, n) };
        looked.matrix(a, rows, cols, lda, bytes_of(a_type));
        looked.matrix(c, n, n, ldc, bytes_of(c_type));
    }
}
