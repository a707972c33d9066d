//! What a launch must satisfy.

use vgpu_protocol::Status;

use super::device;
use super::session::FunctionEntry;

/// What `cuLaunchKernel` documents as `ERROR_INVALID_VALUE`.
pub(super) fn check(
    entry: &FunctionEntry,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    params: &[u8],
) -> Result<(), Status> {
    let inside =
        |size: [u32; 3], max: [u32; 3]| size.iter().zip(max).all(|(s, m)| (1..=m).contains(s));
    // Not a plain product: three times 2³² − 1 is more than 64 bits hold.
    let threads = block
        .iter()
        .fold(1u64, |threads, b| threads.saturating_mul(u64::from(*b)));
    let needed = entry
        .function
        .params()
        .iter()
        .map(|p| u64::from(p.offset) + u64::from(p.size))
        .max()
        .unwrap_or(0);
    let ok = inside(grid, device::MAX_GRID)
        && inside(block, device::MAX_BLOCK)
        && threads <= u64::from(entry.function.max_threads_per_block())
        && shared_bytes <= entry.max_dynamic_shared
        && params.len() as u64 == needed;
    if ok {
        Ok(())
    } else {
        Err(Status::ERROR_INVALID_VALUE)
    }
}
