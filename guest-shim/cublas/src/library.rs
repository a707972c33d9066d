//! What belongs to no handle: versions, names of results.
#![allow(unsafe_code)] // The program's text.

use std::ffi::c_char;

use crate::abi::{Out, StaticText, exports};
use crate::{handle, logger, status, version};

/// Called with what each export returns.
pub fn returned(name: &str, status: u32) {
    logger::returned(name, status);
}

exports! {
    /// The library's version.
    fn cublasGetVersion_v2(handle: u64, out: Out<i32>) {
        // The documentation allows a null handle; one that is not null must be one.
        if handle != 0 {
            handle::get(handle)?;
        }
        out.set(version::number())
    }

    /// The library's version, for the interface without handles.
    fn cublasGetVersion(out: Out<i32>) {
        out.set(version::number())
    }

    /// Major (0), minor (1) or patch (2) number of the version.
    fn cublasGetProperty(which: u32, out: Out<i32>) {
        out.set(version::part(which)?)
    }
}

const _: () = {
    /// Version of the CUDA runtime.
    #[unsafe(no_mangle)]
    #[allow(non_snake_case, reason = "NVIDIA's name")]
    pub extern "C" fn cublasGetCudartVersion() -> usize {
        version::cudart_version()
    }
};

const _: () = {
    /// Name of a result.
    #[unsafe(no_mangle)]
    #[allow(non_snake_case, reason = "NVIDIA's name")]
    pub extern "C" fn cublasGetStatusName(status: u32) -> StaticText {
        StaticText::of(status::name_of(status))
    }

    /// Text of a result.
    #[unsafe(no_mangle)]
    #[allow(non_snake_case, reason = "NVIDIA's name")]
    pub extern "C" fn cublasGetStatusString(status: u32) -> StaticText {
        StaticText::of(status::text_of(status))
    }

    /// Called by wrappers for a bad argument: the name of the function and the argument's number.
    #[unsafe(no_mangle)]
    #[allow(non_snake_case, reason = "NVIDIA's name")]
    pub extern "C" fn cublasXerbla(name: *const c_char, info: i32) {
        let name = if name.is_null() {
            "?".into()
        } else {
            // SAFETY: not null, so by cuBLAS's contract a NUL-terminated string.
            unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy()
        };
        eprintln!(" ** On entry to {name:6} parameter number {info} had an illegal value");
    }
};
