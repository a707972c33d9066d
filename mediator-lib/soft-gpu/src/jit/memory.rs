//! Executable memory: mapped writable, filled, then made executable; never both.
#![allow(unsafe_code)] // mmap and mprotect

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes of code of one kernel: a hostile kernel must not turn its text into
/// host memory without bound.
pub const MAX_KERNEL_CODE_BYTES: usize = 16 << 20;
/// Most bytes of code in the process, for the same reason: kernels beyond it are interpreted.
pub const MAX_CODE_BYTES: usize = 512 << 20;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Code that can be run.
#[derive(Debug)]
pub struct CodeMemory {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is read-only after construction and lives as long as the value.
unsafe impl Send for CodeMemory {}
// SAFETY: as above.
unsafe impl Sync for CodeMemory {}

impl CodeMemory {
    /// Maps `code`. Fails where the system refuses executable memory or a limit is reached.
    pub fn new(code: &[u8]) -> io::Result<CodeMemory> {
        let bytes = code.len().max(1).next_multiple_of(4096);
        if bytes > MAX_KERNEL_CODE_BYTES {
            return Err(io::Error::other(format!(
                "{bytes} bytes of code, at most {MAX_KERNEL_CODE_BYTES} are allowed for a kernel"
            )));
        }
        if IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_CODE_BYTES {
            IN_USE.fetch_sub(bytes, Ordering::Relaxed);
            return Err(io::Error::other(format!(
                "{MAX_CODE_BYTES} bytes of code are in use"
            )));
        }
        let release = || {
            IN_USE.fetch_sub(bytes, Ordering::Relaxed);
            io::Error::last_os_error()
        };
        // SAFETY: a fresh private anonymous mapping at an address the kernel chooses; the
        // result is checked.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let Some(at) = NonNull::new(p.cast::<u8>()).filter(|_| p != libc::MAP_FAILED) else {
            return Err(release());
        };
        // SAFETY: the mapping has `bytes >= code.len()` bytes and nobody else knows it;
        // then its protection changes, which affects only this mapping.
        let protected = unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), at.as_ptr(), code.len());
            libc::mprotect(p, bytes, libc::PROT_READ | libc::PROT_EXEC)
        };
        if protected != 0 {
            let e = release();
            // SAFETY: the mapping was made above and is not used any more.
            unsafe { libc::munmap(p, bytes) };
            return Err(e);
        }
        Ok(CodeMemory { at, bytes })
    }

    /// Its first byte.
    pub fn ptr(&self) -> *const u8 {
        self.at.as_ptr()
    }

    /// Bytes mapped.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and size, and code runs only
        // while a reference to the value is held.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
        IN_USE.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
