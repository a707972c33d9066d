//! Memory of the host that program and GPU both reach.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, HostMemoryCalls};

use super::super::mem::PinnedEntry;
use super::super::session::CudaSession;
use super::super::sys::memory::HostPin;

impl HostMemoryCalls for CudaSession {
    fn host_alloc(&mut self, ctx: CtxId, bytes: u64) -> Result<(u64, DevPtr), Status> {
        let entry = self.current(ctx)?;
        if bytes == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let block = self.context.heap.take(bytes);
        let block = block.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let (at, address) = (block.offset_in_bar1(), block.address());
        let pin = HostPin::register_mapped(&entry.ctx, &block.window());
        let pin = self.note(ctx, pin)?;
        let entry = PinnedEntry {
            ctx,
            _pin: pin,
            block,
        };
        self.objects.pinned.insert(address, entry);
        Ok((at, DevPtr(address)))
    }

    fn managed_alloc(&mut self, ctx: CtxId, bytes: u64) -> Result<(u64, DevPtr), Status> {
        self.host_alloc(ctx, bytes)
    }

    fn host_free(&mut self, _ctx: CtxId, ptr: DevPtr) -> Result<(), Status> {
        self.start.require_init()?;
        if !self.objects.pinned.contains_key(&ptr.0) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        // The driver would wait for work in flight, in a way that cannot be ended.
        self.wait_all_idle()?;
        self.objects.pinned.remove(&ptr.0);
        Ok(())
    }
}
