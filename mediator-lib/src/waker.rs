//! Waking the thread that serves a session when asynchronous work has come further.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

type Hook = Box<dyn Fn() + Send + Sync>;

/// Shared by a session's worker and by the threads that do its work.
///
/// A session whose worker has set a hook does not wait in the bodies of its calls: such a call is
/// suspended, the worker goes on with the ring, and looks at it again when there was progress.
#[derive(Default)]
pub struct Waker {
    hook: OnceLock<Hook>,
    progress: AtomicU64,
    parked: AtomicBool,
    /// The worker has something that progress may end.
    watched: AtomicBool,
}

impl Waker {
    /// Sets what wakes the worker, once.
    pub fn set_hook(&self, hook: impl Fn() + Send + Sync + 'static) {
        // A second hook would be the same worker's.
        let _ = self.hook.set(Box::new(hook));
    }

    /// True where calls that wait are suspended.
    pub fn is_on(&self) -> bool {
        self.hook.get().is_some()
    }

    /// Something that a suspended call may wait for has happened.
    pub fn wake(&self) {
        self.progress.fetch_add(1, Ordering::Release);
        // The worker stores `parked` and then loads `progress`: one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed)
            && self.parked.swap(false, Ordering::AcqRel)
            && let Some(hook) = self.hook.get()
        {
            hook();
        }
    }

    /// As [`Waker::wake`], for what happens often: it costs next to nothing while nobody waits.
    pub fn advance(&self) {
        // The worker stores `watched` and then looks at what it waits for: one of the two sees the
        // other.
        fence(Ordering::SeqCst);
        if self.watched.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Says whether the worker waits for anything. After `true` it must look once at what it waits
    /// for before it relies on [`Waker::advance`].
    pub fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Counts what has happened.
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Acquire)
    }

    /// Announces that the worker will sleep, having seen `progress`. `false`: there was more.
    pub fn park(&self, progress: u64) -> bool {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.progress() == progress {
            return true;
        }
        self.unpark();
        false
    }

    /// Ends what [`Waker::park`] began.
    pub fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker")
            .field("on", &self.is_on())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn only_a_parked_worker_is_woken_and_never_one_that_missed_something() {
        let waker = Waker::default();
        let rung = Arc::new(AtomicU32::new(0));
        let bell = Arc::clone(&rung);
        waker.set_hook(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        });
        let seen = waker.progress();
        waker.wake();
        assert_eq!(rung.load(Ordering::Relaxed), 0, "awake");
        assert!(!waker.park(seen), "it missed a step");
        assert!(waker.park(waker.progress()));
        waker.wake();
        waker.wake();
        assert_eq!(rung.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn only_who_watches_hears_of_what_happens_often() {
        let waker = Waker::default();
        waker.advance();
        assert_eq!(waker.progress(), 0);
        waker.set_watched(true);
        waker.advance();
        assert_eq!(waker.progress(), 1);
        waker.set_watched(false);
        waker.advance();
        assert_eq!(waker.progress(), 1);
    }
}
