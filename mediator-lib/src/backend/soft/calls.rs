//! The bodies of the call table's rows.

use std::sync::{Arc, OnceLock};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    ArenaSpan, Calls, CtxId, DevPtr, DeviceInfo, EventId, FunctionId, FunctionInfo, HelloInfo,
    JitOption, ModuleId, ModuleLoaded, StreamId,
};
use vgpu_protocol::limits::{MAX_INLINE_COPY_BYTES, MAX_ROWS};
use vgpu_protocol::wire::Blob;
use vgpu_soft_gpu::LaunchConfig;

use super::ctx::{self, Allocation};
use super::op::Work;
use super::session::{EventEntry, Record, SoftSession, StreamEntry};
use super::{copy, device, launch};
use crate::backend::check;

/// Copies up to this size are done by the worker itself when nothing is queued: longer ones would
/// keep it from reading the ring.
const SHORT_BYTES: u64 = 4 << 20;

impl Calls for SoftSession {
    fn hello(&mut self, _: CtxId, _client: &str, _pid: u32) -> Result<HelloInfo, Status> {
        Ok(self.context.hello(&*self.backend))
    }

    fn counters(&mut self, _: CtxId) -> Result<String, Status> {
        Ok(self.context.counters.json())
    }

    fn device_table(&mut self, _: CtxId) -> Result<Vec<DeviceInfo>, Status> {
        Ok(vec![device::info(
            self.context.vm_id,
            self.context.budget.limit(),
            self.backend.gpu.threads(),
        )])
    }

    fn init(&mut self, _: CtxId, flags: u32) -> Result<(), Status> {
        self.start.init(flags)
    }

    fn primary_ctx_retain(&mut self, _: CtxId, device: u32) -> Result<CtxId, Status> {
        if let Some(ctx) = self.start.retain(device)? {
            return Ok(ctx);
        }
        let ctx = self.new_context()?;
        Ok(self.start.set_primary(ctx))
    }

    fn primary_ctx_release(&mut self, _: CtxId, device: u32) -> Result<(), Status> {
        let unused = self.start.release(device)?;
        unused.map_or(Ok(()), |ctx| self.destroy_context(ctx))
    }

    fn primary_ctx_reset(&mut self, _: CtxId, device: u32) -> Result<(), Status> {
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
        self.destroy_context(which)
    }

    fn ctx_synchronize(&mut self, ctx: CtxId) -> Result<(), Status> {
        self.current(ctx)?;
        self.wait_and_report(ctx, self.engine.submitted())
    }

    fn ctx_get_limit(&mut self, ctx: CtxId, limit: u32) -> Result<u64, Status> {
        self.current(ctx)?;
        ctx::limit(limit)
    }

    fn ctx_set_limit(&mut self, ctx: CtxId, limit: u32, value: u64) -> Result<(), Status> {
        self.current(ctx)?;
        // Limits are fixed: a request for no more than there is, is met already.
        if value > ctx::limit(limit)? {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        Ok(())
    }

    fn module_load(
        &mut self,
        ctx: CtxId,
        image: &[u8],
        _options: Vec<JitOption>,
    ) -> Result<ModuleLoaded, Status> {
        self.load_module(ctx, image)
    }

    fn module_unload(&mut self, _: CtxId, module: ModuleId) -> Result<(), Status> {
        self.unload_module(module)
    }

    fn module_get_function(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<FunctionInfo, Status> {
        self.get_function(module, name)
    }

    fn module_get_global(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<(DevPtr, u64), Status> {
        let entry = self.modules.get(module)?;
        let (addr, bytes) = entry.module.global(name).ok_or(Status::ERROR_NOT_FOUND)?;
        Ok((DevPtr(addr), bytes))
    }

    fn func_set_attribute(
        &mut self,
        _: CtxId,
        function: FunctionId,
        attribute: i32,
        value: i32,
    ) -> Result<(), Status> {
        self.set_function_attribute(function, attribute, value)
    }

    fn launch_kernel(
        &mut self,
        ctx: CtxId,
        function: FunctionId,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        stream: StreamId,
        params: &[u8],
    ) -> Result<(), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        let entry = self.functions.get(function)?;
        if entry.ctx != owner {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        launch::check(entry, grid, block, shared_bytes, params)?;
        let work = Work::Launch {
            function: Arc::clone(&entry.function),
            config: LaunchConfig {
                grid,
                block,
                dynamic_shared_bytes: shared_bytes,
            },
            params: params.to_vec(),
        };
        self.submit(ctx, stream, work, false)?;
        Ok(())
    }

    fn mem_get_info(&mut self, ctx: CtxId) -> Result<(u64, u64), Status> {
        self.current(ctx)?;
        self.engine.wait(self.last_free)?;
        Ok((self.context.budget.free(), self.context.budget.limit()))
    }

    fn mem_alloc(&mut self, ctx: CtxId, bytes: u64) -> Result<DevPtr, Status> {
        self.current(ctx)?;
        if bytes == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        // Memory that is still being freed counts once it is free.
        let share = match self.context.budget.take(bytes) {
            Some(share) => share,
            None => {
                self.engine.wait(self.last_free)?;
                self.context
                    .budget
                    .take(bytes)
                    .ok_or(Status::ERROR_OUT_OF_MEMORY)?
            }
        };
        let entry = self.current_mut(ctx)?;
        let addr = entry
            .shared
            .space
            .alloc(bytes, 256)
            .map_err(|_| Status::ERROR_OUT_OF_MEMORY)?;
        entry.allocations.insert(addr, Allocation { share });
        Ok(DevPtr(addr))
    }

    fn mem_alloc_pitch(
        &mut self,
        ctx: CtxId,
        width: u64,
        height: u64,
        element: u32,
    ) -> Result<(DevPtr, u64), Status> {
        if !matches!(element, 4 | 8 | 16) || width == 0 || height == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let pitch = width
            .checked_next_multiple_of(device::PITCH_ALIGNMENT)
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        let bytes = pitch
            .checked_mul(height)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        Ok((self.mem_alloc(ctx, bytes)?, pitch))
    }

    fn mem_free(&mut self, ctx: CtxId, ptr: DevPtr) -> Result<(), Status> {
        // Freed in the context that owns it, whichever is current.
        self.start.require_init()?;
        let owns = |id: &CtxId| {
            self.contexts
                .get(*id)
                .is_ok_and(|c| c.allocations.contains_key(&ptr.0))
        };
        let owner = if owns(&ctx) {
            ctx
        } else {
            self.contexts
                .iter()
                .map(|(id, _)| id)
                .find(owns)
                .ok_or(Status::ERROR_INVALID_VALUE)?
        };
        let entry = self.current_mut(owner)?;
        let allocation = entry
            .allocations
            .remove(&ptr.0)
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        let work = Work::Free {
            addr: ptr.0,
            share: allocation.share,
        };
        self.last_free = self.submit(owner, StreamId(0), work, true)?;
        Ok(())
    }

    fn memcpy_htod_inline(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        stream: StreamId,
        data: &[u8],
    ) -> Result<(), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        self.require_range(owner, dst, data.len() as u64)?;
        self.submit(
            ctx,
            stream,
            Work::Write {
                dst: dst.0,
                data: data.to_vec(),
            },
            true,
        )?;
        Ok(())
    }

    fn memcpy_htod(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        stream: StreamId,
        span: ArenaSpan,
    ) -> Result<(), Status> {
        let checked = self.context.arena.slice(&span).and_then(|_| {
            let owner = self.stream_ctx(ctx, stream)?;
            self.require_range(owner, dst, span.bytes)
        });
        if let Err(status) = checked {
            // The guest reuses the arena in order: wait for what came before, then let go.
            self.drain()?;
            self.context.arena.done(&span);
            return Err(status);
        }
        let short = span.bytes <= SHORT_BYTES;
        let work = Work::FromArena {
            dst: dst.0,
            span,
            arena: self.context.arena,
        };
        self.submit(ctx, stream, work, short)?;
        Ok(())
    }

    fn memcpy_dtoh_inline(
        &mut self,
        ctx: CtxId,
        src: DevPtr,
        stream: StreamId,
        bytes: u32,
    ) -> Result<Blob, Status> {
        if bytes > MAX_INLINE_COPY_BYTES {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let owner = self.stream_ctx(ctx, stream)?;
        self.require_range(owner, src, u64::from(bytes))?;
        self.wait_and_report(owner, self.engine.submitted())?;
        let mut data = vec![0; bytes as usize];
        let space = &self.contexts.get(owner)?.shared.space;
        space
            .read(src.0, &mut data)
            .map_err(|_| Status::ERROR_INVALID_VALUE)?;
        Ok(Blob(data))
    }

    fn memcpy_dtoh(
        &mut self,
        ctx: CtxId,
        src: DevPtr,
        stream: StreamId,
        span: ArenaSpan,
    ) -> Result<(), Status> {
        let copied = (|| {
            let to = self.context.arena.slice(&span)?;
            let owner = self.stream_ctx(ctx, stream)?;
            self.require_range(owner, src, span.bytes)?;
            self.wait_and_report(owner, self.engine.submitted())?;
            copy::from_device(&self.contexts.get(owner)?.shared.space, src.0, &to)
        })();
        if copied.is_err() {
            self.drain()?;
        }
        self.context.arena.done(&span);
        copied
    }

    fn memcpy_dtod(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        src: DevPtr,
        bytes: u64,
        stream: StreamId,
    ) -> Result<(), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        self.require_range(owner, dst, bytes)?;
        self.require_range(owner, src, bytes)?;
        if bytes > 0 {
            self.submit(
                ctx,
                stream,
                Work::Copy {
                    dst: dst.0,
                    src: src.0,
                    bytes,
                },
                bytes <= SHORT_BYTES,
            )?;
        }
        Ok(())
    }

    fn memset(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        width: u8,
        value: u32,
        count: u64,
        stream: StreamId,
    ) -> Result<(), Status> {
        self.memset_2d(ctx, dst, 0, width, value, count, 1, stream)
    }

    fn memset_2d(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        pitch: u64,
        width: u8,
        value: u32,
        count: u64,
        rows: u64,
        stream: StreamId,
    ) -> Result<(), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        check::set_elements(dst, width)?;
        if rows > MAX_ROWS {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        if count == 0 || rows == 0 {
            return Ok(());
        }
        let row = count
            .checked_mul(u64::from(width))
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        if rows > 1 && (pitch < row || !pitch.is_multiple_of(u64::from(width))) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let all = pitch
            .checked_mul(rows - 1)
            .and_then(|p| p.checked_add(row))
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        self.require_range(owner, dst, all)?;
        let work = Work::Fill {
            dst: dst.0,
            pattern: value,
            width,
            count,
            rows,
            pitch,
        };
        self.submit(ctx, stream, work, all <= SHORT_BYTES)?;
        Ok(())
    }

    fn stream_create(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        flags: u32,
        _priority: i32,
    ) -> Result<(), Status> {
        self.current(ctx)?;
        check::stream_flags(flags)?;
        // Priorities are clamped to the only one.
        self.streams.add_as(stream, StreamEntry { ctx, last: 0 })
    }

    fn stream_destroy(&mut self, _: CtxId, stream: StreamId) -> Result<(), Status> {
        self.streams.remove(stream).map(|_| ())
    }

    fn stream_synchronize(&mut self, ctx: CtxId, stream: StreamId) -> Result<(), Status> {
        let (owner, last) = self.stream_last(ctx, stream)?;
        self.wait_and_report(owner, last)
    }

    fn stream_query(&mut self, ctx: CtxId, stream: StreamId) -> Result<(), Status> {
        let (owner, last) = self.stream_last(ctx, stream)?;
        if !self.engine.is_done(last) {
            return Err(Status::ERROR_NOT_READY);
        }
        self.contexts.get(owner)?.shared.take_error()
    }

    fn stream_wait_event(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        event: EventId,
        flags: u32,
    ) -> Result<(), Status> {
        self.stream_ctx(ctx, stream)?;
        self.events.get(event)?;
        // What was recorded was submitted before, and the queue runs in the order of submission.
        if flags > 1 {
            Err(Status::ERROR_INVALID_VALUE)
        } else {
            Ok(())
        }
    }

    fn event_create(&mut self, ctx: CtxId, event: EventId, flags: u32) -> Result<(), Status> {
        self.current(ctx)?;
        let flags = check::event_flags(flags)?;
        self.events.add_as(
            event,
            EventEntry {
                ctx,
                timing: flags & check::NO_TIMING == 0,
                record: None,
            },
        )
    }

    fn event_destroy(&mut self, _: CtxId, event: EventId) -> Result<(), Status> {
        self.events.remove(event).map(|_| ())
    }

    fn event_record(
        &mut self,
        ctx: CtxId,
        event: EventId,
        stream: StreamId,
        flags: u32,
    ) -> Result<(), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        if flags > 1 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        if self.events.get(event)?.ctx != owner {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let time = Arc::new(OnceLock::new());
        let op = self.submit(ctx, stream, Work::Stamp(Arc::clone(&time)), true)?;
        self.events.get_mut(event)?.record = Some(Record { op, time });
        Ok(())
    }

    fn event_synchronize(&mut self, _: CtxId, event: EventId) -> Result<(), Status> {
        let entry = self.events.get(event)?;
        let last = entry.record.as_ref().map_or(0, |r| r.op);
        self.wait_and_report(entry.ctx, last)
    }

    fn event_query(&mut self, _: CtxId, event: EventId) -> Result<(), Status> {
        let entry = self.events.get(event)?;
        if !entry
            .record
            .as_ref()
            .is_none_or(|r| self.engine.is_done(r.op))
        {
            return Err(Status::ERROR_NOT_READY);
        }
        self.contexts.get(entry.ctx)?.shared.take_error()
    }

    fn event_elapsed_time(
        &mut self,
        _: CtxId,
        start: EventId,
        end: EventId,
    ) -> Result<f32, Status> {
        let time_of = |event| {
            let entry = self.events.get(event)?;
            let record = entry
                .record
                .as_ref()
                .filter(|_| entry.timing)
                .ok_or(Status::ERROR_INVALID_HANDLE)?;
            Ok::<_, Status>(record)
        };
        let (start, end) = (time_of(start)?, time_of(end)?);
        if !self.engine.is_done(start.op.max(end.op)) {
            return Err(Status::ERROR_NOT_READY);
        }
        match (start.time.get(), end.time.get()) {
            (Some(start), Some(end)) if end >= start => {
                Ok((*end - *start).as_secs_f64() as f32 * 1e3)
            }
            (Some(start), Some(end)) => Ok((*start - *end).as_secs_f64() as f32 * -1e3),
            _ => Err(Status::ERROR_NOT_READY),
        }
    }
}
