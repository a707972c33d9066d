//! Descriptors. A program may have them made, or make room for the opaque struct itself and have it
//! initialised (`cublasLt…Init`), so all that they hold lies in that struct.
#![allow(unsafe_code)] // The program's structs.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::abi::{Done, INVALID, In, Out};

/// Size of the largest struct of the headers, in bytes.
const MOST: usize = 256;

/// Bytes of the head: what it is, and how long.
const HEAD: usize = 8;

/// A field that programs set and get.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its number in the header's enumeration.
    pub number: u32,
    /// Where it lies.
    pub offset: usize,
    /// Its size in bytes.
    pub bytes: usize,
}

/// Shorthand for tables.
pub const fn at(number: u32, offset: usize, bytes: usize) -> Attribute {
    Attribute {
        number,
        offset,
        bytes,
    }
}

/// Kinds of descriptors.
pub trait Kind: Copy {
    /// First word of an initialised one.
    const MAGIC: u32;
    /// Smallest struct of the headers that are supported, in bytes.
    const LEAST: usize;
    /// The fields. Those of later versions lie further behind, as the structs have grown: where a
    /// program's struct ends, its version's attributes do.
    const ATTRIBUTES: &'static [Attribute];
}

/// A descriptor as the program holds it.
#[repr(transparent)]
pub struct Desc<K>(*mut u8, PhantomData<K>);

impl<K> Clone for Desc<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Desc<K> {}

/// What it holds, as a copy.
#[derive(Clone, Copy)]
pub struct Image {
    bytes: [u8; MOST],
    len: usize,
}

impl Image {
    fn new<K: Kind>(len: usize) -> Image {
        let mut image = Image {
            bytes: [0; MOST],
            len,
        };
        image.bytes[..4].copy_from_slice(&K::MAGIC.to_ne_bytes());
        image.bytes[4..8].copy_from_slice(&(len as u32).to_ne_bytes());
        image
    }

    fn field<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut value = [0; N];
        // Behind the end of a short struct everything is 0.
        value.copy_from_slice(&self.bytes[offset..offset + N]);
        value
    }

    /// A field of four bytes.
    pub fn word(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.field(offset))
    }

    /// A field of eight bytes.
    pub fn long(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.field(offset))
    }

    /// Sets a field, where the struct has it.
    pub fn set(&mut self, offset: usize, value: &[u8]) {
        let end = offset + value.len();
        if end <= self.len {
            self.bytes[offset..end].copy_from_slice(value);
        }
    }

    /// Sets a field of four bytes.
    pub fn set_word(&mut self, offset: usize, value: u32) {
        self.set(offset, &value.to_ne_bytes());
    }

    /// Sets a field of eight bytes.
    pub fn set_long(&mut self, offset: usize, value: u64) {
        self.set(offset, &value.to_ne_bytes());
    }

    fn attribute<K: Kind>(&self, number: u32) -> Done<Attribute> {
        let found = K::ATTRIBUTES.iter().find(|a| a.number == number);
        let found = found.filter(|a| a.offset + a.bytes <= self.len);
        found.copied().ok_or(INVALID)
    }
}

/// Descriptors that the library has made: those in use, and those that can be used again. They are never
/// given back, so that a destroyed one is known as such and not read where something else lies.
#[derive(Default)]
struct Made {
    live: HashSet<usize>,
    free: Vec<usize>,
}

static MADE: Mutex<Option<Made>> = Mutex::new(None);

fn made() -> MutexGuard<'static, Option<Made>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Kind> Desc<K> {
    /// True for null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// What it holds.
    ///
    /// # Errors
    /// `CUBLAS_STATUS_INVALID_VALUE` for null, and for what is no initialised descriptor of this kind.
    pub fn load(self) -> Done<Image> {
        if self.0.is_null() || !(self.0 as usize).is_multiple_of(8) {
            return Err(INVALID);
        }
        let mut head = [0; HEAD];
        // SAFETY: not null, so by the contract of the ABI a struct of this kind, made by this library or
        // in the program's memory, of at least `LEAST` bytes.
        unsafe { std::ptr::copy_nonoverlapping(self.0, head.as_mut_ptr(), HEAD) };
        let word =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let len = word(4) as usize;
        if word(0) != K::MAGIC || !(K::LEAST..=MOST).contains(&len) {
            return Err(INVALID);
        }
        let mut image = Image {
            bytes: [0; MOST],
            len,
        };
        // SAFETY: as above; the head says its length.
        unsafe { std::ptr::copy_nonoverlapping(self.0, image.bytes.as_mut_ptr(), len) };
        Ok(image)
    }

    /// One that lies in memory of this library, or of a test.
    pub fn inside(memory: &mut [u64]) -> Desc<K> {
        Desc(memory.as_mut_ptr().cast(), PhantomData)
    }

    /// Changes what it holds.
    fn store(self, image: &Image) {
        // SAFETY: the place that the image was loaded from, or that `init` was given, of that length.
        unsafe { std::ptr::copy_nonoverlapping(image.bytes.as_ptr(), self.0, image.len) };
    }

    /// Initialises a struct of so many bytes in the program's memory.
    pub fn init(self, bytes: usize, fill: impl FnOnce(&mut Image)) -> Done {
        if self.0.is_null() || !(self.0 as usize).is_multiple_of(8) || bytes < K::LEAST {
            return Err(INVALID);
        }
        let mut image = Image::new::<K>(bytes.min(MOST));
        fill(&mut image);
        self.store(&image);
        Ok(())
    }

    /// Makes one.
    pub fn create(out: Out<Desc<K>>, fill: impl FnOnce(&mut Image)) -> Done {
        out.check()?;
        let address = {
            let mut made = made();
            let made = made.get_or_insert_default();
            let address = made
                .free
                .pop()
                .unwrap_or_else(|| Box::leak(Box::new([0u64; MOST / 8])).as_mut_ptr() as usize);
            made.live.insert(address);
            address
        };
        let desc = Desc(address as *mut u8, PhantomData);
        desc.init(MOST, fill)?;
        out.set(desc)
    }

    /// Destroys one that was made.
    pub fn destroy(self) -> Done {
        self.load()?;
        let mut made = made();
        let made = made.get_or_insert_default();
        if !made.live.remove(&(self.0 as usize)) {
            return Err(INVALID);
        }
        self.store(&Image {
            bytes: [0; MOST],
            len: MOST,
        });
        made.free.push(self.0 as usize);
        Ok(())
    }

    /// "…SetAttribute".
    pub fn set(self, number: u32, value: In<u8>, bytes: usize) -> Done {
        let mut image = self.load()?;
        let attribute = image.attribute::<K>(number)?;
        if bytes != attribute.bytes {
            return Err(INVALID);
        }
        image.set(attribute.offset, &value.bytes(bytes)?[..bytes]);
        self.store(&image);
        Ok(())
    }

    /// "…GetAttribute": with a size of 0 only how long the value is.
    pub fn get(self, number: u32, to: Out<u8>, bytes: usize, written: Out<usize>) -> Done {
        let image = self.load()?;
        let attribute = image.attribute::<K>(number)?;
        let value = &image.bytes[attribute.offset..attribute.offset + attribute.bytes];
        give(value, to, bytes, written)
    }
}

/// Gives an attribute's value as all "…GetAttribute" functions do.
pub fn give(value: &[u8], to: Out<u8>, bytes: usize, written: Out<usize>) -> Done {
    if bytes == 0 {
        return written.set(value.len());
    }
    if bytes != value.len() {
        return Err(INVALID);
    }
    to.fill(value)?;
    if !written.is_null() {
        written.set(value.len())?;
    }
    Ok(())
}
