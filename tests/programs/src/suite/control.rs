//! Branches, loops, arrays of a thread and calls.

use anyhow::Result;

use super::{Numbers, int, same};
use crate::cuda::{Arguments, Buffer, Module, Plain, Shape};

/// Launches `kernel(in, out, n)` and reads the results.
fn map<T: Plain, U: Plain>(
    module: &Module,
    kernel: &str,
    data: &[T],
    n: usize,
    results: usize,
) -> Result<Vec<U>> {
    let (input, output) = (Buffer::from(data)?, Buffer::<U>::zeros(results)?);
    let arguments = Arguments::new()
        .with(input.address())
        .with(output.address())
        .with(int(n));
    module
        .function(kernel)?
        .launch(Shape::cover(n, 128), None, &arguments)?;
    output.read()
}

/// Threads of a warp leave a loop at different times.
pub fn collatz(module: &Module) -> Result<String> {
    let n = 20_000;
    let data: Vec<u32> = (1..=n as u32).collect();
    let steps = |start: &u32| {
        let (mut value, mut steps) = (u64::from(*start), 0u32);
        while value != 1 && steps < 1000 {
            value = if value.is_multiple_of(2) {
                value / 2
            } else {
                3 * value + 1
            };
            steps += 1;
        }
        steps
    };
    same(
        "collatz",
        &map(module, "collatz", &data, n, n)?,
        &data.iter().map(steps).collect::<Vec<_>>(),
    )?;
    Ok(format!("n={n}"))
}

/// Nested branches, a switch with a fall-through, continue, break and return.
pub fn branches(module: &Module) -> Result<String> {
    let n = 10_000;
    let data = Numbers::new(13).many(n, |numbers| numbers.below(200) as i32 - 50);
    let cpu: Vec<i32> = data.iter().map(|value| branch(*value)).collect();
    same("branches", &map(module, "branches", &data, n, n)?, &cpu)?;
    Ok(format!("n={n}"))
}

fn branch(value: i32) -> i32 {
    let mut sum: i32 = 0;
    for j in 0..20 {
        if (value + j) % 3 == 0 {
            continue;
        }
        match (value + j) & 7 {
            0 => sum = sum.wrapping_add(1),
            1 => sum = sum.wrapping_add(value),
            2 => sum = sum.wrapping_sub(j) ^ 0x55,
            3 => sum ^= 0x55,
            4 if value < 0 => sum = sum.wrapping_add(1000),
            4 if j > 10 => sum = sum.wrapping_sub(7),
            4 => {}
            5 if value == 12 => return sum,
            5 => {}
            _ => sum = sum.wrapping_mul(3),
        }
        if !(-100_000..=100_000).contains(&sum) {
            break;
        }
    }
    sum
}

/// An array per thread that is indexed with values of the run.
pub fn local_sort(module: &Module) -> Result<String> {
    let n = 3000;
    let data = Numbers::new(17).many(n * 16, |numbers| numbers.bits() as i32 >> 8);
    let mut cpu = data.clone();
    cpu.chunks_mut(16).for_each(<[i32]>::sort_unstable);
    same(
        "local_sort",
        &map(module, "local_sort", &data, n, n * 16)?,
        &cpu,
    )?;
    Ok(format!("n={n} x 16"))
}

/// Calls with results through pointers, and recursion.
pub fn device_functions(module: &Module) -> Result<String> {
    let n = 5000;
    let data = Numbers::new(19).many(n, |numbers| numbers.below(100_000) as i32);
    let mut cpu = Vec::new();
    for (i, value) in data.iter().copied().enumerate() {
        let divisor = 7 + (i % 5) as i32;
        cpu.extend([
            gcd(value, 360),
            fibonacci(value % 12),
            value / divisor,
            value % divisor,
        ]);
    }
    same(
        "device_functions",
        &map(module, "device_functions", &data, n, n * 4)?,
        &cpu,
    )?;
    Ok(format!("n={n}, 4 results each"))
}

fn gcd(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn fibonacci(n: i32) -> i32 {
    if n < 2 {
        n
    } else {
        fibonacci(n - 1) + fibonacci(n - 2)
    }
}
