//! For how much of the last second kernels were running.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The span that [`Busy::percent`] looks back over.
const WINDOW: Duration = Duration::from_secs(1);
/// Pieces of the window.
const BUCKETS: u64 = 16;
const BUCKET_NS: u64 = WINDOW.as_nanos() as u64 / BUCKETS;

/// Counts the time in which at least one kernel runs.
#[derive(Debug)]
pub struct Busy(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Kernels that run now, and since when at least one does, in nanoseconds after `origin`.
    running: u32,
    since: u64,
    /// Number of a piece of time, and the nanoseconds of it that were busy.
    buckets: [(u64, u64); BUCKETS as usize],
    origin: Instant,
}

/// A running kernel.
#[derive(Debug)]
pub struct Running<'a> {
    busy: &'a Busy,
    end: Option<Instant>,
}

impl Default for Busy {
    fn default() -> Busy {
        Busy(Mutex::new(State {
            running: 0,
            since: 0,
            buckets: [(0, 0); BUCKETS as usize],
            origin: Instant::now(),
        }))
    }
}

impl State {
    fn at(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.origin).as_nanos() as u64
    }

    /// Notes that the time from `since` to `now` was busy.
    fn note(&mut self, now: u64) {
        // What is older than the window falls out of it anyway.
        let mut at = self.since.max(now.saturating_sub(WINDOW.as_nanos() as u64));
        while at < now {
            let number = at / BUCKET_NS;
            let end = now.min((number + 1) * BUCKET_NS);
            let bucket = &mut self.buckets[(number % BUCKETS) as usize];
            if bucket.0 != number {
                *bucket = (number, 0);
            }
            bucket.1 += end - at;
            at = end;
        }
        self.since = now;
    }

    fn percent(&mut self, now: u64) -> u32 {
        if self.running > 0 {
            self.note(now);
        }
        // The piece that has begun, and the whole ones before it.
        let current = now / BUCKET_NS;
        let first = (current + 1).saturating_sub(BUCKETS);
        let busy: u64 = self
            .buckets
            .iter()
            .filter(|(number, _)| (first..=current).contains(number))
            .map(|(_, ns)| ns)
            .sum();
        let span = (now - first * BUCKET_NS).max(1);
        (busy * 100 / span).min(100) as u32
    }
}

impl Busy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kernel began at a time; it ends when the value is dropped.
    pub fn enter(&self, start: Instant) -> Running<'_> {
        let mut state = self.state();
        if state.running == 0 {
            state.since = state.at(start);
        }
        state.running += 1;
        Running {
            busy: self,
            end: None,
        }
    }

    /// A kernel has run, so shortly that nobody need have seen it running.
    pub fn add(&self, start: Instant, end: Instant) {
        let mut state = self.state();
        // While another one runs, that time counts anyway.
        if state.running == 0 {
            state.since = state.at(start).max(state.since);
            let end = state.at(end);
            state.note(end);
        }
    }

    /// Percent of the last second.
    pub fn percent(&self) -> u32 {
        let mut state = self.state();
        let now = state.at(Instant::now());
        state.percent(now)
    }
}

impl Running<'_> {
    /// It ended at a time.
    pub fn end(mut self, end: Instant) {
        self.end = Some(end);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let end = self.end.unwrap_or_else(Instant::now);
        let mut state = self.busy.state();
        state.running -= 1;
        if state.running == 0 {
            let now = state.at(end);
            state.note(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A state in which a kernel has run in these spans.
    fn after(spans: &[(u64, u64)]) -> State {
        let busy = Busy::default();
        let mut state = busy.0.into_inner().expect("no panic");
        for (from, to) in spans {
            state.since = *from;
            state.note(*to);
        }
        state
    }

    #[test]
    fn the_share_is_that_of_the_last_second() {
        assert_eq!(after(&[]).percent(10 * SECOND), 0);
        let whole = [(0, 10 * SECOND)];
        assert_eq!(after(&whole).percent(10 * SECOND), 100);
        assert_eq!(after(&whole).percent(12 * SECOND), 0);
        let half: Vec<_> = (0..100)
            .map(|i| (i * SECOND / 10, i * SECOND / 10 + SECOND / 20))
            .collect();
        let percent = after(&half).percent(10 * SECOND);
        assert!((45..=55).contains(&percent), "{percent}");
    }

    #[test]
    fn a_kernel_that_still_runs_counts() {
        let mut state = after(&[]);
        state.running = 1;
        state.since = 5 * SECOND;
        assert_eq!(state.percent(20 * SECOND), 100);
    }

    #[test]
    fn kernels_at_the_same_time_count_once() {
        let busy = Busy::default();
        let now = Instant::now();
        let (a, b) = (busy.enter(now), busy.enter(now));
        drop(a);
        assert_eq!(busy.state().running, 1);
        drop(b);
        assert_eq!(busy.state().running, 0);
        assert!(busy.percent() <= 100);
    }
}
