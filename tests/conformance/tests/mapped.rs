//! Virtual memory management: reserved addresses, physical memory, mappings.

use vgpu_conformance::{Bench, Client, STREAM};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, PhysicalId, stubs};
use vgpu_test_harness::ptx;

const READ: u32 = 1;
const READ_WRITE: u32 = 3;
const INVALID: Option<Status> = Some(Status::ERROR_INVALID_VALUE);

fn at(ptr: DevPtr, offset: u64) -> DevPtr {
    DevPtr(ptr.0 + offset)
}

fn granularity(c: &Client, ctx: CtxId) -> u64 {
    let [least, good] =
        [0, 1].map(|option| stubs::physical_granularity(c, ctx, option).expect("granularity"));
    assert!(least.is_power_of_two() && good >= least);
    assert_eq!(stubs::physical_granularity(c, ctx, 2).err(), INVALID);
    good
}

/// Maps new physical memory and lets go of its handle, as programs do.
fn grow(c: &Client, ctx: CtxId, ptr: DevPtr, bytes: u64) {
    let physical = stubs::physical_create(c, ctx, bytes).expect("memory");
    stubs::physical_map(c, ctx, ptr, bytes, physical).expect("mapped");
    c.now(|c| stubs::physical_release(c, ctx, physical))
        .expect("released");
    stubs::physical_set_access(c, ctx, ptr, bytes, READ_WRITE).expect("accessible");
}

pub fn a_pool_grows_in_one_large_reservation(bench: &Bench) {
    let (c, ctx) = bench.ready();
    let g = granularity(&c, ctx);
    let all = (32u64 << 30).next_multiple_of(g);
    let before = stubs::mem_get_info(&c, ctx).expect("info").0;
    let base = stubs::address_reserve(&c, ctx, all, 0, DevPtr(0)).expect("addresses");
    assert_eq!(
        stubs::mem_get_info(&c, ctx).expect("info").0,
        before,
        "a reservation takes no memory"
    );
    for i in 0..4 {
        grow(&c, ctx, at(base, i * g), g);
    }
    assert!(stubs::mem_get_info(&c, ctx).expect("info").0 <= before - 4 * g);
    // New memory is zero; copies and sets run from one chunk into the next.
    assert_eq!(c.read(ctx, at(base, g - 4), 8), [0; 8]);
    c.write(ctx, at(base, 2 * g - 3), b"across");
    assert_eq!(c.read(ctx, at(base, 2 * g - 3), 6), b"across");
    let set = c.now(|c| stubs::memset(c, ctx, base, 4, 0x0102_0304, g, STREAM));
    set.expect("all four chunks");
    let own = c.alloc(ctx, 64);
    let copy = |to, from, bytes| c.now(|c| stubs::memcpy_dtod(c, ctx, to, from, bytes, STREAM));
    copy(own, at(base, 3 * g - 32), 64).expect("copied");
    assert_eq!(c.read(ctx, own, 64), [4, 3, 2, 1].repeat(16));
    copy(at(base, 4 * g - 64), own, 64).expect("copied");
    assert_eq!(copy(at(base, 4 * g - 63), own, 64).err(), INVALID);
    // A kernel that adds vectors which lie over the chunks' borders.
    let module = c.load(ctx, ptx::VECTOR_ADD);
    let add = c.function(ctx, module, "add");
    let words = |v: f32| {
        vec![v; 1024]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let (a, b, sum) = (
        at(base, g - 2048),
        at(base, 2 * g - 2048),
        at(base, 3 * g - 2048),
    );
    c.write(ctx, a, &words(1.5));
    c.write(ctx, b, &words(2.0));
    let params = [a.0, b.0, sum.0].map(u64::to_le_bytes).concat();
    let params = [&params[..], &1024u32.to_le_bytes()].concat();
    c.launch(ctx, &add, 1024, &params).expect("launched");
    assert_eq!(c.read(ctx, sum, 4096), words(3.5));
    // All chunks at once, as ggml does.
    stubs::physical_unmap(&c, ctx, base, 4 * g).expect("unmapped");
    assert_eq!(copy(own, base, 4).err(), INVALID, "nothing is there");
    assert_eq!(stubs::mem_get_info(&c, ctx).expect("info").0, before - 64);
    stubs::address_free(&c, ctx, base, all).expect("freed");
}

pub fn memory_seen_at_two_places(bench: &Bench) {
    let (c, ctx) = bench.ready();
    let g = granularity(&c, ctx);
    let base = stubs::address_reserve(&c, ctx, 4 * g, g, DevPtr(0)).expect("addresses");
    let physical = stubs::physical_create(&c, ctx, g).expect("memory");
    for offset in [0, 2 * g] {
        stubs::physical_map(&c, ctx, at(base, offset), g, physical).expect("mapped");
        stubs::physical_set_access(&c, ctx, at(base, offset), g, READ_WRITE).expect("accessible");
    }
    c.write(ctx, at(base, 5), b"here");
    assert_eq!(c.read(ctx, at(base, 2 * g + 5), 4), b"here");
    // The memory outlives one mapping, and its handle.
    stubs::physical_unmap(&c, ctx, base, g).expect("unmapped");
    c.now(|c| stubs::physical_release(c, ctx, physical))
        .expect("released");
    assert_eq!(c.read(ctx, at(base, 2 * g + 5), 4), b"here");
    let again = stubs::physical_map(&c, ctx, base, g, physical);
    assert_eq!(again.err(), INVALID, "the handle is gone");
}

pub fn access_that_was_not_given(bench: &Bench) {
    let client = bench.client();
    let ctx = stubs::ctx_create(&client, CtxId(0), 0, 0).expect("context");
    let g = granularity(&client, ctx);
    let base = stubs::address_reserve(&client, ctx, 2 * g, 0, DevPtr(0)).expect("addresses");
    let physical = stubs::physical_create(&client, ctx, g).expect("memory");
    stubs::physical_map(&client, ctx, base, g, physical).expect("mapped");
    let write = |byte| client.now(|c| stubs::memcpy_htod_inline(c, ctx, base, STREAM, &[byte]));
    let read = || stubs::memcpy_dtoh_inline(&client, ctx, base, STREAM, 1).map(|b| b.0);
    assert_eq!(
        (write(1).err(), read().err()),
        (INVALID, INVALID),
        "not yet"
    );
    let access = |flags| stubs::physical_set_access(&client, ctx, base, g, flags);
    access(READ_WRITE).expect("set");
    write(1).expect("allowed");
    access(READ).expect("set");
    assert_eq!(read(), Ok(vec![1]));
    assert_eq!(write(2).err(), INVALID);
    assert_eq!(access(2).err(), INVALID, "no such flags");
    access(0).expect("set");
    assert_eq!(read().err(), INVALID);
    // A kernel that goes there faults.
    let module = client.load(ctx, ptx::MISCHIEF);
    let poke = client.function(ctx, module, "poke");
    let launched = client.launch(ctx, &poke, 1, &base.0.to_le_bytes());
    launched.expect("launched");
    assert_eq!(
        stubs::ctx_synchronize(&client, ctx),
        Err(Status::ERROR_ILLEGAL_ADDRESS)
    );
}

pub fn kernels_write_only_where_they_may(bench: &Bench) {
    for (flags, outcome) in [
        (READ_WRITE, Ok(())),
        (READ, Err(Status::ERROR_ILLEGAL_ADDRESS)),
    ] {
        let (c, ctx) = bench.ready();
        let g = granularity(&c, ctx);
        let base = stubs::address_reserve(&c, ctx, g, 0, DevPtr(0)).expect("addresses");
        grow(&c, ctx, base, g);
        stubs::physical_set_access(&c, ctx, base, g, flags).expect("set");
        let module = c.load(ctx, ptx::MISCHIEF);
        let poke = c.function(ctx, module, "poke");
        c.launch(ctx, &poke, 1, &base.0.to_le_bytes())
            .expect("launched");
        assert_eq!(stubs::ctx_synchronize(&c, ctx), outcome, "{flags}");
    }
}

pub fn bad_mappings(bench: &Bench) {
    let (c, ctx) = bench.ready();
    let g = granularity(&c, ctx);
    let reserve = |bytes, align| stubs::address_reserve(&c, ctx, bytes, align, DevPtr(0));
    assert_eq!(reserve(0, 0).err(), INVALID);
    assert_eq!(reserve(g + 1, 0).err(), INVALID);
    assert_eq!(reserve(g, 3 * g).err(), INVALID);
    assert_eq!(
        reserve(!(g - 1), 0).err(),
        Some(Status::ERROR_OUT_OF_MEMORY)
    );
    let create = |bytes| stubs::physical_create(&c, ctx, bytes);
    assert_eq!(create(0).err(), INVALID);
    assert_eq!(create(g - 1).err(), INVALID);
    assert_eq!(create(1 << 50).err(), Some(Status::ERROR_OUT_OF_MEMORY));
    let base = reserve(4 * g, 0).expect("addresses");
    let physical = create(2 * g).expect("memory");
    let map = |ptr, bytes, id| stubs::physical_map(&c, ctx, ptr, bytes, id).err();
    assert_eq!(
        map(base, 4 * g, physical),
        INVALID,
        "longer than the memory"
    );
    assert_eq!(
        map(at(base, 3 * g), 2 * g, physical),
        INVALID,
        "past the end"
    );
    assert_eq!(
        map(DevPtr(base.0 - g), g, physical),
        INVALID,
        "not reserved"
    );
    assert_eq!(map(at(base, 64), g, physical), INVALID, "not aligned");
    assert_eq!(map(base, 0, physical), INVALID);
    assert_eq!(map(base, g, PhysicalId(99)), INVALID);
    assert_eq!(
        map(c.alloc(ctx, 2 * g), g, physical),
        INVALID,
        "not reserved"
    );
    assert_eq!(map(base, 2 * g, physical), None);
    assert_eq!(map(at(base, g), g, physical), INVALID, "taken");
    let unmap = |ptr, bytes| stubs::physical_unmap(&c, ctx, ptr, bytes).err();
    let access = |ptr, bytes| stubs::physical_set_access(&c, ctx, ptr, bytes, READ_WRITE).err();
    for (ptr, bytes) in [
        (base, g),
        (at(base, g), g),
        (base, 3 * g),
        (base, 0),
        (base, u64::MAX),
    ] {
        assert_eq!(
            (unmap(ptr, bytes), access(ptr, bytes)),
            (INVALID, INVALID),
            "{ptr:?} {bytes}"
        );
    }
    let free = |ptr, bytes| stubs::address_free(&c, ctx, ptr, bytes).err();
    assert_eq!(free(base, 4 * g), INVALID, "something is mapped");
    assert_eq!(unmap(base, 2 * g), None);
    assert_eq!(unmap(base, 2 * g), INVALID, "twice");
    assert_eq!(free(base, 2 * g), INVALID, "a part");
    assert_eq!(free(base, 4 * g), None);
    assert_eq!(free(base, 4 * g), INVALID, "twice");
    let release = || c.now(|c| stubs::physical_release(c, ctx, physical)).err();
    assert_eq!((release(), release()), (None, INVALID));
    // cuMemFree is not for mapped memory.
    let base = reserve(g, 0).expect("addresses");
    grow(&c, ctx, base, g);
    assert_eq!(c.now(|c| stubs::mem_free(c, ctx, base)).err(), INVALID);
}

pub fn other_sessions_do_not_see_mappings(bench: &Bench) {
    let mediator = bench.mediator(256 << 20);
    let open = || {
        let client = Client::open(&mediator);
        stubs::init(&client, CtxId(0), 0).expect("cuInit");
        let ctx = stubs::primary_ctx_retain(&client, CtxId(0), 0).expect("context");
        (client, ctx)
    };
    let ((one, ctx), (other, other_ctx)) = (open(), open());
    let g = granularity(&one, ctx);
    let free = |c: &Client| stubs::mem_get_info(c, other_ctx).expect("info").0;
    let before = free(&other);
    let base = stubs::address_reserve(&one, ctx, g, 0, DevPtr(0)).expect("addresses");
    grow(&one, ctx, base, g);
    one.write(ctx, base, b"mine");
    assert_eq!(free(&other), before - g);
    let read = stubs::memcpy_dtoh_inline(&other, other_ctx, base, STREAM, 4);
    assert_eq!(read.err(), INVALID);
    assert_eq!(
        stubs::physical_unmap(&other, other_ctx, base, g).err(),
        INVALID
    );
    assert_eq!(
        stubs::address_free(&other, other_ctx, base, g).err(),
        INVALID
    );
    assert_eq!(one.read(ctx, base, 4), b"mine");
    // What a session leaves behind is freed with it.
    drop(one);
    assert_eq!(free(&other), before);
}
