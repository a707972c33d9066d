//! Counters of a worker, as its supervisor sees them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Cases begun.
    Cases,
    /// Images that were loaded.
    Loaded,
    /// Images with an error.
    Refused,
    /// Kernels that are not supported.
    Unsupported,
    /// Launches that came to their end.
    Ran,
    /// Launches that ended with an illegal address.
    Illegal,
    /// Launches that ended with a misaligned address.
    Misaligned,
    /// Launches that ran into their limit.
    TimedOut,
    /// Launches that ended with another error.
    OtherFault,
    /// Cases for which the host had no memory.
    NoMemory,
    /// Launches whose outcome was compared with that in another form.
    Compared,
}

/// All of them, with what they are called.
pub const COUNTERS: [(Counter, &str); 11] = [
    (Counter::Cases, "cases"),
    (Counter::Loaded, "loaded"),
    (Counter::Refused, "refused"),
    (Counter::Unsupported, "unsupported"),
    (Counter::Ran, "launches that ended"),
    (Counter::Illegal, "illegal addresses"),
    (Counter::Misaligned, "misaligned addresses"),
    (Counter::TimedOut, "launches timed out"),
    (Counter::OtherFault, "other faults"),
    (Counter::NoMemory, "out of host memory"),
    (Counter::Compared, "outcomes compared"),
];

/// Their values.
#[derive(Debug, Default)]
pub struct Stats([AtomicU64; COUNTERS.len()]);

impl Stats {
    /// Counts one more.
    pub fn count(&self, c: Counter) {
        self.0[c as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The values in order.
    pub fn values(&self) -> [u64; COUNTERS.len()] {
        std::array::from_fn(|k| self.0[k].load(Ordering::Relaxed))
    }
}

/// Values as a line.
pub fn line(values: &[u64]) -> String {
    let parts = COUNTERS.iter().zip(values).filter(|(_, v)| **v > 0);
    let parts: Vec<_> = parts.map(|((_, name), v)| format!("{v} {name}")).collect();
    parts.join(", ")
}
