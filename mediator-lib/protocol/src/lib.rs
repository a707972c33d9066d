//! What guest and host of vgpu-stub must agree on, shared by both as one crate.
//!
//! | module | holds |
//! |---|---|
//! | [`regs`] | BAR0: control registers and doorbell pages |
//! | [`layout`] | BAR1: where each channel's rings and staging arena lie |
//! | [`ring`] | the single-producer single-consumer ring of records |
//! | [`message`] | record headers, fragmentation and reassembly |
//! | [`wire`] | how arguments and results are encoded |
//! | [`nvml`] | what can be asked about a device beyond CUDA |
//! | [`calls`] | the call table and what follows from it |
//! | [`blas`], [`blas_lt`] | what both sides check of the arguments of cuBLAS and cublasLt |
//! | [`status`] | result codes |
//! | [`limits`] | every size that a guest chooses, and its bound |
//! | [`ranges`] | who has which part of a range: addresses, offsets |
//! | [`window`] | access to memory that the other side may change at any time |

#![cfg_attr(not(any(test, feature = "std")), no_std)]

extern crate alloc;

pub mod blas;
pub mod blas_lt;
pub mod calls;
pub mod layout;
pub mod limits;
pub mod message;
pub mod nvml;
pub mod ranges;
pub mod regs;
pub mod ring;
pub mod status;
pub mod window;
pub mod wire;

pub use calls::PROTOCOL_HASH;
pub use status::Status;
