//! Every name of cuda.h that is not implemented: CUDA_ERROR_NOT_SUPPORTED, logged once by name.
//!
//! The stubs are made by `build.rs` from `symbols.txt`. They declare no parameters: in the C ABI
//! of x86-64 and of Arm the caller places and removes arguments, so a function may ignore them.
#![allow(
    unsafe_code,
    non_snake_case,
    missing_docs,
    reason = "symbols with NVIDIA's names; NVIDIA documents them"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use vgpu_protocol::Status;
use vgpu_transport::log_calls;

use crate::abi::Entry;

/// The body of every stub.
pub fn not_supported(name: &str, logged: &AtomicBool) -> u32 {
    if !logged.swap(true, Ordering::Relaxed) {
        log_calls!("{name} is not supported (CUDA_ERROR_NOT_SUPPORTED)");
    }
    Status::ERROR_NOT_SUPPORTED.0
}

include!(concat!(env!("OUT_DIR"), "/unsupported.rs"));
