//! Text of kernels. NVIDIA's driver formats it and writes it to the standard output and error of
//! the process that it is in. Where that process serves this session only, the text is the guest's.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, OutputCalls};
use vgpu_protocol::wire::Blob;

use super::super::session::CudaSession;

impl OutputCalls for CudaSession {
    fn output(&mut self, _: CtxId) -> Result<(Blob, Blob), Status> {
        let captured = self.context.captured.as_ref();
        let (out, err) = captured.ok_or(Status::ERROR_NOT_SUPPORTED)?.take();
        Ok((Blob(out), Blob(err)))
    }
}
