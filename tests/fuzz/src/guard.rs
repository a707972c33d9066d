//! Takes away all of a space's device memory that no allocation has, so that an access there ends the process.
#![allow(unsafe_code)] // mprotect

use std::io;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Addresses that are closed but for some pages, until it is dropped.
pub struct Closed {
    base: u64,
    bytes: u64,
}

fn protect(base: u64, bytes: u64, how: libc::c_int) -> io::Result<()> {
    // SAFETY: the range lies in the region of an address space that the caller has: all of it is this
    // process's own mapping, which nothing but launches and copies by that caller uses.
    match unsafe { libc::mprotect(base as *mut libc::c_void, bytes as usize, how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Closed {
    /// Closes `bytes` from `base` on, the region of an address space, but for the pages of `open`:
    /// first addresses and sizes.
    pub fn new(base: u64, bytes: u64, open: &[(u64, u64)]) -> io::Result<Closed> {
        protect(base, bytes, libc::PROT_NONE)?;
        let closed = Closed { base, bytes };
        for (at, n) in open {
            let first = at / PAGE * PAGE;
            let end = (at + n).next_multiple_of(PAGE);
            protect(first, end - first, libc::PROT_READ | libc::PROT_WRITE)?;
        }
        Ok(closed)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if protect(self.base, self.bytes, libc::PROT_READ | libc::PROT_WRITE).is_err() {
            std::process::abort();
        }
    }
}
