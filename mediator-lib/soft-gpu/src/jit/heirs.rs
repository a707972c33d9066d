//! Blocks that begin with values in registers: those that are reached from the end of one other block alone.

use std::collections::HashMap;

use super::asm::Z;
use super::compile::Compiler;
use super::regs::{Snapshot, canonical};
use crate::analysis::cfg::Cfg;
use crate::analysis::liveness::Bits;
use crate::exec::insn::{FunctionCode, Kind, NONE};
use crate::ir::{Class, V};

/// How often each block is jumped to.
pub(super) fn reached(cfg: &Cfg, blocks: usize) -> Vec<u32> {
    let mut count = vec![0; blocks];
    // The function's caller reaches the first.
    count.iter_mut().take(1).for_each(|c| *c = 1);
    for &to in cfg.succ.iter().flatten() {
        if let Some(c) = count.get_mut(to as usize) {
            *c += 1;
        }
    }
    count
}

/// Whose value each line and pair of a function's frame may be.
pub(super) fn owners(code: &FunctionCode) -> HashMap<u32, Vec<V>> {
    let mut map: HashMap<u32, Vec<V>> = HashMap::new();
    for (v, s) in code.slots.iter().enumerate() {
        if s.class == Class::P {
            continue;
        }
        let lines = if s.class == Class::D { 4 } else { 2 };
        let vector = (0..lines).filter(|_| s.vec != NONE).map(|l| s.vec + 64 * l);
        for key in vector.chain(Some(s.pair).filter(|p| *p != NONE)) {
            map.entry(key).or_default().push(v as V);
        }
    }
    map
}

impl Compiler<'_> {
    /// Whether a block is reached from the end of this one alone, further on in the code.
    pub(super) fn inherits(&self, b: usize, target: u32, cfg: &Cfg) -> Option<u32> {
        let at = self.code.block_pcs.iter().position(|&pc| pc == target)?;
        if self.code.block_pcs.get(at + 1) == Some(&target) {
            return None;
        }
        let (own, to) = (b as u32, at as u32);
        let loops = |t: u32| cfg.succ.get(t as usize).is_some_and(|s| s.contains(&t));
        let alone = to > own && self.reached.get(at) == Some(&1) && !loops(own) && !loops(to);
        let joins = self.insn(target).is_some_and(|i| i.kind == Kind::Join);
        (alone && !joins).then_some(to)
    }

    /// Goes to a block that begins with what is in registers now.
    pub(super) fn hand_over(&mut self, b: usize, to: u32, falls: bool, live: &[Bits]) {
        let needed = |key: u32| {
            let live = |v: V| live.get(to as usize).is_some_and(|l| l.has(v));
            let needs = |v: &V| live(*v) || self.shapes.masked(b, *v);
            let owners = self.owners.get(&key);
            owners.is_none_or(|list| list.iter().any(needs))
        };
        let held = self.regs.snapshot();
        let mut held: Snapshot = held.into_iter().filter(|(_, h)| needed(h.key)).collect();
        for (r, h) in &mut held {
            h.used = 0;
            // Who comes from elsewhere brings lanes whose NaNs must stay as they are.
            if h.nan {
                canonical(&mut self.a, Z(*r), Z(*r), h.pair);
                h.nan = false;
            }
        }
        let label = self.a.label();
        if !falls {
            self.a.jump(label);
        }
        self.inherited.insert(to, (label, held));
        self.forget();
    }
}
