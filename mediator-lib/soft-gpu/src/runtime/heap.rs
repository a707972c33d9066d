//! The allocator behind device `malloc`. Its bookkeeping is outside device memory: a kernel that
//! writes past its block damages only its own data.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Alignment of every block (CUDA C++ Programming Guide, "Dynamic Global Memory Allocation").
const ALIGN: u64 = 16;
/// Most live blocks: bounds the host's bookkeeping, about 100 bytes each.
pub const MAX_BLOCKS: usize = 1 << 20;

/// A heap over one range of device addresses.
#[derive(Debug)]
pub struct Heap {
    base: u64,
    live: HashMap<u64, u64>,
    free: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
}

impl Heap {
    /// A heap of `bytes` at `base`, both multiples of 16.
    pub fn new(base: u64, bytes: u64) -> Heap {
        Heap {
            base,
            live: HashMap::new(),
            free: BTreeMap::from([(base, bytes)]),
            by_size: BTreeSet::from([(bytes, base)]),
        }
    }

    /// Its first address.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// A block of at least `bytes`, from the smallest free range that holds it; none for 0 bytes.
    pub fn alloc(&mut self, bytes: u64) -> Option<u64> {
        if bytes == 0 || self.live.len() >= MAX_BLOCKS {
            return None;
        }
        let bytes = bytes.checked_next_multiple_of(ALIGN)?;
        let &(len, at) = self.by_size.range((bytes, 0)..).next()?;
        self.take(at, len);
        if len > bytes {
            self.put(at + bytes, len - bytes);
        }
        self.live.insert(at, bytes);
        Some(at)
    }

    /// Frees a block; false if it is none.
    pub fn free(&mut self, at: u64) -> bool {
        let Some(bytes) = self.live.remove(&at) else {
            return false;
        };
        let (mut start, mut len) = (at, bytes);
        if let Some((&before, &n)) = self.free.range(..start).next_back()
            && before + n == start
        {
            self.take(before, n);
            (start, len) = (before, len + n);
        }
        if let Some(&n) = self.free.get(&(start + len)) {
            self.take(start + len, n);
            len += n;
        }
        self.put(start, len);
        true
    }

    fn take(&mut self, at: u64, len: u64) {
        self.free.remove(&at);
        self.by_size.remove(&(len, at));
    }

    fn put(&mut self, at: u64, len: u64) {
        self.free.insert(at, len);
        self.by_size.insert((len, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_apart_and_joined_again() {
        let mut h = Heap::new(0x1000, 0x100);
        let blocks: Vec<u64> = (0..4).map(|_| h.alloc(50).unwrap()).collect();
        assert_eq!(blocks, [0x1000, 0x1040, 0x1080, 0x10c0]);
        assert_eq!(h.alloc(1), None);
        assert!(h.free(0x1040) && h.free(0x10c0) && h.free(0x1080) && h.free(0x1000));
        assert_eq!(h.alloc(0x101), None);
        assert_eq!(h.alloc(0x100), Some(0x1000));
        assert_eq!(h.alloc(0), None);
        assert_eq!(h.alloc(u64::MAX), None);
        assert!(!h.free(0x1010));
    }

    #[test]
    fn the_number_of_blocks_is_bounded() {
        let mut h = Heap::new(0, 2 * MAX_BLOCKS as u64 * ALIGN);
        for _ in 0..MAX_BLOCKS {
            assert!(h.alloc(1).is_some());
        }
        assert_eq!(h.alloc(1), None);
    }
}
