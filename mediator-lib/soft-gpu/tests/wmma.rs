//! `wmma`: matrices in memory, through fragments, against a plain product.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, devices};

/// One kind of multiplication.
struct Kind {
    /// Types as `wmma.mma` names them: D, A, B, C; of f16 only D and C.
    types: [&'static str; 4],
    shapes: &'static [[usize; 3]],
    /// Registers of A, B, C and D for a shape.
    registers: fn([usize; 3]) -> [usize; 4],
}

const ALL: &[[usize; 3]] = &[[16, 16, 16], [8, 32, 16], [32, 8, 16]];

fn bits(ty: &str) -> usize {
    match ty {
        "f64" => 64,
        "f16" | "bf16" => 16,
        "s8" | "u8" => 8,
        "s4" | "u4" => 4,
        "b1" => 1,
        _ => 32,
    }
}

fn kinds() -> Vec<Kind> {
    let half: fn([usize; 3]) -> [usize; 4] = |_| [8, 8, 4, 4];
    let mixed: fn([usize; 3]) -> [usize; 4] = |_| [8, 8, 8, 8];
    let up: fn([usize; 3]) -> [usize; 4] = |_| [8, 8, 4, 8];
    let bf16: fn([usize; 3]) -> [usize; 4] = |[m, n, _]| [m / 4, n / 4, 8, 8];
    let byte: fn([usize; 3]) -> [usize; 4] = |[m, n, _]| [m / 8, n / 8, 8, 8];
    let one: fn([usize; 3]) -> [usize; 4] = |_| [1, 1, 2, 2];
    let mut v = vec![
        Kind {
            types: ["f16", "f16", "f16", "f16"],
            shapes: ALL,
            registers: half,
        },
        Kind {
            types: ["f32", "f16", "f16", "f32"],
            shapes: ALL,
            registers: mixed,
        },
        Kind {
            types: ["f32", "f16", "f16", "f16"],
            shapes: ALL,
            registers: up,
        },
        Kind {
            types: ["f32", "bf16", "bf16", "f32"],
            shapes: ALL,
            registers: bf16,
        },
        Kind {
            types: ["f32", "tf32", "tf32", "f32"],
            shapes: &[[16, 16, 8]],
            registers: |_| [4, 4, 8, 8],
        },
        Kind {
            types: ["f64", "f64", "f64", "f64"],
            shapes: &[[8, 8, 4]],
            registers: one,
        },
        Kind {
            types: ["s32", "b1", "b1", "s32"],
            shapes: &[[8, 8, 128]],
            registers: one,
        },
    ];
    for (a, b) in [("s8", "s8"), ("u8", "u8")] {
        v.push(Kind {
            types: ["s32", a, b, "s32"],
            shapes: ALL,
            registers: byte,
        });
    }
    for (a, b) in [("s4", "s4"), ("u4", "u4")] {
        v.push(Kind {
            types: ["s32", a, b, "s32"],
            shapes: &[[8, 8, 32]],
            registers: one,
        });
    }
    v
}

/// Small whole numbers, exact in every type and sum.
fn number(seed: usize, ty: &str) -> i64 {
    let v = (seed.wrapping_mul(2_654_435_761) >> 7) % 7;
    match ty {
        "b1" => v as i64 & 1,
        _ if ty.starts_with('u') => v as i64,
        _ => v as i64 - 3,
    }
}

fn encode(v: i64, ty: &str) -> u64 {
    match ty {
        "f64" => (v as f64).to_bits(),
        "f32" | "tf32" => u64::from((v as f32).to_bits()),
        "bf16" => u64::from((v as f32).to_bits() >> 16),
        "f16" => {
            // Whole numbers up to 2047 are exact.
            let m = v.unsigned_abs();
            if m == 0 {
                return 0;
            }
            let e = 63 - m.leading_zeros();
            let h = (u64::from(e + 15) << 10) | ((m << (10 - e)) & 0x3ff);
            h | if v < 0 { 0x8000 } else { 0 }
        }
        _ => v as u64 & ((1u64 << bits(ty).min(63)) - 1),
    }
}

fn put(memory: &mut [u8], index: usize, ty: &str, v: i64) {
    let b = bits(ty);
    let raw = encode(v, ty);
    if b < 8 {
        memory[index * b / 8] |= (raw << (index * b % 8)) as u8;
    } else {
        memory[index * b / 8..][..b / 8].copy_from_slice(&raw.to_le_bytes()[..b / 8]);
    }
}

fn list(name: &str, n: usize) -> String {
    let v: Vec<String> = (0..n).map(|r| format!("%{name}{r}")).collect();
    format!("{{{}}}", v.join(","))
}

fn check(kind: &Kind, [m, n, k]: [usize; 3], layouts: [&str; 4], space: &str, padding: usize) {
    let [d, a, b, c] = kind.types;
    let shape = format!("m{m}n{n}k{k}");
    let sizes = [(m, k), (k, n), (m, n), (m, n)];
    let stride = |at: usize, pad: usize| {
        let (rows, columns) = sizes[at];
        (if layouts[at] == "row" { columns } else { rows }) + pad
    };
    let index = |at: usize, row: usize, column: usize| {
        let s = stride(at, padding);
        if layouts[at] == "row" {
            row * s + column
        } else {
            column * s + row
        }
    };
    let types = [a, b, c];
    let values = |at: usize, row: usize, column: usize| {
        number(1 + at * 7919 + row * 131 + column * 17, types[at])
    };
    let [ra, rb, rc, rd] = (kind.registers)([m, n, k]);
    let wide = if d == "f64" { "b64" } else { "b32" };
    let of = if a == "f16" {
        format!("{d}.{c}")
    } else {
        format!("{d}.{a}.{b}.{c}")
    };
    let op = if a == "b1" { "and.popc." } else { "" };
    let (cvta, suffix) = match space {
        "global" => ("", ".global"),
        "shared" => ("mov.u64 %q3, tile;", ".shared"),
        _ => ("mov.u64 %q3, tile; cvta.shared.u64 %q3, %q3;", ""),
    };
    // Through shared memory: the matrix is copied there first, byte by byte.
    let stage = |from: &str| {
        if space == "global" {
            return format!("mov.u64 %q3, {from};");
        }
        format!(
            "bar.sync 0; mov.u64 %q3, tile; mov.u64 %q4, {from}; mov.u32 %x0, 0;\nS{from}: \
             ld.global.b64 %q5, [%q4]; st.shared.b64 [%q3], %q5; add.s64 %q3, %q3, 8; add.s64 %q4, %q4, 8;\n\
             add.u32 %x0, %x0, 8; setp.lt.u32 %p0, %x0, 16384; @%p0 bra S{from}; bar.sync 0;\n{cvta}"
        )
        .replace("S%q", "S_q")
    };
    let ptx = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n\
         .visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d)\n{{\n\
         .reg .pred %p<2>; .reg .b32 %x<4>; .reg .b64 %q<16>; .reg .{wide} %a<8>, %b<8>, %c<8>, %d<8>;\n\
         .shared .align 32 .b8 tile[16384];\n\
         ld.param.u64 %q6, [a]; ld.param.u64 %q7, [b]; ld.param.u64 %q8, [c]; ld.param.u64 %q9, [d];\n\
         {}\nwmma.load.a.sync.aligned.{}.{shape}{suffix}.{a} {}, [%q3], {};\n\
         {}\nwmma.load.b.sync.aligned.{}.{shape}{suffix}.{b} {}, [%q3], {};\n\
         {}\nwmma.load.c.sync.aligned.{}.{shape}{suffix}.{c} {}, [%q3], {};\n\
         wmma.mma.{op}sync.aligned.{}.{}.{shape}.{of} {}, {}, {}, {};\n\
         wmma.store.d.sync.aligned.{}.{shape}.global.{d} [%q9], {}, {};\nret;\n}}\n",
        stage("%q6"),
        layouts[0],
        list("a", ra),
        stride(0, padding),
        stage("%q7"),
        layouts[1],
        list("b", rb),
        stride(1, padding),
        stage("%q8"),
        layouts[2],
        list("c", rc),
        stride(2, padding),
        layouts[0],
        layouts[1],
        list("d", rd),
        list("a", ra),
        list("b", rb),
        list("c", rc),
        layouts[3],
        list("d", rd),
        stride(3, padding),
    );
    let mut memory = vec![vec![0u8; 16384]; 3];
    for at in 0..3 {
        for row in 0..sizes[at].0 {
            for column in 0..sizes[at].1 {
                put(
                    &mut memory[at],
                    index(at, row, column),
                    types[at],
                    values(at, row, column),
                );
            }
        }
    }
    let mut want = vec![0u8; 16384];
    for row in 0..m {
        for column in 0..n {
            let products: i64 = (0..k)
                .map(|x| values(0, row, x) * values(1, x, column))
                .sum();
            put(
                &mut want,
                index(3, row, column),
                d,
                products + values(2, row, column),
            );
        }
    }
    for device in devices(&ptx) {
        let at: Vec<u64> = memory.iter().map(|v| device.upload(v)).collect();
        let o = device.upload(&vec![0u8; 16384]);
        device.launch(
            "k",
            1,
            32,
            &[
                Arg::Ptr(at[0]),
                Arg::Ptr(at[1]),
                Arg::Ptr(at[2]),
                Arg::Ptr(o),
            ],
        );
        let got = device.download::<u8>(o, 16384);
        assert!(got == want, "{ptx}");
    }
}

#[test]
fn products_of_all_types_shapes_and_layouts() {
    for kind in kinds() {
        for &shape in kind.shapes {
            let fixed = bits(kind.types[1]) < 8;
            for bits in 0..16 {
                let l = |k: u32| if bits >> k & 1 == 0 { "row" } else { "col" };
                let layouts = if fixed {
                    ["row", "col", l(2), l(3)]
                } else {
                    [l(0), l(1), l(2), l(3)]
                };
                // All sixteen for one shape, some for the others.
                if shape[0] == 16 || matches!(bits, 2 | 9) {
                    check(&kind, shape, layouts, "global", 0);
                }
            }
            let layouts = ["row", "col", "row", "col"];
            let padding = 16 * 8 / bits(kind.types[1]).max(8) * if fixed { 8 } else { 1 };
            check(&kind, shape, layouts, "global", padding);
            check(&kind, shape, layouts, "shared", 0);
            check(&kind, shape, layouts, "generic", 0);
        }
    }
}

#[test]
fn what_the_isa_does_not_have_is_refused() {
    for code in [
        "wmma.load.a.sync.aligned.col.m8n8k32.global.s4 {%a0}, [%q6], 32;",
        "wmma.mma.sync.aligned.row.col.m16n16k8.f32.f16.f16.f32 {%d0}, {%a0}, {%b0}, {%c0};",
        "mma.sync.aligned.m16n8k16.col.col.f32.bf16.bf16.f32 {%d0}, {%a0}, {%b0}, {%c0};",
        "mma.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%d0}, {%a0}, {%b0}, {%c0};",
    ] {
        let ptx = format!(
            ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k()\n{{\n\
             .reg .b64 %q<8>; .reg .b32 %a<8>, %b<8>, %c<8>, %d<8>;\n{code}\nret;\n}}\n"
        );
        for d in devices(&ptx) {
            let f = d.module.function("k").unwrap();
            let why = f.unsupported().unwrap();
            assert!(
                why.contains("unsupported instruction '") && why.contains("line 7"),
                "{why}"
            );
        }
    }
}
