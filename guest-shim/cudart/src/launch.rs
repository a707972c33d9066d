//! Launching kernels.

use std::cell::RefCell;
use std::ffi::c_void;

use cudarc::driver::sys::{CUfunction, CUkernel, CUlaunchConfig, CUstream};
use vgpu_protocol::Status;

use crate::abi::{Done, In, Out, Zero, exports};
use crate::driver::{HostFn, Opaque};
use crate::module::{self, kernel, remember};
use crate::runtime::{Runtime, enter};
use crate::types::{Dim3, LaunchConfig};

/// `cudaErrorInvalidConfiguration`.
const INVALID_CONFIGURATION: Status = Status(9);
/// `cudaErrorMissingConfiguration`.
const MISSING_CONFIGURATION: Status = Status(52);

/// What `<<<…>>>` says.
#[derive(Clone, Copy)]
struct Configuration {
    grid: Dim3,
    block: Dim3,
    shared: usize,
    stream: CUstream,
}

thread_local! {
    static CONFIGURATIONS: RefCell<Vec<Configuration>> = const { RefCell::new(Vec::new()) };
}

/// Grids and blocks that no device has are cudaErrorInvalidConfiguration where the driver says
/// CUDA_ERROR_INVALID_VALUE.
fn check(configuration: &Configuration) -> Done<u32> {
    let Configuration {
        grid,
        block,
        shared,
        ..
    } = configuration;
    if [grid.x, grid.y, grid.z, block.x, block.y, block.z].contains(&0) {
        return Err(INVALID_CONFIGURATION);
    }
    u32::try_from(*shared).map_err(|_| Status::ERROR_INVALID_VALUE)
}

/// The driver's answer to a bad shape is an invalid argument, the runtime's an invalid
/// configuration. Which it was, is asked only after an error.
fn shape_error(runtime: &Runtime, configuration: &Configuration, error: Status) -> Status {
    if error != Status::ERROR_INVALID_VALUE {
        return error;
    }
    match fits(runtime, configuration) {
        Ok(false) => INVALID_CONFIGURATION,
        _ => error,
    }
}

/// Whether the device can have such a grid and such blocks.
fn fits(runtime: &Runtime, configuration: &Configuration) -> Done<bool> {
    use cudarc::driver::sys::CUdevice_attribute_enum as Attr;
    let device = runtime.device(runtime.current_ordinal()?)?.handle;
    let most = |attribute: Attr| {
        let value = crate::abi::local(|v| {
            runtime
                .driver
                .cuDeviceGetAttribute(v, attribute as i32, device)
        })?;
        Ok(u32::try_from(value).unwrap_or(0))
    };
    let (grid, block) = (configuration.grid, configuration.block);
    let threads = u64::from(block.x) * u64::from(block.y) * u64::from(block.z);
    Ok(grid.x <= most(Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?
        && grid.y <= most(Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y)?
        && grid.z <= most(Attr::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)?
        && block.x <= most(Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X)?
        && block.y <= most(Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y)?
        && block.z <= most(Attr::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z)?
        && threads <= most(Attr::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?.into())
}

fn launch(
    runtime: &Runtime,
    kernel: CUkernel,
    configuration: &Configuration,
    params: In<Opaque>,
    zero: Zero,
) -> Done {
    let shared = check(configuration)?;
    let (grid, block) = (configuration.grid, configuration.block);
    let done = runtime.driver.cuLaunchKernel(
        zero,
        kernel as CUfunction,
        grid.x,
        grid.y,
        grid.z,
        block.x,
        block.y,
        block.z,
        shared,
        configuration.stream,
        params,
        In::null(),
    );
    done.map_err(|error| shape_error(runtime, configuration, error))
}

/// The driver's form of a launch with attributes.
pub fn driver_config(config: &LaunchConfig) -> Done<CUlaunchConfig> {
    let shared = u32::try_from(config.shared).map_err(|_| Status::ERROR_INVALID_VALUE)?;
    Ok(CUlaunchConfig {
        gridDimX: config.grid.x,
        gridDimY: config.grid.y,
        gridDimZ: config.grid.z,
        blockDimX: config.block.x,
        blockDimY: config.block.y,
        blockDimZ: config.block.z,
        sharedMemBytes: shared,
        hStream: config.stream,
        attrs: config.attributes,
        numAttrs: config.count,
    })
}

exports! {
    /// Remembers what `<<<…>>>` says for the launch that follows in this thread.
    fn __cudaPushCallConfiguration(grid: Dim3, block: Dim3, shared: usize, stream: CUstream) -> u32 = 1, {
        let configuration = Configuration { grid, block, shared, stream };
        CONFIGURATIONS.with_borrow_mut(|all| all.push(configuration));
        0
    }

    /// Gives what the last `__cudaPushCallConfiguration` of this thread was given.
    fn __cudaPopCallConfiguration(
        grid: Out<Dim3>, block: Out<Dim3>, shared: Out<usize>, stream: Out<CUstream>,
    ) {
        let last = CONFIGURATIONS.with_borrow_mut(Vec::pop).ok_or(MISSING_CONFIGURATION)?;
        grid.set(last.grid)?;
        block.set(last.block)?;
        shared.set(last.shared)?;
        stream.set(last.stream)
    }

    /// Launches a kernel.
    fn cudaLaunchKernel | cudaLaunchKernel_ptsz [zero] (
        function: *const c_void, grid: Dim3, block: Dim3, params: In<Opaque>, shared: usize,
        stream: CUstream,
    ) {
        let runtime = enter()?;
        let kernel = kernel(runtime, function)?;
        launch(runtime, kernel, &Configuration { grid, block, shared, stream }, params, zero)
    }

    /// Launches what `__cudaGetKernel` gave. The code that nvcc makes drops the result: an
    /// error shows in cudaGetLastError.
    fn __cudaLaunchKernel | __cudaLaunchKernel_ptsz [zero] (
        kernel: CUkernel, grid: Dim3, block: Dim3, params: In<Opaque>, shared: usize,
        stream: CUstream,
    ) {
        let runtime = enter()?;
        let kernel = module::recorded(runtime, kernel)?;
        launch(runtime, kernel, &Configuration { grid, block, shared, stream }, params, zero)
    }

    /// What stands for a function of the program in `__cudaLaunchKernel`. The code that nvcc makes
    /// keeps it for ever.
    fn __cudaGetKernel(out: Out<CUkernel>, function: *const c_void) {
        out.check()?;
        out.set(module::record(function)?)
    }

    /// The kernel of a function of the program.
    fn cudaGetKernel(out: Out<CUkernel>, function: *const c_void) {
        out.check()?;
        let kernel = kernel(enter()?, function)?;
        remember(kernel);
        out.set(kernel)
    }

    /// The driver's function of a function of the program, in the current context.
    fn cudaGetFuncBySymbol(out: Out<CUfunction>, function: *const c_void) {
        out.check()?;
        let runtime = enter()?;
        out.set(module::function(runtime, function)?)
    }

    /// Launches a kernel with attributes.
    fn cudaLaunchKernelExC | cudaLaunchKernelExC_ptsz [zero] (
        config: In<LaunchConfig>, function: *const c_void, params: In<Opaque>,
    ) {
        let runtime = enter()?;
        let kernel = kernel(runtime, function)?;
        let config = config.get()?;
        let configuration = Configuration {
            grid: config.grid,
            block: config.block,
            shared: config.shared,
            stream: config.stream,
        };
        check(&configuration)?;
        let config = [driver_config(&config)?];
        let done = runtime.driver.cuLaunchKernelEx(
            zero, In::to(&config), kernel as CUfunction, params, In::null(),
        );
        done.map_err(|error| shape_error(runtime, &configuration, error))
    }

    /// Launches a kernel whose blocks may wait for each other.
    fn cudaLaunchCooperativeKernel | cudaLaunchCooperativeKernel_ptsz [zero] (
        function: *const c_void, grid: Dim3, block: Dim3, params: In<Opaque>, shared: usize,
        stream: CUstream,
    ) {
        let runtime = enter()?;
        let kernel = kernel(runtime, function)?;
        let configuration = Configuration { grid, block, shared, stream };
        let shared = check(&configuration)?;
        let done = runtime.driver.cuLaunchCooperativeKernel(
            zero, kernel as CUfunction, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared,
            stream, params,
        );
        done.map_err(|error| shape_error(runtime, &configuration, error))
    }

    /// Has a function of the program called in a stream's order.
    fn cudaLaunchHostFunc | cudaLaunchHostFunc_ptsz [zero] (
        stream: CUstream, function: HostFn, data: Opaque,
    ) {
        enter()?.driver.cuLaunchHostFunc(zero, stream, function, data)
    }

    /// The same, with a choice of how the stream waits for it.
    fn cudaLaunchHostFunc_v2 | cudaLaunchHostFunc_v2_ptsz [zero] (
        stream: CUstream, function: HostFn, data: Opaque, mode: u32,
    ) {
        enter()?.driver.cuLaunchHostFunc_v2(zero, stream, function, data, mode)
    }
}
