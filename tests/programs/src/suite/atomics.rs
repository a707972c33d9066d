//! Atomic operations: whole numbers, so that the order does not matter.

use anyhow::{Result, ensure};

use super::{Numbers, int, same};
use crate::cuda::{Arguments, Buffer, Module, Shape};

/// Counts in global memory.
pub fn histogram_global(module: &Module) -> Result<String> {
    histogram(module, "histogram_global")
}

/// Counts in shared memory first.
pub fn histogram_shared(module: &Module) -> Result<String> {
    histogram(module, "histogram_shared")
}

fn histogram(module: &Module, kernel: &str) -> Result<String> {
    let sizes = [1, 1000, 300_000];
    for n in sizes {
        // Skewed, so that many threads meet at the same counter.
        let data = Numbers::new(n as u64)
            .many(n, |numbers| (numbers.below(256) & numbers.below(256)) as u8);
        let (input, bins) = (Buffer::from(&data)?, Buffer::<u32>::zeros(256)?);
        let arguments = Arguments::new()
            .with(input.address())
            .with(bins.address())
            .with(int(n));
        module
            .function(kernel)?
            .launch(Shape::grid(12, 160), None, &arguments)?;
        let mut cpu = vec![0u32; 256];
        data.iter().for_each(|value| cpu[usize::from(*value)] += 1);
        same(kernel, &bins.read()?, &cpu)?;
    }
    Ok(format!("n={sizes:?}"))
}

/// Maximum, minimum, and, or, xor, exchange and compare-and-swap.
pub fn all(module: &Module) -> Result<String> {
    let n = 20_000;
    let data = Numbers::new(11).many(n, |numbers| numbers.bits() as i32);
    let (input, output) = (
        Buffer::from(&data)?,
        Buffer::from(&[0, 0, -1, 0, 0, 0, 0, 0])?,
    );
    let arguments = Arguments::new()
        .with(input.address())
        .with(output.address())
        .with(int(n));
    module
        .function("atomics")?
        .launch(Shape::cover(n, 224), None, &arguments)?;
    let fold = |start: i32, step: fn(i32, i32) -> i32| data.iter().copied().fold(start, step);
    let cpu = [
        fold(0, i32::max),
        fold(0, i32::min),
        fold(-1, |a, b| a & (b | 0x0f)),
        fold(0, |a, b| a | (b & 0xff00)),
        fold(0, |a, b| a ^ b),
        1,
        1,
        3 * int(n),
    ];
    ensure!(cpu[0] > 0 && cpu[1] < 0, "the data has both signs");
    same("atomics", &output.read()?, &cpu)?;
    Ok(format!("n={n}, 8 kinds"))
}
