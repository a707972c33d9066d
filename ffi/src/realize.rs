//! What a device may do while it is realized, and the undoing of it.
#![allow(unsafe_code)] // calls into QEMU's PCI, memory and migration code

use std::ffi::{CStr, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use crate::bindings::{
    self, Error, EventNotifier, MemoryRegion, MemoryRegionOps, Object, PCIDevice,
};
use crate::irq::{Irq, Line};
use crate::log::c_text;
use crate::properties::Values;

/// BAR of the MSI-X table and pending bits.
const MSIX_BAR: u8 = 3;
/// Where the PCI Express capability stands in config space, on an express bus.
const PCIE_CAP_OFFSET: u8 = 0x80;

/// The ids that a guest reads in the device's config space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor_id: u16,
    /// Device.
    pub device_id: u16,
    /// Base class, subclass and programming interface, from the high byte to the low one.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Subsystem vendor.
    pub subsystem_vendor_id: u16,
    /// Subsystem.
    pub subsystem_id: u16,
}

/// What was set up so far; `undo` takes it all back.
#[derive(Default)]
pub(crate) struct Resources {
    doorbells: Vec<Doorbell>,
    irq: Option<Arc<Line>>,
    msix: bool,
    express: bool,
    migration_blocker: Option<*mut Error>,
}

struct Doorbell {
    offset: u64,
    /// QEMU's memory core keeps the address of this until the eventfd is removed.
    notifier: Box<EventNotifier>,
    _fd: OwnedFd,
}

/// A doorbell is rung by a write of this size; its value does not matter.
const DOORBELL_SIZE: u32 = 4;

impl Resources {
    pub(crate) fn irq(&self) -> Option<&Arc<Line>> {
        self.irq.as_ref()
    }

    /// Takes everything back. The big lock is held.
    ///
    /// # Safety
    /// `device` and `bar0` are those that the context was made for.
    pub(crate) unsafe fn undo(&mut self, device: *mut PCIDevice, bar0: *mut MemoryRegion) {
        for mut doorbell in self.doorbells.drain(..) {
            // SAFETY: added with the same arguments; the notifier is still alive.
            unsafe {
                bindings::memory_region_del_eventfd(
                    bar0,
                    doorbell.offset,
                    DOORBELL_SIZE,
                    false,
                    0,
                    &raw mut *doorbell.notifier,
                );
            }
        }
        if let Some(line) = self.irq.take() {
            line.close();
        }
        if std::mem::take(&mut self.msix) {
            // SAFETY: msix_init_exclusive_bar() succeeded on this device.
            unsafe { bindings::msix_uninit_exclusive_bar(device) }
        }
        if std::mem::take(&mut self.express) {
            // SAFETY: pcie_endpoint_cap_init() succeeded on this device.
            unsafe { bindings::pcie_cap_exit(device) }
        }
        if let Some(mut reason) = self.migration_blocker.take() {
            // SAFETY: the reason that migrate_add_blocker() holds; it is freed there.
            unsafe { bindings::migrate_del_blocker(&raw mut reason) }
        }
    }
}

/// Given to [`crate::PciDevice::realize`]: the properties, and what can be asked of QEMU once.
pub struct RealizeContext<'a> {
    pub(crate) device: *mut PCIDevice,
    pub(crate) bar0: *mut MemoryRegion,
    pub(crate) bar1: *mut MemoryRegion,
    pub(crate) bar0_ops: &'static MemoryRegionOps,
    pub(crate) opaque: *mut c_void,
    pub(crate) type_name: &'static CStr,
    pub(crate) values: Values<'a>,
    pub(crate) resources: &'a mut Resources,
    pub(crate) bar0_size: u64,
}

impl RealizeContext<'_> {
    /// Value of a `U32` property.
    pub fn u32(&self, name: &str) -> Result<u32, String> {
        self.values.u32(name)
    }

    /// Value of a `Size` property, in bytes.
    pub fn size(&self, name: &str) -> Result<u64, String> {
        self.values.size(name)
    }

    /// Value of a `Str` property.
    pub fn text(&self, name: &str) -> Result<String, String> {
        self.values.text(name)
    }

    /// Writes the ids into config space, and the PCI Express capability on an express bus.
    pub fn set_identity(&mut self, identity: &Identity) -> Result<(), String> {
        let Identity {
            vendor_id,
            device_id,
            class,
            ..
        } = *identity;
        let [interface, subclass, base, _] = class.to_le_bytes();
        self.config_word(bindings::PCI_VENDOR_ID, vendor_id);
        self.config_word(bindings::PCI_DEVICE_ID, device_id);
        self.config_byte(bindings::PCI_CLASS_PROG, interface);
        self.config_word(
            bindings::PCI_CLASS_DEVICE,
            u16::from_le_bytes([subclass, base]),
        );
        self.config_byte(bindings::PCI_REVISION_ID, identity.revision);
        self.config_word(
            bindings::PCI_SUBSYSTEM_VENDOR_ID,
            identity.subsystem_vendor_id,
        );
        self.config_word(bindings::PCI_SUBSYSTEM_ID, identity.subsystem_id);
        // SAFETY: the device is under realize; the type name is static.
        unsafe {
            bindings::vgpu_shim_trace_realize(self.type_name.as_ptr(), vendor_id, device_id);
        }
        // SAFETY: the device is plugged into a bus.
        if unsafe { bindings::vgpu_shim_bus_is_express(self.device) } && !self.resources.express {
            // SAFETY: the device has an express-sized config space (see `instance_init`).
            let at = unsafe { bindings::pcie_endpoint_cap_init(self.device, PCIE_CAP_OFFSET) };
            if at < 0 {
                return Err(format!(
                    "no room for the PCI Express capability (error {at})"
                ));
            }
            self.resources.express = true;
        }
        Ok(())
    }

    /// Makes BAR 0: 32-bit MMIO of `size` bytes (a power of two), answered by the device.
    pub fn init_bar0(&mut self, size: u64) -> Result<(), String> {
        check_bar_size("BAR0", size)?;
        // SAFETY: `bar0` and `opaque` live in the instance, which outlives its regions; the
        // operations and the name are static.
        unsafe {
            bindings::memory_region_init_io(
                self.bar0,
                self.device.cast::<Object>(),
                self.bar0_ops,
                self.opaque,
                c"vgpu-stub-bar0".as_ptr(),
                size,
            );
            let space = bindings::PCI_BASE_ADDRESS_SPACE_MEMORY as u8;
            bindings::pci_register_bar(self.device, 0, space, self.bar0);
        }
        self.bar0_size = size;
        Ok(())
    }

    /// Makes BAR 1: `size` bytes (a power of two) of RAM, 64-bit and prefetchable: the shared
    /// memory behind `fd`, which is duplicated.
    pub fn init_bar1(&mut self, size: u64, fd: BorrowedFd<'_>) -> Result<(), String> {
        check_bar_size("BAR1", size)?;
        let fd = fd
            .try_clone_to_owned()
            .map_err(|e| format!("no file descriptor for BAR1 of {size} bytes: {e}"))?;
        let mut error: *mut Error = ptr::null_mut();
        // SAFETY: `bar1` lives in the instance, which outlives its regions; the name is
        // static, the descriptor is open.
        let done = unsafe {
            bindings::memory_region_init_ram_from_fd(
                self.bar1,
                self.device.cast::<Object>(),
                c"vgpu-stub-bar1".as_ptr(),
                size,
                bindings::RAM_SHARED,
                fd.as_raw_fd(),
                0,
                &raw mut error,
            )
        };
        if !done {
            return Err(format!(
                "no memory for BAR1 of {size} bytes: {}",
                take_error(error)
            ));
        }
        // The RAM block closes its descriptor when it is freed.
        let _ = fd.into_raw_fd();
        let space = bindings::PCI_BASE_ADDRESS_SPACE_MEMORY
            | bindings::PCI_BASE_ADDRESS_MEM_PREFETCH
            | bindings::PCI_BASE_ADDRESS_MEM_TYPE_64;
        // SAFETY: the region is initialized; slots 1 and 2 are free.
        unsafe { bindings::pci_register_bar(self.device, 1, space as u8, self.bar1) }
        Ok(())
    }

    /// Sets up pin A and, where the machine has MSI-X, `vectors` vectors with their table in
    /// BAR 3.
    pub fn init_interrupts(&mut self, vectors: u16) -> Result<Irq, String> {
        self.config_byte(bindings::PCI_INTERRUPT_PIN, 1);
        let mut error: *mut Error = ptr::null_mut();
        // SAFETY: the device is under realize; BAR 3 is free.
        let status = unsafe {
            bindings::msix_init_exclusive_bar(self.device, vectors.into(), MSIX_BAR, &raw mut error)
        };
        if status == 0 {
            self.resources.msix = true;
            for vector in 0..u32::from(vectors) {
                // SAFETY: below the number of vectors that was just set up.
                unsafe { bindings::msix_vector_use(self.device, vector) }
            }
        } else {
            let reason = take_error(error);
            // A machine without MSI is no error: pin A does it all there.
            if status != -libc::ENOTSUP {
                return Err(format!("MSI-X with {vectors} vectors: {reason}"));
            }
        }
        // SAFETY: realize holds the big lock; the line is closed in `Resources::undo`, before
        // the device goes.
        let line = unsafe { Line::open(self.device, vectors.into()) };
        Ok(self.resources.irq.insert(line).handle())
    }

    /// Lets a 4-byte write to `offset` of BAR 0, whatever its value, signal the eventfd
    /// instead of calling the device. The descriptor is duplicated.
    pub fn add_doorbell(&mut self, offset: u64, eventfd: BorrowedFd<'_>) -> Result<(), String> {
        let end = offset.checked_add(DOORBELL_SIZE.into());
        if !offset.is_multiple_of(DOORBELL_SIZE.into())
            || end.is_none_or(|end| end > self.bar0_size)
        {
            return Err(format!(
                "doorbell at {offset:#x}: not a multiple of {DOORBELL_SIZE} inside BAR0 of {} bytes",
                self.bar0_size
            ));
        }
        let fd = eventfd
            .try_clone_to_owned()
            .map_err(|e| format!("no file descriptor for the doorbell at {offset:#x}: {e}"))?;
        // SAFETY: numbers and a bool: zero is valid for each.
        let mut notifier: Box<EventNotifier> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: the notifier is ours; BAR 0 is initialized (its size is not 0 here); the
        // box stays at its address, in `Resources`, until the eventfd is removed.
        unsafe {
            bindings::event_notifier_init_fd(&raw mut *notifier, fd.as_raw_fd());
            bindings::memory_region_add_eventfd(
                self.bar0,
                offset,
                DOORBELL_SIZE,
                false,
                0,
                &raw mut *notifier,
            );
        }
        self.resources.doorbells.push(Doorbell {
            offset,
            notifier,
            _fd: fd,
        });
        Ok(())
    }

    /// Makes `migrate` and `savevm` fail with this reason.
    pub fn refuse_migration(&mut self, reason: &str) -> Result<(), String> {
        let reason = c_text(reason);
        let mut blocker: *mut Error = ptr::null_mut();
        let mut error: *mut Error = ptr::null_mut();
        // SAFETY: `blocker` is null as error_setg() wants it, then handed to the migration
        // code, which frees it on failure and in migrate_del_blocker().
        let status = unsafe {
            bindings::vgpu_shim_error_set(&raw mut blocker, reason.as_ptr());
            bindings::migrate_add_blocker(&raw mut blocker, &raw mut error)
        };
        if status < 0 {
            return Err(take_error(error));
        }
        self.resources.migration_blocker = Some(blocker);
        Ok(())
    }

    fn config_byte(&mut self, offset: u32, value: u8) {
        // SAFETY: the config space is allocated before realize and has at least 256 bytes;
        // `offset` is one of the PCI header's registers, all below 64.
        unsafe { (*self.device).config.add(offset as usize).write(value) }
    }

    fn config_word(&mut self, offset: u32, value: u16) {
        let [low, high] = value.to_le_bytes();
        self.config_byte(offset, low);
        self.config_byte(offset + 1, high);
    }
}

/// Sizes of BARs are powers of two, and at least one page so that a guest can map them.
fn check_bar_size(bar: &str, size: u64) -> Result<(), String> {
    const PAGE: u64 = 4096;
    if size.is_power_of_two() && size >= PAGE {
        Ok(())
    } else {
        Err(format!(
            "{bar} of {size} bytes: the size must be a power of two, at least {PAGE}"
        ))
    }
}

/// Text of an error that QEMU returned; frees it.
fn take_error(error: *mut Error) -> String {
    if error.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: not null, so a valid error that we own; its text lives until error_free().
    unsafe {
        let text = CStr::from_ptr(bindings::error_get_pretty(error))
            .to_string_lossy()
            .into_owned();
        bindings::error_free(error);
        text
    }
}
