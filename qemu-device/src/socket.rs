//! SOCK_SEQPACKET sockets that pass descriptors, which the standard library does not have.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

impl From<OwnedFd> for Connection {
    fn from(fd: OwnedFd) -> Connection {
        Connection(fd)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Most descriptors that [`Connection::receive_with_fds`] takes; the kernel closes others.
const MAX_RECEIVED_FDS: usize = 4;

/// Which of these can be read, or have been closed by the other side; `None` where none was in
/// `limit`.
pub fn wait_any(fds: &[BorrowedFd<'_>], limit: Option<Duration>) -> io::Result<Option<usize>> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let limit = limit.map_or(-1, |limit| {
        i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)
    });
    // SAFETY: a list with its length, which outlives the call.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    }
    Ok(polled.iter().position(|p| p.revents != 0))
}

impl Connection {
    /// Two ends of a new connection.
    pub fn pair() -> io::Result<(Connection, OwnedFd)> {
        let mut raw = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: room for two descriptors.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, raw.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just created and are nobody else's.
        let [one, two] = raw.map(|raw| unsafe { OwnedFd::from_raw_fd(raw) });
        Ok((Connection(one), two))
    }

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

    /// As [`Connection::receive`], with the descriptors that came along.
    pub fn receive_with_fds(&self, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut part = libc::iovec {
            iov_base: into.as_mut_ptr().cast(),
            iov_len: into.len(),
        };
        // Aligned for `cmsghdr`, with room for its header and the descriptors.
        let mut control = [0u64; 4 + MAX_RECEIVED_FDS];
        // SAFETY: all-zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: pure arithmetic.
        let space = unsafe { libc::CMSG_SPACE((MAX_RECEIVED_FDS * size_of::<i32>()) as u32) };
        message.msg_controllen = space as _;
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
        let got = loop {
            // SAFETY: `message` points to `part` and `control`, which live until the call returns,
            // and `part` to memory that is valid for writes.
            let got = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, flags) };
            if got >= 0 {
                break got as usize;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        };
        let mut fds = Vec::new();
        // SAFETY: the kernel has filled `control` up to `msg_controllen` with whole headers, between
        // which these macros step; the descriptors in them are new and nobody else's.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_SOCKET
                    && (*header).cmsg_type == libc::SCM_RIGHTS
                {
                    let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                    let data = libc::CMSG_DATA(header).cast::<i32>();
                    for i in 0..bytes / size_of::<i32>() {
                        fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                    }
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        Ok((got, fds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_descriptors_arrive_and_the_end_shows() {
        let (here, there) = Connection::pair().expect("a pair");
        let there = Connection::from(there);
        let nothing = wait_any(&[there.as_fd()], Some(Duration::ZERO)).expect("poll");
        assert_eq!(nothing, None);
        here.send(b"one", &[here.as_fd()]).expect("sent");
        here.send(b"two", &[]).expect("sent");
        assert_eq!(
            wait_any(&[here.as_fd(), there.as_fd()], None).expect("poll"),
            Some(1)
        );
        let mut packet = [0; 8];
        let (bytes, fds) = there.receive_with_fds(&mut packet).expect("received");
        assert_eq!((bytes, &packet[..3], fds.len()), (3, &b"one"[..], 1));
        drop(fds);
        let (bytes, fds) = there.receive_with_fds(&mut packet).expect("received");
        assert_eq!((bytes, &packet[..3], fds.len()), (3, &b"two"[..], 0));
        drop(here);
        assert_eq!(there.receive_with_fds(&mut packet).expect("the end").0, 0);
    }
}
