//! Zeroed scratch memory from the operating system, committed when touched.
//!
//! A launch needs a few regions, and mapping one costs more than a small kernel: each thread keeps
//! some of the small ones that it has used, and zeroes them before their next use.
#![allow(unsafe_code)] // mmap and munmap

use std::cell::RefCell;
use std::io;
use std::ptr::NonNull;

/// Regions up to this size are kept, in bytes: zeroing a larger one costs more than mapping it.
const MAX_KEPT_BYTES: usize = 256 << 10;

/// Most regions that a thread keeps; it bounds what idle threads hold.
const MAX_KEPT: usize = 8;

thread_local! {
    static KEPT: RefCell<Vec<Mapping>> = const { RefCell::new(Vec::new()) };
}

/// A private anonymous mapping.
struct Mapping {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is plain memory owned by the value; nothing in it is tied to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous mapping at an address the kernel chooses; checked below.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(p.cast())
            .map(|at| Mapping { at, bytes })
            .ok_or_else(|| io::Error::other("null mapping"))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and size.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

/// Zeroed memory of a launch.
pub struct Region {
    // None only while it is being dropped.
    mapping: Option<Mapping>,
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: as for `Mapping`; `at` points into the mapping that the value owns.
unsafe impl Send for Region {}

impl Region {
    /// Gives `bytes` (at least one page) of zeros.
    pub fn new(bytes: usize) -> io::Result<Region> {
        let bytes = bytes.max(4096).next_multiple_of(4096);
        let mapping = match take_kept(bytes) {
            Some(mapping) => mapping,
            None => Mapping::new(bytes)?,
        };
        let at = mapping.at;
        Ok(Region {
            mapping: Some(mapping),
            at,
            bytes,
        })
    }

    /// Its first byte.
    pub fn ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A kept mapping of at least `bytes`, of which that many are zeroed.
fn take_kept(bytes: usize) -> Option<Mapping> {
    if bytes > MAX_KEPT_BYTES {
        return None;
    }
    let mapping = KEPT.with_borrow_mut(|kept| {
        let fits = kept.iter().enumerate().filter(|(_, m)| m.bytes >= bytes);
        let best = fits.min_by_key(|(_, m)| m.bytes).map(|(i, _)| i)?;
        Some(kept.swap_remove(best))
    })?;
    // SAFETY: the mapping has at least `bytes` bytes, and nobody else has its address: the region
    // that used it has been dropped.
    unsafe { std::ptr::write_bytes(mapping.at.as_ptr(), 0, bytes) };
    Some(mapping)
}

impl Drop for Region {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else {
            return;
        };
        if mapping.bytes > MAX_KEPT_BYTES {
            return;
        }
        // A thread that is ending has no cache any more: the mapping is unmapped.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < MAX_KEPT
            {
                kept.push(mapping);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_again_at_its_next_use() {
        for _ in 0..3 {
            for bytes in [1, 4096, 10_000, MAX_KEPT_BYTES, MAX_KEPT_BYTES + 1] {
                let region = Region::new(bytes).expect("memory");
                assert!(region.bytes() >= bytes);
                // SAFETY: the region has that many bytes and lives until the end of the block.
                let all = unsafe { std::slice::from_raw_parts_mut(region.ptr(), region.bytes()) };
                assert!(all.iter().all(|b| *b == 0), "{bytes}");
                all.fill(7);
            }
        }
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bound() {
        let many: Vec<_> = (0..2 * MAX_KEPT)
            .map(|_| Region::new(4096).expect("memory"))
            .collect();
        drop(many);
        assert!(KEPT.with_borrow(Vec::len) <= MAX_KEPT);
    }
}
