//! Waiting: first with the core, then giving it away, then asleep.

use std::thread;
use std::time::{Duration, Instant};

use vgpu_protocol::Status;

use super::Channel;
use crate::spin;

/// How long a waiting thread spins before it gives its core away, on which the answer may be
/// waiting to be computed. A call that the host answers at once takes less.
const SPIN_TIME: Duration = Duration::from_micros(2);

/// How long it goes on giving its core away before it sleeps: what short kernels take.
const YIELD_TIME: Duration = Duration::from_micros(200);

/// First and longest sleep. The longest bounds what a wait may add to a long kernel.
pub(super) const SLEEP_TIMES: (Duration, Duration) =
    (Duration::from_micros(20), Duration::from_millis(1));

/// How often a waiting thread looks whether the channel still lives; each look exits the VM.
pub(super) const LOOK_TIME: Duration = Duration::from_millis(50);

/// A wait that gives the core away ever more, and notices when the channel has died.
pub(crate) struct Patience<'a> {
    channel: &'a Channel,
    start: Option<Instant>,
    sleep: Duration,
    looked: Duration,
}

impl Patience<'_> {
    /// Lets some time pass.
    pub(crate) fn wait(&mut self) -> Result<(), Status> {
        self.channel.check_alive()?;
        let start = *self.start.get_or_insert_with(Instant::now);
        let passed = start.elapsed();
        if self.channel.spins && passed < SPIN_TIME {
            spin::pause();
            return Ok(());
        }
        if passed < YIELD_TIME {
            thread::yield_now();
            return Ok(());
        }
        self.look()?;
        thread::sleep(self.sleep);
        self.sleep = (self.sleep * 2).min(SLEEP_TIMES.1);
        Ok(())
    }

    /// True when the wait has lasted so long that the thread should sleep.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.start
            .is_some_and(|start| start.elapsed() >= YIELD_TIME)
    }

    /// Looks now and then whether the channel lives.
    pub(super) fn look(&mut self) -> Result<(), Status> {
        let passed = self.start.map_or(Duration::ZERO, |start| start.elapsed());
        if passed - self.looked >= LOOK_TIME {
            self.looked = passed;
            self.channel.look()?;
        }
        self.channel.check_alive()
    }
}

impl Channel {
    /// Starts a wait.
    pub(crate) fn patience(&self) -> Patience<'_> {
        Patience {
            channel: self,
            start: None,
            sleep: SLEEP_TIMES.0,
            looked: Duration::ZERO,
        }
    }
}
