//! The channel's staging arena: memory in BAR1 through which long copies pass.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

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

/// Spans in use, for work that ends in another order than it began: the guest's head means "all
/// before it".
#[derive(Debug)]
pub struct Spans {
    arena: Arena,
    /// In the order in which they came, each with whether the host is done with it.
    in_use: Mutex<VecDeque<(ArenaSpan, bool)>>,
}

impl Spans {
    /// No span in use.
    pub fn new(arena: Arena) -> Spans {
        Spans {
            arena,
            in_use: Mutex::default(),
        }
    }

    /// The arena.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// A span has come. Saying it twice changes nothing.
    pub fn begin(&self, span: &ArenaSpan) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if !in_use.iter().any(|(s, done)| s == span && !done) {
            in_use.push_back((span.clone(), false));
        }
    }

    /// The host is done with a span: the guest learns it once the host is done with all before it.
    pub fn done(&self, span: &ArenaSpan) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, done)) = in_use.iter_mut().find(|(s, done)| s == span && !done) {
            *done = true;
        }
        while let Some((span, _)) = in_use.pop_front_if(|(_, done)| *done) {
            self.arena.done(&span);
        }
    }
}
