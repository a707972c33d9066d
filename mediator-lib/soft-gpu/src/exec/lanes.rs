//! Lane types: how they lie in a frame, and the loops over 32 lanes.
//!
//! The loops take and return arrays by value and are inlined into functions
//! compiled for one instruction set each, where the compiler turns them into
//! vector code.
#![allow(unsafe_code)] // typed reads and writes of frame slots through raw pointers

/// Lanes of a warp.
pub const LANES: usize = 32;
/// Lanes of half a warp: 32-bit values of a half fill one 512-bit register.
pub const HALF: usize = 16;

/// A type that a lane can hold.
pub trait Lane: Copy {
    /// 32 of them.
    type Vector: Copy;
    /// 32 zeros.
    const ZERO: Self::Vector;
    /// Reads a vector slot.
    ///
    /// # Safety
    /// `p` points to a whole slot of this type inside a frame, aligned to its element.
    unsafe fn load(p: *const u8) -> Self::Vector;
    /// Writes a vector slot.
    ///
    /// # Safety
    /// As for `load`.
    unsafe fn store(p: *mut u8, v: Self::Vector);
    /// One lane.
    fn get(v: &Self::Vector, i: usize) -> Self;
    /// Sets one lane.
    fn set(v: &mut Self::Vector, i: usize, x: Self);
    /// `new` where the mask is set, otherwise `old`.
    fn blend(old: Self::Vector, new: Self::Vector, mask: u32) -> Self::Vector;
    /// 16 of them.
    type Chunk: Copy;
    /// 16 zeros.
    const CHUNK_ZERO: Self::Chunk;
    /// Reads half `h` of a vector slot.
    ///
    /// # Safety
    /// As for `load`; `h` is 0 or 1.
    unsafe fn load_chunk(p: *const u8, h: usize) -> Self::Chunk;
    /// Writes half `h` of a vector slot, where `mask` (16 bits) is set.
    ///
    /// # Safety
    /// As for `load_chunk`.
    unsafe fn store_chunk(p: *mut u8, h: usize, v: Self::Chunk, mask: u32);
    /// One lane of a chunk.
    fn chunk_get(v: &Self::Chunk, i: usize) -> Self;
    /// Sets one lane of a chunk.
    fn chunk_set(v: &mut Self::Chunk, i: usize, x: Self);
    /// Reads the base of a half from a pair slot.
    ///
    /// # Safety
    /// `p` points to a pair slot (16 bytes), or a mask slot for predicates.
    unsafe fn load_half(p: *const u8, half: usize) -> Self;
    /// Writes both halves of a pair slot.
    ///
    /// # Safety
    /// As for `load_half`.
    unsafe fn store_pair(p: *mut u8, v: [Self; 2]);
}

macro_rules! lane {
    ($t:ty, $bits:ty, $from:expr, $to:expr) => {
        impl Lane for $t {
            type Vector = [$t; LANES];
            const ZERO: Self::Vector = [0 as $t; LANES];
            #[inline(always)]
            unsafe fn load(p: *const u8) -> Self::Vector {
                // SAFETY: the caller passes a whole aligned slot; every bit pattern is valid.
                unsafe { p.cast::<[$t; LANES]>().read() }
            }
            #[inline(always)]
            unsafe fn store(p: *mut u8, v: Self::Vector) {
                // SAFETY: as in `load`.
                unsafe { p.cast::<[$t; LANES]>().write(v) }
            }
            #[inline(always)]
            fn get(v: &Self::Vector, i: usize) -> Self {
                v[i]
            }
            #[inline(always)]
            fn set(v: &mut Self::Vector, i: usize, x: Self) {
                v[i] = x;
            }
            #[inline(always)]
            fn blend(old: Self::Vector, new: Self::Vector, mask: u32) -> Self::Vector {
                let mut d = old;
                for i in 0..LANES {
                    d[i] = if mask & (1 << i) != 0 { new[i] } else { old[i] };
                }
                d
            }
            type Chunk = [$t; HALF];
            const CHUNK_ZERO: Self::Chunk = [0 as $t; HALF];
            #[inline(always)]
            unsafe fn load_chunk(p: *const u8, h: usize) -> Self::Chunk {
                // SAFETY: as in `load`; half `h` lies inside the slot.
                unsafe { p.cast::<[$t; HALF]>().add(h).read() }
            }
            #[inline(always)]
            unsafe fn store_chunk(p: *mut u8, h: usize, v: Self::Chunk, mask: u32) {
                // SAFETY: as in `load_chunk`.
                unsafe {
                    let p = p.cast::<[$t; HALF]>().add(h);
                    if mask == 0xffff {
                        p.write(v);
                    } else {
                        // Hidden from the optimiser, which otherwise mixes the shift of the
                        // upper half into the tests and loses the vector form.
                        let mask = std::hint::black_box(mask);
                        let mut d = p.read();
                        for i in 0..HALF {
                            d[i] = if mask & (1 << i) != 0 { v[i] } else { d[i] };
                        }
                        p.write(d);
                    }
                }
            }
            #[inline(always)]
            fn chunk_get(v: &Self::Chunk, i: usize) -> Self {
                v[i]
            }
            #[inline(always)]
            fn chunk_set(v: &mut Self::Chunk, i: usize, x: Self) {
                v[i] = x;
            }
            #[inline(always)]
            unsafe fn load_half(p: *const u8, half: usize) -> Self {
                // SAFETY: the caller passes a pair slot of two u64; `half` is 0 or 1.
                let v = unsafe { p.cast::<u64>().add(half).read() };
                ($from)(v as $bits)
            }
            #[inline(always)]
            unsafe fn store_pair(p: *mut u8, v: [Self; 2]) {
                let v = [($to)(v[0]) as u64, ($to)(v[1]) as u64];
                // SAFETY: as in `load_half`.
                unsafe { p.cast::<[u64; 2]>().write(v) }
            }
        }
    };
}
lane!(u32, u32, |v| v, |v: u32| v);
lane!(i32, u32, |v: u32| v as i32, |v: i32| v as u32);
lane!(f32, u32, f32::from_bits, f32::to_bits);
lane!(u64, u64, |v| v, |v: u64| v);
lane!(i64, u64, |v: u64| v as i64, |v: i64| v as u64);
lane!(f64, u64, f64::from_bits, f64::to_bits);

impl Lane for bool {
    type Vector = u32;
    const ZERO: u32 = 0;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> u32 {
        // SAFETY: the caller passes an aligned mask slot of four bytes.
        unsafe { p.cast::<u32>().read() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, v: u32) {
        // SAFETY: as in `load`.
        unsafe { p.cast::<u32>().write(v) }
    }
    #[inline(always)]
    fn get(v: &u32, i: usize) -> bool {
        v & (1 << i) != 0
    }
    #[inline(always)]
    fn set(v: &mut u32, i: usize, x: bool) {
        *v |= u32::from(x) << i;
    }
    #[inline(always)]
    fn blend(old: u32, new: u32, mask: u32) -> u32 {
        (new & mask) | (old & !mask)
    }
    // All bits of a lane's word are set or clear, as vector comparisons leave them.
    type Chunk = [u32; HALF];
    const CHUNK_ZERO: [u32; HALF] = [0; HALF];
    #[inline(always)]
    unsafe fn load_chunk(p: *const u8, h: usize) -> [u32; HALF] {
        // SAFETY: the caller passes an aligned mask slot.
        let m = u32::from(unsafe { p.cast::<u16>().add(h).read() });
        let mut v = [0; HALF];
        for (i, v) in v.iter_mut().enumerate() {
            *v = if m & (1 << i) != 0 { u32::MAX } else { 0 };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_chunk(p: *mut u8, h: usize, v: [u32; HALF], mask: u32) {
        // SAFETY: as in `load_chunk`.
        unsafe {
            let p = p.cast::<u16>().add(h);
            let m = mask as u16;
            p.write((sign_bits(v) & m) | (p.read() & !m));
        }
    }
    #[inline(always)]
    fn chunk_get(v: &[u32; HALF], i: usize) -> bool {
        v[i] != 0
    }
    #[inline(always)]
    fn chunk_set(v: &mut [u32; HALF], i: usize, x: bool) {
        v[i] = if x { u32::MAX } else { 0 };
    }
    #[inline(always)]
    unsafe fn load_half(p: *const u8, half: usize) -> bool {
        // SAFETY: the caller passes a mask slot.
        unsafe { p.cast::<u32>().read() & (1 << (16 * half)) != 0 }
    }
    #[inline(always)]
    unsafe fn store_pair(p: *mut u8, v: [bool; 2]) {
        let half = |b: bool| if b { 0xffffu32 } else { 0 };
        // SAFETY: as in `load_half`.
        unsafe { p.cast::<u32>().write(half(v[0]) | (half(v[1]) << 16)) }
    }
}

/// The top bit of each word.
#[inline(always)]
fn sign_bits(v: [u32; HALF]) -> u16 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128, _mm_movemask_ps};
        let mut r = 0;
        for k in 0..4 {
            let four = [v[4 * k], v[4 * k + 1], v[4 * k + 2], v[4 * k + 3]];
            // SAFETY: both types are 16 bytes of plain data; SSE2 is part of x86-64.
            let m = unsafe { _mm_movemask_ps(std::mem::transmute::<[u32; 4], __m128>(four)) };
            r |= (m as u16) << (4 * k);
        }
        r
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut r = 0;
        for (i, x) in v.iter().enumerate() {
            r |= ((x >> 31) as u16) << i;
        }
        r
    }
}
