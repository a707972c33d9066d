//! `mma` for every shape and type, compiled once per instruction set.
#![allow(unsafe_code)] // frame slots through raw pointers
#![allow(clippy::needless_range_loop)] // rows, columns and lanes are numbers: they index several arrays at once

use super::sparse::{PACKED, columns};
use super::{Tile, What};
use crate::exec::alu::{Isa, write};
use crate::exec::float::{canon, fma32};
use crate::exec::fp8::{e4m3_value, e5m2_value};
use crate::exec::half::{f16_bits, f16_value};
use crate::exec::insn::{EVENT_ALIGNED, Handler, Insn};
use crate::exec::lanes::{LANES, Lane};
use crate::exec::warp::Warp;
use crate::ir::matrix::{Element, MAX_FRAGMENT, Mma, Product, Sum};

/// Most rows of A.
pub(super) const ROWS: usize = 16;
/// Columns of B.
const COLUMNS: usize = 8;
/// Most columns of A with floating-point elements, but for those that a sparse A leaves out.
const FLOATS: usize = 32;
/// The same with integer elements.
const INTEGERS: usize = 64;

/// The site of an operation, if it is one of `mma`.
///
/// # Errors
/// The event that the handler returns.
#[inline(always)]
pub(super) fn site<'a>(i: &Insn, w: &Warp) -> Result<(&'a Tile, Mma), u32> {
    if !w.whole() {
        return Err(EVENT_ALIGNED);
    }
    // SAFETY: the emitter gave `x` an entry of the program's table, which `w.tiles` points to and
    // which lives as long as the program that is running.
    let tile = unsafe { &*w.tiles.add(i.x as usize) };
    match tile.what {
        What::Mma(m) => Ok((tile, m)),
        What::Fragment(_) => Err(0),
    }
}

/// A register of all lanes.
#[inline(always)]
unsafe fn register(f: *mut u8, slots: &[u32; MAX_FRAGMENT], k: usize) -> [u32; LANES] {
    // SAFETY: the emitter gave each of the fragment's registers a 32-bit vector slot in this frame.
    unsafe { u32::load(f.add(slots[k % MAX_FRAGMENT] as usize)) }
}

#[inline(always)]
unsafe fn wide(f: *mut u8, slots: &[u32; MAX_FRAGMENT], k: usize) -> [f64; LANES] {
    // SAFETY: as for `register`, with 64-bit slots.
    unsafe { f64::load(f.add(slots[k % MAX_FRAGMENT] as usize)) }
}

/// A register as eight rows of 16 bytes.
#[inline(always)]
unsafe fn rows(f: *mut u8, slots: &[u32; MAX_FRAGMENT], k: usize) -> [[u8; 16]; 8] {
    // SAFETY: as for `register`; 128 bytes of plain data.
    unsafe {
        f.add(slots[k % MAX_FRAGMENT] as usize)
            .cast::<[[u8; 16]; 8]>()
            .read()
    }
}

const HALF: u8 = 0;
const BRAIN: u8 = 1;
const TENSOR: u8 = 2;
const BYTE: u8 = 3;

/// Elements in a row of 16 bytes, by kind.
const fn width(kind: u8) -> usize {
    match kind {
        HALF | BRAIN => 8,
        TENSOR => 4,
        _ => 16,
    }
}

/// A row of floating-point elements as numbers; `W` is the kind's width.
#[inline(always)]
fn floats<const KIND: u8, const W: usize>(e: Element, row: [u8; 16]) -> [f32; W] {
    let mut out = [0.0; W];
    for k in 0..W {
        let two = || u32::from(u16::from_le_bytes([row[2 * k % 16], row[(2 * k + 1) % 16]]));
        out[k] = match KIND {
            HALF => f16_value(two()),
            BRAIN => f32::from_bits(two() << 16),
            // The low 13 bits of a tf32 register do not count.
            TENSOR => {
                let at = 4 * k % 16;
                let word = [row[at], row[at + 1], row[at + 2], row[at + 3]];
                f32::from_bits(u32::from_le_bytes(word) & 0xffff_e000)
            }
            _ if e == Element::E5m2 => e5m2_value(row[k]),
            _ => e4m3_value(row[k]),
        };
    }
    out
}

/// A row of integer elements of `BITS` bits as numbers.
#[inline(always)]
fn integers<const BITS: u32, const W: usize>(e: Element, row: [u8; 16]) -> [i32; W] {
    let signed = matches!(e, Element::S8 | Element::S4);
    let mut out = [0; W];
    for k in 0..W {
        let v = if BITS == 8 {
            row[k % 16]
        } else {
            (row[k / 2] >> (4 * (k % 2))) << 4
        };
        out[k] = (if signed {
            i32::from(v as i8)
        } else {
            i32::from(v)
        }) >> (8 - BITS);
    }
    out
}

/// The accumulator as a matrix of 32-bit values.
#[inline(always)]
unsafe fn sums(f: *mut u8, t: &Tile, m: &Mma) -> [[u32; COLUMNS]; ROWS] {
    let mut c = [[0u32; COLUMNS]; ROWS];
    for (block, c) in c.chunks_exact_mut(8).enumerate().take(m.rows as usize / 8) {
        if m.sums[0] == Sum::F16 {
            // SAFETY: forwarded from the caller: C has a register per eight rows.
            let raw = unsafe { rows(f, &t.c, block) };
            for (c, raw) in c.iter_mut().zip(raw) {
                *c = floats::<HALF, 8>(Element::F16, raw).map(f32::to_bits);
            }
            continue;
        }
        // SAFETY: forwarded from the caller: C has two registers per eight rows.
        let (even, odd) = unsafe {
            (
                register(f, &t.c, 2 * block),
                register(f, &t.c, 2 * block + 1),
            )
        };
        for (g, c) in c.iter_mut().enumerate() {
            for q in 0..4 {
                c[2 * q] = even[4 * g + q];
                c[2 * q + 1] = odd[4 * g + q];
            }
        }
    }
    c
}

/// Writes D from a matrix of 32-bit values.
#[inline(always)]
unsafe fn store(f: *mut u8, i: &Insn, w: &Warp, t: &Tile, m: &Mma, d: &[[u32; COLUMNS]; ROWS]) {
    for (block, d) in d.chunks_exact(8).enumerate().take(m.rows as usize / 8) {
        let (mut even, mut odd) = ([0u32; LANES], [0u32; LANES]);
        for (g, d) in d.iter().enumerate() {
            for q in 0..4 {
                even[4 * g + q] = d[2 * q];
                odd[4 * g + q] = d[2 * q + 1];
            }
        }
        // SAFETY: the emitter gave each register of D a 32-bit vector slot in this frame.
        unsafe {
            if m.sums[1] == Sum::F16 {
                let mut v = [0u32; LANES];
                for l in 0..LANES {
                    let (lo, hi) = (f32::from_bits(even[l]), f32::from_bits(odd[l]));
                    v[l] = f16_bits(lo) | (f16_bits(hi) << 16);
                }
                write::<u32>(f, t.d[block], i.masked, w.mask, v);
            } else {
                write::<u32>(f, t.d[2 * block], i.masked, w.mask, even);
                write::<u32>(f, t.d[2 * block + 1], i.masked, w.mask, odd);
            }
        }
    }
}

/// The columns of a sparse A; of another one nothing that is looked at.
#[inline(always)]
unsafe fn places<const SPARSE: bool>(f: *mut u8, t: &Tile, m: &Mma) -> [[u8; PACKED]; ROWS] {
    if SPARSE {
        // SAFETY: the emitter gave the metadata a 32-bit vector slot in this frame.
        columns(m, &unsafe { u32::load(f.add(t.metadata as usize)) })
    } else {
        [[0; PACKED]; ROWS]
    }
}

/// `a * b + c` rounded once.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { fma32(a, b, c) }
}

#[inline(always)]
unsafe fn float<
    const FMA: bool,
    const KIND: u8,
    const W: usize,
    const SPARSE: bool,
    const K: usize,
>(
    f: *mut u8,
    i: &Insn,
    w: &mut Warp,
) -> u32 {
    const { assert!(W == width(KIND) && K == if SPARSE { 2 * FLOATS } else { FLOATS }) };
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    let [na, nb, ..] = m.registers();
    let blocks = (m.rows as usize / 8).min(2);
    let left_chunks = (na / blocks).min(FLOATS / W);
    let mut a = [[0f32; FLOATS]; ROWS];
    let mut b = [[0f32; COLUMNS]; K];
    // SAFETY: the emitter gave all registers slots in this frame.
    unsafe {
        for c in 0..left_chunks {
            for block in 0..blocks {
                let raw = rows(f, &t.a, blocks * c + block);
                for (g, row) in raw.into_iter().enumerate() {
                    let v = floats::<KIND, W>(m.elements[0], row);
                    a[8 * block + g][c * W..(c + 1) * W].copy_from_slice(&v);
                }
            }
        }
        for c in 0..nb.min(K / W) {
            for (g, row) in rows(f, &t.b, c).into_iter().enumerate() {
                let v = floats::<KIND, W>(m.elements[1], row);
                for (k, v) in v.into_iter().enumerate() {
                    b[c * W + k][g] = v;
                }
            }
        }
        let mut d = sums(f, t, &m);
        let columns = places::<SPARSE>(f, t, &m);
        for (n, (row, d)) in a.iter().zip(&mut d).enumerate().take(8 * blocks) {
            let mut sum = d.map(f32::from_bits);
            for (k, &left) in row.iter().enumerate().take(left_chunks * W) {
                let right = &b[if SPARSE { columns[n][k].into() } else { k } % K];
                for c in 0..COLUMNS {
                    sum[c] = fma::<FMA>(left, right[c], sum[c]);
                }
            }
            *d = sum.map(|v| canon(v).to_bits());
        }
        store(f, i, w, t, &m, &d);
    }
    0
}

#[inline(always)]
unsafe fn double(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    let [na, nb, nc, _] = m.registers();
    let blocks = m.rows as usize / 8;
    let mut a = [[0f64; 16]; ROWS];
    let mut b = [[0f64; COLUMNS]; 16];
    let mut d = [[0f64; COLUMNS]; ROWS];
    // SAFETY: the emitter gave all registers slots in this frame.
    unsafe {
        for r in 0..na.min(MAX_FRAGMENT) {
            let v = wide(f, &t.a, r);
            for l in 0..LANES {
                a[8 * (r % blocks) + l / 4][(4 * (r / blocks) + l % 4) % 16] = v[l];
            }
        }
        for r in 0..nb.min(MAX_FRAGMENT) {
            let v = wide(f, &t.b, r);
            for l in 0..LANES {
                b[(4 * r + l % 4) % 16][l / 4] = v[l];
            }
        }
        for r in 0..nc.min(MAX_FRAGMENT) {
            let v = wide(f, &t.c, r);
            for l in 0..LANES {
                d[(8 * (r / 2) + l / 4) % ROWS][2 * (l % 4) + r % 2] = v[l];
            }
        }
        for row in 0..m.rows as usize {
            for x in 0..(m.k as usize).min(16) {
                for c in 0..COLUMNS {
                    let sum = &mut d[row % ROWS][c];
                    *sum = a[row % ROWS][x].mul_add(b[x][c], *sum);
                }
            }
        }
        for r in 0..nc.min(MAX_FRAGMENT) {
            let mut v = [0f64; LANES];
            for l in 0..LANES {
                v[l] = d[(8 * (r / 2) + l / 4) % ROWS][2 * (l % 4) + r % 2];
            }
            write::<f64>(f, t.d[r % MAX_FRAGMENT], i.masked, w.mask, v);
        }
    }
    0
}

#[inline(always)]
unsafe fn integer<const BITS: u32, const W: usize, const SPARSE: bool, const K: usize>(
    f: *mut u8,
    i: &Insn,
    w: &mut Warp,
) -> u32 {
    const { assert!(W as u32 * BITS == 128 && K == if SPARSE { 2 * INTEGERS } else { INTEGERS }) };
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    let [na, nb, ..] = m.registers();
    let blocks = (m.rows as usize / 8).min(2);
    let left_chunks = (na / blocks).min(INTEGERS / W);
    let mut a = [[0i32; INTEGERS]; ROWS];
    let mut b = [[0i32; COLUMNS]; K];
    // SAFETY: the emitter gave all registers slots in this frame.
    unsafe {
        for c in 0..left_chunks {
            for block in 0..blocks {
                let raw = rows(f, &t.a, blocks * c + block);
                for (g, row) in raw.into_iter().enumerate() {
                    let v = integers::<BITS, W>(m.elements[0], row);
                    a[8 * block + g][c * W..(c + 1) * W].copy_from_slice(&v);
                }
            }
        }
        for c in 0..nb.min(K / W) {
            for (g, row) in rows(f, &t.b, c).into_iter().enumerate() {
                let v = integers::<BITS, W>(m.elements[1], row);
                for (k, v) in v.into_iter().enumerate() {
                    b[c * W + k][g] = v;
                }
            }
        }
        let mut d = sums(f, t, &m);
        let columns = places::<SPARSE>(f, t, &m);
        for (n, (row, d)) in a.iter().zip(&mut d).enumerate().take(8 * blocks) {
            // At most 64 products of at most 255 * 255: no overflow before C is added.
            let mut sum = [0i32; COLUMNS];
            for (k, &left) in row.iter().enumerate().take(left_chunks * W) {
                let right = &b[if SPARSE { columns[n][k].into() } else { k } % K];
                for c in 0..COLUMNS {
                    sum[c] += left * right[c];
                }
            }
            add_sums(d, sum, m.saturate);
        }
        store(f, i, w, t, &m, &d);
    }
    0
}

#[inline(always)]
fn add_sums(d: &mut [u32; COLUMNS], sum: [i32; COLUMNS], saturate: bool) {
    for c in 0..COLUMNS {
        let old = d[c] as i32;
        d[c] = if saturate {
            old.saturating_add(sum[c])
        } else {
            old.wrapping_add(sum[c])
        } as u32;
    }
}

#[inline(always)]
unsafe fn bits(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    let [na, nb, ..] = m.registers();
    let blocks = m.rows as usize / 8;
    // Words of 32 columns.
    let mut a = [[0u32; 8]; ROWS];
    let mut b = [[0u32; 8]; COLUMNS];
    // SAFETY: the emitter gave all registers slots in this frame.
    unsafe {
        for r in 0..na.min(MAX_FRAGMENT) {
            let v = register(f, &t.a, r);
            for l in 0..LANES {
                a[8 * (r % blocks) + l / 4][(4 * (r / blocks) + l % 4) % 8] = v[l];
            }
        }
        for r in 0..nb.min(MAX_FRAGMENT) {
            let v = register(f, &t.b, r);
            for l in 0..LANES {
                b[l / 4][(4 * r + l % 4) % 8] = v[l];
            }
        }
        let mut d = sums(f, t, &m);
        for row in 0..m.rows as usize {
            let mut sum = [0i32; COLUMNS];
            for c in 0..COLUMNS {
                for x in 0..4 * nb.min(2) {
                    let (p, q) = (a[row % ROWS][x], b[c][x]);
                    let word = if m.product == Product::Xor {
                        p ^ q
                    } else {
                        p & q
                    };
                    sum[c] += word.count_ones() as i32;
                }
            }
            add_sums(&mut d[row % ROWS], sum, false);
        }
        store(f, i, w, t, &m, &d);
    }
    0
}

/// The four products of `m8n8k4`: product `q` belongs to lanes `4q..` and `16+4q..`.
#[inline(always)]
unsafe fn quads<const FMA: bool>(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    let (t, m) = match site(i, w) {
        Ok(site) => site,
        Err(event) => return event,
    };
    let [a_col, b_col] = m.quads.unwrap_or_default();
    // SAFETY: the emitter gave all registers slots in this frame.
    unsafe {
        let half = |slots: &[u32; MAX_FRAGMENT], lane: usize, e: usize| {
            f16_value((register(f, slots, e / 2)[lane] >> (16 * (e % 2))) & 0xffff)
        };
        // Lane of the q-th product's group `high`, thread `n` of it.
        let lane = |q: usize, high: usize, n: usize| 16 * high + 4 * q + n;
        // Row and column of accumulator `e` of a lane: f16 and f32 lie differently.
        let place = |sum: Sum, l: usize, e: usize| {
            let high = 4 * (l / 16);
            if sum == Sum::F16 {
                (l % 4 + high, e)
            } else {
                ((l & 1) + (e & 2) + high, (e & 4) + (l & 2) + (e & 1))
            }
        };
        let mut out = [[0u32; LANES]; MAX_FRAGMENT];
        for q in 0..4 {
            let mut a = [[0f32; 4]; 8];
            let mut b = [[0f32; 8]; 4];
            let mut d = [[0f32; 8]; 8];
            for l in [0, 1].into_iter().flat_map(|h| (0..4).map(move |n| (h, n))) {
                let (h, n) = l;
                let l = lane(q, h, n);
                for e in 0..4 {
                    let (row, k) = if a_col {
                        (e + 4 * h, n)
                    } else {
                        (n + 4 * h, e)
                    };
                    a[row][k] = half(&t.a, l, e);
                    let (k, col) = if b_col {
                        (e, n + 4 * h)
                    } else {
                        (n, e + 4 * h)
                    };
                    b[k][col] = half(&t.b, l, e);
                }
                for e in 0..8 {
                    let (row, col) = place(m.sums[0], l, e);
                    d[row][col] = if m.sums[0] == Sum::F16 {
                        half(&t.c, l, e)
                    } else {
                        f32::from_bits(register(f, &t.c, e)[l])
                    };
                }
            }
            for row in 0..8 {
                for k in 0..4 {
                    for c in 0..8 {
                        d[row][c] = fma::<FMA>(a[row][k], b[k][c], d[row][c]);
                    }
                }
            }
            for h in 0..2 {
                for n in 0..4 {
                    let l = lane(q, h, n);
                    for e in 0..8 {
                        let (row, col) = place(m.sums[1], l, e);
                        let v = canon(d[row][col]);
                        if m.sums[1] == Sum::F16 {
                            out[e / 2][l] |= f16_bits(v) << (16 * (e % 2));
                        } else {
                            out[e][l] = v.to_bits();
                        }
                    }
                }
            }
        }
        for r in 0..m.registers()[3].min(MAX_FRAGMENT) {
            write::<u32>(f, t.d[r], i.masked, w.mask, out[r]);
        }
    }
    0
}

macro_rules! instantiate {
    ($name:ident, $fma:literal, $attr:tt) => {
        mod $name {
            use super::*;
            instantiate!(@fn $attr half_handler, float::<$fma, HALF, 8, false, FLOATS>);
            instantiate!(@fn $attr brain_handler, float::<$fma, BRAIN, 8, false, FLOATS>);
            instantiate!(@fn $attr tensor_handler, float::<$fma, TENSOR, 4, false, FLOATS>);
            instantiate!(@fn $attr byte_handler, float::<$fma, BYTE, 16, false, FLOATS>);
            instantiate!(@fn $attr sparse_half, float::<$fma, HALF, 8, true, { 2 * FLOATS }>);
            instantiate!(@fn $attr sparse_brain, float::<$fma, BRAIN, 8, true, { 2 * FLOATS }>);
            instantiate!(@fn $attr sparse_tensor, float::<$fma, TENSOR, 4, true, { 2 * FLOATS }>);
            instantiate!(@fn $attr sparse_byte, float::<$fma, BYTE, 16, true, { 2 * FLOATS }>);
            instantiate!(@fn $attr quads_handler, quads::<$fma>);
            instantiate!(@fn $attr double_handler, double);
            instantiate!(@fn $attr integer8_handler, integer::<8, 16, false, INTEGERS>);
            instantiate!(@fn $attr integer4_handler, integer::<4, 32, false, INTEGERS>);
            instantiate!(@fn $attr sparse8, integer::<8, 16, true, { 2 * INTEGERS }>);
            instantiate!(@fn $attr sparse4, integer::<4, 32, true, { 2 * INTEGERS }>);
            instantiate!(@fn $attr bits_handler, bits);
            pub fn choose(m: &Mma) -> Handler {
                let sparse = m.sparse.is_some();
                match m.elements[0] {
                    _ if m.quads.is_some() => quads_handler,
                    Element::F16 if sparse => sparse_half,
                    Element::Bf16 if sparse => sparse_brain,
                    Element::Tf32 if sparse => sparse_tensor,
                    Element::E4m3 | Element::E5m2 if sparse => sparse_byte,
                    Element::S8 | Element::U8 if sparse => sparse8,
                    Element::S4 | Element::U4 if sparse => sparse4,
                    Element::F16 => half_handler,
                    Element::Bf16 => brain_handler,
                    Element::Tf32 => tensor_handler,
                    Element::E4m3 | Element::E5m2 => byte_handler,
                    Element::F64 => double_handler,
                    Element::S8 | Element::U8 => integer8_handler,
                    Element::S4 | Element::U4 => integer4_handler,
                    Element::B1 => bits_handler,
                }
            }
        }
    };
    (@fn $attr:tt $n:ident, $g:expr) => {
        #$attr
        unsafe fn $n(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
            // SAFETY: forwarded from the caller: `f` is the frame `i` was emitted for.
            unsafe { $g(f, i, w) }
        }
    };
}
instantiate!(baseline, false, [inline]);
#[cfg(target_arch = "x86_64")]
instantiate!(
    avx2,
    true,
    [target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt")]
);
#[cfg(target_arch = "x86_64")]
instantiate!(
    avx512,
    true,
    [target_feature(
        enable = "avx2,fma,bmi1,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl"
    )]
);

/// The handler of `mma`.
pub(super) fn handler(m: &Mma, isa: Isa) -> Handler {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::choose(m),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::choose(m),
        _ => baseline::choose(m),
    }
}
