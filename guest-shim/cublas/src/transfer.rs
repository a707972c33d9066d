//! Vectors and matrices between host and device: copies of the driver with two pitches.
#![allow(unsafe_code)] // Functions of libcuda.

use std::ffi::c_void;

use vgpu_protocol::Status;

use crate::abi::{Device, Done, HostPtr, INVALID, exports, of_driver};
use crate::channel::remote;

/// `CUDA_MEMCPY2D` of cuda.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Copy2d {
    from: Place,
    to: Place,
    width: usize,
    height: usize,
}

/// One side of it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Place {
    x: usize,
    y: usize,
    kind: u32,
    host: usize,
    device: u64,
    array: usize,
    pitch: usize,
}

/// `CU_MEMORYTYPE_HOST` and `_DEVICE`.
const HOST: u32 = 1;
const DEVICE: u32 = 2;

fn host(at: HostPtr, pitch: usize) -> Place {
    Place {
        kind: HOST,
        host: at.address(),
        pitch,
        ..Place::default()
    }
}

fn device(at: Device, pitch: usize) -> Place {
    Place {
        kind: DEVICE,
        device: at.ptr().0,
        pitch,
        ..Place::default()
    }
}

/// Copies `height` rows of `width` bytes; in a stream where one is given.
fn copy(from: Place, to: Place, width: usize, height: usize, stream: Option<u64>) -> Done {
    if width == 0 || height == 0 {
        return Ok(());
    }
    let mut what = Copy2d {
        from,
        to,
        width,
        height,
    };
    if from.pitch == width && to.pitch == width {
        // All in one piece.
        what.width = width.checked_mul(height).ok_or(INVALID)?;
        what.height = 1;
        (what.from.pitch, what.to.pitch) = (what.width, what.width);
    }
    let remote = remote()?;
    let name = match stream {
        None => c"cuMemcpy2DUnaligned_v2",
        Some(_) => c"cuMemcpy2DAsync_v2",
    };
    let at = remote
        .symbol(name)
        .ok_or(vgpu_protocol::blas::BlasStatus::NOT_SUPPORTED)?;
    // SAFETY: exported functions of our libcuda, with the signatures of cuda.h. The program answers for
    // the memory that it names, as cuBLAS asks of it.
    let status = unsafe {
        match stream {
            None => {
                let f = std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*const Copy2d) -> u32,
                >(at);
                f(&raw const what)
            }
            Some(stream) => {
                let f = std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*const Copy2d, u64) -> u32,
                >(at);
                f(&raw const what, stream)
            }
        }
    };
    Status(status)
        .ok()
        .map_err(|status| match of_driver(status) {
            // "there was an error accessing GPU memory".
            INVALID => vgpu_protocol::blas::BlasStatus::MAPPING_ERROR,
            other => other,
        })
}

/// Sizes in bytes of a vector's element, and the distances of elements.
fn vector(n: i64, bytes: i64, from: i64, to: i64) -> Done<(usize, usize, usize, usize)> {
    let size = |value: i64| usize::try_from(value).map_err(|_| INVALID);
    if bytes <= 0 || from <= 0 || to <= 0 {
        return Err(INVALID);
    }
    let (n, bytes) = (size(n.max(0))?, size(bytes)?);
    let pitch = |inc: i64| size(inc)?.checked_mul(bytes).ok_or(INVALID);
    Ok((bytes, n, pitch(from)?, pitch(to)?))
}

/// Bytes of a column, columns, and the distances of columns.
fn matrix(
    rows: i64,
    cols: i64,
    bytes: i64,
    from: i64,
    to: i64,
) -> Done<(usize, usize, usize, usize)> {
    let size = |value: i64| usize::try_from(value).map_err(|_| INVALID);
    if rows < 0 || cols < 0 || bytes <= 0 || from <= 0 || to <= 0 || from < rows || to < rows {
        return Err(INVALID);
    }
    let times = |value: i64| size(value)?.checked_mul(bytes as usize).ok_or(INVALID);
    Ok((times(rows)?, size(cols)?, times(from)?, times(to)?))
}

exports! {
    /// Copies a vector to the device.
    fn cublasSetVector | cublasSetVector_64 [Int] (n: Int, bytes: Int, x: HostPtr, incx: Int, y: Device, incy: Int) {
        let (width, height, from, to) = vector(n.into(), bytes.into(), incx.into(), incy.into())?;
        copy(host(x, from), device(y, to), width, height, None)
    }

    /// Copies a vector from the device.
    fn cublasGetVector | cublasGetVector_64 [Int] (n: Int, bytes: Int, x: Device, incx: Int, y: HostPtr, incy: Int) {
        let (width, height, from, to) = vector(n.into(), bytes.into(), incx.into(), incy.into())?;
        copy(device(x, from), host(y, to), width, height, None)
    }

    /// Copies a matrix to the device.
    fn cublasSetMatrix | cublasSetMatrix_64 [Int] (
        rows: Int, cols: Int, bytes: Int, a: HostPtr, lda: Int, b: Device, ldb: Int,
    ) {
        let (width, height, from, to) = matrix(rows.into(), cols.into(), bytes.into(), lda.into(), ldb.into())?;
        copy(host(a, from), device(b, to), width, height, None)
    }

    /// Copies a matrix from the device.
    fn cublasGetMatrix | cublasGetMatrix_64 [Int] (
        rows: Int, cols: Int, bytes: Int, a: Device, lda: Int, b: HostPtr, ldb: Int,
    ) {
        let (width, height, from, to) = matrix(rows.into(), cols.into(), bytes.into(), lda.into(), ldb.into())?;
        copy(device(a, from), host(b, to), width, height, None)
    }

    /// Copies a vector to the device in a stream.
    fn cublasSetVectorAsync | cublasSetVectorAsync_64 [Int] (
        n: Int, bytes: Int, x: HostPtr, incx: Int, y: Device, incy: Int, stream: u64,
    ) {
        let (width, height, from, to) = vector(n.into(), bytes.into(), incx.into(), incy.into())?;
        copy(host(x, from), device(y, to), width, height, Some(stream))
    }

    /// Copies a vector from the device in a stream.
    fn cublasGetVectorAsync | cublasGetVectorAsync_64 [Int] (
        n: Int, bytes: Int, x: Device, incx: Int, y: HostPtr, incy: Int, stream: u64,
    ) {
        let (width, height, from, to) = vector(n.into(), bytes.into(), incx.into(), incy.into())?;
        copy(device(x, from), host(y, to), width, height, Some(stream))
    }

    /// Copies a matrix to the device in a stream.
    fn cublasSetMatrixAsync | cublasSetMatrixAsync_64 [Int] (
        rows: Int, cols: Int, bytes: Int, a: HostPtr, lda: Int, b: Device, ldb: Int, stream: u64,
    ) {
        let (width, height, from, to) = matrix(rows.into(), cols.into(), bytes.into(), lda.into(), ldb.into())?;
        copy(host(a, from), device(b, to), width, height, Some(stream))
    }

    /// Copies a matrix from the device in a stream.
    fn cublasGetMatrixAsync | cublasGetMatrixAsync_64 [Int] (
        rows: Int, cols: Int, bytes: Int, a: Device, lda: Int, b: HostPtr, ldb: Int, stream: u64,
    ) {
        let (width, height, from, to) = matrix(rows.into(), cols.into(), bytes.into(), lda.into(), ldb.into())?;
        copy(device(a, from), host(b, to), width, height, Some(stream))
    }
}
