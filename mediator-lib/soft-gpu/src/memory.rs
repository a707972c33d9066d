//! Device memory: an address space per context, backed by one region.
//!
//! A device address is the address in this process (see [`crate::addresses`]). The
//! whole region stays readable and writable for the life of the space (pages
//! cost nothing until they are touched), so a host access to a freed range can
//! never fault the process.
#![allow(unsafe_code)] // madvise, and raw copies into the region

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vgpu_protocol::ranges::FreeRanges;

use crate::addresses::{GRANULARITY, Region};
use crate::unified::Unified;

/// Smallest alignment of an allocation (CUDA C Programming Guide, "Device
/// Memory Accesses": at least 256 bytes).
pub const MIN_ALIGN: u64 = 256;
/// Bytes kept unmapped between two allocations, so that running off the end of
/// one is an error and not a write into the next.
pub const GUARD_BYTES: u64 = 256;
/// Largest memory limit of a space: bounds the reserved address range.
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

/// One range of memory, as kernels see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First device address.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
    /// Kernels may write.
    pub writable: bool,
}

#[derive(Default)]
struct State {
    live: BTreeMap<u64, u64>,
    free: FreeRanges,
    used: u64,
    /// What the launches see.
    snapshot: Option<Snapshot>,
}

/// All memory of a space, sorted by address, as it was at some time.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Number of the space.
    space: u64,
    /// When that was.
    pub version: Version,
    /// The memory.
    pub ranges: Arc<[Range]>,
}

/// Changes of what a space, and its session beside it, have until some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    own: u64,
    unified: u64,
}

/// The memory of one context, and a view of what its session has beside it.
pub struct AddressSpace {
    number: u64,
    unified: Arc<Unified>,
    region: Region,
    limit: u64,
    state: RwLock<State>,
    /// Changes with every change of what is allocated, under the lock.
    version: AtomicU64,
}

impl State {
    fn changed(&mut self, version: &AtomicU64) {
        self.snapshot = None;
        version.fetch_add(1, Ordering::Release);
    }
}

impl AddressSpace {
    /// Reserves the address range of a space that may hold `limit_bytes`.
    pub fn new(limit_bytes: u64) -> io::Result<Self> {
        Self::beside(Arc::default(), limit_bytes)
    }

    /// The same, for a session that has such other memory.
    pub fn beside(unified: Arc<Unified>, limit_bytes: u64) -> io::Result<Self> {
        if limit_bytes == 0 || limit_bytes > MAX_LIMIT_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("device memory limit {limit_bytes} is not in 1..={MAX_LIMIT_BYTES} bytes"),
            ));
        }
        // Twice the limit, so that fragmentation is not an early out-of-memory.
        let reserved = (limit_bytes * 2).next_multiple_of(GRANULARITY) + (64 << 20);
        let region = Region::new(reserved, 0, 0, true)?;
        let state = State {
            free: FreeRanges::new(region.base(), reserved),
            ..State::default()
        };
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(AddressSpace {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            unified,
            region,
            limit: limit_bytes,
            state: RwLock::new(state),
            version: AtomicU64::new(0),
        })
    }

    /// Its number: no other one of the process has it.
    pub fn number(&self) -> u64 {
        self.number
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
            || align > self.region.bytes()
            || s.live.len() >= MAX_ALLOCATIONS
        {
            return Err(oom);
        }
        let extent = bytes.next_multiple_of(MIN_ALIGN) + GUARD_BYTES;
        let Some(start) = s.free.take(extent, align) else {
            return Err(oom);
        };
        s.live.insert(start, bytes);
        s.used += bytes;
        s.changed(&self.version);
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
        s.changed(&self.version);
        self.discard(addr, bytes);
        s.free
            .give(addr, bytes.next_multiple_of(MIN_ALIGN) + GUARD_BYTES);
        Ok(bytes)
    }

    fn discard(&self, addr: u64, bytes: u64) {
        let (start, end) = (addr - self.region.base(), addr - self.region.base() + bytes);
        let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        let host = self.region.ptr();
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

    /// Bytes allocated.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// The limit.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Host address of device address 0: device address plus this is the host address. They are
    /// the same (see [`crate::addresses`]).
    pub(crate) fn host_delta(&self) -> usize {
        0
    }

    fn version(&self) -> Version {
        Version {
            own: self.version.load(Ordering::Acquire),
            unified: self.unified.version(),
        }
    }

    /// Whether nothing has changed since: without a lock, because a small launch takes no longer than some locks.
    pub(crate) fn is_as_in(&self, snapshot: &Snapshot) -> bool {
        snapshot.space == self.number && snapshot.version == self.version()
    }

    /// All memory as a launch sees it.
    pub(crate) fn snapshot(&self) -> Snapshot {
        if let Some(snapshot) = &self.state().snapshot
            && self.is_as_in(snapshot)
        {
            return snapshot.clone();
        }
        let mut s = self.state_mut();
        // Read before the ranges: a change in between makes the next launch look again.
        let version = self.version();
        let mut list = self.unified.ranges();
        list.extend(s.live.iter().map(|(&base, &bytes)| Range {
            base,
            bytes,
            writable: true,
        }));
        list.sort_unstable_by_key(|r| r.base);
        let snapshot = Snapshot {
            space: self.number,
            version,
            ranges: list.into(),
        };
        s.snapshot = Some(snapshot.clone());
        snapshot
    }

    /// What the session has beside this space.
    pub fn unified(&self) -> &Arc<Unified> {
        &self.unified
    }

    /// Host pointer of a range that may be read and written: checked to lie in one live
    /// allocation, or in memory of the session.
    pub fn host_range(&self, addr: u64, bytes: u64) -> Result<(*mut u8, usize), AccessError> {
        self.reach(addr, bytes, true)
    }

    /// The same for a range that is only read, unless `write`.
    pub fn reach(
        &self,
        addr: u64,
        bytes: u64,
        write: bool,
    ) -> Result<(*mut u8, usize), AccessError> {
        if let Some((base, len)) = self.lookup(addr) {
            if bytes > len - (addr - base) {
                return Err(AccessError { addr, bytes });
            }
            let offset = (addr - self.region.base()) as usize;
            return Ok((self.region.ptr().wrapping_add(offset), bytes as usize));
        }
        // A range of no bytes may also stand at the end of an allocation or nowhere.
        if bytes == 0 {
            return Ok((self.region.ptr(), 0));
        }
        self.unified.host_range(addr, bytes, write)
    }

    /// Copies host bytes to the device.
    pub fn write(&self, dst: u64, src: &[u8]) -> Result<(), AccessError> {
        let (p, n) = self.reach(dst, src.len() as u64, true)?;
        // SAFETY: `host_range` checked that `n` bytes at `p` lie in the mapping; `src` is
        // a live slice of `n` bytes, and `copy` allows overlap.
        unsafe { std::ptr::copy(src.as_ptr(), p, n) };
        Ok(())
    }

    /// Copies device bytes to the host.
    pub fn read(&self, src: u64, dst: &mut [u8]) -> Result<(), AccessError> {
        let (p, n) = self.reach(src, dst.len() as u64, false)?;
        // SAFETY: as in `write`, with the direction reversed.
        unsafe { std::ptr::copy(p, dst.as_mut_ptr(), n) };
        Ok(())
    }

    /// Copies inside the device; the ranges may overlap.
    pub fn copy(&self, dst: u64, src: u64, bytes: u64) -> Result<(), AccessError> {
        let (s, _) = self.reach(src, bytes, false)?;
        let (d, n) = self.reach(dst, bytes, true)?;
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
        let (p, n) = self.reach(dst, bytes, true)?;
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
    fn different_spaces_have_no_address_in_common() {
        let limit = 1 << 20;
        let [a, b] = [0, 1].map(|_| AddressSpace::new(limit).unwrap());
        let at = [&a, &b].map(|space| space.alloc(limit, 1).unwrap());
        assert!(at[0].abs_diff(at[1]) >= limit);
        assert!(b.read(at[0], &mut [0]).is_err());
        b.write(at[1], &[7]).unwrap();
        let mut back = [0];
        b.read(at[1], &mut back).unwrap();
        assert_eq!(back, [7]);
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
        assert_eq!(s.state().free.pieces(), 1);
    }

    #[test]
    fn limit_is_checked() {
        assert!(AddressSpace::new(0).is_err());
        assert!(AddressSpace::new(MAX_LIMIT_BYTES + 1).is_err());
    }
}
