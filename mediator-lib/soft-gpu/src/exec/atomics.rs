//! Handlers of atomic operations.
#![allow(unsafe_code)] // atomics on checked device memory

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::access::addresses;
use super::float::{canon, half, op};
use super::insn::{Handler, Insn};
use super::lanes::{LANES, Lane};
use super::memory::fault;
use super::warp::Warp;
use super::whole::exchange;
use crate::ir::{AtomOp, AtomTy};

fn combine32(o: AtomOp, ty: AtomTy, old: u32, b: u32, c: u32) -> u32 {
    match (o, ty) {
        (AtomOp::Add, AtomTy::F32) => canon(f32::from_bits(old) + f32::from_bits(b)).to_bits(),
        (AtomOp::Add, AtomTy::F16x2) => half(op::ADD | op::PACKED, old, b, 0),
        (AtomOp::Add, AtomTy::Bf16x2) => half(op::ADD | op::PACKED | op::BF16, old, b, 0),
        (AtomOp::Add, AtomTy::F16) => half(op::ADD, old, b, 0),
        (AtomOp::Add, AtomTy::Bf16) => half(op::ADD | op::BF16, old, b, 0),
        (
            AtomOp::Min | AtomOp::Max,
            AtomTy::F16 | AtomTy::F16x2 | AtomTy::Bf16 | AtomTy::Bf16x2,
        ) => {
            let mut x = if o == AtomOp::Min { op::MIN } else { op::MAX };
            if matches!(ty, AtomTy::Bf16 | AtomTy::Bf16x2) {
                x |= op::BF16;
            }
            if matches!(ty, AtomTy::F16x2 | AtomTy::Bf16x2) {
                x |= op::PACKED;
            }
            half(x, old, b, 0)
        }
        (AtomOp::Add, _) => old.wrapping_add(b),
        (AtomOp::And, _) => old & b,
        (AtomOp::Or, _) => old | b,
        (AtomOp::Xor, _) => old ^ b,
        (AtomOp::Exch, _) => b,
        (AtomOp::Cas, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
        (AtomOp::Inc, _) => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        (AtomOp::Dec, _) => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        (AtomOp::Min, AtomTy::S32) => (old as i32).min(b as i32) as u32,
        (AtomOp::Max, AtomTy::S32) => (old as i32).max(b as i32) as u32,
        (AtomOp::Min, _) => old.min(b),
        (AtomOp::Max, _) => old.max(b),
    }
}

fn combine64(o: AtomOp, ty: AtomTy, old: u64, b: u64, c: u64) -> u64 {
    match (o, ty) {
        (AtomOp::Add, AtomTy::F64) => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        (AtomOp::Add, _) => old.wrapping_add(b),
        (AtomOp::And, _) => old & b,
        (AtomOp::Or, _) => old | b,
        (AtomOp::Xor, _) => old ^ b,
        (AtomOp::Exch, _) => b,
        (AtomOp::Cas, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
        (AtomOp::Min, AtomTy::S64) => (old as i64).min(b as i64) as u64,
        (AtomOp::Max, AtomTy::S64) => (old as i64).max(b as i64) as u64,
        (AtomOp::Min, _) => old.min(b),
        (AtomOp::Max, _) => old.max(b),
        (AtomOp::Inc | AtomOp::Dec, _) => old,
    }
}

const OPS: [AtomOp; 10] = [
    AtomOp::Add,
    AtomOp::And,
    AtomOp::Or,
    AtomOp::Xor,
    AtomOp::Exch,
    AtomOp::Cas,
    AtomOp::Inc,
    AtomOp::Dec,
    AtomOp::Min,
    AtomOp::Max,
];
const TYPES: [AtomTy; 11] = [
    AtomTy::U32,
    AtomTy::S32,
    AtomTy::U64,
    AtomTy::S64,
    AtomTy::F32,
    AtomTy::F64,
    AtomTy::B16,
    AtomTy::F16,
    AtomTy::F16x2,
    AtomTy::Bf16,
    AtomTy::Bf16x2,
];

/// Operation and type as the auxiliary word; bit 16: a result is wanted.
pub fn encode(o: AtomOp, ty: AtomTy, result: bool) -> u32 {
    let o = OPS.iter().position(|&x| x == o).unwrap_or(0) as u32;
    let t = TYPES.iter().position(|&x| x == ty).unwrap_or(0) as u32;
    o | (t << 8) | (u32::from(result) << 16)
}

fn decode(x: u32) -> (AtomOp, AtomTy, bool) {
    (
        OPS[(x & 15) as usize % 10],
        TYPES[((x >> 8) & 15) as usize % 11],
        x & (1 << 16) != 0,
    )
}

/// The handler for element sizes of 2, 4 or 8 bytes.
pub fn handler(ty: AtomTy) -> Handler {
    match ty {
        AtomTy::U64 | AtomTy::S64 | AtomTy::F64 => atom64,
        AtomTy::B16 | AtomTy::F16 | AtomTy::Bf16 => atom16,
        _ => atom32,
    }
}

macro_rules! atom {
    ($name:ident, $atomic:ty, $lane:ty, $bytes:literal, $combine:ident, $cast:expr, $back:expr) => {
        unsafe fn $name(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
            let (o, ty, result) = decode(i.x);
            // SAFETY: the emitter gave every operand a vector slot of its class in this frame
            // (unused operands point to a readable slot).
            let (a, b, c) = unsafe {
                (
                    addresses(f, i),
                    <$lane>::load(f.add(i.s[1] as usize)),
                    <$lane>::load(f.add(i.s[2] as usize)),
                )
            };
            // Check every lane first, so that a fault leaves memory untouched.
            let mut host = [std::ptr::null_mut::<u8>(); LANES];
            for l in 0..LANES {
                if w.mask & (1 << l) != 0 {
                    match w
                        .memory
                        .translate(i.small, i.cache, l as u32, a[l], $bytes, true)
                    {
                        Ok(p) => host[l] = p,
                        Err(k) => return fault(w, i, k, l as u32, a[l], $bytes, true),
                    }
                }
            }
            let mut d = <$lane as Lane>::ZERO;
            for l in 0..LANES {
                if w.mask & (1 << l) == 0 {
                    continue;
                }
                // SAFETY: the address was checked and is aligned to the element, and stays
                // mapped while the launch runs; other threads access it atomically or race
                // as the kernel asked for.
                let m = unsafe { <$atomic>::from_ptr(host[l].cast()) };
                let (vb, vc) = (b[l], c[l]);
                let mut old = m.load(Ordering::Relaxed);
                loop {
                    let new = $cast($combine(o, ty, $back(old), vb, vc));
                    match m.compare_exchange_weak(old, new, Ordering::SeqCst, Ordering::Relaxed) {
                        Ok(_) => break,
                        Err(now) => old = now,
                    }
                }
                d[l] = $back(old);
            }
            if result {
                // SAFETY: the result has a vector slot of this class; lanes that do not run
                // keep their value.
                unsafe {
                    let slot = f.add(i.d[0] as usize);
                    let keep = <$lane>::load(slot);
                    <$lane>::store(slot, <$lane as Lane>::blend(keep, d, w.mask));
                }
            }
            0
        }
    };
}
atom!(atom32, AtomicU32, u32, 4, combine32, |v: u32| v, |v: u32| v);
atom!(atom64, AtomicU64, u64, 8, combine64, |v: u64| v, |v: u64| v);
atom!(
    atom16,
    AtomicU16,
    u32,
    2,
    combine32,
    |v: u32| v as u16,
    |v: u16| u32::from(v)
);

/// `atom.exch.b128` (`x` is 0) and `atom.cas.b128` (1): `s` is the address, then the halves of the new value, or of the
/// value that is compared and the lower half of the new one, whose upper half is in `d[2]`.
pub unsafe fn atom128(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    const BYTES: u64 = 16;
    let cas = i.x != 0;
    // SAFETY: the emitter gave every operand a vector slot of 64 bits in this frame (unused ones point to a
    // readable slot).
    let (a, s) = unsafe {
        let load = |slot: u32| u64::load(f.add(slot as usize));
        (
            addresses(f, i),
            [load(i.s[1]), load(i.s[2]), load(i.s[3]), load(i.d[2])],
        )
    };
    let mut host = [std::ptr::null_mut::<u8>(); LANES];
    for l in 0..LANES {
        if w.mask & (1 << l) != 0 {
            match w
                .memory
                .translate(i.small, i.cache, l as u32, a[l], BYTES, true)
            {
                Ok(p) => host[l] = p,
                Err(k) => return fault(w, i, k, l as u32, a[l], BYTES, true),
            }
        }
    }
    let mut d = [u64::ZERO; 2];
    for l in 0..LANES {
        if w.mask & (1 << l) == 0 {
            continue;
        }
        let joined = |lo: u64, hi: u64| u128::from(lo) | u128::from(hi) << 64;
        let first = joined(s[0][l], s[1][l]);
        let (expected, new) = if cas {
            (Some(first), joined(s[2][l], s[3][l]))
        } else {
            (None, first)
        };
        // SAFETY: 16 bytes at the address were checked, and that it is aligned to them.
        let old = unsafe { exchange(host[l], expected, new) };
        (d[0][l], d[1][l]) = (old as u64, (old >> 64) as u64);
    }
    for (k, v) in d.into_iter().enumerate() {
        // SAFETY: each result has a vector slot of 64 bits; lanes that do not run keep their value.
        unsafe {
            let slot = f.add(i.d[k] as usize);
            u64::store(slot, u64::blend(u64::load(slot), v, w.mask));
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inc_and_dec_wrap() {
        let f = |o, old, b| combine32(o, AtomTy::U32, old, b, 0);
        assert_eq!(f(AtomOp::Inc, 3, 3), 0);
        assert_eq!(f(AtomOp::Inc, 2, 3), 3);
        assert_eq!(f(AtomOp::Inc, 9, 3), 0);
        assert_eq!(f(AtomOp::Dec, 0, 3), 3);
        assert_eq!(f(AtomOp::Dec, 9, 3), 3);
        assert_eq!(f(AtomOp::Dec, 2, 3), 1);
    }

    #[test]
    fn encoding_round_trips() {
        for o in OPS {
            for t in TYPES {
                assert_eq!(decode(encode(o, t, true)), (o, t, true));
            }
        }
    }
}
