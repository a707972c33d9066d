//! Floating-point numbers by their definition: a value is an exact sign, integer and power of two, every
//! operation is carried out exactly, and the result is rounded once at the end.

use crate::big::Big;

/// A format: bits of the exponent and of the fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bits of the exponent.
    pub exponent: u32,
    /// Bits of the fraction.
    pub fraction: u32,
}

/// `.f16`.
pub const F16: Format = Format {
    exponent: 5,
    fraction: 10,
};
/// `.bf16`.
pub const BF16: Format = Format {
    exponent: 8,
    fraction: 7,
};
/// `.tf32`, in the upper 19 bits of a word.
pub const TF32: Format = Format {
    exponent: 8,
    fraction: 10,
};
/// `.f32`.
pub const F32: Format = Format {
    exponent: 8,
    fraction: 23,
};
/// `.f64`.
pub const F64: Format = Format {
    exponent: 11,
    fraction: 52,
};
/// `.e5m2`.
pub const E5M2: Format = Format {
    exponent: 5,
    fraction: 2,
};

/// How a value between two numbers of a format becomes one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `.rn`: the nearest, of two the even one.
    Nearest,
    /// `.rz`.
    Zero,
    /// `.rm`.
    Down,
    /// `.rp`.
    Up,
    /// `.rna`: the nearest, of two the greater magnitude.
    Away,
}

/// The rounding modifiers that arithmetic has, with their meaning.
pub const MODES: [(&str, Mode); 4] = [
    ("rn", Mode::Nearest),
    ("rz", Mode::Zero),
    ("rm", Mode::Down),
    ("rp", Mode::Up),
];

/// What bits stand for.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not a number.
    Nan,
    /// Infinity, with whether it is negative.
    Infinity(bool),
    /// `(negative, magnitude, exponent)`: `magnitude * 2^exponent`.
    Number(bool, Big, i32),
}

use Value::{Infinity, Nan, Number};

impl Format {
    /// The bit of the sign.
    pub fn sign(self) -> u64 {
        1 << (self.exponent + self.fraction)
    }
    fn lowest(self) -> i32 {
        // Power of two of the last bit of denormals.
        2 - (1 << (self.exponent - 1)) - self.fraction as i32
    }
    /// Infinity.
    pub fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }
    /// 1.0.
    pub fn one(self) -> u64 {
        ((1u64 << (self.exponent - 1)) - 1) << self.fraction
    }
    /// The NaN that NVIDIA's processors make in this format; f64 has CUDA's `CUDART_NAN`.
    pub fn nan(self) -> u64 {
        if self == F64 {
            0xfff8_0000_0000_0000
        } else {
            self.sign() - 1
        }
    }
    /// Whether it is a NaN.
    pub fn is_nan(self, v: u64) -> bool {
        v & (self.sign() - 1) > self.infinity()
    }
    /// Whether it is negative.
    pub fn negative(self, v: u64) -> bool {
        v & self.sign() != 0
    }
    /// `.ftz`: a denormal as zero of its sign.
    pub fn flush(self, v: u64) -> u64 {
        if v & self.infinity() == 0 {
            v & self.sign()
        } else {
            v
        }
    }
    /// What `v` stands for.
    pub fn value(self, v: u64) -> Value {
        let fraction = v & ((1 << self.fraction) - 1);
        let exponent = (v & self.infinity()) >> self.fraction;
        let negative = self.negative(v);
        match (v & self.infinity() == self.infinity(), fraction, exponent) {
            (true, 0, _) => Infinity(negative),
            (true, ..) => Nan,
            (_, f, 0) => Number(negative, Big::from(f.into()), self.lowest()),
            (_, f, e) => Number(
                negative,
                Big::from((f | 1 << self.fraction).into()),
                self.lowest() + e as i32 - 1,
            ),
        }
    }

    /// The number of this format for a value; `more` says that a little is missing from the magnitude.
    pub fn round(self, v: &Value, more: bool, mode: Mode) -> u64 {
        let (negative, magnitude, exponent) = match v {
            Nan => return self.nan(),
            Infinity(n) => return self.infinity() | if *n { self.sign() } else { 0 },
            Number(n, m, e) => (*n, m, *e),
        };
        let sign = if negative { self.sign() } else { 0 };
        if magnitude.bits() == 0 && !more {
            return sign;
        }
        let top = exponent + magnitude.bits() as i32 - 1;
        let unit = (top - self.fraction as i32).max(self.lowest());
        let (mut n, half, rest);
        if exponent >= unit {
            n = magnitude.shl((exponent - unit) as u32).low();
            (half, rest) = (false, more);
        } else {
            let cut = (unit - exponent) as u32;
            n = magnitude.shr(cut).low();
            half = magnitude.bit(cut - 1);
            rest = magnitude.any_below(cut - 1) || more;
        }
        let up = match mode {
            Mode::Nearest => half && (rest || n & 1 != 0),
            Mode::Away => half,
            Mode::Zero => false,
            Mode::Down => negative && (half || rest),
            Mode::Up => !negative && (half || rest),
        };
        n += u128::from(up);
        // The leading one, if there is one, adds to the exponent's field.
        let field = (unit - self.lowest()) as u128;
        let bits = (field << self.fraction) + n;
        if bits < self.infinity().into() {
            return sign | bits as u64;
        }
        let to_infinity = match mode {
            Mode::Nearest | Mode::Away => true,
            Mode::Zero => false,
            Mode::Down => negative,
            Mode::Up => !negative,
        };
        sign | (self.infinity() - u64::from(!to_infinity))
    }

    /// `.sat`: into 0 to 1, a NaN as 0.
    pub fn saturate(self, v: u64) -> u64 {
        if self.is_nan(v) || self.negative(v) {
            0
        } else {
            v.min(self.one())
        }
    }

    /// `.relu`: negative numbers as 0.
    pub fn relu(self, v: u64) -> u64 {
        if !self.is_nan(v) && self.negative(v) {
            0
        } else {
            v
        }
    }

    /// As f64; exact for every format.
    pub fn to_f64(self, v: u64) -> f64 {
        f64::from_bits(match self.value(v) {
            Nan => 0x7ff8_0000_0000_0000,
            v => F64.round(&v, false, Mode::Nearest),
        })
    }
}

fn zero(negative: bool) -> Value {
    Number(negative, Big::from(0), 0)
}

fn is_zero(v: &Value) -> bool {
    matches!(v, Number(_, m, _) if m.bits() == 0)
}

fn is_negative(v: &Value) -> bool {
    matches!(v, Infinity(true) | Number(true, ..))
}

/// `a * b`, exact.
pub fn product(a: &Value, b: &Value) -> Value {
    let negative = is_negative(a) != is_negative(b);
    match (a, b) {
        (Nan, _) | (_, Nan) => Nan,
        (Infinity(_), o) | (o, Infinity(_)) => {
            if is_zero(o) {
                Nan
            } else {
                Infinity(negative)
            }
        }
        (Number(_, x, e), Number(_, y, f)) => Number(negative, x.mul(y), e + f),
    }
}

/// `a + b`, exact; the mode matters for the sign of a zero.
pub fn sum(a: &Value, b: &Value, mode: Mode) -> Value {
    match (a, b) {
        (Nan, _) | (_, Nan) => Nan,
        (Infinity(s), Infinity(t)) => {
            if s == t {
                Infinity(*s)
            } else {
                Nan
            }
        }
        (Infinity(s), _) | (_, Infinity(s)) => Infinity(*s),
        (Number(s, x, e), Number(t, y, f)) => {
            let low = *e.min(f);
            let (x, y) = (x.shl((e - low) as u32), y.shl((f - low) as u32));
            if s == t {
                return Number(*s, x.add(&y), low);
            }
            match x.cmp(&y) {
                std::cmp::Ordering::Equal => zero(mode == Mode::Down),
                std::cmp::Ordering::Greater => Number(*s, x.sub(&y), low),
                std::cmp::Ordering::Less => Number(*t, y.sub(&x), low),
            }
        }
    }
}

/// `a / b` in a format.
pub fn quotient(f: Format, a: u64, b: u64, mode: Mode) -> u64 {
    let (x, y) = (f.value(a), f.value(b));
    let negative = is_negative(&x) != is_negative(&y);
    match (&x, &y) {
        (Nan, _) | (_, Nan) | (Infinity(_), Infinity(_)) => f.nan(),
        (Infinity(_), _) => f.round(&Infinity(negative), false, mode),
        (_, Infinity(_)) => f.round(&zero(negative), false, mode),
        (Number(_, m, e), Number(_, n, g)) => {
            if n.bits() == 0 {
                return if m.bits() == 0 {
                    f.nan()
                } else {
                    f.round(&Infinity(negative), false, mode)
                };
            }
            let (q, rest) = m.shl(300).div(n);
            f.round(&Number(negative, q, e - g - 300), rest, mode)
        }
    }
}

/// Square root in a format.
pub fn root(f: Format, a: u64, mode: Mode) -> u64 {
    match f.value(a) {
        v if is_zero(&v) => a,
        Nan | Infinity(true) | Number(true, ..) => f.nan(),
        Infinity(false) => f.infinity(),
        Number(false, m, e) => {
            let up = 300 + (e & 1) as u32;
            let (r, rest) = m.shl(up).sqrt();
            f.round(&Number(false, r, (e - up as i32) / 2), rest, mode)
        }
    }
}

/// `a * b + c` in a format.
pub fn fused(f: Format, a: u64, b: u64, c: u64, mode: Mode) -> u64 {
    let p = product(&f.value(a), &f.value(b));
    f.round(&sum(&p, &f.value(c), mode), false, mode)
}

/// `a + b` in a format.
pub fn add(f: Format, a: u64, b: u64, mode: Mode) -> u64 {
    f.round(&sum(&f.value(a), &f.value(b), mode), false, mode)
}

/// `a * b` in a format.
pub fn mul(f: Format, a: u64, b: u64, mode: Mode) -> u64 {
    f.round(&product(&f.value(a), &f.value(b)), false, mode)
}

/// An integer as a value.
pub fn integer(v: i128) -> Value {
    Number(v < 0, Big::from(v.unsigned_abs()), 0)
}

/// A value rounded to an integer; infinities are beyond every 64-bit number.
pub fn to_integer(v: &Value, mode: Mode) -> Option<i128> {
    match v {
        Nan => None,
        Infinity(n) => Some(if *n { -(1 << 100) } else { 1 << 100 }),
        Number(n, m, e) => {
            let magnitude = if *e >= 0 {
                if m.bits() as i32 + e > 100 {
                    1 << 100
                } else {
                    m.shl(*e as u32).low() as i128
                }
            } else {
                let cut = e.unsigned_abs();
                let whole = m.shr(cut).low() as i128;
                let (half, rest) = (m.bit(cut - 1), m.any_below(cut - 1));
                whole
                    + i128::from(match mode {
                        Mode::Nearest => half && (rest || whole & 1 != 0),
                        Mode::Away => half,
                        Mode::Zero => false,
                        Mode::Down => *n && (half || rest),
                        Mode::Up => !*n && (half || rest),
                    })
            };
            Some(if *n { -magnitude } else { magnitude })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_host_to_nearest() {
        let mut seed = 1u64;
        let mut next = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            seed ^ (seed >> 29)
        };
        for _ in 0..2000 {
            let (a, b, c) = (next(), next(), next());
            let (x, y, z) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
            let same =
                |got: u64, want: f64| got == want.to_bits() || (F64.is_nan(got) && want.is_nan());
            assert!(same(add(F64, a, b, Mode::Nearest), x + y));
            assert!(same(mul(F64, a, b, Mode::Nearest), x * y));
            assert!(same(quotient(F64, a, b, Mode::Nearest), x / y));
            assert!(same(root(F64, a, Mode::Nearest), x.sqrt()));
            assert!(same(fused(F64, a, b, c, Mode::Nearest), x.mul_add(y, z)));
            let near = (a & 0x800f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000;
            assert!(same(
                fused(F64, near, b, c, Mode::Nearest),
                f64::from_bits(near).mul_add(y, z)
            ));
            let single = F32.round(&F64.value(a), false, Mode::Nearest);
            let host = x as f32;
            assert!(single == u64::from(host.to_bits()) || host.is_nan());
        }
    }
}
