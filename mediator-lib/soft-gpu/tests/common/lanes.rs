//! Single instructions over all combinations of some values, in every form of execution.
#![allow(dead_code, missing_docs, clippy::unwrap_used)] // each test file uses some of it, and fails by a panic

use super::{Arg, devices};

/// Runs `code`, which reads `%a %b %c` (of the register types given) and writes
/// `%d`, for every combination of the inputs; returns inputs and results.
pub fn run(code: &str, types: &[&str], dtype: &str, values: &[&[u64]]) -> Vec<(Vec<u64>, u64)> {
    let mut combos: Vec<Vec<u64>> = vec![vec![]];
    for v in values {
        combos = combos
            .iter()
            .flat_map(|c| v.iter().map(move |x| [c.clone(), vec![*x]].concat()))
            .collect();
    }
    let n = combos.len();
    let mut decl = String::new();
    let mut loads = String::new();
    for (k, t) in types.iter().enumerate() {
        let name = ["a", "b", "c"][k];
        decl += &format!(".reg .{t} %{name};\n");
        loads += &format!(
            "add.s64 %q, %in, {};\nld.global.{} %{name}, [%q];\n",
            8 * k,
            t
        );
    }
    let ptx = format!(
        ".version 8.7\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 i, .param .u64 o, .param .u32 n) {{\n\
         .reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<8>, %t<8>; .reg .b64 %in, %out, %q, %u<8>;\n{decl}.reg .{dtype} %d;\n\
         ld.param.u64 %in, [i]; ld.param.u64 %out, [o]; ld.param.u32 %r1, [n];\n\
         mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x; mad.lo.u32 %r5, %r2, %r3, %r4;\n\
         setp.ge.u32 %p7, %r5, %r1;\n@%p7 bra end;\n\
         mul.wide.u32 %q, %r5, 24; add.s64 %in, %in, %q; mul.wide.u32 %q, %r5, 8; add.s64 %out, %out, %q;\n\
         {loads}{code}\nst.global.{dtype} [%out], %d;\nend:\nret;\n}}\n"
    );
    let mut flat = Vec::new();
    for c in &combos {
        flat.extend(c.iter().copied().chain(std::iter::repeat(0)).take(3));
    }
    let mut results: Vec<Vec<u64>> = Vec::new();
    for d in devices(&ptx) {
        let (i, o) = (d.upload(&flat), d.upload(&vec![0u64; n]));
        d.launch(
            "k",
            (n as u32).div_ceil(64),
            64,
            &[Arg::Ptr(i), Arg::Ptr(o), Arg::U32(n as u32)],
        );
        results.push(d.download(o, n));
    }
    for r in &results[1..] {
        assert_eq!(
            &results[0], r,
            "results of {code} in two forms of execution"
        );
    }
    combos.into_iter().zip(results.swap_remove(0)).collect()
}

#[track_caller]
pub fn check(
    code: &str,
    types: &[&str],
    dtype: &str,
    values: &[&[u64]],
    want: impl Fn(&[u64]) -> u64,
) {
    for (i, got) in run(code, types, dtype, values) {
        let want = want(&i);
        assert_eq!(
            got, want,
            "{code} of {i:x?}: got {got:#x}, expected {want:#x}"
        );
    }
}
