//! One element per thread.

use anyhow::Result;

use super::{Numbers, int, same};
use crate::cuda::{Arguments, Buffer, Module, Shape};

/// Around the sizes of a warp and of a block, and more than one block per multiprocessor.
const SIZES: [usize; 5] = [1, 33, 256, 1000, 300_000];

/// `c = a + b`, one thread per element.
pub fn add(module: &Module) -> Result<String> {
    for n in SIZES {
        check_add(module, "vector_add", n, Shape::cover(n, 256))?;
    }
    Ok(format!("n={SIZES:?}"))
}

/// `c = a + b` over a grid that is smaller than the vectors.
pub fn add_stride(module: &Module) -> Result<String> {
    for (n, blocks, threads) in [(1000, 1, 32), (100_000, 7, 96), (250_000, 40, 1024)] {
        check_add(module, "vector_add_stride", n, Shape::grid(blocks, threads))?;
    }
    Ok("n=1000, 100000, 250000".to_owned())
}

fn check_add(module: &Module, kernel: &str, n: usize, shape: Shape) -> Result<()> {
    let mut numbers = Numbers::new(n as u64);
    let (a, b) = (
        numbers.many(n, Numbers::real),
        numbers.many(n, Numbers::real),
    );
    let (da, db, dc) = (
        Buffer::from(&a)?,
        Buffer::from(&b)?,
        Buffer::<f32>::zeros(n)?,
    );
    let arguments = Arguments::new()
        .with(da.address())
        .with(db.address())
        .with(dc.address())
        .with(int(n));
    module.function(kernel)?.launch(shape, None, &arguments)?;
    let sums: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    same(kernel, &dc.read()?, &sums)
}

/// `y = a x + y` with one rounding.
pub fn saxpy(module: &Module) -> Result<String> {
    let kernel = module.function("saxpy")?;
    for n in SIZES {
        let mut numbers = Numbers::new(n as u64);
        let (a, x, y) = (
            numbers.real(),
            numbers.many(n, Numbers::real),
            numbers.many(n, Numbers::real),
        );
        let (dx, dy) = (Buffer::from(&x)?, Buffer::from(&y)?);
        let arguments = Arguments::new()
            .with(a)
            .with(dx.address())
            .with(dy.address())
            .with(int(n));
        kernel.launch(Shape::cover(n, 128), None, &arguments)?;
        let cpu: Vec<f32> = x.iter().zip(&y).map(|(x, y)| a.mul_add(*x, *y)).collect();
        same("saxpy", &dy.read()?, &cpu)?;
    }
    Ok(format!("n={SIZES:?}"))
}

/// The same in double precision.
pub fn daxpy(module: &Module) -> Result<String> {
    let n = 50_000;
    let mut numbers = Numbers::new(7);
    let real = |numbers: &mut Numbers| f64::from(numbers.real()) / 3.0;
    let (a, x, y) = (
        real(&mut numbers),
        numbers.many(n, real),
        numbers.many(n, real),
    );
    let (dx, dy) = (Buffer::from(&x)?, Buffer::from(&y)?);
    let arguments = Arguments::new()
        .with(a)
        .with(dx.address())
        .with(dy.address())
        .with(int(n));
    module
        .function("daxpy")?
        .launch(Shape::cover(n, 192), None, &arguments)?;
    let cpu: Vec<f64> = x.iter().zip(&y).map(|(x, y)| a.mul_add(*x, *y)).collect();
    same("daxpy", &dy.read()?, &cpu)?;
    Ok(format!("n={n}"))
}
