//! A software GPU that executes PTX with SIMT semantics.
//!
//! | module | holds |
//! |---|---|
//! | [`addresses`] | where device memory lies |
//! | [`memory`], [`unified`] | device memory of a context; mapped and host memory of a session |
//! | `image`, `ptx` | fatbins and PTX text to a module with resolved names |
//! | `ir`, `lower` | typed operations over virtual registers, and how PTX becomes them |
//! | `analysis` | control flow, liveness, uniform and affine registers |
//! | `emit`, `exec` | executable operations, warps, blocks, the thread pool |
//! | `jit` | the same operations as machine code |
//! | [`link`] | several images into one |
//! | [`runtime`] | system calls of kernels: printf, malloc, assert |
//! | [`module`], [`function`], [`launch`] | what a client sees |
//! | [`busy`] | for how much of the time kernels run |
//! | [`tasks`] | work of libraries on the same threads |
//!
//! `docs/decisions/0002-ptx-execution.md` says why it is built this way.

pub mod addresses;
mod analysis;
pub mod busy;
mod cache;
mod emit;
mod exec;
pub mod function;
mod image;
mod ir;
mod jit;
pub mod launch;
pub mod link;
mod lower;
pub mod memory;
pub mod module;
mod ptx;
pub mod runtime;
pub mod tasks;
pub mod unified;

pub use analysis::varies::Varies;
pub use exec::alu::Isa;
pub use function::{Function, Param};
pub use image::{ImageError, PtxImage, ptx_images};
pub use launch::{
    Abort, Begun, Fault, Gpu, Jit, Kept, LaunchConfig, LaunchError, LaunchOptions, LaunchStats,
    Prepared, Rest,
};
pub use link::{InputKind, LinkError, Linker};
pub use memory::{AccessError, AddressSpace, AllocError};
pub use module::{LoadError, LoadOptions, Module};
pub use ptx::opcodes::MNEMONICS;
pub use runtime::DeviceRuntime;
pub use tasks::TaskError;
pub use unified::Unified;
