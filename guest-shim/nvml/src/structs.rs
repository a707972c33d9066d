//! NVML's structs. The numbers below are compared with NVIDIA's headers by `tests/layout.c`, which
//! `cargo xtask test` compiles against them.

use std::ffi::c_char;
use std::mem::offset_of;

/// `NVML_STRUCT_VERSION`: the number that a caller puts into a struct of this type and version.
pub const fn version<T>(number: u32) -> u32 {
    size_of::<T>() as u32 | number << 24
}

macro_rules! structs {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $ty:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        #[allow(missing_docs, reason = "NVIDIA's fields")]
        pub struct $name { $(pub $field: $ty,)* }
    )*};
}

structs! {
    /// `nvmlPciInfo_t`, of nvmlDeviceGetPciInfo_v3.
    PciInfo {
        bus_id_legacy: [c_char; 16],
        domain: u32,
        bus: u32,
        device: u32,
        pci_device_id: u32,
        pci_subsystem_id: u32,
        bus_id: [c_char; 32],
    }
    /// Of nvmlDeviceGetPciInfo_v2 (drivers before 384).
    PciInfoV2 {
        bus_id: [c_char; 16],
        domain: u32,
        bus: u32,
        device: u32,
        pci_device_id: u32,
        pci_subsystem_id: u32,
        reserved: [u32; 4],
    }
    /// Of the first nvmlDeviceGetPciInfo.
    PciInfoV1 {
        bus_id: [c_char; 16],
        domain: u32,
        bus: u32,
        device: u32,
        pci_device_id: u32,
    }
    /// `nvmlPciInfoExt_v1_t`.
    PciInfoExt {
        version: u32,
        domain: u32,
        bus: u32,
        device: u32,
        pci_device_id: u32,
        pci_subsystem_id: u32,
        base_class: u32,
        sub_class: u32,
        bus_id: [c_char; 32],
    }
    /// `nvmlMemory_t`, in bytes.
    Memory {
        total: u64,
        free: u64,
        used: u64,
    }
    /// `nvmlMemory_v2_t`, in bytes.
    MemoryV2 {
        version: u32,
        total: u64,
        reserved: u64,
        free: u64,
        used: u64,
    }
    /// `nvmlBAR1Memory_t`, in bytes.
    Bar1Memory {
        total: u64,
        free: u64,
        used: u64,
    }
    /// `nvmlUtilization_t`, in percent.
    Utilization {
        gpu: u32,
        memory: u32,
    }
    /// `nvmlProcessInfo_v1_t`.
    ProcessInfoV1 {
        pid: u32,
        used_gpu_memory: u64,
    }
    /// `nvmlProcessInfo_v2_t`, of the calls _v2 and _v3.
    ProcessInfo {
        pid: u32,
        used_gpu_memory: u64,
        gpu_instance_id: u32,
        compute_instance_id: u32,
    }
    /// `nvmlTemperature_v1_t`.
    Temperature {
        version: u32,
        sensor: u32,
        temperature: i32,
    }
    /// `nvmlUUID_v1_t`.
    Uuid {
        version: u32,
        kind: u32,
        value: [u8; 41],
    }
}

const _: () = {
    assert!(size_of::<PciInfo>() == 68 && offset_of!(PciInfo, domain) == 16);
    assert!(offset_of!(PciInfo, pci_subsystem_id) == 32 && offset_of!(PciInfo, bus_id) == 36);
    assert!(size_of::<PciInfoExt>() == 64 && offset_of!(PciInfoExt, pci_device_id) == 16);
    assert!(offset_of!(PciInfoExt, base_class) == 24 && offset_of!(PciInfoExt, bus_id) == 32);
    assert!(size_of::<Memory>() == 24 && offset_of!(Memory, free) == 8);
    assert!(offset_of!(Memory, used) == 16);
    assert!(size_of::<MemoryV2>() == 40 && offset_of!(MemoryV2, total) == 8);
    assert!(offset_of!(MemoryV2, reserved) == 16 && offset_of!(MemoryV2, free) == 24);
    assert!(offset_of!(MemoryV2, used) == 32 && version::<MemoryV2>(2) == 40 | 2 << 24);
    assert!(size_of::<Bar1Memory>() == 24 && offset_of!(Bar1Memory, free) == 8);
    assert!(offset_of!(Bar1Memory, used) == 16);
    assert!(size_of::<Utilization>() == 8 && offset_of!(Utilization, memory) == 4);
    assert!(size_of::<ProcessInfoV1>() == 16 && offset_of!(ProcessInfoV1, used_gpu_memory) == 8);
    assert!(size_of::<ProcessInfo>() == 24 && offset_of!(ProcessInfo, used_gpu_memory) == 8);
    assert!(offset_of!(ProcessInfo, gpu_instance_id) == 16);
    assert!(offset_of!(ProcessInfo, compute_instance_id) == 20);
    assert!(size_of::<Temperature>() == 12 && offset_of!(Temperature, temperature) == 8);
    assert!(size_of::<Uuid>() == 52 && offset_of!(Uuid, value) == 8);
};
