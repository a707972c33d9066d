//! Streams and events.

use vgpu_conformance::Bench;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{EventId, StreamId, stubs};

/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIME: u32 = 2;

pub fn streams_have_the_guest_s_names(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let create =
        |name, flags| client.now(|c| stubs::stream_create(c, ctx, StreamId(name), flags, 0));
    assert_eq!(create(7, 0), Ok(()));
    assert_eq!(create(8, 1), Ok(()), "CU_STREAM_NON_BLOCKING");
    assert_eq!(create(9, 2), Err(Status::ERROR_INVALID_VALUE));
    assert_eq!(create(7, 0), Err(Status::ERROR_INVALID_HANDLE), "taken");
    assert_eq!(
        create(0, 0),
        Err(Status::ERROR_INVALID_HANDLE),
        "0 is the default stream"
    );
    client
        .now(|c| stubs::stream_destroy(c, ctx, StreamId(7)))
        .expect("destroyed");
    assert_eq!(create(7, 0), Ok(()), "free again");
}

pub fn unknown_streams_and_events(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let (s, e) = (StreamId(42), EventId(42));
    let bad = Err(Status::ERROR_INVALID_HANDLE);
    assert_eq!(stubs::stream_synchronize(&client, ctx, s), bad);
    assert_eq!(stubs::stream_query(&client, ctx, s), bad);
    assert_eq!(client.now(|c| stubs::stream_destroy(c, ctx, s)), bad);
    assert_eq!(
        client.now(|c| stubs::stream_destroy(c, ctx, StreamId(0))),
        bad
    );
    assert_eq!(stubs::event_query(&client, ctx, e), bad);
    assert_eq!(stubs::event_synchronize(&client, ctx, e), bad);
    assert_eq!(client.now(|c| stubs::event_destroy(c, ctx, e)), bad);
    assert_eq!(
        client.now(|c| stubs::event_record(c, ctx, e, StreamId(0), 0)),
        bad
    );
    assert_eq!(
        client.now(|c| stubs::stream_wait_event(c, ctx, StreamId(0), e, 0)),
        bad
    );
    assert_eq!(
        client.now(|c| stubs::event_create(c, ctx, EventId(0), 0)),
        bad
    );
    let ptr = client.alloc(ctx, 64);
    assert_eq!(client.now(|c| stubs::memset(c, ctx, ptr, 1, 1, 64, s)), bad);
}

pub fn work_on_streams_is_done_when_they_are_synchronized(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 4096);
    for name in 1..=4u32 {
        stubs::stream_create(&client, ctx, StreamId(name), 1, 0).expect("posted");
    }
    for turn in 0..20u32 {
        for name in 1..=4u32 {
            let piece = vgpu_protocol::calls::DevPtr(ptr.0 + u64::from(name - 1) * 1024);
            stubs::memset(
                &client,
                ctx,
                piece,
                4,
                name << 16 | turn,
                256,
                StreamId(name),
            )
            .expect("posted");
        }
    }
    for name in 1..=4u32 {
        stubs::stream_synchronize(&client, ctx, StreamId(name)).expect("done");
        assert_eq!(stubs::stream_query(&client, ctx, StreamId(name)), Ok(()));
    }
    let got = client.read(ctx, ptr, 4096);
    for name in 1..=4usize {
        let expected = ((name as u32) << 16 | 19).to_le_bytes().repeat(256);
        assert!(
            got[(name - 1) * 1024..name * 1024] == expected,
            "stream {name}"
        );
    }
}

pub fn time_between_events(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let (a, b) = (EventId(1), EventId(2));
    let ptr = client.alloc(ctx, 16 << 20);
    for event in [a, b] {
        client
            .now(|c| stubs::event_create(c, ctx, event, 0))
            .expect("event");
        // "If cuEventRecord has not been called on this event, success" (cuEventQuery).
        assert_eq!(stubs::event_query(&client, ctx, event), Ok(()));
        assert_eq!(stubs::event_synchronize(&client, ctx, event), Ok(()));
    }
    assert_eq!(
        stubs::event_elapsed_time(&client, ctx, a, b),
        Err(Status::ERROR_INVALID_HANDLE),
        "never recorded"
    );
    let record = |event| {
        client
            .now(|c| stubs::event_record(c, ctx, event, StreamId(0), 0))
            .expect("recorded")
    };
    record(a);
    client
        .now(|c| stubs::memset(c, ctx, ptr, 4, 1, 4 << 20, StreamId(0)))
        .expect("set");
    record(b);
    stubs::event_synchronize(&client, ctx, b).expect("reached");
    assert_eq!(stubs::event_query(&client, ctx, b), Ok(()));
    let forth = stubs::event_elapsed_time(&client, ctx, a, b).expect("time");
    let back = stubs::event_elapsed_time(&client, ctx, b, a).expect("time");
    assert!(forth > 0.0 && forth == -back, "{forth} ms and {back} ms");
    assert_eq!(stubs::event_elapsed_time(&client, ctx, a, a), Ok(0.0));
}

pub fn events_without_time(bench: &Bench) {
    let (client, ctx) = bench.ready();
    for event in [1, 2] {
        client
            .now(|c| stubs::event_create(c, ctx, EventId(event), NO_TIME))
            .expect("event");
        client
            .now(|c| stubs::event_record(c, ctx, EventId(event), StreamId(0), 0))
            .expect("recorded");
    }
    stubs::ctx_synchronize(&client, ctx).expect("done");
    let time = stubs::event_elapsed_time(&client, ctx, EventId(1), EventId(2));
    assert_eq!(time, Err(Status::ERROR_INVALID_HANDLE));
    let flags = client.now(|c| stubs::event_create(c, ctx, EventId(3), 1 << 30));
    assert_eq!(flags, Err(Status::ERROR_INVALID_VALUE));
}

pub fn a_stream_waits_for_an_event(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 8 << 20);
    let (one, two, event) = (StreamId(1), StreamId(2), EventId(1));
    for stream in [one, two] {
        stubs::stream_create(&client, ctx, stream, 1, 0).expect("posted");
    }
    stubs::event_create(&client, ctx, event, NO_TIME).expect("posted");
    stubs::memset(&client, ctx, ptr, 4, 1, 2 << 20, one).expect("posted");
    stubs::event_record(&client, ctx, event, one, 0).expect("posted");
    stubs::stream_wait_event(&client, ctx, two, event, 0).expect("posted");
    stubs::memset(&client, ctx, ptr, 4, 2, 2 << 20, two).expect("posted");
    stubs::stream_synchronize(&client, ctx, two).expect("done");
    assert_eq!(client.read(ctx, ptr, 4), 2u32.to_le_bytes());
    let last = vgpu_protocol::calls::DevPtr(ptr.0 + (8 << 20) - 4);
    assert_eq!(client.read(ctx, last, 4), 2u32.to_le_bytes());
}
