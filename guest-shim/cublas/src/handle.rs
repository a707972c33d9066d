//! Handles. Their ids are chosen here; creating one asks the host whether it has a cuBLAS.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use vgpu_protocol::Status;
use vgpu_protocol::blas::BlasStatus;
use vgpu_protocol::calls::{BlasId, BlasTarget, CtxId, DevPtr, stubs};
use vgpu_remote::{Library, Place};

use crate::abi::{Device, Done, INVALID, Out, exports, major, of_driver};
use crate::channel::{context, remote};

/// Handles as programs see them: away from small numbers and from real memory.
const FIRST: u64 = 0xb << 40;

/// Alignment that cublasSetWorkspace asks of its memory.
const WORKSPACE_ALIGN: u64 = 256;

/// A handle that the program made.
#[derive(Debug)]
pub struct Handle {
    id: BlasId,
    ctx: CtxId,
    state: Mutex<State>,
}

/// What can be set of a handle.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// `cudaStream_t`.
    stream: u64,
    /// `cublasMath_t`.
    math: u32,
    /// `cublasPointerMode_t`: 1 is device.
    pub pointers: u32,
    /// `cublasAtomicsMode_t`.
    atomics: u32,
    /// `cublasSetSmCountTarget`: a hint.
    multiprocessors: i32,
    /// The program has given a workspace.
    workspace: bool,
}

static HANDLES: RwLock<Option<HashMap<u64, Arc<Handle>>>> = RwLock::new(None);
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The handle with this number.
///
/// # Errors
/// `CUBLAS_STATUS_NOT_INITIALIZED`, as documented of every call.
pub fn get(handle: u64) -> Done<Arc<Handle>> {
    let all = HANDLES.read().unwrap_or_else(PoisonError::into_inner);
    let found = all.as_ref().and_then(|all| all.get(&handle)).cloned();
    found.ok_or(BlasStatus::NOT_INITIALIZED)
}

impl Handle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pointer mode is `CUBLAS_POINTER_MODE_DEVICE`.
    pub fn device_pointers(&self) -> bool {
        self.state().pointers == 1
    }

    /// Where a call on this handle goes, and handle with stream and modes.
    pub fn target<'a>(&self, remote: &'a Library) -> Done<(Place<'a>, BlasTarget)> {
        let state = *self.state();
        let place = match state.stream {
            // The default stream of the handle's context, whatever is current.
            0 => remote.default_stream(self.ctx),
            stream => remote.place(stream).map_err(of_driver)?,
        };
        if place.ctx != self.ctx {
            return Err(INVALID);
        }
        let target = BlasTarget {
            handle: self.id,
            stream: place.stream,
            math: state.math,
            atomics: state.atomics,
        };
        Ok((place, target))
    }

    fn send_workspace(&self, at: DevPtr, bytes: u64) -> Done {
        let remote = remote()?;
        // Nothing that a graph repeats: in a capture it is done at once.
        let (place, target) = self.target(remote)?;
        stubs::blas_set_workspace(remote, place.ctx, target, at, bytes).map_err(of_driver)
    }
}

fn create() -> Done<u64> {
    let remote = remote()?;
    let ctx = context(remote)?;
    // The libraries of several versions in one process share the channel, and so the ids.
    let number = major() << 24 | NEXT.fetch_add(1, Ordering::Relaxed) & 0xff_ffff;
    let id = BlasId(number);
    let status = stubs::blas_create(remote, ctx, id).map_err(of_driver)?;
    if status != BlasStatus::SUCCESS.0 {
        return Err(BlasStatus(status));
    }
    let handle = FIRST + (u64::from(number) << 4);
    let made = Handle {
        id,
        ctx,
        state: Mutex::default(),
    };
    let mut all = HANDLES.write().unwrap_or_else(PoisonError::into_inner);
    all.get_or_insert_default().insert(handle, Arc::new(made));
    Ok(handle)
}

fn remove(handle: u64) -> Done<Arc<Handle>> {
    let mut all = HANDLES.write().unwrap_or_else(PoisonError::into_inner);
    let found = all.as_mut().and_then(|all| all.remove(&handle));
    found.ok_or(BlasStatus::NOT_INITIALIZED)
}

/// `cublasMath_t`: a mode below 4, and two flags.
fn math_mode(mode: u32) -> Done<u32> {
    const FLAGS: u32 = 16 | 32 | 64;
    match mode & !FLAGS {
        0..=4 | 8 => Ok(mode),
        _ => Err(INVALID),
    }
}

exports! {
    /// Creates a handle.
    fn cublasCreate_v2(out: Out<u64>) {
        out.check()?;
        out.set(create()?)
    }

    /// Destroys a handle.
    fn cublasDestroy_v2(handle: u64) {
        let handle = remove(handle)?;
        match stubs::blas_destroy(remote()?, handle.ctx, handle.id) {
            // Its context has gone, and it with that.
            Err(Status::ERROR_INVALID_HANDLE) => Ok(()),
            done => done.map_err(of_driver),
        }
    }

    /// Sets the stream, and gives the workspace back.
    fn cublasSetStream_v2(handle: u64, stream: u64) {
        let handle = get(handle)?;
        if stream != 0 {
            let place = remote()?.place(stream).map_err(of_driver)?;
            if place.ctx != handle.ctx {
                return Err(INVALID);
            }
        }
        let had_workspace = {
            let mut state = handle.state();
            state.stream = stream;
            std::mem::take(&mut state.workspace)
        };
        if had_workspace {
            handle.send_workspace(DevPtr(0), 0)?;
        }
        Ok(())
    }

    /// The stream.
    fn cublasGetStream_v2(handle: u64, out: Out<u64>) {
        let handle = get(handle)?;
        out.set(handle.state().stream)
    }

    /// Sets device memory to work in.
    fn cublasSetWorkspace_v2(handle: u64, at: Device, bytes: usize) {
        let handle = get(handle)?;
        let ptr = at.ptr();
        if !ptr.0.is_multiple_of(WORKSPACE_ALIGN) || (ptr.0 == 0 && bytes != 0) {
            return Err(INVALID);
        }
        handle.state().workspace = true;
        handle.send_workspace(ptr, bytes as u64)
    }

    /// Sets the precision mode.
    fn cublasSetMathMode(handle: u64, mode: u32) {
        let handle = get(handle)?;
        handle.state().math = math_mode(mode)?;
        Ok(())
    }

    /// The precision mode.
    fn cublasGetMathMode(handle: u64, out: Out<u32>) {
        let handle = get(handle)?;
        out.set(handle.state().math)
    }

    /// Sets where scalars lie.
    fn cublasSetPointerMode_v2(handle: u64, mode: u32) {
        let handle = get(handle)?;
        if mode > 1 {
            return Err(INVALID);
        }
        handle.state().pointers = mode;
        Ok(())
    }

    /// Where scalars lie.
    fn cublasGetPointerMode_v2(handle: u64, out: Out<u32>) {
        let handle = get(handle)?;
        out.set(handle.state().pointers)
    }

    /// Allows or forbids atomic operations.
    fn cublasSetAtomicsMode(handle: u64, mode: u32) {
        let handle = get(handle)?;
        if mode > 1 {
            return Err(INVALID);
        }
        handle.state().atomics = mode;
        Ok(())
    }

    /// Whether atomic operations are allowed.
    fn cublasGetAtomicsMode(handle: u64, out: Out<u32>) {
        let handle = get(handle)?;
        out.set(handle.state().atomics)
    }

    /// Sets the number of multiprocessors that routines should be tuned for: a hint, of which the
    /// results do not depend; it stays in the guest.
    fn cublasSetSmCountTarget(handle: u64, count: i32) {
        let handle = get(handle)?;
        if count < 0 {
            return Err(INVALID);
        }
        handle.state().multiprocessors = count;
        Ok(())
    }

    /// The number of multiprocessors that was set.
    fn cublasGetSmCountTarget(handle: u64, out: Out<i32>) {
        let handle = get(handle)?;
        out.set(handle.state().multiprocessors)
    }
}
