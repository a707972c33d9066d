//! Handlers of loads and stores.
#![allow(unsafe_code)] // frame slots and device memory through raw pointers
#![allow(clippy::needless_range_loop)] // lanes are numbers: they index several arrays and masks at once

use super::alu::Isa;
use super::insn::{Handler, Insn};
use super::lanes::{LANES, Lane};
use super::memory::{fault, small};
use super::warp::Warp;
use super::whole;
use crate::ir::Access;

/// A memory element: how it lies in memory and in a lane.
pub(super) trait Element: Copy {
    type Lane: Lane;
    const BYTES: u64;
    /// # Safety
    /// `p` is readable for the element.
    unsafe fn read(p: *const u8, signed: bool) -> Self::Lane;
    /// # Safety
    /// `p` is writable for the element.
    unsafe fn write(p: *mut u8, v: Self::Lane);
    fn bits(v: Self::Lane) -> u64;
}

macro_rules! element {
    ($t:ty, $s:ty, $lane:ty, $wide:ty) => {
        impl Element for $t {
            type Lane = $lane;
            const BYTES: u64 = size_of::<$t>() as u64;
            #[inline(always)]
            unsafe fn read(p: *const u8, signed: bool) -> $lane {
                // SAFETY: the caller checked the range. Volatile: other blocks may write it.
                let v = unsafe { p.cast::<$t>().read_volatile() };
                if signed {
                    v as $s as $wide as $lane
                } else {
                    v as $lane
                }
            }
            #[inline(always)]
            unsafe fn write(p: *mut u8, v: $lane) {
                // SAFETY: the caller checked the range.
                unsafe { p.cast::<$t>().write_volatile(v as $t) }
            }
            #[inline(always)]
            fn bits(v: $lane) -> u64 {
                v.into()
            }
        }
    };
}
element!(u8, i8, u32, i32);
element!(u16, i16, u32, i32);
element!(u32, i32, u32, i32);
element!(u64, i64, u64, i64);

/// Addresses of all lanes, offset included.
#[inline(always)]
pub(super) unsafe fn addresses(f: *mut u8, i: &Insn) -> [u64; LANES] {
    let mut a = [0u64; LANES];
    // SAFETY: the emitter gives the address a vector slot of the class it flags.
    unsafe {
        let p = f.add(i.s[0] as usize);
        if i.small & small::ADDR32 != 0 {
            let v = u32::load(p);
            for l in 0..LANES {
                a[l] = u64::from(v[l].wrapping_add(i.imm as u32));
            }
        } else {
            let v = u64::load(p);
            for l in 0..LANES {
                a[l] = v[l].wrapping_add(i.imm as u64);
            }
        }
    }
    a
}

/// Host address minus device address for all active lanes at once, if they lie
/// in one range and are aligned.
#[inline(always)]
fn common_range(
    w: &Warp,
    i: &Insn,
    a: &[u64; LANES],
    mask: u32,
    bytes: u64,
    write: bool,
) -> Option<usize> {
    let first = a[mask.trailing_zeros() as usize & 31];
    let (mut lo, mut hi, mut or) = (first, first, 0u64);
    for l in 0..LANES {
        let v = if mask & (1 << l) != 0 { a[l] } else { first };
        lo = if v < lo { v } else { lo };
        hi = if v > hi { v } else { hi };
        or |= v;
    }
    if or & (bytes - 1) != 0 {
        return None;
    }
    let m = &w.memory;
    match i.small & small::SPACE {
        small::SHARED => {
            (hi < m.shared_bytes && bytes <= m.shared_bytes - hi).then_some(m.shared as usize)
        }
        small::LOCAL | small::PARAM => None,
        _ => {
            let span = (hi - lo).checked_add(bytes)?;
            m.device(i.cache, lo, span, write).then_some(m.delta)
        }
    }
}

#[inline(always)]
unsafe fn load_vector<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let mask = w.mask;
    // SAFETY: the emitter gave the address a vector slot in this frame.
    let a = unsafe { addresses(f, i) };
    let count = u64::from(i.count);
    let bytes = E::BYTES * count;
    let signed = i.small & small::SIGNED != 0;
    let mut host = [std::ptr::null::<u8>(); LANES];
    match common_range(w, i, &a, mask, bytes, false) {
        Some(delta) => {
            if mask == u32::MAX && count == 1 && E::BYTES >= 4 {
                let mut run = 0u64;
                for l in 0..LANES {
                    run |= a[l].wrapping_sub(a[0].wrapping_add(l as u64 * E::BYTES));
                }
                if run == 0 {
                    let p = (a[0] as usize).wrapping_add(delta) as *const u8;
                    // SAFETY: 32 consecutive elements from a[0] to a[31] were checked, and
                    // the result has a vector slot of this class.
                    unsafe { E::Lane::store(f.add(i.d[0] as usize), read_run::<E, LANES>(p)) };
                    return 0;
                }
            }
            for l in 0..LANES {
                host[l] = (a[l] as usize).wrapping_add(delta) as *const u8;
            }
        }
        None => {
            for l in 0..LANES {
                if mask & (1 << l) != 0 {
                    match w
                        .memory
                        .translate(i.small, i.cache, l as u32, a[l], bytes, false)
                    {
                        Ok(p) => host[l] = p,
                        Err(k) => return fault(w, i, k, l as u32, a[l], bytes, false),
                    }
                }
            }
        }
    }
    for k in 0..usize::from(i.count).min(8) {
        // SAFETY: each active lane's host address was checked for all elements; the results
        // have vector slots of this class.
        unsafe {
            let slot = f.add(i.d[k & 3] as usize);
            let mut d = if mask == u32::MAX {
                E::Lane::ZERO
            } else {
                E::Lane::load(slot)
            };
            for l in 0..LANES {
                if mask & (1 << l) != 0 {
                    E::Lane::set(
                        &mut d,
                        l,
                        E::read(host[l].add(k * E::BYTES as usize), signed),
                    );
                }
            }
            E::Lane::store(slot, d);
        }
    }
    0
}

/// Reads consecutive elements that are as wide as their lane.
#[inline(always)]
unsafe fn read_run<E: Element, const N: usize>(p: *const u8) -> <E::Lane as Lane>::Vector {
    let mut v = E::Lane::ZERO;
    // SAFETY: the caller checked `N` elements at `p`; the copy goes to a local vector that
    // holds at least as many.
    unsafe {
        std::ptr::copy_nonoverlapping(p, (&raw mut v).cast::<u8>(), N * E::BYTES as usize);
    }
    v
}

#[inline(always)]
unsafe fn store_vector<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let mask = w.mask;
    // SAFETY: the emitter gave the address a vector slot in this frame.
    let a = unsafe { addresses(f, i) };
    let bytes = E::BYTES * u64::from(i.count);
    let mut host = [std::ptr::null_mut::<u8>(); LANES];
    match common_range(w, i, &a, mask, bytes, true) {
        Some(delta) => {
            for l in 0..LANES {
                host[l] = (a[l] as usize).wrapping_add(delta) as *mut u8;
            }
        }
        None => {
            for l in 0..LANES {
                if mask & (1 << l) != 0 {
                    match w
                        .memory
                        .translate(i.small, i.cache, l as u32, a[l], bytes, true)
                    {
                        Ok(p) => host[l] = p,
                        Err(k) => return fault(w, i, k, l as u32, a[l], bytes, true),
                    }
                }
            }
        }
    }
    for k in 0..usize::from(i.count).min(8) {
        // SAFETY: as in `load_vector`; the values have vector slots of this class.
        unsafe {
            let v = E::Lane::load(f.add(value_slot(i, k) as usize));
            for l in 0..LANES {
                if mask & (1 << l) != 0 {
                    E::write(host[l].add(k * E::BYTES as usize), E::Lane::get(&v, l));
                }
            }
        }
    }
    0
}

/// Slot of the k-th stored value: three beside the address, the fourth in `d`.
#[inline(always)]
pub(super) fn value_slot(i: &Insn, k: usize) -> u32 {
    i.d[k & 3]
}

/// Checks the active lanes of both halves of an affine address; returns the
/// host address of lane 0 of each half (which itself may lie outside).
#[inline(always)]
unsafe fn affine_range(
    f: *mut u8,
    i: &Insn,
    w: &Warp,
    bytes: u64,
    write: bool,
) -> Option<[*mut u8; 2]> {
    let stride = i64::from(i.x as i32);
    let mut host = [std::ptr::null_mut::<u8>(); 2];
    for (h, out) in host.iter_mut().enumerate() {
        let hm = (w.mask >> (16 * h)) & 0xffff;
        if hm == 0 {
            continue;
        }
        // SAFETY: the emitter gave the address a pair slot in this frame.
        let mut base =
            unsafe { u64::load_half(f.add(i.s[0] as usize), h) }.wrapping_add(i.imm as u64);
        let first = i64::from(hm.trailing_zeros());
        let last = i64::from(31 - hm.leading_zeros());
        if i.small & small::ADDR32 != 0 {
            base &= 0xffff_ffff;
        }
        let a = base.wrapping_add((stride * first) as u64);
        let b = base.wrapping_add((stride * last) as u64);
        let (lo, hi) = if stride < 0 { (b, a) } else { (a, b) };
        let aligned =
            (a | stride as u64) & (bytes - 1) == 0 || (first == last && a & (bytes - 1) == 0);
        let m = &w.memory;
        let delta = match i.small & small::SPACE {
            _ if lo > hi || !aligned => None,
            small::SHARED => {
                (hi < m.shared_bytes && bytes <= m.shared_bytes - hi).then_some(m.shared as usize)
            }
            small::LOCAL | small::PARAM => None,
            _ => match (hi - lo).checked_add(bytes) {
                Some(span) if m.device(i.cache, lo, span, write) => Some(m.delta),
                _ => None,
            },
        };
        match delta {
            Some(delta) => *out = (base as usize).wrapping_add(delta) as *mut u8,
            None => return None,
        }
    }
    Some(host)
}

/// Spreads an affine address over a vector in the scratch lanes and runs the
/// lane-by-lane form of the operation.
#[cold]
pub(super) unsafe fn by_lane(f: *mut u8, i: &Insn) -> [u64; LANES] {
    let stride = i64::from(i.x as i32);
    let mut a = [0u64; LANES];
    for (l, a) in a.iter_mut().enumerate() {
        // SAFETY: the emitter gave the address a pair slot in this frame.
        let base = unsafe { u64::load_half(f.add(i.s[0] as usize), l / 16) };
        *a = base
            .wrapping_add(i.imm as u64)
            .wrapping_add((stride * (l as i64 % 16)) as u64);
        if i.small & small::ADDR32 != 0 {
            *a &= 0xffff_ffff;
        }
    }
    a
}

#[inline(always)]
unsafe fn load_affine<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let mask = w.mask;
    let bytes = E::BYTES * u64::from(i.count);
    let signed = i.small & small::SIGNED != 0;
    let stride = i.x as i32 as isize;
    // SAFETY: forwarded from the caller.
    let host = match unsafe { affine_range(f, i, w, bytes, false) } {
        Some(h) => h,
        // SAFETY: forwarded from the caller.
        None => return unsafe { load_by_lane::<E>(f, i, w) },
    };
    for k in 0..usize::from(i.count).min(8) {
        // SAFETY: `affine_range` checked every active lane for all elements; results have
        // vector slots of this class. Lanes between the first and the last active one lie
        // between checked addresses.
        unsafe {
            let slot = f.add(i.d[k & 3] as usize);
            let mut d = E::Lane::load(slot);
            for h in 0..2 {
                let hm = (mask >> (16 * h)) & 0xffff;
                if hm == 0 {
                    continue;
                }
                let p = host[h].wrapping_add(k * E::BYTES as usize);
                if hm == 0xffff && stride == E::BYTES as isize && E::BYTES >= 4 && i.count == 1 {
                    let v = read_run::<E, 16>(p);
                    for l in 0..16 {
                        E::Lane::set(&mut d, 16 * h + l, E::Lane::get(&v, l));
                    }
                } else if hm == 0xffff && stride == 0 {
                    let v = E::read(p, signed);
                    for l in 0..16 {
                        E::Lane::set(&mut d, 16 * h + l, v);
                    }
                } else {
                    for l in 0..16usize {
                        if hm & (1 << l) != 0 {
                            let v = E::read(p.wrapping_offset(stride * l as isize), signed);
                            E::Lane::set(&mut d, 16 * h + l, v);
                        }
                    }
                }
            }
            E::Lane::store(slot, d);
        }
    }
    0
}

#[cold]
#[inline(never)]
unsafe fn load_by_lane<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller.
    let a = unsafe { by_lane(f, i) };
    let bytes = E::BYTES * u64::from(i.count);
    let mut host = [std::ptr::null_mut::<u8>(); LANES];
    for l in 0..LANES {
        if w.mask & (1 << l) != 0 {
            match w
                .memory
                .translate(i.small, i.cache, l as u32, a[l], bytes, false)
            {
                Ok(p) => host[l] = p,
                Err(k) => return fault(w, i, k, l as u32, a[l], bytes, false),
            }
        }
    }
    for k in 0..usize::from(i.count).min(8) {
        // SAFETY: each active lane was checked; results have vector slots of this class.
        unsafe {
            let slot = f.add(i.d[k & 3] as usize);
            let mut d = E::Lane::load(slot);
            for l in 0..LANES {
                if w.mask & (1 << l) != 0 {
                    let v = E::read(
                        host[l].add(k * E::BYTES as usize),
                        i.small & small::SIGNED != 0,
                    );
                    E::Lane::set(&mut d, l, v);
                }
            }
            E::Lane::store(slot, d);
        }
    }
    0
}

#[inline(always)]
unsafe fn store_affine<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let mask = w.mask;
    let bytes = E::BYTES * u64::from(i.count);
    let stride = i.x as i32 as isize;
    // SAFETY: forwarded from the caller.
    let host = match unsafe { affine_range(f, i, w, bytes, true) } {
        Some(h) => h,
        // SAFETY: forwarded from the caller.
        None => return unsafe { store_by_lane::<E>(f, i, w) },
    };
    for k in 0..usize::from(i.count).min(8) {
        // SAFETY: as in `load_affine`.
        unsafe {
            let v = E::Lane::load(f.add(value_slot(i, k) as usize));
            for h in 0..2 {
                let hm = (mask >> (16 * h)) & 0xffff;
                let p = host[h].wrapping_add(k * E::BYTES as usize);
                if hm == 0xffff && stride == E::BYTES as isize && E::BYTES >= 4 && i.count == 1 {
                    let from = (&raw const v).cast::<u8>().add(16 * h * E::BYTES as usize);
                    std::ptr::copy_nonoverlapping(from, p, 16 * E::BYTES as usize);
                } else {
                    for l in 0..16usize {
                        if hm & (1 << l) != 0 {
                            E::write(
                                p.wrapping_offset(stride * l as isize),
                                E::Lane::get(&v, 16 * h + l),
                            );
                        }
                    }
                }
            }
        }
    }
    0
}

#[cold]
#[inline(never)]
unsafe fn store_by_lane<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller.
    let a = unsafe { by_lane(f, i) };
    let bytes = E::BYTES * u64::from(i.count);
    let mut host = [std::ptr::null_mut::<u8>(); LANES];
    for l in 0..LANES {
        if w.mask & (1 << l) != 0 {
            match w
                .memory
                .translate(i.small, i.cache, l as u32, a[l], bytes, true)
            {
                Ok(p) => host[l] = p,
                Err(k) => return fault(w, i, k, l as u32, a[l], bytes, true),
            }
        }
    }
    for k in 0..usize::from(i.count).min(8) {
        // SAFETY: each active lane was checked; values have vector slots of this class.
        unsafe {
            let v = E::Lane::load(f.add(value_slot(i, k) as usize));
            for l in 0..LANES {
                if w.mask & (1 << l) != 0 {
                    E::write(host[l].add(k * E::BYTES as usize), E::Lane::get(&v, l));
                }
            }
        }
    }
    0
}

/// Loads once per half (once per warp if the address is uniform) into pair slots.
#[inline(always)]
unsafe fn load_pair<E: Element>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let bytes = E::BYTES * u64::from(i.count);
    let signed = i.small & small::SIGNED != 0;
    let uniform = i.small & small::UNIFORM != 0;
    for h in 0..2usize {
        let hm = (w.mask >> (16 * h)) & 0xffff;
        if hm == 0 {
            continue;
        }
        // SAFETY: the emitter gave the address a pair slot in this frame.
        let mut a = unsafe { u64::load_half(f.add(i.s[0] as usize), h) }.wrapping_add(i.imm as u64);
        if i.small & small::ADDR32 != 0 {
            a &= 0xffff_ffff;
        }
        let lane = hm.trailing_zeros() + 16 * h as u32;
        let p = match w.memory.translate(i.small, i.cache, lane, a, bytes, false) {
            Ok(p) => p,
            Err(k) => return fault(w, i, k, lane, a, bytes, false),
        };
        for k in 0..usize::from(i.count).min(8) {
            // SAFETY: the access was checked; results have pair slots.
            unsafe {
                let v = E::bits(E::read(p.add(k * E::BYTES as usize), signed));
                let slot = f.add(i.d[k & 3] as usize).cast::<u64>();
                slot.add(h).write(v);
                if uniform {
                    slot.add(1 - h).write(v);
                }
            }
        }
        if uniform {
            break;
        }
    }
    0
}

macro_rules! instantiate {
    ($name:ident, $attr:tt) => {
        mod $name {
            use super::*;
            instantiate!(@one $attr load_vector lv1 u8 lv2 u16 lv4 u32 lv8 u64);
            instantiate!(@one $attr store_vector sv1 u8 sv2 u16 sv4 u32 sv8 u64);
            instantiate!(@one $attr load_affine la1 u8 la2 u16 la4 u32 la8 u64);
            instantiate!(@one $attr store_affine sa1 u8 sa2 u16 sa4 u32 sa8 u64);
            pub const LOAD_VECTOR: [Handler; 4] = [lv1, lv2, lv4, lv8];
            pub const STORE_VECTOR: [Handler; 4] = [sv1, sv2, sv4, sv8];
            pub const LOAD_AFFINE: [Handler; 4] = [la1, la2, la4, la8];
            pub const STORE_AFFINE: [Handler; 4] = [sa1, sa2, sa4, sa8];
        }
    };
    (@one $attr:tt $g:ident $($n:ident $t:ty)*) => {
        $(instantiate!(@fn $attr $g $n $t);)*
    };
    (@fn $attr:tt $g:ident $n:ident $t:ty) => {
        #$attr
        unsafe fn $n(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
            // SAFETY: forwarded from the caller: `f` is the frame `i` was emitted for.
            unsafe { $g::<$t>(f, i, w) }
        }
    };
}
instantiate!(baseline, [inline]);
#[cfg(target_arch = "x86_64")]
instantiate!(avx2, [target_feature(enable = "avx2,fma,bmi1,bmi2")]);
#[cfg(target_arch = "x86_64")]
instantiate!(
    avx512,
    [target_feature(
        enable = "avx2,fma,bmi1,bmi2,avx512f,avx512bw,avx512dq,avx512vl"
    )]
);

macro_rules! pair_loads {
    ($($n:ident $t:ty)*) => {
        $(unsafe fn $n(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
            // SAFETY: forwarded from the caller.
            unsafe { load_pair::<$t>(f, i, w) }
        })*
    };
}
pair_loads!(lp1 u8 lp2 u16 lp4 u32 lp8 u64);

/// How an operation reaches its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A vector of addresses.
    Vector,
    /// A base per half and a stride.
    Affine,
    /// One address per half, results in pair slots.
    Pair,
}

/// The handler of a load or store.
pub fn handler(a: Access, load: bool, form: Form, isa: Isa) -> Handler {
    let k = (a.bytes.trailing_zeros() as usize).min(3);
    if a.whole {
        return whole::handler(k, load, form);
    }
    let tables = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => [
            avx512::LOAD_VECTOR,
            avx512::STORE_VECTOR,
            avx512::LOAD_AFFINE,
            avx512::STORE_AFFINE,
        ],
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => [
            avx2::LOAD_VECTOR,
            avx2::STORE_VECTOR,
            avx2::LOAD_AFFINE,
            avx2::STORE_AFFINE,
        ],
        _ => [
            baseline::LOAD_VECTOR,
            baseline::STORE_VECTOR,
            baseline::LOAD_AFFINE,
            baseline::STORE_AFFINE,
        ],
    };
    match (form, load) {
        (Form::Vector, true) => tables[0][k],
        (Form::Vector, false) => tables[1][k],
        (Form::Affine, true) => tables[2][k],
        (Form::Affine, false) => tables[3][k],
        (Form::Pair, _) => [lp1, lp2, lp4, lp8][k],
    }
}
