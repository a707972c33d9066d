//! The driver's linker.

use std::sync::Arc;

use cudarc::driver::sys::CUjitInputType_enum as Input;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, JitOption, JitReport, LinkId};
use vgpu_protocol::limits::{MAX_LINK_INPUT_BYTES, MAX_LINKED_BYTES};
use vgpu_protocol::wire::Blob;

use super::image::{self, CheckedImage};
use super::module::numeric_options;
use super::session::CudaSession;
use super::sys::code::JitLogs;
use super::sys::link::Link;

/// A linker as the session's table holds it.
#[derive(Debug)]
pub struct LinkEntry {
    /// Its context.
    pub ctx: CtxId,
    link: Link,
    /// Bytes of its inputs: the driver keeps what it made of them.
    bytes: u64,
}

fn report(result: Result<(), Status>, logs: JitLogs) -> JitReport {
    JitReport {
        status: result.err().map_or(0, |status| status.0),
        info_log: logs.info,
        error_log: logs.error,
    }
}

impl CudaSession {
    /// `cuLinkCreate`.
    pub(super) fn create_link(
        &mut self,
        ctx: CtxId,
        options: &[JitOption],
    ) -> Result<LinkId, Status> {
        let driver_ctx = Arc::clone(&self.current(ctx)?.ctx);
        let options = numeric_options(options)?;
        let made = Link::create(&driver_ctx, &options);
        let link = self.note(ctx, made)?;
        let entry = LinkEntry {
            ctx,
            link,
            bytes: 0,
        };
        self.objects.links.add(entry)
    }

    /// `cuLinkAddData`.
    pub(super) fn add_to_link(
        &mut self,
        link: LinkId,
        kind: u32,
        name: &str,
        options: &[JitOption],
        data: &[u8],
    ) -> Result<JitReport, Status> {
        const TEXT_OR_IMAGE: [u32; 3] = [
            Input::CU_JIT_INPUT_CUBIN as u32,
            Input::CU_JIT_INPUT_PTX as u32,
            Input::CU_JIT_INPUT_FATBINARY as u32,
        ];
        // Their length is given beside them, and the driver goes by it.
        const FILES: [u32; 2] = [
            Input::CU_JIT_INPUT_OBJECT as u32,
            Input::CU_JIT_INPUT_LIBRARY as u32,
        ];
        let options = numeric_options(options)?;
        let entry = self.objects.links.get_mut(link)?;
        let bytes = entry.bytes + data.len() as u64;
        if bytes > MAX_LINK_INPUT_BYTES {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let checked;
        let input: &[u8] = if TEXT_OR_IMAGE.contains(&kind) {
            checked = match CheckedImage::check(data) {
                Ok(image) => image,
                Err(error) => {
                    return Ok(JitReport {
                        status: image::REFUSED.0,
                        info_log: String::new(),
                        error_log: error,
                    });
                }
            };
            checked.bytes()
        } else if FILES.contains(&kind) {
            data
        } else {
            return Err(Status::ERROR_INVALID_VALUE);
        };
        let (added, logs) = entry.link.add(kind, input, name, &options);
        if added.is_ok() {
            entry.bytes = bytes;
        }
        let ctx = entry.ctx;
        let added = self.note(ctx, added);
        Ok(report(added, logs))
    }

    /// `cuLinkComplete`.
    pub(super) fn complete_link(&mut self, link: LinkId) -> Result<(JitReport, Blob), Status> {
        let entry = self.objects.links.get_mut(link)?;
        let (linked, logs) = entry.link.complete(MAX_LINKED_BYTES);
        let ctx = entry.ctx;
        match self.note(ctx, linked) {
            Ok(image) => Ok((report(Ok(()), logs), Blob(image))),
            Err(status) => Ok((report(Err(status), logs), Blob::default())),
        }
    }
}
