//! Arithmetic in f32 and f64 (PTX ISA 9.7.3).

use crate::form::{Bound, Table, Want, Want::Bits, Want::Near};
use crate::real::{self, F32, F64, Format, MODES, Mode};
use crate::values::{self, all, random, some};

/// `(suffix, format, register type, values)`.
pub const TYPES: [(&str, Format, &str, &[u64]); 2] = [
    ("f32", F32, "b32", &values::F32),
    ("f64", F64, "b64", &values::F64),
];

/// What must come out where the exact bits are `bits`. A NaN of f32 is the one that NVIDIA's processors make;
/// in f64, where the ISA says that the payload is kept, it is one of the operands, made quiet.
pub fn result(f: Format, bits: u64, operands: &[u64]) -> Want {
    if !f.is_nan(bits) {
        return Bits(bits);
    }
    if f != F64 {
        return Bits(f.nan());
    }
    let quiet: Vec<u64> = operands
        .iter()
        .filter(|v| f.is_nan(**v))
        .map(|v| v | 1 << 51)
        .collect();
    if quiet.is_empty() {
        Bits(f.nan())
    } else {
        Want::OneOf(quiet)
    }
}

/// Numbers near each other, so that sums cancel and roundings matter.
fn near(f: Format, seed: u64) -> Vec<u64> {
    let fraction = (1u64 << f.fraction) - 1;
    random(12, seed)
        .into_iter()
        .map(|v| {
            let exponent = (f.one() >> f.fraction) - 2 + (v >> 60) % 5;
            (v & (fraction | f.sign()) & !(f.infinity())) | exponent << f.fraction
        })
        .collect()
}

fn modifiers(f: Format) -> Vec<(String, Mode, bool, bool)> {
    let mut out = vec![];
    for (name, mode) in MODES.iter().copied().chain([("", Mode::Nearest)]) {
        for ftz in [false, true] {
            for sat in [false, true] {
                if (ftz || sat) && f == F64 {
                    continue;
                }
                let dot = if name.is_empty() {
                    String::new()
                } else {
                    format!(".{name}")
                };
                out.push((
                    format!(
                        "{dot}{}{}",
                        if ftz { ".ftz" } else { "" },
                        if sat { ".sat" } else { "" }
                    ),
                    mode,
                    ftz,
                    sat,
                ));
            }
        }
    }
    out
}

fn finish(f: Format, bits: u64, ftz: bool, sat: bool, operands: &[u64]) -> Want {
    let bits = if ftz { f.flush(bits) } else { bits };
    if sat {
        return Bits(f.saturate(bits));
    }
    result(f, bits, operands)
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Floating point");
    for (ty, f, reg, v) in TYPES {
        let close = near(f, 1);
        let mut two = all(&[v, v]);
        two.extend(all(&[&close, &near(f, 2)]));
        let mut three = some(&[v, v, v], 350);
        three.extend(some(&[&close, &near(f, 3), &near(f, 4)], 250));
        for (m, mode, ftz, sat) in modifiers(f) {
            let flush = move |x: u64| if ftz { f.flush(x) } else { x };
            let regs = [reg; 3];
            t.op(&format!("add{m}.{ty}"), &regs[..2], reg, &two, move |i| {
                finish(f, real::add(f, flush(i[0]), flush(i[1]), mode), ftz, sat, i)
            });
            t.op(&format!("sub{m}.{ty}"), &regs[..2], reg, &two, move |i| {
                let negative = if f.is_nan(i[1]) {
                    i[1]
                } else {
                    i[1] ^ f.sign()
                };
                finish(
                    f,
                    real::add(f, flush(i[0]), flush(negative), mode),
                    ftz,
                    sat,
                    i,
                )
            });
            t.op(&format!("mul{m}.{ty}"), &regs[..2], reg, &two, move |i| {
                finish(f, real::mul(f, flush(i[0]), flush(i[1]), mode), ftz, sat, i)
            });
            if m.starts_with(".r") {
                for name in ["fma", "mad"] {
                    t.op(&format!("{name}{m}.{ty}"), &regs, reg, &three, move |i| {
                        finish(
                            f,
                            real::fused(f, flush(i[0]), flush(i[1]), flush(i[2]), mode),
                            ftz,
                            sat,
                            i,
                        )
                    });
                }
                if sat {
                    continue;
                }
                t.op(&format!("div{m}.{ty}"), &regs[..2], reg, &two, move |i| {
                    finish(
                        f,
                        real::quotient(f, flush(i[0]), flush(i[1]), mode),
                        ftz,
                        false,
                        i,
                    )
                });
                let mut one = all(&[v]);
                one.extend(all(&[&close]));
                t.op(&format!("rcp{m}.{ty}"), &regs[..1], reg, &one, move |i| {
                    finish(
                        f,
                        real::quotient(f, f.one(), flush(i[0]), mode),
                        ftz,
                        false,
                        i,
                    )
                });
                t.op(&format!("sqrt{m}.{ty}"), &regs[..1], reg, &one, move |i| {
                    finish(f, real::root(f, flush(i[0]), mode), ftz, false, i)
                });
            }
        }
        signs_and_order(t, ty, f, reg, v);
    }
    approximations(t);
    constants(t);
}

/// The order of `min` and `max`: -0 is below +0.
pub fn key(f: Format, v: u64) -> i128 {
    if f.negative(v) {
        -i128::from(v & (f.sign() - 1)) - 1
    } else {
        v.into()
    }
}

/// `min` or `max` with `.NaN` and `.xorsign.abs`, before the NaN gets its bits.
pub fn extreme(f: Format, max: bool, nan: bool, xorsign: bool, v: &[u64]) -> Option<u64> {
    let sign = v.iter().fold(0, |s, x| s ^ (x & f.sign()));
    if (nan && v.iter().any(|x| f.is_nan(*x))) || v.iter().all(|x| f.is_nan(*x)) {
        return None;
    }
    let numbers = v
        .iter()
        .filter(|x| !f.is_nan(**x))
        .map(|x| if xorsign { x & !f.sign() } else { *x });
    let r = if max {
        numbers.max_by_key(|x| key(f, *x))
    } else {
        numbers.min_by_key(|x| key(f, *x))
    };
    r.map(|r| if xorsign { r | sign } else { r })
}

fn signs_and_order(t: &mut Table, ty: &str, f: Format, reg: &'static str, v: &[u64]) {
    let one = all(&[v]);
    let two = all(&[v, v]);
    let kind = if f == F64 { 64 } else { 32 };
    for ftz in if f == F64 {
        &[false][..]
    } else {
        &[false, true]
    } {
        let m = if *ftz { ".ftz" } else { "" };
        let ftz = *ftz;
        for (name, clear, flip) in [("neg", false, true), ("abs", true, false)] {
            t.op(&format!("{name}{m}.{ty}"), &[reg], reg, &one, move |i| {
                if f.is_nan(i[0]) {
                    return Want::Nan(kind);
                }
                let a = if ftz { f.flush(i[0]) } else { i[0] };
                let a = if clear { a & !f.sign() } else { a };
                Bits(if flip { a ^ f.sign() } else { a })
            });
        }
        for max in [false, true] {
            let name = if max { "max" } else { "min" };
            for (nan, xorsign) in [(false, false), (true, false), (false, true), (true, true)] {
                if f == F64 && (nan || xorsign) {
                    continue;
                }
                match (nan, xorsign) {
                    (_, true) => t.needs(72, 86),
                    (true, _) => t.needs(70, 80),
                    _ => t.needs(63, 50),
                }
                let opcode = format!(
                    "{name}{m}{}{}.{ty}",
                    if nan { ".NaN" } else { "" },
                    if xorsign { ".xorsign.abs" } else { "" }
                );
                t.op(&opcode, &[reg, reg], reg, &two, move |i| {
                    let v: Vec<u64> = i
                        .iter()
                        .map(|x| if ftz { f.flush(*x) } else { *x })
                        .collect();
                    match extreme(f, max, nan, xorsign, &v) {
                        Some(r) => Bits(r),
                        None if f == F64 => Want::Nan(64),
                        None => Bits(f.nan()),
                    }
                });
                if f != F64 && !xorsign {
                    t.needs(88, 100);
                    let three = some(&[v, v, v], 300);
                    t.op(
                        &format!("{opcode}, three operands"),
                        &[reg; 3],
                        reg,
                        &three,
                        move |i| {
                            let v: Vec<u64> = i
                                .iter()
                                .map(|x| if ftz { f.flush(*x) } else { *x })
                                .collect();
                            Bits(extreme(f, max, nan, false, &v).unwrap_or(f.nan()))
                        },
                    )
                    .code = format!("{opcode} %x, %a, %b, %c;");
                }
                t.needs(63, 50);
            }
        }
    }
    t.op(
        &format!("copysign.{ty}"),
        &[reg, reg],
        reg,
        &two,
        move |i| {
            // The sign of a, the magnitude of b.
            Bits((i[0] & f.sign()) | (i[1] & !f.sign()))
        },
    );
    let tests: [(&str, Test); 6] = [
        ("finite", |f, m| m < f.infinity()),
        ("infinite", |f, m| m == f.infinity()),
        ("number", |f, m| m <= f.infinity()),
        ("notanumber", |f, m| m > f.infinity()),
        ("normal", |f, m| m < f.infinity() && m >> f.fraction != 0),
        ("subnormal", |f, m| m != 0 && m >> f.fraction == 0),
    ];
    for (name, holds) in tests {
        t.bits(
            &format!("testp.{name}.{ty}"),
            &[reg],
            "pred",
            &one,
            move |i| holds(f, i[0] & (f.sign() - 1)).into(),
        );
    }
}

/// What `testp` asks of a magnitude.
type Test = fn(Format, u64) -> bool;

fn single(v: u64) -> f64 {
    f64::from(f32::from_bits(v as u32))
}

fn approximations(t: &mut Table) {
    // Positive numbers over the whole range, and small ones of both signs.
    let mut v: Vec<u64> = values::F32.to_vec();
    v.extend(
        random(120, 5)
            .into_iter()
            .map(|x| x & 0xffff_ffff)
            .filter(|x| !F32.is_nan(*x)),
    );
    v.extend(
        random(120, 6)
            .into_iter()
            .map(|x| u64::from((((x % 20_000) as f32 - 10_000.0) / 1571.0).to_bits())),
    );
    let one = all(&[&v]);
    // (name, PTX version and architecture, the exact function, the bound at an argument)
    type Row = (&'static str, (u32, u32), fn(f64) -> f64, fn(f64) -> Bound);
    let rows: [Row; 8] = [
        ("rcp", (63, 50), |a| 1.0 / a, |_| Bound::Ulp(1.0)),
        ("sqrt", (63, 50), f64::sqrt, |_| Bound::Relative(-23.0)),
        (
            "rsqrt",
            (63, 50),
            |a| 1.0 / a.sqrt(),
            |_| Bound::Relative(-22.9),
        ),
        ("sin", (63, 50), f64::sin, trigonometric),
        ("cos", (63, 50), f64::cos, trigonometric),
        ("lg2", (63, 50), f64::log2, |a| {
            if (0.5..=2.0).contains(&a) {
                Bound::Absolute(-22.0)
            } else {
                Bound::Relative(-22.0)
            }
        }),
        ("ex2", (63, 50), f64::exp2, |_| Bound::Ulp(2.0)),
        ("tanh", (70, 75), f64::tanh, |_| Bound::Relative(-11.0)),
    ];
    for (name, needs, exact, bound) in rows {
        t.needs(needs.0, needs.1);
        for ftz in [false, true] {
            if ftz && name == "tanh" {
                continue;
            }
            let opcode = format!("{name}.approx{}.f32", if ftz { ".ftz" } else { "" });
            let cases: Vec<Vec<u64>> = one
                .iter()
                .filter(|i| {
                    // Beyond these the ISA promises nothing for a number.
                    !matches!(name, "sin" | "cos")
                        || single(i[0]).abs() <= 314.0
                        || single(i[0]).is_infinite()
                        || single(i[0]).is_nan()
                })
                .cloned()
                .collect();
            t.op(&opcode, &["b32"], "b32", &cases, move |i| {
                let a = if ftz { F32.flush(i[0]) } else { i[0] };
                let x = single(a);
                let y = exact(x);
                if y.is_nan() {
                    return Bits(0x7fff_ffff);
                }
                let flushed = y.abs() < f64::from(f32::MIN_POSITIVE) && ftz;
                // A zero keeps the sign that the exact function gives it.
                if y == 0.0 || y.is_infinite() || flushed {
                    let sign = if y.is_sign_negative() { 1 << 31 } else { 0 };
                    let magnitude = if y.is_infinite() { F32.infinity() } else { 0 };
                    // What is tiny may lie at the limit.
                    return if flushed && y != 0.0 {
                        Want::OneOf(vec![sign, sign | 0x0080_0000])
                    } else {
                        Bits(sign | magnitude)
                    };
                }
                Near(32, y, bound(x))
            });
        }
    }
    t.needs(63, 50);
    let mut pairs = all(&[&values::F32, &values::F32]);
    pairs.extend(
        random(100, 8)
            .chunks(2)
            .map(|c| vec![c[0] & 0xffff_ffff, c[1] & 0xffff_ffff])
            .filter(|c| c.iter().all(|v| !F32.is_nan(*v))),
    );
    for kind in ["approx", "full"] {
        for ftz in [false, true] {
            let opcode = format!("div.{kind}{}.f32", if ftz { ".ftz" } else { "" });
            let cases: Vec<Vec<u64>> = pairs
                .iter()
                .filter(|i| {
                    let b = single(i[1]).abs();
                    // approx: for divisors from 2^-126 to 2^126.
                    kind == "full"
                        || !(0.0..).contains(&b)
                        || b == 0.0
                        || b.is_infinite()
                        || (f64::from(f32::MIN_POSITIVE)..=126f64.exp2()).contains(&b)
                })
                .cloned()
                .collect();
            t.op(&opcode, &["b32", "b32"], "b32", &cases, move |i| {
                let flush = |v: u64| if ftz { F32.flush(v) } else { v };
                let y = single(flush(i[0])) / single(flush(i[1]));
                if y.is_nan() {
                    return Bits(0x7fff_ffff);
                }
                let sign = if y.is_sign_negative() { 1 << 31 } else { 0 };
                if ftz && y.abs() < f64::from(f32::MIN_POSITIVE) {
                    return Want::OneOf(vec![sign, sign | 0x0080_0000]);
                }
                Near(32, y, Bound::Ulp(2.0))
            });
        }
    }
    let doubles = all(&[&values::F64]);
    let big: Vec<Vec<u64>> = random(60, 9)
        .into_iter()
        .filter(|v| !F64.is_nan(*v))
        .map(|v| vec![v])
        .collect();
    let doubles = [doubles, big].concat();
    t.op("rsqrt.approx.f64", &["b64"], "b64", &doubles, |i| {
        let x = f64::from_bits(i[0]);
        let y = 1.0 / x.sqrt();
        if y.is_nan() {
            result(F64, F64.nan(), i)
        } else {
            Near(64, y, Bound::Ulp(2.0))
        }
    });
    // Of these only the upper word of the argument counts, and the lower word of the result is zero.
    for (name, exact) in [
        ("rcp", (|a| 1.0 / a) as fn(f64) -> f64),
        ("rsqrt", |a: f64| 1.0 / a.sqrt()),
    ] {
        let code =
            format!("{name}.approx.ftz.f64 %x, %a; mov.b64 {{%r3, %y}}, %x; cvt.u32.u64 %z, %x;");
        t.code(
            &format!("{name}.approx.ftz.f64"),
            &code,
            &["b64"],
            &["b64", "b32", "b32"],
            &doubles,
            move |i| {
                let a = F64.flush(i[0]);
                let y = exact(f64::from_bits(a & !0xffff_ffff));
                if F64.is_nan(a) || y.is_nan() {
                    return vec![Bits(0x7fff_ffff_0000_0000), Bits(0x7fff_ffff), Bits(0)];
                }
                let bits = F64.flush(y.to_bits());
                if bits & !F64.sign() == 0 || y.is_infinite() {
                    return vec![Bits(bits), Bits(bits >> 32), Bits(0)];
                }
                // 20 bits of the fraction.
                vec![
                    Near(64, y, Bound::Relative(-19.0)),
                    Want::Range((bits >> 32) - 2, (bits >> 32) + 2),
                    Bits(0),
                ]
            },
        );
    }
}

fn trigonometric(a: f64) -> Bound {
    if a.abs() <= 2.0 * std::f64::consts::PI {
        Bound::Absolute(-20.5)
    } else {
        Bound::Absolute(-14.7)
    }
}

/// One operand a constant.
fn constants(t: &mut Table) {
    let one = all(&[&values::F32]);
    for (text, k) in [
        ("0f3F800000", 0x3f80_0000u64),
        ("0f40000000", 0x4000_0000),
        ("0f00000000", 0),
        ("0fBF000000", 0xbf00_0000),
    ] {
        let code = format!(
            "add.f32 %x, %a, {text}; mul.f32 %y, %a, {text}; fma.rn.f32 %z, %a, {text}, {text}; div.rn.f32 %w, {text}, %a;"
        );
        t.code(
            &format!("add.f32, mul.f32, fma.rn.f32, div.rn.f32 with {text}"),
            &code,
            &["b32"],
            &["b32"; 4],
            &one,
            move |i| {
                let (f, m) = (F32, Mode::Nearest);
                vec![
                    result(f, real::add(f, i[0], k, m), i),
                    result(f, real::mul(f, i[0], k, m), i),
                    result(f, real::fused(f, i[0], k, k, m), i),
                    result(f, real::quotient(f, k, i[0], m), i),
                ]
            },
        );
    }
}
