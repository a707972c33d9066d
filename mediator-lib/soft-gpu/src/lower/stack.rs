//! Local memory that is handed out while a function runs (`alloca`), and for parameters whose address is taken.

use super::builder::{Lower, Res};
use crate::ir::{Access, Alu, Class, Op, V};
use crate::ptx::ast::{Operand, Symbol};
use crate::ptx::types::{Space, Ty};

/// Bytes of local memory that a function with `alloca` has for it in each thread: bounds a block's memory.
pub(super) const ALLOCA_BYTES: u32 = 16 << 10;

impl Lower<'_> {
    /// The local address of a device function's parameter: it is copied there, as the ISA says of `mov`.
    pub(super) fn home(&mut self, s: Symbol, offset: i64) -> Res<V> {
        let Some(words) = self.words(s).map(<[V]>::to_vec) else {
            return self.bad_operands();
        };
        let at = match self.homes.get(&s) {
            Some(&at) => at,
            None => {
                let at = self.func.local_bytes;
                self.func.local_bytes += (4 * words.len() as u32).next_multiple_of(16);
                self.homes.insert(s, at);
                at
            }
        };
        let base = self.tmp(Class::D);
        self.push(Op::LocalAddr, vec![base], vec![], 0, at.into());
        for (k, w) in words.into_iter().enumerate() {
            let access = Access {
                space: Space::Local,
                bytes: 4,
                signed: false,
                count: 1,
                whole: false,
            };
            self.push(Op::St(access), vec![], vec![base, w], 0, 4 * k as i64);
        }
        let by = self.imm(Class::D, offset as u64);
        Ok(self.alu(Alu::AddI64, &[base, by], 0))
    }

    /// The upper half of a 128-bit register.
    pub(super) fn high(&self, o: &Operand) -> Option<V> {
        match o {
            Operand::Reg(r) => self.highs.get(r).copied(),
            _ => None,
        }
    }

    /// `alloca`, `stacksave` and `stackrestore`.
    pub(super) fn stack(&mut self, name: &str) -> Res<()> {
        let Some((begin, top)) = self.stack else {
            return self.bad_operands();
        };
        match name {
            "stacksave" => self.out_value(top, false),
            "stackrestore" => {
                let to = self.src(self.operand(0)?, Ty::U64)?;
                self.alu_to(top, Alu::Mov64, &[to], 0);
                Ok(())
            }
            _ => {
                let size = self.source(1, self.ty()?)?;
                let size = self.as_class(size, Class::D)?;
                let align = match self.insn.operands.get(2) {
                    None => 8,
                    Some(&Operand::Imm(a)) if a.is_power_of_two() && a <= 1 << 15 => a,
                    Some(_) => return self.bad_operands(),
                };
                self.copy_guard();
                let (up, mask) = (
                    self.imm(Class::D, align - 1),
                    self.imm(Class::D, align.wrapping_neg()),
                );
                let from = self.alu(Alu::AddI64, &[top, up], 0);
                let from = self.alu(Alu::And64, &[from, mask], 0);
                let end = self.alu(Alu::AddI64, &[from, size], 0);
                let limit = self.tmp(Class::D);
                let last = i64::from(begin) + i64::from(ALLOCA_BYTES);
                self.push(Op::LocalAddr, vec![limit], vec![], 0, last);
                // What is not there has an address that no access may use.
                let fits = self.alu(Alu::LeU64, &[end, limit], 0);
                let most = self.imm(Class::D, ALLOCA_BYTES.into());
                let small = self.alu(Alu::LeU64, &[size, most], 0);
                let fits = self.alu(Alu::AndP, &[fits, small], 0);
                let nowhere = self.imm(Class::D, 0xffff_ffff_ffff_0000);
                let pointer = self.alu(Alu::Sel64, &[from, nowhere, fits], 0);
                let end = self.alu(Alu::Sel64, &[end, top, fits], 0);
                self.out_value(pointer, false)?;
                self.alu_to(top, Alu::Mov64, &[end], 0);
                Ok(())
            }
        }
    }
}
