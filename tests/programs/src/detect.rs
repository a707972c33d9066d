//! How programs that do not link libcuda look for a GPU: Ollama, and ggml's CUDA backend that it starts.
//!
//! Each way makes the calls of that program, by dlopen and dlsym, in its order, and ends with what it would decide.
//! Ollama as of 2025 looks through libcuda and rejects it for one missing symbol; later versions ask libcuda for
//! less, and NVML for the driver's version.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::mem::transmute_copy;

use anyhow::{Context as _, Result, bail, ensure};

/// `CU_DEVICE_ATTRIBUTE_INTEGRATED`, `_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const INTEGRATED: c_int = 18;
const MAJOR: c_int = 75;
const MINOR: c_int = 76;

/// A library of the machine.
pub struct Library {
    name: String,
    handle: *mut c_void,
}

impl Library {
    /// As programs load it.
    pub fn open(name: &str) -> Result<Self> {
        let text = CString::new(name)?;
        // SAFETY: a NUL-terminated name.
        let handle = unsafe { libc::dlopen(text.as_ptr(), libc::RTLD_LAZY) };
        ensure!(!handle.is_null(), "{name} is not found");
        Ok(Self {
            name: name.to_owned(),
            handle,
        })
    }

    /// A function; `F` is its type.
    fn get<F: Copy>(&self, name: &CStr) -> Result<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: a loaded library and a NUL-terminated name.
        let at = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        ensure!(
            !at.is_null(),
            "{} lacks {}",
            self.name,
            name.to_string_lossy()
        );
        // SAFETY: the callers below name each function's type as the headers have it; both are pointers.
        Ok(unsafe { transmute_copy(&at) })
    }
}

/// What a program has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first of its libraries that the driver can run: `cuda_v13` or `cuda_v12`.
    pub library: String,
    /// The device's name.
    pub name: String,
    /// Compute capability.
    pub compute: (c_int, c_int),
    /// Its memory.
    pub total_bytes: u64,
    /// What is free of it, where the program asks.
    pub free_bytes: Option<u64>,
    /// UUID or place on the PCI bus.
    pub id: String,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "library={} compute={}.{} name=\"{}\" total={} MiB id={}",
            self.library,
            self.compute.0,
            self.compute.1,
            self.name,
            self.total_bytes >> 20,
            self.id
        )
    }
}

fn ok(call: &str, result: c_uint) -> Result<()> {
    ensure!(result == 0, "{call} returned {result}");
    Ok(())
}

fn text(place: &[u8]) -> String {
    let end = place.iter().position(|b| *b == 0).unwrap_or(place.len());
    String::from_utf8_lossy(&place[..end]).into_owned()
}

/// `GPU-…`, as programs write `CUuuid`.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut out = String::from("GPU");
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 0 | 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out += &format!("{byte:02x}");
    }
    out
}

type Number = unsafe extern "C" fn(*mut c_int) -> c_uint;
type Init = unsafe extern "C" fn(c_uint) -> c_uint;
type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_uint;
type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_uint;
type TextOf = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_uint;
type Bytes = unsafe extern "C" fn(*mut usize, c_int) -> c_uint;
type Uuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> c_uint;
type CtxCreate =
    unsafe extern "C" fn(*mut *mut c_void, *const c_void, c_int, c_uint, c_int) -> c_uint;
type MemInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> c_uint;
type CtxDestroy = unsafe extern "C" fn(*mut c_void) -> c_uint;
type NvmlPlain = unsafe extern "C" fn() -> c_int;
type NvmlText = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
type NvmlByUuid = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
type NvmlMemory = unsafe extern "C" fn(*mut c_void, *mut [u64; 3]) -> c_int;
type NvmlName = unsafe extern "C" fn(*mut c_void, *mut c_char, c_uint) -> c_int;
type NvmlError = unsafe extern "C" fn(c_int) -> *const c_char;

/// The first device, and what every way asks of it.
struct First {
    device: c_int,
    version: c_int,
    compute: (c_int, c_int),
    name: String,
}

fn first(cuda: &Library) -> Result<First> {
    let init: Init = cuda.get(c"cuInit")?;
    let version_of: Number = cuda.get(c"cuDriverGetVersion")?;
    let count_of: Number = cuda.get(c"cuDeviceGetCount")?;
    let get: Get = cuda.get(c"cuDeviceGet")?;
    let name_of: TextOf = cuda.get(c"cuDeviceGetName")?;
    let (mut version, mut count, mut device) = (0, 0, 0);
    let mut name = [0u8; 256];
    // SAFETY: cuda.h's functions, with places for what they give.
    unsafe {
        ok("cuInit", init(0))?;
        ok("cuDriverGetVersion", version_of(&mut version))?;
        ok("cuDeviceGetCount", count_of(&mut count))?;
        ensure!(count > 0, "cuDeviceGetCount gives {count}");
        ok("cuDeviceGet", get(&mut device, 0))?;
    }
    let compute = (
        attribute(cuda, device, MAJOR)?,
        attribute(cuda, device, MINOR)?,
    );
    // SAFETY: as above; room for so many bytes.
    ok("cuDeviceGetName", unsafe {
        name_of(name.as_mut_ptr().cast(), 256, device)
    })?;
    Ok(First {
        device,
        version,
        compute,
        name: text(&name),
    })
}

fn attribute(cuda: &Library, device: c_int, which: c_int) -> Result<c_int> {
    let get: Attribute = cuda.get(c"cuDeviceGetAttribute")?;
    let mut value = 0;
    // SAFETY: cuda.h's function, with a place for the number.
    ok("cuDeviceGetAttribute", unsafe {
        get(&mut value, which, device)
    })?;
    Ok(value)
}

/// The build of ggml's backend that the driver can run.
fn library(version: c_int) -> Result<String> {
    match version / 1000 {
        13.. => Ok("cuda_v13".to_owned()),
        12 => Ok("cuda_v12".to_owned()),
        _ => bail!("the driver's CUDA version {version} is older than any build"),
    }
}

/// Current versions: through libcuda and NVML.
pub fn ollama_current() -> Result<Found> {
    let cuda = Library::open("libcuda.so.1")?;
    let found = first(&cuda)?;
    let memory_of: Bytes = cuda
        .get(c"cuDeviceTotalMem_v2")
        .or_else(|_| cuda.get(c"cuDeviceTotalMem"))?;
    let place_of: TextOf = cuda.get(c"cuDeviceGetPCIBusId")?;
    let mut total = 0;
    let mut place = [0u8; 64];
    // SAFETY: cuda.h's functions, with places for what they give.
    unsafe {
        ok("cuDeviceTotalMem_v2", memory_of(&mut total, found.device))?;
        ok(
            "cuDeviceGetPCIBusId",
            place_of(place.as_mut_ptr().cast(), 64, found.device),
        )?;
    }
    ensure!(total > 0, "the device has no memory");
    ensure!(
        attribute(&cuda, found.device, INTEGRATED)? == 0,
        "the device is an integrated one: its memory is the machine's"
    );
    let driver = nvml_driver()?;
    let major: u32 = driver
        .split('.')
        .next()
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("NVML's driver version {driver:?} begins with no number"))?;
    ensure!(major >= 550, "NVML's driver {driver} is older than 550");
    ensure!(
        major >= 570 || found.compute.0 >= 7,
        "NVML's driver {driver} is older than 570, and the device's compute capability below 7"
    );
    Ok(Found {
        library: library(found.version)?,
        name: found.name,
        compute: found.compute,
        total_bytes: total as u64,
        free_bytes: None,
        id: text(&place),
    })
}

fn nvml_driver() -> Result<String> {
    let nvml = Library::open("libnvidia-ml.so.1")?;
    let init: NvmlPlain = nvml.get(c"nvmlInit_v2")?;
    let version: NvmlText = nvml.get(c"nvmlSystemGetDriverVersion")?;
    let shutdown: NvmlPlain = nvml.get(c"nvmlShutdown")?;
    let mut place = [0u8; 80];
    // SAFETY: nvml.h's functions, with room for so many bytes.
    unsafe {
        ok("nvmlInit_v2", init() as c_uint)?;
        ok(
            "nvmlSystemGetDriverVersion",
            version(place.as_mut_ptr().cast(), 80) as c_uint,
        )?;
        ok("nvmlShutdown", shutdown() as c_uint)?;
    }
    Ok(text(&place))
}

/// Versions of 2025: through libcuda alone; each symbol is looked up before the first call.
pub fn ollama_2025() -> Result<Found> {
    let cuda = Library::open("libcuda.so.1")?;
    for name in [
        c"cuInit",
        c"cuDriverGetVersion",
        c"cuDeviceGetCount",
        c"cuDeviceGet",
        c"cuDeviceGetAttribute",
        c"cuDeviceGetUuid",
        c"cuDeviceGetName",
        c"cuCtxCreate_v3",
        c"cuMemGetInfo_v2",
        c"cuCtxDestroy",
    ] {
        cuda.get::<*const c_void>(name)?;
    }
    let found = first(&cuda)?;
    let uuid_of: Uuid = cuda.get(c"cuDeviceGetUuid")?;
    let create: CtxCreate = cuda.get(c"cuCtxCreate_v3")?;
    let info: MemInfo = cuda.get(c"cuMemGetInfo_v2")?;
    let destroy: CtxDestroy = cuda.get(c"cuCtxDestroy")?;
    let mut uuid = [0; 16];
    let mut ctx = std::ptr::null_mut();
    let (mut free, mut total) = (0, 0);
    // SAFETY: cuda.h's functions, with places for what they give; no affinity parameters.
    unsafe {
        ok("cuDeviceGetUuid", uuid_of(&mut uuid, found.device))?;
        ok(
            "cuCtxCreate_v3",
            create(&mut ctx, std::ptr::null(), 0, 0, found.device),
        )?;
        ok("cuMemGetInfo_v2", info(&mut free, &mut total))?;
        ok("cuCtxDestroy", destroy(ctx))?;
    }
    ensure!(total > 0, "the device has no memory");
    ensure!(
        found.compute.0 >= 5,
        "compute capability {}.{} is too low",
        found.compute.0,
        found.compute.1
    );
    Ok(Found {
        library: library(found.version)?,
        name: found.name,
        compute: found.compute,
        total_bytes: total as u64,
        free_bytes: Some(free as u64),
        id: uuid_text(&uuid),
    })
}

/// ggml's CUDA backend asks NVML for memory, by the UUID that libcuda gives.
pub fn ggml_memory() -> Result<Found> {
    let cuda = Library::open("libcuda.so.1")?;
    let found = first(&cuda)?;
    let uuid_of: Uuid = cuda.get(c"cuDeviceGetUuid")?;
    let mut uuid = [0; 16];
    // SAFETY: cuda.h's function, with a place for 16 bytes.
    ok("cuDeviceGetUuid", unsafe {
        uuid_of(&mut uuid, found.device)
    })?;
    let id = uuid_text(&uuid);
    let nvml = Library::open("libnvidia-ml.so.1")?;
    let init: NvmlPlain = nvml.get(c"nvmlInit_v2")?;
    let by_uuid: NvmlByUuid = nvml.get(c"nvmlDeviceGetHandleByUUID")?;
    let memory_of: NvmlMemory = nvml.get(c"nvmlDeviceGetMemoryInfo")?;
    let name_of: NvmlName = nvml.get(c"nvmlDeviceGetName")?;
    let error_text: NvmlError = nvml.get(c"nvmlErrorString")?;
    let shutdown: NvmlPlain = nvml.get(c"nvmlShutdown")?;
    let check = |call: &str, result: c_int| -> Result<()> {
        if result == 0 {
            return Ok(());
        }
        // SAFETY: nvml.h's function; it gives a static text.
        let why = unsafe { CStr::from_ptr(error_text(result)) };
        bail!("{call} returned {result}: {}", why.to_string_lossy());
    };
    let mut device = std::ptr::null_mut();
    let mut memory = [0; 3];
    let mut name = [0u8; 96];
    let wanted = CString::new(id.clone())?;
    // SAFETY: nvml.h's functions, with places for what they give.
    unsafe {
        check("nvmlInit_v2", init())?;
        check(
            "nvmlDeviceGetHandleByUUID",
            by_uuid(wanted.as_ptr(), &mut device),
        )?;
        check("nvmlDeviceGetMemoryInfo", memory_of(device, &mut memory))?;
        check(
            "nvmlDeviceGetName",
            name_of(device, name.as_mut_ptr().cast(), 96),
        )?;
        check("nvmlShutdown", shutdown())?;
    }
    ensure!(
        text(&name) == found.name,
        "NVML's name {:?}, libcuda's {:?}",
        text(&name),
        found.name
    );
    ensure!(
        memory[1] + memory[2] == memory[0],
        "free and used are not the total: {memory:?}"
    );
    Ok(Found {
        library: library(found.version)?,
        name: found.name,
        compute: found.compute,
        total_bytes: memory[0],
        free_bytes: Some(memory[1]),
        id,
    })
}

/// The files one of which node-llama-cpp wants of each row, in the loader's path.
pub fn node_llama_cpp() -> Result<String> {
    let rows: [&[&str]; 5] = [
        &["libnvidia-ml.so", "libnvidia-ml.so.1"],
        &["libcuda.so", "libcuda.so.1"],
        &[
            "libcudart.so",
            "libcudart.so.11.0",
            "libcudart.so.12",
            "libcudart.so.13",
        ],
        &[
            "libcublas.so",
            "libcublas.so.11",
            "libcublas.so.12",
            "libcublas.so.13",
        ],
        &[
            "libcublasLt.so",
            "libcublasLt.so.11",
            "libcublasLt.so.12",
            "libcublasLt.so.13",
        ],
    ];
    let mut found = Vec::new();
    for row in rows {
        let name = row.iter().find(|name| Library::open(name).is_ok());
        found.push(*name.with_context(|| format!("none of {} is found", row.join(", ")))?);
    }
    Ok(found.join(" "))
}
