//! Products of matrices and moves of fragments (PTX ISA 9.7.14). All numbers are small integers, so that no sum
//! is rounded and every order of adding gives the same bits.

use crate::form::{IN, OUT, Table, Want::Bits};
use crate::real::{self, BF16, E5M2, F16, F32, F64, Mode};
use crate::values::random;

/// A type of elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Element {
    pub(crate) name: &'static str,
    pub(crate) bits: u32,
    least: i64,
    most: i64,
}

const fn element(name: &'static str, bits: u32, least: i64, most: i64) -> Element {
    Element {
        name,
        bits,
        least,
        most,
    }
}

pub(crate) const F16E: Element = element("f16", 16, -4, 4);
pub(crate) const BF16E: Element = element("bf16", 16, -4, 4);
pub(crate) const TF32E: Element = element("tf32", 32, -9, 9);
pub(crate) const F32E: Element = element("f32", 32, -50, 50);
pub(crate) const F64E: Element = element("f64", 64, -99, 99);
pub(crate) const S8: Element = element("s8", 8, -128, 127);
pub(crate) const U8: Element = element("u8", 8, 0, 255);
pub(crate) const S4: Element = element("s4", 4, -8, 7);
pub(crate) const U4: Element = element("u4", 4, 0, 15);
pub(crate) const B1: Element = element("b1", 1, 0, 1);
pub(crate) const S32: Element = element("s32", 32, -100_000, 100_000);
pub(crate) const E4M3: Element = element("e4m3", 8, -4, 4);
pub(crate) const E5M2E: Element = element("e5m2", 8, -4, 4);

impl Element {
    pub(crate) fn encode(self, v: i64) -> u64 {
        let exact = real::integer(v.into());
        let round = |f: real::Format| f.round(&exact, false, Mode::Nearest);
        match self.name {
            "f16" => round(F16),
            "bf16" => round(BF16),
            "tf32" | "f32" => round(F32),
            "f64" => round(F64),
            "e5m2" => round(E5M2),
            // Bias 7, three bits of fraction: the bits of f16 cut to that, for small integers.
            "e4m3" => {
                let h = round(F16);
                let magnitude = h & 0x7fff;
                let low = if magnitude == 0 {
                    0
                } else {
                    (magnitude >> 7) - (8 << 3)
                };
                h >> 8 & 0x80 | low
            }
            _ => v as u64 & (u64::MAX >> (64 - self.bits)),
        }
    }

    pub(crate) fn matrix(self, n: usize, seed: u64) -> Vec<i64> {
        let span = (self.most - self.least + 1) as u64;
        random(n, seed)
            .into_iter()
            .map(|v| self.least + ((v >> 20) % span) as i64)
            .collect()
    }
}

/// One kind of `mma`.
pub(crate) struct Kind {
    pub(crate) shape: [usize; 3],
    pub(crate) a: Element,
    pub(crate) b: Element,
    pub(crate) d: Element,
    pub(crate) c: Element,
    /// Modifiers behind the layouts and types.
    pub(crate) suffix: &'static str,
    pub(crate) needs: (u32, u32),
}

fn kinds() -> Vec<Kind> {
    let mut out = vec![];
    let mut add = |shape, a, b, d, c, suffix, needs| {
        out.push(Kind {
            shape,
            a,
            b,
            d,
            c,
            suffix,
            needs,
        })
    };
    for (d, c) in [(F16E, F16E), (F32E, F32E)] {
        add([16, 8, 8], F16E, F16E, d, c, "", (65, 75));
        add([16, 8, 16], F16E, F16E, d, c, "", (70, 80));
    }
    add([16, 8, 8], BF16E, BF16E, F32E, F32E, "", (70, 80));
    add([16, 8, 16], BF16E, BF16E, F32E, F32E, "", (70, 80));
    add([16, 8, 4], TF32E, TF32E, F32E, F32E, "", (70, 80));
    add([16, 8, 8], TF32E, TF32E, F32E, F32E, "", (70, 80));
    add([8, 8, 4], F64E, F64E, F64E, F64E, "", (70, 80));
    for k in [4, 8, 16] {
        add([16, 8, k], F64E, F64E, F64E, F64E, "", (78, 90));
    }
    for (a, b) in [
        (S8, S8),
        (S8, U8),
        (U8, S8),
        (U8, U8),
        (S4, S4),
        (S4, U4),
        (U4, S4),
        (U4, U4),
    ] {
        let wide = if a.bits == 8 { 1 } else { 2 };
        for suffix in ["", ".satfinite"] {
            add([8, 8, 16 * wide], a, b, S32, S32, suffix, (65, 75));
            add([16, 8, 16 * wide], a, b, S32, S32, suffix, (70, 80));
            add([16, 8, 32 * wide], a, b, S32, S32, suffix, (70, 80));
        }
    }
    for (suffix, needs) in [(".xor.popc", (70, 75)), (".and.popc", (71, 80))] {
        add([8, 8, 128], B1, B1, S32, S32, suffix, needs);
        add([16, 8, 128], B1, B1, S32, S32, suffix, (needs.0, 80));
        add([16, 8, 256], B1, B1, S32, S32, suffix, (needs.0, 80));
    }
    for (a, b) in [(E4M3, E4M3), (E4M3, E5M2E), (E5M2E, E4M3), (E5M2E, E5M2E)] {
        add([16, 8, 32], a, b, F32E, F32E, "", (84, 89));
        add([16, 8, 32], a, b, F16E, F16E, "", (87, 89));
        add([16, 8, 16], a, b, F32E, F32E, "", (87, 89));
    }
    out
}

/// Where element `e` of register `r` of a lane lies in A: row and column. Elements of a register are neighbours
/// in a row; four lanes share a row.
pub(crate) fn place_a(m: usize, per: usize, lane: usize, r: usize, e: usize) -> [usize; 2] {
    let (low, half) = if m == 16 { (r % 2, r / 2) } else { (0, r) };
    [lane / 4 + 8 * low, (lane % 4) * per + e + 4 * per * half]
}

pub(crate) fn place_b(per: usize, lane: usize, r: usize, e: usize) -> [usize; 2] {
    [(lane % 4) * per + e + 4 * per * r, lane / 4]
}

/// A register with the elements of a matrix at given rows and columns.
pub(crate) fn encode(
    e: Element,
    matrix: &[i64],
    width: usize,
    places: impl Iterator<Item = [usize; 2]>,
) -> u64 {
    places.enumerate().fold(0u64, |r, (i, [row, col])| {
        r | e.encode(matrix[row * width + col]) << (e.bits as usize * i)
    })
}

/// Elements of C or D in a register: halves are packed in twos.
pub(crate) fn pack(e: Element) -> usize {
    if e.name == "f16" { 2 } else { 1 }
}

/// A lane's registers of C or D, a matrix of 16 or 8 rows.
pub(crate) fn accumulators(e: Element, matrix: &[i64], lane: usize) -> Vec<u64> {
    let n = pack(e);
    (0..matrix.len() / 32 / n)
        .map(|r| encode(e, matrix, 8, (0..n).map(|i| place_c(lane, r * n + i))))
        .collect()
}

/// A matrix of C; that of seed 2 at the ends of what S32 holds.
pub(crate) fn sums(e: Element, n: usize, seed: u64) -> Vec<i64> {
    let mut c = e.matrix(n, seed + 20);
    if e == S32 && seed == 2 {
        let ends = [i32::MAX, i32::MIN].map(i64::from);
        c.iter_mut()
            .zip(ends.into_iter().cycle())
            .for_each(|(v, end)| *v = end);
    }
    c
}

/// `{%a, %b}`: registers of a list.
pub(crate) fn braces(names: &[&str]) -> String {
    let list: Vec<String> = names.iter().map(|n| format!("%{n}")).collect();
    format!("{{{}}}", list.join(", "))
}

/// Type of a register of C or D.
pub(crate) fn sum_register(e: Element) -> &'static str {
    if e.name == "f16" { "b32" } else { register(e) }
}

/// Of C and D, two neighbours of a row belong to a lane, packed or not.
fn place_c(lane: usize, i: usize) -> [usize; 2] {
    [lane / 4 + 8 * (i / 2), (lane % 4) * 2 + i % 2]
}

pub(crate) fn product(kind: &Kind, a: &[i64], b: &[i64], c: &[i64]) -> Vec<i64> {
    let [m, n, k] = kind.shape;
    let mut d = c.to_vec();
    for row in 0..m {
        for col in 0..n {
            let mut sum = 0i64;
            for i in 0..k {
                let (x, y) = (a[row * k + i], b[i * n + col]);
                sum += match kind.suffix {
                    ".xor.popc" => x ^ y,
                    ".and.popc" => x & y,
                    _ => x * y,
                };
            }
            let v = &mut d[row * n + col];
            *v += sum;
            if kind.d == S32 {
                *v = if kind.suffix == ".satfinite" {
                    (*v).clamp(i32::MIN.into(), i32::MAX.into())
                } else {
                    i64::from(*v as i32)
                };
            }
        }
    }
    d
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Matrices");
    for kind in kinds() {
        mma(t, &kind);
    }
    quads(t);
    fragments(t);
    t.needs(63, 50);
}

pub(crate) fn register(e: Element) -> &'static str {
    if e.bits == 64 {
        "b64"
    } else if e.name == "f32" {
        "f32"
    } else {
        "b32"
    }
}

fn mma(t: &mut Table, kind: &Kind) {
    let [m, n, k] = kind.shape;
    let per = |e: Element| (32 / e.bits).max(1) as usize;
    let (pa, pb) = (per(kind.a), per(kind.b));
    let (ra, rb, elements) = (m * k / 32 / pa, n * k / 32 / pb, m * n / 32);
    let (rc, rd) = (elements / pack(kind.c), elements / pack(kind.d));
    let mut inputs = vec![register(kind.a); ra];
    inputs.extend(vec![register(kind.b); rb]);
    inputs.extend(vec![sum_register(kind.c); rc]);
    // `.satfinite` stands before the types, the operation on bits behind them.
    let (sat, operation) = if kind.suffix == ".satfinite" {
        (kind.suffix, "")
    } else {
        ("", kind.suffix)
    };
    let opcode = format!(
        "mma.sync.aligned.m{m}n{n}k{k}.row.col{sat}.{}.{}.{}.{}{operation}",
        kind.d.name, kind.a.name, kind.b.name, kind.c.name
    );
    let code = format!(
        "{opcode} {}, {}, {}, {};",
        braces(&OUT[..rd]),
        braces(&IN[..ra]),
        braces(&IN[ra..ra + rb]),
        braces(&IN[ra + rb..ra + rb + rc])
    );
    let mut cases = vec![];
    let mut wants = vec![];
    for seed in 1..=2u64 {
        let (a, b) = (kind.a.matrix(m * k, seed), kind.b.matrix(k * n, seed + 10));
        let c = sums(kind.c, m * n, seed);
        let d = product(kind, &a, &b, &c);
        let mut threads = vec![];
        let mut results = vec![];
        for lane in 0..32 {
            let left = |r| encode(kind.a, &a, k, (0..pa).map(|e| place_a(m, pa, lane, r, e)));
            let right = |r| encode(kind.b, &b, n, (0..pb).map(|e| place_b(pb, lane, r, e)));
            let mut words: Vec<u64> = (0..ra).map(left).collect();
            words.extend((0..rb).map(right));
            words.extend(accumulators(kind.c, &c, lane));
            threads.push(words);
            let out = accumulators(kind.d, &d, lane);
            results.push(out.into_iter().map(Bits).collect::<Vec<_>>());
        }
        cases.push(threads);
        wants.push(results);
    }
    t.needs(kind.needs.0, kind.needs.1);
    let wants = std::cell::RefCell::new(wants.into_iter());
    t.block(
        &opcode,
        &code,
        32,
        &inputs,
        &vec![sum_register(kind.d); rd],
        &cases,
        |_| wants.borrow_mut().next().unwrap_or_default(),
    );
}

/// `m8n8k4` of f16: four products, each of the lanes 4 q to 4 q + 3 and those 16 further on.
fn quads(t: &mut Table) {
    t.needs(64, 70);
    for (d, c) in [(F16E, F16E), (F32E, F32E), (F32E, F16E)] {
        for [la, lb] in [
            ["row", "col"],
            ["row", "row"],
            ["col", "row"],
            ["col", "col"],
        ] {
            let kind = Kind {
                shape: [8, 8, 4],
                a: F16E,
                b: F16E,
                d,
                c,
                suffix: "",
                needs: (64, 70),
            };
            let pick = |e: Element, n: usize, q: u64| e.matrix(n, 3 * q + 1);
            let parts: Vec<[Vec<i64>; 4]> = (0..4)
                .map(|q| {
                    let (a, b, c) = (
                        pick(F16E, 32, q),
                        pick(F16E, 32, q + 10),
                        pick(c, 64, q + 20),
                    );
                    let r = product(&kind, &a, &b, &c);
                    [a, b, c, r]
                })
                .collect();
            // Places of a lane's elements: of A and B four, of C and D eight.
            let low = |l: usize| l % 4 + if l < 16 { 0 } else { 4 };
            let accumulator = |e: Element, m: &[i64], l: usize| -> Vec<u64> {
                let at = |i: usize| {
                    if e == F16E {
                        [low(l), i]
                    } else {
                        [
                            (l & 1) + (i & 2) + if l < 16 { 0 } else { 4 },
                            (i & 4) + (l & 2) + (i & 1),
                        ]
                    }
                };
                let v: Vec<u64> = (0..8)
                    .map(|i| e.encode(m[at(i)[0] * 8 + at(i)[1]]))
                    .collect();
                if e == F16E {
                    v.chunks(2).map(|p| p[1] << 16 | p[0]).collect()
                } else {
                    v
                }
            };
            let mut threads = vec![];
            let mut results = vec![];
            for l in 0..32usize {
                let [a, b, c_matrix, r] = &parts[l % 16 / 4];
                let half = if l < 16 { 0 } else { 4 };
                let va = |i: usize| {
                    if la == "row" {
                        a[low(l) * 4 + i]
                    } else {
                        a[(i + half) * 4 + l % 4]
                    }
                };
                let vb = |i: usize| {
                    if lb == "row" {
                        b[(l % 4) * 8 + i + half]
                    } else {
                        b[i * 8 + low(l)]
                    }
                };
                let two = |f: &dyn Fn(usize) -> i64, i: usize| {
                    F16E.encode(f(i + 1)) << 16 | F16E.encode(f(i))
                };
                let mut words = vec![two(&va, 0), two(&va, 2), two(&vb, 0), two(&vb, 2)];
                words.extend(accumulator(c, c_matrix, l));
                threads.push(words);
                results.push(
                    accumulator(d, r, l)
                        .into_iter()
                        .map(Bits)
                        .collect::<Vec<_>>(),
                );
            }
            let count = |e: Element| if e == F16E { 4 } else { 8 };
            let list = |names: &[&str]| {
                names
                    .iter()
                    .map(|n| format!("%{n}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let opcode = format!(
                "mma.sync.aligned.m8n8k4.{la}.{lb}.{}.f16.f16.{}",
                d.name, c.name
            );
            let code = format!(
                "{opcode} {{{}}}, {{%a, %b}}, {{%c, %e}}, {{{}}};",
                list(&OUT[..count(d)]),
                list(&IN[4..4 + count(c)])
            );
            let reg = |e: Element| if e == F16E { "b32" } else { "f32" };
            let mut inputs = vec!["b32"; 4];
            inputs.extend(vec![reg(c); count(c)]);
            t.block(
                &opcode,
                &code,
                32,
                &inputs,
                &vec![reg(d); count(d)],
                &[threads],
                |_| results.clone(),
            );
        }
    }
}

fn fragments(t: &mut Table) {
    // Each lane writes a row of 16 bytes: four matrices of 8 rows.
    let cases: Vec<Vec<Vec<u64>>> = vec![random(64, 1).chunks(2).map(<[u64]>::to_vec).collect()];
    let half =
        |i: &[Vec<u64>], row: usize, col: usize| i[row][col / 4] >> (16 * (col % 4)) & 0xffff;
    let fill = ".shared .align 16 .b8 s#[512]; mov.u32 %r5, %laneid; shl.b32 %r6, %r5, 4; mov.u32 %r7, s#; add.u32 %r6, %r6, %r7; st.shared.v2.b64 [%r6], {%a, %b}; bar.warp.sync -1;";
    for n in [1usize, 2, 4] {
        for trans in ["", ".trans"] {
            let list = OUT[..n]
                .iter()
                .map(|n| format!("%{n}"))
                .collect::<Vec<_>>()
                .join(", ");
            let value = move |i: &[Vec<u64>], k: usize, l: usize| {
                let at = |row: usize, col: usize| half(i, 8 * k + row, col);
                if trans.is_empty() {
                    at(l / 4, 2 * (l % 4)) | at(l / 4, 2 * (l % 4) + 1) << 16
                } else {
                    at(2 * (l % 4), l / 4) | at(2 * (l % 4) + 1, l / 4) << 16
                }
            };
            for (space, version, sm) in
                [(".shared", 65, 75), ("", 65, 75), (".shared::cta", 78, 75)]
            {
                t.needs(version, sm);
                let opcode = format!("ldmatrix.sync.aligned.m8n8.x{n}{trans}{space}.b16");
                let address = if space.is_empty() { "%q3" } else { "%r6" };
                let to = if space.is_empty() {
                    "cvt.u64.u32 %q3, %r6; cvta.shared.u64 %q3, %q3;"
                } else {
                    ""
                };
                let code = format!("{fill} {to} {opcode} {{{list}}}, [{address}];");
                t.block(
                    &opcode,
                    &code,
                    32,
                    &["b64", "b64"],
                    &["b32"; 4][..n],
                    &cases,
                    |i| {
                        (0..32)
                            .map(|l| (0..n).map(|k| Bits(value(i, k, l))).collect())
                            .collect()
                    },
                );
            }
            // What is stored comes back as it was loaded.
            t.needs(78, 90);
            let opcode = format!("stmatrix.sync.aligned.m8n8.x{n}{trans}.shared.b16");
            let code = format!(
                "{fill} ldmatrix.sync.aligned.m8n8.x{n}.shared.b16 {{{}}}, [%r6]; bar.warp.sync -1; {opcode} [%r6], {{{}}}; bar.warp.sync -1; ld.shared.v2.b64 {{%x, %y}}, [%r6];",
                (0..n)
                    .map(|k| format!("%r{}", 10 + k))
                    .collect::<Vec<_>>()
                    .join(", "),
                (0..n)
                    .map(|k| format!("%r{}", 10 + k))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            t.block(
                &opcode,
                &code,
                32,
                &["b64", "b64"],
                &["b64", "b64"],
                &cases,
                |i| {
                    (0..32)
                        .map(|l| {
                            let (k, row) = (l / 8, l % 8);
                            (0..2)
                                .map(|w| {
                                    let word = (0..4).fold(0, |r, c| {
                                        let col = 4 * w + c;
                                        let v = if trans.is_empty() || k >= n {
                                            half(i, l, col)
                                        } else {
                                            half(i, 8 * k + col, row)
                                        };
                                        r | v << (16 * c)
                                    });
                                    Bits(word)
                                })
                                .collect()
                        })
                        .collect()
                },
            );
        }
    }
    t.needs(78, 75);
    let cases: Vec<Vec<Vec<u64>>> = vec![
        random(32, 2)
            .into_iter()
            .map(|v| vec![v & 0xffff_ffff])
            .collect(),
    ];
    t.block(
        "movmatrix.sync.aligned.m8n8.trans.b16",
        "movmatrix.sync.aligned.m8n8.trans.b16 %x, %a;",
        32,
        &["b32"],
        &["b32"],
        &cases,
        |i| {
            // Row r, column c is the half c % 2 of lane 4 * r + c / 2.
            let at = |row: usize, col: usize| i[4 * row + col / 2][0] >> (16 * (col % 2)) & 0xffff;
            (0..32)
                .map(|l| {
                    vec![Bits(
                        at(2 * (l % 4), l / 4) | at(2 * (l % 4) + 1, l / 4) << 16,
                    )]
                })
                .collect()
        },
    );
}
