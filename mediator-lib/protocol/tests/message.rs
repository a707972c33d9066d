//! Messages cut into records and put together again.

mod common;

use common::{Memory, header};
use proptest::prelude::*;
use vgpu_protocol::message::{Assembler, AssemblyFault, Flags, Fragments, HEADER_BYTES, Header};
use vgpu_protocol::ring::{Consumer, Producer, Pushed};

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

proptest! {
    #[test]
    fn header_round_trip(len: u32, opcode: u16, flags: u16, seq: u32, word: u32, total: u64) {
        let header = Header { len, opcode, flags: Flags::from_bits_retain(flags), seq, word, total };
        prop_assert_eq!(Header::from_bytes(&header.to_bytes()), header);
    }

    /// Any message, cut from any parts, through a ring that is much smaller than it.
    #[test]
    fn a_message_arrives_whole(len in 0usize..6000, cuts in prop::collection::vec(0usize..6000, 0..5), shift in 8u32..12) {
        let message = data(len);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(len)).collect();
        cuts.extend([0, len]);
        cuts.sort_unstable();
        let parts = cuts.windows(2).map(|w| &message[w[0]..w[1]]).collect();

        let memory = Memory::new(1 << shift);
        let (mut producer, mut consumer) = (Producer::new(&memory), Consumer::new(&memory));
        let max_record = 1u64 << (shift - 2);
        let mut fragments = Fragments::new(parts, max_record);
        prop_assert_eq!(fragments.total(), len as u64);
        let (mut assembler, mut payload, mut arrived) = (Assembler::default(), Vec::new(), Vec::new());
        let mut records = 0;
        while let Some((record, more)) = fragments.next_record() {
            let mut h = header(3);
            h.total = len as u64;
            h.flags = if more { Flags::POSTED | Flags::MORE } else { Flags::POSTED };
            prop_assert_eq!(producer.push(h, &record), Ok(Pushed::Done { kick: false }));
            let h = consumer.pop(&mut payload).expect("valid").expect("there");
            let done = assembler.push(h, &mut payload, |_| len as u64).expect("continues");
            prop_assert_eq!(done.is_some(), !more);
            if let Some(message) = done {
                prop_assert_eq!(message.flags, Flags::POSTED);
                arrived.push(payload.clone());
            }
            records += 1;
        }
        let per_record = max_record as usize - HEADER_BYTES;
        prop_assert_eq!(records, len.div_ceil(per_record).max(1), "each record but the last is full");
        prop_assert_eq!(arrived, vec![message]);
        prop_assert_eq!(assembler.held(), 0);
    }

    /// Any records: a fault, or a message of exactly the claimed length within its bound.
    #[test]
    fn hostile_fragments(
        records in prop::collection::vec((any_flags(), 0u32..2, 0u64..200, 0usize..12), 1..40), allowed in 0u64..150,
    ) {
        let mut assembler = Assembler::default();
        let mut received = 0;
        for (flags, seq, total, words) in records {
            let h = Header { len: 0, opcode: 1, flags, seq, word: 0, total };
            let mut payload = data(words * 8);
            received += payload.len();
            match assembler.push(h, &mut payload, |_| allowed) {
                Ok(Some(_)) => {
                    prop_assert_eq!(payload.len() as u64, total);
                    prop_assert!(total <= allowed);
                    prop_assert_eq!(assembler.held(), 0);
                    received = 0;
                }
                Ok(None) => prop_assert!(assembler.held() <= (2 * received).min(total as usize)),
                Err(AssemblyFault::TooLong { total: t, allowed: a }) => {
                    prop_assert_eq!((t, a), (total, allowed));
                    prop_assert!(total > allowed);
                    assembler = Assembler::default();
                    received = 0;
                }
                Err(AssemblyFault::BadFragment) => {
                    assembler = Assembler::default();
                    received = 0;
                }
            }
        }
    }
}

fn any_flags() -> impl Strategy<Value = Flags> {
    prop_oneof![
        Just(Flags::MORE),
        Just(Flags::empty()),
        any::<u16>().prop_map(Flags::from_bits_retain)
    ]
}

fn fragment(total: u64, more: bool) -> Header {
    Header {
        flags: if more { Flags::MORE } else { Flags::empty() },
        total,
        ..header(1)
    }
}

#[test]
fn the_bound_is_asked_at_n_and_at_n_plus_one() {
    let one = |total: u64| {
        let mut payload = vec![0; (total as usize).next_multiple_of(8)];
        Assembler::default().push(fragment(total, false), &mut payload, |_| 100)
    };
    assert!(one(100).expect("allowed").is_some());
    assert_eq!(
        one(101),
        Err(AssemblyFault::TooLong {
            total: 101,
            allowed: 100
        })
    );
    // Before anything is buffered.
    let mut assembler = Assembler::default();
    let huge = assembler.push(fragment(u64::MAX, true), &mut vec![0; 8], |_| 100);
    assert_eq!(
        huge,
        Err(AssemblyFault::TooLong {
            total: u64::MAX,
            allowed: 100
        })
    );
    assert_eq!(assembler.held(), 0);
}

#[test]
fn what_does_not_continue_a_message_is_a_fault() {
    let after = |second: Header, payload: usize| {
        let mut assembler = Assembler::default();
        let begun = assembler.push(fragment(24, true), &mut vec![0; 8], |_| 100);
        assert_eq!(begun, Ok(None));
        assembler
            .push(second, &mut vec![0; payload], |_| 100)
            .map(|m| m.is_some())
    };
    let good = fragment(24, false);
    assert_eq!(after(good, 16), Ok(true));
    let bad = Err(AssemblyFault::BadFragment);
    assert_eq!(after(Header { seq: 2, ..good }, 16), bad);
    assert_eq!(after(Header { word: 0, ..good }, 16), bad);
    assert_eq!(after(Header { opcode: 1, ..good }, 16), bad);
    assert_eq!(after(Header { total: 32, ..good }, 16), bad);
    assert_eq!(
        after(
            Header {
                flags: Flags::POSTED,
                ..good
            },
            16
        ),
        bad
    );
    assert_eq!(after(good, 8), bad, "too short for the last record");
    assert_eq!(after(good, 24), bad, "too long for the last record");
    assert_eq!(
        after(fragment(24, true), 16),
        bad,
        "the last record says that more follow"
    );
    assert_eq!(
        after(fragment(24, true), 0),
        bad,
        "an empty record never ends"
    );
}

#[test]
fn memory_grows_with_what_arrived_not_with_what_was_claimed() {
    let mut assembler = Assembler::default();
    let begun = assembler.push(fragment(512 << 20, true), &mut vec![0; 4096], |_| u64::MAX);
    assert_eq!(begun, Ok(None));
    assert!(assembler.held() <= 8192, "{} bytes held", assembler.held());
    // And never beyond the total, whatever the steps in which it grows.
    let (total, mut assembler) = (100_000u64, Assembler::default());
    for _ in 0..total / 4096 {
        let begun = assembler.push(fragment(total, true), &mut vec![0; 4096], |_| total);
        assert_eq!(begun, Ok(None));
        assert!(assembler.held() as u64 <= total);
    }
}
