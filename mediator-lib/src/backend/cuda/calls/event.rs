//! Events.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventCalls, EventId, StreamId};

use super::super::event::EventEntry;
use super::super::session::CudaSession;
use super::super::sys::object::Event;
use crate::backend::check;

impl EventCalls for CudaSession {
    fn event_create(&mut self, ctx: CtxId, event: EventId, flags: u32) -> Result<(), Status> {
        let flags = check::event_flags(flags)?;
        let created = Event::create(&self.current(ctx)?.ctx, flags);
        let created = self.note(ctx, created)?;
        self.objects.events.add_as(
            event,
            EventEntry {
                ctx,
                event: Arc::new(created),
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
        let event = Arc::clone(&entry.event);
        self.wait_until_reached(ctx, vec![event])
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
