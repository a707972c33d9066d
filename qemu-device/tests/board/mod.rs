//! The device in this process, plugged into a machine that remembers what was done to it.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

use vgpu_protocol::window::Window;
use vgpu_stub::{Config, Device, Host, Properties, SharedMemory};
use vgpu_test_harness::machine::VM_ID;
use vgpu_test_harness::{Machine, Spec};

/// A machine that remembers what the device did to it.
#[derive(Default)]
pub struct Board {
    pub raised: AtomicU64,
    pub lowered: AtomicU32,
    pub pin: AtomicBool,
    /// What happens elsewhere while the pin is being lowered.
    pub meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    pub errors: Mutex<Vec<String>>,
}

impl Host for Board {
    fn raise_irq(&self, channel: u32) {
        self.pin.store(true, Ordering::SeqCst);
        self.raised.fetch_or(1 << channel, Ordering::SeqCst);
    }
    fn lower_irq(&self) {
        self.lowered.fetch_add(1, Ordering::SeqCst);
        if let Some(meanwhile) = self.meanwhile.lock().expect("lock").take() {
            meanwhile();
        }
        self.pin.store(false, Ordering::SeqCst);
    }
    fn guest_error(&self, message: &str) {
        self.errors.lock().expect("lock").push(message.to_owned());
    }
    fn warn(&self, message: &str) {
        self.errors.lock().expect("lock").push(message.to_owned());
    }
}

/// The device; with `PROCESSES`, sessions have processes of their own.
pub struct Plugged<const PROCESSES: bool> {
    pub device: Device,
    bar1: Window,
    pub board: Arc<Board>,
    spec: Spec,
}

/// The properties of [`Plugged`].
pub fn properties(spec: Spec, processes: bool) -> Properties {
    Properties {
        vm_id: VM_ID,
        backend: "soft".to_owned(),
        bar1_size: spec.bar1_bytes,
        memory: spec.memory_bytes,
        channels: spec.channels,
        isolation: if processes { "process" } else { "none" }.to_owned(),
        worker: env!("CARGO_BIN_EXE_vgpu-worker").to_owned(),
        ..Properties::default()
    }
}

impl<const PROCESSES: bool> Plugged<PROCESSES> {
    /// Plugs a device with these properties in.
    pub fn with(spec: Spec, properties: &Properties) -> Plugged<PROCESSES> {
        let config = Config::from_properties(properties).expect("valid properties");
        Plugged::with_config(spec, config)
    }

    /// Plugs a device with this configuration in.
    pub fn with_config(spec: Spec, config: Config) -> Plugged<PROCESSES> {
        let memory = SharedMemory::new(spec.bar1_bytes).expect("memory");
        // Used no longer than `device`, which owns the memory.
        let bar1 = memory.window();
        let board = Arc::new(Board::default());
        let device =
            Device::new(config, memory, Arc::clone(&board) as Arc<dyn Host>).expect("device");
        Plugged {
            device,
            bar1,
            board,
            spec,
        }
    }
}

impl<const PROCESSES: bool> Machine for Plugged<PROCESSES> {
    const LONG_BYTES: usize = 300 << 20;

    fn start(spec: Spec) -> Plugged<PROCESSES> {
        Plugged::with(spec, &properties(spec, PROCESSES))
    }

    fn spec(&self) -> Spec {
        self.spec
    }
    fn bar0_read(&self, offset: u64, size: u32) -> u64 {
        self.device.mmio_read(offset, size)
    }
    fn bar0_write(&self, offset: u64, size: u32, value: u64) {
        self.device.mmio_write(offset, size, value);
    }
    fn bar1_read(&self, offset: u64, into: &mut [u8]) {
        self.bar1.read(offset, into).expect("inside BAR1");
    }
    fn bar1_write(&self, offset: u64, from: &[u8]) {
        self.bar1.write(offset, from).expect("inside BAR1");
    }
    fn load64(&self, offset: u64) -> u64 {
        self.bar1
            .word64(offset)
            .expect("inside BAR1")
            .load(Ordering::Acquire)
    }
    fn store64(&self, offset: u64, value: u64) {
        self.bar1
            .word64(offset)
            .expect("inside BAR1")
            .store(value, Ordering::Release);
    }
    fn load32(&self, offset: u64) -> u32 {
        self.bar1
            .word32(offset)
            .expect("inside BAR1")
            .load(Ordering::Acquire)
    }
    fn store32(&self, offset: u64, value: u32) {
        self.bar1
            .word32(offset)
            .expect("inside BAR1")
            .store(value, Ordering::Release);
    }
    fn take32(&self, offset: u64) -> bool {
        let word = self.bar1.word32(offset).expect("inside BAR1");
        word.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    fn logged(&self, text: &str) -> bool {
        self.board
            .errors
            .lock()
            .expect("lock")
            .iter()
            .any(|e| e.contains(text))
    }
    fn wakeups(&self, channel: u32) -> Option<u64> {
        // A worker in another process counts for itself.
        (!PROCESSES).then(|| self.device.wakeups(channel)).flatten()
    }
    fn enable_interrupts(&self) {}
    fn take_interrupt(&self, channel: u32) -> bool {
        let bit = 1u64 << channel;
        self.board.raised.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }
}
