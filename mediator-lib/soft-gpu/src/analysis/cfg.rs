//! Control flow graph: successors and immediate post-dominators.

use crate::ir::{Block, BlockId, Term};

/// Successors of every block. Block `blocks.len()` is the exit.
pub struct Cfg {
    /// Successors.
    pub succ: Vec<Vec<BlockId>>,
    /// Immediate post-dominator; the exit's is itself.
    pub ipdom: Vec<BlockId>,
}

impl Cfg {
    /// The exit.
    pub fn exit(&self) -> BlockId {
        self.ipdom.len() as BlockId - 1
    }

    /// Analyses the blocks of a function.
    pub fn new(blocks: &[Block]) -> Cfg {
        let n = blocks.len();
        let exit = n as BlockId;
        let mut succ: Vec<Vec<BlockId>> = blocks
            .iter()
            .map(|b| match &b.term {
                Term::Jump(t) => vec![*t],
                Term::Branch { then, other, .. } if then == other => vec![*then],
                Term::Branch { then, other, .. } => vec![*then, *other],
                Term::Switch { targets, .. } => {
                    let mut t = targets.clone();
                    t.sort_unstable();
                    t.dedup();
                    t
                }
                Term::Return | Term::Exit => vec![exit],
            })
            .collect();
        succ.push(Vec::new());
        let ipdom = post_dominators(&succ);
        Cfg { succ, ipdom }
    }
}

/// Cooper, Harvey and Kennedy's iteration on the reversed graph. A block that
/// cannot reach the exit (an endless loop) gets the exit.
fn post_dominators(succ: &[Vec<BlockId>]) -> Vec<BlockId> {
    let n = succ.len();
    let exit = n as BlockId - 1;
    let mut pred: Vec<Vec<BlockId>> = vec![Vec::new(); n];
    for (b, list) in succ.iter().enumerate() {
        for &s in list {
            pred[s as usize].push(b as BlockId);
        }
    }
    // Post-order of the reversed graph from the exit, without recursion.
    let mut order = Vec::with_capacity(n);
    let mut number = vec![usize::MAX; n];
    let mut seen = vec![false; n];
    let mut stack = vec![(exit, 0usize)];
    seen[exit as usize] = true;
    while let Some((b, k)) = stack.pop() {
        if let Some(&p) = pred[b as usize].get(k) {
            stack.push((b, k + 1));
            if !seen[p as usize] {
                seen[p as usize] = true;
                stack.push((p, 0));
            }
        } else {
            number[b as usize] = order.len();
            order.push(b);
        }
    }
    let none = BlockId::MAX;
    let mut dom = vec![none; n];
    dom[exit as usize] = exit;
    let mut changed = true;
    while changed {
        changed = false;
        for &b in order.iter().rev() {
            if b == exit {
                continue;
            }
            let mut new = none;
            for &s in &succ[b as usize] {
                if dom[s as usize] == none {
                    continue;
                }
                new = if new == none {
                    s
                } else {
                    meet(&dom, &number, new, s)
                };
            }
            if new != none && dom[b as usize] != new {
                dom[b as usize] = new;
                changed = true;
            }
        }
    }
    for d in &mut dom {
        if *d == none {
            *d = exit;
        }
    }
    dom
}

fn meet(dom: &[BlockId], number: &[usize], mut a: BlockId, mut b: BlockId) -> BlockId {
    while a != b {
        while number[a as usize] < number[b as usize] {
            a = dom[a as usize];
        }
        while number[b as usize] < number[a as usize] {
            b = dom[b as usize];
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diamonds_and_loops() {
        // 0 -> 1,2; 1 -> 3; 2 -> 3; 3 -> 1 or exit(4)
        let succ = vec![vec![1, 2], vec![3], vec![3], vec![1, 4], vec![]];
        assert_eq!(post_dominators(&succ), vec![3, 3, 3, 4, 4]);
        // 0 -> 0 for ever, beside 1 -> exit
        let succ = vec![vec![0], vec![2], vec![]];
        assert_eq!(post_dominators(&succ), vec![2, 2, 2]);
    }
}
