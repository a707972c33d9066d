//! Barriers of a block. From compute capability 7.0 on each thread arrives by itself (CUDA C++
//! Programming Guide, "Independent Thread Scheduling"): a barrier of the whole block waits for every
//! thread that has not ended; one with a count takes a warp whose threads have all arrived as 32.
#![allow(missing_docs)]

/// Barriers of a block (PTX ISA, "bar": 0 to 15).
pub const BARRIERS: usize = 16;

/// Threads that have arrived, and what they brought.
#[derive(Clone, Debug)]
pub struct Barrier {
    /// By warp.
    arrived: [u32; 32],
    /// How often a warp has arrived.
    arrivals: usize,
    expected: u32,
    pub popc: u32,
    pub and: bool,
    pub or: bool,
}

impl Barrier {
    pub const fn new(expected: u32) -> Barrier {
        Barrier {
            arrived: [0; 32],
            arrivals: 0,
            expected,
            popc: 0,
            and: true,
            or: false,
        }
    }

    /// Lanes of a warp arrive; `p` are those whose predicate of a reduction holds.
    pub fn arrive(&mut self, warp: usize, lanes: u32, p: u32) {
        if let Some(slot) = self.arrived.get_mut(warp) {
            *slot |= lanes;
        }
        self.arrivals += 1;
        self.popc += (p & lanes).count_ones();
        self.and &= p & lanes == lanes;
        self.or |= p & lanes != 0;
    }

    /// Whether all have come that it waits for. `dead` are the lanes of each warp that have ended
    /// or never were.
    pub fn complete(&self, dead: impl DoubleEndedIterator<Item = u32> + ExactSizeIterator) -> bool {
        let count = dead.len().min(self.arrived.len());
        let warps = self.arrived[..count].iter().zip(dead);
        if self.expected == 0 {
            // Warps run in order: most often the last one is missing.
            return warps.rev().all(|(&a, dead)| a | dead == u32::MAX);
        }
        let count = |(&a, dead): (&u32, u32)| {
            if a != 0 && a | dead == u32::MAX {
                32
            } else {
                a.count_ones()
            }
        };
        warps.map(count).sum::<u32>() >= self.expected
    }
}

/// The barriers of a block.
#[derive(Debug, Default)]
pub struct Barriers {
    /// Up to the highest that was used: most kernels have none or one.
    list: Vec<Barrier>,
    /// Those at which a warp has arrived, and that have not let them go.
    open: u32,
}

impl Barriers {
    /// For the next block.
    pub fn clear(&mut self) {
        self.open = 0;
    }

    /// The barrier of this number, with the count of the first that arrives; none beyond the last.
    pub fn at(&mut self, number: u32, expected: u32) -> Option<&mut Barrier> {
        let place = number as usize;
        if place >= BARRIERS {
            return None;
        }
        if self.list.len() <= place {
            self.list.resize_with(place + 1, || Barrier::new(0));
        }
        let b = self.list.get_mut(place)?;
        if self.open & (1 << number) == 0 {
            *b = Barrier::new(expected);
            self.open |= 1 << number;
        }
        Some(b)
    }

    /// Numbers of the open ones, as bits.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Closes a barrier that is complete, and gives what it holds. `left` warps have not ended.
    pub fn close(
        &mut self,
        number: u32,
        left: usize,
        dead: impl DoubleEndedIterator<Item = u32> + ExactSizeIterator,
    ) -> Option<&Barrier> {
        let b = self.list.get(number as usize)?;
        // Each of them must have arrived.
        if b.expected == 0 && b.arrivals < left || !b.complete(dead) {
            return None;
        }
        self.open &= !(1 << number);
        Some(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_opens_with_the_first_count_and_closes_complete() {
        let mut all = Barriers::default();
        assert!(all.at(BARRIERS as u32, 0).is_none());
        for _ in 0..2 {
            let b = all.at(BARRIERS as u32 - 1, 32).expect("the last barrier");
            b.arrive(0, 1, 1);
            assert_eq!(all.open(), 1 << 15);
            assert!(all.close(15, 2, [0, 0].into_iter()).is_none());
            all.at(15, 64).expect("open").arrive(1, !1, 0);
            assert_eq!(
                all.close(15, 2, [0, 0].into_iter()).map(|b| b.popc),
                Some(1)
            );
            assert_eq!(all.open(), 0);
        }
    }

    #[test]
    fn the_block_s_barrier_waits_for_each_thread() {
        let mut b = Barrier::new(0);
        b.arrive(0, 0xffff_fff0, 0);
        let tail = !0xffff;
        assert!(!b.complete([0, tail].into_iter()));
        b.arrive(0, 0xf, 0);
        assert!(!b.complete([0, tail].into_iter()));
        b.arrive(1, 0xff, 0);
        assert!(!b.complete([0, tail].into_iter()));
        assert!(b.complete([0, tail | 0xff00].into_iter()), "the rest ended");
    }

    #[test]
    fn a_count_takes_whole_warps() {
        let mut b = Barrier::new(64);
        b.arrive(2, 0xffff, 0);
        b.arrive(0, u32::MAX, 0);
        assert!(!b.complete([0, 0, 0].into_iter()));
        assert!(
            b.complete([0, 0, !0xffff].into_iter()),
            "16 threads that are a whole warp"
        );
    }
}
