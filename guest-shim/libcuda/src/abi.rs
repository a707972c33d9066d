//! What crosses the C ABI.
//!
//! The types of pointers come from `vgpu-abi`; their contract is the CUDA Driver API's.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use vgpu_abi::{Done, Global, Host, INVALID, In, Out, Text, Zero};
use vgpu_protocol::Status;

/// `CUoccupancyB2DSize`: gives the dynamic shared memory that a block of so many threads needs.
pub type BlockToShared = Option<unsafe extern "C" fn(i32) -> usize>;

/// Calls the program's function; without one, the size is `fixed`.
pub fn shared_bytes(of: BlockToShared, threads: i32, fixed: usize) -> usize {
    match of {
        // SAFETY: a function of the program with this signature, by the file's contract.
        Some(of) => unsafe { of(threads) },
        None => fixed,
    }
}

/// `CUhostFn`: a function of the program. Null is `None` of an option of it.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq)]
#[allow(
    unpredictable_function_pointer_comparisons,
    reason = "a difference is no error"
)]
pub struct Function(unsafe extern "C" fn(*mut c_void));

impl Function {
    /// Calls it.
    pub fn call(self, data: u64) {
        // SAFETY: a function of the program with this signature, by the file's contract, and the
        // value that the program gave with it.
        unsafe { (self.0)(data as *mut c_void) };
    }

    /// Its address, for the program.
    pub fn address(self) -> u64 {
        self.0 as usize as u64
    }
}

/// A null pointer, for what a call's older form does not have.
pub fn nothing<T: Copy>() -> In<T> {
    Host(std::ptr::null_mut()).values()
}

/// A null place, for what a call's older form does not give.
pub fn nowhere<T: Copy>() -> Out<T> {
    Host(std::ptr::null_mut()).out()
}

/// `CUstreamCallback`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct StreamFunction(unsafe extern "C" fn(*mut c_void, u32, *mut c_void));

impl StreamFunction {
    /// Calls it.
    pub fn call(self, stream: u64, status: Status, data: u64) {
        // SAFETY: as for `Function::call`.
        unsafe { (self.0)(stream as *mut c_void, status.0, data as *mut c_void) };
    }
}

/// An exported function.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its symbol.
    pub name: &'static str,
    at: *const (),
}

// SAFETY: the pointer is the address of a function, which is never written.
unsafe impl Sync for Entry {}

impl Entry {
    /// Names an export.
    pub const fn new(name: &'static str, at: *const ()) -> Entry {
        Entry { name, at }
    }

    /// Its address.
    pub fn address(&self) -> *mut c_void {
        self.at.cast_mut().cast()
    }
}

/// Runs the body of an export. No panic may cross the ABI.
pub fn guard(name: &str, body: impl FnOnce() -> Done) -> u32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(status)) => status.0,
        Err(_) => {
            vgpu_transport::log::line(format_args!("{name}: internal error"));
            Status::ERROR_UNKNOWN.0
        }
    }
}

/// Defines exports. `fn name(arguments) { body }`: the body gives a [`Done`]. With
/// `fn name | twin [zero] (…)` there is a second export of the same body, in which `zero` is
/// [`Zero::PerThread`] instead of [`Zero::Legacy`]. Also makes `EXPORTS`, from which
/// cuGetProcAddress finds them.
macro_rules! exports {
    (@next [$($entries:tt)*]) => {
        /// Exports of this file.
        pub static EXPORTS: &[$crate::abi::Entry] = &[$($entries)*];
    };
    (@next [$($entries:tt)*]
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
        $crate::abi::exports!(@next [
            $($entries)*
            $crate::abi::Entry::new(stringify!($name), $name as *const ()),
            $crate::abi::Entry::new(stringify!($twin), $twin as *const ()),
        ] $($rest)*);
    };
    (@next [$($entries:tt)*]
        $(#[$meta:meta])* fn $name:ident ($($args:tt)*) $body:block
        $($rest:tt)*
    ) => {
        $crate::abi::export!($(#[$meta])* $name ($($args)*) $body);
        $crate::abi::exports!(@next [
            $($entries)*
            $crate::abi::Entry::new(stringify!($name), $name as *const ()),
        ] $($rest)*);
    };
    ($(#[$meta:meta])* fn $($rest:tt)*) => {
        $crate::abi::exports!(@next [] $(#[$meta])* fn $($rest)*);
    };
}

/// Defines one export.
macro_rules! export {
    ($(#[$meta:meta])* $name:ident ($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(unsafe_code, reason = "a symbol's name is unsafe to choose; these are libcuda's")]
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub extern "C" fn $name($($arg: $ty),*) -> u32 {
            $crate::abi::guard(stringify!($name), move || $body)
        }
    };
}

pub(crate) use {export, exports};

#[cfg(test)]
impl Entry {
    /// Calls an export that takes no arguments, or looks at none.
    pub fn call(&self) -> u32 {
        // SAFETY: the address is that of an `extern "C" fn() -> u32` (the stubs that build.rs
        // makes).
        let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute(self.at) };
        function()
    }
}

/// Runs `f` in a child made by fork; gives its exit status.
#[cfg(test)]
pub fn in_forked_child(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only runs `f`, which the caller keeps to code that needs no other thread,
    // and ends with _exit; the parent waits for it.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(f()),
            child => {
                assert!(child > 0, "fork");
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                status
            }
        }
    }
}
