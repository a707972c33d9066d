//! Dispatch over mnemonics.

use super::builder::{Lower, Res};
use crate::ir::{Op, Term};
use crate::ptx::ast::Operand;
use crate::ptx::types::Ty;

impl Lower<'_> {
    /// Suffixes with what is in front of `::`.
    pub fn ty(&self) -> Res<Ty> {
        match self.mods.iter().rev().find_map(|m| Ty::parse(m)) {
            Some(t) => Ok(t),
            None => self.fail(format!("instruction '{}' has no type", self.opcode())),
        }
    }

    pub(super) fn decode(&mut self, name: &str) -> Res<()> {
        match name {
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min"
            | "max" | "sqrt" | "rsqrt" | "rcp" | "sin" | "cos" | "ex2" | "lg2" | "tanh"
            | "addc" | "subc" | "madc" | "mul24" | "mad24" | "sad" | "copysign" | "testp" => {
                self.arith(name)
            }
            "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "popc"
            | "clz" | "bfind" | "brev" | "bfe" | "bfi" | "bmsk" | "szext" | "prmt" | "dp4a"
            | "dp2a" | "fns" => self.bits(name),
            "setp" | "set" | "selp" | "slct" => self.compare(name),
            "mov" | "cvt" | "cvta" | "isspacep" => self.convert(name),
            "ld" | "ldu" | "st" | "atom" | "red" => self.memory(name),
            "prefetch" | "prefetchu" | "discard" | "applypriority" | "createpolicy"
                if name != "createpolicy" =>
            {
                Ok(())
            }
            "membar" | "fence" => {
                self.push(Op::Fence, vec![], vec![], 0, 0);
                Ok(())
            }
            "pmevent" | "setmaxnreg" | "griddepcontrol" => Ok(()),
            "shfl" | "vote" | "match" | "redux" | "activemask" | "bar" | "barrier" | "elect" => {
                self.sync(name)
            }
            "nanosleep" => {
                self.push(Op::Sleep, vec![], vec![], 0, 0);
                Ok(())
            }
            "bra" => {
                let Operand::Label(l) = self.operand(0)? else {
                    return self.bad_operands();
                };
                let target = self.label_block(*l)?;
                match self.guard() {
                    None => self.finish(Term::Jump(target)),
                    Some((pred, negated)) => {
                        let other = self.new_block();
                        self.finish(Term::Branch {
                            pred,
                            negated,
                            then: target,
                            other,
                        });
                        self.start(other);
                    }
                }
                Ok(())
            }
            "brx" => self.branch_table(),
            "ret" => self.leave(Term::Return),
            "exit" => self.leave(if self.f.entry {
                Term::Return
            } else {
                Term::Exit
            }),
            "trap" | "brkpt" => {
                let after = self.guard_by_branch();
                if name == "trap" {
                    self.push(Op::Trap, vec![], vec![], 0, 0);
                }
                self.resume(after);
                Ok(())
            }
            "call" => self.call(),
            _ => self.unsupported(),
        }
    }

    pub(super) fn resume(&mut self, after: Option<u32>) {
        if let Some(b) = after {
            self.start(b);
        }
    }

    fn leave(&mut self, term: Term) -> Res<()> {
        let after = self.guard_by_branch();
        self.finish(term);
        self.resume(after);
        Ok(())
    }

    fn branch_table(&mut self) -> Res<()> {
        let Operand::Reg(index) = *self.operand(0)? else {
            return self.bad_operands();
        };
        let Operand::Label(list) = self.operand(1)? else {
            return self.bad_operands();
        };
        let Some((_, labels)) = self.body.branch_targets.iter().find(|(l, _)| l == list) else {
            return self.bad_operands();
        };
        let mut targets = Vec::with_capacity(labels.len());
        for l in labels {
            targets.push(self.label_block(*l)?);
        }
        if targets.is_empty() {
            return self.bad_operands();
        }
        let after = self.guard_by_branch();
        self.finish(Term::Switch { index, targets });
        self.resume(after);
        Ok(())
    }
}
