//! The only crate that names a QEMU symbol: bindings, safe wrappers, trampolines.
//!
//! A PCI device implements [`PciDevice`] in safe code and is exported to QEMU with
//! [`export_device!`]. The rest of QEMU's API that it needs comes through
//! [`RealizeContext`] (once, when the device is created), [`Irq`] (from any thread)
//! and the functions of [`log`].
//!
//! | module | wraps |
//! |---|---|
//! | `device` | QOM type, PCI class, the callbacks from C |
//! | `realize` | identity, BARs, MSI-X, ioeventfds, migration blocker |
//! | `properties` | `-device` options |
//! | `irq` | interrupts from any thread, through a bottom half |
//! | `pending` | what is raised and not delivered yet |
//! | `log` | guest errors, error reports, trace events |
//! | `bindings` | what bindgen generated |
//!
//! Without `VGPU_QEMU_SRC` and `VGPU_QEMU_BUILD` in its build environment the crate is
//! empty (see `build.rs`), but for the tests of what needs no QEMU.

#[cfg(vgpu_qemu)]
mod bindings;
#[cfg(vgpu_qemu)]
mod device;
#[cfg(vgpu_qemu)]
mod irq;
#[cfg(vgpu_qemu)]
pub mod log;
#[cfg(any(vgpu_qemu, test))]
mod pending;
#[cfg(vgpu_qemu)]
mod properties;
#[cfg(vgpu_qemu)]
mod realize;

#[cfg(vgpu_qemu)]
pub use device::{PciDevice, register};
#[cfg(vgpu_qemu)]
pub use irq::Irq;
#[cfg(vgpu_qemu)]
pub use properties::{Kind, PropertySpec};
#[cfg(vgpu_qemu)]
pub use realize::{Identity, RealizeContext};
