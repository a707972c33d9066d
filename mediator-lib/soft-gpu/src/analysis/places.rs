//! Where vectors stand in a frame: registers that no lane needs at the same time share a place.
//!
//! The life of a register is one stretch of the function's operations, in their order. It holds each place where
//! the register is named, and the start or the end of each block where it is live, for the lanes that run or for
//! lanes that wait meanwhile. So whatever a lane may still read stands in a place that nobody else writes, wherever
//! a warp is stopped and whoever goes on with it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::cfg::Cfg;
use super::constants;
use super::liveness::Bits;
use super::shapes::Shapes;
use crate::ir::{Class, Func, Op, Source, Term, V};

/// Bytes of two words of a lane: machine code gathers such neighbours at once.
const NEIGHBOURS: i64 = 8;

/// The first and the last position, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    first: u32,
    last: u32,
}

/// What place a register needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Any: nothing names it.
    Any,
    /// One of its own.
    Own,
    /// One for this long.
    For(Life),
}

/// The lives of a function's registers while they are found out.
struct Lives(Vec<Option<Life>>);

impl Lives {
    fn add(&mut self, v: V, at: u32) {
        if let Some(life) = self.0.get_mut(v as usize) {
            *life = Some(match *life {
                None => Life {
                    first: at,
                    last: at,
                },
                Some(l) => Life {
                    first: l.first.min(at),
                    last: l.last.max(at),
                },
            });
        }
    }

    fn add_all(&mut self, set: &Bits, at: u32) {
        for v in set.iter() {
            self.add(v, at);
        }
    }
}

/// What place each register needs.
fn needs(f: &Func, cfg: &Cfg, shapes: &Shapes) -> Vec<Need> {
    let mut lives = Lives(vec![None; f.vregs.len()]);
    let Some(waiting) = shapes.waiting() else {
        return vec![Need::Own; f.vregs.len()];
    };
    let none = Bits::new(0);
    let live = |b: usize| shapes.live.get(b).unwrap_or(&none);
    // Where each register was defined last.
    let mut defined = vec![0; f.vregs.len()];
    let mut at = 0;
    for (b, block) in f.blocks.iter().enumerate() {
        let start = at;
        // Loads through one register, by where they read.
        let mut loads: HashMap<(V, i64), u32> = HashMap::new();
        for i in &block.insts {
            at += 1;
            let named = i.d.iter().chain(&i.s).chain(i.guard.iter().map(|(g, _)| g));
            named.for_each(|&v| lives.add(v, at));
            if let (Op::Ld(_), &[d], Some(&address)) = (i.op, &i.d[..], i.s.first()) {
                // What is loaded together with an earlier one has its place by then.
                let stands = |at: &u32| *at > defined[address as usize];
                let near = i.imm.div_euclid(NEIGHBOURS);
                let earlier = (near - 1..=near + 1).filter_map(|n| loads.get(&(address, n)));
                if let Some(&earlier) = earlier.filter(|at| stands(at)).min() {
                    lives.add(d, earlier);
                }
                let first = loads.entry((address, near)).or_insert(at);
                if !stands(first) {
                    *first = at;
                }
            }
            i.d.iter().for_each(|&d| defined[d as usize] = at);
        }
        at += 1;
        match block.term {
            Term::Branch { pred, .. } => lives.add(pred, at),
            Term::Switch { index, .. } => lives.add(index, at),
            _ => {}
        }
        for &to in cfg.succ.get(b).into_iter().flatten() {
            lives.add_all(live(to as usize), at);
        }
        lives.add_all(live(b), start);
        if let Some(waiting) = waiting.get(b) {
            lives.add_all(waiting, start);
            lives.add_all(waiting, at);
        }
        at += 1;
    }
    // Places of their own: what is there before the first operation or is expected at fixed places, what may be read
    // before it is written, and numbers, which machine code knows by their place.
    let numbers = constants::of(f);
    let mut needs = Vec::with_capacity(f.vregs.len());
    for (v, (life, number)) in (0..).zip(lives.0.iter().zip(numbers)) {
        let defined = f.vregs[v as usize].source == Source::Defined;
        needs.push(match life {
            _ if !defined || live(0).has(v) || number.is_some() => Need::Own,
            Some(life) => Need::For(*life),
            None => Need::Any,
        });
    }
    for &v in f.params.iter().chain(&f.rets) {
        needs[v as usize] = Need::Own;
    }
    needs
}

/// The places of the vectors of a function, for the registers that have one, and the bytes that all of them take.
pub fn of(
    f: &Func,
    cfg: &Cfg,
    shapes: &Shapes,
    has: impl Fn(usize) -> bool,
) -> (Vec<Option<u32>>, u32) {
    let mut bytes = 0;
    let mut places = vec![None; f.vregs.len()];
    let needs = needs(f, cfg, shapes);
    for (class, size) in [(Class::W, 128), (Class::D, 256)] {
        let own = |bytes: &mut u32| {
            let at = *bytes;
            *bytes += size;
            at
        };
        let mut shared: Vec<(Life, usize)> = Vec::new();
        let mut any = None;
        for v in (0..f.vregs.len()).filter(|&v| f.vregs[v].class == class && has(v)) {
            match needs[v] {
                Need::For(life) => shared.push((life, v)),
                Need::Own => places[v] = Some(own(&mut bytes)),
                Need::Any => places[v] = Some(*any.get_or_insert_with(|| own(&mut bytes))),
            }
        }
        shared.sort_unstable_by_key(|(life, v)| (life.first, *v));
        // Those whose life has begun, by its end; and places of those whose life is over.
        let mut taken: BinaryHeap<Reverse<(u32, u32)>> = BinaryHeap::new();
        let mut free: Vec<u32> = Vec::new();
        for (life, v) in shared {
            while let Some(&Reverse((last, place))) = taken.peek()
                && last < life.first
            {
                taken.pop();
                free.push(place);
            }
            // The one that was given up last is the nearest in the caches.
            let place = free.pop().unwrap_or_else(|| own(&mut bytes));
            taken.push(Reverse((life.last, place)));
            places[v] = Some(place);
        }
    }
    (places, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::liveness;
    use crate::ir::{Alu, Block, Inst, VReg};
    use crate::ptx::ast::Special;

    const TID: V = 0;
    const PREDICATES: V = 2;
    const REGISTERS: V = 24;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u32) -> u32 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) % u64::from(n)) as u32
        }
    }

    fn alu(alu: Alu, d: V, s: Vec<V>, guard: Option<(V, bool)>) -> Inst {
        Inst {
            op: Op::Alu(alu),
            guard,
            d: vec![d],
            s,
            x: 0,
            imm: 0,
            site: 0,
        }
    }

    /// Words that are computed and branched upon in any order, after all of them were set.
    fn random(seed: u64) -> Func {
        let mut r = Random(seed);
        let vreg = |class, source| VReg { class, source };
        let mut vregs = vec![vreg(Class::W, Source::Special(Special::Tid(0)))];
        vregs.extend((0..PREDICATES).map(|_| vreg(Class::P, Source::Defined)));
        let first = vregs.len() as V;
        vregs.extend((0..REGISTERS).map(|_| vreg(Class::W, Source::Defined)));
        let some = |r: &mut Random| first + r.below(REGISTERS);
        let count = 2 + r.below(6);
        let mut blocks = Vec::new();
        for b in 0..count {
            let mut insts = Vec::new();
            for p in 0..PREDICATES {
                let s = if r.below(2) == 0 { TID } else { some(&mut r) };
                insts.push(alu(Alu::LtU32, 1 + p, vec![s, some(&mut r)], None));
            }
            for _ in 0..r.below(12) {
                let s = vec![some(&mut r), if b == 0 { TID } else { some(&mut r) }];
                let guard = (r.below(6) == 0).then_some((1, false));
                insts.push(alu(Alu::AddI32, some(&mut r), s, guard));
            }
            let term = match r.below(4) {
                _ if b + 1 == count => Term::Return,
                0 => Term::Jump(b + 1),
                _ => Term::Branch {
                    pred: 1 + r.below(PREDICATES),
                    negated: false,
                    then: r.below(count),
                    other: b + 1,
                },
            };
            blocks.push(Block {
                insts,
                term,
                site: 0,
            });
        }
        Func {
            name: String::new(),
            blocks,
            vregs,
            params: vec![],
            rets: vec![],
            local_bytes: 0,
            may_wait: false,
            sites: vec![],
        }
    }

    /// Checks a function operation by operation; the number of registers that share a place with another one.
    fn check(f: &Func) -> usize {
        let cfg = Cfg::new(&f.blocks);
        let shapes = Shapes::new(f, &cfg, [64, 1, 1], true);
        let (places, bytes) = of(f, &cfg, &shapes, |_| true);
        let apart = |needed: &Bits, d: Option<V>| {
            let mut seen = HashMap::new();
            for v in needed.iter().chain(d) {
                let Some(place) = places[v as usize] else {
                    continue;
                };
                assert!(place + 128 <= bytes && place % 128 == 0);
                let other = *seen.entry(place).or_insert(v);
                assert_eq!(other, v, "both are needed and stand at {place}");
            }
        };
        for (b, block) in f.blocks.iter().enumerate() {
            let waiting = &shapes.waiting().expect("small")[b];
            let mut now = Bits::new(f.vregs.len());
            for &s in &cfg.succ[b] {
                now.union(&shapes.live[s as usize]);
            }
            for i in block.insts.iter().rev() {
                let mut needed = now.clone();
                needed.union(waiting);
                i.s.iter().for_each(|&s| needed.insert(s));
                apart(&needed, i.d.first().copied());
                liveness::step(&mut now, i);
            }
            now.union(waiting);
            apart(&now, None);
        }
        let all: Vec<u32> = places.iter().flatten().copied().collect();
        let alone = |p: &&u32| all.iter().filter(|o| o == p).count() == 1;
        all.len() - all.iter().filter(alone).count()
    }

    #[test]
    fn whatever_a_lane_may_still_read_has_its_place_alone() {
        let shared: usize = (0..2000).map(|seed| check(&random(seed))).sum();
        assert!(shared > 1000, "{shared}");
    }
}
