//! Memory of the host that program and GPU both reach.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, HostMemoryCalls};

use super::super::mapped::status_of;
use super::super::session::{PinnedEntry, SoftSession};

impl HostMemoryCalls for SoftSession {
    fn host_alloc(&mut self, ctx: CtxId, bytes: u64) -> Result<(u64, DevPtr), Status> {
        self.current(ctx)?;
        if bytes == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let block = self.context.heap.take(bytes);
        let block = block.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let (at, address) = (block.offset_in_bar1(), block.address());
        let shown = self.mapped.unified.show(block.window());
        shown.map_err(|e| status_of(&e))?;
        self.pinned.insert(address, PinnedEntry { ctx, block });
        Ok((at, DevPtr(address)))
    }

    fn managed_alloc(&mut self, ctx: CtxId, bytes: u64) -> Result<(u64, DevPtr), Status> {
        self.host_alloc(ctx, bytes)
    }

    fn host_free(&mut self, _ctx: CtxId, ptr: DevPtr) -> Result<(), Status> {
        self.start.require_init()?;
        if !self.pinned.contains_key(&ptr.0) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        self.settle_all()?;
        self.mapped.unified.close_window(ptr.0);
        self.pinned.remove(&ptr.0);
        Ok(())
    }
}
