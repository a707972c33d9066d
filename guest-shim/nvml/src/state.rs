//! Initialisation, and the devices of this process.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DeviceInfo, stubs};
use vgpu_protocol::nvml::{NvmlField, uuid_text};
use vgpu_remote::{Library, OpenError};

use crate::abi::{self, Handle};
use crate::pci::Pci;
use crate::result::{Done, Return, of_status};

/// NVML's calls belong to no context.
pub const NO_CTX: CtxId = CtxId(0);

const SYSFS: &str = "/sys/bus/pci/devices";

/// How often nvmlInit was called more than nvmlShutdown.
static USERS: AtomicU32 = AtomicU32::new(0);

/// All that never changes, from the first successful initialisation on.
static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();

/// A device.
#[derive(Debug)]
pub struct Device {
    pub index: u32,
    pub info: DeviceInfo,
    /// As `nvidia-smi -L` prints it.
    pub uuid: String,
    pub pci: Pci,
}

impl Device {
    /// Its `nvmlDevice_t`.
    pub fn handle(&'static self) -> Handle {
        Handle(std::ptr::from_ref(self).cast())
    }

    /// A `CUdevice_attribute`.
    pub fn attribute(&self, number: i32) -> Option<i32> {
        let found = self.info.attributes.iter().find(|(n, _)| *n == number);
        found.map(|(_, value)| *value)
    }

    /// Asks the host for a number of the device.
    pub fn value(&self, field: NvmlField) -> Done<u64> {
        stubs::nvml_value(library()?, NO_CTX, field as u32).map_err(of_status)
    }

    /// A number that NVML gives in 32 bits.
    pub fn short(&self, field: NvmlField) -> Done<u32> {
        u32::try_from(self.value(field)?).map_err(|_| Return::Unknown)
    }
}

/// libcuda of this process, whose channel the calls take.
pub fn library() -> Done<&'static Library> {
    Library::open().map_err(|error| match error {
        OpenError::Missing(_) | OpenError::Foreign => Return::LibraryNotFound,
        OpenError::Version { .. } => Return::LibRmVersionMismatch,
    })
}

/// One more user. `without_gpus`: success even where there is no device.
pub fn start(without_gpus: bool) -> Done {
    match find() {
        Ok(devices) => {
            // Two threads may have looked; what they found is the same.
            DEVICES.get_or_init(|| devices);
        }
        Err(Return::DriverNotLoaded) if without_gpus => {}
        Err(error) => return Err(error),
    }
    USERS.fetch_add(1, Ordering::AcqRel);
    Ok(())
}

fn find() -> Done<Vec<Device>> {
    let library = library().inspect_err(|_| {
        if let Err(error) = Library::open() {
            eprintln!("libnvidia-ml.so.1: {error}");
        }
    })?;
    let all = || -> Result<Vec<Device>, Status> {
        library.connect()?;
        abi::cu_init()?;
        let table = stubs::device_table(library, NO_CTX)?;
        let devices = table.into_iter().enumerate().map(|(index, info)| {
            Ok(Device {
                index: index as u32,
                uuid: uuid_text(&info.uuid),
                pci: Pci::find(&abi::cu_pci_bus_id(index)?, Path::new(SYSFS)),
                info,
            })
        });
        devices.collect()
    };
    all().map_err(of_status)
}

/// One user less.
pub fn stop() -> Done {
    USERS
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |users| {
            users.checked_sub(1)
        })
        .map(|_| ())
        .map_err(|_| Return::Uninitialized)
}

/// NVML_ERROR_UNINITIALIZED before nvmlInit and after the last nvmlShutdown.
pub fn check() -> Done {
    if USERS.load(Ordering::Acquire) > 0 {
        Ok(())
    } else {
        Err(Return::Uninitialized)
    }
}

/// The devices.
pub fn devices() -> Done<&'static [Device]> {
    check()?;
    Ok(DEVICES.get().map_or(&[], Vec::as_slice))
}

/// The device of a handle.
pub fn device(handle: Handle) -> Done<&'static Device> {
    let found = devices()?.iter().find(|device| device.handle() == handle);
    found.ok_or(Return::InvalidArgument)
}

/// Puts a device in place of the host's, for tests without a host.
#[cfg(test)]
pub fn pretend() -> &'static Device {
    let devices = DEVICES.get_or_init(|| {
        vec![Device {
            index: 0,
            uuid: uuid_text(&[0x11; 16]),
            info: DeviceInfo {
                name: "a device".to_owned(),
                uuid: [0x11; 16],
                total_bytes: 1 << 30,
                attributes: vec![(75, 9), (76, 0), (37, 5120)],
                priorities: (0, 0),
            },
            pci: Pci::find("0000:00:05.0", Path::new("/nonexistent")),
        }]
    });
    USERS.fetch_max(1, Ordering::AcqRel);
    &devices[0]
}
