//! Emits executable code from the intermediate form: as reference code, in
//! which every register is a vector and every result is blended, or as
//! optimised code for one block size.

mod function;
mod fuse;
mod matrix;
mod operations;

use std::collections::HashMap;

use crate::exec::alu::Isa;
use crate::exec::insn::Program;
use crate::ir::Func;

/// Which code to emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every register a vector, every result blended.
    Reference,
    /// For blocks of these dimensions.
    Optimised([u32; 3]),
}

/// Emits a kernel (the first function) and all it calls. Functions come with
/// their index in the module. An error is a mistake of ours: no code may run that trusts it.
pub fn emit(functions: &[(u32, Func)], mode: Mode, isa: Isa) -> Result<Program, String> {
    let positions: HashMap<u32, u32> = functions
        .iter()
        .enumerate()
        .map(|(at, (index, _))| (*index, at as u32))
        .collect();
    let mut p = Program {
        has_calls: functions.len() > 1,
        may_wait: functions.iter().any(|(_, f)| f.may_wait),
        ..Program::default()
    };
    for (at, (index, f)) in functions.iter().enumerate() {
        let code = function::emit(&mut p, f, *index, at == 0, mode, isa, &positions)?;
        p.functions.push(code);
    }
    Ok(p)
}
