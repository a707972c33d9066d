//! Reserved addresses, physical memory and mappings. A reservation's memory is one mapping of the
//! test process; physical memory keeps its bytes apart while it is not mapped, and may be mapped at
//! one place at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_uint, c_ulonglong};

use cudarc::driver::sys::{CUdeviceptr, CUmemAccessDesc, CUmemAllocationProp};

use crate::state::{Handle, INVALID_VALUE, OUT_OF_MEMORY, State, call, die};

const GRANULARITY: u64 = 2 << 20;

#[derive(Default)]
pub struct VirtualMemory {
    pub reservations: BTreeMap<u64, Reservation>,
    pub physical: BTreeMap<u64, Physical>,
    pub mappings: BTreeMap<u64, Mapping>,
}

pub struct Reservation {
    bytes: u64,
    host: usize,
}

pub struct Physical {
    bytes: Vec<u8>,
    released: bool,
    mapped: bool,
}

pub struct Mapping {
    bytes: u64,
    handle: u64,
    access: u32,
    /// Contexts whose work has used it.
    users: BTreeSet<Handle>,
}

impl VirtualMemory {
    fn host(&self, address: u64, bytes: u64) -> Option<&'static mut [u8]> {
        let (base, r) = self.reservations.range(..=address).next_back()?;
        let offset = address - base;
        if offset >= r.bytes || bytes > r.bytes - offset {
            return None;
        }
        // SAFETY: inside the reservation's mapping, which is readable and writable; the state's
        // lock is held while the slice is used.
        Some(unsafe {
            std::slice::from_raw_parts_mut((r.host + offset as usize) as *mut u8, bytes as usize)
        })
    }

    /// Mapped memory that may be written, used by work of a context.
    pub fn find(
        &mut self,
        address: u64,
        bytes: u64,
        user: Option<Handle>,
    ) -> Option<&'static mut [u8]> {
        let mut at = address;
        let end = address.checked_add(bytes)?;
        while at < end {
            let (base, m) = self.mappings.range_mut(..=at).next_back()?;
            if at - base >= m.bytes || m.access != 3 {
                return None;
            }
            m.users.extend(user);
            at = base + m.bytes;
        }
        self.host(address, bytes)
    }

    fn reap(&mut self, handle: u64) {
        if self
            .physical
            .get(&handle)
            .is_some_and(|p| p.released && !p.mapped)
        {
            self.physical.remove(&handle);
        }
    }

    /// Bytes of physical memory.
    pub fn used(&self) -> u64 {
        self.physical.values().map(|p| p.bytes.len() as u64).sum()
    }
}

fn whole(s: &State, address: u64, bytes: u64) -> Vec<u64> {
    let mut at = address;
    let mut found = Vec::new();
    while at < address + bytes {
        let Some(m) = s.virtual_memory.mappings.get(&at) else {
            die(&format!("no mapping begins at {at:#x}"))
        };
        found.push(at);
        at += m.bytes;
    }
    if at != address + bytes {
        die("a part of a mapping is named");
    }
    found
}

/// What must be asked of physical memory here.
fn check(properties: *const CUmemAllocationProp) {
    // SAFETY: NVIDIA's contract.
    let p = unsafe { &*properties };
    if p.type_ as u32 != 1 || p.location.type_ as u32 != 1 || !(100..).contains(&p.location.id) {
        die("other memory than the device's is asked for");
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetAllocationGranularity(
    bytes: *mut usize,
    properties: *const CUmemAllocationProp,
    _option: c_uint,
) -> u32 {
    call("cuMemGetAllocationGranularity", |_| {
        check(properties);
        // SAFETY: NVIDIA's contract.
        unsafe { *bytes = GRANULARITY as usize };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAddressReserve(
    address: *mut CUdeviceptr,
    bytes: usize,
    _align: usize,
    _hint: CUdeviceptr,
    flags: c_ulonglong,
) -> u32 {
    call("cuMemAddressReserve", |s| {
        let bytes = bytes as u64;
        if flags != 0 || bytes == 0 || !bytes.is_multiple_of(GRANULARITY) {
            return Err(INVALID_VALUE);
        }
        // SAFETY: a fresh mapping that replaces nothing; checked below.
        let host = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if host == libc::MAP_FAILED {
            return Err(OUT_OF_MEMORY);
        }
        let base = s.take_addresses(bytes);
        let reservation = Reservation {
            bytes,
            host: host as usize,
        };
        s.virtual_memory.reservations.insert(base, reservation);
        // SAFETY: NVIDIA's contract.
        unsafe { *address = base };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAddressFree(address: CUdeviceptr, bytes: usize) -> u32 {
    call("cuMemAddressFree", |s| {
        let bytes = bytes as u64;
        let mut inside = s.virtual_memory.mappings.range(address..address + bytes);
        if inside.next().is_some() {
            die("addresses are freed where memory is mapped");
        }
        match s.virtual_memory.reservations.remove(&address) {
            // SAFETY: the reservation's own mapping, which nobody uses any more.
            Some(r) if r.bytes == bytes => unsafe {
                libc::munmap(r.host as *mut _, bytes as usize);
            },
            _ => die(&format!("{address:#x} was not reserved")),
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemCreate(
    handle: *mut c_ulonglong,
    bytes: usize,
    properties: *const CUmemAllocationProp,
    flags: c_ulonglong,
) -> u32 {
    call("cuMemCreate", |s| {
        check(properties);
        if flags != 0 || bytes == 0 || !bytes.is_multiple_of(GRANULARITY as usize) {
            return Err(INVALID_VALUE);
        }
        if s.memory_used() + bytes as u64 > s.memory_limit() {
            return Err(OUT_OF_MEMORY);
        }
        let new = s.handle() as u64;
        let physical = Physical {
            bytes: vec![0xaa; bytes],
            released: false,
            mapped: false,
        };
        s.virtual_memory.physical.insert(new, physical);
        // SAFETY: NVIDIA's contract.
        unsafe { *handle = new };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemRelease(handle: c_ulonglong) -> u32 {
    call("cuMemRelease", |s| {
        match s.virtual_memory.physical.get_mut(&handle) {
            Some(p) if !p.released => p.released = true,
            _ => die("no such physical memory"),
        }
        s.virtual_memory.reap(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemMap(
    address: CUdeviceptr,
    bytes: usize,
    offset: usize,
    handle: c_ulonglong,
    flags: c_ulonglong,
) -> u32 {
    call("cuMemMap", |s| {
        let bytes = bytes as u64;
        if offset != 0 || flags != 0 || !bytes.is_multiple_of(GRANULARITY) {
            return Err(INVALID_VALUE);
        }
        let before = s.virtual_memory.mappings.range(..address + bytes);
        let over = |(at, m): (&u64, &Mapping)| at + m.bytes > address;
        if before.last().is_some_and(over) {
            die("memory is mapped over other memory");
        }
        let Some(to) = s.virtual_memory.host(address, bytes) else {
            die(&format!("{address:#x} is not reserved"))
        };
        let Some(physical) = s.virtual_memory.physical.get_mut(&handle) else {
            die("no such physical memory")
        };
        if physical.mapped {
            // A real GPU maps it as often as it is asked to.
            return Err(INVALID_VALUE);
        }
        physical.mapped = true;
        to.copy_from_slice(&physical.bytes[..bytes as usize]);
        let mapping = Mapping {
            bytes,
            handle,
            access: 0,
            users: BTreeSet::new(),
        };
        s.virtual_memory.mappings.insert(address, mapping);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemUnmap(address: CUdeviceptr, bytes: usize) -> u32 {
    call("cuMemUnmap", |s| {
        for at in whole(s, address, bytes as u64) {
            let users = s.virtual_memory.mappings.get(&at).map(|m| m.users.clone());
            for ctx in users.unwrap_or_default() {
                s.must_be_idle("cuMemUnmap", ctx);
            }
            let from = s.virtual_memory.mappings.get(&at).map(|m| m.bytes);
            let from = from.and_then(|bytes| s.virtual_memory.host(at, bytes));
            let Some(mapping) = s.virtual_memory.mappings.remove(&at) else {
                continue;
            };
            if let (Some(from), Some(physical)) =
                (from, s.virtual_memory.physical.get_mut(&mapping.handle))
            {
                physical.bytes[..from.len()].copy_from_slice(from);
                physical.mapped = false;
            }
            s.virtual_memory.reap(mapping.handle);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemSetAccess(
    address: CUdeviceptr,
    bytes: usize,
    access: *const CUmemAccessDesc,
    count: usize,
) -> u32 {
    call("cuMemSetAccess", |s| {
        // SAFETY: NVIDIA's contract.
        let access = unsafe { std::slice::from_raw_parts(access, count) };
        for one in access {
            if one.location.type_ as u32 != 1 || !(100..).contains(&one.location.id) {
                die("access for another place than the device");
            }
            for at in whole(s, address, bytes as u64) {
                if let Some(m) = s.virtual_memory.mappings.get_mut(&at) {
                    m.access = one.flags as u32;
                }
            }
        }
        Ok(())
    })
}
