//! Linking of several texts into one module.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::sync::Arc;

use vgpu_soft_gpu::{
    Abort, AddressSpace, Gpu, InputKind, LaunchConfig, LaunchOptions, LinkError, Linker, LoadError,
    LoadOptions, Module,
};

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

/// A kernel that adds what two functions and two variables of other texts give.
fn main_text() -> String {
    format!(
        "{HEAD}.extern .func (.param .b32 r) first(.param .b32 a);\n\
         .extern .func (.param .b32 r) second(.param .b32 a);\n\
         .extern .global .align 4 .u32 shared_one; .extern .global .align 4 .b8 table[];\n\
         .global .align 4 .u32 own = 1000;\n\
         .visible .entry k(.param .u64 o) {{ .reg .b32 %r<9>; .reg .b64 %q;\n\
         {{ .param .b32 a; .param .b32 b; st.param.b32 [a], 5; call (b), first, (a); ld.param.b32 %r1, [b]; }}\n\
         {{ .param .b32 a; .param .b32 b; st.param.b32 [a], 5; call (b), second, (a); ld.param.b32 %r2, [b]; }}\n\
         ld.global.u32 %r3, [shared_one]; ld.global.u32 %r4, [table+4]; ld.global.u32 %r5, [own];\n\
         add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; add.u32 %r1, %r1, %r4; add.u32 %r1, %r1, %r5;\n\
         ld.param.u64 %q, [o]; st.global.u32 [%q], %r1; ret; }}\n"
    )
}

/// Defines `name(a) = a + own` with a variable of its own, and more.
fn function_text(name: &str, own: u32, more: &str) -> String {
    format!(
        "{HEAD}.global .align 4 .u32 own = {own};\n{more}\n\
         .visible .func (.param .b32 r) {name}(.param .b32 a) {{ .reg .b32 %r<4>;\n\
         ld.param.b32 %r1, [a]; ld.global.u32 %r2, [own]; add.u32 %r3, %r1, %r2; st.param.b32 [r], %r3; ret; }}\n"
    )
}

fn run(image: &[u8]) -> u32 {
    let space = Arc::new(AddressSpace::new(1 << 20).unwrap());
    let module = Module::load(image, &LoadOptions::default(), &space).unwrap();
    let o = space.alloc(4, 4).unwrap();
    let cfg = LaunchConfig {
        grid: [1; 3],
        block: [1; 3],
        dynamic_shared_bytes: 0,
    };
    let gpu = Gpu::new(1).unwrap();
    let f = module.function("k").unwrap();
    let options = LaunchOptions::default();
    gpu.launch(&space, &f, &cfg, &o.to_le_bytes(), &options, &Abort::new())
        .unwrap();
    let mut out = [0; 4];
    space.read(o, &mut out).unwrap();
    u32::from_le_bytes(out)
}

fn linked(texts: &[(&str, String)]) -> Result<Vec<u8>, LinkError> {
    let mut linker = Linker::default();
    for (name, text) in texts {
        linker.add(InputKind::Ptx, text.as_bytes(), name).unwrap();
    }
    linker.complete()
}

#[test]
fn names_of_other_texts_are_found_and_own_ones_stay_apart() {
    let a = function_text(
        "first",
        10,
        ".visible .global .align 4 .u32 shared_one = 100;",
    );
    let b = function_text(
        "second",
        20,
        ".visible .global .align 4 .b8 table[8] = {0, 0, 0, 0, 0, 1, 0, 0};",
    );
    let all = [("main", main_text()), ("a", a), ("b", b)];
    // 5 + 10, 5 + 20, 100, 256, 1000.
    let sum = 15 + 25 + 100 + 256 + 1000;
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let texts = order.map(|k: usize| all[k].clone());
        assert_eq!(run(&linked(&texts).unwrap()), sum, "{order:?}");
    }
}

#[test]
fn a_weak_definition_gives_way() {
    let text = |linkage: &str, value: u32| {
        format!("{HEAD}{linkage} .global .align 4 .u32 shared_one = {value};\n")
    };
    let a = function_text("first", 0, "");
    let b = function_text("second", 0, ".visible .global .align 4 .b8 table[8];");
    let with = |x: String, y: String| {
        run(&linked(&[
            ("main", main_text()),
            ("x", x),
            ("a", a.clone()),
            ("b", b.clone()),
            ("y", y),
        ])
        .unwrap())
    };
    assert_eq!(with(text(".weak", 1), text(".visible", 2)), 10 + 2 + 1000);
    assert_eq!(with(text(".visible", 1), text(".weak", 2)), 10 + 1 + 1000);
    assert_eq!(with(text(".weak", 1), text(".weak", 2)), 10 + 1 + 1000);
}

#[test]
fn what_is_missing_or_there_twice_is_named() {
    let log = |texts: &[(&str, String)]| match linked(texts) {
        Err(LinkError::Symbols(log)) => log,
        other => panic!("{other:?}"),
    };
    let a = function_text("first", 0, "");
    let missing = log(&[("main.ptx", main_text()), ("a.ptx", a.clone())]);
    for name in ["second", "shared_one", "table"] {
        let line = format!("error   : Undefined reference to '{name}' in 'main.ptx'\n");
        assert!(missing.contains(&line), "{missing}");
    }
    assert!(!missing.contains("first"));
    let twice = log(&[("a.ptx", a.clone()), ("b.ptx", a.clone())]);
    assert_eq!(
        twice,
        "error   : Multiple definition of 'first' in 'b.ptx', first defined in 'a.ptx'\n"
    );
    let other = format!(
        "{HEAD}.extern .func (.param .b64 r) first(.param .b32 a);\n\
         .visible .entry k() {{ {{ .param .b32 a; .param .b64 b; call (b), first, (a); }} ret; }}\n"
    );
    let differs = log(&[("a.ptx", a), ("c.ptx", other)]);
    assert!(
        differs.contains("Prototype doesn't match for 'first' in 'c.ptx'"),
        "{differs}"
    );
}

#[test]
fn system_calls_and_dynamic_shared_memory_need_no_definition() {
    let text = |k: &str| {
        format!(
            "{HEAD}.extern .shared .align 16 .b8 buffer[];\n.extern .func (.param .b64 r) malloc(.param .b64 a);\n\
             .visible .entry {k}(.param .u64 o) {{ .reg .b32 %r<3>; .reg .b64 %q<3>;\n\
             {{ .param .b64 a; .param .b64 b; st.param.b64 [a], 16; call (b), malloc, (a); ld.param.b64 %q2, [b]; }}\n\
             mov.u32 %r1, buffer; ld.param.u64 %q1, [o]; add.u32 %r1, %r1, 7; st.global.u32 [%q1], %r1; ret; }}\n"
        )
    };
    let image = linked(&[("a", text("k")), ("b", text("other"))]).unwrap();
    assert_eq!(run(&image), 7);
}

#[test]
fn an_alias_is_another_name() {
    let text = format!(
        "{HEAD}.visible .func (.param .b32 r) two(.param .b32 a);\n\
         .visible .func (.param .b32 r) one(.param .b32 a) {{ .reg .b32 %r<3>; ld.param.b32 %r1, [a]; add.u32 %r2, %r1, 1; st.param.b32 [r], %r2; ret; }}\n\
         .alias two, one;\n\
         .visible .entry k(.param .u64 o) {{ .reg .b32 %r; .reg .b64 %q; ld.param.u64 %q, [o];\n\
         {{ .param .b32 a; .param .b32 b; st.param.b32 [a], 5; call (b), two, (a); ld.param.b32 %r, [b]; }}\n\
         st.global.u32 [%q], %r; ret; }}\n"
    );
    assert_eq!(run(text.as_bytes()), 6);
}

#[test]
fn inputs_that_cannot_be_executed_say_so() {
    let mut linker = Linker::default();
    let machine_code = b"\x7fELF and so on, without a fat binary";
    for kind in [InputKind::Cubin, InputKind::Object, InputKind::Library] {
        let e = linker
            .add(kind, machine_code, "libcudadevrt.a")
            .unwrap_err();
        let LinkError::Input { name, error } = e else {
            panic!("{e}")
        };
        assert_eq!(
            (name.as_str(), error),
            ("libcudadevrt.a", LoadError::NoBinaryForGpu)
        );
    }
    let e = linker.add(InputKind::Ptx, b".version 8.0\n.target sm_80\nbroken", "x");
    assert!(
        matches!(
            &e,
            Err(LinkError::Input {
                error: LoadError::InvalidPtx { line: 3, .. },
                ..
            })
        ),
        "{e:?}"
    );
    // An object file holds fat binaries among other bytes.
    let image = linked(&[("k", format!("{HEAD}.visible .entry k(.param .u64 o) {{ .reg .b64 %q; ld.param.u64 %q, [o]; st.global.u32 [%q], 3; ret; }}"))]).unwrap();
    let mut object = machine_code.to_vec();
    object.resize(object.len().next_multiple_of(8), 0);
    object.extend(image);
    object.extend(b"more bytes");
    linker.add(InputKind::Object, &object, "o").unwrap();
    assert_eq!(run(&linker.complete().unwrap()), 3);
}
