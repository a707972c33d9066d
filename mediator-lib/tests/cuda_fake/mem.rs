//! Memory: the share, clearing, addresses.

use vgpu_protocol::Status;
use vgpu_protocol::calls::DevPtr;
use vgpu_protocol::limits::MAX_INLINE_COPY_BYTES;

use crate::harness::{Channel, DEFAULT, FakeDriver, KIB, MIB, OpenDriver, span};

const INVALID_VALUE: Status = Status::ERROR_INVALID_VALUE;

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
fn what_is_not_kept_is_freed_without_a_wait_that_cannot_be_ended() {
    let driver = FakeDriver::new("memory 268435456");
    let mut c = Channel::with_memory(&driver.open(), 2 * MIB);
    let ctx = c.context();
    let module = c.module(ctx);
    let busy = c.kernel(ctx, module, "busy").function;
    // The fake driver ends the process where it would be asked to free during the kernel.
    let run = |c: &mut Channel| {
        c.launch(ctx, busy, DEFAULT, &50u32.to_le_bytes())
            .expect("a launch")
    };
    run(&mut c);
    let big = format!(".version 8.0\n.global .align 4 .b8 big[{}];\n", 100 * MIB);
    assert_eq!(
        c.session.module_load(ctx, big.as_bytes(), Vec::new()).err(),
        Some(Status::ERROR_OUT_OF_MEMORY)
    );
    run(&mut c);
    assert_eq!(
        c.session.mem_alloc_pitch(ctx, 4, 5000, 4),
        Err(Status::ERROR_OUT_OF_MEMORY),
        "the pitch is 512"
    );
    run(&mut c);
    driver.configure("fail cuMemsetD8Async * 999");
    assert_eq!(c.session.mem_alloc(ctx, 16), Err(Status::ERROR_UNKNOWN));
    assert_eq!(c.budget.free(), 2 * MIB);
    assert!(
        driver.live().contains("modules=1 memory=0"),
        "{}",
        driver.live()
    );
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
