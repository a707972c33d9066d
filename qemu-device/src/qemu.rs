//! The device as QEMU sees it: properties, identities, and the way to [`vgpu_ffi`].

use vgpu_ffi::{Identity, Kind, PciDevice, PropertySpec, RealizeContext};

/// Size of BAR 0.
const BAR0_SIZE: u64 = 512 << 10;

/// An H100 PCIe, as guest software looks for it.
const H100: Identity = Identity {
    vendor_id: 0x10de,
    device_id: 0x2331,
    class_id: 0x0302,
    revision: 0xa1,
    subsystem_vendor_id: 0x10de,
    subsystem_id: 0x1626,
};

/// An experimental id of QEMU's vendor space, "Unclassified device".
const STUB: Identity = Identity {
    vendor_id: 0x1234,
    device_id: 0x11e9,
    class_id: 0x00ff,
    revision: 0x01,
    subsystem_vendor_id: 0x1af4,
    subsystem_id: 0x1100,
};

struct QemuDevice {
    vm_id: u32,
}

impl PciDevice for QemuDevice {
    const TYPE_NAME: &'static std::ffi::CStr = c"vgpu-stub";
    const DESCRIPTION: &'static std::ffi::CStr = c"Virtual GPU that carries CUDA calls to the host";
    const PROPERTIES: &'static [PropertySpec] = &[
        PropertySpec {
            name: c"vm_id",
            kind: Kind::U32(0),
            help: c"Number of this VM, 1 to 4294967295; required",
        },
        PropertySpec {
            name: c"identity",
            kind: Kind::Str(c"h100"),
            help: c"PCI ids to show: h100 (10de:2331) or stub (1234:11e9); default h100",
        },
        PropertySpec {
            name: c"backend",
            kind: Kind::Str(c"auto"),
            help: c"Who computes: auto, cuda (the host's GPU) or soft (on the CPU); default auto",
        },
        PropertySpec {
            name: c"gpu",
            kind: Kind::Str(c""),
            help: c"Index or UUID of the host's GPU; default: the first one",
        },
        PropertySpec {
            name: c"bar1-size",
            kind: Kind::Size(256 << 20),
            help: c"Bytes of the data window, a power of two from 16M on",
        },
        PropertySpec {
            name: c"memory",
            kind: Kind::Size(0),
            help: c"Limit of device memory in bytes; 0: what the backend has",
        },
        PropertySpec {
            name: c"channels",
            kind: Kind::U32(32),
            help: c"Most guest processes that can use the device at once",
        },
    ];

    fn realize(ctx: &mut RealizeContext<'_>) -> Result<Self, String> {
        let vm_id = ctx.u32("vm_id")?;
        if vm_id == 0 {
            return Err("property 'vm_id' is missing: give a number from 1 to 4294967295".into());
        }
        let identity = match ctx.text("identity")?.as_str() {
            "h100" => H100,
            "stub" => STUB,
            other => {
                return Err(format!(
                    "property 'identity' is '{other}': allowed are h100 and stub"
                ));
            }
        };
        ctx.set_identity(&identity)?;
        ctx.init_bar0(BAR0_SIZE)?;
        let _bar1 = ctx.init_bar1(ctx.size("bar1-size")?)?;
        let _irq = ctx.init_interrupts(ctx.u32("channels")? as u16)?;
        ctx.refuse_migration("vgpu-stub: the state of a virtual GPU cannot be migrated or saved")?;
        Ok(QemuDevice { vm_id })
    }

    fn mmio_read(&self, offset: u64, size: u32) -> u64 {
        match (offset, size) {
            (0, 4) => u64::from(self.vm_id),
            _ => 0,
        }
    }

    fn mmio_write(&self, _offset: u64, _size: u32, _value: u64) {}

    fn reset(&self) {}

    fn unrealize(self) {}
}

vgpu_ffi::export_device!(QemuDevice);
