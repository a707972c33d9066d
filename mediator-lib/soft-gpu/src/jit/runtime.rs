//! What compiled code and the interpreter share: how code is entered, and the functions it calls.
#![allow(unsafe_code)] // enters compiled code; called by it with raw pointers

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::ahead;
use super::memory::CodeMemory;
use crate::exec::insn::{EVENT_ALIGNED, EVENT_DEOPT, EVENT_SPLIT, Insn, NONE};
use crate::exec::lanes::Lane;
use crate::exec::run::branch;
use crate::exec::warp::Warp;

/// Continue in the interpreter at [`Warp::pc`].
pub const EXIT_INTERPRET: u32 = 0;
/// The same, where the kernel returns: a warp whose lanes were together all the way has ended.
pub const EXIT_DONE: u32 = 15;
/// The turn of the warp is used up.
pub const EXIT_TURN: u32 = 16;
/// The launch is being aborted.
pub const EXIT_ABORT: u32 = 17;
/// A handler panicked: [`State::panic`].
pub const EXIT_PANIC: u32 = 18;

/// The allocation that a group of accesses hit last: for both halves of a warp the
/// subtrahend of their addresses and the first quotient beyond the allocation.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
pub struct JitRange {
    /// Subtracted from the address register.
    pub base: [u64; 2],
    /// The difference, divided by the alignment, must be below.
    pub limit: [u64; 2],
    /// How many differences there are, whatever their alignment; 0 where nothing is worth fetching ahead
    /// (see [`super::ahead`]).
    pub starts: u64,
    /// Where the access in a loop was last, for half 0 (see [`super::ahead`]).
    pub last: u64,
}

/// What is static of a group of accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Lowest offset from the address register.
    pub lo: i64,
    /// Bytes from there that are accessed.
    pub span: u32,
    /// Alignment as a power of two.
    pub align: u8,
    /// In the block's shared memory.
    pub shared: bool,
    /// The address register has 32 bits.
    pub narrow: bool,
}

impl Group {
    /// The range for memory of `bytes` at `base`.
    fn range(&self, base: u64, bytes: u64) -> JitRange {
        let span = u64::from(self.span);
        let limit = match bytes.checked_sub(span) {
            Some(room) => (room >> self.align) + 1,
            None => 0,
        };
        let base = base.wrapping_sub(self.lo as u64);
        let base = if self.narrow {
            base & 0xffff_ffff
        } else {
            base
        };
        JitRange {
            base: [base; 2],
            limit: [limit; 2],
            starts: if bytes < ahead::SMALL_BYTES {
                0
            } else {
                limit << self.align
            },
            last: 0,
        }
    }
}

/// What compiled code keeps with a warp.
#[derive(Default)]
pub struct State {
    /// Ranges of the worker, one per group.
    pub ranges: usize,
    /// Address of the abort flag.
    pub abort: usize,
    /// Backward branches left of the turn.
    pub left: u32,
    /// Number of ranges.
    pub range_count: u32,
    /// Address of the code that the warp runs.
    pub code: usize,
    /// Address of its [`Team`], or 0.
    pub team: usize,
    /// Address of the warp of its team that goes on when this one waits at the block's barrier; 0: none, the
    /// barrier is left to the interpreter.
    pub next: usize,
    /// Where in the code a waiting warp of a team goes on.
    pub resume: usize,
    /// How the code is to be left, if [`Next::to`] is 0.
    pub exit: u32,
    /// What a handler panicked with.
    pub panic: Option<Box<dyn Any + Send>>,
}

/// The warps of a block while they run in compiled code, one after the other: where one waits at the block's
/// barrier, the next goes on, and so does the first again once the last has come to it. Nobody else runs
/// meanwhile, so that a barrier needs no account of who has arrived.
#[derive(Debug)]
pub struct Team {
    /// The first warp; the others lie behind it.
    pub first: *mut Warp,
    /// How many there are.
    pub count: usize,
    /// Whether the code has such barriers.
    pub waits: bool,
    /// Those that have ended: the first ones. From then on nobody waits at a barrier.
    pub done: usize,
}

impl Default for Team {
    fn default() -> Team {
        Team {
            first: std::ptr::null_mut(),
            count: 0,
            waits: false,
            done: 0,
        }
    }
}

/// Where compiled code goes on, and with which warp.
#[derive(Debug)]
#[repr(C)]
pub struct Next {
    /// Address in the code; 0: the code is left ([`State::exit`]).
    to: usize,
    warp: *mut Warp,
}

/// How code was left.
#[repr(C)]
struct Exit {
    code: u32,
    warp: *mut Warp,
}

/// Compiled code of a kernel with all it calls.
#[derive(Debug)]
pub struct JitCode {
    pub(super) memory: CodeMemory,
    /// Offset of the code of each operation where code can be entered, or [`NONE`].
    pub(super) entries: Vec<u32>,
    pub(super) groups: Vec<Group>,
    /// Operations compiled, and those among them that call a handler.
    pub(super) counts: [u32; 2],
    /// See [`JitCode::has_barriers`].
    pub(super) barriers: bool,
}

impl JitCode {
    /// Where to enter for the operation at `pc`.
    #[inline(always)]
    pub fn entry(&self, pc: u32) -> Option<u32> {
        self.entries
            .get(pc as usize)
            .copied()
            .filter(|&e| e != NONE)
    }

    /// Ranges of a worker.
    pub fn ranges(&self, shared_bytes: u64) -> Vec<JitRange> {
        let make = |g: &Group| {
            if g.shared {
                g.range(0, shared_bytes)
            } else {
                JitRange::default()
            }
        };
        self.groups.iter().map(make).collect()
    }

    /// Bytes of executable memory.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Operations compiled, and those among them that call a handler.
    pub fn counts(&self) -> [u32; 2] {
        self.counts
    }

    /// Whether warps of a team give way to each other in it.
    pub fn has_barriers(&self) -> bool {
        self.barriers
    }

    /// Address of the code at an offset from [`JitCode::entry`].
    pub fn address(&self, entry: u32) -> usize {
        self.memory.ptr() as usize + entry as usize
    }

    /// Runs a warp from `entry` on; [`Warp::pc`] says where it stopped.
    ///
    /// # Safety
    /// The warp runs the program that this code was compiled from, its state holds this
    /// code's ranges, and the program and the abort flag outlive the call.
    #[inline(always)]
    pub unsafe fn enter(
        &self,
        w: &mut Warp,
        entry: u32,
        left: &mut u32,
        abort: &AtomicBool,
    ) -> u32 {
        self.prepare(w, *left, abort);
        // SAFETY: forwarded from the caller; the warp is in no team, so that no other one runs.
        let (exit, _) = unsafe { self.run(w, self.address(entry)) };
        *left = w.jit.left;
        exit
    }

    /// What a warp needs before it runs this code; it is in no team.
    #[inline(always)]
    pub fn prepare(&self, w: &mut Warp, left: u32, abort: &AtomicBool) {
        w.jit.left = left;
        w.jit.abort = std::ptr::from_ref(abort) as usize;
        w.jit.code = std::ptr::from_ref(self) as usize;
        (w.jit.team, w.jit.next) = (0, 0);
    }

    /// Runs a warp, and those of its team, from an address in the code on. Returns how the code was left, and
    /// by which warp.
    ///
    /// # Safety
    /// As for [`JitCode::enter`]; all warps of the team were prepared for this code and nobody else refers to
    /// them; `at` is [`JitCode::address`] of an entry or was noted by this code for this warp.
    #[inline(always)]
    pub unsafe fn run(&self, w: *mut Warp, at: usize) -> (u32, *mut Warp) {
        // SAFETY: the memory begins with the entry sequence, which follows this signature, and `at` is a
        // place in it where code may be entered; `w` is the caller's.
        let exit = unsafe {
            let frame = (*w).registers.wrapping_add((*w).frame);
            let run: extern "C" fn(*mut u8, *mut Warp, usize) -> Exit =
                std::mem::transmute(self.memory.ptr());
            run(frame, w, at)
        };
        if exit.code == EXIT_PANIC {
            // SAFETY: the warp itself or one of its team, as the caller promised.
            let w = unsafe { &mut *exit.warp };
            if let Some(p) = w.jit.panic.take() {
                std::panic::resume_unwind(p);
            }
        }
        (exit.code, exit.warp)
    }
}

/// Leaves the code at `pc` for the interpreter.
fn leave(w: &mut Warp, pc: u32, exit: u32) -> Next {
    (w.pc, w.jit.exit) = (pc, exit);
    Next { to: 0, warp: w }
}

/// Goes on at [`Warp::pc`], in the code if it can be entered there.
fn go_on(w: &mut Warp) -> Next {
    // SAFETY: the code that runs the warp, which was noted when it was entered.
    let code = unsafe { &*(w.jit.code as *const JitCode) };
    match code.entry(w.pc) {
        Some(entry) => Next {
            to: code.address(entry),
            warp: w,
        },
        None => leave(w, w.pc, EXIT_INTERPRET),
    }
}

/// Lanes part at the branch `i`, whose place is `pc`. As the interpreter does it, to which it is left where
/// more is to be done.
pub extern "C" fn part(w: *mut Warp, i: *const Insn, pc: u32) -> Next {
    // SAFETY: compiled code passes an operation of its program and the warp that it runs.
    let (w, i) = unsafe { (&mut *w, &*i) };
    if i.d[0] <= pc || i.d[1] <= pc {
        // SAFETY: the flag was noted when the code was entered, whose caller holds it.
        let abort = unsafe { &*(w.jit.abort as *const AtomicBool) };
        if w.jit.left <= 1 || abort.load(Ordering::Relaxed) {
            return leave(w, pc, EXIT_INTERPRET);
        }
    }
    let f = w.registers.wrapping_add(w.frame);
    let Some(target) = branch(w, i, f) else {
        return leave(w, pc, EXIT_INTERPRET);
    };
    w.jit.left -= u32::from(target <= pc);
    w.pc = target;
    go_on(w)
}

/// Lanes meet at `pc`: those go on that wait for these.
pub extern "C" fn meet(w: *mut Warp, pc: u32) -> Next {
    // SAFETY: compiled code passes the warp that it runs.
    let w = unsafe { &mut *w };
    if !w.others_wait() {
        return leave(w, pc, EXIT_INTERPRET);
    }
    w.pop();
    go_on(w)
}

/// The lanes of a warp of a team have come to the end of the kernel, at `pc`.
pub extern "C" fn end(w: *mut Warp, pc: u32) -> Next {
    // SAFETY: compiled code passes the warp that it runs.
    let own = unsafe { &mut *w };
    if !own.stack.is_empty() {
        // Other lanes of it have not.
        return leave(own, pc, EXIT_INTERPRET);
    }
    // SAFETY: compiled code asks only for a warp with a team, which outlives the call.
    let team = unsafe { &mut *(own.jit.team as *mut Team) };
    let (first, done) = (team.first, team.done);
    if !std::ptr::eq(w, first.wrapping_add(done)) || done + 1 >= team.count {
        // Others wait at a barrier for it; or it is the last.
        return leave(own, pc, EXIT_DONE);
    }
    if done == 0 && team.waits {
        for k in 1..team.count {
            // SAFETY: the warps of the team lie one behind the other; `own` is the first.
            unsafe { (*first.add(k)).jit.next = 0 };
        }
    }
    team.done = done + 1;
    let next = first.wrapping_add(done + 1);
    Next {
        // SAFETY: as above: `done + 1` is below their number.
        to: unsafe { (*next).jit.resume },
        warp: next,
    }
}

/// Runs the handler of an operation.
pub extern "C" fn call_handler(f: *mut u8, i: *const Insn, w: *mut Warp) -> u32 {
    // SAFETY: compiled code passes an operation of the program it was compiled from, the
    // warp it was entered with, and that warp's frame.
    let (i, w) = unsafe { (&*i, &mut *w) };
    let run = AssertUnwindSafe(|| {
        // SAFETY: as above: `f` is the frame of the function that `i` belongs to.
        unsafe { (i.run)(f, i, w) }
    });
    match catch_unwind(run) {
        Ok(event) => event,
        Err(p) => {
            w.jit.panic = Some(p);
            EXIT_PANIC
        }
    }
}

/// Runs the operation behind a guard for the lanes whose predicate holds.
pub extern "C" fn call_guarded(f: *mut u8, i: *const Insn, w: *mut Warp) -> u32 {
    // SAFETY: compiled code passes a guard, which is followed by a plain operation.
    let (guard, next) = unsafe { (&*i, i.add(1)) };
    // SAFETY: the warp the code was entered with; nothing else refers to it meanwhile.
    let all = unsafe { (*w).mask };
    // SAFETY: the emitter gave the predicate a mask slot in this frame.
    let p = unsafe { bool::load(f.wrapping_add(guard.s[0] as usize)) };
    let m = all & if guard.x == 1 { !p } else { p };
    if m == 0 {
        return 0;
    }
    // SAFETY: as above.
    unsafe { (*w).mask = m };
    let event = call_handler(f, next, w);
    if matches!(event, 0 | EVENT_DEOPT | EVENT_SPLIT | EVENT_ALIGNED) {
        // SAFETY: as above.
        unsafe { (*w).mask = all };
    }
    event
}

/// Looks up the allocation of a group's accesses and notes it. Returns 0 if they do not
/// all lie in one: then the interpreter sees to it. `packed` is span, alignment and index.
pub extern "C" fn find_range(w: *mut Warp, a: u64, b: u64, lo: i64, span: u64, packed: u64) -> u32 {
    // SAFETY: the warp the code was entered with.
    let w = unsafe { &mut *w };
    let (index, align) = ((packed >> 8) as u32, (packed & 0xff) as u8);
    let g = Group {
        lo,
        span: span as u32,
        align,
        shared: false,
        narrow: false,
    };
    if index >= w.jit.range_count {
        return 0;
    }
    let first = a.wrapping_add(lo as u64);
    // What may not be written is left to the interpreter: a group has loads and stores.
    let Some((base, bytes)) = w.memory.allocation(first, span, true) else {
        return 0;
    };
    let other = b.wrapping_add(lo as u64).wrapping_sub(base);
    let unaligned = (first | b.wrapping_add(lo as u64)) & ((1 << align) - 1) != 0;
    if unaligned || other >= bytes || span > bytes - other {
        return 0;
    }
    // SAFETY: the worker's ranges, of which `index` is one (checked above).
    unsafe { *(w.jit.ranges as *mut JitRange).add(index as usize) = g.range(base, bytes) };
    1
}

/// The same for accesses of the lanes that run, whose addresses stand in a vector of the frame: of the allocation
/// that the first of them reaches.
pub extern "C" fn find_lane(w: *mut Warp, slot: u64, lo: i64, span: u64, packed: u64) -> u32 {
    // SAFETY: the warp the code was entered with.
    let own = unsafe { &*w };
    let f = own.registers.wrapping_add(own.frame);
    // SAFETY: compiled code passes a 64-bit vector slot of this frame.
    let addresses = unsafe { u64::load(f.wrapping_add(slot as usize)) };
    let a = addresses[own.mask.trailing_zeros() as usize & 31];
    find_range(w, a, a, lo, span, packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_allocations_are_fetched_ahead_and_only_inside() {
        let group = Group {
            lo: 16,
            span: 64,
            align: 2,
            shared: false,
            narrow: false,
        };
        let small = group.range(0x1_0000, ahead::SMALL_BYTES - 1);
        assert_eq!(small.starts, 0);
        let range = group.range(0x1_0000, ahead::SMALL_BYTES);
        assert_eq!(range.base, [0x1_0000 - 16; 2]);
        // The last access that lies inside begins at the last start.
        let last = ahead::SMALL_BYTES - 64;
        assert!(last < range.starts && range.starts <= last + 4);
        assert_eq!(range.limit, [last / 4 + 1; 2]);
    }
}
