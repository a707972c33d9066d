//! Level 2: each routine against the dense matrix that it stands for.

use anyhow::{Result, ensure};

use super::dense::{INCREMENTS, TYPES, Vector, bound, factor, mirrored, packed, product, real};
use super::element::{C64, Type};
use super::trsm::{element, triangle};
use super::{Blas, Matrix, Random, Test, call, int, ok};

pub const TESTS: &[Test] = &[
    ("gemv_and_gbmv", gemv),
    ("symmetric_and_vector", symv),
    ("rank_updates", updates),
    ("triangle_and_vector", triangle_vector),
];

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
