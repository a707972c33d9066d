//! Copies of boxes, and of many pieces at once.

use cudarc::driver::sys::{
    CUDA_MEMCPY3D, CUDA_MEMCPY3D_PEER, CUarray, CUdeviceptr, CUmemorytype, CUstream,
};
use vgpu_protocol::Status;

use crate::abi::{Done, In, Out, Zero, exports};
use crate::copy::{Kind, When};
use crate::driver::Opaque;
use crate::runtime::enter;
use crate::types::{Memcpy3D, Memcpy3DPeer, PitchedPtr};

/// `cudaErrorInvalidPitchValue`.
const INVALID_PITCH: Status = Status(12);

/// Where one side of a copy is, in the driver's words.
#[derive(Clone, Copy)]
pub struct Side {
    kind: CUmemorytype,
    at: PitchedPtr,
}

impl Side {
    /// Exactly one of array and pointer may be given. Arrays cannot be made (cudaMallocArray is not
    /// supported), so none is a valid one.
    pub fn of(array: CUarray, at: PitchedPtr, kind: CUmemorytype) -> Done<Side> {
        if array.is_null() == at.ptr.is_null() {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        if !array.is_null() {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        Ok(Side { kind, at })
    }

    fn check_pitch(self, width: usize) -> Done {
        if self.at.pitch < width {
            return Err(INVALID_PITCH);
        }
        Ok(())
    }
}

/// The driver's form of a copy of a box.
pub fn driver_copy(p: &Memcpy3D) -> Done<CUDA_MEMCPY3D> {
    let (src_kind, dst_kind) = Kind::of(p.kind)?.types();
    let src = Side::of(p.src_array, p.src_ptr, src_kind)?;
    let dst = Side::of(p.dst_array, p.dst_ptr, dst_kind)?;
    src.check_pitch(p.extent.width)?;
    dst.check_pitch(p.extent.width)?;
    // Host and device addresses have fields of their own; each is read for its kind alone.
    Ok(CUDA_MEMCPY3D {
        srcXInBytes: p.src_pos.x,
        srcY: p.src_pos.y,
        srcZ: p.src_pos.z,
        srcLOD: 0,
        srcMemoryType: src.kind,
        srcHost: src.at.ptr,
        srcDevice: src.at.ptr as CUdeviceptr,
        srcArray: std::ptr::null_mut(),
        reserved0: std::ptr::null_mut(),
        srcPitch: src.at.pitch,
        srcHeight: src.at.ysize,
        dstXInBytes: p.dst_pos.x,
        dstY: p.dst_pos.y,
        dstZ: p.dst_pos.z,
        dstLOD: 0,
        dstMemoryType: dst.kind,
        dstHost: dst.at.ptr,
        dstDevice: dst.at.ptr as CUdeviceptr,
        dstArray: std::ptr::null_mut(),
        reserved1: std::ptr::null_mut(),
        dstPitch: dst.at.pitch,
        dstHeight: dst.at.ysize,
        WidthInBytes: p.extent.width,
        Height: p.extent.height,
        Depth: p.extent.depth,
    })
}

fn boxes(p: In<Memcpy3D>, when: When, zero: Zero) -> Done {
    let runtime = enter()?;
    let p = p.get()?;
    let copy = [driver_copy(&p)?];
    if p.extent.width == 0 || p.extent.height == 0 || p.extent.depth == 0 {
        return Ok(());
    }
    match when {
        When::Now => runtime.driver.cuMemcpy3D_v2(zero, In::to(&copy)),
        When::In(stream) => runtime
            .driver
            .cuMemcpy3DAsync_v2(zero, In::to(&copy), stream),
    }
}

fn peer(p: In<Memcpy3DPeer>, when: When, zero: Zero) -> Done {
    let runtime = enter()?;
    let p = p.get()?;
    let unified = CUmemorytype::CU_MEMORYTYPE_UNIFIED;
    let src = Side::of(p.src_array, p.src_ptr, unified)?;
    let dst = Side::of(p.dst_array, p.dst_ptr, unified)?;
    src.check_pitch(p.extent.width)?;
    dst.check_pitch(p.extent.width)?;
    let copy = [CUDA_MEMCPY3D_PEER {
        srcXInBytes: p.src_pos.x,
        srcY: p.src_pos.y,
        srcZ: p.src_pos.z,
        srcLOD: 0,
        srcMemoryType: src.kind,
        srcHost: src.at.ptr,
        srcDevice: src.at.ptr as CUdeviceptr,
        srcArray: std::ptr::null_mut(),
        srcContext: runtime.primary(runtime.device(p.src_device)?)?,
        srcPitch: src.at.pitch,
        srcHeight: src.at.ysize,
        dstXInBytes: p.dst_pos.x,
        dstY: p.dst_pos.y,
        dstZ: p.dst_pos.z,
        dstLOD: 0,
        dstMemoryType: dst.kind,
        dstHost: dst.at.ptr,
        dstDevice: dst.at.ptr as CUdeviceptr,
        dstArray: std::ptr::null_mut(),
        dstContext: runtime.primary(runtime.device(p.dst_device)?)?,
        dstPitch: dst.at.pitch,
        dstHeight: dst.at.ysize,
        WidthInBytes: p.extent.width,
        Height: p.extent.height,
        Depth: p.extent.depth,
    }];
    if p.extent.width == 0 || p.extent.height == 0 || p.extent.depth == 0 {
        return Ok(());
    }
    match when {
        When::Now => runtime.driver.cuMemcpy3DPeer(zero, In::to(&copy)),
        When::In(stream) => runtime
            .driver
            .cuMemcpy3DPeerAsync(zero, In::to(&copy), stream),
    }
}

exports! {
    /// Copies a box.
    fn cudaMemcpy3D | cudaMemcpy3D_ptds [zero] (p: In<Memcpy3D>) {
        boxes(p, When::Now, zero)
    }

    /// Copies a box in a stream's order.
    fn cudaMemcpy3DAsync | cudaMemcpy3DAsync_ptsz [zero] (p: In<Memcpy3D>, stream: CUstream) {
        boxes(p, When::In(stream), zero)
    }

    /// Copies a box between devices.
    fn cudaMemcpy3DPeer | cudaMemcpy3DPeer_ptds [zero] (p: In<Memcpy3DPeer>) {
        peer(p, When::Now, zero)
    }

    /// Copies a box between devices in a stream's order.
    fn cudaMemcpy3DPeerAsync | cudaMemcpy3DPeerAsync_ptsz [zero] (p: In<Memcpy3DPeer>, stream: CUstream) {
        peer(p, When::In(stream), zero)
    }

    /// Copies many pieces (ABI of CUDA 12); attributes are laid out as the driver's.
    fn cudaMemcpyBatchAsync_v1 | cudaMemcpyBatchAsync_v1_ptsz [zero] (
        dsts: Opaque, srcs: Opaque, sizes: Opaque, count: usize, attributes: Opaque,
        indices: Opaque, attribute_count: usize, fail: Out<usize>, stream: CUstream,
    ) {
        enter()?.driver.cuMemcpyBatchAsync(
            zero, dsts, srcs, sizes, count, attributes, indices, attribute_count, fail, stream,
        )
    }

    /// Copies many pieces (ABI of CUDA 13); attributes are laid out as the driver's.
    fn cudaMemcpyBatchAsync_v2 | cudaMemcpyBatchAsync_v2_ptsz [zero] (
        dsts: Opaque, srcs: Opaque, sizes: Opaque, count: usize, attributes: Opaque,
        indices: Opaque, attribute_count: usize, stream: CUstream,
    ) {
        enter()?.driver.cuMemcpyBatchAsync_v2(
            zero, dsts, srcs, sizes, count, attributes, indices, attribute_count, stream,
        )
    }

    /// Copies many boxes (ABI of CUDA 12); they are laid out as the driver's.
    fn cudaMemcpy3DBatchAsync_v1 | cudaMemcpy3DBatchAsync_v1_ptsz [zero] (
        count: usize, list: Opaque, fail: Out<usize>, flags: u64, stream: CUstream,
    ) {
        enter()?.driver.cuMemcpy3DBatchAsync(zero, count, list, fail, flags, stream)
    }

    /// Copies many boxes (ABI of CUDA 13); they are laid out as the driver's.
    fn cudaMemcpy3DBatchAsync_v2 | cudaMemcpy3DBatchAsync_v2_ptsz [zero] (
        count: usize, list: Opaque, flags: u64, stream: CUstream,
    ) {
        enter()?.driver.cuMemcpy3DBatchAsync_v2(zero, count, list, flags, stream)
    }
}
