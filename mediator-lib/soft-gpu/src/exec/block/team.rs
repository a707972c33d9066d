//! The warps of a block in compiled code.
#![allow(unsafe_code)] // enters compiled code for several warps

use super::{BlockRunner, LaunchShared};
use crate::exec::warp::Status;
use crate::jit::runtime::EXIT_DONE;
use crate::jit::{JitCode, Team};

impl BlockRunner {
    /// Runs a block in compiled code alone, from the kernel's start at `pc`, whose code is at `entry`. That leaves
    /// its warps as they were, so that the next block needs no preparation. False where a warp left the code
    /// earlier: the block has been started, and goes on from there.
    pub(super) fn together(
        &mut self,
        s: &LaunchShared<'_>,
        code: &JitCode,
        (pc, entry): (u32, u32),
        block: [u32; 3],
    ) -> bool {
        let count = self.warps.len();
        let waits = code.has_barriers();
        self.number_all(block);
        let (first, at) = (self.warps.as_mut_ptr(), code.address(entry));
        let held = self.team.get_or_insert_default();
        **held = Team {
            first,
            count,
            waits,
            done: 0,
        };
        let team = &raw mut **held as usize;
        // Where no warp waits at a barrier, the last block has left the others as they were.
        if waits || !self.fresh {
            for k in 0..count {
                // SAFETY: `k` is below the number of warps, to which nothing else refers.
                let w = unsafe { &mut *first.add(k) };
                code.prepare(w, w.turn, s.abort);
                w.pc = pc;
                (w.jit.team, w.jit.resume) = (team, at);
                if waits {
                    w.jit.next = first.wrapping_add((k + 1) % count) as usize;
                }
            }
        }
        // SAFETY: the code was compiled from the program that the warps run, whose ranges are in their states;
        // all were prepared above, and nothing refers to them or to the team until the code is left.
        let (exit, last) = unsafe { code.run(first, at) };
        let k = (last as usize - first as usize) / size_of_val(&self.warps[0]);
        let done = self.team.as_ref().map_or(0, |team| team.done);
        if exit == EXIT_DONE && done + 1 == count {
            return true;
        }
        self.barriers.clear();
        (self.block, self.done, self.exited) = (block, done, Some((k, exit)));
        if !waits {
            // These have not run; where they stand is from the block before.
            self.warps.iter_mut().skip(k + 1).for_each(|w| w.pc = pc);
        }
        for (j, w) in self.warps.iter_mut().enumerate().take(k) {
            if j < done {
                (w.status, w.dead) = (Status::Done, u32::MAX);
                continue;
            }
            // The code went on with the next warp when this one came to the block's barrier.
            (w.status, w.barrier) = (Status::Barrier, Some((0, w.pc - 1)));
            if let Some(b) = self.barriers.at(0, 0) {
                b.arrive(j, w.mask, 0);
            }
        }
        false
    }
}
