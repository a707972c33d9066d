//! Memory, copies and sets.

use std::ffi::{c_uint, c_void};

use cudarc::driver::sys::{CUdeviceptr, CUstream};

use crate::state::{INVALID_VALUE, Op, Pin, State, call, die};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> u32 {
    call("cuMemGetInfo_v2", |s| {
        s.current()?;
        // SAFETY: NVIDIA's contract.
        unsafe {
            (*free, *total) = (
                (s.memory_limit() - s.memory_used()) as usize,
                s.memory_limit() as usize,
            )
        };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) -> u32 {
    call("cuMemAlloc_v2", |s| {
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        // SAFETY: NVIDIA's contract.
        unsafe { *address = s.allocate(bytes as u64, false)? };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocPitch_v2(
    address: *mut CUdeviceptr,
    pitch: *mut usize,
    width: usize,
    height: usize,
    _element: c_uint,
) -> u32 {
    call("cuMemAllocPitch_v2", |s| {
        let row = width.checked_next_multiple_of(512).ok_or(INVALID_VALUE)?;
        let bytes = row.checked_mul(height).ok_or(INVALID_VALUE)?;
        // SAFETY: NVIDIA's contract.
        unsafe { (*address, *pitch) = (s.allocate(bytes as u64, false)?, row) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: CUdeviceptr) -> u32 {
    call("cuMemFree_v2", |s| {
        let Some(memory) = s.memory.get(&address).filter(|m| !m.global) else {
            die(&format!("{address:#x} was not allocated"));
        };
        let ctx = memory.ctx;
        s.must_be_idle("cuMemFree", ctx);
        s.current()?;
        s.memory.remove(&address);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> u32 {
    call("cuMemcpyHtoDAsync_v2", |s| {
        s.device(to, bytes as u64);
        let at = from as usize;
        if s.pins
            .iter()
            .any(|p| at >= p.base && at + bytes <= p.base + p.bytes)
        {
            return s.submit(
                stream as usize,
                Op::FromHost {
                    to,
                    from: at,
                    bytes,
                },
            );
        }
        s.stream(stream as usize)?;
        let key = if stream.is_null() {
            s.current()?
        } else {
            stream as usize
        };
        if bytes > 64 << 10 && !s.is_idle(key) {
            die("cuMemcpyHtoDAsync from pageable memory would wait for the stream");
        }
        // SAFETY: NVIDIA's contract.
        let data = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec();
        s.submit(stream as usize, Op::Write { to, data })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> u32 {
    call("cuMemcpyDtoHAsync_v2", |s| {
        s.stream(stream as usize)?;
        let key = if stream.is_null() {
            s.current()?
        } else {
            stream as usize
        };
        if !s.is_idle(key) {
            die("cuMemcpyDtoHAsync to pageable memory would wait for the stream");
        }
        let data = s.device(from, bytes as u64);
        // SAFETY: NVIDIA's contract.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to.cast(), bytes) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> u32 {
    call("cuMemcpyDtoDAsync_v2", |s| {
        s.device(to, bytes as u64);
        s.device(from, bytes as u64);
        s.submit(
            stream as usize,
            Op::Copy {
                to,
                from,
                bytes: bytes as u64,
            },
        )
    })
}

#[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
fn set(
    s: &mut State,
    to: u64,
    pitch: usize,
    width: usize,
    value: u32,
    count: usize,
    rows: usize,
    stream: CUstream,
) -> Result<(), u32> {
    if !to.is_multiple_of(width as u64) {
        return Err(INVALID_VALUE);
    }
    let (count, rows, pitch) = (count as u64, rows as u64, pitch as u64);
    for row in 0..rows {
        s.device(to + row * pitch, count * width as u64);
    }
    s.submit(
        stream as usize,
        Op::Set {
            to,
            pitch,
            width,
            value,
            count,
            rows,
        },
    )
}

macro_rules! sets {
    ($($one:ident $two:ident $ty:ty;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $one(to: CUdeviceptr, value: $ty, count: usize, stream: CUstream) -> u32 {
            call(stringify!($one), |s| set(s, to, 0, size_of::<$ty>(), value as u32, count, 1, stream))
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn $two(to: CUdeviceptr, pitch: usize, value: $ty, width: usize, height: usize, stream: CUstream) -> u32 {
            call(stringify!($two), |s| set(s, to, pitch, size_of::<$ty>(), value as u32, width, height, stream))
        }
    )*};
}
sets! {
    cuMemsetD8Async cuMemsetD2D8Async u8;
    cuMemsetD16Async cuMemsetD2D16Async u16;
    cuMemsetD32Async cuMemsetD2D32Async u32;
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(base: *mut c_void, bytes: usize, flags: c_uint) -> u32 {
    call("cuMemHostRegister_v2", |s| {
        let ctx = s.current()?;
        let (at, end) = (base as usize, base as usize + bytes);
        if s.pins.iter().any(|p| at < p.base + p.bytes && p.base < end) {
            return Err(ALREADY_REGISTERED);
        }
        s.pins.push(Pin {
            ctx,
            base: base as usize,
            bytes,
            mapped: flags & DEVICEMAP != 0,
        });
        Ok(())
    })
}

/// `CU_MEMHOSTREGISTER_DEVICEMAP`.
const DEVICEMAP: c_uint = 2;
/// `CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED`.
const ALREADY_REGISTERED: u32 = 712;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostGetDevicePointer_v2(
    address: *mut CUdeviceptr,
    host: *mut c_void,
    flags: c_uint,
) -> u32 {
    call("cuMemHostGetDevicePointer_v2", |s| {
        let at = host as usize;
        let inside = |p: &Pin| p.mapped && (p.base..p.base + p.bytes).contains(&at);
        if flags != 0 || !s.pins.iter().any(inside) {
            return Err(INVALID_VALUE);
        }
        // SAFETY: NVIDIA's contract.
        unsafe { *address = at as u64 + if s.same_addresses() { 0 } else { 4096 } };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(base: *mut c_void) -> u32 {
    call("cuMemHostUnregister", |s| {
        s.current()?;
        let Some(at) = s.pins.iter().position(|p| p.base == base as usize) else {
            die("no pinned memory is there")
        };
        let pin = s.pins.remove(at);
        s.must_be_unread(&pin);
        Ok(())
    })
}
