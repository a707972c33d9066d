//! The device's properties, as the command line names them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, Parser, ValueEnum};

/// What a call's life is shown with: every call, and what starts and ends.
const TRACE_FILTER: &str = "info,vgpu::call=trace";

/// The properties of the device.
#[derive(Args, Clone, Debug)]
pub struct Device {
    /// The device's vm_id, by which the mediator tells machines apart
    #[arg(long, value_name = "N", default_value_t = 111, value_parser = clap::value_parser!(u32).range(1..))]
    pub vm_id: u32,

    /// The PCI identity that the device shows
    #[arg(long, value_enum, default_value_t = Identity::H100)]
    pub identity: Identity,

    /// What computes: the host's GPU, the software GPU, or the first where there is one
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,

    /// The index or UUID of the host's GPU
    #[arg(long, value_name = "GPU")]
    pub gpu: Option<String>,

    /// Size of the data window in bytes (K, M, G may follow), a power of two [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub bar1_size: Option<u64>,

    /// Limit of device memory in bytes (K, M, G may follow) [default: the device's]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub memory: Option<u64>,

    /// How many processes may use the device at once [default: the device's]
    #[arg(long, value_name = "N")]
    pub channels: Option<u32>,

    /// Where sessions are: each in a process of its own, all in the device's, or the first with the host's GPU
    /// [default: the device's, auto]
    #[arg(long, value_enum)]
    pub isolation: Option<Isolation>,

    /// Shows the life of every call in the device and the mediator
    #[arg(long)]
    pub trace: bool,

    /// Appends the counts of calls by name to this file, one JSON line per channel
    #[arg(long, value_name = "FILE")]
    pub counters: Option<PathBuf>,
}

/// What the device looks like on the PCI bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Identity {
    /// 10de:2331, the id that CUDA software looks for
    H100,
    /// 1234:11e9, a plain experimental id
    Stub,
}

/// Where sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// In processes of their own where the host's GPU computes and that can be had
    Auto,
    /// In the device's process
    None,
    /// Each in a process of its own
    Process,
}

/// What executes kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The GPU where there is one, else the software GPU
    Auto,
    /// The host's NVIDIA driver
    Cuda,
    /// The software GPU
    Soft,
}

impl Device {
    /// Names and values of the properties. What is not said is left to the device.
    pub fn properties(&self) -> Vec<(&'static str, String)> {
        let mut properties = vec![
            ("vm_id", self.vm_id.to_string()),
            ("identity", word(self.identity)),
            ("backend", word(self.backend)),
        ];
        let others = [
            ("gpu", self.gpu.clone()),
            ("bar1-size", self.bar1_size.map(|bytes| bytes.to_string())),
            ("memory", self.memory.map(|bytes| bytes.to_string())),
            ("channels", self.channels.map(|count| count.to_string())),
            ("isolation", self.isolation.map(word)),
        ];
        properties.extend(
            others
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        properties
    }

    /// The variables that the device's process reads.
    pub fn environment(&self, command: &mut Command) -> Result<()> {
        if self.trace {
            command.env("VGPU_TRACE", TRACE_FILTER);
        }
        match &self.counters {
            Some(file) => {
                let file = std::path::absolute(file).with_context(|| file.display().to_string())?;
                command.env("VGPU_COUNTERS", file);
            }
            None => {
                command.env_remove("VGPU_COUNTERS");
            }
        }
        Ok(())
    }
}

impl Default for Device {
    /// What the command line gives when nothing is said.
    fn default() -> Self {
        #[derive(Parser)]
        struct Empty {
            #[command(flatten)]
            device: Device,
        }
        Empty::parse_from(["device"]).device
    }
}

/// The name of a value, as the device's property takes it.
fn word(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// A number of bytes: digits, and K, M, G or T for powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, last)) if last.is_ascii_alphabetic() => {
            (&text[..at], Some(last.to_ascii_uppercase()))
        }
        _ => (text, None),
    };
    let shift = match unit {
        None | Some('B') => 0,
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some(other) => return Err(format!("{other} is not one of K, M, G, T")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{digits:?} is not a number"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "more than 2^64 bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("256M"), Ok(256 << 20));
        assert_eq!(bytes("2g"), Ok(2 << 30));
        for bad in ["", "M", "1.5G", "12Q", "-1", "99999999T"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
