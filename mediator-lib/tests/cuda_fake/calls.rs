//! Sessions, handles, and what a driver may lack.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, EventId, LaunchAttribute, ModuleId, StreamId};
use vgpu_protocol::limits::{MAX_CONTEXTS, MAX_MODULES, MAX_STREAMS};

use crate::harness::{
    Channel, DEFAULT, FakeDriver, KIB, MIB, OpenDriver, eventually, fill_params, span,
};

const INVALID_VALUE: Status = Status::ERROR_INVALID_VALUE;
const INVALID_HANDLE: Status = Status::ERROR_INVALID_HANDLE;

#[test]
fn a_kernel_computes_and_everything_is_freed() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let mut c = Channel::open(&backend);
    assert_eq!(
        c.session.primary_ctx_retain(CtxId(0), 0),
        Err(Status::ERROR_NOT_INITIALIZED)
    );
    c.session.init(CtxId(0), 0).expect("cuInit");
    let ctx = c
        .session
        .primary_ctx_retain(CtxId(0), 0)
        .expect("a context");
    assert_eq!(c.session.primary_ctx_retain(CtxId(0), 0), Ok(ctx));
    let module = c.module(ctx);
    let fill = c.kernel(ctx, module, "fill");
    assert_eq!(fill.params, [(0, 8), (8, 4), (12, 4)]);
    assert!(fill.attributes.contains(&(0, 1024)));
    let to = c.session.mem_alloc(ctx, 64).expect("memory");
    c.launch(ctx, fill.function, DEFAULT, &fill_params(to, 7, 3))
        .expect("a launch");
    c.session.ctx_synchronize(ctx).expect("done");
    let mut expected = [0u8; 16];
    (0..3).for_each(|i| expected[i * 4] = 7);
    assert_eq!(c.read(ctx, to, 16), expected);
    c.session.mem_free(ctx, to).expect("freed");
    c.session.module_unload(ctx, module).expect("unloaded");
    assert_eq!(c.session.primary_ctx_release(CtxId(0), 0), Ok(()));
    assert_eq!(
        c.session.ctx_destroy(CtxId(0), ctx),
        Err(Status::ERROR_INVALID_CONTEXT),
        "it is the primary one"
    );
    assert_eq!(c.session.primary_ctx_release(CtxId(0), 0), Ok(()));
    assert_eq!(
        c.session.primary_ctx_release(CtxId(0), 0),
        Err(Status::ERROR_INVALID_CONTEXT)
    );
    assert_eq!(
        c.session.mem_alloc(ctx, 64),
        Err(Status::ERROR_INVALID_CONTEXT)
    );
    driver.assert_all_freed();
    // One context was the backend's own look at the GPU.
    assert_eq!(
        (
            driver.count("cuCtxCreate_v2"),
            driver.count("cuCtxDestroy_v2")
        ),
        (2, 2)
    );
}

#[test]
fn the_device_table_says_what_is_carried() {
    let driver = FakeDriver::new("");
    let mut c = Channel::with_memory(&driver.open(), 3 * MIB);
    let table = c.session.device_table(CtxId(0)).expect("a table");
    let [device] = &table[..] else {
        panic!("one device")
    };
    assert_eq!((&*device.name, device.total_bytes), ("Fake GPU 0", 3 * MIB));
    assert_eq!(device.priorities, (0, -5));
    let value = |number| {
        device
            .attributes
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, v)| *v)
    };
    assert_eq!(value(16), Some(132));
    assert_eq!(value(95), Some(1), "cooperative launches are carried");
    assert_eq!(value(83), Some(1), "managed memory is this project's own");
    assert_eq!(value(141), None, "unknown to the driver");
}

#[test]
fn handles_of_nobody_and_of_others_are_refused() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let (mut c, mut other) = (Channel::open(&backend), Channel::open(&backend));
    let (ctx, other_ctx) = (c.context(), other.context());
    // The other session gets handles with numbers that this one has not.
    let modules: Vec<ModuleId> = (0..3).map(|_| other.module(other_ctx)).collect();
    let foreign = *modules.last().expect("three");
    let kernel = other.kernel(other_ctx, foreign, "nothing").function;
    other
        .session
        .stream_create(other_ctx, StreamId(5), 0, 0)
        .expect("a stream");
    other
        .session
        .event_create(other_ctx, EventId(5), 0)
        .expect("an event");
    let before = driver.calls().len();
    let s = &mut c.session;
    assert_eq!(s.module_unload(ctx, foreign), Err(INVALID_HANDLE));
    assert_eq!(
        s.module_get_function(ctx, foreign, "nothing").err(),
        Some(INVALID_HANDLE)
    );
    assert_eq!(
        s.module_get_global(ctx, foreign, "table"),
        Err(INVALID_HANDLE)
    );
    assert_eq!(
        s.launch_kernel(ctx, kernel, [1; 3], [1; 3], 0, DEFAULT, &[]),
        Err(INVALID_HANDLE)
    );
    assert_eq!(s.func_set_attribute(ctx, kernel, 8, 0), Err(INVALID_HANDLE));
    assert_eq!(s.stream_synchronize(ctx, StreamId(5)), Err(INVALID_HANDLE));
    assert_eq!(s.stream_query(ctx, StreamId(5)), Err(INVALID_HANDLE));
    assert_eq!(s.stream_destroy(ctx, StreamId(5)), Err(INVALID_HANDLE));
    assert_eq!(s.stream_destroy(ctx, DEFAULT), Err(INVALID_HANDLE));
    assert_eq!(
        s.event_record(ctx, EventId(5), DEFAULT, 0),
        Err(INVALID_HANDLE)
    );
    assert_eq!(s.event_query(ctx, EventId(5)), Err(INVALID_HANDLE));
    assert_eq!(s.event_synchronize(ctx, EventId(0)), Err(INVALID_HANDLE));
    assert_eq!(s.event_destroy(ctx, EventId(5)), Err(INVALID_HANDLE));
    assert_eq!(
        s.event_elapsed_time(ctx, EventId(5), EventId(5)),
        Err(INVALID_HANDLE)
    );
    assert_eq!(
        s.stream_wait_event(ctx, DEFAULT, EventId(5), 0),
        Err(INVALID_HANDLE)
    );
    assert_eq!(
        s.memset(ctx, DevPtr(0), 1, 0, 0, StreamId(5)),
        Err(INVALID_HANDLE)
    );
    assert_eq!(s.mem_alloc(CtxId(0), 1), Err(Status::ERROR_INVALID_CONTEXT));
    assert_eq!(
        s.mem_alloc(CtxId(77), 1),
        Err(Status::ERROR_INVALID_CONTEXT)
    );
    assert_eq!(
        s.ctx_destroy(ctx, CtxId(77)),
        Err(Status::ERROR_INVALID_CONTEXT)
    );
    assert_eq!(s.ctx_create(ctx, 0, 1), Err(Status::ERROR_INVALID_DEVICE));
    assert_eq!(s.ctx_create(ctx, 0x40, 0), Err(Status::ERROR_NOT_SUPPORTED));
    assert_eq!(s.init(ctx, 1), Err(INVALID_VALUE));
    assert_eq!(driver.calls().len(), before, "nothing reached the driver");
}

#[test]
fn a_session_has_its_maximum_of_contexts_and_no_more() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    c.context();
    for _ in 1..MAX_CONTEXTS {
        c.session.ctx_create(CtxId(0), 0, 0).expect("room");
    }
    assert_eq!(
        c.session.ctx_create(CtxId(0), 0, 0),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn a_function_that_the_driver_lacks_costs_only_its_row() {
    let driver = FakeDriver::without(
        &["cuMemsetD2D16Async", "cuCtxSetLimit", "cuMemHostUnregister"],
        "",
    );
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let memory = c.session.mem_alloc(ctx, 128 * KIB).expect("memory");
    assert_eq!(
        c.session.memset_2d(ctx, memory, 8, 2, 1, 2, 2, DEFAULT),
        Err(Status::ERROR_NOT_SUPPORTED)
    );
    assert_eq!(
        c.session.memset_2d(ctx, memory, 8, 4, 1, 2, 2, DEFAULT),
        Ok(())
    );
    assert_eq!(
        c.session.ctx_set_limit(ctx, 5, 64),
        Err(Status::ERROR_NOT_SUPPORTED)
    );
    assert_eq!(
        c.session
            .memcpy_htod(ctx, memory, DEFAULT, span(0, 128 * KIB)),
        Ok(()),
        "unpinned, then"
    );
    assert_eq!(driver.count("cuMemHostRegister_v2"), 0);
}

#[test]
fn a_session_has_its_maximum_of_streams_and_modules_and_no_more() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let endless = c.kernel(ctx, module, "endless").function;
    for id in 1..=MAX_STREAMS as u32 {
        c.session
            .stream_create(ctx, StreamId(id), 0, 0)
            .expect("room");
    }
    let more = StreamId(MAX_STREAMS as u32 + 1);
    assert_eq!(
        c.session.stream_create(ctx, more, 0, 0),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    c.launch(ctx, endless, StreamId(1), &[]).expect("a launch");
    c.session
        .stream_destroy(ctx, StreamId(1))
        .expect("destroyed");
    let still = c.session.stream_create(ctx, more, 0, 0);
    assert_eq!(
        still,
        Err(Status::ERROR_OUT_OF_MEMORY),
        "the destroyed one has work"
    );
    driver.configure("release");
    eventually("there is room again", || {
        c.session.stream_create(ctx, more, 0, 0) == Ok(())
    });
    drop(c);
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let mut load = || c.session.module_load(ctx, b".version 8.0\n", Vec::new());
    for _ in 0..MAX_MODULES {
        load().expect("room");
    }
    assert_eq!(load().err(), Some(Status::ERROR_OUT_OF_MEMORY));
}

/// The driver's memory for them is not the guest's: an address would be one that its program cannot use.
#[test]
fn managed_variables_are_refused() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let text = b".version 8.0\n.global .attribute(.managed) .align 4 .b8 shared[8];\n\
        .global .align 4 .b8 own[8];\n";
    let loaded = c.session.module_load(ctx, text, Vec::new());
    let loaded = loaded.expect("an answer");
    assert_eq!((loaded.status, loaded.managed_bytes), (0, 0));
    let mut global = |name| c.session.module_get_global(ctx, loaded.module, name);
    assert_eq!(global("shared"), Err(Status::ERROR_NOT_SUPPORTED));
    assert_eq!(global("own").map(|(_, bytes)| bytes), Ok(8));
}

#[test]
fn launches_have_their_attributes() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let nothing = c.kernel(ctx, module, "nothing").function;
    let mut launch = |blocks: u32, attributes: &[(u32, u64)]| {
        let attributes = attributes.iter().map(|(id, value)| LaunchAttribute {
            id: *id,
            value: [*value, 1, 0, 0, 0, 0, 0, 0],
        });
        let (grid, block) = ([blocks, 1, 1], [1; 3]);
        c.session.launch_kernel_ex(
            ctx,
            nothing,
            grid,
            block,
            0,
            DEFAULT,
            attributes.collect(),
            &[],
        )
    };
    // Priority and programmatic stream serialization, a cooperative launch, a cluster of 2 × 1 × 1.
    assert_eq!(
        launch(1, &[(8, 1), (6, 1), (2, 1), (4, 2 | 1 << 32)]),
        Ok(())
    );
    assert_eq!(driver.count("cuLaunchKernelEx"), 1);
    assert_eq!(launch(133, &[(2, 0)]), Ok(()));
    assert_eq!(
        launch(133, &[(2, 1)]),
        Err(Status(720)),
        "too large to be cooperative"
    );
    let before = driver.calls().len();
    assert_eq!(
        launch(1, &[(7, 1)]),
        Err(Status::ERROR_NOT_SUPPORTED),
        "an event"
    );
    assert_eq!(launch(1, &[(77, 1)]), Err(INVALID_VALUE));
    assert_eq!(driver.calls().len(), before, "nothing reached the driver");
    drop(c);
    driver.assert_all_freed();
}
