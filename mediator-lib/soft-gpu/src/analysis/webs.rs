//! Splits registers that are reused for unrelated values: each set of
//! definitions that meet in a use gets a register of its own, so that the shape
//! of one value does not spoil another's.

use super::cfg::Cfg;
use super::liveness::{Bits, partial};
use crate::ir::{Func, Source, Term, V};

/// More definitions of one register than this are left alone.
const MAX_DEFS: usize = 63;
/// Blocks times reused registers that are still worth the time.
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

/// A place where a register is named: an operation, or the end of a block.
#[derive(Clone, Copy)]
struct Place {
    block: u32,
    /// Operation, or one past the last for the end of the block.
    at: u32,
    used: bool,
    defined: bool,
    partial: bool,
}

fn term_use(t: &mut Term) -> Option<&mut V> {
    match t {
        Term::Branch { pred, .. } => Some(pred),
        Term::Switch { index, .. } => Some(index),
        _ => None,
    }
}

/// Where each of the registers that `number` numbers is named, in order.
fn places(f: &mut Func, number: &[u32], count: usize) -> Vec<Vec<Place>> {
    let mut all: Vec<Vec<Place>> = vec![Vec::new(); count];
    let mut note = |v: V, block: usize, at: usize, defined: bool, partial: bool| {
        let Some(list) = number
            .get(v as usize)
            .and_then(|&n| all.get_mut(n as usize))
        else {
            return;
        };
        let (block, at) = (block as u32, at as u32);
        match list.last_mut() {
            Some(p) if (p.block, p.at) == (block, at) => {
                p.used |= !defined;
                p.defined |= defined;
            }
            _ => list.push(Place {
                block,
                at,
                used: !defined,
                defined,
                partial,
            }),
        }
    };
    for (b, block) in f.blocks.iter_mut().enumerate() {
        for (k, i) in block.insts.iter().enumerate() {
            let partial = partial(i);
            for &v in i.s.iter().chain(i.guard.as_ref().map(|(g, _)| g)) {
                note(v, b, k, false, partial);
            }
            for &v in &i.d {
                note(v, b, k, true, partial);
            }
        }
        if let Some(v) = term_use(&mut block.term) {
            note(*v, b, block.insts.len(), false, false);
        }
    }
    all
}

/// Renames the registers of a function.
pub fn split(f: &mut Func) {
    let mut defs = vec![0usize; f.vregs.len()];
    for i in f.blocks.iter().flat_map(|b| &b.insts) {
        i.d.iter().for_each(|&d| defs[d as usize] += 1);
    }
    let mut fixed = Bits::new(f.vregs.len());
    // Words of parameters and results have fixed places.
    f.params
        .iter()
        .chain(&f.rets)
        .for_each(|&v| fixed.insert(v));
    let reused: Vec<V> = (0..f.vregs.len() as V)
        .filter(|&v| {
            let n = defs[v as usize];
            (2..MAX_DEFS).contains(&n)
                && f.vregs[v as usize].source == Source::Defined
                && !fixed.has(v)
        })
        .collect();
    if reused.is_empty() || reused.len().saturating_mul(f.blocks.len()) > MAX_WORK {
        return;
    }
    let mut number = vec![u32::MAX; f.vregs.len()];
    for (n, &v) in reused.iter().enumerate() {
        number[v as usize] = n as u32;
    }
    let all = places(f, &number, reused.len());
    let cfg = Cfg::new(&f.blocks);
    let mut inputs: Vec<Set> = vec![0; f.blocks.len() + 1];
    for (v, list) in reused.into_iter().zip(&all) {
        if f.vregs.len() + MAX_DEFS < MAX_VREGS {
            split_one(f, &cfg, v, list, &mut inputs);
        }
    }
}

/// Definitions that reach the end of a block, of which `list` are the places in it
/// and `next` is the number of the first definition.
fn after(list: &[Place], mut now: Set, mut next: usize) -> Set {
    for p in list.iter().filter(|p| p.defined) {
        now = if p.partial {
            now | 1 << next
        } else {
            1 << next
        };
        next += 1;
    }
    now
}

/// Definitions that reach the start of each block.
fn reach(f: &Func, cfg: &Cfg, list: &[Place], entry: usize, inputs: &mut [Set]) {
    inputs.fill(0);
    // Without a use before the first definition of its block nothing passes between blocks.
    let local = list.chunk_by(|a, b| a.block == b.block).all(|l| {
        l.first()
            .is_some_and(|p| p.defined && !p.used && !p.partial)
    });
    if local {
        return;
    }
    inputs[0] = 1 << entry;
    let mut of: Vec<Option<(usize, usize, usize)>> = vec![None; f.blocks.len()];
    let (mut from, mut next) = (0, 0);
    for l in list.chunk_by(|a, b| a.block == b.block) {
        if let Some(slot) = l.first().and_then(|p| of.get_mut(p.block as usize)) {
            *slot = Some((from, from + l.len(), next));
        }
        from += l.len();
        next += l.iter().filter(|p| p.defined).count();
    }
    let mut work: Vec<usize> = (0..f.blocks.len()).rev().collect();
    let mut queued = vec![true; f.blocks.len()];
    while let Some(b) = work.pop() {
        queued[b] = false;
        let now = match of[b] {
            Some((from, to, next)) => after(list.get(from..to).unwrap_or(&[]), inputs[b], next),
            None => inputs[b],
        };
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
}

fn split_one(f: &mut Func, cfg: &Cfg, v: V, list: &[Place], inputs: &mut [Set]) {
    // Definitions are numbered in the order of their places; the last bit is the entry.
    let n = list.iter().filter(|p| p.defined).count();
    let entry = n;
    let mut webs = Webs {
        parent: (0..=n).collect(),
    };
    reach(f, cfg, list, entry, inputs);
    // Definitions that meet in a use, or in a partial definition, belong together.
    let mut next = 0;
    for l in list.chunk_by(|a, b| a.block == b.block) {
        let mut now = l.first().map_or(0, |p| inputs[p.block as usize]);
        for p in l {
            if p.used {
                webs.join(now);
            }
            if p.defined {
                if p.partial {
                    webs.join(now | 1 << next);
                }
                now = if p.partial {
                    now | 1 << next
                } else {
                    1 << next
                };
                next += 1;
            }
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
    let mut next = 0;
    for l in list.chunk_by(|a, b| a.block == b.block) {
        let mut now = l.first().map_or(0, |p| inputs[p.block as usize]);
        for p in l {
            let rename = name(&mut webs, now);
            let block = &mut f.blocks[p.block as usize];
            let Some(i) = block.insts.get_mut(p.at as usize) else {
                if let Some(t) = term_use(&mut block.term) {
                    *t = rename;
                }
                continue;
            };
            if p.used {
                i.s.iter_mut()
                    .filter(|s| **s == v)
                    .for_each(|s| *s = rename);
                if let Some((g, _)) = &mut i.guard
                    && *g == v
                {
                    *g = rename;
                }
            }
            if p.defined {
                let own = name(&mut webs, 1 << next);
                now = if p.partial {
                    now | 1 << next
                } else {
                    1 << next
                };
                i.d.iter_mut().filter(|d| **d == v).for_each(|d| *d = own);
                next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Alu, Block, Class, Inst, Op, VReg};

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
