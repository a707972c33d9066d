//! Device memory: an address space per session, backed by one reservation.
//!
//! A device address is the space's base plus an offset into a private anonymous
//! mapping, so that device address plus a constant is the host address. The
//! whole mapping stays readable and writable for the life of the space (pages
//! cost nothing until they are touched), so a host access to a freed range can
//! never fault the process.
#![allow(unsafe_code)] // mmap, and raw copies into the mapping that it returned

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// First device address. It is no canonical user-space pointer of a usual
/// Linux process layout, so that a host pointer passed by mistake is found.
pub const DEVICE_BASE: u64 = 0x3000_0000_0000;
/// Smallest alignment of an allocation (CUDA C Programming Guide, "Device
/// Memory Accesses": at least 256 bytes).
pub const MIN_ALIGN: u64 = 256;
/// Bytes kept unmapped between two allocations, so that running off the end of
/// one is an error and not a write into the next.
pub const GUARD_BYTES: u64 = 256;
/// Largest memory limit of a space: bounds the reserved address range, which
/// has to stay inside 47 bits of host addresses.
pub const MAX_LIMIT_BYTES: u64 = 16 << 40;
/// Most live allocations of a space: bounds the host's bookkeeping.
pub const MAX_ALLOCATIONS: usize = 1 << 22;

const PAGE: u64 = 4096;

/// Why an allocation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// Zero bytes were requested.
    #[error("an allocation of 0 bytes was requested")]
    Zero,
    /// The limit of the space, or its address range, is used up.
    #[error("out of memory: {requested} bytes requested, {free} of {limit} free")]
    OutOfMemory {
        /// Bytes requested.
        requested: u64,
        /// Bytes below the limit.
        free: u64,
        /// The limit.
        limit: u64,
    },
}

/// A range that is not inside one live allocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {addr:#x} with {bytes} bytes is not inside one live allocation")]
pub struct AccessError {
    /// First address.
    pub addr: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One live allocation, as kernels see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First device address.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
}

#[derive(Default)]
struct State {
    live: BTreeMap<u64, u64>,
    /// Free ranges by offset address, coalesced.
    free: BTreeMap<u64, u64>,
    used: u64,
    snapshot: Option<Arc<[Range]>>,
}

/// The memory of one session.
pub struct AddressSpace {
    host: NonNull<u8>,
    slot: u16,
    /// First device address.
    base: u64,
    reserved: usize,
    limit: u64,
    state: RwLock<State>,
}

// SAFETY: `host` points to a mapping that lives as long as the value and is only
// accessed through raw copies of ranges checked against it; the bookkeeping is
// behind a lock. Concurrent copies of the same bytes race as they do on a GPU:
// the bytes are plain data and no reference to them is ever formed.
unsafe impl Send for AddressSpace {}
// SAFETY: as above.
unsafe impl Sync for AddressSpace {}

impl AddressSpace {
    /// Reserves the address range of a space that may hold `limit_bytes`.
    pub fn new(limit_bytes: u64) -> io::Result<Self> {
        Self::in_slot(limit_bytes, 0)
    }

    /// The same, at addresses that no space of the same limit in another slot has: under unified
    /// addressing an address belongs to one context of a process (CUDA Programming Guide,
    /// "Unified Virtual Address Space").
    pub fn in_slot(limit_bytes: u64, slot: u16) -> io::Result<Self> {
        if limit_bytes == 0 || limit_bytes > MAX_LIMIT_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("device memory limit {limit_bytes} is not in 1..={MAX_LIMIT_BYTES} bytes"),
            ));
        }
        // Twice the limit, so that fragmentation is not an early out-of-memory.
        let reserved = (limit_bytes * 2).next_multiple_of(2 << 20) + (64 << 20);
        // At most 2^46 for each of 2^16 slots.
        let base = DEVICE_BASE + u64::from(slot) * reserved.next_power_of_two();
        // SAFETY: a fresh private anonymous mapping at an address the kernel chooses; no
        // existing memory is affected. The result is checked.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                reserved as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(host) = NonNull::new(p.cast::<u8>()) else {
            return Err(io::Error::other("mmap returned a null mapping"));
        };
        let mut state = State::default();
        state.free.insert(base, reserved);
        Ok(AddressSpace {
            host,
            slot,
            base,
            reserved: reserved as usize,
            limit: limit_bytes,
            state: RwLock::new(state),
        })
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates zeroed memory and returns its device address.
    pub fn alloc(&self, bytes: u64, align: u64) -> Result<u64, AllocError> {
        if bytes == 0 {
            return Err(AllocError::Zero);
        }
        let align = align
            .max(MIN_ALIGN)
            .checked_next_power_of_two()
            .unwrap_or(1 << 62);
        let mut s = self.state_mut();
        let oom = AllocError::OutOfMemory {
            requested: bytes,
            free: self.limit - s.used,
            limit: self.limit,
        };
        if bytes > self.limit - s.used
            || align > self.reserved as u64
            || s.live.len() >= MAX_ALLOCATIONS
        {
            return Err(oom);
        }
        let extent = bytes.next_multiple_of(MIN_ALIGN) + GUARD_BYTES;
        let found = s.free.iter().find_map(|(&at, &len)| {
            let start = at.next_multiple_of(align);
            (start - at <= len && len - (start - at) >= extent).then_some((at, len, start))
        });
        let Some((at, len, start)) = found else {
            return Err(oom);
        };
        s.free.remove(&at);
        if start > at {
            s.free.insert(at, start - at);
        }
        let rest = len - (start - at) - extent;
        if rest > 0 {
            s.free.insert(start + extent, rest);
        }
        s.live.insert(start, bytes);
        s.used += bytes;
        s.snapshot = None;
        Ok(start)
    }

    /// Frees the allocation that begins at `addr`; returns its size. Its pages
    /// go back to the operating system and the range reads as zero when reused.
    pub fn free(&self, addr: u64) -> Result<u64, AccessError> {
        let mut s = self.state_mut();
        let Some(bytes) = s.live.remove(&addr) else {
            return Err(AccessError { addr, bytes: 0 });
        };
        s.used -= bytes;
        s.snapshot = None;
        self.discard(addr, bytes);
        let (mut start, mut len) = (addr, bytes.next_multiple_of(MIN_ALIGN) + GUARD_BYTES);
        if let Some((&prev, &plen)) = s.free.range(..start).next_back()
            && prev + plen == start
        {
            s.free.remove(&prev);
            start = prev;
            len += plen;
        }
        if let Some(nlen) = s.free.remove(&(start + len)) {
            len += nlen;
        }
        s.free.insert(start, len);
        Ok(bytes)
    }

    fn discard(&self, addr: u64, bytes: u64) {
        let (start, end) = (addr - self.base, addr - self.base + bytes);
        let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        let host = self.host.as_ptr();
        // SAFETY: the caller removed `addr..addr+bytes` from the live allocations, all of
        // which lie inside the mapping; the edges are plain bytes of it, and the whole
        // pages between them hold nothing else.
        unsafe {
            if first >= last {
                std::ptr::write_bytes(host.add(start as usize), 0, bytes as usize);
                return;
            }
            std::ptr::write_bytes(host.add(start as usize), 0, (first - start) as usize);
            std::ptr::write_bytes(host.add(last as usize), 0, (end - last) as usize);
            let at = host.add(first as usize);
            let len = (last - first) as usize;
            if libc::madvise(at.cast(), len, libc::MADV_DONTNEED) != 0 {
                std::ptr::write_bytes(at, 0, len);
            }
        }
    }

    /// The live allocation that holds `addr`: its base and size.
    pub fn lookup(&self, addr: u64) -> Option<(u64, u64)> {
        let s = self.state();
        let (&base, &bytes) = s.live.range(..=addr).next_back()?;
        (addr - base < bytes).then_some((base, bytes))
    }

    /// The slot that it was made in.
    pub fn slot(&self) -> u16 {
        self.slot
    }

    /// Bytes allocated.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// The limit.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Host address of device address 0: device address plus this is the host address.
    pub(crate) fn host_delta(&self) -> usize {
        (self.host.as_ptr() as usize).wrapping_sub(self.base as usize)
    }

    /// All live allocations, sorted by address, as a launch sees them.
    pub(crate) fn snapshot(&self) -> Arc<[Range]> {
        if let Some(s) = &self.state().snapshot {
            return s.clone();
        }
        let mut s = self.state_mut();
        let list: Arc<[Range]> = s
            .live
            .iter()
            .map(|(&base, &bytes)| Range { base, bytes })
            .collect();
        s.snapshot = Some(list.clone());
        list
    }

    /// Host pointer of a range, checked to lie in one live allocation.
    pub fn host_range(&self, addr: u64, bytes: u64) -> Result<(*mut u8, usize), AccessError> {
        let inside = self
            .lookup(addr)
            .is_some_and(|(base, len)| bytes <= len - (addr - base));
        // A range of no bytes may also stand at the end of an allocation or nowhere.
        if !inside && bytes != 0 {
            return Err(AccessError { addr, bytes });
        }
        let offset = addr.wrapping_sub(self.base);
        if offset > self.reserved as u64 {
            return Ok((self.host.as_ptr(), 0));
        }
        Ok((
            self.host.as_ptr().wrapping_add(offset as usize),
            bytes as usize,
        ))
    }

    /// Copies host bytes to the device.
    pub fn write(&self, dst: u64, src: &[u8]) -> Result<(), AccessError> {
        let (p, n) = self.host_range(dst, src.len() as u64)?;
        // SAFETY: `host_range` checked that `n` bytes at `p` lie in the mapping; `src` is
        // a live slice of `n` bytes, and `copy` allows overlap.
        unsafe { std::ptr::copy(src.as_ptr(), p, n) };
        Ok(())
    }

    /// Copies device bytes to the host.
    pub fn read(&self, src: u64, dst: &mut [u8]) -> Result<(), AccessError> {
        let (p, n) = self.host_range(src, dst.len() as u64)?;
        // SAFETY: as in `write`, with the direction reversed.
        unsafe { std::ptr::copy(p, dst.as_mut_ptr(), n) };
        Ok(())
    }

    /// Copies inside the device; the ranges may overlap.
    pub fn copy(&self, dst: u64, src: u64, bytes: u64) -> Result<(), AccessError> {
        let (s, _) = self.host_range(src, bytes)?;
        let (d, n) = self.host_range(dst, bytes)?;
        // SAFETY: both ranges were checked to lie in the mapping; `copy` allows overlap.
        unsafe { std::ptr::copy(s, d, n) };
        Ok(())
    }

    /// Fills `count` elements with a pattern of 1, 2 or 4 bytes. A pattern of
    /// another size is refused as a range of that size.
    pub fn fill(&self, dst: u64, pattern: &[u8], count: u64) -> Result<(), AccessError> {
        let unit = pattern.len() as u64;
        if !matches!(unit, 1 | 2 | 4) {
            return Err(AccessError {
                addr: dst,
                bytes: unit,
            });
        }
        let Some(bytes) = count.checked_mul(unit) else {
            return Err(AccessError {
                addr: dst,
                bytes: u64::MAX,
            });
        };
        let (p, n) = self.host_range(dst, bytes)?;
        if n == 0 {
            return Ok(());
        }
        // SAFETY: `n = count * unit` bytes at `p` were checked; every write below stays in
        // `0..n`, and the doubling copies read only what was written before.
        unsafe {
            if unit == 1 {
                std::ptr::write_bytes(p, pattern[0], n);
                return Ok(());
            }
            std::ptr::copy_nonoverlapping(pattern.as_ptr(), p, pattern.len());
            let mut done = pattern.len();
            while done < n {
                let step = done.min(n - done);
                std::ptr::copy_nonoverlapping(p, p.add(done), step);
                done += step;
            }
        }
        Ok(())
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and length and nothing
        // can use it any more.
        unsafe { libc::munmap(self.host.as_ptr().cast(), self.reserved) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alloc_is_aligned_zeroed_and_limited() {
        let s = AddressSpace::new(1 << 20).unwrap();
        assert_eq!(s.alloc(0, 1), Err(AllocError::Zero));
        let a = s.alloc(100, 1).unwrap();
        let b = s.alloc(100, 4096).unwrap();
        assert_eq!(a % 256, 0);
        assert_eq!(b % 4096, 0);
        assert_eq!(s.used(), 200);
        let full = (1 << 20) - 200;
        assert_eq!(
            s.alloc(full + 1, 1),
            Err(AllocError::OutOfMemory {
                requested: full + 1,
                free: full,
                limit: 1 << 20
            })
        );
        let c = s.alloc(full, 1).unwrap();
        let mut back = [1u8; 16];
        s.read(c, &mut back).unwrap();
        assert_eq!(back, [0; 16]);
    }

    #[test]
    fn spaces_in_different_slots_have_no_address_in_common() {
        let limit = 1 << 20;
        let [a, b, last] = [0, 1, u16::MAX].map(|slot| AddressSpace::in_slot(limit, slot).unwrap());
        let at = [&a, &b, &last].map(|space| space.alloc(1 << 20, 1).unwrap());
        assert_eq!(at[0], DEVICE_BASE);
        assert!(at[0] + (1 << 20) < at[1] && at[1] + (1 << 20) < at[2]);
        assert!(b.read(at[0], &mut [0]).is_err());
        b.write(at[1], &[7]).unwrap();
        let mut back = [0];
        b.read(at[1], &mut back).unwrap();
        assert_eq!(back, [7]);
        // The greatest limit in the last slot stays far below 2^64.
        let size = (MAX_LIMIT_BYTES * 2 + (64 << 20)).next_power_of_two();
        assert!(DEVICE_BASE + (u64::from(u16::MAX) + 1) * size < 1 << 63);
    }

    #[test]
    fn freed_memory_reads_as_zero_again() {
        let s = AddressSpace::new(1 << 20).unwrap();
        let a = s.alloc(10_000, 1).unwrap();
        s.fill(a, &[7], 10_000).unwrap();
        assert_eq!(s.free(a), Ok(10_000));
        assert_eq!(s.free(a), Err(AccessError { addr: a, bytes: 0 }));
        let b = s.alloc(10_000, 1).unwrap();
        let mut back = vec![1u8; 10_000];
        s.read(b, &mut back).unwrap();
        assert!(back.iter().all(|&v| v == 0));
        assert_eq!(a, b, "the range is reused");
    }

    #[test]
    fn ranges_are_checked_at_n_and_n_plus_1() {
        let s = AddressSpace::new(1 << 20).unwrap();
        let a = s.alloc(100, 1).unwrap();
        assert!(s.write(a, &[1; 100]).is_ok());
        assert_eq!(
            s.write(a, &[1; 101]),
            Err(AccessError {
                addr: a,
                bytes: 101
            })
        );
        assert!(s.write(a + 100, &[1]).is_err());
        assert!(s.write(a - 1, &[1]).is_err());
        assert!(s.read(0, &mut [0]).is_err());
        assert!(s.read(u64::MAX, &mut [0; 2]).is_err());
        assert!(s.copy(a, a + 1, 99).is_ok());
        assert!(s.copy(a, a + 1, 100).is_err());
        assert!(s.copy(a, a, u64::MAX).is_err());
        assert!(s.fill(a, &[1, 2], 50).is_ok());
        assert!(s.fill(a, &[1, 2], 51).is_err());
        assert!(s.fill(a, &[1, 2, 3], 1).is_err());
        assert!(s.fill(a, &[1, 2, 3, 4], u64::MAX).is_err());
    }

    #[test]
    fn neighbours_are_apart() {
        let s = AddressSpace::new(1 << 20).unwrap();
        let a = s.alloc(256, 1).unwrap();
        let b = s.alloc(256, 1).unwrap();
        assert!(b - a >= 512);
        assert_eq!(s.lookup(a + 256), None);
    }

    #[test]
    fn free_ranges_are_joined() {
        let s = AddressSpace::new(1 << 20).unwrap();
        let v: Vec<u64> = (0..64).map(|_| s.alloc(8192, 1).unwrap()).collect();
        for a in v.iter().step_by(2).chain(v.iter().skip(1).step_by(2)) {
            s.free(*a).unwrap();
        }
        assert_eq!(s.used(), 0);
        assert_eq!(s.state().free.len(), 1);
    }

    #[test]
    fn limit_is_checked() {
        assert!(AddressSpace::new(0).is_err());
        assert!(AddressSpace::new(MAX_LIMIT_BYTES + 1).is_err());
    }
}
