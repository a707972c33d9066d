//! `wmma.load` and `wmma.store`.
#![allow(unsafe_code)] // frame slots and checked memory through raw pointers
#![allow(clippy::needless_range_loop)] // lanes are numbers

use super::{Tile, What};
use crate::exec::access::addresses;
use crate::exec::alu::write;
use crate::exec::insn::Insn;
use crate::exec::lanes::{LANES, Lane};
use crate::exec::memory::fault;
use crate::exec::warp::Warp;
use crate::ir::matrix::{Fragment, MAX_FRAGMENT};

unsafe fn site<'a>(i: &Insn, w: &Warp) -> Option<(&'a Tile, Fragment)> {
    // SAFETY: the emitter gave `x` an entry of the program's table, which `w.tiles` points to and
    // which lives as long as the program that is running.
    let tile = unsafe { &*w.tiles.add(i.x as usize) };
    match tile.what {
        What::Fragment(fragment) => Some((tile, fragment)),
        What::Mma(_) => None,
    }
}

/// Calls `each` with lane, register, shift in the register, and host address, for every
/// piece of the fragment that is contiguous in memory.
unsafe fn walk(
    f: *mut u8,
    i: &Insn,
    w: &mut Warp,
    fragment: &Fragment,
    to_write: bool,
    mut each: impl FnMut(usize, usize, u32, u64, *mut u8),
) -> u32 {
    // SAFETY: the emitter gave address and stride vector slots in this frame.
    let (a, stride) = unsafe { (addresses(f, i), u32::load(f.add(i.s[1] as usize))) };
    let per = (32 / fragment.bits).max(1);
    for r in 0..fragment.registers.min(MAX_FRAGMENT as u32) {
        for l in 0..LANES {
            if w.mask & (1 << l) == 0 {
                continue;
            }
            let (row, column, along_row) = fragment.place(r, l as u32);
            // Elements of one register are neighbours in memory, or a stride apart.
            let contiguous = along_row == fragment.row_major || per == 1;
            let pieces = if contiguous { 1 } else { per };
            let bits = if contiguous {
                fragment.bits * per
            } else {
                fragment.bits
            };
            for p in 0..pieces {
                let (row, column) = if along_row {
                    (row, column + p)
                } else {
                    (row + p, column)
                };
                let (major, minor) = if fragment.row_major {
                    (row, column)
                } else {
                    (column, row)
                };
                let element = u64::from(major) * u64::from(stride[l]) + u64::from(minor);
                let at = a[l].wrapping_add(element.wrapping_mul(u64::from(fragment.bits)) / 8);
                let bytes = u64::from(bits.max(8)) / 8;
                match w
                    .memory
                    .translate(i.small, i.cache, l as u32, at, bytes, to_write)
                {
                    Ok(host) => each(l, r as usize, p * fragment.bits, bytes, host),
                    Err(k) => return fault(w, i, k, l as u32, at, bytes, to_write),
                }
            }
        }
    }
    0
}

/// `wmma.load`: `s[0]` address, `s[1]` stride in elements, `x` the [`Tile`].
pub unsafe fn wmma_load(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller; `walk` checked each address for its bytes; the results
    // have vector slots of the class that the element's size says.
    unsafe {
        let Some((tile, fragment)) = site(i, w) else {
            return 0;
        };
        let mut v = [[0u64; LANES]; MAX_FRAGMENT];
        let event = walk(f, i, w, &fragment, false, |l, r, shift, bytes, host| {
            let mut raw = [0u8; 8];
            std::ptr::copy_nonoverlapping(host, raw.as_mut_ptr(), bytes.min(8) as usize);
            v[r][l] |= u64::from_le_bytes(raw) << (shift & 31);
        });
        if event != 0 {
            return event;
        }
        for r in 0..fragment.registers.min(MAX_FRAGMENT as u32) as usize {
            if fragment.bits == 64 {
                write::<u64>(f, tile.d[r], i.masked, w.mask, v[r]);
            } else {
                write::<u32>(f, tile.d[r], i.masked, w.mask, v[r].map(|x| x as u32));
            }
        }
    }
    0
}

/// `wmma.store`.
pub unsafe fn wmma_store(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: as in `wmma_load`.
    unsafe {
        let Some((tile, fragment)) = site(i, w) else {
            return 0;
        };
        let mut v = [[0u64; LANES]; MAX_FRAGMENT];
        for r in 0..fragment.registers.min(MAX_FRAGMENT as u32) as usize {
            let slot = f.add(tile.d[r] as usize);
            v[r] = if fragment.bits == 64 {
                u64::load(slot)
            } else {
                u32::load(slot).map(u64::from)
            };
        }
        // Every address first, so that a fault leaves memory as it is.
        let event = walk(f, i, w, &fragment, true, |_, _, _, _, _| {});
        if event != 0 {
            return event;
        }
        walk(f, i, w, &fragment, true, |l, r, shift, bytes, host| {
            let raw = (v[r][l] >> (shift & 31)).to_le_bytes();
            std::ptr::copy_nonoverlapping(raw.as_ptr(), host, bytes.min(8) as usize);
        })
    }
}
