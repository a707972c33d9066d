//! Element types, and the types in which is computed.
#![allow(unsafe_code)] // Elements are read and written through raw pointers into device memory.

use std::ops::{Add, Div, Mul, Neg, Sub};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

pub use gemm::{c32, c64};

/// Types of elements in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `CUDA_R_16F`.
    F16,
    /// `CUDA_R_16BF`.
    Bf16,
    /// `CUDA_R_32F`.
    F32,
    /// `CUDA_R_64F`.
    F64,
    /// `CUDA_R_8I`.
    I8,
    /// `CUDA_R_32I`.
    I32,
    /// `CUDA_C_32F`.
    C32,
    /// `CUDA_C_64F`.
    C64,
    /// `CUDA_C_8I`.
    Ci8,
}

impl Type {
    /// By the number of `cudaDataType` (`library_types.h`).
    pub fn from_cuda(number: u32) -> Option<Type> {
        Some(match number {
            0 => Type::F32,
            1 => Type::F64,
            2 => Type::F16,
            3 => Type::I8,
            4 => Type::C32,
            5 => Type::C64,
            7 => Type::Ci8,
            10 => Type::I32,
            14 => Type::Bf16,
            _ => return None,
        })
    }

    /// Size of an element in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Type::I8 => 1,
            Type::F16 | Type::Bf16 | Type::Ci8 => 2,
            Type::F32 | Type::I32 => 4,
            Type::F64 | Type::C32 => 8,
            Type::C64 => 16,
        }
    }
}

/// A type in which is computed.
pub trait Num:
    Copy
    + Send
    + Sync
    + PartialEq
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Its form in memory.
    const OWN: Type;
    /// True for complex numbers.
    const COMPLEX: bool;

    /// The complex conjugate; a real number itself.
    fn conj(self) -> Self;
    /// The real part.
    fn real(self) -> Self;
    /// Real and imaginary part.
    fn parts(self) -> (f64, f64);
    /// From real and imaginary part; a real type takes the real one.
    fn of(re: f64, im: f64) -> Self;
    /// True where elements of this type can be read as numbers of this one.
    fn reads(ty: Type) -> bool;
    /// True where numbers of this type can be stored as elements of that one.
    fn writes(ty: Type) -> bool;

    /// Reads an element.
    ///
    /// # Safety
    /// `at` is readable for an element of `ty`, and aligned for it.
    unsafe fn read(ty: Type, at: *const u8) -> Self;

    /// Reads `count` elements that follow each other.
    ///
    /// # Safety
    /// As [`read`](Num::read), for all of them; `to` has room for them and is not part of them.
    unsafe fn read_run(ty: Type, at: *const u8, count: usize, to: *mut Self);

    /// Stores an element.
    ///
    /// # Safety
    /// `at` is writable for an element of `ty`, and aligned for it.
    unsafe fn write(self, ty: Type, at: *mut u8);

    /// Stores numbers as elements that follow each other.
    ///
    /// # Safety
    /// As [`write`](Num::write), for all of them; they are not part of `from`.
    unsafe fn write_run(from: &[Self], ty: Type, at: *mut u8) {
        let size = ty.bytes() as usize;
        for (i, value) in from.iter().enumerate() {
            // SAFETY: the caller's contract.
            unsafe { value.write(ty, at.add(i * size)) };
        }
    }
}

/// A run of `count` elements of `S`, each turned by `f`.
///
/// # Safety
/// As [`Num::read_run`].
unsafe fn each<S: Copy, T>(at: *const u8, count: usize, to: *mut T, f: impl Fn(S) -> T) {
    let at = at.cast::<S>();
    for i in 0..count {
        // SAFETY: the caller's contract: `count` elements on both sides.
        unsafe { to.add(i).write(f(at.add(i).read())) };
    }
}

/// Elements that are converted at a time: small enough for the stack, large enough for vectors.
const CHUNK: usize = 128;

/// Halves to floats. They pass a buffer on the stack, as no reference may be made to memory that a
/// guest shares; the conversion itself then uses the processor's instructions for it.
///
/// # Safety
/// As [`Num::read_run`].
unsafe fn halves(at: *const u8, count: usize, to: *mut f32) {
    let at = at.cast::<f16>();
    let mut buffer = [f16::ZERO; CHUNK];
    let mut floats = [0f32; CHUNK];
    let mut done = 0;
    while done < count {
        let n = CHUNK.min(count - done);
        // SAFETY: the caller's contract: `count` elements on both sides, of which `n` from `done`
        // on are left; the buffers hold CHUNK.
        unsafe { std::ptr::copy_nonoverlapping(at.add(done), buffer.as_mut_ptr(), n) };
        buffer[..n].convert_to_f32_slice(&mut floats[..n]);
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(floats.as_ptr(), to.add(done), n) };
        done += n;
    }
}

impl Num for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const OWN: Type = Type::F32;
    const COMPLEX: bool = false;

    fn conj(self) -> f32 {
        self
    }
    fn real(self) -> f32 {
        self
    }
    fn parts(self) -> (f64, f64) {
        (f64::from(self), 0.0)
    }
    fn of(re: f64, _: f64) -> f32 {
        re as f32
    }
    fn reads(ty: Type) -> bool {
        matches!(ty, Type::F16 | Type::Bf16 | Type::F32 | Type::I8)
    }
    fn writes(ty: Type) -> bool {
        matches!(ty, Type::F16 | Type::Bf16 | Type::F32)
    }
    unsafe fn read(ty: Type, at: *const u8) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            match ty {
                Type::F16 => at.cast::<f16>().read().to_f32(),
                Type::Bf16 => at.cast::<bf16>().read().to_f32(),
                Type::I8 => f32::from(at.cast::<i8>().read()),
                _ => at.cast::<f32>().read(),
            }
        }
    }
    unsafe fn read_run(ty: Type, at: *const u8, count: usize, to: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe {
            match ty {
                Type::F16 => halves(at, count, to),
                Type::Bf16 => each(at, count, to, |bits: u16| {
                    f32::from_bits(u32::from(bits) << 16)
                }),
                Type::I8 => each(at, count, to, |v: i8| f32::from(v)),
                _ => each(at, count, to, |v: f32| v),
            }
        }
    }
    unsafe fn write(self, ty: Type, at: *mut u8) {
        // SAFETY: the caller's contract.
        unsafe {
            match ty {
                Type::F16 => at.cast::<f16>().write(f16::from_f32(self)),
                Type::Bf16 => at.cast::<bf16>().write(bf16::from_f32(self)),
                _ => at.cast::<f32>().write(self),
            }
        }
    }
    unsafe fn write_run(from: &[f32], ty: Type, at: *mut u8) {
        match ty {
            Type::F16 => {
                let mut halves = [f16::ZERO; CHUNK];
                for (i, part) in from.chunks(CHUNK).enumerate() {
                    halves[..part.len()].convert_from_f32_slice(part);
                    let to = at.cast::<f16>().wrapping_add(i * CHUNK);
                    // SAFETY: the caller's contract; the buffer is on the stack.
                    unsafe { std::ptr::copy_nonoverlapping(halves.as_ptr(), to, part.len()) };
                }
            }
            Type::Bf16 => {
                for (i, value) in from.iter().enumerate() {
                    // SAFETY: the caller's contract.
                    unsafe { at.cast::<bf16>().add(i).write(bf16::from_f32(*value)) };
                }
            }
            // SAFETY: the caller's contract.
            _ => unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), at.cast(), from.len()) },
        }
    }
}

impl Num for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const OWN: Type = Type::F64;
    const COMPLEX: bool = false;

    fn conj(self) -> f64 {
        self
    }
    fn real(self) -> f64 {
        self
    }
    fn parts(self) -> (f64, f64) {
        (self, 0.0)
    }
    fn of(re: f64, _: f64) -> f64 {
        re
    }
    fn reads(ty: Type) -> bool {
        ty == Type::F64
    }
    fn writes(ty: Type) -> bool {
        ty == Type::F64
    }
    unsafe fn read(_: Type, at: *const u8) -> f64 {
        // SAFETY: the caller's contract.
        unsafe { at.cast::<f64>().read() }
    }
    unsafe fn read_run(_: Type, at: *const u8, count: usize, to: *mut f64) {
        // SAFETY: the caller's contract.
        unsafe { each(at, count, to, |v: f64| v) }
    }
    unsafe fn write(self, _: Type, at: *mut u8) {
        // SAFETY: the caller's contract.
        unsafe { at.cast::<f64>().write(self) }
    }
}

macro_rules! complex {
    ($t:ident, $part:ident, $own:expr, reads $reads:pat) => {
        impl Num for $t {
            const ZERO: $t = $t { re: 0.0, im: 0.0 };
            const ONE: $t = $t { re: 1.0, im: 0.0 };
            const OWN: Type = $own;
            const COMPLEX: bool = true;

            fn conj(self) -> $t {
                $t {
                    re: self.re,
                    im: -self.im,
                }
            }
            fn real(self) -> $t {
                $t {
                    re: self.re,
                    im: 0.0,
                }
            }
            fn parts(self) -> (f64, f64) {
                (f64::from(self.re), f64::from(self.im))
            }
            fn of(re: f64, im: f64) -> $t {
                $t {
                    re: re as $part,
                    im: im as $part,
                }
            }
            fn reads(ty: Type) -> bool {
                matches!(ty, $reads)
            }
            fn writes(ty: Type) -> bool {
                ty == $own
            }
            unsafe fn read(ty: Type, at: *const u8) -> $t {
                // SAFETY: the caller's contract.
                unsafe {
                    if ty == Type::Ci8 {
                        let [re, im] = at.cast::<[i8; 2]>().read();
                        return $t {
                            re: re.into(),
                            im: im.into(),
                        };
                    }
                    at.cast::<$t>().read()
                }
            }
            unsafe fn read_run(ty: Type, at: *const u8, count: usize, to: *mut $t) {
                let size = ty.bytes() as usize;
                for i in 0..count {
                    // SAFETY: the caller's contract: `count` elements on both sides.
                    unsafe { to.add(i).write(Self::read(ty, at.add(i * size))) };
                }
            }
            unsafe fn write(self, _: Type, at: *mut u8) {
                // SAFETY: the caller's contract.
                unsafe { at.cast::<$t>().write(self) }
            }
        }
    };
}
complex!(c32, f32, Type::C32, reads Type::C32 | Type::Ci8);
complex!(c64, f64, Type::C64, reads Type::C64);
