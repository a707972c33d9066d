//! Vectors: element by element, and sums.

use std::sync::{Arc, Mutex, PoisonError};

use crate::exec::{BlasError, Exec};
use crate::matrix::{Matrix, View};
use crate::num::Num;

/// Elements of a task.
const CHUNK: u64 = 1 << 16;

/// Elements that are held at a time.
const RUN: usize = 256;

fn chunks(n: u64) -> u64 {
    n.div_ceil(CHUNK)
}

/// Replaces the elements of y by `f(x, y)`, and those of x by what it gives first, where it gives
/// something. `reads_y` false: y is not read, `f` gets 0.
pub fn map<T: Num>(
    exec: &Exec<'_>,
    n: u64,
    (x, y): (Matrix, Matrix),
    reads_y: bool,
    f: impl Fn(T, T) -> (Option<T>, T) + Send + Sync + 'static,
) -> Result<(), BlasError> {
    if n == 0 {
        return Ok(());
    }
    if !T::writes(y.ty) {
        return Err(BlasError::Unsupported("the type of a vector"));
    }
    let space = exec.space.clone();
    exec.for_each(chunks(n), move |chunk| {
        let xs: View<T> = x.resolve(&space, 0)?;
        let ys: View<T> = if reads_y {
            y.resolve(&space, 0)?
        } else {
            y.view(&space, 0)?
        };
        let (from, to) = (chunk * CHUNK, n.min((chunk + 1) * CHUNK));
        let (mut left, mut right) = ([T::ZERO; RUN], [T::ZERO; RUN]);
        let mut at = from;
        while at < to {
            let count = RUN.min((to - at) as usize);
            let (left, right) = (&mut left[..count], &mut right[..count]);
            xs.get_column(at, 0, left);
            if reads_y {
                ys.get_column(at, 0, right);
            }
            let mut changed = false;
            for (l, r) in left.iter_mut().zip(right.iter_mut()) {
                let (new, result) = f(*l, if reads_y { *r } else { T::ZERO });
                if let Some(new) = new {
                    *l = new;
                    changed = true;
                }
                *r = result;
            }
            if changed {
                xs.set_column(at, 0, left);
            }
            ys.set_column(at, 0, right);
            at += count as u64;
        }
        Ok(())
    })
}

/// Combines `f` of all elements, chunk by chunk, always in the same order.
fn reduce<T: Num, A: Copy + Send + Sync + 'static>(
    exec: &Exec<'_>,
    n: u64,
    (x, y): (Matrix, Matrix),
    first: A,
    step: impl Fn(A, u64, T, T) -> A + Send + Sync + 'static,
    combine: impl Fn(A, A) -> A,
) -> Result<A, BlasError> {
    let parts = Arc::new(Mutex::new(Vec::new()));
    let (space, all) = (exec.space.clone(), Arc::clone(&parts));
    exec.for_each(chunks(n), move |chunk| {
        let xs: View<T> = x.resolve(&space, 0)?;
        let ys: View<T> = y.resolve(&space, 0)?;
        let (from, to) = (chunk * CHUNK, n.min((chunk + 1) * CHUNK));
        let (mut left, mut right) = ([T::ZERO; RUN], [T::ZERO; RUN]);
        let (mut at, mut sum) = (from, first);
        while at < to {
            let count = RUN.min((to - at) as usize);
            xs.get_column(at, 0, &mut left[..count]);
            ys.get_column(at, 0, &mut right[..count]);
            for (i, (l, r)) in left[..count].iter().zip(&right[..count]).enumerate() {
                sum = step(sum, at + i as u64, *l, *r);
            }
            at += count as u64;
        }
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((chunk, sum));
        Ok(())
    })?;
    let mut parts = std::mem::take(&mut *parts.lock().unwrap_or_else(PoisonError::into_inner));
    parts.sort_unstable_by_key(|(chunk, _)| *chunk);
    Ok(parts
        .into_iter()
        .fold(first, |sum, (_, part)| combine(sum, part)))
}

/// The dot product of x and y, summed in double precision.
pub fn dot<T: Num>(exec: &Exec<'_>, n: u64, x: Matrix, y: Matrix) -> Result<T, BlasError> {
    let step = |(re, im): (f64, f64), _, x: T, y: T| {
        let ((a, b), (c, d)) = (x.parts(), y.parts());
        if T::COMPLEX {
            (re + (a * c - b * d), im + (a * d + b * c))
        } else {
            (re + a * c, 0.0)
        }
    };
    let combine = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1 + b.1);
    let (re, im) = reduce::<T, _>(exec, n, (x, y), (0.0, 0.0), step, combine)?;
    Ok(T::of(re, im))
}

/// The sum of the magnitudes of real and imaginary parts.
pub fn asum<T: Num>(exec: &Exec<'_>, n: u64, x: Matrix) -> Result<f64, BlasError> {
    let step = |sum: f64, _, x: T, _| {
        let (re, im) = x.parts();
        sum + re.abs() + im.abs()
    };
    reduce::<T, _>(exec, n, (x, x), 0.0, step, |a, b| a + b)
}

/// The Euclidean norm, without overflow on the way to it.
pub fn nrm2<T: Num>(exec: &Exec<'_>, n: u64, x: Matrix) -> Result<f64, BlasError> {
    let squares = |scale: f64| {
        move |sum: f64, _: u64, x: T, _: T| {
            let (re, im) = x.parts();
            let (re, im) = (re / scale, im / scale);
            sum + re * re + im * im
        }
    };
    let sum = reduce::<T, _>(exec, n, (x, x), 0.0, squares(1.0), |a, b| a + b)?;
    // Squares of doubles may be too large or too small to be represented.
    if sum.is_nan() || (sum < f64::INFINITY && sum > f64::MIN_POSITIVE * 1e20) {
        return Ok(sum.sqrt());
    }
    let largest = |max: f64, _: u64, x: T, _: T| {
        let (re, im) = x.parts();
        max.max(re.abs()).max(im.abs())
    };
    let scale = reduce::<T, _>(exec, n, (x, x), 0.0, largest, f64::max)?;
    if scale == 0.0 || scale.is_infinite() {
        return Ok(scale);
    }
    let sum = reduce::<T, _>(exec, n, (x, x), 0.0, squares(scale), |a, b| a + b)?;
    Ok(scale * sum.sqrt())
}

/// The first index, from 1, of the greatest (or least) sum of the magnitudes of real and imaginary
/// part; 0 of no elements.
pub fn extreme<T: Num>(exec: &Exec<'_>, n: u64, x: Matrix, least: bool) -> Result<u64, BlasError> {
    let better = move |a: f64, b: f64| if least { a < b } else { a > b };
    let pick = move |old: (u64, f64), new: (u64, f64)| {
        if old.0 == 0 || better(new.1, old.1) {
            new
        } else {
            old
        }
    };
    let step = move |best: (u64, f64), i: u64, x: T, _| {
        let (re, im) = x.parts();
        pick(best, (i + 1, re.abs() + im.abs()))
    };
    let combine = move |a: (u64, f64), b: (u64, f64)| if b.0 == 0 { a } else { pick(a, b) };
    Ok(reduce::<T, _>(exec, n, (x, x), (0, 0.0), step, combine)?.0)
}
