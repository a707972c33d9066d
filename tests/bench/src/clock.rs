//! Time by the processor's own counter: in a guest under TCG the system's clock costs as much as
//! what is to be measured.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// Counter ticks since some fixed moment.
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC, and Linux lets user programs use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// How long a tick is.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    ns_per_tick: f64,
}

impl Clock {
    /// Compares the counter with the system's clock for a twentieth of a second.
    pub fn calibrate() -> Clock {
        let (began, from) = (Instant::now(), ticks());
        while began.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (time, to) = (began.elapsed(), ticks());
        Clock {
            ns_per_tick: time.as_nanos() as f64 / (to - from) as f64,
        }
    }

    /// Nanoseconds that `ticks` last.
    pub fn ns(&self, ticks: u64) -> f64 {
        ticks as f64 * self.ns_per_tick
    }

    /// Nanoseconds that `what` takes.
    pub fn time(&self, what: impl FnOnce()) -> f64 {
        let from = ticks();
        what();
        self.ns(ticks() - from)
    }
}

/// The value below which the given share of the samples lies.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = (samples.len() as f64 * share) as usize;
    samples
        .get(at.min(samples.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
