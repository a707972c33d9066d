//! Triangular systems: `op(A) X = alpha B` and `X op(A) = alpha B`.
#![allow(unsafe_code)] // The gemm crate takes raw pointers.

use vgpu_soft_gpu::{Abort, AddressSpace};

use crate::exec::{BlasError, Exec, go_on};
use crate::gemm::multiply;
use crate::matrix::{Matrix, Shape, View};
use crate::num::Num;

/// Unknowns that are solved for at a time; the others are brought up to date by a product.
const STEP: u64 = 64;

/// Right-hand sides of a task.
const PANEL: u64 = 64;

/// A triangular system, or a batch of them: `A X = alpha B`, where X takes the place of B.
#[derive(Clone, Copy, Debug)]
pub struct Solve<T> {
    /// Unknowns.
    pub n: u64,
    /// Right-hand sides.
    pub cols: u64,
    /// Factor of B.
    pub alpha: T,
    /// op(A), of shape [`Shape::Triangle`].
    pub a: Matrix,
    /// B, `n` × `cols`; of `X op(A) = alpha B` both are transposed.
    pub b: Matrix,
    /// Number of systems.
    pub batch: u64,
}

/// Solves triangular systems on all threads.
pub fn solve<T: Num>(exec: &Exec<'_>, s: Solve<T>) -> Result<(), BlasError> {
    if s.n == 0 || s.cols == 0 || s.batch == 0 {
        return Ok(());
    }
    let Shape::Triangle { upper, .. } = s.a.shape else {
        return Err(BlasError::Unsupported("a system that is not triangular"));
    };
    let upper = upper != s.a.trans;
    let panels = s.cols.div_ceil(PANEL);
    let (space, abort) = (exec.space.clone(), exec.abort.clone());
    exec.for_each(panels.saturating_mul(s.batch), move |index| {
        let first = index % panels * PANEL;
        let cols = first..s.cols.min(first + PANEL);
        panel(&s, upper, &space, &abort, index / panels, cols)
    })
}

fn panel<T: Num>(
    s: &Solve<T>,
    upper: bool,
    space: &AddressSpace,
    abort: &Abort,
    index: u64,
    cols: std::ops::Range<u64>,
) -> Result<(), BlasError> {
    let b: View<T> = s.b.resolve(space, index)?;
    if s.alpha != T::ONE {
        for j in cols.clone() {
            go_on(abort)?;
            for i in 0..s.n {
                // As in BLAS, B is not read where alpha is 0.
                let value = if s.alpha == T::ZERO {
                    T::ZERO
                } else {
                    s.alpha * b.get(i, j)
                };
                b.set(i, j, value);
            }
        }
    }
    if s.alpha == T::ZERO {
        return Ok(());
    }
    let a: View<T> = s.a.resolve(space, index)?;
    let count = cols.end - cols.start;
    let (mut diagonal, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
    let steps = s.n.div_ceil(STEP);
    for step in 0..steps {
        go_on(abort)?;
        let from = STEP * if upper { steps - 1 - step } else { step };
        let size = STEP.min(s.n - from);
        diagonal.clear();
        for j in 0..size {
            diagonal.extend((0..size).map(|i| a.get(from + i, from + j)));
        }
        for j in cols.clone() {
            substitute(&diagonal, size, upper, from, j, &b);
        }
        // The unknowns that are left, a step of rows at a time.
        let (below, above) = s.a.band();
        let rest = if upper {
            from.saturating_sub(above)..from
        } else {
            from + size..s.n.min((from + size).saturating_add(below))
        };
        let mut row = rest.start;
        while row < rest.end {
            go_on(abort)?;
            let rows = (8 * STEP).min(rest.end - row);
            let factor = a.block(row, rows, from, size, &mut left);
            let known = b.block(from, size, cols.start, count, &mut right);
            let Some(to) = b.direct(row, rows, cols.start, count).filter(|b| !b.conj) else {
                return Err(BlasError::Unsupported("the layout of the right-hand sides"));
            };
            let to = (to.at.cast_mut(), to.rs, to.cs);
            // SAFETY: blocks of checked views or of buffers; `known` and `to` are other rows of B.
            unsafe {
                multiply(
                    (rows, count, size),
                    to,
                    Some(T::ONE),
                    -T::ONE,
                    factor,
                    known,
                )
            };
            row += rows;
        }
    }
    Ok(())
}

/// Solves for the `size` unknowns from row `from` on of one right-hand side.
fn substitute<T: Num>(diagonal: &[T], size: u64, upper: bool, from: u64, j: u64, b: &View<T>) {
    let at = |i: u64, j: u64| diagonal[(i + j * size) as usize];
    for step in 0..size {
        let i = if upper { size - 1 - step } else { step };
        let known = if upper { i + 1..size } else { 0..i };
        let mut value = b.get(from + i, j);
        for p in known {
            value = value - at(i, p) * b.get(from + p, j);
        }
        b.set(from + i, j, value / at(i, i));
    }
}
