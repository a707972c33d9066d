//! Reset, unplug, exit, migration.

use vgpu_protocol::calls::{Opcode, StreamId, stubs};
use vgpu_protocol::message::Flags;
use vgpu_protocol::regs::{ChannelReg, ChannelState, Reg, channel_offset};
use vgpu_qtest::board::{BAR0, properties};
use vgpu_qtest::{Board, Function, Qemu, binary};
use vgpu_test_harness::machine::wait_until;
use vgpu_test_harness::{Guest, Machine, Spec, ptx};

/// Starts a kernel that never ends and a call that waits for it.
fn compute_for_ever(board: &Board, channel: u32) {
    let guest = Guest::claim(board, channel);
    let ctx = guest.context();
    let loaded =
        stubs::module_load(&guest, ctx, ptx::MISCHIEF.as_bytes(), Vec::new()).expect("module");
    assert_eq!(loaded.status, 0, "{}", loaded.error_log);
    let forever =
        stubs::module_get_function(&guest, ctx, loaded.module, "forever").expect("kernel");
    stubs::launch_kernel(
        &guest,
        ctx,
        forever.function,
        [1; 3],
        [32, 1, 1],
        0,
        StreamId(0),
        &[],
    )
    .expect("posted");
    guest.send(Opcode::cuCtxSynchronize as u16, Flags::empty(), ctx, vec![]);
    guest.wait_until_taken();
}

/// Threads that belong to the device.
fn device_threads(qemu: &Qemu) -> Vec<String> {
    let mut names = qemu.threads();
    names.retain(|name| name.starts_with("vgpu-"));
    names
}

pub fn a_machine_reset_in_mid_command() {
    let board = Board::start(Spec::default());
    compute_for_ever(&board, 2);
    board.set_reg(Reg::Scratch, 5);
    board.qemu.qmp(r#"{"execute":"system_reset"}"#);
    board.qemu.wait_event("RESET");
    board.map();
    board.wait_free(2);
    assert_eq!(board.reg(Reg::Scratch), 0);
    Guest::claim(&board, 2).context();
}

pub fn a_bus_reset() {
    /// "Bridge Control", bit 6: "Secondary Bus Reset" (PCI-to-PCI Bridge Architecture, 3.2.5.18).
    const RESET: u32 = 1 << 22;
    let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    let device = format!("{},bus=rp", properties(Spec::default()));
    let port = "pcie-root-port,id=rp,addr=4,chassis=1";
    let qemu = Qemu::start(
        &binary,
        &["-machine", "q35", "-device", port, "-device", &device],
    );
    crate::wiring::open_root_port(&qemu);
    let device = Function {
        qemu: &qemu,
        bus: 1,
        slot: 0,
    };
    let map = || {
        device.map(0, BAR0);
        device.enable();
    };
    map();
    let register = |reg: Reg| BAR0 + reg.offset();
    let state = BAR0 + channel_offset(0, ChannelReg::State);
    qemu.write(register(Reg::Scratch), 4, 5);
    qemu.write(BAR0 + channel_offset(0, ChannelReg::Control), 4, 1);
    assert_eq!(qemu.read(state, 4), ChannelState::Claimed as u64);
    let port = Function {
        qemu: &qemu,
        bus: 0,
        slot: 4,
    };
    let control = port.read(0x3c);
    port.write(0x3c, control | RESET);
    port.write(0x3c, control & !RESET);
    map();
    assert_eq!(qemu.read(register(Reg::Scratch), 4), 0);
    wait_until("the channel is free", || {
        qemu.read(state, 4) == ChannelState::Free as u64
    });
}

pub fn hot_unplug_frees_everything() {
    let board = Board::start(Spec::default());
    unplug(&board);
}

pub fn hot_unplug_of_a_computing_device() {
    let board = Board::start(Spec::default());
    compute_for_ever(&board, 0);
    assert_eq!(board.state(0), ChannelState::Claimed);
    unplug(&board);
}

/// Unplugs the device from an i440FX, as ACPI does it for the guest, and plugs one in again.
fn unplug(board: &Board) {
    /// Registers of `docs/specs/acpi_pci_hotplug.rst`: bus to talk about, slots to eject.
    const SELECT: u16 = 0xae10;
    const EJECT: u16 = 0xae08;
    let qemu = &board.qemu;
    // A thread names itself once it runs.
    wait_until("the device has threads", || {
        !device_threads(qemu).is_empty()
    });
    let plug = r#"{"execute":"device_add","arguments":{"driver":"vgpu-stub","id":"again","vm_id":7,"backend":"soft","addr":"7"}}"#;
    // Cold-plugged devices have no id: one is plugged in hot, both go.
    qemu.qmp(plug);
    qemu.qmp(r#"{"execute":"device_del","arguments":{"id":"again"}}"#);
    qemu.port_out(SELECT, 4, 0);
    for slot in [7, u32::from(vgpu_qtest::board::SLOT)] {
        qemu.port_out(EJECT, 4, 1 << slot);
    }
    wait_until("the device's threads are gone", || {
        device_threads(qemu).is_empty()
    });
    let f = board.function();
    assert_eq!(f.read(0), u32::MAX, "nothing in the slot");
    qemu.qmp(plug);
    wait_until("it has threads again", || !device_threads(qemu).is_empty());
}

pub fn quit_with_an_endless_kernel() {
    let board = Board::start(Spec::default());
    compute_for_ever(&board, 0);
    let pid = board.qemu.pid();
    board.qemu.qmp(r#"{"execute":"quit"}"#);
    let (status, text) = board.qemu.wait_for_end();
    assert!(status.success(), "{status}: {text}");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

pub fn migration_is_refused() {
    let board = Board::start(Spec::default());
    let command = r#"{"execute":"migrate","arguments":{"uri":"exec:cat >/dev/null"}}"#;
    let refused = board
        .qemu
        .try_qmp(command)
        .expect("QEMU lives")
        .expect_err("refused");
    assert!(refused.contains("vgpu-stub"), "{refused}");
    // It works on.
    Guest::claim(&board, 0).hello();
}

pub fn savevm_is_refused() {
    let board = Board::start(Spec::default());
    let command =
        r#"{"execute":"human-monitor-command","arguments":{"command-line":"savevm one"}}"#;
    let answer = board.qemu.qmp(command);
    assert!(answer.contains("Error"), "{answer}");
    assert!(answer.contains("vgpu-stub"), "{answer}");
    // `--only-migratable` refuses the device itself.
    let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    let device = properties(Spec::default());
    let message = Qemu::try_start(&binary, &["--only-migratable", "-device", &device]);
    let message = message
        .err()
        .unwrap_or_else(|| panic!("--only-migratable accepted the device"));
    assert!(message.contains("vgpu-stub"), "{message}");
}
