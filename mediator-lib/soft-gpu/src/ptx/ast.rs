//! The parsed form of a PTX module. Names are resolved to indices while
//! parsing, so later stages never look a string up.

use super::lazy::LazyBody;
use super::types::{Space, Ty};

/// A position in the PTX text, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column, in bytes.
    pub column: u32,
}

/// What a symbol operand names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// A variable of the module ([`PtxModule::vars`]).
    Module(u32),
    /// A variable of the function ([`Body::vars`]).
    Local(u32),
    /// A formal parameter of the function.
    Param(u32),
    /// A return parameter of the function.
    Ret(u32),
    /// A function of the module ([`PtxModule::functions`]).
    Function(u32),
}

/// Registers that the machine defines (PTX ISA, "Special Registers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    Clock,
    ClockHi,
    Clock64,
    GlobalTimer,
    GlobalTimerLo,
    GlobalTimerHi,
    DynamicSmemSize,
    TotalSmemSize,
    /// Upper and lower half of the address of a cooperative grid's workspace: `%envreg1`, `%envreg2`.
    WorkspaceHigh,
    WorkspaceLow,
    /// Registers that read as zero here: cluster ids, `%pm`, other `%envreg`.
    Zero,
    /// Registers that read as one here: cluster sizes.
    One,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register of the function ([`Body::regs`]).
    Reg(u32),
    /// `!%p`.
    NotReg(u32),
    /// `%r.b1`, `-%r.h0`: a part of a register, as video instructions take it.
    Part {
        /// Register.
        reg: u32,
        /// 0 to 3 a byte, 4 and 5 a half, 6 all of it; else several: [`several`].
        part: u32,
        /// Whether it is negated.
        negate: bool,
    },
    /// A special register.
    Special(Special),
    /// An integer constant.
    Imm(u64),
    /// A `0f…` constant.
    F32(u32),
    /// A `0d…` or decimal floating-point constant.
    F64(u64),
    /// The address of a symbol plus a byte offset.
    Sym(Symbol, i64),
    /// `[base+offset]`.
    Mem(Box<Operand>, i64),
    /// `{a, b, …}`.
    Vector(Vec<Operand>),
    /// `(a, b, …)`, arguments of a call.
    List(Vec<Operand>),
    /// `p|q`.
    Pair(Box<Operand>, Box<Operand>),
    /// A label, as an index into [`Body::labels`].
    Label(u32),
    /// `_`.
    Sink,
}

/// `.h10`, `.b3210`: several parts of registers as [`Operand::Part`] holds them. The number of digits is in the highest
/// four bits, then a bit for halves, and the digits in the lowest 16, the last one lowest.
pub fn several(suffix: &str) -> Option<u32> {
    let digits = suffix.get(2..)?;
    let halves = match suffix.get(..2)? {
        ".h" => 1 << 27,
        ".b" => 0,
        _ => return None,
    };
    if !(2..=4).contains(&digits.len()) {
        return None;
    }
    let mut part = (digits.len() as u32) << 28 | halves;
    for (k, d) in digits.bytes().rev().enumerate() {
        part |= match d {
            b'0'..=b'7' => u32::from(d - b'0') << (4 * k),
            _ => return None,
        };
    }
    Some(part)
}

/// A register declaration.
#[derive(Clone, Copy, Debug)]
pub struct RegDecl {
    /// Declared type.
    pub ty: Ty,
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// Guard predicate: register, and whether it is negated.
    pub guard: Option<(u32, bool)>,
    /// Byte range of the opcode with its suffixes in the source.
    pub opcode: (u32, u32),
    /// Byte range of the whole instruction in the source.
    pub text: (u32, u32),
    /// Operands.
    pub operands: Vec<Operand>,
    /// Where it stands.
    pub pos: Pos,
}

/// One initialiser item.
#[derive(Clone, Debug)]
pub struct Init {
    /// Byte offset in the variable.
    pub offset: u64,
    /// Bytes of the item.
    pub bytes: u32,
    /// Its value.
    pub value: InitValue,
}

/// Value of an initialiser item.
#[derive(Clone, Copy, Debug)]
pub enum InitValue {
    /// Bits.
    Bits(u64),
    /// The address of a symbol plus an offset; `generic` as `generic(name)` says.
    Address {
        /// Which symbol.
        symbol: Symbol,
        /// Bytes added.
        addend: i64,
    },
}

/// Who sees a name (PTX ISA, "Linking Directives").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linkage {
    /// Its own module.
    #[default]
    Internal,
    /// Every module: `.visible`.
    Visible,
    /// Every module that has no other definition: `.weak`.
    Weak,
    /// Every module; the largest definition counts: `.common`.
    Common,
    /// Another module defines it: `.extern`.
    Extern,
}

/// A variable.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Name.
    pub name: String,
    /// State space.
    pub space: Space,
    /// Alignment in bytes.
    pub align: u64,
    /// Element type.
    pub ty: Ty,
    /// Size in bytes; 0 for an unsized `.extern .shared` array.
    pub bytes: u64,
    /// Initialiser; what it leaves out is zero.
    pub init: Vec<Init>,
    /// Who sees it.
    pub linkage: Linkage,
    /// `.attribute(.managed)`: it lies where the host's program reaches it, too.
    pub managed: bool,
    /// Where it stands.
    pub pos: Pos,
}

/// A formal or return parameter.
#[derive(Clone, Debug)]
pub struct Param {
    /// Name.
    pub name: String,
    /// Size in bytes.
    pub bytes: u32,
    /// Byte offset in the parameter block.
    pub offset: u32,
    /// The type of one that is a register: `.func (.reg .u32 r) f (.reg .u32 a)`.
    pub reg: Option<Ty>,
}

/// The body of a function.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Registers of all scopes.
    pub regs: Vec<RegDecl>,
    /// Variables of all scopes (`.shared`, `.local`, `.param`, …).
    pub vars: Vec<Variable>,
    /// Instructions.
    pub insns: Vec<Instruction>,
    /// Index of the instruction each label stands before.
    pub labels: Vec<u32>,
    /// `.branchtargets` lists: label index of the list, then its labels.
    pub branch_targets: Vec<(u32, Vec<u32>)>,
    /// `.calltargets` and `.callprototype` labels.
    pub prototypes: Vec<u32>,
    /// Functions called or whose address is taken.
    pub callees: Vec<u32>,
    /// Functions whose address is taken.
    pub addressed: Vec<u32>,
    /// Module variables that are named.
    pub used_vars: Vec<u32>,
    /// Parameters that are registers: the parameter, and its register.
    pub formals: Vec<(Symbol, u32)>,
}

/// A function: `.entry` or `.func`.
#[derive(Clone, Debug)]
pub struct PtxFunction {
    /// Name.
    pub name: String,
    /// Whether it is an `.entry`.
    pub entry: bool,
    /// Formal parameters.
    pub params: Vec<Param>,
    /// Return parameters.
    pub rets: Vec<Param>,
    /// Who sees it.
    pub linkage: Linkage,
    /// `.maxntid` or `.reqntid` as a product, 0 when absent.
    pub max_threads: u32,
    /// Body, or none for a declaration.
    pub body: Option<LazyBody>,
    /// Where it stands.
    pub pos: Pos,
}

/// A module.
#[derive(Clone, Debug, Default)]
pub struct PtxModule {
    /// `.version`, major and minor.
    pub version: (u32, u32),
    /// `.target`, for example 75.
    pub target: u32,
    /// Variables of the module scope.
    pub vars: Vec<Variable>,
    /// Functions.
    pub functions: Vec<PtxFunction>,
    /// Other names of functions: `.alias`.
    pub aliases: Vec<(String, u32)>,
}
