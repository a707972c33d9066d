//! `cp.async` and its groups: copies are carried out at once, so there is nothing to wait for.

use super::builder::{Lower, Res};
use crate::ir::{Alu, Class, Op, V};
use crate::ptx::ast::Operand;
use crate::ptx::types::Ty;

impl Lower<'_> {
    pub(super) fn copy(&mut self) -> Res<()> {
        if self.mods.first() != Some(&"async") {
            return self.unsupported();
        }
        match self.mods.get(1).copied() {
            Some("commit_group" | "wait_all") if self.count() == 0 => Ok(()),
            Some("wait_group") if matches!(self.operand(0)?, Operand::Imm(_)) => Ok(()),
            Some("ca" | "cg") => self.copy_to_shared(),
            // Bulk copies, and arrival on an mbarrier.
            _ => self.unsupported(),
        }
    }

    fn copy_to_shared(&mut self) -> Res<()> {
        let Operand::Imm(bytes) = *self.operand(2)? else {
            return self.bad_operands();
        };
        let allowed: &[u64] = if self.has("cg") { &[16] } else { &[4, 8, 16] };
        if !allowed.contains(&bytes) {
            return self.bad_operands();
        }
        let hint = usize::from(self.has("L2::cache_hint"));
        let to = self.whole_address(0)?;
        let from = self.whole_address(1)?;
        let all = self.imm(Class::W, bytes);
        let read = match self.count() - hint.min(self.count()) {
            3 => all,
            4 => match self.operand(3)? {
                // ignore-src: nothing is read where it holds.
                o @ (Operand::Reg(_) | Operand::NotReg(_)) if self.is_predicate(o) => {
                    let p = self.src(o, Ty::Pred)?;
                    let none = self.imm(Class::W, 0);
                    self.alu(Alu::Sel32, &[none, all, p], 0)
                }
                o => self.src(o, Ty::U32)?,
            },
            _ => return self.bad_operands(),
        };
        self.push(
            Op::CopyAsync(bytes as u8),
            vec![],
            vec![to, from, read],
            0,
            0,
        );
        Ok(())
    }

    fn is_predicate(&self, o: &Operand) -> bool {
        match o {
            Operand::Reg(r) | Operand::NotReg(r) => self.class(*r) == Class::P,
            _ => false,
        }
    }

    /// Operand `at` as one register that holds the address with its offset.
    fn whole_address(&mut self, at: usize) -> Res<V> {
        let (base, offset) = self.address(self.operand(at)?)?;
        if offset == 0 {
            return Ok(base);
        }
        let class = self.class(base);
        let by = self.imm(class, offset as u64);
        let add = if class == Class::D {
            Alu::AddI64
        } else {
            Alu::AddI32
        };
        Ok(self.alu(add, &[base, by], 0))
    }
}
