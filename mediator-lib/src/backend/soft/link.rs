//! The linker: several PTX texts into one module.

use cudarc::driver::sys::CUjitInputType_enum as Input;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, JitReport, LinkId};
use vgpu_protocol::limits::MAX_LINKED_BYTES;
use vgpu_protocol::wire::Blob;
use vgpu_soft_gpu::{InputKind, LinkError, Linker};

use super::module::{cut, failure};
use super::session::SoftSession;

/// A linker as the session's table holds it.
pub(super) struct LinkEntry {
    pub ctx: CtxId,
    linker: Linker,
}

/// The kind that `cuLinkAddData` names.
///
/// # Errors
/// `ERROR_NOT_SUPPORTED` for NVVM code, which no GPU of this kind takes any more;
/// `ERROR_INVALID_VALUE` for what is no kind.
fn kind(number: u32) -> Result<InputKind, Status> {
    const CUBIN: u32 = Input::CU_JIT_INPUT_CUBIN as u32;
    const PTX: u32 = Input::CU_JIT_INPUT_PTX as u32;
    const FATBINARY: u32 = Input::CU_JIT_INPUT_FATBINARY as u32;
    const OBJECT: u32 = Input::CU_JIT_INPUT_OBJECT as u32;
    const LIBRARY: u32 = Input::CU_JIT_INPUT_LIBRARY as u32;
    const NVVM: u32 = Input::CU_JIT_INPUT_NVVM as u32;
    Ok(match number {
        CUBIN => InputKind::Cubin,
        PTX => InputKind::Ptx,
        FATBINARY => InputKind::FatBinary,
        OBJECT => InputKind::Object,
        LIBRARY => InputKind::Library,
        NVVM => return Err(Status::ERROR_NOT_SUPPORTED),
        _ => return Err(Status::ERROR_INVALID_VALUE),
    })
}

fn report(error: &LinkError) -> JitReport {
    let (status, error_log) = match error {
        LinkError::Input { name, error } => {
            let (status, log) = failure(error);
            (status, format!("{name}: {log}"))
        }
        LinkError::Symbols(log) => (Status::ERROR_UNKNOWN, cut(log)),
        other => (Status::ERROR_OUT_OF_MEMORY, cut(&other.to_string())),
    };
    JitReport {
        status: status.0,
        info_log: String::new(),
        error_log: cut(&error_log),
    }
}

impl SoftSession {
    pub(super) fn create_link(&mut self, ctx: CtxId) -> Result<LinkId, Status> {
        self.current(ctx)?;
        let linker = Linker::default();
        self.links.add(LinkEntry { ctx, linker })
    }

    pub(super) fn add_to_link(
        &mut self,
        link: LinkId,
        number: u32,
        name: &str,
        data: &[u8],
    ) -> Result<JitReport, Status> {
        let kind = kind(number)?;
        let entry = self.links.get_mut(link)?;
        Ok(match entry.linker.add(kind, data, name) {
            Ok(()) => JitReport::default(),
            Err(error) => report(&error),
        })
    }

    pub(super) fn complete_link(&mut self, link: LinkId) -> Result<(JitReport, Blob), Status> {
        let entry = self.links.get(link)?;
        match entry.linker.complete() {
            Ok(image) if image.len() > MAX_LINKED_BYTES => Err(Status::ERROR_OUT_OF_MEMORY),
            Ok(image) => Ok((JitReport::default(), Blob(image))),
            Err(error) => Ok((report(&error), Blob::default())),
        }
    }
}
