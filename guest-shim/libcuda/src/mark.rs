//! Tells a host that it has found this library where it looked for NVIDIA's: without it the
//! mediator's `cuda` backend would call itself (`vgpu-local` in an environment made for its
//! clients, say).
#![allow(unsafe_code)] // An exported name.

/// Looked up by name; the value means nothing.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "a C name")]
pub static vgpu_stub_shim: u32 = 1;
