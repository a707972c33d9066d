//! Memory in stream order and its pools, hints for managed memory, and memory of other processes.
//! Attributes, properties and locations are laid out as the driver's.

use cudarc::driver::sys::{
    CUdeviceptr, CUevent, CUmemLocation, CUmemLocationType, CUmemPoolProps, CUmemoryPool, CUstream,
};

use crate::abi::{Done, Host, In, Out, exports};
use crate::driver::Opaque;
use crate::mem::device_place;
use crate::runtime::{Runtime, enter};

/// `cudaCpuDeviceId`.
const CPU: i32 = -1;

/// The driver's device for an ordinal, which may be that of the CPU.
fn device_or_cpu(runtime: &Runtime, ordinal: i32) -> Done<i32> {
    match ordinal {
        CPU => Ok(CPU),
        ordinal => Ok(runtime.device(ordinal)?.handle),
    }
}

/// A location with the driver's device in place of the ordinal.
fn location(runtime: &Runtime, mut of: CUmemLocation) -> Done<CUmemLocation> {
    if of.type_ == CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE {
        of.id = runtime.device(of.id)?.handle;
    }
    Ok(of)
}

exports! {
    /// Allocates device memory in a stream's order.
    fn cudaMallocAsync | cudaMallocAsync_ptsz [zero] (out: Out<Opaque>, bytes: usize, stream: CUstream) {
        let runtime = enter()?;
        out.check()?;
        if bytes == 0 {
            return out.set(std::ptr::null_mut());
        }
        runtime.driver.cuMemAllocAsync(zero, device_place(out), bytes, stream)
    }

    /// Allocates device memory of a pool in a stream's order.
    fn cudaMallocFromPoolAsync | cudaMallocFromPoolAsync_ptsz [zero] (
        out: Out<Opaque>, bytes: usize, pool: CUmemoryPool, stream: CUstream,
    ) {
        let runtime = enter()?;
        out.check()?;
        if bytes == 0 {
            return out.set(std::ptr::null_mut());
        }
        runtime.driver.cuMemAllocFromPoolAsync(zero, device_place(out), bytes, pool, stream)
    }

    /// Frees device memory in a stream's order.
    fn cudaFreeAsync | cudaFreeAsync_ptsz [zero] (at: Opaque, stream: CUstream) {
        enter()?.driver.cuMemFreeAsync(zero, at as CUdeviceptr, stream)
    }

    /// Creates a pool.
    fn cudaMemPoolCreate(pool: Out<CUmemoryPool>, props: In<CUmemPoolProps>) {
        enter()?.driver.cuMemPoolCreate(pool, props)
    }

    /// Destroys a pool.
    fn cudaMemPoolDestroy(pool: CUmemoryPool) {
        enter()?.driver.cuMemPoolDestroy(pool)
    }

    /// Gives back memory that a pool does not use.
    fn cudaMemPoolTrimTo(pool: CUmemoryPool, keep: usize) {
        enter()?.driver.cuMemPoolTrimTo(pool, keep)
    }

    /// Sets an attribute of a pool.
    fn cudaMemPoolSetAttribute(pool: CUmemoryPool, attribute: i32, value: Host) {
        enter()?.driver.cuMemPoolSetAttribute(pool, attribute, value)
    }

    /// An attribute of a pool.
    fn cudaMemPoolGetAttribute(pool: CUmemoryPool, attribute: i32, value: Host) {
        enter()?.driver.cuMemPoolGetAttribute(pool, attribute, value)
    }

    /// Says which devices may reach a pool.
    fn cudaMemPoolSetAccess(pool: CUmemoryPool, list: Host, count: usize) {
        enter()?.driver.cuMemPoolSetAccess(pool, list, count)
    }

    /// Whether a device may reach a pool.
    fn cudaMemPoolGetAccess(flags: Out<i32>, pool: CUmemoryPool, of: In<CUmemLocation>) {
        enter()?.driver.cuMemPoolGetAccess(flags, pool, of)
    }

    /// Gives a pool to other processes.
    fn cudaMemPoolExportToShareableHandle(handle: Opaque, pool: CUmemoryPool, kind: i32, flags: u32) {
        enter()?.driver.cuMemPoolExportToShareableHandle(handle, pool, kind, flags.into())
    }

    /// Takes a pool of another process.
    fn cudaMemPoolImportFromShareableHandle(pool: Out<CUmemoryPool>, handle: Opaque, kind: i32, flags: u32) {
        enter()?.driver.cuMemPoolImportFromShareableHandle(pool, handle, kind, flags.into())
    }

    /// Gives memory of a pool to other processes.
    fn cudaMemPoolExportPointer(data: Opaque, at: Opaque) {
        enter()?.driver.cuMemPoolExportPointer(data, at as CUdeviceptr)
    }

    /// Takes memory of a pool of another process.
    fn cudaMemPoolImportPointer(out: Out<Opaque>, pool: CUmemoryPool, data: Opaque) {
        enter()?.driver.cuMemPoolImportPointer(device_place(out), pool, data)
    }

    /// The pool that a location has from the start.
    fn cudaMemGetDefaultMemPool(pool: Out<CUmemoryPool>, of: In<CUmemLocation>, kind: i32) {
        enter()?.driver.cuMemGetDefaultMemPool(pool, of, kind)
    }

    /// The pool that a location's allocations take from.
    fn cudaMemGetMemPool(pool: Out<CUmemoryPool>, of: In<CUmemLocation>, kind: i32) {
        enter()?.driver.cuMemGetMemPool(pool, of, kind)
    }

    /// Sets the pool that a location's allocations take from.
    fn cudaMemSetMemPool(of: In<CUmemLocation>, kind: i32, pool: CUmemoryPool) {
        enter()?.driver.cuMemSetMemPool(of, kind, pool)
    }

    /// A hint on how managed memory will be used (ABI of CUDA 8).
    fn cudaMemAdvise_v1(at: Opaque, bytes: usize, advice: i32, device: i32) {
        let runtime = enter()?;
        let device = device_or_cpu(runtime, device)?;
        runtime.driver.cuMemAdvise(at as CUdeviceptr, bytes, advice, device)
    }

    /// A hint on how managed memory will be used (ABI of CUDA 12.2).
    fn cudaMemAdvise_v2(at: Opaque, bytes: usize, advice: i32, of: CUmemLocation) {
        let runtime = enter()?;
        let of = location(runtime, of)?;
        runtime.driver.cuMemAdvise_v2(at as CUdeviceptr, bytes, advice, of)
    }

    /// Moves managed memory ahead of its use (ABI of CUDA 8).
    fn cudaMemPrefetchAsync_v1 | cudaMemPrefetchAsync_v1_ptsz [zero] (
        at: Opaque, bytes: usize, device: i32, stream: CUstream,
    ) {
        let runtime = enter()?;
        let device = device_or_cpu(runtime, device)?;
        runtime.driver.cuMemPrefetchAsync(zero, at as CUdeviceptr, bytes, device, stream)
    }

    /// Moves managed memory ahead of its use (ABI of CUDA 12.2).
    fn cudaMemPrefetchAsync_v2 | cudaMemPrefetchAsync_v2_ptsz [zero] (
        at: Opaque, bytes: usize, of: CUmemLocation, flags: u32, stream: CUstream,
    ) {
        let runtime = enter()?;
        let of = location(runtime, of)?;
        runtime.driver.cuMemPrefetchAsync_v2(zero, at as CUdeviceptr, bytes, of, flags, stream)
    }

    /// Moves many pieces of managed memory ahead of their use.
    fn cudaMemPrefetchBatchAsync | cudaMemPrefetchBatchAsync_ptsz [zero] (
        at: Opaque, sizes: Opaque, count: usize, locations: Opaque, indices: Opaque,
        location_count: usize, flags: u64, stream: CUstream,
    ) {
        enter()?.driver.cuMemPrefetchBatchAsync(
            zero, at, sizes, count, locations, indices, location_count, flags, stream,
        )
    }

    /// Says that what is in pieces of managed memory is not needed.
    fn cudaMemDiscardBatchAsync | cudaMemDiscardBatchAsync_ptsz [zero] (
        at: Opaque, sizes: Opaque, count: usize, flags: u64, stream: CUstream,
    ) {
        enter()?.driver.cuMemDiscardBatchAsync(zero, at, sizes, count, flags, stream)
    }

    /// Both of them.
    fn cudaMemDiscardAndPrefetchBatchAsync | cudaMemDiscardAndPrefetchBatchAsync_ptsz [zero] (
        at: Opaque, sizes: Opaque, count: usize, locations: Opaque, indices: Opaque,
        location_count: usize, flags: u64, stream: CUstream,
    ) {
        enter()?.driver.cuMemDiscardAndPrefetchBatchAsync(
            zero, at, sizes, count, locations, indices, location_count, flags, stream,
        )
    }

    /// A hint that was given for managed memory.
    fn cudaMemRangeGetAttribute(data: Host, bytes: usize, attribute: i32, at: Opaque, count: usize) {
        enter()?.driver.cuMemRangeGetAttribute(data, bytes, attribute, at as CUdeviceptr, count)
    }

    /// Hints that were given for managed memory.
    fn cudaMemRangeGetAttributes(
        data: In<Opaque>, bytes: In<usize>, attributes: In<i32>, attribute_count: usize,
        at: Opaque, count: usize,
    ) {
        enter()?.driver.cuMemRangeGetAttributes(
            data, bytes, attributes, attribute_count, at as CUdeviceptr, count,
        )
    }

    /// Gives an event to other processes.
    fn cudaIpcGetEventHandle(handle: Opaque, event: CUevent) {
        enter()?.driver.cuIpcGetEventHandle(handle, event)
    }

    /// Gives memory to other processes.
    fn cudaIpcGetMemHandle(handle: Opaque, at: Opaque) {
        enter()?.driver.cuIpcGetMemHandle(handle, at as CUdeviceptr)
    }

    /// Ends the use of another process's memory.
    fn cudaIpcCloseMemHandle(at: Opaque) {
        enter()?.driver.cuIpcCloseMemHandle(at as CUdeviceptr)
    }
}
