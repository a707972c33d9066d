//! Kernels.

use vgpu_conformance::{Bench, STREAM};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, FunctionId, FunctionInfo, LaunchAttribute, StreamId, stubs,
};
use vgpu_test_harness::ptx;

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

pub fn a_vector_sum(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::VECTOR_ADD);
    let add = client.function(ctx, module, "add");
    let n = 2000u32;
    let (a, b, c) = (
        client.alloc(ctx, 8000),
        client.alloc(ctx, 8000),
        client.alloc(ctx, 8192),
    );
    client.write(ctx, a, &floats((0..n).map(|i| i as f32)));
    client.write(ctx, b, &floats((0..n).map(|i| 0.25 * i as f32)));
    client.write(ctx, c, &[0xaa; 8192]);
    let mut params: Vec<u8> = [a, b, c].iter().flat_map(|p| p.0.to_le_bytes()).collect();
    params.extend(n.to_le_bytes());
    // More threads than elements: the kernel checks its bound.
    stubs::launch_kernel(
        &client,
        ctx,
        add.function,
        [9, 1, 1],
        [256, 1, 1],
        0,
        STREAM,
        &params,
    )
    .expect("posted");
    let got = client.read(ctx, c, 8192);
    assert!(got[..8000] == floats((0..n).map(|i| 1.25 * i as f32)));
    assert!(
        got[8000..].iter().all(|byte| *byte == 0xaa),
        "nothing beyond the bound"
    );
}

pub fn geometry_that_is_too_large_or_nothing(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    let poke = client.function(ctx, module, "poke");
    let ptr = client.alloc(ctx, 64);
    let launch = |grid, block| {
        let params = ptr.0.to_le_bytes();
        client.now(|c| stubs::launch_kernel(c, ctx, poke.function, grid, block, 0, STREAM, &params))
    };
    // CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
    let good = [
        ([1, 1, 1], [1024, 1, 1]),
        ([1, 1, 1], [1, 1024, 1]),
        ([1, 1, 1], [1, 16, 64]),
        ([2, 3, 4], [8, 8, 8]),
    ];
    for (grid, block) in good {
        assert_eq!(launch(grid, block), Ok(()), "{grid:?} {block:?}");
    }
    let bad = [
        ([1, 1, 1], [1025, 1, 1]),
        ([1, 1, 1], [1, 1025, 1]),
        ([1, 1, 1], [1, 1, 65]),
        ([1, 1, 1], [32, 33, 1]),
        ([1, 1, 1], [u32::MAX, u32::MAX, u32::MAX]),
        ([1, 1, 1], [0, 1, 1]),
        ([1, 1, 1], [1, 0, 1]),
        ([0, 1, 1], [1, 1, 1]),
        ([1, 1, 0], [1, 1, 1]),
        ([1, 65536, 1], [1, 1, 1]),
        ([1, 1, 65536], [1, 1, 1]),
        ([1 << 31, 1, 1], [1, 1, 1]),
    ];
    for (grid, block) in bad {
        assert_eq!(
            launch(grid, block),
            Err(Status::ERROR_INVALID_VALUE),
            "{grid:?} {block:?}"
        );
    }
    stubs::ctx_synchronize(&client, ctx).expect("no error is left");
}

pub fn parameters_of_another_length(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    let poke = client.function(ctx, module, "poke");
    for params in [&[][..], &[0; 4], &[0; 7], &[0; 9], &[0; 4096], &[0; 32_764]] {
        assert_eq!(
            client.launch(ctx, &poke, 1, params),
            Err(Status::ERROR_INVALID_VALUE),
            "{} bytes",
            params.len()
        );
    }
    let ptr = client.alloc(ctx, 64);
    client
        .launch(ctx, &poke, 1, &ptr.0.to_le_bytes())
        .expect("launched");
    assert_eq!(client.read(ctx, ptr, 4), 42u32.to_le_bytes());
    let unknown = FunctionInfo {
        function: FunctionId(12345),
        ..FunctionInfo::default()
    };
    assert_eq!(
        client.launch(ctx, &unknown, 1, &[0; 8]),
        Err(Status::ERROR_INVALID_HANDLE)
    );
}

pub fn shared_memory_beyond_the_block_s(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    let poke = client.function(ctx, module, "poke");
    let ptr = client.alloc(ctx, 64);
    let launch = |shared| {
        let params = ptr.0.to_le_bytes();
        client.now(|c| {
            stubs::launch_kernel(
                c,
                ctx,
                poke.function,
                [1; 3],
                [1; 3],
                shared,
                STREAM,
                &params,
            )
        })
    };
    // 48 KiB unless the kernel opts in (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK).
    assert_eq!(launch(48 << 10), Ok(()));
    assert_eq!(launch((48 << 10) + 1), Err(Status::ERROR_INVALID_VALUE));
    assert_eq!(launch(u32::MAX), Err(Status::ERROR_INVALID_VALUE));
}

pub fn kernels_in_order_on_one_stream(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ORDER);
    let step = client.function(ctx, module, "step");
    let ptr = client.alloc(ctx, 4);
    client.write(ctx, ptr, &[0; 4]);
    let mut expected = 0u32;
    for k in 1..=200u32 {
        let mut params = ptr.0.to_le_bytes().to_vec();
        params.extend(k.to_le_bytes());
        stubs::launch_kernel(
            &client,
            ctx,
            step.function,
            [1; 3],
            [1; 3],
            0,
            STREAM,
            &params,
        )
        .expect("posted");
        expected = expected.wrapping_mul(3).wrapping_add(k);
    }
    assert_eq!(client.read(ctx, ptr, 4), expected.to_le_bytes());
}

/// `step(p, k)`: *p = 3 * *p + k.
const ORDER: &str = r#"
.version 8.0
.target sm_90
.address_size 64
.visible .entry step(
    .param .u64 step_param_0,
    .param .u32 step_param_1
)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [step_param_0];
    ld.param.u32 %r1, [step_param_1];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r2, [%rd2];
    mad.lo.s32 %r3, %r2, 3, %r1;
    st.global.u32 [%rd2], %r3;
    ret;
}
"#;

pub fn divergence_and_barriers(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, REVERSE);
    let reverse = client.function(ctx, module, "reverse");
    let ptr = client.alloc(ctx, 1024);
    let words = |f: &dyn Fn(u32) -> u32| {
        (0..256)
            .flat_map(|i| f(i).to_le_bytes())
            .collect::<Vec<u8>>()
    };
    client.write(ctx, ptr, &words(&|i| i));
    client
        .launch(ctx, &reverse, 256, &ptr.0.to_le_bytes())
        .expect("launched");
    // Odd threads add, even threads double; then the block is reversed.
    let step = |i: u32| if i % 2 == 1 { i + 1000 } else { 2 * i };
    assert!(client.read(ctx, ptr, 1024) == words(&|i| step(255 - i)));
}

const REVERSE: &str = r#"
.version 8.0
.target sm_90
.address_size 64
.visible .entry reverse(
    .param .u64 reverse_param_0
)
{
    .reg .pred %p<2>;
    .reg .b32 %r<12>;
    .reg .b64 %rd<5>;
    .shared .align 4 .b8 tile[1024];
    ld.param.u64 %rd1, [reverse_param_0];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.u32 %r2, [%rd4];
    and.b32 %r3, %r1, 1;
    setp.eq.u32 %p1, %r3, 0;
    @%p1 bra EVEN;
    add.s32 %r4, %r2, 1000;
    bra.uni JOIN;
EVEN:
    add.s32 %r4, %r2, %r2;
JOIN:
    mov.u32 %r5, tile;
    shl.b32 %r6, %r1, 2;
    add.s32 %r7, %r5, %r6;
    st.shared.u32 [%r7], %r4;
    bar.sync 0;
    mov.u32 %r8, 1020;
    sub.s32 %r9, %r8, %r6;
    add.s32 %r10, %r5, %r9;
    ld.shared.u32 %r11, [%r10];
    st.global.u32 [%rd4], %r11;
    ret;
}
"#;

pub fn atomics_of_many_blocks(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, COUNT);
    let count = client.function(ctx, module, "count");
    let ptr = client.alloc(ctx, 4);
    client.write(ctx, ptr, &[0; 4]);
    let params = ptr.0.to_le_bytes();
    stubs::launch_kernel(
        &client,
        ctx,
        count.function,
        [7, 5, 3],
        [32, 4, 2],
        0,
        STREAM,
        &params,
    )
    .expect("posted");
    assert_eq!(client.read(ctx, ptr, 4), (7u32 * 5 * 3 * 256).to_le_bytes());
}

const COUNT: &str = r#"
.version 8.0
.target sm_90
.address_size 64
.visible .entry count(
    .param .u64 count_param_0
)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [count_param_0];
    cvta.to.global.u64 %rd2, %rd1;
    atom.global.add.u32 %r1, [%rd2], 1;
    ret;
}
"#;

pub fn attributes_that_are_hints_or_none(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::VECTOR_ADD);
    let add = client.function(ctx, module, "add");
    let at = client.alloc(ctx, 64);
    let mut params = [at.0.to_le_bytes(), at.0.to_le_bytes(), at.0.to_le_bytes()].concat();
    params.extend(1u32.to_le_bytes());
    let launch = |id: u32, value: u64| {
        let attributes = vec![LaunchAttribute {
            id,
            value: [value, 0, 0, 0, 0, 0, 0, 0],
        }];
        client.now(|c| {
            stubs::launch_kernel_ex(
                c,
                ctx,
                add.function,
                [1; 3],
                [32, 1, 1],
                0,
                STREAM,
                attributes.clone(),
                &params,
            )
        })
    };
    // Ignored, programmatic stream serialization, priority 0.
    for id in [0, 6, 8] {
        assert_eq!(launch(id, 0), Ok(()), "{id}");
    }
    assert_eq!(launch(7, 1), Err(Status::ERROR_NOT_SUPPORTED), "an event");
    assert_eq!(launch(1000, 1), Err(Status::ERROR_INVALID_VALUE));
    assert_eq!(
        launch(4, 0),
        Err(Status::ERROR_INVALID_VALUE),
        "a cluster of nothing"
    );
    assert_eq!(stubs::ctx_synchronize(&client, ctx), Ok(()));
}

/// Blocks of a grid that meet.
const RING: &str = include_str!("ring.ptx");

pub fn blocks_of_a_cooperative_grid_meet(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let device = &stubs::device_table(&client, CtxId(0)).expect("the devices")[0];
    let attribute = |id: i32| {
        let of = device.attributes.iter().find(|(a, _)| *a == id);
        of.map_or(0, |(_, value)| *value as u32)
    };
    // CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, _MULTIPROCESSOR_COUNT and _MAX_BLOCKS_PER_MULTIPROCESSOR,
    // which is what limits blocks of one warp.
    assert_eq!(attribute(95), 1);
    let most = attribute(16) * attribute(106);
    let module = client.load(ctx, RING);
    let ring = client.function(ctx, module, "ring");
    let rounds = 7u32;
    let at = client.alloc(ctx, u64::from(most) * 32 * 8);
    let mut params = at.0.to_le_bytes().to_vec();
    params.extend(rounds.to_le_bytes());
    let launch = |blocks: u32| {
        let attributes = vec![LaunchAttribute {
            id: 2,
            value: [1, 0, 0, 0, 0, 0, 0, 0],
        }];
        client.now(|c| {
            stubs::launch_kernel_ex(
                c,
                ctx,
                ring.function,
                [blocks, 1, 1],
                [32, 1, 1],
                0,
                STREAM,
                attributes.clone(),
                &params,
            )
        })
    };
    for blocks in [1, 13, most] {
        let half = blocks * 32;
        let first: Vec<u8> = (0..half).flat_map(u32::to_le_bytes).collect();
        for (k, part) in first.chunks(4096).enumerate() {
            client.write(ctx, DevPtr(at.0 + k as u64 * 4096), part);
        }
        assert_eq!(launch(blocks), Ok(()), "{blocks}");
        let second = DevPtr(at.0 + u64::from(half) * 4);
        let want = (0..half).map(|i| (i / 32 + rounds) % blocks * 32 + i % 32 + rounds);
        let want: Vec<u8> = want.flat_map(u32::to_le_bytes).collect();
        for (k, part) in want.chunks(4096).enumerate() {
            let from = DevPtr(second.0 + k as u64 * 4096);
            assert!(
                client.read(ctx, from, part.len() as u32) == part,
                "{blocks}"
            );
        }
    }
    assert_eq!(
        launch(most + 1),
        Err(Status::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE)
    );
    // Nothing is wrong with the context.
    assert_eq!(stubs::ctx_synchronize(&client, ctx), Ok(()));
}

/// Waits until the first word is not 0 and counts in the second one.
const WAITS: &str = r#".version 8.0
.target sm_70
.address_size 64

.visible .entry waits(.param .u64 words)
{
	.reg .pred %p<2>;
	.reg .b32 %r<3>;
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [words];
spin:
	ld.volatile.global.u32 %r1, [%rd1];
	setp.eq.u32 %p1, %r1, 0;
	@%p1 bra spin;
	ld.global.u32 %r2, [%rd1+4];
	add.u32 %r2, %r2, 1;
	st.global.u32 [%rd1+4], %r2;
	ret;
}
"#;

pub fn a_kernel_that_waits_for_what_is_posted_later(bench: &Bench) {
    const LAUNCHES: u32 = 40;
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, WAITS);
    let waits = client.function(ctx, module, "waits");
    let words = client.alloc(ctx, 8);
    let params = words.0.to_le_bytes();
    // Streams that do not wait for each other, nor for the default stream.
    let (one, other) = (StreamId(1), StreamId(2));
    for stream in [one, other] {
        stubs::stream_create(&client, ctx, stream, 1, 0).expect("posted");
    }
    let launch = || {
        let (grid, block) = ([1; 3], [1; 3]);
        stubs::launch_kernel(&client, ctx, waits.function, grid, block, 0, one, &params)
            .expect("posted");
    };
    client.write(ctx, words, &[1, 0, 0, 0, 0, 0, 0, 0]);
    // So often that its launches are known to be short.
    for _ in 0..LAUNCHES {
        launch();
        stubs::stream_synchronize(&client, ctx, one).expect("no error");
    }
    for round in 1..=3 {
        client.write(ctx, words, &[0; 4]);
        launch();
        stubs::memcpy_htod_inline(&client, ctx, words, other, &[1, 0, 0, 0]).expect("posted");
        stubs::ctx_synchronize(&client, ctx).expect("no error");
        let counted = (LAUNCHES + round).to_le_bytes();
        assert_eq!(client.read(ctx, words, 8)[4..], counted);
    }
}
