//! Atomic operations (PTX ISA 9.7.13, `atom` and `red`).

use crate::float::extreme;
use crate::form::{Table, Want, Want::Bits};
use crate::real::{self, BF16, F16, F32, F64, Format, Mode};
use crate::values::{self, D, H, W, all, cut, number, some};

const SHARED: &str = ".shared .align 16 .b8 s#[2048]; mov.u32 %r3, %tid.x; shl.b32 %r3, %r3, 5; mov.u32 %r4, s#; add.u32 %r4, %r4, %r3;\n";

/// `(space, setup, address, store, load)`.
fn spaces() -> [(&'static str, String, &'static str, bool); 4] {
    [
        (".global", String::new(), "%in", false),
        ("", String::new(), "%in", false),
        (".shared", SHARED.to_owned(), "%r4", true),
        (
            "",
            format!("{SHARED} cvt.u64.u32 %q6, %r4; cvta.shared.u64 %q5, %q6;\n"),
            "%q5",
            true,
        ),
    ]
}

/// Adds the atomic and its reduction in every space: `new` is what memory holds afterwards.
#[allow(clippy::too_many_arguments)]
fn both(
    t: &mut Table,
    op: &str,
    ty: &str,
    reg: &'static str,
    operands: usize,
    cases: &[Vec<u64>],
    red: bool,
    new: &dyn Fn(&[u64]) -> Want,
) {
    let inputs = vec![reg; operands + 1];
    let rest = if operands == 2 { "%b, %c" } else { "%b" };
    for (k, (space, setup, address, own)) in spaces().into_iter().enumerate() {
        let fill = if own {
            format!("st.shared.{reg} [%r4], %a;")
        } else {
            String::new()
        };
        let read = if own { "ld.shared" } else { "ld.global" };
        let at = if own { "%r4" } else { "%in" };
        let place = ["", ", generic to global", "", ", generic to shared"][k];
        let code = format!(
            "{setup}{fill} atom{space}.{op}.{ty} %x, [{address}], {rest}; {read}.{reg} %y, [{at}];"
        );
        t.code(
            &format!("atom{space}.{op}.{ty}{place}"),
            &code,
            &inputs,
            &[reg, reg],
            cases,
            |i| vec![Bits(i[0]), new(i)],
        )
        .alone = false;
        if red {
            let code = format!(
                "{setup}{fill} red{space}.{op}.{ty} [{address}], {rest}; {read}.{reg} %y, [{at}]; mov.{reg} %x, %a;"
            );
            t.code(
                &format!("red{space}.{op}.{ty}{place}"),
                &code,
                &inputs,
                &[reg, reg],
                cases,
                |i| vec![Bits(i[0]), new(i)],
            )
            .alone = false;
        }
    }
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Atomics");
    for (bits, reg, v) in [(32u32, "b32", &W[..]), (64, "b64", &D[..])] {
        t.needs(63, 60);
        let two = all(&[v, v]);
        let three = some(&[v, v, &v[..4]], 300);
        for op in ["and", "or", "xor"] {
            both(t, op, reg, reg, 1, &two, true, &|i| {
                Bits(match op {
                    "and" => i[0] & i[1],
                    "or" => i[0] | i[1],
                    _ => i[0] ^ i[1],
                })
            });
        }
        both(t, "exch", reg, reg, 1, &two, false, &|i| Bits(i[1]));
        both(t, "cas", reg, reg, 2, &three, false, &|i| {
            Bits(if i[0] == i[1] { i[2] } else { i[0] })
        });
        for kind in ["u", "s"] {
            let ty = format!("{kind}{bits}");
            let n = |v: u64| number(v, bits, kind == "s");
            if ty != "s64" {
                both(t, "add", &ty, reg, 1, &two, true, &|i| {
                    Bits(cut(n(i[0]) + n(i[1]), bits))
                });
            }
            both(t, "min", &ty, reg, 1, &two, true, &|i| {
                Bits(cut(n(i[0]).min(n(i[1])), bits))
            });
            both(t, "max", &ty, reg, 1, &two, true, &|i| {
                Bits(cut(n(i[0]).max(n(i[1])), bits))
            });
        }
    }
    let two = all(&[&W, &W]);
    both(t, "inc", "u32", "b32", 1, &two, true, &|i| {
        Bits(if i[0] >= i[1] { 0 } else { i[0] + 1 })
    });
    both(t, "dec", "u32", "b32", 1, &two, true, &|i| {
        Bits(if i[0] == 0 || i[0] > i[1] {
            i[1]
        } else {
            i[0] - 1
        })
    });
    t.needs(63, 70);
    both(
        t,
        "cas",
        "b16",
        "b16",
        2,
        &some(&[&H, &H, &H], 300),
        false,
        &|i| Bits(if i[0] == i[1] { i[2] } else { i[0] }),
    );
    floats(t);
    vectors(t);
    orders(t);
    wide(t);
    contended(t);
    t.needs(63, 50);
}

fn floats(t: &mut Table) {
    t.needs(63, 60);
    let nan = |f: Format, r: u64| {
        if f.is_nan(r) {
            Want::Nan(if f == F64 { 64 } else { 32 })
        } else {
            Bits(r)
        }
    };
    let two = all(&[&values::F32, &values::F32]);
    // In global memory denormals are flushed, in shared memory they are kept: only numbers that show no difference.
    let calm = |f: Format, i: &[u64]| {
        let small = |v: u64| v & (f.sign() - 1) != 0 && f.flush(v) & (f.sign() - 1) == 0;
        !small(i[0]) && !small(i[1]) && !small(real::add(f, i[0], i[1], Mode::Nearest))
    };
    let two: Vec<Vec<u64>> = two.into_iter().filter(|i| calm(F32, i)).collect();
    both(t, "add", "f32", "b32", 1, &two, true, &|i| {
        nan(F32, real::add(F32, i[0], i[1], Mode::Nearest))
    });
    both(
        t,
        "add",
        "f64",
        "b64",
        1,
        &all(&[&values::F64, &values::F64]),
        true,
        &|i| nan(F64, real::add(F64, i[0], i[1], Mode::Nearest)),
    );
    for (ty, f, v, version, sm) in [
        ("f16", F16, &values::F16, 63, 70),
        ("bf16", BF16, &values::BF16, 78, 90),
    ] {
        t.needs(version, sm);
        let v: Vec<u64> = v.iter().copied().filter(|x| !f.is_nan(*x)).collect();
        let sum = |a: u64, b: u64| real::add(f, a, b, Mode::Nearest);
        both(t, "add.noftz", ty, "b16", 1, &all(&[&v, &v]), true, &|i| {
            Bits(sum(i[0], i[1]))
        });
        let x2: Vec<u64> = v
            .iter()
            .zip(v.iter().cycle().skip(3))
            .map(|(a, b)| a << 16 | b)
            .collect();
        if ty == "f16" {
            t.needs(63, 60);
        }
        both(
            t,
            "add.noftz",
            &format!("{ty}x2"),
            "b32",
            1,
            &all(&[&x2, &x2]),
            true,
            &|i| Bits(sum(i[0] >> 16, i[1] >> 16) << 16 | sum(i[0] & 0xffff, i[1] & 0xffff)),
        );
    }
    t.needs(81, 90);
    for n in [2usize, 4] {
        let ops = ["%b", "%c", "%e", "%b"][..n].join(", ");
        let results = ["%f1", "%f2", "%f3", "%f4"][..n].join(", ");
        let list: Vec<u64> = values::F32[5..9].to_vec();
        let cases = all(&[&list, &list, &list, &list[..2]]);
        // Four floats in 32 bytes of the thread's input: a, 0, b, 0 first.
        let code = format!(
            ".reg .f32 %f<5>; atom.global.add.v{n}.f32 {{{results}}}, [%in], {{{ops}}}; mov.b32 %x, %f1; mov.b32 %y, %f2; ld.global.b32 %z, [%in]; ld.global.b32 %w, [%in+4];"
        );
        t.code(
            &format!("atom.global.add.v{n}.f32"),
            &code,
            &["b32"; 4],
            &["b32"; 4],
            &cases,
            |i| {
                let sum = |a: u64, b: u64| Bits(real::add(F32, a, b, Mode::Nearest));
                vec![Bits(i[0]), Bits(0), sum(i[0], i[1]), sum(0, i[2])]
            },
        )
        .alone = false;
        let code = format!(
            "red.global.add.v{n}.f32 [%in], {{{ops}}}; ld.global.b32 %x, [%in]; ld.global.b32 %y, [%in+4];"
        );
        t.code(
            &format!("red.global.add.v{n}.f32"),
            &code,
            &["b32"; 4],
            &["b32"; 2],
            &cases,
            |i| {
                let sum = |a: u64, b: u64| Bits(real::add(F32, a, b, Mode::Nearest));
                vec![sum(i[0], i[1]), sum(0, i[2])]
            },
        )
        .alone = false;
    }
}

/// Vectors of halves: an atomic operation for each element.
fn vectors(t: &mut Table) {
    t.needs(81, 90);
    for (ty, f, edges) in [("f16", F16, &values::F16), ("bf16", BF16, &values::BF16)] {
        let v: Vec<u64> = edges.iter().copied().filter(|x| !f.is_nan(*x)).collect();
        let pairs: Vec<u64> = v
            .iter()
            .zip(v.iter().cycle().skip(5))
            .map(|(a, b)| a << 16 | b)
            .collect();
        // Memory: the halves of a, then zeros; the operands: those of b.
        let cases = some(&[&pairs, &pairs], 60);
        for (op, which) in [("add", 0), ("min", 1), ("max", 2)] {
            let one = |a: u64, b: u64| match which {
                0 => real::add(f, a, b, Mode::Nearest),
                _ => extreme(f, which == 2, false, false, &[a, b]).unwrap_or(f.nan()),
            };
            let both =
                move |a: u64, b: u64| one(a >> 16, b >> 16) << 16 | one(a & 0xffff, b & 0xffff);
            let halves = "mov.b32 {%h1, %h2}, %b;";
            for (vector, list, results) in [
                ("v2", "%h1, %h2", "%h3, %h4"),
                ("v4", "%h1, %h2, %h1, %h2", "%h3, %h4, %h5, %h6"),
            ] {
                let name = format!("global.{op}.noftz.{vector}.{ty}");
                let code = format!(
                    "{halves} atom.{name} {{{results}}}, [%in], {{{list}}}; mov.b32 %x, {{%h3, %h4}}; ld.global.b32 %y, [%in];"
                );
                t.code(
                    &format!("atom.{name}"),
                    &code,
                    &["b32", "b32"],
                    &["b32", "b32"],
                    &cases,
                    |i| vec![Bits(i[0]), Bits(both(i[0], i[1]))],
                )
                .alone = false;
                let code =
                    format!("{halves} red.{name} [%in], {{{list}}}; ld.global.b32 %x, [%in];");
                t.code(
                    &format!("red.{name}"),
                    &code,
                    &["b32", "b32"],
                    &["b32"],
                    &cases,
                    |i| vec![Bits(both(i[0], i[1]))],
                )
                .alone = false;
            }
            let name = format!("global.{op}.noftz.v2.{ty}x2");
            let code = format!(
                "atom.{name} {{%x, %y}}, [%in], {{%b, %b}}; ld.global.b32 %z, [%in]; ld.global.b32 %w, [%in+4];"
            );
            t.code(
                &format!("atom.{name}"),
                &code,
                &["b32", "b32"],
                &["b32"; 4],
                &cases,
                |i| {
                    vec![
                        Bits(i[0]),
                        Bits(0),
                        Bits(both(i[0], i[1])),
                        Bits(both(0, i[1])),
                    ]
                },
            )
            .alone = false;
        }
    }
}

fn orders(t: &mut Table) {
    let two = all(&[&W, &W[..4]]);
    for sem in ["", ".relaxed", ".acquire", ".release", ".acq_rel"] {
        for scope in ["", ".cta", ".cluster", ".gpu", ".sys"] {
            if scope == ".cluster" {
                t.needs(78, 90)
            } else {
                t.needs(63, 70)
            }
            if !sem.is_empty() && scope.is_empty() {
                t.needs(65, 70);
            }
            let code =
                format!("atom{sem}{scope}.global.add.u32 %x, [%in], %b; ld.global.u32 %y, [%in];");
            t.code(
                &format!("atom{sem}{scope}.global.add.u32"),
                &code,
                &["b32", "b32"],
                &["b32", "b32"],
                &two,
                |i| vec![Bits(i[0]), Bits(cut(i128::from(i[0] + i[1]), 32))],
            )
            .alone = false;
            if matches!(sem, "" | ".relaxed" | ".release") {
                let code =
                    format!("red{sem}{scope}.global.xor.b32 [%in], %b; ld.global.u32 %x, [%in];");
                t.code(
                    &format!("red{sem}{scope}.global.xor.b32"),
                    &code,
                    &["b32", "b32"],
                    &["b32"],
                    &two,
                    |i| vec![Bits(i[0] ^ i[1])],
                )
                .alone = false;
            }
        }
    }
    t.needs(74, 80);
    let code = "createpolicy.fractional.L2::evict_last.b64 %q3; atom.global.add.L2::cache_hint.u32 %x, [%in], %b, %q3; red.global.add.L2::cache_hint.u32 [%in], %b, %q3; ld.global.u32 %y, [%in];";
    t.code(
        "atom.global.add.L2::cache_hint.u32, red.global.add.L2::cache_hint.u32",
        code,
        &["b32", "b32"],
        &["b32", "b32"],
        &two,
        |i| vec![Bits(i[0]), Bits(cut(i128::from(i[0] + 2 * i[1]), 32))],
    )
    .alone = false;
    t.needs(63, 50);
    t.code(
        "atom.global with the sink as result",
        "atom.global.add.u32 _, [%in], %b; ld.global.u32 %x, [%in];",
        &["b32", "b32"],
        &["b32"],
        &two,
        |i| vec![Bits(cut(i128::from(i[0] + i[1]), 32))],
    )
    .alone = false;
    if let Some(f) = t.forms.last_mut() {
        f.needs = (71, 50);
    }
}

fn wide(t: &mut Table) {
    t.needs(84, 90);
    let v = &D[6..9];
    for (space, setup, address, own) in spaces() {
        let fill = if own {
            "st.shared.v2.b64 [%r4], {%a, %b};"
        } else {
            ""
        };
        let read = if own {
            "ld.shared.v2.b64 {%z, %w}, [%r4];"
        } else {
            "ld.global.v2.b64 {%z, %w}, [%in];"
        };
        let name = if own && space.is_empty() {
            ", generic to shared"
        } else if space.is_empty() {
            ", generic to global"
        } else {
            ""
        };
        let code = format!(
            "{setup}{fill} .reg .b128 %o<3>; mov.b128 %o0, {{%c, %e}}; atom{space}.exch.b128 %o1, [{address}], %o0; mov.b128 {{%x, %y}}, %o1; {read}"
        );
        let four = all(&[v, v, v, v]);
        t.code(
            &format!("atom{space}.exch.b128{name}"),
            &code,
            &["b64"; 4],
            &["b64"; 4],
            &four,
            |i| [i[0], i[1], i[2], i[3]].map(Bits).to_vec(),
        )
        .alone = false;
        let code = format!(
            "{setup}{fill} .reg .b128 %o<4>; mov.b128 %o0, {{%c, %e}}; mov.b64 %q3, 5; mov.b128 %o2, {{%q3, %q3}}; atom{space}.cas.b128 %o1, [{address}], %o0, %o2; mov.b128 {{%x, %y}}, %o1; {read}"
        );
        t.code(
            &format!("atom{space}.cas.b128{name}"),
            &code,
            &["b64"; 4],
            &["b64"; 4],
            &four,
            |i| {
                let new = if i[0] == i[2] && i[1] == i[3] {
                    [5, 5]
                } else {
                    [i[0], i[1]]
                };
                [i[0], i[1], new[0], new[1]].map(Bits).to_vec()
            },
        )
        .alone = false;
    }
}

/// All threads at one place: the results must be a permutation, and the sum whole.
fn contended(t: &mut Table) {
    t.needs(63, 60);
    let cases: Vec<Vec<Vec<u64>>> = vec![(0..64).map(|k| vec![k * k]).collect()];
    let setup = ".shared .align 16 .b8 s#[32]; mov.u32 %r3, %tid.x; setp.eq.u32 %p1, %r3, 0; mov.u64 %q3, 0; @%p1 st.shared.b64 [s#], %q3; @%p1 st.shared.b64 [s#+8], %q3; bar.sync 0;\n";
    let total: u64 = (0..64).map(|k| k * k).sum();
    for (op, ty, want) in [
        ("add", "u32", total),
        ("max", "u32", 63 * 63),
        ("or", "b32", (0..64).fold(0, |r, k| r | (k * k))),
        ("xor", "b32", (0..64).fold(0, |r, k| r ^ (k * k))),
        ("inc", "u32", 1),
    ] {
        // Of `inc` each thread's limit is 62: 64 steps through 63 values.
        let operand = if op == "inc" { "62" } else { "%a" };
        let code = format!(
            "{setup} atom.shared.{op}.{ty} %r5, [s#], {operand}; red.shared.add.u32 [s#+8], 1; bar.sync 0; ld.shared.u32 %x, [s#]; ld.shared.u32 %y, [s#+8];"
        );
        t.block(
            &format!("atom.shared.{op}.{ty} of 64 threads"),
            &code,
            64,
            &["b32"],
            &["b32", "b32"],
            &cases,
            |i| vec![vec![Bits(want), Bits(64)]; i.len()],
        );
    }
    let code = format!(
        "{setup} cvt.rn.f32.u32 %r6, %a; atom.shared.add.f32 %r5, [s#], %r6; bar.sync 0; ld.shared.b32 %x, [s#];"
    );
    let bits = (total as f32).to_bits().into();
    t.block(
        "atom.shared.add.f32 of 64 threads",
        &code,
        64,
        &["b32"],
        &["b32"],
        &cases,
        |i| vec![vec![Bits(bits)]; i.len()],
    );
    // Adds until it succeeds.
    let code = format!(
        "{setup} ld.shared.u32 %r5, [s#]; AGAIN: mov.u32 %r6, %r5; add.u32 %r7, %r6, %a; atom.shared.cas.b32 %r5, [s#], %r6, %r7; setp.ne.u32 %p2, %r5, %r6; @%p2 bra AGAIN; bar.sync 0; ld.shared.u32 %x, [s#];"
    );
    t.block(
        "atom.shared.cas.b32 in a loop of 64 threads",
        &code,
        64,
        &["b32"],
        &["b32"],
        &cases,
        |i| vec![vec![Bits(total)]; i.len()],
    );
}
