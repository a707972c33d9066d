//! Parser of the module scope: directives, variables, function headers.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::PtxError;
use super::ast::{Body, Linkage, Param, Pos, PtxFunction, PtxModule, Symbol, Variable};
use super::lazy::{LazyBody, Text};
use super::lexer::{Lexer, Tok, Token};
use super::types::Space;

/// Deepest nesting of `{ … }`, which stops a stack overflow by nested scopes.
pub const MAX_NESTING: u32 = 64;

pub(super) struct Parser<'a> {
    pub src: &'a str,
    lexer: Lexer<'a>,
    pub tok: Token,
    pub last_end: u32,
    pub module: PtxModule,
    pub module_names: HashMap<&'a str, Symbol>,
    text: &'a Arc<Text>,
}

/// Parses the module scope of a PTX text; bodies are parsed when they are asked for.
pub fn parse(source: &Arc<String>) -> Result<PtxModule, PtxError> {
    let text = Arc::new(Text {
        source: source.clone(),
        names: OnceLock::new(),
        elements: OnceLock::new(),
    });
    let mut p = Parser::new(&text, Lexer::new(source))?;
    p.module_scope()?;
    let names = p.module_names.iter();
    let names = names.map(|(name, s)| ((*name).into(), *s)).collect();
    let module = p.module;
    let elements = module.vars.iter().map(|var| var.ty.bytes()).collect();
    let _ = text.elements.set(elements);
    let _ = text.names.set(names);
    Ok(module)
}

/// Parses a body that begins at token `open`.
pub(super) fn parse_body(
    text: &Arc<Text>,
    open: Token,
    params: &[Param],
    rets: &[Param],
) -> Result<Body, PtxError> {
    Parser::new(text, Lexer::from(&text.source, open))?.body(params, rets)
}

impl<'a> Parser<'a> {
    fn new(text: &'a Arc<Text>, mut lexer: Lexer<'a>) -> Result<Self, PtxError> {
        let tok = lexer.next_token()?;
        Ok(Parser {
            src: &text.source,
            lexer,
            tok,
            last_end: 0,
            module: PtxModule::default(),
            module_names: HashMap::new(),
            text,
        })
    }

    /// What a name of the module scope stands for.
    pub fn module_name(&self, name: &str) -> Option<Symbol> {
        let all = || self.text.names.get()?.get(name).copied();
        self.module_names.get(name).copied().or_else(all)
    }

    /// Bytes of an element of a variable.
    pub fn element_bytes(&self, symbol: Symbol, locals: &[Variable]) -> Option<u32> {
        match symbol {
            Symbol::Local(i) => Some(locals.get(i as usize)?.ty.bytes()),
            Symbol::Module(i) => self.text.elements.get()?.get(i as usize).copied(),
            _ => None,
        }
    }

    /// Skips a body.
    fn later(&mut self) -> Result<LazyBody, PtxError> {
        let open = self.tok;
        let (end, statics) = self.lexer.skip_block(open.pos)?;
        self.advance()?;
        self.last_end = end;
        Ok(LazyBody {
            text: self.text.clone(),
            open,
            statics,
            parsed: OnceLock::new(),
        })
    }

    pub fn advance(&mut self) -> Result<Token, PtxError> {
        let t = self.tok;
        self.last_end = t.end;
        self.tok = self.lexer.next_token()?;
        Ok(t)
    }

    pub fn text(&self, t: Token) -> &'a str {
        self.src.get(t.start as usize..t.end as usize).unwrap_or("")
    }

    pub fn error<T>(&self, message: impl Into<String>) -> Result<T, PtxError> {
        Err(PtxError::new(self.tok.pos, message))
    }

    pub fn unexpected<T>(&self, wanted: &str) -> Result<T, PtxError> {
        let near = if self.tok.tok == Tok::End {
            "the end"
        } else {
            self.text(self.tok)
        };
        self.error(format!(
            "Parsing error near '{near}': syntax error, expected {wanted}"
        ))
    }

    pub fn is(&self, c: u8) -> bool {
        self.tok.tok == Tok::Punct(c)
    }

    pub fn eat(&mut self, c: u8) -> Result<bool, PtxError> {
        let yes = self.is(c);
        if yes {
            self.advance()?;
        }
        Ok(yes)
    }

    pub fn expect(&mut self, c: u8) -> Result<(), PtxError> {
        if self.eat(c)? {
            Ok(())
        } else {
            self.unexpected(&format!("'{}'", c as char))
        }
    }

    pub fn ident(&mut self, what: &str) -> Result<(&'a str, Pos), PtxError> {
        if self.tok.tok != Tok::Ident {
            return self.unexpected(what);
        }
        let t = self.advance()?;
        Ok((self.text(t), t.pos))
    }

    /// A constant integer expression: numbers, unary minus, `+ - * << |`, parentheses.
    pub fn int_expr(&mut self) -> Result<i128, PtxError> {
        self.int_sum(0)
    }

    fn int_sum(&mut self, depth: u32) -> Result<i128, PtxError> {
        let mut v = self.int_term(depth)?;
        loop {
            if self.eat(b'+')? {
                v += self.int_term(depth)?;
            } else if self.eat(b'-')? {
                v -= self.int_term(depth)?;
            } else if self.eat(b'*')? {
                let r = self.int_term(depth)?;
                v = i128::from((v as i64).wrapping_mul(r as i64));
            } else {
                // Values are 64 bits wide: keep what an i64 or a u64 can hold.
                return Ok(if v < 0 {
                    i128::from(v as i64)
                } else {
                    i128::from(v as u64)
                });
            }
        }
    }

    fn int_term(&mut self, depth: u32) -> Result<i128, PtxError> {
        if depth > MAX_NESTING {
            return self.error("expression is nested too deeply");
        }
        match self.tok.tok {
            Tok::Int(v) => {
                self.advance()?;
                Ok(i128::from(v))
            }
            Tok::Punct(b'-') => {
                self.advance()?;
                Ok(-self.int_term(depth + 1)?)
            }
            Tok::Punct(b'+') => {
                self.advance()?;
                self.int_term(depth + 1)
            }
            Tok::Punct(b'~') => {
                self.advance()?;
                Ok(i128::from(!(self.int_term(depth + 1)? as i64)))
            }
            Tok::Punct(b'(') => {
                self.advance()?;
                if self.tok.tok == Tok::Dot {
                    self.advance()?; // a cast such as (.s64): values are 64 bits wide here
                    self.expect(b')')?;
                    return self.int_term(depth + 1);
                }
                let v = self.int_sum(depth + 1)?;
                self.expect(b')')?;
                Ok(v)
            }
            _ => self.unexpected("an integer"),
        }
    }

    fn module_scope(&mut self) -> Result<(), PtxError> {
        if !(self.tok.tok == Tok::Dot && self.text(self.tok) == ".version") {
            return self.error("Missing .version directive at start of file");
        }
        loop {
            match self.tok.tok {
                Tok::End => return Ok(()),
                Tok::Dot => self.module_directive()?,
                Tok::Punct(b'@') => self.skip_line()?,
                Tok::Punct(b';') => {
                    self.advance()?;
                }
                _ => return self.unexpected("a directive"),
            }
        }
    }

    /// Skips what is left of the current line (`.loc`, `.file`, `@@DWARF`).
    pub fn skip_line(&mut self) -> Result<(), PtxError> {
        let line = self.tok.pos.line;
        while self.tok.tok != Tok::End && self.tok.pos.line == line {
            self.advance()?;
        }
        Ok(())
    }

    fn module_directive(&mut self) -> Result<(), PtxError> {
        match self.text(self.tok) {
            ".version" => {
                self.advance()?;
                // "8.5" lexes as one fraction.
                let t = self.advance()?;
                let text = self.text(t);
                let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
                match (major.parse(), minor.parse()) {
                    (Ok(a), Ok(b)) => self.module.version = (a, b),
                    _ => {
                        return Err(PtxError::new(
                            t.pos,
                            format!("'{text}' is not a PTX version"),
                        ));
                    }
                }
            }
            ".target" => {
                self.advance()?;
                loop {
                    let (name, pos) = self.ident("a target")?;
                    if let Some(sm) = name.strip_prefix("sm_") {
                        let digits = sm.trim_end_matches(['a', 'f']);
                        self.module.target = digits.parse().map_err(|_| {
                            PtxError::new(pos, format!("'{name}' is not a target architecture"))
                        })?;
                    }
                    if !self.eat(b',')? {
                        break;
                    }
                }
            }
            ".address_size" => {
                self.advance()?;
                if self.tok.tok != Tok::Int(64) {
                    return self.error("address size must be 64");
                }
                self.advance()?;
            }
            ".file" | ".loc" => self.skip_line()?,
            ".pragma" => {
                self.advance()?;
                while !self.eat(b';')? {
                    if self.tok.tok == Tok::End {
                        return self.unexpected("';'");
                    }
                    self.advance()?;
                }
            }
            ".section" => self.skip_section()?,
            _ => self.declaration()?,
        }
        Ok(())
    }

    pub fn skip_section(&mut self) -> Result<(), PtxError> {
        while !self.is(b'{') {
            if self.tok.tok == Tok::End {
                return self.unexpected("'{'");
            }
            self.advance()?;
        }
        while !self.is(b'}') {
            if self.tok.tok == Tok::End {
                return self.unexpected("'}'");
            }
            self.advance()?;
        }
        self.advance()?;
        Ok(())
    }

    fn declaration(&mut self) -> Result<(), PtxError> {
        let mut linkage = Linkage::Internal;
        loop {
            if self.tok.tok != Tok::Dot {
                return self.unexpected("a directive");
            }
            let word = self.text(self.tok);
            match word {
                ".extern" => linkage = Linkage::Extern,
                ".visible" => linkage = Linkage::Visible,
                ".weak" => linkage = Linkage::Weak,
                ".common" => linkage = Linkage::Common,
                ".entry" | ".func" => return self.function(word == ".entry", linkage),
                ".global" | ".const" | ".shared" => return self.module_variable(linkage),
                ".alias" => {
                    self.advance()?;
                    let (name, pos) = self.ident("a name")?;
                    self.expect(b',')?;
                    let (aliasee, apos) = self.ident("a name")?;
                    self.expect(b';')?;
                    let target = self.module_names.get(aliasee).copied();
                    let Some(target) = target else {
                        return Err(PtxError::new(apos, format!("Unknown symbol '{aliasee}'")));
                    };
                    if let Symbol::Function(f) = target {
                        self.module.aliases.push((name.to_owned(), f));
                    }
                    let declared = |s: Symbol| match s {
                        Symbol::Function(i) => {
                            let f = self.module.functions.get(i as usize);
                            s == target || f.is_some_and(|f| f.body.is_none())
                        }
                        _ => false,
                    };
                    let old = self.module_names.get(name).copied();
                    if old.is_none() {
                        self.module_names.insert(name, target);
                    }
                    if !old.is_none_or(declared) {
                        return Err(PtxError::new(
                            pos,
                            format!("Duplicate definition of '{name}'"),
                        ));
                    }
                    return Ok(());
                }
                _ => return self.error(format!("Unknown directive '{word}'")),
            }
            self.advance()?;
        }
    }

    fn module_variable(&mut self, linkage: Linkage) -> Result<(), PtxError> {
        let t = self.advance()?;
        let space = Space::parse(&self.text(t)[1..]).unwrap_or(Space::Global);
        loop {
            let (name, var) = self.variable(space, linkage)?;
            self.add_module_variable(name, var)?;
            if !self.eat(b',')? {
                break;
            }
        }
        self.expect(b';')
    }

    fn add_module_variable(&mut self, name: &'a str, var: Variable) -> Result<(), PtxError> {
        if let Some(&Symbol::Module(old)) = self.module_names.get(name)
            && let Some(slot) = self.module.vars.get_mut(old as usize)
            && (slot.linkage == Linkage::Extern || var.linkage == Linkage::Extern)
        {
            if slot.linkage == Linkage::Extern {
                *slot = var;
            }
            return Ok(());
        }
        let index = self.module.vars.len() as u32;
        if self
            .module_names
            .insert(name, Symbol::Module(index))
            .is_some()
        {
            return Err(PtxError::new(
                var.pos,
                format!("Duplicate definition of variable '{name}'"),
            ));
        }
        self.module.vars.push(var);
        Ok(())
    }

    fn function(&mut self, entry: bool, linkage: Linkage) -> Result<(), PtxError> {
        self.advance()?;
        while self.tok.tok == Tok::Dot && self.text(self.tok) == ".attribute" {
            self.advance()?;
            self.expect(b'(')?;
            while !self.eat(b')')? {
                if self.tok.tok == Tok::End {
                    return self.unexpected("')'");
                }
                self.advance()?;
            }
        }
        let rets = if self.is(b'(') {
            self.params()?
        } else {
            Vec::new()
        };
        let (name, pos) = self.ident("a function name")?;
        let params = if self.is(b'(') {
            self.params()?
        } else {
            Vec::new()
        };
        let mut max_threads = 0u32;
        while self.tok.tok == Tok::Dot {
            let word = self.text(self.tok);
            self.advance()?;
            match word {
                ".maxntid" | ".reqntid" => {
                    let mut product = 1u64;
                    loop {
                        product = product.saturating_mul(self.int_expr()?.clamp(0, 1 << 31) as u64);
                        if !self.eat(b',')? {
                            break;
                        }
                    }
                    max_threads = product.min(u64::from(u32::MAX)) as u32;
                }
                ".minnctapersm"
                | ".maxnctapersm"
                | ".maxnreg"
                | ".maxclusterrank"
                | ".abi_preserve"
                | ".abi_preserve_control" => {
                    self.int_expr()?;
                }
                ".reqnctapercluster" => loop {
                    self.int_expr()?;
                    if !self.eat(b',')? {
                        break;
                    }
                },
                ".noreturn" | ".explicitcluster" | ".blocksareclusters" => {}
                ".pragma" => {
                    self.advance()?;
                    self.expect(b';')?;
                }
                _ => return Err(PtxError::new(pos, format!("Unknown directive '{word}'"))),
            }
        }
        let index = match self.module_names.get(name) {
            Some(&Symbol::Function(i)) => i,
            Some(_) => {
                return Err(PtxError::new(
                    pos,
                    format!("Duplicate definition of '{name}'"),
                ));
            }
            None => {
                let i = self.module.functions.len() as u32;
                self.module.functions.push(PtxFunction {
                    name: name.to_owned(),
                    entry,
                    params: Vec::new(),
                    rets: Vec::new(),
                    linkage,
                    max_threads: 0,
                    body: None,
                    pos,
                });
                self.module_names.insert(name, Symbol::Function(i));
                i
            }
        };
        let body = if self.is(b'{') {
            Some(self.later()?)
        } else {
            self.eat(b';')?;
            None
        };
        let Some(f) = self.module.functions.get_mut(index as usize) else {
            return Ok(());
        };
        if body.is_some() && f.body.is_some() {
            return Err(PtxError::new(
                pos,
                format!("Duplicate definition of function '{name}'"),
            ));
        }
        if body.is_some() || f.body.is_none() {
            f.params = params;
            f.rets = rets;
            f.max_threads = max_threads.max(f.max_threads);
            f.linkage = linkage;
            f.pos = pos;
        }
        if body.is_some() {
            f.body = body;
        }
        Ok(())
    }
}
