//! Every name of the library that is not implemented: CUBLAS_STATUS_NOT_SUPPORTED, logged once by
//! name.
//!
//! The stubs are made by `build.rs` from the lists of names. They declare no parameters: in the C
//! ABI of x86-64 and of Arm the caller places and removes arguments, so a function may ignore them.
#![allow(
    unsafe_code,
    dead_code,
    non_snake_case,
    missing_docs,
    reason = "symbols with NVIDIA's names; NVIDIA documents them"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use vgpu_protocol::blas::BlasStatus;

/// The body of every stub.
pub fn not_supported(name: &str, logged: &AtomicBool) -> u32 {
    if !logged.swap(true, Ordering::Relaxed) {
        crate::channel::log(&format!(
            "{name} is not supported (CUBLAS_STATUS_NOT_SUPPORTED)"
        ));
    }
    BlasStatus::NOT_SUPPORTED.0
}

include!(concat!(env!("OUT_DIR"), "/unsupported.rs"));
