//! BAR0: one page of control registers, then one page per channel.
//!
//! The table below is the only place that names an offset. `docs/specs/vgpu-stub.rst` shows the
//! same table, and a test of the device compares the two.

use bitflags::bitflags;

/// Size of a register page and of a doorbell page, in bytes.
pub const PAGE_BYTES: u64 = 0x1000;

/// Offset of channel 0's page; channel `n` follows at `n * PAGE_BYTES`.
pub const CHANNEL_PAGES: u64 = 0x1_0000;

/// Size of BAR0 in bytes: the control area and [`crate::limits::MAX_CHANNELS`] channel pages,
/// rounded up to a power of two.
pub const BAR0_BYTES: u64 = 0x8_0000;

/// Value of [`Reg::Magic`]: "VGPU", least significant byte first.
pub const MAGIC: u32 = u32::from_le_bytes(*b"VGPU");

/// Value of [`Reg::AbiVersion`]: major in the upper half, minor in the lower. A guest refuses
/// another major.
pub const ABI_VERSION: u32 = 0x0002_0000;

/// Value to write to [`Reg::DeviceReset`]; any other value is a guest error and does nothing.
pub const RESET_KEY: u32 = 0x5253_5421;

/// How the guest may use a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes are a guest error.
    Ro,
    /// Reads as zero.
    Wo,
    /// Keeps what is written.
    Rw,
    /// Writing a 1 bit clears it.
    Rw1c,
}

impl Access {
    /// The spelling of the specification.
    pub fn name(self) -> &'static str {
        match self {
            Access::Ro => "RO",
            Access::Wo => "WO",
            Access::Rw => "RW",
            Access::Rw1c => "RW1C",
        }
    }
}

/// One row of a register table.
#[derive(Clone, Copy, Debug)]
pub struct RegInfo {
    /// Offset from the start of the page, in bytes.
    pub offset: u64,
    /// Access.
    pub access: Access,
    /// Name in the specification.
    pub name: &'static str,
    /// Value after reset, `None` where it depends on the device's properties.
    pub reset: Option<u32>,
}

macro_rules! registers {
    ($(#[$meta:meta])* $enum:ident, $table:ident: $($(#[doc = $doc:literal])+ $offset:literal $access:ident $variant:ident $name:literal = $reset:expr;)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub enum $enum { $($(#[doc = $doc])+ $variant = $offset,)* }

        /// All rows, by ascending offset.
        pub const $table: &[RegInfo] = &[$(RegInfo {
            offset: $offset, access: Access::$access, name: $name, reset: $reset,
        },)*];

        impl $enum {
            /// The register at `offset`, if one starts there.
            pub fn at(offset: u64) -> Option<Self> {
                match offset { $($offset => Some(Self::$variant),)* _ => None }
            }

            /// Offset from the start of the page, in bytes.
            pub const fn offset(self) -> u64 { self as u64 }

            /// Access.
            pub fn access(self) -> Access {
                match self { $(Self::$variant => Access::$access,)* }
            }
        }
    };
}

registers! {
    /// Control registers, 32 bits each, in page 0 of BAR0.
    Reg, REGISTERS:
    /// Where NVIDIA GPUs show their chip id (`NV_PMC_BOOT_0`). Reads 0, which no driver knows.
    0x000 Ro NoChip "NOCHIP" = Some(0);
    /// `NV_PMC_BOOT_1` of NVIDIA GPUs. Reads 0: little-endian.
    0x004 Ro NoChip1 "NOCHIP1" = Some(0);
    /// [`MAGIC`].
    0x008 Ro Magic "MAGIC" = Some(MAGIC);
    /// [`ABI_VERSION`] of registers and BAR1 layout.
    0x00c Ro AbiVersion "ABI_VERSION" = Some(ABI_VERSION);
    /// Low half of the call table's hash.
    0x010 Ro HashLo "PROTOCOL_HASH_LO" = Some(crate::PROTOCOL_HASH as u32);
    /// High half of the call table's hash.
    0x014 Ro HashHi "PROTOCOL_HASH_HI" = Some((crate::PROTOCOL_HASH >> 32) as u32);
    /// The `vm_id` property.
    0x018 Ro VmId "VM_ID" = None;
    /// Number of channels.
    0x01c Ro Channels "CHANNELS" = None;
    /// Low half of BAR1's size in bytes.
    0x020 Ro Bar1SizeLo "BAR1_SIZE_LO" = None;
    /// High half of BAR1's size in bytes.
    0x024 Ro Bar1SizeHi "BAR1_SIZE_HI" = None;
    /// [`DeviceStatus`] bits.
    0x028 Ro Status "STATUS" = None;
    /// Writing [`RESET_KEY`] resets every channel.
    0x02c Wo DeviceReset "DEVICE_RESET" = Some(0);
    /// Channels 0 to 31 with a pending interrupt.
    0x030 Rw1c IrqStatusLo "IRQ_STATUS_LO" = Some(0);
    /// Channels 32 to 63 with a pending interrupt.
    0x034 Rw1c IrqStatusHi "IRQ_STATUS_HI" = Some(0);
    /// Free for the guest's own use.
    0x038 Rw Scratch "SCRATCH" = Some(0);
    /// A library that refuses the device for its protocol hash writes the low half of its own, for the host's log.
    0x03c Wo GuestHash "GUEST_HASH" = Some(0);
}

registers! {
    /// Registers of a channel's page, 32 bits each.
    ChannelReg, CHANNEL_REGISTERS:
    /// Any 32-bit write wakes the channel's worker. Reads as 0.
    0x000 Wo Doorbell "DOORBELL" = Some(0);
    /// [`ChannelState`].
    0x004 Ro State "CHANNEL_STATE" = Some(0);
    /// [`ChannelCommand`].
    0x008 Wo Control "CHANNEL_CONTROL" = Some(0);
    /// Why the channel is in [`ChannelState::Failed`]: a [`ChannelFault`], else 0.
    0x00c Ro Fault "CHANNEL_FAULT" = Some(0);
    /// Counts claims and takeovers of this channel.
    0x010 Ro Generation "CHANNEL_GENERATION" = Some(0);
    /// Bit 0: raise an interrupt when a reply is written for a parked guest.
    0x014 Rw IrqEnable "CHANNEL_IRQ_ENABLE" = Some(0);
    /// Process id of the owner in its guest, for people who look; the device does not use it.
    0x018 Rw Owner "CHANNEL_OWNER" = Some(0);
}

bitflags! {
    /// Bits of [`Reg::Status`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceStatus: u32 {
        /// The backend is up and channels can be claimed.
        const READY = 1 << 0;
        /// The backend is the software GPU.
        const SOFT = 1 << 1;
        /// The device stopped after an internal error; every claim fails.
        const BROKEN = 1 << 2;
    }
}

/// Values of [`ChannelReg::State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ChannelState {
    /// Nobody owns it.
    Free = 0,
    /// Owned, its worker runs.
    Claimed = 1,
    /// The worker is freeing what the last owner had.
    Resetting = 2,
    /// The guest broke the protocol: see [`ChannelReg::Fault`]. Only a reset helps.
    Failed = 3,
}

/// Values to write to [`ChannelReg::Control`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ChannelCommand {
    /// Free → Claimed. Ignored (a guest error) in any other state.
    Claim = 1,
    /// Frees everything that the channel owns: → Resetting → Free.
    Release = 2,
}

/// Values of [`ChannelReg::Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ChannelFault {
    /// No fault.
    None = 0,
    /// A ring index claims more bytes than the ring holds, or is misaligned.
    BadIndex = 1,
    /// A record's length is not a multiple of 8, too small, or does not fit its end.
    BadLength = 2,
    /// A fragment does not continue the message that was begun.
    BadFragment = 3,
    /// The message is longer than its call or the device allows.
    TooLong = 4,
    /// The guest stopped reading its reply ring.
    ReplyStalled = 5,
    /// An internal error of the device; the host's log tells more.
    Internal = 6,
    /// With `isolation=process`: the channel's worker process has ended, of itself or killed.
    WorkerDied = 7,
}

impl ChannelState {
    /// The state with this number.
    pub fn from_bits(bits: u32) -> Option<ChannelState> {
        [Self::Free, Self::Claimed, Self::Resetting, Self::Failed]
            .into_iter()
            .find(|s| *s as u32 == bits)
    }
}

/// Offset of a channel's register in BAR0.
pub const fn channel_offset(channel: u32, reg: ChannelReg) -> u64 {
    CHANNEL_PAGES + channel as u64 * PAGE_BYTES + reg.offset()
}

/// Where an offset of BAR0 points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A control register.
    Control(Reg),
    /// A register of the given channel's page. The channel number may exceed the device's.
    Channel(u32, ChannelReg),
    /// No register.
    Hole,
}

/// Finds the register at `offset` of BAR0.
pub fn decode(offset: u64) -> Place {
    if offset < PAGE_BYTES {
        return Reg::at(offset).map_or(Place::Hole, Place::Control);
    }
    let Some(in_pages) = offset.checked_sub(CHANNEL_PAGES) else {
        return Place::Hole;
    };
    let channel = in_pages / PAGE_BYTES;
    if channel >= u64::from(crate::limits::MAX_CHANNELS) {
        return Place::Hole;
    }
    ChannelReg::at(in_pages % PAGE_BYTES)
        .map_or(Place::Hole, |reg| Place::Channel(channel as u32, reg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_aligned_and_inside_their_page() {
        for table in [REGISTERS, CHANNEL_REGISTERS] {
            for pair in table.windows(2) {
                assert!(
                    pair[0].offset < pair[1].offset,
                    "{} and {}",
                    pair[0].name,
                    pair[1].name
                );
            }
            for row in table {
                assert_eq!(row.offset % 4, 0, "{}", row.name);
                assert!(row.offset + 4 <= PAGE_BYTES, "{}", row.name);
            }
        }
    }

    #[test]
    fn the_last_channel_page_fits_bar0() {
        let last = crate::limits::MAX_CHANNELS - 1;
        assert!(channel_offset(last, ChannelReg::Owner) < BAR0_BYTES);
        assert_eq!(
            decode(channel_offset(last, ChannelReg::Doorbell)),
            Place::Channel(last, ChannelReg::Doorbell)
        );
        assert_eq!(
            decode(channel_offset(last, ChannelReg::Doorbell) + PAGE_BYTES),
            Place::Hole
        );
        assert_eq!(decode(PAGE_BYTES), Place::Hole);
        assert_eq!(decode(Reg::VmId.offset()), Place::Control(Reg::VmId));
        assert_eq!(decode(Reg::VmId.offset() + 1), Place::Hole);
    }

    #[test]
    fn no_register_shows_a_chip_id_that_nouveau_knows() {
        // nouveau reads bits 20 to 28 of offset 0 when any of bits 24 to 28 is set.
        let chip = REGISTERS
            .iter()
            .find(|r| r.offset == 0)
            .and_then(|r| r.reset);
        assert_eq!(chip.map(|v| v & 0x1f00_0000), Some(0));
        // nvidia.ko reads NV_PMC_BOOT_42 at 0xa00.
        assert_eq!(decode(0xa00), Place::Hole);
    }
}
