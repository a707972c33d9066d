//! Error correction of the GPU's memory.

use vgpu_protocol::nvml::NvmlField;

use crate::abi::{Handle, Out, exports};
use crate::result::Return;
use crate::state;

exports! {
    /// Whether it is on, now and after the host's next reboot.
    fn nvmlDeviceGetEccMode(device: Handle, current: Out<u32>, pending: Out<u32>) {
        let device = state::device(device)?;
        current.check()?;
        pending.check()?;
        current.set(device.short(NvmlField::EccCurrent)?)?;
        pending.set(device.short(NvmlField::EccPending)?)
    }

    /// Errors of a kind (`nvmlMemoryErrorType_t`), by a counter (`nvmlEccCounterType_t`).
    fn nvmlDeviceGetTotalEccErrors(device: Handle, kind: u32, counter: u32, errors: Out<u64>) {
        let device = state::device(device)?;
        errors.check()?;
        let field = match (kind, counter) {
            (0, 0) => NvmlField::EccCorrectedVolatile,
            (1, 0) => NvmlField::EccUncorrectedVolatile,
            (0, 1) => NvmlField::EccCorrectedAggregate,
            (1, 1) => NvmlField::EccUncorrectedAggregate,
            _ => return Err(Return::InvalidArgument),
        };
        errors.set(device.value(field)?)
    }
}
