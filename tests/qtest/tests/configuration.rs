//! What the properties make of the device, and what they may not be.

use vgpu_protocol::regs::{BAR0_BYTES, MAGIC, Reg};
use vgpu_qtest::board::{BAR0, SLOT, properties};
use vgpu_qtest::pci::{self, Function, MSIX, config};
use vgpu_qtest::{Board, Qemu, binary};
use vgpu_test_harness::{Machine, Spec};

fn start(machine: &str, more: &str) -> Qemu {
    let device = format!("vgpu-stub,vm_id=111,backend=soft,addr={SLOT:#x}{more}");
    let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    Qemu::start(&binary, &["-machine", machine, "-device", &device])
}

/// The same on both machine types: ids, class with revision, subsystem.
fn check_identity(more: &str, ids: u32, class: u32, subsystem: u32) {
    for machine in ["pc", "q35"] {
        let qemu = start(machine, more);
        let f = Function {
            qemu: &qemu,
            bus: 0,
            slot: SLOT,
        };
        assert_eq!(f.read(config::IDS), ids, "{machine}: device and vendor");
        assert_eq!(
            f.read(config::CLASS),
            class,
            "{machine}: class and revision"
        );
        assert_eq!(f.read(config::SUBSYSTEM), subsystem, "{machine}: subsystem");
        assert_eq!(f.read(config::INTERRUPT) >> 8 & 0xff, 1, "{machine}: pin A");
        // 32-bit memory; 64-bit prefetchable memory.
        assert_eq!(f.bar(0), (0b0000, BAR0_BYTES), "{machine}");
        assert_eq!(f.bar(1), (0b1100, 256 << 20), "{machine}");
        let msix = f.capability(MSIX).expect("MSI-X");
        let vectors = (f.read(msix) >> 16 & 0x7ff) + 1;
        assert_eq!(vectors, 32, "{machine}: one vector per channel");
        assert_eq!(
            f.read(msix + 4) & 7,
            3,
            "{machine}: the table lies in BAR 3"
        );
        assert!(f.bar(3).1 > 0, "{machine}");
        for unused in [4, 5] {
            assert_eq!(f.bar(unused).1, 0, "{machine}: BAR {unused}");
        }
        assert_eq!(f.capability(pci::EXPRESS).is_some(), machine == "q35");
        f.map(0, BAR0);
        f.enable();
        assert_eq!(qemu.read(BAR0 + Reg::Magic.offset(), 4) as u32, MAGIC);
        // Nothing that a driver of NVIDIA's hardware knows.
        assert_eq!(qemu.read(BAR0, 4), 0);
    }
}

pub fn h100_identity() {
    check_identity("", 0x2331_10de, 0x0302_00a1, 0x1626_10de);
    check_identity(",identity=h100", 0x2331_10de, 0x0302_00a1, 0x1626_10de);
}

pub fn stub_identity() {
    check_identity(",identity=stub", 0x11e9_1234, 0x00ff_0001, 0x11e9_1234);
}

pub fn bar1_has_the_size_that_was_asked_for() {
    for (text, bytes) in [("16M", 16u64 << 20), ("64M", 64 << 20), ("1G", 1 << 30)] {
        let qemu = start("q35", &format!(",bar1-size={text}"));
        let f = Function {
            qemu: &qemu,
            bus: 0,
            slot: SLOT,
        };
        assert_eq!(f.bar(1), (0b1100, bytes));
        f.map(0, BAR0);
        f.enable();
        let low = qemu.read(BAR0 + Reg::Bar1SizeLo.offset(), 4);
        let high = qemu.read(BAR0 + Reg::Bar1SizeHi.offset(), 4);
        assert_eq!(high << 32 | low, bytes);
        // Anywhere in 64 bits.
        let above = 0x10_0000_0000;
        f.map(1, above);
        qemu.write(above + bytes - 8, 8, 0x1234);
        assert_eq!(qemu.read(above + bytes - 8, 8), 0x1234);
    }
    // BAR1 is memory: what is written is read, over its whole length.
    let board = Board::start(Spec::default());
    let end = board.spec().bar1_bytes - 8;
    for at in [end, board.layout().heap(), board.layout().area(3)] {
        board.store64(at, 0x0123_4567_89ab_cdef);
        assert_eq!(board.load64(at), 0x0123_4567_89ab_cdef);
        assert_eq!(board.qemu.read(vgpu_qtest::board::BAR1 + at + 3, 2), 0x6789);
    }
}

pub fn help_tells_every_property() {
    let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    let (status, text) = binary.run(&["-device", "vgpu-stub,help"]);
    assert!(status.success(), "{text}");
    let described = [
        ("vm_id", "4294967295"),
        ("identity", "h100"),
        ("backend", "soft"),
        ("gpu", "UUID"),
        ("bar1-size", "power of two"),
        ("memory", "bytes"),
        ("channels", "64"),
    ];
    for (property, about) in described {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{property}=")));
        let line = line.unwrap_or_else(|| panic!("no {property} in\n{text}"));
        assert!(line.contains(about), "{line}");
    }
}

pub fn bad_values_are_refused_by_name() {
    let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    let good = "vm_id=111,backend=soft";
    // What is written, and what the message must name: the property, the value, what is allowed.
    let cases: [(String, [&str; 3]); 17] = [
        ("backend=soft".into(), ["vm_id", "required", "4294967295"]),
        (
            "vm_id=0,backend=soft".into(),
            ["vm_id", "required", "4294967295"],
        ),
        ("vm_id=4294967296,backend=soft".into(), ["vm_id", "", ""]),
        ("vm_id=-1,backend=soft".into(), ["vm_id", "", ""]),
        ("vm_id=many,backend=soft".into(), ["vm_id", "", ""]),
        (
            format!("{good},identity=a100"),
            ["identity", "a100", "stub"],
        ),
        ("vm_id=111,backend=gpu".into(), ["backend", "gpu", "soft"]),
        (format!("{good},gpu=0"), ["gpu", "0", "backend=soft"]),
        (
            format!("{good},bar1-size=17M"),
            ["bar1-size", "17825792", "16M"],
        ),
        (
            format!("{good},bar1-size=8M"),
            ["bar1-size", "8388608", "16M"],
        ),
        (
            format!("{good},bar1-size=128G"),
            ["bar1-size", "137438953472", "64G"],
        ),
        (
            format!("{good},bar1-size=0"),
            ["bar1-size", "0 bytes", "16M"],
        ),
        (format!("{good},channels=0"), ["channels", "0", "1 to 64"]),
        (format!("{good},channels=65"), ["channels", "65", "64"]),
        (
            format!("{good},memory=1T"),
            ["memory", "1099511627776", "allowed"],
        ),
        (format!("{good},memory=4K"), ["memory", "4096", "1 MiB"]),
        (format!("{good},speed=9"), ["speed", "", ""]),
    ];
    for (text, parts) in cases {
        let device = format!("vgpu-stub,{text}");
        let outcome = Qemu::try_start(&binary, &["-machine", "q35", "-device", &device]);
        let message = outcome
            .err()
            .unwrap_or_else(|| panic!("{text} was accepted"));
        for part in parts {
            assert!(message.contains(part), "{text}: no {part:?} in: {message}");
        }
        let (status, _) = binary.run(&[
            "-display",
            "none",
            "-nodefaults",
            "-accel",
            "qtest",
            "-device",
            &device,
        ]);
        assert!(!status.success(), "{text}");
    }
}

pub fn values_at_their_limits() {
    let vm_id = |qemu: &Qemu| {
        let f = Function {
            qemu,
            bus: 0,
            slot: SLOT,
        };
        f.map(0, BAR0);
        f.enable();
        let word = |reg: Reg| qemu.read(BAR0 + reg.offset(), 4) as u32;
        (word(Reg::VmId), word(Reg::Channels))
    };
    let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    for (id, channels) in [(1, 1), (u32::MAX, 64)] {
        let device =
            format!("vgpu-stub,vm_id={id},backend=soft,channels={channels},addr={SLOT:#x}");
        let qemu = Qemu::start(&binary, &["-machine", "q35", "-device", &device]);
        assert_eq!(vm_id(&qemu), (id, channels));
    }
    // `properties` is what every other test starts with.
    assert!(properties(Spec::default()).contains("vm_id=111"));
}
