//! Comparisons and selections (PTX ISA 9.7.6 and 9.7.7).

use std::cmp::Ordering;

use crate::form::{Table, Want::Bits};
use crate::real::{self, Format};
use crate::values::{self, W, all, integers, number, some};

/// Whether `op` holds for an order; `None` is unordered.
fn holds(op: &str, order: Option<Ordering>) -> bool {
    use Ordering::{Equal, Greater, Less};
    match op {
        "eq" => order == Some(Equal),
        "ne" => matches!(order, Some(Less | Greater)),
        "lt" | "lo" => order == Some(Less),
        "le" | "ls" => matches!(order, Some(Less | Equal)),
        "gt" | "hi" => order == Some(Greater),
        "ge" | "hs" => matches!(order, Some(Greater | Equal)),
        "num" => order.is_some(),
        "nan" => order.is_none(),
        _ => order.is_none() || holds(&op[..2], order),
    }
}

const FLOAT_OPS: [&str; 14] = [
    "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

/// `(suffix, register type, operators, values, order)`.
type Kind = (
    String,
    &'static str,
    Vec<&'static str>,
    &'static [u64],
    Box<dyn Fn(u64, u64) -> Option<Ordering>>,
);

fn kinds() -> Vec<Kind> {
    let mut out: Vec<Kind> = Vec::new();
    for (bits, reg) in [(16u32, "b16"), (32, "b32"), (64, "b64")] {
        for kind in ["b", "u", "s"] {
            let ops = match kind {
                "b" => vec!["eq", "ne"],
                "u" => vec!["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"],
                _ => vec!["eq", "ne", "lt", "le", "gt", "ge"],
            };
            let n = move |v: u64| number(v, bits, kind == "s");
            out.push((
                format!("{kind}{bits}"),
                reg,
                ops,
                integers(bits),
                Box::new(move |a, b| Some(n(a).cmp(&n(b)))),
            ));
        }
    }
    let floats: [(&str, &str, Format, &[u64], bool); 5] = [
        ("f16", "b16", real::F16, &values::F16, false),
        ("bf16", "b16", real::BF16, &values::BF16, false),
        ("f32", "b32", real::F32, &values::F32, false),
        ("ftz.f32", "b32", real::F32, &values::F32, true),
        ("f64", "b64", real::F64, &values::F64, false),
    ];
    for (name, reg, f, v, ftz) in floats {
        let n = move |v: u64| f.to_f64(if ftz { f.flush(v) } else { v });
        out.push((
            name.to_owned(),
            reg,
            FLOAT_OPS.to_vec(),
            v,
            Box::new(move |a, b| n(a).partial_cmp(&n(b))),
        ));
    }
    out
}

fn needs(t: &mut Table, ty: &str) {
    match ty {
        "f16" | "ftz.f16" | "f16x2" => t.needs(65, 53),
        "bf16" | "bf16x2" => t.needs(78, 90),
        _ => t.needs(63, 50),
    }
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Comparison and selection");
    for (ty, reg, ops, v, order) in kinds() {
        needs(t, &ty);
        let two = all(&[v, v]);
        for op in ops {
            // Also with the inverse, and against a constant as the second operand where it is an integer.
            // Halves have no second result.
            let half = ty.ends_with("f16");
            let inverse = |op: &str, rest: &str| {
                if half {
                    format!("{op} %p1, {rest}; not.pred %p2, %p1;")
                } else {
                    format!("{op} %p1|%p2, {rest};")
                }
            };
            let code = inverse(&format!("setp.{op}.{ty}"), "%a, %b")
                + " selp.u32 %x, 1, 0, %p1; selp.u32 %y, 1, 0, %p2;";
            t.code(
                &format!("setp.{op}.{ty}"),
                &code,
                &[reg, reg],
                &["b32", "b32"],
                &two,
                |i| {
                    let p = holds(op, order(i[0], i[1]));
                    vec![Bits(p.into()), Bits((!p).into())]
                },
            );
            // With a predicate.
            for (join, f) in [("and", 0), ("or", 1), ("xor", 2)] {
                let some = some(&[v, v, &[0, 1]], 40);
                let opcode = format!("setp.{op}.{join}.{ty}");
                let code = format!(
                    "{} selp.u32 %x, 1, 0, %p1; selp.u32 %y, 1, 0, %p2; {opcode} %p3, %a, %b, !%c; selp.u32 %z, 1, 0, %p3;",
                    inverse(&opcode, "%a, %b, %c")
                );
                t.code(
                    &format!("setp.{op}.{join}.{ty}"),
                    &code,
                    &[reg, reg, "pred"],
                    &["b32"; 3],
                    &some,
                    |i| {
                        let (p, c) = (holds(op, order(i[0], i[1])), i[2] != 0);
                        let with = |p: bool, c: bool| match f {
                            0 => p && c,
                            1 => p || c,
                            _ => p != c,
                        };
                        let second = if half { !with(p, c) } else { with(!p, c) };
                        vec![
                            Bits(with(p, c).into()),
                            Bits(second.into()),
                            Bits(with(p, !c).into()),
                        ]
                    },
                );
            }
            if ty.ends_with("16") {
                continue;
            }
            for (dty, one) in [
                ("u32", 0xffff_ffff),
                ("s32", 0xffff_ffff),
                ("f32", 0x3f80_0000),
            ] {
                let few = some(&[v, v], 60);
                let ty_name = ty.trim_start_matches("ftz.");
                let ftz = if ty.starts_with("ftz") { ".ftz" } else { "" };
                t.bits(
                    &format!("set.{op}{ftz}.{dty}.{ty_name}"),
                    &[reg, reg],
                    "b32",
                    &few,
                    |i| {
                        if holds(op, order(i[0], i[1])) { one } else { 0 }
                    },
                );
            }
            let few = some(&[v, v, &[0, 1]], 60);
            let (ty_name, ftz) = (
                ty.trim_start_matches("ftz."),
                if ty.starts_with("ftz") { ".ftz" } else { "" },
            );
            t.bits(
                &format!("set.{op}.xor{ftz}.u32.{ty_name}"),
                &[reg, reg, "pred"],
                "b32",
                &few,
                |i| {
                    if holds(op, order(i[0], i[1])) != (i[2] != 0) {
                        0xffff_ffff
                    } else {
                        0
                    }
                },
            );
        }
    }
    halves(t);
    selections(t);
}

/// `set` and `setp` on halves and pairs of them.
fn halves(t: &mut Table) {
    let kinds: [(&str, Format, &[u64]); 2] = [
        ("f16", real::F16, &values::F16),
        ("bf16", real::BF16, &values::BF16),
    ];
    for (name, f, v) in kinds {
        let order = move |a: u64, b: u64| f.to_f64(a & 0xffff).partial_cmp(&f.to_f64(b & 0xffff));
        needs(t, name);
        for op in FLOAT_OPS {
            let few = some(&[v, v], 60);
            for (dty, reg, one) in [
                (name, "b16", f.one()),
                ("u16", "b16", 0xffff),
                ("u32", "b32", 0xffff_ffff),
            ] {
                t.bits(
                    &format!("set.{op}.{dty}.{name}"),
                    &["b16", "b16"],
                    reg,
                    &few,
                    move |i| {
                        if holds(op, order(i[0], i[1])) { one } else { 0 }
                    },
                );
            }
            let x2: Vec<u64> = v
                .iter()
                .zip(v.iter().cycle().skip(3))
                .map(|(a, b)| a << 16 | b)
                .collect();
            let pairs = some(&[&x2, &x2], 60);
            let (p, q) = (
                move |i: &[u64]| holds(op, order(i[0], i[1])),
                move |i: &[u64]| holds(op, order(i[0] >> 16, i[1] >> 16)),
            );
            let one = f.one();
            t.bits(
                &format!("set.{op}.{name}x2.{name}x2"),
                &["b32", "b32"],
                "b32",
                &pairs,
                move |i| (if p(i) { one } else { 0 }) | (if q(i) { one } else { 0 }) << 16,
            );
            let code = format!(
                "setp.{op}.{name}x2 %p1|%p2, %a, %b; selp.u32 %x, 1, 0, %p1; selp.u32 %y, 1, 0, %p2;"
            );
            t.code(
                &format!("setp.{op}.{name}x2"),
                &code,
                &["b32", "b32"],
                &["b32", "b32"],
                &pairs,
                move |i| vec![Bits(p(i).into()), Bits(q(i).into())],
            );
        }
    }
    needs(t, "ftz.f16");
    for op in FLOAT_OPS {
        let f = real::F16;
        let order = move |a: u64, b: u64| f.to_f64(f.flush(a)).partial_cmp(&f.to_f64(f.flush(b)));
        let code = format!("setp.{op}.ftz.f16 %p1, %a, %b; selp.u32 %x, 1, 0, %p1;");
        t.code(
            &format!("setp.{op}.ftz.f16"),
            &code,
            &["b16", "b16"],
            &["b32"],
            &all(&[&values::F16, &values::F16]),
            move |i| vec![Bits(holds(op, order(i[0], i[1])).into())],
        );
    }
    t.needs(63, 50);
}

fn selections(t: &mut Table) {
    for (types, bits, reg) in [
        (&["b16", "u16", "s16"][..], 16, "b16"),
        (&["b32", "u32", "s32", "f32"], 32, "b32"),
        (&["b64", "u64", "s64", "f64"], 64, "b64"),
    ] {
        let v = &integers(bits)[..6];
        for ty in types {
            let cases = all(&[v, v, &[0, 1]]);
            t.bits(
                &format!("selp.{ty}"),
                &[reg, reg, "pred"],
                reg,
                &cases,
                |i| {
                    if i[2] != 0 { i[0] } else { i[1] }
                },
            );
            let cases = all(&[v, v, &W]);
            t.bits(
                &format!("slct.{ty}.s32"),
                &[reg, reg, "b32"],
                reg,
                &cases,
                |i| {
                    if (i[2] as u32 as i32) >= 0 {
                        i[0]
                    } else {
                        i[1]
                    }
                },
            );
            for ftz in [false, true] {
                let cases = all(&[v, v, &values::F32]);
                let name = format!("slct{}.{ty}.f32", if ftz { ".ftz" } else { "" });
                t.bits(&name, &[reg, reg, "b32"], reg, &cases, move |i| {
                    let c = f32::from_bits(if ftz { real::F32.flush(i[2]) } else { i[2] } as u32);
                    if c >= 0.0 { i[0] } else { i[1] }
                });
            }
        }
    }
}
