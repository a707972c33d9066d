//! Vectors that one block writes while another reads them: a reader sees all elements of one write.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, devices};

/// Writes per run: enough that the blocks meet on two cores.
const WRITES: u32 = 20_000;

/// How a lane finds its place: all at one, one after another, in another order.
const PLACES: [(&str, &str); 3] = [
    ("uniform", ""),
    ("affine", "mad.wide.u32 %q, %t, 16, %q;"),
    ("vector", "xor.b32 %a, %t, 5; mad.wide.u32 %q, %a, 16, %q;"),
];

/// Block 0 stores `n, n, …` for ever larger `n`, block 1 loads until the last has come, and counts what is mixed.
fn kernel(store: &str, load: &str, count: usize, bits: u32, place: &str) -> String {
    let each = |f: &dyn Fn(usize) -> String, between: &str| {
        (0..count).map(f).collect::<Vec<_>>().join(between)
    };
    let mixed = each(
        &|k| format!("setp.ne.u{bits} %p, %v{k}, %v0; @%p add.u32 %d, %d, 1;\n"),
        "",
    );
    let (written, loaded) = (
        each(&|_| "%n".to_owned(), ", "),
        each(&|k| format!("%v{k}"), ", "),
    );
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 m, .param .u64 o) {{\n\
         .reg .pred %p; .reg .b32 %t, %a, %d; .reg .b64 %q, %o; .reg .b{bits} %n, %v<4>;\n\
         ld.param.u64 %q, [m]; ld.param.u64 %o, [o]; mov.u32 %t, %tid.x; mov.u32 %d, 0; mov.b{bits} %n, 0;\n\
         {place}\n\
         mov.u32 %a, %ctaid.x; setp.eq.u32 %p, %a, 0; @%p bra write;\n\
         read: {load} {{{loaded}}}, [%q];\n{mixed}\
         setp.ne.u{bits} %p, %v0, {WRITES}; @%p bra read;\n\
         mad.wide.u32 %o, %t, 4, %o; st.global.u32 [%o], %d; ret;\n\
         write: add.u{bits} %n, %n, 1; {store} [%q], {{{written}}};\n\
         setp.ne.u{bits} %p, %n, {WRITES}; @%p bra write; ret; }}\n"
    )
}

fn check(store: &str, load: &str, count: usize, bits: u32) {
    for (name, place) in PLACES {
        for (form, d) in devices(&kernel(store, load, count, bits, place))
            .iter()
            .enumerate()
        {
            let m = d.upload(&[0u32; 128]);
            let o = d.upload(&[u32::MAX; 32]);
            d.launch("k", 2, 32, &[Arg::Ptr(m), Arg::Ptr(o)]);
            let mixed: Vec<u32> = d.download(o, 32);
            assert_eq!(mixed, [0; 32], "{load}, {name}, form {form}");
        }
    }
}

#[test]
fn vectors_of_eight_bytes() {
    check("st.relaxed.gpu.v2.u32", "ld.relaxed.gpu.v2.u32", 2, 32);
    check(
        "st.volatile.global.v2.u32",
        "ld.volatile.global.v2.u32",
        2,
        32,
    );
}

#[test]
fn vectors_of_sixteen_bytes() {
    check(
        "st.release.gpu.global.v4.u32",
        "ld.acquire.gpu.global.v4.u32",
        4,
        32,
    );
    check("st.global.cg.v2.u64", "ld.global.cg.v2.u64", 2, 64);
}

#[test]
fn a_pair_of_halves_is_a_word() {
    check("st.volatile.v2.u16", "ld.volatile.v2.u16", 2, 16);
}
