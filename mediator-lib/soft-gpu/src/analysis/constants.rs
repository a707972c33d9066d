//! Registers that only ever hold one number, or what else never changes.

use std::collections::HashMap;

use crate::exec::float::ftz;
use crate::ir::{Alu, Class, Func, Inst, Op, Source, Term, V, VReg};

/// The number of each register that is a constant, or becomes one by its only definition.
pub fn of(f: &Func) -> Vec<Option<u64>> {
    let source = |v: V| match f.vregs.get(v as usize)?.source {
        Source::Const(c) => Some(c),
        _ => None,
    };
    let mut values: Vec<Option<u64>> = (0..f.vregs.len() as V).map(source).collect();
    let mut defined = vec![0u32; f.vregs.len()];
    for i in f.blocks.iter().flat_map(|b| &b.insts) {
        for &d in &i.d {
            defined[d as usize] += 1;
            let one = match (i.op, i.guard, i.s.first()) {
                (Op::Alu(Alu::Mov32 | Alu::Mov64), None, Some(&s)) => source(s),
                _ => None,
            };
            values[d as usize] = one.filter(|_| defined[d as usize] == 1);
        }
    }
    for &p in &f.params {
        values[p as usize] = None;
    }
    // Operands of `.ftz` operations: those of approximations are flushed first.
    for i in f.blocks.iter().flat_map(|b| &b.insts) {
        if let (Op::Alu(Alu::FtzF32), None, &[d], &[s]) = (i.op, i.guard, &i.d[..], &i.s[..])
            && defined[d as usize] == 1
            && let Some(c) = values[s as usize]
        {
            values[d as usize] = Some(ftz(f32::from_bits(c as u32)).to_bits().into());
        }
    }
    values
}

/// Has operations take what never changes (constants, parameters, numbers of threads) from where it stands, in place
/// of registers that become it by their only definition, and drops these definitions. Who reads such a register before
/// it is written finds the value as well.
pub fn propagate(f: &mut Func) {
    let mut names: Vec<Option<V>> = vec![None; f.vregs.len()];
    let numbers = of(f);
    let mut known: HashMap<(Class, u64), V> = HashMap::new();
    for (v, r) in (0..).zip(&f.vregs) {
        if let Source::Const(c) = r.source {
            known.entry((r.class, c)).or_insert(v);
        }
    }
    let mut defined = vec![0u32; f.vregs.len()];
    for &d in f.blocks.iter().flat_map(|b| &b.insts).flat_map(|i| &i.d) {
        defined[d as usize] += 1;
    }
    // Callers write parameters and find results in registers of their own.
    for &v in f.params.iter().chain(&f.rets) {
        defined[v as usize] = u32::MAX;
    }
    for i in f.blocks.iter().flat_map(|b| &b.insts) {
        let (Op::Alu(Alu::Mov32 | Alu::Mov64 | Alu::FtzF32), None, &[d], &[s]) =
            (i.op, i.guard, &i.d[..], &i.s[..])
        else {
            continue;
        };
        if defined[d as usize] != 1 {
            continue;
        }
        let s = names[s as usize].unwrap_or(s);
        let class = f.vregs[d as usize].class;
        if let Some(c) = numbers[d as usize] {
            names[d as usize] = Some(*known.entry((class, c)).or_insert_with(|| {
                f.vregs.push(VReg {
                    class,
                    source: Source::Const(c),
                });
                f.vregs.len() as V - 1
            }));
        } else if i.op != Op::Alu(Alu::FtzF32) && f.vregs[s as usize].source != Source::Defined {
            names[d as usize] = Some(s);
        }
    }
    let name = |v: V| names.get(v as usize).copied().flatten();
    let stays = |i: &Inst| !i.d.iter().any(|&d| name(d).is_some());
    for block in &mut f.blocks {
        block.insts.retain(stays);
        let read = block.insts.iter_mut().flat_map(|i| &mut i.s);
        let index = match &mut block.term {
            Term::Switch { index, .. } => Some(index),
            _ => None,
        };
        for v in read.chain(index) {
            *v = name(*v).unwrap_or(*v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Block;

    #[test]
    fn what_never_changes_is_taken_from_where_it_stands() {
        let vreg = |source| VReg {
            class: Class::W,
            source,
        };
        let inst = |alu, d, s: &[V]| Inst {
            op: Op::Alu(alu),
            guard: None,
            d: vec![d],
            s: s.to_vec(),
            x: 0,
            imm: 0,
            site: 0,
        };
        let mut vregs = vec![vreg(Source::Defined); 9];
        // A denormal.
        vregs[0].source = Source::Const(1);
        vregs[6].source = Source::Param(8, 4, false);
        let mut f = Func {
            name: String::new(),
            blocks: vec![Block {
                insts: vec![
                    inst(Alu::Mov32, 1, &[0]),
                    inst(Alu::FtzF32, 2, &[1]),
                    inst(Alu::Mov32, 3, &[0]),
                    inst(Alu::AddI32, 3, &[1, 3]),
                    inst(Alu::AddI32, 4, &[2, 3]),
                    inst(Alu::Mov32, 5, &[0]),
                    inst(Alu::Mov32, 7, &[6]),
                    inst(Alu::Mov32, 8, &[7]),
                    inst(Alu::AddI32, 4, &[8, 7]),
                ],
                term: Term::Return,
                site: 0,
            }],
            vregs,
            params: vec![],
            rets: vec![5],
            local_bytes: 0,
            may_wait: false,
            sites: vec![],
        };
        propagate(&mut f);
        let zero = f.vregs.len() as V - 1;
        assert_eq!(f.vregs[zero as usize].source, Source::Const(0));
        let left: Vec<_> = f.blocks[0]
            .insts
            .iter()
            .map(|i| (i.d[0], &i.s[..]))
            .collect();
        let want: [(V, &[V]); 5] = [
            (3, &[0]),
            (3, &[0, 3]),
            (4, &[zero, 3]),
            (5, &[0]),
            (4, &[6, 6]),
        ];
        assert_eq!(left, want);
    }
}
