//! Streams. Their ids are chosen here, so that making one needs no round trip.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{CUcontext, CUdevice, CUevent, CUstream};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, StreamId, stubs};

use crate::abi::{Done, INVALID, In, Out, Zero, exports};
use crate::capture::{Capturing, Target, join};
use crate::ctx::{Ctx, current};
use crate::ctx_events;
use crate::graph::Work;
use crate::init::{Driver, driver};
use crate::pending::{Pending, Seen, Use, Wait};

/// `CU_STREAM_NON_BLOCKING`, the one flag.
const NON_BLOCKING: u32 = 1;
/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`: handles with a meaning.
const LEGACY: u64 = 1;
const PER_THREAD: u64 = 2;
/// `CU_EVENT_WAIT_EXTERNAL`.
const WAIT_EXTERNAL: u32 = 1;

/// A stream that the program made.
#[derive(Debug)]
pub struct Stream {
    /// The context it belongs to.
    pub ctx: Arc<Ctx>,
    /// The host's name for it.
    pub id: StreamId,
    flags: u32,
    priority: i32,
    unique: u64,
    /// The capture that it belongs to.
    pub capture: Mutex<Option<Capturing>>,
    /// Whether there is one.
    pub captures: AtomicBool,
    /// `CUstreamAttrValue`s that the program has set, by `CUstreamAttrID`.
    attributes: Mutex<HashMap<u32, [u64; 8]>>,
    /// What it was given and not waited for.
    pub pending: Pending,
}

impl Stream {
    fn new(ctx: Arc<Ctx>, id: StreamId, flags: u32, priority: i32, unique: u64) -> Stream {
        Stream {
            ctx,
            id,
            flags,
            priority,
            unique,
            capture: Mutex::new(None),
            captures: AtomicBool::new(false),
            attributes: Mutex::default(),
            pending: Pending::default(),
        }
    }

    /// Whether it is ordered with the default stream.
    pub fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }
}

/// Where work goes: a stream and its context.
pub struct Queue {
    /// The context.
    pub ctx: Arc<Ctx>,
    /// Its number.
    pub ctx_id: CtxId,
    /// The stream's number.
    pub id: StreamId,
    /// The stream, where it is not the context's default stream.
    pub stream: Option<Arc<Stream>>,
    /// Counts what the call gives to it.
    pub uses: Use,
}

impl Queue {
    /// For a call that gives the stream no work.
    pub fn looked_at(mut self) -> Queue {
        self.uses.nothing();
        self
    }

    /// What the stream has been given; none for the default stream, which waits for others, too.
    pub fn seen(&self) -> Option<Seen> {
        self.stream.as_ref().map(|stream| stream.pending.seen())
    }

    /// Whether nothing that comes before the next work of the stream could still change memory of the program.
    pub fn is_harmless(&self) -> bool {
        let Some(stream) = &self.stream else {
            return false;
        };
        stream.pending.is_harmless() && !self.follows_others()
    }

    /// Whether its work may have to come after work that it was not given itself: of the default stream, of which
    /// even a copy waits for all other streams' work, or of what the context waits for.
    fn follows_others(&self) -> bool {
        let blocking = self.stream.as_ref().is_none_or(|s| s.is_blocking());
        let default_stream = &self.ctx.default_stream;
        let idle = default_stream.wait_for(default_stream.seen()) == Wait::Nothing;
        blocking && !idle || self.ctx.awaits()
    }

    /// All of this has been waited for.
    pub fn waited_for(&self, seen: Option<Seen>) {
        if let (Some(stream), Some(seen)) = (&self.stream, seen) {
            stream.pending.waited_for(seen);
        }
    }
}

/// This thread's default streams, by context handle. Destroyed with the thread.
#[derive(Default)]
struct OwnStreams {
    epoch: u64,
    streams: HashMap<u64, Arc<Stream>>,
}

impl Drop for OwnStreams {
    fn drop(&mut self) {
        let Ok(driver) = driver() else { return };
        if self.epoch != vgpu_transport::process::epoch() {
            return;
        }
        for stream in self.streams.values() {
            driver.end_capture_of(stream);
            if let Ok(id) = stream.ctx.id() {
                // The thread is gone: nobody is left to be told.
                let _ = stubs::stream_destroy(driver.channel, id, stream.id);
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

fn own_stream(driver: &Driver, ctx: &Arc<Ctx>, ctx_id: CtxId) -> Done<Arc<Stream>> {
    OWN.try_with(|own| {
        let mut own = own.borrow_mut();
        let epoch = vgpu_transport::process::epoch();
        if own.epoch != epoch {
            own.streams.clear();
            own.epoch = epoch;
        }
        // A primary context may have been destroyed and made again under the same handle.
        if let Some(stream) = own
            .streams
            .get(&ctx.handle)
            .filter(|s| s.ctx.id() == Ok(ctx_id))
        {
            return Ok(Arc::clone(stream));
        }
        let id = StreamId(driver.new_stream_id());
        stubs::stream_create(driver.channel, ctx_id, id, 0, 0)?;
        ctx_events::hold(driver, ctx, ctx_id, id)?;
        let unique = driver.unique_id();
        let stream = Arc::new(Stream::new(Arc::clone(ctx), id, 0, 0, unique));
        own.streams.insert(ctx.handle, Arc::clone(&stream));
        Ok(stream)
    })
    .map_err(|_| Status::ERROR_DEINITIALIZED)?
}

impl Driver {
    /// What a stream handle names, whether it captures or not; `zero` says what 0 means.
    pub fn any_queue(&self, stream: CUstream, zero: Zero) -> Done<Queue> {
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
                uses: Use::of(Some(&stream), &stream.ctx),
                stream: Some(stream),
            });
        }
        let ctx = current()?;
        let ctx_id = ctx.id()?;
        let own = handle == PER_THREAD || (handle != LEGACY && zero == Zero::PerThread);
        let stream = match own {
            true => Some(own_stream(self, &ctx, ctx_id)?),
            false => None,
        };
        Ok(Queue {
            uses: Use::of(stream.as_ref(), &ctx),
            ctx,
            ctx_id,
            id: stream.as_ref().map_or(StreamId(0), |s| s.id),
            stream,
        })
    }
}

/// `CU_STREAM_ATTRIBUTE_…`: access policy window, synchronization policy, priority, memory
/// synchronization domain map and domain.
const SYNCHRONIZATION_POLICY: u32 = 3;
const PRIORITY: u32 = 8;
const KNOWN_ATTRIBUTES: [u32; 5] = [1, SYNCHRONIZATION_POLICY, PRIORITY, 9, 10];

fn check_attribute(attribute: u32) -> Done {
    if KNOWN_ATTRIBUTES.contains(&attribute) {
        Ok(())
    } else {
        Err(INVALID)
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
    ctx_events::hold(driver, &ctx, ctx_id, id)?;
    let unique = driver.unique_id();
    let made = driver
        .streams
        .insert(|_| Stream::new(ctx, id, flags, priority, unique));
    out.set(made.ok_or(Status::ERROR_OUT_OF_MEMORY)?.0 as CUstream)
}

/// Waits for a stream's work.
pub fn wait(stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = driver.queue(stream, zero)?.looked_at();
    driver.check_unsafe()?;
    let seen = queue.seen();
    let default_stream = &queue.ctx.default_stream;
    let seen_of_default = queue.stream.is_none().then(|| default_stream.seen());
    match needed(driver, &queue, seen) {
        Wait::Nothing => {}
        Wait::Order => driver.channel.post_wait(queue.ctx_id, queue.id)?,
        Wait::Answer => stubs::stream_synchronize(driver.channel, queue.ctx_id, queue.id)?,
    }
    queue.waited_for(seen);
    if let Some(seen) = seen_of_default {
        default_stream.waited_for(seen);
    }
    driver.release_pools();
    Ok(())
}

/// What waiting for a stream needs. An error that is known of, or looked for, is fetched.
fn needed(driver: &Driver, queue: &Queue, seen: Option<Seen>) -> Wait {
    match (&queue.stream, seen) {
        (Some(stream), Some(seen)) if driver.channel.is_untroubled() && !queue.ctx.awaits() => {
            match stream.pending.wait_for(seen) {
                // Who has waited for a copy has waited for all that it came after.
                Wait::Order if queue.follows_others() => Wait::Answer,
                wait => wait,
            }
        }
        _ => Wait::Answer,
    }
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
        driver.end_capture_of(&stream);
        stubs::stream_destroy(driver.channel, stream.ctx.id()?, stream.id)
    }

    /// Waits for a stream's work.
    fn cuStreamSynchronize | cuStreamSynchronize_ptsz [zero] (stream: CUstream) {
        wait(stream, zero)
    }

    /// Success, or CUDA_ERROR_NOT_READY while work is left.
    fn cuStreamQuery | cuStreamQuery_ptsz [zero] (stream: CUstream) {
        let driver = driver()?;
        let queue = driver.queue(stream, zero)?.looked_at();
        driver.check_unsafe()?;
        let seen = queue.seen();
        if needed(driver, &queue, seen) == Wait::Nothing {
            return Ok(());
        }
        stubs::stream_query(driver.channel, queue.ctx_id, queue.id)?;
        queue.waited_for(seen);
        Ok(())
    }

    /// Makes a stream wait for an event.
    fn cuStreamWaitEvent | cuStreamWaitEvent_ptsz [zero] (stream: CUstream, event: CUevent, flags: u32) {
        let driver = driver()?;
        let target = driver.target(stream, zero)?;
        let handle = event as u64;
        let event = driver.event(event)?;
        if flags & !WAIT_EXTERNAL != 0 {
            return Err(INVALID);
        }
        let captured = event.captured();
        let queue = match target {
            Target::Capture(capture) if flags == WAIT_EXTERNAL => {
                return capture.add(Work::Wait { handle, event });
            }
            // "If the event was not recorded, this call acts as if the record has already completed."
            Target::Capture(_) if captured.is_none() && !event.was_recorded() => return Ok(()),
            Target::Capture(capture) => return capture.wait(captured.as_ref()),
            // "CU_EVENT_WAIT_EXTERNAL … only in stream capture."
            Target::Queue(_) if flags == WAIT_EXTERNAL => return Err(INVALID),
            Target::Queue(queue) => queue,
        };
        if let Some(captured) = captured.filter(|c| c.is_live()) {
            return join(driver, &queue, &captured);
        }
        // There is nothing to wait for; but on streams that the default stream orders, the call does so, too.
        if !event.was_recorded() && queue.stream.as_ref().is_some_and(|s| !s.is_blocking()) {
            return Ok(());
        }
        stubs::stream_wait_event(driver.channel, queue.ctx_id, queue.id, event.id, 0)
    }

    /// A stream's flags.
    fn cuStreamGetFlags | cuStreamGetFlags_ptsz [zero] (stream: CUstream, flags: Out<u32>) {
        let queue = driver()?.any_queue(stream, zero)?.looked_at();
        flags.check()?;
        flags.set(queue.stream.map_or(0, |s| s.flags))
    }

    /// A stream's priority.
    fn cuStreamGetPriority | cuStreamGetPriority_ptsz [zero] (stream: CUstream, priority: Out<i32>) {
        let queue = driver()?.any_queue(stream, zero)?.looked_at();
        priority.check()?;
        priority.set(queue.stream.map_or(0, |s| s.priority))
    }

    /// A stream's context.
    fn cuStreamGetCtx | cuStreamGetCtx_ptsz [zero] (stream: CUstream, ctx: Out<CUcontext>) {
        let queue = driver()?.any_queue(stream, zero)?.looked_at();
        ctx.check()?;
        ctx.set(queue.ctx.handle as CUcontext)
    }

    /// A stream's context, or its green context, of which there are none.
    fn cuStreamGetCtx_v2 | cuStreamGetCtx_v2_ptsz [zero] (stream: CUstream, ctx: Out<CUcontext>, green: Out<u64>) {
        let queue = driver()?.any_queue(stream, zero)?.looked_at();
        ctx.check()?;
        green.set_if_given(0);
        ctx.set(queue.ctx.handle as CUcontext)
    }

    /// A stream's green context: no stream has one.
    fn cuStreamGetGreenCtx(stream: CUstream, green: Out<u64>) {
        driver()?.any_queue(stream, Zero::Legacy)?;
        green.check()?;
        green.set(0)
    }

    /// A stream's device.
    fn cuStreamGetDevice | cuStreamGetDevice_ptsz [zero] (stream: CUstream, device: Out<CUdevice>) {
        let queue = driver()?.any_queue(stream, zero)?.looked_at();
        device.check()?;
        device.set(queue.ctx.device)
    }

    /// A number that no other stream of this process has.
    fn cuStreamGetId | cuStreamGetId_ptsz [zero] (stream: CUstream, id: Out<u64>) {
        let queue = driver()?.any_queue(stream, zero)?.looked_at();
        id.check()?;
        // Default streams: the context and the stream's number make the number.
        let default = queue.ctx.handle << 20 | u64::from(queue.id.0);
        id.set(queue.stream.map_or(default, |s| s.unique))
    }

    /// An attribute of a stream; 0 where it was not set.
    fn cuStreamGetAttribute | cuStreamGetAttribute_ptsz [zero] (stream: CUstream, attribute: u32, value: Out<[u64; 8]>) {
        let queue = driver()?.any_queue(stream, zero)?.looked_at();
        value.check()?;
        check_attribute(attribute)?;
        let mut found = [0; 8];
        if attribute == PRIORITY {
            found[0] = u64::from(queue.stream.as_ref().map_or(0, |s| s.priority) as u32);
        }
        if let Some(stream) = &queue.stream {
            let set = stream.attributes.lock().unwrap_or_else(|e| e.into_inner());
            found = set.get(&attribute).copied().unwrap_or(found);
        }
        value.set(found)
    }

    /// Sets an attribute of a stream: hints, all of them.
    fn cuStreamSetAttribute | cuStreamSetAttribute_ptsz [zero] (stream: CUstream, attribute: u32, value: In<[u64; 8]>) {
        let queue = driver()?.any_queue(stream, zero)?.looked_at();
        let value = value.get()?;
        check_attribute(attribute)?;
        // Priorities are for ever; the default stream keeps no attributes.
        let stream = queue.stream.ok_or(Status::ERROR_NOT_SUPPORTED)?;
        if attribute == PRIORITY {
            return Err(INVALID);
        }
        if attribute == SYNCHRONIZATION_POLICY && !(1..=4).contains(&(value[0] as u32)) {
            return Err(INVALID);
        }
        let mut set = stream.attributes.lock().unwrap_or_else(|e| e.into_inner());
        set.insert(attribute, value);
        Ok(())
    }

    /// Copies the attributes of a stream of the same context.
    fn cuStreamCopyAttributes | cuStreamCopyAttributes_ptsz [zero] (to: CUstream, from: CUstream) {
        let driver = driver()?;
        let (to, from) = (driver.any_queue(to, zero)?, driver.any_queue(from, zero)?);
        if !Arc::ptr_eq(&to.ctx, &from.ctx) {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        let get = |s: &Stream| s.attributes.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let all = from.stream.as_deref().map(get).unwrap_or_default();
        if let Some(to) = &to.stream {
            *to.attributes.lock().unwrap_or_else(|e| e.into_inner()) = all;
        }
        Ok(())
    }
}
