//! What a device is.

use std::ffi::c_char;

use vgpu_protocol::calls::stubs;
use vgpu_protocol::nvml::{NvmlField, NvmlText};

use crate::abi::{Handle, Out, exports};
use crate::pci::array;
use crate::result::{Done, Return, of_status};
use crate::state::{self, Device, NO_CTX};
use crate::structs::{PciInfo, PciInfoExt, PciInfoV1, PciInfoV2, version};

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`, `_MINOR` and `_GLOBAL_MEMORY_BUS_WIDTH`.
const MAJOR: i32 = 75;
const MINOR: i32 = 76;
const BUS_WIDTH: i32 = 37;

fn text(field: NvmlText) -> Done<String> {
    stubs::nvml_text(state::library()?, NO_CTX, field as u32).map_err(of_status)
}

/// The device's serial number.
pub fn serial(_: &Device) -> Done<String> {
    text(NvmlText::Serial)
}

/// `nvmlDeviceArchitecture_t` of a compute capability.
fn architecture(major: i32, minor: i32) -> u32 {
    const UNKNOWN: u32 = u32::MAX;
    match (major, minor) {
        (5, _) => 3,
        (6, _) => 4,
        (7, 0..=4) => 5,
        (7, _) => 6,
        (8, 9) => 8,
        (8, _) => 7,
        (9, _) => 9,
        (10.., _) => 10,
        _ => UNKNOWN,
    }
}

exports! {
    /// The device's name.
    fn nvmlDeviceGetName(device: Handle, name: Out<c_char>, length: u32) {
        name.set_text(&state::device(device)?.info.name, length)
    }

    /// The product line (`nvmlBrandType_t`).
    fn nvmlDeviceGetBrand(device: Handle, brand: Out<u32>) {
        let device = state::device(device)?;
        brand.check()?;
        brand.set(device.short(NvmlField::Brand)?)
    }

    /// The board's serial number.
    fn nvmlDeviceGetSerial(device: Handle, out: Out<c_char>, length: u32) {
        let device = state::device(device)?;
        out.check()?;
        out.set_text(&serial(device)?, length)
    }

    /// The version of the GPU's BIOS.
    fn nvmlDeviceGetVbiosVersion(device: Handle, out: Out<c_char>, length: u32) {
        state::device(device)?;
        out.check()?;
        out.set_text(&text(NvmlText::VbiosVersion)?, length)
    }

    /// The board's part number.
    fn nvmlDeviceGetBoardPartNumber(device: Handle, out: Out<c_char>, length: u32) {
        state::device(device)?;
        out.check()?;
        out.set_text(&text(NvmlText::BoardPartNumber)?, length)
    }

    /// A number that GPUs of one board share.
    fn nvmlDeviceGetBoardId(device: Handle, id: Out<u32>) {
        let device = state::device(device)?;
        id.check()?;
        let of_bus = device.pci.domain << 16 | device.pci.bus << 8 | device.pci.device;
        match device.short(NvmlField::BoardId) {
            // In the guest each device is a board of its own.
            Err(Return::NotSupported) => id.set(of_bus),
            other => id.set(other?),
        }
    }

    /// Whether the board has several GPUs: not in the guest.
    fn nvmlDeviceGetMultiGpuBoard(device: Handle, several: Out<u32>) {
        state::device(device)?;
        several.set(0)
    }

    /// The compute capability.
    fn nvmlDeviceGetCudaComputeCapability(device: Handle, major: Out<i32>, minor: Out<i32>) {
        let device = state::device(device)?;
        major.check()?;
        minor.check()?;
        major.set(device.attribute(MAJOR).ok_or(Return::Unknown)?)?;
        minor.set(device.attribute(MINOR).ok_or(Return::Unknown)?)
    }

    /// The architecture, by the compute capability.
    fn nvmlDeviceGetArchitecture(device: Handle, out: Out<u32>) {
        let device = state::device(device)?;
        let (major, minor) = (device.attribute(MAJOR), device.attribute(MINOR));
        out.set(architecture(major.unwrap_or(0), minor.unwrap_or(0)))
    }

    /// The width of the memory's bus, in bits.
    fn nvmlDeviceGetMemoryBusWidth(device: Handle, bits: Out<u32>) {
        let width = state::device(device)?.attribute(BUS_WIDTH);
        bits.check()?;
        bits.set(width.filter(|w| *w > 0).ok_or(Return::NotSupported)? as u32)
    }

    /// The number of CUDA cores.
    fn nvmlDeviceGetNumGpuCores(device: Handle, cores: Out<u32>) {
        let device = state::device(device)?;
        cores.check()?;
        cores.set(device.short(NvmlField::GpuCores)?)
    }

    /// Place and ids on the guest's PCI bus.
    fn nvmlDeviceGetPciInfo_v3(device: Handle, out: Out<PciInfo>) {
        let pci = &state::device(device)?.pci;
        out.set(PciInfo {
            bus_id_legacy: array(&pci.legacy_bus_id()),
            domain: pci.domain,
            bus: pci.bus,
            device: pci.device,
            pci_device_id: pci.id,
            pci_subsystem_id: pci.subsystem,
            bus_id: array(&pci.bus_id()),
        })
    }

    /// The same as drivers before 384 gave it.
    fn nvmlDeviceGetPciInfo_v2(device: Handle, out: Out<PciInfoV2>) {
        let pci = &state::device(device)?.pci;
        out.set(PciInfoV2 {
            bus_id: array(&pci.legacy_bus_id()),
            domain: pci.domain,
            bus: pci.bus,
            device: pci.device,
            pci_device_id: pci.id,
            pci_subsystem_id: pci.subsystem,
            reserved: [0; 4],
        })
    }

    /// The same in its first form.
    fn nvmlDeviceGetPciInfo(device: Handle, out: Out<PciInfoV1>) {
        let pci = &state::device(device)?.pci;
        out.set(PciInfoV1 {
            bus_id: array(&pci.legacy_bus_id()),
            domain: pci.domain,
            bus: pci.bus,
            device: pci.device,
            pci_device_id: pci.id,
        })
    }

    /// The same with the device's class.
    fn nvmlDeviceGetPciInfoExt(device: Handle, out: Out<PciInfoExt>) {
        let pci = &state::device(device)?.pci;
        if out.version().get()? != version::<PciInfoExt>(1) {
            return Err(Return::ArgumentVersionMismatch);
        }
        out.set(PciInfoExt {
            version: version::<PciInfoExt>(1),
            domain: pci.domain,
            bus: pci.bus,
            device: pci.device,
            pci_device_id: pci.id,
            pci_subsystem_id: pci.subsystem,
            base_class: pci.base_class,
            sub_class: pci.sub_class,
            bus_id: array(&pci.bus_id()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_those_of_nvml_h() {
        for (capability, expected) in [
            ((6, 1), 4),
            ((7, 0), 5),
            ((7, 5), 6),
            ((8, 0), 7),
            ((8, 9), 8),
            ((9, 0), 9),
            ((10, 0), 10),
            ((3, 5), u32::MAX),
        ] {
            assert_eq!(
                architecture(capability.0, capability.1),
                expected,
                "{capability:?}"
            );
        }
    }
}
