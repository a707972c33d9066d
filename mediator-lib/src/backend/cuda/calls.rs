//! The bodies of the call table's rows.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    ArenaSpan, Calls, CtxId, DevPtr, DeviceInfo, EventId, FunctionId, FunctionInfo, HelloInfo,
    JitOption, ModuleId, ModuleLoaded, StreamId,
};
use vgpu_protocol::limits::{MAX_INLINE_COPY_BYTES, MAX_ROWS, MAX_STREAMS};
use vgpu_protocol::wire::Blob;

use super::ctx;
use super::event::EventEntry;
use super::session::CudaSession;
use super::stream::{PacedStream, StreamEntry, wait_until};
use super::sys::code::LaunchParams;
use super::sys::memory::{self, DeviceRows};
use super::sys::object::{Event, Stream};
use crate::backend::check;

impl Calls for CudaSession {
    fn hello(&mut self, _: CtxId, _client: &str, _pid: u32) -> Result<HelloInfo, Status> {
        Ok(self.context.hello(&*self.backend))
    }

    fn counters(&mut self, _: CtxId) -> Result<String, Status> {
        Ok(self.context.counters.json())
    }

    fn device_table(&mut self, _: CtxId) -> Result<Vec<DeviceInfo>, Status> {
        let mut info = self.backend.info.clone();
        info.total_bytes = self.context.budget.limit();
        Ok(vec![info])
    }

    fn init(&mut self, _: CtxId, flags: u32) -> Result<(), Status> {
        self.start.init(flags)
    }

    fn primary_ctx_retain(&mut self, _: CtxId, device: u32) -> Result<CtxId, Status> {
        if let Some(ctx) = self.start.retain(device)? {
            return Ok(ctx);
        }
        let ctx = self.new_context(0)?;
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
        self.new_context(check::ctx_flags(flags)?)
    }

    fn ctx_destroy(&mut self, _: CtxId, which: CtxId) -> Result<(), Status> {
        self.start.require_not_primary(which)?;
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

    fn module_load(
        &mut self,
        ctx: CtxId,
        image: &[u8],
        options: Vec<JitOption>,
    ) -> Result<ModuleLoaded, Status> {
        self.load_module(ctx, image, &options)
    }

    fn module_unload(&mut self, _: CtxId, module: ModuleId) -> Result<(), Status> {
        self.start.require_init()?;
        self.unload_module(module)
    }

    fn module_get_function(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<FunctionInfo, Status> {
        self.find_function(module, name)
    }

    fn module_get_global(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<(DevPtr, u64), Status> {
        self.find_global(module, name)
    }

    fn func_set_attribute(
        &mut self,
        _: CtxId,
        function: FunctionId,
        attribute: i32,
        value: i32,
    ) -> Result<(), Status> {
        let entry = self.objects.functions.get(function)?;
        let ctx = entry.ctx;
        self.current(ctx)?;
        let attribute = u32::try_from(attribute).map_err(|_| Status::ERROR_INVALID_VALUE)?;
        let set = entry.function.set_attribute(attribute, value);
        self.note(ctx, set)
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
        let owner = self.owner(ctx, stream)?;
        self.pace(owner, stream)?;
        let entry = self.objects.functions.get(function)?;
        let params = LaunchParams::new(params, &entry.layout)?;
        let stream = self.stream(owner, stream)?;
        let launched = entry
            .function
            .launch(grid, block, shared_bytes, stream, &params);
        self.note(owner, launched)
    }

    fn mem_get_info(&mut self, ctx: CtxId) -> Result<(u64, u64), Status> {
        let info = memory::info(&self.current(ctx)?.ctx);
        let (free, _) = self.note(ctx, info)?;
        Ok((
            free.min(self.context.budget.free()),
            self.context.budget.limit(),
        ))
    }

    fn mem_alloc(&mut self, ctx: CtxId, bytes: u64) -> Result<DevPtr, Status> {
        self.alloc(ctx, bytes)
    }

    fn mem_alloc_pitch(
        &mut self,
        ctx: CtxId,
        width: u64,
        height: u64,
        element: u32,
    ) -> Result<(DevPtr, u64), Status> {
        self.alloc_pitch(ctx, width, height, element)
    }

    fn mem_free(&mut self, ctx: CtxId, ptr: DevPtr) -> Result<(), Status> {
        self.start.require_init()?;
        self.free(ctx, ptr)
    }

    fn memcpy_htod_inline(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        stream: StreamId,
        data: &[u8],
    ) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        let Some(to) = self.range(owner, dst, data.len() as u64)? else {
            return Ok(());
        };
        self.submit(owner, stream, |s| s.copy_from_bytes(to, data))
    }

    fn memcpy_htod(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        stream: StreamId,
        span: ArenaSpan,
    ) -> Result<(), Status> {
        let checked = self.staging.slice(&span).and_then(|_| {
            let owner = self.owner(ctx, stream)?;
            let to = self.range(owner, dst, span.bytes)?;
            self.pace(owner, stream)?;
            Ok((owner, to))
        });
        let (owner, to) = match checked {
            Ok((owner, Some(to))) => (owner, to),
            Ok((_, None)) => {
                self.staging.done(span);
                return Ok(());
            }
            Err(status) => {
                self.staging.done(span);
                return Err(status);
            }
        };
        let entry = self.objects.contexts.get(owner)?;
        let stream = if stream.0 == 0 {
            &entry.default.stream
        } else {
            &self.objects.streams.get(stream)?.paced.stream
        };
        let copied = self.staging.copy_in(owner, entry, stream, to, span);
        self.note(owner, copied)
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
        let owner = self.owner(ctx, stream)?;
        let Some(from) = self.range(owner, src, u64::from(bytes))? else {
            return Ok(Blob(Vec::new()));
        };
        // The copy itself cannot be ended: it starts when nothing is left to wait for.
        self.wait_for_stream(owner, stream)?;
        let mut data = vec![0; bytes as usize];
        self.submit(owner, stream, |s| s.copy_to_bytes(&mut data, from))?;
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
            let to = self.staging.slice(&span)?;
            let owner = self.owner(ctx, stream)?;
            let Some(from) = self.range(owner, src, span.bytes)? else {
                return Ok(());
            };
            self.wait_for_stream(owner, stream)?;
            self.submit(owner, stream, |s| s.copy_to_window(&to, from))
        })();
        self.staging.done(span);
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
        let owner = self.owner(ctx, stream)?;
        let (to, from) = (
            self.range(owner, dst, bytes)?,
            self.range(owner, src, bytes)?,
        );
        let (Some(to), Some(from)) = (to, from) else {
            return Ok(());
        };
        self.submit(owner, stream, |s| s.copy_device(to, from))
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
        let owner = self.owner(ctx, stream)?;
        check::set_elements(dst, width)?;
        let bytes = count
            .checked_mul(u64::from(width))
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        let Some(to) = self.range(owner, dst, bytes)? else {
            return Ok(());
        };
        self.submit(owner, stream, |s| s.set(to, width, value))
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
        let owner = self.owner(ctx, stream)?;
        check::set_elements(dst, width)?;
        if rows > MAX_ROWS || !pitch.is_multiple_of(u64::from(width)) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        if count == 0 || rows == 0 {
            return Ok(());
        }
        // The pitch of a single row means nothing, and may be anything.
        let pitch = if rows == 1 {
            count.checked_mul(u64::from(width)).unwrap_or(pitch)
        } else {
            pitch
        };
        let bytes =
            DeviceRows::span_bytes(pitch, width, count, rows).ok_or(Status::ERROR_INVALID_VALUE)?;
        let Some(range) = self.range(owner, dst, bytes)? else {
            return Ok(());
        };
        let to = DeviceRows::new(range, pitch, width, count, rows)?;
        self.submit(owner, stream, |s| s.set_2d(to, width, value))
    }

    fn stream_create(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        flags: u32,
        priority: i32,
    ) -> Result<(), Status> {
        let entry = self.current_mut(ctx)?;
        let flags = check::stream_flags(flags)?;
        entry.reap_streams();
        let dying: usize = self
            .objects
            .contexts
            .iter()
            .map(|(_, c)| c.dying.len())
            .sum();
        if self.objects.streams.len() + dying >= MAX_STREAMS {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let created = Stream::create(&self.current(ctx)?.ctx, flags, priority);
        let paced = PacedStream::new(self.note(ctx, created)?);
        self.objects
            .streams
            .add_as(stream, StreamEntry { ctx, paced })
    }

    fn stream_destroy(&mut self, _: CtxId, stream: StreamId) -> Result<(), Status> {
        let entry = self.objects.streams.remove(stream)?;
        if entry.paced.stream.is_idle() == Ok(false) {
            self.objects
                .contexts
                .get_mut(entry.ctx)?
                .dying
                .push(entry.paced.stream);
        }
        Ok(())
    }

    fn stream_synchronize(&mut self, ctx: CtxId, stream: StreamId) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        if stream.0 == 0 {
            return self.wait_for_stream(owner, stream);
        }
        let waiting = self.stream(owner, stream)?;
        let waited = wait_until(&self.context.cancel, || waiting.is_idle());
        self.note(owner, waited)
    }

    fn stream_query(&mut self, ctx: CtxId, stream: StreamId) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        let idle = self.stream(owner, stream)?.is_idle();
        if self.note(owner, idle)? {
            Ok(())
        } else {
            Err(Status::ERROR_NOT_READY)
        }
    }

    fn stream_wait_event(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        event: EventId,
        flags: u32,
    ) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        self.objects.events.get(event)?;
        self.pace(owner, stream)?;
        let event = &self.objects.events.get(event)?.event;
        let waiting = self.stream(owner, stream)?.wait_for(event, flags);
        self.note(owner, waiting)
    }

    fn event_create(&mut self, ctx: CtxId, event: EventId, flags: u32) -> Result<(), Status> {
        let flags = check::event_flags(flags)?;
        let created = Event::create(&self.current(ctx)?.ctx, flags);
        let created = self.note(ctx, created)?;
        self.objects.events.add_as(
            event,
            EventEntry {
                ctx,
                event: created,
            },
        )
    }

    fn event_destroy(&mut self, _: CtxId, event: EventId) -> Result<(), Status> {
        self.objects.events.remove(event).map(|_| ())
    }

    fn event_record(
        &mut self,
        ctx: CtxId,
        event: EventId,
        stream: StreamId,
        flags: u32,
    ) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        if self.objects.events.get(event)?.ctx != owner {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        self.pace(owner, stream)?;
        let recorded = self
            .objects
            .events
            .get(event)?
            .event
            .record(self.stream(owner, stream)?, flags);
        self.note(owner, recorded)
    }

    fn event_synchronize(&mut self, _: CtxId, event: EventId) -> Result<(), Status> {
        let entry = self.objects.events.get(event)?;
        let ctx = entry.ctx;
        self.current(ctx)?;
        let waited = wait_until(&self.context.cancel, || entry.event.is_reached());
        self.note(ctx, waited)
    }

    fn event_query(&mut self, _: CtxId, event: EventId) -> Result<(), Status> {
        let entry = self.objects.events.get(event)?;
        let ctx = entry.ctx;
        self.current(ctx)?;
        let reached = entry.event.is_reached();
        if self.note(ctx, reached)? {
            Ok(())
        } else {
            Err(Status::ERROR_NOT_READY)
        }
    }

    fn event_elapsed_time(
        &mut self,
        _: CtxId,
        start: EventId,
        end: EventId,
    ) -> Result<f32, Status> {
        let (start, end) = (
            self.objects.events.get(start)?,
            self.objects.events.get(end)?,
        );
        let ctx = end.ctx;
        self.current(ctx)?;
        let elapsed = end.event.elapsed_since(&start.event);
        self.note(ctx, elapsed)
    }
}
