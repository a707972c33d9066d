//! The vgpu-stub PCI device.

#[cfg(all(feature = "qemu", vgpu_qemu))]
mod qemu;
