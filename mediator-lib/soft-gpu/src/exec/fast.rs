//! Fast forms of frequent memory operations: all 32 lanes run, 32-bit elements,
//! an affine address of stride 0 (one element for a half-warp) or 4
//! (consecutive ones). Anything else falls back to the general handler.
#![allow(unsafe_code)] // frame slots and device memory through raw pointers
#![allow(clippy::needless_range_loop)] // lanes are numbers: they index several arrays and masks at once

use super::access::{self, Form};
use super::alu::Isa;
use super::float::canon;
use super::insn::{Handler, Insn};
use super::lanes::{HALF, Lane};
use super::memory::small;
use super::warp::Warp;
use crate::ir::Access;
use crate::ptx::types::Space;

type Half = [u32; HALF];

/// `ld, ld, fma` groups whose loads use the same two address registers and whose
/// sums feed each other: they run as one operation.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Byte offsets of the two factors of each product.
    pub offsets: Vec<[i32; 2]>,
    /// Smallest and largest offset of each factor.
    pub span: [[i32; 2]; 2],
}

/// Host pointer for `bytes` at the address of a half, checked.
#[inline(always)]
fn reach(
    w: &Warp,
    shared: bool,
    cache: u32,
    address: u64,
    bytes: u64,
    write: bool,
) -> Option<*mut u8> {
    let m = &w.memory;
    if shared {
        (address < m.shared_bytes && bytes <= m.shared_bytes - address)
            .then(|| m.shared.wrapping_add(address as usize))
    } else {
        m.device(cache, address, bytes, write)
            .then(|| m.host(address))
    }
}

/// Base address of half `h` in a pair slot, offset added.
#[inline(always)]
unsafe fn base(f: *mut u8, slot: u32, h: usize, offset: i64, narrow: bool) -> u64 {
    // SAFETY: the emitter gave the address a pair slot in this frame.
    let a = unsafe { u64::load_half(f.add(slot as usize), h) }.wrapping_add(offset as u64);
    if narrow { a & 0xffff_ffff } else { a }
}

/// Reads a half: one element 16 times, or 16 consecutive ones.
#[inline(always)]
unsafe fn read_half(p: *const u8, run: bool) -> Half {
    // SAFETY: the caller checked 4 (or, for a run, 64) bytes at `p`, which is 4-aligned.
    unsafe {
        if run {
            p.cast::<Half>().read_unaligned()
        } else {
            [p.cast::<u32>().read(); HALF]
        }
    }
}

#[inline(always)]
unsafe fn load<const RUN: bool>(f: *mut u8, i: &Insn, w: &mut Warp, slow: Handler) -> u32 {
    let shared = i.small & small::SPACE == small::SHARED;
    let narrow = i.small & small::ADDR32 != 0;
    let bytes = if RUN { 64 } else { 4 };
    // SAFETY: `f` is the frame `i` was emitted for; `reach` checks all lanes, which all run.
    unsafe {
        if w.mask == u32::MAX {
            let (a, b) = (
                base(f, i.s[0], 0, i.imm, narrow),
                base(f, i.s[0], 1, i.imm, narrow),
            );
            if (a | b) & 3 == 0
                && let Some(p) = reach(w, shared, i.cache, a, bytes, false)
                && let Some(q) = reach(w, shared, i.cache, b, bytes, false)
            {
                let d = f.add(i.d[0] as usize);
                u32::store_chunk(d, 0, read_half(p, RUN), 0xffff);
                u32::store_chunk(d, 1, read_half(q, RUN), 0xffff);
                return 0;
            }
        }
        slow(f, i, w)
    }
}

#[inline(always)]
unsafe fn store_run(f: *mut u8, i: &Insn, w: &mut Warp, slow: Handler) -> u32 {
    let shared = i.small & small::SPACE == small::SHARED;
    let narrow = i.small & small::ADDR32 != 0;
    // SAFETY: as in `load`.
    unsafe {
        if w.mask == u32::MAX {
            let (a, b) = (
                base(f, i.s[0], 0, i.imm, narrow),
                base(f, i.s[0], 1, i.imm, narrow),
            );
            if (a | b) & 3 == 0
                && let Some(p) = reach(w, shared, i.cache, a, 64, true)
                && let Some(q) = reach(w, shared, i.cache, b, 64, true)
            {
                let d = f.add(i.d[0] as usize);
                p.cast::<Half>().write_unaligned(u32::load_chunk(d, 0));
                q.cast::<Half>().write_unaligned(u32::load_chunk(d, 1));
                return 0;
            }
        }
        slow(f, i, w)
    }
}

#[inline(always)]
unsafe fn fma_half<const RUN0: bool, const RUN1: bool>(
    c: &Chain,
    p: *const u8,
    q: *const u8,
    acc: Half,
) -> Half {
    let mut acc = acc.map(f32::from_bits);
    for o in &c.offsets {
        // SAFETY: the caller checked the whole span of offsets from `p` and `q`.
        let (a, b) = unsafe {
            (
                read_half(p.offset(o[0] as isize), RUN0),
                read_half(q.offset(o[1] as isize), RUN1),
            )
        };
        for l in 0..HALF {
            acc[l] = f32::from_bits(a[l]).mul_add(f32::from_bits(b[l]), acc[l]);
        }
    }
    // A NaN stays one through the chain: once at the end is enough.
    acc.map(|v| canon(v).to_bits())
}

/// A [`Chain`]: `s[0]`, `s[1]` addresses, `s[2]` the first sum, `d[0]` the last
/// one, `imm` the chain's address. Returns 0 when done, 1 to run the plain
/// operations that follow instead.
#[inline(always)]
unsafe fn chain(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    if w.mask != u32::MAX {
        return 1;
    }
    // SAFETY: the run loop points `chains` to the list of the program that `i` belongs to,
    // and the emitter numbered the chain below its length; `f` is a frame of that program;
    // `reach` checks every byte that the offsets reach, for both halves, and all lanes run.
    unsafe {
        let c = &*w.chains.add(i.x as usize);
        let mut at = [[std::ptr::null_mut::<u8>(); 2]; 2];
        for (k, at) in at.iter_mut().enumerate() {
            let bits = u32::from(i.small) >> (4 * k);
            let (shared, narrow, run) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let [lo, hi] = c.span[k];
            let bytes = (hi - lo) as u64 + if run { 64 } else { 4 };
            for (h, at) in at.iter_mut().enumerate() {
                let a = base(f, i.s[k], h, lo.into(), narrow);
                if a & 3 != 0 {
                    return 1;
                }
                match reach(w, shared, i.cache + k as u32, a, bytes, false) {
                    Some(p) => *at = p.wrapping_offset(-(lo as isize)),
                    None => return 1,
                }
            }
        }
        for h in 0..2 {
            let acc = u32::load_chunk(f.add(i.s[2] as usize), h);
            let (p, q) = (at[0][h], at[1][h]);
            let acc = match (i.small & 4 != 0, i.small & 0x40 != 0) {
                (false, true) => fma_half::<false, true>(c, p, q, acc),
                (true, false) => fma_half::<true, false>(c, p, q, acc),
                (true, true) => fma_half::<true, true>(c, p, q, acc),
                (false, false) => fma_half::<false, false>(c, p, q, acc),
            };
            u32::store_chunk(f.add(i.d[0] as usize), h, acc, 0xffff);
        }
    }
    0
}

macro_rules! instantiate {
    ($name:ident, $isa:ident, $attr:tt) => {
        pub mod $name {
            use super::*;
            const WORD: Access = Access { space: Space::Generic, bytes: 4, signed: false, count: 1, whole: false };
            #$attr
            pub unsafe fn load_same(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
                // SAFETY: forwarded from the caller.
                unsafe { load::<false>(f, i, w, access::handler(WORD, true, Form::Affine, Isa::$isa)) }
            }
            #$attr
            pub unsafe fn load_run(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
                // SAFETY: forwarded from the caller.
                unsafe { load::<true>(f, i, w, access::handler(WORD, true, Form::Affine, Isa::$isa)) }
            }
            #$attr
            pub unsafe fn store(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
                // SAFETY: forwarded from the caller.
                unsafe { store_run(f, i, w, access::handler(WORD, false, Form::Affine, Isa::$isa)) }
            }
            #[allow(dead_code)] // not on hosts without an FMA instruction
            #$attr
            pub unsafe fn fma(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
                // SAFETY: forwarded from the caller.
                unsafe { chain(f, i, w) }
            }
        }
    };
}
instantiate!(baseline, Baseline, [inline]);
#[cfg(target_arch = "x86_64")]
instantiate!(avx2, Avx2, [target_feature(enable = "avx2,fma,bmi1,bmi2")]);
#[cfg(target_arch = "x86_64")]
instantiate!(
    avx512,
    Avx512,
    [target_feature(
        enable = "avx2,fma,bmi1,bmi2,avx512f,avx512bw,avx512dq,avx512vl"
    )]
);

/// The fast handler of an affine load or store, if there is one.
pub fn handler(a: Access, load: bool, stride: i64, isa: Isa) -> Option<Handler> {
    let space = matches!(
        a.space,
        Space::Global | Space::Const | Space::Generic | Space::Shared
    );
    if a.bytes != 4 || a.count != 1 || !space {
        return None;
    }
    let [same, run, store]: [Handler; 3] = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => [avx512::load_same, avx512::load_run, avx512::store],
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => [avx2::load_same, avx2::load_run, avx2::store],
        _ => [baseline::load_same, baseline::load_run, baseline::store],
    };
    match (load, stride) {
        (true, 0) => Some(same),
        (true, 4) => Some(run),
        (false, 4) => Some(store),
        _ => None,
    }
}

/// The handler of a chain; none on hosts without an FMA instruction.
pub fn chain_handler(isa: Isa) -> Option<Handler> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(avx512::fma),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(avx2::fma),
        _ => None,
    }
}
