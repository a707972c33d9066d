//! libnvidia-ml.so.1, loaded at run time. The signatures are those of NVIDIA's `nvml.h`.
#![allow(unsafe_code)] // A C library.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::mem::transmute;

const LIBRARY: &CStr = c"libnvidia-ml.so.1";

/// `NVML_ERROR_LIBRARY_NOT_FOUND`, `_FUNCTION_NOT_FOUND`, `_INSUFFICIENT_SIZE`.
const LIBRARY_NOT_FOUND: c_int = 12;
const FUNCTION_NOT_FOUND: c_int = 13;
const INSUFFICIENT_SIZE: c_int = 7;

/// More than any text of NVML's needs.
const TEXT_BYTES: usize = 256;
/// Processes that are listed at most.
const MAX_PROCESSES: usize = 4096;

/// A result that is no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(pub c_int);

/// Result of a call.
pub type Done<T> = Result<T, Failed>;

impl Failed {
    /// The program's exit status for it, as nvidia-smi documents them: NVML's number.
    pub fn exit_status(self) -> u8 {
        u8::try_from(self.0).unwrap_or(255)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            3 => f.write_str("Not Supported"),
            4 => f.write_str("Insufficient Permissions"),
            6 => f.write_str("Not Found"),
            9 => f.write_str("Driver Not Loaded"),
            12 => f.write_str("NVML Shared Library Not Found"),
            13 => f.write_str("Function Not Found"),
            15 => f.write_str("GPU is lost"),
            18 => f.write_str("Driver/library version mismatch"),
            other => write!(f, "Unknown Error ({other})"),
        }
    }
}

/// The loaded, initialised library.
#[derive(Debug)]
pub struct Nvml {
    library: *mut c_void,
}

/// `nvmlDevice_t`.
#[derive(Clone, Copy, Debug)]
pub struct Device(*mut c_void);

/// `nvmlPciInfo_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Pci {
    legacy: [u8; 16],
    /// Domain on the guest's PCI bus.
    pub domain: u32,
    /// Bus.
    pub bus: u32,
    /// Device.
    pub device: u32,
    /// Device in the upper, vendor in the lower half.
    pub id: u32,
    /// The same of the subsystem.
    pub subsystem: u32,
    bus_id: [u8; 32],
}

impl Pci {
    /// `00000000:00:05.0`.
    pub fn bus_id(&self) -> String {
        text(&self.bus_id)
    }
}

#[cfg(test)]
impl Pci {
    /// The function 0 of a device on bus 0.
    pub fn at(device: u32) -> Pci {
        let mut pci = Pci {
            device,
            ..Pci::default()
        };
        let text = format!("00000000:00:{device:02X}.0");
        pci.bus_id[..text.len()].copy_from_slice(text.as_bytes());
        pci
    }
}

/// `nvmlProcessInfo_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Device memory that it holds.
    pub used_bytes: u64,
    gpu_instance: u32,
    compute_instance: u32,
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn ok(result: c_int) -> Done<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(Failed(result))
    }
}

impl Nvml {
    /// Loads and initialises the library.
    pub fn open() -> Done<Nvml> {
        // SAFETY: a NUL-terminated name.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err(Failed(LIBRARY_NOT_FOUND));
        }
        let nvml = Nvml { library };
        // SAFETY: the function of this name has this signature.
        let init = unsafe {
            transmute::<*mut c_void, extern "C" fn() -> c_int>(nvml.address("nvmlInit_v2")?)
        };
        ok(init())?;
        Ok(nvml)
    }

    fn address(&self, name: &str) -> Done<*mut c_void> {
        let name = CString::new(name).map_err(|_| Failed(FUNCTION_NOT_FOUND))?;
        // SAFETY: a loaded library and a NUL-terminated name.
        let at = unsafe { libc::dlsym(self.library, name.as_ptr()) };
        if at.is_null() {
            Err(Failed(FUNCTION_NOT_FOUND))
        } else {
            Ok(at)
        }
    }

    /// A text of the system: `nvmlSystemGet…`.
    pub fn system_text(&self, name: &str) -> Done<String> {
        type F = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
        // SAFETY: the functions that callers name here have this signature.
        let f = unsafe { transmute::<*mut c_void, F>(self.address(name)?) };
        let mut place = [0u8; TEXT_BYTES];
        // SAFETY: room for so many bytes.
        ok(unsafe { f(place.as_mut_ptr().cast(), TEXT_BYTES as c_uint) })?;
        Ok(text(&place))
    }

    /// What cuDriverGetVersion answers.
    pub fn cuda_version(&self) -> Done<i32> {
        type F = unsafe extern "C" fn(*mut c_int) -> c_int;
        let at = self.address("nvmlSystemGetCudaDriverVersion_v2")?;
        // SAFETY: the function of this name has this signature.
        let f = unsafe { transmute::<*mut c_void, F>(at) };
        let mut version = 0;
        // SAFETY: a place for the number.
        ok(unsafe { f(&mut version) })?;
        Ok(version)
    }

    /// Every device.
    pub fn devices(&self) -> Done<Vec<Device>> {
        type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
        type Get = unsafe extern "C" fn(c_uint, *mut *mut c_void) -> c_int;
        // SAFETY: the function of this name has this signature.
        let count_of =
            unsafe { transmute::<*mut c_void, Count>(self.address("nvmlDeviceGetCount_v2")?) };
        let get = self.address("nvmlDeviceGetHandleByIndex_v2")?;
        // SAFETY: as above.
        let get = unsafe { transmute::<*mut c_void, Get>(get) };
        let mut count = 0;
        // SAFETY: a place for the number.
        ok(unsafe { count_of(&mut count) })?;
        (0..count)
            .map(|index| {
                let mut device = std::ptr::null_mut();
                // SAFETY: a place for the handle.
                ok(unsafe { get(index, &mut device) })?;
                Ok(Device(device))
            })
            .collect()
    }

    /// A text of a device.
    pub fn text(&self, device: Device, name: &str) -> Done<String> {
        type F = unsafe extern "C" fn(*mut c_void, *mut c_char, c_uint) -> c_int;
        // SAFETY: the functions that callers name here have this signature.
        let f = unsafe { transmute::<*mut c_void, F>(self.address(name)?) };
        let mut place = [0u8; TEXT_BYTES];
        // SAFETY: a handle of the library, and room for so many bytes.
        ok(unsafe { f(device.0, place.as_mut_ptr().cast(), TEXT_BYTES as c_uint) })?;
        Ok(text(&place))
    }

    /// A number of a device.
    pub fn number(&self, device: Device, name: &str) -> Done<u64> {
        type F = unsafe extern "C" fn(*mut c_void, *mut c_uint) -> c_int;
        // SAFETY: the functions that callers name here have this signature.
        let f = unsafe { transmute::<*mut c_void, F>(self.address(name)?) };
        let mut number = 0;
        // SAFETY: a handle of the library, and a place for the number.
        ok(unsafe { f(device.0, &mut number) })?;
        Ok(number.into())
    }

    /// A number of 64 bits.
    pub fn long(&self, device: Device, name: &str) -> Done<u64> {
        type F = unsafe extern "C" fn(*mut c_void, *mut u64) -> c_int;
        // SAFETY: the functions that callers name here have this signature.
        let f = unsafe { transmute::<*mut c_void, F>(self.address(name)?) };
        let mut number = 0;
        // SAFETY: a handle of the library, and a place for the number.
        ok(unsafe { f(device.0, &mut number) })?;
        Ok(number)
    }

    /// Two numbers in two places.
    pub fn pair(&self, device: Device, name: &str) -> Done<(u64, u64)> {
        type F = unsafe extern "C" fn(*mut c_void, *mut c_uint, *mut c_uint) -> c_int;
        // SAFETY: the functions that callers name here have this signature.
        let f = unsafe { transmute::<*mut c_void, F>(self.address(name)?) };
        let (mut one, mut two) = (0, 0);
        // SAFETY: a handle of the library, and places for the numbers.
        ok(unsafe { f(device.0, &mut one, &mut two) })?;
        Ok((one.into(), two.into()))
    }

    /// A number of a kind: a sensor, a clock, a threshold.
    pub fn of_kind(&self, device: Device, name: &str, kind: u32) -> Done<u64> {
        type F = unsafe extern "C" fn(*mut c_void, c_uint, *mut c_uint) -> c_int;
        // SAFETY: the functions that callers name here have this signature.
        let f = unsafe { transmute::<*mut c_void, F>(self.address(name)?) };
        let mut number = 0;
        // SAFETY: a handle of the library, and a place for the number.
        ok(unsafe { f(device.0, kind, &mut number) })?;
        Ok(number.into())
    }

    /// `nvmlDeviceGetTotalEccErrors`.
    pub fn ecc_errors(&self, device: Device, kind: u32, counter: u32) -> Done<u64> {
        type F = unsafe extern "C" fn(*mut c_void, c_uint, c_uint, *mut u64) -> c_int;
        let at = self.address("nvmlDeviceGetTotalEccErrors")?;
        // SAFETY: the function of this name has this signature.
        let f = unsafe { transmute::<*mut c_void, F>(at) };
        let mut number = 0;
        // SAFETY: a handle of the library, and a place for the number.
        ok(unsafe { f(device.0, kind, counter, &mut number) })?;
        Ok(number)
    }

    /// `nvmlUtilization_t`: percent of GPU and memory.
    pub fn utilization(&self, device: Device) -> Done<(u64, u64)> {
        type F = unsafe extern "C" fn(*mut c_void, *mut [c_uint; 2]) -> c_int;
        let at = self.address("nvmlDeviceGetUtilizationRates")?;
        // SAFETY: the function of this name has this signature.
        let f = unsafe { transmute::<*mut c_void, F>(at) };
        let mut rates = [0; 2];
        // SAFETY: a handle of the library, and a place for the struct of two numbers.
        ok(unsafe { f(device.0, &mut rates) })?;
        Ok((rates[0].into(), rates[1].into()))
    }

    /// Total, free and used bytes: `nvmlMemory_t` and `nvmlBAR1Memory_t`.
    pub fn memory(&self, device: Device, name: &str) -> Done<[u64; 3]> {
        type F = unsafe extern "C" fn(*mut c_void, *mut [u64; 3]) -> c_int;
        // SAFETY: the functions that callers name here have this signature.
        let f = unsafe { transmute::<*mut c_void, F>(self.address(name)?) };
        let mut memory = [0; 3];
        // SAFETY: a handle of the library, and a place for the struct of three numbers.
        ok(unsafe { f(device.0, &mut memory) })?;
        Ok(memory)
    }

    /// Where it is on the PCI bus.
    pub fn pci(&self, device: Device) -> Done<Pci> {
        type F = unsafe extern "C" fn(*mut c_void, *mut Pci) -> c_int;
        let at = self.address("nvmlDeviceGetPciInfo_v3")?;
        // SAFETY: the function of this name has this signature.
        let f = unsafe { transmute::<*mut c_void, F>(at) };
        let mut pci = Pci::default();
        // SAFETY: a handle of the library, and a place for the struct.
        ok(unsafe { f(device.0, &mut pci) })?;
        Ok(pci)
    }

    /// Major and minor of the compute capability.
    pub fn capability(&self, device: Device) -> Done<(u64, u64)> {
        self.pair(device, "nvmlDeviceGetCudaComputeCapability")
    }

    /// The processes that compute.
    pub fn processes(&self, device: Device) -> Done<Vec<Process>> {
        type F = unsafe extern "C" fn(*mut c_void, *mut c_uint, *mut Process) -> c_int;
        let at = self.address("nvmlDeviceGetComputeRunningProcesses_v3")?;
        // SAFETY: the function of this name has this signature.
        let f = unsafe { transmute::<*mut c_void, F>(at) };
        let mut all = vec![Process::default(); 64];
        loop {
            let mut count = all.len() as c_uint;
            // SAFETY: a handle of the library, and room for `count` structs.
            let result = unsafe { f(device.0, &mut count, all.as_mut_ptr()) };
            if result == INSUFFICIENT_SIZE && all.len() < MAX_PROCESSES {
                all.resize(all.len() * 4, Process::default());
                continue;
            }
            ok(result)?;
            all.truncate(count as usize);
            return Ok(all);
        }
    }

    /// A process's name.
    pub fn process_name(&self, pid: u32) -> Done<String> {
        type F = unsafe extern "C" fn(c_uint, *mut c_char, c_uint) -> c_int;
        let at = self.address("nvmlSystemGetProcessName")?;
        // SAFETY: the function of this name has this signature.
        let f = unsafe { transmute::<*mut c_void, F>(at) };
        let mut place = [0u8; TEXT_BYTES];
        // SAFETY: room for so many bytes.
        ok(unsafe { f(pid, place.as_mut_ptr().cast(), TEXT_BYTES as c_uint) })?;
        Ok(text(&place))
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        if let Ok(at) = self.address("nvmlShutdown") {
            // SAFETY: the function of this name has this signature.
            let shutdown = unsafe { transmute::<*mut c_void, extern "C" fn() -> c_int>(at) };
            shutdown();
        }
    }
}

/// The local time in the form of `asctime`, and as the CSV output has it.
pub fn now() -> (String, String) {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut time) };
    // SAFETY: all its fields are numbers or a pointer that may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: a time and a place for its parts.
    unsafe { libc::localtime_r(&time.tv_sec, &mut parts) };
    let format = |format: &CStr| {
        let mut place = [0u8; 64];
        // SAFETY: room for so many bytes, a NUL-terminated format, and the parts.
        unsafe {
            libc::strftime(
                place.as_mut_ptr().cast(),
                place.len(),
                format.as_ptr(),
                &parts,
            );
        }
        text(&place)
    };
    let millis = time.tv_nsec / 1_000_000;
    (
        format(c"%a %b %e %H:%M:%S %Y"),
        format!("{}.{millis:03}", format(c"%Y/%m/%d %H:%M:%S")),
    )
}
