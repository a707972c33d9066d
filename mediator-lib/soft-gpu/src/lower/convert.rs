//! Moves, conversions and addresses.

use super::builder::{Lower, Res};
use crate::addresses::FIRST_ADDRESS;
use crate::ir::windows::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::ir::{Alu, Class, V};
use crate::ptx::ast::Operand;
use crate::ptx::types::{Space, Ty};

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
        if ty == Ty::B128 {
            return self.mov128(d, s);
        }
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

    fn mov128(&mut self, d: &Operand, s: &Operand) -> Res<()> {
        self.copy_guard();
        let [lo, hi] = match s {
            Operand::Vector(parts) if parts.len() == 2 => {
                [self.src(&parts[0], Ty::B64)?, self.src(&parts[1], Ty::B64)?]
            }
            s => match (s, self.high(s)) {
                (Operand::Reg(lo), Some(hi)) => [*lo, hi],
                _ => return self.bad_operands(),
            },
        };
        match d {
            Operand::Vector(parts) if parts.len() == 2 => {
                // A part may be the source.
                let hi = self.alu(Alu::Mov64, &[hi], 0);
                self.settle(&parts[0], lo, false)?;
                self.settle(&parts[1], hi, false)
            }
            d => match (d, self.high(d)) {
                (Operand::Reg(to), Some(high)) => {
                    self.alu_to(*to, Alu::Mov64, &[lo], 0);
                    self.alu_to(high, Alu::Mov64, &[hi], 0);
                    Ok(())
                }
                _ => self.bad_operands(),
            },
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

    /// Whether a generic address is one of the module's constant variables: they lie in device memory.
    fn in_constants(&mut self, a: V) -> V {
        let mut any = self.imm(Class::P, 0);
        let cx = self.cx;
        for (v, &at) in cx.module.vars.iter().zip(cx.addresses) {
            if v.space != Space::Const {
                continue;
            }
            let base = self.imm(Class::D, at.wrapping_neg());
            let offset = self.alu(Alu::AddI64, &[a, base], 0);
            let size = self.imm(Class::D, v.bytes);
            let inside = self.alu(Alu::LtU64, &[offset, size], 0);
            any = self.alu(Alu::OrP, &[any, inside], 0);
        }
        any
    }

    fn is_space(&mut self) -> Res<()> {
        let space = self.space_suffix()?;
        let a = self.source(1, Ty::U64)?;
        if space == Space::Global {
            let base = self.imm(Class::D, FIRST_ADDRESS);
            let device = self.alu(Alu::LeU64, &[base, a], 0);
            let constant = self.in_constants(a);
            let not = self.alu(Alu::NotP, &[constant], 0);
            return self.out(Alu::AndP, &[device, not], 0, false);
        }
        if space == Space::Const {
            let constant = self.in_constants(a);
            return self.out_value(constant, false);
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
