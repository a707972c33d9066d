//! QEMU's log, error and trace channels, callable from any thread.
#![allow(unsafe_code)] // calls into the C shim

use std::ffi::CString;

use crate::bindings;

/// A C string of `text`, cut at the first NUL.
pub(crate) fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Logs a mistake of the guest; shown with `-d guest_errors`.
pub fn guest_error(message: &str) {
    // SAFETY: no arguments; reads QEMU's log mask.
    if unsafe { bindings::vgpu_shim_guest_errors_enabled() } {
        let message = c_text(message);
        // SAFETY: a NUL-terminated string that outlives the call; qemu_log() locks its file.
        unsafe { bindings::vgpu_shim_log_guest_error(message.as_ptr()) }
    }
}

/// Reports a failure of the device itself to whoever started QEMU.
pub fn error_report(message: &str) {
    let message = c_text(message);
    // SAFETY: a NUL-terminated string that outlives the call; error_report() may be called
    // from any thread.
    unsafe { bindings::vgpu_shim_error_report(message.as_ptr()) }
}

/// Warns whoever started QEMU.
pub fn warn_report(message: &str) {
    let message = c_text(message);
    // SAFETY: a NUL-terminated string that outlives the call; warn_report() may be called
    // from any thread.
    unsafe { bindings::vgpu_shim_warn_report(message.as_ptr()) }
}

/// Whether the trace event `vgpu_stub_call` is switched on: cheap enough for every call.
#[inline]
pub fn trace_enabled() -> bool {
    // SAFETY: no arguments; reads the event's state word.
    unsafe { bindings::vgpu_shim_trace_call_enabled() }
}

/// Emits the trace event `vgpu_stub_call` (`-trace 'vgpu_stub_*'`).
pub fn trace(text: &str) {
    if trace_enabled() {
        let text = c_text(text);
        // SAFETY: a NUL-terminated string that outlives the call.
        unsafe { bindings::vgpu_shim_trace_call(text.as_ptr()) }
    }
}
