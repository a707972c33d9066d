//! Registers that a lane may still read, per block.

use super::cfg::Cfg;
use crate::ir::{Func, Inst, Op, Term, V};

/// A set of registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// An empty set over `n` registers.
    pub fn new(n: usize) -> Bits {
        Bits(vec![0; n.div_ceil(64)])
    }
    /// Adds one.
    pub fn insert(&mut self, v: V) {
        if let Some(w) = self.0.get_mut(v as usize / 64) {
            *w |= 1 << (v % 64);
        }
    }
    /// Removes one.
    pub fn remove(&mut self, v: V) {
        if let Some(w) = self.0.get_mut(v as usize / 64) {
            *w &= !(1 << (v % 64));
        }
    }
    /// Whether it holds one.
    pub fn has(&self, v: V) -> bool {
        self.0
            .get(v as usize / 64)
            .is_some_and(|w| w >> (v % 64) & 1 != 0)
    }
    /// Those it holds, in order.
    pub fn iter(&self) -> impl Iterator<Item = V> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let rest = |w: &u64| Some(w & (w - 1)).filter(|&w| w != 0);
            let words = std::iter::successors(Some(word).filter(|&w| w != 0), rest);
            words.map(move |w| at as V * 64 + w.trailing_zeros())
        })
    }
    /// Adds all of another; true if something was new.
    pub fn union(&mut self, o: &Bits) -> bool {
        let mut new = false;
        for (a, b) in self.0.iter_mut().zip(&o.0) {
            new |= *b & !*a != 0;
            *a |= *b;
        }
        new
    }
}

/// Whether a definition leaves some executing lanes' old values.
pub fn partial(i: &Inst) -> bool {
    i.guard.is_some()
}

/// From the registers live after an operation to those live before it.
pub fn step(live: &mut Bits, i: &Inst) {
    if !partial(i) {
        for &d in &i.d {
            live.remove(d);
        }
    }
    for &s in &i.s {
        live.insert(s);
    }
    if let Some((g, _)) = i.guard {
        live.insert(g);
    }
    // Vector loads and the like write some results before others fault or blend.
    if matches!(i.op, Op::Call(_)) {
        for &d in &i.d {
            live.remove(d);
        }
        for &s in &i.s {
            live.insert(s);
        }
    }
}

/// Registers live at the start of every block; the exit's are the results.
pub fn live_in(f: &Func, cfg: &Cfg) -> Vec<Bits> {
    let n = f.vregs.len();
    let mut live = vec![Bits::new(n); f.blocks.len() + 1];
    if let Some(last) = live.last_mut() {
        for &r in &f.rets {
            last.insert(r);
        }
    }
    let mut changed = true;
    while changed {
        changed = false;
        for (b, block) in f.blocks.iter().enumerate().rev() {
            let mut now = Bits::new(n);
            for &s in &cfg.succ[b] {
                now.union(&live[s as usize]);
            }
            match &block.term {
                Term::Branch { pred, .. } => now.insert(*pred),
                Term::Switch { index, .. } => now.insert(*index),
                _ => {}
            }
            for i in block.insts.iter().rev() {
                step(&mut now, i);
            }
            changed |= live[b].union(&now);
        }
    }
    live
}
