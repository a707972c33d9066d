//! Copies between memory of the program and of devices.

use std::ffi::c_void;

use cudarc::driver::sys::{CUDA_MEMCPY2D, CUdeviceptr, CUmemorytype, CUstream};
use vgpu_protocol::Status;

use crate::abi::{Done, In, Zero, exports};
use crate::driver::Opaque;
use crate::module::symbol;
use crate::runtime::{Runtime, enter};

/// `cudaErrorInvalidMemcpyDirection`.
const INVALID_DIRECTION: Status = Status(21);
/// `cudaErrorInvalidPitchValue`.
const INVALID_PITCH: Status = Status(12);

/// `cudaMemcpyKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Within the program's memory.
    HostToHost,
    /// To the device.
    HostToDevice,
    /// From the device.
    DeviceToHost,
    /// Within devices.
    DeviceToDevice,
    /// The addresses tell.
    Default,
}

impl Kind {
    /// The kind of a number; cudaErrorInvalidMemcpyDirection for one that is none.
    pub fn of(kind: i32) -> Done<Kind> {
        Ok(match kind {
            0 => Kind::HostToHost,
            1 => Kind::HostToDevice,
            2 => Kind::DeviceToHost,
            3 => Kind::DeviceToDevice,
            4 => Kind::Default,
            _ => return Err(INVALID_DIRECTION),
        })
    }

    /// Kinds of memory of source and destination.
    pub fn types(self) -> (CUmemorytype, CUmemorytype) {
        use CUmemorytype::{
            CU_MEMORYTYPE_DEVICE as D, CU_MEMORYTYPE_HOST as H, CU_MEMORYTYPE_UNIFIED as U,
        };
        match self {
            Kind::HostToHost => (H, H),
            Kind::HostToDevice => (H, D),
            Kind::DeviceToHost => (D, H),
            Kind::DeviceToDevice => (D, D),
            Kind::Default => (U, U),
        }
    }
}

/// Which copy of a stream, or the copy that waits.
#[derive(Clone, Copy)]
pub enum When {
    /// The call returns when the copy is done.
    Now,
    /// In a stream's order.
    In(CUstream),
}

/// Copies bytes.
pub fn copy(
    runtime: &Runtime,
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    kind: Kind,
    when: When,
    zero: Zero,
) -> Done {
    if bytes == 0 {
        return Ok(());
    }
    let driver = &runtime.driver;
    match (kind, when) {
        (Kind::HostToDevice, When::Now) => driver.cuMemcpyHtoD_v2(zero, dst, src, bytes),
        (Kind::HostToDevice, When::In(s)) => driver.cuMemcpyHtoDAsync_v2(zero, dst, src, bytes, s),
        (Kind::DeviceToHost, When::Now) => driver.cuMemcpyDtoH_v2(zero, dst, src, bytes),
        (Kind::DeviceToHost, When::In(s)) => driver.cuMemcpyDtoHAsync_v2(zero, dst, src, bytes, s),
        (Kind::DeviceToDevice, When::Now) => driver.cuMemcpyDtoD_v2(zero, dst, src, bytes),
        (Kind::DeviceToDevice, When::In(s)) => {
            driver.cuMemcpyDtoDAsync_v2(zero, dst, src, bytes, s)
        }
        (Kind::HostToHost | Kind::Default, When::Now) => driver.cuMemcpy(zero, dst, src, bytes),
        (Kind::HostToHost | Kind::Default, When::In(s)) => {
            driver.cuMemcpyAsync(zero, dst, src, bytes, s)
        }
    }
}

fn linear(
    dst: *const c_void,
    src: *const c_void,
    bytes: usize,
    kind: i32,
    when: When,
    zero: Zero,
) -> Done {
    let runtime = enter()?;
    let kind = Kind::of(kind)?;
    copy(runtime, dst as u64, src as u64, bytes, kind, when, zero)
}

/// Rows of a 2D copy.
#[derive(Clone, Copy)]
struct Rows {
    at: *const c_void,
    pitch: usize,
}

fn rows(
    dst: Rows,
    src: Rows,
    width: usize,
    height: usize,
    kind: i32,
    when: When,
    zero: Zero,
) -> Done {
    let runtime = enter()?;
    let kind = Kind::of(kind)?;
    if width > dst.pitch || width > src.pitch {
        return Err(INVALID_PITCH);
    }
    if width == 0 || height == 0 {
        return Ok(());
    }
    let (src_type, dst_type) = kind.types();
    // Host and device addresses have fields of their own; each is read for its kind alone.
    let copy = [CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: src_type,
        srcHost: src.at,
        srcDevice: src.at as CUdeviceptr,
        srcArray: std::ptr::null_mut(),
        srcPitch: src.pitch,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: dst_type,
        dstHost: dst.at.cast_mut(),
        dstDevice: dst.at as CUdeviceptr,
        dstArray: std::ptr::null_mut(),
        dstPitch: dst.pitch,
        WidthInBytes: width,
        Height: height,
    }];
    match when {
        When::Now => runtime.driver.cuMemcpy2DUnaligned_v2(zero, In::to(&copy)),
        When::In(stream) => runtime
            .driver
            .cuMemcpy2DAsync_v2(zero, In::to(&copy), stream),
    }
}

fn peer(
    dst: Opaque,
    dst_device: i32,
    src: *const c_void,
    src_device: i32,
    bytes: usize,
    when: Option<CUstream>,
) -> Done {
    let runtime = enter()?;
    let to = runtime.primary(runtime.device(dst_device)?)?;
    let from = runtime.primary(runtime.device(src_device)?)?;
    let (dst, src) = (dst as CUdeviceptr, src as CUdeviceptr);
    match when {
        None => runtime.driver.cuMemcpyPeer(dst, to, src, from, bytes),
        Some(stream) => {
            runtime
                .driver
                .cuMemcpyPeerAsync(Zero::Legacy, dst, to, src, from, bytes, stream)
        }
    }
}

/// The address of a piece of a variable, for a copy to or from it.
pub fn piece(
    runtime: &Runtime,
    name: *const c_void,
    bytes: usize,
    offset: usize,
) -> Done<CUdeviceptr> {
    let (at, size) = symbol(runtime, name)?;
    match offset.checked_add(bytes) {
        Some(end) if end <= size => Ok(at + offset as u64),
        _ => Err(Status::ERROR_INVALID_VALUE),
    }
}

fn to_symbol(
    name: *const c_void,
    src: *const c_void,
    bytes: usize,
    offset: usize,
    kind: i32,
    when: When,
    zero: Zero,
) -> Done {
    let runtime = enter()?;
    let kind = Kind::of(kind)?;
    if matches!(kind, Kind::HostToHost | Kind::DeviceToHost) {
        return Err(INVALID_DIRECTION);
    }
    let at = piece(runtime, name, bytes, offset)?;
    copy(runtime, at, src as u64, bytes, kind, when, zero)
}

fn from_symbol(
    dst: Opaque,
    name: *const c_void,
    bytes: usize,
    offset: usize,
    kind: i32,
    when: When,
    zero: Zero,
) -> Done {
    let runtime = enter()?;
    let kind = Kind::of(kind)?;
    if matches!(kind, Kind::HostToHost | Kind::HostToDevice) {
        return Err(INVALID_DIRECTION);
    }
    let at = piece(runtime, name, bytes, offset)?;
    copy(runtime, dst as u64, at, bytes, kind, when, zero)
}

exports! {
    /// Copies bytes.
    fn cudaMemcpy | cudaMemcpy_ptds [zero] (dst: Opaque, src: *const c_void, bytes: usize, kind: i32) {
        linear(dst, src, bytes, kind, When::Now, zero)
    }

    /// Copies bytes in a stream's order.
    fn cudaMemcpyAsync | cudaMemcpyAsync_ptsz [zero] (
        dst: Opaque, src: *const c_void, bytes: usize, kind: i32, stream: CUstream,
    ) {
        linear(dst, src, bytes, kind, When::In(stream), zero)
    }

    /// Copies rows of `width` bytes.
    fn cudaMemcpy2D | cudaMemcpy2D_ptds [zero] (
        dst: Opaque, dst_pitch: usize, src: *const c_void, src_pitch: usize, width: usize,
        height: usize, kind: i32,
    ) {
        let (dst, src) = (Rows { at: dst, pitch: dst_pitch }, Rows { at: src, pitch: src_pitch });
        rows(dst, src, width, height, kind, When::Now, zero)
    }

    /// Copies rows of `width` bytes in a stream's order.
    fn cudaMemcpy2DAsync | cudaMemcpy2DAsync_ptsz [zero] (
        dst: Opaque, dst_pitch: usize, src: *const c_void, src_pitch: usize, width: usize,
        height: usize, kind: i32, stream: CUstream,
    ) {
        let (dst, src) = (Rows { at: dst, pitch: dst_pitch }, Rows { at: src, pitch: src_pitch });
        rows(dst, src, width, height, kind, When::In(stream), zero)
    }

    /// Copies bytes between devices.
    fn cudaMemcpyPeer(dst: Opaque, dst_device: i32, src: *const c_void, src_device: i32, bytes: usize) {
        peer(dst, dst_device, src, src_device, bytes, None)
    }

    /// Copies bytes between devices in a stream's order.
    fn cudaMemcpyPeerAsync(
        dst: Opaque, dst_device: i32, src: *const c_void, src_device: i32, bytes: usize,
        stream: CUstream,
    ) {
        peer(dst, dst_device, src, src_device, bytes, Some(stream))
    }

    /// Copies bytes to a variable of the program.
    fn cudaMemcpyToSymbol | cudaMemcpyToSymbol_ptds [zero] (
        name: *const c_void, src: *const c_void, bytes: usize, offset: usize, kind: i32,
    ) {
        to_symbol(name, src, bytes, offset, kind, When::Now, zero)
    }

    /// Copies bytes to a variable of the program in a stream's order.
    fn cudaMemcpyToSymbolAsync | cudaMemcpyToSymbolAsync_ptsz [zero] (
        name: *const c_void, src: *const c_void, bytes: usize, offset: usize, kind: i32,
        stream: CUstream,
    ) {
        to_symbol(name, src, bytes, offset, kind, When::In(stream), zero)
    }

    /// Copies bytes from a variable of the program.
    fn cudaMemcpyFromSymbol | cudaMemcpyFromSymbol_ptds [zero] (
        dst: Opaque, name: *const c_void, bytes: usize, offset: usize, kind: i32,
    ) {
        from_symbol(dst, name, bytes, offset, kind, When::Now, zero)
    }

    /// Copies bytes from a variable of the program in a stream's order.
    fn cudaMemcpyFromSymbolAsync | cudaMemcpyFromSymbolAsync_ptsz [zero] (
        dst: Opaque, name: *const c_void, bytes: usize, offset: usize, kind: i32, stream: CUstream,
    ) {
        from_symbol(dst, name, bytes, offset, kind, When::In(stream), zero)
    }

    /// The device address of a variable of the program.
    fn cudaGetSymbolAddress(out: crate::abi::Out<Opaque>, name: *const c_void) {
        let runtime = enter()?;
        out.set(symbol(runtime, name)?.0 as Opaque)
    }

    /// The size of a variable of the program, in bytes.
    fn cudaGetSymbolSize(out: crate::abi::Out<usize>, name: *const c_void) {
        let runtime = enter()?;
        out.set(symbol(runtime, name)?.1)
    }
}
