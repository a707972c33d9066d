//! A machine with the device, for the bodies of `vgpu-test-harness`.

use vgpu_test_harness::machine::VM_ID;
use vgpu_test_harness::{Machine, Spec};

use crate::pci::{Function, MSIX, config};
use crate::qemu::{Binary, Qemu, binary};

/// Where the test maps the BARs: nothing else lies there on either machine type.
pub const BAR0: u64 = 0xe000_0000;
/// See [`BAR0`].
pub const BAR1: u64 = 0xc000_0000;
/// The MSI-X table. See [`BAR0`].
pub const BAR3: u64 = 0xe010_0000;

/// Guest memory to which MSI-X messages are written, 4 bytes per vector.
const MESSAGES: u64 = 0x10_0000;

/// Data of a vector's message.
fn message(vector: u32) -> u32 {
    0xc0de_0000 | vector
}

/// The device's slot.
pub const SLOT: u8 = 5;

/// A QEMU with one device in slot 5, mapped and enabled.
#[derive(Debug)]
pub struct Board {
    /// The machine.
    pub qemu: Qemu,
    spec: Spec,
}

/// The device's properties as an argument of `-device`.
pub fn properties(spec: Spec) -> String {
    format!(
        "vgpu-stub,vm_id={VM_ID},backend=soft,channels={},bar1-size={},memory={}",
        spec.channels, spec.bar1_bytes, spec.memory_bytes
    )
}

impl Board {
    /// Starts a machine of this type.
    pub fn on(machine: &str, spec: Spec) -> Board {
        let binary = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
        Board::of(&binary, machine, spec, &properties(spec))
    }

    /// Starts this QEMU with these properties of the device, which `spec` must describe.
    pub fn of(binary: &Binary, machine: &str, spec: Spec, properties: &str) -> Board {
        let device = format!("{properties},addr={SLOT:#x}");
        let qemu = Qemu::start(binary, &["-machine", machine, "-device", &device]);
        let board = Board { qemu, spec };
        board.map();
        board
    }

    /// The device.
    pub fn function(&self) -> Function<'_> {
        Function {
            qemu: &self.qemu,
            bus: 0,
            slot: SLOT,
        }
    }

    /// Maps the BARs and enables the device, as firmware does after each reset of the machine.
    pub fn map(&self) {
        let function = self.function();
        function.map(0, BAR0);
        function.map(1, BAR1);
        function.map(3, BAR3);
        function.enable();
    }

    /// What is sent for a vector, and where to.
    pub fn set_message(&self, vector: u32, address: u64, data: u32) {
        let entry = BAR3 + 16 * u64::from(vector);
        self.qemu.write(entry, 4, address);
        self.qemu.write(entry + 4, 4, address >> 32);
        self.qemu.write(entry + 8, 4, data.into());
        self.qemu.write(entry + 12, 4, 0);
    }

    /// Enables MSI-X, with a message for each vector.
    pub fn enable_msix(&self) {
        let function = self.function();
        let capability = function.capability(MSIX).expect("MSI-X");
        for vector in 0..self.spec.channels {
            let address = MESSAGES + 4 * u64::from(vector);
            self.set_message(vector, address, message(vector));
        }
        function.write(capability, 1 << 31);
    }
}

impl Machine for Board {
    // Each byte is two characters on a socket.
    const LONG_BYTES: usize = 8 << 20;

    fn start(spec: Spec) -> Board {
        Board::on("pc", spec)
    }
    fn spec(&self) -> Spec {
        self.spec
    }
    fn held(&self) -> Option<(usize, usize)> {
        let count = |what: &str| {
            let entries = std::fs::read_dir(format!("/proc/{}/{what}", self.qemu.pid()));
            entries.expect("QEMU lives").count()
        };
        Some((count("task"), count("fd")))
    }
    fn show_bars(&self, shown: bool) {
        // Memory space enable; bus master stays.
        let bits = if shown { 0b110 } else { 0b100 };
        self.function().write(config::COMMAND, bits);
    }
    fn bar0_read(&self, offset: u64, size: u32) -> u64 {
        self.qemu.read(BAR0 + offset, size)
    }
    fn bar0_write(&self, offset: u64, size: u32, value: u64) {
        self.qemu.write(BAR0 + offset, size, value);
    }
    fn bar1_read(&self, offset: u64, into: &mut [u8]) {
        self.qemu.read_bytes(BAR1 + offset, into);
    }
    fn bar1_write(&self, offset: u64, from: &[u8]) {
        self.qemu.write_bytes(BAR1 + offset, from);
    }
    fn load64(&self, offset: u64) -> u64 {
        self.qemu.read(BAR1 + offset, 8)
    }
    fn store64(&self, offset: u64, value: u64) {
        self.qemu.write(BAR1 + offset, 8, value);
    }
    fn load32(&self, offset: u64) -> u32 {
        self.qemu.read(BAR1 + offset, 4) as u32
    }
    fn store32(&self, offset: u64, value: u32) {
        self.qemu.write(BAR1 + offset, 4, value.into());
    }
    fn take32(&self, offset: u64) -> bool {
        // Two accesses: the host may write 1 between them no more than a CPU's own exchange
        // would see, because it writes 1 only where it has seen 0 since.
        let set = self.load32(offset) == 1;
        if set {
            self.store32(offset, 0);
        }
        set
    }
    fn fence(&self) {
        // Each access is a round trip to another process.
    }
    fn logged(&self, text: &str) -> bool {
        self.qemu.log().contains(text) || self.qemu.stderr().contains(text)
    }
    fn enable_interrupts(&self) {
        self.enable_msix();
    }
    fn take_interrupt(&self, channel: u32) -> bool {
        let at = MESSAGES + 4 * u64::from(channel);
        let came = self.qemu.read(at, 4) as u32 == message(channel);
        if came {
            self.qemu.write(at, 4, 0);
        }
        came
    }
}
