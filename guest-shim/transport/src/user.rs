//! Memory of the program, given by address and length. Unsafe code: only the program knows that
//! its addresses are valid, and says so by calling a function whose contract demands it.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use vgpu_protocol::window::{OutOfWindow, Window};

/// Bytes of the program that are read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    at: *const u8,
    bytes: usize,
    lives: PhantomData<&'a [u8]>,
}

impl<'a> Source<'a> {
    /// Names memory to read.
    ///
    /// # Safety
    /// `at` is valid for reads of `bytes` bytes while the value is in use, and is not part of a
    /// channel's area. Threads of the program may write it meanwhile: it is only copied.
    pub unsafe fn new(at: *const u8, bytes: usize) -> Source<'a> {
        Source {
            at,
            bytes,
            lives: PhantomData,
        }
    }

    /// Names memory of a slice.
    pub fn of(slice: &'a [u8]) -> Source<'a> {
        Source {
            at: slice.as_ptr(),
            bytes: slice.len(),
            lives: PhantomData,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True if there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies `bytes` bytes from `from` on, as far as they are inside.
    pub fn to_vec(&self, from: usize, bytes: usize) -> Vec<u8> {
        let from = from.min(self.bytes);
        let bytes = bytes.min(self.bytes - from);
        let mut out = Vec::with_capacity(bytes);
        // SAFETY: `from + bytes <= self.bytes`, which `new` promised to be readable; the vector
        // has room for `bytes` bytes, all of which are written before its length is set.
        unsafe {
            std::ptr::copy_nonoverlapping(self.at.add(from), out.as_mut_ptr(), bytes);
            out.set_len(bytes);
        }
        out
    }

    /// Copies from `from` on as many bytes as `into` has and there are.
    pub fn read(&self, from: usize, into: &mut [u8]) {
        let from = from.min(self.bytes);
        let bytes = into.len().min(self.bytes - from);
        // SAFETY: `from + bytes <= self.bytes`, which `new` promised to be readable; `into` is a
        // private buffer of ours, which does not overlap the program's.
        unsafe { std::ptr::copy_nonoverlapping(self.at.add(from), into.as_mut_ptr(), bytes) };
    }

    /// Copies `bytes` bytes from `from` on into a window.
    pub fn copy_to(
        &self,
        from: usize,
        bytes: usize,
        window: Window,
        offset: u64,
    ) -> Result<(), OutOfWindow> {
        if from.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(OutOfWindow {
                offset: from as u64,
                bytes: bytes as u64,
            });
        }
        // SAFETY: `from + bytes <= self.bytes`, readable and apart from the window by `new`.
        unsafe { window.write_from(offset, self.at.add(from), bytes) }
    }
}

/// Bytes of the program that are written.
#[derive(Debug)]
pub struct Target<'a> {
    at: *mut u8,
    bytes: usize,
    lives: PhantomData<&'a mut [u8]>,
}

impl<'a> Target<'a> {
    /// Names memory to write.
    ///
    /// # Safety
    /// `at` is valid for writes of `bytes` bytes while the value is in use, and is not part of a
    /// channel's area.
    pub unsafe fn new(at: *mut u8, bytes: usize) -> Target<'a> {
        Target {
            at,
            bytes,
            lives: PhantomData,
        }
    }

    /// Names memory of a slice.
    pub fn of(slice: &'a mut [u8]) -> Target<'a> {
        Target {
            at: slice.as_mut_ptr(),
            bytes: slice.len(),
            lives: PhantomData,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Stores `data` from `to` on, as far as there is room; gives the number of bytes stored.
    pub fn store(&mut self, to: usize, data: &[u8]) -> usize {
        let to = to.min(self.bytes);
        let bytes = data.len().min(self.bytes - to);
        // SAFETY: `to + bytes <= self.bytes`, which `new` promised to be writable, and
        // `bytes <= data.len()`; a private buffer of ours does not overlap the program's.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.at.add(to), bytes) };
        bytes
    }

    /// Copies `bytes` bytes of a window to `to`.
    pub fn copy_from(
        &mut self,
        to: usize,
        bytes: usize,
        window: Window,
        offset: u64,
    ) -> Result<(), OutOfWindow> {
        if to.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(OutOfWindow {
                offset: to as u64,
                bytes: bytes as u64,
            });
        }
        // SAFETY: `to + bytes <= self.bytes`, writable and apart from the window by `new`.
        unsafe { window.read_to(offset, self.at.add(to), bytes) }
    }
}
