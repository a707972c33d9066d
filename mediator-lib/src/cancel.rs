//! Ending a session from another thread, whatever its worker is doing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

type Hook = Box<dyn Fn() + Send>;

/// Set once, when the channel is reset or the device goes away.
#[derive(Default)]
pub struct Cancel {
    set: AtomicBool,
    hooks: Mutex<Vec<Hook>>,
}

impl Cancel {
    /// True once the session is to end.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Ends the session: long operations stop as soon as they can.
    pub fn set(&self) {
        self.set.store(true, Ordering::Release);
        for hook in self
            .hooks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            hook();
        }
    }

    /// Runs `hook` when the session is ended, or now if it has been.
    pub fn on_set(&self, hook: impl Fn() + Send + 'static) {
        let mut hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_set() {
            drop(hooks);
            hook();
        } else {
            hooks.push(Box::new(hook));
        }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel")
            .field("set", &self.is_set())
            .finish_non_exhaustive()
    }
}
