//! Copies of rectangles, row by row.

use std::mem::offset_of;

use cudarc::driver::sys::{CUDA_MEMCPY2D_st as Raw, CUdeviceptr, CUstream};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, INVALID, Zero, exports};
use crate::copy::{When, copy};
use crate::init::driver;

const DEFAULT: CUstream = std::ptr::null_mut();

/// `CUmemorytype`.
const HOST: u32 = 1;
const DEVICE: u32 = 2;
const ARRAY: u32 = 3;
const UNIFIED: u32 = 4;

/// One side of the copy.
struct Side {
    start: CUdeviceptr,
    pitch: u64,
}

/// Offsets of one side's fields in `CUDA_MEMCPY2D`.
struct Fields {
    x: usize,
    y: usize,
    kind: usize,
    host: usize,
    device: usize,
    pitch: usize,
}

const SRC: Fields = Fields {
    x: offset_of!(Raw, srcXInBytes),
    y: offset_of!(Raw, srcY),
    kind: offset_of!(Raw, srcMemoryType),
    host: offset_of!(Raw, srcHost),
    device: offset_of!(Raw, srcDevice),
    pitch: offset_of!(Raw, srcPitch),
};

const DST: Fields = Fields {
    x: offset_of!(Raw, dstXInBytes),
    y: offset_of!(Raw, dstY),
    kind: offset_of!(Raw, dstMemoryType),
    host: offset_of!(Raw, dstHost),
    device: offset_of!(Raw, dstDevice),
    pitch: offset_of!(Raw, dstPitch),
};

/// Reads one side. Field by field: the memory type may be any number.
fn side(params: Host, fields: &Fields, width: u64, height: u64) -> Done<Side> {
    let word = |at: usize| params.offset(at).values::<u64>().get();
    let kind: u32 = params.offset(fields.kind).values().get()?;
    let (x, y, pitch) = (word(fields.x)?, word(fields.y)?, word(fields.pitch)?);
    let base = match kind {
        HOST => word(fields.host)?,
        DEVICE | UNIFIED => word(fields.device)?,
        ARRAY => return Err(Status::ERROR_NOT_SUPPORTED),
        _ => return Err(INVALID),
    };
    let end = x.checked_add(width).ok_or(INVALID)?;
    // A pitch has no meaning for a single row.
    if (height > 1 || y > 0) && pitch < end {
        return Err(INVALID);
    }
    let skip = y
        .checked_mul(pitch)
        .and_then(|s| s.checked_add(x))
        .ok_or(INVALID)?;
    let start = base.checked_add(skip).ok_or(INVALID)?;
    let rows = pitch.checked_mul(height.saturating_sub(1)).ok_or(INVALID)?;
    let bytes = rows.checked_add(width).ok_or(INVALID)?;
    start.checked_add(bytes).ok_or(INVALID)?;
    let in_device = driver()?.is_device(start);
    if kind == DEVICE || (kind == UNIFIED && in_device) {
        driver()?.check_range(start, bytes)?;
    } else if in_device && kind == HOST && !driver()?.is_host(start) {
        return Err(INVALID);
    }
    Ok(Side { start, pitch })
}

fn copy_2d(params: Host, of: (CUstream, Zero), when: When) -> Done {
    let (stream, zero) = of;
    driver()?;
    let width: u64 = params
        .offset(offset_of!(Raw, WidthInBytes))
        .values()
        .get()?;
    let height: u64 = params.offset(offset_of!(Raw, Height)).values().get()?;
    if width == 0 || height == 0 {
        return driver()?.queue(stream, zero).map(drop);
    }
    let (src, dst) = (
        side(params, &SRC, width, height)?,
        side(params, &DST, width, height)?,
    );
    if src.pitch == width && dst.pitch == width {
        let bytes = usize::try_from(width * height).map_err(|_| INVALID)?;
        return copy(dst.start, src.start, bytes, of, when);
    }
    for row in 0..height {
        let (to, from) = (dst.start + row * dst.pitch, src.start + row * src.pitch);
        copy(to, from, width as usize, of, When::InOrder)?;
    }
    // Rows in host memory that the device reaches were not waited for.
    let is_host = |at| driver().is_ok_and(|d| d.is_host(at));
    if when == When::Now && (is_host(src.start) || is_host(dst.start)) {
        crate::stream::wait(stream, zero)?;
    }
    Ok(())
}

exports! {
    /// Copies a rectangle.
    fn cuMemcpy2D_v2 | cuMemcpy2D_v2_ptds [zero] (params: Host) {
        copy_2d(params, (DEFAULT, zero), When::Now)
    }

    /// Copies a rectangle at any alignment.
    fn cuMemcpy2DUnaligned_v2 | cuMemcpy2DUnaligned_v2_ptds [zero] (params: Host) {
        copy_2d(params, (DEFAULT, zero), When::Now)
    }

    /// Copies a rectangle in a stream.
    fn cuMemcpy2DAsync_v2 | cuMemcpy2DAsync_v2_ptsz [zero] (params: Host, stream: CUstream) {
        copy_2d(params, (stream, zero), When::InOrder)
    }
}
