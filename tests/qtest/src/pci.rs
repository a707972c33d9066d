//! Config space, BARs and capabilities of a PCI function, through ports 0xcf8 and 0xcfc.

use crate::qemu::Qemu;

/// Offsets in config space (PCI Local Bus Specification 3.0, 6.1).
pub mod config {
    /// Vendor and device id.
    pub const IDS: u8 = 0x00;
    /// Command and status.
    pub const COMMAND: u8 = 0x04;
    /// Revision and class.
    pub const CLASS: u8 = 0x08;
    /// First base address register.
    pub const BAR0: u8 = 0x10;
    /// Subsystem ids.
    pub const SUBSYSTEM: u8 = 0x2c;
    /// First capability.
    pub const CAPABILITIES: u8 = 0x34;
    /// Interrupt line and pin.
    pub const INTERRUPT: u8 = 0x3c;
}

/// Capability id of MSI-X.
pub const MSIX: u8 = 0x11;
/// Capability id of PCI Express.
pub const EXPRESS: u8 = 0x10;

/// A function, by bus and slot.
#[derive(Clone, Copy, Debug)]
pub struct Function<'q> {
    /// Its machine.
    pub qemu: &'q Qemu,
    /// Bus.
    pub bus: u8,
    /// Slot.
    pub slot: u8,
}

impl Function<'_> {
    fn select(&self, offset: u8) {
        let address = 1 << 31
            | u32::from(self.bus) << 16
            | u32::from(self.slot) << 11
            | u32::from(offset & !3);
        self.qemu.port_out(0xcf8, 4, address);
    }

    /// Reads 32 bits of config space.
    pub fn read(&self, offset: u8) -> u32 {
        self.select(offset);
        self.qemu.port_in(0xcfc, 4)
    }

    /// Writes 32 bits of config space.
    pub fn write(&self, offset: u8, value: u32) {
        self.select(offset);
        self.qemu.port_out(0xcfc, 4, value);
    }

    /// Reads a byte of config space.
    pub fn byte(&self, offset: u8) -> u8 {
        (self.read(offset) >> (8 * (offset & 3))) as u8
    }

    /// Offset of a capability.
    pub fn capability(&self, id: u8) -> Option<u8> {
        let mut at = self.byte(config::CAPABILITIES) & !3;
        // The list cannot have more entries than config space has words.
        for _ in 0..64 {
            match at {
                0 => return None,
                _ if self.byte(at) == id => return Some(at),
                _ => at = self.byte(at + 1) & !3,
            }
        }
        panic!("the list of capabilities does not end");
    }

    /// Type bits and size in bytes of a BAR; size 0 where there is none.
    pub fn bar(&self, number: u8) -> (u32, u64) {
        let at = config::BAR0 + 4 * number;
        let before = self.read(at);
        self.write(at, u32::MAX);
        let low = self.read(at);
        self.write(at, before);
        let kind = low & 0xf;
        if kind & 0b110 != 0b100 {
            return (kind, u64::from((low & !0xf).wrapping_neg()));
        }
        let before = self.read(at + 4);
        self.write(at + 4, u32::MAX);
        let high = self.read(at + 4);
        self.write(at + 4, before);
        (
            kind,
            (u64::from(high) << 32 | u64::from(low & !0xf)).wrapping_neg(),
        )
    }

    /// Maps a BAR.
    pub fn map(&self, number: u8, address: u64) {
        let at = config::BAR0 + 4 * number;
        let wide = self.read(at) & 0b110 == 0b100;
        self.write(at, address as u32);
        if wide {
            self.write(at + 4, (address >> 32) as u32);
        }
    }

    /// Lets the function answer to memory accesses and make its own.
    pub fn enable(&self) {
        self.write(config::COMMAND, 0b110);
    }
}
