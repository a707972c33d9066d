//! What is between devices, and between a device and others: access to another one's memory,
//! writes of third devices, shares of a device. A VM has one device, which has none of it.

use std::ffi::c_char;

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_P2PAttribute_enum as P2p, CUdevice_attribute_enum as Attr,
    CUexecAffinityParam,
};
use vgpu_protocol::Status;

use crate::abi::{Done, INVALID, In, Out, exports};
use crate::ctx::{current, enter};
use crate::init::driver;

/// `CUDA_ERROR_PEER_ACCESS_UNSUPPORTED` and `CUDA_ERROR_PEER_ACCESS_NOT_ENABLED`.
const PEER_ACCESS_UNSUPPORTED: Status = Status(217);
const PEER_ACCESS_NOT_ENABLED: Status = Status(705);
/// `CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY`.
const UNSUPPORTED_AFFINITY: Status = Status(224);
/// `CU_EXEC_AFFINITY_TYPE_MAX`: one more than the last type.
const AFFINITY_TYPES: u32 = 1;
/// `CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX`, and the scopes: the owner, all devices.
const FLUSH_CURRENT_CTX: i32 = 0;
const FLUSH_SCOPES: [i32; 2] = [100, 200];

/// `CU_ATOMIC_OPERATION_FLOAT_MAX`, the last `CUatomicOperation`.
const LAST_ATOMIC_OPERATION: u32 = 12;

/// Says of each operation that a link has nothing of it (no `CUatomicOperationCapability`).
fn no_atomics(capabilities: Out<u32>, operations: In<u32>, count: u32) -> Done {
    capabilities.check()?;
    if count == 0 {
        return Err(INVALID);
    }
    for i in 0..count as usize {
        if operations.at(i)? > LAST_ATOMIC_OPERATION {
            return Err(INVALID);
        }
    }
    (0..count as usize).try_for_each(|i| capabilities.set_at(i, 0))
}

fn affinity_type(kind: u32) -> Done {
    if kind < AFFINITY_TYPES {
        Ok(())
    } else {
        Err(INVALID)
    }
}

/// Another context than the current one.
fn other(peer: CUcontext) -> Done {
    let driver = driver()?;
    let current = current()?;
    let peer = driver.context(peer)?;
    peer.id()?;
    if peer.handle == current.handle {
        return Err(Status::ERROR_INVALID_CONTEXT);
    }
    Ok(())
}

exports! {
    /// What one device can do with another one's memory.
    fn cuDeviceGetP2PAttribute(value: Out<i32>, attribute: i32, from: CUdevice, to: CUdevice) {
        let driver = driver()?;
        value.check()?;
        driver.device(from)?;
        driver.device(to)?;
        // "or if they represent the same device".
        if from == to {
            return Err(Status::ERROR_INVALID_DEVICE);
        }
        let first = P2p::CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK as i32;
        let last = P2p::CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED as i32;
        if !(first..=last).contains(&attribute) {
            return Err(INVALID);
        }
        value.set(0)
    }

    /// Which atomic operations on the host's memory a device's link does natively: those of a device on
    /// PCI are none (`CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED` is 0).
    fn cuDeviceGetHostAtomicCapabilities(capabilities: Out<u32>, operations: In<u32>, count: u32, device: CUdevice) {
        let device = driver()?.device(device)?;
        if device.attribute(Attr::CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED).unwrap_or(0) != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        no_atomics(capabilities, operations, count)
    }

    /// The same for the link between two devices.
    fn cuDeviceGetP2PAtomicCapabilities(
        capabilities: Out<u32>, operations: In<u32>, count: u32, from: CUdevice, to: CUdevice,
    ) {
        let driver = driver()?;
        driver.device(from)?;
        driver.device(to)?;
        // "or if they represent the same device".
        if from == to {
            return Err(Status::ERROR_INVALID_DEVICE);
        }
        no_atomics(capabilities, operations, count)
    }

    /// Lets the current context use another one's memory.
    fn cuCtxEnablePeerAccess(peer: CUcontext, flags: u32) {
        other(peer)?;
        if flags != 0 {
            return Err(INVALID);
        }
        Err(PEER_ACCESS_UNSUPPORTED)
    }

    /// Ends what cuCtxEnablePeerAccess began.
    fn cuCtxDisablePeerAccess(peer: CUcontext) {
        other(peer)?;
        Err(PEER_ACCESS_NOT_ENABLED)
    }

    /// Waits for writes of third devices, which cannot reach the memory of this one
    /// (`CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED` is 0).
    fn cuFlushGPUDirectRDMAWrites(target: i32, scope: i32) {
        enter()?;
        if target != FLUSH_CURRENT_CTX || !FLUSH_SCOPES.contains(&scope) {
            return Err(INVALID);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// The LUID by which Windows names a device: elsewhere there is none.
    fn cuDeviceGetLuid(luid: Out<c_char>, mask: Out<u32>, device: CUdevice) {
        driver()?.device(device)?;
        luid.check()?;
        mask.check()?;
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Whether contexts may be given a part of a device's multiprocessors: they may not.
    fn cuDeviceGetExecAffinitySupport(supported: Out<i32>, kind: u32, device: CUdevice) {
        driver()?.device(device)?;
        supported.check()?;
        affinity_type(kind)?;
        supported.set(0)
    }

    /// The part of a device's multiprocessors that the current context was given.
    fn cuCtxGetExecAffinity(param: Out<CUexecAffinityParam>, kind: u32) {
        enter()?;
        param.check()?;
        affinity_type(kind)?;
        Err(UNSUPPORTED_AFFINITY)
    }

    /// Makes persisting lines of the L2 cache normal ones: no line can be made persisting
    /// (`CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE` is 0).
    fn cuCtxResetPersistingL2Cache() {
        enter()?;
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Begins collection by a profiling tool. There is none in this process, and without one the call
    /// has no effect.
    fn cuProfilerStart() {
        enter().map(drop)
    }

    /// Ends collection by a profiling tool. There is none in this process, and without one the call
    /// has no effect.
    fn cuProfilerStop() {
        enter().map(drop)
    }
}
