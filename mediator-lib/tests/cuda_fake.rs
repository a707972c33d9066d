//! The whole `cuda` backend on a driver without a GPU (`tests/fake-cuda`), which ends the process
//! where the backend passes on what it has not checked, or waits where it cannot be stopped.
#![allow(unsafe_code)] // The arena is raw memory that both sides share.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(missing_docs)]

// Only so that cargo builds the library that the tests load.
use vgpu_fake_cuda as _;

#[path = "cuda_fake/blas.rs"]
mod blas;
#[path = "cuda_fake/blas_calls.rs"]
mod blas_calls;
#[path = "cuda_fake/calls.rs"]
mod calls;
#[path = "cuda_fake/ending.rs"]
mod ending;
#[path = "cuda_fake/graph.rs"]
mod graph;
#[path = "cuda_fake/harness.rs"]
mod harness;
#[path = "cuda_fake/host_memory.rs"]
mod host_memory;
#[path = "cuda_fake/link.rs"]
mod link;
#[path = "cuda_fake/lt.rs"]
mod lt;
#[path = "cuda_fake/mem.rs"]
mod mem;
#[path = "cuda_fake/module.rs"]
mod module;
#[path = "cuda_fake/nvml.rs"]
mod nvml;
#[path = "cuda_fake/open.rs"]
mod open;
#[path = "cuda_fake/rows.rs"]
mod rows;
#[path = "cuda_fake/stream.rs"]
mod stream;
#[path = "cuda_fake/sweep.rs"]
mod sweep;
#[path = "cuda_fake/virtual_memory.rs"]
mod virtual_memory;
