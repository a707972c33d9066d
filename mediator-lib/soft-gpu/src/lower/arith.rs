//! Arithmetic and bit operations.

use super::builder::{Lower, Res};
use crate::exec::float::op;
use crate::exec::soft::Round;
use crate::ir::{Alu, Class, V};
use crate::ptx::types::Ty;

/// By class: the 32-bit or the 64-bit operation.
pub(super) fn by(ty: Ty, w: Alu, d: Alu) -> Alu {
    if ty.bytes() == 8 { d } else { w }
}

impl Lower<'_> {
    fn round_of(&self) -> Round {
        for m in &self.mods {
            match *m {
                "rz" | "rzi" => return Round::Rz,
                "rm" | "rmi" => return Round::Rm,
                "rp" | "rpi" => return Round::Rp,
                "rna" => return Round::Rna,
                _ => {}
            }
        }
        Round::Rn
    }

    /// Rounding, `.ftz`, `.sat` and the like as an auxiliary word.
    pub(super) fn float_mods(&self) -> u32 {
        let mut x = (self.round_of() as u32) << op::ROUND;
        for (m, bit) in [
            ("ftz", op::FTZ),
            ("sat", op::SAT),
            ("NaN", op::NAN),
            ("relu", op::RELU),
            ("xorsign", op::XORSIGN),
        ] {
            if self.has(m) {
                x |= bit;
            }
        }
        x
    }

    pub(super) fn arith(&mut self, name: &str) -> Res<()> {
        let ty = self.ty()?;
        if matches!(ty, Ty::U16x2 | Ty::S16x2) {
            return self.packed_integer(name, ty);
        }
        if matches!(name, "addc" | "subc" | "madc") || self.has("cc") {
            return self.carry_chain(name, ty);
        }
        match ty {
            _ if ty.half() => self.half_arith(name, ty),
            Ty::F32 => self.float32(name),
            Ty::F64 => self.float64(name),
            Ty::Pred | Ty::Tf32 | Ty::E4m3x2 | Ty::E5m2x2 | Ty::B128 => self.unsupported(),
            _ => self.integer(name, ty),
        }
    }

    pub(super) fn sources(&mut self, n: usize, ty: Ty) -> Res<Vec<V>> {
        (1..=n).map(|i| self.source(i, ty)).collect()
    }

    fn float32(&mut self, name: &str) -> Res<()> {
        let x = self.float_mods();
        let ftz = x & op::FTZ != 0;
        let plain = x == 0;
        let only_ftz = x & !op::FTZ == 0;
        let (n, number) = match name {
            "add" => (2, op::ADD),
            "sub" => (2, op::SUB),
            "mul" => (2, op::MUL),
            "fma" | "mad" => (3, op::FMA),
            "div" => (2, op::DIV),
            "sqrt" => (1, op::SQRT),
            "rcp" => (1, op::RCP),
            "min" => (2, op::MIN),
            "max" => (2, op::MAX),
            "neg" => (1, op::NEG),
            "abs" => (1, op::ABS),
            "tanh" => (1, op::TANH),
            "rsqrt" | "sin" | "cos" | "ex2" | "lg2" | "testp" => (1, 15),
            "copysign" => (2, 15),
            _ => return self.unsupported(),
        };
        if matches!(name, "min" | "max") && self.count() == 4 {
            return self.three_inputs(name, x);
        }
        if self.count() != n + 1 {
            return self.bad_operands();
        }
        let s = self.sources(n, Ty::F32)?;
        if name == "copysign" {
            return self.out(Alu::Copysign32, &s, 0, false);
        }
        if name == "testp" {
            let x = self.testp_kind();
            return self.out(Alu::Testp32, &s, x, false);
        }
        // Flushed operands make a flushed result.
        let flushed = matches!(name, "min" | "max" | "neg" | "abs") && ftz && only_ftz;
        let (s, plain) = if flushed {
            let flush = |&v: &V| self.alu(Alu::FtzF32, &[v], 0);
            (s.iter().map(flush).collect(), true)
        } else {
            (s, plain)
        };
        let fast = match name {
            "add" if plain => Some(Alu::AddF32),
            "add" if only_ftz => Some(Alu::AddF32Ftz),
            "sub" if plain => Some(Alu::SubF32),
            "sub" if only_ftz => Some(Alu::SubF32Ftz),
            "mul" if plain => Some(Alu::MulF32),
            "mul" if only_ftz => Some(Alu::MulF32Ftz),
            "fma" | "mad" if plain => Some(Alu::FmaF32),
            "fma" | "mad" if only_ftz => Some(Alu::FmaF32Ftz),
            "min" if plain => Some(Alu::MinF32),
            "max" if plain => Some(Alu::MaxF32),
            "neg" if plain => Some(Alu::NegF32),
            "abs" if plain => Some(Alu::AbsF32),
            _ => None,
        };
        if let Some(alu) = fast {
            return self.out(alu, &s, 0, false);
        }
        let approx = match name {
            "div" => Some(Alu::DivF32),
            "sqrt" => Some(Alu::SqrtF32),
            "rcp" => Some(Alu::RcpF32),
            "rsqrt" => Some(Alu::RsqrtF32),
            "sin" => Some(Alu::SinF32),
            "cos" => Some(Alu::CosF32),
            "ex2" => Some(Alu::Ex2F32),
            "lg2" => Some(Alu::Lg2F32),
            "tanh" => Some(Alu::TanhF32),
            _ => None,
        };
        match approx {
            Some(alu) if x & !op::FTZ == 0 => {
                let s: Vec<V> = if ftz {
                    s.iter().map(|&v| self.alu(Alu::FtzF32, &[v], 0)).collect()
                } else {
                    s
                };
                if ftz {
                    let r = self.alu(alu, &s, 0);
                    self.out(Alu::FtzF32, &[r], 0, false)
                } else {
                    self.out(alu, &s, 0, false)
                }
            }
            _ if number == 15 => self.unsupported(),
            _ => {
                let zero = self.imm(Class::W, 0);
                let get = |i: usize| s.get(i).copied().unwrap_or(zero);
                self.out(Alu::Arith32, &[get(0), get(1), get(2)], x | number, false)
            }
        }
    }

    /// `min.f32` and `max.f32` of three operands, one after the other.
    fn three_inputs(&mut self, name: &str, x: u32) -> Res<()> {
        if x & op::XORSIGN != 0 {
            return self.unsupported();
        }
        let s = self.sources(3, Ty::F32)?;
        let zero = self.imm(Class::W, 0);
        let absolute = self.has("abs");
        let number = if name == "min" { op::MIN } else { op::MAX };
        let mut v = s[0];
        if absolute {
            v = self.alu(Alu::AbsF32, &[v], 0);
        }
        for &next in &s[1..] {
            let next = if absolute {
                self.alu(Alu::AbsF32, &[next], 0)
            } else {
                next
            };
            v = self.alu(Alu::Arith32, &[v, next, zero], x | number);
        }
        self.out_value(v, false)
    }

    fn testp_kind(&self) -> u32 {
        const KINDS: [&str; 6] = [
            "finite",
            "infinite",
            "number",
            "notanumber",
            "normal",
            "subnormal",
        ];
        KINDS.iter().position(|k| self.has(k)).unwrap_or(0) as u32
    }

    fn float64(&mut self, name: &str) -> Res<()> {
        let x = self.float_mods();
        let (n, number, alu) = match name {
            "add" => (2, op::ADD, Alu::AddF64),
            "sub" => (2, op::SUB, Alu::SubF64),
            "mul" => (2, op::MUL, Alu::MulF64),
            "fma" | "mad" => (3, op::FMA, Alu::FmaF64),
            "div" => (2, op::DIV, Alu::DivF64),
            "sqrt" => (1, op::SQRT, Alu::SqrtF64),
            "rcp" if self.has("approx") => (1, 15, Alu::RcpApproxF64),
            "rsqrt" if self.has("ftz") => (1, 15, Alu::RsqrtApproxF64),
            "rcp" => (1, op::RCP, Alu::RcpF64),
            "rsqrt" => (1, 15, Alu::RsqrtF64),
            "min" => (2, op::MIN, Alu::MinF64),
            "max" => (2, op::MAX, Alu::MaxF64),
            "neg" => (1, 15, Alu::NegF64),
            "abs" => (1, 15, Alu::AbsF64),
            "copysign" => (2, 15, Alu::Copysign64),
            "testp" => {
                let s = self.sources(1, Ty::F64)?;
                let x = self.testp_kind();
                return self.out(Alu::Testp64, &s, x, false);
            }
            _ => return self.unsupported(),
        };
        if self.count() != n + 1 {
            return self.bad_operands();
        }
        let s = self.sources(n, Ty::F64)?;
        if x == 0 || number == 15 {
            return self.out(alu, &s, 0, false);
        }
        let zero = self.imm(Class::D, 0);
        let get = |i: usize| s.get(i).copied().unwrap_or(zero);
        self.out(Alu::Arith64, &[get(0), get(1), get(2)], x | number, false)
    }

    fn integer(&mut self, name: &str, ty: Ty) -> Res<()> {
        let signed = ty.signed();
        let pick = |ws, wu, ds, du| match (ty.bytes() == 8, signed) {
            (false, true) => ws,
            (false, false) => wu,
            (true, true) => ds,
            (true, false) => du,
        };
        let n = match name {
            "abs" | "neg" => 1,
            "mad" | "mad24" | "sad" => 3,
            _ => 2,
        };
        if self.count() != n + 1 {
            return self.bad_operands();
        }
        if matches!(name, "mul" | "mad") {
            return self.multiply(ty, n);
        }
        let s = self.sources(n, ty)?;
        let alu = match name {
            "add" if self.has("sat") => Alu::AddSatS32,
            "sub" if self.has("sat") => Alu::SubSatS32,
            "add" => by(ty, Alu::AddI32, Alu::AddI64),
            "sub" => by(ty, Alu::SubI32, Alu::SubI64),
            "div" => pick(Alu::DivS32, Alu::DivU32, Alu::DivS64, Alu::DivU64),
            "rem" => pick(Alu::RemS32, Alu::RemU32, Alu::RemS64, Alu::RemU64),
            "abs" => by(ty, Alu::AbsS32, Alu::AbsS64),
            "neg" => by(ty, Alu::NegI32, Alu::NegI64),
            "min" => pick(Alu::MinS32, Alu::MinU32, Alu::MinS64, Alu::MinU64),
            "max" => pick(Alu::MaxS32, Alu::MaxU32, Alu::MaxS64, Alu::MaxU64),
            "sad" => pick(Alu::SadS32, Alu::SadU32, Alu::SadS64, Alu::SadU64),
            "mul24" => {
                let alu = if signed { Alu::Mul24S } else { Alu::Mul24U };
                return self.out(alu, &s, self.has("hi").into(), signed);
            }
            "mad24" => {
                let alu = if signed { Alu::Mul24S } else { Alu::Mul24U };
                let p = self.alu(alu, &s[..2], self.has("hi").into());
                let add = if self.has("sat") {
                    Alu::AddSatS32
                } else {
                    Alu::AddI32
                };
                return self.out(add, &[p, s[2]], 0, signed);
            }
            _ => return self.unsupported(),
        };
        if self.has("relu") {
            let r = self.alu(alu, &s, 0);
            let zero = self.imm(Class::W, 0);
            return self.out(Alu::MaxS32, &[r, zero], 0, signed);
        }
        self.out(alu, &s, 0, signed)
    }

    fn multiply(&mut self, ty: Ty, n: usize) -> Res<()> {
        let signed = ty.signed();
        let (a, b) = (self.source(1, ty)?, self.source(2, ty)?);
        if self.has("wide") {
            if ty.bytes() == 2 {
                // 16-bit operands are extended already; the product fits 32 bits.
                return if n == 3 {
                    let o = self.operand(3)?;
                    let c = self.src(o, Ty::U32)?;
                    self.out(Alu::MadLo32, &[a, b, c], 0, signed)
                } else {
                    self.out(Alu::MulLo32, &[a, b], 0, signed)
                };
            }
            if ty.bytes() != 4 {
                return self.unsupported();
            }
            return if n == 3 {
                let o = self.operand(3)?;
                let c = self.src(o, Ty::U64)?;
                self.out(
                    if signed {
                        Alu::MadWideS32
                    } else {
                        Alu::MadWideU32
                    },
                    &[a, b, c],
                    0,
                    signed,
                )
            } else {
                self.out(
                    if signed {
                        Alu::MulWideS32
                    } else {
                        Alu::MulWideU32
                    },
                    &[a, b],
                    0,
                    signed,
                )
            };
        }
        if self.has("hi") {
            if ty.bytes() == 2 {
                let p = self.alu(Alu::MulLo32, &[a, b], 0);
                let k = self.imm(Class::W, 16);
                let h = self.alu(Alu::ShrU32, &[p, k], 0);
                if n == 3 {
                    let c = self.source(3, ty)?;
                    return self.out(Alu::AddI32, &[h, c], 0, signed);
                }
                return self.out_value(h, signed);
            }
            let alu = match (ty.bytes() == 8, signed) {
                (false, true) => Alu::MulHiS32,
                (false, false) => Alu::MulHiU32,
                (true, true) => Alu::MulHiS64,
                (true, false) => Alu::MulHiU64,
            };
            if n == 3 {
                let c = self.source(3, ty)?;
                if self.has("sat") {
                    return self.out(Alu::MadHiSatS32, &[a, b, c], 0, signed);
                }
                let h = self.alu(alu, &[a, b], 0);
                return self.out(by(ty, Alu::AddI32, Alu::AddI64), &[h, c], 0, signed);
            }
            return self.out(alu, &[a, b], 0, signed);
        }
        if n == 3 {
            let c = self.source(3, ty)?;
            return self.out(by(ty, Alu::MadLo32, Alu::MadLo64), &[a, b, c], 0, signed);
        }
        self.out(by(ty, Alu::MulLo32, Alu::MulLo64), &[a, b], 0, signed)
    }

    /// `add.cc`, `addc`, `mad.cc`, `madc`, `sub.cc`, `subc`.
    fn carry_chain(&mut self, name: &str, ty: Ty) -> Res<()> {
        let wide = ty.bytes() == 8;
        let mul = name.starts_with("mad");
        if self.count() != if mul { 4 } else { 3 } {
            return self.bad_operands();
        }
        let (mut a, mut b) = (self.source(1, ty)?, self.source(2, ty)?);
        if mul {
            let alu = match (self.has("hi"), wide, ty.signed()) {
                (false, false, _) => Alu::MulLo32,
                (false, true, _) => Alu::MulLo64,
                (true, false, false) => Alu::MulHiU32,
                (true, false, true) => Alu::MulHiS32,
                (true, true, false) => Alu::MulHiU64,
                (true, true, true) => Alu::MulHiS64,
            };
            a = self.alu(alu, &[a, b], 0);
            b = self.source(3, ty)?;
        }
        let takes = name.ends_with('c') && name != "sub";
        let cc = self.carry();
        let sub = name.starts_with("sub");
        // The flag after a subtraction is that of a + !b + 1: set where nothing was borrowed. nvcc's division of 128-bit
        // integers reads it with `addc`.
        let c = match (takes, sub) {
            (false, _) => self.imm(Class::P, 0),
            (true, false) => cc,
            (true, true) => self.alu(Alu::NotP, &[cc], 0),
        };
        let (value, carry) = match (sub, wide) {
            (false, false) => (Alu::AddCarry32, Alu::AddCarryOut32),
            (false, true) => (Alu::AddCarry64, Alu::AddCarryOut64),
            (true, false) => (Alu::SubBorrow32, Alu::SubBorrowOut32),
            (true, true) => (Alu::SubBorrow64, Alu::SubBorrowOut64),
        };
        let out = if self.has("cc") {
            Some(self.alu(carry, &[a, b, c], 0))
        } else {
            None
        };
        self.out(value, &[a, b, c], 0, false)?;
        if let Some(out) = out {
            let alu = if sub { Alu::NotP } else { Alu::MovP };
            self.alu_to(cc, alu, &[out], 0);
        }
        Ok(())
    }
}
