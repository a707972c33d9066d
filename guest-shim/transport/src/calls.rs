//! Functions of the program that the host asks to be called, one at a time.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vgpu_protocol::Status;
use vgpu_protocol::layout::index;

use crate::channel::Channel;

/// A function whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The number that the program's library has given it.
    pub number: u64,
    /// What its stream has come to.
    pub status: Status,
}

/// Turns that have come and were not taken.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    turns: Mutex<VecDeque<Turn>>,
    waiting: AtomicUsize,
    done: AtomicU64,
}

impl Calls {
    /// Notes a notice of the host.
    pub(crate) fn add(&self, status: Status, payload: &[u8]) {
        let Some(number) = payload.first_chunk() else {
            return;
        };
        let number = u64::from_le_bytes(*number);
        let mut turns = self.turns.lock().unwrap_or_else(|e| e.into_inner());
        turns.push_back(Turn { number, status });
        self.waiting.fetch_add(1, Ordering::Release);
    }

    fn take(&self) -> Option<Turn> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut turns = self.turns.lock().unwrap_or_else(|e| e.into_inner());
        let turn = turns.pop_front()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(turn)
    }
}

impl Channel {
    /// Waits for the turn of a function of the program. Only one thread may take turns.
    ///
    /// # Errors
    /// What the channel has died of.
    pub fn next_turn(&self) -> Result<Turn, Status> {
        self.wait_until(None, || self.calls.take(), |_| None)
    }

    /// Says that the function whose turn it was has been called: its stream goes on.
    pub fn turn_done(&self) {
        let count = self.calls.done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Ok(word) = self.index().word64(index::CALLBACKS_DONE) {
            word.store(count, Ordering::Release);
        }
        self.kick();
    }
}
