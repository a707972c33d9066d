//! Modules.

use std::collections::HashMap;
use std::ffi::{OsStr, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUjit_option_enum as Jit, CUmodule};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{JitOption, ModuleId, stubs};
use vgpu_protocol::limits::{MAX_JIT_OPTIONS, MAX_MESSAGE_BYTES};

use crate::abi::{Done, Host, INVALID, Out, Text, exports};
use crate::ctx::{Ctx, enter};
use crate::host::TRIES;
use crate::image::image;
use crate::init::{Driver, driver};
use crate::mem::Alloc;

/// `CUDA_ERROR_FILE_NOT_FOUND`.
pub const FILE_NOT_FOUND: Status = Status(301);
/// `CU_MODULE_EAGER_LOADING`: a module is loaded when its load returns.
const EAGER_LOADING: i32 = 1;

/// A loaded module.
#[derive(Debug)]
pub struct Module {
    /// Its handle.
    pub handle: u64,
    /// The host's number of it.
    pub id: ModuleId,
    /// The context it is loaded in.
    pub ctx: Arc<Ctx>,
    /// Handles of the kernels that were looked up.
    functions: Mutex<HashMap<String, u64>>,
    /// The names of all, once they were asked for.
    kernels: OnceLock<Vec<String>>,
}

/// Where a log goes.
#[derive(Clone, Copy, Default)]
struct LogBuffer {
    at: Option<Host>,
    bytes: usize,
    /// Which option says the size, and gets the length.
    size_option: Option<usize>,
}

/// Options of a load.
pub struct Options {
    values: Out<*mut c_void>,
    /// Those that are numbers.
    pub numbers: Vec<JitOption>,
    info: LogBuffer,
    error: LogBuffer,
    wall_time: Option<usize>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("numbers", &self.numbers)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// No options.
    pub fn none() -> Options {
        Options {
            values: Host(std::ptr::null_mut()).out(),
            numbers: Vec::new(),
            info: LogBuffer::default(),
            error: LogBuffer::default(),
            wall_time: None,
        }
    }

    /// Those that the program gives.
    pub fn read(count: u32, names: Out<i32>, values: Out<*mut c_void>) -> Done<Options> {
        if count > MAX_JIT_OPTIONS {
            return Err(INVALID);
        }
        let mut options = Options::none();
        options.values = values;
        for i in 0..count as usize {
            let (name, value) = (names.get_at(i)?, values.get_at(i)?);
            let is = |option: Jit| name == option as i32;
            if is(Jit::CU_JIT_INFO_LOG_BUFFER) {
                options.info.at = Some(Host(value));
            } else if is(Jit::CU_JIT_ERROR_LOG_BUFFER) {
                options.error.at = Some(Host(value));
            } else if is(Jit::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES) {
                options.info.bytes = value as u32 as usize;
                options.info.size_option = Some(i);
            } else if is(Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) {
                options.error.bytes = value as u32 as usize;
                options.error.size_option = Some(i);
            } else if is(Jit::CU_JIT_WALL_TIME) {
                options.wall_time = Some(i);
            } else if is(Jit::CU_JIT_GLOBAL_SYMBOL_NAMES)
                || is(Jit::CU_JIT_GLOBAL_SYMBOL_ADDRESSES)
                || is(Jit::CU_JIT_GLOBAL_SYMBOL_COUNT)
                || is(Jit::CU_JIT_REFERENCED_KERNEL_NAMES)
                || is(Jit::CU_JIT_REFERENCED_VARIABLE_NAMES)
            {
                // Their values are addresses in this process.
                return Err(Status::ERROR_NOT_SUPPORTED);
            } else {
                options.numbers.push(JitOption {
                    option: u32::try_from(name).map_err(|_| INVALID)?,
                    value: value as u64,
                });
            }
        }
        Ok(options)
    }

    /// Stores logs and the time since `start`.
    pub fn report(&self, info: &str, error: &str, start: Instant) -> Done {
        self.store(self.info, info)?;
        self.store(self.error, error)?;
        if let Some(i) = self.wall_time {
            let milliseconds = start.elapsed().as_secs_f32() * 1000.0;
            let bits = milliseconds.to_bits() as usize as *mut c_void;
            self.values.set_at(i, bits)?;
        }
        Ok(())
    }

    /// Stores a log, NUL-terminated and cut to the buffer, and its length.
    fn store(&self, to: LogBuffer, log: &str) -> Done {
        let mut length = 0;
        if let Some(at) = to.at.filter(|at| !at.is_null() && to.bytes > 0) {
            let mut target = at.target(to.bytes)?;
            length = target.store(0, &log.as_bytes()[..log.len().min(to.bytes - 1)]);
            target.store(length, &[0]);
        }
        match to.size_option {
            Some(i) => self.values.set_at(i, length as *mut c_void),
            None => Ok(()),
        }
    }
}

/// Loads an image into the current context.
pub fn load(bytes: &[u8], options: &Options) -> Done<Arc<Module>> {
    let (driver, ctx, ctx_id) = enter()?;
    let start = Instant::now();
    // Managed variables must lie at the same address here: where this process has something
    // there, the module is loaded once more, with other memory.
    let mut refused = Vec::new();
    let found = loop {
        let loaded = stubs::module_load(driver.channel, ctx_id, bytes, options.numbers.clone());
        let loaded = match loaded {
            Ok(loaded) if loaded.managed_bytes > 0 => loaded,
            other => break other.map(|loaded| (loaded, None)),
        };
        match driver.map_managed(loaded.managed, loaded.managed_bytes) {
            Ok(Some(piece)) => break Ok((loaded, Some(piece))),
            Ok(None) if refused.len() < TRIES => refused.push(loaded),
            failed => {
                refused.push(loaded);
                break Err(failed.err().unwrap_or(Status::ERROR_OUT_OF_MEMORY));
            }
        }
    };
    for loaded in refused {
        stubs::module_unload(driver.channel, ctx_id, loaded.module)?;
        stubs::host_free(driver.channel, ctx_id, loaded.managed.1)?;
    }
    let (loaded, managed) = found?;
    options.report(&loaded.info_log, &loaded.error_log, start)?;
    Status(loaded.status).ok()?;
    let made = driver.modules.insert(|handle| Module {
        handle,
        id: loaded.module,
        ctx: Arc::clone(&ctx),
        functions: Mutex::new(HashMap::new()),
        kernels: OnceLock::new(),
    });
    let (_, module) = made.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
    if let Some(piece) = managed {
        driver.keep_managed(&ctx, module.handle, loaded.managed_bytes, piece);
    }
    Ok(module)
}

/// An image out of a file.
pub fn file(name: &OsStr) -> Done<Vec<u8>> {
    let mut bytes = fs::read(name).map_err(|_| FILE_NOT_FOUND)?;
    // PTX in a file has no NUL.
    bytes.push(0);
    if bytes.len() as u64 > MAX_MESSAGE_BYTES - 4096 {
        return Err(Status::ERROR_INVALID_IMAGE);
    }
    Ok(bytes)
}

fn load_at(out: Out<CUmodule>, at: Host, options: &Options) -> Done {
    driver()?;
    out.check()?;
    let module = load(image(at)?, options)?;
    out.set(module.handle as CUmodule)
}

impl Driver {
    /// A live module. The functions that take one name CUDA_ERROR_INVALID_VALUE for what is none.
    fn module(&self, module: CUmodule) -> Done<Arc<Module>> {
        self.modules.get(module as u64).ok_or(INVALID)
    }

    /// The handle of a kernel of a module.
    pub fn module_function(&self, module: &Module, name: &str) -> Done<u64> {
        let mut known = module.functions.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(handle) = known.get(name) {
            return Ok(*handle);
        }
        let handle = self.new_function(module, name)?;
        known.insert(name.to_string(), handle);
        Ok(handle)
    }

    /// The names of a module's kernels, asked for once.
    pub fn kernel_names<'a>(&self, module: &'a Module) -> Done<&'a [String]> {
        if let Some(names) = module.kernels.get() {
            return Ok(names);
        }
        let names = stubs::module_functions(self.channel, module.ctx.id()?, module.id)?;
        Ok(module.kernels.get_or_init(|| names))
    }

    /// Address and size of a variable of a module.
    pub fn module_global(
        &self,
        module: &Module,
        out: Out<CUdeviceptr>,
        bytes: Out<usize>,
        name: Text,
    ) -> Done {
        let (at, length) =
            stubs::module_get_global(self.channel, module.ctx.id()?, module.id, name.str()?)?;
        if !self.is_managed_variable(at.0, module.handle) {
            // Copies to it must find it.
            let unique = self.unique_id();
            self.allocs_mut().entry(at.0).or_insert_with(|| Alloc {
                bytes: length,
                ctx: Arc::clone(&module.ctx),
                unique,
                module: Some(module.handle),
                pool: None,
            });
        }
        out.set_if_given(at.0);
        bytes.set_if_given(length as usize);
        Ok(())
    }

    /// Unloads a module.
    pub fn unload(&self, handle: u64) -> Done {
        let module = self.modules.remove(handle).ok_or(INVALID)?;
        self.functions.retain(|f| f.module != handle);
        self.allocs_mut().retain(|_, a| a.module != Some(handle));
        stubs::module_unload(self.channel, module.ctx.id()?, module.id)?;
        self.free_managed(handle)
    }
}

exports! {
    /// Loads a module from a file.
    fn cuModuleLoad(out: Out<CUmodule>, name: Text) {
        enter()?;
        out.check()?;
        let bytes = file(OsStr::from_bytes(name.bytes()?))?;
        out.set(load(&bytes, &Options::none())?.handle as CUmodule)
    }

    /// Loads a module from memory.
    fn cuModuleLoadData(out: Out<CUmodule>, at: Host) {
        load_at(out, at, &Options::none())
    }

    /// Loads a module from memory, with options.
    fn cuModuleLoadDataEx(
        out: Out<CUmodule>,
        at: Host,
        count: u32,
        names: Out<i32>,
        values: Out<*mut c_void>,
    ) {
        load_at(out, at, &Options::read(count, names, values)?)
    }

    /// Loads a fat binary.
    fn cuModuleLoadFatBinary(out: Out<CUmodule>, at: Host) {
        load_at(out, at, &Options::none())
    }

    /// Unloads a module.
    fn cuModuleUnload(module: CUmodule) {
        driver()?.unload(module as u64)
    }

    /// A kernel of a module.
    fn cuModuleGetFunction(out: Out<CUfunction>, module: CUmodule, name: Text) {
        let driver = driver()?;
        out.check()?;
        let module = driver.module(module)?;
        out.set(driver.module_function(&module, name.str()?)? as CUfunction)
    }

    /// The number of a module's kernels.
    fn cuModuleGetFunctionCount(count: Out<u32>, module: CUmodule) {
        let driver = driver()?;
        count.check()?;
        let module = driver.module(module)?;
        count.set(u32::try_from(driver.kernel_names(&module)?.len()).unwrap_or(u32::MAX))
    }

    /// A module's kernels, at most so many.
    fn cuModuleEnumerateFunctions(out: Out<CUfunction>, count: u32, module: CUmodule) {
        let driver = driver()?;
        if count == 0 {
            return Err(INVALID);
        }
        out.check()?;
        let module = driver.module(module)?;
        for (i, name) in driver.kernel_names(&module)?.iter().take(count as usize).enumerate() {
            out.set_at(i, driver.module_function(&module, name)? as CUfunction)?;
        }
        Ok(())
    }

    /// A variable of a module: address and size, of which one may be null.
    fn cuModuleGetGlobal_v2(out: Out<CUdeviceptr>, bytes: Out<usize>, module: CUmodule, name: Text) {
        let driver = driver()?;
        let module = driver.module(module)?;
        driver.module_global(&module, out, bytes, name)
    }

    /// Whether modules are loaded at once or when used: at once.
    fn cuModuleGetLoadingMode(mode: Out<i32>) {
        driver()?;
        mode.set(EAGER_LOADING)
    }
}
