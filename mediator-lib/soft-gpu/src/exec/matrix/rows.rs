//! `ldmatrix`, `stmatrix` and `movmatrix`: a register of a warp is a matrix of 8 x 8 16-bit
//! elements, eight rows of 16 bytes.
#![allow(unsafe_code)] // frame slots and checked memory through raw pointers
#![allow(clippy::needless_range_loop)] // rows are lanes, too

use crate::exec::access::addresses;
use crate::exec::alu::write;
use crate::exec::insn::{EVENT_ALIGNED, Insn};
use crate::exec::lanes::{LANES, Lane};
use crate::exec::memory::fault;
use crate::exec::warp::Warp;

/// Bytes of a row.
const ROW: u64 = 16;

/// A register of all lanes as rows of elements.
fn rows(v: [u32; LANES]) -> [[u16; 8]; 8] {
    let mut m = [[0; 8]; 8];
    for (l, v) in v.iter().enumerate() {
        m[l / 4][2 * (l % 4)] = *v as u16;
        m[l / 4][2 * (l % 4) + 1] = (v >> 16) as u16;
    }
    m
}

fn transposed(v: [u32; LANES]) -> [u32; LANES] {
    let m = rows(v);
    let mut d = [0; LANES];
    for (l, d) in d.iter_mut().enumerate() {
        let (g, t) = (l / 4, l % 4);
        *d = u32::from(m[2 * t][g]) | (u32::from(m[2 * t + 1][g]) << 16);
    }
    d
}

/// Host addresses of the rows of `count` matrices, one per lane; null where a lane does not run.
unsafe fn reach(
    f: *mut u8,
    i: &Insn,
    w: &mut Warp,
    count: usize,
    to_write: bool,
) -> Result<[*mut u8; LANES], u32> {
    // SAFETY: the emitter gave the address a vector slot in this frame.
    let a = unsafe { addresses(f, i) };
    let mut host = [std::ptr::null_mut(); LANES];
    for l in 0..8 * count.min(4) {
        if w.mask & (1 << l) != 0 {
            match w
                .memory
                .translate(i.small, i.cache, l as u32, a[l], ROW, to_write)
            {
                Ok(p) => host[l] = p,
                Err(k) => return Err(fault(w, i, k, l as u32, a[l], ROW, to_write)),
            }
        }
    }
    Ok(host)
}

/// `ldmatrix`: lane `8m + r` gives the address of row `r` of matrix `m`; `x` is 1 for `.trans`.
pub unsafe fn ldmatrix(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    if !w.whole() {
        return EVENT_ALIGNED;
    }
    let count = usize::from(i.count);
    // SAFETY: forwarded from the caller; each row was checked before it is read, and the results
    // have 32-bit vector slots in this frame.
    unsafe {
        let host = match reach(f, i, w, count, false) {
            Ok(h) => h,
            Err(event) => return event,
        };
        for m in 0..count.min(4) {
            let mut v = [[0u32; 4]; 8];
            for r in 0..8 {
                let p = host[8 * m + r];
                if !p.is_null() {
                    v[r] = p.cast::<[u32; 4]>().read_unaligned();
                }
            }
            let mut d = [0; LANES];
            for (d, v) in d.chunks_exact_mut(4).zip(v) {
                d.copy_from_slice(&v);
            }
            if i.x == 1 {
                d = transposed(d);
            }
            write::<u32>(f, i.d[m], i.masked, w.mask, d);
        }
    }
    0
}

/// `stmatrix`: as `ldmatrix`, with the values in `d`.
pub unsafe fn stmatrix(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    if !w.whole() {
        return EVENT_ALIGNED;
    }
    let count = usize::from(i.count);
    // SAFETY: as in `ldmatrix`.
    unsafe {
        let host = match reach(f, i, w, count, true) {
            Ok(h) => h,
            Err(event) => return event,
        };
        for m in 0..count.min(4) {
            let mut v = u32::load(f.add(i.d[m] as usize));
            if i.x == 1 {
                v = transposed(v);
            }
            for r in 0..8 {
                let p = host[8 * m + r];
                if !p.is_null() {
                    let row = [v[4 * r], v[4 * r + 1], v[4 * r + 2], v[4 * r + 3]];
                    p.cast::<[u32; 4]>().write_unaligned(row);
                }
            }
        }
    }
    0
}

/// `movmatrix.trans`.
pub unsafe fn movmatrix(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    if !w.whole() {
        return EVENT_ALIGNED;
    }
    // SAFETY: the emitter gave operand and result 32-bit vector slots in this frame.
    unsafe {
        let v = u32::load(f.add(i.s[0] as usize));
        write::<u32>(f, i.d[0], i.masked, w.mask, transposed(v));
    }
    0
}
