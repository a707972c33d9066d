//! Finds values that are there already: words that were loaded before, and the 16 bits that an operation needs in a
//! register that was not cut to them yet. Operations keep their places; some become moves, others nobody's.

use std::collections::HashMap;

use super::cfg::Cfg;
use super::shapes::is_large;
use crate::ir::{Access, Alu, Class, Func, Inst, Op, Source, V};
use crate::ptx::types::Space;

/// Most facts of each kind that are kept: bounds the time that a kernel takes.
const MAX_FACTS: usize = 64;

/// What holds at a place on every way to it.
#[derive(Clone, Default)]
struct Facts {
    /// Where a word was loaded from, and the register that still has it.
    loads: HashMap<(V, i64, u8, bool), V>,
    /// Registers that are another one plus a number.
    sums: HashMap<V, (V, i64)>,
    /// Registers whose low 16 bits are those of another one.
    cuts: HashMap<V, V>,
}

impl Facts {
    /// What holds in both.
    fn meet(&mut self, o: &Facts) {
        self.loads.retain(|k, v| o.loads.get(k) == Some(v));
        self.sums.retain(|k, v| o.sums.get(k) == Some(v));
        self.cuts.retain(|k, v| o.cuts.get(k) == Some(v));
    }

    /// A register gets another value.
    fn forget(&mut self, d: V) {
        self.loads.retain(|k, v| k.0 != d && *v != d);
        self.sums.retain(|k, v| *k != d && v.0 != d);
        self.cuts.retain(|k, v| *k != d && *v != d);
    }

    /// Where a load reads, from the register that others start from too.
    fn place(&self, i: &Inst, a: Access) -> Option<(V, i64, u8, bool)> {
        let address = *i.s.first()?;
        let (root, offset) = self.sums.get(&address).copied().unwrap_or((address, 0));
        Some((root, offset.checked_add(i.imm)?, a.bytes, a.signed))
    }
}

/// Whether an operation leaves memory as it is and waits for nobody.
fn is_pure(op: Op) -> bool {
    matches!(
        op,
        Op::Alu(_) | Op::Ld(_) | Op::Shfl(_) | Op::Vote(_) | Op::ActiveMask | Op::ReadSpecial(_)
    )
}

/// A load of one word or less whose memory others may write at the same time only by mistake.
fn plain_load(i: &Inst) -> Option<Access> {
    let Op::Ld(a) = i.op else { return None };
    let space = matches!(a.space, Space::Global | Space::Const);
    let small = a.count == 1 && a.bytes <= 4 && !a.whole && i.guard.is_none();
    (space && small && i.d.len() == 1).then_some(a)
}

/// Rewrites a function.
pub fn reuse(f: &mut Func) {
    if is_large(f) {
        return;
    }
    let cfg = Cfg::new(&f.blocks);
    let constant = |v: V| match f.vregs.get(v as usize).map(|r| (r.source, r.class)) {
        Some((Source::Const(c), Class::D)) => Some(c as i64),
        _ => None,
    };
    let constants: Vec<Option<i64>> = (0..f.vregs.len() as V).map(constant).collect();
    let words: Vec<bool> = f.vregs.iter().map(|r| r.class == Class::W).collect();
    // Where somebody waits for what others write, each load is one.
    let loads = !f.may_wait;
    let order = order(&cfg);
    let mut place = vec![usize::MAX; f.blocks.len()];
    for (at, &b) in order.iter().enumerate() {
        place[b] = at;
    }
    let mut before: Vec<Option<Facts>> = vec![None; f.blocks.len()];
    // A block that is reached from further on begins with nothing.
    let mut again = vec![false; f.blocks.len()];
    for &b in &order {
        for &to in cfg.succ[b].iter().filter(|&&to| to != cfg.exit()) {
            again[to as usize] |= place[to as usize] <= place[b];
        }
    }
    for &b in &order {
        let own = before[b].take().filter(|_| !again[b]);
        let mut facts = own.unwrap_or_default();
        for i in &mut f.blocks[b].insts {
            let is_word = i.d.iter().all(|&d| words[d as usize]);
            step(i, &mut facts, &constants, loads && is_word);
        }
        for &to in cfg.succ[b].iter().filter(|&&to| to != cfg.exit()) {
            match &mut before[to as usize] {
                Some(old) => old.meet(&facts),
                slot => *slot = Some(facts.clone()),
            }
        }
    }
}

/// The blocks that are reached, each before those it leads to but for loops.
fn order(cfg: &Cfg) -> Vec<usize> {
    let exit = cfg.exit() as usize;
    let mut seen = vec![false; exit + 1];
    let (mut list, mut path) = (Vec::new(), Vec::new());
    if exit > 0 {
        seen[0] = true;
        path.push((0, 0));
    }
    while let Some((b, k)) = path.pop() {
        match cfg.succ[b].get(k) {
            Some(&to) => {
                let to = to as usize;
                path.push((b, k + 1));
                if to != exit && !std::mem::replace(&mut seen[to], true) {
                    path.push((to, 0));
                }
            }
            None => list.push(b),
        }
    }
    list.reverse();
    list
}

fn step(i: &mut Inst, facts: &mut Facts, constants: &[Option<i64>], loads: bool) {
    if let Op::Alu(Alu::F32FromF16 | Alu::Zext16 | Alu::Sext16) = i.op
        && let Some(&from) = i.s.first().and_then(|s| facts.cuts.get(s))
    {
        i.s[0] = from;
    }
    let mut known = None;
    if loads && let Some(a) = plain_load(i) {
        let place = facts.place(i, a);
        match place.and_then(|p| facts.loads.get(&p)) {
            Some(&v) => {
                (i.op, i.s, i.imm) = (Op::Alu(Alu::Mov32), vec![v], 0);
            }
            None => known = place,
        }
    }
    if !is_pure(i.op) {
        facts.loads.clear();
    }
    let sum = match (i.op, &i.s[..]) {
        (Op::Alu(Alu::AddI64), &[x, y]) => [(x, y), (y, x)].into_iter().find_map(|(x, y)| {
            let c = constants.get(y as usize).copied().flatten()?;
            let (root, offset) = facts.sums.get(&x).copied().unwrap_or((x, 0));
            Some((root, offset.checked_add(c)?))
        }),
        _ => None,
    };
    let cut = match (i.op, &i.s[..]) {
        (Op::Alu(Alu::Zext16 | Alu::Mov32), &[x]) => Some(facts.cuts.get(&x).copied().unwrap_or(x)),
        _ => None,
    };
    for &d in &i.d {
        facts.forget(d);
    }
    let (&[d], None) = (&i.d[..], i.guard) else {
        return;
    };
    if let Some(p) = known.filter(|p| p.0 != d && facts.loads.len() < MAX_FACTS) {
        facts.loads.insert(p, d);
    }
    if let Some(s) = sum.filter(|s| s.0 != d && facts.sums.len() < MAX_FACTS) {
        facts.sums.insert(d, s);
    }
    if let Some(c) = cut.filter(|c| *c != d && facts.cuts.len() < MAX_FACTS) {
        facts.cuts.insert(d, c);
    }
}
