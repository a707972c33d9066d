//! Parser of variables, their initialisers, and parameters.

use super::PtxError;
use super::ast::{Init, InitValue, Linkage, Param, Variable};
use super::lexer::Tok;
use super::parser::{MAX_NESTING, Parser};
use super::types::{Space, Ty};

/// Most bytes one variable may take: the largest array that an `.extern`-less
/// declaration can ask the loader to allocate and zero.
pub const MAX_VARIABLE_BYTES: u64 = 4 << 30;
/// Most bytes of parameters (PTX ISA, `.param`: 32,764 since ISA 8.1).
pub const MAX_PARAM_BYTES: u64 = 32_764;
impl<'a> Parser<'a> {
    /// One declarator with its type prefix: `.align 4 .b8 name[16] = {…}`.
    pub fn variable(
        &mut self,
        space: Space,
        linkage: Linkage,
    ) -> Result<(&'a str, Variable), PtxError> {
        let mut align = 0u64;
        let mut ty = None;
        let mut lanes = 1u64;
        let mut managed = false;
        while self.tok.tok == Tok::Dot {
            let word = &self.text(self.tok)[1..];
            match word {
                "align" => {
                    self.advance()?;
                    let Tok::Int(v) = self.tok.tok else {
                        return self.unexpected("an alignment");
                    };
                    if !v.is_power_of_two() || v > 4096 {
                        return self
                            .error(format!("alignment {v} is not a power of two up to 4096"));
                    }
                    align = v;
                }
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "v8" => lanes = 8,
                "ptr" | "attribute" | "unified" => {}
                _ if Space::parse(word).is_some() => {}
                _ => match Ty::parse(word) {
                    Some(t) => ty = Some(t),
                    None => return self.error(format!("Unknown type '.{word}'")),
                },
            }
            self.advance()?;
            if word == "attribute" {
                self.expect(b'(')?;
                while !self.eat(b')')? {
                    if self.tok.tok == Tok::End {
                        return self.unexpected("')'");
                    }
                    managed |= self.text(self.tok) == ".managed";
                    self.advance()?;
                }
            }
        }
        let Some(ty) = ty else {
            return self.unexpected("a type");
        };
        let (name, pos) = self.ident("a variable name")?;
        let element = u64::from(ty.bytes()) * lanes;
        let mut count = 1u64;
        let mut unsized_array = false;
        while self.eat(b'[')? {
            if self.eat(b']')? {
                unsized_array = true;
                continue;
            }
            let n = self.int_expr()?;
            if !(0..=i128::from(MAX_VARIABLE_BYTES)).contains(&n) {
                return self.error(format!("array size {n} is not in 0..={MAX_VARIABLE_BYTES}"));
            }
            count = count.saturating_mul(n as u64);
            self.expect(b']')?;
        }
        let mut init = Vec::new();
        if self.eat(b'=')? {
            self.initialiser(ty, &mut init, 0)?;
            if unsized_array {
                count = (init.len() as u64).max(1);
                unsized_array = false;
            }
        }
        let bytes = if unsized_array {
            0
        } else {
            element.saturating_mul(count)
        };
        if bytes > MAX_VARIABLE_BYTES {
            return Err(PtxError::new(
                pos,
                format!("variable '{name}' is larger than {MAX_VARIABLE_BYTES} bytes"),
            ));
        }
        let step = u64::from(ty.bytes());
        for (k, item) in init.iter_mut().enumerate() {
            item.offset = k as u64 * step;
            if !unsized_array && item.offset.saturating_add(u64::from(item.bytes)) > bytes {
                return Err(PtxError::new(
                    pos,
                    format!("too many initializers for variable '{name}'"),
                ));
            }
        }
        let align = align.max(element.min(16)).max(1);
        let align = align.next_power_of_two();
        Ok((
            name,
            Variable {
                name: name.to_owned(),
                space,
                align,
                ty,
                bytes,
                init,
                linkage,
                managed,
                pos,
            },
        ))
    }

    fn initialiser(&mut self, ty: Ty, out: &mut Vec<Init>, depth: u32) -> Result<(), PtxError> {
        if depth > MAX_NESTING {
            return self.error("initializer is nested too deeply");
        }
        if self.eat(b'{')? {
            while !self.eat(b'}')? {
                self.initialiser(ty, out, depth + 1)?;
                if !self.eat(b',')? && !self.is(b'}') {
                    return self.unexpected("',' or '}'");
                }
            }
            return Ok(());
        }
        let bytes = ty.bytes();
        let negative = self.eat(b'-')?;
        let value = match self.tok.tok {
            Tok::F32(v) => {
                self.advance()?;
                let v = if negative { v ^ 0x8000_0000 } else { v };
                InitValue::Bits(if ty == Ty::F64 {
                    f64::from(f32::from_bits(v)).to_bits()
                } else {
                    u64::from(v)
                })
            }
            Tok::F64(v) => {
                self.advance()?;
                let v = if negative { v ^ (1 << 63) } else { v };
                let f = f64::from_bits(v);
                InitValue::Bits(if ty == Ty::F32 {
                    u64::from((f as f32).to_bits())
                } else {
                    v
                })
            }
            Tok::Ident => {
                let (mut name, mut pos) = self.ident("a name")?;
                let mut close = false;
                if name == "generic" {
                    self.expect(b'(')?;
                    close = true;
                    (name, pos) = self.ident("a name")?;
                }
                let Some(symbol) = self.module_name(name) else {
                    return Err(PtxError::new(pos, format!("Unknown symbol '{name}'")));
                };
                if close {
                    self.expect(b')')?;
                }
                let mut addend = 0i64;
                if self.is(b'+') || self.is(b'-') {
                    addend = self.signed_tail()?;
                }
                InitValue::Address { symbol, addend }
            }
            _ => {
                let v = self.int_expr()? as u64;
                let v = if negative { v.wrapping_neg() } else { v };
                match ty {
                    Ty::F32 => InitValue::Bits(u64::from((v as i64 as f32).to_bits())),
                    Ty::F64 => InitValue::Bits((v as i64 as f64).to_bits()),
                    _ => InitValue::Bits(v),
                }
            }
        };
        out.push(Init {
            offset: 0,
            bytes,
            value,
        });
        Ok(())
    }

    /// `+ n`, `- n` or `+ -n` after a name.
    pub fn signed_tail(&mut self) -> Result<i64, PtxError> {
        let negative = self.is(b'-');
        self.advance()?;
        let v = self.int_expr()? as i64;
        Ok(if negative { v.wrapping_neg() } else { v })
    }

    /// `(.param .u64 .ptr .align 4 name, …)`.
    pub(super) fn params(&mut self) -> Result<Vec<Param>, PtxError> {
        let mut out: Vec<Param> = Vec::new();
        self.expect(b'(')?;
        let mut offset = 0u64;
        while !self.eat(b')')? {
            let word = self.text(self.tok);
            let register = self.tok.tok == Tok::Dot && word == ".reg";
            if self.tok.tok == Tok::Dot && matches!(word, ".param" | ".reg") {
                self.advance()?;
            }
            // `.ptr .global .align 16` names the pointee's alignment.
            let mut ty_align = None;
            let at = self.tok;
            if at.tok != Tok::Dot {
                return self.unexpected("a parameter");
            }
            let (name, mut var) = self.param_declarator(&mut ty_align)?;
            if let Some(align) = ty_align {
                var.align = align;
            }
            if var.bytes > MAX_PARAM_BYTES {
                return Err(PtxError::new(
                    var.pos,
                    format!("parameter '{name}' is larger than {MAX_PARAM_BYTES} bytes"),
                ));
            }
            offset = offset.next_multiple_of(var.align.max(1));
            out.push(Param {
                name: name.to_owned(),
                bytes: var.bytes as u32,
                offset: offset as u32,
                reg: register.then_some(var.ty),
            });
            offset += var.bytes;
            if offset > MAX_PARAM_BYTES {
                return Err(PtxError::new(
                    var.pos,
                    format!("parameters take more than {MAX_PARAM_BYTES} bytes"),
                ));
            }
            if !self.eat(b',')? && !self.is(b')') {
                return self.unexpected("',' or ')'");
            }
        }
        Ok(out)
    }

    fn param_declarator(
        &mut self,
        own_align: &mut Option<u64>,
    ) -> Result<(&'a str, Variable), PtxError> {
        // A scalar pointer parameter's own alignment is that of its type.
        let is_ptr = {
            let rest = self.src.get(self.tok.start as usize..).unwrap_or("");
            let end = rest.find([',', ')']).unwrap_or(rest.len());
            rest.get(..end).unwrap_or("").contains(".ptr")
        };
        let (name, var) = self.variable(Space::Param, Linkage::Internal)?;
        if is_ptr {
            *own_align = Some(u64::from(var.ty.bytes()));
        }
        Ok((name, var))
    }
}
