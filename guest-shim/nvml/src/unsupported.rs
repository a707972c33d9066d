//! Every name of nvml.h that is not implemented: NVML_ERROR_NOT_SUPPORTED, with `VGPU_LOG` logged once by name.
//!
//! The stubs are made by `build.rs` from `symbols.txt`. They declare no parameters: in the C ABI of x86-64 and of
//! Arm the caller places and removes arguments, so a function may ignore them.
#![allow(
    unsafe_code,
    non_snake_case,
    missing_docs,
    reason = "symbols with NVIDIA's names; NVIDIA documents them"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use crate::abi::guard;
use crate::result::Return;
use crate::state;

/// The body of every stub.
fn not_supported(name: &str, logged: &AtomicBool) -> i32 {
    guard(|| {
        state::check()?;
        // Programs ask for much that most devices lack: a line only for who wants to see it.
        if std::env::var_os("VGPU_LOG").is_some() && !logged.swap(true, Ordering::Relaxed) {
            state::library()?.log(&format!(
                "{name} is not supported (NVML_ERROR_NOT_SUPPORTED)"
            ));
        }
        Err(Return::NotSupported)
    })
}

include!(concat!(env!("OUT_DIR"), "/unsupported.rs"));
