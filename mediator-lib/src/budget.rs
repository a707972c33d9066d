//! The VM's share of device memory, shared by all its sessions: in this process, or through a
//! [`Ledger`](crate::ledger::Ledger) where each has a process of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ledger::Column;

/// Counts bytes against a limit.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: Counter,
    /// Whose bytes these are as well.
    whole: Option<Arc<Budget>>,
}

#[derive(Debug)]
enum Counter {
    Here(AtomicU64),
    Shared(Column),
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: u64,
    _of_whole: Option<Box<Share>>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            used: Counter::Here(AtomicU64::new(0)),
            whole: None,
        })
    }

    /// A part of a budget that counts its own bytes; what it takes is taken from the whole.
    pub fn part(self: &Arc<Self>) -> Arc<Budget> {
        Arc::new(Budget {
            limit: self.limit,
            used: Counter::Here(AtomicU64::new(0)),
            whole: Some(Arc::clone(self)),
        })
    }

    /// A budget of `limit` bytes that other processes take from, too.
    pub fn shared(limit: u64, column: Column) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            used: Counter::Shared(column),
            whole: None,
        })
    }

    /// The budget that this one is a part of; itself where it is none.
    fn whole(&self) -> &Budget {
        self.whole.as_deref().map_or(self, Budget::whole)
    }

    /// Bytes taken: by this part alone, where it is one; by this process, where there are others.
    pub fn used(&self) -> u64 {
        match &self.used {
            Counter::Here(used) => used.load(Ordering::Relaxed),
            Counter::Shared(column) => column.used(),
        }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that nobody has taken.
    pub fn free(&self) -> u64 {
        let whole = self.whole();
        let taken = match &whole.used {
            Counter::Here(_) => whole.used(),
            Counter::Shared(column) => column.sum(),
        };
        self.limit.saturating_sub(taken)
    }

    /// Takes `bytes`, or `None` when they are not there.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        if !self.used.take(bytes, self.limit) {
            return None;
        }
        let of_whole = self.whole.as_ref().map(|whole| whole.take(bytes));
        if matches!(of_whole, Some(None)) {
            self.used.give_back(bytes);
            return None;
        }
        Some(Share {
            budget: Arc::clone(self),
            bytes,
            _of_whole: of_whole.flatten().map(Box::new),
        })
    }
}

impl Counter {
    fn take(&self, bytes: u64, limit: u64) -> bool {
        match self {
            Counter::Here(used) => {
                let take = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
                used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    .is_ok()
            }
            Counter::Shared(column) => column.take(bytes, limit),
        }
    }

    fn give_back(&self, bytes: u64) {
        match self {
            Counter::Here(used) => {
                used.fetch_sub(bytes, Ordering::Relaxed);
            }
            Counter::Shared(column) => column.give_back(bytes),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_can_be_taken_and_no_more() {
        let budget = Budget::new(100);
        let a = budget.take(60).expect("free");
        assert!(budget.take(41).is_none());
        let b = budget.take(40).expect("free");
        assert_eq!(budget.free(), 0);
        assert!(budget.take(u64::MAX).is_none());
        drop(a);
        assert_eq!(budget.free(), 60);
        drop(b);
        assert_eq!(budget.free(), 100);
    }

    #[test]
    fn parts_share_the_whole_and_know_their_own() {
        let whole = Budget::new(100);
        let (one, two) = (whole.part(), whole.part());
        let a = one.take(70).expect("free");
        assert!(two.take(31).is_none());
        assert_eq!((one.used(), two.used(), whole.used()), (70, 0, 70));
        let b = two.take(30).expect("free");
        assert_eq!((one.free(), two.free(), whole.free()), (0, 0, 0));
        drop(a);
        assert_eq!((one.used(), two.free(), whole.used()), (0, 70, 30));
        drop(b);
        assert_eq!(whole.free(), 100);
    }
}
