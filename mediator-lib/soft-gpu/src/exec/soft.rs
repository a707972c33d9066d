//! Exact floating-point arithmetic on bit patterns for every format and rounding
//! mode, in integers: what the host's instructions do not offer (rounding
//! towards zero and the infinities, f16 and bf16, f16 fma).

/// A binary interchange format of at most 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Exponent bits.
    pub exp: u32,
    /// Stored significand bits.
    pub man: u32,
}

/// IEEE binary16.
pub const F16: Format = Format { exp: 5, man: 10 };
/// bfloat16.
pub const BF16: Format = Format { exp: 8, man: 7 };
/// TensorFloat-32: the upper 19 bits of an f32.
pub const TF32: Format = Format { exp: 8, man: 10 };
/// IEEE binary32.
pub const F32: Format = Format { exp: 8, man: 23 };
/// IEEE binary64.
pub const F64: Format = Format { exp: 11, man: 52 };

/// Rounding modes (PTX ISA, "Rounding Modifiers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Round {
    /// To nearest even.
    Rn = 0,
    /// Towards zero.
    Rz = 1,
    /// Towards minus infinity.
    Rm = 2,
    /// Towards plus infinity.
    Rp = 3,
    /// To nearest, ties away from zero.
    Rna = 4,
}

impl Round {
    /// From its number; anything else is to nearest even.
    pub fn from_bits(v: u32) -> Round {
        match v & 7 {
            1 => Round::Rz,
            2 => Round::Rm,
            3 => Round::Rp,
            4 => Round::Rna,
            _ => Round::Rn,
        }
    }

    fn up(self, negative: bool, odd: bool, half: bool, rest: bool) -> bool {
        match self {
            Round::Rn => half && (rest || odd),
            Round::Rna => half,
            Round::Rz => false,
            Round::Rm => negative && (half || rest),
            Round::Rp => !negative && (half || rest),
        }
    }
}

impl Format {
    fn bias(self) -> i32 {
        (1 << (self.exp - 1)) - 1
    }
    fn sign_bit(self) -> u64 {
        1 << (self.exp + self.man)
    }
    fn exp_mask(self) -> u64 {
        (1 << self.exp) - 1
    }
    fn man_mask(self) -> u64 {
        (1 << self.man) - 1
    }
    /// Infinity with a sign.
    pub fn inf(self, negative: bool) -> u64 {
        (self.exp_mask() << self.man) | if negative { self.sign_bit() } else { 0 }
    }
    /// The NaN that PTX operations return: all bits but the sign set (PTX ISA, "Floating-Point").
    pub fn nan(self) -> u64 {
        self.sign_bit() - 1
    }
    fn max_finite(self, negative: bool) -> u64 {
        self.inf(negative) - 1
    }
    /// Whether the bits are a NaN.
    pub fn is_nan(self, v: u64) -> bool {
        v & (self.sign_bit() - 1) > self.inf(false)
    }
    /// A denormal becomes a zero of its sign.
    pub fn flush(self, v: u64) -> u64 {
        if v & self.inf(false) == 0 {
            v & self.sign_bit()
        } else {
            v
        }
    }
}

/// An unpacked number.
#[derive(Clone, Copy, Debug)]
enum Num {
    Nan,
    Inf(bool),
    Zero(bool),
    /// `sig * 2^exp` with the sign; `sig` is not zero.
    Finite(bool, i32, u64),
}

fn unpack(f: Format, v: u64) -> Num {
    let negative = v & f.sign_bit() != 0;
    let e = (v >> f.man) & f.exp_mask();
    let m = v & f.man_mask();
    if e == f.exp_mask() {
        return if m == 0 { Num::Inf(negative) } else { Num::Nan };
    }
    if e == 0 {
        return if m == 0 {
            Num::Zero(negative)
        } else {
            Num::Finite(negative, 1 - f.bias() - f.man as i32, m)
        };
    }
    Num::Finite(
        negative,
        e as i32 - f.bias() - f.man as i32,
        m | (1 << f.man),
    )
}

/// Rounds `sig * 2^exp` (plus something below the last bit if `sticky`) to a format.
pub fn pack(f: Format, negative: bool, exp: i32, sig: u128, sticky: bool, mode: Round) -> u64 {
    let sign = if negative { f.sign_bit() } else { 0 };
    if sig == 0 {
        // Only a sticky remainder: less than half of the smallest denormal.
        return if sticky && mode.up(negative, false, false, true) {
            sign | 1
        } else {
            sign
        };
    }
    let top = 127 - sig.leading_zeros() as i32; // position of the leading bit
    // Exponent of the last kept bit for a normal result, not below that of denormals.
    let mut last = (exp + top - f.man as i32).max(1 - f.bias() - f.man as i32);
    let shift = last - exp;
    let (mut kept, half, rest) = if shift <= 0 {
        // A left shift keeps every bit; it never exceeds the precision.
        (((sig) << (-shift).min(100)) as u64, false, sticky)
    } else if shift > 127 {
        (0, false, true)
    } else {
        let half = (sig >> (shift - 1)) & 1 != 0;
        let rest = sig & ((1u128 << (shift - 1)) - 1) != 0 || sticky;
        ((sig >> shift) as u64, half, rest)
    };
    if mode.up(negative, kept & 1 != 0, half, rest) {
        kept += 1;
        if kept >> (f.man + 1) != 0 {
            kept >>= 1;
            last += 1;
        }
    }
    if kept >> f.man == 0 {
        return sign | kept; // denormal or zero
    }
    let e = last + f.man as i32 + f.bias();
    if e >= f.exp_mask() as i32 {
        let to_inf = match mode {
            Round::Rn | Round::Rna => true,
            Round::Rz => false,
            Round::Rm => negative,
            Round::Rp => !negative,
        };
        return if to_inf {
            f.inf(negative)
        } else {
            f.max_finite(negative)
        };
    }
    sign | ((e as u64) << f.man) | (kept & f.man_mask())
}

fn zero(f: Format, negative: bool) -> u64 {
    if negative { f.sign_bit() } else { 0 }
}

/// Adds two exact terms and rounds once. A term is `(negative, exp, sig)`, `sig` below 2^106.
fn add_terms(f: Format, a: (bool, i32, u128), b: (bool, i32, u128), mode: Round) -> u64 {
    // Bring both leading bits to position 120, so that alignment loses bits only
    // when the other term is far smaller and its exact value cannot matter.
    let norm = |(n, e, s): (bool, i32, u128)| {
        let up = s.leading_zeros() as i32 - 7;
        (n, e - up, s << up)
    };
    let (a, b) = (norm(a), norm(b));
    let (big, small) = if (a.1, a.2) >= (b.1, b.2) {
        (a, b)
    } else {
        (b, a)
    };
    let gap = big.1 - small.1;
    let (aligned, sticky) = if gap > 127 {
        (0, true)
    } else {
        let low = if gap == 0 {
            0
        } else {
            small.2 & ((1u128 << gap) - 1)
        };
        (small.2 >> gap, low != 0)
    };
    if big.0 == small.0 {
        return pack(f, big.0, big.1, big.2 + aligned, sticky, mode);
    }
    let mut diff = big.2 - aligned;
    if diff == 0 && !sticky {
        return zero(f, mode == Round::Rm);
    }
    if sticky {
        diff -= 1; // the true value lies between diff-1 and diff
    }
    pack(f, big.0, big.1, diff, sticky, mode)
}

/// `a * b + c`, rounded once.
pub fn fma(f: Format, a: u64, b: u64, c: u64, mode: Round) -> u64 {
    let (na, nb, nc) = (unpack(f, a), unpack(f, b), unpack(f, c));
    let sign = |n: Num| match n {
        Num::Inf(s) | Num::Zero(s) | Num::Finite(s, ..) => s,
        Num::Nan => false,
    };
    let psign = sign(na) != sign(nb);
    match (na, nb, nc) {
        (Num::Nan, ..) | (_, Num::Nan, _) | (_, _, Num::Nan) => f.nan(),
        (Num::Inf(_), Num::Zero(_), _) | (Num::Zero(_), Num::Inf(_), _) => f.nan(),
        (Num::Inf(_), _, Num::Inf(s)) | (_, Num::Inf(_), Num::Inf(s)) if s != psign => f.nan(),
        (Num::Inf(_), ..) | (_, Num::Inf(_), _) => f.inf(psign),
        (_, _, Num::Inf(s)) => f.inf(s),
        (Num::Finite(_, ea, sa), Num::Finite(_, eb, sb), nc) => {
            let product = (psign, ea + eb, u128::from(sa) * u128::from(sb));
            match nc {
                Num::Finite(s, e, m) => add_terms(f, product, (s, e, u128::from(m)), mode),
                _ => pack(f, psign, product.1, product.2, false, mode),
            }
        }
        (_, _, Num::Finite(s, e, m)) => pack(f, s, e, u128::from(m), false, mode),
        (_, _, nc) => {
            let s = sign(nc);
            if s == psign {
                zero(f, s)
            } else {
                zero(f, mode == Round::Rm)
            }
        }
    }
}

/// `a + b`.
pub fn add(f: Format, a: u64, b: u64, mode: Round) -> u64 {
    let one = (f.bias() as u64) << f.man;
    fma(f, a, one, b, mode)
}

/// `a * b`.
pub fn mul(f: Format, a: u64, b: u64, mode: Round) -> u64 {
    // A zero of the product's sign leaves the product's own sign alone.
    fma(f, a, b, (a ^ b) & f.sign_bit(), mode)
}

/// `a / b`.
pub fn div(f: Format, a: u64, b: u64, mode: Round) -> u64 {
    match (unpack(f, a), unpack(f, b)) {
        (Num::Nan, _)
        | (_, Num::Nan)
        | (Num::Inf(_), Num::Inf(_))
        | (Num::Zero(_), Num::Zero(_)) => f.nan(),
        (Num::Inf(s), Num::Zero(t) | Num::Finite(t, ..)) | (Num::Finite(s, ..), Num::Zero(t)) => {
            f.inf(s != t)
        }
        (Num::Zero(s), Num::Inf(t) | Num::Finite(t, ..)) | (Num::Finite(s, ..), Num::Inf(t)) => {
            zero(f, s != t)
        }
        (Num::Finite(s, ea, sa), Num::Finite(t, eb, sb)) => {
            let up = u128::from(sa).leading_zeros() as i32 - 1;
            let n = u128::from(sa) << up;
            let d = u128::from(sb);
            pack(f, s != t, ea - up - eb, n / d, !n.is_multiple_of(d), mode)
        }
    }
}

/// Square root.
pub fn sqrt(f: Format, a: u64, mode: Round) -> u64 {
    match unpack(f, a) {
        Num::Nan | Num::Inf(true) | Num::Finite(true, ..) => f.nan(),
        Num::Inf(false) => f.inf(false),
        Num::Zero(s) => zero(f, s),
        Num::Finite(false, e, m) => {
            let mut up = u128::from(m).leading_zeros() as i32 - 2;
            if (e - up) & 1 != 0 {
                up -= 1;
            }
            let n = u128::from(m) << up;
            let r = n.isqrt();
            pack(f, false, (e - up) / 2, r, r * r != n, mode)
        }
    }
}

/// From one format to another.
pub fn convert(from: Format, to: Format, a: u64, mode: Round) -> u64 {
    match unpack(from, a) {
        Num::Nan => to.nan(),
        Num::Inf(s) => to.inf(s),
        Num::Zero(s) => zero(to, s),
        Num::Finite(s, e, m) => pack(to, s, e, u128::from(m), false, mode),
    }
}

/// From an integer with a sign.
pub fn from_int(to: Format, negative: bool, magnitude: u64, mode: Round) -> u64 {
    if magnitude == 0 {
        0
    } else {
        pack(to, negative, 0, u128::from(magnitude), false, mode)
    }
}

/// To an integer, clamped to `lo..=hi`; NaN gives `nan`.
pub fn to_int(from: Format, a: u64, lo: i128, hi: i128, nan: i128, mode: Round) -> i128 {
    match unpack(from, a) {
        Num::Nan => nan,
        Num::Inf(s) => {
            if s {
                lo
            } else {
                hi
            }
        }
        Num::Zero(_) => 0i128.clamp(lo, hi),
        Num::Finite(s, e, m) => {
            let v = if e >= 0 {
                if e > 64 {
                    i128::MAX
                } else {
                    i128::from(m) << e
                }
            } else {
                integral(s, e, m, mode)
            };
            (if s { -v } else { v }).clamp(lo, hi)
        }
    }
}

/// `m * 2^e` with negative `e`, rounded to an integer magnitude.
fn integral(negative: bool, e: i32, m: u64, mode: Round) -> i128 {
    let shift = -e;
    if shift > 64 {
        return i128::from(mode.up(negative, false, false, true));
    }
    let wide = u128::from(m);
    let kept = (wide >> shift) as i128;
    let half = (wide >> (shift - 1)) & 1 != 0;
    let rest = wide & ((1u128 << (shift - 1)) - 1) != 0;
    kept + i128::from(mode.up(negative, kept & 1 != 0, half, rest))
}

/// Rounds to an integral value in the same format.
pub fn round_integral(f: Format, a: u64, mode: Round) -> u64 {
    match unpack(f, a) {
        Num::Nan => f.nan(),
        Num::Finite(s, e, m) if e < 0 => {
            let v = integral(s, e, m, mode);
            if v == 0 {
                zero(f, s)
            } else {
                pack(f, s, 0, v as u128, false, mode)
            }
        }
        _ => a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same32(got: u64, want: f32) -> bool {
        if want.is_nan() {
            got == 0x7fff_ffff
        } else {
            got == u64::from(want.to_bits())
        }
    }
    fn same64(got: u64, want: f64) -> bool {
        if want.is_nan() {
            got == 0x7fff_ffff_ffff_ffff
        } else {
            got == want.to_bits()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn agrees_with_the_host_to_nearest(a: u32, b: u32, c: u32, k in 0u32..40) {
            // Exponents near each other make cancellation likely.
            let near = |v: u32| (v & 0x807f_ffff) | ((100 + (v >> 24) % (k + 1)) << 23);
            for (a, b, c) in [(a, b, c), (near(a), near(b), near(c))] {
                let (x, y, z) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
                let (a, b, c) = (u64::from(a), u64::from(b), u64::from(c));
                prop_assert!(same32(add(F32, a, b, Round::Rn), x + y));
                prop_assert!(same32(mul(F32, a, b, Round::Rn), x * y));
                prop_assert!(same32(div(F32, a, b, Round::Rn), x / y));
                prop_assert!(same32(fma(F32, a, b, c, Round::Rn), x.mul_add(y, z)));
                prop_assert!(same32(sqrt(F32, a, Round::Rn), x.sqrt()));
                prop_assert!(same64(convert(F32, F64, a, Round::Rn), f64::from(x)));
                prop_assert!(same32(round_integral(F32, a, Round::Rn), x.round_ties_even()));
                prop_assert!(same32(round_integral(F32, a, Round::Rm), x.floor()));
                prop_assert!(same32(round_integral(F32, a, Round::Rp), x.ceil()));
                prop_assert!(same32(round_integral(F32, a, Round::Rz), x.trunc()));
            }
        }

        #[test]
        fn agrees_with_the_host_in_f64(a: u64, b: u64, c: u64, k in 0u64..80) {
            let near = |v: u64| (v & 0x800f_ffff_ffff_ffff) | ((1000 + (v >> 56) % (k + 1)) << 52);
            for (a, b, c) in [(a, b, c), (near(a), near(b), near(c))] {
                let (x, y, z) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
                prop_assert!(same64(add(F64, a, b, Round::Rn), x + y));
                prop_assert!(same64(mul(F64, a, b, Round::Rn), x * y));
                prop_assert!(same64(div(F64, a, b, Round::Rn), x / y));
                prop_assert!(same64(fma(F64, a, b, c, Round::Rn), x.mul_add(y, z)));
                prop_assert!(same64(sqrt(F64, a, Round::Rn), x.sqrt()));
                prop_assert!(same32(convert(F64, F32, a, Round::Rn), x as f32));
                prop_assert_eq!(to_int(F64, a, i64::MIN.into(), i64::MAX.into(), 0, Round::Rz), i128::from(x as i64));
            }
        }

        #[test]
        fn directed_modes_bracket_the_nearest(a: u32, b: u32) {
            let f = |m| f64::from(f32::from_bits(add(F32, a.into(), b.into(), m) as u32));
            let exact = f64::from(f32::from_bits(a)) + f64::from(f32::from_bits(b));
            prop_assume!(!exact.is_nan());
            prop_assert!(f(Round::Rm) <= exact || f(Round::Rm) == f64::from(f32::MAX));
            prop_assert!(f(Round::Rp) >= exact || f(Round::Rp) == -f64::from(f32::MAX));
            prop_assert!(f(Round::Rz).abs() <= exact.abs());
        }
    }
}
