//! The ring's ordering, model-checked: every interleaving of two threads, with the weak memory
//! of C11, up to a number of preemptions.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p vgpu-protocol --release --test loom`.
#![cfg(loom)]
#![allow(unsafe_code, reason = "loom's cells hand out raw pointers")]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use vgpu_protocol::message::{Flags, HEADER_BYTES, Header};
use vgpu_protocol::ring::{Consumer, LINE_BYTES, Producer, Pushed, RingMemory};

/// Each thread may be interrupted at any place, this many times in all: more take minutes and find
/// nothing more.
const PREEMPTIONS: usize = 3;

/// Smallest ring whose records may have two lines.
const CAPACITY: usize = 8 * LINE_BYTES as usize;
const WORD: usize = 8;

/// What is left out to show that the model notices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// The sequentially consistent fence between `end` and `parked`.
    Fence,
    /// Release on `end`.
    Release,
    /// Acquire on `head`.
    Acquire,
}

/// Ring memory whose data loom checks for races: each word is a cell, and each line's `end` an atomic.
struct Memory {
    ends: Vec<AtomicU64>,
    head: AtomicU64,
    parked: AtomicBool,
    data: Vec<UnsafeCell<[u8; WORD]>>,
    without: Without,
}

#[derive(Clone)]
struct Shared(Arc<Memory>);

impl Shared {
    fn new(without: Without) -> Shared {
        Shared(Arc::new(Memory {
            ends: (0..CAPACITY as u64 / LINE_BYTES)
                .map(|_| AtomicU64::new(0))
                .collect(),
            head: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            data: (0..CAPACITY / WORD)
                .map(|_| UnsafeCell::new([0; WORD]))
                .collect(),
            without,
        }))
    }
}

impl RingMemory for Shared {
    fn capacity(&self) -> u64 {
        CAPACITY as u64
    }
    fn load_end(&self, at: u64) -> u64 {
        self.0.ends[(at / LINE_BYTES) as usize].load(Ordering::Acquire)
    }
    fn store_end(&self, at: u64, value: u64) {
        let order = match self.0.without {
            Without::Release => Ordering::Relaxed,
            _ => Ordering::Release,
        };
        self.0.ends[(at / LINE_BYTES) as usize].store(value, order);
    }
    fn load_head(&self) -> u64 {
        let order = match self.0.without {
            Without::Acquire => Ordering::Relaxed,
            _ => Ordering::Acquire,
        };
        self.0.head.load(order)
    }
    fn store_head(&self, value: u64) {
        self.0.head.store(value, Ordering::Release);
    }
    fn parked(&self) -> bool {
        self.0.parked.load(Ordering::Relaxed)
    }
    fn set_parked(&self, parked: bool) {
        self.0.parked.store(parked, Ordering::Relaxed);
    }
    fn take_parked(&self) -> bool {
        let parked = &self.0.parked;
        parked
            .compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
    fn full_fence(&self) {
        if self.0.without != Without::Fence {
            fence(Ordering::SeqCst);
        }
    }
    fn read(&self, at: u64, into: &mut [u8]) {
        for (cell, to) in self.0.data[at as usize / WORD..]
            .iter()
            .zip(into.chunks_mut(WORD))
        {
            // SAFETY: loom stops the model when this read races with a write.
            cell.with(|from| to.copy_from_slice(unsafe { &*from }));
        }
    }
    fn write(&self, at: u64, from: &[u8]) {
        for (cell, from) in self.0.data[at as usize / WORD..]
            .iter()
            .zip(from.chunks(WORD))
        {
            // SAFETY: loom stops the model when this write races with another access.
            cell.with_mut(|to| unsafe { (*to).copy_from_slice(from) });
        }
    }
}

/// An eventfd.
#[derive(Default)]
struct Doorbell(Mutex<u64>, Condvar);

impl Doorbell {
    fn ring(&self) {
        *self.0.lock().expect("lock") += 1;
        self.1.notify_one();
    }
    fn wait(&self) {
        let mut count = self.0.lock().expect("lock");
        while *count == 0 {
            count = self.1.wait(count).expect("lock");
        }
        *count = 0;
    }
}

fn header(seq: u32) -> Header {
    Header {
        len: 0,
        opcode: 1,
        flags: Flags::POSTED,
        seq,
        word: seq,
        total: u64::from(seq),
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(f);
}

/// A payload that makes a record this many lines long.
fn payload(lines: usize) -> Vec<u8> {
    vec![lines as u8; lines.saturating_sub(1) * LINE_BYTES as usize]
}

/// Fill the ring, and the last one begins where it ends: its second line is one that the producer
/// learns to be free when it writes there.
const AROUND: &[usize] = &[2, 2, 2, 1, 2];

/// The consumer takes records of so many lines without ever sleeping.
fn pass(records: &'static [usize], without: Without) {
    model(move || {
        let memory = Shared::new(without);
        let consumer = {
            let memory = memory.clone();
            thread::spawn(move || {
                let (mut consumer, mut got) = (Consumer::new(memory), Vec::new());
                for (seq, lines) in (0..).zip(records) {
                    let head = loop {
                        match consumer.pop(&mut got).expect("valid") {
                            Some(head) => break head,
                            None => thread::yield_now(),
                        }
                    };
                    let mut whole = header(seq);
                    whole.len = (HEADER_BYTES + got.len()) as u32;
                    assert_eq!((head, &got), (whole, &payload(*lines)));
                }
                assert_eq!(consumer.pop(&mut got), Ok(None));
            })
        };
        let mut producer = Producer::new(memory);
        for (seq, lines) in (0..).zip(records) {
            let payload = payload(*lines);
            while producer.push(header(seq), &[&payload]).expect("valid") == Pushed::Full {
                thread::yield_now();
            }
        }
        consumer.join().expect("consumer");
    });
}

/// The consumer sleeps whenever it may; a lost wake-up is a deadlock, which loom reports.
fn handshake(records: u32, without: Without) {
    model(move || {
        let memory = Shared::new(without);
        let doorbell = Arc::new(Doorbell::default());
        let consumer = {
            let (memory, doorbell) = (memory.clone(), Arc::clone(&doorbell));
            thread::spawn(move || {
                let (mut consumer, mut payload) = (Consumer::new(memory), Vec::new());
                let mut seq = 0;
                while seq < records {
                    match consumer.pop(&mut payload).expect("valid") {
                        Some(got) => {
                            assert_eq!(got.seq, seq);
                            seq += 1;
                        }
                        None if consumer.park() => {
                            doorbell.wait();
                            consumer.unpark();
                        }
                        None => {}
                    }
                }
            })
        };
        let mut producer = Producer::new(memory);
        for seq in 0..records {
            match producer.push(header(seq), &[]).expect("valid") {
                Pushed::Done { kick: true } => doorbell.ring(),
                Pushed::Done { kick: false } => {}
                Pushed::Full => panic!("the ring holds seven records"),
            }
        }
        consumer.join().expect("consumer");
    });
}

#[test]
fn records_are_never_torn_or_lost() {
    pass(&[1, 2], Without::Nothing);
}

#[test]
fn a_full_ring_is_reused_without_a_race() {
    pass(AROUND, Without::Nothing);
}

#[test]
fn a_sleeping_consumer_is_always_woken() {
    handshake(3, Without::Nothing);
}

// The model finds the defect that each of these leaves in. loom's report may end the process, so
// each runs in one of its own: the same test once more, with this in the environment.
const DEFECTIVE: &str = "VGPU_LOOM_DEFECTIVE";

/// Checks that `model` fails with `what`, in the test of this name.
fn caught(test: &str, what: &str, model: impl FnOnce()) {
    if std::env::var_os(DEFECTIVE).is_some() {
        return model();
    }
    let output = std::process::Command::new(std::env::current_exe().expect("path"))
        .args([test, "--exact", "--nocapture"])
        .env(DEFECTIVE, "1")
        .output()
        .expect("the test starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "the defect was not found");
    assert!(
        text.contains(what),
        "{test} failed for another reason: {text}"
    );
}

#[test]
fn the_model_finds_missing_release() {
    caught(
        "the_model_finds_missing_release",
        "Causality violation",
        || pass(&[1], Without::Release),
    );
}

#[test]
fn the_model_finds_missing_acquire() {
    caught(
        "the_model_finds_missing_acquire",
        "Causality violation",
        || pass(AROUND, Without::Acquire),
    );
}

#[test]
fn the_model_finds_a_missing_fence() {
    caught("the_model_finds_a_missing_fence", "deadlock", || {
        handshake(1, Without::Fence)
    });
}
