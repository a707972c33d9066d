//! What [`states`](super::states) is made of; the model checker has its own.

pub use std::sync::Mutex;
pub use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};

pub use crossbeam_queue::ArrayQueue as Queue;

pub use crate::doorbell::Doorbell;

/// Takes a lock. No code under it leaves its data half-changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
