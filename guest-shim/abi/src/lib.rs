//! What crosses the C ABI of the guest's libraries.
//!
//! Exports take the program's pointers as [`Out`], [`In`], [`Text`] and [`Host`]: types with the
//! layout of a pointer that only the C caller can make, whose contract (the CUDA API's) is that a
//! pointer which is not null is valid for its purpose. The unsafe code of the libraries that rests
//! on this contract is in this file.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use vgpu_protocol::Status;
use vgpu_transport::user::{Source, Target};

pub mod results;

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

// SAFETY: it is only an address; a call that keeps one past its end says in its documentation that
// the program keeps it valid, for all threads of the program alike.
unsafe impl<T> Send for Out<T> {}

impl<T: Copy> Out<T> {
    /// True if the program wants no value.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The place as a number.
    pub fn address(self) -> usize {
        self.0 as usize
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

    /// The same place, for values of another type of the same size.
    pub fn cast<U: Copy>(self) -> Out<U> {
        const { assert!(size_of::<T>() == size_of::<U>()) };
        Out(self.0.cast())
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

// SAFETY: as for `Out`.
unsafe impl Send for Host {}

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

/// What a call stores in the place that it is given.
pub fn local<T: Copy + Default>(call: impl FnOnce(Out<T>) -> Done) -> Done<T> {
    let mut place = T::default();
    call(Out(&raw mut place))?;
    Ok(place)
}

/// Which stream the handle 0 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// The context's default stream.
    Legacy,
    /// The calling thread's own default stream (exports that end in `_ptsz` or `_ptds`).
    PerThread,
}

/// A place for something that lives as long as the process, replaced after fork.
pub struct Global<T: 'static>(AtomicPtr<T>);

impl<T: Sync> Default for Global<T> {
    fn default() -> Self {
        Self::new()
    }
}

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

// Playing the C caller: the runtime is one of the driver. What is made here is for a call that ends
// before the value does.

impl<T> Out<T> {
    /// The place of a value.
    pub fn to(place: &mut T) -> Out<T> {
        Out(place)
    }

    /// A null pointer.
    pub const fn null() -> Out<T> {
        Out(std::ptr::null_mut())
    }
}

impl<T> In<T> {
    /// Values.
    pub fn to(values: &[T]) -> In<T> {
        In(values.as_ptr())
    }

    /// A null pointer.
    pub const fn null() -> In<T> {
        In(std::ptr::null())
    }
}

impl Text {
    /// A text.
    pub fn to(text: &CStr) -> Text {
        Text(text.as_ptr())
    }
}

impl Host {
    /// Memory that may be written.
    pub fn to<T>(memory: &mut [T]) -> Host {
        Host(memory.as_mut_ptr().cast())
    }

    /// A null pointer.
    pub const fn null() -> Host {
        Host(std::ptr::null_mut())
    }
}
