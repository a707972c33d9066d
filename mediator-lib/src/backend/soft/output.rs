//! Text that a session's kernels have written and the guest has not taken yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vgpu_soft_gpu::DeviceRuntime;

use crate::captured::Held;

/// See the module's documentation.
#[derive(Default)]
pub struct Output {
    text: Mutex<Held>,
    any: AtomicBool,
}

impl Output {
    fn text(&self) -> MutexGuard<'_, Held> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a launch has written out of its context.
    pub fn collect(&self, from: &DeviceRuntime) {
        let (out, err) = from.take_output();
        if out.is_empty() && err.is_empty() {
            return;
        }
        let mut text = self.text();
        text.add(0, &out);
        text.add(1, &err);
        self.any.store(true, Ordering::Release);
    }

    /// Whether there is text.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The next piece for the standard output and for the standard error.
    pub fn take(&self) -> (Vec<u8>, Vec<u8>) {
        let mut text = self.text();
        let taken = text.take();
        self.any.store(text.any(), Ordering::Release);
        taken
    }
}
