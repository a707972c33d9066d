//! Loads of words and halves of words through one vector of addresses at several offsets: all are checked at the first of
//! them, and neighbours are gathered together.

use super::access::{MAX_OFFSET, MAX_SPAN};
use super::asm::{Asm, Cc, Label, Len, Mem, RSP, Z, op};
use super::compile::{Compiler, same};
use super::detour::Lookup;
use super::gather::{Lanes, Which};
use super::regs::{T0, T1, T2, T3};
use super::scattered::{check_lanes, fetch_ahead, finish_lanes, gather_lanes, gather_line, ready};
use crate::exec::access::{self, Form};
use crate::exec::insn::{Insn, NONE};
use crate::exec::memory::small;
use crate::ir::{Access, Inst, Op, V};
use crate::ptx::types::Space;

/// Groups that a segment may have: each has a word of the stack, which says whether its check failed.
pub(super) const MAX_GROUPS: usize = 14;
/// Where these words begin on the stack.
const WORDS: i32 = 64;

/// Most bytes that are gathered of a lane at once.
const WIDEST: i64 = 8;

/// Loads through one vector of addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneGroup {
    /// The vector.
    pub(super) slot: u32,
    /// Bytes of an element.
    bytes: u8,
    lo: i64,
    hi: i64,
    /// See [`Lanes::single`].
    range: i32,
    /// Which word of the stack.
    word: usize,
}

impl LaneGroup {
    fn failed(&self) -> Mem {
        Mem::At(RSP, WORDS + 4 * self.word as i32)
    }
}

/// A load behind another one through the same addresses.
struct Companion {
    /// Number of the instruction in its block.
    at: usize,
    pc: u32,
    imm: i64,
    d: u32,
    bytes: u8,
    signed: bool,
}

/// A load, or one that another one does as well.
#[derive(Clone, Copy, Debug)]
struct Part {
    pc: u32,
    imm: i64,
    /// Vector slot of the result, and whether lanes keep what they have.
    d: u32,
    blended: bool,
    signed: bool,
}

impl Compiler<'_> {
    /// Whether a load may be one of a group.
    fn part_of_lanes(&self, i: &Insn, inst: &Inst) -> bool {
        let Op::Ld(a) = inst.op else { return false };
        let own = same(i.run, access::handler(a, true, Form::Vector, self.isa));
        let space = matches!(a.space, Space::Global | Space::Const | Space::Generic);
        let plain =
            matches!((a.bytes, a.count, a.whole), (2 | 4, 1, false)) && inst.guard.is_none();
        let wide = i.small & small::ADDR32 == 0;
        own && space && plain && wide && i.imm.unsigned_abs() < MAX_OFFSET
    }

    /// Loads behind this one through the same addresses.
    fn companions(&self, i: &Insn) -> Vec<Companion> {
        let block = &self.f.blocks[self.block];
        let mut list = Vec::new();
        let Some(pcs) = self.code.inst_pcs.get(self.block) else {
            return list;
        };
        let address = block.insts.get(self.at).and_then(|i| i.s.first());
        let Some(address) = address else { return list };
        let end = self.block_end(self.block);
        for (n, inst) in block.insts.iter().enumerate().skip(self.at) {
            if n > self.at {
                if matches!(inst.op, Op::Bar(_) | Op::Call(_) | Op::Trap | Op::System(_)) {
                    break;
                }
                let first = pcs.get(n).copied().unwrap_or(NONE);
                let last = pcs.get(n + 1).copied().unwrap_or(end);
                let one = (first..last).find_map(|pc| {
                    let other = self.insn(pc)?;
                    let own = inst.s.first() == Some(address) && other.s[0] == i.s[0];
                    let Op::Ld(a) = inst.op else { return None };
                    (own && self.part_of_lanes(other, inst)).then_some(Companion {
                        at: n,
                        pc,
                        imm: other.imm,
                        d: other.d[0],
                        bytes: a.bytes,
                        signed: a.signed,
                    })
                });
                list.extend(one);
            }
            if inst.d.contains(address) {
                break;
            }
        }
        list
    }

    /// The group of a load, and whether it was opened for it.
    fn lane_group(&mut self, i: &Insn, bytes: u8) -> Option<(LaneGroup, bool)> {
        let size = i64::from(bytes);
        let covers = |g: &&LaneGroup| {
            let inside = g.lo <= i.imm && i.imm + size <= g.hi && (i.imm - g.lo) % size == 0;
            g.slot == i.s[0] && g.bytes == bytes && inside
        };
        if let Some(g) = self.lane_groups.iter().find(covers) {
            return Some((*g, false));
        }
        let (mut lo, mut hi) = (i.imm, i.imm + size);
        for o in self.companions(i) {
            let (l, h) = (lo.min(o.imm), hi.max(o.imm + size));
            if o.bytes == bytes && (o.imm - i.imm) % size == 0 && h - l <= MAX_SPAN {
                (lo, hi) = (l, h);
            }
        }
        let word = self.groups_opened;
        if hi - lo <= size || word >= MAX_GROUPS {
            return None;
        }
        if size < 4 {
            // Whatever is gathered of the last one.
            hi += WIDEST - size;
        }
        self.groups_opened += 1;
        let align = bytes.trailing_zeros() as u8;
        let range = self.group(lo, (hi - lo) as u32, align, false, false);
        let g = LaneGroup {
            slot: i.s[0],
            bytes,
            lo,
            hi,
            range,
            word,
        };
        self.lane_groups.push(g);
        Some((g, true))
    }

    /// Later loads of neighbours that may be done together with this one: nothing between them writes memory, has to
    /// come first, or uses the place of the later one's result.
    fn partners(&self, i: &Insn, inst: &Inst, g: &LaneGroup) -> Vec<Part> {
        let mut list: Vec<Part> = Vec::new();
        let insts = &self.f.blocks[self.block].insts;
        let (Some(own), Some(address)) = (inst.d.first(), inst.s.first()) else {
            return list;
        };
        let place = |v: &V| self.code.slots.get(*v as usize).map_or(NONE, |s| s.vec);
        if self.f.may_wait || own == address {
            return list;
        }
        let size = i64::from(g.bytes);
        let (mut lo, mut hi) = (i.imm, i.imm + size);
        let mut taken = vec![i.d[0]];
        for o in self.companions(i) {
            let Some(d) = insts[o.at].d.first() else {
                continue;
            };
            let (l, h) = (lo.min(o.imm), hi.max(o.imm + size));
            let fits = o.bytes == g.bytes && h - l <= WIDEST && l >= g.lo && h <= g.hi;
            let known = o.imm == i.imm || list.iter().any(|p| p.imm == o.imm);
            if !fits
                || known
                || (o.imm - i.imm) % size != 0
                || d == address
                || taken.contains(&o.d)
                || self.paired.contains_key(&o.pc)
            {
                continue;
            }
            let free = insts[self.at + 1..o.at].iter().all(|x| {
                let pure = matches!(x.op, Op::Alu(_) | Op::Ld(_) | Op::Shfl(_));
                let uses = x.d.iter().chain(&x.s).any(|v| place(v) == o.d);
                pure && !uses
            });
            if free {
                (lo, hi) = (l, h);
                taken.push(o.d);
                list.push(Part {
                    pc: o.pc,
                    imm: o.imm,
                    d: o.d,
                    signed: o.signed,
                    blended: self.shapes.masked(self.block, *d),
                });
            }
        }
        list
    }

    /// Compiles a load of words if others go through the same addresses.
    pub(super) fn grouped(&mut self, pc: u32, i: &Insn, inst: &Inst, a: Access) -> bool {
        if !self.part_of_lanes(i, inst) {
            return false;
        }
        let (slow, some, done) = (self.a.label(), self.a.label(), self.a.label());
        if let Some(failed) = self.paired.remove(&pc) {
            // An earlier load has brought the value, unless the check failed.
            self.regs.step();
            self.a.cmp_mem_imm(failed, 0);
            self.a.branch(Cc::Nz, slow);
            self.a.bind(done);
            let held = self.regs.snapshot();
            self.handler_stub(pc, i, held.clone(), held, slow, done, None);
            return true;
        }
        let Some((g, first)) = self.lane_group(i, a.bytes) else {
            return false;
        };
        let mut parts = self.partners(i, inst, &g);
        self.regs.step();
        let addresses: Vec<Z> = (0..4)
            .map(|l| self.regs.get(&mut self.a, i.s[0] + 64 * l, false, true))
            .collect();
        for p in &parts {
            self.paired.insert(p.pc, g.failed());
        }
        parts.push(Part {
            pc,
            imm: i.imm,
            d: i.d[0],
            signed: a.signed,
            blended: inst.d.iter().any(|&d| self.shapes.masked(self.block, d)),
        });
        let mut values = Vec::new();
        for p in &parts {
            for key in [p.d, p.d + 64] {
                if p.blended {
                    self.regs.get(&mut self.a, key, false, true);
                }
                values.push(self.regs.def(&mut self.a, key, false, false));
            }
        }
        let after = self.regs.snapshot();
        // Where a result is not yet there, what its register holds is nobody's.
        let own = |key: u32| (0..4).any(|l| key == i.s[0] + 64 * l);
        let before = after.iter().copied().filter(|(_, h)| {
            let result = parts.iter().find(|p| h.key == p.d || h.key == p.d + 64);
            result.is_none_or(|p| p.blended) || own(h.key)
        });
        let before = before.collect();
        let x = Lanes {
            access: a,
            is_load: true,
            narrow: false,
            shared: false,
            imm: parts.iter().map(|p| p.imm).fold(i.imm, i64::min) as i32,
            addresses,
            values,
            runs: 0,
            single: g.range,
            window: None,
            align: a.bytes.trailing_zeros() as u8,
        };
        if !first {
            self.a.cmp_mem_imm(g.failed(), 0);
            self.a.branch(Cc::Nz, slow);
        }
        self.a.cmp_imm8(super::asm::R15, -1);
        self.a.branch(Cc::Nz, some);
        let load = move |a: &mut Asm, all: bool| {
            let which = if all { Which::All } else { Which::Some };
            if first {
                check_lanes(a, &x, slow, which);
                a.store_imm32(g.failed(), 0);
                if all {
                    fetch_ahead(a, &x);
                }
            } else {
                ready(a, &x, which);
            }
            gather_parts(a, &x, which, &parts);
        };
        load(&mut self.a, true);
        self.a.bind(done);
        let note = first.then(|| (g, i.s[0]));
        self.handler_stub(pc, i, before, after, slow, done, note);
        self.stubs.push(Box::new(move |a, _| {
            a.bind(some);
            load(a, false);
            a.jump(done);
        }));
        true
    }

    /// The handler of a load of a group. The first one of it also looks up the range for the next time, and has the
    /// others take their handlers too.
    #[allow(clippy::too_many_arguments)] // both states and both places of a detour
    fn handler_stub(
        &mut self,
        pc: u32,
        i: &Insn,
        before: super::regs::Snapshot,
        after: super::regs::Snapshot,
        slow: Label,
        done: Label,
        first: Option<(LaneGroup, u32)>,
    ) {
        let lookup = first.map(|(g, slot)| Lookup {
            slot,
            lo: g.lo,
            span: (g.hi - g.lo) as u64,
            range: g.range,
            align: g.bytes.trailing_zeros() as u8,
        });
        let failed = first.map(|(g, _)| g.failed());
        let detour = self.detour(pc, i, before, after);
        self.stubs.push(Box::new(move |a, exit| {
            a.bind(slow);
            detour.begin(a);
            if let Some(l) = lookup {
                l.find(a);
            }
            detour.handle(a, exit);
            if let Some(failed) = failed {
                a.store_imm32(failed, 1);
            }
            detour.end(a);
            a.jump(done);
        }));
    }
}

/// Loads neighbours of each lane, after a check.
fn gather_parts(a: &mut Asm, x: &Lanes, which: Which, parts: &[Part]) {
    let of = |keeps: bool| match which {
        Which::Some if keeps => Which::Blended,
        w => w,
    };
    if let [p] = parts {
        return gather_lanes(a, x, of(p.blended));
    }
    let bytes = i64::from(x.access.bytes);
    let first = i64::from(x.imm);
    let wide = parts.iter().any(|p| p.imm + bytes - first > 4);
    let o = if wide { op::VPGATHERQQ } else { op::VPGATHERQD };
    for h in 0..2 {
        for (t, q) in [(T1, 2 * h), (T2, 2 * h + 1)] {
            gather_line(a, x, which, o, t, x.addresses[q], 0, 8 * q);
        }
        // The lower words in T0, the upper ones in T3.
        if wide {
            for (n, t) in [(0, T0), (1, T3)] {
                let index = a.words(std::array::from_fn(|l| 2 * l as u32 + n));
                a.v2(op::VMOVDQA32, t, index);
                a.v3(op::VPERMI2D, t, T1, T2);
            }
        } else {
            a.v3i(op::VINSERTI64X4, T0, T1, T2, 1);
        }
        for (n, p) in parts.iter().enumerate() {
            let at = p.imm - first;
            let mut from = if at < 4 { T0 } else { T3 };
            if bytes == 2 {
                let right = if p.signed { 4 } else { 2 };
                let mut half = from;
                if at % 4 == 0 {
                    a.shift(op::SHIFT_D, Len::Z, 6, T1, from, 16);
                    half = T1;
                }
                a.shift(op::SHIFT_D, Len::Z, right, T1, half, 16);
                from = T1;
            }
            let to = x.values[2 * n + h];
            finish_lanes(a, of(p.blended), op::VMOVDQA32, to, from, 1 + h as u8);
        }
    }
}
