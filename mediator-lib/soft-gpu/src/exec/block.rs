//! Runs one block: its warps take turns on one thread.
#![allow(unsafe_code)] // prepares warps' register memory

use std::io;
use std::sync::atomic::AtomicBool;

use super::deopt::{Place, deopt};
use super::insn::{Insn, NONE, Program};
use super::lanes::{LANES, Lane};
use super::memory::{Cache, Memory};
use super::region::Region;
use super::run::{Stop, lane_at, run};
use super::warp::{FaultKind, Identity, LaneFault, Status, TURN, Warp};
use super::warp_ops::fill;
use crate::ir::Source;
use crate::memory::Range;
use crate::ptx::ast::Special;

/// Register memory of a warp whose kernel calls functions: bounds the host
/// memory that endless recursion can touch.
pub const CALL_REGISTER_BYTES: usize = 8 << 20;
/// Local memory per thread of a kernel that calls functions, beyond what the
/// kernel itself declares: its stack.
pub const CALL_STACK_BYTES: u64 = 16 << 10;

/// Turns after which the lanes of a warp are thought to wait for each other.
const PATIENCE: u32 = 8;

/// What all blocks of a launch share.
pub struct LaunchShared<'a> {
    /// Optimised code.
    pub program: &'a Program,
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
}

/// Per-worker memory for blocks of one launch, one after another.
pub struct BlockRunner {
    registers: Region,
    register_bytes: usize,
    local: Region,
    shared: Region,
    caches: Vec<Cache>,
    reference_caches: Vec<Cache>,
    reference_registers: Vec<Option<Region>>,
    warps: Vec<Warp>,
    worker: u32,
    /// Warps that continued in the reference code.
    pub deopts: u64,
}

struct Barrier {
    arrived: u32,
    expected: u32,
    popc: u32,
    and: bool,
    or: bool,
}

impl Barrier {
    /// Whether all threads arrived that it waits for: a count, or all warps that live.
    fn complete(&self, live: usize) -> bool {
        self.arrived
            >= if self.expected == 0 {
                live as u32 * 32
            } else {
                self.expected
            }
    }
}

impl BlockRunner {
    /// Allocates memory for one block.
    pub fn new(s: &LaunchShared<'_>, worker: u32) -> io::Result<BlockRunner> {
        let threads: u32 = s.block.iter().product();
        let warps = threads.div_ceil(32) as usize;
        let frame = s.program.functions.first().map_or(0, |f| f.frame_bytes) as usize;
        let register_bytes = if s.program.has_calls {
            frame + CALL_REGISTER_BYTES
        } else {
            frame
        };
        Ok(BlockRunner {
            registers: Region::new(register_bytes * warps)?,
            register_bytes,
            local: Region::new(s.local_bytes as usize * LANES * warps)?,
            shared: Region::new(s.shared_bytes as usize)?,
            caches: vec![Cache::default(); s.program.caches as usize],
            reference_caches: vec![Cache::default(); s.reference.caches as usize],
            reference_registers: (0..warps).map(|_| None).collect(),
            warps: Vec::new(),
            worker,
            deopts: 0,
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

    fn start_warps(&mut self, s: &LaunchShared<'_>, block: [u32; 3]) {
        let threads: u32 = s.block.iter().product();
        let count = threads.div_ceil(32);
        let first = self.warps.is_empty();
        let Some(kernel) = s.program.functions.first() else {
            return;
        };
        for k in 0..count {
            let id = Identity {
                warp: k,
                ctaid: block,
                ntid: s.block,
                nctaid: s.grid,
                sm: self.worker,
                sms: s.workers,
                grid: s.id,
                dynamic_shared: s.dynamic_shared,
                total_shared: s.shared_bytes,
            };
            let memory = self.memory(s, k as usize);
            let left = threads - k * 32;
            let mask = if left >= 32 {
                u32::MAX
            } else {
                (1u32 << left) - 1
            };
            let registers = self
                .registers
                .ptr()
                .wrapping_add(k as usize * self.register_bytes);
            let mut stack = match self.warps.get_mut(k as usize) {
                Some(w) => std::mem::take(&mut w.stack),
                None => Vec::new(),
            };
            stack.clear();
            let w = Warp {
                mask,
                dead: 0,
                pc: kernel.entry,
                rpc: NONE,
                stack,
                frame: 0,
                function: 0,
                local_base: 0,
                status: Status::Ready,
                id,
                memory,
                fault: None,
                fault_pc: 0,
                barrier: None,
                registers,
                register_bytes: self.register_bytes,
                chains: s.program.chains.as_ptr(),
                reference: false,
                turn: TURN,
                turns: 0,
            };
            for x in &kernel.fills {
                // Only the block's number changes from block to block.
                if first || matches!(x.source, Source::Special(Special::Ctaid(_))) {
                    // SAFETY: the register memory of warp `k` holds a whole frame of the kernel.
                    unsafe { fill(registers, x, &w) };
                }
            }
            if first {
                self.warps.push(w);
            } else if let Some(slot) = self.warps.get_mut(k as usize) {
                *slot = w;
            }
        }
    }

    /// Runs block `block` to its end.
    pub fn run(&mut self, s: &LaunchShared<'_>, block: [u32; 3]) -> Result<(), BlockError> {
        self.start_warps(s, block);
        let mut barriers: [Option<Barrier>; 16] = [const { None }; 16];
        let mut done = 0;
        let total = self.warps.len();
        while done < total {
            let mut ran = false;
            for k in 0..total {
                let w = &mut self.warps[k];
                if w.status != Status::Ready {
                    continue;
                }
                ran = true;
                let program = if w.reference { s.reference } else { s.program };
                match run(w, program, s.abort) {
                    Stop::Done => {
                        w.status = Status::Done;
                        done += 1;
                        self.release(s, &mut barriers, total - done);
                    }
                    Stop::Barrier(pc) => {
                        self.arrive(s, k, pc, &mut barriers, block)?;
                        self.release(s, &mut barriers, total - done);
                    }
                    Stop::Turn => {
                        if total == 1 {
                            std::thread::yield_now();
                        }
                        self.turn_over(s, k, block)?;
                    }
                    Stop::Aborted => return Err(BlockError::Aborted),
                    Stop::Fault => return Err(self.fault(k, block)),
                    Stop::Deopt(pc) => self.enter_reference(s, k, Place::Operation(pc), block)?,
                }
            }
            if !ran && done < total {
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
        }
        Ok(())
    }

    /// A warp used its turn: if its lanes may wait for each other, let others run.
    fn turn_over(
        &mut self,
        s: &LaunchShared<'_>,
        k: usize,
        block: [u32; 3],
    ) -> Result<(), BlockError> {
        let w = &mut self.warps[k];
        w.turns += 1;
        if !s.program.may_wait || w.turns < PATIENCE || !w.can_yield() {
            return Ok(());
        }
        if !w.reference {
            let pc = w.pc;
            self.enter_reference(s, k, Place::Block(pc), block)?;
        }
        self.warps[k].yield_lanes();
        Ok(())
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
        barriers: &mut [Option<Barrier>; 16],
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
        let Some(slot) = barriers
            .get_mut(number as usize)
            .filter(|_| count % 32 == 0)
        else {
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
        let b = slot.get_or_insert(Barrier {
            arrived: 0,
            expected: count,
            popc: 0,
            and: true,
            or: false,
        });
        b.arrived += 32;
        if i.x >= 2 {
            // SAFETY: the emitter gave the predicate a mask slot in this frame.
            let p = unsafe { bool::load(f.wrapping_add(i.s[2] as usize)) } & w.mask;
            b.popc += p.count_ones();
            b.and &= p == w.mask;
            b.or |= p != 0;
        }
        if i.x != 1 {
            w.status = Status::Barrier;
            w.barrier = Some((number, pc));
        }
        Ok(())
    }

    /// Lets warps go on whose barrier is complete.
    fn release(&mut self, s: &LaunchShared<'_>, barriers: &mut [Option<Barrier>; 16], live: usize) {
        if !barriers.iter().flatten().any(|b| b.complete(live)) {
            return;
        }
        for (number, slot) in barriers.iter_mut().enumerate() {
            let Some(b) = slot else { continue };
            let expected = if b.expected == 0 {
                live as u32 * 32
            } else {
                b.expected
            };
            if b.arrived < expected {
                continue;
            }
            for w in &mut self.warps {
                let Some((n, pc)) = w.barrier.filter(|_| w.status == Status::Barrier) else {
                    continue;
                };
                if n as usize != number {
                    continue;
                }
                w.status = Status::Ready;
                w.barrier = None;
                let program = if w.reference { s.reference } else { s.program };
                if let Some(i) = program.insns.get(pc as usize).filter(|i| i.x >= 2) {
                    deliver(w, i, b);
                }
            }
            *slot = None;
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
