//! Contexts that are gone, and handles of one context used in another.

use std::ptr;

use anyhow::{Result, ensure};

use super::{fails, fails_now_or_later};
use crate::call;
use crate::cuda::sys::CUresult::{
    CUDA_ERROR_CONTEXT_IS_DESTROYED, CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_DEVICE,
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_FOUND,
    CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_UNSUPPORTED_LIMIT,
};
use crate::cuda::{Buffer, memory, sys};

/// What a context that was destroyed gives.
const GONE: [sys::CUresult; 2] = [CUDA_ERROR_CONTEXT_IS_DESTROYED, CUDA_ERROR_INVALID_CONTEXT];

/// A second context, made and left uncurrent.
fn another() -> Result<sys::CUcontext> {
    let mut context = ptr::null_mut();
    // SAFETY: places for results; the new context is taken off the stack again.
    unsafe {
        call!(cuCtxCreate_v4(&mut context, ptr::null_mut(), 0, 0))?;
        let mut popped = ptr::null_mut();
        call!(cuCtxPopCurrent_v2(&mut popped))?;
        ensure!(popped == context, "another context was current");
    }
    Ok(context)
}

/// Runs `f` with a context as the current one.
fn within<T>(context: sys::CUcontext, f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: a live context; what was current before is current afterwards.
    unsafe { call!(cuCtxPushCurrent_v2(context))? };
    let result = f();
    let mut popped = ptr::null_mut();
    // SAFETY: a place for the result.
    unsafe { call!(cuCtxPopCurrent_v2(&mut popped))? };
    result
}

pub fn handles_of_another_context(ptx: &str) -> Result<()> {
    let other = another()?;
    let text = std::ffi::CString::new(ptx)?;
    let (mut event, mut stream, mut own) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let (mut module, mut function, mut time) = (ptr::null_mut(), ptr::null_mut(), 0.0);
    within(other, || {
        // SAFETY: places for results.
        unsafe {
            call!(cuEventCreate(&mut event, 0))?;
            call!(cuStreamCreate(&mut stream, 0))?;
        }
        Ok(())
    })?;
    // SAFETY: all handles are live; that they belong to different contexts is what the driver has to find out.
    unsafe {
        // "hEvent and hStream must be from the same context".
        call!(cuStreamCreate(&mut own, 0))?;
        fails(
            call!(cuEventRecord(event, own)),
            &[CUDA_ERROR_INVALID_HANDLE],
        )?;
        let mut mine = ptr::null_mut();
        call!(cuEventCreate(&mut mine, 0))?;
        fails(
            call!(cuEventRecord(mine, stream)),
            &[CUDA_ERROR_INVALID_HANDLE],
        )?;
        call!(cuEventRecord(mine, own))?;
        within(other, || Ok(call!(cuEventRecord(event, stream))?))?;
        call!(cuEventSynchronize(mine))?;
        call!(cuEventSynchronize(event))?;
        fails(
            call!(cuEventElapsedTime_v2(&mut time, mine, event)),
            &[CUDA_ERROR_INVALID_HANDLE],
        )?;
        // A stream may wait for an event of another context.
        call!(cuStreamWaitEvent(own, event, 0))?;
        call!(cuModuleLoadData(&mut module, text.as_ptr().cast()))?;
        call!(cuModuleGetFunction(
            &mut function,
            module,
            c"write_at".as_ptr()
        ))?;
        let (mut at, mut offset, mut value) = (0u64, 0i64, 0i32);
        let mut arguments = [
            (&raw mut at).cast::<std::ffi::c_void>(),
            (&raw mut offset).cast(),
            (&raw mut value).cast(),
        ];
        let launched = call!(cuLaunchKernel(
            function,
            1,
            1,
            1,
            1,
            1,
            1,
            0,
            stream,
            arguments.as_mut_ptr(),
            ptr::null_mut()
        ));
        fails(
            launched,
            &[CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_CONTEXT],
        )?;
        call!(cuModuleUnload(module))?;
        call!(cuStreamSynchronize(own))?;
        call!(cuStreamDestroy_v2(own))?;
        call!(cuEventDestroy_v2(mine))?;
        call!(cuCtxDestroy_v2(other))?;
    }
    Ok(())
}

pub fn after_destroy(_: &str) -> Result<()> {
    let other = another()?;
    let (mut stream, mut event, mut address, mut device) = (ptr::null_mut(), ptr::null_mut(), 0, 0);
    within(other, || {
        // SAFETY: places for results.
        unsafe {
            call!(cuStreamCreate(&mut stream, 0))?;
            call!(cuEventCreate(&mut event, 0))?;
            call!(cuMemAlloc_v2(&mut address, 64))?;
        }
        Ok(())
    })?;
    // SAFETY: the handles die with their context: their use is what the driver has to find out.
    unsafe {
        call!(cuCtxPushCurrent_v2(other))?;
        call!(cuCtxDestroy_v2(other))?;
        // "If ctx is current to the calling thread then ctx will also be popped".
        let mut current = ptr::null_mut();
        call!(cuCtxGetCurrent(&mut current))?;
        ensure!(current != other, "the destroyed context is current");
        fails(call!(cuCtxDestroy_v2(other)), &GONE)?;
        fails(call!(cuCtxSetCurrent(other)), &GONE)?;
        fails(call!(cuCtxPushCurrent_v2(other)), &GONE)?;
        fails(call!(cuCtxGetDevice_v2(&mut device, other)), &GONE)?;
        let no_handle = [GONE[0], GONE[1], CUDA_ERROR_INVALID_HANDLE];
        fails(call!(cuStreamSynchronize(stream)), &no_handle)?;
        fails(call!(cuStreamDestroy_v2(stream)), &no_handle)?;
        fails(call!(cuEventQuery(event)), &no_handle)?;
        fails(call!(cuEventDestroy_v2(event)), &no_handle)?;
        fails_now_or_later(call!(cuMemFree_v2(address)), &[CUDA_ERROR_INVALID_VALUE])?;
        let mut byte = 0u8;
        fails(
            call!(cuMemcpyDtoH_v2((&raw mut byte).cast(), address, 1)),
            &[CUDA_ERROR_INVALID_VALUE],
        )
    }
}

/// A thread whose context another thread has destroyed still has it on its stack.
pub fn destroyed_while_current(_: &str) -> Result<()> {
    let other = another()? as usize;
    within(other as sys::CUcontext, || {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: a live context, which only this call ends.
                unsafe { call!(cuCtxDestroy_v2(other as sys::CUcontext)) }
            });
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the thread panicked"))?
                .map_err(anyhow::Error::from)
        })?;
        let (mut address, mut stream) = (0, ptr::null_mut());
        // SAFETY: places for results.
        unsafe {
            fails(call!(cuMemAlloc_v2(&mut address, 16)), &GONE)?;
            fails(call!(cuStreamCreate(&mut stream, 0)), &GONE)?;
            fails(call!(cuCtxSynchronize()), &GONE)
        }
    })
}

pub fn unknown_numbers(_: &str) -> Result<()> {
    let (mut value, mut bytes, mut stream, mut event) =
        (0i32, 0usize, ptr::null_mut(), ptr::null_mut());
    let mut context = ptr::null_mut();
    let buffer = Buffer::<u8>::zeros(64)?;
    // SAFETY: places for results; the numbers are what the driver has to find out. No value of an enumeration of
    // Rust's is made of them: the functions are called by their address, with plain numbers.
    unsafe {
        fails(
            call!(cuCtxCreate_v4(&mut context, ptr::null_mut(), 0xff00, 0)),
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            call!(cuCtxCreate_v4(&mut context, ptr::null_mut(), 7, 0)),
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            call!(cuCtxCreate_v4(&mut context, ptr::null_mut(), 0, 9)),
            &[CUDA_ERROR_INVALID_DEVICE],
        )?;
        fails(
            call!(cuStreamCreate(&mut stream, 77)),
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            call!(cuEventCreate(&mut event, 0x80)),
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        // "CU_EVENT_INTERPROCESS must be specified along with CU_EVENT_DISABLE_TIMING".
        fails(
            call!(cuEventCreate(&mut event, 4)),
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            call!(cuStreamWaitEvent(ptr::null_mut(), ptr::null_mut(), 0)),
            &[CUDA_ERROR_INVALID_HANDLE],
        )?;
        fails(
            number2("cuDeviceGetAttribute", (&raw mut value).cast(), 9999, 0)?,
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            number2("cuCtxGetLimit", (&raw mut bytes).cast(), 99, 0)?,
            &[CUDA_ERROR_UNSUPPORTED_LIMIT, CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            number2("cuCtxSetLimit", ptr::without_provenance_mut(99), 1, 0)?,
            &[CUDA_ERROR_UNSUPPORTED_LIMIT, CUDA_ERROR_INVALID_VALUE],
        )?;
        fails(
            number2("cuCtxSetCacheConfig", ptr::without_provenance_mut(9), 0, 0)?,
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        let mut word = 0u64;
        fails(
            number2(
                "cuPointerGetAttribute",
                (&raw mut word).cast(),
                9999,
                buffer.address() as usize,
            )?,
            &[CUDA_ERROR_INVALID_VALUE],
        )?;
        // One device has no peer, and is none of itself.
        fails(
            number2("cuDeviceGetP2PAttribute", (&raw mut value).cast(), 1, 0)?,
            &[CUDA_ERROR_INVALID_DEVICE],
        )?;
    }
    Ok(())
}

/// Calls a function with a pointer and numbers.
///
/// # Safety
/// As the function's documentation says.
unsafe fn number2(
    name: &'static str,
    first: *mut std::ffi::c_void,
    second: usize,
    third: usize,
) -> Result<Result<(), crate::cuda::Failed>> {
    type Plain = unsafe extern "C" fn(*mut std::ffi::c_void, usize, usize, usize) -> sys::CUresult;
    let symbol = std::ffi::CString::new(name)?;
    let mut at = ptr::null_mut();
    // SAFETY: a place for the address, and the name.
    unsafe {
        call!(cuGetProcAddress_v2(
            symbol.as_ptr(),
            &mut at,
            12_000,
            0,
            ptr::null_mut()
        ))?;
    }
    // SAFETY: the address of a function of this many arguments or fewer, all of them pointers or whole numbers.
    let function = unsafe { std::mem::transmute::<*mut std::ffi::c_void, Plain>(at) };
    crate::cuda::count(name);
    // SAFETY: the caller's.
    let result = unsafe { function(first, second, third, 0) };
    Ok(crate::cuda::check(name, result))
}

pub fn negative_sizes(_: &str) -> Result<()> {
    let buffer = Buffer::<u8>::zeros(64)?;
    let mut host = [0u8; 64];
    // SAFETY: no byte is touched: the sizes are what the driver has to find out.
    unsafe {
        for bytes in [usize::MAX, usize::MAX / 2 + 1, 1 << 62] {
            fails_now_or_later(
                call!(cuMemcpyHtoD_v2(
                    buffer.address(),
                    host.as_ptr().cast(),
                    bytes
                )),
                &[CUDA_ERROR_INVALID_VALUE],
            )?;
            fails(
                call!(cuMemcpyDtoH_v2(
                    host.as_mut_ptr().cast(),
                    buffer.address(),
                    bytes
                )),
                &[CUDA_ERROR_INVALID_VALUE],
            )?;
            fails_now_or_later(
                call!(cuMemcpyDtoD_v2(buffer.address(), buffer.address(), bytes)),
                &[CUDA_ERROR_INVALID_VALUE],
            )?;
            fails_now_or_later(
                call!(cuMemsetD8_v2(buffer.address(), 1, bytes)),
                &[CUDA_ERROR_INVALID_VALUE],
            )?;
        }
    }
    ensure!(
        buffer.read()? == [0; 64],
        "a refused copy changed the buffer"
    );
    Ok(())
}

/// "The memory areas may not overlap": nothing is promised but that other memory stays as it is.
pub fn overlapping_copies(_: &str) -> Result<()> {
    let bytes: Vec<u8> = (0..192).collect();
    let buffer = Buffer::from(&bytes)?;
    // SAFETY: both ranges lie in the buffer.
    let result = unsafe {
        call!(cuMemcpyDtoD_v2(
            buffer.address() + 68,
            buffer.address() + 64,
            32
        ))
    };
    if result.is_err() {
        fails(result, &[CUDA_ERROR_INVALID_VALUE])?;
    }
    let after = buffer.read()?;
    ensure!(
        after[..68] == bytes[..68] && after[100..] == bytes[100..],
        "memory outside of the copy has changed"
    );
    Ok(())
}

/// Allocations until there is no more memory; those that were made stay whole.
pub fn memory_runs_out(_: &str) -> Result<()> {
    let (_, total) = memory()?;
    let mut all = Vec::new();
    let last = loop {
        let mut address = 0;
        // SAFETY: a place for the address.
        match unsafe { call!(cuMemAlloc_v2(&mut address, total / 8)) } {
            Ok(()) if all.len() < 64 => all.push(address),
            Ok(()) => break Ok(()),
            Err(failed) => break Err(failed),
        }
    };
    let mut byte = 0u8;
    let made = all.len();
    // SAFETY: each allocation is live until it is freed, once.
    unsafe {
        if let Some(first) = all.first() {
            call!(cuMemsetD8_v2(*first, 7, 1))?;
            call!(cuMemcpyDtoH_v2((&raw mut byte).cast(), *first, 1))?;
        }
        for address in all {
            call!(cuMemFree_v2(address))?;
        }
    }
    fails(last, &[CUDA_ERROR_OUT_OF_MEMORY])?;
    ensure!(made >= 4 && byte == 7, "{made} allocations, {byte}");
    Ok(())
}

/// What no device of a VM has, by the errors of the reference.
pub fn not_there(_: &str) -> Result<()> {
    let (mut object, mut token) = (ptr::null_mut(), sys::CUipcMemHandle { reserved: [0; 64] });
    let buffer = Buffer::<u8>::zeros(64)?;
    let description = sys::CUDA_ARRAY_DESCRIPTOR {
        Width: 16,
        Height: 16,
        Format: sys::CUarray_format::CU_AD_FORMAT_FLOAT,
        NumChannels: 1,
    };
    // SAFETY: places for results.
    unsafe {
        fails(
            call!(cuArrayCreate_v2(&mut object, &description)),
            &[CUDA_ERROR_NOT_SUPPORTED],
        )?;
        fails(
            call!(cuIpcGetMemHandle(&mut token, buffer.address())),
            &[CUDA_ERROR_NOT_SUPPORTED],
        )?;
        let (mut luid, mut mask) = ([0; 8], 0);
        fails(
            call!(cuDeviceGetLuid(luid.as_mut_ptr(), &mut mask, 0)),
            &[CUDA_ERROR_NOT_SUPPORTED],
        )?;
        let mut device = 0;
        fails(
            call!(cuDeviceGetByPCIBusId(&mut device, c"ffff:ff:1f.0".as_ptr())),
            &[CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_NOT_FOUND],
        )
    }
}
