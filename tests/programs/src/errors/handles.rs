//! Handles that name nothing.

use std::ptr;

use anyhow::{Result, ensure};

use super::{fails, fails_now_or_later};
use crate::call;
use crate::cuda::sys::CUresult::{
    CUDA_ERROR_CONTEXT_IS_DESTROYED, CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_HANDLE,
    CUDA_ERROR_INVALID_VALUE,
};
use crate::cuda::{Buffer, Event, Stream, sys};

/// The documentation names one of these for a handle that is none.
const NO_HANDLE: [sys::CUresult; 4] = [
    CUDA_ERROR_INVALID_HANDLE,
    CUDA_ERROR_INVALID_VALUE,
    CUDA_ERROR_INVALID_CONTEXT,
    CUDA_ERROR_CONTEXT_IS_DESTROYED,
];

pub fn null_handles(_: &str) -> Result<()> {
    let null = ptr::null_mut();
    let mut function = ptr::null_mut();
    // SAFETY: null for a handle is what the calls have to find out; the other pointers are valid.
    unsafe {
        let (none, name) = (ptr::null_mut(), c"x".as_ptr());
        fails(
            call!(cuLaunchKernel(
                null,
                1,
                1,
                1,
                1,
                1,
                1,
                0,
                ptr::null_mut(),
                none,
                ptr::null_mut()
            )),
            &NO_HANDLE,
        )?;
        fails(
            call!(cuModuleGetFunction(&mut function, ptr::null_mut(), name)),
            &NO_HANDLE,
        )?;
        fails(call!(cuModuleUnload(ptr::null_mut())), &NO_HANDLE)?;
        fails(
            call!(cuEventRecord(ptr::null_mut(), ptr::null_mut())),
            &NO_HANDLE,
        )?;
        fails(call!(cuEventDestroy_v2(ptr::null_mut())), &NO_HANDLE)?;
        fails(call!(cuCtxDestroy_v2(ptr::null_mut())), &NO_HANDLE)
    }
}

/// A number that no handle has. (NVIDIA's driver follows such a pointer and may crash: the row tells something
/// only about drivers that look handles up.)
pub fn foreign_handles(_: &str) -> Result<()> {
    const FOREIGN: usize = 0x1234_5670;
    let mut function = ptr::null_mut();
    // SAFETY: none for a driver that trusts handles; ours does not, which is the subject.
    unsafe {
        fails(
            call!(cuStreamSynchronize(FOREIGN as sys::CUstream)),
            &NO_HANDLE,
        )?;
        fails(
            call!(cuEventSynchronize(FOREIGN as sys::CUevent)),
            &NO_HANDLE,
        )?;
        let module = FOREIGN as sys::CUmodule;
        fails(
            call!(cuModuleGetFunction(&mut function, module, c"x".as_ptr())),
            &NO_HANDLE,
        )?;
        fails(call!(cuModuleUnload(module)), &NO_HANDLE)?;
        fails(
            call!(cuCtxSetCurrent(FOREIGN as sys::CUcontext)),
            &NO_HANDLE,
        )
    }
}

pub fn destroyed_handles(_: &str) -> Result<()> {
    let (mut stream, mut event) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: as for foreign handles.
    unsafe {
        call!(cuStreamCreate(&mut stream, 0))?;
        call!(cuStreamDestroy_v2(stream))?;
        fails(call!(cuStreamSynchronize(stream)), &NO_HANDLE)?;
        fails(call!(cuStreamDestroy_v2(stream)), &NO_HANDLE)?;
        call!(cuEventCreate(&mut event, 0))?;
        call!(cuEventDestroy_v2(event))?;
        fails(call!(cuEventQuery(event)), &NO_HANDLE)
    }
}

pub fn double_free(_: &str) -> Result<()> {
    let mut address = 0;
    // SAFETY: the second free is what the driver has to find out.
    unsafe {
        call!(cuMemAlloc_v2(&mut address, 4096))?;
        call!(cuMemFree_v2(address))?;
        fails_now_or_later(call!(cuMemFree_v2(address)), &[CUDA_ERROR_INVALID_VALUE])?;
    }
    ensure!(
        Buffer::from(&[1u8, 2, 3])?.read()? == [1, 2, 3],
        "memory does not work any more"
    );
    Ok(())
}

pub fn free_inside(_: &str) -> Result<()> {
    let buffer = Buffer::<u8>::zeros(4096)?;
    // SAFETY: an address that no allocation begins with is what the driver has to find out.
    let result = unsafe { call!(cuMemFree_v2(buffer.address() + 256)) };
    fails_now_or_later(result, &[CUDA_ERROR_INVALID_VALUE])
}

pub fn event_not_recorded(_: &str) -> Result<()> {
    let (start, end) = (Event::new()?, Event::new()?);
    let failed = end
        .since(&start)
        .err()
        .and_then(|error| error.downcast().ok());
    fails(failed.map_or(Ok(()), Err), &[CUDA_ERROR_INVALID_HANDLE])
}

pub fn event_without_time(_: &str) -> Result<()> {
    let stream = Stream::new()?;
    let (start, mut event, mut time) = (Event::new()?, ptr::null_mut(), 0.0);
    start.record(&stream)?;
    // SAFETY: all pointers are valid, and the event is destroyed once.
    unsafe {
        call!(cuEventCreate(
            &mut event,
            sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32
        ))?;
        call!(cuEventRecord(event, stream.raw()))?;
        call!(cuEventSynchronize(event))?;
        let result = call!(cuEventElapsedTime_v2(&mut time, start.raw(), event));
        call!(cuEventDestroy_v2(event))?;
        fails(result, &[CUDA_ERROR_INVALID_HANDLE])
    }
}
