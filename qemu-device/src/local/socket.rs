//! SOCK_SEQPACKET sockets that pass descriptors, which the standard library does not have.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Most descriptors in one packet: BAR1 and the doorbells (the kernel's own limit is 253).
const MAX_FDS: usize = 1 + vgpu_protocol::limits::MAX_CHANNELS as usize;

/// A bound socket; its file is removed with it.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

/// One client.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Listener {
    /// Binds and listens. A socket file that a dead process has left is replaced.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        // SAFETY: no pointers; returns a new descriptor or -1.
        let raw =
            unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just created, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: all-zero is a valid `sockaddr_un`.
        let mut address: libc::sockaddr_un = unsafe { zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let name = path.as_os_str().as_bytes();
        if name.len() >= address.sun_path.len() {
            let what = format!(
                "socket path of {} bytes, allowed are {}",
                name.len(),
                address.sun_path.len() - 1
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        for (to, from) in address.sun_path.iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        remove_stale(path)?;
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: `address` is an initialised, NUL-terminated `sockaddr_un` of `length` bytes.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
        // SAFETY: no pointers.
        if bound != 0 || unsafe { libc::listen(fd.as_raw_fd(), 64) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Listener {
            fd,
            path: path.to_owned(),
        })
    }

    /// Waits for a client.
    pub fn accept(&self) -> io::Result<Connection> {
        loop {
            // SAFETY: null address pointers are allowed: the peer's address is not wanted.
            let raw = unsafe {
                libc::accept4(
                    self.fd.as_raw_fd(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_CLOEXEC,
                )
            };
            if raw >= 0 {
                // SAFETY: just created, owned by nobody else.
                return Ok(Connection(unsafe { OwnedFd::from_raw_fd(raw) }));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted
                && error.kind() != io::ErrorKind::ConnectionAborted
            {
                return Err(error);
            }
        }
    }
}

/// Removes a socket that a dead process has left; anything else at that path stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "exists and is not a socket",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Connection {
    /// Sends one packet with descriptors.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if fds.len() > MAX_FDS {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // Aligned for `cmsghdr`, with room for its header and MAX_FDS descriptors.
        let mut control = [0u64; 4 + MAX_FDS];
        // SAFETY: all-zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            let payload = size_of_val(fds) as u32;
            message.msg_control = control.as_mut_ptr().cast();
            // SAFETY: pure arithmetic.
            message.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as _;
            // SAFETY:
            // - `control` is larger than CMSG_SPACE of MAX_FDS descriptors, so that the first header
            //   exists and its data has room for `fds.len()` numbers;
            // - `BorrowedFd` is a transparent descriptor number.
            unsafe {
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
                std::ptr::copy_nonoverlapping(
                    fds.as_ptr().cast::<u8>(),
                    libc::CMSG_DATA(header),
                    size_of_val(fds),
                );
            }
        }
        // SAFETY: `message` points to `part` and `control`, which live until the call returns.
        if unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } < 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Receives one packet and tells its length; 0 at the end of the connection.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            // SAFETY: `into` is valid for writes of its length. MSG_TRUNC makes the result the
            // packet's real length.
            let got = unsafe {
                libc::recv(
                    self.0.as_raw_fd(),
                    into.as_mut_ptr().cast(),
                    into.len(),
                    libc::MSG_TRUNC,
                )
            };
            if got >= 0 {
                return Ok(got as usize);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}
