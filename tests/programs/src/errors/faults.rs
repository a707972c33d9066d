//! Kernels that reach where they must not.

use anyhow::{Result, ensure};

use super::fails;
use crate::call;
use crate::cuda::sys::CUresult;
use crate::cuda::sys::CUresult::{CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_MISALIGNED_ADDRESS};
use crate::cuda::{Arguments, Buffer, Module, Shape};

/// Runs `write_at` with this address, and sees that the error comes and stays.
fn fault(ptx: &str, address: impl Fn(u64) -> (u64, i64), expected: CUresult) -> Result<()> {
    let module = Module::load(ptx)?;
    let kernel = module.function("write_at")?;
    let buffer = Buffer::<i32>::zeros(256)?;
    let (base, index) = address(buffer.address());
    kernel.launch(
        Shape::grid(1, 1),
        None,
        &Arguments::new().with(base).with(index).with(1i32),
    )?;
    let mut other = 0;
    // SAFETY: no preconditions; `other` is writable.
    unsafe {
        fails(call!(cuCtxSynchronize()), &[expected])?;
        // The context is lost: every call that uses it says so.
        fails(call!(cuMemAlloc_v2(&mut other, 16)), &[expected])?;
        fails(call!(cuCtxSynchronize()), &[expected])
    }
}

pub fn illegal_address(ptx: &str) -> Result<()> {
    // Far outside of every allocation, and not in the page at 0 alone.
    fault(ptx, |_| (0x10, 1 << 50), CUDA_ERROR_ILLEGAL_ADDRESS)
}

pub fn misaligned_address(ptx: &str) -> Result<()> {
    fault(
        ptx,
        |address| (address + 2, 0),
        CUDA_ERROR_MISALIGNED_ADDRESS,
    )
}

/// Comes after the two above, which ran in processes of their own.
pub fn still_works(ptx: &str) -> Result<()> {
    let module = Module::load(ptx)?;
    let buffer = Buffer::<i32>::zeros(4)?;
    let arguments = Arguments::new()
        .with(buffer.address())
        .with(2i64)
        .with(5i32);
    module
        .function("write_at")?
        .launch(Shape::grid(1, 1), None, &arguments)?;
    ensure!(buffer.read()? == [0, 0, 5, 0], "the kernel did not run");
    Ok(())
}
