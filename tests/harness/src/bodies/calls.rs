//! Calls through the rings.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{ArenaSpan, CtxId, DevPtr, ModuleLoaded, Opcode, StreamId, stubs};
use vgpu_protocol::layout::index;
use vgpu_protocol::limits::MAX_INLINE_COPY_BYTES;
use vgpu_protocol::message::Flags;
use vgpu_protocol::regs::{RESET_KEY, Reg};

use crate::guest::Guest;
use crate::machine::{Machine, Spec};
use crate::ptx;

const STREAM: StreamId = StreamId(0);

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 13 + i / 256) as u8).collect()
}

pub fn device_memory_round_trip<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    let data = pattern(MAX_INLINE_COPY_BYTES as usize);
    let ptr = stubs::mem_alloc(&guest, ctx, data.len() as u64).expect("memory");
    stubs::memcpy_htod_inline(&guest, ctx, ptr, STREAM, &data).expect("posted");
    let back =
        stubs::memcpy_dtoh_inline(&guest, ctx, ptr, STREAM, data.len() as u32).expect("copy");
    assert_eq!(back.0, data);
    stubs::memset(&guest, ctx, ptr, 4, 0xdead_beef, 4, STREAM).expect("posted");
    let back = stubs::memcpy_dtoh_inline(&guest, ctx, ptr, STREAM, 20).expect("copy");
    assert_eq!(&back.0[..16], 0xdead_beef_u32.to_le_bytes().repeat(4));
    assert_eq!(&back.0[16..], &data[16..20]);
    stubs::mem_free(&guest, ctx, ptr).expect("posted");
    stubs::ctx_synchronize(&guest, ctx).expect("no error");
}

pub fn copies_through_the_arena<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 1);
    let ctx = guest.context();
    let layout = m.layout();
    let arena = layout.area(1) + layout.arena();
    let data = pattern(256 << 10);
    let ptr = stubs::mem_alloc(&guest, ctx, data.len() as u64).expect("memory");
    m.bar1_write(arena, &data);
    let bytes = data.len() as u64;
    stubs::memcpy_htod(&guest, ctx, ptr, STREAM, ArenaSpan { position: 0, bytes }).expect("posted");
    // To another piece of it, in a later turn of the numbering.
    let position = layout.arena_bytes + bytes;
    stubs::memcpy_dtoh(&guest, ctx, ptr, STREAM, ArenaSpan { position, bytes }).expect("copy");
    let mut back = vec![0; data.len()];
    m.bar1_read(arena + bytes, &mut back);
    assert!(back == data, "the bytes differ");
    assert_eq!(m.load64(guest.word(index::ARENA_HEAD)), position + bytes);

    // Spans that leave the arena.
    for (position, bytes) in [
        (1, layout.arena_bytes),
        (0, layout.arena_bytes + 1),
        (layout.arena_bytes - 1, 2),
        (0, u64::MAX),
    ] {
        let span = ArenaSpan { position, bytes };
        let copied = stubs::memcpy_dtoh(&guest, ctx, ptr, STREAM, span.clone());
        assert_eq!(copied, Err(Status::ERROR_INVALID_VALUE), "{span:?}");
    }
    guest.hello();
}

pub fn a_kernel_adds_vectors<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    let loaded =
        stubs::module_load(&guest, ctx, ptx::VECTOR_ADD.as_bytes(), Vec::new()).expect("answer");
    assert_eq!(
        Status(loaded.status),
        Status::SUCCESS,
        "{}",
        loaded.error_log
    );
    let add = stubs::module_get_function(&guest, ctx, loaded.module, "add").expect("kernel");
    assert_eq!(add.params, [(0, 8), (8, 8), (16, 8), (24, 4)]);
    let n = 1000u32;
    let values = |scale: f32| {
        (0..n)
            .flat_map(|i| (i as f32 * scale).to_le_bytes())
            .collect::<Vec<_>>()
    };
    let alloc = || stubs::mem_alloc(&guest, ctx, u64::from(n) * 4).expect("memory");
    let (a, b, c) = (alloc(), alloc(), alloc());
    stubs::memcpy_htod_inline(&guest, ctx, a, STREAM, &values(1.0)).expect("posted");
    stubs::memcpy_htod_inline(&guest, ctx, b, STREAM, &values(0.5)).expect("posted");
    let mut params = Vec::new();
    [a, b, c]
        .iter()
        .for_each(|p| params.extend(p.0.to_le_bytes()));
    params.extend(n.to_le_bytes());
    stubs::launch_kernel(
        &guest,
        ctx,
        add.function,
        [8, 1, 1],
        [128, 1, 1],
        0,
        STREAM,
        &params,
    )
    .expect("posted");
    let sum = stubs::memcpy_dtoh_inline(&guest, ctx, c, STREAM, n * 4).expect("no error");
    assert!(sum.0 == values(1.5), "the sums differ");
}

pub fn broken_ptx_names_line_and_column<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    let broken = ptx::VECTOR_ADD.replace("mov.u32 %r3, %ctaid.x;", "mov.u32 %r3 %ctaid.x;");
    let line = 1 + broken
        .lines()
        .position(|l| l.contains("%r3 %ctaid"))
        .expect("there");
    let loaded = stubs::module_load(&guest, ctx, broken.as_bytes(), Vec::new()).expect("an answer");
    assert_eq!(Status(loaded.status), Status::ERROR_INVALID_PTX);
    assert!(
        loaded.error_log.contains(&line.to_string()),
        "line {line}: {}",
        loaded.error_log
    );
    let good =
        stubs::module_load(&guest, ctx, ptx::VECTOR_ADD.as_bytes(), Vec::new()).expect("answer");
    assert_eq!(good.status, 0);
}

pub fn posted_errors_wait_for_a_call_that_waits<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    let hint = guest.word(index::DEFERRED_ERROR);
    assert_eq!(m.load32(hint), 0);
    stubs::memcpy_htod_inline(&guest, ctx, DevPtr(0x10), STREAM, &[1, 2, 3]).expect("posted");
    // The first error stays.
    stubs::module_unload(&guest, ctx, vgpu_protocol::calls::ModuleId(77)).expect("posted");
    guest.hello();
    assert_eq!(Status(m.load32(hint)), Status::ERROR_INVALID_VALUE);
    assert_eq!(
        stubs::mem_get_info(&guest, ctx),
        Err(Status::ERROR_INVALID_VALUE)
    );
    assert!(
        stubs::mem_get_info(&guest, ctx).is_ok(),
        "it is reported once"
    );
    assert_eq!(m.load32(hint), 0);
    // A posted call that is waited for (VGPU_SYNC=1) reports its own error at once.
    let (status, _) = guest.ask(Opcode::cuMemFree as u16, ctx, &0x10u64.to_le_bytes());
    assert_eq!(status, Status::ERROR_INVALID_VALUE);
    assert!(stubs::mem_get_info(&guest, ctx).is_ok());
}

pub fn counters_agree_with_what_was_called<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    for _ in 0..17 {
        let ptr = stubs::mem_alloc(&guest, ctx, 64).expect("memory");
        stubs::mem_free(&guest, ctx, ptr).expect("posted");
    }
    let json = stubs::counters(&guest, ctx).expect("counters");
    for part in [
        r#""cuMemAlloc":17"#,
        r#""cuMemFree":17"#,
        r#""cuInit":1"#,
        r#""vgpuHello":1"#,
    ] {
        assert!(json.contains(part), "{part} in {json}");
    }
    assert!(!json.contains("cuLaunchKernel"), "{json}");
}

pub fn unknown_calls_are_refused<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    guest.hello();
    for opcode in [0u16, 0x0004, 0x002f, 0x7ffe, 0x7fff, 0xffff] {
        let (status, payload) = guest.ask(opcode, CtxId(0), &[1; 24]);
        assert_eq!(
            (status, payload.len()),
            (Status::ERROR_NOT_SUPPORTED, 0),
            "{opcode:#x}"
        );
    }
    // Posted, it is deferred like any error.
    guest.send(0x7fff, Flags::POSTED, CtxId(0), vec![]);
    let ctx = stubs::primary_ctx_retain(&guest, CtxId(0), 0).expect("asks");
    assert_eq!(
        stubs::ctx_synchronize(&guest, ctx),
        Err(Status::ERROR_NOT_SUPPORTED)
    );
    assert_eq!(stubs::ctx_synchronize(&guest, ctx), Ok(()));
}

pub fn malformed_payloads_are_refused<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    let hello = Opcode::vgpuHello as u16;
    let cases: [(u16, Vec<u8>); 6] = [
        (Opcode::cuMemAlloc as u16, vec![]),
        (Opcode::cuMemAlloc as u16, vec![0; 7]),
        (Opcode::cuCtxSynchronize as u16, vec![]),
        (hello, [&300u64.to_le_bytes()[..], &[b'a'; 8]].concat()),
        (
            hello,
            [&2u64.to_le_bytes()[..], &[0xff, 0xff], &[0; 4]].concat(),
        ),
        (hello, u64::MAX.to_le_bytes().to_vec()),
    ];
    for (opcode, payload) in cases {
        let good = opcode == Opcode::cuCtxSynchronize as u16;
        let (status, _) = guest.ask(opcode, ctx, &payload);
        let expected = if good {
            Status::SUCCESS
        } else {
            Status::ERROR_INVALID_VALUE
        };
        assert_eq!(status, expected, "{opcode:#x} with {payload:?}");
    }
}

pub fn a_message_longer_than_the_ring<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    assert!(M::LONG_BYTES as u64 > 8 * m.layout().command_bytes);
    let image = pattern(M::LONG_BYTES);
    let loaded = stubs::module_load(&guest, ctx, &image, Vec::new());
    let expected = Ok(Status::ERROR_INVALID_IMAGE);
    assert_eq!(loaded.map(|l: ModuleLoaded| Status(l.status)), expected);
    guest.hello();
}

pub fn a_reply_longer_than_a_record<M: Machine>() {
    // 64 channels in the smallest BAR1: reply records of 4 KiB.
    let m = M::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    assert!(m.layout().reply_bytes / 4 < u64::from(MAX_INLINE_COPY_BYTES));
    let guest = Guest::claim(&m, 63);
    let ctx = guest.context();
    let ptr = stubs::mem_alloc(&guest, ctx, u64::from(MAX_INLINE_COPY_BYTES)).expect("memory");
    let data = pattern(MAX_INLINE_COPY_BYTES as usize);
    stubs::memcpy_htod_inline(&guest, ctx, ptr, STREAM, &data).expect("posted");
    for bytes in [1, 4064, 4065, 8191, MAX_INLINE_COPY_BYTES] {
        let back = stubs::memcpy_dtoh_inline(&guest, ctx, ptr, STREAM, bytes).expect("copy");
        assert!(back.0 == data[..bytes as usize], "{bytes} bytes");
    }
    let above = stubs::memcpy_dtoh_inline(&guest, ctx, ptr, STREAM, MAX_INLINE_COPY_BYTES + 1);
    assert_eq!(above.err(), Some(Status::ERROR_INVALID_VALUE));
}

pub fn a_sleeping_worker_needs_the_doorbell<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    guest.wait_until_worker_sleeps();
    let header = guest.header(Opcode::vgpuCounters as u16, Flags::empty(), CtxId(0), 0);
    assert_eq!(
        guest.push(header, &[]),
        Some(true),
        "the ring asks for the doorbell"
    );
    // Who asked has been told: the next record asks for nothing.
    assert_eq!(guest.push(header, &[]), Some(false));
    assert_eq!(
        m.load64(guest.word(index::COMMAND_HEAD)),
        0,
        "the worker sleeps"
    );
    assert!(guest.try_receive().is_none());
    guest.ring();
    guest.receive();
    guest.receive();
}

pub fn a_burst_needs_few_doorbells<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    let ptr = stubs::mem_alloc(&guest, ctx, 1000 * 4).expect("memory");
    for i in 0..1000u32 {
        stubs::memset(
            &guest,
            ctx,
            DevPtr(ptr.0 + u64::from(i) * 4),
            4,
            i,
            1,
            STREAM,
        )
        .expect("posted");
    }
    let back = stubs::memcpy_dtoh_inline(&guest, ctx, ptr, STREAM, 4000).expect("copy");
    let expected: Vec<u8> = (0..1000u32).flat_map(u32::to_le_bytes).collect();
    assert!(
        back.0 == expected,
        "every posted call was executed, in order"
    );
    // Each park of the worker asks once at most, and it cannot park more often than records come.
    assert!(
        guest.doorbells.get() <= 1010,
        "{} doorbells",
        guest.doorbells.get()
    );
}

pub fn many_calls_wrap_both_rings<M: Machine>() {
    let m = M::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    let guest = Guest::claim(&m, 5);
    let ctx = guest.context();
    let ptr = stubs::mem_alloc(&guest, ctx, 8192).expect("memory");
    for turn in 0..60usize {
        let data: Vec<u8> = pattern(1 + turn * 131 % 8192)
            .iter()
            .map(|b| b ^ turn as u8)
            .collect();
        stubs::memcpy_htod_inline(&guest, ctx, ptr, STREAM, &data).expect("posted");
        let back =
            stubs::memcpy_dtoh_inline(&guest, ctx, ptr, STREAM, data.len() as u32).expect("copy");
        assert!(back.0 == data, "turn {turn}");
    }
    assert!(guest.sent() > 2 * m.layout().command_bytes);
    assert!(m.load64(guest.word(index::REPLY_HEAD)) > 2 * m.layout().reply_bytes);
}

pub fn sessions_do_not_share_handles<M: Machine>() {
    let m = M::start(Spec::default());
    let (one, two) = (Guest::claim(&m, 0), Guest::claim(&m, 1));
    let ctx = one.context();
    two.hello();
    let ptr = stubs::mem_alloc(&one, ctx, 4096).expect("memory");
    let loaded =
        stubs::module_load(&one, ctx, ptx::VECTOR_ADD.as_bytes(), Vec::new()).expect("module");
    assert_eq!(loaded.status, 0, "{}", loaded.error_log);
    // The same numbers mean nothing in another session.
    assert_eq!(
        stubs::mem_alloc(&two, ctx, 16).err(),
        Some(Status::ERROR_INVALID_CONTEXT)
    );
    let own = stubs::primary_ctx_retain(&two, CtxId(0), 0).expect("context");
    let found = stubs::module_get_function(&two, own, loaded.module, "add");
    assert_eq!(found.err(), Some(Status::ERROR_INVALID_HANDLE));
    let read = stubs::memcpy_dtoh_inline(&two, own, ptr, STREAM, 16);
    assert_eq!(read.err(), Some(Status::ERROR_INVALID_VALUE));
}

pub fn memory_is_given_back<M: Machine>() {
    let m = M::start(Spec {
        memory_bytes: 64 << 20,
        ..Spec::default()
    });
    let other = Guest::claim(&m, 3);
    let other_ctx = other.context();
    let free = || stubs::mem_get_info(&other, other_ctx).expect("info").0;
    let all = free();
    for turn in 0..5 {
        let guest = Guest::claim(&m, 0);
        let ctx = guest.context();
        stubs::mem_alloc(&guest, ctx, 48 << 20).unwrap_or_else(|e| panic!("turn {turn}: {e}"));
        let more = stubs::mem_alloc(&guest, ctx, 48 << 20);
        assert_eq!(more.err(), Some(Status::ERROR_OUT_OF_MEMORY));
        assert!(free() < all);
        // A process that is killed frees nothing itself.
        guest.release();
    }
    assert_eq!(free(), all);
}

pub fn reset_ends_an_endless_kernel<M: Machine>() {
    let m = M::start(Spec::default());
    for by_release in [true, false] {
        let guest = Guest::claim(&m, 0);
        let ctx = guest.context();
        let loaded =
            stubs::module_load(&guest, ctx, ptx::MISCHIEF.as_bytes(), Vec::new()).expect("module");
        assert_eq!(loaded.status, 0, "{}", loaded.error_log);
        let forever =
            stubs::module_get_function(&guest, ctx, loaded.module, "forever").expect("kernel");
        stubs::launch_kernel(
            &guest,
            ctx,
            forever.function,
            [1; 3],
            [32, 1, 1],
            0,
            STREAM,
            &[],
        )
        .expect("posted");
        // The worker waits for it.
        guest.send(Opcode::cuCtxSynchronize as u16, Flags::empty(), ctx, vec![]);
        guest.wait_until_taken();
        // Another session computes meanwhile.
        let other = Guest::claim(&m, 1);
        other.context();
        other.release();
        if by_release {
            guest.release();
        } else {
            m.set_reg(Reg::DeviceReset, RESET_KEY);
            m.wait_free(0);
        }
    }
    Guest::claim(&m, 0).context();
}
