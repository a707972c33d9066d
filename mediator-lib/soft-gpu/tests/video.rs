//! Scalar video instructions against a model in wide integers.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::lanes::check;

const V: [u64; 9] = [
    0,
    1,
    0x7f,
    0x80ff_7f81,
    0x1234_8765,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0xff80_0020,
];
const C: [u64; 3] = [0, 0x8765_4321, 0x7fff_fff0];

/// A part of a word, extended.
fn part(v: u64, name: &str, signed: bool) -> i128 {
    let v = v as u32;
    let (v, bits) = match name {
        ".b0" => (v & 0xff, 8),
        ".b1" => (v >> 8 & 0xff, 8),
        ".b2" => (v >> 16 & 0xff, 8),
        ".b3" => (v >> 24, 8),
        ".h0" => (v & 0xffff, 16),
        ".h1" => (v >> 16, 16),
        _ => (v, 32),
    };
    let v = i128::from(v);
    if signed && v >> (bits - 1) != 0 {
        v - (1 << bits)
    } else {
        v
    }
}

fn bits(part: &str) -> u32 {
    match part.as_bytes() {
        [b'.', b'b', ..] => 8,
        [b'.', b'h', ..] => 16,
        _ => 32,
    }
}

fn clamp(v: i128, bits: u32, signed: bool) -> i128 {
    if signed {
        v.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        v.clamp(0, (1 << bits) - 1)
    }
}

fn operate(op: &str, a: i128, b: i128, wrap: bool) -> i128 {
    let by = if wrap { b & 31 } else { b.min(32) };
    match op {
        "vadd" => a + b,
        "vsub" => a - b,
        "vabsdiff" => (a - b).abs(),
        "vmin" => a.min(b),
        "vmax" => a.max(b),
        "vshl" => a << by,
        _ => a >> by,
    }
}

#[test]
fn arithmetic_with_parts_saturation_and_second_operations() {
    let parts = ["", ".b0", ".b2", ".h1"];
    let mut n = 0;
    for op in ["vadd", "vsub", "vabsdiff", "vmin", "vmax", "vshl", "vshr"] {
        let shift = op.starts_with("vsh");
        for types in 0..8 {
            let [sd, sa, sb] = [types & 1 != 0, types & 2 != 0, types & 4 != 0];
            if shift && sb {
                continue; // amounts are unsigned
            }
            for (second, d) in [
                ("", ""),
                (".add", ""),
                (".min", ""),
                (".max", ""),
                ("", ".b1"),
                ("", ".b3"),
                ("", ".h0"),
                ("", ".h1"),
            ] {
                n += 1;
                let (pa, pb) = (parts[n % 4], parts[n / 4 % 4]);
                let sat = if n % 3 == 0 { ".sat" } else { "" };
                let wrap = n % 2 == 0;
                let mode = if !shift {
                    ""
                } else if wrap {
                    ".wrap"
                } else {
                    ".clamp"
                };
                let t = |s: bool| if s { "s32" } else { "u32" };
                let third = if second.is_empty() && d.is_empty() {
                    ""
                } else {
                    ", %c"
                };
                let code = format!(
                    "mov.b32 %r7, 0; {op}.{}.{}.{}{sat}{mode}{second} %r7{d}, %a{pa}, %b{pb}{third}; mov.b32 %d, %r7;",
                    t(sd),
                    t(sa),
                    t(sb)
                );
                check(&code, &["b32", "b32", "b32"], "b32", &[&V, &V, &C], |i| {
                    let (a, b) = (part(i[0], pa, sa), part(i[1], pb, sb));
                    let mut r = operate(op, a, b, wrap);
                    if !sat.is_empty() {
                        r = clamp(r, bits(d), sd);
                    }
                    let c = part(i[2], "", sd);
                    r = match second {
                        ".add" => r + c,
                        ".min" => r.min(c),
                        ".max" => r.max(c),
                        _ => r,
                    };
                    let (at, width) = match d {
                        ".b1" => (8, 8),
                        ".b3" => (24, 8),
                        ".h0" => (0, 16),
                        ".h1" => (16, 16),
                        _ => return u64::from(r as u32),
                    };
                    let mask = ((1u64 << width) - 1) << at;
                    (i[2] & !mask) | (((r as u64) << at) & mask)
                });
            }
        }
    }
}

#[test]
fn comparisons() {
    for (name, f) in [
        ("eq", (|a, b| a == b) as fn(i128, i128) -> bool),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ] {
        let code = format!("vset.s32.u32.{name} %d, %a.h0, %b.b1;");
        check(&code, &["b32", "b32"], "b32", &[&V, &V], |i| {
            f(part(i[0], ".h0", true), part(i[1], ".b1", false)).into()
        });
        let code = format!("vset.u32.u32.{name}.add %d, %a, %b, %c;");
        check(&code, &["b32", "b32", "b32"], "b32", &[&V, &V, &C], |i| {
            (i[2] + u64::from(f(i[0].into(), i[1].into()))) & 0xffff_ffff
        });
    }
}

#[test]
fn multiply_and_add() {
    for (sa, sb) in [(false, false), (true, false), (true, true)] {
        for (na, nc) in [("", ""), ("-", ""), ("", "-")] {
            for (scale, shift) in [("", 0), (".shr7", 7), (".shr15", 15)] {
                for (sat, po) in [("", ""), (".sat", ""), ("", ".po")] {
                    let negated = !na.is_empty() || !nc.is_empty();
                    if !po.is_empty() && negated {
                        continue; // not together
                    }
                    let t = |s: bool| if s { "s32" } else { "u32" };
                    let code = format!(
                        "vmad.{}.{}.{}{po}{sat}{scale} %d, {na}%a.h1, %b, {nc}%c;",
                        t(sa),
                        t(sa),
                        t(sb)
                    );
                    check(&code, &["b32", "b32", "b32"], "b32", &[&V, &V, &C], |i| {
                        let signed = sa || sb || !na.is_empty() || !nc.is_empty();
                        let product = part(i[0], ".h1", sa) * part(i[1], "", sb);
                        let mut c = part(i[2], "", signed);
                        if !nc.is_empty() {
                            // As bits: the negation of the smallest number is itself.
                            c = part(u64::from(!(i[2] as u32)), "", signed) + 1;
                        }
                        let mut r = if na.is_empty() { product } else { -product } + c;
                        if !po.is_empty() {
                            r += 1;
                        }
                        r >>= shift;
                        if !sat.is_empty() {
                            r = clamp(r, 32, signed);
                        }
                        u64::from(r as u32)
                    });
                }
            }
        }
    }
}
