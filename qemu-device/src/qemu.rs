//! The device in QEMU: its properties, its PCI side, and the log.

mod trace;

use std::ffi::CStr;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use vgpu_ffi::{Identity, Irq, Kind, PciDevice, PropertySpec, RealizeContext, log};
use vgpu_protocol::limits::{DEFAULT_BAR1_BYTES, DEFAULT_CHANNELS};
use vgpu_protocol::regs::BAR0_BYTES;

use crate::{Config, Device, Host, Properties, SharedMemory};

/// One `-device vgpu-stub`.
struct QemuDevice(Device);

impl PciDevice for QemuDevice {
    const TYPE_NAME: &'static CStr = c"vgpu-stub";
    const DESCRIPTION: &'static CStr = c"Virtual GPU that computes for the guest's CUDA programs";
    const PROPERTIES: &'static [PropertySpec] = &[
        PropertySpec {
            name: c"vm_id",
            kind: Kind::U32(0),
            help: c"Number of this VM, 1 to 4294967295; required",
        },
        PropertySpec {
            name: c"identity",
            kind: Kind::Str(c"h100"),
            help: c"PCI ids: h100 (10de:2331, 3D controller) or stub (1234:11e9, unclassified) (default: h100)",
        },
        PropertySpec {
            name: c"backend",
            kind: Kind::Str(c"auto"),
            help: c"Who computes: cuda (the host's GPU), soft (the host's CPU) or auto (cuda where there is a GPU) (default: auto)",
        },
        PropertySpec {
            name: c"gpu",
            kind: Kind::Str(c""),
            help: c"Index or UUID of the host's GPU (default: the first one)",
        },
        PropertySpec {
            name: c"bar1-size",
            kind: Kind::Size(DEFAULT_BAR1_BYTES),
            help: c"Bytes of the data window, a power of two from 16M to 64G",
        },
        PropertySpec {
            name: c"memory",
            kind: Kind::Size(0),
            help: c"Limit of device memory in bytes, 0 for what the backend has",
        },
        PropertySpec {
            name: c"channels",
            kind: Kind::U32(DEFAULT_CHANNELS),
            help: c"Guest processes that can use the device at once, 1 to 64",
        },
        PropertySpec {
            name: c"isolation",
            kind: Kind::Str(c"auto"),
            help: c"Where sessions of guest processes are: process (each in a process of its own), none (in QEMU) or auto (process with backend=cuda, where it can be had) (default: auto)",
        },
        PropertySpec {
            name: c"worker",
            kind: Kind::Str(c""),
            help: c"Path of the program vgpu-worker, which isolation=process needs (default: beside QEMU, or in its libexec folder)",
        },
    ];

    fn realize(ctx: &mut RealizeContext<'_>) -> Result<Self, String> {
        trace::init();
        let properties = Properties {
            vm_id: ctx.u32("vm_id")?,
            identity: ctx.text("identity")?,
            backend: ctx.text("backend")?,
            gpu: ctx.text("gpu")?,
            bar1_size: ctx.size("bar1-size")?,
            memory: ctx.size("memory")?,
            channels: ctx.u32("channels")?,
            isolation: ctx.text("isolation")?,
            worker: ctx.text("worker")?,
        };
        let config = Config::from_properties(&properties).map_err(|e| e.to_string())?;
        let ids = config.identity.pci_ids();
        ctx.set_identity(&Identity {
            vendor_id: ids.vendor,
            device_id: ids.device,
            class: ids.class,
            revision: ids.revision,
            subsystem_vendor_id: ids.subsystem_vendor,
            subsystem_id: ids.subsystem,
        })?;
        ctx.refuse_migration(
            "vgpu-stub: the state of a virtual GPU can be neither migrated nor saved",
        )?;
        let size = config.layout.bar1_bytes;
        let bar1 = SharedMemory::new(size)
            .map_err(|e| format!("no memory for BAR1 of {size} bytes: {e}"))?;
        ctx.init_bar0(BAR0_BYTES)?;
        ctx.init_bar1(size, bar1.fd().as_fd())?;
        // One vector per channel; `Config` has bounded their number.
        let vectors = u16::try_from(config.layout.channels)
            .map_err(|_| format!("property 'channels' is {}", config.layout.channels))?;
        let irq = ctx.init_interrupts(vectors)?;
        let device =
            Device::new(config, bar1, Arc::new(QemuHost(irq))).map_err(|e| e.to_string())?;
        for (offset, doorbell) in device.doorbells() {
            ctx.add_doorbell(offset, doorbell)?;
        }
        Ok(QemuDevice(device))
    }

    fn mmio_read(&self, offset: u64, size: u32) -> u64 {
        self.0.mmio_read(offset, size)
    }

    fn mmio_write(&self, offset: u64, size: u32, value: u64) {
        self.0.mmio_write(offset, size, value);
    }

    fn reset(&self) {
        self.0.reset();
    }

    fn unrealize(self) {
        // Joins the workers.
        drop(self.0);
    }
}

/// The machine around the device.
struct QemuHost(Irq);

impl Host for QemuHost {
    fn raise_irq(&self, channel: u32) {
        self.0.raise(channel);
    }

    fn lower_irq(&self) {
        self.0.lower();
    }

    fn guest_error(&self, message: &str) {
        log::guest_error(message);
    }

    fn warn(&self, message: &str) {
        log::warn_report(&format!("vgpu-stub: {message}"));
    }
}

vgpu_ffi::export_device!(QemuDevice);
