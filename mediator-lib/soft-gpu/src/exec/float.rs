//! Floating-point meaning of single lanes: what PTX defines differently from
//! the host, and the approximations, each within the error the ISA states.

use super::soft::{self, BF16, F16, F32, F64, Format, Round, TF32};

/// A denormal becomes a zero of its sign.
#[inline(always)]
pub fn ftz(a: f32) -> f32 {
    let b = a.to_bits();
    f32::from_bits(if b & 0x7f80_0000 == 0 {
        b & 0x8000_0000
    } else {
        b
    })
}

/// A NaN becomes the one that f32 operations return (PTX ISA, "Floating-Point
/// Instructions": 0x7fffffff).
#[inline(always)]
pub fn canon(a: f32) -> f32 {
    // On bits: the optimiser holds all NaNs equal and may drop a test of floats.
    let b = a.to_bits();
    f32::from_bits(if b & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff_ffff
    } else {
        b
    })
}

/// `a * b + c` rounded once, without an FMA instruction: the product is exact in
/// f64, the sum is rounded to odd there, and rounding that to f32 is exact.
#[inline(always)]
pub fn fma32(a: f32, b: f32, c: f32) -> f32 {
    let p = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let s = p + c;
    // Error of the sum (Knuth's two-sum).
    let t = s - p;
    let err = (p - (s - t)) + (c - t);
    let bits = s.to_bits();
    if err != 0.0 && bits & 1 == 0 && s.is_finite() {
        // Move towards the exact value's side if that changes the last bit to odd.
        let away = (err > 0.0) == (s > 0.0);
        let odd = if away { bits + 1 } else { bits - 1 };
        return f64::from_bits(odd) as f32;
    }
    s as f32
}

/// `min.f32`: a NaN loses, -0 is below +0.
#[inline(always)]
pub fn fmin32(a: f32, b: f32) -> f32 {
    let tie = f32::from_bits(a.to_bits() | b.to_bits());
    let r = if a < b {
        a
    } else if b < a {
        b
    } else {
        tie
    };
    nan_pick32(a, b, r)
}

/// `max.f32`.
#[inline(always)]
pub fn fmax32(a: f32, b: f32) -> f32 {
    let tie = f32::from_bits(a.to_bits() & b.to_bits());
    let r = if a > b {
        a
    } else if b > a {
        b
    } else {
        tie
    };
    nan_pick32(a, b, r)
}

#[inline(always)]
fn nan_pick32(a: f32, b: f32, r: f32) -> f32 {
    let r = if b.is_nan() { a } else { r };
    let r = if a.is_nan() { b } else { r };
    if a.is_nan() & b.is_nan() {
        f32::from_bits(0x7fff_ffff)
    } else {
        r
    }
}

/// `min.f64`.
#[inline(always)]
pub fn fmin64(a: f64, b: f64) -> f64 {
    let tie = f64::from_bits(a.to_bits() | b.to_bits());
    let r = if a < b {
        a
    } else if b < a {
        b
    } else {
        tie
    };
    nan_pick64(a, b, r)
}

/// `max.f64`.
#[inline(always)]
pub fn fmax64(a: f64, b: f64) -> f64 {
    let tie = f64::from_bits(a.to_bits() & b.to_bits());
    let r = if a > b {
        a
    } else if b > a {
        b
    } else {
        tie
    };
    nan_pick64(a, b, r)
}

#[inline(always)]
fn nan_pick64(a: f64, b: f64, r: f64) -> f64 {
    let r = if b.is_nan() { a } else { r };
    let r = if a.is_nan() { b } else { r };
    if a.is_nan() & b.is_nan() {
        f64::from_bits(0x7fff_ffff_ffff_ffff)
    } else {
        r
    }
}

/// `rcp.approx.ftz.f64`: only the upper word counts, the low word of the result is zero.
pub fn rcp_approx64(a: u64) -> u64 {
    approx64(a, |v| 1.0 / v)
}

/// `rsqrt.approx.ftz.f64`, in the same way.
pub fn rsqrt_approx64(a: u64) -> u64 {
    approx64(a, |v| 1.0 / v.sqrt())
}

fn approx64(a: u64, f: impl Fn(f64) -> f64) -> u64 {
    let r = f(f64::from_bits(F64.flush(a) & !0xffff_ffff));
    if r.is_nan() || F64.is_nan(a) {
        0x7fff_ffff_0000_0000
    } else {
        F64.flush(r.to_bits()) & !0xffff_ffff
    }
}

/// Number of an arithmetic operation in the auxiliary word.
pub mod op {
    #![allow(missing_docs)]
    pub const ADD: u32 = 0;
    pub const SUB: u32 = 1;
    pub const MUL: u32 = 2;
    pub const FMA: u32 = 3;
    pub const DIV: u32 = 4;
    pub const SQRT: u32 = 5;
    pub const RCP: u32 = 6;
    pub const MIN: u32 = 7;
    pub const MAX: u32 = 8;
    pub const NEG: u32 = 9;
    pub const ABS: u32 = 10;
    pub const EX2: u32 = 11;
    pub const TANH: u32 = 12;
    /// Position of the rounding mode.
    pub const ROUND: u32 = 4;
    pub const FTZ: u32 = 1 << 7;
    pub const SAT: u32 = 1 << 8;
    pub const NAN: u32 = 1 << 9;
    pub const RELU: u32 = 1 << 10;
    pub const XORSIGN: u32 = 1 << 11;
    pub const BF16: u32 = 1 << 12;
    pub const PACKED: u32 = 1 << 13;
}

/// The NaN of an invalid operation in f64: CUDA's `CUDART_NAN`.
const DEFAULT_NAN64: u64 = 0xfff8_0000_0000_0000;

/// A NaN of a format as f64: the payload is kept (PTX ISA, "Floating Point Instructions"), and it becomes quiet.
fn f64_nan(f: Format, v: u64) -> u64 {
    let negative = v >> (f.exp + f.man) & 1;
    let payload = (v & ((1 << f.man) - 1)) << (F64.man - f.man);
    negative << 63 | F64.inf(false) | payload | 1 << 51
}

/// `.sat`: into 0 to 1; a NaN is 0.
fn saturate(f: Format, v: u64) -> u64 {
    let one = u64::from((1u32 << (f.exp - 1)) - 1) << f.man;
    if f.is_nan(v) || v >> (f.exp + f.man) & 1 != 0 {
        0
    } else {
        v.min(one)
    }
}

fn arith(f: Format, x: u32, a: u64, b: u64, c: u64) -> u64 {
    let mode = Round::from_bits(x >> op::ROUND);
    let sign = 1u64 << (f.exp + f.man);
    let flush = |v: u64| if x & op::FTZ != 0 { f.flush(v) } else { v };
    let (a, b, c) = (flush(a), flush(b), flush(c));
    let one = u64::from((1u32 << (f.exp - 1)) - 1) << f.man;
    let mut r = match x & 15 {
        op::ADD => soft::add(f, a, b, mode),
        op::SUB => soft::add(f, a, b ^ sign, mode),
        op::MUL => soft::mul(f, a, b, mode),
        op::FMA => soft::fma(f, a, b, c, mode),
        op::DIV => soft::div(f, a, b, mode),
        op::SQRT => soft::sqrt(f, a, mode),
        op::RCP => soft::div(f, one, a, mode),
        op::NEG => a ^ sign,
        op::ABS => a & !sign,
        op::MIN | op::MAX => min_max(f, x, a, b),
        op::EX2 => soft::convert(F64, f, to_f64(f, a).exp2().to_bits(), Round::Rn),
        _ => soft::convert(F64, f, to_f64(f, a).tanh().to_bits(), Round::Rn),
    };
    r = flush(r);
    if f == F64 && f.is_nan(r) && x & 15 <= op::RCP {
        // The first operand that is one, as the host's own instructions do it.
        r = match [a, b, c].into_iter().find(|v| f.is_nan(*v)) {
            Some(nan) => f64_nan(f, nan),
            None => DEFAULT_NAN64,
        };
    }
    if x & op::SAT != 0 {
        r = saturate(f, r);
    }
    if x & op::RELU != 0 && !f.is_nan(r) && r & sign != 0 {
        r = 0;
    }
    r
}

fn to_f64(f: Format, v: u64) -> f64 {
    f64::from_bits(soft::convert(f, F64, v, Round::Rn))
}

fn min_max(f: Format, x: u32, a: u64, b: u64) -> u64 {
    let sign = 1u64 << (f.exp + f.man);
    let (na, nb) = (f.is_nan(a), f.is_nan(b));
    let (mut a, mut b) = (a, b);
    let xorsign = x & op::XORSIGN != 0;
    let s = (a ^ b) & sign;
    if xorsign {
        (a, b) = (a & !sign, b & !sign);
    }
    let r = if na || nb {
        if x & op::NAN != 0 || (na && nb) {
            return f.nan();
        }
        if na { b } else { a }
    } else {
        // As a total order: negative values are reversed.
        let key = |v: u64| {
            if v & sign != 0 {
                -((v & !sign) as i64) - 1
            } else {
                v as i64
            }
        };
        let less = key(a) < key(b);
        if less == (x & 15 == op::MIN) { a } else { b }
    };
    if xorsign { (r & !sign) | s } else { r }
}

/// f32 arithmetic with every modifier.
pub fn arith32(x: u32, a: u32, b: u32, c: u32) -> u32 {
    arith(F32, x, a.into(), b.into(), c.into()) as u32
}

/// f64 arithmetic with every rounding mode.
pub fn arith64(x: u32, a: u64, b: u64, c: u64) -> u64 {
    arith(F64, x, a, b, c)
}

/// f16, f16x2, bf16 and bf16x2 arithmetic.
pub fn half(x: u32, a: u32, b: u32, c: u32) -> u32 {
    let f = if x & op::BF16 != 0 { BF16 } else { F16 };
    let part = |s: u32| {
        let h = |v: u32| u64::from((v >> s) & 0xffff);
        (arith(f, x, h(a), h(b), h(c)) as u32) << s
    };
    if x & op::PACKED != 0 {
        part(0) | part(16)
    } else {
        part(0)
    }
}

/// Comparison of half values. Bits 0..4 of `x`: holds if less, equal, greater,
/// unordered; then [`op::BF16`], [`op::FTZ`], and bit 16 for the high half.
pub fn half_compare(x: u32, a: u32, b: u32) -> bool {
    let f = if x & op::BF16 != 0 { BF16 } else { F16 };
    let shift = if x & (1 << 16) != 0 { 16 } else { 0 };
    let get = |v: u32| {
        let v = u64::from((v >> shift) & 0xffff);
        to_f64(f, if x & op::FTZ != 0 { f.flush(v) } else { v })
    };
    let (a, b) = (get(a), get(b));
    let bit = match a.partial_cmp(&b) {
        Some(std::cmp::Ordering::Less) => 1,
        Some(std::cmp::Ordering::Equal) => 2,
        Some(std::cmp::Ordering::Greater) => 4,
        None => 8,
    };
    x & bit != 0
}

/// `testp`: 0 finite, 1 infinite, 2 number, 3 notanumber, 4 normal, 5 subnormal.
pub fn testp(a: u64, x: u32, double: bool) -> bool {
    let f = if double { F64 } else { F32 };
    let magnitude = a & ((1u64 << (f.exp + f.man)) - 1);
    let inf = f.inf(false);
    match x {
        0 => magnitude < inf,
        1 => magnitude == inf,
        2 => magnitude <= inf,
        3 => magnitude > inf,
        4 => magnitude < inf && f.flush(magnitude) != 0,
        _ => magnitude != 0 && f.flush(magnitude) == 0,
    }
}

/// Type numbers of conversions.
pub mod cvt {
    #![allow(missing_docs)]
    pub const F16: u32 = 8;
    pub const BF16: u32 = 9;
    pub const TF32: u32 = 10;
    pub const F32: u32 = 11;
    pub const F64: u32 = 12;
    /// Position of the destination type; the source type is in bits 0..4.
    pub const DST: u32 = 4;
    pub const ROUND: u32 = 8;
    pub const FTZ: u32 = 1 << 11;
    pub const SAT: u32 = 1 << 12;
    pub const INTEGRAL: u32 = 1 << 13;
    pub const RELU: u32 = 1 << 14;
    /// Beyond the largest finite number it is that one.
    pub const FINITE: u32 = 1 << 15;
}

fn format(t: u32) -> Option<Format> {
    Some(match t {
        cvt::F16 => F16,
        cvt::BF16 => BF16,
        cvt::TF32 => TF32,
        cvt::F32 => F32,
        cvt::F64 => F64,
        _ => return None,
    })
}

/// Bounds of the integer type numbered 0..8: u8, u16, u32, u64, s8, s16, s32, s64.
fn bounds(t: u32) -> (i128, i128) {
    let bits = 8u32 << (t & 3);
    if t & 4 != 0 {
        (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
    } else {
        (0, (1i128 << bits) - 1)
    }
}

fn int_value(t: u32, a: u64) -> i128 {
    let bits = 8u32 << (t & 3);
    let v = i128::from(a) & ((1i128 << bits) - 1);
    if t & 4 != 0 && v >> (bits - 1) != 0 {
        v - (1i128 << bits)
    } else {
        v
    }
}

/// `cvt`: any scalar type to any other, all modifiers; integers are sign- or
/// zero-extended to 64 bits.
pub fn convert(x: u32, a: u64) -> u64 {
    let (src, dst) = (x & 15, (x >> cvt::DST) & 15);
    let mode = Round::from_bits(x >> cvt::ROUND);
    let (sat, ftz) = (x & cvt::SAT != 0, x & cvt::FTZ != 0);
    match (format(src), format(dst)) {
        (None, None) => {
            let v = int_value(src, a);
            let (lo, hi) = bounds(dst);
            if sat {
                v.clamp(lo, hi) as u64
            } else {
                int_value(dst, v as u64) as u64
            }
        }
        (None, Some(f)) => {
            let v = int_value(src, a);
            let r = soft::from_int(f, v < 0, v.unsigned_abs() as u64, mode);
            if sat { saturate(f, r) } else { r }
        }
        (Some(f), None) => {
            let a = mask(f, a);
            let a = if ftz && f == F32 { f.flush(a) } else { a };
            let (lo, hi) = bounds(dst);
            // From f64, and to 64 bits, a NaN is the greatest bit alone (PTX ISA 9.0, "cvt").
            let nan = match (f == F64 || dst & 3 == 3, lo < 0) {
                (false, _) => 0,
                (true, true) => lo,
                (true, false) => (hi + 1) / 2,
            };
            soft::to_int(f, a, lo, hi, nan, mode) as u64
        }
        (Some(f), Some(g)) => {
            let a = if f == TF32 { a >> 13 } else { mask(f, a) };
            let a = if ftz && f == F32 { f.flush(a) } else { a };
            let mut r = if x & cvt::INTEGRAL != 0 && f == g {
                soft::round_integral(f, a, mode)
            } else {
                soft::convert(f, g, a, mode)
            };
            if ftz && g == F32 {
                r = g.flush(r);
            }
            if g == F64 && f.is_nan(a) {
                r = f64_nan(f, a);
            }
            let sign = 1u64 << (g.exp + g.man);
            if sat {
                r = saturate(g, r);
            }
            if x & cvt::FINITE != 0 && r & !sign == g.inf(false) {
                r -= 1;
            }
            if x & cvt::RELU != 0 && !g.is_nan(r) && r & sign != 0 {
                r = 0;
            }
            if g == TF32 { r << 13 } else { r }
        }
    }
}

fn mask(f: Format, a: u64) -> u64 {
    if f.exp + f.man == 63 {
        a
    } else {
        a & ((2u64 << (f.exp + f.man)) - 1)
    }
}

/// `cvt.{rn,rz}.{f16x2,bf16x2}.f32 d, a, b`: `a` in the high half.
pub fn convert_pack(x: u32, a: u32, b: u32) -> u32 {
    ((convert(x, a.into()) as u32 & 0xffff) << 16) | (convert(x, b.into()) as u32 & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn fma_is_rounded_once(a: u32, b: u32, c: u32, k in 0u32..40) {
            let near = |v: u32| (v & 0x807f_ffff) | ((100 + (v >> 24) % (k + 1)) << 23);
            for (a, b, c) in [(a, b, c), (near(a), near(b), near(c))] {
                let (x, y, z) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
                let (got, want) = (fma32(x, y, z), x.mul_add(y, z));
                prop_assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{x:e} {y:e} {z:e}: {got:e} {want:e}");
            }
        }

    }

    #[test]
    fn special_values() {
        assert_eq!(fmin32(-0.0, 0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(fmax32(-0.0, 0.0).to_bits(), 0);
        assert_eq!(fmin32(f32::NAN, 1.0), 1.0);
        assert_eq!(fmax32(1.0, f32::NAN), 1.0);
        assert_eq!(fmax32(f32::NAN, f32::NAN).to_bits(), 0x7fff_ffff);
    }

    #[test]
    fn conversions() {
        let c = |src: u32, dst: u32, x: u32, a: u64| convert(src | (dst << cvt::DST) | x, a);
        assert_eq!(c(6, 0, cvt::SAT, (-5i64) as u64), 0); // s32 -> u8 sat
        assert_eq!(c(6, 4, cvt::SAT, 300), 127); // s32 -> s8 sat
        assert_eq!(c(2, 4, 0, 0xff), u64::MAX); // u32 -> s8 sign-extends
        assert_eq!(c(cvt::F32, cvt::F16, 0, 1.0f32.to_bits().into()), 0x3c00);
        assert_eq!(
            c(cvt::F16, cvt::F32, 0, 0x0001),
            (2f32.powi(-24)).to_bits().into()
        );
        assert_eq!(c(cvt::F32, cvt::BF16, 0, 1.0f32.to_bits().into()), 0x3f80);
        assert_eq!(
            c(cvt::F32, 6, 1 << cvt::ROUND, (-2.7f32).to_bits().into()),
            (-2i64) as u64
        );
        assert_eq!(
            c(cvt::F32, 2, 1 << cvt::ROUND, f32::NAN.to_bits().into()),
            0
        );
        assert_eq!(
            c(cvt::F32, 2, 0, 1e20f32.to_bits().into()),
            u64::from(u32::MAX)
        );
    }
}
