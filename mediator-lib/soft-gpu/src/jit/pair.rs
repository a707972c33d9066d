//! Lane operations on uniform and affine values: both halves' bases in one 128-bit register.
//! The upper word of a 32-bit base is zero.

use super::asm::{Dec, K, Len, RAX, RCX, Z, op};
use super::compile::{Compiler, same};
use super::regs::{T1, T2, T3, frame};
use super::vector::{binary, comparison};
use crate::exec::alu::pair_handler;
use crate::exec::insn::Insn;
use crate::ir::{Alu, Class};

impl Compiler<'_> {
    fn pair(&mut self, slot: u32, exact: bool) -> Z {
        self.regs.get(&mut self.a, slot, true, exact)
    }

    fn pair_def(&mut self, i: &Insn, nan: bool) -> Z {
        self.regs.def(&mut self.a, i.d[0], true, nan)
    }

    /// Compiles a lane operation on pairs.
    pub(super) fn pair_alu(&mut self, alu: Alu, i: &Insn) -> bool {
        if !same(i.run, pair_handler(alu)) {
            return false;
        }
        self.regs.step();
        if let Some(c) = comparison(alu) {
            let (x, y) = (self.pair(i.s[0], !c.float), self.pair(i.s[1], !c.float));
            self.a.cmp(c.op, Len::X, K(5), x, y, c.imm);
            // One bit per base (of a 32-bit one, the lower of two) becomes a half of the mask.
            let spread = if c.wide { op::VPMOVM2Q } else { op::VPMOVM2D };
            self.a
                .evex(spread, Len::X, T1.0, 0, Z(5), Dec::default(), None);
            let to = frame(i.d[0]);
            self.a
                .evex(op::VPMOVQW, Len::X, T1.0, 0, to, Dec::default(), None);
            return true;
        }
        if let Some((o, _)) = binary(alu) {
            let (x, y) = (self.pair(i.s[0], true), self.pair(i.s[1], true));
            let d = self.pair_def(i, false);
            self.a.x3(o, d, x, y);
            return true;
        }
        let number = self.consts.get(&i.s[1]).map(|&c| c as u32);
        match alu {
            Alu::Mov32 | Alu::Mov64 => {
                let lazy = self.regs.lazy(i.s[0]);
                self.regs.observe(i.s[0]);
                let x = self.pair(i.s[0], false);
                let d = self.pair_def(i, lazy);
                self.a
                    .evex(op::VMOVDQA32, Len::X, d.0, 0, x, Dec::default(), None);
            }
            Alu::Zext64 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                self.a
                    .evex(op::VMOVDQA32, Len::X, d.0, 0, x, Dec::default(), None);
            }
            Alu::Sext64 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                self.a.shift(op::SHIFT_Q, Len::X, 6, T1, x, 32);
                self.a.shift(op::SHIFT72_Q, Len::X, 4, d, T1, 32);
            }
            Alu::Trunc32 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                self.low_words(d, x);
            }
            Alu::High32 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                self.a.shift(op::SHIFT_Q, Len::X, 2, d, x, 32);
            }
            Alu::MulWideS32 | Alu::MulWideU32 | Alu::MadWideS32 | Alu::MadWideU32 => {
                let signed = matches!(alu, Alu::MulWideS32 | Alu::MadWideS32);
                let mul = if signed { op::VPMULDQ } else { op::VPMULUDQ };
                let (x, y) = (self.pair(i.s[0], true), self.pair(i.s[1], true));
                if matches!(alu, Alu::MadWideS32 | Alu::MadWideU32) {
                    let z = self.pair(i.s[2], true);
                    let d = self.pair_def(i, false);
                    self.a.x3(mul, T1, x, y);
                    self.a.x3(op::VPADDQ, d, T1, z);
                } else {
                    let d = self.pair_def(i, false);
                    self.a.x3(mul, d, x, y);
                }
            }
            Alu::MadLo32 | Alu::MadLo64 => {
                let wide = alu == Alu::MadLo64;
                let [x, y, z] = [0, 1, 2].map(|k| self.pair(i.s[k], true));
                let d = self.pair_def(i, false);
                self.a
                    .x3(if wide { op::VPMULLQ } else { op::VPMULLD }, T1, x, y);
                self.a
                    .x3(if wide { op::VPADDQ } else { op::VPADDD }, d, T1, z);
            }
            Alu::NegI32 | Alu::NegI64 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                self.a.x3(op::VPXORD, T1, T1, T1);
                self.a.x3(
                    if alu == Alu::NegI64 {
                        op::VPSUBQ
                    } else {
                        op::VPSUBD
                    },
                    d,
                    T1,
                    x,
                );
            }
            Alu::Not32 | Alu::Not64 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                self.a.evex(
                    op::VPTERNLOGD,
                    Len::X,
                    T1.0,
                    x.0,
                    x,
                    Dec::default(),
                    Some(0x55),
                );
                if alu == Alu::Not32 {
                    self.low_words(d, T1);
                } else {
                    self.a
                        .evex(op::VMOVDQA32, Len::X, d.0, 0, T1, Dec::default(), None);
                }
            }
            Alu::Zext8 | Alu::Zext16 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                let m = self.a.quad(if alu == Alu::Zext8 { 0xff } else { 0xffff });
                self.masked_quads(d, x, m);
            }
            Alu::Shl32 | Alu::ShrU32 | Alu::ShrS32 | Alu::Shl64 | Alu::ShrU64 | Alu::ShrS64 => {
                let wide = alu.result() == Class::D;
                let arithmetic = matches!(alu, Alu::ShrS32 | Alu::ShrS64);
                let x = self.pair(i.s[0], true);
                if let Some(n) = number {
                    let most = if wide { 63 } else { 31 };
                    let n = n.min(most + u32::from(!arithmetic)) as u8;
                    let d = self.pair_def(i, false);
                    let (o, ext) = match alu {
                        Alu::Shl32 => (op::SHIFT_D, 6),
                        Alu::ShrU32 => (op::SHIFT_D, 2),
                        Alu::ShrS32 => (op::SHIFT_D, 4),
                        Alu::Shl64 => (op::SHIFT_Q, 6),
                        Alu::ShrU64 => (op::SHIFT_Q, 2),
                        _ => (op::SHIFT72_Q, 4),
                    };
                    self.a.shift(o, Len::X, ext, d, x, n);
                } else {
                    // The count's upper word is zero, so that it is right for 64 bits too.
                    let y = self.pair(i.s[1], true);
                    let d = self.pair_def(i, false);
                    let o = match alu {
                        Alu::Shl32 => op::VPSLLVD,
                        Alu::ShrU32 => op::VPSRLVD,
                        Alu::ShrS32 => op::VPSRAVD,
                        Alu::Shl64 => op::VPSLLVQ,
                        Alu::ShrU64 => op::VPSRLVQ,
                        _ => op::VPSRAVQ,
                    };
                    self.a.x3(o, d, x, y);
                }
            }
            Alu::AddF32 | Alu::SubF32 | Alu::MulF32 => {
                let (x, y) = (self.pair(i.s[0], false), self.pair(i.s[1], false));
                let d = self.pair_def(i, true);
                let o = match alu {
                    Alu::AddF32 => op::VADDPS,
                    Alu::SubF32 => op::VSUBPS,
                    _ => op::VMULPS,
                };
                self.a.x3(o, d, x, y);
            }
            Alu::AddF32Ftz | Alu::SubF32Ftz | Alu::MulF32Ftz => {
                let (x, y) = (self.pair(i.s[0], false), self.pair(i.s[1], false));
                let d = self.pair_def(i, true);
                let o = match alu {
                    Alu::AddF32Ftz => op::VADDPS,
                    Alu::SubF32Ftz => op::VSUBPS,
                    _ => op::VMULPS,
                };
                let (x, y) = (self.flushed(T1, x, i.s[0]), self.flushed(T2, y, i.s[1]));
                self.a.x3(o, d, x, y);
                self.flush_denormals(d, d);
            }
            Alu::FmaF32Ftz => {
                let s = [0, 1, 2].map(|k| self.pair(i.s[k], false));
                let d = self.pair_def(i, true);
                let [x, y, z] =
                    [(0, T1), (1, T2), (2, T3)].map(|(k, t)| self.flushed(t, s[k], i.s[k]));
                if z != T3 {
                    self.a
                        .evex(op::VMOVDQA32, Len::X, T3.0, 0, z, Dec::default(), None);
                }
                self.a.x3(op::VFMADD231PS, T3, x, y);
                self.flush_denormals(d, T3);
            }
            Alu::FtzF32 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                let from = self.flushed(T1, x, i.s[0]);
                self.a
                    .evex(op::VMOVDQA32, Len::X, d.0, 0, from, Dec::default(), None);
            }
            Alu::NegF32 | Alu::AbsF32 => {
                let x = self.pair(i.s[0], true);
                let d = self.pair_def(i, false);
                if alu == Alu::AbsF32 {
                    let m = self.a.quad(0x7fff_ffff);
                    self.masked_quads(d, x, m);
                } else {
                    let m = self.a.quad(0x8000_0000);
                    let dec = Dec {
                        bcast: true,
                        ..Dec::default()
                    };
                    self.a.evex(op::VPXORQ, Len::X, d.0, x.0, m, dec, None);
                }
            }
            Alu::MinF32 | Alu::MaxF32 => {
                let (x, y) = (self.pair(i.s[0], true), self.pair(i.s[1], true));
                let d = self.pair_def(i, false);
                self.min_max(d, x, y, alu == Alu::MinF32);
            }
            Alu::MulHiU32 | Alu::MulHiS32 => {
                let (x, y) = (self.pair(i.s[0], true), self.pair(i.s[1], true));
                let d = self.pair_def(i, false);
                let mul = if alu == Alu::MulHiU32 {
                    op::VPMULUDQ
                } else {
                    op::VPMULDQ
                };
                self.a.x3(mul, T1, x, y);
                self.a.shift(op::SHIFT_Q, Len::X, 2, d, T1, 32);
            }
            Alu::FmaF32 => {
                let [x, y, z] = [0, 1, 2].map(|k| self.pair(i.s[k], false));
                let d = self.pair_def(i, true);
                self.a
                    .evex(op::VMOVDQA32, Len::X, T1.0, 0, z, Dec::default(), None);
                self.a.x3(op::VFMADD231PS, T1, x, y);
                self.a
                    .evex(op::VMOVDQA32, Len::X, d.0, 0, T1, Dec::default(), None);
            }
            Alu::Sel32 | Alu::Sel64 => {
                let (x, y) = (self.pair(i.s[0], true), self.pair(i.s[1], true));
                let d = self.pair_def(i, false);
                // The first lane of each half decides.
                self.a.load32(RAX, frame(i.s[2]));
                self.a.mov32(RCX, RAX);
                self.a.and_imm(RAX, 1);
                self.a.shr32(RCX, 15);
                self.a.and_imm(RCX, 2);
                self.a.or32(RAX, RCX);
                self.a.kmovd_from(K(5), RAX);
                let dec = Dec {
                    k: 5,
                    ..Dec::default()
                };
                self.a.evex(op::VPBLENDMQ, Len::X, d.0, y.0, x, dec, None);
            }
            Alu::MovP | Alu::NotP | Alu::AndP | Alu::OrP | Alu::XorP | Alu::SelP => {
                self.predicate(alu, i)
            }
            _ => return false,
        }
        true
    }

    fn low_words(&mut self, d: Z, x: Z) {
        let m = self.a.quad(0xffff_ffff);
        self.masked_quads(d, x, m);
    }

    /// `d = x & m` in both 64-bit lanes.
    fn masked_quads(&mut self, d: Z, x: Z, m: super::asm::Mem) {
        let dec = Dec {
            bcast: true,
            ..Dec::default()
        };
        let and = super::asm::Op(1, 1, 1, 0xdb);
        self.a.evex(and, Len::X, d.0, x.0, m, dec, None);
    }
}
