//! Parser of function bodies.

use std::collections::HashMap;

use super::PtxError;
use super::ast::{
    Body, Instruction, Linkage, Operand, Param, Pos, RegDecl, Special, Symbol, several,
};
use super::lexer::Tok;
use super::opcodes::is_mnemonic;
use super::parser::{MAX_NESTING, Parser};
use super::types::{Space, Ty};

/// Most registers a function may declare: `.reg .b32 %r<4000000000>` must not
/// make the loader allocate as many.
pub const MAX_REGISTERS: u64 = 1 << 20;

#[derive(Clone, Copy)]
enum Name {
    Reg(u32),
    /// `%r<n>`: first register and count.
    Range(u32, u32),
    Symbol(Symbol),
    Label(u32),
}

/// Names of one function: a stack of scopes.
struct Names<'a> {
    scopes: Vec<HashMap<&'a str, Name>>,
    ranges: Vec<HashMap<&'a str, Name>>,
    labels: HashMap<&'a str, u32>,
    label_uses: Vec<(Pos, &'a str)>,
}

impl<'a> Names<'a> {
    fn find(&self, name: &str) -> Option<Name> {
        for (scope, ranges) in self.scopes.iter().zip(&self.ranges).rev() {
            if let Some(&n) = scope.get(name) {
                return Some(n);
            }
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            if stem.len() < name.len()
                && let Some(&Name::Range(first, count)) = ranges.get(stem)
                && let Ok(k) = name[stem.len()..].parse::<u32>()
                && k < count
            {
                return Some(Name::Reg(first + k));
            }
        }
        None
    }
}

impl<'a> Parser<'a> {
    pub(super) fn body(&mut self, params: &[Param], rets: &[Param]) -> Result<Body, PtxError> {
        let mut body = Body::default();
        let mut names = Names {
            scopes: vec![HashMap::new()],
            ranges: vec![HashMap::new()],
            labels: HashMap::new(),
            label_uses: Vec::new(),
        };
        // Parameter names outlive the parse as owned strings; look them up by position instead.
        let own = (0..).map(Symbol::Param).zip(params);
        let all = own.chain((0..).map(Symbol::Ret).zip(rets));
        let mut formals: HashMap<&str, Name> = HashMap::new();
        for (symbol, p) in all {
            let name = match p.reg {
                Some(ty) => {
                    let r = body.regs.len() as u32;
                    body.regs.push(RegDecl { ty });
                    body.formals.push((symbol, r));
                    Name::Reg(r)
                }
                None => Name::Symbol(symbol),
            };
            formals.insert(&p.name, name);
        }
        self.expect(b'{')?;
        let mut depth = 1u32;
        while depth > 0 {
            match self.tok.tok {
                Tok::Punct(b'{') => {
                    self.advance()?;
                    depth += 1;
                    if depth > MAX_NESTING {
                        return self.error("scopes are nested too deeply");
                    }
                    names.scopes.push(HashMap::new());
                    names.ranges.push(HashMap::new());
                }
                Tok::Punct(b'}') => {
                    depth -= 1;
                    if depth > 0 {
                        self.advance()?;
                        names.scopes.pop();
                        names.ranges.pop();
                    }
                }
                Tok::Punct(b';') => {
                    self.advance()?;
                }
                Tok::Dot => self.body_directive(&mut body, &mut names)?,
                Tok::Ident | Tok::Punct(b'@') => self.statement(&mut body, &mut names, &formals)?,
                _ => return self.unexpected("an instruction"),
            }
        }
        for (pos, name) in &names.label_uses {
            match names.labels.get(name) {
                Some(&l) if body.labels.get(l as usize).copied() != Some(u32::MAX) => {}
                _ => {
                    return Err(PtxError::new(
                        *pos,
                        format!("Label '{name}' is not defined in this function"),
                    ));
                }
            }
        }
        self.advance()?; // the closing brace, last so that module names are usable above
        body.callees.sort_unstable();
        body.callees.dedup();
        body.addressed.sort_unstable();
        body.addressed.dedup();
        body.used_vars.sort_unstable();
        body.used_vars.dedup();
        Ok(body)
    }

    fn label(&mut self, body: &mut Body, names: &mut Names<'a>, name: &'a str) -> u32 {
        *names.labels.entry(name).or_insert_with(|| {
            body.labels.push(u32::MAX);
            body.labels.len() as u32 - 1
        })
    }

    fn body_directive(&mut self, body: &mut Body, names: &mut Names<'a>) -> Result<(), PtxError> {
        match self.text(self.tok) {
            ".reg" => {
                self.advance()?;
                if matches!(self.text(self.tok), ".v2" | ".v4") {
                    return self.error("vector registers are not supported");
                }
                let ty = Ty::parse(self.text(self.tok).trim_start_matches('.'));
                let Some(ty) = ty else {
                    return self.unexpected("a register type");
                };
                self.advance()?;
                loop {
                    let (name, pos) = self.ident("a register name")?;
                    let first = body.regs.len() as u32;
                    let mut count = 1u64;
                    let mut range = false;
                    if self.eat(b'<')? {
                        let Tok::Int(n) = self.tok.tok else {
                            return self.unexpected("a count");
                        };
                        self.advance()?;
                        self.expect(b'>')?;
                        count = n;
                        range = true;
                    }
                    if u64::from(first).saturating_add(count) > MAX_REGISTERS {
                        return Err(PtxError::new(
                            pos,
                            format!("more than {MAX_REGISTERS} registers"),
                        ));
                    }
                    body.regs
                        .resize(first as usize + count as usize, RegDecl { ty });
                    if range {
                        if let Some(scope) = names.ranges.last_mut() {
                            scope.insert(name, Name::Range(first, count as u32));
                        }
                    } else if let Some(scope) = names.scopes.last_mut() {
                        scope.insert(name, Name::Reg(first));
                    }
                    if !self.eat(b',')? {
                        break;
                    }
                }
                self.expect(b';')
            }
            ".local" | ".shared" | ".param" | ".global" | ".const" => {
                let t = self.advance()?;
                let space = Space::parse(&self.text(t)[1..]).unwrap_or(Space::Local);
                loop {
                    let (name, var) = self.variable(space, Linkage::Internal)?;
                    let index = body.vars.len() as u32;
                    body.vars.push(var);
                    if let Some(scope) = names.scopes.last_mut() {
                        scope.insert(name, Name::Symbol(Symbol::Local(index)));
                    }
                    if !self.eat(b',')? {
                        break;
                    }
                }
                self.expect(b';')
            }
            ".loc" | ".file" => self.skip_line(),
            ".section" => self.skip_section(),
            ".pragma" => {
                self.advance()?;
                while !self.eat(b';')? {
                    if self.tok.tok == Tok::End {
                        return self.unexpected("';'");
                    }
                    self.advance()?;
                }
                Ok(())
            }
            other => self.error(format!("Unknown directive '{other}'")),
        }
    }

    fn statement(
        &mut self,
        body: &mut Body,
        names: &mut Names<'a>,
        formals: &HashMap<&str, Name>,
    ) -> Result<(), PtxError> {
        let first = self.tok;
        let mut guard = None;
        if self.eat(b'@')? {
            let negated = self.eat(b'!')?;
            let (name, pos) = self.ident("a predicate")?;
            let Some(Name::Reg(r)) = names.find(name) else {
                return Err(PtxError::new(pos, format!("Unknown symbol '{name}'")));
            };
            if body.regs.get(r as usize).is_none_or(|d| d.ty != Ty::Pred) {
                return Err(PtxError::new(
                    pos,
                    format!("guard '{name}' is not a predicate"),
                ));
            }
            guard = Some((r, negated));
        }
        let (word, pos) = self.ident("an instruction")?;
        if guard.is_none() && self.is(b':') {
            self.advance()?;
            let at = body.insns.len() as u32;
            let label = self.label(body, names, word);
            match body.labels.get_mut(label as usize) {
                Some(slot) if *slot == u32::MAX => *slot = at,
                _ => {
                    return Err(PtxError::new(
                        pos,
                        format!("Duplicate definition of label '{word}'"),
                    ));
                }
            }
            if self.tok.tok == Tok::Dot {
                match self.text(self.tok) {
                    ".branchtargets" | ".calltargets" => {
                        let branches = self.text(self.tok) == ".branchtargets";
                        self.advance()?;
                        let mut list = Vec::new();
                        while self.tok.tok == Tok::Ident {
                            let (name, pos) = self.ident("a label")?;
                            if branches {
                                names.label_uses.push((pos, name));
                                list.push(self.label(body, names, name));
                            }
                            if !self.eat(b',')? {
                                break;
                            }
                        }
                        if branches {
                            body.branch_targets.push((label, list));
                        } else {
                            body.prototypes.push(label);
                        }
                        return self.expect(b';');
                    }
                    ".callprototype" => {
                        while !self.eat(b';')? {
                            if self.tok.tok == Tok::End {
                                return self.unexpected("';'");
                            }
                            self.advance()?;
                        }
                        body.prototypes.push(label);
                        return Ok(());
                    }
                    _ => {}
                }
            }
            return Ok(());
        }
        if !is_mnemonic(word) {
            return Err(PtxError::new(
                pos,
                format!("Parsing error near '{word}': syntax error, not an instruction"),
            ));
        }
        let op_start = pos;
        let start = self.last_end - word.len() as u32;
        while self.tok.tok == Tok::Dot && !self.tok.spaced {
            self.advance()?;
        }
        let opcode = (start, self.last_end);
        let mut operands = Vec::new();
        while !self.is(b';') {
            operands.push(self.operand(body, names, formals, 0)?);
            if !self.eat(b',')? && !self.is(b';') {
                return self.unexpected("',' or ';'");
            }
        }
        self.advance()?;
        let before = body.callees.len();
        for o in &operands {
            note_uses(o, body_lists(&mut body.callees, &mut body.used_vars));
        }
        if word != "call" {
            let named = body.callees.get(before..).unwrap_or_default();
            body.addressed.extend_from_slice(named);
        }
        body.insns.push(Instruction {
            guard,
            opcode,
            text: (first.start, self.last_end),
            operands,
            pos: op_start,
        });
        Ok(())
    }

    fn operand(
        &mut self,
        body: &mut Body,
        names: &mut Names<'a>,
        formals: &HashMap<&str, Name>,
        depth: u32,
    ) -> Result<Operand, PtxError> {
        if depth > 4 {
            return self.error("operand is nested too deeply");
        }
        match self.tok.tok {
            Tok::Punct(b'[') => {
                self.advance()?;
                let base = self.operand(body, names, formals, depth + 1)?;
                let mut offset = 0;
                if self.is(b'+') || self.is(b'-') {
                    offset = self.signed_tail()?;
                }
                if self.eat(b',')? {
                    // A texture or tensor with coordinates: only instructions that are not
                    // executed here have one.
                    let mut list = vec![base, self.operand(body, names, formals, depth + 1)?];
                    while self.eat(b',')? {
                        list.push(self.operand(body, names, formals, depth + 1)?);
                    }
                    self.expect(b']')?;
                    return Ok(Operand::List(list));
                }
                self.expect(b']')?;
                Ok(match base {
                    Operand::Sym(s, o) => {
                        Operand::Mem(Box::new(Operand::Sym(s, 0)), o.wrapping_add(offset))
                    }
                    b => Operand::Mem(Box::new(b), offset),
                })
            }
            Tok::Punct(b @ (b'{' | b'(')) => {
                self.advance()?;
                let close = if b == b'{' { b'}' } else { b')' };
                let mut list = Vec::new();
                while !self.eat(close)? {
                    list.push(self.operand(body, names, formals, depth + 1)?);
                    if !self.eat(b',')? && !self.is(close) {
                        return self.unexpected("',' or a closing bracket");
                    }
                }
                Ok(if b == b'{' {
                    Operand::Vector(list)
                } else {
                    Operand::List(list)
                })
            }
            Tok::Punct(b'!') => {
                self.advance()?;
                match self.operand(body, names, formals, depth + 1)? {
                    Operand::Reg(r) => Ok(Operand::NotReg(r)),
                    _ => self.unexpected("a predicate after '!'"),
                }
            }
            Tok::F32(v) => {
                self.advance()?;
                Ok(Operand::F32(v))
            }
            Tok::F64(v) => {
                self.advance()?;
                Ok(Operand::F64(v))
            }
            Tok::Int(_) | Tok::Punct(b'~') => Ok(Operand::Imm(self.int_expr()? as u64)),
            Tok::Punct(b'-') => {
                let t = self.tok;
                self.advance()?;
                match self.tok.tok {
                    Tok::F32(v) => {
                        self.advance()?;
                        Ok(Operand::F32(v ^ 0x8000_0000))
                    }
                    Tok::F64(v) => {
                        self.advance()?;
                        Ok(Operand::F64(v ^ (1 << 63)))
                    }
                    Tok::Int(_) => Ok(Operand::Imm((self.int_expr()? as u64).wrapping_neg())),
                    Tok::Ident => match self.named_operand(body, names, formals)? {
                        Operand::Reg(reg) => Ok(Operand::Part {
                            reg,
                            part: 6,
                            negate: true,
                        }),
                        Operand::Part { reg, part, .. } => Ok(Operand::Part {
                            reg,
                            part,
                            negate: true,
                        }),
                        _ => self.unexpected("a register after '-'"),
                    },
                    _ => Err(PtxError::new(
                        t.pos,
                        "Parsing error near '-': syntax error, expected a number",
                    )),
                }
            }
            Tok::Ident => self.named_operand(body, names, formals),
            _ => self.unexpected("an operand"),
        }
    }

    fn named_operand(
        &mut self,
        body: &mut Body,
        names: &mut Names<'a>,
        formals: &HashMap<&str, Name>,
    ) -> Result<Operand, PtxError> {
        let (name, pos) = self.ident("an operand")?;
        if name == "_" {
            return Ok(Operand::Sink);
        }
        if name == "WARP_SZ" {
            return Ok(Operand::Imm(32));
        }
        let found = names
            .find(name)
            .or_else(|| formals.get(name).copied())
            .or_else(|| names.labels.get(name).map(|&l| Name::Label(l)))
            .or_else(|| self.module_name(name).map(Name::Symbol));
        match found {
            Some(Name::Reg(r)) => {
                if self.is(b'|') {
                    self.advance()?;
                    let (second, pos) = self.ident("a predicate")?;
                    let right = match names.find(second) {
                        _ if second == "_" => Operand::Sink,
                        Some(Name::Reg(q)) => Operand::Reg(q),
                        _ => return Err(PtxError::new(pos, format!("Unknown symbol '{second}'"))),
                    };
                    return Ok(Operand::Pair(Box::new(Operand::Reg(r)), Box::new(right)));
                }
                if self.tok.tok == Tok::Dot && !self.tok.spaced {
                    let t = self.advance()?;
                    let part = match self.text(t) {
                        ".b0" => 0,
                        ".b1" => 1,
                        ".b2" => 2,
                        ".b3" => 3,
                        ".h0" => 4,
                        ".h1" => 5,
                        other => match several(other) {
                            Some(part) => part,
                            None => {
                                return Err(PtxError::new(
                                    t.pos,
                                    format!("Unknown selector '{other}'"),
                                ));
                            }
                        },
                    };
                    return Ok(Operand::Part {
                        reg: r,
                        part,
                        negate: false,
                    });
                }
                Ok(Operand::Reg(r))
            }
            Some(Name::Symbol(s)) => {
                let offset = if self.is(b'+') || self.is(b'-') {
                    self.signed_tail()?
                } else if self.is(b'[')
                    && let Some(bytes) = self.element_bytes(s, &body.vars)
                {
                    // The address of an element (PTX ISA, "Arrays as Operands").
                    self.advance()?;
                    let index = self.int_expr()? as i64;
                    self.expect(b']')?;
                    index.wrapping_mul(i64::from(bytes))
                } else {
                    0
                };
                Ok(Operand::Sym(s, offset))
            }
            Some(Name::Label(l)) => {
                names.label_uses.push((pos, name));
                Ok(Operand::Label(l))
            }
            Some(Name::Range(..)) | None if name.starts_with('%') => {
                let suffix = if self.tok.tok == Tok::Dot && !self.tok.spaced {
                    let t = self.advance()?;
                    self.text(t)
                } else {
                    ""
                };
                match special(name, suffix) {
                    Some(s) => Ok(Operand::Special(s)),
                    None => Err(PtxError::new(
                        pos,
                        format!("Unknown symbol '{name}{suffix}'"),
                    )),
                }
            }
            _ => {
                // A label that stands further on, or an error found at the end of the body.
                let l = self.label(body, names, name);
                names.label_uses.push((pos, name));
                Ok(Operand::Label(l))
            }
        }
    }
}

fn body_lists<'b>(
    callees: &'b mut Vec<u32>,
    vars: &'b mut Vec<u32>,
) -> (&'b mut Vec<u32>, &'b mut Vec<u32>) {
    (callees, vars)
}

fn note_uses(o: &Operand, lists: (&mut Vec<u32>, &mut Vec<u32>)) {
    let (callees, vars) = lists;
    match o {
        Operand::Sym(Symbol::Function(f), _) => callees.push(*f),
        Operand::Sym(Symbol::Module(v), _) => vars.push(*v),
        Operand::Mem(b, _) => note_uses(b, (callees, vars)),
        Operand::Vector(l) | Operand::List(l) => l
            .iter()
            .for_each(|o| note_uses(o, (&mut *callees, &mut *vars))),
        _ => {}
    }
}

fn special(name: &str, suffix: &str) -> Option<Special> {
    let axis = match suffix {
        ".x" => Some(0),
        ".y" => Some(1),
        ".z" => Some(2),
        _ => None,
    };
    Some(match (name, axis) {
        ("%tid", Some(a)) => Special::Tid(a),
        ("%ntid", Some(a)) => Special::Ntid(a),
        ("%ctaid", Some(a)) => Special::Ctaid(a),
        ("%nctaid", Some(a)) => Special::Nctaid(a),
        ("%clusterid", Some(a)) => Special::Ctaid(a),
        ("%nclusterid", Some(a)) => Special::Nctaid(a),
        ("%cluster_ctaid", Some(_)) => Special::Zero,
        ("%cluster_nctaid", Some(_)) => Special::One,
        _ if !suffix.is_empty() => return None,
        ("%laneid", _) => Special::LaneId,
        ("%warpid", _) => Special::WarpId,
        ("%nwarpid", _) => Special::NWarpId,
        ("%smid", _) => Special::SmId,
        ("%nsmid", _) => Special::NSmId,
        ("%gridid", _) => Special::GridId,
        ("%lanemask_eq", _) => Special::LaneMaskEq,
        ("%lanemask_le", _) => Special::LaneMaskLe,
        ("%lanemask_lt", _) => Special::LaneMaskLt,
        ("%lanemask_ge", _) => Special::LaneMaskGe,
        ("%lanemask_gt", _) => Special::LaneMaskGt,
        ("%clock", _) => Special::Clock,
        ("%clock_hi", _) => Special::ClockHi,
        ("%clock64", _) => Special::Clock64,
        ("%globaltimer", _) => Special::GlobalTimer,
        ("%globaltimer_lo", _) => Special::GlobalTimerLo,
        ("%globaltimer_hi", _) => Special::GlobalTimerHi,
        ("%dynamic_smem_size", _) => Special::DynamicSmemSize,
        ("%total_smem_size" | "%aggr_smem_size", _) => Special::TotalSmemSize,
        ("%cluster_ctarank" | "%is_explicit_cluster", _) => Special::Zero,
        ("%cluster_nctarank", _) => Special::One,
        ("%envreg1", _) => Special::WorkspaceHigh,
        ("%envreg2", _) => Special::WorkspaceLow,
        (n, _)
            if n.starts_with("%pm")
                || n.starts_with("%envreg")
                || n.starts_with("%reserved_smem") =>
        {
            Special::Zero
        }
        _ => return None,
    })
}
