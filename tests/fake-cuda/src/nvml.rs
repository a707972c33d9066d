//! A few functions of NVML, in the same file: `libnvidia-ml.so.1` is another library of the same driver.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// GPU 0's UUID, as `cuDeviceGetUuid_v2` gives it.
const UUID: &str = "GPU-0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f00";

const NOT_SUPPORTED: c_int = 3;
const NOT_FOUND: c_int = 6;

static DEVICE: u32 = 0;

fn handle() -> *mut c_void {
    (&raw const DEVICE).cast_mut().cast()
}

fn check(device: *mut c_void) {
    if device != handle() {
        eprintln!("fake NVML: a handle that was not given out");
        std::process::abort();
    }
}

fn put(text: &str, to: *mut c_char, bytes: c_uint) -> c_int {
    assert!(text.len() < bytes as usize);
    // SAFETY: NVIDIA's contract: room for `bytes` bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        *to.add(text.len()) = 0;
    }
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_int {
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: *const c_char,
    device: *mut *mut c_void,
) -> c_int {
    // SAFETY: NVIDIA's contract: a text that ends with a NUL.
    if unsafe { CStr::from_ptr(uuid) }.to_str() != Ok(UUID) {
        return NOT_FOUND;
    }
    // SAFETY: NVIDIA's contract: a place for the handle.
    unsafe { *device = handle() };
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, bytes: c_uint) -> c_int {
    put("575.51.03", text, bytes)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetNVMLVersion(text: *mut c_char, bytes: c_uint) -> c_int {
    put("12.575.51.03", text, bytes)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSerial(
    device: *mut c_void,
    text: *mut c_char,
    bytes: c_uint,
) -> c_int {
    check(device);
    put("1650123456789", text, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: *mut c_void,
    sensor: c_uint,
    value: *mut c_uint,
) -> c_int {
    check(device);
    // SAFETY: NVIDIA's contract: a place for the number.
    unsafe { *value = 41 + sensor };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: *mut c_void, value: *mut c_uint) -> c_int {
    check(device);
    // SAFETY: NVIDIA's contract: a place for the number.
    unsafe { *value = 72_500 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: *mut c_void,
    rates: *mut [c_uint; 2],
) -> c_int {
    check(device);
    // SAFETY: NVIDIA's contract: a place for both numbers.
    unsafe { *rates = [37, 12] };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(
    device: *mut c_void,
    least: *mut c_uint,
    greatest: *mut c_uint,
) -> c_int {
    check(device);
    // SAFETY: NVIDIA's contract: places for both numbers.
    unsafe {
        *least = 200_000;
        *greatest = 700_000;
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: *mut c_void,
    kind: c_uint,
    counter: c_uint,
    value: *mut u64,
) -> c_int {
    check(device);
    // SAFETY: NVIDIA's contract: a place for the number.
    unsafe { *value = u64::from(10 * kind + counter) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetBAR1MemoryInfo(
    device: *mut c_void,
    memory: *mut [u64; 3],
) -> c_int {
    check(device);
    // SAFETY: NVIDIA's contract: a place for the three numbers.
    unsafe { *memory = [1 << 37, (1 << 37) - 4096, 4096] };
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetBoardId(device: *mut c_void, _: *mut c_uint) -> c_int {
    check(device);
    NOT_SUPPORTED
}
