//! Initialisation and devices.

use std::ffi::{c_char, c_int, c_uint};

use cudarc::driver::sys::{CUdevice, CUuuid};

use crate::state::{INVALID_VALUE, State, call};

const INVALID_DEVICE: u32 = 101;

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> u32 {
    call("cuInit", |s| {
        s.initialized = true;
        if flags == 0 {
            Ok(())
        } else {
            Err(INVALID_VALUE)
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> u32 {
    call("cuDriverGetVersion", |s| {
        // SAFETY: NVIDIA's contract.
        unsafe { *version = s.conf.version.unwrap_or(13_000) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> u32 {
    call("cuDeviceGetCount", |s| {
        // SAFETY: NVIDIA's contract.
        unsafe { *count = s.conf.devices.unwrap_or(1) };
        Ok(())
    })
}

fn check(s: &State, device: CUdevice) -> Result<(), u32> {
    // Numbers of devices are not their indices here: a caller that mixes them is found out.
    if (100..100 + s.conf.devices.unwrap_or(1)).contains(&device) {
        Ok(())
    } else {
        Err(INVALID_DEVICE)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> u32 {
    call("cuDeviceGet", |s| {
        check(s, 100 + ordinal)?;
        // SAFETY: NVIDIA's contract.
        unsafe { *device = 100 + ordinal };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, bytes: c_int, device: CUdevice) -> u32 {
    call("cuDeviceGetName", |s| {
        check(s, device)?;
        let text = format!("Fake GPU {}", device - 100);
        let room = usize::try_from(bytes).map_err(|_| INVALID_VALUE)?;
        let text = &text.as_bytes()[..text.len().min(room.saturating_sub(1))];
        // SAFETY: NVIDIA's contract: room for `bytes` bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.len());
            *name.add(text.len()) = 0;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice) -> u32 {
    call("cuDeviceGetUuid_v2", |s| {
        check(s, device)?;
        let mut bytes = [0x0f; 16];
        bytes[15] = (device - 100) as c_char;
        // SAFETY: NVIDIA's contract.
        unsafe { *uuid = CUuuid { bytes } };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice) -> u32 {
    call("cuDeviceTotalMem_v2", |s| {
        check(s, device)?;
        // SAFETY: NVIDIA's contract.
        unsafe { *bytes = s.memory_limit() as usize };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: c_uint,
    device: CUdevice,
) -> u32 {
    call("cuDeviceGetAttribute", |s| {
        check(s, device)?;
        let known = match attribute {
            16 => 132,    // multiprocessors
            39 => 2048,   // threads of each
            75 => 9,      // compute capability
            83 | 95 => 1, // managed memory, cooperative launch
            1..=140 => 0,
            _ => return Err(INVALID_VALUE),
        };
        // SAFETY: NVIDIA's contract.
        unsafe { *value = s.conf.attributes.get(&attribute).copied().unwrap_or(known) };
        Ok(())
    })
}
