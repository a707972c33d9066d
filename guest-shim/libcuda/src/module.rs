//! Modules, and libraries, which are modules that load into each context by themselves.

use std::collections::HashMap;
use std::ffi::{OsStr, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUjit_option_enum as Jit, CUlibrary, CUmodule};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{JitOption, ModuleId, stubs};
use vgpu_protocol::limits::{MAX_JIT_OPTIONS, MAX_MESSAGE_BYTES};

use crate::abi::{Done, Host, INVALID, Out, Text, exports};
use crate::ctx::{Ctx, enter};
use crate::image::image;
use crate::init::{Driver, driver};
use crate::mem::Alloc;

/// `CUDA_ERROR_FILE_NOT_FOUND`.
const FILE_NOT_FOUND: Status = Status(301);
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
}

/// A library: an image, and the module that it became in each context.
#[derive(Debug)]
pub struct Library {
    image: Vec<u8>,
    options: Vec<JitOption>,
    modules: Mutex<HashMap<u64, u64>>,
}

impl Library {
    fn modules(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.modules.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Forgets the module of a context that is gone.
    pub fn forget(&self, ctx: u64) {
        self.modules().remove(&ctx);
    }
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
struct Options {
    values: Out<*mut c_void>,
    numbers: Vec<JitOption>,
    info: LogBuffer,
    error: LogBuffer,
    wall_time: Option<usize>,
}

impl Options {
    fn none() -> Options {
        Options {
            values: Host(std::ptr::null_mut()).out(),
            numbers: Vec::new(),
            info: LogBuffer::default(),
            error: LogBuffer::default(),
            wall_time: None,
        }
    }

    fn read(count: u32, names: Out<i32>, values: Out<*mut c_void>) -> Done<Options> {
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
fn load(bytes: &[u8], options: &Options) -> Done<Arc<Module>> {
    let (driver, ctx, ctx_id) = enter()?;
    let start = Instant::now();
    let loaded = stubs::module_load(driver.channel, ctx_id, bytes, options.numbers.clone())?;
    options.store(options.info, &loaded.info_log)?;
    options.store(options.error, &loaded.error_log)?;
    if let Some(i) = options.wall_time {
        let milliseconds = start.elapsed().as_secs_f32() * 1000.0;
        options
            .values
            .set_at(i, milliseconds.to_bits() as usize as *mut c_void)?;
    }
    Status(loaded.status).ok()?;
    let made = driver.modules.insert(|handle| Module {
        handle,
        id: loaded.module,
        ctx,
        functions: Mutex::new(HashMap::new()),
    });
    made.map(|(_, module)| module)
        .ok_or(Status::ERROR_OUT_OF_MEMORY)
}

fn load_at(out: Out<CUmodule>, at: Host, options: &Options) -> Done {
    driver()?;
    out.check()?;
    let module = load(image(at)?, options)?;
    out.set(module.handle as CUmodule)
}

impl Driver {
    fn module(&self, module: CUmodule) -> Done<Arc<Module>> {
        self.modules
            .get(module as u64)
            .ok_or(Status::ERROR_INVALID_HANDLE)
    }

    fn library(&self, library: CUlibrary) -> Done<Arc<Library>> {
        self.libraries
            .get(library as u64)
            .ok_or(Status::ERROR_INVALID_HANDLE)
    }

    /// The handle of a kernel of a module.
    fn module_function(&self, module: &Module, name: Text) -> Done<u64> {
        let name = name.str()?;
        let mut known = module.functions.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(handle) = known.get(name) {
            return Ok(*handle);
        }
        let handle = self.new_function(module, name)?;
        known.insert(name.to_string(), handle);
        Ok(handle)
    }

    fn module_global(
        &self,
        module: &Module,
        out: Out<CUdeviceptr>,
        bytes: Out<usize>,
        name: Text,
    ) -> Done {
        let (at, length) =
            stubs::module_get_global(self.channel, module.ctx.id()?, module.id, name.str()?)?;
        // Copies to it must find it.
        let unique = self.unique_id();
        self.allocs_mut().entry(at.0).or_insert_with(|| Alloc {
            bytes: length,
            ctx: Arc::clone(&module.ctx),
            unique,
            module: Some(module.handle),
        });
        out.set_if_given(at.0);
        bytes.set_if_given(length as usize);
        Ok(())
    }

    fn unload(&self, handle: u64) -> Done {
        let module = self
            .modules
            .remove(handle)
            .ok_or(Status::ERROR_INVALID_HANDLE)?;
        self.functions.retain(|f| f.module != handle);
        self.allocs_mut().retain(|_, a| a.module != Some(handle));
        stubs::module_unload(self.channel, module.ctx.id()?, module.id)
    }

    /// The module of a library in the current context.
    fn library_module(&self, library: &Library) -> Done<Arc<Module>> {
        let (_, ctx, _) = enter()?;
        let mut modules = library.modules();
        if let Some(module) = modules.get(&ctx.handle).and_then(|m| self.modules.get(*m)) {
            return Ok(module);
        }
        let mut options = Options::none();
        options.numbers = library.options.clone();
        let module = load(&library.image, &options)?;
        modules.insert(ctx.handle, module.handle);
        Ok(module)
    }
}

exports! {
    /// Loads a module from a file.
    fn cuModuleLoad(out: Out<CUmodule>, name: Text) {
        enter()?;
        out.check()?;
        let mut bytes =
            fs::read(OsStr::from_bytes(name.bytes()?)).map_err(|_| FILE_NOT_FOUND)?;
        // PTX in a file has no NUL.
        bytes.push(0);
        if bytes.len() as u64 > MAX_MESSAGE_BYTES - 4096 {
            return Err(Status::ERROR_INVALID_IMAGE);
        }
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
        out.set(driver.module_function(&module, name)? as CUfunction)
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

    /// Loads a library. Its image is copied, and loaded into a context when it is first used there.
    fn cuLibraryLoadData(
        out: Out<CUlibrary>,
        at: Host,
        names: Out<i32>,
        values: Out<*mut c_void>,
        count: u32,
        _library_options: Host,
        _library_values: Host,
        library_count: u32,
    ) {
        let driver = driver()?;
        out.check()?;
        if library_count != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let options = Options::read(count, names, values)?;
        let image = image(at)?.to_vec();
        // In a context that is there a bad image shows at once.
        let first = match enter() {
            Ok((_, ctx, _)) => Some((ctx.handle, load(&image, &options)?.handle)),
            Err(_) => None,
        };
        let made = driver.libraries.insert(|_| Library {
            image,
            options: options.numbers,
            modules: Mutex::new(first.into_iter().collect()),
        });
        out.set(made.ok_or(Status::ERROR_OUT_OF_MEMORY)?.0 as CUlibrary)
    }

    /// Unloads a library from every context.
    fn cuLibraryUnload(library: CUlibrary) {
        let driver = driver()?;
        let library = driver.libraries.remove(library as u64).ok_or(Status::ERROR_INVALID_HANDLE)?;
        let modules = std::mem::take(&mut *library.modules());
        modules.into_values().try_for_each(|m| driver.unload(m))
    }

    /// The module of a library in the current context.
    fn cuLibraryGetModule(out: Out<CUmodule>, library: CUlibrary) {
        let driver = driver()?;
        out.check()?;
        let library = driver.library(library)?;
        out.set(driver.library_module(&library)?.handle as CUmodule)
    }

    /// A kernel of a library. Its handle is that of the function in the current context.
    fn cuLibraryGetKernel(out: Out<CUfunction>, library: CUlibrary, name: Text) {
        let driver = driver()?;
        out.check()?;
        let library = driver.library(library)?;
        let module = driver.library_module(&library)?;
        out.set(driver.module_function(&module, name)? as CUfunction)
    }

    /// A variable of a library in the current context.
    fn cuLibraryGetGlobal(out: Out<CUdeviceptr>, bytes: Out<usize>, library: CUlibrary, name: Text) {
        let driver = driver()?;
        let library = driver.library(library)?;
        let module = driver.library_module(&library)?;
        driver.module_global(&module, out, bytes, name)
    }
}
