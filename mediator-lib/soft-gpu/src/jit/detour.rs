//! Ways out of the code through an operation's handler.

use std::mem::offset_of;

use super::asm::{Asm, Cc, G, Label, Mem, R8, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP};
use super::compile::{Compiler, HOSTS, load_masks, warp_field};
use super::regs::{Snapshot, flush, reload};
use super::runtime::{JitRange, call_handler, find_lane};
use crate::exec::insn::Insn;
use crate::exec::warp::Warp;

impl Compiler<'_> {
    /// What an operation's handler takes: the values of before in the frame, and those of afterwards out of it.
    pub(super) fn detour(&self, pc: u32, i: &Insn, before: Snapshot, after: Snapshot) -> Detour {
        Detour {
            pc,
            insn: std::ptr::from_ref(i) as u64,
            before,
            after,
            hosts: self.hosts.iter().flat_map(|h| HOSTS[h.regs]).collect(),
            masks: self.masks_ready,
        }
    }
}

/// The allocation of the first lane that runs is looked up for a range.
pub(super) struct Lookup {
    /// The vector of addresses.
    pub(super) slot: u32,
    pub(super) lo: i64,
    pub(super) span: u64,
    pub(super) range: i32,
    pub(super) align: u8,
}

impl Lookup {
    /// Calls what does it, in a [`Detour`].
    pub(super) fn find(&self, a: &mut Asm) {
        let index = self.range as u64 / size_of::<JitRange>() as u64;
        a.mov(RDI, RBP);
        a.imm64(RSI, self.slot.into());
        a.imm64(RDX, self.lo as u64);
        a.imm64(RCX, self.span);
        a.imm64(R8, (index << 8) | u64::from(self.align));
        a.imm64(RAX, find_lane as *const () as usize as u64);
        a.call(RAX);
    }
}

/// A way through an operation's handler.
pub(super) struct Detour {
    pc: u32,
    insn: u64,
    before: Snapshot,
    after: Snapshot,
    hosts: Vec<G>,
    masks: bool,
}

impl Detour {
    /// Stores what calls change.
    pub(super) fn begin(&self, a: &mut Asm) {
        flush(a, &self.before);
        for (n, g) in self.hosts.iter().enumerate() {
            a.store64(Mem::At(RSP, 8 * n as i32), *g);
        }
    }

    /// Calls the handler; leaves the code where it fails.
    pub(super) fn handle(&self, a: &mut Asm, exit: Label) {
        a.mov(RDI, RBX);
        a.imm64(RSI, self.insn);
        a.mov(RDX, RBP);
        a.imm64(RAX, call_handler as *const () as usize as u64);
        a.call(RAX);
        a.test32(RAX);
        let fine = a.label();
        a.branch(Cc::Z, fine);
        a.store_imm32(warp_field(offset_of!(Warp, pc)), self.pc);
        a.jump(exit);
        a.bind(fine);
    }

    /// Loads what stands in registers afterwards.
    pub(super) fn end(&self, a: &mut Asm) {
        reload(a, &self.after);
        for (n, g) in self.hosts.iter().enumerate() {
            a.load64(*g, Mem::At(RSP, 8 * n as i32));
        }
        if self.masks {
            load_masks(a);
        }
    }
}
