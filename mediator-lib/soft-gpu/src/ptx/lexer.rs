//! Splits PTX text into tokens.

use super::PtxError;
use super::ast::Pos;
use super::lazy::skip;

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tok {
    /// A name, `%` and `$` included. Suffixes follow as [`Tok::Dot`].
    Ident,
    /// `.name`, a directive or a suffix; the text includes the dot.
    Dot,
    /// An integer.
    Int(u64),
    /// `0f…`.
    F32(u32),
    /// `0d…` or a decimal fraction.
    F64(u64),
    /// A string, quotes included.
    Str,
    /// Any other single character.
    Punct(u8),
    /// End of the text.
    End,
}

/// A token with its place.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Kind.
    pub tok: Tok,
    /// First byte.
    pub start: u32,
    /// First byte after it.
    pub end: u32,
    /// Line and column.
    pub pos: Pos,
    /// Whether white space precedes it.
    pub spaced: bool,
}

/// The lexer.
pub struct Lexer<'a> {
    src: &'a [u8],
    at: usize,
    line: u32,
    line_start: usize,
}

fn ident_char(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c == b'$' || c == b'%'
}

impl<'a> Lexer<'a> {
    /// A lexer over `src`.
    pub fn new(src: &'a str) -> Self {
        Lexer {
            src: src.as_bytes(),
            at: 0,
            line: 1,
            line_start: 0,
        }
    }

    /// A lexer over `src` from token `t` on, whose line begins as its column says.
    pub fn from(src: &'a str, t: Token) -> Self {
        let at = t.start as usize;
        Lexer {
            src: src.as_bytes(),
            at,
            line: t.pos.line,
            line_start: (at + 1).saturating_sub(t.pos.column as usize),
        }
    }

    /// Goes to the end of the block whose opening brace was the last token; gives the byte after
    /// it, and whether variables that live as long as the module are declared in it.
    pub fn skip_block(&mut self, open: Pos) -> Result<(u32, bool), PtxError> {
        let end = skip(self.src, self.at, self.line, self.line_start, open)?;
        (self.at, self.line, self.line_start) = (end.at, end.line, end.line_start);
        Ok((end.at as u32, end.statics))
    }

    fn byte(&self, at: usize) -> u8 {
        self.src.get(at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) -> Result<bool, PtxError> {
        let from = self.at;
        loop {
            match self.byte(self.at) {
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.at;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'/' if self.byte(self.at + 1) == b'/' => {
                    while self.at < self.src.len() && self.byte(self.at) != b'\n' {
                        self.at += 1;
                    }
                }
                b'/' if self.byte(self.at + 1) == b'*' => {
                    let pos = self.pos();
                    self.at += 2;
                    while !(self.byte(self.at) == b'*' && self.byte(self.at + 1) == b'/') {
                        if self.at >= self.src.len() {
                            return Err(PtxError::new(pos, "comment is not closed"));
                        }
                        if self.byte(self.at) == b'\n' {
                            self.line += 1;
                            self.line_start = self.at + 1;
                        }
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => return Ok(self.at != from),
            }
        }
    }

    fn pos(&self) -> Pos {
        Pos {
            line: self.line,
            column: (self.at - self.line_start) as u32 + 1,
        }
    }

    /// The next token.
    pub fn next_token(&mut self) -> Result<Token, PtxError> {
        let spaced = self.skip_space()?;
        let (start, pos) = (self.at, self.pos());
        let c = self.byte(start);
        let tok = if start >= self.src.len() {
            Tok::End
        } else if c.is_ascii_digit() {
            self.number(pos)?
        } else if ident_char(c) {
            while ident_char(self.byte(self.at)) {
                self.at += 1;
            }
            Tok::Ident
        } else if c == b'.' && ident_char(self.byte(start + 1)) {
            self.at += 1;
            while ident_char(self.byte(self.at))
                || (self.byte(self.at) == b':'
                    && self.byte(self.at + 1) == b':'
                    && ident_char(self.byte(self.at + 2)))
                || (self.byte(self.at) == b':' && self.byte(self.at - 1) == b':')
            {
                self.at += 1;
            }
            Tok::Dot
        } else if c == b'"' {
            self.at += 1;
            while self.byte(self.at) != b'"' {
                if self.at >= self.src.len() || self.byte(self.at) == b'\n' {
                    return Err(PtxError::new(pos, "string is not closed"));
                }
                self.at += 1;
            }
            self.at += 1;
            Tok::Str
        } else {
            self.at += 1;
            Tok::Punct(c)
        };
        Ok(Token {
            tok,
            start: start as u32,
            end: self.at as u32,
            pos,
            spaced,
        })
    }

    fn number(&mut self, pos: Pos) -> Result<Tok, PtxError> {
        let start = self.at;
        let bad = |what: &str| PtxError::new(pos, format!("{what} is not a number"));
        while self.byte(self.at).is_ascii_alphanumeric() {
            self.at += 1;
        }
        let word = |s: &Self| String::from_utf8_lossy(&s.src[start..s.at]).into_owned();
        let w = word(self);
        let b = w.as_bytes();
        if b.len() == 10 && b[0] == b'0' && (b[1] | 32) == b'f' {
            return u32::from_str_radix(&w[2..], 16)
                .map(Tok::F32)
                .map_err(|_| bad(&w));
        }
        if b.len() == 18 && b[0] == b'0' && (b[1] | 32) == b'd' {
            return u64::from_str_radix(&w[2..], 16)
                .map(Tok::F64)
                .map_err(|_| bad(&w));
        }
        let hex = b.len() > 2 && (b[1] | 32) == b'x';
        let fraction = self.byte(self.at) == b'.' && self.byte(self.at + 1).is_ascii_digit();
        let exponent = !hex
            && matches!(b.last(), Some(b'e' | b'E'))
            && matches!(self.byte(self.at), b'+' | b'-');
        if fraction
            || exponent
            || (!hex && w.contains(['e', 'E']) && b[0].is_ascii_digit() && b.len() > 1)
        {
            if self.byte(self.at) == b'.' {
                self.at += 1;
            }
            while self.byte(self.at).is_ascii_alphanumeric()
                || (matches!(self.byte(self.at), b'+' | b'-')
                    && matches!(self.byte(self.at - 1), b'e' | b'E'))
            {
                self.at += 1;
            }
            let w = word(self);
            return w
                .parse::<f64>()
                .map(|v| Tok::F64(v.to_bits()))
                .map_err(|_| bad(&w));
        }
        let d = w.trim_end_matches(['U', 'u']);
        let value = if let Some(h) = d.strip_prefix("0x").or_else(|| d.strip_prefix("0X")) {
            u64::from_str_radix(h, 16)
        } else if let Some(h) = d.strip_prefix("0b").or_else(|| d.strip_prefix("0B")) {
            u64::from_str_radix(h, 2)
        } else if d.len() > 1 && d.starts_with('0') {
            u64::from_str_radix(&d[1..], 8)
        } else {
            d.parse()
        };
        value.map(Tok::Int).map_err(|_| bad(&w))
    }
}
