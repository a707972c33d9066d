//! Interrupts for parked guests.

use vgpu_protocol::calls::CtxId;
use vgpu_protocol::message::Flags;
use vgpu_protocol::regs::{ChannelReg, Reg};

use crate::guest::Guest;
use crate::machine::{Machine, Spec, wait_until};

/// Asks for something, without looking for the reply.
fn ask<M: Machine>(guest: &Guest<'_, M>) {
    guest.send(0x0002, Flags::empty(), CtxId(0), vec![]);
}

pub fn a_parked_guest_is_interrupted<M: Machine>() {
    let m = M::start(Spec::default());
    m.enable_interrupts();
    let guest = Guest::claim(&m, 2);
    guest.hello();
    m.set_channel_reg(2, ChannelReg::IrqEnable, 1);
    for _ in 0..3 {
        assert!(guest.park(), "no reply is there");
        ask(&guest);
        wait_until("the interrupt comes", || m.take_interrupt(2));
        assert_eq!(m.reg(Reg::IrqStatusLo), 1 << 2);
        assert!(
            guest.try_receive().is_some(),
            "the reply is there when the interrupt comes"
        );
        m.set_reg(Reg::IrqStatusLo, !(1 << 2));
        assert_eq!(m.reg(Reg::IrqStatusLo), 1 << 2, "ones clear, zeros do not");
        m.set_reg(Reg::IrqStatusLo, 1 << 2);
        assert_eq!(m.reg(Reg::IrqStatusLo), 0);
    }
}

pub fn nobody_is_interrupted_who_did_not_ask<M: Machine>() {
    let m = M::start(Spec::default());
    m.enable_interrupts();
    let guest = Guest::claim(&m, 0);
    // Parked, but not enabled.
    assert!(guest.park());
    ask(&guest);
    guest.receive();
    // Enabled, but not parked.
    m.set_channel_reg(0, ChannelReg::IrqEnable, 1);
    guest.hello();
    assert_eq!(m.reg(Reg::IrqStatusLo), 0);
    assert!(!m.take_interrupt(0));
    // A new owner begins without.
    guest.release();
    m.claim(0);
    assert_eq!(m.channel_reg(0, ChannelReg::IrqEnable), 0);
}

pub fn channels_have_their_own_bits<M: Machine>() {
    let m = M::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    m.enable_interrupts();
    let interrupt = |channel| {
        let guest = Guest::claim(&m, channel);
        m.set_channel_reg(channel, ChannelReg::IrqEnable, 1);
        assert!(guest.park());
        ask(&guest);
        wait_until("the interrupt comes", || m.take_interrupt(channel));
    };
    [0, 31, 32, 63].into_iter().for_each(interrupt);
    assert_eq!(m.reg(Reg::IrqStatusLo), 1 | 1 << 31);
    assert_eq!(m.reg(Reg::IrqStatusHi), 1 | 1 << 31);
    m.set_reg(Reg::IrqStatusHi, 1);
    assert_eq!(m.reg(Reg::IrqStatusLo), 1 | 1 << 31);
    assert_eq!(m.reg(Reg::IrqStatusHi), 1 << 31);
    m.set_reg(Reg::IrqStatusLo, u32::MAX);
    m.set_reg(Reg::IrqStatusHi, u32::MAX);
    assert_eq!((m.reg(Reg::IrqStatusLo), m.reg(Reg::IrqStatusHi)), (0, 0));
}
