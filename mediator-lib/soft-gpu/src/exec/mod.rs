//! Execution: operations, warps, blocks, the thread pool.

pub mod access;
pub mod alu;
mod approx;
pub mod atomics;
mod barrier;
pub mod block;
pub mod copy;
mod deopt;
pub mod fast;
pub mod float;
pub mod fp8;
pub mod half;
pub mod insn;
pub mod integer;
pub mod lanes;
pub mod matrix;
pub mod memory;
pub mod pool;
pub mod region;
pub mod run;
pub mod soft;
pub mod system;
pub mod threads;
pub mod video;
pub mod warp;
pub mod warp_ops;
pub mod whole;
