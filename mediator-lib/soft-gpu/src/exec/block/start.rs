//! How the warps of a block begin.
#![allow(unsafe_code)] // fills slots of warps' register memory

use super::{BlockRunner, LaunchShared, all_lanes};
use crate::exec::insn::{Fill, FunctionCode, NONE};
use crate::exec::memory::Cache;
use crate::exec::region::{Owner, Region};
use crate::exec::warp::{Entry, Identity, Status, Warp};
use crate::exec::warp_ops::{fill, fill_uniform};
use crate::ir::{Class, Source};
use crate::jit::State;
use crate::ptx::ast::Special;

/// Whether a slot that no operation writes has the same value in every launch of this code.
fn stays(source: Source) -> bool {
    match source {
        Source::Const(_) => true,
        Source::Special(s) => matches!(
            s,
            Special::Tid(_)
                | Special::Ntid(_)
                | Special::LaneId
                | Special::LaneMaskEq
                | Special::LaneMaskLe
                | Special::LaneMaskLt
                | Special::LaneMaskGe
                | Special::LaneMaskGt
                | Special::Zero
                | Special::One
        ),
        Source::Param(..) | Source::Defined => false,
    }
}

impl BlockRunner {
    pub(super) fn start_warps(&mut self, s: &LaunchShared<'_>, block: [u32; 3]) {
        let threads: u32 = s.block.iter().product();
        let count = threads.div_ceil(32);
        let first = self.warps.is_empty();
        let Some(kernel) = s.program.functions.first() else {
            return;
        };
        if !first {
            return self.restart_warps(s, kernel, block);
        }
        let changing = |x: &Fill| match x.source {
            Source::Special(Special::Ctaid(axis)) => Some((usize::from(axis % 3), *x)),
            _ => None,
        };
        self.block_fills = kernel.fills.iter().filter_map(changing).collect();
        let filled = self.registers.is_filled();
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
                workspace: s.workspace.unwrap_or(0),
            };
            let memory = self.memory(s, k as usize);
            let mask = all_lanes(threads - k * 32);
            let registers = self
                .registers
                .ptr()
                .wrapping_add(k as usize * self.register_bytes);
            let w = Warp {
                mask,
                dead: !mask,
                pc: kernel.entry,
                rpc: NONE,
                stack: Vec::new(),
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
                tiles: s.program.tiles.as_ptr(),
                reference: false,
                threads: None,
                runtime: s.runtime,
                abort: s.abort,
                deadline: s.deadline,
                turn: s.turn(),
                turns: 0,
                jit: State {
                    ranges: self.jit_ranges.as_mut_ptr() as usize,
                    range_count: self.jit_ranges.len() as u32,
                    ..State::default()
                },
            };
            for x in kernel.fills.iter().filter(|x| !filled || !stays(x.source)) {
                // SAFETY: the register memory of warp `k` holds a whole frame of the kernel.
                unsafe { fill(registers, x, &w) };
            }
            self.warps.push(w);
        }
        self.registers.set_filled();
    }

    /// Whether its registers' memory belongs to them.
    pub fn is_of(&self, owner: Owner) -> bool {
        self.owner == owner
    }

    /// Bytes of its memory, where [`BlockRunner::again`] can use it: not where warps went to the reference code.
    pub fn held(&self) -> Option<usize> {
        if self.deopts > 0 {
            return None;
        }
        let regions = [&self.registers, &self.local, &self.shared].map(Region::bytes);
        let stacks = self.warps.iter().map(|w| w.stack.capacity());
        Some(regions.iter().sum::<usize>() + stacks.sum::<usize>() * size_of::<Entry>())
    }

    /// Makes it ready for another launch of the same plan and owner, as if it were new. `unchanged`: what the kernel
    /// reaches is the same as in the last one.
    pub fn again(&mut self, s: &LaunchShared<'_>, unchanged: bool) {
        self.local.clear();
        self.shared.clear();
        if !unchanged {
            self.caches.fill(Cache::default());
            self.jit_ranges.clear();
            self.known = None;
        }
        (self.fresh, self.exited) = (false, None);
        let fills = s.program.functions.first().map_or(&[][..], |f| &f.fills);
        for k in 0..self.warps.len() {
            let memory = self.memory(s, k);
            let w = &mut self.warps[k];
            // The rest is the plan's, or is set at the start of a block.
            w.id.grid = s.id;
            w.memory = memory;
            (w.runtime, w.abort, w.deadline) = (s.runtime, s.abort, s.deadline);
            for x in fills.iter().filter(|x| !stays(x.source)) {
                // SAFETY: the register memory of warp `k` holds a whole frame of the kernel.
                unsafe { fill(w.registers, x, w) };
            }
        }
    }

    /// The same for the next block: only what a block changes, or has of its own.
    fn restart_warps(&mut self, s: &LaunchShared<'_>, kernel: &FunctionCode, block: [u32; 3]) {
        let threads: u32 = s.block.iter().product();
        for k in 0..self.warps.len() {
            if self.warps[k].reference {
                self.leave_reference(s, k);
            }
            let w = &mut self.warps[k];
            // All fields by name, so that none is forgotten.
            let Warp {
                mask,
                dead,
                pc,
                rpc,
                stack,
                frame,
                function,
                local_base,
                status,
                id: _,
                memory: _,
                fault,
                fault_pc: _,
                barrier,
                registers: _,
                register_bytes: _,
                chains: _,
                tiles: _,
                reference: _,
                threads: _,
                runtime: _,
                abort: _,
                deadline: _,
                turn: _,
                turns,
                jit: _,
            } = w;
            *mask = all_lanes(threads - k as u32 * 32);
            *dead = !*mask;
            (*pc, *rpc) = (kernel.entry, NONE);
            stack.clear();
            (*frame, *function, *local_base) = (0, 0, 0);
            (*status, *fault, *barrier, *turns) = (Status::Ready, None, None, 0);
        }
        self.number_all(block);
    }

    /// Gives all warps the number of their block.
    pub(super) fn number_all(&mut self, block: [u32; 3]) {
        for w in &mut self.warps {
            let before = std::mem::replace(&mut w.id.ctaid, block);
            let changed = |(axis, _): &&(usize, Fill)| before[*axis] != block[*axis];
            for (axis, x) in self.block_fills.iter().filter(changed) {
                // SAFETY: the register memory of the warp holds a whole frame of the kernel, in which the
                // emitter gave the slots.
                unsafe {
                    match x.class {
                        Class::W => fill_uniform(w.registers, x, block[*axis]),
                        _ => fill(w.registers, x, w),
                    }
                }
            }
        }
    }

    /// Gives a warp back what it had before it went to the reference code.
    fn leave_reference(&mut self, s: &LaunchShared<'_>, k: usize) {
        let memory = self.memory(s, k);
        let registers = self.registers.ptr().wrapping_add(k * self.register_bytes);
        let w = &mut self.warps[k];
        (w.reference, w.threads) = (false, None);
        (w.registers, w.register_bytes) = (registers, self.register_bytes);
        w.memory = memory;
        w.tiles = s.program.tiles.as_ptr();
    }
}
