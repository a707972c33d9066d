//! f16 and bf16 by way of f32, without branches, so that loops over lanes are vector code. What
//! has modifiers goes through [`super::float::half`], which is exact and slow.

/// Value of an f16 in the low bits; without branches, so that loops over lanes are vector code.
#[inline(always)]
pub fn f16_value(h: u32) -> f32 {
    let magnitude = h & 0x7fff;
    // The exponent is 112 lower; the product is exact for denormals, too.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    let special = f32::from_bits(0x7f80_0000 | ((h & 0x3ff) << 13));
    let v = if magnitude >= 0x7c00 { special } else { scaled };
    f32::from_bits(v.to_bits() | ((h & 0x8000) << 16))
}

/// An f32 as f16, to nearest even.
#[inline(always)]
pub fn f16_bits(v: f32) -> u32 {
    let b = v.to_bits();
    let a = b & 0x7fff_ffff;
    let normal = a
        .wrapping_sub(0x3800_0000)
        .wrapping_add(0xfff + ((a >> 13) & 1))
        >> 13;
    // The last bit of 0.5 is the last one of a denormal: the addition rounds.
    let denormal = (f32::from_bits(a) + 0.5)
        .to_bits()
        .wrapping_sub(0x3f00_0000);
    let r = if a < 0x3880_0000 { denormal } else { normal };
    let r = if a >= 0x477f_f000 { 0x7c00 } else { r };
    let r = r | ((b >> 16) & 0x8000);
    if a > 0x7f80_0000 { 0x7fff } else { r }
}

/// An f32 as bf16, to nearest even.
#[inline(always)]
pub fn bf16_bits(v: f32) -> u32 {
    let b = v.to_bits();
    let r = b.wrapping_add(0x7fff + ((b >> 16) & 1)) >> 16;
    if b & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff
    } else {
        r
    }
}

/// Value of a bf16 in the low bits.
#[inline(always)]
pub fn bf16_value(h: u32) -> f32 {
    f32::from_bits(h << 16)
}

/// Both halves of a register as f16 of what `f` computes from a half. (The upper half of a
/// register that holds one f16 is zero, and stays so.)
#[inline(always)]
pub fn f16_pair(f: impl Fn(fn(u32) -> u32) -> f32) -> u32 {
    f16_bits(f(|v| v & 0xffff)) | (f16_bits(f(|v| v >> 16)) << 16)
}

/// As `f16_pair`, in bf16.
#[inline(always)]
pub fn bf16_pair(f: impl Fn(fn(u32) -> u32) -> f32) -> u32 {
    bf16_bits(f(|v| v & 0xffff)) | (bf16_bits(f(|v| v >> 16)) << 16)
}

/// `a * b + c` rounded to odd, for factors whose product is exact: rounding the result once
/// more, to at most 22 bits, is as if the sum was rounded once.
#[inline(always)]
pub fn fma_odd32(a: f32, b: f32, c: f32) -> f32 {
    let p = a * b;
    let s = p + c;
    let t = s - p;
    let err = (p - (s - t)) + (c - t);
    let bits = s.to_bits();
    let away = (err > 0.0) == (s > 0.0);
    let odd = if away {
        bits.wrapping_add(1)
    } else {
        bits.wrapping_sub(1)
    };
    let inexact = (err != 0.0) & (bits & 1 == 0) & (s.abs() < f32::INFINITY);
    f32::from_bits(if inexact { odd } else { bits })
}

/// As `fma_odd32` for bf16, whose products may leave the range of f32.
#[inline(always)]
pub fn fma_odd64(a: f32, b: f32, c: f32) -> f32 {
    let (p, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let s = p + c;
    let t = s - p;
    let err = (p - (s - t)) + (c - t);
    let r = s as f32;
    let bits = r.to_bits();
    // What is missing in `r`: of the conversion, or else of the sum.
    let lost = s - f64::from(r);
    let lost = if lost == 0.0 { err } else { lost };
    let away = (lost > 0.0) == (s > 0.0);
    let odd = if away {
        bits.wrapping_add(1)
    } else {
        bits.wrapping_sub(1)
    };
    let inexact = (lost != 0.0) & (bits & 1 == 0) & (s.abs() < f64::INFINITY);
    f32::from_bits(if inexact { odd } else { bits })
}

/// The half of a register that a comparison is about, as `half_compare` numbers it.
#[inline(always)]
pub fn half_of(x: u32, a: u32) -> u32 {
    (a >> ((x >> 12) & 16)) & 0xffff
}

/// Whether one of the relations in bits 0..4 of `x` holds: less, equal, greater, unordered.
#[inline(always)]
pub fn compare_values(x: u32, a: f32, b: f32) -> bool {
    let unordered = a.is_nan() | b.is_nan();
    let bits = u32::from(a < b)
        | (u32::from(a == b) << 1)
        | (u32::from(a > b) << 2)
        | (u32::from(unordered) << 3);
    x & bits != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::float::{canon, convert, cvt, fmax32, fmin32, half, half_compare, op};
    use proptest::prelude::*;

    /// Values that make ties, cancellation, overflow and underflow likely.
    fn awkward(v: u32) -> u32 {
        match v >> 29 {
            0 => v & 0xffff,
            1 => (v & 0x8003) | (((v >> 16) & 0x1f) << 10),
            2 => (v & 0x8001) | (((v >> 16) & 0xff) << 7),
            3 => [0x7c00, 0xfc00, 0x7f80, 0x7e01, 0x8000, 0, 1, 0x7bff][(v & 7) as usize],
            4 => (v & 0x8000) | 0x3c00 | ((v >> 16) & 3),
            5 => (v & 0x8000) | 0x3f80 | ((v >> 16) & 3),
            _ => (v & 0x83ff) | (((v >> 16) % 12 + 8) << 10),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]
        #[test]
        fn half_arithmetic_agrees_with_the_exact_one(a: u32, b: u32, c: u32) {
            let (a, b, c) = (awkward(a), awkward(b), awkward(c));
            let f16 = |f: fn(f32, f32, f32) -> f32| f16_bits(f(f16_value(a), f16_value(b), f16_value(c)));
            prop_assert_eq!(f16(|a, b, _| a + b), half(op::ADD, a, b, 0));
            prop_assert_eq!(f16(|a, b, _| a * b), half(op::MUL, a, b, 0));
            prop_assert_eq!(f16(fma_odd32), half(op::FMA, a, b, c));
            prop_assert_eq!(f16(|a, b, _| fmin32(a, b)), half(op::MIN, a, b, 0));
            let bf16 = |f: fn(f32, f32, f32) -> f32| bf16_bits(f(bf16_value(a), bf16_value(b), bf16_value(c)));
            prop_assert_eq!(bf16(|a, b, _| a + b), half(op::ADD | op::BF16, a, b, 0));
            prop_assert_eq!(bf16(|a, b, _| fma_odd64(a, b, -0.0)), half(op::MUL | op::BF16, a, b, 0));
            prop_assert_eq!(bf16(fma_odd64), half(op::FMA | op::BF16, a, b, c));
            prop_assert_eq!(bf16(|a, b, _| fmax32(a, b)), half(op::MAX | op::BF16, a, b, 0));
            for bit in 0..4 {
                let x = 1 << bit;
                prop_assert_eq!(compare_values(x, f16_value(a), f16_value(b)), half_compare(x, a, b));
            }
        }
    }

    #[test]
    fn half_conversions_agree_with_the_exact_ones() {
        for h in 0..=0xffffu32 {
            let want = convert(cvt::F16 | (cvt::F32 << cvt::DST), h.into()) as u32;
            let got = canon(f16_value(h)).to_bits();
            assert_eq!(got, want, "{h:#x}");
        }
        // Every f32 whose upper bits differ, with the lower ones around ties.
        for high in 0..=0xfffffu32 {
            for low in [0, 1, 0x7ff, 0x800, 0x801, 0xfff] {
                let b = (high << 12) | low;
                let v = f32::from_bits(b);
                let want = convert(cvt::F32 | (cvt::F16 << cvt::DST), b.into()) as u32;
                assert_eq!(f16_bits(v), want, "{b:#x}");
                let want = convert(cvt::F32 | (cvt::BF16 << cvt::DST), b.into()) as u32;
                assert_eq!(bf16_bits(v), want, "{b:#x}");
            }
        }
    }
}
