//! Copies between the program's memory and the device.
//!
//! Small ones travel in the records; larger ones through the staging arena, in pieces, several of
//! them in flight, so that guest and host copy at the same time.

use std::collections::VecDeque;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{ArenaSpan, CtxId, DevPtr, StreamId, request, stubs};
use vgpu_protocol::limits::MAX_INLINE_COPY_BYTES;
use vgpu_protocol::window::OutOfWindow;
use vgpu_protocol::wire::Writer;

use crate::channel::{Channel, Ticket};
use crate::log_debug;
use crate::user::{Source, Target};

/// Which stream of which context a copy belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The context.
    pub ctx: CtxId,
    /// The stream.
    pub stream: StreamId,
}

fn outside(error: OutOfWindow) -> Status {
    log_debug!("staging arena: {error}");
    Status::ERROR_UNKNOWN
}

impl Channel {
    /// Copies from the program to the device. The source may be changed as soon as this returns.
    pub fn copy_to_device(
        &self,
        place: Place,
        dst: DevPtr,
        source: Source<'_>,
    ) -> Result<(), Status> {
        let Place { ctx, stream } = place;
        if source.len() <= MAX_INLINE_COPY_BYTES as usize {
            let data = source.to_vec(0, source.len());
            return stubs::memcpy_htod_inline(self, ctx, dst, stream, &data);
        }
        let mut from = 0;
        while from < source.len() {
            let left = (source.len() - from) as u64;
            let bytes = self.arena().piece_bytes(from as u64, left) as usize;
            let turn = self.arena().order();
            let span = self.room(bytes as u64)?;
            let sent = self
                .arena()
                .memory(&span)
                .and_then(|window| source.copy_to(from, bytes, window, 0))
                .map_err(outside)
                .and_then(|()| {
                    let dst = DevPtr(dst.0.wrapping_add(from as u64));
                    stubs::memcpy_htod(self, ctx, dst, stream, span.clone())
                });
            self.arena().leave(&span);
            drop(turn);
            sent?;
            from += bytes;
        }
        Ok(())
    }

    /// Waits for room in the arena.
    fn room(&self, bytes: u64) -> Result<ArenaSpan, Status> {
        let mut patience = self.patience();
        loop {
            if let Some(span) = self.arena().take(bytes) {
                return Ok(span);
            }
            patience.wait()?;
        }
    }

    /// Copies from the device to the program; the bytes are there when this returns.
    pub fn copy_from_device(
        &self,
        place: Place,
        src: DevPtr,
        mut target: Target<'_>,
    ) -> Result<(), Status> {
        let Place { ctx, stream } = place;
        if target.len() <= MAX_INLINE_COPY_BYTES as usize {
            let bytes = target.len() as u32;
            let data = stubs::memcpy_dtoh_inline(self, ctx, src, stream, bytes)?;
            return match target.store(0, &data.0) {
                stored if stored == data.0.len() && stored == target.len() => Ok(()),
                _ => Err(Status::ERROR_UNKNOWN),
            };
        }
        let mut flying: VecDeque<(Ticket, ArenaSpan, usize)> = VecDeque::new();
        let mut asked = 0;
        let mut result = Ok(());
        // After an error, what is in flight is still waited for: the host writes there.
        while !flying.is_empty() || (result.is_ok() && asked < target.len()) {
            if result.is_ok() && asked < target.len() {
                let left = (target.len() - asked) as u64;
                let bytes = self.arena().piece_bytes(asked as u64, left) as usize;
                let src = DevPtr(src.0.wrapping_add(asked as u64));
                match self.ask(place, src, bytes as u64, flying.is_empty()) {
                    Ok(Some((ticket, span))) => {
                        flying.push_back((ticket, span, asked));
                        asked += bytes;
                        continue;
                    }
                    Ok(None) => {}
                    Err(status) => {
                        result = Err(status);
                        continue;
                    }
                }
            }
            if let Some((ticket, span, at)) = flying.pop_front() {
                let got = self.receive(ticket, &mut |_| Ok(())).and_then(|()| {
                    let window = self.arena().memory(&span).map_err(outside)?;
                    target
                        .copy_from(at, span.bytes as usize, window, 0)
                        .map_err(outside)
                });
                self.arena().leave(&span);
                result = result.and(got);
            }
        }
        result
    }

    /// Asks the host for one piece. `None`: no room or not our turn now, and `wait` is false:
    /// whoever holds pieces must not wait for others, who may be waiting for these.
    fn ask(
        &self,
        place: Place,
        src: DevPtr,
        bytes: u64,
        wait: bool,
    ) -> Result<Option<(Ticket, ArenaSpan)>, Status> {
        let turn = match wait {
            true => Some(self.arena().order()),
            false => self.arena().try_order(),
        };
        if turn.is_none() {
            return Ok(None);
        }
        let span = match self.arena().take(bytes) {
            Some(span) => span,
            None if wait => self.room(bytes)?,
            None => return Ok(None),
        };
        let mut writer = Writer::new();
        let opcode = request::memcpy_dtoh(&mut writer, src, place.stream, span.clone());
        match self.send(opcode, place.ctx, &writer) {
            Ok(ticket) => Ok(Some((ticket, span))),
            Err(status) => {
                self.arena().leave(&span);
                Err(status)
            }
        }
    }
}
