//! Moves, conversions and addresses.

use super::builder::{Lower, Res};
use crate::exec::float::cvt;
use crate::exec::soft::Round;
use crate::ir::windows::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::ir::{Alu, Class, V};
use crate::memory::DEVICE_BASE;
use crate::ptx::ast::Operand;
use crate::ptx::types::{Space, Ty};

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
    pub(super) fn convert(&mut self, name: &str) -> Res<()> {
        match name {
            "mov" => self.mov(),
            "cvt" => self.cvt(),
            "cvta" => self.cvta(),
            _ => self.is_space(),
        }
    }

    fn mov(&mut self) -> Res<()> {
        let ty = self.ty()?;
        let (d, s) = (self.operand(0)?, self.operand(1)?);
        match (d, s) {
            (Operand::Vector(parts), _) => {
                let v = self.src(s, ty)?;
                self.unpack(ty, v, parts)
            }
            (_, Operand::Vector(parts)) => {
                let v = self.pack(ty, parts)?;
                self.out_value(v, false)
            }
            _ => {
                let v = self.src(s, ty)?;
                self.out_value(v, false)
            }
        }
    }

    fn unpack(&mut self, ty: Ty, v: V, parts: &[Operand]) -> Res<()> {
        self.copy_guard();
        let n = parts.len() as u32;
        let total = ty.bytes() * 8;
        if !matches!(n, 2 | 4) || (total == 16 && n != 2) || !(16..=64).contains(&total) {
            return self.unsupported();
        }
        let bits = total / n;
        // Read every part first: a destination may be the source.
        let mut values = Vec::new();
        for k in 0..n {
            let at = k * bits;
            let mut w = v;
            let mut shift = at;
            if total == 64 {
                w = if at >= 32 {
                    self.alu(Alu::High32, &[v], 0)
                } else {
                    self.alu(Alu::Trunc32, &[v], 0)
                };
                shift = at % 32;
            }
            if shift > 0 {
                let c = self.imm(Class::W, shift.into());
                w = self.alu(Alu::ShrU32, &[w, c], 0);
            }
            w = match bits {
                16 => self.alu(Alu::Zext16, &[w], 0),
                8 => self.alu(Alu::Zext8, &[w], 0),
                _ => self.alu(Alu::Mov32, &[w], 0),
            };
            values.push(w);
        }
        for (o, w) in parts.iter().zip(values) {
            if matches!(o, Operand::Reg(_) | Operand::Sink) {
                self.settle(o, w, false)?;
            } else {
                return self.bad_operands();
            }
        }
        Ok(())
    }

    fn pack(&mut self, ty: Ty, parts: &[Operand]) -> Res<V> {
        let total = ty.bytes() * 8;
        let n = parts.len() as u32;
        if !matches!(n, 2 | 4) || !(16..=64).contains(&total) {
            return self.unsupported();
        }
        let bits = total / n;
        let part = match bits {
            32 => Ty::B32,
            16 => Ty::B16,
            8 => Ty::B8,
            _ => return self.unsupported(),
        };
        let mut v = Vec::new();
        for p in parts {
            v.push(self.src(p, part)?);
        }
        Ok(match (bits, n) {
            (32, _) => self.alu(Alu::Pack64, &[v[0], v[1]], 0),
            (16, 2) => self.alu(Alu::Pack32, &[v[0], v[1]], 0),
            (16, _) => {
                let (lo, hi) = (
                    self.alu(Alu::Pack32, &[v[0], v[1]], 0),
                    self.alu(Alu::Pack32, &[v[2], v[3]], 0),
                );
                self.alu(Alu::Pack64, &[lo, hi], 0)
            }
            _ => {
                let mut w = self.alu(Alu::Zext8, &[v[0]], 0);
                for (k, &b) in v.iter().enumerate().skip(1) {
                    w = self.alu(Alu::ShlOr, &[b, w], (8 * k as u32) | (0xff << 8));
                }
                w
            }
        })
    }

    fn cvt(&mut self) -> Res<()> {
        let types: Vec<Ty> = self.mods.iter().filter_map(|m| Ty::parse(m)).collect();
        let [dty, sty] = types[..] else {
            return self.bad_operands();
        };
        let mut x = 0;
        let mut integral = false;
        for m in &self.mods {
            match *m {
                "rni" | "rzi" | "rmi" | "rpi" => integral = true,
                "ftz" => x |= cvt::FTZ,
                "sat" | "satfinite" => x |= cvt::SAT,
                "relu" => x |= cvt::RELU,
                _ => {}
            }
        }
        if self.has("satfinite") {
            return self.unsupported();
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
            return self.out(Alu::CvtPack, &s, x, false);
        }
        let (Some(s), Some(d)) = (number(sty), number(dty)) else {
            return self.unsupported();
        };
        let o = self.operand(1)?;
        let a = self.src(o, sty)?;
        let plain = x == 0;
        let rn = mode.is_none_or(|m| m == Round::Rn);
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

    fn int_to_int(&mut self, sty: Ty, dty: Ty, a: V) -> Res<()> {
        // Cut to the narrower of the two, then extend as that one's signedness
        // (the source's if it is narrower) says.
        let narrow = if dty.bytes() < sty.bytes() { dty } else { sty };
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

    fn window(space: Space) -> u64 {
        match space {
            Space::Shared => SHARED_WINDOW,
            Space::Local => LOCAL_WINDOW,
            // Addresses of kernel parameters are generic from the start.
            _ => 0,
        }
    }

    fn space_suffix(&self) -> Res<Space> {
        match self.mods.iter().find_map(|m| Space::parse(m)) {
            Some(s) => Ok(s),
            None => self.bad_operands(),
        }
    }

    fn cvta(&mut self) -> Res<()> {
        let space = self.space_suffix()?;
        let to = self.has("to");
        let a = self.source(1, Ty::U64)?;
        let base = Self::window(space);
        if base == 0 {
            return self.out_value(a, false);
        }
        let delta = if to { base.wrapping_neg() } else { base };
        let c = self.imm(Class::D, delta);
        self.out(Alu::AddI64, &[a, c], 0, false)
    }

    fn is_space(&mut self) -> Res<()> {
        let space = self.space_suffix()?;
        let a = self.source(1, Ty::U64)?;
        if space == Space::Global {
            let base = self.imm(Class::D, DEVICE_BASE);
            return self.out(Alu::LeU64, &[base, a], 0, false);
        }
        if space == Space::Const {
            let no = self.imm(Class::P, 0);
            return self.out_value(no, false);
        }
        let base = if space == Space::Param {
            PARAM_WINDOW
        } else {
            Self::window(space)
        };
        let c = self.imm(Class::D, base.wrapping_neg());
        let off = self.alu(Alu::AddI64, &[a, c], 0);
        let high = self.alu(Alu::High32, &[off], 0);
        let zero = self.imm(Class::W, 0);
        self.out(Alu::EqI32, &[high, zero], 0, false)
    }
}
