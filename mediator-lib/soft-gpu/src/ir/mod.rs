//! The intermediate form: basic blocks of operations over typed virtual
//! registers, one per PTX function. Both the reference and the optimised code
//! are emitted from it.

pub mod alu;
pub mod matrix;
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
    /// Whether no other thread may see some of a lane's elements without the rest.
    pub whole: bool,
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

/// What CUDA's device runtime does for a kernel (CUDA C++ Programming Guide, "System Calls").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SystemCall {
    Printf,
    Malloc,
    Free,
    Assert,
}

impl SystemCall {
    /// The call that an external function of this name stands for.
    pub fn of(name: &str) -> Option<SystemCall> {
        Some(match name {
            "vprintf" => SystemCall::Printf,
            "malloc" => SystemCall::Malloc,
            "free" => SystemCall::Free,
            "__assertfail" => SystemCall::Assert,
            _ => return None,
        })
    }
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
    /// Atomic of 128 bits: `s[0]` address, then the halves of the new value, or of the value that is compared
    /// and the new one; `d` the halves of the old value.
    Atom128(Space),
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
    /// `bar.warp.sync`: waits until the lanes of the mask `s[0]` have come. So do the operations above
    /// whose last source is such a mask.
    WarpSync,
    /// Barrier: `s[0]` number, `s[1]` count (optional), predicate of a reduction last.
    Bar(BarKind),
    /// A special register that changes while a warp runs.
    ReadSpecial(Special),
    /// Address of a local variable: frame base plus `imm`.
    LocalAddr,
    /// Memory fence.
    Fence,
    /// A system call: `s` its arguments, `d` its result.
    System(SystemCall),
    /// A call: `s` are argument words, `d` result words.
    Call(Callee),
    /// Stops the launch with a trap.
    Trap,
    /// Yields the core (`nanosleep`).
    Sleep,
    /// Matrix product: `s` registers of A, B and C, `d` those of D.
    Mma(matrix::Mma),
    /// `ldmatrix` of as many matrices as results: `s[0]` row addresses; `x` is 1 for `.trans`.
    LdMatrix(Space),
    /// `stmatrix`: `s[0]` row addresses, then values; `x` as for `LdMatrix`.
    StMatrix(Space),
    /// `movmatrix.trans`.
    MovMatrix,
    /// `wmma.load`: `s[0]` address, `s[1]` stride in elements.
    WmmaLoad(Space, matrix::Fragment),
    /// `wmma.store`: `s[0]` address, `s[1]` stride in elements, then values.
    WmmaStore(Space, matrix::Fragment),
    /// `cp.async` of so many bytes, carried out at once: `s` address in shared memory, source
    /// address, bytes to read (the rest is zero).
    CopyAsync(u8),
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
