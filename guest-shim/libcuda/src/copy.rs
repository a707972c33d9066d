//! Copies. One that touches the program's memory has taken or delivered its bytes on return, which
//! the asynchronous calls allow for pageable memory.

use std::sync::Arc;

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use vgpu_protocol::calls::{DevPtr, stubs};
use vgpu_protocol::limits::MAX_INLINE_COPY_BYTES;
use vgpu_transport::copy::Place;

use crate::abi::{Done, Host, INVALID, Zero, exports};
use crate::capture::Target;
use crate::copy_batch::row_within;
use crate::copy3d::{Copy3d, Side};
use crate::graph::Work;
use crate::init::driver;
use crate::pending::MOST_POSTED_BYTES;
use crate::stream::Queue;

const DEFAULT: CUstream = std::ptr::null_mut();

fn place(queue: &Queue) -> Place {
    Place {
        ctx: queue.ctx_id,
        stream: queue.id,
    }
}

/// Adds a node in place of a copy where the stream captures; tells whether it did.
fn captured(
    dst: (CUdeviceptr, bool),
    src: (CUdeviceptr, bool),
    bytes: usize,
    stream: CUstream,
    zero: Zero,
) -> Done<bool> {
    let driver = driver()?;
    let capture = match driver.target(stream, zero)? {
        Target::Capture(capture) => capture,
        Target::Queue(queue) => {
            queue.looked_at();
            return Ok(false);
        }
    };
    for (address, on_device) in [dst, src] {
        if on_device && bytes > 0 {
            driver.check_range(address, bytes as u64)?;
        }
    }
    capture.add(Work::Copy(Copy3d {
        ctx: Arc::clone(&capture.queue.ctx),
        src: Side::flat(src.0, src.1),
        dst: Side::flat(dst.0, dst.1),
        width: bytes as u64,
        height: 1,
        depth: 1,
    }))?;
    Ok(true)
}

/// When a copy has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On return, as far as the program could see the difference.
    Now,
    /// In the stream's turn.
    InOrder,
}

/// Copies between addresses that the device reaches: no byte of it passes through here. What is
/// host memory at one end may be looked at, or changed, when a call that is not asynchronous
/// returns.
fn reached(dst: DevPtr, src: DevPtr, bytes: usize, queue: &Queue, when: When) -> Done {
    let driver = driver()?;
    let bytes = bytes as u64;
    stubs::memcpy_dtod(driver.channel, queue.ctx_id, dst, src, bytes, queue.id)?;
    if when == When::Now && (driver.is_host(dst.0) || driver.is_host(src.0)) {
        stubs::stream_synchronize(driver.channel, queue.ctx_id, queue.id)?;
    }
    Ok(())
}

fn to_device(
    dst: CUdeviceptr,
    src: Host,
    bytes: usize,
    (stream, zero): (CUstream, Zero),
    when: When,
) -> Done {
    let driver = driver()?;
    let mut queue = driver.queue(stream, zero)?;
    if bytes == 0 {
        return Ok(());
    }
    let to = driver.check_range(dst, bytes as u64)?;
    if let Some(from) = driver.host_range(src.0 as u64, bytes as u64) {
        // A short one is on its way sooner when nobody waits for it: its bytes go with the record. Where nothing
        // can change them before the stream's turn, they may be read at once.
        let short = !driver.is_host(dst)
            && match when {
                When::Now => bytes <= MAX_INLINE_COPY_BYTES as usize,
                When::InOrder => bytes as u64 <= MOST_POSTED_BYTES && queue.is_harmless(),
            };
        if !short {
            return reached(to, from, bytes, &queue, when);
        }
    }
    // Host memory that the device reaches the program can look at by itself: a copy there is work
    // like any other.
    if !driver.is_host(dst) {
        queue.uses.staged(bytes as u64);
    }
    driver
        .channel
        .copy_to_device(place(&queue), to, src.source(bytes)?)?;
    if when == When::Now && driver.is_host(dst) {
        return stubs::stream_synchronize(driver.channel, queue.ctx_id, queue.id);
    }
    Ok(())
}

fn to_host(
    dst: Host,
    src: CUdeviceptr,
    bytes: usize,
    (stream, zero): (CUstream, Zero),
    when: When,
) -> Done {
    let driver = driver()?;
    let mut queue = driver.queue(stream, zero)?;
    if bytes == 0 {
        return Ok(());
    }
    let src = driver.check_range(src, bytes as u64)?;
    if let Some(to) = driver.host_range(dst.0 as u64, bytes as u64) {
        return reached(to, src, bytes, &queue, when);
    }
    queue.uses.nothing();
    let seen = queue.seen();
    driver
        .channel
        .copy_from_device(place(&queue), src, dst.target(bytes)?)?;
    // The bytes are there, so all that is before them in the stream is done.
    queue.waited_for(seen);
    Ok(())
}

fn within_device(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    (stream, zero): (CUstream, Zero),
    when: When,
) -> Done {
    let driver = driver()?;
    let queue = driver.queue(stream, zero)?;
    if bytes == 0 {
        return Ok(());
    }
    let (to, from) = (
        driver.foreign(dst, &queue.ctx),
        driver.foreign(src, &queue.ctx),
    );
    if to.is_some() || from.is_some() {
        let places = (queue.ctx_id, queue.id);
        return row_within(driver, (dst, src), bytes as u64, &queue.ctx, places);
    }
    let dst = driver.check_range(dst, bytes as u64)?;
    let src = driver.check_range(src, bytes as u64)?;
    reached(dst, src, bytes, &queue, when)
}

/// Copies between memory of the program, in order after the stream's work.
fn within_host(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    (stream, zero): (CUstream, Zero),
    when: When,
) -> Done {
    let driver = driver()?;
    let queue = driver.queue(stream, zero)?;
    if bytes == 0 {
        return Ok(());
    }
    let reach = |at| driver.host_range(at, bytes as u64);
    if when == When::InOrder
        && let (Some(to), Some(from)) = (reach(dst), reach(src))
    {
        return reached(to, from, bytes, &queue, when);
    }
    let host = |address: CUdeviceptr| Host(address as *mut _);
    let data = host(src).source(bytes)?;
    let mut target = host(dst).target(bytes)?;
    crate::stream::wait(stream, zero)?;
    match target.store(0, &data.to_vec(0, bytes)) {
        stored if stored == bytes => Ok(()),
        _ => Err(INVALID),
    }
}

/// A copy whose direction follows from the addresses (unified addressing).
pub fn copy(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    of: (CUstream, Zero),
    when: When,
) -> Done {
    let driver = driver()?;
    let host = |address: CUdeviceptr| Host(address as *mut _);
    // Where host memory has another address for the device, either names it.
    let own = |address| {
        driver
            .host_at(address)
            .map_or(address, |found| found.address)
    };
    let (dst, src) = (own(dst), own(src));
    match (driver.is_device(dst), driver.is_device(src)) {
        (true, true) => within_device(dst, src, bytes, of, when),
        (true, false) => to_device(dst, host(src), bytes, of, when),
        (false, true) => to_host(host(dst), src, bytes, of, when),
        (false, false) => within_host(dst, src, bytes, of, when),
    }
}

exports! {
    /// Copies from the program to the device.
    fn cuMemcpyHtoD_v2 | cuMemcpyHtoD_v2_ptds [zero] (dst: CUdeviceptr, src: Host, bytes: usize) {
        to_device(dst, src, bytes, (DEFAULT, zero), When::Now)
    }

    /// Copies from the program to the device in a stream.
    fn cuMemcpyHtoDAsync_v2 | cuMemcpyHtoDAsync_v2_ptsz [zero] (dst: CUdeviceptr, src: Host, bytes: usize, stream: CUstream) {
        if captured((dst, true), (src.0 as u64, false), bytes, stream, zero)? {
            return Ok(());
        }
        to_device(dst, src, bytes, (stream, zero), When::InOrder)
    }

    /// Copies from the device to the program.
    fn cuMemcpyDtoH_v2 | cuMemcpyDtoH_v2_ptds [zero] (dst: Host, src: CUdeviceptr, bytes: usize) {
        to_host(dst, src, bytes, (DEFAULT, zero), When::Now)
    }

    /// Copies from the device to the program in a stream.
    fn cuMemcpyDtoHAsync_v2 | cuMemcpyDtoHAsync_v2_ptsz [zero] (dst: Host, src: CUdeviceptr, bytes: usize, stream: CUstream) {
        if captured((dst.0 as u64, false), (src, true), bytes, stream, zero)? {
            return Ok(());
        }
        to_host(dst, src, bytes, (stream, zero), When::InOrder)
    }

    /// Copies within the device.
    fn cuMemcpyDtoD_v2 | cuMemcpyDtoD_v2_ptds [zero] (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize) {
        within_device(dst, src, bytes, (DEFAULT, zero), When::Now)
    }

    /// Copies within the device in a stream.
    fn cuMemcpyDtoDAsync_v2 | cuMemcpyDtoDAsync_v2_ptsz [zero] (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream) {
        if captured((dst, true), (src, true), bytes, stream, zero)? {
            return Ok(());
        }
        within_device(dst, src, bytes, (stream, zero), When::InOrder)
    }

    /// Copies between any two addresses.
    fn cuMemcpy | cuMemcpy_ptds [zero] (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize) {
        copy(dst, src, bytes, (DEFAULT, zero), When::Now)
    }

    /// Copies between any two addresses in a stream.
    fn cuMemcpyAsync | cuMemcpyAsync_ptsz [zero] (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream) {
        let driver = driver()?;
        let (to, from) = ((dst, driver.is_device(dst)), (src, driver.is_device(src)));
        if captured(to, from, bytes, stream, zero)? {
            return Ok(());
        }
        copy(dst, src, bytes, (stream, zero), When::InOrder)
    }
}
