//! The host's NVML, loaded at run time. cudarc has no bindings of it; the signatures below are those of
//! NVIDIA's `nvml.h` ("NVML API Reference Guide").

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::mem::transmute;

use vgpu_protocol::Status;
use vgpu_protocol::calls::NvmlSystem;
use vgpu_protocol::nvml::{NvmlField as Field, NvmlText};

use super::{LoadError, open_library, text_until_nul};

type Handle = *mut c_void;
type GetNumber = unsafe extern "C" fn(Handle, *mut c_uint) -> c_int;
type GetTwo = unsafe extern "C" fn(Handle, *mut c_uint, *mut c_uint) -> c_int;
type GetOfKind = unsafe extern "C" fn(Handle, c_uint, *mut c_uint) -> c_int;
type GetLong = unsafe extern "C" fn(Handle, *mut u64) -> c_int;
type GetRates = unsafe extern "C" fn(Handle, *mut [c_uint; 2]) -> c_int;
type GetErrors = unsafe extern "C" fn(Handle, c_uint, c_uint, *mut u64) -> c_int;
type GetBar1 = unsafe extern "C" fn(Handle, *mut [u64; 3]) -> c_int;
type GetText = unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> c_int;
type SystemText = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;

/// More than any text of NVML's needs (`NVML_DEVICE_NAME_V2_BUFFER_SIZE` is 96).
const TEXT_BYTES: usize = 128;

/// The loaded library and the GPU in it.
#[derive(Debug)]
pub struct Nvml {
    library: Handle,
    device: Handle,
}

// SAFETY: NVML is thread-safe ("NVML API Reference Guide", "NVML is thread-safe"), and its handles are not
// bound to a thread.
unsafe impl Send for Nvml {}
// SAFETY: as above.
unsafe impl Sync for Nvml {}

/// How a number is asked for.
enum Query {
    Number(&'static str),
    /// Of the two places that the function fills, the first or the second.
    Pair(&'static str, usize),
    /// With a kind before the place.
    Kind(&'static str, c_uint),
    Long(&'static str),
    /// `nvmlDeviceGetTotalEccErrors` of an `nvmlMemoryErrorType_t` and an `nvmlEccCounterType_t`.
    Errors(c_uint, c_uint),
    /// A word of `nvmlUtilization_t`.
    Utilization(usize),
    /// A word of `nvmlBAR1Memory_t`.
    Bar1(usize),
}

fn query(field: Field) -> Query {
    use Query::{Bar1, Errors, Kind, Long, Number, Pair, Utilization};
    // nvmlClockType_t.
    let [graphics, sm, memory, video] = [0, 1, 2, 3];
    match field {
        Field::UtilizationGpu => Utilization(0),
        Field::UtilizationMemory => Utilization(1),
        // NVML_TEMPERATURE_GPU.
        Field::Temperature => Kind("nvmlDeviceGetTemperature\0", 0),
        // NVML_TEMPERATURE_THRESHOLD_SLOWDOWN and _SHUTDOWN.
        Field::TemperatureSlowdown => Kind("nvmlDeviceGetTemperatureThreshold\0", 1),
        Field::TemperatureShutdown => Kind("nvmlDeviceGetTemperatureThreshold\0", 0),
        Field::PowerUsage => Number("nvmlDeviceGetPowerUsage\0"),
        Field::PowerLimit => Number("nvmlDeviceGetPowerManagementLimit\0"),
        Field::PowerDefaultLimit => Number("nvmlDeviceGetPowerManagementDefaultLimit\0"),
        Field::PowerMinLimit => Pair("nvmlDeviceGetPowerManagementLimitConstraints\0", 0),
        Field::PowerMaxLimit => Pair("nvmlDeviceGetPowerManagementLimitConstraints\0", 1),
        Field::PowerEnforcedLimit => Number("nvmlDeviceGetEnforcedPowerLimit\0"),
        Field::TotalEnergy => Long("nvmlDeviceGetTotalEnergyConsumption\0"),
        Field::ClockGraphics => Kind("nvmlDeviceGetClockInfo\0", graphics),
        Field::ClockSm => Kind("nvmlDeviceGetClockInfo\0", sm),
        Field::ClockMemory => Kind("nvmlDeviceGetClockInfo\0", memory),
        Field::ClockVideo => Kind("nvmlDeviceGetClockInfo\0", video),
        Field::MaxClockGraphics => Kind("nvmlDeviceGetMaxClockInfo\0", graphics),
        Field::MaxClockSm => Kind("nvmlDeviceGetMaxClockInfo\0", sm),
        Field::MaxClockMemory => Kind("nvmlDeviceGetMaxClockInfo\0", memory),
        Field::MaxClockVideo => Kind("nvmlDeviceGetMaxClockInfo\0", video),
        Field::EccCurrent => Pair("nvmlDeviceGetEccMode\0", 0),
        Field::EccPending => Pair("nvmlDeviceGetEccMode\0", 1),
        Field::EccCorrectedVolatile => Errors(0, 0),
        Field::EccUncorrectedVolatile => Errors(1, 0),
        Field::EccCorrectedAggregate => Errors(0, 1),
        Field::EccUncorrectedAggregate => Errors(1, 1),
        Field::PersistenceMode => Number("nvmlDeviceGetPersistenceMode\0"),
        Field::PerformanceState => Number("nvmlDeviceGetPerformanceState\0"),
        Field::Brand => Number("nvmlDeviceGetBrand\0"),
        Field::BoardId => Number("nvmlDeviceGetBoardId\0"),
        Field::Bar1Total => Bar1(0),
        Field::Bar1Used => Bar1(2),
        Field::PcieGeneration => Number("nvmlDeviceGetCurrPcieLinkGeneration\0"),
        Field::PcieWidth => Number("nvmlDeviceGetCurrPcieLinkWidth\0"),
        Field::PcieMaxGeneration => Number("nvmlDeviceGetMaxPcieLinkGeneration\0"),
        Field::PcieMaxWidth => Number("nvmlDeviceGetMaxPcieLinkWidth\0"),
        Field::ClocksEventReasons => Long("nvmlDeviceGetCurrentClocksThrottleReasons\0"),
        Field::GpuCores => Number("nvmlDeviceGetNumGpuCores\0"),
        Field::EncoderUtilization => Pair("nvmlDeviceGetEncoderUtilization\0", 0),
        Field::DecoderUtilization => Pair("nvmlDeviceGetDecoderUtilization\0", 0),
    }
}

/// NVML's result as a row answers it.
fn check(result: c_int) -> Result<(), Status> {
    const NO_PERMISSION: c_int = 4;
    const NOT_FOUND: c_int = 6;
    const NOT_SUPPORTED: c_int = 3;
    const FUNCTION_NOT_FOUND: c_int = 13;
    const GPU_IS_LOST: c_int = 15;
    match result {
        0 => Ok(()),
        NOT_SUPPORTED | FUNCTION_NOT_FOUND => Err(Status::ERROR_NOT_SUPPORTED),
        NO_PERMISSION => Err(Status::ERROR_NOT_PERMITTED),
        NOT_FOUND => Err(Status::ERROR_NOT_FOUND),
        GPU_IS_LOST => Err(Status::ERROR_DEVICE_UNAVAILABLE),
        _ => Err(Status::ERROR_UNKNOWN),
    }
}

impl Nvml {
    /// Loads and initialises the library, and finds the GPU by its UUID.
    pub fn load(library: &str, uuid: &[u8; 16]) -> Result<Nvml, LoadError> {
        let nvml = Nvml {
            library: open_library(library)?,
            device: std::ptr::null_mut(),
        };
        if nvml.address("vgpu_stub_nvml\0").is_some() {
            return Err(LoadError::Shim);
        }
        let init = nvml
            .address("nvmlInit_v2\0")
            .ok_or(LoadError::Symbol("nvmlInit_v2"))?;
        // SAFETY: a function of this name has this signature.
        let init = unsafe { transmute::<Handle, unsafe extern "C" fn() -> c_int>(init) };
        // SAFETY: takes nothing.
        let result = unsafe { init() };
        if result != 0 {
            return Err(LoadError::Library(format!("nvmlInit_v2 returns {result}")));
        }
        let find = nvml
            .address("nvmlDeviceGetHandleByUUID\0")
            .ok_or(LoadError::Symbol("nvmlDeviceGetHandleByUUID"))?;
        type Find = unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int;
        // SAFETY: a function of this name has this signature.
        let find = unsafe { transmute::<Handle, Find>(find) };
        let name = vgpu_protocol::nvml::uuid_text(uuid);
        let text = CString::new(name.clone())
            .map_err(|_| LoadError::Library("a UUID holds a NUL".to_owned()))?;
        let mut device = std::ptr::null_mut();
        // SAFETY: a NUL-terminated text and a place for the handle.
        let result = unsafe { find(text.as_ptr(), &mut device) };
        if result != 0 {
            return Err(LoadError::Library(format!(
                "nvmlDeviceGetHandleByUUID({name}) returns {result}"
            )));
        }
        Ok(Nvml { device, ..nvml })
    }

    fn address(&self, name_with_nul: &str) -> Option<Handle> {
        let at = super::symbol(self.library, name_with_nul);
        (!at.is_null()).then_some(at)
    }

    fn need(&self, name_with_nul: &str) -> Result<Handle, Status> {
        self.address(name_with_nul)
            .ok_or(Status::ERROR_NOT_SUPPORTED)
    }

    /// A number of the GPU.
    pub fn value(&self, field: Field) -> Result<u64, Status> {
        let (mut number, mut long) = (0, 0);
        match query(field) {
            Query::Number(name) => {
                // SAFETY: the functions of this kind have this signature (nvml.h).
                let f = unsafe { transmute::<Handle, GetNumber>(self.need(name)?) };
                // SAFETY: the GPU's handle, and a place for the number.
                check(unsafe { f(self.device, &mut number) })?;
            }
            Query::Pair(name, which) => {
                let mut pair = [0; 2];
                let [first, second] = &mut pair;
                // SAFETY: as above.
                let f = unsafe { transmute::<Handle, GetTwo>(self.need(name)?) };
                // SAFETY: the GPU's handle, and places for both numbers.
                check(unsafe { f(self.device, first, second) })?;
                number = pair[which];
            }
            Query::Kind(name, kind) => {
                // SAFETY: as above.
                let f = unsafe { transmute::<Handle, GetOfKind>(self.need(name)?) };
                // SAFETY: the GPU's handle, and a place for the number.
                check(unsafe { f(self.device, kind, &mut number) })?;
            }
            Query::Long(name) => {
                // SAFETY: as above.
                let f = unsafe { transmute::<Handle, GetLong>(self.need(name)?) };
                // SAFETY: the GPU's handle, and a place for the number.
                check(unsafe { f(self.device, &mut long) })?;
                return Ok(long);
            }
            Query::Errors(kind, counter) => {
                let name = "nvmlDeviceGetTotalEccErrors\0";
                // SAFETY: as above.
                let f = unsafe { transmute::<Handle, GetErrors>(self.need(name)?) };
                // SAFETY: the GPU's handle, and a place for the number.
                check(unsafe { f(self.device, kind, counter, &mut long) })?;
                return Ok(long);
            }
            Query::Utilization(which) => {
                let mut rates = [0; 2];
                let at = self.need("nvmlDeviceGetUtilizationRates\0")?;
                // SAFETY: as above.
                let f = unsafe { transmute::<Handle, GetRates>(at) };
                // SAFETY: the GPU's handle; nvmlUtilization_t is two unsigned numbers.
                check(unsafe { f(self.device, &mut rates) })?;
                number = rates[which];
            }
            Query::Bar1(which) => {
                let mut memory = [0; 3];
                let at = self.need("nvmlDeviceGetBAR1MemoryInfo\0")?;
                // SAFETY: as above.
                let f = unsafe { transmute::<Handle, GetBar1>(at) };
                // SAFETY: the GPU's handle; nvmlBAR1Memory_t is three 64-bit numbers.
                check(unsafe { f(self.device, &mut memory) })?;
                return Ok(memory[which]);
            }
        }
        Ok(number.into())
    }

    /// A text of the GPU.
    pub fn text(&self, field: NvmlText) -> Result<String, Status> {
        let name = match field {
            NvmlText::Serial => "nvmlDeviceGetSerial\0",
            NvmlText::VbiosVersion => "nvmlDeviceGetVbiosVersion\0",
            NvmlText::BoardPartNumber => "nvmlDeviceGetBoardPartNumber\0",
        };
        // SAFETY: the functions of this kind have this signature (nvml.h).
        let f = unsafe { transmute::<Handle, GetText>(self.need(name)?) };
        let mut text = [0u8; TEXT_BYTES];
        // SAFETY: the GPU's handle; it writes at most the number of bytes given, here one less than there are.
        check(unsafe {
            f(
                self.device,
                text.as_mut_ptr().cast(),
                TEXT_BYTES as c_uint - 1,
            )
        })?;
        Ok(text_until_nul(&text))
    }

    /// The versions of driver and library.
    pub fn system(&self) -> Result<NvmlSystem, Status> {
        let text = |name| {
            // SAFETY: the functions of this kind have this signature (nvml.h).
            let f = unsafe { transmute::<Handle, SystemText>(self.need(name)?) };
            let mut text = [0u8; TEXT_BYTES];
            // SAFETY: it writes at most the number of bytes given, here one less than there are.
            check(unsafe { f(text.as_mut_ptr().cast(), TEXT_BYTES as c_uint - 1) })?;
            Ok(text_until_nul(&text))
        };
        Ok(NvmlSystem {
            driver_version: text("nvmlSystemGetDriverVersion\0")?,
            nvml_version: text("nvmlSystemGetNVMLVersion\0")?,
        })
    }
}
