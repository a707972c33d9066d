//! Streams, events, and copies through the arena.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{DevPtr, EventId, StreamId};

use crate::harness::{
    ARENA_BYTES, Channel, DEFAULT, FakeDriver, KIB, OpenDriver, eventually, span,
};

const INVALID_VALUE: Status = Status::ERROR_INVALID_VALUE;
const INVALID_HANDLE: Status = Status::ERROR_INVALID_HANDLE;

#[test]
fn the_arena_is_let_go_when_the_gpu_has_read_it() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let endless = c.kernel(ctx, module, "endless").function;
    let to = c.session.mem_alloc(ctx, 128 * KIB).expect("memory");
    c.session
        .stream_create(ctx, StreamId(1), 1, 0)
        .expect("a stream");
    c.arena.write(0, &[1; 64 << 10]).expect("inside");
    c.arena.write(64 * KIB, &[2; 64 << 10]).expect("inside");
    c.launch(ctx, endless, StreamId(1), &[]).expect("a launch");
    c.session
        .memcpy_htod(ctx, to, StreamId(1), span(0, 64 * KIB))
        .expect("posted");
    // On another stream, so it is done first; but the arena is let go in order.
    c.session
        .memcpy_htod(
            ctx,
            DevPtr(to.0 + 64 * KIB),
            DEFAULT,
            span(64 * KIB, 64 * KIB),
        )
        .expect("posted");
    assert_eq!(
        c.session
            .memcpy_htod(ctx, DevPtr(1), DEFAULT, span(128 * KIB, 8)),
        Err(INVALID_VALUE)
    );
    c.session.stream_synchronize(ctx, DEFAULT).expect("done");
    assert_eq!(c.read(ctx, DevPtr(to.0 + 64 * KIB), 4), [2; 4]);
    // Time for what must not happen.
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(c.arena_done(), 0, "the first copy still reads the arena");
    driver.configure("release");
    c.session
        .stream_synchronize(ctx, StreamId(1))
        .expect("done");
    eventually("the arena is let go", || c.arena_done() == 128 * KIB + 8);
    c.arena.write(0, &[9; 64 << 10]).expect("inside");
    assert_eq!(c.read(ctx, to, 4), [1; 4]);
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn an_arena_that_cannot_be_pinned_is_copied_from_all_the_same() {
    let driver = FakeDriver::new("fail cuMemHostRegister_v2 * 801");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let busy = c.kernel(ctx, module, "busy").function;
    let to = c.session.mem_alloc(ctx, ARENA_BYTES).expect("memory");
    for round in 0..3u8 {
        let bytes = vec![round + 1; ARENA_BYTES as usize];
        c.arena.write(0, &bytes).expect("inside");
        // The fake driver ends the process where the copy would wait for the kernel.
        c.launch(ctx, busy, DEFAULT, &50u32.to_le_bytes())
            .expect("a launch");
        c.session
            .memcpy_htod(
                ctx,
                to,
                DEFAULT,
                span(u64::from(round) * ARENA_BYTES, ARENA_BYTES),
            )
            .expect("posted");
        eventually("the arena is let go", || {
            c.arena_done() == (u64::from(round) + 1) * ARENA_BYTES
        });
        assert_eq!(
            c.read(ctx, DevPtr(to.0 + ARENA_BYTES - 4), 4),
            [round + 1; 4]
        );
    }
    assert_eq!(driver.count("cuMemHostRegister_v2 = 801"), 1, "tried once");
}

#[test]
fn spans_outside_of_the_arena_are_refused() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let memory = c.session.mem_alloc(ctx, 4 * ARENA_BYTES).expect("memory");
    for bad in [
        span(0, ARENA_BYTES + 1),
        span(ARENA_BYTES - 8, 16),
        span(5, u64::MAX),
    ] {
        assert_eq!(
            c.session.memcpy_htod(ctx, memory, DEFAULT, bad.clone()),
            Err(INVALID_VALUE)
        );
        assert_eq!(
            c.session.memcpy_dtoh(ctx, memory, DEFAULT, bad),
            Err(INVALID_VALUE)
        );
    }
    assert_eq!(
        driver.count("cuMemcpyHtoDAsync_v2") + driver.count("cuMemcpyDtoHAsync_v2"),
        0
    );
}

#[test]
fn bytes_come_back_through_the_arena() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let memory = c.session.mem_alloc(ctx, 4096).expect("memory");
    c.session
        .memcpy_htod_inline(ctx, memory, DEFAULT, &[1, 2, 3, 4])
        .expect("posted");
    c.session
        .memset(ctx, DevPtr(memory.0 + 8), 2, 0xabcd, 2, DEFAULT)
        .expect("posted");
    c.session
        .memcpy_dtod(ctx, DevPtr(memory.0 + 100), memory, 16, DEFAULT)
        .expect("posted");
    c.session
        .memcpy_dtoh(
            ctx,
            DevPtr(memory.0 + 100),
            DEFAULT,
            span(ARENA_BYTES + 64, 16),
        )
        .expect("copied");
    let mut back = [0; 16];
    c.arena.read(64, &mut back).expect("inside");
    assert_eq!(
        back,
        [1, 2, 3, 4, 0, 0, 0, 0, 0xcd, 0xab, 0xcd, 0xab, 0, 0, 0, 0]
    );
    assert_eq!(c.arena_done(), ARENA_BYTES + 80);
}

#[test]
fn streams_and_events_order_work() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let busy = c.kernel(ctx, module, "busy").function;
    let memory = c.session.mem_alloc(ctx, 16).expect("memory");
    let (a, b) = (StreamId(1), StreamId(2));
    for stream in [a, b] {
        c.session
            .stream_create(ctx, stream, 1, -5)
            .expect("a stream");
    }
    assert_eq!(
        c.session.stream_create(ctx, a, 1, 0),
        Err(INVALID_HANDLE),
        "taken"
    );
    assert_eq!(
        c.session.stream_create(ctx, StreamId(9), 2, 0),
        Err(INVALID_VALUE)
    );
    for event in [1, 2] {
        c.session
            .event_create(ctx, EventId(event), 0)
            .expect("an event");
    }
    c.session
        .event_create(ctx, EventId(3), 2)
        .expect("an event without timing");
    assert_eq!(
        c.session.event_create(ctx, EventId(4), 4),
        Err(INVALID_VALUE),
        "for other processes"
    );
    assert_eq!(
        c.session.event_query(ctx, EventId(1)),
        Ok(()),
        "never recorded"
    );
    c.session
        .event_record(ctx, EventId(1), a, 0)
        .expect("posted");
    c.launch(ctx, busy, a, &1000u32.to_le_bytes())
        .expect("a launch");
    c.session.memset(ctx, memory, 4, 1, 1, a).expect("posted");
    c.session
        .event_record(ctx, EventId(2), a, 0)
        .expect("posted");
    c.session
        .stream_wait_event(ctx, b, EventId(2), 0)
        .expect("posted");
    c.session.memset(ctx, memory, 4, 2, 1, b).expect("posted");
    assert_eq!(c.session.stream_query(ctx, b), Err(Status::ERROR_NOT_READY));
    assert_eq!(
        c.session.event_query(ctx, EventId(2)),
        Err(Status::ERROR_NOT_READY)
    );
    c.session.stream_synchronize(ctx, b).expect("done");
    assert_eq!(c.session.event_synchronize(ctx, EventId(2)), Ok(()));
    assert_eq!(
        c.read(ctx, memory, 4),
        [2, 0, 0, 0],
        "after the event, so after the kernel"
    );
    assert!(
        c.session
            .event_elapsed_time(ctx, EventId(1), EventId(2))
            .expect("recorded")
            > 0.0
    );
    assert_eq!(
        c.session.event_elapsed_time(ctx, EventId(3), EventId(2)),
        Err(INVALID_HANDLE)
    );
    // A stream that is destroyed in work is waited for all the same.
    c.launch(ctx, busy, a, &100u32.to_le_bytes())
        .expect("a launch");
    c.session.memset(ctx, memory, 4, 3, 1, a).expect("posted");
    c.session.stream_destroy(ctx, a).expect("destroyed");
    assert_eq!(c.session.stream_query(ctx, a), Err(INVALID_HANDLE));
    c.session.ctx_synchronize(ctx).expect("done");
    assert_eq!(c.read(ctx, memory, 4), [3, 0, 0, 0]);
    c.session.event_destroy(ctx, EventId(1)).expect("destroyed");
    assert_eq!(c.session.event_query(ctx, EventId(1)), Err(INVALID_HANDLE));
    c.session.ctx_destroy(ctx, ctx).expect("destroyed");
    assert_eq!(c.session.event_query(ctx, EventId(2)), Err(INVALID_HANDLE));
    driver.assert_all_freed();
}

#[test]
fn the_default_stream_is_waited_for_with_what_it_is_ordered_with() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let busy = c.kernel(ctx, module, "busy").function;
    let memory = c.session.mem_alloc(ctx, 16).expect("memory");
    c.session
        .stream_create(ctx, StreamId(1), 0, 0)
        .expect("a blocking stream");
    c.launch(ctx, busy, StreamId(1), &200u32.to_le_bytes())
        .expect("a launch");
    c.session
        .memset(ctx, memory, 4, 6, 1, StreamId(1))
        .expect("posted");
    assert_eq!(c.read(ctx, memory, 4), [6, 0, 0, 0]);
}
