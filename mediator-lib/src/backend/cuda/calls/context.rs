//! Contexts.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{ContextCalls, CtxId};

use super::super::ctx;
use super::super::session::CudaSession;
use crate::backend::check;

impl ContextCalls for CudaSession {
    fn primary_ctx_retain(&mut self, _: CtxId, device: u32) -> Result<CtxId, Status> {
        if let Some(ctx) = self.start.retain(device)? {
            return Ok(ctx);
        }
        let ctx = self.new_context(0)?;
        Ok(self.start.set_primary(ctx))
    }

    fn primary_ctx_release(&mut self, _: CtxId, device: u32) -> Result<(), Status> {
        if let Some(ctx) = self.start.last_user(device)? {
            self.settle(ctx)?;
        }
        let unused = self.start.release(device)?;
        unused.map_or(Ok(()), |ctx| self.destroy_context(ctx))
    }

    fn primary_ctx_reset(&mut self, _: CtxId, device: u32) -> Result<(), Status> {
        if let Some(ctx) = self.start.primary() {
            self.settle(ctx)?;
        }
        let unused = self.start.reset(device)?;
        unused.map_or(Ok(()), |ctx| self.destroy_context(ctx))
    }

    fn ctx_create(&mut self, _: CtxId, flags: u32, device: u32) -> Result<CtxId, Status> {
        self.start.require_device(device)?;
        self.new_context(check::ctx_flags(flags)?)
    }

    fn ctx_destroy(&mut self, _: CtxId, which: CtxId) -> Result<(), Status> {
        self.start.require_not_primary(which)?;
        self.settle(which)?;
        self.destroy_context(which)
    }

    fn ctx_synchronize(&mut self, ctx: CtxId) -> Result<(), Status> {
        self.current(ctx)?;
        self.wait_idle(ctx)?;
        let synchronized = self.current(ctx)?.ctx.synchronize();
        self.note(ctx, synchronized)
    }

    fn ctx_get_limit(&mut self, ctx: CtxId, limit: u32) -> Result<u64, Status> {
        let value = self.current(ctx)?.ctx.limit(limit);
        self.note(ctx, value)
    }

    fn ctx_set_limit(&mut self, ctx: CtxId, limit: u32, value: u64) -> Result<(), Status> {
        let entry = self.current(ctx)?;
        let before = entry.ctx.limit(limit);
        let before = self.note(ctx, before)?;
        let bytes = ctx::limit_bytes(limit, value, self.resident_threads());
        let counted = self.current(ctx)?.limits.contains_key(&limit);
        let share = if bytes > 0 && (counted || value > before) {
            Some(
                self.context
                    .budget
                    .take(bytes)
                    .ok_or(Status::ERROR_OUT_OF_MEMORY)?,
            )
        } else {
            None
        };
        // The driver may wait for the context's work, in a way that cannot be ended.
        self.wait_idle(ctx)?;
        let set = self.current(ctx)?.ctx.set_limit(limit, value);
        self.note(ctx, set)?;
        let limits = &mut self.current_mut(ctx)?.limits;
        match share {
            Some(share) => limits.insert(limit, share),
            None => limits.remove(&limit),
        };
        Ok(())
    }
}
