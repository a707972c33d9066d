//! Lane operations on vectors: a step for each cache line of the result.

use super::asm::R15;
use super::asm::{Dec, K, Len, Op, RAX, RCX, Z, op};
use super::compile::{Compiler, same};
use super::regs::{T0, T1, T2, T3, canonical, frame};
use crate::exec::alu::vector_handler;
use crate::exec::insn::Insn;
use crate::ir::{Alu, Class};

/// Mask registers of the quarters of a 64-bit vector.
const QUARTERS: [u8; 4] = [1, 3, 2, 4];

/// Predicates of VPCMP and VCMPPS.
pub(super) const EQ: u8 = 0;
const LT: u8 = 1;
const LE: u8 = 2;
pub(super) const UNORD: u8 = 3;
const NE: u8 = 4;

/// How a comparison is done.
#[derive(Clone, Copy)]
pub(super) struct Compare {
    pub(super) op: Op,
    pub(super) imm: u8,
    pub(super) wide: bool,
    pub(super) float: bool,
}

pub(super) fn comparison(alu: Alu) -> Option<Compare> {
    let c = |op, imm, wide, float| {
        Some(Compare {
            op,
            imm,
            wide,
            float,
        })
    };
    match alu {
        Alu::EqI32 => c(op::VPCMPD, EQ, false, false),
        Alu::NeI32 => c(op::VPCMPD, NE, false, false),
        Alu::LtS32 => c(op::VPCMPD, LT, false, false),
        Alu::LeS32 => c(op::VPCMPD, LE, false, false),
        Alu::LtU32 => c(op::VPCMPUD, LT, false, false),
        Alu::LeU32 => c(op::VPCMPUD, LE, false, false),
        Alu::EqI64 => c(op::VPCMPQ, EQ, true, false),
        Alu::NeI64 => c(op::VPCMPQ, NE, true, false),
        Alu::LtS64 => c(op::VPCMPQ, LT, true, false),
        Alu::LeS64 => c(op::VPCMPQ, LE, true, false),
        Alu::LtU64 => c(op::VPCMPUQ, LT, true, false),
        Alu::LeU64 => c(op::VPCMPUQ, LE, true, false),
        Alu::EqF32 => c(op::VCMPPS, EQ, false, true),
        Alu::LtF32 => c(op::VCMPPS, LT, false, true),
        Alu::LeF32 => c(op::VCMPPS, LE, false, true),
        Alu::NeuF32 => c(op::VCMPPS, NE, false, true),
        Alu::NanF32 => c(op::VCMPPS, UNORD, false, true),
        Alu::EqF64 => c(op::VCMPPD, EQ, true, false),
        Alu::LtF64 => c(op::VCMPPD, LT, true, false),
        Alu::LeF64 => c(op::VCMPPD, LE, true, false),
        Alu::NeuF64 => c(op::VCMPPD, NE, true, false),
        Alu::NanF64 => c(op::VCMPPD, UNORD, true, false),
        _ => None,
    }
}

/// Operations of two operands that are one instruction.
pub(super) fn binary(alu: Alu) -> Option<(Op, bool)> {
    Some(match alu {
        Alu::AddI32 => (op::VPADDD, false),
        Alu::SubI32 => (op::VPSUBD, false),
        Alu::MulLo32 => (op::VPMULLD, false),
        Alu::And32 => (op::VPANDD, false),
        Alu::Or32 => (op::VPORD, false),
        Alu::Xor32 => (op::VPXORD, false),
        Alu::MinS32 => (op::VPMINSD, false),
        Alu::MaxS32 => (op::VPMAXSD, false),
        Alu::MinU32 => (op::VPMINUD, false),
        Alu::MaxU32 => (op::VPMAXUD, false),
        Alu::AddI64 => (op::VPADDQ, true),
        Alu::SubI64 => (op::VPSUBQ, true),
        Alu::MulLo64 => (op::VPMULLQ, true),
        Alu::And64 => (op::VPANDD, true),
        Alu::Or64 => (op::VPORD, true),
        Alu::Xor64 => (op::VPXORD, true),
        Alu::MinS64 => (op::VPMINSQ, true),
        Alu::MaxS64 => (op::VPMAXSQ, true),
        Alu::MinU64 => (op::VPMINUQ, true),
        Alu::MaxU64 => (op::VPMAXUQ, true),
        _ => return None,
    })
}

/// Arithmetic of f32, with or without flushing of denormals.
fn float(alu: Alu) -> Option<(Op, bool)> {
    Some(match alu {
        Alu::AddF32 => (op::VADDPS, false),
        Alu::SubF32 => (op::VSUBPS, false),
        Alu::MulF32 => (op::VMULPS, false),
        Alu::DivF32 => (op::VDIVPS, false),
        Alu::AddF32Ftz => (op::VADDPS, true),
        Alu::SubF32Ftz => (op::VSUBPS, true),
        Alu::MulF32Ftz => (op::VMULPS, true),
        _ => return None,
    })
}

/// `1 / c` for a power of two, if that is a normal number: a product with it is the quotient, however it is rounded.
fn reciprocal_of_power(c: u32) -> Option<u32> {
    let exponent = (c >> 23) & 0xff;
    let is_power = c & 0x007f_ffff == 0 && (1..=253).contains(&exponent);
    is_power.then(|| (c & 0x8000_0000) | ((254 - exponent) << 23))
}

/// Shifts: by vectors, and the opcode and extension of the form with a number.
struct Shift {
    by_vector: Op,
    by_number: (Op, u8),
    wide: bool,
    arithmetic: bool,
}

fn shift(alu: Alu) -> Option<Shift> {
    let s = |by_vector, by_number, wide, arithmetic| {
        Some(Shift {
            by_vector,
            by_number,
            wide,
            arithmetic,
        })
    };
    match alu {
        Alu::Shl32 => s(op::VPSLLVD, (op::SHIFT_D, 6), false, false),
        Alu::ShrU32 => s(op::VPSRLVD, (op::SHIFT_D, 2), false, false),
        Alu::ShrS32 => s(op::VPSRAVD, (op::SHIFT_D, 4), false, true),
        Alu::Shl64 => s(op::VPSLLVQ, (op::SHIFT_Q, 6), true, false),
        Alu::ShrU64 => s(op::VPSRLVQ, (op::SHIFT_Q, 2), true, false),
        Alu::ShrS64 => s(op::VPSRAVQ, (op::SHIFT72_Q, 4), true, true),
        _ => None,
    }
}

/// A result line in the making.
pub(super) struct Dest {
    /// Where the value goes.
    pub(super) to: Z,
    /// The register it is blended into, and the mask.
    blend: Option<(Z, u8)>,
    /// NaNs have to be put right before they are blended with others.
    nan: bool,
}

impl Compiler<'_> {
    /// The register of a source line. `exact` puts NaNs right.
    pub(super) fn line(&mut self, slot: u32, line: u32, exact: bool) -> Z {
        self.regs.get(&mut self.a, slot + 64 * line, false, exact)
    }

    /// Where line `line` of the result goes. All sources must have been fetched.
    pub(super) fn dest(&mut self, i: &Insn, wide: bool, line: u32, nan: bool) -> Dest {
        let key = i.d[0] + 64 * line;
        if !i.masked {
            let to = self.regs.def(&mut self.a, key, false, nan);
            return Dest {
                to,
                blend: None,
                nan,
            };
        }
        let old = self.regs.get(&mut self.a, key, false, true);
        self.regs.def(&mut self.a, key, false, false);
        let k = if wide {
            QUARTERS[line as usize & 3]
        } else {
            1 + line as u8
        };
        Dest {
            to: T0,
            blend: Some((old, k)),
            nan,
        }
    }

    pub(super) fn commit(&mut self, d: &Dest) {
        if let Some((old, k)) = d.blend {
            if d.nan {
                canonical(&mut self.a, d.to, d.to, false);
            }
            let (op, k) = (op::VMOVDQA32, k);
            // Quarters have eight lanes of 64 bits.
            let op = if matches!(k, 3 | 4) || self.wide_blend {
                op::VMOVDQA64
            } else {
                op
            };
            let dec = Dec {
                k,
                ..Dec::default()
            };
            self.a.evex(op, Len::Z, old.0, 0, d.to, dec, None);
        }
    }

    /// Compiles a lane operation on vectors.
    pub(super) fn vector_alu(&mut self, alu: Alu, i: &Insn) -> bool {
        if !same(i.run, vector_handler(alu, self.isa)) {
            return false;
        }
        if i.masked {
            self.masks();
        }
        let wide = alu.result() == Class::D;
        self.wide_blend = wide;
        let lines = if wide { 4 } else { 2 };
        if let Some(c) = comparison(alu) {
            self.compare(c, i);
            return true;
        }
        if let Some((o, _)) = binary(alu) {
            for h in 0..lines {
                self.regs.step();
                let (x, y) = (self.line(i.s[0], h, true), self.line(i.s[1], h, true));
                let d = self.dest(i, wide, h, false);
                self.a.v3(o, d.to, x, y);
                self.commit(&d);
            }
            return true;
        }
        if let Some((o, ftz)) = float(alu) {
            let reciprocal = self.consts.get(&i.s[1]).filter(|_| alu == Alu::DivF32);
            if let Some(r) = reciprocal.and_then(|&c| reciprocal_of_power(c as u32)) {
                self.scale(i, r);
                return true;
            }
            for h in 0..lines {
                self.regs.step();
                let (mut x, mut y) = (self.line(i.s[0], h, false), self.line(i.s[1], h, false));
                let d = self.dest(i, false, h, true);
                if ftz {
                    (x, y) = (self.flushed(T1, x, i.s[0]), self.flushed(T2, y, i.s[1]));
                }
                self.a.v3(o, d.to, x, y);
                if ftz {
                    self.flush_denormals(d.to, d.to);
                }
                self.commit(&d);
            }
            return true;
        }
        if let Some(s) = shift(alu) {
            let number = self.consts.get(&i.s[1]).map(|&c| c as u32);
            for h in 0..lines {
                self.regs.step();
                let x = self.line(i.s[0], h, true);
                if let Some(n) = number {
                    let d = self.dest(i, wide, h, false);
                    let most = if s.wide { 63 } else { 31 };
                    let n = if s.arithmetic {
                        n.min(most)
                    } else {
                        n.min(most + 1)
                    };
                    let (o, ext) = s.by_number;
                    self.a.shift(o, Len::Z, ext, d.to, x, n as u8);
                    self.commit(&d);
                    continue;
                }
                let y = self.line(i.s[1], if s.wide { h / 2 } else { h }, true);
                let d = self.dest(i, wide, h, false);
                let mut y = y;
                if s.wide {
                    self.widen(T1, y, h, op::VPMOVZXDQ);
                    y = T1;
                }
                self.a.v3(s.by_vector, d.to, x, y);
                self.commit(&d);
            }
            return true;
        }
        match alu {
            Alu::Mov32 | Alu::Mov64 => {
                for h in 0..lines {
                    self.regs.step();
                    let lazy = self.regs.lazy(i.s[0] + 64 * h) && !wide;
                    self.regs.observe(i.s[0] + 64 * h);
                    let x = self.line(i.s[0], h, false);
                    let d = self.dest(i, wide, h, lazy);
                    self.a.v2(op::VMOVDQA32, d.to, x);
                    self.commit(&d);
                }
            }
            Alu::FmaF32 | Alu::FmaF32Ftz => self.fma(i, alu == Alu::FmaF32Ftz),
            Alu::MadLo32 | Alu::MadLo64 => {
                let (mul, add) = if wide {
                    (op::VPMULLQ, op::VPADDQ)
                } else {
                    (op::VPMULLD, op::VPADDD)
                };
                for h in 0..lines {
                    self.regs.step();
                    let [x, y, z] = [0, 1, 2].map(|k| self.line(i.s[k], h, true));
                    let d = self.dest(i, wide, h, false);
                    self.a.v3(mul, T1, x, y);
                    self.a.v3(add, d.to, T1, z);
                    self.commit(&d);
                }
            }
            Alu::MulWideS32 | Alu::MulWideU32 | Alu::MadWideS32 | Alu::MadWideU32 => {
                let signed = matches!(alu, Alu::MulWideS32 | Alu::MadWideS32);
                let (mul, ext) = if signed {
                    (op::VPMULDQ, op::VPMOVSXDQ)
                } else {
                    (op::VPMULUDQ, op::VPMOVZXDQ)
                };
                let add = matches!(alu, Alu::MadWideS32 | Alu::MadWideU32);
                for h in 0..4 {
                    self.regs.step();
                    let (x, y) = (
                        self.line(i.s[0], h / 2, true),
                        self.line(i.s[1], h / 2, true),
                    );
                    let z = if add { self.line(i.s[2], h, true) } else { x };
                    let d = self.dest(i, true, h, false);
                    self.widen(T1, x, h, ext);
                    self.widen(T2, y, h, ext);
                    if add {
                        self.a.v3(mul, T1, T1, T2);
                        self.a.v3(op::VPADDQ, d.to, T1, z);
                    } else {
                        self.a.v3(mul, d.to, T1, T2);
                    }
                    self.commit(&d);
                }
            }
            Alu::Sext64 | Alu::Zext64 => {
                let ext = if alu == Alu::Sext64 {
                    op::VPMOVSXDQ
                } else {
                    op::VPMOVZXDQ
                };
                for h in 0..4 {
                    self.regs.step();
                    let x = self.line(i.s[0], h / 2, true);
                    let d = self.dest(i, true, h, false);
                    self.widen(d.to, x, h, ext);
                    self.commit(&d);
                }
            }
            Alu::Trunc32 | Alu::High32 => {
                for h in 0..2 {
                    self.regs.step();
                    let (x, y) = (
                        self.line(i.s[0], 2 * h, true),
                        self.line(i.s[0], 2 * h + 1, true),
                    );
                    let d = self.dest(i, false, h, false);
                    for (t, mut s) in [(T1, x), (T2, y)] {
                        if alu == Alu::High32 {
                            self.a.shift(op::SHIFT_Q, Len::Z, 2, t, s, 32);
                            s = t;
                        }
                        self.a
                            .evex(op::VPMOVQD, Len::Z, s.0, 0, t, Dec::default(), None);
                    }
                    self.a.v3i(op::VINSERTI64X4, d.to, T1, T2, 1);
                    self.commit(&d);
                }
            }
            Alu::Pack64 => {
                for h in 0..4 {
                    self.regs.step();
                    let (x, y) = (
                        self.line(i.s[0], h / 2, true),
                        self.line(i.s[1], h / 2, true),
                    );
                    let d = self.dest(i, true, h, false);
                    self.widen(T1, x, h, op::VPMOVZXDQ);
                    self.widen(T2, y, h, op::VPMOVZXDQ);
                    self.a.shift(op::SHIFT_Q, Len::Z, 6, T2, T2, 32);
                    self.a.v3(op::VPORD, d.to, T1, T2);
                    self.commit(&d);
                }
            }
            Alu::Pack32 => self.map2(i, |c, d, x, y| {
                c.a.shift(op::SHIFT_D, Len::Z, 6, T1, y, 16);
                let low = c.a.word(0xffff);
                c.a.v3b(op::VPANDD, T2, x, low);
                c.a.v3(op::VPORD, d, T1, T2);
            }),
            Alu::ShlOr => {
                let s = i.x & 31;
                let m = (i.x >> 8).wrapping_shl(s);
                self.map2(i, |c, d, x, y| {
                    c.a.shift(op::SHIFT_D, Len::Z, 6, T1, x, s as u8);
                    let m = c.a.word(m);
                    c.a.evex(op::VPBROADCASTD, Len::Z, T2.0, 0, m, Dec::default(), None);
                    // T2 selects T1, otherwise y.
                    c.a.v3i(op::VPTERNLOGD, T2, T1, y, 0xca);
                    c.a.v2(op::VMOVDQA32, d, T2);
                });
            }
            Alu::Sel32 | Alu::Sel64 => {
                for h in 0..lines {
                    self.regs.step();
                    let (x, y) = (self.line(i.s[0], h, true), self.line(i.s[1], h, true));
                    let d = self.dest(i, wide, h, false);
                    if wide {
                        self.a.kmovb_load(K(5), frame(i.s[2] + h));
                    } else {
                        self.a.kmovw_load(K(5), frame(i.s[2] + 2 * h));
                    }
                    let blend = if wide { op::VPBLENDMQ } else { op::VPBLENDMD };
                    let dec = Dec {
                        k: 5,
                        ..Dec::default()
                    };
                    self.a.evex(blend, Len::Z, d.to.0, y.0, x, dec, None);
                    self.commit(&d);
                }
            }
            Alu::Not32 | Alu::Not64 => self.map1(i, wide, |c, d, x| {
                c.a.v3i(op::VPTERNLOGD, T1, x, x, 0x55);
                c.a.v2(op::VMOVDQA32, d, T1);
            }),
            Alu::NegI32 | Alu::NegI64 => self.map1(i, wide, |c, d, x| {
                c.a.v3(op::VPXORD, T1, T1, T1);
                c.a.v3(if wide { op::VPSUBQ } else { op::VPSUBD }, d, T1, x);
            }),
            Alu::AbsS32 => self.map1(i, false, |c, d, x| c.a.v2(op::VPABSD, d, x)),
            Alu::AbsF32 => self.map1(i, false, |c, d, x| {
                let m = c.a.word(0x7fff_ffff);
                c.a.v3b(op::VPANDD, d, x, m);
            }),
            Alu::NegF32 => self.map1(i, false, |c, d, x| {
                let m = c.a.word(0x8000_0000);
                c.a.v3b(op::VPXORD, d, x, m);
            }),
            Alu::FtzF32 => {
                for h in 0..2 {
                    self.regs.step();
                    // A NaN stays as it is.
                    let lazy = self.regs.lazy(i.s[0] + 64 * h);
                    self.regs.observe(i.s[0] + 64 * h);
                    let x = self.line(i.s[0], h, false);
                    let d = self.dest(i, false, h, lazy);
                    let from = self.flushed(T1, x, i.s[0]);
                    self.a.v2(op::VMOVDQA32, d.to, from);
                    self.commit(&d);
                }
            }
            Alu::Zext8 | Alu::Zext16 => self.map1(i, false, |c, d, x| {
                let m = c.a.word(if alu == Alu::Zext8 { 0xff } else { 0xffff });
                c.a.v3b(op::VPANDD, d, x, m);
            }),
            Alu::Sext8 | Alu::Sext16 => self.map1(i, false, |c, d, x| {
                let n = if alu == Alu::Sext8 { 24 } else { 16 };
                c.a.shift(op::SHIFT_D, Len::Z, 6, T1, x, n);
                c.a.shift(op::SHIFT_D, Len::Z, 4, d, T1, n);
            }),
            Alu::SqrtF32 | Alu::RcpF32 => {
                for h in 0..2 {
                    self.regs.step();
                    let x = self.line(i.s[0], h, false);
                    let d = self.dest(i, false, h, true);
                    if alu == Alu::SqrtF32 {
                        self.a.v2(op::VSQRTPS, d.to, x);
                    } else {
                        let one = self.a.word(1f32.to_bits());
                        self.a
                            .evex(op::VPBROADCASTD, Len::Z, T1.0, 0, one, Dec::default(), None);
                        self.a.v3(op::VDIVPS, d.to, T1, x);
                    }
                    self.commit(&d);
                }
            }
            Alu::MinF32 | Alu::MaxF32 => {
                self.map2(i, |c, d, x, y| c.min_max(d, x, y, alu == Alu::MinF32))
            }
            Alu::F32FromS32 => self.map1(i, false, |c, d, x| c.a.v2(op::VCVTDQ2PS, d, x)),
            Alu::F32FromU32 => self.map1(i, false, |c, d, x| c.a.v2(op::VCVTUDQ2PS, d, x)),
            Alu::S32FromF32 => self.map1(i, false, |c, d, x| c.whole_number(d, x)),
            Alu::Lop3 => {
                let table = i.x as u8;
                for h in 0..2 {
                    self.regs.step();
                    let [x, y, z] = [0, 1, 2].map(|k| self.line(i.s[k], h, true));
                    let d = self.dest(i, false, h, false);
                    self.a.v2(op::VMOVDQA32, T1, x);
                    self.a.v3i(op::VPTERNLOGD, T1, y, z, table);
                    self.a.v2(op::VMOVDQA32, d.to, T1);
                    self.commit(&d);
                }
            }
            Alu::Dp4a if self.vnni => self.dp4a(i),
            Alu::Cvt32To32 => return self.convert(i),
            Alu::Arith32 => return self.rounded(i),
            Alu::Ex2F32 => self.ex2(i),
            Alu::F32FromF16 => self.half_to_float(i),
            Alu::F16FromF32 => self.float_to_half(i),
            Alu::AddF16 | Alu::SubF16 | Alu::MulF16 => self.half_pairs(alu, i),
            Alu::MulHiU32 | Alu::MulHiS32 => {
                let mul = if alu == Alu::MulHiU32 {
                    op::VPMULUDQ
                } else {
                    op::VPMULDQ
                };
                self.map2(i, |c, d, x, y| {
                    c.a.v3(mul, T1, x, y);
                    c.a.shift(op::SHIFT_Q, Len::Z, 2, T1, T1, 32);
                    c.a.shift(op::SHIFT_Q, Len::Z, 2, T2, x, 32);
                    c.a.shift(op::SHIFT_Q, Len::Z, 2, T3, y, 32);
                    c.a.v3(mul, T2, T2, T3);
                    let odd = c.a.quad(0xffff_ffff_0000_0000);
                    c.a.v3b(op::VPANDQ, T2, T2, odd);
                    c.a.v3(op::VPORD, d, T1, T2);
                });
            }
            Alu::PackF16 => {
                for h in 0..2 {
                    self.regs.step();
                    let (x, y) = (self.line(i.s[0], h, false), self.line(i.s[1], h, false));
                    let d = self.dest(i, false, h, false);
                    self.half_words(T1, x);
                    self.half_words(T2, y);
                    self.a.shift(op::SHIFT_D, Len::Z, 6, T1, T1, 16);
                    self.a.v3(op::VPORD, d.to, T1, T2);
                    self.commit(&d);
                }
            }
            Alu::MovP | Alu::NotP | Alu::AndP | Alu::OrP | Alu::XorP | Alu::SelP => {
                self.predicate(alu, i)
            }
            _ => return false,
        }
        true
    }

    /// The product with a constant.
    fn scale(&mut self, i: &Insn, by: u32) {
        for h in 0..2 {
            self.regs.step();
            let x = self.line(i.s[0], h, false);
            let d = self.dest(i, false, h, true);
            let by = self.a.word(by);
            self.a.v3b(op::VMULPS, d.to, x, by);
            self.commit(&d);
        }
    }

    fn map1(&mut self, i: &Insn, wide: bool, mut f: impl FnMut(&mut Self, Z, Z)) {
        for h in 0..if wide { 4 } else { 2 } {
            self.regs.step();
            let x = self.line(i.s[0], h, true);
            let d = self.dest(i, wide, h, false);
            f(self, d.to, x);
            self.commit(&d);
        }
    }

    fn map2(&mut self, i: &Insn, mut f: impl FnMut(&mut Self, Z, Z, Z)) {
        for h in 0..2 {
            self.regs.step();
            let (x, y) = (self.line(i.s[0], h, true), self.line(i.s[1], h, true));
            let d = self.dest(i, false, h, false);
            f(self, d.to, x, y);
            self.commit(&d);
        }
    }

    /// Quarter `line` of a 64-bit vector from the 32-bit half `x` that holds it.
    fn widen(&mut self, to: Z, x: Z, line: u32, op: Op) {
        let mut from = x;
        if line % 2 == 1 {
            self.a.evex(
                op::VEXTRACTI64X4,
                Len::Z,
                x.0,
                0,
                to,
                Dec::default(),
                Some(1),
            );
            from = to;
        }
        self.a.v2(op, to, from);
    }

    /// A comparison: the masks of all parts together are the result.
    fn compare(&mut self, c: Compare, i: &Insn) {
        self.regs.step();
        for h in 0..if c.wide { 4 } else { 2 } {
            self.regs.step();
            let (x, y) = (
                self.line(i.s[0], h, !c.float),
                self.line(i.s[1], h, !c.float),
            );
            // Wide parts are put together in pairs.
            let k = if c.wide && h % 2 == 1 {
                K(7)
            } else {
                K(5 + (h / if c.wide { 2 } else { 1 }) as u8)
            };
            self.a.cmp(c.op, Len::Z, k, x, y, c.imm);
            if c.wide && h % 2 == 1 {
                let low = K(5 + (h / 2) as u8);
                self.a.kunpckbw(low, K(7), low);
            }
        }
        self.a.kunpckwd(K(5), K(6), K(5));
        self.a.kmovd_to(RAX, K(5));
        self.put_mask(i.d[0], i.masked);
    }

    /// Stores the mask in eax as the result, blended if need be.
    pub(super) fn put_mask(&mut self, slot: u32, masked: bool) {
        if masked {
            self.a.load32(RCX, frame(slot));
            self.a.xor32(RAX, RCX);
            self.a.and32(RAX, R15);
            self.a.xor32(RAX, RCX);
        }
        self.a.store32(frame(slot), RAX);
    }

    pub(super) fn predicate(&mut self, alu: Alu, i: &Insn) {
        self.a.load32(RAX, frame(i.s[0]));
        match alu {
            Alu::NotP => self.a.not32(RAX),
            Alu::AndP => self.a.and32(RAX, frame(i.s[1])),
            Alu::OrP => self.a.or32(RAX, frame(i.s[1])),
            Alu::XorP => self.a.xor32(RAX, frame(i.s[1])),
            Alu::SelP => {
                // (a ^ b) & c ^ b.
                self.a.load32(RCX, frame(i.s[1]));
                self.a.xor32(RAX, RCX);
                self.a.and32(RAX, frame(i.s[2]));
                self.a.xor32(RAX, RCX);
            }
            _ => {}
        }
        self.put_mask(i.d[0], i.masked);
    }
}
