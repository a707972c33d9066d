//! Approximations of transcendental functions, without a branch, so that lanes are computed side by side.

/// `ex2.approx`: relative error below 2^-24 before the final rounding.
#[inline(always)]
pub fn ex2(a: f32) -> f32 {
    let x = f64::from(a);
    let x = if x > 200.0 { 200.0 } else { x };
    let x = if x < -200.0 { -200.0 } else { x };
    // Adding 1.5 * 2^52 rounds to an integer and leaves it in the low bits.
    let magic = 6_755_399_441_055_744.0f64;
    let shifted = x + magic;
    let n = shifted - magic;
    let f = x - n;
    let mut p = 1.525_273_380_405_984e-5;
    p = p * f + 1.540_353_039_338_161e-4;
    p = p * f + 1.333_355_814_642_844_2e-3;
    p = p * f + 9.618_129_107_628_477e-3;
    p = p * f + 5.550_410_866_482_158e-2;
    p = p * f + 2.402_265_069_591_007e-1;
    p = p * f + std::f64::consts::LN_2;
    p = p * f + 1.0;
    let k = (shifted.to_bits() as u32) as i32; // low bits hold n
    let scale = f64::from_bits(((i64::from(k) + 1023) as u64) << 52);
    if a.is_nan() {
        f32::from_bits(0x7fff_ffff)
    } else {
        (p * scale) as f32
    }
}

/// `lg2.approx`: error below 2^-24 of the result or absolute near one.
#[inline(always)]
pub fn lg2(a: f32) -> f32 {
    let bits = f64::from(a).to_bits();
    let e = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    let big = m > std::f64::consts::SQRT_2;
    let m = if big { m * 0.5 } else { m };
    let e = f64::from(e) + if big { 1.0 } else { 0.0 };
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    p = p * z + 1.0;
    let r = (e + p * s * (2.0 * std::f64::consts::LOG2_E)) as f32;
    let r = if a == f32::INFINITY { f32::INFINITY } else { r };
    let r = if a == 0.0 { f32::NEG_INFINITY } else { r };
    if a < 0.0 || a.is_nan() {
        f32::from_bits(0x7fff_ffff)
    } else {
        r
    }
}

/// Rounds to the nearest integer when it is added, and leaves that in the low bits: 1.5 × 2⁵².
const INTEGER: f64 = 6_755_399_441_055_744.0;

/// π/2 in parts of 33 bits, whose products with numbers of up to 20 bits are exact, and the rest.
const HALF_PI: [f64; 3] = [
    f64::from_bits(0x3ff9_21fb_5440_0000),
    f64::from_bits(0x3dd0_b461_1a60_0000),
    2.022_266_248_795_950_6e-21,
];

/// An angle less its multiple of π/2, which is the second: the first is at most π/4, for angles up to 2²⁸ (the ISA
/// promises nothing beyond 100π). Of larger ones it is a number up to one.
#[inline(always)]
fn reduced(x: f64) -> (f64, u32) {
    let shifted = x * std::f64::consts::FRAC_2_PI + INTEGER;
    let n = shifted - INTEGER;
    let r = ((x - n * HALF_PI[0]) - n * HALF_PI[1]) - n * HALF_PI[2];
    let r = if r > 1.0 { 1.0 } else { r };
    let r = if r < -1.0 { -1.0 } else { r };
    (r, shifted.to_bits() as u32)
}

/// The sine of an angle up to π/4 for an even `n`, the cosine for an odd one, negated for the third and the fourth.
/// Taylor's series: the first term left out is below 2⁻³⁶.
#[inline(always)]
fn quarter(r: f64, n: u32) -> f32 {
    let z = r * r;
    let mut s = -1.0 / 39_916_800.0;
    s = s * z + 1.0 / 362_880.0;
    s = s * z - 1.0 / 5_040.0;
    s = s * z + 1.0 / 120.0;
    s = s * z - 1.0 / 6.0;
    let s = r * (1.0 + z * s);
    let mut c = 1.0 / 479_001_600.0;
    c = c * z - 1.0 / 3_628_800.0;
    c = c * z + 1.0 / 40_320.0;
    c = c * z - 1.0 / 720.0;
    c = c * z + 1.0 / 24.0;
    c = c * z - 0.5;
    let c = 1.0 + z * c;
    let y = if n & 1 == 0 { s } else { c };
    let y = (if n & 2 == 0 { y } else { -y }) as f32;
    if y.is_nan() {
        f32::from_bits(0x7fff_ffff)
    } else {
        y
    }
}

/// `sin.approx`: error below 2⁻³⁵ before the final rounding.
#[inline(always)]
pub fn sin(a: f32) -> f32 {
    let (r, n) = reduced(f64::from(a));
    quarter(r, n)
}

/// `cos.approx`: error below 2⁻³⁵ before the final rounding.
#[inline(always)]
pub fn cos(a: f32) -> f32 {
    let (r, n) = reduced(f64::from(a));
    quarter(r, n.wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn ex2_and_lg2_stay_within_the_stated_error(a in -150f32..127f32, b in 1e-38f32..1e38) {
            let want = f64::from(a).exp2();
            if want > 1.2e-38 {
                prop_assert!((f64::from(ex2(a)) / want - 1.0).abs() < 2f64.powi(-22));
            }
            let want = f64::from(b).log2();
            prop_assert!((f64::from(lg2(b)) - want).abs() <= want.abs() * 2f64.powi(-22) + 2f64.powi(-22));
        }

        #[test]
        fn sin_and_cos_are_rounded_once(near in -320f32..320.0, far in -1e8f32..1e8, turns in -200i32..200) {
            let whole = (f64::from(turns) * std::f64::consts::FRAC_PI_2) as f32;
            for a in [near, far, near * 1e-20, whole] {
                let x = f64::from(a);
                for (got, want) in [(sin(a), x.sin()), (cos(a), x.cos())] {
                    let bound = want.abs() * 2f64.powi(-23) + x.abs() * 2f64.powi(-52);
                    prop_assert!((f64::from(got) - want).abs() <= bound, "{a:e}: {got:e} {want:e}");
                }
            }
        }
    }

    #[test]
    fn special_values() {
        assert_eq!(ex2(f32::NEG_INFINITY), 0.0);
        assert_eq!(ex2(f32::INFINITY), f32::INFINITY);
        assert!(ex2(f32::NAN).is_nan());
        assert_eq!(lg2(0.0), f32::NEG_INFINITY);
        assert_eq!(lg2(f32::INFINITY), f32::INFINITY);
        assert!(lg2(-1.0).is_nan());
        assert_eq!(ex2(3.0), 8.0);
        assert_eq!(lg2(8.0), 3.0);
        assert_eq!(sin(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(sin(0.0).to_bits(), 0);
        assert_eq!(sin(1e-40).to_bits(), 1e-40f32.to_bits());
        assert_eq!(cos(-0.0), 1.0);
        for f in [sin, cos] {
            for a in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                assert_eq!(f(a).to_bits(), 0x7fff_ffff);
            }
            for a in [1e9, -1e20, f32::MAX] {
                assert!(f(a).abs() <= 1.0, "{a:e}");
            }
        }
    }
}
