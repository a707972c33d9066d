//! A block of the program: its operations, where it goes on, and loops of one block.

use std::mem::offset_of;

use super::asm::{Cc, Label, Mem, R15, RAX, RCX};
use super::compile::{Compiler, warp_field};
use super::regs::{Regs, Snapshot};
use super::runtime::{EXIT_ABORT, EXIT_TURN, State};
use crate::analysis::cfg::Cfg;
use crate::analysis::liveness::{self, Bits};
use crate::exec::insn::{Insn, Kind, NONE};
use crate::exec::warp::Warp;
use crate::ir::{Class, Op, Term, V};

impl Compiler<'_> {
    /// One block. A loop of a single block is compiled a second time with the values it
    /// carries in registers.
    pub(super) fn block(&mut self, b: usize, cfg: &Cfg, live: &[Bits]) {
        self.block = b;
        let Some(&pc) = self.code.block_pcs.get(b) else {
            return;
        };
        let block = &self.f.blocks[b];
        let own = b as u32;
        let looping = match &block.term {
            Term::Jump(t) => *t == own,
            Term::Branch { then, other, .. } => (*then == own) != (*other == own),
            _ => false,
        };
        match self.inherited.remove(&own) {
            Some((label, held)) => {
                // Whoever comes from elsewhere brings the values in the frame.
                let entry = self.leader(pc);
                self.entries.push((pc, entry));
                let first = held.clone();
                self.stubs.push(Box::new(move |a, _| {
                    a.bind(entry);
                    super::regs::reload(a, &first);
                    a.jump(label);
                }));
                self.begin_segment();
                self.regs = Regs::default();
                self.a.bind(label);
                self.regs.restore(&held);
                self.called = false;
                return self.body(b, pc, cfg, live, None);
            }
            None => self.bind_leader(pc),
        }
        let mark = self.a.mark();
        let (stubs, groups, entries) = (self.stubs.len(), self.groups.len(), self.entries.len());
        let counts = self.counts;
        self.regs = Regs::default();
        self.called = false;
        self.body(b, pc, cfg, live, None);
        if !looping || self.called || self.entries.len() != entries {
            return;
        }
        let carried = self.carried();
        self.stubs.truncate(stubs);
        self.groups.truncate(groups);
        self.counts = counts;
        self.a.rewind(mark);
        self.begin_segment();
        self.regs = Regs::default();
        self.body(b, pc, cfg, live, Some(carried));
    }

    /// What a loop should hold in registers at its start, after a trial run.
    fn carried(&mut self) -> Snapshot {
        const MOST: usize = 20;
        let r = &self.regs;
        let mut keys: Vec<(u32, bool)> = Vec::new();
        let changed = |k: u32| r.written.iter().any(|w| w.0 == k);
        let order = r
            .loaded
            .iter()
            .filter(|k| changed(k.0))
            .chain(r.loaded.iter().filter(|k| !changed(k.0)));
        for k in order {
            if keys.len() < if r.evicted { MOST / 2 } else { MOST } && !keys.contains(k) {
                keys.push(*k);
            }
        }
        keys.iter()
            .enumerate()
            .map(|(at, &(key, pair))| {
                let held = super::regs::Held {
                    key,
                    pair,
                    dirty: changed(key),
                    // The first round begins with what the frame has, the others with what was written last.
                    nan: r
                        .written
                        .iter()
                        .rev()
                        .find(|w| w.0 == key)
                        .is_some_and(|w| w.1)
                        && !r.observed.contains(&key),
                    used: 0,
                };
                (at as u8, held)
            })
            .collect()
    }

    fn body(&mut self, b: usize, pc: u32, cfg: &Cfg, live: &[Bits], carried: Option<Snapshot>) {
        let mut hot = None;
        if let Some(want) = &carried {
            super::regs::reload(&mut self.a, want);
            self.regs.restore(want);
            let l = self.a.label();
            self.a.bind(l);
            hot = Some((l, want.clone()));
        }
        if self.insn(pc).is_some_and(|i| i.kind == Kind::Join) {
            self.join(pc);
        }
        let block = &self.f.blocks[b];
        self.deaths = self.deaths(b, cfg, live);
        let Some(pcs) = self.code.inst_pcs.get(b) else {
            return self.exit_now(pc);
        };
        let end = self.block_end(b);
        for (k, inst) in block.insts.iter().enumerate() {
            let first = pcs.get(k).copied().unwrap_or(end);
            let last = pcs.get(k + 1).copied().unwrap_or(end);
            let mut at = first;
            self.at = k;
            if self.is_useless(k, inst) {
                at = last;
            }
            while at < last {
                at = self.operation(at, k, inst, last);
            }
            for v in std::mem::take(&mut self.deaths[k]) {
                self.forget_register(v);
            }
        }
        self.terminator(b, end, hot, cfg, live);
    }

    /// First operation of a block's end: behind its last instruction's.
    pub(super) fn block_end(&self, b: usize) -> u32 {
        let next = self.code.block_pcs.get(b + 1).copied().unwrap_or(0);
        let start = self.code.block_pcs[b];
        let ends = |pc: u32| {
            self.insn(pc).is_some_and(|i| {
                matches!(
                    i.kind,
                    Kind::Jump | Kind::Branch | Kind::Switch | Kind::Exit
                )
            })
        };
        if next > start && ends(next - 1) {
            next - 1
        } else {
            next
        }
    }

    /// Registers that nobody reads after each instruction of a block.
    fn deaths(&self, b: usize, cfg: &Cfg, live: &[Bits]) -> Vec<Vec<V>> {
        let block = &self.f.blocks[b];
        let mut now = Bits::new(self.f.vregs.len());
        for &s in &cfg.succ[b] {
            now.union(&live[s as usize]);
        }
        match &block.term {
            Term::Branch { pred, .. } => now.insert(*pred),
            Term::Switch { index, .. } => now.insert(*index),
            _ => {}
        }
        let mut out = vec![Vec::new(); block.insts.len()];
        for (k, i) in block.insts.iter().enumerate().rev() {
            for &v in i.d.iter().chain(&i.s) {
                if !now.has(v) && !self.shapes.masked(b, v) {
                    out[k].push(v);
                }
            }
            liveness::step(&mut now, i);
        }
        out
    }

    /// Whether nobody reads what an instruction computes.
    fn is_useless(&self, k: usize, inst: &crate::ir::Inst) -> bool {
        let dead = |d: &V| self.deaths[k].contains(d) && !inst.s.contains(d);
        matches!(inst.op, Op::Alu(_)) && inst.d.iter().all(dead)
    }

    /// Whether the 32-bit register with a vector slot is read by nobody after this instruction.
    pub(super) fn dies(&self, vec: u32) -> bool {
        let slot = |v: &V| self.code.slots.get(*v as usize);
        let list = self.deaths.get(self.at).into_iter().flatten();
        list.filter_map(slot)
            .any(|s| s.class == Class::W && s.vec == vec)
    }

    /// The operand of the present instruction that stands in a slot.
    pub(super) fn operand(&self, slot: u32) -> Option<V> {
        let inst = self.f.blocks.get(self.block)?.insts.get(self.at)?;
        let here = |v: &V| {
            let own = self.code.slots.get(*v as usize);
            own.is_some_and(|s| s.vec == slot || s.pair == slot)
        };
        inst.s.iter().copied().find(here)
    }

    fn forget_register(&mut self, v: V) {
        let Some(s) = self.code.slots.get(v as usize) else {
            return;
        };
        if s.class == Class::P {
            return;
        }
        if s.pair != NONE {
            self.regs.drop_key(s.pair);
        }
        if s.vec != NONE {
            for line in 0..if s.class == Class::D { 4 } else { 2 } {
                self.regs.drop_key(s.vec + 64 * line);
            }
        }
    }

    /// Drops what was known of registers that an instruction defines.
    fn redefined(&mut self, inst: &crate::ir::Inst) {
        for &v in &inst.d {
            if let Some(s) = self.code.slots.get(v as usize) {
                self.checked.retain(|c| c.key != s.pair);
                self.hosts.retain(|h| h.key != s.pair);
                self.lane_groups.retain(|g| g.slot != s.vec);
            }
        }
    }

    /// Compiles the operation at `pc`, part of instruction `k` of the block; returns the next.
    fn operation(&mut self, pc: u32, k: usize, inst: &crate::ir::Inst, last: u32) -> u32 {
        let Some(i) = self.p.insns.get(pc as usize) else {
            return last;
        };
        match i.kind {
            Kind::Fused => pc + 1,
            Kind::Plain => {
                self.counts[0] += 1;
                if !self.inline(pc, i, k, inst) {
                    self.call(pc, false);
                }
                self.redefined(inst);
                pc + 1
            }
            Kind::Guard if pc + 1 < last => {
                self.counts[0] += 1;
                self.call(pc, true);
                self.redefined(inst);
                pc + 2
            }
            _ if self.barrier(pc, i) => pc + 1,
            _ => {
                self.exit_now(pc);
                self.bind_leader(pc + 1);
                pc + 1
            }
        }
    }

    fn inline(&mut self, pc: u32, i: &Insn, k: usize, inst: &crate::ir::Inst) -> bool {
        if self.splat(i) || self.guard_affine(pc, i) {
            return true;
        }
        match inst.op {
            Op::Alu(alu) => self.vector_alu(alu, i) || self.pair_alu(alu, i),
            Op::Ld(a) => self.load(pc, i, k, inst, a) || self.lanes(pc, i, inst, a, true),
            Op::St(a) => self.store(pc, i, k, inst, a) || self.lanes(pc, i, inst, a, false),
            Op::Shfl(m) => self.shuffle(pc, m, i, inst),
            _ => false,
        }
    }

    /// Goes to a block: `pc` is the branch.
    fn edge(&mut self, target: u32, pc: u32, next: u32) {
        if target <= pc {
            self.back_edge(target);
        }
        if target != next {
            let l = self.leader(target);
            self.a.jump(l);
        }
    }

    /// Counts a backward branch and looks at the abort flag.
    fn back_edge(&mut self, target: u32) {
        let state = offset_of!(Warp, jit);
        self.a
            .count_down(warp_field(state + offset_of!(State, left)));
        let turn = self.exit_stub(target, EXIT_TURN);
        self.a.branch(Cc::Z, turn);
        self.a
            .load64(RCX, warp_field(state + offset_of!(State, abort)));
        self.a.cmp_byte(Mem::At(RCX, 0), 0);
        let abort = self.exit_stub(target, EXIT_ABORT);
        self.a.branch(Cc::Nz, abort);
    }

    fn terminator(
        &mut self,
        b: usize,
        end: u32,
        hot: Option<(Label, Snapshot)>,
        cfg: &Cfg,
        live: &[Bits],
    ) {
        let next = self.code.block_pcs.get(b + 1).copied().unwrap_or(NONE);
        let Some(i) = self.p.insns.get(end as usize).filter(|_| end < next) else {
            // Falls through.
            return self.flush_and_forget();
        };
        self.counts[0] += 1;
        let own = self.code.block_pcs[b];
        match i.kind {
            Kind::Jump if i.d[0] == own && hot.is_some() => {
                if let Some((l, want)) = hot {
                    self.regs.become_like(&mut self.a, &want);
                    self.back_edge(own);
                    self.a.jump(l);
                }
                self.forget();
            }
            Kind::Jump => {
                self.flush_and_forget();
                self.edge(i.d[0], end, next);
            }
            Kind::Branch => {
                let heirs = [i.d[0], i.d[1]].map(|t| self.inherits(b, t, cfg));
                // Both edges to one block are two ways to it.
                let heirs = if i.d[0] == i.d[1] { [None; 2] } else { heirs };
                if hot.is_none() && heirs == [None, None] {
                    self.flush_and_forget();
                }
                self.a.load32(RAX, super::regs::frame(i.s[0]));
                if i.x == 1 {
                    self.a.not32(RAX);
                }
                self.a.and32(RAX, R15);
                let other = self.a.label();
                self.a.branch(Cc::Z, other);
                self.a.cmp32(RAX, R15);
                let divergent = self.parting(end, i);
                self.a.branch(Cc::Nz, divergent);
                let state = self.regs.snapshot();
                let ways = [
                    (None, i.d[0], NONE, heirs[0]),
                    (Some(other), i.d[1], next, heirs[1]),
                ];
                for (label, target, follow, heir) in ways {
                    if let Some(l) = label {
                        self.a.bind(l);
                        self.regs.restore(&state);
                    }
                    match &hot {
                        Some((l, want)) if target == own => {
                            self.regs.become_like(&mut self.a, want);
                            self.back_edge(own);
                            self.a.jump(*l);
                        }
                        _ => match heir {
                            Some(to) => self.hand_over(b, to, target == follow, live),
                            None => {
                                self.flush_and_forget();
                                self.edge(target, end, follow);
                            }
                        },
                    }
                }
                self.forget();
            }
            _ => self.exit_now(end),
        }
    }
}
