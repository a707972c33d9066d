//! The vgpu-stub PCI device.
//!
//! Everything here but [`qemu`](crate) works without QEMU, so that it is tested without it.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the device's properties and what they may be |
//! | [`device`] | BAR0 as the guest sees it |
//! | [`channel`] | a channel's registers |
//! | [`states`] | the states of a channel and the orders to its worker; model-checked |
//! | [`isolation`] | sessions in processes of their own |
//! | [`socket`] | packets with descriptors |
//! | [`worker`] | the thread that executes a channel's calls |
//! | [`memory`] | BAR1's memory |
//! | [`doorbell`] | the eventfd behind a doorbell |
//! | [`local`] | the device on a socket, for `vgpu-local` |
//! | `qemu` | the device in QEMU (feature `qemu`) |

pub mod channel;
pub mod config;
pub mod device;
pub mod doorbell;
pub mod isolation;
pub mod local;
pub mod memory;
mod primitive;
pub mod socket;
pub mod states;
pub mod worker;

#[cfg(all(feature = "qemu", vgpu_qemu))]
mod qemu;

pub use config::{Config, ConfigError, Identity, Properties};
pub use device::{Device, DeviceError, Host};
pub use memory::SharedMemory;
