//! Dispatch over mnemonics.

use super::builder::{Lower, Res};
use crate::ir::{Class, Op, Term};
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
        if !self.modifiers_known(name) {
            return self.unsupported();
        }
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
            // Hints on caches, which do nothing here. `discard` lets the bytes be anything.
            "prefetch" if self.has("tensormap") => self.unsupported(),
            "prefetch" | "prefetchu" | "discard" | "applypriority" => Ok(()),
            "createpolicy" => {
                let policy = self.imm(Class::D, 0);
                self.out_value(policy, false)
            }
            "membar" | "fence" => {
                self.push(Op::Fence, vec![], vec![], 0, 0);
                Ok(())
            }
            "pmevent" | "setmaxnreg" | "griddepcontrol" => Ok(()),
            "shfl" | "vote" | "match" | "redux" | "activemask" | "bar" | "barrier" | "elect" => {
                self.sync(name)
            }
            "mma" => self.mma(),
            "ldmatrix" => self.ldmatrix(),
            "stmatrix" => self.stmatrix(),
            "movmatrix" => self.movmatrix(),
            "wmma" => self.wmma(),
            "cp" => self.copy(),
            "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" | "vshl" | "vshr" | "vset" | "vmad" => {
                self.video(name)
            }
            "vadd2" | "vsub2" | "vavrg2" | "vabsdiff2" | "vmin2" | "vmax2" | "vset2" | "vadd4"
            | "vsub4" | "vavrg4" | "vabsdiff4" | "vmin4" | "vmax4" | "vset4" => {
                self.video_parts(name)
            }
            // Clusters have one block: every address is one of it, and its rank is 0.
            "mapa" => {
                let ty = self.ty()?;
                let a = self.source(1, ty)?;
                self.out_value(a, false)
            }
            "getctarank" => {
                let zero = self.imm(Class::W, 0);
                self.out_value(zero, false)
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
            "alloca" | "stacksave" | "stackrestore" => self.stack(name),
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
        if matches!(term, Term::Return) {
            self.give_formals();
        }
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
