//! The eventfd behind a doorbell: the guest's write wakes the channel's worker, nothing else.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A counter that can be waited for.
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

impl Doorbell {
    /// A doorbell that has not been rung.
    pub fn new() -> io::Result<Doorbell> {
        // SAFETY: the call takes no pointers and returns a new descriptor or -1.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just created and nothing else owns it.
        Ok(Doorbell(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// A doorbell that another process has made.
    pub fn from_fd(fd: OwnedFd) -> Doorbell {
        Doorbell(fd)
    }

    /// Wakes whoever waits.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is valid for its 8 bytes. A full counter (2⁶⁴ rings not yet seen)
        // would block, which cannot happen; any other failure leaves the waiter to its next ring.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Waits until the doorbell has been rung since the last wait.
    pub fn wait(&self) {
        let mut count = [0u8; 8];
        loop {
            // SAFETY: the buffer is valid for its 8 bytes.
            let read =
                unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
            if read >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return;
            }
        }
    }
}

impl Doorbell {
    /// As [`Doorbell::wait`], but no longer than `limit`.
    pub fn wait_for(&self, limit: Duration) {
        let mut descriptor = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let limit = libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: limit.subsec_nanos().into(),
        };
        // SAFETY: one valid descriptor entry and one valid time, both outliving the call; no signal
        // mask.
        let ready =
            unsafe { libc::ppoll(&raw mut descriptor, 1, &raw const limit, std::ptr::null()) };
        if ready > 0 {
            self.wait();
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
