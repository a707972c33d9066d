//! `mma` of 16 rows with AVX2: as in [`super::avx512`], with the lanes of two rows in a register.
#![allow(unsafe_code)] // intrinsics, and frame slots through raw pointers

use std::arch::x86_64::*;

use super::portable::site;
use crate::exec::insn::{Handler, Insn};
use crate::exec::warp::Warp;
use crate::ir::matrix::{Element, MAX_FRAGMENT, Mma, Product, Sum};

/// The handler, if there is a fast form and the host has the conversions it needs.
pub(super) fn handler(m: &Mma) -> Option<Handler> {
    if m.rows != 16 || m.quads.is_some() || m.product != Product::Multiply {
        return None;
    }
    if !is_x86_feature_detected!("f16c") {
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

/// Columns of B in the order of the lanes that sum them: even ones, then odd ones.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Lanes `8 * quarter..` of a register.
#[inline(always)]
unsafe fn load(f: *mut u8, slots: &[u32; MAX_FRAGMENT], r: usize, quarter: usize) -> __m256i {
    // SAFETY: the emitter gave each register of the fragment a 32-bit vector slot of 128
    // bytes in this frame; `quarter` is below 4. The caller runs with AVX2.
    unsafe {
        let p = f.add(slots[r % MAX_FRAGMENT] as usize + 32 * quarter);
        _mm256_loadu_si256(p.cast())
    }
}

/// Writes lanes `8 * quarter..` of a register, where they run.
#[inline(always)]
unsafe fn store(f: *mut u8, i: &Insn, w: &Warp, slot: u32, quarter: usize, v: __m256i) {
    let mask = if i.masked {
        w.mask >> (8 * quarter) & 0xff
    } else {
        0xff
    };
    // SAFETY: as for `load`.
    unsafe {
        let p = f.add(slot as usize + 32 * quarter);
        if mask == 0xff {
            _mm256_storeu_si256(p.cast(), v);
            return;
        }
        let mut keep = [0i32; 8];
        for (l, k) in keep.iter_mut().enumerate() {
            *k = if mask & (1 << l) != 0 { -1 } else { 0 };
        }
        let keep = _mm256_loadu_si256(keep.as_ptr().cast());
        _mm256_maskstore_epi32(p.cast(), keep, v);
    }
}

/// The two 16-bit floats of each lane.
#[inline(always)]
unsafe fn widen<const T: u32>(v: __m256i) -> [__m256; 2] {
    // SAFETY: the caller runs with AVX2 and F16C.
    unsafe {
        if T == F16 {
            let low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
            let both = _mm256_packus_epi32(low, _mm256_srli_epi32::<16>(v));
            let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(both);
            [
                _mm256_cvtph_ps(_mm256_castsi256_si128(both)),
                _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(both)),
            ]
        } else {
            let high = _mm256_and_si256(v, _mm256_set1_epi32(0xffff_0000u32 as i32));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(v)),
                _mm256_castsi256_ps(high),
            ]
        }
    }
}

/// Columns of A in one register, by type.
const fn columns(t: u32) -> usize {
    if t == TF32 { 4 } else { 8 }
}

/// One register of B as rows of f32: four even columns, then four odd ones.
#[inline(always)]
unsafe fn rows_of_b<const T: u32>(
    f: *mut u8,
    slots: &[u32; MAX_FRAGMENT],
    r: usize,
) -> [[f32; 8]; 8] {
    // Rows of B transposed: eight columns of 16 bytes.
    let mut columns_of_b = [[0f32; 8]; 8];
    // SAFETY: the slot has 128 bytes. The caller runs with AVX2 and F16C.
    unsafe {
        let p = f.add(slots[r % MAX_FRAGMENT] as usize);
        for (n, column) in columns_of_b.iter_mut().enumerate() {
            let raw = _mm_loadu_si128(p.add(16 * n).cast());
            let v = match T {
                F16 => _mm256_cvtph_ps(raw),
                BF16 => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(raw))),
                _ => {
                    let v = _mm_and_si128(raw, _mm_set1_epi32(0xffff_e000u32 as i32));
                    _mm256_castps128_ps256(_mm_castsi128_ps(v))
                }
            };
            _mm256_storeu_ps(column.as_mut_ptr(), v);
        }
    }
    let mut out = [[0f32; 8]; 8];
    for (k, row) in out.iter_mut().enumerate().take(columns(T)) {
        for (v, n) in row.iter_mut().zip(ORDER) {
            *v = columns_of_b[n][k];
        }
    }
    out
}

/// The same four values in both halves.
#[inline(always)]
unsafe fn twice(p: &[f32]) -> __m256 {
    debug_assert!(p.len() >= 4);
    // SAFETY: the caller passes at least four floats, and runs with AVX2.
    unsafe {
        let v = _mm_loadu_ps(p.as_ptr());
        _mm256_set_m128(v, v)
    }
}

/// One step of the sum for a tile of two rows.
#[inline(always)]
unsafe fn step<const Q: i32>(sum: &mut [__m256; 2], a: __m256, b: &[f32; 8]) {
    // SAFETY: `b` holds two groups of four floats. The caller runs with AVX2 and FMA.
    unsafe {
        let a = _mm256_permute_ps::<Q>(a);
        sum[0] = _mm256_fmadd_ps(a, twice(&b[..4]), sum[0]);
        sum[1] = _mm256_fmadd_ps(a, twice(&b[4..]), sum[1]);
    }
}

/// The columns of A that one register holds, in order.
#[inline(always)]
unsafe fn chunk<const T: u32>(sum: &mut [__m256; 2], raw: __m256i, b: &[[f32; 8]; 8]) {
    // SAFETY: the caller runs with AVX2, FMA and F16C.
    unsafe {
        if T == TF32 {
            let a = _mm256_and_si256(raw, _mm256_set1_epi32(0xffff_e000u32 as i32));
            let a = _mm256_castsi256_ps(a);
            step::<0x00>(sum, a, &b[0]);
            step::<0x55>(sum, a, &b[1]);
            step::<0xaa>(sum, a, &b[2]);
            step::<0xff>(sum, a, &b[3]);
            return;
        }
        let [even, odd] = widen::<T>(raw);
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
unsafe fn canonical(v: __m256) -> __m256 {
    // SAFETY: the caller runs with AVX2.
    unsafe {
        let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v);
        let one = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff));
        _mm256_blendv_ps(v, one, nan)
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float<const T: u32>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    let chunks = (m.k as usize / columns(T)).min(2);
    // SAFETY: the emitter gave all registers slots in this frame; the handler is chosen on hosts
    // with AVX2, FMA and F16C only.
    unsafe {
        let mut b = [[[0f32; 8]; 8]; 2];
        for (c, b) in b.iter_mut().enumerate().take(chunks) {
            *b = rows_of_b::<T>(f, &t.b, c);
        }
        // All tiles before any is written: D may share registers with the operands.
        let mut out = [[_mm256_setzero_ps(); 2]; 8];
        for (tile, out) in out.iter_mut().enumerate() {
            let (block, quarter) = (tile / 4, tile % 4);
            let mut sum = if m.sums[0] == Sum::F16 {
                widen::<F16>(load(f, &t.c, block, quarter))
            } else {
                [0, 1].map(|odd| _mm256_castsi256_ps(load(f, &t.c, 2 * block + odd, quarter)))
            };
            for (c, b) in b.iter().enumerate().take(chunks) {
                chunk::<T>(&mut sum, load(f, &t.a, 2 * c + block, quarter), b);
            }
            *out = sum.map(|v| canonical(v));
        }
        for (tile, [even, odd]) in out.into_iter().enumerate() {
            let (block, quarter) = (tile / 4, tile % 4);
            if m.sums[1] == Sum::F16 {
                const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
                let [even, odd] =
                    [even, odd].map(|v| _mm256_cvtepu16_epi32(_mm256_cvtps_ph::<NEAREST>(v)));
                let v = _mm256_or_si256(even, _mm256_slli_epi32::<16>(odd));
                store(f, i, w, t.d[block], quarter, v);
            } else {
                store(f, i, w, t.d[2 * block], quarter, _mm256_castps_si256(even));
                store(
                    f,
                    i,
                    w,
                    t.d[2 * block + 1],
                    quarter,
                    _mm256_castps_si256(odd),
                );
            }
        }
    }
    0
}

/// Bytes 0 and 2, and bytes 1 and 3, of each word as 16-bit numbers.
#[inline(always)]
unsafe fn bytes<const SIGNED: bool>(v: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller runs with AVX2.
    unsafe {
        if SIGNED {
            [
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(v)),
                _mm256_srai_epi16::<8>(v),
            ]
        } else {
            [
                _mm256_and_si256(v, _mm256_set1_epi16(0xff)),
                _mm256_srli_epi16::<8>(v),
            ]
        }
    }
}

/// Four columns of A by four rows of B: a word of even and odd bytes for eight columns.
#[inline(always)]
unsafe fn dot<const Q: i32>(sum: &mut [__m256i; 2], a: &[__m256i; 2], b: &[__m256i; 2]) {
    // SAFETY: the caller runs with AVX2.
    unsafe {
        for (a, b) in a.iter().zip(b) {
            let a = _mm256_shuffle_epi32::<Q>(*a);
            let even = _mm256_permute2x128_si256::<0x00>(*b, *b);
            let odd = _mm256_permute2x128_si256::<0x11>(*b, *b);
            sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(a, even));
            sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(a, odd));
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn integer<const SA: bool, const SB: bool>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    let chunks = (m.k as usize / 16).min(2);
    // SAFETY: as in `float`.
    unsafe {
        let mut b = [[[_mm256_setzero_si256(); 2]; 4]; 2];
        for (c, b) in b.iter_mut().enumerate().take(chunks) {
            let p = f.add(t.b[c] as usize).cast::<[[u32; 4]; 8]>();
            let columns_of_b = p.read();
            for (k, b) in b.iter_mut().enumerate() {
                let words = ORDER.map(|n| columns_of_b[n][k]);
                *b = bytes::<SB>(_mm256_loadu_si256(words.as_ptr().cast()));
            }
        }
        let mut out = [[_mm256_setzero_si256(); 2]; 8];
        for (tile, out) in out.iter_mut().enumerate() {
            let (block, quarter) = (tile / 4, tile % 4);
            let mut sum = [_mm256_setzero_si256(); 2];
            for (c, b) in b.iter().enumerate().take(chunks) {
                let a = bytes::<SA>(load(f, &t.a, 2 * c + block, quarter));
                dot::<0x00>(&mut sum, &a, &b[0]);
                dot::<0x55>(&mut sum, &a, &b[1]);
                dot::<0xaa>(&mut sum, &a, &b[2]);
                dot::<0xff>(&mut sum, &a, &b[3]);
            }
            for (odd, (out, sum)) in out.iter_mut().zip(sum).enumerate() {
                let c = load(f, &t.c, 2 * block + odd, quarter);
                let plain = _mm256_add_epi32(c, sum);
                *out = plain;
                if m.saturate {
                    // Overflow: the operands have one sign, the sum another.
                    let wrong =
                        _mm256_andnot_si256(_mm256_xor_si256(c, sum), _mm256_xor_si256(c, plain));
                    let limit =
                        _mm256_xor_si256(_mm256_srai_epi32::<31>(c), _mm256_set1_epi32(i32::MAX));
                    *out = _mm256_blendv_epi8(plain, limit, _mm256_srai_epi32::<31>(wrong));
                }
            }
        }
        for (tile, out) in out.into_iter().enumerate() {
            let (block, quarter) = (tile / 4, tile % 4);
            for (odd, v) in out.into_iter().enumerate() {
                store(f, i, w, t.d[2 * block + odd], quarter, v);
            }
        }
    }
    0
}
