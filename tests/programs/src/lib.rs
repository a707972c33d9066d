//! CUDA driver-API programs that know nothing of vgpu-stub: they run on any machine with a `libcuda.so.1`.
//!
//! * [`cuda`]: the driver API with Rust's types, every call counted by name.
//! * [`detect`]: how programs that link nothing look for a GPU.
//! * [`management`]: what NVML says while a process uses the device.
//! * [`cases`]: the runner of programs that are lists of named tests.
//! * [`suite`]: kernels, their launches, and the same on the CPU.
//! * [`blas`]: the cuBLAS library.
//! * [`errors`]: what must fail, and how.
//! * [`measure`]: how fast the device is.
//! * [`torture`]: random programs beside a reference, and processes that are killed.
//! * [`memory`]: pinned, managed and pooled memory, and its copies.
//! * [`graphs`]: graphs, captures, functions of the program, the order of streams.

#[allow(
    unsafe_code,
    missing_docs,
    reason = "the cuBLAS library is foreign functions; its tests have no users"
)]
pub mod blas;
pub mod cases;
#[allow(unsafe_code, reason = "the driver API is foreign functions")]
pub mod cuda;
#[allow(unsafe_code, reason = "libraries are loaded by name")]
pub mod detect;
#[allow(
    unsafe_code,
    reason = "wrong arguments for the driver API are the subject"
)]
pub mod errors;
#[allow(unsafe_code, reason = "the driver API is foreign functions")]
pub mod graphs;
pub mod management;
#[allow(
    unsafe_code,
    reason = "the driver API and cuBLAS are foreign functions"
)]
pub mod measure;
#[allow(unsafe_code, reason = "the driver API is foreign functions")]
pub mod memory;
#[path = "../../../guest-shim/nvidia-smi/src/nvml.rs"]
#[allow(dead_code, reason = "nvidia-smi uses the rest")]
pub mod nvml;
pub mod suite;
pub mod torture;
