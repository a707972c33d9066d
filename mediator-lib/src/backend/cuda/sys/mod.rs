//! The host's driver, loaded at run time, behind safe types.
//!
//! This folder is the one place of the backend with unsafe code. Types come from `cudarc`'s
//! bindings of `cuda.h`; each signature below is compared with theirs when it is compiled.
//!
//! Why not call `cudarc`'s functions: its loader panics where a library or a symbol is missing,
//! and a panic inside QEMU must not depend on what the host has installed. It also returns
//! `CUresult` as a Rust `enum`, in which an error code of a driver newer than the bindings would be
//! undefined behaviour. So the library is loaded here, and results and enumerations are numbers.
//!
//! | module | holds |
//! |---|---|
//! | this one | the loaded library and its functions |
//! | [`blas`] | the host's cuBLAS |
//! | [`object`] | contexts, streams, events |
//! | [`code`] | modules, kernels, launches |
//! | [`nvml`] | temperature, power and the like, from the driver's other library |
//! | [`order`] | functions and words of memory in stream order, graphs |
//! | [`link`] | the linker |
//! | [`memory`] | allocations, copies, sets, pinned host memory |
//! | [`virtual_memory`] | reserved addresses, physical memory, mappings |
//!
//! How they stay safe:
//! * a driver's handle is never seen outside of this folder and never comes from a guest;
//! * every object keeps its context; every use first holds the context alive (`Context::enter`),
//!   and once a context is destroyed nothing that belonged to it reaches the driver again;
//! * a device address reaches the driver only as a [`DeviceRange`](super::mem::DeviceRange), which
//!   only a check against the context's allocations makes. That matters more than it seems: with
//!   unified addressing `cuMemcpy*` takes a host address where a device address is expected.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};

use cudarc::driver::sys;
use vgpu_protocol::Status;

pub mod blas;
pub mod code;
pub mod link;
pub mod memory;
pub mod nvml;
pub mod object;
pub mod order;
pub mod virtual_memory;

/// Why the library cannot be used.
#[derive(Debug)]
pub enum LoadError {
    /// The dynamic linker's words.
    Library(String),
    /// It lacks a function without which nothing works.
    Symbol(&'static str),
    /// It is this project's own library for guests.
    Shim,
}

/// Exported by this project's guest library: a host that finds it in place of NVIDIA's would call
/// itself.
const SHIM_MARK: &CStr = c"vgpu_stub_shim";

macro_rules! real {
    ($ty:ty) => {
        $ty
    };
    ($ty:ty, $real:ty) => {
        $real
    };
}

/// One line per function: the ABI, and in brackets the enumeration that a number stands for.
macro_rules! functions {
    (
        checked { $($name:ident($($arg:ident: $ty:ty $([$real:ty])?),* $(,)?);)* }
        older { $($old:ident($($oarg:ident: $oty:ty),* $(,)?);)* }
        required { $($required:ident)* }
    ) => {
        /// The library's functions; `None` for one that it does not have.
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        struct Functions {
            $($name: Option<unsafe extern "C" fn($($ty),*) -> c_uint>,)*
            $($old: Option<unsafe extern "C" fn($($oty),*) -> c_uint>,)*
        }

        // The signatures are those of cuda.h: each line fails to compile where they differ, up to
        // the enumerations, whose sizes are compared.
        $(
            const _: unsafe fn($(real!($ty $(, $real)?)),*) -> sys::CUresult = sys::$name;
            const _: () = {
                $(assert!(size_of::<$ty>() == size_of::<real!($ty $(, $real)?)>());)*
            };
        )*
        const _: () = assert!(size_of::<sys::CUresult>() == size_of::<c_uint>());

        impl Functions {
            fn load(library: *mut c_void) -> Result<Functions, LoadError> {
                let functions = Functions {
                    $($name: {
                        let at = symbol(library, concat!(stringify!($name), "\0"));
                        // SAFETY: a function of this name has this signature (cuda.h, compared
                        // above); a null pointer becomes `None`.
                        unsafe { std::mem::transmute::<*mut c_void, Option<unsafe extern "C" fn($($ty),*) -> c_uint>>(at) }
                    },)*
                    $($old: {
                        let at = symbol(library, concat!(stringify!($old), "\0"));
                        // SAFETY: as above; the signature is that of cuda.h before version 13.
                        unsafe { std::mem::transmute::<*mut c_void, Option<unsafe extern "C" fn($($oty),*) -> c_uint>>(at) }
                    },)*
                };
                $(if functions.$required.is_none() {
                    return Err(LoadError::Symbol(stringify!($required)));
                })*
                Ok(functions)
            }
        }
    };
}

functions! {
    checked {
        cuInit(flags: c_uint);
        cuDriverGetVersion(version: *mut c_int);
        cuDeviceGetCount(count: *mut c_int);
        cuDeviceGet(device: *mut sys::CUdevice, ordinal: c_int);
        cuDeviceGetName(name: *mut c_char, bytes: c_int, device: sys::CUdevice);
        cuDeviceGetUuid_v2(uuid: *mut sys::CUuuid, device: sys::CUdevice);
        cuDeviceTotalMem_v2(bytes: *mut usize, device: sys::CUdevice);
        cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint [sys::CUdevice_attribute], device: sys::CUdevice);

        cuCtxDestroy_v2(ctx: sys::CUcontext);
        cuCtxSetCurrent(ctx: sys::CUcontext);
        cuCtxPopCurrent_v2(ctx: *mut sys::CUcontext);
        cuCtxSynchronize();
        cuCtxGetLimit(value: *mut usize, limit: c_uint [sys::CUlimit]);
        cuCtxSetLimit(limit: c_uint [sys::CUlimit], value: usize);
        cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int);

        cuModuleLoadDataEx(module: *mut sys::CUmodule, image: *const c_void, count: c_uint,
            options: *mut c_uint [*mut sys::CUjit_option], values: *mut *mut c_void);
        cuLinkCreate_v2(count: c_uint, options: *mut c_uint [*mut sys::CUjit_option], values: *mut *mut c_void,
            link: *mut sys::CUlinkState);
        cuLinkAddData_v2(link: sys::CUlinkState, kind: c_uint [sys::CUjitInputType], data: *mut c_void, bytes: usize,
            name: *const c_char, count: c_uint, options: *mut c_uint [*mut sys::CUjit_option], values: *mut *mut c_void);
        cuLinkComplete(link: sys::CUlinkState, image: *mut *mut c_void, bytes: *mut usize);
        cuLinkDestroy(link: sys::CUlinkState);
        cuModuleUnload(module: sys::CUmodule);
        cuModuleGetFunction(function: *mut sys::CUfunction, module: sys::CUmodule, name: *const c_char);
        cuModuleGetFunctionCount(count: *mut c_uint, module: sys::CUmodule);
        cuModuleEnumerateFunctions(functions: *mut sys::CUfunction, count: c_uint, module: sys::CUmodule);
        cuFuncGetName(name: *mut *const c_char, function: sys::CUfunction);
        cuModuleGetGlobal_v2(address: *mut sys::CUdeviceptr, bytes: *mut usize, module: sys::CUmodule, name: *const c_char);
        cuPointerGetAttribute(value: *mut c_void, attribute: c_uint [sys::CUpointer_attribute], at: sys::CUdeviceptr);
        cuFuncGetAttribute(value: *mut c_int, attribute: c_uint [sys::CUfunction_attribute], function: sys::CUfunction);
        cuFuncSetAttribute(function: sys::CUfunction, attribute: c_uint [sys::CUfunction_attribute], value: c_int);
        cuFuncGetParamInfo(function: sys::CUfunction, index: usize, offset: *mut usize, bytes: *mut usize);
        cuLaunchKernel(function: sys::CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
            block_x: c_uint, block_y: c_uint, block_z: c_uint, shared_bytes: c_uint, stream: sys::CUstream,
            params: *mut *mut c_void, extra: *mut *mut c_void);

        cuLaunchKernelEx(config: *const sys::CUlaunchConfig, function: sys::CUfunction,
            params: *mut *mut c_void, extra: *mut *mut c_void);

        cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
        cuMemAlloc_v2(address: *mut sys::CUdeviceptr, bytes: usize);
        cuMemAllocPitch_v2(address: *mut sys::CUdeviceptr, pitch: *mut usize, width: usize, height: usize, element: c_uint);
        cuMemFree_v2(address: sys::CUdeviceptr);
        cuMemcpyHtoDAsync_v2(to: sys::CUdeviceptr, from: *const c_void, bytes: usize, stream: sys::CUstream);
        cuMemcpyDtoHAsync_v2(to: *mut c_void, from: sys::CUdeviceptr, bytes: usize, stream: sys::CUstream);
        cuMemcpyDtoDAsync_v2(to: sys::CUdeviceptr, from: sys::CUdeviceptr, bytes: usize, stream: sys::CUstream);
        cuMemsetD8Async(to: sys::CUdeviceptr, value: u8, count: usize, stream: sys::CUstream);
        cuMemsetD16Async(to: sys::CUdeviceptr, value: u16, count: usize, stream: sys::CUstream);
        cuMemsetD32Async(to: sys::CUdeviceptr, value: u32, count: usize, stream: sys::CUstream);
        cuMemsetD2D8Async(to: sys::CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize, stream: sys::CUstream);
        cuMemsetD2D16Async(to: sys::CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize, stream: sys::CUstream);
        cuMemsetD2D32Async(to: sys::CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize, stream: sys::CUstream);
        cuMemHostRegister_v2(base: *mut c_void, bytes: usize, flags: c_uint);
        cuMemHostUnregister(base: *mut c_void);
        cuMemHostGetDevicePointer_v2(address: *mut sys::CUdeviceptr, host: *mut c_void, flags: c_uint);

        cuMemAddressReserve(address: *mut sys::CUdeviceptr, bytes: usize, align: usize, hint: sys::CUdeviceptr, flags: c_ulonglong);
        cuMemAddressFree(address: sys::CUdeviceptr, bytes: usize);
        cuMemCreate(handle: *mut sys::CUmemGenericAllocationHandle, bytes: usize,
            properties: *const sys::CUmemAllocationProp, flags: c_ulonglong);
        cuMemRelease(handle: sys::CUmemGenericAllocationHandle);
        cuMemMap(address: sys::CUdeviceptr, bytes: usize, offset: usize,
            handle: sys::CUmemGenericAllocationHandle, flags: c_ulonglong);
        cuMemUnmap(address: sys::CUdeviceptr, bytes: usize);
        cuMemSetAccess(address: sys::CUdeviceptr, bytes: usize, access: *const sys::CUmemAccessDesc, count: usize);
        cuMemGetAllocationGranularity(bytes: *mut usize, properties: *const sys::CUmemAllocationProp,
            option: c_uint [sys::CUmemAllocationGranularity_flags]);

        cuStreamCreateWithPriority(stream: *mut sys::CUstream, flags: c_uint, priority: c_int);
        cuStreamDestroy_v2(stream: sys::CUstream);
        cuStreamQuery(stream: sys::CUstream);
        cuStreamSynchronize(stream: sys::CUstream);
        cuStreamWaitEvent(stream: sys::CUstream, event: sys::CUevent, flags: c_uint);

        cuLaunchHostFunc(stream: sys::CUstream, function: sys::CUhostFn, data: *mut c_void);
        cuStreamBatchMemOp_v2(stream: sys::CUstream, count: c_uint, operations: *mut sys::CUstreamBatchMemOpParams, flags: c_uint);
        cuStreamBeginCapture_v2(stream: sys::CUstream, mode: c_uint [sys::CUstreamCaptureMode]);
        cuStreamEndCapture(stream: sys::CUstream, graph: *mut sys::CUgraph);
        cuStreamGetCaptureInfo_v3(stream: sys::CUstream, status: *mut c_uint [*mut sys::CUstreamCaptureStatus], id: *mut u64 [*mut sys::cuuint64_t],
            graph: *mut sys::CUgraph, nodes: *mut *const sys::CUgraphNode, edges: *mut *const sys::CUgraphEdgeData, count: *mut usize);
        cuStreamUpdateCaptureDependencies_v2(stream: sys::CUstream, nodes: *mut sys::CUgraphNode,
            edges: *const sys::CUgraphEdgeData, count: usize, flags: c_uint);
        cuGraphAddEmptyNode(node: *mut sys::CUgraphNode, graph: sys::CUgraph, after: *const sys::CUgraphNode, count: usize);
        cuGraphDestroy(graph: sys::CUgraph);
        cuGraphInstantiateWithFlags(exec: *mut sys::CUgraphExec, graph: sys::CUgraph, flags: u64 [::core::ffi::c_ulonglong]);
        cuGraphExecUpdate_v2(exec: sys::CUgraphExec, graph: sys::CUgraph, info: *mut sys::CUgraphExecUpdateResultInfo);
        cuGraphLaunch(exec: sys::CUgraphExec, stream: sys::CUstream);
        cuGraphUpload(exec: sys::CUgraphExec, stream: sys::CUstream);
        cuGraphExecDestroy(exec: sys::CUgraphExec);

        cuEventCreate(event: *mut sys::CUevent, flags: c_uint);
        cuEventDestroy_v2(event: sys::CUevent);
        cuEventRecord(event: sys::CUevent, stream: sys::CUstream);
        cuEventRecordWithFlags(event: sys::CUevent, stream: sys::CUstream, flags: c_uint);
        cuEventQuery(event: sys::CUevent);
        cuEventElapsedTime_v2(milliseconds: *mut f32, start: sys::CUevent, end: sys::CUevent);
    }
    // Not in the header of version 13, which names newer ones by the same macro; every driver of
    // version 12 and 13 exports them.
    older {
        cuCtxCreate_v2(ctx: *mut sys::CUcontext, flags: c_uint, device: sys::CUdevice);
        cuEventElapsedTime(milliseconds: *mut f32, start: sys::CUevent, end: sys::CUevent);
    }
    // Without these there is no device and no session; any other one that is missing makes the
    // rows that need it NOT_SUPPORTED.
    required {
        cuInit cuDriverGetVersion cuDeviceGetCount cuDeviceGet cuDeviceGetName cuDeviceGetUuid_v2
        cuDeviceTotalMem_v2 cuDeviceGetAttribute cuCtxCreate_v2 cuCtxDestroy_v2 cuCtxSetCurrent
        cuCtxPopCurrent_v2 cuStreamCreateWithPriority cuStreamDestroy_v2 cuStreamQuery
        cuEventCreate cuEventDestroy_v2 cuEventRecord cuEventQuery
    }
}

/// Loads a library.
fn open_library(library: &str) -> Result<*mut c_void, LoadError> {
    let name =
        CString::new(library).map_err(|_| LoadError::Library("its name holds a NUL".to_owned()))?;
    // SAFETY: a NUL-terminated name. Loading runs the library's initialisers: whoever sets the
    // host's library path or VGPU_LIBCUDA decides what runs in QEMU, as for any library.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        // SAFETY: takes no argument.
        let text = unsafe { libc::dlerror() };
        let reason = if text.is_null() {
            "no reason given".to_owned()
        } else {
            // SAFETY: the dynamic linker's text, valid until the next call of its functions in
            // this thread.
            unsafe { CStr::from_ptr(text) }
                .to_string_lossy()
                .into_owned()
        };
        return Err(LoadError::Library(reason));
    }
    Ok(handle)
}

fn symbol(library: *mut c_void, name_with_nul: &str) -> *mut c_void {
    // SAFETY:
    // - `library` came from `dlopen` and is never closed;
    // - the name ends with a NUL: every caller appends one.
    unsafe { libc::dlsym(library, name_with_nul.as_ptr().cast()) }
}

fn check(result: c_uint) -> Result<(), Status> {
    Status(result).ok()
}

/// The function, or what a row answers where the driver lacks it.
fn need<F>(function: Option<F>) -> Result<F, Status> {
    function.ok_or(Status::ERROR_NOT_SUPPORTED)
}

/// The loaded library. It is never unloaded: the driver starts threads of its own.
pub struct Driver {
    functions: Functions,
}

/// A device of the driver, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(sys::CUdevice);

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    /// Loads the library.
    pub fn load(library: &str) -> Result<Driver, LoadError> {
        let handle = open_library(library)?;
        // SAFETY: `handle` is a loaded library, the name ends with a NUL.
        if !unsafe { libc::dlsym(handle, SHIM_MARK.as_ptr()) }.is_null() {
            return Err(LoadError::Shim);
        }
        Ok(Driver {
            functions: Functions::load(handle)?,
        })
    }

    /// `cuInit`.
    pub fn init(&self) -> Result<(), Status> {
        let f = need(self.functions.cuInit)?;
        // SAFETY: takes a number.
        check(unsafe { f(0) })
    }

    /// `cuDriverGetVersion`.
    pub fn version(&self) -> Result<i32, Status> {
        let f = need(self.functions.cuDriverGetVersion)?;
        let mut version = 0;
        // SAFETY: writes one number.
        check(unsafe { f(&mut version) })?;
        Ok(version)
    }

    /// `cuDeviceGet` for every device.
    pub fn devices(&self) -> Result<Vec<Device>, Status> {
        let (count_of, get) = (
            need(self.functions.cuDeviceGetCount)?,
            need(self.functions.cuDeviceGet)?,
        );
        let mut count = 0;
        // SAFETY: writes one number.
        check(unsafe { count_of(&mut count) })?;
        (0..count)
            .map(|ordinal| {
                let mut device = 0;
                // SAFETY: writes one number.
                check(unsafe { get(&mut device, ordinal) })?;
                Ok(Device(device))
            })
            .collect()
    }

    /// `cuDeviceGetName`.
    pub fn device_name(&self, device: Device) -> Result<String, Status> {
        let f = need(self.functions.cuDeviceGetName)?;
        let mut name = [0u8; 256];
        // SAFETY: writes at most the number of bytes given, here one less than there are.
        check(unsafe { f(name.as_mut_ptr().cast(), name.len() as c_int - 1, device.0) })?;
        Ok(text_until_nul(&name))
    }

    /// `cuDeviceGetUuid`.
    pub fn device_uuid(&self, device: Device) -> Result<[u8; 16], Status> {
        let f = need(self.functions.cuDeviceGetUuid_v2)?;
        let mut uuid = sys::CUuuid { bytes: [0; 16] };
        // SAFETY: writes one UUID.
        check(unsafe { f(&mut uuid, device.0) })?;
        Ok(uuid.bytes.map(|b| b as u8))
    }

    /// `cuDeviceTotalMem`, in bytes.
    pub fn device_total_memory(&self, device: Device) -> Result<u64, Status> {
        let f = need(self.functions.cuDeviceTotalMem_v2)?;
        let mut bytes = 0;
        // SAFETY: writes one number.
        check(unsafe { f(&mut bytes, device.0) })?;
        Ok(bytes as u64)
    }

    /// `cuDeviceGetAttribute`. The driver answers `ERROR_INVALID_VALUE` to a number that it does
    /// not know.
    pub fn device_attribute(&self, device: Device, attribute: u32) -> Result<i32, Status> {
        let f = need(self.functions.cuDeviceGetAttribute)?;
        let mut value = 0;
        // SAFETY: writes one number.
        check(unsafe { f(&mut value, attribute, device.0) })?;
        Ok(value)
    }
}

/// The text before the first NUL, with what is not UTF-8 replaced.
pub fn text_until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
