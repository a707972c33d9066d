//! Sums of many elements, and what a warp does together.

use anyhow::Result;

use super::{Numbers, int, same};
use crate::cuda::{Arguments, Buffer, Module, Shape};

/// Sums per block, in shared memory.
pub fn block(module: &Module) -> Result<String> {
    let kernel = module.function("reduce_block")?;
    let sizes = [1, 511, 512, 100_001];
    for n in sizes {
        for threads in [32usize, 256] {
            let data = Numbers::new(n as u64).many(n, |numbers| numbers.bits() as i32);
            let blocks = n.div_ceil(2 * threads);
            let (input, output) = (Buffer::from(&data)?, Buffer::<i64>::zeros(blocks)?);
            let arguments = Arguments::new()
                .with(input.address())
                .with(output.address())
                .with(int(n));
            let shape = Shape::cover(n, 2 * threads as u32);
            kernel.launch(
                Shape {
                    block: [threads as u32, 1, 1],
                    ..shape
                },
                None,
                &arguments,
            )?;
            let cpu: Vec<i64> = data
                .chunks(2 * threads)
                .map(|part| part.iter().copied().map(i64::from).sum())
                .collect();
            same("reduce_block", &output.read()?, &cpu)?;
        }
    }
    Ok(format!("n={sizes:?}"))
}

/// One sum with shuffles inside the warps.
pub fn shuffle(module: &Module) -> Result<String> {
    let kernel = module.function("reduce_shuffle")?;
    let sizes = [1, 1000, 65_536, 200_003];
    for n in sizes {
        let data = Numbers::new(n as u64).many(n, Numbers::bits);
        let (input, output) = (Buffer::from(&data)?, Buffer::<u32>::zeros(1)?);
        let arguments = Arguments::new()
            .with(input.address())
            .with(output.address())
            .with(int(n));
        kernel.launch(Shape::grid(9, 256), None, &arguments)?;
        let cpu = data
            .iter()
            .fold(0u32, |sum, value| sum.wrapping_add(*value));
        same("reduce_shuffle", &output.read()?, &[cpu])?;
    }
    Ok(format!("n={sizes:?}"))
}

/// Every kind of shuffle and of vote.
pub fn primitives(module: &Module) -> Result<String> {
    let n = 128;
    let mut data = Numbers::new(5).many(n, |numbers| numbers.below(1000));
    data[40] = 77;
    data[100] = 5000;
    let (input, output) = (Buffer::from(&data)?, Buffer::<u32>::zeros(n * 8)?);
    let arguments = Arguments::new()
        .with(input.address())
        .with(output.address());
    module
        .function("warp_primitives")?
        .launch(Shape::grid(1, n as u32), None, &arguments)?;
    let mut cpu = Vec::new();
    for (warp_index, warp) in data.chunks(32).enumerate() {
        let ballot = |test: &dyn Fn(u32) -> bool| {
            warp.iter().enumerate().fold(0u32, |bits, (lane, value)| {
                bits | (u32::from(test(*value)) << lane)
            })
        };
        for lane in 0..32 {
            let own = data[warp_index * 32 + lane];
            cpu.extend([
                warp[(lane * 7 + 3) % 32],
                if lane >= 3 { warp[lane - 3] } else { own },
                warp[lane ^ 5],
                if lane % 8 < 7 { warp[lane + 1] } else { own },
                ballot(&|value| value & 1 == 1),
                u32::from(warp.contains(&77)),
                u32::from(warp.iter().all(|value| *value < 1000)),
                (ballot(&|value| value.is_multiple_of(3)) & ((1u32 << lane) - 1)).count_ones(),
            ]);
        }
    }
    same("warp_primitives", &output.read()?, &cpu)?;
    Ok(format!("n={n}, 8 results each"))
}
