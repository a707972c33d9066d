//! Video instructions (PTX ISA, "Scalar Video Instructions" and "SIMD Video Instructions").

/// Positions and bits of the auxiliary word.
pub mod word {
    #![allow(missing_docs)]
    pub const ADD: u32 = 0;
    pub const SUB: u32 = 1;
    pub const ABSDIFF: u32 = 2;
    pub const MIN: u32 = 3;
    pub const MAX: u32 = 4;
    pub const SHL: u32 = 5;
    pub const SHR: u32 = 6;
    pub const SET: u32 = 7;
    pub const MAD: u32 = 8;
    /// Which part of `a`: 0 to 3 a byte, 4 and 5 a half, 6 all of it.
    pub const A: u32 = 4;
    pub const B: u32 = 7;
    /// Which part of `c` the result replaces.
    pub const D: u32 = 10;
    pub const A_SIGNED: u32 = 1 << 13;
    pub const B_SIGNED: u32 = 1 << 14;
    pub const D_SIGNED: u32 = 1 << 15;
    pub const SAT: u32 = 1 << 16;
    /// Second operation with `c`: 1 add, 2 min, 3 max.
    pub const SECOND: u32 = 17;
    pub const WRAP: u32 = 1 << 19;
    /// Comparison of `vset`: 0 eq, 1 ne, 2 lt, 3 le, 4 gt, 5 ge.
    pub const COMPARE: u32 = 20;
    /// Shift of `vmad`: 1 for 7 bits, 2 for 15.
    pub const SHIFT: u32 = 23;
    pub const PLUS_ONE: u32 = 1 << 25;
    pub const NEGATE_PRODUCT: u32 = 1 << 26;
    pub const NEGATE_C: u32 = 1 << 27;
    /// Whether `vmad` sums signed numbers.
    pub const SIGNED: u32 = 1 << 28;
}

fn select(v: u32, part: u32, signed: bool) -> i64 {
    let (v, bits) = match part & 7 {
        p @ 0..=3 => (v >> (8 * p), 8),
        p @ 4..=5 => (v >> (16 * (p - 4)), 16),
        _ => (v, 32),
    };
    let up = v << (32 - bits);
    if signed {
        i64::from(up as i32 >> (32 - bits))
    } else {
        i64::from(up >> (32 - bits))
    }
}

fn clamp(v: i64, bits: u32, signed: bool) -> i64 {
    if signed {
        v.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        v.clamp(0, (1 << bits) - 1)
    }
}

fn mad(x: u32, a: i64, b: i64, c: u32) -> i64 {
    let mut product = i128::from(a) * i128::from(b);
    let mut c = c;
    let mut low = 0;
    if x & word::PLUS_ONE != 0 {
        low = 1;
    } else if x & word::NEGATE_PRODUCT != 0 {
        product = !product;
        low = 1;
    } else if x & word::NEGATE_C != 0 {
        c = !c;
        low = 1;
    }
    let signed = x & word::SIGNED != 0;
    let c = if signed {
        i128::from(c as i32)
    } else {
        i128::from(c)
    };
    let shift = [0, 7, 15, 15][(x >> word::SHIFT & 3) as usize];
    let r = (product + c + low) >> shift;
    if x & word::SAT == 0 {
        return r as i64;
    }
    // Of unsigned factors a product has 64 bits without a sign.
    let (least, most) = if signed {
        (i32::MIN.into(), i32::MAX.into())
    } else {
        (0, u32::MAX.into())
    };
    r.clamp(least, most) as i64
}

/// Positions and bits of the auxiliary word of the instructions on several parts. What they do is numbered as in
/// [`word`], and [`AVERAGE`](parts::AVERAGE).
pub mod parts {
    #![allow(missing_docs)]
    pub const AVERAGE: u32 = 9;
    /// Four bytes, otherwise two halves.
    pub const BYTES: u32 = 1 << 4;
    pub const A_SIGNED: u32 = 1 << 5;
    pub const B_SIGNED: u32 = 1 << 6;
    pub const D_SIGNED: u32 = 1 << 7;
    pub const SAT: u32 = 1 << 8;
    /// The results are added to `c`, otherwise they replace its parts.
    pub const SUM: u32 = 1 << 9;
    pub const COMPARE: u32 = 10;
    /// A bit for each part whose result counts.
    pub const MASK: u32 = 13;
}

fn holds(comparison: u32, p: i64, q: i64) -> bool {
    match comparison & 7 {
        0 => p == q,
        1 => p != q,
        2 => p < q,
        3 => p <= q,
        4 => p > q,
        _ => p >= q,
    }
}

/// One video instruction on two or four parts, whose operands are selected already.
pub fn video_parts(x: u32, a: u32, b: u32, c: u32) -> u32 {
    let (count, bits, first) = if x & parts::BYTES != 0 {
        (4, 8, 0)
    } else {
        (2, 16, 4)
    };
    let signed = x & parts::D_SIGNED != 0;
    let mut d = c;
    for k in 0..count {
        if x >> (parts::MASK + k) & 1 == 0 {
            continue;
        }
        let p = select(a, first + k, x & parts::A_SIGNED != 0);
        let q = select(b, first + k, x & parts::B_SIGNED != 0);
        let mut r = match x & 15 {
            word::ADD => p + q,
            word::SUB => p - q,
            parts::AVERAGE => (p + q + i64::from(p + q >= 0)) >> 1,
            word::ABSDIFF => (p - q).abs(),
            word::MIN => p.min(q),
            word::MAX => p.max(q),
            _ => i64::from(holds(x >> parts::COMPARE, p, q)),
        };
        if x & parts::SAT != 0 {
            r = clamp(r, bits, signed);
        }
        if x & parts::SUM != 0 {
            d = d.wrapping_add(r as u32);
        } else {
            let mask = ((1u32 << bits) - 1) << (bits * k);
            d = (d & !mask) | (((r as u32) << (bits * k)) & mask);
        }
    }
    d
}

/// One scalar video instruction.
pub fn video_op(x: u32, a: u32, b: u32, c: u32) -> u32 {
    let p = select(a, x >> word::A, x & word::A_SIGNED != 0);
    let q = select(b, x >> word::B, x & word::B_SIGNED != 0);
    let amount = if x & word::WRAP != 0 {
        q & 31
    } else {
        q.clamp(0, 32)
    };
    let mut r = match x & 15 {
        word::ADD => p + q,
        word::SUB => p - q,
        word::ABSDIFF => (p - q).abs(),
        word::MIN => p.min(q),
        word::MAX => p.max(q),
        word::SHL => p << amount,
        word::SHR => p >> amount,
        word::SET => i64::from(holds(x >> word::COMPARE, p, q)),
        _ => return mad(x, p, q, c) as u32,
    };
    let signed = x & word::D_SIGNED != 0;
    let part = x >> word::D & 7;
    let bits = [8, 8, 8, 8, 16, 16, 32, 32][part as usize];
    if x & word::SAT != 0 {
        r = clamp(r, bits, signed);
    }
    let third = if signed {
        i64::from(c as i32)
    } else {
        i64::from(c)
    };
    match x >> word::SECOND & 3 {
        1 => return r.wrapping_add(third) as u32,
        2 => return r.min(third) as u32,
        3 => return r.max(third) as u32,
        _ => {}
    }
    if bits == 32 {
        return r as u32;
    }
    let at = if bits == 8 { 8 * part } else { 16 * (part - 4) };
    let mask = ((1u32 << bits) - 1) << at;
    (((r as u32) << at) & mask) | (c & !mask)
}
