//! Zeroed scratch memory from the operating system, committed when touched.
//!
//! A launch needs a few regions, and mapping one costs more than a small kernel: each thread keeps
//! some that it has used, and zeroes them before their next use. Registers of the kernel that had them
//! last are not zeroed again, what it reads of them it has written before, nor are its constants filled in.
#![allow(unsafe_code)] // mmap and munmap

use std::cell::RefCell;
use std::io;
use std::ptr::NonNull;

/// Regions up to this size are kept for anybody, in bytes: zeroing a larger one costs more than mapping it.
const MAX_ZEROED_BYTES: usize = 1 << 20;
/// Regions up to this size are kept for their owner, who does not need zeros.
const MAX_KEPT_BYTES: usize = 4 << 20;

/// Bytes of a page.
const PAGE: usize = 4096;

/// Most regions that a thread keeps, and most bytes of all of them: what idle threads hold.
const MAX_KEPT: usize = 48;
const MAX_ALL_KEPT_BYTES: usize = 64 << 20;

thread_local! {
    static KEPT: RefCell<Vec<Mapping>> = const { RefCell::new(Vec::new()) };
}

/// Whose registers a region holds: nobody else finds them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The code that runs.
    pub code: u64,
    /// The number of the memory on which it runs ([`crate::AddressSpace`]): two sessions share code.
    pub space: u64,
}

/// A private anonymous mapping.
struct Mapping {
    at: NonNull<u8>,
    bytes: usize,
    /// Bytes without access before and behind it, so that a fuzzer sees what runs over an end.
    guard: usize,
    /// Whose registers it held last.
    owner: Option<Owner>,
    /// See [`Region::is_filled`].
    filled: bool,
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
            .map(|at| Mapping {
                at,
                bytes,
                guard: 0,
                owner: None,
                filled: false,
            })
            .ok_or_else(|| io::Error::other("null mapping"))
    }

    /// The same between pages without access.
    fn guarded(bytes: usize) -> io::Result<Mapping> {
        let mut mapping = Mapping::new(bytes + 2 * PAGE)?;
        let end = mapping.at.as_ptr().wrapping_add(PAGE + bytes);
        for page in [mapping.at.as_ptr(), end] {
            // SAFETY: the first and the last page of a mapping that nobody uses yet.
            if unsafe { libc::mprotect(page.cast(), PAGE, libc::PROT_NONE) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: inside of the mapping.
        mapping.at = unsafe { mapping.at.add(PAGE) };
        (mapping.bytes, mapping.guard) = (bytes, PAGE);
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let start = self.at.as_ptr().wrapping_sub(self.guard);
        // SAFETY: the mapping was made by `new` with this address and size, of which `guarded` cut its pages off.
        unsafe { libc::munmap(start.cast(), self.bytes + 2 * self.guard) };
    }
}

/// What an address is a multiple of where there is no memory.
#[repr(align(64))]
struct Line;

/// Zeroed memory of a launch.
pub struct Region {
    // None while it is being dropped, and without a byte.
    mapping: Option<Mapping>,
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: as for `Mapping`; `at` points into the mapping that the value owns.
unsafe impl Send for Region {}

impl Region {
    /// Gives `bytes` of zeros, in whole pages.
    pub fn new(bytes: usize) -> io::Result<Region> {
        if cfg!(fuzzing) {
            return Region::at_an_end(bytes, 16);
        }
        Region::of(bytes, None)
    }

    /// Gives `bytes` for registers: zeros, or what their owner left there.
    pub fn registers(bytes: usize, owner: Owner) -> io::Result<Region> {
        if cfg!(fuzzing) {
            return Region::at_an_end(bytes, 64);
        }
        Region::of(bytes, Some(owner))
    }

    /// Memory of its own, whose end is one of what can be accessed but for less than `align` bytes.
    fn at_an_end(bytes: usize, align: usize) -> io::Result<Region> {
        let bytes = bytes.next_multiple_of(align);
        let mapping = Mapping::guarded(bytes.max(1).next_multiple_of(PAGE))?;
        // SAFETY: inside of the mapping, or its end.
        let at = unsafe { mapping.at.add(mapping.bytes - bytes) };
        Ok(Region {
            mapping: Some(mapping),
            at,
            bytes,
        })
    }

    fn of(bytes: usize, owner: Option<Owner>) -> io::Result<Region> {
        if bytes == 0 {
            return Ok(Region {
                mapping: None,
                at: NonNull::<Line>::dangling().cast(),
                bytes,
            });
        }
        let bytes = bytes.max(PAGE).next_multiple_of(PAGE);
        let mut mapping = match take_kept(bytes, owner) {
            Some(mapping) => mapping,
            None => Mapping::new(bytes)?,
        };
        mapping.owner = owner;
        let at = mapping.at;
        Ok(Region {
            mapping: Some(mapping),
            at,
            bytes,
        })
    }

    /// Whether its owner noted that what never changes of its registers is there, and nobody else has had it since.
    pub fn is_filled(&self) -> bool {
        self.mapping.as_ref().is_some_and(|m| m.filled)
    }

    /// Notes that.
    pub fn set_filled(&mut self) {
        if let Some(mapping) = &mut self.mapping {
            mapping.filled = true;
        }
    }

    /// Its first byte.
    pub fn ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// Makes it zeros again.
    pub fn clear(&mut self) {
        // Filling nothing at an address without memory may take longer than a small launch (a masked store).
        if self.bytes > 0 {
            // SAFETY: the region has so many bytes, which nobody refers to while it is borrowed to be changed.
            unsafe { std::ptr::write_bytes(self.at.as_ptr(), 0, self.bytes) };
        }
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn all_bytes(kept: &[Mapping]) -> usize {
    kept.iter().map(|m| m.bytes).sum()
}

/// A kept mapping of at least `bytes`, of which that many are zeroed, or had this owner.
fn take_kept(bytes: usize, owner: Option<Owner>) -> Option<Mapping> {
    if bytes > MAX_KEPT_BYTES {
        return None;
    }
    let own = |m: &Mapping| owner.is_some() && m.owner == owner && m.bytes == bytes;
    let mut mapping = KEPT.with_borrow_mut(|kept| {
        // Kernels that follow each other would else take each other's for ever.
        let full = kept.len() >= MAX_KEPT || all_bytes(kept) + bytes > MAX_ALL_KEPT_BYTES;
        let may = |m: &Mapping| {
            let free = m.owner.is_none() || full;
            own(m) || free && m.bytes >= bytes && m.bytes <= MAX_ZEROED_BYTES
        };
        let fits = kept.iter().enumerate().filter(|(_, m)| may(m));
        let best = fits
            // Rather one whose registers nobody finds again.
            .min_by_key(|(_, m)| (!own(m), m.owner.is_some(), m.bytes))
            .map(|(i, _)| i)?;
        Some(kept.remove(best))
    })?;
    if own(&mapping) {
        return Some(mapping);
    }
    mapping.filled = false;
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
        if mapping.bytes > MAX_KEPT_BYTES || mapping.guard != 0 {
            return;
        }
        // A thread that is ending has no cache any more: the mapping is unmapped.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut() {
                // The one that was used last stands last.
                kept.push(mapping);
                while kept.len() > MAX_KEPT || all_bytes(&kept) > MAX_ALL_KEPT_BYTES {
                    kept.remove(0);
                }
            }
        });
    }
}

#[cfg(all(test, not(fuzzing)))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_again_at_its_next_use() {
        for _ in 0..3 {
            for bytes in [0, 1, 4096, 10_000, MAX_KEPT_BYTES, MAX_KEPT_BYTES + 1] {
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
    fn registers_are_as_their_owner_left_them_and_zero_for_another() {
        let first = |region: &Region| {
            // SAFETY: the region has at least a page.
            unsafe { *region.ptr() }
        };
        let own = [(5, 1), (5, 1), (6, 1), (6, 1), (6, 2), (6, 2), (5, 1)];
        for ((code, space), found) in own.into_iter().zip([0, 6, 0, 7, 0, 7, 6]) {
            let region = Region::registers(8192, Owner { code, space }).expect("memory");
            assert_eq!(first(&region), found, "{code} {space}");
            // SAFETY: as above.
            unsafe { *region.ptr() = 1 + code as u8 };
        }
        let region = Region::new(8192).expect("memory");
        assert_eq!(first(&region), 0);
    }

    #[test]
    fn only_what_an_owner_filled_and_nobody_else_had_is_filled() {
        let take =
            |code, bytes| Region::registers(bytes, Owner { code, space: 1 }).expect("memory");
        let mut region = take(5, 8192);
        assert!(!region.is_filled());
        region.set_filled();
        drop(region);
        assert!(take(5, 8192).is_filled());
        assert!(!take(6, 8192).is_filled());
        assert!(!take(5, 4096).is_filled());
        assert!(take(5, 8192).is_filled());
        // Once the thread keeps all that it may, another kernel gets it.
        let many: Vec<_> = (7..7 + MAX_KEPT as u64)
            .map(|code| take(code, 4096))
            .collect();
        drop(many);
        assert!(!take(5, 8192).is_filled());
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bounds() {
        for bytes in [4096, MAX_KEPT_BYTES] {
            let many: Vec<_> = (0..2 * MAX_KEPT)
                .map(|_| Region::new(bytes).expect("memory"))
                .collect();
            drop(many);
            let all = KEPT.with_borrow(|kept| all_bytes(kept));
            assert!(all > 0 && all <= MAX_ALL_KEPT_BYTES);
            assert!(KEPT.with_borrow(Vec::len) <= MAX_KEPT);
        }
    }
}
