//! What can be asked about a device beyond CUDA: the numbers of the `nvmlDeviceValue` and
//! `nvmlDeviceText` calls. Units are those of NVML's own functions.

use alloc::format;
use alloc::string::String;

/// A device's UUID as NVML and nvidia-smi write it: `GPU-00112233-4455-6677-8899-aabbccddeeff`.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex = |range: core::ops::Range<usize>| {
        let mut text = String::new();
        for byte in &uuid[range] {
            text += &format!("{byte:02x}");
        }
        text
    };
    format!(
        "GPU-{}-{}-{}-{}-{}",
        hex(0..4),
        hex(4..6),
        hex(6..8),
        hex(8..10),
        hex(10..16)
    )
}

macro_rules! fields {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident = $number:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $name { $($(#[$fmeta])* $field = $number,)* }

        impl $name {
            /// Every one.
            pub const ALL: &[$name] = &[$($name::$field,)*];

            /// The one with this number.
            pub fn from_wire(number: u32) -> Option<$name> {
                match number { $($number => Some($name::$field),)* _ => None }
            }
        }
    };
}

fields! {
    /// A number that the host's NVML, or the software device, knows.
    NvmlField {
        /// `nvmlDeviceGetUtilizationRates`, `gpu`: percent of the last second with a kernel running.
        UtilizationGpu = 1,
        /// The same, `memory`.
        UtilizationMemory = 2,
        /// `nvmlDeviceGetTemperature`, of the GPU, in °C.
        Temperature = 3,
        /// `nvmlDeviceGetTemperatureThreshold`, slowdown, in °C.
        TemperatureSlowdown = 4,
        /// The same, shutdown.
        TemperatureShutdown = 5,
        /// `nvmlDeviceGetPowerUsage`, in mW.
        PowerUsage = 6,
        /// `nvmlDeviceGetPowerManagementLimit`, in mW.
        PowerLimit = 7,
        /// `nvmlDeviceGetPowerManagementDefaultLimit`, in mW.
        PowerDefaultLimit = 8,
        /// `nvmlDeviceGetPowerManagementLimitConstraints`, least, in mW.
        PowerMinLimit = 9,
        /// The same, greatest.
        PowerMaxLimit = 10,
        /// `nvmlDeviceGetEnforcedPowerLimit`, in mW.
        PowerEnforcedLimit = 11,
        /// `nvmlDeviceGetTotalEnergyConsumption`, in mJ since the driver was loaded.
        TotalEnergy = 12,
        /// `nvmlDeviceGetClockInfo`, graphics, in MHz.
        ClockGraphics = 13,
        /// The same, multiprocessors.
        ClockSm = 14,
        /// The same, memory.
        ClockMemory = 15,
        /// The same, video.
        ClockVideo = 16,
        /// `nvmlDeviceGetMaxClockInfo`, graphics, in MHz.
        MaxClockGraphics = 17,
        /// The same, multiprocessors.
        MaxClockSm = 18,
        /// The same, memory.
        MaxClockMemory = 19,
        /// The same, video.
        MaxClockVideo = 20,
        /// `nvmlDeviceGetEccMode`, current: 1 where it is on.
        EccCurrent = 21,
        /// The same, after the next reboot.
        EccPending = 22,
        /// `nvmlDeviceGetTotalEccErrors`, corrected, since the driver was loaded.
        EccCorrectedVolatile = 23,
        /// The same, uncorrected.
        EccUncorrectedVolatile = 24,
        /// The same, corrected, in the GPU's life.
        EccCorrectedAggregate = 25,
        /// The same, uncorrected, in the GPU's life.
        EccUncorrectedAggregate = 26,
        /// `nvmlDeviceGetPersistenceMode`: 1 where it is on.
        PersistenceMode = 27,
        /// `nvmlDeviceGetPerformanceState`: 0 is the fastest, 15 the slowest.
        PerformanceState = 28,
        /// `nvmlDeviceGetBrand`.
        Brand = 29,
        /// `nvmlDeviceGetBoardId`.
        BoardId = 30,
        /// `nvmlDeviceGetBAR1MemoryInfo`, total, in bytes.
        Bar1Total = 31,
        /// The same, used.
        Bar1Used = 32,
        /// `nvmlDeviceGetCurrPcieLinkGeneration`, of the host's slot.
        PcieGeneration = 33,
        /// `nvmlDeviceGetCurrPcieLinkWidth`.
        PcieWidth = 34,
        /// `nvmlDeviceGetMaxPcieLinkGeneration`.
        PcieMaxGeneration = 35,
        /// `nvmlDeviceGetMaxPcieLinkWidth`.
        PcieMaxWidth = 36,
        /// `nvmlDeviceGetCurrentClocksEventReasons`: a set of bits.
        ClocksEventReasons = 37,
        /// `nvmlDeviceGetNumGpuCores`.
        GpuCores = 38,
        /// `nvmlDeviceGetEncoderUtilization`, in percent.
        EncoderUtilization = 39,
        /// `nvmlDeviceGetDecoderUtilization`, in percent.
        DecoderUtilization = 40,
    }
}

fields! {
    /// A text that the host's NVML knows.
    NvmlText {
        /// `nvmlDeviceGetSerial`.
        Serial = 1,
        /// `nvmlDeviceGetVbiosVersion`.
        VbiosVersion = 2,
        /// `nvmlDeviceGetBoardPartNumber`.
        BoardPartNumber = 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_have_numbers_of_their_own() {
        for field in NvmlField::ALL {
            assert_eq!(NvmlField::from_wire(*field as u32), Some(*field));
        }
        for field in NvmlText::ALL {
            assert_eq!(NvmlText::from_wire(*field as u32), Some(*field));
        }
        assert_eq!(NvmlField::from_wire(0), None);
        assert_eq!(NvmlField::from_wire(9999), None);
    }

    #[test]
    fn uuids_are_written_as_nvidia_does() {
        let uuid = core::array::from_fn(|i| (i as u8) * 0x11);
        assert_eq!(uuid_text(&uuid), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }
}
