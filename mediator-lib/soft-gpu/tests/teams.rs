//! Warps of a block that wait for each other at its barrier, whichever way they came there: machine code changes
//! from one to the next by itself.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, Device, devices};
use vgpu_soft_gpu::{LaunchError, LaunchStats};

const BLOCKS: u32 = 5;

/// A kernel in which `body` leaves in `%d` what thread `%t`, lane `%l` of warp `%w` stores. `%at` is the address of
/// its word in shared memory, `%other` that of the thread 33 further on, `%n` the number of threads.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 o) {{\n\
         .reg .pred %p<9>; .reg .b32 %r<20>, %t, %l, %w, %d, %n, %at, %other; .reg .b64 %q<9>, %o;\n\
         .shared .align 8 .b8 mem[4096];\n\
         ld.param.u64 %o, [o]; mov.u32 %t, %tid.x; and.b32 %l, %t, 31; shr.u32 %w, %t, 5; mov.u32 %d, 0;\n\
         mov.u32 %n, %ntid.x; mov.u32 %r0, mem; mad.lo.u32 %at, %t, 4, %r0;\n\
         add.u32 %r1, %t, 33; rem.u32 %r1, %r1, %n; mad.lo.u32 %other, %r1, 4, %r0;\n\
         mov.u32 %r18, %ctaid.x; mad.lo.u32 %r19, %r18, %n, %t; mad.wide.u32 %o, %r19, 4, %o;\n\
         {body}\n\
         store: st.global.u32 [%o], %d;\nend: ret; }}\n"
    )
}

fn launch(d: &Device, block: u32, o: u64) -> Result<LaunchStats, LaunchError> {
    d.try_launch("k", [BLOCKS, 1, 1], [block, 1, 1], 0, &[Arg::Ptr(o)])
}

/// That each thread of each block has stored `want` of its number, in every form of execution.
fn check(body: &str, block: u32, want: impl Fn(u32) -> u32) {
    check_all(body, block, |i| want(i % block));
}

/// The same of its number in the grid.
fn check_all(body: &str, block: u32, want: impl Fn(u32) -> u32) {
    let all: Vec<u32> = (0..BLOCKS * block).map(want).collect();
    for (form, d) in devices(&kernel(body)).iter().enumerate() {
        let o = d.upload(&vec![0xdead_u32; all.len()]);
        // The second launch finds what the first has left behind.
        for _ in 0..2 {
            launch(d, block, o).unwrap_or_else(|e| panic!("form {form}: {e}\n{body}"));
            let got = d.download::<u32>(o, all.len());
            assert_eq!(got, all, "form {form}, blocks of {block}\n{body}");
        }
    }
}

#[test]
fn a_loop_around_barriers() {
    let body = "mov.u32 %r2, 0; mov.u32 %r3, %t;\n\
        again: st.shared.u32 [%at], %r3; bar.sync 0; ld.shared.u32 %r4, [%other]; bar.sync 0;\n\
        mad.lo.u32 %r3, %r4, 3, %t; add.u32 %r2, %r2, 1; setp.lt.u32 %p1, %r2, 20; @%p1 bra again;\n\
        mov.u32 %d, %r3;";
    for block in [32, 40, 64, 144, 1024] {
        let mut v: Vec<u32> = (0..block).collect();
        for _ in 0..20 {
            let next = |t: u32| {
                v[((t + 33) % block) as usize]
                    .wrapping_mul(3)
                    .wrapping_add(t)
            };
            v = (0..block).map(next).collect();
        }
        check(body, block, |t| v[t as usize]);
    }
}

#[test]
fn warps_that_end_earlier_are_not_waited_for() {
    // Warp w ends after w + 1 rounds, the last of the block first, or in the middle.
    for (name, rounds) in [
        ("%w, 1", [1, 2, 3, 4]),
        ("4, %w", [4, 3, 2, 1]),
        ("%r16, 1", [1, 3, 1, 3]),
    ] {
        let op = if name.starts_with('4') { "sub" } else { "add" };
        let body = format!(
            "and.b32 %r16, %w, 1; shl.b32 %r16, %r16, 1; {op}.u32 %r17, {name}; mov.u32 %r2, 0;\n\
             st.shared.u32 [%at], 0; bar.sync 0;\n\
             again: add.u32 %r2, %r2, 1; st.shared.u32 [%at], %r2; bar.sync 0;\n\
             ld.shared.u32 %r4, [%other]; add.u32 %d, %d, %r4; bar.sync 0;\n\
             setp.lt.u32 %p1, %r2, %r17; @%p1 bra again;"
        );
        let want = |t: u32| {
            let (own, other) = (
                rounds[(t / 32) as usize],
                rounds[((t + 33) % 128 / 32) as usize],
            );
            (1..=own).map(|r: u32| r.min(other)).sum()
        };
        check(&body, 128, want);
    }
}

#[test]
fn warps_wait_at_different_places() {
    let side = |k: u32| {
        format!(
            "add.u32 %r2, %t, {k}; st.shared.u32 [%at], %r2; bar.sync 0; ld.shared.u32 %r4, [%other];\n\
             bar.sync 0; add.u32 %d, %r4, {k}; bra store;\n"
        )
    };
    let body = format!(
        "and.b32 %r3, %w, 1; setp.eq.u32 %p1, %r3, 0; @%p1 bra even;\n{}even:\n{}",
        side(1000),
        side(7)
    );
    let k = |t: u32| if (t / 32).is_multiple_of(2) { 7 } else { 1000 };
    for block in [64, 96, 200] {
        check(&body, block, |t| {
            let other = (t + 33) % block;
            other + k(other) + k(t)
        });
    }
}

#[test]
fn lanes_part_between_barriers() {
    // Every third lane goes round a loop as often as its number says, some take a nested branch.
    let body = "mov.u32 %r2, 0; mov.u32 %r3, %t; rem.u32 %r5, %t, 3; setp.eq.u32 %p2, %r5, 0;\n\
        again: @!%p2 bra after; mov.u32 %r6, %l;\n\
        inner: setp.eq.u32 %p3, %r6, 0; @%p3 bra after; sub.u32 %r6, %r6, 1; add.u32 %r3, %r3, 5;\n\
        setp.lt.u32 %p4, %r6, 9; @%p4 bra few; bra inner; few: add.u32 %r3, %r3, 100; bra inner;\n\
        after: st.shared.u32 [%at], %r3; bar.sync 0; ld.shared.u32 %r4, [%other]; bar.sync 0;\n\
        add.u32 %r3, %r3, %r4; add.u32 %r2, %r2, 1; setp.lt.u32 %p1, %r2, 6; @%p1 bra again;\n\
        mov.u32 %d, %r3;";
    for block in [32, 72, 160] {
        let mut v: Vec<u32> = (0..block).collect();
        for _ in 0..6 {
            for t in (0..block).filter(|t| t.is_multiple_of(3)) {
                let l = t % 32;
                v[t as usize] = v[t as usize].wrapping_add(5 * l + 100 * l.min(9));
            }
            let sum = |t: u32| v[t as usize].wrapping_add(v[((t + 33) % block) as usize]);
            v = (0..block).map(sum).collect();
        }
        check(body, block, |t| v[t as usize]);
    }
}

#[test]
fn lanes_that_have_ended_are_not_waited_for() {
    for exit in ["exit", "ret"] {
        let body = format!(
            "st.shared.u32 [%at], 0; mov.u32 %d, 5; st.global.u32 [%o], %d; bar.sync 0;\n\
             and.b32 %r2, %t, 5; setp.eq.u32 %p1, %r2, 4; @%p1 {exit};\n\
             st.shared.u32 [%at], %t; bar.sync 0; ld.shared.u32 %d, [%other]; bar.sync 0; add.u32 %d, %d, 10;"
        );
        let ended = |t: u32| t & 5 == 4;
        for block in [32, 64, 100] {
            let other = |t: u32| (t + 33) % block;
            check(&body, block, |t| match (ended(t), ended(other(t))) {
                (true, _) => 5,
                (_, true) => 10,
                _ => other(t) + 10,
            });
        }
    }
}

#[test]
fn a_warp_waits_for_another_one_s_memory() {
    // Without a barrier in between: the first warp must let the last go on.
    let body = "mov.u32 %r0, mem; mov.u32 %r2, 0; st.shared.u32 [%at], 0; bar.sync 0;\n\
        shl.b32 %r5, %n, 2; add.u32 %r5, %r5, %r0; sub.u32 %r5, %r5, 4;\n\
        setp.ge.u32 %p1, %t, 32; @%p1 bra set;\n\
        spin: ld.volatile.shared.u32 %r3, [%r5]; setp.eq.u32 %p2, %r3, 0; @%p2 bra spin; mov.u32 %d, %r3; bra both;\n\
        set: add.u32 %r3, %t, 1; st.volatile.shared.u32 [%at], %r3; mov.u32 %d, 3;\n\
        both: bar.sync 0;";
    for block in [64, 128] {
        check(body, block, |t| if t < 32 { block } else { 3 });
    }
}

#[test]
fn one_warp_of_one_block_ends_another_way() {
    // In blocks before and after it all end in the code, without a barrier.
    for warp in [0, 1, 3] {
        let body = format!(
            "setp.eq.u32 %p1, %r18, 2; setp.eq.and.u32 %p1, %w, {warp}, %p1; setp.gt.u32 %p2, %l, 20;\n\
             mov.u32 %d, %t; @%p2 add.u32 %d, %d, 500; @!%p1 bra store;\n\
             mov.u32 %d, 77; st.global.u32 [%o], %d; exit;"
        );
        check_all(&body, 128, |i| match (i / 128, i % 128) {
            (2, t) if t / 32 == warp => 77,
            (_, t) => t + if t % 32 > 20 { 500 } else { 0 },
        });
    }
}

#[test]
fn a_fault_behind_a_barrier_is_that_of_its_thread() {
    let body = "mov.u32 %r2, 0;\n\
        again: st.shared.u32 [%at], %t; bar.sync 0; add.u32 %r2, %r2, 1; setp.lt.u32 %p1, %r2, 3; @%p1 bra again;\n\
        setp.eq.u32 %p2, %t, 70; selp.b32 %r3, 0x100000, 0, %p2; add.u32 %r3, %r3, %at; st.shared.u32 [%r3], %t;\n\
        bar.sync 0; mov.u32 %d, %t;";
    for d in devices(&kernel(body)) {
        let o = d.upload(&[0u32; 1024]);
        let e = d
            .try_launch("k", [1; 3], [128, 1, 1], 0, &[Arg::Ptr(o)])
            .unwrap_err();
        let LaunchError::IllegalAddress(f) = &e else {
            panic!("{e}")
        };
        assert_eq!((f.thread, f.block, f.space), ([70, 0, 0], [0; 3], "shared"));
        assert_eq!(
            d.download::<u32>(o, 128),
            [0; 128],
            "nobody is behind the barrier"
        );
        // The device works on.
        d.try_launch("k", [1; 3], [64, 1, 1], 0, &[Arg::Ptr(o)])
            .unwrap();
        assert_eq!(d.download::<u32>(o, 64), (0..64).collect::<Vec<_>>());
    }
}
