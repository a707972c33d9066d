//! Conversions and moves (PTX ISA 9.7.9).

use crate::float::result;
use crate::form::{Table, Want::Bits};
use crate::real::{self, BF16, E5M2, F16, F32, F64, Format, MODES, Mode, TF32};
use crate::values::{self, D, H, W, all, cut, number, random, some};

const INTEGERS: [(&str, u32, bool, &str); 8] = [
    ("u8", 8, false, "b16"),
    ("s8", 8, true, "b16"),
    ("u16", 16, false, "b16"),
    ("s16", 16, true, "b16"),
    ("u32", 32, false, "b32"),
    ("s32", 32, true, "b32"),
    ("u64", 64, false, "b64"),
    ("s64", 64, true, "b64"),
];

const FLOATS: [(&str, Format, &str, &[u64]); 4] = [
    ("f16", F16, "b16", &values::F16),
    ("bf16", BF16, "b16", &values::BF16),
    ("f32", F32, "b32", &values::F32),
    ("f64", F64, "b64", &values::F64),
];

fn size(reg: &str) -> u32 {
    match reg {
        "b16" => 16,
        "b32" => 32,
        _ => 64,
    }
}

pub(crate) fn values_of(reg: &str) -> &'static [u64] {
    match reg {
        "b16" => &H,
        "b32" => &W,
        _ => &D,
    }
}

fn bounds(bits: u32, is_signed: bool) -> (i128, i128) {
    if is_signed {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Conversion");
    integers(t);
    integers_and_floats(t);
    floats(t);
    finite(t);
    packed(t);
    small_floats(t);
    t.needs(63, 50);
}

fn integers(t: &mut Table) {
    for (dty, dbits, dsigned, dreg) in INTEGERS {
        for (sty, sbits, ssigned, sreg) in INTEGERS {
            let one = all(&[values_of(sreg)]);
            t.bits(&format!("cvt.{dty}.{sty}"), &[sreg], dreg, &one, move |i| {
                let v = number(i[0], sbits, ssigned);
                // A narrow result is extended in its register, as its type says.
                cut(number(cut(v, dbits), dbits, dsigned), size(dreg))
            });
            // `.sat` is there where something can be cut.
            let (lo, hi) = bounds(sbits, ssigned);
            let (least, most) = bounds(dbits, dsigned);
            if least <= lo && hi <= most {
                continue;
            }
            t.bits(
                &format!("cvt.sat.{dty}.{sty}"),
                &[sreg],
                dreg,
                &one,
                move |i| {
                    let (lo, hi) = bounds(dbits, dsigned);
                    cut(number(i[0], sbits, ssigned).clamp(lo, hi), size(dreg))
                },
            );
        }
    }
}

fn integers_and_floats(t: &mut Table) {
    for (fty, f, freg, fv) in FLOATS {
        for (ity, bits, is_signed, ireg) in INTEGERS {
            if f == BF16 && bits == 8 {
                continue;
            }
            if f == BF16 {
                t.needs(78, 90)
            } else if f == F16 {
                t.needs(63, 53)
            } else {
                t.needs(63, 50)
            }
            for (name, mode) in MODES {
                let mut v = values_of(ireg).to_vec();
                v.extend(
                    random(12, 21)
                        .into_iter()
                        .map(|x| cut((x >> (x & 31)).into(), size(ireg))),
                );
                t.bits(
                    &format!("cvt.{name}.{fty}.{ity}"),
                    &[ireg],
                    freg,
                    &all(&[&v]),
                    move |i| f.round(&real::integer(number(i[0], bits, is_signed)), false, mode),
                );
                if mode == Mode::Nearest && f != BF16 {
                    t.bits(
                        &format!("cvt.{name}.sat.{fty}.{ity}"),
                        &[ireg],
                        freg,
                        &all(&[&v]),
                        move |i| {
                            f.saturate(f.round(
                                &real::integer(number(i[0], bits, is_signed)),
                                false,
                                mode,
                            ))
                        },
                    );
                }
            }
            for (name, mode) in [
                ("rni", Mode::Nearest),
                ("rzi", Mode::Zero),
                ("rmi", Mode::Down),
                ("rpi", Mode::Up),
            ] {
                for ftz in [false, true] {
                    if ftz && f != F32 {
                        continue;
                    }
                    let mut v = fv.to_vec();
                    v.extend(random(30, 22).into_iter().map(|x| {
                        // Between -2^70 and 2^70, most of them small.
                        let x = (x % 100_000) as f64 / 8.0 * ((x >> 40) % 60) as f64 - 30_000.0;
                        f.round(&F64.value(x.to_bits()), false, Mode::Nearest)
                    }));
                    for sat in ["", ".sat"] {
                        if f == BF16 && sat == ".sat" {
                            continue;
                        }
                        let opcode = format!(
                            "cvt.{name}{}{sat}.{ity}.{fty}",
                            if ftz { ".ftz" } else { "" }
                        );
                        let v: Vec<u64> = v.iter().copied().filter(|x| !f.is_nan(*x)).collect();
                        t.bits(&opcode, &[freg], ireg, &all(&[&v]), move |i| {
                            let a = if ftz { f.flush(i[0]) } else { i[0] };
                            let (lo, hi) = bounds(bits, is_signed);
                            // Beyond the limits it is clamped, with `.sat` or without.
                            let v = real::to_integer(&f.value(a), mode).unwrap_or(0);
                            cut(v.clamp(lo, hi), size(ireg))
                        });
                    }
                }
            }
            // A NaN is 0; from f64, and to 64 bits, the greatest bit alone.
            let top = if f == F64 || bits == 64 {
                1u64 << (bits - 1)
            } else {
                0
            };
            let nans = [
                f.infinity() | 1,
                f.infinity() | f.sign() | 1 << (f.fraction - 1),
            ];
            t.bits(
                &format!("cvt.rzi.{ity}.{fty} of NaNs"),
                &[freg],
                ireg,
                &all(&[&nans]),
                move |_| cut(number(top, bits, is_signed), size(ireg)),
            )
            .code = format!("cvt.rzi.{ity}.{fty} %x, %a;");
        }
    }
    t.needs(63, 50);
}

fn floats(t: &mut Table) {
    for (dty, d, dreg, _) in FLOATS {
        for (sty, s, sreg, sv) in FLOATS {
            let half = [d, s].contains(&BF16);
            if half {
                t.needs(78, 90)
            } else if [d, s].contains(&F16) {
                t.needs(63, 53)
            } else {
                t.needs(63, 50)
            }
            let mut v = sv.to_vec();
            v.extend(random(60, 31).into_iter().map(|x| {
                // Of the target's range, with a fraction beyond its own.
                let x = f64::from_bits(
                    (x & 0x800f_ffff_ffff_ffff) | ((1023 - 30 + (x >> 52) % 60) << 52),
                );
                s.round(&F64.value(x.to_bits()), false, Mode::Nearest)
            }));
            let one = all(&[&v]);
            if d == s {
                for (name, mode) in [
                    ("rni", Mode::Nearest),
                    ("rzi", Mode::Zero),
                    ("rmi", Mode::Down),
                    ("rpi", Mode::Up),
                ] {
                    for (ftz, sat) in [(false, false), (true, false), (false, true), (true, true)] {
                        if (ftz && d != F32) || d == BF16 {
                            continue;
                        }
                        let opcode = format!(
                            "cvt.{name}{}{}.{dty}.{sty}",
                            if ftz { ".ftz" } else { "" },
                            if sat { ".sat" } else { "" }
                        );
                        t.op(&opcode, &[sreg], dreg, &one, move |i| {
                            let a = if ftz { s.flush(i[0]) } else { i[0] };
                            let r = match s.value(a) {
                                real::Value::Number(n, ..) => {
                                    let whole = real::to_integer(&s.value(a), mode).unwrap_or(0);
                                    if whole.unsigned_abs() >= 1 << 100 {
                                        a // already whole
                                    } else {
                                        d.round(&real::integer(whole), false, mode)
                                            | if n { d.sign() } else { 0 }
                                    }
                                }
                                v => d.round(&v, false, mode),
                            };
                            if sat {
                                Bits(d.saturate(r))
                            } else {
                                result(d, r, i)
                            }
                        });
                    }
                }
            }
            let widening = d.exponent >= s.exponent && d.fraction >= s.fraction;
            for (name, mode) in MODES {
                if widening && mode != Mode::Nearest {
                    continue;
                }
                for (ftz, sat) in [(false, false), (true, false), (false, true), (true, true)] {
                    // `.ftz` is for f32 on either side.
                    if (ftz && d != F32 && s != F32) || (half && (ftz || sat)) {
                        continue;
                    }
                    if half
                        && !widening
                        && !(matches!(mode, Mode::Nearest) || (mode == Mode::Zero && s == F32))
                    {
                        continue;
                    }
                    if ftz && (d == F16 || s == F16 || d == F64) && mode != Mode::Nearest {
                        continue;
                    }
                    let opcode = format!(
                        "cvt{}{}{}.{dty}.{sty}",
                        if widening {
                            String::new()
                        } else {
                            format!(".{name}")
                        },
                        if ftz { ".ftz" } else { "" },
                        if sat { ".sat" } else { "" }
                    );
                    if d == s && !sat {
                        continue;
                    }
                    let one = one.clone();
                    t.op(&opcode, &[sreg], dreg, &one, move |i| {
                        let a = if ftz && s == F32 { s.flush(i[0]) } else { i[0] };
                        let mut r = d.round(&s.value(a), false, mode);
                        if ftz && d == F32 {
                            r = d.flush(r);
                        }
                        if sat {
                            Bits(d.saturate(r))
                        } else if d == F64 && d.is_nan(r) {
                            crate::form::Want::Nan(64)
                        } else {
                            result(d, r, i)
                        }
                    });
                }
            }
        }
    }
    // `.relu`, and bf16 from f32, on sm_80.
    t.needs(70, 80);
    let v = [
        &values::F32[..],
        &[
            0x3f80_8000,
            0x3f81_8000,
            0x477f_f000,
            0xc77f_f001,
            0x3380_0000,
        ],
    ]
    .concat();
    for (dty, d) in [("f16", F16), ("bf16", BF16)] {
        for (name, mode) in [("rn", Mode::Nearest), ("rz", Mode::Zero)] {
            for relu in [false, true] {
                let opcode = format!("cvt.{name}{}.{dty}.f32", if relu { ".relu" } else { "" });
                if d == F16 && !relu {
                    continue;
                }
                t.bits(&opcode, &["b32"], "b16", &all(&[&v]), move |i| {
                    let r = d.round(&F32.value(i[0]), false, mode);
                    if relu { d.relu(r) } else { r }
                });
            }
        }
    }
    t.bits(
        "cvt.rna.tf32.f32",
        &["b32"],
        "b32",
        &all(&[&v
            .iter()
            .copied()
            .filter(|v| !F32.is_nan(*v))
            .collect::<Vec<_>>()]),
        |i| TF32.round(&F32.value(i[0]), false, Mode::Away) << 13,
    );
    t.needs(78, 90);
    for (name, mode) in [("rn", Mode::Nearest), ("rz", Mode::Zero)] {
        for relu in [false, true] {
            let opcode = format!("cvt.{name}{}.tf32.f32", if relu { ".relu" } else { "" });
            let v: Vec<u64> = v.iter().copied().filter(|v| !F32.is_nan(*v)).collect();
            t.bits(&opcode, &["b32"], "b32", &all(&[&v]), move |i| {
                let r = TF32.round(&F32.value(i[0]), false, mode);
                (if relu { TF32.relu(r) } else { r }) << 13
            });
        }
    }
}

/// `.satfinite`: beyond the greatest number it is that one.
fn finite(t: &mut Table) {
    t.needs(81, 80);
    let v = [&values::F32[..], &[0x477f_f000, 0xc77f_f001, 0x477f_efff]].concat();
    let two = some(&[&v, &v], 150);
    let bound = |f: Format, r: u64| {
        if r & !f.sign() == f.infinity() {
            r - 1
        } else {
            r
        }
    };
    for (ty, f) in [("f16", F16), ("bf16", BF16)] {
        for (name, mode) in [("rn", Mode::Nearest), ("rz", Mode::Zero)] {
            for relu in ["", ".relu"] {
                let one = move |v: u64| {
                    let r = bound(f, f.round(&F32.value(v), false, mode));
                    if relu.is_empty() { r } else { f.relu(r) }
                };
                t.bits(
                    &format!("cvt.{name}{relu}.satfinite.{ty}.f32"),
                    &["b32"],
                    "b16",
                    &all(&[&v]),
                    move |i| one(i[0]),
                );
                t.bits(
                    &format!("cvt.{name}{relu}.satfinite.{ty}x2.f32"),
                    &["b32"; 2],
                    "b32",
                    &two,
                    move |i| one(i[0]) << 16 | one(i[1]),
                );
            }
        }
    }
    let numbers: Vec<u64> = v.iter().copied().filter(|v| !F32.is_nan(*v)).collect();
    t.bits(
        "cvt.rna.satfinite.tf32.f32",
        &["b32"],
        "b32",
        &all(&[&numbers]),
        move |i| bound(TF32, TF32.round(&F32.value(i[0]), false, Mode::Away)) << 13,
    );
    t.needs(63, 50);
}

fn packed(t: &mut Table) {
    t.needs(70, 80);
    let v = [
        &values::F32[..],
        &[0x3f80_8000, 0x3f81_8000, 0x477f_f000, 0xc77f_f001],
    ]
    .concat();
    let two = all(&[&v, &v]);
    for (dty, d) in [("f16x2", F16), ("bf16x2", BF16)] {
        for (name, mode) in [("rn", Mode::Nearest), ("rz", Mode::Zero)] {
            for relu in [false, true] {
                let opcode = format!("cvt.{name}{}.{dty}.f32", if relu { ".relu" } else { "" });
                t.bits(&opcode, &["b32", "b32"], "b32", &two, move |i| {
                    let part = |v: u64| {
                        let r = d.round(&F32.value(v), false, mode);
                        if relu { d.relu(r) } else { r }
                    };
                    part(i[0]) << 16 | part(i[1])
                });
            }
        }
    }
    t.needs(65, 72);
    for (ty, bits, is_signed) in [("u16", 16u32, false), ("s16", 16, true)] {
        t.bits(
            &format!("cvt.pack.sat.{ty}.s32"),
            &["b32", "b32"],
            "b32",
            &all(&[&W, &W]),
            move |i| {
                let (lo, hi) = bounds(bits, is_signed);
                let part = |v: u64| cut(number(v, 32, true).clamp(lo, hi), bits);
                part(i[0]) << bits | part(i[1])
            },
        );
    }
    for (ty, bits, is_signed) in [
        ("u8", 8u32, false),
        ("s8", 8, true),
        ("u4", 4, false),
        ("s4", 4, true),
        ("u2", 2, false),
        ("s2", 2, true),
    ] {
        if bits < 8 {
            t.needs(65, 75)
        } else {
            t.needs(65, 72)
        }
        t.bits(
            &format!("cvt.pack.sat.{ty}.s32.b32"),
            &["b32"; 3],
            "b32",
            &all(&[&W, &W, &W[..8]]),
            move |i| {
                let (lo, hi) = bounds(bits, is_signed);
                let part = |v: u64| cut(number(v, 32, true).clamp(lo, hi), bits);
                cut(
                    ((i[2] << (2 * bits)) | part(i[0]) << bits | part(i[1])).into(),
                    32,
                )
            },
        );
    }
}

/// `.e4m3`: no infinity, the greatest number is 448, a NaN has all bits set.
fn e4m3(v: u64) -> f64 {
    let (e, m) = (v >> 3 & 15, v & 7);
    let magnitude = match (e, m) {
        (15, 7) => f64::NAN,
        (0, m) => m as f64 / 512.0,
        (e, m) => (1.0 + m as f64 / 8.0) * (e as f64 - 7.0).exp2(),
    };
    if v & 0x80 != 0 { -magnitude } else { magnitude }
}

fn nearest_e4m3(x: f64) -> u64 {
    if x.is_nan() {
        return 0x7f;
    }
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    // Of the two next to it the nearer one, of equal ones the even one; beyond the greatest, that.
    let best = (0..0x7fu64).min_by(|a, b| {
        let d = |v: &u64| (e4m3(*v) - x.abs()).abs();
        d(a).total_cmp(&d(b)).then((a & 1).cmp(&(b & 1)))
    });
    sign | if x.is_infinite() {
        0x7e
    } else {
        best.unwrap_or(0)
    }
}

fn nearest_e5m2(x: u64, from: Format) -> u64 {
    let r = E5M2.round(&from.value(x), false, Mode::Nearest);
    if E5M2.is_nan(r) {
        0x7f
    } else if r & 0x7f == 0x7c {
        r - 1
    } else {
        r
    }
}

fn small_floats(t: &mut Table) {
    t.needs(78, 90);
    let v: Vec<u64> = [
        0.0f32,
        -0.0,
        1.0,
        -1.0625,
        0.001_953_125,
        0.000_976_562_5,
        0.002_9,
        3.3,
        447.0,
        464.0,
        465.0,
        -1e9,
        57344.0,
        61440.0,
        1e-6,
        17.0,
        19.0,
    ]
    .iter()
    .map(|x| u64::from(x.to_bits()))
    .chain([0x7f80_0000, 0xff80_0000, 0x7fc0_0000])
    .collect();
    let relu = |on: bool, r: u64| {
        if on && r & 0x80 != 0 && r & 0x7f <= 0x7e {
            0
        } else {
            r
        }
    };
    for (ty, is_e4m3) in [("e4m3x2", true), ("e5m2x2", false)] {
        for on in [false, true] {
            let m = if on { ".relu" } else { "" };
            let one = move |bits: u64, f: Format| {
                let r = if is_e4m3 {
                    nearest_e4m3(f.to_f64(bits))
                } else {
                    nearest_e5m2(bits, f)
                };
                relu(on, r)
            };
            t.bits(
                &format!("cvt.rn.satfinite{m}.{ty}.f32"),
                &["b32", "b32"],
                "b16",
                &all(&[&v, &v]),
                move |i| one(i[0], F32) << 8 | one(i[1], F32),
            );
            let h = values::F16.to_vec();
            let x2: Vec<u64> = h
                .iter()
                .zip(h.iter().cycle().skip(3))
                .map(|(a, b)| a << 16 | b)
                .collect();
            t.bits(
                &format!("cvt.rn.satfinite{m}.{ty}.f16x2"),
                &["b32"],
                "b16",
                &all(&[&x2]),
                move |i| one(i[0] >> 16, F16) << 8 | one(i[0] & 0xffff, F16),
            );
            let pairs: Vec<u64> = (0..256).map(|k| k << 8 | (255 - k)).collect();
            t.bits(
                &format!("cvt.rn{m}.f16x2.{ty}"),
                &["b16"],
                "b32",
                &all(&[&pairs]),
                move |i| {
                    let part = |v: u64| {
                        let x = if is_e4m3 { e4m3(v) } else { E5M2.to_f64(v) };
                        if x.is_nan() {
                            return F16.nan();
                        }
                        let r = F16.round(&F64.value(x.to_bits()), false, Mode::Nearest);
                        if on { F16.relu(r) } else { r }
                    };
                    part(i[0] >> 8) << 16 | part(i[0] & 0xff)
                },
            );
        }
    }
}
