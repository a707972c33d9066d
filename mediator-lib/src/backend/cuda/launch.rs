//! Kernels.

use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute_enum as Attr;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, ModuleId};

use super::ptx::Layout;
use super::sys::code::Function;
use crate::counters::KernelCount;

/// A kernel as the session's table holds it.
#[derive(Debug)]
pub struct FunctionEntry {
    /// Its context.
    pub ctx: CtxId,
    /// Its module.
    pub module: ModuleId,
    /// The driver's kernel.
    pub function: Function,
    /// Its parameters: the length of a launch's parameter block is checked against them.
    pub layout: Layout,
    /// Counts its launches.
    pub count: Arc<KernelCount>,
}

/// `CUfunction_attribute` numbers and values that the driver knows of a kernel.
pub fn attributes(function: &Function) -> Vec<(i32, i32)> {
    let numbers = 0..Attr::CU_FUNC_ATTRIBUTE_MAX as u32;
    numbers
        .filter_map(|number| Some((number as i32, function.attribute(number).ok()?)))
        .collect()
}

/// The parameters of a kernel.
///
/// # Errors
/// `ERROR_NOT_SUPPORTED` where neither the driver nor the image tells them: a launch with a guess
/// would read past the guest's block or pass half of it.
pub fn layout(function: &Function, from_text: Option<&Layout>) -> Result<Layout, Status> {
    match function.params() {
        Err(Status::ERROR_NOT_SUPPORTED) => from_text.cloned().ok_or(Status::ERROR_NOT_SUPPORTED),
        known => known,
    }
}
