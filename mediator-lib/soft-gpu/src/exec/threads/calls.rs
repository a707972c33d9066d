//! Calls of a group of lanes, whose frames other groups may share.
#![allow(unsafe_code)] // copies words between frames

use std::rc::Rc;

use super::{Node, Threads, fork};
use crate::exec::insn::{Insn, Program};
use crate::exec::lanes::Lane;
use crate::exec::run::target_of;
use crate::exec::warp::{FaultKind, Warp};
use crate::exec::warp_ops::fill;
use crate::launch::CALL_BYTES;

/// Calls what the first lane calls, for all lanes that call the same; the others form a group of their own.
/// Gives where the callee begins.
pub(super) fn call(
    w: &mut Warp,
    t: &mut Threads,
    program: &Program,
    i: &Insn,
    f: *mut u8,
    pc: u32,
) -> Result<u32, (FaultKind, u64)> {
    let (site, target, same) = target_of(w, program, i, f)?;
    if same != w.mask {
        fork(t, w.mask & !same, pc);
        w.mask = same;
    }
    let bad = (FaultKind::BadCall, 0);
    let callee = program.functions.get(target as usize).ok_or(bad)?;
    let caller = program.functions.get(w.function as usize).ok_or(bad)?;
    if callee.params.len() != site.args.len() || callee.rets.len() != site.rets.len() {
        return Err(bad);
    }
    let overflow = (FaultKind::StackOverflow, 0);
    let local_base = w.local_base + u64::from(caller.local_bytes) + CALL_BYTES;
    if local_base + u64::from(callee.local_bytes) > w.memory.local_bytes {
        return Err(overflow);
    }
    let bytes = callee.frame_bytes as usize;
    let frame = t.take_frame(bytes, w.register_bytes).ok_or(overflow)?;
    let g = w.registers.wrapping_add(frame);
    for (&from, &to) in site.args.iter().zip(&callee.params) {
        // SAFETY: both are 32-bit vector slots in their frames, which lie whole inside the warp's
        // register memory and do not overlap: the callee's is new.
        unsafe {
            u32::store(
                g.wrapping_add(to as usize),
                u32::load(f.wrapping_add(from as usize)),
            )
        };
    }
    for x in &callee.fills {
        // SAFETY: `g` is a frame of the callee.
        unsafe { fill(g, x, w) };
    }
    if let Some(own) = t.groups.get_mut(t.current) {
        own.node = Rc::new(Node {
            offset: frame,
            function: target,
            local_base,
            parent: Some((own.node.clone(), i.x)),
        });
        own.mask = w.mask;
    }
    (w.frame, w.function, w.local_base) = (frame, target, local_base);
    Ok(callee.entry)
}

/// Returns to the caller; none from the kernel.
pub(super) fn leave(w: &mut Warp, t: &mut Threads, program: &Program, g: *mut u8) -> Option<u32> {
    let own = t.groups.get_mut(t.current)?;
    let (parent, number) = own.node.parent.clone()?;
    let site = program.calls.get(number as usize)?;
    let callee = program.functions.get(own.node.function as usize)?;
    let f = w.registers.wrapping_add(parent.offset);
    for (&from, &to) in callee.rets.iter().zip(&site.rets) {
        // SAFETY: both are 32-bit vector slots in their frames, as in `call`.
        unsafe {
            let p = f.wrapping_add(to as usize);
            u32::store(
                p,
                u32::blend(
                    u32::load(p),
                    u32::load(g.wrapping_add(from as usize)),
                    w.mask,
                ),
            );
        }
    }
    let done = std::mem::replace(&mut own.node, parent);
    // Lanes that split inside the call share its frame until the last of them returns.
    if Rc::strong_count(&done) == 1 {
        t.free.push((done.offset, callee.frame_bytes as usize));
    }
    let own = t.groups.get(t.current)?;
    (w.frame, w.function, w.local_base) = (own.node.offset, own.node.function, own.node.local_base);
    Some(site.return_pc)
}
