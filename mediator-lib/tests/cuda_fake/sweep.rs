//! Each driver call of a session's work fails in turn, and each function that a driver may lack is missing in turn:
//! the guest gets the error, nothing is left, and the rest goes on.

use std::collections::BTreeMap;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, EventId, GraphChange, GraphId, LaunchAttribute, MemOp, StreamId, request,
};

use crate::blas_calls::{self, HANDLE};
use crate::harness::{
    Channel, DEFAULT, FakeDriver, KIB, MIB, OpenDriver, PTX, eventually, fill_params, list, node,
    span,
};

const STREAM: StreamId = StreamId(7);
const GRAPH: GraphId = GraphId(9);
const CHUNK: u64 = 2 * MIB;

/// A part of what sessions do, in a context.
pub type Part = fn(&mut Channel, CtxId) -> Result<(), Status>;

/// Together they make every kind of driver call.
pub const PARTS: &[(&str, Part)] = &[
    ("kernels", kernels),
    ("launch attributes", launch_attributes),
    ("memory", memory),
    ("sets", sets),
    ("arena", arena),
    ("streams and events", events),
    ("variables", variables),
    ("kernels by number", listed),
    ("attributes of kernels", attributes),
    ("limits", limits),
    ("graphs", graphs),
    ("words", words),
    ("mappings", mappings),
    ("the linker", linker),
    ("priorities", priorities),
    ("host memory", host_memory),
    ("functions of the program", functions),
    ("cuBLAS", blas),
    ("batches", batches),
    ("cublasLt", lt),
];

/// An answer that carries a status is an error as any other.
fn in_band(status: u32) -> Result<(), Status> {
    Status(status).ok()
}

fn module(c: &mut Channel, ctx: CtxId) -> Result<vgpu_protocol::calls::ModuleId, Status> {
    let loaded = c.session.module_load(ctx, PTX.as_bytes(), Vec::new())?;
    in_band(loaded.status)?;
    Ok(loaded.module)
}

fn kernels(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let module = module(c, ctx)?;
    let fill = c.session.module_get_function(ctx, module, "fill")?;
    let to = c.session.mem_alloc(ctx, 64)?;
    c.launch(ctx, fill.function, DEFAULT, &fill_params(to, 7, 1))?;
    let read = c.session.memcpy_dtoh_inline(ctx, to, DEFAULT, 4)?;
    assert_eq!(read.0, [7, 0, 0, 0]);
    c.session.mem_free(ctx, to)?;
    c.session.module_unload(ctx, module)?;
    c.session.ctx_synchronize(ctx)
}

fn launch_attributes(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let module = module(c, ctx)?;
    let nothing = c.session.module_get_function(ctx, module, "nothing")?;
    let cooperative = LaunchAttribute {
        id: 2,
        value: [1, 0, 0, 0, 0, 0, 0, 0],
    };
    let (grid, attributes) = ([1; 3], vec![cooperative]);
    c.session.launch_kernel_ex(
        ctx,
        nothing.function,
        grid,
        grid,
        0,
        DEFAULT,
        attributes,
        &[],
    )?;
    c.session.module_unload(ctx, module)
}

fn memory(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    let one = s.mem_alloc(ctx, 4096)?;
    let (rows, _) = s.mem_alloc_pitch(ctx, 100, 3, 4)?;
    s.memcpy_htod_inline(ctx, one, DEFAULT, b"text")?;
    s.memcpy_dtod(ctx, rows, one, 4, DEFAULT)?;
    assert_eq!(s.memcpy_dtoh_inline(ctx, rows, DEFAULT, 4)?.0, b"text");
    s.mem_get_info(ctx)?;
    s.mem_free(ctx, one)?;
    s.mem_free(ctx, rows)
}

fn sets(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    let to = s.mem_alloc(ctx, 64)?;
    for width in [1u8, 2, 4] {
        s.memset(ctx, to, width, 5, 4, DEFAULT)?;
        s.memset_2d(ctx, to, 16, width, 6, 2, 3, DEFAULT)?;
    }
    s.mem_free(ctx, to)
}

fn arena(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    c.arena.write(0, &[3; 4096]).expect("inside");
    let bytes = 128 * KIB;
    let to = c.session.mem_alloc(ctx, bytes)?;
    c.session.memcpy_htod(ctx, to, DEFAULT, span(0, bytes))?;
    c.session
        .memcpy_dtoh(ctx, to, DEFAULT, span(bytes, bytes))?;
    c.session.mem_free(ctx, to)
}

fn events(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    s.stream_create(ctx, STREAM, 1, 0)?;
    let (from, to) = (EventId(1), EventId(2));
    s.event_create(ctx, from, 0)?;
    s.event_create(ctx, to, 0)?;
    s.event_record(ctx, from, STREAM, 0)?;
    s.stream_wait_event(ctx, DEFAULT, from, 0)?;
    s.event_record(ctx, to, STREAM, 0)?;
    s.event_synchronize(ctx, to)?;
    s.event_elapsed_time(ctx, from, to)?;
    s.stream_query(ctx, STREAM)?;
    s.stream_synchronize(ctx, STREAM)?;
    s.event_destroy(ctx, from)?;
    s.event_destroy(ctx, to)?;
    s.stream_destroy(ctx, STREAM)
}

fn variables(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let module = module(c, ctx)?;
    let (at, bytes) = c.session.module_get_global(ctx, module, "table")?;
    c.session.memset(ctx, at, 1, 1, bytes, DEFAULT)?;
    c.session.module_unload(ctx, module)
}

fn listed(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let module = module(c, ctx)?;
    c.session.module_functions(ctx, module)?;
    c.session.module_unload(ctx, module)
}

fn attributes(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let module = module(c, ctx)?;
    let found = c.session.module_get_function(ctx, module, "nothing")?;
    // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
    c.session.func_set_attribute(ctx, found.function, 8, 1024)?;
    c.session.module_unload(ctx, module)
}

fn limits(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    c.session.ctx_get_limit(ctx, 2)?;
    c.session.ctx_set_limit(ctx, 2, MIB)
}

fn graphs(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let to = c.session.mem_alloc(ctx, 64)?;
    let set = |value| node(|w| request::memset(w, to, 4, value, 4, DEFAULT), &[]);
    let s = &mut c.session;
    s.graph_instantiate(ctx, GRAPH, &list(&[set(1), set(2)]))?;
    let changed = set(3);
    let change = GraphChange {
        node: 1,
        opcode: changed.opcode,
        request: changed.request,
    };
    s.graph_update(ctx, GRAPH, &list(&[change]))?;
    s.graph_launch(ctx, GRAPH, DEFAULT)?;
    s.ctx_synchronize(ctx)?;
    s.graph_destroy(ctx, GRAPH)?;
    s.mem_free(ctx, to)
}

fn words(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let to = c.session.mem_alloc(ctx, 64)?;
    // CU_STREAM_MEM_OP_WRITE_VALUE_32, and a wait for it.
    let operation = |kind, value| MemOp {
        kind,
        flags: 0,
        address: to,
        value,
    };
    let s = &mut c.session;
    s.stream_create(ctx, STREAM, 1, 0)?;
    s.stream_batch_mem_op(ctx, STREAM, vec![operation(2, 5), operation(1, 5)])?;
    s.stream_synchronize(ctx, STREAM)?;
    s.stream_destroy(ctx, STREAM)?;
    s.mem_free(ctx, to)
}

fn mappings(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    let base = s.address_reserve(ctx, 2 * CHUNK, 0, DevPtr(0))?;
    let memory = s.physical_create(ctx, CHUNK)?;
    s.physical_map(ctx, base, CHUNK, memory)?;
    s.physical_set_access(ctx, base, CHUNK, 3)?;
    s.memset(ctx, base, 4, 1, 8, DEFAULT)?;
    s.physical_unmap(ctx, base, CHUNK)?;
    s.physical_release(ctx, memory)?;
    s.address_free(ctx, base, 2 * CHUNK)
}

fn linker(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    let link = s.link_create(ctx, Vec::new())?;
    let added = s.link_add(ctx, link, 1, "one", Vec::new(), b".version 8.0\n")?;
    in_band(added.status)?;
    let (report, _) = s.link_complete(ctx, link)?;
    in_band(report.status)?;
    s.link_destroy(ctx, link)
}

fn priorities(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    c.session.stream_create(ctx, STREAM, 1, -5)?;
    c.session.stream_destroy(ctx, STREAM)
}

fn host_memory(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    let (_, pinned) = s.host_alloc(ctx, 4096)?;
    let (_, managed) = s.managed_alloc(ctx, 4096)?;
    s.memset(ctx, managed, 4, 1, 8, DEFAULT)?;
    s.memcpy_dtod(ctx, pinned, managed, 32, DEFAULT)?;
    s.host_free(ctx, managed)?;
    s.host_free(ctx, pinned)
}

fn functions(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    s.stream_create(ctx, STREAM, 1, 0)?;
    s.launch_host_func(ctx, STREAM, 5)?;
    let mut called = false;
    eventually("the function is called", || {
        called = called || c.callbacks.next().is_some();
        called || c.session.stream_query(ctx, STREAM) != Err(Status::ERROR_NOT_READY)
    });
    c.callbacks.done(1);
    c.session.stream_synchronize(ctx, STREAM)?;
    c.session.stream_destroy(ctx, STREAM)
}

fn blas(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    in_band(c.session.blas_create(ctx, HANDLE)?)?;
    let memory = blas_calls::try_memory(c, ctx)?;
    let at = memory[&blas_calls::Part::A];
    let workspace = blas_calls::target(DEFAULT);
    c.session
        .blas_set_workspace(ctx, workspace, DevPtr(at), 4096)?;
    let names = ["cublasSaxpy_v2", "cublasSgemv_v2", "cublasStrsm_v2"];
    let results = ["cublasSdot_v2"];
    for case in blas_calls::every_routine(&memory) {
        if names.contains(&case.name.as_str()) {
            blas_calls::send(c, ctx, case.op)?;
        } else if results.contains(&case.name.as_str()) {
            let on_the_device = blas_calls::on_the_device(&memory, &case.op);
            blas_calls::send(c, ctx, on_the_device)?;
            blas_calls::send(c, ctx, case.op)?;
        }
    }
    c.session.blas_gemm(ctx, blas_calls::gemm(&memory, 0, 68))?;
    c.session.blas_destroy(ctx, HANDLE)?;
    blas_calls::free(c, ctx, &memory)
}

fn batches(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    in_band(c.session.blas_create(ctx, HANDLE)?)?;
    let memory = blas_calls::try_memory(c, ctx)?;
    for case in blas_calls::every_routine(&memory) {
        if case.name == "cublasSgetrfBatched" {
            blas_calls::send(c, ctx, case.op)?;
        }
    }
    let s = &mut c.session;
    let gemm = blas_calls::gemm(&memory, 0, 68);
    s.blas_gemm_batched(ctx, gemm.clone())?;
    s.blas_gemm_strided(ctx, gemm)?;
    s.blas_trsm_batched(ctx, blas_calls::trsm(&memory, 0))?;
    s.blas_destroy(ctx, HANDLE)?;
    blas_calls::free(c, ctx, &memory)
}

fn lt(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    in_band(c.session.blas_lt_create(ctx)?.status)?;
    let base = c.session.mem_alloc(ctx, 256)?;
    c.session.blas_lt_matmul(ctx, crate::lt::product(base.0))?;
    c.session
        .blas_lt_transform(ctx, crate::lt::transform(base.0))?;
    c.session.mem_free(ctx, base)
}

/// All of it, until something fails.
pub fn session(c: &mut Channel) -> Result<(), Status> {
    c.session.init(CtxId(0), 0)?;
    let ctx = c.session.ctx_create(CtxId(0), 0, 0)?;
    for (_, part) in PARTS {
        part(c, ctx)?;
    }
    c.session.ctx_destroy(ctx, ctx)
}

/// Calls that may fail without an error for the guest, because there is another way.
const WITHOUT_CONSEQUENCE: &[&str] = &[
    // The arena stays unpinned.
    "cuMemHostRegister_v2",
    // The graph is made anew.
    "cuGraphExecUpdate_v2",
];

/// Calls of a wait before a module or a context is destroyed.
const WAITS_BEFORE_AN_END: &[&str] = &["cuEventCreate", "cuEventRecord"];

#[test]
fn whichever_call_fails_everything_is_freed() {
    // Out of memory; the GPU is gone, an uncorrectable ECC error, a failed launch.
    for status in [2, 46, 214, 719] {
        let driver = FakeDriver::new("");
        let backend = driver.open_whole();
        let mut failed = BTreeMap::new();
        let mut nth = 0;
        loop {
            nth += 1;
            driver.configure(&format!("failing {nth} {status}"));
            let before = driver.logged();
            let mut c = Channel::open(&backend);
            let outcome = session(&mut c);
            let budget = std::sync::Arc::clone(&c.budget);
            drop(c);
            eventually("what the session held is given back", || {
                budget.free() == budget.limit()
            });
            let calls = driver.calls_since(before);
            let ending = format!(" = {status}");
            let hit = calls.iter().find_map(|line| line.strip_suffix(&ending));
            let Some(hit) = hit else {
                assert_eq!(outcome, Ok(()), "nothing failed");
                break;
            };
            match outcome {
                // What cuBLAS returns is no error of CUDA's; from one that made no handle it is the answer.
                Err(Status::ERROR_UNKNOWN) if hit.starts_with("cublas") => {}
                Err(error) => assert_eq!(error, Status(status), "{hit}, call {nth}"),
                Ok(()) => assert!(
                    WITHOUT_CONSEQUENCE.contains(&hit)
                        // What fails so is gone, and so is what is being destroyed.
                        || status != 2 && WAITS_BEFORE_AN_END.contains(&hit),
                    "call {nth}, {hit}, failed with {status} and nobody was told"
                ),
            }
            eventually(&format!("all is freed after {hit}, call {nth}"), || {
                driver.live()
                    == "live contexts=0 streams=0 events=0 modules=0 memory=0 pins=0 graphs=0"
            });
            *failed.entry(hit.to_owned()).or_insert(0) += 1;
        }
        // What a session needs, at the least.
        for call in [
            "cuCtxCreate_v2",
            "cuMemAlloc_v2",
            "cuModuleLoadDataEx",
            "cuLaunchKernel",
            "cuMemCreate",
            "cuLinkCreate_v2",
            "cuGraphInstantiateWithFlags",
            "cuStreamCreateWithPriority",
            "cuEventCreate",
            "cuMemAddressReserve",
            "cublasCreate_v2",
            "cublasSgemv_v2",
            "cublasGemmEx",
            "cublasLtMatmul",
        ] {
            assert!(failed.contains_key(call), "{call} did not fail: {failed:?}");
        }
    }
}

/// Functions without which the backend does not open, besides those that its source lists as required.
const FOR_OPENING: &[&str] = &["cuCtxGetStreamPriorityRange"];

/// Functions that the backend can do without, as its source lists them.
fn optional() -> Vec<&'static str> {
    let source = include_str!("../../src/backend/cuda/sys/mod.rs");
    let (_, list) = source.split_once("\nfunctions! {").expect("the list");
    let (checked, rest) = list.split_once("required {").expect("the required ones");
    let (required, _) = rest.split_once('}').expect("their end");
    let required: Vec<&str> = required.split_whitespace().collect();
    let names = checked.lines().filter_map(|line| {
        let name = line.trim().split_once('(')?.0;
        name.starts_with("cu").then_some(name)
    });
    names
        .filter(|name| !required.contains(name) && !FOR_OPENING.contains(name))
        .collect()
}

#[test]
fn whichever_function_is_missing_the_rest_works() {
    let all = FakeDriver::new("");
    let names = optional();
    assert!(names.len() > 40, "{names:?}");
    let mut tried = 0;
    for name in names {
        if !all.exports(name) {
            // No part needs it: the fake driver never had it.
            continue;
        }
        tried += 1;
        let driver = FakeDriver::without(&[name], "");
        let mut c = Channel::open(&driver.open_whole());
        c.session.init(CtxId(0), 0).expect("cuInit");
        let mut lost = Vec::new();
        for (part, body) in PARTS {
            // A new context for each: what a part leaves after an error must not disturb the next.
            let ctx = c.session.ctx_create(CtxId(0), 0, 0).expect("a context");
            match body(&mut c, ctx) {
                Ok(()) => {}
                Err(Status::ERROR_NOT_SUPPORTED) => lost.push(*part),
                Err(other) => panic!("without {name}, {part}: {other}"),
            }
            c.session.ctx_destroy(ctx, ctx).expect("destroyed");
            let s = &mut c.session;
            // Those that belong to no context, where a part has left them.
            let _ = (
                s.stream_destroy(CtxId(0), STREAM),
                s.graph_destroy(CtxId(0), GRAPH),
                s.blas_destroy(CtxId(0), HANDLE),
            );
        }
        // What so many parts share is what no program can do without.
        let basic = matches!(
            name,
            "cuMemAlloc_v2"
                | "cuMemFree_v2"
                | "cuModuleLoadDataEx"
                | "cuMemsetD8Async"
                | "cuMemcpyDtoHAsync_v2"
        );
        assert!(
            lost.len() <= if basic { PARTS.len() } else { 6 },
            "without {name} is lost: {lost:?}"
        );
        drop(c);
        let left = driver.live();
        assert!(
            left.is_empty() || left.starts_with("live contexts=0 streams=0 events=0 modules=0"),
            "without {name}: {left}"
        );
    }
    assert!(tried > 30, "{tried} functions were tried");
}
