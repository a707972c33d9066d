//! Which registers hold one value per warp, or an arithmetic series over the
//! lanes of each half-warp, and which definitions must be blended.
//!
//! A fixpoint over the function for one block size. A definition under
//! divergence must be blended only if lanes that wait (at the place where lanes
//! meet, or at a sibling path's start) may still read the register.

use super::cfg::Cfg;
use super::liveness::{Bits, live_in};
use crate::ir::{Alu, Class, Func, Inst, Op, Source, Term, V};
use crate::ptx::ast::Special;
use crate::ptx::types::Space;

/// What is known of a register's lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No definition seen yet.
    Unknown,
    /// One value.
    Uniform,
    /// `base(half) + stride * (lane % 16)`.
    Affine(i64),
    /// Anything.
    Varying,
}

impl Shape {
    fn join(self, o: Shape) -> Shape {
        match (self, o) {
            (Shape::Unknown, s) | (s, Shape::Unknown) => s,
            (a, b) if a == b => a,
            (Shape::Uniform, Shape::Affine(0)) | (Shape::Affine(0), Shape::Uniform) => {
                Shape::Affine(0)
            }
            _ => Shape::Varying,
        }
    }

    /// Stride, if the value is held as two bases.
    pub fn stride(self) -> Option<i64> {
        match self {
            Shape::Uniform => Some(0),
            Shape::Affine(s) => Some(s),
            _ => None,
        }
    }
}

/// The result.
pub struct Shapes {
    /// Shape of each register.
    pub of: Vec<Shape>,
    /// Registers live at the start of each block and at the end; none if everything is blended.
    pub live: Vec<Bits>,
    /// Registers whose definitions in a block must be blended.
    waits: Vec<Bits>,
    /// Everything is blended.
    all_masked: bool,
}

/// Steps of the analysis (blocks squared times registers in words of 64) above which
/// a function runs in reference form: a hostile kernel must not keep the
/// loader busy for long, nor make it hold a set of registers per block.
const MAX_STEPS: usize = 1 << 30;

/// Whether a function has more blocks and registers than is analysed.
pub fn is_large(f: &Func) -> bool {
    let blocks = f.blocks.len();
    let steps = blocks
        .saturating_mul(blocks)
        .saturating_mul(f.vregs.len() / 64 + 1);
    steps > MAX_STEPS
}

impl Shapes {
    /// Nothing is known, everything is blended.
    pub fn reference(f: &Func) -> Shapes {
        Shapes {
            of: vec![Shape::Varying; f.vregs.len()],
            live: Vec::new(),
            waits: Vec::new(),
            all_masked: true,
        }
    }

    /// Whether a definition of `v` in block `b` must be blended.
    pub fn masked(&self, b: usize, v: V) -> bool {
        self.all_masked || self.waits.get(b).is_none_or(|w| w.has(v))
    }

    /// What lanes that wait may still read while others run each block; nothing if that is not known.
    pub fn waiting(&self) -> Option<&[Bits]> {
        (!self.all_masked).then_some(&self.waits)
    }

    /// Analyses a function for a block size; `kernel` says whether it is an entry.
    pub fn new(f: &Func, cfg: &Cfg, ntid: [u32; 3], kernel: bool) -> Shapes {
        if is_large(f) {
            return Shapes::reference(f);
        }
        let live = live_in(f, cfg);
        let mut of: Vec<Shape> = f
            .vregs
            .iter()
            .map(|v| match v.source {
                Source::Defined => Shape::Unknown,
                Source::Const(_) | Source::Param(..) => Shape::Uniform,
                Source::Special(s) => special(s, ntid),
            })
            .collect();
        if !kernel {
            for &p in &f.params {
                of[p as usize] = Shape::Varying;
            }
        }
        let mut waits = vec![Bits::new(f.vregs.len()); f.blocks.len()];
        let mut divergent = vec![false; f.blocks.len()];
        let mut settle = |of: &mut [Shape], waits: &mut [Bits]| {
            let mut changed = true;
            while changed {
                changed = false;
                for (b, block) in f.blocks.iter().enumerate() {
                    let v = match &block.term {
                        Term::Branch { pred, .. } => *pred,
                        Term::Switch { index, .. } => *index,
                        _ => continue,
                    };
                    if !divergent[b] && !matches!(of[v as usize], Shape::Unknown | Shape::Uniform) {
                        divergent[b] = true;
                        changed = true;
                        note_waits(cfg, &live, b, &block.term, waits);
                    }
                }
                for (b, block) in f.blocks.iter().enumerate() {
                    for i in &block.insts {
                        let own = transfer(f, of, i);
                        let guarded = i.guard.is_some_and(|(g, _)| {
                            !matches!(of[g as usize], Shape::Unknown | Shape::Uniform)
                        });
                        for &d in &i.d {
                            let s = if guarded || waits[b].has(d) {
                                Shape::Varying
                            } else {
                                own
                            };
                            let new = of[d as usize].join(s);
                            if new != of[d as usize] {
                                of[d as usize] = new;
                                changed = true;
                            }
                        }
                    }
                }
            }
        };
        settle(&mut of, &mut waits);
        // Registers that nothing defines. What is made of them is settled anew: a result that has a definition
        // of another kind must not be a series of what is none.
        let unknown = |s: &&mut Shape| **s == Shape::Unknown;
        let mut undefined = of.iter_mut().filter(unknown).peekable();
        if undefined.peek().is_some() {
            undefined.for_each(|s| *s = Shape::Varying);
            settle(&mut of, &mut waits);
        }
        Shapes {
            of,
            live,
            waits,
            all_masked: false,
        }
    }
}

/// Marks what the blocks under a divergent branch must preserve.
fn note_waits(cfg: &Cfg, live: &[Bits], b: usize, term: &Term, waits: &mut [Bits]) {
    let meet = cfg.ipdom[b];
    let mut spread = |start: u32, keep: &[u32]| {
        let mut seen = vec![false; cfg.succ.len()];
        let mut work = vec![start];
        while let Some(x) = work.pop() {
            if x == meet || seen[x as usize] {
                continue;
            }
            seen[x as usize] = true;
            if let Some(w) = waits.get_mut(x as usize) {
                for &k in keep {
                    w.union(&live[k as usize]);
                }
            }
            work.extend(&cfg.succ[x as usize]);
        }
    };
    match term {
        Term::Branch { then, other, .. } if *then != meet && *other != meet => {
            // Lanes that branch run first; the others wait at their start.
            spread(*then, &[meet, *other]);
            spread(*other, &[meet]);
        }
        Term::Branch { then, other, .. } => {
            spread(*then, &[meet]);
            spread(*other, &[meet]);
        }
        Term::Switch { targets, .. } => {
            let mut keep = targets.clone();
            keep.push(meet);
            keep.sort_unstable();
            keep.dedup();
            for &t in targets {
                spread(t, &keep);
            }
        }
        _ => {}
    }
}

fn special(s: Special, ntid: [u32; 3]) -> Shape {
    let [x, y, z] = ntid.map(u64::from);
    let line = y == 1 && z == 1;
    let rows = |n: u64| {
        if n.is_multiple_of(32) {
            Shape::Uniform
        } else if n.is_multiple_of(16) {
            Shape::Affine(0)
        } else {
            Shape::Varying
        }
    };
    match s {
        Special::Tid(0) if x == 1 => Shape::Uniform,
        Special::Tid(0) if line || x.is_multiple_of(16) => Shape::Affine(1),
        Special::Tid(0) => Shape::Varying,
        Special::Tid(1) if y == 1 => Shape::Uniform,
        Special::Tid(1) => rows(x),
        Special::Tid(_) if z == 1 => Shape::Uniform,
        Special::Tid(_) => rows(x * y),
        Special::LaneId => Shape::Affine(1),
        Special::LaneMaskEq
        | Special::LaneMaskLe
        | Special::LaneMaskLt
        | Special::LaneMaskGe
        | Special::LaneMaskGt => Shape::Varying,
        _ => Shape::Uniform,
    }
}

fn const_of(f: &Func, v: V) -> Option<u64> {
    match f.vregs[v as usize].source {
        Source::Const(c) => Some(c),
        _ => None,
    }
}

fn affine(stride: i64, class: Class) -> Shape {
    let stride = if class == Class::W {
        i64::from(stride as i32)
    } else {
        stride
    };
    if i32::try_from(stride).is_ok() {
        Shape::Affine(stride)
    } else {
        Shape::Varying
    }
}

fn transfer(f: &Func, of: &[Shape], i: &Inst) -> Shape {
    let shape = |k: usize| of[i.s[k] as usize];
    match i.op {
        Op::Alu(alu) => {
            let mut all = Shape::Uniform;
            for k in 0..i.s.len() {
                match shape(k) {
                    Shape::Unknown => return Shape::Unknown,
                    Shape::Varying => return Shape::Varying,
                    Shape::Affine(0) if all == Shape::Uniform => all = Shape::Affine(0),
                    Shape::Affine(s) if s != 0 => return linear(f, of, alu, i),
                    _ => {}
                }
            }
            all
        }
        // One address of these spaces, or of a generic address that may lie in one, is another
        // place for each thread.
        Op::Ld(a) if matches!(a.space, Space::Local | Space::Param | Space::Generic) => {
            Shape::Varying
        }
        // Results of a load through one address (per half) are one value (per half).
        Op::Ld(_) if i.d.iter().any(|&d| of[d as usize] == Shape::Varying) => Shape::Varying,
        Op::Ld(_) => match shape(0) {
            Shape::Uniform => Shape::Uniform,
            Shape::Affine(0) => Shape::Affine(0),
            Shape::Unknown => Shape::Unknown,
            _ => Shape::Varying,
        },
        // One result for all lanes that name the same ones.
        Op::Vote(_) | Op::Redux(_) if i.s.len() > 1 => match shape(1) {
            s @ (Shape::Uniform | Shape::Unknown) => s,
            _ => Shape::Varying,
        },
        Op::LocalAddr | Op::Vote(_) | Op::ActiveMask | Op::Redux(_) | Op::ReadSpecial(_) => {
            Shape::Uniform
        }
        _ => Shape::Varying,
    }
}

/// Shape of an operation with at least one operand of a stride other than 0.
fn linear(f: &Func, of: &[Shape], alu: Alu, i: &Inst) -> Shape {
    let stride = |k: usize| of[i.s[k] as usize].stride();
    let scaled = |a: usize, b: usize, signed: bool| -> Option<i64> {
        let times = |s: i64, v: V, other: Option<i64>| {
            if s == 0 && other == Some(0) {
                return Some(0);
            }
            let c = const_of(f, v)?;
            let c = if signed {
                i64::from(c as u32 as i32)
            } else {
                c as i64
            };
            s.checked_mul(c)
        };
        let (sa, sb) = (stride(a)?, stride(b)?);
        if sa == 0 && sb == 0 {
            Some(0)
        } else if sb == 0 {
            times(sa, i.s[b], Some(sb))
        } else if sa == 0 {
            times(sb, i.s[a], Some(sa))
        } else {
            None
        }
    };
    let s = (|| {
        Some(match alu {
            Alu::Mov32 | Alu::Mov64 | Alu::Zext64 | Alu::Sext64 | Alu::Trunc32 => stride(0)?,
            Alu::AddI32 | Alu::AddI64 => stride(0)?.checked_add(stride(1)?)?,
            Alu::SubI32 | Alu::SubI64 => stride(0)?.checked_sub(stride(1)?)?,
            Alu::NegI32 | Alu::NegI64 => stride(0)?.checked_neg()?,
            Alu::MulLo32 | Alu::MulWideS32 => scaled(0, 1, true)?,
            Alu::MulLo64 | Alu::MulWideU32 => scaled(0, 1, false)?,
            Alu::MadLo32 | Alu::MadWideS32 => scaled(0, 1, true)?.checked_add(stride(2)?)?,
            Alu::MadLo64 | Alu::MadWideU32 => scaled(0, 1, false)?.checked_add(stride(2)?)?,
            Alu::Shl32 | Alu::Shl64 if stride(1)? == 0 => {
                let c = const_of(f, i.s[1])?;
                if c > 31 {
                    return None;
                }
                stride(0)?.checked_mul(1 << c)?
            }
            _ => return None,
        })
    })();
    match s {
        Some(s) => affine(s, alu.result()),
        None => Shape::Varying,
    }
}

/// Operand of an extension to 64 bits whose 32-bit series must not wrap, and
/// whether it is signed.
pub fn wrap_guard(alu: Alu, i: &Inst, of: &[Shape]) -> Option<(V, i64, bool)> {
    let signed = match alu {
        Alu::Sext64 | Alu::MulWideS32 | Alu::MadWideS32 => true,
        Alu::Zext64 | Alu::MulWideU32 | Alu::MadWideU32 => false,
        _ => return None,
    };
    i.s.iter().take(2).find_map(|&v| match of[v as usize] {
        Shape::Affine(s) if s != 0 => Some((v, s, signed)),
        _ => None,
    })
}
