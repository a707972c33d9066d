//! Products of matrices through `wmma` (PTX ISA 9.7.14).

use crate::form::Table;
use crate::matrix::{
    B1, BF16E, Element, F16E, F32E, F64E, Kind, S4, S8, S32, TF32E, U4, U8, product, register,
};

/// Matrices in memory through `wmma.load`, `wmma.mma` and `wmma.store`: how a fragment lies is not said.
pub fn table(t: &mut Table) {
    let shapes = [[16, 16, 16], [8, 32, 16], [32, 8, 16]];
    let mut rows: Vec<(Kind, usize, usize)> = vec![];
    let mut add = |shape, a, d, c, suffix, needs, ab, cd| {
        rows.push((
            Kind {
                shape,
                a,
                b: a,
                d,
                c,
                suffix,
                needs,
            },
            ab,
            cd,
        ))
    };
    for shape in shapes {
        for (d, c) in [(F16E, F16E), (F32E, F32E), (F16E, F32E), (F32E, F16E)] {
            add(shape, F16E, d, c, "", (63, 70), 8, 0);
        }
        let count = |m: usize| {
            if m == 8 {
                2
            } else if m == 32 {
                8
            } else {
                4
            }
        };
        add(shape, BF16E, F32E, F32E, "", (70, 80), count(shape[0]), 8);
        for e in [S8, U8] {
            for suffix in ["", ".satfinite"] {
                let count = if shape[0] == 16 {
                    2
                } else if shape[0] == 8 {
                    1
                } else {
                    4
                };
                add(shape, e, S32, S32, suffix, (63, 72), count, 8);
            }
        }
    }
    add([16, 16, 8], TF32E, F32E, F32E, "", (70, 80), 4, 8);
    add([8, 8, 4], F64E, F64E, F64E, "", (70, 80), 1, 2);
    add([8, 8, 32], S4, S32, S32, "", (63, 75), 1, 2);
    add([8, 8, 32], U4, S32, S32, ".satfinite", (63, 75), 1, 2);
    add([8, 8, 128], B1, S32, S32, ".xor.popc", (63, 75), 1, 2);
    add([8, 8, 128], B1, S32, S32, ".and.popc", (71, 80), 1, 2);
    for (kind, a_count, _) in rows {
        let small = kind.a.bits < 8;
        let layouts: &[[&str; 2]] = if small {
            &[["row", "col"]]
        } else {
            &[
                ["row", "col"],
                ["col", "row"],
                ["row", "row"],
                ["col", "col"],
            ]
        };
        for (x, layout) in layouts.iter().enumerate() {
            one_wmma(
                t,
                &kind,
                a_count,
                *layout,
                if x % 2 == 0 { "row" } else { "col" },
            );
        }
    }
}

fn one_wmma(t: &mut Table, kind: &Kind, a_count: usize, [la, lb]: [&str; 2], lc: &str) {
    let [m, n, k] = kind.shape;
    let (a, b, c) = (
        kind.a.matrix(m * k, 5),
        kind.b.matrix(k * n, 6),
        kind.c.matrix(m * n, 7),
    );
    let d = product(kind, &a, &b, &c);
    // In memory: rows behind each other, or columns.
    let packed = |e: Element, v: &[i64], rows: usize, cols: usize, layout: &str| {
        let mut bits = vec![0u64; (rows * cols * e.bits as usize).div_ceil(64)];
        for r in 0..rows {
            for col in 0..cols {
                let at = if layout == "row" {
                    r * cols + col
                } else {
                    col * rows + r
                } * e.bits as usize;
                bits[at / 64] |= e.encode(v[r * cols + col]) << (at % 64);
            }
        }
        bits
    };
    let mut input = packed(kind.a, &a, m, k, la);
    let b_at = input.len() * 8;
    input.extend(packed(kind.b, &b, k, n, lb));
    let c_at = input.len() * 8;
    input.extend(packed(kind.c, &c, m, n, lc));
    let want = packed(kind.d, &d, m, n, lc);
    let stride = |layout: &str, rows: usize, cols: usize| if layout == "row" { cols } else { rows };
    let count = |e: Element, which: char| match (e.name, which) {
        ("f16", 'a') => 8,
        ("f16", _) => 4,
        (_, 'a') => a_count,
        _ => m * n / 32,
    };
    // The other factor of a product of unequal sides has the other side's registers.
    let b_count = match (kind.a.name, m, n) {
        ("f16", ..) => 8,
        (_, 8, 32) => a_count * 4,
        (_, 32, 8) => a_count / 4,
        _ => a_count,
    };
    let list = |p: &str, n: usize| {
        format!(
            "{{{}}}",
            (0..n)
                .map(|i| format!("%{p}{i}"))
                .collect::<Vec<_>>()
                .join(", ")
        )
    };
    let reg = |e: Element| if e.name == "f16" { "b32" } else { register(e) };
    let shape = format!("m{m}n{n}k{k}");
    let (ca, cc, cd) = (count(kind.a, 'a'), count(kind.c, 'c'), count(kind.d, 'd'));
    let (sat, operation) = if kind.suffix == ".satfinite" {
        (kind.suffix, String::new())
    } else {
        ("", kind.suffix.to_owned())
    };
    let types = if kind.a.name == "f16" {
        format!("{}.{}", kind.d.name, kind.c.name)
    } else {
        format!(
            "{}.{}.{}.{}",
            kind.d.name, kind.a.name, kind.b.name, kind.c.name
        )
    };
    let rn = if kind.a.name == "f64" { ".rn" } else { "" };
    let opcode = if operation.is_empty() {
        format!("wmma.mma.sync.aligned.{la}.{lb}.{shape}{rn}.{types}{sat}")
    } else {
        format!("wmma.mma{operation}.sync.aligned.{la}.{lb}.{shape}.{types}")
    };
    let code = format!(
        ".reg .{} %ma<{ca}>; .reg .{} %mb<{b_count}>; .reg .{} %mc<{cc}>; .reg .{} %md<{cd}>;\n\
         wmma.load.a.sync.aligned.{la}.{shape}.global.{} {}, [%in], {};\n\
         wmma.load.b.sync.aligned.{lb}.{shape}.global.{} {}, [%in+{b_at}], {};\n\
         wmma.load.c.sync.aligned.{lc}.{shape}.global.{} {}, [%in+{c_at}], {};\n\
         {opcode} {}, {}, {}, {};\n\
         wmma.store.d.sync.aligned.{lc}.{shape}.global.{} [%out], {}, {};",
        reg(kind.a),
        reg(kind.b),
        reg(kind.c),
        reg(kind.d),
        kind.a.name,
        list("ma", ca),
        stride(la, m, k),
        kind.b.name,
        list("mb", b_count),
        stride(lb, k, n),
        kind.c.name,
        list("mc", cc),
        stride(lc, m, n),
        list("md", cd),
        list("ma", ca),
        list("mb", b_count),
        list("mc", cc),
        kind.d.name,
        list("md", cd),
        stride(lc, m, n)
    );
    t.needs(kind.needs.0, kind.needs.1);
    t.whole(
        &format!("{opcode}, C and D by {lc}"),
        &code,
        32,
        input,
        want,
    );
}
