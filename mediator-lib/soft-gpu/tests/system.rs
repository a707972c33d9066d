//! Device system calls: printf, malloc and free, assert, and the limit of the stack.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::sync::Arc;

use common::{Device, devices};
use vgpu_soft_gpu::runtime::MAX_STACK_BYTES;
use vgpu_soft_gpu::{Abort, DeviceRuntime, LaunchConfig, LaunchError, LaunchOptions};

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n\
    .extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);\n\
    .extern .func (.param .b64 r) malloc (.param .b64 a);\n\
    .extern .func free (.param .b64 a);\n\
    .extern .func __assertfail (.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);\n";

fn run(
    d: &Device,
    runtime: &Arc<DeviceRuntime>,
    grid: u32,
    block: u32,
    params: &[u8],
) -> Result<(), LaunchError> {
    let f = d.module.function("k").unwrap();
    let cfg = LaunchConfig {
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        dynamic_shared_bytes: 0,
    };
    let opts = LaunchOptions {
        reference: d.reference,
        jit: d.jit,
        runtime: Some(runtime.clone()),
        ..LaunchOptions::default()
    };
    let done = d
        .gpu
        .launch(&d.space, &f, &cfg, params, &opts, &Abort::new());
    done.map(|_| ())
}

/// Bytes of a PTX array.
fn text(name: &str, s: &str) -> String {
    let bytes: Vec<String> = s.bytes().chain([0]).map(|b| b.to_string()).collect();
    format!(
        ".global .align 1 .b8 {name}[{}] = {{{}}};\n",
        bytes.len(),
        bytes.join(",")
    )
}

#[test]
fn printf_formats_and_counts_arguments() {
    let ptx = format!(
        "{HEAD}{}{}.visible .entry k(.param .u64 o) {{\n\
         .local .align 8 .b8 buf[32]; .reg .b64 %q<9>; .reg .b32 %r<9>; .reg .pred %p;\n\
         ld.param.u64 %q1, [o]; mov.u32 %r1, %tid.x;\n\
         mov.u64 %q2, buf; cvta.local.u64 %q3, %q2;\n\
         st.local.u32 [%q2], %r1; mov.u64 %q4, word; cvta.global.u64 %q5, %q4; st.local.u64 [%q2+8], %q5;\n\
         st.local.f64 [%q2+16], 0d3FF8000000000000; st.local.u64 [%q2+24], 1234567890123;\n\
         setp.lt.u32 %p, %r1, 2;\n\
         mov.u64 %q6, fmt; cvta.global.u64 %q7, %q6; mov.u32 %r3, 77;\n\
         @!%p bra skip;\n\
         {{ .param .b64 p0; .param .b64 p1; .param .b32 ret;\n\
         st.param.b64 [p0], %q7; st.param.b64 [p1], %q3; call.uni (ret), vprintf, (p0, p1); ld.param.b32 %r3, [ret]; }}\n\
         skip: {{ .param .b64 p0; .param .b64 p1; .param .b32 ret;\n\
         st.param.b64 [p0], 0; st.param.b64 [p1], 0; call.uni (ret), vprintf, (p0, p1); ld.param.b32 %r4, [ret]; }}\n\
         mul.wide.u32 %q8, %r1, 8; add.s64 %q1, %q1, %q8; st.global.v2.u32 [%q1], {{%r3, %r4}}; ret; }}\n",
        text("fmt", "t%02d %s %.2f %lld\n"),
        text("word", "text"),
    );
    for d in devices(&ptx) {
        let o = d.upload(&[0u32; 8]);
        let runtime = Arc::new(DeviceRuntime::default());
        run(&d, &runtime, 1, 4, &o.to_le_bytes()).unwrap();
        let (out, err) = runtime.take_output();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "t00 text 1.50 1234567890123\nt01 text 1.50 1234567890123\n"
        );
        assert!(err.is_empty());
        let minus = u32::MAX;
        assert_eq!(
            d.download::<u32>(o, 8),
            [4, minus, 4, minus, 77, minus, 77, minus]
        );
        assert!(runtime.set_printf_bytes(1).is_err(), "in use");
    }
}

#[test]
fn printf_of_a_bad_string_is_an_illegal_address() {
    let ptx = format!(
        "{HEAD}.visible .entry k() {{ {{ .param .b64 p0; .param .b64 p1; .param .b32 ret;\n\
         st.param.b64 [p0], 64; st.param.b64 [p1], 0; call.uni (ret), vprintf, (p0, p1); }} ret; }}\n"
    );
    for d in devices(&ptx) {
        let e = run(&d, &Arc::default(), 1, 1, &[]).unwrap_err();
        assert!(
            matches!(&e, LaunchError::IllegalAddress(f) if f.address == 64),
            "{e}"
        );
    }
}

const MALLOC: &str = ".visible .entry k(.param .u64 o, .param .u64 n) {\n\
    .reg .b64 %q<9>; .reg .b32 %r<9>;\n\
    ld.param.u64 %q1, [o]; ld.param.u64 %q2, [n]; mov.u32 %r1, %tid.x;\n\
    { .param .b64 p0; .param .b64 ret; st.param.b64 [p0], %q2; call.uni (ret), malloc, (p0); ld.param.b64 %q3, [ret]; }\n\
    mul.wide.u32 %q4, %r1, 8; add.s64 %q5, %q1, %q4; st.global.u64 [%q5], %q3; ret; }\n";

#[test]
fn malloc_gives_blocks_apart_until_the_heap_is_used_up() {
    for d in devices(&format!("{HEAD}{MALLOC}")) {
        assert!(d.module.uses_heap());
        let runtime = Arc::new(DeviceRuntime::default());
        runtime.set_heap_bytes(64 * 40, 1 << 20).unwrap();
        runtime.create_heap(&d.space).unwrap();
        let o = d.upload(&[1u64; 64]);
        let params = [o.to_le_bytes(), 40u64.to_le_bytes()].concat();
        run(&d, &runtime, 1, 64, &params).unwrap();
        let mut got = d.download::<u64>(o, 64);
        got.sort_unstable();
        let room = 64 * 40 / 48;
        let none = 64 - room;
        assert!(got[..none].iter().all(|&a| a == 0));
        let blocks = &got[none..];
        assert!(blocks.iter().all(|a| a.is_multiple_of(16) && *a != 0));
        assert!(blocks.windows(2).all(|w| w[1] - w[0] >= 48));
    }
}

#[test]
fn free_of_what_malloc_did_not_give_ends_the_launch() {
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 o) {{ .reg .b64 %q;\n\
         ld.param.u64 %q, [o]; {{ .param .b64 p0; st.param.b64 [p0], %q; call.uni free, (p0); }} ret; }}\n"
    );
    for d in devices(&ptx) {
        let runtime = Arc::new(DeviceRuntime::default());
        runtime.create_heap(&d.space).unwrap();
        run(&d, &runtime, 1, 1, &0u64.to_le_bytes()).unwrap();
        let e = run(&d, &runtime, 1, 1, &4096u64.to_le_bytes()).unwrap_err();
        assert!(matches!(e, LaunchError::IllegalAddress(_)), "{e}");
    }
}

#[test]
fn a_failed_assertion_prints_each_lane_and_ends_the_launch() {
    let ptx = format!(
        "{HEAD}{}{}{}.visible .entry k() {{\n\
         .reg .pred %p; .reg .b32 %r<9>; .reg .b64 %q<9>;\n\
         mov.u32 %r1, %tid.x; setp.lt.u32 %p, %r1, 3; @%p bra ok;\n\
         mov.u64 %q1, msg; cvta.global.u64 %q1, %q1; mov.u64 %q2, file; cvta.global.u64 %q2, %q2; mov.u64 %q3, func; cvta.global.u64 %q3, %q3;\n\
         {{ .param .b64 p0; .param .b64 p1; .param .b32 p2; .param .b64 p3; .param .b64 p4;\n\
         st.param.b64 [p0], %q1; st.param.b64 [p1], %q2; st.param.b32 [p2], 19; st.param.b64 [p3], %q3; st.param.b64 [p4], 1;\n\
         call.uni __assertfail, (p0, p1, p2, p3, p4); }}\n\
         ok: ret; }}\n",
        text("msg", "x > 1"),
        text("file", "test.cu"),
        text("func", "void k()"),
    );
    for d in devices(&ptx) {
        let runtime = Arc::new(DeviceRuntime::default());
        let e = run(&d, &runtime, 1, 5, &[]).unwrap_err();
        assert!(matches!(e, LaunchError::Assert(_)), "{e}");
        let (out, err) = runtime.take_output();
        assert!(out.is_empty());
        assert_eq!(
            String::from_utf8(err).unwrap(),
            "test.cu:19: void k(): block: [0,0,0], thread: [3,0,0] Assertion `x > 1` failed.\n\
             test.cu:19: void k(): block: [0,0,0], thread: [4,0,0] Assertion `x > 1` failed.\n"
        );
    }
}

#[test]
fn recursion_is_bounded_by_the_stack_limit() {
    // 32 bytes of local memory and 16 for the call.
    let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n\
        .func (.param .b32 r) down(.param .b32 n) {\n\
        .local .align 16 .b8 mem[32]; .reg .pred %p; .reg .b32 %r<9>;\n\
        ld.param.b32 %r1, [n]; mov.u32 %r3, 0; setp.eq.u32 %p, %r1, 0; @%p bra end;\n\
        st.local.u32 [mem], %r1; sub.u32 %r2, %r1, 1;\n\
        { .param .b32 a; .param .b32 b; st.param.b32 [a], %r2; call (b), down, (a); ld.param.b32 %r3, [b]; }\n\
        ld.local.u32 %r4, [mem]; add.u32 %r3, %r3, %r4;\n\
        end: st.param.b32 [r], %r3; ret; }\n\
        .visible .entry k(.param .u64 o, .param .u32 n) { .reg .b64 %q; .reg .b32 %r<9>;\n\
        ld.param.u64 %q, [o]; ld.param.u32 %r1, [n];\n\
        { .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; call (b), down, (a); ld.param.b32 %r2, [b]; }\n\
        st.global.u32 [%q], %r2; ret; }\n";
    for d in devices(ptx) {
        let o = d.upload(&[0u32]);
        let go = |runtime: &Arc<DeviceRuntime>, n: u32| {
            let params = [&o.to_le_bytes()[..], &n.to_le_bytes()].concat();
            run(&d, runtime, 1, 32, &params).map(|()| d.download::<u32>(o, 1)[0])
        };
        let runtime = Arc::new(DeviceRuntime::default());
        // One frame beyond those that the stack holds: the function's own is counted apart.
        let most = 1024 / 48;
        assert_eq!(go(&runtime, most), Ok(most * (most + 1) / 2));
        let e = go(&runtime, most + 1).unwrap_err();
        assert!(matches!(e, LaunchError::StackOverflow(_)), "{e}");
        runtime.set_stack_bytes(64 << 10).unwrap();
        assert_eq!(go(&runtime, 1000), Ok(500_500));
    }
}

#[test]
fn warps_share_what_a_block_may_have_of_registers() {
    // Frames so large, and a stack so deep, that all warps together reach the bound; it is not a multiple of ten.
    const VALUES: usize = 48;
    let each = |line: &dyn Fn(usize) -> String| (0..VALUES).map(line).collect::<String>();
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
        .func (.param .b32 r) down(.param .b32 n, .param .b64 m) {{\n\
        .reg .pred %p; .reg .b32 %r<9>, %v<{VALUES}>; .reg .b64 %m;\n\
        ld.param.b32 %r1, [n]; ld.param.b64 %m, [m]; mov.u32 %r3, 0; setp.eq.u32 %p, %r1, 0; @%p bra end;\n\
        {}sub.u32 %r2, %r1, 1;\n\
        {{ .param .b32 a; .param .b64 b; .param .b32 c; st.param.b32 [a], %r2; st.param.b64 [b], %m;\n\
        call (c), down, (a, b); ld.param.b32 %r3, [c]; }}\n\
        {}end: st.param.b32 [r], %r3; ret; }}\n\
        .visible .entry k(.param .u64 o, .param .u64 m, .param .u32 n) {{ .reg .b64 %q, %m; .reg .b32 %r<9>;\n\
        ld.param.u64 %q, [o]; ld.param.u64 %m, [m]; ld.param.u32 %r1, [n];\n\
        {{ .param .b32 a; .param .b64 b; .param .b32 c; st.param.b32 [a], %r1; st.param.b64 [b], %m;\n\
        call (c), down, (a, b); ld.param.b32 %r2, [c]; }}\n\
        mov.u32 %r3, %tid.x; mad.wide.u32 %q, %r3, 4, %q; st.global.u32 [%q], %r2; ret; }}\n",
        each(&|k| format!("ld.volatile.global.u32 %v{k}, [%m+{}];\n", 4 * k)),
        each(&|k| format!("add.u32 %r3, %r3, %v{k};\n")),
    );
    const THREADS: usize = 320;
    for d in devices(&ptx) {
        let o = d.upload(&[0u32; THREADS]);
        let m = d.upload(&[1u32; VALUES]);
        let runtime = Arc::new(DeviceRuntime::default());
        runtime.set_stack_bytes(MAX_STACK_BYTES).unwrap();
        let params = [&o.to_le_bytes()[..], &m.to_le_bytes(), &5u32.to_le_bytes()].concat();
        run(&d, &runtime, 1, THREADS as u32, &params).unwrap();
        assert_eq!(d.download::<u32>(o, THREADS), [5 * VALUES as u32; THREADS]);
    }
}
