//! All that NVML says of one device, asked once for each output.

use crate::nvml::{Device, Done, Failed, Nvml, Pci};

/// A process that computes.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    pub used_bytes: u64,
}

/// A number that the device may not have.
pub type Maybe = Option<u64>;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Gpu {
    pub index: u64,
    pub name: String,
    pub uuid: String,
    pub pci: Pci,
    pub brand: Maybe,
    pub architecture: Maybe,
    pub capability: Option<(u64, u64)>,
    pub serial: Option<String>,
    pub vbios: Option<String>,
    pub part_number: Option<String>,
    pub minor: Maybe,
    pub board_id: Maybe,
    /// Total, free, used, in bytes.
    pub memory: Option<[u64; 3]>,
    pub bar1: Option<[u64; 3]>,
    pub utilization: Option<(u64, u64)>,
    pub encoder: Maybe,
    pub decoder: Maybe,
    pub temperature: Maybe,
    pub slowdown: Maybe,
    pub shutdown: Maybe,
    /// In mW.
    pub power: Maybe,
    pub power_limit: Maybe,
    pub power_default: Maybe,
    pub power_enforced: Maybe,
    pub power_range: Option<(u64, u64)>,
    /// Graphics, multiprocessor, memory, video, in MHz.
    pub clocks: [Maybe; 4],
    pub max_clocks: [Maybe; 4],
    pub event_reasons: Maybe,
    pub performance: Maybe,
    pub persistence: Maybe,
    pub compute_mode: Maybe,
    pub display_active: Maybe,
    /// Current and pending.
    pub ecc: Option<(u64, u64)>,
    /// Corrected and uncorrected, since the driver was loaded, then in the GPU's life.
    pub ecc_errors: [Maybe; 4],
    pub pcie_generation: Maybe,
    pub pcie_max_generation: Maybe,
    pub pcie_width: Maybe,
    pub pcie_max_width: Maybe,
    pub processes: Vec<Process>,
}

/// `nvmlTemperatureThresholds_t`.
const SHUTDOWN: u32 = 0;
const SLOWDOWN: u32 = 1;

impl Gpu {
    /// Asks for everything. What the device does not have is `None`; any other error ends it.
    pub fn ask(nvml: &Nvml, device: Device) -> Done<Gpu> {
        let number = |name: &str| maybe(nvml.number(device, name));
        let text = |name: &str| maybe(nvml.text(device, name));
        let clocks = |name: &str| -> Done<[Maybe; 4]> {
            let mut all = [None; 4];
            for (kind, clock) in all.iter_mut().enumerate() {
                *clock = maybe(nvml.of_kind(device, name, kind as u32))?;
            }
            Ok(all)
        };
        let mut ecc_errors = [None; 4];
        for (which, errors) in ecc_errors.iter_mut().enumerate() {
            *errors = maybe(nvml.ecc_errors(device, which as u32 % 2, which as u32 / 2))?;
        }
        let mut processes = Vec::new();
        for process in maybe(nvml.processes(device))?.unwrap_or_default() {
            let name = nvml.process_name(process.pid);
            processes.push(Process {
                pid: process.pid,
                name: name.unwrap_or_else(|_| "[Not Found]".to_owned()),
                used_bytes: process.used_bytes,
            });
        }
        let threshold =
            |kind| maybe(nvml.of_kind(device, "nvmlDeviceGetTemperatureThreshold", kind));
        let first = |pair: Option<(u64, u64)>| pair.map(|pair| pair.0);
        Ok(Gpu {
            index: nvml.number(device, "nvmlDeviceGetIndex")?,
            name: nvml.text(device, "nvmlDeviceGetName")?,
            uuid: nvml.text(device, "nvmlDeviceGetUUID")?,
            pci: nvml.pci(device)?,
            brand: number("nvmlDeviceGetBrand")?,
            architecture: number("nvmlDeviceGetArchitecture")?,
            capability: maybe(nvml.capability(device))?,
            serial: text("nvmlDeviceGetSerial")?,
            vbios: text("nvmlDeviceGetVbiosVersion")?,
            part_number: text("nvmlDeviceGetBoardPartNumber")?,
            minor: number("nvmlDeviceGetMinorNumber")?,
            board_id: number("nvmlDeviceGetBoardId")?,
            memory: maybe(nvml.memory(device, "nvmlDeviceGetMemoryInfo"))?,
            bar1: maybe(nvml.memory(device, "nvmlDeviceGetBAR1MemoryInfo"))?,
            utilization: maybe(nvml.utilization(device))?,
            encoder: first(maybe(nvml.pair(device, "nvmlDeviceGetEncoderUtilization"))?),
            decoder: first(maybe(nvml.pair(device, "nvmlDeviceGetDecoderUtilization"))?),
            temperature: maybe(nvml.of_kind(device, "nvmlDeviceGetTemperature", 0))?,
            slowdown: threshold(SLOWDOWN)?,
            shutdown: threshold(SHUTDOWN)?,
            power: number("nvmlDeviceGetPowerUsage")?,
            power_limit: number("nvmlDeviceGetPowerManagementLimit")?,
            power_default: number("nvmlDeviceGetPowerManagementDefaultLimit")?,
            power_enforced: number("nvmlDeviceGetEnforcedPowerLimit")?,
            power_range: maybe(nvml.pair(device, "nvmlDeviceGetPowerManagementLimitConstraints"))?,
            clocks: clocks("nvmlDeviceGetClockInfo")?,
            max_clocks: clocks("nvmlDeviceGetMaxClockInfo")?,
            event_reasons: maybe(nvml.long(device, "nvmlDeviceGetCurrentClocksThrottleReasons"))?,
            performance: number("nvmlDeviceGetPerformanceState")?,
            persistence: number("nvmlDeviceGetPersistenceMode")?,
            compute_mode: number("nvmlDeviceGetComputeMode")?,
            display_active: number("nvmlDeviceGetDisplayActive")?,
            ecc: maybe(nvml.pair(device, "nvmlDeviceGetEccMode"))?,
            ecc_errors,
            pcie_generation: number("nvmlDeviceGetCurrPcieLinkGeneration")?,
            pcie_max_generation: number("nvmlDeviceGetMaxPcieLinkGeneration")?,
            pcie_width: number("nvmlDeviceGetCurrPcieLinkWidth")?,
            pcie_max_width: number("nvmlDeviceGetMaxPcieLinkWidth")?,
            processes,
        })
    }

    /// Whether `-i` names it: by index, UUID, place on the bus or serial number.
    pub fn is_named(&self, name: &str) -> bool {
        name.parse() == Ok(self.index)
            || self.uuid.eq_ignore_ascii_case(name)
            || self.serial.as_deref() == Some(name)
            || place(name) == Some((self.pci.domain, self.pci.bus, self.pci.device))
    }

    /// `nvmlBrandType_t` in words.
    pub fn brand_name(&self) -> Option<&'static str> {
        Some(match self.brand? {
            1 => "Quadro",
            2 => "Tesla",
            3 => "NVS",
            4 => "GRID",
            5 => "GeForce",
            6 => "Titan",
            12 => "Quadro RTX",
            13 => "NVIDIA RTX",
            14 => "NVIDIA",
            15 => "GeForce RTX",
            16 => "Titan RTX",
            _ => "Unknown",
        })
    }

    /// `nvmlDeviceArchitecture_t` in words.
    pub fn architecture_name(&self) -> Option<&'static str> {
        Some(match self.architecture? {
            3 => "Maxwell",
            4 => "Pascal",
            5 => "Volta",
            6 => "Turing",
            7 => "Ampere",
            8 => "Ada Lovelace",
            9 => "Hopper",
            10 => "Blackwell",
            _ => "Unknown",
        })
    }

    /// `nvmlComputeMode_t` in words.
    pub fn compute_mode_name(&self) -> Option<&'static str> {
        Some(match self.compute_mode? {
            0 => "Default",
            1 => "Exclusive_Thread",
            2 => "Prohibited",
            3 => "Exclusive_Process",
            _ => "Unknown",
        })
    }
}

/// Domain, bus and device of `00000000:00:05.0`; domain and function may be left out.
fn place(text: &str) -> Option<(u32, u32, u32)> {
    let text = text.strip_suffix(".0").unwrap_or(text);
    let numbers: Option<Vec<u32>> = text
        .split(':')
        .map(|word| u32::from_str_radix(word, 16).ok())
        .collect();
    match numbers?[..] {
        [bus, device] => Some((0, bus, device)),
        [domain, bus, device] => Some((domain, bus, device)),
        _ => None,
    }
}

/// What a device does not have is no error.
fn maybe<T>(result: Done<T>) -> Done<Option<T>> {
    const NOT_SUPPORTED: i32 = 3;
    const NO_PERMISSION: i32 = 4;
    const NOT_FOUND: i32 = 6;
    const FUNCTION_NOT_FOUND: i32 = 13;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Failed(NOT_SUPPORTED | NO_PERMISSION | NOT_FOUND | FUNCTION_NOT_FOUND)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A device for the tests of what is printed.
#[cfg(test)]
pub fn sample() -> Gpu {
    Gpu {
        name: "vGPU software device".to_owned(),
        uuid: "GPU-76677075-2d73-7475-622d-00000000006f".to_owned(),
        pci: Pci::at(5),
        capability: Some((9, 0)),
        memory: Some([12 << 30, 11 << 30, 1 << 30]),
        utilization: Some((37, 12)),
        compute_mode: Some(0),
        display_active: Some(0),
        processes: vec![Process {
            pid: 4711,
            name: "/usr/bin/llama-server".to_owned(),
            used_bytes: 1 << 30,
        }],
        ..Gpu::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_by_index_uuid_and_place() {
        let gpu = sample();
        assert!(gpu.is_named("0") && gpu.is_named(&gpu.uuid.to_uppercase()));
        for place in ["00:05.0", "0000:00:05.0", "00000000:00:05.0", "00:05"] {
            assert!(gpu.is_named(place), "{place}");
        }
        assert!(!gpu.is_named("00:06.0") && !gpu.is_named("00:05.1"));
        assert!(!gpu.is_named("1") && !gpu.is_named("GPU-7") && !gpu.is_named(""));
    }
}
