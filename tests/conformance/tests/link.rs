//! The linker.

use vgpu_conformance::{Bench, Client};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, JitReport, LinkId, ModuleId, stubs};
use vgpu_protocol::limits::MAX_LINKS;

/// `CUjitInputType`.
const CUBIN: u32 = 0;
const PTX: u32 = 1;
const LIBRARY: u32 = 4;

const CALLER: &str = ".version 8.0\n.target sm_80\n.address_size 64\n\
    .extern .func (.param .b32 r) twice(.param .b32 a);\n\
    .visible .entry k(.param .u64 o) { .reg .b32 %r; .reg .b64 %q; ld.param.u64 %q, [o]; cvta.to.global.u64 %q, %q;\n\
    { .param .b32 a; .param .b32 b; st.param.b32 [a], 21; call (b), twice, (a); ld.param.b32 %r, [b]; }\n\
    st.global.u32 [%q], %r; ret; }\n";
const CALLEE: &str = ".version 8.0\n.target sm_80\n.address_size 64\n\
    .visible .func (.param .b32 r) twice(.param .b32 a) { .reg .b32 %r<3>; ld.param.b32 %r1, [a]; add.u32 %r2, %r1, %r1;\n\
    st.param.b32 [r], %r2; ret; }\n";

fn add(client: &Client, ctx: CtxId, link: LinkId, kind: u32, name: &str, data: &[u8]) -> JitReport {
    stubs::link_add(client, ctx, link, kind, name, Vec::new(), data).expect("an answer")
}

pub fn two_texts_become_one_module(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let link = stubs::link_create(&client, ctx, Vec::new()).expect("created");
    for (name, text) in [("caller", CALLER), ("callee", CALLEE)] {
        let text = [text.as_bytes(), &[0]].concat();
        let report = add(&client, ctx, link, PTX, name, &text);
        assert_eq!(report.status, 0, "{}", report.error_log);
    }
    let (report, image) = stubs::link_complete(&client, ctx, link).expect("an answer");
    assert_eq!(report.status, 0, "{}", report.error_log);
    stubs::link_destroy(&client, ctx, link).expect("posted");
    let loaded = stubs::module_load(&client, ctx, &image.0, Vec::new()).expect("an answer");
    assert_eq!(loaded.status, 0, "{}", loaded.error_log);
    let f = client.function(ctx, ModuleId(loaded.module.0), "k");
    let at = client.alloc(ctx, 4);
    client
        .launch(ctx, &f, 1, &at.0.to_le_bytes())
        .expect("launched");
    assert_eq!(client.read(ctx, at, 4), 42u32.to_le_bytes());
}

pub fn what_cannot_be_linked_says_why(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let link = stubs::link_create(&client, ctx, Vec::new()).expect("created");
    let broken = add(
        &client,
        ctx,
        link,
        PTX,
        "x.ptx",
        b".version 8.0\n.target sm_80\n.broken\0",
    );
    assert_eq!(Status(broken.status), Status::ERROR_INVALID_PTX);
    assert!(broken.error_log.contains("line 3"), "{}", broken.error_log);
    let text = [CALLER.as_bytes(), &[0]].concat();
    assert_eq!(add(&client, ctx, link, PTX, "caller", &text).status, 0);
    let (report, image) = stubs::link_complete(&client, ctx, link).expect("an answer");
    assert!(report.status != 0 && image.0.is_empty());
    let named = report.error_log.contains("'twice'");
    assert!(named, "{}", report.error_log);
    let unknown = stubs::link_complete(&client, ctx, LinkId(99));
    assert_eq!(unknown.err(), Some(Status::ERROR_INVALID_HANDLE));
}

pub fn machine_code_is_not_linked(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let link = stubs::link_create(&client, ctx, Vec::new()).expect("created");
    for kind in [CUBIN, LIBRARY] {
        let report = add(
            &client,
            ctx,
            link,
            kind,
            "libcudadevrt.a",
            b"\x7fELF machine code",
        );
        assert_eq!(Status(report.status), Status::ERROR_NO_BINARY_FOR_GPU);
        assert!(report.error_log.starts_with("libcudadevrt.a: "));
    }
    let all: Vec<_> = (1..MAX_LINKS)
        .map(|_| stubs::link_create(&client, ctx, Vec::new()).expect("room"))
        .collect();
    let above = stubs::link_create(&client, ctx, Vec::new());
    assert_eq!(above.err(), Some(Status::ERROR_OUT_OF_MEMORY));
    assert_eq!(all.len(), MAX_LINKS - 1);
}
