//! Words that lanes load through one address at several offsets, and loads of what was loaded before: each gives what memory
//! has at that moment.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, Device, devices};

const THREADS: u64 = 96;
/// Words of memory of each thread.
const ROOM: u64 = 16;

/// A kernel in which `%q0` is where a thread's memory begins, as a vector of which nothing is known, `%q1` that of the next
/// thread, `%r0` the thread; it leaves a number in `%r9`.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 places, .param .u64 out) {{\n\
         .reg .pred %p<4>; .reg .b16 %h<4>; .reg .f32 %f<4>; .reg .b32 %r<10>; .reg .b64 %q<9>;\n\
         ld.param.u64 %q7, [places]; ld.param.u64 %q8, [out]; mov.u32 %r0, %tid.x;\n\
         mad.wide.u32 %q7, %r0, 8, %q7; mad.wide.u32 %q8, %r0, 4, %q8;\n\
         ld.global.u64 %q0, [%q7]; ld.global.u64 %q1, [%q7+8]; mov.u32 %r9, 0;\n\
         {body}\n st.global.u32 [%q8], %r9; ret; }}\n"
    )
}

/// The word `k` of a thread's memory, as it is at first.
fn word(thread: u64, k: u64) -> u32 {
    ((thread * ROOM + k) * 0x9e37_79b9 % 0xffff_fff1) as u32
}

/// Each thread's memory in no order, those of odd threads in an allocation of their own if `apart`.
fn places(d: &Device, apart: bool) -> Vec<u64> {
    let n = THREADS + 1;
    let [even, odd] = [0, 1].map(|_| d.upload(&vec![0u32; (n * ROOM) as usize]));
    (0..n)
        .map(|t| {
            let base = if apart && t % 2 == 1 { odd } else { even };
            let at = base + t * 29 % n * ROOM * 4;
            let words: Vec<u8> = (0..ROOM).flat_map(|k| word(t, k).to_le_bytes()).collect();
            d.space.write(at, &words).unwrap();
            at
        })
        .collect()
}

/// Runs a body in every form and compares what each thread leaves.
fn check(body: &str, want: impl Fn(u64) -> u32) {
    for (form, d) in devices(&kernel(body)).iter().enumerate() {
        for apart in [false, true] {
            let places = places(d, apart);
            let (list, out) = (d.upload(&places), d.upload(&vec![0u32; THREADS as usize]));
            // Again, with what the first launch noted.
            for _ in 0..2 {
                for (t, &at) in (0..).zip(&places) {
                    let words: Vec<u8> = (0..ROOM).flat_map(|k| word(t, k).to_le_bytes()).collect();
                    d.space.write(at, &words).unwrap();
                }
                d.launch("k", 1, THREADS as u32, &[Arg::Ptr(list), Arg::Ptr(out)]);
                let got: Vec<u32> = d.download(out, THREADS as usize);
                let want: Vec<u32> = (0..THREADS).map(&want).collect();
                assert_eq!(got, want, "form {form}, apart {apart}:\n{body}");
            }
        }
    }
}

#[test]
fn neighbouring_words_are_those_at_their_offsets() {
    let mix = "mad.lo.u32 %r9, %r9, 31, %r1; mad.lo.u32 %r9, %r9, 31, %r2; mad.lo.u32 %r9, %r9, 31, %r3;\n\
               mad.lo.u32 %r9, %r9, 31, %r4; mad.lo.u32 %r9, %r9, 31, %r5;";
    let load = "ld.global.u32 %r1, [%q0+4]; ld.global.u32 %r2, [%q0+20]; ld.global.u32 %r3, [%q0+24];\n\
                ld.global.u32 %r4, [%q0+8]; ld.global.u32 %r5, [%q0];";
    let mixed = |t: u64| {
        let one = |sum: u32, k| sum.wrapping_mul(31).wrapping_add(word(t, k));
        [1, 5, 6, 2, 0].into_iter().fold(0, one)
    };
    check(&format!("{load}{mix}"), mixed);
    // The lower word comes second, and what it is loaded into is used before.
    check(
        "mov.u32 %r2, 7; ld.global.u32 %r1, [%q0+12]; add.u32 %r9, %r1, %r2; ld.global.u32 %r2, [%q0+8]; add.u32 %r9, %r9, %r2;",
        |t| word(t, 3).wrapping_add(7).wrapping_add(word(t, 2)),
    );
    // Of some lanes; the others keep what they had.
    for (test, some) in [
        ("and.b32 %r8, %r0, 5; setp.ne.u32 %p0, %r8, 0;", 5),
        ("and.b32 %r8, %r0, 31; setp.gt.u32 %p0, %r8, 3;", 28),
    ] {
        let runs = move |t: u64| t & some == 0;
        check(
            &format!("{test} @%p0 bra after; {load}{mix} after:"),
            move |t| if runs(t) { mixed(t) } else { 0 },
        );
        check(
            &format!(
                "mov.u32 %r1, 3; mov.u32 %r2, 5; {test} @%p0 bra after;\n\
                 ld.global.u32 %r1, [%q0+8]; ld.global.u32 %r2, [%q0+12]; after: mad.lo.u32 %r9, %r1, 31, %r2;"
            ),
            move |t| match runs(t) {
                true => word(t, 2).wrapping_mul(31).wrapping_add(word(t, 3)),
                false => 98,
            },
        );
    }
}

#[test]
fn neighbouring_halves_of_words_are_those_at_their_offsets() {
    let load = "ld.global.u16 %r1, [%q0+6]; ld.global.s16 %r2, [%q0+8]; ld.global.u16 %r3, [%q0+12]; ld.global.s16 %r4, [%q0+10];\n\
                ld.global.u16 %r5, [%q0+20]; mad.lo.u32 %r9, %r1, 31, %r2; mad.lo.u32 %r9, %r9, 31, %r3; mad.lo.u32 %r9, %r9, 31, %r4; mad.lo.u32 %r9, %r9, 31, %r5;";
    let half = |t: u64, at: u64| (word(t, at / 4) >> (8 * (at % 4))) as u16;
    let mixed = |t: u64| {
        let signed = |at| half(t, at) as i16 as i32 as u32;
        let plain = |at| u32::from(half(t, at));
        let all = [plain(6), signed(8), plain(12), signed(10), plain(20)];
        all.into_iter()
            .fold(0u32, |sum, v| sum.wrapping_mul(31).wrapping_add(v))
    };
    check(load, mixed);
    for some in [5, 28] {
        check(
            &format!(
                "and.b32 %r8, %r0, {some}; setp.ne.u32 %p0, %r8, 0; @%p0 bra after; {load} after:"
            ),
            |t| if t & some == 0 { mixed(t) } else { 0 },
        );
        check(
            &format!(
                "mov.u32 %r1, 3; mov.u32 %r2, 5; and.b32 %r8, %r0, {some}; setp.ne.u32 %p0, %r8, 0; @%p0 bra after;\n\
                 ld.global.s16 %r1, [%q0+10]; ld.global.u16 %r2, [%q0+8]; after: mad.lo.u32 %r9, %r1, 31, %r2;"
            ),
            |t| match t & some {
                0 => (half(t, 10) as i16 as u32)
                    .wrapping_mul(31)
                    .wrapping_add(half(t, 8).into()),
                _ => 98,
            },
        );
    }
}

#[test]
fn of_lanes_that_store_to_one_place_the_last_counts() {
    // One for all, and one for each half of a warp, of some lanes.
    for (place, own) in [("0", 0), ("64", 1)] {
        let body = format!(
            "ld.param.u64 %q6, [out]; shr.u32 %r8, %r0, 4; and.b32 %r8, %r8, 1; mul.wide.u32 %q5, %r8, {place}; add.s64 %q6, %q6, %q5;\n\
             add.u32 %r9, %r0, 100; bar.sync 0; setp.gt.u32 %p0, %r0, 27; @%p0 bra after; st.global.u32 [%q6+384], %r9; after: bar.sync 0;"
        );
        for (form, d) in devices(&kernel(&body)).iter().enumerate() {
            let list = d.upload(&places(d, false));
            let out = d.upload(&[0u32; 128]);
            d.launch("k", 1, THREADS as u32, &[Arg::Ptr(list), Arg::Ptr(out)]);
            let got: Vec<u32> = d.download(out, 128);
            let want = if own == 0 { [127, 0] } else { [115, 127] };
            assert_eq!([got[96], got[112]], want, "form {form}");
        }
    }
}

#[test]
fn a_fault_is_that_of_the_first_access_outside() {
    let body = "ld.global.u32 %r1, [%q0+4];\n ld.global.u32 %r2, [%q1+8];\n ld.global.u32 %r3, [%q0+8];\n add.u32 %r9, %r1, %r3; add.u32 %r9, %r9, %r2;";
    // The last thread's memory ends behind its second word; the one before it reads that through its other address.
    let tell = |end: u64| {
        devices(&kernel(body)).map(|d| {
            let at = d.upload(&vec![0u32; 64]);
            let mut list = vec![at; THREADS as usize + 1];
            list[40] = at + 256 - end;
            let (list, out) = (d.upload(&list), d.upload(&vec![0u32; THREADS as usize]));
            let args = [Arg::Ptr(list), Arg::Ptr(out)];
            let e = d.try_launch("k", [1; 3], [THREADS as u32, 1, 1], 0, &args);
            let text = e.unwrap_err().to_string();
            // Addresses differ.
            text.split_once(" by ").unwrap().1.to_owned()
        })
    };
    for end in [8, 4] {
        let all = tell(end);
        let line = if end == 8 { "%q1+8" } else { "%q0+4" };
        assert!(all[0].contains(line), "{}", all[0]);
        assert!(all.iter().all(|e| *e == all[0]), "{all:?}");
    }
}

#[test]
fn a_load_gives_what_memory_has_by_then() {
    // A store between, through the same address and through another one.
    check(
        "ld.global.u32 %r1, [%q0+4]; add.u32 %r2, %r1, 1; st.global.u32 [%q0+4], %r2; ld.global.u32 %r9, [%q0+4];",
        |t| word(t, 1).wrapping_add(1),
    );
    check(
        "ld.global.u32 %r1, [%q0+4]; mov.b64 %q2, %q0; st.global.u32 [%q2+4], %r0; ld.global.u32 %r3, [%q0+4]; add.u32 %r9, %r1, %r3;",
        |t| word(t, 1).wrapping_add(t as u32),
    );
    // Of a narrower element, and what is stored as another size.
    check(
        "ld.global.s8 %r1, [%q0+4]; ld.global.u8 %r2, [%q0+4]; ld.global.u16 %r3, [%q0+4]; add.u32 %r9, %r1, %r2; add.u32 %r9, %r9, %r3;",
        |t| {
            let w = word(t, 1);
            let [s8, u8, u16] = [w as i8 as i32 as u32, w & 0xff, w & 0xffff];
            s8.wrapping_add(u8).wrapping_add(u16)
        },
    );
    // An atomic, and a barrier behind which another thread has stored.
    check(
        "ld.global.u32 %r1, [%q0]; atom.global.add.u32 %r2, [%q0], 5; ld.global.u32 %r9, [%q0];",
        |t| word(t, 0).wrapping_add(5),
    );
    check(
        "ld.global.u32 %r1, [%q1+8]; bar.sync 0; add.u32 %r2, %r0, 1000; st.global.u32 [%q0+8], %r2; bar.sync 0; ld.global.u32 %r9, [%q1+8];",
        |t| match t + 1 < THREADS {
            true => 1001 + t as u32,
            false => word(THREADS, 2),
        },
    );
}

#[test]
fn what_was_loaded_is_found_only_where_it_still_stands() {
    // The register has another value, or the address has.
    check(
        "ld.global.u32 %r1, [%q0+4]; add.u32 %r1, %r1, 9; ld.global.u32 %r2, [%q0+4]; mad.lo.u32 %r9, %r1, 3, %r2;",
        |t| {
            word(t, 1)
                .wrapping_add(9)
                .wrapping_mul(3)
                .wrapping_add(word(t, 1))
        },
    );
    check(
        "ld.global.u32 %r1, [%q0+4]; add.s64 %q0, %q0, 4; ld.global.u32 %r2, [%q0+4]; mad.lo.u32 %r9, %r1, 3, %r2;",
        |t| word(t, 1).wrapping_mul(3).wrapping_add(word(t, 2)),
    );
    // Sums of an address, before and after it changes.
    check(
        "add.s64 %q2, %q0, 8; ld.global.u32 %r1, [%q0+12]; ld.global.u32 %r2, [%q2+4]; add.s64 %q0, %q0, 16; ld.global.u32 %r3, [%q2+4];\n\
         ld.global.u32 %r4, [%q0+12]; mad.lo.u32 %r9, %r1, 3, %r2; mad.lo.u32 %r9, %r9, 3, %r3; mad.lo.u32 %r9, %r9, 3, %r4;",
        |t| word(t, 3).wrapping_mul(39).wrapping_add(word(t, 7)),
    );
    // On one way to a place only, and on both.
    let odd = "and.b32 %r8, %r0, 1; setp.eq.u32 %p0, %r8, 0;";
    check(
        &format!(
            "{odd} mov.u32 %r1, 1; @%p0 bra after; ld.global.u32 %r1, [%q0]; after: ld.global.u32 %r2, [%q0]; mad.lo.u32 %r9, %r1, 3, %r2;"
        ),
        |t| {
            let first = if t % 2 == 0 { 1 } else { word(t, 0) };
            first.wrapping_mul(3).wrapping_add(word(t, 0))
        },
    );
    check(
        &format!(
            "{odd} ld.global.u32 %r1, [%q0]; @%p0 bra even; st.global.u32 [%q0], %r0; bra after;\n\
             even: add.u32 %r1, %r1, 1; after: ld.global.u32 %r2, [%q0]; mad.lo.u32 %r9, %r1, 3, %r2;"
        ),
        |t| match t % 2 {
            0 => word(t, 0)
                .wrapping_add(1)
                .wrapping_mul(3)
                .wrapping_add(word(t, 0)),
            _ => word(t, 0).wrapping_mul(3).wrapping_add(t as u32),
        },
    );
    // A loop that stores what it loads in the next round.
    check(
        "mov.u32 %r3, 0; loop: ld.global.u32 %r1, [%q0]; add.u32 %r9, %r9, %r1; add.u32 %r1, %r1, 1; st.global.u32 [%q0], %r1;\n\
         ld.global.u32 %r2, [%q0]; add.u32 %r9, %r9, %r2; add.u32 %r3, %r3, 1; setp.lt.u32 %p0, %r3, 4; @%p0 bra loop;",
        |t| word(t, 0).wrapping_mul(8).wrapping_add(16),
    );
}

#[test]
fn halves_of_a_word_are_those_it_had() {
    let of = |k: u32| {
        format!(
            "{{.reg .b16 low, high; mov.b32 {{low, high}}, %r1; mov.b16 %h{k}, high; mov.b16 %h0, low; }}"
        )
    };
    let half = |h: u32| match h & 0x7fff {
        0x7c01.. => f32::from_bits(0x7fff_ffff),
        0x7c00 => f32::INFINITY * if h >> 15 == 1 { -1.0 } else { 1.0 },
        e => {
            let m = (e & 0x3ff) as f32;
            let (m, e) = if e >> 10 == 0 {
                (m, 1)
            } else {
                (m + 1024.0, (e >> 10) as i32)
            };
            m * 2f32.powi(e - 25) * if h >> 15 == 1 { -1.0 } else { 1.0 }
        }
    };
    check(
        &format!(
            "ld.global.u32 %r1, [%q0+4]; {} ld.global.u32 %r1, [%q0+8]; {} cvt.f32.f16 %f0, %h1; cvt.f32.f16 %f1, %h0;\n\
             mov.b32 %r2, %f0; mov.b32 %r3, %f1; mad.lo.u32 %r9, %r2, 3, %r3;",
            of(1),
            of(2)
        ),
        |t| {
            let [high, low] = [word(t, 1) >> 16, word(t, 2) & 0xffff].map(|h| half(h).to_bits());
            high.wrapping_mul(3).wrapping_add(low)
        },
    );
}
