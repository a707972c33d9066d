//! Doorbells, interrupts, buses.

use vgpu_protocol::calls::CtxId;
use vgpu_protocol::layout::index;
use vgpu_protocol::message::Flags;
use vgpu_protocol::regs::{ChannelCommand, ChannelReg, MAGIC, RESET_KEY, Reg, channel_offset};
use vgpu_qtest::board::{BAR0, BAR1, BAR3, SLOT, properties};
use vgpu_qtest::pci::{self, Function, MSIX, config};
use vgpu_qtest::{Board, Qemu, binary};
use vgpu_test_harness::machine::wait_until;
use vgpu_test_harness::{Guest, Machine, Spec};

/// Asks for the counters, without looking for the reply.
fn ask(guest: &Guest<'_, Board>) {
    guest.send(0x0002, Flags::empty(), CtxId(0), vec![]);
}

pub fn a_doorbell_write_is_an_eventfd() {
    let board = Board::start(Spec::default());
    let guest = Guest::claim(&board, 3);
    for value in [0, 1, u32::MAX] {
        guest.wait_until_worker_sleeps();
        let header = guest.header(0x0002, Flags::empty(), CtxId(0), 0);
        assert_eq!(guest.push(header, &[]), Some(true));
        // Whatever the value.
        board.qemu.write(
            BAR0 + channel_offset(3, ChannelReg::Doorbell),
            4,
            value.into(),
        );
        guest.receive();
    }
    // Other sizes ring nothing, and are mistakes.
    guest.wait_until_worker_sleeps();
    let header = guest.header(0x0002, Flags::empty(), CtxId(0), 0);
    assert_eq!(guest.push(header, &[]), Some(true));
    let before = board.load64(guest.word(index::COMMAND_HEAD));
    for size in [1, 2, 8] {
        board
            .qemu
            .write(BAR0 + channel_offset(3, ChannelReg::Doorbell), size, 1);
    }
    assert_eq!(board.load64(guest.word(index::COMMAND_HEAD)), before);
    guest.ring();
    guest.receive();
}

pub fn the_interrupt_pin() {
    let board = Board::on("q35", Spec::default());
    board.qemu.intercept_irqs_in("ioapic");
    let guest = Guest::claim(&board, 1);
    board.set_channel_reg(1, ChannelReg::IrqEnable, 1);
    assert_eq!(board.qemu.raised_pins(), []);
    for _ in 0..3 {
        assert!(guest.park());
        ask(&guest);
        wait_until("the pin is raised", || !board.qemu.raised_pins().is_empty());
        guest.receive();
        assert_eq!(board.reg(Reg::IrqStatusLo), 1 << 1);
        board.set_reg(Reg::IrqStatusLo, 1 << 1);
        assert_eq!(
            board.qemu.raised_pins(),
            [],
            "low when the acknowledging write returns"
        );
    }
}

pub fn masked_messages_stay_pending() {
    let board = Board::start(Spec::default());
    board.enable_msix();
    let capability = board.function().capability(MSIX).expect("MSI-X");
    let pending = BAR3 + u64::from(board.function().read(capability + 8) & !7);
    // Vector 2 masked.
    board.qemu.write(BAR3 + 2 * 16 + 12, 4, 1);
    let guest = Guest::claim(&board, 2);
    board.set_channel_reg(2, ChannelReg::IrqEnable, 1);
    assert!(guest.park());
    ask(&guest);
    wait_until("the message is pending", || {
        board.qemu.read(pending, 8) == 1 << 2
    });
    assert!(!board.take_interrupt(2));
    board.qemu.write(BAR3 + 2 * 16 + 12, 4, 0);
    wait_until("the message is sent", || board.take_interrupt(2));
    assert_eq!(board.qemu.read(pending, 8), 0);
}

/// A hostile guest lets the device write to its own registers.
pub fn messages_to_the_device_itself() {
    let targets = [
        (Reg::IrqStatusLo.offset(), u32::MAX),
        (Reg::IrqStatusLo.offset(), 0),
        (channel_offset(1, ChannelReg::Doorbell), 1),
        (
            channel_offset(1, ChannelReg::Control),
            ChannelCommand::Release as u32,
        ),
        (Reg::DeviceReset.offset(), RESET_KEY),
    ];
    for (offset, data) in targets {
        let board = Board::start(Spec::default());
        board.enable_msix();
        board.set_message(1, BAR0 + offset, data);
        for turn in 0..20 {
            let guest = Guest::claim(&board, 1);
            board.set_channel_reg(1, ChannelReg::IrqEnable, 1);
            assert!(guest.park());
            ask(&guest);
            // With the message on its way, or come already.
            board.set_reg(Reg::IrqStatusLo, u32::MAX);
            if turn % 4 == 3 {
                board.qemu.qmp(r#"{"execute":"system_reset"}"#);
                board.qemu.wait_event("RESET");
                board.map();
                board.enable_msix();
                board.set_message(1, BAR0 + offset, data);
            }
            board.release(1);
        }
        assert_eq!(board.reg(Reg::Magic), MAGIC);
        Guest::claim(&board, 0).hello();
    }
}

pub fn the_device_behind_a_root_port() {
    let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    let device = format!("{},bus=rp", properties(Spec::default()));
    let port = "pcie-root-port,id=rp,addr=4,chassis=1";
    let qemu = Qemu::start(
        &binary,
        &["-machine", "q35", "-device", port, "-device", &device],
    );
    open_root_port(&qemu);
    let f = Function {
        qemu: &qemu,
        bus: 1,
        slot: 0,
    };
    assert_eq!(f.read(config::IDS), 0x2331_10de);
    assert!(f.capability(pci::EXPRESS).is_some());
    f.map(0, BAR0);
    f.map(1, BAR1);
    f.enable();
    assert_eq!(qemu.read(BAR0 + Reg::Magic.offset(), 4) as u32, MAGIC);
    qemu.write(BAR1 + 8, 8, 77);
    assert_eq!(qemu.read(BAR1 + 8, 8), 77);
}

/// Gives the port in slot 4 bus 1 behind it, and the windows of our BARs.
pub fn open_root_port(qemu: &Qemu) {
    let port = Function {
        qemu,
        bus: 0,
        slot: 4,
    };
    port.write(0x18, 0x0001_0100);
    let window = |base: u64, bytes: u64| {
        ((base + bytes - 1) >> 16 << 16) as u32 & 0xfff0_0000 | (base >> 16) as u32 & 0xfff0
    };
    // Memory: BAR 0 and 3. Prefetchable memory: BAR 1.
    port.write(0x20, window(BAR0, 4 << 20));
    port.write(0x24, window(BAR1, 256 << 20));
    port.write(0x28, 0);
    port.write(0x2c, 0);
    port.enable();
}

pub fn two_devices() {
    let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    let one = format!("{},addr=5", properties(Spec::default()));
    let two = "vgpu-stub,vm_id=222,identity=stub,backend=soft,bar1-size=16M,addr=6";
    let qemu = Qemu::start(
        &binary,
        &["-machine", "pc", "-device", &one, "-device", two],
    );
    let ids = [(SLOT, BAR0, 111), (6, BAR0 + (1 << 21), 222)];
    for (slot, bar0, _) in ids {
        let f = Function {
            qemu: &qemu,
            bus: 0,
            slot,
        };
        f.map(0, bar0);
        f.enable();
    }
    for (_, bar0, id) in ids {
        assert_eq!(qemu.read(bar0 + Reg::VmId.offset(), 4), id);
        qemu.write(bar0 + Reg::Scratch.offset(), 4, id);
    }
    for (_, bar0, id) in ids {
        assert_eq!(qemu.read(bar0 + Reg::Scratch.offset(), 4), id);
    }
    // Each has its own channels.
    qemu.write(BAR0 + channel_offset(0, ChannelReg::Control), 4, 1);
    assert_eq!(qemu.read(BAR0 + channel_offset(0, ChannelReg::State), 4), 1);
    assert_eq!(
        qemu.read(ids[1].1 + channel_offset(0, ChannelReg::State), 4),
        0
    );
}
