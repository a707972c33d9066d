//! The system calls that the standard library does not offer. Unsafe code: `libc` is all unsafe.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use vgpu_protocol::window::Window;

/// A shared, writable mapping of a file; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    window: Window,
}

impl Mapping {
    /// Maps `bytes` bytes of `fd` from `offset` on, both multiples of the page size.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, bytes: usize) -> io::Result<Mapping> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY:
        // - the mapping is readable and writable for `bytes` bytes and page-aligned;
        // - it lives until `Mapping` is dropped; whoever copies the window out keeps the mapping
        //   (`Bars` implementations own theirs as long as themselves);
        // - nobody makes references to it: all access is through `Window`.
        let window = unsafe { Window::new(base.cast(), bytes) };
        Ok(Mapping { window })
    }

    /// The same at `address`, where nothing is mapped there; elsewhere otherwise.
    pub fn near(
        fd: BorrowedFd<'_>,
        offset: u64,
        bytes: usize,
        address: u64,
    ) -> io::Result<Mapping> {
        let place = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: MAP_FIXED_NOREPLACE replaces no memory of the process. A kernel before 4.17 takes
        // the address for a wish.
        let base = unsafe {
            libc::mmap(
                address as *mut libc::c_void,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
                fd.as_raw_fd(),
                place,
            )
        };
        if base == libc::MAP_FAILED {
            return Mapping::new(fd, offset, bytes);
        }
        // SAFETY: as in `new`.
        let window = unsafe { Window::new(base.cast(), bytes) };
        Ok(Mapping { window })
    }

    /// The mapped memory.
    pub fn window(&self) -> Window {
        self.window
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of a mapping that `new` made and nobody unmapped.
        unsafe { libc::munmap(self.window.base().cast(), self.window.len()) };
    }
}

fn set_lock(fd: BorrowedFd<'_>, byte: u32, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: `flock` is plain data, for which zeros are valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte.into();
    lock.l_len = 1;
    // SAFETY: `fd` is open, and F_SETLK reads one `flock` at the given address.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLK, &raw const lock) };
    if done == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes the POSIX record lock on one byte of a file, without waiting. `false`: another process
/// has it. The lock goes when the process ends, or closes any descriptor of that file.
pub fn try_lock(fd: BorrowedFd<'_>, byte: u32) -> io::Result<bool> {
    match set_lock(fd, byte, libc::F_WRLCK) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Gives a record lock back.
pub fn unlock(fd: BorrowedFd<'_>, byte: u32) {
    // Unlocking a lock that one has cannot fail on an open descriptor.
    let _ = set_lock(fd, byte, libc::F_UNLCK);
}

/// Connects to a SOCK_SEQPACKET socket.
pub fn connect_seqpacket(path: &Path) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: plain data, for which zeros are valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let name = path.as_os_str().as_bytes();
    // One byte stays zero, the end of the name.
    if name.len() >= address.sun_path.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the socket's path is too long",
        ));
    }
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // SAFETY: `address` is an initialised sockaddr_un and the length is its own.
    let done = unsafe {
        libc::connect(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_un>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(fd)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends one packet.
pub fn send(fd: BorrowedFd<'_>, packet: &[u8]) -> io::Result<()> {
    loop {
        // SAFETY: the pointer is valid for reads of the given length.
        let sent = unsafe {
            libc::send(
                fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        if let Ok(sent) = usize::try_from(sent) {
            // A packet goes whole or not at all.
            debug_assert_eq!(sent, packet.len());
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Most descriptors that Linux passes in one packet (SCM_MAX_FD).
const MAX_DESCRIPTORS: usize = 253;

/// Receives one packet and the descriptors that came with it; gives the packet's length.
pub fn receive(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    // u64 keeps the buffer aligned for cmsghdr.
    let mut control = [0u64; (MAX_DESCRIPTORS * 4 + 64) / 8];
    let mut part = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: plain data, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let received = loop {
        // SAFETY: `message` points to one iovec and a control buffer, each valid for writes of the
        // length beside it.
        let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(n) {
            Ok(n) => break n,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    let mut descriptors = Vec::new();
    // SAFETY: the kernel filled `message`; CMSG_FIRSTHDR and CMSG_NXTHDR stay inside its control
    // buffer and return null at the end.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a complete header in the control buffer.
        let (level, kind, bytes) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len as usize,
            )
        };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: takes no pointers.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = bytes.saturating_sub(empty) / size_of::<RawFd>();
            for i in 0..count {
                // SAFETY: the data of this header are `count` descriptors, not aligned by promise;
                // the kernel installed each for this process, and nobody else owns them.
                unsafe {
                    let data = libc::CMSG_DATA(header).cast::<RawFd>();
                    descriptors.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok((received, descriptors))
}

/// Waits until a descriptor can be read, or so long. True where it can.
pub fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: one valid entry and one valid time, both outliving the call; no signal mask.
    let ready = unsafe { libc::ppoll(&raw mut entry, 1, &raw const limit, std::ptr::null()) };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    match io::Error::last_os_error() {
        // As good as an end of the wait: the caller looks and waits again.
        e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        e => Err(e),
    }
}

/// Makes a named pipe.
#[cfg(test)]
pub fn make_fifo(path: &Path) -> io::Result<()> {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: the name ends with a zero.
    match unsafe { libc::mkfifo(name.as_ptr(), 0o600) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has `child` run in the child after each fork.
pub fn at_fork_in_child(child: extern "C" fn()) -> io::Result<()> {
    // libc declares the handlers as unsafe functions; a safe one is one of them.
    // SAFETY: `child` is a function of this library, which glibc forgets when it is unloaded.
    match unsafe { libc::pthread_atfork(None, None, Some(child)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Closes a descriptor that a forked child inherited and whose owner object it never drops.
pub fn close_inherited(fd: RawFd) {
    // SAFETY: takes no pointers; the only owner is an object that the child has given up.
    unsafe { libc::close(fd) };
}
