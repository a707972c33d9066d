//! What the tests of all levels share: vectors with increments, triangles, and the products that results are compared with.

use anyhow::Result;

use super::element::{C64, Type};
use super::{Matrix, Random};

pub(super) const TYPES: [(&str, Type); 4] = [
    ("S", Type::F32),
    ("D", Type::F64),
    ("C", Type::C32),
    ("Z", Type::C64),
];

pub(super) fn factor(ty: Type, re: f64, im: f64) -> C64 {
    ty.round(C64 {
        re,
        im: if ty.is_complex() { im } else { 0.0 },
    })
}

/// The real type of the same precision.
pub(super) fn real(ty: Type) -> Type {
    match ty {
        Type::C32 => Type::F32,
        Type::C64 => Type::F64,
        other => other,
    }
}

/// A vector with an increment: `values` are its elements in order.
pub(super) struct Vector {
    pub(super) values: Vec<C64>,
    pub(super) inc: i64,
    pub(super) matrix: Matrix,
}

impl Vector {
    pub(super) fn new(ty: Type, n: usize, inc: i64, random: &mut Random) -> Result<Vector> {
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

    pub(super) fn at(&self) -> u64 {
        self.matrix.at()
    }

    pub(super) fn compare(&self, what: &str, want: impl Fn(usize) -> (C64, f64)) -> Result<()> {
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

pub(super) fn bound(ty: Type, size: f64, terms: usize) -> f64 {
    size * ty.epsilon() * (terms as f64 + 8.0) * 2.0 + 1e-300
}

pub(super) const INCREMENTS: [(i64, i64); 4] = [(1, 1), (2, 3), (-1, 1), (3, -2)];

/// `alpha Σ a(i, p) x(p) + beta y(i)` and its bound.
pub(super) fn product(
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

/// Element (i, j) of a symmetric or Hermitian matrix of which `stored` gives one triangle.
pub(super) fn mirrored(
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
pub(super) fn packed(uplo: u32, n: usize, i: usize, j: usize) -> usize {
    if uplo == 1 {
        i + j * (j + 1) / 2
    } else {
        i + j * (2 * n - j - 1) / 2
    }
}
