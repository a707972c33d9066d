//! Events of whole contexts.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::raw::{Bench, Event, Mode, Stream, begin, code, end, expect};
use crate::call;
use crate::cuda::sys;

const NOT_READY: u32 = 600;
const INVALID_HANDLE: u32 = 400;
const CAPTURE_UNSUPPORTED: u32 = 900;
const CAPTURE_INVALIDATED: u32 = 901;

/// Holds a stream until it is opened.
unsafe extern "C" fn gate(open: *mut c_void) {
    // SAFETY: the test keeps it until the stream has come past this function.
    let open = unsafe { &*open.cast::<AtomicBool>() };
    while !open.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn current() -> Result<sys::CUcontext> {
    let mut context = ptr::null_mut();
    // SAFETY: a place for the result.
    unsafe { call!(cuCtxGetCurrent(&mut context))? };
    Ok(context)
}

/// An event recorded for a context is behind the work of all its streams; a context that waits for it holds the
/// streams that it has and those that are made later.
pub fn events() -> Result<String> {
    let context = current()?;
    let bench = Bench::new(3)?;
    bench.clear()?;
    let (first, second, ordered) = (Stream::new(1)?, Stream::new(1)?, Stream::new(0)?);
    let event = Event::new()?;
    let open = AtomicBool::new(false);
    let data = (&raw const open).cast_mut().cast();
    // SAFETY: the flag lives until the streams are waited for below, on every way out.
    unsafe { call!(cuLaunchHostFunc(first.0, Some(gate), data))? };
    let work = || -> Result<()> {
        for array in 0..3 {
            bench.step(array, 1, first.0)?;
        }
        // SAFETY: live handles.
        unsafe {
            call!(cuCtxRecordEvent(context, event.0))?;
            expect(
                "an event of a busy context",
                call!(cuEventQuery(event.0)),
                NOT_READY,
            )?;
            call!(cuCtxWaitEvent(context, event.0))?;
        }
        let later = Stream::new(1)?;
        bench.step(0, 2, second.0)?;
        bench.step(1, 2, ordered.0)?;
        bench.step(2, 2, later.0)?;
        // Whoever does not wait comes first.
        std::thread::sleep(Duration::from_millis(20));
        open.store(true, Ordering::Release);
        later.wait()
    };
    let worked = work();
    open.store(true, Ordering::Release);
    for stream in [&first, &second, &ordered] {
        stream.wait()?;
    }
    worked?;
    // SAFETY: a live handle.
    unsafe { call!(cuEventSynchronize(event.0))? };
    for array in 0..3 {
        let found = bench.read(array)?;
        ensure!(found == 5, "array {array}: {found}, expected 5");
    }
    Ok("3 streams behind another".to_owned())
}

/// No stream of the context may capture, and the event must be the context's.
pub fn bad_events() -> Result<String> {
    let context = current()?;
    let (stream, event) = (Stream::new(1)?, Event::new()?);
    for waits in [false, true] {
        begin(stream.0, Mode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
        // SAFETY: live handles.
        let result = unsafe {
            if waits {
                call!(cuCtxWaitEvent(context, event.0))
            } else {
                call!(cuCtxRecordEvent(context, event.0))
            }
        };
        expect("a context that captures", result, CAPTURE_UNSUPPORTED)?;
        let ended = code(&end(stream.0));
        ensure!(
            ended == CAPTURE_INVALIDATED,
            "the capture ended with {ended}"
        );
    }
    let mut other = ptr::null_mut();
    // SAFETY: places for results, live handles; the new context is destroyed, and the old one is current again.
    unsafe {
        call!(cuCtxCreate_v4(&mut other, ptr::null_mut(), 0, 0))?;
        let recorded = call!(cuCtxRecordEvent(other, event.0));
        call!(cuCtxDestroy_v2(other))?;
        call!(cuCtxSetCurrent(context))?;
        expect("an event of another context", recorded, INVALID_HANDLE)?;
    }
    Ok("4 refusals".to_owned())
}
