//! The limits of `vgpu_protocol::limits`, at n and at n + 1.

use vgpu_conformance::{Bench, STREAM};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventId, StreamId, stubs};
use vgpu_protocol::limits::{
    MAX_CONTEXTS, MAX_EVENTS, MAX_FUNCTIONS, MAX_INLINE_COPY_BYTES, MAX_JIT_LOG_BYTES, MAX_MODULES,
    MAX_ROWS, MAX_STREAMS,
};

const FULL: Status = Status::ERROR_OUT_OF_MEMORY;

pub fn contexts(bench: &Bench) {
    let client = bench.client();
    let create = || stubs::ctx_create(&client, CtxId(0), 0, 0);
    let all: Vec<CtxId> = (0..MAX_CONTEXTS)
        .map(|n| create().unwrap_or_else(|e| panic!("context {n}: {e}")))
        .collect();
    assert_eq!(create(), Err(FULL));
    assert_eq!(stubs::primary_ctx_retain(&client, CtxId(0), 0), Err(FULL));
    stubs::ctx_destroy(&client, CtxId(0), all[0]).expect("destroyed");
    create().expect("room for one more");
}

pub fn streams(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let create = |n: usize| client.now(|c| stubs::stream_create(c, ctx, StreamId(n as u32), 0, 0));
    for n in 1..=MAX_STREAMS {
        create(n).unwrap_or_else(|e| panic!("stream {n}: {e}"));
    }
    assert_eq!(create(MAX_STREAMS + 1), Err(FULL));
    client
        .now(|c| stubs::stream_destroy(c, ctx, StreamId(1)))
        .expect("destroyed");
    create(MAX_STREAMS + 1).expect("room for one more");
}

pub fn events(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let create = |n: usize| client.now(|c| stubs::event_create(c, ctx, EventId(n as u32), 0));
    for n in 1..=MAX_EVENTS {
        create(n).unwrap_or_else(|e| panic!("event {n}: {e}"));
    }
    assert_eq!(create(MAX_EVENTS + 1), Err(FULL));
}

pub fn modules(bench: &Bench) {
    const EMPTY: &str = ".version 8.0\n.target sm_90\n.address_size 64\n";
    let (client, ctx) = bench.ready();
    let load = || stubs::module_load(&client, ctx, EMPTY.as_bytes(), Vec::new());
    for n in 0..MAX_MODULES {
        let loaded = load().unwrap_or_else(|e| panic!("module {n}: {e}"));
        assert_eq!(loaded.status, 0, "module {n}: {}", loaded.error_log);
    }
    let above = load();
    assert!(matches!(&above, Err(FULL)), "{above:?}");
}

pub fn functions(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, vgpu_test_harness::ptx::MISCHIEF);
    let find = || stubs::module_get_function(&client, ctx, module, "poke").map(|f| f.function);
    for n in 0..MAX_FUNCTIONS {
        find().unwrap_or_else(|e| panic!("lookup {n}: {e}"));
    }
    assert_eq!(find(), Err(FULL));
    // Those of an unloaded module are forgotten.
    client
        .now(|c| stubs::module_unload(c, ctx, module))
        .expect("unloaded");
    let module = client.load(ctx, vgpu_test_harness::ptx::MISCHIEF);
    client.function(ctx, module, "poke");
}

pub fn rows(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 64);
    let set = |rows| client.now(|c| stubs::memset_2d(c, ctx, ptr, 0, 1, 1, 0, rows, STREAM));
    assert_eq!(set(MAX_ROWS), Ok(()));
    assert_eq!(set(MAX_ROWS + 1), Err(Status::ERROR_INVALID_VALUE));
}

pub fn inline_copies(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 2 * u64::from(MAX_INLINE_COPY_BYTES));
    let read =
        |bytes| stubs::memcpy_dtoh_inline(&client, ctx, ptr, STREAM, bytes).map(|b| b.0.len());
    assert_eq!(
        read(MAX_INLINE_COPY_BYTES),
        Ok(MAX_INLINE_COPY_BYTES as usize)
    );
    assert_eq!(
        read(MAX_INLINE_COPY_BYTES + 1),
        Err(Status::ERROR_INVALID_VALUE)
    );
    assert_eq!(read(u32::MAX), Err(Status::ERROR_INVALID_VALUE));
    let write = |bytes: u32| {
        let data = vec![1; bytes as usize];
        client.now(|c| stubs::memcpy_htod_inline(c, ctx, ptr, STREAM, &data))
    };
    assert_eq!(write(MAX_INLINE_COPY_BYTES), Ok(()));
    assert_eq!(
        write(MAX_INLINE_COPY_BYTES + 1),
        Err(Status::ERROR_INVALID_VALUE)
    );
}

pub fn logs(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let mut text =
        String::from(".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k()\n{\n");
    (0..2_000).for_each(|n| text.push_str(&format!("    nonsense.u32 %r{n}, %undeclared{n};\n")));
    text.push_str("    ret;\n}\n");
    let loaded = stubs::module_load(&client, ctx, text.as_bytes(), Vec::new()).expect("an answer");
    assert_eq!(Status(loaded.status), Status::ERROR_INVALID_PTX);
    let bytes = loaded.error_log.len();
    assert!(
        bytes > 0 && bytes <= MAX_JIT_LOG_BYTES as usize,
        "{bytes} bytes of log"
    );
}
