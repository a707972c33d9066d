//! Runs one block: its warps take turns on one thread.
#![allow(unsafe_code)] // prepares warps' register memory

mod ranges;
mod start;
mod team;

use std::cell::Cell;
use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::barrier::{Barrier, Barriers};
use super::deopt::{Place, deopt};
use super::insn::{Fill, Insn, NONE, Program};
use super::lanes::{LANES, Lane};
use super::memory::{Cache, Memory};
use super::region::{Owner, Region};
use super::run::{Stop, lane_at, run};
use super::threads::{self, Threads};
use super::warp::{COOPERATIVE_TURN, FaultKind, LaneFault, Status, TURN, Warp};
use crate::jit::{JitCode, JitRange, Team};
use crate::memory::Range;
use crate::runtime::DeviceRuntime;

/// Turns after which the lanes of a warp are thought to wait for each other.
const PATIENCE: u32 = 8;

/// How often warps go on between looks at the clock: each time may be almost a turn.
const RUNS_PER_LOOK: u32 = 16;

/// Operations from which on a kernel has shorter turns: a turn of all of them would take seconds.
const LARGE_PROGRAM: u32 = 4096;

/// What all blocks of a launch share.
pub struct LaunchShared<'a> {
    /// Optimised code.
    pub program: &'a Program,
    /// The same as machine code, once it is compiled.
    pub jit: &'a dyn Fn(bool) -> Option<&'a JitCode>,
    /// Reference code.
    pub reference: &'a Program,
    /// Grid.
    pub grid: [u32; 3],
    /// Block.
    pub block: [u32; 3],
    /// Shared memory, all of it.
    pub shared_bytes: u32,
    /// Dynamic part.
    pub dynamic_shared: u32,
    /// Local memory per thread.
    pub local_bytes: u64,
    /// Parameter block.
    pub params: &'a [u8],
    /// Allocations.
    pub ranges: &'a [Range],
    /// Device address plus this is the host address.
    pub delta: usize,
    /// Number of the launch.
    pub id: u64,
    /// Workers.
    pub workers: u32,
    /// Abort flag.
    pub abort: &'a AtomicBool,
    /// System calls.
    pub runtime: &'a DeviceRuntime,
    /// Whose registers' memory it is.
    pub owner: Owner,
    /// Register memory of a warp: in the optimised and in the reference code.
    pub register_bytes: usize,
    /// See [`LaunchShared::register_bytes`].
    pub reference_bytes: usize,
    /// When the launch is to end.
    pub deadline: Option<Instant>,
    /// The workspace of a cooperative grid, all of whose blocks are in progress at once.
    pub workspace: Option<u64>,
}

impl LaunchShared<'_> {
    /// Whether the launch has used its time.
    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    fn turn(&self) -> u32 {
        let turn = match self.workspace {
            Some(_) => COOPERATIVE_TURN,
            None => TURN,
        };
        (turn / self.turns()).max(1)
    }

    /// Turns of a large kernel that are as long as one of others. It is the same in all forms of execution.
    fn turns(&self) -> u32 {
        let operations = u32::try_from(self.reference.insns.len()).unwrap_or(u32::MAX);
        (operations / LARGE_PROGRAM).max(1)
    }

    /// Turns after which the lanes of a warp are thought to wait for each other. In a cooperative grid
    /// they may wait for any other block, which has had its turn once all of them have.
    fn patience(&self) -> u32 {
        let blocks = match self.workspace {
            Some(_) => self.grid.iter().fold(1, |n: u32, g| n.saturating_mul(*g)),
            None => 1,
        };
        PATIENCE.saturating_mul(blocks).saturating_mul(self.turns())
    }
}

/// Why a block stopped early.
pub enum BlockError {
    /// A lane faulted.
    Fault {
        /// How.
        fault: LaneFault,
        /// Operation, and whether it is one of the reference code.
        pc: u32,
        /// In which code.
        reference: bool,
        /// Block.
        block: [u32; 3],
        /// Thread.
        thread: [u32; 3],
    },
    /// The launch is being aborted.
    Aborted,
    /// The launch has used its time.
    TimedOut,
}

/// Per-worker memory for blocks of one launch, one after another.
pub struct BlockRunner {
    registers: Region,
    register_bytes: usize,
    owner: Owner,
    local: Region,
    shared: Region,
    caches: Vec<Cache>,
    reference_caches: Vec<Cache>,
    reference_registers: Vec<Option<Region>>,
    warps: Vec<Warp>,
    jit_ranges: Vec<JitRange>,
    /// What the ranges are kept with for the next launch.
    known: Option<ranges::Known>,
    team: Option<Box<Team>>,
    /// Slots that change from block to block: those of the block's number, with its axis.
    block_fills: Vec<(usize, Fill)>,
    worker: u32,
    /// Warps that continued in the reference code.
    pub deopts: u64,
    /// The block in progress, its barriers and the number of its warps that have ended.
    block: [u32; 3],
    barriers: Barriers,
    done: usize,
    /// The warps are as at a block's start, but for what its number changes.
    fresh: bool,
    /// The warp that left compiled code, and how.
    exited: Option<(usize, u32)>,
}

thread_local! {
    /// Memory of the last block's warps, for the next launch.
    static SPARE: Cell<(Option<Box<Team>>, Vec<Warp>)> = const { Cell::new((None, Vec::new())) };
}

impl Drop for BlockRunner {
    fn drop(&mut self) {
        let mut warps = std::mem::take(&mut self.warps);
        warps.clear();
        if let Some(known) = self.known.take() {
            ranges::keep(known, std::mem::take(&mut self.jit_ranges));
        }
        // A thread that is ending keeps nothing.
        let _ = SPARE.try_with(|spare| spare.set((self.team.take(), warps)));
    }
}

// SAFETY: what its warps point to is either its own and moves with it without moving in memory (regions,
// the elements of vectors, the nodes of lanes' frames, whose reference counts are all in its warps), or
// belongs to the launch, and may be used by any thread: code, allocations, parameters and system calls. A
// launch outlives its use; the next one replaces what its warps point to before they run (`again`).
unsafe impl Send for BlockRunner {}

impl Warp {
    /// Runs until it stops. `exit` is how it left machine code just now, if it did.
    fn go_on(&mut self, s: &LaunchShared<'_>, jit: Option<&JitCode>, exit: Option<u32>) -> Stop {
        let program = if self.reference {
            s.reference
        } else {
            s.program
        };
        if self.threads.is_some() {
            return threads::run(self, program, s.abort);
        }
        let jit = jit.filter(|_| !self.reference);
        run(self, program, jit, s.abort, exit)
    }
}

/// The mask of a warp with so many threads left.
fn all_lanes(left: u32) -> u32 {
    if left >= 32 {
        u32::MAX
    } else {
        (1u32 << left) - 1
    }
}

impl BlockRunner {
    /// Allocates memory for one block.
    pub fn new(s: &LaunchShared<'_>, worker: u32) -> io::Result<BlockRunner> {
        let threads: u32 = s.block.iter().product();
        let warps = threads.div_ceil(32) as usize;
        let register_bytes = s.register_bytes;
        let (team, mut list) = SPARE.take();
        list.reserve_exact(warps);
        Ok(BlockRunner {
            registers: Region::registers(register_bytes * warps, s.owner)?,
            register_bytes,
            owner: s.owner,
            local: Region::new(s.local_bytes as usize * LANES * warps)?,
            shared: Region::new(s.shared_bytes as usize)?,
            caches: vec![Cache::default(); s.program.caches as usize],
            reference_caches: Vec::new(),
            reference_registers: Vec::new(),
            warps: list,
            jit_ranges: Vec::new(),
            known: None,
            team,
            block_fills: Vec::new(),
            worker,
            deopts: 0,
            block: [0; 3],
            barriers: Barriers::default(),
            done: 0,
            fresh: false,
            exited: None,
        })
    }

    fn memory(&mut self, s: &LaunchShared<'_>, warp: usize) -> Memory {
        Memory {
            delta: s.delta,
            ranges: s.ranges.as_ptr(),
            range_count: s.ranges.len(),
            caches: self.caches.as_mut_ptr(),
            cache_count: self.caches.len(),
            shared: self.shared.ptr(),
            shared_bytes: s.shared_bytes.into(),
            local: self
                .local
                .ptr()
                .wrapping_add(warp * LANES * s.local_bytes as usize),
            local_bytes: s.local_bytes,
            params: s.params.as_ptr(),
            param_bytes: s.params.len() as u64,
        }
    }

    /// Runs block `block` to its end.
    pub fn run(&mut self, s: &LaunchShared<'_>, block: [u32; 3]) -> Result<(), BlockError> {
        if !self.enter(s, block) {
            while !self.proceed(s, u32::MAX)? {}
        }
        Ok(())
    }

    /// Runs block `block` until it ends, which is true, or a warp has used up its turn, or its warps have gone on
    /// so many times without machine code: what is left is for [`BlockRunner::proceed`].
    pub fn begin(
        &mut self,
        s: &LaunchShared<'_>,
        block: [u32; 3],
        runs: u32,
    ) -> Result<bool, BlockError> {
        Ok(self.enter(s, block) || self.proceed(s, runs)?)
    }

    /// Runs the block in machine code, if there is any. True where that brought it to its end; else it has been
    /// started.
    fn enter(&mut self, s: &LaunchShared<'_>, block: [u32; 3]) -> bool {
        if !self.fresh {
            self.start(s, block);
        }
        let code = self.compiled(s, false);
        let kernel = s.program.functions.first();
        match code
            .zip(kernel)
            .and_then(|(c, f)| Some((c, (f.entry, c.entry(f.entry)?))))
        {
            Some((code, at)) => {
                self.fresh = self.together(s, code, at, block);
                if self.fresh {
                    return true;
                }
            }
            None if self.fresh => self.start(s, block),
            None => {}
        }
        self.fresh = false;
        false
    }

    /// Starts block `block`, of which nothing runs yet.
    pub fn start(&mut self, s: &LaunchShared<'_>, block: [u32; 3]) {
        self.start_warps(s, block);
        self.barriers.clear();
        (self.block, self.done) = (block, 0);
    }

    /// Runs the block that was started until a warp has used up its turn, and may wait for something
    /// outside of the block, or warps have gone on `most` times; true once the block has ended.
    pub fn proceed(&mut self, s: &LaunchShared<'_>, most: u32) -> Result<bool, BlockError> {
        let mut jit = self.compiled(s, false);
        let block = self.block;
        let mut done = self.done;
        let total = self.warps.len();
        let mut runs = 0u32;
        let mut exited = self.exited.take();
        while done < total {
            let (mut ran, mut turned) = (false, false);
            for k in 0..total {
                if self.warps[k].status != Status::Ready {
                    continue;
                }
                ran = true;
                // A loop around a barrier uses up no turn.
                runs = runs.wrapping_add(1);
                if runs.is_multiple_of(RUNS_PER_LOOK) && s.is_late() {
                    return Err(BlockError::TimedOut);
                }
                let exit = exited.take_if(|(at, _)| *at == k).map(|(_, exit)| exit);
                let mut stop = self.warps[k].go_on(s, jit, exit);
                if let Stop::Deopt(pc) = stop {
                    // At once, so that warps come in the same order as in the reference code.
                    self.enter_reference(s, k, Place::Operation(pc), block)?;
                    stop = self.warps[k].go_on(s, jit, None);
                }
                let w = &mut self.warps[k];
                match stop {
                    Stop::Done => {
                        w.status = Status::Done;
                        w.dead = u32::MAX;
                        done += 1;
                        self.release(s, total - done);
                    }
                    Stop::Barrier(pc) => {
                        if s.workspace.is_some() {
                            // It has what it waited for.
                            w.turns = 0;
                        }
                        self.arrive(s, k, pc, block)?;
                        self.release(s, total - done);
                    }
                    Stop::LanesEnded => self.release(s, total - done),
                    Stop::Blocked => w.status = Status::Barrier,
                    Stop::Split(pc) => self.split(s, k, pc, block)?,
                    Stop::Turn => {
                        turned = true;
                        if s.is_late() {
                            return Err(BlockError::TimedOut);
                        }
                        if total == 1 {
                            std::thread::yield_now();
                        }
                        self.turn_over(s, k, block)?;
                        if jit.is_none() {
                            jit = self.compiled(s, true);
                        }
                    }
                    // The reference code does not ask for itself.
                    Stop::Aborted | Stop::Deopt(_) => return Err(BlockError::Aborted),
                    Stop::Fault if w.fault.is_some_and(|f| f.kind == FaultKind::Ended) => {
                        return Err(if s.is_late() {
                            BlockError::TimedOut
                        } else {
                            BlockError::Aborted
                        });
                    }
                    Stop::Fault => return Err(self.fault(k, block)),
                }
            }
            if !ran && done < total && !self.force() {
                // Every warp that is left waits for another one.
                let k = self
                    .warps
                    .iter()
                    .position(|w| w.status == Status::Barrier)
                    .unwrap_or(0);
                let w = &mut self.warps[k];
                let lane = w.mask.trailing_zeros() & 31;
                w.fault = Some(LaneFault {
                    kind: FaultKind::Deadlock,
                    lane,
                    addr: 0,
                    bytes: 0,
                    space: "",
                    write: false,
                });
                return Err(self.fault(k, block));
            }
            if turned || runs >= most {
                break;
            }
        }
        self.done = done;
        Ok(done >= total)
    }

    /// The machine code, if there is any, with room for what it keeps. `long`: the kernel
    /// turned out to run for long.
    fn compiled<'a>(&mut self, s: &LaunchShared<'a>, long: bool) -> Option<&'a JitCode> {
        let code = (s.jit)(long)?;
        if self.jit_ranges.is_empty() && self.known.is_none() {
            (self.known, self.jit_ranges) = ranges::take(s, code);
            for w in &mut self.warps {
                w.jit.ranges = self.jit_ranges.as_mut_ptr() as usize;
                w.jit.range_count = self.jit_ranges.len() as u32;
            }
        }
        Some(code)
    }

    /// A warp used its turn: if its lanes may wait for each other, schedule them one by one.
    fn turn_over(
        &mut self,
        s: &LaunchShared<'_>,
        k: usize,
        block: [u32; 3],
    ) -> Result<(), BlockError> {
        let w = &mut self.warps[k];
        w.turns += 1;
        if !s.program.may_wait || w.turns < s.patience() || w.threads.is_some() || self.retire(s, k)
        {
            return Ok(());
        }
        let w = &self.warps[k];
        if w.whole() {
            return Ok(());
        }
        let pc = w.pc;
        self.schedule_lanes(s, k, Place::Block(pc), block)
    }

    /// Lanes are missing for the operation at `pc`.
    fn split(
        &mut self,
        s: &LaunchShared<'_>,
        k: usize,
        pc: u32,
        block: [u32; 3],
    ) -> Result<(), BlockError> {
        if self.retire(s, k) {
            return Ok(());
        }
        self.schedule_lanes(s, k, Place::Operation(pc), block)
    }

    /// Counts lanes as ended that wait at the end of the kernel; true if there were any.
    fn retire(&mut self, s: &LaunchShared<'_>, k: usize) -> bool {
        let w = &mut self.warps[k];
        let program = if w.reference { s.reference } else { s.program };
        let kernel = program.functions.first();
        let exit = kernel.and_then(|f| f.block_pcs.last());
        exit.is_some_and(|&pc| w.retire(pc))
    }

    /// From now on the lanes of a warp are scheduled as [`threads`] does, from `place` on.
    fn schedule_lanes(
        &mut self,
        s: &LaunchShared<'_>,
        k: usize,
        place: Place,
        block: [u32; 3],
    ) -> Result<(), BlockError> {
        if !self.warps[k].reference {
            self.enter_reference(s, k, place, block)?;
        }
        let w = &mut self.warps[k];
        w.threads = Some(Box::new(Threads::new(w, s.reference)));
        Ok(())
    }

    /// Lets one group of lanes go on that waits for lanes which can never come.
    fn force(&mut self) -> bool {
        for w in &mut self.warps {
            if w.threads.as_mut().is_some_and(|t| t.force()) {
                w.status = Status::Ready;
                return true;
            }
        }
        false
    }

    /// Continues a warp in the reference code.
    fn enter_reference(
        &mut self,
        s: &LaunchShared<'_>,
        k: usize,
        place: Place,
        block: [u32; 3],
    ) -> Result<(), BlockError> {
        self.deopts += 1;
        if self.reference_registers.is_empty() {
            self.reference_caches = vec![Cache::default(); s.reference.caches as usize];
            self.reference_registers
                .resize_with(self.warps.len(), || None);
        }
        let w = &mut self.warps[k];
        let (Place::Operation(pc) | Place::Block(pc)) = place;
        if deopt(w, s, place, &mut self.reference_registers[k]).is_err() {
            let lane = w.mask.trailing_zeros() & 31;
            let kind = FaultKind::StackOverflow;
            w.fault = Some(LaneFault {
                kind,
                lane,
                addr: 0,
                bytes: 0,
                space: "",
                write: false,
            });
            w.fault_pc = pc;
            return Err(self.fault(k, block));
        }
        w.tiles = s.reference.tiles.as_ptr();
        w.memory.caches = self.reference_caches.as_mut_ptr();
        w.memory.cache_count = self.reference_caches.len();
        Ok(())
    }

    fn fault(&self, k: usize, block: [u32; 3]) -> BlockError {
        let w = &self.warps[k];
        let fault = w.fault.unwrap_or(LaneFault {
            kind: FaultKind::Illegal,
            lane: 0,
            addr: 0,
            bytes: 0,
            space: "",
            write: false,
        });
        BlockError::Fault {
            fault,
            pc: w.fault_pc,
            reference: w.reference,
            block,
            thread: w.id.tid(fault.lane),
        }
    }

    fn arrive(
        &mut self,
        s: &LaunchShared<'_>,
        k: usize,
        pc: u32,
        block: [u32; 3],
    ) -> Result<(), BlockError> {
        let w = &mut self.warps[k];
        let program = if w.reference { s.reference } else { s.program };
        let Some(i) = program.insns.get(pc as usize) else {
            return Err(BlockError::Aborted);
        };
        let f = w.registers.wrapping_add(w.frame);
        let lane = w.mask.trailing_zeros() & 31;
        let number = if i.s[0] == NONE {
            0
        } else {
            lane_at(f, i.s[0], lane)
        };
        let count = if i.s[1] == NONE {
            0
        } else {
            lane_at(f, i.s[1], lane)
        };
        w.fault_pc = pc;
        let barrier = match count % 32 {
            0 => self.barriers.at(number, count),
            _ => None,
        };
        let Some(b) = barrier else {
            let addr = number.into();
            w.fault = Some(LaneFault {
                kind: FaultKind::Trap,
                lane,
                addr,
                bytes: 0,
                space: "",
                write: false,
            });
            return Err(self.fault(k, block));
        };
        let p = if i.x >= 2 {
            // SAFETY: the emitter gave the predicate a mask slot in this frame.
            unsafe { bool::load(f.wrapping_add(i.s[2] as usize)) }
        } else {
            0
        };
        b.arrive(k, w.mask, p);
        if i.x != 1 {
            match &mut w.threads {
                Some(t) => t.block(number, pc),
                None => {
                    w.status = Status::Barrier;
                    w.barrier = Some((number, pc));
                }
            }
        }
        Ok(())
    }

    /// Lets warps go on whose barrier is complete; `left` warps have not ended.
    fn release(&mut self, s: &LaunchShared<'_>, left: usize) {
        let mut open = self.barriers.open();
        while open != 0 {
            let number = open.trailing_zeros();
            open &= open - 1;
            let dead = self.warps.iter().map(|w| w.dead);
            let Some(b) = self.barriers.close(number, left, dead) else {
                continue;
            };
            for w in &mut self.warps {
                let program = if w.reference { s.reference } else { s.program };
                let reduction = |pc: u32| program.insns.get(pc as usize).filter(|i| i.x >= 2);
                if let Some(mut t) = w.threads.take() {
                    let own = (w.mask, w.frame);
                    for (mask, frame, pc) in t.release(number) {
                        w.status = Status::Ready;
                        (w.mask, w.frame) = (mask, frame);
                        if let Some(i) = reduction(pc) {
                            deliver(w, i, b);
                        }
                    }
                    (w.mask, w.frame) = own;
                    w.threads = Some(t);
                    continue;
                }
                let Some((n, pc)) = w.barrier.filter(|_| w.status == Status::Barrier) else {
                    continue;
                };
                if n != number {
                    continue;
                }
                w.status = Status::Ready;
                w.barrier = None;
                if let Some(i) = reduction(pc) {
                    deliver(w, i, b);
                }
            }
        }
    }
}

/// Writes the result of a barrier's reduction.
fn deliver(w: &mut Warp, i: &Insn, b: &Barrier) {
    let f = w.registers.wrapping_add(w.frame);
    let p = f.wrapping_add(i.d[0] as usize);
    // SAFETY: the emitter gave the result a mask slot (`and`, `or`), or a pair (`count` 1)
    // or vector slot (`popc`) in this frame.
    unsafe {
        match i.x {
            2 if i.count == 1 => u32::store_pair(p, [b.popc; 2]),
            2 => u32::store(p, u32::blend(u32::load(p), [b.popc; LANES], w.mask)),
            x => {
                let v = if if x == 3 { b.and } else { b.or } {
                    u32::MAX
                } else {
                    0
                };
                bool::store(p, bool::blend(bool::load(p), v, w.mask));
            }
        }
    }
}
