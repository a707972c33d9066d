//! Nodes and edges of graphs: lists, additions, removals.

use cudarc::driver::sys::{CUgraph, CUgraphEdgeData, CUgraphNode};
use vgpu_protocol::Status;

use crate::abi::{Done, INVALID, In, Out, exports, nothing, nowhere};
use crate::graph::Edge;
use crate::init::driver;

/// `CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC`, between kernels: taken as a whole dependency.
const PROGRAMMATIC: u8 = 1;
/// `CUDA_ERROR_LOSSY_QUERY`.
const LOSSY: Status = Status(402);

/// Nodes with the data of their edges, as a call names them.
pub fn edges(
    nodes: In<CUgraphNode>,
    data: In<CUgraphEdgeData>,
    count: usize,
) -> impl Iterator<Item = Done<(u64, Edge)>> {
    (0..count).map(move |i| {
        let node = nodes.at(i)? as u64;
        if data.is_null() {
            return Ok((node, [0; 3]));
        }
        let edge = data.at(i)?;
        if edge.reserved != [0; 5] || edge.type_ > PROGRAMMATIC || edge.to_port != 0 {
            return Err(INVALID);
        }
        Ok((node, [edge.from_port, edge.to_port, edge.type_]))
    })
}

fn edge_data(edge: Edge) -> CUgraphEdgeData {
    CUgraphEdgeData {
        from_port: edge[0],
        to_port: edge[1],
        type_: edge[2],
        reserved: [0; 5],
    }
}

/// Gives a list in the way of these calls: a null place asks for the length; a place that is longer
/// than the list is filled up with null.
fn give(
    found: &[(u64, Edge)],
    nodes: Out<CUgraphNode>,
    data: Out<CUgraphEdgeData>,
    count: Out<usize>,
    tells_edges: bool,
) -> Done {
    count.check()?;
    if nodes.is_null() {
        return count.set(found.len());
    }
    if data.is_null() && tells_edges && found.iter().any(|(_, e)| *e != [0; 3]) {
        return Err(LOSSY);
    }
    let room = count.get_at(0)?;
    for i in 0..room {
        let (node, edge) = found.get(i).copied().unwrap_or_default();
        nodes.set_at(i, node as CUgraphNode)?;
        if !data.is_null() {
            data.set_at(i, edge_data(edge))?;
        }
    }
    count.set(found.len())
}

fn get_edges(
    graph: CUgraph,
    from: Out<CUgraphNode>,
    to: Out<CUgraphNode>,
    data: Out<CUgraphEdgeData>,
    count: Out<usize>,
) -> Done {
    let graph = driver()?.graph(graph)?;
    count.check()?;
    if from.is_null() != to.is_null() {
        return Err(INVALID);
    }
    let state = graph.state();
    let handle = |i: usize| {
        state
            .nodes
            .get(i)
            .and_then(Option::as_ref)
            .map_or(0, |n| n.handle)
    };
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for (_, node) in state.live() {
        for (earlier, edge) in &node.after {
            sources.push((handle(*earlier), *edge));
            targets.push((node.handle, *edge));
        }
    }
    let room = if from.is_null() { 0 } else { count.get_at(0)? };
    give(&sources, from, data, count, true)?;
    if !from.is_null() {
        count.set(room)?;
        give(&targets, to, nowhere(), count, false)?;
    }
    Ok(())
}

fn dependencies(
    node: CUgraphNode,
    out: Out<CUgraphNode>,
    data: Out<CUgraphEdgeData>,
    count: Out<usize>,
) -> Done {
    let (graph, index) = driver()?.node(node)?;
    let state = graph.state();
    let get = |i: usize| state.nodes.get(i).and_then(Option::as_ref);
    let node = get(index).ok_or(INVALID)?;
    let found: Vec<_> = node
        .after
        .iter()
        .filter_map(|(i, e)| Some((get(*i)?.handle, *e)))
        .collect();
    give(&found, out, data, count, true)
}

fn dependents(
    node: CUgraphNode,
    out: Out<CUgraphNode>,
    data: Out<CUgraphEdgeData>,
    count: Out<usize>,
) -> Done {
    let (graph, index) = driver()?.node(node)?;
    let state = graph.state();
    let follows =
        |n: &crate::graph::Node| n.after.iter().find(|(i, _)| *i == index).map(|(_, e)| *e);
    let found: Vec<_> = state
        .live()
        .filter_map(|(_, n)| Some((n.handle, follows(n)?)))
        .collect();
    give(&found, out, data, count, true)
}

fn change(
    graph: CUgraph,
    from: In<CUgraphNode>,
    to: In<CUgraphNode>,
    data: In<CUgraphEdgeData>,
    count: usize,
    adds: bool,
) -> Done {
    let driver = driver()?;
    let graph = driver.graph(graph)?;
    // All are checked before the first one is changed.
    let mut pairs = Vec::new();
    for (i, edge) in edges(from, data, count).enumerate() {
        let (from, edge) = edge?;
        let (a, b) = (driver.node(from as CUgraphNode)?, driver.node(to.at(i)?)?);
        let ours = std::sync::Arc::ptr_eq(&a.0, &graph) && std::sync::Arc::ptr_eq(&b.0, &graph);
        if !ours || a.1 == b.1 {
            return Err(INVALID);
        }
        pairs.push((a.1, b.1, edge));
    }
    let mut state = graph.state();
    for (i, (from, to, _)) in pairs.iter().enumerate() {
        let node = state
            .nodes
            .get(*to)
            .and_then(Option::as_ref)
            .ok_or(INVALID)?;
        let there = node.after.iter().any(|(a, _)| a == from);
        let twice = pairs[..i].iter().any(|(f, t, _)| (f, t) == (from, to));
        // "If the dependency exists already / does not exist, an error is returned."
        if there == adds || twice {
            return Err(INVALID);
        }
    }
    for (from, to, edge) in pairs {
        if let Some(Some(node)) = state.nodes.get_mut(to) {
            match adds {
                true => node.after.push((from, edge)),
                false => node.after.retain(|(a, _)| *a != from),
            }
        }
    }
    Ok(())
}

exports! {
    /// All nodes.
    fn cuGraphGetNodes(graph: CUgraph, nodes: Out<CUgraphNode>, count: Out<usize>) {
        let graph = driver()?.graph(graph)?;
        let found: Vec<_> = graph.state().live().map(|(_, n)| (n.handle, [0; 3])).collect();
        give(&found, nodes, nowhere(), count, false)
    }

    /// Nodes that follow no other.
    fn cuGraphGetRootNodes(graph: CUgraph, nodes: Out<CUgraphNode>, count: Out<usize>) {
        let graph = driver()?.graph(graph)?;
        let state = graph.state();
        let roots = state.live().filter(|(_, n)| n.after.is_empty());
        let found: Vec<_> = roots.map(|(_, n)| (n.handle, [0; 3])).collect();
        give(&found, nodes, nowhere(), count, false)
    }

    /// All edges (ABI of CUDA 10.0).
    fn cuGraphGetEdges(graph: CUgraph, from: Out<CUgraphNode>, to: Out<CUgraphNode>, count: Out<usize>) {
        get_edges(graph, from, to, nowhere(), count)
    }

    /// All edges.
    fn cuGraphGetEdges_v2(
        graph: CUgraph, from: Out<CUgraphNode>, to: Out<CUgraphNode>, data: Out<CUgraphEdgeData>, count: Out<usize>,
    ) {
        get_edges(graph, from, to, data, count)
    }

    /// The nodes that a node follows (ABI of CUDA 10.0).
    fn cuGraphNodeGetDependencies(node: CUgraphNode, out: Out<CUgraphNode>, count: Out<usize>) {
        dependencies(node, out, nowhere(), count)
    }

    /// The nodes that a node follows.
    fn cuGraphNodeGetDependencies_v2(
        node: CUgraphNode, out: Out<CUgraphNode>, data: Out<CUgraphEdgeData>, count: Out<usize>,
    ) {
        dependencies(node, out, data, count)
    }

    /// The nodes that follow a node (ABI of CUDA 10.0).
    fn cuGraphNodeGetDependentNodes(node: CUgraphNode, out: Out<CUgraphNode>, count: Out<usize>) {
        dependents(node, out, nowhere(), count)
    }

    /// The nodes that follow a node.
    fn cuGraphNodeGetDependentNodes_v2(
        node: CUgraphNode, out: Out<CUgraphNode>, data: Out<CUgraphEdgeData>, count: Out<usize>,
    ) {
        dependents(node, out, data, count)
    }

    /// Adds edges (ABI of CUDA 10.0).
    fn cuGraphAddDependencies(graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, count: usize) {
        change(graph, from, to, nothing(), count, true)
    }

    /// Adds edges.
    fn cuGraphAddDependencies_v2(
        graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, data: In<CUgraphEdgeData>, count: usize,
    ) {
        change(graph, from, to, data, count, true)
    }

    /// Removes edges (ABI of CUDA 10.0).
    fn cuGraphRemoveDependencies(graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, count: usize) {
        change(graph, from, to, nothing(), count, false)
    }

    /// Removes edges.
    fn cuGraphRemoveDependencies_v2(
        graph: CUgraph, from: In<CUgraphNode>, to: In<CUgraphNode>, data: In<CUgraphEdgeData>, count: usize,
    ) {
        change(graph, from, to, data, count, false)
    }
}
