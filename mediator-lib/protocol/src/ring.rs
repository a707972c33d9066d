//! A lock-free single-producer single-consumer ring of bytes with event suppression.
//!
//! Indices count bytes ever written and ever consumed; they never wrap in practice (2⁶⁴ bytes). The
//! byte at index `i` lies at `i mod capacity`. A record begins at a multiple of [`LINE_BYTES`]. Each
//! word is written by one side only:
//!
//! * `end`, a word of each record's header: the index of the line behind the record. The producer
//!   stores it (release) when the rest of the record is in place, and that publishes the record: a
//!   consumer that waits looks at the very line that the record comes in, so that a short one costs
//!   one line's way from core to core. Before that, the producer clears the `end` of the place where
//!   the next record will begin: what a record of an earlier turn left there is never taken for one;
//! * `head`: the consumer stores it (release) after it has copied the bytes before it;
//! * `parked`: the consumer stores 1 before it sleeps and then looks at the next `end` once more; the
//!   producer looks at `parked` after it stored `end`. A sequentially consistent fence between
//!   store and load on both sides rules out that both miss each other (Dekker's argument), so a
//!   sleeping consumer is always kicked and an awake one never.
//!
//! Neither side trusts what it reads: an impossible index is a [`RingFault`].

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::message::{END_OFFSET, HEADER_BYTES, Header};
use crate::window::{OutOfWindow, Window, full_fence};

/// Where records begin: at multiples of a cache line.
pub const LINE_BYTES: u64 = 64;

/// How many lines ahead of what it writes a producer fetches: two launches, which is about the time
/// that a line takes from core to core.
const AHEAD: u64 = 4;

/// The memory of one ring. A trait, so that the algorithm can be model-checked over other atomics.
pub trait RingMemory {
    /// Bytes of data, a power of two.
    fn capacity(&self) -> u64;
    /// Loads the word at `at` in the data, a multiple of 8 below the capacity, with acquire ordering.
    fn load_end(&self, at: u64) -> u64;
    /// Stores the word at `at`, as [`RingMemory::load_end`] has it, with release ordering.
    fn store_end(&self, at: u64, value: u64);
    /// Loads `head` with acquire ordering.
    fn load_head(&self) -> u64;
    /// Stores `head` with release ordering.
    fn store_head(&self, value: u64);
    /// Loads `parked`, relaxed.
    fn parked(&self) -> bool;
    /// Stores `parked`, relaxed.
    fn set_parked(&self, parked: bool);
    /// Clears `parked` if it is set, and tells whether it was.
    fn take_parked(&self) -> bool;
    /// A sequentially consistent fence.
    fn full_fence(&self);
    /// Copies bytes out; `at + into.len()` does not exceed the capacity.
    fn read(&self, at: u64, into: &mut [u8]);
    /// Copies bytes in; `at + from.len()` does not exceed the capacity.
    fn write(&self, at: u64, from: &[u8]);
    /// Has the cache fetch what lies at `at`, which is below the capacity. It changes nothing but the time.
    fn prefetch(&self, _at: u64) {}
    /// As [`RingMemory::prefetch`], to write there.
    fn prefetch_to_write(&self, _at: u64) {}
}

/// What is wrong with a ring. The other side broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFault {
    /// A record's end or the head is out of bounds, or not a multiple of [`LINE_BYTES`].
    BadIndex {
        /// Producer: what it has written. Consumer: the record's end as read.
        tail: u64,
        /// The head as known or read.
        head: u64,
    },
    /// A record's length is impossible.
    BadLength {
        /// The length that the record claims, in bytes.
        len: u32,
        /// Bytes from the record to its end.
        available: u64,
    },
}

impl core::fmt::Display for RingFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RingFault::BadIndex { tail, head } => {
                write!(
                    f,
                    "ring indices are impossible: tail {tail:#x}, head {head:#x}"
                )
            }
            RingFault::BadLength { len, available } => {
                write!(
                    f,
                    "record length {len} is impossible with {available} bytes published"
                )
            }
        }
    }
}

/// Longest record that a ring of this capacity carries, header included: a quarter, so that
/// producer and consumer of a long message work at the same time.
pub const fn max_record_bytes(capacity: u64) -> u64 {
    capacity / 4
}

/// Bytes of the ring that a record of `len` bytes takes up.
pub const fn record_lines(len: u64) -> u64 {
    len.next_multiple_of(LINE_BYTES)
}

/// Where the word `end` of the record at `index` lies in the data.
fn end_word(capacity: u64, index: u64) -> u64 {
    (index & (capacity - 1)) + END_OFFSET as u64
}

/// The writing end.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    tail: u64,
    head: u64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Written; `kick` asks for the doorbell.
    Done {
        /// The consumer is parked.
        kick: bool,
    },
    /// No room now.
    Full,
}

impl<M: RingMemory> Producer<M> {
    /// A producer on a ring whose words are all zero, the first record's `end` too.
    pub fn new(memory: M) -> Producer<M> {
        Producer {
            memory,
            tail: 0,
            head: 0,
        }
    }

    /// The ring's memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Bytes ever written.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    fn free(&mut self, wanted: u64) -> Result<u64, RingFault> {
        let capacity = self.memory.capacity();
        // The cached head is a lower bound: ask for the real one only if it does not suffice.
        if capacity - (self.tail - self.head) < wanted {
            let head = self.memory.load_head();
            if head < self.head || head > self.tail || !head.is_multiple_of(LINE_BYTES) {
                return Err(RingFault::BadIndex {
                    tail: self.tail,
                    head,
                });
            }
            self.head = head;
        }
        Ok(capacity - (self.tail - self.head))
    }

    /// Writes one record: `header` (its `len` is set here) and the payload's parts in order. The
    /// record must not be longer than [`max_record_bytes`].
    pub fn push(&mut self, mut header: Header, parts: &[&[u8]]) -> Result<Pushed, RingFault> {
        let payload: u64 = parts.iter().map(|p| p.len() as u64).sum();
        let bytes = HEADER_BYTES as u64 + payload.next_multiple_of(8);
        let capacity = self.memory.capacity();
        let fits = bytes <= max_record_bytes(capacity);
        debug_assert!(fits, "record of {bytes} bytes");
        if !fits {
            return Err(RingFault::BadLength {
                len: bytes.min(u64::from(u32::MAX)) as u32,
                available: 0,
            });
        }
        // With the line behind it, where the next one's `end` lies.
        let lines = record_lines(bytes) + LINE_BYTES;
        if self.free(lines)? < lines {
            return Ok(Pushed::Full);
        }
        header.len = bytes as u32;
        self.put(self.tail, &header.to_bytes());
        let mut at = self.tail + HEADER_BYTES as u64;
        for part in parts {
            at = self.put(at, part);
        }
        let end = self.tail + record_lines(bytes);
        self.memory.store_end(end_word(capacity, end), 0);
        self.memory.store_end(end_word(capacity, self.tail), end);
        self.tail = end;
        self.memory.full_fence();
        self.fetch_ahead();
        let kick = self.memory.parked() && self.memory.take_parked();
        Ok(Pushed::Done { kick })
    }

    /// The consumer's core holds the lines of the ring's last turn; the fence would wait for them.
    fn fetch_ahead(&self) {
        let capacity = self.memory.capacity();
        // What was not consumed is still to be read there.
        if capacity - (self.tail - self.head) < (AHEAD + 2) * LINE_BYTES {
            return;
        }
        for line in [AHEAD, AHEAD + 1] {
            let at = self.tail + line * LINE_BYTES;
            self.memory.prefetch_to_write(at & (capacity - 1));
        }
    }

    fn put(&self, at: u64, from: &[u8]) -> u64 {
        let capacity = self.memory.capacity();
        let start = at & (capacity - 1);
        let first = from.len().min((capacity - start) as usize);
        let (a, b) = from.split_at(first);
        self.memory.write(start, a);
        if !b.is_empty() {
            self.memory.write(0, b);
        }
        at + from.len() as u64
    }
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    head: u64,
}

impl<M: RingMemory> Consumer<M> {
    /// A consumer on a ring whose words are all zero, the first record's `end` too.
    pub fn new(memory: M) -> Consumer<M> {
        Consumer { memory, head: 0 }
    }

    /// The ring's memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    fn end(&self) -> u64 {
        let capacity = self.memory.capacity();
        self.memory.load_end(end_word(capacity, self.head))
    }

    /// Takes the next record, if there is one: its payload (padding included) replaces what is in
    /// `payload`. Header and payload are copied once and belong to the caller.
    pub fn pop(&mut self, payload: &mut Vec<u8>) -> Result<Option<Header>, RingFault> {
        let end = self.end();
        let Some(available @ 1..) = end.checked_sub(self.head) else {
            return Ok(None);
        };
        let longest = max_record_bytes(self.memory.capacity());
        if available > longest || !available.is_multiple_of(LINE_BYTES) {
            return Err(RingFault::BadIndex {
                tail: end,
                head: self.head,
            });
        }
        let mut raw = [0; END_OFFSET];
        self.get(self.head, &mut raw);
        let header = Header::from_bytes(&raw);
        let len = u64::from(header.len);
        let is_possible = len >= HEADER_BYTES as u64 && len.is_multiple_of(8);
        if !is_possible || record_lines(len) != available {
            return Err(RingFault::BadLength {
                len: header.len,
                available,
            });
        }
        payload.clear();
        payload.resize(len as usize - HEADER_BYTES, 0);
        self.get(self.head + HEADER_BYTES as u64, payload);
        self.head = end;
        // The next one comes while this one is executed.
        self.memory
            .prefetch(self.head & (self.memory.capacity() - 1));
        self.memory.store_head(self.head);
        Ok(Some(header))
    }

    fn get(&self, at: u64, into: &mut [u8]) {
        let capacity = self.memory.capacity();
        let start = at & (capacity - 1);
        let first = into.len().min((capacity - start) as usize);
        let (a, b) = into.split_at_mut(first);
        self.memory.read(start, a);
        if !b.is_empty() {
            self.memory.read(0, b);
        }
    }

    /// True while nothing is published beyond what has been consumed.
    pub fn is_empty(&self) -> bool {
        self.end() <= self.head
    }

    /// Announces that the consumer will sleep. `false` means that there is work after all: do not
    /// sleep. After waking, call [`Consumer::unpark`].
    pub fn park(&mut self) -> bool {
        self.memory.set_parked(true);
        self.memory.full_fence();
        if !self.is_empty() {
            self.memory.set_parked(false);
            return false;
        }
        true
    }

    /// Ends what [`Consumer::park`] began.
    pub fn unpark(&mut self) {
        self.memory.set_parked(false);
    }
}

/// A ring in a shared [`Window`].
#[derive(Clone, Copy, Debug)]
pub struct WindowRing {
    indices: Window,
    head: u64,
    parked: u64,
    data: Window,
}

impl WindowRing {
    /// A ring whose words lie in `indices` at the given offsets, with `data` as its bytes. The length
    /// of `data` must be a power of two, of four lines at least.
    pub fn new(
        indices: Window,
        head: u64,
        parked: u64,
        data: Window,
    ) -> Result<WindowRing, OutOfWindow> {
        indices.word64(head)?;
        indices.word32(parked)?;
        data.word64(END_OFFSET as u64)?;
        if !data.len().is_power_of_two() || max_record_bytes(data.len() as u64) < LINE_BYTES {
            return Err(OutOfWindow {
                offset: 0,
                bytes: data.len() as u64,
            });
        }
        Ok(WindowRing {
            indices,
            head,
            parked,
            data,
        })
    }
}

/// `new` checked every offset; should one be wrong all the same, the ring reads as empty.
impl RingMemory for WindowRing {
    #[inline]
    fn capacity(&self) -> u64 {
        self.data.len() as u64
    }
    #[inline]
    fn load_end(&self, at: u64) -> u64 {
        self.data
            .word64(at)
            .map_or(0, |w| w.load(Ordering::Acquire))
    }
    #[inline]
    fn store_end(&self, at: u64, value: u64) {
        if let Ok(w) = self.data.word64(at) {
            w.store(value, Ordering::Release);
        }
    }
    #[inline]
    fn load_head(&self) -> u64 {
        self.indices
            .word64(self.head)
            .map_or(0, |w| w.load(Ordering::Acquire))
    }
    #[inline]
    fn store_head(&self, value: u64) {
        if let Ok(w) = self.indices.word64(self.head) {
            w.store(value, Ordering::Release);
        }
    }
    #[inline]
    fn parked(&self) -> bool {
        self.indices
            .word32(self.parked)
            .is_ok_and(|w| w.load(Ordering::Relaxed) != 0)
    }
    fn set_parked(&self, parked: bool) {
        if let Ok(w) = self.indices.word32(self.parked) {
            w.store(parked.into(), Ordering::Relaxed);
        }
    }
    fn take_parked(&self) -> bool {
        // Not a swap: one that finds 0 would write it once more, beside the consumer's next 1.
        self.indices.word32(self.parked).is_ok_and(|w| {
            w.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        })
    }
    #[inline]
    fn full_fence(&self) {
        full_fence();
    }
    #[inline]
    fn read(&self, at: u64, into: &mut [u8]) {
        let done = self.data.read(at, into);
        debug_assert!(done.is_ok());
    }
    #[inline]
    fn write(&self, at: u64, from: &[u8]) {
        let done = self.data.write(at, from);
        debug_assert!(done.is_ok());
    }
    #[inline]
    fn prefetch(&self, at: u64) {
        self.data.prefetch(at);
    }
    #[inline]
    fn prefetch_to_write(&self, at: u64) {
        self.data.prefetch_to_write(at);
    }
}
