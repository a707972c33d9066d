//! The vgpu-stub PCI device.
