//! Text of kernels, their heap, and the limits of both.

use vgpu_conformance::{Bench, Client, STREAM};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, FunctionInfo, stubs};
use vgpu_protocol::limits::{MAX_OUTPUT_BYTES, MAX_TEXT_REPLY_BYTES};

/// `CU_LIMIT_…`.
const STACK: u32 = 0;
const PRINTF: u32 = 1;
const HEAP: u32 = 2;
const SYNC_DEPTH: u32 = 3;

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n\
    .extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);\n\
    .extern .func (.param .b64 r) malloc (.param .b64 a);\n\
    .extern .func __assertfail (.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);\n";

/// Prints its parameter `n` as many times as there are threads.
fn printer() -> String {
    format!(
        "{HEAD}.global .align 1 .b8 fmt[4] = {{37, 117, 10, 0}};\n\
         .visible .entry k(.param .u32 n) {{ .local .align 8 .b8 buf[8]; .reg .b64 %q<4>; .reg .b32 %r;\n\
         ld.param.u32 %r, [n]; mov.u64 %q1, buf; st.local.u32 [%q1], %r; cvta.local.u64 %q1, %q1;\n\
         mov.u64 %q2, fmt; cvta.global.u64 %q2, %q2;\n\
         {{ .param .b64 p0; .param .b64 p1; .param .b32 ret; st.param.b64 [p0], %q2; st.param.b64 [p1], %q1;\n\
         call.uni (ret), vprintf, (p0, p1); }} ret; }}\n"
    )
}

fn loaded(client: &Client, ctx: CtxId, ptx: &str) -> FunctionInfo {
    let module = client.load(ctx, ptx);
    client.function(ctx, module, "k")
}

fn launch(client: &Client, ctx: CtxId, f: &FunctionInfo, blocks: u32, n: u32) {
    let params = n.to_le_bytes();
    let grid = [blocks, 1, 1];
    let done = stubs::launch_kernel(
        client,
        ctx,
        f.function,
        grid,
        [256, 1, 1],
        0,
        STREAM,
        &params,
    );
    done.expect("posted");
}

/// All text that is there.
fn all(client: &Client) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        let (o, e) = stubs::output(client, CtxId(0)).expect("answers");
        assert!(o.0.len() + e.0.len() <= MAX_TEXT_REPLY_BYTES);
        if o.0.is_empty() && e.0.is_empty() {
            return (out, err);
        }
        out.extend(o.0);
        err.extend(e.0);
    }
}

pub fn printf_in_order_of_launches(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let f = loaded(&client, ctx, &printer());
    assert_eq!(all(&client), (vec![], vec![]));
    launch(&client, ctx, &f, 1, 1);
    launch(&client, ctx, &f, 1, 2);
    stubs::ctx_synchronize(&client, ctx).expect("done");
    assert_eq!(
        all(&client),
        ([b"1\n".repeat(256), b"2\n".repeat(256)].concat(), vec![])
    );
    assert_eq!(all(&client), (vec![], vec![]));
}

pub fn the_printf_fifo_is_bounded(bench: &Bench) {
    let (client, ctx) = bench.ready();
    assert_eq!(stubs::ctx_get_limit(&client, ctx, PRINTF), Ok(1 << 20));
    stubs::ctx_set_limit(&client, ctx, PRINTF, 100).expect("not in use");
    let f = loaded(&client, ctx, &printer());
    launch(&client, ctx, &f, 1, 1);
    stubs::ctx_synchronize(&client, ctx).expect("done");
    assert_eq!(all(&client).0, b"1\n".repeat(50));
    let late = stubs::ctx_set_limit(&client, ctx, PRINTF, 200);
    assert_eq!(late, Err(Status::ERROR_INVALID_VALUE));
}

pub fn text_that_nobody_takes_is_bounded(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let f = loaded(&client, ctx, &printer());
    // A full FIFO for each launch: 1024 · 256 lines of 4 bytes.
    let launches = MAX_OUTPUT_BYTES as u32 / (1 << 20) + 1;
    for n in 0..launches {
        launch(&client, ctx, &f, 1024, 100 + n);
    }
    stubs::ctx_synchronize(&client, ctx).expect("done");
    let (out, _) = all(&client);
    assert_eq!(out.len(), MAX_OUTPUT_BYTES);
    assert!(out.starts_with(b"101\n") && out.ends_with(b"116\n"));
}

pub fn a_failed_assertion_ends_its_context(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let ptx = format!(
        "{HEAD}.global .align 1 .b8 t[2] = {{120, 0}};\n\
         .visible .entry k() {{ .reg .b64 %q; mov.u64 %q, t; cvta.global.u64 %q, %q;\n\
         {{ .param .b64 p0; .param .b64 p1; .param .b32 p2; .param .b64 p3; .param .b64 p4;\n\
         st.param.b64 [p0], %q; st.param.b64 [p1], %q; st.param.b32 [p2], 7; st.param.b64 [p3], %q; st.param.b64 [p4], 1;\n\
         call.uni __assertfail, (p0, p1, p2, p3, p4); }} ret; }}\n"
    );
    let f = loaded(&client, ctx, &ptx);
    client.launch(ctx, &f, 2, &[]).expect("launched");
    let ended = Err(Status::ERROR_ASSERT);
    assert_eq!(stubs::ctx_synchronize(&client, ctx), ended);
    assert_eq!(stubs::ctx_synchronize(&client, ctx), ended, "sticky");
    let lines = "x:7: x: block: [0,0,0], thread: [0,0,0] Assertion `x` failed.\n\
                 x:7: x: block: [0,0,0], thread: [1,0,0] Assertion `x` failed.\n";
    assert_eq!(all(&client), (vec![], lines.into()));
}

pub fn the_device_heap(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let before = stubs::mem_get_info(&client, ctx).expect("answers").0;
    assert_eq!(stubs::ctx_get_limit(&client, ctx, HEAP), Ok(8 << 20));
    let too_large = stubs::ctx_set_limit(&client, ctx, HEAP, (256 << 20) + 1);
    assert_eq!(too_large, Err(Status::ERROR_INVALID_VALUE));
    stubs::ctx_set_limit(&client, ctx, HEAP, 1 << 20).expect("no module yet");
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 o, .param .u64 n) {{ .reg .b64 %q<4>;\n\
         ld.param.u64 %q1, [o]; ld.param.u64 %q2, [n];\n\
         {{ .param .b64 p0; .param .b64 ret; st.param.b64 [p0], %q2; call.uni (ret), malloc, (p0); ld.param.b64 %q3, [ret]; }}\n\
         st.global.u64 [%q1], %q3; ret; }}\n"
    );
    let f = loaded(&client, ctx, &ptx);
    let after = stubs::mem_get_info(&client, ctx).expect("answers").0;
    assert_eq!(before - after, 1 << 20, "the heap is the VM's memory");
    let late = stubs::ctx_set_limit(&client, ctx, HEAP, 1 << 20);
    assert_eq!(late, Err(Status::ERROR_INVALID_VALUE));
    let at = client.alloc(ctx, 8);
    let malloc = |bytes: u64| {
        let params = [at.0.to_le_bytes(), bytes.to_le_bytes()].concat();
        client.launch(ctx, &f, 1, &params).expect("launched");
        u64::from_le_bytes(client.read(ctx, at, 8).try_into().expect("8 bytes"))
    };
    assert_eq!(malloc((1 << 20) + 1), 0);
    let all = malloc(1 << 20);
    assert!(all != 0 && all.is_multiple_of(16));
    assert_eq!(malloc(1), 0, "blocks live as long as the context");
}

pub fn the_stack_s_limit(bench: &Bench) {
    let (client, ctx) = bench.ready();
    assert_eq!(stubs::ctx_get_limit(&client, ctx, STACK), Ok(1024));
    for (value, is) in [(4096, 4096), (4097, 4112), (u64::MAX, 512 << 10)] {
        stubs::ctx_set_limit(&client, ctx, STACK, value).expect("set");
        assert_eq!(stubs::ctx_get_limit(&client, ctx, STACK), Ok(is));
    }
    let depth = stubs::ctx_get_limit(&client, ctx, SYNC_DEPTH);
    assert_eq!(depth, Err(Status::ERROR_UNSUPPORTED_LIMIT));
}
