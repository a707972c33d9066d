//! `nvmlReturn_t`.

use std::ffi::CStr;

use vgpu_protocol::Status;

/// A result of NVML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(dead_code, reason = "the whole of nvml.h's enumeration")]
pub enum Return {
    Success = 0,
    Uninitialized = 1,
    InvalidArgument = 2,
    NotSupported = 3,
    NoPermission = 4,
    AlreadyInitialized = 5,
    NotFound = 6,
    InsufficientSize = 7,
    InsufficientPower = 8,
    DriverNotLoaded = 9,
    Timeout = 10,
    IrqIssue = 11,
    LibraryNotFound = 12,
    FunctionNotFound = 13,
    CorruptedInforom = 14,
    GpuIsLost = 15,
    ResetRequired = 16,
    OperatingSystem = 17,
    LibRmVersionMismatch = 18,
    InUse = 19,
    Memory = 20,
    NoData = 21,
    VgpuEccNotSupported = 22,
    InsufficientResources = 23,
    FreqNotSupported = 24,
    ArgumentVersionMismatch = 25,
    Deprecated = 26,
    NotReady = 27,
    GpuNotFound = 28,
    InvalidState = 29,
    ResetTypeNotSupported = 30,
    Unknown = 999,
}

/// Result of a call.
pub type Done<T = ()> = Result<T, Return>;

/// What a failed call of the channel or of libcuda means to a caller of NVML.
pub fn of_status(status: Status) -> Return {
    match status {
        Status::ERROR_NO_DEVICE => Return::DriverNotLoaded,
        Status::ERROR_NOT_SUPPORTED => Return::NotSupported,
        Status::ERROR_NOT_PERMITTED | Status::ERROR_OPERATING_SYSTEM => Return::NoPermission,
        Status::ERROR_NOT_FOUND => Return::NotFound,
        Status::ERROR_SYSTEM_DRIVER_MISMATCH => Return::LibRmVersionMismatch,
        Status::ERROR_DEVICE_UNAVAILABLE | Status::ERROR_DEINITIALIZED => Return::GpuIsLost,
        Status::ERROR_OUT_OF_MEMORY => Return::Memory,
        _ => Return::Unknown,
    }
}

/// The texts of nvmlErrorString.
pub fn text(result: i32) -> &'static CStr {
    match result {
        0 => c"The operation was successful",
        1 => c"NVML was not first initialized with nvmlInit()",
        2 => c"A supplied argument is invalid",
        3 => c"The requested operation is not available on target device",
        4 => c"The current user does not have permission for operation",
        5 => c"NVML has already been initialized",
        6 => c"A query to find an object was unsuccessful",
        7 => c"An input argument is not large enough",
        8 => c"A device's external power cables are not properly attached",
        9 => c"The vgpu-stub device was not found: start the VM with -device vgpu-stub",
        10 => c"The supplied timeout passed",
        11 => c"The device's interrupts do not work",
        12 => c"vgpu-stub's libcuda.so.1 couldn't be found or loaded",
        13 => c"Local version of NVML doesn't implement this function",
        14 => c"The infoROM is corrupted",
        15 => c"The device has become inaccessible",
        16 => c"The device requires a reset before it can be used again",
        17 => c"The device has been blocked by the operating system",
        18 => c"Guest package and host are of different builds",
        19 => c"The device is in use",
        20 => c"Insufficient memory",
        21 => c"No data",
        22 => c"The operation is not available with ECC enabled",
        23 => c"Insufficient resources",
        24 => c"The clock frequency is not supported",
        25 => c"The version of the argument is not supported",
        26 => c"The operation is deprecated",
        27 => c"The system is not ready for the request",
        28 => c"No GPUs were found",
        29 => c"The resource is not in the state that the operation needs",
        30 => c"The type of reset is not supported",
        _ => c"An unknown error",
    }
}
