//! Illegal accesses, endless kernels, deferred errors, foreign handles.

use std::sync::Arc;

use vgpu_conformance::{Bench, Client, STREAM};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, ModuleId, StreamId, stubs};
use vgpu_test_harness::ptx;

/// Lets a kernel write to an address that is nobody's.
fn poke_nothing(client: &Client, ctx: CtxId) {
    let module = client.load(ctx, ptx::MISCHIEF);
    let poke = client.function(ctx, module, "poke");
    client
        .launch(ctx, &poke, 1, &64u64.to_le_bytes())
        .expect("launched");
}

pub fn an_illegal_address_ends_its_context(bench: &Bench) {
    let client = bench.client();
    let none = CtxId(0);
    let ctx = stubs::ctx_create(&client, none, 0, 0).expect("context");
    let ptr = client.alloc(ctx, 64);
    poke_nothing(&client, ctx);
    let illegal = Status::ERROR_ILLEGAL_ADDRESS;
    assert_eq!(stubs::ctx_synchronize(&client, ctx), Err(illegal));
    // "any further CUDA work will return the same error" (CUresult).
    assert_eq!(stubs::ctx_synchronize(&client, ctx), Err(illegal));
    assert_eq!(stubs::mem_alloc(&client, ctx, 64).err(), Some(illegal));
    let read = stubs::memcpy_dtoh_inline(&client, ctx, ptr, STREAM, 4);
    assert_eq!(read.err(), Some(illegal));
    let loaded = stubs::module_load(&client, ctx, ptx::VECTOR_ADD.as_bytes(), Vec::new());
    assert_eq!(loaded.err(), Some(illegal));
    stubs::ctx_destroy(&client, none, ctx).expect("it can be destroyed");
    let fresh = stubs::ctx_create(&client, none, 0, 0).expect("and a new one works");
    let ptr = client.alloc(fresh, 64);
    client.write(fresh, ptr, &[5; 64]);
    assert_eq!(client.read(fresh, ptr, 64), [5; 64]);
}

pub fn another_session_does_not_notice(bench: &Bench) {
    let mediator = bench.mediator(256 << 20);
    let open = || {
        let client = Client::open(&mediator);
        stubs::init(&client, CtxId(0), 0).expect("cuInit");
        let ctx = stubs::primary_ctx_retain(&client, CtxId(0), 0).expect("context");
        (client, ctx)
    };
    let ((good, good_ctx), (bad, bad_ctx)) = (open(), open());
    let ptr = good.alloc(good_ctx, 64);
    good.write(good_ctx, ptr, &[1; 64]);
    poke_nothing(&bad, bad_ctx);
    assert_eq!(
        stubs::ctx_synchronize(&bad, bad_ctx),
        Err(Status::ERROR_ILLEGAL_ADDRESS)
    );
    assert_eq!(good.read(good_ctx, ptr, 64), [1; 64]);
    // A kernel of the one that writes to the other's memory is as illegal.
    let (third, third_ctx) = open();
    let module = third.load(third_ctx, ptx::MISCHIEF);
    let poke = third.function(third_ctx, module, "poke");
    third
        .launch(third_ctx, &poke, 1, &ptr.0.to_le_bytes())
        .expect("launched");
    // Whatever became of it (an address may be its own by chance), nothing of the other changed.
    let _ = stubs::ctx_synchronize(&third, third_ctx);
    assert_eq!(good.read(good_ctx, ptr, 64), [1; 64]);
    drop(bad);
    let (again, ctx) = open();
    again.alloc(ctx, 64);
}

pub fn posted_errors_come_back_once(bench: &Bench) {
    let (client, ctx) = bench.ready();
    stubs::mem_free(&client, ctx, DevPtr(0x40)).expect("posted");
    stubs::module_unload(&client, ctx, ModuleId(9)).expect("posted");
    assert_eq!(
        stubs::primary_ctx_retain(&client, CtxId(0), 0),
        Ok(ctx),
        "asks: leaves it where it is"
    );
    assert_eq!(
        stubs::ctx_synchronize(&client, ctx),
        Err(Status::ERROR_INVALID_VALUE),
        "the first one"
    );
    assert_eq!(stubs::ctx_synchronize(&client, ctx), Ok(()));
}

pub fn handles_of_other_sessions(bench: &Bench) {
    let (one, ctx) = bench.ready();
    let two = bench.client();
    let module = one.load(ctx, ptx::MISCHIEF);
    let poke = one.function(ctx, module, "poke");
    let ptr = one.alloc(ctx, 64);
    let own = stubs::primary_ctx_retain(&two, CtxId(0), 0).expect("context");
    let handle = Some(Status::ERROR_INVALID_HANDLE);
    assert_eq!(
        stubs::module_get_function(&two, own, module, "poke").err(),
        handle
    );
    assert_eq!(
        two.launch(own, &poke, 1, &ptr.0.to_le_bytes()).err(),
        handle
    );
    assert_eq!(
        two.now(|c| stubs::mem_free(c, own, ptr)).err(),
        Some(Status::ERROR_INVALID_VALUE)
    );
    one.write(ctx, ptr, &[3; 64]);
}

pub fn cancel_ends_an_endless_kernel(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    let forever = client.function(ctx, module, "forever");
    client.launch(ctx, &forever, 64, &[]).expect("launched");
    let cancel = Arc::clone(&client.cancel);
    let other = std::thread::spawn(move || cancel.set());
    let ended = stubs::ctx_synchronize(&client, ctx);
    assert!(ended.is_err(), "an endless kernel came to its end");
    other.join().expect("cancelled");
    // Ends at once, and leaves nothing behind.
    drop(client);
    let (client, ctx) = bench.ready();
    client.alloc(ctx, 64);
}

pub fn a_busy_stream_is_not_ready(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    let forever = client.function(ctx, module, "forever");
    let stream = StreamId(3);
    client
        .now(|c| stubs::stream_create(c, ctx, stream, 1, 0))
        .expect("stream");
    client
        .now(|c| stubs::event_create(c, ctx, vgpu_protocol::calls::EventId(1), 0))
        .expect("event");
    client
        .now(|c| stubs::launch_kernel(c, ctx, forever.function, [1; 3], [1; 3], 0, stream, &[]))
        .expect("launched");
    client
        .now(|c| stubs::event_record(c, ctx, vgpu_protocol::calls::EventId(1), stream, 0))
        .expect("recorded");
    assert_eq!(
        stubs::stream_query(&client, ctx, stream),
        Err(Status::ERROR_NOT_READY)
    );
    assert_eq!(
        stubs::event_query(&client, ctx, vgpu_protocol::calls::EventId(1)),
        Err(Status::ERROR_NOT_READY)
    );
    client.cancel.set();
}
