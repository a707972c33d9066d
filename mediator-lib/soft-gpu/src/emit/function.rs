//! Emits one function.

use std::cell::Cell;
use std::collections::HashMap;

use super::{Mode, fuse};
use crate::analysis::cfg::Cfg;
use crate::analysis::places;
use crate::analysis::shapes::{Shape, Shapes};
use crate::exec::access::Form;
use crate::exec::alu::Isa;
use crate::exec::insn::{
    FRAME_ALIGN, Fill, FunctionCode, Handler, Insn, Kind, NONE, Program, Slot,
};
use crate::exec::{fast, warp_ops};
use crate::ir::{Block, Class, Func, Inst, Op, Source, Term, V};

pub(super) struct Emitter<'a> {
    pub(super) p: &'a mut Program,
    pub(super) f: &'a Func,
    pub(super) cfg: Cfg,
    pub(super) shapes: Shapes,
    pub(super) isa: Isa,
    pub(super) slots: Vec<Slot>,
    pub(super) positions: &'a HashMap<u32, u32>,
    pub(super) site_base: u32,
    pub(super) fixups: Vec<(usize, usize, u32)>,
    pub(super) table_fixups: Vec<(usize, Vec<u32>)>,
    pub(super) block: usize,
    pub(super) meets: Vec<bool>,
    pub(super) inst_index: u32,
    pub(super) uses: Option<fuse::Uses>,
    /// Whether an operation asked for a slot that is not there.
    lost: Cell<bool>,
}

fn nothing(_f: *mut u8, _i: &Insn, _w: &mut crate::exec::warp::Warp) -> u32 {
    0
}

pub(super) const BLANK: Insn = Insn {
    run: nothing,
    imm: 0,
    d: [0; 4],
    s: [0; 4],
    x: 0,
    cache: 0,
    site: 0,
    kind: Kind::Plain,
    masked: true,
    count: 1,
    small: 0,
};

/// First slot that registers may use: unused operands point to the zeroed start of a frame.
const FRAME_HEAD: u32 = 256;

pub(super) fn emit(
    p: &mut Program,
    f: &Func,
    module_index: u32,
    kernel: bool,
    mode: Mode,
    isa: Isa,
    positions: &HashMap<u32, u32>,
) -> Result<FunctionCode, String> {
    let cfg = Cfg::new(&f.blocks);
    let shapes = match mode {
        Mode::Reference => Shapes::reference(f),
        Mode::Optimised(ntid) => Shapes::new(f, &cfg, ntid, kernel),
    };
    let site_base = p.sites.len() as u32;
    let own = p.functions.len() as u32;
    p.sites.extend(f.sites.iter().map(|s| (own, *s)));
    let mut meets = vec![false; f.blocks.len() + 1];
    for (b, block) in f.blocks.iter().enumerate() {
        if diverges(&shapes, &block.term) {
            meets[cfg.ipdom[b] as usize] = true;
        }
    }
    let entry = p.insns.len() as u32;
    let mut e = Emitter {
        p,
        f,
        cfg,
        shapes,
        isa,
        slots: Vec::new(),
        positions,
        site_base,
        fixups: Vec::new(),
        table_fixups: Vec::new(),
        block: 0,
        meets,
        inst_index: 0,
        uses: (mode != Mode::Reference).then(|| fuse::Uses::new(f)),
        lost: Cell::new(false),
    };
    let frame_bytes = e.lay_out();
    let fills = e.fills();
    let mut block_pcs = Vec::with_capacity(f.blocks.len() + 1);
    let mut inst_pcs = Vec::with_capacity(f.blocks.len());
    for (b, block) in f.blocks.iter().enumerate() {
        block_pcs.push(e.p.insns.len() as u32);
        inst_pcs.push(e.block(b, block));
    }
    block_pcs.push(e.p.insns.len() as u32);
    let exit = e.cfg.exit() as usize;
    if e.meets[exit] {
        e.push(Insn {
            kind: Kind::Join,
            ..BLANK
        });
    }
    e.push(Insn {
        kind: Kind::Return,
        ..BLANK
    });
    for (at, k, block) in std::mem::take(&mut e.fixups) {
        e.p.insns[at].d[k] = block_pcs[block as usize];
    }
    for (t, targets) in std::mem::take(&mut e.table_fixups) {
        e.p.tables[t] = targets.iter().map(|&b| block_pcs[b as usize]).collect();
    }
    let params: Vec<u32> = f.params.iter().map(|&v| e.vec(v)).collect();
    let rets: Vec<u32> = f.rets.iter().map(|&v| e.vec(v)).collect();
    if e.lost.get() {
        return Err(format!(
            "internal error: a register of '{}' has no place",
            f.name
        ));
    }
    Ok(FunctionCode {
        module_index,
        entry,
        frame_bytes,
        local_bytes: f.local_bytes,
        fills,
        params,
        rets,
        block_pcs,
        inst_pcs,
        slots: e.slots,
    })
}

fn diverges(shapes: &Shapes, t: &Term) -> bool {
    match t {
        Term::Branch { pred, .. } => shapes.of[*pred as usize] != Shape::Uniform,
        Term::Switch { .. } => true,
        _ => false,
    }
}

impl Emitter<'_> {
    pub(super) fn shape(&self, v: V) -> Shape {
        self.shapes.of[v as usize]
    }

    pub(super) fn stride(&self, v: V) -> Option<i64> {
        self.shape(v).stride()
    }

    pub(super) fn class(&self, v: V) -> Class {
        self.f.vregs[v as usize].class
    }

    /// How a load reaches its address and where results go.
    pub(super) fn load_form(&self, i: &Inst) -> Form {
        match self.stride(i.s[0]) {
            Some(0) if i.d.iter().all(|&d| self.stride(d).is_some()) => Form::Pair,
            Some(_) => Form::Affine,
            None => Form::Vector,
        }
    }

    /// Which registers some operation reads as a vector.
    pub(super) fn vector_uses(&self) -> Vec<bool> {
        let mut need = vec![false; self.f.vregs.len()];
        for v in self.f.rets.iter().chain(&self.f.params) {
            need[*v as usize] = true;
        }
        for block in &self.f.blocks {
            for i in &block.insts {
                match i.op {
                    Op::Alu(_) => {
                        if i.d.iter().any(|&d| self.stride(d).is_none()) {
                            i.s.iter().for_each(|&s| need[s as usize] = true);
                        }
                    }
                    Op::Ld(_) => {
                        if self.load_form(i) == Form::Vector {
                            need[i.s[0] as usize] = true;
                        } else if self.load_form(i) == Form::Affine {
                            // Results are vectors even where other definitions are not.
                            i.d.iter().for_each(|&d| need[d as usize] = true);
                        }
                    }
                    Op::St(_) => {
                        i.s.iter().skip(1).for_each(|&s| need[s as usize] = true);
                        if self.stride(i.s[0]).is_none() {
                            need[i.s[0] as usize] = true;
                        }
                    }
                    _ => i.s.iter().for_each(|&s| need[s as usize] = true),
                }
            }
            if let Term::Switch { index, .. } = block.term {
                need[index as usize] = true;
            }
        }
        need
    }

    pub(super) fn lay_out(&mut self) -> u32 {
        let need = self.vector_uses();
        let mut at = FRAME_HEAD;
        let mut take = |bytes: u32, align: u32| {
            at = at.next_multiple_of(align);
            let slot = at;
            at += bytes;
            slot
        };
        let n = self.f.vregs.len();
        self.slots = (0..n)
            .map(|v| Slot {
                class: self.class(v as V),
                pair: NONE,
                vec: NONE,
                stride: 0,
            })
            .collect();
        // Small slots first, so that they share cache lines.
        for v in 0..n {
            if self.class(v as V) == Class::P {
                self.slots[v].pair = take(4, 4);
                self.slots[v].vec = self.slots[v].pair;
            }
        }
        for v in 0..n {
            if self.class(v as V) != Class::P
                && let Some(stride) = self.stride(v as V)
            {
                self.slots[v].stride = stride;
                self.slots[v].pair = take(16, 16);
            }
        }
        let vector = |v: usize| self.stride(v as V).is_none() || need[v];
        let (places, bytes) = places::of(self.f, &self.cfg, &self.shapes, vector);
        let first = take(bytes, 128);
        for (slot, place) in self.slots.iter_mut().zip(places) {
            slot.vec = place.map_or(slot.vec, |at| first + at);
        }
        at.next_multiple_of(FRAME_ALIGN)
    }

    pub(super) fn fills(&self) -> Vec<Fill> {
        self.f
            .vregs
            .iter()
            .zip(&self.slots)
            .filter(|(v, _)| v.source != Source::Defined)
            .map(|(v, s)| Fill {
                source: v.source,
                class: v.class,
                pair: s.pair,
                vec: s.vec,
            })
            .collect()
    }

    pub(super) fn push(&mut self, i: Insn) -> usize {
        self.p.insns.push(i);
        self.p.insns.len() - 1
    }

    pub(super) fn cache(&mut self) -> u32 {
        self.p.caches += 1;
        self.p.caches - 1
    }

    /// The slot of the two bases, or of a predicate.
    pub(super) fn pair(&self, v: V) -> u32 {
        self.there(self.slots[v as usize].pair)
    }

    /// Whether [`Emitter::pair`] may be asked for.
    pub(super) fn has_pair(&self, v: V) -> bool {
        self.slots[v as usize].pair != NONE
    }

    /// The slot of the vector, or of a predicate.
    pub(super) fn vec(&self, v: V) -> u32 {
        self.there(self.slots[v as usize].vec)
    }

    /// Handlers trust slots: one that is not there must never reach them, whatever is wrong in the analysis.
    fn there(&self, slot: u32) -> u32 {
        if slot == NONE {
            self.lost.set(true);
            return 0;
        }
        slot
    }

    /// Pushes a plain operation, behind its guard if it has one.
    pub(super) fn plain(&mut self, inst: &Inst, mut i: Insn) {
        i.site = self.site_base + inst.site;
        if let Some((g, negated)) = inst.guard {
            let s = [self.pair(g), 0, 0, 0];
            self.push(Insn {
                kind: Kind::Guard,
                s,
                x: negated.into(),
                site: i.site,
                ..BLANK
            });
        }
        self.push(i);
    }

    /// After a pair was defined: its vector, if someone reads that.
    pub(super) fn splat(&mut self, inst: &Inst, v: V) {
        let s = self.slots[v as usize];
        if s.class == Class::P || s.pair == NONE || s.vec == NONE {
            return;
        }
        let run: Handler = if s.class == Class::W {
            warp_ops::splat32
        } else {
            warp_ops::splat64
        };
        self.plain(
            inst,
            Insn {
                run,
                d: [s.vec, 0, 0, 0],
                s: [s.pair, 0, 0, 0],
                imm: s.stride,
                ..BLANK
            },
        );
    }

    pub(super) fn masked(&self, inst: &Inst) -> bool {
        let guard = inst
            .guard
            .is_some_and(|(g, _)| self.shape(g) != Shape::Uniform);
        guard || inst.d.iter().any(|&d| self.shapes.masked(self.block, d))
    }

    pub(super) fn block(&mut self, b: usize, block: &Block) -> Vec<u32> {
        self.block = b;
        if self.meets[b] {
            self.push(Insn {
                kind: Kind::Join,
                ..BLANK
            });
        }
        let mut pcs = Vec::with_capacity(block.insts.len());
        let mut fused_until = 0;
        let mut pending: Option<(usize, usize)> = None;
        for (k, i) in block.insts.iter().enumerate() {
            self.inst_index = k as u32;
            pcs.push(self.p.insns.len() as u32);
            if k >= fused_until
                && let Some(n) = self.fuse(&block.insts[k..])
            {
                fused_until = k + n;
                pending = Some((self.p.insns.len() - 1, fused_until));
            }
            self.inst(i);
            if let Some((at, end)) = pending
                && k + 1 == end
            {
                self.p.insns[at].d[1] = (self.p.insns.len() - at - 1) as u32;
                pending = None;
            }
        }
        let site = self.site_base + block.site;
        match &block.term {
            Term::Jump(t) => self.jump(b, *t, site),
            Term::Return => {
                let exit = self.cfg.exit();
                self.jump(b, exit, site);
            }
            Term::Branch { then, other, .. } if then == other => self.jump(b, *then, site),
            Term::Branch {
                pred,
                negated,
                then,
                other,
            } => {
                let diverges =
                    self.meets[self.cfg.ipdom[b] as usize] && diverges(&self.shapes, &block.term);
                let s = [self.pair(*pred), 0, 0, 0];
                let at = self.push(Insn {
                    kind: Kind::Branch,
                    s,
                    x: (*negated).into(),
                    site,
                    ..BLANK
                });
                self.fixups.push((at, 0, *then));
                self.fixups.push((at, 1, *other));
                if diverges {
                    self.fixups.push((at, 2, self.cfg.ipdom[b]));
                } else {
                    self.p.insns[at].d[2] = NONE;
                }
            }
            Term::Switch { index, targets } => {
                let t = self.p.tables.len();
                self.p.tables.push(Vec::new());
                self.table_fixups.push((t, targets.clone()));
                let s = [self.vec(*index), 0, 0, 0];
                let at = self.push(Insn {
                    kind: Kind::Switch,
                    s,
                    x: t as u32,
                    site,
                    ..BLANK
                });
                self.fixups.push((at, 2, self.cfg.ipdom[b]));
            }
            Term::Exit => {
                self.push(Insn {
                    kind: Kind::Exit,
                    site,
                    ..BLANK
                });
            }
        }
        pcs
    }

    /// Emits a fused operation in front of the operations it stands for;
    /// returns how many these are.
    pub(super) fn fuse(&mut self, insts: &[Inst]) -> Option<usize> {
        let uses = self.uses.as_ref()?;
        let run = fast::chain_handler(self.isa)?;
        let c = fuse::find(self.f, insts, &self.shapes, uses)?;
        let masked = |v: V| self.shapes.masked(self.block, v);
        // A blended sum is left to the plain operation, which runs only then.
        if masked(c.last) {
            return None;
        }
        let mut small = 0;
        for k in 0..2 {
            let narrow = self.class(c.addresses[k]) == Class::W;
            let bits = u8::from(c.shared[k])
                | (u8::from(narrow) << 1)
                | (u8::from(c.strides[k] == 4) << 2);
            small |= bits << (4 * k);
        }
        let s = [
            self.pair(c.addresses[0]),
            self.pair(c.addresses[1]),
            self.vec(c.first),
            0,
        ];
        let d = [self.vec(c.last), 0, 0, 0];
        let x = self.p.chains.len() as u32;
        let cache = self.cache();
        self.cache();
        let site = self.site_base + insts[0].site;
        self.push(Insn {
            run,
            kind: Kind::Fused,
            s,
            d,
            x,
            small,
            cache,
            site,
            ..BLANK
        });
        self.p.chains.push(c.chain);
        Some(c.length)
    }

    pub(super) fn jump(&mut self, b: usize, target: u32, site: u32) {
        if target as usize == b + 1 {
            return;
        }
        let at = self.push(Insn {
            kind: Kind::Jump,
            site,
            ..BLANK
        });
        self.fixups.push((at, 0, target));
    }
}
