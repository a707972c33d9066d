//! Arithmetic in f16 and bf16, single and in pairs (PTX ISA 9.7.4).

use crate::float::extreme;
use crate::form::{Bound, Table, Want, Want::Bits, Want::Near};
use crate::real::{self, BF16, F16, Format, Mode};
use crate::values::{self, all, random, some};

const TYPES: [(&str, Format, &[u64], u32); 2] = [
    ("f16", F16, &values::F16, 16),
    ("bf16", BF16, &values::BF16, 17),
];

/// The forms of arithmetic need this.
fn needs(t: &mut Table, f: Format, name: &str, relu: bool) {
    match (name, f == F16) {
        ("fma", true) if relu => t.needs(70, 80),
        ("fma" | "neg" | "abs" | "min" | "max", false) => t.needs(70, 80),
        ("min" | "max", true) => t.needs(70, 80),
        (_, false) => t.needs(78, 90),
        ("abs", true) => t.needs(65, 53),
        _ => t.needs(63, 53),
    }
}

/// Pairs of values, each beside another.
fn paired(v: &[u64], skip: usize) -> Vec<u64> {
    v.iter()
        .zip(v.iter().cycle().skip(skip))
        .map(|(a, b)| a << 16 | b)
        .collect()
}

/// Adds the form for one value and for a pair. `cases` are of one value each; `want` gives its bits.
fn both(t: &mut Table, opcode: &str, ty: &str, n: usize, v: &[u64], want: impl Fn(&[u64]) -> u64) {
    let lists = [v, v, v];
    let cases = some(&lists[..n], 400);
    t.bits(
        &format!("{opcode}.{ty}"),
        &["b16"; 3][..n],
        "b16",
        &cases,
        &want,
    );
    let x2 = paired(v, 5);
    let lists = [&x2[..], &x2, &x2];
    let cases = some(&lists[..n], 200);
    t.bits(
        &format!("{opcode}.{ty}x2"),
        &["b32"; 3][..n],
        "b32",
        &cases,
        |i| {
            let part = |s: u32| {
                let p: Vec<u64> = i.iter().map(|v| v >> s & 0xffff).collect();
                want(&p) << s
            };
            part(0) | part(16)
        },
    );
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Half precision");
    for (ty, f, edges, kind) in TYPES {
        let mut v = edges.to_vec();
        v.extend(
            random(6, 11)
                .into_iter()
                .map(|x| x & 0xffff)
                .filter(|x| !f.is_nan(*x)),
        );
        let flag = |on: bool, s: &'static str| if on { s } else { "" };
        for rn in [false, true] {
            for ftz in [false, true] {
                for sat in [false, true] {
                    if f == BF16 && (ftz || sat) {
                        continue;
                    }
                    let m = format!(
                        "{}{}{}",
                        flag(rn, ".rn"),
                        flag(ftz, ".ftz"),
                        flag(sat, ".sat")
                    );
                    let flush = move |x: u64| if ftz { f.flush(x) } else { x };
                    let done = move |r: u64| {
                        let r = flush(r);
                        if sat { f.saturate(r) } else { r }
                    };
                    needs(t, f, "add", false);
                    both(t, &format!("add{m}"), ty, 2, &v, |i| {
                        done(real::add(f, flush(i[0]), flush(i[1]), Mode::Nearest))
                    });
                    both(t, &format!("sub{m}"), ty, 2, &v, |i| {
                        done(real::add(
                            f,
                            flush(i[0]),
                            flush(i[1] ^ f.sign()),
                            Mode::Nearest,
                        ))
                    });
                    both(t, &format!("mul{m}"), ty, 2, &v, |i| {
                        done(real::mul(f, flush(i[0]), flush(i[1]), Mode::Nearest))
                    });
                    if rn {
                        needs(t, f, "fma", false);
                        both(t, &format!("fma{m}"), ty, 3, &v, |i| {
                            done(real::fused(
                                f,
                                flush(i[0]),
                                flush(i[1]),
                                flush(i[2]),
                                Mode::Nearest,
                            ))
                        });
                        if !sat {
                            needs(t, f, "fma", true);
                            both(t, &format!("fma{m}.relu"), ty, 3, &v, |i| {
                                f.relu(done(real::fused(
                                    f,
                                    flush(i[0]),
                                    flush(i[1]),
                                    flush(i[2]),
                                    Mode::Nearest,
                                )))
                            });
                        }
                    }
                }
            }
        }
        for ftz in [false, true] {
            if f == BF16 && ftz {
                continue;
            }
            let flush = move |x: u64| if ftz { f.flush(x) } else { x };
            let m = flag(ftz, ".ftz");
            // The bits of a NaN are left open, so NaNs are compared as such.
            let numbers: Vec<u64> = v.iter().copied().filter(|x| !f.is_nan(*x)).collect();
            needs(t, f, "neg", false);
            both(t, &format!("neg{m}"), ty, 1, &numbers, |i| {
                flush(i[0]) ^ f.sign()
            });
            needs(t, f, "abs", false);
            both(t, &format!("abs{m}"), ty, 1, &numbers, |i| {
                flush(i[0]) & !f.sign()
            });
            for max in [false, true] {
                for (nan, xorsign) in [(false, false), (true, false), (false, true), (true, true)] {
                    needs(t, f, "min", false);
                    if xorsign {
                        t.needs(72, 86);
                    }
                    let name = format!(
                        "{}{m}{}{}",
                        if max { "max" } else { "min" },
                        flag(nan, ".NaN"),
                        flag(xorsign, ".xorsign.abs")
                    );
                    both(t, &name, ty, 2, &v, |i| {
                        extreme(f, max, nan, xorsign, &[flush(i[0]), flush(i[1])])
                            .unwrap_or(f.nan())
                    });
                }
            }
        }
        approximations(t, ty, f, kind);
    }
    t.needs(63, 50);
}

fn approximations(t: &mut Table, ty: &str, f: Format, kind: u32) {
    let mut v: Vec<u64> = if f == F16 {
        values::F16.to_vec()
    } else {
        values::BF16.to_vec()
    };
    v.extend((0..64).map(|k| {
        f.round(&F16.value(0x2000 + k * 0x1a3), false, Mode::Nearest)
            | if k & 1 != 0 { f.sign() } else { 0 }
    }));
    // (name, exact function, bound, flushes)
    let ex2: Bound = if f == F16 {
        Bound::Relative(-9.9)
    } else {
        Bound::Relative(-7.0)
    };
    let tanh: Bound = if f == F16 {
        Bound::Absolute(-10.987)
    } else {
        Bound::Absolute(-8.0)
    };
    for (name, exact, bound, ftz) in [
        (
            if f == F16 {
                "ex2.approx"
            } else {
                "ex2.approx.ftz"
            },
            f64::exp2 as fn(f64) -> f64,
            ex2,
            f == BF16,
        ),
        ("tanh.approx", f64::tanh, tanh, false),
    ] {
        t.needs(
            if f == F16 { 70 } else { 78 },
            if f == F16 { 75 } else { 90 },
        );
        let want = move |a: u64| {
            let a = if ftz { f.flush(a) } else { a };
            let y = exact(f.to_f64(a));
            let r = real::F64.value(y.to_bits());
            if f.is_nan(a) {
                return Bits(f.nan());
            }
            let bits = f.round(&r, false, Mode::Nearest);
            if ftz && bits & f.infinity() == 0 {
                return Want::OneOf(vec![bits & f.sign(), bits & f.sign() | 1 << f.fraction]);
            }
            if y == 0.0 {
                Bits(bits)
            } else {
                Near(kind, y, bound)
            }
        };
        t.op(
            &format!("{name}.{ty}"),
            &["b16"],
            "b16",
            &all(&[&v]),
            move |i| want(i[0]),
        );
        let code = format!("{name}.{ty}x2 %r3, %a; mov.b32 {{%x, %y}}, %r3;");
        t.code(
            &format!("{name}.{ty}x2"),
            &code,
            &["b32"],
            &["b16", "b16"],
            &all(&[&paired(&v, 7)]),
            move |i| vec![want(i[0] & 0xffff), want(i[0] >> 16)],
        );
    }
}
