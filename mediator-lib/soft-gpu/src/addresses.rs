//! Addresses of device memory: those of the host's process at which the memory lies, so that no
//! access needs a translation beside its check, and memory of the host that kernels reach
//! directly (BAR1) has one address for all sides.
//!
//! They come from a part of the address space that Linux leaves alone unless asked: they tell a
//! guest nothing of where the host's code and data lie. In it each context of the process has
//! addresses of its own, as unified addressing wants it (CUDA Programming Guide, "Unified Virtual
//! Address Space").
#![allow(unsafe_code)] // mmap and munmap

use std::io;
use std::ptr::NonNull;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use vgpu_protocol::ranges::FreeRanges;

/// First address of device memory; what kernels see below is no global memory. Programs begin
/// below it or near 2^47, where libraries, stacks and mappings without a wish are.
pub const FIRST_ADDRESS: u64 = 0x1000_0000_0000;

/// Addresses that device memory may have, in bytes: 64 TiB.
pub const ADDRESS_BYTES: u64 = 1 << 46;

/// Size and alignment of regions, in bytes: NVIDIA GPUs' large page.
pub const GRANULARITY: u64 = 2 << 20;

/// How often other mappings of the process may be in the way before a region is refused.
const MAX_TRIES: usize = 64;

fn free() -> MutexGuard<'static, FreeRanges> {
    static FREE: LazyLock<Mutex<FreeRanges>> =
        LazyLock::new(|| Mutex::new(FreeRanges::new(FIRST_ADDRESS, ADDRESS_BYTES)));
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A private mapping at addresses of device memory; costs nothing until it is touched.
#[derive(Debug)]
pub struct Region {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping that the value owns; whoever accesses its memory sees to races.
unsafe impl Send for Region {}
// SAFETY: as above; the value itself does not change.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `bytes`, a multiple of [`GRANULARITY`], at a multiple of `align`, a power of two; at
    /// `hint` where that is free. Readable and writable, or neither.
    pub fn new(bytes: u64, align: u64, hint: u64, accessible: bool) -> io::Result<Region> {
        let align = align.max(GRANULARITY);
        let mut free = free();
        let mut in_the_way = Vec::new();
        let found = loop {
            let hinted = in_the_way.is_empty()
                && hint != 0
                && hint.is_multiple_of(align)
                && free.take_at(hint, bytes);
            let base = if hinted {
                Some(hint)
            } else {
                free.take(bytes, align)
            };
            let Some(base) = base else {
                break Err(io::ErrorKind::OutOfMemory.into());
            };
            match map_at(base, bytes as usize, accessible) {
                Ok(at) => {
                    break Ok(Region {
                        at,
                        bytes: bytes as usize,
                    });
                }
                Err(error) => {
                    in_the_way.push(base);
                    if in_the_way.len() == MAX_TRIES || error.raw_os_error() != Some(libc::EEXIST) {
                        break Err(error);
                    }
                }
            }
        };
        for base in in_the_way {
            free.give(base, bytes);
        }
        found
    }

    /// Its first byte.
    pub fn ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// Its first address.
    pub fn base(&self) -> u64 {
        self.at.as_ptr() as u64
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

fn map_at(base: u64, bytes: usize, accessible: bool) -> io::Result<NonNull<u8>> {
    let protection = if accessible {
        libc::PROT_READ | libc::PROT_WRITE
    } else {
        libc::PROT_NONE
    };
    // SAFETY: MAP_FIXED_NOREPLACE replaces no memory of the process. The result is checked.
    let p = unsafe {
        libc::mmap(
            base as *mut libc::c_void,
            bytes,
            protection,
            libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    match NonNull::new(p.cast::<u8>()) {
        Some(at) if at.as_ptr() as u64 == base => {
            if accessible {
                // Large pages where the system has them: kernels that run over much memory gain, and
                // nothing is lost where it has not.
                // SAFETY: advice about the mapping that was just made.
                unsafe { libc::madvise(p, bytes, libc::MADV_HUGEPAGE) };
            }
            Ok(at)
        }
        _ => {
            // A kernel before 4.17 takes the address for a wish.
            // SAFETY: the mapping was just made and nobody knows it.
            unsafe { libc::munmap(p, bytes) };
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let base = self.base();
        // Held over both, so that nobody is given the addresses before they are free.
        let mut free = free();
        // SAFETY: the value's own mapping, with all that was mapped over parts of it; with it goes
        // whoever could use the memory.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
        free.give(base, self.bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_where_they_should_be_and_never_over_each_other() {
        let g = GRANULARITY;
        let a = Region::new(4 * g, 0, 0, true).expect("addresses");
        let b = Region::new(g, 64 * g, 0, false).expect("addresses");
        assert!(b.base().is_multiple_of(64 * g));
        for r in [&a, &b] {
            assert!(
                r.base() >= FIRST_ADDRESS && r.base() + r.bytes() <= FIRST_ADDRESS + ADDRESS_BYTES
            );
        }
        assert!(a.base() + a.bytes() <= b.base() || b.base() + b.bytes() <= a.base());
        // A wish that cannot be granted is none that is refused.
        let c = Region::new(g, 0, a.base(), true).expect("elsewhere");
        assert_ne!(c.base(), a.base());
        let far = FIRST_ADDRESS + (ADDRESS_BYTES / 2);
        let d = Region::new(g, 0, far, true).expect("there");
        assert_eq!(d.base(), far);
        // SAFETY: the region is readable and writable.
        unsafe {
            d.ptr().write_volatile(7);
            assert_eq!(d.ptr().read_volatile(), 7);
        }
        drop(d);
        let again = Region::new(g, 0, far, true).expect("there");
        // SAFETY: as above.
        let there = unsafe { again.ptr().read_volatile() };
        assert_eq!((again.base(), there), (far, 0));
        assert!(Region::new(ADDRESS_BYTES, 0, 0, false).is_err());
    }

    #[test]
    fn what_is_in_the_way_is_stepped_over() {
        let g = GRANULARITY;
        let at = FIRST_ADDRESS + ADDRESS_BYTES / 4;
        let other = map_at(at, g as usize, true).expect("free");
        let r = Region::new(g, 0, at, true).expect("elsewhere");
        assert_ne!(r.base(), at);
        // SAFETY: mapped above, not used any more.
        unsafe { libc::munmap(other.as_ptr().cast(), g as usize) };
    }
}
