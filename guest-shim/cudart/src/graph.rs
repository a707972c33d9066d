//! Graphs: their edges and executables.

use std::ffi::c_char;

use cudarc::driver::sys::{CUgraph, CUgraphExec, CUgraphNode, CUstream, CUuserObject};

use crate::abi::{Host, In, Out, Text, exports};
use crate::driver::{HostFn, Opaque};
use crate::runtime::enter;

exports! {
    /// Creates an empty graph.
    fn cudaGraphCreate(graph: Out<CUgraph>, flags: u32) {
        enter()?.driver.cuGraphCreate(graph, flags)
    }

    /// Destroys a graph.
    fn cudaGraphDestroy(graph: CUgraph) {
        enter()?.driver.cuGraphDestroy(graph)
    }

    /// Copies a graph.
    fn cudaGraphClone(clone: Out<CUgraph>, graph: CUgraph) {
        enter()?.driver.cuGraphClone(clone, graph)
    }

    /// Writes a graph to a file, in the language of Graphviz.
    fn cudaGraphDebugDotPrint(graph: CUgraph, path: Text, flags: u32) {
        enter()?.driver.cuGraphDebugDotPrint(graph, path, flags)
    }

    /// The node of a clone that a node became.
    fn cudaGraphNodeFindInClone(found: Out<CUgraphNode>, original: CUgraphNode, clone: CUgraph) {
        enter()?.driver.cuGraphNodeFindInClone(found, original, clone)
    }

    /// What a node does; the numbers are the driver's.
    fn cudaGraphNodeGetType(node: CUgraphNode, kind: Out<i32>) {
        enter()?.driver.cuGraphNodeGetType(node, kind)
    }

    /// A number that no other graph has.
    fn cudaGraphGetId(graph: CUgraph, id: Out<u32>) {
        enter()?.driver.cuGraphGetId(graph, id)
    }

    /// A number that no other executable graph has.
    fn cudaGraphExecGetId(exec: CUgraphExec, id: Out<u32>) {
        enter()?.driver.cuGraphExecGetId(exec, id)
    }

    /// The graph of a node.
    fn cudaGraphNodeGetContainingGraph(node: CUgraphNode, graph: Out<CUgraph>) {
        enter()?.driver.cuGraphNodeGetContainingGraph(node, graph)
    }

    /// A number that no other node of its graph has.
    fn cudaGraphNodeGetLocalId(node: CUgraphNode, id: Out<u32>) {
        enter()?.driver.cuGraphNodeGetLocalId(node, id)
    }

    /// A number that no other node has.
    fn cudaGraphNodeGetToolsId(node: CUgraphNode, id: Out<u64>) {
        enter()?.driver.cuGraphNodeGetToolsId(node, id)
    }

    /// All nodes.
    fn cudaGraphGetNodes(graph: CUgraph, nodes: Out<CUgraphNode>, count: Out<usize>) {
        enter()?.driver.cuGraphGetNodes(graph, nodes, count)
    }

    /// Nodes that depend on none.
    fn cudaGraphGetRootNodes(graph: CUgraph, nodes: Out<CUgraphNode>, count: Out<usize>) {
        enter()?.driver.cuGraphGetRootNodes(graph, nodes, count)
    }

    /// All edges (ABI of CUDA 10).
    fn cudaGraphGetEdges_v1(
        graph: CUgraph, from: Out<CUgraphNode>, to: Out<CUgraphNode>, count: Out<usize>,
    ) {
        enter()?.driver.cuGraphGetEdges(graph, from, to, count)
    }

    /// All edges (ABI of CUDA 12.3).
    fn cudaGraphGetEdges_v2(
        graph: CUgraph, from: Out<CUgraphNode>, to: Out<CUgraphNode>, edges: Host,
        count: Out<usize>,
    ) {
        enter()?.driver.cuGraphGetEdges_v2(graph, from, to, edges, count)
    }

    /// Nodes that a node depends on (ABI of CUDA 10).
    fn cudaGraphNodeGetDependencies_v1(node: CUgraphNode, nodes: Out<CUgraphNode>, count: Out<usize>) {
        enter()?.driver.cuGraphNodeGetDependencies(node, nodes, count)
    }

    /// Nodes that a node depends on (ABI of CUDA 12.3).
    fn cudaGraphNodeGetDependencies_v2(
        node: CUgraphNode, nodes: Out<CUgraphNode>, edges: Host, count: Out<usize>,
    ) {
        enter()?.driver.cuGraphNodeGetDependencies_v2(node, nodes, edges, count)
    }

    /// Nodes that depend on a node (ABI of CUDA 10).
    fn cudaGraphNodeGetDependentNodes_v1(node: CUgraphNode, nodes: Out<CUgraphNode>, count: Out<usize>) {
        enter()?.driver.cuGraphNodeGetDependentNodes(node, nodes, count)
    }

    /// Nodes that depend on a node (ABI of CUDA 12.3).
    fn cudaGraphNodeGetDependentNodes_v2(
        node: CUgraphNode, nodes: Out<CUgraphNode>, edges: Host, count: Out<usize>,
    ) {
        enter()?.driver.cuGraphNodeGetDependentNodes_v2(node, nodes, edges, count)
    }

    /// Adds edges (ABI of CUDA 10).
    fn cudaGraphAddDependencies_v1(
        graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, count: usize,
    ) {
        enter()?.driver.cuGraphAddDependencies(graph, from, to, count)
    }

    /// Adds edges (ABI of CUDA 12.3).
    fn cudaGraphAddDependencies_v2(
        graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, edges: Host, count: usize,
    ) {
        enter()?.driver.cuGraphAddDependencies_v2(graph, from, to, edges, count)
    }

    /// Removes edges (ABI of CUDA 10).
    fn cudaGraphRemoveDependencies_v1(
        graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, count: usize,
    ) {
        enter()?.driver.cuGraphRemoveDependencies(graph, from, to, count)
    }

    /// Removes edges (ABI of CUDA 12.3).
    fn cudaGraphRemoveDependencies_v2(
        graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, edges: Host, count: usize,
    ) {
        enter()?.driver.cuGraphRemoveDependencies_v2(graph, from, to, edges, count)
    }

    /// Removes a node with its edges.
    fn cudaGraphDestroyNode(node: CUgraphNode) {
        enter()?.driver.cuGraphDestroyNode(node)
    }

    /// Makes a graph executable (ABI of CUDA 11: with a log).
    fn cudaGraphInstantiate_v1(
        exec: Out<CUgraphExec>, graph: CUgraph, node: Out<CUgraphNode>, log: Out<c_char>, len: usize,
    ) {
        enter()?.driver.cuGraphInstantiate_v2(exec, graph, node, log, len)
    }

    /// Makes a graph executable. Since CUDA 12 this is cudaGraphInstantiate, too.
    fn cudaGraphInstantiateWithFlags(exec: Out<CUgraphExec>, graph: CUgraph, flags: u64) {
        enter()?.driver.cuGraphInstantiateWithFlags(exec, graph, flags)
    }

    /// Makes a graph executable; the parameters are laid out as the driver's.
    fn cudaGraphInstantiateWithParams | cudaGraphInstantiateWithParams_ptsz [zero] (
        exec: Out<CUgraphExec>, graph: CUgraph, params: Opaque,
    ) {
        enter()?.driver.cuGraphInstantiateWithParams(zero, exec, graph, params)
    }

    /// Flags that a graph was made executable with.
    fn cudaGraphExecGetFlags(exec: CUgraphExec, flags: Out<u64>) {
        enter()?.driver.cuGraphExecGetFlags(exec, flags)
    }

    /// Destroys an executable graph.
    fn cudaGraphExecDestroy(exec: CUgraphExec) {
        enter()?.driver.cuGraphExecDestroy(exec)
    }

    /// Takes the parameters of another graph of the same form (ABI of CUDA 11).
    fn cudaGraphExecUpdate_v1(
        exec: CUgraphExec, graph: CUgraph, node: Out<CUgraphNode>, result: Out<i32>,
    ) {
        enter()?.driver.cuGraphExecUpdate(exec, graph, node, result)
    }

    /// Takes the parameters of another graph of the same form; the result is laid out as the
    /// driver's.
    fn cudaGraphExecUpdate_v2(exec: CUgraphExec, graph: CUgraph, result: Opaque) {
        enter()?.driver.cuGraphExecUpdate_v2(exec, graph, result)
    }

    /// Executes a graph in a stream's order.
    fn cudaGraphLaunch | cudaGraphLaunch_ptsz [zero] (exec: CUgraphExec, stream: CUstream) {
        enter()?.driver.cuGraphLaunch(zero, exec, stream)
    }

    /// Prepares the execution of a graph.
    fn cudaGraphUpload | cudaGraphUpload_ptsz [zero] (exec: CUgraphExec, stream: CUstream) {
        enter()?.driver.cuGraphUpload(zero, exec, stream)
    }

    /// Switches a node on or off.
    fn cudaGraphNodeSetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: u32) {
        enter()?.driver.cuGraphNodeSetEnabled(exec, node, enabled)
    }

    /// Whether a node is switched on.
    fn cudaGraphNodeGetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: Out<u32>) {
        enter()?.driver.cuGraphNodeGetEnabled(exec, node, enabled)
    }

    /// An object that graphs keep alive.
    fn cudaUserObjectCreate(
        object: Out<CUuserObject>, data: Opaque, destroy: HostFn, count: u32, flags: u32,
    ) {
        enter()?.driver.cuUserObjectCreate(object, data, destroy, count, flags)
    }

    /// Adds references to an object.
    fn cudaUserObjectRetain(object: CUuserObject, count: u32) {
        enter()?.driver.cuUserObjectRetain(object, count)
    }

    /// Takes references from an object.
    fn cudaUserObjectRelease(object: CUuserObject, count: u32) {
        enter()?.driver.cuUserObjectRelease(object, count)
    }

    /// Has a graph keep an object alive.
    fn cudaGraphRetainUserObject(graph: CUgraph, object: CUuserObject, count: u32, flags: u32) {
        enter()?.driver.cuGraphRetainUserObject(graph, object, count, flags)
    }

    /// Ends what cudaGraphRetainUserObject began.
    fn cudaGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: u32) {
        enter()?.driver.cuGraphReleaseUserObject(graph, object, count)
    }
}
