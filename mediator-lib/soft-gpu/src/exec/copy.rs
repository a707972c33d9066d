//! `cp.async`: copies from global to shared memory.
#![allow(unsafe_code)] // frame slots and checked memory through raw pointers
#![allow(clippy::needless_range_loop)] // lanes are numbers: they index several arrays and masks at once

use super::insn::{Handler, Insn};
use super::lanes::{LANES, Lane};
use super::memory::{fault, small};
use super::warp::{FaultKind, Warp};

/// The source address register has 32 bits.
pub const SOURCE32: u8 = 64;

unsafe fn address(f: *mut u8, slot: u32, narrow: bool) -> [u64; LANES] {
    // SAFETY: the emitter gave the address a vector slot of the class it flags.
    unsafe {
        let p = f.add(slot as usize);
        if narrow {
            u32::load(p).map(u64::from)
        } else {
            u64::load(p)
        }
    }
}

/// Copies `N` bytes per lane: `s` are target, source, and how many bytes to read.
unsafe fn copy<const N: usize>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: the emitter gave all operands vector slots in this frame.
    let (to, from, read) = unsafe {
        (
            address(f, i.s[0], i.small & small::ADDR32 != 0),
            address(f, i.s[1], i.small & SOURCE32 != 0),
            u32::load(f.add(i.s[2] as usize)),
        )
    };
    let bytes = N as u64;
    let mut target = [std::ptr::null_mut::<u8>(); LANES];
    let mut source = [std::ptr::null::<u8>(); LANES];
    let first = w.mask.trailing_zeros() as usize & 31;
    // All sources in one allocation: one check.
    let (mut lo, mut hi, mut plain) = (from[first], from[first], true);
    for l in 0..LANES {
        if w.mask & (1 << l) != 0 {
            lo = lo.min(from[l]);
            hi = hi.max(from[l]);
            plain &= from[l] % bytes == 0 && read[l] as usize >= N;
        }
    }
    let span = (hi - lo).checked_add(bytes);
    let near = plain && span.is_some_and(|s| w.memory.device(i.cache, lo, s, false));
    for l in 0..LANES {
        if w.mask & (1 << l) == 0 {
            continue;
        }
        match w
            .memory
            .translate(small::SHARED, i.cache, l as u32, to[l], bytes, true)
        {
            Ok(p) => target[l] = p,
            Err(k) => return fault(w, i, k, l as u32, to[l], bytes, true),
        }
        if near {
            source[l] = w.memory.host(from[l]);
            continue;
        }
        let n = u64::from(read[l]).min(bytes);
        if from[l] % bytes != 0 {
            return outside(w, i, FaultKind::Misaligned, l, from[l], bytes);
        }
        if n > 0 {
            if !w.memory.device(i.cache, from[l], n, false) {
                return outside(w, i, FaultKind::Illegal, l, from[l], n);
            }
            source[l] = w.memory.host(from[l]);
        }
    }
    for l in 0..LANES {
        if w.mask & (1 << l) == 0 {
            continue;
        }
        let mut v = [0u8; N];
        let n = if near { N } else { (read[l] as usize).min(N) };
        // SAFETY: `n` bytes at the source and `N` at the target were checked; the copy goes through
        // a local, so they may overlap.
        unsafe {
            if n > 0 {
                std::ptr::copy_nonoverlapping(source[l], v.as_mut_ptr(), n);
            }
            target[l].cast::<[u8; N]>().write_unaligned(v);
        }
    }
    0
}

/// A fault of the source.
#[cold]
fn outside(w: &mut Warp, i: &Insn, kind: FaultKind, lane: usize, addr: u64, bytes: u64) -> u32 {
    let read = Insn {
        small: small::GLOBAL,
        ..*i
    };
    fault(w, &read, kind, lane as u32, addr, bytes, false)
}

/// The handler for copies of 4, 8 or 16 bytes.
pub fn handler(bytes: u8) -> Handler {
    match bytes {
        4 => copy::<4>,
        8 => copy::<8>,
        _ => copy::<16>,
    }
}
