//! Compiles a program block by block: exits, branches, loops, calls of handlers.

use std::collections::HashMap;
use std::io;
use std::mem::offset_of;

use super::access::{Checked, Host};
use super::asm::{Asm, Cc, G, K, Label, Mem, R8, R9, R12, R15, RAX, RBP, RBX, RDI, RDX, RSI};
use super::control::switch;
use super::grouped::{LaneGroup, MAX_GROUPS};
use super::heirs::{owners, reached};
use super::memory::CodeMemory;
use super::regs::{Regs, Snapshot, flush};
use super::runtime::{EXIT_INTERPRET, Group, JitCode, State, call_guarded, call_handler};
use crate::analysis::cfg::Cfg;
use crate::analysis::constants;
use crate::analysis::liveness::Bits;
use crate::analysis::normal::{normal, small_bytes};
use crate::analysis::shapes::{Shapes, is_large};
use crate::exec::alu::Isa;
use crate::exec::insn::{FunctionCode, Handler, Insn, NONE, Program};
use crate::exec::warp::Warp;
use crate::ir::{Func, V};

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
    /// Whose value each line and pair of the frame may be.
    pub(super) owners: HashMap<u32, Vec<V>>,
    /// Registers that never hold a denormal.
    pub(super) normal: Bits,
    /// Registers whose bytes are all below 128.
    pub(super) small_bytes: Bits,
    /// A pair that was loaded into vectors only: the operation that spreads it is done.
    pub(super) spread: Option<u32>,
    pub(super) exit: Label,
    /// See [`switch`].
    pub(super) switch: Label,
    pub(super) leaders: HashMap<u32, Label>,
    pub(super) entries: Vec<(u32, Label)>,
    /// Handlers called since the block began, operations, all handler calls.
    pub(super) called: bool,
    pub(super) counts: [u32; 2],
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
            c.block(b, &cfg, &shapes.live);
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
    let mut slots = HashMap::new();
    for (v, slot) in constants::of(f).iter().zip(&code.slots) {
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

    pub(super) fn exit_now(&mut self, pc: u32) {
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

    pub(super) fn begin_segment(&mut self) {
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
    pub(super) fn call(&mut self, pc: u32, guard: bool) {
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
}

/// Registers for host addresses, one for each half of the warp.
pub(super) const HOSTS: [[G; 2]; 4] = [[R8, R9], [G(10), G(11)], [G(13), G(14)], [RSI, RDI]];
