//! Functions of the guest's program that streams call: which one's turn it is.
//!
//! One is given out at a time, in the order in which streams came to them; the next when the guest
//! has said that it is done. CUDA allows that: "host functions without a mandated order … may be
//! serialized" (`cuLaunchHostFunc`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vgpu_protocol::Status;

use crate::waker::Waker;

type Done = Box<dyn FnOnce() + Send>;

/// A function whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The guest's number of it.
    pub number: u64,
    /// What its stream has come to: success, or the error that ended the context.
    pub status: Status,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Turn, Done)>,
    /// What follows in the stream once the function that was given out is done.
    current: Option<Done>,
    /// Functions given out so far.
    given: u64,
}

/// See the module's documentation. The length of the queue is bounded by the operations that a
/// session may have queued.
pub struct Callbacks {
    state: Mutex<State>,
    waker: Arc<Waker>,
}

impl Callbacks {
    /// No function yet; `waker` wakes whoever gives them out.
    pub fn new(waker: Arc<Waker>) -> Callbacks {
        Callbacks {
            state: Mutex::default(),
            waker,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream has come to a function; `done` goes on with the stream.
    pub fn ready(&self, turn: Turn, done: impl FnOnce() + Send + 'static) {
        self.state().waiting.push_back((turn, Box::new(done)));
        self.waker.wake();
    }

    /// The function to call now, given out once.
    pub fn next(&self) -> Option<Turn> {
        let mut state = self.state();
        if state.current.is_some() {
            return None;
        }
        let (turn, done) = state.waiting.pop_front()?;
        state.current = Some(done);
        state.given += 1;
        Some(turn)
    }

    /// The guest says that it has done so many functions so far. More than were given out is what
    /// only a broken guest says: it means the ones that were.
    pub fn done(&self, count: u64) {
        let mut state = self.state();
        if count < state.given {
            return;
        }
        let done = state.current.take();
        drop(state);
        if let Some(done) = done {
            done();
        }
    }

    /// True while the guest has a function to call.
    pub fn is_given(&self) -> bool {
        self.state().current.is_some()
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("waiting", &self.state().waiting.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_and_each_once() {
        let all = Callbacks::new(Arc::default());
        let done = Arc::new(AtomicU32::new(0));
        for number in [7, 8] {
            let done = Arc::clone(&done);
            let status = Status::SUCCESS;
            all.ready(Turn { number, status }, move || {
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        all.done(1);
        assert_eq!(done.load(Ordering::Relaxed), 0, "nothing was given out");
        assert_eq!(all.next().map(|t| t.number), Some(7));
        assert_eq!(all.next(), None, "the first is not done");
        all.done(0);
        assert_eq!(done.load(Ordering::Relaxed), 0);
        all.done(1);
        all.done(1);
        assert_eq!(done.load(Ordering::Relaxed), 1);
        assert_eq!(all.next().map(|t| t.number), Some(8));
        all.done(u64::MAX);
        assert_eq!(done.load(Ordering::Relaxed), 2);
        assert!(!all.is_given());
    }
}
