//! What nodes do, asked and changed, in graphs and in executable ones.

use std::mem::offset_of;

use cudarc::driver::sys::{
    CUDA_KERNEL_NODE_PARAMS_v2_st as KernelParams, CUDA_MEM_ALLOC_NODE_PARAMS_v1_st as AllocParams,
    CUDA_MEMCPY_NODE_PARAMS_st as CopyParams, CUDA_MEMSET_NODE_PARAMS_st as SetParams,
    CUDA_MEMSET_NODE_PARAMS_v2_st as SetParamsInCtx, CUcontext, CUdeviceptr, CUevent, CUgraph,
    CUgraphExec, CUgraphNode, CUgraphNodeParams_st as NodeParams,
};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, INVALID, Out, exports};
use crate::copy3d::Copy3d;
use crate::graph::Work;
use crate::graph_nodes::{any, check_context, host, kernel, mem_ops, set};
use crate::init::{Driver, driver};

/// Bytes of `CUDA_KERNEL_NODE_PARAMS` in the ABI of CUDA 10.0.
const OLD_KERNEL_BYTES: usize = offset_of!(KernelParams, kern);

fn get_kernel(node: CUgraphNode, params: Host, bytes: usize) -> Done {
    let work = driver()?.work_of(node)?;
    let Work::Kernel(launch) = &*work else {
        return Err(INVALID);
    };
    params.target(bytes)?.store(0, &vec![0; bytes]);
    let long = |at: usize, value: u64| params.offset(at).out::<u64>().set(value);
    let word = |at: usize, value: u32| params.offset(at).out::<u32>().set(value);
    long(offset_of!(KernelParams, func), launch.handle)?;
    word(offset_of!(KernelParams, gridDimX), launch.shape.grid[0])?;
    word(offset_of!(KernelParams, gridDimY), launch.shape.grid[1])?;
    word(offset_of!(KernelParams, gridDimZ), launch.shape.grid[2])?;
    word(offset_of!(KernelParams, blockDimX), launch.shape.block[0])?;
    word(offset_of!(KernelParams, blockDimY), launch.shape.block[1])?;
    word(offset_of!(KernelParams, blockDimZ), launch.shape.block[2])?;
    word(
        offset_of!(KernelParams, sharedMemBytes),
        launch.shape.shared,
    )?;
    // Valid until the node changes: the node keeps the block.
    let pointers = launch.block.pointers(&launch.function.params);
    long(offset_of!(KernelParams, kernelParams), pointers as u64)
}

/// `CUgraphNodeParams`: the kind, and at 16 bytes the parameters of that kind.
fn get_any(node: CUgraphNode, params: Host) -> Done {
    let work = driver()?.work_of(node)?;
    // The words of such a node are not kept as the program gave them, nor what a library's kernels get.
    if matches!(&*work, Work::MemOps { .. } | Work::Library { .. }) {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    let bytes = size_of::<NodeParams>();
    params.target(bytes)?.store(0, &vec![0; bytes]);
    params.out::<u32>().set(work.kind())?;
    let inside = params.offset(offset_of!(NodeParams, __bindgen_anon_1));
    let long = |at: usize, value: u64| inside.offset(at).out::<u64>().set(value);
    match &*work {
        Work::Kernel(launch) => {
            get_kernel(node, inside, size_of::<KernelParams>())?;
            long(offset_of!(KernelParams, ctx), launch.function.ctx.handle)
        }
        Work::Copy(copy) => {
            long(offset_of!(CopyParams, copyCtx), copy.ctx.handle)?;
            copy.write(inside.offset(offset_of!(CopyParams, copyParams)))
        }
        Work::Set(set) => {
            Status(cuGraphMemsetNodeGetParams(node, inside)).ok()?;
            long(offset_of!(SetParamsInCtx, ctx), set.ctx.handle)
        }
        Work::Host { .. } => Status(cuGraphHostNodeGetParams(node, inside)).ok(),
        Work::Child(inner) => long(0, inner.handle),
        Work::Record { handle, .. } | Work::Wait { handle, .. } => long(0, *handle),
        Work::Alloc(_) => Status(cuGraphMemAllocNodeGetParams(node, inside)).ok(),
        Work::Free(address) => long(0, *address),
        Work::Empty | Work::MemOps { .. } | Work::Library { .. } => Ok(()),
    }
}

/// A node's new work, which must be of its old kind.
fn change(node: CUgraphNode, work: impl FnOnce(&'static Driver, &Work) -> Done<Work>) -> Done {
    let driver = driver()?;
    let old = driver.work_of(node)?;
    let new = work(driver, &old)?;
    if old.kind() != new.kind() {
        return Err(INVALID);
    }
    driver.set_work(node, new)
}

/// The same in an executable graph.
fn change_exec(
    exec: CUgraphExec,
    node: CUgraphNode,
    work: impl FnOnce(&'static Driver, &Work) -> Done<Work>,
) -> Done {
    let driver = driver()?;
    let exec = driver.exec(exec)?;
    let old = exec.work(node)?;
    let new = work(driver, &old)?;
    if old.kind() != new.kind() {
        return Err(INVALID);
    }
    exec.set_work(driver, node, new)
}

fn new_kernel(params: Host, is_new: bool) -> impl FnOnce(&'static Driver, &Work) -> Done<Work> {
    move |driver, old| match old {
        Work::Kernel(launch) => kernel(driver, params, is_new, launch.attributes.clone()),
        _ => Err(INVALID),
    }
}

fn new_copy(
    params: Host,
    ctx: Option<CUcontext>,
) -> impl FnOnce(&'static Driver, &Work) -> Done<Work> {
    move |driver, old| {
        let Work::Copy(old) = old else {
            return Err(INVALID);
        };
        let ctx = match ctx {
            Some(ctx) => driver.context_or_current(ctx)?,
            None => std::sync::Arc::clone(&old.ctx),
        };
        Copy3d::read(params, &ctx, driver).map(Work::Copy)
    }
}

fn new_set(
    params: Host,
    ctx: Option<CUcontext>,
) -> impl FnOnce(&'static Driver, &Work) -> Done<Work> {
    move |driver, old| {
        let Work::Set(old) = old else {
            return Err(INVALID);
        };
        match ctx {
            Some(ctx) => set(driver, params, &driver.context_or_current(ctx)?),
            None => set(driver, params, &old.ctx),
        }
    }
}

fn new_event(of: CUevent, records: bool) -> impl FnOnce(&'static Driver, &Work) -> Done<Work> {
    move |driver, _| {
        let handle = of as u64;
        let event = driver.event(of)?;
        Ok(match records {
            true => Work::Record { handle, event },
            false => Work::Wait { handle, event },
        })
    }
}

fn get_event(node: CUgraphNode, out: Out<CUevent>, records: bool) -> Done {
    let work = driver()?.work_of(node)?;
    out.check()?;
    match &*work {
        Work::Record { handle, .. } if records => out.set(*handle as CUevent),
        Work::Wait { handle, .. } if !records => out.set(*handle as CUevent),
        _ => Err(INVALID),
    }
}

exports! {
    /// What a kernel node launches (ABI of CUDA 10.0).
    fn cuGraphKernelNodeGetParams(node: CUgraphNode, params: Host) {
        get_kernel(node, params, OLD_KERNEL_BYTES)
    }

    /// What a kernel node launches.
    fn cuGraphKernelNodeGetParams_v2(node: CUgraphNode, params: Host) {
        get_kernel(node, params, size_of::<KernelParams>())
    }

    /// Has a kernel node launch something else (ABI of CUDA 10.0).
    fn cuGraphKernelNodeSetParams(node: CUgraphNode, params: Host) {
        change(node, new_kernel(params, false))
    }

    /// Has a kernel node launch something else.
    fn cuGraphKernelNodeSetParams_v2(node: CUgraphNode, params: Host) {
        change(node, new_kernel(params, true))
    }

    /// The same in an executable graph (ABI of CUDA 10.1).
    fn cuGraphExecKernelNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: Host) {
        change_exec(exec, node, new_kernel(params, false))
    }

    /// The same in an executable graph.
    fn cuGraphExecKernelNodeSetParams_v2(exec: CUgraphExec, node: CUgraphNode, params: Host) {
        change_exec(exec, node, new_kernel(params, true))
    }

    /// What a copy node copies.
    fn cuGraphMemcpyNodeGetParams(node: CUgraphNode, params: Host) {
        match &*driver()?.work_of(node)? {
            Work::Copy(copy) => copy.write(params),
            _ => Err(INVALID),
        }
    }

    /// Has a copy node copy something else.
    fn cuGraphMemcpyNodeSetParams(node: CUgraphNode, params: Host) {
        change(node, new_copy(params, None))
    }

    /// The same in an executable graph.
    fn cuGraphExecMemcpyNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: Host, ctx: CUcontext) {
        change_exec(exec, node, new_copy(params, Some(ctx)))
    }

    /// What a set node sets.
    fn cuGraphMemsetNodeGetParams(node: CUgraphNode, params: Host) {
        let work = driver()?.work_of(node)?;
        let Work::Set(set) = &*work else {
            return Err(INVALID);
        };
        let long = |at: usize, value: u64| params.offset(at).out::<u64>().set(value);
        let word = |at: usize, value: u32| params.offset(at).out::<u32>().set(value);
        long(offset_of!(SetParams, dst), set.dst)?;
        long(offset_of!(SetParams, pitch), set.pitch)?;
        word(offset_of!(SetParams, value), set.value)?;
        word(offset_of!(SetParams, elementSize), set.element)?;
        long(offset_of!(SetParams, width), set.width)?;
        long(offset_of!(SetParams, height), set.height)
    }

    /// Has a set node set something else.
    fn cuGraphMemsetNodeSetParams(node: CUgraphNode, params: Host) {
        change(node, new_set(params, None))
    }

    /// The same in an executable graph.
    fn cuGraphExecMemsetNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: Host, ctx: CUcontext) {
        change_exec(exec, node, new_set(params, Some(ctx)))
    }

    /// What a host node calls.
    fn cuGraphHostNodeGetParams(node: CUgraphNode, params: Host) {
        let work = driver()?.work_of(node)?;
        let Work::Host { function, data } = &*work else {
            return Err(INVALID);
        };
        params.out::<u64>().set(function.address())?;
        params.offset(8).out::<u64>().set(*data)
    }

    /// Has a host node call something else.
    fn cuGraphHostNodeSetParams(node: CUgraphNode, params: Host) {
        change(node, |_, _| host(params))
    }

    /// The same in an executable graph.
    fn cuGraphExecHostNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: Host) {
        change_exec(exec, node, |_, _| host(params))
    }

    /// The graph inside of a node.
    fn cuGraphChildGraphNodeGetGraph(node: CUgraphNode, out: Out<CUgraph>) {
        let work = driver()?.work_of(node)?;
        out.check()?;
        match &*work {
            Work::Child(inner) => out.set(inner.handle as CUgraph),
            _ => Err(INVALID),
        }
    }

    /// Gives the nodes inside of a node of an executable graph other work.
    fn cuGraphExecChildGraphNodeSetParams(exec: CUgraphExec, node: CUgraphNode, inner: CUgraph) {
        let driver = driver()?;
        let inner = driver.graph(inner)?;
        driver.exec(exec)?.set_child(driver, node, &inner)
    }

    /// The event that a node records.
    fn cuGraphEventRecordNodeGetEvent(node: CUgraphNode, out: Out<CUevent>) {
        get_event(node, out, true)
    }

    /// Has a node record another event.
    fn cuGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent) {
        change(node, new_event(event, true))
    }

    /// The same in an executable graph.
    fn cuGraphExecEventRecordNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent) {
        change_exec(exec, node, new_event(event, true))
    }

    /// The event that a node waits for.
    fn cuGraphEventWaitNodeGetEvent(node: CUgraphNode, out: Out<CUevent>) {
        get_event(node, out, false)
    }

    /// Has a node wait for another event.
    fn cuGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent) {
        change(node, new_event(event, false))
    }

    /// The same in an executable graph.
    fn cuGraphExecEventWaitNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent) {
        change_exec(exec, node, new_event(event, false))
    }

    /// Has a node write and wait for other words.
    fn cuGraphBatchMemOpNodeSetParams(node: CUgraphNode, params: Host) {
        change(node, |driver, _| mem_ops(driver, params))
    }

    /// The same in an executable graph.
    fn cuGraphExecBatchMemOpNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: Host) {
        change_exec(exec, node, |driver, _| mem_ops(driver, params))
    }

    /// What an allocation node allocates.
    fn cuGraphMemAllocNodeGetParams(node: CUgraphNode, params: Host) {
        let work = driver()?.work_of(node)?;
        let Work::Alloc(memory) = &*work else {
            return Err(INVALID);
        };
        let bytes = size_of::<AllocParams>();
        params.target(bytes)?.store(0, &vec![0; bytes]);
        // CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE.
        params.out::<u32>().set(1)?;
        params.offset(8).out::<u32>().set(1)?;
        params.offset(offset_of!(AllocParams, bytesize)).out::<u64>().set(memory.bytes)?;
        params.offset(offset_of!(AllocParams, dptr)).out::<u64>().set(memory.address)
    }

    /// What a free node frees.
    fn cuGraphMemFreeNodeGetParams(node: CUgraphNode, out: Out<CUdeviceptr>) {
        let work = driver()?.work_of(node)?;
        out.check()?;
        match &*work {
            Work::Free(address) => out.set(*address),
            _ => Err(INVALID),
        }
    }

    /// Gives a node of any kind other work of that kind.
    fn cuGraphNodeSetParams(node: CUgraphNode, params: Host) {
        change(node, |driver, _| any(driver, None, params))
    }

    /// Changes what any node does (ABI of CUDA 13.2): a kernel's context must be its function's.
    fn cuGraphNodeSetParams_v2(node: CUgraphNode, params: Host) {
        change(node, |driver, _| {
            check_context(driver, params)?;
            any(driver, None, params)
        })
    }

    /// What any node does.
    fn cuGraphNodeGetParams(node: CUgraphNode, params: Host) {
        get_any(node, params)
    }

    /// The same in an executable graph.
    fn cuGraphExecNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: Host) {
        change_exec(exec, node, |driver, _| any(driver, None, params))
    }
}
