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

    /// Whether each block can come to itself again: Tarjan's strongly connected components, without recursion. The
    /// order of the blocks says nothing: where paths meet may stand before what leads there.
    pub fn loops(&self) -> Vec<bool> {
        let n = self.succ.len();
        let (mut number, mut low) = (vec![0usize; n], vec![0usize; n]);
        let (mut open, mut looping) = (vec![false; n], vec![false; n]);
        let (mut component, mut path, mut count) = (Vec::new(), Vec::new(), 0);
        for root in 0..n {
            if number[root] != 0 {
                continue;
            }
            path.push((root, 0));
            while let Some((b, k)) = path.pop() {
                if k == 0 {
                    count += 1;
                    (number[b], low[b], open[b]) = (count, count, true);
                    component.push(b);
                }
                if let Some(&s) = self.succ[b].get(k) {
                    let s = s as usize;
                    path.push((b, k + 1));
                    if number[s] == 0 {
                        path.push((s, 0));
                    } else if open[s] {
                        low[b] = low[b].min(number[s]);
                    }
                    continue;
                }
                if let Some(&(parent, _)) = path.last() {
                    low[parent] = low[parent].min(low[b]);
                }
                if low[b] == number[b] {
                    let first = component.iter().rposition(|&c| c == b).unwrap_or(0);
                    let several = component.len() - first > 1;
                    for c in component.drain(first..) {
                        open[c] = false;
                        looping[c] = several || self.succ[c].contains(&(c as BlockId));
                    }
                }
            }
        }
        looping
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

    #[test]
    fn a_loop_is_where_a_block_can_come_to_itself() {
        let loops = |succ: Vec<Vec<BlockId>>| {
            let ipdom = post_dominators(&succ);
            Cfg { succ, ipdom }.loops()
        };
        // Paths meet in 1, which stands before the block that goes there.
        let early = vec![vec![1, 2], vec![3], vec![1], vec![]];
        assert_eq!(loops(early), [false; 4]);
        // 1 -> 2 -> 1, and 2 to itself; 4 is reached from nowhere and goes into the loop.
        let nested = vec![vec![1], vec![2, 3], vec![2, 1], vec![5], vec![1], vec![]];
        assert_eq!(loops(nested), [false, true, true, false, false, false]);
        // Deep: no recursion.
        let n = 200_000;
        let chain = (0..n).map(|b| vec![b + 1]).chain([vec![]]).collect();
        assert_eq!(loops(chain), vec![false; n as usize + 1]);
        let ring = (0..n).map(|b| vec![(b + 1) % n]).chain([vec![]]).collect();
        assert_eq!(loops(ring).iter().filter(|l| **l).count(), n as usize);
    }
}
