//! Events.

use std::sync::{Arc, OnceLock};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventCalls, EventId, StreamId};

use super::super::graph::Step;
use super::super::op::Work;
use super::super::session::{EventEntry, Record, SoftSession};
use crate::backend::check;

impl EventCalls for SoftSession {
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
        if let Some(steps) = &mut self.recording {
            steps.push(Step::Record(event));
            return Ok(());
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
