//! Defining exports, and what else of the C ABI is the runtime's own.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use vgpu_abi::{Done, Global, Host, INVALID, In, Out, Text, Zero, local};
use vgpu_protocol::Status;

use crate::module::FatBinary;

/// CUDA's major version that this library stands for. Three libraries are linked from the same
/// code: `cargo xtask shims` makes this symbol the one of the `vgpu_cudart_major_…` below.
pub fn major() -> u32 {
    vgpu_cudart_major
}

#[cfg(not(test))]
unsafe extern "C" {
    safe static vgpu_cudart_major: u32;
}
#[cfg(test)]
#[allow(non_upper_case_globals, reason = "a C name")]
static vgpu_cudart_major: u32 = 12;

macro_rules! majors {
    ($($name:ident = $value:literal,)*) => {$(
        /// What the link step takes for one of the libraries.
        #[unsafe(no_mangle)]
        #[allow(non_upper_case_globals, reason = "a C name")]
        pub static $name: u32 = $value;
    )*};
}
majors! {
    vgpu_cudart_major_11 = 11,
    vgpu_cudart_major_12 = 12,
    vgpu_cudart_major_13 = 13,
}

thread_local! {
    static LAST_ERROR: Cell<u32> = const { Cell::new(0) };
}

/// The thread's last error, which stays.
pub fn last_error() -> u32 {
    LAST_ERROR.get()
}

/// The thread's last error, which is forgotten.
pub fn take_last_error() -> u32 {
    LAST_ERROR.replace(0)
}

/// Ends a call: an error is kept for cudaGetLastError.
pub fn finish(result: Done) -> u32 {
    match result {
        Ok(()) => 0,
        Err(status) => {
            let error = crate::error::of_driver(status);
            LAST_ERROR.set(error);
            error
        }
    }
}

/// Runs the body of an export. No panic may cross the ABI.
pub fn guard(name: &str, body: impl FnOnce() -> Done) -> u32 {
    finish(catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        vgpu_transport::log::line(format_args!("{name}: internal error"));
        Err(Status::ERROR_UNKNOWN)
    }))
}

/// Runs the body of an export that returns something else than an error; `otherwise` stands for
/// what a panic left open.
pub fn guard_value<T>(name: &str, otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        vgpu_transport::log::line(format_args!("{name}: internal error"));
        otherwise
    })
}

/// Defines exports. `fn name(arguments) { body }`: the body gives a [`Done`], whose error becomes
/// the thread's last one. `fn name | twin [zero] (…)` makes a second export of the same body, in
/// which `zero` is [`Zero::PerThread`] instead of [`Zero::Legacy`]. `fn name(…) -> T = other { … }`
/// returns a `T`, and `other` if the body fails to.
macro_rules! exports {
    () => {};
    (
        $(#[$meta:meta])* fn $name:ident | $twin:ident [$zero:ident] ($($args:tt)*) $body:block
        $($rest:tt)*
    ) => {
        $crate::abi::export!($(#[$meta])* $name ($($args)*) {
            #[allow(clippy::no_effect_underscore_binding, reason = "not all twins differ")]
            let $zero = $crate::abi::Zero::Legacy;
            $body
        });
        $crate::abi::export!($(#[$meta])* $twin ($($args)*) {
            #[allow(clippy::no_effect_underscore_binding, reason = "not all twins differ")]
            let $zero = $crate::abi::Zero::PerThread;
            $body
        });
        $crate::abi::exports!($($rest)*);
    };
    (
        $(#[$meta:meta])* fn $name:ident ($($arg:ident: $ty:ty),* $(,)?) -> $out:ty = $other:expr, $body:block
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(unsafe_code, reason = "a symbol's name is unsafe to choose; these are libcudart's")]
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub extern "C" fn $name($($arg: $ty),*) -> $out {
            $crate::abi::guard_value(stringify!($name), $other, move || $body)
        }
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
        #[allow(unsafe_code, reason = "a symbol's name is unsafe to choose; these are libcudart's")]
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub extern "C" fn $name($($arg: $ty),*) -> u32 {
            $crate::abi::guard(stringify!($name), move || $body)
        }
    };
}

pub(crate) use {export, exports};

/// The handle of a fat binary that registration gave out.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Binary(*const FatBinary);

impl Binary {
    /// The fat binary; `None` for null.
    pub fn get(self) -> Option<&'static FatBinary> {
        // SAFETY: null, or what `__cudaRegisterFatBinary` gave out, which lives for ever.
        unsafe { self.0.as_ref() }
    }
}

/// Has a function called when the process ends, and another in a child of fork.
pub fn at_exit_and_fork(exit: extern "C" fn(), child: extern "C" fn()) {
    // SAFETY: both are functions of this library. The C library ties them to it: it calls the first
    // and forgets the second when this library is unloaded. There is nothing to do where they
    // cannot be registered.
    unsafe {
        libc::atexit(exit);
        libc::pthread_atfork(None, None, Some(child));
    }
}

/// The handle that a call stores in the place that it is given.
pub fn handle<T>(call: impl FnOnce(Out<*mut T>) -> Done) -> Done<*mut T> {
    local(|place: Out<usize>| call(place.cast())).map(|handle| handle as *mut T)
}

/// The name that an opaque C string has for this library, as a C pointer.
pub fn c_text(text: &'static std::ffi::CStr) -> *const c_char {
    text.as_ptr()
}

/// Address of a function or a variable of the program, by which it is known here.
pub fn key(address: *const c_void) -> usize {
    address as usize
}
