//! What streams order: which earlier operations a new one has to follow.
//!
//! Work of one stream is in order. Work on the legacy default stream follows all earlier work of
//! its context's blocking streams, and their later work follows it (CUDA Driver API, "Stream
//! synchronization behavior"). Freed memory and unloaded modules follow all earlier work of their
//! context, since kernels of any stream may use them.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, StreamId};

use super::engine::Engine;
use super::session::StreamEntry;
use crate::handles::Table;

/// Order of the operations of one context.
#[derive(Debug, Default)]
pub struct Order {
    /// Last operation on the default stream.
    legacy: u64,
    /// Streams that may have work in flight.
    active: Vec<StreamId>,
    /// Last operations of destroyed streams, and whether the streams were blocking.
    orphans: Vec<(u64, bool)>,
    /// Last operation that follows everything.
    last_free: u64,
}

/// What a new operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A stream of the context; 0 is the default stream.
    Stream(StreamId),
    /// All of the context.
    Context,
}

impl Order {
    /// Collects the numbers of the operations that a new one follows.
    pub fn before(
        &mut self,
        place: Place,
        streams: &mut Table<StreamId, StreamEntry>,
        engine: &Engine,
        into: &mut Vec<u64>,
    ) -> Result<(), Status> {
        let all = match place {
            Place::Stream(StreamId(0)) => false,
            Place::Context => true,
            Place::Stream(id) => {
                let stream = streams.get_mut(id)?;
                into.push(stream.last);
                if stream.blocking && self.legacy > stream.last {
                    into.push(self.legacy);
                }
                if !stream.active {
                    stream.active = true;
                    self.active.push(id);
                }
                return Ok(());
            }
        };
        into.push(self.legacy);
        if all {
            into.push(self.last_free);
        }
        self.active.retain(|id| {
            let Ok(stream) = streams.get_mut(*id) else {
                return false;
            };
            if engine.is_done(stream.last) {
                stream.active = false;
                return false;
            }
            if all || stream.blocking {
                into.push(stream.last);
            }
            true
        });
        self.orphans.retain(|(last, blocking)| {
            let flying = !engine.is_done(*last);
            if flying && (all || *blocking) {
                into.push(*last);
            }
            flying
        });
        Ok(())
    }

    /// Notes the number of the new operation.
    pub fn added(
        &mut self,
        place: Place,
        streams: &mut Table<StreamId, StreamEntry>,
        number: u64,
    ) -> Result<(), Status> {
        match place {
            Place::Stream(StreamId(0)) => self.legacy = number,
            Place::Stream(id) => streams.get_mut(id)?.last = number,
            // Later work need not follow it: nobody may use what it frees.
            Place::Context => self.last_free = number,
        }
        Ok(())
    }

    /// Keeps the order of a stream that is being destroyed.
    pub fn forget(&mut self, id: StreamId, stream: &StreamEntry) {
        self.active.retain(|active| *active != id);
        self.orphans.push((stream.last, stream.blocking));
    }

    /// The last operation that frees memory.
    pub fn last_free(&self) -> u64 {
        self.last_free
    }
}

impl StreamEntry {
    /// A stream without work.
    pub fn new(ctx: CtxId, blocking: bool, priority: i32) -> StreamEntry {
        StreamEntry {
            ctx,
            blocking,
            priority,
            last: 0,
            active: false,
        }
    }
}
