//! What guest and host of vgpu-stub must agree on, shared by both as one crate.
//!
//! | module | holds |
//! |---|---|
//! | [`regs`] | BAR0: control registers and doorbell pages |
//! | [`layout`] | BAR1: where each channel's rings and staging arena lie |
//! | [`ring`] | the single-producer single-consumer ring of records |
//! | [`message`] | record headers, fragmentation and reassembly |
//! | [`wire`] | how arguments and results are encoded |
//! | [`calls`] | the call table and what follows from it |
//! | [`status`] | result codes |
//! | [`limits`] | every size that a guest chooses, and its bound |
//! | [`window`] | access to memory that the other side may change at any time |

#![cfg_attr(not(any(test, feature = "std")), no_std)]

extern crate alloc;

pub mod calls;
pub mod layout;
pub mod limits;
pub mod message;
pub mod regs;
pub mod ring;
pub mod status;
pub mod window;
pub mod wire;

pub use calls::PROTOCOL_HASH;
pub use status::Status;
