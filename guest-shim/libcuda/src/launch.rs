//! Launching kernels.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::{
    CUdevice_attribute_enum as Attr, CUfunction, CUlaunchAttribute_st,
    CUlaunchAttributeID_enum as LaunchAttr, CUlaunchConfig, CUstream,
};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{LaunchAttribute, stubs};

use crate::abi::{Done, Host, INVALID, In, Zero, exports};
use crate::capture::Target;
use crate::device::Device;
use crate::func::Function;
use crate::graph::Work;
use crate::init::{Driver, driver};
use crate::occupancy;

/// `CU_LAUNCH_PARAM_END`, `_BUFFER_POINTER` and `_BUFFER_SIZE`: the words of `extra`.
pub const PARAM_END: u64 = 0;
pub const PARAM_BUFFER_POINTER: u64 = 1;
pub const PARAM_BUFFER_SIZE: u64 = 2;

/// Shape of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
}

/// Where the parameters of a launch are.
#[derive(Clone, Copy)]
pub struct Params {
    pub pointers: In<*mut c_void>,
    pub extra: In<*mut c_void>,
}

/// Attributes of a launch as the program gave them, by `CUlaunchAttributeID`.
pub type Attributes = BTreeMap<u32, [u64; 8]>;

/// A launch that a graph holds.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The handle that the program gave: a CUfunction or a CUkernel.
    pub handle: u64,
    pub function: Arc<Function>,
    pub shape: Shape,
    pub block: Arc<Block>,
    pub attributes: Attributes,
}

/// A block of parameters, which a program may look at through pointers.
#[derive(Debug)]
pub struct Block {
    /// The parameters, at their offsets.
    pub bytes: Vec<u8>,
    pointers: OnceLock<Box<[usize]>>,
}

impl Block {
    /// What `kernelParams` points to: as long as the block is, no longer.
    pub fn pointers(&self, params: &[(u32, u32)]) -> *mut *mut c_void {
        let at = |(offset, _): &(u32, u32)| self.bytes.as_ptr().wrapping_add(*offset as usize);
        let pointers = || params.iter().map(|p| at(p).expose_provenance()).collect();
        self.pointers
            .get_or_init(pointers)
            .as_ptr()
            .cast_mut()
            .cast()
    }
}

impl Launch {
    /// Checks a launch and takes its parameters.
    pub fn new(
        driver: &Driver,
        handle: u64,
        shape: Shape,
        params: Params,
        attributes: Attributes,
    ) -> Done<Launch> {
        let function = driver.function(handle as CUfunction)?;
        let device = driver.device(function.ctx.device)?;
        check(device, &function, &shape, &attributes)?;
        let bytes = collect(&function, params, Vec::new())?;
        Ok(Launch {
            handle,
            function,
            shape,
            block: Arc::new(Block {
                bytes,
                pointers: OnceLock::new(),
            }),
            attributes,
        })
    }
}

/// CUDA Driver API, cuLaunchKernel; limits: CUDA C++ Programming Guide, "Technical
/// Specifications per Compute Capability".
fn check(device: &Device, function: &Function, shape: &Shape, attributes: &Attributes) -> Done {
    let limits = device.launch_limits();
    let sizes = shape.grid.iter().chain(&shape.block);
    for (size, most) in sizes.zip(limits) {
        if *size == 0 || size > most {
            return Err(INVALID);
        }
    }
    let threads: u64 = shape.block.iter().map(|n| u64::from(*n)).product();
    if threads > limits[6].into() {
        return Err(INVALID);
    }
    // Fewer than the device's where the kernel needs many registers.
    if threads > function.max_threads.into() {
        return Err(Status::ERROR_LAUNCH_OUT_OF_RESOURCES);
    }
    if shape.shared > function.max_dynamic_bytes() {
        return Err(INVALID);
    }
    let cooperative = attributes.get(&(LaunchAttr::CU_LAUNCH_ATTRIBUTE_COOPERATIVE as u32));
    if cooperative.is_some_and(|value| value[0] as u32 != 0) {
        // "The total number of blocks launched cannot exceed the maximum number of blocks per
        // multiprocessor … times the number of multiprocessors".
        let blocks = shape
            .grid
            .iter()
            .fold(1u64, |n, g| n.saturating_mul(u64::from(*g)));
        if blocks > occupancy::on_device(device, function, threads, shape.shared)? {
            return Err(Status::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
        }
    }
    Ok(())
}

/// Copies the parameters into one block, which is made in a buffer that was used before.
fn collect(function: &Function, params: Params, mut block: Vec<u8>) -> Done<Vec<u8>> {
    block.clear();
    block.resize(function.param_bytes as usize, 0);
    if !params.pointers.is_null() {
        // "Specifying both … CUDA_ERROR_INVALID_VALUE."
        if !params.extra.is_null() {
            return Err(INVALID);
        }
        for (i, (offset, size)) in function.params.iter().enumerate() {
            let (from, bytes) = (Host(params.pointers.at(i)?), *size as usize);
            let place = &mut block[*offset as usize..][..bytes];
            from.source(bytes)?.read(0, place);
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
    handle: CUfunction,
    shape: Shape,
    stream: CUstream,
    params: Params,
    attributes: Attributes,
    zero: Zero,
) -> Done {
    let driver = driver()?;
    let function = driver.function(handle)?;
    let queue = match driver.target(stream, zero)? {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            if capture.queue.ctx.handle != function.ctx.handle {
                return Err(capture.invalidate(Status::ERROR_INVALID_HANDLE));
            }
            let work = Launch::new(driver, handle as u64, shape, params, attributes)
                .map_err(|status| capture.invalidate(status))?;
            return capture.add(Work::Kernel(work));
        }
    };
    // A kernel runs in the context that it is loaded in.
    if queue.ctx.handle != function.ctx.handle {
        return Err(Status::ERROR_INVALID_HANDLE);
    }
    check(
        driver.device(queue.ctx.device)?,
        &function,
        &shape,
        &attributes,
    )?;
    if !attributes.is_empty() {
        let block = collect(&function, params, Vec::new())?;
        return stubs::launch_kernel_ex(
            driver.channel,
            queue.ctx_id,
            function.id,
            shape.grid,
            shape.block,
            shape.shared,
            queue.id,
            listed(&attributes),
            &block,
        );
    }
    // A thread that ends has none.
    let buffer = BLOCK.try_with(Cell::take).unwrap_or_default();
    let block = collect(&function, params, buffer)?;
    let launched = stubs::launch_kernel(
        driver.channel,
        queue.ctx_id,
        function.id,
        shape.grid,
        shape.block,
        shape.shared,
        queue.id,
        &block,
    );
    let _ = BLOCK.try_with(|kept| kept.set(block));
    launched
}

thread_local! {
    /// The block of this thread's last launch, to be used again.
    static BLOCK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Attributes as the host takes them.
pub fn listed(attributes: &Attributes) -> Vec<LaunchAttribute> {
    let one = |(id, value): (&u32, &[u64; 8])| LaunchAttribute {
        id: *id,
        value: *value,
    };
    attributes.iter().map(one).collect()
}

/// Whether the device says that it has this.
fn has(attribute: Attr) -> Done<bool> {
    let device = driver()?.device(0)?;
    Ok(device.attribute(attribute).is_some_and(|value| value != 0))
}

/// Accepts launch attributes that the device has, or that are hints, refuses the others.
///
/// | attribute | taken |
/// |---|---|
/// | ignore, access policy window, cluster scheduling, priority, memory synchronization domains, shared memory carveout, preferred cluster dimension | hints |
/// | programmatic stream serialization | permission to overlap, which nobody has to use |
/// | cooperative | where the device can launch cooperatively, else 0 |
/// | cluster dimension | where the device has clusters, else 1 × 1 × 1 |
///
/// # Errors
/// `ERROR_NOT_SUPPORTED` for what would need more, `ERROR_INVALID_VALUE` for an unknown one.
pub fn check_attribute(id: u32, value: &[u64; 8]) -> Done {
    let is = |a: LaunchAttr| id == a as u32;
    let word = |i: usize| (value[i / 2] >> (32 * (i % 2))) as u32;
    let ok = match id {
        _ if is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_COOPERATIVE) => {
            word(0) == 0 || has(Attr::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)?
        }
        _ if is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION) =>
        {
            if [word(0), word(1), word(2)].contains(&0) {
                return Err(INVALID);
            }
            [word(0), word(1), word(2)] == [1; 3] || has(Attr::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)?
        }
        _ if is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_IGNORE)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_PRIORITY)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) =>
        {
            true
        }
        _ if is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
            || is(LaunchAttr::CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE) =>
        {
            false
        }
        _ => return Err(INVALID),
    };
    if ok {
        Ok(())
    } else {
        Err(Status::ERROR_NOT_SUPPORTED)
    }
}

/// The attributes of a launch.
pub fn attributes(list: Host, count: usize) -> Done<Attributes> {
    let mut all = Attributes::new();
    if count > 0 && list.is_null() {
        return Err(INVALID);
    }
    for i in 0..count {
        let attribute = list.offset(i * size_of::<CUlaunchAttribute_st>());
        let id: u32 = attribute.values().get()?;
        let value = attribute.offset(std::mem::offset_of!(CUlaunchAttribute_st, value));
        let value: [u64; 8] = value.values().get()?;
        check_attribute(id, &value)?;
        all.insert(id, value);
    }
    Ok(all)
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
        launch(function, shape, stream, Params { pointers, extra }, Attributes::new(), zero)
    }

    /// Launches a kernel with attributes.
    fn cuLaunchKernelEx | cuLaunchKernelEx_ptsz [zero] (
        config: In<CUlaunchConfig>,
        function: CUfunction,
        pointers: In<*mut c_void>,
        extra: In<*mut c_void>,
    ) {
        let config = config.get()?;
        let attributes = attributes(Host(config.attrs.cast()), config.numAttrs as usize)?;
        let shape = Shape {
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            shared: config.sharedMemBytes,
        };
        let params = Params { pointers, extra };
        launch(function, shape, config.hStream, params, attributes, zero)
    }

    /// Launches a kernel whose blocks wait for each other, where the device can.
    fn cuLaunchCooperativeKernel | cuLaunchCooperativeKernel_ptsz [zero] (
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
    ) {
        // "The device must support cooperative launch."
        let attribute = LaunchAttr::CU_LAUNCH_ATTRIBUTE_COOPERATIVE as u32;
        let value = [1, 0, 0, 0, 0, 0, 0, 0];
        driver()?.function(function)?;
        driver()?.target(stream, zero)?;
        check_attribute(attribute, &value)?;
        let shape = Shape {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
        };
        let params = Params { pointers, extra: In::null() };
        let attributes = Attributes::from([(attribute, value)]);
        launch(function, shape, stream, params, attributes, zero)
    }
}
