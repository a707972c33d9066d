//! Compiles a program block by block: exits, branches, loops, calls of handlers.

use std::collections::HashMap;
use std::io;
use std::mem::offset_of;

use super::access::{Checked, Host};
use super::asm::{Asm, Cc, G, K, Label, Mem, R8, R9, R12, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI};
use super::control::switch;
use super::grouped::{LaneGroup, MAX_GROUPS};
use super::heirs::{owners, reached};
use super::memory::CodeMemory;
use super::regs::{Regs, Snapshot, flush};
use super::runtime::{
    EXIT_ABORT, EXIT_INTERPRET, EXIT_TURN, Group, JitCode, State, call_guarded, call_handler,
};
use crate::analysis::cfg::Cfg;
use crate::analysis::liveness::{self, Bits, live_in};
use crate::analysis::normal::{normal, small_bytes};
use crate::analysis::shapes::{Shapes, is_large};
use crate::exec::alu::Isa;
use crate::exec::float::ftz;
use crate::exec::insn::{FunctionCode, Handler, Insn, Kind, NONE, Program};
use crate::exec::warp::Warp;
use crate::ir::{Alu, Class, Func, Op, Source, Term, V};

/// Most operations of a kernel that is compiled: bounds the time a launch waits for it.
const MAX_INSNS: usize = 200_000;

/// A field of the warp.
pub(super) fn warp_field(offset: usize) -> Mem {
    Mem::At(RBP, offset as i32)
}

/// Code behind the normal path, emitted at the end.
pub(super) type Stub = Box<dyn FnOnce(&mut Asm, Label)>;

pub(super) struct Compiler<'a> {
    pub(super) a: Asm,
    pub(super) p: &'a Program,
    pub(super) f: &'a Func,
    pub(super) code: &'a FunctionCode,
    pub(super) shapes: &'a Shapes,
    pub(super) isa: Isa,
    pub(super) vnni: bool,
    pub(super) vbmi: bool,
    pub(super) fp16: bool,
    /// The result in the making has 64-bit lanes.
    pub(super) wide_blend: bool,
    pub(super) regs: Regs,
    pub(super) masks_ready: bool,
    pub(super) hosts: Vec<Host>,
    pub(super) checked: Vec<Checked>,
    /// Groups of loads of the segment, and how many were opened in it.
    pub(super) lane_groups: Vec<LaneGroup>,
    pub(super) groups_opened: usize,
    /// Loads that an earlier one has done as well, and the word that says that it has not.
    pub(super) paired: HashMap<u32, Mem>,
    pub(super) groups: Vec<Group>,
    pub(super) stubs: Vec<Stub>,
    pub(super) block: usize,
    /// Constant vector and pair slots.
    pub(super) consts: HashMap<u32, u64>,
    /// Registers that nobody reads after each instruction of the block.
    pub(super) deaths: Vec<Vec<V>>,
    /// Which blocks may run again and again.
    pub(super) loops: Vec<bool>,
    /// The instruction of the block that is being compiled.
    pub(super) at: usize,
    /// Blocks that begin with values in registers, because they are reached from one place: where that
    /// place jumps to, and what is held there.
    pub(super) inherited: HashMap<u32, (Label, Snapshot)>,
    /// How often each block is jumped to.
    pub(super) reached: Vec<u32>,
    /// Whose value each line and pair of the frame is.
    pub(super) owners: HashMap<u32, V>,
    /// Registers that never hold a denormal.
    pub(super) normal: Bits,
    /// Registers whose bytes are all below 128.
    pub(super) small_bytes: Bits,
    /// A pair that was loaded into vectors only: the operation that spreads it is done.
    pub(super) spread: Option<u32>,
    pub(super) exit: Label,
    /// See [`switch`].
    pub(super) switch: Label,
    leaders: HashMap<u32, Label>,
    entries: Vec<(u32, Label)>,
    /// Handlers called since the block began, operations, all handler calls.
    called: bool,
    counts: [u32; 2],
    /// Warps of a team wait somewhere.
    pub(super) barriers: bool,
}

/// Compiles a program. Fails where no executable memory is given or a limit is reached.
pub fn compile(
    p: &Program,
    functions: &[(u32, Func)],
    ntid: [u32; 3],
    isa: Isa,
) -> io::Result<JitCode> {
    if p.insns.len() > MAX_INSNS {
        return Err(io::Error::other(format!(
            "{} operations, at most {MAX_INSNS} are compiled",
            p.insns.len()
        )));
    }
    if let Some((_, f)) = functions.iter().find(|(_, f)| is_large(f)) {
        return Err(io::Error::other(format!("'{}' is too large", f.name)));
    }
    if isa != Isa::Avx512 {
        return Err(io::Error::other("the processor has no AVX-512"));
    }
    let mut a = Asm::default();
    let (exit, goes_on) = (a.label(), a.label());
    prologue(&mut a);
    let mut leaders = HashMap::new();
    for c in &p.functions {
        for &pc in &c.block_pcs {
            leaders.insert(pc, a.label());
        }
    }
    let mut groups = Vec::new();
    let mut entries = Vec::new();
    let mut counts = [0; 2];
    let mut barriers = false;
    for (at, (code, (_, f))) in p.functions.iter().zip(functions).enumerate() {
        let cfg = Cfg::new(&f.blocks);
        let shapes = Shapes::new(f, &cfg, ntid, at == 0);
        let live = live_in(f, &cfg);
        let consts = constants(f, code);
        let mut c = Compiler {
            a,
            p,
            f,
            code,
            shapes: &shapes,
            isa,
            vnni: has_vnni(),
            vbmi: has_vbmi(),
            fp16: has_fp16(),
            wide_blend: false,
            regs: Regs::default(),
            masks_ready: false,
            hosts: Vec::new(),
            checked: Vec::new(),
            lane_groups: Vec::new(),
            groups_opened: 0,
            paired: HashMap::new(),
            groups,
            stubs: Vec::new(),
            block: 0,
            consts,
            deaths: Vec::new(),
            loops: cfg.loops(),
            at: 0,
            inherited: HashMap::new(),
            reached: reached(&cfg, f.blocks.len()),
            owners: owners(code),
            normal: normal(f),
            small_bytes: small_bytes(f),
            spread: None,
            exit,
            switch: goes_on,
            leaders,
            entries,
            called: false,
            counts,
            barriers: false,
        };
        for b in 0..f.blocks.len() {
            c.block(b, &cfg, &live);
        }
        if let Some(&last) = code.block_pcs.last() {
            c.bind_leader(last);
            c.ending(at == 0, last);
        }
        for s in std::mem::take(&mut c.stubs) {
            s(&mut c.a, exit);
        }
        barriers |= c.barriers;
        (a, groups, leaders, entries, counts) = (c.a, c.groups, c.leaders, c.entries, c.counts);
    }
    a.bind(goes_on);
    switch(&mut a, exit);
    a.bind(exit);
    epilogue(&mut a);
    let places: Vec<_> = entries.iter().map(|(pc, l)| (*pc, a.place(*l))).collect();
    let Some(bytes) = a.finish() else {
        return Err(io::Error::other("a jump leads nowhere"));
    };
    let mut table = vec![NONE; p.insns.len()];
    for (pc, place) in places {
        if let (Some(slot), Some(place)) = (table.get_mut(pc as usize), place) {
            *slot = place as u32;
        }
    }
    Ok(JitCode {
        memory: CodeMemory::new(&bytes)?,
        entries: table,
        groups,
        counts,
        barriers,
    })
}

/// Slots of constants, and of registers that are only ever one.
fn constants(f: &Func, code: &FunctionCode) -> HashMap<u32, u64> {
    let source = |v: V| match f.vregs.get(v as usize)?.source {
        Source::Const(c) => Some(c),
        _ => None,
    };
    let mut values: Vec<Option<u64>> = (0..f.vregs.len() as V).map(source).collect();
    let mut defined = vec![0u32; f.vregs.len()];
    for i in f.blocks.iter().flat_map(|b| &b.insts) {
        for &d in &i.d {
            defined[d as usize] += 1;
            let one = match (i.op, i.guard, i.s.first()) {
                (Op::Alu(Alu::Mov32 | Alu::Mov64), None, Some(&s)) => source(s),
                _ => None,
            };
            values[d as usize] = one.filter(|_| defined[d as usize] == 1);
        }
    }
    for &p in &f.params {
        values[p as usize] = None;
    }
    // Operands of `.ftz` operations: those of approximations are flushed first.
    for i in f.blocks.iter().flat_map(|b| &b.insts) {
        if let (Op::Alu(Alu::FtzF32), None, &[d], &[s]) = (i.op, i.guard, &i.d[..], &i.s[..])
            && defined[d as usize] == 1
            && let Some(c) = values[s as usize]
        {
            values[d as usize] = Some(ftz(f32::from_bits(c as u32)).to_bits().into());
        }
    }
    let mut slots = HashMap::new();
    for (v, slot) in values.iter().zip(&code.slots) {
        if let Some(c) = v {
            for s in [slot.pair, slot.vec] {
                if s != NONE {
                    slots.insert(s, *c);
                }
            }
        }
    }
    slots
}

fn has_vbmi() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512vbmi")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

fn has_fp16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512fp16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

const SAVED: [G; 6] = [RBX, RBP, R12, G(13), G(14), R15];
/// Stack kept for registers around calls and for a word of each group of loads; makes the stack a multiple of 16 as well.
const STACK: i8 = (64 + 4 * MAX_GROUPS) as i8;

/// `rdi` frame, `rsi` warp, `rdx` where to go on.
fn prologue(a: &mut Asm) {
    SAVED.iter().for_each(|r| a.push(*r));
    a.move_stack(-STACK);
    a.mov(RBX, RDI);
    a.mov(RBP, RSI);
    a.load64(
        R12,
        warp_field(offset_of!(Warp, jit) + offset_of!(State, ranges)),
    );
    a.load32(R15, warp_field(offset_of!(Warp, mask)));
    a.jump_to(RDX);
}

/// Returns the exit, and the warp that ran last.
fn epilogue(a: &mut Asm) {
    a.mov(RDX, RBP);
    a.vzeroupper();
    a.move_stack(STACK);
    SAVED.iter().rev().for_each(|r| a.pop(*r));
    a.ret();
}

/// Ends a stub: to the run loop, which goes on at `pc`.
pub(super) fn leave(a: &mut Asm, exit: Label, pc: u32, event: u32) {
    a.store_imm32(warp_field(offset_of!(Warp, pc)), pc);
    a.imm32(RAX, event);
    a.jump(exit);
}

/// Masks of lanes: k1 half 0, k2 half 1, k3 and k4 their upper quarters. Changes eax.
pub(super) fn load_masks(a: &mut Asm) {
    a.kmovd_from(K(1), R15);
    for (k, n) in [(2, 16), (3, 8), (4, 24)] {
        a.mov32(RAX, R15);
        a.shr32(RAX, n);
        a.kmovd_from(K(k), RAX);
    }
}

/// Whether two handlers are the same.
pub(super) fn same(a: Handler, b: Handler) -> bool {
    std::ptr::fn_addr_eq(a, b)
}

impl Compiler<'_> {
    /// A label of code that leaves at `pc`, storing what is dirty now.
    pub(super) fn exit_stub(&mut self, pc: u32, event: u32) -> Label {
        let label = self.a.label();
        let held: Snapshot = self.regs.snapshot();
        self.stubs.push(Box::new(move |a, exit| {
            a.bind(label);
            flush(a, &held);
            leave(a, exit, pc, event);
        }));
        label
    }

    fn exit_now(&mut self, pc: u32) {
        self.flush_and_forget();
        leave(&mut self.a, self.exit, pc, EXIT_INTERPRET);
    }

    pub(super) fn flush_and_forget(&mut self) {
        let held = self.regs.snapshot();
        flush(&mut self.a, &held);
        self.forget();
    }

    /// Nothing is in registers any more.
    pub(super) fn forget(&mut self) {
        self.regs.clear();
        self.hosts.clear();
        self.masks_ready = false;
    }

    fn begin_segment(&mut self) {
        self.forget();
        self.checked.clear();
        self.lane_groups.clear();
        self.groups_opened = 0;
        self.paired.clear();
    }

    pub(super) fn leader(&mut self, pc: u32) -> Label {
        let a = &mut self.a;
        *self.leaders.entry(pc).or_insert_with(|| a.label())
    }

    pub(super) fn bind_leader(&mut self, pc: u32) {
        let l = self.leader(pc);
        self.a.bind(l);
        self.entries.push((pc, l));
        self.begin_segment();
    }

    /// See [`load_masks`]; once in a segment.
    pub(super) fn masks(&mut self) {
        if self.masks_ready {
            return;
        }
        self.masks_ready = true;
        load_masks(&mut self.a);
    }

    pub(super) fn insn(&self, pc: u32) -> Option<&Insn> {
        self.p.insns.get(pc as usize)
    }

    /// Calls the handler of the operation at `pc`, or a guard with the operation behind it.
    fn call(&mut self, pc: u32, guard: bool) {
        self.called = true;
        self.counts[1] += 1;
        self.flush_and_forget();
        let Some(i) = self.p.insns.get(pc as usize) else {
            return;
        };
        let after = self.a.label();
        if guard {
            self.a.load32(RAX, super::regs::frame(i.s[0]));
            if i.x == 1 {
                self.a.not32(RAX);
            }
            self.a.and32(RAX, R15);
            self.a.branch(Cc::Z, after);
        }
        let target = if guard {
            call_guarded as *const () as usize
        } else {
            call_handler as *const () as usize
        };
        self.a.mov(RDI, RBX);
        self.a.imm64(RSI, std::ptr::from_ref(i) as u64);
        self.a.mov(RDX, RBP);
        self.a.imm64(RAX, target as u64);
        self.a.call(RAX);
        self.a.test32(RAX);
        let failed = self.a.label();
        self.a.branch(Cc::Nz, failed);
        self.a.bind(after);
        let at = pc + u32::from(guard);
        self.stubs.push(Box::new(move |a, exit| {
            a.bind(failed);
            a.store_imm32(warp_field(offset_of!(Warp, pc)), at);
            a.jump(exit);
        }));
    }

    /// One block. A loop of a single block is compiled a second time with the values it
    /// carries in registers.
    fn block(&mut self, b: usize, cfg: &Cfg, live: &[Bits]) {
        self.block = b;
        let Some(&pc) = self.code.block_pcs.get(b) else {
            return;
        };
        let block = &self.f.blocks[b];
        let own = b as u32;
        let looping = match &block.term {
            Term::Jump(t) => *t == own,
            Term::Branch { then, other, .. } => (*then == own) != (*other == own),
            _ => false,
        };
        match self.inherited.remove(&own) {
            Some((label, held)) => {
                // Whoever comes from elsewhere brings the values in the frame.
                let entry = self.leader(pc);
                self.entries.push((pc, entry));
                let first = held.clone();
                self.stubs.push(Box::new(move |a, _| {
                    a.bind(entry);
                    super::regs::reload(a, &first);
                    a.jump(label);
                }));
                self.begin_segment();
                self.regs = Regs::default();
                self.a.bind(label);
                self.regs.restore(&held);
                self.called = false;
                return self.body(b, pc, cfg, live, None);
            }
            None => self.bind_leader(pc),
        }
        let mark = self.a.mark();
        let (stubs, groups, entries) = (self.stubs.len(), self.groups.len(), self.entries.len());
        let counts = self.counts;
        self.regs = Regs::default();
        self.called = false;
        self.body(b, pc, cfg, live, None);
        if !looping || self.called || self.entries.len() != entries {
            return;
        }
        let carried = self.carried();
        self.stubs.truncate(stubs);
        self.groups.truncate(groups);
        self.counts = counts;
        self.a.rewind(mark);
        self.begin_segment();
        self.regs = Regs::default();
        self.body(b, pc, cfg, live, Some(carried));
    }

    /// What a loop should hold in registers at its start, after a trial run.
    fn carried(&mut self) -> Snapshot {
        const MOST: usize = 20;
        let r = &self.regs;
        let mut keys: Vec<(u32, bool)> = Vec::new();
        let changed = |k: u32| r.written.iter().any(|w| w.0 == k);
        let order = r
            .loaded
            .iter()
            .filter(|k| changed(k.0))
            .chain(r.loaded.iter().filter(|k| !changed(k.0)));
        for k in order {
            if keys.len() < if r.evicted { MOST / 2 } else { MOST } && !keys.contains(k) {
                keys.push(*k);
            }
        }
        keys.iter()
            .enumerate()
            .map(|(at, &(key, pair))| {
                let held = super::regs::Held {
                    key,
                    pair,
                    dirty: changed(key),
                    // The first round begins with what the frame has.
                    nan: r.written.contains(&(key, true)) && !r.observed.contains(&key),
                    used: 0,
                };
                (at as u8, held)
            })
            .collect()
    }

    fn body(&mut self, b: usize, pc: u32, cfg: &Cfg, live: &[Bits], carried: Option<Snapshot>) {
        let mut hot = None;
        if let Some(want) = &carried {
            super::regs::reload(&mut self.a, want);
            self.regs.restore(want);
            let l = self.a.label();
            self.a.bind(l);
            hot = Some((l, want.clone()));
        }
        if self.insn(pc).is_some_and(|i| i.kind == Kind::Join) {
            self.join(pc);
        }
        let block = &self.f.blocks[b];
        self.deaths = self.deaths(b, cfg, live);
        let Some(pcs) = self.code.inst_pcs.get(b) else {
            return self.exit_now(pc);
        };
        let end = self.block_end(b);
        for (k, inst) in block.insts.iter().enumerate() {
            let first = pcs.get(k).copied().unwrap_or(end);
            let last = pcs.get(k + 1).copied().unwrap_or(end);
            let mut at = first;
            self.at = k;
            if self.is_useless(k, inst) {
                at = last;
            }
            while at < last {
                at = self.operation(at, k, inst, last);
            }
            for v in std::mem::take(&mut self.deaths[k]) {
                self.forget_register(v);
            }
        }
        self.terminator(b, end, hot, cfg, live);
    }

    /// First operation of a block's end: behind its last instruction's.
    pub(super) fn block_end(&self, b: usize) -> u32 {
        let next = self.code.block_pcs.get(b + 1).copied().unwrap_or(0);
        let start = self.code.block_pcs[b];
        let ends = |pc: u32| {
            self.insn(pc).is_some_and(|i| {
                matches!(
                    i.kind,
                    Kind::Jump | Kind::Branch | Kind::Switch | Kind::Exit
                )
            })
        };
        if next > start && ends(next - 1) {
            next - 1
        } else {
            next
        }
    }

    /// Registers that nobody reads after each instruction of a block.
    fn deaths(&self, b: usize, cfg: &Cfg, live: &[Bits]) -> Vec<Vec<V>> {
        let block = &self.f.blocks[b];
        let mut now = Bits::new(self.f.vregs.len());
        for &s in &cfg.succ[b] {
            now.union(&live[s as usize]);
        }
        match &block.term {
            Term::Branch { pred, .. } => now.insert(*pred),
            Term::Switch { index, .. } => now.insert(*index),
            _ => {}
        }
        let mut out = vec![Vec::new(); block.insts.len()];
        for (k, i) in block.insts.iter().enumerate().rev() {
            for &v in i.d.iter().chain(&i.s) {
                if !now.has(v) && !self.shapes.masked(b, v) {
                    out[k].push(v);
                }
            }
            liveness::step(&mut now, i);
        }
        out
    }

    /// Whether nobody reads what an instruction computes.
    fn is_useless(&self, k: usize, inst: &crate::ir::Inst) -> bool {
        let dead = |d: &V| self.deaths[k].contains(d) && !inst.s.contains(d);
        matches!(inst.op, Op::Alu(_)) && inst.d.iter().all(dead)
    }

    /// Whether the 32-bit register with a vector slot is read by nobody after this instruction.
    pub(super) fn dies(&self, vec: u32) -> bool {
        let slot = |v: &V| self.code.slots.get(*v as usize);
        let list = self.deaths.get(self.at).into_iter().flatten();
        list.filter_map(slot)
            .any(|s| s.class == Class::W && s.vec == vec)
    }

    fn forget_register(&mut self, v: V) {
        let Some(s) = self.code.slots.get(v as usize) else {
            return;
        };
        if s.class == Class::P {
            return;
        }
        if s.pair != NONE {
            self.regs.drop_key(s.pair);
        }
        if s.vec != NONE {
            for line in 0..if s.class == Class::D { 4 } else { 2 } {
                self.regs.drop_key(s.vec + 64 * line);
            }
        }
    }

    /// Drops what was known of registers that an instruction defines.
    fn redefined(&mut self, inst: &crate::ir::Inst) {
        for &v in &inst.d {
            if let Some(s) = self.code.slots.get(v as usize) {
                self.checked.retain(|c| c.key != s.pair);
                self.hosts.retain(|h| h.key != s.pair);
                self.lane_groups.retain(|g| g.slot != s.vec);
            }
        }
    }

    /// Compiles the operation at `pc`, part of instruction `k` of the block; returns the next.
    fn operation(&mut self, pc: u32, k: usize, inst: &crate::ir::Inst, last: u32) -> u32 {
        let Some(i) = self.p.insns.get(pc as usize) else {
            return last;
        };
        match i.kind {
            Kind::Fused => pc + 1,
            Kind::Plain => {
                self.counts[0] += 1;
                if !self.inline(pc, i, k, inst) {
                    self.call(pc, false);
                }
                self.redefined(inst);
                pc + 1
            }
            Kind::Guard if pc + 1 < last => {
                self.counts[0] += 1;
                self.call(pc, true);
                self.redefined(inst);
                pc + 2
            }
            _ if self.barrier(pc, i) => pc + 1,
            _ => {
                self.exit_now(pc);
                self.bind_leader(pc + 1);
                pc + 1
            }
        }
    }

    fn inline(&mut self, pc: u32, i: &Insn, k: usize, inst: &crate::ir::Inst) -> bool {
        if self.splat(i) || self.guard_affine(pc, i) {
            return true;
        }
        match inst.op {
            Op::Alu(alu) => self.vector_alu(alu, i) || self.pair_alu(alu, i),
            Op::Ld(a) => self.load(pc, i, k, inst, a) || self.lanes(pc, i, inst, a, true),
            Op::St(a) => self.store(pc, i, k, inst, a) || self.lanes(pc, i, inst, a, false),
            Op::Shfl(m) => self.shuffle(pc, m, i, inst),
            _ => false,
        }
    }

    /// Goes to a block: `pc` is the branch.
    fn edge(&mut self, target: u32, pc: u32, next: u32) {
        if target <= pc {
            self.back_edge(target);
        }
        if target != next {
            let l = self.leader(target);
            self.a.jump(l);
        }
    }

    /// Counts a backward branch and looks at the abort flag.
    fn back_edge(&mut self, target: u32) {
        let state = offset_of!(Warp, jit);
        self.a
            .count_down(warp_field(state + offset_of!(State, left)));
        let turn = self.exit_stub(target, EXIT_TURN);
        self.a.branch(Cc::Z, turn);
        self.a
            .load64(RCX, warp_field(state + offset_of!(State, abort)));
        self.a.cmp_byte(Mem::At(RCX, 0), 0);
        let abort = self.exit_stub(target, EXIT_ABORT);
        self.a.branch(Cc::Nz, abort);
    }

    fn terminator(
        &mut self,
        b: usize,
        end: u32,
        hot: Option<(Label, Snapshot)>,
        cfg: &Cfg,
        live: &[Bits],
    ) {
        let next = self.code.block_pcs.get(b + 1).copied().unwrap_or(NONE);
        let Some(i) = self.p.insns.get(end as usize).filter(|_| end < next) else {
            // Falls through.
            return self.flush_and_forget();
        };
        self.counts[0] += 1;
        let own = self.code.block_pcs[b];
        match i.kind {
            Kind::Jump if i.d[0] == own && hot.is_some() => {
                if let Some((l, want)) = hot {
                    self.regs.become_like(&mut self.a, &want);
                    self.back_edge(own);
                    self.a.jump(l);
                }
                self.forget();
            }
            Kind::Jump => {
                self.flush_and_forget();
                self.edge(i.d[0], end, next);
            }
            Kind::Branch => {
                let heirs = [i.d[0], i.d[1]].map(|t| self.inherits(b, t, cfg));
                // Both edges to one block are two ways to it.
                let heirs = if i.d[0] == i.d[1] { [None; 2] } else { heirs };
                if hot.is_none() && heirs == [None, None] {
                    self.flush_and_forget();
                }
                self.a.load32(RAX, super::regs::frame(i.s[0]));
                if i.x == 1 {
                    self.a.not32(RAX);
                }
                self.a.and32(RAX, R15);
                let other = self.a.label();
                self.a.branch(Cc::Z, other);
                self.a.cmp32(RAX, R15);
                let divergent = self.parting(end, i);
                self.a.branch(Cc::Nz, divergent);
                let state = self.regs.snapshot();
                let ways = [
                    (None, i.d[0], NONE, heirs[0]),
                    (Some(other), i.d[1], next, heirs[1]),
                ];
                for (label, target, follow, heir) in ways {
                    if let Some(l) = label {
                        self.a.bind(l);
                        self.regs.restore(&state);
                    }
                    match &hot {
                        Some((l, want)) if target == own => {
                            self.regs.become_like(&mut self.a, want);
                            self.back_edge(own);
                            self.a.jump(*l);
                        }
                        _ => match heir {
                            Some(to) => self.hand_over(b, to, target == follow, live),
                            None => {
                                self.flush_and_forget();
                                self.edge(target, end, follow);
                            }
                        },
                    }
                }
                self.forget();
            }
            _ => self.exit_now(end),
        }
    }
}

/// Registers for host addresses, one for each half of the warp.
pub(super) const HOSTS: [[G; 2]; 4] = [[R8, R9], [G(10), G(11)], [G(13), G(14)], [RSI, RDI]];
