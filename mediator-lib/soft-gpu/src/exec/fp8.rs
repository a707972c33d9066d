//! Conversions to and from the 8-bit floating-point formats (PTX ISA, "Alternate Floating-Point
//! Data Formats").

use super::half::{f16_bits, f16_value};

/// In the auxiliary word: e5m2, otherwise e4m3.
pub const E5M2: u32 = 1;
/// In the auxiliary word: negative results become zero.
pub const RELU: u32 = 2;

/// Value of an e4m3 number: no infinities, an exponent 8 below that of f16.
#[inline(always)]
pub fn e4m3_value(v: u8) -> f32 {
    let magnitude = u32::from(v & 0x7f);
    let value = if magnitude == 0x7f {
        f32::NAN
    } else {
        f32::from_bits(magnitude << 20) * f32::from_bits((127 + 120) << 23)
    };
    if v & 0x80 != 0 { -value } else { value }
}

/// Value of an e5m2 number: the upper half of an f16.
#[inline(always)]
pub fn e5m2_value(v: u8) -> f32 {
    f16_value(u32::from(v) << 8)
}

/// A number to nearest even; beyond the largest finite one it is that one.
fn encode(x: u32, v: f32) -> u32 {
    let (mantissa, smallest, largest) = if x & E5M2 != 0 {
        (2, -14, 0x7b)
    } else {
        (3, -6, 0x7e)
    };
    if v.is_nan() {
        return 0x7f;
    }
    if x & RELU != 0 && v.is_sign_negative() {
        return 0;
    }
    let sign = if v.is_sign_negative() { 0x80 } else { 0 };
    let a = f64::from(v.abs());
    // Every f32 but the denormal ones, which become zero, has its own exponent.
    let exponent = (((a.to_bits() >> 52) as i32) - 1023).clamp(smallest, 16);
    let steps = (a / 2f64.powi(exponent - mantissa))
        .round_ties_even()
        .min(256.0) as u32;
    // With the hidden bit in `steps`, a carry goes on into the exponent; a denormal has none.
    let bits = (((exponent - smallest) as u32) << mantissa) + steps;
    sign | bits.min(largest)
}

/// `cvt.rn.satfinite.{e4m3x2,e5m2x2}.f32`: `a` in the upper half.
pub fn fp8_from_f32(x: u32, a: u32, b: u32) -> u32 {
    (encode(x, f32::from_bits(a)) << 8) | encode(x, f32::from_bits(b))
}

/// The same from a pair of f16.
pub fn fp8_from_f16(x: u32, a: u32) -> u32 {
    (encode(x, f16_value(a >> 16)) << 8) | encode(x, f16_value(a & 0xffff))
}

/// `cvt.rn.f16x2.{e4m3x2,e5m2x2}`: exact.
pub fn f16_from_fp8(x: u32, a: u32) -> u32 {
    let one = |v: u8| {
        let v = if x & E5M2 != 0 {
            e5m2_value(v)
        } else {
            e4m3_value(v)
        };
        if x & RELU != 0 && v.is_sign_negative() && !v.is_nan() {
            0
        } else {
            f16_bits(v)
        }
    };
    one(a as u8) | (one((a >> 8) as u8) << 16)
}
