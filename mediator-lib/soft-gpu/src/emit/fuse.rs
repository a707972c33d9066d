//! Finds groups of operations that run as one.

use crate::analysis::shapes::Shapes;
use crate::exec::fast::Chain;
use crate::ir::{Alu, Class, Func, Inst, Op, Source, V};
use crate::ptx::types::Space;

/// Number of operations and of definitions that name each register.
pub struct Uses {
    reads: Vec<u32>,
    writes: Vec<u32>,
}

impl Uses {
    /// Counts over a function.
    pub fn new(f: &Func) -> Uses {
        let mut u = Uses {
            reads: vec![0; f.vregs.len()],
            writes: vec![0; f.vregs.len()],
        };
        for b in &f.blocks {
            for i in &b.insts {
                i.s.iter().for_each(|&v| u.reads[v as usize] += 1);
                i.d.iter().for_each(|&v| u.writes[v as usize] += 1);
                if let Some((g, _)) = i.guard {
                    u.reads[g as usize] += 1;
                }
            }
        }
        // Results of functions are read by their callers.
        f.rets.iter().for_each(|&v| u.reads[v as usize] += 2);
        u
    }

    /// Defined once and read once: gone after that read.
    fn only_between(&self, v: V) -> bool {
        self.reads[v as usize] == 1 && self.writes[v as usize] == 1
    }
}

/// A chain found in a block.
pub struct Found {
    /// Offsets.
    pub chain: Chain,
    /// Operations it replaces.
    pub length: usize,
    /// Address registers of the two factors.
    pub addresses: [V; 2],
    /// Strides of the addresses.
    pub strides: [i64; 2],
    /// Whether the addresses are in shared memory.
    pub shared: [bool; 2],
    /// First sum.
    pub first: V,
    /// Last sum.
    pub last: V,
}

fn word_load(i: &Inst, shapes: &Shapes) -> Option<(V, i64, bool, i32)> {
    let Op::Ld(a) = i.op else { return None };
    let stride = shapes.of[*i.s.first()? as usize].stride()?;
    let shared = match a.space {
        Space::Shared => true,
        Space::Global | Space::Const | Space::Generic => false,
        _ => return None,
    };
    let plain = a.bytes == 4 && a.count == 1 && i.guard.is_none() && matches!(stride, 0 | 4);
    plain.then_some((i.s[0], stride, shared, i32::try_from(i.imm).ok()?))
}

/// The chain that begins at `insts[0]`, if there is one.
pub fn find(f: &Func, insts: &[Inst], shapes: &Shapes, uses: &Uses) -> Option<Found> {
    let mut found: Option<Found> = None;
    let mut at = 0;
    while let [l1, l2, fma, ..] = insts.get(at..)? {
        let Some(group) = group(f, l1, l2, fma, shapes, uses) else {
            break;
        };
        let (addresses, strides, shared, offsets, sum, result) = group;
        match &mut found {
            None => {
                found = Some(Found {
                    chain: Chain {
                        offsets: vec![offsets],
                        span: [[offsets[0]; 2], [offsets[1]; 2]],
                    },
                    length: 3,
                    addresses,
                    strides,
                    shared,
                    first: sum,
                    last: result,
                });
            }
            Some(c) => {
                let dead = c.last == result || uses.only_between(c.last);
                if c.addresses != addresses || c.strides != strides || c.last != sum || !dead {
                    break;
                }
                c.chain.offsets.push(offsets);
                for (span, o) in c.chain.span.iter_mut().zip(offsets) {
                    *span = [span[0].min(o), span[1].max(o)];
                }
                c.length += 3;
                c.last = result;
            }
        }
        at += 3;
    }
    // A span must stay far from overflow in the check of its range.
    found.filter(|c| {
        c.chain
            .span
            .iter()
            .all(|[lo, hi]| i64::from(*hi) - i64::from(*lo) < 1 << 20)
    })
}

type Group = ([V; 2], [i64; 2], [bool; 2], [i32; 2], V, V);

fn group(
    f: &Func,
    l1: &Inst,
    l2: &Inst,
    fma: &Inst,
    shapes: &Shapes,
    uses: &Uses,
) -> Option<Group> {
    let (a1, s1, h1, o1) = word_load(l1, shapes)?;
    let (a2, s2, h2, o2) = word_load(l2, shapes)?;
    if fma.op != Op::Alu(Alu::FmaF32) || fma.guard.is_some() {
        return None;
    }
    let (v1, v2) = (l1.d[0], l2.d[0]);
    let (x, y, sum, result) = (fma.s[0], fma.s[1], fma.s[2], fma.d[0]);
    let pure = |v: V| {
        f.vregs[v as usize].class == Class::W && f.vregs[v as usize].source == Source::Defined
    };
    let safe = v1 != v2
        && sum != v1
        && sum != v2
        && ((x, y) == (v1, v2) || (x, y) == (v2, v1))
        && uses.only_between(v1)
        && uses.only_between(v2)
        && pure(result)
        && v1 != a2
        && result != a1
        && result != a2;
    // Uniform results are held in pairs: leave them alone.
    let vector = shapes.of[result as usize].stride().is_none();
    // The product commutes, so the order of the factors does not matter.
    (safe && vector).then_some(([a1, a2], [s1, s2], [h1, h2], [o1, o2], sum, result))
}
