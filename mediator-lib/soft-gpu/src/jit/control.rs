//! Where lanes part and meet, warps wait at the block's barrier, and a kernel ends: without leaving the code, as
//! long as it can go on somewhere.

use std::mem::offset_of;

use super::asm::{Asm, Cc, G, Label, Mem, R15, RAX, RBP, RBX, RDI, RDX, RSI};
use super::compile::{Compiler, leave, warp_field};
use super::regs::{Snapshot, flush};
use super::runtime::{EXIT_DONE, EXIT_INTERPRET, State, end, meet, part};
use crate::exec::insn::{Insn, Kind, NONE};
use crate::exec::warp::Warp;

/// A field of what compiled code keeps with the warp.
fn state(field: usize) -> Mem {
    warp_field(offset_of!(Warp, jit) + field)
}

/// Takes up the warp that RBP points to.
fn take_up(a: &mut Asm) {
    a.load64(RBX, warp_field(offset_of!(Warp, registers)));
    a.add(RBX, warp_field(offset_of!(Warp, frame)));
    a.load32(R15, warp_field(offset_of!(Warp, mask)));
}

/// Where the code goes on after a call that returned a [`super::runtime::Next`].
pub(super) fn switch(a: &mut Asm, exit: Label) {
    let out = a.label();
    a.mov(RBP, RDX);
    take_up(a);
    a.test64(RAX);
    a.branch(Cc::Z, out);
    a.jump_to(RAX);
    a.bind(out);
    a.load32(RAX, state(offset_of!(State, exit)));
    a.jump(exit);
}

/// What decides where to go on, with its operands behind the warp.
fn ask(a: &mut Asm, whom: usize, operands: &[(G, u64)], switch: Label) {
    a.mov(RDI, RBP);
    for &(g, v) in operands {
        a.imm64(g, v);
    }
    a.imm64(RAX, whom as u64);
    a.call(RAX);
    a.jump(switch);
}

impl Compiler<'_> {
    fn asking_stub(&mut self, whom: usize, operands: Vec<(G, u64)>) -> Label {
        let (label, switch) = (self.a.label(), self.switch);
        let held: Snapshot = self.regs.snapshot();
        self.stubs.push(Box::new(move |a, _| {
            a.bind(label);
            flush(a, &held);
            ask(a, whom, &operands, switch);
        }));
        label
    }

    /// A label of code for a warp whose lanes part at the branch at `pc`.
    pub(super) fn parting(&mut self, pc: u32, i: &Insn) -> Label {
        let insn = std::ptr::from_ref(i) as u64;
        self.asking_stub(
            part as *const () as usize,
            vec![(RSI, insn), (RDX, pc.into())],
        )
    }

    /// The place at `pc` where lanes may meet.
    pub(super) fn join(&mut self, pc: u32) {
        self.a.cmp_mem_imm(warp_field(offset_of!(Warp, rpc)), pc);
        let others = self.asking_stub(meet as *const () as usize, vec![(RSI, pc.into())]);
        self.a.branch(Cc::Z, others);
    }

    /// The barrier of the whole block: a warp of a team gives way to the next one.
    pub(super) fn barrier(&mut self, pc: u32, i: &Insn) -> bool {
        let zero = |s: u32| s == NONE || self.consts.get(&s) == Some(&0);
        if i.kind != Kind::Barrier || i.x != 0 || !zero(i.s[0]) || !zero(i.s[1]) {
            return false;
        }
        self.barriers = true;
        self.flush_and_forget();
        let out = self.exit_stub(pc, EXIT_INTERPRET);
        let after = self.leader(pc + 1);
        let a = &mut self.a;
        a.load64(RDX, state(offset_of!(State, next)));
        a.test64(RDX);
        a.branch(Cc::Z, out);
        // Lanes that have not come are the interpreter's affair.
        a.load32(RAX, warp_field(offset_of!(Warp, dead)));
        a.or32(RAX, R15);
        a.cmp_imm8(RAX, -1);
        a.branch(Cc::Nz, out);
        a.store_imm32(warp_field(offset_of!(Warp, pc)), pc + 1);
        a.address_of(RAX, after);
        a.store64(state(offset_of!(State, resume)), RAX);
        a.mov(RBP, RDX);
        take_up(a);
        a.jump_to_mem(state(offset_of!(State, resume)));
        self.bind_leader(pc + 1);
        true
    }

    /// Behind the last block of a function.
    pub(super) fn ending(&mut self, kernel: bool, last: u32) {
        let mut pc = last;
        if self.insn(pc).is_some_and(|i| i.kind == Kind::Join) {
            self.join(pc);
            pc += 1;
        }
        let (exit, switch) = (self.exit, self.switch);
        let returns = self.insn(pc).is_some_and(|i| i.kind == Kind::Return);
        let a = &mut self.a;
        if !kernel || !returns {
            return leave(a, exit, pc, EXIT_INTERPRET);
        }
        let alone = a.label();
        a.load64(RAX, state(offset_of!(State, team)));
        a.test64(RAX);
        a.branch(Cc::Z, alone);
        ask(a, end as *const () as usize, &[(RSI, pc.into())], switch);
        a.bind(alone);
        leave(a, exit, pc, EXIT_DONE);
    }
}
