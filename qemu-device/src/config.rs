//! The device's properties and what they may be.

use std::path::PathBuf;

use crate::isolation::Isolation;
use vgpu_mediator::{BackendChoice, MediatorConfig};
use vgpu_protocol::layout::{Layout, LayoutError};
use vgpu_protocol::limits::{
    DEFAULT_BAR1_BYTES, DEFAULT_CHANNELS, MAX_BAR1_BYTES, MAX_CHANNELS, MIN_BAR1_BYTES,
};

/// Properties as the user wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// `vm_id`; 0 where it was not given.
    pub vm_id: u32,
    /// `identity`.
    pub identity: String,
    /// `backend`.
    pub backend: String,
    /// `gpu`; empty where it was not given.
    pub gpu: String,
    /// `bar1-size`, in bytes.
    pub bar1_size: u64,
    /// `memory`, in bytes; 0 where it was not given.
    pub memory: u64,
    /// `channels`.
    pub channels: u32,
    /// `isolation`.
    pub isolation: String,
    /// `worker`; empty where it was not given.
    pub worker: String,
}

impl Default for Properties {
    fn default() -> Properties {
        Properties {
            vm_id: 0,
            identity: "h100".to_owned(),
            backend: "auto".to_owned(),
            gpu: String::new(),
            bar1_size: DEFAULT_BAR1_BYTES,
            memory: 0,
            channels: DEFAULT_CHANNELS,
            isolation: "auto".to_owned(),
            worker: String::new(),
        }
    }
}

/// Which PCI ids the guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// 10de:2331, class 0x030200: where the guest's software looks for an H100.
    H100,
    /// A plain experimental id, class 0x00ff.
    Stub,
}

/// PCI ids of an [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciIds {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class, subclass and programming interface.
    pub class: u32,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Revision.
    pub revision: u8,
}

impl Identity {
    /// The ids that the guest sees.
    pub fn pci_ids(self) -> PciIds {
        match self {
            Identity::H100 => PciIds {
                vendor: 0x10de,
                device: 0x2331,
                class: 0x03_02_00,
                subsystem_vendor: 0x10de,
                subsystem: 0x1626,
                revision: 0xa1,
            },
            Identity::Stub => PciIds {
                vendor: 0x1234,
                device: 0x11e9,
                class: 0x00_ff_00,
                subsystem_vendor: 0x1234,
                subsystem: 0x11e9,
                revision: 0x01,
            },
        }
    }
}

/// A property with a value that is not allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No `vm_id`.
    #[error(
        "property 'vm_id' is required: give a number from 1 to 4294967295, as in -device vgpu-stub,vm_id=111"
    )]
    MissingVmId,
    /// `identity` is neither.
    #[error("property 'identity' is '{0}': allowed are 'h100' and 'stub'")]
    Identity(String),
    /// `backend` is none of them.
    #[error("property 'backend' is '{0}': allowed are 'auto', 'cuda' and 'soft'")]
    Backend(String),
    /// `isolation` is none of them.
    #[error("property 'isolation' is '{0}': allowed are 'auto', 'none' and 'process'")]
    Isolation(String),
    /// `bar1-size` is out of range.
    #[error(
        "property 'bar1-size' is {0} bytes: allowed are powers of two from {min} (16M) to {max} (64G)",
        min = MIN_BAR1_BYTES,
        max = MAX_BAR1_BYTES
    )]
    Bar1Size(u64),
    /// `channels` is out of range.
    #[error("property 'channels' is {0}: allowed are 1 to {max}", max = MAX_CHANNELS)]
    Channels(u32),
}

/// Checked properties.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which PCI ids the guest sees.
    pub identity: Identity,
    /// How BAR1 is divided.
    pub layout: Layout,
    /// What the mediator is to be.
    pub mediator: MediatorConfig,
    /// Where sessions are.
    pub isolation: Isolation,
    /// The program of worker processes, where it was named.
    pub worker: Option<PathBuf>,
    /// As the user wrote them, for worker processes.
    pub properties: Properties,
}

impl Config {
    /// Checks the properties. What only the host can tell (whether a GPU exists, how much memory
    /// it has) is checked when the device is made.
    pub fn from_properties(p: &Properties) -> Result<Config, ConfigError> {
        if p.vm_id == 0 {
            return Err(ConfigError::MissingVmId);
        }
        let identity = match p.identity.as_str() {
            "h100" => Identity::H100,
            "stub" => Identity::Stub,
            other => return Err(ConfigError::Identity(other.to_owned())),
        };
        let backend = match p.backend.as_str() {
            "auto" => BackendChoice::Auto,
            "cuda" => BackendChoice::Cuda,
            "soft" => BackendChoice::Soft,
            other => return Err(ConfigError::Backend(other.to_owned())),
        };
        let isolation = match p.isolation.as_str() {
            "auto" => Isolation::Auto,
            "none" => Isolation::None,
            "process" => Isolation::Process,
            other => return Err(ConfigError::Isolation(other.to_owned())),
        };
        let layout = Layout::new(p.bar1_size, p.channels).map_err(|error| match error {
            LayoutError::Bar1Size(bytes) => ConfigError::Bar1Size(bytes),
            LayoutError::Channels(n) => ConfigError::Channels(n),
        })?;
        Ok(Config {
            identity,
            layout,
            mediator: MediatorConfig {
                vm_id: p.vm_id,
                backend,
                gpu: (!p.gpu.is_empty()).then(|| p.gpu.clone()),
                memory_bytes: (p.memory != 0).then_some(p.memory),
                counters_file: std::env::var_os("VGPU_COUNTERS").map(PathBuf::from),
                ..MediatorConfig::default()
            },
            isolation,
            worker: (!p.worker.is_empty()).then(|| PathBuf::from(&p.worker)),
            properties: p.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Properties)) -> Result<Config, ConfigError> {
        let mut p = Properties {
            vm_id: 111,
            ..Properties::default()
        };
        change(&mut p);
        Config::from_properties(&p)
    }

    #[test]
    fn defaults_need_only_a_vm_id() {
        let config = with(|_| ()).expect("valid");
        assert_eq!(config.layout.bar1_bytes, DEFAULT_BAR1_BYTES);
        assert_eq!(config.identity, Identity::H100);
        assert_eq!(with(|p| p.vm_id = 0).err(), Some(ConfigError::MissingVmId));
        assert!(with(|p| p.vm_id = u32::MAX).is_ok());
    }

    #[test]
    fn bad_values_are_named_with_what_is_allowed() {
        let message =
            |r: Result<Config, ConfigError>| r.err().map(|e| e.to_string()).unwrap_or_default();
        let text = message(with(|p| p.identity = "a100".into()));
        assert!(
            text.contains("'identity'") && text.contains("'a100'") && text.contains("'stub'"),
            "{text}"
        );
        let text = message(with(|p| p.backend = "gpu".into()));
        assert!(
            text.contains("'backend'") && text.contains("'cuda'"),
            "{text}"
        );
        let text = message(with(|p| p.isolation = "vm".into()));
        assert!(
            text.contains("'isolation'") && text.contains("'process'"),
            "{text}"
        );
        let text = message(with(|p| p.bar1_size = 15 << 20));
        assert!(
            text.contains("'bar1-size'") && text.contains("16M"),
            "{text}"
        );
        let text = message(with(|p| p.channels = 65));
        assert!(text.contains("'channels'") && text.contains("64"), "{text}");
        assert!(with(|p| p.channels = 64).is_ok());
        assert!(with(|p| p.bar1_size = 16 << 20).is_ok());
    }
}
