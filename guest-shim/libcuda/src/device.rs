//! Devices: all that never changes about them is known since cuInit.

use std::collections::HashMap;
use std::ffi::c_char;

use cudarc::driver::sys;
use vgpu_protocol::Status;
use vgpu_protocol::calls::DeviceInfo;
use vgpu_transport::bars::PciAddress;

use crate::abi::{Done, INVALID, Out, Text, exports};
use crate::init::{Driver, driver};
use sys::CUdevice_attribute_enum as Attr;

/// A device of the host.
#[derive(Debug)]
pub struct Device {
    info: DeviceInfo,
    attributes: HashMap<i32, i32>,
    /// Most blocks of a grid and most threads of a block, x y z, and of a block in all: each launch
    /// looks at them.
    launch_limits: [u32; 7],
}

/// The attributes of [`Device::launch_limits`].
const LAUNCH_LIMITS: [Attr; 7] = [
    Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
    Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
    Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
    Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
    Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
    Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
    Attr::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
];

impl Device {
    /// A device that the guest sees at `address` of its own PCI bus.
    pub fn new(info: DeviceInfo, address: Option<PciAddress>) -> Device {
        let mut attributes: HashMap<i32, i32> = info.attributes.iter().copied().collect();
        if let Some(a) = address {
            attributes.extend([
                (
                    Attr::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID as i32,
                    a.domain as i32,
                ),
                (Attr::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID as i32, a.bus.into()),
                (
                    Attr::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID as i32,
                    a.device.into(),
                ),
            ]);
        }
        let limit = |a: Attr| {
            let known = attributes.get(&(a as i32));
            known
                .and_then(|v| u32::try_from(*v).ok())
                .unwrap_or(u32::MAX)
        };
        let launch_limits = LAUNCH_LIMITS.map(limit);
        Device {
            info,
            attributes,
            launch_limits,
        }
    }

    /// Most blocks of a grid and most threads of a block, x y z, and most threads of a block in all.
    pub fn launch_limits(&self) -> &[u32; 7] {
        &self.launch_limits
    }

    /// An attribute, where the host's driver knows it.
    pub fn attribute(&self, attribute: Attr) -> Option<i32> {
        self.attributes.get(&(attribute as i32)).copied()
    }

    /// Least and greatest stream priority.
    pub fn priorities(&self) -> (i32, i32) {
        self.info.priorities
    }

    fn get(&self, attribute: Attr) -> i32 {
        self.attribute(attribute).unwrap_or(0)
    }

    fn pci_bus_id(&self) -> String {
        format!(
            "{:04x}:{:02x}:{:02x}.0",
            self.get(Attr::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID),
            self.get(Attr::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID),
            self.get(Attr::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)
        )
    }
}

impl Driver {
    /// The device with this number.
    pub fn device(&self, device: sys::CUdevice) -> Done<&Device> {
        usize::try_from(device)
            .ok()
            .and_then(|d| self.devices.get(d))
            .ok_or(Status::ERROR_INVALID_DEVICE)
    }
}

fn uuid(out: Out<sys::CUuuid>, device: sys::CUdevice) -> Done {
    let bytes = driver()?.device(device)?.info.uuid;
    out.set(sys::CUuuid_st {
        bytes: bytes.map(|b| b as c_char),
    })
}

exports! {
    /// A device by its ordinal.
    fn cuDeviceGet(device: Out<sys::CUdevice>, ordinal: i32) {
        let driver = driver()?;
        device.check()?;
        driver.device(ordinal)?;
        device.set(ordinal)
    }

    /// The number of devices.
    fn cuDeviceGetCount(count: Out<i32>) {
        let driver = driver()?;
        count.set(driver.devices.len() as i32)
    }

    /// The name of a device.
    fn cuDeviceGetName(name: Out<c_char>, len: i32, device: sys::CUdevice) {
        let driver = driver()?;
        name.check()?;
        name.set_text(&driver.device(device)?.info.name, len)
    }

    /// The UUID of a device.
    fn cuDeviceGetUuid(out: Out<sys::CUuuid>, device: sys::CUdevice) {
        uuid(out, device)
    }

    /// The UUID of a device, or of its MIG instance; there is none of the latter.
    fn cuDeviceGetUuid_v2(out: Out<sys::CUuuid>, device: sys::CUdevice) {
        uuid(out, device)
    }

    /// The device's memory, in bytes.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: sys::CUdevice) {
        let driver = driver()?;
        bytes.check()?;
        bytes.set(driver.device(device)?.info.total_bytes as usize)
    }

    /// An attribute of a device.
    fn cuDeviceGetAttribute(value: Out<i32>, attribute: i32, device: sys::CUdevice) {
        let driver = driver()?;
        value.check()?;
        let attributes = &driver.device(device)?.attributes;
        value.set(*attributes.get(&attribute).ok_or(INVALID)?)
    }

    /// Compute capability (deprecated by NVIDIA).
    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: sys::CUdevice) {
        let driver = driver()?;
        major.check()?;
        minor.check()?;
        let device = driver.device(device)?;
        major.set(device.get(Attr::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR))?;
        minor.set(device.get(Attr::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR))
    }

    /// Properties (deprecated by NVIDIA).
    fn cuDeviceGetProperties(properties: Out<sys::CUdevprop>, device: sys::CUdevice) {
        let driver = driver()?;
        let device = driver.device(device)?;
        let of = |attributes: [Attr; 3]| attributes.map(|a| device.get(a));
        properties.set(sys::CUdevprop_st {
            maxThreadsPerBlock: device.get(Attr::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
            maxThreadsDim: of([
                Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
                Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
                Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
            ]),
            maxGridSize: of([
                Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
                Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
                Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
            ]),
            sharedMemPerBlock: device.get(Attr::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK),
            totalConstantMemory: device.get(Attr::CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY),
            SIMDWidth: device.get(Attr::CU_DEVICE_ATTRIBUTE_WARP_SIZE),
            memPitch: device.get(Attr::CU_DEVICE_ATTRIBUTE_MAX_PITCH),
            regsPerBlock: device.get(Attr::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK),
            clockRate: device.get(Attr::CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
            textureAlign: device.get(Attr::CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT),
        })
    }

    /// The device's place on the guest's PCI bus, `0000:00:05.0`.
    fn cuDeviceGetPCIBusId(text: Out<c_char>, len: i32, device: sys::CUdevice) {
        let driver = driver()?;
        text.check()?;
        let id = driver.device(device)?.pci_bus_id();
        // "len … at least 13": a cut address would name another device.
        if usize::try_from(len).is_ok_and(|l| l > id.len()) {
            text.set_text(&id, len)
        } else {
            Err(INVALID)
        }
    }

    /// The device at a place on the guest's PCI bus.
    fn cuDeviceGetByPCIBusId(device: Out<sys::CUdevice>, text: Text) {
        let driver = driver()?;
        device.check()?;
        let text = text.str()?;
        // The function may be left out.
        let wanted = PciAddress::parse(text)
            .or_else(|| PciAddress::parse(&format!("{text}.0")))
            .ok_or(INVALID)?
            .to_string();
        let found = driver.devices.iter().position(|d| d.pci_bus_id() == wanted);
        device.set(found.ok_or(Status::ERROR_INVALID_DEVICE)? as sys::CUdevice)
    }

    /// Whether one device can use another's memory: with one device per VM, never.
    fn cuDeviceCanAccessPeer(can: Out<i32>, device: sys::CUdevice, peer: sys::CUdevice) {
        let driver = driver()?;
        can.check()?;
        driver.device(device)?;
        driver.device(peer)?;
        can.set(0)
    }
}
