//! The transport against the fake device.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, StreamId, stubs};
use vgpu_protocol::layout::index;
use vgpu_protocol::limits::MAX_INLINE_COPY_BYTES;
use vgpu_protocol::regs::{ABI_VERSION, ChannelState, DeviceStatus};
use vgpu_protocol::wire::Blob;

use crate::Channel;
use crate::copy::Place;
use crate::error::ConnectError;
use crate::fake::{Client, Device};
use crate::user::{Source, Target};

const CTX: CtxId = CtxId(1);
const PLACE: Place = Place {
    ctx: CTX,
    stream: StreamId(0),
};

fn device() -> Arc<Device> {
    Device::new(16 << 20, 4)
}

fn open(device: &Arc<Device>) -> Channel {
    Channel::open(device.client()).expect("a free channel")
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[test]
fn a_message_longer_than_the_ring_arrives_whole() {
    let device = device();
    let channel = open(&device);
    let image = pattern(20 << 20);
    let loaded = stubs::module_load(&channel, CTX, &image, Vec::new()).expect("loads");
    assert_eq!(loaded.info_log, format!("{} bytes", image.len()));
    let sum = image.iter().map(|b| u64::from(*b)).sum();
    assert_eq!(device.host().image, (image.len(), sum));
}

#[test]
fn text_of_kernels_is_taken_after_the_next_call_that_waits() {
    static TAKEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let device = device();
    let channel = open(&device);
    channel.on_output(|channel| {
        let (out, err) = stubs::output(channel, CtxId(0)).expect("answers");
        assert_eq!(err.0, b"err");
        TAKEN.lock().expect("lives").extend(out.0);
    });
    stubs::ctx_synchronize(&channel, CTX).expect("answers");
    assert_eq!(device.host().count("vgpuOutput"), 0, "no text, no message");
    device.host().text = (Blob(b"text".to_vec()), Blob(b"err".to_vec()));
    stubs::ctx_synchronize(&channel, CTX).expect("answers");
    assert_eq!(*TAKEN.lock().expect("lives"), b"text");
    stubs::ctx_synchronize(&channel, CTX).expect("answers");
    assert_eq!(device.host().count("vgpuOutput"), 1);
}

#[test]
fn a_reply_longer_than_the_ring_arrives_whole() {
    let device = device();
    let channel = open(&device);
    let data = pattern(3 << 20);
    let at = stubs::mem_alloc(&channel, CTX, data.len() as u64).expect("room");
    channel
        .copy_to_device(PLACE, at, Source::of(&data))
        .expect("copies");
    let back = stubs::memcpy_dtoh_inline(&channel, CTX, at, StreamId(0), data.len() as u32);
    assert_eq!(back.expect("answers").0, data);
}

#[test]
fn copies_of_all_sizes_go_around_the_arena_and_come_back() {
    let device = device();
    let channel = open(&device);
    let most = 9 << 20;
    let at = stubs::mem_alloc(&channel, CTX, most as u64).expect("room");
    let inline = MAX_INLINE_COPY_BYTES as usize;
    for bytes in [1, 7, inline, inline + 1, 65_537, 1 << 20, most - 3, most] {
        let data = pattern(bytes);
        channel
            .copy_to_device(PLACE, at, Source::of(&data))
            .expect("copies");
        let mut back = vec![0; bytes];
        channel
            .copy_from_device(PLACE, at, Target::of(&mut back))
            .expect("copies");
        assert!(back == data, "{bytes} bytes");
    }
}

#[test]
fn threads_copy_both_ways_at_once() {
    let device = device();
    let channel = open(&device);
    thread::scope(|scope| {
        for t in 0..4u8 {
            let channel = &channel;
            scope.spawn(move || {
                let mut data = pattern(700_001);
                data.iter_mut().for_each(|b| *b ^= t);
                let at = stubs::mem_alloc(channel, CTX, data.len() as u64).expect("room");
                for _ in 0..5 {
                    channel
                        .copy_to_device(PLACE, at, Source::of(&data))
                        .expect("copies");
                    let mut back = vec![0; data.len()];
                    channel
                        .copy_from_device(PLACE, at, Target::of(&mut back))
                        .expect("copies");
                    assert!(back == data, "thread {t}");
                }
            });
        }
    });
}

#[test]
fn replies_in_any_order_reach_the_threads_that_wait_for_them() {
    const THREADS: u32 = 4;
    let device = device();
    let channel = open(&device);
    let at = stubs::mem_alloc(&channel, CTX, 4096).expect("room");
    channel
        .copy_to_device(PLACE, at, Source::of(&pattern(4096)))
        .expect("copies");
    device.hold_replies.store(THREADS, Ordering::Release);
    thread::scope(|scope| {
        for t in 0..THREADS {
            let channel = &channel;
            scope.spawn(move || {
                for round in 0..100 {
                    // Every thread asks for another length, so that a mix-up shows.
                    let bytes = 8 * (t + 1) + round;
                    let blob = stubs::memcpy_dtoh_inline(channel, CTX, at, StreamId(0), bytes);
                    assert_eq!(blob.expect("answers").0, pattern(bytes as usize));
                }
            });
        }
    });
}

#[test]
fn a_full_ring_holds_the_sender_back_and_loses_nothing() {
    let device = device();
    let channel = open(&device);
    let at = stubs::mem_alloc(&channel, CTX, 4096).expect("room");
    device.paused.store(true, Ordering::Release);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            // Far more than the command ring holds.
            for i in 0..20_000u32 {
                stubs::memset(&channel, CTX, at, 4, i, 1, StreamId(0)).expect("posted");
            }
        });
        while channel.backlog() < 200_000 {
            thread::yield_now();
        }
        assert!(!sender.is_finished());
        device.paused.store(false, Ordering::Release);
    });
    let mut last = [0; 4];
    channel
        .copy_from_device(PLACE, at, Target::of(&mut last))
        .expect("copies");
    assert_eq!(u32::from_le_bytes(last), 19_999);
    assert_eq!(device.host().count("cuMemsetD"), 20_000);
}

#[test]
fn an_awake_worker_is_not_rung() {
    let device = device();
    let channel = open(&device);
    let at = stubs::mem_alloc(&channel, CTX, 4096).expect("room");
    device.paused.store(true, Ordering::Release);
    // Wakes it into its pause, from which it does not park.
    stubs::memset(&channel, CTX, at, 1, 0, 1, StreamId(0)).expect("posted");
    thread::sleep(Duration::from_millis(20));
    let before = device.rung.load(Ordering::Relaxed);
    for _ in 0..100 {
        stubs::memset(&channel, CTX, at, 1, 0, 1, StreamId(0)).expect("posted");
    }
    assert!(device.rung.load(Ordering::Relaxed) <= before + 1);
    device.paused.store(false, Ordering::Release);
    stubs::ctx_synchronize(&channel, CTX).expect("done");
}

#[test]
fn an_error_of_a_posted_call_comes_with_the_next_that_waits_and_once() {
    let device = device();
    let channel = open(&device);
    stubs::mem_free(&channel, CTX, DevPtr(1)).expect("posted");
    stubs::device_table(&channel, CTX).expect("asks: errors stay where they are");
    assert_eq!(
        stubs::ctx_synchronize(&channel, CTX),
        Err(Status::ERROR_INVALID_VALUE)
    );
    assert_eq!(stubs::ctx_synchronize(&channel, CTX), Ok(()));
}

#[test]
fn with_sync_an_error_comes_with_the_call_that_made_it() {
    let device = device();
    let mut channel = open(&device);
    channel.set_sync();
    assert_eq!(
        stubs::mem_free(&channel, CTX, DevPtr(1)),
        Err(Status::ERROR_INVALID_VALUE)
    );
    let at = stubs::mem_alloc(&channel, CTX, 16).expect("room");
    assert_eq!(stubs::mem_free(&channel, CTX, at), Ok(()));
    assert_eq!(device.host().count("cuCtxSynchronize"), 2);
}

#[test]
fn an_error_in_the_middle_of_a_copy_leaves_the_arena_whole() {
    let device = device();
    let channel = open(&device);
    let at = stubs::mem_alloc(&channel, CTX, 1 << 20).expect("room");
    let mut back = vec![0; 4 << 20];
    let result = channel.copy_from_device(PLACE, at, Target::of(&mut back));
    assert_eq!(result, Err(Status::ERROR_ILLEGAL_ADDRESS));
    let data = pattern(1 << 20);
    for _ in 0..20 {
        channel
            .copy_to_device(PLACE, at, Source::of(&data))
            .expect("copies");
    }
    let mut back = vec![0; 1 << 20];
    channel
        .copy_from_device(PLACE, at, Target::of(&mut back))
        .expect("copies");
    assert!(back == data);
}

#[test]
fn a_killed_owner_is_noticed_and_what_it_had_is_freed() {
    let device = device();
    let victim = device.client();
    let number = victim.number();
    let channel = Channel::open(victim).expect("a free channel");
    assert_eq!(channel.number(), 0);
    stubs::mem_alloc(&channel, CTX, 4096).expect("room");
    assert_eq!(device.host().allocations(), 1);
    Client::killed(&device, number);
    let next = open(&device);
    assert_eq!(device.host().allocations(), 0);
    assert!(stubs::mem_alloc(&next, CTX, 4096).is_ok());
    assert_ne!(next.number(), channel.number());
    // The one that was taken away says so instead of waiting for ever.
    assert_eq!(
        stubs::ctx_synchronize(&channel, CTX),
        Err(Status::ERROR_DEVICE_UNAVAILABLE)
    );
}

#[test]
fn a_channel_that_fails_while_waiting_ends_the_wait() {
    let device = device();
    let channel = open(&device);
    device.paused.store(true, Ordering::Release);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| stubs::ctx_synchronize(&channel, CTX));
        device.set_state(channel.number(), ChannelState::Failed);
        let result = waiter.join().expect("no panic");
        assert_eq!(result, Err(Status::ERROR_DEVICE_UNAVAILABLE));
    });
    // And it is remembered.
    assert_eq!(
        stubs::ctx_synchronize(&channel, CTX),
        Err(Status::ERROR_DEVICE_UNAVAILABLE)
    );
}

#[test]
fn every_channel_can_be_claimed_and_one_more_is_refused() {
    let device = device();
    let mut channels: Vec<Channel> = (0..4).map(|_| open(&device)).collect();
    let mut numbers: Vec<u32> = channels.iter().map(Channel::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    let error = Channel::open(device.client()).expect_err("all are taken");
    assert!(error.to_string().contains("4 of 4 are in use"), "{error}");
    let gone = channels.remove(2);
    gone.close();
    assert_eq!(device.state(gone.number()), Some(ChannelState::Free));
    assert_eq!(
        stubs::ctx_synchronize(&gone, CTX),
        Err(Status::ERROR_DEINITIALIZED)
    );
}

#[test]
fn closing_waits_for_what_was_posted() {
    let device = device();
    let channel = open(&device);
    let at = stubs::mem_alloc(&channel, CTX, 4096).expect("room");
    for _ in 0..1000 {
        stubs::memset(&channel, CTX, at, 1, 0, 1, StreamId(0)).expect("posted");
    }
    channel.close();
    assert_eq!(device.host().count("cuMemsetD"), 1000);
}

#[test]
fn another_call_table_is_refused_with_both_hashes() {
    let device = device();
    device.hash_error.store(1, Ordering::Relaxed);
    let error = Channel::open(device.client()).expect_err("refused");
    let ours = vgpu_protocol::PROTOCOL_HASH;
    let text = error.to_string();
    assert!(text.contains(&format!("{ours:#018x}")), "{text}");
    assert!(text.contains(&format!("{:#018x}", ours ^ 1)), "{text}");
    assert_eq!(error.status(), Status::ERROR_SYSTEM_DRIVER_MISMATCH);
    assert_eq!(device.state(0), Some(ChannelState::Free));
    // The host is told as well.
    assert_eq!(device.guest_hash.load(Ordering::Relaxed), ours as u32);
}

#[test]
fn another_major_version_is_refused_and_another_minor_is_not() {
    let device = device();
    device.abi.store(ABI_VERSION + 7, Ordering::Relaxed);
    open(&device);
    device
        .abi
        .store(ABI_VERSION + 0x0001_0000, Ordering::Relaxed);
    let error = Channel::open(device.client()).expect_err("refused");
    assert!(
        error.to_string().contains("ABI 3.0, this library 2.0"),
        "{error}"
    );
}

#[test]
fn a_broken_device_is_refused_at_once() {
    let device = device();
    device
        .status
        .store(DeviceStatus::BROKEN.bits(), Ordering::Relaxed);
    let error = Channel::open(device.client()).expect_err("refused");
    assert!(matches!(error, ConnectError::Broken { .. }), "{error}");
}

#[test]
fn who_sleeps_long_is_woken_by_an_interrupt() {
    let device = device();
    device.can_interrupt.store(true, Ordering::Relaxed);
    let channel = open(&device);
    for turn in 1..=20u64 {
        device.paused.store(true, Ordering::Release);
        thread::scope(|scope| {
            // Two threads wait: the one that does not sleep finds its reply all the same.
            for _ in 0..2 {
                let channel = &channel;
                scope.spawn(move || stubs::ctx_synchronize(channel, CTX).expect("answers"));
            }
            let parked = || {
                let index = device.index(channel.number());
                let word = index.word32(index::REPLY_PARKED).expect("inside");
                word.load(Ordering::Acquire) != 0
            };
            while !parked() {
                thread::sleep(Duration::from_micros(100));
            }
            device.paused.store(false, Ordering::Release);
        });
        let interrupts = *device.interrupted.0.lock().expect("lives");
        assert!(interrupts >= turn, "{interrupts} interrupts in turn {turn}");
    }
    let all = *device.interrupted.0.lock().expect("lives");
    assert!(all <= 40, "{all}: at most one for each reply");
}
