//! Triangular systems: the solution is put into the equation.

use anyhow::{Result, ensure};

use super::element::{C64, Type};
use super::{Blas, Matrix, Random, Test, addresses, call, int, ok};

pub const TESTS: &[Test] = &[("trsm_batched", batched)];

/// A matrix that is well conditioned as a triangle of either kind.
pub fn triangle(ty: Type, n: usize, random: &mut Random) -> Result<Matrix> {
    let mut a = Matrix::new(ty, n, n, 2, random)?;
    let ld = a.ld;
    for (at, value) in a.values.iter_mut().enumerate() {
        let (i, j) = (at % ld, at / ld);
        *value = if i == j {
            C64::real(2.0 + value.re.abs())
        } else {
            *value * C64::real(1.0 / n as f64)
        };
        *value = ty.round(*value);
    }
    Matrix::of(ty, n, ld, a.values)
}

/// Element (i, j) of op(A), of a triangle of A.
pub fn element(a: &Matrix, uplo: u32, trans: u32, diag: u32, i: usize, j: usize) -> C64 {
    let (r, c) = if trans == 0 { (i, j) } else { (j, i) };
    if r == c && diag == 1 {
        return C64::real(1.0);
    }
    let stored = if uplo == 1 { r <= c } else { r >= c };
    if !stored {
        return C64::ZERO;
    }
    let value = a.get(r, c);
    if trans == 2 { value.conj() } else { value }
}

/// Checks that X solves the system; X is what is in B's memory.
#[allow(clippy::too_many_arguments, reason = "those of trsm")]
pub fn check(
    what: &str,
    side: u32,
    uplo: u32,
    trans: u32,
    diag: u32,
    alpha: C64,
    a: &Matrix,
    b: &Matrix,
    (m, n): (usize, usize),
) -> Result<()> {
    let x = b.read()?;
    let unknowns = if side == 0 { m } else { n };
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let (mut sum, mut size) = (C64::ZERO, 0.0);
        for p in 0..unknowns {
            let term = if side == 0 {
                element(a, uplo, trans, diag, i, p) * x[p + j * b.ld]
            } else {
                x[i + p * b.ld] * element(a, uplo, trans, diag, p, j)
            };
            sum = sum + term;
            size += term.abs();
        }
        let want = alpha * b.get(i, j);
        let bound = (size + want.abs()) * b.ty.epsilon() * (unknowns as f64 + 8.0) * 4.0;
        ensure!(
            sum.near(want, bound),
            "{what}: ({i}, {j}) gives {sum:?}, not {want:?} within {bound:e}"
        );
    }
    Ok(())
}

fn batched(blas: &Blas) -> Result<()> {
    let mut random = Random(11);
    for (t, ty) in [
        ("S", Type::F32),
        ("D", Type::F64),
        ("C", Type::C32),
        ("Z", Type::C64),
    ] {
        let name = format!("cublas{t}trsmBatched");
        for (m, n) in [(1, 1), (5, 3), (70, 33), (150, 90)] {
            for bits in 0..if m > 100 { 2 } else { 24 } {
                let (side, uplo, diag, trans) = (bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3);
                let unknowns = if side == 0 { m } else { n };
                let sets: Vec<(Matrix, Matrix)> = (0..3)
                    .map(|_| {
                        Ok((
                            triangle(ty, unknowns, &mut random)?,
                            Matrix::new(ty, m, n, 1, &mut random)?,
                        ))
                    })
                    .collect::<Result<_>>()?;
                let la = addresses(&sets.iter().map(|s| s.0.at()).collect::<Vec<_>>())?;
                let lb = addresses(&sets.iter().map(|s| s.1.at()).collect::<Vec<_>>())?;
                let alpha = ty.round(C64 {
                    re: 1.25,
                    im: if ty.is_complex() { 0.5 } else { 0.0 },
                });
                let bytes = ty.encode(alpha);
                let status = call!(blas, &name,
                    blas.handle() => u64, side => u32, uplo => u32, trans => u32, diag => u32, int(m)? => i32, int(n)? => i32,
                    bytes.as_ptr() => *const u8, la.address() => u64, int(sets[0].0.ld)? => i32,
                    lb.address() => u64, int(sets[0].1.ld)? => i32, 3 => i32);
                ok(&name, status)?;
                let what =
                    format!("{name} {m} x {n} side {side} uplo {uplo} trans {trans} diag {diag}");
                for (a, b) in &sets {
                    check(&what, side, uplo, trans, diag, alpha, a, b, (m, n))?;
                }
            }
        }
    }
    Ok(())
}
