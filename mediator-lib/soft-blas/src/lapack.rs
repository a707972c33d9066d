//! Batches of small systems: LU factorisation with row exchanges, solving and inverting with it.
#![allow(unsafe_code)] // Pivots and results are written through raw pointers into device memory.

use vgpu_soft_gpu::AddressSpace;

use crate::exec::{BlasError, Exec, go_on};
use crate::matrix::{Addressing, Matrix, View};
use crate::num::{Num, Type};

/// Largest matrix of a batch: each thread keeps a copy of one, or two, at most 256 MiB each.
pub const MAX_ORDER: u64 = 4096;

fn magnitude<T: Num>(value: T) -> f64 {
    let (re, im) = value.parts();
    re.abs() + im.abs()
}

/// An array of 32-bit integers: `count` for each matrix.
#[derive(Clone, Copy, Debug)]
pub struct Integers {
    /// Address; 0 where there is none.
    pub at: u64,
    /// For each matrix.
    pub count: u64,
}

impl Integers {
    fn matrix(&self) -> Matrix {
        Matrix::new("an array of integers", self.at, Type::I32, self.count, 1, 1)
            .batched(Addressing::Strided(self.count as i64))
    }

    fn write(&self, space: &AddressSpace, index: u64, values: &[i32]) -> Result<(), BlasError> {
        if self.at == 0 || values.is_empty() {
            return Ok(());
        }
        let view: View<f32> = self.matrix().view(space, index)?;
        for (i, value) in values.iter().enumerate() {
            if let Some(at) = view.address(i as u64, 0) {
                // SAFETY: `view` checked extent and alignment; the elements have 4 bytes.
                unsafe { at.cast::<i32>().write(*value) };
            }
        }
        Ok(())
    }

    fn read(&self, space: &AddressSpace, index: u64) -> Result<Vec<i32>, BlasError> {
        let view: View<f32> = self.matrix().view(space, index)?;
        let place = |i| view.address(i, 0);
        Ok((0..self.count)
            .filter_map(place)
            // SAFETY: as in `write`.
            .map(|at| unsafe { at.cast::<i32>().read() })
            .collect())
    }
}

/// Factorises in place; gives the pivots from 1, and the first column without one, from 1, or 0.
fn factorise<T: Num>(
    a: &mut [T],
    n: usize,
    pivoting: bool,
    mut on: impl FnMut() -> Result<(), BlasError>,
) -> Result<(Vec<i32>, i32), BlasError> {
    let (mut pivots, mut info) = (Vec::with_capacity(n), 0);
    for j in 0..n {
        on()?;
        let mut best = j;
        if pivoting {
            for i in j + 1..n {
                if magnitude(a[i + j * n]) > magnitude(a[best + j * n]) {
                    best = i;
                }
            }
        }
        pivots.push(best as i32 + 1);
        if best != j {
            for col in 0..n {
                a.swap(j + col * n, best + col * n);
            }
        }
        let pivot = a[j + j * n];
        if pivot == T::ZERO {
            if info == 0 {
                info = j as i32 + 1;
            }
            continue;
        }
        for i in j + 1..n {
            a[i + j * n] = a[i + j * n] / pivot;
        }
        for col in j + 1..n {
            let factor = a[j + col * n];
            if factor != T::ZERO {
                for i in j + 1..n {
                    a[i + col * n] = a[i + col * n] - a[i + j * n] * factor;
                }
            }
        }
    }
    Ok((pivots, info))
}

fn load<T: Num>(view: &View<T>, n: u64) -> Vec<T> {
    let mut all = vec![T::ZERO; (n * n) as usize];
    for (j, column) in all.chunks_mut(n as usize).enumerate() {
        view.get_column(0, j as u64, column);
    }
    all
}

fn store<T: Num>(view: &View<T>, n: u64, all: &[T]) {
    for (j, column) in all.chunks(n as usize).enumerate() {
        view.set_column(0, j as u64, column);
    }
}

fn limited(n: u64) -> Result<(), BlasError> {
    if n <= MAX_ORDER {
        Ok(())
    } else {
        Err(BlasError::Unsupported("a matrix of this size in a batch"))
    }
}

/// `cublas<t>getrfBatched`. Without pivots no rows are exchanged.
pub fn getrf<T: Num>(
    exec: &Exec<'_>,
    n: u64,
    a: Matrix,
    (pivots, info): (Integers, Integers),
    batch: u64,
) -> Result<(), BlasError> {
    limited(n)?;
    let (space, abort) = (exec.space.clone(), exec.abort.clone());
    exec.for_each(batch, move |index| {
        if n == 0 {
            return info.write(&space, index, &[0]);
        }
        let view: View<T> = a.resolve(&space, index)?;
        let mut all = load(&view, n);
        let (rows, status) = factorise(&mut all, n as usize, pivots.at != 0, || go_on(&abort))?;
        store(&view, n, &all);
        pivots.write(&space, index, &rows)?;
        info.write(&space, index, &[status])
    })
}

/// The inverse from a factorisation. `false` where it has none.
fn invert<T: Num>(
    lu: &[T],
    n: usize,
    pivots: &[i32],
    out: &mut [T],
    mut on: impl FnMut() -> Result<(), BlasError>,
) -> Result<(), BlasError> {
    for j in 0..n {
        on()?;
        let column = &mut out[j * n..][..n];
        column.fill(T::ZERO);
        column[j] = T::ONE;
        substitute(lu, n, pivots, column, 0);
    }
    Ok(())
}

/// Solves `op(A) x = b` in place, with A factorised.
fn substitute<T: Num>(lu: &[T], n: usize, pivots: &[i32], x: &mut [T], operation: u32) {
    let swaps = pivots.iter().enumerate().map(|(i, p)| (i, *p as usize - 1));
    if operation == 0 {
        swaps.for_each(|(i, p)| x.swap(i, p));
        for j in 0..n {
            for i in j + 1..n {
                x[i] = x[i] - lu[i + j * n] * x[j];
            }
        }
        for j in (0..n).rev() {
            x[j] = x[j] / lu[j + j * n];
            for i in 0..j {
                x[i] = x[i] - lu[i + j * n] * x[j];
            }
        }
        return;
    }
    let turn = |v: T| if operation == 2 { v.conj() } else { v };
    for i in 0..n {
        for j in 0..i {
            x[i] = x[i] - turn(lu[j + i * n]) * x[j];
        }
        x[i] = x[i] / turn(lu[i + i * n]);
    }
    for i in (0..n).rev() {
        for j in i + 1..n {
            x[i] = x[i] - turn(lu[j + i * n]) * x[j];
        }
    }
    swaps.rev().for_each(|(i, p)| x.swap(i, p));
}

/// Pivots that a guest may have changed: all inside.
fn checked(pivots: Vec<i32>, n: u64) -> Result<Vec<i32>, BlasError> {
    if pivots.iter().all(|p| *p >= 1 && *p as u64 <= n) {
        Ok(pivots)
    } else {
        Err(BlasError::IllegalAddress {
            what: "a row that a pivot names",
            addr: 0,
            bytes: 0,
        })
    }
}

fn pivots_of(
    p: &Integers,
    space: &AddressSpace,
    index: u64,
    n: u64,
) -> Result<Vec<i32>, BlasError> {
    if p.at == 0 {
        return Ok(Vec::new());
    }
    checked(p.read(space, index)?, n)
}

/// `cublas<t>getriBatched`: C becomes the inverse of the factorised A.
pub fn getri<T: Num>(
    exec: &Exec<'_>,
    n: u64,
    (a, c): (Matrix, Matrix),
    (pivots, info): (Integers, Integers),
    batch: u64,
) -> Result<(), BlasError> {
    limited(n)?;
    let (space, abort) = (exec.space.clone(), exec.abort.clone());
    exec.for_each(batch, move |index| {
        if n == 0 {
            return info.write(&space, index, &[0]);
        }
        let lu = load(&a.resolve::<T>(&space, index)?, n);
        let to: View<T> = c.resolve(&space, index)?;
        let rows = pivots_of(&pivots, &space, index, n)?;
        let size = n as usize;
        if let Some(j) = (0..size).find(|j| lu[j + j * size] == T::ZERO) {
            return info.write(&space, index, &[j as i32 + 1]);
        }
        let mut out = vec![T::ZERO; size * size];
        invert(&lu, size, &rows, &mut out, || go_on(&abort))?;
        store(&to, n, &out);
        info.write(&space, index, &[0])
    })
}

/// `cublas<t>matinvBatched`.
pub fn matinv<T: Num>(
    exec: &Exec<'_>,
    n: u64,
    (a, c): (Matrix, Matrix),
    info: Integers,
    batch: u64,
) -> Result<(), BlasError> {
    limited(n)?;
    let (space, abort) = (exec.space.clone(), exec.abort.clone());
    exec.for_each(batch, move |index| {
        if n == 0 {
            return info.write(&space, index, &[0]);
        }
        let mut lu = load(&a.resolve::<T>(&space, index)?, n);
        let to: View<T> = c.resolve(&space, index)?;
        let size = n as usize;
        let (rows, status) = factorise(&mut lu, size, true, || go_on(&abort))?;
        if status == 0 {
            let mut out = vec![T::ZERO; size * size];
            invert(&lu, size, &rows, &mut out, || go_on(&abort))?;
            store(&to, n, &out);
        }
        info.write(&space, index, &[status])
    })
}

/// `cublas<t>getrsBatched`: solves with the factorised A; B becomes X.
pub fn getrs<T: Num>(
    exec: &Exec<'_>,
    (n, cols): (u64, u64),
    operation: u32,
    (a, b): (Matrix, Matrix),
    pivots: Integers,
    batch: u64,
) -> Result<(), BlasError> {
    limited(n)?;
    if n == 0 || cols == 0 {
        return Ok(());
    }
    let (space, abort) = (exec.space.clone(), exec.abort.clone());
    exec.for_each(batch, move |index| {
        let lu = load(&a.resolve::<T>(&space, index)?, n);
        let to: View<T> = b.resolve(&space, index)?;
        let rows = pivots_of(&pivots, &space, index, n)?;
        let mut column = vec![T::ZERO; n as usize];
        for j in 0..cols {
            go_on(&abort)?;
            to.get_column(0, j, &mut column);
            substitute(&lu, n as usize, &rows, &mut column, operation);
            to.set_column(0, j, &column);
        }
        Ok(())
    })
}
