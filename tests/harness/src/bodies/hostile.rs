//! Guests that break the protocol. After each: the device lives, other channels work, and the
//! channel works again after a release.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, Opcode, StreamId, request, stubs};
use vgpu_protocol::layout::{INDEX_BYTES, index};
use vgpu_protocol::limits::{MAX_ASSEMBLY_BYTES, MAX_CLIENT_BYTES, MAX_QUEUED_OPERATIONS};
use vgpu_protocol::message::{END_OFFSET, Flags, HEADER_BYTES, Header};
use vgpu_protocol::regs::{ChannelFault, ChannelReg, ChannelState};
use vgpu_protocol::ring::LINE_BYTES;
use vgpu_protocol::wire::Writer;

use crate::guest::Guest;
use crate::machine::{Machine, Spec, wait_until};
use crate::ptx;

/// Lets `attack` loose on channel 1 while channel 0 works, and checks what became of it.
fn attacked<M: Machine>(m: &M, fault: ChannelFault, attack: impl FnOnce(&Guest<'_, M>)) {
    let guest = Guest::claim(m, 1);
    attack(&guest);
    m.expect_fault(1, fault);
    // Failed until it is released, whatever the guest does.
    guest.ring();
    m.set_channel_reg(1, ChannelReg::Control, 1);
    assert_eq!(m.state(1), ChannelState::Failed);
    m.release(1);
    assert_eq!(
        m.channel_reg(1, ChannelReg::Fault),
        0,
        "the fault goes with the session"
    );
    let again = Guest::claim(m, 1);
    again.hello();
    again.release();
}

/// Numbers without a pattern, the same in every run.
pub struct Random(u64);

impl Random {
    /// Begins at `seed`, not 0.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next one (xorshift64*, Marsaglia and Vigna).
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8))
            .flat_map(|_| self.draw().to_le_bytes())
            .take(count)
            .collect()
    }
}

pub fn impossible_ends<M: Machine>() {
    let m = M::start(Spec::default());
    let bystander = Guest::claim(&m, 0);
    let longest = m.layout().command_bytes / 4;
    for end in [
        8,
        LINE_BYTES + 8,
        longest + LINE_BYTES,
        1 << 63,
        u64::MAX - 63,
        u64::MAX,
    ] {
        attacked(&m, ChannelFault::BadIndex, |guest| {
            guest.store_end(0, end);
            guest.ring();
        });
        bystander.hello();
    }
    assert!(m.logged("ring indices are impossible"));
    // What is not ahead of what was consumed is nothing new.
    let guest = Guest::claim(&m, 1);
    guest.hello();
    for end in [guest.sent(), guest.sent() - 1, LINE_BYTES, 0] {
        guest.wait_until_worker_sleeps();
        guest.store_end(guest.sent(), end);
        guest.ring();
        guest.wait_until_worker_sleeps();
    }
    guest.hello();
    bystander.hello();
}

pub fn impossible_lengths<M: Machine>() {
    let m = M::start(Spec::default());
    let bystander = Guest::claim(&m, 0);
    let longest = m.layout().command_bytes / 4;
    let cases = [
        (0, 64),
        (24, 64),
        (33, 64),
        (36, 64),
        (72, 64),
        (64, 128),
        (longest as u32 + 8, longest),
        (u32::MAX - 7, longest),
        (u32::MAX, longest),
    ];
    for (len, end) in cases {
        attacked(&m, ChannelFault::BadLength, |guest| {
            let raw = Header {
                len,
                ..guest.header(1, Flags::empty(), CtxId(0), 0)
            }
            .to_bytes();
            m.bar1_write(guest.word(m.layout().command_ring()), &raw);
            guest.store_end(0, end);
            guest.ring();
        });
    }
    assert!(m.logged("record length"));
    bystander.hello();
}

pub fn impossible_reply_heads<M: Machine>() {
    // The smallest reply ring: 16 KiB.
    let m = M::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    for head in [4u64, 1 << 20, u64::MAX, u64::MAX - 7] {
        attacked(&m, ChannelFault::BadIndex, |guest| {
            m.store64(guest.word(index::REPLY_HEAD), head);
            // The host looks at the head when it needs the room.
            for _ in 0..m.layout().reply_bytes / LINE_BYTES + 1 {
                guest.send(0x7fff, Flags::empty(), CtxId(0), vec![]);
                if m.state(1) == ChannelState::Failed {
                    break;
                }
            }
        });
    }
}

pub fn fragments_that_do_not_continue<M: Machine>() {
    let m = M::start(Spec::default());
    let load = Opcode::cuModuleLoadDataEx as u16;
    let begin = |guest: &Guest<'_, M>| {
        let first = Header {
            flags: Flags::MORE,
            ..guest.header(load, Flags::empty(), CtxId(0), 64)
        };
        guest.push_and_ring(first, &[&[0; 32]]);
        Header {
            flags: Flags::empty(),
            ..first
        }
    };
    type Damage = fn(Header) -> Header;
    let damages: [Damage; 6] = [
        |h| Header {
            seq: h.seq ^ 1,
            ..h
        },
        |h| Header {
            opcode: h.opcode ^ 1,
            ..h
        },
        |h| Header {
            word: h.word ^ 1,
            ..h
        },
        |h| Header {
            total: h.total + 8,
            ..h
        },
        |h| Header {
            flags: h.flags | Flags::POSTED,
            ..h
        },
        |h| Header {
            flags: h.flags | Flags::MORE,
            ..h
        },
    ];
    for damage in damages {
        attacked(&m, ChannelFault::BadFragment, |guest| {
            let last = begin(guest);
            guest.push_and_ring(damage(last), &[&[0; 32]]);
        });
    }
    for last in [0usize, 24, 40] {
        attacked(&m, ChannelFault::BadFragment, |guest| {
            let header = begin(guest);
            guest.push_and_ring(header, &[&vec![0; last]]);
        });
    }
    // A first record with more, or less, than its message has.
    attacked(&m, ChannelFault::BadFragment, |guest| {
        guest.push_and_ring(guest.header(load, Flags::empty(), CtxId(0), 8), &[&[0; 32]]);
    });
    attacked(&m, ChannelFault::BadFragment, |guest| {
        guest.push_and_ring(guest.header(load, Flags::MORE, CtxId(0), 64), &[]);
    });
}

pub fn messages_at_and_above_their_limit<M: Machine>() {
    let m = M::start(Spec::default());
    let padded = |n: u64| vec![0u8; (n as usize).next_multiple_of(8)];
    for opcode in [
        Opcode::vgpuHello,
        Opcode::cuMemAlloc,
        Opcode::cuCtxSynchronize,
    ] {
        let limit = opcode.info().max_bytes;
        let guest = Guest::claim(&m, 1);
        let header = guest.header(opcode as u16, Flags::empty(), CtxId(0), limit as usize);
        guest.push_and_ring(header, &[&padded(limit)]);
        // Well-formed or not: it is answered.
        guest.receive();
        guest.release();
        attacked(&m, ChannelFault::TooLong, |guest| {
            let header = guest.header(opcode as u16, Flags::empty(), CtxId(0), limit as usize + 1);
            guest.push_and_ring(header, &[&padded(limit + 1)]);
        });
    }
    // Calls that nobody knows.
    let guest = Guest::claim(&m, 1);
    let (status, _) = guest.ask(0x7fff, CtxId(0), &[0; MAX_CLIENT_BYTES as usize]);
    assert_eq!(status, Status::ERROR_NOT_SUPPORTED);
    guest.release();
    // Long ones, of which the first record alone is sent.
    for total in [
        Opcode::cuModuleLoadDataEx.info().max_bytes + 1,
        1 << 40,
        u64::MAX,
    ] {
        attacked(&m, ChannelFault::TooLong, |guest| {
            let header = guest.header(Opcode::cuModuleLoadDataEx as u16, Flags::MORE, CtxId(0), 0);
            guest.push_and_ring(Header { total, ..header }, &[&[0; 32]]);
        });
    }
    assert!(m.logged("allowed are"));
}

pub fn any_header<M: Machine>() {
    let m = M::start(Spec::default());
    let bystander = Guest::claim(&m, 0);
    let mut random = Random::new(0x1234_5678);
    for _ in 0..200 {
        let guest = Guest::claim(&m, 1);
        let shape = random.draw();
        let payload = random.bytes((shape % 9) as usize * 8);
        let header = Header {
            len: 0,
            opcode: if shape & 0x100 == 0 {
                random.draw() as u16 & 0xff
            } else {
                random.draw() as u16
            },
            flags: Flags::from_bits_retain(random.draw() as u16),
            seq: random.draw() as u32,
            word: random.draw() as u32 & 3,
            total: if shape & 0x200 == 0 {
                payload.len() as u64
            } else {
                random.draw()
            },
        };
        guest.push_and_ring(header, &[&payload]);
        m.release(1);
    }
    bystander.hello();
}

pub fn a_guest_that_never_reads_its_replies<M: Machine>() {
    let m = M::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    let bystander = Guest::claim(&m, 0);
    let guest = Guest::claim(&m, 1);
    // More replies than fit: the worker waits for room, and the command ring fills up behind it.
    let full = m.layout().reply_bytes / LINE_BYTES;
    for _ in 0..full + 8 {
        guest.send(0x7fff, Flags::empty(), CtxId(0), vec![]);
    }
    // The last line stays free for the next record's end.
    let last = m.layout().reply_ring() + m.layout().reply_bytes - 2 * LINE_BYTES;
    let end = guest.word(last + END_OFFSET as u64);
    wait_until("the reply ring is full", || {
        m.load64(end) == m.layout().reply_bytes - LINE_BYTES
    });
    bystander.hello();
    // It does not hold up its own release.
    guest.release();
    let again = Guest::claim(&m, 1);
    again.hello();
    again.release();

    // Who reads late loses nothing.
    let guest = Guest::claim(&m, 1);
    for _ in 0..full + 8 {
        guest.send(0x7fff, Flags::empty(), CtxId(0), vec![]);
    }
    for n in 1..=full + 8 {
        let (message, _) = guest.receive();
        assert_eq!(u64::from(message.seq), n);
    }
}

pub fn half_messages_hold_bounded_memory<M: Machine>() {
    let m = M::start(Spec::default());
    let load = Opcode::cuModuleLoadDataEx;
    let most = load.info().max_bytes;
    assert!(2 * most <= MAX_ASSEMBLY_BYTES && 3 * most > MAX_ASSEMBLY_BYTES);
    let begin = |channel| {
        let guest = Guest::claim(&m, channel);
        guest.hello();
        let header = guest.header(load as u16, Flags::MORE, CtxId(0), most as usize);
        guest.push_and_ring(header, &[&[0; 32]]);
        guest.wait_until_taken();
        guest
    };
    // Two begin the longest message and never end it.
    let (first, _second) = (begin(0), begin(1));
    let third = Guest::claim(&m, 2);
    let ctx = third.context();
    // Messages of one record need no memory of the device's share.
    third.hello();
    let room = MAX_ASSEMBLY_BYTES - 2 * most;
    let image = vec![b'x'; (m.layout().command_bytes / 2) as usize];
    assert!(image.len() as u64 > room);
    let mut writer = Writer::new();
    request::module_load(&mut writer, &image, Vec::new());
    third.send(load as u16, Flags::empty(), ctx, writer.parts());
    assert!(
        third.try_receive().is_none(),
        "answered without memory to hold it"
    );
    // One channel lets go: the third goes on.
    first.release();
    let (message, _) = third.receive();
    assert_eq!((message.opcode, message.word), (load as u16, 0));
}

pub fn work_that_piles_up_waits_at_the_ring<M: Machine>() {
    let m = M::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    let guest = Guest::claim(&m, 1);
    let ctx = guest.context();
    let loaded =
        stubs::module_load(&guest, ctx, ptx::MISCHIEF.as_bytes(), Vec::new()).expect("module");
    let forever =
        stubs::module_get_function(&guest, ctx, loaded.module, "forever").expect("kernel");
    let launch = || {
        let mut w = Writer::new();
        request::launch_kernel(
            &mut w,
            forever.function,
            [1; 3],
            [1; 3],
            0,
            StreamId(0),
            &[],
        );
        let payload = w.parts().concat();
        let header = guest.header(
            Opcode::cuLaunchKernel as u16,
            Flags::POSTED,
            ctx,
            payload.len(),
        );
        let kick = guest.push(header, &[&payload]);
        if kick == Some(true) {
            guest.ring();
        }
        kick.is_some()
    };
    let head = guest.word(index::COMMAND_HEAD);
    let before = m.load64(head);
    assert!(launch());
    let record = guest.sent() - before;
    // With the one that executes.
    let most = MAX_QUEUED_OPERATIONS as u64;
    wait_until("the queue is full", || {
        launch();
        (m.load64(head) - before) / record >= most - 1
    });
    wait_until("the ring is full", || !launch());
    assert!((m.load64(head) - before) / record <= most);
    // Another guest does not wait, and neither does the release.
    Guest::claim(&m, 2).context();
    guest.release();
}

pub fn random_bytes_everywhere<M: Machine>() {
    let m = M::start(Spec::default());
    let bystander = Guest::claim(&m, 0);
    let layout = m.layout();
    let mut random = Random::new(99);
    for _ in 0..20 {
        m.claim(1);
        let indices = random.bytes(INDEX_BYTES as usize);
        let ring = random.bytes(layout.command_bytes as usize);
        m.bar1_write(layout.area(1) + layout.command_ring(), &ring);
        m.bar1_write(layout.area(1), &indices);
        m.ring(1);
        // Ends without a pattern are impossible ones.
        m.expect_fault(1, ChannelFault::BadIndex);
        m.release(1);
        // A possible end over a random record.
        m.claim(1);
        let at = layout.area(1) + layout.command_ring();
        m.bar1_write(at, &ring[..END_OFFSET]);
        m.store64(at + END_OFFSET as u64, LINE_BYTES);
        m.ring(1);
        m.expect_fault(1, ChannelFault::BadLength);
        m.release(1);
        bystander.hello();
    }
    // The heap and the pages of free channels are the guest's own.
    let junk = random.bytes(64 << 10);
    m.bar1_write(layout.heap(), &junk);
    m.bar1_write(layout.area(3), &junk);
    (1..4).for_each(|n| m.ring(n));
    bystander.hello();
}

pub fn a_ring_rewritten_while_it_is_read<M: Machine>() {
    let m = M::start(Spec::default());
    let bystander = Guest::claim(&m, 0);
    let layout = m.layout();
    let ring = layout.area(1) + layout.command_ring();
    let mut random = Random::new(7);
    for _ in 0..8 {
        m.claim(1);
        // Records of 64 bytes that are good, if nobody touches them.
        let record = |seq: u32| {
            let header = Header {
                len: 64,
                opcode: Opcode::cuMemAlloc as u16,
                flags: Flags::POSTED,
                seq,
                word: 0,
                total: 32,
            };
            let end = (u64::from(seq) + 1) * LINE_BYTES;
            [&header.to_bytes()[..], &end.to_le_bytes(), &[0; 32]].concat()
        };
        let records: Vec<u8> = (0..layout.command_bytes as u32 / 64)
            .flat_map(record)
            .collect();
        // The first one's end comes last: nothing is read before.
        let (first, rest) = records.split_at(HEADER_BYTES);
        m.bar1_write(ring + HEADER_BYTES as u64, rest);
        m.bar1_write(ring, &first[..END_OFFSET]);
        let mut seed = Random::new(random.draw() | 1);
        std::thread::scope(|scope| {
            let machine = &m;
            scope.spawn(move || {
                for _ in 0..400 {
                    let at = (seed.draw() % layout.command_bytes) & !3;
                    // Lengths above all, then anything.
                    let at = if seed.draw() & 1 == 0 { at & !63 } else { at };
                    machine.store32(ring + at, seed.draw() as u32);
                    // Now and then a word of the indices, the host's own too.
                    if seed.draw() & 7 == 0 {
                        let word = 0x80 * (1 + seed.draw() % 7);
                        machine.store32(layout.area(1) + word, seed.draw() as u32);
                    }
                    if seed.draw() & 15 == 0 {
                        machine.ring(1);
                    }
                }
            });
            m.store64(ring + END_OFFSET as u64, LINE_BYTES);
            m.ring(1);
            bystander.hello();
        });
        m.release(1);
    }
    bystander.hello();
}

pub fn words_of_the_host_rewritten<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    guest.hello();
    for word in [index::COMMAND_HEAD, index::ARENA_HEAD] {
        for junk in [8, 1 << 20, u64::MAX] {
            guest.wait_until_worker_sleeps();
            let good = m.load64(guest.word(word));
            m.store64(guest.word(word), junk);
            m.store32(guest.word(index::COMMAND_PARKED), 0);
            guest.ring();
            // It has its own copy of what it wrote: it finds nothing to do, and sleeps again.
            guest.wait_until_worker_sleeps();
            m.store64(guest.word(word), good);
            guest.hello();
        }
    }
    for junk in [2, u32::MAX] {
        guest.wait_until_worker_sleeps();
        m.store32(guest.word(index::COMMAND_PARKED), junk);
        m.store32(guest.word(index::REPLY_PARKED), junk);
        m.store32(guest.word(index::DEFERRED_ERROR), junk);
        guest.ring();
        guest.hello();
    }
    assert_eq!(m.state(0), ChannelState::Claimed);
}

pub fn doorbell_floods<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    for round in 0..2000 {
        // Claimed, free, and beyond the device's.
        m.ring(round % 6);
    }
    guest.hello();
    assert_eq!(m.state(1), ChannelState::Free);
    stubs::counters(&guest, CtxId(0)).expect("counters");
}
