//! A device inside the process, for tests: registers, channels with a worker thread each, and a
//! host that keeps device memory in vectors and knows two kernels.
//!
//! Feature `fake`; the real device has its own tests.

mod device;
mod host;

pub use device::{Client, Device, Memory};
pub use host::{DEVICE_BYTES, Host, KERNELS};
