//! Pinned and managed memory.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use cudarc::driver::sys::CUpointer_attribute_enum as Attr;

use super::{INVALID_VALUE, SUCCESS, alloc, context, turn};
use crate::abi::{Host, In, Out};
use crate::copy::{
    cuMemcpy, cuMemcpyAsync, cuMemcpyDtoH_v2, cuMemcpyDtoHAsync_v2, cuMemcpyHtoD_v2,
    cuMemcpyHtoDAsync_v2,
};
use crate::ctx::{cuCtxDestroy_v2, cuCtxSynchronize};
use crate::host::*;
use crate::managed::*;
use crate::mem::{cuMemFree_v2, cuMemGetAddressRange_v2};
use crate::memset::{cuMemsetD8_v2, cuMemsetD8Async};
use crate::pointer::cuPointerGetAttribute;
use crate::stream::{cuStreamCreate, cuStreamDestroy_v2, cuStreamSynchronize};

const OUT_OF_MEMORY: u32 = 2;
const INVALID_DEVICE: u32 = 101;

fn pinned(bytes: usize, flags: u32) -> Host {
    let mut at = Host(null_mut());
    assert_eq!(cuMemHostAlloc(Out::to(&mut at), bytes, flags), SUCCESS);
    at
}

fn managed(bytes: usize) -> u64 {
    let mut at = 0;
    assert_eq!(cuMemAllocManaged(Out::to(&mut at), bytes, 1), SUCCESS);
    at
}

fn attribute<T: Copy + Default>(attribute: Attr, at: u64) -> Result<T, u32> {
    let mut value = T::default();
    let place = Host::to(std::slice::from_mut(&mut value));
    match cuPointerGetAttribute(place, attribute as i32, at) {
        SUCCESS => Ok(value),
        error => Err(error),
    }
}

fn fill(at: Host, data: &[u8]) {
    let mut target = at.target(data.len()).expect("not null");
    assert_eq!(target.store(0, data), data.len());
}

fn look(at: Host, bytes: usize) -> Vec<u8> {
    at.source(bytes).expect("not null").to_vec(0, bytes)
}

fn plus(at: Host, bytes: usize) -> Host {
    at.offset(bytes)
}

#[test]
fn copies_of_pinned_memory_stage_nothing() {
    let turn = turn();
    let _ctx = context();
    let bytes = 3 << 20;
    let data: Vec<u8> = (0..bytes).map(|i| (i * 7) as u8).collect();
    let (there, back) = (pinned(bytes, 0), pinned(bytes, 0));
    fill(there, &data);
    let device = alloc(bytes);
    let staged = [
        "cuMemcpyHtoD",
        "cuMemcpyHtoD_inline",
        "cuMemcpyDtoH",
        "cuMemcpyDtoH_inline",
    ];
    let before = staged.map(|name| turn.count(name));
    let stream = null_mut();
    assert_eq!(cuMemcpyHtoDAsync_v2(device, there, bytes, stream), SUCCESS);
    assert_eq!(cuMemcpyDtoHAsync_v2(back, device, bytes, stream), SUCCESS);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
    assert!(look(back, bytes) == data);
    // One that is not asynchronous is done on return.
    fill(there, &[1; 64]);
    assert_eq!(cuMemcpyHtoD_v2(device, there, 8193), SUCCESS);
    fill(there, &[2; 64]);
    assert_eq!(cuMemcpyDtoH_v2(back, device, 64), SUCCESS);
    assert_eq!(look(back, 64), [1; 64]);
    assert_eq!(cuMemcpy(back.0 as u64, device, 3 << 20), SUCCESS);
    assert_eq!(
        cuMemcpyAsync(plus(back, 64).0 as u64, there.0 as u64, 64, stream),
        SUCCESS
    );
    assert_eq!(cuCtxSynchronize(), SUCCESS);
    assert_eq!(look(plus(back, 64), 64), [2; 64]);
    assert_eq!(staged.map(|name| turn.count(name)), before);
    assert_eq!(cuMemFreeHost(there), SUCCESS);
    assert_eq!(cuMemFreeHost(back), SUCCESS);
}

#[test]
fn small_copies_of_pinned_memory_are_read_at_once_where_nothing_changes_it() {
    let turn = turn();
    let _ctx = context();
    let from = pinned(128 << 10, 0);
    let device = alloc(128 << 10);
    let copy = |stream, bytes: usize| {
        let count = || turn.count("cuMemcpyHtoD_inline") + turn.count("cuMemcpyHtoD");
        let before = count();
        fill(from, &[7; 64]);
        assert_eq!(cuMemcpyHtoDAsync_v2(device, from, bytes, stream), SUCCESS);
        let at_once = count() != before;
        if at_once {
            // As the program may once it has waited, which sends no question then.
            fill(from, &[8; 64]);
        }
        assert_eq!(cuCtxSynchronize(), SUCCESS);
        let mut found = [0u8; 64];
        assert_eq!(cuMemcpyDtoH_v2(Host::to(&mut found), device, 64), SUCCESS);
        assert_eq!(found, [7; 64]);
        at_once
    };
    let create = |flags: u32| {
        let mut stream = null_mut();
        assert_eq!(cuStreamCreate(Out::to(&mut stream), flags), SUCCESS);
        stream
    };
    let (blocking, free) = (create(0), create(1));
    let work = |stream| {
        assert_eq!(cuMemsetD8Async(device, 0, 64, stream), SUCCESS);
    };
    assert!(copy(blocking, 64 << 10) && copy(free, 100));
    assert!(!copy(free, (64 << 10) + 1));
    assert!(
        !copy(null_mut(), 100),
        "the default stream waits for others"
    );
    work(free);
    assert!(!copy(free, 100) && copy(blocking, 100));
    assert_eq!(cuStreamSynchronize(free), SUCCESS);
    assert!(copy(free, 100));
    work(null_mut());
    assert!(!copy(blocking, 100), "the default stream comes before it");
    assert!(copy(free, 100) && copy(blocking, 100), "all was waited for");
    // A copy in the default stream is small and its bytes are taken, but it waits for others.
    let other = create(0);
    work(other);
    let bytes = [1u8; 64];
    let source = || Host::to(&mut bytes.clone());
    assert_eq!(
        cuMemcpyHtoDAsync_v2(device, source(), 64, null_mut()),
        SUCCESS
    );
    assert_eq!(cuMemcpyHtoDAsync_v2(device, source(), 64, free), SUCCESS);
    assert_eq!(
        cuMemcpyHtoDAsync_v2(device, source(), 64, blocking),
        SUCCESS
    );
    assert!(!copy(blocking, 100), "the default stream comes before it");
    assert_eq!(cuStreamDestroy_v2(other), SUCCESS);
    for stream in [blocking, free] {
        assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
    }
    assert_eq!(cuMemFreeHost(from), SUCCESS);
}

#[test]
fn what_is_known_of_pinned_memory() {
    let _turn = turn();
    let ctx = context();
    let host = pinned(5000, 4);
    let at = host.0 as u64;
    let inside = at + 4999;
    assert_eq!(
        attribute::<u32>(Attr::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, at),
        Ok(1)
    );
    assert_eq!(
        attribute::<u32>(Attr::CU_POINTER_ATTRIBUTE_IS_MANAGED, at),
        Ok(0)
    );
    for pointer in [
        Attr::CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
        Attr::CU_POINTER_ATTRIBUTE_HOST_POINTER,
    ] {
        assert_eq!(attribute::<u64>(pointer, inside), Ok(inside));
    }
    assert_eq!(
        attribute::<u64>(Attr::CU_POINTER_ATTRIBUTE_CONTEXT, at),
        Ok(ctx.0 as u64)
    );
    assert_eq!(
        attribute::<usize>(Attr::CU_POINTER_ATTRIBUTE_RANGE_SIZE, inside),
        Ok(5000)
    );
    assert_eq!(
        attribute::<u64>(Attr::CU_POINTER_ATTRIBUTE_HOST_POINTER, at + 5000),
        Err(INVALID_VALUE)
    );
    let (mut flags, mut device) = (0, 0);
    assert_eq!(cuMemHostGetFlags(Out::to(&mut flags), host), SUCCESS);
    assert_eq!(flags, 4 | 2);
    let out = Out::to(&mut device);
    assert_eq!(cuMemHostGetDevicePointer_v2(out, plus(host, 8), 0), SUCCESS);
    assert_eq!(device, at + 8);
    assert_eq!(cuMemHostGetDevicePointer_v2(out, host, 1), INVALID_VALUE);
    assert_eq!(
        cuMemHostGetDevicePointer_v2(out, plus(host, 5000), 0),
        INVALID_VALUE
    );
    let (mut base, mut bytes) = (0, 0);
    let range = (Out::to(&mut base), Out::to(&mut bytes));
    assert_eq!(cuMemGetAddressRange_v2(range.0, range.1, inside), SUCCESS);
    assert_eq!((base, bytes), (at, 5000));
    // Of the driver's own memory, nothing is registered; of the program's, nothing can be.
    let mut own = [0u8; 4096];
    assert_eq!(cuMemHostRegister_v2(host, 5000, 0), 712);
    assert_eq!(cuMemHostRegister_v2(Host::to(&mut own), 4096, 0), 801);
    assert_eq!(
        cuMemHostRegister_v2(Host::to(&mut own), 0, 0),
        INVALID_VALUE
    );
    assert_eq!(
        cuMemHostRegister_v2(Host::to(&mut own), 4096, 16),
        INVALID_VALUE
    );
    assert_eq!(cuMemHostUnregister(host), 713);
    assert_eq!(cuMemHostUnregister(Host(null_mut())), INVALID_VALUE);
}

#[test]
fn bad_sizes_flags_and_frees() {
    let turn = turn();
    let _ctx = context();
    let mut at = Host(null_mut());
    let mut device = 0;
    let free = turn.device.host().heap_bytes();
    assert_eq!(cuMemHostAlloc(Out::to(&mut at), 0, 0), INVALID_VALUE);
    assert_eq!(cuMemHostAlloc(Out::to(&mut at), 1, 8), INVALID_VALUE);
    assert_eq!(cuMemHostAlloc(Host(null_mut()).out(), 1, 0), INVALID_VALUE);
    assert_eq!(cuMemHostAlloc(Out::to(&mut at), 1 << 40, 0), OUT_OF_MEMORY);
    for flags in [0, 3, 4] {
        assert_eq!(
            cuMemAllocManaged(Out::to(&mut device), 1, flags),
            INVALID_VALUE
        );
    }
    let host = pinned(100, 0);
    let shared = managed(100);
    assert_eq!(cuMemFreeHost(plus(host, 1)), INVALID_VALUE);
    assert_eq!(cuMemFreeHost(Host(shared as *mut c_void)), INVALID_VALUE);
    assert_eq!(cuMemFreeHost(Host(null_mut())), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(host.0 as u64), INVALID_VALUE);
    assert_eq!(cuMemFreeHost(host), SUCCESS);
    assert_eq!(cuMemFreeHost(host), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(shared), SUCCESS);
    assert_eq!(cuMemFree_v2(shared), INVALID_VALUE);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
    assert_eq!(turn.device.host().heap_bytes(), free);
}

#[test]
fn an_address_that_is_taken_is_another_one_for_the_device() {
    let turn = turn();
    let _ctx = context();
    // Two pieces lie where the process has something; the third does not.
    turn.device.heap_taken.store(2, Ordering::Release);
    let free = turn.device.host().heap_bytes();
    let host = pinned(8192, 0);
    assert_eq!(turn.device.host().heap_bytes(), free - 8192);
    let mut device = 0;
    assert_eq!(
        cuMemHostGetDevicePointer_v2(Out::to(&mut device), host, 0),
        SUCCESS
    );
    assert_eq!(device, host.0 as u64);
    assert_eq!(cuMemFreeHost(host), SUCCESS);
    // None does not: then the device's address is another one, and either names the memory.
    turn.device.heap_taken.store(1000, Ordering::Release);
    let host = pinned(8192, 0);
    assert_eq!(
        cuMemHostGetDevicePointer_v2(Out::to(&mut device), host, 0),
        SUCCESS
    );
    assert_ne!(device, host.0 as u64);
    for at in [device + 5, host.0 as u64 + 5] {
        assert_eq!(
            attribute::<u64>(Attr::CU_POINTER_ATTRIBUTE_DEVICE_POINTER, at),
            Ok(device + 5)
        );
        assert_eq!(
            attribute::<u64>(Attr::CU_POINTER_ATTRIBUTE_HOST_POINTER, at),
            Ok(host.0 as u64 + 5)
        );
    }
    // Managed memory has one address or none.
    let mut shared = 0;
    assert_eq!(cuMemAllocManaged(Out::to(&mut shared), 1, 1), OUT_OF_MEMORY);
    turn.device.heap_taken.store(0, Ordering::Release);
    assert_eq!(cuMemFreeHost(host), SUCCESS);
    assert_eq!(turn.device.host().heap_bytes(), free);
}

#[test]
fn managed_memory_is_written_by_both() {
    let turn = turn();
    let _ctx = context();
    let before = turn.count("cuMemAllocManaged");
    let at = managed(10_000);
    let host = Host(at as *mut c_void);
    assert_eq!(
        attribute::<u32>(Attr::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, at),
        Ok(2)
    );
    assert_eq!(
        attribute::<u32>(Attr::CU_POINTER_ATTRIBUTE_IS_MANAGED, at),
        Ok(1)
    );
    assert_eq!(
        attribute::<u64>(Attr::CU_POINTER_ATTRIBUTE_HOST_POINTER, at + 9),
        Ok(at + 9)
    );
    fill(host, &[1; 10_000]);
    // What is not asynchronous is done on return.
    assert_eq!(cuMemsetD8_v2(at + 5000, 9, 5000), SUCCESS);
    assert_eq!(look(plus(host, 4999), 2), [1, 9]);
    let mut data = [3u8; 100];
    assert_eq!(cuMemcpyHtoD_v2(at, Host::to(&mut data), 100), SUCCESS);
    assert_eq!(look(plus(host, 99), 2), [3, 1]);
    let mut back = [0u8; 100];
    assert_eq!(cuMemcpyDtoH_v2(Host::to(&mut back), at, 100), SUCCESS);
    assert_eq!(back, [3; 100]);
    assert_eq!(turn.count("cuMemAllocManaged"), before + 1);
    assert_eq!(cuMemFree_v2(at), SUCCESS);
}

#[test]
fn hints_are_kept_and_checked() {
    let _turn = turn();
    let _ctx = context();
    let at = managed(1 << 20);
    let get = |attribute: u32, from: u64, bytes: usize| {
        let mut value = 77i32;
        let place = Host::to(std::slice::from_mut(&mut value));
        match cuMemRangeGetAttribute(place, 4, attribute, from, bytes) {
            SUCCESS => Ok(value),
            error => Err(error),
        }
    };
    assert_eq!(get(1, at, 1 << 20), Ok(0));
    assert_eq!(get(2, at, 1 << 20), Ok(-2));
    assert_eq!(cuMemAdvise(at, 4096, 1, 0), SUCCESS);
    assert_eq!((get(1, at, 4096), get(1, at, 4097)), (Ok(1), Ok(0)));
    assert_eq!(cuMemAdvise(at, 1 << 20, 3, -1), SUCCESS);
    assert_eq!((get(2, at, 1 << 20), get(5, at, 1)), (Ok(-1), Ok(2)));
    assert_eq!(cuMemAdvise(at, 1 << 20, 5, 0), SUCCESS);
    let mut devices = [9i32; 3];
    assert_eq!(
        cuMemRangeGetAttribute(Host::to(&mut devices), 12, 3, at, 1 << 20),
        SUCCESS
    );
    assert_eq!(devices, [0, -2, -2]);
    assert_eq!(cuMemPrefetchAsync(at, 1 << 20, 0, null_mut()), SUCCESS);
    assert_eq!((get(4, at, 1 << 20), get(8, at, 1 << 20)), (Ok(0), Ok(0)));
    // Bad ones.
    assert_eq!(get(9, at, 1), Err(INVALID_VALUE));
    assert_eq!(get(1, at, (1 << 20) + 1), Err(INVALID_VALUE));
    assert_eq!(get(1, at, 0), Err(INVALID_VALUE));
    assert_eq!(cuMemAdvise(at, 1, 0, 0), INVALID_VALUE);
    assert_eq!(cuMemAdvise(at, 1, 3, 5), INVALID_DEVICE);
    assert_eq!(cuMemAdvise(alloc(64), 1, 1, 0), INVALID_VALUE);
    assert_eq!(cuMemPrefetchAsync(at, 0, 0, null_mut()), INVALID_VALUE);
    assert_eq!(cuMemPrefetchAsync(at, 1, 3, null_mut()), INVALID_DEVICE);
    let stream = null_mut();
    assert_eq!(cuStreamAttachMemAsync(stream, at, 0, 1), SUCCESS);
    assert_eq!(cuStreamAttachMemAsync(stream, at, 1 << 20, 2), SUCCESS);
    assert_eq!(cuStreamAttachMemAsync(stream, at, 5, 1), INVALID_VALUE);
    assert_eq!(cuStreamAttachMemAsync(stream, at, 0, 3), INVALID_VALUE);
    assert_eq!(cuStreamAttachMemAsync(stream, at, 0, 4), 400);
    let (pieces, sizes) = ([at, at + 4096], [4096usize, 4096]);
    let batch = (In::to(&pieces), In::to(&sizes));
    assert_eq!(
        cuMemDiscardBatchAsync(batch.0, batch.1, 2, 0, stream),
        SUCCESS
    );
    assert_eq!(
        cuMemDiscardBatchAsync(batch.0, batch.1, 0, 0, stream),
        INVALID_VALUE
    );
    assert_eq!(cuMemFree_v2(at), SUCCESS);
}

#[test]
fn memory_goes_with_its_context() {
    let turn = turn();
    let free = turn.device.host().heap_bytes();
    let ctx = context();
    let host = pinned(4096, 0);
    assert_eq!(cuCtxDestroy_v2(ctx.0), SUCCESS);
    let ctx = context();
    assert_eq!(cuMemFreeHost(host), INVALID_VALUE);
    drop(ctx);
    // The fake host frees nothing with a context: what is asserted is that it is not asked to.
    assert!(turn.device.host().heap_bytes() <= free);
}
