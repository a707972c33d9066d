//! The run loop of a warp: control flow, divergence, calls.
#![allow(unsafe_code)] // calls handlers on frames and copies words between frames

use std::sync::atomic::{AtomicBool, Ordering};

use super::insn::{
    CallSite, EVENT_ALIGNED, EVENT_DEOPT, EVENT_FAULT, EVENT_SPLIT, Insn, Kind, NONE, Program,
};
use super::lanes::{LANES, Lane};
use super::warp::{Entry, FaultKind, LaneFault, MAX_SIMT_DEPTH, Status, Warp};
use super::warp_ops::fill;
use crate::ir::windows::{FUNCTION_STEP, FUNCTION_WINDOW};
use crate::jit::runtime::{EXIT_ABORT, EXIT_DONE, EXIT_INTERPRET, EXIT_TURN, JitCode};
use crate::launch::CALL_BYTES;

/// Why a warp stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It ended.
    Done,
    /// It waits at the barrier operation at this index.
    Barrier(u32),
    /// It used its turn.
    Turn,
    /// It faulted: [`Warp::fault`].
    Fault,
    /// The launch is being aborted.
    Aborted,
    /// It must continue in the reference code from the operation at this index.
    Deopt(u32),
    /// Lanes are missing for the operation at this index; [`Warp::pc`] says where to do it again.
    Split(u32),
    /// All its groups of lanes wait.
    Blocked,
    /// Some of its lanes ended, others go on.
    LanesEnded,
}

pub(super) fn raise(w: &mut Warp, pc: u32, kind: FaultKind, addr: u64) -> Stop {
    let lane = w.mask.trailing_zeros() & 31;
    w.fault = Some(LaneFault {
        kind,
        lane,
        addr,
        bytes: 0,
        space: "",
        write: false,
    });
    w.fault_pc = pc;
    Stop::Fault
}

#[inline(always)]
pub(super) fn mask_at(f: *mut u8, slot: u32) -> u32 {
    // SAFETY: the emitter gives predicates a mask slot in the frame `f` of the running function.
    unsafe { bool::load(f.wrapping_add(slot as usize)) }
}

/// One lane of a 32-bit vector slot.
pub(super) fn lane_at(f: *mut u8, slot: u32, lane: u32) -> u32 {
    // SAFETY: the emitter gives the operand a vector slot in the frame `f`; `lane` is cut to 0..32.
    unsafe {
        let lanes = f.wrapping_add(slot as usize).cast::<u32>();
        lanes.add((lane & 31) as usize).read()
    }
}

/// Runs a warp until it stops.
///
/// With `jit`, the code compiled from `program`, it interprets only what that code leaves to it.
/// `exited` is how that code was left just now, if it was.
pub fn run(
    w: &mut Warp,
    program: &Program,
    jit: Option<&JitCode>,
    abort: &AtomicBool,
    mut exited: Option<u32>,
) -> Stop {
    let insns: &[Insn] = &program.insns;
    let mut pc = w.pc;
    let mut f = w.registers.wrapping_add(w.frame);
    let mut turn = w.turn;
    // The operation that compiled code left to the interpreter.
    let mut left = NONE;
    macro_rules! back_edge {
        ($target:expr) => {
            if $target < pc {
                turn -= 1;
                if abort.load(Ordering::Relaxed) {
                    return Stop::Aborted;
                }
                if turn == 0 {
                    w.pc = $target;
                    return Stop::Turn;
                }
            }
        };
    }
    loop {
        if let Some(code) = jit {
            let exit = match exited.take() {
                None if pc != left => code.entry(pc).map(|entry| {
                    w.pc = pc;
                    // SAFETY: the caller passes code of `program` with its ranges in the warp's state.
                    unsafe { code.enter(w, entry, &mut turn, abort) }
                }),
                exit => exit,
            };
            if let Some(exit) = exit {
                pc = w.pc;
                match exit {
                    EXIT_INTERPRET | EXIT_DONE => left = pc,
                    EXIT_TURN => return Stop::Turn,
                    EXIT_ABORT => return Stop::Aborted,
                    EVENT_DEOPT => return Stop::Deopt(pc),
                    EVENT_SPLIT | EVENT_ALIGNED => return split(w, insns, pc),
                    _ => {
                        w.fault_pc = pc;
                        return Stop::Fault;
                    }
                }
            } else {
                left = NONE;
            }
        }
        let Some(i) = insns.get(pc as usize) else {
            return raise(w, pc.saturating_sub(1), FaultKind::BadCall, 0);
        };
        pc += 1;
        match i.kind {
            Kind::Plain => {
                // SAFETY: `i` was emitted for the function whose frame `f` is.
                let event = unsafe { (i.run)(f, i, w) };
                if event != 0 {
                    if event == EVENT_DEOPT {
                        return Stop::Deopt(pc - 1);
                    }
                    if event == EVENT_SPLIT || event == EVENT_ALIGNED {
                        return split(w, insns, pc - 1);
                    }
                    debug_assert_eq!(event, EVENT_FAULT);
                    w.fault_pc = pc - 1;
                    return Stop::Fault;
                }
            }
            Kind::Fused => {
                // SAFETY: as for `Plain`.
                if unsafe { (i.run)(f, i, w) } == 0 {
                    pc += i.d[1];
                }
            }
            Kind::Guard => {
                let p = mask_at(f, i.s[0]);
                let m = w.mask & if i.x == 1 { !p } else { p };
                if m == 0 {
                    pc += 1;
                    continue;
                }
                let Some(next) = insns.get(pc as usize) else {
                    continue;
                };
                pc += 1;
                let all = std::mem::replace(&mut w.mask, m);
                // SAFETY: as for `Plain`; the emitter puts a plain operation after a guard.
                let event = unsafe { (next.run)(f, next, w) };
                if event != 0 {
                    if event == EVENT_DEOPT {
                        w.mask = all;
                        return Stop::Deopt(pc - 1);
                    }
                    if event == EVENT_SPLIT || event == EVENT_ALIGNED {
                        w.mask = all;
                        return split(w, insns, pc - 1);
                    }
                    w.fault_pc = pc - 1;
                    return Stop::Fault;
                }
                w.mask = all;
            }
            Kind::Jump => {
                let target = i.d[0];
                back_edge!(target);
                pc = target;
            }
            Kind::Branch => {
                let Some(target) = branch(w, i, f) else {
                    return raise(w, pc - 1, FaultKind::StackOverflow, 0);
                };
                back_edge!(target);
                pc = target;
            }
            Kind::Join => {
                if w.rpc == pc - 1 {
                    if !w.pop() {
                        return Stop::Done;
                    }
                    pc = w.pc;
                    f = w.registers.wrapping_add(w.frame);
                    // What follows is for compiled code again, even where it left off at this place.
                    left = NONE;
                }
            }
            Kind::Switch => {
                let target = match switch(w, program, i, f) {
                    Some(t) => t,
                    None => return raise(w, pc - 1, FaultKind::BadCall, 0),
                };
                back_edge!(target);
                pc = target;
            }
            Kind::Call => {
                match call(w, program, i, f, pc - 1) {
                    Ok(target) => pc = target,
                    Err((kind, addr)) => return raise(w, pc - 1, kind, addr),
                }
                if abort.load(Ordering::Relaxed) {
                    return Stop::Aborted;
                }
                f = w.registers.wrapping_add(w.frame);
                // Recursion may run for long without a backward branch.
                turn -= 1;
                if turn == 0 {
                    w.pc = pc;
                    return Stop::Turn;
                }
            }
            Kind::Return => {
                match return_from(w, program, f) {
                    Ok(Some(next)) => pc = next,
                    Ok(None) => return Stop::Done,
                    Err(kind) => return raise(w, pc - 1, kind, 0),
                }
                f = w.registers.wrapping_add(w.frame);
            }
            Kind::Exit => {
                w.dead |= w.mask;
                if !w.pop() {
                    return Stop::Done;
                }
                pc = w.pc;
                f = w.registers.wrapping_add(w.frame);
            }
            Kind::Barrier => {
                if !w.whole() {
                    return split(w, insns, pc - 1);
                }
                w.pc = pc;
                return Stop::Barrier(pc - 1);
            }
            Kind::Trap => {
                let kind = if i.x == 1 {
                    FaultKind::Assert
                } else {
                    FaultKind::Trap
                };
                return raise(w, pc - 1, kind, 0);
            }
        }
    }
}

/// Takes a branch: where lanes part, the others wait. None if too many wait already.
pub(crate) fn branch(w: &mut Warp, i: &Insn, f: *mut u8) -> Option<u32> {
    let p = mask_at(f, i.s[0]);
    let taken = w.mask & if i.x == 1 { !p } else { p };
    let other = w.mask & !taken;
    if other == 0 {
        return Some(i.d[0]);
    }
    if taken == 0 {
        return Some(i.d[1]);
    }
    let meet = i.d[2];
    if w.stack.len() >= MAX_SIMT_DEPTH {
        return None;
    }
    if meet != w.rpc {
        w.stack.push(Entry::Lanes {
            pc: meet,
            mask: w.mask,
            rpc: w.rpc,
        });
        w.rpc = meet;
    }
    if i.d[0] == meet {
        w.mask = other;
        return Some(i.d[1]);
    }
    if i.d[1] != meet {
        w.stack.push(Entry::Lanes {
            pc: i.d[1],
            mask: other,
            rpc: meet,
        });
    }
    w.mask = taken;
    Some(i.d[0])
}

/// Stops before the operation at `pc`, or before its guard.
fn split(w: &mut Warp, insns: &[Insn], pc: u32) -> Stop {
    let guard = pc
        .checked_sub(1)
        .and_then(|k| insns.get(k as usize))
        .is_some_and(|i| i.kind == Kind::Guard);
    w.pc = pc - u32::from(guard);
    Stop::Split(pc)
}

/// The call site of an operation, the function that the first lane calls, and the lanes that call it.
pub(super) fn target_of<'p>(
    w: &Warp,
    program: &'p Program,
    i: &Insn,
    f: *mut u8,
) -> Result<(&'p CallSite, u32, u32), (FaultKind, u64)> {
    let site = program
        .calls
        .get(i.x as usize)
        .ok_or((FaultKind::BadCall, 0))?;
    if site.target != NONE {
        return Ok((site, site.target, w.mask));
    }
    // SAFETY: the emitter gave the pointer a 64-bit vector slot in this frame.
    let pointers = unsafe { u64::load(f.wrapping_add(site.pointer as usize)) };
    let address = pointers[w.mask.trailing_zeros() as usize & 31];
    let offset = address.wrapping_sub(FUNCTION_WINDOW);
    let index = offset / FUNCTION_STEP;
    let found = program
        .functions
        .iter()
        .position(|c| u64::from(c.module_index) == index);
    let Some(at) = found.filter(|_| offset % FUNCTION_STEP == 0) else {
        return Err((FaultKind::BadCall, address));
    };
    let mut same = 0;
    for (l, &p) in pointers.iter().enumerate() {
        same |= u32::from(p == address) << l;
    }
    Ok((site, at as u32, w.mask & same))
}

/// `brx.idx`: one entry per distinct target.
fn switch(w: &mut Warp, program: &Program, i: &Insn, f: *mut u8) -> Option<u32> {
    let table = program.tables.get(i.x as usize)?;
    let meet = i.d[2];
    let mut left = w.mask;
    let mut groups: Vec<(u32, u32)> = Vec::new();
    while left != 0 {
        let lane = left.trailing_zeros();
        // An index past the end is undefined in PTX; the last target is taken.
        let index = (lane_at(f, i.s[0], lane) as usize).min(table.len().saturating_sub(1));
        let target = *table.get(index)?;
        let mut m = 0;
        for l in 0..LANES as u32 {
            if left & (1 << l) != 0
                && table.get((lane_at(f, i.s[0], l) as usize).min(table.len() - 1)) == Some(&target)
            {
                m |= 1 << l;
            }
        }
        groups.push((target, m));
        left &= !m;
    }
    if let [(target, _)] = groups[..] {
        return Some(target);
    }
    if w.stack.len() + groups.len() >= MAX_SIMT_DEPTH {
        return None;
    }
    if meet != w.rpc {
        w.stack.push(Entry::Lanes {
            pc: meet,
            mask: w.mask,
            rpc: w.rpc,
        });
        w.rpc = meet;
    }
    groups.retain(|g| g.0 != meet);
    let (first, m) = *groups.first()?;
    for (pc, mask) in groups.iter().skip(1) {
        w.stack.push(Entry::Lanes {
            pc: *pc,
            mask: *mask,
            rpc: meet,
        });
    }
    w.mask = m;
    Some(first)
}

fn call(
    w: &mut Warp,
    program: &Program,
    i: &Insn,
    f: *mut u8,
    pc: u32,
) -> Result<u32, (FaultKind, u64)> {
    let (site, target, same) = target_of(w, program, i, f)?;
    if w.stack.len() + 3 >= MAX_SIMT_DEPTH {
        return Err((FaultKind::StackOverflow, 0));
    }
    let others = w.mask & !same;
    if others != 0 {
        let meet = site.return_pc;
        if meet != w.rpc {
            w.stack.push(Entry::Lanes {
                pc: meet,
                mask: w.mask,
                rpc: w.rpc,
            });
            w.rpc = meet;
        }
        w.stack.push(Entry::Lanes {
            pc,
            mask: others,
            rpc: meet,
        });
        w.mask &= same;
    }
    let callee = program
        .functions
        .get(target as usize)
        .ok_or((FaultKind::BadCall, 0))?;
    let caller = program
        .functions
        .get(w.function as usize)
        .ok_or((FaultKind::BadCall, 0))?;
    if callee.params.len() != site.args.len() || callee.rets.len() != site.rets.len() {
        return Err((FaultKind::BadCall, 0));
    }
    let frame = w.frame + caller.frame_bytes as usize;
    if frame + callee.frame_bytes as usize > w.register_bytes {
        return Err((FaultKind::StackOverflow, 0));
    }
    let local_base = w.local_base + u64::from(caller.local_bytes) + CALL_BYTES;
    if local_base + u64::from(callee.local_bytes) > w.memory.local_bytes {
        return Err((FaultKind::StackOverflow, 0));
    }
    let g = w.registers.wrapping_add(frame);
    for (&from, &to) in site.args.iter().zip(&callee.params) {
        // SAFETY: both are 32-bit vector slots in their frames, which lie whole inside the
        // warp's register memory (checked above) and do not overlap.
        unsafe {
            u32::store(
                g.wrapping_add(to as usize),
                u32::load(f.wrapping_add(from as usize)),
            )
        };
    }
    w.stack.push(Entry::Call {
        site: i.x,
        function: target,
        mask: w.mask,
        rpc: w.rpc,
        frame: w.frame,
        caller: w.function,
        local_base: w.local_base,
    });
    (w.frame, w.function, w.local_base, w.rpc) = (frame, target, local_base, NONE);
    for x in &callee.fills {
        // SAFETY: `g` is a frame of the callee.
        unsafe { fill(g, x, w) };
    }
    Ok(callee.entry)
}

fn return_from(w: &mut Warp, program: &Program, g: *mut u8) -> Result<Option<u32>, FaultKind> {
    match w.stack.last().copied() {
        None => {
            w.dead |= w.mask;
            w.mask = 0;
            w.status = Status::Done;
            Ok(None)
        }
        Some(Entry::Lanes { .. }) if w.function == 0 => {
            w.dead |= w.mask;
            Ok(if w.pop() { Some(w.pc) } else { None })
        }
        Some(Entry::Lanes { .. }) => Err(FaultKind::BadCall),
        Some(Entry::Call {
            site,
            function,
            mask,
            rpc,
            frame,
            caller,
            local_base,
        }) => {
            let site = program.calls.get(site as usize).ok_or(FaultKind::BadCall)?;
            let callee = program
                .functions
                .get(function as usize)
                .ok_or(FaultKind::BadCall)?;
            w.stack.pop();
            let f = w.registers.wrapping_add(frame);
            let mask = mask & !w.dead;
            for (&from, &to) in callee.rets.iter().zip(&site.rets) {
                // SAFETY: both are 32-bit vector slots in their frames, as in `call`.
                unsafe {
                    let p = f.wrapping_add(to as usize);
                    u32::store(
                        p,
                        u32::blend(u32::load(p), u32::load(g.wrapping_add(from as usize)), mask),
                    );
                }
            }
            (w.frame, w.function, w.local_base) = (frame, caller, local_base);
            (w.mask, w.rpc) = (mask, rpc);
            Ok(Some(site.return_pc))
        }
    }
}
