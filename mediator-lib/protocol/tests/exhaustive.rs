//! The rings' arithmetic, tried whole: every index, every length and every position of a small ring,
//! each against what the specification says. (A model checker for arithmetic would do the same with
//! symbols; a ring of a few lines is small enough for all values.)

mod common;

use common::Memory;
use vgpu_protocol::message::{END_OFFSET, Flags, HEADER_BYTES, Header};
use vgpu_protocol::ring::{
    Consumer, LINE_BYTES, Producer, Pushed, RingFault, max_record_bytes, record_lines,
};

const HEADER: u64 = HEADER_BYTES as u64;

fn header(seq: u32, total: u64) -> Header {
    Header {
        len: 0,
        opcode: 7,
        flags: Flags::POSTED,
        seq,
        word: !seq,
        total,
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
    for capacity in [256u64, 512] {
        let longest = max_record_bytes(capacity) - HEADER;
        for steps in 0..=capacity / LINE_BYTES + 1 {
            for bytes in 0..=longest {
                for cut in 0..=bytes {
                    let memory = Memory::new(capacity as usize);
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

/// Has a record lie at `index`, with `end` as its end.
fn lay(memory: &Memory, index: u64, header: Header, end: u64) {
    let at = index % memory.data.borrow().len() as u64;
    let raw = header.to_bytes();
    memory.data.borrow_mut()[at as usize..][..raw.len()].copy_from_slice(&raw);
    memory.set_word(at + END_OFFSET as u64, end);
}

/// Every end that a hostile producer may store: it is taken exactly where it is a multiple of a line
/// and at most a quarter of the ring ahead, and what is not ahead is nothing new.
#[test]
fn every_end_is_judged_as_specified() {
    const CAPACITY: u64 = 1024;
    let longest = max_record_bytes(CAPACITY);
    for steps in 0..=CAPACITY / LINE_BYTES + 1 {
        let begin = steps * LINE_BYTES;
        let near = (0..=begin + 2 * CAPACITY).chain(u64::MAX - 300..=u64::MAX);
        for end in near.chain((0..64).map(|shift| 1 << shift)) {
            let memory = Memory::new(CAPACITY as usize);
            let (_, mut consumer) = moved(&memory, steps);
            let ahead = end.saturating_sub(begin);
            let len = ahead.clamp(HEADER, longest) as u32;
            lay(
                &memory,
                begin,
                Header {
                    len,
                    ..header(3, 0)
                },
                end,
            );
            let popped = consumer.pop(&mut Vec::new());
            if ahead == 0 {
                assert_eq!(popped, Ok(None));
                assert!(consumer.is_empty());
            } else if ahead > longest || ahead % LINE_BYTES != 0 {
                assert_eq!(
                    popped,
                    Err(RingFault::BadIndex {
                        tail: end,
                        head: begin
                    })
                );
            } else {
                assert_eq!(popped.expect("valid").map(|h| h.seq), Some(3));
                assert_eq!(memory.head.get(), end);
            }
        }
    }
}

/// Every length that a record may claim, with every end: it is taken exactly where it is a multiple
/// of 8, holds a header, and ends in the line before the end.
#[test]
fn every_length_is_judged_as_specified() {
    const CAPACITY: u64 = 1024;
    for steps in [0, 3, 13, 15] {
        let begin = steps * LINE_BYTES;
        for available in (LINE_BYTES..=max_record_bytes(CAPACITY)).step_by(LINE_BYTES as usize) {
            let near = 0..=2 * CAPACITY as u32;
            for len in near.chain([1 << 31, u32::MAX - 7, u32::MAX]) {
                let memory = Memory::new(CAPACITY as usize);
                let (_, mut consumer) = moved(&memory, steps);
                lay(
                    &memory,
                    begin,
                    Header {
                        len,
                        ..header(5, 0)
                    },
                    begin + available,
                );
                let wide = u64::from(len);
                let good = wide % 8 == 0 && wide >= HEADER && record_lines(wide) == available;
                let mut payload = Vec::new();
                match consumer.pop(&mut payload) {
                    Ok(Some(got)) => {
                        assert!(good, "{len} of {available}");
                        assert_eq!(got.len, len);
                        assert_eq!(payload.len() as u64, wide - HEADER);
                        assert_eq!(memory.head.get(), begin + available);
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
/// where it is a multiple of a line, not behind the last one and not before what was written; and it
/// never writes over what was not consumed.
#[test]
fn every_head_is_judged_as_specified() {
    const CAPACITY: u64 = 256;
    for steps in 0..=CAPACITY / LINE_BYTES {
        let begin = steps * LINE_BYTES;
        let near = (0..=begin + 2 * CAPACITY).chain(u64::MAX - 300..=u64::MAX);
        for head in near {
            let memory = Memory::new(CAPACITY as usize);
            let (mut producer, _) = moved(&memory, steps);
            // The producer's own view of the head may be older.
            let mut pushed = 0;
            memory.head.set(begin);
            while producer.push(header(1, 0), &[]) == Ok(Pushed::Done { kick: false }) {
                pushed += 1;
            }
            // One line is the next record's end's.
            assert_eq!(pushed, CAPACITY / LINE_BYTES - 1);
            let tail = begin + CAPACITY - LINE_BYTES;
            memory.head.set(head);
            let before = memory.data.borrow().clone();
            let result = producer.push(header(2, 0), &[]);
            if head < begin || head > tail || head % LINE_BYTES != 0 {
                assert_eq!(result, Err(RingFault::BadIndex { tail, head }));
                assert_eq!(*memory.data.borrow(), before, "nothing was written");
            } else if head == begin {
                assert_eq!(result, Ok(Pushed::Full));
                assert_eq!(*memory.data.borrow(), before, "nothing was written");
            } else {
                assert_eq!(result, Ok(Pushed::Done { kick: false }));
                assert_eq!(producer.tail(), tail + LINE_BYTES);
            }
        }
    }
}
