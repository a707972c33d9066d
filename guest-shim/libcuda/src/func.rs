//! Kernels. All that never changes about one came with its lookup.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::{CUdevice, CUfunction, CUfunction_attribute_enum as Attr, CUmodule};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{FunctionId, FunctionInfo, stubs};
use vgpu_protocol::limits::{MAX_NAME_BYTES, MAX_PARAM_BYTES};

use crate::abi::{Done, INVALID, Out, exports};
use crate::ctx::Ctx;
use crate::init::{Driver, driver};
use crate::module::Module;

/// A kernel.
#[derive(Debug)]
pub struct Function {
    /// The module's handle.
    pub module: u64,
    /// The context it is loaded in.
    pub ctx: Arc<Ctx>,
    /// The host's number of it.
    pub id: FunctionId,
    /// Offset and size of each parameter, in bytes.
    pub params: Vec<(u32, u32)>,
    /// Size of the parameter block, in bytes.
    pub param_bytes: u32,
    /// Most threads of a block.
    pub max_threads: u32,
    name: CString,
    max_dynamic: AtomicI32,
    attributes: Mutex<BTreeMap<i32, i32>>,
}

impl Function {
    fn new(module: &Module, name: &str, info: FunctionInfo) -> Done<Function> {
        let ends = info
            .params
            .iter()
            .map(|(offset, size)| offset.saturating_add(*size));
        let param_bytes = ends.max().unwrap_or(0);
        if param_bytes > MAX_PARAM_BYTES {
            return Err(Status::ERROR_UNKNOWN);
        }
        let attributes: BTreeMap<i32, i32> = info.attributes.into_iter().collect();
        let get = |a: Attr| attributes.get(&(a as i32)).copied();
        let max_threads = get(Attr::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
        let max_dynamic = get(Attr::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
        Ok(Function {
            module: module.handle,
            ctx: Arc::clone(&module.ctx),
            id: info.function,
            params: info.params,
            param_bytes,
            max_threads: max_threads
                .and_then(|t| u32::try_from(t).ok())
                .unwrap_or(u32::MAX),
            name: CString::new(name).map_err(|_| INVALID)?,
            max_dynamic: AtomicI32::new(max_dynamic.unwrap_or(0)),
            attributes: Mutex::new(attributes),
        })
    }

    fn attributes(&self) -> MutexGuard<'_, BTreeMap<i32, i32>> {
        self.attributes.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// An attribute; 0 where the host's driver does not have it.
    pub fn attribute(&self, attribute: Attr) -> i32 {
        self.attributes()
            .get(&(attribute as i32))
            .copied()
            .unwrap_or(0)
    }

    /// Most dynamic shared memory of a launch, in bytes.
    pub fn max_dynamic_bytes(&self) -> u32 {
        u32::try_from(self.max_dynamic.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl Driver {
    /// The kernel of a handle, which may be a CUfunction or a CUkernel.
    pub fn function(&self, function: CUfunction) -> Done<Arc<Function>> {
        self.functions
            .get(function as u64)
            .ok_or(Status::ERROR_INVALID_HANDLE)
    }

    /// Looks a kernel up on the host.
    pub fn new_function(&self, module: &Module, name: &str) -> Done<u64> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES as usize {
            return Err(Status::ERROR_NOT_FOUND);
        }
        let info = stubs::module_get_function(self.channel, module.ctx.id()?, module.id, name)?;
        let function = Function::new(module, name, info)?;
        let made = self.functions.insert(|_| function);
        made.map(|(handle, _)| handle)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)
    }
}

fn get_attribute(value: Out<i32>, attribute: i32, function: CUfunction) -> Done {
    let driver = driver()?;
    value.check()?;
    let function = driver.function(function)?;
    let found = function.attributes().get(&attribute).copied();
    value.set(found.ok_or(INVALID)?)
}

fn set_attribute(function: CUfunction, attribute: i32, value: i32) -> Done {
    let driver = driver()?;
    let function = driver.function(function)?;
    let is = |a: Attr| attribute == a as i32;
    // The others are read-only (`cuFuncSetAttribute`).
    let settable = is(Attr::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        || is(Attr::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT)
        || (Attr::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH as i32
            ..=Attr::CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE as i32)
            .contains(&attribute);
    if !settable {
        return Err(INVALID);
    }
    let ctx = function.ctx.id()?;
    stubs::func_set_attribute(driver.channel, ctx, function.id, attribute, value)?;
    function.attributes().insert(attribute, value);
    if is(Attr::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        function.max_dynamic.store(value, Ordering::Relaxed);
    }
    Ok(())
}

fn param_info(function: CUfunction, index: usize, offset: Out<usize>, bytes: Out<usize>) -> Done {
    let driver = driver()?;
    offset.check()?;
    let function = driver.function(function)?;
    let (at, size) = *function.params.get(index).ok_or(INVALID)?;
    offset.set(at as usize)?;
    bytes.set_if_given(size as usize);
    Ok(())
}

fn param_count(function: CUfunction, count: Out<usize>) -> Done {
    let driver = driver()?;
    count.check()?;
    count.set(driver.function(function)?.params.len())
}

fn name(out: Out<*const c_char>, function: CUfunction) -> Done {
    let driver = driver()?;
    out.check()?;
    // "valid as long as the function handle is": the handle keeps the function.
    out.set(driver.function(function)?.name.as_ptr())
}

fn cache_config(function: CUfunction, config: i32) -> Done {
    driver()?.function(function)?;
    // A preference; "the driver is free to choose a different configuration".
    if (0..=3).contains(&config) {
        Ok(())
    } else {
        Err(INVALID)
    }
}

exports! {
    /// An attribute of a kernel.
    fn cuFuncGetAttribute(value: Out<i32>, attribute: i32, function: CUfunction) {
        get_attribute(value, attribute, function)
    }

    /// Sets an attribute of a kernel.
    fn cuFuncSetAttribute(function: CUfunction, attribute: i32, value: i32) {
        set_attribute(function, attribute, value)
    }

    /// Sets the preferred split of cache and shared memory.
    fn cuFuncSetCacheConfig(function: CUfunction, config: i32) {
        cache_config(function, config)
    }

    /// Sets the width of shared memory's banks: without effect on devices with fixed banks.
    fn cuFuncSetSharedMemConfig(function: CUfunction, config: i32) {
        driver()?.function(function)?;
        if (0..=2).contains(&config) { Ok(()) } else { Err(INVALID) }
    }

    /// The module of a kernel.
    fn cuFuncGetModule(out: Out<CUmodule>, function: CUfunction) {
        let driver = driver()?;
        out.check()?;
        out.set(driver.function(function)?.module as CUmodule)
    }

    /// The name of a kernel.
    fn cuFuncGetName(out: Out<*const c_char>, function: CUfunction) {
        name(out, function)
    }

    /// Offset and size of a parameter.
    fn cuFuncGetParamInfo(function: CUfunction, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        param_info(function, index, offset, bytes)
    }

    /// The number of parameters.
    fn cuFuncGetParamCount(function: CUfunction, count: Out<usize>) {
        param_count(function, count)
    }

    /// Whether a kernel is loaded: it is, since its module is (`CU_FUNCTION_LOADING_STATE_LOADED`).
    fn cuFuncIsLoaded(state: Out<i32>, function: CUfunction) {
        let driver = driver()?;
        state.check()?;
        driver.function(function)?;
        state.set(1)
    }

    /// Loads a kernel: it is loaded.
    fn cuFuncLoad(function: CUfunction) {
        driver()?.function(function).map(drop)
    }

    /// The number of parameters.
    fn cuKernelGetParamCount(kernel: CUfunction, count: Out<usize>) {
        param_count(kernel, count)
    }

    /// The function of a kernel: the same handle.
    fn cuKernelGetFunction(out: Out<CUfunction>, kernel: CUfunction) {
        let driver = driver()?;
        out.check()?;
        driver.function(kernel)?;
        out.set(kernel)
    }

    /// An attribute of a kernel of a library.
    fn cuKernelGetAttribute(value: Out<i32>, attribute: i32, kernel: CUfunction, device: CUdevice) {
        driver()?.device(device)?;
        get_attribute(value, attribute, kernel)
    }

    /// Sets an attribute of a kernel of a library.
    fn cuKernelSetAttribute(attribute: i32, value: i32, kernel: CUfunction, device: CUdevice) {
        driver()?.device(device)?;
        set_attribute(kernel, attribute, value)
    }

    /// Sets the preferred split of cache and shared memory.
    fn cuKernelSetCacheConfig(kernel: CUfunction, config: i32, device: CUdevice) {
        driver()?.device(device)?;
        cache_config(kernel, config)
    }

    /// The name of a kernel of a library.
    fn cuKernelGetName(out: Out<*const c_char>, kernel: CUfunction) {
        name(out, kernel)
    }

    /// Offset and size of a parameter.
    fn cuKernelGetParamInfo(kernel: CUfunction, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        param_info(kernel, index, offset, bytes)
    }
}
