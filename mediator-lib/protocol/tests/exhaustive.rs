//! The rings' arithmetic, tried whole: every index, every length and every position of a small ring,
//! each against what the specification says. (A model checker for arithmetic would do the same with
//! symbols; a ring of 128 bytes is small enough for all values.)

use std::cell::{Cell, RefCell};

use vgpu_protocol::message::{Flags, HEADER_BYTES, Header};
use vgpu_protocol::ring::{Consumer, Producer, Pushed, RingFault, RingMemory, max_record_bytes};

const HEADER: u64 = HEADER_BYTES as u64;

/// A ring in one thread.
struct Memory {
    tail: Cell<u64>,
    head: Cell<u64>,
    data: RefCell<Vec<u8>>,
}

impl Memory {
    fn new(capacity: u64) -> Memory {
        Memory {
            tail: Cell::new(0),
            head: Cell::new(0),
            data: RefCell::new(vec![0; capacity as usize]),
        }
    }
}

impl RingMemory for &Memory {
    fn capacity(&self) -> u64 {
        self.data.borrow().len() as u64
    }
    fn load_tail(&self) -> u64 {
        self.tail.get()
    }
    fn store_tail(&self, value: u64) {
        self.tail.set(value);
    }
    fn load_head(&self) -> u64 {
        self.head.get()
    }
    fn store_head(&self, value: u64) {
        self.head.set(value);
    }
    fn parked(&self) -> bool {
        false
    }
    fn set_parked(&self, _: bool) {}
    fn take_parked(&self) -> bool {
        false
    }
    fn full_fence(&self) {}
    // An access outside of the ring panics.
    fn read(&self, at: u64, into: &mut [u8]) {
        into.copy_from_slice(&self.data.borrow()[at as usize..][..into.len()]);
    }
    fn write(&self, at: u64, from: &[u8]) {
        self.data.borrow_mut()[at as usize..][..from.len()].copy_from_slice(from);
    }
}

fn header(seq: u32, total: u64) -> Header {
    Header {
        len: 0,
        opcode: 7,
        flags: Flags::POSTED,
        seq,
        word: !seq,
        total,
        reserved: 0,
    }
}

/// Both ends, moved on by `steps` records of a header each: every position where a ring may begin.
fn moved(memory: &Memory, steps: u64) -> (Producer<&Memory>, Consumer<&Memory>) {
    let (mut producer, mut consumer) = (Producer::new(memory), Consumer::new(memory));
    let mut payload = Vec::new();
    for seq in 0..steps {
        let pushed = producer.push(header(seq as u32, 0), &[]);
        assert_eq!(pushed, Ok(Pushed::Done { kick: false }));
        let popped = consumer.pop(&mut payload).expect("valid").expect("there");
        assert_eq!(u64::from(popped.seq), seq);
    }
    (producer, consumer)
}

/// Every payload that fits, in every cut into two parts, from every position: it comes out as it
/// went in, also where it goes around the ring's end.
#[test]
fn every_record_from_every_position_comes_out_as_it_went_in() {
    for capacity in [128u64, 256] {
        let longest = max_record_bytes(capacity) - HEADER;
        for steps in 0..=capacity / HEADER + 1 {
            for bytes in 0..=longest {
                for cut in 0..=bytes {
                    let memory = Memory::new(capacity);
                    let (mut producer, mut consumer) = moved(&memory, steps);
                    let data: Vec<u8> = (0..bytes).map(|i| (i * 7 + cut + 1) as u8).collect();
                    let (a, b) = data.split_at(cut as usize);
                    let pushed = producer.push(header(9, bytes), &[a, b]);
                    assert_eq!(pushed, Ok(Pushed::Done { kick: false }));
                    let mut payload = vec![0xff; 3];
                    let got = consumer.pop(&mut payload).expect("valid").expect("there");
                    let padded = bytes.next_multiple_of(8);
                    assert_eq!((got.seq, got.total), (9, bytes));
                    assert_eq!(u64::from(got.len), HEADER + padded);
                    assert_eq!(payload.len() as u64, padded);
                    assert_eq!(payload[..bytes as usize], data);
                    assert_eq!(consumer.pop(&mut payload), Ok(None));
                }
            }
        }
    }
}

/// Every tail that a hostile producer may store: it is taken exactly where it is a multiple of 8 and
/// at most a ring's length ahead.
#[test]
fn every_tail_is_judged_as_specified() {
    const CAPACITY: u64 = 128;
    for steps in 0..=CAPACITY / HEADER + 1 {
        let begin = steps * HEADER;
        let near = (0..=begin + 3 * CAPACITY).chain(u64::MAX - 300..=u64::MAX);
        for tail in near.chain((0..64).map(|shift| 1 << shift)) {
            let memory = Memory::new(CAPACITY);
            let (_, mut consumer) = moved(&memory, steps);
            // A record of a header lies at the position, should it be looked at.
            let raw = Header {
                len: HEADER as u32,
                ..header(3, 0)
            }
            .to_bytes();
            for (i, byte) in raw.iter().enumerate() {
                let at = (begin as usize + i) % CAPACITY as usize;
                memory.data.borrow_mut()[at] = *byte;
            }
            memory.tail.set(tail);
            let ahead = tail.wrapping_sub(begin);
            let popped = consumer.pop(&mut Vec::new());
            if ahead > CAPACITY || tail % 8 != 0 {
                assert_eq!(popped, Err(RingFault::BadIndex { tail, head: begin }));
            } else if ahead == 0 {
                assert_eq!(popped, Ok(None));
            } else if ahead < HEADER {
                assert!(matches!(popped, Err(RingFault::BadLength { .. })), "{tail}");
            } else {
                assert_eq!(popped.expect("valid").map(|h| h.seq), Some(3));
                assert_eq!(memory.head.get(), begin + HEADER);
            }
        }
    }
}

/// Every length that a record may claim, with everything that may be published: it is taken exactly
/// where it is a multiple of 8, holds a header, and is neither longer than what is published nor
/// than a quarter of the ring.
#[test]
fn every_length_is_judged_as_specified() {
    const CAPACITY: u64 = 256;
    for steps in [0, 3, 7] {
        let begin = steps * HEADER;
        for available in (HEADER..=CAPACITY).step_by(8) {
            let near = 0..=2 * CAPACITY as u32;
            for len in near.chain([1 << 31, u32::MAX - 7, u32::MAX]) {
                let memory = Memory::new(CAPACITY);
                let (_, mut consumer) = moved(&memory, steps);
                let raw = Header {
                    len,
                    ..header(5, 0)
                }
                .to_bytes();
                for (i, byte) in raw.iter().enumerate() {
                    let at = (begin as usize + i) % CAPACITY as usize;
                    memory.data.borrow_mut()[at] = *byte;
                }
                memory.tail.set(begin + available);
                let wide = u64::from(len);
                let good = wide % 8 == 0
                    && (HEADER..=available.min(max_record_bytes(CAPACITY))).contains(&wide);
                let mut payload = Vec::new();
                match consumer.pop(&mut payload) {
                    Ok(Some(got)) => {
                        assert!(good, "{len} of {available}");
                        assert_eq!(got.len, len);
                        assert_eq!(payload.len() as u64, wide - HEADER);
                        assert_eq!(memory.head.get(), begin + wide);
                    }
                    other => {
                        assert!(!good, "{len} of {available}");
                        assert_eq!(other, Err(RingFault::BadLength { len, available }));
                        assert_eq!(memory.head.get(), begin, "nothing was taken");
                    }
                }
            }
        }
    }
}

/// Every head that a hostile consumer may store: a producer that needs the room takes it exactly
/// where it is a multiple of 8, not behind the last one and not before what was written; and it
/// never writes over what was not consumed.
#[test]
fn every_head_is_judged_as_specified() {
    const CAPACITY: u64 = 128;
    for steps in 0..=CAPACITY / HEADER {
        let begin = steps * HEADER;
        let near = (0..=begin + 2 * CAPACITY).chain(u64::MAX - 300..=u64::MAX);
        for head in near {
            let memory = Memory::new(CAPACITY);
            let (mut producer, _) = moved(&memory, steps);
            // The producer's own view of the head may be older.
            let mut pushed = 0;
            memory.head.set(begin);
            while producer.push(header(1, 0), &[]) == Ok(Pushed::Done { kick: false }) {
                pushed += 1;
            }
            assert_eq!(pushed, CAPACITY / HEADER);
            let tail = begin + CAPACITY;
            memory.head.set(head);
            let result = producer.push(header(2, 0), &[]);
            if head < begin || head > tail || head % 8 != 0 {
                assert_eq!(result, Err(RingFault::BadIndex { tail, head }));
                assert_eq!(memory.tail.get(), tail, "nothing was written");
            } else if head - begin < HEADER {
                assert_eq!(result, Ok(Pushed::Full));
                assert_eq!(memory.tail.get(), tail);
            } else {
                assert_eq!(result, Ok(Pushed::Done { kick: false }));
                assert_eq!(memory.tail.get(), tail + HEADER);
            }
        }
    }
}
