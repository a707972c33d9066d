//! Operations of a warp, barriers and fences (PTX ISA 9.7.9 `shfl`, 9.7.13).

use crate::form::{Table, Want, Want::Bits};
use crate::values::{D, W, cut, random, signed};

/// Inputs of a warp: `n` values a lane.
fn lanes(n: usize, seed: u64, mask: u64) -> Vec<Vec<u64>> {
    random(32 * n, seed)
        .chunks(n)
        .map(|c| c.iter().map(|v| v & mask).collect())
        .collect()
}

fn each(n: usize, f: impl Fn(usize) -> Vec<Want>) -> Vec<Vec<Want>> {
    (0..n).map(f).collect()
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Warps and barriers");
    shuffles(t);
    votes(t);
    without_sync(t);
    matches(t);
    reductions(t);
    members(t);
    barriers(t);
    fences(t);
    t.needs(63, 50);
}

/// Source lane and whether it is in range (PTX ISA, `shfl`).
fn source(mode: &str, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let most = (lane & segment) | (clamp & !segment);
    let least = lane & segment;
    let (j, ok) = match mode {
        "up" => {
            let j = lane as i32 - b as i32;
            (j, j >= most as i32)
        }
        "down" => ((lane + b) as i32, lane + b <= most),
        "bfly" => ((lane ^ b) as i32, lane ^ b <= most),
        _ => {
            let j = least | (b & !segment);
            (j as i32, j <= most)
        }
    };
    (if ok { j as u32 } else { lane }, ok)
}

fn shuffles(t: &mut Table) {
    t.needs(63, 50);
    for mode in ["up", "down", "bfly", "idx"] {
        for b in [0u32, 1, 3, 8, 16, 31] {
            for c in [0x1f, 0x00, 0x1c1f, 0x1800, 0x181f, 0x0f, 0x100f] {
                let cases = [lanes(1, u64::from(b + 40 * c), 0xffff_ffff)];
                let code = format!(
                    "shfl.sync.{mode}.b32 %x|%p1, %a, {b}, {c}, -1; selp.u32 %y, 1, 0, %p1;"
                );
                t.block(
                    &format!("shfl.sync.{mode}.b32 by {b}, {c:#x}"),
                    &code,
                    32,
                    &["b32"],
                    &["b32", "b32"],
                    &cases,
                    |i| {
                        each(32, |l| {
                            let (from, ok) = source(mode, l as u32, b, c);
                            vec![Bits(i[from as usize][0]), Bits(ok.into())]
                        })
                    },
                );
            }
        }
        // The lane from a register, of lanes of the upper half only.
        let cases = [lanes(2, 77, 0xffff_ffff), lanes(2, 78, 0x1f)];
        let code = format!(
            "mov.u32 %x, 0; mov.u32 %r5, %laneid; setp.ge.u32 %p1, %r5, 16; @%p1 shfl.sync.{mode}.b32 %x, %a, %b, 0x1f0f, 0xffff0000;"
        );
        let c = 0x100f;
        t.block(
            &format!("shfl.sync.{mode}.b32 by a register, of half a warp"),
            &code.replace("0x1f0f", "0x100f"),
            32,
            &["b32", "b32"],
            &["b32"],
            &cases,
            |i| {
                each(32, |l| {
                    if l < 16 {
                        return vec![Bits(0)];
                    }
                    let (from, _) = source(mode, l as u32, i[l][1] as u32, c);
                    // A lane that does not take part has no value to give.
                    if from < 16 {
                        vec![Want::Range(0, 0xffff_ffff)]
                    } else {
                        vec![Bits(i[from as usize][0])]
                    }
                })
            },
        );
    }
}

/// `shfl` and `vote` as they were before PTX 6.0: all lanes that run take part.
fn without_sync(t: &mut Table) {
    t.needs(60, 50);
    for mode in ["up", "down", "bfly", "idx"] {
        for (b, c) in [(1u32, 0x1fu32), (3, 0x1c1f), (31, 0), (8, 0x181f)] {
            let c = if mode == "up" { c & !0x1f } else { c };
            let cases = [lanes(1, u64::from(b + 40 * c), 0xffff_ffff)];
            let code = format!("shfl.{mode}.b32 %x|%p1, %a, {b}, {c}; selp.u32 %y, 1, 0, %p1;");
            t.block(
                &format!("shfl.{mode}.b32 by {b}, {c:#x}"),
                &code,
                32,
                &["b32"],
                &["b32", "b32"],
                &cases,
                |i| {
                    each(32, |l| {
                        let (from, ok) = source(mode, l as u32, b, c);
                        vec![Bits(i[from as usize][0]), Bits(ok.into())]
                    })
                },
            );
        }
    }
    let of = |bits: u32| {
        (0..32)
            .map(|l| vec![u64::from(bits >> l & 1)])
            .collect::<Vec<_>>()
    };
    let cases = [0, u32::MAX, 1, 0x8000_0000, 0x0000_ffff, 0x00ff_f00f].map(of);
    // Of the lanes from 8 on: the others do not run it.
    let running = |i: &[Vec<u64>]| (8..32).filter(|l| i[*l][0] != 0).count();
    for op in ["all", "any", "uni", "ballot"] {
        let (ty, d) = if op == "ballot" {
            ("b32", "%x")
        } else {
            ("pred", "%p3")
        };
        let result = if op == "ballot" {
            ""
        } else {
            "selp.u32 %x, 1, 0, %p3;"
        };
        let code = format!(
            "mov.u32 %x, 77; setp.ne.u32 %p2, %a, 0; mov.u32 %r5, %laneid; setp.lt.u32 %p1, %r5, 8; @%p1 bra PAST;\n\
             vote.{op}.{ty} {d}, %p2; {result} PAST:"
        );
        t.block(
            &format!("vote.{op}.{ty}, of lanes that run"),
            &code,
            32,
            &["b32"],
            &["b32"],
            &cases,
            |i| {
                let n = running(i);
                let value = match op {
                    "all" => u64::from(n == 24),
                    "any" => u64::from(n != 0),
                    "uni" => u64::from(n == 0 || n == 24),
                    _ => (8..32).filter(|l| i[*l][0] != 0).fold(0, |r, l| r | 1 << l),
                };
                each(32, |l| vec![Bits(if l < 8 { 77 } else { value })])
            },
        );
    }
}

fn votes(t: &mut Table) {
    t.needs(63, 50);
    let of = |bits: u32| {
        (0..32)
            .map(|l| vec![u64::from(bits >> l & 1)])
            .collect::<Vec<_>>()
    };
    for (k, members) in [0xffff_ffffu32, 0x0000_ffff, 0xa5a5_0ff0, 0x8000_0000]
        .into_iter()
        .enumerate()
    {
        let cases: Vec<_> = [0, u32::MAX, 1, 0x8000_0000, 0xff00_00ff, members, !members]
            .map(of)
            .to_vec();
        let code = |op: &str, d: &str| {
            format!(
                "mov.u32 %r5, %lanemask_eq; and.b32 %r5, %r5, {members:#x}; setp.ne.u32 %p1, %r5, 0; setp.ne.u32 %p2, %a, 0; mov.u32 %x, 77; setp.eq.u32 %p3, 0, 1;\n\
                 @%p1 vote.sync.{op} {d}, %p2, {members:#x};"
            )
        };
        let inside = move |l: usize| members >> l & 1 != 0;
        let seen = move |i: &[Vec<u64>]| {
            (0..32)
                .filter(|l| inside(*l) && i[*l][0] != 0)
                .fold(0u64, |r, l| r | 1 << l)
        };
        t.block(
            &format!("vote.sync.ballot.b32 of {members:#x}"),
            &code("ballot.b32", "%x"),
            32,
            &["b32"],
            &["b32"],
            &cases,
            |i| each(32, |l| vec![Bits(if inside(l) { seen(i) } else { 77 })]),
        );
        for op in ["all", "any", "uni"] {
            let text = code(&format!("{op}.pred"), "%p3") + " selp.u32 %x, 1, 0, %p3;";
            t.block(
                &format!("vote.sync.{op}.pred of {members:#x}"),
                &text,
                32,
                &["b32"],
                &["b32"],
                &cases,
                |i| {
                    let (s, all) = (seen(i), u64::from(members));
                    let holds = match op {
                        "all" => s == all,
                        "any" => s != 0,
                        _ => s == 0 || s == all,
                    };
                    each(32, |l| vec![Bits((inside(l) && holds).into())])
                },
            );
        }
        if k == 0 {
            let text =
                "setp.ne.u32 %p2, %a, 0; vote.sync.all.pred %p3, !%p2, -1; selp.u32 %x, 1, 0, %p3;";
            t.block(
                "vote.sync.all.pred of an inverted predicate",
                text,
                32,
                &["b32"],
                &["b32"],
                &cases,
                |i| each(32, |_| vec![Bits((seen(i) == 0).into())]),
            );
        }
    }
}

fn matches(t: &mut Table) {
    t.needs(63, 70);
    for (bits, reg, v) in [(32, "b32", &W[..]), (64, "b64", &D[..])] {
        let pick = |k: usize| {
            (0..32)
                .map(|l| vec![v[(l * l / (k + 1)) % (k + 2)]])
                .collect::<Vec<_>>()
        };
        let mut cases: Vec<_> = (0..4).map(pick).collect();
        cases.push(vec![vec![v[3]]; 32]);
        t.block(
            &format!("match.any.sync.b{bits}"),
            &format!("match.any.sync.b{bits} %x, %a, -1;"),
            32,
            &[reg],
            &["b32"],
            &cases,
            |i| {
                each(32, |l| {
                    vec![Bits(
                        (0..32).filter(|m| i[*m] == i[l]).fold(0, |r, m| r | 1 << m),
                    )]
                })
            },
        );
        let code = format!("match.all.sync.b{bits} %x|%p1, %a, -1; selp.u32 %y, 1, 0, %p1;");
        t.block(
            &format!("match.all.sync.b{bits}"),
            &code,
            32,
            &[reg],
            &["b32", "b32"],
            &cases,
            |i| {
                let same = i.iter().all(|v| *v == i[0]);
                each(32, |_| {
                    vec![Bits(if same { 0xffff_ffff } else { 0 }), Bits(same.into())]
                })
            },
        );
    }
}

fn reductions(t: &mut Table) {
    t.needs(70, 80);
    let cases: Vec<_> = vec![
        lanes(1, 3, 0xffff_ffff),
        lanes(1, 4, 0xff),
        (0..32).map(|l| vec![W[l % 12]]).collect(),
    ];
    for (op, ty) in [
        ("add", "u32"),
        ("add", "s32"),
        ("min", "u32"),
        ("min", "s32"),
        ("max", "u32"),
        ("max", "s32"),
        ("and", "b32"),
        ("or", "b32"),
        ("xor", "b32"),
    ] {
        for members in [0xffff_ffffu32, 0x0ff0_00f1] {
            let code = format!(
                "mov.u32 %r5, %lanemask_eq; and.b32 %r5, %r5, {members:#x}; setp.ne.u32 %p1, %r5, 0; mov.u32 %x, 0; @%p1 redux.sync.{op}.{ty} %x, %a, {members:#x};"
            );
            t.block(
                &format!("redux.sync.{op}.{ty} of {members:#x}"),
                &code,
                32,
                &["b32"],
                &["b32"],
                &cases,
                |i| {
                    let v = (0..32).filter(|l| members >> l & 1 != 0).map(|l| {
                        if ty == "s32" {
                            signed(i[l][0], 32)
                        } else {
                            i[l][0].into()
                        }
                    });
                    let r = v.reduce(|a, b| match op {
                        "add" => a + b,
                        "min" => a.min(b),
                        "max" => a.max(b),
                        "and" => a & b,
                        "or" => a | b,
                        _ => a ^ b,
                    });
                    each(32, |l| {
                        vec![Bits(if members >> l & 1 != 0 {
                            cut(r.unwrap_or(0), 32)
                        } else {
                            0
                        })]
                    })
                },
            );
        }
    }
}

fn members(t: &mut Table) {
    let cases = [lanes(1, 5, 0xff)];
    t.needs(63, 50);
    let code = "mov.u32 %r5, %laneid; setp.lt.u32 %p1, %r5, 11; mov.u32 %x, 0; @%p1 bra LOW; activemask.b32 %x; LOW: bar.warp.sync -1;";
    t.block(
        "activemask.b32",
        code,
        32,
        &["b32"],
        &["b32"],
        &cases,
        |_| each(32, |l| vec![Bits(if l < 11 { 0 } else { 0xffff_f800 })]),
    );
    // A value handed on through shared memory between the lanes of a warp.
    let code = ".shared .align 4 .b8 s#[128]; mov.u32 %r5, %laneid; shl.b32 %r6, %r5, 2; mov.u32 %r7, s#; add.u32 %r6, %r6, %r7; st.shared.u32 [%r6], %a; bar.warp.sync 0xffffffff; xor.b32 %r5, %r5, 1; shl.b32 %r5, %r5, 2; add.u32 %r5, %r5, %r7; ld.shared.u32 %x, [%r5];";
    t.block("bar.warp.sync", code, 32, &["b32"], &["b32"], &cases, |i| {
        each(32, |l| vec![Bits(i[l ^ 1][0])])
    });
    t.needs(80, 90);
    for (members, first) in [("-1", 0u64), ("0xffffff00", 8)] {
        let code = format!(
            "mov.u32 %r5, %laneid; setp.ge.u32 %p1, %r5, {first}; mov.u32 %x, 99; mov.u32 %y, 0; setp.eq.u32 %p2, 0, 1; @%p1 elect.sync %x|%p2, {members}; @%p2 mov.u32 %y, 1;"
        );
        t.block(
            &format!("elect.sync of {members}"),
            &code,
            32,
            &["b32"],
            &["b32", "b32"],
            &cases,
            |_| {
                each(32, |l| {
                    let l = l as u64;
                    vec![
                        Bits(if l < first { 99 } else { first }),
                        Bits((l == first).into()),
                    ]
                })
            },
        );
    }
}

fn barriers(t: &mut Table) {
    let inputs: Vec<Vec<u64>> = (0..96).map(|k| vec![(k * 37) % 96]).collect();
    let cases = [inputs];
    // Each thread reads what another wrote.
    let exchange = |bar: &str| {
        format!(
            ".shared .align 4 .b8 s#[384]; mov.u32 %r5, %tid.x; shl.b32 %r6, %r5, 2; mov.u32 %r7, s#; add.u32 %r6, %r6, %r7; st.shared.u32 [%r6], %a; {bar} shl.b32 %r5, %a, 2; add.u32 %r5, %r5, %r7; ld.shared.u32 %x, [%r5];"
        )
    };
    for (opcode, bar, version, sm) in [
        ("bar.sync", "bar.sync 0;", 63, 50),
        ("bar.cta.sync", "bar.cta.sync 1;", 78, 50),
        ("bar.sync with a count", "bar.sync 3, 96;", 63, 50),
        (
            "bar.sync of a register",
            "mov.u32 %r8, 5; mov.u32 %r9, 96; bar.sync %r8, %r9;",
            63,
            50,
        ),
        ("barrier.sync", "barrier.sync 0;", 63, 70),
        ("barrier.cta.sync", "barrier.cta.sync 2;", 78, 70),
        (
            "barrier.sync.aligned",
            "barrier.sync.aligned 15, 96;",
            63,
            70,
        ),
        (
            "barrier.cluster.arrive, barrier.cluster.wait",
            "barrier.cluster.arrive; barrier.cluster.wait;",
            78,
            90,
        ),
        (
            "barrier.cluster.arrive.release.aligned, barrier.cluster.wait.acquire.aligned",
            "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;",
            80,
            90,
        ),
        (
            "barrier.cluster.arrive.relaxed, barrier.cluster.wait",
            "fence.acq_rel.cluster; barrier.cluster.arrive.relaxed; barrier.cluster.wait;",
            80,
            90,
        ),
    ] {
        t.needs(version, sm);
        t.block(
            opcode,
            &exchange(bar),
            96,
            &["b32"],
            &["b32"],
            &cases,
            |i| each(96, |l| vec![Bits(i[i[l][0] as usize][0])]),
        );
    }
    // Warp 0 waits for what warps 1 and 2 announce.
    for (name, version) in [("bar", 63), ("barrier", 63), ("barrier.cta", 78)] {
        t.needs(version, 70);
        let code = format!(
            ".shared .align 4 .b8 s#[384]; mov.u32 %r5, %tid.x; shl.b32 %r6, %r5, 2; mov.u32 %r7, s#; add.u32 %r6, %r6, %r7; st.shared.u32 [%r6], %a; mov.u32 %x, 0;\n\
             setp.lt.u32 %p1, %r5, 32; @%p1 bra WAIT; {name}.arrive 4, 96; bra.uni OVER; WAIT: {name}.sync 4, 96; ld.shared.u32 %x, [%r6+128]; OVER:"
        );
        t.block(
            &format!("{name}.arrive"),
            &code,
            96,
            &["b32"],
            &["b32"],
            &cases,
            |i| each(96, |l| vec![Bits(if l < 32 { i[l + 32][0] } else { 0 })]),
        );
        for (op, limit) in [
            ("popc", 40u64),
            ("and", 96),
            ("and", 95),
            ("or", 0),
            ("or", 1),
        ] {
            let d = if op == "popc" { "%x" } else { "%p3" };
            let ty = if op == "popc" { "u32" } else { "pred" };
            let end = if op == "popc" {
                ""
            } else {
                "selp.u32 %x, 1, 0, %p3;"
            };
            let code = format!(
                "setp.lt.u32 %p2, %a, {limit}; {name}.red.{op}.{ty} {d}, 1, %p2; {end} {name}.red.popc.u32 %y, 2, 96, !%p2;"
            );
            t.block(
                &format!("{name}.red.{op}.{ty}, {limit} of 96"),
                &code,
                96,
                &["b32"],
                &["b32", "b32"],
                &cases,
                |i| {
                    let n = i.iter().filter(|v| v[0] < limit).count() as u64;
                    let r = match op {
                        "popc" => n,
                        "and" => u64::from(n == 96),
                        _ => u64::from(n > 0),
                    };
                    each(96, |_| vec![Bits(r), Bits(96 - n)])
                },
            );
        }
    }
}

fn fences(t: &mut Table) {
    let cases: Vec<Vec<u64>> = W.iter().map(|w| vec![*w]).collect();
    let mut rows: Vec<(String, u32, u32)> = vec![];
    for scope in ["cta", "gl", "sys"] {
        rows.push((format!("membar.{scope}"), 63, 50));
    }
    for sem in ["sc", "acq_rel"] {
        for scope in ["cta", "gpu", "sys"] {
            rows.push((format!("fence.{sem}.{scope}"), 63, 70));
        }
        rows.push((format!("fence.{sem}.cluster"), 78, 90));
    }
    rows.push(("fence.proxy.alias".into(), 75, 70));
    for form in ["async", "async.global", "async.shared::cta"] {
        rows.push((format!("fence.proxy.{form}"), 80, 90));
    }
    rows.push(("fence.mbarrier_init.release.cluster".into(), 80, 90));
    rows.push(("fence.proxy.tensormap::generic.release.gpu".into(), 83, 90));
    for (sem, scope) in [
        ("acquire", "gpu"),
        ("release", "cta"),
        ("acquire", "cluster"),
        ("release", "sys"),
    ] {
        rows.push((format!("fence.{sem}.{scope}"), 86, 90));
    }
    for (opcode, version, sm) in rows {
        t.needs(version, sm);
        let code = format!("st.global.u32 [%out], %a; {opcode}; ld.global.u32 %x, [%out];");
        t.code(&opcode, &code, &["b32"], &["b32"], &cases, |i| {
            vec![Bits(i[0])]
        });
    }
}
