//! The linker.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, JitOption, JitReport, LinkCalls, LinkId};
use vgpu_protocol::wire::Blob;

use super::super::session::CudaSession;

impl LinkCalls for CudaSession {
    fn link_create(&mut self, ctx: CtxId, options: Vec<JitOption>) -> Result<LinkId, Status> {
        self.create_link(ctx, &options)
    }

    fn link_add(
        &mut self,
        _: CtxId,
        link: LinkId,
        kind: u32,
        name: &str,
        options: Vec<JitOption>,
        data: &[u8],
    ) -> Result<JitReport, Status> {
        self.add_to_link(link, kind, name, &options, data)
    }

    fn link_complete(&mut self, _: CtxId, link: LinkId) -> Result<(JitReport, Blob), Status> {
        self.complete_link(link)
    }

    fn link_destroy(&mut self, _: CtxId, link: LinkId) -> Result<(), Status> {
        self.start.require_init()?;
        self.objects.links.remove(link).map(|_| ())
    }
}
