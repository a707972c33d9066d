//! Launches, and what they must satisfy.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, FunctionId, StreamId};
use vgpu_soft_gpu::{LaunchConfig, Prepared};

use super::device;
use super::op::{self, Work};
use super::order::Place;
use super::session::{FunctionEntry, SoftSession};

/// Most functions that hold memory for their next launch: with what each may hold it bounds what a session does.
const MAX_HOLDERS: usize = 16;

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
        let entry = self.functions.get_mut(function)?;
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
        if !cooperative && self.recording.is_none() && self.engine.is_idle() {
            let context = self.contexts.get_mut(owner)?;
            let runtime = &context.shared.runtime;
            let fits = |p: &Prepared| p.is_for(&config, runtime);
            if !entry.prepared.as_ref().is_some_and(fits) {
                entry.prepared = Prepared::of_last_launch(&entry.function).filter(fits);
            }
            if let Some(prepared) = entry.prepared.as_mut().filter(|p| p.is_brief()) {
                let launch = op::Launch {
                    ctx: &context.shared,
                    function: &entry.function,
                    count: &entry.count,
                    prepared,
                    kept: &mut self.kept,
                    params,
                };
                let priority = match stream {
                    StreamId(0) => 0,
                    id => self.streams.get(id)?.priority,
                };
                // It has run, or begun, when this returns.
                let (number, left) =
                    self.engine
                        .run_here(&context.shared, priority, |gpu, abort| {
                            op::begin(launch, gpu, abort)
                        });
                let place = Place::Stream(stream);
                let order = &mut context.order;
                if left {
                    // It is in flight, and follows nothing, for nothing else was.
                    order.before(place, &mut self.streams, &self.engine, &mut self.before)?;
                }
                order.added(place, &mut self.streams, number)?;
                self.bound_memory(function);
                return Ok(());
            }
        }
        let work = Work::Launch {
            function: Arc::clone(&entry.function),
            count: Arc::clone(&entry.count),
            config,
            cooperative,
            params: params.to_vec(),
        };
        self.place(owner, Place::Stream(stream), work, false, &[])?;
        Ok(())
    }
}

impl SoftSession {
    /// A function has run in this thread: where too many hold memory, the one lets go of it that has it for longest.
    fn bound_memory(&mut self, function: FunctionId) {
        if self.holders.contains(&function) {
            return;
        }
        self.holders.push_back(function);
        if self.holders.len() > MAX_HOLDERS
            && let Some(first) = self.holders.pop_front()
            && let Ok(entry) = self.functions.get_mut(first)
            && let Some(prepared) = &mut entry.prepared
        {
            prepared.release();
        }
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
    let needed = u64::from(entry.function.param_bytes());
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
