//! How many devices there are, and their handles.

use std::ffi::c_char;

use crate::abi::{Handle, Out, Text, exports};
use crate::pci;
use crate::result::{Done, Return};
use crate::state::{self, Device};
use crate::structs::{Uuid, version};

/// `nvmlUUIDType_t`.
const ASCII: u32 = 1;
const BINARY: u32 = 2;

fn give(device: Option<&'static Device>, out: Out<Handle>, missing: Return) -> Done {
    out.set(device.ok_or(missing)?.handle())
}

fn by(out: Out<Handle>, is: impl Fn(&Device) -> bool) -> Done {
    let found = state::devices()?.iter().find(|device| is(device));
    give(found, out, Return::NotFound)
}

exports! {
    /// The number of devices.
    fn nvmlDeviceGetCount | nvmlDeviceGetCount_v2(count: Out<u32>) {
        let devices = state::devices()?;
        count.set(devices.len() as u32)
    }

    /// The device with this index.
    fn nvmlDeviceGetHandleByIndex | nvmlDeviceGetHandleByIndex_v2(index: u32, out: Out<Handle>) {
        let devices = state::devices()?;
        out.check()?;
        give(devices.get(index as usize), out, Return::InvalidArgument)
    }

    /// The device with this UUID, `GPU-…`.
    fn nvmlDeviceGetHandleByUUID(uuid: Text, out: Out<Handle>) {
        state::check()?;
        out.check()?;
        let uuid = uuid.str()?;
        by(out, |device| device.uuid.eq_ignore_ascii_case(uuid))
    }

    /// The device with this UUID, as text or as bytes.
    fn nvmlDeviceGetHandleByUUIDV(uuid: Out<Uuid>, out: Out<Handle>) {
        state::check()?;
        out.check()?;
        if uuid.version().get()? != version::<Uuid>(1) {
            return Err(Return::ArgumentVersionMismatch);
        }
        let uuid = uuid.get()?;
        match uuid.kind {
            ASCII => by(out, |device| {
                let text = device.uuid.as_bytes();
                uuid.value.starts_with(text) && uuid.value.get(text.len()) == Some(&0)
            }),
            BINARY => by(out, |device| uuid.value.starts_with(&device.info.uuid)),
            _ => Err(Return::InvalidArgument),
        }
    }

    /// The device with this serial number.
    fn nvmlDeviceGetHandleBySerial(serial: Text, out: Out<Handle>) {
        state::check()?;
        out.check()?;
        let wanted = serial.str()?;
        by(out, |device| crate::identity::serial(device).is_ok_and(|is| is == wanted))
    }

    /// The device at a place on the guest's PCI bus.
    fn nvmlDeviceGetHandleByPciBusId | nvmlDeviceGetHandleByPciBusId_v2(address: Text, out: Out<Handle>) {
        state::check()?;
        out.check()?;
        let wanted = pci::parse(address.str()?).ok_or(Return::InvalidArgument)?;
        by(out, |device| {
            (device.pci.domain, device.pci.bus, device.pci.device) == wanted
        })
    }

    /// The device's index.
    fn nvmlDeviceGetIndex(device: Handle, index: Out<u32>) {
        index.set(state::device(device)?.index)
    }

    /// The number of the device's node among those of NVIDIA's driver; as the index.
    fn nvmlDeviceGetMinorNumber(device: Handle, number: Out<u32>) {
        number.set(state::device(device)?.index)
    }

    /// The device's UUID.
    fn nvmlDeviceGetUUID(device: Handle, text: Out<c_char>, length: u32) {
        text.set_text(&state::device(device)?.uuid, length)
    }
}
