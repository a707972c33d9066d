//! What a hostile or broken program can do: get an error, and nothing else.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Arg, Device, devices};
use vgpu_soft_gpu::{
    Abort, AddressSpace, Gpu, Jit, LaunchConfig, LaunchError, LaunchOptions, LoadError,
    LoadOptions, Module,
};

const KERNELS: &str = r#"
.version 7.8
.target sm_80
.address_size 64
.const .align 4 .b8 table[8] = {1, 2, 3, 4};
.visible .entry store_at(.param .u64 p, .param .u32 n)
{
	.reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<4>;
	ld.param.u64 %rd1, [p];
	ld.param.u32 %r1, [n];
	mov.u32 %r2, %tid.x;
	mul.wide.u32 %rd2, %r2, 4;
	add.s64 %rd3, %rd1, %rd2;
	setp.ge.u32 %p1, %r2, %r1;
	@%p1 bra done;
	st.global.u32 [%rd3], %r2;
done:
	ret;
}
.visible .entry load_at(.param .u64 p, .param .u64 o)
{
	.reg .b32 %r<4>; .reg .b64 %rd<4>;
	ld.param.u64 %rd1, [p];
	ld.u32 %r1, [%rd1];
	ret;
}
.visible .entry shared_at(.param .u32 a)
{
	.reg .b32 %r<4>;
	.shared .align 4 .b8 s[64];
	ld.param.u32 %r1, [a];
	st.shared.u32 [%r1], %r1;
	ret;
}
.visible .entry local_at(.param .u64 a)
{
	.reg .b32 %r<4>; .reg .b64 %rd<4>;
	.local .align 4 .b8 l[16];
	ld.param.u64 %rd1, [a];
	mov.u64 %rd2, l;
	add.s64 %rd2, %rd2, %rd1;
	mov.u32 %r1, %tid.x;
	st.local.u32 [%rd2], %r1;
	ret;
}
.visible .entry atomic_at(.param .u64 a)
{
	.reg .b32 %r<4>; .reg .b64 %rd<4>;
	ld.param.u64 %rd1, [a];
	atom.global.add.u32 %r1, [%rd1], 1;
	ret;
}
.visible .entry endless()
{
	loop:
	bra loop;
}
.visible .entry endless_divergent()
{
	.reg .pred %p<2>; .reg .b32 %r<4>;
	mov.u32 %r1, %tid.x;
loop:
	setp.eq.u32 %p1, %r1, 99;
	@%p1 bra out;
	bra loop;
out:
	ret;
}
.visible .entry deadlock()
{
	.reg .pred %p<2>; .reg .b32 %r<4>;
	mov.u32 %r1, %tid.x;
	setp.lt.u32 %p1, %r1, 32;
	@%p1 bra one;
	bar.sync 1, 128;
	ret;
one:
	bar.sync 2, 128;
	ret;
}
.visible .entry stop_here()
{
	.reg .pred %p<2>; .reg .b32 %r<4>;
	mov.u32 %r1, %tid.x;
	setp.eq.u32 %p1, %r1, 37;
	@%p1 trap;
	ret;
}
.func deeper(.param .b32 n)
{
	.reg .b32 %r<4>;
	ld.param.u32 %r1, [n];
	add.s32 %r1, %r1, 1;
	{
	.param .b32 a0;
	st.param.b32 [a0], %r1;
	call.uni deeper, (a0);
	}
	ret;
}
.visible .entry bottomless()
{
	.reg .b32 %r<2>;
	mov.u32 %r1, 0;
	{
	.param .b32 a0;
	st.param.b32 [a0], %r1;
	call.uni deeper, (a0);
	}
	ret;
}
.visible .entry call_anything(.param .u64 a)
{
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [a];
	{
	.param .b32 a0;
	proto : .callprototype _ (.param .b32 _);
	call %rd1, (a0), proto;
	}
	ret;
}
.visible .entry unsupported_one(.param .u64 a)
{
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [a];
	mbarrier.init.shared.b64 [%rd1], 1;
	ret;
}
"#;

fn each(test: impl Fn(&Device)) {
    devices(KERNELS).iter().for_each(test);
}

#[test]
fn a_store_past_the_end_names_thread_and_line() {
    each(|d| {
        let a = d.upload(&[7u32; 40]);
        let b = d.upload(&[9u32; 64]);
        d.launch("store_at", 1, 64, &[Arg::Ptr(a), Arg::U32(40)]);
        assert_eq!(d.download::<u32>(a, 40), (0..40).collect::<Vec<_>>());
        let e = d
            .try_launch(
                "store_at",
                [1; 3],
                [64, 1, 1],
                0,
                &[Arg::Ptr(a), Arg::U32(41)],
            )
            .unwrap_err();
        let LaunchError::IllegalAddress(f) = &e else {
            panic!("{e}")
        };
        assert_eq!(
            (f.thread, f.block, f.address, f.bytes, f.write),
            ([40, 0, 0], [0; 3], a + 160, 4, true)
        );
        assert_eq!(f.line, 16);
        assert!(e.to_string().contains("st.global.u32 [%rd3], %r2;"), "{e}");
        assert!(
            e.to_string().contains("Invalid __global__ write of size 4"),
            "{e}"
        );
        assert_eq!(
            d.download::<u32>(b, 64),
            vec![9; 64],
            "the neighbour is untouched"
        );
    });
}

#[test]
fn wild_and_misaligned_addresses_are_errors() {
    each(|d| {
        let a = d.upload(&[1u32, 2]);
        let o = d.upload(&[0u32; 64]);
        let host = &raw const *d as u64;
        for wild in [
            0,
            4,
            0x1000,
            host,
            a - 4,
            a + 8,
            u64::MAX - 3,
            1 << 63,
            0x0100_0000_0000,
            0x0400_0000_0000,
        ] {
            let e = d
                .try_launch(
                    "load_at",
                    [1; 3],
                    [32, 1, 1],
                    0,
                    &[Arg::Ptr(wild & !3), Arg::Ptr(o)],
                )
                .unwrap_err();
            assert!(
                matches!(&e, LaunchError::IllegalAddress(f) if f.address == wild & !3),
                "{wild:#x}: {e}"
            );
        }
        let e = d
            .try_launch(
                "load_at",
                [1; 3],
                [32, 1, 1],
                0,
                &[Arg::Ptr(a + 2), Arg::Ptr(o)],
            )
            .unwrap_err();
        assert!(matches!(e, LaunchError::MisalignedAddress(_)), "{e}");
        for at in [a + 8, a + 1, 0] {
            assert!(
                d.try_launch("atomic_at", [1; 3], [32, 1, 1], 0, &[Arg::Ptr(at)])
                    .is_err()
            );
        }
        d.launch("atomic_at", 1, 32, &[Arg::Ptr(a)]);
        assert_eq!(d.download::<u32>(a, 2), [33, 2]);
    });
}

#[test]
fn shared_and_local_arrays_end_where_they_end() {
    each(|d| {
        let go = |k: &str, a: Arg| d.try_launch(k, [1; 3], [32, 1, 1], 0, &[a]);
        assert!(go("shared_at", Arg::U32(60)).is_ok());
        assert!(matches!(
            go("shared_at", Arg::U32(64)),
            Err(LaunchError::IllegalAddress(_))
        ));
        assert!(matches!(
            go("shared_at", Arg::U32(62)),
            Err(LaunchError::MisalignedAddress(_))
        ));
        assert!(matches!(
            go("shared_at", Arg::U32(0xffff_fffc)),
            Err(LaunchError::IllegalAddress(_))
        ));
        assert!(go("local_at", Arg::U64(12)).is_ok());
        assert!(matches!(
            go("local_at", Arg::U64(16)),
            Err(LaunchError::IllegalAddress(_))
        ));
        assert!(matches!(
            go("local_at", Arg::U64(1 << 40)),
            Err(LaunchError::IllegalAddress(_))
        ));
    });
}

#[test]
fn an_endless_kernel_ends_when_aborted() {
    each(|d| {
        for k in ["endless", "endless_divergent"] {
            let abort = Abort::new();
            let f = d.module.function(k).unwrap();
            let cfg = LaunchConfig {
                grid: [4, 1, 1],
                block: [64, 1, 1],
                dynamic_shared_bytes: 0,
            };
            thread::scope(|s| {
                let h = s.spawn(|| {
                    let opts = LaunchOptions {
                        reference: d.reference,
                        jit: d.jit,
                        ..LaunchOptions::default()
                    };
                    d.gpu.launch(&d.space, &f, &cfg, &[], &opts, &abort)
                });
                thread::sleep(Duration::from_millis(20));
                abort.set();
                assert_eq!(h.join().unwrap(), Err(LaunchError::Aborted));
            });
        }
        // The device works on.
        let a = d.upload(&[0u32; 32]);
        d.launch("store_at", 1, 32, &[Arg::Ptr(a), Arg::U32(32)]);
    });
}

#[test]
fn traps_deadlocks_and_recursion_are_reported() {
    each(|d| {
        let e = d
            .try_launch("stop_here", [1; 3], [64, 1, 1], 0, &[])
            .unwrap_err();
        assert!(
            matches!(&e, LaunchError::Trap(f) if f.thread == [37, 0, 0]),
            "{e}"
        );
        assert!(
            d.try_launch("stop_here", [1; 3], [32, 1, 1], 0, &[])
                .is_ok()
        );
        let e = d
            .try_launch("deadlock", [1; 3], [64, 1, 1], 0, &[])
            .unwrap_err();
        assert!(matches!(e, LaunchError::Deadlock(_)), "{e}");
        let e = d
            .try_launch("bottomless", [1; 3], [32, 1, 1], 0, &[])
            .unwrap_err();
        assert!(
            matches!(&e, LaunchError::StackOverflow(f) if &*f.function == "deeper"),
            "{e}"
        );
        for a in [0, 1, 0x0400_0000_0000, 0x0400_0000_0008, 0x0400_0010_0000] {
            let e = d
                .try_launch("call_anything", [1; 3], [32, 1, 1], 0, &[Arg::U64(a)])
                .unwrap_err();
            assert!(matches!(e, LaunchError::IllegalInstruction(_)), "{e}");
        }
    });
}

#[test]
fn launch_limits_at_n_and_n_plus_1() {
    each(|d| {
        let a = d.upload(&[0u32; 2048]);
        let go = |grid, block, shared| {
            d.try_launch("store_at", grid, block, shared, &[Arg::Ptr(a), Arg::U32(1)])
        };
        assert!(go([1; 3], [1024, 1, 1], 0).is_ok());
        assert!(matches!(
            go([1; 3], [1025, 1, 1], 0),
            Err(LaunchError::InvalidConfig(_))
        ));
        assert!(matches!(
            go([1; 3], [32, 33, 1], 0),
            Err(LaunchError::InvalidConfig(_))
        ));
        assert!(matches!(
            go([1; 3], [1, 1, 65], 0),
            Err(LaunchError::InvalidConfig(_))
        ));
        assert!(matches!(
            go([0, 1, 1], [32, 1, 1], 0),
            Err(LaunchError::InvalidConfig(_))
        ));
        assert!(matches!(
            go([1, 65_536, 1], [32, 1, 1], 0),
            Err(LaunchError::InvalidConfig(_))
        ));
        assert!(matches!(
            go([1; 3], [0, 1, 1], 0),
            Err(LaunchError::InvalidConfig(_))
        ));
        assert!(go([1; 3], [32, 1, 1], 227 << 10).is_ok());
        assert!(matches!(
            go([1; 3], [32, 1, 1], (227 << 10) + 1),
            Err(LaunchError::OutOfResources(_))
        ));
        assert!(matches!(
            go([1; 3], [32, 1, 1], u32::MAX),
            Err(LaunchError::OutOfResources(_))
        ));
        let f = d.module.function("store_at").unwrap();
        let cfg = LaunchConfig {
            grid: [1; 3],
            block: [32, 1, 1],
            dynamic_shared_bytes: 0,
        };
        let r = d.gpu.launch(
            &d.space,
            &f,
            &cfg,
            &[0; 64],
            &LaunchOptions::default(),
            &Abort::new(),
        );
        assert!(matches!(r, Err(LaunchError::InvalidConfig(_))));
    });
}

#[test]
fn an_unsupported_kernel_does_not_spoil_its_module() {
    each(|d| {
        let f = d.module.function("unsupported_one").unwrap();
        let why = f.unsupported().unwrap();
        for part in [
            "unsupported instruction 'mbarrier.init.shared.b64'",
            "line 127",
            "column",
            "unsupported_one",
        ] {
            assert!(why.contains(part), "{why}");
        }
        let e = d
            .try_launch("unsupported_one", [1; 3], [32, 1, 1], 0, &[Arg::U64(0)])
            .unwrap_err();
        assert!(matches!(e, LaunchError::Unsupported(_)));
        assert_eq!(d.module.function("store_at").unwrap().unsupported(), None);
    });
}

fn load_error(ptx: &str) -> LoadError {
    let space = Arc::new(AddressSpace::new(1 << 20).unwrap());
    match Module::load(ptx.as_bytes(), &LoadOptions::default(), &space) {
        Ok(_) => panic!("loaded: {ptx}"),
        Err(e) => {
            assert_eq!(space.used(), 0, "a failed load keeps no memory");
            e
        }
    }
}

#[test]
fn broken_ptx_is_reported_with_line_and_column() {
    const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";
    let at = |body: &str| match load_error(&format!("{HEAD}{body}")) {
        LoadError::InvalidPtx { log, line, column } => {
            assert!(
                log.starts_with(&format!(
                    "ptxas application ptx input, line {line}; error   : "
                )),
                "{log}"
            );
            assert!(log.contains(&format!("column {column}")), "{log}");
            (line, column)
        }
        e => panic!("{e}"),
    };
    assert_eq!(at(".visible .entry k() {\n  bogus.u32 %r1;\n}"), (5, 3));
    assert_eq!(
        at(".visible .entry k() {\n  .reg .b32 %r<2>;\n  mov.u32 %r1, %r2;\n}"),
        (6, 16)
    );
    assert_eq!(at(".visible .entry k() {\n  bra nowhere;\n}"), (5, 7));
    assert_eq!(at(".visible .entry k() {\n  ret\n}"), (6, 1));
    assert_eq!(at(".visible .entry k() {\n  ret;\n"), (6, 1));
    assert_eq!(at(".visible .entry k(.param .u99 x) {\n ret;\n}"), (4, 26));
    let body = ".visible .entry k() {\n  .reg .b32 %r<2>;\n  add.s32 %r1, %r1;\n  ret;\n}";
    assert_eq!(
        at(body),
        (6, 3),
        "operands of a small module are checked at load"
    );
    assert_eq!(at(".globl x;"), (4, 1));
    assert_eq!(at(".global .b8 x[99999999999999];"), (4, 29));
    assert!(matches!(
        load_error(".version 99.0\n.target sm_80\n"),
        LoadError::UnsupportedPtxVersion { major: 99, .. }
    ));
    assert_eq!(
        load_error(".version 8.0\n.target sm_100\n"),
        LoadError::NoBinaryForGpu
    );
    assert_eq!(load_error("\x7fELF"), LoadError::NoBinaryForGpu);
    assert!(matches!(load_error("hello"), LoadError::InvalidImage(_)));
    let e = load_error(&format!("{HEAD}.extern .global .u32 elsewhere;"));
    assert_eq!(e, LoadError::UnresolvedSymbol("elsewhere".into()));
    let e = load_error(&format!("{HEAD}.global .b8 big[1073741824];"));
    assert!(matches!(e, LoadError::OutOfMemory(_)));
}

/// A small generator of pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % below.max(1)
    }
}

#[test]
fn mutated_programs_never_harm_the_host() {
    let sources = [
        KERNELS,
        include_str!("ptx/sgemm.ptx"),
        include_str!("ptx/kernels.ptx"),
    ];
    let gpu = Gpu::new(2).unwrap();
    let abort = Abort::new();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        // Mutants may loop for ever: keep ending them.
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
                abort.set();
            }
        });
        let mut random = Random(42);
        let mut launched = 0;
        for round in 0..2000 {
            let source = sources[round % sources.len()];
            let mut words: Vec<&str> = source
                .split_inclusive([' ', '\n', '\t', ',', '.'])
                .collect();
            for _ in 0..1 + random.next(2) {
                let (a, b) = (random.next(words.len()), random.next(words.len()));
                match random.next(4) {
                    0 => words[a] = words[b],
                    1 => words.swap(a, b),
                    2 => words[a] = "",
                    _ => {
                        words[a] = [
                            "0 ",
                            "-1 ",
                            "4294967295 ",
                            "u64 ",
                            "s8 ",
                            "%r1, ",
                            "f64 ",
                            "pred ",
                        ][random.next(8)]
                    }
                }
            }
            let space = Arc::new(AddressSpace::new(1 << 24).unwrap());
            let Ok(m) = Module::load(words.concat().as_bytes(), &LoadOptions::default(), &space)
            else {
                continue;
            };
            let a = space.alloc(4096, 256).unwrap();
            for f in m.functions() {
                let params: Vec<u8> = a
                    .to_le_bytes()
                    .into_iter()
                    .cycle()
                    .take(f.param_bytes() as usize)
                    .collect();
                for (reference, jit) in [
                    (false, Jit::Always),
                    (false, Jit::Never),
                    (true, Jit::Never),
                ] {
                    abort.clear();
                    let cfg = LaunchConfig {
                        grid: [2, 1, 1],
                        block: [48, 1, 1],
                        dynamic_shared_bytes: 256,
                    };
                    let r = gpu.launch(
                        &space,
                        f,
                        &cfg,
                        &params,
                        &LaunchOptions {
                            reference,
                            jit,
                            ..LaunchOptions::default()
                        },
                        &abort,
                    );
                    assert!(
                        !matches!(r, Err(LaunchError::Internal(_))),
                        "{r:?}\n{}",
                        words.concat()
                    );
                    launched += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(
            launched > 1000,
            "only {launched} launches: the mutations are too coarse"
        );
    });
}

#[test]
fn freeing_during_a_launch_does_not_crash_the_host() {
    let d = &devices(KERNELS)[0];
    let a = d.upload(&[0u32; 1 << 16]);
    thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..50 {
                let _ = d.try_launch(
                    "store_at",
                    [64, 1, 1],
                    [256, 1, 1],
                    0,
                    &[Arg::Ptr(a), Arg::U32(256)],
                );
            }
        });
        d.space.free(a).unwrap();
    });
}

#[test]
fn what_nothing_defines_is_no_way_out() {
    // `a` has a definition that is one value for the warp, and another one made of a register without any. The
    // load's and the sum's results are of the same kind.
    const TEXT: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
        .visible .entry k(.param .u64 o) {
        .reg .b32 %none, %a, %b, %c, %i; .reg .b64 %q<4>; .reg .pred %p, %pn;
        ld.param.u64 %q0, [o]; mov.u32 %i, 3; mov.u32 %a, 5; mov.u32 %b, 6; mov.u64 %q1, 7;
        L: st.global.v2.u32 [%q0], {%a, %b};
        add.s32 %a, %none, 1;
        mad.wide.s32 %q1, %none, 4, %q1;
        selp.b32 %b, %a, 3, %pn;
        add.s32 %i, %i, -1; setp.gt.s32 %p, %i, 0; @%p bra L;
        add.s64 %q2, %q0, 8; and.b64 %q1, %q1, 0; add.s64 %q2, %q2, %q1;
        st.global.u32 [%q2], 9; @%pn bra E; st.global.u32 [%q2+4], 11; E: ret; }";
    for d in &devices(TEXT) {
        let o = d.upload(&[0u32; 4]);
        d.launch("k", 2, 64, &[Arg::Ptr(o)]);
        let got = d.download::<u32>(o, 4);
        assert_eq!(got[2..], [9, 11], "{got:?}");
    }
}

#[test]
fn offsets_of_more_than_32_bits_count_whole() {
    let far = [
        1i64 << 30,
        (1 << 31) - 8,
        1 << 32,
        -(1 << 32),
        -(1 << 31),
        1 << 45,
        i64::MIN,
    ];
    for offset in far.into_iter().flat_map(|o| [o.wrapping_sub(4), o, o + 4]) {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n
            .visible .entry k(.param .u64 p, .param .u64 o) {{
            .reg .b32 %r<4>, %v<4>; .reg .b64 %q<4>;
            ld.param.u64 %q0, [p]; ld.param.u64 %q1, [o]; mov.u32 %r0, %tid.x;
            ld.global.u32 %r1, [%q0+{offset}]; mad.wide.u32 %q2, %r0, 4, %q0;
            ld.global.u32 %r2, [%q2+{offset}]; st.global.u32 [%q2+{offset}], %r0;
            ld.global.v2.u32 {{%v0, %v1}}, [%q0+{offset}];
            mad.wide.u32 %q3, %r0, 4, %q1; add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %v1;
            st.global.u32 [%q3], %r1; ret; }}"
        );
        for d in &devices(&text) {
            let (a, o) = (d.upload(&[5u32; 32]), d.upload(&[0u32; 32]));
            let p = a.wrapping_sub(offset as u64);
            // What is at the address without its upper half is not the kernel's, and mostly nothing.
            d.launch("k", 1, 32, &[Arg::Ptr(p), Arg::Ptr(o)]);
            assert_eq!(
                d.download::<u32>(a, 32),
                (0..32).collect::<Vec<_>>(),
                "{offset}"
            );
            let got = d.download::<u32>(o, 32);
            assert!(got.iter().all(|v| *v == 11), "{offset}: {got:?}");
        }
    }
}

#[test]
fn a_block_after_one_that_left_the_optimised_code_has_its_own_registers() {
    // In every other block the 32-bit series wraps, and its warps go on in the reference code.
    const TEXT: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
        .visible .entry k(.param .u64 o) {
        .reg .b32 %r<16>; .reg .b64 %q<4>; .reg .f32 %f<5>; .reg .pred %p;
        ld.param.u64 %q0, [o]; mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x;
        and.b32 %r3, %r1, 1; setp.eq.u32 %p, %r3, 0; selp.b32 %r4, -16, 0, %p;
        mad.lo.u32 %r5, %r0, 4, %r4; mul.wide.u32 %q1, %r5, 1; cvt.u32.u64 %r6, %q1;
        mov.b32 %r7, 0x3c003c00; mov.f32 %f0, 0f3F800000; cvt.rn.f32.u32 %f4, %r6;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r7, %r7, %r7, %r7}, {%r7, %r7}, {%f0, %f0, %f0, %f0};
        mad.lo.u32 %r8, %r1, %r2, %r0; mad.wide.u32 %q2, %r8, 16, %q0;
        st.global.v4.f32 [%q2], {%f0, %f1, %f2, %f4}; ret; }";
    for d in &devices(TEXT) {
        let o = d.upload(&vec![0f32; 16 * 64 * 4]);
        let stats = d.launch("k", 16, 64, &[Arg::Ptr(o)]);
        assert_eq!(stats.deopts > 0, !d.reference);
        let want: Vec<f32> = (0..16u32)
            .flat_map(|b| (0..64u32).map(move |t| (4 * t).wrapping_sub(16 * (1 - b % 2))))
            .flat_map(|v| [17.0, 17.0, 17.0, v as f32])
            .collect();
        assert_eq!(d.download::<f32>(o, want.len()), want);
    }
}
