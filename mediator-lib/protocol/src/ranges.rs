//! Who has which part of a range of numbers: addresses, or offsets in a file.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What is free of a range, in coalesced pieces; the lowest place that fits is taken.
#[derive(Debug, Default)]
pub struct FreeRanges {
    /// Length by first number.
    free: BTreeMap<u64, u64>,
}

impl FreeRanges {
    /// All of `base..base + bytes` is free.
    pub fn new(base: u64, bytes: u64) -> FreeRanges {
        let mut free = BTreeMap::new();
        if bytes > 0 {
            free.insert(base, bytes);
        }
        FreeRanges { free }
    }

    /// Takes `bytes` that begin at a multiple of `align`, a power of two.
    pub fn take(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let start = self.free.iter().find_map(|(&at, &len)| {
            let start = at.checked_next_multiple_of(align.max(1))?;
            (start - at <= len && len - (start - at) >= bytes).then_some(start)
        })?;
        self.take_at(start, bytes).then_some(start)
    }

    /// Takes exactly `start..start + bytes`, if it is free.
    pub fn take_at(&mut self, start: u64, bytes: u64) -> bool {
        let Some((&at, &len)) = self.free.range(..=start).next_back() else {
            return false;
        };
        let skip = start - at;
        if skip > len || bytes > len - skip {
            return false;
        }
        self.free.remove(&at);
        if skip > 0 {
            self.free.insert(at, skip);
        }
        let rest = len - skip - bytes;
        if rest > 0 {
            self.free.insert(start + bytes, rest);
        }
        true
    }

    /// Gives back what was taken.
    pub fn give(&mut self, start: u64, bytes: u64) {
        let (mut start, mut len) = (start, bytes);
        if len == 0 {
            return;
        }
        if let Some((&before, &before_len)) = self.free.range(..start).next_back()
            && before + before_len == start
        {
            self.free.remove(&before);
            start = before;
            len += before_len;
        }
        if let Some(after_len) = self.free.remove(&(start + len)) {
            len += after_len;
        }
        self.free.insert(start, len);
    }

    /// Bytes of the largest free piece.
    pub fn largest(&self) -> u64 {
        self.free.values().copied().max().unwrap_or(0)
    }

    /// Free bytes, whatever their pieces.
    pub fn total(&self) -> u64 {
        self.free.values().sum()
    }

    /// Number of free pieces.
    pub fn pieces(&self) -> usize {
        self.free.len()
    }
}

/// What may be done with memory (`CUmemAccess_flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permission {
    /// Nothing.
    #[default]
    None,
    /// Kernels and copies may read.
    Read,
    /// They may read and write.
    ReadWrite,
}

impl Permission {
    /// The permission of `CU_MEM_ACCESS_FLAGS_PROT_…`.
    pub fn from_flags(flags: u32) -> Option<Permission> {
        match flags {
            0 => Some(Permission::None),
            1 => Some(Permission::Read),
            3 => Some(Permission::ReadWrite),
            _ => None,
        }
    }

    /// Its `CU_MEM_ACCESS_FLAGS_PROT_…`.
    pub fn flags(self) -> u32 {
        match self {
            Permission::None => 0,
            Permission::Read => 1,
            Permission::ReadWrite => 3,
        }
    }

    /// True where it covers a read, or a write.
    pub fn allows(self, write: bool) -> bool {
        match self {
            Permission::None => false,
            Permission::Read => !write,
            Permission::ReadWrite => true,
        }
    }
}

/// Addresses that lead to one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<T> {
    /// Length in bytes.
    pub bytes: u64,
    /// What may be done there.
    pub permission: Permission,
    /// What is there.
    pub what: T,
}

/// Pieces by their first address, none over another.
#[derive(Clone, Debug)]
pub struct Pieces<T>(BTreeMap<u64, Piece<T>>);

impl<T> Default for Pieces<T> {
    fn default() -> Pieces<T> {
        Pieces(BTreeMap::new())
    }
}

impl<T> Pieces<T> {
    /// True where no piece lies in a range, which has no end beyond the last number.
    pub fn is_free(&self, addr: u64, bytes: u64) -> bool {
        let Some(end) = addr.checked_add(bytes) else {
            return false;
        };
        let before = self.0.range(..end).next_back();
        before.is_none_or(|(at, piece)| at + piece.bytes <= addr)
    }

    /// Adds a piece; false where it would lie over another, or has no bytes.
    pub fn insert(&mut self, addr: u64, piece: Piece<T>) -> bool {
        let free = piece.bytes > 0 && self.is_free(addr, piece.bytes);
        if free {
            self.0.insert(addr, piece);
        }
        free
    }

    /// Takes the piece that begins at an address.
    pub fn remove(&mut self, addr: u64) -> Option<Piece<T>> {
        self.0.remove(&addr)
    }

    /// The piece that begins at an address.
    pub fn get(&self, addr: u64) -> Option<&Piece<T>> {
        self.0.get(&addr)
    }

    /// The same, to change.
    pub fn get_mut(&mut self, addr: u64) -> Option<&mut Piece<T>> {
        self.0.get_mut(&addr)
    }

    /// The piece that holds an address, and where it begins.
    pub fn at(&self, addr: u64) -> Option<(u64, &Piece<T>)> {
        let (&base, piece) = self.0.range(..=addr).next_back()?;
        (addr - base < piece.bytes).then_some((base, piece))
    }

    /// All pieces, by address.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Piece<T>)> {
        self.0.iter().map(|(at, piece)| (*at, piece))
    }

    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the pieces begin that fill a range exactly; `None` where none do.
    pub fn whole(&self, addr: u64, bytes: u64) -> Option<Vec<u64>> {
        let end = addr.checked_add(bytes)?;
        let mut at = addr;
        let mut found = Vec::new();
        while at < end {
            let piece = self.0.get(&at)?;
            found.push(at);
            at += piece.bytes;
        }
        (at == end && !found.is_empty()).then_some(found)
    }

    /// The first of the pieces that hold a range without a gap, all of them allowing the access,
    /// where `joins` says for each pair of neighbours that an access may cross from one to the
    /// other.
    pub fn reach(
        &self,
        addr: u64,
        bytes: u64,
        write: bool,
        joins: impl Fn(&T, &T) -> bool,
    ) -> Option<&Piece<T>> {
        let end = addr.checked_add(bytes)?;
        let (base, first) = self.at(addr)?;
        let mut covered = base;
        let mut last: Option<&Piece<T>> = None;
        for (&at, piece) in self.0.range(base..) {
            let continues = last.is_none_or(|l| at == covered && joins(&l.what, &piece.what));
            if !continues || !piece.permission.allows(write) {
                return None;
            }
            covered = at + piece.bytes;
            if covered >= end {
                return Some(first);
            }
            last = Some(piece);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_can_be_taken_and_no_more() {
        let mut free = FreeRanges::new(100, 1000);
        assert_eq!(free.take(1001, 1), None);
        assert_eq!(free.take(1000, 1), Some(100));
        assert_eq!((free.take(1, 1), free.largest()), (None, 0));
        free.give(100, 1000);
        assert_eq!((free.pieces(), free.total()), (1, 1000));
    }

    #[test]
    fn places_are_aligned_and_what_is_before_stays_free() {
        let mut free = FreeRanges::new(1, 8191);
        assert_eq!(free.take(16, 4096), Some(4096));
        assert_eq!(free.pieces(), 2);
        assert_eq!(free.take(4095, 1), Some(1));
        assert!(!free.take_at(4100, 1), "taken");
        assert!(!free.take_at(8192, 1), "outside");
        assert!(!free.take_at(8191, 2), "half outside");
        assert!(free.take_at(8191, 1));
        assert_eq!(free.take(1, 1 << 63), None);
    }

    fn pieces() -> Pieces<u8> {
        let mut pieces = Pieces::default();
        for (at, permission, what) in [
            (100, Permission::ReadWrite, 1),
            (110, Permission::ReadWrite, 1),
            (120, Permission::Read, 1),
            (130, Permission::ReadWrite, 2),
            (150, Permission::None, 1),
        ] {
            let piece = Piece {
                bytes: 10,
                permission,
                what,
            };
            assert!(pieces.insert(at, piece));
        }
        pieces
    }

    #[test]
    fn accesses_cross_pieces_that_join_and_allow_them() {
        let pieces = pieces();
        let reach = |at, bytes, write| pieces.reach(at, bytes, write, |a, b| a == b).is_some();
        assert!(reach(100, 20, true) && reach(105, 15, true) && reach(119, 1, true));
        assert!(!reach(99, 1, false), "before all");
        assert!(!reach(100, 21, true), "read-only");
        assert!(reach(100, 30, false));
        assert!(!reach(100, 31, false), "the next one does not join");
        assert!(reach(130, 10, true) && !reach(130, 11, true), "a gap");
        assert!(!reach(150, 1, false), "no access");
        assert!(!reach(105, u64::MAX, false));
    }

    #[test]
    fn pieces_never_lie_over_each_other_and_ranges_of_whole_ones_are_found() {
        let mut pieces = pieces();
        let piece = |bytes| Piece {
            bytes,
            permission: Permission::None,
            what: 9,
        };
        for (at, bytes) in [
            (100, 1),
            (99, 2),
            (109, 1),
            (90, 100),
            (139, 1),
            (u64::MAX, 2),
            (500, 0),
        ] {
            assert!(!pieces.insert(at, piece(bytes)), "{at}+{bytes}");
        }
        assert!(pieces.insert(140, piece(10)));
        assert_eq!(pieces.whole(100, 20), Some(vec![100, 110]));
        for (at, bytes) in [
            (100, 0),
            (100, 15),
            (101, 9),
            (160, 10),
            (150, 20),
            (1, u64::MAX),
        ] {
            assert_eq!(pieces.whole(at, bytes), None, "{at}+{bytes}");
        }
        assert_eq!(pieces.at(149).map(|(base, _)| base), Some(140));
        assert_eq!(pieces.at(160), None);
    }

    #[test]
    fn neighbours_are_joined_in_any_order() {
        let mut free = FreeRanges::new(0, 64 * 16);
        let all: Vec<u64> = (0..64).filter_map(|_| free.take(16, 16)).collect();
        assert_eq!(all.len(), 64);
        for at in all.iter().step_by(2).chain(all.iter().skip(1).step_by(2)) {
            free.give(*at, 16);
        }
        assert_eq!((free.pieces(), free.largest()), (1, 64 * 16));
    }
}
