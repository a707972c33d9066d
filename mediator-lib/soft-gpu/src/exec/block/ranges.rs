//! What a thread keeps of the ranges that machine code has found, from one launch of a kernel to the next.

use std::cell::RefCell;

use crate::exec::block::LaunchShared;
use crate::exec::region::Owner;
use crate::jit::{JitCode, JitRange};
use crate::memory::Range;

/// Kernels whose ranges a thread keeps.
const MAX_KEPT: usize = 48;

/// With more allocations than this, or more ranges, they are found anew: comparing or holding them would cost more.
const MAX_ALLOCATIONS: usize = 64;
const MAX_RANGES: usize = 4096;

thread_local! {
    static KEPT: RefCell<Vec<(Known, Vec<JitRange>)>> = const { RefCell::new(Vec::new()) };
}

/// All that ranges depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    owner: Owner,
    delta: usize,
    shared_bytes: u32,
    allocations: Vec<Range>,
}

impl Known {
    fn is_of(&self, s: &LaunchShared<'_>) -> bool {
        (self.owner, self.delta, self.shared_bytes) == (s.owner, s.delta, s.shared_bytes)
            && self.allocations == s.ranges
    }
}

/// Ranges for a launch: those of the last one where nothing has changed that they depend on, and what they are to be
/// kept with.
pub(super) fn take(s: &LaunchShared<'_>, code: &JitCode) -> (Option<Known>, Vec<JitRange>) {
    let kept = KEPT.with_borrow_mut(|kept| {
        let at = kept.iter().position(|(known, _)| known.is_of(s))?;
        Some(kept.remove(at))
    });
    if let Some((known, ranges)) = kept {
        return (Some(known), ranges);
    }
    let ranges = code.ranges(s.shared_bytes.into());
    let few = s.ranges.len() <= MAX_ALLOCATIONS && ranges.len() <= MAX_RANGES;
    let known = few.then(|| Known {
        owner: s.owner,
        delta: s.delta,
        shared_bytes: s.shared_bytes,
        allocations: s.ranges.to_vec(),
    });
    (known, ranges)
}

/// Keeps them for the next launch.
pub(super) fn keep(known: Known, ranges: Vec<JitRange>) {
    // A thread that is ending keeps nothing.
    let _ = KEPT.try_with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut() {
            // Those of the same code are out of date; those that were used last stand last.
            kept.retain(|(other, _)| other.owner != known.owner);
            if kept.len() >= MAX_KEPT {
                kept.remove(0);
            }
            kept.push((known, ranges));
        }
    });
}
