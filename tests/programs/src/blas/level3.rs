//! Level 3: each routine against the dense matrices that it stands for.

use anyhow::Result;

use super::dense::{TYPES, Vector, bound, factor, mirrored, product, real};
use super::element::{C64, Type};
use super::trsm::{check, element, triangle};
use super::{Blas, Matrix, Random, Test, call, int, ok};

pub const TESTS: &[Test] = &[
    ("symm_and_hemm", symm),
    ("rank_k_updates", rank_k),
    ("trmm_and_trsm", trmm),
    ("geam_and_dgmm", geam),
];

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
