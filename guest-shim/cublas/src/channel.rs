//! The way to the host: libcuda of this process, and the calling thread's context. Of cublasLt's library,
//! too.
#![allow(unsafe_code)] // Three functions of libcuda.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use vgpu_protocol::Status;
use vgpu_protocol::blas::BlasStatus;
use vgpu_protocol::calls::CtxId;
use vgpu_remote::Library;

use crate::abi::{Done, of_driver};

/// libcuda of this process. Why there is none is told once: programs show only a number.
pub fn remote() -> Done<&'static Library> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    Library::open().map_err(|error| {
        if !TOLD.swap(true, Ordering::Relaxed) {
            eprintln!("libcublas: {error}");
        }
        BlasStatus::NOT_INITIALIZED
    })
}

/// Prints a line where `VGPU_LOG` says.
pub fn log(line: &str) {
    if let Ok(library) = Library::open() {
        library.log(line);
    }
}

/// Initialises the driver and makes the first device's primary context current. It is kept as long
/// as the process lives, as the CUDA runtime keeps it.
fn primary_context(remote: &Library) -> Result<(), Status> {
    let symbol = |name| remote.symbol(name).ok_or(Status::ERROR_NOT_FOUND);
    let (init, retain, set) = (
        symbol(c"cuInit")?,
        symbol(c"cuDevicePrimaryCtxRetain")?,
        symbol(c"cuCtxSetCurrent")?,
    );
    // SAFETY: exported functions of our libcuda, with the signatures of cuda.h.
    let (init, retain, set) = unsafe {
        (
            std::mem::transmute::<*mut c_void, extern "C" fn(u32) -> u32>(init),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut usize, i32) -> u32>(
                retain,
            ),
            std::mem::transmute::<*mut c_void, extern "C" fn(usize) -> u32>(set),
        )
    };
    Status(init(0)).ok()?;
    let mut ctx = 0;
    // SAFETY: a place for the handle.
    Status(unsafe { retain(&raw mut ctx, 0) }).ok()?;
    Status(set(ctx)).ok()
}

/// The calling thread's context. Without one, the first device's primary context is made current, as
/// the CUDA runtime does.
pub fn context(remote: &Library) -> Done<CtxId> {
    if let Ok(ctx) = remote.current() {
        return Ok(ctx);
    }
    primary_context(remote).map_err(of_driver)?;
    remote.current().map_err(of_driver)
}
