//! Level 1: vectors. A size below 0 is one of 0: there is nothing to do.

use vgpu_protocol::blas::ty::{C_32F, C_64F, R_32F, R_64F};
use vgpu_protocol::calls::{BlasRoutine, Routine};

use crate::abi::{Device, Done, INVALID, In, Out, exports};
use crate::handle;
use crate::routine::{new, part, result, send};

/// `CUBLAS_OP_N`, and `CUBLAS_OP_C` where a dot product conjugates x.
const N: u32 = 0;
const C: u32 = 2;

fn vectors(routine: Routine, ty: u32, n: i64, x: (Device, i64), y: (Device, i64)) -> BlasRoutine {
    BlasRoutine {
        n: n.max(0),
        a: part(ty, x.0, x.1),
        b: part(ty, y.0, y.1),
        ..new(routine, ty, (ty, ty))
    }
}

fn one(routine: Routine, ty: u32, n: i64, x: (Device, i64)) -> BlasRoutine {
    BlasRoutine {
        n: n.max(0),
        a: part(ty, x.0, x.1),
        ..new(routine, ty, (ty, ty))
    }
}

macro_rules! axpy {
    ($(fn $name:ident | $twin:ident: $ty:expr;)*) => {$(exports! {
        /// `y = alpha x + y`.
        fn $name | $twin [Int] (handle: u64, n: Int, alpha: In<u8>, x: Device, incx: Int, y: Device, incy: Int) {
            let op = vectors(Routine::Axpy, $ty, n.into(), (x, incx.into()), (y, incy.into()));
            let n = op.n;
            send(handle, op, Some(alpha), None, &[n])
        }
    })*};
}
axpy! {
    fn cublasSaxpy_v2 | cublasSaxpy_v2_64: R_32F;
    fn cublasDaxpy_v2 | cublasDaxpy_v2_64: R_64F;
    fn cublasCaxpy_v2 | cublasCaxpy_v2_64: C_32F;
    fn cublasZaxpy_v2 | cublasZaxpy_v2_64: C_64F;
}

macro_rules! copy {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// Copies or exchanges two vectors.
        fn $name | $twin [Int] (handle: u64, n: Int, x: Device, incx: Int, y: Device, incy: Int) {
            let op = vectors(Routine::$routine, $ty, n.into(), (x, incx.into()), (y, incy.into()));
            let n = op.n;
            send(handle, op, None, None, &[n])
        }
    })*};
}
copy! {
    fn cublasScopy_v2 | cublasScopy_v2_64: Copy, R_32F;
    fn cublasDcopy_v2 | cublasDcopy_v2_64: Copy, R_64F;
    fn cublasCcopy_v2 | cublasCcopy_v2_64: Copy, C_32F;
    fn cublasZcopy_v2 | cublasZcopy_v2_64: Copy, C_64F;
    fn cublasSswap_v2 | cublasSswap_v2_64: Swap, R_32F;
    fn cublasDswap_v2 | cublasDswap_v2_64: Swap, R_64F;
    fn cublasCswap_v2 | cublasCswap_v2_64: Swap, C_32F;
    fn cublasZswap_v2 | cublasZswap_v2_64: Swap, C_64F;
}

macro_rules! scal {
    ($(fn $name:ident | $twin:ident: $ty:expr, $alpha:expr;)*) => {$(exports! {
        /// `x = alpha x`.
        fn $name | $twin [Int] (handle: u64, n: Int, alpha: In<u8>, x: Device, incx: Int) {
            let mut op = one(Routine::Scal, $ty, n.into(), (x, incx.into()));
            op.scalars = ($alpha, $ty);
            let n = op.n;
            send(handle, op, Some(alpha), None, &[n])
        }
    })*};
}
scal! {
    fn cublasSscal_v2 | cublasSscal_v2_64: R_32F, R_32F;
    fn cublasDscal_v2 | cublasDscal_v2_64: R_64F, R_64F;
    fn cublasCscal_v2 | cublasCscal_v2_64: C_32F, C_32F;
    fn cublasZscal_v2 | cublasZscal_v2_64: C_64F, C_64F;
    fn cublasCsscal_v2 | cublasCsscal_v2_64: C_32F, R_32F;
    fn cublasZdscal_v2 | cublasZdscal_v2_64: C_64F, R_64F;
}

macro_rules! rot {
    ($(fn $name:ident | $twin:ident: $ty:expr, $c:expr, $s:expr;)*) => {$(exports! {
        /// Rotates x and y.
        fn $name | $twin [Int] (handle: u64, n: Int, x: Device, incx: Int, y: Device, incy: Int, c: In<u8>, s: In<u8>) {
            let mut op = vectors(Routine::Rot, $ty, n.into(), (x, incx.into()), (y, incy.into()));
            op.scalars = ($c, $s);
            let n = op.n;
            send(handle, op, Some(c), Some(s), &[n])
        }
    })*};
}
rot! {
    fn cublasSrot_v2 | cublasSrot_v2_64: R_32F, R_32F, R_32F;
    fn cublasDrot_v2 | cublasDrot_v2_64: R_64F, R_64F, R_64F;
    fn cublasCrot_v2 | cublasCrot_v2_64: C_32F, R_32F, C_32F;
    fn cublasZrot_v2 | cublasZrot_v2_64: C_64F, R_64F, C_64F;
    fn cublasCsrot_v2 | cublasCsrot_v2_64: C_32F, R_32F, R_32F;
    fn cublasZdrot_v2 | cublasZdrot_v2_64: C_64F, R_64F, R_64F;
}

/// The parameters of a modified rotation, where they lie.
pub fn parameters(handle: u64, op: &mut BlasRoutine, at: In<u8>, bytes: usize) -> Done {
    let on_device = handle::get(handle)?.device_pointers();
    if at.is_null() {
        return Err(INVALID);
    }
    if on_device {
        op.alpha.device = at.device();
        return Ok(());
    }
    let mut raw = [0u8; 40];
    for i in 0..5 {
        raw[i * bytes..][..bytes].copy_from_slice(&at.offset(i * bytes).bytes(bytes)?[..bytes]);
    }
    for (word, bytes) in op.param.iter_mut().zip(raw.chunks(8)) {
        let mut array = [0; 8];
        array.copy_from_slice(bytes);
        *word = u64::from_ne_bytes(array);
    }
    Ok(())
}

macro_rules! rotm {
    ($(fn $name:ident | $twin:ident: $ty:expr, $bytes:expr;)*) => {$(exports! {
        /// Rotates x and y by a matrix.
        fn $name | $twin [Int] (handle: u64, n: Int, x: Device, incx: Int, y: Device, incy: Int, param: In<u8>) {
            let mut op = vectors(Routine::Rotm, $ty, n.into(), (x, incx.into()), (y, incy.into()));
            parameters(handle, &mut op, param, $bytes)?;
            let n = op.n;
            send(handle, op, None, None, &[n])
        }
    })*};
}
rotm! {
    fn cublasSrotm_v2 | cublasSrotm_v2_64: R_32F, 4;
    fn cublasDrotm_v2 | cublasDrotm_v2_64: R_64F, 8;
}

macro_rules! dot {
    ($(fn $name:ident | $twin:ident: $ty:expr, $bytes:expr, $conj:expr;)*) => {$(exports! {
        /// A dot product.
        fn $name | $twin [Int] (handle: u64, n: Int, x: Device, incx: Int, y: Device, incy: Int, out: Out<[u8; $bytes]>) {
            let mut op = vectors(Routine::Dot, $ty, n.into(), (x, incx.into()), (y, incy.into()));
            op.transb = $conj;
            result(handle, op, out)
        }
    })*};
}
dot! {
    fn cublasSdot_v2 | cublasSdot_v2_64: R_32F, 4, N;
    fn cublasDdot_v2 | cublasDdot_v2_64: R_64F, 8, N;
    fn cublasCdotu_v2 | cublasCdotu_v2_64: C_32F, 8, N;
    fn cublasCdotc_v2 | cublasCdotc_v2_64: C_32F, 8, C;
    fn cublasZdotu_v2 | cublasZdotu_v2_64: C_64F, 16, N;
    fn cublasZdotc_v2 | cublasZdotc_v2_64: C_64F, 16, C;
}

macro_rules! norm {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr, $bytes:expr;)*) => {$(exports! {
        /// A norm.
        fn $name | $twin [Int] (handle: u64, n: Int, x: Device, incx: Int, out: Out<[u8; $bytes]>) {
            let op = one(Routine::$routine, $ty, n.into(), (x, incx.into()));
            result(handle, op, out)
        }
    })*};
}
norm! {
    fn cublasSnrm2_v2 | cublasSnrm2_v2_64: Nrm2, R_32F, 4;
    fn cublasDnrm2_v2 | cublasDnrm2_v2_64: Nrm2, R_64F, 8;
    fn cublasScnrm2_v2 | cublasScnrm2_v2_64: Nrm2, C_32F, 4;
    fn cublasDznrm2_v2 | cublasDznrm2_v2_64: Nrm2, C_64F, 8;
    fn cublasSasum_v2 | cublasSasum_v2_64: Asum, R_32F, 4;
    fn cublasDasum_v2 | cublasDasum_v2_64: Asum, R_64F, 8;
    fn cublasScasum_v2 | cublasScasum_v2_64: Asum, C_32F, 4;
    fn cublasDzasum_v2 | cublasDzasum_v2_64: Asum, C_64F, 8;
}

macro_rules! index {
    ($(fn $name:ident | $twin:ident: $routine:ident, $ty:expr;)*) => {$(exports! {
        /// The first index of the greatest or least magnitude.
        fn $name | $twin [Int] (handle: u64, n: Int, x: Device, incx: Int, out: Out<[u8; size_of::<Int>()]>) {
            let op = one(Routine::$routine, $ty, n.into(), (x, incx.into()));
            result(handle, op, out)
        }
    })*};
}
index! {
    fn cublasIsamax_v2 | cublasIsamax_v2_64: Amax, R_32F;
    fn cublasIdamax_v2 | cublasIdamax_v2_64: Amax, R_64F;
    fn cublasIcamax_v2 | cublasIcamax_v2_64: Amax, C_32F;
    fn cublasIzamax_v2 | cublasIzamax_v2_64: Amax, C_64F;
    fn cublasIsamin_v2 | cublasIsamin_v2_64: Amin, R_32F;
    fn cublasIdamin_v2 | cublasIdamin_v2_64: Amin, R_64F;
    fn cublasIcamin_v2 | cublasIcamin_v2_64: Amin, C_32F;
    fn cublasIzamin_v2 | cublasIzamin_v2_64: Amin, C_64F;
}
