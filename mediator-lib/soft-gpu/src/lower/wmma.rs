//! `wmma`: matrix instructions whose fragments the ISA leaves open (PTX ISA, "Matrix
//! multiply-accumulate operation using wmma instructions"). Here they are those of one or
//! two `mma` side by side; [`Fragment::place`] says where each element is.

use super::builder::{Lower, Res};
use super::matrix::shape;
use crate::ir::matrix::{Element, Fragment, Mma, Part, Product, Sum};
use crate::ir::{Class, Op, V};
use crate::ptx::ast::Operand;
use crate::ptx::types::Ty;

/// Shapes of elements; none for what `wmma` does not have.
fn shapes(e: Element) -> &'static [[u32; 3]] {
    match e {
        Element::F16 | Element::Bf16 | Element::S8 | Element::U8 => {
            &[[16, 16, 16], [8, 32, 16], [32, 8, 16]]
        }
        Element::Tf32 => &[[16, 16, 8]],
        Element::F64 => &[[8, 8, 4]],
        Element::S4 | Element::U4 => &[[8, 8, 32]],
        Element::B1 => &[[8, 8, 128]],
        Element::E4m3 | Element::E5m2 => &[],
    }
}

/// Whether some multiplication of this shape has such sums.
fn has_sums(s: [u32; 3], sum: Sum) -> bool {
    let k = s[2];
    match sum {
        Sum::F16 => k == 16,
        Sum::F32 => k == 16 || s == [16, 16, 8],
        Sum::S32 => matches!(k, 16 | 32 | 128),
        Sum::F64 => s == [8, 8, 4],
    }
}

/// The product that a `wmma` of this shape is made of.
fn unit(s: [u32; 3], elements: [Element; 2], sums: [Sum; 2]) -> Mma {
    Mma {
        rows: if s[0] == 8 && s[1] == 8 { 8 } else { 16 },
        k: s[2],
        elements,
        sums,
        saturate: false,
        product: Product::Multiply,
        quads: None,
        sparse: None,
    }
}

/// Registers of a fragment of A or B as the ISA counts them, and how many of them differ.
fn multiplicands(part: Part, s: [u32; 3], e: Element) -> (u32, u32) {
    let side = if part == Part::A { s[0] } else { s[1] };
    let exact = side / 8 * (s[2] / e.columns());
    (if e == Element::F16 { 8 } else { exact }, exact)
}

/// Registers of a fragment of C or D.
fn sum_registers(s: [u32; 3], sum: Sum) -> u32 {
    s[0] * s[1] / 64 * if sum == Sum::F16 { 1 } else { 2 }
}

impl<'a> Lower<'a> {
    pub(super) fn wmma(&mut self) -> Res<()> {
        match self.mods.first().copied() {
            Some("load") => self.wmma_memory(true),
            Some("store") => self.wmma_memory(false),
            Some("mma") => self.wmma_multiply(),
            _ => self.unsupported(),
        }
    }

    fn wmma_shape(&self) -> Res<[u32; 3]> {
        match self.mods.iter().find_map(|m| shape(m)) {
            Some(s) => Ok(s),
            None => self.unsupported(),
        }
    }

    fn wmma_memory(&mut self, load: bool) -> Res<()> {
        let s = self.wmma_shape()?;
        let part = match self.mods.get(1).copied() {
            Some("a") if load => Part::A,
            Some("b") if load => Part::B,
            Some("c") if load => Part::C,
            Some("d") if !load => Part::C,
            _ => return self.unsupported(),
        };
        let row_major = match (self.has("row"), self.has("col")) {
            (true, false) => true,
            (false, true) => false,
            _ => return self.bad_operands(),
        };
        let ty = self.mods.last().copied().unwrap_or("");
        let (bits, registers) = if part == Part::C {
            let Some(sum) = Sum::parse(ty).filter(|&sum| has_sums(s, sum)) else {
                return self.unsupported();
            };
            let bits = match sum {
                Sum::F16 => 16,
                Sum::F64 => 64,
                _ => 32,
            };
            (bits, sum_registers(s, sum))
        } else {
            let Some(e) = Element::parse(ty).filter(|e| shapes(*e).contains(&s)) else {
                return self.unsupported();
            };
            // Elements below a byte lie along the side that is multiplied.
            if e.bits() < 8 && row_major != (part == Part::A) {
                return self.unsupported();
            }
            (e.bits(), multiplicands(part, s, e).0)
        };
        let fragment = Fragment {
            part,
            shape: s,
            bits,
            row_major,
            registers,
        };
        let space = self.matrix_space()?;
        let (wide, class) = if bits == 64 {
            (Ty::B64, Class::D)
        } else {
            (Ty::B32, Class::W)
        };
        let (base, imm) = self.address(self.operand(usize::from(load))?)?;
        let stride = if self.count() > 2 {
            self.source(2, Ty::B32)?
        } else {
            let [m, n, k] = s;
            let [rows, columns] = match part {
                Part::A => [m, k],
                Part::B => [k, n],
                Part::C => [m, n],
            };
            self.imm(Class::W, if row_major { columns } else { rows }.into())
        };
        if load {
            self.copy_guard();
            let (out, d) = self.fragment_out(registers as usize, class)?;
            self.push(
                Op::WmmaLoad(space, fragment),
                d.clone(),
                vec![base, stride],
                0,
                imm,
            );
            return self.settle_all(out, d);
        }
        let mut sources = vec![base, stride];
        for o in self.elements(self.operand(1)?, registers as usize)? {
            sources.push(self.src(o, wide)?);
        }
        self.push(Op::WmmaStore(space, fragment), vec![], sources, 0, imm);
        Ok(())
    }

    fn wmma_multiply(&mut self) -> Res<()> {
        let s = self.wmma_shape()?;
        if ["rz", "rm", "rp"].iter().any(|m| self.has(m)) {
            return self.unsupported();
        }
        let types: Vec<&str> = self
            .mods
            .iter()
            .copied()
            .filter(|t| Element::parse(t).is_some() || Sum::parse(t).is_some())
            .collect();
        // With f16 multiplicands only the types of D and C are named.
        let (d, a, b, c) = match types[..] {
            [d, c] => (d, "f16", "f16", c),
            [d, a, b, c] => (d, a, b, c),
            _ => return self.unsupported(),
        };
        let (Some(a), Some(b), Some(c), Some(d)) = (
            Element::parse(a),
            Element::parse(b),
            Sum::parse(c),
            Sum::parse(d),
        ) else {
            return self.unsupported();
        };
        let alike = a == b || (a.integer() && b.integer() && a.bits() == b.bits());
        if !alike || !shapes(a).contains(&s) || !has_sums(s, c) || !has_sums(s, d) {
            return self.unsupported();
        }
        let kind = |sum| {
            matches!((a, sum), (Element::F16, Sum::F16 | Sum::F32))
                || matches!((a, sum), (Element::Bf16 | Element::Tf32, Sum::F32))
                || matches!((a, sum), (Element::F64, Sum::F64))
                || (sum == Sum::S32 && (a.integer() || a == Element::B1))
        };
        if !kind(c) || !kind(d) {
            return self.unsupported();
        }
        let mut mma = unit(s, [a, b], [c, d]);
        mma.saturate = self.has("satfinite");
        if a == Element::B1 {
            mma.product = if self.has("and") {
                Product::And
            } else {
                Product::Xor
            };
        }
        let wide = if a == Element::F64 { Ty::B64 } else { Ty::B32 };
        let class = if a == Element::F64 {
            Class::D
        } else {
            Class::W
        };
        let (na, ea) = multiplicands(Part::A, s, a);
        let (nb, eb) = multiplicands(Part::B, s, b);
        let mut left = self.wmma_sources(1, na, ea, wide)?;
        let mut right = self.wmma_sources(2, nb, eb, wide)?;
        let nc = sum_registers(s, c);
        let sums = self.wmma_sources(3, nc, nc, wide)?;
        // 8 rows and 32 columns: the transposed product.
        let [mut m, mut n, _] = s;
        if (m, n) == (8, 32) {
            std::mem::swap(&mut left, &mut right);
            std::mem::swap(&mut m, &mut n);
            mma.elements.swap(0, 1);
        }
        self.copy_guard();
        let (out, dst) = self.fragment_out(sum_registers(s, d) as usize, class)?;
        let [ra, rb, rc, rd] = mma.registers();
        let tiles = (m * n / (8 * mma.rows)) as usize;
        // Results go to registers of their own: a later tile may still read what D overwrites.
        let results: Vec<V> = (0..dst.len()).map(|_| self.tmp(class)).collect();
        for t in 0..tiles {
            let from = |list: &[V], each: usize, at: usize| -> Vec<V> {
                list.get(at * each..(at + 1) * each).unwrap_or(&[]).to_vec()
            };
            let mut sources = from(&left, ra, if m > 16 { t } else { 0 });
            sources.extend(from(&right, rb, if m > 16 { 0 } else { t }));
            sources.extend(from(&sums, rc, t));
            self.push(Op::Mma(mma), from(&results, rd, t), sources, 0, 0);
        }
        for (&to, &v) in dst.iter().zip(&results) {
            let mov = if class == Class::D {
                crate::ir::Alu::Mov64
            } else {
                crate::ir::Alu::Mov32
            };
            self.alu_to(to, mov, &[v], 0);
        }
        self.settle_all(out, dst)
    }

    /// The registers of an operand that differ.
    fn wmma_sources(&mut self, at: usize, n: u32, exact: u32, ty: Ty) -> Res<Vec<V>> {
        let mut out = Vec::new();
        let list: Vec<&'a Operand> = self.elements(self.operand(at)?, n as usize)?;
        for o in list.into_iter().take(exact as usize) {
            out.push(self.src(o, ty)?);
        }
        Ok(out)
    }
}
