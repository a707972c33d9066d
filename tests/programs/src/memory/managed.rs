//! Managed memory.

use std::ptr;

use anyhow::{Result, ensure};

use super::{Kernels, code, device_attribute, mixed};
use crate::call;
use crate::cuda::{Buffer, Stream, sys};

/// Managed memory of words.
struct Managed {
    at: u64,
    words: usize,
}

impl Managed {
    fn new(words: usize) -> Result<Managed> {
        let mut at = 0;
        // SAFETY: a place for the address; the flag is CU_MEM_ATTACH_GLOBAL.
        unsafe { call!(cuMemAllocManaged(&mut at, 4 * words, 1)) }?;
        Ok(Managed { at, words })
    }

    fn word(&self, i: usize) -> *mut u32 {
        assert!(i < self.words);
        (self.at as *mut u32).wrapping_add(i)
    }

    fn get(&self, i: usize) -> u32 {
        // SAFETY: inside of the memory, which the program reaches.
        unsafe { self.word(i).read_volatile() }
    }

    fn set(&self, i: usize, value: u32) {
        // SAFETY: as above.
        unsafe { self.word(i).write_volatile(value) };
    }

    fn compare(&self, value: impl Fn(usize) -> u32) -> Result<usize> {
        for i in 0..self.words {
            let (found, wanted) = (self.get(i), value(i));
            ensure!(found == wanted, "word {i} is {found:#x}, not {wanted:#x}");
        }
        Ok(self.words)
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // SAFETY: ours, and freed once.
        let _ = unsafe { call!(cuMemFree_v2(self.at)) };
    }
}

fn synchronize() -> Result<()> {
    // SAFETY: no preconditions.
    unsafe { call!(cuCtxSynchronize()) }.map_err(Into::into)
}

/// The program's writes are seen by the next launch, the kernel's after the next wait.
pub fn both_sides() -> Result<String> {
    let kernels = Kernels::new()?;
    let words = 20_000;
    let memory = Managed::new(words)?;
    ensure!(memory.compare(|_| 0)? == words, "new memory is zero here");
    let mut compared = 0;
    for round in 0..20u32 {
        for i in (0..words).step_by(7) {
            memory.set(i, mixed(i + round as usize));
        }
        let before: Vec<u32> = (0..words).map(|i| memory.get(i)).collect();
        kernels.add(memory.at, words, round, None)?;
        kernels.add(memory.at, words, 1, None)?;
        synchronize()?;
        compared += memory.compare(|i| before[i].wrapping_add(round + 1))?;
    }
    let mut bytes = 1;
    // SAFETY: a place for the number.
    let odd = unsafe { call!(cuMemAllocManaged(&mut bytes, 0, 1)) };
    ensure!(code(odd) == 1, "no bytes");
    // SAFETY: as above; unknown flags.
    let odd = unsafe { call!(cuMemAllocManaged(&mut bytes, 4096, 9)) };
    ensure!(code(odd) == 1, "unknown flags");
    Ok(format!("{compared} words"))
}

fn device() -> sys::CUmemLocation {
    sys::CUmemLocation {
        type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
        id: 0,
    }
}

/// Hints change nothing that is computed, and are told to who asks.
pub fn hints() -> Result<String> {
    use sys::CUdevice_attribute_enum::*;
    use sys::CUmem_advise_enum::*;
    use sys::CUmem_range_attribute_enum::*;
    ensure!(
        device_attribute(CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY)? == 1,
        "there is none"
    );
    if device_attribute(CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS)? == 0 {
        return Ok("no concurrent access: nothing to prefetch".to_owned());
    }
    let kernels = Kernels::new()?;
    let stream = Stream::new()?;
    let words = 10_000;
    let bytes = 4 * words;
    let memory = Managed::new(words)?;
    for i in 0..words {
        memory.set(i, mixed(i));
    }
    let ask = |attribute| -> Result<i32> {
        let mut value = 0i32;
        // SAFETY: a place of 4 bytes; the range is ours.
        unsafe {
            let place = ptr::from_mut(&mut value).cast();
            call!(cuMemRangeGetAttribute(
                place, 4, attribute, memory.at, bytes
            ))
        }?;
        Ok(value)
    };
    // SAFETY: the range is ours.
    unsafe {
        call!(cuMemAdvise_v2(
            memory.at,
            bytes,
            CU_MEM_ADVISE_SET_READ_MOSTLY,
            device()
        ))?;
        ensure!(ask(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY)? == 1, "read mostly");
        call!(cuMemAdvise_v2(
            memory.at,
            bytes,
            CU_MEM_ADVISE_UNSET_READ_MOSTLY,
            device()
        ))?;
        ensure!(
            ask(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY)? == 0,
            "not read mostly"
        );
        call!(cuMemAdvise_v2(
            memory.at,
            bytes,
            CU_MEM_ADVISE_SET_PREFERRED_LOCATION,
            device()
        ))?;
        ensure!(
            ask(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION)? == 0,
            "preferred"
        );
        call!(cuMemPrefetchAsync_v2(
            memory.at,
            bytes,
            device(),
            0,
            stream.raw()
        ))?;
        ensure!(
            ask(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION)? == 0,
            "prefetched"
        );
        kernels.add(memory.at, words, 5, Some(&stream))?;
        let mut host = device();
        host.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_HOST;
        call!(cuMemPrefetchAsync_v2(
            memory.at,
            bytes,
            host,
            0,
            stream.raw()
        ))?;
        call!(cuStreamAttachMemAsync(stream.raw(), memory.at, 0, 1))?;
        let past = call!(cuMemPrefetchAsync_v2(
            memory.at,
            bytes + 1,
            host,
            0,
            stream.raw()
        ));
        ensure!(code(past) == 1, "past the end");
        let mut nowhere = device();
        nowhere.id = 77;
        let wrong = call!(cuMemPrefetchAsync_v2(
            memory.at,
            bytes,
            nowhere,
            0,
            stream.raw()
        ));
        ensure!(code(wrong) == 101, "no such device");
    }
    stream.synchronize()?;
    let compared = memory.compare(|i| mixed(i).wrapping_add(5))?;
    Ok(format!("{compared} words"))
}

/// Copies and sets that are not asynchronous are done on return.
pub fn copies() -> Result<String> {
    let words = 5000;
    let memory = Managed::new(words)?;
    let data: Vec<u32> = (0..words).map(mixed).collect();
    let device = Buffer::from(&data)?;
    let mut compared = 0;
    for round in 0..20u32 {
        // SAFETY: all of the ranges are ours.
        unsafe {
            call!(cuMemsetD32_v2(memory.at, round, words))?;
            compared += memory.compare(|_| round)?;
            call!(cuMemcpy(memory.at, device.address(), 4 * words))?;
            compared += memory.compare(mixed)?;
            let source = vec![!round; words];
            call!(cuMemcpyHtoD_v2(
                memory.at,
                source.as_ptr().cast(),
                4 * words
            ))?;
            compared += memory.compare(|_| !round)?;
        }
    }
    Ok(format!("{compared} words"))
}
