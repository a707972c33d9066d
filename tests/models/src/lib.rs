//! Files of the device, built with the model checker's primitives instead of the system's: every
//! interleaving of a few threads is executed, see `tests/states.rs`.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p vgpu-models --release`. Without `--cfg loom`
//! there is nothing here.

#[cfg(loom)]
pub mod primitive;
#[cfg(loom)]
#[path = "../../../qemu-device/src/states.rs"]
pub mod states;
