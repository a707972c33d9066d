//! The `cuda` backend: the same calls on the host's NVIDIA driver, loaded at run time.
//!
//! | module | holds |
//! |---|---|
//! | [`open`](mod@open) | finding the driver and the GPU, and why not |
//! | [`device`] | what the device table says |
//! | [`session`] | the tables of a session |
//! | [`calls`] | the bodies of the call table's rows |
//! | [`mapped`] | physical memory and where it is mapped |
//! | [`ctx`], [`mem`], [`module`], [`launch`], [`stream`], [`event`] | what those bodies share, by noun |
//! | [`graph`], [`host_call`] | executable graphs, functions of the guest's program |
//! | [`image`] | checks of a module image before the driver parses it |
//! | [`ptx`] | parameter layouts read from PTX, for drivers that do not tell them |
//! | [`staging`] | copies through the channel's arena |
//! | [`sys`] | the loaded driver (the only unsafe code) |
//!
//! # What keeps sessions apart
//! Each session creates its own contexts, so each context has its own device address space. Every
//! handle that a guest names is looked up in the session's tables, every device address that a call
//! names in its context's allocations; a kernel's own accesses are checked by the GPU's MMU. A GPU
//! that reaches pageable host memory is refused: there the MMU would let kernels read QEMU.
//! New allocations are zeroed; bytes between an allocation's end and the end of the driver's block
//! (up to 2 MiB), and shared and local memory of kernels, are as the driver leaves them.
//!
//! # What a session cannot be kept from
//! These need one process per session, which this backend does not have:
//! * After ILLEGAL_ADDRESS, LAUNCH_FAILED and their like, "the process must be terminated and
//!   relaunched" (CUDA Driver API, `CUresult`). The failed context answers with its error until it
//!   is destroyed; whether other contexts of the process go on is not documented.
//! * A kernel that never ends cannot be stopped: `cuCtxDestroy` waits for it. Every wait of this
//!   backend ends with the session, and what is left is destroyed in a thread of its own, of which
//!   there may be [`MAX_UNENDED_SESSIONS`].
//! * The driver compiles PTX inside QEMU, for as long as it takes.
//! * What kernels `printf` goes to QEMU's standard output.

mod blas;
mod blas_lt;
mod calls;
mod ctx;
mod device;
mod event;
mod graph;
mod host_call;
pub(crate) mod image;
mod launch;
mod link;
mod mapped;
pub(crate) mod mem;
mod module;
mod open;
mod ptx;
mod routine;
mod session;
mod staging;
mod stream;
#[allow(unsafe_code)] // The driver is a C library.
mod sys;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use vgpu_protocol::Status;
use vgpu_protocol::calls::DeviceInfo;

use self::session::CudaSession;
use self::sys::nvml::Nvml;
use self::sys::{Device, Driver};
use crate::backend::{Backend, BackendSession, SessionContext};
use crate::budget::Budget;

pub use open::{CudaUnavailable, LIBRARY_VARIABLE, NVML_VARIABLE};

/// Sessions that may wait for a kernel that does not end, after their channels are gone, before no
/// new one is opened. Each holds a thread and the memory of its contexts: a guest that starts an
/// endless kernel again and again would collect them.
pub const MAX_UNENDED_SESSIONS: usize = 8;

/// See the module's documentation.
#[derive(Debug)]
pub struct CudaBackend {
    driver: Arc<Driver>,
    device: Device,
    driver_version: i32,
    /// As the guest sees it; its total is the GPU's, not the VM's share.
    info: DeviceInfo,
    unended_sessions: Arc<AtomicUsize>,
    /// The host's NVML; `None` where it cannot be used.
    nvml: OnceLock<Option<Nvml>>,
    /// Its file.
    nvml_library: String,
    blas: blas::HostBlas,
    lt: blas_lt::HostLt,
    /// Addresses that the VM's sessions may reserve, in bytes.
    reserved: Arc<Budget>,
    /// Mappings of physical memory, and reservations: counted, not in bytes.
    mappings: Arc<Budget>,
}

/// Whether the host has a driver's library that can be loaded. It is loaded and not started.
pub fn driver_is_here() -> bool {
    let library = std::env::var(LIBRARY_VARIABLE).unwrap_or_else(|_| open::LIBRARY.to_owned());
    Driver::load(&library).is_ok()
}

impl CudaBackend {
    /// The host's NVML, loaded when a guest first asks for what it knows.
    pub(crate) fn nvml(&self) -> Result<&Nvml, Status> {
        let load = || match Nvml::load(&self.nvml_library, &self.info.uuid) {
            Ok(nvml) => Some(nvml),
            Err(reason) => {
                let library = &self.nvml_library;
                tracing::warn!(
                    ?reason,
                    library,
                    "no NVML on this host: guests see no temperature, power and the like"
                );
                None
            }
        };
        let nvml = self.nvml.get_or_init(load).as_ref();
        nvml.ok_or(Status::ERROR_NOT_SUPPORTED)
    }

    /// Opens the host's driver and the GPU with this index or UUID, the first one where none is
    /// named. The environment variable [`LIBRARY_VARIABLE`] names another library file.
    pub fn open_driver(gpu: Option<&str>) -> Result<Arc<CudaBackend>, CudaUnavailable> {
        let library = std::env::var(LIBRARY_VARIABLE).unwrap_or_else(|_| open::LIBRARY.to_owned());
        CudaBackend::open_library(&library, gpu)
    }

    /// As [`open_driver`](CudaBackend::open_driver), with the library's file name or path.
    pub fn open_library(
        library: &str,
        gpu: Option<&str>,
    ) -> Result<Arc<CudaBackend>, CudaUnavailable> {
        let nvml = std::env::var(NVML_VARIABLE).unwrap_or_else(|_| open::NVML_LIBRARY.to_owned());
        CudaBackend::open_libraries(library, &nvml, gpu)
    }

    /// The same with NVML's file, too.
    pub fn open_libraries(
        library: &str,
        nvml: &str,
        gpu: Option<&str>,
    ) -> Result<Arc<CudaBackend>, CudaUnavailable> {
        open::open(library, nvml, None, gpu).map(Arc::new)
    }

    /// The same with the file of cuBLAS, and of cublasLt, too.
    pub fn open_with_blas(
        library: &str,
        nvml: &str,
        blas: &str,
        gpu: Option<&str>,
    ) -> Result<Arc<CudaBackend>, CudaUnavailable> {
        open::open(library, nvml, Some(blas), gpu).map(Arc::new)
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn driver_version(&self) -> i32 {
        self.driver_version
    }

    fn total_memory_bytes(&self) -> u64 {
        self.info.total_bytes
    }

    fn open(self: Arc<Self>, context: SessionContext) -> Result<Box<dyn BackendSession>, Status> {
        if self.unended_sessions.load(Ordering::Acquire) >= MAX_UNENDED_SESSIONS {
            tracing::error!(
                vm_id = context.vm_id,
                channel = context.channel,
                "{MAX_UNENDED_SESSIONS} ended sessions wait for kernels that do not end: no new session is opened meanwhile"
            );
            return Err(Status::ERROR_DEVICE_UNAVAILABLE);
        }
        Ok(Box::new(CudaSession::new(self, context)))
    }
}
