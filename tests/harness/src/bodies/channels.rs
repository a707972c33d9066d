//! Claim, release and reset.

use vgpu_protocol::layout::{INDEX_BYTES, index};
use vgpu_protocol::regs::{
    ChannelCommand, ChannelReg, ChannelState, RESET_KEY, Reg, channel_offset,
};

use crate::guest::Guest;
use crate::machine::{Machine, Spec};

pub fn claim_and_release<M: Machine>() {
    let m = M::start(Spec::default());
    assert_eq!(m.state(2), ChannelState::Free);
    m.claim(2);
    assert_eq!(m.channel_reg(2, ChannelReg::Generation), 1);
    m.release(2);
    assert_eq!(m.channel_reg(2, ChannelReg::Generation), 1);
    // A free channel stays free.
    m.release(2);
    m.claim(2);
    assert_eq!(m.channel_reg(2, ChannelReg::Generation), 2);
    assert_eq!(m.channel_reg(1, ChannelReg::Generation), 0);
    m.set_channel_reg(2, ChannelReg::Owner, 4711);
    m.release(2);
    assert_eq!(
        m.channel_reg(2, ChannelReg::Owner),
        0,
        "the owner goes with its channel"
    );
}

pub fn a_claim_clears_the_indices<M: Machine>() {
    let m = M::start(Spec::default());
    let area = m.layout().area(1);
    m.bar1_write(area, &vec![0xa5; INDEX_BYTES as usize]);
    let guest = Guest::claim(&m, 1);
    for word in [index::COMMAND_HEAD, index::REPLY_HEAD, index::ARENA_HEAD] {
        assert_eq!(m.load64(area + word), 0, "{word:#x}");
    }
    assert_eq!(m.load32(area + index::DEFERRED_ERROR), 0);
    guest.hello();
}

pub fn a_claimed_channel_cannot_be_claimed<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    guest.hello();
    m.set_channel_reg(0, ChannelReg::Control, ChannelCommand::Claim as u32);
    assert!(m.logged("cannot be claimed"));
    assert_eq!(m.channel_reg(0, ChannelReg::Generation), 1);
    // Its owner does not notice.
    guest.hello();
    for command in [0, 3, u32::MAX] {
        m.set_channel_reg(0, ChannelReg::Control, command);
    }
    assert!(m.logged("no command 3"));
    guest.hello();
}

pub fn channels_that_the_device_does_not_have<M: Machine>() {
    let m = M::start(Spec {
        channels: 2,
        ..Spec::default()
    });
    for channel in [2, 3, 63] {
        let at = channel_offset(channel, ChannelReg::Control);
        m.bar0_write(at, 4, ChannelCommand::Claim as u64);
        m.ring(channel);
        assert_eq!(m.channel_reg(channel, ChannelReg::State), 0);
        assert_eq!(m.channel_reg(channel, ChannelReg::Generation), 0);
        assert!(m.logged(&format!("channel {channel}, the device has 2")));
    }
}

pub fn all_channels_at_once<M: Machine>() {
    let m = M::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    let guests: Vec<_> = (0..64).map(|n| Guest::claim(&m, n)).collect();
    for guest in &guests {
        guest.hello();
    }
    // The last one first: no order is asked for.
    for guest in guests.into_iter().rev() {
        guest.hello();
        guest.release();
    }
}

pub fn device_reset_frees_every_channel<M: Machine>() {
    let m = M::start(Spec::default());
    for channel in 0..3 {
        let guest = Guest::claim(&m, channel);
        guest.context();
        m.set_channel_reg(channel, ChannelReg::Owner, 99);
    }
    m.set_reg(Reg::DeviceReset, RESET_KEY);
    for channel in 0..4 {
        m.wait_free(channel);
        assert_eq!(m.channel_reg(channel, ChannelReg::Owner), 0);
    }
    Guest::claim(&m, 1).hello();
}

pub fn release_and_claim_many_times<M: Machine>() {
    let m = M::start(Spec::default());
    for turn in 1..=40 {
        let guest = Guest::claim(&m, 0);
        assert_eq!(m.channel_reg(0, ChannelReg::Generation), turn);
        // Also while the session is being opened, and while a call is on its way.
        if turn % 3 > 0 {
            guest.hello();
        }
        if turn % 3 > 1 {
            guest.send(
                0x0003,
                vgpu_protocol::message::Flags::empty(),
                Default::default(),
                vec![],
            );
        }
        guest.release();
    }
}
