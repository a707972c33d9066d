//! What changes while a device runs: utilisation, temperature, power, clocks, links, modes.

use vgpu_protocol::nvml::NvmlField;

use crate::abi::{Handle, Out, exports};
use crate::result::{Done, Return};
use crate::state;
use crate::structs::{Temperature, Utilization, version};

/// `NVML_TEMPERATURE_GPU`.
const GPU_SENSOR: u32 = 0;
/// `NVML_CLOCK_ID_CURRENT`.
const CURRENT: u32 = 0;
/// Clock types: graphics, multiprocessor, memory, video.
const CLOCKS: [NvmlField; 4] = [
    NvmlField::ClockGraphics,
    NvmlField::ClockSm,
    NvmlField::ClockMemory,
    NvmlField::ClockVideo,
];
const MAX_CLOCKS: [NvmlField; 4] = [
    NvmlField::MaxClockGraphics,
    NvmlField::MaxClockSm,
    NvmlField::MaxClockMemory,
    NvmlField::MaxClockVideo,
];

/// The span that NVML's encoder and decoder samples look back over, in µs.
const SAMPLING_US: u32 = 1_000_000;

/// A number of the host's.
fn give(device: Handle, out: Out<u32>, field: NvmlField) -> Done {
    let device = state::device(device)?;
    out.check()?;
    out.set(device.short(field)?)
}

fn give_long(device: Handle, out: Out<u64>, field: NvmlField) -> Done {
    let device = state::device(device)?;
    out.check()?;
    out.set(device.value(field)?)
}

fn clock(device: Handle, kind: u32, out: Out<u32>, of: [NvmlField; 4]) -> Done {
    state::device(device)?;
    let field = of.get(kind as usize).ok_or(Return::InvalidArgument)?;
    give(device, out, *field)
}

exports! {
    /// Percent of the time in which kernels ran, and memory was used.
    fn nvmlDeviceGetUtilizationRates(device: Handle, out: Out<Utilization>) {
        let device = state::device(device)?;
        out.check()?;
        out.set(Utilization {
            gpu: device.short(NvmlField::UtilizationGpu)?,
            memory: device.short(NvmlField::UtilizationMemory)?,
        })
    }

    /// Percent of the time in which the encoder worked.
    fn nvmlDeviceGetEncoderUtilization(device: Handle, percent: Out<u32>, sampling: Out<u32>) {
        sampling.check()?;
        give(device, percent, NvmlField::EncoderUtilization)?;
        sampling.set(SAMPLING_US)
    }

    /// Percent of the time in which the decoder worked.
    fn nvmlDeviceGetDecoderUtilization(device: Handle, percent: Out<u32>, sampling: Out<u32>) {
        sampling.check()?;
        give(device, percent, NvmlField::DecoderUtilization)?;
        sampling.set(SAMPLING_US)
    }

    /// In °C.
    fn nvmlDeviceGetTemperature(device: Handle, sensor: u32, out: Out<u32>) {
        state::device(device)?;
        if sensor != GPU_SENSOR {
            return Err(Return::InvalidArgument);
        }
        give(device, out, NvmlField::Temperature)
    }

    /// In °C.
    fn nvmlDeviceGetTemperatureV(device: Handle, out: Out<Temperature>) {
        let device = state::device(device)?;
        if out.version().get()? != version::<Temperature>(1) {
            return Err(Return::ArgumentVersionMismatch);
        }
        let asked = out.get()?;
        if asked.sensor != GPU_SENSOR {
            return Err(Return::InvalidArgument);
        }
        let temperature = device.short(NvmlField::Temperature)? as i32;
        out.set(Temperature { temperature, ..asked })
    }

    /// The temperature of a threshold, in °C.
    fn nvmlDeviceGetTemperatureThreshold(device: Handle, threshold: u32, out: Out<u32>) {
        state::device(device)?;
        match threshold {
            0 => give(device, out, NvmlField::TemperatureShutdown),
            1 => give(device, out, NvmlField::TemperatureSlowdown),
            2..=7 => Err(Return::NotSupported),
            _ => Err(Return::InvalidArgument),
        }
    }

    /// In mW.
    fn nvmlDeviceGetPowerUsage(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PowerUsage)
    }

    /// In mW.
    fn nvmlDeviceGetPowerManagementLimit(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PowerLimit)
    }

    /// In mW.
    fn nvmlDeviceGetPowerManagementDefaultLimit(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PowerDefaultLimit)
    }

    /// In mW.
    fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PowerEnforcedLimit)
    }

    /// In mW.
    fn nvmlDeviceGetPowerManagementLimitConstraints(device: Handle, least: Out<u32>, greatest: Out<u32>) {
        greatest.check()?;
        give(device, least, NvmlField::PowerMinLimit)?;
        give(device, greatest, NvmlField::PowerMaxLimit)
    }

    /// Whether power is managed: where there is a limit.
    fn nvmlDeviceGetPowerManagementMode(device: Handle, out: Out<u32>) {
        let device = state::device(device)?;
        out.check()?;
        device.short(NvmlField::PowerLimit)?;
        out.set(1)
    }

    /// In mJ.
    fn nvmlDeviceGetTotalEnergyConsumption(device: Handle, out: Out<u64>) {
        give_long(device, out, NvmlField::TotalEnergy)
    }

    /// In MHz, by `nvmlClockType_t`.
    fn nvmlDeviceGetClockInfo(device: Handle, kind: u32, out: Out<u32>) {
        clock(device, kind, out, CLOCKS)
    }

    /// In MHz, by `nvmlClockType_t`.
    fn nvmlDeviceGetMaxClockInfo(device: Handle, kind: u32, out: Out<u32>) {
        clock(device, kind, out, MAX_CLOCKS)
    }

    /// In MHz, by `nvmlClockType_t` and `nvmlClockId_t`.
    fn nvmlDeviceGetClock(device: Handle, kind: u32, id: u32, out: Out<u32>) {
        state::device(device)?;
        match id {
            CURRENT => clock(device, kind, out, CLOCKS),
            1..=3 => Err(Return::NotSupported),
            _ => Err(Return::InvalidArgument),
        }
    }

    /// Why clocks are low: a set of bits.
    fn nvmlDeviceGetCurrentClocksEventReasons | nvmlDeviceGetCurrentClocksThrottleReasons(
        device: Handle, out: Out<u64>
    ) {
        give_long(device, out, NvmlField::ClocksEventReasons)
    }

    /// 0 is the fastest, 15 the slowest.
    fn nvmlDeviceGetPerformanceState | nvmlDeviceGetPowerState(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PerformanceState)
    }

    /// Whether the host's driver stays loaded without clients.
    fn nvmlDeviceGetPersistenceMode(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PersistenceMode)
    }

    /// `NVML_COMPUTEMODE_DEFAULT`: any number of processes of the guest.
    fn nvmlDeviceGetComputeMode(device: Handle, out: Out<u32>) {
        state::device(device)?;
        out.set(0)
    }

    /// Whether a display is connected: never.
    fn nvmlDeviceGetDisplayMode | nvmlDeviceGetDisplayActive(device: Handle, out: Out<u32>) {
        state::device(device)?;
        out.set(0)
    }

    /// The fans that the guest could see.
    fn nvmlDeviceGetNumFans(device: Handle, out: Out<u32>) {
        state::device(device)?;
        out.set(0)
    }

    /// Of the host's slot.
    fn nvmlDeviceGetCurrPcieLinkGeneration(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PcieGeneration)
    }

    /// Of the host's slot.
    fn nvmlDeviceGetCurrPcieLinkWidth(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PcieWidth)
    }

    /// Of the host's slot.
    fn nvmlDeviceGetMaxPcieLinkGeneration | nvmlDeviceGetGpuMaxPcieLinkGeneration(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PcieMaxGeneration)
    }

    /// Of the host's slot.
    fn nvmlDeviceGetMaxPcieLinkWidth(device: Handle, out: Out<u32>) {
        give(device, out, NvmlField::PcieMaxWidth)
    }

    /// The events that can be waited for: none.
    fn nvmlDeviceGetSupportedEventTypes(device: Handle, out: Out<u64>) {
        state::device(device)?;
        out.set(0)
    }
}
