//! What compiled code and the interpreter share: how code is entered, and the functions it calls.
#![allow(unsafe_code)] // enters compiled code; called by it with raw pointers

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;

use super::memory::CodeMemory;
use crate::exec::insn::{EVENT_ALIGNED, EVENT_DEOPT, EVENT_SPLIT, Insn, NONE};
use crate::exec::lanes::Lane;
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
    /// What a handler panicked with.
    pub panic: Option<Box<dyn Any + Send>>,
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
        w.jit.left = *left;
        w.jit.abort = std::ptr::from_ref(abort) as usize;
        let base = self.memory.ptr();
        let frame = w.registers.wrapping_add(w.frame);
        // SAFETY: the memory begins with the entry sequence, which follows this signature, and
        // `entry` is a place in it where code may be entered.
        let exit = unsafe {
            let run: extern "C" fn(*mut u8, *mut Warp, *const u8) -> u32 =
                std::mem::transmute(base);
            run(frame, w, base.wrapping_add(entry as usize))
        };
        *left = w.jit.left;
        if exit == EXIT_PANIC
            && let Some(p) = w.jit.panic.take()
        {
            std::panic::resume_unwind(p);
        }
        exit
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
