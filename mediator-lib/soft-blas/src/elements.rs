//! Matrices element by element, and products with a triangle in place.
#![allow(unsafe_code)] // The gemm crate takes raw pointers.

use vgpu_soft_gpu::{Abort, AddressSpace};

use crate::exec::{BlasError, Exec, go_on};
use crate::gemm::multiply;
use crate::matrix::{Matrix, Shape, View};
use crate::num::Num;

/// Columns of a task.
const COLUMNS: u64 = 32;

/// Rows and columns of the triangle that are multiplied at a time.
const STEP: u64 = 64;

/// `C[i, j] = f(i, j, A[i, j], B[i, j])`; B is not read where it is not given, nor A.
pub fn combine<T: Num>(
    exec: &Exec<'_>,
    (m, n): (u64, u64),
    (a, b): (Option<Matrix>, Option<Matrix>),
    c: Matrix,
    f: impl Fn(&AddressSpace, u64, u64, T, T) -> Result<T, BlasError> + Send + Sync + 'static,
) -> Result<(), BlasError> {
    if m == 0 || n == 0 {
        return Ok(());
    }
    let (space, abort) = (exec.space.clone(), exec.abort.clone());
    exec.for_each(n.div_ceil(COLUMNS), move |panel| {
        let view = |matrix: Option<Matrix>| matrix.map(|m| m.resolve::<T>(&space, 0)).transpose();
        let (a, b, c) = (view(a)?, view(b)?, c.resolve::<T>(&space, 0)?);
        for j in panel * COLUMNS..n.min((panel + 1) * COLUMNS) {
            go_on(&abort)?;
            for i in 0..m {
                let get = |view: &Option<View<T>>| view.map_or(T::ZERO, |v| v.get(i, j));
                c.set(i, j, f(&space, i, j, get(&a), get(&b))?);
            }
        }
        Ok(())
    })
}

/// Makes the diagonal of a Hermitian result real.
pub fn real_diagonal<T: Num>(exec: &Exec<'_>, n: u64, c: Matrix) -> Result<(), BlasError> {
    if n == 0 || !T::COMPLEX {
        return Ok(());
    }
    let c = c.resolve::<T>(exec.space, 0)?;
    for i in 0..n {
        c.set(i, i, c.get(i, i).real());
    }
    Ok(())
}

/// A product with a triangle: `B = alpha A B` in place.
#[derive(Clone, Copy, Debug)]
pub struct Triangular<T> {
    /// Rows and columns of A.
    pub n: u64,
    /// Columns of B.
    pub cols: u64,
    /// Factor.
    pub alpha: T,
    /// op(A), of shape [`Shape::Triangle`].
    pub a: Matrix,
    /// B; of `B op(A)` both are transposed.
    pub b: Matrix,
}

/// Computes a product with a triangle on all threads.
pub fn triangular<T: Num>(exec: &Exec<'_>, p: Triangular<T>) -> Result<(), BlasError> {
    if p.n == 0 || p.cols == 0 {
        return Ok(());
    }
    let Shape::Triangle { upper, .. } = p.a.shape else {
        return Err(BlasError::Unsupported("a matrix that is not triangular"));
    };
    let upper = upper != p.a.trans;
    let (space, abort) = (exec.space.clone(), exec.abort.clone());
    exec.for_each(p.cols.div_ceil(COLUMNS), move |panel| {
        let cols = panel * COLUMNS..p.cols.min((panel + 1) * COLUMNS);
        multiply_panel(&p, upper, &space, &abort, cols)
    })
}

fn multiply_panel<T: Num>(
    p: &Triangular<T>,
    upper: bool,
    space: &AddressSpace,
    abort: &Abort,
    cols: std::ops::Range<u64>,
) -> Result<(), BlasError> {
    let b: View<T> = p.b.resolve(space, 0)?;
    if p.alpha == T::ZERO {
        for j in cols {
            go_on(abort)?;
            (0..p.n).for_each(|i| b.set(i, j, T::ZERO));
        }
        return Ok(());
    }
    let a: View<T> = p.a.resolve(space, 0)?;
    let (below, above) = p.a.band();
    let count = cols.end - cols.start;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let steps = p.n.div_ceil(STEP);
    // A row of the result needs the rows of B on one side of it: those are changed last.
    for step in 0..steps {
        go_on(abort)?;
        let from = STEP * if upper { step } else { steps - 1 - step };
        let size = STEP.min(p.n - from);
        diagonal(p, &a, &b, upper, (from, size), cols.clone());
        let rest = if upper {
            from + size..p.n.min((from + size).saturating_add(above))
        } else {
            from.saturating_sub(below)..from
        };
        let mut at = rest.start;
        while at < rest.end {
            go_on(abort)?;
            let k = (8 * STEP).min(rest.end - at);
            let factor = a.block(from, size, at, k, &mut left);
            let old = b.block(at, k, cols.start, count, &mut right);
            let Some(to) = b.direct(from, size, cols.start, count).filter(|b| !b.conj) else {
                return Err(BlasError::Unsupported("the layout of the result"));
            };
            let to = (to.at.cast_mut(), to.rs, to.cs);
            // SAFETY: blocks of checked views or of buffers; `old` and `to` are other rows of B.
            unsafe { multiply((size, count, k), to, Some(T::ONE), p.alpha, factor, old) };
            at += k;
        }
    }
    Ok(())
}

/// The product of a block on the diagonal with its rows of B, in place.
fn diagonal<T: Num>(
    p: &Triangular<T>,
    a: &View<T>,
    b: &View<T>,
    upper: bool,
    (from, size): (u64, u64),
    cols: std::ops::Range<u64>,
) {
    for j in cols {
        for step in 0..size {
            let i = if upper { step } else { size - 1 - step };
            let known = if upper { i..size } else { 0..i + 1 };
            let sum = known.fold(T::ZERO, |sum, q| {
                sum + a.get(from + i, from + q) * b.get(from + q, j)
            });
            b.set(from + i, j, p.alpha * sum);
        }
    }
}
