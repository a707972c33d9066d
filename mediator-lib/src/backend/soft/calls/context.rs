//! Contexts.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{ContextCalls, CtxId};

use super::super::ctx;
use super::super::session::SoftSession;
use crate::backend::check;

impl ContextCalls for SoftSession {
    fn primary_ctx_retain(&mut self, _: CtxId, device: u32) -> Result<CtxId, Status> {
        if let Some(ctx) = self.start.retain(device)? {
            return Ok(ctx);
        }
        let ctx = self.new_context()?;
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
        // How the guest waits and what host memory it maps is the guest's affair.
        check::ctx_flags(flags)?;
        self.new_context()
    }

    fn ctx_destroy(&mut self, _: CtxId, which: CtxId) -> Result<(), Status> {
        self.start.require_not_primary(which)?;
        self.settle(which)?;
        self.destroy_context(which)
    }

    fn ctx_synchronize(&mut self, ctx: CtxId) -> Result<(), Status> {
        self.current(ctx)?;
        self.settle(ctx)?;
        self.contexts.get(ctx)?.shared.take_error()
    }

    fn ctx_get_limit(&mut self, ctx: CtxId, limit: u32) -> Result<u64, Status> {
        ctx::limit(&self.current(ctx)?.shared.runtime, limit)
    }

    fn ctx_set_limit(&mut self, ctx: CtxId, limit: u32, value: u64) -> Result<(), Status> {
        let memory = self.context.budget.limit();
        ctx::set_limit(&self.current(ctx)?.shared.runtime, limit, value, memory)
    }
}
