//! Bodies of functions, parsed when they are first asked for: a module of thousands of kernels
//! loads by a scan for the ends of their bodies.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::PtxError;
use super::ast::{Body, Param, Pos, PtxFunction, Symbol};
use super::lexer::Token;

/// What the bodies of a module are parsed from.
#[derive(Debug, Default)]
pub struct Text {
    /// The whole PTX text.
    pub source: Arc<String>,
    /// Names of the module scope, once it was parsed to its end.
    pub names: OnceLock<HashMap<Box<str>, Symbol>>,
    /// Sizes of the elements of the module's variables, at the same time.
    pub elements: OnceLock<Vec<u32>>,
}

/// The body of a function, parsed or not.
#[derive(Clone, Debug)]
pub struct LazyBody {
    pub(super) text: Arc<Text>,
    /// Its opening brace.
    pub(super) open: Token,
    /// Whether it seems to declare variables that live as long as the module.
    pub(super) statics: bool,
    pub(super) parsed: OnceLock<Result<Body, PtxError>>,
}

impl LazyBody {
    fn get(&self, params: &[Param], rets: &[Param]) -> Result<&Body, &PtxError> {
        self.parsed
            .get_or_init(|| super::parser::parse_body(&self.text, self.open, params, rets))
            .as_ref()
    }
}

impl PtxFunction {
    /// Whether it is defined here, as opposed to declared.
    pub fn defined(&self) -> bool {
        self.body.is_some()
    }

    /// Its body; none for a declaration, and for a body that has an error.
    pub fn body(&self) -> Option<&Body> {
        self.parsed()?.ok()
    }

    /// Its body or what is wrong with it; none for a declaration.
    pub fn parsed(&self) -> Option<Result<&Body, &PtxError>> {
        let body = self.body.as_ref()?;
        Some(body.get(&self.params, &self.rets))
    }

    /// Replaces its body.
    pub(super) fn set_body(&mut self, body: Body) {
        if let Some(lazy) = &mut self.body {
            lazy.parsed = OnceLock::from(Ok(body));
        }
    }

    /// Whether it may declare variables that live as long as the module.
    pub fn has_statics(&self) -> bool {
        self.body.as_ref().is_some_and(|b| b.statics)
    }
}

/// End of a block, found without looking at what is in it.
pub(super) struct Skipped {
    /// First byte after the closing brace.
    pub at: usize,
    /// Line of that byte, from 1, and where the line begins.
    pub line: u32,
    pub line_start: usize,
    /// Whether a declaration in `.global` or `.const` stands in it.
    pub statics: bool,
}

/// Looks for the closing brace of a block whose opening one lies before `at`.
pub(super) fn skip(
    src: &[u8],
    mut at: usize,
    mut line: u32,
    mut line_start: usize,
    open: Pos,
) -> Result<Skipped, PtxError> {
    let unclosed = |what: &str| PtxError::new(open, what.to_owned());
    let mut depth = 1u32;
    let mut statics = false;
    while let Some(&c) = src.get(at) {
        match c {
            b'\n' => {
                line += 1;
                line_start = at + 1;
            }
            b'{' => depth = depth.saturating_add(1),
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Skipped {
                        at: at + 1,
                        line,
                        line_start,
                        statics,
                    });
                }
            }
            b'.' if matches!(src.get(at + 1), Some(b'g' | b'c')) => {
                let rest = src.get(at + 1..).unwrap_or(&[]);
                let before = at.checked_sub(1).and_then(|k| src.get(k));
                statics |= before.is_some_and(u8::is_ascii_whitespace)
                    && (rest.starts_with(b"global") || rest.starts_with(b"const"));
            }
            b'/' if src.get(at + 1) == Some(&b'/') => {
                let rest = src.get(at..).unwrap_or(&[]);
                at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                continue;
            }
            b'/' if src.get(at + 1) == Some(&b'*') => {
                let from = at + 2;
                let rest = src.get(from..).unwrap_or(&[]);
                let Some(n) = rest.windows(2).position(|w| w == b"*/") else {
                    return Err(unclosed("comment is not closed"));
                };
                for (k, _) in rest
                    .iter()
                    .enumerate()
                    .take(n)
                    .filter(|(_, b)| **b == b'\n')
                {
                    line += 1;
                    line_start = from + k + 1;
                }
                at = from + n + 2;
                continue;
            }
            b'"' => {
                let rest = src.get(at + 1..).unwrap_or(&[]);
                match rest.iter().position(|&b| b == b'"' || b == b'\n') {
                    Some(n) if rest.get(n) == Some(&b'"') => at += n + 1,
                    _ => return Err(unclosed("string is not closed")),
                }
            }
            _ => {}
        }
        at += 1;
    }
    let end = Pos {
        line,
        column: (at - line_start) as u32 + 1,
    };
    Err(PtxError::new(
        end,
        "Parsing error near 'the end': syntax error, expected '}'",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_at_their_brace() {
        let src = b"{ a; { b } // }\n /* } \n */ .pragma \"}\"; ld.global.u32 x; } after";
        let s = skip(src, 1, 1, 0, Pos::default()).unwrap();
        assert_eq!(&src[s.at..], b" after");
        assert_eq!((s.line, s.line_start), (3, 23));
        assert!(!s.statics);
        assert!(
            skip(b"{ .global .b32 x; }", 1, 1, 0, Pos::default())
                .unwrap()
                .statics
        );
        for bad in [&b"{ {}"[..], b"{ /* }", b"{ \"}", b"{"] {
            assert!(skip(bad, 1, 1, 0, Pos::default()).is_err());
        }
    }
}
