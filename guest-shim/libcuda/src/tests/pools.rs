//! Memory in stream order, and its pools.

use std::ptr::null_mut;

use cudarc::driver::sys::{CUmemoryPool, CUstream};

use super::{INVALID_VALUE, SUCCESS, alloc, context, turn};
use crate::abi::{Host, Out};
use crate::ctx::{cuCtxDestroy_v2, cuCtxSynchronize};
use crate::graph_objects::cuGraphDestroy;
use crate::mem::cuMemFree_v2;
use crate::memset::cuMemsetD8_v2;
use crate::pool::calls::*;
use crate::stream::{cuStreamCreate, cuStreamDestroy_v2, cuStreamSynchronize};

const NOT_SUPPORTED: u32 = 801;
const OUT_OF_MEMORY: u32 = 2;
const SEGMENT: u64 = 2 << 20;
const THRESHOLD: u32 = 4;
const RESERVED: u32 = 5;
const RESERVED_HIGH: u32 = 6;
const USED: u32 = 7;
const USED_HIGH: u32 = 8;

fn stream() -> CUstream {
    let mut stream = null_mut();
    assert_eq!(cuStreamCreate(Out::to(&mut stream), 1), SUCCESS);
    stream
}

/// A pool of the device that holds at most so many bytes, 0 for any.
fn pool(most: u64) -> CUmemoryPool {
    let mut props = [0u64; 11];
    // CU_MEM_ALLOCATION_TYPE_PINNED, no handles; CU_MEM_LOCATION_TYPE_DEVICE, 0.
    props[0] = 1;
    props[1] = 1;
    props[3] = most;
    let mut pool = null_mut();
    assert_eq!(
        cuMemPoolCreate(Out::to(&mut pool), Host::to(&mut props)),
        SUCCESS
    );
    pool
}

fn get(pool: CUmemoryPool, attribute: u32) -> u64 {
    let mut value = [u64::MAX];
    let place = Host::to(&mut value);
    assert_eq!(cuMemPoolGetAttribute(pool, attribute, place), SUCCESS);
    value[0]
}

fn set(pool: CUmemoryPool, attribute: u32, value: u64) -> u32 {
    cuMemPoolSetAttribute(pool, attribute, Host::to(&mut [value]))
}

fn from_pool(pool: CUmemoryPool, bytes: usize, stream: CUstream) -> u64 {
    let mut at = 0;
    let out = Out::to(&mut at);
    assert_eq!(cuMemAllocFromPoolAsync(out, bytes, pool, stream), SUCCESS);
    at
}

#[test]
fn pieces_are_handed_out_again_without_a_message() {
    let turn = turn();
    let _ctx = context();
    let (pool, stream) = (pool(0), stream());
    let before = turn.count("cuMemAlloc");
    let first = from_pool(pool, 1000, stream);
    assert_eq!((get(pool, RESERVED), get(pool, USED)), (SEGMENT, 1024));
    let second = from_pool(pool, 1000, stream);
    assert!(first.is_multiple_of(512) && first.abs_diff(second) >= 1024);
    assert_eq!(cuMemsetD8_v2(second, 1, 1000), SUCCESS);
    assert_eq!(cuMemsetD8_v2(second, 1, 1001), INVALID_VALUE);
    for _ in 0..1000 {
        assert_eq!(cuMemFreeAsync(first, stream), SUCCESS);
        assert_eq!(from_pool(pool, 1000, stream), first);
    }
    assert_eq!(turn.count("cuMemAlloc"), before + 1);
    assert_eq!(cuMemFreeAsync(first, stream), SUCCESS);
    assert_eq!(cuMemFreeAsync(second, stream), SUCCESS);
    assert_eq!((get(pool, USED), get(pool, USED_HIGH)), (0, 2048));
    // One piece again: all of the segment.
    assert_eq!(from_pool(pool, 2 << 20, stream), first);
    assert_eq!(turn.count("cuMemAlloc"), before + 1);
    assert_eq!(cuMemFreeAsync(first, stream), SUCCESS);
    assert_eq!(cuMemPoolDestroy(pool), SUCCESS);
    assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
}

#[test]
fn another_stream_waits_for_the_one_that_freed() {
    let turn = turn();
    let _ctx = context();
    let (pool, one, two) = (pool(0), stream(), stream());
    let at = from_pool(pool, 2 << 20, one);
    assert_eq!(cuMemFreeAsync(at, one), SUCCESS);
    let waits = turn.count("cuStreamWaitEvent");
    assert_eq!(from_pool(pool, 2 << 20, two), at);
    assert_eq!(turn.count("cuStreamWaitEvent"), waits + 1);
    assert_eq!(cuMemFreeAsync(at, two), SUCCESS);
    // Where that is not allowed, it gets other memory.
    assert_eq!(set(pool, 3, 0), SUCCESS);
    let other = from_pool(pool, 2 << 20, one);
    assert_ne!(other, at);
    assert_eq!(turn.count("cuStreamWaitEvent"), waits + 1);
    assert_eq!(get(pool, RESERVED), 2 * SEGMENT);
    assert_eq!(cuMemFreeAsync(other, one), SUCCESS);
    for stream in [one, two] {
        assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
    }
    assert_eq!(cuMemPoolDestroy(pool), SUCCESS);
}

#[test]
fn memory_goes_back_when_the_program_waits() {
    let turn = turn();
    let _ctx = context();
    let (pool, stream) = (pool(0), stream());
    let live = turn.device.host().allocations();
    let [a, b] = [(); 2].map(|()| from_pool(pool, 3 << 20, stream));
    assert_eq!(get(pool, RESERVED), 8 << 20);
    assert_eq!(cuMemFreeAsync(a, stream), SUCCESS);
    assert_eq!(get(pool, RESERVED), 8 << 20);
    assert_eq!(cuStreamSynchronize(stream), SUCCESS);
    assert_eq!(get(pool, RESERVED), 4 << 20);
    // Up to the threshold it stays.
    assert_eq!(set(pool, THRESHOLD, 4 << 20), SUCCESS);
    assert_eq!(cuMemFreeAsync(b, stream), SUCCESS);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
    assert_eq!(
        (get(pool, RESERVED), get(pool, RESERVED_HIGH)),
        (4 << 20, 8 << 20)
    );
    assert_eq!(set(pool, RESERVED_HIGH, 1), INVALID_VALUE);
    assert_eq!(set(pool, RESERVED_HIGH, 0), SUCCESS);
    assert_eq!(get(pool, RESERVED_HIGH), 4 << 20);
    assert_eq!(cuMemPoolTrimTo(pool, 4 << 20), SUCCESS);
    assert_eq!(get(pool, RESERVED), 4 << 20);
    assert_eq!(cuMemPoolTrimTo(pool, 0), SUCCESS);
    assert_eq!(get(pool, RESERVED), 0);
    assert_eq!(cuMemPoolDestroy(pool), SUCCESS);
    assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
    assert!(turn.count("vgpuCounters") > 0);
    assert_eq!(turn.device.host().allocations(), live);
}

#[test]
fn what_is_freed_twice_or_was_never_there() {
    let turn = turn();
    let _ctx = context();
    let (pool, stream) = (pool(4 << 20), stream());
    let at = from_pool(pool, 100, stream);
    assert_eq!(cuMemFreeAsync(at + 1, stream), INVALID_VALUE);
    assert_eq!(cuMemFreeAsync(0, stream), INVALID_VALUE);
    // Either call frees memory of either kind.
    assert_eq!(cuMemFree_v2(at), SUCCESS);
    assert_eq!(cuMemFreeAsync(at, stream), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(at), INVALID_VALUE);
    let plain = alloc(100);
    assert_eq!(cuMemFreeAsync(plain, stream), SUCCESS);
    assert_eq!(cuMemFreeAsync(plain, stream), INVALID_VALUE);
    // Its most, and no more.
    let mut out = 0;
    let place = Out::to(&mut out);
    assert_eq!(
        cuMemAllocFromPoolAsync(place, 0, pool, stream),
        INVALID_VALUE
    );
    for bytes in [(4 << 20) + 1, usize::MAX, usize::MAX - 511] {
        assert_eq!(
            cuMemAllocFromPoolAsync(place, bytes, pool, stream),
            OUT_OF_MEMORY
        );
    }
    let all = from_pool(pool, 4 << 20, stream);
    assert_eq!(
        cuMemAllocFromPoolAsync(place, 1, pool, stream),
        OUT_OF_MEMORY
    );
    // A pool that is destroyed keeps what the program has of it.
    assert_eq!(cuMemPoolDestroy(pool), SUCCESS);
    assert_eq!(cuMemPoolDestroy(pool), INVALID_VALUE);
    assert_eq!(
        cuMemAllocFromPoolAsync(place, 1, pool, stream),
        INVALID_VALUE
    );
    assert_eq!(cuMemsetD8_v2(all, 1, 4 << 20), SUCCESS);
    let freed = turn.count("cuMemFree");
    assert_eq!(cuMemFreeAsync(all, stream), SUCCESS);
    assert_eq!(turn.count("cuMemFree"), freed + 1);
    assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
}

#[test]
fn pools_of_the_device() {
    let _turn = turn();
    let ctx = context();
    let stream = stream();
    let (mut default, mut current) = (null_mut(), null_mut());
    assert_eq!(cuDeviceGetDefaultMemPool(Out::to(&mut default), 0), SUCCESS);
    assert_eq!(cuDeviceGetDefaultMemPool(Out::to(&mut current), 7), 101);
    assert_eq!(cuMemPoolDestroy(default), INVALID_VALUE);
    let own = pool(0);
    assert_eq!(cuDeviceSetMemPool(0, own), SUCCESS);
    assert_eq!(cuDeviceGetMemPool(Out::to(&mut current), 0), SUCCESS);
    assert_eq!(current, own);
    let mut at = 0;
    assert_eq!(cuMemAllocAsync(Out::to(&mut at), 100, stream), SUCCESS);
    assert_eq!(get(own, USED), 512);
    assert_eq!(cuMemFreeAsync(at, stream), SUCCESS);
    assert_eq!(cuMemPoolDestroy(own), SUCCESS);
    assert_eq!(cuDeviceGetMemPool(Out::to(&mut current), 0), SUCCESS);
    assert_eq!(current, default);
    // Access, and what other processes would need.
    let mut place = [1u32, 0, 3];
    let mut flags = 0;
    assert_eq!(
        cuMemPoolSetAccess(default, Host::to(&mut place), 1),
        SUCCESS
    );
    let of = Host::to(&mut place);
    assert_eq!(
        cuMemPoolGetAccess(Out::to(&mut flags), default, of),
        SUCCESS
    );
    assert_eq!(flags, 3);
    place[2] = 0;
    assert_eq!(
        cuMemPoolSetAccess(default, Host::to(&mut place), 1),
        INVALID_VALUE
    );
    let mut data = [0u64; 8];
    let data = Host::to(&mut data);
    assert_eq!(
        cuMemPoolExportToShareableHandle(data, default, 1, 0),
        NOT_SUPPORTED
    );
    let mut props = [1u32, 1, 1, 0, 0, 0, 0, 0, 0, 0];
    let out = Out::to(&mut current);
    assert_eq!(cuMemPoolCreate(out, Host::to(&mut props)), NOT_SUPPORTED);
    props[..2].copy_from_slice(&[3, 0]);
    assert_eq!(cuMemPoolCreate(out, Host::to(&mut props)), INVALID_VALUE);
    assert_eq!(cuMemPoolGetAttribute(default, 99, data), INVALID_VALUE);
    // A context takes what pools have in it along.
    assert_eq!(cuMemAllocAsync(Out::to(&mut at), 100, stream), SUCCESS);
    assert_eq!(cuCtxDestroy_v2(ctx.0), SUCCESS);
    assert_eq!((get(default, RESERVED), get(default, USED)), (0, 0));
}

#[test]
fn a_capture_allocates_in_its_graph() {
    let turn = turn();
    let _ctx = context();
    let stream = stream();
    let live = turn.device.host().allocations();
    assert_eq!(
        crate::capture::calls::cuStreamBeginCapture_v2(stream, 2),
        SUCCESS
    );
    let (mut at, mut graph) = (0, null_mut());
    assert_eq!(cuMemAllocAsync(Out::to(&mut at), 4096, stream), SUCCESS);
    assert_eq!(cuMemFreeAsync(at, stream), SUCCESS);
    let end = crate::capture::calls::cuStreamEndCapture(stream, Out::to(&mut graph));
    assert_eq!(end, SUCCESS);
    let mut count = 0;
    let none = Host(null_mut());
    let counted = crate::graph_edges::cuGraphGetNodes(graph, none.out(), Out::to(&mut count));
    assert_eq!((counted, count), (SUCCESS, 2));
    // No launch has allocated it.
    assert_eq!(cuMemFreeAsync(at, stream), INVALID_VALUE);
    assert_eq!(cuGraphDestroy(graph), SUCCESS);
    assert!(turn.count("cuMemFree") > 0);
    assert_eq!(turn.device.host().allocations(), live);
    assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
}
