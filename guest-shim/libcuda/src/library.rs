//! Libraries and their kernels. Neither belongs to a context: a library is an image that becomes a
//! module in each context where it is used, and a kernel is a name in it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{CUdevice, CUdeviceptr, CUfunction, CUkernel, CUlibrary, CUmodule};
use vgpu_protocol::Status;
use vgpu_protocol::calls::JitOption;
use vgpu_protocol::limits::MAX_NAME_BYTES;

use crate::abi::{Done, Host, INVALID, In, Out, Text, exports};
use crate::ctx::{current_or_none, enter};
use crate::func::{self, Function};
use crate::image::image;
use crate::init::{Driver, driver};
use crate::module::{Module, Options, file, load};

/// `CUlibraryOption`.
const HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE: i32 = 0;
const BINARY_IS_PRESERVED: i32 = 1;

/// Where a library's image is.
#[derive(Debug)]
enum Image {
    /// In the program, which promised to keep it (`CU_LIBRARY_BINARY_IS_PRESERVED`).
    Preserved(&'static [u8]),
    /// In a copy.
    Copied(Vec<u8>),
}

/// A library.
#[derive(Debug)]
pub struct Library {
    handle: u64,
    image: Image,
    options: Vec<JitOption>,
    /// The module in each context, by the context's handle.
    modules: Mutex<HashMap<u64, u64>>,
    /// Handles of its kernels, by name.
    kernels: Mutex<HashMap<Arc<str>, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Library {
    /// Forgets the module of a context that is gone.
    pub fn forget(&self, ctx: u64) {
        lock(&self.modules).remove(&ctx);
    }
}

/// A kernel of a library.
#[derive(Debug)]
pub struct Kernel {
    library: Arc<Library>,
    name: Arc<str>,
    /// For programs, which want it with a NUL.
    text: CString,
    /// The function in each context, by the context's handle.
    functions: Mutex<HashMap<u64, u64>>,
    /// Attributes that were set, by device and attribute.
    set: Mutex<BTreeMap<(CUdevice, i32), i32>>,
}

impl Driver {
    fn library(&self, library: CUlibrary) -> Done<Arc<Library>> {
        self.libraries
            .get(library as u64)
            .ok_or(Status::ERROR_INVALID_HANDLE)
    }

    fn kernel(&self, kernel: CUkernel) -> Done<Arc<Kernel>> {
        self.kernels
            .get(kernel as u64)
            .ok_or(Status::ERROR_INVALID_HANDLE)
    }

    /// The module of a library in the current context.
    fn library_module(&self, library: &Library) -> Done<Arc<Module>> {
        let (_, ctx, _) = enter()?;
        let mut modules = lock(&library.modules);
        if let Some(module) = modules.get(&ctx.handle).and_then(|m| self.modules.get(*m)) {
            return Ok(module);
        }
        let mut options = Options::none();
        options.numbers = library.options.clone();
        let image = match &library.image {
            Image::Preserved(image) => image,
            Image::Copied(image) => image.as_slice(),
        };
        let module = load(image, &options)?;
        modules.insert(ctx.handle, module.handle);
        Ok(module)
    }

    /// The function of a kernel in the current context.
    pub fn kernel_function(&self, kernel: CUkernel) -> Done<(u64, Arc<Function>)> {
        let kernel = self.kernel(kernel)?;
        let (_, ctx, _) = enter()?;
        let mut functions = lock(&kernel.functions);
        if let Some(handle) = functions.get(&ctx.handle)
            && let Some(function) = self.functions.get(*handle)
        {
            return Ok((*handle, function));
        }
        let module = self.library_module(&kernel.library)?;
        let handle = self.module_function(&module, &kernel.name)?;
        let function = self
            .functions
            .get(handle)
            .ok_or(Status::ERROR_INVALID_HANDLE)?;
        let set = lock(&kernel.set);
        for ((_, attribute), value) in set.iter().filter(|((of, _), _)| *of == ctx.device) {
            func::set(self, &function, *attribute, *value)?;
        }
        functions.insert(ctx.handle, handle);
        Ok((handle, function))
    }

    /// The function of a kernel on a device: in the current context if that is one of the device,
    /// otherwise in its primary context.
    fn function_on(&self, kernel: CUkernel, device: CUdevice) -> Done<Arc<Function>> {
        self.device(device)?;
        self.kernel(kernel)?;
        self.with_context_of(device, || Ok(self.kernel_function(kernel)?.1))
    }

    /// Calls with a context of a device as the current one.
    fn with_context_of<T>(&self, device: CUdevice, call: impl FnOnce() -> Done<T>) -> Done<T> {
        match current_or_none()? {
            Some(ctx) if ctx.device == device && ctx.id().is_ok() => call(),
            _ => crate::ctx::with_primary(self, device, call),
        }
    }
}

/// Options of libraries: whether the image stays where it is.
fn is_preserved(names: In<i32>, values: In<*mut c_void>, count: u32) -> Done<bool> {
    let mut preserved = false;
    for i in 0..count as usize {
        match names.at(i)? {
            BINARY_IS_PRESERVED => preserved = values.is_null() || !values.at(i)?.is_null(),
            HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE => return Err(Status::ERROR_NOT_SUPPORTED),
            _ => return Err(INVALID),
        }
    }
    Ok(preserved)
}

fn add(driver: &Driver, out: Out<CUlibrary>, image: Image, options: &Options) -> Done {
    // In a context that is there a bad image shows at once.
    let bytes = match &image {
        Image::Preserved(image) => image,
        Image::Copied(image) => image.as_slice(),
    };
    let first = match enter() {
        Ok((_, ctx, _)) => Some((ctx.handle, load(bytes, options)?.handle)),
        Err(_) => None,
    };
    let made = driver.libraries.insert(|handle| Library {
        handle,
        image,
        options: options.numbers.clone(),
        modules: Mutex::new(first.into_iter().collect()),
        kernels: Mutex::new(HashMap::new()),
    });
    out.set(made.ok_or(Status::ERROR_OUT_OF_MEMORY)?.0 as CUlibrary)
}

/// The library's module in a context: the current one, or else one of the first device.
fn looked_at<T>(
    driver: &Driver,
    library: &Library,
    look: impl FnOnce(&Module) -> Done<T>,
) -> Done<T> {
    let ctx = current_or_none()?.filter(|ctx| ctx.id().is_ok());
    driver.with_context_of(ctx.map_or(0, |ctx| ctx.device), || {
        look(&*driver.library_module(library)?)
    })
}

/// The handle of a kernel of a library: the same for the same name.
fn kernel(driver: &Driver, library: &Arc<Library>, name: &str) -> Done<u64> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES as usize {
        return Err(Status::ERROR_NOT_FOUND);
    }
    if let Some(handle) = lock(&library.kernels).get(name) {
        return Ok(*handle);
    }
    // The image says whether there is such a kernel; it is looked at where it is loaded.
    looked_at(driver, library, |module| {
        driver.module_function(module, name).map(drop)
    })?;
    let text = CString::new(name).map_err(|_| INVALID)?;
    let mut kernels = lock(&library.kernels);
    // Another thread may have been as fast.
    if let Some(handle) = kernels.get(name) {
        return Ok(*handle);
    }
    let name: Arc<str> = name.into();
    let made = driver.kernels.insert(|_| Kernel {
        library: Arc::clone(library),
        name: Arc::clone(&name),
        text,
        functions: Mutex::new(HashMap::new()),
        set: Mutex::new(BTreeMap::new()),
    });
    let (handle, _) = made.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
    kernels.insert(name, handle);
    Ok(handle)
}

/// A kernel's function in whatever context: for what is the same in all.
fn any_function(driver: &Driver, kernel: CUkernel) -> Done<Arc<Function>> {
    let device = current_or_none()?.filter(|ctx| ctx.id().is_ok());
    driver.function_on(kernel, device.map_or(0, |ctx| ctx.device))
}

exports! {
    /// Loads a library. Its image is loaded into a context when it is first used there.
    fn cuLibraryLoadData(
        out: Out<CUlibrary>,
        at: Host,
        names: Out<i32>,
        values: Out<*mut c_void>,
        count: u32,
        library_names: In<i32>,
        library_values: In<*mut c_void>,
        library_count: u32,
    ) {
        let driver = driver()?;
        out.check()?;
        let preserved = is_preserved(library_names, library_values, library_count)?;
        let options = Options::read(count, names, values)?;
        let image = image(at)?;
        let image = if preserved { Image::Preserved(image) } else { Image::Copied(image.to_vec()) };
        add(driver, out, image, &options)
    }

    /// Loads a library from a file.
    fn cuLibraryLoadFromFile(
        out: Out<CUlibrary>,
        name: Text,
        names: Out<i32>,
        values: Out<*mut c_void>,
        count: u32,
        library_names: In<i32>,
        library_values: In<*mut c_void>,
        library_count: u32,
    ) {
        let driver = driver()?;
        out.check()?;
        // A file's bytes are always copied.
        is_preserved(library_names, library_values, library_count)?;
        let options = Options::read(count, names, values)?;
        let image = file(OsStr::from_bytes(name.bytes()?))?;
        add(driver, out, Image::Copied(image), &options)
    }

    /// Unloads a library from every context.
    fn cuLibraryUnload(library: CUlibrary) {
        let driver = driver()?;
        let library = driver.libraries.remove(library as u64).ok_or(INVALID)?;
        driver.kernels.retain(|k| k.library.handle != library.handle);
        let modules = std::mem::take(&mut *lock(&library.modules));
        modules.into_values().try_for_each(|m| driver.unload(m))
    }

    /// The module of a library in the current context.
    fn cuLibraryGetModule(out: Out<CUmodule>, library: CUlibrary) {
        let driver = driver()?;
        out.check()?;
        let library = driver.library(library)?;
        out.set(driver.library_module(&library)?.handle as CUmodule)
    }

    /// A kernel of a library.
    fn cuLibraryGetKernel(out: Out<CUkernel>, library: CUlibrary, name: Text) {
        let driver = driver()?;
        out.check()?;
        let library = driver.library(library)?;
        out.set(kernel(driver, &library, name.str()?)? as CUkernel)
    }

    /// The number of a library's kernels.
    fn cuLibraryGetKernelCount(count: Out<u32>, library: CUlibrary) {
        let driver = driver()?;
        count.check()?;
        let library = driver.library(library)?;
        let names = looked_at(driver, &library, |m| Ok(driver.kernel_names(m)?.len()))?;
        count.set(u32::try_from(names).unwrap_or(u32::MAX))
    }

    /// A library's kernels, at most so many.
    fn cuLibraryEnumerateKernels(out: Out<CUkernel>, count: u32, library: CUlibrary) {
        let driver = driver()?;
        if count == 0 {
            return Err(INVALID);
        }
        out.check()?;
        let library = driver.library(library)?;
        let names = looked_at(driver, &library, |m| Ok(driver.kernel_names(m)?.to_vec()))?;
        for (i, name) in names.iter().take(count as usize).enumerate() {
            out.set_at(i, kernel(driver, &library, name)? as CUkernel)?;
        }
        Ok(())
    }

    /// A variable of a library in the current context.
    fn cuLibraryGetGlobal(out: Out<CUdeviceptr>, bytes: Out<usize>, library: CUlibrary, name: Text) {
        let driver = driver()?;
        let library = driver.library(library)?;
        let module = driver.library_module(&library)?;
        driver.module_global(&module, out, bytes, name)
    }

    /// A managed variable of a library. Each context in which the library is used has its own; on `cuda`
    /// the host refuses them, since this process cannot reach the memory that its driver takes.
    fn cuLibraryGetManaged(out: Out<CUdeviceptr>, bytes: Out<usize>, library: CUlibrary, name: Text) {
        let driver = driver()?;
        let library = driver.library(library)?;
        if out.is_null() && bytes.is_null() {
            return Err(INVALID);
        }
        let module = driver.library_module(&library)?;
        let (mut at, mut size) = (0, 0);
        driver.module_global(&module, Out::to(&mut at), Out::to(&mut size), name)?;
        if !driver.is_managed_variable(at, module.handle) {
            return Err(Status::ERROR_NOT_FOUND);
        }
        out.set_if_given(at);
        bytes.set_if_given(size);
        Ok(())
    }

    /// A function that host and device both call: "if there is no device with attribute
    /// CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS …, the call may return CUDA_ERROR_NOT_FOUND".
    fn cuLibraryGetUnifiedFunction(out: Out<*mut c_void>, library: CUlibrary, name: Text) {
        let driver = driver()?;
        driver.library(library)?;
        out.check()?;
        name.bytes()?;
        Err(Status::ERROR_NOT_FOUND)
    }

    /// The library of a kernel.
    fn cuKernelGetLibrary(out: Out<CUlibrary>, kernel: CUkernel) {
        let driver = driver()?;
        out.check()?;
        out.set(driver.kernel(kernel)?.library.handle as CUlibrary)
    }

    /// The function of a kernel in the current context.
    fn cuKernelGetFunction(out: Out<CUfunction>, kernel: CUkernel) {
        let driver = driver()?;
        out.check()?;
        out.set(driver.kernel_function(kernel)?.0 as CUfunction)
    }

    /// The name of a kernel.
    fn cuKernelGetName(out: Out<*const c_char>, kernel: CUkernel) {
        let driver = driver()?;
        out.check()?;
        // The handle keeps the kernel and its name.
        out.set(driver.kernel(kernel)?.text.as_ptr())
    }

    /// The number of parameters.
    fn cuKernelGetParamCount(kernel: CUkernel, count: Out<usize>) {
        let driver = driver()?;
        count.check()?;
        let function = any_function(driver, kernel)?;
        count.set(function.params.len())
    }

    /// Offset and size of a parameter.
    fn cuKernelGetParamInfo(kernel: CUkernel, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let driver = driver()?;
        offset.check()?;
        let function = any_function(driver, kernel)?;
        func::param_info(&function, index, offset, bytes)
    }

    /// An attribute of a kernel on a device.
    fn cuKernelGetAttribute(value: Out<i32>, attribute: i32, kernel: CUkernel, device: CUdevice) {
        let driver = driver()?;
        value.check()?;
        let function = driver.function_on(kernel, device)?;
        func::get(&function, value, attribute)
    }

    /// Sets an attribute of a kernel for a device: in each of its contexts, now and later.
    fn cuKernelSetAttribute(attribute: i32, value: i32, kernel: CUkernel, device: CUdevice) {
        let driver = driver()?;
        let function = driver.function_on(kernel, device)?;
        func::set(driver, &function, attribute, value)?;
        let kernel = driver.kernel(kernel)?;
        lock(&kernel.set).insert((device, attribute), value);
        let others: Vec<u64> = lock(&kernel.functions).values().copied().collect();
        for other in others.into_iter().filter_map(|handle| driver.functions.get(handle)) {
            if other.ctx.device == device && other.ctx.handle != function.ctx.handle {
                func::set(driver, &other, attribute, value)?;
            }
        }
        Ok(())
    }

    /// Sets the preferred split of cache and shared memory: a hint.
    fn cuKernelSetCacheConfig(kernel: CUkernel, config: i32, device: CUdevice) {
        let driver = driver()?;
        driver.device(device)?;
        driver.kernel(kernel)?;
        func::check_cache_config(config)
    }
}
