//! Lanes of a warp that wait for each other: independent thread scheduling, operations of named lanes,
//! barriers that threads reach on different paths.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, devices};

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

/// Runs `body` with `%t` the thread's index and `%l` its lane, which leaves its result in `%d`.
fn run(before: &str, body: &str, grid: u32, block: u32) -> Vec<u32> {
    let ptx = format!(
        "{HEAD}{before}.visible .entry k(.param .u64 o, .param .u64 m) {{\n\
         .reg .pred %p<9>; .reg .b32 %r<20>, %t, %l, %d; .reg .b64 %q<9>, %o, %m;\n\
         .shared .align 8 .b8 mem[4096];\n\
         ld.param.u64 %o, [o]; ld.param.u64 %m, [m];\n\
         mov.u32 %t, %tid.x; mov.u32 %l, %laneid; mov.u32 %d, 0;\n\
         {body}\n\
         store: mov.u32 %r18, %ctaid.x; mov.u32 %r19, %ntid.x; mad.lo.u32 %r19, %r18, %r19, %t;\n\
         mul.wide.u32 %q8, %r19, 4; add.s64 %q8, %q8, %o; st.global.u32 [%q8], %d;\n\
         end: ret; }}\n"
    );
    let n = (grid * block) as usize;
    let mut results: Vec<Vec<u32>> = Vec::new();
    for d in devices(&ptx) {
        let o = d.upload(&vec![0u32; n]);
        let m = d.upload(&vec![0u32; 1024]);
        d.launch("k", grid, block, &[Arg::Ptr(o), Arg::Ptr(m)]);
        results.push(d.download(o, n));
    }
    assert!(results.windows(2).all(|w| w[0] == w[1]), "{body}");
    results.swap_remove(0)
}

#[test]
fn a_warp_barrier_on_both_sides_of_a_branch() {
    // Each half writes, both wait for all, each reads what the other has written.
    let half = |other: u32| {
        format!(
            "st.volatile.shared.u32 [%r1], %t; bar.warp.sync 0xffffffff;\n\
             xor.b32 %r2, %r1, 64; ld.volatile.shared.u32 %d, [%r2]; add.u32 %d, %d, {other};\n"
        )
    };
    let body = format!(
        "mov.u32 %r0, mem; mad.lo.u32 %r1, %t, 4, %r0; setp.lt.u32 %p1, %l, 16;\n\
         @%p1 bra low;\n{}bra store;\nlow:\n{}",
        half(100),
        half(200)
    );
    let want: Vec<u32> = (0..64)
        .map(|t| (t ^ 16) + if t % 32 < 16 { 200 } else { 100 })
        .collect();
    assert_eq!(run("", &body, 1, 64), want);
}

#[test]
fn lanes_exchange_at_different_places() {
    let side = |k: u32| {
        format!(
            "add.u32 %r1, %t, {k}; shfl.sync.bfly.b32 %r2|%p2, %r1, 1, 31, 0xffffffff;\n\
             vote.sync.ballot.b32 %r3, %p1, 0xffffffff; redux.sync.add.u32 %r4, %l, 0xffffffff;\n\
             match.any.sync.b32 %r5, %l, 0xffffffff;\n\
             add.u32 %d, %r2, %r4; xor.b32 %r6, %r3, 0x55555555; add.u32 %d, %d, %r6; sub.u32 %d, %d, %r5;\n"
        )
    };
    let body = format!(
        "and.b32 %r0, %l, 1; setp.eq.u32 %p1, %r0, 0; @%p1 bra even;\n{}bra store;\neven:\n{}",
        side(1000),
        side(2000)
    );
    let want: Vec<u32> = (0..32u32)
        .map(|t| {
            let other = (t ^ 1) + if t % 2 == 0 { 1000 } else { 2000 };
            // Lanes with an even number vote; the sum of all numbers; each matches itself alone.
            (other + 496).wrapping_sub(1 << t)
        })
        .collect();
    assert_eq!(run("", &body, 1, 32), want);
}

#[test]
fn lanes_that_name_different_members_are_apart() {
    let body = "mov.u32 %r0, 0x0000ffff; mov.u32 %r1, 0xffff0000; setp.lt.u32 %p1, %l, 16; selp.b32 %r2, %r0, %r1, %p1;\n\
        and.b32 %r3, %l, 3; setp.eq.u32 %p2, %r3, 0;\n\
        vote.sync.ballot.b32 %r4, %p2, %r2; redux.sync.max.u32 %r5, %l, %r2; match.all.sync.b32 %r6|%p3, %r2, %r2;\n\
        elect.sync %r7|%p4, %r2; selp.b32 %r8, 1, 0, %p4; vote.sync.all.pred %p5, %p1, %r2; selp.b32 %r9, 64, 0, %p5;\n\
        add.u32 %d, %r5, %r8; add.u32 %d, %d, %r9; xor.b32 %d, %d, %r4; xor.b32 %d, %d, %r6;\n";
    let want: Vec<u32> = (0..32u32)
        .map(|l| {
            let (set, ballot) = if l < 16 {
                (0xffff, 0x1111)
            } else {
                (0xffff_0000, 0x1111_0000)
            };
            let max = if l < 16 { 15 } else { 31 };
            let leader = u32::from(l % 16 == 0);
            let all = if l < 16 { 64 } else { 0 };
            (max + leader + all) ^ ballot ^ set
        })
        .collect();
    assert_eq!(run("", body, 1, 32), want);
}

#[test]
fn a_spin_lock_between_lanes_inside_a_function() {
    // Each thread takes the lock, adds to a counter without atomics, and gives the lock back.
    let function = ".func lock(.param .b64 m) { .reg .pred %p; .reg .b32 %r; .reg .b64 %q;\n\
        ld.param.b64 %q, [m]; again: atom.global.cas.b32 %r, [%q], 0, 1; setp.ne.u32 %p, %r, 0; @%p bra again; ret; }\n";
    let body = "{ .param .b64 a; st.param.b64 [a], %m; call lock, (a); }\n\
        ld.volatile.global.u32 %d, [%m+4]; add.u32 %r1, %d, 1; st.volatile.global.u32 [%m+4], %r1;\n\
        membar.gl; atom.global.exch.b32 %r2, [%m], 0;\n";
    let mut got = run(function, body, 1, 96);
    got.sort_unstable();
    assert_eq!(got, (0..96).collect::<Vec<u32>>());
}

#[test]
fn lanes_wait_for_a_flag_of_another_lane() {
    // Lane n waits until lane n + 1 has set its flag: against the order of the lanes.
    let body = "mul.wide.u32 %q1, %l, 4; add.s64 %q1, %q1, %m; setp.eq.u32 %p1, %l, 31; @%p1 bra set;\n\
        wait: ld.volatile.global.u32 %d, [%q1+4]; setp.eq.u32 %p2, %d, 0; @%p2 bra wait;\n\
        set: add.u32 %d, %d, 1; st.volatile.global.u32 [%q1], %d;\n";
    let want: Vec<u32> = (0..32).map(|l| 32 - l).collect();
    assert_eq!(run("", body, 1, 32), want);
}

#[test]
fn a_barrier_reached_on_different_paths() {
    // Both sides wait at the same barrier of the block; a third part of the warp has ended.
    let body = "mov.u32 %r0, mem; mad.lo.u32 %r1, %t, 4, %r0; and.b32 %r2, %l, 3;\n\
        setp.eq.u32 %p1, %r2, 3; @%p1 bra store; setp.eq.u32 %p2, %r2, 0; @%p2 bra zero;\n\
        st.shared.u32 [%r1], %t; bar.sync 0; ld.shared.u32 %d, [mem]; add.u32 %d, %d, 10; bra store;\n\
        zero: mov.u32 %r3, 7; st.shared.u32 [%r1], %r3; bar.sync 0; ld.shared.u32 %d, [%r1+4];\n";
    let want: Vec<u32> = (0..128)
        .map(|t: u32| match t % 4 {
            0 => t + 1,
            3 => 0,
            _ => 17,
        })
        .collect();
    assert_eq!(run("", body, 2, 128), [&want[..], &want[..]].concat());
}

#[test]
fn barriers_with_counts_of_groups_of_a_block() {
    // Warps 0 and 1 use barrier 1, warps 2 and 3 barrier 2; then a reduction over all threads.
    let body = "shr.u32 %r0, %t, 6; add.u32 %r1, %r0, 1; mov.u32 %r2, mem; mad.lo.u32 %r3, %t, 4, %r2;\n\
        st.shared.u32 [%r3], %t; barrier.sync %r1, 64; xor.b32 %r4, %t, 32; mad.lo.u32 %r5, %r4, 4, %r2;\n\
        ld.shared.u32 %d, [%r5]; setp.lt.u32 %p1, %t, 100; barrier.red.popc.u32 %r6, 0, %p1; add.u32 %d, %d, %r6;\n";
    let want: Vec<u32> = (0..128).map(|t: u32| (t ^ 32) + 100).collect();
    assert_eq!(run("", body, 1, 128), want);
}

#[test]
fn lanes_that_have_ended_are_not_waited_for() {
    let body = "setp.ge.u32 %p1, %t, 40; @%p1 bra end;\n\
        shfl.sync.down.b32 %r1|%p2, %t, 1, 31, 0xffffffff; bar.warp.sync 0xffffffff; bar.sync 0;\n\
        vote.sync.ballot.b32 %r2, 1, 0xffffffff; add.u32 %d, %r2, 0;\n";
    let got = run("", body, 1, 64);
    let want: Vec<u32> = (0..64)
        .map(|t| match t {
            0..32 => u32::MAX,
            32..40 => 0xff,
            _ => 0,
        })
        .collect();
    assert_eq!(got, want);
}

#[test]
fn calls_of_different_functions_that_meet_at_a_warp_barrier() {
    // Function pointers differ between lanes; both functions wait for all lanes of the warp.
    let function = |name: &str, k: u32| {
        format!(
            ".func (.param .b32 r) {name}(.param .b32 a) {{ .reg .b32 %r<5>; .reg .pred %p;\n\
             ld.param.b32 %r1, [a]; add.u32 %r1, %r1, {k}; bar.warp.sync 0xffffffff;\n\
             shfl.sync.bfly.b32 %r2|%p, %r1, 16, 31, 0xffffffff; st.param.b32 [r], %r2; ret; }}\n"
        )
    };
    let before = function("one", 100) + &function("two", 200);
    let body = "mov.u64 %q1, one; mov.u64 %q2, two; setp.lt.u32 %p1, %l, 16; selp.b64 %q3, %q1, %q2, %p1;\n\
        proto: .callprototype (.param .b32 _) _ (.param .b32 _);\n\
        { .param .b32 a; .param .b32 b; st.param.b32 [a], %t; call (b), %q3, (a), proto; ld.param.b32 %d, [b]; }\n";
    let want: Vec<u32> = (0..32)
        .map(|t: u32| (t ^ 16) + if t < 16 { 200 } else { 100 })
        .collect();
    assert_eq!(run(&before, body, 1, 32), want);
}

#[test]
fn members_that_never_come_do_not_hold_a_warp_for_ever() {
    // Undefined in PTX; here the lanes that are there go on.
    let body = "setp.ge.u32 %p1, %l, 16; @%p1 bra store;\n\
        vote.sync.ballot.b32 %d, 1, 0xffffffff;\n";
    let got = run("", body, 1, 32);
    assert!(
        got[..16].iter().all(|&d| d == 0xffff || d == u32::MAX),
        "{got:x?}"
    );
}

#[test]
fn a_block_in_which_lanes_part_follows_one_in_which_none_does() {
    // Block 0 goes straight to the end, in block 1 lanes take two ways.
    let body = "mov.u32 %r0, %ctaid.x; mov.u32 %d, 7; setp.eq.u32 %p0, %r0, 0; @%p0 bra store;\n\
                setp.lt.u32 %p1, %l, 5; @%p1 bra low;\n\
                add.u32 %d, %t, 100; bra store;\n\
                low: add.u32 %d, %t, 200;\n";
    let want: Vec<u32> = (0..8 * 96)
        .map(|n| match (n / 96, n % 96) {
            (0, _) => 7,
            (_, t) if t % 32 < 5 => 200 + t,
            (_, t) => 100 + t,
        })
        .collect();
    assert_eq!(run("", body, 8, 96), want);
}

#[test]
fn lanes_of_one_way_keep_their_nans_while_the_others_go_on() {
    let body = "cvt.rn.f32.u32 %r3, %t; add.f32 %d, %r3, %r3; and.b32 %r4, %l, 3; setp.eq.u32 %p1, %r4, 1;\n\
                @%p1 bra low;\n\
                add.u32 %r5, %t, 1; bra store;\n\
                low: or.b32 %d, %t, 0x7fc00100;\n";
    let want: Vec<u32> = (0..64)
        .map(|t| match t % 4 {
            1 => t | 0x7fc0_0100,
            _ => (2.0 * t as f32).to_bits(),
        })
        .collect();
    assert_eq!(run("", body, 1, 64), want);
}
