//! The limit on the time of a launch.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::time::Duration;

use common::{Device, devices};
use std::sync::Arc;
use vgpu_soft_gpu::{Abort, Function, LaunchConfig, LaunchError, LaunchOptions};

/// A launch that would not end by itself before the test's end; gives the error.
fn ends(d: &Device, f: &Arc<Function>, grid: [u32; 3], threads: u32, params: &[u8]) -> LaunchError {
    let config = LaunchConfig {
        grid,
        block: [threads, 1, 1],
        dynamic_shared_bytes: 0,
    };
    let limit = Duration::from_millis(20);
    let options = LaunchOptions {
        reference: d.reference,
        jit: d.jit,
        time_limit: Some(limit),
        ..LaunchOptions::default()
    };
    let done = d
        .gpu
        .launch(&d.space, f, &config, params, &options, &Abort::new());
    let kernel = f.name().to_owned();
    let e = done.unwrap_err();
    assert_eq!(e, LaunchError::TimedOut { kernel, limit });
    e
}

#[test]
fn it_ends_every_kind_of_loop() {
    const TEXT: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
        .func f() { ret; }
        .visible .entry plain() { L: bra L; }
        .visible .entry barrier() { L: bar.sync 0; bra L; }
        .visible .entry divergent() { .reg .b32 %r; .reg .pred %p; mov.u32 %r, %tid.x; setp.eq.u32 %p, %r, 3;
        L: @%p bra M; bar.warp.sync -1; bra L; M: bar.warp.sync -1; bra L; }
        .visible .entry calls() { L: call f; bra L; }
        .visible .entry ballots() { .reg .b32 %r; .reg .pred %p; L: vote.sync.ballot.b32 %r, %p, -1; bar.sync 0; bra L; }";
    for d in &devices(TEXT) {
        for f in d.module.functions() {
            for threads in [32, 96] {
                ends(d, f, [2, 1, 1], threads, &[]);
            }
        }
    }
}

/// None of the blocks is long, and there are more than a lifetime has time for.
#[test]
fn it_ends_a_grid_of_short_blocks() {
    const TEXT: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
        .visible .entry nothing() { ret; }
        .visible .entry waits() { bar.sync 0; ret; }";
    for d in &devices(TEXT) {
        for f in d.module.functions() {
            for threads in [1, 64] {
                ends(d, f, [0x7fff_ffff, 65_535, 65_535], threads, &[]);
            }
        }
    }
}

/// No branch goes backward.
#[test]
fn it_ends_recursion_without_end() {
    const TEXT: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
        .func twice(.param .b32 n) { .reg .pred %p; .reg .b32 %r<3>;
        ld.param.b32 %r1, [n]; setp.eq.u32 %p, %r1, 0; @%p ret; sub.u32 %r1, %r1, 1;
        { .param .b32 a; st.param.b32 [a], %r1; call twice, (a); }
        { .param .b32 a; st.param.b32 [a], %r1; call twice, (a); } ret; }
        .visible .entry k() { { .param .b32 a; st.param.b32 [a], 60; call twice, (a); } ret; }";
    for d in &devices(TEXT) {
        let e = ends(d, &d.module.functions()[0], [3, 1, 1], 64, &[]);
        let text = "the launch of 'k' took longer than the limit of 20 ms";
        assert_eq!(e.to_string(), text);
    }
}

/// Each text takes long to read, and a turn has thousands of them.
#[test]
fn it_ends_a_loop_that_prints_long_texts() {
    const TEXT: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
        .extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
        .visible .entry k(.param .u64 p) { .reg .b64 %q; ld.param.u64 %q, [p];
        L: { .param .b64 a; .param .b64 b; .param .b32 r; st.param.b64 [a], %q; st.param.b64 [b], 0;
        call (r), vprintf, (a, b); } bra L; }";
    for d in &devices(TEXT) {
        let p = d.upload(&vec![b'x'; 2 << 20]);
        ends(d, &d.module.functions()[0], [1, 1, 1], 64, &p.to_le_bytes());
    }
}

/// Nothing after a text that was not printed asks for the time.
#[test]
fn it_ends_in_the_middle_of_texts() {
    let print = "{ .param .b64 a; .param .b64 b; .param .b32 r; st.param.b64 [a], %q; st.param.b64 [b], 0;\
        call (r), vprintf, (a, b); }\n";
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n
        .extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
        .visible .entry k(.param .u64 p) {{ .reg .b64 %q; ld.param.u64 %q, [p]; {} ret; }}",
        print.repeat(64)
    );
    for d in &devices(&text) {
        let p = d.upload(&vec![b'x'; 2 << 20]);
        ends(d, &d.module.functions()[0], [1, 1, 1], 32, &p.to_le_bytes());
    }
}
