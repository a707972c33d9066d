//! Functions of the program, and how many of their blocks fit on a multiprocessor.

use std::ffi::{c_char, c_void};

use cudarc::driver::sys::{CUdevice, CUfunction, CUfunction_attribute_enum as Attr, CUkernel};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, In, Out, exports, handle, local, major};
use crate::launch::driver_config;
use crate::module::{INVALID_DEVICE_FUNCTION, kernel};
use crate::runtime::{Runtime, enter, runtime};
use crate::types::{FuncAttributes, LaunchConfig};

/// The thread's device and a function's kernel: what calls about functions begin with.
fn find(function: *const c_void) -> Done<(&'static Runtime, CUdevice, CUkernel)> {
    let runtime = enter()?;
    let device = runtime.device(runtime.current_ordinal()?)?.handle;
    Ok((runtime, device, kernel(runtime, function)?))
}

fn attributes(function: *const c_void) -> Done<FuncAttributes> {
    let (runtime, device, kernel) = find(function)?;
    let get = |attribute: Attr| {
        let attribute = attribute as i32;
        local(|v| {
            runtime
                .driver
                .cuKernelGetAttribute(v, attribute, kernel, device)
        })
    };
    // What older drivers do not know is not set.
    let newer = |attribute: Attr| get(attribute).unwrap_or(0);
    let bytes = |attribute: Attr| Ok(usize::try_from(get(attribute)?).unwrap_or(0));
    Ok(FuncAttributes {
        shared: bytes(Attr::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
        constant: bytes(Attr::CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES)?,
        local: bytes(Attr::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
        max_threads: get(Attr::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        registers: get(Attr::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
        ptx_version: get(Attr::CU_FUNC_ATTRIBUTE_PTX_VERSION)?,
        binary_version: get(Attr::CU_FUNC_ATTRIBUTE_BINARY_VERSION)?,
        cache_mode: get(Attr::CU_FUNC_ATTRIBUTE_CACHE_MODE_CA)?,
        max_dynamic: get(Attr::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)?,
        preferred_carveout: get(Attr::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT)?,
        cluster_must_be_set: newer(Attr::CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET),
        cluster_width: newer(Attr::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH),
        cluster_height: newer(Attr::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT),
        cluster_depth: newer(Attr::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH),
        cluster_scheduling: newer(Attr::CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE),
        non_portable_cluster: newer(Attr::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED),
        reserved: [0; 16],
    })
}

exports! {
    /// Attributes of a function.
    fn cudaFuncGetAttributes(out: Out<FuncAttributes>, function: *const c_void) {
        let found = attributes(function)?;
        out.check()?;
        if major() > 11 {
            return out.set(found);
        }
        // The structure of CUDA 11 is the first part of the newer ones.
        Host(out.address() as *mut c_void).out().set(found.first())
    }

    /// Sets an attribute of a function; the names are the driver's.
    fn cudaFuncSetAttribute(function: *const c_void, attribute: i32, value: i32) {
        let (runtime, device, kernel) = find(function)?;
        runtime.driver.cuKernelSetAttribute(attribute, value, kernel, device)
    }

    /// Sets an attribute of a kernel for a device.
    fn cudaKernelSetAttributeForDevice(kernel: CUkernel, attribute: i32, value: i32, device: i32) {
        let runtime = runtime()?;
        let device = runtime.device(device)?.handle;
        let done = runtime.driver.cuKernelSetAttribute(attribute, value, kernel, device);
        done.map_err(|error| match error {
            Status::ERROR_INVALID_HANDLE => INVALID_DEVICE_FUNCTION,
            other => other,
        })
    }

    /// Sets the preferred split of cache and shared memory.
    fn cudaFuncSetCacheConfig(function: *const c_void, config: i32) {
        let (runtime, device, kernel) = find(function)?;
        runtime.driver.cuKernelSetCacheConfig(kernel, config, device)
    }

    /// Sets the width of shared memory's banks.
    fn cudaFuncSetSharedMemConfig(function: *const c_void, config: i32) {
        let (runtime, _, kernel) = find(function)?;
        let function = handle(|f| runtime.driver.cuKernelGetFunction(f, kernel))?;
        runtime.driver.cuFuncSetSharedMemConfig(function, config)
    }

    /// A function's name in its image.
    fn cudaFuncGetName(out: Out<*const c_char>, function: *const c_void) {
        let (runtime, _, kernel) = find(function)?;
        out.check()?;
        runtime.driver.cuKernelGetName(out.cast(), kernel)
    }

    /// Offset and size of a parameter, in bytes.
    fn cudaFuncGetParamInfo(function: *const c_void, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let (runtime, _, kernel) = find(function)?;
        runtime.driver.cuKernelGetParamInfo(kernel, index, offset, bytes)
    }

    /// The number of parameters.
    fn cudaFuncGetParamCount(function: *const c_void, count: Out<usize>) {
        let (runtime, _, kernel) = find(function)?;
        runtime.driver.cuKernelGetParamCount(kernel, count)
    }

    /// How many blocks of a function fit on a multiprocessor.
    fn cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: Out<i32>, function: *const c_void, threads: i32, shared: usize,
    ) {
        let (runtime, _, kernel) = find(function)?;
        let function = kernel as CUfunction;
        runtime.driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared)
    }

    /// How many blocks of a function fit on a multiprocessor; the flags are the driver's.
    fn cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<i32>, function: *const c_void, threads: i32, shared: usize, flags: u32,
    ) {
        let (runtime, _, kernel) = find(function)?;
        let function = kernel as CUfunction;
        runtime.driver.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
            blocks, function, threads, shared, flags,
        )
    }

    /// Dynamic shared memory that is left for each of so many blocks, in bytes.
    fn cudaOccupancyAvailableDynamicSMemPerBlock(
        bytes: Out<usize>, function: *const c_void, blocks: i32, threads: i32,
    ) {
        let (runtime, _, kernel) = find(function)?;
        let function = kernel as CUfunction;
        runtime.driver.cuOccupancyAvailableDynamicSMemPerBlock(bytes, function, blocks, threads)
    }

    /// The largest cluster that fits.
    fn cudaOccupancyMaxPotentialClusterSize(
        size: Out<i32>, function: *const c_void, config: In<LaunchConfig>,
    ) {
        let (runtime, _, kernel) = find(function)?;
        let config = [driver_config(&config.get()?)?];
        let function = kernel as CUfunction;
        runtime.driver.cuOccupancyMaxPotentialClusterSize(size, function, In::to(&config))
    }

    /// How many clusters fit on the device.
    fn cudaOccupancyMaxActiveClusters(
        clusters: Out<i32>, function: *const c_void, config: In<LaunchConfig>,
    ) {
        let (runtime, _, kernel) = find(function)?;
        let config = [driver_config(&config.get()?)?];
        let function = kernel as CUfunction;
        runtime.driver.cuOccupancyMaxActiveClusters(clusters, function, In::to(&config))
    }
}
