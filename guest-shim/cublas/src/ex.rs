//! Functions whose types are arguments: levels 1 and 3. Halves are computed in single precision.

use vgpu_protocol::blas::ty::{C_8I, C_32F, C_64F, R_16BF, R_16F, R_32F, R_64F};
use vgpu_protocol::blas::{BlasStatus, type_bytes};
use vgpu_protocol::calls::{BlasMatrix, BlasRoutine, Routine};

use crate::abi::{Device, Done, In, Out, exports};
use crate::handle;
use crate::level1::parameters;
use crate::routine::{new, part, result, send};

/// The documented combinations: vectors of one type, computed in it, or in single precision where they are
/// halves. Gives the type in which is computed.
fn kind(handle: u64, vectors: &[u32], execution: u32) -> Done<u32> {
    handle::get(handle)?;
    let same = vectors.iter().all(|ty| *ty == vectors[0]);
    let known = match vectors[0] {
        R_16F | R_16BF => execution == R_32F,
        own => matches!(own, R_32F | R_64F | C_32F | C_64F) && execution == own,
    };
    if same && known {
        Ok(execution)
    } else {
        Err(BlasStatus::NOT_SUPPORTED)
    }
}

fn supported(condition: bool) -> Done {
    if condition {
        Ok(())
    } else {
        Err(BlasStatus::NOT_SUPPORTED)
    }
}

/// In which type vectors of one type are computed.
fn execution(ty: u32) -> u32 {
    match ty {
        R_16F | R_16BF => R_32F,
        own => own,
    }
}

fn vectors(routine: Routine, ty: u32, n: i64, x: BlasMatrix, y: BlasMatrix) -> BlasRoutine {
    BlasRoutine {
        n: n.max(0),
        a: x,
        b: y,
        ..new(routine, ty, (ty, ty))
    }
}

fn nowhere(ty: u32) -> BlasMatrix {
    BlasMatrix {
        ty,
        ..BlasMatrix::default()
    }
}

/// Sends a routine whose result is of the type of `op.scalars.0`.
fn answer(handle: u64, op: BlasRoutine, out: Out<u8>) -> Done {
    match type_bytes(op.scalars.0) {
        Some(2) => result::<2>(handle, op, out.cast()),
        Some(4) => result::<4>(handle, op, out.cast()),
        Some(8) => result::<8>(handle, op, out.cast()),
        _ => result::<16>(handle, op, out.cast()),
    }
}

/// The real type of a norm.
fn real(ty: u32) -> u32 {
    match ty {
        C_32F => R_32F,
        C_64F => R_64F,
        own => own,
    }
}

exports! {
    /// `y = alpha x + y`.
    fn cublasAxpyEx | cublasAxpyEx_64 [Int] (
        handle: u64, n: Int, alpha: In<u8>, alpha_type: u32, x: Device, x_type: u32, incx: Int,
        y: Device, y_type: u32, incy: Int, execution: u32,
    ) {
        let ty = kind(handle, &[x_type, y_type], execution)?;
        supported(alpha_type == ty)?;
        let (x, y) = (part(x_type, x, incx.into()), part(y_type, y, incy.into()));
        let op = vectors(Routine::Axpy, ty, n.into(), x, y);
        let n = op.n;
        send(handle, op, Some(alpha), None, &[n])
    }

    /// `x = alpha x`.
    fn cublasScalEx | cublasScalEx_64 [Int] (
        handle: u64, n: Int, alpha: In<u8>, alpha_type: u32, x: Device, x_type: u32, incx: Int, execution: u32,
    ) {
        let ty = kind(handle, &[x_type], execution)?;
        supported(alpha_type == ty)?;
        let op = vectors(Routine::Scal, ty, n.into(), part(x_type, x, incx.into()), nowhere(x_type));
        let n = op.n;
        send(handle, op, Some(alpha), None, &[n])
    }

    /// `y = x`.
    fn cublasCopyEx | cublasCopyEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, y: Device, y_type: u32, incy: Int,
    ) {
        let ty = kind(handle, &[x_type, y_type], execution(x_type))?;
        let (x, y) = (part(x_type, x, incx.into()), part(y_type, y, incy.into()));
        let op = vectors(Routine::Copy, ty, n.into(), x, y);
        let n = op.n;
        send(handle, op, None, None, &[n])
    }

    /// Exchanges x and y.
    fn cublasSwapEx | cublasSwapEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, y: Device, y_type: u32, incy: Int,
    ) {
        let ty = kind(handle, &[x_type, y_type], execution(x_type))?;
        let (x, y) = (part(x_type, x, incx.into()), part(y_type, y, incy.into()));
        let op = vectors(Routine::Swap, ty, n.into(), x, y);
        let n = op.n;
        send(handle, op, None, None, &[n])
    }

    /// The dot product.
    fn cublasDotEx | cublasDotEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, y: Device, y_type: u32, incy: Int,
        out: Out<u8>, out_type: u32, execution: u32,
    ) {
        dot(handle, n.into(), (x, x_type, incx.into()), (y, y_type, incy.into()), (out, out_type), execution, 0)
    }

    /// The dot product with x conjugated.
    fn cublasDotcEx | cublasDotcEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, y: Device, y_type: u32, incy: Int,
        out: Out<u8>, out_type: u32, execution: u32,
    ) {
        dot(handle, n.into(), (x, x_type, incx.into()), (y, y_type, incy.into()), (out, out_type), execution, 2)
    }

    /// The Euclidean norm.
    fn cublasNrm2Ex | cublasNrm2Ex_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, out: Out<u8>, out_type: u32, execution: u32,
    ) {
        norm(handle, Routine::Nrm2, n.into(), (x, x_type, incx.into()), (out, out_type), execution)
    }

    /// The sum of magnitudes.
    fn cublasAsumEx | cublasAsumEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, out: Out<u8>, out_type: u32, execution: u32,
    ) {
        norm(handle, Routine::Asum, n.into(), (x, x_type, incx.into()), (out, out_type), execution)
    }

    /// The first index of the greatest magnitude.
    fn cublasIamaxEx | cublasIamaxEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, out: Out<[u8; size_of::<Int>()]>,
    ) {
        let ty = kind(handle, &[x_type], execution(x_type))?;
        let op = vectors(Routine::Amax, ty, n.into(), part(x_type, x, incx.into()), nowhere(x_type));
        result(handle, op, out)
    }

    /// The first index of the least magnitude.
    fn cublasIaminEx | cublasIaminEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, out: Out<[u8; size_of::<Int>()]>,
    ) {
        let ty = kind(handle, &[x_type], execution(x_type))?;
        let op = vectors(Routine::Amin, ty, n.into(), part(x_type, x, incx.into()), nowhere(x_type));
        result(handle, op, out)
    }

    /// Rotates x and y.
    fn cublasRotEx | cublasRotEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, y: Device, y_type: u32, incy: Int,
        c: In<u8>, s: In<u8>, factor_type: u32, execution: u32,
    ) {
        let ty = kind(handle, &[x_type, y_type], execution)?;
        // Of halves the factors are halves, of complex numbers real or complex.
        supported(factor_type == x_type || factor_type == real(x_type))?;
        let (x, y) = (part(x_type, x, incx.into()), part(y_type, y, incy.into()));
        let mut op = vectors(Routine::Rot, ty, n.into(), x, y);
        op.scalars = (real(factor_type), factor_type);
        let n = op.n;
        send(handle, op, Some(c), Some(s), &[n])
    }

    /// Rotates x and y by a matrix.
    fn cublasRotmEx | cublasRotmEx_64 [Int] (
        handle: u64, n: Int, x: Device, x_type: u32, incx: Int, y: Device, y_type: u32, incy: Int,
        param: In<u8>, param_type: u32, execution: u32,
    ) {
        let ty = kind(handle, &[x_type, y_type], execution)?;
        // Of halves the parameters would be halves: that is not there.
        supported(matches!(ty, R_32F | R_64F) && x_type == ty && param_type == ty)?;
        let (x, y) = (part(x_type, x, incx.into()), part(y_type, y, incy.into()));
        let mut op = vectors(Routine::Rotm, ty, n.into(), x, y);
        parameters(handle, &mut op, param, if ty == R_64F { 8 } else { 4 })?;
        let n = op.n;
        send(handle, op, None, None, &[n])
    }
}

type Vector = (Device, u32, i64);

fn dot(
    handle: u64,
    n: i64,
    x: Vector,
    y: Vector,
    (out, out_type): (Out<u8>, u32),
    execution: u32,
    conjugated: u32,
) -> Done {
    let ty = kind(handle, &[x.1, y.1, out_type], execution)?;
    let op = BlasRoutine {
        transb: conjugated,
        scalars: (out_type, ty),
        ..vectors(
            Routine::Dot,
            ty,
            n,
            part(x.1, x.0, x.2),
            part(y.1, y.0, y.2),
        )
    };
    answer(handle, op, out)
}

fn norm(
    handle: u64,
    routine: Routine,
    n: i64,
    x: Vector,
    (out, out_type): (Out<u8>, u32),
    execution: u32,
) -> Done {
    handle::get(handle)?;
    // A norm of complex numbers is real, and computed in real numbers.
    supported(out_type == real(x.1) && execution == self::execution(real(x.1)))?;
    let ty = kind(handle, &[x.1], self::execution(x.1))?;
    let op = BlasRoutine {
        scalars: (out_type, ty),
        ..vectors(routine, ty, n, part(x.1, x.0, x.2), nowhere(x.1))
    };
    answer(handle, op, out)
}

macro_rules! rank_k {
    ($(fn $name:ident | $twin:ident: $routine:ident, $beta:expr;)*) => {$(exports! {
        /// A product of a matrix with its transpose: of int8 or single precision, into single precision.
        fn $name | $twin [Int] (
            handle: u64, uplo: u32, trans: u32, n: Int, k: Int, alpha: In<u8>, a: Device, a_type: u32, lda: Int,
            beta: In<u8>, c: Device, c_type: u32, ldc: Int,
        ) {
            handle::get(handle)?;
            supported(matches!(a_type, C_8I | C_32F) && c_type == C_32F)?;
            let op = BlasRoutine {
                uplo, transa: trans, n: n.into(), k: k.into(),
                a: part(a_type, a, lda.into()), c: part(c_type, c, ldc.into()),
                ..new(Routine::$routine, C_32F, ($beta, $beta))
            };
            send(handle, op, Some(alpha), Some(beta), &[n.into()])
        }
    })*};
}
rank_k! {
    fn cublasCsyrkEx | cublasCsyrkEx_64: Syrk, C_32F;
    fn cublasCsyrk3mEx | cublasCsyrk3mEx_64: Syrk, C_32F;
    fn cublasCherkEx | cublasCherkEx_64: Herk, R_32F;
    fn cublasCherk3mEx | cublasCherk3mEx_64: Herk, R_32F;
}
