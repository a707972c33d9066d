//! Splits registers that are reused for unrelated values: each set of
//! definitions that meet in a use gets a register of its own, so that the shape
//! of one value does not spoil another's.

use super::cfg::Cfg;
use super::liveness::{Bits, partial};
use crate::ir::{Block, Func, Source, Term, V};

/// More definitions of one register than this are left alone.
const MAX_DEFS: usize = 63;
/// Operations times reused registers that are still worth the time.
const MAX_WORK: usize = 1 << 27;
/// Most registers after splitting: bounds the frame.
const MAX_VREGS: usize = 2 * crate::lower::MAX_VREGS;

/// A set of definitions of one register; the last bit is the value at entry.
type Set = u64;

struct Webs {
    parent: Vec<usize>,
}

impl Webs {
    fn find(&mut self, mut a: usize) -> usize {
        while self.parent[a] != a {
            self.parent[a] = self.parent[self.parent[a]];
            a = self.parent[a];
        }
        a
    }

    fn join(&mut self, set: Set) {
        let mut first = None;
        for k in 0..self.parent.len() {
            if set >> k & 1 != 0 {
                let root = self.find(k);
                match first {
                    None => first = Some(root),
                    Some(f) => {
                        let f = self.find(f);
                        self.parent[root] = f;
                    }
                }
            }
        }
    }
}

fn term_use(t: &Term) -> Option<V> {
    match t {
        Term::Branch { pred, .. } => Some(*pred),
        Term::Switch { index, .. } => Some(*index),
        _ => None,
    }
}

/// Renames the registers of a function.
pub fn split(f: &mut Func) {
    let mut defs = vec![0usize; f.vregs.len()];
    for i in f.blocks.iter().flat_map(|b| &b.insts) {
        i.d.iter().for_each(|&d| defs[d as usize] += 1);
    }
    let reused: Vec<V> = (0..f.vregs.len() as V)
        .filter(|&v| {
            let n = defs[v as usize];
            (2..MAX_DEFS).contains(&n) && f.vregs[v as usize].source == Source::Defined
        })
        .collect();
    let size = f.blocks.iter().map(|b| b.insts.len() + 1).sum::<usize>();
    if reused.is_empty() || reused.len().saturating_mul(size) > MAX_WORK {
        return;
    }
    let cfg = Cfg::new(&f.blocks);
    let mut fixed = Bits::new(f.vregs.len());
    f.params
        .iter()
        .chain(&f.rets)
        .for_each(|&v| fixed.insert(v));
    for v in reused {
        // Words of parameters and results have fixed places.
        if !fixed.has(v) && f.vregs.len() + MAX_DEFS < MAX_VREGS {
            split_one(f, &cfg, v);
        }
    }
}

/// Calls `at` for every use and definition of `v` in a block, in order.
fn walk(b: &Block, v: V, mut at: impl FnMut(usize, bool, bool, bool)) {
    for (k, i) in b.insts.iter().enumerate() {
        let used = i.s.contains(&v) || i.guard.is_some_and(|(g, _)| g == v);
        let defined = i.d.contains(&v);
        if used || defined {
            at(k, used, defined, partial(i));
        }
    }
}

fn split_one(f: &mut Func, cfg: &Cfg, v: V) {
    // Number the definitions in order of blocks.
    let mut first = Vec::with_capacity(f.blocks.len());
    let mut n = 0;
    for b in &f.blocks {
        first.push(n);
        walk(b, v, |_, _, defined, _| n += usize::from(defined));
    }
    let entry = n;
    let mut webs = Webs {
        parent: (0..=n).collect(),
    };
    let mut inputs: Vec<Set> = vec![0; f.blocks.len() + 1];
    inputs[0] = 1 << entry;
    let mut work: Vec<usize> = (0..f.blocks.len()).rev().collect();
    let mut queued = vec![true; f.blocks.len()];
    while let Some(b) = work.pop() {
        queued[b] = false;
        let mut now = inputs[b];
        let mut next = first[b];
        walk(&f.blocks[b], v, |_, _, defined, partial| {
            if defined {
                now = if partial { now | 1 << next } else { 1 << next };
                next += 1;
            }
        });
        for &s in &cfg.succ[b] {
            if inputs[s as usize] | now != inputs[s as usize] {
                inputs[s as usize] |= now;
                if queued.get(s as usize) == Some(&false) {
                    queued[s as usize] = true;
                    work.push(s as usize);
                }
            }
        }
    }
    // Definitions that meet in a use, or in a partial definition, belong together.
    for (b, block) in f.blocks.iter().enumerate() {
        let mut now = inputs[b];
        let mut next = first[b];
        walk(block, v, |_, used, defined, partial| {
            if used {
                webs.join(now);
            }
            if defined {
                if partial {
                    webs.join(now | 1 << next);
                }
                now = if partial { now | 1 << next } else { 1 << next };
                next += 1;
            }
        });
        if term_use(&block.term) == Some(v) {
            webs.join(now);
        }
    }
    // The web of the first definition keeps the register.
    let mut names: Vec<Option<V>> = vec![None; n + 1];
    let keep = webs.find(0);
    names[keep] = Some(v);
    let class = f.vregs[v as usize].class;
    for d in 0..=n {
        let root = webs.find(d);
        if names[root].is_none() && d != entry {
            f.vregs.push(crate::ir::VReg {
                class,
                source: Source::Defined,
            });
            names[root] = Some(f.vregs.len() as V - 1);
        }
    }
    let name = |webs: &mut Webs, set: Set| -> V {
        if set == 0 {
            return v; // unreachable code
        }
        let root = webs.find(set.trailing_zeros() as usize);
        names[root].unwrap_or(v)
    };
    for b in 0..f.blocks.len() {
        let mut now = inputs[b];
        let mut next = first[b];
        for i in &mut f.blocks[b].insts {
            let before = now;
            let defined = i.d.contains(&v);
            let rename = name(&mut webs, before);
            i.s.iter_mut()
                .filter(|s| **s == v)
                .for_each(|s| *s = rename);
            if let Some((g, _)) = &mut i.guard
                && *g == v
            {
                *g = rename;
            }
            if defined {
                let own = name(&mut webs, 1 << next);
                now = if partial(i) {
                    now | 1 << next
                } else {
                    1 << next
                };
                i.d.iter_mut().filter(|d| **d == v).for_each(|d| *d = own);
                next += 1;
            }
        }
        let rename = name(&mut webs, now);
        match &mut f.blocks[b].term {
            Term::Branch { pred, .. } if *pred == v => *pred = rename,
            Term::Switch { index, .. } if *index == v => *index = rename,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Alu, Class, Inst, Op, VReg};

    fn mov(d: V, s: V) -> Inst {
        Inst {
            op: Op::Alu(Alu::Mov32),
            guard: None,
            d: vec![d],
            s: vec![s],
            x: 0,
            imm: 0,
            site: 0,
        }
    }

    fn func(blocks: Vec<(Vec<Inst>, Term)>, regs: usize) -> Func {
        Func {
            name: String::new(),
            blocks: blocks
                .into_iter()
                .map(|(insts, term)| Block {
                    insts,
                    term,
                    site: 0,
                })
                .collect(),
            vregs: vec![
                VReg {
                    class: Class::W,
                    source: Source::Defined
                };
                regs
            ],
            params: vec![],
            rets: vec![],
            local_bytes: 0,
            may_wait: false,
            sites: vec![],
        }
    }

    #[test]
    fn unrelated_values_are_split() {
        let mut f = func(
            vec![(
                vec![mov(0, 1), mov(2, 0), mov(0, 2), mov(3, 0)],
                Term::Return,
            )],
            4,
        );
        split(&mut f);
        let i = &f.blocks[0].insts;
        assert_eq!(i[0].d[0], i[1].s[0]);
        assert_eq!(i[2].d[0], i[3].s[0]);
        assert_ne!(i[0].d[0], i[2].d[0]);
    }

    #[test]
    fn values_that_meet_stay_together() {
        // 0: r0 = r1; to 1.  1: r0 = r0; to 1 or 2.  2: r2 = r0
        let mut f = func(
            vec![
                (vec![mov(0, 1)], Term::Jump(1)),
                (
                    vec![mov(0, 0)],
                    Term::Branch {
                        pred: 3,
                        negated: false,
                        then: 1,
                        other: 2,
                    },
                ),
                (vec![mov(2, 0)], Term::Return),
            ],
            4,
        );
        split(&mut f);
        let d: Vec<V> = f.blocks.iter().map(|b| b.insts[0].d[0]).collect();
        assert_eq!(d[0], d[1]);
        assert_eq!(f.blocks[2].insts[0].s[0], d[0]);
    }
}
