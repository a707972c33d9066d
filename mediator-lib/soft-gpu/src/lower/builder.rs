//! Building blocks and operands.

use std::collections::HashMap;

use super::stack::ALLOCA_BYTES;
use super::{Context, LowerError, SharedVar};
use crate::ir::windows::{FUNCTION_STEP, FUNCTION_WINDOW, PARAM_WINDOW};
use crate::ir::{Alu, Block, BlockId, Class, Func, Inst, Op, Site, Source, Term, V, VReg};
use crate::ptx::ast::{Body, Instruction, Operand, PtxFunction, Symbol};
use crate::ptx::types::{Space, Ty};

/// Most bytes of local memory per thread (CUDA C Programming Guide, "Technical
/// Specifications per Compute Capability": 512 KiB).
pub const MAX_LOCAL_BYTES: u64 = 512 << 10;
/// Most 32-bit words of `.param` variables of one function: bounds its frame.
const MAX_PARAM_WORDS: usize = 16_384;

pub type Res<T> = Result<T, LowerError>;

/// The state of lowering one function.
pub struct Lower<'a> {
    pub cx: &'a Context<'a>,
    pub index: u32,
    pub f: &'a PtxFunction,
    pub body: &'a Body,
    pub func: Func,
    pub insn: &'a Instruction,
    pub mods: Vec<&'a str>,
    consts: HashMap<(Class, Source), V>,
    temp: Vec<bool>,
    words: HashMap<Symbol, Vec<V>>,
    local_offsets: Vec<u32>,
    label_blocks: Vec<BlockId>,
    cc: Option<V>,
    /// Upper halves of 128-bit registers.
    pub(super) highs: HashMap<V, V>,
    /// Local memory that `alloca` hands out: where it begins, and the register that says where it goes on.
    pub(super) stack: Option<(u32, V)>,
    /// Where the parameters of a device function lie once their address was taken.
    pub(super) homes: HashMap<Symbol, u32>,
    guard: Option<(V, bool)>,
    current: BlockId,
    open: bool,
    site: u32,
}

fn class_of(ty: Ty) -> Class {
    match ty {
        Ty::Pred => Class::P,
        // The lower half; `Lower::high` has the other.
        _ if ty.bytes() >= 8 => Class::D,
        _ => Class::W,
    }
}

impl<'a> Lower<'a> {
    pub fn new(cx: &'a Context<'a>, index: u32) -> Res<Self> {
        let f = cx.module.functions.get(index as usize);
        let missing = |name: &str| LowerError {
            pos: f.map(|f| f.pos).unwrap_or_default(),
            message: format!("unsupported: function '{name}' has no body"),
        };
        let Some(f) = f else { return Err(missing("?")) };
        let body = match f.parsed() {
            None => return Err(missing(&f.name)),
            Some(Ok(body)) => body,
            Some(Err(e)) => {
                return Err(LowerError {
                    pos: e.pos,
                    message: e.message.clone(),
                });
            }
        };
        let Some(insn) = body.insns.first() else {
            return Err(LowerError {
                pos: f.pos,
                message: format!("function '{}' is empty", f.name),
            });
        };
        let mut l = Lower {
            cx,
            index,
            f,
            body,
            func: Func {
                name: f.name.clone(),
                blocks: Vec::new(),
                vregs: Vec::with_capacity(body.regs.len() + 64),
                params: Vec::new(),
                rets: Vec::new(),
                local_bytes: 0,
                may_wait: false,
                sites: body
                    .insns
                    .iter()
                    .map(|i| Site {
                        pos: i.pos,
                        text: i.text,
                    })
                    .collect(),
            },
            insn,
            mods: Vec::new(),
            consts: HashMap::new(),
            temp: Vec::new(),
            words: HashMap::new(),
            local_offsets: Vec::new(),
            label_blocks: Vec::new(),
            cc: None,
            highs: HashMap::new(),
            stack: None,
            homes: HashMap::new(),
            guard: None,
            current: 0,
            open: false,
            site: 0,
        };
        for r in &body.regs {
            l.new_vreg(class_of(r.ty), Source::Defined, false);
        }
        for (r, decl) in body.regs.iter().enumerate() {
            if decl.ty == Ty::B128 {
                let high = l.new_vreg(Class::D, Source::Defined, false);
                l.highs.insert(r as V, high);
            }
        }
        l.lay_out_variables()?;
        Ok(l)
    }

    fn lay_out_variables(&mut self) -> Res<()> {
        let mut local = 0u64;
        for (i, v) in self.body.vars.iter().enumerate() {
            let mut offset = 0;
            match v.space {
                Space::Local => {
                    local = local.next_multiple_of(v.align.max(1));
                    offset = local as u32;
                    local += v.bytes;
                    if local > MAX_LOCAL_BYTES {
                        return self.fail(format!(
                            "local memory exceeds {MAX_LOCAL_BYTES} bytes per thread"
                        ));
                    }
                }
                Space::Param => self.param_words(Symbol::Local(i as u32), v.bytes)?,
                _ => {}
            }
            self.local_offsets.push(offset);
        }
        self.func.local_bytes = (local as u32).next_multiple_of(16);
        if self.body.insns.iter().any(|i| {
            let opcode = self.cx.source.get(i.opcode.0 as usize..i.opcode.1 as usize);
            opcode.is_some_and(|o| o.starts_with("alloca") || o.starts_with("stack"))
        }) {
            let top = self.new_vreg(Class::D, Source::Defined, false);
            self.stack = Some((self.func.local_bytes, top));
            self.func.local_bytes += ALLOCA_BYTES;
        }
        if !self.f.entry {
            for (i, p) in self.f.params.iter().enumerate() {
                self.param_words(Symbol::Param(i as u32), p.bytes.into())?;
                self.func
                    .params
                    .extend(&self.words[&Symbol::Param(i as u32)]);
            }
            for (i, p) in self.f.rets.iter().enumerate() {
                self.param_words(Symbol::Ret(i as u32), p.bytes.into())?;
                self.func.rets.extend(&self.words[&Symbol::Ret(i as u32)]);
            }
        }
        Ok(())
    }

    fn param_words(&mut self, s: Symbol, bytes: u64) -> Res<()> {
        let n = bytes.div_ceil(4) as usize;
        if self.words.values().map(Vec::len).sum::<usize>() + n > MAX_PARAM_WORDS {
            return self.fail("parameters of calls take too much room");
        }
        let list = (0..n)
            .map(|_| self.new_vreg(Class::W, Source::Defined, false))
            .collect();
        self.words.insert(s, list);
        Ok(())
    }

    pub fn words(&self, s: Symbol) -> Option<&[V]> {
        self.words.get(&s).map(Vec::as_slice)
    }

    pub fn new_vreg(&mut self, class: Class, source: Source, temp: bool) -> V {
        self.func.vregs.push(VReg { class, source });
        self.temp.push(temp);
        self.func.vregs.len() as V - 1
    }

    pub fn tmp(&mut self, class: Class) -> V {
        self.new_vreg(class, Source::Defined, true)
    }

    pub fn constant(&mut self, class: Class, source: Source) -> V {
        if let Some(&v) = self.consts.get(&(class, source)) {
            return v;
        }
        let v = self.new_vreg(class, source, false);
        self.consts.insert((class, source), v);
        v
    }

    pub fn imm(&mut self, class: Class, value: u64) -> V {
        let value = match class {
            Class::P => u64::from(value != 0),
            Class::W => value & 0xffff_ffff,
            Class::D => value,
        };
        self.constant(class, Source::Const(value))
    }

    pub fn class(&self, v: V) -> Class {
        self.func.vregs[v as usize].class
    }

    pub fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(LowerError {
            pos: self.insn.pos,
            message: message.into(),
        })
    }

    pub fn opcode(&self) -> &'a str {
        self.cx
            .source
            .get(self.insn.opcode.0 as usize..self.insn.opcode.1 as usize)
            .unwrap_or("?")
    }

    pub fn unsupported<T>(&self) -> Res<T> {
        self.fail(format!("unsupported instruction '{}'", self.opcode()))
    }

    fn unsupported_message<T>(&self, what: &str) -> Res<T> {
        self.fail(format!("unsupported: {what}"))
    }

    pub fn bad_operands<T>(&self) -> Res<T> {
        self.fail(format!(
            "Arguments mismatch for instruction '{}'",
            self.opcode()
        ))
    }

    pub fn has(&self, m: &str) -> bool {
        self.mods.contains(&m)
    }

    pub fn operand(&self, i: usize) -> Res<&'a Operand> {
        match self.insn.operands.get(i) {
            Some(o) => Ok(o),
            None => self.bad_operands(),
        }
    }

    pub fn count(&self) -> usize {
        self.insn.operands.len()
    }

    // ---- blocks ----

    pub fn new_block(&mut self) -> BlockId {
        self.func.blocks.push(Block {
            insts: Vec::new(),
            term: Term::Exit,
            site: self.site,
        });
        self.func.blocks.len() as BlockId - 1
    }

    pub fn start(&mut self, b: BlockId) {
        if self.open {
            self.finish(Term::Jump(b));
        }
        self.current = b;
        self.open = true;
    }

    pub fn finish(&mut self, term: Term) {
        let site = self.site;
        let b = &mut self.func.blocks[self.current as usize];
        b.term = term;
        b.site = site;
        self.open = false;
    }

    pub fn label_block(&self, label: u32) -> Res<BlockId> {
        match self.label_blocks.get(label as usize) {
            Some(&b) => Ok(b),
            None => self.bad_operands(),
        }
    }

    /// Splits the block so that what follows runs only where the guard holds;
    /// returns the block to continue in.
    pub fn guard_by_branch(&mut self) -> Option<BlockId> {
        let (pred, negated) = self.guard.take()?;
        let inside = self.new_block();
        let after = self.new_block();
        self.finish(Term::Branch {
            pred,
            negated,
            then: inside,
            other: after,
        });
        self.start(inside);
        Some(after)
    }

    pub fn guard(&self) -> Option<(V, bool)> {
        self.guard
    }

    // ---- operations ----

    pub fn push(&mut self, op: Op, d: Vec<V>, s: Vec<V>, x: u32, imm: i64) {
        let pure_temp = matches!(op, Op::Alu(_)) && d.iter().all(|&v| self.temp[v as usize]);
        let guard = if pure_temp { None } else { self.guard };
        let site = self.site;
        self.func.blocks[self.current as usize].insts.push(Inst {
            op,
            guard,
            d,
            s,
            x,
            imm,
            site,
        });
    }

    pub fn alu_to(&mut self, d: V, alu: Alu, s: &[V], x: u32) {
        self.push(Op::Alu(alu), vec![d], s.to_vec(), x, 0);
    }

    pub fn alu(&mut self, alu: Alu, s: &[V], x: u32) -> V {
        let d = self.tmp(alu.result());
        self.alu_to(d, alu, s, x);
        d
    }

    /// A register as a given class: truncated or zero-extended if it is another.
    pub fn as_class(&mut self, v: V, class: Class) -> Res<V> {
        Ok(match (self.class(v), class) {
            (a, b) if a == b => v,
            (Class::D, Class::W) => self.alu(Alu::Trunc32, &[v], 0),
            (Class::W, Class::D) => self.alu(Alu::Zext64, &[v], 0),
            _ => return self.bad_operands(),
        })
    }

    fn address_of(&mut self, s: Symbol, offset: i64) -> Res<V> {
        let constant = |base: u64| base.wrapping_add(offset as u64);
        let value = match s {
            Symbol::Module(i) => match self.cx.module.vars.get(i as usize).map(|v| v.space) {
                Some(Space::Shared) => match self.cx.shared.get(&SharedVar::Module(i)) {
                    Some(&o) => constant(o.into()),
                    None => return self.fail("unresolved shared variable"),
                },
                _ => constant(self.cx.addresses.get(i as usize).copied().unwrap_or(0)),
            },
            Symbol::Local(i) => match self.body.vars.get(i as usize).map(|v| v.space) {
                Some(Space::Shared) => {
                    match self.cx.shared.get(&SharedVar::Function(self.index, i)) {
                        Some(&o) => constant(o.into()),
                        None => return self.fail("unresolved shared variable"),
                    }
                }
                Some(Space::Local) => {
                    let at = i64::from(self.local_offsets.get(i as usize).copied().unwrap_or(0));
                    let d = self.tmp(Class::D);
                    self.push(Op::LocalAddr, vec![d], vec![], 0, at.wrapping_add(offset));
                    return Ok(d);
                }
                Some(Space::Param) => {
                    return self.unsupported_message("the address of a parameter of a call");
                }
                _ => constant(self.cx.locals.get(&(self.index, i)).copied().unwrap_or(0)),
            },
            Symbol::Param(i) if self.f.entry => {
                let at = self.f.params.get(i as usize).map_or(0, |p| p.offset);
                constant(PARAM_WINDOW + u64::from(at))
            }
            Symbol::Param(_) => return self.home(s, offset),
            Symbol::Ret(_) => {
                return self.unsupported_message("the address of a result of a device function");
            }
            Symbol::Function(i) => constant(FUNCTION_WINDOW + u64::from(i) * FUNCTION_STEP),
        };
        Ok(self.imm(Class::D, value))
    }

    /// An operand as a register of the class that `ty` has.
    pub fn src(&mut self, o: &Operand, ty: Ty) -> Res<V> {
        let class = class_of(ty);
        match o {
            Operand::Reg(r) => {
                if class == Class::P && self.class(*r) != Class::P {
                    return self.bad_operands();
                }
                self.as_class(*r, class)
            }
            Operand::NotReg(r) if class == Class::P => Ok(self.alu(Alu::NotP, &[*r], 0)),
            Operand::Imm(v) => {
                let v = match ty {
                    // An integer constant where a float is wanted is its value.
                    Ty::F32 => u64::from((*v as i64 as f32).to_bits()),
                    Ty::F64 => (*v as i64 as f64).to_bits(),
                    _ if ty.bytes() == 2 => *v & 0xffff,
                    _ => *v,
                };
                Ok(self.imm(class, v))
            }
            Operand::F32(v) => {
                let bits = if class == Class::D {
                    f64::from(f32::from_bits(*v)).to_bits()
                } else {
                    u64::from(*v)
                };
                Ok(self.imm(class, bits))
            }
            Operand::F64(v) => {
                let bits = if class == Class::W {
                    u64::from((f64::from_bits(*v) as f32).to_bits())
                } else {
                    *v
                };
                Ok(self.imm(class, bits))
            }
            Operand::Special(s) => {
                use crate::ptx::ast::Special as S;
                let wide = matches!(s, S::Clock64 | S::GlobalTimer | S::GridId);
                let own = if wide { Class::D } else { Class::W };
                let v = match s {
                    S::Zero if class == Class::P => self.imm(Class::P, 0),
                    S::Zero => self.imm(Class::W, 0),
                    S::One => self.imm(Class::W, 1),
                    S::Clock
                    | S::ClockHi
                    | S::Clock64
                    | S::GlobalTimer
                    | S::GlobalTimerLo
                    | S::GlobalTimerHi => {
                        let d = self.tmp(own);
                        self.push(Op::ReadSpecial(*s), vec![d], vec![], 0, 0);
                        d
                    }
                    s => self.constant(own, Source::Special(*s)),
                };
                self.as_class(v, class)
            }
            Operand::Sym(s, offset) => {
                let v = self.address_of(*s, *offset)?;
                self.as_class(v, class)
            }
            _ => self.bad_operands(),
        }
    }

    /// Source operand `i` as `ty`; 16- and 8-bit signed ones are sign-extended.
    pub fn source(&mut self, i: usize, ty: Ty) -> Res<V> {
        let o = self.operand(i)?;
        let v = self.src(o, ty)?;
        Ok(match ty {
            Ty::S16 => self.alu(Alu::Sext16, &[v], 0),
            Ty::S8 => self.alu(Alu::Sext8, &[v], 0),
            _ => v,
        })
    }

    /// Address operand: base register and byte offset.
    pub fn address(&mut self, o: &Operand) -> Res<(V, i64)> {
        let Operand::Mem(base, offset) = o else {
            return self.bad_operands();
        };
        match &**base {
            Operand::Reg(r) if self.class(*r) != Class::P => Ok((*r, *offset)),
            Operand::Imm(v) => Ok((self.imm(Class::D, *v), *offset)),
            Operand::Sym(s, o) => Ok((self.address_of(*s, o.wrapping_add(*offset))?, 0)),
            _ => self.bad_operands(),
        }
    }

    /// The register a result goes to, and whether it needs `settle` afterwards.
    pub fn dst(&mut self, o: &Operand, class: Class) -> Res<V> {
        match o {
            Operand::Reg(r) => {
                let narrow = class == Class::W
                    && self
                        .body
                        .regs
                        .get(*r as usize)
                        .is_some_and(|d| d.ty.bytes() < 4);
                if self.class(*r) == class && !narrow {
                    Ok(*r)
                } else {
                    Ok(self.tmp(class))
                }
            }
            Operand::Sink => Ok(self.tmp(class)),
            Operand::Pair(a, _) => self.dst(a, class),
            _ => self.bad_operands(),
        }
    }

    /// Moves a result from the register `dst` gave to the operand itself, if
    /// they differ: cut to 16 bits, extended or truncated.
    pub fn settle(&mut self, o: &Operand, v: V, signed: bool) -> Res<()> {
        let o = match o {
            Operand::Pair(a, _) => a,
            o => o,
        };
        let Operand::Reg(r) = o else { return Ok(()) };
        if *r == v {
            return Ok(());
        }
        let narrow = self
            .body
            .regs
            .get(*r as usize)
            .is_some_and(|d| d.ty.bytes() < 4);
        let alu = match (self.class(v), self.class(*r)) {
            (Class::W, Class::W) if narrow => Alu::Zext16,
            (Class::W, Class::W) => Alu::Mov32,
            (Class::D, Class::D) => Alu::Mov64,
            (Class::P, Class::P) => Alu::MovP,
            (Class::W, Class::D) => {
                if signed {
                    Alu::Sext64
                } else {
                    Alu::Zext64
                }
            }
            (Class::D, Class::W) => Alu::Trunc32,
            _ => return self.bad_operands(),
        };
        self.alu_to(*r, alu, &[v], 0);
        Ok(())
    }

    /// Emits `alu` to destination operand 0.
    pub fn out(&mut self, alu: Alu, s: &[V], x: u32, signed: bool) -> Res<()> {
        let o = self.operand(0)?;
        let d = self.dst(o, alu.result())?;
        self.alu_to(d, alu, s, x);
        self.settle(o, d, signed)
    }

    /// Moves a value to destination operand 0.
    pub fn out_value(&mut self, v: V, signed: bool) -> Res<()> {
        let o = self.operand(0)?;
        self.settle(o, v, signed)
    }

    /// The carry flag of the function.
    pub fn carry(&mut self) -> V {
        match self.cc {
            Some(v) => v,
            None => {
                let v = self.new_vreg(Class::P, Source::Defined, false);
                self.cc = Some(v);
                v
            }
        }
    }

    // ---- the walk ----

    pub fn run(mut self) -> Res<Func> {
        let body = self.body;
        let mut starts: HashMap<u32, BlockId> = HashMap::new();
        let mut entry = self.new_block();
        if self.stack.is_some() || !body.formals.is_empty() {
            // Before the first instruction, which may be a branch's target.
            self.start(entry);
            if let Some((begin, top)) = self.stack {
                self.push(Op::LocalAddr, vec![top], vec![], 0, begin.into());
            }
            self.take_formals()?;
            entry = self.new_block();
            self.finish(Term::Jump(entry));
        }
        starts.insert(0, entry);
        for &at in &body.labels {
            let b = if at == u32::MAX {
                entry // a label of a list, never a branch target
            } else {
                match starts.get(&at) {
                    Some(&b) => b,
                    None => {
                        let b = self.new_block();
                        starts.insert(at, b);
                        b
                    }
                }
            };
            self.label_blocks.push(b);
        }
        for (i, insn) in body.insns.iter().enumerate() {
            self.insn = insn;
            self.site = i as u32;
            if let Some(&b) = starts.get(&(i as u32)) {
                self.start(b);
            } else if !self.open {
                let b = self.new_block();
                self.start(b);
            }
            let mut parts = self.opcode().split('.');
            let name = parts.next().unwrap_or("");
            self.mods = parts.collect();
            self.guard = insn.guard;
            self.decode(name)?;
            self.guard = None;
        }
        if let Some(&b) = starts.get(&(body.insns.len() as u32)) {
            self.start(b);
        }
        if self.open {
            self.give_formals();
            self.finish(Term::Return);
        }
        // The first block must not be a branch target, so that it runs once.
        Ok(self.func)
    }

    /// Replaces the guard by a copy, for instructions that write several registers.
    pub fn copy_guard(&mut self) {
        if let Some((p, n)) = self.guard {
            let t = self.alu(Alu::MovP, &[p], 0);
            self.guard = Some((t, n));
        }
    }
}
