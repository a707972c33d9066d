//! Setting device memory to a value, a byte at a time.

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use vgpu_protocol::Status;

use crate::abi::{Done, Zero, exports};
use crate::copy::When;
use crate::driver::Opaque;
use crate::runtime::enter;
use crate::types::{Extent, PitchedPtr};

/// "Fills … with the constant byte value": the value's lowest byte counts.
fn byte(value: i32) -> u8 {
    value.to_le_bytes()[0]
}

fn linear(at: Opaque, value: i32, bytes: usize, when: When, zero: Zero) -> Done {
    let runtime = enter()?;
    if bytes == 0 {
        return Ok(());
    }
    let at = at as CUdeviceptr;
    match when {
        When::Now => runtime.driver.cuMemsetD8_v2(zero, at, byte(value), bytes),
        When::In(stream) => runtime
            .driver
            .cuMemsetD8Async(zero, at, byte(value), bytes, stream),
    }
}

fn rows(
    at: CUdeviceptr,
    pitch: usize,
    value: i32,
    (width, height): (usize, usize),
    when: When,
    zero: Zero,
) -> Done {
    let runtime = enter()?;
    if width == 0 || height == 0 {
        return Ok(());
    }
    let value = byte(value);
    match when {
        When::Now => runtime
            .driver
            .cuMemsetD2D8_v2(zero, at, pitch, value, width, height),
        When::In(stream) => runtime
            .driver
            .cuMemsetD2D8Async(zero, at, pitch, value, width, height, stream),
    }
}

/// Slices one by one, `ysize` rows apart; at once where the extent leaves no rows out.
fn slices(at: PitchedPtr, value: i32, extent: Extent, when: When, zero: Zero) -> Done {
    if extent.height > at.ysize && extent.depth > 1 {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    let start = at.ptr as CUdeviceptr;
    if extent.height == at.ysize || extent.depth <= 1 {
        let all = extent.height.checked_mul(extent.depth);
        let all = all.ok_or(Status::ERROR_INVALID_VALUE)?;
        return rows(start, at.pitch, value, (extent.width, all), when, zero);
    }
    for slice in 0..extent.depth {
        let offset = at
            .pitch
            .checked_mul(at.ysize)
            .and_then(|b| b.checked_mul(slice));
        let offset = offset.ok_or(Status::ERROR_INVALID_VALUE)?;
        let first = start.wrapping_add(offset as u64);
        rows(
            first,
            at.pitch,
            value,
            (extent.width, extent.height),
            when,
            zero,
        )?;
    }
    Ok(())
}

exports! {
    /// Sets bytes.
    fn cudaMemset | cudaMemset_ptds [zero] (at: Opaque, value: i32, bytes: usize) {
        linear(at, value, bytes, When::Now, zero)
    }

    /// Sets bytes in a stream's order.
    fn cudaMemsetAsync | cudaMemsetAsync_ptsz [zero] (at: Opaque, value: i32, bytes: usize, stream: CUstream) {
        linear(at, value, bytes, When::In(stream), zero)
    }

    /// Sets rows of `width` bytes.
    fn cudaMemset2D | cudaMemset2D_ptds [zero] (
        at: Opaque, pitch: usize, value: i32, width: usize, height: usize,
    ) {
        rows(at as CUdeviceptr, pitch, value, (width, height), When::Now, zero)
    }

    /// Sets rows of `width` bytes in a stream's order.
    fn cudaMemset2DAsync | cudaMemset2DAsync_ptsz [zero] (
        at: Opaque, pitch: usize, value: i32, width: usize, height: usize, stream: CUstream,
    ) {
        rows(at as CUdeviceptr, pitch, value, (width, height), When::In(stream), zero)
    }

    /// Sets slices of rows.
    fn cudaMemset3D | cudaMemset3D_ptds [zero] (at: PitchedPtr, value: i32, extent: Extent) {
        slices(at, value, extent, When::Now, zero)
    }

    /// Sets slices of rows in a stream's order.
    fn cudaMemset3DAsync | cudaMemset3DAsync_ptsz [zero] (
        at: PitchedPtr, value: i32, extent: Extent, stream: CUstream,
    ) {
        slices(at, value, extent, When::In(stream), zero)
    }
}
