//! Executable graphs: the driver's own, built by capturing the bodies of the nodes' calls.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DispatchError, GraphChange, GraphId, GraphNode, Opcode, dispatch,
};
use vgpu_protocol::limits::{MAX_GRAPH_BYTES, MAX_GRAPH_NODES};
use vgpu_protocol::wire::Writer;

use super::session::CudaSession;
use super::sys::order::{Capture, Exec, Graph};
use crate::backend::list;

/// An executable graph as the session's table holds it.
#[derive(Debug)]
pub struct GraphEntry {
    /// Its context.
    pub ctx: CtxId,
    /// The driver's.
    pub exec: Exec,
    /// What it was built from.
    nodes: Vec<GraphNode>,
    bytes: usize,
}

impl CudaSession {
    /// Captures all nodes.
    fn build(&mut self, ctx: CtxId, nodes: &[GraphNode]) -> Result<Graph, Status> {
        let entry = self.current(ctx)?;
        let begun = Capture::begin(&entry.ctx);
        self.recording = Some(self.note(ctx, begun)?);
        let captured = self.capture_nodes(ctx, nodes);
        let capture = self.recording.take().ok_or(Status::ERROR_UNKNOWN)?;
        captured?;
        let graph = capture.end();
        self.note(ctx, graph)
    }

    fn capture_nodes(&mut self, ctx: CtxId, nodes: &[GraphNode]) -> Result<(), Status> {
        let mut made = Vec::new();
        for node in nodes {
            let mut after = Vec::new();
            for earlier in &node.after {
                let earlier = made.get(*earlier as usize);
                after.push(*earlier.ok_or(Status::ERROR_INVALID_VALUE)?);
            }
            let capture = self.recording.as_ref().ok_or(Status::ERROR_UNKNOWN)?;
            if node.opcode == 0 {
                made.push(capture.empty_node(&after)?);
                continue;
            }
            capture.follow(&after)?;
            let opcode = u16::try_from(node.opcode)
                .ok()
                .and_then(Opcode::from_wire)
                .filter(|opcode| opcode.in_graphs())
                .ok_or(Status::ERROR_INVALID_VALUE)?;
            match dispatch(self, opcode, ctx, &node.request.0, &mut Writer::new()) {
                Ok(()) => {}
                Err(DispatchError::Failed(status)) => return Err(status),
                Err(DispatchError::Malformed(_)) => return Err(Status::ERROR_INVALID_VALUE),
            }
            let capture = self.recording.as_ref().ok_or(Status::ERROR_UNKNOWN)?;
            made.push(capture.last()?);
        }
        Ok(())
    }

    /// `cuGraphInstantiate`.
    pub(super) fn instantiate(
        &mut self,
        ctx: CtxId,
        graph: GraphId,
        bytes: &[u8],
    ) -> Result<(), Status> {
        self.current(ctx)?;
        let used: usize = self.objects.graphs.iter().map(|(_, g)| g.bytes).sum();
        let nodes: Vec<GraphNode> = list(bytes)?;
        if used + bytes.len() > MAX_GRAPH_BYTES || nodes.len() > MAX_GRAPH_NODES {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let built = self.build(ctx, &nodes)?;
        let exec = Exec::new(&built);
        let exec = self.note(ctx, exec)?;
        let entry = GraphEntry {
            ctx,
            exec,
            nodes,
            bytes: bytes.len(),
        };
        self.objects.graphs.add_as(graph, entry)
    }

    /// `cuGraphExecUpdate`, or a new executable graph where the driver does not like the change.
    pub(super) fn update_graph(&mut self, graph: GraphId, bytes: &[u8]) -> Result<(), Status> {
        let entry = self.objects.graphs.get(graph)?;
        let (ctx, mut nodes) = (entry.ctx, entry.nodes.clone());
        let mut added = 0;
        for change in list::<GraphChange>(bytes)? {
            let node = nodes
                .get_mut(change.node as usize)
                .ok_or(Status::ERROR_INVALID_VALUE)?;
            added += change.request.0.len();
            node.opcode = change.opcode;
            node.request = change.request;
        }
        let used: usize = self.objects.graphs.iter().map(|(_, g)| g.bytes).sum();
        if used + added > MAX_GRAPH_BYTES {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let built = self.build(ctx, &nodes)?;
        let entry = self.objects.graphs.get_mut(graph)?;
        if entry.exec.update(&built).is_err() {
            entry.exec = Exec::new(&built)?;
        }
        let size = |node: &GraphNode| node.request.0.len() + 4 * node.after.len() + 24;
        entry.bytes = nodes.iter().map(size).sum();
        entry.nodes = nodes;
        Ok(())
    }
}
