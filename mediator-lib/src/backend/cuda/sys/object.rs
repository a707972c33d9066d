//! Contexts, streams and events.

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use cudarc::driver::sys;
use vgpu_protocol::Status;

use super::{Device, Driver, check, need};

/// Numbers the process's contexts. Their addresses would not do: the driver uses them again.
static SERIAL: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// Serial number of the context that is current in this thread; 0 when unknown.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// A context of the driver.
pub struct Context {
    driver: Arc<Driver>,
    raw: sys::CUcontext,
    serial: u64,
    alive: RwLock<bool>,
}

// SAFETY: the driver's functions may be called from any thread with any of its handles (CUDA C++
// Programming Guide, "Driver API": a context may be made current in any thread). The handle itself
// never changes; its end is guarded by `alive`.
unsafe impl Send for Context {}
// SAFETY: as for `Send`.
unsafe impl Sync for Context {}

/// Keeps a context from being destroyed while one of its handles is in use.
pub type Alive<'a> = RwLockReadGuard<'a, bool>;

impl Context {
    /// `cuCtxCreate`.
    pub fn create(
        driver: &Arc<Driver>,
        device: Device,
        flags: u32,
    ) -> Result<Arc<Context>, Status> {
        let f = &driver.functions;
        let (create, pop) = (need(f.cuCtxCreate_v2)?, need(f.cuCtxPopCurrent_v2)?);
        let mut raw = null_mut();
        // SAFETY: writes one handle.
        check(unsafe { create(&mut raw, flags, device.0) })?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let ctx = Context {
            driver: Arc::clone(driver),
            raw,
            serial,
            alive: RwLock::new(true),
        };
        // Creation pushes onto this thread's stack of contexts, which would grow with each one.
        CURRENT.set(0);
        let mut popped = null_mut();
        // SAFETY: writes one handle.
        check(unsafe { pop(&mut popped) })?;
        Ok(Arc::new(ctx))
    }

    pub(super) fn functions(&self) -> &super::Functions {
        &self.driver.functions
    }

    /// Holds the context alive and makes it current in this thread.
    ///
    /// # Errors
    /// `ERROR_CONTEXT_IS_DESTROYED`.
    pub(super) fn enter(&self) -> Result<Alive<'_>, Status> {
        let alive = self.hold()?;
        if CURRENT.get() != self.serial {
            let f = need(self.driver.functions.cuCtxSetCurrent)?;
            // SAFETY: the context is alive and `alive` keeps it so.
            check(unsafe { f(self.raw) })?;
            CURRENT.set(self.serial);
        }
        Ok(alive)
    }

    /// Holds the context alive.
    pub(super) fn hold(&self) -> Result<Alive<'_>, Status> {
        let alive = self.alive.read().unwrap_or_else(PoisonError::into_inner);
        if *alive {
            Ok(alive)
        } else {
            Err(Status::ERROR_CONTEXT_IS_DESTROYED)
        }
    }

    /// Holds the context alive where `held` is another one: a lock that is taken twice by one
    /// thread could wait for itself.
    fn hold_beside(&self, held: &Context) -> Result<Option<Alive<'_>>, Status> {
        if self.serial == held.serial {
            Ok(None)
        } else {
            self.hold().map(Some)
        }
    }

    /// `cuCtxDestroy`: with it goes everything that belongs to the context. It waits for work in
    /// flight, for a kernel that never ends without end.
    pub fn destroy(&self) -> Result<(), Status> {
        let mut alive = self.alive.write().unwrap_or_else(PoisonError::into_inner);
        if !*alive {
            return Ok(());
        }
        *alive = false;
        CURRENT.set(0);
        let f = need(self.driver.functions.cuCtxDestroy_v2)?;
        // SAFETY:
        // - the handle is valid: `alive` was true, and it becomes false only here;
        // - nobody uses an object of the context: every use holds `alive` for reading.
        check(unsafe { f(self.raw) })
    }

    /// True where the driver tells kernels' parameters (12.4 and newer).
    pub fn tells_params(&self) -> bool {
        self.functions().cuFuncGetParamInfo.is_some()
    }

    /// `cuCtxSynchronize`.
    pub fn synchronize(&self) -> Result<(), Status> {
        let _alive = self.enter()?;
        let f = need(self.functions().cuCtxSynchronize)?;
        // SAFETY: acts on the current context, which is this one.
        check(unsafe { f() })
    }

    /// `cuCtxGetLimit`.
    pub fn limit(&self, limit: u32) -> Result<u64, Status> {
        let _alive = self.enter()?;
        let f = need(self.functions().cuCtxGetLimit)?;
        let mut value = 0;
        // SAFETY: writes one number.
        check(unsafe { f(&mut value, limit) })?;
        Ok(value as u64)
    }

    /// `cuCtxSetLimit`.
    pub fn set_limit(&self, limit: u32, value: u64) -> Result<(), Status> {
        let _alive = self.enter()?;
        let f = need(self.functions().cuCtxSetLimit)?;
        let value = usize::try_from(value).map_err(|_| Status::ERROR_INVALID_VALUE)?;
        // SAFETY: takes numbers.
        check(unsafe { f(limit, value) })
    }

    /// `cuCtxGetStreamPriorityRange`: least and greatest.
    pub fn priorities(&self) -> Result<(i32, i32), Status> {
        let _alive = self.enter()?;
        let f = need(self.functions().cuCtxGetStreamPriorityRange)?;
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: writes two numbers.
        check(unsafe { f(&mut least, &mut greatest) })?;
        Ok((least, greatest))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.destroy();
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// A stream; a null handle is the legacy default stream of its context.
#[derive(Debug)]
pub struct Stream {
    ctx: Arc<Context>,
    pub(super) raw: sys::CUstream,
}

// SAFETY: as for `Context`.
unsafe impl Send for Stream {}
// SAFETY: as for `Context`.
unsafe impl Sync for Stream {}

/// `CU_STREAM_NON_BLOCKING`: not ordered with the default stream.
pub const NON_BLOCKING: u32 = 1;

impl Stream {
    /// `cuStreamCreateWithPriority`.
    pub fn create(ctx: &Arc<Context>, flags: u32, priority: i32) -> Result<Stream, Status> {
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuStreamCreateWithPriority)?;
        let mut raw = null_mut();
        // SAFETY: writes one handle.
        check(unsafe { f(&mut raw, flags, priority) })?;
        Ok(Stream {
            ctx: Arc::clone(ctx),
            raw,
        })
    }

    /// The context's default stream.
    pub fn default_of(ctx: &Arc<Context>) -> Stream {
        Stream {
            ctx: Arc::clone(ctx),
            raw: null_mut(),
        }
    }

    /// Its context.
    pub fn context(&self) -> &Arc<Context> {
        &self.ctx
    }

    /// `cuStreamQuery`: true when its work is done.
    pub fn is_idle(&self) -> Result<bool, Status> {
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuStreamQuery)?;
        // SAFETY: a stream of a context that is alive; null means the current context's.
        ready(unsafe { f(self.raw) })
    }

    /// `cuStreamSynchronize`, for work that is known to end.
    pub fn synchronize(&self) -> Result<(), Status> {
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuStreamSynchronize)?;
        // SAFETY: as in `is_idle`.
        check(unsafe { f(self.raw) })
    }

    /// `cuStreamWaitEvent`.
    pub fn wait_for(&self, event: &Event, flags: u32) -> Result<(), Status> {
        let _alive = self.ctx.enter()?;
        let _event_alive = event.ctx.hold_beside(&self.ctx)?;
        let f = need(self.ctx.functions().cuStreamWaitEvent)?;
        // SAFETY: stream and event, each of a context that is alive.
        check(unsafe { f(self.raw, event.raw, flags) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.raw.is_null() {
            return;
        }
        let Ok(_alive) = self.ctx.enter() else { return };
        if let Some(f) = self.ctx.functions().cuStreamDestroy_v2 {
            // SAFETY: created by `create`, destroyed once, its context is alive. Work in flight
            // goes on; the driver frees the stream after it.
            let _ = unsafe { f(self.raw) };
        }
    }
}

/// An event.
#[derive(Debug)]
pub struct Event {
    ctx: Arc<Context>,
    raw: sys::CUevent,
}

// SAFETY: as for `Context`.
unsafe impl Send for Event {}
// SAFETY: as for `Context`.
unsafe impl Sync for Event {}

/// `CU_EVENT_DISABLE_TIMING`: the cheapest kind.
pub const DISABLE_TIMING: u32 = 2;

impl Event {
    /// `cuEventCreate`.
    pub fn create(ctx: &Arc<Context>, flags: u32) -> Result<Event, Status> {
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuEventCreate)?;
        let mut raw = null_mut();
        // SAFETY: writes one handle.
        check(unsafe { f(&mut raw, flags) })?;
        Ok(Event {
            ctx: Arc::clone(ctx),
            raw,
        })
    }

    /// `cuEventRecord`, or `cuEventRecordWithFlags` where there are flags.
    pub fn record(&self, stream: &Stream, flags: u32) -> Result<(), Status> {
        let _alive = stream.ctx.enter()?;
        let _event_alive = self.ctx.hold_beside(&stream.ctx)?;
        let functions = self.ctx.functions();
        if flags == 0 {
            let f = need(functions.cuEventRecord)?;
            // SAFETY: event and stream, each of a context that is alive.
            check(unsafe { f(self.raw, stream.raw) })
        } else {
            let f = need(functions.cuEventRecordWithFlags)?;
            // SAFETY: as above.
            check(unsafe { f(self.raw, stream.raw, flags) })
        }
    }

    /// `cuEventQuery`: true when the last record has been reached.
    pub fn is_reached(&self) -> Result<bool, Status> {
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuEventQuery)?;
        // SAFETY: an event of a context that is alive.
        ready(unsafe { f(self.raw) })
    }

    /// `cuEventElapsedTime`, in milliseconds.
    pub fn elapsed_since(&self, start: &Event) -> Result<f32, Status> {
        let _alive = self.ctx.enter()?;
        let _start_alive = start.ctx.hold_beside(&self.ctx)?;
        let functions = self.ctx.functions();
        let f = need(
            functions
                .cuEventElapsedTime_v2
                .or(functions.cuEventElapsedTime),
        )?;
        let mut milliseconds = 0.0;
        // SAFETY: writes one number; two events of contexts that are alive.
        check(unsafe { f(&mut milliseconds, start.raw, self.raw) })?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(_alive) = self.ctx.enter() else { return };
        if let Some(f) = self.ctx.functions().cuEventDestroy_v2 {
            // SAFETY: created by `create`, destroyed once, its context is alive.
            let _ = unsafe { f(self.raw) };
        }
    }
}

fn ready(result: u32) -> Result<bool, Status> {
    match Status(result) {
        Status::SUCCESS => Ok(true),
        Status::ERROR_NOT_READY => Ok(false),
        error => Err(error),
    }
}
