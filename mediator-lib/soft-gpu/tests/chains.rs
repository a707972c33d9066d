//! Operations on results of others, of which more is known than of what was loaded: flushed numbers, small bytes, powers of
//! two. All forms of execution agree.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, devices};

const THREADS: usize = 64;
const BLOCKS: usize = 64;

/// Numbers around the denormal ones, and others that matter, of either sign.
const NUMBERS: [u32; 20] = [
    0,
    1,
    2,
    0x007f_ffff,
    0x0080_0000,
    0x0080_0001,
    0x00ff_ffff,
    0x0100_0000,
    0x0040_0000,
    0x3f80_0000,
    0x3f00_0001,
    0x4000_0000,
    0x2000_0000,
    0x1f80_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0x7fc0_1234,
    0x7f80_0001,
    0x4b7f_ffff,
    0x3fc0_0000,
];

/// The words of a launch: from the list, or any.
fn words(n: usize) -> Vec<u32> {
    let mut state = 0x2545_f491u32;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut one = || match next() % 4 {
        0 => next(),
        _ => NUMBERS[next() as usize % NUMBERS.len()] ^ (next() & 0x8000_0000),
    };
    (0..n).map(|_| one()).collect()
}

/// Runs a body over words `%r0` to `%r3` (`%f0` to `%f3` are the same); it leaves results in `%r5` to `%r8`.
fn agree(body: &str) {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 data, .param .u64 out) {{\n\
         .reg .pred %p<4>; .reg .b16 %h<4>; .reg .f32 %f<20>; .reg .b32 %r<20>; .reg .b64 %q<4>;\n\
         ld.param.u64 %q0, [data]; ld.param.u64 %q1, [out]; mov.u32 %r8, %ctaid.x; mov.u32 %r9, %tid.x;\n\
         mad.lo.u32 %r9, %r8, {THREADS}, %r9; mad.wide.u32 %q0, %r9, 16, %q0; mad.wide.u32 %q1, %r9, 16, %q1;\n\
         ld.global.v4.u32 {{%r0, %r1, %r2, %r3}}, [%q0];\n\
         mov.b32 %f0, %r0; mov.b32 %f1, %r1; mov.b32 %f2, %r2; mov.b32 %f3, %r3;\n\
         mov.u32 %r5, 0; mov.u32 %r6, 0; mov.u32 %r7, 0; mov.u32 %r8, 0;\n\
         {body}\n st.global.v4.u32 [%q1], {{%r5, %r6, %r7, %r8}}; ret; }}\n"
    );
    let n = 4 * THREADS * BLOCKS;
    let all = devices(&ptx).map(|d| {
        let (data, out) = (d.upload(&words(n)), d.upload(&vec![0u32; n]));
        let args = [Arg::Ptr(data), Arg::Ptr(out)];
        d.launch("k", BLOCKS as u32, THREADS as u32, &args);
        d.download::<u32>(out, n)
    });
    for (form, got) in all.iter().enumerate() {
        let differs = got.iter().zip(&all[0]).position(|(a, b)| a != b);
        assert_eq!(
            differs.map(|k| (k, got[k], all[0][k])),
            None,
            "form {form}:\n{body}"
        );
    }
}

#[test]
fn results_are_flushed_once() {
    for op in [
        "add.ftz.f32",
        "sub.ftz.f32",
        "mul.ftz.f32",
        "add.rz.ftz.f32",
        "mul.rm.ftz.f32",
    ] {
        agree(&format!(
            "{op} %f4, %f0, %f1; {op} %f5, %f4, %f2; {op} %f6, %f5, %f4; {op} %f7, %f6, %f3;\n\
             mov.b32 %r5, %f4; mov.b32 %r6, %f5; mov.b32 %r7, %f6; mov.b32 %r8, %f7;"
        ));
    }
    agree(
        "fma.rn.ftz.f32 %f4, %f0, %f1, %f2; fma.rn.ftz.f32 %f5, %f4, %f3, %f4; fma.rn.ftz.f32 %f4, %f0, %f5, %f4;\n\
         fma.rn.ftz.f32 %f6, %f5, %f4, %f5; mov.b32 %r5, %f4; mov.b32 %r6, %f5; mov.b32 %r7, %f6;",
    );
    // Through operations that pass them on, to some lanes only too.
    agree(
        "add.ftz.f32 %f4, %f0, %f1; mul.ftz.f32 %f5, %f2, %f3; neg.f32 %f6, %f4; abs.f32 %f7, %f5; min.f32 %f8, %f6, %f7;\n\
         max.ftz.f32 %f9, %f4, %f0; setp.lt.f32 %p0, %f0, %f2; selp.f32 %f10, %f8, %f5, %p0; mov.b32 %r10, %f10;\n\
         shfl.sync.bfly.b32 %r11, %r10, 16, 31, -1; mov.b32 %f11, %r11; add.ftz.f32 %f12, %f10, %f11; mov.b32 %r5, %f12;\n\
         mov.f32 %f13, %f0; @%p0 bra after; add.ftz.f32 %f13, %f12, %f9; after: mul.ftz.f32 %f14, %f13, %f12; mov.b32 %r6, %f14;\n\
         add.ftz.f32 %f15, %f13, 0f00000000; mov.b32 %r7, %f15;",
    );
    // In a loop, where the first round has what was loaded.
    agree(
        "mov.f32 %f4, %f0; mov.u32 %r10, 0; loop: fma.rn.ftz.f32 %f4, %f4, %f1, %f2; mul.ftz.f32 %f5, %f4, %f3;\n\
         add.u32 %r10, %r10, 1; setp.lt.u32 %p0, %r10, 3; @%p0 bra loop; mov.b32 %r5, %f4; mov.b32 %r6, %f5;",
    );
    // Whole numbers, roots, halves and constants.
    agree(
        "cvt.rn.f32.s32 %f4, %r0; cvt.rn.f32.u32 %f5, %r1; mov.b32 {%h0, %h1}, %r2; cvt.f32.f16 %f6, %h0; sqrt.rn.f32 %f7, %f3;\n\
         cvt.rni.f32.f32 %f8, %f0; mul.ftz.f32 %f9, %f4, 0f00000001; fma.rn.ftz.f32 %f10, %f6, %f5, %f7;\n\
         add.ftz.f32 %f11, %f8, %f6; mul.ftz.f32 %f12, %f6, 0f00800000; mov.b32 %r5, %f9; mov.b32 %r6, %f10; mov.b32 %r7, %f11; mov.b32 %r8, %f12;",
    );
}

#[test]
fn quotients_by_powers_of_two_are_rounded_once() {
    for by in [
        "40000000", "bf000000", "00800000", "7e800000", "7f000000", "3f800000", "00400000",
        "40400000",
    ] {
        agree(&format!(
            "mov.f32 %f9, 0f{by}; div.approx.ftz.f32 %f4, %f0, %f9; div.rn.f32 %f5, %f1, %f9; div.full.f32 %f6, %f2, %f9;\n\
             div.rn.ftz.f32 %f7, %f3, %f9; mov.b32 %r5, %f4; mov.b32 %r6, %f5; mov.b32 %r7, %f6; mov.b32 %r8, %f7;"
        ));
    }
}

#[test]
fn halves_are_rounded_once() {
    agree(
        "add.f16x2 %r5, %r0, %r1; sub.f16x2 %r6, %r2, %r3; mul.f16x2 %r7, %r0, %r2; mul.f16x2 %r8, %r5, %r6;",
    );
    // Numbers of ordinary size, whose products and sums are denormal, or too large.
    agree(
        "and.b32 %r10, %r0, 0x8fff8fff; or.b32 %r11, %r1, 0x30003000; add.f16x2 %r5, %r10, %r11; mul.f16x2 %r6, %r10, %r11;\n\
         xor.b32 %r12, %r10, 0x00018001; sub.f16x2 %r7, %r10, %r12; mul.f16x2 %r8, %r11, %r11;",
    );
}

#[test]
fn products_of_bytes_know_their_signs() {
    for (a, b) in [
        ("s32", "s32"),
        ("s32", "u32"),
        ("u32", "s32"),
        ("u32", "u32"),
    ] {
        let op = format!("dp4a.{a}.{b}");
        agree(&format!(
            "and.b32 %r10, %r0, 0x0f0f0f0f; and.b32 %r11, %r1, 0x7f017f7f; and.b32 %r12, %r2, 0xff0f0f0f;\n\
             {op} %r5, %r10, %r3, %r2; {op} %r6, %r3, %r11, %r5; {op} %r7, %r10, %r11, %r6; {op} %r8, %r12, %r3, %r7;"
        ));
    }
}
