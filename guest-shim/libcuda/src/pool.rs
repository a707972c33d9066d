//! Memory in stream order, and its pools (CUDA Driver API, "Stream Ordered Memory Allocator").
//!
//! A pool takes segments of device memory from the host and hands out pieces of them here, without
//! a message. A piece that was freed in one stream goes to the same stream again at once; to another
//! one after an event of the first (`CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES`). Segments
//! without a piece in use go back to the host when the program waits for the device, as far as the
//! release threshold says.

pub mod calls;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::{CUdevice, CUmemoryPool};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, EventId, StreamId, stubs};

use crate::abi::{Done, INVALID};
use crate::ctx::Ctx;
use crate::init::Driver;
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

impl Driver {
    /// Frees memory of a pool for cuMemFree, which waits for all work that may use it.
    pub fn free_to_pool(&self, at: u64, ctx: &Arc<Ctx>, pool: &Pool) -> Done {
        if let Ok(id) = ctx.id() {
            stubs::ctx_synchronize(self.channel, id)?;
        }
        pool.free(self, at, None)
    }
}
