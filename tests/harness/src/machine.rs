//! What a test body needs of the machine that the device is plugged into: the device alone in
//! this process, or a QEMU that is driven through qtest.

use std::time::{Duration, Instant};

use vgpu_protocol::layout::Layout;
use vgpu_protocol::regs::{
    ChannelCommand, ChannelFault, ChannelReg, ChannelState, Reg, channel_offset,
};

/// The device that a test wants.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The `channels` property.
    pub channels: u32,
    /// The `bar1-size` property, in bytes.
    pub bar1_bytes: u64,
    /// The `memory` property, in bytes.
    pub memory_bytes: u64,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            channels: 4,
            bar1_bytes: 16 << 20,
            memory_bytes: 256 << 20,
        }
    }
}

/// The `vm_id` of every device in these tests.
pub const VM_ID: u32 = 111;

/// Longer than anything here takes on the slowest machine: what is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine with one device. Offsets are relative to the BAR.
pub trait Machine: Sized + Sync {
    /// Bytes of a message that this machine carries in a reasonable time.
    const LONG_BYTES: usize;

    /// Starts a machine with such a device, `vm_id=111,backend=soft`.
    fn start(spec: Spec) -> Self;
    /// What it was started with.
    fn spec(&self) -> Spec;
    /// Reads `size` bytes of BAR0.
    fn bar0_read(&self, offset: u64, size: u32) -> u64;
    /// Writes `size` bytes of BAR0.
    fn bar0_write(&self, offset: u64, size: u32, value: u64);
    /// Copies out of BAR1.
    fn bar1_read(&self, offset: u64, into: &mut [u8]);
    /// Copies into BAR1.
    fn bar1_write(&self, offset: u64, from: &[u8]);
    /// Loads a word of BAR1 with acquire ordering.
    fn load64(&self, offset: u64) -> u64;
    /// Stores a word of BAR1 with release ordering.
    fn store64(&self, offset: u64, value: u64);
    /// Loads a word of BAR1.
    fn load32(&self, offset: u64) -> u32;
    /// Stores a word of BAR1.
    fn store32(&self, offset: u64, value: u32);
    /// Turns a 1 in BAR1 into 0; false where there is none.
    fn take32(&self, offset: u64) -> bool;
    /// A sequentially consistent fence.
    fn fence(&self);
    /// True when a mistake of the guest, or a warning, has been logged whose text contains this.
    fn logged(&self, text: &str) -> bool;
    /// Makes ready for the interrupts of all channels.
    fn enable_interrupts(&self);
    /// True when the interrupt of a channel has been raised since the last call.
    fn take_interrupt(&self, channel: u32) -> bool;

    /// How often a channel's worker has been woken, where that can be seen.
    fn wakeups(&self, _channel: u32) -> Option<u64> {
        None
    }

    /// Threads and open descriptors of the device's process, where nothing else happens in it.
    fn held(&self) -> Option<(usize, usize)> {
        None
    }

    /// Has the guest see the device's memory or not, where there is a bus that can do so.
    fn show_bars(&self, _shown: bool) {}

    /// How BAR1 is divided.
    fn layout(&self) -> Layout {
        Layout::new(self.spec().bar1_bytes, self.spec().channels).expect("a valid layout")
    }

    /// Reads a control register.
    fn reg(&self, reg: Reg) -> u32 {
        self.bar0_read(reg.offset(), 4) as u32
    }

    /// Writes a control register.
    fn set_reg(&self, reg: Reg, value: u32) {
        self.bar0_write(reg.offset(), 4, value.into());
    }

    /// Reads a channel's register.
    fn channel_reg(&self, channel: u32, reg: ChannelReg) -> u32 {
        self.bar0_read(channel_offset(channel, reg), 4) as u32
    }

    /// Writes a channel's register.
    fn set_channel_reg(&self, channel: u32, reg: ChannelReg, value: u32) {
        self.bar0_write(channel_offset(channel, reg), 4, value.into());
    }

    /// A channel's state.
    fn state(&self, channel: u32) -> ChannelState {
        let bits = self.channel_reg(channel, ChannelReg::State);
        ChannelState::from_bits(bits).expect("a documented state")
    }

    /// Claims a channel.
    fn claim(&self, channel: u32) {
        self.set_channel_reg(channel, ChannelReg::Control, ChannelCommand::Claim as u32);
        assert_eq!(
            self.state(channel),
            ChannelState::Claimed,
            "channel {channel}"
        );
    }

    /// Releases a channel and waits until it is free.
    fn release(&self, channel: u32) {
        self.set_channel_reg(channel, ChannelReg::Control, ChannelCommand::Release as u32);
        self.wait_free(channel);
    }

    /// Waits until a channel is free.
    fn wait_free(&self, channel: u32) {
        wait_until("the channel is free", || {
            self.state(channel) == ChannelState::Free
        });
    }

    /// Rings a channel's doorbell.
    fn ring(&self, channel: u32) {
        self.set_channel_reg(channel, ChannelReg::Doorbell, 1);
    }

    /// Waits until a channel has failed, and checks why.
    fn expect_fault(&self, channel: u32, fault: ChannelFault) {
        wait_until("the channel fails", || {
            self.state(channel) == ChannelState::Failed
        });
        assert_eq!(
            self.channel_reg(channel, ChannelReg::Fault),
            fault as u32,
            "{fault:?}"
        );
    }
}

/// Waits for a condition that must come true.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
