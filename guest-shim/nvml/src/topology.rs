//! How devices are connected. A VM has one device.

use crate::abi::{Handle, Out, exports};
use crate::result::Return;
use crate::state;

/// `NVML_TOPOLOGY_INTERNAL` and `_SYSTEM`.
const INTERNAL: u32 = 0;
const SYSTEM: u32 = 50;
/// `NVML_P2P_STATUS_NOT_SUPPORTED`.
const P2P_NOT_SUPPORTED: u32 = 5;
/// `NVML_P2P_CAPS_INDEX_UNKNOWN`, beyond the last one.
const P2P_INDICES: u32 = 7;

exports! {
    /// What connects two devices.
    fn nvmlDeviceGetTopologyCommonAncestor(one: Handle, other: Handle, level: Out<u32>) {
        let (one, other) = (state::device(one)?, state::device(other)?);
        level.set(if one.index == other.index { INTERNAL } else { SYSTEM })
    }

    /// The devices near one: there are no others.
    fn nvmlDeviceGetTopologyNearestGpus(device: Handle, level: u32, count: Out<u32>, _devices: Out<Handle>) {
        state::device(device)?;
        if level > SYSTEM || !level.is_multiple_of(10) {
            return Err(Return::InvalidArgument);
        }
        count.set(0)
    }

    /// The devices near a CPU: all.
    fn nvmlSystemGetTopologyGpuSet(_cpu: u32, count: Out<u32>, list: Out<Handle>) {
        let devices = state::devices()?;
        let room = count.get()? as usize;
        count.set(devices.len() as u32)?;
        if list.is_null() {
            return Ok(());
        }
        for (index, device) in devices.iter().enumerate().take(room) {
            list.set_at(index, device.handle())?;
        }
        Ok(())
    }

    /// Whether one device reaches the other's memory (`nvmlGpuP2PStatus_t`).
    fn nvmlDeviceGetP2PStatus(one: Handle, other: Handle, index: u32, status: Out<u32>) {
        state::device(one)?;
        state::device(other)?;
        if index >= P2P_INDICES {
            return Err(Return::InvalidArgument);
        }
        status.set(P2P_NOT_SUPPORTED)
    }

    /// Whether two devices are on one board.
    fn nvmlDeviceOnSameBoard(one: Handle, other: Handle, same: Out<i32>) {
        let (one, other) = (state::device(one)?, state::device(other)?);
        same.set((one.index == other.index).into())
    }

    /// Whether the handle is a MIG instance's: none is.
    fn nvmlDeviceIsMigDeviceHandle(device: Handle, is: Out<u32>) {
        state::device(device)?;
        is.set(0)
    }

    /// Most MIG instances.
    fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: Out<u32>) {
        state::device(device)?;
        count.set(0)
    }
}
