//! Arithmetic in f16 and bf16, and on pairs of 16-bit integers.

use super::builder::{Lower, Res};
use crate::exec::float::op;
use crate::ir::{Alu, Class};
use crate::ptx::types::Ty;

impl Lower<'_> {
    pub(super) fn half_arith(&mut self, name: &str, ty: Ty) -> Res<()> {
        let (n, number) = match name {
            "add" => (2, op::ADD),
            "sub" => (2, op::SUB),
            "mul" => (2, op::MUL),
            "fma" => (3, op::FMA),
            "min" => (2, op::MIN),
            "max" => (2, op::MAX),
            "neg" => (1, op::NEG),
            "abs" => (1, op::ABS),
            "ex2" => (1, op::EX2),
            "tanh" => (1, op::TANH),
            _ => return self.unsupported(),
        };
        if self.count() != n + 1 {
            return self.bad_operands();
        }
        let bf16 = matches!(ty, Ty::Bf16 | Ty::Bf16x2);
        if matches!(name, "neg" | "abs") && !self.has("ftz") {
            // Only signs change, also those of NaNs.
            let signs = if matches!(ty, Ty::F16x2 | Ty::Bf16x2) {
                0x8000_8000
            } else {
                0x8000
            };
            let a = self.source(1, ty)?;
            let (alu, mask) = if name == "neg" {
                (Alu::Xor32, signs)
            } else {
                (Alu::And32, signs ^ 0xffff_ffff)
            };
            let mask = self.imm(Class::W, mask);
            return self.out(alu, &[a, mask], 0, false);
        }
        if self.float_mods() == 0 {
            let alu = match (name, bf16) {
                ("add", false) => Some(Alu::AddF16),
                ("sub", false) => Some(Alu::SubF16),
                ("mul", false) => Some(Alu::MulF16),
                ("fma", false) => Some(Alu::FmaF16),
                ("min", false) => Some(Alu::MinF16),
                ("max", false) => Some(Alu::MaxF16),
                ("ex2", false) => Some(Alu::Ex2F16),
                ("add", true) => Some(Alu::AddBf16),
                ("sub", true) => Some(Alu::SubBf16),
                ("mul", true) => Some(Alu::MulBf16),
                ("fma", true) => Some(Alu::FmaBf16),
                ("min", true) => Some(Alu::MinBf16),
                ("max", true) => Some(Alu::MaxBf16),
                _ => None,
            };
            if let Some(alu) = alu {
                let s = self.sources(n, ty)?;
                return self.out(alu, &s, 0, false);
            }
        }
        let mut x = self.float_mods() | number;
        if bf16 {
            x |= op::BF16;
        }
        if matches!(ty, Ty::F16x2 | Ty::Bf16x2) {
            x |= op::PACKED;
        }
        let s = self.sources(n, ty)?;
        let zero = self.imm(Class::W, 0);
        let get = |i: usize| s.get(i).copied().unwrap_or(zero);
        self.out(Alu::Half, &[get(0), get(1), get(2)], x, false)
    }

    pub(super) fn packed_integer(&mut self, name: &str, ty: Ty) -> Res<()> {
        let number = match name {
            "add" => 0,
            "sub" => 1,
            "min" => 2,
            "max" => 3,
            _ => return self.unsupported(),
        };
        let s = self.sources(2, ty)?;
        self.out(
            Alu::Packed16,
            &s,
            number | if ty.signed() { 16 } else { 0 } | if self.has("relu") { 32 } else { 0 },
            false,
        )
    }
}
