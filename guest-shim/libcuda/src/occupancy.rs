//! How many blocks of a kernel fit on a multiprocessor, from the attributes of both.
//!
//! Source: CUDA C++ Programming Guide, "Occupancy Calculator" and "Technical Specifications per
//! Compute Capability": registers are given to warps in units of 256, shared memory to blocks in
//! units of 128 bytes plus a reserve.

use cudarc::driver::sys::{
    CUdevice_attribute_enum as Dev, CUfunction, CUfunction_attribute_enum as Func,
    CUlaunchAttributeID_enum as LaunchAttr, CUlaunchConfig,
};
use vgpu_protocol::Status;

use crate::abi::{BlockToShared, Done, Host, INVALID, In, Out, exports, shared_bytes};
use crate::device::Device;
use crate::func::Function;
use crate::init::driver;
use crate::launch::attributes;

const REGISTER_UNIT: u64 = 256;
const SHARED_UNIT: u64 = 128;
/// `CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE`, the one flag.
const DISABLE_CACHING_OVERRIDE: u32 = 1;

/// Blocks of a launch that the whole device holds at once.
pub fn on_device(device: &Device, function: &Function, threads: u64, dynamic: u32) -> Done<u64> {
    let threads = i32::try_from(threads).map_err(|_| INVALID)?;
    let fit = blocks(device, function, threads, dynamic as usize)?;
    let processors = device.attribute(Dev::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    let of = |n: i32| u64::try_from(n).unwrap_or(0);
    Ok(of(fit) * of(processors.unwrap_or(0)))
}

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

/// An equal part of the multiprocessor's shared memory for each block, less what each has already.
fn available(device: &Device, function: &Function, count: i32, threads: i32) -> Done<usize> {
    let count = u64::try_from(count)
        .ok()
        .filter(|c| *c > 0)
        .ok_or(INVALID)?;
    // So many blocks must fit without any.
    let most = blocks(device, function, threads, 0)?;
    if u64::try_from(most).unwrap_or(0) < count {
        return Err(INVALID);
    }
    let of = |a: Dev| u64::try_from(device.attribute(a).unwrap_or(0)).unwrap_or(0);
    let own = u64::try_from(function.attribute(Func::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES));
    let part =
        of(Dev::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) / count / SHARED_UNIT
            * SHARED_UNIT;
    let taken = own.unwrap_or(0) + of(Dev::CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
    let most = of(Dev::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    Ok(part
        .saturating_sub(taken)
        .min(most.saturating_sub(own.unwrap_or(0))) as usize)
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

/// Clusters of a launch that the whole device holds at once, and whether the launch says how large they are.
///
/// On a device without clusters every block is one of its own, and larger ones are not supported. What fits on a device with clusters depends on how its
/// multiprocessors are grouped, which only the host's driver knows.
fn clusters(function: CUfunction, config: In<CUlaunchConfig>) -> Done<(u64, bool)> {
    let driver = driver()?;
    let function = driver.function(function)?;
    let config = config.get()?;
    let attributes = attributes(Host(config.attrs.cast()), config.numAttrs as usize)?;
    let device = driver.device(function.ctx.device)?;
    if device
        .attribute(Dev::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)
        .unwrap_or(0)
        > 0
    {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    let sizes = [config.blockDimX, config.blockDimY, config.blockDimZ];
    let threads = sizes
        .iter()
        .try_fold(1u64, |all, size| all.checked_mul(u64::from(*size)));
    let threads = threads.filter(|t| *t > 0).ok_or(INVALID)?;
    let fit = on_device(device, &function, threads, config.sharedMemBytes)?;
    let asked = LaunchAttr::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION as u32;
    Ok((fit, attributes.contains_key(&asked)))
}

exports! {
    /// The largest cluster in which a kernel can be launched, in blocks; 0 if not even one of them fits.
    fn cuOccupancyMaxPotentialClusterSize(size: Out<i32>, function: CUfunction, config: In<CUlaunchConfig>) {
        size.check()?;
        size.set((clusters(function, config)?.0 > 0).into())
    }

    /// Clusters of a launch that the device holds at once. "The cluster size must be specified in config."
    fn cuOccupancyMaxActiveClusters(count: Out<i32>, function: CUfunction, config: In<CUlaunchConfig>) {
        count.check()?;
        let (fit, said) = clusters(function, config)?;
        if !said {
            return Err(INVALID);
        }
        count.set(i32::try_from(fit).unwrap_or(i32::MAX))
    }

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

    /// Dynamic shared memory that each of so many blocks on a multiprocessor can have, in bytes.
    fn cuOccupancyAvailableDynamicSMemPerBlock(
        bytes: Out<usize>, function: CUfunction, blocks: i32, threads: i32,
    ) {
        let driver = driver()?;
        bytes.check()?;
        let function = driver.function(function)?;
        bytes.set(available(driver.device(function.ctx.device)?, &function, blocks, threads)?)
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
