//! Executable graphs.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, GraphCalls, GraphId, StreamId};

use super::super::session::CudaSession;

impl GraphCalls for CudaSession {
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
        let owner = self.owner(ctx, stream)?;
        let entry = self.objects.graphs.get(graph)?;
        if entry.ctx != owner {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        self.pace(owner, stream)?;
        let entry = self.objects.graphs.get(graph)?;
        let launched = entry.exec.launch(self.stream(owner, stream)?);
        self.note(owner, launched)
    }

    fn graph_upload(&mut self, ctx: CtxId, graph: GraphId, stream: StreamId) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        let entry = self.objects.graphs.get(graph)?;
        if entry.ctx != owner {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        let uploaded = entry.exec.upload(self.stream(owner, stream)?);
        self.note(owner, uploaded)
    }

    fn graph_destroy(&mut self, _: CtxId, graph: GraphId) -> Result<(), Status> {
        self.objects.graphs.remove(graph).map(|_| ())
    }
}
