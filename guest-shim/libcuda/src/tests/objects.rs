//! Streams and events.

use std::ptr::null_mut;
use std::thread;

use cudarc::driver::sys::{CUevent, CUstream};

use super::{INVALID_HANDLE, INVALID_VALUE, SUCCESS, alloc, context, turn};
use crate::abi::{Host, Out};
use crate::copy::{cuMemcpyHtoD_v2, cuMemcpyHtoD_v2_ptds};
use crate::ctx::{cuCtxPushCurrent_v2, cuCtxSynchronize};
use crate::event::*;
use crate::memset::{cuMemsetD8Async, cuMemsetD8Async_ptsz};
use crate::stream::*;

fn stream(flags: u32) -> CUstream {
    let mut stream = null_mut();
    assert_eq!(cuStreamCreate(Out::to(&mut stream), flags), SUCCESS);
    stream
}

fn event(flags: u32) -> CUevent {
    let mut event = null_mut();
    assert_eq!(cuEventCreate(Out::to(&mut event), flags), SUCCESS);
    event
}

#[test]
fn streams_have_their_flags_priority_and_context() {
    let _turn = turn();
    let ctx = context();
    let mut made = null_mut();
    assert_eq!(
        cuStreamCreateWithPriority(Out::to(&mut made), 1, -99),
        SUCCESS
    );
    let (mut flags, mut priority, mut of) = (0, 0, null_mut());
    assert_eq!(cuStreamGetFlags(made, Out::to(&mut flags)), SUCCESS);
    assert_eq!(cuStreamGetPriority(made, Out::to(&mut priority)), SUCCESS);
    assert_eq!(cuStreamGetCtx(made, Out::to(&mut of)), SUCCESS);
    assert_eq!((flags, priority, of), (1, -5, ctx.0));
    assert_eq!(cuStreamCreate(Out::to(&mut made), 2), INVALID_VALUE);
    let (mut a, mut b) = (0, 0);
    assert_eq!(cuStreamGetId(stream(0), Out::to(&mut a)), SUCCESS);
    assert_eq!(cuStreamGetId(stream(0), Out::to(&mut b)), SUCCESS);
    assert_ne!(a, b);
}

#[test]
fn destroyed_streams_and_events_are_invalid_handles() {
    let turn = turn();
    let _ctx = context();
    let (made, mark) = (stream(0), event(0));
    let before = turn.count("cuStreamDestroy");
    assert_eq!(cuStreamDestroy_v2(made), SUCCESS);
    assert_eq!(cuStreamDestroy_v2(made), INVALID_HANDLE);
    assert_eq!(cuStreamSynchronize(made), INVALID_HANDLE);
    assert_eq!(cuEventRecord(mark, made), INVALID_HANDLE);
    assert_eq!(cuEventDestroy_v2(mark), SUCCESS);
    assert_eq!(cuEventDestroy_v2(mark), INVALID_HANDLE);
    assert_eq!(cuEventQuery(mark), INVALID_HANDLE);
    assert_eq!(cuEventQuery(null_mut()), INVALID_HANDLE);
    assert_eq!(cuStreamDestroy_v2(null_mut()), INVALID_HANDLE);
    assert_eq!(cuStreamQuery(0x1234_5678 as CUstream), INVALID_HANDLE);
    // Only the first was sent.
    assert_eq!(turn.count("cuStreamDestroy"), before + 1);
}

#[test]
fn an_event_needs_a_record_before_it_has_a_time() {
    let _turn = turn();
    let _ctx = context();
    let (start, end, silent) = (event(0), event(0), event(2));
    let mut time = 0.0;
    assert_eq!(cuEventQuery(start), SUCCESS, "never recorded");
    assert_eq!(
        cuEventElapsedTime(Out::to(&mut time), start, end),
        INVALID_HANDLE
    );
    for mark in [start, end, silent] {
        assert_eq!(cuEventRecord(mark, null_mut()), SUCCESS);
    }
    assert_eq!(cuEventElapsedTime(Out::to(&mut time), start, end), SUCCESS);
    assert_eq!(time, 1.5);
    assert_eq!(
        cuEventElapsedTime(Out::to(&mut time), start, silent),
        INVALID_HANDLE
    );
    let mut made = null_mut();
    assert_eq!(cuEventCreate(Out::to(&mut made), 8), INVALID_VALUE);
    assert_eq!(
        cuEventCreate(Out::to(&mut made), 6),
        801,
        "between processes"
    );
    assert_eq!(cuStreamWaitEvent(null_mut(), start, 0), SUCCESS);
    assert_eq!(cuStreamWaitEvent(null_mut(), start, 4), INVALID_VALUE);
}

#[test]
fn an_event_cannot_be_recorded_in_another_context() {
    let _turn = turn();
    let _first = context();
    let mark = event(0);
    let _second = context();
    assert_eq!(cuEventRecord(mark, null_mut()), INVALID_HANDLE);
}

#[test]
fn default_streams_are_told_apart_and_a_thread_takes_its_own_along() {
    let turn = turn();
    let ctx = context();
    let at = alloc(16);
    let last = || {
        assert_eq!(cuCtxSynchronize(), SUCCESS);
        turn.device.host().stream
    };
    let set = |stream: usize| cuMemsetD8Async(at, 0, 16, stream as CUstream);
    let own = |stream: usize| cuMemsetD8Async_ptsz(at, 0, 16, stream as CUstream);
    assert_eq!(set(0), SUCCESS);
    assert_eq!(last(), 0);
    assert_eq!(own(1), SUCCESS);
    assert_eq!(last(), 0);
    assert_eq!(own(0), SUCCESS);
    let mine = last();
    assert_ne!(mine, 0);
    assert_eq!(set(2), SUCCESS);
    assert_eq!(last(), mine);
    let mut data = [1u8; 16];
    assert_eq!(cuMemcpyHtoD_v2_ptds(at, Host::to(&mut data), 16), SUCCESS);
    assert_eq!(last(), mine);
    assert_eq!(cuMemcpyHtoD_v2(at, Host::to(&mut data), 16), SUCCESS);
    assert_eq!(last(), 0);

    let handle = ctx.0 as usize;
    let before = turn.device.host().objects().0;
    let theirs = thread::spawn(move || {
        assert_eq!(cuCtxPushCurrent_v2(handle as _), SUCCESS);
        assert_eq!(cuMemsetD8Async_ptsz(at, 0, 16, null_mut()), SUCCESS);
        assert_eq!(cuCtxSynchronize(), SUCCESS);
    });
    theirs.join().expect("no panic");
    let stream = last();
    assert!(stream != 0 && stream != mine);
    assert_eq!(
        turn.device.host().objects().0,
        before,
        "destroyed with its thread"
    );
}
