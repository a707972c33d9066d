//! Modules.

use std::collections::HashMap;
use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, JitOption};

use super::image::CheckedImage;
use super::ptx::{self, Layout};
use super::sys::code::{Module, NumericOption};
use crate::budget::Share;

/// A module as the session's table holds it.
#[derive(Debug)]
pub struct ModuleEntry {
    /// Its context.
    pub ctx: CtxId,
    /// The driver's module.
    pub module: Arc<Module>,
    /// Parameter layouts by kernel, where the image's text had to be read for them.
    pub layouts: HashMap<String, Layout>,
    /// What its code and variables take of the VM's share; given back with the module.
    pub _share: Option<Share>,
}

/// What a module may take on the GPU without being counted, in bytes: code, and what the driver
/// itself allocates meanwhile. Only large variables matter: without counting them a guest would
/// take memory beyond the VM's share by declaring arrays.
pub const UNCOUNTED_BYTES: u64 = 32 << 20;

/// The options that reach the driver.
///
/// # Errors
/// `ERROR_INVALID_VALUE` for an option whose value is an address, for the log buffers, which the
/// protocol carries itself, and for a value of more than 32 bits.
pub fn numeric_options(options: &[JitOption]) -> Result<Vec<NumericOption>, Status> {
    let numeric = |o: &JitOption| {
        let value = u32::try_from(o.value).ok()?;
        NumericOption::new(o.option, value)
    };
    options
        .iter()
        .map(|o| numeric(o).ok_or(Status::ERROR_INVALID_VALUE))
        .collect()
}

/// The layouts of all kernels in an image's readable PTX.
pub fn layouts(image: &CheckedImage<'_>) -> HashMap<String, Layout> {
    image.ptx().flat_map(ptx::layouts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_options() {
        let option =
            |option, value| numeric_options(&[JitOption { option, value }]).map(|o| o.len());
        // CU_JIT_MAX_REGISTERS, CU_JIT_OPTIMIZATION_LEVEL, CU_JIT_TARGET.
        for number in [0, 7, 9] {
            assert_eq!(option(number, 32), Ok(1));
            assert_eq!(option(number, u64::from(u32::MAX)), Ok(1));
            assert_eq!(option(number, 1 << 32), Err(Status::ERROR_INVALID_VALUE));
        }
        // The logs, CU_JIT_GLOBAL_SYMBOL_NAMES, _ADDRESSES, CU_JIT_REFERENCED_KERNEL_NAMES, unknown.
        for number in [2, 3, 4, 5, 6, 17, 18, 19, 25, 26, 1000, u32::MAX] {
            assert_eq!(
                option(number, 0),
                Err(Status::ERROR_INVALID_VALUE),
                "{number}"
            );
        }
        assert_eq!(numeric_options(&[]).map(|o| o.len()), Ok(0));
    }
}
