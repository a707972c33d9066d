//! The calls of memory in stream order and of its pools.

use std::sync::Arc;

use cudarc::driver::sys::{CUdevice, CUdeviceptr, CUmemoryPool, CUstream};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{DevPtr, stubs};

use super::*;
use crate::abi::{Done, Host, INVALID, Out, Zero, exports};
use crate::capture::Target;
use crate::graph::Work;
use crate::init::{Driver, driver};

/// Allocates in a stream's order; without a pool, from the current one of the stream's device.
fn alloc(
    out: Out<CUdeviceptr>,
    bytes: usize,
    pool: Option<CUmemoryPool>,
    stream: CUstream,
    zero: Zero,
) -> Done {
    let driver = driver()?;
    let target = driver.target(stream, zero)?;
    out.check()?;
    let pool = pool.map(|pool| driver.pool(pool)).transpose()?;
    if bytes == 0 {
        return Err(INVALID);
    }
    let queue = match target {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            let memory = driver.graph_memory(&capture.queue.ctx, bytes as u64)?;
            let address = memory.address;
            capture.add(Work::Alloc(memory))?;
            return out.set(address);
        }
    };
    let pool = match pool {
        Some(pool) => pool,
        None => driver.pool(driver.pools_of(queue.ctx.device)?.1 as CUmemoryPool)?,
    };
    if pool.device != queue.ctx.device {
        return Err(INVALID);
    }
    let at = pool.alloc(driver, &queue, bytes as u64)?;
    driver.add_pool_alloc(DevPtr(at), bytes as u64, Arc::clone(&queue.ctx), pool);
    out.set(at)
}

fn free(at: CUdeviceptr, stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = match driver.target(stream, zero)? {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            driver.check_range(at, 1)?;
            return capture.add(Work::Free(at));
        }
    };
    if driver.free_graph_memory(at)? {
        return Ok(());
    }
    let alloc = driver.take_alloc(at)?;
    match &alloc.pool {
        Some(pool) => pool.free(driver, at, Some(&queue)),
        // Of cuMemAlloc: the host frees it after all earlier work of its context.
        None => stubs::mem_free(driver.channel, alloc.ctx.id()?, DevPtr(at)),
    }
}

/// A place of memory: type and number (`CUmemLocation`).
fn location(at: Host) -> Done<(u32, i32)> {
    Ok((at.values().get()?, at.offset(4).values().get()?))
}

/// The device of a place; pools of the host's memory are not there.
fn device_of(driver: &Driver, (kind, id): (u32, i32)) -> Done<CUdevice> {
    match kind {
        1 => {
            driver.device(id)?;
            Ok(id)
        }
        2..=4 => Err(Status::ERROR_NOT_SUPPORTED),
        _ => Err(INVALID),
    }
}

/// `CU_MEM_ALLOCATION_TYPE_PINNED` is the one type of allocation that pools have here.
fn check_type(kind: u32) -> Done {
    match kind {
        1 => Ok(()),
        2 => Err(Status::ERROR_NOT_SUPPORTED),
        _ => Err(INVALID),
    }
}

/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_WRITE: u32 = 3;

exports! {
    /// Allocates in a stream's order from the current pool of its device.
    fn cuMemAllocAsync | cuMemAllocAsync_ptsz [zero] (out: Out<CUdeviceptr>, bytes: usize, stream: CUstream) {
        alloc(out, bytes, None, stream, zero)
    }

    /// Allocates in a stream's order from a pool.
    fn cuMemAllocFromPoolAsync | cuMemAllocFromPoolAsync_ptsz [zero] (
        out: Out<CUdeviceptr>, bytes: usize, pool: CUmemoryPool, stream: CUstream,
    ) {
        alloc(out, bytes, Some(pool), stream, zero)
    }

    /// Frees in a stream's order.
    fn cuMemFreeAsync | cuMemFreeAsync_ptsz [zero] (at: CUdeviceptr, stream: CUstream) {
        free(at, stream, zero)
    }

    /// Creates a pool.
    fn cuMemPoolCreate(out: Out<CUmemoryPool>, props: Host) {
        let driver = driver()?;
        out.check()?;
        let (kind, handles): (u32, u32) = (props.values().get()?, props.offset(4).values().get()?);
        check_type(kind)?;
        let device = device_of(driver, location(props.offset(8))?)?;
        // Shared with other processes: CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES is 0.
        if handles != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let most: u64 = props.offset(24).values().get()?;
        out.set(driver.new_pool(device, false, most)? as CUmemoryPool)
    }

    /// Destroys a pool. What the program has of it stays until it is freed.
    fn cuMemPoolDestroy(pool: CUmemoryPool) {
        let driver = driver()?;
        let found = driver.pool(pool)?;
        if found.default {
            return Err(INVALID);
        }
        for pools in lock(&driver.pools.of_device).values_mut() {
            if pools.1 == pool as u64 {
                pools.1 = pools.0;
            }
        }
        let released = {
            let mut state = lock(&found.state);
            state.destroyed = true;
            state.release(0)
        };
        driver.mem_pools.remove(pool as u64);
        driver.free_segments(released)
    }

    /// Gives back what a pool holds without use, down to `keep` bytes.
    fn cuMemPoolTrimTo(pool: CUmemoryPool, keep: usize) {
        let driver = driver()?;
        let released = lock(&driver.pool(pool)?.state).release(keep as u64);
        driver.free_segments(released)
    }

    /// Sets an attribute of a pool. Of the high-water marks it can only be a reset, to 0.
    fn cuMemPoolSetAttribute(pool: CUmemoryPool, attribute: u32, value: Host) {
        let pool = driver()?.pool(pool)?;
        let mut state = lock(&pool.state);
        match attribute {
            REUSE_FOLLOW_EVENT_DEPENDENCIES..=REUSE_ALLOW_INTERNAL_DEPENDENCIES => {
                let value: i32 = value.values().get()?;
                if !(0..=1).contains(&value) {
                    return Err(INVALID);
                }
                state.reuse[attribute as usize - 1] = value;
            }
            RELEASE_THRESHOLD => state.threshold = value.values().get()?,
            RESERVED_MEM_HIGH | USED_MEM_HIGH => {
                if value.values::<u64>().get()? != 0 {
                    return Err(INVALID);
                }
                let level = match attribute {
                    RESERVED_MEM_HIGH => &mut state.reserved,
                    _ => &mut state.in_use,
                };
                level.high = level.now;
            }
            _ => return Err(INVALID),
        }
        Ok(())
    }

    /// An attribute of a pool.
    fn cuMemPoolGetAttribute(pool: CUmemoryPool, attribute: u32, value: Host) {
        let pool = driver()?.pool(pool)?;
        let state = lock(&pool.state);
        let number = match attribute {
            REUSE_FOLLOW_EVENT_DEPENDENCIES..=REUSE_ALLOW_INTERNAL_DEPENDENCIES => {
                return value.out().set(state.reuse[attribute as usize - 1]);
            }
            RELEASE_THRESHOLD => state.threshold,
            RESERVED_MEM_CURRENT => state.reserved.now,
            RESERVED_MEM_HIGH => state.reserved.high,
            USED_MEM_CURRENT => state.in_use.now,
            USED_MEM_HIGH => state.in_use.high,
            _ => return Err(INVALID),
        };
        value.out().set(number)
    }

    /// Says which devices may reach a pool. Its own always may, and there is no other.
    fn cuMemPoolSetAccess(pool: CUmemoryPool, list: Host, count: usize) {
        let driver = driver()?;
        driver.pool(pool)?;
        for i in 0..count {
            let entry = list.offset(i.checked_mul(12).ok_or(INVALID)?);
            device_of(driver, location(entry)?)?;
            if entry.offset(8).values::<u32>().get()? != READ_WRITE {
                return Err(INVALID);
            }
        }
        Ok(())
    }

    /// Whether a device may reach a pool.
    fn cuMemPoolGetAccess(flags: Out<u32>, pool: CUmemoryPool, of: Host) {
        let driver = driver()?;
        driver.pool(pool)?;
        flags.check()?;
        device_of(driver, location(of)?)?;
        flags.set(READ_WRITE)
    }

    /// Gives a pool to other processes: not possible.
    fn cuMemPoolExportToShareableHandle(handle: Host, pool: CUmemoryPool, _kind: u32, flags: u64) {
        driver()?.pool(pool)?;
        if handle.is_null() || flags != 0 {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Takes a pool of another process: not possible.
    fn cuMemPoolImportFromShareableHandle(pool: Out<CUmemoryPool>, _handle: Host, _kind: u32, flags: u64) {
        driver()?;
        pool.check()?;
        if flags != 0 {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Gives memory of a pool to other processes: not possible.
    fn cuMemPoolExportPointer(data: Host, at: CUdeviceptr) {
        let driver = driver()?;
        if data.is_null() || driver.alloc_at(at).is_none_or(|(_, a)| a.pool.is_none()) {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Takes memory of a pool of another process: not possible.
    fn cuMemPoolImportPointer(out: Out<CUdeviceptr>, pool: CUmemoryPool, data: Host) {
        driver()?.pool(pool)?;
        out.check()?;
        if data.is_null() {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// The pool that a device has from the start.
    fn cuDeviceGetDefaultMemPool(pool: Out<CUmemoryPool>, device: CUdevice) {
        let driver = driver()?;
        pool.check()?;
        pool.set(driver.pools_of(device)?.0 as CUmemoryPool)
    }

    /// The pool that a device's allocations take from.
    fn cuDeviceGetMemPool(pool: Out<CUmemoryPool>, device: CUdevice) {
        let driver = driver()?;
        pool.check()?;
        pool.set(driver.pools_of(device)?.1 as CUmemoryPool)
    }

    /// Sets the pool that a device's allocations take from.
    fn cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool) {
        set_pool(device, pool)
    }

    /// The pool that a place has from the start.
    fn cuMemGetDefaultMemPool(pool: Out<CUmemoryPool>, of: Host, kind: u32) {
        let driver = driver()?;
        pool.check()?;
        check_type(kind)?;
        let device = device_of(driver, location(of)?)?;
        pool.set(driver.pools_of(device)?.0 as CUmemoryPool)
    }

    /// The pool that a place's allocations take from.
    fn cuMemGetMemPool(pool: Out<CUmemoryPool>, of: Host, kind: u32) {
        let driver = driver()?;
        pool.check()?;
        check_type(kind)?;
        let device = device_of(driver, location(of)?)?;
        pool.set(driver.pools_of(device)?.1 as CUmemoryPool)
    }

    /// Sets the pool that a place's allocations take from.
    fn cuMemSetMemPool(of: Host, kind: u32, pool: CUmemoryPool) {
        check_type(kind)?;
        set_pool(device_of(driver()?, location(of)?)?, pool)
    }
}

fn set_pool(device: CUdevice, pool: CUmemoryPool) -> Done {
    let driver = driver()?;
    driver.pools_of(device)?;
    if driver.pool(pool)?.device != device {
        return Err(INVALID);
    }
    if let Some(pools) = lock(&driver.pools.of_device).get_mut(&device) {
        pools.1 = pool as u64;
    }
    Ok(())
}
