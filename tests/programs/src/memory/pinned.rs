//! Page-locked host memory.

use std::ptr;

use anyhow::{Result, ensure};

use super::{Kernels, Pinned, code, device_attribute, mixed};
use crate::call;
use crate::cuda::{Buffer, Context, Stream, sys};

/// Asynchronous copies there and back, of several sizes and places.
pub fn copies() -> Result<String> {
    let stream = Stream::new()?;
    let words = (3 << 18) + 5;
    let (there, back) = (Pinned::new(words, 0)?, Pinned::new(words, 4)?);
    let device = Buffer::<u32>::zeros(words)?;
    let mut compared = 0;
    for (from, count) in [(0, words), (1, words - 1), (words - 1, 1), (1000, 4096)] {
        there.fill(|i| mixed(i + count));
        back.fill(|_| 7);
        let bytes = 4 * count;
        // SAFETY: inside of the memory, which is waited for before it is looked at.
        unsafe {
            let (source, target) = (there.at.add(4 * from), back.at.add(4 * from));
            let on_device = device.address() + 4 * from as u64;
            call!(cuMemcpyHtoDAsync_v2(on_device, source, bytes, stream.raw()))?;
            call!(cuMemcpyDtoHAsync_v2(target, on_device, bytes, stream.raw()))?;
        }
        stream.synchronize()?;
        compared += back.compare(|i| match i >= from && i < from + count {
            true => mixed(i + count),
            false => 7,
        })?;
    }
    // Calls that are not asynchronous are done on return.
    for round in 0..50 {
        there.set(0, round);
        back.set(0, !round);
        // SAFETY: as above.
        unsafe {
            call!(cuMemcpyHtoD_v2(device.address(), there.at, 4 * 4096))?;
            there.set(0, !round);
            call!(cuMemcpyDtoH_v2(back.at, device.address(), 4 * 4096))?;
        }
        ensure!(back.get(0) == round, "round {round} read {}", back.get(0));
    }
    Ok(format!("{compared} words"))
}

/// Kernels that read and write it.
pub fn kernels() -> Result<String> {
    let kernels = Kernels::new()?;
    let words = 100_000;
    let host = Pinned::new(words, 2)?;
    host.fill(mixed);
    let device = host.device()?;
    for _ in 0..3 {
        kernels.add(device, words, 10, None)?;
    }
    // SAFETY: no preconditions.
    unsafe { call!(cuCtxSynchronize()) }?;
    let compared = host.compare(|i| mixed(i).wrapping_add(30))?;
    // Under unified addressing the program's address is the device's.
    kernels.add(host.at as u64, words, 1, None)?;
    // SAFETY: no preconditions.
    unsafe { call!(cuCtxSynchronize()) }?;
    host.compare(|i| mixed(i).wrapping_add(31))?;
    Ok(format!("{compared} words, twice"))
}

/// Copies take their turn in the stream: what a kernel writes later is not in them.
pub fn order() -> Result<String> {
    let kernels = Kernels::new()?;
    let stream = Stream::new()?;
    let (host, seen) = (Pinned::new(1, 0)?, Pinned::new(100, 0)?);
    let device = Buffer::<u32>::zeros(1)?;
    for i in 0..100 {
        host.set(0, 0);
        kernels.slow(host.at as u64, i, Some(&stream))?;
        // SAFETY: the memory is ours, and waited for.
        unsafe {
            call!(cuMemcpyHtoDAsync_v2(
                device.address(),
                host.at,
                4,
                stream.raw()
            ))?;
            let target = seen.at.add(4 * i as usize);
            call!(cuMemcpyDtoHAsync_v2(
                target,
                device.address(),
                4,
                stream.raw()
            ))?;
        }
        if i % 10 == 9 {
            kernels.slow(host.at as u64, 1000, Some(&stream))?;
        }
        stream.synchronize()?;
    }
    let compared = seen.compare(|i| i as u32)?;
    Ok(format!("{compared} turns"))
}

fn attribute(of: sys::CUpointer_attribute, at: u64) -> Result<u64> {
    let mut value = 0u64;
    // SAFETY: no attribute that is asked for is longer than 8 bytes.
    unsafe {
        call!(cuPointerGetAttribute(
            ptr::from_mut(&mut value).cast(),
            of,
            at
        ))
    }?;
    Ok(value)
}

pub fn attributes() -> Result<String> {
    use sys::CUpointer_attribute_enum::*;
    let host = Pinned::new(1000, 4)?;
    let at = host.at as u64;
    let inside = at + 100;
    for (what, of, wanted) in [
        ("memory type", CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 1),
        ("managed", CU_POINTER_ATTRIBUTE_IS_MANAGED, 0),
        ("host pointer", CU_POINTER_ATTRIBUTE_HOST_POINTER, inside),
        (
            "device pointer",
            CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
            host.device()? + 100,
        ),
        ("start", CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, at),
    ] {
        let found = attribute(of, inside)?;
        // Numbers of 4 bytes leave the rest zero.
        ensure!(found == wanted, "{what} is {found:#x}, not {wanted:#x}");
    }
    let mut flags = 0;
    // SAFETY: a place for the flags; the memory is ours.
    unsafe { call!(cuMemHostGetFlags(&mut flags, host.at)) }?;
    ensure!(flags & 6 == 6, "flags {flags}");
    use sys::CUdevice_attribute_enum as Device;
    for attribute in [
        Device::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY,
        Device::CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING,
    ] {
        ensure!(device_attribute(attribute)? == 1, "{attribute:?}");
    }
    Ok("5 attributes".to_owned())
}

/// What must fail, and how.
pub fn bad() -> Result<String> {
    let host = Pinned::new(1000, 0)?;
    let mut at = ptr::null_mut();
    let mut number = 0;
    let mut own = vec![0u8; 16384];
    let register = device_attribute(
        sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED,
    )?;
    let mut tries = 0;
    let mut expect = |what: &str, found: u32, wanted: u32| -> Result<()> {
        tries += 1;
        ensure!(found == wanted, "{what} returned {found}, not {wanted}");
        Ok(())
    };
    // SAFETY: bad arguments, which the calls are documented to refuse; memory of this function.
    unsafe {
        expect("no bytes", code(call!(cuMemHostAlloc(&mut at, 0, 0))), 1)?;
        expect(
            "an unknown flag",
            code(call!(cuMemHostAlloc(&mut at, 4096, 64))),
            1,
        )?;
        expect(
            "no place",
            code(call!(cuMemHostAlloc(ptr::null_mut(), 4096, 0))),
            1,
        )?;
        expect(
            "too much",
            code(call!(cuMemHostAlloc(&mut at, 1 << 50, 0))),
            2,
        )?;
        let middle = host.at.add(4);
        expect("the middle", code(call!(cuMemFreeHost(middle))), 1)?;
        expect(
            "own memory",
            code(call!(cuMemFreeHost(own.as_mut_ptr().cast()))),
            1,
        )?;
        expect("null", code(call!(cuMemFreeHost(ptr::null_mut()))), 1)?;
        let of_own = call!(cuMemHostGetDevicePointer_v2(
            &mut number,
            own.as_mut_ptr().cast(),
            0
        ));
        expect("an address of own memory", code(of_own), 1)?;
        let flags = call!(cuMemHostGetDevicePointer_v2(&mut number, host.at, 1));
        expect("flags", code(flags), 1)?;
        let twice = call!(cuMemHostRegister_v2(host.at, 4000, 0));
        expect("registering what is pinned", code(twice), 712)?;
        if register == 0 {
            let own = own.as_mut_ptr().cast();
            expect(
                "registering",
                code(call!(cuMemHostRegister_v2(own, 16384, 0))),
                801,
            )?;
            expect("unregistering", code(call!(cuMemHostUnregister(own))), 713)?;
        }
        let freed = Pinned::new(100, 0)?;
        expect("free", code(call!(cuMemFreeHost(freed.at))), 0)?;
        expect("a second free", code(call!(cuMemFreeHost(freed.at))), 1)?;
        std::mem::forget(freed);
    }
    Ok(format!("{tries} calls"))
}

/// Threads that allocate, copy and free at the same time.
pub fn threads() -> Result<String> {
    let work = |seed: usize| -> Result<usize> {
        let _context = Context::primary()?;
        let stream = Stream::new()?;
        let mut compared = 0;
        for round in 0..40 {
            let words = 1 + (seed * 7919 + round * 104_729) % 20_000;
            let (there, back) = (Pinned::new(words, 0)?, Pinned::new(words, 0)?);
            let device = Buffer::<u32>::new(words)?;
            there.fill(|i| mixed(i ^ seed));
            // SAFETY: ours, and waited for.
            unsafe {
                let bytes = 4 * words;
                call!(cuMemcpyHtoDAsync_v2(
                    device.address(),
                    there.at,
                    bytes,
                    stream.raw()
                ))?;
                call!(cuMemcpyDtoHAsync_v2(
                    back.at,
                    device.address(),
                    bytes,
                    stream.raw()
                ))?;
            }
            stream.synchronize()?;
            compared += back.compare(|i| mixed(i ^ seed))?;
        }
        Ok(compared)
    };
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|t| scope.spawn(move || work(t))).collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .sum::<Result<usize>>()
    })?;
    Ok(format!("{all} words"))
}

/// Many small pieces, given back in another order.
pub fn many() -> Result<String> {
    let mut pieces = Vec::new();
    for i in 0..300 {
        let piece = Pinned::new(1 + i % 3000, 0)?;
        piece.fill(|w| mixed(w + i));
        pieces.push((i, piece));
    }
    let mut compared = 0;
    while !pieces.is_empty() {
        let (i, piece) = pieces.swap_remove(pieces.len() / 2);
        compared += piece.compare(|w| mixed(w + i))?;
    }
    Ok(format!("{compared} words in 300 pieces"))
}
