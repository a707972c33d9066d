//! An operation that lanes do together which stand at different places of the code.
#![allow(unsafe_code)] // calls handlers on a frame and copies words between frames

use super::{Group, State, Threads, enter};
use crate::exec::insn::{Insn, NONE, Program};
use crate::exec::lanes::{LANES, Lane};
use crate::exec::run::lane_at;
use crate::exec::warp::Warp;
use crate::ir::Class;

/// Bytes of a slot in the scratch frame of [`exchange`].
const SLOT: usize = 256;

/// Class of the `k`-th source (from 4 on: result) of an operation that lanes do together.
fn class_at(i: &Insn, k: usize) -> Option<Class> {
    match (i.imm >> (2 * k)) & 3 {
        1 => Some(Class::W),
        2 => Some(Class::D),
        3 => Some(Class::P),
        _ => None,
    }
}

/// Copies one slot's lanes between frames.
///
/// # Safety
/// Both are slots of the class.
unsafe fn copy_lanes(class: Class, from: *const u8, to: *mut u8, lanes: u32) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match class {
            Class::P => bool::store(to, bool::blend(bool::load(to), bool::load(from), lanes)),
            Class::W => u32::store(to, u32::blend(u32::load(to), u32::load(from), lanes)),
            Class::D => u64::store(to, u64::blend(u64::load(to), u64::load(from), lanes)),
        }
    }
}

/// Lanes may do the same operation at different places of the code: once all lanes of a mask wait,
/// each wherever it is, the operation is done for them all.
pub(super) fn exchange(w: &mut Warp, t: &mut Threads, program: &Program, at: u32) {
    let Some(own) = program.insns.get(at as usize) else {
        return;
    };
    let mask_slot = |i: &Insn| (0..4).rev().find(|&k| class_at(i, k).is_some());
    let alike = |i: &Insn| std::ptr::fn_addr_eq(i.run, own.run) && i.x == own.x && i.imm == own.imm;
    let registers = w.registers;
    let members = |g: &Group, i: &Insn| {
        let f = registers.wrapping_add(g.node.offset);
        mask_slot(i).map_or([0; LANES], |k| {
            let mut all = [0; LANES];
            for (l, m) in all.iter_mut().enumerate() {
                *m = lane_at(f, i.s[k], l as u32);
            }
            all
        })
    };
    let Some(first) = t.groups.get(t.current) else {
        return;
    };
    let wanted = members(first, own)[(w.mask.trailing_zeros() & 31) as usize] & !w.dead;
    let mut there = 0;
    for g in t.groups.iter().filter(|g| g.state == State::Sync) {
        let Some(i) = program.insns.get(g.pc as usize).filter(|i| alike(i)) else {
            continue;
        };
        let named = members(g, i);
        for (l, m) in named.iter().enumerate() {
            if g.mask & (1 << l) != 0 && m & !w.dead == wanted {
                there |= 1 << l;
            }
        }
    }
    if wanted == 0 || there & wanted != wanted {
        return;
    }
    // A frame of its own: operands of all lanes are brought together, results spread again.
    #[repr(align(64))]
    struct Scratch([u8; 8 * SLOT]);
    let mut scratch = Scratch([0; 8 * SLOT]);
    let base = scratch.0.as_mut_ptr();
    let mut op = *own;
    for k in 0..4 {
        op.s[k] = (k * SLOT) as u32;
        if op.d[k] != NONE {
            op.d[k] = ((4 + k) * SLOT) as u32;
        }
    }
    let each = |t: &Threads, take: &mut dyn FnMut(&Group, &Insn, u32)| {
        for g in t.groups.iter().filter(|g| g.state == State::Sync) {
            let Some(i) = program.insns.get(g.pc as usize).filter(|i| alike(i)) else {
                continue;
            };
            if g.mask & wanted != 0 {
                take(g, i, g.mask & wanted);
            }
        }
    };
    each(t, &mut |g, i, lanes| {
        let f = registers.wrapping_add(g.node.offset);
        for k in 0..4 {
            if let Some(class) = class_at(i, k) {
                // SAFETY: the emitter noted the class of the operand's slot; the scratch slot
                // holds the largest.
                unsafe {
                    copy_lanes(class, f.add(i.s[k] as usize), base.add(k * SLOT), lanes);
                }
            }
        }
    });
    let before = std::mem::replace(&mut w.mask, wanted);
    // SAFETY: all slots of `op` lie in the scratch frame.
    let event = unsafe { (op.run)(base, &op, w) };
    w.mask = before;
    if event != 0 {
        return;
    }
    each(t, &mut |g, i, lanes| {
        let f = registers.wrapping_add(g.node.offset);
        for k in 4..8 {
            if let Some(class) = class_at(i, k) {
                // SAFETY: as above, for results.
                unsafe {
                    copy_lanes(class, base.add(k * SLOT), f.add(i.d[k - 4] as usize), lanes);
                }
            }
        }
    });
    // They go on; other lanes of their groups keep waiting.
    let mut more = Vec::new();
    for g in t.groups.iter_mut().filter(|g| g.state == State::Sync) {
        let lanes = g.mask & wanted;
        if lanes == 0 || !program.insns.get(g.pc as usize).is_some_and(&alike) {
            continue;
        }
        if lanes != g.mask {
            more.push(Group {
                mask: g.mask & !lanes,
                pc: g.pc,
                node: g.node.clone(),
                state: State::Sync,
                parked: false,
            });
        }
        (g.mask, g.pc, g.state) = (lanes, g.pc + 1, State::Ready);
    }
    t.groups.extend(more);
    enter(w, t, t.current);
}
