//! Logic, shifts and bit fields.

use super::arith::by;
use super::builder::{Lower, Res};
use crate::ir::Alu;
use crate::ir::Class;
use crate::ptx::ast::Operand;
use crate::ptx::types::Ty;

impl Lower<'_> {
    pub(super) fn bits(&mut self, name: &str) -> Res<()> {
        let ty = if matches!(name, "lop3" | "prmt") {
            Ty::B32
        } else {
            self.ty()?
        };
        if ty == Ty::Pred {
            let n = if name == "not" { 1 } else { 2 };
            let s = self.sources(n, Ty::Pred)?;
            let alu = match name {
                "and" => Alu::AndP,
                "or" => Alu::OrP,
                "xor" => Alu::XorP,
                "not" => Alu::NotP,
                _ => return self.unsupported(),
            };
            return self.out(alu, &s, 0, false);
        }
        let signed = ty.signed();
        match name {
            "and" | "or" | "xor" => {
                let s = self.sources(2, ty)?;
                let alu = match name {
                    "and" => by(ty, Alu::And32, Alu::And64),
                    "or" => by(ty, Alu::Or32, Alu::Or64),
                    _ => by(ty, Alu::Xor32, Alu::Xor64),
                };
                self.out(alu, &s, 0, false)
            }
            "not" | "cnot" => {
                let s = self.sources(1, ty)?;
                let alu = if name == "not" {
                    by(ty, Alu::Not32, Alu::Not64)
                } else {
                    by(ty, Alu::Cnot32, Alu::Cnot64)
                };
                self.out(alu, &s, 0, false)
            }
            "shl" | "shr" => {
                let a = self.source(1, ty)?;
                let o = self.operand(2)?;
                let mut b = self.src(o, Ty::U32)?;
                if ty.bytes() == 2 && name == "shl" && !matches!(o, Operand::Imm(0..=15)) {
                    // Any amount of 16 or more clears a 16-bit value; 31 does so after the cut.
                    let k = self.imm(Class::W, 31);
                    b = self.alu(Alu::MinU32, &[b, k], 0);
                }
                let alu = match (name, ty.bytes() == 8, signed) {
                    ("shl", false, _) => Alu::Shl32,
                    ("shl", true, _) => Alu::Shl64,
                    (_, false, false) => Alu::ShrU32,
                    (_, false, true) => Alu::ShrS32,
                    (_, true, false) => Alu::ShrU64,
                    (_, true, true) => Alu::ShrS64,
                };
                self.out(alu, &[a, b], 0, signed)
            }
            "shf" => {
                let s = self.sources(3, Ty::B32)?;
                let wrap = self.has("wrap").into();
                self.out(
                    if self.has("l") { Alu::ShfL } else { Alu::ShfR },
                    &s,
                    wrap,
                    false,
                )
            }
            "lop3" => {
                let combined = self.has("and") || self.has("or");
                if self.count() != if combined { 6 } else { 5 } {
                    return self.bad_operands();
                }
                let s = self.sources(3, Ty::B32)?;
                let Operand::Imm(lut @ 0..=255) = *self.operand(4)? else {
                    return self.bad_operands();
                };
                if !combined {
                    return self.out(Alu::Lop3, &s, lut as u32, false);
                }
                // d|p: also whether the result is not zero, combined with a predicate.
                let Operand::Pair(_, p) = self.operand(0)? else {
                    return self.bad_operands();
                };
                let q = self.source(5, Ty::Pred)?;
                self.copy_guard();
                let r = self.alu(Alu::Lop3, &s, lut as u32);
                let zero = self.imm(Class::W, 0);
                let some = self.alu(Alu::NeI32, &[r, zero], 0);
                let op = if self.has("and") { Alu::AndP } else { Alu::OrP };
                let both = self.alu(op, &[some, q], 0);
                self.settle(self.operand(0)?, r, false)?;
                self.settle(p, both, false)
            }
            "prmt" => {
                let s = self.sources(3, Ty::B32)?;
                if let (Operand::Imm(sel), [_]) = (self.operand(3)?, &self.mods[..]) {
                    return self.out(Alu::PrmtConst, &s[..2], *sel as u32 & 0xffff, false);
                }
                let mode = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]
                    .iter()
                    .position(|m| self.has(m));
                self.out(Alu::Prmt, &s, mode.map_or(0, |p| p as u32 + 1), false)
            }
            "popc" | "clz" | "brev" | "bfind" => {
                let s = self.sources(1, ty)?;
                let x = self.has("shiftamt").into();
                let alu = match name {
                    "popc" => by(ty, Alu::Popc32, Alu::Popc64),
                    "clz" => by(ty, Alu::Clz32, Alu::Clz64),
                    "brev" => by(ty, Alu::Brev32, Alu::Brev64),
                    _ if signed => by(ty, Alu::BfindS, Alu::BfindS64),
                    _ => by(ty, Alu::BfindU, Alu::BfindU64),
                };
                self.out(alu, &s, x, false)
            }
            "bfe"
                if ty == Ty::U32
                    && matches!(
                        (self.operand(2)?, self.operand(3)?),
                        (Operand::Imm(0..=31), Operand::Imm(1..=31))
                    ) =>
            {
                let (&Operand::Imm(pos), &Operand::Imm(len)) = (self.operand(2)?, self.operand(3)?)
                else {
                    return self.bad_operands();
                };
                let a = self.source(1, ty)?;
                let by = self.imm(Class::W, pos);
                let mask = self.imm(Class::W, (1 << len) - 1);
                let shifted = self.alu(Alu::ShrU32, &[a, by], 0);
                self.out(Alu::And32, &[shifted, mask], 0, false)
            }
            "bfe" => {
                let s = [
                    self.source(1, ty)?,
                    self.source(2, Ty::U32)?,
                    self.source(3, Ty::U32)?,
                ];
                let alu = if signed {
                    by(ty, Alu::BfeS32, Alu::BfeS64)
                } else {
                    by(ty, Alu::BfeU32, Alu::BfeU64)
                };
                self.out(alu, &s, 0, signed)
            }
            "bfi" => {
                let s = [
                    self.source(1, ty)?,
                    self.source(2, ty)?,
                    self.source(3, Ty::U32)?,
                    self.source(4, Ty::U32)?,
                ];
                self.out(by(ty, Alu::Bfi32, Alu::Bfi64), &s, 0, false)
            }
            "bmsk" => {
                let s = self.sources(2, Ty::B32)?;
                self.out(Alu::Bmsk, &s, self.has("wrap").into(), false)
            }
            "szext" => {
                let s = self.sources(2, Ty::B32)?;
                self.out(
                    if signed { Alu::SzextS } else { Alu::SzextU },
                    &s,
                    self.has("wrap").into(),
                    false,
                )
            }
            "fns" => {
                let s = self.sources(3, Ty::B32)?;
                self.out(Alu::Fns, &s, 0, false)
            }
            "dp4a" | "dp2a" => {
                let s = self.sources(3, Ty::B32)?;
                let types: Vec<bool> = self
                    .mods
                    .iter()
                    .filter_map(|m| Ty::parse(m))
                    .map(Ty::signed)
                    .collect();
                let [a, b] = types[..] else {
                    return self.bad_operands();
                };
                let x = u32::from(a) | (u32::from(b) << 1) | (u32::from(self.has("hi")) << 2);
                self.out(
                    if name == "dp4a" { Alu::Dp4a } else { Alu::Dp2a },
                    &s,
                    x,
                    false,
                )
            }
            _ => self.unsupported(),
        }
    }
}
