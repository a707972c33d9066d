//! The executable form: a flat list of operations of one cache line each.

use super::warp::Warp;
use crate::ir::{Class, Site, Source};

/// No slot, no target.
pub const NONE: u32 = u32::MAX;

/// Runs one operation on a frame. Returns 0, or one of the `EVENT_` numbers.
pub type Handler = unsafe fn(*mut u8, &Insn, &mut Warp) -> u32;

/// The operation faulted: [`Warp::fault`] says how.
pub const EVENT_FAULT: u32 = 1;
/// An affine value would wrap: continue in the reference code.
pub const EVENT_DEOPT: u32 = 2;

/// Lanes are missing that the operation waits for: [`super::threads`].
pub const EVENT_SPLIT: u32 = 3;

/// The same, where they must come to this very operation.
pub const EVENT_ALIGNED: u32 = 4;

/// What the address of a frame is a multiple of, in bytes: compiled code moves whole aligned lines.
pub const FRAME_ALIGN: u32 = 256;

/// What the run loop does with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Call the handler.
    Plain,
    /// Call the handler; unless it declines, skip `d[1]` operations.
    Fused,
    /// Run the next operation for the lanes whose predicate `s[0]` holds
    /// (does not hold, if `x` is 1), or skip it if there are none.
    Guard,
    /// To `d[0]`.
    Jump,
    /// On predicate `s[0]` (negated if `x` is 1) to `d[0]`, otherwise to `d[1]`;
    /// lanes meet again at `d[2]`.
    Branch,
    /// A place where lanes meet again.
    Join,
    /// `brx.idx`: index `s[0]`, table `x`, lanes meet again at `d[2]`.
    Switch,
    /// Call number `x`.
    Call,
    /// Return from a function, or end of the kernel.
    Return,
    /// The lanes end.
    Exit,
    /// Barrier: number `s[0]`, count `s[1]`, predicate `s[2]`, result `d[0]`; `x` is the kind.
    Barrier,
    /// Trap; `x` 1: a failed assertion.
    Trap,
}

/// One operation. Operands are byte offsets into the frame.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Insn {
    /// Handler of [`Kind::Plain`].
    pub run: Handler,
    /// Byte offset of an address, or a stride.
    pub imm: i64,
    /// Result slots (more than one for vector loads).
    pub d: [u32; 4],
    /// Operand slots.
    pub s: [u32; 4],
    /// Auxiliary number.
    pub x: u32,
    /// Index of the range cache of a memory access.
    pub cache: u32,
    /// Index into [`Program::sites`].
    pub site: u32,
    /// Kind.
    pub kind: Kind,
    /// Whether results are blended under the mask.
    pub masked: bool,
    /// Elements of a vector access.
    pub count: u8,
    /// Space of an access ([`crate::ptx::types::Space`] as a number), other small facts.
    pub small: u8,
}

/// A slot filled before a function runs: constants and what is fixed for a warp.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// What it holds.
    pub source: Source,
    /// Class.
    pub class: Class,
    /// Slot of the two half-warp bases (or of the mask of a predicate), or [`NONE`].
    pub pair: u32,
    /// Slot of the vector, or [`NONE`].
    pub vec: u32,
}

/// A call site.
#[derive(Clone, Debug)]
pub struct CallSite {
    /// Index into [`Program::functions`], or [`NONE`] for an indirect call.
    pub target: u32,
    /// Slot of the pointer of an indirect call.
    pub pointer: u32,
    /// Slots of argument words.
    pub args: Vec<u32>,
    /// Slots of result words.
    pub rets: Vec<u32>,
    /// The call.
    pub pc: u32,
    /// Where to continue.
    pub return_pc: u32,
}

/// Where a virtual register lives.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Class.
    pub class: Class,
    /// Slot of the two bases, or of the predicate's mask, or [`NONE`].
    pub pair: u32,
    /// Slot of the vector, or [`NONE`].
    pub vec: u32,
    /// Difference between neighbouring lanes of a half, if `pair` holds the value.
    pub stride: i64,
}

/// The code of one function.
#[derive(Clone, Debug, Default)]
pub struct FunctionCode {
    /// Index in the module.
    pub module_index: u32,
    /// First operation.
    pub entry: u32,
    /// Bytes of its frame.
    pub frame_bytes: u32,
    /// Local memory per thread.
    pub local_bytes: u32,
    /// Slots to fill at its start.
    pub fills: Vec<Fill>,
    /// Slots of parameter words.
    pub params: Vec<u32>,
    /// Slots of result words.
    pub rets: Vec<u32>,
    /// First operation of each block, and last of the exit block.
    pub block_pcs: Vec<u32>,
    /// First operation of each [`crate::ir::Inst`], per block.
    pub inst_pcs: Vec<Vec<u32>>,
    /// Where registers live.
    pub slots: Vec<Slot>,
}

/// A kernel with all it calls.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Operations.
    pub insns: Vec<Insn>,
    /// Functions; the first is the kernel.
    pub functions: Vec<FunctionCode>,
    /// Call sites.
    pub calls: Vec<CallSite>,
    /// Fused chains.
    pub chains: Vec<super::fast::Chain>,
    /// Registers of matrix operations.
    pub tiles: Vec<super::matrix::Tile>,
    /// Tables of `brx.idx`.
    pub tables: Vec<Vec<u32>>,
    /// Sites with their function.
    pub sites: Vec<(u32, Site)>,
    /// Number of range caches.
    pub caches: u32,
    /// Whether it may wait for what another thread writes.
    pub may_wait: bool,
    /// Whether it calls functions.
    pub has_calls: bool,
    /// Which [`crate::ir::SystemCall`]s it makes, a bit for each.
    pub system: u32,
}
