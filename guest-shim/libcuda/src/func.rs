//! Kernels. All that never changes about one came with its lookup.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::{CUfunction, CUfunction_attribute_enum as Attr, CUkernel, CUmodule};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{FunctionId, FunctionInfo, stubs};
use vgpu_protocol::limits::{MAX_NAME_BYTES, MAX_PARAM_BYTES};

use crate::abi::{Done, INVALID, Out, exports};
use crate::ctx::Ctx;
use crate::init::{Driver, driver};
use crate::legacy::Setup;
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
    /// What the old launches set on it.
    pub setup: Setup,
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
            setup: Setup::default(),
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

    /// Its name.
    pub fn name(&self) -> &CString {
        &self.name
    }

    /// Most dynamic shared memory of a launch, in bytes.
    pub fn max_dynamic_bytes(&self) -> u32 {
        u32::try_from(self.max_dynamic.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl Driver {
    /// The kernel of a handle, which may be a CUfunction or a CUkernel.
    pub fn function(&self, function: CUfunction) -> Done<Arc<Function>> {
        match self.functions.get(function as u64) {
            Some(function) => Ok(function),
            None => Ok(self.kernel_function(function as CUkernel)?.1),
        }
    }

    /// The same for calls whose reference names CUDA_ERROR_INVALID_VALUE for what is no function.
    pub fn function_or_invalid(&self, function: CUfunction) -> Done<Arc<Function>> {
        self.function(function).map_err(|error| match error {
            Status::ERROR_INVALID_HANDLE => INVALID,
            other => other,
        })
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

/// Stores an attribute.
pub fn get(function: &Function, value: Out<i32>, attribute: i32) -> Done {
    let found = function.attributes().get(&attribute).copied();
    value.set(found.ok_or(INVALID)?)
}

/// Sets an attribute.
pub fn set(driver: &Driver, function: &Function, attribute: i32, value: i32) -> Done {
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

/// Stores offset and size of a parameter.
pub fn param_info(
    function: &Function,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> Done {
    let (at, size) = *function.params.get(index).ok_or(INVALID)?;
    offset.set(at as usize)?;
    bytes.set_if_given(size as usize);
    Ok(())
}

/// The preferred split of cache and shared memory: "the driver is free to choose a different
/// configuration".
pub fn check_cache_config(config: i32) -> Done {
    if (0..=3).contains(&config) {
        Ok(())
    } else {
        Err(INVALID)
    }
}

exports! {
    /// An attribute of a kernel.
    fn cuFuncGetAttribute(value: Out<i32>, attribute: i32, function: CUfunction) {
        let driver = driver()?;
        value.check()?;
        get(&*driver.function(function)?, value, attribute)
    }

    /// Sets an attribute of a kernel.
    fn cuFuncSetAttribute(function: CUfunction, attribute: i32, value: i32) {
        let driver = driver()?;
        set(driver, &*driver.function(function)?, attribute, value)
    }

    /// Sets the preferred split of cache and shared memory.
    fn cuFuncSetCacheConfig(function: CUfunction, config: i32) {
        driver()?.function_or_invalid(function)?;
        check_cache_config(config)
    }

    /// Sets the width of shared memory's banks: without effect on devices with fixed banks.
    fn cuFuncSetSharedMemConfig(function: CUfunction, config: i32) {
        driver()?.function_or_invalid(function)?;
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
        let driver = driver()?;
        out.check()?;
        // "valid as long as the function handle is": the handle keeps the function.
        out.set(driver.function(function)?.name.as_ptr())
    }

    /// Offset and size of a parameter.
    fn cuFuncGetParamInfo(function: CUfunction, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let driver = driver()?;
        offset.check()?;
        param_info(&*driver.function(function)?, index, offset, bytes)
    }

    /// The number of parameters.
    fn cuFuncGetParamCount(function: CUfunction, count: Out<usize>) {
        let driver = driver()?;
        count.check()?;
        count.set(driver.function(function)?.params.len())
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
}
