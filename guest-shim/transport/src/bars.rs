//! How the transport reaches the device.

use std::fmt;
use std::time::Duration;

use vgpu_protocol::layout::Layout;
use vgpu_protocol::window::Window;

use crate::error::ConnectError;
use crate::sys::Mapping;

/// Address of a PCI function as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciAddress {
    /// Domain (segment).
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl PciAddress {
    /// Parses `0000:00:05.0`; the domain may be left out.
    pub fn parse(text: &str) -> Option<PciAddress> {
        let (rest, function) = text.rsplit_once('.')?;
        let (rest, device) = rest.rsplit_once(':')?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        let address = PciAddress {
            domain: hex(domain)?,
            bus: u8::try_from(hex(bus)?).ok()?,
            device: u8::try_from(hex(device)?).ok().filter(|d| *d < 32)?,
            function: u8::try_from(hex(function)?).ok().filter(|f| *f < 8)?,
        };
        Some(address)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// A piece of BAR1's heap in this process; unmapped when dropped.
#[derive(Debug)]
pub struct HeapPiece {
    window: Window,
    _mapping: Option<Mapping>,
}

impl HeapPiece {
    /// A piece that is mapped.
    pub(crate) fn new(mapping: Mapping) -> HeapPiece {
        HeapPiece {
            window: mapping.window(),
            _mapping: Some(mapping),
        }
    }

    /// A piece of memory that others unmap.
    pub fn of(window: Window) -> HeapPiece {
        HeapPiece {
            window,
            _mapping: None,
        }
    }

    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.window.base() as u64
    }
}

/// The device's two BARs, and a lock per channel that dies with its process.
pub trait Bars: fmt::Debug + Send + Sync {
    /// Where the device is, in the form of the log's first line:
    /// `0000:00:05.0 (vendor=… device=… class=… match=…)`.
    fn found(&self) -> String;

    /// The device's place on the guest's PCI bus, where it is on one.
    fn address(&self) -> Option<PciAddress>;

    /// Reads a register of BAR0.
    fn read32(&self, offset: u64) -> Result<u32, ConnectError>;

    /// Writes a register of BAR0.
    fn write32(&self, offset: u64, value: u32) -> Result<(), ConnectError>;

    /// Maps what the owner of `channel` uses: its register page and its area of BAR1. The mapping
    /// lives as long as `self`.
    fn open(&self, layout: &Layout, channel: u32) -> Result<Window, ConnectError>;

    /// Maps a piece of BAR1's heap at `address`; elsewhere where this process has something there.
    fn map_heap(&self, offset: u64, bytes: u64, address: u64) -> Result<HeapPiece, ConnectError>;

    /// Rings the doorbell of the channel given to [`Bars::open`].
    fn ring(&self);

    /// True where a waiting thread can sleep until the device interrupts.
    fn interrupts(&self) -> bool {
        false
    }

    /// Forgets an interrupt of the opened channel that has been seen. Called before the thread
    /// announces that it sleeps.
    fn clear_interrupt(&self) {}

    /// Sleeps until the device interrupts, or so long.
    ///
    /// # Errors
    /// Where it cannot: the caller waits in another way.
    fn wait_interrupt(&self, _limit: Duration) -> Result<(), ConnectError> {
        Err(ConnectError::Layout("the device has no interrupts".into()))
    }

    /// Takes the lock of `channel` if no other process has it.
    fn try_lock(&self, channel: u32) -> Result<bool, ConnectError>;

    /// Gives the lock back.
    fn unlock(&self, channel: u32);

    /// True if the device itself releases the channel of an owner that is gone.
    fn releases_by_itself(&self) -> bool {
        false
    }

    /// True if another copy of this library in this process owns `channel`: the lock does not
    /// keep threads of one process apart.
    fn owned_here(&self, channel: u32) -> bool;

    /// File descriptors that a child of fork must not keep open.
    fn descriptors(&self) -> Vec<i32>;
}

#[cfg(test)]
mod tests {
    use super::PciAddress;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["0000:00:05.0", "0001:ff:1f.7"] {
            assert_eq!(
                PciAddress::parse(text).map(|a| a.to_string()).as_deref(),
                Some(text)
            );
        }
        assert_eq!(
            PciAddress::parse("00:05.0"),
            PciAddress::parse("0000:00:05.0")
        );
        for text in [
            "",
            "00:20.0",
            "00:05.8",
            "0000:100:05.0",
            "05.0",
            "x:00:05.0",
        ] {
            assert_eq!(PciAddress::parse(text), None, "{text}");
        }
    }
}
