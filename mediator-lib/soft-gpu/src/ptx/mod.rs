//! PTX front end: text to a module with resolved names.

pub mod ast;
mod body;
mod lazy;
pub mod lexer;
pub mod link;
pub mod opcodes;
pub mod parser;
pub mod types;
mod variables;

pub use parser::parse;

use ast::Pos;

/// What is wrong with a PTX text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", pos.line, pos.column)]
pub struct PtxError {
    /// Where.
    pub pos: Pos,
    /// What.
    pub message: String,
}

impl PtxError {
    pub(crate) fn new(pos: Pos, message: impl Into<String>) -> Self {
        PtxError {
            pos,
            message: message.into(),
        }
    }
}
