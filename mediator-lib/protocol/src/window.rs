//! Access to memory shared with the other side, which may change it at any moment.
//!
//! This file is the one place of the crate with unsafe code: every raw access to BAR1 goes through
//! [`Window`], which checks bounds and hands out copies or atomics, never references to data.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU32, AtomicU64};

/// From this length on, a copy out of a window goes past the cache: pieces are so long only where
/// the whole copy is longer than what a cache keeps, and reading the target's lines first would be
/// a third of the traffic.
const STREAM_BYTES: usize = 512 << 10;

/// From this length on a copy is made by the loop below.
#[cfg(target_arch = "x86_64")]
const LOOP_BYTES: usize = 1 << 10;

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// How far ahead of the copy lines are fetched, in lines. What the other side has written comes out of another
/// core's cache, and what it has read last must be taken from there: either takes longer than the few loads and
/// stores that a core has under way by itself.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 16;

/// Copies one line.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of a line, `to` is aligned to one, and they do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn copy_line(from: *const u8, to: *mut u8, stream: bool) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_store_si128, _mm_stream_si128};
    let (source, target) = (from.cast::<__m128i>(), to.cast::<__m128i>());
    // SAFETY:
    // - the four words are the line, which the caller has promised;
    // - `to` is aligned to a line, so each store is aligned to 16 bytes; loads need no alignment;
    // - every x86-64 processor has SSE2.
    unsafe {
        let words = [
            _mm_loadu_si128(source),
            _mm_loadu_si128(source.add(1)),
            _mm_loadu_si128(source.add(2)),
            _mm_loadu_si128(source.add(3)),
        ];
        for (i, word) in words.into_iter().enumerate() {
            if stream {
                _mm_stream_si128(target.add(i), word);
            } else {
                _mm_store_si128(target.add(i), word);
            }
        }
    }
}

/// Has the cache fetch a line, to write it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_to_write(line: *const u8) {
    // SAFETY: it reads nothing into the program, changes no flags and faults nowhere; processors that do not have
    // it take it for one that does nothing.
    unsafe {
        core::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(nostack, preserves_flags));
    }
}

/// A sequentially consistent fence.
///
/// A locked instruction is one (Intel SDM, volume 3, "Memory Ordering in P6 and More Recent Processor
/// Families"), and takes less than the `mfence` that `core::sync::atomic::fence` becomes.
#[inline(always)]
pub(crate) fn full_fence() {
    // SAFETY: it changes nothing of the stack's top, which is there, and no register but the flags.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("lock or dword ptr [rsp], 0", options(nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// Has the cache fetch a line, to read it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_to_read(line: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: it reads nothing into the program and faults nowhere; every x86-64 processor has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

/// Copies bytes.
///
/// The C library copies some KiB and more with `rep movsb`, which an emulated processor (QEMU's TCG)
/// executes byte by byte. This loop is as fast on a real processor and six times as fast there.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `bytes` bytes, and they do not overlap.
#[cfg(target_arch = "x86_64")]
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize, stream: bool) {
    if bytes < LOOP_BYTES {
        // SAFETY: the caller's promise.
        return unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
    }
    let head = to.align_offset(LINE).min(bytes);
    let lines = (bytes - head) / LINE;
    let done = head + lines * LINE;
    // SAFETY: head, lines and tail lie in `0..bytes`, one after the other, in both ranges, and `to + head` is
    // aligned to a line.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, head);
        let (source, target) = (from.add(head), to.add(head));
        for line in 0..lines {
            let at = line * LINE;
            if line + AHEAD < lines {
                prefetch_to_read(source.add(at + AHEAD * LINE));
                if !stream {
                    prefetch_to_write(target.add(at + AHEAD * LINE));
                }
            }
            copy_line(source.add(at), target.add(at), stream);
        }
        core::ptr::copy_nonoverlapping(from.add(done), to.add(done), bytes - done);
        if stream {
            // Streaming stores are ordered with nothing; what tells of them comes after.
            core::arch::x86_64::_mm_sfence();
        }
    }
}

/// Copies bytes.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `bytes` bytes, and they do not overlap.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize, _stream: bool) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
}

/// A bounds-checked view of a shared mapping. Cheap to copy; it does not own the mapping.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: *mut u8,
    len: usize,
}

// SAFETY:
// - a `Window` is an address and a length; all access through it is by atomics or by byte copies,
//   which tolerate concurrent change from any thread or process;
// - whoever called `Window::new` promised that the mapping outlives every copy of it.
unsafe impl Send for Window {}
// SAFETY: as for `Send`.
unsafe impl Sync for Window {}

/// An access outside of a [`Window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfWindow {
    /// First byte of the access, relative to the window.
    pub offset: u64,
    /// Length of the access in bytes.
    pub bytes: u64,
}

impl core::fmt::Display for OutOfWindow {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "access of {} bytes at {:#x} leaves the window",
            self.bytes, self.offset
        )
    }
}

impl Window {
    /// Wraps a mapping.
    ///
    /// # Safety
    /// `base` is valid for reads and writes of `len` bytes, aligned to 8 bytes, for as long as any
    /// copy of the returned value is used, and no Rust reference to that memory exists.
    pub unsafe fn new(base: *mut u8, len: usize) -> Window {
        Window { base, len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a window of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first byte in this process.
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    #[inline]
    fn at(&self, offset: u64, bytes: u64) -> Result<*mut u8, OutOfWindow> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.len as u64 => {
                // SAFETY: offset <= end <= len, so the result stays inside the mapping.
                Ok(unsafe { self.base.add(offset as usize) })
            }
            _ => Err(OutOfWindow { offset, bytes }),
        }
    }

    /// A part of this window.
    pub fn slice(&self, offset: u64, bytes: u64) -> Result<Window, OutOfWindow> {
        Ok(Window {
            base: self.at(offset, bytes)?,
            len: bytes as usize,
        })
    }

    /// The 32-bit word at `offset`, which must be a multiple of 4.
    #[inline]
    pub fn word32(&self, offset: u64) -> Result<&AtomicU32, OutOfWindow> {
        let at = self.at(offset, 4)?;
        if !(at as usize).is_multiple_of(4) {
            return Err(OutOfWindow { offset, bytes: 4 });
        }
        // SAFETY: in bounds (`at`), aligned (checked above), and valid for the window's lifetime;
        // an atomic may be shared with writers in other processes.
        Ok(unsafe { AtomicU32::from_ptr(at.cast()) })
    }

    /// The 64-bit word at `offset`, which must be a multiple of 8.
    #[inline]
    pub fn word64(&self, offset: u64) -> Result<&AtomicU64, OutOfWindow> {
        let at = self.at(offset, 8)?;
        if !(at as usize).is_multiple_of(8) {
            return Err(OutOfWindow { offset, bytes: 8 });
        }
        // SAFETY: as in `word32`, with 8-byte alignment checked above.
        Ok(unsafe { AtomicU64::from_ptr(at.cast()) })
    }

    /// Has the cache fetch the line at `offset`; outside of the window it does nothing.
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        if let Ok(at) = self.at(offset, 1) {
            #[cfg(target_arch = "x86_64")]
            prefetch_to_read(at);
            #[cfg(not(target_arch = "x86_64"))]
            let _ = at;
        }
    }

    /// As [`Window::prefetch`], to write there.
    #[inline]
    pub fn prefetch_to_write(&self, offset: u64) {
        if let Ok(at) = self.at(offset, 1) {
            #[cfg(target_arch = "x86_64")]
            prefetch_to_write(at);
            #[cfg(not(target_arch = "x86_64"))]
            let _ = at;
        }
    }

    /// Copies out of the window. Bytes that change meanwhile arrive as some mixture.
    #[inline]
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), OutOfWindow> {
        let from = self.at(offset, into.len() as u64)?;
        // SAFETY: `from` is in bounds for `into.len()` bytes; `into` is private to this process and
        // cannot overlap a mapping to which no reference exists (contract of `new`).
        unsafe { copy(from, into.as_mut_ptr(), into.len(), false) };
        Ok(())
    }

    /// Copies into the window.
    #[inline]
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), OutOfWindow> {
        let to = self.at(offset, from.len() as u64)?;
        // SAFETY: as in `read`, in the other direction.
        unsafe { copy(from.as_ptr(), to, from.len(), false) };
        Ok(())
    }

    /// Copies out of the window to a raw address, for destinations that are not Rust memory
    /// (device memory of the software GPU, a guest program's buffer).
    ///
    /// # Safety
    /// `to` is valid for writes of `bytes` bytes and does not overlap the window.
    pub unsafe fn read_to(
        &self,
        offset: u64,
        to: *mut u8,
        bytes: usize,
    ) -> Result<(), OutOfWindow> {
        let from = self.at(offset, bytes as u64)?;
        // SAFETY: source in bounds by `at`, destination by the caller's promise.
        unsafe { copy(from, to, bytes, bytes >= STREAM_BYTES) };
        Ok(())
    }

    /// Copies into the window from a raw address.
    ///
    /// # Safety
    /// `from` is valid for reads of `bytes` bytes and does not overlap the window.
    pub unsafe fn write_from(
        &self,
        offset: u64,
        from: *const u8,
        bytes: usize,
    ) -> Result<(), OutOfWindow> {
        let to = self.at(offset, bytes as u64)?;
        // SAFETY: destination in bounds by `at`, source by the caller's promise. The other side
        // reads it next: it stays in the cache.
        unsafe { copy(from, to, bytes, false) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_window(bytes: usize, f: impl FnOnce(Window)) {
        let mut memory = alloc::vec![0u64; bytes.div_ceil(8)];
        // SAFETY: the vector outlives the call, is 8-byte aligned and not used meanwhile.
        f(unsafe { Window::new(memory.as_mut_ptr().cast(), bytes) });
    }

    #[test]
    fn last_byte_is_inside_and_the_next_is_not() {
        with_window(64, |w| {
            assert!(w.write(63, &[1]).is_ok());
            assert_eq!(
                w.write(64, &[1]),
                Err(OutOfWindow {
                    offset: 64,
                    bytes: 1
                })
            );
            assert_eq!(
                w.write(63, &[1, 2]),
                Err(OutOfWindow {
                    offset: 63,
                    bytes: 2
                })
            );
            assert!(w.read(u64::MAX, &mut [0; 2]).is_err());
            assert!(w.slice(32, 33).is_err());
            assert!(w.word64(60).is_err());
            assert!(w.word32(61).is_err());
            assert!(w.word32(60).is_ok());
        });
    }

    #[test]
    fn every_copy_moves_its_bytes_and_no_other() {
        let lengths = [
            0,
            1,
            1023,
            1024,
            1025,
            4096,
            8191,
            STREAM_BYTES - 1,
            STREAM_BYTES,
        ];
        for bytes in lengths {
            for (shift, skew) in [(0, 0), (1, 0), (0, 3), (63, 64), (17, 5)] {
                let from: alloc::vec::Vec<u8> = (0..bytes + skew)
                    .map(|i| (i * 31 + i / 251) as u8)
                    .collect();
                let mut out = alloc::vec![0xee_u8; bytes + shift + 64];
                with_window(bytes + shift + 64, |w| {
                    let source = from[skew..].as_ptr();
                    // SAFETY: the source has so many bytes and is no part of the window.
                    unsafe { w.write_from(shift as u64, source, bytes) }.expect("inside");
                    let target = out[shift..].as_mut_ptr();
                    // SAFETY: the target has so many bytes and is no part of the window.
                    unsafe { w.read_to(shift as u64, target, bytes) }.expect("inside");
                });
                assert_eq!(
                    out[shift..][..bytes],
                    from[skew..][..bytes],
                    "{bytes} {shift}"
                );
                assert!(out[..shift].iter().all(|b| *b == 0xee));
                assert!(out[shift + bytes..].iter().all(|b| *b == 0xee));
            }
        }
    }

    #[test]
    fn a_slice_is_bounded_by_itself() {
        with_window(64, |w| {
            let s = w.slice(16, 16).expect("inside");
            s.write(0, &[7; 16]).expect("fits");
            assert!(s.write(1, &[7; 16]).is_err());
            let mut all = [0u8; 64];
            w.read(0, &mut all).expect("inside");
            assert_eq!(all.iter().filter(|b| **b == 7).count(), 16);
            assert_eq!(all[16], 7);
        });
    }
}
