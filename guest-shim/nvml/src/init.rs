//! Initialisation.

use crate::abi::exports;
use crate::result::{Done, Return};
use crate::state;

const NO_GPUS: u32 = 1;
const NO_ATTACH: u32 = 2;
const FORCE_INIT: u32 = 4;

fn init(flags: u32) -> Done {
    if flags & !(NO_GPUS | NO_ATTACH | FORCE_INIT) != 0 {
        return Err(Return::InvalidArgument);
    }
    state::start(flags & NO_GPUS != 0)
}

exports! {
    /// Initialises NVML; each call needs one of nvmlShutdown.
    fn nvmlInit | nvmlInit_v2() {
        init(0)
    }

    /// Initialises NVML, for instance without GPUs.
    fn nvmlInitWithFlags(flags: u32) {
        init(flags)
    }

    /// Ends one initialisation.
    fn nvmlShutdown() {
        state::stop()
    }
}
