//! `vgpu-ctl run vector_add`: one kernel, from the source text to the checked result, without
//! libcuda.

use anyhow::{Result, anyhow, bail};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, StreamId, stubs};
use vgpu_transport::Channel;
use vgpu_transport::copy::Place;
use vgpu_transport::user::{Source, Target};

const PTX: &str = concat!(include_str!("vector_add.ptx"), "\0");
const BLOCK: u32 = 256;

/// Names the call that failed.
fn call<T>(name: &str, result: Result<T, Status>) -> Result<T> {
    result.map_err(|status| anyhow!("{name}: {status}"))
}

fn bytes_of(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

/// Exact in `f32`, and different for neighbours.
fn a(i: u32) -> f32 {
    (i % 4096) as f32
}

fn b(i: u32) -> f32 {
    (i / 4096 % 4096) as f32 * 0.5
}

/// Runs the kernel and checks each element.
pub fn run(channel: &Channel, n: u32) -> Result<String> {
    call("cuInit", stubs::init(channel, CtxId(0), 0))?;
    let ctx = call("cuCtxCreate", stubs::ctx_create(channel, CtxId(0), 0, 0))?;
    let loaded = call(
        "cuModuleLoadDataEx",
        stubs::module_load(channel, ctx, PTX.as_bytes(), Vec::new()),
    )?;
    if Status(loaded.status) != Status::SUCCESS {
        bail!(
            "cuModuleLoadDataEx: {}\n{}",
            Status(loaded.status),
            loaded.error_log
        );
    }
    let kernel = call(
        "cuModuleGetFunction",
        stubs::module_get_function(channel, ctx, loaded.module, "vector_add"),
    )?;
    let bytes = u64::from(n) * 4;
    let alloc = || call("cuMemAlloc", stubs::mem_alloc(channel, ctx, bytes));
    let (in_a, in_b, out) = (alloc()?, alloc()?, alloc()?);
    let stream = StreamId(0);
    let place = Place { ctx, stream };
    let send = |to: DevPtr, data: Vec<u8>| {
        call(
            "cuMemcpyHtoD",
            channel.copy_to_device(place, to, Source::of(&data)),
        )
    };
    send(in_a, bytes_of((0..n).map(a)))?;
    send(in_b, bytes_of((0..n).map(b)))?;

    let mut params = Vec::new();
    for pointer in [in_a, in_b, out] {
        params.extend(pointer.0.to_le_bytes());
    }
    params.extend(n.to_le_bytes());
    let grid = [n.div_ceil(BLOCK), 1, 1];
    call(
        "cuLaunchKernel",
        stubs::launch_kernel(
            channel,
            ctx,
            kernel.function,
            grid,
            [BLOCK, 1, 1],
            0,
            stream,
            &params,
        ),
    )?;
    call("cuCtxSynchronize", stubs::ctx_synchronize(channel, ctx))?;

    let mut result = vec![0; bytes as usize];
    call(
        "cuMemcpyDtoH",
        channel.copy_from_device(place, out, Target::of(&mut result)),
    )?;
    for (i, value) in (0..n).zip(result.chunks_exact(4)) {
        let value = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
        let expected = a(i) + b(i);
        if value != expected {
            bail!("element {i} of {n}: {value}, expected {expected}");
        }
    }
    for pointer in [in_a, in_b, out] {
        call("cuMemFree", stubs::mem_free(channel, ctx, pointer))?;
    }
    call(
        "cuModuleUnload",
        stubs::module_unload(channel, ctx, loaded.module),
    )?;
    call("cuCtxSynchronize", stubs::ctx_synchronize(channel, ctx))?;
    call("cuCtxDestroy", stubs::ctx_destroy(channel, CtxId(0), ctx))?;
    Ok("Test passed: vector addition successful\n".into())
}
