//! What all values of a register have in common that makes operations on them cheaper.

use super::liveness::Bits;
use crate::exec::float::{cvt, op};
use crate::ir::{Alu, Class, Func, Inst, Op, Source, V};

/// Whether the bits are those of a denormal f32.
fn denormal(bits: u64) -> bool {
    bits & 0x7f80_0000 == 0 && bits & 0x007f_ffff != 0
}

/// The registers of 32 bits all of whose definitions give what is no denormal. One that may be read before it is
/// written holds what its place held before, which no program may depend on.
pub fn normal(f: &Func) -> Bits {
    let mut set = Bits::new(f.vregs.len());
    for (v, r) in (0..).zip(&f.vregs) {
        let may = match r.source {
            Source::Defined => r.class == Class::W && !f.params.contains(&v),
            Source::Const(c) => r.class == Class::W && !denormal(c),
            Source::Special(_) | Source::Param(..) => false,
        };
        if may {
            set.insert(v);
        }
    }
    let mut changed = true;
    while changed {
        changed = false;
        for i in f.blocks.iter().flat_map(|b| &b.insts) {
            for &d in &i.d {
                if set.has(d) && !gives(i, d, &set) {
                    set.remove(d);
                    changed = true;
                }
            }
        }
    }
    set
}

/// Whether an operation's result is no denormal if the registers of a set hold none.
fn gives(i: &Inst, d: V, set: &Bits) -> bool {
    let all = |n: usize| i.s.iter().take(n).all(|&s| set.has(s));
    let alu = match i.op {
        Op::Alu(alu) => alu,
        // A value of some lane.
        Op::Shfl(_) => return i.d.first() == Some(&d) && all(1),
        _ => return false,
    };
    match alu {
        Alu::AddF32Ftz
        | Alu::SubF32Ftz
        | Alu::MulF32Ftz
        | Alu::FmaF32Ftz
        | Alu::FmaF32FtzExact
        | Alu::FtzF32 => true,
        // Whole numbers; an f16 is a multiple of 2^-24; a root is at least 2^-75.
        Alu::F32FromS32 | Alu::F32FromU32 | Alu::F32FromF16 | Alu::SqrtF32 => true,
        Alu::Cvt32To32 => {
            let (from, to) = (i.x & 15, (i.x >> cvt::DST) & 15);
            let whole = from < cvt::F16 || from == cvt::F32 && i.x & cvt::INTEGRAL != 0;
            to == cvt::F32 && (whole || from == cvt::F16)
        }
        Alu::Arith32 => {
            let plain = matches!(i.x & 15, op::ADD | op::SUB | op::MUL | op::FMA);
            plain && i.x & op::FTZ != 0
        }
        Alu::Mov32 | Alu::AbsF32 | Alu::NegF32 => all(1),
        Alu::Sel32 | Alu::MinF32 | Alu::MaxF32 => all(2),
        _ => false,
    }
}

/// The registers of 32 bits none of whose bytes is above 127: signed or not, they are the same.
pub fn small_bytes(f: &Func) -> Bits {
    let is = |v: V| match f.vregs.get(v as usize).map(|r| r.source) {
        Some(Source::Const(c)) => c & 0x8080_8080 == 0,
        _ => false,
    };
    let mut set = Bits::new(f.vregs.len());
    let mut others = Bits::new(f.vregs.len());
    f.params.iter().for_each(|&v| others.insert(v));
    for v in (0..f.vregs.len() as V).filter(|&v| is(v)) {
        set.insert(v);
    }
    for i in f.blocks.iter().flat_map(|b| &b.insts) {
        let masked = i.op == Op::Alu(Alu::And32) && i.s.iter().any(|&s| is(s));
        let list = if masked { &mut set } else { &mut others };
        i.d.iter().for_each(|&d| list.insert(d));
    }
    for v in 0..f.vregs.len() as V {
        if others.has(v) {
            set.remove(v);
        }
    }
    set
}
