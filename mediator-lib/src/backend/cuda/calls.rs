//! The bodies of the call table's rows.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    ArenaSpan, Calls, CtxId, DevPtr, DeviceInfo, EventId, FunctionId, FunctionInfo, HelloInfo,
    JitOption, ModuleId, ModuleLoaded, StreamId,
};
use vgpu_protocol::limits::{MAX_INLINE_COPY_BYTES, MAX_MODULES, MAX_ROWS, MAX_STREAMS};
use vgpu_protocol::wire::Blob;

use super::event::{self, EventEntry};
use super::image::{self, CheckedImage};
use super::launch::{self, FunctionEntry};
use super::mem::counted_bytes;
use super::module::{self, ModuleEntry, UNCOUNTED_BYTES};
use super::session::CudaSession;
use super::stream::{PacedStream, StreamEntry, wait_until};
use super::sys::code::{Function, LaunchParams, Module};
use super::sys::memory::{self, DeviceRows, Memory};
use super::sys::object::{Event, Stream};
use super::{ctx, sys};

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
        if flags != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        self.initialized = true;
        Ok(())
    }

    fn primary_ctx_retain(&mut self, _: CtxId, device: u32) -> Result<CtxId, Status> {
        self.require_device(device)?;
        if let Some((ctx, users)) = &mut self.primary {
            *users += 1;
            return Ok(*ctx);
        }
        let ctx = self.new_context(0)?;
        self.primary = Some((ctx, 1));
        Ok(ctx)
    }

    fn primary_ctx_release(&mut self, _: CtxId, device: u32) -> Result<(), Status> {
        self.require_device(device)?;
        match &mut self.primary {
            None => Err(Status::ERROR_INVALID_CONTEXT),
            Some((_, users)) if *users > 1 => {
                *users -= 1;
                Ok(())
            }
            Some(_) => self.primary_ctx_reset(CtxId(0), device),
        }
    }

    fn primary_ctx_reset(&mut self, _: CtxId, device: u32) -> Result<(), Status> {
        self.require_device(device)?;
        match self.primary.take() {
            None => Ok(()),
            Some((ctx, _)) => self.destroy_context(ctx),
        }
    }

    fn ctx_create(&mut self, _: CtxId, flags: u32, device: u32) -> Result<CtxId, Status> {
        self.require_device(device)?;
        self.new_context(ctx::check_flags(flags)?)
    }

    fn ctx_destroy(&mut self, _: CtxId, which: CtxId) -> Result<(), Status> {
        self.require_init()?;
        if self.primary.is_some_and(|(primary, _)| primary == which) {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
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
        let driver_ctx = Arc::clone(&self.current(ctx)?.ctx);
        let options = module::numeric_options(&options)?;
        if self.objects.modules.len() >= MAX_MODULES {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let image = match CheckedImage::check(image) {
            Ok(image) => image,
            Err(what) => return Ok(failed_load(image::REFUSED, String::new(), what)),
        };
        let free = || memory::info(&driver_ctx).map(|(free, _)| free);
        let before = free()?;
        let (module, logs) = Module::load(&driver_ctx, &image, &options);
        let module = match self.note(ctx, module) {
            Ok(module) => Arc::new(module),
            Err(status) => return Ok(failed_load(status, logs.info, logs.error)),
        };
        // Other sessions may allocate or free meanwhile; then the share is off by that much until
        // the module goes.
        let taken = before.saturating_sub(free()?);
        let share = match taken > UNCOUNTED_BYTES {
            true => Some(
                self.context
                    .budget
                    .take(taken)
                    .ok_or(Status::ERROR_OUT_OF_MEMORY)?,
            ),
            false => None,
        };
        let layouts = match driver_ctx.tells_params() {
            true => Default::default(),
            false => module::layouts(&image),
        };
        let id = self.objects.modules.add(ModuleEntry {
            ctx,
            module,
            layouts,
            _share: share,
        })?;
        Ok(ModuleLoaded {
            status: 0,
            module: id,
            info_log: logs.info,
            error_log: logs.error,
        })
    }

    fn module_unload(&mut self, _: CtxId, module: ModuleId) -> Result<(), Status> {
        self.require_init()?;
        let ctx = self.objects.modules.get(module)?.ctx;
        // The driver would wait for the module's kernels, in a way that cannot be ended.
        if self.wait_idle(ctx) == Err(Status::ERROR_DEINITIALIZED) {
            return Err(Status::ERROR_DEINITIALIZED);
        }
        self.objects.functions.take_if(|f| f.module == module);
        self.objects
            .contexts
            .get_mut(ctx)?
            .allocations
            .remove_globals(module.0);
        let entry = self.objects.modules.remove(module)?;
        // Its kernels are gone, so this is the last one who holds it.
        let unloaded = Arc::into_inner(entry.module).map_or(Ok(()), Module::unload);
        self.note(ctx, unloaded)
    }

    fn module_get_function(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<FunctionInfo, Status> {
        let entry = self.objects.modules.get(module)?;
        let ctx = entry.ctx;
        self.current(ctx)?;
        let found = Function::get(&entry.module, name);
        let layout = found.and_then(|function| {
            let layout = launch::layout(&function, entry.layouts.get(name))?;
            Ok((function, layout))
        });
        if layout.as_ref().err() == Some(&Status::ERROR_NOT_SUPPORTED) {
            tracing::warn!(
                kernel = name,
                "the driver (before 12.4) does not tell a kernel's parameters and its image holds no readable PTX"
            );
        }
        let (function, params) = self.note(ctx, layout)?;
        let attributes = launch::attributes(&function);
        // A kernel that was looked up before keeps its handle.
        let known = self
            .objects
            .functions
            .iter()
            .find(|(_, f)| f.module == module && f.function.is_same(&function));
        let function = match known.map(|(id, _)| id) {
            Some(id) => id,
            None => self.objects.functions.add(FunctionEntry {
                ctx,
                module,
                function,
                layout: params.clone(),
            })?,
        };
        Ok(FunctionInfo {
            function,
            params,
            attributes,
        })
    }

    fn module_get_global(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<(DevPtr, u64), Status> {
        let entry = self.objects.modules.get(module)?;
        let ctx = entry.ctx;
        self.current(ctx)?;
        let global = entry.module.global(name);
        let (address, bytes) = self.note(ctx, global)?;
        self.current_mut(ctx)?
            .allocations
            .add_global(module.0, address, bytes)?;
        Ok((DevPtr(address), bytes))
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
        let entry = self.objects.functions.get(function)?;
        if entry.ctx != owner {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        LaunchParams::new(params, &entry.layout)?;
        self.pace(owner, stream)?;
        let entry = self.objects.functions.get(function)?;
        let params = LaunchParams::new(params, &entry.layout)?;
        let launched = entry.function.launch(
            grid,
            block,
            shared_bytes,
            self.stream(owner, stream)?,
            &params,
        );
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
        let entry = self.current(ctx)?;
        if bytes == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        entry.allocations.require_room()?;
        let share = self
            .context
            .budget
            .take(counted_bytes(bytes)?)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let memory = Memory::alloc(&entry.ctx, bytes);
        let memory = self.note(ctx, memory)?;
        self.clear_and_add(ctx, memory, bytes, share)
    }

    fn mem_alloc_pitch(
        &mut self,
        ctx: CtxId,
        width: u64,
        height: u64,
        element: u32,
    ) -> Result<(DevPtr, u64), Status> {
        let entry = self.current(ctx)?;
        if !matches!(element, 4 | 8 | 16) || width == 0 || height == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        entry.allocations.require_room()?;
        // The pitch is the driver's choice; this is the least that it can come to.
        let least = width
            .checked_mul(height)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let share = self
            .context
            .budget
            .take(counted_bytes(least)?)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let memory = Memory::alloc_pitch(&entry.ctx, width, height, element);
        let (memory, pitch) = self.note(ctx, memory)?;
        drop(share);
        let bytes = pitch
            .checked_mul(height)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let share = self
            .context
            .budget
            .take(counted_bytes(bytes)?)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        Ok((self.clear_and_add(ctx, memory, bytes, share)?, pitch))
    }

    fn mem_free(&mut self, ctx: CtxId, ptr: DevPtr) -> Result<(), Status> {
        // Freed in the context that owns it, whichever is current.
        self.require_init()?;
        let owns = |id: &CtxId| {
            self.objects
                .contexts
                .get(*id)
                .is_ok_and(|c| c.allocations.owns(ptr.0))
        };
        let owner = if owns(&ctx) {
            ctx
        } else {
            self.objects
                .contexts
                .iter()
                .map(|(id, _)| id)
                .find(owns)
                .ok_or(Status::ERROR_INVALID_VALUE)?
        };
        self.current(owner)?;
        // The driver would wait for work in flight, in a way that cannot be ended.
        self.wait_idle(owner)?;
        let freed = self.current_mut(owner)?.allocations.free(ptr.0);
        self.note(owner, freed)
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
        check_set(dst, width)?;
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
        check_set(dst, width)?;
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
        if flags > sys::object::NON_BLOCKING {
            return Err(Status::ERROR_INVALID_VALUE);
        }
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
        let flags = event::check_flags(flags)?;
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

impl CudaSession {
    /// Takes new memory in, cleared: it may hold what another process of the guest left there. The
    /// cost is one pass of the GPU over it.
    fn clear_and_add(
        &mut self,
        ctx: CtxId,
        memory: Memory,
        bytes: u64,
        share: crate::budget::Share,
    ) -> Result<DevPtr, Status> {
        let entry = self.current_mut(ctx)?;
        let range = entry.allocations.add(memory, bytes, share);
        let cleared = entry.clearing.set(range, 1, 0).and_then(|()| {
            let clearing = &self.current(ctx)?.clearing;
            wait_until(&self.context.cancel, || clearing.is_idle())
        });
        match self.note(ctx, cleared) {
            Ok(()) => Ok(DevPtr(range.address())),
            // The session ends; freeing might wait for its kernels.
            Err(Status::ERROR_DEINITIALIZED) => Err(Status::ERROR_DEINITIALIZED),
            Err(status) => {
                let freed = self
                    .objects
                    .contexts
                    .get_mut(ctx)?
                    .allocations
                    .free(range.address());
                // The first error is the one that tells something.
                let _ = self.note(ctx, freed);
                Err(status)
            }
        }
    }
}

fn check_set(dst: DevPtr, width: u8) -> Result<(), Status> {
    if matches!(width, 1 | 2 | 4) && dst.0.is_multiple_of(u64::from(width)) {
        Ok(())
    } else {
        Err(Status::ERROR_INVALID_VALUE)
    }
}

fn failed_load(status: Status, info_log: String, error_log: String) -> ModuleLoaded {
    ModuleLoaded {
        status: status.0,
        module: ModuleId(0),
        info_log,
        error_log,
    }
}
