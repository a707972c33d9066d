//! Shuffles, and vectors of affine values.

use std::mem::offset_of;

use super::asm::{Cc, Dec, K, Len, R15, RAX, Z, op};
use super::compile::{Compiler, same, warp_field};
use super::regs::{T0, T1};
use super::runtime::EXIT_INTERPRET;
use crate::exec::insn::{EVENT_DEOPT, Insn, NONE};
use crate::exec::warp::Warp;
use crate::exec::warp_ops;
use crate::ir::{Inst, ShflMode};

/// Where each lane of a shuffle reads, and which lanes are in range (as `warp_ops::shfl`).
fn sources(mode: ShflMode, b: u32, c: u32) -> ([u32; 32], u32) {
    let (mut from, mut valid) = ([0; 32], 0);
    for (l, from) in from.iter_mut().enumerate() {
        let (lane, bval, cval) = (l as i32, (b & 31) as i32, (c & 31) as i32);
        let seg = ((c >> 8) & 31) as i32;
        let max = (lane & seg) | (cval & !seg);
        let min = lane & seg;
        let (j, ok) = match mode {
            ShflMode::Up => (lane - bval, lane - bval >= max),
            ShflMode::Down => (lane + bval, lane + bval <= max),
            ShflMode::Bfly => (lane ^ bval, lane ^ bval <= max),
            ShflMode::Idx => (min | (bval & !seg), min | (bval & !seg) <= max),
        };
        *from = if ok { j as u32 & 31 } else { lane as u32 };
        valid |= u32::from(ok) << l;
    }
    (from, valid)
}

impl Compiler<'_> {
    /// A shuffle whose lane and clamp are constants.
    pub(super) fn shuffle(&mut self, pc: u32, mode: ShflMode, i: &Insn, inst: &Inst) -> bool {
        let (Some(&b), Some(&c)) = (self.consts.get(&i.s[1]), self.consts.get(&i.s[2])) else {
            return false;
        };
        let (from, valid) = sources(mode, b as u32, c as u32);
        if inst.s.len() > 3 {
            // Lanes that are missing are the interpreter's affair.
            self.a.load32(RAX, warp_field(offset_of!(Warp, dead)));
            self.a.or32(RAX, R15);
            self.a.not32(RAX);
            self.a.test32(RAX);
            let missing = self.exit_stub(pc, EXIT_INTERPRET);
            self.a.branch(Cc::Nz, missing);
        }
        if i.d[1] != NONE {
            self.a.imm32(RAX, valid);
            self.put_mask(i.d[1], true);
        }
        let masked = inst
            .d
            .first()
            .is_none_or(|&d| self.shapes.masked(self.block, d));
        if masked {
            self.masks();
        }
        self.regs.step();
        // Lanes of both halves may mix: their NaNs are right, or all to be put right.
        let lazy = !masked && self.regs.lazy(i.s[0]) && self.regs.lazy(i.s[0] + 64);
        let s: [Z; 2] = [0, 64].map(|h| self.regs.get(&mut self.a, i.s[0] + h, false, !lazy));
        // Both results are complete before either is written: they may share registers.
        for (h, t) in [T0, T1].into_iter().enumerate() {
            let half = &from[16 * h..16 * h + 16];
            let own = half.iter().all(|&l| l as usize / 16 == h);
            let other = half.iter().all(|&l| l as usize / 16 != h);
            if own || other {
                let z = s[if own { h } else { 1 - h }];
                self.permute_half(t, z, half);
            } else {
                let mut index = [0; 16];
                index.copy_from_slice(half);
                let index = self.a.words(index);
                self.a.v2(op::VMOVDQA32, t, index);
                self.a.v3(op::VPERMI2D, t, s[0], s[1]);
            }
        }
        for (h, t) in [T0, T1].into_iter().enumerate() {
            let key = i.d[0] + 64 * h as u32;
            if masked {
                let d = self.regs.get(&mut self.a, key, false, true);
                let d2 = self.regs.def(&mut self.a, key, false, false);
                debug_assert_eq!(d, d2);
                let k = Dec {
                    k: 1 + h as u8,
                    ..Dec::default()
                };
                self.a.evex(op::VMOVDQA32, Len::Z, d.0, 0, t, k, None);
            } else {
                let d = self.regs.def(&mut self.a, key, false, lazy);
                self.a.v2(op::VMOVDQA32, d, t);
            }
        }
        true
    }

    fn permute_half(&mut self, d: Z, s: Z, from: &[u32]) {
        let from: Vec<u32> = from.iter().map(|l| l % 16).collect();
        let within = |n: u32| (0..16u32).all(|l| from[l as usize] == l ^ n);
        let quad = (0..16u32).all(|l| from[l as usize] / 4 == l / 4)
            && (0..16usize).all(|l| from[l] % 4 == from[l % 4] % 4);
        if within(0) {
            self.a.v2(op::VMOVDQA32, d, s);
        } else if within(8) {
            self.a.v3i(op::VSHUFI32X4, d, s, s, 0x4e);
        } else if within(4) {
            self.a.v3i(op::VSHUFI32X4, d, s, s, 0xb1);
        } else if quad {
            let imm = (0..4).fold(0, |imm, l| imm | ((from[l] % 4) << (2 * l)));
            self.a.evex(
                op::VPSHUFD,
                Len::Z,
                d.0,
                0,
                s,
                Dec::default(),
                Some(imm as u8),
            );
        } else {
            let mut index = [0; 16];
            index.copy_from_slice(&from);
            let index = self.a.words(index);
            self.a.v2(op::VMOVDQA32, d, index);
            self.a.v3(op::VPERMD, d, d, s);
        }
    }

    /// The vector of an affine value from its pair.
    pub(super) fn splat(&mut self, i: &Insn) -> bool {
        let wide = same(i.run, warp_ops::splat64);
        if !wide && !same(i.run, warp_ops::splat32) {
            return false;
        }
        if self.spread.take() == Some(i.s[0]) {
            return true;
        }
        self.regs.step();
        let nan = self.regs.lazy(i.s[0]);
        let exact = nan && i.imm != 0;
        self.regs.observe(i.s[0]);
        let x = self.regs.get(&mut self.a, i.s[0], true, exact);
        let lines = if wide { 4 } else { 2 };
        for line in 0..lines {
            let d = self
                .regs
                .def(&mut self.a, i.d[0] + 64 * line, false, nan && !exact);
            let high = line >= lines / 2;
            if high {
                self.a.x3(op::VPUNPCKHQDQ, T0, x, x);
            }
            let from = if high { T0 } else { x };
            let broadcast = if wide {
                op::VPBROADCASTQ
            } else {
                op::VPBROADCASTD
            };
            self.a.v2(broadcast, d, from);
            if i.imm != 0 {
                if wide {
                    let first = u64::from(line % 2) * 8;
                    let step: [u64; 8] =
                        std::array::from_fn(|l| (i.imm as u64).wrapping_mul(first + l as u64));
                    let step = self.a.quads(step);
                    self.a.v3(op::VPADDQ, d, d, step);
                } else {
                    let step: [u32; 16] =
                        std::array::from_fn(|l| (i.imm as u32).wrapping_mul(l as u32));
                    let step = self.a.words(step);
                    self.a.v3(op::VPADDD, d, d, step);
                }
            }
        }
        true
    }

    /// That an affine 32-bit value does not wrap: checked over all lanes; if that fails, the
    /// interpreter looks at those that run.
    pub(super) fn guard_affine(&mut self, pc: u32, i: &Insn) -> bool {
        if !same(i.run, warp_ops::guard_affine) {
            return false;
        }
        self.regs.step();
        let x = self.regs.get(&mut self.a, i.s[0], true, false);
        let fail = self.exit_stub(pc, crate::jit::runtime::EXIT_INTERPRET);
        let _ = EVENT_DEOPT;
        let reach = i.imm.saturating_mul(15);
        // As a signed or unsigned value, base and base + 15 * stride must be in range.
        if i.x == 1 {
            self.a.shift(op::SHIFT_Q, Len::X, 6, T0, x, 32);
            self.a.shift(op::SHIFT72_Q, Len::X, 4, T0, T0, 32);
        } else {
            self.a.shift(op::SHIFT_Q, Len::X, 6, T0, x, 32);
            self.a.shift(op::SHIFT_Q, Len::X, 2, T0, T0, 32);
        }
        let reach = self.a.quad(reach as u64);
        let dec = Dec {
            bcast: true,
            ..Dec::default()
        };
        self.a
            .evex(op::VPADDQ, Len::X, T0.0, T0.0, reach, dec, None);
        // The sum fits 32 bits if extending its low half gives it back.
        self.a.shift(op::SHIFT_Q, Len::X, 6, T1, T0, 32);
        if i.x == 1 {
            self.a.shift(op::SHIFT72_Q, Len::X, 4, T1, T1, 32);
        } else {
            self.a.shift(op::SHIFT_Q, Len::X, 2, T1, T1, 32);
        }
        self.a.cmp(op::VPCMPQ, Len::X, K(7), T0, T1, 4);
        self.a.kortestb(K(7), K(7));
        self.a.branch(super::asm::Cc::Nz, fail);
        true
    }
}
