//! Modules and kernels.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{FunctionId, JitOption, ModuleId};

use crate::harness::{Channel, DEFAULT, FakeDriver, MIB, OpenDriver, fill_params};

const INVALID_VALUE: Status = Status::ERROR_INVALID_VALUE;
const INVALID_HANDLE: Status = Status::ERROR_INVALID_HANDLE;

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
fn kernels_are_listed_by_name() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let names = c.session.module_functions(ctx, module).expect("a list");
    assert!(names.iter().any(|n| n == "fill"), "{names:?}");
    for name in &names {
        c.session
            .module_get_function(ctx, module, name)
            .expect("it is there");
    }
    assert_eq!(
        c.session.module_functions(ctx, ModuleId(999)),
        Err(INVALID_HANDLE)
    );
    // A driver before CUDA 12.4 cannot list them.
    let driver = FakeDriver::without(&["cuModuleEnumerateFunctions"], "version 12020");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    assert_eq!(
        c.session.module_functions(ctx, module),
        Err(Status::ERROR_NOT_SUPPORTED)
    );
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
fn global_variables_count_against_the_share_beyond_the_first_64_mib() {
    let driver = FakeDriver::new("memory 268435456");
    let mut c = Channel::with_memory(&driver.open(), 100 * MIB);
    let ctx = c.context();
    let image = |mib: u64| format!(".version 8.0\n.global .align 4 .b8 big[{}];\n", mib * MIB);
    let mut load = |mib| {
        c.session
            .module_load(ctx, image(mib).as_bytes(), Vec::new())
            .map(|m| m.module)
    };
    let free = load(64).expect("uncounted");
    let counted = load(60).expect("room");
    assert_eq!(load(41), Err(Status::ERROR_OUT_OF_MEMORY));
    load(1).expect("counted, too");
    assert_eq!(c.budget.free(), 39 * MIB);
    c.session.module_unload(ctx, counted).expect("unloaded");
    assert_eq!(c.budget.free(), 99 * MIB);
    c.session.module_unload(ctx, free).expect("unloaded");
    c.session
        .module_load(ctx, image(64).as_bytes(), Vec::new())
        .expect("uncounted again");
    assert_eq!(c.budget.free(), 99 * MIB);
    c.session.ctx_destroy(ctx, ctx).expect("destroyed");
    let ctx = c.context();
    c.session
        .module_load(ctx, image(64).as_bytes(), Vec::new())
        .expect("uncounted in a new context");
    assert_eq!(c.budget.free(), 100 * MIB);
    drop(c);
    driver.assert_all_freed();
}
