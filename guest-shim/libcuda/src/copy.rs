//! Copies. One that touches the program's memory has taken or delivered its bytes on return, which
//! the asynchronous calls allow for pageable memory.

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use vgpu_protocol::calls::stubs;
use vgpu_transport::copy::Place;

use crate::abi::{Done, Host, INVALID, Zero, exports};
use crate::init::{Driver, driver};
use crate::stream::Queue;

const DEFAULT: CUstream = std::ptr::null_mut();

fn place(queue: &Queue) -> Place {
    Place {
        ctx: queue.ctx_id,
        stream: queue.id,
    }
}

fn to_device(dst: CUdeviceptr, src: Host, bytes: usize, stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = driver.queue(stream, zero)?;
    if bytes == 0 {
        return Ok(());
    }
    let dst = driver.check_range(dst, bytes as u64)?;
    driver
        .channel
        .copy_to_device(place(&queue), dst, src.source(bytes)?)
}

fn to_host(dst: Host, src: CUdeviceptr, bytes: usize, stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = driver.queue(stream, zero)?;
    if bytes == 0 {
        return Ok(());
    }
    let src = driver.check_range(src, bytes as u64)?;
    driver
        .channel
        .copy_from_device(place(&queue), src, dst.target(bytes)?)
}

fn within_device(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
    zero: Zero,
) -> Done {
    let driver = driver()?;
    let queue = driver.queue(stream, zero)?;
    if bytes == 0 {
        return Ok(());
    }
    let dst = driver.check_range(dst, bytes as u64)?;
    let src = driver.check_range(src, bytes as u64)?;
    stubs::memcpy_dtod(
        driver.channel,
        queue.ctx_id,
        dst,
        src,
        bytes as u64,
        queue.id,
    )
}

fn is_device(driver: &Driver, address: CUdeviceptr) -> bool {
    driver.alloc_at(address).is_some()
}

/// A copy whose direction follows from the addresses (unified addressing).
pub fn copy(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
    zero: Zero,
) -> Done {
    let driver = driver()?;
    let host = |address: CUdeviceptr| Host(address as *mut _);
    match (is_device(driver, dst), is_device(driver, src)) {
        (true, true) => within_device(dst, src, bytes, stream, zero),
        (true, false) => to_device(dst, host(src), bytes, stream, zero),
        (false, true) => to_host(host(dst), src, bytes, stream, zero),
        (false, false) => {
            driver.queue(stream, zero)?;
            if bytes == 0 {
                return Ok(());
            }
            // Neither is device memory: both are the program's, in order after the stream's work.
            let data = host(src).source(bytes)?;
            let mut target = host(dst).target(bytes)?;
            crate::stream::wait(stream, zero)?;
            match target.store(0, &data.to_vec(0, bytes)) {
                stored if stored == bytes => Ok(()),
                _ => Err(INVALID),
            }
        }
    }
}

exports! {
    /// Copies from the program to the device.
    fn cuMemcpyHtoD_v2 | cuMemcpyHtoD_v2_ptds [zero] (dst: CUdeviceptr, src: Host, bytes: usize) {
        to_device(dst, src, bytes, DEFAULT, zero)
    }

    /// Copies from the program to the device in a stream.
    fn cuMemcpyHtoDAsync_v2 | cuMemcpyHtoDAsync_v2_ptsz [zero] (dst: CUdeviceptr, src: Host, bytes: usize, stream: CUstream) {
        to_device(dst, src, bytes, stream, zero)
    }

    /// Copies from the device to the program.
    fn cuMemcpyDtoH_v2 | cuMemcpyDtoH_v2_ptds [zero] (dst: Host, src: CUdeviceptr, bytes: usize) {
        to_host(dst, src, bytes, DEFAULT, zero)
    }

    /// Copies from the device to the program in a stream.
    fn cuMemcpyDtoHAsync_v2 | cuMemcpyDtoHAsync_v2_ptsz [zero] (dst: Host, src: CUdeviceptr, bytes: usize, stream: CUstream) {
        to_host(dst, src, bytes, stream, zero)
    }

    /// Copies within the device.
    fn cuMemcpyDtoD_v2 | cuMemcpyDtoD_v2_ptds [zero] (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize) {
        within_device(dst, src, bytes, DEFAULT, zero)
    }

    /// Copies within the device in a stream.
    fn cuMemcpyDtoDAsync_v2 | cuMemcpyDtoDAsync_v2_ptsz [zero] (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream) {
        within_device(dst, src, bytes, stream, zero)
    }

    /// Copies between any two addresses.
    fn cuMemcpy | cuMemcpy_ptds [zero] (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize) {
        copy(dst, src, bytes, DEFAULT, zero)
    }

    /// Copies between any two addresses in a stream.
    fn cuMemcpyAsync | cuMemcpyAsync_ptsz [zero] (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream) {
        copy(dst, src, bytes, stream, zero)
    }
}
