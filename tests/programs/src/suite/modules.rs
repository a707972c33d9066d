//! What a module has besides code, and what a launch hands over.

use anyhow::{Result, ensure};

use super::{Numbers, int, same};
use crate::cuda::sys::CUresult;
use crate::cuda::{Arguments, Buffer, Failed, Module, Shape};

/// Constant and global variables, set and read from the host.
pub fn globals(module: &Module) -> Result<String> {
    const TABLE: [i32; 16] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3];
    let n = 3000;
    let data = Numbers::new(23).many(n, |numbers| numbers.below(1000) as i32);
    let factor = 0.25f32;
    module.write_global("scale", &[factor])?;
    let (input, output) = (Buffer::from(&data)?, Buffer::<f32>::zeros(n)?);
    let arguments = Arguments::new()
        .with(input.address())
        .with(output.address())
        .with(int(n));
    module
        .function("globals")?
        .launch(Shape::cover(n, 64), None, &arguments)?;

    let values: Vec<i32> = data
        .iter()
        .enumerate()
        .map(|(i, value)| value + TABLE[i % 16])
        .collect();
    let scaled: Vec<f32> = values.iter().map(|value| *value as f32 * factor).collect();
    same("globals", &output.read()?, &scaled)?;
    let cpu = 1000 + values.iter().map(|value| *value as u64).sum::<u64>();
    same("total", &module.read_global::<u64>("total", 1)?, &[cpu])?;
    same(
        "scratch",
        &module.read_global::<i32>("scratch", 1024)?,
        &values[..1024],
    )?;
    Ok(format!("n={n}"))
}

/// Shared memory of a size that the launch gives.
pub fn dynamic_shared(module: &Module) -> Result<String> {
    let n = 10_000;
    let kernel = module.function("reverse_block")?;
    let data = Numbers::new(29).many(n, |numbers| f64::from(numbers.real()));
    let input = Buffer::from(&data)?;
    for threads in [1u32, 96, 1024] {
        let output = Buffer::<f64>::zeros(n)?;
        let arguments = Arguments::new()
            .with(input.address())
            .with(output.address())
            .with(int(n));
        let shape = Shape {
            shared: threads * 8,
            ..Shape::cover(n, threads)
        };
        kernel.launch(shape, None, &arguments)?;
        let cpu: Vec<f64> = data
            .chunks(threads as usize)
            .flat_map(|part| part.iter().rev().copied())
            .collect();
        same("dynamic_shared", &output.read()?, &cpu)?;
    }
    Ok(format!("n={n}, 8 to 8192 bytes"))
}

/// As in the kernel's source.
#[derive(Clone, Copy)]
#[repr(C)]
struct Mixed {
    a: i8,
    b: i16,
    c: i32,
    d: i64,
    e: [f32; 3],
    f: f64,
}

/// Parameters of every size and alignment.
pub fn parameters(module: &Module) -> Result<String> {
    let mixed = Mixed {
        a: -3,
        b: -3000,
        c: 7_000_000,
        d: -(1 << 40),
        e: [1.5, 2.5, -4.0],
        f: 6.25,
    };
    let (pointer, output) = (Buffer::from(&[4711])?, Buffer::<i64>::zeros(11)?);
    let arguments = Arguments::new()
        .with(-9i8)
        .with(mixed)
        .with(-12_345i16)
        .with(2.125f64);
    let arguments = arguments
        .with(pointer.address())
        .with(250u8)
        .with(output.address());
    module
        .function("parameters")?
        .launch(Shape::grid(1, 1), None, &arguments)?;
    // 1.5 * 2 + 2.5 * 3 - 4 * 5 is -9.5, and the conversion cuts towards 0.
    let cpu = [
        -9,
        -3,
        -3000,
        7_000_000,
        -(1 << 40),
        -9,
        25,
        -12_345,
        17,
        4711,
        250,
    ];
    same("parameters", &output.read()?, &cpu)?;
    Ok("7 parameters, 11 values".to_owned())
}

/// Every width of memset, a copy inside the device, and the count of free bytes.
pub fn memset_copy(_: &Module) -> Result<String> {
    let n = 100_003;
    let bytes = Buffer::<u8>::zeros(4 * n)?;
    bytes.set(0, 4, 0xdead_beef, n)?;
    bytes.set(2002, 2, 0x1234, 5)?;
    bytes.set(77, 1, 0xab, 3)?;
    bytes.set_rows(4096, 64, 0x11, 10, 4)?;
    let mut cpu: Vec<u8> = std::iter::repeat_n(0xdead_beef_u32.to_le_bytes(), n)
        .flatten()
        .collect();
    for i in 0..5 {
        cpu[2002 + 2 * i..2004 + 2 * i].copy_from_slice(&[0x34, 0x12]);
    }
    cpu[77..80].fill(0xab);
    for row in 0..4 {
        cpu[4096 + 64 * row..4106 + 64 * row].fill(0x11);
    }
    let copy = Buffer::<u8>::zeros(4 * n)?;
    copy.copy_from(&bytes)?;
    same("memset", &bytes.read()?, &cpu)?;
    same("copy", &copy.read()?, &cpu)?;
    let (before, total) = crate::cuda::memory()?;
    let more = Buffer::<u8>::new(8 << 20)?;
    let (after, _) = crate::cuda::memory()?;
    // Other processes allocate too, but a driver that reports nothing is found out.
    ensure!(
        before <= total && after <= total && total > 0,
        "{before} and {after} free of {total}"
    );
    drop(more);
    let refused = Buffer::<u8>::new(total + (1 << 30))
        .err()
        .and_then(|error| error.downcast::<Failed>().ok());
    ensure!(
        refused.is_some_and(|failed| failed.result == CUresult::CUDA_ERROR_OUT_OF_MEMORY),
        "more memory than there is: {refused:?}"
    );
    Ok(format!("{} bytes", 4 * n))
}
