//! Matrix instructions on the registers of a warp: `mma`, `ldmatrix`, `stmatrix`,
//! `movmatrix` (PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions").

use super::builder::{Lower, Res};
use crate::ir::matrix::{Element, Mma, Product, Sum};
use crate::ir::{Class, Op, V};
use crate::ptx::ast::Operand;
use crate::ptx::types::{Space, Ty};

/// `m16n8k32` as its three numbers.
pub(super) fn shape(s: &str) -> Option<[u32; 3]> {
    let (m, rest) = s.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k').unwrap_or((rest, "0"));
    Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
}

impl<'a> Lower<'a> {
    pub(super) fn mma(&mut self) -> Res<()> {
        let scaled = |m: &&str| m.starts_with("kind") || *m == "block_scale";
        if self.mods.iter().any(scaled) {
            return self.unsupported();
        }
        // Metadata in order is a promise: what it means is the same.
        let sparse = self.has("sp") || self.has("sp::ordered_metadata");
        let sparse = match sparse.then(|| self.operand(5)).transpose()? {
            None => None,
            Some(Operand::Imm(selector)) => Some(u32::try_from(*selector).unwrap_or(u32::MAX)),
            Some(_) => return self.bad_operands(),
        };
        let Some([m, 8, k]) = self.mods.iter().find_map(|m| shape(m)) else {
            return self.unsupported();
        };
        let orders: Vec<bool> = self
            .mods
            .iter()
            .filter(|m| matches!(**m, "row" | "col"))
            .map(|m| *m == "col")
            .collect();
        let [a_col, b_col] = orders[..] else {
            return self.unsupported();
        };
        let types: Vec<&str> = self
            .mods
            .iter()
            .copied()
            .filter(|t| Element::parse(t).is_some() || Sum::parse(t).is_some())
            .collect();
        let [d, a, b, c] = types[..] else {
            return self.unsupported();
        };
        let (Some(a), Some(b), Some(c), Some(d)) = (
            Element::parse(a),
            Element::parse(b),
            Sum::parse(c),
            Sum::parse(d),
        ) else {
            return self.unsupported();
        };
        let quads = (m == 8 && k == 4 && a == Element::F16).then_some([a_col, b_col]);
        let mma = Mma {
            rows: m,
            k,
            elements: [a, b],
            sums: [c, d],
            saturate: self.has("satfinite"),
            product: match () {
                () if self.has("and") => Product::And,
                () if self.has("xor") => Product::Xor,
                () => Product::Multiply,
            },
            quads,
            sparse,
        };
        if !mma.valid() || (quads.is_none() && (a_col || !b_col)) || !matches!(m, 8 | 16) {
            return self.unsupported();
        }
        let operands = if sparse.is_some() { 6 } else { 4 };
        if self.count() != operands || sparse.is_some_and(|s| s >= mma.selectors()) {
            return self.bad_operands();
        }
        self.multiply_fragments(mma)
    }

    fn multiply_fragments(&mut self, mma: Mma) -> Res<()> {
        let n = mma.registers();
        let wide = if mma.elements[0] == Element::F64 {
            Ty::B64
        } else {
            Ty::B32
        };
        let class = if wide == Ty::B64 { Class::D } else { Class::W };
        let mut s = Vec::with_capacity(n[0] + n[1] + n[2] + 1);
        for (at, count) in [(1, n[0]), (2, n[1]), (3, n[2])] {
            for o in self.elements(self.operand(at)?, count)? {
                s.push(self.src(o, wide)?);
            }
        }
        if mma.sparse.is_some() {
            s.push(self.source(4, Ty::B32)?);
        }
        self.copy_guard();
        let (out, d) = self.fragment_out(n[3], class)?;
        self.push(Op::Mma(mma), d.clone(), s, 0, 0);
        self.settle_all(out, d)
    }

    /// The operands of a fragment that is written, and their registers.
    pub(super) fn fragment_out(
        &mut self,
        n: usize,
        class: Class,
    ) -> Res<(Vec<&'a Operand>, Vec<V>)> {
        let out = self.elements(self.operand(0)?, n)?;
        let mut d = Vec::with_capacity(n);
        for o in &out {
            d.push(self.dst(o, class)?);
        }
        Ok((out, d))
    }

    pub(super) fn settle_all(&mut self, out: Vec<&Operand>, d: Vec<V>) -> Res<()> {
        for (o, v) in out.into_iter().zip(d) {
            self.settle(o, v, false)?;
        }
        Ok(())
    }

    /// State space of a matrix in shared memory, or generic.
    pub(super) fn matrix_space(&self) -> Res<Space> {
        match self.mods.iter().find_map(|m| Space::parse(m)) {
            None => Ok(Space::Generic),
            Some(s @ (Space::Shared | Space::Global)) => Ok(s),
            Some(_) => self.unsupported(),
        }
    }

    /// Number of 8 x 8 matrices of 16-bit elements.
    fn matrix_count(&self) -> Res<usize> {
        if !self.has("m8n8") || !self.has("b16") {
            return self.unsupported();
        }
        match self.mods.iter().find_map(|m| match *m {
            "x1" => Some(1),
            "x2" => Some(2),
            "x4" => Some(4),
            _ => None,
        }) {
            Some(n) => Ok(n),
            None => self.unsupported(),
        }
    }

    pub(super) fn ldmatrix(&mut self) -> Res<()> {
        let n = self.matrix_count()?;
        let space = self.matrix_space()?;
        let (base, imm) = self.address(self.operand(1)?)?;
        self.copy_guard();
        let (out, d) = self.fragment_out(n, Class::W)?;
        let trans = self.has("trans").into();
        self.push(Op::LdMatrix(space), d.clone(), vec![base], trans, imm);
        self.settle_all(out, d)
    }

    pub(super) fn stmatrix(&mut self) -> Res<()> {
        let n = self.matrix_count()?;
        let space = self.matrix_space()?;
        let (base, imm) = self.address(self.operand(0)?)?;
        let mut s = vec![base];
        for o in self.elements(self.operand(1)?, n)? {
            s.push(self.src(o, Ty::B32)?);
        }
        let trans = self.has("trans").into();
        self.push(Op::StMatrix(space), vec![], s, trans, imm);
        Ok(())
    }

    pub(super) fn movmatrix(&mut self) -> Res<()> {
        if !(self.has("m8n8") && self.has("trans") && self.has("b16")) {
            return self.unsupported();
        }
        let a = self.source(1, Ty::B32)?;
        let o = self.operand(0)?;
        let d = self.dst(o, Class::W)?;
        self.push(Op::MovMatrix, vec![d], vec![a], 0, 0);
        self.settle(o, d, false)
    }
}
