//! Access to memory shared with the other side, which may change it at any moment.
//!
//! This file is the one place of the crate with unsafe code: every raw access to BAR1 goes through
//! [`Window`], which checks bounds and hands out copies or atomics, never references to data.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU32, AtomicU64};

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
    pub fn word64(&self, offset: u64) -> Result<&AtomicU64, OutOfWindow> {
        let at = self.at(offset, 8)?;
        if !(at as usize).is_multiple_of(8) {
            return Err(OutOfWindow { offset, bytes: 8 });
        }
        // SAFETY: as in `word32`, with 8-byte alignment checked above.
        Ok(unsafe { AtomicU64::from_ptr(at.cast()) })
    }

    /// Copies out of the window. Bytes that change meanwhile arrive as some mixture.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), OutOfWindow> {
        let from = self.at(offset, into.len() as u64)?;
        // SAFETY: `from` is in bounds for `into.len()` bytes; `into` is private to this process and
        // cannot overlap a mapping to which no reference exists (contract of `new`).
        unsafe { core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies into the window.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), OutOfWindow> {
        let to = self.at(offset, from.len() as u64)?;
        // SAFETY: as in `read`, in the other direction.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
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
        unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
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
        // SAFETY: destination in bounds by `at`, source by the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
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
