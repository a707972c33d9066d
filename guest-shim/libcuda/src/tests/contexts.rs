//! Initialisation, devices, contexts and fork.

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;
use std::thread;

use super::{
    INVALID_CONTEXT, INVALID_HANDLE, INVALID_VALUE, SUCCESS, alloc, context, function, module, turn,
};
use crate::abi::{Host, Out, Text, in_forked_child};
use crate::ctx::*;
use crate::device::*;
use crate::func::cuFuncGetAttribute;
use crate::init::{cuDriverGetVersion, cuInit};
use crate::mem::cuMemFree_v2;
use crate::memset::cuMemsetD8_v2;
use crate::stream::{cuStreamCreate, cuStreamQuery};

const NOT_INITIALIZED: u32 = 3;
const INVALID_DEVICE: u32 = 101;
const CONTEXT_IS_DESTROYED: u32 = 709;
const NOT_SUPPORTED: u32 = 801;

fn current() -> u64 {
    let mut ctx = null_mut();
    assert_eq!(cuCtxGetCurrent(Out::to(&mut ctx)), SUCCESS);
    ctx as u64
}

#[test]
fn flags_of_init_must_be_zero() {
    let _turn = turn();
    assert_eq!(cuInit(1), INVALID_VALUE);
    assert_eq!(cuInit(0), SUCCESS);
    let mut version = 0;
    assert_eq!(cuDriverGetVersion(Out::to(&mut version)), SUCCESS);
    assert_eq!(version, 12_080);
    assert_eq!(cuDriverGetVersion(Out::null()), INVALID_VALUE);
}

#[test]
fn the_device_shows_its_place_in_the_guest() {
    let _turn = turn();
    let mut text = [0 as c_char; 13];
    assert_eq!(
        cuDeviceGetPCIBusId(Out::to(&mut text[0]), 12, 0),
        INVALID_VALUE
    );
    assert_eq!(cuDeviceGetPCIBusId(Out::to(&mut text[0]), 13, 0), SUCCESS);
    let text = text.map(|c| c as u8);
    let id = CStr::from_bytes_until_nul(&text).expect("terminated");
    assert_eq!(id, c"0000:00:05.0");
    let mut device = -1;
    assert_eq!(
        cuDeviceGetByPCIBusId(Out::to(&mut device), Text::to(c"0000:00:05.0")),
        SUCCESS
    );
    assert_eq!(device, 0);
    let other = Text::to(c"0000:00:06.0");
    assert_eq!(
        cuDeviceGetByPCIBusId(Out::to(&mut device), other),
        INVALID_DEVICE
    );
    let (mut bus, mut slot) = (-1, -1);
    assert_eq!(cuDeviceGetAttribute(Out::to(&mut bus), 33, 0), SUCCESS);
    assert_eq!(cuDeviceGetAttribute(Out::to(&mut slot), 34, 0), SUCCESS);
    assert_eq!((bus, slot), (0, 5));
}

#[test]
fn device_arguments_are_checked() {
    let _turn = turn();
    let mut device = 0;
    assert_eq!(cuDeviceGet(Out::to(&mut device), 1), INVALID_DEVICE);
    assert_eq!(cuDeviceGet(Out::to(&mut device), -1), INVALID_DEVICE);
    assert_eq!(cuDeviceGet(Out::null(), 0), INVALID_VALUE);
    let mut name = [1 as c_char; 5];
    assert_eq!(cuDeviceGetName(Out::to(&mut name[0]), 0, 0), INVALID_VALUE);
    assert_eq!(cuDeviceGetName(Out::to(&mut name[0]), 5, 0), SUCCESS);
    assert_eq!(name.map(|c| c as u8), *b"fake\0");
    let mut value = 0;
    assert_eq!(
        cuDeviceGetAttribute(Out::to(&mut value), 0, 0),
        INVALID_VALUE
    );
    assert_eq!(
        cuDeviceGetAttribute(Out::to(&mut value), 1, 7),
        INVALID_DEVICE
    );
    assert_eq!(cuDeviceGetAttribute(Out::to(&mut value), 1, 0), SUCCESS);
    assert_eq!(value, 1024);
}

#[test]
fn contexts_stack_per_thread() {
    let _turn = turn();
    assert_eq!(current(), 0);
    assert_eq!(cuCtxSynchronize(), INVALID_CONTEXT);
    assert_eq!(cuCtxPopCurrent_v2(Out::null()), INVALID_CONTEXT);
    let a = context();
    let b = context();
    assert_eq!(current(), b.0 as u64);
    thread::spawn(|| assert_eq!(current(), 0))
        .join()
        .expect("no panic");
    let mut popped = null_mut();
    assert_eq!(cuCtxPopCurrent_v2(Out::to(&mut popped)), SUCCESS);
    assert_eq!(popped, b.0);
    assert_eq!(current(), a.0 as u64);
    assert_eq!(cuCtxSetCurrent(b.0), SUCCESS);
    assert_eq!(current(), b.0 as u64);
    assert_eq!(cuCtxSetCurrent(null_mut()), SUCCESS);
    assert_eq!(current(), 0);
    assert_eq!(cuCtxPushCurrent_v2(a.0), SUCCESS);
    assert_eq!(cuCtxDestroy_v2(a.0), SUCCESS);
    assert_eq!(current(), 0, "destroying the current context pops it");
    assert_eq!(cuCtxDestroy_v2(a.0), INVALID_CONTEXT);
    assert_eq!(cuCtxPushCurrent_v2(a.0), INVALID_CONTEXT);
    assert_eq!(cuCtxDestroy_v2(null_mut()), INVALID_VALUE);
}

#[test]
fn a_context_takes_all_that_it_owns_along() {
    let _turn = turn();
    let ctx = context();
    let at = alloc(16);
    let kernel = function(module());
    let mut stream = null_mut();
    assert_eq!(cuStreamCreate(Out::to(&mut stream), 0), SUCCESS);
    let other = context();
    assert_eq!(cuCtxDestroy_v2(ctx.0), SUCCESS);
    assert_eq!(cuMemFree_v2(at), INVALID_VALUE);
    assert_eq!(cuStreamQuery(stream), INVALID_HANDLE);
    let mut value = 0;
    assert_eq!(
        cuFuncGetAttribute(Out::to(&mut value), 0, kernel),
        INVALID_HANDLE
    );
    drop(other);
    // Destroyed while it was below the top: still on the stack, and says so.
    assert_eq!(cuCtxSynchronize(), CONTEXT_IS_DESTROYED);
    assert_eq!(cuCtxPopCurrent_v2(Out::null()), SUCCESS);
}

#[test]
fn the_primary_context_lives_as_long_as_somebody_retains_it() {
    let _turn = turn();
    let (mut first, mut second) = (null_mut(), null_mut());
    let state = || {
        let (mut flags, mut active) = (9, 9);
        let done = cuDevicePrimaryCtxGetState(0, Out::to(&mut flags), Out::to(&mut active));
        assert_eq!((done, flags), (SUCCESS, 0));
        active
    };
    assert_eq!(state(), 0);
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), INVALID_CONTEXT);
    assert_eq!(cuDevicePrimaryCtxRetain(Out::to(&mut first), 0), SUCCESS);
    assert_eq!(cuDevicePrimaryCtxRetain(Out::to(&mut second), 0), SUCCESS);
    assert_eq!(first, second);
    assert_eq!(cuCtxSetCurrent(first), SUCCESS);
    assert_eq!(cuCtxDestroy_v2(first), INVALID_CONTEXT);
    let at = alloc(16);
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), SUCCESS);
    assert_eq!(state(), 1);
    assert_eq!(cuMemsetD8_v2(at, 0, 16), SUCCESS);
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), SUCCESS);
    assert_eq!(state(), 0);
    assert_eq!(cuCtxSynchronize(), CONTEXT_IS_DESTROYED);
    // The same handle comes to life again.
    assert_eq!(cuDevicePrimaryCtxRetain(Out::to(&mut second), 0), SUCCESS);
    assert_eq!(first, second);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
    assert_eq!(cuMemFree_v2(at), INVALID_VALUE);
    assert_eq!(cuDevicePrimaryCtxReset_v2(0), SUCCESS);
    assert_eq!(state(), 0);
    assert_eq!(cuCtxSetCurrent(null_mut()), SUCCESS);
}

#[test]
fn flags_and_versions_of_contexts_are_checked() {
    let _turn = turn();
    let mut ctx = null_mut();
    assert_eq!(cuCtxCreate_v2(Out::to(&mut ctx), 0x100, 0), INVALID_VALUE);
    assert_eq!(cuCtxCreate_v2(Out::to(&mut ctx), 3, 0), INVALID_VALUE);
    // Core dumps and CU_CTX_SYNC_MEMOPS: nothing would carry them out.
    for flags in [0x20, 0x40, 0x80] {
        assert_eq!(cuCtxCreate_v2(Out::to(&mut ctx), flags, 0), NOT_SUPPORTED);
        assert_eq!(cuDevicePrimaryCtxSetFlags(0, flags), NOT_SUPPORTED);
    }
    assert_eq!(cuCtxCreate_v2(Out::to(&mut ctx), 0, 3), INVALID_DEVICE);
    assert_eq!(cuCtxCreate_v2(Out::null(), 0, 0), INVALID_VALUE);
    let none = || Host(null_mut());
    assert_eq!(cuCtxCreate_v3(Out::to(&mut ctx), none(), 1, 0, 0), 224);
    assert_eq!(cuCtxCreate_v3(Out::to(&mut ctx), none(), 0, 4, 0), SUCCESS);
    let mut flags = 0;
    assert_eq!(cuCtxGetFlags(Out::to(&mut flags)), SUCCESS);
    assert_eq!(flags, 4);
    assert_eq!(cuCtxDestroy_v2(ctx), SUCCESS);
    assert_eq!(cuCtxCreate_v4(Out::to(&mut ctx), none(), 0, 0), SUCCESS);
    let mut limit = 0;
    assert_eq!(cuCtxGetLimit(Out::to(&mut limit), 0), SUCCESS);
    assert_eq!(limit, 1024);
    assert_eq!(cuCtxGetLimit(Out::to(&mut limit), 99), 215);
    assert_eq!(cuCtxDestroy_v2(ctx), SUCCESS);
}

#[test]
fn a_child_of_fork_starts_from_nothing_and_leaves_the_parent_alone() {
    let turn = turn();
    let ctx = context();
    let at = alloc(16);
    let status = in_forked_child(|| {
        let mut device = 0;
        let refused = cuCtxSynchronize() == NOT_INITIALIZED
            && cuMemFree_v2(1) == NOT_INITIALIZED
            && cuDeviceGetCount(Out::to(&mut device)) == NOT_INITIALIZED;
        if refused { 0 } else { 1 }
    });
    assert_eq!(status, 0);
    assert_eq!(cuMemsetD8_v2(at, 0, 16), SUCCESS);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
    assert_eq!(turn.device.host().count("cuInit"), 1);
    drop(ctx);
}
