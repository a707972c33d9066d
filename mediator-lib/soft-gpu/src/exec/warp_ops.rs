//! Handlers of warp-wide operations and of what is fixed for a warp.
#![allow(unsafe_code)] // frame slots through raw pointers
#![allow(clippy::needless_range_loop)] // lanes are numbers: they index several arrays and masks at once

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::alu::write;
use super::insn::{EVENT_DEOPT, EVENT_SPLIT, Fill, Insn, NONE};
use super::lanes::{LANES, Lane};
use super::warp::Warp;
use crate::ir::{Class, ReduxOp, ShflMode, Source, VoteMode};
use crate::ptx::ast::Special;

/// For each lane the lanes that take part with it: those that run and name the same members, which
/// operand `k` holds. Without that operand, all that run.
///
/// # Errors
/// [`EVENT_SPLIT`] while some of the members run elsewhere.
unsafe fn members(f: *mut u8, i: &Insn, w: &Warp, k: usize) -> Result<[u32; LANES], u32> {
    if (i.imm >> (2 * k)) & 3 == 0 {
        return Ok([w.mask; LANES]);
    }
    // SAFETY: the emitter gave the operand a vector slot in this frame.
    let named = unsafe { u32::load(f.add(i.s[k] as usize)) };
    let first = named[w.mask.trailing_zeros() as usize & 31];
    let mut differ = 0;
    let mut all = 0;
    for l in 0..LANES {
        let m = if w.mask & (1 << l) != 0 {
            named[l]
        } else {
            first
        };
        differ |= m ^ first;
        all |= m;
    }
    if !w.whole() && all & !w.dead & !w.mask != 0 {
        return Err(EVENT_SPLIT);
    }
    if differ == 0 {
        let set = first & w.mask;
        return Ok([if set == 0 { w.mask } else { set }; LANES]);
    }
    let mut sets = [0; LANES];
    for l in 0..LANES {
        for j in 0..LANES {
            if w.mask & named[l] & (1 << j) != 0 && named[j] == named[l] {
                sets[l] |= 1 << j;
            }
        }
    }
    Ok(sets)
}

/// `bar.warp.sync`: orders the lanes' memory accesses, which this memory does by itself.
pub unsafe fn warp_sync(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller.
    unsafe { members(f, i, w, 0) }.err().unwrap_or(0)
}

/// `shfl` (PTX ISA, "shfl.sync"): `x` is the mode.
pub unsafe fn shfl(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: the emitter gave the operands vector slots in this frame.
    let (a, b, c) = unsafe {
        (
            u32::load(f.add(i.s[0] as usize)),
            u32::load(f.add(i.s[1] as usize)),
            u32::load(f.add(i.s[2] as usize)),
        )
    };
    // SAFETY: forwarded from the caller.
    if let Err(event) = unsafe { members(f, i, w, 3) } {
        return event;
    }
    let mode = [ShflMode::Up, ShflMode::Down, ShflMode::Bfly, ShflMode::Idx][(i.x & 3) as usize];
    let mut d = [0u32; LANES];
    let mut p = 0u32;
    for l in 0..LANES {
        let (lane, bval, cval) = (l as i32, (b[l] & 31) as i32, (c[l] & 31) as i32);
        let seg = ((c[l] >> 8) & 31) as i32;
        let max = (lane & seg) | (cval & !seg);
        let min = lane & seg;
        let (mut j, valid) = match mode {
            ShflMode::Up => (lane - bval, lane - bval >= max),
            ShflMode::Down => (lane + bval, lane + bval <= max),
            ShflMode::Bfly => (lane ^ bval, lane ^ bval <= max),
            ShflMode::Idx => (min | (bval & !seg), min | (bval & !seg) <= max),
        };
        if !valid {
            j = lane;
        }
        d[l] = a[(j & 31) as usize];
        p |= u32::from(valid) << l;
    }
    // SAFETY: results have slots of their classes in this frame.
    unsafe {
        write::<u32>(f, i.d[0], true, w.mask, d);
        if i.d[1] != NONE {
            write::<bool>(f, i.d[1], true, w.mask, p);
        }
    }
    0
}

/// Number of a shuffle mode.
pub fn shfl_number(m: ShflMode) -> u32 {
    match m {
        ShflMode::Up => 0,
        ShflMode::Down => 1,
        ShflMode::Bfly => 2,
        ShflMode::Idx => 3,
    }
}

/// `vote`: the result is the same for all lanes that take part together.
pub unsafe fn vote(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller.
    let sets = match unsafe { members(f, i, w, 1) } {
        Ok(sets) => sets,
        Err(event) => return event,
    };
    // SAFETY: the predicate has a mask slot in this frame; the result has a mask slot, or
    // for ballots a pair or vector slot as `small` says.
    unsafe {
        let p = bool::load(f.add(i.s[0] as usize)) & w.mask;
        if i.x > 2 {
            put_lanes32(f, i, w, sets.map(|set| p & set));
            return 0;
        }
        let mut all = 0;
        for (l, set) in sets.iter().enumerate() {
            let r = match i.x {
                0 => p & set == *set,
                1 => p & set != 0,
                _ => p & set == *set || p & set == 0,
            };
            all |= u32::from(r) << l;
        }
        write::<bool>(f, i.d[0], i.masked, w.mask, all);
    }
    0
}

/// Number of a vote mode.
pub fn vote_number(m: VoteMode) -> u32 {
    match m {
        VoteMode::All => 0,
        VoteMode::Any => 1,
        VoteMode::Uni => 2,
        VoteMode::Ballot => 3,
    }
}

/// Writes a 32-bit result that is the same for all lanes: to a pair slot if
/// `count` is 1, otherwise to a vector slot.
unsafe fn put32(f: *mut u8, i: &Insn, w: &Warp, v: u32) {
    // SAFETY: forwarded from the caller: the slot is of the form that `count` says.
    unsafe {
        if i.count == 1 {
            u32::store_pair(f.add(i.d[0] as usize), [v; 2]);
        } else {
            write::<u32>(f, i.d[0], i.masked, w.mask, [v; LANES]);
        }
    }
}

/// Writes 32-bit results of lanes; they are the same for all where the slot is a pair.
unsafe fn put_lanes32(f: *mut u8, i: &Insn, w: &Warp, v: [u32; LANES]) {
    // SAFETY: forwarded from the caller: the slot is of the form that `count` says.
    unsafe {
        if i.count == 1 {
            let first = v[w.mask.trailing_zeros() as usize & 31];
            u32::store_pair(f.add(i.d[0] as usize), [first; 2]);
        } else {
            write::<u32>(f, i.d[0], i.masked, w.mask, v);
        }
    }
}

unsafe fn put64(f: *mut u8, i: &Insn, w: &Warp, v: u64) {
    // SAFETY: as for `put32`.
    unsafe {
        if i.count == 1 {
            u64::store_pair(f.add(i.d[0] as usize), [v; 2]);
        } else {
            write::<u64>(f, i.d[0], i.masked, w.mask, [v; LANES]);
        }
    }
}

/// `activemask`.
pub unsafe fn activemask(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller.
    unsafe { put32(f, i, w, w.mask) };
    0
}

/// `redux.sync`.
pub unsafe fn redux(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller.
    let sets = match unsafe { members(f, i, w, 1) } {
        Ok(sets) => sets,
        Err(event) => return event,
    };
    // SAFETY: the operand has a vector slot in this frame.
    let a = unsafe { u32::load(f.add(i.s[0] as usize)) };
    let reduce = |set: u32| {
        let mut r: Option<u32> = None;
        for (l, &v) in a.iter().enumerate() {
            if set & (1 << l) != 0 {
                r = Some(match (r, i.x) {
                    (None, _) => v,
                    (Some(r), 0) => r.wrapping_add(v),
                    (Some(r), 1) => r.min(v),
                    (Some(r), 2) => r.max(v),
                    (Some(r), 3) => (r as i32).min(v as i32) as u32,
                    (Some(r), 4) => (r as i32).max(v as i32) as u32,
                    (Some(r), 5) => r & v,
                    (Some(r), 6) => r | v,
                    (Some(r), _) => r ^ v,
                });
            }
        }
        r.unwrap_or(0)
    };
    let mut done = (sets[0], reduce(sets[0]));
    let results = sets.map(|set| {
        if set != done.0 {
            done = (set, reduce(set));
        }
        done.1
    });
    // SAFETY: forwarded from the caller.
    unsafe { put_lanes32(f, i, w, results) };
    0
}

/// Number of a reduction.
pub fn redux_number(o: ReduxOp) -> u32 {
    match o {
        ReduxOp::Add => 0,
        ReduxOp::Min => 1,
        ReduxOp::Max => 2,
        ReduxOp::MinS => 3,
        ReduxOp::MaxS => 4,
        ReduxOp::And => 5,
        ReduxOp::Or => 6,
        ReduxOp::Xor => 7,
    }
}

/// `match.any` (`x` bit 0 clear) and `match.all`, on 64-bit operands if bit 1 is set.
pub unsafe fn matching(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller.
    let sets = match unsafe { members(f, i, w, 1) } {
        Ok(sets) => sets,
        Err(event) => return event,
    };
    let mut a = [0u64; LANES];
    // SAFETY: the operand has a vector slot of the class that bit 1 says.
    unsafe {
        if i.x & 2 != 0 {
            a = u64::load(f.add(i.s[0] as usize));
        } else {
            let v = u32::load(f.add(i.s[0] as usize));
            for l in 0..LANES {
                a[l] = u64::from(v[l]);
            }
        }
    }
    let mut d = [0u32; LANES];
    let mut p = 0;
    for l in 0..LANES {
        for j in 0..LANES {
            if sets[l] & (1 << j) != 0 && a[j] == a[l] {
                d[l] |= 1 << j;
            }
        }
        if i.x & 1 != 0 {
            let all = d[l] == sets[l];
            d[l] = if all { sets[l] } else { 0 };
            p |= u32::from(all) << l;
        }
    }
    // SAFETY: results have slots of their classes in this frame.
    unsafe {
        write::<u32>(f, i.d[0], true, w.mask, d);
        if i.d[1] != NONE {
            write::<bool>(f, i.d[1], true, w.mask, p);
        }
    }
    0
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// `%clock`, `%clock64` (one tick per nanosecond) and `%globaltimer`.
pub unsafe fn read_special(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let clock = || START.elapsed().as_nanos() as u64;
    let timer = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64)
    };
    // SAFETY: forwarded from the caller; the result's class follows from `x`.
    unsafe {
        match i.x {
            0 => put32(f, i, w, clock() as u32),
            1 => put32(f, i, w, (clock() >> 32) as u32),
            2 => put64(f, i, w, clock()),
            3 => put64(f, i, w, timer()),
            4 => put32(f, i, w, timer() as u32),
            _ => put32(f, i, w, (timer() >> 32) as u32),
        }
    }
    0
}

/// Number of a changing special register.
pub fn special_number(s: Special) -> u32 {
    match s {
        Special::Clock => 0,
        Special::ClockHi => 1,
        Special::Clock64 => 2,
        Special::GlobalTimer => 3,
        Special::GlobalTimerLo => 4,
        _ => 5,
    }
}

/// Address of a local variable.
pub unsafe fn local_addr(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let v = w.local_base.wrapping_add(i.imm as u64);
    // SAFETY: forwarded from the caller.
    unsafe { put64(f, i, w, v) };
    0
}

/// `nanosleep`: gives the core away once.
pub unsafe fn sleep(_f: *mut u8, _i: &Insn, _w: &mut Warp) -> u32 {
    std::thread::yield_now();
    0
}

/// Memory fence.
pub unsafe fn fence(_f: *mut u8, _i: &Insn, _w: &mut Warp) -> u32 {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    0
}

/// Writes pair slot `s[0]` with stride `imm` as the 32-bit vector `d[0]`.
#[inline(always)]
unsafe fn splat32_impl(f: *mut u8, i: &Insn) {
    // SAFETY: the emitter gave both slots in this frame.
    unsafe {
        let p = f.add(i.s[0] as usize);
        let (a, b) = (u32::load_half(p, 0), u32::load_half(p, 1));
        let mut v = [0u32; LANES];
        let s = i.imm as u32;
        for l in 0..16u32 {
            v[l as usize] = a.wrapping_add(s.wrapping_mul(l));
            v[l as usize + 16] = b.wrapping_add(s.wrapping_mul(l));
        }
        u32::store(f.add(i.d[0] as usize), v);
    }
}

/// Pair to vector, 32 bits.
#[inline(never)] // one address: the template compiler knows it by that
pub unsafe fn splat32(f: *mut u8, i: &Insn, _w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller.
    unsafe { splat32_impl(f, i) };
    0
}

/// Pair to vector, 64 bits.
#[inline(never)] // as `splat32`
pub unsafe fn splat64(f: *mut u8, i: &Insn, _w: &mut Warp) -> u32 {
    // SAFETY: the emitter gave both slots in this frame.
    unsafe {
        let p = f.add(i.s[0] as usize);
        let (a, b) = (u64::load_half(p, 0), u64::load_half(p, 1));
        let mut v = [0u64; LANES];
        let s = i.imm as u64;
        for l in 0..16u64 {
            v[l as usize] = a.wrapping_add(s.wrapping_mul(l));
            v[l as usize + 16] = b.wrapping_add(s.wrapping_mul(l));
        }
        u64::store(f.add(i.d[0] as usize), v);
    }
    0
}

/// Checks that the affine 32-bit value in `s[0]` (stride `imm`) does not wrap
/// in its active lanes: as signed if `x` is 1, otherwise as unsigned.
#[inline(never)] // as `splat32`
pub unsafe fn guard_affine(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    for h in 0..2 {
        let hm = (w.mask >> (16 * h)) & 0xffff;
        if hm == 0 {
            continue;
        }
        // SAFETY: the emitter gave the operand a pair slot in this frame.
        let base = unsafe { u32::load_half(f.add(i.s[0] as usize), h) };
        let first = i64::from(hm.trailing_zeros());
        let last = i64::from(31 - hm.leading_zeros());
        // The value of lane 0 of the half must extend to all active lanes.
        let (v, lo, hi) = if i.x == 1 {
            (
                i64::from(base as i32),
                i64::from(i32::MIN),
                i64::from(i32::MAX),
            )
        } else {
            (i64::from(base), 0, i64::from(u32::MAX))
        };
        let inside = |k: i64| (lo..=hi).contains(&(v + i.imm * k));
        if !inside(first) || !inside(last) {
            return EVENT_DEOPT;
        }
    }
    0
}

/// Fills the slots of a 32-bit value that is the same for all lanes.
///
/// # Safety
/// `f` is a frame of the function that the slots belong to.
#[inline(always)]
pub unsafe fn fill_uniform(f: *mut u8, fill: &Fill, v: u32) {
    // SAFETY: the emitter gave the slots in the frame of this function.
    unsafe {
        if fill.pair != NONE {
            both(f.add(fill.pair as usize), v);
        }
        if fill.vec != NONE {
            u32::store(f.add(fill.vec as usize), [v; LANES]);
        }
    }
}

/// Writes a pair of equal values as one: compiled code reads both together right away, and would wait for
/// two halves.
///
/// # Safety
/// `p` is a pair slot.
#[inline(always)]
unsafe fn both(p: *mut u8, v: u32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_set1_epi64x, _mm_store_si128};
        // SAFETY: the caller passes a pair slot, which has 16 aligned bytes; SSE2 is part of x86-64.
        unsafe { _mm_store_si128(p.cast(), _mm_set1_epi64x(v.into())) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: forwarded from the caller.
    unsafe {
        u32::store_pair(p, [v; 2])
    }
}

/// Fills the slots of a constant or of something that is fixed for the warp.
///
/// # Safety
/// `f` is a frame of the function that `fill` belongs to.
pub unsafe fn fill(f: *mut u8, fill: &Fill, w: &Warp) {
    let lane_value = |l: u32| match fill.source {
        Source::Const(v) => v,
        Source::Special(s) => w.id.special(s, l),
        Source::Param(offset, bytes, signed) => w.memory.param(offset, bytes, signed),
        Source::Defined => 0,
    };
    let same = match fill.source {
        Source::Special(
            Special::Tid(_)
            | Special::LaneId
            | Special::LaneMaskEq
            | Special::LaneMaskLe
            | Special::LaneMaskLt
            | Special::LaneMaskGe
            | Special::LaneMaskGt,
        ) => None,
        _ => Some(lane_value(0)),
    };
    let lane_value = |l: u32| same.unwrap_or_else(|| lane_value(l));
    // SAFETY: the emitter gave the slots in the frame of this function.
    unsafe {
        match fill.class {
            Class::P => {
                let v = if lane_value(0) != 0 { u32::MAX } else { 0 };
                bool::store(f.add(fill.pair as usize), v);
            }
            Class::W => {
                if fill.pair != NONE {
                    u32::store_pair(
                        f.add(fill.pair as usize),
                        [lane_value(0) as u32, lane_value(16) as u32],
                    );
                }
                if fill.vec != NONE {
                    let mut v = [same.unwrap_or(0) as u32; LANES];
                    if same.is_none() {
                        for (l, v) in v.iter_mut().enumerate() {
                            *v = lane_value(l as u32) as u32;
                        }
                    }
                    u32::store(f.add(fill.vec as usize), v);
                }
            }
            Class::D => {
                if fill.pair != NONE {
                    u64::store_pair(f.add(fill.pair as usize), [lane_value(0), lane_value(16)]);
                }
                if fill.vec != NONE {
                    let mut v = [same.unwrap_or(0); LANES];
                    if same.is_none() {
                        for (l, v) in v.iter_mut().enumerate() {
                            *v = lane_value(l as u32);
                        }
                    }
                    u64::store(f.add(fill.vec as usize), v);
                }
            }
        }
    }
}
