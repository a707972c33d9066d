//! The ring against a model, and against a hostile other side.

mod common;

use std::collections::VecDeque;

use common::{Memory, header};
use proptest::prelude::*;
use vgpu_protocol::message::{END_OFFSET, HEADER_BYTES};
use vgpu_protocol::ring::{
    Consumer, LINE_BYTES, Producer, Pushed, RingFault, max_record_bytes, record_lines,
};

#[derive(Clone, Debug)]
enum Step {
    /// Payload length, in thousandths of the longest, and where to cut it in two parts.
    Push(u64, u64),
    Pop,
    Park,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..=1000, 0u64..=1000).prop_map(|(size, cut)| Step::Push(size, cut)),
        3 => Just(Step::Pop),
        1 => Just(Step::Park),
    ];
    prop::collection::vec(step, 0..400)
}

fn record_bytes(payload: usize) -> u64 {
    HEADER_BYTES as u64 + (payload as u64).next_multiple_of(8)
}

proptest! {
    /// What comes out is what went in, in order, over many turns of the ring; it is full exactly
    /// when a record and one more line do not fit, and the doorbell is asked for exactly when the consumer is
    /// parked.
    #[test]
    fn behaves_as_a_bounded_queue(shift in 8u32..13, steps in steps()) {
        let memory = Memory::new(1 << shift);
        let capacity = 1u64 << shift;
        let max_payload = max_record_bytes(capacity) - HEADER_BYTES as u64;
        let (mut producer, mut consumer) = (Producer::new(&memory), Consumer::new(&memory));
        let mut model: VecDeque<(u32, Vec<u8>)> = VecDeque::new();
        let (mut seq, mut parked, mut out) = (0u32, false, Vec::new());
        for step in steps {
            match step {
                Step::Push(size, cut) => {
                    let len = (max_payload * size / 1000) as usize;
                    let payload: Vec<u8> =
                        (0..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(seq) as u8).collect();
                    let (a, b) = payload.split_at(len * cut as usize / 1000);
                    let used: u64 = model.iter().map(|(_, p)| record_lines(record_bytes(p.len()))).sum();
                    let pushed = producer.push(header(seq), &[a, b]);
                    if used + record_lines(record_bytes(len)) + LINE_BYTES > capacity {
                        prop_assert_eq!(pushed, Ok(Pushed::Full));
                        continue;
                    }
                    prop_assert_eq!(pushed, Ok(Pushed::Done { kick: parked }));
                    parked = false;
                    model.push_back((seq, payload));
                    seq += 1;
                }
                Step::Pop => match (consumer.pop(&mut out), model.pop_front()) {
                    (Ok(None), None) => {}
                    (Ok(Some(got)), Some((seq, payload))) => {
                        prop_assert_eq!(u64::from(got.len), record_bytes(payload.len()));
                        let mut expected = header(seq);
                        expected.len = got.len;
                        prop_assert_eq!(got, expected);
                        prop_assert_eq!(out.len(), payload.len().next_multiple_of(8));
                        prop_assert_eq!(&out[..payload.len()], &payload[..]);
                    }
                    (got, expected) => prop_assert!(false, "{got:?} instead of {expected:?}"),
                },
                Step::Park => {
                    let sleeps = consumer.park();
                    prop_assert_eq!(sleeps, model.is_empty());
                    prop_assert_eq!(memory.parked.get(), sleeps);
                    parked = sleeps;
                }
            }
        }
    }

    /// Any ends and any bytes: a fault, or a record that ends there.
    #[test]
    fn a_hostile_producer_gets_a_fault_or_is_read_in_bounds(
        shift in 8u32..12, bytes in prop::collection::vec(any::<u8>(), 4096), ends in prop::collection::vec(any_index(), 1..20),
        len in any_length(),
    ) {
        let memory = Memory::new(1 << shift);
        let capacity = 1usize << shift;
        memory.data.borrow_mut().copy_from_slice(&bytes[..capacity]);
        memory.data.borrow_mut()[..4].copy_from_slice(&len.to_le_bytes());
        let mut consumer = Consumer::new(&memory);
        let mut out = Vec::new();
        for end in ends {
            let before = memory.head.get();
            memory.set_word(before % capacity as u64 + END_OFFSET as u64, end);
            match consumer.pop(&mut out) {
                Ok(None) => prop_assert!(end <= before),
                Ok(Some(header)) => {
                    prop_assert!(u64::from(header.len) <= max_record_bytes(capacity as u64));
                    prop_assert_eq!(out.len() + HEADER_BYTES, header.len as usize);
                    prop_assert_eq!(record_lines(u64::from(header.len)), end - before);
                    prop_assert_eq!(memory.head.get(), end);
                }
                // The worker ends the session at a fault; nothing was consumed.
                Err(_) => prop_assert_eq!(memory.head.get(), before),
            }
        }
    }

    /// A consumer that writes anything to `head` gets a fault; a record is never written over one
    /// that has not been consumed.
    #[test]
    fn a_hostile_consumer_never_makes_room(heads in prop::collection::vec(any_index(), 1..60)) {
        let memory = Memory::new(256);
        let mut producer = Producer::new(&memory);
        let mut honest = 0;
        for (seq, head) in heads.into_iter().enumerate() {
            memory.head.set(head);
            let published = producer.tail();
            match producer.push(header(seq as u32), &[&[1; 24]]) {
                Ok(Pushed::Done { .. }) => {
                    // Either the cached head sufficed, or the new one was possible.
                    if head <= published && head >= honest && head.is_multiple_of(LINE_BYTES) {
                        honest = head;
                    }
                    prop_assert_eq!(producer.tail(), published + LINE_BYTES);
                }
                Ok(Pushed::Full) => prop_assert_eq!(producer.tail(), published),
                Err(RingFault::BadIndex { tail, head: seen }) => {
                    prop_assert_eq!((tail, seen), (published, head));
                    prop_assert!(head > published || head % LINE_BYTES != 0 || head < published);
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}

fn any_index() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0u64..1200).prop_map(|v| v & !63),
        2 => 0u64..600,
        1 => (0u64..64).prop_map(|v| u64::MAX - v),
        1 => any::<u64>(),
    ]
}

fn any_length() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => (0u32..200).prop_map(|v| v & !7),
        1 => 0u32..200,
        1 => any::<u32>(),
        1 => Just(!7u32),
    ]
}

#[test]
fn exactly_full_then_empty_at_every_position() {
    let memory = Memory::new(256);
    let (mut producer, mut consumer) = (Producer::new(&memory), Consumer::new(&memory));
    let mut out = Vec::new();
    // One record more each turn: the start moves through every line.
    for turn in 0..64u32 {
        for n in 0..3 {
            let pushed = producer.push(header(turn * 10 + n), &[&[n as u8; 32]]);
            assert_eq!(pushed, Ok(Pushed::Done { kick: false }), "turn {turn}");
        }
        // The fourth line is where the next record's end will be.
        assert_eq!(producer.tail() - memory.head.get(), 192);
        assert_eq!(producer.push(header(0), &[]), Ok(Pushed::Full));
        for n in 0..3 {
            let got = consumer.pop(&mut out).expect("valid").expect("there");
            assert_eq!((got.seq, &out[..]), (turn * 10 + n, &[n as u8; 32][..]));
        }
        assert_eq!(consumer.pop(&mut out), Ok(None));
        assert_eq!(
            producer.push(header(0), &[&[0; 8]]),
            Ok(Pushed::Done { kick: false })
        );
        assert!(consumer.pop(&mut out).expect("valid").is_some());
    }
}

/// A payload of numbers that are possible ends where a later record begins.
#[test]
fn no_part_of_a_payload_is_taken_for_an_end() {
    let memory = Memory::new(1024);
    let (mut producer, mut consumer) = (Producer::new(&memory), Consumer::new(&memory));
    let mut out = Vec::new();
    for turn in 0..200u32 {
        // Long ones first, whose lines the short ones of the next turn begin in.
        let words = if turn / 4 % 2 == 0 { 28 } else { 1 };
        // What would publish a line of the next turn of the ring.
        let ahead = producer.tail() + 1024;
        let payload: Vec<u8> = (0..words)
            .flat_map(|word: u64| (ahead + 128 + word * 8 / 64 * 64).to_le_bytes())
            .collect();
        let pushed = producer.push(header(turn), &[&payload]);
        assert_eq!(pushed, Ok(Pushed::Done { kick: false }));
        let got = consumer.pop(&mut out).expect("valid").expect("there");
        assert_eq!((got.seq, &out), (turn, &payload));
        assert!(consumer.is_empty(), "turn {turn}");
        assert_eq!(consumer.pop(&mut out), Ok(None), "turn {turn}");
    }
}

#[test]
fn the_longest_record_passes_and_its_length_is_the_bound() {
    let memory = Memory::new(1024);
    let (mut producer, mut consumer) = (Producer::new(&memory), Consumer::new(&memory));
    let longest = vec![9; 256 - HEADER_BYTES];
    assert_eq!(
        producer.push(header(1), &[&longest]),
        Ok(Pushed::Done { kick: false })
    );
    let mut out = Vec::new();
    assert_eq!(
        consumer.pop(&mut out).expect("valid").map(|h| h.len),
        Some(256)
    );
    // The same record, 8 bytes longer, is refused: published whole, and not.
    memory.data.borrow_mut()[256..260].copy_from_slice(&264u32.to_le_bytes());
    memory.set_word(256 + END_OFFSET as u64, 256 + 320);
    assert_eq!(
        consumer.pop(&mut out),
        Err(RingFault::BadIndex {
            tail: 576,
            head: 256
        })
    );
    memory.set_word(256 + END_OFFSET as u64, 256 + 256);
    assert_eq!(
        consumer.pop(&mut out),
        Err(RingFault::BadLength {
            len: 264,
            available: 256
        })
    );
}

#[test]
fn lengths_and_ends_at_their_bounds() {
    let claims = |len: u32, end: u64| {
        let memory = Memory::new(1024);
        memory.data.borrow_mut()[..4].copy_from_slice(&len.to_le_bytes());
        memory.set_word(END_OFFSET as u64, end);
        Consumer::new(&memory)
            .pop(&mut Vec::new())
            .map(|h| h.is_some())
    };
    for (len, end) in [(32, 64), (64, 64), (72, 128), (256, 256)] {
        assert_eq!(claims(len, end), Ok(true), "len {len} end {end}");
    }
    assert_eq!(claims(32, 0), Ok(false));
    for (len, end) in [
        (24, 64),
        (33, 64),
        (36, 64),
        (72, 64),
        (0, 64),
        (64, 128),
        (264, 256),
        (u32::MAX - 7, 256),
    ] {
        assert!(
            matches!(claims(len, end), Err(RingFault::BadLength { .. })),
            "len {len} end {end}"
        );
    }
    for end in [8, 32, 63, 72, 320, 1024, u64::MAX, u64::MAX - 63, 1 << 63] {
        assert!(
            matches!(claims(32, end), Err(RingFault::BadIndex { .. })),
            "end {end}"
        );
    }
}

#[test]
fn a_record_that_changes_while_it_is_read_is_judged_by_the_copy() {
    let memory = Memory::new(1024);
    let mut producer = Producer::new(&memory);
    producer.push(header(5), &[&[3; 64]]).expect("valid");
    // Every byte changes as soon as it has been read: a second look at `len` would see another.
    memory.flip.set(0xff);
    let mut out = Vec::new();
    let got = Consumer::new(&memory)
        .pop(&mut out)
        .expect("valid")
        .expect("there");
    assert_eq!((got.seq, got.len, &out[..]), (5, 96, &[3; 64][..]));
}
