//! Random numbers that are the same in every run with the same seed.

/// A generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that begins with `seed`; seeds that lie side by side have nothing in common.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 where `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of a list, which must not be empty.
    pub fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// A number that is worth trying: small, near a power of two, or any.
    pub fn number(&mut self) -> i64 {
        match self.below(8) {
            0..=2 => self.below(40) as i64 - 8,
            3 | 4 => {
                let power = 1i64.wrapping_shl(self.below(64) as u32);
                power.wrapping_add(self.below(19) as i64 - 9)
            }
            5 => (-1i64)
                .wrapping_shl(self.below(64) as u32)
                .wrapping_add(self.below(19) as i64 - 9),
            6 => 4 * (self.below(1 << 14) as i64 - (1 << 13)),
            _ => self.bits() as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_within_bounds() {
        let list = |seed| {
            let mut r = Random::new(seed);
            (0..1000).map(|_| r.below(7)).collect::<Vec<_>>()
        };
        assert_eq!(list(3), list(3));
        assert_ne!(list(3), list(4));
        for n in 0..7 {
            assert!(list(3).contains(&n), "{n}");
        }
        assert!(list(3).iter().all(|n| *n < 7));
        assert_eq!(Random::new(1).below(0), 0);
    }
}
