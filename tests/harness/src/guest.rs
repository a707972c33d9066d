//! A guest process: claims a channel, sends calls, reads replies. It shares nothing with the
//! shims but the protocol crate.

use std::cell::{Cell, RefCell};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, Mode, Opcode, Remote, stubs};
use vgpu_protocol::layout::index;
use vgpu_protocol::message::{Assembler, END_OFFSET, Flags, Fragments, Header, Message};
use vgpu_protocol::ring::{Consumer, Producer, Pushed, RingMemory, max_record_bytes};
use vgpu_protocol::wire::{WireError, Writer};

use crate::machine::{Machine, wait_until};

/// A ring in the machine's BAR1.
#[derive(Debug)]
pub struct MachineRing<'m, M> {
    machine: &'m M,
    head: u64,
    parked: u64,
    data: u64,
    bytes: u64,
}

impl<M: Machine> RingMemory for MachineRing<'_, M> {
    fn capacity(&self) -> u64 {
        self.bytes
    }
    fn load_end(&self, at: u64) -> u64 {
        self.machine.load64(self.data + at)
    }
    fn store_end(&self, at: u64, value: u64) {
        self.machine.store64(self.data + at, value);
    }
    fn load_head(&self) -> u64 {
        self.machine.load64(self.head)
    }
    fn store_head(&self, value: u64) {
        self.machine.store64(self.head, value);
    }
    fn parked(&self) -> bool {
        self.machine.load32(self.parked) != 0
    }
    fn set_parked(&self, parked: bool) {
        self.machine.store32(self.parked, parked.into());
    }
    fn take_parked(&self) -> bool {
        self.machine.take32(self.parked)
    }
    fn full_fence(&self) {
        self.machine.fence();
    }
    fn read(&self, at: u64, into: &mut [u8]) {
        self.machine.bar1_read(self.data + at, into);
    }
    fn write(&self, at: u64, from: &[u8]) {
        self.machine.bar1_write(self.data + at, from);
    }
}

/// A guest process with a channel.
pub struct Guest<'m, M: Machine> {
    /// The machine it runs in.
    pub machine: &'m M,
    /// Its channel.
    pub channel: u32,
    /// Doorbells that it had to ring.
    pub doorbells: Cell<u32>,
    commands: RefCell<Producer<MachineRing<'m, M>>>,
    replies: RefCell<Consumer<MachineRing<'m, M>>>,
    assembler: RefCell<Assembler>,
    seq: Cell<u32>,
}

impl<'m, M: Machine> Guest<'m, M> {
    /// Claims a channel.
    pub fn claim(machine: &'m M, channel: u32) -> Guest<'m, M> {
        machine.claim(channel);
        Guest::of_claimed(machine, channel)
    }

    /// A guest on a channel that has just been claimed.
    pub fn of_claimed(machine: &'m M, channel: u32) -> Guest<'m, M> {
        let layout = machine.layout();
        let area = layout.area(channel);
        let ring = |head, parked, data, bytes| MachineRing {
            machine,
            head: area + head,
            parked: area + parked,
            data: area + data,
            bytes,
        };
        let commands = ring(
            index::COMMAND_HEAD,
            index::COMMAND_PARKED,
            layout.command_ring(),
            layout.command_bytes,
        );
        let replies = ring(
            index::REPLY_HEAD,
            index::REPLY_PARKED,
            layout.reply_ring(),
            layout.reply_bytes,
        );
        Guest {
            machine,
            channel,
            doorbells: Cell::new(0),
            commands: RefCell::new(Producer::new(commands)),
            replies: RefCell::new(Consumer::new(replies)),
            assembler: RefCell::default(),
            seq: Cell::new(0),
        }
    }

    /// Offset in BAR1 of a word of the channel's index page.
    pub fn word(&self, index: u64) -> u64 {
        self.machine.layout().area(self.channel) + index
    }

    /// Bytes that it has written to the command ring.
    pub fn sent(&self) -> u64 {
        self.commands.borrow().tail()
    }

    /// Waits until the host has taken all of it.
    pub fn wait_until_taken(&self) {
        let head = self.word(index::COMMAND_HEAD);
        wait_until("the worker has taken what was sent", || {
            self.machine.load64(head) == self.sent()
        });
    }

    /// Stores a word `end` in the command ring, for the record at `at`, whatever lies there.
    pub fn store_end(&self, at: u64, end: u64) {
        let ring = self.word(self.machine.layout().command_ring());
        self.machine.store64(ring + at + END_OFFSET as u64, end);
    }

    /// Rings the channel's doorbell.
    pub fn ring(&self) {
        self.doorbells.set(self.doorbells.get() + 1);
        self.machine.ring(self.channel);
    }

    /// Writes one record as it is. Tells whether the doorbell must be rung; `None` when there is
    /// no room.
    pub fn push(&self, header: Header, parts: &[&[u8]]) -> Option<bool> {
        match self
            .commands
            .borrow_mut()
            .push(header, parts)
            .expect("the host's indices are possible")
        {
            Pushed::Done { kick } => Some(kick),
            Pushed::Full => None,
        }
    }

    /// Writes one record and rings the doorbell where the ring asks for it.
    pub fn push_and_ring(&self, header: Header, parts: &[&[u8]]) {
        let mut kick = None;
        wait_until("there is room in the command ring", || {
            kick = self.push(header, parts);
            kick.is_some()
        });
        if kick == Some(true) {
            self.ring();
        }
    }

    /// The header of the next message.
    pub fn header(&self, opcode: u16, flags: Flags, ctx: CtxId, total: usize) -> Header {
        self.seq.set(self.seq.get().wrapping_add(1));
        Header {
            len: 0,
            opcode,
            flags,
            seq: self.seq.get(),
            word: ctx.0,
            total: total as u64,
        }
    }

    /// Sends a message, in as many records as it takes. Returns its sequence number.
    pub fn send(&self, opcode: u16, flags: Flags, ctx: CtxId, parts: Vec<&[u8]>) -> u32 {
        let capacity = self.machine.layout().command_bytes;
        let mut fragments = Fragments::new(parts, max_record_bytes(capacity));
        let header = self.header(opcode, flags, ctx, fragments.total() as usize);
        while let Some((record, more)) = fragments.next_record() {
            let more = if more { Flags::MORE } else { Flags::empty() };
            self.push_and_ring(
                Header {
                    flags: flags | more,
                    ..header
                },
                &record,
            );
        }
        header.seq
    }

    /// The next reply, when there is one.
    pub fn try_receive(&self) -> Option<(Message, Vec<u8>)> {
        let mut payload = Vec::new();
        loop {
            let header = self
                .replies
                .borrow_mut()
                .pop(&mut payload)
                .expect("a valid reply ring")?;
            assert!(header.flags.contains(Flags::REPLY), "{header:?}");
            let whole = self
                .assembler
                .borrow_mut()
                .push(header, &mut payload, |_| u64::MAX);
            if let Some(message) = whole.expect("replies are well-formed") {
                return Some((message, payload));
            }
        }
    }

    /// Waits for the next reply.
    pub fn receive(&self) -> (Message, Vec<u8>) {
        let mut reply = None;
        wait_until("a reply comes", || {
            reply = self.try_receive();
            reply.is_some()
        });
        reply.expect("waited for")
    }

    /// Sends a message and waits for its reply: status and payload.
    pub fn ask(&self, opcode: u16, ctx: CtxId, payload: &[u8]) -> (Status, Vec<u8>) {
        let seq = self.send(opcode, Flags::empty(), ctx, vec![payload]);
        let (message, payload) = self.receive();
        assert_eq!((message.opcode, message.seq), (opcode, seq));
        (Status(message.word), payload)
    }

    /// Announces that it will sleep until an interrupt comes; false when a reply is there.
    pub fn park(&self) -> bool {
        self.replies.borrow_mut().park()
    }

    /// Waits until the channel's worker sleeps.
    pub fn wait_until_worker_sleeps(&self) {
        let parked = self.word(index::COMMAND_PARKED);
        wait_until("the worker sleeps", || self.machine.load32(parked) == 1);
    }

    /// Says hello and initialises the driver; checks that the right channel answers.
    pub fn hello(&self) {
        let info = stubs::hello(self, CtxId(0), "test", 1).expect("hello");
        assert_eq!(
            (info.vm_id, info.channel),
            (crate::machine::VM_ID, self.channel)
        );
        assert_eq!(info.backend, "soft");
        stubs::init(self, CtxId(0), 0).expect("cuInit");
    }

    /// A primary context, ready for work.
    pub fn context(&self) -> CtxId {
        self.hello();
        stubs::primary_ctx_retain(self, CtxId(0), 0).expect("context")
    }

    /// Releases the channel and waits until it is free.
    pub fn release(self) {
        self.machine.release(self.channel);
    }
}

impl<M: Machine> Remote for Guest<'_, M> {
    fn call<T>(
        &self,
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        decode: &mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Status> {
        let posted = opcode.info().mode == Mode::posted;
        let flags = if posted {
            Flags::POSTED
        } else {
            Flags::empty()
        };
        let seq = self.send(opcode as u16, flags, ctx, request.parts());
        if posted {
            return Ok(decode(&[]).expect("posted calls return nothing"));
        }
        let (message, payload) = self.receive();
        assert_eq!((message.opcode, message.seq), (opcode as u16, seq));
        Status(message.word).ok()?;
        Ok(decode(&payload).expect("the reply decodes"))
    }
}
