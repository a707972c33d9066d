//! `mma` of 16 rows with AVX-512, for the types that matter most: f16, bf16, tf32, s8, u8.
//!
//! A zmm register holds half a register of the warp: the 16 lanes of four rows. C and D stay as
//! they lie: lane `4 * row + t` holds column `2 * t` (or `2 * t + 1`) of its row. So a step of
//! the sum multiplies a column of A, spread over the four lanes of each row by a
//! shuffle inside 128 bits, by a row of B, of which the even (odd) columns are the same
//! four values in all 128-bit parts.
#![allow(unsafe_code)] // intrinsics, and frame slots through raw pointers

use std::arch::x86_64::*;

use super::Tile;
use super::portable::site;
use crate::exec::insn::{Handler, Insn};
use crate::exec::warp::Warp;
use crate::ir::matrix::{Element, MAX_FRAGMENT, Mma, Product, Sum};

/// The handler, if there is a fast form.
pub(super) fn handler(m: &Mma) -> Option<Handler> {
    if m.rows != 16 || m.quads.is_some() || m.product != Product::Multiply {
        return None;
    }
    Some(match m.elements {
        [Element::F16, Element::F16] => float::<F16>,
        [Element::Bf16, Element::Bf16] => float::<BF16>,
        [Element::Tf32, Element::Tf32] => float::<TF32>,
        [Element::S8, Element::S8] => integer::<true, true>,
        [Element::S8, Element::U8] => integer::<true, false>,
        [Element::U8, Element::S8] => integer::<false, true>,
        [Element::U8, Element::U8] => integer::<false, false>,
        _ => return None,
    })
}

const F16: u32 = 0;
const BF16: u32 = 1;
const TF32: u32 = 2;

/// Lanes `16 * half..` of a register.
#[inline(always)]
unsafe fn load(f: *mut u8, slots: &[u32; MAX_FRAGMENT], r: usize, half: usize) -> __m512i {
    // SAFETY: the emitter gave each register of the fragment a 32-bit vector slot of 128
    // bytes in this frame; `half` is 0 or 1. The caller runs with AVX-512.
    unsafe { _mm512_loadu_si512(f.add(slots[r % MAX_FRAGMENT] as usize + 64 * half).cast()) }
}

/// Writes lanes `16 * half..` of a register, where they run.
#[inline(always)]
unsafe fn store(f: *mut u8, i: &Insn, w: &Warp, slot: u32, half: usize, v: __m512i) {
    let mask = if i.masked {
        (w.mask >> (16 * half)) as u16
    } else {
        u16::MAX
    };
    // SAFETY: as for `load`.
    unsafe { _mm512_mask_storeu_epi32(f.add(slot as usize + 64 * half).cast(), mask, v) }
}

/// Where the elements of B go: 16-bit ones from rows of 8 (of B transposed) to columns, even
/// ones first. `K` is the first of four columns.
const fn order16(k: u16) -> [u16; 32] {
    let mut o = [0; 32];
    let mut n = 0;
    while n < 32 {
        let (column, q) = (n as u16 / 8 + k, n as u16 % 8);
        let row = if q < 4 { 2 * q } else { 2 * (q - 4) + 1 };
        o[n] = row * 8 + column;
        n += 1;
    }
    o
}

/// The same for 32-bit elements in rows of 4, two columns from `k`.
const fn order32(k: u32) -> [u32; 16] {
    let mut o = [0; 16];
    let mut n = 0;
    while n < 16 {
        let (column, q) = (n as u32 / 8 + k, n as u32 % 8);
        let row = if q < 4 { 2 * q } else { 2 * (q - 4) + 1 };
        o[n] = row * 4 + column;
        n += 1;
    }
    o
}

/// Even 16-bit elements, then odd ones.
const SPLIT: [u16; 32] = {
    let mut o = [0; 32];
    let mut n = 0;
    while n < 32 {
        o[n] = if n < 16 {
            2 * n as u16
        } else {
            2 * (n as u16 - 16) + 1
        };
        n += 1;
    }
    o
};

const ORDER16: [[u16; 32]; 2] = [order16(0), order16(4)];
const ORDER32: [[u32; 16]; 2] = [order32(0), order32(2)];

#[inline(always)]
unsafe fn constant<T, const N: usize>(v: &[T; N]) -> __m512i {
    const { assert!(size_of::<[T; N]>() == 64) };
    // SAFETY: the array is 64 bytes of plain data. The caller runs with AVX-512.
    unsafe { _mm512_loadu_si512(v.as_ptr().cast()) }
}

/// The 16-bit floats in the low and the high half.
#[inline(always)]
unsafe fn widen<const T: u32>(v: __m512i) -> [__m512; 2] {
    // SAFETY: the caller runs with AVX-512.
    unsafe {
        let (lo, hi) = (_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
        if T == F16 {
            [_mm512_cvtph_ps(lo), _mm512_cvtph_ps(hi)]
        } else {
            [lo, hi].map(|h| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(h))))
        }
    }
}

/// Columns of A in one register, by type.
const fn columns(t: u32) -> usize {
    if t == TF32 { 4 } else { 8 }
}

/// One register of B as rows of f32: four even columns, then four odd ones.
#[inline(always)]
unsafe fn rows_of_b<const T: u32>(lo: __m512i, hi: __m512i) -> [[f32; 8]; 8] {
    let mut out = [[0f32; 8]; 8];
    let p = out.as_mut_ptr().cast::<f32>();
    // SAFETY: each store writes 16 of the 64 floats of `out`. The caller runs with AVX-512.
    unsafe {
        for h in 0..2 {
            if T == TF32 {
                let v = _mm512_permutex2var_epi32(lo, constant(&ORDER32[h]), hi);
                let v = _mm512_and_si512(v, _mm512_set1_epi32(0xffff_e000u32 as i32));
                _mm512_storeu_ps(p.add(16 * h), _mm512_castsi512_ps(v));
            } else {
                let v = _mm512_permutex2var_epi16(lo, constant(&ORDER16[h]), hi);
                let [a, b] = widen::<T>(v);
                _mm512_storeu_ps(p.add(32 * h), a);
                _mm512_storeu_ps(p.add(32 * h + 16), b);
            }
        }
    }
    out
}

/// One step of the sum for a tile of four rows.
#[inline(always)]
unsafe fn step<const Q: i32>(sum: &mut [__m512; 2], a: __m512, b: &[f32; 8]) {
    // SAFETY: `b` holds two groups of four floats. The caller runs with AVX-512.
    unsafe {
        let a = _mm512_permute_ps::<Q>(a);
        let even = _mm512_broadcast_f32x4(_mm_loadu_ps(b.as_ptr()));
        let odd = _mm512_broadcast_f32x4(_mm_loadu_ps(b.as_ptr().add(4)));
        sum[0] = _mm512_fmadd_ps(a, even, sum[0]);
        sum[1] = _mm512_fmadd_ps(a, odd, sum[1]);
    }
}

/// The columns of A that one register holds, in order.
#[inline(always)]
unsafe fn chunk<const T: u32>(sum: &mut [__m512; 2], raw: __m512i, b: &[[f32; 8]; 8]) {
    // SAFETY: the caller runs with AVX-512.
    unsafe {
        if T == TF32 {
            let a = _mm512_and_si512(raw, _mm512_set1_epi32(0xffff_e000u32 as i32));
            let a = _mm512_castsi512_ps(a);
            step::<0x00>(sum, a, &b[0]);
            step::<0x55>(sum, a, &b[1]);
            step::<0xaa>(sum, a, &b[2]);
            step::<0xff>(sum, a, &b[3]);
            return;
        }
        let [even, odd] = if T == F16 {
            widen::<F16>(_mm512_permutexvar_epi16(constant(&SPLIT), raw))
        } else {
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(raw)),
                _mm512_castsi512_ps(_mm512_and_si512(
                    raw,
                    _mm512_set1_epi32(0xffff_0000u32 as i32),
                )),
            ]
        };
        step::<0x00>(sum, even, &b[0]);
        step::<0x00>(sum, odd, &b[1]);
        step::<0x55>(sum, even, &b[2]);
        step::<0x55>(sum, odd, &b[3]);
        step::<0xaa>(sum, even, &b[4]);
        step::<0xaa>(sum, odd, &b[5]);
        step::<0xff>(sum, even, &b[6]);
        step::<0xff>(sum, odd, &b[7]);
    }
}

/// A NaN becomes the one that operations return.
#[inline(always)]
unsafe fn canonical(v: __m512) -> __m512 {
    // SAFETY: the caller runs with AVX-512.
    unsafe {
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        _mm512_mask_mov_ps(v, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fff_ffff)))
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn float<const T: u32>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    let t: &Tile = t;
    // SAFETY: the emitter gave all registers slots in this frame; the handler is chosen on hosts
    // with AVX-512 only.
    unsafe {
        let mut sum = [[_mm512_setzero_ps(); 2]; 4];
        for (tile, sum) in sum.iter_mut().enumerate() {
            let (block, half) = (tile / 2, tile % 2);
            *sum = if m.sums[0] == Sum::F16 {
                widen::<F16>(_mm512_permutexvar_epi16(
                    constant(&SPLIT),
                    load(f, &t.c, block, half),
                ))
            } else {
                [0, 1].map(|odd| _mm512_castsi512_ps(load(f, &t.c, 2 * block + odd, half)))
            };
        }
        for c in 0..m.k as usize / columns(T) {
            let b = rows_of_b::<T>(load(f, &t.b, c, 0), load(f, &t.b, c, 1));
            for (tile, sum) in sum.iter_mut().enumerate() {
                chunk::<T>(sum, load(f, &t.a, 2 * c + tile / 2, tile % 2), &b);
            }
        }
        for (tile, sum) in sum.iter().enumerate() {
            let (block, half) = (tile / 2, tile % 2);
            let [even, odd] = sum.map(|v| canonical(v));
            if m.sums[1] == Sum::F16 {
                const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
                let [even, odd] =
                    [even, odd].map(|v| _mm512_cvtepu16_epi32(_mm512_cvtps_ph::<NEAREST>(v)));
                let v = _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd));
                store(f, i, w, t.d[block], half, v);
            } else {
                store(f, i, w, t.d[2 * block], half, _mm512_castps_si512(even));
                store(f, i, w, t.d[2 * block + 1], half, _mm512_castps_si512(odd));
            }
        }
    }
    0
}

/// Bytes 0 and 2, and bytes 1 and 3, of each word as 16-bit numbers.
#[inline(always)]
unsafe fn bytes<const SIGNED: bool>(v: __m512i) -> [__m512i; 2] {
    // SAFETY: the caller runs with AVX-512.
    unsafe {
        if SIGNED {
            [
                _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(v)),
                _mm512_srai_epi16::<8>(v),
            ]
        } else {
            [
                _mm512_and_si512(v, _mm512_set1_epi16(0xff)),
                _mm512_srli_epi16::<8>(v),
            ]
        }
    }
}

/// Four columns of A by four rows of B.
#[inline(always)]
unsafe fn dot<const Q: i32>(sum: &mut [__m512i; 2], a: &[__m512i; 2], b: &[[i32; 8]; 2]) {
    // SAFETY: each row of `b` holds two groups of four words. The caller runs with AVX-512.
    unsafe {
        for (a, b) in a.iter().zip(b) {
            let a = _mm512_shuffle_epi32::<Q>(*a);
            for (odd, sum) in sum.iter_mut().enumerate() {
                let b = _mm512_broadcast_i32x4(_mm_loadu_si128(b.as_ptr().add(4 * odd).cast()));
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(a, b));
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn integer<const SA: bool, const SB: bool>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    // SAFETY: as in `float`.
    unsafe {
        let mut sum = [[_mm512_setzero_si512(); 2]; 4];
        for c in 0..m.k as usize / 16 {
            let (lo, hi) = (load(f, &t.b, c, 0), load(f, &t.b, c, 1));
            // Per word of four rows of B: even and odd bytes, each for eight columns.
            let mut b = [[[0i32; 8]; 2]; 4];
            for h in 0..2 {
                let words = _mm512_permutex2var_epi32(lo, constant(&ORDER32[h]), hi);
                for (part, v) in bytes::<SB>(words).into_iter().enumerate() {
                    let mut two = [[0i32; 8]; 2];
                    _mm512_storeu_si512(two.as_mut_ptr().cast(), v);
                    b[2 * h][part] = two[0];
                    b[2 * h + 1][part] = two[1];
                }
            }
            for (tile, sum) in sum.iter_mut().enumerate() {
                let a = bytes::<SA>(load(f, &t.a, 2 * c + tile / 2, tile % 2));
                dot::<0x00>(sum, &a, &b[0]);
                dot::<0x55>(sum, &a, &b[1]);
                dot::<0xaa>(sum, &a, &b[2]);
                dot::<0xff>(sum, &a, &b[3]);
            }
        }
        // All of C is read before any of D is written: they may share registers.
        for (tile, sum) in sum.iter_mut().enumerate() {
            let (block, half) = (tile / 2, tile % 2);
            for (odd, sum) in sum.iter_mut().enumerate() {
                let c = load(f, &t.c, 2 * block + odd, half);
                let plain = _mm512_add_epi32(c, *sum);
                if m.saturate {
                    // Overflow: the operands have one sign, the sum another.
                    let wrong =
                        _mm512_andnot_si512(_mm512_xor_si512(c, *sum), _mm512_xor_si512(c, plain));
                    let limit =
                        _mm512_xor_si512(_mm512_srai_epi32::<31>(c), _mm512_set1_epi32(i32::MAX));
                    *sum = _mm512_mask_mov_epi32(plain, _mm512_movepi32_mask(wrong), limit);
                } else {
                    *sum = plain;
                }
            }
        }
        for (tile, sum) in sum.iter().enumerate() {
            let (block, half) = (tile / 2, tile % 2);
            for (odd, sum) in sum.iter().enumerate() {
                store(f, i, w, t.d[2 * block + odd], half, *sum);
            }
        }
    }
    0
}
