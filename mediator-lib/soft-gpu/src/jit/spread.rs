//! Loads of a word that is the same in each half of the warp, straight into vectors.

use super::asm::{Mem, op};
use super::compile::{Compiler, same};
use crate::exec::insn::Insn;
use crate::exec::memory::small;
use crate::exec::warp_ops;
use crate::ir::{Access, Inst, Op};

impl Compiler<'_> {
    /// The vector slot of a loaded word that is the same in each half, if nothing but the next operation,
    /// which spreads it, needs its pair: neither what follows in the block, nor the reference code.
    pub(super) fn spread_only(
        &self,
        pc: u32,
        i: &Insn,
        k: usize,
        inst: &Inst,
        a: Access,
    ) -> Option<u32> {
        let (&[v], 1, 4) = (&inst.d[..], a.count, a.bytes) else {
            return None;
        };
        let pair = i.d[0];
        let spread = self.insn(pc + 1)?;
        let slot = self.code.slots.get(v as usize)?;
        let own = same(spread.run, warp_ops::splat32)
            && (spread.s[0], spread.imm, spread.d[0], slot.pair) == (pair, 0, slot.vec, pair);
        if !own {
            return None;
        }
        let pcs = self.code.inst_pcs.get(self.block)?;
        let insts = &self.f.blocks[self.block].insts;
        let death = (k + 1..insts.len()).find(|&n| self.deaths[n].contains(&v))?;
        for (n, inst) in insts.iter().enumerate().take(death + 1).skip(k) {
            let end = pcs.get(n + 1).copied();
            let end = end.unwrap_or_else(|| self.block_end(self.block));
            let first = if n == k { pc + 2 } else { *pcs.get(n)? };
            let plain = matches!(inst.op, Op::Alu(_) | Op::Ld(_) | Op::St(_));
            if !plain || inst.guard.is_some() {
                return None;
            }
            for i in (first..end).map(|pc| self.insn(pc)) {
                let i = i?;
                if same(i.run, warp_ops::guard_affine) || i.s.contains(&pair) || i.d.contains(&pair)
                {
                    return None;
                }
            }
        }
        Some(slot.vec)
    }

    /// A word for each half, to all its lanes.
    pub(super) fn load_spread(&mut self, i: &Insn, vec: u32, m: [Mem; 2]) {
        let uniform = i.small & small::UNIFORM != 0;
        for (h, own) in m.into_iter().enumerate() {
            self.regs.step();
            let d = self
                .regs
                .def(&mut self.a, vec + 64 * h as u32, false, false);
            let from = if uniform { m[0] } else { own };
            self.a.v2(op::VPBROADCASTD, d, from);
        }
        self.spread = Some(i.d[0]);
    }
}
