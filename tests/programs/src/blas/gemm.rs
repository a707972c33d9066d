//! The gemm family.

use anyhow::{Context as _, Result, ensure};

use super::element::{C64, Type};
use super::{Blas, Matrix, Random, Test, addresses, call, encode, int, ok};
use crate::cuda::Buffer;

pub const TESTS: &[Test] = &[
    ("gemm_ex_all_types", all_types),
    ("gemm_shapes_and_operations", shapes),
    ("gemm_typed_functions", typed),
    ("gemm_batched", batched),
    ("gemm_strided", strided),
    ("gemm_scalars", scalars),
    ("gemm_device_scalars", device_scalars),
    ("gemm_int8_is_exact", int8),
    ("gemm_empty", empty),
];

/// A row of the table of `cublasGemmEx`: compute type, A and B, C.
pub const TABLE: &[(u32, Type, Type)] = &[
    (64, Type::F16, Type::F16),
    (65, Type::F16, Type::F16),
    (72, Type::I8, Type::I32),
    (73, Type::I8, Type::I32),
    (68, Type::Bf16, Type::Bf16),
    (68, Type::F16, Type::F16),
    (68, Type::I8, Type::F32),
    (68, Type::Bf16, Type::F32),
    (68, Type::F16, Type::F32),
    (68, Type::F32, Type::F32),
    (68, Type::Ci8, Type::C32),
    (68, Type::C32, Type::C32),
    (69, Type::F32, Type::F32),
    (74, Type::F32, Type::F32),
    (75, Type::F32, Type::F32),
    (77, Type::F32, Type::F32),
    (77, Type::C32, Type::C32),
    (70, Type::F64, Type::F64),
    (70, Type::C64, Type::C64),
    (71, Type::F64, Type::F64),
];

/// Type of alpha and beta.
pub fn scale(compute: u32, c: Type) -> Type {
    match compute {
        64 | 65 => Type::F16,
        72 | 73 => Type::I32,
        70 | 71 if c.is_complex() => Type::C64,
        70 | 71 => Type::F64,
        _ if c.is_complex() => Type::C32,
        _ => Type::F32,
    }
}

/// Relative error of a term in a compute type: of the fast ones that of what they may round to.
pub fn term_error(compute: u32) -> f64 {
    match compute {
        64 | 65 | 74 | 77 => 2f64.powi(-10),
        75 => 2f64.powi(-8),
        70 | 71 => 2f64.powi(-52),
        72 | 73 => 0.0,
        _ => 2f64.powi(-23),
    }
}

struct Case {
    compute: u32,
    ty: Type,
    c_type: Type,
    operations: (u32, u32),
    size: [usize; 3],
    pad: usize,
    alpha: C64,
    beta: C64,
}

impl Case {
    fn new(compute: u32, ty: Type, c_type: Type, size: [usize; 3]) -> Case {
        let whole = c_type.is_integer();
        let number = |re: f64, im: f64| C64 {
            re,
            im: if c_type.is_complex() { im } else { 0.0 },
        };
        Case {
            compute,
            ty,
            c_type,
            operations: (0, 0),
            size,
            pad: 3,
            alpha: if whole {
                number(3.0, 0.0)
            } else {
                number(0.75, -0.5)
            },
            beta: if whole {
                number(-2.0, 0.0)
            } else {
                number(-1.5, 0.25)
            },
        }
    }

    fn matrices(&self, random: &mut Random) -> Result<[Matrix; 3]> {
        let [m, n, k] = self.size;
        let turned = |operation: u32, r, c| if operation == 0 { (r, c) } else { (c, r) };
        let (a, b) = (
            turned(self.operations.0, m, k),
            turned(self.operations.1, k, n),
        );
        // Integer products want leading dimensions that are multiples of 4.
        let pad = |rows: usize| {
            if self.compute == 72 || self.compute == 73 {
                rows.next_multiple_of(4) - rows + 4
            } else {
                self.pad
            }
        };
        Ok([
            Matrix::new(self.ty, a.0, a.1, pad(a.0), random)?,
            Matrix::new(self.ty, b.0, b.1, pad(b.0), random)?,
            Matrix::new(self.c_type, m, n, self.pad, random)?,
        ])
    }

    /// Element (i, j) of the result, and how far from it one may be.
    fn want(&self, [a, b, c]: [&Matrix; 3], i: usize, j: usize) -> (C64, f64) {
        let (mut sum, mut size) = (C64::ZERO, 0.0);
        for p in 0..self.size[2] {
            let (x, y) = (a.op(self.operations.0, i, p), b.op(self.operations.1, p, j));
            sum = sum + x * y;
            size += x.abs() * y.abs();
        }
        let old = if self.beta == C64::ZERO {
            C64::ZERO
        } else {
            self.beta * c.get(i, j)
        };
        let value = self.alpha * sum + old;
        let all = self.alpha.abs() * size + old.abs();
        let terms = self.size[2] as f64 + 4.0;
        let bound = all * term_error(self.compute) * terms.sqrt() * 4.0
            + (value.abs() + all * 1e-3) * self.c_type.epsilon() * 2.0;
        (value, bound)
    }

    fn run(&self, blas: &Blas, random: &mut Random) -> Result<()> {
        let [a, b, c] = self.matrices(random)?;
        let ty = scale(self.compute, self.c_type);
        let (alpha, beta) = (ty.encode(self.alpha), ty.encode(self.beta));
        let [m, n, k] = self.size;
        let status = call!(blas, "cublasGemmEx",
            blas.handle() => u64, self.operations.0 => u32, self.operations.1 => u32,
            int(m)? => i32, int(n)? => i32, int(k)? => i32, alpha.as_ptr() => *const u8,
            a.at() => u64, self.ty as u32 => u32, int(a.ld)? => i32,
            b.at() => u64, self.ty as u32 => u32, int(b.ld)? => i32, beta.as_ptr() => *const u8,
            c.at() => u64, self.c_type as u32 => u32, int(c.ld)? => i32, self.compute => u32, -1 => i32);
        let what = format!(
            "compute {} {:?} to {:?}, operations {:?}, {m} x {n} x {k}",
            self.compute, self.ty, self.c_type, self.operations
        );
        ok("cublasGemmEx", status).with_context(|| what.clone())?;
        c.compare(&what, |i, j| self.want([&a, &b, &c], i, j))
    }
}

fn all_types(blas: &Blas) -> Result<()> {
    let mut random = Random(1);
    for &(compute, ty, c) in TABLE {
        for operations in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 2)] {
            let mut case = Case::new(compute, ty, c, [37, 29, 45]);
            case.operations = operations;
            case.run(blas, &mut random)?;
        }
    }
    Ok(())
}

fn shapes(blas: &Blas) -> Result<()> {
    let mut random = Random(2);
    let sizes = [1, 2, 7, 16, 33, 64, 65, 130];
    for (compute, ty, c) in [
        (68, Type::F32, Type::F32),
        (68, Type::F16, Type::F32),
        (70, Type::C64, Type::C64),
    ] {
        for i in 0..40 {
            let mut pick = |n: usize| random.next() as usize % n;
            let size = [sizes[pick(8)], sizes[pick(8)], sizes[pick(8)]];
            let operations = (pick(3) as u32, pick(3) as u32);
            let mut case = Case::new(compute, ty, c, size);
            case.operations = operations;
            case.pad = i % 3 * 5;
            case.run(blas, &mut random)?;
        }
    }
    // More than a tile, and more terms than a step.
    Case::new(68, Type::F32, Type::F32, [600, 520, 33]).run(blas, &mut random)?;
    Case::new(68, Type::F16, Type::F16, [30, 9, 5000]).run(blas, &mut random)?;
    Case::new(70, Type::F64, Type::F64, [3, 700, 2100]).run(blas, &mut random)
}

/// `cublas<t>gemm` by name, with the types that the name says.
const TYPED: &[(&str, u32, Type)] = &[
    ("S", 68, Type::F32),
    ("D", 70, Type::F64),
    ("C", 68, Type::C32),
    ("Z", 70, Type::C64),
    ("H", 64, Type::F16),
];

fn typed(blas: &Blas) -> Result<()> {
    let mut random = Random(3);
    let mut names: Vec<(String, u32, Type)> = Vec::new();
    for (t, compute, ty) in TYPED {
        let version = if *t == "H" { "" } else { "_v2" };
        names.push((format!("cublas{t}gemm{version}"), *compute, *ty));
    }
    names.push(("cublasCgemm3m".into(), 68, Type::C32));
    names.push(("cublasZgemm3m".into(), 70, Type::C64));
    for (name, compute, ty) in names {
        let case = Case::new(compute, ty, ty, [21, 18, 30]);
        let [a, b, c] = case.matrices(&mut random)?;
        let (alpha, beta) = (ty.encode(case.alpha), ty.encode(case.beta));
        let status = call!(blas, &name,
            blas.handle() => u64, 0 => u32, 0 => u32, 21 => i32, 18 => i32, 30 => i32, alpha.as_ptr() => *const u8,
            a.at() => u64, int(a.ld)? => i32, b.at() => u64, int(b.ld)? => i32, beta.as_ptr() => *const u8,
            c.at() => u64, int(c.ld)? => i32);
        ok(&name, status)?;
        c.compare(&name, |i, j| case.want([&a, &b, &c], i, j))?;
        let long = format!("{name}_64");
        if blas.has(&long) {
            let status = call!(blas, &long,
                blas.handle() => u64, 0 => u32, 0 => u32, 21 => i64, 18 => i64, 30 => i64, alpha.as_ptr() => *const u8,
                a.at() => u64, a.ld as i64 => i64, b.at() => u64, b.ld as i64 => i64, beta.as_ptr() => *const u8,
                c.at() => u64, c.ld as i64 => i64);
            ok(&long, status)?;
        }
    }
    Ok(())
}

fn batched(blas: &Blas) -> Result<()> {
    let mut random = Random(4);
    for (t, compute, ty) in TYPED {
        let case = Case::new(*compute, *ty, *ty, [12, 9, 20]);
        let sets: Vec<[Matrix; 3]> = (0..5)
            .map(|_| case.matrices(&mut random))
            .collect::<Result<_>>()?;
        let list =
            |which: usize| addresses(&sets.iter().map(|set| set[which].at()).collect::<Vec<u64>>());
        let (la, lb, lc) = (list(0)?, list(1)?, list(2)?);
        let [a, b, c] = &sets[0];
        let (alpha, beta) = (ty.encode(case.alpha), ty.encode(case.beta));
        let name = format!("cublas{t}gemmBatched");
        let status = call!(blas, &name,
            blas.handle() => u64, 0 => u32, 0 => u32, 12 => i32, 9 => i32, 20 => i32, alpha.as_ptr() => *const u8,
            la.address() => u64, int(a.ld)? => i32, lb.address() => u64, int(b.ld)? => i32, beta.as_ptr() => *const u8,
            lc.address() => u64, int(c.ld)? => i32, 5 => i32);
        ok(&name, status)?;
        for [a, b, c] in &sets {
            c.compare(&name, |i, j| case.want([a, b, c], i, j))?;
        }
    }
    // The form with types.
    let case = Case::new(68, Type::Bf16, Type::F32, [8, 8, 8]);
    let set = case.matrices(&mut random)?;
    let lists = [
        addresses(&[set[0].at()])?,
        addresses(&[set[1].at()])?,
        addresses(&[set[2].at()])?,
    ];
    let (alpha, beta) = (Type::F32.encode(case.alpha), Type::F32.encode(case.beta));
    let status = call!(blas, "cublasGemmBatchedEx",
        blas.handle() => u64, 0 => u32, 0 => u32, 8 => i32, 8 => i32, 8 => i32, alpha.as_ptr() => *const u8,
        lists[0].address() => u64, 14 => u32, int(set[0].ld)? => i32, lists[1].address() => u64, 14 => u32,
        int(set[1].ld)? => i32, beta.as_ptr() => *const u8, lists[2].address() => u64, 0 => u32,
        int(set[2].ld)? => i32, 1 => i32, 68 => u32, -1 => i32);
    ok("cublasGemmBatchedEx", status)?;
    let [a, b, c] = &set;
    c.compare("cublasGemmBatchedEx", |i, j| case.want([a, b, c], i, j))
}

fn strided(blas: &Blas) -> Result<()> {
    let mut random = Random(5);
    for (t, compute, ty) in TYPED {
        let (size, batch, ld) = ([11usize, 6, 14], 7usize, 16usize);
        let case = Case::new(*compute, *ty, *ty, size);
        // One A for all; B and C at distances with room between them.
        let strides = [0, ld * 6 + 5, ld * 6 + 9];
        let mut block =
            |count: usize| -> Vec<C64> { (0..count).map(|_| random.value(*ty)).collect() };
        let values = [
            block(ld * 14),
            block(strides[1] * batch),
            block(strides[2] * batch),
        ];
        let memory: Vec<Buffer<u8>> = values
            .iter()
            .map(|v| Buffer::from(&encode(*ty, v)))
            .collect::<Result<_>>()?;
        let (alpha, beta) = (ty.encode(case.alpha), ty.encode(case.beta));
        let name = format!("cublas{t}gemmStridedBatched");
        let status = call!(blas, &name,
            blas.handle() => u64, 0 => u32, 0 => u32, 11 => i32, 6 => i32, 14 => i32, alpha.as_ptr() => *const u8,
            memory[0].address() => u64, 16 => i32, strides[0] as i64 => i64,
            memory[1].address() => u64, 16 => i32, strides[1] as i64 => i64, beta.as_ptr() => *const u8,
            memory[2].address() => u64, 16 => i32, strides[2] as i64 => i64, batch as i32 => i32);
        ok(&name, status)?;
        let got: Vec<C64> = memory[2]
            .read()?
            .chunks(ty.bytes())
            .map(|raw| ty.decode(raw))
            .collect();
        for index in 0..batch {
            let part = |which: usize, cols: usize| {
                let from = strides[which] * index;
                Matrix::of(*ty, 16, ld, values[which][from..from + ld * cols].to_vec())
            };
            let (a, b, c) = (part(0, 14)?, part(1, 6)?, part(2, 6)?);
            for (i, j) in (0..11).flat_map(|i| (0..6).map(move |j| (i, j))) {
                let (want, bound) = case.want([&a, &b, &c], i, j);
                let value = got[strides[2] * index + i + j * ld];
                ensure!(
                    value.near(want, bound),
                    "{name}: matrix {index}, ({i}, {j}) is {value:?}, not {want:?}"
                );
            }
        }
    }
    Ok(())
}

/// What alpha and beta of 0 and 1 mean.
fn scalars(blas: &Blas) -> Result<()> {
    let mut random = Random(6);
    let nan = C64::real(f64::NAN);
    for (compute, ty, c_type) in [
        (68, Type::F32, Type::F32),
        (68, Type::F16, Type::F32),
        (64, Type::F16, Type::F16),
        (70, Type::F64, Type::F64),
    ] {
        for k in [0, 17] {
            for (alpha, beta) in [(1.0, 0.0), (0.0, 0.0), (0.0, 2.0), (2.0, 1.0), (0.0, 1.0)] {
                let mut case = Case::new(compute, ty, c_type, [19, 13, k]);
                (case.alpha, case.beta) = (C64::real(alpha), C64::real(beta));
                let [mut a, b, mut c] = case.matrices(&mut random)?;
                if beta == 0.0 {
                    // C is not read.
                    c = Matrix::of(c_type, c.rows, c.ld, vec![nan; c.values.len()])?;
                }
                if alpha == 0.0 {
                    // Nor are A and B.
                    a = Matrix::of(ty, a.rows, a.ld, vec![nan; a.values.len()])?;
                }
                let scale = scale(compute, c_type);
                let (al, be) = (scale.encode(case.alpha), scale.encode(case.beta));
                let status = call!(blas, "cublasGemmEx",
                    blas.handle() => u64, 0 => u32, 0 => u32, 19 => i32, 13 => i32, k as i32 => i32, al.as_ptr() => *const u8,
                    a.at() => u64, ty as u32 => u32, int(a.ld)? => i32, b.at() => u64, ty as u32 => u32, int(b.ld)? => i32,
                    be.as_ptr() => *const u8, c.at() => u64, c_type as u32 => u32, int(c.ld)? => i32, compute => u32, -1 => i32);
                ok("cublasGemmEx", status)?;
                let zero = Matrix::of(ty, a.rows, a.ld, vec![C64::ZERO; a.values.len()])?;
                let a = if alpha == 0.0 { &zero } else { &a };
                c.compare(
                    &format!("{ty:?} alpha {alpha} beta {beta} k {k}"),
                    |i, j| case.want([a, &b, &c], i, j),
                )?;
            }
        }
    }
    // A NaN in A reaches C.
    let case = Case::new(68, Type::F32, Type::F32, [4, 4, 4]);
    let [a, b, c] = case.matrices(&mut random)?;
    let a = Matrix::of(Type::F32, 4, a.ld, vec![nan; a.values.len()])?;
    let one = 1.0f32;
    let status = call!(blas, "cublasSgemm_v2",
        blas.handle() => u64, 0 => u32, 0 => u32, 4 => i32, 4 => i32, 4 => i32, &raw const one => *const f32,
        a.at() => u64, int(a.ld)? => i32, b.at() => u64, int(b.ld)? => i32, &raw const one => *const f32,
        c.at() => u64, int(c.ld)? => i32);
    ok("cublasSgemm_v2", status)?;
    ensure!(c.read()?[0].re.is_nan(), "a NaN in A is lost");
    Ok(())
}

fn device_scalars(blas: &Blas) -> Result<()> {
    let mut random = Random(7);
    for &(compute, ty, c_type) in TABLE {
        let case = Case::new(compute, ty, c_type, [8, 8, 8]);
        let [a, b, c] = case.matrices(&mut random)?;
        let scale = scale(compute, c_type);
        let factors = Buffer::from(
            &[
                scale.encode(case.alpha),
                vec![0; 16 - scale.bytes()],
                scale.encode(case.beta),
            ]
            .concat(),
        )?;
        blas.pointer_mode(true)?;
        let status = call!(blas, "cublasGemmEx",
            blas.handle() => u64, 0 => u32, 0 => u32, 8 => i32, 8 => i32, 8 => i32, factors.address() => u64,
            a.at() => u64, ty as u32 => u32, int(a.ld)? => i32, b.at() => u64, ty as u32 => u32, int(b.ld)? => i32,
            factors.address() + 16 => u64, c.at() => u64, c_type as u32 => u32, int(c.ld)? => i32, compute => u32, -1 => i32);
        blas.pointer_mode(false)?;
        ok("cublasGemmEx", status)?;
        c.compare(&format!("{ty:?} to {c_type:?}"), |i, j| {
            case.want([&a, &b, &c], i, j)
        })?;
    }
    Ok(())
}

/// Sums beyond what a float holds.
fn int8(blas: &Blas) -> Result<()> {
    let k = 4100;
    let fill = |value: f64, count: usize| vec![C64::real(value); count];
    let a = Matrix::of(Type::I8, 4, 4, fill(-128.0, 4 * k))?;
    let mut values = fill(-128.0, k * 4);
    values[1] = C64::real(127.0);
    let b = Matrix::of(Type::I8, k, k, values)?;
    let c = Matrix::of(Type::I32, 4, 4, fill(7.0, 16))?;
    let (one, zero) = (1i32, 0i32);
    let status = call!(blas, "cublasGemmEx",
        blas.handle() => u64, 0 => u32, 0 => u32, 4 => i32, 4 => i32, k as i32 => i32, &raw const one => *const i32,
        a.at() => u64, 3 => u32, 4 => i32, b.at() => u64, 3 => u32, k as i32 => i32,
        &raw const zero => *const i32, c.at() => u64, 10 => u32, 4 => i32, 72 => u32, -1 => i32);
    ok("cublasGemmEx", status)?;
    let sum = 16384.0 * k as f64;
    c.compare("int8", |_, j| {
        (
            C64::real(if j == 0 { sum - 128.0 * 255.0 } else { sum }),
            0.0,
        )
    })
}

/// Sizes of 0 are no error, and nothing happens.
fn empty(blas: &Blas) -> Result<()> {
    let c = Matrix::new(Type::F32, 4, 4, 0, &mut Random(8))?;
    let one = 2.0f32;
    for (m, n, batch) in [(0, 4, 1), (4, 0, 1), (4, 4, 0)] {
        let status = call!(blas, "cublasSgemmStridedBatched",
            blas.handle() => u64, 0 => u32, 0 => u32, m => i32, n => i32, 4 => i32, &raw const one => *const f32,
            c.at() => u64, 4 => i32, 0 => i64, c.at() => u64, 4 => i32, 0 => i64, &raw const one => *const f32,
            c.at() => u64, 4 => i32, 0 => i64, batch => i32);
        ok("cublasSgemmStridedBatched", status)?;
    }
    c.compare("nothing", |i, j| (c.get(i, j), 0.0))
}
