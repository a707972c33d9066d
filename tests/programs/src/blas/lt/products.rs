//! Products without an epilogue.

use std::ffi::c_void;

use anyhow::{Context as _, Result, ensure};

use super::{
    C64, Found, Lt, Matrix, Ordered, Random, Test, Type, call, encode, gemm, int, null, ok,
};
use crate::cuda::Buffer;

pub const TESTS: &[Test] = &[
    ("lt_all_types", all_types),
    ("lt_orders", orders),
    ("lt_in_place", in_place),
    ("lt_scalars", scalars),
    ("lt_strided_batches", strided),
    ("lt_pointer_batches", pointers),
    ("lt_int8_is_exact_and_saturates", int8),
    ("lt_streams", streams),
    ("lt_handle_of_cublas", of_cublas),
];

/// A product to try.
pub struct Case {
    pub compute: u32,
    pub ty: Type,
    pub out: Type,
    pub operations: (u32, u32),
    /// Order of A, B, C and D: by rows.
    pub by_rows: [bool; 4],
    pub size: [usize; 3],
    pub alpha: C64,
    pub beta: C64,
    pub device: bool,
    pub heuristic: bool,
}

impl Case {
    pub fn new(compute: u32, ty: Type, out: Type, size: [usize; 3]) -> Case {
        let complex = |re: f64, im: f64| C64 {
            re,
            im: if out.is_complex() { im } else { 0.0 },
        };
        let whole = gemm::scale(compute, out).is_integer();
        Case {
            compute,
            ty,
            out,
            operations: (0, 0),
            by_rows: [false; 4],
            size,
            alpha: if whole {
                C64::real(3.0)
            } else {
                complex(0.75, -0.5)
            },
            beta: if whole {
                C64::real(-2.0)
            } else {
                complex(-1.5, 0.25)
            },
            device: false,
            heuristic: false,
        }
    }

    fn integers(&self) -> bool {
        matches!(self.compute, 72 | 73)
    }

    pub fn matrices(&self, random: &mut Random) -> Result<[Ordered; 4]> {
        let [m, n, k] = self.size;
        let turned = |operation: u32, r, c| if operation == 0 { (r, c) } else { (c, r) };
        let sizes = [
            turned(self.operations.0, m, k),
            turned(self.operations.1, k, n),
            (m, n),
            (m, n),
        ];
        let mut made = Vec::new();
        for (i, size) in sizes.into_iter().enumerate() {
            let ty = if i < 2 { self.ty } else { self.out };
            let along = if self.by_rows[i] { size.1 } else { size.0 };
            // Integer products want leading dimensions that are multiples of 4.
            let pad = if self.integers() {
                along.next_multiple_of(4) - along + 4
            } else {
                3
            };
            made.push(Ordered::new(ty, size, self.by_rows[i], pad, random)?);
        }
        made.try_into().ok().context("four matrices")
    }

    /// Element (i, j) of `alpha op(A) op(B) + beta C`, and how far from it one may be.
    pub fn want(&self, m: &[Ordered; 4], i: usize, j: usize) -> (C64, f64) {
        let [a, b, c, _] = m;
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
        let bound = all * gemm::term_error(self.compute) * terms.sqrt() * 4.0
            + (value.abs() + all * 1e-3) * self.out.epsilon() * 2.0;
        (value, bound)
    }

    /// Runs it; `prepare` sets more of the descriptor.
    pub fn call(
        &self,
        lt: &Lt,
        m: &[Ordered; 4],
        prepare: impl FnOnce(&super::Object<'_>) -> Result<()>,
    ) -> Result<u32> {
        let scale = gemm::scale(self.compute, self.out);
        let operation = lt.operation(self.compute, scale)?;
        operation.set(3, self.operations.0 as i32)?;
        operation.set(4, self.operations.1 as i32)?;
        prepare(&operation)?;
        let [rows, cols, k] = self.size;
        let turned = |operation: u32, r, c| if operation == 0 { (r, c) } else { (c, r) };
        let (a, b) = (
            turned(self.operations.0, rows, k),
            turned(self.operations.1, k, cols),
        );
        let layouts = [
            m[0].layout(lt, a.0, a.1)?,
            m[1].layout(lt, b.0, b.1)?,
            m[2].layout(lt, rows, cols)?,
            m[3].layout(lt, rows, cols)?,
        ];
        let (alpha, beta) = (scale.encode(self.alpha), scale.encode(self.beta));
        let factors = Buffer::from(&[&alpha[..], &[0; 16][alpha.len()..], &beta[..]].concat())?;
        let (alpha, beta) = if self.device {
            operation.set(2, 1i32)?;
            (
                factors.address() as *const c_void,
                (factors.address() + 16) as *const c_void,
            )
        } else {
            (alpha.as_ptr().cast(), beta.as_ptr().cast())
        };
        let workspace = Buffer::<u8>::new(1 << 16)?;
        let mut found = Found::default();
        if self.heuristic {
            let preference = lt.preference()?;
            preference.set(1, 1u64 << 16)?;
            let mut count = 0i32;
            let status = call!(lt, "cublasLtMatmulAlgoGetHeuristic", lt.handle => u64, operation.at => u64,
                layouts[0].at => u64, layouts[1].at => u64, layouts[2].at => u64, layouts[3].at => u64,
                preference.at => u64, 1 => i32, &raw mut found => *mut Found, &raw mut count => *mut i32);
            ok("cublasLtMatmulAlgoGetHeuristic", status)?;
            ensure!(count == 1 && found.state == 0 && found.workspace <= 1 << 16);
        }
        let algorithm = match self.heuristic {
            true => found.algorithm.as_ptr(),
            false => std::ptr::null(),
        };
        Ok(
            call!(lt, "cublasLtMatmul", lt.handle => u64, operation.at => u64, alpha => *const c_void,
            m[0].stored.at() => u64, layouts[0].at => u64, m[1].stored.at() => u64, layouts[1].at => u64,
            beta => *const c_void, m[2].stored.at() => u64, layouts[2].at => u64,
            m[3].stored.at() => u64, layouts[3].at => u64, algorithm => *const u64,
            workspace.address() => u64, 1usize << 16 => usize, 0 => u64),
        )
    }

    fn run(&self, lt: &Lt, random: &mut Random) -> Result<()> {
        let m = self.matrices(random)?;
        let what = format!(
            "compute {} {:?} to {:?}, operations {:?}, by rows {:?}, {:?}",
            self.compute, self.ty, self.out, self.operations, self.by_rows, self.size
        );
        let status = self.call(lt, &m, |_| Ok(()))?;
        ok("cublasLtMatmul", status).with_context(|| what.clone())?;
        m[3].compare(&what, |i, j| self.want(&m, i, j))?;
        m[2].compare(&format!("{what}: C"), |i, j| (m[2].get(i, j), 0.0))
    }
}

fn all_types(lt: &Lt) -> Result<()> {
    let mut random = Random(21);
    for &(compute, ty, out) in gemm::TABLE {
        for (operations, heuristic) in [((0, 0), true), ((1, 0), false), ((0, 2), true)] {
            let mut case = Case::new(compute, ty, out, [37, 29, 45]);
            (case.operations, case.heuristic) = (operations, heuristic);
            case.run(lt, &mut random)?;
            case.device = true;
            case.run(lt, &mut random)?;
        }
    }
    Ok(())
}

fn orders(lt: &Lt) -> Result<()> {
    let mut random = Random(22);
    for bits in 0..16 {
        for (compute, ty, out) in [
            (68, Type::F32, Type::F32),
            (68, Type::F16, Type::F32),
            (70, Type::C64, Type::C64),
            (72, Type::I8, Type::I32),
        ] {
            let mut case = Case::new(compute, ty, out, [19, 33, 10]);
            case.by_rows = std::array::from_fn(|i| bits >> i & 1 == 1);
            case.operations = (bits & 1, (bits >> 1 & 1) * 2);
            case.run(lt, &mut random)?;
        }
    }
    Ok(())
}

fn in_place(lt: &Lt) -> Result<()> {
    let mut random = Random(23);
    for (compute, ty) in [(68, Type::F32), (68, Type::Bf16), (70, Type::F64)] {
        let case = Case::new(compute, ty, ty, [70, 41, 33]);
        let [a, b, c, _] = case.matrices(&mut random)?;
        let old = Ordered {
            stored: Matrix::of(ty, c.stored.rows, c.stored.ld, c.stored.values.clone())?,
            by_rows: false,
        };
        // C and D are one matrix.
        let scale = gemm::scale(compute, ty);
        let operation = lt.operation(compute, scale)?;
        let (la, lb) = (a.layout(lt, 70, 33)?, b.layout(lt, 33, 41)?);
        let lc = c.layout(lt, 70, 41)?;
        let (alpha, beta) = (scale.encode(case.alpha), scale.encode(case.beta));
        let status = call!(lt, "cublasLtMatmul", lt.handle => u64, operation.at => u64, alpha.as_ptr() => *const u8,
            a.stored.at() => u64, la.at => u64, b.stored.at() => u64, lb.at => u64, beta.as_ptr() => *const u8,
            c.stored.at() => u64, lc.at => u64, c.stored.at() => u64, lc.at => u64,
            null() => *const c_void, 0 => u64, 0 => usize, 0 => u64);
        ok("cublasLtMatmul", status)?;
        let all = [a, b, old, c];
        all[3].compare("in place", |i, j| case.want(&all, i, j))?;
    }
    Ok(())
}

/// Factors of 0: what is not read may hold anything, or be missing.
fn scalars(lt: &Lt) -> Result<()> {
    let mut random = Random(24);
    for (compute, ty, out) in [
        (68, Type::F32, Type::F32),
        (64, Type::F16, Type::F16),
        (70, Type::F64, Type::F64),
    ] {
        for k in [0, 17] {
            for (alpha, beta) in [(1.0, 0.0), (0.0, 0.0), (0.0, 2.0), (2.0, 1.0), (0.0, 1.0)] {
                let mut case = Case::new(compute, ty, out, [19, 13, k]);
                (case.alpha, case.beta) = (C64::real(alpha), C64::real(beta));
                let mut m = case.matrices(&mut random)?;
                let nan = |m: &Ordered| {
                    let values = vec![C64::real(f64::NAN); m.stored.values.len()];
                    Matrix::of(m.stored.ty, m.stored.rows, m.stored.ld, values)
                };
                if beta == 0.0 {
                    m[2].stored = nan(&m[2])?;
                }
                if alpha == 0.0 {
                    m[0].stored = nan(&m[0])?;
                }
                let status = case.call(lt, &m, |_| Ok(()))?;
                ok("cublasLtMatmul", status)?;
                if alpha == 0.0 {
                    let zero = vec![C64::ZERO; m[0].stored.values.len()];
                    m[0].stored = Matrix::of(ty, m[0].stored.rows, m[0].stored.ld, zero)?;
                }
                let what = format!("{ty:?} alpha {alpha} beta {beta} k {k}");
                m[3].compare(&what, |i, j| case.want(&m, i, j))?;
            }
        }
    }
    Ok(())
}

/// Memory of a batch: values, and where each matrix begins.
struct Batch {
    values: Vec<C64>,
    memory: Buffer<u8>,
    ty: Type,
    stride: usize,
}

impl Batch {
    fn new(
        ty: Type,
        stride: usize,
        count: usize,
        room: usize,
        random: &mut Random,
    ) -> Result<Batch> {
        let total = stride * (count - 1) + room;
        let values: Vec<C64> = (0..total).map(|_| random.value(ty)).collect();
        Ok(Batch {
            memory: Buffer::from(&encode(ty, &values))?,
            values,
            ty,
            stride,
        })
    }

    fn part(&self, index: usize, rows: usize, ld: usize, cols: usize) -> Result<Ordered> {
        let from = self.stride * index;
        let values = self.values[from..from + ld * cols].to_vec();
        Ok(Ordered {
            stored: Matrix::of(self.ty, rows, ld, values)?,
            by_rows: false,
        })
    }

    fn read(&self) -> Result<Vec<C64>> {
        let bytes = self.memory.read()?;
        let size = self.ty.bytes();
        Ok(bytes.chunks(size).map(|raw| self.ty.decode(raw)).collect())
    }
}

fn batches(lt: &Lt, by_pointers: bool, random: &mut Random) -> Result<()> {
    let (ty, count, [m, n, k], ld) = (Type::F32, 5usize, [11usize, 6, 14], 16usize);
    let case = Case::new(68, ty, ty, [m, n, k]);
    // One A for all, where that can be said; room between the others.
    let first = if by_pointers { ld * k } else { 0 };
    let parts = [
        Batch::new(ty, first, count, ld * k, random)?,
        Batch::new(ty, ld * n + 5, count, ld * n, random)?,
        Batch::new(ty, ld * n, count, ld * n, random)?,
        Batch::new(ty, ld * n + 9, count, ld * n, random)?,
    ];
    let operation = lt.operation(68, ty)?;
    // A bias for each matrix.
    let bias = Batch::new(ty, m + 1, count, m, random)?;
    if !by_pointers {
        operation.set(7, 4u32)?;
        operation.set(8, bias.memory.address())?;
        operation.set(10, (m + 1) as i64)?;
    }
    let sizes = [(m, k), (k, n), (m, n), (m, n)];
    let (mut layouts, mut places, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for (part, (rows, cols)) in parts.iter().zip(sizes) {
        let layout = lt.layout(ty, rows, cols, ld)?;
        layout.set(5, int(count)?)?;
        layout.set(6, part.stride as i64)?;
        let mut place = part.memory.address();
        if by_pointers {
            layout.set(8, 1u32)?;
            let list: Vec<u64> = (0..count)
                .map(|i| part.memory.address() + (part.stride * i * ty.bytes()) as u64)
                .collect();
            lists.push(Buffer::from(&list)?);
            place = lists.last().map_or(0, Buffer::address);
        }
        places.push(place);
        layouts.push(layout);
    }
    let (alpha, beta) = (ty.encode(case.alpha), ty.encode(case.beta));
    let status = call!(lt, "cublasLtMatmul", lt.handle => u64, operation.at => u64, alpha.as_ptr() => *const u8,
        places[0] => u64, layouts[0].at => u64, places[1] => u64, layouts[1].at => u64, beta.as_ptr() => *const u8,
        places[2] => u64, layouts[2].at => u64, places[3] => u64, layouts[3].at => u64,
        null() => *const c_void, 0 => u64, 0 => usize, 0 => u64);
    ok("cublasLtMatmul", status)?;
    let got = parts[3].read()?;
    for index in 0..count {
        let all = [
            parts[0].part(index, m, ld, k)?,
            parts[1].part(index, k, ld, n)?,
            parts[2].part(index, m, ld, n)?,
            parts[3].part(index, m, ld, n)?,
        ];
        for (i, j) in (0..ld).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let at = parts[3].stride * index + i + j * ld;
            if i >= m {
                ensure!(
                    got[at].same(parts[3].values[at]),
                    "padding of matrix {index}"
                );
                continue;
            }
            let (mut want, bound) = case.want(&all, i, j);
            if !by_pointers {
                want = want + bias.values[bias.stride * index + i];
            }
            ensure!(
                got[at].near(want, bound + 1e-6),
                "matrix {index}, ({i}, {j}) is {:?}, not {want:?}",
                got[at]
            );
        }
    }
    Ok(())
}

fn strided(lt: &Lt) -> Result<()> {
    batches(lt, false, &mut Random(25))
}

fn pointers(lt: &Lt) -> Result<()> {
    batches(lt, true, &mut Random(26))
}

fn int8(lt: &Lt) -> Result<()> {
    let k = 4100;
    let fill = |value: f64, count: usize| vec![C64::real(value); count];
    let of = |ty: Type, rows: usize, values: Vec<C64>| -> Result<Ordered> {
        Ok(Ordered {
            stored: Matrix::of(ty, rows, rows, values)?,
            by_rows: false,
        })
    };
    // Sums beyond what a float holds.
    let case = Case::new(72, Type::I8, Type::I32, [4, 4, k]);
    let mut values = fill(-128.0, k * 4);
    values[1] = C64::real(127.0);
    let m = [
        of(Type::I8, 4, fill(-128.0, 4 * k))?,
        of(Type::I8, k, values)?,
        of(Type::I32, 4, fill(7.0, 16))?,
        of(Type::I32, 4, fill(9.0, 16))?,
    ];
    ok("cublasLtMatmul", case.call(lt, &m, |_| Ok(()))?)?;
    let sum = 16384.0 * k as f64;
    m[3].compare("int8", |_, j| {
        let part = if j == 0 { sum - 128.0 * 255.0 } else { sum };
        let value = 3.0 * part - 14.0;
        // Sums and factors wrap around.
        (C64::real(f64::from(value as i64 as i32)), 0.0)
    })?;
    // Into int8: scaled by floats, rounded to even, and kept within bounds.
    let operation = lt.operation(72, Type::F32)?;
    let a = of(Type::I8, 4, [1.0, 2.0, 3.0, 100.0].map(C64::real).repeat(4))?;
    let mut one = fill(0.0, 16);
    for i in 0..4 {
        one[i * 5] = C64::real(1.0);
    }
    let b = of(Type::I8, 4, one)?;
    let c = of(Type::I8, 4, fill(-4.0, 16))?;
    let d = of(Type::I8, 4, fill(9.0, 16))?;
    let layout = a.layout(lt, 4, 4)?;
    for (alpha, want) in [
        (0.5f32, [-1.5, -1.0, -0.5, 48.0]),
        (2.5, [0.5, 3.0, 5.5, 127.0]),
        (-9.0, [-11.0, -20.0, -29.0, -128.0]),
    ] {
        let beta = 0.5f32;
        let status = call!(lt, "cublasLtMatmul", lt.handle => u64, operation.at => u64, &raw const alpha => *const f32,
            a.stored.at() => u64, layout.at => u64, b.stored.at() => u64, layout.at => u64, &raw const beta => *const f32,
            c.stored.at() => u64, layout.at => u64, d.stored.at() => u64, layout.at => u64,
            null() => *const c_void, 0 => u64, 0 => usize, 0 => u64);
        ok("cublasLtMatmul", status)?;
        d.compare("scaled int8", |i, _| {
            (C64::real(f64::from(want[i] as f32).round_ties_even()), 0.0)
        })?;
    }
    Ok(())
}

/// Products in a stream of their own follow each other.
fn streams(lt: &Lt) -> Result<()> {
    let mut random = Random(27);
    let case = Case::new(68, Type::F32, Type::F32, [64, 64, 64]);
    let m = case.matrices(&mut random)?;
    let stream = crate::cuda::Stream::new()?;
    let operation = lt.operation(68, Type::F32)?;
    let layouts = [0, 1, 2, 3].map(|i| m[i].layout(lt, 64, 64));
    let [a, b, c, d] = layouts;
    let (a, b, c, d) = (a?, b?, c?, d?);
    let (one, zero) = (1.0f32, 0.0f32);
    // D = A B, and then C = D.
    let identity = Matrix::of(Type::F32, 64, 64, {
        let mut values = vec![C64::ZERO; 64 * 64];
        for i in 0..64 {
            values[i * 65] = C64::real(1.0);
        }
        values
    })?;
    let plain = lt.layout(Type::F32, 64, 64, 64)?;
    for (x, lx, y, ly, z, lz) in [
        (&m[0].stored, &a, &m[1].stored, &b, &m[3].stored, &d),
        (&m[3].stored, &d, &identity, &plain, &m[2].stored, &c),
    ] {
        let status = call!(lt, "cublasLtMatmul", lt.handle => u64, operation.at => u64, &raw const one => *const f32,
            x.at() => u64, lx.at => u64, y.at() => u64, ly.at => u64, &raw const zero => *const f32,
            0 => u64, lz.at => u64, z.at() => u64, lz.at => u64,
            null() => *const c_void, 0 => u64, 0 => usize, stream.handle() => u64);
        ok("cublasLtMatmul", status)?;
    }
    stream.synchronize()?;
    let mut model = Case::new(68, Type::F32, Type::F32, [64, 64, 64]);
    (model.alpha, model.beta) = (C64::real(1.0), C64::ZERO);
    m[2].compare("the second product", |i, j| model.want(&m, i, j))
}

/// "cublasHandle_t can be used in place of cublasLtHandle_t with a simple cast."
fn of_cublas(lt: &Lt) -> Result<()> {
    let blas = super::super::Blas::open(&format!("libcublas.so.{}", lt.major()))?;
    let borrowed = std::mem::ManuallyDrop::new(Lt {
        library: lt.library,
        name: lt.name.clone(),
        handle: blas.handle(),
        called: super::super::Called::default(),
    });
    Case::new(68, Type::F32, Type::F32, [5, 6, 7]).run(&borrowed, &mut Random(28))?;
    let dead = blas.handle();
    drop(blas);
    let gone = std::mem::ManuallyDrop::new(Lt {
        library: lt.library,
        name: lt.name.clone(),
        handle: dead,
        called: super::super::Called::default(),
    });
    let case = Case::new(68, Type::F32, Type::F32, [5, 6, 7]);
    let m = case.matrices(&mut Random(29))?;
    let status = case.call(&gone, &m, |_| Ok(()))?;
    ensure!(
        status == super::NOT_INITIALIZED,
        "a destroyed handle: {status}"
    );
    Ok(())
}
