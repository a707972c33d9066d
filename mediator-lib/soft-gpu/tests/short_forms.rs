//! Instructions that become shorter operations when an operand is a constant or a modifier
//! changes nothing: the same results as the long way.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::lanes::check;

const W: [u64; 9] = [
    0,
    1,
    0x80,
    0x7fff,
    0x8081_8283,
    0x0123_4567,
    0x89ab_cdef,
    0x8000_0000,
    0xffff_ffff,
];

#[test]
fn prmt_with_a_constant_selector() {
    for selector in [
        0x3210u64, 0x7654, 0x5410, 0x7632, 0xba98, 0xfedc, 0x0000, 0x4444, 0x1a2b, 30212, 0x3_0123,
    ] {
        let code = format!("prmt.b32 %d, %a, %b, {selector};");
        check(&code, &["b32", "b32"], "b32", &[&W, &W], |i| {
            let bytes = [i[0].to_le_bytes(), i[1].to_le_bytes()];
            let mut d = 0;
            for k in 0..4 {
                let s = selector >> (4 * k) & 15;
                let byte = bytes[(s >> 2 & 1) as usize][(s & 3) as usize];
                let byte = if s & 8 == 0 {
                    byte
                } else {
                    ((byte as i8) >> 7) as u8
                };
                d |= u64::from(byte) << (8 * k);
            }
            d
        });
    }
}

#[test]
fn bfe_with_constant_position_and_length() {
    for pos in [0u64, 1, 5, 16, 31] {
        for len in [0u64, 1, 4, 16, 31, 32, 40] {
            let code = format!("bfe.u32 %d, %a, {pos}, {len};");
            check(&code, &["b32"], "b32", &[&W], |i| {
                (0..len.min(32 - pos))
                    .map(|k| (i[0] >> (pos + k) & 1) << k)
                    .sum()
            });
        }
    }
}

#[test]
fn small_integers_to_floats() {
    let f32s = |v: f64| u64::from((v as f32).to_bits());
    let signed = |v: u64, bits: u32| ((v << (64 - bits)) as i64 >> (64 - bits)) as f64;
    let unsigned = |v: u64, bits: u32| (v & ((1u64 << bits) - 1)) as f64;
    for (ty, register, bits, is_signed) in [
        ("s8", "b32", 8, true),
        ("u8", "b16", 8, false),
        ("s16", "b16", 16, true),
        ("u16", "b16", 16, false),
        ("s32", "b32", 32, true),
        ("u32", "b32", 32, false),
    ] {
        let value = move |v: u64| {
            if is_signed {
                signed(v, bits)
            } else {
                unsigned(v, bits)
            }
        };
        check(
            &format!("cvt.rn.f32.{ty} %d, %a;"),
            &[register],
            "b32",
            &[&W],
            |i| f32s(value(i[0])),
        );
        if bits < 32 {
            check(
                &format!("cvt.rz.ftz.f32.{ty} %d, %a;"),
                &[register],
                "b32",
                &[&W],
                |i| f32s(value(i[0])),
            );
        }
        let more: Vec<u64> = W
            .iter()
            .copied()
            .chain([
                2047,
                2048,
                2049,
                2051,
                65_503,
                65_504,
                65_519,
                65_520,
                65_536,
                0x0100_0001,
            ])
            .collect();
        let code = format!("cvt.rn.f16.{ty} %h1, %a; cvt.u32.u16 %d, %h1;");
        check(&code, &[register], "b32", &[&more], |i| {
            let v = value(i[0]);
            let a = v.abs();
            let sign = if v < 0.0 { 0x8000 } else { 0 };
            if a == 0.0 {
                return 0;
            }
            let e = (a.log2().floor() as i32).min(16);
            let unit = 2f64.powi(e - 10);
            let rounded = (a / unit).round_ties_even() * unit;
            if rounded >= 65_536.0 {
                return sign | 0x7c00;
            }
            let e = rounded.log2().floor() as i32;
            sign | ((e + 15) as u64) << 10 | ((rounded / 2f64.powi(e - 10)) as u64 & 0x3ff)
        });
    }
}

#[test]
fn flushing_minimum_maximum_and_signs() {
    let v: Vec<u64> = [
        0.0f32,
        -0.0,
        1.0,
        -1.0,
        1e-40,
        -1e-40,
        f32::MIN_POSITIVE,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ]
    .iter()
    .map(|v| u64::from(v.to_bits()))
    .collect();
    let flush = |b: u64| {
        let v = f32::from_bits(b as u32);
        if v.is_subnormal() {
            0f32.copysign(v)
        } else {
            v
        }
    };
    for (name, min) in [("min", true), ("max", false)] {
        check(
            &format!("{name}.ftz.f32 %d, %a, %b;"),
            &["f32", "f32"],
            "b32",
            &[&v, &v],
            |i| {
                let (a, b) = (flush(i[0]), flush(i[1]));
                let r = match (a.is_nan(), b.is_nan()) {
                    (true, true) => return 0x7fff_ffff,
                    (true, false) => b,
                    (false, true) => a,
                    _ if (a.total_cmp(&b).is_lt()) == min => a,
                    _ => b,
                };
                r.to_bits().into()
            },
        );
    }
    let numbers = &v[..v.len() - 1];
    check("neg.ftz.f32 %d, %a;", &["f32"], "b32", &[numbers], |i| {
        (-flush(i[0])).to_bits().into()
    });
    check("abs.ftz.f32 %d, %a;", &["f32"], "b32", &[numbers], |i| {
        flush(i[0]).abs().to_bits().into()
    });
    let truncated: Vec<u64> = v
        .iter()
        .copied()
        .chain([0x4f00_0000, 0xcf80_0000, 0x3fc0_0000, 0xbfc0_0000])
        .collect();
    check(
        "cvt.rzi.ftz.s32.f32 %d, %a;",
        &["f32"],
        "b32",
        &[&truncated],
        |i| u64::from(flush(i[0]) as i32 as u32),
    );
    check(
        "cvt.rzi.ftz.u32.f32 %d, %a;",
        &["f32"],
        "b32",
        &[&truncated],
        |i| u64::from(flush(i[0]) as u32),
    );
}

#[test]
fn signs_of_halves() {
    check("neg.f16x2 %d, %a;", &["b32"], "b32", &[&W], |i| {
        i[0] ^ 0x8000_8000
    });
    check("abs.bf16x2 %d, %a;", &["b32"], "b32", &[&W], |i| {
        i[0] & 0x7fff_7fff
    });
    check(
        "neg.bf16 %h1, %a; cvt.u32.u16 %d, %h1;",
        &["b16"],
        "b32",
        &[&W],
        |i| (i[0] & 0xffff) ^ 0x8000,
    );
    check(
        "abs.f16 %h1, %a; cvt.u32.u16 %d, %h1;",
        &["b16"],
        "b32",
        &[&W],
        |i| i[0] & 0x7fff,
    );
}

#[test]
fn powers_of_two_in_f16() {
    // Whole exponents are exact; a NaN and infinities are what they are.
    let (a, want) = (
        [0xbc00_3c00u64, 0x4900_c900, 0x7e00_7c00, 0xfc00_0000],
        [0x3800_4000u64, 0x6400_1400, 0x7fff_7c00, 0x0000_3c00],
    );
    for (a, want) in a.into_iter().zip(want) {
        check("ex2.approx.f16x2 %d, %a;", &["b32"], "b32", &[&[a]], |_| {
            want
        });
        check(
            "ex2.approx.f16 %h1, %a; cvt.u32.u16 %d, %h1;",
            &["b16"],
            "b32",
            &[&[a & 0xffff]],
            |_| want & 0xffff,
        );
    }
}
