//! Loads and stores through vectors of addresses, where all lanes run: at once if the lanes of each
//! half are consecutive, otherwise loads by gathering. The rest is the handler's.

use std::mem::offset_of;

use super::access::{MAX_OFFSET, moved, space_of};
use super::asm::{Cc, Dec, K, Len, Mem, R8, R9, R12, R15, RAX, RBP, RCX, RDI, RDX, RSI, Z, op};
use super::compile::{Compiler, same, warp_field};
use super::detour::Lookup;
use super::regs::{Snapshot, T0, T1, T2, T3, frame};
use super::runtime::{Group, JitRange, find_range};
use super::scattered::{gather, scatter, window};
use crate::exec::access::{self, Form};
use crate::exec::insn::{Insn, NONE};
use crate::exec::memory::{Memory, small};
use crate::exec::warp::Warp;
use crate::ir::{Access, Inst};

/// Bytes that a permutation of two registers reaches.
pub(super) const WINDOW: u32 = 128;

/// How far ahead memory is fetched, in bytes: what a block reads of several rows, which the next one goes on with.
pub(super) const AHEAD: i32 = 4096;

/// `a | (b ^ c)` of VPTERNLOG.
const OR_DIFFERENCE: u8 = 0xf6;

/// Masks of the lanes that run: of halves, and of quarters (see [`load_masks`]).
pub(super) const HALVES: [u8; 2] = [1, 2];
pub(super) const QUARTERS: [u8; 4] = [1, 3, 2, 4];

/// Which lanes load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Those that run; of the others nobody needs a value.
    Some,
    /// Those that run; the others keep what they have.
    Blended,
}

/// An access in the making.
pub(super) struct Lanes {
    pub(super) access: Access,
    pub(super) is_load: bool,
    /// 32-bit addresses, in shared memory.
    pub(super) narrow: bool,
    pub(super) shared: bool,
    pub(super) imm: i32,
    /// Lines of addresses.
    pub(super) addresses: Vec<Z>,
    /// Lines of values: of each element one after another.
    pub(super) values: Vec<Z>,
    /// Range of a half, and of a lane.
    pub(super) runs: i32,
    pub(super) single: i32,
    /// Range of the memory that is loaded whole for a half, if that may do.
    pub(super) window: Option<i32>,
    /// Alignment as a power of two.
    pub(super) align: u8,
}

impl Lanes {
    fn lines(&self) -> usize {
        if self.access.bytes == 8 { 4 } else { 2 }
    }

    /// Registers of element `n`.
    pub(super) fn element(&self, n: usize) -> &[Z] {
        let lines = self.lines();
        self.values.get(n * lines..(n + 1) * lines).unwrap_or(&[])
    }
}

impl Compiler<'_> {
    /// Compiles an access through a vector of addresses.
    pub(super) fn lanes(
        &mut self,
        pc: u32,
        i: &Insn,
        inst: &Inst,
        a: Access,
        is_load: bool,
    ) -> bool {
        if is_load && self.grouped(pc, i, inst, a) {
            return true;
        }
        let Some(shared) = space_of(a.space) else {
            return false;
        };
        let narrow = i.small & small::ADDR32 != 0;
        let address = inst
            .s
            .first()
            .and_then(|&v| self.code.slots.get(v as usize));
        let here = same(i.run, access::handler(a, is_load, Form::Vector, self.isa))
            && address.is_some_and(|s| s.vec != NONE && s.vec == i.s[0]);
        // Of several results one may be the address.
        let again = a.count > 1 && inst.s.first().is_some_and(|v| inst.d.contains(v));
        let fits = a.count == 1 || a.bytes == 4 && a.count <= 4;
        if !here
            || !fits
            || a.whole
            || inst.guard.is_some()
            || narrow != shared
            || again
            || i.imm.unsigned_abs() >= MAX_OFFSET
        {
            return false;
        }
        self.regs.step();
        let total = u32::from(a.bytes) * u32::from(a.count);
        let align = total.trailing_zeros() as u8;
        let runs = self.group(i.imm, 16 * total, align, shared, narrow);
        // A gathered lane is at least a word.
        let single = self.group(i.imm, total.max(4), align, shared, narrow);
        let around = (self.vbmi && is_load && !narrow && a.count == 1 && a.bytes <= 2)
            .then(|| self.group(i.imm, WINDOW, align, shared, narrow));
        let addresses: Vec<Z> = (0..if narrow { 2 } else { 4 })
            .map(|l| self.regs.get(&mut self.a, i.s[0] + 64 * l, false, true))
            .collect();
        let mut x = Lanes {
            access: a,
            is_load,
            narrow,
            shared,
            imm: i.imm as i32,
            addresses,
            values: Vec::new(),
            runs,
            single,
            window: around,
            align,
        };
        let keys: Vec<u32> = (0..usize::from(a.count))
            .flat_map(|n| (0..x.lines()).map(move |l| (n, l)))
            .map(|(n, l)| i.d[n] + 64 * l as u32)
            .collect();
        // Where lanes wait that need the old values, these must not be lost.
        let blended = is_load && inst.d.iter().any(|&d| self.shapes.masked(self.block, d));
        for &key in &keys {
            let z = if !is_load || blended {
                self.regs.get(&mut self.a, key, false, true)
            } else {
                Z(0)
            };
            let z = if is_load {
                self.regs.def(&mut self.a, key, false, false)
            } else {
                z
            };
            x.values.push(z);
        }
        let mut before = self.regs.snapshot();
        if is_load && !blended {
            let lines = x.addresses.len() as u32;
            let own: Vec<u32> = (0..lines).map(|l| i.s[0] + 64 * l).collect();
            before.retain(|(_, h)| !keys.contains(&h.key) || own.contains(&h.key));
        }
        let (slow, scattered, done) = (self.a.label(), self.a.label(), self.a.label());
        let some = self.a.label();
        self.a.cmp_imm8(R15, -1);
        self.a.branch(Cc::Nz, some);
        let m = if narrow {
            self.narrow_run(&x, scattered, slow)
        } else {
            self.wide_run(&x, scattered, slow)
        };
        if is_load {
            self.read_run(&x, m);
        } else {
            self.write_run(&x, m);
        }
        self.a.bind(done);
        let after = self.regs.snapshot();
        self.slow_lanes(pc, i, &x, before, after, slow, done);
        self.stubs.push(Box::new(move |a, _| {
            a.bind(scattered);
            if x.is_load {
                if x.window.is_some() {
                    window(a, &x, done);
                }
                gather(a, &x, slow, Which::All);
                a.jump(done);
                a.bind(some);
                gather(
                    a,
                    &x,
                    slow,
                    if blended { Which::Blended } else { Which::Some },
                );
                a.jump(done);
            } else if matches!((x.access.bytes, x.narrow), (4, _) | (8, false)) {
                scatter(a, &x, slow, Which::All);
                a.jump(done);
                a.bind(some);
                scatter(a, &x, slow, Which::Some);
                a.jump(done);
            } else {
                a.bind(some);
                a.jump(slow);
            }
        }));
        true
    }

    pub(super) fn group(
        &mut self,
        lo: i64,
        span: u32,
        align: u8,
        shared: bool,
        narrow: bool,
    ) -> i32 {
        self.groups.push(Group {
            lo,
            span,
            align,
            shared,
            narrow,
        });
        (self.groups.len() - 1) as i32 * size_of::<JitRange>() as i32
    }

    /// Host addresses of both halves, if 64-bit addresses are consecutive.
    fn wide_run(
        &mut self,
        x: &Lanes,
        scattered: super::asm::Label,
        slow: super::asm::Label,
    ) -> [Mem; 2] {
        let total = u64::from(x.access.bytes) * u64::from(x.access.count);
        let steps = [0, 8].map(|first| {
            let v = std::array::from_fn(|l| total * (first + l as u64));
            self.a.quads(v)
        });
        let looping = self.loops.get(self.block) == Some(&true);
        let [a0, a1, a2, a3] = [0, 1, 2, 3].map(|q| x.addresses[q]);
        let a = &mut self.a;
        a.v3(op::VPSUBQ, T0, a0, steps[0]);
        a.v3(op::VPSUBQ, T1, a1, steps[1]);
        a.v2(op::VPBROADCASTQ, T2, T0);
        a.v3(op::VPXORD, T1, T1, T0);
        a.v3i(op::VPTERNLOGD, T1, T0, T2, OR_DIFFERENCE);
        a.v3(op::VPSUBQ, T2, a2, steps[0]);
        a.v3(op::VPSUBQ, T3, a3, steps[1]);
        a.v3i(op::VPTERNLOGD, T1, T2, T3, OR_DIFFERENCE);
        a.v2(op::VPBROADCASTQ, T3, T2);
        a.v3i(op::VPTERNLOGD, T1, T2, T3, OR_DIFFERENCE);
        a.evex(op::VPTESTMD, Len::Z, 7, T1.0, T1, Dec::default(), None);
        a.kortestw(K(7), K(7));
        a.branch(Cc::Nz, scattered);
        a.x3(op::VPUNPCKLQDQ, T0, T0, T2);
        a.x3(op::VPSUBQ, T3, T0, base(x.runs));
        if x.align > 0 {
            a.shift(op::SHIFT72_Q, Len::X, 0, T3, T3, x.align);
        }
        a.cmp(op::VPCMPUQ, Len::X, K(7), T3, limit(x.runs), 5);
        a.kortestb(K(7), K(7));
        a.branch(Cc::Nz, slow);
        a.evex(op::VMOVQ_R, Len::X, T0.0, 0, RAX, Dec::default(), None);
        a.evex(op::VPEXTRQ, Len::X, T0.0, 0, RCX, Dec::default(), Some(1));
        for g in [RAX, RCX] {
            a.add(g, origin(x.shared));
        }
        if x.is_load && !x.shared && looping {
            let lines = (16 * total / 64).clamp(1, 4) as i32;
            self.iterations(x.runs, [RAX, RCX], x.imm, lines);
        }
        [Mem::At(RAX, x.imm), Mem::At(RCX, x.imm)]
    }

    /// The same for 32-bit addresses in shared memory.
    fn narrow_run(
        &mut self,
        x: &Lanes,
        scattered: super::asm::Label,
        slow: super::asm::Label,
    ) -> [Mem; 2] {
        let total = u32::from(x.access.bytes) * u32::from(x.access.count);
        let steps = self.a.words(std::array::from_fn(|l| total * l as u32));
        let a = &mut self.a;
        a.v3(op::VPSUBD, T0, x.addresses[0], steps);
        a.v3(op::VPSUBD, T2, x.addresses[1], steps);
        a.v2(op::VPBROADCASTD, T1, T0);
        a.v2(op::VPBROADCASTD, T3, T2);
        a.v3(op::VPXORD, T1, T1, T0);
        a.v3i(op::VPTERNLOGD, T1, T2, T3, OR_DIFFERENCE);
        a.evex(op::VPTESTMD, Len::Z, 7, T1.0, T1, Dec::default(), None);
        a.kortestw(K(7), K(7));
        a.branch(Cc::Nz, scattered);
        // As pairs: the base of the range contains the offset.
        let low = a.quad(0xffff_ffff);
        let dec = Dec {
            bcast: true,
            ..Dec::default()
        };
        a.x3(op::VPUNPCKLQDQ, T0, T0, T2);
        a.evex(op::VPANDQ, Len::X, T0.0, T0.0, low, dec, None);
        a.x3(op::VPSUBD, T0, T0, base(x.runs));
        a.shift(op::SHIFT72_Q, Len::X, 0, T3, T0, x.align);
        a.cmp(op::VPCMPUQ, Len::X, K(7), T3, limit(x.runs), 5);
        a.kortestb(K(7), K(7));
        a.branch(Cc::Nz, slow);
        a.evex(op::VMOVQ_R, Len::X, T0.0, 0, RAX, Dec::default(), None);
        a.evex(op::VPEXTRQ, Len::X, T0.0, 0, RCX, Dec::default(), Some(1));
        for g in [RAX, RCX] {
            a.add(g, origin(true));
        }
        [Mem::At(RAX, 0), Mem::At(RCX, 0)]
    }

    fn read_run(&mut self, x: &Lanes, m: [Mem; 2]) {
        let signed = x.access.signed;
        let count = usize::from(x.access.count);
        for (h, m) in m.into_iter().enumerate() {
            if count > 1 {
                for n in 0..count {
                    let to = x.element(n)[h];
                    self.deinterleave(to, count, n, m);
                }
                continue;
            }
            let v = x.element(0);
            match x.access.bytes {
                8 => {
                    self.a.v2(op::VMOVDQU32, v[2 * h], m);
                    self.a.v2(op::VMOVDQU32, v[2 * h + 1], moved(m, 64));
                }
                4 => self.a.v2(op::VMOVDQU32, v[h], m),
                2 => self
                    .a
                    .v2(if signed { op::VPMOVSXWD } else { op::VPMOVZXWD }, v[h], m),
                _ => self
                    .a
                    .v2(if signed { op::VPMOVSXBD } else { op::VPMOVZXBD }, v[h], m),
            }
        }
    }

    fn write_run(&mut self, x: &Lanes, m: [Mem; 2]) {
        let count = usize::from(x.access.count);
        for (h, m) in m.into_iter().enumerate() {
            if count > 1 {
                let v: Vec<Z> = (0..count).map(|n| x.element(n)[h]).collect();
                for part in 0..count {
                    self.interleave(&v, part);
                    self.a.v2(op::VMOVDQU32_ST, T0, moved(m, 64 * part as i32));
                }
                continue;
            }
            let v = x.element(0);
            match x.access.bytes {
                8 => {
                    self.a.v2(op::VMOVDQU64_ST, v[2 * h], m);
                    self.a.v2(op::VMOVDQU64_ST, v[2 * h + 1], moved(m, 64));
                }
                4 => self.a.v2(op::VMOVDQU32_ST, v[h], m),
                2 => self.a.v2(op::VPMOVDW, v[h], m),
                _ => self.a.v2(op::VPMOVDB, v[h], m),
            }
        }
    }

    /// The handler, after the ranges were looked up for the next time.
    #[allow(clippy::too_many_arguments)] // both states and both places of a detour
    fn slow_lanes(
        &mut self,
        pc: u32,
        i: &Insn,
        x: &Lanes,
        before: Snapshot,
        after: Snapshot,
        slow: super::asm::Label,
        done: super::asm::Label,
    ) {
        let detour = self.detour(pc, i, before, after);
        let total = u64::from(x.access.bytes) * u64::from(x.access.count);
        let lookups: Vec<(i32, u64, u32)> = if x.shared {
            Vec::new()
        } else {
            let mut list = vec![(x.runs, 16 * total, 128), (x.single, total.max(4), 0)];
            list.extend(x.window.map(|at| (at, WINDOW.into(), 128)));
            list
        };
        let (align, lo, slot) = (x.align, x.imm, i.s[0]);
        let single = (!x.shared).then(|| Lookup {
            slot,
            lo: lo.into(),
            span: total.max(4),
            range: x.single,
            align,
        });
        self.stubs.push(Box::new(move |a, exit| {
            a.bind(slow);
            detour.begin(a);
            let (some, handler) = (a.label(), a.label());
            a.cmp_imm8(R15, -1);
            a.branch(Cc::Nz, some);
            for (at, span, other) in lookups {
                let index = at as u64 / size_of::<JitRange>() as u64;
                a.mov(RDI, RBP);
                a.load64(RSI, frame(slot));
                a.load64(RDX, frame(slot + other));
                a.imm64(RCX, i64::from(lo) as u64);
                a.imm64(R8, span);
                a.imm64(R9, (index << 8) | u64::from(align));
                a.imm64(RAX, find_range as *const () as usize as u64);
                a.call(RAX);
            }
            a.jump(handler);
            a.bind(some);
            if let Some(l) = single {
                l.find(a);
            }
            a.bind(handler);
            detour.handle(a, exit);
            detour.end(a);
            a.jump(done);
        }));
    }
}

pub(super) fn base(group: i32) -> Mem {
    Mem::At(R12, group + offset_of!(JitRange, base) as i32)
}

pub(super) fn limit(group: i32) -> Mem {
    Mem::At(R12, group + offset_of!(JitRange, limit) as i32)
}

/// What makes a host address of an address.
pub(super) fn origin(shared: bool) -> Mem {
    let field = if shared {
        offset_of!(Memory, shared)
    } else {
        offset_of!(Memory, delta)
    };
    warp_field(offset_of!(Warp, memory) + field)
}
