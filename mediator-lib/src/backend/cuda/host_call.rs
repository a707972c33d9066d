//! Functions of the guest's program that the driver's streams call.
//!
//! The driver calls one of ours, in a thread of its own; it passes the function's turn to the guest
//! and holds the stream until the guest has called it, or the session ends. The driver gets a
//! number and no pointer: a function that it never calls (its context has failed) leaves nothing
//! behind, and one that it calls after the session's end finds nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vgpu_protocol::Status;
use vgpu_protocol::limits::MAX_FUNCTIONS;

use crate::backend::SessionContext;
use crate::callbacks::Turn;

type Call = Arc<dyn Fn() + Send + Sync>;

struct Entry {
    call: Call,
    once: bool,
}

static CALLS: LazyLock<Mutex<HashMap<u64, Entry>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// How often a thread of the driver's looks whether the session has ended.
const LOOK: Duration = Duration::from_millis(10);

fn calls() -> MutexGuard<'static, HashMap<u64, Entry>> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called by the driver's thread.
pub fn run(key: u64) {
    let call = {
        let mut calls = calls();
        match calls.get(&key) {
            None => return,
            Some(entry) if entry.once => calls.remove(&key).map(|e| e.call),
            Some(entry) => Some(Arc::clone(&entry.call)),
        }
    };
    if let Some(call) = call {
        call();
    }
}

/// What has the guest call the function with this number.
pub fn call(number: u64, context: &SessionContext) -> Call {
    let (callbacks, cancel) = (Arc::clone(&context.callbacks), Arc::clone(&context.cancel));
    Arc::new(move || {
        let turn = Turn {
            number,
            status: Status::SUCCESS,
        };
        let done = Arc::new((Mutex::new(false), Condvar::new()));
        let signal = Arc::clone(&done);
        callbacks.ready(turn, move || {
            *signal.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            signal.1.notify_all();
        });
        let mut is_done = done.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_done && !cancel.is_set() {
            let waited = done.1.wait_timeout(is_done, LOOK);
            is_done = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    })
}

/// A session's functions; they go with it.
#[derive(Debug, Default)]
pub struct HostCalls {
    /// Keys that may still be known, of functions that are called once.
    keys: Vec<u64>,
    /// Length of `keys` at which the ones that are gone are left out.
    prune_at: usize,
    /// Keys of functions of graphs, by the guest's number.
    of_graphs: HashMap<u64, u64>,
}

impl HostCalls {
    /// Keeps a function until it is called.
    pub fn once(&mut self, call: Call) -> u64 {
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut calls = calls();
        calls.insert(key, Entry { call, once: true });
        if self.keys.len() >= self.prune_at {
            self.keys.retain(|key| calls.contains_key(key));
            self.prune_at = (self.keys.len() * 2).max(64);
        }
        self.keys.push(key);
        key
    }

    /// Keeps the function with this number for graphs, whose launches may call it at any time.
    ///
    /// # Errors
    /// `ERROR_OUT_OF_MEMORY` where there are [`MAX_FUNCTIONS`].
    pub fn of_graph(&mut self, number: u64, call: Call) -> Result<u64, Status> {
        if let Some(key) = self.of_graphs.get(&number) {
            return Ok(*key);
        }
        if self.of_graphs.len() >= MAX_FUNCTIONS {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        calls().insert(key, Entry { call, once: false });
        self.of_graphs.insert(number, key);
        Ok(key)
    }

    /// Lets go of a function.
    pub fn remove(&self, key: u64) {
        calls().remove(&key);
    }
}

impl Drop for HostCalls {
    fn drop(&mut self) {
        let mut calls = calls();
        for key in self.keys.iter().chain(self.of_graphs.values()) {
            calls.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn functions_are_called_as_often_as_they_may_and_go_with_their_session() {
        let count = Arc::new(AtomicU32::new(0));
        let counting = |count: &Arc<AtomicU32>| -> Call {
            let count = Arc::clone(count);
            Arc::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            })
        };
        let mut session = HostCalls::default();
        let once = session.once(counting(&count));
        let often = session.of_graph(7, counting(&count)).expect("room");
        assert_eq!(session.of_graph(7, counting(&count)), Ok(often));
        for key in [once, once, often, often] {
            run(key);
        }
        assert_eq!(count.load(Ordering::Relaxed), 3);
        drop(session);
        run(often);
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}
