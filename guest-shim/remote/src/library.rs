//! The side of the libraries that have no channel of their own.
#![allow(unsafe_code)] // dlopen, and calls through libcuda's table.

use std::ffi::{CStr, c_void};
use std::fmt;
use std::sync::OnceLock;

use vgpu_protocol::calls::{CtxId, Opcode, Remote, StreamId};
use vgpu_protocol::wire::{WireError, Writer};
use vgpu_protocol::{PROTOCOL_HASH, Status};

use crate::table::{Part, SYMBOL, ShimTable, VERSION};

const NAME: &CStr = c"libcuda.so.1";

/// Why the calls of a library cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The dynamic linker's reason.
    Missing(String),
    /// There is a libcuda.so.1, but it is not vgpu-stub's.
    Foreign,
    /// It is from another version of the guest package.
    Version {
        /// Its table version and protocol hash.
        found: (u32, u64),
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Missing(reason) => write!(f, "libcuda.so.1 cannot be loaded: {reason}"),
            OpenError::Foreign => f.write_str(
                "the libcuda.so.1 that was found is not vgpu-stub's: remove it or put vgpu-stub's first in the library path",
            ),
            OpenError::Version { found } => write!(
                f,
                "libcuda.so.1 is of another version of vgpu-stub (table {}, protocol {:#x}; needed: {VERSION}, {PROTOCOL_HASH:#x}): \
                 install one guest package on all",
                found.0, found.1
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// libcuda.so.1 of this process.
pub struct Library {
    handle: *mut c_void,
    table: &'static ShimTable,
}

// SAFETY: dlopen's handle may be used from any thread, and the table's functions as well.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("libcuda.so.1")
    }
}

/// The reason in dlerror, which the failed call has set for this thread.
fn last_error() -> String {
    // SAFETY: dlerror gives null or a string that stays until this thread's next call of the
    // dynamic linker.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            return "no reason was given".to_owned();
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

impl Library {
    /// Loads libcuda.so.1 at the first call. It stays loaded, since it owns the channel.
    pub fn open() -> Result<&'static Library, OpenError> {
        static OPENED: OnceLock<Result<Library, OpenError>> = OnceLock::new();
        OPENED
            .get_or_init(Library::load)
            .as_ref()
            .map_err(Clone::clone)
    }

    fn load() -> Result<Library, OpenError> {
        // SAFETY: a NUL-terminated name; the library's initialisers are ours, or those of a
        // library that the program would load by the same name.
        let handle = unsafe { libc::dlopen(NAME.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            return Err(OpenError::Missing(last_error()));
        }
        // SAFETY: a handle of dlopen and a NUL-terminated name.
        let table = unsafe { libc::dlsym(handle, SYMBOL.as_ptr()) }.cast::<ShimTable>();
        if table.is_null() {
            return Err(OpenError::Foreign);
        }
        // SAFETY: the symbol is ours alone. Size, version and hash come first in every version of
        // the table, and it lies in a library that is never unloaded.
        let (bytes, version, hash) =
            unsafe { ((*table).bytes, (*table).version, (*table).protocol_hash) };
        if bytes as usize != size_of::<ShimTable>() || version != VERSION || hash != PROTOCOL_HASH {
            return Err(OpenError::Version {
                found: (version, hash),
            });
        }
        // SAFETY: it is of this version and size, and never changes.
        let table = unsafe { &*table };
        Ok(Library { handle, table })
    }

    /// The address of an exported function of libcuda.
    pub fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: a handle of dlopen and a NUL-terminated name.
        let at = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        (!at.is_null()).then_some(at)
    }

    /// Claims the channel, if that has not been done. Gives what cuDriverGetVersion answers.
    pub fn connect(&self) -> Result<i32, Status> {
        let mut version = 0;
        // SAFETY: a place for the value.
        done(unsafe { (self.table.connect)(&raw mut version) })?;
        Ok(version)
    }

    /// The calling thread's current context.
    pub fn current(&self) -> Result<CtxId, Status> {
        let mut ctx = 0;
        // SAFETY: a place for the value.
        done(unsafe { (self.table.current)(&raw mut ctx) })?;
        Ok(CtxId(ctx))
    }

    /// Checks a stream's handle; gives its context and id.
    pub fn stream(&self, handle: u64, per_thread: bool) -> Result<(CtxId, StreamId), Status> {
        let (mut ctx, mut stream) = (0, 0);
        let handle = handle as *mut c_void;
        // SAFETY: places for the two values; the handle is only compared.
        done(unsafe {
            (self.table.stream)(handle, u32::from(per_thread), &raw mut ctx, &raw mut stream)
        })?;
        Ok((CtxId(ctx), StreamId(stream)))
    }

    /// Where work of a stream goes; in a capture it becomes a node of the graph.
    pub fn place(&self, handle: u64) -> Result<Place<'_>, Status> {
        let (mut ctx, mut stream, mut capturing) = (0, 0, 0);
        // SAFETY: places for the three values; the handle is only compared.
        done(unsafe {
            (self.table.place)(
                handle as *mut c_void,
                0,
                &raw mut ctx,
                &raw mut stream,
                &raw mut capturing,
            )
        })?;
        Ok(Place {
            library: self,
            handle,
            ctx: CtxId(ctx),
            stream: StreamId(stream),
            capturing: capturing != 0,
        })
    }

    /// The default stream of a context, whatever captures.
    pub fn default_stream(&self, ctx: CtxId) -> Place<'_> {
        Place {
            library: self,
            handle: 0,
            ctx,
            stream: StreamId(0),
            capturing: false,
        }
    }

    /// Prints a line where `VGPU_LOG` says.
    pub fn log(&self, line: &str) {
        // SAFETY: so many readable bytes.
        unsafe { (self.table.log)(line.as_ptr().cast(), line.len()) }
    }
}

/// Where work goes: to the host, or into the graph that its stream captures.
#[derive(Debug)]
pub struct Place<'a> {
    library: &'a Library,
    handle: u64,
    /// The stream's context.
    pub ctx: CtxId,
    /// The stream for the request: 0 in a capture.
    pub stream: StreamId,
    /// The stream captures.
    pub capturing: bool,
}

impl Remote for Place<'_> {
    fn call<T>(
        &self,
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        decode: &mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Status> {
        if !self.capturing {
            return self.library.call(opcode, ctx, request, decode);
        }
        if !opcode.in_graphs() {
            // "Operation not permitted when stream is capturing": as any call that waits for it, it
            // ends the capture.
            return Err(match self.library.stream(self.handle, false) {
                Err(status) => status,
                Ok(_) => Status::ERROR_STREAM_CAPTURE_UNSUPPORTED,
            });
        }
        let parts = parts(&request);
        let handle = self.handle as *mut c_void;
        // SAFETY: the parts lie in `request`, which lives until the end of this function.
        done(unsafe {
            (self.library.table.record)(handle, 0, opcode as u16, parts.as_ptr(), parts.len())
        })?;
        decode(&[]).map_err(|_| Status::ERROR_UNKNOWN)
    }
}

/// A request as it crosses to the other library.
fn parts(request: &Writer<'_>) -> Vec<Part> {
    let of = |part: &[u8]| Part {
        at: part.as_ptr(),
        bytes: part.len(),
    };
    request.parts().into_iter().map(of).collect()
}

fn done(result: u32) -> Result<(), Status> {
    if result == 0 {
        Ok(())
    } else {
        Err(Status(result))
    }
}

struct Taker<'a, T> {
    decode: &'a mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    taken: Option<Result<T, WireError>>,
}

unsafe extern "C" fn take<T>(user: *mut c_void, at: *const u8, bytes: usize) {
    // SAFETY: `user` is the Taker that `call` below has given, which nothing else uses until the
    // table's function returns.
    let taker = unsafe { &mut *user.cast::<Taker<'_, T>>() };
    // SAFETY: the table's contract: so many readable bytes; never null, as it comes of a slice.
    let reply = unsafe { std::slice::from_raw_parts(at, bytes) };
    taker.taken = Some((taker.decode)(reply));
}

impl Remote for Library {
    fn call<T>(
        &self,
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        decode: &mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Status> {
        let parts = parts(&request);
        let mut taker = Taker {
            decode,
            taken: None,
        };
        // SAFETY: the parts lie in `request`, which lives until the end of this function, and
        // `take::<T>` gets the Taker that it expects.
        done(unsafe {
            (self.table.call)(
                opcode as u16,
                ctx.0,
                parts.as_ptr(),
                parts.len(),
                take::<T>,
                (&raw mut taker).cast(),
            )
        })?;
        match taker.taken {
            Some(Ok(value)) => Ok(value),
            _ => Err(Status::ERROR_UNKNOWN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Host;
    use vgpu_protocol::calls::{DevPtr, stubs};

    #[derive(Debug)]
    struct Echo;

    impl Host for Echo {
        fn connect() -> Result<i32, Status> {
            Ok(13000)
        }
        fn current() -> Result<CtxId, Status> {
            Err(Status::ERROR_INVALID_CONTEXT)
        }
        fn stream(handle: u64, per_thread: bool) -> Result<(CtxId, StreamId), Status> {
            Ok((CtxId(handle as u32), StreamId(u32::from(per_thread))))
        }
        fn place(handle: u64, _: bool) -> Result<(CtxId, StreamId, bool), Status> {
            Ok((CtxId(3), StreamId(0), handle == 7))
        }
        fn record(handle: u64, _: bool, opcode: Opcode, request: Writer<'_>) -> Result<(), Status> {
            assert_eq!((handle, opcode), (7, Opcode::cublasLevel1));
            assert!(!request.parts().concat().is_empty());
            Ok(())
        }
        fn call(
            opcode: Opcode,
            ctx: CtxId,
            request: Writer<'_>,
            take: &mut dyn FnMut(&[u8]),
        ) -> Result<(), Status> {
            match opcode {
                // Answers with the request.
                Opcode::cuMemAlloc => take(&request.parts().concat()),
                Opcode::cuMemcpyHtoD_inline => {
                    assert_eq!(ctx, CtxId(5));
                    assert!(request.parts().concat().ends_with(&[7; 5000]));
                    take(&[]);
                }
                // A reply that is too short.
                Opcode::cuMemGetInfo => take(&[1, 2]),
                _ => panic!("no panic may leave the library"),
            }
            Ok(())
        }
        fn log(_: &str) {}
    }

    static TABLE: ShimTable = ShimTable::of::<Echo>();

    fn library() -> Library {
        Library {
            handle: std::ptr::null_mut(),
            table: &TABLE,
        }
    }

    #[test]
    fn requests_and_replies_pass_the_table_unchanged() {
        let library = library();
        let got = stubs::mem_alloc(&library, CtxId(1), 0x1234_5678_9abc);
        assert_eq!(got, Ok(DevPtr(0x1234_5678_9abc)));
        let sent =
            stubs::memcpy_htod_inline(&library, CtxId(5), DevPtr(1), StreamId(0), &[7; 5000]);
        assert_eq!(sent, Ok(()));
    }

    #[test]
    fn what_a_capturing_stream_gets_becomes_a_node() {
        let library = library();
        let place = library.place(7).expect("a stream");
        assert!(place.capturing && place.ctx == CtxId(3));
        let op = vgpu_protocol::calls::BlasRoutine::default();
        assert_eq!(stubs::blas_level1(&place, place.ctx, op), Ok(()));
        // A call that waits cannot be one.
        let waited = stubs::ctx_synchronize(&place, place.ctx);
        assert_eq!(waited, Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED));
    }

    #[test]
    fn errors_short_replies_and_panics_become_results() {
        let library = library();
        assert_eq!(library.connect(), Ok(13000));
        assert_eq!(library.current(), Err(Status::ERROR_INVALID_CONTEXT));
        assert_eq!(library.stream(9, true), Ok((CtxId(9), StreamId(1))));
        let short = stubs::mem_get_info(&library, CtxId(1));
        assert_eq!(short, Err(Status::ERROR_UNKNOWN));
        let panicked = stubs::ctx_synchronize(&library, CtxId(1));
        assert_eq!(panicked, Err(Status::ERROR_UNKNOWN));
    }
}
