//! Accesses of up to 16 bytes that other threads see whole or not at all: vectors with a qualifier of strength, and
//! 128-bit atomics.
#![allow(unsafe_code)] // checked device memory through raw pointers; an instruction that Rust has no name for
#![allow(clippy::needless_range_loop)] // lanes are numbers: they index several arrays and masks at once

use std::sync::{Mutex, PoisonError};

use super::access::{Element, Form, addresses, by_lane, value_slot};
use super::insn::{Handler, Insn};
use super::lanes::{HALF, LANES, Lane};
use super::memory::{fault, small};
use super::warp::Warp;

/// Most bytes that one access reads or writes at once, as GPUs have it up to sm_90.
pub const WHOLE_BYTES: u32 = 16;

/// 16 bytes at a time where the processor has no such operation.
static WIDE: Mutex<()> = Mutex::new(());

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::asm;
    use std::arch::x86_64::__m128i;

    /// With AVX, Intel and AMD promise that aligned moves of 16 bytes are atomic (Intel SDM, volume 3, "Guaranteed
    /// Atomic Operations").
    pub fn available() -> bool {
        is_x86_feature_detected!("avx") && is_x86_feature_detected!("cmpxchg16b")
    }

    #[target_feature(enable = "avx")]
    pub unsafe fn read(p: *const u8) -> u128 {
        let v: __m128i;
        // SAFETY: the caller checked 16 bytes at `p`, which is aligned to them.
        unsafe {
            asm!("vmovdqa {v}, [{p}]", v = out(xmm_reg) v, p = in(reg) p,
                options(nostack, preserves_flags, readonly));
            std::mem::transmute(v)
        }
    }

    #[target_feature(enable = "avx")]
    pub unsafe fn write(p: *mut u8, v: u128) {
        // SAFETY: as in `read`.
        unsafe {
            let v: __m128i = std::mem::transmute(v);
            asm!("vmovdqa [{p}], {v}", v = in(xmm_reg) v, p = in(reg) p,
                options(nostack, preserves_flags));
        }
    }

    pub unsafe fn compare_exchange(p: *mut u8, old: u128, new: u128) -> u128 {
        let (lo, hi): (u64, u64);
        // SAFETY: as in `read`; the processor has the instruction. The compiler keeps `rbx` to itself: it has its value
        // back at the end.
        unsafe {
            asm!("xchg rbx, rsi", "lock cmpxchg16b [rdi]", "mov rbx, rsi",
                inout("rsi") new as u64 => _, in("rcx") (new >> 64) as u64, in("rdi") p,
                inout("rax") old as u64 => lo, inout("rdx") (old >> 64) as u64 => hi,
                options(nostack));
        }
        u128::from(lo) | u128::from(hi) << 64
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod native {
    pub fn available() -> bool {
        false
    }
    pub unsafe fn read(_: *const u8) -> u128 {
        0
    }
    pub unsafe fn write(_: *mut u8, _: u128) {}
    pub unsafe fn compare_exchange(_: *mut u8, old: u128, _: u128) -> u128 {
        old
    }
}

/// # Safety
/// `p` is readable for `bytes` (2, 4, 8 or 16) and aligned to them.
unsafe fn read(p: *const u8, bytes: u64) -> u128 {
    // SAFETY: forwarded from the caller. Volatile: other blocks may write it.
    unsafe {
        match bytes {
            2 => p.cast::<u16>().read_volatile().into(),
            4 => p.cast::<u32>().read_volatile().into(),
            8 => p.cast::<u64>().read_volatile().into(),
            _ if native::available() => native::read(p),
            _ => {
                let _alone = WIDE.lock().unwrap_or_else(PoisonError::into_inner);
                p.cast::<u128>().read_volatile()
            }
        }
    }
}

/// # Safety
/// `p` is writable for `bytes` (2, 4, 8 or 16) and aligned to them.
unsafe fn write(p: *mut u8, bytes: u64, v: u128) {
    // SAFETY: as in `read`.
    unsafe {
        match bytes {
            2 => p.cast::<u16>().write_volatile(v as u16),
            4 => p.cast::<u32>().write_volatile(v as u32),
            8 => p.cast::<u64>().write_volatile(v as u64),
            _ if native::available() => native::write(p, v),
            _ => {
                let _alone = WIDE.lock().unwrap_or_else(PoisonError::into_inner);
                p.cast::<u128>().write_volatile(v);
            }
        }
    }
}

/// Replaces 16 bytes, where `expected` is given only if it is there; returns what was there.
///
/// # Safety
/// `p` is readable and writable for 16 bytes and aligned to them.
pub(super) unsafe fn exchange(p: *mut u8, expected: Option<u128>, new: u128) -> u128 {
    // SAFETY: forwarded from the caller.
    unsafe {
        if native::available() {
            let mut old = match expected {
                Some(v) => v,
                None => native::read(p),
            };
            loop {
                let was = native::compare_exchange(p, old, new);
                if was == old || expected.is_some() {
                    return was;
                }
                old = was;
            }
        }
        let _alone = WIDE.lock().unwrap_or_else(PoisonError::into_inner);
        let old = p.cast::<u128>().read_volatile();
        if expected.is_none_or(|v| v == old) {
            p.cast::<u128>().write_volatile(new);
        }
        old
    }
}

/// Addresses of the lanes in `mask`, checked.
#[inline(always)]
unsafe fn reach(
    f: *mut u8,
    i: &Insn,
    w: &mut Warp,
    form: Form,
    mask: u32,
    bytes: u64,
    store: bool,
) -> Result<[*mut u8; LANES], u32> {
    // SAFETY: forwarded from the caller: the emitter gave the address a slot as `form` has it.
    let a = unsafe {
        match form {
            Form::Vector => addresses(f, i),
            Form::Affine | Form::Pair => by_lane(f, i),
        }
    };
    let mut host = [std::ptr::null_mut(); LANES];
    for (l, host) in host.iter_mut().enumerate() {
        if mask & (1 << l) == 0 {
            continue;
        }
        let found = w
            .memory
            .translate(i.small, i.cache, l as u32, a[l], bytes, store);
        match found {
            Ok(p) => *host = p,
            Err(kind) => return Err(fault(w, i, kind, l as u32, a[l], bytes, store)),
        }
    }
    Ok(host)
}

#[inline(always)]
unsafe fn load<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp, form: Form) -> u32 {
    let bytes = E::BYTES * u64::from(i.count);
    let signed = i.small & small::SIGNED != 0;
    let uniform = i.small & small::UNIFORM != 0;
    let first = |mask: u32| mask & mask.wrapping_neg();
    // A pair holds one value per half, or one in all: the first lane that runs reads it.
    let mask = match form {
        Form::Pair if uniform => first(w.mask),
        Form::Pair => first(w.mask & 0xffff) | first(w.mask & 0xffff_0000),
        _ => w.mask,
    };
    // SAFETY: forwarded from the caller.
    let host = match unsafe { reach(f, i, w, form, mask, bytes, false) } {
        Ok(host) => host,
        Err(event) => return event,
    };
    let mut raw = [[0u8; WHOLE_BYTES as usize]; LANES];
    for l in 0..LANES {
        if mask & (1 << l) != 0 {
            // SAFETY: `reach` checked the lane.
            raw[l] = unsafe { read(host[l], bytes) }.to_le_bytes();
        }
    }
    for k in 0..elements::<E>(i) {
        // SAFETY: `elements` are inside `raw`; results have slots as `form` has it.
        unsafe {
            let value = |l: usize| E::read(raw[l].as_ptr().add(k * E::BYTES as usize), signed);
            let slot = f.add(i.d[k] as usize);
            if form == Form::Pair {
                for l in (0..LANES).filter(|l| mask & (1 << l) != 0) {
                    let bits = E::bits(value(l));
                    slot.cast::<u64>().add(l / HALF).write(bits);
                    if uniform {
                        slot.cast::<u64>().add(1 - l / HALF).write(bits);
                    }
                }
                continue;
            }
            let mut d = E::Lane::load(slot);
            for l in (0..LANES).filter(|l| mask & (1 << l) != 0) {
                E::Lane::set(&mut d, l, value(l));
            }
            E::Lane::store(slot, d);
        }
    }
    0
}

#[inline(always)]
unsafe fn store<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp, form: Form) -> u32 {
    let bytes = E::BYTES * u64::from(i.count);
    // SAFETY: forwarded from the caller.
    let host = match unsafe { reach(f, i, w, form, w.mask, bytes, true) } {
        Ok(host) => host,
        Err(event) => return event,
    };
    let mut raw = [[0u8; WHOLE_BYTES as usize]; LANES];
    for k in 0..elements::<E>(i) {
        // SAFETY: `elements` are inside `raw`; values have vector slots of this class.
        unsafe {
            let v = E::Lane::load(f.add(value_slot(i, k) as usize));
            for (l, raw) in raw.iter_mut().enumerate() {
                let at = raw.as_mut_ptr().add(k * E::BYTES as usize);
                E::write(at, E::Lane::get(&v, l));
            }
        }
    }
    for l in 0..LANES {
        if w.mask & (1 << l) != 0 {
            // SAFETY: `reach` checked the lane.
            unsafe { write(host[l], bytes, u128::from_le_bytes(raw[l])) };
        }
    }
    0
}

/// Elements of a lane, of which there are results and values.
fn elements<E: Element>(i: &Insn) -> usize {
    usize::from(i.count)
        .min(WHOLE_BYTES as usize / E::BYTES as usize)
        .min(i.d.len())
}

macro_rules! handlers {
    ($($name:ident $body:ident $t:ty, $form:ident;)*) => {
        $(unsafe fn $name(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
            // SAFETY: forwarded from the caller: `f` is the frame `i` was emitted for.
            unsafe { $body::<$t>(f, i, w, Form::$form) }
        })*
    };
}
handlers! {
    lv1 load u8, Vector; lv2 load u16, Vector; lv4 load u32, Vector; lv8 load u64, Vector;
    la1 load u8, Affine; la2 load u16, Affine; la4 load u32, Affine; la8 load u64, Affine;
    lp1 load u8, Pair; lp2 load u16, Pair; lp4 load u32, Pair; lp8 load u64, Pair;
    sv1 store u8, Vector; sv2 store u16, Vector; sv4 store u32, Vector; sv8 store u64, Vector;
    sa1 store u8, Affine; sa2 store u16, Affine; sa4 store u32, Affine; sa8 store u64, Affine;
}

/// The handler of a load or store of elements of `1 << log` bytes.
pub(super) fn handler(log: usize, load: bool, form: Form) -> Handler {
    let table = match (load, form) {
        (true, Form::Vector) => [lv1, lv2, lv4, lv8],
        (true, Form::Affine) => [la1, la2, la4, la8],
        (true, Form::Pair) => [lp1, lp2, lp4, lp8],
        (false, Form::Vector) => [sv1, sv2, sv4, sv8],
        (false, _) => [sa1, sa2, sa4, sa8],
    };
    table[log.min(3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Place([u8; 16]);

    #[test]
    fn sixteen_bytes_are_exchanged() {
        let mut place = Place([1; 16]);
        let p = place.0.as_mut_ptr();
        let ones = u128::from_le_bytes([1; 16]);
        // SAFETY: `p` is 16 bytes, aligned to them.
        unsafe {
            assert_eq!(read(p, 16), ones);
            assert_eq!(exchange(p, Some(7), 9), ones);
            assert_eq!(read(p, 16), ones);
            assert_eq!(exchange(p, Some(ones), 9), ones);
            assert_eq!(exchange(p, None, u128::MAX), 9);
            assert_eq!(read(p, 16), u128::MAX);
            write(p, 16, 5);
            write(p, 2, 0xffff_ffff);
            assert_eq!(read(p, 8), 0xffff);
        }
    }
}
