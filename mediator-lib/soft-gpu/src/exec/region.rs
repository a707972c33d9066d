//! Zeroed scratch memory from the operating system, committed when touched.
#![allow(unsafe_code)] // mmap and munmap

use std::io;
use std::ptr::NonNull;

/// A private anonymous mapping.
pub struct Region {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a region is plain memory owned by the value; nothing in it is tied to a thread.
unsafe impl Send for Region {}

impl Region {
    /// Maps `bytes` (at least one page) of zeros.
    pub fn new(bytes: usize) -> io::Result<Region> {
        let bytes = bytes.max(4096).next_multiple_of(4096);
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
            .map(|at| Region { at, bytes })
            .ok_or_else(|| io::Error::other("null mapping"))
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

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and size.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}
