//! Moves a warp from the optimised to the reference code in mid-flight.
#![allow(unsafe_code)] // copies registers between frames

use std::io;

use super::block::LaunchShared;
use super::insn::{FunctionCode, NONE, Program, Slot};
use super::lanes::{LANES, Lane};
use super::region::Region;
use super::warp::{Entry, Warp};
use super::warp_ops::fill;
use crate::ir::Class;

fn lost<T>(what: &str) -> io::Result<T> {
    Err(io::Error::other(format!("no reference code for {what}")))
}

/// The operation of the reference code that corresponds to the start of a
/// block, a call or the place after a call.
fn place(from: &Program, to: &Program, function: u32, pc: u32) -> io::Result<u32> {
    let (Some(f), Some(g)) = (
        from.functions.get(function as usize),
        to.functions.get(function as usize),
    ) else {
        return lost("a function");
    };
    if pc == NONE {
        return Ok(NONE);
    }
    if let Some(k) = f.block_pcs.iter().position(|&p| p == pc)
        && let Some(&p) = g.block_pcs.get(k)
    {
        return Ok(p);
    }
    for (a, b) in from.calls.iter().zip(&to.calls) {
        if a.pc == pc {
            return Ok(b.pc);
        }
        if a.return_pc == pc {
            return Ok(b.return_pc);
        }
    }
    lost("a place")
}

/// Copies the registers of one frame.
///
/// # Safety
/// `a` is a frame of `from` and `b` one of `to`; they do not overlap.
unsafe fn copy_frame(a: *mut u8, from: &FunctionCode, b: *mut u8, to: &FunctionCode) {
    for (s, t) in from.slots.iter().zip(&to.slots) {
        // SAFETY: the slots lie in their frames, with the classes they name.
        unsafe { copy_slot(a, s, b, t) };
    }
}

unsafe fn copy_slot(a: *mut u8, s: &Slot, b: *mut u8, t: &Slot) {
    if t.vec == NONE {
        return;
    }
    let to = b.wrapping_add(t.vec as usize);
    let pair = s.pair != NONE && s.class != Class::P;
    let from = a.wrapping_add(if pair { s.pair } else { s.vec } as usize);
    // SAFETY: forwarded from the caller; a register that is no pair has a vector (or mask).
    unsafe {
        match (s.class, pair) {
            (Class::P, _) => bool::store(to, bool::load(from)),
            (Class::W, false) => u32::store(to, u32::load(from)),
            (Class::D, false) => u64::store(to, u64::load(from)),
            (Class::W, true) => {
                let mut v = [0u32; LANES];
                for (l, v) in v.iter_mut().enumerate() {
                    let step = (s.stride as u32).wrapping_mul(l as u32 % 16);
                    *v = u32::load_half(from, l / 16).wrapping_add(step);
                }
                u32::store(to, v);
            }
            (Class::D, true) => {
                let mut v = [0u64; LANES];
                for (l, v) in v.iter_mut().enumerate() {
                    let step = (s.stride as u64).wrapping_mul(l as u64 % 16);
                    *v = u64::load_half(from, l / 16).wrapping_add(step);
                }
                u64::store(to, v);
            }
        }
    }
}

/// Where a warp leaves the optimised code.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// An operation that asked for it, with block and index in `d[2]` and `d[3]`.
    Operation(u32),
    /// The start of a block.
    Block(u32),
}

/// Continues `w` in the reference code.
pub fn deopt(
    w: &mut Warp,
    s: &LaunchShared<'_>,
    at: Place,
    region: &mut Option<Region>,
) -> io::Result<()> {
    let (from, to) = (s.program, s.reference);
    let target = match at {
        Place::Block(pc) => place(from, to, w.function, pc)?,
        Place::Operation(pc) => {
            let Some(i) = from.insns.get(pc as usize) else {
                return lost("an operation");
            };
            let code = to.functions.get(w.function as usize);
            let block = code.and_then(|c| c.inst_pcs.get(i.d[2] as usize));
            match block.and_then(|b| b.get(i.d[3] as usize)) {
                Some(&pc) => pc,
                None => return lost("an operation"),
            }
        }
    };
    let bytes = s.reference_bytes;
    let memory = match region.take() {
        Some(r) if r.bytes() >= bytes => r,
        _ => Region::new(bytes)?,
    };
    let base = memory.ptr();
    let mut at = 0usize;
    let mut function = 0u32;
    let mut frame = 0usize;
    let mut stack = Vec::with_capacity(w.stack.len());
    let copy = |frame: usize, function: u32, at: usize, w: &Warp| -> io::Result<()> {
        let (Some(f), Some(g)) = (
            from.functions.get(function as usize),
            to.functions.get(function as usize),
        ) else {
            return lost("a function");
        };
        if at + g.frame_bytes as usize > bytes {
            return lost("so many calls");
        }
        let b = base.wrapping_add(at);
        // SAFETY: `frame` is a frame of `f` in the warp's registers, and `at` one of `g` in
        // the new memory, whole inside it (checked above).
        unsafe {
            copy_frame(w.registers.wrapping_add(frame), f, b, g);
            for x in &g.fills {
                fill(b, x, w);
            }
        }
        Ok(())
    };
    copy(frame, function, at, w)?;
    for e in &w.stack {
        match *e {
            Entry::Lanes { pc, mask, rpc } => {
                let (pc, rpc) = (
                    place(from, to, function, pc)?,
                    place(from, to, function, rpc)?,
                );
                stack.push(Entry::Lanes { pc, mask, rpc });
            }
            Entry::Call {
                site,
                function: callee,
                mask,
                rpc,
                caller,
                local_base,
                ..
            } => {
                let rpc = place(from, to, function, rpc)?;
                stack.push(Entry::Call {
                    site,
                    function: callee,
                    mask,
                    rpc,
                    frame: at,
                    caller,
                    local_base,
                });
                at += to
                    .functions
                    .get(caller as usize)
                    .map_or(0, |f| f.frame_bytes) as usize;
                frame += from
                    .functions
                    .get(caller as usize)
                    .map_or(0, |f| f.frame_bytes) as usize;
                function = callee;
                copy(frame, function, at, w)?;
            }
        }
    }
    w.rpc = place(from, to, w.function, w.rpc)?;
    w.stack = stack;
    w.pc = target;
    w.frame = at;
    w.registers = base;
    w.register_bytes = bytes;
    w.reference = true;
    *region = Some(memory);
    Ok(())
}
