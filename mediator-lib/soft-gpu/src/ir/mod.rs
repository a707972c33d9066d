//! The intermediate form: basic blocks of operations over typed virtual
//! registers, one per PTX function. Both the reference and the optimised code
//! are emitted from it.

pub mod alu;
pub mod verify;
pub mod windows;

pub use alu::Alu;

use crate::ptx::ast::{Pos, Special};
use crate::ptx::types::Space;

/// A virtual register.
pub type V = u32;
/// A basic block.
pub type BlockId = u32;

/// What a virtual register holds per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A predicate.
    P,
    /// Up to 32 bits.
    W,
    /// 64 bits.
    D,
}

/// Where a virtual register's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Operations of the function define it.
    Defined,
    /// A constant.
    Const(u64),
    /// A special register that is fixed for the life of a warp.
    Special(Special),
    /// A kernel parameter: byte offset, bytes, and whether to sign-extend.
    Param(u32, u8, bool),
}

/// A virtual register.
#[derive(Clone, Copy, Debug)]
pub struct VReg {
    /// Class.
    pub class: Class,
    /// Source.
    pub source: Source,
}

/// Memory element of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// State space.
    pub space: Space,
    /// Bytes of one element: 1, 2, 4 or 8.
    pub bytes: u8,
    /// Whether loads sign-extend.
    pub signed: bool,
    /// Elements: 1, 2, 4 or 8.
    pub count: u8,
}

/// Atomic operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AtomOp {
    Add,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
    Min,
    Max,
}

/// Element type of an atomic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AtomTy {
    U32,
    S32,
    U64,
    S64,
    F32,
    F64,
    B16,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
}

/// Modes of `shfl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

/// Modes of `vote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

/// Reductions of `redux` and `bar.red`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ReduxOp {
    Add,
    Min,
    Max,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
}

/// Kinds of `bar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BarKind {
    Sync,
    Arrive,
    RedPopc,
    RedAnd,
    RedOr,
}

/// Whom a call calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A function of the module.
    Direct(u32),
    /// The function whose address the first source holds.
    Indirect,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A lane operation.
    Alu(Alu),
    /// Load: `s[0]` address.
    Ld(Access),
    /// Store: `s[0]` address, then values.
    St(Access),
    /// Atomic with (`d`) or without a result: `s[0]` address, operands.
    Atom(Space, AtomOp, AtomTy),
    /// `d[0]` value, `d[1]` optional predicate; `s`: value, lane, clamp.
    Shfl(ShflMode),
    /// `s[0]` predicate.
    Vote(VoteMode),
    /// `match.any` (false) or `match.all` (true, `d[1]` optional predicate) of a class.
    Match(bool),
    /// `redux.sync`.
    Redux(ReduxOp),
    /// The mask of the lanes that execute it.
    ActiveMask,
    /// Barrier: `s[0]` number, `s[1]` count (optional), predicate of a reduction last.
    Bar(BarKind),
    /// A special register that changes while a warp runs.
    ReadSpecial(Special),
    /// Address of a local variable: frame base plus `imm`.
    LocalAddr,
    /// Memory fence.
    Fence,
    /// A call: `s` are argument words, `d` result words.
    Call(Callee),
    /// Stops the launch with a trap.
    Trap,
    /// Yields the core (`nanosleep`).
    Sleep,
}

/// One operation with its operands.
#[derive(Clone, Debug)]
pub struct Inst {
    /// Operation.
    pub op: Op,
    /// Guard predicate and whether it is negated.
    pub guard: Option<(V, bool)>,
    /// Results.
    pub d: Vec<V>,
    /// Sources.
    pub s: Vec<V>,
    /// Auxiliary number (shift modes, rounding, lookup tables).
    pub x: u32,
    /// Byte offset of an address.
    pub imm: i64,
    /// Index of the PTX instruction it comes from.
    pub site: u32,
}

/// How a block ends.
#[derive(Clone, Debug)]
pub enum Term {
    /// To one block.
    Jump(BlockId),
    /// On a predicate: block if it holds (or not, when negated), block otherwise.
    Branch {
        /// Predicate.
        pred: V,
        /// Branch is taken where the predicate is false.
        negated: bool,
        /// Taken.
        then: BlockId,
        /// Not taken.
        other: BlockId,
    },
    /// `brx.idx`.
    Switch {
        /// Index register.
        index: V,
        /// Targets.
        targets: Vec<BlockId>,
    },
    /// Leaves the function.
    Return,
    /// Ends the lanes.
    Exit,
}

/// A basic block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Operations.
    pub insts: Vec<Inst>,
    /// End.
    pub term: Term,
    /// PTX instruction of the end.
    pub site: u32,
}

/// Where an operation comes from, for messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Site {
    /// Position.
    pub pos: Pos,
    /// Byte range in the source.
    pub text: (u32, u32),
}

/// A function.
#[derive(Clone, Debug)]
pub struct Func {
    /// Name.
    pub name: String,
    /// Blocks; the first is the entry.
    pub blocks: Vec<Block>,
    /// Virtual registers.
    pub vregs: Vec<VReg>,
    /// Argument words of a device function.
    pub params: Vec<V>,
    /// Result words of a device function.
    pub rets: Vec<V>,
    /// Bytes of local memory per thread.
    pub local_bytes: u32,
    /// Whether it may wait for what another thread writes: atomics, volatile loads.
    pub may_wait: bool,
    /// Sites of the operations.
    pub sites: Vec<Site>,
}
