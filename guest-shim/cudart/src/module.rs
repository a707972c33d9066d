//! Fat binaries, functions and variables that nvcc's host code registers, and the kernels that they
//! become.
//!
//! Registration happens before `main` and touches no device. A fat binary becomes a library of the
//! driver (cuLibraryLoadData) when one of its functions or variables is first used: lazy loading,
//! as `CUDA_MODULE_LOADING=LAZY` (the default since CUDA 11.7 on Linux) promises. Libraries and
//! kernels belong to no context, so that they outlive cudaDeviceReset.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUkernel, CUlibrary};
use vgpu_protocol::Status;

use crate::abi::{Binary, Done, Host, In, Out, Text, exports, handle, key, local};
use crate::runtime::{Runtime, enter, epoch, is_ending, runtime};

/// `cudaErrorInvalidDeviceFunction`.
pub const INVALID_DEVICE_FUNCTION: Status = Status(98);
/// `cudaErrorInvalidSymbol`.
const INVALID_SYMBOL: Status = Status(13);

/// A fat binary of the program. Its address is the handle that registration gives out.
#[derive(Debug)]
pub struct FatBinary {
    /// The wrapper's address.
    image: usize,
    /// The driver's library, after how many forks it was loaded.
    library: Mutex<Option<(u64, usize)>>,
}

/// A function of the program.
#[derive(Debug)]
struct Function {
    binary: &'static FatBinary,
    name: CString,
    /// The driver's kernel, and after how many forks (plus one) it was looked up.
    kernel: AtomicUsize,
    found: AtomicU64,
}

impl Function {
    fn found(&self) -> Option<usize> {
        (self.found.load(Ordering::Acquire) == epoch() + 1)
            .then(|| self.kernel.load(Ordering::Relaxed))
    }

    /// The driver's kernel, looked up if it was not.
    fn kernel(&self, runtime: &Runtime) -> Done<CUkernel> {
        if let Some(kernel) = self.found() {
            return Ok(kernel as CUkernel);
        }
        let library = self.binary.library(runtime)?;
        let name = Text::to(&self.name);
        let kernel = handle(|k| runtime.driver.cuLibraryGetKernel(k, library, name));
        let kernel = kernel.map_err(|error| match error {
            Status::ERROR_NOT_FOUND => INVALID_DEVICE_FUNCTION,
            other => other,
        })?;
        // Threads that are here at once store the same.
        self.kernel.store(kernel as usize, Ordering::Relaxed);
        self.found.store(epoch() + 1, Ordering::Release);
        Ok(kernel)
    }
}

/// A variable of the program.
#[derive(Debug)]
struct Variable {
    binary: &'static FatBinary,
    name: Arc<CStr>,
    /// For a managed variable: its address, once it is known. It is put where the host's variable
    /// is, and the program passes it for the symbol.
    managed: Option<u64>,
}

#[derive(Default)]
struct Registered {
    /// By the address of the host's function.
    functions: HashMap<usize, &'static Function>,
    /// The same by their own addresses, which launches are given.
    records: HashMap<usize, &'static Function>,
    /// By the address of the host's variable.
    variables: HashMap<usize, Variable>,
    /// Kernels that were given out, which programs may pass for functions.
    kernels: HashSet<usize>,
    /// The host's functions, by the driver's functions that they became.
    hosts: HashMap<usize, usize>,
}

static REGISTERED: RwLock<Option<Registered>> = RwLock::new(None);

fn read() -> RwLockReadGuard<'static, Option<Registered>> {
    REGISTERED.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Option<Registered>> {
    REGISTERED.write().unwrap_or_else(PoisonError::into_inner)
}

fn change<T>(f: impl FnOnce(&mut Registered) -> T) -> T {
    f(write().get_or_insert_default())
}

impl FatBinary {
    fn lock(&self) -> MutexGuard<'_, Option<(u64, usize)>> {
        self.library.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver's library, loaded if it is not.
    fn library(&self, runtime: &Runtime) -> Done<CUlibrary> {
        let epoch = epoch();
        let mut library = self.lock();
        if let Some((_, library)) = library.filter(|(of, _)| *of == epoch) {
            return Ok(library as CUlibrary);
        }
        // The image is a part of the program, which stays: no copy is needed.
        let loaded = handle(|l| {
            runtime.driver.cuLibraryLoadData(
                l,
                Host(self.image as *mut c_void),
                In::null(),
                In::null(),
                0,
                In::to(&[BINARY_IS_PRESERVED]),
                In::to(&[YES]),
                1,
            )
        })?;
        *library = Some((epoch, loaded as usize));
        Ok(loaded)
    }
}

/// `CU_LIBRARY_BINARY_IS_PRESERVED`, and the value of an option that is set.
const BINARY_IS_PRESERVED: i32 = 1;
const YES: *mut c_void = std::ptr::dangling_mut();

/// Remembers a kernel that the program gets to see.
pub fn remember(kernel: CUkernel) {
    change(|all| all.kernels.insert(kernel as usize));
}

/// Forgets kernels of a library that is unloaded.
pub fn forget(kernels: &[CUkernel]) {
    change(|all| {
        for kernel in kernels {
            all.kernels.remove(&(*kernel as usize));
        }
    });
}

fn find(function: *const c_void) -> Option<&'static Function> {
    read().as_ref()?.functions.get(&key(function)).copied()
}

fn is_kernel(address: usize) -> bool {
    let all = read();
    all.as_ref()
        .is_some_and(|all| all.kernels.contains(&address))
}

/// The kernel that a function of the program stands for. A kernel may be given, too.
pub fn kernel(runtime: &Runtime, function: *const c_void) -> Done<CUkernel> {
    match find(function) {
        Some(function) => function.kernel(runtime),
        None if is_kernel(key(function)) => Ok(function.cast_mut().cast()),
        None => Err(INVALID_DEVICE_FUNCTION),
    }
}

/// What nvcc's code keeps for a function for ever: its record, which outlives fork, unlike a kernel
/// of the driver. That the driver cannot give its kernel, now or ever, is an error of each launch.
pub fn record(function: *const c_void) -> Done<CUkernel> {
    let found = find(function).ok_or(INVALID_DEVICE_FUNCTION)?;
    Ok(std::ptr::from_ref(found).cast_mut().cast())
}

/// The kernel of a record, or of a kernel.
pub fn recorded(runtime: &Runtime, record: CUkernel) -> Done<CUkernel> {
    let known = read()
        .as_ref()
        .and_then(|all| all.records.get(&(record as usize)).copied());
    match known {
        Some(function) => function.kernel(runtime),
        None if is_kernel(record as usize) => Ok(record),
        None => Err(INVALID_DEVICE_FUNCTION),
    }
}

/// The driver's function, in the current context, of a function of the program.
pub fn function(runtime: &Runtime, of: *const c_void) -> Done<CUfunction> {
    let kernel = kernel(runtime, of)?;
    let function = handle(|f| runtime.driver.cuKernelGetFunction(f, kernel))?;
    change(|all| all.hosts.insert(function as usize, key(of)));
    Ok(function)
}

/// The host's function that [`function`] gave a function of the driver for; the driver's where
/// there is none.
pub fn host_function(function: usize) -> usize {
    let all = read();
    let known = all.as_ref().and_then(|all| all.hosts.get(&function));
    known.copied().unwrap_or(function)
}

/// Address and size of a variable of the program in the current context.
pub fn symbol(runtime: &Runtime, symbol: *const c_void) -> Done<(CUdeviceptr, usize)> {
    let (binary, name, managed) = {
        let all = read();
        let all = all.as_ref().ok_or(INVALID_SYMBOL)?;
        let placed = |v: &&Variable| v.managed == Some(symbol as u64) && !symbol.is_null();
        let found = all.variables.get(&key(symbol));
        let found = found.or_else(|| all.variables.values().find(placed));
        let variable = found.ok_or(INVALID_SYMBOL)?;
        let name = Arc::clone(&variable.name);
        (variable.binary, name, variable.managed.is_some())
    };
    let library = binary.library(runtime)?;
    let name = Text::to(&name);
    let mut bytes = 0;
    let at = local(|at| {
        bytes = local(|bytes| {
            if managed {
                runtime.driver.cuLibraryGetManaged(at, bytes, library, name)
            } else {
                runtime.driver.cuLibraryGetGlobal(at, bytes, library, name)
            }
        })?;
        Ok(())
    });
    match at {
        Err(Status::ERROR_NOT_FOUND) => Err(INVALID_SYMBOL),
        other => Ok((other?, bytes)),
    }
}

/// Gives the program the addresses of managed variables, in the current context: of one fat binary,
/// or of all.
fn place_managed(runtime: &Runtime, of: Option<&FatBinary>) -> Done {
    let wanted: Vec<_> = read()
        .iter()
        .flat_map(|all| &all.variables)
        .filter(|(_, v)| v.managed.is_some() && of.is_none_or(|b| std::ptr::eq(b, v.binary)))
        .map(|(host, v)| (*host, v.binary, Arc::clone(&v.name)))
        .collect();
    for (host, binary, name) in wanted {
        let library = binary.library(runtime)?;
        let found = local(|at| {
            let name = Text::to(&name);
            runtime
                .driver
                .cuLibraryGetManaged(at, Out::null(), library, name)
        });
        let at: CUdeviceptr = found.inspect_err(|error| {
            if *error == Status::ERROR_NOT_SUPPORTED {
                vgpu_transport::log::line(format_args!(
                    "the __managed__ variable {} is not supported with the host's GPU: take \
                     memory of cudaMallocManaged instead",
                    name.to_string_lossy()
                ));
            }
        })?;
        change(|all| {
            if let Some(variable) = all.variables.get_mut(&host) {
                variable.managed = Some(at);
            }
        });
        Host(host as *mut c_void).out::<u64>().set(at)?;
    }
    Ok(())
}

/// Gives the program the addresses of its managed variables in a primary context that was just
/// made: their modules are loaded at once, whatever the loading mode. What is not possible is told
/// to those who use them.
pub fn place_all_managed(runtime: &Runtime) {
    let _ = place_managed(runtime, None);
}

fn unregister(binary: &'static FatBinary) {
    change(|all| {
        let kernels: Vec<usize> = all
            .functions
            .values()
            .filter(|f| std::ptr::eq(f.binary, binary))
            .filter_map(|f| f.found())
            .collect();
        kernels.iter().for_each(|kernel| {
            all.kernels.remove(kernel);
        });
        all.records.retain(|_, f| !std::ptr::eq(f.binary, binary));
        let Registered {
            functions, hosts, ..
        } = all;
        hosts.retain(|_, host| {
            !functions
                .get(host)
                .is_some_and(|f| std::ptr::eq(f.binary, binary))
        });
        all.functions.retain(|_, f| !std::ptr::eq(f.binary, binary));
        all.variables.retain(|_, v| !std::ptr::eq(v.binary, binary));
    });
    // When the process ends the driver has its own end, and what is loaded ends with it.
    if is_ending() {
        return;
    }
    if let Some((of, library)) = binary.lock().take()
        && of == epoch()
        && let Ok(runtime) = runtime()
    {
        // The program cannot be told: this function returns nothing.
        let _ = runtime.driver.cuLibraryUnload(library as CUlibrary);
    }
}

fn owned(name: Text) -> Option<CString> {
    CString::new(name.bytes().ok()?).ok()
}

fn register_function(binary: &'static FatBinary, host: *const c_void, name: CString) {
    let function: &'static Function = Box::leak(Box::new(Function {
        binary,
        name,
        kernel: AtomicUsize::new(0),
        found: AtomicU64::new(0),
    }));
    change(|all| {
        all.records
            .insert(std::ptr::from_ref(function).addr(), function);
        all.functions.insert(key(host), function)
    });
}

fn register_variable(binary: Binary, host: *const c_void, name: Text, managed: bool) {
    if let (Some(binary), Some(name)) = (binary.get(), owned(name)) {
        let variable = Variable {
            binary,
            name: name.into(),
            managed: managed.then_some(0),
        };
        change(|all| all.variables.insert(key(host), variable));
    }
}

exports! {
    /// Registers a fat binary and gives its handle.
    fn __cudaRegisterFatBinary(image: *mut c_void) -> *const FatBinary = std::ptr::null(), {
        Box::leak(Box::new(FatBinary { image: image as usize, library: Mutex::new(None) }))
    }

    /// Says that all of a fat binary is registered. Nothing depends on it here.
    fn __cudaRegisterFatBinaryEnd(_binary: Binary) -> () = (), {}

    /// Forgets a fat binary.
    fn __cudaUnregisterFatBinary(binary: Binary) -> () = (), {
        if let Some(binary) = binary.get() {
            unregister(binary);
        }
    }

    /// Registers a function.
    fn __cudaRegisterFunction(
        binary: Binary, host: *const c_void, _device: *const c_char, name: Text, _threads: i32,
        _tid: *const c_void, _bid: *const c_void, _block: *const c_void, _grid: *const c_void,
        _warp: *const c_void,
    ) -> () = (), {
        if let (Some(binary), Some(name)) = (binary.get(), owned(name)) {
            register_function(binary, host, name);
        }
    }

    /// Registers a variable.
    fn __cudaRegisterVar(
        binary: Binary, host: *const c_void, _device: *const c_char, name: Text, _ext: i32,
        _bytes: usize, _constant: i32, _global: i32,
    ) -> () = (), {
        register_variable(binary, host, name, false);
    }

    /// Registers a managed variable: `host` is the place of the pointer to it.
    fn __cudaRegisterManagedVar(
        binary: Binary, host: *const c_void, _device: *const c_char, name: Text, _ext: i32,
        _bytes: usize, _constant: i32, _global: i32,
    ) -> () = (), {
        register_variable(binary, host, name, true);
    }

    /// Makes a fat binary's managed variables ready; 0 if they are not.
    fn __cudaInitModule(binary: Binary) -> c_char = 0, {
        let Some(binary) = binary.get() else { return 0 };
        match enter().and_then(|runtime| place_managed(runtime, Some(binary))) {
            Ok(()) => 1,
            Err(error) => {
                crate::abi::finish(Err(error));
                0
            }
        }
    }

    /// Registers a texture reference, which CUDA 12 no longer has: binding one is not supported.
    fn __cudaRegisterTexture(
        _binary: Binary, _host: *const c_void, _device: *const c_void, _name: Text, _dim: i32,
        _norm: i32, _ext: i32,
    ) -> () = (), {}

    /// Registers a surface reference, which CUDA 12 no longer has: binding one is not supported.
    fn __cudaRegisterSurface(
        _binary: Binary, _host: *const c_void, _device: *const c_void, _name: Text, _dim: i32,
        _ext: i32,
    ) -> () = (), {}
}
