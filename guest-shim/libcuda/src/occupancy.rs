//! How many blocks of a kernel fit on a multiprocessor, from the attributes of both.
//!
//! Source: CUDA C++ Programming Guide, "Occupancy Calculator" and "Technical Specifications per
//! Compute Capability": registers are given to warps in units of 256, shared memory to blocks in
//! units of 128 bytes plus a reserve.

use cudarc::driver::sys::{
    CUdevice_attribute_enum as Dev, CUfunction, CUfunction_attribute_enum as Func,
};

use crate::abi::{BlockToShared, Done, INVALID, Out, exports, shared_bytes};
use crate::device::Device;
use crate::func::Function;
use crate::init::driver;

const REGISTER_UNIT: u64 = 256;
const SHARED_UNIT: u64 = 128;
/// `CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE`, the one flag.
const DISABLE_CACHING_OVERRIDE: u32 = 1;

fn blocks(device: &Device, function: &Function, threads: i32, dynamic: usize) -> Done<i32> {
    let of = |a: Dev| u64::try_from(device.attribute(a).unwrap_or(0)).unwrap_or(0);
    let threads = u64::try_from(threads)
        .ok()
        .filter(|t| *t > 0)
        .ok_or(INVALID)?;
    let warp = of(Dev::CU_DEVICE_ATTRIBUTE_WARP_SIZE).max(1);
    if threads > u64::from(function.max_threads)
        || dynamic as u64 > u64::from(function.max_dynamic_bytes())
    {
        return Ok(0);
    }
    let warps = threads.div_ceil(warp);
    let own = |a: Func| u64::try_from(function.attribute(a)).unwrap_or(0);
    let mut fit = of(Dev::CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR);
    fit = fit.min(of(Dev::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR) / warp / warps);
    let registers = (own(Func::CU_FUNC_ATTRIBUTE_NUM_REGS) * warp).next_multiple_of(REGISTER_UNIT);
    if let Some(used) = (registers * warps).checked_sub(1).map(|u| u + 1) {
        fit = fit.min(of(Dev::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR) / used);
    }
    let shared = own(Func::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
        + dynamic as u64
        + of(Dev::CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
    if shared > 0 {
        let used = shared.next_multiple_of(SHARED_UNIT);
        fit = fit.min(of(Dev::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) / used);
    }
    Ok(fit as i32)
}

fn active(out: Out<i32>, function: CUfunction, threads: i32, dynamic: usize, flags: u32) -> Done {
    let driver = driver()?;
    out.check()?;
    let function = driver.function(function)?;
    if flags & !DISABLE_CACHING_OVERRIDE != 0 {
        return Err(INVALID);
    }
    out.set(blocks(
        driver.device(function.ctx.device)?,
        &function,
        threads,
        dynamic,
    )?)
}

/// What a search for the best block size is told.
struct Search {
    shared_of: BlockToShared,
    shared: usize,
    limit: i32,
    flags: u32,
}

/// The block size, in whole warps, of which the most threads fit; of several the largest.
fn best(min_grid: Out<i32>, block: Out<i32>, function: CUfunction, search: &Search) -> Done {
    let driver = driver()?;
    min_grid.check()?;
    block.check()?;
    let function = driver.function(function)?;
    if search.flags & !DISABLE_CACHING_OVERRIDE != 0 || search.limit < 0 {
        return Err(INVALID);
    }
    let device = driver.device(function.ctx.device)?;
    let of = |a: Dev| device.attribute(a).unwrap_or(0);
    let mut most = of(Dev::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    most = most.min(i32::try_from(function.max_threads).unwrap_or(i32::MAX));
    if search.limit > 0 {
        most = most.min(search.limit);
    }
    let warp = of(Dev::CU_DEVICE_ATTRIBUTE_WARP_SIZE).max(1);
    // From the largest size down, in whole warps but for the first.
    let sizes = std::iter::once(most).chain((1..=(most - 1).max(0) / warp).rev().map(|w| w * warp));
    let (mut found, mut fits, mut threads) = (0, 0, 0);
    for size in sizes.filter(|s| *s > 0) {
        let shared = shared_bytes(search.shared_of, size, search.shared);
        let now = blocks(device, &function, size, shared)?;
        if now * size > threads {
            (found, fits, threads) = (size, now, now * size);
        }
    }
    block.set(found)?;
    min_grid.set(fits * of(Dev::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT))
}

exports! {
    /// The block size at which the most threads fit, and how many blocks fill the device.
    fn cuOccupancyMaxPotentialBlockSize(
        min_grid: Out<i32>, block: Out<i32>, function: CUfunction, shared_of: BlockToShared,
        shared: usize, limit: i32,
    ) {
        best(min_grid, block, function, &Search { shared_of, shared, limit, flags: 0 })
    }

    /// The block size at which the most threads fit, and how many blocks fill the device.
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        min_grid: Out<i32>, block: Out<i32>, function: CUfunction, shared_of: BlockToShared,
        shared: usize, limit: i32, flags: u32,
    ) {
        best(min_grid, block, function, &Search { shared_of, shared, limit, flags })
    }

    /// Blocks of a kernel that fit on a multiprocessor at once.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        out: Out<i32>, function: CUfunction, threads: i32, dynamic: usize,
    ) {
        active(out, function, threads, dynamic, 0)
    }

    /// Blocks of a kernel that fit on a multiprocessor at once.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        out: Out<i32>, function: CUfunction, threads: i32, dynamic: usize, flags: u32,
    ) {
        active(out, function, threads, dynamic, flags)
    }
}
