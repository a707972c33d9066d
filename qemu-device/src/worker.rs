//! The thread that executes a channel's calls: copy out of the ring, check, dispatch, reply.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use vgpu_mediator::arena::Arena;
use vgpu_mediator::cancel::Cancel;
use vgpu_mediator::session::{Reply, Session, max_request_bytes};
use vgpu_protocol::Status;
use vgpu_protocol::layout::{INDEX_BYTES, index};
use vgpu_protocol::limits::MAX_ASSEMBLY_BYTES;
use vgpu_protocol::message::{Assembler, AssemblyFault, Flags, Fragments, Header, Message};
use vgpu_protocol::regs::ChannelFault;
use vgpu_protocol::ring::{
    Consumer, Producer, Pushed, RingFault, RingMemory, WindowRing, max_record_bytes,
};
use vgpu_protocol::window::{OutOfWindow, Window};
use vgpu_protocol::wire::Writer;

use crate::channel::{Channel, Order};
use crate::device::Shared;

/// How long a worker looks for the next message before it parks. Longer than a guest takes between
/// two calls of a burst, shorter than anybody would notice on an idle machine.
const SPIN: Duration = Duration::from_micros(50);

/// How much of it the worker keeps its core to itself. On a busy machine the guest may be waiting
/// for this very core: a call and its answer would take turns of [`SPIN`] each.
const KEEP_CORE: Duration = Duration::from_micros(2);

/// How long a guest may leave its reply ring full before its channel fails. A guest that never
/// reads would otherwise hold a host thread for ever.
const REPLY_STALL: Duration = Duration::from_secs(30);

/// Starts a channel's worker.
pub(crate) fn spawn(device: Arc<Shared>, channel: Arc<Channel>) -> io::Result<JoinHandle<()>> {
    let name = format!("vgpu-channel-{}", channel.number);
    Builder::new()
        .name(name)
        .spawn(move || run(&device, &channel))
}

fn run(device: &Arc<Shared>, channel: &Arc<Channel>) {
    // Where there is one core only, looking keeps the guest from running.
    let spin = if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        SPIN
    } else {
        Duration::ZERO
    };
    let mut active: Option<Active> = None;
    loop {
        match channel.orders.pop() {
            Some(Order::Open(cancel)) => match Active::open(device, channel, cancel) {
                Ok(opened) => active = Some(opened),
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
        if !channel.orders.is_empty() {
            continue;
        }
        let Some(session) = &mut active else {
            channel.doorbell.wait();
            continue;
        };
        match session.serve(channel, spin) {
            Ok(Served::Parked) => channel.doorbell.wait(),
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
    /// There is an order.
    Interrupted,
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
    reserved: u64,
    payload: Vec<u8>,
    reply: Vec<u8>,
    indices: Window,
    hint: u32,
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
            .mediator
            .open(channel.number, arena, Arc::clone(&cancel))
            .map_err(|status| format!("the backend says {status}"))?;
        Ok(Active {
            device: Arc::clone(device),
            number: channel.number,
            cancel,
            session,
            requests: Consumer::new(requests),
            replies: Producer::new(replies),
            assembler: Assembler::default(),
            reserved: 0,
            payload: Vec::new(),
            reply: Vec::new(),
            indices,
            hint: 0,
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
                index::COMMAND_TAIL,
                index::COMMAND_HEAD,
                index::COMMAND_PARKED,
                commands,
            )?,
            WindowRing::new(
                indices,
                index::REPLY_TAIL,
                index::REPLY_HEAD,
                index::REPLY_PARKED,
                replies,
            )?,
            Arena::new(arena, indices, index::ARENA_HEAD)?,
        ))
    }

    /// Executes what the guest has written, until there is nothing or an order has come.
    fn serve(&mut self, channel: &Channel, spin: Duration) -> Result<Served, ChannelFault> {
        loop {
            if !channel.orders.is_empty() {
                return Ok(Served::Interrupted);
            }
            let mut payload = std::mem::take(&mut self.payload);
            let popped = self
                .requests
                .pop(&mut payload)
                .map_err(|fault| self.ring_fault(&fault))?;
            if let Some(header) = popped {
                let done = self.record(channel, header, &mut payload);
                self.payload = payload;
                done?;
                continue;
            }
            self.payload = payload;
            if self.look(channel, spin) {
                continue;
            }
            if self.requests.park() {
                return Ok(Served::Parked);
            }
        }
    }

    /// Looks for work for a while.
    fn look(&self, channel: &Channel, spin: Duration) -> bool {
        let began = Instant::now();
        loop {
            for _ in 0..32 {
                if !self.requests.is_empty() || !channel.orders.is_empty() {
                    return true;
                }
                std::hint::spin_loop();
            }
            let passed = began.elapsed();
            if passed >= spin {
                return false;
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
        if header.flags.contains(Flags::MORE) && self.reserved == 0 {
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
        let sent = match outcome {
            Reply::None => Ok(()),
            Reply::Send(status) => self.send(channel, &message, status, &writer),
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
        let add = |held: u64| {
            held.checked_add(bytes)
                .filter(|sum| *sum <= MAX_ASSEMBLY_BYTES)
        };
        while self
            .device
            .assembly_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .is_err()
        {
            if self.cancel.is_set() {
                return Err(ChannelFault::TooLong);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.reserved = bytes;
        Ok(())
    }

    fn unreserve(&mut self) {
        self.device
            .assembly_bytes
            .fetch_sub(self.reserved, Ordering::AcqRel);
        self.reserved = 0;
    }

    fn send(
        &mut self,
        channel: &Channel,
        message: &Message,
        status: Status,
        reply: &Writer<'_>,
    ) -> Result<(), ChannelFault> {
        let parts = if status == Status::SUCCESS {
            reply.parts()
        } else {
            Vec::new()
        };
        let mut fragments =
            Fragments::new(parts, max_record_bytes(self.replies.memory().capacity()));
        let total = fragments.total();
        while let Some((record, more)) = fragments.next_record() {
            let header = Header {
                len: 0,
                opcode: message.opcode,
                flags: if more {
                    Flags::REPLY | Flags::MORE
                } else {
                    Flags::REPLY
                },
                seq: message.seq,
                word: status.0,
                total,
                reserved: 0,
            };
            let mut full_since = None;
            loop {
                match self
                    .replies
                    .push(header, &record)
                    .map_err(|fault| self.ring_fault(&fault))?
                {
                    Pushed::Done { kick } => {
                        if kick && channel.wants_irq() {
                            self.device.raise_irq(self.number);
                        }
                        break;
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
        Ok(())
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
