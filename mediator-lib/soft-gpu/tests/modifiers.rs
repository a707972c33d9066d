//! Modifiers and forms that few programs use: what they do, and that unknown ones are refused.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::lanes::check;
use common::{Arg, devices};

const W: [u64; 7] = [
    0,
    1,
    0x7f,
    0x1234_5678,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];

fn floats() -> Vec<u64> {
    let v: [f32; 11] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.5,
        -2.5,
        1e-40,
        -1e-40,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    v.iter().map(|v| u64::from(v.to_bits())).collect()
}

fn kernel(code: &str) -> String {
    format!(
        ".version 8.7\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 i, .param .u64 o)\n{{\n\
         .reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %r<16>; .reg .b64 %q<16>; .reg .f32 %f<16>; .reg .f64 %d<8>;\n\
         ld.param.u64 %q0, [i]; ld.param.u64 %q1, [o]; mov.u32 %r0, %tid.x; mul.wide.u32 %q2, %r0, 4; add.s64 %q3, %q1, %q2;\n\
         {code}\nret;\n}}\n"
    )
}

#[test]
fn unknown_modifiers_are_refused_and_not_ignored() {
    for code in [
        "add.rs.f32 %f1, %f2, %f3;",
        "add.rn.rs.f32 %f1, %f2, %f3;",
        "fma.rn.oob.f16 %h1, %h2, %h3, %h4;",
        "cvt.rs.f16x2.f32 %r1, %f1, %f2, %r3;",
        "cvt.rn.satfinite.e2m1x2.f32 %h1, %f1, %f2;",
        "cvt.rn.e4m3x2.f32 %h1, %f1, %f2;",
        "mul.sat.wide.wrong.s32 %q1, %r1, %r2;",
        "setp.eqq.s32 %p1, %r1, %r2;",
        "ld.global.v8.f32 {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7}, [%q0];",
        "ld.global.funny.u32 %r1, [%q0];",
        "atom.global.add.v2.u32 {%r1,%r2}, [%q0], {%r3,%r4};",
        "atom.global.min.f32 %f1, [%q0], %f2;",
        "redux.sync.min.NaN.f32 %f1, %f2, -1;",
        "shfl.sync.weird.b32 %r1, %r2, 1, 31, -1;",
        "bar.red.nand.pred %p1, 0, %p2;",
        "mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e4m3.e4m3.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%f0,%f1,%f2,%f3};",
        "mma.sp::random_metadata.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1}, {%r2,%r3}, {%f0,%f1,%f2,%f3}, %r4, 0;",
        "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r1,%r2}, [%r3];",
        "tex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [%q0, {%f4,%f5}];",
        "suld.b.1d.b32.trap %r1, [%q0, {%r2}];",
        "wgmma.fence.sync.aligned;",
        "mbarrier.init.shared.b64 [%r1], 1;",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%q0], 16, [%r2];",
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%q0, {%r2, %r3}], [%r4];",
        "cp.async.mbarrier.arrive.noinc.shared.b64 [%r1];",
        "multimem.red.add.u32 [%q0], %r1;",
        "istypep.texref %p1, %q0;",
        "vadd2.s32.s32.s32.min %r1, %r2, %r3, %r4;",
        "tcgen05.wait::ld.sync.aligned;",
    ] {
        let ptx = kernel(code);
        for d in devices(&ptx) {
            let f = d.module.function("k").unwrap();
            let why = f
                .unsupported()
                .unwrap_or_else(|| panic!("accepted: {code}"));
            let opcode = code.split(' ').next().unwrap().trim_end_matches(';');
            assert!(
                why.contains(&format!("unsupported instruction '{opcode}'")),
                "{why}"
            );
            assert!(
                why.contains("line 8") && why.contains("kernel 'k'"),
                "{why}"
            );
            assert!(
                d.module.info_log().contains(opcode),
                "{}",
                d.module.info_log()
            );
        }
    }
}

#[test]
fn minimum_and_maximum_of_three() {
    let v = floats();
    for (name, min) in [("min", true), ("max", false)] {
        for nan in [false, true] {
            let code = format!(
                "{name}{}.f32 %d, %a, %b, %c;",
                if nan { ".NaN" } else { "" }
            );
            check(&code, &["f32", "f32", "f32"], "b32", &[&v, &v, &v], |i| {
                let f: Vec<f32> = i.iter().map(|b| f32::from_bits(*b as u32)).collect();
                let numbers: Vec<f32> = f.iter().copied().filter(|x| !x.is_nan()).collect();
                if numbers.is_empty() || (nan && numbers.len() < 3) {
                    return 0x7fff_ffff;
                }
                let order = |a: &f32, b: &f32| a.total_cmp(b);
                let r = if min {
                    numbers.iter().copied().min_by(order)
                } else {
                    numbers.iter().copied().max_by(order)
                };
                r.unwrap().to_bits().into()
            });
        }
    }
}

#[test]
fn lop3_with_a_predicate() {
    for (op, and) in [("and", true), ("or", false)] {
        for lut in [0x80u32, 0xfe, 0x96, 0x00] {
            let code = format!(
                "setp.lt.u32 %p1, %c, 100; lop3.{op}.b32 %r7|%p2, %a, %b, %c, {lut:#x}, %p1; selp.b32 %r6, 1, 0, %p2; \
                 shl.b32 %r7, %r7, 1; or.b32 %d, %r6, %r7;"
            );
            check(&code, &["b32", "b32", "b32"], "b32", &[&W, &W, &W], |i| {
                let mut r = 0u64;
                for bit in 0..32 {
                    let at = |k: usize| i[k] >> bit & 1;
                    let index = at(0) << 2 | at(1) << 1 | at(2);
                    r |= u64::from(lut >> index & 1) << bit;
                }
                let p = i[2] < 100;
                let p = if and { r != 0 && p } else { r != 0 || p };
                (r << 1 & 0xffff_ffff) | u64::from(p)
            });
        }
    }
}

#[test]
fn clusters_have_one_block() {
    check(
        "mapa.shared::cluster.u32 %d, %a, 0;",
        &["b32"],
        "b32",
        &[&W],
        |i| i[0],
    );
    check("mapa.u64 %d, %a, 0;", &["b64"], "b64", &[&W], |i| i[0]);
    check(
        "getctarank.shared::cluster.u32 %d, %a;",
        &["b32"],
        "b32",
        &[&W],
        |_| 0,
    );
    let code = "mov.u32 %r6, %cluster_ctarank; mov.u32 %r7, %cluster_nctarank; shl.b32 %r7, %r7, 8; or.b32 %r6, %r6, %r7;\n\
                mov.u32 %r7, %cluster_ctaid.y; shl.b32 %r7, %r7, 16; or.b32 %r6, %r6, %r7;\n\
                barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned; add.u32 %d, %r6, %a;";
    check(code, &["b32"], "b32", &[&[0, 5]], |i| 256 + i[0]);
}

#[test]
fn one_lane_is_elected() {
    let a: Vec<u64> = (0..64).collect();
    for (members, first) in [("-1", 5), ("0xffffff00", 8)] {
        let code = format!(
            "mov.u32 %d, 1000; and.b32 %r6, %a, 31; setp.lt.u32 %p1, %r6, 5; @%p1 bra X;\n\
             elect.sync %r7|%p2, {members}; selp.b32 %r6, 100, 0, %p2; add.u32 %d, %r6, %r7;\nX:"
        );
        check(&code, &["b32"], "b32", &[&a], |i| match i[0] & 31 {
            l if l < 5 => 1000,
            l if l == first => 100 + first,
            _ => first,
        });
    }
}

#[test]
fn set_on_pairs_of_halves() {
    let v = [
        0x3c00_4000u64,
        0x4000_3c00,
        0x7e00_0000,
        0x0001_8001,
        0x0000_8000,
    ];
    let value = |h: u64| {
        let (e, m) = (h >> 10 & 31, h & 0x3ff);
        let v = match e {
            31 => f64::NAN,
            0 => m as f64 * 2f64.powi(-24),
            e => (1024 + m) as f64 * 2f64.powi(e as i32 - 25),
        };
        if h & 0x8000 != 0 { -v } else { v }
    };
    for (suffix, one) in [("f16x2.f16x2", 0x3c00u64), ("u32.f16x2", 0xffff)] {
        for (op, and) in [("", None), (".and", Some(true)), (".or", Some(false))] {
            let p = if and.is_some() { ", %p1" } else { "" };
            let code =
                format!("setp.lt.u32 %p1, %a, 0x40000000; set.lt{op}.{suffix} %d, %a, %b{p};");
            check(&code, &["b32", "b32"], "b32", &[&v, &v], |i| {
                let less = |s: u32| value(i[0] >> s & 0xffff) < value(i[1] >> s & 0xffff);
                let small = i[0] < 0x4000_0000;
                let r = |s: u32| match and {
                    None => less(s),
                    Some(true) => less(s) && small,
                    Some(false) => less(s) || small,
                };
                (u64::from(r(0)) * one) | ((u64::from(r(16)) * one) << 16)
            });
        }
    }
}

#[test]
fn atomics_on_vectors() {
    // All 64 threads add to the same four words; half of the results are not wanted.
    let code = "mov.f32 %f0, 0f3F800000; mov.f32 %f1, 0f40000000; mov.f32 %f2, 0f3F000000; mov.f32 %f3, 0fBF800000;\n\
                setp.lt.u32 %p1, %r0, 40;\n\
                @%p1 atom.relaxed.gpu.global.add.v4.f32 {%f4, %f5, _, %f7}, [%q0], {%f0, %f1, %f2, %f3};\n\
                red.global.add.noftz.v2.f16x2 [%q0+16], {%r1, %r1};";
    let ptx = kernel(&code.replace("red.global", "mov.b32 %r1, 0x3c004000; red.global"));
    for d in devices(&ptx) {
        let (i, o) = (d.upload(&[0u32; 8]), d.upload(&[0u32; 64]));
        d.launch("k", 1, 64, &[Arg::Ptr(i), Arg::Ptr(o)]);
        let got = d.download::<f32>(i, 4);
        assert_eq!(got, [40.0, 80.0, 20.0, -40.0]);
        // 64 times 1 and 2 in f16: 64 and 128.
        assert_eq!(d.download::<u32>(i + 16, 2), [0x5400_5800; 2]);
    }
    let code = "mov.b32 %r1, 0x00003c00; cvt.u16.u32 %h1, %r0; cvt.rn.f16.u16 %h2, %h1; neg.f16 %h3, %h2;\n\
                atom.global.max.noftz.v2.f16 {%h4, %h5}, [%q0], {%h2, %h3};\n\
                atom.global.min.noftz.v2.f16 {%h4, %h5}, [%q0+4], {%h2, %h3};";
    for d in devices(&kernel(code)) {
        let (i, o) = (d.upload(&[0u32; 8]), d.upload(&[0u32; 64]));
        d.launch("k", 1, 32, &[Arg::Ptr(i), Arg::Ptr(o)]);
        // 31 in f16 is 0x4fc0; the larger of 0 and -0 is 0.
        let got = d.download::<u32>(i, 2);
        assert_eq!(got[0] & 0xffff, 0x4fc0);
        assert_eq!(got[1], 0xcfc0_0000);
    }
}

#[test]
fn hints_and_orders_change_nothing() {
    let code = "createpolicy.fractional.L2::evict_last.b64 %q4, 1.0;\n\
                prefetch.global.L2 [%q0]; prefetchu.L1 [%q0]; applypriority.global.L2::evict_normal [%q0], 128;\n\
                griddepcontrol.wait; nanosleep.u32 20; pmevent 3; fence.acq_rel.gpu; fence.sc.cta; fence.proxy.async; membar.sys;\n\
                ld.relaxed.gpu.global.L1::no_allocate.L2::128B.u32 %r1, [%q0]; ld.acquire.sys.global.u32 %r2, [%q0+4];\n\
                ld.global.nc.L1::evict_last.L2::cache_hint.v2.u32 {%r3, %r4}, [%q0+8], %q4; ld.volatile.global.u32 %r5, [%q0+16];\n\
                ld.weak.global.cv.u32 %r6, [%q0+20]; ld.mmio.relaxed.sys.global.u32 %r7, [%q0+24];\n\
                add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; add.u32 %r1, %r1, %r4; add.u32 %r1, %r1, %r5; add.u32 %r1, %r1, %r6; add.u32 %r1, %r1, %r7;\n\
                atom.acq_rel.gpu.global.add.L2::cache_hint.u32 %r8, [%q0+28], 1, %q4; red.release.gpu.global.add.u32 [%q0+32], 2;\n\
                st.release.gpu.global.u32 [%q3], %r1; st.global.wb.L1::no_allocate.u32 [%q3+128], %r1; discard.global.L2 [%q0+64], 128;\n\
                griddepcontrol.launch_dependents;";
    for d in devices(&kernel(code)) {
        let input: Vec<u32> = (1..65).collect();
        let (i, o) = (d.upload(&input), d.upload(&[0u32; 64]));
        d.launch("k", 1, 32, &[Arg::Ptr(i), Arg::Ptr(o)]);
        assert_eq!(d.download::<u32>(o, 64), [28; 64]);
        assert_eq!(d.download::<u32>(i + 28, 2), [8 + 32, 9 + 64]);
    }
}
