//! The QOM type of a PCI device, and the callbacks through which QEMU reaches it.
#![allow(unsafe_code)] // callbacks from C, and the instance that QEMU allocates

use std::ffi::{CStr, c_uint, c_void};
use std::marker::PhantomData;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use memoffset::span_of;

use crate::bindings::{
    self, DeviceClass, DeviceState, Error, InterfaceInfo, MemoryRegion, MemoryRegionOps, Object,
    ObjectClass, PCIDevice, PCIDeviceClass, TypeInfo,
};
use crate::log::{self, c_text};
use crate::properties::{self, MAX_PROPERTIES, PropertySpec, Value, Values};
use crate::realize::{RealizeContext, Resources};

/// A PCI device in safe code; there is one value per `-device`.
///
/// All callbacks run under QEMU's big lock and must not block: the whole VM waits for them.
/// A panic in one is reported and marks the device broken: from then on reads give all ones,
/// as from a device that fell off its bus, and writes are dropped.
pub trait PciDevice: Send + Sync + Sized + 'static {
    /// Name of the QOM type, as in `-device NAME`.
    const TYPE_NAME: &'static CStr;
    /// One line for `-device help`.
    const DESCRIPTION: &'static CStr;
    /// The options that `-device` takes.
    const PROPERTIES: &'static [PropertySpec];

    /// Makes the device from its properties. An error refuses it, and is shown to the user.
    fn realize(ctx: &mut RealizeContext<'_>) -> Result<Self, String>;
    /// A read of `size` bytes at `offset` of BAR 0; `size` is 1, 2, 4 or 8, in any alignment.
    fn mmio_read(&self, offset: u64, size: u32) -> u64;
    /// A write of `size` bytes at `offset` of BAR 0.
    fn mmio_write(&self, offset: u64, size: u32, value: u64);
    /// Reset of the device, its bus or the machine.
    fn reset(&self);
    /// The end: hot-unplug, or QEMU exits. Joins all threads, frees everything.
    fn unrealize(self);
}

/// Exports a [`PciDevice`] under the name that QEMU's C side registers.
#[macro_export]
macro_rules! export_device {
    ($device:ty) => {
        /// Called by QEMU before `main` parses its options (hw/vgpu/vgpu-stub.c).
        #[allow(unsafe_code)] // the one symbol that C looks for
        #[unsafe(no_mangle)]
        pub extern "C" fn vgpu_stub_register_types() {
            $crate::register::<$device>();
        }
    };
}

/// Registers the QOM type of a device.
pub fn register<T: PciDevice>() {
    const { assert!(T::PROPERTIES.len() <= MAX_PROPERTIES) }
    let mut interfaces = [
        InterfaceInfo {
            type_: c"pci-express-device".as_ptr(),
        },
        InterfaceInfo {
            type_: c"conventional-pci-device".as_ptr(),
        },
        InterfaceInfo { type_: ptr::null() },
    ];
    // SAFETY: pointers, sizes, a bool and optional functions: zero is valid for each.
    let mut info: TypeInfo = unsafe { std::mem::zeroed() };
    info.name = T::TYPE_NAME.as_ptr();
    info.parent = c"pci-device".as_ptr();
    info.instance_size = size_of::<Instance<T>>();
    info.instance_align = align_of::<Instance<T>>();
    info.instance_init = Some(instance_init);
    info.class_init = Some(class_init::<T>);
    info.interfaces = interfaces.as_mut_ptr();
    // SAFETY: QEMU copies the info and the interface list; `Instance` begins with the parent
    // type's instance.
    unsafe { bindings::type_register_static(&raw const info) };
}

/// Memory of one device. QEMU allocates it, filled with zeros, and frees it.
#[repr(C)]
struct Instance<T> {
    parent: PCIDevice,
    bar0: MemoryRegion,
    bar1: MemoryRegion,
    values: [Value; MAX_PROPERTIES],
    /// From `Box::into_raw`; null while the device is not realized.
    realized: *mut Realized<T>,
}

/// The Rust half of a realized device.
struct Realized<T> {
    /// None when QEMU is exiting. A lock, because exit handlers need not hold the big lock.
    device: RwLock<Option<T>>,
    broken: AtomicBool,
    resources: Resources,
    exit: bindings::Notifier,
}

#[cfg(qemu_class_data_const)]
type ClassData = *const c_void;
#[cfg(not(qemu_class_data_const))]
type ClassData = *mut c_void;

unsafe extern "C" fn class_init<T: PciDevice>(class: *mut ObjectClass, _: ClassData) {
    let device_class = class.cast::<DeviceClass>();
    let pci_class = class.cast::<PCIDeviceClass>();
    // SAFETY: QOM passes the class of our type, a PCIDeviceClass and so a DeviceClass; no
    // other reference to it exists during initialization. The properties' place is
    // `Instance::values`; `register` has checked their number.
    unsafe {
        (*device_class).desc = T::DESCRIPTION.as_ptr();
        let category = bindings::DEVICE_CATEGORY_MISC as usize;
        let bits = usize::try_from(std::ffi::c_ulong::BITS).unwrap_or(64);
        if let Some(word) = (*device_class).categories.get_mut(category / bits) {
            *word |= 1 << (category % bits);
        }
        bindings::device_class_set_legacy_reset(device_class, Some(reset::<T>));
        properties::declare(class, T::PROPERTIES, span_of!(Instance<T>, values));
        (*pci_class).realize = Some(realize::<T>);
        (*pci_class).exit = Some(exit::<T>);
        // The ids proper are set in realize, from the device's properties.
        (*pci_class).class_id = bindings::PCI_CLASS_OTHERS as u16;
    }
}

unsafe extern "C" fn instance_init(object: *mut Object) {
    let device = object.cast::<PCIDevice>();
    // SAFETY: QOM passes a new instance of our type, which begins with a PCIDevice. The bit
    // asks for an express-sized config space; as it does not depend on the properties, it is
    // set here, as the other devices do that fit both kinds of bus.
    unsafe { (*device).cap_present |= bindings::QEMU_PCI_CAP_EXPRESS }
}

unsafe extern "C" fn realize<T: PciDevice>(device: *mut PCIDevice, errp: *mut *mut Error) {
    let instance = device.cast::<Instance<T>>();
    let mut resources = Resources::default();
    // SAFETY: QEMU passes a live instance of our type and holds the big lock; the values are
    // written by property setters only, which QEMU refuses once a device is realized.
    let mut ctx = unsafe {
        RealizeContext {
            device,
            bar0: &raw mut (*instance).bar0,
            bar1: &raw mut (*instance).bar1,
            bar0_ops: Bar0::<T>::OPS,
            opaque: instance.cast(),
            type_name: T::TYPE_NAME,
            values: Values {
                table: T::PROPERTIES,
                values: &(*instance).values,
            },
            resources: &mut resources,
            bar0_size: 0,
        }
    };
    let made = catch_unwind(AssertUnwindSafe(|| T::realize(&mut ctx)))
        .unwrap_or_else(|_| Err("the device panicked while it was set up".to_owned()));
    match made {
        Ok(made) => {
            // SAFETY: a list link and a function: zero is valid for each.
            let exit: bindings::Notifier = unsafe { std::mem::zeroed() };
            let realized = Box::into_raw(Box::new(Realized {
                device: RwLock::new(Some(made)),
                broken: AtomicBool::new(false),
                resources,
                exit,
            }));
            // SAFETY: `realized` is live until `exit` takes it back; the notifier in it keeps
            // its address, and is removed there.
            unsafe {
                (*instance).realized = realized;
                (*realized).exit.notify = Some(qemu_exits::<T>);
                bindings::qemu_add_exit_notifier(&raw mut (*realized).exit);
            }
        }
        Err(message) => {
            // SAFETY: the same device and region as in the context; the big lock is held.
            // `errp` is QEMU's place for our error.
            unsafe {
                resources.undo(device, &raw mut (*instance).bar0);
                bindings::vgpu_shim_error_set(errp, c_text(&message).as_ptr());
            }
        }
    }
}

/// Hot-unplug.
unsafe extern "C" fn exit<T: PciDevice>(device: *mut PCIDevice) {
    let instance = device.cast::<Instance<T>>();
    // SAFETY: QEMU passes a live instance of our type and holds the big lock: no other
    // callback of this device runs, and none comes after. `realized` came from
    // `Box::into_raw`; once it is null here nobody else has the pointer but the exit
    // notifier, which is removed before the box goes.
    unsafe {
        let realized = std::mem::replace(&mut (*instance).realized, ptr::null_mut());
        if realized.is_null() {
            return;
        }
        bindings::qemu_remove_exit_notifier(&raw mut (*realized).exit);
        end(&*realized);
        let mut realized = Box::from_raw(realized);
        realized.resources.undo(device, &raw mut (*instance).bar0);
    }
}

/// QEMU is about to exit, with the device still plugged.
unsafe extern "C" fn qemu_exits<T: PciDevice>(notifier: *mut bindings::Notifier, _: *mut c_void) {
    // SAFETY: the notifier is the field `exit` of a live Realized (removed before it is freed).
    let realized = unsafe {
        &*notifier
            .cast::<u8>()
            .sub(offset_of!(Realized<T>, exit))
            .cast::<Realized<T>>()
    };
    end(realized);
}

fn end<T: PciDevice>(realized: &Realized<T>) {
    let device = realized
        .device
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(device) = device {
        // SAFETY: the type name is static.
        unsafe { bindings::vgpu_shim_trace_unrealize(T::TYPE_NAME.as_ptr()) }
        guarded(&realized.broken, (), || device.unrealize());
    }
}

unsafe extern "C" fn reset<T: PciDevice>(device: *mut DeviceState) {
    // SAFETY: QEMU passes a live instance of our type and holds the big lock; `realized` is
    // null or live.
    let Some(realized) = (unsafe { (*device.cast::<Instance<T>>()).realized.as_ref() }) else {
        return;
    };
    // SAFETY: no arguments.
    unsafe { bindings::vgpu_shim_trace_reset() }
    with(realized, (), T::reset);
    if let Some(line) = realized.resources.irq() {
        line.reset();
    }
}

/// The accesses of BAR 0, of one device type.
struct Bar0<T>(PhantomData<T>);

impl<T: PciDevice> Bar0<T> {
    const OPS: &'static MemoryRegionOps = &{
        // SAFETY: optional functions, numbers and bools: zero is valid for each.
        let mut ops: MemoryRegionOps = unsafe { std::mem::zeroed() };
        ops.read = Some(mmio_read::<T>);
        ops.write = Some(mmio_write::<T>);
        ops.endianness = bindings::DEVICE_LITTLE_ENDIAN;
        // The device answers every size and alignment itself.
        ops.valid.min_access_size = 1;
        ops.valid.max_access_size = 8;
        ops.valid.unaligned = true;
        ops.impl_.min_access_size = 1;
        ops.impl_.max_access_size = 8;
        ops.impl_.unaligned = true;
        ops
    };
}

unsafe extern "C" fn mmio_read<T: PciDevice>(
    opaque: *mut c_void,
    offset: u64,
    size: c_uint,
) -> u64 {
    let gone = u64::MAX >> (64 - 8 * size.clamp(1, 8));
    // SAFETY: the opaque pointer of our BAR is the instance; the region is disabled before
    // the instance goes; `realized` is null or live under the big lock.
    let realized = unsafe { (*opaque.cast::<Instance<T>>()).realized.as_ref() };
    let value = realized.map_or(gone, |r| with(r, gone, |d| d.mmio_read(offset, size)));
    // SAFETY: plain numbers.
    unsafe { bindings::vgpu_shim_trace_mmio_read(offset, size, value) }
    value
}

unsafe extern "C" fn mmio_write<T: PciDevice>(
    opaque: *mut c_void,
    offset: u64,
    value: u64,
    size: c_uint,
) {
    // SAFETY: plain numbers.
    unsafe { bindings::vgpu_shim_trace_mmio_write(offset, size, value) }
    // SAFETY: as in `mmio_read`.
    if let Some(realized) = unsafe { (*opaque.cast::<Instance<T>>()).realized.as_ref() } {
        with(realized, (), |d| d.mmio_write(offset, size, value));
    }
}

/// Calls the device, unless it is gone or broken.
fn with<T, R>(realized: &Realized<T>, gone: R, call: impl FnOnce(&T) -> R) -> R {
    if realized.broken.load(Ordering::Acquire) {
        return gone;
    }
    let device = realized
        .device
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    match &*device {
        Some(device) => guarded(&realized.broken, gone, || call(device)),
        None => gone,
    }
}

/// Keeps a panic from unwinding into C.
fn guarded<R>(broken: &AtomicBool, gone: R, call: impl FnOnce() -> R) -> R {
    // The state behind a panicked call is never looked at again: the device is broken.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        broken.store(true, Ordering::Release);
        log::error_report("vgpu-stub: internal error; the device is disabled until QEMU restarts");
        gone
    })
}
