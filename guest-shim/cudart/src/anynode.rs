//! Nodes of graphs by one structure for all kinds (`cudaGraphNodeParams`).

use cudarc::driver::sys::{
    CUDA_KERNEL_NODE_PARAMS_v3, CUDA_MEMCPY_NODE_PARAMS, CUgraph, CUgraphExec, CUgraphNode,
    CUgraphNodeParams, CUgraphNodeType,
};

use crate::abi::{Done, Host, INVALID, In, Out, exports};
use crate::copy3d::driver_copy;
use crate::driver::Opaque;
use crate::node::driver_kernel;
use crate::runtime::{Runtime, enter};
use crate::types::{KernelNodeParams, Memcpy3D};

/// Both structures: kind and padding, what is particular to the kind, one reserved word.
const WORDS: usize = size_of::<CUgraphNodeParams>() / 8;
const PARTICULAR: usize = 16;
/// Where `cudaMemcpyNodeParams` has the copy: behind flags, a reserved word and a context.
const COPY: usize = PARTICULAR + 16;

/// The structure as the driver lays it out.
struct Params([u64; WORDS]);

impl Params {
    /// Kernels and copies are laid out in another way; all else is passed on as it is.
    fn of(runtime: &Runtime, given: Opaque) -> Done<Params> {
        let given = Host(given);
        if given.is_null() {
            return Err(INVALID);
        }
        let mut words = [0u64; WORDS];
        for (i, word) in words.iter_mut().enumerate() {
            *word = given.values().at(i)?;
        }
        let kind: u32 = given.values().get()?;
        let place = Host::to(&mut words).offset(PARTICULAR);
        if kind == CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL as u32 {
            let p: KernelNodeParams = given.offset(PARTICULAR).values().get()?;
            let p = driver_kernel(runtime, &p)?;
            place.out().set(CUDA_KERNEL_NODE_PARAMS_v3 {
                func: p.func,
                gridDimX: p.gridDimX,
                gridDimY: p.gridDimY,
                gridDimZ: p.gridDimZ,
                blockDimX: p.blockDimX,
                blockDimY: p.blockDimY,
                blockDimZ: p.blockDimZ,
                sharedMemBytes: p.sharedMemBytes,
                kernelParams: p.kernelParams,
                extra: p.extra,
                kern: p.kern,
                ctx: p.ctx,
            })?;
        } else if kind == CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY as u32 {
            let p: Memcpy3D = given.offset(COPY).values().get()?;
            place.out().set(CUDA_MEMCPY_NODE_PARAMS {
                flags: given.offset(PARTICULAR).values().get()?,
                reserved: 0,
                copyCtx: runtime.context()?,
                copyParams: driver_copy(&p)?,
            })?;
        } else if kind == CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMSET as u32 {
            // The context is the last word.
            let context = runtime.context()? as u64;
            place.out::<u64>().set_at(5, context)?;
        }
        Ok(Params(words))
    }

    fn place(&mut self) -> Out<CUgraphNodeParams> {
        Host::to(&mut self.0).out()
    }

    /// Gives back what the driver stored: the address of an allocation, the graphs of a condition.
    fn give_back(&self, given: Opaque) -> Done {
        let kind = self.0[0] as u32;
        if kind == CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_ALLOC as u32
            || kind == CUgraphNodeType::CU_GRAPH_NODE_TYPE_CONDITIONAL as u32
        {
            for (i, word) in self.0.iter().enumerate() {
                Host(given).out().set_at(i, *word)?;
            }
        }
        Ok(())
    }
}

exports! {
    /// Adds a node (ABI of CUDA 12.2).
    fn cudaGraphAddNode_v1(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, count: usize, given: Opaque,
    ) {
        let runtime = enter()?;
        let mut params = Params::of(runtime, given)?;
        runtime.driver.cuGraphAddNode(node, graph, deps, count, params.place())?;
        params.give_back(given)
    }

    /// Adds a node (ABI of CUDA 12.3).
    fn cudaGraphAddNode_v2(
        node: Out<CUgraphNode>, graph: CUgraph, deps: In<CUgraphNode>, edges: Host, count: usize,
        given: Opaque,
    ) {
        let runtime = enter()?;
        let mut params = Params::of(runtime, given)?;
        runtime.driver.cuGraphAddNode_v2(node, graph, deps, edges, count, params.place())?;
        params.give_back(given)
    }

    /// Sets what a node does.
    fn cudaGraphNodeSetParams(node: CUgraphNode, given: Opaque) {
        let runtime = enter()?;
        let mut params = Params::of(runtime, given)?;
        runtime.driver.cuGraphNodeSetParams(node, params.place())
    }

    /// Sets what a node of an executable graph does.
    fn cudaGraphExecNodeSetParams(exec: CUgraphExec, node: CUgraphNode, given: Opaque) {
        let runtime = enter()?;
        let mut params = Params::of(runtime, given)?;
        runtime.driver.cuGraphExecNodeSetParams(exec, node, params.place())
    }
}
