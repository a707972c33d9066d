//! Errors, cancelled sessions, kernels that do not end, and what is left afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use vgpu_mediator::backend::BackendSession;
use vgpu_mediator::backend::cuda::{CudaBackend, MAX_UNENDED_SESSIONS};
use vgpu_mediator::budget::Budget;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, EventId, GraphChange, GraphId, GraphNode, MemOp, StreamId, request,
};

use crate::harness::{
    Channel, DEFAULT, FakeDriver, KIB, MIB, OpenDriver, PTX, eventually, fill_params, list, node,
    span,
};

const ILLEGAL: Status = Status::ERROR_ILLEGAL_ADDRESS;

#[test]
fn an_illegal_access_ends_its_context_and_no_other() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let (mut c, mut other) = (Channel::open(&backend), Channel::open(&backend));
    let (ctx, beside, other_ctx) = (c.context(), c.context(), other.context());
    let module = c.module(ctx);
    let fill = c.kernel(ctx, module, "fill").function;
    let memory = c.session.mem_alloc(ctx, 16).expect("memory");
    c.session
        .stream_create(ctx, StreamId(1), 0, 0)
        .expect("a stream");
    c.session
        .event_create(ctx, EventId(1), 0)
        .expect("an event");
    c.launch(ctx, fill, DEFAULT, &fill_params(DevPtr(0x10), 1, 1))
        .expect("a launch");
    assert_eq!(c.session.ctx_synchronize(ctx), Err(ILLEGAL));
    assert_eq!(c.session.take_error(ctx), Some(ILLEGAL));
    assert_eq!(c.session.take_error(ctx), Some(ILLEGAL), "it stays");
    let s = &mut c.session;
    assert_eq!(s.mem_alloc(ctx, 1), Err(ILLEGAL));
    assert_eq!(s.mem_free(ctx, memory), Err(ILLEGAL));
    assert_eq!(s.memcpy_dtoh_inline(ctx, memory, DEFAULT, 1), Err(ILLEGAL));
    assert_eq!(s.stream_synchronize(ctx, StreamId(1)), Err(ILLEGAL));
    assert_eq!(s.event_query(ctx, EventId(1)), Err(ILLEGAL));
    assert_eq!(
        s.launch_kernel(ctx, fill, [1; 3], [1; 3], 0, DEFAULT, &[0; 16]),
        Err(ILLEGAL)
    );
    assert_eq!(s.take_error(beside), None);
    assert!(s.mem_alloc(beside, 1).is_ok());
    assert!(other.session.mem_alloc(other_ctx, 1).is_ok());
    assert_eq!(
        s.ctx_destroy(ctx, ctx),
        Ok(()),
        "what is left to do with it"
    );
    let again = c.session.ctx_create(CtxId(0), 0, 0).expect("a new one");
    assert!(c.session.mem_alloc(again, 16).is_ok());
    drop((c, other));
    driver.assert_all_freed();
}

#[test]
fn an_error_of_the_hardware_reaches_the_guest() {
    for (status, sticky) in [(46, false), (214, false), (719, true)] {
        let driver = FakeDriver::new("");
        let mut c = Channel::open(&driver.open());
        let ctx = c.context();
        let memory = c.session.mem_alloc(ctx, 16).expect("memory");
        driver.configure(&format!("fail cuMemsetD32Async * {status}"));
        assert_eq!(
            c.session.memset(ctx, memory, 4, 0, 1, DEFAULT),
            Err(Status(status))
        );
        assert_eq!(c.session.take_error(ctx), sticky.then_some(Status(status)));
    }
}

/// A channel on which a kernel runs that does not end.
fn endless(backend: &Arc<CudaBackend>) -> (Channel, CtxId, DevPtr) {
    let mut c = Channel::open(backend);
    let ctx = c.context();
    let module = c.module(ctx);
    let kernel = c.kernel(ctx, module, "endless").function;
    let memory = c.session.mem_alloc(ctx, 256 * KIB).expect("memory");
    c.session
        .stream_create(ctx, StreamId(1), 1, 0)
        .expect("a stream");
    c.session
        .event_create(ctx, EventId(1), 0)
        .expect("an event");
    c.launch(ctx, kernel, StreamId(1), &[]).expect("a launch");
    c.session
        .event_record(ctx, EventId(1), StreamId(1), 0)
        .expect("posted");
    (c, ctx, memory)
}

type Body = fn(&mut Channel, CtxId, DevPtr) -> Result<(), Status>;

#[test]
fn every_wait_ends_when_the_session_is_cancelled() {
    let waits: &[(&str, Body)] = &[
        ("cuStreamSynchronize", |c, ctx, _| {
            c.session.stream_synchronize(ctx, StreamId(1))
        }),
        ("cuCtxSynchronize", |c, ctx, _| {
            c.session.ctx_synchronize(ctx)
        }),
        ("cuEventSynchronize", |c, ctx, _| {
            c.session.event_synchronize(ctx, EventId(1))
        }),
        ("cuMemFree", |c, ctx, memory| {
            c.session.mem_free(ctx, memory)
        }),
        ("cuModuleUnload", |c, ctx, _| {
            c.session
                .module_unload(ctx, vgpu_protocol::calls::ModuleId(1))
        }),
        ("cuModuleLoadDataEx", |c, ctx, _| {
            c.session
                .module_load(ctx, PTX.as_bytes(), Vec::new())
                .map(|_| ())
        }),
        ("cuCtxSetLimit", |c, ctx, _| {
            c.session.ctx_set_limit(ctx, 0, 512)
        }),
        ("cuCtxDestroy", |c, ctx, _| c.session.ctx_destroy(ctx, ctx)),
        ("cuMemcpyDtoH", |c, ctx, memory| {
            c.session.memcpy_dtoh(ctx, memory, StreamId(1), span(0, 64))
        }),
        ("cuMemcpyDtoH_inline", |c, ctx, memory| {
            c.session
                .memcpy_dtoh_inline(ctx, memory, StreamId(1), 64)
                .map(|_| ())
        }),
        // Posted, but the driver's queue has an end.
        ("cuMemsetD8", |c, ctx, memory| {
            for _ in 0..2000 {
                c.session.memset(ctx, memory, 1, 0, 1, StreamId(1))?;
            }
            Ok(())
        }),
    ];
    for (name, body) in waits {
        let driver = FakeDriver::new("");
        let (mut c, ctx, memory) = endless(&driver.open());
        let cancel = Arc::clone(&c.cancel);
        let waiter = std::thread::spawn(move || {
            let result = body(&mut c, ctx, memory);
            drop(c);
            result
        });
        // It may not have begun to wait: then it finds the session cancelled when it does.
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(!waiter.is_finished(), "{name} does not wait");
        cancel.set();
        assert_eq!(
            waiter.join().expect("no panic"),
            Err(Status::ERROR_DEINITIALIZED),
            "{name}"
        );
        assert_eq!(
            driver.count("cuCtxDestroy_v2"),
            1,
            "{name}: only the look at the GPU is over"
        );
        driver.configure("release");
        eventually(name, || driver.count("cuCtxDestroy_v2") == 2);
        driver.assert_all_freed();
    }
}

#[test]
fn a_copy_in_flight_keeps_its_memory_until_its_context_is_gone() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let (mut c, ctx, memory) = endless(&backend);
    let second = c.session.ctx_create(CtxId(0), 0, 0).expect("a context");
    let there = c.session.mem_alloc(second, 256 * KIB).expect("memory");
    // The arena is pinned by the second context, and the first one reads it.
    c.session
        .memcpy_htod(second, there, DEFAULT, span(0, 128 * KIB))
        .expect("posted");
    c.session
        .memcpy_htod(ctx, memory, StreamId(1), span(128 * KIB, 128 * KIB))
        .expect("posted");
    eventually("the first copy is done", || c.arena_done() == 128 * KIB);
    let budget = Arc::clone(&c.budget);
    drop(c);
    assert!(
        budget.free() < budget.limit(),
        "what is not free yet counts"
    );
    // Time for what must not happen: that the arena is unpinned now.
    std::thread::sleep(std::time::Duration::from_millis(20));
    driver.configure("release");
    eventually("all is freed", || budget.free() == budget.limit());
    driver.assert_all_freed();
}

#[test]
fn the_arena_is_unpinned_before_its_context_goes() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let (first, second) = (c.context(), c.context());
    for (round, ctx) in [first, second, second].into_iter().enumerate() {
        if round == 1 {
            c.session.ctx_destroy(first, first).expect("destroyed");
        }
        let memory = c.session.mem_alloc(ctx, 8 * KIB).expect("memory");
        c.session
            .memcpy_htod(ctx, memory, DEFAULT, span(round as u64 * 8 * KIB, 8 * KIB))
            .expect("posted");
    }
    assert_eq!(
        driver.count("cuMemHostRegister_v2"),
        2,
        "once for each context that holds it"
    );
    drop(c);
    assert_eq!(driver.count("cuMemHostUnregister"), 2);
    driver.assert_all_freed();
}

#[test]
fn sessions_that_do_not_end_are_counted() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    for _ in 0..MAX_UNENDED_SESSIONS {
        drop(endless(&backend));
    }
    let refused = Channel::try_open(&backend, Budget::new(MIB));
    assert_eq!(refused.err(), Some(Status::ERROR_DEVICE_UNAVAILABLE));
    driver.configure("release");
    eventually("a session opens again", || {
        Channel::try_open(&backend, Budget::new(MIB)).is_ok()
    });
}

/// Uses virtual memory management.
fn mappings(s: &mut dyn BackendSession, ctx: CtxId) -> Result<(), Status> {
    let bytes = s.physical_granularity(ctx, 0)?;
    let base = s.address_reserve(ctx, 2 * bytes, 0, DevPtr(0))?;
    let physical = s.physical_create(ctx, bytes)?;
    s.physical_map(ctx, base, bytes, physical)?;
    s.physical_set_access(ctx, base, bytes, 3)?;
    s.physical_unmap(ctx, base, bytes)?;
    s.physical_release(ctx, physical)?;
    s.address_free(ctx, base, 2 * bytes)
}

/// Uses every call that reaches the driver, up to the first error.
fn everything(c: &mut Channel) -> Result<(), Status> {
    c.session.init(CtxId(0), 0)?;
    let ctx = c.session.ctx_create(CtxId(0), 0, 0)?;
    let s = &mut *c.session;
    let loaded = s.module_load(ctx, PTX.as_bytes(), Vec::new())?;
    Status(loaded.status).ok()?;
    let fill = s.module_get_function(ctx, loaded.module, "fill")?;
    s.module_functions(ctx, loaded.module)?;
    s.func_set_attribute(ctx, fill.function, 8, 1024)?;
    let (table, _) = s.module_get_global(ctx, loaded.module, "table")?;
    s.ctx_set_limit(ctx, 2, 2 * MIB)?;
    s.mem_get_info(ctx)?;
    let memory = s.mem_alloc(ctx, 256 * KIB)?;
    let (rows, pitch) = s.mem_alloc_pitch(ctx, 16, 2, 4)?;
    s.stream_create(ctx, StreamId(1), 1, 0)?;
    for event in [1, 2] {
        s.event_create(ctx, EventId(event), 0)?;
    }
    s.event_record(ctx, EventId(1), StreamId(1), 0)?;
    s.launch_host_func(ctx, StreamId(1), 5)?;
    let mut called = false;
    eventually("the function is called", || {
        called = called || c.callbacks.next().is_some();
        called || s.stream_query(ctx, StreamId(1)) != Err(Status::ERROR_NOT_READY)
    });
    c.callbacks.done(1);
    let operation = MemOp {
        kind: 2,
        address: memory,
        value: 1,
        flags: 0,
    };
    s.stream_batch_mem_op(ctx, StreamId(1), vec![operation])?;
    let nodes = list(&[
        node(|w| request::memset(w, memory, 4, 9, 4, StreamId(0)), &[]),
        GraphNode::default(),
    ]);
    s.graph_instantiate(ctx, GraphId(1), &nodes)?;
    s.graph_upload(ctx, GraphId(1), StreamId(1))?;
    s.graph_launch(ctx, GraphId(1), StreamId(1))?;
    let change = node(|w| request::memset(w, memory, 4, 8, 4, StreamId(0)), &[]);
    let change = GraphChange {
        node: 0,
        opcode: change.opcode,
        request: change.request,
    };
    s.graph_update(ctx, GraphId(1), &list(&[change]))?;
    s.graph_launch(ctx, GraphId(1), StreamId(1))?;
    s.graph_destroy(ctx, GraphId(1))?;
    s.launch_kernel(
        ctx,
        fill.function,
        [1; 3],
        [1; 3],
        0,
        StreamId(1),
        &fill_params(memory, 1, 4),
    )?;
    let shape = ([1; 3], [1; 3]);
    let params = fill_params(memory, 1, 4);
    s.launch_kernel_ex(
        ctx,
        fill.function,
        shape.0,
        shape.1,
        0,
        StreamId(1),
        Vec::new(),
        &params,
    )?;
    s.memcpy_htod_inline(ctx, table, StreamId(1), &[1; 64])?;
    s.memcpy_htod(ctx, memory, StreamId(1), span(0, 128 * KIB))?;
    s.memcpy_dtod(ctx, memory, table, 64, StreamId(1))?;
    for width in [1, 2, 4] {
        s.memset(ctx, memory, width, 1, 2, StreamId(1))?;
        s.memset_2d(ctx, rows, pitch, width, 1, 2, 2, StreamId(1))?;
    }
    s.event_record(ctx, EventId(2), StreamId(1), 1)?;
    s.stream_wait_event(ctx, DEFAULT, EventId(2), 0)?;
    s.stream_query(ctx, DEFAULT).or_else(|e| {
        if e == Status::ERROR_NOT_READY {
            Ok(())
        } else {
            Err(e)
        }
    })?;
    s.stream_synchronize(ctx, StreamId(1))?;
    s.event_elapsed_time(ctx, EventId(1), EventId(2))?;
    s.memcpy_dtoh_inline(ctx, memory, StreamId(1), 64)?;
    s.memcpy_dtoh(ctx, memory, DEFAULT, span(128 * KIB, 4096))?;
    s.ctx_synchronize(ctx)?;
    s.event_destroy(ctx, EventId(1))?;
    s.stream_destroy(ctx, StreamId(1))?;
    let link = s.link_create(ctx, Vec::new())?;
    let added = s.link_add(ctx, link, 1, "a.ptx", Vec::new(), b".version 8.0\n")?;
    Status(added.status).ok()?;
    let (linked, _) = s.link_complete(ctx, link)?;
    Status(linked.status).ok()?;
    s.link_destroy(ctx, link)?;
    s.module_unload(ctx, loaded.module)?;
    s.mem_free(ctx, memory)?;
    let (_, pinned) = s.host_alloc(ctx, 4096)?;
    s.host_free(ctx, pinned)?;
    s.managed_alloc(ctx, 4096)?;
    mappings(s, ctx)?;
    s.ctx_destroy(ctx, ctx)
}

/// The calls that [`everything`] makes, besides those that open the backend.
fn calls_of_everything() -> BTreeSet<String> {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let opening = driver.calls().len();
    let mut c = Channel::open(&backend);
    assert_eq!(everything(&mut c), Ok(()));
    drop(c);
    driver.assert_all_freed();
    let queries = [
        "cuStreamQuery",
        "cuEventQuery",
        "cuCtxSetCurrent",
        "cuFuncGetAttribute",
    ]
    .map(str::to_owned);
    let logged = driver
        .calls()
        .into_iter()
        .skip(opening)
        .filter(|line| line.starts_with("cu") && !line.contains('='));
    logged.chain(queries).collect()
}

#[test]
fn every_call_of_the_driver_is_reached() {
    let calls = calls_of_everything();
    let elsewhere = [
        "cuInit",
        "cuDriverGetVersion",
        "cuDevice",
        "cuCtxGetStreamPriorityRange",
    ];
    let source = include_str!("../../src/backend/cuda/sys/mod.rs");
    let table = source
        .split_once("checked {\n        cuInit")
        .expect("the table")
        .1
        .split_once("required {")
        .expect("its end")
        .0;
    let names = table.split_whitespace().filter_map(|word| {
        let name = word.split('(').next()?;
        (word.starts_with("cu") && word.contains('(')).then_some(name)
    });
    for name in names {
        let known = calls.contains(name) || elsewhere.iter().any(|e| name.starts_with(e));
        // Taken only where its newer form is missing.
        let other = name == "cuEventElapsedTime";
        assert!(known || other, "{name} is not reached by these tests");
    }
}

#[test]
fn whichever_call_fails_everything_is_freed_and_the_next_session_works() {
    for call in calls_of_everything() {
        let undone = [
            "cuCtxDestroy_v2",
            "cuMemUnmap",
            "cuMemRelease",
            "cuMemAddressFree",
        ];
        if undone.contains(&call.as_str()) {
            // What cannot be destroyed is not freed, by whichever way.
            continue;
        }
        let driver = FakeDriver::new("");
        let backend = driver.open();
        for (nth, status) in [
            (Some(1), 999),
            (Some(2), 999),
            (Some(3), 999),
            (None, 2),
            (None, 700),
        ] {
            // Counted from the driver's start.
            let nth = nth.map_or("*".to_owned(), |n| {
                (driver.count_with_failures(&call) + n).to_string()
            });
            let what = format!("fail {call} {nth} {status}");
            driver.configure(&what);
            let mut c = Channel::open(&backend);
            let budget = Arc::clone(&c.budget);
            // An error, or none where the call's result does not matter; never a panic.
            let _ = everything(&mut c);
            drop(c);
            eventually(&what, || budget.free() == budget.limit());
            driver.configure("");
            let mut c = Channel::open(&backend);
            assert_eq!(everything(&mut c), Ok(()), "after {what}");
            drop(c);
            driver.assert_all_freed();
        }
    }
}

#[test]
fn sessions_at_once_do_not_disturb_each_other() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut c = Channel::open(&backend);
                    assert_eq!(everything(&mut c), Ok(()));
                }
            });
        }
    });
    driver.assert_all_freed();
}
