//! Registers, channels and their workers.
#![allow(unsafe_code, reason = "the memory behind a window")]

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use vgpu_protocol::calls::{CtxId, DispatchError, Opcode, dispatch};
use vgpu_protocol::layout::{INDEX_BYTES, Layout, index};
use vgpu_protocol::limits::MAX_MESSAGE_BYTES;
use vgpu_protocol::message::{Assembler, Flags, Fragments, Header, Message};
use vgpu_protocol::regs::{
    ABI_VERSION, ChannelCommand, ChannelReg, ChannelState, DeviceStatus, MAGIC, Place, Reg, decode,
};
use vgpu_protocol::ring::{Consumer, Producer, Pushed, RingMemory, WindowRing, max_record_bytes};
use vgpu_protocol::window::Window;
use vgpu_protocol::wire::Writer;
use vgpu_protocol::{PROTOCOL_HASH, Status};

use super::host::Host;
use crate::bars::{Bars, HeapPiece, PciAddress};
use crate::error::ConnectError;

/// Zeroed memory behind a window.
#[derive(Debug)]
pub struct Memory {
    window: Window,
    layout: std::alloc::Layout,
}

impl Memory {
    /// Allocates `bytes` bytes, page-aligned.
    pub fn new(bytes: usize) -> Memory {
        let layout = std::alloc::Layout::from_size_align(bytes.max(1), 4096).expect("a sane size");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!base.is_null(), "no memory");
        // SAFETY: valid for `bytes` bytes and aligned until dropped; tests keep it longer than its
        // windows, and nobody makes references to it.
        let window = unsafe { Window::new(base, bytes) };
        Memory { window, layout }
    }

    /// The memory.
    pub fn window(&self) -> Window {
        self.window
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { std::alloc::dealloc(self.window.base(), self.layout) };
    }
}

#[derive(Debug, Default)]
struct Lane {
    state: AtomicU32,
    owner: AtomicU32,
    generation: AtomicU32,
    irq: AtomicU32,
    /// Which client has the lock; 0: none.
    locked_by: AtomicU32,
    worker: Mutex<Option<thread::JoinHandle<()>>>,
}

/// The device. Each [`Device::client`] is one process.
pub struct Device {
    memory: Memory,
    layout: Layout,
    lanes: Vec<Lane>,
    host: Mutex<Host>,
    clients: AtomicU32,
    /// Doorbells that were rung.
    pub rung: AtomicU64,
    /// The workers take nothing from the rings while this is set.
    pub paused: AtomicBool,
    /// Replies are held back until there are as many, and then sent last to first.
    pub hold_replies: AtomicU32,
    /// A client can sleep until it is interrupted.
    pub can_interrupt: AtomicBool,
    /// Interrupts so far, and what wakes those who wait for the next.
    pub interrupted: (Mutex<u64>, Condvar),
    /// What [`Reg::HashLo`] is combined with, to pretend another call table.
    pub hash_error: AtomicU32,
    /// What was written to [`Reg::GuestHash`].
    pub guest_hash: AtomicU32,
    /// The ABI version to show.
    pub abi: AtomicU32,
    /// The status bits to show.
    pub status: AtomicU32,
    /// How many of the next pieces of the heap have their address taken in the process.
    pub heap_taken: AtomicU32,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Device {
    /// A device with so much BAR1 and so many channels.
    pub fn new(bar1_bytes: u64, channels: u32) -> Arc<Device> {
        let layout = Layout::new(bar1_bytes, channels).expect("a valid layout");
        let memory = Memory::new(bar1_bytes as usize);
        let mut host = Host::default();
        host.heap_at(&layout, memory.window());
        Arc::new(Device {
            memory,
            layout,
            lanes: (0..channels).map(|_| Lane::default()).collect(),
            host: Mutex::new(host),
            heap_taken: AtomicU32::new(0),
            clients: AtomicU32::new(0),
            rung: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            hold_replies: AtomicU32::new(0),
            can_interrupt: AtomicBool::new(false),
            interrupted: Default::default(),
            hash_error: AtomicU32::new(0),
            guest_hash: AtomicU32::new(0),
            abi: AtomicU32::new(ABI_VERSION),
            status: AtomicU32::new((DeviceStatus::READY | DeviceStatus::SOFT).bits()),
        })
    }

    /// What a new process maps.
    pub fn client(self: &Arc<Device>) -> Box<Client> {
        Box::new(Client {
            device: Arc::clone(self),
            number: self.clients.fetch_add(1, Ordering::Relaxed) + 1,
            channel: OnceLock::new(),
            seen: Mutex::new(0),
        })
    }

    /// The host's side, to look at.
    pub fn host(&self) -> MutexGuard<'_, Host> {
        lock(&self.host)
    }

    /// A channel's state.
    pub fn state(&self, channel: u32) -> Option<ChannelState> {
        ChannelState::from_bits(self.lanes[channel as usize].state.load(Ordering::Acquire))
    }

    /// Puts a channel into a state, as a fault does.
    pub fn set_state(&self, channel: u32, state: ChannelState) {
        self.lanes[channel as usize]
            .state
            .store(state as u32, Ordering::Release);
    }

    /// The index page of a channel.
    pub fn index(&self, channel: u32) -> Window {
        self.memory
            .window()
            .slice(self.layout.area(channel), INDEX_BYTES)
            .expect("inside")
    }

    fn control(self: &Arc<Device>, channel: u32, command: u32) {
        let lane = &self.lanes[channel as usize];
        if command == ChannelCommand::Claim as u32
            && self.state(channel) == Some(ChannelState::Free)
        {
            for (at, bytes) in self.layout.cleared() {
                let at = self.layout.area(channel) + at;
                let zeros = vec![0; bytes as usize];
                self.memory.window().write(at, &zeros).expect("inside");
            }
            lane.generation.fetch_add(1, Ordering::Relaxed);
            self.set_state(channel, ChannelState::Claimed);
            let device = Arc::clone(self);
            let worker = thread::spawn(move || device.work(channel));
            *lock(&lane.worker) = Some(worker);
        } else if command == ChannelCommand::Release as u32 {
            self.set_state(channel, ChannelState::Resetting);
            if let Some(worker) = lock(&lane.worker).take() {
                worker.thread().unpark();
                worker.join().expect("the worker does not panic");
            }
            self.host().forget(channel);
            self.set_state(channel, ChannelState::Free);
        }
    }

    fn work(&self, channel: u32) {
        let area = self
            .memory
            .window()
            .slice(self.layout.area(channel), self.layout.area_bytes)
            .expect("inside");
        let part = |at, bytes| area.slice(at, bytes).expect("inside");
        let indices = part(0, INDEX_BYTES);
        let mut commands = Consumer::new(
            WindowRing::new(
                indices,
                index::COMMAND_HEAD,
                index::COMMAND_PARKED,
                part(self.layout.command_ring(), self.layout.command_bytes),
            )
            .expect("inside"),
        );
        let mut replies = Producer::new(
            WindowRing::new(
                indices,
                index::REPLY_HEAD,
                index::REPLY_PARKED,
                part(self.layout.reply_ring(), self.layout.reply_bytes),
            )
            .expect("inside"),
        );
        let arena = part(self.layout.arena(), self.layout.arena_bytes);
        let mut assembler = Assembler::default();
        let mut payload = Vec::new();
        let mut deferred = Status::SUCCESS;
        let mut held: VecDeque<(Message, Status, Vec<u8>)> = VecDeque::new();
        while self.state(channel) == Some(ChannelState::Claimed) {
            if self.paused.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let Some(header) = commands
                .pop(&mut payload)
                .expect("the guest keeps the rules")
            else {
                if commands.park() {
                    thread::park_timeout(Duration::from_secs(1));
                }
                commands.unpark();
                continue;
            };
            let message = assembler
                .push(header, &mut payload, |_| MAX_MESSAGE_BYTES)
                .expect("the guest keeps the rules");
            let Some(message) = message else { continue };
            let opcode = Opcode::from_wire(message.opcode).expect("a call of the table");
            let mut writer = Writer::new();
            let mut host = self.host();
            host.enter(channel, opcode, indices, arena);
            let status = match dispatch(
                &mut *host,
                opcode,
                CtxId(message.word),
                &payload,
                &mut writer,
            ) {
                Ok(()) => Status::SUCCESS,
                Err(DispatchError::Failed(status)) => status,
                Err(DispatchError::Malformed(error)) => panic!("{opcode:?}: {error}"),
            };
            drop(host);
            if message.flags.contains(Flags::POSTED) {
                if deferred == Status::SUCCESS {
                    deferred = status;
                }
                continue;
            }
            let mut status = status;
            if opcode.info().mode == vgpu_protocol::calls::Mode::waits
                && deferred != Status::SUCCESS
            {
                status = std::mem::replace(&mut deferred, Status::SUCCESS);
                writer = Writer::new();
            }
            let bytes = writer.parts().concat();
            held.push_back((message, status, bytes));
            if held.len() < self.hold_replies.load(Ordering::Acquire) as usize {
                continue;
            }
            while let Some((message, status, bytes)) = held.pop_back() {
                self.reply(channel, &mut replies, message, status, &bytes);
            }
        }
    }

    fn reply(
        &self,
        channel: u32,
        replies: &mut Producer<WindowRing>,
        message: Message,
        status: Status,
        bytes: &[u8],
    ) {
        let longest = max_record_bytes(replies.memory().capacity());
        let mut fragments = Fragments::new(vec![bytes], longest);
        while let Some((parts, more)) = fragments.next_record() {
            let mut flags = Flags::REPLY;
            let output = Opcode::vgpuOutput as u16 != message.opcode;
            flags.set(Flags::OUTPUT, output && lock(&self.host).has_text());
            flags.set(Flags::MORE, more);
            let header = Header {
                len: 0,
                opcode: message.opcode,
                flags,
                seq: message.seq,
                word: status.0,
                total: bytes.len() as u64,
            };
            loop {
                let pushed = replies.push(header, &parts);
                match pushed.expect("the guest keeps the rules") {
                    Pushed::Done { kick } => {
                        let enabled = self.lanes[channel as usize].irq.load(Ordering::Acquire);
                        if kick && enabled != 0 {
                            *lock(&self.interrupted.0) += 1;
                            self.interrupted.1.notify_all();
                        }
                        break;
                    }
                    Pushed::Full if self.state(channel) != Some(ChannelState::Claimed) => return,
                    Pushed::Full => thread::yield_now(),
                }
            }
        }
    }
}

/// One process's view of the device.
#[derive(Debug)]
pub struct Client {
    device: Arc<Device>,
    number: u32,
    channel: OnceLock<u32>,
    /// Interrupts that it has seen.
    seen: Mutex<u64>,
}

impl Client {
    /// What the kernel does for a process that is killed: its locks go.
    pub fn killed(device: &Device, number: u32) {
        for lane in &device.lanes {
            let _ = lane
                .locked_by
                .compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// The process's number.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Bars for Client {
    fn found(&self) -> String {
        "0000:00:05.0 (vendor=0x10de device=0x2331 class=0x030200 match=exact)".into()
    }

    fn address(&self) -> Option<PciAddress> {
        PciAddress::parse("0000:00:05.0")
    }

    fn read32(&self, offset: u64) -> Result<u32, ConnectError> {
        let device = &self.device;
        Ok(match decode(offset) {
            Place::Control(reg) => match reg {
                Reg::Magic => MAGIC,
                Reg::AbiVersion => device.abi.load(Ordering::Relaxed),
                Reg::HashLo => PROTOCOL_HASH as u32 ^ device.hash_error.load(Ordering::Relaxed),
                Reg::HashHi => (PROTOCOL_HASH >> 32) as u32,
                Reg::VmId => 111,
                Reg::Channels => device.layout.channels,
                Reg::Bar1SizeLo => device.layout.bar1_bytes as u32,
                Reg::Bar1SizeHi => (device.layout.bar1_bytes >> 32) as u32,
                Reg::Status => device.status.load(Ordering::Relaxed),
                _ => 0,
            },
            Place::Channel(channel, reg) => {
                let lane = &device.lanes[channel as usize];
                match reg {
                    ChannelReg::State => lane.state.load(Ordering::Acquire),
                    ChannelReg::Owner => lane.owner.load(Ordering::Relaxed),
                    ChannelReg::Generation => lane.generation.load(Ordering::Relaxed),
                    _ => 0,
                }
            }
            Place::Hole => 0,
        })
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), ConnectError> {
        if let Place::Control(Reg::GuestHash) = decode(offset) {
            self.device.guest_hash.store(value, Ordering::Relaxed);
        }
        if let Place::Channel(channel, reg) = decode(offset) {
            match reg {
                ChannelReg::Control => self.device.control(channel, value),
                ChannelReg::Owner => {
                    self.device.lanes[channel as usize]
                        .owner
                        .store(value, Ordering::Relaxed);
                }
                ChannelReg::IrqEnable => {
                    let irq = &self.device.lanes[channel as usize].irq;
                    irq.store(value, Ordering::Release);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&self, layout: &Layout, channel: u32) -> Result<Window, ConnectError> {
        assert_eq!(*layout, self.device.layout);
        self.channel.set(channel).expect("opened once");
        Ok(self
            .device
            .memory
            .window()
            .slice(layout.area(channel), layout.area_bytes)
            .expect("inside"))
    }

    fn map_heap(&self, offset: u64, bytes: u64, address: u64) -> Result<HeapPiece, ConnectError> {
        // The host's memory is this process's, at the host's address, unless something is "there".
        if self.device.heap_taken.load(Ordering::Acquire) > 0 {
            self.device.heap_taken.fetch_sub(1, Ordering::AcqRel);
            let elsewhere = Box::leak(Box::new(Memory::new(bytes as usize)));
            return Ok(HeapPiece::of(elsewhere.window()));
        }
        let window = self
            .device
            .memory
            .window()
            .slice(offset, bytes)
            .expect("inside");
        assert_eq!(window.base() as u64, address);
        Ok(HeapPiece::of(window))
    }

    fn ring(&self) {
        self.device.rung.fetch_add(1, Ordering::Relaxed);
        let lane = &self.device.lanes[*self.channel.get().expect("open") as usize];
        if let Some(worker) = lock(&lane.worker).as_ref() {
            worker.thread().unpark();
        }
    }

    fn interrupts(&self) -> bool {
        self.device.can_interrupt.load(Ordering::Relaxed)
    }

    // However long it is to wait: a reply that comes without an interrupt is a defect here.
    fn wait_interrupt(&self, _limit: Duration) -> Result<(), ConnectError> {
        let (count, more) = &self.device.interrupted;
        let mut seen = lock(&self.seen);
        let never = Duration::from_secs(120);
        let waited = more.wait_timeout_while(lock(count), never, |count| *count == *seen);
        let (count, ended) = waited.unwrap_or_else(|e| e.into_inner());
        assert!(!ended.timed_out(), "an interrupt was lost");
        *seen = *count;
        Ok(())
    }

    fn try_lock(&self, channel: u32) -> Result<bool, ConnectError> {
        let holder = &self.device.lanes[channel as usize].locked_by;
        let taken = holder.compare_exchange(0, self.number, Ordering::AcqRel, Ordering::Acquire);
        Ok(taken.is_ok_and(|_| true) || taken == Err(self.number))
    }

    fn unlock(&self, channel: u32) {
        self.device.lanes[channel as usize]
            .locked_by
            .store(0, Ordering::Release);
    }

    fn owned_here(&self, _: u32) -> bool {
        false
    }

    fn descriptors(&self) -> Vec<i32> {
        Vec::new()
    }
}
