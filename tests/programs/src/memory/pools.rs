//! Memory in stream order.

use std::ptr;

use anyhow::{Result, ensure};

use super::{Kernels, Pinned, code, device_attribute};
use crate::call;
use crate::cuda::{Stream, sys};

fn alloc(words: usize, stream: &Stream) -> Result<u64> {
    let mut at = 0;
    // SAFETY: a place for the address.
    unsafe { call!(cuMemAllocAsync(&mut at, 4 * words, stream.raw())) }?;
    Ok(at)
}

fn free(at: u64, stream: &Stream) -> Result<()> {
    // SAFETY: the memory is the caller's.
    unsafe { call!(cuMemFreeAsync(at, stream.raw())) }.map_err(Into::into)
}

/// Work of two streams that take memory from one pool never meets in it.
pub fn in_streams() -> Result<String> {
    let kernels = Kernels::new()?;
    let streams = [Stream::new()?, Stream::new()?];
    let rounds = 400;
    let seen = Pinned::new(rounds, 0)?;
    for round in 0..rounds {
        let stream = &streams[round * 7 % 3 % 2];
        let words = 1 + round * 37 % 3000;
        let at = alloc(words, stream)?;
        // SAFETY: the memory is ours until its turn to be freed.
        unsafe { call!(cuMemsetD32Async(at, 0, words, stream.raw())) }?;
        if round % 50 == 0 {
            kernels.slow(at, round as u32, Some(stream))?;
        } else {
            kernels.add(at, words, round as u32, Some(stream))?;
        }
        // SAFETY: as above; the target is pinned and waited for.
        unsafe {
            let target = seen.at.add(4 * round);
            call!(cuMemcpyDtoHAsync_v2(target, at, 4, stream.raw()))?;
        }
        free(at, stream)?;
    }
    for stream in &streams {
        stream.synchronize()?;
    }
    let compared = seen.compare(|i| i as u32)?;
    Ok(format!("{compared} allocations"))
}

fn get(pool: sys::CUmemoryPool, attribute: sys::CUmemPool_attribute) -> Result<u64> {
    let mut value = 0u64;
    // SAFETY: a place of 8 bytes.
    unsafe {
        let place = ptr::from_mut(&mut value).cast();
        call!(cuMemPoolGetAttribute(pool, attribute, place))
    }?;
    Ok(value)
}

pub fn attributes() -> Result<String> {
    use sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    use sys::CUmemPool_attribute_enum::*;
    ensure!(
        device_attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? == 1,
        "there are no pools"
    );
    let stream = Stream::new()?;
    // SAFETY: all zeros are a value of the struct.
    let mut props: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
    props.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    let mut pool = ptr::null_mut();
    let mut at = 0;
    // SAFETY: places for what the calls give; the pool is ours.
    unsafe {
        call!(cuMemPoolCreate(&mut pool, &props))?;
        call!(cuMemAllocFromPoolAsync(
            &mut at,
            1 << 20,
            pool,
            stream.raw()
        ))?;
        ensure!(
            get(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT)? >= 1 << 20,
            "in use"
        );
        let reserved = get(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        ensure!(reserved >= 1 << 20, "reserved");
        let mut keep = u64::MAX;
        let threshold = CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        let value = ptr::from_mut(&mut keep).cast();
        call!(cuMemPoolSetAttribute(pool, threshold, value))?;
        call!(cuMemFreeAsync(at, stream.raw()))?;
        stream.synchronize()?;
        ensure!(
            get(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT)? == 0,
            "nothing in use"
        );
        ensure!(
            get(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)? == reserved,
            "kept"
        );
        ensure!(
            get(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH)? >= 1 << 20,
            "the most"
        );
        call!(cuMemPoolTrimTo(pool, 0))?;
        ensure!(
            get(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)? == 0,
            "given back"
        );
        let mut one = 1u64;
        let high = CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        let set = call!(cuMemPoolSetAttribute(
            pool,
            high,
            ptr::from_mut(&mut one).cast()
        ));
        ensure!(code(set) == 1, "a high-water mark is only reset");
        let again = call!(cuMemFreeAsync(at, stream.raw()));
        ensure!(code(again) == 1, "a second free returned {}", code(again));
        call!(cuMemPoolDestroy(pool))?;
        let mut default = ptr::null_mut();
        call!(cuDeviceGetDefaultMemPool(&mut default, 0))?;
        ensure!(
            code(call!(cuMemPoolDestroy(default))) == 1,
            "the default pool stays"
        );
    }
    Ok("8 attributes".to_owned())
}

/// A captured allocation is the graph's.
pub fn in_graphs() -> Result<String> {
    let kernels = Kernels::new()?;
    let stream = Stream::new()?;
    let seen = Pinned::new(1, 0)?;
    let (mut graph, mut exec) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the stream is ours; what is captured is waited for after each launch.
    unsafe {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        call!(cuStreamBeginCapture_v2(stream.raw(), mode))?;
        let at = alloc(1000, &stream)?;
        call!(cuMemsetD32Async(at, 3, 1000, stream.raw()))?;
        kernels.add(at, 1000, 4, Some(&stream))?;
        call!(cuMemcpyDtoHAsync_v2(seen.at, at + 400, 4, stream.raw()))?;
        free(at, &stream)?;
        call!(cuStreamEndCapture(stream.raw(), &mut graph))?;
        call!(cuGraphInstantiateWithFlags(&mut exec, graph, 0))?;
        for _ in 0..10 {
            seen.set(0, 0);
            call!(cuGraphLaunch(exec, stream.raw()))?;
            stream.synchronize()?;
            ensure!(seen.get(0) == 7, "the graph computed {}", seen.get(0));
        }
        call!(cuGraphExecDestroy(exec))?;
        call!(cuGraphDestroy(graph))?;
    }
    Ok("10 launches".to_owned())
}
