//! Pinned and managed memory: pieces of BAR1's heap that program and GPU both reach.

use vgpu_conformance::{Bench, Client, HEAP_BYTES, STREAM};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, stubs};
use vgpu_protocol::window::Window;
use vgpu_test_harness::ptx;

const INVALID: Status = Status::ERROR_INVALID_VALUE;

/// Pinned memory: the program's view of it, and its address.
struct Pinned {
    window: Window,
    at: DevPtr,
}

fn pinned(client: &Client, ctx: CtxId, bytes: u64) -> Pinned {
    let (offset, at) = stubs::host_alloc(client, ctx, bytes).expect("pinned memory");
    let window = client.heap.slice(offset, bytes).expect("inside of BAR1");
    Pinned { window, at }
}

impl Pinned {
    fn at(&self, offset: u64) -> DevPtr {
        DevPtr(self.at.0 + offset)
    }

    fn bytes(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let mut data = vec![0xee; bytes];
        self.window.read(offset, &mut data).expect("inside");
        data
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 13 + i / 251) as u8).collect()
}

/// Two sessions of one VM.
fn two(bench: &Bench) -> [(Client, CtxId); 2] {
    let mediator = bench.mediator(256 << 20);
    [0, 1].map(|_| {
        let client = Client::open(&mediator);
        stubs::init(&client, CtxId(0), 0).expect("cuInit");
        let ctx = stubs::primary_ctx_retain(&client, CtxId(0), 0).expect("context");
        (client, ctx)
    })
}

pub fn copies_touch_no_arena(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let data = pattern(300_001);
    let bytes = data.len() as u64;
    let host = pinned(&client, ctx, bytes);
    assert!(host.at.0.is_multiple_of(4096));
    assert_eq!(host.bytes(0, 100), [0; 100], "new memory is zero");
    host.window.write(0, &data).expect("inside");
    let device = client.alloc(ctx, bytes);
    stubs::memcpy_dtod(&client, ctx, device, host.at, bytes, STREAM).expect("posted");
    let back = pinned(&client, ctx, bytes);
    stubs::memcpy_dtod(&client, ctx, back.at(1), device, bytes - 1, STREAM).expect("posted");
    stubs::stream_synchronize(&client, ctx, STREAM).expect("done");
    assert_eq!(back.bytes(0, 1), [0]);
    assert!(back.bytes(1, data.len() - 1) == data[..data.len() - 1]);
    assert_eq!(
        client.counters().bytes(),
        [bytes, bytes - 1, 0, 0],
        "to the device, to the host, within, staged"
    );
    // What goes through a record is counted as such.
    client.write(ctx, device, &[1; 100]);
    assert_eq!(client.counters().bytes(), [bytes + 100, bytes - 1, 0, 100]);
}

pub fn kernels_read_and_write_it(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let (offset, at) = stubs::managed_alloc(&client, ctx, 4096).expect("managed memory");
    let managed = Pinned {
        window: client.heap.slice(offset, 4096).expect("inside"),
        at,
    };
    let host = pinned(&client, ctx, 4096);
    let floats = |from: f32| -> Vec<u8> {
        (0..256u16)
            .flat_map(|i| (from + f32::from(i)).to_le_bytes())
            .collect()
    };
    host.window.write(0, &floats(1.0)).expect("inside");
    managed.window.write(0, &floats(10.0)).expect("inside");
    let module = client.load(ctx, ptx::VECTOR_ADD);
    let add = client.function(ctx, module, "add");
    let mut params = Vec::new();
    for ptr in [host.at, managed.at, host.at(1024)] {
        params.extend(ptr.0.to_le_bytes());
    }
    params.extend(256u32.to_le_bytes());
    client.launch(ctx, &add, 256, &params).expect("launched");
    stubs::ctx_synchronize(&client, ctx).expect("done");
    let sum: Vec<u8> = (0..256u16)
        .flat_map(|i| (11.0 + 2.0 * f32::from(i)).to_le_bytes())
        .collect();
    assert_eq!(host.bytes(1024, 1024), sum);
    // Sets reach it, too.
    stubs::memset(&client, ctx, managed.at, 1, 7, 100, STREAM).expect("posted");
    stubs::ctx_synchronize(&client, ctx).expect("done");
    assert_eq!(managed.bytes(0, 100), [7; 100]);
    stubs::host_free(&client, ctx, managed.at).expect("freed");
}

pub fn the_end_of_a_piece_is_the_end(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let [one, two] = [(); 2].map(|()| pinned(&client, ctx, 4096));
    let device = client.alloc(ctx, 8192);
    let copy =
        |dst, src, bytes| client.now(|c| stubs::memcpy_dtod(c, ctx, dst, src, bytes, STREAM));
    copy(device, one.at, 4096).expect("all of it");
    copy(one.at(4095), device, 1).expect("the last byte");
    let set = |at, count| client.now(|c| stubs::memset(c, ctx, at, 1, 0, count, STREAM));
    set(two.at, 4096).expect("all of it");
    for (at, bytes) in [
        (one.at, 4097),
        (one.at(4095), 2),
        (two.at(1), 4096),
        (DevPtr(two.at.0 + 4096), 1),
        (one.at, u64::MAX),
        (one.at, u64::MAX - one.at.0 + 1),
    ] {
        assert_eq!(copy(device, at, bytes), Err(INVALID), "{at:?} {bytes}");
        assert_eq!(copy(at, device, bytes), Err(INVALID), "{at:?} {bytes}");
        assert_eq!(set(at, bytes), Err(INVALID), "{at:?} {bytes}");
    }
}

pub fn other_sessions_do_not_reach_it(bench: &Bench) {
    let [(one, one_ctx), (two, two_ctx)] = two(bench);
    let host = pinned(&one, one_ctx, 4096);
    host.window.write(0, &[9; 4096]).expect("inside");
    let device = two.alloc(two_ctx, 4096);
    let copy = |dst, src| two.now(|c| stubs::memcpy_dtod(c, two_ctx, dst, src, 16, STREAM));
    assert_eq!(copy(device, host.at), Err(INVALID));
    assert_eq!(copy(host.at, device), Err(INVALID));
    let read = stubs::memcpy_dtoh_inline(&two, two_ctx, host.at, STREAM, 4);
    assert_eq!(read.err(), Some(INVALID));
    assert_eq!(stubs::host_free(&two, two_ctx, host.at), Err(INVALID));
    assert_eq!(host.bytes(0, 4096), [9; 4096]);
    stubs::host_free(&one, one_ctx, host.at).expect("its own");
}

/// The GPU of the host keeps VMs apart, not the sessions of one.
pub fn kernels_of_other_sessions_do_not_reach_it(bench: &Bench) {
    let [(one, one_ctx), (two, two_ctx)] = two(bench);
    let host = pinned(&one, one_ctx, 4096);
    for at in [host.at, host.at(4096)] {
        let (client, ctx) = match at == host.at {
            true => (&two, two_ctx),
            false => (&one, one_ctx),
        };
        let module = client.load(ctx, ptx::MISCHIEF);
        let poke = client.function(ctx, module, "poke");
        client
            .launch(ctx, &poke, 1, &at.0.to_le_bytes())
            .expect("launched");
        assert_eq!(
            stubs::ctx_synchronize(client, ctx),
            Err(Status::ERROR_ILLEGAL_ADDRESS)
        );
    }
    assert_eq!(host.bytes(0, 4096), [0; 4096]);
}

pub fn bad_frees(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let free = |at| stubs::host_free(&client, ctx, at);
    let host = pinned(&client, ctx, 10_000);
    let device = client.alloc(ctx, 4096);
    for at in [
        host.at(1),
        host.at(4096),
        device,
        DevPtr(0),
        DevPtr(u64::MAX),
    ] {
        assert_eq!(free(at), Err(INVALID), "{at:?}");
    }
    let free_device = client.now(|c| stubs::mem_free(c, ctx, host.at));
    assert_eq!(free_device, Err(INVALID), "not of cuMemAlloc");
    free(host.at).expect("freed");
    assert_eq!(free(host.at), Err(INVALID), "twice");
    let copy = client.now(|c| stubs::memcpy_dtod(c, ctx, device, host.at, 1, STREAM));
    assert_eq!(copy, Err(INVALID), "after the free");
}

pub fn all_of_the_heap_and_no_more(bench: &Bench) {
    let [(one, one_ctx), (two, two_ctx)] = two(bench);
    let alloc = |c: &Client, ctx, bytes| stubs::host_alloc(c, ctx, bytes).map(|(_, at)| at);
    let full = Err(Status::ERROR_OUT_OF_MEMORY);
    assert_eq!(alloc(&one, one_ctx, 0), Err(INVALID));
    for bytes in [HEAP_BYTES + 1, 1 << 40, 1 << 63, u64::MAX - 4094, u64::MAX] {
        assert_eq!(alloc(&one, one_ctx, bytes), full, "{bytes}");
    }
    let most = alloc(&one, one_ctx, HEAP_BYTES - 4096).expect("free");
    let last = alloc(&two, two_ctx, 1).expect("the last page");
    assert_eq!(alloc(&one, one_ctx, 1), full);
    assert_eq!(alloc(&two, two_ctx, 1), full);
    // Nothing else suffers.
    let device = two.alloc(two_ctx, 4096);
    two.write(two_ctx, device, &[3; 16]);
    assert_eq!(two.read(two_ctx, device, 16), [3; 16]);
    stubs::host_free(&one, one_ctx, most).expect("freed");
    stubs::host_free(&two, two_ctx, last).expect("freed");
    alloc(&two, two_ctx, HEAP_BYTES).expect("all of it");
}

pub fn the_end_of_a_session_clears_it(bench: &Bench) {
    let [(one, one_ctx), (two, two_ctx)] = two(bench);
    let host = pinned(&one, one_ctx, HEAP_BYTES);
    host.window.write(5000, &[1; 5000]).expect("inside");
    drop(one);
    let again = pinned(&two, two_ctx, HEAP_BYTES);
    assert_eq!(again.at, host.at);
    assert_eq!(again.bytes(5000, 5000), [0; 5000]);
}

pub fn a_destroyed_context_frees_it(bench: &Bench) {
    let client = bench.client();
    let none = CtxId(0);
    let [gone, stays] = [(); 2].map(|()| stubs::ctx_create(&client, none, 0, 0).expect("context"));
    let host = pinned(&client, gone, HEAP_BYTES / 2);
    let other = pinned(&client, stays, 4096);
    let device = client.alloc(stays, 64);
    let copy = |src| client.now(|c| stubs::memcpy_dtod(c, stays, device, src, 16, STREAM));
    copy(host.at).expect("each context reaches it");
    stubs::ctx_destroy(&client, none, gone).expect("destroyed");
    assert_eq!(copy(host.at), Err(INVALID));
    assert_eq!(stubs::host_free(&client, stays, host.at), Err(INVALID));
    copy(other.at).expect("still there");
    pinned(&client, stays, HEAP_BYTES / 2);
}
