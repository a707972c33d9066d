//! Whole kernels, checked element by element in both forms of execution.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, Device, devices};

const KERNELS: &str = include_str!("ptx/kernels.ptx");

fn each(test: impl Fn(&Device)) {
    devices(KERNELS).iter().for_each(test);
}

#[test]
fn recursion_and_function_pointers() {
    fn fib(n: u32) -> u32 {
        if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
    }
    each(|d| {
        let o = d.upload(&[0u32; 100]);
        d.launch("recursion", 1, 100, &[Arg::Ptr(o)]);
        assert_eq!(
            d.download::<u32>(o, 100),
            (0..100).map(|i| fib(i % 10)).collect::<Vec<_>>()
        );
        d.launch("pointers", 1, 100, &[Arg::Ptr(o)]);
        let want: Vec<i32> = (0..100)
            .map(|i| if i % 2 == 0 { 3 * i } else { -i })
            .collect();
        assert_eq!(d.download::<i32>(o, 100), want);
    });
}

#[test]
fn a_pointer_that_another_kernel_took_can_be_called() {
    const TEXT: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
        .func (.param .b32 r) twice(.param .b32 a) { .reg .b32 %m<2>; .shared .align 4 .b8 own[8];
        ld.param.b32 %m0, [a]; st.shared.u32 [own+4], %m0; ld.shared.u32 %m1, [own+4];
        add.u32 %m0, %m0, %m1; st.param.b32 [r], %m0; ret; }
        .visible .entry take(.param .u64 o) { .reg .b64 %q<2>;
        ld.param.u64 %q0, [o]; mov.u64 %q1, twice; st.global.u64 [%q0], %q1; ret; }
        .visible .entry use(.param .u64 o) { .reg .b64 %q<2>; .reg .b32 %r<2>; .param .b32 a; .param .b32 b;
        ld.param.u64 %q0, [o]; ld.global.u64 %q1, [%q0]; mov.u32 %r0, 21; st.param.b32 [a], %r0;
        P: .callprototype (.param .b32 _) _ (.param .b32 _); call (b), %q1, (a), P;
        ld.param.b32 %r1, [b]; st.global.u32 [%q0], %r1; ret; }";
    for d in &devices(TEXT) {
        let o = d.upload(&[0u64]);
        d.launch("take", 1, 1, &[Arg::Ptr(o)]);
        d.launch("use", 1, 1, &[Arg::Ptr(o)]);
        assert_eq!(d.download::<u32>(o, 1), [42]);
    }
}

#[test]
fn divergent_loops() {
    let n = 3000;
    let input: Vec<u32> = (1..=n).collect();
    let want: Vec<u32> = input
        .iter()
        .map(|&x| {
            let (mut v, mut c) = (x, 0);
            while v != 1 {
                v = if v % 2 == 1 { 3 * v + 1 } else { v / 2 };
                c += 1;
                if c > 150 {
                    return 999;
                }
            }
            c
        })
        .collect();
    each(|d| {
        let (i, o) = (d.upload(&input), d.upload(&vec![0u32; n as usize]));
        for block in [32, 96, 256] {
            d.space.fill(o, &[0], u64::from(n) * 4).unwrap();
            d.launch(
                "collatz",
                n.div_ceil(block),
                block,
                &[Arg::Ptr(i), Arg::Ptr(o), Arg::U32(n)],
            );
            assert_eq!(d.download::<u32>(o, n as usize), want, "blocks of {block}");
        }
    });
}

#[test]
fn branch_tables() {
    each(|d| {
        let o = d.upload(&[0u32; 64]);
        d.launch("table", 1, 64, &[Arg::Ptr(o)]);
        let want: Vec<u32> = (0..64u32)
            .map(|i| match i % 4 {
                1 => i * i,
                2 => !i,
                _ => i + 1000,
            })
            .collect();
        assert_eq!(d.download::<u32>(o, 64), want);
    });
}

#[test]
fn reductions_with_shuffles() {
    let input: Vec<f32> = (0..10_000).map(|i| (i % 23) as f32).collect();
    let want: f32 = input.iter().sum();
    each(|d| {
        let (i, o) = (d.upload(&input), d.upload(&[0f32]));
        d.launch("sum", 7, 256, &[Arg::Ptr(i), Arg::Ptr(o), Arg::U32(10_000)]);
        assert_eq!(d.download::<f32>(o, 1), [want]);
    });
}

#[test]
fn histogram_with_shared_and_global_atomics() {
    let input: Vec<u8> = (0..20_000u32).map(|i| (i * i / 7 % 253) as u8).collect();
    let mut want = vec![0u32; 256];
    input.iter().for_each(|&b| want[usize::from(b)] += 1);
    each(|d| {
        let (i, o) = (d.upload(&input), d.upload(&[0u32; 256]));
        d.launch(
            "histogram",
            5,
            192,
            &[Arg::Ptr(i), Arg::Ptr(o), Arg::U32(20_000)],
        );
        assert_eq!(d.download::<u32>(o, 256), want);
    });
}

#[test]
fn dynamic_shared_memory_by_generic_addresses() {
    each(|d| {
        let o = d.upload(&(0..96).collect::<Vec<u32>>());
        d.try_launch("reverse", [1; 3], [96, 1, 1], 96 * 4, &[Arg::Ptr(o)])
            .unwrap();
        assert_eq!(
            d.download::<u32>(o, 96),
            (0..96).rev().collect::<Vec<u32>>()
        );
        let e = d.try_launch("reverse", [1; 3], [96, 1, 1], 95 * 4, &[Arg::Ptr(o)]);
        assert!(e.is_err(), "one word too little");
    });
}

#[test]
fn local_arrays_constants_and_initialised_globals() {
    let input: Vec<u32> = (0..64).map(|i| i * 7 + 3).collect();
    each(|d| {
        let (i, o) = (d.upload(&input), d.upload(&[0u32; 64]));
        d.launch("locals", 1, 64, &[Arg::Ptr(i), Arg::Ptr(o)]);
        let want: Vec<u32> = (0..64u32)
            .map(|t| {
                let v = input[t as usize];
                let at = v & 15;
                let word = match at {
                    0 | 2 => v,
                    1 | 3 => t,
                    k => k * t,
                };
                let weight = [1.0f32, 2.0, 3.0, 4.0][(t & 3) as usize] - 1.5;
                (word + 5).wrapping_add(weight as i32 as u32)
            })
            .collect();
        assert_eq!(d.download::<u32>(o, 64), want);
        let (a, n) = d.module.global("counter").unwrap();
        assert_eq!((n, d.download::<u32>(a, 1)), (4, vec![5]));
    });
}

#[test]
fn warp_wide_operations() {
    let input: Vec<u32> = (0..32).map(|i| i * 5 % 24).collect();
    each(|d| {
        let (i, o) = (d.upload(&input), d.upload(&[0u32; 256]));
        d.launch("warp", 1, 32, &[Arg::Ptr(i), Arg::Ptr(o)]);
        let got = d.download::<u32>(o, 256);
        let ballot = input
            .iter()
            .enumerate()
            .fold(0, |b, (l, &v)| b | (u32::from(v > 10) << l));
        let (sum, max) = (input.iter().sum(), input.iter().copied().max().unwrap());
        for (l, row) in got.chunks(8).enumerate() {
            let any = input
                .iter()
                .enumerate()
                .fold(0, |b, (k, &v)| b | (u32::from(v == input[l]) << k));
            let active = if l % 2 == 0 { 0x5555_5555 } else { 0 };
            assert_eq!(
                row,
                [ballot, 1, sum, max, any, 0, active, l as u32],
                "lane {l}"
            );
        }
    });
}

#[test]
fn barriers_that_reduce_and_count() {
    let input: Vec<u32> = (0..128).map(|i| i / 3).collect();
    let odd = input.iter().filter(|v| **v % 2 == 1).count() as u32;
    each(|d| {
        let (i, o) = (d.upload(&input), d.upload(&[9u32; 384]));
        d.launch("barriers", 1, 128, &[Arg::Ptr(i), Arg::Ptr(o)]);
        for row in d.download::<u32>(o, 384).chunks(3) {
            assert_eq!(row, [0, 1, odd]);
        }
        d.launch("pipeline", 1, 64, &[Arg::Ptr(o)]);
        let want: Vec<u32> = (0..32).map(|l| (0..5).map(|k| k * 100 + l).sum()).collect();
        assert_eq!(d.download::<u32>(o, 32), want);
    });
}

#[test]
fn a_warp_may_wait_for_another() {
    each(|d| {
        let o = d.upload(&[0u32; 2]);
        d.launch("flag", 1, 64, &[Arg::Ptr(o)]);
        assert_eq!(d.download::<u32>(o, 2), [42, 42]);
    });
}

#[test]
fn lanes_of_a_warp_may_wait_for_each_other() {
    each(|d| {
        let (lock, count) = (d.upload(&[0u32]), d.upload(&[0u32]));
        d.launch("spin_lock", 2, 32, &[Arg::Ptr(lock), Arg::Ptr(count)]);
        assert_eq!(d.download::<u32>(count, 1), [64]);
        assert_eq!(d.download::<u32>(lock, 1), [0]);
    });
}

#[test]
fn index_arithmetic_that_wraps() {
    let input: Vec<u32> = (100..164).collect();
    each(|d| {
        let (i, o) = (d.upload(&input), d.upload(&[0u32; 64]));
        let stats = d.launch("shifted", 1, 64, &[Arg::Ptr(i), Arg::Ptr(o)]);
        let want: Vec<u32> = (0..64).map(|t| if t == 0 { 7 } else { 99 + t }).collect();
        assert_eq!(d.download::<u32>(o, 64), want);
        assert_eq!(
            stats.deopts,
            u64::from(!d.reference),
            "the first warp leaves the optimised code"
        );
    });
}

#[test]
fn atomics_of_all_kinds() {
    each(|d| {
        let mut init = vec![0u8; 72];
        init[4..8].copy_from_slice(&500i32.to_le_bytes());
        init[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        init[32..36].copy_from_slice(&31u32.to_le_bytes());
        let o = d.upload(&init);
        d.launch("atomics", 1, 64, &[Arg::Ptr(o)]);
        let w = d.download::<u32>(o, 12);
        let all = |f: &dyn Fn(u32, u32) -> u32, from: u32| (1..=64).fold(from, f);
        assert_eq!(w[0], (1..=64).sum::<u32>());
        assert_eq!((w[1], w[2]), (0, 63));
        assert_eq!(w[3], all(&|a, b| a & b, u32::MAX));
        assert_eq!(w[4], all(&|a, b| a | b, 0));
        assert_eq!(w[5], all(&|a, b| a ^ b, 0));
        assert_eq!(
            (w[6], w[7]),
            (
                64 % 10,
                (0..64).fold(0u32, |v, _| if v == 0 { 9 } else { v - 1 })
            )
        );
        assert_eq!((w[8], w[9]), (1000, 77));
        assert_eq!(f32::from_bits(w[10]), 2016.0);
        assert_eq!(d.download::<f64>(o + 48, 1), [2016.0]);
        assert_eq!(d.download::<u64>(o + 56, 2), [2016, 63]);
    });
}

#[test]
fn matrix_products() {
    let n = 64usize;
    let a: Vec<f32> = (0..n * n).map(|i| (i * 7 % 13) as f32).collect();
    let b: Vec<f32> = (0..n * n).map(|i| (i * 5 % 11) as f32).collect();
    let mut want = vec![0f32; n * n];
    for i in 0..n {
        for j in 0..n {
            want[i * n + j] = (0..n).map(|k| a[i * n + k] * b[k * n + j]).sum();
        }
    }
    for d in devices(include_str!("ptx/sgemm.ptx")) {
        let (da, db, dc) = (d.upload(&a), d.upload(&b), d.upload(&vec![0f32; n * n]));
        let cases = [
            ("sgemm_tiled", [16, 16, 1]),
            ("sgemm_naive", [16, 16, 1]),
            ("sgemm_naive", [32, 4, 1]),
            ("sgemm_naive", [8, 8, 1]),
            ("sgemm_naive", [24, 3, 1]),
        ];
        for (kernel, block) in cases {
            d.space.fill(dc, &[0], (n * n * 4) as u64).unwrap();
            let grid = [
                (n as u32).div_ceil(block[0]),
                (n as u32).div_ceil(block[1]),
                1,
            ];
            let args = [Arg::Ptr(da), Arg::Ptr(db), Arg::Ptr(dc), Arg::U32(n as u32)];
            d.try_launch(kernel, grid, block, 0, &args).unwrap();
            assert_eq!(d.download::<f32>(dc, n * n), want, "{kernel} {block:?}");
        }
    }
}

/// PTX ISA, "Arrays as Operands": a name with an index is the address of that element.
#[test]
fn elements_of_arrays_by_index() {
    let source = ".version 7.8\n.target sm_90\n.address_size 64\n\
        .global .u32 table[4] = {10, 20, 30, 40};\n\
        .visible .entry elements(.param .u64 out) {\n\
        .reg .u64 %o, %g, %s; .reg .u32 %a, %b, %c;\n\
        .shared .align 16 .b8 bytes[64];\n\
        ld.param.u64 %o, [out];\n\
        mov.u64 %g, table[3]; ld.global.u32 %a, [%g]; ld.global.u32 %b, [table[1]];\n\
        mov.u64 %s, bytes[8]; st.shared.u32 [%s], %b; ld.shared.u32 %c, [bytes[8]];\n\
        st.global.u32 [%o], %a; st.global.u32 [%o+4], %b; st.global.u32 [%o+8], %c; ret; }";
    for d in devices(source) {
        let o = d.upload(&[0u32; 3]);
        d.launch("elements", 1, 1, &[Arg::Ptr(o)]);
        assert_eq!(d.download::<u32>(o, 3), [40, 20, 20]);
    }
}
