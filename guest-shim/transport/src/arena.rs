//! Gives out pieces of a channel's staging arena.
//!
//! Positions only grow; the byte at position `p` lies at `p mod size`. The host says in ARENA_HEAD
//! up to which position it is done. A piece is free again when the host is done with it and, for
//! what was copied from the device, the guest has taken the bytes out.
//!
//! The host's head means "all before it" only if pieces are sent in the order in which they were
//! given out: whoever takes a piece holds [`Arena::order`] until its message is in the ring.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, TryLockError};

use vgpu_protocol::calls::ArenaSpan;
use vgpu_protocol::layout::index;
use vgpu_protocol::window::{OutOfWindow, Window};

/// Largest piece, in bytes. Several of them fit, so that guest and host copy at the same time.
const MAX_PIECE_BYTES: u64 = 1 << 20;

/// Shortest piece, in bytes: below it a piece's message takes longer than its bytes.
const MIN_PIECE_BYTES: u64 = 64 << 10;

/// A piece is at most this part of what was copied before it, and of what is left.
const GROWTH: u64 = 8;

/// Alignment of pieces, in bytes: a cache line.
const ALIGN: u64 = 64;

#[derive(Debug)]
struct Piece {
    end: u64,
    /// The guest needs the bytes no longer.
    left: bool,
}

#[derive(Debug, Default)]
struct State {
    /// End of the newest piece.
    tail: u64,
    /// All before it is free.
    free: u64,
    pieces: VecDeque<Piece>,
}

/// The arena of one channel.
#[derive(Debug)]
pub struct Arena {
    index: Window,
    memory: Window,
    order: Mutex<()>,
    state: Mutex<State>,
}

impl Arena {
    /// An arena over `memory`, with ARENA_HEAD in `index`.
    pub fn new(index: Window, memory: Window) -> Arena {
        Arena {
            index,
            memory,
            order: Mutex::new(()),
            state: Mutex::new(State::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The turn to take pieces and send them.
    pub fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The turn, if nobody else has it: for those who hold pieces that the other may wait for.
    pub fn try_order(&self) -> Option<MutexGuard<'_, ()>> {
        match self.order.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Size of the next piece of a copy, of which `done` bytes have been sent and `left` are to be.
    ///
    /// The host begins when the first piece is there, and the guest ends (or, on the way back,
    /// begins) with the last one while the host waits: so the first and the last are short. Those
    /// between them are longer in long copies, but grow slowly: while the guest copies a piece, the
    /// host copies the one before, and then waits for as long as that was shorter.
    pub fn piece_bytes(&self, done: u64, left: u64) -> u64 {
        let size = self.memory.len() as u64;
        let most = (size / 4).min(MAX_PIECE_BYTES) / ALIGN * ALIGN;
        let least = MIN_PIECE_BYTES.min(most);
        let piece = (done.min(left) / GROWTH).next_multiple_of(ALIGN);
        piece.clamp(least, most).min(left)
    }

    /// Takes a piece of `bytes` bytes, which is at most the arena's size; `None`: no room
    /// now. The caller has the [`Arena::order`].
    pub fn take(&self, bytes: u64) -> Option<ArenaSpan> {
        let size = self.memory.len() as u64;
        let mut state = self.state();
        // With nothing in use, the memory that was used last: both sides have it in their caches.
        self.collect(&mut state);
        let mut position = match state.pieces.is_empty() {
            true => state.tail.next_multiple_of(size.max(1)),
            false => state.tail.next_multiple_of(ALIGN),
        };
        // A piece does not cross the arena's end.
        if position % size + bytes > size {
            position = position.next_multiple_of(size);
        }
        let end = position + bytes;
        if state.pieces.is_empty() {
            // What lies between the last piece and this one is nobody's.
            state.free = position;
        }
        if bytes > size || end - state.free > size {
            return None;
        }
        state.tail = end;
        state.pieces.push_back(Piece { end, left: false });
        Some(ArenaSpan { position, bytes })
    }

    /// Frees what both sides are done with.
    fn collect(&self, state: &mut State) {
        let head = self
            .index
            .word64(index::ARENA_HEAD)
            .map_or(0, |w| w.load(Ordering::Acquire));
        while let Some(piece) = state.pieces.front() {
            if !piece.left || piece.end > head {
                break;
            }
            state.free = piece.end;
            state.pieces.pop_front();
        }
        if state.pieces.is_empty() {
            state.free = state.tail;
        }
    }

    /// Says that the guest needs the piece no longer: it was sent, or its bytes were taken out.
    pub fn leave(&self, span: &ArenaSpan) {
        let end = span.position + span.bytes;
        let mut state = self.state();
        if let Ok(i) = state.pieces.binary_search_by_key(&end, |p| p.end) {
            state.pieces[i].left = true;
        }
    }

    /// The memory of a piece.
    pub fn memory(&self, span: &ArenaSpan) -> Result<Window, OutOfWindow> {
        let size = self.memory.len() as u64;
        self.memory.slice(span.position % size.max(1), span.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Memory;

    const SIZE: u64 = 4096;

    fn with_arena(f: impl FnOnce(&Arena, &dyn Fn(u64))) {
        let memory = Memory::new(2 * 4096);
        let index = memory.window().slice(0, 4096).expect("inside");
        let arena = Arena::new(index, memory.window().slice(4096, SIZE).expect("inside"));
        f(&arena, &|head| {
            index
                .word64(index::ARENA_HEAD)
                .expect("inside")
                .store(head, Ordering::Release);
        });
    }

    #[test]
    fn a_piece_never_crosses_the_end() {
        with_arena(|arena, host_done_until| {
            let mut last = 0;
            for i in 0..1000u64 {
                let bytes = 64 + (i * 37) % (SIZE / 4 - 64);
                let span = arena.take(bytes).expect("the host is always done");
                assert!(span.position >= last);
                assert!(span.position % SIZE + bytes <= SIZE, "{span:?}");
                assert!(arena.memory(&span).is_ok());
                last = span.position + bytes;
                arena.leave(&span);
                host_done_until(last);
            }
        });
    }

    #[test]
    fn full_until_both_sides_are_done() {
        with_arena(|arena, host_done_until| {
            let a = arena.take(SIZE / 2).expect("empty");
            let b = arena.take(SIZE / 2).expect("half empty");
            assert_eq!(arena.take(64), None);
            host_done_until(SIZE / 2);
            assert_eq!(arena.take(64), None, "the guest still needs the first");
            arena.leave(&a);
            assert_eq!(
                arena.take(64),
                Some(ArenaSpan {
                    position: SIZE,
                    bytes: 64
                })
            );
            arena.leave(&b);
            assert_eq!(
                arena.take(SIZE / 2),
                None,
                "the host still needs the second"
            );
            host_done_until(SIZE);
            assert!(arena.take(SIZE / 2).is_some());
        });
    }

    #[test]
    fn a_later_piece_that_is_done_first_does_not_free_an_earlier_one() {
        with_arena(|arena, host_done_until| {
            let a = arena.take(SIZE / 2).expect("empty");
            let b = arena.take(SIZE / 2).expect("half empty");
            host_done_until(SIZE);
            arena.leave(&b);
            assert_eq!(arena.take(64), None);
            arena.leave(&a);
            assert!(arena.take(SIZE / 2).is_some());
        });
    }

    #[test]
    fn an_idle_arena_begins_at_its_start() {
        with_arena(|arena, host_done_until| {
            for turn in 0..5 {
                let a = arena.take(SIZE / 4).expect("empty");
                let b = arena.take(SIZE / 4).expect("room");
                assert_eq!(a.position, turn * SIZE);
                assert_eq!(b.position, turn * SIZE + SIZE / 4);
                arena.leave(&a);
                arena.leave(&b);
                host_done_until(b.position + b.bytes);
            }
        });
    }

    #[test]
    fn pieces_of_a_copy_are_short_at_both_ends_and_never_longer_than_a_quarter() {
        let memory = Memory::new((8 << 20) + 4096);
        let index = memory.window().slice(0, 4096).expect("inside");
        let arena = Arena::new(index, memory.window().slice(4096, 8 << 20).expect("inside"));
        for bytes in [8193, 64 << 10, (64 << 10) + 1, 1 << 20, (64 << 20) + 12345] {
            let (mut done, mut pieces) = (0, Vec::new());
            while done < bytes {
                let piece = arena.piece_bytes(done, bytes - done);
                assert!(piece > 0 && piece <= MAX_PIECE_BYTES);
                pieces.push(piece);
                done += piece;
            }
            assert_eq!(done, bytes);
            let ends = [pieces[0], pieces[pieces.len() - 1]];
            assert!(ends.iter().all(|p| *p <= MIN_PIECE_BYTES), "{pieces:?}");
            // The message of each piece costs little beside it.
            assert!(
                pieces.len() as u64 <= 16 + bytes / MAX_PIECE_BYTES * 2,
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn more_than_the_arena_is_refused() {
        with_arena(|arena, _| {
            assert_eq!(arena.take(SIZE + 1), None);
            assert!(arena.take(SIZE).is_some());
        });
    }
}
