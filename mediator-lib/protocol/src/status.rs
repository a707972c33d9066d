//! Result codes on the wire: CUDA's own `CUresult` numbers.
//!
//! Source: CUDA Driver API reference, "Data types used by CUDA driver", `enum CUresult`. The host
//! tests compare this list with the bindings of the driver's header.

use core::fmt;

/// A `CUresult` as a number: it crosses a trust boundary, so it is not an enum.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

macro_rules! statuses {
    ($($name:ident = $value:literal,)*) => {
        #[allow(missing_docs, reason = "the names are NVIDIA's own")]
        impl Status { $(pub const $name: Status = Status($value);)* }

        /// Each code this project produces, with its documented name.
        pub const NAMES: &[(Status, &str)] =
            &[$((Status($value), concat!("CUDA_", stringify!($name))),)*];
    };
}

statuses! {
    SUCCESS = 0,
    ERROR_INVALID_VALUE = 1,
    ERROR_OUT_OF_MEMORY = 2,
    ERROR_NOT_INITIALIZED = 3,
    ERROR_DEINITIALIZED = 4,
    ERROR_DEVICE_UNAVAILABLE = 46,
    ERROR_NO_DEVICE = 100,
    ERROR_INVALID_DEVICE = 101,
    ERROR_INVALID_IMAGE = 200,
    ERROR_INVALID_CONTEXT = 201,
    ERROR_NO_BINARY_FOR_GPU = 209,
    ERROR_UNSUPPORTED_LIMIT = 215,
    ERROR_INVALID_PTX = 218,
    ERROR_UNSUPPORTED_PTX_VERSION = 222,
    ERROR_INVALID_SOURCE = 300,
    ERROR_SHARED_OBJECT_INIT_FAILED = 303,
    ERROR_OPERATING_SYSTEM = 304,
    ERROR_INVALID_HANDLE = 400,
    ERROR_ILLEGAL_STATE = 401,
    ERROR_NOT_FOUND = 500,
    ERROR_NOT_READY = 600,
    ERROR_ILLEGAL_ADDRESS = 700,
    ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    ERROR_LAUNCH_TIMEOUT = 702,
    ERROR_CONTEXT_IS_DESTROYED = 709,
    ERROR_ASSERT = 710,
    ERROR_HARDWARE_STACK_ERROR = 714,
    ERROR_ILLEGAL_INSTRUCTION = 715,
    ERROR_MISALIGNED_ADDRESS = 716,
    ERROR_LAUNCH_FAILED = 719,
    ERROR_COOPERATIVE_LAUNCH_TOO_LARGE = 720,
    ERROR_NOT_PERMITTED = 800,
    ERROR_NOT_SUPPORTED = 801,
    ERROR_SYSTEM_DRIVER_MISMATCH = 803,
    ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    ERROR_STREAM_CAPTURE_MERGE = 902,
    ERROR_STREAM_CAPTURE_UNMATCHED = 903,
    ERROR_STREAM_CAPTURE_UNJOINED = 904,
    ERROR_STREAM_CAPTURE_ISOLATION = 905,
    ERROR_STREAM_CAPTURE_IMPLICIT = 906,
    ERROR_CAPTURED_EVENT = 907,
    ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
    ERROR_GRAPH_EXEC_UPDATE_FAILURE = 910,
    ERROR_UNKNOWN = 999,
}

impl Status {
    /// The documented name, where this project knows it.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(s, _)| *s == self).map(|(_, n)| *n)
    }

    /// `Ok` for success, else the code itself as the error.
    pub fn ok(self) -> Result<(), Status> {
        if self == Status::SUCCESS {
            Ok(())
        } else {
            Err(self)
        }
    }

    /// True for errors after which a context can only be destroyed (CUDA Driver API, `CUresult`:
    /// "This leaves the process in an inconsistent state and any further CUDA work will return
    /// the same error").
    pub fn is_sticky(self) -> bool {
        matches!(
            self,
            Status::ERROR_ILLEGAL_ADDRESS
                | Status::ERROR_LAUNCH_TIMEOUT
                | Status::ERROR_ASSERT
                | Status::ERROR_HARDWARE_STACK_ERROR
                | Status::ERROR_ILLEGAL_INSTRUCTION
                | Status::ERROR_MISALIGNED_ADDRESS
                | Status::ERROR_LAUNCH_FAILED
        ) || (self.0 >= 717 && self.0 <= 718)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "CUresult {}", self.0),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
