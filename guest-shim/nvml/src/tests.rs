//! What needs no host: arguments, handles, sizes. `cargo xtask test` runs the whole against a device.

use std::ffi::{CStr, c_char};

use crate::abi::{Handle, Out, Text, nvmlErrorString};
use crate::device::{
    nvmlDeviceGetCount, nvmlDeviceGetHandleByPciBusId_v2, nvmlDeviceGetHandleByUUIDV,
};
use crate::device::{nvmlDeviceGetHandleByIndex_v2, nvmlDeviceGetHandleByUUID, nvmlDeviceGetUUID};
use crate::identity::{nvmlDeviceGetName, nvmlDeviceGetPciInfo_v3};
use crate::init::nvmlInitWithFlags;
use crate::memory::nvmlDeviceGetMemoryInfo_v2;
use crate::result::Return;
use crate::sensors::{nvmlDeviceGetClockInfo, nvmlDeviceGetTemperature};
use crate::state;
use crate::structs::{MemoryV2, PciInfo, Uuid, version};
use crate::unsupported;

const INVALID: i32 = Return::InvalidArgument as i32;

fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes
        .iter()
        .map(|c| *c as u8)
        .take_while(|c| *c != 0)
        .collect();
    String::from_utf8(bytes).expect("text")
}

#[test]
fn devices_are_found_by_index_uuid_and_place() {
    let device = state::pretend();
    let mut handle = Handle(std::ptr::null());
    let by_index = nvmlDeviceGetHandleByIndex_v2(0, Out::to(&mut handle));
    assert!(by_index == 0 && handle == device.handle());
    handle = Handle(std::ptr::null());
    let uuid = Text::to(c"GPU-11111111-1111-1111-1111-111111111111");
    let by_uuid = nvmlDeviceGetHandleByUUID(uuid, Out::to(&mut handle));
    assert!(by_uuid == 0 && handle == device.handle());
    handle = Handle(std::ptr::null());
    let place = Text::to(c"00000000:00:05.0");
    let by_place = nvmlDeviceGetHandleByPciBusId_v2(place, Out::to(&mut handle));
    assert!(by_place == 0 && handle == device.handle());
    let mut count = 9;
    assert_eq!(nvmlDeviceGetCount(Out::to(&mut count)), 0);
    assert_eq!(count, 1);
    let other = nvmlDeviceGetHandleByUUID(Text::to(c"GPU-2"), Out::to(&mut handle));
    assert_eq!(other, Return::NotFound as i32);
    assert_eq!(
        nvmlDeviceGetHandleByIndex_v2(1, Out::to(&mut handle)),
        INVALID
    );
    assert_eq!(nvmlDeviceGetHandleByIndex_v2(0, Out::null()), INVALID);
    let place = nvmlDeviceGetHandleByPciBusId_v2(Text::to(c"x"), Out::to(&mut handle));
    assert_eq!(place, INVALID);
}

#[test]
fn uuids_are_taken_as_text_and_as_bytes() {
    let device = state::pretend();
    let mut value = [0; 41];
    value[..40].copy_from_slice(device.uuid.as_bytes());
    let mut uuid = Uuid {
        version: version::<Uuid>(1),
        kind: 1,
        value,
    };
    let mut handle = Handle(std::ptr::null());
    assert_eq!(
        nvmlDeviceGetHandleByUUIDV(Out::to(&mut uuid), Out::to(&mut handle)),
        0
    );
    uuid.kind = 2;
    uuid.value[..16].copy_from_slice(&device.info.uuid);
    assert_eq!(
        nvmlDeviceGetHandleByUUIDV(Out::to(&mut uuid), Out::to(&mut handle)),
        0
    );
    uuid.kind = 3;
    assert_eq!(
        nvmlDeviceGetHandleByUUIDV(Out::to(&mut uuid), Out::to(&mut handle)),
        INVALID
    );
    uuid.version = 7;
    assert_eq!(
        nvmlDeviceGetHandleByUUIDV(Out::to(&mut uuid), Out::to(&mut handle)),
        Return::ArgumentVersionMismatch as i32
    );
}

#[test]
fn texts_need_room_for_their_nul() {
    let handle = state::pretend().handle();
    let mut place = [7 as c_char; 96];
    let first = Out::to(&mut place[0]);
    let length = "a device".len() as u32;
    let short = nvmlDeviceGetName(handle, first, length);
    assert_eq!(short, Return::InsufficientSize as i32);
    assert_eq!(place[0], 7, "nothing is written");
    assert_eq!(
        nvmlDeviceGetName(handle, Out::to(&mut place[0]), length + 1),
        0
    );
    assert_eq!(text(&place), "a device");
    assert_eq!(nvmlDeviceGetName(handle, Out::null(), 96), INVALID);
    assert_eq!(nvmlDeviceGetUUID(handle, Out::to(&mut place[0]), 96), 0);
    assert_eq!(text(&place), "GPU-11111111-1111-1111-1111-111111111111");
}

#[test]
fn handles_that_were_not_given_out_are_refused() {
    state::pretend();
    let mut place = 0;
    let forged = [0, 1, 0x1000, usize::MAX].map(|address| Handle(address as *const _));
    for handle in forged {
        assert_eq!(
            nvmlDeviceGetTemperature(handle, 0, Out::to(&mut place)),
            INVALID
        );
    }
}

#[test]
fn kinds_and_versions_are_checked_before_anything_is_asked() {
    let handle = state::pretend().handle();
    let mut place = 0;
    assert_eq!(
        nvmlDeviceGetTemperature(handle, 1, Out::to(&mut place)),
        INVALID
    );
    assert_eq!(
        nvmlDeviceGetClockInfo(handle, 4, Out::to(&mut place)),
        INVALID
    );
    assert_eq!(nvmlInitWithFlags(8), INVALID);
    let mut memory = MemoryV2 {
        version: 2,
        total: 0,
        reserved: 0,
        free: 0,
        used: 0,
    };
    assert_eq!(
        nvmlDeviceGetMemoryInfo_v2(handle, Out::to(&mut memory)),
        Return::ArgumentVersionMismatch as i32
    );
}

#[test]
fn place_on_the_bus_is_written_as_nvidia_does() {
    let handle = state::pretend().handle();
    let mut info = PciInfo {
        bus_id_legacy: [1; 16],
        domain: 9,
        bus: 9,
        device: 9,
        pci_device_id: 0,
        pci_subsystem_id: 0,
        bus_id: [1; 32],
    };
    assert_eq!(nvmlDeviceGetPciInfo_v3(handle, Out::to(&mut info)), 0);
    assert_eq!(text(&info.bus_id), "00000000:00:05.0");
    assert_eq!(text(&info.bus_id_legacy), "0000:00:05.0");
    assert_eq!((info.domain, info.bus, info.device), (0, 0, 5));
}

#[test]
fn every_other_name_says_not_supported() {
    state::pretend();
    assert!(unsupported::EXPORTS.len() > 200);
    for (name, function) in unsupported::EXPORTS {
        assert_eq!(function(), Return::NotSupported as i32, "{name}");
    }
}

#[test]
fn every_result_has_a_text() {
    for result in (0..=30).chain([999, -1]) {
        let at = nvmlErrorString(result);
        assert!(!at.is_null());
        // SAFETY: a static string of ours.
        #[allow(unsafe_code, reason = "reads what a C caller gets")]
        let text = unsafe { CStr::from_ptr(at) };
        assert!(text.to_bytes().len() > 5, "{result}");
    }
}
