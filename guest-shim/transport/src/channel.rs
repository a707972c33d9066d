//! One claimed channel: sends requests, hands replies to the threads that wait for them.
//!
//! Threads send under one lock and receive under another, so that a thread that waits does not
//! keep others from posting. Whoever has the receiving lock takes replies out of the ring and puts
//! those of others where they find them.

mod connect;
mod patience;
mod replies;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, HelloInfo, Mode, Opcode, Remote, StreamId, request, stubs};
use vgpu_protocol::layout::index;
use vgpu_protocol::limits::MAX_MESSAGE_BYTES;
use vgpu_protocol::message::{Flags, Header, send_records};
use vgpu_protocol::regs::{ChannelReg, ChannelState, channel_offset};
use vgpu_protocol::ring::{Producer, Pushed, WindowRing, max_record_bytes};
use vgpu_protocol::window::Window;
use vgpu_protocol::wire::{WireError, Writer};

use crate::arena::Arena;
use crate::bars::{Bars, PciAddress};
use crate::calls::Calls;
use crate::claim;
use crate::{log_calls, log_debug};
use patience::SLEEP_TIMES;
use replies::{Receiver, Reply};

/// How long the end of the process waits for the host to take what was posted.
const DRAIN_TIME: Duration = Duration::from_secs(1);

struct Sender {
    ring: Producer<WindowRing>,
    seq: u32,
}

/// A request whose reply has not been taken yet. It must be given to [`Channel::receive`].
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    seq: u32,
    opcode: Opcode,
    ctx: CtxId,
}

/// A claimed channel.
pub struct Channel {
    bars: Box<dyn Bars>,
    number: u32,
    index: Window,
    arena: Arena,
    sender: Mutex<Sender>,
    receiver: Mutex<Receiver>,
    /// Replies that were taken out of the ring by another thread than the one that waits.
    mail: Mutex<HashMap<u32, Reply>>,
    letters: AtomicUsize,
    /// Functions of the program that the host asks to be called.
    pub(crate) calls: Calls,
    doorbells: AtomicU64,
    /// Bytes ever written to the command ring.
    sent: AtomicU64,
    /// Why the channel is dead; 0 while it lives.
    dead: AtomicU32,
    /// The host holds text of kernels.
    output: AtomicBool,
    on_output: OnceLock<fn(&Channel)>,
    /// Contexts in which a call gave an error that stays. While there are some, `suspecting` is set.
    suspects: Mutex<HashSet<u32>>,
    suspecting: AtomicBool,
    spins: bool,
    /// The device can wake a thread that sleeps.
    interrupts: AtomicBool,
    sync: bool,
    hello: HelloInfo,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {} of {}", self.number, self.bars.found())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks leaves them half-changed when it panics.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Channel {
    /// What to do, after a call that waited, when kernels have written text.
    pub fn on_output(&self, take: fn(&Channel)) {
        // A second library of the process does the same.
        let _ = self.on_output.set(take);
    }

    /// The channel's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What the host said about itself.
    pub fn hello(&self) -> &HelloInfo {
        &self.hello
    }

    /// How often the doorbell has been rung.
    pub fn doorbells(&self) -> u64 {
        self.doorbells.load(Ordering::Relaxed)
    }

    /// The device's BARs.
    pub fn bars(&self) -> &dyn Bars {
        &*self.bars
    }

    /// The device's place on the guest's PCI bus.
    pub fn address(&self) -> Option<PciAddress> {
        self.bars.address()
    }

    /// The staging arena.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    fn check_alive(&self) -> Result<(), Status> {
        match self.dead.load(Ordering::Relaxed) {
            0 => Ok(()),
            status => Err(Status(status)),
        }
    }

    /// Gives the channel up; every later call returns `status`.
    fn die(&self, status: Status, why: fmt::Arguments<'_>) -> Status {
        if self.dead.swap(status.0, Ordering::Relaxed) == 0 {
            crate::log::line(format_args!("channel {}: {why}", self.number));
        }
        status
    }

    /// Looks at the channel's registers.
    fn look(&self) -> Result<(), Status> {
        let read = |reg| self.bars.read32(channel_offset(self.number, reg));
        let (state, fault) = match (read(ChannelReg::State), read(ChannelReg::Fault)) {
            (Ok(state), Ok(fault)) => (state, fault),
            (Err(e), _) | (_, Err(e)) => {
                return Err(self.die(
                    Status::ERROR_DEVICE_UNAVAILABLE,
                    format_args!("the device does not answer: {e}"),
                ));
            }
        };
        if ChannelState::from_bits(state) == Some(ChannelState::Claimed) {
            return Ok(());
        }
        Err(self.die(
            Status::ERROR_DEVICE_UNAVAILABLE,
            format_args!("the device took it away (state {state}, fault {fault})"),
        ))
    }

    fn push(&self, sender: &mut Sender, header: Header, parts: &[&[u8]]) -> Result<(), Status> {
        let mut patience = self.patience();
        loop {
            match sender.ring.push(header, parts) {
                Ok(Pushed::Done { kick }) => {
                    self.sent.store(sender.ring.tail(), Ordering::Release);
                    if kick {
                        log_calls!("RINGING DOORBELL channel={}", self.number);
                        self.doorbells.fetch_add(1, Ordering::Relaxed);
                        self.bars.ring();
                    }
                    return Ok(());
                }
                Ok(Pushed::Full) => patience.wait()?,
                Err(fault) => {
                    return Err(self.die(
                        Status::ERROR_DEVICE_UNAVAILABLE,
                        format_args!("command ring: {fault}"),
                    ));
                }
            }
        }
    }

    /// Sends a request of which [`Channel::receive`] takes the reply, or none is expected.
    pub fn send(&self, opcode: Opcode, ctx: CtxId, request: &Writer<'_>) -> Result<Ticket, Status> {
        let flags = match opcode.info().mode {
            Mode::posted => Flags::POSTED,
            Mode::waits | Mode::asks => Flags::empty(),
        };
        self.send_as(flags, opcode, ctx, request)
    }

    /// Has the host wait for a stream before it takes what is sent later; this thread does not.
    pub fn post_wait(&self, ctx: CtxId, stream: StreamId) -> Result<(), Status> {
        let mut writer = Writer::new();
        let opcode = request::stream_synchronize(&mut writer, stream);
        self.send_as(Flags::POSTED, opcode, ctx, &writer).map(drop)
    }

    /// False where an error of an earlier call is known of, or every call is to wait
    /// (`VGPU_SYNC`): then no wait may be spared.
    pub fn is_untroubled(&self) -> bool {
        let hint = self.index.word32(index::DEFERRED_ERROR);
        !self.sync
            && !self.suspecting.load(Ordering::Acquire)
            && self.dead.load(Ordering::Relaxed) == 0
            && hint.is_ok_and(|word| word.load(Ordering::Acquire) == 0)
    }

    fn send_as(
        &self,
        flags: Flags,
        opcode: Opcode,
        ctx: CtxId,
        request: &Writer<'_>,
    ) -> Result<Ticket, Status> {
        self.check_alive()?;
        let info = opcode.info();
        if request.len() > MAX_MESSAGE_BYTES {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let mut header = Header {
            len: 0,
            opcode: opcode as u16,
            flags,
            seq: 0,
            word: ctx.0,
            total: 0,
        };
        let mut sender = lock(&self.sender);
        sender.seq = sender.seq.wrapping_add(1);
        header.seq = sender.seq;
        log_calls!(
            "SENDING to VGPU-STUB: call_id={:#06x} seq={} {}",
            opcode as u16,
            header.seq,
            info.name
        );
        let longest = max_record_bytes(self.command_bytes(&sender));
        send_records(header, request, longest, |header, parts| {
            self.push(&mut sender, header, parts)
        })?;
        Ok(Ticket {
            seq: header.seq,
            opcode,
            ctx,
        })
    }

    fn command_bytes(&self, sender: &Sender) -> u64 {
        use vgpu_protocol::ring::RingMemory;
        sender.ring.memory().capacity()
    }

    /// The page of indices.
    pub(crate) fn index(&self) -> Window {
        self.index
    }

    /// Wakes the worker if it sleeps: after a word of the index page was stored.
    pub(crate) fn kick(&self) {
        fence(Ordering::SeqCst);
        let parked = self.index.word32(index::COMMAND_PARKED).is_ok_and(|w| {
            w.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        });
        if parked {
            self.doorbells.fetch_add(1, Ordering::Relaxed);
            self.bars.ring();
        }
    }

    /// After an error that stays, every call of the context gives it: a posted one waits there, to learn it.
    pub(crate) fn settle(&self, ctx: CtxId) -> Result<(), Status> {
        if !self.suspecting.load(Ordering::Acquire) || !lock(&self.suspects).contains(&ctx.0) {
            return Ok(());
        }
        let result = stubs::ctx_synchronize(self, ctx);
        if !result.is_err_and(Status::is_sticky) {
            // It did not stay, or the context is gone.
            let mut suspects = lock(&self.suspects);
            suspects.remove(&ctx.0);
            self.suspecting
                .store(!suspects.is_empty(), Ordering::Release);
        }
        result
    }

    /// Bytes that were posted and that the host has not taken yet.
    pub(crate) fn backlog(&self) -> u64 {
        let sent = self.sent.load(Ordering::Acquire);
        let head = self.index.word64(index::COMMAND_HEAD);
        head.map_or(0, |head| sent.saturating_sub(head.load(Ordering::Acquire)))
    }

    /// Makes every call wait, as `VGPU_SYNC=1` does.
    #[cfg(test)]
    pub(crate) fn set_sync(&mut self) {
        self.sync = true;
    }

    /// Gives the channel back at the end of the process. Threads may still be calling.
    pub fn close(&self) {
        if self.dead.load(Ordering::Relaxed) != 0 {
            return;
        }
        let start = Instant::now();
        while self.backlog() > 0 && start.elapsed() < DRAIN_TIME {
            thread::sleep(SLEEP_TIMES.0);
        }
        if self
            .dead
            .swap(Status::ERROR_DEINITIALIZED.0, Ordering::Relaxed)
            == 0
        {
            // The kernel's lock tells the next process, should this fail.
            if let Err(error) = claim::release(&*self.bars, self.number) {
                log_debug!("channel {}: release: {error}", self.number);
            }
        }
    }
}

impl Remote for Channel {
    fn buffer(&self) -> Vec<u8> {
        BUFFER.try_with(|b| b.take()).unwrap_or_default()
    }

    fn call<T>(
        &self,
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        decode: &mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Status> {
        let sent = self.send(opcode, ctx, &request);
        // A thread that ends has no place for it.
        let _ = BUFFER.try_with(|b| b.set(request.into_buffer()));
        let ticket = sent?;
        if opcode.info().mode != Mode::posted {
            return self.receive(ticket, decode);
        }
        if self.sync && ctx != CtxId(0) {
            stubs::ctx_synchronize(self, ctx).inspect_err(|status| {
                log_calls!("{} failed: {status} (VGPU_SYNC)", opcode.info().name);
            })?;
        }
        self.settle(ctx)?;
        decode(&[]).map_err(|_| Status::ERROR_UNKNOWN)
    }
}

thread_local! {
    /// The buffer that this thread encoded its last request into.
    static BUFFER: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}
