//! Whether libcuda and NVML say the same of the device: programs compare them.
#![allow(unsafe_code)] // Calls of C functions.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;

use crate::libraries::Library;
use crate::nvml::Nvml;
use crate::report::Report;

/// What libcuda says.
struct Cuda {
    version: i32,
    uuid: String,
    address: String,
    memory: u64,
    name: String,
}

type GetText = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> u32;

fn function(library: &Library, name: &CStr) -> Result<*mut c_void, String> {
    library
        .symbol(name)
        .ok_or_else(|| format!("libcuda.so.1 lacks {}", name.to_string_lossy()))
}

fn ok(name: &CStr, result: u32) -> Result<(), String> {
    if result == 0 {
        Ok(())
    } else {
        Err(format!("{} returns {result}", name.to_string_lossy()))
    }
}

fn text(library: &Library, name: &'static CStr) -> Result<String, String> {
    // SAFETY: the two functions that are asked for here have this signature (cuda.h).
    let f = unsafe { transmute::<*mut c_void, GetText>(function(library, name)?) };
    let mut place = [0u8; 256];
    // SAFETY: room for so many bytes.
    ok(name, unsafe { f(place.as_mut_ptr().cast(), 256, 0) })?;
    let end = place.iter().position(|b| *b == 0).unwrap_or(0);
    Ok(String::from_utf8_lossy(&place[..end]).into_owned())
}

fn cuda() -> Result<Cuda, String> {
    let library = Library::open("libcuda.so.1")?;
    let init = function(&library, c"cuInit")?;
    // SAFETY: cuda.h's signature.
    let init = unsafe { transmute::<*mut c_void, extern "C" fn(u32) -> u32>(init) };
    ok(c"cuInit", init(0))?;
    let get = function(&library, c"cuDriverGetVersion")?;
    // SAFETY: cuda.h's signature.
    let get = unsafe { transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int) -> u32>(get) };
    let mut version = 0;
    // SAFETY: a place for the number.
    ok(c"cuDriverGetVersion", unsafe { get(&mut version) })?;
    let get = function(&library, c"cuDeviceGetUuid_v2")?;
    type GetUuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> u32;
    // SAFETY: cuda.h's signature.
    let get = unsafe { transmute::<*mut c_void, GetUuid>(get) };
    let mut uuid = [0; 16];
    // SAFETY: a place for 16 bytes.
    ok(c"cuDeviceGetUuid_v2", unsafe { get(&mut uuid, 0) })?;
    let get = function(&library, c"cuDeviceTotalMem_v2")?;
    type GetMemory = unsafe extern "C" fn(*mut usize, c_int) -> u32;
    // SAFETY: cuda.h's signature.
    let get = unsafe { transmute::<*mut c_void, GetMemory>(get) };
    let mut memory = 0;
    // SAFETY: a place for the number.
    ok(c"cuDeviceTotalMem_v2", unsafe { get(&mut memory, 0) })?;
    Ok(Cuda {
        version,
        uuid: vgpu_protocol::nvml::uuid_text(&uuid),
        address: text(&library, c"cuDeviceGetPCIBusId")?,
        memory: memory as u64,
        name: text(&library, c"cuDeviceGetName")?,
    })
}

/// What differs, in words.
fn differences(cuda: &Cuda) -> Result<Vec<String>, String> {
    let failed = |error| format!("NVML: {error}");
    let nvml = Nvml::open().map_err(failed)?;
    let devices = nvml.devices().map_err(failed)?;
    let device = *devices.first().ok_or("NVML knows no device")?;
    let mut all = Vec::new();
    let mut compare = |what: &str, of_cuda: String, of_nvml: String| {
        if of_cuda != of_nvml {
            all.push(format!("{what}: libcuda says {of_cuda}, NVML {of_nvml}"));
        }
    };
    let version = nvml.cuda_version().map_err(failed)?;
    compare(
        "CUDA version",
        cuda.version.to_string(),
        version.to_string(),
    );
    let uuid = nvml.text(device, "nvmlDeviceGetUUID").map_err(failed)?;
    compare("UUID", cuda.uuid.clone(), uuid);
    let address = nvml.pci(device).map_err(failed)?.bus_id().to_lowercase();
    compare(
        "PCI place",
        format!("0000{}", cuda.address.to_lowercase()),
        address,
    );
    let name = nvml.text(device, "nvmlDeviceGetName").map_err(failed)?;
    compare("name", cuda.name.clone(), name);
    let memory = nvml
        .memory(device, "nvmlDeviceGetMemoryInfo")
        .map_err(failed)?;
    compare("memory", cuda.memory.to_string(), memory[0].to_string());
    Ok(all)
}

/// Compares them.
pub fn check(report: &mut Report) {
    let cuda = match cuda() {
        Ok(cuda) => cuda,
        Err(error) => return report.wrong("libcuda", error),
    };
    report.good(
        "libcuda",
        format_args!("{}, {} MiB, {}", cuda.name, cuda.memory >> 20, cuda.uuid),
    );
    match differences(&cuda) {
        Ok(all) if all.is_empty() => report.good("NVML", "says the same as libcuda"),
        Ok(all) => all.iter().for_each(|line| report.wrong("NVML", line)),
        Err(error) => report.wrong("NVML", error),
    }
}
