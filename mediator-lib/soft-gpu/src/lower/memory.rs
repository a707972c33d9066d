//! Loads, stores and atomics.

use super::builder::{Lower, Res};
use crate::exec::whole::WHOLE_BYTES;
use crate::ir::{Access, Alu, AtomOp, AtomTy, Class, Op, Source, V};
use crate::ptx::ast::{Operand, Symbol};
use crate::ptx::types::{Space, Ty};

impl Lower<'_> {
    pub(super) fn memory(&mut self, name: &str) -> Res<()> {
        self.func.may_wait |= name == "atom"
            || ["volatile", "relaxed", "acquire", "mmio"]
                .iter()
                .any(|m| self.has(m));
        if self.has("v8") && !matches!(name, "atom" | "red") {
            return self.unsupported();
        }
        let space = self
            .mods
            .iter()
            .find_map(|m| Space::parse(m))
            .unwrap_or(Space::Generic);
        match name {
            "ld" | "ldu" => self.load(space),
            "st" => self.store(space),
            _ => self.atom(name == "red", space),
        }
    }

    fn vector_count(&self) -> usize {
        self.mods
            .iter()
            .find_map(|m| match *m {
                "v2" => Some(2),
                "v4" => Some(4),
                _ => None,
            })
            .unwrap_or(1)
    }

    /// Whether other threads must see a vector's elements change at once. The ISA promises that for each element only
    /// (PTX ISA, "Vector Data-types" of the memory consistency model), but GPUs access up to 16 bytes at once and
    /// programs build on it: CUB's prefix sums hand a value and its state on in one vector.
    fn whole(&self, count: usize, bytes: u32) -> bool {
        const QUALIFIERS: [&str; 8] = [
            "volatile", "relaxed", "acquire", "release", "mmio", "cg", "cv", "wt",
        ];
        count > 1 && count as u32 * bytes <= WHOLE_BYTES && QUALIFIERS.iter().any(|m| self.has(m))
    }

    pub(super) fn elements<'o>(&self, o: &'o Operand, n: usize) -> Res<Vec<&'o Operand>> {
        match o {
            Operand::Vector(v) if v.len() == n => Ok(v.iter().collect()),
            o if n == 1 => Ok(vec![o]),
            _ => self.bad_operands(),
        }
    }

    /// A 128-bit register of an operand, as its halves.
    fn halves(&self, o: &Operand) -> Res<[V; 2]> {
        match (o, self.high(o)) {
            (Operand::Reg(lo), Some(hi)) => Ok([*lo, hi]),
            _ => self.bad_operands(),
        }
    }

    /// `ld` and `st` of `.b128`: two elements of 64 bits.
    fn access128(&mut self, space: Space, store: bool) -> Res<()> {
        if self.vector_count() != 1
            || matches!(space, Space::Param)
            || (store && space == Space::Const)
        {
            return self.unsupported();
        }
        let access = Access {
            space,
            bytes: 8,
            signed: false,
            count: 2,
            whole: self.whole(2, 8),
        };
        let (register, address) = if store { (1, 0) } else { (0, 1) };
        let halves = self.halves(self.operand(register)?)?;
        let (base, imm) = self.address(self.operand(address)?)?;
        if store {
            self.push(
                Op::St(access),
                vec![],
                vec![base, halves[0], halves[1]],
                0,
                imm,
            );
        } else {
            self.push(Op::Ld(access), halves.to_vec(), vec![base], 0, imm);
        }
        Ok(())
    }

    /// `atom.exch.b128` and `atom.cas.b128`.
    fn atom128(&mut self, space: Space) -> Res<()> {
        let cas = self.has("cas");
        let operands = if cas { 2 } else { 1 };
        let hint = usize::from(self.has("L2::cache_hint"));
        if !(cas || self.has("exch")) || self.count() != 2 + operands + hint {
            return self.unsupported();
        }
        let (base, imm) = self.address(self.operand(1)?)?;
        let mut s = vec![base];
        for k in 0..operands {
            s.extend(self.halves(self.operand(2 + k)?)?);
        }
        let d = match self.operand(0)? {
            Operand::Sink => vec![self.tmp(Class::D), self.tmp(Class::D)],
            o => self.halves(o)?.to_vec(),
        };
        self.push(Op::Atom128(space), d, s, 0, imm);
        Ok(())
    }

    fn load(&mut self, space: Space) -> Res<()> {
        let ty = self.ty()?;
        if ty == Ty::B128 {
            return self.access128(space, false);
        }
        if ty == Ty::Pred {
            return self.unsupported();
        }
        let n = self.vector_count();
        let dst = self.elements(self.operand(0)?, n)?;
        let bytes = ty.bytes();
        let class = if bytes == 8 { Class::D } else { Class::W };
        let address = self.operand(1)?;
        if n > 1 {
            self.copy_guard();
        }
        if let Some((symbol, offset)) = self.param_address(space, address) {
            let mut values = Vec::new();
            for k in 0..n {
                let at = offset.wrapping_add((k as i64) * i64::from(bytes));
                values.push(self.read_param(symbol, at, ty)?);
            }
            for (o, v) in dst.into_iter().zip(values) {
                self.settle(o, v, ty.signed())?;
            }
            return Ok(());
        }
        let (base, imm) = self.address(address)?;
        let space = if space == Space::Param {
            Space::Generic
        } else {
            space
        };
        let mut d = Vec::new();
        for o in &dst {
            d.push(self.dst(o, class)?);
        }
        // A register that is the address too must not change between elements.
        let access = Access {
            space,
            bytes: bytes as u8,
            signed: ty.signed(),
            count: n as u8,
            whole: self.whole(n, bytes),
        };
        self.push(Op::Ld(access), d.clone(), vec![base], 0, imm);
        for (o, v) in dst.into_iter().zip(d) {
            self.settle(o, v, ty.signed())?;
        }
        Ok(())
    }

    /// A symbolic address in the parameter space that is held in registers.
    fn param_address(&self, space: Space, o: &Operand) -> Option<(Symbol, i64)> {
        let Operand::Mem(base, offset) = o else {
            return None;
        };
        let Operand::Sym(s, more) = **base else {
            return None;
        };
        let offset = offset.wrapping_add(more);
        match s {
            Symbol::Param(_) | Symbol::Ret(_) if space == Space::Param => Some((s, offset)),
            Symbol::Local(_) if self.words(s).is_some() => Some((s, offset)),
            _ => None,
        }
    }

    fn read_param(&mut self, s: Symbol, offset: i64, ty: Ty) -> Res<V> {
        let bytes = ty.bytes();
        if let Symbol::Param(i) = s
            && self.f.entry
        {
            let Some(p) = self.f.params.get(i as usize) else {
                return self.bad_operands();
            };
            let end = offset.checked_add(i64::from(bytes));
            if offset < 0 || end.is_none_or(|e| e > i64::from(p.bytes)) {
                return self.fail(format!("offset {offset} is outside parameter '{}'", p.name));
            }
            let class = if bytes == 8 { Class::D } else { Class::W };
            return Ok(self.constant(
                class,
                Source::Param(p.offset + offset as u32, bytes as u8, ty.signed()),
            ));
        }
        let (k, shift, words) = self.word_at(s, offset, bytes)?;
        if bytes == 8 {
            return Ok(self.alu(Alu::Pack64, &[words[k], words[k + 1]], 0));
        }
        let mut v = words[k];
        if shift > 0 {
            let c = self.imm(Class::W, shift.into());
            v = self.alu(Alu::ShrU32, &[v, c], 0);
        }
        Ok(match (bytes, ty.signed()) {
            (1, true) => self.alu(Alu::Sext8, &[v], 0),
            (1, false) => self.alu(Alu::Zext8, &[v], 0),
            (2, true) => self.alu(Alu::Sext16, &[v], 0),
            (2, false) => self.alu(Alu::Zext16, &[v], 0),
            _ => v,
        })
    }

    fn word_at(&self, s: Symbol, offset: i64, bytes: u32) -> Res<(usize, u32, Vec<V>)> {
        let Some(words) = self.words(s) else {
            return self.bad_operands();
        };
        let end = offset.checked_add(i64::from(bytes)).unwrap_or(i64::MAX);
        if offset < 0 || end > 4 * words.len() as i64 {
            return self.fail(format!("offset {offset} is outside the parameter"));
        }
        if offset % i64::from(bytes.min(4)) != 0 {
            return self.fail(format!("offset {offset} is not a multiple of {bytes}"));
        }
        Ok((offset as usize / 4, (offset as u32 % 4) * 8, words.to_vec()))
    }

    fn store(&mut self, space: Space) -> Res<()> {
        let ty = self.ty()?;
        if ty == Ty::B128 {
            return self.access128(space, true);
        }
        if ty == Ty::Pred {
            return self.unsupported();
        }
        let n = self.vector_count();
        let bytes = ty.bytes();
        let mut values = Vec::new();
        for o in self.elements(self.operand(1)?, n)? {
            values.push(self.src(o, ty)?);
        }
        let address = self.operand(0)?;
        if let Some((symbol, offset)) = self.param_address(space, address) {
            for (k, v) in values.into_iter().enumerate() {
                let at = offset.wrapping_add((k as i64) * i64::from(bytes));
                let (w, shift, words) = self.word_at(symbol, at, bytes)?;
                match bytes {
                    8 => {
                        self.alu_to(words[w], Alu::Trunc32, &[v], 0);
                        self.alu_to(words[w + 1], Alu::High32, &[v], 0);
                    }
                    4 => self.alu_to(words[w], Alu::Mov32, &[v], 0),
                    2 => self.alu_to(words[w], Alu::ShlOr, &[v, words[w]], shift | (0xffff << 8)),
                    _ => self.alu_to(words[w], Alu::ShlOr, &[v, words[w]], shift | (0xff << 8)),
                }
            }
            return Ok(());
        }
        if matches!(space, Space::Param | Space::Const) {
            return self.unsupported();
        }
        let (base, imm) = self.address(address)?;
        let access = Access {
            space,
            bytes: bytes as u8,
            signed: false,
            count: n as u8,
            whole: self.whole(n, bytes),
        };
        let mut s = vec![base];
        s.extend(values);
        self.push(Op::St(access), vec![], s, 0, imm);
        Ok(())
    }

    fn atom(&mut self, red: bool, space: Space) -> Res<()> {
        if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
            return self.unsupported();
        }
        let ty = self.ty()?;
        if ty == Ty::B128 && !red {
            return self.atom128(space);
        }
        let op = self.mods.iter().find_map(|m| {
            Some(match *m {
                "add" => AtomOp::Add,
                "and" => AtomOp::And,
                "or" => AtomOp::Or,
                "xor" => AtomOp::Xor,
                "exch" => AtomOp::Exch,
                "cas" => AtomOp::Cas,
                "inc" => AtomOp::Inc,
                "dec" => AtomOp::Dec,
                "min" => AtomOp::Min,
                "max" => AtomOp::Max,
                _ => return None,
            })
        });
        let Some(op) = op else {
            return self.unsupported();
        };
        let aty = match ty {
            Ty::U32 | Ty::B32 => AtomTy::U32,
            Ty::S32 => AtomTy::S32,
            Ty::U64 | Ty::B64 => AtomTy::U64,
            Ty::S64 => AtomTy::S64,
            Ty::F32 => AtomTy::F32,
            Ty::F64 => AtomTy::F64,
            Ty::B16 => AtomTy::B16,
            Ty::F16 => AtomTy::F16,
            Ty::F16x2 => AtomTy::F16x2,
            Ty::Bf16 => AtomTy::Bf16,
            Ty::Bf16x2 => AtomTy::Bf16x2,
            _ => return self.unsupported(),
        };
        let n = if self.has("v8") {
            8
        } else {
            self.vector_count()
        };
        let half = matches!(
            aty,
            AtomTy::F16 | AtomTy::F16x2 | AtomTy::Bf16 | AtomTy::Bf16x2
        );
        let float = half || matches!(aty, AtomTy::F32 | AtomTy::F64);
        let ordered = matches!(op, AtomOp::Min | AtomOp::Max);
        // Only vectors of halves have a minimum and a maximum.
        if (float && !matches!(op, AtomOp::Add | AtomOp::Exch) && !(half && ordered && n > 1))
            || (aty == AtomTy::B16 && op != AtomOp::Cas)
            || (ty.bytes() == 8 && matches!(op, AtomOp::Inc | AtomOp::Dec))
            || (n > 1
                && (!float || op == AtomOp::Exch || aty == AtomTy::F64 || space == Space::Shared))
            || n * ty.bytes() as usize > 16
        {
            return self.unsupported();
        }
        let first = if red { 0 } else { 1 };
        let (base, imm) = self.address(self.operand(first)?)?;
        let operands = if op == AtomOp::Cas { 2 } else { 1 };
        let class = if ty.bytes() == 8 { Class::D } else { Class::W };
        let mut sources = Vec::new();
        for k in 0..operands {
            let list = self.elements(self.operand(first + 1 + k)?, n)?;
            let list: Res<Vec<V>> = list.into_iter().map(|o| self.src(o, ty)).collect();
            sources.push(list?);
        }
        let results = if red {
            vec![&Operand::Sink; n]
        } else {
            self.elements(self.operand(0)?, n)?
        };
        if n > 1 {
            self.copy_guard();
        }
        // Each element of a vector is an atomic operation of its own. All results go to
        // registers of their own first: one may be the address.
        let mut settle = Vec::new();
        for (k, o) in results.into_iter().enumerate() {
            let mut s = vec![base];
            s.extend(sources.iter().filter_map(|l| l.get(k)));
            let imm = imm.wrapping_add((k as i64) * i64::from(ty.bytes()));
            if matches!(o, Operand::Sink) {
                self.push(Op::Atom(space, op, aty), vec![], s, 0, imm);
                continue;
            }
            let d = if n > 1 {
                self.tmp(class)
            } else {
                self.dst(o, class)?
            };
            self.push(Op::Atom(space, op, aty), vec![d], s, 0, imm);
            settle.push((o, d));
        }
        for (o, d) in settle {
            self.settle(o, d, ty.signed())?;
        }
        Ok(())
    }
}
