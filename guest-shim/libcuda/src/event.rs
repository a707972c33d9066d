//! Events. Their ids are chosen here, so that making one needs no round trip.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{CUevent, CUstream};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{EventId, stubs};

use crate::abi::{Done, INVALID, Out, Zero, exports};
use crate::capture::{Captured, Target};
use crate::ctx::{Ctx, enter};
use crate::graph::Work;
use crate::init::{Driver, driver};

/// Flags of events (`CUevent_flags`).
const BLOCKING_SYNC: u32 = 1;
const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;
/// `CU_EVENT_RECORD_EXTERNAL`: a node of the graph, where a stream captures.
const RECORD_EXTERNAL: u32 = 1;

/// An event.
#[derive(Debug)]
pub struct Event {
    /// The context it belongs to.
    pub ctx: Arc<Ctx>,
    /// The host's name for it.
    pub id: EventId,
    timing: bool,
    recorded: AtomicBool,
    /// Its last record was in a capture.
    captured: Mutex<Option<Captured>>,
}

impl Event {
    /// True once it was recorded.
    pub fn was_recorded(&self) -> bool {
        self.recorded.load(Ordering::Acquire)
    }

    /// What it stands for, where its last record was in a capture.
    pub fn captured(&self) -> Option<Captured> {
        let captured = self.captured.lock().unwrap_or_else(|e| e.into_inner());
        captured.clone()
    }

    fn set_captured(&self, captured: Option<Captured>) {
        *self.captured.lock().unwrap_or_else(|e| e.into_inner()) = captured;
    }

    /// A graph records it when it is launched.
    pub fn will_be_recorded(&self) {
        self.recorded.store(true, Ordering::Release);
        self.set_captured(None);
    }

    /// Refuses what asks for a record that is only captured.
    fn check_not_captured(&self) -> Done {
        match self.captured().filter(Captured::is_live) {
            Some(captured) => Err(captured.refuse()),
            None => Ok(()),
        }
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

fn record(event: CUevent, stream: CUstream, flags: u32, zero: Zero) -> Done {
    let driver = driver()?;
    let handle = event as u64;
    let event = driver.event(event)?;
    let queue = match driver.target(stream, zero)? {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            if !Arc::ptr_eq(&capture.queue.ctx, &event.ctx) {
                return Err(capture.invalidate(Status::ERROR_INVALID_HANDLE));
            }
            if flags == RECORD_EXTERNAL {
                return capture.add(Work::Record { handle, event });
            }
            event.set_captured(Some(capture.record()?));
            return Ok(());
        }
    };
    if flags == RECORD_EXTERNAL {
        // "… cannot be used outside of a stream capture."
        return Err(INVALID);
    }
    // "hEvent and hStream must be from the same context."
    if queue.ctx.handle != event.ctx.handle {
        return Err(Status::ERROR_INVALID_HANDLE);
    }
    stubs::event_record(driver.channel, queue.ctx_id, event.id, queue.id, 0)?;
    event.will_be_recorded();
    Ok(())
}

fn elapsed(milliseconds: Out<f32>, start: CUevent, end: CUevent) -> Done {
    let driver = driver()?;
    let (start, end) = (driver.event(start)?, driver.event(end)?);
    milliseconds.check()?;
    // "If either event … has not been recorded …, or was created with CU_EVENT_DISABLE_TIMING,
    // CUDA_ERROR_INVALID_HANDLE is returned."
    start.check_not_captured()?;
    end.check_not_captured()?;
    let usable = |e: &Event| e.timing && e.was_recorded();
    // Clocks of two contexts are not compared.
    let same = start.ctx.handle == end.ctx.handle;
    if !same || !usable(&start) || !usable(&end) {
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
            // "… must be specified together with CU_EVENT_DISABLE_TIMING."
            return Err(match flags & DISABLE_TIMING {
                0 => INVALID,
                _ => Status::ERROR_NOT_SUPPORTED,
            });
        }
        let id = EventId(driver.new_event_id());
        stubs::event_create(driver.channel, ctx_id, id, flags)?;
        let made = driver.events.insert(|_| Event {
            ctx,
            id,
            timing: flags & DISABLE_TIMING == 0,
            recorded: AtomicBool::new(false),
            captured: Mutex::new(None),
        });
        out.set(made.ok_or(Status::ERROR_OUT_OF_MEMORY)?.0 as CUevent)
    }

    /// Records an event in a stream.
    fn cuEventRecord | cuEventRecord_ptsz [zero] (event: CUevent, stream: CUstream) {
        record(event, stream, 0, zero)
    }

    /// Records an event in a stream; the one flag is for stream capture.
    fn cuEventRecordWithFlags | cuEventRecordWithFlags_ptsz [zero] (event: CUevent, stream: CUstream, flags: u32) {
        if flags & !RECORD_EXTERNAL != 0 {
            return Err(INVALID);
        }
        record(event, stream, flags, zero)
    }

    /// Success, or CUDA_ERROR_NOT_READY until the last record is reached.
    fn cuEventQuery(event: CUevent) {
        let driver = driver()?;
        let event = driver.event(event)?;
        event.check_not_captured()?;
        driver.check_unsafe()?;
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
        event.check_not_captured()?;
        driver.check_unsafe()?;
        if !event.was_recorded() {
            return Ok(());
        }
        stubs::event_synchronize(driver.channel, event.ctx.id()?, event.id)?;
        driver.release_pools();
        Ok(())
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
