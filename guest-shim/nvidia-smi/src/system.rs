//! What holds for all devices.

use crate::nvml::{Done, Nvml, now};

/// Versions and the time of one output.
#[derive(Clone, Debug)]
pub struct System {
    pub driver: String,
    pub nvml: String,
    /// `13.0`.
    pub cuda: String,
    /// As `asctime` writes it.
    pub time: String,
    /// `2026/11/20 09:15:34.123`.
    pub timestamp: String,
}

impl System {
    /// Asks for it.
    pub fn ask(nvml: &Nvml) -> Done<System> {
        let version = nvml.cuda_version()?;
        let (time, timestamp) = now();
        // A host without NVML does not know its driver's name.
        let or_na = |text: Done<String>| text.unwrap_or_else(|_| "N/A".to_owned());
        Ok(System {
            driver: or_na(nvml.system_text("nvmlSystemGetDriverVersion")),
            nvml: or_na(nvml.system_text("nvmlSystemGetNVMLVersion")),
            cuda: format!("{}.{}", version / 1000, version % 1000 / 10),
            time,
            timestamp,
        })
    }

    /// `--version`.
    pub fn versions(&self) -> String {
        // NVML's own version begins with the CUDA version's first number.
        let nvml = self.nvml.split_once('.').map_or("N/A", |(_, rest)| rest);
        let nvml: Vec<&str> = nvml.split('.').take(2).collect();
        format!(
            "NVIDIA-SMI version  : {} (vgpu-stub {})\n\
             NVML version        : {}\n\
             DRIVER version      : {}\n\
             CUDA Version        : {}\n",
            self.driver,
            env!("CARGO_PKG_VERSION"),
            nvml.join("."),
            self.driver,
            self.cuda
        )
    }
}

#[cfg(test)]
impl System {
    /// One for the tests of what is printed.
    pub fn sample() -> System {
        System {
            driver: "580.65.06".to_owned(),
            nvml: "13.580.65.06".to_owned(),
            cuda: "13.0".to_owned(),
            time: "Fri Nov 20 09:15:34 2026".to_owned(),
            timestamp: "2026/11/20 09:15:34.123".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_as_scripts_read_them() {
        let text = System::sample().versions();
        assert!(text.contains("NVML version        : 580.65\n"), "{text}");
        assert!(text.contains("DRIVER version      : 580.65.06\n"), "{text}");
        assert!(text.contains("CUDA Version        : 13.0\n"), "{text}");
    }
}
