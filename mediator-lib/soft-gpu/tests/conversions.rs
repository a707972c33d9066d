//! Conversions among the small floating-point formats, and packing ones, against slow models.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::lanes::check;

/// A format: exponent and stored significand bits, and whether the largest exponent is that of numbers, too.
#[derive(Clone, Copy)]
struct Format {
    exponent: u32,
    mantissa: u32,
    finite: bool,
}

const E4M3: Format = Format {
    exponent: 4,
    mantissa: 3,
    finite: true,
};
const E5M2: Format = Format {
    exponent: 5,
    mantissa: 2,
    finite: false,
};
const F16: Format = Format {
    exponent: 5,
    mantissa: 10,
    finite: false,
};
const BF16: Format = Format {
    exponent: 8,
    mantissa: 7,
    finite: false,
};
const TF32: Format = Format {
    exponent: 8,
    mantissa: 10,
    finite: false,
};

impl Format {
    /// Value of a non-negative number's bits; none for NaN.
    fn value(self, bits: u32) -> Option<f64> {
        let (e, m) = (bits >> self.mantissa, bits & ((1 << self.mantissa) - 1));
        let top = (1 << self.exponent) - 1;
        let bias = (1 << (self.exponent - 1)) - 1;
        let last = (1 << self.mantissa) - 1;
        if e == top && (!self.finite || m == last) {
            return (m == 0 && !self.finite).then_some(f64::INFINITY);
        }
        let unit = 2f64.powi(e.max(1) as i32 - bias - self.mantissa as i32);
        let whole = if e == 0 { m } else { m + last + 1 };
        Some(f64::from(whole) * unit)
    }

    fn sign(self) -> u32 {
        1 << (self.exponent + self.mantissa)
    }

    fn nan(self) -> u32 {
        self.sign() - 1
    }

    /// Bits of the largest finite number.
    fn largest(self) -> u32 {
        let top = ((1 << self.exponent) - 1) << self.mantissa;
        if self.finite { self.nan() - 1 } else { top - 1 }
    }

    /// Rounds by trying all neighbours: `mode` is rn, rz or rna.
    fn round(self, v: f64, mode: &str, saturate: bool, relu: bool) -> u32 {
        if v.is_nan() {
            return self.nan();
        }
        if relu && v.is_sign_negative() {
            return 0;
        }
        let sign = if v.is_sign_negative() { self.sign() } else { 0 };
        let a = v.abs();
        let (mut low, mut high) = (0, self.largest() + 1);
        while high - low > 1 {
            let mid = (low + high) / 2;
            if self.value(mid).unwrap() <= a {
                low = mid
            } else {
                high = mid
            }
        }
        let below = self.value(low).unwrap();
        if a == below {
            return sign | low;
        }
        // Beyond the largest number stands the one that its exponent would allow next.
        let last = low == self.largest();
        let above = if last {
            2.0 * below - self.value(low - 1).unwrap()
        } else {
            self.value(high).unwrap()
        };
        let middle = (below + above) / 2.0;
        let up = match mode {
            "rz" => false,
            "rna" => a >= middle,
            _ => a > middle || (a == middle && low & 1 == 1),
        };
        let up = up || (a.is_infinite() && mode != "rz");
        let bits = if up || a.is_infinite() { low + 1 } else { low };
        sign | if saturate {
            bits.min(self.largest())
        } else {
            bits
        }
    }
}

fn f32s() -> Vec<u64> {
    let mut v: Vec<f32> = vec![
        0.0,
        1.0,
        1.5,
        448.0,
        449.0,
        463.9,
        464.0,
        465.0,
        480.0,
        57344.0,
        61440.0,
        65504.0,
        65519.9,
        65520.0,
        3.4e38,
        1e-45,
        f32::INFINITY,
        f32::NAN,
    ];
    for f in [E4M3, E5M2, F16] {
        let step = if f.mantissa == 10 { 211 } else { 5 };
        for bits in (0..f.largest()).step_by(step) {
            let (a, b) = (f.value(bits).unwrap(), f.value(bits + 1).unwrap());
            let middle = ((a + b) / 2.0) as f32;
            v.extend([a as f32, middle, middle.next_up(), middle.next_down()]);
        }
    }
    for bits in [
        0x3f80_1000,
        0x3f80_0fff,
        0x3f80_3000,
        0x3f81_8000,
        0x3f80_8000,
        0x7f7f_f000,
        0x7f7f_8000,
        0x0000_1000,
        0x0001_8000,
    ] {
        v.push(f32::from_bits(bits));
    }
    v.iter()
        .flat_map(|x| [u64::from(x.to_bits()), u64::from((-x).to_bits())])
        .collect()
}

fn value(bits: u64) -> f64 {
    f64::from(f32::from_bits(bits as u32))
}

#[test]
fn fp8_from_f32_and_back() {
    let v = f32s();
    let few: Vec<u64> = v.iter().copied().step_by(37).collect();
    for (name, f) in [("e4m3x2", E4M3), ("e5m2x2", E5M2)] {
        for (relu, r) in [("", false), (".relu", true)] {
            let code =
                format!("cvt.rn.satfinite{relu}.{name}.f32 %h1, %a, %b; cvt.u32.u16 %d, %h1;");
            check(&code, &["f32", "f32"], "b32", &[&v, &few], |i| {
                let one = |k: usize| f.round(value(i[k]), "rn", true, r);
                u64::from(one(0) << 8 | one(1))
            });
            let all: Vec<u64> = (0..0x1_0000).step_by(251).chain(0..256).collect();
            let code = format!("cvt.rn{relu}.f16x2.{name} %d, %a;");
            check(&code, &["b16"], "b32", &[&all], |i| {
                let one = |b: u32| {
                    let negative = b & f.sign() != 0;
                    match f.value(b & !f.sign()) {
                        None => 0x7fff,
                        Some(_) if r && negative => 0,
                        Some(x) => F16.round(if negative { -x } else { x }, "rn", false, false),
                    }
                };
                u64::from(one(i[0] as u32 & 0xff) | one(i[0] as u32 >> 8 & 0xff) << 16)
            });
            let pairs: Vec<u64> = (0..0x1_0000u64)
                .step_by(97)
                .map(|h| (h << 16) | ((h * 7) & 0xffff))
                .collect();
            let code = format!("cvt.rn.satfinite{relu}.{name}.f16x2 %h1, %a; cvt.u32.u16 %d, %h1;");
            check(&code, &["b32"], "b32", &[&pairs], |i| {
                let one = |h: u32| {
                    let x = F16.value(h & 0x7fff).unwrap_or(f64::NAN);
                    f.round(if h & 0x8000 != 0 { -x } else { x }, "rn", true, r)
                };
                u64::from(one(i[0] as u32 >> 16) << 8 | one(i[0] as u32 & 0xffff))
            });
        }
    }
}

#[test]
fn half_formats_with_all_roundings() {
    let v = f32s();
    let few: Vec<u64> = v.iter().copied().step_by(53).collect();
    for (name, f) in [("f16", F16), ("bf16", BF16)] {
        for mode in ["rn", "rz"] {
            for (more, relu, finite) in [
                ("", false, false),
                (".relu", true, false),
                (".satfinite", false, true),
                (".relu.satfinite", true, true),
            ] {
                let code = format!("cvt.{mode}{more}.{name}.f32 %h1, %a; cvt.u32.u16 %d, %h1;");
                let one = |b: u64| {
                    // Towards zero nothing but an infinity becomes one.
                    f.round(value(b), mode, finite, relu)
                };
                check(&code, &["f32"], "b32", &[&v], |i| one(i[0]).into());
                let code = format!("cvt.{mode}{more}.{name}x2.f32 %d, %a, %b;");
                check(&code, &["f32", "f32"], "b32", &[&few, &few], |i| {
                    u64::from(one(i[0]) << 16 | one(i[1]))
                });
            }
        }
    }
    for (mode, more, relu, finite) in [
        ("rna", "", false, false),
        ("rna", ".satfinite", false, true),
        ("rn", "", false, false),
        ("rn", ".relu", true, false),
        ("rz", "", false, false),
        ("rz", ".relu.satfinite", true, true),
    ] {
        let code = format!("cvt.{mode}{more}.tf32.f32 %d, %a;");
        check(&code, &["f32"], "b32", &[&v], |i| {
            u64::from(TF32.round(value(i[0]), mode, finite, relu) << 13)
        });
    }
}

#[test]
fn packed_integers() {
    let w: Vec<u64> = [
        0i64,
        1,
        -1,
        2,
        -2,
        3,
        -3,
        7,
        8,
        -8,
        -9,
        15,
        16,
        127,
        128,
        -128,
        -129,
        255,
        256,
        32767,
        32768,
        -32768,
        -32769,
        65535,
        65536,
        i64::from(i32::MAX),
        i64::from(i32::MIN),
    ]
    .iter()
    .map(|v| u64::from(*v as u32))
    .collect();
    let clamp = |v: u64, bits: u32, signed: bool| {
        let v = v as u32 as i32;
        let (lo, hi) = if signed {
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        } else {
            (0, (1i32 << bits) - 1)
        };
        v.clamp(lo, hi) as u32 & ((1 << bits) - 1)
    };
    for (t, bits, signed) in [("u16", 16, false), ("s16", 16, true)] {
        check(
            &format!("cvt.pack.sat.{t}.s32 %d, %a, %b;"),
            &["b32", "b32"],
            "b32",
            &[&w, &w],
            |i| u64::from(clamp(i[0], bits, signed) << 16 | clamp(i[1], bits, signed)),
        );
    }
    for bits in [2, 4, 8] {
        for (letter, signed) in [('u', false), ('s', true)] {
            let code = format!("cvt.pack.sat.{letter}{bits}.s32.b32 %d, %a, %b, %c;");
            let c = [0u64, 0xffff_ffff, 0x1234_5678];
            check(&code, &["b32", "b32", "b32"], "b32", &[&w, &w, &c], |i| {
                let both = clamp(i[0], bits, signed) << bits | clamp(i[1], bits, signed);
                u64::from(both | (i[2] as u32) << (2 * bits))
            });
        }
    }
}
