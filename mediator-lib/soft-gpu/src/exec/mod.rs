//! Execution: operations, warps, blocks, the thread pool.

pub mod access;
pub mod alu;
pub mod atomics;
pub mod block;
mod deopt;
pub mod fast;
pub mod float;
pub mod insn;
pub mod integer;
pub mod lanes;
pub mod memory;
pub mod pool;
pub mod region;
pub mod run;
pub mod soft;
pub mod warp;
pub mod warp_ops;
