//! What crosses the C ABI.
//!
//! Exports take the program's pointers as [`Out`], [`Text`] and [`Handle`]: types with the layout of a pointer
//! that only the C caller can make, whose contract (the NVML API Reference Guide's) is that a pointer which is not
//! null is valid for its purpose. All unsafe code that rests on this contract is in this file.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use vgpu_protocol::Status;
use vgpu_remote::Library;

use crate::result::{Done, Return};

/// A place for one or more values that the call gives, or that go in and out.
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
    /// True if the program gives no place.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// NVML_ERROR_INVALID_ARGUMENT where the place is null.
    pub fn check(self) -> Done {
        if self.is_null() {
            Err(Return::InvalidArgument)
        } else {
            Ok(())
        }
    }

    /// Stores the value.
    pub fn set(self, value: T) -> Done {
        self.set_at(0, value)
    }

    /// Stores the value at an index of an array.
    pub fn set_at(self, index: usize, value: T) -> Done {
        self.check()?;
        // SAFETY: not null, so by the file's contract valid for writes of as many elements as the call is
        // documented to give; C promises no alignment that Rust would need.
        unsafe { self.0.add(index).write_unaligned(value) };
        Ok(())
    }

    /// The value that is there.
    pub fn get(self) -> Done<T> {
        self.check()?;
        // SAFETY: not null, so by the file's contract a value of the program.
        Ok(unsafe { self.0.read_unaligned() })
    }
}

impl<T> Out<T> {
    /// The first field of a struct with a version, which is all that may be read before the version is known.
    pub fn version(self) -> Out<u32> {
        Out(self.0.cast())
    }
}

impl Out<c_char> {
    /// Stores text with its terminating NUL; NVML_ERROR_INSUFFICIENT_SIZE where `len` bytes do not hold it.
    pub fn set_text(self, text: &str, len: u32) -> Done {
        self.check()?;
        if text.len() >= len as usize {
            return Err(Return::InsufficientSize);
        }
        for (i, byte) in text.bytes().chain([0]).enumerate() {
            self.set_at(i, byte as c_char)?;
        }
        Ok(())
    }
}

/// NUL-terminated text of the program.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char);

impl Text {
    /// The text, if it is UTF-8.
    pub fn str<'a>(self) -> Done<&'a str> {
        if self.0.is_null() {
            return Err(Return::InvalidArgument);
        }
        // SAFETY: not null, so by the file's contract a NUL-terminated string that stays as it is until the call
        // returns.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map_err(|_| Return::InvalidArgument)
    }
}

/// `nvmlDevice_t`: an address that we gave out, or not. It is only compared.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Handle(pub *const c_void);

/// Runs the body of an export. No panic may cross the ABI.
pub fn guard(body: impl FnOnce() -> Done) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(result)) => result as i32,
        Err(_) => Return::Unknown as i32,
    }
}

/// Defines exports: `fn name(arguments) { body }`, where the body gives a [`Done`]. With `fn name | other (…)`
/// there is a second export of the same body.
macro_rules! exports {
    ($($(#[$meta:meta])* fn $name:ident $(| $twin:ident)* ($($args:tt)*) $body:block)*) => {$(
        $crate::abi::export!($(#[$meta])* [$name $($twin)*] ($($args)*) $body);
    )*};
}

/// Defines one export, under each of its names.
macro_rules! export {
    ($(#[$meta:meta])* [] $args:tt $body:block) => {};
    ($(#[$meta:meta])* [$name:ident $($more:ident)*] ($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(unsafe_code, reason = "a symbol's name is unsafe to choose; these are NVML's")]
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        pub extern "C" fn $name($($arg: $ty),*) -> i32 {
            $crate::abi::guard(move || $body)
        }
        $crate::abi::export!($(#[$meta])* [$($more)*] ($($arg: $ty),*) $body);
    };
}

pub(crate) use {export, exports};

/// `nvmlErrorString`, the one function that gives no result.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn nvmlErrorString(result: i32) -> *const c_char {
    crate::result::text(result).as_ptr()
}

/// By it a host knows that it has found this library where it looked for NVIDIA's.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "not a name that anybody else has")]
pub static vgpu_stub_nvml: u32 = 1;

fn function(name: &CStr) -> Result<*mut c_void, Status> {
    let library = Library::open().map_err(|_| Status::ERROR_NOT_FOUND)?;
    library.symbol(name).ok_or(Status::ERROR_NOT_FOUND)
}

fn ok(result: u32) -> Result<(), Status> {
    if result == 0 {
        Ok(())
    } else {
        Err(Status(result))
    }
}

/// libcuda's `cuInit(0)`.
pub fn cu_init() -> Result<(), Status> {
    let at = function(c"cuInit")?;
    // SAFETY: the function of this name in vgpu-stub's libcuda has this signature (cuda.h).
    let f = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(u32) -> u32>(at) };
    ok(f(0))
}

/// libcuda's `cuDeviceGetPCIBusId`.
pub fn cu_pci_bus_id(ordinal: usize) -> Result<String, Status> {
    type Function = unsafe extern "C" fn(*mut c_char, i32, i32) -> u32;
    let at = function(c"cuDeviceGetPCIBusId")?;
    // SAFETY: as above.
    let f = unsafe { std::mem::transmute::<*mut c_void, Function>(at) };
    let mut text = [0 as c_char; 32];
    // SAFETY: it writes at most the number of bytes given.
    ok(unsafe { f(text.as_mut_ptr(), text.len() as i32, ordinal as i32) })?;
    let bytes: Vec<u8> = text
        .iter()
        .map(|c| *c as u8)
        .take_while(|c| *c != 0)
        .collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
impl<T> Out<T> {
    /// What a C caller passes.
    pub fn to(place: &mut T) -> Out<T> {
        Out(place)
    }

    /// A null pointer.
    pub fn null() -> Out<T> {
        Out(std::ptr::null_mut())
    }
}

#[cfg(test)]
impl Text {
    /// What a C caller passes.
    pub fn to(text: &'static CStr) -> Text {
        Text(text.as_ptr())
    }
}
