//! Device memory.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{ArenaSpan, CtxId, DevPtr, MemoryCalls, StreamId};
use vgpu_protocol::limits::{MAX_INLINE_COPY_BYTES, MAX_ROWS};
use vgpu_protocol::wire::Blob;

use super::super::mem::pinned_range;
use super::super::session::CudaSession;
use super::super::sys::memory::{self, DeviceRows};
use crate::backend::{SUSPENDED, check};
use crate::counters::Moved;

impl CudaSession {
    /// True where an address is one of host memory.
    fn is_pinned(&self, at: DevPtr) -> bool {
        pinned_range(&self.objects.pinned, at.0, 1).is_ok()
    }
}

impl MemoryCalls for CudaSession {
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
        self.submit(owner, stream, |s| s.copy_from_bytes(to, data))?;
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
        self.staging.begin(&span);
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
            Err(SUSPENDED) => return Err(SUSPENDED),
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
        let bytes = span.bytes;
        let copied = self.staging.copy_in(owner, entry, stream, to, span);
        self.note(owner, copied)?;
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
        let owner = self.owner(ctx, stream)?;
        let Some(from) = self.source(owner, src, u64::from(bytes))? else {
            return Ok(Blob(Vec::new()));
        };
        // The copy itself cannot be ended: it starts when nothing is left to wait for.
        self.wait_for_stream(owner, stream)?;
        let mut data = vec![0; bytes as usize];
        self.submit(owner, stream, |s| s.copy_to_bytes(&mut data, from))?;
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
        self.staging.begin(&span);
        let copied = (|| {
            let to = self.staging.slice(&span)?;
            let owner = self.owner(ctx, stream)?;
            let Some(from) = self.source(owner, src, span.bytes)? else {
                return Ok(());
            };
            self.wait_for_stream(owner, stream)?;
            self.submit(owner, stream, |s| s.copy_to_window(&to, from))
        })();
        if copied.is_ok() {
            self.context.staged(Moved::ToHost, span.bytes);
        }
        if copied != Err(SUSPENDED) {
            self.staging.done(span);
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
        let owner = self.owner(ctx, stream)?;
        let (to, from) = (
            self.range(owner, dst, bytes)?,
            self.source(owner, src, bytes)?,
        );
        let (Some(to), Some(from)) = (to, from) else {
            return Ok(());
        };
        self.submit(owner, stream, |s| s.copy_device(to, from))?;
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
}
