//! Host memory that the GPU reaches.

use vgpu_mediator::backend::BackendSession;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr};

use crate::harness::{Channel, DEFAULT, FakeDriver, HEAP_BYTES, OpenDriver as _};

const INVALID_VALUE: Status = Status::ERROR_INVALID_VALUE;

fn alloc(session: &mut dyn BackendSession, ctx: CtxId, bytes: u64) -> Result<DevPtr, Status> {
    session.host_alloc(ctx, bytes).map(|(_, at)| at)
}

#[test]
fn it_is_registered_once_and_copies_go_straight() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let (offset, at) = c.session.host_alloc(ctx, 10_000).expect("memory");
    assert_eq!(driver.count("cuMemHostRegister_v2"), 1);
    let device = c.session.mem_alloc(ctx, 10_000).expect("memory");
    c.heap.write(offset, &[7; 10_000]).expect("inside");
    let before = driver.count("cuMemcpyHtoDAsync_v2");
    c.session
        .memcpy_dtod(ctx, device, at, 10_000, DEFAULT)
        .expect("copied");
    c.session.ctx_synchronize(ctx).expect("done");
    assert_eq!(c.read(ctx, device, 8000), [7; 8000]);
    assert_eq!(driver.count("cuMemcpyHtoDAsync_v2"), before);
    assert_eq!(driver.count("cuMemcpyDtoDAsync_v2"), 1);
    assert_eq!(
        driver.count("cuMemHostRegister_v2"),
        1,
        "no arena is pinned"
    );
    for (from, bytes) in [(at.0, 12_289), (at.0 + 12_288, 1), (at.0, u64::MAX)] {
        let copied = c
            .session
            .memcpy_dtod(ctx, device, DevPtr(from), bytes, DEFAULT);
        assert_eq!(copied, Err(INVALID_VALUE), "{from:#x} {bytes}");
    }
    c.session.host_free(ctx, at).expect("freed");
    assert_eq!(driver.count("cuMemHostUnregister"), 1);
    assert_eq!(c.session.host_free(ctx, at), Err(INVALID_VALUE));
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn what_the_driver_refuses_is_given_back() {
    let driver = FakeDriver::new("fail cuMemHostRegister_v2 1 801");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let all = alloc(&mut *c.session, ctx, HEAP_BYTES);
    assert_eq!(all, Err(Status::ERROR_NOT_SUPPORTED));
    alloc(&mut *c.session, ctx, HEAP_BYTES).expect("all of it, at the second try");
    assert_eq!(
        alloc(&mut *c.session, ctx, 1),
        Err(Status::ERROR_OUT_OF_MEMORY)
    );
}

#[test]
fn a_gpu_with_other_addresses_for_it_has_none() {
    let driver = FakeDriver::new("attribute 91 0");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    assert_eq!(
        alloc(&mut *c.session, ctx, 4096),
        Err(Status::ERROR_NOT_SUPPORTED)
    );
    assert_eq!(driver.count("cuMemHostUnregister"), 1);
}

#[test]
fn a_free_waits_for_the_work_that_may_use_it() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let module = c.module(ctx);
    let busy = c.kernel(ctx, module, "busy");
    let at = alloc(&mut *c.session, ctx, 4096).expect("memory");
    let device = c.session.mem_alloc(ctx, 4096).expect("memory");
    c.launch(ctx, busy.function, DEFAULT, &20u32.to_le_bytes())
        .expect("launched");
    c.session
        .memcpy_dtod(ctx, device, at, 4096, DEFAULT)
        .expect("posted");
    // The driver ends the process where it is unregistered under a copy.
    c.session.host_free(ctx, at).expect("freed");
}

#[test]
fn it_goes_with_its_context_and_its_session() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let other = c.session.ctx_create(CtxId(0), 0, 0).expect("cuCtxCreate");
    let gone = alloc(&mut *c.session, other, 4096).expect("memory");
    alloc(&mut *c.session, ctx, 4096).expect("memory");
    c.session.ctx_destroy(CtxId(0), other).expect("destroyed");
    assert_eq!(c.session.host_free(ctx, gone), Err(INVALID_VALUE));
    drop(c);
    driver.assert_all_freed();
}
