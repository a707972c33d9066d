//! Emits single operations.

use super::function::{BLANK, Emitter};
use crate::analysis::shapes::{Shape, wrap_guard};
use crate::exec::access::{self, Form};
use crate::exec::alu::{pair_handler, vector_handler};
use crate::exec::insn::{CallSite, Handler, Insn, Kind, NONE};
use crate::exec::matrix::{self, What};
use crate::exec::memory::{small, space_number};
use crate::exec::{atomics, fast, system, warp_ops};
use crate::ir::{BarKind, Callee, Class, Inst, Op};

impl Emitter<'_> {
    pub(super) fn inst(&mut self, i: &Inst) {
        match i.op {
            Op::Alu(alu) => {
                let d = i.d[0];
                let mut s = [0u32; 4];
                if let Some(_stride) = self
                    .stride(d)
                    .filter(|_| alu.result() != Class::P || self.pair_operands(i))
                {
                    if let Some((v, stride, signed)) = wrap_guard(alu, i, &self.shapes.of) {
                        let d = [0, 0, self.block as u32, self.inst_index];
                        let s = [self.pair(v), 0, 0, 0];
                        self.plain(
                            i,
                            Insn {
                                run: warp_ops::guard_affine,
                                s,
                                d,
                                imm: stride,
                                x: signed.into(),
                                ..BLANK
                            },
                        );
                    }
                    for (k, &v) in i.s.iter().enumerate() {
                        s[k] = self.pair(v);
                    }
                    self.plain(
                        i,
                        Insn {
                            run: pair_handler(alu),
                            d: [self.pair(d), 0, 0, 0],
                            s,
                            x: i.x,
                            ..BLANK
                        },
                    );
                    self.splat(i, d);
                } else {
                    for (k, &v) in i.s.iter().enumerate() {
                        s[k] = self.vec(v);
                    }
                    let masked = self.masked(i);
                    let run = vector_handler(alu, self.isa);
                    self.plain(
                        i,
                        Insn {
                            run,
                            d: [self.vec(d), 0, 0, 0],
                            s,
                            x: i.x,
                            masked,
                            ..BLANK
                        },
                    );
                }
            }
            Op::Ld(a) => self.access(i, a, true),
            Op::St(a) => self.access(i, a, false),
            Op::Atom(space, op, ty) => {
                let mut s = [0u32; 4];
                for (k, &v) in i.s.iter().enumerate() {
                    s[k] = self.vec(v);
                }
                let d = [i.d.first().map_or(0, |&d| self.vec(d)), 0, 0, 0];
                let x = atomics::encode(op, ty, !i.d.is_empty());
                let mut small = space_number(space);
                if self.class(i.s[0]) == Class::W {
                    small |= small::ADDR32;
                }
                let cache = self.cache();
                self.plain(
                    i,
                    Insn {
                        run: atomics::handler(ty),
                        d,
                        s,
                        x,
                        imm: i.imm,
                        small,
                        cache,
                        ..BLANK
                    },
                );
            }
            Op::Atom128(space) => {
                let mut s = [0u32; 4];
                for (slot, &v) in s.iter_mut().zip(&i.s) {
                    *slot = self.vec(v);
                }
                let last = i.s.get(4).map_or(0, |&v| self.vec(v));
                let d = [self.vec(i.d[0]), self.vec(i.d[1]), last, 0];
                let mut small = space_number(space);
                if self.class(i.s[0]) == Class::W {
                    small |= small::ADDR32;
                }
                let cache = self.cache();
                self.plain(
                    i,
                    Insn {
                        run: atomics::atom128,
                        d,
                        s,
                        x: u32::from(i.s.len() == 5),
                        imm: i.imm,
                        small,
                        cache,
                        ..BLANK
                    },
                );
            }
            Op::Shfl(m) => self.warp_op(i, warp_ops::shfl, warp_ops::shfl_number(m)),
            Op::Vote(m) => self.warp_op(i, warp_ops::vote, warp_ops::vote_number(m)),
            Op::Match(all) => {
                let wide = self.class(i.s[0]) == Class::D;
                self.warp_op(
                    i,
                    warp_ops::matching,
                    u32::from(all) | (u32::from(wide) << 1),
                );
            }
            Op::Redux(o) => self.warp_op(i, warp_ops::redux, warp_ops::redux_number(o)),
            Op::WarpSync => self.warp_op(i, warp_ops::warp_sync, 0),
            Op::ActiveMask => self.warp_op(i, warp_ops::activemask, 0),
            Op::ReadSpecial(s) => {
                self.warp_op(i, warp_ops::read_special, warp_ops::special_number(s))
            }
            Op::LocalAddr => self.warp_op(i, warp_ops::local_addr, 0),
            Op::Sleep => self.warp_op(i, warp_ops::sleep, 0),
            Op::System(call) => {
                let mut s = [0u32; 4];
                for (slot, &v) in s.iter_mut().zip(&i.s) {
                    *slot = self.vec(v);
                }
                let d = [i.d.first().map_or(0, |&d| self.vec(d)), 0, 0, 0];
                let cache = self.cache();
                self.p.system |= 1 << call as u32;
                let run = system::handler(call);
                self.plain(
                    i,
                    Insn {
                        run,
                        d,
                        s,
                        cache,
                        ..BLANK
                    },
                );
            }
            Op::Fence => self.warp_op(i, warp_ops::fence, 0),
            Op::Trap => {
                self.push(Insn {
                    kind: Kind::Trap,
                    x: i.x,
                    site: self.site_base + i.site,
                    ..BLANK
                });
            }
            Op::Mma(m) => self.mma(i, m),
            Op::LdMatrix(space) => self.matrix_memory(i, matrix::ldmatrix, space, &i.d, None),
            Op::StMatrix(space) => self.matrix_memory(i, matrix::stmatrix, space, &i.s[1..], None),
            Op::MovMatrix => self.warp_op(i, matrix::movmatrix, 0),
            Op::WmmaLoad(space, fragment) => {
                let what = Some(What::Fragment(fragment));
                self.matrix_memory(i, matrix::wmma_load, space, &i.d, what);
            }
            Op::WmmaStore(space, fragment) => {
                let what = Some(What::Fragment(fragment));
                self.matrix_memory(i, matrix::wmma_store, space, &i.s[2..], what);
            }
            Op::CopyAsync(bytes) => self.copy_async(i, bytes),
            Op::Bar(kind) => self.barrier(i, kind),
            Op::Call(callee) => self.call(i, callee),
        }
    }

    fn pair_operands(&self, i: &Inst) -> bool {
        i.s.iter()
            .all(|&s| self.class(s) == Class::P || self.has_pair(s))
    }

    /// An operation of a warp: sources as vectors, results by their shape.
    fn warp_op(&mut self, i: &Inst, run: Handler, x: u32) {
        let mut s = [0u32; 4];
        for (k, &v) in i.s.iter().enumerate() {
            s[k] = self.vec(v);
        }
        let mut d = [NONE; 4];
        let mut count = 0;
        for (k, &v) in i.d.iter().enumerate() {
            let pair = self.class(v) != Class::P && self.stride(v).is_some();
            d[k] = if pair { self.pair(v) } else { self.vec(v) };
            count |= u8::from(pair);
        }
        let masked = self.masked(i);
        let imm = match i.op {
            Op::Shfl(_) | Op::Vote(_) | Op::Match(_) | Op::Redux(_) | Op::WarpSync => {
                // Where to go on in the reference code, and what lanes exchange there.
                (d[2], d[3]) = (self.block as u32, self.inst_index);
                self.classes(i)
            }
            _ => i.imm,
        };
        self.plain(
            i,
            Insn {
                run,
                d,
                s,
                x,
                imm,
                count,
                masked,
                ..BLANK
            },
        );
        for &v in &i.d {
            self.splat(i, v);
        }
    }

    /// Classes of sources (from bit 0) and results (from bit 8), two bits each.
    fn classes(&self, i: &Inst) -> i64 {
        let bits = |v: u32| match self.class(v) {
            Class::W => 1,
            Class::D => 2,
            Class::P => 3,
        };
        let sources = i.s.iter().enumerate().map(|(k, &v)| bits(v) << (2 * k));
        let results = i.d.iter().enumerate().map(|(k, &v)| bits(v) << (8 + 2 * k));
        sources.chain(results).sum()
    }

    fn access(&mut self, i: &Inst, a: crate::ir::Access, load: bool) {
        let form = match (load, self.stride(i.s[0])) {
            (true, _) => self.load_form(i),
            (false, Some(_)) => Form::Affine,
            (false, None) => Form::Vector,
        };
        let address = i.s[0];
        let mut small = space_number(a.space);
        if a.signed {
            small |= small::SIGNED;
        }
        if self.class(address) == Class::W {
            small |= small::ADDR32;
        }
        if self.shape(address) == Shape::Uniform {
            small |= small::UNIFORM;
        }
        let mut d = [0u32; 4];
        for (k, &v) in if load { &i.d[..] } else { &i.s[1..] }
            .iter()
            .enumerate()
            .take(4)
        {
            d[k] = if form == Form::Pair {
                self.pair(v)
            } else {
                self.vec(v)
            };
        }
        let s0 = if form == Form::Vector {
            self.vec(address)
        } else {
            self.pair(address)
        };
        let cache = self.cache();
        let stride = self.stride(address).unwrap_or(0) as i32;
        let fast = if form == Form::Affine {
            fast::handler(a, load, stride.into(), self.isa)
        } else {
            None
        };
        let run = fast.unwrap_or_else(|| access::handler(a, load, form, self.isa));
        self.plain(
            i,
            Insn {
                run,
                d,
                s: [s0, 0, 0, 0],
                x: stride as u32,
                imm: i.imm,
                small,
                cache,
                count: a.count,
                masked: true,
                ..BLANK
            },
        );
        if form == Form::Pair {
            for &v in &i.d {
                self.splat(i, v);
            }
        }
    }

    fn barrier(&mut self, i: &Inst, kind: BarKind) {
        let red = matches!(kind, BarKind::RedPopc | BarKind::RedAnd | BarKind::RedOr);
        let plain = if red {
            &i.s[..i.s.len().saturating_sub(1)]
        } else {
            &i.s[..]
        };
        let slot = |k: usize| plain.get(k).map_or(NONE, |&v| self.vec(v));
        let pred = if red {
            i.s.last().map_or(NONE, |&v| self.vec(v))
        } else {
            NONE
        };
        let s = [slot(0), slot(1), pred, 0];
        let d = [
            i.d.first().map_or(NONE, |&v| {
                if self.has_pair(v) {
                    self.pair(v)
                } else {
                    self.vec(v)
                }
            }),
            0,
            self.block as u32,
            self.inst_index,
        ];
        let pair =
            i.d.first()
                .is_some_and(|&v| self.class(v) != Class::P && self.has_pair(v));
        let x = match kind {
            BarKind::Sync => 0,
            BarKind::Arrive => 1,
            BarKind::RedPopc => 2,
            BarKind::RedAnd => 3,
            BarKind::RedOr => 4,
        };
        let site = self.site_base + i.site;
        self.push(Insn {
            kind: Kind::Barrier,
            s,
            d,
            x,
            count: u8::from(pair),
            site,
            ..BLANK
        });
        for &v in &i.d {
            self.splat(i, v);
        }
    }

    fn call(&mut self, i: &Inst, callee: Callee) {
        let (target, pointer, args) = match callee {
            Callee::Direct(f) => (
                self.positions.get(&f).copied().unwrap_or(NONE - 1),
                NONE,
                &i.s[..],
            ),
            Callee::Indirect => (NONE, self.vec(i.s[0]), &i.s[1..]),
        };
        let args = args.iter().map(|&v| self.vec(v)).collect();
        let rets = i.d.iter().map(|&v| self.vec(v)).collect();
        let x = self.p.calls.len() as u32;
        let site = self.site_base + i.site;
        let pc = self.push(Insn {
            kind: Kind::Call,
            x,
            site,
            ..BLANK
        }) as u32;
        self.p.calls.push(CallSite {
            target,
            pointer,
            args,
            rets,
            pc,
            return_pc: pc + 1,
        });
        if callee == Callee::Indirect {
            self.push(Insn {
                kind: Kind::Join,
                ..BLANK
            });
        }
    }
}
