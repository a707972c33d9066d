//! Guest side of vgpu-stub's rings: finds the device, claims a channel, sends calls.
//!
//! | module | holds |
//! |---|---|
//! | [`bars`] | how registers, doorbells and BAR1 are reached: [`pci`] or [`local`] |
//! | [`claim`] | takes a free channel, or that of a killed process |
//! | [`channel`] | sends requests, hands replies to the threads that wait for them |
//! | [`calls`] | functions of the program that the host asks to be called |
//! | [`arena`] | gives out pieces of the staging arena |
//! | [`copy`] | copies between the program's memory and the device |
//! | `uio` | interrupts, where the kernel's generic driver has the device |
//! | [`user`] | access to memory of the program, given by address |
//! | [`process`] | the one channel of this process; fork and exit |
//! | [`spin`] | looking again and again, on a real and on an emulated processor |
//! | [`log`] | what `VGPU_LOG` prints |
//! | [`error`] | why there is no connection |
//!
//! All shims of a process share one [`channel::Channel`]; threads take turns on it.

pub mod arena;
pub mod bars;
pub mod calls;
pub mod channel;
pub mod claim;
pub mod copy;
pub mod error;
pub mod local;
pub mod log;
pub mod pci;
pub mod process;
pub mod spin;
mod sys;
mod uio;
pub mod user;

#[cfg(any(test, feature = "fake"))]
pub mod fake;
#[cfg(test)]
mod tests;

pub use channel::Channel;
pub use error::ConnectError;
