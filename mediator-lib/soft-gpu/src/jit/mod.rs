//! The template compiler: x86-64 code with AVX-512 over the interpreter's operations.
//!
//! It takes the same operations, frames, SIMT stack and faults as the interpreter. An operation
//! that it does not know is a call of the interpreter's handler; what it cannot do (calls, most
//! barriers, accesses outside a noted allocation) leaves the code at the operation, and the
//! interpreter goes on from there until the next place where code may be entered. Where lanes part
//! or meet the code asks where to go on; at the block's barrier the next warp takes over.
//!
//! | module | holds |
//! |---|---|
//! | `asm`, `ops` | the encoder and its instructions |
//! | `memory` | executable memory |
//! | `runtime` | how code is entered, what it calls |
//! | `regs` | values in registers |
//! | `compile`, `block`, `heirs` | blocks, exits, loops; blocks that begin with values in registers |
//! | `control` | where lanes part and meet, barriers, the end |
//! | `ahead` | what is fetched from memory ahead of its use |
//! | `detour` | ways through an operation's handler |
//! | `vector`, `float`, `pair`, `access`, `spread`, `gather`, `scattered`, `grouped`, `warp` | single operations |

mod access;
mod ahead;
mod asm;
#[cfg(test)]
mod asm_tests;
mod block;
mod compile;
mod control;
mod detour;
mod float;
mod gather;
mod grouped;
mod heirs;
mod memory;
pub mod ops;
mod pair;
mod regs;
pub mod runtime;
mod scattered;
mod spread;
mod vector;
mod warp;

pub use compile::compile;
pub use runtime::{JitCode, JitRange, State, Team};
