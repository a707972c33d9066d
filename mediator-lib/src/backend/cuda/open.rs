//! Finding the driver and the GPU, and why not.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::CUdevice_attribute_enum as Attr;
use vgpu_protocol::Status;
use vgpu_protocol::limits::{MAX_MAPPINGS, MAX_RESERVED_BYTES};
use vgpu_protocol::nvml::uuid_text;

use super::blas::HostBlas;
use super::blas_lt::HostLt;
use super::sys::object::Context;
use super::sys::{Device, Driver, LoadError};
use super::{CudaBackend, device};
use crate::budget::Budget;

/// The driver's library, as NVIDIA installs it.
pub const LIBRARY: &str = "libcuda.so.1";

/// Environment variable that names another library file in its place.
pub const LIBRARY_VARIABLE: &str = "VGPU_LIBCUDA";

/// The driver's NVML, as NVIDIA installs it.
pub const NVML_LIBRARY: &str = "libnvidia-ml.so.1";

/// Environment variable that names another file in its place.
pub const NVML_VARIABLE: &str = "VGPU_LIBNVML";

/// Oldest driver: 12.2, in the form of `cuDriverGetVersion`.
const OLDEST_DRIVER: i32 = 12_020;

/// `CU_COMPUTEMODE_PROHIBITED`.
const PROHIBITED: i32 = 2;

/// Why the host's GPU cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaUnavailable {
    /// There is no driver library.
    #[error(
        "cannot load the NVIDIA driver's library {library}: {reason}. Install the NVIDIA driver, or name the library with {LIBRARY_VARIABLE}=PATH"
    )]
    NoLibrary {
        /// Name or path.
        library: String,
        /// The dynamic linker's words.
        reason: String,
    },
    /// The library lacks a function that every driver has.
    #[error(
        "{library} lacks the function {symbol}: it is no NVIDIA driver of version 12.2 or newer"
    )]
    NoSymbol {
        /// Name or path.
        library: String,
        /// The function.
        symbol: &'static str,
    },
    /// The library is the one that this project gives to guests.
    #[error(
        "{library} is vgpu-stub's own library for guests, not the NVIDIA driver's: take its folder out of LD_LIBRARY_PATH, or name the driver's with {LIBRARY_VARIABLE}=PATH"
    )]
    OwnShim {
        /// Name or path.
        library: String,
    },
    /// `cuInit` failed.
    #[error("the NVIDIA driver does not start: cuInit returns {status}. {}", init_hint(*.status))]
    Init {
        /// What it returned.
        status: Status,
    },
    /// The driver is older than 12.2.
    #[error("the NVIDIA driver supports CUDA {}.{}, needed is 12.2 or newer: install a newer driver", .version / 1000, .version % 1000 / 10)]
    DriverTooOld {
        /// `cuDriverGetVersion`.
        version: i32,
    },
    /// No GPU.
    #[error(
        "the NVIDIA driver sees no GPU: check nvidia-smi, and CUDA_VISIBLE_DEVICES in QEMU's environment"
    )]
    NoDevice,
    /// `gpu` is neither an index nor a UUID.
    #[error(
        "gpu={asked} is neither an index (0, 1, …) nor a UUID (GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx); this host has {there}"
    )]
    NotAGpuName {
        /// The property's value.
        asked: String,
        /// The GPUs that exist.
        there: String,
    },
    /// `gpu` names a GPU that does not exist.
    #[error("gpu={asked}: no such GPU; this host has {there}")]
    NoSuchGpu {
        /// The property's value.
        asked: String,
        /// The GPUs that exist.
        there: String,
    },
    /// The GPU's compute mode forbids contexts.
    #[error(
        "{gpu} is in compute mode \"prohibited\": set another one with nvidia-smi -i {index} -c 0"
    )]
    Prohibited {
        /// The GPU.
        gpu: String,
        /// Its index.
        index: usize,
    },
    /// Kernels of the guest could read this process's memory.
    #[error(
        "{gpu} reaches all memory of this process (CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS is 1): a kernel of the guest could read and write QEMU's own memory. Load the driver's module nvidia_uvm with uvm_disable_hmm=1; where the hardware itself shares page tables (ATS), this GPU cannot be used"
    )]
    PageableAccess {
        /// The GPU.
        gpu: String,
    },
    /// A call on the GPU failed.
    #[error(
        "{gpu} cannot be used: {call} returns {status}. Check nvidia-smi and the kernel's log (Xid messages)"
    )]
    Unusable {
        /// The GPU.
        gpu: String,
        /// The call.
        call: &'static str,
        /// What it returned.
        status: Status,
    },
}

fn init_hint(status: Status) -> &'static str {
    match status {
        Status::ERROR_NO_DEVICE => {
            "It sees no GPU: check nvidia-smi, and CUDA_VISIBLE_DEVICES in QEMU's environment"
        }
        Status::ERROR_SYSTEM_DRIVER_MISMATCH => {
            "Library and kernel module are of different versions: reboot, or reload the kernel module"
        }
        _ => {
            "Check that nvidia-smi works, that nvidia_uvm is loaded (nvidia-modprobe -u), and that QEMU's user may open /dev/nvidia*"
        }
    }
}

/// See [`CudaBackend::open_library`].
pub fn open(
    library: &str,
    nvml_library: &str,
    blas: Option<&str>,
    gpu: Option<&str>,
) -> Result<CudaBackend, CudaUnavailable> {
    let driver = Driver::load(library).map_err(|error| {
        let library = library.to_owned();
        match error {
            LoadError::Library(reason) => CudaUnavailable::NoLibrary { library, reason },
            LoadError::Symbol(symbol) => CudaUnavailable::NoSymbol { library, symbol },
            LoadError::Shim => CudaUnavailable::OwnShim { library },
        }
    })?;
    let driver = Arc::new(driver);
    driver
        .init()
        .map_err(|status| CudaUnavailable::Init { status })?;
    let version = driver
        .version()
        .map_err(|status| CudaUnavailable::Init { status })?;
    if version < OLDEST_DRIVER {
        return Err(CudaUnavailable::DriverTooOld { version });
    }
    let devices = driver
        .devices()
        .map_err(|status| CudaUnavailable::Init { status })?;
    let index = choose(&driver, &devices, gpu)?;
    let Some(&device) = devices.get(index) else {
        return Err(CudaUnavailable::NoDevice);
    };
    let gpu = describe(&driver, device, index);
    let failed = |call| {
        let gpu = gpu.clone();
        move |status| CudaUnavailable::Unusable { gpu, call, status }
    };

    let attribute = |attribute: Attr| {
        driver
            .device_attribute(device, attribute as u32)
            .map_err(failed("cuDeviceGetAttribute"))
    };
    if attribute(Attr::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)? == PROHIBITED {
        return Err(CudaUnavailable::Prohibited { gpu, index });
    }
    if attribute(Attr::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS)? != 0 {
        return Err(CudaUnavailable::PageableAccess { gpu });
    }

    // A context of our own shows now, not at the guest's first call, that the GPU works.
    let probe = Context::create(&driver, device, 0).map_err(failed("cuCtxCreate"))?;
    let priorities = probe
        .priorities()
        .map_err(failed("cuCtxGetStreamPriorityRange"))?;
    probe.destroy().map_err(failed("cuCtxDestroy"))?;

    let info = device::info(&driver, device, priorities).map_err(failed("a query"))?;
    tracing::info!(gpu, driver_version = version, "the host's GPU is used");
    let named = blas.map(str::to_owned);
    let blas = HostBlas::new(named.clone());
    // What is missing is told now, and not to the first guest that asks.
    blas.get();
    let lt = HostLt::new(named);
    lt.get();
    Ok(CudaBackend {
        blas,
        lt,
        driver,
        device,
        driver_version: version,
        info,
        unended_sessions: Arc::new(AtomicUsize::new(0)),
        nvml: OnceLock::new(),
        nvml_library: nvml_library.to_owned(),
        reserved: Budget::new(MAX_RESERVED_BYTES),
        mappings: Budget::new(MAX_MAPPINGS),
    })
}

/// The index of the GPU that `gpu` names.
fn choose(
    driver: &Driver,
    devices: &[Device],
    gpu: Option<&str>,
) -> Result<usize, CudaUnavailable> {
    if devices.is_empty() {
        return Err(CudaUnavailable::NoDevice);
    }
    let Some(asked) = gpu else { return Ok(0) };
    let found = if asked.bytes().all(|b| b.is_ascii_digit()) && !asked.is_empty() {
        asked
            .parse::<usize>()
            .ok()
            .filter(|index| *index < devices.len())
    } else if let Some(uuid) = parse_uuid(asked) {
        devices
            .iter()
            .position(|d| driver.device_uuid(*d) == Ok(uuid))
    } else {
        return Err(CudaUnavailable::NotAGpuName {
            asked: asked.to_owned(),
            there: list(driver, devices),
        });
    };
    found.ok_or_else(|| CudaUnavailable::NoSuchGpu {
        asked: asked.to_owned(),
        there: list(driver, devices),
    })
}

/// The bytes of `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, or of `MIG-…` for a part of a GPU.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hex = text
        .strip_prefix("GPU-")
        .or_else(|| text.strip_prefix("MIG-"))?;
    let groups: Vec<&str> = hex.split('-').collect();
    if groups.iter().map(|g| g.len()).ne([8, 4, 4, 4, 12])
        || !hex.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
    {
        return None;
    }
    let digits: String = groups.concat();
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(uuid)
}

fn describe(driver: &Driver, device: Device, index: usize) -> String {
    let name = driver
        .device_name(device)
        .unwrap_or_else(|status| format!("(cuDeviceGetName: {status})"));
    let uuid = driver.device_uuid(device).map_or_else(
        |status| format!("(cuDeviceGetUuid: {status})"),
        |u| uuid_text(&u),
    );
    format!("GPU {index}: {name} ({uuid})")
}

fn list(driver: &Driver, devices: &[Device]) -> String {
    let all: Vec<String> = devices
        .iter()
        .enumerate()
        .map(|(i, d)| describe(driver, *d, i))
        .collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_as_it_is_printed() {
        let text = "GPU-00112233-4455-6677-8899-aabbccddeeff";
        let uuid = parse_uuid(text).expect("a UUID");
        assert_eq!(uuid[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(uuid_text(&uuid), text);
        assert_eq!(
            parse_uuid("GPU-00112233-4455-6677-8899-AABBCCDDEEFF"),
            Some(uuid)
        );
        for bad in [
            "",
            "GPU-",
            "00112233",
            "GPU-00112233-4455-6677-8899-aabbccddeef",
            "GPU-0011223344556677-8899-aabbccddeeff-00",
            "GPU-0011223g-4455-6677-8899-aabbccddeeff",
        ] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }
}
