//! What the sessions of one device have in common where each has a process of its own: memory that
//! all of them map, with one entry per channel.
//!
//! Each number of an entry is written by its own channel's process alone, and what all have taken
//! is the sum. So a process that is killed at any instruction leaves nothing behind once its entry
//! is cleared, which the device does. A process that writes nonsense spoils the accounts of its own
//! VM, and no more than that.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use vgpu_protocol::calls::NvmlProcess;
use vgpu_protocol::limits::{MAX_CHANNELS, MAX_CLIENT_BYTES};
use vgpu_protocol::window::{OutOfWindow, Window};

use crate::heap::PAGE_BYTES;

/// Bytes of a channel's entry.
const ENTRY_BYTES: u64 = 512;

/// Device memory that the session holds (u64).
const MEMORY: u64 = 0;
/// Host memory that half-received messages hold (u64).
const ASSEMBLY: u64 = 8;
/// The client's process id (u32).
const PID: u64 = 16;
/// Bytes of the client's name and one more; 0 where it has not said it (u32). Stored last.
const NAME_BYTES: u64 = 20;
/// The client's name.
const NAME: u64 = 24;

/// Whether the guest wants interrupts of the channel (u32): the device writes it, the channel's process reads it.
const INTERRUPTS: u64 = 288;

/// Bytes of all entries.
const ENTRIES_BYTES: u64 = ENTRY_BYTES * MAX_CHANNELS as u64;

/// Most pieces into which BAR1's heap is divided, where each belongs to one process.
const HEAP_PIECES: u64 = 4096;

/// Bytes of a piece of a heap, a multiple of the page size.
pub fn piece_bytes(heap_bytes: u64) -> u64 {
    (heap_bytes / HEAP_PIECES)
        .next_multiple_of(PAGE_BYTES)
        .max(PAGE_BYTES)
}

const _: () =
    assert!(NAME + MAX_CLIENT_BYTES as u64 <= INTERRUPTS && INTERRUPTS + 4 <= ENTRY_BYTES);

/// How often a taker that met another one at the limit tries again.
const TRIES: u32 = 1000;

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    memory: Window,
}

/// One number of every channel's entry, and which of them is one's own.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    ledger: Ledger,
    offset: u64,
    own: u32,
}

/// A word of a channel's entry that the device writes and the channel's process reads.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    ledger: Ledger,
    at: u64,
}

impl Flag {
    fn word(&self) -> &AtomicU32 {
        // For a word that is not there, which `Ledger::new` has ruled out.
        static NOWHERE: AtomicU32 = AtomicU32::new(0);
        self.ledger.memory.word32(self.at).unwrap_or(&NOWHERE)
    }

    /// Its value.
    pub fn get(&self) -> u32 {
        self.word().load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set(&self, value: u32) {
        self.word().store(value, Ordering::Relaxed);
    }
}

impl Ledger {
    /// Bytes that a ledger takes: entries, and the owners of the heap's pieces.
    pub const BYTES: u64 = ENTRIES_BYTES + 4 * HEAP_PIECES;

    /// A ledger in `memory`, which is zero at first.
    pub fn new(memory: Window) -> Result<Ledger, OutOfWindow> {
        let memory = memory.slice(0, Ledger::BYTES)?;
        Ok(Ledger { memory })
    }

    /// Device memory, as `channel` counts it.
    pub fn device_memory(self, channel: u32) -> Column {
        self.column(MEMORY, channel)
    }

    /// Host memory of half-received messages, as `channel` counts it.
    pub fn assembly(self, channel: u32) -> Column {
        self.column(ASSEMBLY, channel)
    }

    /// Whether `channel`'s guest wants interrupts.
    pub fn interrupts(self, channel: u32) -> Flag {
        Flag {
            ledger: self,
            at: self.entry(channel) + INTERRUPTS,
        }
    }

    fn column(self, offset: u64, channel: u32) -> Column {
        Column {
            ledger: self,
            offset,
            own: channel % MAX_CHANNELS,
        }
    }

    fn entry(&self, channel: u32) -> u64 {
        u64::from(channel % MAX_CHANNELS) * ENTRY_BYTES
    }

    /// Notes who a channel's client says it is.
    pub fn name(&self, channel: u32, client: &str, pid: u32) {
        let entry = self.entry(channel);
        let bytes = &client.as_bytes()[..client.floor_char_boundary(MAX_CLIENT_BYTES as usize)];
        let written = self.memory.write(entry + NAME, bytes);
        if let (Ok(()), Ok(number), Ok(length)) = (
            written,
            self.memory.word32(entry + PID),
            self.memory.word32(entry + NAME_BYTES),
        ) {
            number.store(pid, Ordering::Relaxed);
            length.store(bytes.len() as u32 + 1, Ordering::Release);
        }
    }

    /// Those that have said who they are and hold device memory.
    pub fn clients(&self) -> Vec<NvmlProcess> {
        (0..MAX_CHANNELS).filter_map(|c| self.client(c)).collect()
    }

    fn client(&self, channel: u32) -> Option<NvmlProcess> {
        let entry = self.entry(channel);
        let length = self.memory.word32(entry + NAME_BYTES).ok()?;
        let length = length.load(Ordering::Acquire).checked_sub(1)?;
        let mut name = vec![0; length.min(MAX_CLIENT_BYTES) as usize];
        self.memory.read(entry + NAME, &mut name).ok()?;
        let used_bytes = self.device_memory(channel).own().load(Ordering::Relaxed);
        let pid = self
            .memory
            .word32(entry + PID)
            .ok()?
            .load(Ordering::Relaxed);
        (used_bytes > 0).then(|| NvmlProcess {
            pid,
            used_bytes,
            client: String::from_utf8_lossy(&name).into_owned(),
        })
    }

    /// Who a channel's client said it is, for the host's log.
    pub fn who(&self, channel: u32) -> Option<(String, u32)> {
        let entry = self.entry(channel);
        let length = self.memory.word32(entry + NAME_BYTES).ok()?;
        let length = length.load(Ordering::Acquire).checked_sub(1)?;
        let mut name = vec![0; length.min(MAX_CLIENT_BYTES) as usize];
        self.memory.read(entry + NAME, &mut name).ok()?;
        let pid = self
            .memory
            .word32(entry + PID)
            .ok()?
            .load(Ordering::Relaxed);
        let text = String::from_utf8_lossy(&name);
        // It goes to logs and to a JSON file: the process may have written anything.
        let text = text
            .chars()
            .filter(|c| !c.is_control() && !matches!(c, '"' | '\\'));
        Some((text.collect(), pid))
    }

    /// Who owns a piece of the heap: its channel and one; 0 where nobody does.
    fn owner(&self, piece: u64) -> Option<&AtomicU32> {
        let at = ENTRIES_BYTES.checked_add(piece.checked_mul(4)?)?;
        self.memory.word32(at).ok()
    }

    /// Takes a piece of the heap for a channel.
    pub fn take_piece(&self, channel: u32, piece: u64) -> bool {
        self.owner(piece).is_some_and(|owner| {
            let taken =
                owner.compare_exchange(0, channel + 1, Ordering::Acquire, Ordering::Relaxed);
            taken.is_ok()
        })
    }

    /// Gives a piece of the heap back, which is cleared.
    pub fn give_piece(&self, channel: u32, piece: u64) {
        if let Some(owner) = self.owner(piece) {
            let _ = owner.compare_exchange(channel + 1, 0, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// A channel's process is gone: what it had of a heap of `heap_bytes` is cleared, by the number
    /// and the size of each piece, and free.
    pub fn free_heap(&self, channel: u32, heap_bytes: u64, clear: impl Fn(u64, u64) -> bool) {
        let bytes = piece_bytes(heap_bytes);
        for piece in 0..heap_bytes / bytes {
            let owner = self.owner(piece).map(|o| o.load(Ordering::Acquire));
            if owner == Some(channel + 1) && clear(piece, bytes) {
                self.give_piece(channel, piece);
            }
        }
    }

    /// The channel's process is gone, and with it what it held.
    pub fn clear(&self, channel: u32) {
        // Inside: `new` has checked the size.
        let _ = self
            .memory
            .write(self.entry(channel), &[0; ENTRY_BYTES as usize]);
    }
}

impl Column {
    fn word(&self, channel: u32) -> &AtomicU64 {
        // For a word that is not there, which `Ledger::new` has ruled out.
        static NOWHERE: AtomicU64 = AtomicU64::new(0);
        let at = self.ledger.entry(channel) + self.offset;
        self.ledger.memory.word64(at).unwrap_or(&NOWHERE)
    }

    fn own(&self) -> &AtomicU64 {
        self.word(self.own)
    }

    /// What one's own channel has taken.
    pub fn used(&self) -> u64 {
        self.own().load(Ordering::Relaxed)
    }

    /// What all channels have taken.
    pub fn sum(&self) -> u64 {
        (0..MAX_CHANNELS).fold(0u64, |sum, channel| {
            sum.saturating_add(self.word(channel).load(Ordering::Relaxed))
        })
    }

    /// Takes `amount`, or says that it is more than `limit` leaves.
    pub fn take(&self, amount: u64, limit: u64) -> bool {
        for _ in 0..TRIES {
            let fits = self
                .sum()
                .checked_add(amount)
                .is_some_and(|sum| sum <= limit);
            if !fits {
                return false;
            }
            self.own().fetch_add(amount, Ordering::Relaxed);
            // Of two takers at least one sees the other.
            fence(Ordering::SeqCst);
            if self.sum() <= limit {
                return true;
            }
            self.give_back(amount);
            std::thread::yield_now();
        }
        false
    }

    /// Gives `amount` back.
    pub fn give_back(&self, amount: u64) {
        let less = |used: u64| Some(used.saturating_sub(amount));
        let _ = self
            .own()
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)] // Shared memory is raw memory.

    use super::*;

    fn ledger() -> Ledger {
        let memory = Box::leak(vec![0u64; Ledger::BYTES as usize / 8].into_boxed_slice());
        // SAFETY: leaked, so valid for ever, 8-byte aligned, and used through the window alone.
        let window = unsafe { Window::new(memory.as_mut_ptr().cast(), Ledger::BYTES as usize) };
        Ledger::new(window).expect("large enough")
    }

    #[test]
    fn what_all_take_is_limited_and_goes_with_the_entry() {
        let ledger = ledger();
        let (one, two) = (ledger.device_memory(0), ledger.device_memory(63));
        assert!(one.take(60, 100) && !two.take(41, 100) && two.take(40, 100));
        assert_eq!((one.used(), two.used(), one.sum()), (60, 40, 100));
        assert!(!one.take(u64::MAX, 100));
        ledger.clear(0);
        assert_eq!((one.used(), two.sum()), (0, 40));
        two.give_back(50);
        assert_eq!(two.sum(), 0, "never less than nothing");
        ledger.interrupts(1).set(1);
        assert_eq!(
            (ledger.interrupts(1).get(), ledger.interrupts(2).get()),
            (1, 0)
        );
        ledger.clear(1);
        assert_eq!(ledger.interrupts(1).get(), 0);
        assert!(ledger.assembly(1).take(7, 7));
        assert_eq!(one.sum(), 0, "another column");
    }

    #[test]
    fn clients_with_memory_are_listed() {
        let ledger = ledger();
        ledger.name(3, "pro\"gram", 77);
        assert!(ledger.clients().is_empty());
        assert!(ledger.device_memory(3).take(5, 10));
        let list = ledger.clients();
        assert_eq!((list[0].pid, list[0].used_bytes), (77, 5));
        assert_eq!(ledger.who(3), Some(("program".to_owned(), 77)));
        ledger.clear(3);
        assert!(ledger.clients().is_empty() && ledger.who(3).is_none());
    }

    #[test]
    fn an_entry_of_nonsense_is_read_within_bounds() {
        let ledger = ledger();
        let nonsense = [0xff; ENTRY_BYTES as usize];
        ledger.memory.write(0, &nonsense).expect("inside");
        assert_eq!(ledger.device_memory(1).sum(), u64::MAX);
        assert_eq!(ledger.clients().len(), 1);
    }

    #[test]
    fn a_small_memory_is_no_ledger() {
        let short = ledger().memory.slice(0, Ledger::BYTES - 8).expect("inside");
        assert!(Ledger::new(short).is_err());
    }
}
