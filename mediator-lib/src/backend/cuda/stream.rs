//! Streams: waiting that can be ended, and pacing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vgpu_protocol::Status;
use vgpu_protocol::calls::CtxId;

use super::sys::object::{DISABLE_TIMING, Event, Stream};
use crate::cancel::Cancel;

/// How long a waiter polls without sleeping: a sleep costs more than this.
const SPIN: Duration = Duration::from_micros(100);

/// Shortest and longest sleep between two polls. Between them a sleep is a twentieth of the time
/// waited so far, so that polling adds at most that to it.
const SLEEP: (Duration, Duration) = (Duration::from_micros(10), Duration::from_millis(1));

/// Work between two marks of a stream, see [`PacedStream`].
const OPERATIONS_PER_MARK: u32 = 256;

/// Waits until `ready`. Polls, because nothing ends a wait inside the driver.
///
/// # Errors
/// `ERROR_DEINITIALIZED` when the session is ended first.
pub fn wait_until(
    cancel: &Cancel,
    mut ready: impl FnMut() -> Result<bool, Status>,
) -> Result<(), Status> {
    let start = Instant::now();
    loop {
        if ready()? {
            return Ok(());
        }
        if cancel.is_set() {
            return Err(Status::ERROR_DEINITIALIZED);
        }
        let waited = start.elapsed();
        if waited < SPIN {
            std::hint::spin_loop();
        } else {
            std::thread::sleep((waited / 20).clamp(SLEEP.0, SLEEP.1));
        }
    }
}

/// A stream whose queue in the driver never fills up: the driver's call would then wait for the
/// GPU (after about a thousand launches) in a way that cannot be ended. So each 256 operations an
/// event marks the queue, and the worker waits, in its own way, for the mark before the last.
#[derive(Debug)]
pub struct PacedStream {
    /// The stream.
    pub stream: Stream,
    submitted: u32,
    marks: [Option<Arc<Event>>; 2],
}

impl PacedStream {
    pub fn new(stream: Stream) -> PacedStream {
        PacedStream {
            stream,
            submitted: 0,
            marks: [None, None],
        }
    }

    /// What the next operation has to wait for.
    pub fn due(&self) -> Option<Arc<Event>> {
        self.marks[0]
            .clone()
            .filter(|_| self.submitted + 1 >= OPERATIONS_PER_MARK)
    }

    /// Called before each operation, after the wait for what was due.
    pub fn pace(&mut self) -> Result<(), Status> {
        self.submitted += 1;
        if self.submitted < OPERATIONS_PER_MARK {
            return Ok(());
        }
        self.submitted = 0;
        self.marks.swap(0, 1);
        let mark = match &mut self.marks[1] {
            Some(mark) => mark,
            none => none.insert(Arc::new(Event::create(
                self.stream.context(),
                DISABLE_TIMING,
            )?)),
        };
        mark.record(&self.stream, 0)
    }
}

/// A stream as the session's table holds it.
#[derive(Debug)]
pub struct StreamEntry {
    /// Its context.
    pub ctx: CtxId,
    /// The stream.
    pub paced: PacedStream,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_ready_fails_or_is_cancelled() {
        let cancel = Cancel::default();
        let mut polls = 0;
        let third = || {
            polls += 1;
            Ok(polls == 3)
        };
        assert_eq!(wait_until(&cancel, third), Ok(()));
        assert_eq!(polls, 3);
        let failing = || Err(Status::ERROR_LAUNCH_FAILED);
        assert_eq!(
            wait_until(&cancel, failing),
            Err(Status::ERROR_LAUNCH_FAILED)
        );
        cancel.set();
        assert_eq!(
            wait_until(&cancel, || Ok(false)),
            Err(Status::ERROR_DEINITIALIZED)
        );
        assert_eq!(
            wait_until(&cancel, || Ok(true)),
            Ok(()),
            "what is done is done"
        );
    }
}
