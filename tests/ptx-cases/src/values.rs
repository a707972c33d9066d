//! Inputs: ordinary values and the ones at the edges.

/// 32-bit integers.
pub const W: [u64; 12] = [
    0,
    1,
    2,
    3,
    31,
    0x7f,
    0x8000,
    0x1234_5678,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
];
/// 64-bit integers.
pub const D: [u64; 11] = [
    0,
    1,
    7,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x0123_4567_89ab_cdef,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];
/// 16-bit integers.
pub const H: [u64; 9] = [0, 1, 2, 0xff, 0x1234, 0x7fff, 0x8000, 0x8001, 0xffff];
/// Pairs of 16-bit integers.
pub const HH: [u64; 8] = [
    0,
    0x0001_ffff,
    0x7fff_8000,
    0x8000_7fff,
    0xffff_ffff,
    0x1234_8765,
    0x0002_fffe,
    0x8000_8000,
];
/// f32: zeros, denormals, limits, values between integers, infinities, NaNs.
pub const F32: [u64; 18] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001, // the smallest denormal
    0x807f_ffff, // the greatest denormal
    0x0080_0000, // the smallest normal number
    0x3f80_0000, // 1
    0xbf80_0001, // a little beyond -1
    0x3fc0_0000, // 1.5
    0xc020_0000, // -2.5
    0x3dcc_cccd, // 0.1
    0x4b80_0001, // 2^24 + 2
    0x5f12_3456,
    0xa012_3457,
    0x7f7f_ffff, // the greatest number
    0xff7f_ffff,
    0x7f80_0000, // infinity
    0xff80_0000,
    0x7fc0_0001, // a NaN
];
/// f64.
pub const F64: [u64; 15] = [
    0x0000_0000_0000_0000,
    0x8000_0000_0000_0000,
    0x0000_0000_0000_0001,
    0x800f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0001,
    0x4004_0000_0000_0000,
    0x3fb9_9999_9999_999a,
    0x4340_0000_0000_0001,
    0xc1e0_0000_0010_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0123,
];
/// f16.
pub const F16: [u64; 14] = [
    0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x3c00, 0xbc01, 0x3e00, 0xc100, 0x2e66, 0x7bff, 0xfbff,
    0x7c00, 0x7e01,
];
/// bf16.
pub const BF16: [u64; 14] = [
    0x0000, 0x8000, 0x0001, 0x807f, 0x0080, 0x3f80, 0xbf81, 0x3fc0, 0xc020, 0x3dcd, 0x7f7f, 0xff7f,
    0x7f80, 0x7fc1,
];

/// Numbers that follow no pattern, always the same.
pub fn random(n: usize, seed: u64) -> Vec<u64> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            s.wrapping_mul(0x2545_f491_4f6c_dd1d)
        })
        .collect()
}

/// Every combination.
pub fn all(lists: &[&[u64]]) -> Vec<Vec<u64>> {
    let mut out = vec![vec![]];
    for list in lists {
        out = out
            .iter()
            .flat_map(|c: &Vec<u64>| list.iter().map(move |v| [&c[..], &[*v]].concat()))
            .collect();
    }
    out
}

/// Every combination, or where those are many, an even choice of about `most` of them.
pub fn some(lists: &[&[u64]], most: usize) -> Vec<Vec<u64>> {
    let every = all(lists);
    // Odd, so that the choice goes through every list.
    let step = (every.len() / most.max(1)).max(1) | 1;
    every.into_iter().step_by(step).collect()
}

/// Values by the size of their type in bits.
pub fn integers(bits: u32) -> &'static [u64] {
    match bits {
        16 => &H,
        32 => &W,
        _ => &D,
    }
}

/// `v` as a signed number of so many bits.
pub fn signed(v: u64, bits: u32) -> i128 {
    i128::from((v << (64 - bits)) as i64 >> (64 - bits))
}

/// `v` as a number of so many bits.
pub fn number(v: u64, bits: u32, is_signed: bool) -> i128 {
    if is_signed {
        signed(v, bits)
    } else {
        i128::from(cut(v.into(), bits))
    }
}

/// The lowest `bits` of `v`.
pub fn cut(v: i128, bits: u32) -> u64 {
    (v & ((1i128 << bits) - 1)) as u64
}
