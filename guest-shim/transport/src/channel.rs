//! One claimed channel: sends requests, hands replies to the threads that wait for them.
//!
//! Threads send under one lock and receive under another, so that a thread that waits does not
//! keep others from posting. Whoever has the receiving lock takes replies out of the ring and puts
//! those of others where they find them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use vgpu_protocol::calls::{CtxId, HelloInfo, Mode, Opcode, Remote, StreamId, request, stubs};
use vgpu_protocol::layout::{Layout, index};
use vgpu_protocol::limits::{MAX_BAR1_BYTES, MAX_CHANNELS, MAX_CLIENT_BYTES, MAX_MESSAGE_BYTES};
use vgpu_protocol::message::{Assembler, Flags, Fragments, HEADER_BYTES, Header};
use vgpu_protocol::regs::{
    ABI_VERSION, ChannelReg, ChannelState, DeviceStatus, Reg, channel_offset,
};
use vgpu_protocol::ring::{Consumer, Producer, Pushed, WindowRing, max_record_bytes};
use vgpu_protocol::window::{OutOfWindow, Window};
use vgpu_protocol::wire::{WireError, Writer};
use vgpu_protocol::{PROTOCOL_HASH, Status};

use crate::arena::Arena;
use crate::bars::{Bars, PciAddress};
use crate::calls::Calls;
use crate::claim;
use crate::error::ConnectError;
use crate::{log_calls, log_debug};

/// How long a device that has just appeared may take to become ready.
const READY_TIME: Duration = Duration::from_secs(5);

/// Longest reply, in bytes: it keeps a damaged length from exhausting memory.
const MAX_REPLY_BYTES: u64 = 64 << 20;

/// How long a waiting thread spins before it gives its core away, on which the answer may be
/// waiting to be computed. A call that the host answers at once takes less.
const SPIN_TIME: Duration = Duration::from_micros(2);

/// How long it goes on giving its core away before it sleeps: what short kernels take.
const YIELD_TIME: Duration = Duration::from_micros(200);

/// First and longest sleep. The longest bounds what a wait may add to a long kernel.
const SLEEP_TIMES: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// How often a waiting thread looks whether the channel still lives; each look exits the VM.
const LOOK_TIME: Duration = Duration::from_millis(50);

/// How long the end of the process waits for the host to take what was posted.
const DRAIN_TIME: Duration = Duration::from_secs(1);

struct Sender {
    ring: Producer<WindowRing>,
    seq: u32,
}

struct Receiver {
    ring: Consumer<WindowRing>,
    assembler: Assembler,
    payload: Vec<u8>,
}

pub(crate) struct Reply {
    status: Status,
    payload: Vec<u8>,
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

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Checks that the device and this library understand each other; gives its layout.
fn check(bars: &dyn Bars) -> Result<Layout, ConnectError> {
    let read = |reg: Reg| bars.read32(reg.offset());
    let abi = read(Reg::AbiVersion)?;
    if abi >> 16 != ABI_VERSION >> 16 {
        return Err(ConnectError::AbiVersion {
            device: abi,
            library: ABI_VERSION,
        });
    }
    let hash = pair(read(Reg::HashLo)?, read(Reg::HashHi)?);
    if hash != PROTOCOL_HASH {
        // The host's user is told, too. An older device has no such register, and ignores it.
        let _ = bars.write32(Reg::GuestHash.offset(), PROTOCOL_HASH as u32);
        return Err(ConnectError::ProtocolHash {
            device: hash,
            library: PROTOCOL_HASH,
        });
    }
    let start = Instant::now();
    loop {
        let status = read(Reg::Status)?;
        let bits = DeviceStatus::from_bits_truncate(status);
        if bits.contains(DeviceStatus::BROKEN) {
            return Err(ConnectError::Broken { status });
        }
        if bits.contains(DeviceStatus::READY) {
            break;
        }
        if start.elapsed() >= READY_TIME {
            return Err(ConnectError::NotReady {
                status,
                seconds: READY_TIME.as_secs(),
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
    let bar1_bytes = pair(read(Reg::Bar1SizeLo)?, read(Reg::Bar1SizeHi)?);
    Layout::new(
        bar1_bytes.min(2 * MAX_BAR1_BYTES),
        read(Reg::Channels)?.min(MAX_CHANNELS + 1),
    )
    .map_err(|e| ConnectError::Layout(e.to_string()))
}

/// Name of this program, as the host's counters show it.
fn client() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    let mut name = name.to_string_lossy().into_owned();
    let mut end = name.len().min(MAX_CLIENT_BYTES as usize);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

impl Channel {
    /// Claims a channel of the device.
    pub fn open(bars: Box<dyn Bars>) -> Result<Channel, ConnectError> {
        log_calls!("Found VGPU-STUB at {}", bars.found());
        let layout = check(&*bars)?;
        let number = claim::claim(&*bars, layout.channels)?;
        let opened = Channel::over(bars, &layout, number)?;
        log_calls!(
            "Connected to VGPU-STUB (vm_id={}, data_path=BAR1)",
            opened.hello.vm_id
        );
        Ok(opened)
    }

    fn over(bars: Box<dyn Bars>, layout: &Layout, number: u32) -> Result<Channel, ConnectError> {
        let area = bars.open(layout, number)?;
        let outside = |e: OutOfWindow| ConnectError::Layout(e.to_string());
        let index = area
            .slice(0, vgpu_protocol::layout::INDEX_BYTES)
            .map_err(outside)?;
        let command = area
            .slice(layout.command_ring(), layout.command_bytes)
            .map_err(outside)?;
        let reply = area
            .slice(layout.reply_ring(), layout.reply_bytes)
            .map_err(outside)?;
        let arena = area
            .slice(layout.arena(), layout.arena_bytes)
            .map_err(outside)?;
        let command = WindowRing::new(
            index,
            index::COMMAND_TAIL,
            index::COMMAND_HEAD,
            index::COMMAND_PARKED,
            command,
        )
        .map_err(outside)?;
        let reply = WindowRing::new(
            index,
            index::REPLY_TAIL,
            index::REPLY_HEAD,
            index::REPLY_PARKED,
            reply,
        )
        .map_err(outside)?;
        let mut channel = Channel {
            bars,
            number,
            index,
            arena: Arena::new(index, arena),
            sender: Mutex::new(Sender {
                ring: Producer::new(command),
                seq: 0,
            }),
            receiver: Mutex::new(Receiver {
                ring: Consumer::new(reply),
                assembler: Assembler::default(),
                payload: Vec::new(),
            }),
            mail: Mutex::new(HashMap::new()),
            letters: AtomicUsize::new(0),
            suspects: Mutex::default(),
            suspecting: AtomicBool::new(false),
            calls: Calls::default(),
            doorbells: AtomicU64::new(0),
            dead: AtomicU32::new(0),
            output: AtomicBool::new(false),
            on_output: OnceLock::new(),
            // On one core the thread that spins may be what keeps the answer from being written.
            spins: thread::available_parallelism().is_ok_and(|n| n.get() > 1),
            interrupts: AtomicBool::new(false),
            sync: std::env::var_os("VGPU_SYNC").is_some_and(|v| v != "0" && !v.is_empty()),
            hello: HelloInfo::default(),
        };
        channel.hello = stubs::hello(&channel, CtxId(0), &client(), std::process::id())
            .map_err(ConnectError::Refused)?;
        if channel.bars.interrupts() {
            let enable = channel_offset(number, ChannelReg::IrqEnable);
            channel.bars.write32(enable, 1)?;
            channel.interrupts.store(true, Ordering::Relaxed);
            log_calls!("channel {number}: replies interrupt");
        }
        Ok(channel)
    }

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

    /// Starts a wait.
    pub(crate) fn patience(&self) -> Patience<'_> {
        Patience {
            channel: self,
            start: None,
            sleep: SLEEP_TIMES.0,
            looked: Duration::ZERO,
        }
    }

    fn push(&self, sender: &mut Sender, header: Header, parts: &[&[u8]]) -> Result<(), Status> {
        let mut patience = self.patience();
        loop {
            match sender.ring.push(header, parts) {
                Ok(Pushed::Done { kick }) => {
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
        let mut header = Header {
            len: 0,
            opcode: opcode as u16,
            flags,
            seq: 0,
            word: ctx.0,
            total: 0,
            reserved: 0,
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
        match request.contiguous() {
            Some(all) if (HEADER_BYTES + all.len().next_multiple_of(8)) as u64 <= longest => {
                header.total = all.len() as u64;
                self.push(&mut sender, header, &[all])?;
            }
            _ => {
                let mut fragments = Fragments::new(request.parts(), longest);
                header.total = fragments.total();
                if header.total > MAX_MESSAGE_BYTES {
                    return Err(Status::ERROR_INVALID_VALUE);
                }
                while let Some((parts, more)) = fragments.next_record() {
                    let mut header = header;
                    header.flags.set(Flags::MORE, more);
                    self.push(&mut sender, header, &parts)?;
                }
            }
        }
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
                payload: std::mem::take(payload),
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
                // Another thread may have delivered it just before it let go of the lock.
                if let Some(found) = found() {
                    return Ok(found);
                }
                if let Some(reply) = self.take_replies(&mut receiver, seq)?
                    && let Some(own) = own(reply)
                {
                    return Ok(own);
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
        decode(&reply.payload).map_err(|error| {
            crate::log::line(format_args!("reply to {}: {error}", opcode.info().name));
            Status::ERROR_UNKNOWN
        })
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
    fn backlog(&self) -> u64 {
        let word = |at| {
            self.index
                .word64(at)
                .map_or(0, |w| w.load(Ordering::Acquire))
        };
        word(index::COMMAND_TAIL).saturating_sub(word(index::COMMAND_HEAD))
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

/// A wait that gives the core away ever more, and notices when the channel has died.
pub(crate) struct Patience<'a> {
    channel: &'a Channel,
    start: Option<Instant>,
    sleep: Duration,
    looked: Duration,
}

impl Patience<'_> {
    /// Lets some time pass.
    pub(crate) fn wait(&mut self) -> Result<(), Status> {
        self.channel.check_alive()?;
        let start = *self.start.get_or_insert_with(Instant::now);
        let passed = start.elapsed();
        if self.channel.spins && passed < SPIN_TIME {
            std::hint::spin_loop();
            return Ok(());
        }
        if passed < YIELD_TIME {
            thread::yield_now();
            return Ok(());
        }
        self.look()?;
        thread::sleep(self.sleep);
        self.sleep = (self.sleep * 2).min(SLEEP_TIMES.1);
        Ok(())
    }

    /// True when the wait has lasted so long that the thread should sleep.
    fn is_at_its_end(&self) -> bool {
        self.start
            .is_some_and(|start| start.elapsed() >= YIELD_TIME)
    }

    /// Looks now and then whether the channel lives.
    fn look(&mut self) -> Result<(), Status> {
        let passed = self.start.map_or(Duration::ZERO, |start| start.elapsed());
        if passed - self.looked >= LOOK_TIME {
            self.looked = passed;
            self.channel.look()?;
        }
        self.channel.check_alive()
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
