//! Device memory, copies and sets.

use std::sync::atomic::Ordering;

use vgpu_conformance::{ARENA_BYTES, Bench, STREAM};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{ArenaSpan, DevPtr, stubs};

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 7 + i / 255) as u8).collect()
}

fn at(ptr: DevPtr, offset: u64) -> DevPtr {
    DevPtr(ptr.0 + offset)
}

pub fn addresses_are_aligned(bench: &Bench) {
    let (client, ctx) = bench.ready();
    // "any alignment requirement of variables": 256 bytes (CUDA C++ Programming Guide, 5.3.2).
    for bytes in [1, 3, 100, 4097] {
        let ptr = client.alloc(ctx, bytes);
        assert!(ptr.0 != 0 && ptr.0.is_multiple_of(256), "{ptr:?}");
    }
}

pub fn bad_sizes(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let alloc = |bytes| stubs::mem_alloc(&client, ctx, bytes).err();
    assert_eq!(alloc(0), Some(Status::ERROR_INVALID_VALUE));
    for bytes in [1 << 40, u64::MAX / 2, u64::MAX - 255, u64::MAX] {
        assert_eq!(alloc(bytes), Some(Status::ERROR_OUT_OF_MEMORY), "{bytes}");
    }
    client.alloc(ctx, 1);
}

pub fn copies_of_every_size(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 8192);
    for bytes in [0usize, 1, 2, 3, 7, 255, 4096, 8192] {
        let data = pattern(bytes);
        let offset = (8192 - bytes as u64) / 2;
        client.write(ctx, at(ptr, offset), &data);
        assert_eq!(
            client.read(ctx, at(ptr, offset), bytes as u32),
            data,
            "{bytes} bytes"
        );
    }
}

pub fn copies_through_the_arena(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let data = pattern(300_001);
    let bytes = data.len() as u64;
    let ptr = client.alloc(ctx, bytes);
    client.arena.write(17, &data).expect("inside");
    client
        .now(|c| {
            stubs::memcpy_htod(
                c,
                ctx,
                ptr,
                STREAM,
                ArenaSpan {
                    position: 17,
                    bytes,
                },
            )
        })
        .expect("copied");
    let position = 3 * ARENA_BYTES + (512 << 10);
    stubs::memcpy_dtoh(&client, ctx, ptr, STREAM, ArenaSpan { position, bytes }).expect("copied");
    let mut back = vec![0; data.len()];
    client.arena.read(512 << 10, &mut back).expect("inside");
    assert!(back == data);
    // A span that crosses the arena's end, or is longer than it.
    for (position, bytes) in [(ARENA_BYTES - 8, 16), (0, ARENA_BYTES + 1), (1, u64::MAX)] {
        let span = ArenaSpan { position, bytes };
        let there = client.now(|c| stubs::memcpy_htod(c, ctx, ptr, STREAM, span.clone()));
        assert_eq!(there, Err(Status::ERROR_INVALID_VALUE), "{span:?}");
        let back = stubs::memcpy_dtoh(&client, ctx, ptr, STREAM, span);
        assert_eq!(back, Err(Status::ERROR_INVALID_VALUE));
    }
    // What the host reads of the arena in the meantime is the guest's own affair.
    std::sync::atomic::fence(Ordering::SeqCst);
}

pub fn copies_within_the_device(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let (a, b) = (client.alloc(ctx, 4096), client.alloc(ctx, 4096));
    client.write(ctx, a, &pattern(4096));
    client.write(ctx, b, &[0xee; 4096]);
    client
        .now(|c| stubs::memcpy_dtod(c, ctx, at(b, 100), at(a, 5), 1000, STREAM))
        .expect("copied");
    let got = client.read(ctx, b, 4096);
    assert_eq!(got[100..1100], pattern(4096)[5..1005]);
    assert!(got[..100].iter().chain(&got[1100..]).all(|b| *b == 0xee));
    for (dst, src, bytes) in [
        (b, a, 4097),
        (at(b, 4000), a, 200),
        (b, at(a, 4095), 2),
        (DevPtr(64), a, 8),
        (b, DevPtr(64), 8),
    ] {
        let copied = client.now(|c| stubs::memcpy_dtod(c, ctx, dst, src, bytes, STREAM));
        assert_eq!(
            copied,
            Err(Status::ERROR_INVALID_VALUE),
            "{bytes} bytes from {src:?} to {dst:?}"
        );
    }
}

pub fn copies_past_the_end(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 4096);
    let bad = Err(Status::ERROR_INVALID_VALUE);
    for (offset, bytes) in [(4096u64, 1usize), (4095, 2), (0, 4097), (1, 4096)] {
        let there = client
            .now(|c| stubs::memcpy_htod_inline(c, ctx, at(ptr, offset), STREAM, &vec![1; bytes]));
        assert_eq!(there, bad, "{bytes} bytes at {offset}");
        let back = stubs::memcpy_dtoh_inline(&client, ctx, at(ptr, offset), STREAM, bytes as u32);
        assert_eq!(
            back.map(|b| b.0.len()),
            bad.map(|()| 0),
            "{bytes} bytes at {offset}"
        );
    }
    for wild in [0, 8, 1 << 20, u64::MAX - 7, u64::MAX] {
        let there =
            client.now(|c| stubs::memcpy_htod_inline(c, ctx, DevPtr(wild), STREAM, &[1; 8]));
        assert_eq!(there, bad, "{wild:#x}");
    }
    client.write(ctx, ptr, &[9; 4096]);
}

pub fn double_and_foreign_frees(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 4096);
    let free = |ptr| client.now(|c| stubs::mem_free(c, ctx, ptr));
    let bad = Err(Status::ERROR_INVALID_VALUE);
    assert_eq!(free(at(ptr, 256)), bad, "inside an allocation");
    assert_eq!(free(ptr), Ok(()));
    assert_eq!(free(ptr), bad, "twice");
    assert_eq!(free(DevPtr(0x1000)), bad);
    let other = stubs::memcpy_dtoh_inline(&client, ctx, ptr, STREAM, 4);
    assert_eq!(
        other.err(),
        Some(Status::ERROR_INVALID_VALUE),
        "read after free"
    );
}

pub fn sets_of_each_width(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 64);
    for (width, value) in [(1u8, 0x1234_5678u32), (2, 0x1234_5678), (4, 0x1234_5678)] {
        client.write(ctx, ptr, &[0xaa; 64]);
        client
            .now(|c| stubs::memset(c, ctx, at(ptr, 4), width, value, 5, STREAM))
            .expect("set");
        let width = usize::from(width);
        let mut expected = vec![0xaa; 64];
        expected[4..4 + 5 * width].copy_from_slice(&value.to_le_bytes()[..width].repeat(5));
        assert_eq!(client.read(ctx, ptr, 64), expected, "width {width}");
    }
    client
        .now(|c| stubs::memset(c, ctx, ptr, 4, 1, 0, STREAM))
        .expect("nothing to set");
}

pub fn sets_of_rows(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 512);
    client.write(ctx, ptr, &[0xaa; 512]);
    client
        .now(|c| stubs::memset_2d(c, ctx, ptr, 64, 2, 0xbeef, 10, 3, STREAM))
        .expect("set");
    let got = client.read(ctx, ptr, 512);
    for (row, line) in got.chunks(64).enumerate() {
        let filled = if row < 3 { 20 } else { 0 };
        assert_eq!(line[..filled], [0xef, 0xbe].repeat(filled / 2), "row {row}");
        assert!(line[filled..].iter().all(|b| *b == 0xaa), "row {row}");
    }
}

pub fn bad_sets(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptr = client.alloc(ctx, 256);
    let set =
        |ptr, width, count| client.now(|c| stubs::memset(c, ctx, ptr, width, 1, count, STREAM));
    let bad = Err(Status::ERROR_INVALID_VALUE);
    assert_eq!(set(ptr, 4, 64), Ok(()));
    assert_eq!(set(ptr, 4, 65), bad, "past the end");
    assert_eq!(set(ptr, 4, u64::MAX / 2), bad);
    assert_eq!(set(at(ptr, 2), 4, 1), bad, "misaligned");
    assert_eq!(set(at(ptr, 1), 2, 1), bad, "misaligned");
    for width in [0, 3, 8, 255] {
        assert_eq!(set(ptr, width, 1), bad, "width {width}");
    }
    let rows = |pitch, count, rows| {
        client.now(|c| stubs::memset_2d(c, ctx, ptr, pitch, 4, 1, count, rows, STREAM))
    };
    assert_eq!(rows(64, 16, 4), Ok(()));
    assert_eq!(rows(64, 16, 5), bad);
    assert_eq!(rows(64, 17, 2), bad, "rows longer than the pitch");
    assert_eq!(rows(u64::MAX - 3, 1, u64::from(u32::MAX)), bad);
}

pub fn pitched_memory(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let (ptr, pitch) = stubs::mem_alloc_pitch(&client, ctx, 100, 7, 4).expect("memory");
    assert!(pitch >= 100 && pitch.is_multiple_of(4) && ptr.0.is_multiple_of(256));
    client
        .now(|c| stubs::memset_2d(c, ctx, ptr, pitch, 1, 3, 100, 7, STREAM))
        .expect("all rows are there");
    let pitched =
        |width, height, element| stubs::mem_alloc_pitch(&client, ctx, width, height, element).err();
    for element in [0, 1, 2, 3, 5, 32] {
        assert_eq!(
            pitched(100, 7, element),
            Some(Status::ERROR_INVALID_VALUE),
            "element {element}"
        );
    }
    assert!(pitched(0, 7, 4).is_some() && pitched(7, 0, 4).is_some());
    assert!(pitched(u64::MAX, 2, 4).is_some() && pitched(1 << 40, 1 << 40, 4).is_some());
}

pub fn the_vm_s_share(bench: &Bench) {
    let mediator = bench.mediator(64 << 20);
    let open = || {
        let client = vgpu_conformance::Client::open(&mediator);
        stubs::init(&client, Default::default(), 0).expect("cuInit");
        let ctx = stubs::primary_ctx_retain(&client, Default::default(), 0).expect("context");
        (client, ctx)
    };
    let ((one, one_ctx), (two, two_ctx)) = (open(), open());
    let info = || stubs::mem_get_info(&one, one_ctx).expect("info");
    let (before, total) = info();
    assert_eq!(total, 64 << 20);
    let ptr = one.alloc(one_ctx, 40 << 20);
    // The share is the VM's, not the session's.
    let more = stubs::mem_alloc(&two, two_ctx, 40 << 20);
    assert_eq!(more.err(), Some(Status::ERROR_OUT_OF_MEMORY));
    two.alloc(two_ctx, 8 << 20);
    drop(two);
    one.now(|c| stubs::mem_free(c, one_ctx, ptr))
        .expect("freed");
    assert_eq!(info(), (before, total), "all of it is back");
    one.alloc(one_ctx, 40 << 20);
}
