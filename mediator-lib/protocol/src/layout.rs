//! BAR1: where each channel's rings and staging arena lie.
//!
//! The lower half of BAR1 is divided evenly among the channels; the upper half is the heap from
//! which pinned host memory is given out. Guest and host compute the layout from the two numbers
//! that BAR0 shows, so that no offset is ever sent.
//!
//! A channel's area: one page of indices, the command ring, the reply ring, the staging arena.

use crate::limits::{MAX_BAR1_BYTES, MAX_CHANNELS, MIN_BAR1_BYTES};
use crate::ring::LINE_BYTES;

/// Bytes of the index page at the start of a channel's area.
pub const INDEX_BYTES: u64 = 0x1000;

/// Offsets in the index page, in bytes. Each word is written by one side only and has a pair of
/// cache lines to itself (adjacent lines are prefetched together).
pub mod index {
    /// Bytes ever consumed from the command ring (u64, host).
    pub const COMMAND_HEAD: u64 = 0x080;
    /// 1 while the worker is parked and wants the doorbell (u32; host sets, either side clears).
    pub const COMMAND_PARKED: u64 = 0x100;
    /// Bytes ever consumed from the reply ring (u64, guest).
    pub const REPLY_HEAD: u64 = 0x200;
    /// 1 while the guest is parked and wants an interrupt (u32; guest sets, either side clears).
    pub const REPLY_PARKED: u64 = 0x280;
    /// Arena bytes that the host has finished with (u64, host).
    pub const ARENA_HEAD: u64 = 0x300;
    /// First error of a posted call that no reply has reported yet, as a hint (u32, host).
    pub const DEFERRED_ERROR: u64 = 0x380;
    /// Functions of its program that the guest has called for the host (u64, guest).
    pub const CALLBACKS_DONE: u64 = 0x400;
}

/// Layout of BAR1 for a size and a number of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of BAR1 in bytes.
    pub bar1_bytes: u64,
    /// Number of channels.
    pub channels: u32,
    /// Bytes of one channel's area.
    pub area_bytes: u64,
    /// Bytes of the command ring, a power of two.
    pub command_bytes: u64,
    /// Bytes of the reply ring, a power of two.
    pub reply_bytes: u64,
    /// Bytes of the staging arena.
    pub arena_bytes: u64,
}

/// Why there is no layout for the given numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// BAR1's size is not a power of two in the allowed range.
    Bar1Size(u64),
    /// The number of channels is 0 or above the maximum.
    Channels(u32),
}

impl core::fmt::Display for LayoutError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LayoutError::Bar1Size(bytes) => write!(
                f,
                "BAR1 size {bytes} is not a power of two between {MIN_BAR1_BYTES} (16M) and {MAX_BAR1_BYTES} (64G)"
            ),
            LayoutError::Channels(n) => write!(f, "{n} channels: allowed are 1 to {MAX_CHANNELS}"),
        }
    }
}

/// Largest channel area: beyond it, a bigger BAR1 only grows the heap.
const MAX_AREA_BYTES: u64 = 8 << 20;

impl Layout {
    /// Computes the layout.
    pub fn new(bar1_bytes: u64, channels: u32) -> Result<Layout, LayoutError> {
        if !bar1_bytes.is_power_of_two() || !(MIN_BAR1_BYTES..=MAX_BAR1_BYTES).contains(&bar1_bytes)
        {
            return Err(LayoutError::Bar1Size(bar1_bytes));
        }
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(LayoutError::Channels(channels));
        }
        // At least 128 KiB: 16 MiB / 2 / 64.
        let area_bytes =
            (bar1_bytes / 2 / u64::from(channels.next_power_of_two())).min(MAX_AREA_BYTES);
        let command_bytes = (area_bytes / 4).min(256 << 10);
        let reply_bytes = (area_bytes / 8).min(64 << 10);
        Ok(Layout {
            bar1_bytes,
            channels,
            area_bytes,
            command_bytes,
            reply_bytes,
            arena_bytes: area_bytes - INDEX_BYTES - command_bytes - reply_bytes,
        })
    }

    /// Offset in BAR1 of a channel's index page.
    pub fn area(&self, channel: u32) -> u64 {
        u64::from(channel) * self.area_bytes
    }

    /// Offset in a channel's area of the command ring.
    pub fn command_ring(&self) -> u64 {
        INDEX_BYTES
    }

    /// Offset in a channel's area of the reply ring.
    pub fn reply_ring(&self) -> u64 {
        INDEX_BYTES + self.command_bytes
    }

    /// Offset in a channel's area of the staging arena.
    pub fn arena(&self) -> u64 {
        INDEX_BYTES + self.command_bytes + self.reply_bytes
    }

    /// What is zeroed in a channel's area when the channel gets a new owner, so that both rings are
    /// empty: offsets and lengths in bytes.
    pub fn cleared(&self) -> [(u64, u64); 3] {
        [
            (0, INDEX_BYTES),
            // The `end` of each ring's first record.
            (self.command_ring(), LINE_BYTES),
            (self.reply_ring(), LINE_BYTES),
        ]
    }

    /// Offset in BAR1 of the heap for pinned host memory.
    pub fn heap(&self) -> u64 {
        self.bar1_bytes / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_never_overlap_and_stay_below_the_heap() {
        for shift in 24..=36 {
            for channels in 1..=MAX_CHANNELS {
                let l = Layout::new(1 << shift, channels).expect("valid");
                assert!(l.area(channels - 1) + l.area_bytes <= l.heap(), "{l:?}");
                assert_eq!(l.arena() + l.arena_bytes, l.area_bytes);
                assert!(l.command_bytes.is_power_of_two() && l.reply_bytes.is_power_of_two());
                assert!(l.arena_bytes >= 64 << 10, "{l:?}");
            }
        }
    }

    #[test]
    fn sizes_outside_the_range_are_refused() {
        assert!(Layout::new(MIN_BAR1_BYTES, 1).is_ok());
        assert_eq!(
            Layout::new(MIN_BAR1_BYTES / 2, 1),
            Err(LayoutError::Bar1Size(MIN_BAR1_BYTES / 2))
        );
        assert!(Layout::new(MAX_BAR1_BYTES, 1).is_ok());
        assert!(Layout::new(MAX_BAR1_BYTES * 2, 1).is_err());
        assert!(Layout::new(MIN_BAR1_BYTES + 4096, 1).is_err());
        assert!(Layout::new(MIN_BAR1_BYTES, MAX_CHANNELS).is_ok());
        assert_eq!(
            Layout::new(MIN_BAR1_BYTES, MAX_CHANNELS + 1),
            Err(LayoutError::Channels(MAX_CHANNELS + 1))
        );
        assert!(Layout::new(MIN_BAR1_BYTES, 0).is_err());
    }
}
