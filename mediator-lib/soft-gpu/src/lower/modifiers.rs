//! The modifiers that each instruction may have. One that is not known here changes what an
//! instruction does in a way that is not implemented: it must be refused, not ignored.

use super::builder::Lower;
use super::matrix::shape;
use crate::ir::matrix::{Element, Sum};
use crate::ptx::types::{Space, Ty};

const ROUND: &[&str] = &["rn", "rz", "rm", "rp"];
const COMPARE: &[&str] = &[
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu",
    "geu", "num", "nan", "and", "or", "xor", "ftz",
];
const MEMORY: &[&str] = &[
    "weak", "volatile", "relaxed", "acquire", "release", "acq_rel", "sc", "mmio", "cta", "cluster",
    "gpu", "sys", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "v2", "v4", "v8", "unified",
];
const ATOMIC: &[&str] = &[
    "add", "and", "or", "xor", "exch", "cas", "inc", "dec", "min", "max", "noftz",
];

/// Lists of the modifiers of an instruction; none where lowering checks them itself.
fn allowed(name: &str) -> Option<[&'static [&'static str]; 2]> {
    const NONE: &[&str] = &[];
    Some(match name {
        "add" | "sub" => [ROUND, &["ftz", "sat", "cc"]],
        "mul" | "mad" | "fma" => [ROUND, &["ftz", "sat", "relu", "hi", "lo", "wide", "cc"]],
        "addc" | "subc" | "madc" => [NONE, &["cc", "hi", "lo"]],
        "mul24" | "mad24" => [NONE, &["hi", "lo", "sat"]],
        "div" | "sqrt" | "rcp" | "rsqrt" => [ROUND, &["approx", "full", "ftz"]],
        "sin" | "cos" | "ex2" | "lg2" | "tanh" => [NONE, &["approx", "ftz"]],
        "abs" | "neg" => [NONE, &["ftz"]],
        "min" | "max" => [NONE, &["ftz", "NaN", "xorsign", "abs", "relu"]],
        "rem" | "sad" | "copysign" | "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr"
        | "popc" | "clz" | "brev" | "bfe" | "bfi" | "dp4a" | "fns" | "mov" | "selp"
        | "activemask" | "isspacep" | "mapa" | "getctarank" => [NONE, NONE],
        "testp" => [
            NONE,
            &[
                "finite",
                "infinite",
                "number",
                "notanumber",
                "normal",
                "subnormal",
            ],
        ],
        "shf" => [NONE, &["l", "r", "wrap", "clamp"]],
        "bmsk" | "szext" => [NONE, &["wrap", "clamp"]],
        "lop3" => [NONE, &["and", "or"]],
        "bfind" => [NONE, &["shiftamt"]],
        "prmt" => [NONE, &["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]],
        "dp2a" => [NONE, &["lo", "hi"]],
        "setp" | "set" => [COMPARE, NONE],
        "slct" => [NONE, &["ftz"]],
        "cvta" => [NONE, &["to"]],
        "cvt" => [
            ROUND,
            &[
                "rna",
                "rni",
                "rzi",
                "rmi",
                "rpi",
                "ftz",
                "sat",
                "satfinite",
                "relu",
                "pack",
                "u4",
                "s4",
                "u2",
                "s2",
            ],
        ],
        "ld" | "ldu" | "st" => [MEMORY, NONE],
        "atom" | "red" => [MEMORY, ATOMIC],
        "shfl" => [NONE, &["sync", "up", "down", "bfly", "idx"]],
        "vote" => [NONE, &["sync", "all", "any", "uni", "ballot"]],
        "match" => [NONE, &["sync", "any", "all"]],
        "redux" => [NONE, &["sync", "add", "min", "max", "and", "or", "xor"]],
        "elect" => [NONE, &["sync"]],
        "bar" | "barrier" => [
            &[
                "cta", "cluster", "warp", "sync", "arrive", "wait", "red", "aligned",
            ],
            &["popc", "and", "or", "acquire", "release", "relaxed"],
        ],
        "bra" | "ret" | "exit" | "call" | "brx" => [NONE, &["uni", "idx"]],
        "mma" => [
            &[
                "sync",
                "aligned",
                "row",
                "col",
                "sp",
                "sp::ordered_metadata",
            ],
            &["satfinite", "and", "xor", "popc"],
        ],
        "wmma" => [
            &[
                "sync", "aligned", "row", "col", "load", "store", "mma", "a", "b", "c", "d",
            ],
            &["satfinite", "and", "xor", "popc", "rn"],
        ],
        "ldmatrix" | "stmatrix" | "movmatrix" => [
            NONE,
            &["sync", "aligned", "m8n8", "x1", "x2", "x4", "trans"],
        ],
        "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" => [NONE, &["sat", "add", "min", "max"]],
        "vadd2" | "vsub2" | "vavrg2" | "vabsdiff2" | "vmin2" | "vmax2" | "vadd4" | "vsub4"
        | "vavrg4" | "vabsdiff4" | "vmin4" | "vmax4" => [NONE, &["sat", "add"]],
        "vset2" | "vset4" => [&["eq", "ne", "lt", "le", "gt", "ge"], &["add"]],
        "vshl" | "vshr" => [NONE, &["sat", "add", "min", "max", "clamp", "wrap"]],
        "vset" => [COMPARE, &["add", "min", "max"]],
        "vmad" => [NONE, &["sat", "shr7", "shr15", "po"]],
        _ => return None,
    })
}

impl Lower<'_> {
    /// Whether every modifier of the instruction is one that is implemented.
    pub(super) fn modifiers_known(&self, name: &str) -> bool {
        let Some([first, second]) = allowed(name) else {
            return true;
        };
        let matrix = matches!(name, "mma" | "wmma");
        self.mods.iter().all(|m| {
            first.contains(m)
                || second.contains(m)
                || Ty::parse(m).is_some()
                || Space::parse(m).is_some()
                || m.starts_with("L1::")
                || m.starts_with("L2::")
                || (matrix
                    && (shape(m).is_some()
                        || Element::parse(m).is_some()
                        || Sum::parse(m).is_some()))
        })
    }
}
