//! Comparisons and selections.

use super::builder::{Lower, Res};
use crate::exec::float::op;
use crate::ir::{Alu, Class, V};
use crate::ptx::ast::Operand;
use crate::ptx::types::Ty;

const OPS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu",
    "geu", "num", "nan",
];

impl Lower<'_> {
    pub(super) fn compare(&mut self, name: &str) -> Res<()> {
        match name {
            "setp" => self.setp(),
            "set" => self.set(),
            "selp" => {
                let ty = self.ty()?;
                let (a, b) = (self.source(1, ty)?, self.source(2, ty)?);
                let p = self.source(3, Ty::Pred)?;
                let alu = match ty {
                    Ty::Pred => Alu::SelP,
                    _ if ty.bytes() == 8 => Alu::Sel64,
                    _ => Alu::Sel32,
                };
                self.out(alu, &[a, b, p], 0, false)
            }
            _ => {
                // slct.dtype.ctype: the last type is that of the condition.
                let types: Vec<Ty> = self.mods.iter().filter_map(|m| Ty::parse(m)).collect();
                let [ty, cty] = types[..] else {
                    return self.bad_operands();
                };
                let (a, b) = (self.source(1, ty)?, self.source(2, ty)?);
                let c = self.source(3, cty)?;
                let zero = self.imm(Class::W, 0);
                let p = if cty == Ty::F32 {
                    let c = if self.has("ftz") {
                        self.alu(Alu::FtzF32, &[c], 0)
                    } else {
                        c
                    };
                    self.alu(Alu::LeF32, &[zero, c], 0)
                } else {
                    self.alu(Alu::LeS32, &[zero, c], 0)
                };
                self.out(
                    if ty.bytes() == 8 {
                        Alu::Sel64
                    } else {
                        Alu::Sel32
                    },
                    &[a, b, p],
                    0,
                    false,
                )
            }
        }
    }

    fn comparison(&self) -> Res<&'static str> {
        match self.mods.first().and_then(|m| OPS.iter().find(|o| *o == m)) {
            Some(o) => Ok(o),
            None => self.fail(format!("'{}' has no comparison", self.opcode())),
        }
    }

    fn bool_op(&self) -> Option<Alu> {
        self.mods.iter().find_map(|m| match *m {
            "and" => Some(Alu::AndP),
            "or" => Some(Alu::OrP),
            "xor" => Some(Alu::XorP),
            _ => None,
        })
    }

    fn setp(&mut self) -> Res<()> {
        let cmp = self.comparison()?;
        let ty = self.ty()?;
        let bool_op = self.bool_op();
        if self.count() != if bool_op.is_some() { 4 } else { 3 } {
            return self.bad_operands();
        }
        let (a, b) = (self.source(1, ty)?, self.source(2, ty)?);
        let dst = self.operand(0)?;
        let x2 = matches!(ty, Ty::F16x2 | Ty::Bf16x2);
        if x2 {
            self.copy_guard();
            let Operand::Pair(p, q) = dst else {
                return self.bad_operands();
            };
            let lo = self.half_cmp(cmp, ty, a, b, false);
            let hi = self.half_cmp(cmp, ty, a, b, true);
            for (mut r, o) in [(lo, p), (hi, q)] {
                if let Some(alu) = bool_op {
                    let c = self.source(3, Ty::Pred)?;
                    r = self.alu(alu, &[r, c], 0);
                }
                self.settle(o, r, false)?;
            }
            return Ok(());
        }
        match dst {
            Operand::Reg(_) if bool_op.is_none() => {
                let d = self.dst(dst, Class::P)?;
                let r = self.cmp(cmp, ty, a, b, Some(d))?;
                if r == d {
                    Ok(())
                } else {
                    self.settle(dst, r, false)
                }
            }
            Operand::Reg(_) | Operand::Pair(..) => {
                self.copy_guard();
                let r = self.cmp(cmp, ty, a, b, None)?;
                let not = self.alu(Alu::NotP, &[r], 0);
                let (mut p, mut q) = (r, not);
                if let Some(alu) = bool_op {
                    let c = self.source(3, Ty::Pred)?;
                    p = self.alu(alu, &[p, c], 0);
                    q = self.alu(alu, &[q, c], 0);
                }
                self.settle(dst, p, false)?;
                match dst {
                    Operand::Pair(_, second) => self.settle(second, q, false),
                    _ => Ok(()),
                }
            }
            _ => self.bad_operands(),
        }
    }

    fn set(&mut self) -> Res<()> {
        let cmp = self.comparison()?;
        let types: Vec<Ty> = self.mods.iter().filter_map(|m| Ty::parse(m)).collect();
        let [dty, sty] = types[..] else {
            return self.bad_operands();
        };
        let (a, b) = (self.source(1, sty)?, self.source(2, sty)?);
        let zero = self.imm(Class::W, 0);
        if matches!(sty, Ty::F16x2 | Ty::Bf16x2) {
            let (mut p, mut q) = (
                self.half_cmp(cmp, sty, a, b, false),
                self.half_cmp(cmp, sty, a, b, true),
            );
            if let Some(alu) = self.bool_op() {
                let c = self.source(3, Ty::Pred)?;
                p = self.alu(alu, &[p, c], 0);
                q = self.alu(alu, &[q, c], 0);
            }
            let one = match dty {
                Ty::F16x2 => 0x3c00,
                Ty::Bf16x2 => 0x3f80,
                _ => 0xffff,
            };
            let one = self.imm(Class::W, one);
            let (lo, hi) = (
                self.alu(Alu::Sel32, &[one, zero, p], 0),
                self.alu(Alu::Sel32, &[one, zero, q], 0),
            );
            return self.out(Alu::Pack32, &[lo, hi], 0, false);
        }
        let mut p = self.cmp(cmp, sty, a, b, None)?;
        if let Some(alu) = self.bool_op() {
            let c = self.source(3, Ty::Pred)?;
            p = self.alu(alu, &[p, c], 0);
        }
        let one = match dty {
            Ty::F32 => 0x3f80_0000,
            Ty::F16 => 0x3c00,
            Ty::Bf16 => 0x3f80,
            _ => 0xffff_ffff,
        };
        let one = self.imm(Class::W, one);
        self.out(Alu::Sel32, &[one, zero, p], 0, false)
    }

    fn half_cmp(&mut self, cmp: &str, ty: Ty, a: V, b: V, high: bool) -> V {
        let mut x = match cmp {
            "eq" => 2,
            "ne" => 5,
            "lt" => 1,
            "le" => 3,
            "gt" => 4,
            "ge" => 6,
            "equ" => 10,
            "neu" => 13,
            "ltu" => 9,
            "leu" => 11,
            "gtu" => 12,
            "geu" => 14,
            "num" => 7,
            _ => 8,
        };
        if matches!(ty, Ty::Bf16 | Ty::Bf16x2) {
            x |= op::BF16;
        }
        if self.has("ftz") {
            x |= op::FTZ;
        }
        if high {
            x |= 1 << 16;
        }
        let plain = x & (op::BF16 | op::FTZ) == 0;
        self.alu(if plain { Alu::CmpF16 } else { Alu::HalfCmp }, &[a, b], x)
    }

    /// Compares; the result goes to `d` if it takes one operation.
    fn cmp(&mut self, cmp: &str, ty: Ty, a: V, b: V, d: Option<V>) -> Res<V> {
        let one = |l: &mut Self, alu: Alu, a: V, b: V| match d {
            Some(d) => {
                l.alu_to(d, alu, &[a, b], 0);
                d
            }
            None => l.alu(alu, &[a, b], 0),
        };
        if ty.half() {
            return Ok(self.half_cmp(cmp, ty, a, b, false));
        }
        let wide = ty.bytes() == 8;
        if matches!(ty, Ty::F32 | Ty::F64) {
            let (mut a, mut b) = (a, b);
            if self.has("ftz") && ty == Ty::F32 {
                a = self.alu(Alu::FtzF32, &[a], 0);
                b = self.alu(Alu::FtzF32, &[b], 0);
            }
            let [eq, lt, le, neu, nan] = if wide {
                [Alu::EqF64, Alu::LtF64, Alu::LeF64, Alu::NeuF64, Alu::NanF64]
            } else {
                [Alu::EqF32, Alu::LtF32, Alu::LeF32, Alu::NeuF32, Alu::NanF32]
            };
            let not = |l: &mut Self, v: V| l.alu(Alu::NotP, &[v], 0);
            return Ok(match cmp {
                "eq" => one(self, eq, a, b),
                "lt" | "lo" => one(self, lt, a, b),
                "le" | "ls" => one(self, le, a, b),
                "gt" | "hi" => one(self, lt, b, a),
                "ge" | "hs" => one(self, le, b, a),
                "neu" => one(self, neu, a, b),
                "nan" => one(self, nan, a, b),
                "num" => {
                    let v = self.alu(nan, &[a, b], 0);
                    not(self, v)
                }
                "equ" => {
                    let (e, n) = (self.alu(eq, &[a, b], 0), self.alu(nan, &[a, b], 0));
                    self.alu(Alu::OrP, &[e, n], 0)
                }
                "ne" => {
                    let (e, n) = (self.alu(eq, &[a, b], 0), self.alu(nan, &[a, b], 0));
                    let either = self.alu(Alu::OrP, &[e, n], 0);
                    not(self, either)
                }
                _ => {
                    let v = match cmp {
                        "ltu" => self.alu(le, &[b, a], 0),
                        "leu" => self.alu(lt, &[b, a], 0),
                        "gtu" => self.alu(le, &[a, b], 0),
                        _ => self.alu(lt, &[a, b], 0),
                    };
                    not(self, v)
                }
            });
        }
        if matches!(ty, Ty::Pred | Ty::Tf32 | Ty::B128) {
            return self.unsupported();
        }
        let signed = ty.signed() && !matches!(cmp, "lo" | "ls" | "hi" | "hs");
        let (lt, le) = match (wide, signed) {
            (false, true) => (Alu::LtS32, Alu::LeS32),
            (false, false) => (Alu::LtU32, Alu::LeU32),
            (true, true) => (Alu::LtS64, Alu::LeS64),
            (true, false) => (Alu::LtU64, Alu::LeU64),
        };
        Ok(match cmp {
            "eq" => one(self, if wide { Alu::EqI64 } else { Alu::EqI32 }, a, b),
            "ne" => one(self, if wide { Alu::NeI64 } else { Alu::NeI32 }, a, b),
            "lt" | "lo" => one(self, lt, a, b),
            "le" | "ls" => one(self, le, a, b),
            "gt" | "hi" => one(self, lt, b, a),
            "ge" | "hs" => one(self, le, b, a),
            _ => return self.bad_operands(),
        })
    }
}
