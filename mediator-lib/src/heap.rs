//! The heap of BAR1: memory that the guest's program, the host and the GPU reach under one address.
//! It is handed out in pieces of whole pages, to sessions, which give them back at their end at the
//! latest.
//!
//! What lies in it may change at any moment: the guest has it mapped, and may have mapped all of it.
//! Nothing of the host's own is kept there, and what the host reads of it is copied once and then
//! checked.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vgpu_protocol::limits::MAX_HEAP_BLOCKS;
use vgpu_protocol::ranges::FreeRanges;
use vgpu_protocol::window::Window;

use crate::ledger::{Ledger, piece_bytes};

/// Granularity of the heap, in bytes.
pub const PAGE_BYTES: u64 = 4096;

/// Memory for a heap, and how it is cleared.
pub trait HeapMemory: Send + Sync {
    /// The memory, which lives as long as this value.
    fn window(&self) -> Window;

    /// Where it begins in BAR1.
    fn offset(&self) -> u64;

    /// Makes whole pages read as zeros and gives them back to the operating system; false where
    /// that fails.
    fn clear(&self, offset: u64, bytes: u64) -> bool;
}

/// See the module's documentation. Without memory every piece is refused.
///
/// Where each session has a process of its own, its heap has only what it has taken of the ledger's
/// pieces, which it gives back as soon as they are free.
#[derive(Default)]
pub struct Heap {
    memory: Option<Box<dyn HeapMemory>>,
    state: Mutex<State>,
    ledger: Option<Ledger>,
    /// For whom pieces of the ledger are taken: the channel and one.
    owner: AtomicU32,
}

#[derive(Default)]
struct State {
    free: FreeRanges,
    blocks: usize,
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap")
            .field("bytes", &self.bytes())
            .finish()
    }
}

/// A piece of the heap, all zeros when it is new; given back on drop.
#[derive(Debug)]
pub struct Block {
    heap: Arc<Heap>,
    window: Window,
    offset: u64,
}

impl Heap {
    /// A heap in `memory`; with a ledger, other processes take from it, too.
    pub fn new(memory: Box<dyn HeapMemory>, ledger: Option<Ledger>) -> Arc<Heap> {
        let bytes = match ledger {
            None => memory.window().len() as u64 / PAGE_BYTES * PAGE_BYTES,
            Some(_) => 0,
        };
        Arc::new(Heap {
            memory: Some(memory),
            state: Mutex::new(State {
                free: FreeRanges::new(0, bytes),
                blocks: 0,
            }),
            ledger,
            owner: AtomicU32::new(0),
        })
    }

    /// Says which channel this process serves.
    pub fn serve(&self, channel: u32) {
        self.owner.store(channel + 1, Ordering::Relaxed);
    }

    /// The ledger, where it counts, and the channel for which pieces are taken.
    fn shared(&self) -> Option<(Ledger, u32)> {
        let owner = self.owner.load(Ordering::Relaxed);
        Some((self.ledger?, owner.checked_sub(1)?))
    }

    /// Takes pieces of the ledger that follow each other, for `bytes` bytes.
    fn grow(&self, state: &mut State, bytes: u64) -> bool {
        let Some((ledger, channel)) = self.shared() else {
            return false;
        };
        let piece = piece_bytes(self.bytes());
        let (all, count) = (self.bytes() / piece, bytes.div_ceil(piece));
        let mut at = 0;
        while count <= all - at {
            let taken = (at..at + count)
                .take_while(|p| ledger.take_piece(channel, *p))
                .count() as u64;
            if taken == count {
                state.free.give(at * piece, count * piece);
                return true;
            }
            (at..at + taken).for_each(|p| ledger.give_piece(channel, p));
            at += taken + 1;
        }
        false
    }

    /// Gives the ledger back what is free of its pieces in a range.
    fn shrink(&self, state: &mut State, offset: u64, bytes: u64) {
        let Some((ledger, channel)) = self.shared() else {
            return;
        };
        let piece = piece_bytes(self.bytes());
        for p in offset / piece..(offset + bytes).div_ceil(piece) {
            if state.free.take_at(p * piece, piece) {
                ledger.give_piece(channel, p);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.memory.as_ref().map_or(0, |m| m.window().len() as u64)
    }

    /// All of the memory.
    pub fn window(&self) -> Option<Window> {
        self.memory.as_ref().map(|m| m.window())
    }

    /// Bytes that nobody has.
    pub fn free_bytes(&self) -> u64 {
        self.state().free.total()
    }

    /// Takes a piece of at least `bytes` bytes.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Option<Block> {
        let memory = self.memory.as_ref()?;
        let whole = bytes.checked_next_multiple_of(PAGE_BYTES)?;
        let mut state = self.state();
        if whole == 0 || state.blocks >= MAX_HEAP_BLOCKS {
            return None;
        }
        let offset = match state.free.take(whole, PAGE_BYTES) {
            Some(offset) => offset,
            None if self.grow(&mut state, whole) => state.free.take(whole, PAGE_BYTES)?,
            None => return None,
        };
        let Ok(window) = memory.window().slice(offset, whole) else {
            state.free.give(offset, whole);
            return None;
        };
        state.blocks += 1;
        Some(Block {
            heap: Arc::clone(self),
            window,
            offset,
        })
    }
}

impl Block {
    /// Its address in this process, which is the GPU's, too.
    pub fn address(&self) -> u64 {
        self.window.base() as u64
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.window.len() as u64
    }

    /// Its place in BAR1.
    pub fn offset_in_bar1(&self) -> u64 {
        let heap = self.heap.memory.as_ref().map_or(0, |m| m.offset());
        heap + self.offset
    }

    /// The memory. Whoever keeps the window keeps the block.
    pub fn window(&self) -> Window {
        self.window
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let bytes = self.bytes();
        let memory = self.heap.memory.as_ref();
        let cleared = memory.is_some_and(|m| m.clear(self.offset, bytes));
        let mut state = self.heap.state();
        state.blocks -= 1;
        // Memory that could not be cleared is not given out again.
        if cleared {
            state.free.give(self.offset, bytes);
            self.heap.shrink(&mut state, self.offset, bytes);
        } else {
            tracing::error!(
                bytes,
                "a piece of BAR1's heap cannot be cleared and is lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_memory_nothing_is_given() {
        let heap = Arc::<Heap>::default();
        assert!(heap.take(1).is_none());
        assert_eq!((heap.bytes(), heap.free_bytes()), (0, 0));
    }
}
