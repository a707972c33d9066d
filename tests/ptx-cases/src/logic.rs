//! Logic, shifts and permutations (PTX ISA 9.7.8, and `prmt` of 9.7.9).

use crate::form::{Table, Want::Bits};
use crate::values::{D, H, W, all, cut, integers, number, some};

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Logic and shifts");
    for (bits, reg) in [(1u32, "pred"), (16, "b16"), (32, "b32"), (64, "b64")] {
        let v: &[u64] = if bits == 1 { &[0, 1] } else { integers(bits) };
        let two = all(&[v, v]);
        let one = all(&[v]);
        t.bits(&format!("and.{reg}"), &[reg, reg], reg, &two, |i| {
            i[0] & i[1]
        });
        t.bits(&format!("or.{reg}"), &[reg, reg], reg, &two, |i| {
            i[0] | i[1]
        });
        t.bits(&format!("xor.{reg}"), &[reg, reg], reg, &two, |i| {
            i[0] ^ i[1]
        });
        t.bits(&format!("not.{reg}"), &[reg], reg, &one, move |i| {
            cut(!i128::from(i[0]), bits)
        });
        if bits > 1 {
            t.bits(&format!("cnot.{reg}"), &[reg], reg, &one, |i| {
                u64::from(i[0] == 0)
            });
        }
    }
    shifts(t);
    lookup(t);
    permute(t);
}

fn shifts(t: &mut Table) {
    let amounts = [0, 1, 4, 15, 16, 31, 32, 33, 63, 64, 255, 0xffff_ffff];
    for (bits, values) in [(16u32, &H[..]), (32, &W), (64, &D)] {
        let reg = ["b16", "b32", "b64"][(bits / 32) as usize];
        let two = all(&[values, &amounts]);
        t.bits(
            &format!("shl.b{bits}"),
            &[reg, "b32"],
            reg,
            &two,
            move |i| {
                if i[1] >= bits.into() {
                    0
                } else {
                    cut(i128::from(i[0]) << i[1], bits)
                }
            },
        );
        for kind in ["b", "u", "s"] {
            let is_signed = kind == "s";
            let right = move |a: u64, n: u64| cut(number(a, bits, is_signed) >> n.min(127), bits);
            t.bits(
                &format!("shr.{kind}{bits}"),
                &[reg, "b32"],
                reg,
                &two,
                move |i| right(i[0], i[1]),
            );
            // By a constant.
            let one = all(&[values]);
            for n in [0u64, 1, 8, 15, 16, 31, 32, 40, 64] {
                t.code(
                    &format!("shl.b{bits}, shr.{kind}{bits} by {n}"),
                    &format!("shl.b{bits} %x, %a, {n}; shr.{kind}{bits} %y, %a, {n};"),
                    &[reg],
                    &[reg, reg],
                    &one,
                    move |i| {
                        let left = if n >= bits.into() {
                            0
                        } else {
                            cut(i128::from(i[0]) << n, bits)
                        };
                        vec![Bits(left), Bits(right(i[0], n))]
                    },
                );
            }
        }
    }
    let three = all(&[&W, &W, &[0, 1, 8, 31, 32, 33, 64, 0xffff_ffff]]);
    for wrap in [false, true] {
        let mode = if wrap { "wrap" } else { "clamp" };
        let amount = move |c: u64| if wrap { c & 31 } else { c.min(32) };
        let both = |i: &[u64]| u128::from(i[1]) << 32 | u128::from(i[0]);
        t.bits(
            &format!("shf.l.{mode}.b32"),
            &["b32"; 3],
            "b32",
            &three,
            move |i| ((both(i) << amount(i[2])) >> 32) as u32 as u64,
        );
        t.bits(
            &format!("shf.r.{mode}.b32"),
            &["b32"; 3],
            "b32",
            &three,
            move |i| (both(i) >> amount(i[2])) as u32 as u64,
        );
    }
}

fn lookup(t: &mut Table) {
    let v = [
        0u64,
        0xffff_ffff,
        0x0f0f_0f0f,
        0x3333_3333,
        0x5555_5555,
        0x1234_5678,
    ];
    let three = all(&[&v, &v, &v]);
    let meaning = |lut: u64, i: &[u64]| {
        (0..32).fold(0, |r, k| {
            let index = (i[0] >> k & 1) << 2 | (i[1] >> k & 1) << 1 | (i[2] >> k & 1);
            r | (lut >> index & 1) << k
        })
    };
    for lut in [
        0x00u64, 0xff, 0x80, 0xfe, 0x96, 0xe8, 0xca, 0x1a, 0x3f, 0xc0, 0xfc, 0x3c, 0x6a, 0xf2,
    ] {
        let code = format!("lop3.b32 %x, %a, %b, %c, {lut:#x};");
        t.code(
            &format!("lop3.b32 {lut:#04x}"),
            &code,
            &["b32"; 3],
            &["b32"],
            &three,
            move |i| vec![Bits(meaning(lut, i))],
        );
    }
    t.needs(82, 70);
    for and in [false, true] {
        let op = if and { "and" } else { "or" };
        for lut in [0x80u64, 0xfe, 0x96, 0x00] {
            let code = format!(
                "setp.lt.u32 %p1, %c, 1000; lop3.{op}.b32 %x|%p2, %a, %b, %c, {lut:#x}, %p1; selp.u32 %y, 1, 0, %p2;"
            );
            t.code(
                &format!("lop3.{op}.b32 {lut:#04x}"),
                &code,
                &["b32"; 3],
                &["b32", "b32"],
                &three,
                move |i| {
                    let (r, q) = (meaning(lut, i), i[2] < 1000);
                    let p = if and { r != 0 && q } else { r != 0 || q };
                    vec![Bits(r), Bits(p.into())]
                },
            );
        }
    }
    t.needs(63, 50);
}

fn permute(t: &mut Table) {
    let v = [0x8081_0203u64, 0x0405_8687, 0xffff_ffff, 0];
    let byte = |i: &[u64], k: u64| (i[1] << 32 | i[0]) >> (8 * (k & 7)) & 0xff;
    let selectors = [
        0x3210u64,
        0x7654,
        0x0123,
        0x8901,
        0xfedc,
        0x4040,
        0x7777,
        0xc8d3,
        0xffff_5410,
    ];
    let three = all(&[&v, &v, &selectors]);
    let general = move |i: &[u64], sel: u64| {
        (0..4).fold(0, |r, k| {
            let s = sel >> (4 * k) & 15;
            let b = byte(i, s);
            let b = if s & 8 != 0 {
                if b & 0x80 != 0 { 0xff } else { 0 }
            } else {
                b
            };
            r | b << (8 * k)
        })
    };
    t.bits("prmt.b32", &["b32"; 3], "b32", &three, move |i| {
        general(i, i[2])
    });
    for sel in selectors {
        let code = format!("prmt.b32 %x, %a, %b, {sel:#x};");
        t.code(
            &format!("prmt.b32 by {sel:#x}"),
            &code,
            &["b32"; 2],
            &["b32"],
            &all(&[&v, &v]),
            move |i| vec![Bits(general(i, sel))],
        );
    }
    // Bytes that the special modes choose, from the lowest, by the lowest two bits of c.
    let modes: [(&str, [[u64; 4]; 4]); 6] = [
        (
            "f4e",
            [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]],
        ),
        (
            "b4e",
            [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]],
        ),
        ("rc8", [[0; 4], [1; 4], [2; 4], [3; 4]]),
        (
            "ecl",
            [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]],
        ),
        (
            "ecr",
            [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]],
        ),
        (
            "rc16",
            [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]],
        ),
    ];
    for (mode, chosen) in modes {
        let cases = some(&[&v, &v, &[0, 1, 2, 3, 4, 0xffff_ffff]], 96);
        t.bits(
            &format!("prmt.b32.{mode}"),
            &["b32"; 3],
            "b32",
            &cases,
            move |i| {
                (0..4).fold(0, |r, k| {
                    r | byte(i, chosen[(i[2] & 3) as usize][k]) << (8 * k)
                })
            },
        );
    }
}
