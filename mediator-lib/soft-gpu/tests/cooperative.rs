//! Cooperative grids: all blocks are in progress at once.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::thread;
use std::time::Duration;

use common::{Device, devices};
use vgpu_soft_gpu::{Abort, LaunchConfig, LaunchError, LaunchOptions, LaunchStats};

/// `ring` is told of in its file. `lonely` waits for what no block ever does, `trap_last` for a block that traps.
const KERNELS: &str = concat!(
    include_str!("../../../tests/conformance/tests/ring.ptx"),
    r#"
.visible .entry lonely()
{
	.reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<2>;
	mov.u32 %r1, %envreg1;
	mov.u32 %r2, %envreg2;
	mov.b64 %rd1, {%r2, %r1};
spin:
	ld.acquire.gpu.u32 %r3, [%rd1+4];
	setp.eq.u32 %p1, %r3, 0;
	@%p1 bra spin;
	ret;
}
.visible .entry trap_last()
{
	.reg .pred %p<3>; .reg .b32 %r<6>; .reg .b64 %rd<2>;
	mov.u32 %r1, %envreg1;
	mov.u32 %r2, %envreg2;
	mov.b64 %rd1, {%r2, %r1};
	mov.u32 %r4, %ctaid.x;
	setp.eq.u32 %p2, %r4, 5;
	@%p2 trap;
spin:
	ld.acquire.gpu.u32 %r3, [%rd1+4];
	setp.eq.u32 %p1, %r3, 0;
	@%p1 bra spin;
	ret;
}
.visible .entry workspace(.param .u64 to)
{
	.reg .b32 %r<4>; .reg .b64 %rd<3>;
	ld.param.u64 %rd1, [to];
	mov.u32 %r1, %envreg1;
	mov.u32 %r2, %envreg2;
	st.global.v2.u32 [%rd1], {%r2, %r1};
	ret;
}
"#
);

fn launch(
    d: &Device,
    kernel: &str,
    (grid, block, shared): (u32, u32, u32),
    params: &[u8],
    (cooperative, limit): (bool, Option<Duration>),
    abort: &Abort,
) -> Result<LaunchStats, LaunchError> {
    let f = d.module.function(kernel).unwrap();
    let config = LaunchConfig {
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        dynamic_shared_bytes: shared,
    };
    let options = LaunchOptions {
        reference: d.reference,
        jit: d.jit,
        cooperative,
        time_limit: limit,
        ..LaunchOptions::default()
    };
    d.gpu.launch(&d.space, &f, &config, params, &options, abort)
}

fn ring(d: &Device, shape: (u32, u32, u32), rounds: u32) -> Result<(), LaunchError> {
    let (grid, block, _) = shape;
    let first: Vec<u32> = (0..2 * grid * block).collect();
    let at = d.upload(&first);
    let params = [&at.to_le_bytes()[..], &rounds.to_le_bytes()].concat();
    let done = launch(d, "ring", shape, &params, (true, None), &Abort::new());
    if done.is_ok() {
        let half = grid * block;
        let got = d.download::<u32>(at, 2 * half as usize);
        for i in 0..half {
            let want = (i / block + rounds) % grid * block + i % block + rounds;
            let place = rounds % 2 * half + i;
            assert_eq!(got[place as usize], want, "{i}");
        }
    }
    d.space.free(at).unwrap();
    done.map(|stats| assert_eq!(stats.blocks, u64::from(grid)))
}

#[test]
fn all_blocks_that_fit_meet_and_one_more_is_refused() {
    for d in &devices(KERNELS) {
        let f = d.module.function("ring").unwrap();
        let before = d.space.used();
        for (block, shared) in [(32, 0), (96, 0), (128, 40_000), (1024, 0)] {
            let most = d.gpu.resident_blocks(&f, [block, 1, 1], shared) as u32;
            assert!(most >= d.gpu.threads() as u32, "{block} {shared}");
            assert_eq!(ring(d, (most, block, shared), 9), Ok(()));
            let e = ring(d, (most + 1, block, shared), 9).unwrap_err();
            let most = u64::from(most);
            let blocks = most + 1;
            assert_eq!(e, LaunchError::CooperativeTooLarge { blocks, most });
        }
        // 32 blocks, 2048 threads, 65,536 registers and 228 KiB for each of two workers.
        assert_eq!(d.gpu.resident_blocks(&f, [1024, 1, 1], 0), 2);
        let f = d.module.function("workspace").unwrap();
        let fit = |block, shared| d.gpu.resident_blocks(&f, [block, 1, 1], shared);
        assert_eq!((fit(32, 0), fit(1024, 0)), (64, 4));
        assert_eq!((fit(128, 40_000), fit(2048, 0), fit(0, 0)), (10, 0, 0));
        assert_eq!(ring(d, (1, 1, 0), 5), Ok(()));
        assert_eq!(d.space.used(), before, "workspaces are freed");
    }
}

#[test]
fn other_launches_have_no_workspace() {
    for d in &devices(KERNELS) {
        let at = d.upload(&[7u64]);
        let params = at.to_le_bytes();
        let go = |cooperative| {
            let how = (cooperative, None);
            launch(d, "workspace", (1, 1, 0), &params, how, &Abort::new()).unwrap();
            d.download::<u64>(at, 1)[0]
        };
        assert_eq!(go(false), 0);
        assert_ne!(go(true), 0);
    }
}

#[test]
fn blocks_that_wait_for_ever_are_ended() {
    for d in &devices(KERNELS) {
        let shape = (40, 64, 0);
        let e = launch(d, "trap_last", shape, &[], (true, None), &Abort::new()).unwrap_err();
        assert!(
            matches!(&e, LaunchError::Trap(f) if f.block == [5, 0, 0]),
            "{e}"
        );
        let how = (true, Some(Duration::from_millis(20)));
        let e = launch(d, "lonely", shape, &[], how, &Abort::new()).unwrap_err();
        assert!(matches!(e, LaunchError::TimedOut { .. }), "{e}");
        let abort = Abort::new();
        thread::scope(|s| {
            let h = s.spawn(|| launch(d, "lonely", shape, &[], (true, None), &abort));
            thread::sleep(Duration::from_millis(20));
            abort.set();
            assert_eq!(h.join().unwrap(), Err(LaunchError::Aborted));
        });
        assert_eq!(ring(d, (3, 32, 0), 4), Ok(()));
    }
}
