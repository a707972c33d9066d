//! Warp-wide handlers of the lane operations, expanded from the table of
//! [`crate::ir::alu`] once per instruction set.
#![allow(unsafe_code)] // frame slots are reached through raw pointers

use super::approx::*;
use super::float::*;
use super::fp8::{f16_from_fp8, fp8_from_f16, fp8_from_f32};
use super::half::*;
use super::insn::{Handler, Insn};
use super::integer::*;
use super::lanes::{HALF, Lane};
use super::video::{video_op, video_parts};
use super::warp::Warp;
use crate::ir::Alu;
use crate::ir::alu::alu_table;

/// Vector instruction sets that handlers are compiled for, the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every x86-64 (or other) host has.
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

impl Isa {
    /// The best that this host has.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if fma
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Isa::Avx512;
            }
            if fma {
                return Isa::Avx2;
            }
        }
        Isa::Baseline
    }
}

/// The meaning of each operation for one lane.
mod scalar {
    #![allow(non_snake_case, clippy::too_many_arguments)]
    use super::*;
    macro_rules! scalars {
        (wide { $($wn:ident[$wx:ident]($($wa:ident: $wt:ident),*) -> $wr:ident $wb:block;)* }
         plain { $($pn:ident[$px:ident]($($pa:ident: $pt:ident),*) -> $pr:ident $pb:block;)* }) => {
            $(#[inline(always)] pub fn $wn($wx: u32, $($wa: $wt),*) -> $wr $wb)*
            $(#[inline(always)] pub fn $pn($px: u32, $($pa: $pt),*) -> $pr $pb)*
        };
    }
    alu_table!(scalars);
}

/// Writes a result vector, blended under the mask if the operation asks for it.
#[inline(always)]
pub(super) unsafe fn write<T: Lane>(f: *mut u8, slot: u32, masked: bool, mask: u32, v: T::Vector) {
    // SAFETY: the caller passes a frame and a slot of it for this type.
    unsafe {
        let p = f.add(slot as usize);
        if masked && mask != u32::MAX {
            T::store(p, T::blend(T::load(p), v, mask));
        } else {
            T::store(p, v);
        }
    }
}

macro_rules! vector_handler {
    ($attr:tt $n:ident($($a:ident: $t:ident),*) -> $r:ident) => {
        #$attr
        pub unsafe fn $n(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
            let x = i.x;
            let mask = if i.masked { w.mask } else { u32::MAX };
            for h in 0..2 {
                let mut k = 0;
                // SAFETY: the emitter gives every operand a slot of its class in the frame
                // `f` and the caller passes that frame.
                $(let $a = unsafe { <$t as Lane>::load_chunk(f.add(i.s[k] as usize), h) }; k += 1;)*
                let _ = k;
                let mut d = <$r as Lane>::CHUNK_ZERO;
                for l in 0..HALF {
                    <$r as Lane>::chunk_set(&mut d, l, scalar::$n(x, $(<$t as Lane>::chunk_get(&$a, l)),*));
                }
                // SAFETY: as above, for the result slot.
                unsafe { <$r as Lane>::store_chunk(f.add(i.d[0] as usize), h, d, (mask >> (16 * h)) & 0xffff) };
            }
            0
        }
    };
}

macro_rules! pair_handler {
    ($n:ident($($a:ident: $t:ident),*) -> $r:ident) => {
        pub unsafe fn $n(f: *mut u8, i: &Insn, _w: &mut Warp) -> u32 {
            let x = i.x;
            let half = |h: usize| {
                let mut k = 0;
                // SAFETY: the emitter gives every operand a pair (or mask) slot in the frame
                // `f` and the caller passes that frame.
                $(let $a = unsafe { <$t as Lane>::load_half(f.add(i.s[k] as usize), h) }; k += 1;)*
                let _ = k;
                scalar::$n(x, $($a),*)
            };
            let v = [half(0), half(1)];
            // SAFETY: as above, for the result slot.
            unsafe { <$r as Lane>::store_pair(f.add(i.d[0] as usize), v) };
            0
        }
    };
}

mod baseline {
    #![allow(non_snake_case)]
    use super::*;
    macro_rules! handlers {
        (wide { $($wn:ident[$wx:ident]($($wa:ident: $wt:ident),*) -> $wr:ident $wb:block;)* }
         plain { $($rest:tt)* }) => {
            $(vector_handler!([inline] $wn($($wa: $wt),*) -> $wr);)*
            pub fn handler(alu: Alu) -> Option<Handler> {
                Some(match alu { $(Alu::$wn => $wn,)* _ => return None })
            }
        };
    }
    alu_table!(handlers);
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    #![allow(non_snake_case)]
    use super::*;
    macro_rules! handlers {
        (wide { $($wn:ident[$wx:ident]($($wa:ident: $wt:ident),*) -> $wr:ident $wb:block;)* }
         plain { $($rest:tt)* }) => {
            $(vector_handler!([target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")] $wn($($wa: $wt),*) -> $wr);)*
            pub fn handler(alu: Alu) -> Option<Handler> {
                Some(match alu { $(Alu::$wn => $wn,)* _ => return None })
            }
        };
    }
    alu_table!(handlers);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    #![allow(non_snake_case)]
    use super::*;
    macro_rules! handlers {
        (wide { $($wn:ident[$wx:ident]($($wa:ident: $wt:ident),*) -> $wr:ident $wb:block;)* }
         plain { $($rest:tt)* }) => {
            $(vector_handler!([target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512cd")] $wn($($wa: $wt),*) -> $wr);)*
            pub fn handler(alu: Alu) -> Option<Handler> {
                Some(match alu { $(Alu::$wn => $wn,)* _ => return None })
            }
        };
    }
    alu_table!(handlers);
}

/// Operations that gain nothing from wider vectors: one handler for all hosts.
mod plain {
    #![allow(non_snake_case)]
    use super::*;
    macro_rules! handlers {
        (wide { $($w:tt)* }
         plain { $($pn:ident[$px:ident]($($pa:ident: $pt:ident),*) -> $pr:ident $pb:block;)* }) => {
            $(vector_handler!([inline] $pn($($pa: $pt),*) -> $pr);)*
            pub fn handler(alu: Alu) -> Option<Handler> {
                Some(match alu { $(Alu::$pn => $pn,)* _ => return None })
            }
        };
    }
    alu_table!(handlers);
}

/// Two halves of a warp, each with one value: uniform and affine registers.
mod pair {
    #![allow(non_snake_case)]
    use super::*;
    macro_rules! handlers {
        (wide { $($wn:ident[$wx:ident]($($wa:ident: $wt:ident),*) -> $wr:ident $wb:block;)* }
         plain { $($pn:ident[$px:ident]($($pa:ident: $pt:ident),*) -> $pr:ident $pb:block;)* }) => {
            $(pair_handler!($wn($($wa: $wt),*) -> $wr);)*
            $(pair_handler!($pn($($pa: $pt),*) -> $pr);)*
            pub fn handler(alu: Alu) -> Handler {
                match alu { $(Alu::$wn => $wn,)* $(Alu::$pn => $pn,)* }
            }
        };
    }
    alu_table!(handlers);
}

/// Predicate operations work on whole masks.
macro_rules! mask_handler {
    ($n:ident, $a:ident, $b:ident, $c:ident, $e:expr) => {
        unsafe fn $n(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
            // SAFETY: the emitter gives every operand a mask slot in the frame `f` (unused
            // operands point to slot 0, which is readable); the caller passes that frame.
            unsafe {
                let m = |k: usize| f.add(i.s[k] as usize).cast::<u32>().read();
                let ($a, $b, $c) = (m(0), m(1), m(2));
                let _ = ($b, $c);
                write::<bool>(f, i.d[0], i.masked, w.mask, $e);
            }
            0
        }
    };
}
mask_handler!(mask_mov, a, b, c, a);
mask_handler!(mask_not, a, b, c, !a);
mask_handler!(mask_and, a, b, c, a & b);
mask_handler!(mask_or, a, b, c, a | b);
mask_handler!(mask_xor, a, b, c, a ^ b);
mask_handler!(mask_sel, a, b, c, (a & c) | (b & !c));

/// The handler that computes all 32 lanes.
pub fn vector_handler(alu: Alu, isa: Isa) -> Handler {
    match alu {
        Alu::MovP => return mask_mov,
        Alu::NotP => return mask_not,
        Alu::AndP => return mask_and,
        Alu::OrP => return mask_or,
        Alu::XorP => return mask_xor,
        Alu::SelP => return mask_sel,
        _ => {}
    }
    let wide = match isa {
        // Without an FMA instruction `mul_add` is a slow library call.
        Isa::Baseline if alu == Alu::FmaF32 => plain::handler(Alu::FmaF32Exact),
        Isa::Baseline if alu == Alu::FmaF32Ftz => plain::handler(Alu::FmaF32FtzExact),
        Isa::Baseline => baseline::handler(alu),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::handler(alu),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::handler(alu),
        #[cfg(not(target_arch = "x86_64"))]
        _ => baseline::handler(alu),
    };
    wide.or_else(|| plain::handler(alu))
        .unwrap_or_else(|| pair::handler(alu))
}

/// The handler that computes one value per half-warp.
pub fn pair_handler(alu: Alu) -> Handler {
    match alu {
        Alu::FmaF32 => pair::handler(Alu::FmaF32Exact),
        Alu::FmaF32Ftz => pair::handler(Alu::FmaF32FtzExact),
        alu => pair::handler(alu),
    }
}
