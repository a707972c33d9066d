//! Launching kernels.

use std::ffi::c_void;

use cudarc::driver::sys::{
    CUdevice_attribute_enum as Attr, CUfunction, CUlaunchAttribute_st,
    CUlaunchAttributeID_enum as LaunchAttr, CUlaunchConfig, CUstream,
};
use vgpu_protocol::Status;
use vgpu_protocol::calls::stubs;

use crate::abi::{Done, Host, INVALID, In, Zero, exports};
use crate::device::Device;
use crate::func::Function;
use crate::init::driver;

/// `CU_LAUNCH_PARAM_END`, `_BUFFER_POINTER` and `_BUFFER_SIZE`: the words of `extra`.
const PARAM_END: u64 = 0;
const PARAM_BUFFER_POINTER: u64 = 1;
const PARAM_BUFFER_SIZE: u64 = 2;

/// Shape of a launch.
struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
}

/// Where the parameters of a launch are.
#[derive(Clone, Copy)]
struct Params {
    pointers: In<*mut c_void>,
    extra: In<*mut c_void>,
}

/// CUDA Driver API, cuLaunchKernel; limits: CUDA C++ Programming Guide, "Technical
/// Specifications per Compute Capability".
fn check(device: &Device, function: &Function, shape: &Shape) -> Done {
    const GRID: [Attr; 3] = [
        Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
        Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
        Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
    ];
    const BLOCK: [Attr; 3] = [
        Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
        Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
        Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
    ];
    let most = |a: Attr| {
        device
            .attribute(a)
            .and_then(|v| u32::try_from(v).ok())
            .unwrap_or(u32::MAX)
    };
    for i in 0..3 {
        let (grid, block) = (shape.grid[i], shape.block[i]);
        if grid == 0 || block == 0 || grid > most(GRID[i]) || block > most(BLOCK[i]) {
            return Err(INVALID);
        }
    }
    let threads: u64 = shape.block.iter().map(|n| u64::from(*n)).product();
    if threads > most(Attr::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK).into() {
        return Err(INVALID);
    }
    // Fewer than the device's where the kernel needs many registers.
    if threads > function.max_threads.into() {
        return Err(Status::ERROR_LAUNCH_OUT_OF_RESOURCES);
    }
    if shape.shared > function.max_dynamic_bytes() {
        return Err(INVALID);
    }
    Ok(())
}

/// Copies the parameters into one block.
fn collect(function: &Function, params: Params) -> Done<Vec<u8>> {
    let mut block = vec![0; function.param_bytes as usize];
    if !params.pointers.is_null() {
        // "Specifying both … CUDA_ERROR_INVALID_VALUE."
        if !params.extra.is_null() {
            return Err(INVALID);
        }
        for (i, (offset, size)) in function.params.iter().enumerate() {
            let (from, bytes) = (Host(params.pointers.at(i)?), *size as usize);
            let value = from.source(bytes)?.to_vec(0, bytes);
            block[*offset as usize..][..bytes].copy_from_slice(&value);
        }
        return Ok(block);
    }
    if params.extra.is_null() {
        return if function.params.is_empty() {
            Ok(block)
        } else {
            Err(INVALID)
        };
    }
    let (mut at, mut size) = (None, None);
    let mut i = 0;
    loop {
        match params.extra.at(i)? as u64 {
            PARAM_END => break,
            PARAM_BUFFER_POINTER => at = Some(Host(params.extra.at(i + 1)?)),
            PARAM_BUFFER_SIZE => {
                size = Some(Host(params.extra.at(i + 1)?).values::<usize>().get()?)
            }
            _ => return Err(INVALID),
        }
        i += 2;
    }
    let (at, size) = (at.ok_or(INVALID)?, size.ok_or(INVALID)?);
    if size < block.len() {
        return Err(INVALID);
    }
    let wanted = block.len();
    if wanted > 0 {
        block = at.source(wanted)?.to_vec(0, wanted);
    }
    Ok(block)
}

fn launch(
    function: CUfunction,
    shape: &Shape,
    stream: CUstream,
    params: Params,
    zero: Zero,
) -> Done {
    let driver = driver()?;
    let function = driver.function(function)?;
    let queue = driver.queue(stream, zero)?;
    // A kernel runs in the context that it is loaded in.
    if queue.ctx.handle != function.ctx.handle {
        return Err(Status::ERROR_INVALID_HANDLE);
    }
    check(driver.device(queue.ctx.device)?, &function, shape)?;
    let block = collect(&function, params)?;
    stubs::launch_kernel(
        driver.channel,
        queue.ctx_id,
        function.id,
        shape.grid,
        shape.block,
        shape.shared,
        queue.id,
        &block,
    )
}

/// Accepts launch attributes that change nothing, refuses the others.
fn check_attribute(attribute: Host) -> Done {
    let id: u32 = attribute.values().get()?;
    let value = attribute.offset(std::mem::offset_of!(CUlaunchAttribute_st, value));
    let is = |a: LaunchAttr| id == a as u32;
    let word = |i: usize| value.values::<u32>().at(i);
    let plain = if is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_IGNORE)
        // Permission to overlap with the kernel before, which nobody has to use.
        || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION)
    {
        true
    } else if is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_COOPERATIVE) {
        word(0)? == 0
    } else if is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
        (word(0)?, word(1)?, word(2)?) == (1, 1, 1)
    } else {
        false
    };
    if plain {
        Ok(())
    } else {
        Err(Status::ERROR_NOT_SUPPORTED)
    }
}

exports! {
    /// Launches a kernel.
    fn cuLaunchKernel | cuLaunchKernel_ptsz [zero] (
        function: CUfunction,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared: u32,
        stream: CUstream,
        pointers: In<*mut c_void>,
        extra: In<*mut c_void>,
    ) {
        let shape = Shape {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
        };
        launch(function, &shape, stream, Params { pointers, extra }, zero)
    }

    /// Launches a kernel with attributes.
    fn cuLaunchKernelEx | cuLaunchKernelEx_ptsz [zero] (
        config: In<CUlaunchConfig>,
        function: CUfunction,
        pointers: In<*mut c_void>,
        extra: In<*mut c_void>,
    ) {
        let config = config.get()?;
        for i in 0..config.numAttrs as usize {
            let attributes = Host(config.attrs.cast());
            if attributes.is_null() {
                return Err(INVALID);
            }
            check_attribute(attributes.offset(i * size_of::<CUlaunchAttribute_st>()))?;
        }
        let shape = Shape {
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            shared: config.sharedMemBytes,
        };
        launch(function, &shape, config.hStream, Params { pointers, extra }, zero)
    }
}
