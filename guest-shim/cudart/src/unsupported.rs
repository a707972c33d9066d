//! Every name of the runtime that is not implemented: cudaErrorNotSupported, logged once by name.
//!
//! The stubs are made by `build.rs` from the lists of symbols. They declare no parameters: in the
//! C ABI of x86-64 and of Arm the caller places and removes arguments, so a function may ignore
//! them.
#![allow(
    unsafe_code,
    non_snake_case,
    missing_docs,
    reason = "symbols with NVIDIA's names; NVIDIA documents them"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use vgpu_protocol::Status;
use vgpu_transport::log_calls;

/// The body of every stub.
pub fn not_supported(name: &str, logged: &AtomicBool) -> u32 {
    if !logged.swap(true, Ordering::Relaxed) {
        log_calls!("{name} is not supported (cudaErrorNotSupported)");
    }
    crate::abi::finish(Err(Status::ERROR_NOT_SUPPORTED))
}

include!(concat!(env!("OUT_DIR"), "/unsupported.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_not_implemented_says_so() {
        assert!(!EXPORTS.is_empty());
        for (name, function) in EXPORTS {
            assert_eq!(function(), 801, "{name}");
            assert_eq!(crate::abi::take_last_error(), 801, "{name}");
        }
    }
}
