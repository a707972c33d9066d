//! Calls of device functions.

use super::builder::{Lower, Res};
use crate::ir::{Alu, Callee, Class, Op, SystemCall, V};
use crate::ptx::ast::{Operand, Symbol};
use crate::ptx::types::Ty;

impl Lower<'_> {
    pub(super) fn call(&mut self) -> Res<()> {
        let mut at = 0;
        let mut rets: &[Operand] = &[];
        if let Operand::List(l) = self.operand(0)? {
            rets = l;
            at = 1;
        }
        let target = self.operand(at)?;
        let mut args: &[Operand] = &[];
        if let Some(Operand::List(l)) = self.insn.operands.get(at + 1) {
            args = l;
        }
        let after = self.guard_by_branch();
        let (callee, pointer, signature) = match target {
            Operand::Sym(Symbol::Function(f), 0) => {
                let Some(f2) = self.cx.module.functions.get(*f as usize) else {
                    return self.bad_operands();
                };
                if !f2.defined() {
                    if let Some(call) = SystemCall::of(&f2.name) {
                        self.system(call, args, rets)?;
                        self.resume(after);
                        return Ok(());
                    }
                    return self.fail(format!(
                        "unsupported instruction '{}' of the external function '{}'",
                        self.opcode(),
                        f2.name
                    ));
                }
                if f2.entry {
                    return self.fail("a kernel cannot be called");
                }
                let sig: Vec<u32> = f2.params.iter().map(|p| p.bytes).collect();
                let rsig: Vec<u32> = f2.rets.iter().map(|p| p.bytes).collect();
                (Callee::Direct(*f), None, Some((sig, rsig)))
            }
            Operand::Reg(r) if self.class(*r) == Class::D => (Callee::Indirect, Some(*r), None),
            _ => return self.bad_operands(),
        };
        let mut s: Vec<V> = pointer.into_iter().collect();
        for (i, a) in args.iter().enumerate() {
            let bytes = signature.as_ref().and_then(|(p, _)| p.get(i).copied());
            self.argument(a, bytes, &mut s)?;
        }
        if let Some((params, _)) = &signature
            && params.len() != args.len()
        {
            return self.bad_operands();
        }
        let mut d = Vec::new();
        let mut settle = Vec::new();
        for r in rets {
            match r {
                Operand::Sym(sym, 0) => match self.words(*sym) {
                    Some(w) => d.extend_from_slice(w),
                    None => return self.bad_operands(),
                },
                Operand::Reg(r) if self.class(*r) == Class::D => {
                    let (lo, hi) = (self.tmp(Class::W), self.tmp(Class::W));
                    d.extend([lo, hi]);
                    settle.push((*r, lo, Some(hi)));
                }
                Operand::Reg(r) if self.class(*r) == Class::W => {
                    let lo = self.tmp(Class::W);
                    d.push(lo);
                    settle.push((*r, lo, None));
                }
                _ => return self.bad_operands(),
            }
        }
        if let Some((_, rsig)) = &signature {
            let words: usize = rsig.iter().map(|b| b.div_ceil(4) as usize).sum();
            if words != d.len() {
                return self.bad_operands();
            }
        }
        self.push(Op::Call(callee), d, s, 0, 0);
        for (r, lo, hi) in settle {
            match hi {
                Some(hi) => self.alu_to(r, Alu::Pack64, &[lo, hi], 0),
                None => self.alu_to(r, Alu::Mov32, &[lo], 0),
            }
        }
        self.resume(after);
        Ok(())
    }

    /// Copies arguments to the parameters of this function that are registers.
    pub(super) fn take_formals(&mut self) -> Res<()> {
        for &(symbol, r) in &self.body.formals {
            let words = self.words(symbol).unwrap_or_default().to_vec();
            match (self.class(r), &words[..]) {
                _ if self.high(&Operand::Reg(r)).is_some() => {
                    return self.fail("unsupported: a parameter in a register of 128 bits");
                }
                (Class::W, &[w]) if matches!(symbol, Symbol::Param(_)) => {
                    self.alu_to(r, Alu::Mov32, &[w], 0);
                }
                (Class::D, &[lo, hi]) if matches!(symbol, Symbol::Param(_)) => {
                    self.alu_to(r, Alu::Pack64, &[lo, hi], 0);
                }
                (Class::W, [_]) | (Class::D, [_, _]) => {}
                _ => return self.fail("unsupported: a parameter in such a register"),
            }
        }
        Ok(())
    }

    /// Copies the results of this function that are registers to where the caller reads them.
    pub(super) fn give_formals(&mut self) {
        for &(symbol, r) in &self.body.formals {
            let words = match symbol {
                Symbol::Ret(_) => self.words(symbol).unwrap_or_default().to_vec(),
                _ => continue,
            };
            match words[..] {
                [w] => self.alu_to(w, Alu::Mov32, &[r], 0),
                [lo, hi] => {
                    self.alu_to(lo, Alu::Trunc32, &[r], 0);
                    self.alu_to(hi, Alu::High32, &[r], 0);
                }
                _ => {}
            }
        }
    }

    /// A call of a function that CUDA's device runtime defines.
    fn system(&mut self, call: SystemCall, args: &[Operand], rets: &[Operand]) -> Res<()> {
        let mut words = Vec::new();
        for a in args {
            self.argument(a, None, &mut words)?;
        }
        let classes: &[Class] = match call {
            SystemCall::Printf => &[Class::D, Class::D],
            SystemCall::Malloc | SystemCall::Free => &[Class::D],
            SystemCall::Assert => &[Class::D, Class::D, Class::W, Class::D],
        };
        let mut left = words.into_iter();
        let mut s = Vec::new();
        for class in classes {
            let lo = left.next();
            let hi = if *class == Class::D { left.next() } else { lo };
            match (lo, hi) {
                (Some(lo), Some(hi)) if *class == Class::D => {
                    s.push(self.alu(Alu::Pack64, &[lo, hi], 0));
                }
                (Some(lo), Some(_)) => s.push(lo),
                _ => return self.bad_operands(),
            }
        }
        let result = match call {
            SystemCall::Printf => Some(Class::W),
            SystemCall::Malloc => Some(Class::D),
            SystemCall::Free | SystemCall::Assert => None,
        };
        let Some(class) = result else {
            self.push(Op::System(call), vec![], s, 0, 0);
            return Ok(());
        };
        let d = self.tmp(class);
        self.push(Op::System(call), vec![d], s, 0, 0);
        match rets {
            [] => Ok(()),
            [Operand::Sym(sym, 0)] => match (class, self.words(*sym).map(<[V]>::to_vec)) {
                (Class::W, Some(w)) if w.len() == 1 => {
                    self.alu_to(w[0], Alu::Mov32, &[d], 0);
                    Ok(())
                }
                (Class::D, Some(w)) if w.len() == 2 => {
                    self.alu_to(w[0], Alu::Trunc32, &[d], 0);
                    self.alu_to(w[1], Alu::High32, &[d], 0);
                    Ok(())
                }
                _ => self.bad_operands(),
            },
            [o @ Operand::Reg(_)] => self.settle(o, d, false),
            _ => self.bad_operands(),
        }
    }

    fn argument(&mut self, a: &Operand, bytes: Option<u32>, s: &mut Vec<V>) -> Res<()> {
        if let Operand::Sym(sym @ (Symbol::Local(_) | Symbol::Param(_) | Symbol::Ret(_)), 0) = a
            && let Some(w) = self.words(*sym)
        {
            if bytes.is_some_and(|b| b.div_ceil(4) as usize != w.len()) {
                return self.bad_operands();
            }
            s.extend_from_slice(w);
            return Ok(());
        }
        let wide = match a {
            Operand::Reg(r) => self.class(*r) == Class::D,
            _ => bytes == Some(8),
        };
        let v = self.src(a, if wide { Ty::B64 } else { Ty::B32 })?;
        if wide {
            let (lo, hi) = (
                self.alu(Alu::Trunc32, &[v], 0),
                self.alu(Alu::High32, &[v], 0),
            );
            s.extend([lo, hi]);
        } else {
            s.push(v);
        }
        Ok(())
    }
}
