//! Vectors.

use std::ffi::c_int;

use super::{Scalar, routines};

routines! {
    [cublasSaxpy_v2 4, cublasDaxpy_v2 8, cublasCaxpy_v2 8, cublasZaxpy_v2 16]
    (n: c_int, alpha: Scalar, x: u64, incx: c_int, y: u64, incy: c_int) |c, t| {
        c.factor("alpha", alpha, t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [
        cublasScopy_v2 4, cublasDcopy_v2 8, cublasCcopy_v2 8, cublasZcopy_v2 16,
        cublasSswap_v2 4, cublasDswap_v2 8, cublasCswap_v2 8, cublasZswap_v2 16,
    ]
    (n: c_int, x: u64, incx: c_int, y: u64, incy: c_int) |c, t| {
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [cublasSscal_v2 4, cublasDscal_v2 8, cublasCscal_v2 8, cublasZscal_v2 16]
    (n: c_int, alpha: Scalar, x: u64, incx: c_int) |c, t| {
        c.factor("alpha", alpha, t);
        c.vector(x, n, incx, t);
    }

    [cublasCsscal_v2 8, cublasZdscal_v2 16]
    (n: c_int, alpha: Scalar, x: u64, incx: c_int) |c, t| {
        c.factor("alpha", alpha, t / 2);
        c.vector(x, n, incx, t);
    }

    [cublasSrot_v2 4, cublasDrot_v2 8]
    (n: c_int, x: u64, incx: c_int, y: u64, incy: c_int, cosine: Scalar, sine: Scalar) |c, t| {
        c.factor("cosine", cosine, t);
        c.factor("sine", sine, t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [cublasCrot_v2 8, cublasZrot_v2 16]
    (n: c_int, x: u64, incx: c_int, y: u64, incy: c_int, cosine: Scalar, sine: Scalar) |c, t| {
        c.factor("cosine", cosine, t / 2);
        c.factor("sine", sine, t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [cublasCsrot_v2 8, cublasZdrot_v2 16]
    (n: c_int, x: u64, incx: c_int, y: u64, incy: c_int, cosine: Scalar, sine: Scalar) |c, t| {
        c.factor("cosine", cosine, t / 2);
        c.factor("sine", sine, t / 2);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [cublasSrotm_v2 4, cublasDrotm_v2 8]
    (n: c_int, x: u64, incx: c_int, y: u64, incy: c_int, param: Scalar) |c, t| {
        c.factor("param", param, 5 * t);
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
    }

    [
        cublasSdot_v2 4, cublasDdot_v2 8, cublasCdotu_v2 8, cublasZdotu_v2 16,
        cublasCdotc_v2 8, cublasZdotc_v2 16,
    ]
    (n: c_int, x: u64, incx: c_int, y: u64, incy: c_int, result: Scalar) |c, t| {
        c.vector(x, n, incx, t);
        c.vector(y, n, incy, t);
        c.result(result, t);
    }

    [
        cublasSnrm2_v2 4, cublasDnrm2_v2 8, cublasSasum_v2 4, cublasDasum_v2 8,
    ]
    (n: c_int, x: u64, incx: c_int, result: Scalar) |c, t| {
        c.vector(x, n, incx, t);
        c.result(result, t);
    }

    [
        cublasScnrm2_v2 8, cublasDznrm2_v2 16, cublasScasum_v2 8, cublasDzasum_v2 16,
    ]
    (n: c_int, x: u64, incx: c_int, result: Scalar) |c, t| {
        c.vector(x, n, incx, t);
        c.result(result, t / 2);
    }

    [
        cublasIsamax_v2 4, cublasIdamax_v2 8, cublasIcamax_v2 8, cublasIzamax_v2 16,
        cublasIsamin_v2 4, cublasIdamin_v2 8, cublasIcamin_v2 8, cublasIzamin_v2 16,
    ]
    (n: c_int, x: u64, incx: c_int, result: Scalar) |c, t| {
        c.vector(x, n, incx, t);
        c.result(result, 4);
    }
}
