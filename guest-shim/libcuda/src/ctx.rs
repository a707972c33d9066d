//! Contexts: explicit and primary ones, and each thread's stack of them.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{self, CUcontext, CUctx_flags_enum as Flags, CUdevice};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventId, stubs};

use crate::abi::{Done, Host, INVALID, Out, exports};
use crate::init::{Driver, driver};
use crate::pending::Pending;
use crate::stream::{Stream, forget_thread_streams};

/// Bits of the flags of a context: `CU_CTX_FLAGS_MASK`.
const FLAGS_MASK: u32 = 0xff;
/// Bits of the scheduling policy, and its values: auto, spin, yield, blocking sync.
const SCHED_MASK: u32 = 0x07;
const SCHED_VALUES: [u32; 4] = [0, 1, 2, 4];
/// `CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE` is gone since 11.0: flags may change at any time.
const API_VERSION: u32 = 3020;
/// `CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY`.
const UNSUPPORTED_AFFINITY: Status = Status(224);

/// A context.
#[derive(Debug)]
pub struct Ctx {
    /// Its handle.
    pub handle: u64,
    /// The device's number.
    pub device: CUdevice,
    /// The host's number of it; 0 after its destruction.
    id: AtomicU32,
    flags: AtomicU32,
    primary: bool,
    unique: u64,
    /// Retains of a primary context that were not released.
    users: AtomicU32,
    /// Uses that cuCtxAttach counts; the creation is the first.
    attached: AtomicU32,
    cache: AtomicI32,
    banks: AtomicI32,
    /// The event that all streams wait for which are made from now on (`cuCtxWaitEvent`).
    pub awaited: Mutex<Option<EventId>>,
    /// What its default stream was given.
    pub default_stream: Pending,
}

impl Ctx {
    /// The number that calls are sent with.
    pub fn id(&self) -> Done<CtxId> {
        match self.id.load(Ordering::Acquire) {
            0 => Err(Status::ERROR_CONTEXT_IS_DESTROYED),
            id => Ok(CtxId(id)),
        }
    }

    /// Whether its streams wait for an event that no call of theirs names.
    pub fn awaits(&self) -> bool {
        let awaited = self.awaited.lock().unwrap_or_else(|e| e.into_inner());
        awaited.is_some()
    }
}

#[derive(Default)]
struct Stack {
    handles: Vec<Arc<Ctx>>,
    epoch: u64,
}

thread_local! {
    static STACK: RefCell<Stack> = RefCell::default();
}

/// Runs `f` on this thread's stack of contexts.
fn stack<T>(f: impl FnOnce(&mut Vec<Arc<Ctx>>) -> T) -> Done<T> {
    STACK
        .try_with(|stack| {
            let mut stack = stack.borrow_mut();
            let epoch = vgpu_transport::process::epoch();
            if stack.epoch != epoch {
                // The parent's contexts are not those of a forked child.
                stack.handles.clear();
                stack.epoch = epoch;
            }
            f(&mut stack.handles)
        })
        .map_err(|_| Status::ERROR_DEINITIALIZED)
}

/// The context that is current in this thread, if there is one.
pub fn current_or_none() -> Done<Option<Arc<Ctx>>> {
    stack(|s| s.last().cloned())
}

/// The context that is current in this thread.
pub fn current() -> Done<Arc<Ctx>> {
    current_or_none()?.ok_or(Status::ERROR_INVALID_CONTEXT)
}

/// The driver, the current context and its number: what most calls begin with.
pub fn enter() -> Done<(&'static Driver, Arc<Ctx>, CtxId)> {
    let driver = driver()?;
    let ctx = current()?;
    let id = ctx.id()?;
    Ok((driver, ctx, id))
}

/// Flags of contexts. What nothing here would carry out is refused: core dumps, and that memory
/// operations always synchronise.
fn check_flags(flags: u32) -> Done {
    const NOT_CARRIED: u32 = Flags::CU_CTX_COREDUMP_ENABLE as u32
        | Flags::CU_CTX_USER_COREDUMP_ENABLE as u32
        | Flags::CU_CTX_SYNC_MEMOPS as u32;
    if flags & !FLAGS_MASK == 0 && flags & NOT_CARRIED != 0 {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    if flags & !FLAGS_MASK == 0 && SCHED_VALUES.contains(&(flags & SCHED_MASK)) {
        Ok(())
    } else {
        Err(INVALID)
    }
}

impl Driver {
    /// The context of a handle.
    pub fn context(&self, ctx: CUcontext) -> Done<Arc<Ctx>> {
        self.contexts
            .get(ctx as u64)
            .ok_or(Status::ERROR_INVALID_CONTEXT)
    }

    /// The context named, or the current one for null.
    pub fn context_or_current(&self, ctx: CUcontext) -> Done<Arc<Ctx>> {
        if ctx.is_null() {
            current()
        } else {
            self.context(ctx)
        }
    }

    /// Forgets all that belonged to a context which is gone on the host.
    fn bury(&self, ctx: &Ctx) {
        ctx.id.store(0, Ordering::Release);
        *ctx.awaited.lock().unwrap_or_else(|e| e.into_inner()) = None;
        let other = |of: &Arc<Ctx>| of.handle != ctx.handle;
        self.functions.retain(|f| other(&f.ctx));
        self.modules.retain(|m| other(&m.ctx));
        self.streams.retain(|s| other(&s.ctx));
        self.events.retain(|e| other(&e.ctx));
        self.links.retain(|l| other(&l.ctx));
        self.libraries.retain(|l| {
            l.forget(ctx.handle);
            true
        });
        self.allocs_mut().retain(|_, a| other(&a.ctx));
        self.forget_host_memory(|of| !other(of));
        self.forget_pools(ctx);
        forget_thread_streams(ctx.handle);
    }

    fn new_context(
        &self,
        device: CUdevice,
        flags: u32,
        id: CtxId,
        primary: bool,
    ) -> Done<Arc<Ctx>> {
        let unique = self.unique_id();
        let made = self.contexts.insert(|handle| Ctx {
            handle,
            device,
            id: AtomicU32::new(id.0),
            flags: AtomicU32::new(flags),
            primary,
            unique,
            users: AtomicU32::new(0),
            attached: AtomicU32::new(1),
            cache: AtomicI32::new(0),
            banks: AtomicI32::new(0),
            awaited: Mutex::new(None),
            default_stream: Pending::default(),
        });
        made.map(|(_, ctx)| ctx).ok_or(Status::ERROR_OUT_OF_MEMORY)
    }

    /// The primary context's object, which lives for ever, active or not.
    fn primary(&self, device: CUdevice) -> Done<Arc<Ctx>> {
        self.device(device)?;
        let mut all = self.primaries.lock().unwrap_or_else(|e| e.into_inner());
        let place = all
            .get_mut(device as usize)
            .ok_or(Status::ERROR_INVALID_DEVICE)?;
        if let Some(ctx) = place {
            return Ok(Arc::clone(ctx));
        }
        let ctx = self.new_context(device, 0, CtxId(0), true)?;
        Ok(Arc::clone(place.insert(ctx)))
    }
}

fn create(out: Out<CUcontext>, flags: u32, device: CUdevice) -> Done {
    let driver = driver()?;
    out.check()?;
    check_flags(flags)?;
    driver.device(device)?;
    let id = stubs::ctx_create(driver.channel, CtxId(0), flags, device as u32)?;
    let ctx = driver.new_context(device, flags, id, false)?;
    out.set(ctx.handle as CUcontext)?;
    stack(|s| s.push(ctx))
}

fn release(device: CUdevice) -> Done {
    let driver = driver()?;
    let ctx = driver.primary(device)?;
    // Both changes under one lock: another thread may be retaining.
    let _turn = driver.primaries.lock().unwrap_or_else(|e| e.into_inner());
    let users = ctx.users.load(Ordering::Relaxed);
    if users == 0 {
        return Err(Status::ERROR_INVALID_CONTEXT);
    }
    stubs::primary_ctx_release(driver.channel, CtxId(0), device as u32)?;
    ctx.users.store(users - 1, Ordering::Relaxed);
    if users == 1 {
        driver.bury(&ctx);
    }
    Ok(())
}

fn reset(device: CUdevice) -> Done {
    let driver = driver()?;
    let ctx = driver.primary(device)?;
    let _turn = driver.primaries.lock().unwrap_or_else(|e| e.into_inner());
    if ctx.id.load(Ordering::Acquire) == 0 {
        return Ok(());
    }
    stubs::primary_ctx_reset(driver.channel, CtxId(0), device as u32)?;
    ctx.users.store(0, Ordering::Relaxed);
    driver.bury(&ctx);
    Ok(())
}

/// Calls with a device's primary context as the current one, which is retained meanwhile.
pub fn with_primary<T>(
    driver: &Driver,
    device: CUdevice,
    call: impl FnOnce() -> Done<T>,
) -> Done<T> {
    let ctx = retain(driver, device)?;
    stack(|s| s.push(Arc::clone(&ctx)))?;
    let result = call();
    stack(|s| {
        // Nothing but `call` can have pushed or popped, and it leaves the stack as it was.
        s.pop();
    })?;
    release(device)?;
    result
}

fn retain(driver: &Driver, device: CUdevice) -> Done<Arc<Ctx>> {
    let ctx = driver.primary(device)?;
    let _turn = driver.primaries.lock().unwrap_or_else(|e| e.into_inner());
    let id = stubs::primary_ctx_retain(driver.channel, CtxId(0), device as u32)?;
    ctx.id.store(id.0, Ordering::Release);
    ctx.users.fetch_add(1, Ordering::Relaxed);
    Ok(ctx)
}

fn set_primary_flags(device: CUdevice, flags: u32) -> Done {
    let driver = driver()?;
    check_flags(flags)?;
    driver
        .primary(device)?
        .flags
        .store(flags, Ordering::Relaxed);
    Ok(())
}

fn destroy(ctx: CUcontext) -> Done {
    let driver = driver()?;
    if ctx.is_null() {
        return Err(INVALID);
    }
    let ctx = driver.context(ctx)?;
    if ctx.primary {
        // "cuCtxDestroy … primary context": use cuDevicePrimaryCtxRelease instead.
        return Err(Status::ERROR_INVALID_CONTEXT);
    }
    stubs::ctx_destroy(driver.channel, CtxId(0), ctx.id()?)?;
    driver.contexts.remove(ctx.handle);
    driver.bury(&ctx);
    stack(|s| {
        if s.last().is_some_and(|top| top.handle == ctx.handle) {
            s.pop();
        }
    })
}

fn push(ctx: CUcontext) -> Done {
    let ctx = driver()?.context(ctx)?;
    ctx.id()?;
    stack(|s| s.push(ctx))
}

fn pop(out: Out<CUcontext>) -> Done {
    driver()?;
    let ctx = stack(Vec::pop)?.ok_or(Status::ERROR_INVALID_CONTEXT)?;
    out.set_if_given(ctx.handle as CUcontext);
    Ok(())
}

fn synchronize(ctx: &Ctx) -> Done {
    let driver = driver()?;
    driver.check_unsafe()?;
    let own = |stream: &Arc<Stream>| stream.ctx.handle == ctx.handle;
    let streams = driver.streams.all().into_iter().filter(own);
    let seen: Vec<_> = streams.map(|s| (s.pending.seen(), s)).collect();
    let seen_of_default = ctx.default_stream.seen();
    stubs::ctx_synchronize(driver.channel, ctx.id()?)?;
    ctx.default_stream.waited_for(seen_of_default);
    for (seen, stream) in seen {
        stream.pending.waited_for(seen);
    }
    driver.release_pools();
    Ok(())
}

exports! {
    /// Retains a device's primary context.
    fn cuDevicePrimaryCtxRetain(out: Out<CUcontext>, device: CUdevice) {
        let driver = driver()?;
        out.check()?;
        out.set(retain(driver, device)?.handle as CUcontext)
    }

    /// Releases a device's primary context; the last release destroys it.
    fn cuDevicePrimaryCtxRelease_v2 | cuDevicePrimaryCtxRelease [_same] (device: CUdevice) {
        release(device)
    }

    /// Destroys a device's primary context whoever uses it.
    fn cuDevicePrimaryCtxReset_v2 | cuDevicePrimaryCtxReset [_same] (device: CUdevice) {
        reset(device)
    }

    /// Sets the flags of a device's primary context.
    fn cuDevicePrimaryCtxSetFlags_v2 | cuDevicePrimaryCtxSetFlags [_same] (device: CUdevice, flags: u32) {
        set_primary_flags(device, flags)
    }

    /// Flags of a device's primary context, and whether it is active.
    fn cuDevicePrimaryCtxGetState(device: CUdevice, flags: Out<u32>, active: Out<i32>) {
        let driver = driver()?;
        flags.check()?;
        active.check()?;
        let ctx = driver.primary(device)?;
        flags.set(ctx.flags.load(Ordering::Relaxed))?;
        active.set((ctx.id.load(Ordering::Acquire) != 0).into())
    }

    /// Creates a context and makes it current.
    fn cuCtxCreate_v2 | cuCtxCreate [_same] (out: Out<CUcontext>, flags: u32, device: CUdevice) {
        create(out, flags, device)
    }

    /// Creates a context with an execution affinity, of which none is supported.
    fn cuCtxCreate_v3(out: Out<CUcontext>, _affinity: Host, count: i32, flags: u32, device: CUdevice) {
        if count != 0 {
            return Err(UNSUPPORTED_AFFINITY);
        }
        create(out, flags, device)
    }

    /// Creates a context with parameters, of which none is supported.
    fn cuCtxCreate_v4(out: Out<CUcontext>, params: Host, flags: u32, device: CUdevice) {
        if !params.is_null() {
            let params = params.values::<sys::CUctxCreateParams>().get()?;
            if params.numExecAffinityParams != 0 {
                return Err(UNSUPPORTED_AFFINITY);
            }
            if !params.cigParams.is_null() {
                return Err(Status::ERROR_NOT_SUPPORTED);
            }
        }
        create(out, flags, device)
    }

    /// Destroys a context.
    fn cuCtxDestroy_v2 | cuCtxDestroy [_same] (ctx: CUcontext) {
        destroy(ctx)
    }

    /// Counts one more use of the current context (deprecated by NVIDIA).
    fn cuCtxAttach(out: Out<CUcontext>, flags: u32) {
        driver()?;
        out.check()?;
        if flags != 0 {
            return Err(INVALID);
        }
        let ctx = current()?;
        ctx.id()?;
        ctx.attached.fetch_add(1, Ordering::Relaxed);
        out.set(ctx.handle as CUcontext)
    }

    /// Counts one use less; the last one destroys the context, which must be the current one
    /// (deprecated by NVIDIA).
    fn cuCtxDetach(ctx: CUcontext) {
        let of = driver()?.context(ctx)?;
        if current()?.handle != of.handle {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        match of.attached.fetch_sub(1, Ordering::Relaxed) {
            1 => destroy(ctx),
            _ => Ok(()),
        }
    }

    /// Pushes a context on this thread's stack.
    fn cuCtxPushCurrent_v2 | cuCtxPushCurrent [_same] (ctx: CUcontext) {
        push(ctx)
    }

    /// Pops the current context from this thread's stack.
    fn cuCtxPopCurrent_v2 | cuCtxPopCurrent [_same] (out: Out<CUcontext>) {
        pop(out)
    }

    /// Replaces the top of this thread's stack; null pops it.
    fn cuCtxSetCurrent(ctx: CUcontext) {
        let driver = driver()?;
        let ctx = if ctx.is_null() { None } else { Some(driver.context(ctx)?) };
        if let Some(ctx) = &ctx {
            ctx.id()?;
        }
        stack(|s| {
            s.pop();
            s.extend(ctx);
        })
    }

    /// The current context, null if there is none.
    fn cuCtxGetCurrent(out: Out<CUcontext>) {
        driver()?;
        out.check()?;
        let handle = current_or_none()?.map_or(0, |c| c.handle);
        out.set(handle as CUcontext)
    }

    /// The current context's device.
    fn cuCtxGetDevice(device: Out<CUdevice>) {
        driver()?;
        device.check()?;
        device.set(current()?.device)
    }

    /// A context's device.
    fn cuCtxGetDevice_v2(device: Out<CUdevice>, ctx: CUcontext) {
        let driver = driver()?;
        device.check()?;
        device.set(driver.context_or_current(ctx)?.device)
    }

    /// The current context's flags.
    fn cuCtxGetFlags(flags: Out<u32>) {
        driver()?;
        flags.check()?;
        flags.set(current()?.flags.load(Ordering::Relaxed))
    }

    /// Sets the current context's flags.
    fn cuCtxSetFlags(flags: u32) {
        driver()?;
        check_flags(flags)?;
        current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    /// A number that no other context has.
    fn cuCtxGetId(ctx: CUcontext, id: Out<u64>) {
        let driver = driver()?;
        id.check()?;
        id.set(driver.context_or_current(ctx)?.unique)
    }

    /// The version of the API that contexts are made with.
    fn cuCtxGetApiVersion(ctx: CUcontext, version: Out<u32>) {
        let driver = driver()?;
        version.check()?;
        driver.context_or_current(ctx)?;
        version.set(API_VERSION)
    }

    /// Waits for the current context's work.
    fn cuCtxSynchronize() {
        driver()?;
        synchronize(&*current()?)
    }

    /// Waits for a context's work.
    fn cuCtxSynchronize_v2(ctx: CUcontext) {
        synchronize(&*driver()?.context_or_current(ctx)?)
    }

    /// A resource limit.
    fn cuCtxGetLimit(value: Out<usize>, limit: u32) {
        let (driver, _, id) = enter()?;
        value.check()?;
        value.set(stubs::ctx_get_limit(driver.channel, id, limit)? as usize)
    }

    /// Sets a resource limit.
    fn cuCtxSetLimit(limit: u32, value: usize) {
        let (driver, _, id) = enter()?;
        stubs::ctx_set_limit(driver.channel, id, limit, value as u64)
    }

    /// The preferred split of cache and shared memory.
    fn cuCtxGetCacheConfig(config: Out<i32>) {
        enter()?;
        config.check()?;
        config.set(current()?.cache.load(Ordering::Relaxed))
    }

    /// Sets the preferred split of cache and shared memory: a hint.
    fn cuCtxSetCacheConfig(config: i32) {
        enter()?;
        if !(0..=3).contains(&config) {
            return Err(INVALID);
        }
        current()?.cache.store(config, Ordering::Relaxed);
        Ok(())
    }

    /// The width of shared memory's banks.
    fn cuCtxGetSharedMemConfig(config: Out<i32>) {
        enter()?;
        config.check()?;
        config.set(current()?.banks.load(Ordering::Relaxed))
    }

    /// Sets the width of shared memory's banks: without effect on devices with fixed banks.
    fn cuCtxSetSharedMemConfig(config: i32) {
        enter()?;
        if !(0..=2).contains(&config) {
            return Err(INVALID);
        }
        current()?.banks.store(config, Ordering::Relaxed);
        Ok(())
    }

    /// Least and greatest stream priority; both may be null.
    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        let (driver, ctx, _) = enter()?;
        let range = driver.device(ctx.device)?.priorities();
        least.set_if_given(range.0);
        greatest.set_if_given(range.1);
        Ok(())
    }
}
