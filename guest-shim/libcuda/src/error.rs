//! Names and texts of results.

use std::ffi::{CStr, c_char};

use vgpu_abi::results::RESULTS;

use crate::abi::{Done, INVALID, Out, exports};

fn find(
    out: Out<*const c_char>,
    error: u32,
    of: fn(&(u32, &'static CStr, &'static CStr)) -> &'static CStr,
) -> Done {
    out.check()?;
    match RESULTS.iter().find(|r| r.0 == error) {
        Some(row) => out.set(of(row).as_ptr()),
        None => {
            out.set(std::ptr::null())?;
            Err(INVALID)
        }
    }
}

exports! {
    /// The name of a result; null and CUDA_ERROR_INVALID_VALUE for an unknown one.
    fn cuGetErrorName(error: u32, out: Out<*const c_char>) {
        find(out, error, |row| row.1)
    }

    /// The text of a result; null and CUDA_ERROR_INVALID_VALUE for an unknown one.
    fn cuGetErrorString(error: u32, out: Out<*const c_char>) {
        find(out, error, |row| row.2)
    }
}
