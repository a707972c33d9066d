//! Lowers a parsed PTX function to the intermediate form.

mod arith;
mod bits;
mod builder;
mod call;
mod compare;
mod convert;
mod copy;
mod cvt;
mod decode;
mod half;
mod matrix;
mod memory;
mod modifiers;
mod stack;
mod sync;
mod video;
mod wmma;

use std::collections::HashMap;

pub use builder::Lower;

use crate::ir::Func;
use crate::ir::verify::verify;
use crate::ptx::ast::{Pos, PtxModule};

/// What of the module a function's code depends on.
pub struct Context<'a> {
    /// PTX text.
    pub source: &'a str,
    /// Parsed module.
    pub module: &'a PtxModule,
    /// Device addresses of the module's variables (0 for shared ones).
    pub addresses: &'a [u64],
    /// Offsets of the shared variables: of the module, and of a function.
    pub shared: &'a HashMap<SharedVar, u32>,
    /// Device addresses of variables declared in functions (`static` ones).
    pub locals: &'a HashMap<(u32, u32), u64>,
}

/// A shared variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SharedVar {
    /// Of the module scope.
    Module(u32),
    /// Of a function: function and variable.
    Function(u32, u32),
}

/// Why a function cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", pos.line, pos.column)]
pub struct LowerError {
    /// Where.
    pub pos: Pos,
    /// What.
    pub message: String,
}

/// Most values of one function: bounds the frame of a warp, 256 bytes each.
pub const MAX_VREGS: usize = 1 << 18;

/// Lowers function `index` of the module.
pub fn lower(cx: &Context<'_>, index: u32) -> Result<Func, LowerError> {
    let f = Lower::new(cx, index)?.run()?;
    if f.vregs.len() > MAX_VREGS {
        let pos = cx
            .module
            .functions
            .get(index as usize)
            .map(|f| f.pos)
            .unwrap_or_default();
        return Err(LowerError {
            pos,
            message: format!("unsupported: a function of more than {MAX_VREGS} values"),
        });
    }
    verify(&f).map_err(|site| {
        let site = f.sites.get(site as usize).copied().unwrap_or_default();
        let text = cx
            .source
            .get(site.text.0 as usize..site.text.1 as usize)
            .unwrap_or("");
        LowerError {
            pos: site.pos,
            message: format!("Arguments mismatch for instruction '{text}'"),
        }
    })?;
    Ok(f)
}
