//! A software GPU that executes PTX with SIMT semantics.
//!
//! | module | holds |
//! |---|---|
//! | [`memory`] | device memory of a session |
//! | `image`, `ptx` | fatbins and PTX text to a module with resolved names |
//! | `ir`, `lower` | typed operations over virtual registers, and how PTX becomes them |
//! | `analysis` | control flow, liveness, uniform and affine registers |
//! | `emit`, `exec` | executable operations, warps, blocks, the thread pool |
//! | [`module`], [`function`], [`launch`] | what a client sees |
//!
//! `docs/decisions/0002-ptx-execution.md` says why it is built this way.

mod analysis;
mod emit;
mod exec;
pub mod function;
mod image;
mod ir;
pub mod launch;
mod lower;
pub mod memory;
pub mod module;
mod ptx;

pub use exec::alu::Isa;
pub use function::{Function, Param};
pub use launch::{Abort, Fault, Gpu, LaunchConfig, LaunchError, LaunchOptions, LaunchStats};
pub use memory::{AccessError, AddressSpace, AllocError};
pub use module::{LoadError, LoadOptions, Module};
