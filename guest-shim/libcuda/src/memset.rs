//! Setting device memory.

use std::sync::Arc;

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use vgpu_protocol::calls::stubs;

use crate::abi::{Done, INVALID, Zero, exports};
use crate::capture::Target;
use crate::graph::{Set, Work};
use crate::init::driver;

const DEFAULT: CUstream = std::ptr::null_mut();

fn set(at: CUdeviceptr, width: u8, value: u32, count: usize, stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    let target = driver.target(stream, zero)?;
    if !at.is_multiple_of(width.into()) {
        return Err(INVALID);
    }
    let bytes = (count as u64).checked_mul(width.into()).ok_or(INVALID)?;
    if bytes == 0 {
        return Ok(());
    }
    let at = driver.check_range(at, bytes)?;
    let queue = match target {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            return capture.add(Work::Set(Set {
                ctx: Arc::clone(&capture.queue.ctx),
                dst: at.0,
                pitch: 0,
                value,
                element: width.into(),
                width: count as u64,
                height: 1,
            }));
        }
    };
    stubs::memset(
        driver.channel,
        queue.ctx_id,
        at,
        width,
        value,
        count as u64,
        queue.id,
    )
}

/// The rectangle of a two-dimensional set: `height` rows of `count` elements, `pitch` bytes apart.
struct Rows {
    pitch: usize,
    count: usize,
    height: usize,
}

fn set_rows(
    at: CUdeviceptr,
    width: u8,
    value: u32,
    rows: Rows,
    stream: CUstream,
    zero: Zero,
) -> Done {
    let driver = driver()?;
    let target = driver.target(stream, zero)?;
    let pitch = rows.pitch as u64;
    let (count, height) = (rows.count as u64, rows.height as u64);
    let row = count.checked_mul(width.into()).ok_or(INVALID)?;
    if row == 0 || height == 0 {
        return Ok(());
    }
    let aligned = at.is_multiple_of(width.into()) && pitch.is_multiple_of(width.into());
    if height > 1 && (row > pitch || !aligned) || !at.is_multiple_of(width.into()) {
        return Err(INVALID);
    }
    let before = pitch.checked_mul(height - 1).ok_or(INVALID)?;
    let at = driver.check_range(at, before.checked_add(row).ok_or(INVALID)?)?;
    let queue = match target {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            return capture.add(Work::Set(Set {
                ctx: Arc::clone(&capture.queue.ctx),
                dst: at.0,
                pitch,
                value,
                element: width.into(),
                width: count,
                height,
            }));
        }
    };
    stubs::memset_2d(
        driver.channel,
        queue.ctx_id,
        at,
        pitch,
        width,
        value,
        count,
        height,
        queue.id,
    )
}

/// "Asynchronous with respect to the host except when the target is pinned host memory or a Unified
/// Memory region" (CUDA Driver API, "API synchronization behavior").
fn settled(at: CUdeviceptr, zero: Zero) -> Done {
    match driver()?.is_host(at) {
        true => crate::stream::wait(DEFAULT, zero),
        false => Ok(()),
    }
}

exports! {
    /// Sets bytes.
    fn cuMemsetD8_v2 | cuMemsetD8_v2_ptds [zero] (at: CUdeviceptr, value: u8, count: usize) {
        set(at, 1, value.into(), count, DEFAULT, zero)?;
        settled(at, zero)
    }

    /// Sets 16-bit values.
    fn cuMemsetD16_v2 | cuMemsetD16_v2_ptds [zero] (at: CUdeviceptr, value: u16, count: usize) {
        set(at, 2, value.into(), count, DEFAULT, zero)?;
        settled(at, zero)
    }

    /// Sets 32-bit values.
    fn cuMemsetD32_v2 | cuMemsetD32_v2_ptds [zero] (at: CUdeviceptr, value: u32, count: usize) {
        set(at, 4, value, count, DEFAULT, zero)?;
        settled(at, zero)
    }

    /// Sets bytes in a stream.
    fn cuMemsetD8Async | cuMemsetD8Async_ptsz [zero] (at: CUdeviceptr, value: u8, count: usize, stream: CUstream) {
        set(at, 1, value.into(), count, stream, zero)
    }

    /// Sets 16-bit values in a stream.
    fn cuMemsetD16Async | cuMemsetD16Async_ptsz [zero] (at: CUdeviceptr, value: u16, count: usize, stream: CUstream) {
        set(at, 2, value.into(), count, stream, zero)
    }

    /// Sets 32-bit values in a stream.
    fn cuMemsetD32Async | cuMemsetD32Async_ptsz [zero] (at: CUdeviceptr, value: u32, count: usize, stream: CUstream) {
        set(at, 4, value, count, stream, zero)
    }

    /// Sets rows of bytes.
    fn cuMemsetD2D8_v2 | cuMemsetD2D8_v2_ptds [zero] (at: CUdeviceptr, pitch: usize, value: u8, count: usize, height: usize) {
        set_rows(at, 1, value.into(), Rows { pitch, count, height }, DEFAULT, zero)?;
        settled(at, zero)
    }

    /// Sets rows of 16-bit values.
    fn cuMemsetD2D16_v2 | cuMemsetD2D16_v2_ptds [zero] (at: CUdeviceptr, pitch: usize, value: u16, count: usize, height: usize) {
        set_rows(at, 2, value.into(), Rows { pitch, count, height }, DEFAULT, zero)?;
        settled(at, zero)
    }

    /// Sets rows of 32-bit values.
    fn cuMemsetD2D32_v2 | cuMemsetD2D32_v2_ptds [zero] (at: CUdeviceptr, pitch: usize, value: u32, count: usize, height: usize) {
        set_rows(at, 4, value, Rows { pitch, count, height }, DEFAULT, zero)?;
        settled(at, zero)
    }

    /// Sets rows of bytes in a stream.
    fn cuMemsetD2D8Async | cuMemsetD2D8Async_ptsz [zero] (
        at: CUdeviceptr, pitch: usize, value: u8, count: usize, height: usize, stream: CUstream,
    ) {
        set_rows(at, 1, value.into(), Rows { pitch, count, height }, stream, zero)
    }

    /// Sets rows of 16-bit values in a stream.
    fn cuMemsetD2D16Async | cuMemsetD2D16Async_ptsz [zero] (
        at: CUdeviceptr, pitch: usize, value: u16, count: usize, height: usize, stream: CUstream,
    ) {
        set_rows(at, 2, value.into(), Rows { pitch, count, height }, stream, zero)
    }

    /// Sets rows of 32-bit values in a stream.
    fn cuMemsetD2D32Async | cuMemsetD2D32Async_ptsz [zero] (
        at: CUdeviceptr, pitch: usize, value: u32, count: usize, height: usize, stream: CUstream,
    ) {
        set_rows(at, 4, value, Rows { pitch, count, height }, stream, zero)
    }
}
