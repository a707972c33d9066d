//! What the calls do, and what they refuse.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, EventId, FunctionId, JitOption, ModuleId, StreamId};
use vgpu_protocol::limits::{MAX_CONTEXTS, MAX_INLINE_COPY_BYTES};

use crate::harness::{
    ARENA_BYTES, Channel, DEFAULT, FakeDriver, KIB, MIB, eventually, fill_params, span,
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
    assert_eq!(
        value(83),
        Some(0),
        "managed memory is not carried, whatever the GPU can do"
    );
    assert_eq!(value(95), Some(0), "nor are cooperative launches");
    assert_eq!(value(141), None, "unknown to the driver");
}

#[test]
fn new_memory_is_cleared_before_the_guest_has_it() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let memory = c.session.mem_alloc(ctx, 1000).expect("memory");
    assert_eq!(c.read(ctx, memory, 1000), [0; 1000]);
    let (rows, pitch) = c.session.mem_alloc_pitch(ctx, 10, 3, 4).expect("rows");
    assert_eq!(
        c.read(ctx, rows, 3 * pitch as u32),
        vec![0; 3 * pitch as usize]
    );
    let calls = driver.calls();
    let alloc = calls
        .iter()
        .position(|call| call == "cuMemAlloc_v2")
        .expect("called");
    assert_eq!(calls[alloc + 1], "cuMemsetD8Async");
}

#[test]
fn memory_is_limited_to_the_share() {
    let driver = FakeDriver::new("");
    let mut c = Channel::with_memory(&driver.open(), 2 * KIB);
    let ctx = c.context();
    assert_eq!(c.session.mem_get_info(ctx), Ok((2 * KIB, 2 * KIB)));
    let one = c.session.mem_alloc(ctx, 1).expect("a byte");
    assert_eq!(
        c.session.mem_get_info(ctx),
        Ok((1536, 2 * KIB)),
        "a byte takes 512"
    );
    assert_eq!(
        c.session.mem_alloc(ctx, 1537),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    c.session.mem_alloc(ctx, 1536).expect("the rest");
    assert_eq!(
        c.session.mem_alloc(ctx, 1),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    c.session.mem_free(ctx, one).expect("freed");
    assert_eq!(
        c.session.mem_alloc(ctx, u64::MAX),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    assert_eq!(c.session.mem_alloc(ctx, 0), Err(INVALID_VALUE));
    assert_eq!(
        c.session.mem_alloc_pitch(ctx, u64::MAX, 2, 4),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    assert_eq!(
        c.session.mem_alloc_pitch(ctx, 100, 2, 4),
        Err(Status::ERROR_OUT_OF_MEMORY),
        "2 rows of 512 bytes"
    );
    assert_eq!(c.session.mem_alloc_pitch(ctx, 4, 1, 5), Err(INVALID_VALUE));
    assert!(c.session.mem_alloc_pitch(ctx, 100, 1, 4).is_ok());
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn a_failed_allocation_gives_its_share_back() {
    for conf in [
        "fail cuMemAlloc_v2 1 2",
        "fail cuMemsetD8Async 1 999",
        "fail cuStreamQuery 1 999",
    ] {
        let driver = FakeDriver::new(conf);
        let mut c = Channel::open(&driver.open());
        let ctx = c.context();
        c.session.mem_alloc(ctx, 4096).expect_err(conf);
        assert_eq!(c.budget.free(), c.budget.limit(), "{conf}");
        c.session
            .mem_alloc(ctx, 4096)
            .expect("the next one succeeds");
    }
}

#[test]
fn the_gpus_own_limit_shows_as_out_of_memory() {
    let driver = FakeDriver::new("memory 1048576");
    let mut c = Channel::with_memory(&driver.open(), 16 * MIB);
    let ctx = c.context();
    assert_eq!(
        c.session.mem_alloc(ctx, 2 * MIB),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    assert_eq!(c.session.mem_get_info(ctx), Ok((MIB, 16 * MIB)));
}

#[test]
fn addresses_outside_of_the_contexts_memory_reach_no_driver() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let (mut c, mut other) = (Channel::open(&backend), Channel::open(&backend));
    let (ctx, second, other_ctx) = (c.context(), c.context(), other.context());
    let memory = c.session.mem_alloc(ctx, 4096).expect("memory");
    let in_second = c.session.mem_alloc(second, 4096).expect("memory");
    let foreign = other.session.mem_alloc(other_ctx, 4096).expect("memory");
    let local = 0u64;
    let host = DevPtr(&raw const local as u64);
    let before = driver.calls().len();
    let at = |offset: u64| DevPtr(memory.0 + offset);
    for (bad, bytes) in [
        (at(0), 4097u32),
        (at(4096), 1),
        (at(4095), 2),
        (DevPtr(memory.0 - 1), 2),
        (foreign, 1),
        (in_second, 1),
        (host, 8),
        (DevPtr(0), 1),
        (DevPtr(u64::MAX), 1),
    ] {
        let s = &mut c.session;
        let bytes64 = u64::from(bytes);
        assert_eq!(
            s.memcpy_dtoh_inline(ctx, bad, DEFAULT, bytes),
            Err(INVALID_VALUE),
            "{bad:?}"
        );
        assert_eq!(
            s.memcpy_htod_inline(ctx, bad, DEFAULT, &vec![0; bytes as usize]),
            Err(INVALID_VALUE)
        );
        assert_eq!(
            s.memcpy_htod(ctx, bad, DEFAULT, span(0, bytes64)),
            Err(INVALID_VALUE)
        );
        assert_eq!(
            s.memcpy_dtoh(ctx, bad, DEFAULT, span(0, bytes64)),
            Err(INVALID_VALUE)
        );
        assert_eq!(
            s.memcpy_dtod(ctx, bad, at(0), bytes64, DEFAULT),
            Err(INVALID_VALUE)
        );
        assert_eq!(
            s.memcpy_dtod(ctx, at(0), bad, bytes64, DEFAULT),
            Err(INVALID_VALUE)
        );
        assert_eq!(
            s.memset(ctx, bad, 1, 0, bytes64, DEFAULT),
            Err(INVALID_VALUE)
        );
        assert_eq!(
            s.memset_2d(ctx, bad, 8192, 1, 0, bytes64, 1, DEFAULT),
            Err(INVALID_VALUE)
        );
    }
    for bad in [at(1), foreign, host, DevPtr(0)] {
        assert_eq!(c.session.mem_free(ctx, bad), Err(INVALID_VALUE), "{bad:?}");
    }
    let s = &mut c.session;
    assert_eq!(
        s.memset(ctx, at(0), 4, 0, u64::MAX / 2, DEFAULT),
        Err(INVALID_VALUE)
    );
    assert_eq!(
        s.memset(ctx, at(2), 4, 0, 1, DEFAULT),
        Err(INVALID_VALUE),
        "not aligned"
    );
    assert_eq!(s.memset(ctx, at(0), 3, 0, 1, DEFAULT), Err(INVALID_VALUE));
    assert_eq!(s.memset(ctx, at(0), 0, 0, 1, DEFAULT), Err(INVALID_VALUE));
    assert_eq!(
        s.memset_2d(ctx, at(0), 1 << 62, 1, 0, 1, 8, DEFAULT),
        Err(INVALID_VALUE)
    );
    assert_eq!(
        s.memset_2d(ctx, at(0), 4, 4, 0, 2, 2, DEFAULT),
        Err(INVALID_VALUE),
        "rows that overlap"
    );
    assert_eq!(
        s.memset_2d(ctx, at(0), 2048, 1, 0, 2048, 3, DEFAULT),
        Err(INVALID_VALUE)
    );
    assert_eq!(
        s.memcpy_dtoh_inline(ctx, at(0), DEFAULT, MAX_INLINE_COPY_BYTES + 1),
        Err(INVALID_VALUE)
    );
    assert_eq!(driver.calls().len(), before, "nothing reached the driver");
    // The whole of it is the guest's.
    assert_eq!(
        s.memset_2d(ctx, at(0), 2048, 1, 5, 2048, 2, DEFAULT),
        Ok(())
    );
    assert_eq!(
        s.memset(ctx, at(4096), 1, 0, 0, DEFAULT),
        Ok(()),
        "nothing, at the end"
    );
    assert_eq!(c.read(ctx, at(4095), 1), [5]);
    // A double free.
    c.session.mem_free(ctx, memory).expect("freed");
    assert_eq!(c.session.mem_free(ctx, memory), Err(INVALID_VALUE));
    assert_eq!(
        c.session.mem_free(ctx, in_second),
        Ok(()),
        "whichever context is current"
    );
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
fn a_broken_image_comes_back_with_its_log() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let options = vec![JitOption {
        option: 0,
        value: 32,
    }];
    let good = c
        .session
        .module_load(ctx, b".version 8.0\n", options)
        .expect("an answer");
    assert_eq!((good.status, &*good.info_log), (0, "fake info: 1 options"));
    let broken = c
        .session
        .module_load(ctx, b".version 8.0\nbroken", Vec::new())
        .expect("an answer");
    assert_eq!(Status(broken.status), Status::ERROR_INVALID_PTX);
    assert!(broken.error_log.contains("line 3"), "{}", broken.error_log);
    let loads = driver.calls().len();
    for image in [
        &b"\x7fELF\x02\x01 and no more"[..],
        b"\x50\xed\x55\xba\x01\0\x10\0\xff\xff\xff\xff\0\0\0\0",
        b"",
        b"ab\0cd",
    ] {
        let refused = c
            .session
            .module_load(ctx, image, Vec::new())
            .expect("an answer");
        assert_eq!(Status(refused.status), Status::ERROR_INVALID_IMAGE);
        assert!(!refused.error_log.is_empty());
    }
    // CU_JIT_GLOBAL_SYMBOL_ADDRESSES and the log buffer: addresses.
    for option in [18, 5] {
        let options = vec![JitOption {
            option,
            value: 0x1000,
        }];
        assert_eq!(
            c.session.module_load(ctx, b".version 8.0\n", options).err(),
            Some(INVALID_VALUE)
        );
    }
    assert_eq!(driver.calls().len(), loads, "nothing reached the driver");
}

#[test]
fn kernels_are_looked_up_once_and_launched_with_all_their_parameters() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let (ctx, second) = (c.context(), c.context());
    let module = c.module(ctx);
    let fill = c.kernel(ctx, module, "fill");
    assert_eq!(c.kernel(ctx, module, "fill").function, fill.function);
    assert_eq!(
        c.session.module_get_function(ctx, module, "none").err(),
        Some(Status::ERROR_NOT_FOUND)
    );
    assert_eq!(
        c.session.module_get_function(ctx, module, "fi\0ll").err(),
        Some(Status::ERROR_NOT_FOUND)
    );
    let to = c.session.mem_alloc(ctx, 16).expect("memory");
    let params = fill_params(to, 1, 1);
    assert_eq!(
        c.launch(ctx, fill.function, DEFAULT, &params[..15]),
        Err(INVALID_VALUE)
    );
    assert_eq!(
        c.launch(ctx, fill.function, DEFAULT, &[]),
        Err(INVALID_VALUE)
    );
    assert_eq!(
        c.launch(second, fill.function, DEFAULT, &params),
        Err(INVALID_HANDLE),
        "another context's stream"
    );
    assert_eq!(driver.count("cuLaunchKernel"), 0);
    // What follows the last parameter is padding of the guest's.
    assert_eq!(
        c.launch(
            ctx,
            fill.function,
            DEFAULT,
            &[&params[..], &[0; 8]].concat()
        ),
        Ok(())
    );
    let too_many = c.session.launch_kernel(
        ctx,
        fill.function,
        [1; 3],
        [1024, 2, 1],
        0,
        DEFAULT,
        &params,
    );
    assert_eq!(too_many, Err(INVALID_VALUE));
    assert_eq!(
        c.session.func_set_attribute(ctx, fill.function, 8, 65_536),
        Ok(())
    );
    assert_eq!(
        c.session.func_set_attribute(ctx, fill.function, -1, 0),
        Err(INVALID_VALUE)
    );
    c.session.module_unload(ctx, module).expect("unloaded");
    assert_eq!(
        c.launch(ctx, fill.function, DEFAULT, &params),
        Err(INVALID_HANDLE)
    );
    assert_eq!(
        c.launch(ctx, FunctionId(0), DEFAULT, &params),
        Err(INVALID_HANDLE)
    );
}

#[test]
fn a_driver_that_does_not_tell_parameters_has_them_read_from_the_text() {
    let driver = FakeDriver::without(&["cuFuncGetParamInfo"], "version 12020");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let fill = c.kernel(ctx, module, "fill");
    assert_eq!(fill.params, [(0, 8), (8, 4), (12, 4)]);
    let to = c.session.mem_alloc(ctx, 16).expect("memory");
    c.launch(ctx, fill.function, DEFAULT, &fill_params(to, 9, 1))
        .expect("a launch");
    assert_eq!(c.read(ctx, to, 4), [9, 0, 0, 0]);
    // A list that cannot be read: no guess.
    let odd = c.session.module_load(
        ctx,
        b".version 8.0\n.entry odd(.param .texref64 t) { ret; }\n",
        Vec::new(),
    );
    let odd = odd.expect("an answer").module;
    assert_eq!(
        c.session.module_get_function(ctx, odd, "odd").err(),
        Some(Status::ERROR_NOT_SUPPORTED)
    );
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
fn global_variables_are_memory_that_cannot_be_freed() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let (table, bytes) = c
        .session
        .module_get_global(ctx, module, "table")
        .expect("there");
    assert_eq!(bytes, 64);
    assert_eq!(
        c.session.module_get_global(ctx, module, "table"),
        Ok((table, 64)),
        "again"
    );
    assert_eq!(
        c.session.module_get_global(ctx, module, "none"),
        Err(Status::ERROR_NOT_FOUND)
    );
    c.session
        .memset(ctx, table, 1, 3, 64, DEFAULT)
        .expect("it is memory");
    assert_eq!(c.read(ctx, table, 64), [3; 64]);
    assert_eq!(
        c.session.memset(ctx, table, 1, 3, 65, DEFAULT),
        Err(INVALID_VALUE)
    );
    assert_eq!(c.session.mem_free(ctx, table), Err(INVALID_VALUE));
    c.session.module_unload(ctx, module).expect("unloaded");
    assert_eq!(
        c.session.memset(ctx, table, 1, 3, 64, DEFAULT),
        Err(INVALID_VALUE),
        "gone with its module"
    );
}

#[test]
fn large_global_variables_count_against_the_share() {
    let driver = FakeDriver::new("memory 268435456");
    let mut c = Channel::with_memory(&driver.open(), 100 * MIB);
    let ctx = c.context();
    let image = |mib: u64| format!(".version 8.0\n.global .align 4 .b8 big[{}];\n", mib * MIB);
    let loaded = c
        .session
        .module_load(ctx, image(60).as_bytes(), Vec::new())
        .expect("room");
    assert_eq!(c.budget.free(), 40 * MIB);
    assert_eq!(
        c.session
            .module_load(ctx, image(60).as_bytes(), Vec::new())
            .err(),
        Some(Status::ERROR_OUT_OF_MEMORY)
    );
    c.session
        .module_unload(ctx, loaded.module)
        .expect("unloaded");
    assert_eq!(c.budget.free(), 100 * MIB);
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn limits_that_reserve_memory_count_against_the_share() {
    let driver = FakeDriver::new("");
    let mut c = Channel::with_memory(&driver.open(), 16 * MIB);
    let ctx = c.context();
    const HEAP: u32 = 2;
    assert_eq!(c.session.ctx_get_limit(ctx, HEAP), Ok(MIB));
    assert_eq!(
        c.session.ctx_set_limit(ctx, HEAP, 16 * MIB + 1),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    assert_eq!(c.session.ctx_set_limit(ctx, HEAP, 4 * MIB), Ok(()));
    assert_eq!(
        (c.session.ctx_get_limit(ctx, HEAP), c.budget.free()),
        (Ok(4 * MIB), 12 * MIB)
    );
    assert_eq!(
        c.session.ctx_set_limit(ctx, 0, 1 << 40),
        Err(Status::ERROR_OUT_OF_MEMORY),
        "stack"
    );
    assert_eq!(c.session.ctx_get_limit(ctx, 99), Err(INVALID_VALUE));
    c.session.ctx_destroy(ctx, ctx).expect("destroyed");
    assert_eq!(c.budget.free(), 16 * MIB);
}

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
