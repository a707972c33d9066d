//! Numbers and pointers that no call takes.

use std::ffi::CStr;
use std::ptr;

use anyhow::{Result, ensure};

use super::{fails, fails_now_or_later};
use crate::call;
use crate::cuda::sys::CUresult::{
    CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_VALUE,
    CUDA_ERROR_NOT_INITIALIZED, CUDA_ERROR_OUT_OF_MEMORY,
};
use crate::cuda::{Buffer, memory, sys};

pub fn not_initialized(_: &str) -> Result<()> {
    let mut count = 0;
    // SAFETY: `count` is writable.
    fails(
        unsafe { call!(cuDeviceGetCount(&mut count)) },
        &[CUDA_ERROR_NOT_INITIALIZED],
    )
}

pub fn init_flags(_: &str) -> Result<()> {
    // SAFETY: no preconditions.
    fails(unsafe { call!(cuInit(1)) }, &[CUDA_ERROR_INVALID_VALUE])
}

pub fn device_ordinal(_: &str) -> Result<()> {
    let mut device = 0;
    for ordinal in [99, -1, i32::MAX] {
        // SAFETY: `device` is writable.
        let result = unsafe { call!(cuDeviceGet(&mut device, ordinal)) };
        fails(result, &[CUDA_ERROR_INVALID_DEVICE])?;
    }
    Ok(())
}

pub fn null_result_pointer(_: &str) -> Result<()> {
    // SAFETY: a null pointer for a result is what the calls have to find out.
    unsafe {
        fails(
            call!(cuMemAlloc_v2(ptr::null_mut(), 16)),
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            call!(cuStreamCreate(ptr::null_mut(), 0)),
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            call!(cuEventCreate(ptr::null_mut(), 0)),
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            call!(cuDeviceGetCount(ptr::null_mut())),
            &[CUDA_ERROR_INVALID_VALUE],
        )
    }
}

pub fn zero_bytes(_: &str) -> Result<()> {
    let mut address = 0;
    // SAFETY: `address` is writable.
    fails(
        unsafe { call!(cuMemAlloc_v2(&mut address, 0)) },
        &[CUDA_ERROR_INVALID_VALUE],
    )
}

pub fn too_many_bytes(_: &str) -> Result<()> {
    let (_, total) = memory()?;
    let mut address = 0;
    for bytes in [total + 1, 1 << 46, usize::MAX] {
        // SAFETY: `address` is writable.
        let result = unsafe { call!(cuMemAlloc_v2(&mut address, bytes)) };
        fails(
            result,
            &[CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_VALUE],
        )?;
    }
    Ok(())
}

pub fn no_context(_: &str) -> Result<()> {
    let (mut context, mut address) = (ptr::null_mut(), 0);
    // SAFETY: both are writable; the context that is set at the end is the one that was current.
    unsafe {
        call!(cuCtxGetCurrent(&mut context))?;
        call!(cuCtxSetCurrent(ptr::null_mut()))?;
        let result = call!(cuMemAlloc_v2(&mut address, 16));
        call!(cuCtxSetCurrent(context))?;
        fails(result, &[CUDA_ERROR_INVALID_CONTEXT])
    }
}

/// So far behind the end that no rounding of allocations hides it.
const FAR: usize = 64 << 20;

pub fn copy_past_the_end(_: &str) -> Result<()> {
    let buffer = Buffer::<u8>::zeros(1000)?;
    let mut host = vec![1u8; FAR];
    // SAFETY: the host's side has that many bytes; the device's range is for the driver to check.
    unsafe {
        let result = call!(cuMemcpyHtoD_v2(buffer.address(), host.as_ptr().cast(), FAR));
        fails_now_or_later(result, &[CUDA_ERROR_INVALID_VALUE])?;
        let result = call!(cuMemcpyDtoH_v2(
            host.as_mut_ptr().cast(),
            buffer.address(),
            FAR
        ));
        fails(result, &[CUDA_ERROR_INVALID_VALUE])?;
        let result = call!(cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), 16, 16));
        fails(result, &[CUDA_ERROR_INVALID_VALUE])?;
    }
    ensure!(
        buffer.read()? == vec![0; 1000],
        "a refused copy changed the buffer"
    );
    Ok(())
}

pub fn memset_past_the_end(_: &str) -> Result<()> {
    let buffer = Buffer::<u8>::zeros(1000)?;
    // SAFETY: the range is for the driver to check.
    let result = unsafe { call!(cuMemsetD8_v2(buffer.address(), 1, FAR)) };
    fails_now_or_later(result, &[CUDA_ERROR_INVALID_VALUE])
}

pub fn error_names(_: &str) -> Result<()> {
    let illegal = sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
    let mut text = ptr::null();
    // SAFETY: `text` is writable; what it points to afterwards is a string of the driver that lives for ever.
    let name = unsafe {
        call!(cuGetErrorName(illegal, &mut text))?;
        ensure!(!text.is_null(), "cuGetErrorName gave no name");
        CStr::from_ptr(text)
    };
    ensure!(
        name.to_str() == Ok("CUDA_ERROR_ILLEGAL_ADDRESS"),
        "the name of 700 is {name:?}"
    );
    // SAFETY: as above.
    let string = unsafe {
        call!(cuGetErrorString(illegal, &mut text))?;
        ensure!(!text.is_null(), "cuGetErrorString gave no text");
        CStr::from_ptr(text)
    };
    ensure!(!string.is_empty(), "the text of 700 is empty");
    Ok(())
}
