//! Graphs as objects: making, copying, destroying, printing.

use std::fmt::Write;

use cudarc::driver::sys::{CUgraph, CUgraphNode};
use vgpu_protocol::Status;

use crate::abi::{Done, INVALID, Out, Text, exports};
use crate::graph::{Graph, Work};
use crate::init::driver;

/// All flags of `CUgraphDebugDot_flags`.
const DOT_FLAGS: u32 = 0x1_ffff;

fn label(work: &Work) -> String {
    match work {
        Work::Kernel(launch) => format!(
            "KERNEL\\n{}\\n{:?} {:?}",
            launch.function.name().to_string_lossy(),
            launch.shape.grid,
            launch.shape.block
        ),
        Work::Copy(copy) => format!("MEMCPY\\n{} x {} x {}", copy.width, copy.height, copy.depth),
        Work::Set(set) => format!(
            "MEMSET\\n{:#x}\\n{} x {} x {}",
            set.dst, set.element, set.width, set.height
        ),
        Work::Host { function, .. } => format!("HOST\\n{:#x}", function.address()),
        Work::Child(_) => "CHILD GRAPH".to_owned(),
        Work::Empty => "EMPTY".to_owned(),
        Work::Record { handle, .. } => format!("EVENT_RECORD\\n{handle:#x}"),
        Work::Wait { handle, .. } => format!("EVENT_WAIT\\n{handle:#x}"),
        Work::Alloc(memory) => {
            format!("MEM_ALLOC\\n{:#x}\\n{} bytes", memory.address, memory.bytes)
        }
        Work::Free(address) => format!("MEM_FREE\\n{address:#x}"),
        Work::Library { opcode, .. } => opcode.info().name.to_owned(),
        Work::MemOps { operations, .. } => format!("BATCH_MEM_OP\\n{}", operations.len()),
    }
}

/// A graph in the language of Graphviz.
fn dot(graph: &Graph, prefix: &str, out: &mut String) {
    let state = graph.state();
    for (index, node) in state.live() {
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "\"{prefix}node_{index}\" [shape=\"box\" label=\"{index}\\n{}\"];",
            label(&node.work).replace('"', "'")
        );
        for (earlier, _) in &node.after {
            let _ = writeln!(
                out,
                "\"{prefix}node_{earlier}\" -> \"{prefix}node_{index}\";"
            );
        }
        if let Work::Child(inner) = &*node.work {
            let inside = format!("{prefix}node_{index}_");
            let _ = writeln!(out, "subgraph \"cluster_{inside}\" {{");
            dot(inner, &inside, out);
            out.push_str("}\n");
        }
    }
}

exports! {
    /// Makes an empty graph. Flags must be 0.
    fn cuGraphCreate(out: Out<CUgraph>, flags: u32) {
        let driver = driver()?;
        out.check()?;
        if flags != 0 {
            return Err(INVALID);
        }
        out.set(driver.new_graph()?.handle as CUgraph)
    }

    /// Copies a graph with all its nodes.
    fn cuGraphClone(out: Out<CUgraph>, graph: CUgraph) {
        let driver = driver()?;
        out.check()?;
        let graph = driver.graph(graph)?;
        out.set(driver.clone_graph(&graph, false)?.handle as CUgraph)
    }

    /// Destroys a graph with all its nodes. Executable ones that were made from it stay.
    fn cuGraphDestroy(graph: CUgraph) {
        let driver = driver()?;
        let graph = driver.graph(graph)?;
        if graph.is_child() {
            return Err(INVALID);
        }
        driver.bury_graph(&graph);
        Ok(())
    }

    /// Destroys a node with its edges.
    fn cuGraphDestroyNode(node: CUgraphNode) {
        let driver = driver()?;
        let (graph, _) = driver.node(node)?;
        let is_memory = |w: &Work| matches!(w, Work::Alloc(_) | Work::Free(_));
        if is_memory(&*driver.work_of(node)?) {
            // "Nodes in graphs that contain allocation or free nodes cannot be deleted."
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        drop(graph);
        driver.destroy_node(node)
    }

    /// A number that no other graph has.
    fn cuGraphGetId(graph: CUgraph, id: Out<u32>) {
        let graph = driver()?.graph(graph)?;
        id.check()?;
        id.set(graph.unique as u32)
    }

    /// The node of a clone that was made from this one.
    fn cuGraphNodeFindInClone(out: Out<CUgraphNode>, original: CUgraphNode, clone: CUgraph) {
        let driver = driver()?;
        out.check()?;
        let clone = driver.graph(clone)?;
        out.set(driver.find_in_clone(original, &clone)? as CUgraphNode)
    }

    /// The graph of a node.
    fn cuGraphNodeGetContainingGraph(node: CUgraphNode, out: Out<CUgraph>) {
        let (graph, _) = driver()?.node(node)?;
        out.check()?;
        out.set(graph.handle as CUgraph)
    }

    /// A number that no other node of its graph has.
    fn cuGraphNodeGetLocalId(node: CUgraphNode, id: Out<u32>) {
        let (_, index) = driver()?.node(node)?;
        id.check()?;
        id.set(index as u32)
    }

    /// A number that no other node has.
    fn cuGraphNodeGetToolsId(node: CUgraphNode, id: Out<u64>) {
        let (graph, index) = driver()?.node(node)?;
        id.check()?;
        id.set(graph.unique << 32 | index as u64)
    }

    /// The kind of a node.
    fn cuGraphNodeGetType(node: CUgraphNode, kind: Out<u32>) {
        let work = driver()?.work_of(node)?;
        kind.check()?;
        kind.set(work.kind())
    }

    /// Writes a graph to a file, in the language of Graphviz.
    fn cuGraphDebugDotPrint(graph: CUgraph, path: Text, flags: u32) {
        let graph = driver()?.graph(graph)?;
        if flags & !DOT_FLAGS != 0 {
            return Err(INVALID);
        }
        let mut text = "digraph dot {\n".to_owned();
        dot(&graph, "", &mut text);
        text.push_str("}\n");
        let written: Done = std::fs::write(path.str()?, text).map_err(|_| Status::ERROR_OPERATING_SYSTEM);
        written
    }
}
