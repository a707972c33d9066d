//! Streams.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventId, StreamCalls, StreamId};

use super::super::device;
use super::super::graph::Step;
use super::super::op::Work;
use super::super::order::Place;
use super::super::session::{SoftSession, StreamEntry};
use crate::backend::check;

impl StreamCalls for SoftSession {
    fn stream_create(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        flags: u32,
        priority: i32,
    ) -> Result<(), Status> {
        self.current(ctx)?;
        let blocking = check::stream_flags(flags)? == 0;
        let (least, greatest) = device::PRIORITIES;
        let priority = priority.clamp(greatest, least);
        self.streams
            .add_as(stream, StreamEntry::new(ctx, blocking, priority))
    }

    fn stream_destroy(&mut self, _: CtxId, stream: StreamId) -> Result<(), Status> {
        let entry = self.streams.remove(stream)?;
        let order = &mut self.contexts.get_mut(entry.ctx)?.order;
        order.forget(stream, &entry);
        Ok(())
    }

    fn stream_synchronize(&mut self, ctx: CtxId, stream: StreamId) -> Result<(), Status> {
        self.stream_wait(ctx, stream).map(|_| ())
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
        let owner = self.stream_ctx(ctx, stream)?;
        let entry = self.events.get(event)?;
        if flags > 1 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        if let Some(steps) = &mut self.recording {
            steps.push(Step::Wait(event));
            return Ok(());
        }
        let record = entry.record.as_ref().map(|record| record.op);
        let left = record.filter(|op| !self.engine.is_done(*op));
        // On the default stream a wait orders the other streams around it, whatever it waits for, and on a stream
        // that is ordered with it, it comes after the default stream's work.
        let ordered = stream == StreamId(0) || self.streams.get(stream)?.blocking;
        if left.is_none() && !ordered {
            return Ok(());
        }
        let place = Place::Stream(stream);
        self.place(owner, place, Work::Nothing, true, left.as_slice())
            .map(|_| ())
    }
}
