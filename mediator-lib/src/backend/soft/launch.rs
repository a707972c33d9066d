//! Launches, and what they must satisfy.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, FunctionId, StreamId};
use vgpu_soft_gpu::LaunchConfig;

use super::device;
use super::op::Work;
use super::session::{FunctionEntry, SoftSession};

impl SoftSession {
    /// `cuLaunchKernel`, and `cuLaunchCooperativeKernel`: of that, no more blocks than are in progress at once.
    pub(super) fn launch(
        &mut self,
        ctx: CtxId,
        function: FunctionId,
        config: LaunchConfig,
        stream: StreamId,
        cooperative: bool,
        params: &[u8],
    ) -> Result<(), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        let entry = self.functions.get(function)?;
        if entry.ctx != owner {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let (grid, block, shared) = (config.grid, config.block, config.dynamic_shared_bytes);
        check(entry, grid, block, shared, params)?;
        if cooperative {
            let most = self
                .backend
                .gpu
                .resident_blocks(&entry.function, block, shared);
            let blocks = grid
                .iter()
                .fold(1u64, |n, g| n.saturating_mul(u64::from(*g)));
            if blocks > most {
                return Err(Status::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
            }
        }
        let work = Work::Launch {
            function: Arc::clone(&entry.function),
            count: Arc::clone(&entry.count),
            config,
            cooperative,
            params: params.to_vec(),
        };
        self.submit(ctx, stream, work, false)?;
        Ok(())
    }
}

/// What `cuLaunchKernel` documents as `ERROR_INVALID_VALUE`.
fn check(
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
