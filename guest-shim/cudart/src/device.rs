//! Devices.

use std::ffi::c_char;

use cudarc::driver::sys::{CUcontext, CUmemoryPool};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, INVALID, In, Out, Text, exports, local};
use crate::driver::Opaque;
use crate::runtime::{Runtime, enter, runtime};

/// Bits of the flags of a device: scheduling, mapping, local memory, synchronous memory operations.
const FLAGS: u32 = 0x9f;
/// `cudaDeviceScheduleMask` and its values.
const SCHEDULE_MASK: u32 = 7;
const SCHEDULES: [u32; 4] = [0, 1, 2, 4];
/// `cudaInitDeviceFlagsAreValid`.
const FLAGS_ARE_VALID: u32 = 1;

fn check_flags(flags: u32) -> Done {
    if flags & !FLAGS == 0 && SCHEDULES.contains(&(flags & SCHEDULE_MASK)) {
        Ok(())
    } else {
        Err(INVALID)
    }
}

/// Calls with the primary context of another device.
fn with_peer(peer: i32, call: impl FnOnce(&Runtime, CUcontext) -> Done) -> Done {
    let runtime = enter()?;
    let device = runtime.device(peer)?;
    // A device is no peer of itself.
    if peer == runtime.current_ordinal()? {
        return Err(Status::ERROR_INVALID_DEVICE);
    }
    let context = runtime.primary(device)?;
    call(runtime, context)
}

exports! {
    /// The number of devices.
    fn cudaGetDeviceCount(count: Out<i32>) {
        count.check()?;
        let runtime = runtime().inspect_err(|_| count.set_if_given(0))?;
        count.set(i32::try_from(runtime.devices.len()).unwrap_or(i32::MAX))
    }

    /// The ordinal of this thread's device.
    fn cudaGetDevice(device: Out<i32>) {
        device.check()?;
        device.set(runtime()?.current_ordinal()?)
    }

    /// Makes a device this thread's; since CUDA 12 it is initialised at once.
    fn cudaSetDevice(device: i32) {
        runtime()?.select(device)
    }

    /// Initialises a device without making it this thread's.
    fn cudaInitDevice(device: i32, flags: u32, what: u32) {
        let runtime = runtime()?;
        let device = runtime.device(device)?;
        if what & !FLAGS_ARE_VALID != 0 {
            return Err(INVALID);
        }
        if what & FLAGS_ARE_VALID != 0 {
            check_flags(flags)?;
            runtime.driver.cuDevicePrimaryCtxSetFlags_v2(device.handle, flags)?;
        }
        runtime.primary(device).map(drop)
    }

    /// Devices to choose among. There is nothing to choose where the list names any that is there.
    fn cudaSetValidDevices(devices: In<i32>, count: i32) {
        let runtime = runtime()?;
        let count = usize::try_from(count).map_err(|_| INVALID)?;
        if count > runtime.devices.len() {
            return Err(INVALID);
        }
        for i in 0..count {
            runtime.device(devices.at(i)?)?;
        }
        match count {
            0 => Ok(()),
            _ => runtime.select_later(devices.get()?),
        }
    }

    /// Destroys the primary context of this thread's device, with all that belongs to it.
    fn cudaDeviceReset() {
        let runtime = runtime()?;
        runtime.reset(runtime.current_ordinal()?)
    }

    /// Waits for all work of this thread's device.
    fn cudaDeviceSynchronize() {
        enter()?.driver.cuCtxSynchronize()
    }

    /// The old name of cudaDeviceReset.
    fn cudaThreadExit() {
        let runtime = runtime()?;
        runtime.reset(runtime.current_ordinal()?)
    }

    /// The old name of cudaDeviceSynchronize.
    fn cudaThreadSynchronize() {
        enter()?.driver.cuCtxSynchronize()
    }

    /// Sets the flags of this thread's device.
    fn cudaSetDeviceFlags(flags: u32) {
        let runtime = runtime()?;
        check_flags(flags)?;
        let device = runtime.device(runtime.current_ordinal()?)?;
        runtime.driver.cuDevicePrimaryCtxSetFlags_v2(device.handle, flags)
    }

    /// Flags of this thread's device.
    fn cudaGetDeviceFlags(flags: Out<u32>) {
        let runtime = runtime()?;
        flags.check()?;
        if !runtime.context()?.is_null() {
            return runtime.driver.cuCtxGetFlags(flags);
        }
        let device = runtime.device(runtime.current_ordinal()?)?.handle;
        local(|active| runtime.driver.cuDevicePrimaryCtxGetState(device, flags, active)).map(drop)
    }

    /// A number about a device; the names are the driver's.
    fn cudaDeviceGetAttribute(value: Out<i32>, attribute: i32, device: i32) {
        let runtime = runtime()?;
        value.check()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceGetAttribute(value, attribute, device)
    }

    /// A number about two devices; the names are the driver's.
    fn cudaDeviceGetP2PAttribute(value: Out<i32>, attribute: i32, from: i32, to: i32) {
        let runtime = runtime()?;
        let (from, to) = (runtime.device(from)?.handle, runtime.device(to)?.handle);
        runtime.driver.cuDeviceGetP2PAttribute(value, attribute, from, to)
    }

    /// Where a device is on the PCI bus.
    fn cudaDeviceGetPCIBusId(id: Out<c_char>, len: i32, device: i32) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceGetPCIBusId(id, len, device)
    }

    /// The device at a place on the PCI bus.
    fn cudaDeviceGetByPCIBusId(device: Out<i32>, id: Text) {
        let runtime = runtime()?;
        device.check()?;
        let handle = local(|d| runtime.driver.cuDeviceGetByPCIBusId(d, id))?;
        device.set(runtime.ordinal(handle)?)
    }

    /// Whether a device can reach another one's memory.
    fn cudaDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) {
        let runtime = runtime()?;
        let (device, peer) = (runtime.device(device)?.handle, runtime.device(peer)?.handle);
        runtime.driver.cuDeviceCanAccessPeer(can, device, peer)
    }

    /// Lets this thread's device reach another one's memory.
    fn cudaDeviceEnablePeerAccess(peer: i32, flags: u32) {
        with_peer(peer, |runtime, context| runtime.driver.cuCtxEnablePeerAccess(context, flags))
    }

    /// Ends what cudaDeviceEnablePeerAccess began.
    fn cudaDeviceDisablePeerAccess(peer: i32) {
        with_peer(peer, |runtime, context| runtime.driver.cuCtxDisablePeerAccess(context))
    }

    /// A resource limit; the names are the driver's.
    fn cudaDeviceGetLimit(value: Out<usize>, limit: i32) {
        enter()?.driver.cuCtxGetLimit(value, limit)
    }

    /// Sets a resource limit; the names are the driver's.
    fn cudaDeviceSetLimit(limit: i32, value: usize) {
        enter()?.driver.cuCtxSetLimit(limit, value)
    }

    /// The old name of cudaDeviceGetLimit.
    fn cudaThreadGetLimit(value: Out<usize>, limit: i32) {
        enter()?.driver.cuCtxGetLimit(value, limit)
    }

    /// The old name of cudaDeviceSetLimit.
    fn cudaThreadSetLimit(limit: i32, value: usize) {
        enter()?.driver.cuCtxSetLimit(limit, value)
    }

    /// The preferred split of cache and shared memory.
    fn cudaDeviceGetCacheConfig(config: Out<i32>) {
        enter()?.driver.cuCtxGetCacheConfig(config)
    }

    /// Sets the preferred split of cache and shared memory.
    fn cudaDeviceSetCacheConfig(config: i32) {
        enter()?.driver.cuCtxSetCacheConfig(config)
    }

    /// The old name of cudaDeviceGetCacheConfig.
    fn cudaThreadGetCacheConfig(config: Out<i32>) {
        enter()?.driver.cuCtxGetCacheConfig(config)
    }

    /// The old name of cudaDeviceSetCacheConfig.
    fn cudaThreadSetCacheConfig(config: i32) {
        enter()?.driver.cuCtxSetCacheConfig(config)
    }

    /// The width of shared memory's banks.
    fn cudaDeviceGetSharedMemConfig(config: Out<i32>) {
        enter()?.driver.cuCtxGetSharedMemConfig(config)
    }

    /// Sets the width of shared memory's banks.
    fn cudaDeviceSetSharedMemConfig(config: i32) {
        enter()?.driver.cuCtxSetSharedMemConfig(config)
    }

    /// Makes persisting lines of the L2 cache normal ones.
    fn cudaCtxResetPersistingL2Cache() {
        enter()?.driver.cuCtxResetPersistingL2Cache()
    }

    /// Waits until writes of other devices are seen; the arguments are the driver's.
    fn cudaDeviceFlushGPUDirectRDMAWrites(target: i32, scope: i32) {
        enter()?.driver.cuFlushGPUDirectRDMAWrites(target, scope)
    }

    /// NvSciSync's attributes of a device.
    fn cudaDeviceGetNvSciSyncAttributes(list: Opaque, device: i32, flags: i32) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceGetNvSciSyncAttributes(list, device, flags)
    }

    /// Which atomic operations a device can do on host memory.
    fn cudaDeviceGetHostAtomicCapabilities(out: Out<u32>, operations: In<i32>, count: u32, device: i32) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceGetHostAtomicCapabilities(out, operations, count, device)
    }

    /// Which atomic operations a device can do on another one's memory.
    fn cudaDeviceGetP2PAtomicCapabilities(
        out: Out<u32>, operations: In<i32>, count: u32, from: i32, to: i32,
    ) {
        let runtime = runtime()?;
        let (from, to) = (runtime.device(from)?.handle, runtime.device(to)?.handle);
        runtime.driver.cuDeviceGetP2PAtomicCapabilities(out, operations, count, from, to)
    }

    /// Has a function called when the device has something to say.
    fn cudaDeviceRegisterAsyncNotification(device: i32, callback: Opaque, data: Opaque, out: Out<Opaque>) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceRegisterAsyncNotification(device, callback, data, out)
    }

    /// Ends what cudaDeviceRegisterAsyncNotification began.
    fn cudaDeviceUnregisterAsyncNotification(device: i32, callback: Opaque) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceUnregisterAsyncNotification(device, callback)
    }

    /// The pool that a device has from the start.
    fn cudaDeviceGetDefaultMemPool(pool: Out<CUmemoryPool>, device: i32) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceGetDefaultMemPool(pool, device)
    }

    /// The pool that cudaMallocAsync takes from.
    fn cudaDeviceGetMemPool(pool: Out<CUmemoryPool>, device: i32) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceGetMemPool(pool, device)
    }

    /// Sets the pool that cudaMallocAsync takes from.
    fn cudaDeviceSetMemPool(device: i32, pool: CUmemoryPool) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceSetMemPool(device, pool)
    }

    /// Gives back memory that graphs have allocated and do not use.
    fn cudaDeviceGraphMemTrim(device: i32) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceGraphMemTrim(device)
    }

    /// A number about the memory of graphs; the names are the driver's.
    fn cudaDeviceGetGraphMemAttribute(device: i32, attribute: i32, value: Host) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceGetGraphMemAttribute(device, attribute, value)
    }

    /// Sets a number about the memory of graphs; the names are the driver's.
    fn cudaDeviceSetGraphMemAttribute(device: i32, attribute: i32, value: Host) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        runtime.driver.cuDeviceSetGraphMemAttribute(device, attribute, value)
    }
}
