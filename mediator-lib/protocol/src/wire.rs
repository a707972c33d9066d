//! How arguments and results are encoded: little-endian, in order, without padding; byte strings
//! and lists with a 64-bit count before them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Why a payload could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// It ends before its last field.
    Short,
    /// Bytes follow its last field.
    Long,
    /// A count exceeds its bound.
    Count {
        /// The count as received.
        count: u64,
        /// The bound.
        allowed: u64,
    },
    /// Text that is not UTF-8.
    Text,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Short => write!(f, "the payload ends before its last field"),
            WireError::Long => write!(f, "bytes follow the payload's last field"),
            WireError::Count { count, allowed } => {
                write!(f, "a count of {count}, allowed are {allowed}")
            }
            WireError::Text => write!(f, "text that is not UTF-8"),
        }
    }
}

/// Byte strings of at least this length are not copied into the writer's buffer.
const BORROW_BYTES: usize = 1024;

/// Collects an encoded payload. Long byte strings are kept by reference.
#[derive(Debug, Default)]
pub struct Writer<'a> {
    buffer: Vec<u8>,
    borrowed: Vec<(usize, &'a [u8])>,
}

impl<'a> Writer<'a> {
    /// An empty payload.
    pub fn new() -> Writer<'a> {
        Writer::default()
    }

    /// An empty payload in a buffer that is used again.
    pub fn reuse(mut buffer: Vec<u8>) -> Writer<'a> {
        buffer.clear();
        Writer {
            buffer,
            borrowed: Vec::new(),
        }
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends a counted byte string.
    pub fn bytes(&mut self, bytes: &'a [u8]) {
        self.raw(&(bytes.len() as u64).to_le_bytes());
        self.part(bytes);
    }

    /// Appends bytes as they are; long ones are kept by reference.
    pub fn part(&mut self, bytes: &'a [u8]) {
        if bytes.len() < BORROW_BYTES {
            self.raw(bytes);
        } else {
            self.borrowed.push((self.buffer.len(), bytes));
        }
    }

    /// The payload as slices in order.
    pub fn parts(&self) -> Vec<&[u8]> {
        let mut out = Vec::with_capacity(2 * self.borrowed.len() + 1);
        let mut from = 0;
        for (at, bytes) in &self.borrowed {
            out.push(&self.buffer[from..*at]);
            out.push(bytes);
            from = *at;
        }
        out.push(&self.buffer[from..]);
        out
    }

    /// Bytes of the payload.
    pub fn len(&self) -> u64 {
        let borrowed: u64 = self.borrowed.iter().map(|(_, b)| b.len() as u64).sum();
        self.buffer.len() as u64 + borrowed
    }

    /// True for a payload of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload in one piece, where nothing was kept by reference.
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.borrowed.is_empty().then_some(&self.buffer)
    }

    /// Gives the buffer back for reuse.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// Takes an encoded payload apart.
#[derive(Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `payload`.
    pub fn new(payload: &'a [u8]) -> Reader<'a> {
        Reader { left: payload }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (now, later) = self.left.split_at_checked(count).ok_or(WireError::Short)?;
        self.left = later;
        Ok(now)
    }

    /// A count, bounded.
    #[inline]
    pub fn count(&mut self, allowed: u64) -> Result<usize, WireError> {
        let count = u64::get(self)?;
        if count > allowed {
            return Err(WireError::Count { count, allowed });
        }
        Ok(count as usize)
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<(), WireError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(WireError::Long)
        }
    }
}

/// A value that is encoded and decoded whole.
pub trait Value: Sized {
    /// Most bytes that it takes on the wire.
    const MAX_BYTES: u64;
    /// Appends it.
    fn put(&self, w: &mut Writer<'_>);
    /// Takes it.
    fn get(r: &mut Reader<'_>) -> Result<Self, WireError>;
}

/// An argument of a call: a [`Value`], or something that is passed by reference.
pub trait Arg {
    /// What the caller gives and the callee gets.
    type View<'a>;
    /// Most bytes that it takes on the wire.
    const ARG_BYTES: u64;
    /// Appends it.
    fn put_arg<'a>(view: Self::View<'a>, w: &mut Writer<'a>);
    /// Takes it.
    fn get_arg<'a>(r: &mut Reader<'a>) -> Result<Self::View<'a>, WireError>;
}

impl<T: Value> Arg for T {
    type View<'a> = T;
    const ARG_BYTES: u64 = T::MAX_BYTES;
    fn put_arg<'a>(view: T, w: &mut Writer<'a>) {
        view.put(w);
    }
    #[inline]
    fn get_arg<'a>(r: &mut Reader<'a>) -> Result<T, WireError> {
        T::get(r)
    }
}

macro_rules! numbers {
    ($($t:ty)*) => {$(
        impl Value for $t {
            const MAX_BYTES: u64 = size_of::<$t>() as u64;
            fn put(&self, w: &mut Writer<'_>) {
                w.raw(&self.to_le_bytes());
            }
            #[inline]
            fn get(r: &mut Reader<'_>) -> Result<$t, WireError> {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(r.raw(size_of::<$t>())?);
                Ok(<$t>::from_le_bytes(raw))
            }
        }
    )*};
}
numbers!(u8 u16 u32 u64 i32 i64 f32);

impl Value for () {
    const MAX_BYTES: u64 = 0;
    fn put(&self, _: &mut Writer<'_>) {}
    fn get(_: &mut Reader<'_>) -> Result<(), WireError> {
        Ok(())
    }
}

impl<T: Value + Copy + Default, const N: usize> Value for [T; N] {
    const MAX_BYTES: u64 = T::MAX_BYTES * N as u64;
    fn put(&self, w: &mut Writer<'_>) {
        self.iter().for_each(|v| v.put(w));
    }
    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<[T; N], WireError> {
        let mut out = [T::default(); N];
        for v in &mut out {
            *v = T::get(r)?;
        }
        Ok(out)
    }
}

impl<A: Value, B: Value> Value for (A, B) {
    const MAX_BYTES: u64 = A::MAX_BYTES + B::MAX_BYTES;
    fn put(&self, w: &mut Writer<'_>) {
        self.0.put(w);
        self.1.put(w);
    }
    fn get(r: &mut Reader<'_>) -> Result<(A, B), WireError> {
        Ok((A::get(r)?, B::get(r)?))
    }
}

/// A byte string of at most `MAX` bytes, as an argument by reference.
#[derive(Debug)]
pub struct Bytes<const MAX: u64>;

impl<const MAX: u64> Arg for Bytes<MAX> {
    type View<'a> = &'a [u8];
    const ARG_BYTES: u64 = MAX + 8;
    fn put_arg<'a>(view: &'a [u8], w: &mut Writer<'a>) {
        w.bytes(view);
    }
    #[inline]
    fn get_arg<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
        let count = r.count(MAX)?;
        r.raw(count)
    }
}

/// UTF-8 text of at most `MAX` bytes, as an argument by reference.
#[derive(Debug)]
pub struct Text<const MAX: u64>;

impl<const MAX: u64> Arg for Text<MAX> {
    type View<'a> = &'a str;
    const ARG_BYTES: u64 = MAX + 8;
    fn put_arg<'a>(view: &'a str, w: &mut Writer<'a>) {
        w.bytes(view.as_bytes());
    }
    fn get_arg<'a>(r: &mut Reader<'a>) -> Result<&'a str, WireError> {
        let count = r.count(MAX)?;
        core::str::from_utf8(r.raw(count)?).map_err(|_| WireError::Text)
    }
}

/// Most elements of a list, and bytes of a byte string or text, in a result. Results come from the
/// host, which the guest trusts; the bound only keeps a damaged count from exhausting memory.
const MAX_RESULT_COUNT: u64 = 64 << 20;

impl<T: Value> Value for Vec<T> {
    const MAX_BYTES: u64 = MAX_RESULT_COUNT;
    fn put(&self, w: &mut Writer<'_>) {
        (self.len() as u64).put(w);
        self.iter().for_each(|v| v.put(w));
    }
    fn get(r: &mut Reader<'_>) -> Result<Vec<T>, WireError> {
        let count = r.count(MAX_RESULT_COUNT)?;
        // Grows with what is really there, not with the count.
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(T::get(r)?);
        }
        Ok(out)
    }
}

/// Owned bytes in a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Value for Blob {
    const MAX_BYTES: u64 = MAX_RESULT_COUNT;
    fn put(&self, w: &mut Writer<'_>) {
        (self.0.len() as u64).put(w);
        w.raw(&self.0);
    }
    fn get(r: &mut Reader<'_>) -> Result<Blob, WireError> {
        let count = r.count(MAX_RESULT_COUNT)?;
        Ok(Blob(r.raw(count)?.to_vec()))
    }
}

impl Value for String {
    const MAX_BYTES: u64 = MAX_RESULT_COUNT;
    fn put(&self, w: &mut Writer<'_>) {
        (self.len() as u64).put(w);
        w.raw(self.as_bytes());
    }
    fn get(r: &mut Reader<'_>) -> Result<String, WireError> {
        let count = r.count(MAX_RESULT_COUNT)?;
        String::from_utf8(r.raw(count)?.to_vec()).map_err(|_| WireError::Text)
    }
}

/// A list of at most `MAX` elements, as an argument.
#[derive(Debug)]
pub struct List<T, const MAX: u64>(core::marker::PhantomData<T>);

impl<T: Value, const MAX: u64> Arg for List<T, MAX> {
    type View<'a> = Vec<T>;
    const ARG_BYTES: u64 = MAX * T::MAX_BYTES + 8;
    fn put_arg<'a>(view: Vec<T>, w: &mut Writer<'a>) {
        view.put(w);
    }
    fn get_arg<'a>(r: &mut Reader<'a>) -> Result<Vec<T>, WireError> {
        let count = r.count(MAX)?;
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(T::get(r)?);
        }
        Ok(out)
    }
}

/// Declares structs whose wire form is their fields in order.
#[macro_export]
macro_rules! wire_struct {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }

        impl $crate::wire::Value for $name {
            const MAX_BYTES: u64 = 0 $(+ <$ty as $crate::wire::Value>::MAX_BYTES)*;
            fn put(&self, w: &mut $crate::wire::Writer<'_>) {
                $($crate::wire::Value::put(&self.$field, w);)*
            }
            fn get(r: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                Ok($name { $($field: $crate::wire::Value::get(r)?,)* })
            }
        }
    )*};
}

/// Declares handle types: numbers that never mix.
#[macro_export]
macro_rules! wire_ids {
    ($($(#[$meta:meta])* $name:ident($ty:ty);)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $ty);

        impl $crate::wire::Value for $name {
            const MAX_BYTES: u64 = size_of::<$ty>() as u64;
            fn put(&self, w: &mut $crate::wire::Writer<'_>) {
                self.0.put(w);
            }
            #[inline]
            fn get(r: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                Ok($name($crate::wire::Value::get(r)?))
            }
        }
    )*};
}
