//! The linker.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, JitOption, JitReport, LinkCalls, LinkId};
use vgpu_protocol::wire::Blob;

use super::super::session::SoftSession;

impl LinkCalls for SoftSession {
    fn link_create(&mut self, ctx: CtxId, _options: Vec<JitOption>) -> Result<LinkId, Status> {
        self.create_link(ctx)
    }

    fn link_add(
        &mut self,
        _: CtxId,
        link: LinkId,
        kind: u32,
        name: &str,
        _options: Vec<JitOption>,
        data: &[u8],
    ) -> Result<JitReport, Status> {
        self.add_to_link(link, kind, name, data)
    }

    fn link_complete(&mut self, _: CtxId, link: LinkId) -> Result<(JitReport, Blob), Status> {
        self.complete_link(link)
    }

    fn link_destroy(&mut self, _: CtxId, link: LinkId) -> Result<(), Status> {
        self.links.remove(link).map(|_| ())
    }
}
