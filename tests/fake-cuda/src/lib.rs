//! A `libcuda.so.1` without a GPU: what a test of the `cuda` backend loads in its place.
//!
//! It keeps device memory in host memory, executes a few kernels that it knows by name, and holds
//! its caller to the rules: a handle or device address that it has not given out, or a call that
//! would wait for a kernel, **aborts the process with a message**. That the backend passes no value
//! of a guest unchecked is thereby shown by each test that ends.
//!
//! Each copy of the library file is a driver of its own (the dynamic linker tells them apart), so
//! tests run in parallel. Beside the file (`libcuda.so.1`) may lie `libcuda.so.conf`, read again at
//! each call, with lines of these forms:
//!
//! | line | meaning |
//! |---|---|
//! | `fail CALL N STATUS` | the `N`th call of `CALL` (`*`: each) returns `STATUS` |
//! | `failing N STATUS` | the `N`th call from now on returns `STATUS`, whichever it is; queries and calls that end something are not counted |
//! | `version N` | `cuDriverGetVersion` (default 13000) |
//! | `devices N` | number of GPUs (default 1) |
//! | `attribute N VALUE` | a device attribute |
//! | `memory BYTES` | memory of a GPU (default 64 MiB) |
//! | `queries` | the log has queries, too |
//! | `release` | endless kernels end |
//! | `lost STATUS` | every call fails with it, queries and calls that end something, too: the GPU has fallen off the bus |
//! | `sticky process` | an illegal access ends all contexts of the process, and not its own alone |
//!
//! `libcuda.so.log` gets a line per call, queries left out, and after each call that destroys something a
//! line `live contexts=… streams=… events=… modules=… memory=… pins=… graphs=…`; `memory` counts
//! allocations, physical memory and reserved addresses.
//!
//! | kernel | parameters | what it does |
//! |---|---|---|
//! | `fill` | u64 address, u32 value, u32 count | sets 32-bit words; an address outside of the context's memory is an illegal one |
//! | `busy` | u32 count | is running for that many queries |
//! | `endless` | none | never ends |
//! | `illegal` | none | fails with ERROR_ILLEGAL_ADDRESS |
//! | `print` | none | writes a line to the standard output and one to the standard error, as `printf` and `assert` do |
//! | `crash` | none | aborts the process, as a driver with a defect does |
//! | any other | any | nothing |

#![allow(unsafe_code)] // The exports are C functions.
#![allow(missing_docs)] // They are NVIDIA's.
#![allow(non_snake_case)]
#![allow(clippy::missing_safety_doc)] // NVIDIA's contracts; all that is checkable is checked.

mod blas;
mod code;
mod conf;
mod driver;
mod graph;
mod link;
mod lt;
mod memory;
mod nvml;
mod object;
mod state;
mod virtual_memory;

/// The mark of this project's guest library, which the backend must not take for a driver. The
/// tests take it out of the copies that are to be one.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static vgpu_stub_shim: u32 = 1;
