//! Looking functions up by name and version, and a function that may not be there.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use anyhow::{Result, ensure};

use super::fails;
use crate::call;
use crate::cuda::sys;
use crate::cuda::sys::CUdriverProcAddressQueryResult as Found;
use crate::cuda::sys::CUresult::{
    CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_FOUND, CUDA_ERROR_NOT_SUPPORTED,
};

/// The call as of CUDA 12.0, with a status.
fn look(name: &CStr, version: i32) -> (Result<(), crate::cuda::Failed>, *mut c_void, Found) {
    let (mut function, mut found) = (ptr::null_mut(), Found::CU_GET_PROC_ADDRESS_SUCCESS);
    // SAFETY: the name ends with a NUL; both results are writable.
    let result = unsafe {
        call!(cuGetProcAddress_v2(
            name.as_ptr(),
            &mut function,
            version,
            0,
            &mut found
        ))
    };
    (result, function, found)
}

/// Calls what was found for cuDriverGetVersion.
fn driver_version(function: *mut c_void) -> Result<i32> {
    ensure!(!function.is_null(), "no address for cuDriverGetVersion");
    let mut version = 0;
    // SAFETY: the address was looked up by this function's name, whose type has never changed.
    let result = unsafe {
        let function: unsafe extern "C" fn(*mut i32) -> sys::CUresult =
            std::mem::transmute(function);
        function(&mut version)
    };
    ensure!(
        result == sys::CUresult::CUDA_SUCCESS,
        "cuDriverGetVersion through its address: {result:?}"
    );
    Ok(version)
}

pub fn proc_address(_: &str) -> Result<()> {
    let mut version = 0;
    // SAFETY: `version` is writable.
    unsafe { call!(cuDriverGetVersion(&mut version)) }?;
    let (result, function, found) = look(c"cuDriverGetVersion", 12_000);
    result?;
    ensure!(
        found == Found::CU_GET_PROC_ADDRESS_SUCCESS,
        "status {found:?}"
    );
    ensure!(
        driver_version(function)? == version,
        "two versions of the driver"
    );
    let (result, function, _) = look(c"cuMemAlloc", 12_000);
    result?;
    ensure!(!function.is_null(), "no address for cuMemAlloc");
    Ok(())
}

pub fn first_abi(_: &str) -> Result<()> {
    type FirstAbi =
        unsafe extern "C" fn(*const c_char, *mut *mut c_void, i32, u64) -> sys::CUresult;
    let mut function = ptr::null_mut();
    // SAFETY: the symbol without a suffix has the type of CUDA 11.3; the name ends with a NUL; the result is writable.
    let result = unsafe {
        let look = sys::culib().get::<FirstAbi>(b"cuGetProcAddress\0")?;
        look(c"cuDriverGetVersion".as_ptr(), &mut function, 11_030, 0)
    };
    ensure!(
        result == sys::CUresult::CUDA_SUCCESS,
        "cuGetProcAddress: {result:?}"
    );
    ensure!(
        driver_version(function)? >= 11_030,
        "a driver older than the call"
    );
    Ok(())
}

pub fn unknown(_: &str) -> Result<()> {
    let (result, function, found) = look(c"cuNoSuchFunction", 12_000);
    fails(result, &[CUDA_ERROR_NOT_FOUND])?;
    ensure!(
        function.is_null(),
        "an address for a name that does not exist"
    );
    ensure!(
        found == Found::CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND,
        "status {found:?}"
    );
    let (result, ..) = look(c"", 12_000);
    fails(result, &[CUDA_ERROR_NOT_FOUND, CUDA_ERROR_INVALID_VALUE])
}

/// cuLaunchKernelEx came with CUDA 11.8.
pub fn old_version(_: &str) -> Result<()> {
    let (result, _, found) = look(c"cuLaunchKernelEx", 11_000);
    fails(result, &[CUDA_ERROR_NOT_FOUND])?;
    ensure!(
        found == Found::CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT,
        "status {found:?}"
    );
    Ok(())
}

/// A driver without arrays says so; one that has them makes one.
pub fn unsupported_call(_: &str) -> Result<()> {
    let shape = sys::CUDA_ARRAY_DESCRIPTOR {
        Width: 16,
        Height: 16,
        Format: sys::CUarray_format::CU_AD_FORMAT_FLOAT,
        NumChannels: 1,
    };
    let mut array = ptr::null_mut();
    // SAFETY: `array` is writable, `shape` is readable.
    match unsafe { call!(cuArrayCreate_v2(&mut array, &shape)) } {
        Ok(()) => {
            ensure!(!array.is_null(), "success without an array");
            // SAFETY: the array was just made.
            unsafe { call!(cuArrayDestroy(array)) }.map_err(Into::into)
        }
        refused => fails(refused, &[CUDA_ERROR_NOT_SUPPORTED]),
    }
}
