//! Memory: this VM's share of it.

use vgpu_protocol::calls::stubs;
use vgpu_protocol::nvml::NvmlField;

use crate::abi::{Handle, Out, exports};
use crate::result::{Done, Return, of_status};
use crate::state::{self, NO_CTX};
use crate::structs::{Bar1Memory, Memory, MemoryV2, version};

/// Total and used, in bytes.
fn memory() -> Done<(u64, u64)> {
    stubs::nvml_memory(state::library()?, NO_CTX).map_err(of_status)
}

exports! {
    /// Total, free and used memory.
    fn nvmlDeviceGetMemoryInfo(device: Handle, out: Out<Memory>) {
        state::device(device)?;
        out.check()?;
        let (total, used) = memory()?;
        out.set(Memory { total, free: total.saturating_sub(used), used })
    }

    /// The same, with what the driver keeps for itself: nothing of the VM's share.
    fn nvmlDeviceGetMemoryInfo_v2(device: Handle, out: Out<MemoryV2>) {
        state::device(device)?;
        if out.version().get()? != version::<MemoryV2>(2) {
            return Err(Return::ArgumentVersionMismatch);
        }
        let (total, used) = memory()?;
        out.set(MemoryV2 {
            version: version::<MemoryV2>(2),
            total,
            reserved: 0,
            free: total.saturating_sub(used),
            used,
        })
    }

    /// The host's window into the GPU's memory.
    fn nvmlDeviceGetBAR1MemoryInfo(device: Handle, out: Out<Bar1Memory>) {
        let device = state::device(device)?;
        out.check()?;
        let total = device.value(NvmlField::Bar1Total)?;
        let used = device.value(NvmlField::Bar1Used)?;
        out.set(Bar1Memory { total, free: total.saturating_sub(used), used })
    }
}
