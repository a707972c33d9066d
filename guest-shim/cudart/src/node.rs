//! Nodes of graphs.

use std::ffi::c_void;

use cudarc::driver::sys::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS,
    CUarray, CUcontext, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphExec, CUgraphNode,
    CUmemorytype,
};

use crate::abi::{Done, INVALID, In, Out, exports};
use crate::copy::{Kind, piece};
use crate::copy3d::driver_copy;
use crate::driver::Opaque;
use crate::module::{function, host_function};
use crate::runtime::{Runtime, enter};
use crate::types::{Dim3, Extent, KernelNodeParams, Memcpy3D, PitchedPtr, Pos};

/// The direction of a node's copy. The functions of nodes name cudaErrorInvalidValue alone.
fn direction(kind: i32) -> Done<Kind> {
    Kind::of(kind).map_err(|_| INVALID)
}

/// The driver's form of a kernel node.
pub fn driver_kernel(runtime: &Runtime, p: &KernelNodeParams) -> Done<CUDA_KERNEL_NODE_PARAMS> {
    Ok(CUDA_KERNEL_NODE_PARAMS {
        func: function(runtime, p.func)?,
        gridDimX: p.grid.x,
        gridDimY: p.grid.y,
        gridDimZ: p.grid.z,
        blockDimX: p.block.x,
        blockDimY: p.block.y,
        blockDimZ: p.block.z,
        sharedMemBytes: p.shared,
        kernelParams: p.params,
        extra: p.extra,
        kern: std::ptr::null_mut(),
        ctx: std::ptr::null_mut(),
    })
}

fn kernel_params(p: &CUDA_KERNEL_NODE_PARAMS) -> KernelNodeParams {
    let handle = if p.func.is_null() {
        p.kern as usize
    } else {
        p.func as usize
    };
    KernelNodeParams {
        func: host_function(handle) as *mut c_void,
        grid: Dim3 {
            x: p.gridDimX,
            y: p.gridDimY,
            z: p.gridDimZ,
        },
        block: Dim3 {
            x: p.blockDimX,
            y: p.blockDimY,
            z: p.blockDimZ,
        },
        shared: p.sharedMemBytes,
        params: p.kernelParams,
        extra: p.extra,
    }
}

/// A copy of bytes as a copy of a box.
fn linear(dst: Opaque, src: *const c_void, bytes: usize, kind: i32) -> Done<CUDA_MEMCPY3D> {
    let side = |ptr: Opaque| PitchedPtr {
        ptr,
        pitch: bytes,
        xsize: bytes,
        ysize: 1,
    };
    driver_copy(&Memcpy3D {
        src_array: std::ptr::null_mut(),
        src_pos: Pos::default(),
        src_ptr: side(src.cast_mut()),
        dst_array: std::ptr::null_mut(),
        dst_pos: Pos::default(),
        dst_ptr: side(dst),
        extent: Extent {
            width: bytes,
            height: 1,
            depth: 1,
        },
        kind,
    })
}

fn to_symbol(
    runtime: &Runtime,
    name: *const c_void,
    src: *const c_void,
    bytes: usize,
    offset: usize,
    kind: i32,
) -> Done<CUDA_MEMCPY3D> {
    if matches!(direction(kind)?, Kind::HostToHost | Kind::DeviceToHost) {
        return Err(INVALID);
    }
    let at = piece(runtime, name, bytes, offset)?;
    linear(at as Opaque, src, bytes, kind)
}

fn from_symbol(
    runtime: &Runtime,
    dst: Opaque,
    name: *const c_void,
    bytes: usize,
    offset: usize,
    kind: i32,
) -> Done<CUDA_MEMCPY3D> {
    if matches!(direction(kind)?, Kind::HostToHost | Kind::HostToDevice) {
        return Err(INVALID);
    }
    let at = piece(runtime, name, bytes, offset)?;
    linear(dst, at as *const c_void, bytes, kind)
}

/// The runtime's form of a copy.
fn copy_params(p: &CUDA_MEMCPY3D) -> Memcpy3D {
    use CUmemorytype::{
        CU_MEMORYTYPE_ARRAY as ARRAY, CU_MEMORYTYPE_DEVICE as DEVICE, CU_MEMORYTYPE_HOST as HOST,
    };
    let side = |kind, host: *const c_void, device: CUdeviceptr, array: CUarray, pitch, height| {
        let ptr = match kind {
            HOST => host.cast_mut(),
            ARRAY => std::ptr::null_mut(),
            _ => device as Opaque,
        };
        let ptr = PitchedPtr {
            ptr,
            pitch,
            xsize: pitch,
            ysize: height,
        };
        (ptr, array)
    };
    let (src_ptr, src_array) = side(
        p.srcMemoryType,
        p.srcHost,
        p.srcDevice,
        p.srcArray,
        p.srcPitch,
        p.srcHeight,
    );
    let (dst_ptr, dst_array) = side(
        p.dstMemoryType,
        p.dstHost,
        p.dstDevice,
        p.dstArray,
        p.dstPitch,
        p.dstHeight,
    );
    Memcpy3D {
        src_array,
        src_pos: Pos {
            x: p.srcXInBytes,
            y: p.srcY,
            z: p.srcZ,
        },
        src_ptr,
        dst_array,
        dst_pos: Pos {
            x: p.dstXInBytes,
            y: p.dstY,
            z: p.dstZ,
        },
        dst_ptr,
        extent: Extent {
            width: p.WidthInBytes,
            height: p.Height,
            depth: p.Depth,
        },
        kind: match (p.srcMemoryType, p.dstMemoryType) {
            (HOST, HOST) => 0,
            (HOST, _) => 1,
            (DEVICE, HOST) => 2,
            (DEVICE, DEVICE) => 3,
            _ => 4,
        },
    }
}

/// Where a node is added: its place, the graph, and what it depends on.
struct New(Out<CUgraphNode>, CUgraph, In<CUgraphNode>, usize);

fn add_copy(to: &New, params: impl FnOnce(&Runtime) -> Done<CUDA_MEMCPY3D>) -> Done {
    let runtime = enter()?;
    let copy = [params(runtime)?];
    let New(node, graph, deps, count) = *to;
    runtime
        .driver
        .cuGraphAddMemcpyNode(node, graph, deps, count, In::to(&copy), runtime.context()?)
}

fn set_copy(node: CUgraphNode, params: impl FnOnce(&Runtime) -> Done<CUDA_MEMCPY3D>) -> Done {
    let runtime = enter()?;
    let copy = [params(runtime)?];
    runtime
        .driver
        .cuGraphMemcpyNodeSetParams(node, In::to(&copy))
}

fn set_exec_copy(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: impl FnOnce(&Runtime) -> Done<CUDA_MEMCPY3D>,
) -> Done {
    let runtime = enter()?;
    let copy = [params(runtime)?];
    let context: CUcontext = runtime.context()?;
    runtime
        .driver
        .cuGraphExecMemcpyNodeSetParams(exec, node, In::to(&copy), context)
}

exports! {
    /// Adds a node that launches a kernel.
    fn cudaGraphAddKernelNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize,
        params: In<KernelNodeParams>,
    ) {
        let runtime = enter()?;
        let params = [driver_kernel(runtime, &params.get()?)?];
        runtime.driver.cuGraphAddKernelNode_v2(node, graph, deps, count, In::to(&params))
    }

    /// What a kernel node launches.
    fn cudaGraphKernelNodeGetParams(node: CUgraphNode, params: Out<KernelNodeParams>) {
        let runtime = enter()?;
        params.check()?;
        // The driver fills all of it.
        let mut found = [CUDA_KERNEL_NODE_PARAMS {
            func: std::ptr::null_mut::<c_void>() as CUfunction,
            gridDimX: 0,
            gridDimY: 0,
            gridDimZ: 0,
            blockDimX: 0,
            blockDimY: 0,
            blockDimZ: 0,
            sharedMemBytes: 0,
            kernelParams: std::ptr::null_mut(),
            extra: std::ptr::null_mut(),
            kern: std::ptr::null_mut(),
            ctx: std::ptr::null_mut(),
        }];
        runtime.driver.cuGraphKernelNodeGetParams_v2(node, Out::to(&mut found[0]))?;
        params.set(kernel_params(&found[0]))
    }

    /// Sets what a kernel node launches.
    fn cudaGraphKernelNodeSetParams(node: CUgraphNode, params: In<KernelNodeParams>) {
        let runtime = enter()?;
        let params = [driver_kernel(runtime, &params.get()?)?];
        runtime.driver.cuGraphKernelNodeSetParams_v2(node, In::to(&params))
    }

    /// Sets what a kernel node of an executable graph launches.
    fn cudaGraphExecKernelNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: In<KernelNodeParams>) {
        let runtime = enter()?;
        let params = [driver_kernel(runtime, &params.get()?)?];
        runtime.driver.cuGraphExecKernelNodeSetParams_v2(exec, node, In::to(&params))
    }

    /// Copies the attributes of a kernel node. The order of the arguments is the driver's.
    fn cudaGraphKernelNodeCopyAttributes(dst: CUgraphNode, src: CUgraphNode) {
        enter()?.driver.cuGraphKernelNodeCopyAttributes(dst, src)
    }

    /// An attribute of a kernel node; names and values are laid out as the driver's.
    fn cudaGraphKernelNodeGetAttribute(node: CUgraphNode, attribute: i32, value: Opaque) {
        enter()?.driver.cuGraphKernelNodeGetAttribute(node, attribute, value)
    }

    /// Sets an attribute of a kernel node; names and values are laid out as the driver's.
    fn cudaGraphKernelNodeSetAttribute(node: CUgraphNode, attribute: i32, value: Opaque) {
        enter()?.driver.cuGraphKernelNodeSetAttribute(node, attribute, value)
    }

    /// Adds a node that copies a box.
    fn cudaGraphAddMemcpyNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize,
        params: In<Memcpy3D>,
    ) {
        add_copy(&New(node, graph, deps, count), |_| driver_copy(&params.get()?))
    }

    /// Adds a node that copies bytes.
    fn cudaGraphAddMemcpyNode1D(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, dst: Opaque,
        src: *const c_void, bytes: usize, kind: i32,
    ) {
        add_copy(&New(node, graph, deps, count), |_| linear(dst, src, bytes, kind))
    }

    /// Adds a node that copies to a variable of the program.
    fn cudaGraphAddMemcpyNodeToSymbol(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize,
        name: *const c_void, src: *const c_void, bytes: usize, offset: usize, kind: i32,
    ) {
        add_copy(&New(node, graph, deps, count), |r| to_symbol(r, name, src, bytes, offset, kind))
    }

    /// Adds a node that copies from a variable of the program.
    fn cudaGraphAddMemcpyNodeFromSymbol(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, dst: Opaque,
        name: *const c_void, bytes: usize, offset: usize, kind: i32,
    ) {
        add_copy(&New(node, graph, deps, count), |r| from_symbol(r, dst, name, bytes, offset, kind))
    }

    /// What a copy node copies.
    fn cudaGraphMemcpyNodeGetParams(node: CUgraphNode, params: Out<Memcpy3D>) {
        let runtime = enter()?;
        params.check()?;
        let mut found = [linear(1 as Opaque, 1 as Opaque, 0, 4)?];
        runtime.driver.cuGraphMemcpyNodeGetParams(node, Out::to(&mut found[0]))?;
        params.set(copy_params(&found[0]))
    }

    /// Sets what a copy node copies.
    fn cudaGraphMemcpyNodeSetParams(node: CUgraphNode, params: In<Memcpy3D>) {
        set_copy(node, |_| driver_copy(&params.get()?))
    }

    /// Sets what a copy node copies.
    fn cudaGraphMemcpyNodeSetParams1D(
        node: CUgraphNode, dst: Opaque, src: *const c_void, bytes: usize, kind: i32,
    ) {
        set_copy(node, |_| linear(dst, src, bytes, kind))
    }

    /// Sets what a copy node copies.
    fn cudaGraphMemcpyNodeSetParamsToSymbol(
        node: CUgraphNode, name: *const c_void, src: *const c_void, bytes: usize, offset: usize,
        kind: i32,
    ) {
        set_copy(node, |r| to_symbol(r, name, src, bytes, offset, kind))
    }

    /// Sets what a copy node copies.
    fn cudaGraphMemcpyNodeSetParamsFromSymbol(
        node: CUgraphNode, dst: Opaque, name: *const c_void, bytes: usize, offset: usize, kind: i32,
    ) {
        set_copy(node, |r| from_symbol(r, dst, name, bytes, offset, kind))
    }

    /// Sets what a copy node of an executable graph copies.
    fn cudaGraphExecMemcpyNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: In<Memcpy3D>) {
        set_exec_copy(exec, node, |_| driver_copy(&params.get()?))
    }

    /// Sets what a copy node of an executable graph copies.
    fn cudaGraphExecMemcpyNodeSetParams1D(
        exec: CUgraphExec, node: CUgraphNode, dst: Opaque, src: *const c_void, bytes: usize,
        kind: i32,
    ) {
        set_exec_copy(exec, node, |_| linear(dst, src, bytes, kind))
    }

    /// Sets what a copy node of an executable graph copies.
    fn cudaGraphExecMemcpyNodeSetParamsToSymbol(
        exec: CUgraphExec, node: CUgraphNode, name: *const c_void, src: *const c_void,
        bytes: usize, offset: usize, kind: i32,
    ) {
        set_exec_copy(exec, node, |r| to_symbol(r, name, src, bytes, offset, kind))
    }

    /// Sets what a copy node of an executable graph copies.
    fn cudaGraphExecMemcpyNodeSetParamsFromSymbol(
        exec: CUgraphExec, node: CUgraphNode, dst: Opaque, name: *const c_void, bytes: usize,
        offset: usize, kind: i32,
    ) {
        set_exec_copy(exec, node, |r| from_symbol(r, dst, name, bytes, offset, kind))
    }

    /// Adds a node that sets memory; the parameters are laid out as the driver's.
    fn cudaGraphAddMemsetNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize,
        params: In<CUDA_MEMSET_NODE_PARAMS>,
    ) {
        let runtime = enter()?;
        let context = runtime.context()?;
        runtime.driver.cuGraphAddMemsetNode(node, graph, deps, count, params, context)
    }

    /// What a node sets.
    fn cudaGraphMemsetNodeGetParams(node: CUgraphNode, params: Out<CUDA_MEMSET_NODE_PARAMS>) {
        enter()?.driver.cuGraphMemsetNodeGetParams(node, params)
    }

    /// Sets what a node sets.
    fn cudaGraphMemsetNodeSetParams(node: CUgraphNode, params: In<CUDA_MEMSET_NODE_PARAMS>) {
        enter()?.driver.cuGraphMemsetNodeSetParams(node, params)
    }

    /// Sets what a node of an executable graph sets.
    fn cudaGraphExecMemsetNodeSetParams(
        exec: CUgraphExec, node: CUgraphNode, params: In<CUDA_MEMSET_NODE_PARAMS>,
    ) {
        let runtime = enter()?;
        let context = runtime.context()?;
        runtime.driver.cuGraphExecMemsetNodeSetParams(exec, node, params, context)
    }

    /// Adds a node that calls a function of the program; the parameters are laid out as the driver's.
    fn cudaGraphAddHostNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize,
        params: In<CUDA_HOST_NODE_PARAMS>,
    ) {
        enter()?.driver.cuGraphAddHostNode(node, graph, deps, count, params)
    }

    /// What a node calls.
    fn cudaGraphHostNodeGetParams(node: CUgraphNode, params: Out<CUDA_HOST_NODE_PARAMS>) {
        enter()?.driver.cuGraphHostNodeGetParams(node, params)
    }

    /// Sets what a node calls.
    fn cudaGraphHostNodeSetParams(node: CUgraphNode, params: In<CUDA_HOST_NODE_PARAMS>) {
        enter()?.driver.cuGraphHostNodeSetParams(node, params)
    }

    /// Sets what a node of an executable graph calls.
    fn cudaGraphExecHostNodeSetParams(
        exec: CUgraphExec, node: CUgraphNode, params: In<CUDA_HOST_NODE_PARAMS>,
    ) {
        enter()?.driver.cuGraphExecHostNodeSetParams(exec, node, params)
    }

    /// Adds a node that executes another graph.
    fn cudaGraphAddChildGraphNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, child: CUgraph,
    ) {
        enter()?.driver.cuGraphAddChildGraphNode(node, graph, deps, count, child)
    }

    /// The graph that a node executes.
    fn cudaGraphChildGraphNodeGetGraph(node: CUgraphNode, graph: Out<CUgraph>) {
        enter()?.driver.cuGraphChildGraphNodeGetGraph(node, graph)
    }

    /// Sets the graph that a node of an executable graph executes.
    fn cudaGraphExecChildGraphNodeSetParams(exec: CUgraphExec, node: CUgraphNode, child: CUgraph) {
        enter()?.driver.cuGraphExecChildGraphNodeSetParams(exec, node, child)
    }

    /// Adds a node that does nothing.
    fn cudaGraphAddEmptyNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize,
    ) {
        enter()?.driver.cuGraphAddEmptyNode(node, graph, deps, count)
    }

    /// Adds a node that records an event.
    fn cudaGraphAddEventRecordNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, event: CUevent,
    ) {
        enter()?.driver.cuGraphAddEventRecordNode(node, graph, deps, count, event)
    }

    /// The event that a node records.
    fn cudaGraphEventRecordNodeGetEvent(node: CUgraphNode, event: Out<CUevent>) {
        enter()?.driver.cuGraphEventRecordNodeGetEvent(node, event)
    }

    /// Sets the event that a node records.
    fn cudaGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent) {
        enter()?.driver.cuGraphEventRecordNodeSetEvent(node, event)
    }

    /// Sets the event that a node of an executable graph records.
    fn cudaGraphExecEventRecordNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent) {
        enter()?.driver.cuGraphExecEventRecordNodeSetEvent(exec, node, event)
    }

    /// Adds a node that waits for an event.
    fn cudaGraphAddEventWaitNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, event: CUevent,
    ) {
        enter()?.driver.cuGraphAddEventWaitNode(node, graph, deps, count, event)
    }

    /// The event that a node waits for.
    fn cudaGraphEventWaitNodeGetEvent(node: CUgraphNode, event: Out<CUevent>) {
        enter()?.driver.cuGraphEventWaitNodeGetEvent(node, event)
    }

    /// Sets the event that a node waits for.
    fn cudaGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent) {
        enter()?.driver.cuGraphEventWaitNodeSetEvent(node, event)
    }

    /// Sets the event that a node of an executable graph waits for.
    fn cudaGraphExecEventWaitNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent) {
        enter()?.driver.cuGraphExecEventWaitNodeSetEvent(exec, node, event)
    }

    /// Adds a node that allocates memory; the parameters are laid out as the driver's.
    fn cudaGraphAddMemAllocNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, params: Opaque,
    ) {
        enter()?.driver.cuGraphAddMemAllocNode(node, graph, deps, count, params)
    }

    /// What a node allocates.
    fn cudaGraphMemAllocNodeGetParams(node: CUgraphNode, params: Opaque) {
        enter()?.driver.cuGraphMemAllocNodeGetParams(node, params)
    }

    /// Adds a node that frees memory.
    fn cudaGraphAddMemFreeNode(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, at: Opaque,
    ) {
        enter()?.driver.cuGraphAddMemFreeNode(node, graph, deps, count, at as CUdeviceptr)
    }

    /// What a node frees.
    fn cudaGraphMemFreeNodeGetParams(node: CUgraphNode, at: Out<CUdeviceptr>) {
        enter()?.driver.cuGraphMemFreeNodeGetParams(node, at)
    }

    /// A handle by which kernels say which part of a graph is executed.
    fn cudaGraphConditionalHandleCreate(handle: Out<u64>, graph: CUgraph, value: u32, flags: u32) {
        let runtime = enter()?;
        let context = runtime.context()?;
        runtime.driver.cuGraphConditionalHandleCreate(handle, graph, context, value, flags)
    }
}
