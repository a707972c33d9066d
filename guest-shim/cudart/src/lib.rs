//! libcudart for the guest: the CUDA Runtime API over the driver API.
//!
//! Three libraries come from this code: libcudart.so.11.0, libcudart.so.12 and libcudart.so.13
//! (`cargo xtask shims` links them). Which names each has, and which function is behind a name
//! whose ABI changed from one major version to the next, stands in `symbols-11.txt`,
//! `symbols-12.txt` and `symbols-13.txt`.
//!
//! | module | holds |
//! |---|---|
//! | [`abi`] | the `exports!` macro, each thread's last error |
//! | [`types`] | structures of the runtime |
//! | [`driver`] | the driver's functions |
//! | [`runtime`] | initialisation, devices and primary contexts |
//! | [`module`] | fat binaries, functions and variables that nvcc's code registers |
//! | [`device`], [`prop`], [`library`], [`launch`], [`func`], [`mem`], [`pool`], [`copy`], [`copy3d`], [`memset`], [`stream`], [`event`], [`graph`], [`node`], [`anynode`], [`channel`], [`version`], [`error`] | the calls, by noun |
//! | [`unsupported`] | every other name |

mod abi;
mod anynode;
mod channel;
mod copy;
mod copy3d;
mod device;
mod driver;
mod error;
mod event;
mod func;
mod graph;
mod launch;
mod library;
mod mem;
mod memset;
mod module;
mod node;
mod pool;
mod prop;
mod runtime;
mod stream;
mod types;
mod unsupported;
mod version;

#[cfg(test)]
mod layout;
