//! Every register of the tables, at every access size and alignment.

use vgpu_protocol::limits::MAX_CHANNELS;
use vgpu_protocol::regs::{
    Access, BAR0_BYTES, CHANNEL_PAGES, CHANNEL_REGISTERS, ChannelReg, DeviceStatus, PAGE_BYTES,
    REGISTERS, RESET_KEY, Reg, channel_offset,
};

use crate::machine::{Machine, Spec, VM_ID};

fn expected(reg: Reg, spec: &Spec) -> u32 {
    match reg {
        Reg::VmId => VM_ID,
        Reg::Channels => spec.channels,
        Reg::Bar1SizeLo => spec.bar1_bytes as u32,
        Reg::Bar1SizeHi => (spec.bar1_bytes >> 32) as u32,
        Reg::Status => (DeviceStatus::READY | DeviceStatus::SOFT).bits(),
        other => panic!("{other:?} has no value in the table and none here"),
    }
}

pub fn control_registers_reset_and_access<M: Machine>() {
    let m = M::start(Spec::default());
    for row in REGISTERS {
        let reg = Reg::at(row.offset).expect("in the table");
        let reset = row.reset.unwrap_or_else(|| expected(reg, &m.spec()));
        assert_eq!(m.reg(reg), reset, "{}", row.name);
        let all = match row.access {
            Access::Rw => u32::MAX,
            Access::Ro | Access::Wo | Access::Rw1c => reset,
        };
        m.set_reg(reg, u32::MAX);
        assert_eq!(m.reg(reg), all, "{} after all ones", row.name);
        if row.access == Access::Rw {
            m.set_reg(reg, 0x5aa5_1234);
            assert_eq!(m.reg(reg), 0x5aa5_1234, "{}", row.name);
        }
    }
    assert!(m.logged("read-only register Magic"));
    m.set_reg(Reg::DeviceReset, RESET_KEY);
    for row in REGISTERS.iter().filter(|row| row.access == Access::Rw) {
        let value = m.bar0_read(row.offset, 4) as u32;
        assert_eq!(Some(value), row.reset, "{} after a reset", row.name);
    }
}

pub fn channel_registers_reset_and_access<M: Machine>() {
    let m = M::start(Spec::default());
    for channel in 0..m.spec().channels {
        for row in CHANNEL_REGISTERS {
            let at = channel_offset(channel, ChannelReg::Doorbell) + row.offset;
            let reset = row.reset.expect("all have one");
            assert_eq!(m.bar0_read(at, 4) as u32, reset, "{}", row.name);
            // Neither a command nor a state.
            m.bar0_write(at, 4, 0xffff_fffe);
            let kept = match ChannelReg::at(row.offset).expect("in the table") {
                ChannelReg::Owner => 0xffff_fffe,
                _ => reset,
            };
            assert_eq!(
                m.bar0_read(at, 4) as u32,
                kept,
                "{} of channel {channel}",
                row.name
            );
        }
        m.set_channel_reg(channel, ChannelReg::IrqEnable, u32::MAX);
        assert_eq!(
            m.channel_reg(channel, ChannelReg::IrqEnable),
            1,
            "bit 0 alone"
        );
    }
    assert!(m.logged("no command 4294967294"));
    assert!(m.logged("write to a read-only register"));
    m.set_reg(Reg::DeviceReset, RESET_KEY);
    for row in CHANNEL_REGISTERS {
        let at = channel_offset(0, ChannelReg::Doorbell) + row.offset;
        assert_eq!(
            Some(m.bar0_read(at, 4) as u32),
            row.reset,
            "{} after a reset",
            row.name
        );
    }
}

pub fn other_sizes_and_alignments_reach_nothing<M: Machine>() {
    let m = M::start(Spec::default());
    m.set_reg(Reg::Scratch, 0x1122_3344);
    let channel = channel_offset(1, ChannelReg::Doorbell);
    m.set_channel_reg(1, ChannelReg::Owner, 0x5566_7788);
    let control = REGISTERS.iter().map(|row| row.offset);
    let all: Vec<u64> = control
        .chain(CHANNEL_REGISTERS.iter().map(|row| channel + row.offset))
        .collect();
    for at in all {
        for size in [1u32, 2, 4, 8] {
            for skew in 0..4 {
                if size == 4 && skew == 0 {
                    continue;
                }
                assert_eq!(
                    m.bar0_read(at + skew, size),
                    0,
                    "{size} bytes at {:#x}",
                    at + skew
                );
                m.bar0_write(at + skew, size, 0x0101_0101_0101_0101);
            }
        }
    }
    assert_eq!(m.reg(Reg::Scratch), 0x1122_3344);
    assert_eq!(m.channel_reg(1, ChannelReg::Owner), 0x5566_7788);
    assert_eq!(m.channel_reg(1, ChannelReg::Generation), 0);
    assert!(m.logged("allowed are aligned accesses of 4 bytes"));
}

pub fn holes_read_zero_and_ignore_writes<M: Machine>() {
    let m = M::start(Spec::default());
    let after_control = REGISTERS.last().map_or(0, |row| row.offset + 4);
    let after_channel = CHANNEL_REGISTERS.last().map_or(0, |row| row.offset + 4);
    let page = channel_offset(0, ChannelReg::Doorbell);
    // 0xa00: where nvidia.ko looks for a chip; 0x88000: beyond every page.
    let holes = [
        after_control,
        0xa00,
        PAGE_BYTES - 4,
        PAGE_BYTES,
        CHANNEL_PAGES - 4,
        page + after_channel,
        page + PAGE_BYTES - 4,
        CHANNEL_PAGES + u64::from(MAX_CHANNELS) * PAGE_BYTES,
        BAR0_BYTES - 4,
    ];
    for at in holes {
        assert_eq!(m.bar0_read(at, 4), 0, "{at:#x}");
        m.bar0_write(at, 4, u64::from(u32::MAX));
        assert_eq!(m.bar0_read(at, 4), 0, "{at:#x}");
    }
    assert!(m.logged("where no register is"));
    assert_eq!(m.reg(Reg::VmId), VM_ID);
}

pub fn the_reset_key<M: Machine>() {
    let m = M::start(Spec::default());
    m.set_reg(Reg::Scratch, 7);
    m.claim(0);
    for wrong in [0, 1, RESET_KEY + 1, !RESET_KEY] {
        m.set_reg(Reg::DeviceReset, wrong);
    }
    assert_eq!(m.reg(Reg::Scratch), 7);
    assert_eq!(m.channel_reg(0, ChannelReg::State), 1);
    assert!(m.logged("DEVICE_RESET"));
    m.set_reg(Reg::DeviceReset, RESET_KEY);
    assert_eq!(m.reg(Reg::Scratch), 0);
    m.wait_free(0);
}

pub fn a_library_of_another_build<M: Machine>() {
    let m = M::start(Spec::default());
    m.set_reg(Reg::GuestHash, 0x1234_5678);
    assert!(m.logged("protocol hashes differ: it has ...12345678"));
    // Said once: every program of the guest would say it again.
    m.set_reg(Reg::GuestHash, 0x8765_4321);
    assert!(!m.logged("87654321"));
    m.claim(0);
}
