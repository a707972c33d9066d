//! Why there is no connection, in words that lead to the fix.

use std::io;
use std::path::PathBuf;

use vgpu_protocol::Status;

/// A failure to find the device or to claim a channel.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No function on the PCI bus is the device.
    #[error(
        "no vgpu-stub device on the PCI bus (looked in {place} for 10de:2331 class 0x030200 and \
         1234:11e9 class 0x00ff): start QEMU with -device vgpu-stub,vm_id=N"
    )]
    NoDevice {
        /// The directory that was read.
        place: PathBuf,
    },
    /// `VGPU_DEVICE` names something else.
    #[error("VGPU_DEVICE={wanted}: no vgpu-stub device has this address; found: {found}")]
    NotThatDevice {
        /// The value of `VGPU_DEVICE`.
        wanted: String,
        /// The addresses of the devices that are there.
        found: String,
    },
    /// A resource file may not be opened.
    #[error(
        "no permission to open {path}: be a member of the file's group (render, which 60-vgpu-stub.rules gives it to; a \
         service needs SupplementaryGroups=render), or, where the file is root's alone, install that rule in \
         /etc/udev/rules.d and run 'udevadm control --reload && udevadm trigger'"
    )]
    Permission {
        /// The file.
        path: PathBuf,
    },
    /// mmap gave EPERM.
    #[error(
        "the kernel does not allow {path} to be mapped: it is locked down (Secure Boot); see \
         /sys/kernel/security/lockdown, or boot the guest without Secure Boot"
    )]
    Lockdown {
        /// The file.
        path: PathBuf,
    },
    /// The device does not answer because memory decoding is off in its command register.
    #[error(
        "{address}: the device's memory is not enabled: run 'echo 1 > \
         /sys/bus/pci/devices/{address}/enable' as root, or install 60-vgpu-stub.rules"
    )]
    MemoryDisabled {
        /// The PCI address.
        address: String,
    },
    /// Another system call failed.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        error: io::Error,
    },
    /// The register that says what the device is reads wrongly.
    #[error("{device}: MAGIC reads {found:#010x}, expected {expected:#010x}: not a vgpu-stub")]
    Magic {
        /// The device.
        device: String,
        /// What was read.
        found: u32,
        /// What a vgpu-stub has.
        expected: u32,
    },
    /// Registers and layout are of another major version.
    #[error(
        "the device speaks ABI {}.{}, this library {}.{}: use shims and QEMU of the same build",
        device >> 16, device & 0xffff, library >> 16, library & 0xffff
    )]
    AbiVersion {
        /// The device's version.
        device: u32,
        /// This library's.
        library: u32,
    },
    /// The call tables differ.
    #[error(
        "the device's protocol hash is {device:#018x}, this library's {library:#018x}: use shims \
         and QEMU of the same build"
    )]
    ProtocolHash {
        /// The device's hash.
        device: u64,
        /// This library's.
        library: u64,
    },
    /// The device says that it is broken.
    #[error("the device stopped after an internal error (STATUS {status:#x}): see QEMU's log")]
    Broken {
        /// The status register.
        status: u32,
    },
    /// The device did not become ready in time.
    #[error("the device is not ready after {seconds} s (STATUS {status:#x}): see QEMU's log")]
    NotReady {
        /// The status register.
        status: u32,
        /// How long it was given.
        seconds: u64,
    },
    /// Every channel has a living owner.
    #[error("no free channel: {channels} of {channels} are in use (-device vgpu-stub,channels=N)")]
    NoFreeChannel {
        /// Number of channels.
        channels: u32,
    },
    /// A channel did not follow a command in time.
    #[error("channel {channel} stays in state {state} (fault {fault})")]
    ChannelStuck {
        /// Its number.
        channel: u32,
        /// The state register.
        state: u32,
        /// The fault register.
        fault: u32,
    },
    /// The device shows numbers of which no layout can be made.
    #[error("the device shows an impossible layout: {0}")]
    Layout(String),
    /// A call of the connection itself failed.
    #[error("the device refused the connection: {0}")]
    Refused(Status),
}

impl ConnectError {
    /// Names what was tried when a system call failed.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> ConnectError {
        let what = what.into();
        move |error| ConnectError::Io { what, error }
    }

    /// What `cuInit` returns for it.
    pub fn status(&self) -> Status {
        /// `CUDA_ERROR_SYSTEM_NOT_READY`.
        const SYSTEM_NOT_READY: Status = Status(802);
        match self {
            ConnectError::NoDevice { .. } | ConnectError::NotThatDevice { .. } => {
                Status::ERROR_NO_DEVICE
            }
            ConnectError::Permission { .. }
            | ConnectError::Lockdown { .. }
            | ConnectError::MemoryDisabled { .. }
            | ConnectError::Io { .. } => Status::ERROR_OPERATING_SYSTEM,
            ConnectError::Magic { .. }
            | ConnectError::AbiVersion { .. }
            | ConnectError::ProtocolHash { .. }
            | ConnectError::Layout(_) => Status::ERROR_SYSTEM_DRIVER_MISMATCH,
            ConnectError::NotReady { .. } => SYSTEM_NOT_READY,
            ConnectError::Broken { .. }
            | ConnectError::NoFreeChannel { .. }
            | ConnectError::ChannelStuck { .. } => Status::ERROR_DEVICE_UNAVAILABLE,
            ConnectError::Refused(status) => *status,
        }
    }
}
