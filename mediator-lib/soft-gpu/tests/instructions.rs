//! Instructions one by one: exact results for ordinary and edge values, in both
//! forms of execution.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::lanes::{check, run};

const W: [u64; 14] = [
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    33,
    0x7f,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];
const D: [u64; 12] = [
    0,
    1,
    2,
    63,
    64,
    0xffff_ffff,
    0x1_0000_0000,
    0x1234_5678_9abc_def0,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX - 1,
    u64::MAX,
];

fn f32s() -> Vec<u64> {
    let v = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        3.0,
        1e-40,
        -1e-40,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        1e10,
        -1e10,
        0.1,
        16_777_217.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    v.iter().map(|x: &f32| x.to_bits().into()).collect()
}

fn f64s() -> Vec<u64> {
    let v = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        2.5,
        1e-310,
        f64::MAX,
        1e100,
        -0.1,
        3e9,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    v.iter().map(|x: &f64| x.to_bits()).collect()
}

#[track_caller]
fn w2(code: &str, f: impl Fn(u32, u32) -> u32) {
    check(code, &["b32", "b32"], "b32", &[&W, &W], |v| {
        f(v[0] as u32, v[1] as u32).into()
    });
}

#[track_caller]
fn d2(code: &str, f: impl Fn(u64, u64) -> u64) {
    check(code, &["b64", "b64"], "b64", &[&D, &D], |v| f(v[0], v[1]));
}

/// Whether f32 bits are those wanted: a NaN is the canonical one, unless the
/// instruction only touches the sign.
fn same32(code: &str, got: u64, want: f32) -> bool {
    let sign_only = ["neg", "abs", "copysign"]
        .iter()
        .any(|s| code.starts_with(s));
    if want.is_nan() && !sign_only {
        return got == 0x7fff_ffff;
    }
    got == u64::from(want.to_bits())
}

#[track_caller]
fn f2(code: &str, f: impl Fn(f32, f32) -> f32) {
    let v = f32s();
    for (i, got) in run(code, &["f32", "f32"], "f32", &[&v, &v]) {
        let want = f(f32::from_bits(i[0] as u32), f32::from_bits(i[1] as u32));
        assert!(
            same32(code, got, want),
            "{code} of {i:x?}: got {got:#x}, expected {:#x}",
            want.to_bits()
        );
    }
}

#[test]
fn integer_arithmetic_32() {
    w2("add.s32 %d, %a, %b;", u32::wrapping_add);
    w2("sub.u32 %d, %a, %b;", u32::wrapping_sub);
    w2("mul.lo.s32 %d, %a, %b;", u32::wrapping_mul);
    w2("mul.hi.s32 %d, %a, %b;", |a, b| {
        ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
    });
    w2("mul.hi.u32 %d, %a, %b;", |a, b| {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    });
    w2("add.sat.s32 %d, %a, %b;", |a, b| {
        (a as i32).saturating_add(b as i32) as u32
    });
    w2("sub.sat.s32 %d, %a, %b;", |a, b| {
        (a as i32).saturating_sub(b as i32) as u32
    });
    w2("min.s32 %d, %a, %b;", |a, b| {
        (a as i32).min(b as i32) as u32
    });
    w2("max.s32 %d, %a, %b;", |a, b| {
        (a as i32).max(b as i32) as u32
    });
    w2("min.u32 %d, %a, %b;", u32::min);
    w2("max.u32 %d, %a, %b;", u32::max);
    w2("abs.s32 %d, %a;", |a, _| (a as i32).wrapping_abs() as u32);
    w2("neg.s32 %d, %a;", |a, _| a.wrapping_neg());
    w2("mad.lo.s32 %d, %a, %b, 5;", |a, b| {
        a.wrapping_mul(b).wrapping_add(5)
    });
    w2("mad.hi.u32 %d, %a, %b, 5;", |a, b| {
        (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(5)
    });
    w2("mul24.lo.s32 %d, %a, %b;", |a, b| {
        let e = |v: u32| i64::from(((v << 8) as i32) >> 8);
        (e(a) * e(b)) as u32
    });
    w2("sad.s32 %d, %a, %b, 3;", |a, b| {
        (a as i32).abs_diff(b as i32).wrapping_add(3)
    });
    let nz: Vec<u64> = W.iter().copied().filter(|&v| v != 0).collect();
    let div = |code: &str, f: &dyn Fn(u32, u32) -> u32| {
        check(code, &["b32", "b32"], "b32", &[&W, &nz], |v| {
            f(v[0] as u32, v[1] as u32).into()
        });
    };
    div("div.s32 %d, %a, %b;", &|a, b| {
        (a as i32).wrapping_div(b as i32) as u32
    });
    div("div.u32 %d, %a, %b;", &|a, b| a / b);
    div("rem.s32 %d, %a, %b;", &|a, b| {
        (a as i32).wrapping_rem(b as i32) as u32
    });
    div("rem.u32 %d, %a, %b;", &|a, b| a % b);
}

#[test]
fn integer_arithmetic_64_and_wide() {
    d2("add.s64 %d, %a, %b;", u64::wrapping_add);
    d2("sub.s64 %d, %a, %b;", u64::wrapping_sub);
    d2("mul.lo.s64 %d, %a, %b;", u64::wrapping_mul);
    d2("mul.hi.u64 %d, %a, %b;", |a, b| {
        ((u128::from(a) * u128::from(b)) >> 64) as u64
    });
    d2("mul.hi.s64 %d, %a, %b;", |a, b| {
        ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
    });
    d2("min.s64 %d, %a, %b;", |a, b| {
        (a as i64).min(b as i64) as u64
    });
    d2("max.u64 %d, %a, %b;", u64::max);
    d2("mad.lo.s64 %d, %a, %b, 7;", |a, b| {
        a.wrapping_mul(b).wrapping_add(7)
    });
    d2("abs.s64 %d, %a;", |a, _| (a as i64).wrapping_abs() as u64);
    d2("neg.s64 %d, %a;", |a, _| a.wrapping_neg());
    let nz: Vec<u64> = D.iter().copied().filter(|&v| v != 0).collect();
    check(
        "div.s64 %d, %a, %b;",
        &["b64", "b64"],
        "b64",
        &[&D, &nz],
        |v| (v[0] as i64).wrapping_div(v[1] as i64) as u64,
    );
    check(
        "rem.u64 %d, %a, %b;",
        &["b64", "b64"],
        "b64",
        &[&D, &nz],
        |v| v[0] % v[1],
    );
    check(
        "mul.wide.s32 %d, %a, %b;",
        &["b32", "b32"],
        "b64",
        &[&W, &W],
        |v| (i64::from(v[0] as i32) * i64::from(v[1] as i32)) as u64,
    );
    check(
        "mul.wide.u32 %d, %a, %b;",
        &["b32", "b32"],
        "b64",
        &[&W, &W],
        |v| v[0] * v[1],
    );
    check(
        "mad.wide.s32 %d, %a, %b, -9;",
        &["b32", "b32"],
        "b64",
        &[&W, &W],
        |v| (i64::from(v[0] as i32) * i64::from(v[1] as i32) - 9) as u64,
    );
    check(
        "mul.wide.s16 %d, %a, %b;",
        &["b16", "b16"],
        "b32",
        &[&W[..11], &W[..11]],
        |v| ((i32::from(v[0] as i16) * i32::from(v[1] as i16)) as u32).into(),
    );
    check(
        "mul.wide.u16 %d, %a, %b;",
        &["b16", "b16"],
        "b32",
        &[&W[..11], &W[..11]],
        |v| v[0] * v[1],
    );
}

#[test]
fn integer_arithmetic_16() {
    let v = &W[..11];
    let h = |code: &str, f: &dyn Fn(u16, u16) -> u16| {
        check(code, &["b16", "b16"], "b16", &[v, v], |v| {
            f(v[0] as u16, v[1] as u16).into()
        });
    };
    h("add.s16 %d, %a, %b;", &u16::wrapping_add);
    h("sub.u16 %d, %a, %b;", &u16::wrapping_sub);
    h("mul.lo.s16 %d, %a, %b;", &u16::wrapping_mul);
    h("mul.hi.s16 %d, %a, %b;", &|a, b| {
        ((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16
    });
    h("min.s16 %d, %a, %b;", &|a, b| {
        (a as i16).min(b as i16) as u16
    });
    h("max.u16 %d, %a, %b;", &u16::max);
    h("not.b16 %d, %a;", &|a, _| !a);
    h("neg.s16 %d, %a;", &|a, _| a.wrapping_neg());
    h("shr.s16 %d, %a, 3;", &|a, _| ((a as i16) >> 3) as u16);
    h("shl.b16 %d, %a, 9;", &|a, _| a << 9);
    check(
        "setp.lt.s16 %p1, %a, %b; selp.u32 %d, 1, 0, %p1;",
        &["b16", "b16"],
        "b32",
        &[v, v],
        |v| u64::from((v[0] as i16) < v[1] as i16),
    );
}

#[test]
fn logic_and_shifts() {
    w2("and.b32 %d, %a, %b;", |a, b| a & b);
    w2("or.b32 %d, %a, %b;", |a, b| a | b);
    w2("xor.b32 %d, %a, %b;", |a, b| a ^ b);
    w2("not.b32 %d, %a;", |a, _| !a);
    w2("cnot.b32 %d, %a;", |a, _| u32::from(a == 0));
    w2("shl.b32 %d, %a, %b;", |a, b| a.checked_shl(b).unwrap_or(0));
    w2("shr.u32 %d, %a, %b;", |a, b| a.checked_shr(b).unwrap_or(0));
    w2("shr.s32 %d, %a, %b;", |a, b| {
        ((a as i32) >> b.min(31)) as u32
    });
    w2("popc.b32 %d, %a;", |a, _| a.count_ones());
    w2("clz.b32 %d, %a;", |a, _| a.leading_zeros());
    w2("brev.b32 %d, %a;", |a, _| a.reverse_bits());
    w2("bfind.u32 %d, %a;", |a, _| {
        if a == 0 {
            u32::MAX
        } else {
            31 - a.leading_zeros()
        }
    });
    w2("bfind.s32 %d, %a;", |a, _| {
        let a = if (a as i32) < 0 { !a } else { a };
        if a == 0 {
            u32::MAX
        } else {
            31 - a.leading_zeros()
        }
    });
    w2("lop3.b32 %d, %a, %b, 0x0f0f0f0f, 0xe8;", |a, b| {
        (a & b) | (a & 0x0f0f_0f0f) | (b & 0x0f0f_0f0f)
    });
    w2("shf.l.wrap.b32 %d, %a, %b, 8;", |a, b| (b << 8) | (a >> 24));
    w2("shf.r.clamp.b32 %d, %a, %b, 40;", |_, b| b);
    w2("prmt.b32 %d, %a, %b, 0x5410;", |a, b| {
        (a & 0xffff) | (b << 16)
    });
    w2("bfe.u32 %d, %a, 4, 8;", |a, _| (a >> 4) & 0xff);
    w2("bfe.s32 %d, %a, 28, 8;", |a, _| ((a as i32) >> 28) as u32);
    w2("bfi.b32 %d, %a, %b, 8, 8;", |a, b| {
        (b & !0xff00) | ((a & 0xff) << 8)
    });
    w2("dp4a.u32.u32 %d, %a, %b, 1;", |a, b| {
        a.to_le_bytes()
            .iter()
            .zip(b.to_le_bytes())
            .fold(1, |s, (x, y)| s + u32::from(*x) * u32::from(y))
    });
    w2("dp4a.s32.s32 %d, %a, %b, 1;", |a, b| {
        a.to_le_bytes()
            .iter()
            .zip(b.to_le_bytes())
            .fold(1i32, |s, (x, y)| {
                s + i32::from(*x as i8) * i32::from(y as i8)
            }) as u32
    });
    d2("and.b64 %d, %a, %b;", |a, b| a & b);
    d2("xor.b64 %d, %a, %b;", |a, b| a ^ b);
    d2("brev.b64 %d, %a;", |a, _| a.reverse_bits());
    check(
        "shl.b64 %d, %a, %b;",
        &["b64", "b32"],
        "b64",
        &[&D, &W],
        |v| v[0].checked_shl(v[1] as u32).unwrap_or(0),
    );
    check(
        "shr.s64 %d, %a, %b;",
        &["b64", "b32"],
        "b64",
        &[&D, &W],
        |v| ((v[0] as i64) >> v[1].min(63)) as u64,
    );
    check("popc.b64 %d, %a;", &["b64"], "b32", &[&D], |v| {
        v[0].count_ones().into()
    });
    check("clz.b64 %d, %a;", &["b64"], "b32", &[&D], |v| {
        v[0].leading_zeros().into()
    });
}

#[test]
fn carries_chain() {
    let add = "mov.b64 {%t0, %t1}, %a; mov.b64 {%t2, %t3}, %b; add.cc.u32 %t4, %t0, %t2; addc.u32 %t5, %t1, %t3; mov.b64 %d, {%t4, %t5};";
    d2(add, u64::wrapping_add);
    let sub = "mov.b64 {%t0, %t1}, %a; mov.b64 {%t2, %t3}, %b; sub.cc.u32 %t4, %t0, %t2; subc.u32 %t5, %t1, %t3; mov.b64 %d, {%t4, %t5};";
    d2(sub, u64::wrapping_sub);
    // The flag says that nothing was borrowed, as nvcc's code for 128-bit integers has it.
    let mixed = "mov.b64 {%t0, %t1}, %a; mov.b64 {%t2, %t3}, %b; sub.cc.u32 %t4, %t0, %t2; addc.u32 %t5, 0, 0; mov.b64 %d, {%t4, %t5};";
    d2(mixed, |a, b| {
        let (d, borrowed) = (a as u32).overflowing_sub(b as u32);
        u64::from(d) | u64::from(!borrowed) << 32
    });
    let mad = "mov.b64 {%t0, %t1}, %a; mov.b64 {%t2, %t3}, %b; mul.lo.u32 %t4, %t0, %t2; mul.hi.u32 %t5, %t0, %t2;\
               mad.lo.cc.u32 %t5, %t0, %t3, %t5; madc.hi.u32 %t6, %t0, %t3, 0; mad.lo.cc.u32 %t5, %t1, %t2, %t5; mov.b64 %d, {%t4, %t5};";
    d2(mad, u64::wrapping_mul);
}

#[test]
fn comparisons_and_selection() {
    type Cmp = fn(i64, i64) -> bool;
    let ops: [(&str, Cmp); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for (name, f) in ops {
        w2(
            &format!("setp.{name}.s32 %p1, %a, %b; selp.b32 %d, 1, 0, %p1;"),
            |a, b| u32::from(f((a as i32).into(), (b as i32).into())),
        );
        w2(
            &format!("setp.{name}.u32 %p1, %a, %b; selp.b32 %d, 1, 0, %p1;"),
            |a, b| u32::from(f(a.into(), b.into())),
        );
        w2(&format!("set.{name}.u32.s32 %d, %a, %b;"), |a, b| {
            u32::from(f((a as i32).into(), (b as i32).into())).wrapping_neg()
        });
        w2(
            &format!(
                "setp.eq.u32 %p3, %a, 1; setp.{name}.and.s32 %p1|%p2, %a, %b, !%p3; selp.b32 %d, 1, 0, %p1; selp.b32 %t1, 2, 0, %p2; or.b32 %d, %d, %t1;"
            ),
            |a, b| {
                let c = f((a as i32).into(), (b as i32).into());
                let keep = a != 1;
                u32::from(c && keep) | (u32::from(!c && keep) << 1)
            },
        );
        d2(
            &format!("setp.{name}.s64 %p1, %a, %b; selp.b64 %d, 1, 0, %p1;"),
            |a, b| u64::from(f(a as i64, b as i64)),
        );
    }
    let v = f32s();
    let float = |name: &str, f: &dyn Fn(f32, f32) -> bool| {
        let code = format!("setp.{name}.f32 %p1, %a, %b; selp.b32 %d, 1, 0, %p1;");
        check(&code, &["f32", "f32"], "b32", &[&v, &v], |v| {
            f(f32::from_bits(v[0] as u32), f32::from_bits(v[1] as u32)).into()
        });
    };
    let un = |a: f32, b: f32| a.is_nan() || b.is_nan();
    float("eq", &|a, b| a == b);
    float("ne", &|a, b| !un(a, b) && a != b);
    float("lt", &|a, b| a < b);
    float("le", &|a, b| a <= b);
    float("gt", &|a, b| a > b);
    float("ge", &|a, b| a >= b);
    float("equ", &|a, b| un(a, b) || a == b);
    float("neu", &|a, b| un(a, b) || a != b);
    float("ltu", &|a, b| un(a, b) || a < b);
    float("leu", &|a, b| un(a, b) || a <= b);
    float("gtu", &|a, b| un(a, b) || a > b);
    float("geu", &|a, b| un(a, b) || a >= b);
    float("num", &|a, b| !un(a, b));
    float("nan", &un);
    w2("slct.u32.s32 %d, %a, 77, %b;", |a, b| {
        if (b as i32) >= 0 { a } else { 77 }
    });
}

#[test]
fn float_arithmetic_to_nearest() {
    f2("add.f32 %d, %a, %b;", |a, b| a + b);
    f2("sub.rn.f32 %d, %a, %b;", |a, b| a - b);
    f2("mul.f32 %d, %a, %b;", |a, b| a * b);
    f2("div.rn.f32 %d, %a, %b;", |a, b| a / b);
    f2("fma.rn.f32 %d, %a, %b, 0f3f800001;", |a, b| {
        a.mul_add(b, f32::from_bits(0x3f80_0001))
    });
    f2("sqrt.rn.f32 %d, %a;", |a, _| a.sqrt());
    f2("rcp.rn.f32 %d, %a;", |a, _| 1.0 / a);
    f2("neg.f32 %d, %a;", |a, _| -a);
    f2("abs.f32 %d, %a;", |a, _| a.abs());
    f2("min.f32 %d, %a, %b;", |a, b| {
        if a == b {
            f32::from_bits(a.to_bits() | b.to_bits())
        } else {
            a.min(b)
        }
    });
    f2("max.f32 %d, %a, %b;", |a, b| {
        if a == b {
            f32::from_bits(a.to_bits() & b.to_bits())
        } else {
            a.max(b)
        }
    });
    f2("copysign.f32 %d, %a, %b;", |a, b| b.copysign(a));
    let flush = |v: f32| {
        if v.is_subnormal() {
            0f32.copysign(v)
        } else {
            v
        }
    };
    f2("add.ftz.f32 %d, %a, %b;", |a, b| flush(flush(a) + flush(b)));
    f2("mul.ftz.f32 %d, %a, %b;", |a, b| flush(flush(a) * flush(b)));
    f2("fma.rn.ftz.f32 %d, %a, %b, %a;", |a, b| {
        flush(flush(a).mul_add(flush(b), flush(a)))
    });
    f2("add.sat.f32 %d, %a, %b;", |a, b| {
        let r = a + b;
        if r.is_nan() || r <= 0.0 {
            0.0
        } else {
            r.min(1.0)
        }
    });
    let v = f64s();
    let d = |code: &str, f: &dyn Fn(f64, f64) -> f64| {
        for (i, got) in run(code, &["f64", "f64"], "f64", &[&v, &v]) {
            let want = f(f64::from_bits(i[0]), f64::from_bits(i[1]));
            let g = f64::from_bits(got);
            assert!(
                g.to_bits() == want.to_bits() || (g.is_nan() && want.is_nan()),
                "{code} of {i:x?}: {g:e} {want:e}"
            );
        }
    };
    d("add.f64 %d, %a, %b;", &|a, b| a + b);
    d("sub.f64 %d, %a, %b;", &|a, b| a - b);
    d("mul.f64 %d, %a, %b;", &|a, b| a * b);
    d("div.rn.f64 %d, %a, %b;", &|a, b| a / b);
    d("fma.rn.f64 %d, %a, %b, %b;", &|a, b| a.mul_add(b, b));
    d("sqrt.rn.f64 %d, %a;", &|a, _| a.sqrt());
    d("neg.f64 %d, %a;", &|a, _| -a);
}

#[test]
fn directed_rounding() {
    // 1 + 2^-30 lies between two f32: towards zero and down give 1, up the next one.
    let one = u64::from(1.0f32.to_bits());
    let tiny = u64::from(2f32.powi(-30).to_bits());
    let neg = |v: u64| v ^ 0x8000_0000;
    let cases = [
        ("rn", one, neg(one)),
        ("rz", one, neg(one)),
        ("rm", one, neg(one) + 1),
        ("rp", one + 1, neg(one)),
    ];
    for (mode, up, down) in cases {
        let code = format!("add.{mode}.f32 %d, %a, %b;");
        assert_eq!(
            run(&code, &["f32", "f32"], "f32", &[&[one], &[tiny]])[0].1,
            up,
            "{mode}"
        );
        assert_eq!(
            run(&code, &["f32", "f32"], "f32", &[&[neg(one)], &[neg(tiny)]])[0].1,
            down,
            "{mode}"
        );
    }
    let third = run(
        "div.rp.f32 %d, %a, %b;",
        &["f32", "f32"],
        "f32",
        &[&[one], &[u64::from(3.0f32.to_bits())]],
    )[0]
    .1;
    let below = run(
        "div.rm.f32 %d, %a, %b;",
        &["f32", "f32"],
        "f32",
        &[&[one], &[u64::from(3.0f32.to_bits())]],
    )[0]
    .1;
    assert_eq!(third, below + 1);
    let d = run(
        "add.rp.f64 %d, %a, %b;",
        &["f64", "f64"],
        "f64",
        &[&[1.0f64.to_bits()], &[1e-300f64.to_bits()]],
    )[0]
    .1;
    assert_eq!(d, 1.0f64.to_bits() + 1);
}

#[test]
fn approximations_stay_within_their_error() {
    let v: Vec<u64> = [0.001f32, 0.1, 0.7, 1.0, 1.9, 3.0, 10.5, 50.0]
        .iter()
        .map(|x| x.to_bits().into())
        .collect();
    type Unary = fn(f64) -> f64;
    let ops: [(&str, Unary, f64); 8] = [
        ("ex2.approx.ftz.f32", f64::exp2, 2e-7),
        ("lg2.approx.f32", f64::log2, 2e-7),
        ("sin.approx.f32", f64::sin, 5e-7),
        ("cos.approx.ftz.f32", f64::cos, 5e-7),
        ("rcp.approx.f32", |a| 1.0 / a, 2e-7),
        ("rsqrt.approx.ftz.f32", |a| 1.0 / a.sqrt(), 3e-7),
        ("sqrt.approx.f32", f64::sqrt, 3e-7),
        ("tanh.approx.f32", f64::tanh, 5e-4),
    ];
    for (name, f, bound) in ops {
        for (i, got) in run(&format!("{name} %d, %a;"), &["f32"], "f32", &[&v]) {
            let want = f(f64::from(f32::from_bits(i[0] as u32)));
            let got = f64::from(f32::from_bits(got as u32));
            assert!(
                (got - want).abs() <= bound * want.abs().max(1.0),
                "{name} {i:x?}: {got} {want}"
            );
        }
    }
}

#[test]
fn conversions() {
    let f = f32s();
    let cvt = |code: &str, s: &str, d: &str, v: &[u64], want: &dyn Fn(u64) -> u64| {
        check(&format!("{code} %d, %a;"), &[s], d, &[v], |v| want(v[0]));
    };
    let f32_of = |v: u64| f32::from_bits(v as u32);
    cvt("cvt.rzi.s32.f32", "f32", "b32", &f, &|v| {
        u64::from((f32_of(v) as i32) as u32)
    });
    cvt("cvt.rzi.u32.f32", "f32", "b32", &f, &|v| {
        u64::from(f32_of(v) as u32)
    });
    cvt("cvt.rni.s32.f32", "f32", "b32", &f, &|v| {
        u64::from((f32_of(v).round_ties_even() as i32) as u32)
    });
    // PTX ISA, cvt: a NaN becomes 0, but 1 << 63 in 64 bits.
    cvt("cvt.rmi.s64.f32", "f32", "b64", &f, &|v| {
        let value = f32_of(v);
        if value.is_nan() {
            1 << 63
        } else {
            value.floor() as i64 as u64
        }
    });
    cvt("cvt.rn.f32.s32", "b32", "f32", &W, &|v| {
        (v as u32 as i32 as f32).to_bits().into()
    });
    cvt("cvt.rn.f32.u32", "b32", "f32", &W, &|v| {
        (v as u32 as f32).to_bits().into()
    });
    cvt("cvt.rn.f32.u64", "b64", "f32", &D, &|v| {
        (v as f32).to_bits().into()
    });
    cvt("cvt.rn.f64.s64", "b64", "f64", &D, &|v| {
        (v as i64 as f64).to_bits()
    });
    cvt("cvt.s64.s32", "b32", "b64", &W, &|v| {
        i64::from(v as i32) as u64
    });
    cvt("cvt.u64.u32", "b32", "b64", &W, &|v| v);
    cvt("cvt.u32.u64", "b64", "b32", &D, &|v| v & 0xffff_ffff);
    cvt("cvt.s32.s8", "b32", "b32", &W, &|v| {
        u64::from(i32::from(v as i8) as u32)
    });
    cvt("cvt.s16.s8", "b32", "b16", &W, &|v| {
        u64::from(i16::from(v as i8) as u16)
    });
    cvt("cvt.sat.u8.s32", "b32", "b32", &W, &|v| {
        (v as i32).clamp(0, 255) as u64
    });
    cvt("cvt.u16.u32", "b32", "b16", &W, &|v| v & 0xffff);
    let finite: Vec<u64> = f.iter().copied().filter(|&v| !f32_of(v).is_nan()).collect();
    cvt("cvt.f64.f32", "f32", "f64", &finite, &|v| {
        f64::from(f32_of(v)).to_bits()
    });
    cvt("cvt.rmi.f32.f32", "f32", "f32", &finite, &|v| {
        f32_of(v).floor().to_bits().into()
    });
    cvt("cvt.sat.f32.f32", "f32", "f32", &finite, &|v| {
        let x = f32_of(v);
        (if x <= 0.0 { 0.0 } else { x.min(1.0) }).to_bits().into()
    });
    let d: Vec<u64> = f64s()
        .into_iter()
        .filter(|v| !f64::from_bits(*v).is_nan())
        .collect();
    cvt("cvt.rn.f32.f64", "f64", "f32", &d, &|v| {
        (f64::from_bits(v) as f32).to_bits().into()
    });
    // Half precision: 1/3 rounds to 0x3555; 65520 overflows.
    let h: Vec<u64> = [1.0f32 / 3.0, 65519.0, 65520.0, 5.96e-8]
        .iter()
        .map(|x| x.to_bits().into())
        .collect();
    let got: Vec<u64> = run("cvt.rn.f16.f32 %d, %a;", &["f32"], "b16", &[&h])
        .iter()
        .map(|r| r.1)
        .collect();
    assert_eq!(got, [0x3555, 0x7bff, 0x7c00, 1]);
    let got = run("cvt.f32.f16 %d, %a;", &["b16"], "f32", &[&[0x3555, 0xc000]]);
    assert_eq!(f32_of(got[0].1), 0.333_251_95);
    assert_eq!(f32_of(got[1].1), -2.0);
}

#[test]
fn halves() {
    let one_two = 0x4000_3c00u64; // (1, 2)
    let three_four = 0x4400_4200u64;
    let r = run(
        "add.f16x2 %d, %a, %b;",
        &["b32", "b32"],
        "b32",
        &[&[one_two], &[three_four]],
    )[0]
    .1;
    assert_eq!(r, 0x4600_4400);
    let r = run(
        "fma.rn.f16x2 %d, %a, %b, %a;",
        &["b32", "b32"],
        "b32",
        &[&[one_two], &[three_four]],
    )[0]
    .1;
    assert_eq!(r, 0x4900_4400); // (4, 10)
    let r = run(
        "mul.bf16x2 %d, %a, %b;",
        &["b32", "b32"],
        "b32",
        &[&[0x4000_3f80], &[0x4080_4040]],
    )[0]
    .1;
    assert_eq!(r, 0x4100_4040); // (1*3, 2*4)
    let r = run("setp.lt.f16x2 %p1|%p2, %a, %b; selp.b32 %d, 1, 0, %p1; selp.b32 %t1, 2, 0, %p2; or.b32 %d, %d, %t1;",
        &["b32", "b32"], "b32", &[&[one_two], &[0x3c00_4000]])[0].1;
    assert_eq!(r, 1);
}

#[test]
fn moves_pack_and_unpack() {
    d2("mov.b64 {%t0, %t1}, %a; mov.b64 %d, {%t1, %t0};", |a, _| {
        a.rotate_left(32)
    });
    w2("mov.b32 {%h0, %h1}, %a; mov.b32 %d, {%h1, %h0};", |a, _| {
        a.rotate_left(16)
    });
    d2(
        "mov.b64 {%h0, %h1, %h2, %h3}, %a; mov.b64 %d, {%h3, %h2, %h1, %h0};",
        |a, _| (a & 0xffff) << 48 | (a >> 16 & 0xffff) << 32 | (a >> 32 & 0xffff) << 16 | a >> 48,
    );
    w2(
        "setp.ne.u32 %p1, %a, 0; mov.pred %p2, %p1; not.pred %p3, %p2; xor.pred %p4, %p2, %p3; selp.b32 %d, %b, 0, %p4;",
        |_, b| b,
    );
}
