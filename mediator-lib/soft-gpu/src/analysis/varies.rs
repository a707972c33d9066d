//! What a kernel does whose outcome is left open, so that two runs of it need not agree.

use super::cfg::Cfg;
use super::liveness::{Bits, live_in};
use super::shapes::is_large;
use crate::ir::{Func, Op, Source, SystemCall, Term};
use crate::ptx::ast::Special;

/// Why two runs of a kernel may end differently, although arguments and memory are the same.
///
/// Order between warps and blocks is not among these: it shows only where threads that race use the same memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Varies {
    /// It reads a clock, or a number that each launch or place of a block gets anew.
    Time,
    /// It may read a register before it writes it.
    Register,
    /// It takes values of other lanes where paths may part: those of lanes that are elsewhere are undefined.
    Lane,
    /// It allocates device memory, at addresses that depend on what was there.
    Heap,
}

fn changes(s: Special) -> bool {
    matches!(
        s,
        Special::Clock
            | Special::ClockHi
            | Special::Clock64
            | Special::GlobalTimer
            | Special::GlobalTimerLo
            | Special::GlobalTimerHi
            | Special::GridId
            | Special::SmId
            | Special::WorkspaceHigh
            | Special::WorkspaceLow
    )
}

/// Whether lanes read registers of lanes that take no part.
fn takes(op: Op) -> bool {
    matches!(
        op,
        Op::Shfl(_)
            | Op::Mma(_)
            | Op::LdMatrix(_)
            | Op::StMatrix(_)
            | Op::MovMatrix
            | Op::WmmaLoad(..)
            | Op::WmmaStore(..)
    )
}

/// All that is true of one of the functions of a kernel. `whole`: all its warps have 32 threads.
pub fn varies(functions: &[&Func], whole: bool) -> Vec<Varies> {
    let all = || functions.iter().flat_map(|f| &f.blocks);
    let insts = || all().flat_map(|b| &b.insts);
    let sources = || functions.iter().flat_map(|f| &f.vregs).map(|v| v.source);
    let time = insts().any(|i| matches!(i.op, Op::ReadSpecial(s) if changes(s)))
        || sources().any(|s| matches!(s, Source::Special(s) if changes(s)));
    let parts = all().any(|b| matches!(b.term, Term::Branch { .. } | Term::Switch { .. }))
        || insts().any(|i| takes(i.op) && i.guard.is_some());
    let lane = (parts || !whole) && insts().any(|i| takes(i.op));
    let heap = |c| matches!(c, SystemCall::Malloc | SystemCall::Free);
    let heap = insts().any(|i| matches!(i.op, Op::System(c) if heap(c)));
    [
        (Varies::Time, time),
        (Varies::Register, functions.iter().any(|f| undefined(f))),
        (Varies::Lane, lane),
        (Varies::Heap, heap),
    ]
    .into_iter()
    .filter_map(|(v, holds)| holds.then_some(v))
    .collect()
}

/// Whether a path leads from the function's start to a read of a register that nothing on it wrote. Nobody knows it of one
/// that is too large to analyse.
fn undefined(f: &Func) -> bool {
    if is_large(f) {
        return true;
    }
    let live = live_in(f, &Cfg::new(&f.blocks));
    let mut given = Bits::new(f.vregs.len());
    f.params.iter().for_each(|&v| given.insert(v));
    let mut all = (0..).zip(&f.vregs);
    all.any(|(v, r)| {
        let read = live.first().is_some_and(|first| first.has(v));
        read && r.source == Source::Defined && !given.has(v)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Varies::{self, Heap, Lane, Register, Time};
    use crate::{AddressSpace, LoadOptions, Module};

    fn of(body: &str, threads: u32) -> Vec<Varies> {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n\
             .extern .func (.param .b64 r) malloc(.param .b64 n);\n\
             .func (.param .b32 r) twice(.param .b32 x) {{ .reg .b32 %r<2>; ld.param.b32 %r0, [x]; add.u32 %r1, %r0, %r0; st.param.b32 [r], %r1; ret; }}\n\
             .visible .entry k() {{\n.reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %q<4>;\n{body}\nret;\n}}\n"
        );
        let space = Arc::new(AddressSpace::new(1 << 20).expect("address space"));
        let module = Module::load(text.as_bytes(), &LoadOptions::default(), &space);
        let module = module.expect("a module");
        module.functions()[0].varies([threads, 1, 1])
    }

    #[test]
    fn what_is_left_open_is_named() {
        let shuffle = "mov.u32 %r1, %laneid; shfl.sync.idx.b32 %r0, %r1, 3, 31, -1;";
        assert_eq!(of("mov.u32 %r0, %tid.x; add.u32 %r1, %r0, 1;", 5), []);
        assert_eq!(of("mov.u32 %r0, %clock;", 32), [Time]);
        assert_eq!(of("mov.u32 %r0, %smid;", 32), [Time]);
        assert_eq!(of("add.u32 %r0, %r1, 1;", 32), [Register]);
        assert_eq!(
            of(
                "setp.eq.u32 %p0, 1, 2; @%p0 mov.u32 %r1, 2; add.u32 %r0, %r1, 1;",
                32
            ),
            [Register],
            "not on all paths"
        );
        assert_eq!(
            of(
                "{ .param .b32 a; .param .b32 b; st.param.b32 [a], 1; call (b), twice, (a); ld.param.b32 %r0, [b]; }",
                32
            ),
            [],
            "arguments have values"
        );
        assert_eq!(of(shuffle, 64), []);
        assert_eq!(of(shuffle, 33), [Lane]);
        let parted = format!("setp.eq.u32 %p0, 1, 2; @%p0 bra L;\n{shuffle}\nL:");
        assert_eq!(of(&parted, 32), [Lane]);
        assert_eq!(
            of(
                "{ .param .b64 a; .param .b64 b; st.param.b64 [a], 8; call (b), malloc, (a); ld.param.b64 %q0, [b]; }",
                32
            ),
            [Heap]
        );
    }
}
