//! Virtual memory management on the driver: what reaches it is checked, and all of it is undone.

use vgpu_protocol::Status;
use vgpu_protocol::calls::DevPtr;

use crate::harness::{Channel, DEFAULT, FakeDriver, MIB, OpenDriver, eventually, fill_params};

const G: u64 = 2 * MIB;
const READ_WRITE: u32 = 3;
const INVALID: Result<(), Status> = Err(Status::ERROR_INVALID_VALUE);

#[test]
fn a_pool_grows_and_is_cleared() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let fill = c.kernel(ctx, module, "fill").function;
    let s = &mut c.session;
    assert_eq!(s.physical_granularity(ctx, 0), Ok(G));
    let base = s
        .address_reserve(ctx, 1 << 30, 0, DevPtr(0))
        .expect("addresses");
    for i in 0..3 {
        let at = DevPtr(base.0 + i * G);
        let physical = s.physical_create(ctx, G).expect("memory");
        assert_eq!(s.physical_map(ctx, at, G, physical), Ok(()));
        assert_eq!(s.physical_release(ctx, physical), Ok(()));
        assert_eq!(
            s.memcpy_htod_inline(ctx, at, DEFAULT, b"?"),
            INVALID,
            "no access"
        );
        assert_eq!(s.physical_set_access(ctx, at, G, READ_WRITE), Ok(()));
    }
    let across = DevPtr(base.0 + G - 8);
    assert_eq!(c.read(ctx, across, 16), [0; 16], "cleared");
    c.launch(ctx, fill, DEFAULT, &fill_params(across, 7, 4))
        .expect("launched");
    assert_eq!(c.read(ctx, across, 16), [7, 0, 0, 0].repeat(4));
    assert_eq!(c.budget.free(), 16 * MIB - 3 * G);
    let s = &mut c.session;
    assert_eq!(s.physical_unmap(ctx, base, 4 * G), INVALID);
    assert_eq!(s.physical_unmap(ctx, base, 3 * G), Ok(()));
    assert_eq!(s.address_free(ctx, base, 1 << 30), Ok(()));
    assert_eq!(c.budget.free(), 16 * MIB);
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn nothing_is_unmapped_under_work_and_all_is_undone_in_the_end() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let busy = c.kernel(ctx, module, "busy").function;
    let s = &mut c.session;
    let base = s
        .address_reserve(ctx, 4 * G, 0, DevPtr(0))
        .expect("addresses");
    let physical = s.physical_create(ctx, G).expect("memory");
    for i in [0, 2] {
        let at = DevPtr(base.0 + i * G);
        let physical = s.physical_create(ctx, G).expect("memory");
        assert_eq!(s.physical_map(ctx, at, G, physical), Ok(()));
        assert_eq!(s.physical_set_access(ctx, at, G, READ_WRITE), Ok(()));
    }
    assert_eq!(s.memcpy_htod_inline(ctx, base, DEFAULT, b"used"), Ok(()));
    c.launch(ctx, busy, DEFAULT, &20u32.to_le_bytes())
        .expect("launched");
    // The fake driver ends the process where this would not wait.
    assert_eq!(c.session.physical_unmap(ctx, base, G), Ok(()));
    c.launch(ctx, busy, DEFAULT, &20u32.to_le_bytes())
        .expect("launched");
    assert_eq!(c.session.physical_map(ctx, base, G, physical), Ok(()));
    drop(c);
    // After the kernel, in a thread of its own.
    eventually("all is freed", || {
        driver.live().contains("contexts=0") && driver.live().contains("memory=0")
    });
    driver.assert_all_freed();
}

#[test]
fn bad_arguments_and_a_driver_that_refuses() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let s = &mut c.session;
    let base = s
        .address_reserve(ctx, 4 * G, 0, DevPtr(0))
        .expect("addresses");
    let physical = s.physical_create(ctx, G).expect("memory");
    let before = driver.count_with_failures("cuMemMap") + driver.count_with_failures("cuMemUnmap");
    let foreign = DevPtr(base.0 + (1 << 40));
    for (at, bytes) in [
        (foreign, G),
        (base, 2 * G),
        (DevPtr(base.0 + 1), G),
        (DevPtr(base.0 + 4 * G), G),
        (base, 0),
        (base, u64::MAX),
    ] {
        assert_eq!(s.physical_map(ctx, at, bytes, physical), INVALID, "{at:?}");
        assert_eq!(s.physical_unmap(ctx, at, bytes), INVALID);
        assert_eq!(s.physical_set_access(ctx, at, bytes, READ_WRITE), INVALID);
        assert_eq!(s.address_free(ctx, at, bytes), INVALID);
    }
    let after = driver.count_with_failures("cuMemMap") + driver.count_with_failures("cuMemUnmap");
    assert_eq!(after, before, "nothing reached the driver");
    assert_eq!(
        s.physical_create(ctx, 16 * MIB).err(),
        Some(Status::ERROR_OUT_OF_MEMORY),
        "beyond the share"
    );
    driver.configure("fail cuMemMap * 2");
    assert_eq!(
        s.physical_map(ctx, base, G, physical),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
    driver.configure("");
    assert_eq!(s.physical_map(ctx, base, G, physical), Ok(()));
    let old = FakeDriver::without(&["cuMemSetAccess", "cuMemAddressReserve"], "");
    let mut c = Channel::open(&old.open());
    let ctx = c.context();
    let reserved = c.session.address_reserve(ctx, G, 0, DevPtr(0));
    assert_eq!(reserved.err(), Some(Status::ERROR_NOT_SUPPORTED));
}
