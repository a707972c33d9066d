//! `cvt`.

use super::builder::{Lower, Res};
use crate::exec::float::cvt;
use crate::exec::fp8;
use crate::exec::soft::Round;
use crate::ir::{Alu, Class, V};
use crate::ptx::types::Ty;

/// Number of a type in the auxiliary word of a conversion.
fn number(ty: Ty) -> Option<u32> {
    Some(match ty {
        Ty::U8 | Ty::B8 => 0,
        Ty::U16 | Ty::B16 => 1,
        Ty::U32 | Ty::B32 => 2,
        Ty::U64 | Ty::B64 => 3,
        Ty::S8 => 4,
        Ty::S16 => 5,
        Ty::S32 => 6,
        Ty::S64 => 7,
        Ty::F16 => cvt::F16,
        Ty::Bf16 => cvt::BF16,
        Ty::Tf32 => cvt::TF32,
        Ty::F32 => cvt::F32,
        Ty::F64 => cvt::F64,
        _ => return None,
    })
}

impl Lower<'_> {
    pub(super) fn cvt(&mut self) -> Res<()> {
        if self.has("pack") {
            return self.pack_saturated();
        }
        let types: Vec<Ty> = self.mods.iter().filter_map(|m| Ty::parse(m)).collect();
        let [dty, sty] = types[..] else {
            return self.unsupported();
        };
        if [dty, sty]
            .iter()
            .any(|t| matches!(t, Ty::E4m3x2 | Ty::E5m2x2))
        {
            return self.fp8(dty, sty);
        }
        let mut x = 0;
        let mut integral = false;
        for m in &self.mods {
            match *m {
                "rni" | "rzi" | "rmi" | "rpi" => integral = true,
                "ftz" => x |= cvt::FTZ,
                "sat" => x |= cvt::SAT,
                "satfinite" => x |= cvt::FINITE,
                "relu" => x |= cvt::RELU,
                _ => {}
            }
        }
        let mode = self.mods.iter().find_map(|m| match *m {
            "rn" | "rni" => Some(Round::Rn),
            "rz" | "rzi" => Some(Round::Rz),
            "rm" | "rmi" => Some(Round::Rm),
            "rp" | "rpi" => Some(Round::Rp),
            "rna" => Some(Round::Rna),
            _ => None,
        });
        if matches!(dty, Ty::F16x2 | Ty::Bf16x2) && sty == Ty::F32 {
            let half = if dty == Ty::F16x2 {
                cvt::F16
            } else {
                cvt::BF16
            };
            let x = x
                | cvt::F32
                | (half << cvt::DST)
                | ((mode.unwrap_or(Round::Rn) as u32) << cvt::ROUND);
            let s = [self.source(1, Ty::F32)?, self.source(2, Ty::F32)?];
            let nearest = x & !(15 << cvt::DST) == cvt::F32;
            return match dty {
                Ty::F16x2 if nearest => self.out(Alu::PackF16, &s, 0, false),
                _ if nearest => self.out(Alu::PackBf16, &s, 0, false),
                _ => self.out(Alu::CvtPack, &s, x, false),
            };
        }
        let (Some(s), Some(d)) = (number(sty), number(dty)) else {
            return self.unsupported();
        };
        let o = self.operand(1)?;
        let a = self.src(o, sty)?;
        let rn = mode.is_none_or(|m| m == Round::Rn);
        // Small integers are exact in f32, and what f32 rounds of larger ones is infinite in f16.
        if x & !cvt::FTZ == 0 && s < 8 && matches!(dty, Ty::F32 | Ty::F16) && sty.bytes() < 8 {
            let whole = match sty {
                Ty::S8 => Some(Alu::Sext8),
                Ty::S16 => Some(Alu::Sext16),
                Ty::U8 | Ty::B8 => Some(Alu::Zext8),
                Ty::U16 | Ty::B16 => Some(Alu::Zext16),
                _ => None,
            };
            let exact = dty == Ty::F32 && whole.is_some();
            if exact || rn {
                let v = whole.map_or(a, |alu| self.alu(alu, &[a], 0));
                let alu = if sty.signed() {
                    Alu::F32FromS32
                } else {
                    Alu::F32FromU32
                };
                if dty == Ty::F32 {
                    return self.out(alu, &[v], 0, false);
                }
                let v = self.alu(alu, &[v], 0);
                return self.out(Alu::F16FromF32, &[v], 0, false);
            }
        }
        // Denormals are zero after these anyway, or do not occur.
        let flush_is_moot = matches!(
            (sty, dty, mode),
            (Ty::F32, Ty::S32 | Ty::U32, Some(Round::Rz))
                | (Ty::F32, Ty::F16, Some(Round::Rn))
                | (Ty::F16, Ty::F32, _)
        );
        let plain = x == 0 || (x == cvt::FTZ && flush_is_moot);
        let alu = match (sty, dty) {
            _ if !plain => None,
            (Ty::F32, Ty::F32) | (Ty::F64, Ty::F64) if mode.is_none() => {
                return self.out_value(a, false);
            }
            (Ty::S32, Ty::F32) if rn => Some(Alu::F32FromS32),
            (Ty::U32, Ty::F32) if rn => Some(Alu::F32FromU32),
            (Ty::S32, Ty::F64) => Some(Alu::F64FromS32),
            (Ty::U32, Ty::F64) => Some(Alu::F64FromU32),
            (Ty::F32, Ty::S32) if mode == Some(Round::Rz) => Some(Alu::S32FromF32),
            (Ty::F32, Ty::U32) if mode == Some(Round::Rz) => Some(Alu::U32FromF32),
            (Ty::F32, Ty::F64) => Some(Alu::F64FromF32),
            (Ty::F64, Ty::F32) if rn => Some(Alu::F32FromF64),
            (Ty::F16, Ty::F32) => Some(Alu::F32FromF16),
            (Ty::Bf16, Ty::F32) => Some(Alu::F32FromBf16),
            (Ty::F32, Ty::F16) if rn => Some(Alu::F16FromF32),
            (Ty::F32, Ty::Bf16) if rn => Some(Alu::Bf16FromF32),
            _ => None,
        };
        if let Some(alu) = alu {
            return self.out(alu, &[a], 0, dty.signed());
        }
        if s < 8 && d < 8 && plain {
            return self.int_to_int(sty, dty, a);
        }
        let x = x
            | s
            | (d << cvt::DST)
            | ((mode.unwrap_or(Round::Rn) as u32) << cvt::ROUND)
            | if integral { cvt::INTEGRAL } else { 0 };
        let alu = match (sty.bytes() == 8, dty.bytes() == 8) {
            (false, false) => Alu::Cvt32To32,
            (false, true) => Alu::Cvt32To64,
            (true, false) => Alu::Cvt64To32,
            (true, true) => Alu::Cvt64To64,
        };
        self.out(alu, &[a], x, dty.signed())
    }

    /// Conversions to and from pairs of 8-bit floats.
    fn fp8(&mut self, dty: Ty, sty: Ty) -> Res<()> {
        let small = if dty == Ty::F16x2 { sty } else { dty };
        let mut x = if small == Ty::E5m2x2 { fp8::E5M2 } else { 0 };
        if self.has("relu") {
            x |= fp8::RELU;
        }
        if !self.has("rn") || self.has("satfinite") != (dty == small) {
            return self.unsupported();
        }
        match (dty, sty) {
            (Ty::F16x2, Ty::E4m3x2 | Ty::E5m2x2) => {
                let a = self.source(1, Ty::B16)?;
                self.out(Alu::F16FromFp8, &[a], x, false)
            }
            (_, Ty::F32) => {
                let s = [self.source(1, Ty::F32)?, self.source(2, Ty::F32)?];
                self.out(Alu::Fp8FromF32, &s, x, false)
            }
            (_, Ty::F16x2) => {
                let a = self.source(1, Ty::B32)?;
                self.out(Alu::Fp8FromF16, &[a], x, false)
            }
            _ => self.unsupported(),
        }
    }

    /// `cvt.pack.sat.convertType.s32{.b32}`.
    fn pack_saturated(&mut self) -> Res<()> {
        let Some((signed, bits)) = self.mods.get(2).and_then(|m| {
            let bits = m.get(1..)?.parse::<u32>().ok()?;
            Some((m.starts_with('s'), bits))
        }) else {
            return self.unsupported();
        };
        let third = bits < 16;
        if !self.has("sat")
            || !matches!(bits, 2 | 4 | 8 | 16)
            || self.mods.get(3) != Some(&"s32")
            || self.has("b32") != third
            || self.count() != if third { 4 } else { 3 }
        {
            return self.unsupported();
        }
        let (a, b) = (self.source(1, Ty::S32)?, self.source(2, Ty::S32)?);
        let c = if third {
            self.source(3, Ty::B32)?
        } else {
            self.imm(Class::W, 0)
        };
        let x = bits | if signed { 0x100 } else { 0 };
        self.out(Alu::PackSat, &[a, b, c], x, false)
    }

    fn int_to_int(&mut self, sty: Ty, dty: Ty, a: V) -> Res<()> {
        // Cut to the narrower of the two, then extend as that one's signedness
        // (the source's only if it is narrower) says.
        let narrow = if dty.bytes() <= sty.bytes() { dty } else { sty };
        let w = if self.class(a) == Class::D && narrow.bytes() < 8 {
            self.alu(Alu::Trunc32, &[a], 0)
        } else {
            a
        };
        let e = match (narrow.bytes(), narrow.signed()) {
            (1, true) => self.alu(Alu::Sext8, &[w], 0),
            (1, false) => self.alu(Alu::Zext8, &[w], 0),
            (2, true) => self.alu(Alu::Sext16, &[w], 0),
            (2, false) => self.alu(Alu::Zext16, &[w], 0),
            _ => w,
        };
        if dty.bytes() == 8 && self.class(e) == Class::W {
            return self.out(
                if narrow.signed() {
                    Alu::Sext64
                } else {
                    Alu::Zext64
                },
                &[e],
                0,
                narrow.signed(),
            );
        }
        self.out_value(e, narrow.signed() && dty.signed())
    }
}
