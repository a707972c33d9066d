//! `cp.async` into shared memory.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, devices};

/// Each thread copies `bytes` and the block writes its shared memory out; `guard` and `operands` are
/// what varies.
fn kernel(op: &str, bytes: u32, operands: &str, guard: &str) -> String {
    format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n\
         .visible .entry k(.param .u64 i, .param .u64 o)\n{{\n\
         .reg .pred %p<4>; .reg .b32 %t, %x<8>, %s; .reg .b64 %in, %out, %off, %q<4>;\n\
         .shared .align 16 .b8 tile[1024];\n\
         ld.param.u64 %in, [i]; ld.param.u64 %out, [o]; mov.u32 %t, %tid.x;\n\
         mul.lo.u32 %x0, %t, 16; mov.u32 %s, tile; add.u32 %s, %s, %x0; mov.b32 %x1, 0xeeeeeeee;\n\
         st.shared.v4.b32 [%s], {{%x1, %x1, %x1, %x1}}; bar.sync 0;\n\
         mul.wide.u32 %off, %x0, 1; add.s64 %q0, %in, %off; and.b32 %x2, %t, 3; setp.eq.u32 %p0, %x2, 0;\n\
         mul.lo.u32 %x3, %x2, 4; min.u32 %x3, %x3, {bytes}; createpolicy.fractional.L2::evict_first.b64 %q3, 1.0;\n\
         {guard} cp.async.{op} [%s], [%q0], {bytes}{operands};\n\
         cp.async.commit_group; cp.async.wait_group 0; cp.async.wait_all; bar.sync 0;\n\
         ld.shared.v4.b32 {{%x4, %x5, %x6, %x7}}, [%s]; add.s64 %out, %out, %off;\n\
         st.global.v4.b32 [%out], {{%x4, %x5, %x6, %x7}};\nret;\n}}\n"
    )
}

/// Runs and compares; `read` says how many bytes of a thread come from memory, none: nothing is copied.
fn check(ptx: &str, bytes: usize, read: impl Fn(usize) -> Option<usize>) {
    let input: Vec<u8> = (0..1024u32).map(|i| (i * 7 + i / 256) as u8).collect();
    let mut want = vec![0xeeu8; 64 * 16];
    for t in 0..64 {
        if let Some(n) = read(t) {
            want[16 * t..][..bytes].fill(0);
            let from = 16 * t..16 * t + n;
            want[from.clone()].copy_from_slice(&input[from]);
        }
    }
    for d in devices(ptx) {
        let (i, o) = (d.upload(&input), d.upload(&vec![0u8; 1024]));
        d.launch("k", 1, 64, &[Arg::Ptr(i), Arg::Ptr(o)]);
        assert_eq!(d.download::<u8>(o, 1024), want, "{ptx}");
    }
}

#[test]
fn copies_whole_partial_and_guarded() {
    for bytes in [4u32, 8, 16] {
        let n = bytes as usize;
        for op in ["ca.shared.global", "ca.shared::cta.global.L2::128B"] {
            check(&kernel(op, bytes, "", ""), n, |_| Some(n));
            check(&kernel(op, bytes, "", "@%p0"), n, |t| {
                (t % 4 == 0).then_some(n)
            });
            check(&kernel(op, bytes, ", %x3", ""), n, |t| {
                Some((t % 4 * 4).min(n))
            });
            check(&kernel(op, bytes, ", 0", ""), n, |_| Some(0));
            check(&kernel(op, bytes, ", %p0", ""), n, |t| {
                Some(if t % 4 == 0 { 0 } else { n })
            });
            let hint = format!("{op}.L2::cache_hint")
                .replace(".L2::128B.L2::cache_hint", ".L2::cache_hint.L2::128B");
            check(&kernel(&hint, bytes, ", %q3", ""), n, |_| Some(n));
            check(&kernel(&hint, bytes, ", %x3, %q3", "@!%p0"), n, |t| {
                (t % 4 != 0).then_some((t % 4 * 4).min(n))
            });
        }
    }
    check(&kernel("cg.shared.global.L2::64B", 16, "", ""), 16, |_| {
        Some(16)
    });
}

#[test]
fn bad_addresses_are_named() {
    // The source of the last threads lies outside; the target is not aligned.
    let outside = kernel("cg.shared.global", 16, "", "");
    let skew = kernel("cg.shared.global", 16, "", "add.s64 %q0, %q0, 4;");
    for (ptx, bytes, error) in [(&outside, 512, "illegal"), (&skew, 1024, "misaligned")] {
        for d in devices(ptx) {
            let (i, o) = (d.upload(&vec![0u8; bytes]), d.upload(&vec![0u8; 1024]));
            let args = [Arg::Ptr(i), Arg::Ptr(o)];
            let e = d
                .try_launch("k", [1; 3], [64, 1, 1], 0, &args)
                .unwrap_err()
                .to_string();
            assert!(
                e.to_lowercase().contains(error) && e.contains("cp.async"),
                "{e}"
            );
        }
    }
    // Nothing is read where the size is 0: an address of nothing is no fault.
    let none = kernel("cg.shared.global", 16, ", 0", "add.s64 %q0, %q0, 1048576;");
    check(&none, 16, |_| Some(0));
}
