//! Batches of small systems.

use anyhow::{Result, ensure};

use super::element::{C64, Type};
use super::{Blas, Matrix, Random, Test, addresses, call, int, ok};
use crate::cuda::Buffer;

pub const TESTS: &[Test] = &[
    ("batched_lu", lu),
    ("batched_lu_singular", singular),
    ("set_and_get", transfer),
];

fn lu(blas: &Blas) -> Result<()> {
    let mut random = Random(41);
    for (t, ty) in [
        ("S", Type::F32),
        ("D", Type::F64),
        ("C", Type::C32),
        ("Z", Type::C64),
    ] {
        for n in [1usize, 7, 32] {
            let make = |random: &mut Random| -> Result<Vec<Matrix>> {
                (0..4).map(|_| Matrix::new(ty, n, n, 1, random)).collect()
            };
            let list = |all: &[Matrix]| addresses(&all.iter().map(Matrix::at).collect::<Vec<_>>());
            let (a, inverse, direct) = (make(&mut random)?, make(&mut random)?, make(&mut random)?);
            let (la, li, ld) = (list(&a)?, list(&inverse)?, list(&direct)?);
            let (pivots, info) = (Buffer::<i32>::zeros(4 * n)?, Buffer::from(&[9i32; 4])?);
            let lda = int(a[0].ld)?;
            let name = format!("cublas{t}matinvBatched");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, la.address() => u64, lda => i32, ld.address() => u64, lda => i32, info.address() => u64, 4 => i32),
            )?;
            ensure!(info.read()? == [0; 4], "{name}: info {:?}", info.read()?);
            let name = format!("cublas{t}getrfBatched");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, la.address() => u64, lda => i32, pivots.address() => u64, info.address() => u64, 4 => i32),
            )?;
            let rows = pivots.read()?;
            ensure!(
                rows.iter()
                    .enumerate()
                    .all(|(i, p)| *p > (i % n) as i32 && *p <= n as i32),
                "{name}: pivots {rows:?}"
            );
            let name = format!("cublas{t}getriBatched");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, la.address() => u64, lda => i32, pivots.address() => u64, li.address() => u64, lda => i32, info.address() => u64, 4 => i32),
            )?;
            ensure!(info.read()? == [0; 4], "{name}: info {:?}", info.read()?);
            for (a, (x, y)) in a.iter().zip(inverse.iter().zip(&direct)) {
                for (what, inverse) in [("getri", x.read()?), ("matinv", y.read()?)] {
                    let largest = inverse.iter().map(|v| v.abs()).fold(1.0, f64::max);
                    for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        let mut sum = C64::ZERO;
                        for p in 0..n {
                            sum = sum + a.get(i, p) * inverse[p + j * a.ld];
                        }
                        let want = C64::real(f64::from(u8::from(i == j)));
                        ensure!(
                            sum.near(want, largest * ty.epsilon() * 400.0 * n as f64),
                            "{t}{what} n {n}: ({i}, {j}) of the product is {sum:?}"
                        );
                    }
                }
            }
            for trans in 0..3u32 {
                let b: Vec<Matrix> = (0..4)
                    .map(|_| Matrix::new(ty, n, 3, 2, &mut random))
                    .collect::<Result<_>>()?;
                let lb = list(&b)?;
                let mut status = 5i32;
                let name = format!("cublas{t}getrsBatched");
                ok(
                    &name,
                    call!(blas, &name, blas.handle() => u64, trans => u32, int(n)? => i32, 3 => i32, la.address() => u64, lda => i32, pivots.address() => u64,
                    lb.address() => u64, int(b[0].ld)? => i32, &raw mut status => *mut i32, 4 => i32),
                )?;
                ensure!(status == 0, "{name}: info {status}");
                for (a, b) in a.iter().zip(&b) {
                    let x = b.read()?;
                    let largest = x.iter().map(|v| v.abs()).fold(1.0, f64::max);
                    for (i, j) in (0..n).flat_map(|i| (0..3).map(move |j| (i, j))) {
                        let mut sum = C64::ZERO;
                        for p in 0..n {
                            sum = sum + a.op(trans, i, p) * x[p + j * b.ld];
                        }
                        ensure!(
                            sum.near(b.get(i, j), largest * ty.epsilon() * 400.0 * n as f64),
                            "{name} n {n} trans {trans}: ({i}, {j}) gives {sum:?}, not {:?}",
                            b.get(i, j)
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

fn singular(blas: &Blas) -> Result<()> {
    // The second column is twice the first.
    let values: Vec<C64> = [1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 1.0, 0.0, 1.0]
        .map(C64::real)
        .to_vec();
    let a = Matrix::of(Type::F64, 3, 3, values)?;
    let list = addresses(&[a.at()])?;
    let (pivots, info) = (Buffer::<i32>::zeros(3)?, Buffer::from(&[7i32])?);
    let name = "cublasDgetrfBatched";
    ok(
        name,
        call!(blas, name, blas.handle() => u64, 3 => i32, list.address() => u64, 3 => i32, pivots.address() => u64, info.address() => u64, 1 => i32),
    )?;
    ensure!(info.read()? == [2], "info {:?}, not 2", info.read()?);
    Ok(())
}

fn transfer(blas: &Blas) -> Result<()> {
    let values: Vec<f32> = (0..60).map(|i| i as f32).collect();
    let memory = Buffer::<f32>::zeros(80)?;
    // 4 x 5 out of a matrix with 6 rows, into one with 8.
    ok(
        "cublasSetMatrix",
        call!(blas, "cublasSetMatrix", 4 => i32, 5 => i32, 4 => i32, values.as_ptr() => *const f32, 6 => i32, memory.address() => u64, 8 => i32),
    )?;
    let on_device = memory.read()?;
    ensure!(
        on_device[..4] == values[..4] && on_device[8..12] == values[6..10] && on_device[4] == 0.0,
        "{on_device:?}"
    );
    let mut back = vec![-1f32; 60];
    ok(
        "cublasGetMatrix",
        call!(blas, "cublasGetMatrix", 4 => i32, 5 => i32, 4 => i32, memory.address() => u64, 8 => i32, back.as_mut_ptr() => *mut f32, 6 => i32),
    )?;
    ensure!(back[6..10] == values[6..10] && back[4] == -1.0, "{back:?}");
    ok(
        "cublasSetVector",
        call!(blas, "cublasSetVector", 10 => i32, 4 => i32, values.as_ptr() => *const f32, 2 => i32, memory.address() => u64, 3 => i32),
    )?;
    let on_device = memory.read()?;
    ensure!(
        (0..10).all(|i| on_device[3 * i] == values[2 * i]),
        "{on_device:?}"
    );
    ok(
        "cublasGetVector",
        call!(blas, "cublasGetVector", 10 => i32, 4 => i32, memory.address() => u64, 3 => i32, back.as_mut_ptr() => *mut f32, 1 => i32),
    )?;
    ensure!((0..10).all(|i| back[i] == values[2 * i]), "{back:?}");
    let bad = call!(blas, "cublasSetMatrix", 4 => i32, 5 => i32, 4 => i32, values.as_ptr() => *const f32, 3 => i32, memory.address() => u64, 8 => i32);
    ensure!(bad == super::INVALID_VALUE, "lda < rows: {bad}");
    Ok(())
}
