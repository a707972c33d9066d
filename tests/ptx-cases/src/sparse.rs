//! Products with a sparse A through `mma.sp` (PTX ISA 9.7.14, "Sparse matrix storage").

use std::cell::RefCell;

use crate::form::{IN, OUT, Table, Want::Bits};
use crate::matrix::*;
use crate::values::random;

/// How a row of A is thinned out.
struct Storage {
    /// Neighbours of which half are left.
    chunk: usize,
    /// Elements that stay together.
    together: usize,
}

fn storage(e: Element) -> Storage {
    let (chunk, together) = match e.bits {
        32 => (2, 1),
        4 => (8, 2),
        _ => (4, 1),
    };
    Storage { chunk, together }
}

fn kinds() -> Vec<Kind> {
    let mut out = vec![];
    let mut add = |k, a, b, d, suffix, needs| {
        out.push(Kind {
            shape: [16, 8, k],
            a,
            b,
            d,
            c: d,
            suffix,
            needs,
        })
    };
    for wide in [1, 2] {
        add(16 * wide, F16E, F16E, F16E, "", (71, 80));
        add(16 * wide, F16E, F16E, F32E, "", (71, 80));
        add(16 * wide, BF16E, BF16E, F32E, "", (71, 80));
        add(8 * wide, TF32E, TF32E, F32E, "", (71, 80));
        for suffix in ["", ".satfinite"] {
            for (k, types) in [(32, [S8, U8]), (64, [S4, U4])] {
                for a in types {
                    for b in types {
                        add(k * wide, a, b, S32, suffix, (71, 80));
                    }
                }
            }
        }
    }
    for a in [E4M3, E5M2E] {
        for b in [E4M3, E5M2E] {
            add(64, a, b, F32E, "", (84, 89));
        }
    }
    out
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    for kind in kinds() {
        let lanes = lanes(&kind);
        for selector in 0..4 / lanes {
            form(t, &kind, ".sp", selector);
        }
        form(t, &kind, ".sp::ordered_metadata", 4 / lanes - 1);
    }
}

fn chunks(kind: &Kind) -> usize {
    kind.shape[2] / storage(kind.a).chunk
}

/// Lanes of the four of a row that hold metadata: 4 bits a chunk, of two rows.
fn lanes(kind: &Kind) -> usize {
    2 * 4 * chunks(kind) / 32
}

/// Which of its elements a chunk keeps, in order, and what the metadata says of it.
fn kept(kind: &Kind, choice: u64) -> (Vec<usize>, u32) {
    const PAIRS: [[usize; 2]; 6] = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];
    if kind.a.bits == 32 {
        return match choice % 2 {
            0 => (vec![0], 0b0100),
            _ => (vec![1], 0b1110),
        };
    }
    let pair = PAIRS[choice as usize % 6];
    let n = storage(kind.a).together;
    let all = pair.iter().flat_map(|p| (0..n).map(move |i| n * p + i));
    (all.collect(), (pair[0] | pair[1] << 2) as u32)
}

/// The lane that holds the metadata of a chunk, and its lowest bit.
fn place(kind: &Kind, selector: usize, row: usize, chunk: usize) -> (usize, usize) {
    let first = 4 * (row % 8) + selector * lanes(kind);
    if kind.a.bits >= 16 {
        (first + chunk / 4, 16 * (row / 8) + 4 * (chunk % 4))
    } else {
        (first + 2 * (chunk / 8) + row / 8, 4 * (chunk % 8))
    }
}

/// A of a seed: all of it, what is left of it, and its metadata by lane. Lanes that are not selected have some
/// that is wrong.
fn left(kind: &Kind, selector: usize, seed: u64) -> (Vec<i64>, Vec<i64>, Vec<u32>) {
    let [m, _, k] = kind.shape;
    let Storage { chunk: width, .. } = storage(kind.a);
    let values = kind.a.matrix(m * k, seed);
    let mut choices = random(m * chunks(kind), seed + 30).into_iter();
    let (mut all, mut packed) = (vec![0; m * k], vec![]);
    let mut metadata: Vec<u32> = random(32, seed + 40).iter().map(|v| *v as u32).collect();
    for row in 0..m {
        for chunk in 0..chunks(kind) {
            let (keep, bits) = kept(kind, choices.next().unwrap_or(0) >> 9);
            for i in keep {
                let at = row * k + chunk * width + i;
                all[at] = values[at];
                packed.push(values[at]);
            }
            let (lane, low) = place(kind, selector, row, chunk);
            metadata[lane] = metadata[lane] & !(15 << low) | bits << low;
        }
    }
    (all, packed, metadata)
}

fn form(t: &mut Table, kind: &Kind, variant: &str, selector: usize) {
    let [m, n, k] = kind.shape;
    let per = (32 / kind.a.bits) as usize;
    let (ra, rb) = (m * k / 2 / 32 / per, n * k / 32 / per);
    let rc = m * n / 32 / pack(kind.c);
    let mut inputs = vec!["b32"; ra + rb];
    inputs.extend(vec![sum_register(kind.c); rc]);
    inputs.push("b32");
    let instruction = format!(
        "mma{variant}.sync.aligned.m{m}n{n}k{k}.row.col{}.{}.{}.{}.{}",
        kind.suffix, kind.d.name, kind.a.name, kind.b.name, kind.c.name
    );
    let code = format!(
        "{instruction} {}, {}, {}, {}, %{}, {selector};",
        braces(&OUT[..rc]),
        braces(&IN[..ra]),
        braces(&IN[ra..ra + rb]),
        braces(&IN[ra + rb..ra + rb + rc]),
        IN[ra + rb + rc]
    );
    let opcode = match lanes(kind) {
        4 => instruction,
        _ => format!("{instruction}, selector {selector}"),
    };
    let (mut cases, mut wants) = (vec![], vec![]);
    for seed in 1..=2u64 {
        let (all, packed, metadata) = left(kind, selector, seed);
        let b = kind.b.matrix(k * n, seed + 10);
        let c = sums(kind.c, m * n, seed);
        let d = product(kind, &all, &b, &c);
        let (mut threads, mut results) = (vec![], vec![]);
        for (lane, metadata) in metadata.into_iter().enumerate() {
            let left = |r| {
                let places = (0..per).map(|e| place_a(m, per, lane, r, e));
                encode(kind.a, &packed, k / 2, places)
            };
            let right = |r| encode(kind.b, &b, n, (0..per).map(|e| place_b(per, lane, r, e)));
            let mut words: Vec<u64> = (0..ra).map(left).collect();
            words.extend((0..rb).map(right));
            words.extend(accumulators(kind.c, &c, lane));
            words.push(metadata.into());
            threads.push(words);
            let out = accumulators(kind.d, &d, lane);
            results.push(out.into_iter().map(Bits).collect::<Vec<_>>());
        }
        cases.push(threads);
        wants.push(results);
    }
    let (version, sm) = kind.needs;
    t.needs(if variant == ".sp" { version } else { 85 }, sm);
    let wants = RefCell::new(wants.into_iter());
    t.block(
        &opcode,
        &code,
        32,
        &inputs,
        &vec![sum_register(kind.d); rc],
        &cases,
        |_| wants.borrow_mut().next().unwrap_or_default(),
    );
}
