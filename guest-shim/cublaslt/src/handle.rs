//! Handles. Nothing belongs to one but that it exists: streams and workspaces come with each call.
#![allow(unsafe_code)] // A function of libcublas.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vgpu_protocol::blas::BlasStatus;
use vgpu_protocol::calls::{CtxId, stubs};
use vgpu_remote::{Library, Place};

use crate::abi::{Done, Out, exports, major, of_driver};
use crate::channel::{context, remote};

/// Handles as programs see them: away from small numbers, from real memory and from cuBLAS's.
const FIRST: u64 = 0xc << 40;

static LIVE: Mutex<Option<HashSet<u64>>> = Mutex::new(None);
static NEXT: AtomicU64 = AtomicU64::new(1);

fn live() -> MutexGuard<'static, Option<HashSet<u64>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks a handle: one of this library, or one of cuBLAS ("cublasHandle_t can be used in place of
/// cublasLtHandle_t with a simple cast").
///
/// # Errors
/// `CUBLAS_STATUS_NOT_INITIALIZED`, as documented of every call.
pub fn check(handle: u64) -> Done {
    if live().as_ref().is_some_and(|live| live.contains(&handle)) || is_cublas(handle) {
        return Ok(());
    }
    Err(BlasStatus::NOT_INITIALIZED)
}

/// True for a handle of the libcublas of the same version, if the program has loaded one.
fn is_cublas(handle: u64) -> bool {
    let name: &std::ffi::CStr = match major() {
        11 => c"libcublas.so.11",
        12 => c"libcublas.so.12",
        _ => c"libcublas.so.13",
    };
    // SAFETY: NUL-terminated names. The library is not loaded by this, and stays loaded as long as the
    // handle of it exists.
    unsafe {
        let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        if library.is_null() {
            return false;
        }
        let at = libc::dlsym(library, c"cublasGetStream_v2".as_ptr());
        let mut stream = 0u64;
        let known = !at.is_null() && {
            type GetStream = unsafe extern "C" fn(u64, *mut u64) -> u32;
            let get = std::mem::transmute::<*mut libc::c_void, GetStream>(at);
            get(handle, &raw mut stream) == BlasStatus::SUCCESS.0
        };
        libc::dlclose(library);
        known
    }
}

/// Workspace that the host can use, in bytes, and 1; 0 until it was asked.
static READY: AtomicU64 = AtomicU64::new(0);

/// Asks the host for its cublasLt, once in a process.
pub fn ready(remote: &Library, ctx: CtxId) -> Done<u64> {
    match READY.load(Ordering::Acquire) {
        0 => {
            let ready = stubs::blas_lt_create(remote, ctx).map_err(of_driver)?;
            if ready.status != BlasStatus::SUCCESS.0 {
                return Err(BlasStatus(ready.status));
            }
            READY.store(ready.workspace_bytes + 1, Ordering::Release);
            Ok(ready.workspace_bytes)
        }
        known => Ok(known - 1),
    }
}

/// Workspace that the host can use, in bytes.
pub fn workspace() -> Done<u64> {
    let remote = remote()?;
    ready(remote, context(remote)?)
}

/// Where a call goes: without a stream, to the default stream of the calling thread's context.
pub fn place(remote: &Library, stream: u64) -> Done<Place<'_>> {
    match stream {
        0 => Ok(remote.default_stream(context(remote)?)),
        stream => remote.place(stream).map_err(of_driver),
    }
}

exports! {
    /// Creates a handle.
    fn cublasLtCreate(out: Out<u64>) {
        out.check()?;
        let remote = remote()?;
        ready(remote, context(remote)?)?;
        let handle = FIRST + (NEXT.fetch_add(1, Ordering::Relaxed) << 4);
        live().get_or_insert_default().insert(handle);
        out.set(handle)
    }

    /// Destroys a handle.
    fn cublasLtDestroy(handle: u64) {
        if live().as_mut().is_some_and(|live| live.remove(&handle)) {
            return Ok(());
        }
        Err(BlasStatus::NOT_INITIALIZED)
    }
}
