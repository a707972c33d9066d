//! Video instructions: scalar ones, and those on two and four parts at once. Of the latter compilers emit `vabsdiff4`.

use super::builder::{Lower, Res};
use crate::exec::video::{parts, word};
use crate::ir::{Alu, Class, V};
use crate::ptx::ast::Operand;
use crate::ptx::types::Ty;

impl Lower<'_> {
    pub(super) fn video(&mut self, name: &str) -> Res<()> {
        let number = match name {
            "vadd" => word::ADD,
            "vsub" => word::SUB,
            "vabsdiff" => word::ABSDIFF,
            "vmin" => word::MIN,
            "vmax" => word::MAX,
            "vshl" => word::SHL,
            "vshr" => word::SHR,
            "vset" => word::SET,
            "vmad" => word::MAD,
            _ => return self.unsupported(),
        };
        let types: Vec<Ty> = self.mods.iter().filter_map(|m| Ty::parse(m)).collect();
        if types.iter().any(|t| !matches!(t, Ty::U32 | Ty::S32)) {
            return self.unsupported();
        }
        // `vset` names no type of the result, which is 0 or 1.
        let (d, a, b) = match (number, &types[..]) {
            (word::SET, [a, b]) => (Ty::U32, *a, *b),
            (n, [d, a, b]) if n != word::SET => (*d, *a, *b),
            _ => return self.bad_operands(),
        };
        let mut x = number;
        for (ty, bit) in [
            (a, word::A_SIGNED),
            (b, word::B_SIGNED),
            (d, word::D_SIGNED),
        ] {
            if ty.signed() {
                x |= bit;
            }
        }
        for (m, bits) in [
            ("sat", word::SAT),
            ("wrap", word::WRAP),
            ("add", 1 << word::SECOND),
            ("min", 2 << word::SECOND),
            ("max", 3 << word::SECOND),
            ("shr7", 1 << word::SHIFT),
            ("shr15", 2 << word::SHIFT),
            ("po", word::PLUS_ONE),
            ("ne", 1 << word::COMPARE),
            ("lt", 2 << word::COMPARE),
            ("le", 3 << word::COMPARE),
            ("gt", 4 << word::COMPARE),
            ("ge", 5 << word::COMPARE),
        ] {
            if self.has(m) {
                x |= bits;
            }
        }
        let (va, pa, na) = self.video_source(1)?;
        let (vb, pb, nb) = self.video_source(2)?;
        x |= (pa << word::A) | (pb << word::B);
        let second = x >> word::SECOND & 3 != 0;
        let (to, part) = match *self.operand(0)? {
            Operand::Part { reg, part, .. } if part < 6 && number != word::MAD => (reg, part),
            Operand::Reg(r) => (r, 6),
            _ => return self.bad_operands(),
        };
        x |= part << word::D;
        let third = second || part < 6 || number == word::MAD;
        if self.count() != if third { 4 } else { 3 } || (second && part < 6) {
            return self.bad_operands();
        }
        let (c, nc) = if third {
            let (v, part, negated) = self.video_source(3)?;
            if part < 6 {
                return self.bad_operands();
            }
            (v, negated)
        } else {
            (self.imm(Class::W, 0), false)
        };
        if (na || nb || nc) && number != word::MAD {
            return self.bad_operands();
        }
        if na != nb {
            x |= word::NEGATE_PRODUCT;
        }
        if nc {
            x |= word::NEGATE_C;
        }
        if a.signed() || b.signed() || na != nb || nc {
            x |= word::SIGNED;
        }
        let to = Operand::Reg(to);
        let r = self.dst(&to, Class::W)?;
        self.alu_to(r, Alu::Video, &[va, vb, c], x);
        self.settle(&to, r, false)
    }

    /// `vadd2`, `vadd4` and their like: `d{.mask}, a{.asel}, b{.bsel}, c`.
    pub(super) fn video_parts(&mut self, name: &str) -> Res<()> {
        let bytes = name.ends_with('4');
        let number = match name.trim_end_matches(['2', '4']) {
            "vadd" => word::ADD,
            "vsub" => word::SUB,
            "vavrg" => parts::AVERAGE,
            "vabsdiff" => word::ABSDIFF,
            "vmin" => word::MIN,
            "vmax" => word::MAX,
            _ => word::SET,
        };
        let types: Vec<Ty> = self.mods.iter().filter_map(|m| Ty::parse(m)).collect();
        if types.iter().any(|t| !matches!(t, Ty::U32 | Ty::S32)) || self.count() != 4 {
            return self.unsupported();
        }
        let (d, a, b) = match (number, &types[..]) {
            (word::SET, [a, b]) => (Ty::U32, *a, *b),
            (n, [d, a, b]) if n != word::SET => (*d, *a, *b),
            _ => return self.bad_operands(),
        };
        let mut x = number | if bytes { parts::BYTES } else { 0 };
        for (on, bit) in [
            (a.signed(), parts::A_SIGNED),
            (b.signed(), parts::B_SIGNED),
            (d.signed(), parts::D_SIGNED),
            (self.has("sat"), parts::SAT),
            (self.has("add"), parts::SUM),
        ] {
            if on {
                x |= bit;
            }
        }
        let comparison = ["eq", "ne", "lt", "le", "gt", "ge"]
            .iter()
            .position(|c| self.has(c));
        if comparison.is_some() != (number == word::SET) {
            return self.bad_operands();
        }
        x |= (comparison.unwrap_or(0) as u32) << parts::COMPARE;
        let (to, mask) = match *self.operand(0)? {
            Operand::Reg(r) => (r, if bytes { 15 } else { 3 }),
            Operand::Part {
                reg,
                part,
                negate: false,
            } => (reg, self.mask(part, bytes)?),
            _ => return self.bad_operands(),
        };
        x |= mask << parts::MASK;
        let (ra, rb) = (self.register(1)?, self.register(2)?);
        let va = self.chosen(1, ra, rb, bytes, 0x3210)?;
        let vb = self.chosen(2, ra, rb, bytes, 0x7654)?;
        let c = self.source(3, Ty::B32)?;
        let to = Operand::Reg(to);
        let r = self.dst(&to, Class::W)?;
        self.alu_to(r, Alu::VideoParts, &[va, vb, c], x);
        self.settle(&to, r, false)
    }

    /// The parts that a mask names, a bit each.
    fn mask(&self, part: u32, bytes: bool) -> Res<u32> {
        let halves = part >> 27 & 1 != 0;
        match part {
            0..=3 if bytes => Ok(1 << part),
            4..=5 if !bytes => Ok(1 << (part - 4)),
            _ if part >> 28 != 0 && halves != bytes => Ok((0..part >> 28).fold(0, |m, k| {
                m | 1 << (part >> (4 * k) & if bytes { 3 } else { 1 })
            })),
            _ => self.bad_operands(),
        }
    }

    /// The register of a source, whatever is selected of it.
    fn register(&mut self, at: usize) -> Res<V> {
        match self.operand(at)? {
            Operand::Part {
                reg, negate: false, ..
            } => self.src(&Operand::Reg(*reg), Ty::B32),
            o => self.src(o, Ty::B32),
        }
    }

    /// The parts of `a` and `b` that operand `at` selects, as one register. Bytes are numbered through both.
    fn chosen(&mut self, at: usize, a: V, b: V, bytes: bool, all: u32) -> Res<V> {
        let order = match *self.operand(at)? {
            Operand::Part { part, .. } => match (part >> 28, part >> 27 & 1 != 0) {
                (4, false) if bytes => part & 0xffff,
                (2, true) if !bytes => {
                    let half = |k: u32| part >> (4 * k) & 3;
                    let pair = |k: u32| (2 * half(k)) | ((2 * half(k) + 1) << 4);
                    pair(0) | (pair(1) << 8)
                }
                _ => return self.bad_operands(),
            },
            _ => all,
        };
        Ok(match order {
            0x3210 => a,
            0x7654 => b,
            _ => self.alu(Alu::PrmtConst, &[a, b], order),
        })
    }

    /// A source, which part of it counts, and whether it is negated.
    fn video_source(&mut self, at: usize) -> Res<(V, u32, bool)> {
        match self.operand(at)? {
            Operand::Part { reg, part, negate } if *part <= 6 => {
                let v = self.src(&Operand::Reg(*reg), Ty::B32)?;
                Ok((v, *part, *negate))
            }
            o => Ok((self.src(o, Ty::B32)?, 6, false)),
        }
    }
}
