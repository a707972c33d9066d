//! BAR0 as the guest sees it. No handler here waits or calls a backend.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use vgpu_mediator::backend::cuda;
use vgpu_mediator::budget::Budget;
use vgpu_mediator::ledger::Column;
use vgpu_mediator::{BackendChoice, Mediator, MediatorError, counters};
use vgpu_protocol::layout::Layout;
use vgpu_protocol::limits::MAX_ASSEMBLY_BYTES;
use vgpu_protocol::regs::{
    self, ABI_VERSION, Access, ChannelReg, DeviceStatus, MAGIC, Place, RESET_KEY, Reg,
    channel_offset,
};
use vgpu_protocol::window::Window;

use crate::channel::Channel;
use crate::config::Config;
use crate::isolation::process::Pool;
use crate::isolation::{Isolation, IsolationError, choice};
use crate::memory::SharedMemory;
use crate::worker;

/// What the device needs of the machine that it is plugged into.
pub trait Host: Send + Sync {
    /// Raises the interrupt of a channel. May be called by any thread.
    fn raise_irq(&self, channel: u32);
    /// No channel has an interrupt pending any more. Called by register handlers only.
    fn lower_irq(&self);
    /// Logs a mistake of the guest.
    fn guest_error(&self, message: &str);
    /// Tells the host's user what is wrong. The device says each such thing once.
    fn warn(&self, message: &str);
}

/// Why the device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The mediator cannot start.
    #[error(transparent)]
    Mediator(#[from] MediatorError),
    /// Sessions cannot have processes of their own.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// No doorbell or no thread for a channel.
    #[error("cannot make the device's channels: {0}")]
    Channels(#[source] io::Error),
    /// The memory given for BAR1 is not what the configuration says.
    #[error("BAR1 has {actual} bytes of memory instead of {wanted}")]
    Bar1 {
        /// Bytes given.
        actual: u64,
        /// Bytes configured.
        wanted: u64,
    },
}

/// A guest that makes mistakes in a loop must not fill the host's disk with log lines.
pub const MAX_LOGGED_GUEST_ERRORS: u32 = 64;

/// The device.
pub struct Device {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    // Last: workers use it until they are joined.
    _bar1: SharedMemory,
}

/// What register handlers and workers share.
pub(crate) struct Shared {
    pub vm_id: u32,
    pub layout: Layout,
    pub bar1: Window,
    pub executor: Executor,
    pub channels: Vec<Arc<Channel>>,
    /// Bytes held by half-received messages of all channels.
    pub assembly: Arc<Budget>,
    /// Worker processes that ended unasked.
    pub worker_deaths: AtomicU32,
    counters_file: Option<PathBuf>,
    host: Arc<dyn Host>,
    /// Channels with an interrupt pending. Held over raising and lowering, so that the line always
    /// shows what is here.
    irq_status: Mutex<u64>,
    scratch: AtomicU32,
    guest_errors: AtomicU32,
    mismatch_told: AtomicBool,
}

/// Who executes the calls of sessions.
#[derive(Debug)]
pub(crate) enum Executor {
    /// This process.
    Here(Arc<Mediator>),
    /// A process for each.
    Processes(Box<Pool>),
}

impl Executor {
    fn open(config: &Config, bar1: &SharedMemory) -> Result<Executor, DeviceError> {
        let here = || -> Result<Executor, DeviceError> {
            Ok(Executor::Here(Mediator::new(config.mediator.clone())?))
        };
        let choice = config.mediator.backend;
        if !choice::wants_process(config.isolation, choice, cuda::driver_is_here) {
            return here();
        }
        let forced = config.isolation == Isolation::Process;
        let program = match choice::program(config.worker.as_deref()) {
            Ok(program) => program,
            Err(error) if forced || config.worker.is_some() => return Err(error.into()),
            Err(reason) => {
                tracing::warn!(%reason, "isolation=auto: sessions are in this process");
                return here();
            }
        };
        let mut properties = config.properties.clone();
        if !forced && choice == BackendChoice::Auto {
            // Where it refuses, the software GPU needs no process.
            "cuda".clone_into(&mut properties.backend);
        }
        match Pool::start(program, &properties, bar1) {
            Ok(pool) => Ok(Executor::Processes(Box::new(pool))),
            Err(IsolationError::Refused(reason))
                if !forced && choice == BackendChoice::Auto && config.mediator.gpu.is_none() =>
            {
                tracing::info!(
                    reason,
                    "no GPU of the host is used: the software GPU computes"
                );
                let mut mediator = config.mediator.clone();
                mediator.backend = BackendChoice::Soft;
                Ok(Executor::Here(Mediator::new(mediator)?))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("vm_id", &self.shared.vm_id)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn new(
        config: Config,
        bar1: Window,
        executor: Executor,
        channels: Vec<Arc<Channel>>,
        host: Arc<dyn Host>,
    ) -> Shared {
        Shared {
            vm_id: config.mediator.vm_id,
            layout: config.layout,
            bar1,
            executor,
            channels,
            assembly: Budget::new(MAX_ASSEMBLY_BYTES),
            worker_deaths: AtomicU32::new(0),
            counters_file: config.mediator.counters_file,
            host,
            irq_status: Mutex::new(0),
            scratch: AtomicU32::new(0),
            guest_errors: AtomicU32::new(0),
            mismatch_told: AtomicBool::new(false),
        }
    }

    /// What a worker process has of the device.
    pub fn in_worker(
        config: Config,
        bar1: Window,
        mediator: Arc<Mediator>,
        host: Arc<dyn Host>,
        assembly: Column,
    ) -> Shared {
        Shared {
            assembly: Budget::shared(MAX_ASSEMBLY_BYTES, assembly),
            ..Shared::new(config, bar1, Executor::Here(mediator), Vec::new(), host)
        }
    }

    /// The mediator, where sessions are in this process.
    pub fn mediator(&self) -> Option<&Arc<Mediator>> {
        match &self.executor {
            Executor::Here(mediator) => Some(mediator),
            Executor::Processes(_) => None,
        }
    }

    /// A line in the counters file for a session that wrote none itself.
    pub fn record_death(&self, channel: u32, client: &str, pid: u32, how: &str) {
        if let Some(path) = &self.counters_file {
            let vm_id = self.vm_id;
            counters::record(
                path,
                &format!(
                    r#"{{"vm_id":{vm_id},"channel":{channel},"client":"{client}","pid":{pid},"calls":{{}},"worker":"{how}"}}"#
                ),
            );
        }
    }

    pub fn guest_error(&self, message: &str) {
        let count = self.guest_errors.fetch_add(1, Ordering::Relaxed);
        if count < MAX_LOGGED_GUEST_ERRORS {
            self.host.guest_error(message);
        } else if count == MAX_LOGGED_GUEST_ERRORS {
            self.host
                .guest_error("more guest errors of this device are not logged");
        }
    }

    /// A library of the guest is of another build. Said once: each of its programs would say so.
    fn tell_mismatch(&self, hash: u32) {
        if !self.mismatch_told.swap(true, Ordering::Relaxed) {
            self.host.warn(&format!(
                "vm_id={}: a library in the guest refuses this device, since their protocol hashes differ: it has \
                 ...{hash:08x}, the device {:#018x}. Use shims and QEMU of the same build",
                self.vm_id,
                vgpu_protocol::PROTOCOL_HASH
            ));
        }
    }

    fn irq_status(&self) -> MutexGuard<'_, u64> {
        self.irq_status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn raise_irq(&self, channel: u32) {
        let mut status = self.irq_status();
        *status |= 1 << (channel & 63);
        self.host.raise_irq(channel);
    }
}

impl Device {
    /// Makes a device over `bar1`, whose size must be the configured one.
    pub fn new(
        mut config: Config,
        bar1: SharedMemory,
        host: Arc<dyn Host>,
    ) -> Result<Device, DeviceError> {
        let layout = config.layout;
        if bar1.len() as u64 != layout.bar1_bytes {
            return Err(DeviceError::Bar1 {
                actual: bar1.len() as u64,
                wanted: layout.bar1_bytes,
            });
        }
        config.mediator.heap = bar1.heap(layout.heap(), None);
        let executor = Executor::open(&config, &bar1)?;
        let new_channel = |number| match &executor {
            Executor::Here(_) => Channel::new(number),
            Executor::Processes(pool) => {
                Channel::supervised(number, pool.ledger().interrupts(number))
            }
        };
        let channels: Result<Vec<_>, _> = (0..layout.channels)
            .map(|n| new_channel(n).map(Arc::new))
            .collect();
        let channels = channels.map_err(DeviceError::Channels)?;
        let shared = Shared::new(config, bar1.window(), executor, channels, host);
        let shared = Arc::new(shared);
        let mut device = Device {
            shared,
            workers: Vec::new(),
            _bar1: bar1,
        };
        for channel in &device.shared.channels {
            // On failure, dropping the device ends the workers made so far.
            let worker = worker::spawn(Arc::clone(&device.shared), Arc::clone(channel));
            device.workers.push(worker.map_err(DeviceError::Channels)?);
        }
        Ok(device)
    }

    /// Offset in BAR0 and eventfd of each doorbell.
    pub fn doorbells(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        let offset = |c: &Channel| channel_offset(c.number, ChannelReg::Doorbell);
        self.shared
            .channels
            .iter()
            .map(move |c| (offset(c), c.states.doorbell.as_fd()))
    }

    /// How often the worker of a channel has been woken: by doorbells, by work that ended, by time.
    pub fn wakeups(&self, number: u32) -> Option<u64> {
        let channel = self.shared.channels.get(number as usize)?;
        Some(channel.wakeups.load(Ordering::Relaxed))
    }

    /// `soft` or `cuda`.
    pub fn backend_name(&self) -> &'static str {
        match &self.shared.executor {
            Executor::Here(mediator) => mediator.backend_name(),
            Executor::Processes(pool) if pool.facts().soft => "soft",
            Executor::Processes(_) => "cuda",
        }
    }

    /// `none` or `process`.
    pub fn isolation(&self) -> &'static str {
        match self.shared.executor {
            Executor::Here(_) => "none",
            Executor::Processes(_) => "process",
        }
    }

    /// Worker processes that have ended without having been asked to.
    pub fn worker_deaths(&self) -> u32 {
        self.shared.worker_deaths.load(Ordering::Relaxed)
    }

    /// A read of BAR0. Only aligned accesses of 4 bytes reach a register; others read as 0.
    pub fn mmio_read(&self, offset: u64, size: u32) -> u64 {
        let place = regs::decode(offset);
        if size != 4 || !offset.is_multiple_of(4) {
            self.shared.guest_error(&format!(
                "read of {size} bytes at {offset:#x} of BAR0: allowed are aligned accesses of 4 bytes"
            ));
            return 0;
        }
        match place {
            Place::Control(reg) => u64::from(self.read_control(reg)),
            Place::Channel(number, reg) => match self.shared.channels.get(number as usize) {
                Some(channel) => u64::from(channel.read(reg)),
                None => 0,
            },
            // Drivers that look for other devices read here: no mistake.
            Place::Hole => 0,
        }
    }

    fn read_control(&self, reg: Reg) -> u32 {
        let hash = vgpu_protocol::PROTOCOL_HASH;
        let layout = &self.shared.layout;
        let irq = *self.shared.irq_status();
        match reg {
            Reg::NoChip | Reg::NoChip1 | Reg::DeviceReset | Reg::GuestHash => 0,
            Reg::Magic => MAGIC,
            Reg::AbiVersion => ABI_VERSION,
            Reg::HashLo => hash as u32,
            Reg::HashHi => (hash >> 32) as u32,
            Reg::VmId => self.shared.vm_id,
            Reg::Channels => layout.channels,
            Reg::Bar1SizeLo => layout.bar1_bytes as u32,
            Reg::Bar1SizeHi => (layout.bar1_bytes >> 32) as u32,
            Reg::Status => self.status().bits(),
            Reg::IrqStatusLo => irq as u32,
            Reg::IrqStatusHi => (irq >> 32) as u32,
            Reg::Scratch => self.shared.scratch.load(Ordering::Relaxed),
        }
    }

    fn status(&self) -> DeviceStatus {
        let soft = self.backend_name() == "soft";
        DeviceStatus::READY
            | if soft {
                DeviceStatus::SOFT
            } else {
                DeviceStatus::empty()
            }
    }

    /// A write to BAR0. Writes that mean nothing are logged and ignored.
    pub fn mmio_write(&self, offset: u64, size: u32, value: u64) {
        if size != 4 || !offset.is_multiple_of(4) {
            self.shared.guest_error(&format!(
                "write of {size} bytes at {offset:#x} of BAR0: allowed are aligned accesses of 4 bytes"
            ));
            return;
        }
        let value = value as u32;
        match regs::decode(offset) {
            Place::Control(reg) => self.write_control(reg, value),
            Place::Channel(number, reg) => self.write_channel(number, reg, value),
            Place::Hole => self.shared.guest_error(&format!(
                "write to {offset:#x} of BAR0, where no register is"
            )),
        }
    }

    fn write_control(&self, reg: Reg, value: u32) {
        match reg {
            Reg::Scratch => self.shared.scratch.store(value, Ordering::Relaxed),
            Reg::IrqStatusLo => self.clear_irq(u64::from(value)),
            Reg::IrqStatusHi => self.clear_irq(u64::from(value) << 32),
            Reg::DeviceReset if value == RESET_KEY => self.reset(),
            Reg::DeviceReset => self.shared.guest_error(&format!(
                "DEVICE_RESET: {value:#x} was written, the key is {RESET_KEY:#x}"
            )),
            Reg::GuestHash => self.shared.tell_mismatch(value),
            _ => {
                debug_assert_eq!(reg.access(), Access::Ro);
                self.shared
                    .guest_error(&format!("write to the read-only register {reg:?}"));
            }
        }
    }

    fn clear_irq(&self, bits: u64) {
        let mut status = self.shared.irq_status();
        *status &= !bits;
        if *status == 0 {
            self.shared.host.lower_irq();
        }
    }

    fn write_channel(&self, number: u32, reg: ChannelReg, value: u32) {
        let Some(channel) = self.shared.channels.get(number as usize) else {
            let count = self.shared.layout.channels;
            self.shared.guest_error(&format!(
                "write to channel {number}, the device has {count}"
            ));
            return;
        };
        let prepare = || self.clear_rings(number);
        if let Err(what) = channel.write(reg, value, prepare) {
            self.shared.guest_error(&what);
        }
    }

    /// Both rings start empty for a new owner.
    fn clear_rings(&self, number: u32) {
        let layout = &self.shared.layout;
        for (at, bytes) in layout.cleared() {
            let zeros = vec![0; bytes as usize];
            let cleared = self.shared.bar1.write(layout.area(number) + at, &zeros);
            debug_assert!(cleared.is_ok(), "the layout lies inside BAR1");
        }
    }

    /// Ends every session; each channel is free as soon as its worker has let go.
    pub fn reset(&self) {
        for channel in &self.shared.channels {
            channel.release();
        }
        self.shared.scratch.store(0, Ordering::Relaxed);
        self.clear_irq(u64::MAX);
    }

    /// Ends the session of one channel, as if its owner had released it.
    pub fn release_channel(&self, number: u32) {
        if let Some(channel) = self.shared.channels.get(number as usize) {
            channel.release();
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for channel in &self.shared.channels {
            channel.exit();
        }
        for worker in self.workers.drain(..) {
            // A worker that panicked has been reported by the panic hook.
            let _ = worker.join();
        }
    }
}
