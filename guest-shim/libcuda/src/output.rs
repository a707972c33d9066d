//! Text of kernels: what `printf` writes goes to the program's standard output, and messages of
//! failed assertions to its standard error, after a call that waits for the GPU (CUDA C++
//! Programming Guide, "Formatted Output" and "Assertion").
#![allow(unsafe_code)] // the C library's streams, so that the text stays in order with the program's own

use std::sync::Mutex;

use vgpu_protocol::calls::{CtxId, stubs};
use vgpu_transport::Channel;

unsafe extern "C" {
    static stdout: *mut libc::FILE;
    static stderr: *mut libc::FILE;
}

/// One thread at a time, so that pieces stay in order.
static TURN: Mutex<()> = Mutex::new(());

/// Takes what the host holds and writes it.
pub fn take(channel: &Channel) {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    loop {
        let (out, err) = match stubs::output(channel, CtxId(0)) {
            Ok(text) => text,
            Err(status) => {
                vgpu_transport::log::line(format_args!("text of kernels is lost: {status}"));
                return;
            }
        };
        if out.0.is_empty() && err.0.is_empty() {
            return;
        }
        // SAFETY: the C library sets both before the program runs and never changes them; a
        // program that assigns to them gives a valid stream.
        let (o, e) = unsafe { (stdout, stderr) };
        for (stream, text) in [(o, &out.0), (e, &err.0)] {
            if stream.is_null() || text.is_empty() {
                continue;
            }
            // SAFETY: `stream` is an open stream and `text` a live slice of that length; the C
            // library locks the stream. A program that has closed its output gets none.
            unsafe {
                libc::fwrite(text.as_ptr().cast(), 1, text.len(), stream);
                libc::fflush(stream);
            }
        }
    }
}
