//! The channel's staging arena: memory in BAR1 through which long copies pass.

use std::sync::atomic::Ordering;

use vgpu_protocol::Status;
use vgpu_protocol::calls::ArenaSpan;
use vgpu_protocol::window::{OutOfWindow, Window};

/// The host's view of a channel's arena.
#[derive(Clone, Copy, Debug)]
pub struct Arena {
    memory: Window,
    indices: Window,
    head: u64,
}

impl Arena {
    /// An arena over `memory`, whose progress word lies at `head` in `indices`.
    pub fn new(memory: Window, indices: Window, head: u64) -> Result<Arena, OutOfWindow> {
        indices.word64(head)?;
        Ok(Arena {
            memory,
            indices,
            head,
        })
    }

    /// All of the arena.
    pub fn memory(&self) -> &Window {
        &self.memory
    }

    /// The memory of a span.
    ///
    /// # Errors
    /// `ERROR_INVALID_VALUE` where the span is longer than the arena or crosses its end.
    pub fn slice(&self, span: &ArenaSpan) -> Result<Window, Status> {
        let size = self.memory.len() as u64;
        if size == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        self.memory
            .slice(span.position % size, span.bytes)
            .map_err(|_| Status::ERROR_INVALID_VALUE)
    }

    /// Tells the guest that the host needs nothing of the arena up to the end of `span`.
    pub fn done(&self, span: &ArenaSpan) {
        if let Ok(word) = self.indices.word64(self.head) {
            word.store(span.position.wrapping_add(span.bytes), Ordering::Release);
        }
    }
}
