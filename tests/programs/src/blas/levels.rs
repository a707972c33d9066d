//! Levels 1 to 3: each routine against the dense matrices that it stands for.

use anyhow::{Result, ensure};

use super::element::{C64, Type};
use super::trsm::{check, element, triangle};
use super::{Blas, Matrix, Random, Test, call, int, ok};

pub const TESTS: &[Test] = &[
    ("vectors", vectors),
    ("rotations", rotations),
    ("reductions", reductions),
    ("gemv_and_gbmv", gemv),
    ("symmetric_and_vector", symv),
    ("rank_updates", updates),
    ("triangle_and_vector", triangle_vector),
    ("symm_and_hemm", symm),
    ("rank_k_updates", rank_k),
    ("trmm_and_trsm", trmm),
    ("geam_and_dgmm", geam),
];

const TYPES: [(&str, Type); 4] = [
    ("S", Type::F32),
    ("D", Type::F64),
    ("C", Type::C32),
    ("Z", Type::C64),
];

fn factor(ty: Type, re: f64, im: f64) -> C64 {
    ty.round(C64 {
        re,
        im: if ty.is_complex() { im } else { 0.0 },
    })
}

/// The real type of the same precision.
fn real(ty: Type) -> Type {
    match ty {
        Type::C32 => Type::F32,
        Type::C64 => Type::F64,
        other => other,
    }
}

/// A vector with an increment: `values` are its elements in order.
struct Vector {
    values: Vec<C64>,
    inc: i64,
    matrix: Matrix,
}

impl Vector {
    fn new(ty: Type, n: usize, inc: i64, random: &mut Random) -> Result<Vector> {
        let step = inc.unsigned_abs() as usize;
        let matrix = Matrix::new(ty, (n.max(1) - 1) * step + 1, 1, 0, random)?;
        let mut values: Vec<C64> = (0..n).map(|i| matrix.values[i * step]).collect();
        if inc < 0 {
            values.reverse();
        }
        Ok(Vector {
            values,
            inc,
            matrix,
        })
    }

    fn at(&self) -> u64 {
        self.matrix.at()
    }

    fn compare(&self, what: &str, want: impl Fn(usize) -> (C64, f64)) -> Result<()> {
        let (step, n) = (self.inc.unsigned_abs() as usize, self.values.len());
        self.matrix.compare(what, |i, _| {
            if i % step != 0 {
                return (self.matrix.get(i, 0), 0.0);
            }
            let place = i / step;
            want(if self.inc < 0 { n - 1 - place } else { place })
        })
    }
}

fn bound(ty: Type, size: f64, terms: usize) -> f64 {
    size * ty.epsilon() * (terms as f64 + 8.0) * 2.0 + 1e-300
}

const INCREMENTS: [(i64, i64); 4] = [(1, 1), (2, 3), (-1, 1), (3, -2)];

fn vectors(blas: &Blas) -> Result<()> {
    let mut random = Random(21);
    for (t, ty) in TYPES {
        for (n, (incx, incy)) in [1usize, 7, 1000, 70_000].into_iter().zip(INCREMENTS) {
            let mut pair = || -> Result<(Vector, Vector)> {
                Ok((
                    Vector::new(ty, n, incx, &mut random)?,
                    Vector::new(ty, n, incy, &mut random)?,
                ))
            };
            let alpha = factor(ty, 0.75, -1.5);
            let bytes = ty.encode(alpha);
            let (x, y) = pair()?;
            let name = format!("cublas{t}axpy_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, bytes.as_ptr() => *const u8,
                x.at() => u64, incx as i32 => i32, y.at() => u64, incy as i32 => i32),
            )?;
            y.compare(&name, |i| {
                let want = alpha * x.values[i] + y.values[i];
                (
                    want,
                    bound(ty, alpha.abs() * x.values[i].abs() + y.values[i].abs(), 1),
                )
            })?;
            let (x, y) = pair()?;
            let name = format!("cublas{t}copy_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32,
                x.at() => u64, incx as i32 => i32, y.at() => u64, incy as i32 => i32),
            )?;
            y.compare(&name, |i| (x.values[i], 0.0))?;
            let (x, y) = pair()?;
            let name = format!("cublas{t}swap_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32,
                x.at() => u64, incx as i32 => i32, y.at() => u64, incy as i32 => i32),
            )?;
            y.compare(&name, |i| (x.values[i], 0.0))?;
            x.compare(&name, |i| (y.values[i], 0.0))?;
            let (x, _) = pair()?;
            let name = format!("cublas{t}scal_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, bytes.as_ptr() => *const u8,
                x.at() => u64, incx.abs() as i32 => i32),
            )?;
            // The same elements in either direction.
            x.compare(&name, |i| {
                (
                    alpha * x.values[i],
                    bound(ty, alpha.abs() * x.values[i].abs(), 1),
                )
            })?;
        }
    }
    for (name, ty) in [
        ("cublasCsscal_v2", Type::C32),
        ("cublasZdscal_v2", Type::C64),
    ] {
        let x = Vector::new(ty, 9, 2, &mut random)?;
        let bytes = real(ty).encode(C64::real(-2.5));
        ok(
            name,
            call!(blas, name, blas.handle() => u64, 9 => i32, bytes.as_ptr() => *const u8, x.at() => u64, 2 => i32),
        )?;
        x.compare(name, |i| (C64::real(-2.5) * x.values[i], bound(ty, 4.0, 1)))?;
    }
    Ok(())
}

fn rotations(blas: &Blas) -> Result<()> {
    let mut random = Random(22);
    let rows = [
        ("cublasSrot_v2", Type::F32, Type::F32),
        ("cublasDrot_v2", Type::F64, Type::F64),
        ("cublasCrot_v2", Type::C32, Type::C32),
        ("cublasZrot_v2", Type::C64, Type::C64),
        ("cublasCsrot_v2", Type::C32, Type::F32),
        ("cublasZdrot_v2", Type::C64, Type::F64),
    ];
    for (name, ty, of_s) in rows {
        let (x, y) = (
            Vector::new(ty, 33, 2, &mut random)?,
            Vector::new(ty, 33, -1, &mut random)?,
        );
        let (c, s) = (real(ty).round(C64::real(0.6)), factor(of_s, 0.5, 0.25));
        let (cs, ss) = (real(ty).encode(c), of_s.encode(s));
        ok(
            name,
            call!(blas, name, blas.handle() => u64, 33 => i32, x.at() => u64, 2 => i32, y.at() => u64, -1 => i32,
            cs.as_ptr() => *const u8, ss.as_ptr() => *const u8),
        )?;
        x.compare(name, |i| {
            (c * x.values[i] + s * y.values[i], bound(ty, 3.0, 2))
        })?;
        y.compare(name, |i| {
            (c * y.values[i] - s.conj() * x.values[i], bound(ty, 3.0, 2))
        })?;
    }
    for (name, ty) in [("cublasSrotm_v2", Type::F32), ("cublasDrotm_v2", Type::F64)] {
        for flag in [-2.0, -1.0, 0.0, 1.0] {
            let (x, y) = (
                Vector::new(ty, 10, 1, &mut random)?,
                Vector::new(ty, 10, 1, &mut random)?,
            );
            let h = [0.5, -0.25, 0.75, 1.5];
            let all: Vec<u8> = [flag, h[0], h[1], h[2], h[3]]
                .iter()
                .flat_map(|v| ty.encode(C64::real(*v)))
                .collect();
            ok(
                name,
                call!(blas, name, blas.handle() => u64, 10 => i32, x.at() => u64, 1 => i32, y.at() => u64, 1 => i32,
                all.as_ptr() => *const u8),
            )?;
            // h11, h21, h12, h22.
            let m = match flag {
                -1.0 => h,
                0.0 => [1.0, h[1], h[2], 1.0],
                1.0 => [h[0], -1.0, 1.0, h[3]],
                _ => [1.0, 0.0, 0.0, 1.0],
            }
            .map(C64::real);
            x.compare(name, |i| {
                (m[0] * x.values[i] + m[2] * y.values[i], bound(ty, 3.0, 2))
            })?;
            y.compare(name, |i| {
                (m[1] * x.values[i] + m[3] * y.values[i], bound(ty, 3.0, 2))
            })?;
        }
    }
    Ok(())
}

fn reductions(blas: &Blas) -> Result<()> {
    let mut random = Random(23);
    for (n, (incx, incy)) in [0usize, 5, 1000, 200_000].into_iter().zip(INCREMENTS) {
        for (name, ty, conj) in [
            ("cublasSdot_v2", Type::F32, false),
            ("cublasDdot_v2", Type::F64, false),
            ("cublasCdotu_v2", Type::C32, false),
            ("cublasCdotc_v2", Type::C32, true),
            ("cublasZdotu_v2", Type::C64, false),
            ("cublasZdotc_v2", Type::C64, true),
        ] {
            let (x, y) = (
                Vector::new(ty, n, incx, &mut random)?,
                Vector::new(ty, n, incy, &mut random)?,
            );
            let (mut sum, mut size) = (C64::ZERO, 0.0);
            for (a, b) in x.values.iter().zip(&y.values) {
                sum = sum + if conj { a.conj() } else { *a } * *b;
                size += a.abs() * b.abs();
            }
            let mut raw = [0u8; 16];
            ok(
                name,
                call!(blas, name, blas.handle() => u64, int(n)? => i32, x.at() => u64, incx as i32 => i32,
                y.at() => u64, incy as i32 => i32, raw.as_mut_ptr() => *mut u8),
            )?;
            let got = ty.decode(&raw);
            ensure!(
                got.near(sum, bound(ty, size, n)),
                "{name} n {n}: {got:?}, not {sum:?}"
            );
            // In device memory.
            let place = crate::cuda::Buffer::<u8>::zeros(16)?;
            blas.pointer_mode(true)?;
            let status = call!(blas, name, blas.handle() => u64, int(n)? => i32, x.at() => u64, incx as i32 => i32,
                y.at() => u64, incy as i32 => i32, place.address() => u64);
            blas.pointer_mode(false)?;
            ok(name, status)?;
            ensure!(
                ty.decode(&place.read()?) == got,
                "{name} gives something else on the device"
            );
        }
        let step = incx.abs();
        for (which, name, ty) in [
            (0, "cublasSnrm2_v2", Type::F32),
            (0, "cublasDnrm2_v2", Type::F64),
            (0, "cublasScnrm2_v2", Type::C32),
            (0, "cublasDznrm2_v2", Type::C64),
            (1, "cublasSasum_v2", Type::F32),
            (1, "cublasDasum_v2", Type::F64),
            (1, "cublasScasum_v2", Type::C32),
            (1, "cublasDzasum_v2", Type::C64),
        ] {
            let x = Vector::new(ty, n, step, &mut random)?;
            let want = if which == 0 {
                x.values
                    .iter()
                    .map(|v| v.abs() * v.abs())
                    .sum::<f64>()
                    .sqrt()
            } else {
                x.values.iter().map(|v| v.re.abs() + v.im.abs()).sum()
            };
            let mut raw = [0u8; 8];
            ok(
                name,
                call!(blas, name, blas.handle() => u64, int(n)? => i32, x.at() => u64, step as i32 => i32, raw.as_mut_ptr() => *mut u8),
            )?;
            let got = real(ty).decode(&raw);
            ensure!(
                got.near(C64::real(want), bound(ty, want, n)),
                "{name} n {n}: {got:?}, not {want}"
            );
        }
        for (least, letter, ty) in [false, true].into_iter().flat_map(|l| {
            [
                (l, "s", Type::F32),
                (l, "d", Type::F64),
                (l, "c", Type::C32),
                (l, "z", Type::C64),
            ]
        }) {
            let x = Vector::new(ty, n, step, &mut random)?;
            let size = |v: &C64| v.re.abs() + v.im.abs();
            let mut want = 0;
            for (i, v) in x.values.iter().enumerate() {
                let old = if want == 0 {
                    None
                } else {
                    Some(size(&x.values[want - 1]))
                };
                if old.is_none_or(|old| if least { size(v) < old } else { size(v) > old }) {
                    want = i + 1;
                }
            }
            let name = format!("cublasI{letter}{}_v2", if least { "amin" } else { "amax" });
            // Long enough for either width.
            let mut got = 0i64;
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, x.at() => u64, step as i32 => i32, (&raw mut got).cast() => *mut i32),
            )?;
            // Complex magnitudes may round differently.
            let close = got > 0
                && want > 0
                && (size(&x.values[got as usize - 1]) - size(&x.values[want - 1])).abs() < 1e-6;
            ensure!(
                got as usize == want || (ty.is_complex() && close),
                "{name} n {n}: {got}, not {want}"
            );
        }
    }
    // Squares beyond the range of doubles.
    let x = Matrix::of(Type::F64, 2, 2, vec![C64::real(3e200), C64::real(4e200)])?;
    let mut norm = 0f64;
    ok(
        "cublasDnrm2_v2",
        call!(blas, "cublasDnrm2_v2", blas.handle() => u64, 2 => i32, x.at() => u64, 1 => i32, &raw mut norm => *mut f64),
    )?;
    ensure!(
        (norm / 5e200 - 1.0).abs() < 1e-14,
        "the norm of large numbers is {norm}"
    );
    // Negative sizes are none.
    let mut sum = 9f32;
    ok(
        "cublasSasum_v2",
        call!(blas, "cublasSasum_v2", blas.handle() => u64, -3 => i32, x.at() => u64, 1 => i32, &raw mut sum => *mut f32),
    )?;
    ensure!(sum == 0.0, "the sum of no elements is {sum}");
    Ok(())
}

/// `alpha Σ a(i, p) x(p) + beta y(i)` and its bound.
fn product(
    ty: Type,
    terms: usize,
    a: impl Fn(usize) -> C64,
    x: impl Fn(usize) -> C64,
    (alpha, beta, y): (C64, C64, C64),
) -> (C64, f64) {
    let (mut sum, mut size) = (C64::ZERO, 0.0);
    for p in 0..terms {
        sum = sum + a(p) * x(p);
        size += a(p).abs() * x(p).abs();
    }
    let want = alpha * sum + beta * y;
    (
        want,
        bound(ty, alpha.abs() * size + beta.abs() * y.abs(), terms),
    )
}

fn gemv(blas: &Blas) -> Result<()> {
    let mut random = Random(24);
    for (t, ty) in TYPES {
        for ((m, n), (incx, incy)) in [(1, 1), (33, 20), (130, 300), (700, 5)]
            .into_iter()
            .zip(INCREMENTS)
        {
            for trans in 0..3 {
                let (rows, cols) = if trans == 0 { (m, n) } else { (n, m) };
                let (alpha, beta) = (factor(ty, 1.5, 0.5), factor(ty, -0.5, 0.25));
                let (als, bes) = (ty.encode(alpha), ty.encode(beta));
                let a = Matrix::new(ty, m, n, 2, &mut random)?;
                let (x, y) = (
                    Vector::new(ty, cols, incx, &mut random)?,
                    Vector::new(ty, rows, incy, &mut random)?,
                );
                let name = format!("cublas{t}gemv_v2");
                ok(
                    &name,
                    call!(blas, &name, blas.handle() => u64, trans => u32, int(m)? => i32, int(n)? => i32, als.as_ptr() => *const u8,
                    a.at() => u64, int(a.ld)? => i32, x.at() => u64, incx as i32 => i32, bes.as_ptr() => *const u8, y.at() => u64, incy as i32 => i32),
                )?;
                y.compare(&format!("{name} {m} x {n} trans {trans}"), |i| {
                    product(
                        ty,
                        cols,
                        |p| a.op(trans, i, p),
                        |p| x.values[p],
                        (alpha, beta, y.values[i]),
                    )
                })?;
                // The same as a band: elements (i, j) at row ku + i - j.
                let (kl, ku) = (3.min(m - 1), 2.min(n - 1));
                let band = Matrix::new(ty, kl + ku + 1, n, 1, &mut random)?;
                let dense = |i: usize, j: usize| {
                    if i + ku < j || i > j + kl {
                        C64::ZERO
                    } else {
                        band.get(ku + i - j, j)
                    }
                };
                let y = Vector::new(ty, rows, incy, &mut random)?;
                let name = format!("cublas{t}gbmv_v2");
                ok(
                    &name,
                    call!(blas, &name, blas.handle() => u64, trans => u32, int(m)? => i32, int(n)? => i32, int(kl)? => i32, int(ku)? => i32,
                    als.as_ptr() => *const u8, band.at() => u64, int(band.ld)? => i32, x.at() => u64, incx as i32 => i32,
                    bes.as_ptr() => *const u8, y.at() => u64, incy as i32 => i32),
                )?;
                y.compare(&format!("{name} {m} x {n} trans {trans}"), |i| {
                    let at = |p: usize| match trans {
                        0 => dense(i, p),
                        1 => dense(p, i),
                        _ => dense(p, i).conj(),
                    };
                    product(ty, cols, at, |p| x.values[p], (alpha, beta, y.values[i]))
                })?;
            }
        }
    }
    Ok(())
}

/// Element (i, j) of a symmetric or Hermitian matrix of which `stored` gives one triangle.
fn mirrored(
    uplo: u32,
    hermitian: bool,
    stored: impl Fn(usize, usize) -> C64,
    i: usize,
    j: usize,
) -> C64 {
    let inside = if uplo == 1 { i <= j } else { i >= j };
    let value = if inside { stored(i, j) } else { stored(j, i) };
    match (hermitian, i == j, inside) {
        (true, true, _) => C64::real(value.re),
        (true, false, false) => value.conj(),
        _ => value,
    }
}

/// Where element (i, j) of a packed triangle lies.
fn packed(uplo: u32, n: usize, i: usize, j: usize) -> usize {
    if uplo == 1 {
        i + j * (j + 1) / 2
    } else {
        i + j * (2 * n - j - 1) / 2
    }
}

fn symv(blas: &Blas) -> Result<()> {
    let mut random = Random(25);
    let rows = [
        ("Ssymv", Type::F32, false),
        ("Dsymv", Type::F64, false),
        ("Csymv", Type::C32, false),
        ("Zsymv", Type::C64, false),
        ("Chemv", Type::C32, true),
        ("Zhemv", Type::C64, true),
        ("Ssbmv", Type::F32, false),
        ("Dsbmv", Type::F64, false),
        ("Chbmv", Type::C32, true),
        ("Zhbmv", Type::C64, true),
        ("Sspmv", Type::F32, false),
        ("Dspmv", Type::F64, false),
        ("Chpmv", Type::C32, true),
        ("Zhpmv", Type::C64, true),
    ];
    for (stem, ty, hermitian) in rows {
        for ((uplo, n), (incx, incy)) in [(0, 1), (1, 40), (0, 41), (1, 150)]
            .into_iter()
            .zip(INCREMENTS)
        {
            let name = format!("cublas{stem}_v2");
            let (alpha, beta) = (factor(ty, 1.5, 0.5), factor(ty, -0.5, 0.25));
            let (als, bes) = (ty.encode(alpha), ty.encode(beta));
            let (x, y) = (
                Vector::new(ty, n, incx, &mut random)?,
                Vector::new(ty, n, incy, &mut random)?,
            );
            let k = 4.min(n - 1);
            let a = match &stem[2..3] {
                "b" => Matrix::new(ty, k + 1, n, 1, &mut random)?,
                "p" => Matrix::new(ty, n * (n + 1) / 2, 1, 0, &mut random)?,
                _ => Matrix::new(ty, n, n, 3, &mut random)?,
            };
            let status = match &stem[2..3] {
                "b" => {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, int(n)? => i32, int(k)? => i32, als.as_ptr() => *const u8, a.at() => u64, int(a.ld)? => i32,
                    x.at() => u64, incx as i32 => i32, bes.as_ptr() => *const u8, y.at() => u64, incy as i32 => i32)
                }
                "p" => {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, int(n)? => i32, als.as_ptr() => *const u8, a.at() => u64,
                    x.at() => u64, incx as i32 => i32, bes.as_ptr() => *const u8, y.at() => u64, incy as i32 => i32)
                }
                _ => {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, int(n)? => i32, als.as_ptr() => *const u8, a.at() => u64, int(a.ld)? => i32,
                    x.at() => u64, incx as i32 => i32, bes.as_ptr() => *const u8, y.at() => u64, incy as i32 => i32)
                }
            };
            ok(&name, status)?;
            let stored = |i: usize, j: usize| match &stem[2..3] {
                "b" if i.abs_diff(j) > k => C64::ZERO,
                "b" if uplo == 1 => a.get(k + i - j, j),
                "b" => a.get(i - j, j),
                "p" => a.values[packed(uplo, n, i, j)],
                _ => a.get(i, j),
            };
            y.compare(&format!("{name} n {n} uplo {uplo}"), |i| {
                product(
                    ty,
                    n,
                    |p| mirrored(uplo, hermitian, stored, i, p),
                    |p| x.values[p],
                    (alpha, beta, y.values[i]),
                )
            })?;
        }
    }
    Ok(())
}

fn updates(blas: &Blas) -> Result<()> {
    let mut random = Random(26);
    for (name, ty, conj) in [
        ("cublasSger_v2", Type::F32, false),
        ("cublasDger_v2", Type::F64, false),
        ("cublasCgeru_v2", Type::C32, false),
        ("cublasCgerc_v2", Type::C32, true),
        ("cublasZgeru_v2", Type::C64, false),
        ("cublasZgerc_v2", Type::C64, true),
    ] {
        let (m, n) = (70, 45);
        let alpha = factor(ty, 1.25, -0.5);
        let als = ty.encode(alpha);
        let (x, y) = (
            Vector::new(ty, m, 2, &mut random)?,
            Vector::new(ty, n, -1, &mut random)?,
        );
        let a = Matrix::new(ty, m, n, 3, &mut random)?;
        ok(
            name,
            call!(blas, name, blas.handle() => u64, int(m)? => i32, int(n)? => i32, als.as_ptr() => *const u8, x.at() => u64, 2 => i32, y.at() => u64, -1 => i32,
            a.at() => u64, int(a.ld)? => i32),
        )?;
        a.compare(name, |i, j| {
            let right = if conj {
                y.values[j].conj()
            } else {
                y.values[j]
            };
            (alpha * x.values[i] * right + a.get(i, j), bound(ty, 5.0, 1))
        })?;
    }
    // Symmetric and Hermitian ones: full and packed, by one vector and by two.
    for (stem, ty) in [
        ("Ssyr", Type::F32),
        ("Dsyr", Type::F64),
        ("Csyr", Type::C32),
        ("Zsyr", Type::C64),
        ("Cher", Type::C32),
        ("Zher", Type::C64),
        ("Sspr", Type::F32),
        ("Dspr", Type::F64),
        ("Chpr", Type::C32),
        ("Zhpr", Type::C64),
        ("Ssyr2", Type::F32),
        ("Dsyr2", Type::F64),
        ("Csyr2", Type::C32),
        ("Zsyr2", Type::C64),
        ("Cher2", Type::C32),
        ("Zher2", Type::C64),
        ("Sspr2", Type::F32),
        ("Dspr2", Type::F64),
        ("Chpr2", Type::C32),
        ("Zhpr2", Type::C64),
    ] {
        let (hermitian, pack, two) = (&stem[1..2] == "h", &stem[2..3] == "p", stem.ends_with('2'));
        for (uplo, n) in [(0u32, 37usize), (1, 80)] {
            let name = format!("cublas{stem}_v2");
            let scalar = if hermitian && !two { real(ty) } else { ty };
            let alpha = factor(scalar, 1.25, -0.5);
            let als = scalar.encode(alpha);
            let (x, y) = (
                Vector::new(ty, n, 2, &mut random)?,
                Vector::new(ty, n, 1, &mut random)?,
            );
            let a = if pack {
                Matrix::new(ty, n * (n + 1) / 2, 1, 0, &mut random)?
            } else {
                Matrix::new(ty, n, n, 1, &mut random)?
            };
            let status = match (pack, two) {
                (false, false) => {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, int(n)? => i32, als.as_ptr() => *const u8, x.at() => u64, 2 => i32, a.at() => u64, int(a.ld)? => i32)
                }
                (true, false) => {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, int(n)? => i32, als.as_ptr() => *const u8, x.at() => u64, 2 => i32, a.at() => u64)
                }
                (false, true) => {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, int(n)? => i32, als.as_ptr() => *const u8, x.at() => u64, 2 => i32, y.at() => u64, 1 => i32, a.at() => u64, int(a.ld)? => i32)
                }
                (true, true) => {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, int(n)? => i32, als.as_ptr() => *const u8, x.at() => u64, 2 => i32, y.at() => u64, 1 => i32, a.at() => u64)
                }
            };
            ok(&name, status)?;
            let turn = |v: C64| if hermitian { v.conj() } else { v };
            let want = |i: usize, j: usize, old: C64| {
                let add = if two {
                    alpha * x.values[i] * turn(y.values[j])
                        + turn(alpha) * y.values[i] * turn(x.values[j])
                } else {
                    alpha * x.values[i] * turn(x.values[j])
                };
                let sum = add + old;
                let value = if hermitian && i == j {
                    C64::real(sum.re)
                } else {
                    sum
                };
                (value, bound(ty, 10.0, 2))
            };
            let inside = |i: usize, j: usize| if uplo == 1 { i <= j } else { i >= j };
            if pack {
                let got = a.read()?;
                for (i, j) in (0..n)
                    .flat_map(|i| (0..n).map(move |j| (i, j)))
                    .filter(|(i, j)| inside(*i, *j))
                {
                    let at = packed(uplo, n, i, j);
                    let (want, bound) = want(i, j, a.values[at]);
                    ensure!(
                        got[at].near(want, bound),
                        "{name} uplo {uplo} ({i}, {j}): {:?}, not {want:?}",
                        got[at]
                    );
                }
            } else {
                a.compare(&format!("{name} uplo {uplo}"), |i, j| {
                    if inside(i, j) {
                        want(i, j, a.get(i, j))
                    } else {
                        (a.get(i, j), 0.0)
                    }
                })?;
            }
        }
    }
    Ok(())
}

fn triangle_vector(blas: &Blas) -> Result<()> {
    let mut random = Random(27);
    for (t, ty) in TYPES {
        for storage in ["r", "b", "p"] {
            for solve in [false, true] {
                for bits in 0..12u32 {
                    let (uplo, diag, trans) = (bits & 1, bits >> 1 & 1, bits >> 2);
                    let (n, k, inc) = (90usize, 5usize, if bits % 2 == 0 { 2i64 } else { -1 });
                    let dense = triangle(ty, n, &mut random)?;
                    let near = |i: usize, j: usize| i.abs_diff(j) <= k;
                    // The same triangle as it is stored.
                    let stored = match storage {
                        "b" => {
                            let mut values = vec![C64::ZERO; (k + 2) * n];
                            for (i, j) in (0..n)
                                .flat_map(|i| (0..n).map(move |j| (i, j)))
                                .filter(|(i, j)| near(*i, *j))
                            {
                                if uplo == 1 && i <= j {
                                    values[k + i - j + j * (k + 2)] = dense.get(i, j);
                                } else if uplo == 0 && i >= j {
                                    values[i - j + j * (k + 2)] = dense.get(i, j);
                                }
                            }
                            Matrix::of(ty, k + 2, k + 2, values)?
                        }
                        "p" => {
                            let mut values = vec![C64::ZERO; n * (n + 1) / 2];
                            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                                if (uplo == 1 && i <= j) || (uplo == 0 && i >= j) {
                                    values[packed(uplo, n, i, j)] = dense.get(i, j);
                                }
                            }
                            Matrix::of(ty, values.len(), values.len(), values)?
                        }
                        _ => Matrix::of(ty, n, dense.ld, dense.values.clone())?,
                    };
                    let x = Vector::new(ty, n, inc, &mut random)?;
                    let name = format!("cublas{t}t{storage}{}v_v2", if solve { "s" } else { "m" });
                    let status = match storage {
                        "b" => {
                            call!(blas, &name, blas.handle() => u64, uplo => u32, trans => u32, diag => u32, int(n)? => i32, int(k)? => i32, stored.at() => u64, int(k + 2)? => i32, x.at() => u64, inc as i32 => i32)
                        }
                        "p" => {
                            call!(blas, &name, blas.handle() => u64, uplo => u32, trans => u32, diag => u32, int(n)? => i32, stored.at() => u64, x.at() => u64, inc as i32 => i32)
                        }
                        _ => {
                            call!(blas, &name, blas.handle() => u64, uplo => u32, trans => u32, diag => u32, int(n)? => i32, stored.at() => u64, int(stored.ld)? => i32, x.at() => u64, inc as i32 => i32)
                        }
                    };
                    ok(&name, status)?;
                    let at = |i: usize, j: usize| {
                        if storage == "b" && !near(i, j) {
                            C64::ZERO
                        } else {
                            element(&dense, uplo, trans, diag, i, j)
                        }
                    };
                    let what = format!("{name} uplo {uplo} trans {trans} diag {diag}");
                    if !solve {
                        x.compare(&what, |i| {
                            product(
                                ty,
                                n,
                                |p| at(i, p),
                                |p| x.values[p],
                                (C64::real(1.0), C64::ZERO, C64::ZERO),
                            )
                        })?;
                        continue;
                    }
                    let step = inc.unsigned_abs() as usize;
                    let mut got: Vec<C64> =
                        x.matrix.read()?.into_iter().step_by(step).take(n).collect();
                    if inc < 0 {
                        got.reverse();
                    }
                    for i in 0..n {
                        let (want, bound) = product(
                            ty,
                            n,
                            |p| at(i, p),
                            |p| got[p],
                            (C64::real(1.0), C64::ZERO, C64::ZERO),
                        );
                        ensure!(
                            want.near(x.values[i], bound * 4.0 + ty.epsilon() * 8.0),
                            "{what}: row {i} gives {want:?}, not {:?}",
                            x.values[i]
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

fn symm(blas: &Blas) -> Result<()> {
    let mut random = Random(28);
    for (stem, ty, hermitian) in [
        ("Ssymm", Type::F32, false),
        ("Dsymm", Type::F64, false),
        ("Csymm", Type::C32, false),
        ("Zsymm", Type::C64, false),
        ("Chemm", Type::C32, true),
        ("Zhemm", Type::C64, true),
    ] {
        for (bits, (m, n)) in [
            (0u32, (20, 33)),
            (1, (90, 70)),
            (2, (5, 130)),
            (3, (64, 64)),
        ] {
            let (side, uplo) = (bits & 1, bits >> 1);
            let order = if side == 0 { m } else { n };
            let (alpha, beta) = (factor(ty, 0.5, 1.5), factor(ty, 2.0, -1.0));
            let (als, bes) = (ty.encode(alpha), ty.encode(beta));
            let a = Matrix::new(ty, order, order, 2, &mut random)?;
            let (b, c) = (
                Matrix::new(ty, m, n, 1, &mut random)?,
                Matrix::new(ty, m, n, 3, &mut random)?,
            );
            let name = format!("cublas{stem}_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, side => u32, uplo => u32, int(m)? => i32, int(n)? => i32, als.as_ptr() => *const u8,
                a.at() => u64, int(a.ld)? => i32, b.at() => u64, int(b.ld)? => i32, bes.as_ptr() => *const u8, c.at() => u64, int(c.ld)? => i32),
            )?;
            let at = |i, j| mirrored(uplo, hermitian, |i, j| a.get(i, j), i, j);
            c.compare(&format!("{name} side {side} uplo {uplo}"), |i, j| {
                if side == 0 {
                    product(
                        ty,
                        m,
                        |p| at(i, p),
                        |p| b.get(p, j),
                        (alpha, beta, c.get(i, j)),
                    )
                } else {
                    product(
                        ty,
                        n,
                        |p| b.get(i, p),
                        |p| at(p, j),
                        (alpha, beta, c.get(i, j)),
                    )
                }
            })?;
        }
    }
    Ok(())
}

fn rank_k(blas: &Blas) -> Result<()> {
    let mut random = Random(29);
    for family in ["syrk", "herk", "syr2k", "her2k", "syrkx", "herkx"] {
        for (t, ty) in TYPES {
            let hermitian = family.starts_with("he");
            if hermitian && !ty.is_complex() {
                continue;
            }
            let (two, other) = (family.contains('2'), family != "syrk" && family != "herk");
            for (bits, (n, k)) in [
                (0u32, (33, 20)),
                (1, (70, 45)),
                (2, (130, 7)),
                (3, (64, 90)),
            ] {
                let uplo = bits & 1;
                let trans = if bits >> 1 == 0 {
                    0
                } else if hermitian {
                    2
                } else {
                    1
                };
                let (rows, cols) = if trans == 0 { (n, k) } else { (k, n) };
                let alpha_type = if family == "herk" { real(ty) } else { ty };
                let beta_type = if hermitian { real(ty) } else { ty };
                let (alpha, beta) = (factor(alpha_type, 0.5, 1.5), factor(beta_type, 2.0, -1.0));
                let (als, bes) = (alpha_type.encode(alpha), beta_type.encode(beta));
                let a = Matrix::new(ty, rows, cols, 2, &mut random)?;
                let b = if other {
                    Matrix::new(ty, rows, cols, 1, &mut random)?
                } else {
                    Matrix::of(ty, rows, a.ld, a.values.clone())?
                };
                let c = Matrix::new(ty, n, n, 1, &mut random)?;
                let name = format!(
                    "cublas{t}{family}{}",
                    if family.ends_with('x') { "" } else { "_v2" }
                );
                let status = if other {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, trans => u32, int(n)? => i32, int(k)? => i32, als.as_ptr() => *const u8,
                        a.at() => u64, int(a.ld)? => i32, b.at() => u64, int(b.ld)? => i32, bes.as_ptr() => *const u8, c.at() => u64, int(c.ld)? => i32)
                } else {
                    call!(blas, &name, blas.handle() => u64, uplo => u32, trans => u32, int(n)? => i32, int(k)? => i32, als.as_ptr() => *const u8,
                        a.at() => u64, int(a.ld)? => i32, bes.as_ptr() => *const u8, c.at() => u64, int(c.ld)? => i32)
                };
                ok(&name, status)?;
                let turn = |v: C64| if hermitian { v.conj() } else { v };
                c.compare(&format!("{name} uplo {uplo} trans {trans}"), |i, j| {
                    let inside = if uplo == 1 { i <= j } else { i >= j };
                    if !inside {
                        return (c.get(i, j), 0.0);
                    }
                    let (mut sum, mut size) = (C64::ZERO, 0.0);
                    for p in 0..k {
                        let (x, y) = (a.op(trans, i, p), b.op(trans, j, p));
                        sum = sum + alpha * x * turn(y);
                        size += x.abs() * y.abs() * 2.0;
                        if two {
                            sum = sum + turn(alpha) * b.op(trans, i, p) * turn(a.op(trans, j, p));
                            size += 4.0;
                        }
                    }
                    let old = if hermitian && i == j {
                        C64::real(c.get(i, j).re)
                    } else {
                        c.get(i, j)
                    };
                    let value = sum + beta * old;
                    // Of a product that only is Hermitian by its arguments the diagonal is made real.
                    let value = if hermitian && i == j {
                        C64::real(value.re)
                    } else {
                        value
                    };
                    (value, bound(ty, size + 4.0, k))
                })?;
            }
        }
    }
    Ok(())
}

fn trmm(blas: &Blas) -> Result<()> {
    let mut random = Random(30);
    for (t, ty) in TYPES {
        for bits in 0..24u32 {
            let (side, uplo, diag, trans) = (bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3);
            let (m, n) = if bits % 5 == 0 { (150, 70) } else { (40, 66) };
            let unknowns = if side == 0 { m } else { n };
            let alpha = factor(ty, 1.25, 0.5);
            let als = ty.encode(alpha);
            let a = triangle(ty, unknowns, &mut random)?;
            let (b, other) = (
                Matrix::new(ty, m, n, 1, &mut random)?,
                Matrix::new(ty, m, n, 4, &mut random)?,
            );
            let in_place = bits % 2 == 0;
            let c = if in_place { &b } else { &other };
            let name = format!("cublas{t}trmm_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, side => u32, uplo => u32, trans => u32, diag => u32, int(m)? => i32, int(n)? => i32,
                als.as_ptr() => *const u8, a.at() => u64, int(a.ld)? => i32, b.at() => u64, int(b.ld)? => i32, c.at() => u64, int(c.ld)? => i32),
            )?;
            let what = format!("{name} side {side} uplo {uplo} trans {trans} diag {diag}");
            c.compare(&what, |i, j| {
                let at = |i, j| element(&a, uplo, trans, diag, i, j);
                if side == 0 {
                    product(
                        ty,
                        m,
                        |p| at(i, p),
                        |p| b.get(p, j),
                        (alpha, C64::ZERO, C64::ZERO),
                    )
                } else {
                    product(
                        ty,
                        n,
                        |p| b.get(i, p),
                        |p| at(p, j),
                        (alpha, C64::ZERO, C64::ZERO),
                    )
                }
            })?;
            let b = Matrix::new(ty, m, n, 1, &mut random)?;
            let name = format!("cublas{t}trsm_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, side => u32, uplo => u32, trans => u32, diag => u32, int(m)? => i32, int(n)? => i32,
                als.as_ptr() => *const u8, a.at() => u64, int(a.ld)? => i32, b.at() => u64, int(b.ld)? => i32),
            )?;
            check(&name, side, uplo, trans, diag, alpha, &a, &b, (m, n))?;
        }
    }
    Ok(())
}

fn geam(blas: &Blas) -> Result<()> {
    let mut random = Random(31);
    for (t, ty) in TYPES {
        let (m, n) = (45, 70);
        for (ta, tb) in [(0, 0), (1, 0), (0, 2), (2, 1)] {
            let turned = |operation| if operation == 0 { (m, n) } else { (n, m) };
            let (alpha, beta) = (factor(ty, 0.5, 1.5), factor(ty, 2.0, -1.0));
            let (als, bes) = (ty.encode(alpha), ty.encode(beta));
            let a = Matrix::new(ty, turned(ta).0, turned(ta).1, 2, &mut random)?;
            let b = Matrix::new(ty, turned(tb).0, turned(tb).1, 1, &mut random)?;
            let c = Matrix::new(ty, m, n, 1, &mut random)?;
            let name = format!("cublas{t}geam");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, ta => u32, tb => u32, int(m)? => i32, int(n)? => i32, als.as_ptr() => *const u8,
                a.at() => u64, int(a.ld)? => i32, bes.as_ptr() => *const u8, b.at() => u64, int(b.ld)? => i32, c.at() => u64, int(c.ld)? => i32),
            )?;
            c.compare(&name, |i, j| {
                (
                    alpha * a.op(ta, i, j) + beta * b.op(tb, i, j),
                    bound(ty, 6.0, 1),
                )
            })?;
        }
        for side in 0..2 {
            let a = Matrix::new(ty, m, n, 2, &mut random)?;
            let c = Matrix::new(ty, m, n, 1, &mut random)?;
            let x = Vector::new(ty, if side == 0 { m } else { n }, -2, &mut random)?;
            let name = format!("cublas{t}dgmm");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, side => u32, int(m)? => i32, int(n)? => i32, a.at() => u64, int(a.ld)? => i32,
                x.at() => u64, -2 => i32, c.at() => u64, int(c.ld)? => i32),
            )?;
            c.compare(&name, |i, j| {
                (
                    a.get(i, j) * x.values[if side == 0 { i } else { j }],
                    bound(ty, 2.0, 1),
                )
            })?;
        }
    }
    Ok(())
}
