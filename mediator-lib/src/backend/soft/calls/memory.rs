//! Device memory.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{ArenaSpan, CtxId, DevPtr, MemoryCalls, StreamId};
use vgpu_protocol::limits::{MAX_INLINE_COPY_BYTES, MAX_ROWS};
use vgpu_protocol::wire::Blob;

use super::super::ctx::Allocation;
use super::super::op::Work;
use super::super::session::SoftSession;
use super::super::{copy, device};
use crate::backend::{SUSPENDED, check};
use crate::counters::Moved;

/// Copies up to this size are done by the worker itself when nothing is queued: longer ones would
/// keep it from reading the ring.
const SHORT_BYTES: u64 = 4 << 20;

impl SoftSession {
    /// True where an address is one of host memory.
    fn is_pinned(&self, at: DevPtr) -> bool {
        let before = self.pinned.range(..=at.0).next_back();
        before.is_some_and(|(base, p)| at.0 - base < p.block.bytes())
    }
}

impl MemoryCalls for SoftSession {
    fn mem_get_info(&mut self, ctx: CtxId) -> Result<(u64, u64), Status> {
        self.current(ctx)?;
        self.wait(self.contexts.get(ctx)?.order.last_free())?;
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
                self.wait(self.contexts.get(ctx)?.order.last_free())?;
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
        self.submit_free(owner, work).map(|_| ())
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
        self.context.staged(Moved::ToDevice, data.len() as u64);
        Ok(())
    }

    fn memcpy_htod(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        stream: StreamId,
        span: ArenaSpan,
    ) -> Result<(), Status> {
        self.spans.begin(&span);
        let checked = self.context.arena.slice(&span).and_then(|_| {
            let owner = self.stream_ctx(ctx, stream)?;
            self.require_range(owner, dst, span.bytes)
        });
        if let Err(status) = checked {
            self.spans.done(&span);
            return Err(status);
        }
        let bytes = span.bytes;
        let work = Work::FromArena {
            dst: dst.0,
            span,
            spans: Arc::clone(&self.spans),
        };
        self.submit(ctx, stream, work, bytes <= SHORT_BYTES)?;
        self.context.staged(Moved::ToDevice, bytes);
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
        self.require_source(owner, src, u64::from(bytes))?;
        self.stream_arrive(ctx, stream)?;
        let mut data = vec![0; bytes as usize];
        let space = &self.contexts.get(owner)?.shared.space;
        space
            .read(src.0, &mut data)
            .map_err(|_| Status::ERROR_INVALID_VALUE)?;
        self.context.staged(Moved::ToHost, u64::from(bytes));
        Ok(Blob(data))
    }

    fn memcpy_dtoh(
        &mut self,
        ctx: CtxId,
        src: DevPtr,
        stream: StreamId,
        span: ArenaSpan,
    ) -> Result<(), Status> {
        self.spans.begin(&span);
        let copied = (|| {
            let to = self.context.arena.slice(&span)?;
            let owner = self.stream_ctx(ctx, stream)?;
            self.require_source(owner, src, span.bytes)?;
            self.stream_arrive(ctx, stream)?;
            copy::from_device(&self.contexts.get(owner)?.shared.space, src.0, &to)
        })();
        if copied != Err(SUSPENDED) {
            self.spans.done(&span);
        }
        if copied.is_ok() {
            self.context.staged(Moved::ToHost, span.bytes);
        }
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
        self.require_source(owner, src, bytes)?;
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
        // A graph's copies are made when it is launched.
        if self.recording.is_none() {
            let way = Moved::between(self.is_pinned(dst), self.is_pinned(src));
            self.context.moved(way, bytes);
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
}
