//! BAR1's memory: a memfd mapped into this process, which QEMU maps into the guest as well.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use vgpu_protocol::window::Window;

/// Shared memory that lives as long as this value.
#[derive(Debug)]
pub struct SharedMemory {
    fd: OwnedFd,
    base: *mut u8,
    bytes: usize,
}

// SAFETY: the value is a mapping's address, which any thread may use and unmap; all access goes
// through `Window`.
unsafe impl Send for SharedMemory {}
// SAFETY: as for `Send`; `&SharedMemory` gives out nothing but a `Window`.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Creates zeroed shared memory. It costs host memory only where it is touched.
    pub fn new(bytes: u64) -> io::Result<SharedMemory> {
        let size =
            usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let length = libc::off_t::try_from(bytes)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the name is a NUL-terminated literal; the call returns a new descriptor or -1.
        let raw = unsafe { libc::memfd_create(c"vgpu-stub-bar1".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a descriptor that was just created and that nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: plain system call on a descriptor that we own.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), length) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new shared mapping at an address that the kernel picks; no memory of ours is
        // replaced.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedMemory {
            fd,
            base: base.cast(),
            bytes: size,
        })
    }

    /// The memory's descriptor, to be mapped by others.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True for memory of no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The memory. Whoever uses the window must keep this value alive: the device's workers are
    /// joined before it is dropped.
    pub fn window(&self) -> Window {
        // SAFETY:
        // - the mapping is readable and writable for `bytes` bytes and page-aligned;
        // - it is unmapped only in `drop`, and `Device`, the only user, joins its workers first;
        // - no Rust reference into it exists anywhere.
        unsafe { Window::new(self.base, self.bytes) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`, of which no window is used any more (see
        // `window`). An error would mean that it is gone already.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_and_the_mapping_are_the_same_memory() {
        let memory = SharedMemory::new(1 << 20).expect("memory");
        memory.window().write(4096, b"hello").expect("inside");
        let file = std::fs::File::from(memory.fd().try_clone_to_owned().expect("fd"));
        let mut back = [0; 5];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut back, 4096).expect("read");
        assert_eq!(&back, b"hello");
    }

    #[test]
    fn too_much_memory_is_an_error() {
        assert!(SharedMemory::new(u64::MAX).is_err());
        assert!(SharedMemory::new(1 << 60).is_err());
    }
}
