//! Memory in stream order, and its pools (CUDA Driver API, "Stream Ordered Memory Allocator").
//!
//! A pool takes segments of device memory from the host and hands out pieces of them here, without
//! a message. A piece that was freed in one stream goes to the same stream again at once; to another
//! one after an event of the first (`CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES`). Segments
//! without a piece in use go back to the host when the program waits for the device, as far as the
//! release threshold says.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::{CUdevice, CUdeviceptr, CUmemoryPool, CUstream};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, EventId, StreamId, stubs};

use crate::abi::{Done, Host, INVALID, Out, Zero, exports};
use crate::capture::Target;
use crate::ctx::Ctx;
use crate::graph::Work;
use crate::init::{Driver, driver};
use crate::stream::Queue;

/// Granularity of pieces, in bytes.
const UNIT: u64 = 512;
/// Granularity of segments, in bytes.
const SEGMENT: u64 = 2 << 20;
/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIMING: u32 = 2;

/// `CUmemPool_attribute`.
const REUSE_FOLLOW_EVENT_DEPENDENCIES: u32 = 1;
const REUSE_ALLOW_INTERNAL_DEPENDENCIES: u32 = 3;
const RELEASE_THRESHOLD: u32 = 4;
const RESERVED_MEM_CURRENT: u32 = 5;
const RESERVED_MEM_HIGH: u32 = 6;
const USED_MEM_CURRENT: u32 = 7;
const USED_MEM_HIGH: u32 = 8;

/// A pool.
#[derive(Debug)]
pub struct Pool {
    device: CUdevice,
    /// The device's own, which cannot be destroyed.
    default: bool,
    /// Most bytes that it may hold; 0 for any.
    max_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    segments: BTreeMap<u64, Segment>,
    /// Pieces that nobody has, by address.
    free: BTreeMap<u64, Piece>,
    /// Lengths of pieces that the program has.
    used: BTreeMap<u64, u64>,
    /// For each stream in which something was freed, an event behind the last time.
    events: HashMap<(u64, u32), EventId>,
    /// `CU_MEMPOOL_ATTR_REUSE_…`.
    reuse: [i32; 3],
    threshold: u64,
    reserved: Level,
    in_use: Level,
    destroyed: bool,
}

/// Device memory of the host.
#[derive(Clone, Debug)]
struct Segment {
    bytes: u64,
    ctx: Arc<Ctx>,
}

/// A piece that nobody has.
#[derive(Clone, Debug, Default)]
struct Piece {
    bytes: u64,
    /// Streams in whose turn it was freed, as far as nobody has waited for them.
    after: Vec<u32>,
}

/// Bytes now, and the most there were.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    now: u64,
    high: u64,
}

impl Level {
    fn add(&mut self, bytes: u64) {
        self.now += bytes;
        self.high = self.high.max(self.now);
    }

    fn take(&mut self, bytes: u64) {
        self.now = self.now.saturating_sub(bytes);
    }
}

impl Default for State {
    fn default() -> State {
        State {
            segments: BTreeMap::new(),
            free: BTreeMap::new(),
            used: BTreeMap::new(),
            events: HashMap::new(),
            reuse: [1; 3],
            threshold: 0,
            reserved: Level::default(),
            in_use: Level::default(),
            destroyed: false,
        }
    }
}

impl State {
    /// The segment that holds an address.
    fn segment(&self, address: u64) -> Option<(u64, &Segment)> {
        let (base, segment) = self.segments.range(..=address).next_back()?;
        (address - base < segment.bytes).then_some((*base, segment))
    }

    /// Where the best piece for a stream of a context begins: one that its own work freed, then one
    /// of another stream's.
    fn find(&self, ctx: &Ctx, stream: StreamId, bytes: u64) -> Option<u64> {
        let others = self.reuse[REUSE_ALLOW_INTERNAL_DEPENDENCIES as usize - 1] != 0;
        let foreign = |p: &Piece| p.after.iter().any(|s| *s != stream.0);
        let of_ctx = |at: u64| {
            let segment = self.segment(at);
            segment.is_some_and(|(_, s)| s.ctx.handle == ctx.handle)
        };
        let fits = self
            .free
            .iter()
            .filter(|(at, p)| p.bytes >= bytes && (others || !foreign(p)) && of_ctx(**at));
        fits.min_by_key(|(_, p)| (foreign(p), p.bytes))
            .map(|(at, _)| *at)
    }

    /// Takes the first bytes of a free piece; gives the streams that it must follow.
    fn take(&mut self, at: u64, bytes: u64) -> Vec<u32> {
        let Some(piece) = self.free.remove(&at) else {
            return Vec::new();
        };
        if piece.bytes > bytes {
            let rest = Piece {
                bytes: piece.bytes - bytes,
                after: piece.after.clone(),
            };
            self.free.insert(at + bytes, rest);
        }
        self.used.insert(at, bytes);
        self.in_use.add(bytes);
        piece.after
    }

    /// Gives a piece back, and joins it with its neighbours in the segment.
    fn give(&mut self, at: u64, after: Vec<u32>) -> Option<u64> {
        let bytes = self.used.remove(&at)?;
        self.in_use.take(bytes);
        let (base, segment) = self.segment(at)?;
        let end = base + segment.bytes;
        let mut piece = Piece { bytes, after };
        let mut start = at;
        let join = |piece: &mut Piece, other: Piece| {
            piece.bytes += other.bytes;
            for stream in other.after {
                if !piece.after.contains(&stream) {
                    piece.after.push(stream);
                }
            }
        };
        if let Some((before, p)) = self.free.range(base..at).next_back()
            && before + p.bytes == at
        {
            start = *before;
            let other = self.free.remove(&start)?;
            join(&mut piece, other);
        }
        let next = at + bytes;
        if next < end
            && let Some(other) = self.free.remove(&next)
        {
            join(&mut piece, other);
        }
        self.free.insert(start, piece);
        Some(bytes)
    }

    /// Takes out segments without a piece in use, until no more than `keep` bytes are held.
    fn release(&mut self, keep: u64) -> Vec<(u64, Segment)> {
        let mut released = Vec::new();
        while self.reserved.now > keep {
            let whole = |(at, p): (&u64, &Piece)| {
                let segment = self.segments.get(at)?;
                (p.bytes == segment.bytes).then_some(*at)
            };
            let Some(at) = self.free.iter().find_map(whole) else {
                break;
            };
            self.free.remove(&at);
            if let Some(segment) = self.segments.remove(&at) {
                self.reserved.take(segment.bytes);
                released.push((at, segment));
            }
        }
        released
    }
}

/// Pools of the process.
#[derive(Debug, Default)]
pub struct Pools {
    /// The default and the current one of each device, by ordinal.
    of_device: Mutex<HashMap<CUdevice, (u64, u64)>>,
    /// A segment may be released when the program waits.
    holds: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Driver {
    fn new_pool(&self, device: CUdevice, default: bool, max_bytes: u64) -> Done<u64> {
        let made = self.mem_pools.insert(|_| Pool {
            device,
            default,
            max_bytes,
            state: Mutex::default(),
        });
        Ok(made.ok_or(Status::ERROR_OUT_OF_MEMORY)?.0)
    }

    /// The default and the current pool of a device.
    fn pools_of(&self, device: CUdevice) -> Done<(u64, u64)> {
        self.device(device)?;
        let mut all = lock(&self.pools.of_device);
        if let Some(found) = all.get(&device) {
            return Ok(*found);
        }
        let handle = self.new_pool(device, true, 0)?;
        all.insert(device, (handle, handle));
        Ok((handle, handle))
    }

    fn pool(&self, pool: CUmemoryPool) -> Done<Arc<Pool>> {
        let found = self.mem_pools.get(pool as u64).ok_or(INVALID)?;
        match lock(&found.state).destroyed {
            true => Err(INVALID),
            false => Ok(Arc::clone(&found)),
        }
    }

    fn free_segments(&self, segments: Vec<(u64, Segment)>) -> Done {
        for (at, segment) in segments {
            // A context that is gone has taken its memory along.
            if let Ok(ctx) = segment.ctx.id() {
                stubs::mem_free(self.channel, ctx, DevPtr(at))?;
            }
        }
        Ok(())
    }

    /// "The allocator will try to release memory back to the OS on the next call to stream, event or
    /// context synchronize" (`CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`).
    pub fn release_pools(&self) {
        if !self.pools.holds.swap(false, Ordering::AcqRel) {
            return;
        }
        for pool in self.mem_pools.all() {
            let released = {
                let mut state = lock(&pool.state);
                let keep = state.threshold;
                state.release(keep)
            };
            // The program waited for something else: its call has succeeded.
            let _ = self.free_segments(released);
        }
    }

    /// Forgets what pools had in a context that is gone.
    pub fn forget_pools(&self, ctx: &Ctx) {
        for pool in self.mem_pools.all() {
            let mut state = lock(&pool.state);
            let gone: Vec<(u64, u64)> = state
                .segments
                .iter()
                .filter(|(_, s)| s.ctx.handle == ctx.handle)
                .map(|(at, s)| (*at, s.bytes))
                .collect();
            for (at, bytes) in gone {
                state.segments.remove(&at);
                state.reserved.take(bytes);
                state.free.retain(|a, _| !(at..at + bytes).contains(a));
                let used: Vec<u64> = state.used.range(at..at + bytes).map(|(a, _)| *a).collect();
                for a in used {
                    let piece = state.used.remove(&a).unwrap_or_default();
                    state.in_use.take(piece);
                }
            }
            state.events.retain(|(of, _), _| *of != ctx.handle);
        }
    }
}

impl Pool {
    /// Takes a piece for a stream.
    fn alloc(&self, driver: &Driver, queue: &Queue, bytes: u64) -> Done<u64> {
        let bytes = bytes
            .checked_next_multiple_of(UNIT)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let mut state = lock(&self.state);
        let at = match state.find(&queue.ctx, queue.id, bytes) {
            Some(at) => at,
            None => self.grow(driver, &mut state, queue, bytes)?,
        };
        let after = state.take(at, bytes);
        for stream in after.iter().filter(|s| **s != queue.id.0) {
            let Some(event) = state.events.get(&(queue.ctx.handle, *stream)) else {
                continue;
            };
            let waits = stubs::stream_wait_event(driver.channel, queue.ctx_id, queue.id, *event, 0);
            if let Err(status) = waits {
                state.give(at, after.clone());
                return Err(status);
            }
        }
        Ok(at)
    }

    /// Takes another segment from the host; gives where it begins.
    fn grow(&self, driver: &Driver, state: &mut State, queue: &Queue, bytes: u64) -> Done<u64> {
        let whole = bytes
            .checked_next_multiple_of(SEGMENT)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let most = match self.max_bytes {
            0 => u64::MAX,
            most => most,
        };
        let room = |state: &State| {
            state
                .reserved
                .now
                .checked_add(whole)
                .is_some_and(|s| s <= most)
        };
        if !room(state) {
            let released = state.release(most.saturating_sub(whole));
            driver.free_segments(released)?;
        }
        if !room(state) {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let alloc = || stubs::mem_alloc(driver.channel, queue.ctx_id, whole);
        let base = match alloc() {
            Err(Status::ERROR_OUT_OF_MEMORY) if state.reserved.now > state.in_use.now => {
                // What the pool holds without use may be what is missing.
                let released = state.release(0);
                driver.free_segments(released)?;
                alloc()?
            }
            made => made?,
        };
        let segment = Segment {
            bytes: whole,
            ctx: Arc::clone(&queue.ctx),
        };
        state.segments.insert(base.0, segment);
        state.reserved.add(whole);
        let piece = Piece {
            bytes: whole,
            after: Vec::new(),
        };
        state.free.insert(base.0, piece);
        Ok(base.0)
    }

    /// Gives a piece back in a stream's turn; `None` where all work has been waited for.
    fn free(&self, driver: &Driver, at: u64, queue: Option<&Queue>) -> Done {
        let mut state = lock(&self.state);
        let after = match queue {
            Some(queue) => {
                state.mark(driver, &queue.ctx, queue.ctx_id, queue.id)?;
                vec![queue.id.0]
            }
            None => Vec::new(),
        };
        state.give(at, after).ok_or(INVALID)?;
        if state.destroyed {
            let released = state.release(0);
            driver.free_segments(released)?;
        }
        driver.pools.holds.store(true, Ordering::Release);
        Ok(())
    }
}

impl State {
    /// Records the event behind a stream's work so far.
    fn mark(&mut self, driver: &Driver, ctx: &Ctx, id: CtxId, stream: StreamId) -> Done {
        let key = (ctx.handle, stream.0);
        let event = match self.events.get(&key) {
            Some(event) => *event,
            None => {
                let event = EventId(driver.new_event_id());
                stubs::event_create(driver.channel, id, event, NO_TIMING)?;
                self.events.insert(key, event);
                event
            }
        };
        stubs::event_record(driver.channel, id, event, stream, 0)
    }
}

/// Allocates in a stream's order; without a pool, from the current one of the stream's device.
fn alloc(
    out: Out<CUdeviceptr>,
    bytes: usize,
    pool: Option<CUmemoryPool>,
    stream: CUstream,
    zero: Zero,
) -> Done {
    let driver = driver()?;
    let target = driver.target(stream, zero)?;
    out.check()?;
    let pool = pool.map(|pool| driver.pool(pool)).transpose()?;
    if bytes == 0 {
        return Err(INVALID);
    }
    let queue = match target {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            let memory = driver.graph_memory(&capture.queue.ctx, bytes as u64)?;
            let address = memory.address;
            capture.add(Work::Alloc(memory))?;
            return out.set(address);
        }
    };
    let pool = match pool {
        Some(pool) => pool,
        None => driver.pool(driver.pools_of(queue.ctx.device)?.1 as CUmemoryPool)?,
    };
    if pool.device != queue.ctx.device {
        return Err(INVALID);
    }
    let at = pool.alloc(driver, &queue, bytes as u64)?;
    driver.add_pool_alloc(DevPtr(at), bytes as u64, Arc::clone(&queue.ctx), pool);
    out.set(at)
}

fn free(at: CUdeviceptr, stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = match driver.target(stream, zero)? {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            driver.check_range(at, 1)?;
            return capture.add(Work::Free(at));
        }
    };
    if driver.free_graph_memory(at)? {
        return Ok(());
    }
    let alloc = driver.take_alloc(at)?;
    match &alloc.pool {
        Some(pool) => pool.free(driver, at, Some(&queue)),
        // Of cuMemAlloc: the host frees it after all earlier work of its context.
        None => stubs::mem_free(driver.channel, alloc.ctx.id()?, DevPtr(at)),
    }
}

impl Driver {
    /// Frees memory of a pool for cuMemFree, which waits for all work that may use it.
    pub fn free_to_pool(&self, at: u64, ctx: &Arc<Ctx>, pool: &Pool) -> Done {
        if let Ok(id) = ctx.id() {
            stubs::ctx_synchronize(self.channel, id)?;
        }
        pool.free(self, at, None)
    }
}

/// A place of memory: type and number (`CUmemLocation`).
fn location(at: Host) -> Done<(u32, i32)> {
    Ok((at.values().get()?, at.offset(4).values().get()?))
}

/// The device of a place; pools of the host's memory are not there.
fn device_of(driver: &Driver, (kind, id): (u32, i32)) -> Done<CUdevice> {
    match kind {
        1 => {
            driver.device(id)?;
            Ok(id)
        }
        2..=4 => Err(Status::ERROR_NOT_SUPPORTED),
        _ => Err(INVALID),
    }
}

/// `CU_MEM_ALLOCATION_TYPE_PINNED` is the one type of allocation that pools have here.
fn check_type(kind: u32) -> Done {
    match kind {
        1 => Ok(()),
        2 => Err(Status::ERROR_NOT_SUPPORTED),
        _ => Err(INVALID),
    }
}

/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_WRITE: u32 = 3;

exports! {
    /// Allocates in a stream's order from the current pool of its device.
    fn cuMemAllocAsync | cuMemAllocAsync_ptsz [zero] (out: Out<CUdeviceptr>, bytes: usize, stream: CUstream) {
        alloc(out, bytes, None, stream, zero)
    }

    /// Allocates in a stream's order from a pool.
    fn cuMemAllocFromPoolAsync | cuMemAllocFromPoolAsync_ptsz [zero] (
        out: Out<CUdeviceptr>, bytes: usize, pool: CUmemoryPool, stream: CUstream,
    ) {
        alloc(out, bytes, Some(pool), stream, zero)
    }

    /// Frees in a stream's order.
    fn cuMemFreeAsync | cuMemFreeAsync_ptsz [zero] (at: CUdeviceptr, stream: CUstream) {
        free(at, stream, zero)
    }

    /// Creates a pool.
    fn cuMemPoolCreate(out: Out<CUmemoryPool>, props: Host) {
        let driver = driver()?;
        out.check()?;
        let (kind, handles): (u32, u32) = (props.values().get()?, props.offset(4).values().get()?);
        check_type(kind)?;
        let device = device_of(driver, location(props.offset(8))?)?;
        // Shared with other processes: CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES is 0.
        if handles != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let most: u64 = props.offset(24).values().get()?;
        out.set(driver.new_pool(device, false, most)? as CUmemoryPool)
    }

    /// Destroys a pool. What the program has of it stays until it is freed.
    fn cuMemPoolDestroy(pool: CUmemoryPool) {
        let driver = driver()?;
        let found = driver.pool(pool)?;
        if found.default {
            return Err(INVALID);
        }
        for pools in lock(&driver.pools.of_device).values_mut() {
            if pools.1 == pool as u64 {
                pools.1 = pools.0;
            }
        }
        let released = {
            let mut state = lock(&found.state);
            state.destroyed = true;
            state.release(0)
        };
        driver.mem_pools.remove(pool as u64);
        driver.free_segments(released)
    }

    /// Gives back what a pool holds without use, down to `keep` bytes.
    fn cuMemPoolTrimTo(pool: CUmemoryPool, keep: usize) {
        let driver = driver()?;
        let released = lock(&driver.pool(pool)?.state).release(keep as u64);
        driver.free_segments(released)
    }

    /// Sets an attribute of a pool. Of the high-water marks it can only be a reset, to 0.
    fn cuMemPoolSetAttribute(pool: CUmemoryPool, attribute: u32, value: Host) {
        let pool = driver()?.pool(pool)?;
        let mut state = lock(&pool.state);
        match attribute {
            REUSE_FOLLOW_EVENT_DEPENDENCIES..=REUSE_ALLOW_INTERNAL_DEPENDENCIES => {
                let value: i32 = value.values().get()?;
                if !(0..=1).contains(&value) {
                    return Err(INVALID);
                }
                state.reuse[attribute as usize - 1] = value;
            }
            RELEASE_THRESHOLD => state.threshold = value.values().get()?,
            RESERVED_MEM_HIGH | USED_MEM_HIGH => {
                if value.values::<u64>().get()? != 0 {
                    return Err(INVALID);
                }
                let level = match attribute {
                    RESERVED_MEM_HIGH => &mut state.reserved,
                    _ => &mut state.in_use,
                };
                level.high = level.now;
            }
            _ => return Err(INVALID),
        }
        Ok(())
    }

    /// An attribute of a pool.
    fn cuMemPoolGetAttribute(pool: CUmemoryPool, attribute: u32, value: Host) {
        let pool = driver()?.pool(pool)?;
        let state = lock(&pool.state);
        let number = match attribute {
            REUSE_FOLLOW_EVENT_DEPENDENCIES..=REUSE_ALLOW_INTERNAL_DEPENDENCIES => {
                return value.out().set(state.reuse[attribute as usize - 1]);
            }
            RELEASE_THRESHOLD => state.threshold,
            RESERVED_MEM_CURRENT => state.reserved.now,
            RESERVED_MEM_HIGH => state.reserved.high,
            USED_MEM_CURRENT => state.in_use.now,
            USED_MEM_HIGH => state.in_use.high,
            _ => return Err(INVALID),
        };
        value.out().set(number)
    }

    /// Says which devices may reach a pool. Its own always may, and there is no other.
    fn cuMemPoolSetAccess(pool: CUmemoryPool, list: Host, count: usize) {
        let driver = driver()?;
        driver.pool(pool)?;
        for i in 0..count {
            let entry = list.offset(i.checked_mul(12).ok_or(INVALID)?);
            device_of(driver, location(entry)?)?;
            if entry.offset(8).values::<u32>().get()? != READ_WRITE {
                return Err(INVALID);
            }
        }
        Ok(())
    }

    /// Whether a device may reach a pool.
    fn cuMemPoolGetAccess(flags: Out<u32>, pool: CUmemoryPool, of: Host) {
        let driver = driver()?;
        driver.pool(pool)?;
        flags.check()?;
        device_of(driver, location(of)?)?;
        flags.set(READ_WRITE)
    }

    /// Gives a pool to other processes: not possible.
    fn cuMemPoolExportToShareableHandle(handle: Host, pool: CUmemoryPool, _kind: u32, flags: u64) {
        driver()?.pool(pool)?;
        if handle.is_null() || flags != 0 {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Takes a pool of another process: not possible.
    fn cuMemPoolImportFromShareableHandle(pool: Out<CUmemoryPool>, _handle: Host, _kind: u32, flags: u64) {
        driver()?;
        pool.check()?;
        if flags != 0 {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Gives memory of a pool to other processes: not possible.
    fn cuMemPoolExportPointer(data: Host, at: CUdeviceptr) {
        let driver = driver()?;
        if data.is_null() || driver.alloc_at(at).is_none_or(|(_, a)| a.pool.is_none()) {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Takes memory of a pool of another process: not possible.
    fn cuMemPoolImportPointer(out: Out<CUdeviceptr>, pool: CUmemoryPool, data: Host) {
        driver()?.pool(pool)?;
        out.check()?;
        if data.is_null() {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// The pool that a device has from the start.
    fn cuDeviceGetDefaultMemPool(pool: Out<CUmemoryPool>, device: CUdevice) {
        let driver = driver()?;
        pool.check()?;
        pool.set(driver.pools_of(device)?.0 as CUmemoryPool)
    }

    /// The pool that a device's allocations take from.
    fn cuDeviceGetMemPool(pool: Out<CUmemoryPool>, device: CUdevice) {
        let driver = driver()?;
        pool.check()?;
        pool.set(driver.pools_of(device)?.1 as CUmemoryPool)
    }

    /// Sets the pool that a device's allocations take from.
    fn cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool) {
        set_pool(device, pool)
    }

    /// The pool that a place has from the start.
    fn cuMemGetDefaultMemPool(pool: Out<CUmemoryPool>, of: Host, kind: u32) {
        let driver = driver()?;
        pool.check()?;
        check_type(kind)?;
        let device = device_of(driver, location(of)?)?;
        pool.set(driver.pools_of(device)?.0 as CUmemoryPool)
    }

    /// The pool that a place's allocations take from.
    fn cuMemGetMemPool(pool: Out<CUmemoryPool>, of: Host, kind: u32) {
        let driver = driver()?;
        pool.check()?;
        check_type(kind)?;
        let device = device_of(driver, location(of)?)?;
        pool.set(driver.pools_of(device)?.1 as CUmemoryPool)
    }

    /// Sets the pool that a place's allocations take from.
    fn cuMemSetMemPool(of: Host, kind: u32, pool: CUmemoryPool) {
        check_type(kind)?;
        set_pool(device_of(driver()?, location(of)?)?, pool)
    }
}

fn set_pool(device: CUdevice, pool: CUmemoryPool) -> Done {
    let driver = driver()?;
    driver.pools_of(device)?;
    if driver.pool(pool)?.device != device {
        return Err(INVALID);
    }
    if let Some(pools) = lock(&driver.pools.of_device).get_mut(&device) {
        pools.1 = pool as u64;
    }
    Ok(())
}
