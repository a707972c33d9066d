//! The driver's objects that a random program uses.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use cudarc::driver::sys::{self, CUresult};

use crate::call;
use crate::cuda::Failed;

/// The kernels, in PTX that any GPU since compute capability 7.5 executes.
pub const KERNELS: &str = r"
.version 7.0
.target sm_75
.address_size 64

// p[i] = p[i] * a + b, rounds times
.visible .entry churn(
    .param .u64 churn_p, .param .u32 churn_n, .param .u32 churn_a, .param .u32 churn_b,
    .param .u32 churn_rounds
)
{
    .reg .pred %p<3>;
    .reg .b32 %r<12>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [churn_p];
    ld.param.u32 %r1, [churn_n];
    ld.param.u32 %r2, [churn_a];
    ld.param.u32 %r3, [churn_b];
    ld.param.u32 %r4, [churn_rounds];
    mov.u32 %r5, %ctaid.x;
    mov.u32 %r6, %ntid.x;
    mov.u32 %r7, %tid.x;
    mad.lo.u32 %r8, %r5, %r6, %r7;
    setp.ge.u32 %p1, %r8, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd2, %r8, 4;
    add.u64 %rd3, %rd1, %rd2;
    ld.global.u32 %r9, [%rd3];
    mov.u32 %r10, 0;
AGAIN:
    mad.lo.u32 %r9, %r9, %r2, %r3;
    add.u32 %r10, %r10, 1;
    setp.lt.u32 %p2, %r10, %r4;
    @%p2 bra AGAIN;
    st.global.u32 [%rd3], %r9;
DONE:
    ret;
}

// d[i] = d[i] * 31 + s[i]
.visible .entry combine(
    .param .u64 combine_d, .param .u64 combine_s, .param .u32 combine_n
)
{
    .reg .pred %p<2>;
    .reg .b32 %r<10>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [combine_d];
    ld.param.u64 %rd2, [combine_s];
    ld.param.u32 %r1, [combine_n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd3, %r5, 4;
    add.u64 %rd4, %rd1, %rd3;
    add.u64 %rd5, %rd2, %rd3;
    ld.global.u32 %r6, [%rd4];
    ld.global.u32 %r7, [%rd5];
    mad.lo.u32 %r8, %r6, 31, %r7;
    st.global.u32 [%rd4], %r8;
DONE:
    ret;
}
";

/// A stream; null is the legacy default stream.
#[derive(Clone, Copy)]
pub struct Stream(sys::CUstream);

impl Stream {
    /// The legacy default stream.
    pub fn default_stream() -> Stream {
        Stream(ptr::null_mut())
    }

    /// A stream that waits for the default stream, or does not.
    pub fn new(blocking: bool) -> Result<Stream, Failed> {
        let mut stream = ptr::null_mut();
        // SAFETY: `stream` is writable; the flags are CU_STREAM_DEFAULT and CU_STREAM_NON_BLOCKING.
        unsafe { call!(cuStreamCreate(&mut stream, u32::from(!blocking))) }?;
        Ok(Stream(stream))
    }

    /// Ends it; its work goes on.
    pub fn destroy(self) -> Result<(), Failed> {
        // SAFETY: the stream exists, and whoever calls this uses it no more.
        unsafe { call!(cuStreamDestroy_v2(self.0)) }
    }

    /// Waits for its work.
    pub fn synchronize(self) -> Result<(), Failed> {
        // SAFETY: the stream exists.
        unsafe { call!(cuStreamSynchronize(self.0)) }
    }

    /// Asks until its work is done.
    pub fn poll(self) -> Result<(), Failed> {
        loop {
            // SAFETY: the stream exists.
            match unsafe { call!(cuStreamQuery(self.0)) } {
                Err(e) if e.result == CUresult::CUDA_ERROR_NOT_READY => std::thread::yield_now(),
                other => return other,
            }
        }
    }

    /// Has it wait for an event.
    pub fn wait_for(self, event: Event) -> Result<(), Failed> {
        // SAFETY: both exist.
        unsafe { call!(cuStreamWaitEvent(self.0, event.0, 0)) }
    }

    /// Writes 4 bytes when it comes to it.
    pub fn write_value(self, at: u64, value: u32) -> Result<(), Failed> {
        // SAFETY: the stream exists; the address is checked by the driver.
        unsafe { call!(cuStreamWriteValue32_v2(self.0, at, value, 0)) }
    }

    /// Has it wait until 4 bytes have reached a value (CU_STREAM_WAIT_VALUE_GEQ).
    pub fn wait_value(self, at: u64, value: u32) -> Result<(), Failed> {
        // SAFETY: as in `write_value`.
        unsafe { call!(cuStreamWaitValue32_v2(self.0, at, value, 0)) }
    }

    /// Has a number added to a list when it comes to it.
    pub fn note(self, notes: &Notes, number: u64) -> Result<(), Failed> {
        let note = Box::new((Arc::clone(&notes.0), number));
        let data = Box::into_raw(note).cast();
        // SAFETY: the stream exists; the driver calls `add_note` once with `data`, which is a box
        // that `add_note` takes.
        let launched = unsafe { call!(cuLaunchHostFunc(self.0, Some(add_note), data)) };
        if launched.is_err() {
            // SAFETY: nobody will call the function: the box is still ours.
            drop(unsafe { Box::from_raw(data.cast::<(NoteList, u64)>()) });
        }
        launched
    }
}

type NoteList = Arc<Mutex<Vec<u64>>>;

/// Numbers that streams have noted, in the order in which they did.
#[derive(Clone, Default)]
pub struct Notes(NoteList);

impl Notes {
    /// All so far.
    pub fn all(&self) -> Vec<u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

unsafe extern "C" fn add_note(data: *mut c_void) {
    // SAFETY: `data` is the box that `Stream::note` made, given to the driver for one call.
    let note = unsafe { Box::from_raw(data.cast::<(NoteList, u64)>()) };
    note.0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(note.1);
}

/// An event.
#[derive(Clone, Copy)]
pub struct Event(sys::CUevent);

impl Event {
    /// An event, with a time or without (CU_EVENT_DISABLE_TIMING).
    pub fn new(timed: bool) -> Result<Event, Failed> {
        let mut event = ptr::null_mut();
        // SAFETY: `event` is writable.
        unsafe { call!(cuEventCreate(&mut event, if timed { 0 } else { 2 })) }?;
        Ok(Event(event))
    }

    /// Ends it.
    pub fn destroy(self) -> Result<(), Failed> {
        // SAFETY: the event exists, and whoever calls this uses it no more.
        unsafe { call!(cuEventDestroy_v2(self.0)) }
    }

    /// Marks this point of a stream.
    pub fn record(self, stream: Stream) -> Result<(), Failed> {
        // SAFETY: both exist.
        unsafe { call!(cuEventRecord(self.0, stream.0)) }
    }

    /// Waits until the point is reached.
    pub fn synchronize(self) -> Result<(), Failed> {
        // SAFETY: the event exists.
        unsafe { call!(cuEventSynchronize(self.0)) }
    }

    /// Asks until the point is reached.
    pub fn poll(self) -> Result<(), Failed> {
        loop {
            // SAFETY: the event exists.
            match unsafe { call!(cuEventQuery(self.0)) } {
                Err(e) if e.result == CUresult::CUDA_ERROR_NOT_READY => std::thread::yield_now(),
                other => return other,
            }
        }
    }
}

/// Host memory that the driver has made for copies. It is read and written by index, because the
/// device may be using other parts of it.
pub struct Pinned {
    at: *mut u32,
    length: usize,
}

impl Pinned {
    /// So many words.
    pub fn new(length: usize) -> Result<Pinned, Failed> {
        let mut at = ptr::null_mut();
        // SAFETY: `at` is writable.
        unsafe { call!(cuMemHostAlloc(&mut at, length * 4, 0)) }?;
        Ok(Pinned {
            at: at.cast(),
            length,
        })
    }

    /// Stores words; the device must not be using the memory.
    pub fn store(&mut self, from: &[u32]) {
        let length = from.len().min(self.length);
        // SAFETY: within the allocation, of which no reference exists.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.at, length) };
    }

    /// All words; the device must not be writing the memory.
    pub fn load(&self) -> Vec<u32> {
        let mut all = vec![0; self.length];
        // SAFETY: within both.
        unsafe { ptr::copy_nonoverlapping(self.at, all.as_mut_ptr(), self.length) };
        all
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the memory is the driver's, and freed once.
        let _ = unsafe { call!(cuMemFreeHost(self.at.cast())) };
    }
}

/// Device memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Its address.
    pub at: u64,
    /// Length in words.
    pub words: usize,
}

impl Memory {
    /// So many words.
    pub fn new(words: usize) -> Result<Memory, Failed> {
        let mut at = 0;
        // SAFETY: `at` is writable.
        unsafe { call!(cuMemAlloc_v2(&mut at, words * 4)) }?;
        Ok(Memory { at, words })
    }

    /// Frees it.
    pub fn free(self) -> Result<(), Failed> {
        // SAFETY: the driver checks the address.
        unsafe { call!(cuMemFree_v2(self.at)) }
    }

    /// A part of it: `words` words from `from` on.
    pub fn part(self, from: usize, words: usize) -> Memory {
        Memory {
            at: self.at + from as u64 * 4,
            words,
        }
    }

    /// Copies from the program, in a stream or (`None`) as a call that CUDA orders with the
    /// default stream.
    pub fn write(self, from: &[u32], stream: Option<Stream>) -> Result<(), Failed> {
        let (at, data, bytes) = (self.at, from.as_ptr().cast(), size_of_val(from));
        // SAFETY: `from` is readable; memory that is not page-locked may be changed when the call
        // has returned ("the source is staged").
        unsafe {
            match stream {
                None => call!(cuMemcpyHtoD_v2(at, data, bytes)),
                Some(stream) => call!(cuMemcpyHtoDAsync_v2(at, data, bytes, stream.0)),
            }
        }
    }

    /// Copies to the program; the bytes are there when this returns, because the memory is not
    /// page-locked ("the function will return only once the copy has completed").
    pub fn read(self, stream: Option<Stream>) -> Result<Vec<u32>, Failed> {
        let mut into = vec![0u32; self.words];
        let (at, data, bytes) = (self.at, into.as_mut_ptr().cast(), self.words * 4);
        // SAFETY: `into` is writable for that length.
        unsafe {
            match stream {
                None => call!(cuMemcpyDtoH_v2(data, at, bytes)),
                Some(stream) => call!(cuMemcpyDtoHAsync_v2(data, at, bytes, stream.0)),
            }
        }?;
        Ok(into)
    }

    /// Copies from pinned memory, some time later.
    pub fn write_pinned(self, from: &Pinned, stream: Stream) -> Result<(), Failed> {
        let bytes = self.words.min(from.length) * 4;
        // SAFETY: the pinned memory lives until all work is done (see `program`).
        unsafe {
            call!(cuMemcpyHtoDAsync_v2(
                self.at,
                from.at.cast(),
                bytes,
                stream.0
            ))
        }
    }

    /// Copies to pinned memory, some time later.
    pub fn read_pinned(self, into: &mut Pinned, stream: Stream) -> Result<(), Failed> {
        let bytes = self.words.min(into.length) * 4;
        // SAFETY: as in `write_pinned`.
        unsafe {
            call!(cuMemcpyDtoHAsync_v2(
                into.at.cast(),
                self.at,
                bytes,
                stream.0
            ))
        }
    }

    /// Sets elements of 1, 2 or 4 bytes.
    pub fn set(self, width: usize, value: u32, stream: Stream) -> Result<(), Failed> {
        let (at, bytes, stream) = (self.at, self.words * 4, stream.0);
        // SAFETY: the driver checks address and length.
        unsafe {
            match width {
                1 => call!(cuMemsetD8Async(at, value as u8, bytes, stream)),
                2 => call!(cuMemsetD16Async(at, value as u16, bytes / 2, stream)),
                _ => call!(cuMemsetD32Async(at, value, bytes / 4, stream)),
            }
        }
    }

    /// Copies within the device.
    pub fn copy_from(self, from: Memory, stream: Stream) -> Result<(), Failed> {
        let bytes = self.words.min(from.words) * 4;
        // SAFETY: the driver checks addresses and length.
        unsafe { call!(cuMemcpyDtoDAsync_v2(self.at, from.at, bytes, stream.0)) }
    }
}

/// The kernels, loaded.
pub struct Kernels {
    module: sys::CUmodule,
    churn: sys::CUfunction,
    combine: sys::CUfunction,
}

impl Kernels {
    /// Loads them.
    pub fn load() -> Result<Kernels, Failed> {
        let mut text = KERNELS.as_bytes().to_vec();
        text.push(0);
        let mut module = ptr::null_mut();
        // SAFETY: `module` is writable; the text ends with a zero.
        unsafe { call!(cuModuleLoadData(&mut module, text.as_ptr().cast())) }?;
        let function = |name: &std::ffi::CStr| {
            let mut function = ptr::null_mut();
            // SAFETY: `function` is writable; the module exists; the name ends with a zero.
            unsafe { call!(cuModuleGetFunction(&mut function, module, name.as_ptr())) }?;
            Ok(function)
        };
        Ok(Kernels {
            module,
            churn: function(c"churn")?,
            combine: function(c"combine")?,
        })
    }

    /// Lets go of them.
    pub fn unload(self) -> Result<(), Failed> {
        // SAFETY: the module exists, and its functions are used no more.
        unsafe { call!(cuModuleUnload(self.module)) }
    }

    /// `p[i] = p[i] * a + b`, `rounds` times.
    pub fn churn(
        &self,
        p: Memory,
        (a, b, rounds): (u32, u32, u32),
        stream: Stream,
    ) -> Result<(), Failed> {
        let (mut at, mut n, mut a, mut b, mut rounds) = (p.at, p.words as u32, a, b, rounds);
        let mut arguments: [*mut c_void; 5] = [
            (&raw mut at).cast(),
            (&raw mut n).cast(),
            (&raw mut a).cast(),
            (&raw mut b).cast(),
            (&raw mut rounds).cast(),
        ];
        launch(self.churn, p.words, stream, &mut arguments)
    }

    /// `d[i] = d[i] * 31 + s[i]`.
    pub fn combine(&self, d: Memory, s: Memory, stream: Stream) -> Result<(), Failed> {
        let words = d.words.min(s.words);
        let (mut to, mut from, mut n) = (d.at, s.at, words as u32);
        let mut arguments: [*mut c_void; 3] = [
            (&raw mut to).cast(),
            (&raw mut from).cast(),
            (&raw mut n).cast(),
        ];
        launch(self.combine, words, stream, &mut arguments)
    }

    /// A launch that CUDA must refuse: a block of 4096 threads.
    pub fn too_many_threads(&self, stream: Stream) -> CUresult {
        let mut nothing = [0u64; 5];
        let mut arguments: Vec<*mut c_void> = nothing
            .iter_mut()
            .map(|n| std::ptr::from_mut(n).cast())
            .collect();
        // SAFETY: five places that are readable for each parameter's size.
        unsafe {
            sys::cuLaunchKernel(
                self.churn,
                1,
                1,
                1,
                4096,
                1,
                1,
                0,
                stream.0,
                arguments.as_mut_ptr(),
                ptr::null_mut(),
            )
        }
    }
}

fn launch(
    function: sys::CUfunction,
    words: usize,
    stream: Stream,
    arguments: &mut [*mut c_void],
) -> Result<(), Failed> {
    const BLOCK: usize = 128;
    // SAFETY: the arguments are those of the kernel's parameters, in order and of their sizes.
    unsafe {
        call!(cuLaunchKernel(
            function,
            words.div_ceil(BLOCK) as u32,
            1,
            1,
            BLOCK as u32,
            1,
            1,
            0,
            stream.0,
            arguments.as_mut_ptr(),
            ptr::null_mut()
        ))
    }
}

/// Captures what `body` submits to a stream and launches it so many times.
pub fn graph(
    stream: Stream,
    launches: usize,
    body: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the stream exists; all places are writable; each object is destroyed once.
    unsafe {
        call!(cuStreamBeginCapture_v2(
            stream.0,
            sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        ))?;
        let captured = body();
        call!(cuStreamEndCapture(stream.0, &mut graph))?;
        captured?;
        call!(cuGraphInstantiateWithFlags(&mut executable, graph, 0))?;
        for _ in 0..launches {
            call!(cuGraphLaunch(executable, stream.0))?;
        }
        call!(cuGraphExecDestroy(executable))?;
        call!(cuGraphDestroy(graph))
    }
}

/// Waits for all work of the context.
pub fn synchronize() -> Result<(), Failed> {
    // SAFETY: no preconditions.
    unsafe { call!(cuCtxSynchronize()) }
}
