//! What a worker process does to itself.
#![allow(unsafe_code)] // Descriptors by number, C's streams, and an end without exit handlers.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vgpu_mediator::captured::{Captured, Held};

use crate::socket::{Connection, wait_any};

unsafe extern "C" {
    /// C's standard output stream, which the driver writes to.
    static stdout: *mut libc::FILE;
}

/// The socket that this process was started with as its standard input. To be called once, before
/// any other descriptor is opened: all others that it has inherited are closed.
///
/// # Errors
/// Where standard input is no socket: somebody has started the program by hand.
pub fn take_socket() -> io::Result<Connection> {
    // SAFETY: takes three numbers. Nothing in this process uses a descriptor yet, and 0 to 2 stay.
    // By its number: the C library has had the function since glibc 2.34 only.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let mut kind: libc::c_int = 0;
    let mut bytes = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: room for one number of that size.
    let asked = unsafe {
        libc::getsockopt(
            0,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut bytes,
        )
    };
    if asked != 0 || kind != libc::SOCK_SEQPACKET {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    // SAFETY: duplicates a descriptor that is there; the result is new or -1.
    let raw = unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just created, owned by nobody else.
    let socket = Connection::from(unsafe { OwnedFd::from_raw_fd(raw) });
    // Programs that the driver starts must not get it.
    let null = File::open("/dev/null")?;
    // SAFETY: both are descriptors of this process.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Ends the process at once. Its exit handlers are not called: the driver's would wait for a
/// kernel that may never end, and the kernel of the host frees all that it holds.
pub fn exit() -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(0) }
}

/// The text that this process writes from now on to its standard output and standard error.
#[derive(Debug)]
pub struct OwnText {
    /// What was read and not yet taken. Reading is done under this lock, so that no text is
    /// anywhere else.
    held: Mutex<Held>,
    pipes: [File; 2],
}

impl OwnText {
    /// Redirects both.
    pub fn capture() -> io::Result<Arc<OwnText>> {
        let pipes = [redirect(1)?, redirect(2)?];
        // SAFETY: C's own stream; this is its first use in this process, and no buffer is given.
        unsafe { libc::setvbuf(stdout, std::ptr::null_mut(), libc::_IONBF, 0) };
        let text = Arc::new(OwnText {
            held: Mutex::default(),
            pipes,
        });
        let reader = Arc::clone(&text);
        // A full pipe would hold the driver up in a call of the guest's.
        std::thread::Builder::new()
            .name("vgpu-text".to_owned())
            .spawn(move || reader.drain())?;
        Ok(text)
    }

    /// Reads for ever: the writing ends are this process's own.
    fn drain(&self) {
        let [out, err] = &self.pipes;
        while let Ok(ready) = wait_any(&[out.as_fd(), err.as_fd()], None) {
            if ready.is_some() {
                drop(self.read());
            }
        }
    }

    /// Reads all that was written.
    fn read(&self) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut piece = [0; 4096];
        for (which, mut pipe) in self.pipes.iter().enumerate() {
            // The descriptors do not block: an error is that there is nothing.
            while let Ok(bytes @ 1..) = pipe.read(&mut piece) {
                held.add(which, piece.get(..bytes).unwrap_or_default());
            }
        }
        held
    }
}

impl Captured for OwnText {
    fn any(&self) -> bool {
        self.read().any()
    }

    fn take(&self) -> (Vec<u8>, Vec<u8>) {
        self.read().take()
    }
}

/// Makes a descriptor the writing end of a new pipe, and gives the reading end, which does not
/// block.
fn redirect(number: i32) -> io::Result<File> {
    let (reading, writing) = io::pipe()?;
    // SAFETY: both are descriptors of this process; what `number` was is closed.
    if unsafe { libc::dup2(writing.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor of this process, and a flag.
    if unsafe { libc::fcntl(reading.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(File::from(OwnedFd::from(reading)))
}
