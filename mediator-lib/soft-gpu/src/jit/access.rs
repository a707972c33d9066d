//! Loads and stores through uniform and affine addresses, 16 lanes at a time.
//!
//! Accesses of a segment through one address register share one check: that all of them lie
//! in the allocation noted for the group, for both halves of the warp and all lanes.

use std::mem::offset_of;

use super::ahead;
use super::asm::{
    Cc, Dec, G, K, Len, Mem, R8, R9, R12, R15, RAX, RBP, RCX, RDI, RDX, RSI, RSP, Z, op,
};
use super::compile::{Compiler, HOSTS, leave, load_masks, same, warp_field};
use super::regs::{Snapshot, T0, T1, T2, T3, flush, reload};
use super::runtime::{EXIT_INTERPRET, Group, JitRange, find_range};
use crate::exec::access::{self, Form};
use crate::exec::fast;
use crate::exec::insn::{Insn, NONE};
use crate::exec::memory::{Memory, small};
use crate::exec::warp::Warp;
use crate::ir::{Access, Inst, Op, V};
use crate::ptx::types::Space;

/// Most bytes that one check spans: the distance to the end of an allocation must not overflow.
pub(super) const MAX_SPAN: i64 = 1 << 20;

/// Offsets from an address register are below this: in an instruction they have 32 bits, with a sign.
pub(super) const MAX_OFFSET: u64 = 1 << 30;

/// Accesses through an address register that were checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    /// Pair slot of the address.
    pub(super) key: u32,
    shared: bool,
    lo: i64,
    hi: i64,
    align: u8,
    at: i64,
    /// Where the group's range lies among those of the worker.
    group: i32,
}

/// Host addresses of both halves in registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// Pair slot of the address.
    pub(super) key: u32,
    shared: bool,
    /// Which registers.
    pub(super) regs: usize,
    /// Offset that is contained already.
    bias: i64,
}

/// An access that can be done here.
#[derive(Clone, Copy, Debug)]
struct Plan {
    key: u32,
    shared: bool,
    narrow: bool,
    stride: i64,
    imm: i64,
    /// Lowest and one past the highest byte, from the address register.
    lo: i64,
    hi: i64,
    /// Alignment as a power of two.
    align: u8,
    form: Form,
}

pub(super) fn space_of(s: Space) -> Option<bool> {
    match s {
        Space::Shared => Some(true),
        Space::Global | Space::Const | Space::Generic => Some(false),
        _ => None,
    }
}

impl Compiler<'_> {
    /// How to do an access, if it can be done here.
    fn plan(&self, i: &Insn, inst: &Inst, a: Access, is_load: bool) -> Option<Plan> {
        if inst.guard.is_some() || a.whole {
            return None;
        }
        let shared = space_of(a.space)?;
        let address = self.code.slots.get(*inst.s.first()? as usize)?;
        let narrow = i.small & small::ADDR32 != 0;
        if address.pair == NONE || i.s[0] != address.pair || narrow && !shared {
            return None;
        }
        let is = |form| same(i.run, access::handler(a, is_load, form, self.isa));
        let stride = i64::from(i.x as i32);
        let quick = fast::handler(a, is_load, stride, self.isa);
        let form = if is(Form::Affine) || quick.is_some_and(|h| same(i.run, h)) {
            Form::Affine
        } else if is_load && is(Form::Pair) {
            Form::Pair
        } else {
            return None;
        };
        let bytes = i64::from(a.bytes) * i64::from(a.count);
        let fits = match (form, is_load) {
            (Form::Pair, _) => a.count <= 4 && a.bytes <= 8,
            (_, true) if stride == 0 => a.count <= 4,
            (_, true) if a.count == 1 && stride == bytes => true,
            (_, true) if a.count == 1 => {
                a.bytes == 4 && stride % 4 == 0 && stride.abs() < MAX_SPAN / 16
            }
            (_, true) => a.bytes == 4 && stride == bytes,
            // All lanes that run to one place.
            (_, false) if stride == 0 => (a.bytes, a.count) == (4, 1),
            (_, false) => stride == bytes && (a.count == 1 || a.bytes == 4 && a.count <= 4),
        };
        // The offset stands in instructions, with what is added to it there.
        if !fits || a.count > 4 || i.imm.unsigned_abs() >= MAX_OFFSET {
            return None;
        }
        let reach = if form == Form::Pair { 0 } else { stride * 15 };
        Some(Plan {
            key: address.pair,
            shared,
            narrow,
            stride,
            imm: i.imm,
            lo: i.imm.checked_add(reach.min(0))?,
            hi: i.imm.checked_add(reach.max(0))?.checked_add(bytes)?,
            align: bytes.trailing_zeros() as u8,
            form,
        })
    }

    /// The bytes that this access and later ones of the segment reach through the same register.
    fn reach(&self, p: &Plan, k: usize) -> (i64, i64) {
        let (mut lo, mut hi) = (p.lo, p.hi);
        let block = &self.f.blocks[self.block];
        let Some(pcs) = self.code.inst_pcs.get(self.block) else {
            return (lo, hi);
        };
        let end = self.block_end(self.block);
        let address: Option<V> = block.insts.get(k).and_then(|i| i.s.first().copied());
        let defines = |i: &Inst| address.is_some_and(|a| i.d.contains(&a));
        if block.insts.get(k).is_some_and(defines) {
            return (lo, hi);
        }
        for (n, inst) in block.insts.iter().enumerate().skip(k + 1) {
            if matches!(inst.op, Op::Bar(_) | Op::Call(_) | Op::Trap) {
                break;
            }
            let (a, is_load) = match inst.op {
                Op::Ld(a) => (a, true),
                Op::St(a) => (a, false),
                _ if defines(inst) => break,
                _ => continue,
            };
            let first = pcs.get(n).copied().unwrap_or(NONE);
            let last = pcs.get(n + 1).copied().unwrap_or(end);
            let main = (first..last).find_map(|pc| {
                let i = self.insn(pc)?;
                self.plan(i, inst, a, is_load)
            });
            if let Some(o) = main
                && o.key == p.key
                && o.shared == p.shared
                && o.align == p.align
                && (o.lo - lo) % (1 << p.align) == 0
            {
                let (l, h) = (lo.min(o.lo), hi.max(o.hi));
                if h - l <= MAX_SPAN {
                    (lo, hi) = (l, h);
                }
            }
            if defines(inst) {
                break;
            }
        }
        (lo, hi)
    }

    /// Checks an access, if that was not done before, and returns the host addresses that its
    /// offset is added to.
    fn host(&mut self, p: &Plan, pc: u32, k: usize) -> [Mem; 2] {
        let covers = |c: &Checked| {
            c.key == p.key
                && c.shared == p.shared
                && c.lo <= p.lo
                && p.hi <= c.hi
                && p.align <= c.align
                && (p.imm - c.at) % (1 << p.align) == 0
        };
        let x = self.regs.get(&mut self.a, p.key, true, true);
        if !self.checked.iter().any(covers) {
            let (lo, hi) = self.reach(p, k);
            let group = self.check(p, pc, x, lo, hi);
            self.checked.push(Checked {
                group,
                key: p.key,
                shared: p.shared,
                lo,
                hi,
                align: p.align,
                at: p.imm,
            });
        }
        let found = self.hosts.iter().position(|h| {
            h.key == p.key && h.shared == p.shared && (!p.narrow || h.bias == self.bias(p))
        });
        let h = match found {
            Some(at) => {
                // The one used last stands last.
                let h = self.hosts.remove(at);
                self.hosts.push(h);
                h
            }
            None => self.point(p, x),
        };
        let offset = (p.imm - h.bias) as i32;
        HOSTS[h.regs].map(|g| Mem::At(g, offset))
    }

    /// What is added to a 32-bit address before it is widened: it may wrap only there.
    fn bias(&self, p: &Plan) -> i64 {
        if !p.narrow {
            return 0;
        }
        let covers = |c: &&Checked| c.key == p.key && c.shared && c.lo <= p.lo && p.hi <= c.hi;
        self.checked.iter().find(covers).map_or(p.lo, |c| c.lo)
    }

    fn point(&mut self, p: &Plan, x: Z) -> Host {
        let free = (0..HOSTS.len()).find(|r| self.hosts.iter().all(|h| h.regs != *r));
        let regs = free.unwrap_or_else(|| self.hosts.remove(0).regs);
        let [g, h] = HOSTS[regs];
        let bias = self.bias(p);
        let mut x = x;
        if bias != 0 {
            let lo = self.a.quad(u64::from(bias as u32));
            let dec = Dec {
                bcast: true,
                ..Dec::default()
            };
            // Both upper words are zero and stay so: the constant's are.
            self.a.evex(op::VPADDQ, Len::X, T3.0, x.0, lo, dec, None);
            let low = self.a.quad(0xffff_ffff);
            let and = super::asm::Op(1, 1, 1, 0xdb);
            self.a.evex(and, Len::X, T3.0, T3.0, low, dec, None);
            x = T3;
        }
        self.a
            .evex(op::VMOVQ_R, Len::X, x.0, 0, g, Dec::default(), None);
        self.a
            .evex(op::VPEXTRQ, Len::X, x.0, 0, h, Dec::default(), Some(1));
        let from = if p.shared {
            offset_of!(Memory, shared)
        } else {
            offset_of!(Memory, delta)
        };
        let from = warp_field(offset_of!(Warp, memory) + from);
        self.a.add(g, from);
        self.a.add(h, from);
        let host = Host {
            key: p.key,
            shared: p.shared,
            regs,
            bias,
        };
        self.hosts.push(host);
        host
    }

    /// Checks that both halves' accesses from `lo` to `hi` lie in one allocation; returns where its range is.
    fn check(&mut self, p: &Plan, pc: u32, x: Z, lo: i64, hi: i64) -> i32 {
        let index = self.groups.len() as u32;
        let span = (hi - lo) as u32;
        self.groups.push(Group {
            lo,
            span,
            align: p.align,
            shared: p.shared,
            narrow: p.narrow,
        });
        let at = index as i32 * size_of::<JitRange>() as i32;
        let retry = self.a.label();
        self.a.bind(retry);
        let sub = if p.narrow { op::VPSUBD } else { op::VPSUBQ };
        let base = Mem::At(R12, at + offset_of!(JitRange, base) as i32);
        let limit = Mem::At(R12, at + offset_of!(JitRange, limit) as i32);
        self.a.x3(sub, T3, x, base);
        if p.align > 0 {
            // A misaligned difference becomes a huge one.
            self.a.shift(op::SHIFT72_Q, Len::X, 0, T3, T3, p.align);
        }
        self.a.cmp(op::VPCMPUQ, Len::X, K(7), T3, limit, 5);
        self.a.kortestb(K(7), K(7));
        if p.shared {
            let out = self.exit_stub(pc, EXIT_INTERPRET);
            self.a.branch(Cc::Nz, out);
            return at;
        }
        let miss = self.a.label();
        self.a.branch(Cc::Nz, miss);
        let held: Snapshot = self.regs.snapshot();
        let hosts: Vec<G> = self.hosts.iter().flat_map(|h| HOSTS[h.regs]).collect();
        let masks = self.masks_ready;
        let packed = (u64::from(index) << 8) | u64::from(p.align);
        self.stubs.push(Box::new(move |a, exit| {
            a.bind(miss);
            flush(a, &held);
            for (n, g) in hosts.iter().enumerate() {
                a.store64(Mem::At(RSP, 8 * n as i32), *g);
            }
            a.evex(op::VMOVQ_R, Len::X, x.0, 0, RSI, Dec::default(), None);
            a.evex(op::VPEXTRQ, Len::X, x.0, 0, RDX, Dec::default(), Some(1));
            a.mov(RDI, RBP);
            a.imm64(RCX, lo as u64);
            a.imm64(R8, span.into());
            a.imm64(R9, packed);
            a.imm64(RAX, find_range as *const () as usize as u64);
            a.call(RAX);
            a.test32(RAX);
            let found = a.label();
            a.branch(Cc::Nz, found);
            leave(a, exit, pc, EXIT_INTERPRET);
            a.bind(found);
            reload(a, &held);
            for (n, g) in hosts.iter().enumerate() {
                a.load64(*g, Mem::At(RSP, 8 * n as i32));
            }
            if masks {
                load_masks(a);
            }
            a.jump(retry);
        }));
        at
    }

    /// Fetches ahead what consecutive lanes load. `fresh`: the range of the check that this load made.
    fn fetch_ahead(&mut self, p: &Plan, m: [Mem; 2], fresh: Option<i32>) {
        if self.loops.get(self.block) == Some(&false) {
            return ahead::stream(&mut self.a, m);
        }
        if let ([Mem::At(g, offset), Mem::At(h, _)], Some(group)) = (m, fresh) {
            let lines = (16 * p.stride / 64).clamp(1, 4) as i32;
            self.iterations(group, [g, h], offset, lines);
        }
    }

    /// Compiles a load.
    pub(super) fn load(&mut self, pc: u32, i: &Insn, k: usize, inst: &Inst, a: Access) -> bool {
        let Some(p) = self.plan(i, inst, a, true) else {
            return false;
        };
        self.regs.step();
        let known = self.checked.len();
        let m = self.host(&p, pc, k);
        let fresh = self.checked.get(known).map(|c| c.group);
        let count = usize::from(a.count);
        if p.form == Form::Pair {
            if let Some(vec) = self.spread_only(pc, i, k, inst, a) {
                self.load_spread(i, vec, m);
            } else {
                self.load_pair(i, a, m);
            }
            return true;
        }
        let wide = a.bytes == 8;
        let blended = inst.d.iter().any(|&d| self.shapes.masked(self.block, d));
        if blended {
            self.masks();
        }
        let per_half = if wide { 2 } else { 1 };
        if !p.shared && p.stride == i64::from(a.bytes) * i64::from(a.count) {
            self.fetch_ahead(&p, m, fresh);
        }
        for (h, m) in m.into_iter().enumerate() {
            if count > 1 && p.stride != 0 {
                self.load_interleaved(i, count, h, m, blended);
                continue;
            }
            for n in 0..count {
                let at = moved(m, n as i32 * i32::from(a.bytes));
                for part in 0..per_half {
                    self.regs.step();
                    let line = (h * per_half + part) as u32;
                    let to = self.target(i.d[n], line, wide, blended);
                    self.load_line(to.0, a, &p, at, part as i32);
                    self.put(to, line, wide);
                }
            }
        }
        true
    }

    /// Where a loaded line goes: its register, or scratch and the register to blend into.
    fn target(&mut self, slot: u32, line: u32, _wide: bool, blended: bool) -> (Z, Option<Z>) {
        let key = slot + 64 * line;
        if !blended {
            return (self.regs.def(&mut self.a, key, false, false), None);
        }
        self.regs.get(&mut self.a, key, false, true);
        let old = self.regs.def(&mut self.a, key, false, false);
        (T0, Some(old))
    }

    fn put(&mut self, to: (Z, Option<Z>), line: u32, wide: bool) {
        if let Some(old) = to.1 {
            let (o, k) = if wide {
                (op::VMOVDQA64, [1, 3, 2, 4][line as usize & 3])
            } else {
                (op::VMOVDQA32, 1 + line as u8)
            };
            let dec = Dec {
                k,
                ..Dec::default()
            };
            self.a.evex(o, Len::Z, old.0, 0, to.0, dec, None);
        }
    }

    fn load_line(&mut self, to: Z, a: Access, p: &Plan, m: Mem, part: i32) {
        let signed = a.signed;
        match (a.bytes, p.stride) {
            (8, 0) => self.a.v2(op::VPBROADCASTQ, to, m),
            (8, _) => self.a.v2(op::VMOVDQU32, to, moved(m, 64 * part)),
            (4, 0) => self.a.v2(op::VPBROADCASTD, to, m),
            (4, 4) => self.a.v2(op::VMOVDQU32, to, m),
            (4, s) => {
                let index: [u32; 16] = std::array::from_fn(|l| (s * l as i64) as u32);
                let index = self.a.words(index);
                self.a.v2(op::VMOVDQA32, T1, index);
                // All lanes: the mask is used up by the instruction.
                self.a.imm32(RAX, 0xffff);
                self.a.kmovd_from(K(7), RAX);
                let Mem::At(base, disp) = m else { return };
                let dec = Dec {
                    k: 7,
                    ..Dec::default()
                };
                self.a.evex(
                    op::VPGATHERDD,
                    Len::Z,
                    T2.0,
                    0,
                    Mem::Vsib(base, T1, disp),
                    dec,
                    None,
                );
                self.a.v2(op::VMOVDQA32, to, T2);
            }
            (bytes, 0) => {
                self.a.load_small(RAX, m, bytes, signed);
                self.a.v2(op::VPBROADCASTD_R, to, RAX);
            }
            (1, _) => self
                .a
                .v2(if signed { op::VPMOVSXBD } else { op::VPMOVZXBD }, to, m),
            _ => self
                .a
                .v2(if signed { op::VPMOVSXWD } else { op::VPMOVZXWD }, to, m),
        }
    }

    /// Vectors of two or four words in consecutive lanes.
    fn load_interleaved(&mut self, i: &Insn, count: usize, h: usize, m: Mem, blended: bool) {
        for n in 0..count {
            self.regs.step();
            let key = i.d[n] + 64 * h as u32;
            let old = blended.then(|| self.regs.get(&mut self.a, key, false, true));
            let to = self.regs.def(&mut self.a, key, false, false);
            debug_assert!(old.is_none_or(|o| o == to));
            self.deinterleave(T0, count, n, m);
            let dec = Dec {
                k: if blended { 1 + h as u8 } else { 0 },
                ..Dec::default()
            };
            self.a.evex(op::VMOVDQA32, Len::Z, to.0, 0, T0, dec, None);
        }
    }

    /// Word `n` of each vector of `count` in the memory at `m`. Changes T0 to T2.
    pub(super) fn deinterleave(&mut self, to: Z, count: usize, n: usize, m: Mem) {
        let pick = |from: usize| -> [u32; 16] {
            std::array::from_fn(|l| ((l * count + n) as u32).wrapping_sub(16 * from as u32) & 31)
        };
        // Words of the first two lines of memory.
        let index = self.a.words(pick(0));
        self.a.v2(op::VMOVDQU32, T2, m);
        self.a.v2(op::VMOVDQA32, T0, index);
        self.a.v3(op::VPERMI2D, T0, T2, moved(m, 64));
        if count == 4 {
            let index = self.a.words(pick(2));
            self.a.v2(op::VMOVDQU32, T2, moved(m, 128));
            self.a.v2(op::VMOVDQA32, T1, index);
            self.a.v3(op::VPERMI2D, T1, T2, moved(m, 192));
            // The lower half of the lanes is in the first two.
            self.a.v3i(op::VINSERTI64X4, T1, T1, T0, 0);
            self.a.v2(op::VMOVDQA32, to, T1);
        } else if to != T0 {
            self.a.v2(op::VMOVDQA32, to, T0);
        }
    }

    /// T0: line `part` of the memory that vectors of the words `v` make. Changes T1, rdx, k7.
    pub(super) fn interleave(&mut self, v: &[Z], part: usize) {
        let count = v.len();
        let index = self.a.words(std::array::from_fn(|w| {
            let (l, n) = ((part * 16 + w) / count, (part * 16 + w) % count);
            (l + 16 * (n & 1)) as u32
        }));
        self.a.v2(op::VMOVDQA32, T0, index);
        self.a.v3(op::VPERMI2D, T0, v[0], v[1]);
        if count == 4 {
            self.a.v2(op::VMOVDQA32, T1, index);
            self.a.v3(op::VPERMI2D, T1, v[2], v[3]);
            self.a.imm32(RDX, 0xcccc);
            self.a.kmovd_from(K(7), RDX);
            let dec = Dec {
                k: 7,
                ..Dec::default()
            };
            self.a.evex(op::VMOVDQA32, Len::Z, T0.0, 0, T1, dec, None);
        }
    }

    fn load_pair(&mut self, i: &Insn, a: Access, m: [Mem; 2]) {
        let uniform = i.small & small::UNIFORM != 0;
        for n in 0..usize::from(a.count) {
            self.regs.step();
            let d = self.regs.def(&mut self.a, i.d[n], true, false);
            for (h, t) in [(0, T1), (1, T2)] {
                if h == 1 && uniform {
                    continue;
                }
                let at = moved(m[h], n as i32 * i32::from(a.bytes));
                match a.bytes {
                    8 => self
                        .a
                        .evex(op::VMOVQ, Len::X, t.0, 0, at, Dec::default(), None),
                    4 => self
                        .a
                        .evex(op::VMOVD, Len::X, t.0, 0, at, Dec::default(), None),
                    bytes => {
                        self.a.load_small(RAX, at, bytes, a.signed);
                        self.a
                            .evex(op::VMOVD, Len::X, t.0, 0, RAX, Dec::default(), None);
                    }
                }
            }
            self.a
                .x3(op::VPUNPCKLQDQ, d, T1, if uniform { T1 } else { T2 });
        }
    }

    /// Compiles a store.
    pub(super) fn store(&mut self, pc: u32, i: &Insn, k: usize, inst: &Inst, a: Access) -> bool {
        let Some(p) = self.plan(i, inst, a, false) else {
            return false;
        };
        // Values: all lines in registers, unless that is too many.
        let wide = a.bytes == 8;
        let lines = if wide { 4 } else { 2 };
        self.regs.step();
        let m = self.host(&p, pc, k);
        if a.count > 1 {
            self.store_interleaved(i, usize::from(a.count), m);
            return true;
        }
        let values: Vec<Z> = (0..lines)
            .map(|l| self.regs.get(&mut self.a, i.d[0] + 64 * l, false, true))
            .collect();
        if p.stride == 0 {
            self.store_one(&values, m);
            return true;
        }
        let o = match a.bytes {
            1 => op::VPMOVDB,
            2 => op::VPMOVDW,
            4 => op::VMOVDQU32_ST,
            _ => op::VMOVDQU64_ST,
        };
        let writes: Vec<(Z, Mem, u8)> = values
            .iter()
            .enumerate()
            .map(|(l, z)| {
                if wide {
                    (*z, moved(m[l / 2], 64 * (l as i32 % 2)), [1, 3, 2, 4][l])
                } else {
                    (*z, m[l], 1 + l as u8)
                }
            })
            .collect();
        self.write(o, writes);
        true
    }

    /// Words of the lanes of each half to one place: the last lane that runs counts.
    fn store_one(&mut self, values: &[Z], m: [Mem; 2]) {
        let a = &mut self.a;
        a.v3(op::VPXORD, T0, T0, T0);
        for (h, (z, m)) in values.iter().zip(m).enumerate() {
            let Mem::At(base, offset) = m else { continue };
            let none = a.label();
            a.mov32(RAX, R15);
            if h == 1 {
                a.shr32(RAX, 16);
            }
            a.and_imm(RAX, 0xffff);
            a.branch(Cc::Z, none);
            a.kmovd_from(K(7), RAX);
            let dec = Dec {
                k: 7,
                ..Dec::default()
            };
            let to = Mem::Vsib(base, T0, offset);
            a.evex(op::VPSCATTERDD, Len::Z, z.0, 0, to, dec, None);
            a.bind(none);
        }
    }

    /// Stores of all lanes; where not all run, of those that do.
    fn write(&mut self, o: super::asm::Op, writes: Vec<(Z, Mem, u8)>) {
        let (some, back) = (self.a.label(), self.a.label());
        self.a.cmp_imm8(R15, -1);
        self.a.branch(Cc::Nz, some);
        for (z, m, _) in &writes {
            self.a.evex(o, Len::Z, z.0, 0, *m, Dec::default(), None);
        }
        self.a.bind(back);
        self.stubs.push(Box::new(move |a, _| {
            a.bind(some);
            load_masks(a);
            for (z, m, k) in &writes {
                let dec = Dec {
                    k: *k,
                    ..Dec::default()
                };
                a.evex(o, Len::Z, z.0, 0, *m, dec, None);
            }
            a.jump(back);
        }));
    }

    /// Vectors of two or four words to consecutive lanes. The mask of the words is that of
    /// their lanes, each bit repeated.
    fn store_interleaved(&mut self, i: &Insn, count: usize, m: [Mem; 2]) {
        for (h, m) in m.into_iter().enumerate() {
            self.regs.step();
            let v: Vec<Z> = (0..count)
                .map(|n| {
                    self.regs
                        .get(&mut self.a, i.d[n] + 64 * h as u32, false, true)
                })
                .collect();
            for part in 0..count {
                self.interleave(&v, part);
                // Lanes of this part: 16 / count of them from 16 * h + part * 16 / count on.
                let lanes = 16 / count;
                let first = (16 * h + part * lanes) as u8;
                self.lanes_mask(first, count);
                let dec = Dec {
                    k: 7,
                    ..Dec::default()
                };
                let at = moved(m, 64 * part as i32);
                self.a
                    .evex(op::VMOVDQU32_ST, Len::Z, T0.0, 0, at, dec, None);
            }
        }
    }

    /// k7: the mask bits of the lanes from `first` on, each repeated `count` times.
    fn lanes_mask(&mut self, first: u8, count: usize) {
        self.a.mov32(RAX, R15);
        self.a.shr32(RAX, first);
        self.a.kmovd_from(K(7), RAX);
        // Spread over lanes of `count` words, then back to a bit for each word.
        if count == 2 {
            self.a
                .evex(op::VPMOVM2Q, Len::Z, T3.0, 0, Z(7), Dec::default(), None);
        } else {
            self.a
                .evex(op::VPMOVM2D, Len::Z, T3.0, 0, Z(7), Dec::default(), None);
            let index: [u32; 16] = std::array::from_fn(|w| w as u32 / 4);
            let index = self.a.words(index);
            self.a.v2(op::VMOVDQA32, T2, index);
            self.a.v3(op::VPERMD, T3, T2, T3);
        }
        self.a
            .evex(op::VPTESTMD, Len::Z, 7, T3.0, T3, Dec::default(), None);
    }
}

/// An operand some bytes further on.
pub(super) fn moved(m: Mem, by: i32) -> Mem {
    match m {
        Mem::At(g, d) => Mem::At(g, d + by),
        m => m,
    }
}
