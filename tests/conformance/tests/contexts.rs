//! Initialisation and contexts.

use vgpu_conformance::{Bench, Client, STREAM};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventId, StreamId, stubs};
use vgpu_test_harness::ptx;

const NONE: CtxId = CtxId(0);

pub fn nothing_works_before_init(bench: &Bench) {
    let client = Client::open(&bench.mediator(64 << 20));
    let not = Some(Status::ERROR_NOT_INITIALIZED);
    assert_eq!(stubs::primary_ctx_retain(&client, NONE, 0).err(), not);
    assert_eq!(stubs::ctx_create(&client, NONE, 0, 0).err(), not);
    assert_eq!(stubs::mem_alloc(&client, CtxId(1), 16).err(), not);
    assert_eq!(stubs::ctx_synchronize(&client, CtxId(1)).err(), not);
    stubs::init(&client, NONE, 0).expect("cuInit");
    assert!(stubs::primary_ctx_retain(&client, NONE, 0).is_ok());
}

pub fn init_takes_no_flags(bench: &Bench) {
    let client = Client::open(&bench.mediator(64 << 20));
    assert_eq!(
        stubs::init(&client, NONE, 1),
        Err(Status::ERROR_INVALID_VALUE)
    );
    assert_eq!(stubs::init(&client, NONE, 0), Ok(()));
    assert_eq!(stubs::init(&client, NONE, 0), Ok(()), "again");
}

pub fn only_device_0_exists(bench: &Bench) {
    let client = bench.client();
    let none = Some(Status::ERROR_INVALID_DEVICE);
    for device in [1, 7, u32::MAX] {
        assert_eq!(stubs::primary_ctx_retain(&client, NONE, device).err(), none);
        assert_eq!(
            stubs::primary_ctx_release(&client, NONE, device).err(),
            none
        );
        assert_eq!(stubs::primary_ctx_reset(&client, NONE, device).err(), none);
        assert_eq!(stubs::ctx_create(&client, NONE, 0, device).err(), none);
    }
}

pub fn the_primary_context_counts_its_users(bench: &Bench) {
    let client = bench.client();
    let ctx = stubs::primary_ctx_retain(&client, NONE, 0).expect("context");
    assert_eq!(stubs::primary_ctx_retain(&client, NONE, 0), Ok(ctx));
    assert_eq!(
        stubs::ctx_destroy(&client, NONE, ctx),
        Err(Status::ERROR_INVALID_CONTEXT)
    );
    client.alloc(ctx, 4096);
    stubs::primary_ctx_release(&client, NONE, 0).expect("one user less");
    client.alloc(ctx, 4096);
    stubs::primary_ctx_release(&client, NONE, 0).expect("the last one");
    assert_eq!(
        stubs::mem_alloc(&client, ctx, 16).err(),
        Some(Status::ERROR_INVALID_CONTEXT)
    );
    assert_eq!(
        stubs::primary_ctx_release(&client, NONE, 0),
        Err(Status::ERROR_INVALID_CONTEXT)
    );
    // It can be made again, and destroyed whoever uses it.
    let ctx = stubs::primary_ctx_retain(&client, NONE, 0).expect("context");
    stubs::primary_ctx_retain(&client, NONE, 0).expect("context");
    stubs::primary_ctx_reset(&client, NONE, 0).expect("reset");
    assert_eq!(
        stubs::mem_alloc(&client, ctx, 16).err(),
        Some(Status::ERROR_INVALID_CONTEXT)
    );
}

pub fn own_contexts(bench: &Bench) {
    let client = bench.client();
    let one = stubs::ctx_create(&client, NONE, 0, 0).expect("context");
    let two = stubs::ctx_create(&client, NONE, 0, 0).expect("context");
    assert_ne!(one, two);
    let (a, b) = (client.alloc(one, 4096), client.alloc(two, 4096));
    client.write(one, a, &[1; 16]);
    client.write(two, b, &[2; 16]);
    assert_eq!(
        (client.read(one, a, 16), client.read(two, b, 16)),
        (vec![1; 16], vec![2; 16])
    );
    stubs::ctx_destroy(&client, NONE, one).expect("destroyed");
    assert_eq!(client.read(two, b, 16), [2; 16]);
    let gone = Some(Status::ERROR_INVALID_CONTEXT);
    assert_eq!(stubs::ctx_destroy(&client, NONE, one).err(), gone);
    assert_eq!(stubs::mem_alloc(&client, one, 16).err(), gone);
}

pub fn unknown_contexts(bench: &Bench) {
    let client = bench.client();
    for ctx in [NONE, CtxId(99), CtxId(u32::MAX)] {
        let unknown = Some(Status::ERROR_INVALID_CONTEXT);
        assert_eq!(
            stubs::ctx_synchronize(&client, ctx).err(),
            unknown,
            "{ctx:?}"
        );
        assert_eq!(stubs::mem_alloc(&client, ctx, 16).err(), unknown);
        assert_eq!(stubs::mem_get_info(&client, ctx).err(), unknown);
        assert_eq!(stubs::ctx_destroy(&client, NONE, ctx).err(), unknown);
        let loaded = stubs::module_load(&client, ctx, ptx::VECTOR_ADD.as_bytes(), Vec::new());
        assert_eq!(loaded.err(), unknown);
    }
}

pub fn a_destroyed_context_frees_all_it_had(bench: &Bench) {
    let (client, keeper) = bench.ready();
    let free = || stubs::mem_get_info(&client, keeper).expect("info").0;
    let before = free();
    for _ in 0..3 {
        let ctx = stubs::ctx_create(&client, NONE, 0, 0).expect("context");
        let ptr = client.alloc(ctx, 100 << 20);
        client.alloc(ctx, 100 << 20);
        let module = client.load(ctx, ptx::MISCHIEF);
        client
            .now(|c| stubs::stream_create(c, ctx, StreamId(5), 0, 0))
            .expect("stream");
        client
            .now(|c| stubs::event_create(c, ctx, EventId(5), 0))
            .expect("event");
        client
            .now(|c| stubs::memset(c, ctx, ptr, 1, 1, 100 << 20, StreamId(5)))
            .expect("set");
        assert!(free() <= before - (200 << 20));
        stubs::ctx_destroy(&client, NONE, ctx).expect("destroyed");
        assert_eq!(free(), before);
        let gone = Some(Status::ERROR_INVALID_HANDLE);
        assert_eq!(
            stubs::module_get_function(&client, keeper, module, "poke").err(),
            gone
        );
        assert_eq!(
            stubs::stream_synchronize(&client, keeper, StreamId(5)).err(),
            gone
        );
        assert_eq!(stubs::event_query(&client, keeper, EventId(5)).err(), gone);
        let freed = client.now(|c| stubs::mem_free(c, keeper, ptr));
        assert_eq!(freed, Err(Status::ERROR_INVALID_VALUE));
    }
}

pub fn limits_of_a_context(bench: &Bench) {
    /// `CU_LIMIT_STACK_SIZE`.
    const STACK: u32 = 0;
    let (client, ctx) = bench.ready();
    let stack = stubs::ctx_get_limit(&client, ctx, STACK).expect("known");
    assert!(stack >= 1024);
    assert_eq!(stubs::ctx_set_limit(&client, ctx, STACK, stack), Ok(()));
    let unknown = stubs::ctx_get_limit(&client, ctx, 99).err();
    assert!(
        matches!(
            unknown,
            Some(Status::ERROR_INVALID_VALUE | Status::ERROR_UNSUPPORTED_LIMIT)
        ),
        "{unknown:?}"
    );
}

pub fn the_device_table(bench: &Bench) {
    /// `CU_DEVICE_ATTRIBUTE_…`.
    const MAX_THREADS_PER_BLOCK: i32 = 1;
    const WARP_SIZE: i32 = 10;
    const CAPABILITY_MAJOR: i32 = 75;
    let client = bench.client();
    let table = stubs::device_table(&client, NONE).expect("table");
    assert_eq!(table.len(), 1);
    let device = &table[0];
    let attribute = |number| {
        device
            .attributes
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, v)| *v)
    };
    assert_eq!(attribute(MAX_THREADS_PER_BLOCK), Some(1024));
    assert_eq!(attribute(WARP_SIZE), Some(32));
    assert!(attribute(CAPABILITY_MAJOR) >= Some(7));
    assert_eq!(device.total_bytes, 256 << 20, "the VM's share");
    assert!(!device.name.is_empty() && device.uuid != [0; 16]);
    // 0 of the default stream is no stream of a client that has no context.
    assert!(stubs::stream_synchronize(&client, NONE, STREAM).is_err());
}
