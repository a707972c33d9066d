//! Integer meaning of single lanes, for the operations that Rust has no operator for.

/// `mul24`: low or high 32 bits of a 48-bit product of 24-bit operands.
pub fn mul24(a: u32, b: u32, signed: bool, high: bool) -> u32 {
    let ext = |v: u32| {
        if signed {
            i64::from((v << 8) as i32 >> 8)
        } else {
            i64::from(v & 0xff_ffff)
        }
    };
    let p = ext(a).wrapping_mul(ext(b));
    (if high { p >> 16 } else { p }) as u32
}

/// `bfind` of a value whose sign was removed.
pub fn bfind(a: u64, bits: u32, shiftamt: bool) -> u32 {
    if a == 0 {
        return u32::MAX;
    }
    let msb = 63 - a.leading_zeros();
    if shiftamt { bits - 1 - msb } else { msb }
}

/// `bfe`.
pub fn bfe(a: u64, pos: u32, len: u32, bits: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let msb = bits - 1;
    let sign = if !signed || len == 0 {
        0
    } else {
        (a >> (pos + len - 1).min(msb)) & 1
    };
    let mut d = 0u64;
    if pos <= msb {
        d = a >> pos;
    }
    let kept = len.min(bits - pos.min(bits));
    let mask = if kept >= 64 {
        u64::MAX
    } else {
        (1u64 << kept) - 1
    };
    d &= mask;
    if sign != 0 {
        d |= !mask;
    }
    if bits == 32 { d & 0xffff_ffff } else { d }
}

/// `bfi`: the low bits of `a` inserted into `b`.
pub fn bfi(a: u64, b: u64, pos: u32, len: u32, bits: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= bits || len == 0 {
        return b;
    }
    let len = len.min(bits - pos);
    let mask = (if len >= 64 {
        u64::MAX
    } else {
        (1u64 << len) - 1
    }) << pos;
    (b & !mask) | ((a << pos) & mask)
}

/// `bmsk`.
pub fn bmsk(pos: u32, len: u32, wrap: bool) -> u32 {
    let (pos, len) = if wrap {
        (pos & 31, len & 31)
    } else {
        (pos.min(32), len.min(32))
    };
    let mask = |n: u32| if n >= 32 { u32::MAX } else { (1u32 << n) - 1 };
    if pos >= 32 { 0 } else { mask(len) << pos }
}

/// `szext`: bit `n` is the number of bits kept.
pub fn szext(a: u32, n: u32, wrap: bool, signed: bool) -> u32 {
    let n = if wrap { n & 31 } else { n };
    if n >= 32 {
        return a;
    }
    if n == 0 {
        return 0;
    }
    let shift = 32 - n;
    if signed {
        ((a << shift) as i32 >> shift) as u32
    } else {
        a << shift >> shift
    }
}

/// `prmt` in mode 0 (index), 1 f4e, 2 b4e, 3 rc8, 4 ecl, 5 ecr, 6 rc16.
pub fn prmt(a: u32, b: u32, c: u32, mode: u32) -> u32 {
    let bytes = (u64::from(b) << 32) | u64::from(a);
    let s = c & 3;
    let sel: [u32; 4] = match mode {
        1 => [s, s + 1, s + 2, s + 3],
        2 => [s, (s + 7) & 7, (s + 6) & 7, (s + 5) & 7],
        3 => [s; 4],
        4 => [s, s.max(1), s.max(2), 3],
        5 => [0, s.min(1), s.min(2), s],
        6 => {
            let h = (c & 1) * 2;
            [h, h + 1, h, h + 1]
        }
        _ => [c & 15, (c >> 4) & 15, (c >> 8) & 15, (c >> 12) & 15],
    };
    let mut d = 0;
    for (k, sel) in sel.iter().enumerate() {
        let mut byte = ((bytes >> ((sel & 7) * 8)) & 0xff) as u32;
        if mode == 0 && sel & 8 != 0 {
            byte = if byte & 0x80 != 0 { 0xff } else { 0 };
        }
        d |= byte << (k * 8);
    }
    d
}

/// Byte `k` of `prmt` in mode 0 with selector `x`, in its place.
#[inline(always)]
pub fn prmt_byte(x: u32, k: u32, a: u32, b: u32) -> u32 {
    let sel = (x >> (4 * k)) & 15;
    let from = if sel & 4 != 0 { b } else { a };
    let byte = (from >> (8 * (sel & 3))) & 0xff;
    let sign = ((byte << 24) as i32 >> 31) as u32 & 0xff;
    (if sel & 8 != 0 { sign } else { byte }) << (8 * k)
}

/// `lop3`.
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, lut: u32) -> u32 {
    let mut r = 0;
    for k in 0..8u32 {
        let all = (lut >> k & 1).wrapping_neg();
        let ta = if k & 4 != 0 { a } else { !a };
        let tb = if k & 2 != 0 { b } else { !b };
        let tc = if k & 1 != 0 { c } else { !c };
        r |= all & ta & tb & tc;
    }
    r
}

/// `shf.l`: `a` low word, `b` high word.
pub fn shf_l(a: u32, b: u32, c: u32, wrap: bool) -> u32 {
    let n = if wrap { c & 31 } else { c.min(32) };
    let v = (u64::from(b) << 32) | u64::from(a);
    (v << n >> 32) as u32
}

/// `shf.r`.
pub fn shf_r(a: u32, b: u32, c: u32, wrap: bool) -> u32 {
    let n = if wrap { c & 31 } else { c.min(32) };
    let v = (u64::from(b) << 32) | u64::from(a);
    (v >> n) as u32
}

/// `dp4a`: bit 0 of `x`: `a` signed, bit 1: `b` signed.
#[inline(always)]
pub fn dp4a(a: u32, b: u32, c: u32, x: u32) -> u32 {
    let get = |v: u32, k: u32, signed: bool| {
        let byte = (v >> (8 * k)) as u8;
        if signed {
            i32::from(byte as i8)
        } else {
            i32::from(byte)
        }
    };
    let mut r = c;
    for k in 0..4 {
        r = r.wrapping_add((get(a, k, x & 1 != 0) * get(b, k, x & 2 != 0)) as u32);
    }
    r
}

/// `dp2a`: as `dp4a`, bit 2: the high half of `b`.
pub fn dp2a(a: u32, b: u32, c: u32, x: u32) -> u32 {
    let mut r = c;
    for k in 0..2u32 {
        let h = (a >> (16 * k)) as u16;
        let h = if x & 1 != 0 {
            i32::from(h as i16)
        } else {
            i32::from(h)
        };
        let byte = (b >> (8 * (k + if x & 4 != 0 { 2 } else { 0 }))) as u8;
        let byte = if x & 2 != 0 {
            i32::from(byte as i8)
        } else {
            i32::from(byte)
        };
        r = r.wrapping_add(h.wrapping_mul(byte) as u32);
    }
    r
}

/// `fns`: the n-th set bit from a base.
pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    let base = base.min(31) as i32;
    if offset == 0 {
        return if mask >> base & 1 != 0 {
            base as u32
        } else {
            u32::MAX
        };
    }
    let step = offset.signum();
    let mut left = offset.unsigned_abs();
    let mut at = base;
    while (0..32).contains(&at) {
        if mask >> at & 1 != 0 {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += step;
    }
    u32::MAX
}

/// `cvt.pack.sat`: two s32 clamped to `x & 0xff` bits (bit 8: signed), `a` above `b`, and the low
/// bits of `c` above both.
pub fn pack_saturated(x: u32, a: u32, b: u32, c: u32) -> u32 {
    let bits = (x & 0xff).clamp(1, 16);
    let (lo, hi) = if x & 0x100 != 0 {
        (-(1i32 << (bits - 1)), (1i32 << (bits - 1)) - 1)
    } else {
        (0, (1i32 << bits) - 1)
    };
    let one = |v: u32| (v as i32).clamp(lo, hi) as u32 & ((1u32 << bits) - 1);
    let both = (one(a) << bits) | one(b);
    if bits == 16 {
        both
    } else {
        both | (c << (2 * bits))
    }
}

/// Packed 16-bit integer operations: bits 0..3 of `x` are 0 add, 1 sub, 2 min, 3 max; bit 4 signed.
pub fn packed16(x: u32, a: u32, b: u32) -> u32 {
    let part = |s: u32| {
        let (p, q) = ((a >> s) as u16, (b >> s) as u16);
        let r = match (x & 7, x & 16 != 0) {
            (0, _) => p.wrapping_add(q),
            (1, _) => p.wrapping_sub(q),
            (2, true) => (p as i16).min(q as i16) as u16,
            (2, false) => p.min(q),
            (_, true) => (p as i16).max(q as i16) as u16,
            (_, false) => p.max(q),
        };
        let relu = x & 32 != 0 && (r as i16) < 0;
        u32::from(if relu { 0 } else { r }) << s
    };
    part(0) | part(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_fields() {
        assert_eq!(bfe(0xabcd_1234, 8, 8, 32, false), 0x12);
        assert_eq!(bfe(0x0000_8000, 8, 8, 32, true), 0xffff_ff80);
        assert_eq!(bfe(0x8000_0000, 31, 4, 32, true), 0xffff_ffff);
        assert_eq!(bfe(0xffff_ffff, 0, 0, 32, true), 0);
        assert_eq!(bfe(0xffff_ffff, 40, 4, 32, false), 0);
        assert_eq!(bfe(u64::MAX, 0, 64, 64, false), u64::MAX);
        assert_eq!(bfi(0xf, 0, 4, 4, 32), 0xf0);
        assert_eq!(bfi(u64::MAX, 0, 32, 64, 64), 0xffff_ffff_0000_0000);
        assert_eq!(bfi(1, 7, 32, 1, 32), 7);
        assert_eq!(bmsk(4, 4, false), 0xf0);
        assert_eq!(szext(0x80, 8, false, true), 0xffff_ff80);
        assert_eq!(bfind(0, 32, false), u32::MAX);
        assert_eq!(bfind(0x100, 32, false), 8);
        assert_eq!(bfind(0x100, 32, true), 23);
    }

    #[test]
    fn bytes_and_logic() {
        assert_eq!(prmt(0x3322_1100, 0x7766_5544, 0x7531, 0), 0x7755_3311);
        assert_eq!(prmt(0x0000_0080, 0, 0x8, 0) & 0xff, 0xff);
        assert_eq!(lop3(0xf0f0, 0xcccc, 0xaaaa, 0x96), 0xf0f0 ^ 0xcccc ^ 0xaaaa);
        assert_eq!(lop3(1, 2, 4, 0xfe), 7);
        assert_eq!(shf_l(0x8000_0000, 1, 1, true), 3);
        assert_eq!(shf_l(5, 6, 40, false), 5);
        assert_eq!(shf_r(0, 1, 1, false), 0x8000_0000);
        assert_eq!(dp4a(0xff01_0203, 0x0101_0101, 0, 0), 255 + 1 + 2 + 3);
        assert_eq!(dp4a(0xff01_0203, 0x0101_0101, 0, 3) as i32, -1 + 6);
        assert_eq!(fns(0b1010, 0, 2), 3);
        assert_eq!(mul24(0xffff_ffff, 2, true, false) as i32, -2);
    }
}
