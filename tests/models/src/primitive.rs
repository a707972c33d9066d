//! What `states` is made of, in the model checker's world. The queue is a list under a lock: it
//! orders no less than the lock-free one of the device, which has its own proof.

use std::collections::VecDeque;

pub use loom::sync::Mutex;
pub use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, MutexGuard};

/// Takes a lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// An eventfd.
#[derive(Debug, Default)]
pub struct Doorbell(Mutex<bool>, Condvar);

impl Doorbell {
    /// Wakes whoever waits.
    pub fn ring(&self) {
        *lock(&self.0) = true;
        self.1.notify_one();
    }

    /// Waits until it has been rung since the last wait.
    pub fn wait(&self) {
        let mut rung = lock(&self.0);
        while !*rung {
            rung = self.1.wait(rung).unwrap_or_else(|e| e.into_inner());
        }
        *rung = false;
    }
}

/// A bounded queue.
#[derive(Debug)]
pub struct Queue<T>(Mutex<VecDeque<T>>, usize);

impl<T> Queue<T> {
    /// An empty one.
    pub fn new(capacity: usize) -> Queue<T> {
        Queue(Mutex::new(VecDeque::new()), capacity)
    }

    /// Adds at the end; gives it back where there is no room.
    pub fn push(&self, value: T) -> Result<(), T> {
        let mut queue = lock(&self.0);
        if queue.len() == self.1 {
            return Err(value);
        }
        queue.push_back(value);
        Ok(())
    }

    /// Takes the first.
    pub fn pop(&self) -> Option<T> {
        lock(&self.0).pop_front()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}
