//! Floating point and conversions on vectors, with the results that the handlers give.

use super::asm::{Dec, K, Len, Z, op};
use super::compile::Compiler;
use super::regs::{T0, T1, T2, T3};
use super::vector::{EQ, UNORD};
use crate::exec::float::{cvt, op as arith};
use crate::exec::insn::Insn;
use crate::exec::soft::Round;
use crate::ir::Alu;

/// Number of `s32` among the types of a conversion.
const S32: u32 = 6;

/// A rounding mode as instructions have it.
fn mode(bits: u32) -> Option<u8> {
    Some(match Round::from_bits(bits) {
        Round::Rn => 0,
        Round::Rm => 1,
        Round::Rp => 2,
        Round::Rz => 3,
        _ => return None,
    })
}

impl Compiler<'_> {
    /// The register `x` of a slot's line with denormals flushed: itself if it holds none, otherwise `t`.
    pub(super) fn flushed(&mut self, t: Z, x: Z, slot: u32) -> Z {
        if self.operand(slot).is_some_and(|v| self.normal.has(v)) {
            return x;
        }
        self.flush_denormals(t, x);
        t
    }

    /// Denormals become zeros of their sign.
    pub(super) fn flush_denormals(&mut self, to: Z, x: Z) {
        let exponent = self.a.word(0x7f80_0000);
        let dec = Dec {
            bcast: true,
            ..Dec::default()
        };
        self.a
            .evex(op::VPTESTNMD, Len::Z, 7, x.0, exponent, dec, None);
        if to != x {
            self.a.v2(op::VMOVDQA32, to, x);
        }
        let sign = self.a.word(0x8000_0000);
        let dec = Dec {
            k: 7,
            bcast: true,
            zero: false,
        };
        self.a.evex(op::VPANDD, Len::Z, to.0, x.0, sign, dec, None);
    }

    pub(super) fn fma(&mut self, i: &Insn, ftz: bool) {
        for h in 0..2 {
            self.regs.step();
            let [x, y, z] = [0, 1, 2].map(|k| self.line(i.s[k], h, false));
            let sum = i.s[2] + 64 * h;
            if !i.masked && z != x && z != y && self.dies(i.s[2]) {
                // The sum's register becomes the result's.
                let to = self.regs.turn_into(sum, i.d[0] + 64 * h, true);
                if let Some(z) = to {
                    if ftz {
                        let (fx, fy) = (self.flushed(T1, x, i.s[0]), self.flushed(T2, y, i.s[1]));
                        if self.flushed(T3, z, i.s[2]) != z {
                            self.a.v2(op::VMOVDQA32, z, T3);
                        }
                        self.a.v3(op::VFMADD231PS, z, fx, fy);
                        self.flush_denormals(z, z);
                    } else {
                        self.a.v3(op::VFMADD231PS, z, x, y);
                    }
                    continue;
                }
            }
            let d = self.dest(i, false, h, true);
            if ftz {
                let (fx, fy) = (self.flushed(T1, x, i.s[0]), self.flushed(T2, y, i.s[1]));
                let fz = self.flushed(T3, z, i.s[2]);
                if fz != T3 {
                    self.a.v2(op::VMOVDQA32, T3, fz);
                }
                self.a.v3(op::VFMADD231PS, T3, fx, fy);
                self.flush_denormals(d.to, T3);
            } else if d.to == z {
                self.a.v3(op::VFMADD231PS, z, x, y);
            } else if d.to == x || d.to == y {
                self.a.v2(op::VMOVDQA32, T1, z);
                self.a.v3(op::VFMADD231PS, T1, x, y);
                self.a.v2(op::VMOVDQA32, d.to, T1);
            } else {
                self.a.v2(op::VMOVDQA32, d.to, z);
                self.a.v3(op::VFMADD231PS, d.to, x, y);
            }
            self.commit(&d);
        }
    }

    /// `ex2.approx`, step by step as `exec::float::ex2`: the same polynomial in f64.
    pub(super) fn ex2(&mut self, i: &Insn) {
        const MAGIC: f64 = 6_755_399_441_055_744.0;
        const TERMS: [f64; 8] = [
            1.525_273_380_405_984e-5,
            1.540_353_039_338_161e-4,
            1.333_355_814_642_844_2e-3,
            9.618_129_107_628_477e-3,
            5.550_410_866_482_158e-2,
            2.402_265_069_591_007e-1,
            std::f64::consts::LN_2,
            1.0,
        ];
        for h in 0..2 {
            self.regs.step();
            let x = self.line(i.s[0], h, false);
            let d = self.dest(i, false, h, false);
            let a = &mut self.a;
            // Of NaNs nothing but that they are some matters.
            a.cmp(op::VCMPPS, Len::Z, K(6), x, x, UNORD);
            // The upper eight lanes first: T3 keeps their result.
            for part in [1, 0] {
                let mut from = x;
                if part == 1 {
                    a.evex(
                        op::VEXTRACTI64X4,
                        Len::Z,
                        x.0,
                        0,
                        T0,
                        Dec::default(),
                        Some(1),
                    );
                    from = T0;
                }
                a.v2(op::VCVTPS2PD, T0, from);
                // A NaN takes the bound, as with comparisons.
                let most = a.quad(200f64.to_bits());
                a.v3b(op::VMINPD, T0, T0, most);
                let least = a.quad((-200f64).to_bits());
                a.v3b(op::VMAXPD, T0, T0, least);
                let magic = a.quad(MAGIC.to_bits());
                a.v3b(op::VADDPD, T1, T0, magic);
                a.v3b(op::VSUBPD, T2, T1, magic);
                a.v3(op::VSUBPD, T0, T0, T2);
                let first = a.quad(TERMS[0].to_bits());
                a.evex(
                    op::VPBROADCASTQ,
                    Len::Z,
                    T2.0,
                    0,
                    first,
                    Dec::default(),
                    None,
                );
                for t in &TERMS[1..] {
                    let t = a.quad(t.to_bits());
                    a.v3(op::VMULPD, T2, T2, T0);
                    a.v3b(op::VADDPD, T2, T2, t);
                }
                // The exponent: the low word of the shifted sum, extended.
                a.shift(op::SHIFT_Q, Len::Z, 6, T1, T1, 32);
                a.shift(op::SHIFT72_Q, Len::Z, 4, T1, T1, 32);
                let bias = a.quad(1023);
                a.v3b(op::VPADDQ, T1, T1, bias);
                a.shift(op::SHIFT_Q, Len::Z, 6, T1, T1, 52);
                a.v3(op::VMULPD, T2, T2, T1);
                a.v2(op::VCVTPD2PS, if part == 1 { T3 } else { T2 }, T2);
            }
            a.v3i(op::VINSERTI64X4, T2, T2, T3, 1);
            let canon = a.word(super::regs::CANON);
            let dec = Dec {
                k: 6,
                bcast: true,
                zero: false,
            };
            a.evex(op::VPBLENDMD, Len::Z, d.to.0, T2.0, canon, dec, None);
            self.commit(&d);
        }
    }

    /// `min` and `max` as PTX has them: a NaN loses, -0 is below +0.
    pub(super) fn min_max(&mut self, d: Z, x: Z, y: Z, min: bool) {
        // Equal values: the signs decide.
        self.a.cmp(op::VCMPPS, Len::Z, K(6), x, y, EQ);
        self.a.cmp(op::VCMPPS, Len::Z, K(5), x, x, UNORD);
        self.a
            .v3(if min { op::VMINPS } else { op::VMAXPS }, T1, x, y);
        let tie = if min { op::VPORD } else { op::VPANDD };
        let dec = Dec {
            k: 6,
            ..Dec::default()
        };
        self.a.evex(tie, Len::Z, T1.0, x.0, y, dec, None);
        // With a NaN the instruction gives the second operand: right if it is the first.
        self.a.cmp(op::VCMPPS, Len::Z, K(7), y, y, UNORD);
        let dec = Dec {
            k: 7,
            ..Dec::default()
        };
        self.a.evex(op::VMOVDQA32, Len::Z, T1.0, 0, x, dec, None);
        self.a.kandw(K(7), K(5), K(7));
        let canon = self.a.word(super::regs::CANON);
        let dec = Dec {
            k: 7,
            bcast: true,
            zero: false,
        };
        self.a
            .evex(op::VPBLENDMD, Len::Z, T1.0, T1.0, canon, dec, None);
        self.a.v2(op::VMOVDQA32, d, T1);
    }

    /// The products of unsigned by signed bytes that the instruction has, made to fit.
    pub(super) fn dp4a(&mut self, i: &Insn) {
        let (sa, sb) = (i.x & 1 != 0, i.x & 2 != 0);
        for h in 0..2 {
            self.regs.step();
            let [x, y, z] = [0, 1, 2].map(|k| self.line(i.s[k], h, true));
            let d = self.dest(i, false, h, false);
            self.a.v2(op::VMOVDQA32, T1, z);
            let bias = self.a.word(0x8080_8080);
            let small = |slot| {
                let operand = self.operand(slot);
                operand.is_some_and(|v| self.small_bytes.has(v))
            };
            // Bytes below 128 may count as of either kind.
            let (sa, sb) = match (small(i.s[0]), small(i.s[1])) {
                (true, _) => (!sb, sb),
                (_, true) => (sa, !sa),
                _ => (sa, sb),
            };
            match (sa, sb) {
                (false, true) => self.a.v3(op::VPDPBUSD, T1, x, y),
                (true, false) => self.a.v3(op::VPDPBUSD, T1, y, x),
                (true, true) => {
                    // (a + 128) * b - 128 * b.
                    self.a.evex(
                        op::VPBROADCASTD,
                        Len::Z,
                        T3.0,
                        0,
                        bias,
                        Dec::default(),
                        None,
                    );
                    self.a.v3(op::VPXORD, T2, x, T3);
                    self.a.v3(op::VPDPBUSD, T1, T2, y);
                    self.a.v3(op::VPXORD, T2, T2, T2);
                    self.a.v3(op::VPDPBUSD, T2, T3, y);
                    self.a.v3(op::VPSUBD, T1, T1, T2);
                }
                (false, false) => {
                    // a * (b - 128) + 128 * a, the latter by 127 and 1.
                    self.a.evex(
                        op::VPBROADCASTD,
                        Len::Z,
                        T3.0,
                        0,
                        bias,
                        Dec::default(),
                        None,
                    );
                    self.a.v3(op::VPXORD, T2, y, T3);
                    self.a.v3(op::VPDPBUSD, T1, x, T2);
                    for byte in [0x7f7f_7f7f, 0x0101_0101] {
                        let m = self.a.word(byte);
                        self.a.v3b(op::VPDPBUSD, T1, x, m);
                    }
                }
            }
            self.a.v2(op::VMOVDQA32, d.to, T1);
            self.commit(&d);
        }
    }

    /// Conversions that are one instruction.
    pub(super) fn convert(&mut self, i: &Insn) -> bool {
        let plain = |src: u32, dst: u32| src | (dst << cvt::DST);
        if i.x == plain(cvt::F16, cvt::F32) {
            self.half_to_float(i);
            return true;
        }
        if i.x == plain(cvt::F32, cvt::F16) {
            self.float_to_half(i);
            return true;
        }
        // To a whole number, kept as a float or not.
        let others = !(cvt::FTZ | (7 << cvt::ROUND));
        let to_float = i.x & others == plain(cvt::F32, cvt::F32) | cvt::INTEGRAL;
        let to_s32 = i.x & others == plain(cvt::F32, S32) | cvt::INTEGRAL;
        let Some(mode) = mode(i.x >> cvt::ROUND).filter(|_| to_float || to_s32) else {
            return false;
        };
        let ftz = i.x & cvt::FTZ != 0;
        for h in 0..2 {
            self.regs.step();
            let x = self.line(i.s[0], h, to_s32);
            let d = self.dest(i, false, h, to_float);
            let mut from = x;
            if ftz {
                from = self.flushed(T2, x, i.s[0]);
            }
            // Without the exception for an inexact result.
            let how = Some(8 | mode);
            let whole = if to_float { d.to } else { T2 };
            self.a.evex(
                op::VRNDSCALEPS,
                Len::Z,
                whole.0,
                0,
                from,
                Dec::default(),
                how,
            );
            if to_s32 {
                self.whole_number(d.to, T2);
            }
            self.commit(&d);
        }
        true
    }

    /// `cvt.rzi.s32.f32`: too large gives the largest, a NaN zero; the instruction gives the smallest.
    pub(super) fn whole_number(&mut self, d: Z, x: Z) {
        let a = &mut self.a;
        let big = a.word(2_147_483_648f32.to_bits());
        let dec = Dec {
            bcast: true,
            ..Dec::default()
        };
        a.evex(op::VCMPPS, Len::Z, 6, x.0, big, dec, Some(13));
        a.cmp(op::VCMPPS, Len::Z, K(7), x, x, UNORD);
        a.v2(op::VCVTTPS2DQ, T1, x);
        let most = a.word(i32::MAX as u32);
        let dec = Dec {
            k: 6,
            bcast: true,
            ..Dec::default()
        };
        a.evex(op::VPBLENDMD, Len::Z, T1.0, T1.0, most, dec, None);
        let dec = Dec {
            k: 7,
            ..Dec::default()
        };
        a.evex(op::VPXORD, Len::Z, T1.0, T1.0, T1, dec, None);
        a.v2(op::VMOVDQA32, d, T1);
    }

    /// Sums, differences and products that are rounded in another way than to nearest.
    pub(super) fn rounded(&mut self, i: &Insn) -> bool {
        let o = match i.x & 15 {
            arith::ADD => op::VADDPS,
            arith::SUB => op::VSUBPS,
            arith::MUL => op::VMULPS,
            _ => return false,
        };
        let others = i.x & !(15 | arith::FTZ | (7 << arith::ROUND));
        let Some(mode) = mode(i.x >> arith::ROUND).filter(|_| others == 0) else {
            return false;
        };
        let ftz = i.x & arith::FTZ != 0;
        for h in 0..2 {
            self.regs.step();
            let (mut x, mut y) = (self.line(i.s[0], h, false), self.line(i.s[1], h, false));
            let d = self.dest(i, false, h, true);
            if ftz {
                (x, y) = (self.flushed(T1, x, i.s[0]), self.flushed(T2, y, i.s[1]));
            }
            let len = Len::Rounded(mode);
            self.a.evex(o, len, d.to.0, x.0, y, Dec::default(), None);
            if ftz {
                self.flush_denormals(d.to, d.to);
            }
            self.commit(&d);
        }
        true
    }

    pub(super) fn half_to_float(&mut self, i: &Insn) {
        for h in 0..2 {
            self.regs.step();
            let x = self.line(i.s[0], h, true);
            let d = self.dest(i, false, h, true);
            self.a
                .evex(op::VPMOVDW, Len::Z, x.0, 0, T1, Dec::default(), None);
            self.a.v2(op::VCVTPH2PS, d.to, T1);
            self.commit(&d);
        }
    }

    pub(super) fn float_to_half(&mut self, i: &Insn) {
        for h in 0..2 {
            self.regs.step();
            let x = self.line(i.s[0], h, false);
            let d = self.dest(i, false, h, false);
            self.half_words(T1, x);
            self.a.v2(op::VMOVDQA32, d.to, T1);
            self.commit(&d);
        }
    }

    /// Arithmetic on both f16 of each word, as `exec::half::f16_pair`: in f32, rounded once.
    pub(super) fn half_pairs(&mut self, alu: Alu, i: &Insn) {
        if self.fp16 {
            return self.halves(alu, i);
        }
        let o = match alu {
            Alu::AddF16 => op::VADDPS,
            Alu::SubF16 => op::VSUBPS,
            _ => op::VMULPS,
        };
        for h in 0..2 {
            self.regs.step();
            let (x, y) = (self.line(i.s[0], h, true), self.line(i.s[1], h, true));
            let d = self.dest(i, false, h, false);
            for high in [true, false] {
                for (t, s) in [(T1, x), (T2, y)] {
                    let mut from = s;
                    if high {
                        self.a.shift(op::SHIFT_D, Len::Z, 2, t, s, 16);
                        from = t;
                    }
                    self.a
                        .evex(op::VPMOVDW, Len::Z, from.0, 0, t, Dec::default(), None);
                    self.a.v2(op::VCVTPH2PS, t, t);
                }
                self.a.v3(o, T1, T1, T2);
                self.half_words(if high { T3 } else { T2 }, T1);
            }
            self.a.shift(op::SHIFT_D, Len::Z, 6, T3, T3, 16);
            self.a.v3(op::VPORD, d.to, T2, T3);
            self.commit(&d);
        }
    }

    /// The same where the processor has arithmetic on f16: a sum or product rounded to f32 first is the same f16.
    fn halves(&mut self, alu: Alu, i: &Insn) {
        let o = match alu {
            Alu::AddF16 => op::VADDPH,
            Alu::SubF16 => op::VSUBPH,
            _ => op::VMULPH,
        };
        let nan = self.a.words([0x7fff_7fff; 16]);
        for h in 0..2 {
            self.regs.step();
            let (x, y) = (self.line(i.s[0], h, true), self.line(i.s[1], h, true));
            let d = self.dest(i, false, h, false);
            self.a.v3(o, T1, x, y);
            self.a.cmp(op::VCMPPH, Len::Z, K(7), T1, T1, UNORD);
            let dec = Dec {
                k: 7,
                ..Dec::default()
            };
            self.a
                .evex(op::VPBLENDMW, Len::Z, d.to.0, T1.0, nan, dec, None);
            self.commit(&d);
        }
    }

    /// f32 to f16 in the low half of each word. Changes k7.
    pub(super) fn half_words(&mut self, to: Z, x: Z) {
        self.a
            .evex(op::VCVTPS2PH, Len::Z, x.0, 0, to, Dec::default(), Some(0));
        self.a.v2(op::VPMOVZXWD, to, to);
        // The NaN of f16 is 0x7fff.
        self.a.cmp(op::VCMPPS, Len::Z, K(7), x, x, UNORD);
        let nan = self.a.word(0x7fff);
        let dec = Dec {
            k: 7,
            bcast: true,
            zero: false,
        };
        self.a
            .evex(op::VPBLENDMD, Len::Z, to.0, to.0, nan, dec, None);
    }
}
