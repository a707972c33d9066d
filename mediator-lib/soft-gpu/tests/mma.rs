//! `mma` against a slow model that follows the layouts of the PTX ISA ("Matrix Fragments for
//! mma…") element by element.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::fragments::*;
use common::{Arg, devices};

/// Value of an element's bits.
type Value = fn(u32) -> f32;

#[derive(Clone, Copy)]
struct Case<'a> {
    code: &'a str,
    rows: usize,
    k: usize,
    /// Elements of a register.
    per: usize,
    value: [Value; 2],
    half_sums: bool,
}

fn float_case(c: Case<'_>, fill: &mut dyn FnMut(usize) -> u32) {
    let (na, nb) = (c.rows * c.k / 32 / c.per, 8 * c.k / 32 / c.per);
    let nc = if c.half_sums { 2 } else { 4 };
    let code = format!(
        "{} {}, {}, {}, {};",
        c.code,
        list("d", nc),
        list("a", na),
        list("b", nb),
        list("c", nc)
    );
    let input: Vec<u32> = (0..(na + nb + nc) * 32).map(|n| fill(n / 32)).collect();
    let (a, rest) = input.split_at(na * 32);
    let (b, sums) = rest.split_at(nb * 32);
    let mut left = vec![vec![0f32; c.k]; c.rows];
    let mut right = vec![vec![0f32; 8]; c.k];
    let mut out = vec![vec![0f32; 8]; c.rows];
    for lane in 0..32 {
        for i in 0..na * c.per {
            let (row, col) = place_a(c.per, lane, i);
            left[row][col] = c.value[0](element(a, c.per, lane, i));
        }
        for i in 0..nb * c.per {
            let (row, col) = place_b(c.per, lane, i);
            right[row][col] = c.value[1](element(b, c.per, lane, i));
        }
        for i in 0..4 {
            let (row, col) = place_c(lane, i);
            out[row][col] = if c.half_sums {
                f16(element(sums, 2, lane, i))
            } else {
                f32::from_bits(element(sums, 1, lane, i))
            };
        }
    }
    for row in 0..c.rows {
        for col in 0..8 {
            for k in 0..c.k {
                out[row][col] = left[row][k].mul_add(right[k][col], out[row][col]);
            }
        }
    }
    let got = run32(&kernel(&code, [na, nb, nc, nc], false), &input, nc);
    for lane in 0..32 {
        for i in 0..4 {
            let (row, col) = place_c(lane, i);
            let (got, want) = if c.half_sums {
                (element(&got, 2, lane, i), to_f16(out[row][col]))
            } else {
                (element(&got, 1, lane, i), bits32(out[row][col]))
            };
            assert_eq!(
                got, want,
                "{} row {row} column {col}: {got:#x}, expected {want:#x}",
                c.code
            );
        }
    }
}

/// Ordinary numbers of about one, then any bits at all: infinities, NaNs, denormals.
fn float_cases(c: Case<'_>, ordinary: fn(u32) -> u32, sums: fn(u32) -> u32) {
    let na = c.rows * c.k / 32 / c.per + 8 * c.k / 32 / c.per;
    let mut r = Random(5);
    for _ in 0..4 {
        float_case(c, &mut |register| {
            let v = r.next();
            if register < na { ordinary(v) } else { sums(v) }
        });
    }
    float_case(c, &mut |_| r.next());
    // Few special values among ordinary ones.
    float_case(c, &mut |register| {
        let v = r.next();
        if v.is_multiple_of(97) {
            r.next()
        } else if register < na {
            ordinary(v)
        } else {
            sums(v)
        }
    });
}

fn bf16(h: u32) -> f32 {
    f32::from_bits(h << 16)
}
fn tf32(v: u32) -> f32 {
    f32::from_bits(v & 0xffff_e000)
}
fn e5m2(b: u32) -> f32 {
    f16(b << 8)
}

#[test]
fn mma_of_f16_bf16_and_tf32() {
    for k in [8, 16] {
        for half_sums in [false, true] {
            let t = if half_sums { "f16" } else { "f32" };
            let code = format!("mma.sync.aligned.m16n8k{k}.row.col.{t}.f16.f16.{t}");
            let c = Case {
                code: &code,
                rows: 16,
                k,
                per: 2,
                value: [f16, f16],
                half_sums,
            };
            float_cases(
                c,
                near_one_f16x2,
                if half_sums {
                    near_one_f16x2
                } else {
                    near_one_f32
                },
            );
        }
        let code = format!("mma.sync.aligned.m16n8k{k}.row.col.f32.bf16.bf16.f32");
        let c = Case {
            code: &code,
            rows: 16,
            k,
            per: 2,
            value: [bf16, bf16],
            half_sums: false,
        };
        float_cases(c, near_one_bf16x2, near_one_f32);
    }
    for k in [4, 8] {
        let code = format!("mma.sync.aligned.m16n8k{k}.row.col.f32.tf32.tf32.f32");
        let c = Case {
            code: &code,
            rows: 16,
            k,
            per: 1,
            value: [tf32, tf32],
            half_sums: false,
        };
        float_cases(c, near_one_f32, near_one_f32);
    }
}

#[test]
fn mma_of_fp8() {
    let values: [(&str, Value); 2] = [("e4m3", e4m3), ("e5m2", e5m2)];
    for (a, va) in values {
        for (b, vb) in values {
            for k in [16, 32] {
                for half_sums in [false, true] {
                    let t = if half_sums { "f16" } else { "f32" };
                    let code = format!("mma.sync.aligned.m16n8k{k}.row.col.{t}.{a}.{b}.{t}");
                    let c = Case {
                        code: &code,
                        rows: 16,
                        k,
                        per: 4,
                        value: [va, vb],
                        half_sums,
                    };
                    float_cases(
                        c,
                        |v| v & 0xb7b7_b7b7,
                        if half_sums {
                            near_one_f16x2
                        } else {
                            near_one_f32
                        },
                    );
                }
            }
        }
    }
}

fn signed(bits: usize) -> impl Fn(u32) -> i64 {
    move |v| i64::from((v << (32 - bits)) as i32 >> (32 - bits))
}

#[test]
fn mma_of_integers() {
    let mut r = Random(9);
    for (rows, k, bits) in [
        (8, 16, 8),
        (16, 16, 8),
        (16, 32, 8),
        (8, 32, 4),
        (16, 32, 4),
        (16, 64, 4),
    ] {
        for (sa, sb) in [(true, true), (true, false), (false, true), (false, false)] {
            for saturate in ["", ".satfinite"] {
                let per = 32 / bits;
                let t = |s: bool| format!("{}{bits}", if s { 's' } else { 'u' });
                let name = format!(
                    "mma.sync.aligned.m{rows}n8k{k}.row.col{saturate}.s32.{}.{}.s32",
                    t(sa),
                    t(sb)
                );
                let (na, nb, nc) = (rows * k / 32 / per, 8 * k / 32 / per, rows / 4);
                let code = format!(
                    "{name} {}, {}, {}, {};",
                    list("d", nc),
                    list("a", na),
                    list("b", nb),
                    list("c", nc)
                );
                let mut input: Vec<u32> = (0..(na + nb + nc) * 32).map(|_| r.next()).collect();
                // Sums near both ends of the range, so that some clamp or wrap.
                for v in &mut input[(na + nb) * 32..] {
                    *v = if *v & 1 == 0 {
                        0x7fff_0000 | (*v >> 16)
                    } else {
                        0x8000_0000 | (*v >> 16)
                    };
                }
                let value = |s: bool, v: u32| if s { signed(bits)(v) } else { i64::from(v) };
                let (a, rest) = input.split_at(na * 32);
                let (b, c) = rest.split_at(nb * 32);
                let got = run32(&kernel(&code, [na, nb, nc, nc], false), &input, nc);
                let mut left = vec![vec![0i64; k]; rows];
                let mut right = vec![vec![0i64; 8]; k];
                for lane in 0..32 {
                    for i in 0..na * per {
                        let (row, col) = if rows == 8 {
                            (lane >> 2, (lane % 4) * per + i)
                        } else {
                            place_a(per, lane, i)
                        };
                        left[row][col] = value(sa, element(a, per, lane, i));
                    }
                    for i in 0..nb * per {
                        let (row, col) = place_b(per, lane, i);
                        right[row][col] = value(sb, element(b, per, lane, i));
                    }
                }
                for lane in 0..32 {
                    for i in 0..nc {
                        let (row, col) = place_c(lane, i);
                        let mut sum = i64::from(c[i * 32 + lane] as i32);
                        sum += (0..k).map(|x| left[row][x] * right[x][col]).sum::<i64>();
                        let want = if saturate.is_empty() {
                            sum as i32
                        } else {
                            sum.clamp(i32::MIN.into(), i32::MAX.into()) as i32
                        };
                        assert_eq!(
                            got[i * 32 + lane] as i32,
                            want,
                            "{name} row {row} column {col}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn mma_of_single_bits() {
    let mut r = Random(11);
    for (rows, k) in [(8, 128), (16, 128), (16, 256)] {
        for op in ["and", "xor"] {
            let (na, nb, nc) = (rows * k / 1024, 8 * k / 1024, rows / 4);
            let name = format!("mma.sync.aligned.m{rows}n8k{k}.row.col.s32.b1.b1.s32.{op}.popc");
            let code = format!(
                "{name} {}, {}, {}, {};",
                list("d", nc),
                list("a", na),
                list("b", nb),
                list("c", nc)
            );
            let input: Vec<u32> = (0..(na + nb + nc) * 32).map(|_| r.next()).collect();
            let (a, rest) = input.split_at(na * 32);
            let (b, c) = rest.split_at(nb * 32);
            let got = run32(&kernel(&code, [na, nb, nc, nc], false), &input, nc);
            let mut left = vec![vec![0u32; k]; rows];
            let mut right = vec![vec![0u32; 8]; k];
            for lane in 0..32 {
                for i in 0..na * 32 {
                    let (row, col) = if rows == 8 {
                        (lane >> 2, (lane % 4) * 32 + i)
                    } else {
                        place_a(32, lane, i)
                    };
                    left[row][col] = element(a, 32, lane, i);
                }
                for i in 0..nb * 32 {
                    let (row, col) = place_b(32, lane, i);
                    right[row][col] = element(b, 32, lane, i);
                }
            }
            for lane in 0..32 {
                for i in 0..nc {
                    let (row, col) = place_c(lane, i);
                    let ones: u32 = (0..k)
                        .map(|x| match op {
                            "and" => left[row][x] & right[x][col],
                            _ => left[row][x] ^ right[x][col],
                        })
                        .sum();
                    assert_eq!(
                        got[i * 32 + lane],
                        c[i * 32 + lane].wrapping_add(ones),
                        "{name}"
                    );
                }
            }
        }
    }
}

#[test]
fn mma_of_f64() {
    let mut r = Random(3);
    for (rows, k) in [(8usize, 4usize), (16, 4), (16, 8), (16, 16)] {
        let (na, nb, nc) = (rows * k / 32, 8 * k / 32, rows / 4);
        let name = format!("mma.sync.aligned.m{rows}n8k{k}.row.col.f64.f64.f64.f64");
        let code = format!(
            "{name} {}, {}, {}, {};",
            list("d", nc),
            list("a", na),
            list("b", nb),
            list("c", nc)
        );
        let input: Vec<f64> = (0..(na + nb + nc) * 32)
            .map(|_| f64::from(r.next() as i32) / 3e7)
            .collect();
        let (a, rest) = input.split_at(na * 32);
        let (b, c) = rest.split_at(nb * 32);
        let mut left = vec![vec![0f64; k]; rows];
        let mut right = vec![vec![0f64; 8]; k];
        for lane in 0..32 {
            for i in 0..na {
                let (group, thread) = (lane >> 2, lane % 4);
                let (row, col) = match (rows, i % 2) {
                    (8, _) => (group, thread),
                    (_, 0) => (group, i * 2 + thread),
                    _ => (group + 8, i * 2 - 2 + thread),
                };
                left[row][col] = a[i * 32 + lane];
            }
            for i in 0..nb {
                right[lane % 4 + i * 4][lane >> 2] = b[i * 32 + lane];
            }
        }
        let ptx = kernel(&code, [na, nb, nc, nc], true);
        for d in devices(&ptx) {
            let (i, o) = (d.upload(&input), d.upload(&vec![0f64; 32 * nc]));
            d.launch("k", 1, 32, &[Arg::Ptr(i), Arg::Ptr(o)]);
            let got = d.download::<f64>(o, 32 * nc);
            for lane in 0..32 {
                for i in 0..nc {
                    let (row, col) = place_c(lane, i);
                    let want = (0..k).fold(c[i * 32 + lane], |s, x| {
                        left[row][x].mul_add(right[x][col], s)
                    });
                    assert_eq!(got[i * 32 + lane], want, "{name} row {row} column {col}");
                }
            }
        }
    }
}

#[test]
fn mma_m8n8k4_is_four_products() {
    let mut r = Random(21);
    for (a_order, b_order) in [
        ("row", "col"),
        ("col", "row"),
        ("row", "row"),
        ("col", "col"),
    ] {
        for (d, c) in [("f32", "f32"), ("f16", "f16"), ("f32", "f16")] {
            let regs = |t| if t == "f16" { 4 } else { 8 };
            let (nc, nd) = (regs(c), regs(d));
            let name = format!("mma.sync.aligned.m8n8k4.{a_order}.{b_order}.{d}.f16.f16.{c}");
            let code = format!(
                "{name} {}, {}, {}, {};",
                list("d", nd),
                list("a", 2),
                list("b", 2),
                list("c", nc)
            );
            let input: Vec<u32> = (0..(4 + nc) * 32)
                .map(|n| match n / 32 {
                    0..4 => near_one_f16x2(r.next()),
                    _ if c == "f16" => near_one_f16x2(r.next()),
                    _ => near_one_f32(r.next()),
                })
                .collect();
            let got = run32(&kernel(&code, [2, 2, nc, nd], false), &input, nd);
            // Row and column of accumulator `i`.
            let place = |t: &str, lane: usize, i: usize| {
                if t == "f16" {
                    (if lane < 16 { lane % 4 } else { lane % 4 + 4 }, i)
                } else {
                    let x = (lane & 1) + (i & 2);
                    (
                        if lane < 16 { x } else { x + 4 },
                        (i & 4) + (lane & 2) + (i & 1),
                    )
                }
            };
            for q in 0..4 {
                let lanes: Vec<usize> = (4 * q..4 * q + 4).chain(16 + 4 * q..20 + 4 * q).collect();
                let mut left = [[0f32; 4]; 8];
                let mut right = [[0f32; 8]; 4];
                let mut sums = [[0f32; 8]; 8];
                for &lane in &lanes {
                    for i in 0..4 {
                        let up = if lane < 16 { 0 } else { 4 };
                        let (row, col) = if a_order == "row" {
                            (lane % 4 + up, i)
                        } else {
                            (i % 4 + up, lane % 4)
                        };
                        left[row][col] = f16(element(&input, 2, lane, i));
                        let (row, col) = if b_order == "row" {
                            (lane % 4, i + up)
                        } else {
                            (i, lane % 4 + up)
                        };
                        right[row][col] = f16(element(&input[64..], 2, lane, i));
                    }
                    for i in 0..8 {
                        let (row, col) = place(c, lane, i);
                        sums[row][col] = if c == "f16" {
                            f16(element(&input[128..], 2, lane, i))
                        } else {
                            f32::from_bits(element(&input[128..], 1, lane, i))
                        };
                    }
                }
                for row in 0..8 {
                    for col in 0..8 {
                        for k in 0..4 {
                            sums[row][col] = left[row][k].mul_add(right[k][col], sums[row][col]);
                        }
                    }
                }
                for &lane in &lanes {
                    for i in 0..8 {
                        let (row, col) = place(d, lane, i);
                        let (got, want) = if d == "f16" {
                            (element(&got, 2, lane, i), to_f16(sums[row][col]))
                        } else {
                            (element(&got, 1, lane, i), bits32(sums[row][col]))
                        };
                        assert_eq!(got, want, "{name} lane {lane} element {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn results_may_be_the_accumulators_in_another_order() {
    // Integers, and the same numbers as f16: sums are 16 or 32 ones, and C.
    for (ty, one) in [
        ("s32.s8.s8.s32", 0x0101_0101u32),
        ("f32.f16.f16.f32", 0x3c00_3c00),
    ] {
        let integer = ty.starts_with('s');
        let (shape, ones) = if integer {
            ("m16n8k32", 32u32)
        } else {
            ("m16n8k16", 16)
        };
        let code = format!(
            "mma.sync.aligned.{shape}.row.col.{ty} {{%c1, %c2, %c3, %c0}}, {{%a0, %a1, %a2, %a3}}, {{%b0, %b1}}, {{%c0, %c1, %c2, %c3}};\n\
             mov.b32 %d0, %c0; mov.b32 %d1, %c1; mov.b32 %d2, %c2; mov.b32 %d3, %c3;"
        );
        let number = |v: u32| if integer { v } else { (v as f32).to_bits() };
        let input: Vec<u32> = (0..10 * 32)
            .map(|n| if n < 6 * 32 { one } else { number(n) })
            .collect();
        let got = run32(&kernel(&code, [4, 2, 4, 4], false), &input, 4);
        for lane in 0..32 {
            for (register, from) in [(0, 3), (1, 0), (2, 1), (3, 2)] {
                let want = number(ones + (6 + from) * 32 + lane);
                assert_eq!(got[(register * 32 + lane) as usize], want, "{ty}");
            }
        }
    }
}

#[test]
fn a_result_may_be_an_operand_and_a_guard_holds() {
    let code = "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%a0, %a1, %b0, %d0}, {%a0, %a1}, {%b0}, {%c0, %c1, %c2, %c3};\n\
                mov.b32 %d1, %a0; mov.b32 %d2, %b0; mov.b32 %x0, 5; setp.eq.u32 %p0, %x0, 6;\n\
                @%p0 mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%d0, %d1, %d2, %d3}, {%a0, %a1}, {%b0}, {%c0, %c1, %c2, %c3};";
    let input: Vec<u32> = (0..7 * 32)
        .map(|n| if n < 96 { 0x0101_0101 } else { n })
        .collect();
    let got = run32(&kernel(code, [2, 1, 4, 4], false), &input, 4);
    for lane in 0..32u32 {
        let sum = |c: u32| 16 + 96 + 32 * c + lane;
        let l = lane as usize;
        assert_eq!(
            [got[l], got[32 + l], got[64 + l], got[96 + l]],
            [sum(3), sum(0), sum(2), 77]
        );
    }
}

/// A warp whose lanes part for long continues in the reference code, which has its own places for the
/// fragments; the next block on the same thread begins in the optimised code again.
#[test]
fn a_block_after_one_in_the_reference_code() {
    const BLOCKS: usize = 32;
    let ptx = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out) {
	.reg .pred %p<4>; .reg .b32 %r<12>; .reg .f32 %f<9>; .reg .b64 %q<4>;
	ld.param.u64 %q1, [out];
	mov.u32 %r1, %laneid; mov.u32 %r2, %ctaid.x; mov.u32 %r9, %tid.x;
	and.b32 %r3, %r2, 1;
	setp.ne.u32 %p1, %r3, 0;
	@%p1 bra go;
	setp.lt.u32 %p2, %r1, 16;
	@%p2 bra low;
	bar.warp.sync 0xffffffff;
	bra go;
low:
	bar.warp.sync 0xffffffff;
go:
	mov.b32 %r4, 0x3c003c00;
	cvt.rn.f32.u32 %f1, %r1;
	cvt.rn.f32.u32 %f2, %r2;
	mov.f32 %f3, 0f3f800000;
	mov.f32 %f4, 0f40000000;
	mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
		{%f5,%f6,%f7,%f8}, {%r4,%r4,%r4,%r4}, {%r4,%r4}, {%f1,%f2,%f3,%f4};
	mov.u32 %r5, %ntid.x;
	mad.lo.u32 %r6, %r2, %r5, %r9;
	mul.wide.u32 %q2, %r6, 16;
	add.s64 %q3, %q1, %q2;
	st.global.v4.f32 [%q3], {%f5,%f6,%f7,%f8};
	ret;
}
";
    for d in devices(ptx) {
        let out = d.upload(&vec![0f32; BLOCKS * 64 * 4]);
        d.launch("k", BLOCKS as u32, 64, &[Arg::Ptr(out)]);
        let got: Vec<f32> = d.download(out, BLOCKS * 64 * 4);
        let want: Vec<f32> = (0..BLOCKS * 64)
            .flat_map(|t| [16.0 + (t % 32) as f32, 16.0 + (t / 64) as f32, 17.0, 18.0])
            .collect();
        let differ = got.iter().zip(&want).position(|(g, w)| g != w);
        assert_eq!(differ, None, "of the results of all threads");
    }
}
