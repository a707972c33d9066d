//! The processes of this VM that use a device.

use vgpu_protocol::calls::{NvmlProcess, stubs};

use crate::abi::{Handle, Out, exports};
use crate::result::{Done, Return, of_status};
use crate::state::{self, NO_CTX};
use crate::structs::{ProcessInfo, ProcessInfoV1};

/// Stands for "no MIG instance".
const NO_INSTANCE: u32 = u32::MAX;

/// Fills the program's list; where it is too short, only says how long it must be.
fn list<T: Copy>(
    device: Handle,
    count: Out<u32>,
    list: Out<T>,
    entry: impl Fn(&NvmlProcess) -> T,
) -> Done {
    state::device(device)?;
    let room = count.get()? as usize;
    if room > 0 {
        list.check()?;
    }
    let all = stubs::nvml_processes(state::library()?, NO_CTX).map_err(of_status)?;
    count.set(all.len() as u32)?;
    if all.len() > room {
        return Err(Return::InsufficientSize);
    }
    for (index, process) in all.iter().enumerate() {
        list.set_at(index, entry(process))?;
    }
    Ok(())
}

/// Graphics and MPS: the device has neither.
fn none(device: Handle, count: Out<u32>) -> Done {
    state::device(device)?;
    count.set(0)
}

exports! {
    /// Processes with memory of the device.
    fn nvmlDeviceGetComputeRunningProcesses(device: Handle, count: Out<u32>, infos: Out<ProcessInfoV1>) {
        list(device, count, infos, |process| ProcessInfoV1 {
            pid: process.pid,
            used_gpu_memory: process.used_bytes,
        })
    }

    /// The same, with their MIG instances.
    fn nvmlDeviceGetComputeRunningProcesses_v2 | nvmlDeviceGetComputeRunningProcesses_v3(
        device: Handle, count: Out<u32>, infos: Out<ProcessInfo>
    ) {
        list(device, count, infos, |process| ProcessInfo {
            pid: process.pid,
            used_gpu_memory: process.used_bytes,
            gpu_instance_id: NO_INSTANCE,
            compute_instance_id: NO_INSTANCE,
        })
    }

    /// Processes that draw.
    fn nvmlDeviceGetGraphicsRunningProcesses(device: Handle, count: Out<u32>, _infos: Out<ProcessInfoV1>) {
        none(device, count)
    }

    /// Processes that draw.
    fn nvmlDeviceGetGraphicsRunningProcesses_v2 | nvmlDeviceGetGraphicsRunningProcesses_v3(
        device: Handle, count: Out<u32>, _infos: Out<ProcessInfo>
    ) {
        none(device, count)
    }

    /// Processes behind MPS.
    fn nvmlDeviceGetMPSComputeRunningProcesses(device: Handle, count: Out<u32>, _infos: Out<ProcessInfoV1>) {
        none(device, count)
    }

    /// Processes behind MPS.
    fn nvmlDeviceGetMPSComputeRunningProcesses_v2 | nvmlDeviceGetMPSComputeRunningProcesses_v3(
        device: Handle, count: Out<u32>, _infos: Out<ProcessInfo>
    ) {
        none(device, count)
    }
}
