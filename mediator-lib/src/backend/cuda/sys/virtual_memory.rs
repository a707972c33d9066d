//! Reserved addresses, physical memory, and mappings of it. They belong to the process, not to a
//! context; each is undone when its value is dropped.

use std::ffi::c_ulonglong;
use std::sync::Arc;

use cudarc::driver::sys;
use vgpu_protocol::Status;
use vgpu_protocol::ranges::Permission;

use super::memory::size;
use super::{Device, Driver, check, need};

/// No flags: all are reserved.
const NO_FLAGS: c_ulonglong = 0;

/// What is asked of physical memory: memory of the device that is not shared with other processes.
fn properties(device: Device) -> sys::CUmemAllocationProp {
    sys::CUmemAllocationProp {
        type_: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: sys::CUmemAllocationHandleType_enum(0),
        location: location(device),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: sys::CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    }
}

/// The device as a place of memory.
pub fn location(device: Device) -> sys::CUmemLocation {
    sys::CUmemLocation {
        type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
        id: device.0,
    }
}

/// `cuMemGetAllocationGranularity`, in bytes: least, or recommended.
pub fn granularity(driver: &Driver, device: Device, recommended: bool) -> Result<u64, Status> {
    let f = need(driver.functions.cuMemGetAllocationGranularity)?;
    let mut bytes = 0;
    // SAFETY: reads one struct, writes one number.
    check(unsafe { f(&mut bytes, &properties(device), recommended.into()) })?;
    Ok(bytes as u64)
}

/// Reserved addresses.
#[derive(Debug)]
pub struct Reservation {
    driver: Arc<Driver>,
    address: u64,
    bytes: u64,
}

impl Reservation {
    /// `cuMemAddressReserve`.
    pub fn new(
        driver: &Arc<Driver>,
        bytes: u64,
        align: u64,
        hint: u64,
    ) -> Result<Reservation, Status> {
        let f = need(driver.functions.cuMemAddressReserve)?;
        need(driver.functions.cuMemAddressFree)?;
        let mut address = 0;
        // SAFETY: writes one number.
        check(unsafe { f(&mut address, size(bytes)?, size(align)?, hint, NO_FLAGS) })?;
        Ok(Reservation {
            driver: Arc::clone(driver),
            address,
            bytes,
        })
    }

    /// The first address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(f) = self.driver.functions.cuMemAddressFree {
            // SAFETY: reserved by `new`, freed once; mappings in it are dropped before.
            let _ = unsafe { f(self.address, self.bytes as usize) };
        }
    }
}

/// Physical memory of the device.
#[derive(Debug)]
pub struct Physical {
    driver: Arc<Driver>,
    handle: sys::CUmemGenericAllocationHandle,
    bytes: u64,
}

impl Physical {
    /// `cuMemCreate`. The memory holds what it held before.
    pub fn create(driver: &Arc<Driver>, device: Device, bytes: u64) -> Result<Physical, Status> {
        let f = need(driver.functions.cuMemCreate)?;
        need(driver.functions.cuMemRelease)?;
        let mut handle = 0;
        // SAFETY: reads one struct, writes one number.
        check(unsafe { f(&mut handle, size(bytes)?, &properties(device), NO_FLAGS) })?;
        Ok(Physical {
            driver: Arc::clone(driver),
            handle,
            bytes,
        })
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `cuMemMap` of the first `bytes`, at reserved addresses of the caller's. Nobody may access
    /// them yet.
    pub fn map(self: &Arc<Physical>, address: u64, bytes: u64) -> Result<Mapping, Status> {
        let f = need(self.driver.functions.cuMemMap)?;
        need(self.driver.functions.cuMemUnmap)?;
        // SAFETY: takes numbers and a handle that lives as long as the mapping.
        check(unsafe { f(address, size(bytes)?, 0, self.handle, NO_FLAGS) })?;
        Ok(Mapping {
            physical: Arc::clone(self),
            address,
            bytes,
        })
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        if let Some(f) = self.driver.functions.cuMemRelease {
            // SAFETY: made by `create`, released once.
            let _ = unsafe { f(self.handle) };
        }
    }
}

/// Physical memory mapped at addresses.
#[derive(Debug)]
pub struct Mapping {
    physical: Arc<Physical>,
    address: u64,
    /// 0 once it is unmapped.
    bytes: u64,
}

impl Mapping {
    /// `cuMemSetAccess` for one device.
    pub fn set_access(&self, device: Device, permission: Permission) -> Result<(), Status> {
        use sys::CUmemAccess_flags as Flags;
        let f = need(self.physical.driver.functions.cuMemSetAccess)?;
        let access = sys::CUmemAccessDesc {
            location: location(device),
            flags: match permission {
                Permission::None => Flags::CU_MEM_ACCESS_FLAGS_PROT_NONE,
                Permission::Read => Flags::CU_MEM_ACCESS_FLAGS_PROT_READ,
                Permission::ReadWrite => Flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
            },
        };
        // SAFETY: reads one struct; the addresses are those of this mapping.
        check(unsafe { f(self.address, self.bytes as usize, &access, 1) })
    }
}

impl Mapping {
    /// `cuMemUnmap`. The caller has waited for the work that may use it. After an error it is
    /// still mapped.
    pub fn unmap(&mut self) -> Result<(), Status> {
        if self.bytes == 0 {
            return Ok(());
        }
        let f = need(self.physical.driver.functions.cuMemUnmap)?;
        // SAFETY: mapped by `map`, and not yet unmapped.
        check(unsafe { f(self.address, self.bytes as usize) })?;
        self.bytes = 0;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.unmap();
    }
}
