//! Replies: taken out of the ring by whoever has the receiving lock, and put where those find them whose they are.

use std::cell::Cell;
use std::fmt;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use vgpu_protocol::Status;
use vgpu_protocol::message::{Assembler, Flags};
use vgpu_protocol::ring::{Consumer, WindowRing};
use vgpu_protocol::wire::WireError;

use super::patience::LOOK_TIME;
use super::{Channel, Ticket, lock};
use crate::{log_calls, log_debug, spin};

/// Longest reply, in bytes: it keeps a damaged length from exhausting memory.
const MAX_REPLY_BYTES: u64 = 64 << 20;

/// How often a waiting thread looks at the ring alone before it looks at all else that may end its wait: for
/// some hundred nanoseconds, in which most calls are answered. On an emulated processor a look takes a
/// twentieth of what else there is to look at, the clock above all.
const LOOKS: u32 = 8;
const LOOKS_EMULATED: u32 = 64;

pub(super) struct Receiver {
    pub(super) ring: Consumer<WindowRing>,
    pub(super) assembler: Assembler,
    pub(super) payload: Vec<u8>,
}

impl Receiver {
    /// Looks for a reply some times in a row; true where there is one.
    fn look(&self) -> bool {
        let looks = if spin::is_emulated() {
            LOOKS_EMULATED
        } else {
            LOOKS
        };
        for _ in 0..looks {
            if !self.ring.is_empty() {
                return true;
            }
            spin::pause();
        }
        false
    }
}

pub(crate) struct Reply {
    status: Status,
    payload: Vec<u8>,
}

/// Longest buffer that a thread keeps, in bytes.
const MAX_SPARE_BYTES: usize = 4096;

thread_local! {
    /// The buffer of a reply that this thread has decoded: the next one needs none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn spare() -> Vec<u8> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

fn keep(buffer: Vec<u8>) {
    if buffer.capacity() <= MAX_SPARE_BYTES {
        // A thread that ends has no place for it.
        let _ = SPARE.try_with(|spare| spare.set(buffer));
    }
}

impl Channel {
    fn letter(&self, seq: u32) -> Option<Reply> {
        if self.letters.load(Ordering::Acquire) == 0 {
            return None;
        }
        let reply = lock(&self.mail).remove(&seq)?;
        self.letters.fetch_sub(1, Ordering::AcqRel);
        Some(reply)
    }

    /// Takes replies out of the ring until `seq`'s comes or there is none.
    fn take_replies(
        &self,
        receiver: &mut Receiver,
        seq: Option<u32>,
    ) -> Result<Option<Reply>, Status> {
        let broken = |why: &dyn fmt::Display| {
            self.die(
                Status::ERROR_DEVICE_UNAVAILABLE,
                format_args!("reply ring: {why}"),
            )
        };
        let Receiver {
            ring,
            assembler,
            payload,
        } = receiver;
        while let Some(header) = ring.pop(payload).map_err(|e| broken(&e))? {
            let message = assembler
                .push(header, payload, |_| MAX_REPLY_BYTES)
                .map_err(|e| broken(&e))?;
            let Some(message) = message else { continue };
            if message.flags.contains(Flags::NOTICE) {
                self.calls.add(Status(message.word), payload);
                continue;
            }
            if message.flags.contains(Flags::OUTPUT) {
                self.output.store(true, Ordering::Release);
            }
            let reply = Reply {
                status: Status(message.word),
                payload: std::mem::replace(payload, spare()),
            };
            if Some(message.seq) == seq {
                return Ok(Some(reply));
            }
            lock(&self.mail).insert(message.seq, reply);
            self.letters.fetch_add(1, Ordering::AcqRel);
        }
        Ok(None)
    }

    fn wait_for(&self, seq: u32) -> Result<Reply, Status> {
        self.wait_until(Some(seq), || self.letter(seq), Some)
    }

    /// Waits for what another thread may have found, or for the reply to `seq`.
    pub(crate) fn wait_until<T>(
        &self,
        seq: Option<u32>,
        found: impl Fn() -> Option<T>,
        own: impl Fn(Reply) -> Option<T>,
    ) -> Result<T, Status> {
        let mut patience = self.patience();
        loop {
            if let Some(found) = found() {
                return Ok(found);
            }
            let receiver = match self.receiver.try_lock() {
                Ok(receiver) => Some(receiver),
                Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(mut receiver) = receiver {
                loop {
                    // Another thread may have delivered it just before it let go of the lock, or this
                    // one has taken it out with others' replies.
                    if let Some(found) = found() {
                        return Ok(found);
                    }
                    if let Some(reply) = self.take_replies(&mut receiver, seq)?
                        && let Some(own) = own(reply)
                    {
                        return Ok(own);
                    }
                    if !self.spins || !receiver.look() {
                        break;
                    }
                }
                if self.interrupts.load(Ordering::Relaxed) && patience.is_at_its_end() {
                    self.sleep(&mut receiver);
                    patience.look()?;
                    continue;
                }
            }
            patience.wait()?;
        }
    }

    /// Sleeps until the host interrupts, because it has written a reply, or for a while. The
    /// receiving lock is held: others who wait look for their letters by themselves.
    fn sleep(&self, receiver: &mut Receiver) {
        self.bars.clear_interrupt();
        if receiver.ring.park()
            && let Err(error) = self.bars.wait_interrupt(LOOK_TIME)
        {
            log_debug!("channel {}: {error}", self.number);
            self.interrupts.store(false, Ordering::Relaxed);
        }
        receiver.ring.unpark();
    }

    /// Waits for a reply. `decode` gets its payload if the call succeeded.
    pub fn receive<T>(
        &self,
        ticket: Ticket,
        decode: &mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Status> {
        let Ticket { seq, opcode, ctx } = ticket;
        let reply = self.wait_for(seq)?;
        if self.output.load(Ordering::Relaxed)
            && let Some(take) = self.on_output.get()
            && self.output.swap(false, Ordering::AcqRel)
        {
            take(self);
        }
        log_calls!(
            "RECEIVED from VGPU-STUB: call_id={:#06x} seq={seq} status={}",
            opcode as u16,
            StatusWord(reply.status)
        );
        if reply.status.is_sticky() && lock(&self.suspects).insert(ctx.0) {
            self.suspecting.store(true, Ordering::Release);
        }
        reply.status.ok()?;
        let decoded = decode(&reply.payload);
        keep(reply.payload);
        decoded.map_err(|error| {
            crate::log::line(format_args!("reply to {}: {error}", opcode.info().name));
            Status::ERROR_UNKNOWN
        })
    }
}

/// A status as the log shows it.
struct StatusWord(Status);

impl fmt::Display for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.0.name()) {
            (Status::SUCCESS, _) => f.write_str("DONE"),
            (_, Some(name)) => f.write_str(name),
            (Status(code), None) => write!(f, "{code}"),
        }
    }
}
