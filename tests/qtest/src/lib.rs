//! A client of QEMU's qtest protocol (`docs/devel/testing/qtest.rst`), and the device behind it.
//!
//! | module | holds |
//! |---|---|
//! | [`qemu`] | a QEMU process with its qtest and QMP sockets |
//! | [`pci`] | config space, BARs and capabilities of a PCI function |
//! | [`board`] | a machine with the device, for the bodies of `vgpu-test-harness` |

pub mod board;
pub mod pci;
pub mod qemu;

pub use board::Board;
pub use pci::Function;
pub use qemu::{Qemu, binary};
