//! CUDA driver-API programs that know nothing of vgpu-stub: they run on any machine with a `libcuda.so.1`.
//!
//! * [`cuda`]: the driver API with Rust's types, every call counted by name.
//! * [`suite`]: kernels, their launches, and the same on the CPU.
//! * [`errors`]: what must fail, and how.

#[allow(unsafe_code, reason = "the driver API is foreign functions")]
pub mod cuda;
#[allow(
    unsafe_code,
    reason = "wrong arguments for the driver API are the subject"
)]
pub mod errors;
pub mod suite;
