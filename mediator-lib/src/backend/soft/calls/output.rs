//! Text of kernels.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, OutputCalls};
use vgpu_protocol::wire::Blob;

use super::super::session::SoftSession;

impl OutputCalls for SoftSession {
    fn output(&mut self, _: CtxId) -> Result<(Blob, Blob), Status> {
        let (out, err) = self.output.take();
        Ok((Blob(out), Blob(err)))
    }
}
