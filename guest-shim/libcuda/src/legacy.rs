//! Launches as before CUDA 4: shape and parameters are set on the function first (deprecated by
//! NVIDIA, "Execution Control [DEPRECATED]").

use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{CUfunction, CUstream};
use vgpu_protocol::Status;
use vgpu_protocol::limits::MAX_PARAM_BYTES;

use crate::abi::{Done, Host, INVALID, In, exports};
use crate::func::Function;
use crate::init::driver;
use crate::launch::{PARAM_BUFFER_POINTER, PARAM_BUFFER_SIZE, PARAM_END, cuLaunchKernel};

/// What was set on a function.
#[derive(Debug, Default)]
pub struct Setup(Mutex<Values>);

#[derive(Debug, Default)]
struct Values {
    /// Threads of a block, x y z; none before cuFuncSetBlockShape.
    block: [u32; 3],
    shared: u32,
    params: Vec<u8>,
}

impl Setup {
    fn lock(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn positive(value: i32) -> Done<u32> {
    u32::try_from(value).ok().filter(|v| *v > 0).ok_or(INVALID)
}

/// Writes into the parameter block, which grows as it is written.
fn put(function: CUfunction, offset: i32, bytes: &[u8]) -> Done {
    let function = driver()?.function_or_invalid(function)?;
    let at = usize::try_from(offset).map_err(|_| INVALID)?;
    let end = at
        .checked_add(bytes.len())
        .filter(|end| *end <= MAX_PARAM_BYTES as usize);
    let end = end.ok_or(INVALID)?;
    let mut setup = function.setup.lock();
    if setup.params.len() < end {
        setup.params.resize(end, 0);
    }
    setup.params[at..end].copy_from_slice(bytes);
    Ok(())
}

/// The parameters, as long as the kernel declares them.
fn block_of(function: &Function, values: &Values) -> Vec<u8> {
    let mut params = values.params.clone();
    params.resize(function.param_bytes as usize, 0);
    params
}

fn run(function: CUfunction, width: i32, height: i32, stream: CUstream) -> Done {
    let of = driver()?.function(function)?;
    let (width, height) = (positive(width)?, positive(height)?);
    let (block, shared, mut params) = {
        let values = of.setup.lock();
        (values.block, values.shared, block_of(&of, &values))
    };
    let mut bytes = params.len();
    let extra = [
        PARAM_BUFFER_POINTER as *mut c_void,
        params.as_mut_ptr().cast(),
        PARAM_BUFFER_SIZE as *mut c_void,
        (&raw mut bytes).cast(),
        PARAM_END as *mut c_void,
    ];
    let [x, y, z] = block;
    let (none, extra) = (In::null(), In::to(&extra));
    Status(cuLaunchKernel(
        function, width, height, 1, x, y, z, shared, stream, none, extra,
    ))
    .ok()
}

exports! {
    /// Sets the shape of a function's blocks.
    fn cuFuncSetBlockShape(function: CUfunction, x: i32, y: i32, z: i32) {
        let function = driver()?.function(function)?;
        function.setup.lock().block = [positive(x)?, positive(y)?, positive(z)?];
        Ok(())
    }

    /// Sets a function's dynamic shared memory, in bytes.
    fn cuFuncSetSharedSize(function: CUfunction, bytes: u32) {
        driver()?.function(function)?.setup.lock().shared = bytes;
        Ok(())
    }

    /// Sets the size of a function's parameters, in bytes.
    fn cuParamSetSize(function: CUfunction, bytes: u32) {
        let function = driver()?.function_or_invalid(function)?;
        if bytes > MAX_PARAM_BYTES {
            return Err(INVALID);
        }
        function.setup.lock().params.resize(bytes as usize, 0);
        Ok(())
    }

    /// Sets a parameter that is a whole number.
    fn cuParamSeti(function: CUfunction, offset: i32, value: u32) {
        put(function, offset, &value.to_ne_bytes())
    }

    /// Sets a parameter that is a floating-point number.
    fn cuParamSetf(function: CUfunction, offset: i32, value: f32) {
        put(function, offset, &value.to_ne_bytes())
    }

    /// Sets a parameter of any kind.
    fn cuParamSetv(function: CUfunction, offset: i32, at: Host, bytes: u32) {
        if bytes > MAX_PARAM_BYTES {
            return Err(INVALID);
        }
        let value = at.source(bytes as usize)?.to_vec(0, bytes as usize);
        put(function, offset, &value)
    }

    /// Launches a function as one block.
    fn cuLaunch(function: CUfunction) {
        driver()?.function_or_invalid(function)?;
        run(function, 1, 1, std::ptr::null_mut())
    }

    /// Launches a function as so many blocks.
    fn cuLaunchGrid(function: CUfunction, width: i32, height: i32) {
        driver()?.function_or_invalid(function)?;
        run(function, width, height, std::ptr::null_mut())
    }

    /// Launches a function as so many blocks in a stream.
    fn cuLaunchGridAsync(function: CUfunction, width: i32, height: i32, stream: CUstream) {
        run(function, width, height, stream)
    }
}
