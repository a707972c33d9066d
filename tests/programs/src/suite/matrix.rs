//! Matrix products. Both sides add with one rounding per step and in the same order: exact.

use anyhow::Result;

use super::{Numbers, int, same};
use crate::cuda::{Arguments, Buffer, Module, Shape};

/// Rows, columns, inner length: smaller than a tile, not a multiple of one, and several tiles.
const SIZES: [(usize, usize, usize); 4] = [(1, 1, 1), (16, 16, 16), (37, 53, 29), (96, 80, 112)];

/// One thread per element, all from global memory.
pub fn naive(module: &Module) -> Result<String> {
    for size in SIZES {
        check(module, "sgemm_naive", size, [32, 8])?;
    }
    Ok(format!("m,n,k={SIZES:?}"))
}

/// Tiles in shared memory with barriers.
pub fn tiled(module: &Module) -> Result<String> {
    for size in SIZES {
        check(module, "sgemm_tiled", size, [16, 16])?;
    }
    // Small whole numbers: exact in any order, so that a large product needs no fused reference.
    let n = 256;
    let mut numbers = Numbers::new(3);
    let small = |numbers: &mut Numbers| numbers.below(16) as f32 - 8.0;
    let (a, b) = (numbers.many(n * n, small), numbers.many(n * n, small));
    let mut cpu = vec![0.0f32; n * n];
    for row in 0..n {
        for i in 0..n {
            let factor = a[row * n + i];
            for column in 0..n {
                cpu[row * n + column] += factor * b[i * n + column];
            }
        }
    }
    same(
        "sgemm_tiled",
        &launch(module, "sgemm_tiled", (n, n, n), [16, 16], &a, &b)?,
        &cpu,
    )?;
    Ok(format!("m,n,k={SIZES:?}, 256³"))
}

fn check(
    module: &Module,
    kernel: &str,
    size: (usize, usize, usize),
    block: [u32; 2],
) -> Result<()> {
    let (m, n, k) = size;
    let mut numbers = Numbers::new((m * n * k) as u64);
    let (a, b) = (
        numbers.many(m * k, Numbers::real),
        numbers.many(k * n, Numbers::real),
    );
    let mut cpu = vec![0.0f32; m * n];
    for row in 0..m {
        for column in 0..n {
            cpu[row * n + column] = (0..k).fold(0.0f32, |sum, i| {
                a[row * k + i].mul_add(b[i * n + column], sum)
            });
        }
    }
    same(kernel, &launch(module, kernel, size, block, &a, &b)?, &cpu)
}

fn launch(
    module: &Module,
    kernel: &str,
    (m, n, k): (usize, usize, usize),
    [x, y]: [u32; 2],
    a: &[f32],
    b: &[f32],
) -> Result<Vec<f32>> {
    let (da, db, dc) = (
        Buffer::from(a)?,
        Buffer::from(b)?,
        Buffer::<f32>::zeros(m * n)?,
    );
    let blocks =
        |length: usize, block: u32| u32::try_from(length).unwrap_or(u32::MAX).div_ceil(block);
    let shape = Shape {
        grid: [blocks(n, x), blocks(m, y), 1],
        block: [x, y, 1],
        shared: 0,
    };
    let addresses = Arguments::new()
        .with(da.address())
        .with(db.address())
        .with(dc.address());
    module.function(kernel)?.launch(
        shape,
        None,
        &addresses.with(int(m)).with(int(n)).with(int(k)),
    )?;
    dc.read()
}
