//! Scalar video instructions (PTX ISA 9.7.17) and those on two and four parts.

use crate::form::{Table, Want};
use crate::values::{W, all, cut, number, signed, some};

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Video");
    scalar(t);
    parts(t);
}

/// The part of an operand that a selector names.
fn part(v: u64, select: &str, is_signed: bool) -> i128 {
    let (at, bits) = match select {
        ".b0" => (0, 8),
        ".b1" => (8, 8),
        ".b2" => (16, 8),
        ".b3" => (24, 8),
        ".h0" => (0, 16),
        ".h1" => (16, 16),
        _ => (0, 32),
    };
    number(v >> at & ((1u64 << bits) - 1), bits, is_signed)
}

fn clamp(v: i128, bits: u32, is_signed: bool) -> i128 {
    if is_signed {
        v.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        v.clamp(0, (1 << bits) - 1)
    }
}

fn scalar(t: &mut Table) {
    let v = [
        0u64,
        1,
        0x7f,
        0x80,
        0x8000,
        0x1234_8765,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
    ];
    let two = all(&[&v, &v]);
    let three = some(&[&v, &v, &W], 200);
    let types = [("u32", false), ("s32", true)];
    let selects = [
        ("", ""),
        (".b0", ".h1"),
        (".h0", ".b3"),
        ("", ".b1"),
        (".b2", ""),
    ];
    for name in ["vadd", "vsub", "vabsdiff", "vmin", "vmax"] {
        for (dt, ds) in types {
            for (at, a_signed) in types {
                for (bt, b_signed) in types {
                    for sat in ["", ".sat"] {
                        for (n, (sa, sb)) in selects.into_iter().enumerate() {
                            let value = move |i: &[u64]| {
                                let (a, b) = (part(i[0], sa, a_signed), part(i[1], sb, b_signed));
                                match name {
                                    "vadd" => a + b,
                                    "vsub" => a - b,
                                    "vabsdiff" => (a - b).abs(),
                                    "vmin" => a.min(b),
                                    _ => a.max(b),
                                }
                            };
                            let last = move |i: &[u64]| {
                                let r = value(i);
                                if sat.is_empty() { r } else { clamp(r, 32, ds) }
                            };
                            let opcode = format!("{name}.{dt}.{at}.{bt}{sat}");
                            if n > 0 && !sat.is_empty() {
                                continue;
                            }
                            t.bits(
                                &format!(
                                    "{opcode}{}",
                                    if n > 0 {
                                        format!(", a{sa}, b{sb}")
                                    } else {
                                        String::new()
                                    }
                                ),
                                &["b32"; 2],
                                "b32",
                                &two,
                                move |i| cut(last(i), 32),
                            )
                            .code = format!("{opcode} %x, %a{sa}, %b{sb};");
                            if n != 0 {
                                continue;
                            }
                            for second in ["add", "min", "max"] {
                                t.op(
                                    &format!("{opcode}.{second}"),
                                    &["b32"; 3],
                                    "b32",
                                    &three,
                                    move |i| {
                                        let r = last(i);
                                        // The ISA hands it on as `.s33` but does not say how it gets there.
                                        if second != "add" && r != signed(cut(r, 33), 33) {
                                            return Want::Range(0, 0xffff_ffff);
                                        }
                                        let c = number(i[2], 32, ds);
                                        Want::Bits(cut(
                                            match second {
                                                "add" => r + c,
                                                "min" => r.min(c),
                                                _ => r.max(c),
                                            },
                                            32,
                                        ))
                                    },
                                );
                            }
                            for (sd, at, bits) in [(".b1", 8u32, 8u32), (".h1", 16, 16)] {
                                t.bits(
                                    &format!("{opcode}, d{sd}"),
                                    &["b32"; 3],
                                    "b32",
                                    &three,
                                    move |i| {
                                        let r = value(i);
                                        let r = if sat.is_empty() {
                                            r
                                        } else {
                                            clamp(r, bits, ds)
                                        };
                                        let mask = ((1u64 << bits) - 1) << at;
                                        i[2] & !mask | cut(r, bits) << at
                                    },
                                )
                                .code = format!("{opcode} %x{sd}, %a, %b, %c;");
                            }
                        }
                    }
                }
            }
        }
    }
    let amounts = [0u64, 1, 8, 31, 32, 33, 0xffff_ffff];
    let shifts = all(&[&v, &amounts]);
    for (at, a_signed) in types {
        for (mode, wrap) in [("clamp", false), ("wrap", true)] {
            let n = move |b: u64| if wrap { b & 31 } else { b.min(32) };
            for (dt, _) in types {
                t.bits(
                    &format!("vshl.{dt}.{at}.u32.{mode}"),
                    &["b32"; 2],
                    "b32",
                    &shifts,
                    move |i| cut(number(i[0], 32, a_signed) << n(i[1]), 32),
                );
                t.bits(
                    &format!("vshr.{dt}.{at}.u32.{mode}"),
                    &["b32"; 2],
                    "b32",
                    &shifts,
                    move |i| cut(number(i[0], 32, a_signed) >> n(i[1]), 32),
                );
            }
        }
        for (bt, b_signed) in types {
            for op in ["eq", "ne", "lt", "le", "gt", "ge"] {
                t.bits(
                    &format!("vset.{at}.{bt}.{op}"),
                    &["b32"; 2],
                    "b32",
                    &two,
                    move |i| {
                        let (a, b) = (number(i[0], 32, a_signed), number(i[1], 32, b_signed));
                        u64::from(match op {
                            "eq" => a == b,
                            "ne" => a != b,
                            "lt" => a < b,
                            "le" => a <= b,
                            "gt" => a > b,
                            _ => a >= b,
                        })
                    },
                );
            }
            for (dt, ds) in types {
                // The accumulator's type is signed where a factor is, and so is the result.
                if ds != (a_signed || b_signed) {
                    continue;
                }
                for (scale, shift) in [("", 0), (".shr7", 7), (".shr15", 15)] {
                    for sat in ["", ".sat"] {
                        let opcode = format!("vmad.{dt}.{at}.{bt}{sat}{scale}");
                        t.bits(&opcode, &["b32"; 3], "b32", &three, move |i| {
                            let c = number(i[2], 32, a_signed || b_signed);
                            let r = (number(i[0], 32, a_signed) * number(i[1], 32, b_signed) + c)
                                >> shift;
                            cut(if sat.is_empty() { r } else { clamp(r, 32, ds) }, 32)
                        });
                    }
                }
            }
        }
    }
}

/// Two halves or four bytes at once: `d{.mask}, a{.asel}, b{.bsel}, c`.
fn parts(t: &mut Table) {
    let v = [
        0u64,
        0x0180_7fff,
        0x8000_7f80,
        0xffff_ffff,
        0x1234_8765,
        0x807f_01fe,
    ];
    let three = all(&[&v, &v, &[0, 0xffff_fff0, 0x4321_5678]]);
    let types = [("u32", false), ("s32", true)];
    // (how the instruction ends, parts, bits, (mask, parts it names), (a, parts in rising order), (b, …))
    type Choice = (&'static str, Vec<u32>);
    let choices: [(u32, u32, Choice, Choice, Choice); 6] = [
        (2, 16, ("", vec![0, 1]), ("", vec![0, 1]), ("", vec![2, 3])),
        (
            2,
            16,
            (".h1", vec![1]),
            (".h01", vec![1, 0]),
            (".h20", vec![0, 2]),
        ),
        (
            2,
            16,
            (".h10", vec![0, 1]),
            (".h33", vec![3, 3]),
            ("", vec![2, 3]),
        ),
        (
            4,
            8,
            ("", vec![0, 1, 2, 3]),
            ("", vec![0, 1, 2, 3]),
            ("", vec![4, 5, 6, 7]),
        ),
        (
            4,
            8,
            (".b2", vec![2]),
            (".b0123", vec![3, 2, 1, 0]),
            (".b7070", vec![0, 7, 0, 7]),
        ),
        (
            4,
            8,
            (".b310", vec![0, 1, 3]),
            ("", vec![0, 1, 2, 3]),
            (".b4444", vec![4; 4]),
        ),
    ];
    for (count, bits, (mask, kept), (sa, a_parts), (sb, b_parts)) in choices {
        let get = |i: &[u64], part: u32, is_signed: bool| {
            let both = i[1] << 32 | i[0];
            number(both >> (part * bits) & ((1 << bits) - 1), bits, is_signed)
        };
        let combine = |c: u64, r: &[i128], add: bool| {
            kept.iter().fold(c, |d, k| {
                let v = r[*k as usize];
                if add {
                    return cut(i128::from(d) + v, 32);
                }
                let place = ((1u64 << bits) - 1) << (k * bits);
                d & !place | cut(v, bits) << (k * bits)
            })
        };
        let plain = mask.is_empty();
        let shown = if plain {
            String::new()
        } else {
            format!(", d{mask}, a{sa}, b{sb}")
        };
        for (at, a_signed) in types {
            for (bt, b_signed) in types {
                // Selections and types have nothing to do with each other.
                if !plain && a_signed != b_signed {
                    continue;
                }
                let operands = |i: &[u64]| -> Vec<(i128, i128)> {
                    a_parts
                        .iter()
                        .zip(&b_parts)
                        .map(|(p, q)| (get(i, *p, a_signed), get(i, *q, b_signed)))
                        .collect()
                };
                for (dt, d_signed) in types {
                    if !plain && d_signed != a_signed {
                        continue;
                    }
                    for name in ["vadd", "vsub", "vavrg", "vabsdiff", "vmin", "vmax"] {
                        for (modifier, sat, add) in [
                            ("", false, false),
                            (".sat", true, false),
                            (".add", false, true),
                        ] {
                            let opcode = format!("{name}{count}.{dt}.{at}.{bt}{modifier}");
                            t.bits(
                                &format!("{opcode}{shown}"),
                                &["b32"; 3],
                                "b32",
                                &three,
                                |i| {
                                    let r: Vec<i128> = operands(i)
                                        .into_iter()
                                        .map(|(a, b)| {
                                            let r = match name {
                                                "vadd" => a + b,
                                                "vsub" => a - b,
                                                "vavrg" => (a + b + i128::from(a + b >= 0)) >> 1,
                                                "vabsdiff" => (a - b).abs(),
                                                "vmin" => a.min(b),
                                                _ => a.max(b),
                                            };
                                            if sat { clamp(r, bits, d_signed) } else { r }
                                        })
                                        .collect();
                                    combine(i[2], &r, add)
                                },
                            )
                            .code = format!("{opcode} %x{mask}, %a{sa}, %b{sb}, %c;");
                        }
                    }
                }
                for op in ["eq", "ne", "lt", "le", "gt", "ge"] {
                    for add in [false, true] {
                        let opcode = format!(
                            "vset{count}.{at}.{bt}.{op}{}",
                            if add { ".add" } else { "" }
                        );
                        t.bits(
                            &format!("{opcode}{shown}"),
                            &["b32"; 3],
                            "b32",
                            &three,
                            |i| {
                                let r: Vec<i128> = operands(i)
                                    .into_iter()
                                    .map(|(a, b)| {
                                        i128::from(match op {
                                            "eq" => a == b,
                                            "ne" => a != b,
                                            "lt" => a < b,
                                            "le" => a <= b,
                                            "gt" => a > b,
                                            _ => a >= b,
                                        })
                                    })
                                    .collect();
                                combine(i[2], &r, add)
                            },
                        )
                        .code = format!("{opcode} %x{mask}, %a{sa}, %b{sb}, %c;");
                    }
                }
            }
        }
    }
}
