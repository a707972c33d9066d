//! What crosses the C ABI.
//!
//! Exports take the program's pointers as [`Out`] and [`In`]: types with the layout of a pointer
//! that only the C caller can make, whose contract (cuBLAS's) is that a pointer which is not null is
//! valid for its purpose. Device addresses come as [`Device`] and are only passed on.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vgpu_protocol::Status;
use vgpu_protocol::blas::BlasStatus;
use vgpu_protocol::calls::DevPtr;

/// Result of a call.
pub type Done<T = ()> = Result<T, BlasStatus>;

/// The result of a call with a bad argument.
pub const INVALID: BlasStatus = BlasStatus::INVALID_VALUE;

/// The library's major version: three libraries are linked from the same code, and the link step
/// makes this symbol the one of the `vgpu_cublas_major_…` below.
pub fn major() -> u32 {
    vgpu_cublas_major
}

#[cfg(not(test))]
unsafe extern "C" {
    safe static vgpu_cublas_major: u32;
}
#[cfg(test)]
#[allow(non_upper_case_globals, reason = "a C name")]
static vgpu_cublas_major: u32 = 12;

macro_rules! majors {
    ($($name:ident = $value:literal,)*) => {$(
        /// What the link step takes for one of the libraries.
        #[unsafe(no_mangle)]
        #[allow(non_upper_case_globals, reason = "a C name")]
        pub static $name: u32 = $value;
    )*};
}
majors! {
    vgpu_cublas_major_11 = 11,
    vgpu_cublas_major_12 = 12,
    vgpu_cublas_major_13 = 13,
}

/// A place for a value that the call gives.
#[repr(transparent)]
pub struct Out<T>(*mut T);

// Written out: a derive would ask the same of `T`.
impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Out<T> {}

impl<T: Copy> Out<T> {
    /// `CUBLAS_STATUS_INVALID_VALUE` where the place is null. Called before a call has effects.
    pub fn check(self) -> Done {
        if self.0.is_null() {
            Err(INVALID)
        } else {
            Ok(())
        }
    }

    /// True where no value is wanted.
    #[allow(dead_code, reason = "for cublasLt")]
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The value that is there, for arguments that go in and out.
    #[allow(dead_code, reason = "for cuBLAS")]
    pub fn get(self) -> Done<T> {
        self.check()?;
        // SAFETY: not null, so by the file's contract readable where the call documents a value.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The place as an address of the device.
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// Stores the value; the place must not be null.
    pub fn set(self, value: T) -> Done {
        self.check()?;
        // SAFETY: not null, so by the file's contract valid for a write; C promises no alignment that
        // Rust would need.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }
}

#[allow(dead_code, reason = "each is for one of the libraries")]
impl Out<u8> {
    /// The same place, for a value of so many bytes.
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// Stores bytes; the place must not be null.
    pub fn fill(self, bytes: &[u8]) -> Done {
        self.check()?;
        // SAFETY: not null, so by the file's contract valid for so many bytes as the program said that
        // it takes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0, bytes.len()) };
        Ok(())
    }
}

/// Values that the program gives, in its own memory or, with `CUBLAS_POINTER_MODE_DEVICE`, the
/// device's.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    /// True if the program gives none.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// As an address of the device.
    pub fn device(self) -> DevPtr {
        DevPtr(self.0 as u64)
    }
}

#[allow(dead_code, reason = "for cuBLAS")]
impl<T: Copy> In<T> {
    /// The value at an index of an array in the program's memory.
    pub fn at(self, index: usize) -> Done<T> {
        if self.0.is_null() {
            return Err(INVALID);
        }
        // SAFETY: not null, so by the file's contract an array of as many elements as the call's
        // documentation says.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
}

impl In<u8> {
    /// So many bytes further; null stays null.
    pub fn offset(self, bytes: usize) -> In<u8> {
        if self.is_null() {
            return self;
        }
        In(self.0.wrapping_add(bytes))
    }

    /// The first `bytes` bytes, at most 16.
    pub fn bytes(self, bytes: usize) -> Done<[u8; 16]> {
        if self.is_null() || bytes > 16 {
            return Err(INVALID);
        }
        let mut value = [0; 16];
        // SAFETY: not null, so by the file's contract readable for the scalar's bytes, which fit.
        unsafe { std::ptr::copy_nonoverlapping(self.0, value.as_mut_ptr(), bytes) };
        Ok(value)
    }
}

/// An address in device memory.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Device(u64);

impl Device {
    /// By its number.
    #[allow(dead_code, reason = "for cublasLt")]
    pub fn at(address: u64) -> Device {
        Device(address)
    }

    /// As the host's calls take it.
    pub fn ptr(self) -> DevPtr {
        DevPtr(self.0)
    }
}

/// Memory of the program that is only named to libcuda.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct HostPtr(usize);

impl HostPtr {
    /// Its address.
    pub fn address(self) -> usize {
        self.0
    }
}

/// A text that lives as long as the library, as C sees it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct StaticText(*const c_char);

impl StaticText {
    /// A text with its NUL.
    pub fn of(text: &'static std::ffi::CStr) -> StaticText {
        StaticText(text.as_ptr())
    }
}

/// Runs the body of an export. No panic may cross the ABI.
pub fn guard(name: &str, body: impl FnOnce() -> Done) -> u32 {
    let status = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => BlasStatus::SUCCESS.0,
        Ok(Err(status)) => status.0,
        Err(_) => {
            crate::channel::log(&format!("{name}: internal error"));
            BlasStatus::INTERNAL_ERROR.0
        }
    };
    crate::library::returned(name, status);
    status
}

/// What cuBLAS makes of an error of the driver.
pub fn of_driver(status: Status) -> BlasStatus {
    match status {
        Status::ERROR_INVALID_VALUE | Status::ERROR_INVALID_HANDLE => BlasStatus::INVALID_VALUE,
        Status::ERROR_OUT_OF_MEMORY => BlasStatus::ALLOC_FAILED,
        Status::ERROR_NOT_SUPPORTED => BlasStatus::NOT_SUPPORTED,
        Status::ERROR_NOT_INITIALIZED
        | Status::ERROR_DEINITIALIZED
        | Status::ERROR_NO_DEVICE
        | Status::ERROR_INVALID_CONTEXT
        | Status::ERROR_DEVICE_UNAVAILABLE
        | Status::ERROR_SYSTEM_DRIVER_MISMATCH => BlasStatus::NOT_INITIALIZED,
        _ => BlasStatus::EXECUTION_FAILED,
    }
}

/// Defines exports. `fn name(arguments) { body }`: the body gives a [`Done`]. With
/// `fn name | twin [Int] (…)` there is a second export of the same body, in whose arguments `Int` is
/// `i64` instead of `i32`.
macro_rules! exports {
    () => {};
    (
        $(#[$meta:meta])* fn $name:ident | $twin:ident [$int:ident] ($($args:tt)*) $body:block
        $($rest:tt)*
    ) => {
        const _: () = {
            type $int = i32;
            $crate::abi::export!($(#[$meta])* $name ($($args)*) $body);
        };
        const _: () = {
            type $int = i64;
            $crate::abi::export!($(#[$meta])* $twin ($($args)*) $body);
        };
        $crate::abi::exports!($($rest)*);
    };
    ($(#[$meta:meta])* fn $name:ident ($($args:tt)*) $body:block $($rest:tt)*) => {
        $crate::abi::export!($(#[$meta])* $name ($($args)*) $body);
        $crate::abi::exports!($($rest)*);
    };
}

/// Defines one export.
macro_rules! export {
    ($(#[$meta:meta])* $name:ident ($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(unsafe_code, reason = "a symbol's name is unsafe to choose; these are libcublas's")]
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        #[allow(clippy::too_many_arguments, reason = "the arguments are cuBLAS's")]
        #[allow(clippy::useless_conversion, reason = "one body for two integer types")]
        pub extern "C" fn $name($($arg: $ty),*) -> u32 {
            $crate::abi::guard(stringify!($name), move || $body)
        }
    };
}

pub(crate) use {export, exports};
