//! Streams. Their ids are chosen here, so that making one needs no round trip.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::sys::{CUcontext, CUdevice, CUevent, CUstream};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, StreamId, stubs};

use crate::abi::{Done, INVALID, Out, Zero, exports};
use crate::ctx::{Ctx, current};
use crate::init::{Driver, driver};

/// `CU_STREAM_NON_BLOCKING`, the one flag.
const NON_BLOCKING: u32 = 1;
/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`: handles with a meaning.
const LEGACY: u64 = 1;
const PER_THREAD: u64 = 2;
/// `CU_STREAM_CAPTURE_STATUS_NONE`.
const CAPTURE_STATUS_NONE: i32 = 0;

/// A stream that the program made.
#[derive(Debug)]
pub struct Stream {
    /// The context it belongs to.
    pub ctx: Arc<Ctx>,
    id: StreamId,
    flags: u32,
    priority: i32,
    unique: u64,
}

/// Where work goes: a stream and its context.
pub struct Queue {
    /// The context.
    pub ctx: Arc<Ctx>,
    /// Its number.
    pub ctx_id: CtxId,
    /// The stream's number.
    pub id: StreamId,
    /// The stream, where it is not a default stream.
    stream: Option<Arc<Stream>>,
}

/// This thread's default streams, by context handle. Destroyed with the thread.
#[derive(Default)]
struct OwnStreams {
    epoch: u64,
    streams: HashMap<u64, (Arc<Ctx>, StreamId)>,
}

impl Drop for OwnStreams {
    fn drop(&mut self) {
        let Ok(driver) = driver() else { return };
        if self.epoch != vgpu_transport::process::epoch() {
            return;
        }
        for (ctx, stream) in self.streams.values() {
            if let Ok(id) = ctx.id() {
                // The thread is gone: nobody is left to be told.
                let _ = stubs::stream_destroy(driver.channel, id, *stream);
            }
        }
    }
}

thread_local! {
    static OWN: RefCell<OwnStreams> = RefCell::default();
}

/// Forgets this thread's default stream of a context that is gone.
pub fn forget_thread_streams(ctx: u64) {
    let _ = OWN.try_with(|own| own.borrow_mut().streams.remove(&ctx));
}

fn own_stream(driver: &Driver, ctx: &Arc<Ctx>, ctx_id: CtxId) -> Done<StreamId> {
    OWN.try_with(|own| {
        let mut own = own.borrow_mut();
        let epoch = vgpu_transport::process::epoch();
        if own.epoch != epoch {
            own.streams.clear();
            own.epoch = epoch;
        }
        // A primary context may have been destroyed and made again under the same handle.
        if let Some((_, id)) = own
            .streams
            .get(&ctx.handle)
            .filter(|(c, _)| c.id() == Ok(ctx_id))
        {
            return Ok(*id);
        }
        let id = StreamId(driver.new_stream_id());
        stubs::stream_create(driver.channel, ctx_id, id, 0, 0)?;
        own.streams.insert(ctx.handle, (Arc::clone(ctx), id));
        Ok(id)
    })
    .map_err(|_| Status::ERROR_DEINITIALIZED)?
}

impl Driver {
    /// What a stream handle names; `zero` says what 0 means.
    pub fn queue(&self, stream: CUstream, zero: Zero) -> Done<Queue> {
        let handle = stream as u64;
        if handle > PER_THREAD {
            let stream = self
                .streams
                .get(handle)
                .ok_or(Status::ERROR_INVALID_HANDLE)?;
            return Ok(Queue {
                ctx: Arc::clone(&stream.ctx),
                ctx_id: stream.ctx.id()?,
                id: stream.id,
                stream: Some(stream),
            });
        }
        let ctx = current()?;
        let ctx_id = ctx.id()?;
        let own = handle == PER_THREAD || (handle != LEGACY && zero == Zero::PerThread);
        let id = if own {
            own_stream(self, &ctx, ctx_id)?
        } else {
            StreamId(0)
        };
        Ok(Queue {
            ctx,
            ctx_id,
            id,
            stream: None,
        })
    }
}

fn create(out: Out<CUstream>, flags: u32, priority: i32) -> Done {
    let driver = driver()?;
    let ctx = current()?;
    let ctx_id = ctx.id()?;
    out.check()?;
    if flags & !NON_BLOCKING != 0 {
        return Err(INVALID);
    }
    // "Priorities outside of the range are clamped."
    let (least, greatest) = driver.device(ctx.device)?.priorities();
    let priority = priority.clamp(greatest.min(least), least.max(greatest));
    let id = StreamId(driver.new_stream_id());
    stubs::stream_create(driver.channel, ctx_id, id, flags, priority)?;
    let unique = driver.unique_id();
    let made = driver.streams.insert(|_| Stream {
        ctx,
        id,
        flags,
        priority,
        unique,
    });
    out.set(made.ok_or(Status::ERROR_OUT_OF_MEMORY)?.0 as CUstream)
}

/// Waits for a stream's work.
pub fn wait(stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = driver.queue(stream, zero)?;
    stubs::stream_synchronize(driver.channel, queue.ctx_id, queue.id)
}

exports! {
    /// Creates a stream.
    fn cuStreamCreate(out: Out<CUstream>, flags: u32) {
        create(out, flags, 0)
    }

    /// Creates a stream with a priority.
    fn cuStreamCreateWithPriority(out: Out<CUstream>, flags: u32, priority: i32) {
        create(out, flags, priority)
    }

    /// Destroys a stream once its work is done.
    fn cuStreamDestroy_v2 | cuStreamDestroy [_same] (stream: CUstream) {
        let driver = driver()?;
        let stream = driver.streams.remove(stream as u64).ok_or(Status::ERROR_INVALID_HANDLE)?;
        stubs::stream_destroy(driver.channel, stream.ctx.id()?, stream.id)
    }

    /// Waits for a stream's work.
    fn cuStreamSynchronize | cuStreamSynchronize_ptsz [zero] (stream: CUstream) {
        wait(stream, zero)
    }

    /// Success, or CUDA_ERROR_NOT_READY while work is left.
    fn cuStreamQuery | cuStreamQuery_ptsz [zero] (stream: CUstream) {
        let driver = driver()?;
        let queue = driver.queue(stream, zero)?;
        stubs::stream_query(driver.channel, queue.ctx_id, queue.id)
    }

    /// Makes a stream wait for an event.
    fn cuStreamWaitEvent | cuStreamWaitEvent_ptsz [zero] (stream: CUstream, event: CUevent, flags: u32) {
        let driver = driver()?;
        let queue = driver.queue(stream, zero)?;
        let event = driver.event(event)?;
        // CU_EVENT_WAIT_EXTERNAL (1) is for stream capture alone.
        if flags != 0 {
            return Err(INVALID);
        }
        // "If the event was not recorded, this call acts as if the record has already completed."
        if !event.was_recorded() {
            return Ok(());
        }
        stubs::stream_wait_event(driver.channel, queue.ctx_id, queue.id, event.id, 0)
    }

    /// A stream's flags.
    fn cuStreamGetFlags | cuStreamGetFlags_ptsz [zero] (stream: CUstream, flags: Out<u32>) {
        let queue = driver()?.queue(stream, zero)?;
        flags.check()?;
        flags.set(queue.stream.map_or(0, |s| s.flags))
    }

    /// A stream's priority.
    fn cuStreamGetPriority | cuStreamGetPriority_ptsz [zero] (stream: CUstream, priority: Out<i32>) {
        let queue = driver()?.queue(stream, zero)?;
        priority.check()?;
        priority.set(queue.stream.map_or(0, |s| s.priority))
    }

    /// A stream's context.
    fn cuStreamGetCtx | cuStreamGetCtx_ptsz [zero] (stream: CUstream, ctx: Out<CUcontext>) {
        let queue = driver()?.queue(stream, zero)?;
        ctx.check()?;
        ctx.set(queue.ctx.handle as CUcontext)
    }

    /// A stream's context, or its green context, of which there are none.
    fn cuStreamGetCtx_v2 | cuStreamGetCtx_v2_ptsz [zero] (stream: CUstream, ctx: Out<CUcontext>, green: Out<u64>) {
        let queue = driver()?.queue(stream, zero)?;
        ctx.check()?;
        green.set_if_given(0);
        ctx.set(queue.ctx.handle as CUcontext)
    }

    /// Whether a stream is capturing: capture cannot be begun.
    fn cuStreamIsCapturing | cuStreamIsCapturing_ptsz [zero] (stream: CUstream, status: Out<i32>) {
        driver()?.queue(stream, zero)?;
        status.check()?;
        status.set(CAPTURE_STATUS_NONE)
    }

    /// What a stream is capturing: nothing.
    fn cuStreamGetCaptureInfo | cuStreamGetCaptureInfo_ptsz [zero] (
        stream: CUstream, status: Out<i32>, _id: Out<u64>,
    ) {
        driver()?.queue(stream, zero)?;
        status.check()?;
        status.set(CAPTURE_STATUS_NONE)
    }

    /// What a stream is capturing: nothing. The other places get values only while one captures.
    fn cuStreamGetCaptureInfo_v2 | cuStreamGetCaptureInfo_v2_ptsz [zero] (
        stream: CUstream, status: Out<i32>, _id: Out<u64>, _graph: Out<u64>, _nodes: Out<u64>,
        _count: Out<usize>,
    ) {
        driver()?.queue(stream, zero)?;
        status.check()?;
        status.set(CAPTURE_STATUS_NONE)
    }

    /// What a stream is capturing: nothing. The other places get values only while one captures.
    fn cuStreamGetCaptureInfo_v3 | cuStreamGetCaptureInfo_v3_ptsz [zero] (
        stream: CUstream, status: Out<i32>, _id: Out<u64>, _graph: Out<u64>, _nodes: Out<u64>,
        _edges: Out<u64>, _count: Out<usize>,
    ) {
        driver()?.queue(stream, zero)?;
        status.check()?;
        status.set(CAPTURE_STATUS_NONE)
    }

    /// A stream's device.
    fn cuStreamGetDevice | cuStreamGetDevice_ptsz [zero] (stream: CUstream, device: Out<CUdevice>) {
        let queue = driver()?.queue(stream, zero)?;
        device.check()?;
        device.set(queue.ctx.device)
    }

    /// A number that no other stream of this process has.
    fn cuStreamGetId | cuStreamGetId_ptsz [zero] (stream: CUstream, id: Out<u64>) {
        let queue = driver()?.queue(stream, zero)?;
        id.check()?;
        // Default streams: the context and the stream's number make the number.
        let default = queue.ctx.handle << 20 | u64::from(queue.id.0);
        id.set(queue.stream.map_or(default, |s| s.unique))
    }
}
