//! `isolation=process`: each session of the device in a process of its own.
//!
//! After an error like an illegal address NVIDIA's driver asks for the end of the *process*
//! (CUDA Driver API, `CUresult`), a kernel that never ends can be ended only with its process, and
//! a driver that crashes takes its process along. Here that process is `vgpu-worker`, of which
//! QEMU starts one per guest process, and not QEMU.
//!
//! ```text
//! guest process ── rings in BAR1 ── vgpu-worker (backend, one session)
//!                     doorbell ────────┘  │ packets: ready, faults, interrupts, log
//!                                       QEMU: vgpu-channel-N supervises
//! ```
//!
//! The rings are shared memory, the doorbell is an eventfd: the worker process serves both itself,
//! so that a call costs what it costs without isolation. The channel's thread in QEMU takes the
//! orders of the register handlers, hears of interrupts and faults, and ends the process.
//!
//! | module | holds |
//! |---|---|
//! | [`choice`] | which isolation a device gets, and why |
//! | [`packet`] | what the two processes say to each other |
//! | [`process`] | starting and ending a worker process |
//! | [`supervisor`] | the channel's thread in QEMU |
//! | [`serve`] | the worker process |
//! | [`own`] | what that process does to itself |

pub(crate) mod choice;
mod own;
pub(crate) mod packet;
pub(crate) mod process;
pub mod serve;
pub(crate) mod supervisor;

pub use choice::{Isolation, IsolationError};
