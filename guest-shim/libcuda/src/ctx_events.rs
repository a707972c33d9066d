//! Events of whole contexts: all work that a context has, and all that it will have.
//!
//! Work of streams that are ordered with the default stream is there when the default stream comes
//! to it; the other streams are gone through one by one.

use std::sync::Arc;

use cudarc::driver::sys::{CUcontext, CUevent};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventId, StreamId, stubs};

use crate::abi::{Done, exports};
use crate::ctx::Ctx;
use crate::init::{Driver, driver};

/// `CU_STREAM_NON_BLOCKING` and `CU_EVENT_DISABLE_TIMING`.
const NON_BLOCKING: u32 = 1;
const DISABLE_TIMING: u32 = 2;
/// The default stream.
const DEFAULT: StreamId = StreamId(0);

const UNSUPPORTED: Status = Status::ERROR_STREAM_CAPTURE_UNSUPPORTED;

/// The default stream and those that the program made, but for the ones that are ordered with it where
/// only `unordered` ones count.
fn streams(driver: &Driver, ctx: &Arc<Ctx>, unordered: bool) -> Vec<StreamId> {
    let made = driver.streams.all();
    let of = |stream: &crate::stream::Stream| {
        Arc::ptr_eq(&stream.ctx, ctx) && !(unordered && stream.is_blocking())
    };
    let made = made.into_iter().filter(|s| of(s)).map(|s| s.id);
    std::iter::once(DEFAULT).chain(made).collect()
}

/// A stream that nothing is ordered with.
fn aside(driver: &Driver, ctx: CtxId) -> Done<StreamId> {
    let id = StreamId(driver.new_stream_id());
    stubs::stream_create(driver.channel, ctx, id, NON_BLOCKING, 0)?;
    Ok(id)
}

fn new_event(driver: &Driver, ctx: CtxId) -> Done<EventId> {
    let id = EventId(driver.new_event_id());
    stubs::event_create(driver.channel, ctx, id, DISABLE_TIMING)?;
    Ok(id)
}

/// Has a stream that was just made wait for what its context waits for.
pub fn hold(driver: &Driver, ctx: &Ctx, ctx_id: CtxId, stream: StreamId) -> Done {
    let awaited = ctx.awaited.lock().unwrap_or_else(|e| e.into_inner());
    match *awaited {
        Some(event) => stubs::stream_wait_event(driver.channel, ctx_id, stream, event, 0),
        None => Ok(()),
    }
}

exports! {
    /// Records an event behind all work of a context so far.
    fn cuCtxRecordEvent(ctx: CUcontext, event: CUevent) {
        let driver = driver()?;
        let ctx = driver.context(ctx)?;
        let event = driver.event(event)?;
        // "hEvent and hCtx must be from the same CUDA context".
        if event.ctx.handle != ctx.handle {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let id = ctx.id()?;
        driver.refuse_captures_of(&ctx)?;
        let joined = aside(driver, id)?;
        for stream in streams(driver, &ctx, true) {
            let reached = new_event(driver, id)?;
            stubs::event_record(driver.channel, id, reached, stream, 0)?;
            stubs::stream_wait_event(driver.channel, id, joined, reached, 0)?;
            stubs::event_destroy(driver.channel, id, reached)?;
        }
        stubs::event_record(driver.channel, id, event.id, joined, 0)?;
        event.will_be_recorded();
        stubs::stream_destroy(driver.channel, id, joined)
    }

    /// Has all work of a context from now on wait for an event, which may be another context's.
    fn cuCtxWaitEvent(ctx: CUcontext, event: CUevent) {
        let driver = driver()?;
        let ctx = driver.context(ctx)?;
        let event = driver.event(event)?;
        let id = ctx.id()?;
        if let Some(captured) = event.captured().filter(|c| c.is_live()) {
            captured.refuse();
            return Err(UNSUPPORTED);
        }
        driver.refuse_captures_of(&ctx)?;
        if !event.was_recorded() {
            return Ok(());
        }
        // The event may be recorded again or destroyed: later streams wait for one of ours.
        let joined = aside(driver, id)?;
        let mut awaited = ctx.awaited.lock().unwrap_or_else(|e| e.into_inner());
        let reached = new_event(driver, id)?;
        stubs::stream_wait_event(driver.channel, id, joined, event.id, 0)?;
        if let Some(old) = awaited.replace(reached) {
            stubs::stream_wait_event(driver.channel, id, joined, old, 0)?;
            stubs::event_destroy(driver.channel, id, old)?;
        }
        stubs::event_record(driver.channel, id, reached, joined, 0)?;
        drop(awaited);
        stubs::stream_destroy(driver.channel, id, joined)?;
        for stream in streams(driver, &ctx, false) {
            stubs::stream_wait_event(driver.channel, id, stream, reached, 0)?;
        }
        Ok(())
    }
}
