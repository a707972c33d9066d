//! Streams.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventId, StreamCalls, StreamId};
use vgpu_protocol::limits::MAX_STREAMS;

use super::super::session::CudaSession;
use super::super::stream::{PacedStream, StreamEntry, wait_until};
use super::super::sys::object::Stream;
use crate::backend::check;

impl StreamCalls for CudaSession {
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
        if stream.0 != 0 && !self.pause.may_suspend() {
            let waiting = self.stream(owner, stream)?;
            let waited = wait_until(&self.context.cancel, || waiting.is_idle());
            return self.note(owner, waited);
        }
        self.wait_for_stream(owner, stream)
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
}
