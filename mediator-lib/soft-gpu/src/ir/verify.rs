//! Checks that every operation has the operands its handler reads: the
//! handlers trust slots to have the classes that this pass has seen.

use super::matrix::{Element, Fragment, MAX_FRAGMENT};
use super::{
    AtomTy, BarKind, Callee, Class, Func, Inst, Op, Source, SystemCall, Term, V, VoteMode,
};
use crate::ptx::ast::Special;

/// The operation (its index in the PTX function) that has wrong operands.
pub fn verify(f: &Func) -> Result<(), u32> {
    let class = |v: V| f.vregs.get(v as usize).map(|r| r.class);
    let all_words = |l: &[V]| l.iter().all(|&v| class(v) == Some(Class::W));
    if !all_words(&f.params) || !all_words(&f.rets) || f.blocks.is_empty() {
        return Err(0);
    }
    let block = |b: u32| (b as usize) < f.blocks.len();
    for b in &f.blocks {
        for i in &b.insts {
            let guard = i.guard.is_none_or(|(g, _)| class(g) == Some(Class::P));
            // Only operations fill registers that are no constants.
            let defined = i.d.iter().all(|&d| {
                f.vregs
                    .get(d as usize)
                    .is_some_and(|r| r.source == Source::Defined)
            });
            if !guard || !defined || !operands(i, &class) {
                return Err(i.site);
            }
        }
        let ok = match &b.term {
            Term::Jump(t) => block(*t),
            Term::Branch {
                pred, then, other, ..
            } => class(*pred) == Some(Class::P) && block(*then) && block(*other),
            Term::Switch { index, targets } => {
                class(*index) == Some(Class::W)
                    && !targets.is_empty()
                    && targets.iter().all(|&t| block(t))
            }
            Term::Return | Term::Exit => true,
        };
        if !ok {
            return Err(b.site);
        }
    }
    Ok(())
}

/// Whether the registers of a `wmma` fragment are as many and as wide as it says.
fn fragment(list: &[V], f: Fragment, class: &impl Fn(V) -> Option<Class>) -> bool {
    let c = if f.bits == 64 { Class::D } else { Class::W };
    list.len() == f.registers as usize
        && list.len() <= MAX_FRAGMENT
        && list.iter().all(|&v| class(v) == Some(c))
}

fn operands(i: &Inst, class: &impl Fn(V) -> Option<Class>) -> bool {
    let is = |list: &[V], want: &[Class]| {
        list.len() == want.len() && list.iter().zip(want).all(|(&v, &w)| class(v) == Some(w))
    };
    let each = |list: &[V], want: Class| list.iter().all(|&v| class(v) == Some(want));
    let address =
        i.s.first()
            .and_then(|&v| class(v))
            .is_some_and(|c| c != Class::P);
    let width = |bytes: u8| if bytes == 8 { Class::D } else { Class::W };
    use Class::{D, P, W};
    match i.op {
        Op::Alu(alu) => is(&i.s, alu.operands()) && is(&i.d, &[alu.result()]),
        Op::Ld(a) | Op::St(a)
            if !matches!(a.count, 1 | 2 | 4) || !matches!(a.bytes, 1 | 2 | 4 | 8) =>
        {
            false
        }
        Op::Ld(a) => {
            address
                && i.s.len() == 1
                && i.d.len() == usize::from(a.count)
                && each(&i.d, width(a.bytes))
        }
        Op::St(a) => {
            address
                && i.d.is_empty()
                && i.s.len() == 1 + usize::from(a.count)
                && each(&i.s[1..], width(a.bytes))
        }
        Op::Atom(_, _, ty) => {
            let c = if matches!(ty, AtomTy::U64 | AtomTy::S64 | AtomTy::F64) {
                D
            } else {
                W
            };
            address
                && matches!(i.s.len(), 2 | 3)
                && each(&i.s[1..], c)
                && i.d.len() <= 1
                && each(&i.d, c)
        }
        Op::Atom128(_) => {
            address && matches!(i.s.len(), 3 | 5) && each(&i.s[1..], D) && is(&i.d, &[D, D])
        }
        Op::Shfl(_) => {
            (is(&i.s, &[W; 3]) || is(&i.s, &[W; 4])) && (is(&i.d, &[W]) || is(&i.d, &[W, P]))
        }
        Op::Vote(VoteMode::Ballot) => (is(&i.s, &[P]) || is(&i.s, &[P, W])) && is(&i.d, &[W]),
        Op::Vote(_) => (is(&i.s, &[P]) || is(&i.s, &[P, W])) && is(&i.d, &[P]),
        Op::Match(_) => {
            matches!(i.s.len(), 1 | 2)
                && (is(&i.s[..1], &[W]) || is(&i.s[..1], &[D]))
                && each(&i.s[1..], W)
                && (is(&i.d, &[W]) || is(&i.d, &[W, P]))
        }
        Op::WarpSync => is(&i.s, &[W]) && i.d.is_empty(),
        Op::Redux(_) => (is(&i.s, &[W]) || is(&i.s, &[W, W])) && is(&i.d, &[W]),
        Op::ActiveMask => i.s.is_empty() && is(&i.d, &[W]),
        Op::LocalAddr => i.s.is_empty() && is(&i.d, &[D]),
        Op::ReadSpecial(s) => {
            let wide = matches!(s, Special::Clock64 | Special::GlobalTimer);
            i.s.is_empty() && is(&i.d, &[if wide { D } else { W }])
        }
        Op::Bar(kind) => {
            let (numbers, result) = match kind {
                BarKind::Sync | BarKind::Arrive => (&i.s[..], i.d.is_empty()),
                BarKind::RedPopc | BarKind::RedAnd | BarKind::RedOr => {
                    let Some((p, rest)) = i.s.split_last() else {
                        return false;
                    };
                    let c = if kind == BarKind::RedPopc { W } else { P };
                    (rest, class(*p) == Some(P) && is(&i.d, &[c]))
                }
            };
            result && matches!(numbers.len(), 1 | 2) && each(numbers, W) && i.guard.is_none()
        }
        Op::Call(Callee::Direct(_)) => each(&i.s, W) && each(&i.d, W) && i.guard.is_none(),
        Op::Call(Callee::Indirect) => match i.s.split_first() {
            Some((p, rest)) => {
                class(*p) == Some(D) && each(rest, W) && each(&i.d, W) && i.guard.is_none()
            }
            None => false,
        },
        Op::Trap => i.s.is_empty() && i.d.is_empty() && i.guard.is_none(),
        Op::System(SystemCall::Printf) => is(&i.s, &[D, D]) && is(&i.d, &[W]),
        Op::System(SystemCall::Malloc) => is(&i.s, &[D]) && is(&i.d, &[D]),
        Op::System(SystemCall::Free) => is(&i.s, &[D]) && i.d.is_empty(),
        Op::System(SystemCall::Assert) => is(&i.s, &[D, D, W, D]) && i.d.is_empty(),
        Op::Sleep | Op::Fence => i.s.is_empty() && i.d.is_empty(),
        Op::Mma(m) => {
            let c = if m.elements[0] == Element::F64 { D } else { W };
            let [na, nb, nc, nd] = m.registers();
            [na, nb, nc, nd]
                .iter()
                .all(|n| (1..=MAX_FRAGMENT).contains(n))
                && i.s.len() == na + nb + nc + usize::from(m.sparse.is_some())
                && i.d.len() == nd
                && each(&i.s, c)
                && each(&i.d, c)
        }
        Op::LdMatrix(_) => {
            address && i.s.len() == 1 && matches!(i.d.len(), 1 | 2 | 4) && each(&i.d, W)
        }
        Op::StMatrix(_) => {
            address && i.d.is_empty() && matches!(i.s.len(), 2 | 3 | 5) && each(&i.s[1..], W)
        }
        Op::MovMatrix => is(&i.s, &[W]) && is(&i.d, &[W]),
        Op::WmmaLoad(_, f) => {
            address && i.s.len() == 2 && class(i.s[1]) == Some(W) && fragment(&i.d, f, class)
        }
        Op::WmmaStore(_, f) => {
            address
                && i.d.is_empty()
                && i.s.len() >= 2
                && class(i.s[1]) == Some(W)
                && fragment(&i.s[2..], f, class)
        }
        Op::CopyAsync(bytes) => {
            matches!(bytes, 4 | 8 | 16)
                && i.d.is_empty()
                && i.s.len() == 3
                && i.s[..2].iter().all(|&v| matches!(class(v), Some(W | D)))
                && class(i.s[2]) == Some(W)
        }
    }
}
