//! Interrupts that are on their way from a worker thread to the guest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What was raised and not delivered yet. Any thread raises and takes back, one delivers.
pub(crate) struct Pending {
    vectors: u32,
    words: Box<[Word]>,
    lower: AtomicBool,
}

/// 64 vectors, one bit each.
#[derive(Default)]
struct Word {
    raised: AtomicU64,
    /// Of those: taken back since, which counts where pin A is used.
    cancelled: AtomicU64,
}

/// How the guest wants its interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A message per vector.
    Msix,
    /// The level of pin A.
    Pin,
}

/// One step of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Pin A goes low.
    Lower,
    /// This vector fires: a message, or pin A goes high.
    Fire(u32),
}

impl Pending {
    pub(crate) fn new(vectors: u32) -> Pending {
        Pending {
            vectors,
            words: (0..vectors.div_ceil(64)).map(|_| Word::default()).collect(),
            lower: AtomicBool::new(false),
        }
    }

    /// Notes a vector; true if a delivery must be scheduled for it.
    pub(crate) fn raise(&self, vector: u32) -> bool {
        if vector >= self.vectors {
            return false;
        }
        let Some(word) = self.words.get((vector / 64) as usize) else {
            return false;
        };
        let bit = 1 << (vector % 64);
        word.cancelled.fetch_and(!bit, Ordering::AcqRel);
        word.raised.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Takes the level of pin A back, with all that was raised for it so far.
    pub(crate) fn lower(&self) {
        for word in &self.words {
            let raised = word.raised.load(Ordering::Acquire);
            word.cancelled.fetch_or(raised, Ordering::AcqRel);
        }
        self.lower.store(true, Ordering::Release);
    }

    /// Forgets everything; the pin goes low with the next delivery.
    pub(crate) fn clear(&self) {
        for word in &self.words {
            word.raised.store(0, Ordering::Release);
            word.cancelled.store(0, Ordering::Release);
        }
        self.lower.store(true, Ordering::Release);
    }

    /// True once after each `lower` that no delivery has seen.
    pub(crate) fn take_lower(&self) -> bool {
        self.lower.swap(false, Ordering::AcqRel)
    }

    /// Hands over what is pending.
    pub(crate) fn deliver(&self, mode: Mode, mut to: impl FnMut(Action)) {
        if self.take_lower() {
            to(Action::Lower);
        }
        for (word, base) in self.words.iter().zip((0u32..).step_by(64)) {
            let mut bits = word.raised.swap(0, Ordering::AcqRel);
            let cancelled = word.cancelled.swap(0, Ordering::AcqRel);
            if mode == Mode::Pin {
                bits &= !cancelled;
            }
            while bits != 0 {
                to(Action::Fire(base + bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(pending: &Pending, mode: Mode) -> Vec<Action> {
        let mut actions = Vec::new();
        pending.deliver(mode, |action| actions.push(action));
        actions
    }

    #[test]
    fn a_vector_is_scheduled_once_and_fires_once() {
        let pending = Pending::new(65);
        assert!(pending.raise(64));
        assert!(!pending.raise(64));
        assert!(pending.raise(3));
        let both = vec![Action::Fire(3), Action::Fire(64)];
        assert_eq!(delivered(&pending, Mode::Msix), both);
        assert_eq!(delivered(&pending, Mode::Msix), vec![]);
        assert!(pending.raise(64));
    }

    #[test]
    fn a_vector_that_does_not_exist_is_ignored() {
        let pending = Pending::new(2);
        assert!(pending.raise(1));
        assert!(!pending.raise(2));
        assert!(!pending.raise(u32::MAX));
        assert_eq!(delivered(&pending, Mode::Msix), vec![Action::Fire(1)]);
        assert!(!Pending::new(0).raise(0));
    }

    #[test]
    fn what_was_lowered_does_not_raise_the_pin_later() {
        let pending = Pending::new(2);
        pending.raise(0);
        pending.lower();
        assert_eq!(delivered(&pending, Mode::Pin), vec![Action::Lower]);
        pending.raise(0);
        pending.lower();
        pending.raise(1);
        let raised_after = vec![Action::Lower, Action::Fire(1)];
        assert_eq!(delivered(&pending, Mode::Pin), raised_after);
        // The same vector again, for a new reason.
        pending.raise(0);
        pending.lower();
        pending.raise(0);
        let raised_again = vec![Action::Lower, Action::Fire(0)];
        assert_eq!(delivered(&pending, Mode::Pin), raised_again);
    }

    #[test]
    fn lowering_the_pin_takes_no_message_back() {
        let pending = Pending::new(1);
        pending.raise(0);
        pending.lower();
        let both = vec![Action::Lower, Action::Fire(0)];
        assert_eq!(delivered(&pending, Mode::Msix), both);
    }

    #[test]
    fn a_reset_leaves_nothing_pending() {
        let pending = Pending::new(1);
        pending.raise(0);
        pending.clear();
        assert_eq!(delivered(&pending, Mode::Msix), vec![Action::Lower]);
    }
}
