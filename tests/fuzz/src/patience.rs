//! When a worker hangs: by the processor time that it has used since it last came forward, and by the time in which all of
//! its threads slept. A busy machine, where it is ready to run and does not get to, has no part in it.

use std::fs;
use std::time::{Duration, Instant};

/// Ticks of a second in `/proc` (`USER_HZ`).
const TICKS: u64 = 100;

/// A look at a process.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When.
    pub at: Instant,
    /// Processor time that it has used so far.
    pub used: Duration,
    /// Every thread waits for something that only another thread or a timer can give.
    pub asleep: bool,
}

/// Why a worker hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// It has computed for so long without coming forward.
    Busy(Duration),
    /// It has slept for so long.
    Asleep(Duration),
}

/// What a worker may take before its first case at the least: it reads what it changes.
const START: Duration = Duration::from_secs(60);

/// What a worker may still take before it hangs.
pub struct Patience {
    limit: Duration,
    cases: u64,
    /// Processor time at its last progress, and how long it has slept since then.
    before: Duration,
    slept: Duration,
    last: Instant,
}

impl Patience {
    /// For a worker that starts now. A case may take `limit` of processor time, and twice as long asleep.
    pub fn new(limit: Duration, now: Instant) -> Patience {
        Patience {
            limit,
            cases: 0,
            before: Duration::ZERO,
            slept: Duration::ZERO,
            last: now,
        }
    }

    /// Takes a look at the worker, which has begun so many cases.
    pub fn look(&mut self, cases: u64, look: Look) -> Option<Hang> {
        let since = look.at.saturating_duration_since(self.last);
        self.last = look.at;
        if cases != self.cases {
            (self.cases, self.before, self.slept) = (cases, look.used, Duration::ZERO);
            return None;
        }
        if look.asleep {
            self.slept += since;
        }
        let limit = match self.cases {
            0 => self.limit.max(START),
            _ => self.limit,
        };
        let busy = look.used.saturating_sub(self.before);
        if busy >= limit {
            Some(Hang::Busy(busy))
        } else if self.slept >= 2 * limit {
            Some(Hang::Asleep(self.slept))
        } else {
            None
        }
    }
}

/// State and processor time out of a line of `/proc/…/stat`: `R`, `S`, …, and ticks.
fn stat(line: &str) -> Option<(char, u64)> {
    // The name before it may hold anything.
    let (_, rest) = line.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?.chars().next()?;
    let mut ticks = words.skip(10).map(str::parse::<u64>);
    Some((state, ticks.next()?.ok()? + ticks.next()?.ok()?))
}

impl Look {
    /// At a process that is there; one that is not has used nothing and is not asleep.
    pub fn take(pid: u32) -> Look {
        let read = |path: String| stat(&fs::read_to_string(path).unwrap_or_default());
        let used = read(format!("/proc/{pid}/stat")).map_or(0, |s| s.1);
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        let mut states = tasks.into_iter().flatten().flatten().filter_map(|t| {
            let path = t.path().join("stat");
            read(path.to_string_lossy().into_owned()).map(|s| s.0)
        });
        let first = states.next();
        Look {
            at: Instant::now(),
            used: Duration::from_secs(used) / TICKS as u32,
            asleep: first.is_some() && first.into_iter().chain(states).all(|s| s == 'S'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Looks each second, at each of which so much processor time more was used: when it hangs, and how.
    fn hang(used: Duration, asleep: bool, progress: Option<u64>) -> Option<(u64, Hang)> {
        let start = Instant::now();
        let mut patience = Patience::new(LIMIT, start);
        (1..=10_000u64).find_map(|second| {
            let look = Look {
                at: start + Duration::from_secs(second),
                used: used * second as u32,
                asleep,
            };
            let cases = progress.map_or(1, |every| second / every);
            Some((second, patience.look(cases, look)?))
        })
    }

    #[test]
    fn a_worker_that_gets_no_processor_does_not_hang() {
        assert_eq!(hang(Duration::ZERO, false, None), None);
        assert_eq!(hang(Duration::from_millis(5), false, None), None);
    }

    #[test]
    fn one_that_computes_or_sleeps_without_progress_hangs() {
        let second = Duration::from_secs(1);
        // The first look saw the first case begin.
        assert_eq!(hang(second, false, None), Some((61, Hang::Busy(LIMIT))));
        let asleep = Some((121, Hang::Asleep(2 * LIMIT)));
        assert_eq!(hang(Duration::ZERO, true, None), asleep);
        // A thread that wakes up again and again to look is one that sleeps.
        assert_eq!(hang(second / 1000, true, None), asleep);
    }

    #[test]
    fn progress_begins_anew() {
        let second = Duration::from_secs(1);
        assert_eq!(hang(second, true, Some(50)), None);
        let late = hang(second, false, Some(100));
        assert_eq!(late, Some((60, Hang::Busy(LIMIT))));
    }

    #[test]
    fn a_process_shows_what_it_does() {
        assert_eq!(
            stat("7 (a) R (b)) S 1 7 7 0 -1 64 1 2 3 4 150 25 0 0 20 0 1 0"),
            Some(('S', 175))
        );
        assert_eq!(stat("7 (a"), None);
        let own = std::process::id();
        let start = Look::take(own);
        // The thread that looks is one that runs.
        assert!(!start.asleep);
        while Look::take(own).used == start.used {}
        assert!(!Look::take(u32::MAX).asleep);
    }
}
