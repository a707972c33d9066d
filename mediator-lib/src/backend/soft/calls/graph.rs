//! Executable graphs.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, GraphCalls, GraphId, StreamId};

use super::super::session::SoftSession;

impl GraphCalls for SoftSession {
    fn graph_instantiate(
        &mut self,
        ctx: CtxId,
        graph: GraphId,
        nodes: &[u8],
    ) -> Result<(), Status> {
        self.instantiate(ctx, graph, nodes)
    }

    fn graph_update(&mut self, _: CtxId, graph: GraphId, changes: &[u8]) -> Result<(), Status> {
        self.update_graph(graph, changes)
    }

    fn graph_launch(&mut self, ctx: CtxId, graph: GraphId, stream: StreamId) -> Result<(), Status> {
        self.launch_graph(ctx, graph, stream)
    }

    fn graph_upload(&mut self, ctx: CtxId, graph: GraphId, stream: StreamId) -> Result<(), Status> {
        // What a launch needs is here since the graph was made.
        self.stream_ctx(ctx, stream)?;
        self.graphs.get(graph).map(|_| ())
    }

    fn graph_destroy(&mut self, _: CtxId, graph: GraphId) -> Result<(), Status> {
        self.graphs.remove(graph).map(|_| ())
    }
}
