//! The table that libcuda exports, and what libcuda puts into it.
#![allow(unsafe_code)] // Pointers that cross between two libraries of ours.

use std::ffi::{c_char, c_void};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, Opcode, StreamId};
use vgpu_protocol::wire::Writer;

/// The table's name among libcuda's symbols. By it, too, a host knows that it has found this
/// library where it looked for NVIDIA's.
pub const SYMBOL: &std::ffi::CStr = c"vgpu_stub_shim";

/// Version of the layout of [`ShimTable`].
pub const VERSION: u32 = 2;

/// A piece of a request.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its first byte.
    pub at: *const u8,
    /// Its length.
    pub bytes: usize,
}

/// Takes the payload of a reply; called at most once, before the call returns.
pub type TakeReply = unsafe extern "C" fn(user: *mut c_void, at: *const u8, bytes: usize);

/// What libcuda does for the other libraries. All functions return a `CUresult`.
#[repr(C)]
#[derive(Debug)]
pub struct ShimTable {
    /// Size of this struct, in bytes.
    pub bytes: u32,
    /// [`VERSION`].
    pub version: u32,
    /// [`vgpu_protocol::PROTOCOL_HASH`]: both libraries must come from one build of the protocol.
    pub protocol_hash: u64,
    /// Claims the channel, if that has not been done; needs no cuInit. Stores what
    /// cuDriverGetVersion answers.
    pub connect: unsafe extern "C" fn(driver_version: *mut i32) -> u32,
    /// Stores the id of the calling thread's current context.
    pub current: unsafe extern "C" fn(ctx: *mut u32) -> u32,
    /// Checks a stream's handle. Stores the ids of its context and of the stream. `per_thread` not
    /// 0: the handle 0 means the thread's own default stream.
    pub stream: unsafe extern "C" fn(
        handle: *mut c_void,
        per_thread: u32,
        ctx: *mut u32,
        stream: *mut u32,
    ) -> u32,
    /// As `stream`, for work that may be captured: `capturing` becomes 1 where the stream captures, and
    /// the work is then given to `record`.
    pub place: unsafe extern "C" fn(
        handle: *mut c_void,
        per_thread: u32,
        ctx: *mut u32,
        stream: *mut u32,
        capturing: *mut u32,
    ) -> u32,
    /// Adds the call that `parts` make up, with stream 0, to the graph that a stream captures.
    pub record: unsafe extern "C" fn(
        handle: *mut c_void,
        per_thread: u32,
        opcode: u16,
        parts: *const Part,
        count: usize,
    ) -> u32,
    /// Sends the request that `parts` make up, and waits for its reply where the call's row says
    /// so.
    pub call: unsafe extern "C" fn(
        opcode: u16,
        ctx: u32,
        parts: *const Part,
        count: usize,
        take: TakeReply,
        user: *mut c_void,
    ) -> u32,
    /// Prints a line of UTF-8 as `VGPU_LOG` does.
    pub log: unsafe extern "C" fn(text: *const c_char, bytes: usize),
}

/// What libcuda has to be able to do.
pub trait Host {
    /// See [`ShimTable::connect`].
    fn connect() -> Result<i32, Status>;
    /// See [`ShimTable::current`].
    fn current() -> Result<CtxId, Status>;
    /// See [`ShimTable::stream`].
    fn stream(handle: u64, per_thread: bool) -> Result<(CtxId, StreamId), Status>;
    /// See [`ShimTable::place`].
    fn place(handle: u64, per_thread: bool) -> Result<(CtxId, StreamId, bool), Status>;
    /// See [`ShimTable::record`].
    fn record(
        handle: u64,
        per_thread: bool,
        opcode: Opcode,
        request: Writer<'_>,
    ) -> Result<(), Status>;
    /// See [`ShimTable::call`].
    fn call(
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Status>;
    /// See [`ShimTable::log`].
    fn log(line: &str);
}

impl ShimTable {
    /// The table of a host.
    pub const fn of<H: Host>() -> ShimTable {
        ShimTable {
            bytes: size_of::<ShimTable>() as u32,
            version: VERSION,
            protocol_hash: vgpu_protocol::PROTOCOL_HASH,
            connect: connect::<H>,
            current: current::<H>,
            stream: stream::<H>,
            place: place::<H>,
            record: record::<H>,
            call: call::<H>,
            log: log::<H>,
        }
    }
}

/// No panic may cross from one library into another.
fn guard(body: impl FnOnce() -> Result<(), Status>) -> u32 {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(status)) => status.0,
        Err(_) => Status::ERROR_UNKNOWN.0,
    }
}

unsafe extern "C" fn connect<H: Host>(driver_version: *mut i32) -> u32 {
    guard(|| {
        let version = H::connect()?;
        // SAFETY: the table's contract: a place for the value.
        unsafe { driver_version.write(version) };
        Ok(())
    })
}

unsafe extern "C" fn current<H: Host>(ctx: *mut u32) -> u32 {
    guard(|| {
        let id = H::current()?;
        // SAFETY: the table's contract: a place for the value.
        unsafe { ctx.write(id.0) };
        Ok(())
    })
}

unsafe extern "C" fn stream<H: Host>(
    handle: *mut c_void,
    per_thread: u32,
    ctx: *mut u32,
    stream: *mut u32,
) -> u32 {
    guard(|| {
        let ids = H::stream(handle as u64, per_thread != 0)?;
        // SAFETY: the table's contract: places for the two values.
        unsafe {
            ctx.write(ids.0.0);
            stream.write(ids.1.0);
        }
        Ok(())
    })
}

unsafe extern "C" fn place<H: Host>(
    handle: *mut c_void,
    per_thread: u32,
    ctx: *mut u32,
    stream: *mut u32,
    capturing: *mut u32,
) -> u32 {
    guard(|| {
        let (own, id, captures) = H::place(handle as u64, per_thread != 0)?;
        // SAFETY: the table's contract: places for the three values.
        unsafe {
            ctx.write(own.0);
            stream.write(id.0);
            capturing.write(captures.into());
        }
        Ok(())
    })
}

/// Puts a request together again.
///
/// # Safety
/// `count` parts, each readable as long as the request is used.
unsafe fn joined<'a>(parts: *const Part, count: usize) -> Writer<'a> {
    let mut request = Writer::new();
    for index in 0..count {
        // SAFETY: the caller's contract.
        let part = unsafe { parts.add(index).read() };
        if part.bytes > 0 {
            // SAFETY: as above; not null, as it has bytes.
            request.part(unsafe { std::slice::from_raw_parts(part.at, part.bytes) });
        }
    }
    request
}

unsafe extern "C" fn record<H: Host>(
    handle: *mut c_void,
    per_thread: u32,
    opcode: u16,
    parts: *const Part,
    count: usize,
) -> u32 {
    guard(|| {
        let opcode = Opcode::from_wire(opcode).ok_or(Status::ERROR_NOT_SUPPORTED)?;
        // SAFETY: the table's contract: `count` parts, each readable until the call returns.
        let request = unsafe { joined(parts, count) };
        H::record(handle as u64, per_thread != 0, opcode, request)
    })
}

unsafe extern "C" fn call<H: Host>(
    opcode: u16,
    ctx: u32,
    parts: *const Part,
    count: usize,
    take: TakeReply,
    user: *mut c_void,
) -> u32 {
    guard(|| {
        let opcode = Opcode::from_wire(opcode).ok_or(Status::ERROR_NOT_SUPPORTED)?;
        // SAFETY: the table's contract: `count` parts, each readable until the call returns.
        let request = unsafe { joined(parts, count) };
        H::call(opcode, CtxId(ctx), request, &mut |reply| {
            // SAFETY: the table's contract: `take` and `user` belong together, and the reply is
            // readable until it returns.
            unsafe { take(user, reply.as_ptr(), reply.len()) }
        })
    })
}

unsafe extern "C" fn log<H: Host>(text: *const c_char, bytes: usize) {
    guard(|| {
        // SAFETY: the table's contract: so many readable bytes.
        let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), bytes) };
        H::log(&String::from_utf8_lossy(text));
        Ok(())
    });
}
