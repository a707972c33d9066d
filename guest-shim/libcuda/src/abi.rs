//! What crosses the C ABI.
//!
//! Exports take the program's pointers as [`Out`], [`In`], [`Text`] and [`Host`]: types with the
//! layout of a pointer that only the C caller can make, whose contract (the CUDA Driver API's) is
//! that a pointer which is not null is valid for its purpose. All unsafe code of the crate that
//! rests on this contract is in this file.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};

use vgpu_protocol::Status;
use vgpu_transport::user::{Source, Target};

/// Result of a call.
pub type Done<T = ()> = Result<T, Status>;

/// The result of a call with a bad argument.
pub const INVALID: Status = Status::ERROR_INVALID_VALUE;

/// A place for one or more values that the call gives.
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
    /// True if the program wants no value.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// CUDA_ERROR_INVALID_VALUE where the place is null. Called before a call has effects.
    pub fn check(self) -> Done {
        if self.is_null() { Err(INVALID) } else { Ok(()) }
    }

    /// Stores the value; the place must not be null.
    pub fn set(self, value: T) -> Done {
        self.set_at(0, value)
    }

    /// Stores the value if the program wants it.
    pub fn set_if_given(self, value: T) {
        if !self.is_null() {
            let _ = self.set(value);
        }
    }

    /// Stores the value at an index of an array.
    pub fn set_at(self, index: usize, value: T) -> Done {
        self.check()?;
        // SAFETY: not null, so by the file's contract valid for writes of as many elements as the
        // call is documented to give; C promises no alignment that Rust would need.
        unsafe { self.0.add(index).write_unaligned(value) };
        Ok(())
    }

    /// The value that is there, for arguments that go in and out.
    pub fn get_at(self, index: usize) -> Done<T> {
        In(self.0.cast_const()).at(index)
    }
}

impl Out<c_char> {
    /// Stores text with its terminating NUL, cut to `len` bytes.
    pub fn set_text(self, text: &str, len: i32) -> Done {
        let len = usize::try_from(len)
            .ok()
            .filter(|l| *l > 0)
            .ok_or(INVALID)?;
        let bytes = &text.as_bytes()[..text.len().min(len - 1)];
        for (i, byte) in bytes.iter().enumerate() {
            self.set_at(i, *byte as c_char)?;
        }
        self.set_at(bytes.len(), 0)
    }
}

/// One or more values that the program gives.
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

    /// The value; the pointer must not be null.
    pub fn get(self) -> Done<T> {
        self.at(0)
    }

    /// The value at an index of an array.
    pub fn at(self, index: usize) -> Done<T> {
        if self.is_null() {
            return Err(INVALID);
        }
        // SAFETY: not null, so by the file's contract valid for reads of as many elements as the
        // call's documentation says.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
}

/// NUL-terminated text of the program.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char);

impl Text {
    /// The text's bytes, without the NUL.
    pub fn bytes<'a>(self) -> Done<&'a [u8]> {
        if self.0.is_null() {
            return Err(INVALID);
        }
        // SAFETY: not null, so by the file's contract a NUL-terminated string that stays as it is
        // until the call returns.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    /// The text, if it is UTF-8.
    pub fn str<'a>(self) -> Done<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| INVALID)
    }
}

/// Memory of the program whose length comes as another argument.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Host(pub *mut c_void);

impl Host {
    /// True for null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Names it as something to read.
    pub fn source<'a>(self, bytes: usize) -> Done<Source<'a>> {
        if self.is_null() {
            return Err(INVALID);
        }
        // SAFETY: not null, so by the file's contract readable for the length that the program
        // gave with it, until the call returns.
        Ok(unsafe { Source::new(self.0.cast_const().cast(), bytes) })
    }

    /// Names it as something to write.
    pub fn target<'a>(self, bytes: usize) -> Done<Target<'a>> {
        if self.is_null() {
            return Err(INVALID);
        }
        // SAFETY: as in `source`, for writing.
        Ok(unsafe { Target::new(self.0.cast(), bytes) })
    }

    /// A view of constant data (a module image), until the call returns.
    pub fn slice<'a>(self, bytes: usize) -> Done<&'a [u8]> {
        if self.is_null() || bytes > isize::MAX as usize {
            return Err(INVALID);
        }
        // SAFETY: as in `source`; images are documented to be constant data.
        Ok(unsafe { std::slice::from_raw_parts(self.0.cast_const().cast(), bytes) })
    }

    /// Text that starts here.
    pub fn text(self) -> Text {
        Text(self.0.cast_const().cast())
    }

    /// Values that start here.
    pub fn values<T: Copy>(self) -> In<T> {
        In(self.0.cast_const().cast())
    }

    /// A place for values that starts here.
    pub fn out<T: Copy>(self) -> Out<T> {
        Out(self.0.cast())
    }

    /// The memory at a distance of so many bytes; valid if the program says that it goes so far.
    /// Null stays null.
    pub fn offset(self, bytes: usize) -> Host {
        if self.is_null() {
            return self;
        }
        Host(self.0.wrapping_byte_add(bytes))
    }
}

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

/// Which stream the handle 0 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// The context's default stream.
    Legacy,
    /// The calling thread's own default stream (exports that end in `_ptsz` or `_ptds`).
    PerThread,
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

/// A place for something that lives as long as the process, replaced after fork.
pub struct Global<T: 'static>(AtomicPtr<T>);

impl<T: Sync> Global<T> {
    /// An empty place.
    pub const fn new() -> Global<T> {
        Global(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// What is there.
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or made by `set` from a reference that lives for ever.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Replaces what is there.
    pub fn set(&self, value: &'static T) {
        self.0
            .store(std::ptr::from_ref(value).cast_mut(), Ordering::Release);
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
impl<T> In<T> {
    /// What a C caller passes.
    pub fn to(values: &[T]) -> In<T> {
        In(values.as_ptr())
    }

    /// A null pointer.
    pub fn null() -> In<T> {
        In(std::ptr::null())
    }
}

#[cfg(test)]
impl Text {
    /// What a C caller passes.
    pub fn to(text: &'static CStr) -> Text {
        Text(text.as_ptr())
    }
}

#[cfg(test)]
impl Host {
    /// What a C caller passes.
    pub fn to<T>(memory: &mut [T]) -> Host {
        Host(memory.as_mut_ptr().cast())
    }
}

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
