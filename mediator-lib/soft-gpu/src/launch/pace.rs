//! How long launches of a kernel take, by what earlier ones took.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Launches below this take less time than waking a helper for them.
const SHORT_LAUNCH: Duration = Duration::from_micros(40);

/// A launch that takes less need not be handed to another thread.
const BRIEF_LAUNCH: Duration = Duration::from_micros(10);

/// A launch that takes so many times as long as those before it was interrupted by the host, where it follows
/// so many that did not: it tells nothing of the next one.
const FAR: u64 = 8;
const CALM: u32 = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// What a block takes of a thread, in nanoseconds, at least 1 once one has run.
    block_time: AtomicU64,
    /// Launches since the last one that took far longer than those before it.
    calm: AtomicU32,
}

impl Pace {
    /// Notes how long one thread would have had with so many blocks.
    pub fn took(&self, blocks: u64, time: Duration) {
        let each = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) / blocks.max(1);
        let old = self.block_time.load(Ordering::Relaxed);
        let calm = self.calm.load(Ordering::Relaxed);
        let far = old > 0 && each / FAR > old;
        self.calm.store(
            if far { 0 } else { calm.saturating_add(1) },
            Ordering::Relaxed,
        );
        if far && calm >= CALM {
            return;
        }
        let new = if old == 0 {
            each
        } else {
            old - old / 4 + each / 4
        };
        self.block_time.store(new.max(1), Ordering::Relaxed);
    }

    /// Whether so many blocks are soon done.
    pub fn is_short(&self, blocks: u64) -> bool {
        self.takes_less(blocks, SHORT_LAUNCH)
    }

    /// Whether so many blocks are done before another thread would begin with them.
    pub fn is_brief(&self, blocks: u64) -> bool {
        self.takes_less(blocks, BRIEF_LAUNCH)
    }

    fn takes_less(&self, blocks: u64, time: Duration) -> bool {
        let each = self.block_time.load(Ordering::Relaxed);
        each > 0 && u128::from(each.saturating_mul(blocks)) < time.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(1);

    /// A kernel whose block has taken a microsecond, so many times.
    fn after(launches: u32) -> Pace {
        let pace = Pace::default();
        for _ in 0..launches {
            pace.took(2, Duration::from_micros(2));
        }
        pace
    }

    #[test]
    fn nothing_is_known_before_the_first_launch() {
        assert!(!after(0).is_brief(1) && !after(0).is_short(1));
    }

    #[test]
    fn blocks_count() {
        let pace = after(1);
        assert!(pace.is_brief(9) && !pace.is_brief(10));
        assert!(pace.is_short(39) && !pace.is_short(40));
    }

    #[test]
    fn one_launch_of_many_that_takes_far_longer_was_interrupted_and_two_were_not() {
        let pace = after(CALM);
        pace.took(1, LONG);
        assert!(pace.is_brief(1));
        pace.took(1, LONG);
        assert!(!pace.is_short(1));
        let pace = after(CALM - 1);
        pace.took(1, LONG);
        assert!(!pace.is_short(1));
    }

    #[test]
    fn a_kernel_that_comes_to_take_longer_little_by_little_is_noticed() {
        let pace = after(CALM);
        for n in 1..20u32 {
            pace.took(1, Duration::from_micros(n.into()) * 4);
        }
        assert!(!pace.is_short(1));
    }
}
