//! Events. Their ids are chosen here, so that making one needs no round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::sys::{CUevent, CUstream};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{EventId, stubs};

use crate::abi::{Done, INVALID, Out, Zero, exports};
use crate::ctx::{Ctx, enter};
use crate::init::{Driver, driver};

/// Flags of events (`CUevent_flags`).
const BLOCKING_SYNC: u32 = 1;
const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;

/// An event.
#[derive(Debug)]
pub struct Event {
    /// The context it belongs to.
    pub ctx: Arc<Ctx>,
    /// The host's name for it.
    pub id: EventId,
    timing: bool,
    recorded: AtomicBool,
}

impl Event {
    /// True once it was recorded.
    pub fn was_recorded(&self) -> bool {
        self.recorded.load(Ordering::Acquire)
    }
}

impl Driver {
    /// The event of a handle.
    pub fn event(&self, event: CUevent) -> Done<Arc<Event>> {
        self.events
            .get(event as u64)
            .ok_or(Status::ERROR_INVALID_HANDLE)
    }
}

fn record(event: CUevent, stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    let event = driver.event(event)?;
    let queue = driver.queue(stream, zero)?;
    // "hEvent and hStream must be from the same context."
    if queue.ctx.handle != event.ctx.handle {
        return Err(Status::ERROR_INVALID_HANDLE);
    }
    stubs::event_record(driver.channel, queue.ctx_id, event.id, queue.id, 0)?;
    event.recorded.store(true, Ordering::Release);
    Ok(())
}

fn elapsed(milliseconds: Out<f32>, start: CUevent, end: CUevent) -> Done {
    let driver = driver()?;
    milliseconds.check()?;
    let (start, end) = (driver.event(start)?, driver.event(end)?);
    // "If either event … has not been recorded …, or was created with CU_EVENT_DISABLE_TIMING,
    // CUDA_ERROR_INVALID_HANDLE is returned."
    let usable = |e: &Event| e.timing && e.was_recorded();
    if !usable(&start) || !usable(&end) {
        return Err(Status::ERROR_INVALID_HANDLE);
    }
    let id = start.ctx.id()?;
    milliseconds.set(stubs::event_elapsed_time(
        driver.channel,
        id,
        start.id,
        end.id,
    )?)
}

exports! {
    /// Creates an event.
    fn cuEventCreate(out: Out<CUevent>, flags: u32) {
        let (driver, ctx, ctx_id) = enter()?;
        out.check()?;
        if flags & !(BLOCKING_SYNC | DISABLE_TIMING | INTERPROCESS) != 0 {
            return Err(INVALID);
        }
        if flags & INTERPROCESS != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let id = EventId(driver.new_event_id());
        stubs::event_create(driver.channel, ctx_id, id, flags)?;
        let made = driver.events.insert(|_| Event {
            ctx,
            id,
            timing: flags & DISABLE_TIMING == 0,
            recorded: AtomicBool::new(false),
        });
        out.set(made.ok_or(Status::ERROR_OUT_OF_MEMORY)?.0 as CUevent)
    }

    /// Records an event in a stream.
    fn cuEventRecord | cuEventRecord_ptsz [zero] (event: CUevent, stream: CUstream) {
        record(event, stream, zero)
    }

    /// Records an event in a stream; the one flag is for stream capture.
    fn cuEventRecordWithFlags | cuEventRecordWithFlags_ptsz [zero] (event: CUevent, stream: CUstream, flags: u32) {
        if flags != 0 {
            return Err(INVALID);
        }
        record(event, stream, zero)
    }

    /// Success, or CUDA_ERROR_NOT_READY until the last record is reached.
    fn cuEventQuery(event: CUevent) {
        let driver = driver()?;
        let event = driver.event(event)?;
        // "If cuEventRecord() has not been called …, CUDA_SUCCESS is returned."
        if !event.was_recorded() {
            return Ok(());
        }
        stubs::event_query(driver.channel, event.ctx.id()?, event.id)
    }

    /// Waits until the last record is reached.
    fn cuEventSynchronize(event: CUevent) {
        let driver = driver()?;
        let event = driver.event(event)?;
        if !event.was_recorded() {
            return Ok(());
        }
        stubs::event_synchronize(driver.channel, event.ctx.id()?, event.id)
    }

    /// Destroys an event.
    fn cuEventDestroy_v2 | cuEventDestroy [_same] (event: CUevent) {
        let driver = driver()?;
        let event = driver.events.remove(event as u64).ok_or(Status::ERROR_INVALID_HANDLE)?;
        stubs::event_destroy(driver.channel, event.ctx.id()?, event.id)
    }

    /// Milliseconds between two recorded events.
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: CUevent, end: CUevent) {
        elapsed(milliseconds, start, end)
    }

    /// Milliseconds between two recorded events.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: CUevent, end: CUevent) {
        elapsed(milliseconds, start, end)
    }
}
