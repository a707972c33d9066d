//! Adding nodes, of every kind that can be executed.

use std::mem::offset_of;
use std::sync::Arc;

use cudarc::driver::sys::{
    CUDA_BATCH_MEM_OP_NODE_PARAMS_v1_st as MemOpParams, CUDA_HOST_NODE_PARAMS_st as HostParams,
    CUDA_KERNEL_NODE_PARAMS_v2_st as KernelParams, CUDA_MEM_ALLOC_NODE_PARAMS_v1_st as AllocParams,
    CUDA_MEMCPY_NODE_PARAMS_st as CopyParams, CUDA_MEMSET_NODE_PARAMS_v2_st as SetParams,
    CUcontext, CUdeviceptr, CUevent, CUgraph, CUgraphEdgeData, CUgraphNode,
    CUgraphNodeParams_st as NodeParams,
};
use vgpu_protocol::Status;

use crate::abi::{Done, Function, Host, INVALID, In, Out, exports, nothing};
use crate::copy3d::Copy3d;
use crate::ctx::Ctx;
use crate::graph::{Graph, Set, Work};
use crate::graph_edges::edges;
use crate::init::{Driver, driver};
use crate::launch::{Attributes, Launch, Params, Shape};
use crate::memop;

/// Where a new node comes: its graph and the nodes that it follows.
struct Place {
    graph: CUgraph,
    nodes: In<CUgraphNode>,
    data: In<CUgraphEdgeData>,
    count: usize,
}

fn add(
    out: Out<CUgraphNode>,
    place: &Place,
    work: impl FnOnce(&'static Driver) -> Done<Work>,
) -> Done {
    let driver = driver()?;
    out.check()?;
    let graph = driver.graph(place.graph)?;
    let after = driver.indices(&graph, edges(place.nodes, place.data, place.count))?;
    let work = work(driver)?;
    out.set(driver.add_node(&graph, after, Arc::new(work), 0)? as CUgraphNode)
}

/// What `CUDA_KERNEL_NODE_PARAMS` says. Only the newer ABI names a CUkernel and a context.
pub fn kernel(driver: &Driver, params: Host, is_new: bool, attributes: Attributes) -> Done<Work> {
    let word = |at: usize| params.offset(at).values::<u32>().get();
    let long = |at: usize| params.offset(at).values::<u64>().get();
    let shape = Shape {
        grid: [
            word(offset_of!(KernelParams, gridDimX))?,
            word(offset_of!(KernelParams, gridDimY))?,
            word(offset_of!(KernelParams, gridDimZ))?,
        ],
        block: [
            word(offset_of!(KernelParams, blockDimX))?,
            word(offset_of!(KernelParams, blockDimY))?,
            word(offset_of!(KernelParams, blockDimZ))?,
        ],
        shared: word(offset_of!(KernelParams, sharedMemBytes))?,
    };
    let at = |offset: usize| Ok::<_, Status>(Host(long(offset)? as *mut _));
    let given = Params {
        pointers: at(offset_of!(KernelParams, kernelParams))?.values(),
        extra: at(offset_of!(KernelParams, extra))?.values(),
    };
    let mut handle = long(offset_of!(KernelParams, func))?;
    if handle == 0 && is_new {
        handle = long(offset_of!(KernelParams, kern))?;
    }
    Launch::new(driver, handle, shape, given, attributes).map(Work::Kernel)
}

/// What `CUDA_MEMSET_NODE_PARAMS` says.
pub fn set(driver: &Driver, params: Host, ctx: &Arc<Ctx>) -> Done<Work> {
    let long = |at: usize| params.offset(at).values::<u64>().get();
    let word = |at: usize| params.offset(at).values::<u32>().get();
    let set = Set {
        ctx: Arc::clone(ctx),
        dst: long(offset_of!(SetParams, dst))?,
        pitch: long(offset_of!(SetParams, pitch))?,
        value: word(offset_of!(SetParams, value))?,
        element: word(offset_of!(SetParams, elementSize))?,
        width: long(offset_of!(SetParams, width))?,
        height: long(offset_of!(SetParams, height))?,
    };
    let element = u64::from(set.element);
    let row = set.width.checked_mul(element).ok_or(INVALID)?;
    if !matches!(element, 1 | 2 | 4)
        || row == 0
        || set.height == 0
        || !set.dst.is_multiple_of(element)
        || (set.height > 1 && (set.pitch < row || !set.pitch.is_multiple_of(element)))
    {
        return Err(INVALID);
    }
    let before = if set.height > 1 {
        set.pitch.checked_mul(set.height - 1).ok_or(INVALID)?
    } else {
        0
    };
    driver.check_range(set.dst, before.checked_add(row).ok_or(INVALID)?)?;
    Ok(Work::Set(set))
}

/// What `CUDA_HOST_NODE_PARAMS` says.
pub fn host(params: Host) -> Done<Work> {
    let function: Option<Function> = params.values().get()?;
    let data = params
        .offset(offset_of!(HostParams, userData))
        .values()
        .get()?;
    Ok(Work::Host {
        function: function.ok_or(INVALID)?,
        data,
    })
}

/// What `CUDA_BATCH_MEM_OP_NODE_PARAMS` says.
pub fn mem_ops(driver: &Driver, params: Host) -> Done<Work> {
    let ctx: u64 = params.values().get()?;
    let count: u32 = params
        .offset(offset_of!(MemOpParams, count))
        .values()
        .get()?;
    let list: u64 = params
        .offset(offset_of!(MemOpParams, paramArray))
        .values()
        .get()?;
    let flags: u32 = params
        .offset(offset_of!(MemOpParams, flags))
        .values()
        .get()?;
    if flags != 0 {
        return Err(INVALID);
    }
    Ok(Work::MemOps {
        ctx: driver.context_or_current(ctx as CUcontext)?,
        operations: memop::read(driver, Host(list as *mut _), count)?,
    })
}

/// A graph for a node to keep.
pub fn child(driver: &Driver, graph: CUgraph, into: CUgraph) -> Done<Arc<Graph>> {
    if graph == into {
        return Err(INVALID);
    }
    let graph = driver.graph(graph)?;
    driver.clone_graph(&graph, true)
}

/// Allocates, and tells the address.
fn alloc(driver: &Driver, params: Host) -> Done<Work> {
    // The pool's properties begin with the kind of the allocation and of the handle, and the place.
    let (kind, handle): (u32, u32) = (params.values().get()?, params.offset(4).values().get()?);
    let (place, device): (u32, i32) = (
        params.offset(8).values().get()?,
        params.offset(12).values().get()?,
    );
    let descriptors: u64 = params
        .offset(offset_of!(AllocParams, accessDescCount))
        .values()
        .get()?;
    let bytes: u64 = params
        .offset(offset_of!(AllocParams, bytesize))
        .values()
        .get()?;
    // CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE; no exported handles.
    if kind != 1 || place != 1 || bytes == 0 || descriptors > 1 {
        return Err(INVALID);
    }
    if handle != 0 {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    let ctx = crate::ctx::current()?;
    if ctx.device != device {
        return Err(Status::ERROR_INVALID_DEVICE);
    }
    let memory = driver.graph_memory(&ctx, bytes)?;
    params
        .offset(offset_of!(AllocParams, dptr))
        .out()
        .set(memory.address)?;
    Ok(Work::Alloc(memory))
}

fn free(driver: &Driver, address: CUdeviceptr) -> Done<Work> {
    driver.check_range(address, 1)?;
    Ok(Work::Free(address))
}

fn event(driver: &Driver, event: CUevent, records: bool) -> Done<Work> {
    let handle = event as u64;
    let event = driver.event(event)?;
    Ok(match records {
        true => Work::Record { handle, event },
        false => Work::Wait { handle, event },
    })
}

/// What `CUgraphNodeParams` says: a kind, and at 16 bytes the parameters of that kind.
pub fn any(driver: &'static Driver, graph: Option<CUgraph>, params: Host) -> Done<Work> {
    let kind: u32 = params.values().get()?;
    let inside = params.offset(offset_of!(NodeParams, __bindgen_anon_1));
    let long = |at: usize| inside.offset(at).values::<u64>().get();
    match kind {
        0 => kernel(driver, inside, true, Attributes::new()),
        1 => {
            let ctx = long(offset_of!(CopyParams, copyCtx))?;
            let ctx = driver.context_or_current(ctx as CUcontext)?;
            let copy = inside.offset(offset_of!(CopyParams, copyParams));
            Copy3d::read(copy, &ctx, driver).map(Work::Copy)
        }
        2 => {
            let ctx = long(offset_of!(SetParams, ctx))?;
            set(
                driver,
                inside,
                &driver.context_or_current(ctx as CUcontext)?,
            )
        }
        3 => host(inside),
        4 => {
            let into = graph.unwrap_or(std::ptr::null_mut());
            Ok(Work::Child(child(driver, long(0)? as CUgraph, into)?))
        }
        5 => Ok(Work::Empty),
        6 => event(driver, long(0)? as CUevent, false),
        7 => event(driver, long(0)? as CUevent, true),
        10 if graph.is_some() => alloc(driver, inside),
        11 if graph.is_some() => free(driver, long(0)?),
        12 => mem_ops(driver, inside),
        // Semaphores of other APIs, and conditions.
        8 | 9 | 13 => Err(Status::ERROR_NOT_SUPPORTED),
        _ => Err(INVALID),
    }
}

/// "If both the kernel node's CUfunction and ctx are non-NULL, the underlying device context of ctx must
/// match the device context that the CUfunction was loaded into".
pub fn check_context(driver: &Driver, params: Host) -> Done {
    if params.values::<u32>().get()? != 0 {
        return Ok(());
    }
    let inside = params.offset(offset_of!(NodeParams, __bindgen_anon_1));
    let long = |at: usize| inside.offset(at).values::<u64>().get();
    let function = long(offset_of!(KernelParams, func))?;
    let ctx = long(offset_of!(KernelParams, ctx))?;
    if function == 0 || ctx == 0 {
        return Ok(());
    }
    match driver.functions.get(function) {
        Some(function) if function.ctx.handle != ctx => Err(Status::ERROR_INVALID_CONTEXT),
        _ => Ok(()),
    }
}

exports! {
    /// Adds a kernel node (ABI of CUDA 10.0).
    fn cuGraphAddKernelNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, params: Host) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| kernel(driver, params, false, Attributes::new()))
    }

    /// Adds a kernel node.
    fn cuGraphAddKernelNode_v2(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, params: Host) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| kernel(driver, params, true, Attributes::new()))
    }

    /// Adds a copy node.
    fn cuGraphAddMemcpyNode(
        out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, params: Host, ctx: CUcontext,
    ) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| {
            let ctx = driver.context_or_current(ctx)?;
            Copy3d::read(params, &ctx, driver).map(Work::Copy)
        })
    }

    /// Adds a set node.
    fn cuGraphAddMemsetNode(
        out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, params: Host, ctx: CUcontext,
    ) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| set(driver, params, &driver.context_or_current(ctx)?))
    }

    /// Adds a node that calls a function of the program.
    fn cuGraphAddHostNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, params: Host) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |_| host(params))
    }

    /// Adds a node that is a copy of a graph.
    fn cuGraphAddChildGraphNode(
        out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, inner: CUgraph,
    ) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| Ok(Work::Child(child(driver, inner, graph)?)))
    }

    /// Adds a node that does nothing.
    fn cuGraphAddEmptyNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |_| Ok(Work::Empty))
    }

    /// Adds a node that records an event.
    fn cuGraphAddEventRecordNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, of: CUevent) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| event(driver, of, true))
    }

    /// Adds a node that waits for an event.
    fn cuGraphAddEventWaitNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, of: CUevent) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| event(driver, of, false))
    }

    /// Adds a node that writes words and waits for words.
    fn cuGraphAddBatchMemOpNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, params: Host) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| mem_ops(driver, params))
    }

    /// Adds a node that allocates memory, and gives its address.
    fn cuGraphAddMemAllocNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, params: Host) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| alloc(driver, params))
    }

    /// Adds a node that frees memory of a graph.
    fn cuGraphAddMemFreeNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, at: CUdeviceptr) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| free(driver, at))
    }

    /// Adds a node of any kind (ABI of CUDA 12.2).
    fn cuGraphAddNode(out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, count: usize, params: Host) {
        let place = Place { graph, nodes, data: nothing(), count };
        add(out, &place, |driver| any(driver, Some(graph), params))
    }

    /// Adds a node of any kind.
    fn cuGraphAddNode_v2(
        out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, data: In<CUgraphEdgeData>, count: usize,
        params: Host,
    ) {
        let place = Place { graph, nodes, data, count };
        add(out, &place, |driver| any(driver, Some(graph), params))
    }

    /// Adds a node of any kind (ABI of CUDA 13.2): a kernel's context must be its function's.
    fn cuGraphAddNode_v3(
        out: Out<CUgraphNode>, graph: CUgraph, nodes: In<CUgraphNode>, data: In<CUgraphEdgeData>, count: usize,
        params: Host,
    ) {
        let place = Place { graph, nodes, data, count };
        add(out, &place, |driver| {
            check_context(driver, params)?;
            any(driver, Some(graph), params)
        })
    }
}
