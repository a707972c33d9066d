//! A guest: Debian's kernel, an initramfs of ours, the host's own root (or any tree) read-only with a tmpfs over
//! it, the device, and one command whose streams and exit status come back to the host.

mod accel;
mod boot;
pub mod cpio;
pub mod initramfs;
pub mod kernel;
mod machine;
mod options;
mod script;
mod streams;

pub use boot::{Outcome, run};
pub use options::Options;
pub use streams::{Input, Output};
