//! The thread that executes a channel's calls: copy out of the ring, check, dispatch, reply.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use vgpu_mediator::arena::Arena;
use vgpu_mediator::budget::Share;
use vgpu_mediator::callbacks::Turn;
use vgpu_mediator::cancel::Cancel;
use vgpu_mediator::session::{Reply, Session, max_request_bytes};
use vgpu_protocol::Status;
use vgpu_protocol::calls::Opcode;
use vgpu_protocol::layout::{INDEX_BYTES, index};
use vgpu_protocol::message::{Assembler, AssemblyFault, Flags, Header, Message, send_records};
use vgpu_protocol::regs::ChannelFault;
use vgpu_protocol::ring::{
    Consumer, Producer, Pushed, RingFault, RingMemory, WindowRing, max_record_bytes,
};
use vgpu_protocol::window::{OutOfWindow, Window};
use vgpu_protocol::wire::{Value, Writer};

use crate::channel::{Channel, Order};
use crate::device::{Executor, Shared};
use crate::isolation::supervisor;

/// How long a worker looks for the next message before it parks. Longer than a guest takes between
/// two calls of a burst, shorter than anybody would notice on an idle machine.
const SPIN: Duration = Duration::from_micros(50);

/// How much of it the worker keeps its core to itself. On a busy machine the guest may be waiting
/// for this very core: a call and its answer would take turns of [`SPIN`] each.
const KEEP_CORE: Duration = Duration::from_micros(2);

/// Shortest and longest pause between two looks at calls whose end nothing announces.
const PAUSE: (Duration, Duration) = (Duration::from_micros(10), Duration::from_millis(1));

/// How long a guest may leave its reply ring full before its channel fails. A guest that never
/// reads would otherwise hold a host thread for ever.
const REPLY_STALL: Duration = Duration::from_secs(30);

/// Starts a channel's worker.
pub(crate) fn spawn(device: Arc<Shared>, channel: Arc<Channel>) -> io::Result<JoinHandle<()>> {
    let name = format!("vgpu-channel-{}", channel.number);
    Builder::new()
        .name(name)
        .spawn(move || match &device.executor {
            Executor::Here(_) => run(&device, &channel),
            Executor::Processes(pool) => supervisor::run(&device, &channel, pool),
        })
}

/// Serves the channel until the device goes.
pub(crate) fn run(device: &Arc<Shared>, channel: &Arc<Channel>) {
    // Where there is one core only, looking keeps the guest from running.
    let spin = if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        SPIN
    } else {
        Duration::ZERO
    };
    let mut active: Option<Active> = None;
    loop {
        match channel.states.orders.pop() {
            Some(Order::Open(cancel)) => match Active::open(device, channel, cancel) {
                Ok(opened) => {
                    let bell = Arc::clone(channel);
                    opened
                        .session
                        .waker()
                        .set_hook(move || bell.states.doorbell.ring());
                    active = Some(opened);
                }
                Err(why) => {
                    tracing::error!(
                        vm_id = device.vm_id,
                        channel = channel.number,
                        why,
                        "cannot open a session"
                    );
                    channel.fail(ChannelFault::Internal);
                }
            },
            Some(Order::Close) => {
                drop(active.take());
                channel.set_free();
            }
            Some(Order::Exit) => return,
            None => {}
        }
        if !channel.states.orders.is_empty() {
            continue;
        }
        let Some(session) = &mut active else {
            channel.sleep(None);
            continue;
        };
        match session.serve(channel, spin) {
            Ok(Served::Parked) => channel.sleep(None),
            Ok(Served::Pausing(pause)) => channel.sleep(Some(pause)),
            Ok(Served::Interrupted) => {}
            Err(fault) => {
                drop(active.take());
                channel.fail(fault);
            }
        }
    }
}

enum Served {
    /// Nothing to do until the doorbell rings.
    Parked,
    /// Nothing to do until the doorbell rings or so much time has passed.
    Pausing(Duration),
    /// There is an order.
    Interrupted,
}

/// What a look for work has found.
enum Found {
    Nothing,
    /// The guest has written a request; all else is as it was.
    Request,
    /// Something else has changed.
    Change,
}

/// A claimed channel.
struct Active {
    device: Arc<Shared>,
    number: u32,
    cancel: Arc<Cancel>,
    session: Session,
    requests: Consumer<WindowRing>,
    replies: Producer<WindowRing>,
    assembler: Assembler,
    /// Part of the device's memory for messages that a half-received message holds.
    reserved: Option<Share>,
    payload: Vec<u8>,
    reply: Vec<u8>,
    indices: Window,
    hint: u32,
    /// Progress of asynchronous work that has been attended to.
    seen: u64,
    /// The session's threads tell of each step.
    watching: bool,
    /// Functions that the guest was asked to call, and those of them that it has called.
    callbacks: (u64, u64),
    /// Since when there is nothing to do but to look at calls that wait.
    idle_since: Option<Instant>,
}

impl Active {
    fn open(
        device: &Arc<Shared>,
        channel: &Channel,
        cancel: Arc<Cancel>,
    ) -> Result<Active, String> {
        let rings = Self::rings(device, channel.number).map_err(|error| error.to_string())?;
        let (indices, requests, replies, arena) = rings;
        let session = device
            .mediator()
            .ok_or("sessions are in other processes")?
            .open(channel.number, arena, Arc::clone(&cancel))
            .map_err(|status| format!("the backend says {status}"))?;
        // The guest counts from the channel's last owner's number otherwise.
        if let Ok(word) = indices.word64(index::CALLBACKS_DONE) {
            word.store(0, Ordering::Release);
        }
        Ok(Active {
            device: Arc::clone(device),
            number: channel.number,
            cancel,
            session,
            requests: Consumer::new(requests),
            replies: Producer::new(replies),
            assembler: Assembler::default(),
            reserved: None,
            payload: Vec::new(),
            reply: Vec::new(),
            indices,
            hint: 0,
            seen: 0,
            watching: false,
            callbacks: (0, 0),
            idle_since: None,
        })
    }

    fn rings(
        device: &Shared,
        channel: u32,
    ) -> Result<(Window, WindowRing, WindowRing, Arena), OutOfWindow> {
        let layout = &device.layout;
        let area = device.bar1.slice(layout.area(channel), layout.area_bytes)?;
        let indices = area.slice(0, INDEX_BYTES)?;
        let commands = area.slice(layout.command_ring(), layout.command_bytes)?;
        let replies = area.slice(layout.reply_ring(), layout.reply_bytes)?;
        let arena = area.slice(layout.arena(), layout.arena_bytes)?;
        Ok((
            indices,
            WindowRing::new(
                indices,
                index::COMMAND_HEAD,
                index::COMMAND_PARKED,
                commands,
            )?,
            WindowRing::new(indices, index::REPLY_HEAD, index::REPLY_PARKED, replies)?,
            Arena::new(arena, indices, index::ARENA_HEAD)?,
        ))
    }

    /// Executes what the guest has written, until there is nothing or an order has come.
    fn serve(&mut self, channel: &Channel, spin: Duration) -> Result<Served, ChannelFault> {
        self.session.waker().unpark();
        // The last look found a request, and nothing else that has changed.
        let mut only_request = false;
        loop {
            let full = if std::mem::take(&mut only_request) {
                false
            } else {
                if !channel.states.orders.is_empty() {
                    return Ok(Served::Interrupted);
                }
                self.watch();
                self.attend(channel)?;
                self.watch()
            };
            if !full {
                let mut payload = std::mem::take(&mut self.payload);
                let popped = self
                    .requests
                    .pop(&mut payload)
                    .map_err(|fault| self.ring_fault(&fault))?;
                if let Some(header) = popped {
                    let done = self.record(channel, header, &mut payload);
                    self.payload = payload;
                    done?;
                    self.idle_since = None;
                    continue;
                }
                self.payload = payload;
            }
            let must_look = self.session.must_look();
            let patience = if must_look { KEEP_CORE } else { spin };
            match self.look(channel, patience, full) {
                Found::Nothing => {}
                Found::Request => {
                    only_request = true;
                    continue;
                }
                Found::Change => continue,
            }
            if must_look {
                // As long again as it has lasted, in twentieths.
                let waited = self.idle_since.get_or_insert_with(Instant::now).elapsed();
                if waited > spin {
                    return Ok(Served::Pausing((waited / 20).clamp(PAUSE.0, PAUSE.1)));
                }
                continue;
            }
            self.idle_since = None;
            if full {
                return Ok(Served::Pausing(PAUSE.1));
            }
            if !self.requests.park() {
                continue;
            }
            // After the barrier in `park`: the guest writes its word before it looks at ours.
            if !self.was_called() && self.session.waker().park(self.seen) {
                return Ok(Served::Parked);
            }
            self.requests.unpark();
        }
    }

    /// True where the guest has called the function that it was asked to.
    fn was_called(&self) -> bool {
        let (asked, called) = self.callbacks;
        called < asked
            && self
                .indices
                .word64(index::CALLBACKS_DONE)
                .is_ok_and(|word| word.load(Ordering::Acquire) >= asked)
    }

    /// Has the session's threads tell of each step while there is something that it may end. True
    /// where the session is full.
    fn watch(&mut self) -> bool {
        let full = self.session.is_full();
        let watch = full || self.session.is_waiting();
        if watch != self.watching {
            self.watching = watch;
            self.session.waker().set_watched(watch);
            // What happened until now was not told: look once.
            self.seen = self.seen.wrapping_sub(u64::from(watch));
        }
        full
    }

    /// Goes on with calls that waited, and passes functions to the guest whose turn has come.
    fn attend(&mut self, channel: &Channel) -> Result<(), ChannelFault> {
        if self.was_called() {
            self.callbacks.1 = self.callbacks.0;
            self.session.callbacks().done(self.callbacks.0);
        }
        let progress = self.session.waker().progress();
        if progress == self.seen && !self.session.must_look() {
            return Ok(());
        }
        self.seen = progress;
        if let Some(turn) = self.session.callbacks().next() {
            self.callbacks.0 += 1;
            self.notify(channel, turn)?;
        }
        loop {
            let mut writer = Writer::reuse(std::mem::take(&mut self.reply));
            let Some((message, outcome)) = self.session.resume(&mut writer) else {
                self.reply = writer.into_buffer();
                return Ok(());
            };
            self.idle_since = None;
            self.finish(channel, &message, outcome, writer)?;
        }
    }

    /// Asks the guest to call a function of its program.
    fn notify(&mut self, channel: &Channel, turn: Turn) -> Result<(), ChannelFault> {
        let mut payload = Writer::new();
        turn.number.put(&mut payload);
        let header = Header {
            len: 0,
            opcode: 0,
            flags: Flags::REPLY | Flags::NOTICE,
            seq: 0,
            word: turn.status.0,
            total: 0,
        };
        self.send_payload(channel, header, &payload)
    }

    /// Looks for work for a while. Where the session is `full`, what the guest has written is none.
    fn look(&self, channel: &Channel, spin: Duration, full: bool) -> Found {
        let began = Instant::now();
        let waker = self.session.waker();
        loop {
            for _ in 0..32 {
                if waker.progress() != self.seen
                    || !channel.states.orders.is_empty()
                    || self.was_called()
                {
                    return Found::Change;
                }
                if !full && !self.requests.is_empty() {
                    return Found::Request;
                }
                std::hint::spin_loop();
            }
            let passed = began.elapsed();
            if passed >= spin {
                return Found::Nothing;
            }
            if passed >= KEEP_CORE {
                std::thread::yield_now();
            }
        }
    }

    fn record(
        &mut self,
        channel: &Channel,
        header: Header,
        payload: &mut Vec<u8>,
    ) -> Result<(), ChannelFault> {
        if header.flags.contains(Flags::MORE) && self.reserved.is_none() {
            self.reserve(header.total.min(max_request_bytes(header.opcode)))?;
        }
        let message = self
            .assembler
            .push(header, payload, |h| max_request_bytes(h.opcode))
            .map_err(|fault| self.assembly_fault(&fault))?;
        let Some(message) = message else {
            return Ok(());
        };
        let mut writer = Writer::reuse(std::mem::take(&mut self.reply));
        let outcome = self.session.handle(&message, payload, &mut writer);
        self.unreserve();
        if payload.capacity() > MAX_KEPT_BYTES {
            *payload = Vec::new();
        }
        self.finish(channel, &message, outcome, writer)
    }

    /// Sends what has become of a call.
    fn finish(
        &mut self,
        channel: &Channel,
        message: &Message,
        outcome: Reply,
        writer: Writer<'_>,
    ) -> Result<(), ChannelFault> {
        let sent = match outcome {
            Reply::None | Reply::Later => Ok(()),
            Reply::Send(status) => self.send(channel, message, status, &writer),
            Reply::Broken => Err(ChannelFault::Internal),
        };
        let mut buffer = writer.into_buffer();
        buffer.shrink_to(MAX_KEPT_BYTES);
        self.reply = buffer;
        self.show_deferred();
        sent
    }

    /// Keeps the hint word for the guest up to date.
    fn show_deferred(&mut self) {
        let hint = self.session.deferred_error().map_or(0, |status| status.0);
        if hint != self.hint {
            self.hint = hint;
            if let Ok(word) = self.indices.word32(index::DEFERRED_ERROR) {
                word.store(hint, Ordering::Release);
            }
        }
    }

    /// Waits until all channels together hold little enough that `bytes` more are allowed. Who
    /// holds memory has reserved all of its message, so somebody always comes to an end; a guest
    /// that does not holds up only itself.
    fn reserve(&mut self, bytes: u64) -> Result<(), ChannelFault> {
        loop {
            self.reserved = self.device.assembly.take(bytes);
            if self.reserved.is_some() {
                return Ok(());
            }
            if self.cancel.is_set() {
                return Err(ChannelFault::TooLong);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn unreserve(&mut self) {
        self.reserved = None;
    }

    fn send(
        &mut self,
        channel: &Channel,
        message: &Message,
        status: Status,
        reply: &Writer<'_>,
    ) -> Result<(), ChannelFault> {
        let nothing = Writer::new();
        let payload = if status == Status::SUCCESS {
            reply
        } else {
            &nothing
        };
        // The call that takes the text asks until there is none.
        let output = message.opcode != Opcode::vgpuOutput as u16 && self.session.has_output();
        let mut flags = Flags::REPLY;
        flags.set(Flags::OUTPUT, output);
        let header = Header {
            len: 0,
            opcode: message.opcode,
            flags,
            seq: message.seq,
            word: status.0,
            total: 0,
        };
        self.send_payload(channel, header, payload)
    }

    fn send_payload(
        &mut self,
        channel: &Channel,
        header: Header,
        payload: &Writer<'_>,
    ) -> Result<(), ChannelFault> {
        let longest = max_record_bytes(self.replies.memory().capacity());
        send_records(header, payload, longest, |header, record| {
            self.push(channel, header, record)
        })
    }

    fn push(
        &mut self,
        channel: &Channel,
        header: Header,
        record: &[&[u8]],
    ) -> Result<(), ChannelFault> {
        let mut full_since = None;
        loop {
            match self
                .replies
                .push(header, record)
                .map_err(|fault| self.ring_fault(&fault))?
            {
                Pushed::Done { kick } => {
                    if kick && channel.wants_irq() {
                        self.device.raise_irq(self.number);
                    }
                    return Ok(());
                }
                Pushed::Full => {
                    let since: Instant = *full_since.get_or_insert_with(Instant::now);
                    // A release waits for this thread; a guest that does not read must not
                    // make it wait.
                    if self.cancel.is_set() || since.elapsed() > REPLY_STALL {
                        return Err(ChannelFault::ReplyStalled);
                    }
                    std::thread::sleep(Duration::from_micros(20));
                }
            }
        }
    }

    fn ring_fault(&self, fault: &RingFault) -> ChannelFault {
        self.device
            .guest_error(&format!("channel {}: {fault}", self.number));
        match fault {
            RingFault::BadIndex { .. } => ChannelFault::BadIndex,
            RingFault::BadLength { .. } => ChannelFault::BadLength,
        }
    }

    fn assembly_fault(&self, fault: &AssemblyFault) -> ChannelFault {
        self.device
            .guest_error(&format!("channel {}: {fault}", self.number));
        match fault {
            AssemblyFault::BadFragment => ChannelFault::BadFragment,
            AssemblyFault::TooLong { .. } => ChannelFault::TooLong,
        }
    }
}

/// Buffers longer than this are given back after use.
const MAX_KEPT_BYTES: usize = 1 << 20;

impl Drop for Active {
    fn drop(&mut self) {
        self.unreserve();
        // Ends whatever the session still runs, so that dropping it does not wait for the guest.
        self.cancel.set();
    }
}
