//! Loads and stores lane by lane, and out of the memory around the lanes of a half.

use super::asm::{Asm, Cc, Dec, K, Label, Len, Mem, Op, R15, RAX, RCX, RDX, Z, op};
use super::compile::load_masks;
use super::gather::{AHEAD, HALVES, Lanes, QUARTERS, WINDOW, Which, base, limit, origin};
use super::regs::{T0, T1, T2, T3};

/// Loads the memory around the lanes of each half and takes the lanes out of it, if they are all
/// within reach of their first. Otherwise goes on behind.
pub(super) fn window(a: &mut Asm, x: &Lanes, done: Label) {
    let Some(range) = x.window else { return };
    let bcast = Dec {
        bcast: true,
        ..Dec::default()
    };
    let far = a.label();
    let most = a.quad(u64::from(WINDOW - u32::from(x.access.bytes)));
    // Distances from the first lane, of half 0 in T1, of half 1 in T2.
    for (h, low, high, largest) in [(0, T1, T2, T3), (1, T2, T3, T0)] {
        let [first, second] = [x.addresses[2 * h], x.addresses[2 * h + 1]];
        a.v2(op::VPBROADCASTQ, T0, first);
        a.v3(op::VPSUBQ, low, first, T0);
        a.v3(op::VPSUBQ, high, second, T0);
        a.v3(op::VPMAXUQ, largest, low, high);
        a.evex(
            op::VPCMPUQ,
            Len::Z,
            5 + h as u8,
            largest.0,
            most,
            bcast,
            Some(6),
        );
        for z in [low, high] {
            a.evex(op::VPMOVQD, Len::Z, z.0, 0, z, Dec::default(), None);
        }
        a.v3i(op::VINSERTI64X4, low, low, high, 1);
    }
    a.korw(K(5), K(5), K(6));
    if x.align > 0 {
        // Of the first lane the range's check finds out, of the others their distances.
        a.v3(op::VPORD, T0, T1, T2);
        let low = a.word((1 << x.align) - 1);
        a.evex(op::VPTESTMD, Len::Z, 7, T0.0, low, bcast, None);
        a.korw(K(5), K(5), K(7));
    }
    a.kortestw(K(5), K(5));
    a.branch(Cc::Nz, far);
    a.x3(op::VPUNPCKLQDQ, T0, x.addresses[0], x.addresses[2]);
    a.x3(op::VPSUBQ, T3, T0, base(range));
    if x.align > 0 {
        a.shift(op::SHIFT72_Q, Len::X, 0, T3, T3, x.align);
    }
    a.cmp(op::VPCMPUQ, Len::X, K(7), T3, limit(range), 5);
    a.kortestb(K(7), K(7));
    a.branch(Cc::Nz, far);
    a.evex(op::VMOVQ_R, Len::X, T0.0, 0, RAX, Dec::default(), None);
    a.evex(op::VPEXTRQ, Len::X, T0.0, 0, RCX, Dec::default(), Some(1));
    let repeat = a.bytes(std::array::from_fn(|b| (b / 4 * 4 % 16) as u8));
    let count = a.bytes(std::array::from_fn(|b| (b % 4) as u8));
    for (h, (g, t)) in [(RAX, T1), (RCX, T2)].into_iter().enumerate() {
        a.add(g, origin(x.shared));
        a.prefetch(Mem::At(g, x.imm + AHEAD));
        a.v3(op::VPSHUFB, t, t, repeat);
        a.v3(op::VPADDB, t, t, count);
        a.v2(op::VMOVDQU32, T3, Mem::At(g, x.imm));
        a.v3(op::VPERMI2B, t, T3, Mem::At(g, x.imm + 64));
        narrow_lanes(a, x, t);
        a.v2(op::VMOVDQA32, x.element(0)[h], t);
    }
    a.jump(done);
    a.bind(far);
}

/// Extends elements of less than a word that stand in the low bits of lanes.
fn narrow_lanes(a: &mut Asm, x: &Lanes, z: Z) {
    let bits = 32 - 8 * x.access.bytes.min(4);
    if bits > 0 {
        a.shift(op::SHIFT_D, Len::Z, 6, z, z, bits);
        let right = if x.access.signed { 4 } else { 2 };
        a.shift(op::SHIFT_D, Len::Z, right, z, z, bits);
    }
}

/// Checks all lanes that run; then RCX holds what makes host addresses of theirs. Changes RAX.
pub(super) fn check_lanes(a: &mut Asm, x: &Lanes, slow: Label, which: Which) {
    let bcast = Dec {
        bcast: true,
        ..Dec::default()
    };
    let narrow = x.narrow;
    let all = which == Which::All;
    if !all {
        load_masks(a);
    }
    // The largest distance from the range's start, low bits turned to the top; of lanes that do not
    // run, none.
    for (n, z) in x.addresses.iter().enumerate() {
        let to = if n == 0 { T0 } else { T1 };
        let sub = if narrow { op::VPSUBD } else { op::VPSUBQ };
        let dec = match which {
            Which::All => bcast,
            _ => Dec {
                k: if narrow {
                    HALVES[n & 1]
                } else {
                    QUARTERS[n & 3]
                },
                zero: true,
                bcast: true,
            },
        };
        a.evex(sub, Len::Z, to.0, z.0, base(x.single), dec, None);
        if x.align > 0 {
            let rotate = if narrow { op::SHIFT_D } else { op::SHIFT72_Q };
            a.shift(rotate, Len::Z, 0, to, to, x.align);
        }
        if n > 0 {
            a.v3(if narrow { op::VPMAXUD } else { op::VPMAXUQ }, T0, T0, T1);
        }
    }
    let compare: Op = if narrow { op::VPCMPUD } else { op::VPCMPUQ };
    a.evex(compare, Len::Z, 7, T0.0, limit(x.single), bcast, Some(5));
    a.kortestw(K(7), K(7));
    a.branch(Cc::Nz, slow);
    point(a, x, which);
}

/// What [`check_lanes`] leaves behind, for lanes that were checked before.
pub(super) fn ready(a: &mut Asm, x: &Lanes, which: Which) {
    if which != Which::All {
        load_masks(a);
    }
    point(a, x, which);
}

fn point(a: &mut Asm, x: &Lanes, which: Which) {
    a.load64(RCX, origin(x.shared));
    if which == Which::All {
        a.imm32(RAX, 0xffff);
    }
}

/// Fetches what lies ahead of some lanes, after [`check_lanes`]. Changes RDX.
pub(super) fn fetch_ahead(a: &mut Asm, x: &Lanes) {
    for z in &x.addresses {
        a.evex(op::VMOVQ_R, Len::X, z.0, 0, RDX, Dec::default(), None);
        a.add(RDX, RCX);
        a.prefetch(Mem::At(RDX, x.imm + AHEAD));
    }
}

/// Puts the mask of the lanes from `first` on that are to be done into k7, after [`check_lanes`].
fn lane_mask(a: &mut Asm, which: Which, first: usize) {
    if which != Which::All {
        a.mov32(RAX, R15);
        if first > 0 {
            a.shr32(RAX, first as u8);
        }
    }
    a.kmovd_from(K(7), RAX);
}

/// Stores lane by lane, after a check of all that run. Of lanes with the same address the last one
/// counts, as with the handler.
pub(super) fn scatter(a: &mut Asm, x: &Lanes, slow: Label, which: Which) {
    check_lanes(a, x, slow, which);
    let dec = Dec {
        k: 7,
        ..Dec::default()
    };
    for n in 0..usize::from(x.access.count) {
        let to = |index: Z| Mem::Vsib(RCX, index, x.imm + 4 * n as i32);
        let v = x.element(n);
        if x.access.bytes == 8 {
            for (q, v) in v.iter().enumerate() {
                lane_mask(a, which, 8 * q);
                a.evex(
                    op::VPSCATTERQQ,
                    Len::Z,
                    v.0,
                    0,
                    to(x.addresses[q]),
                    dec,
                    None,
                );
            }
            continue;
        }
        for (h, v) in v.iter().enumerate() {
            lane_mask(a, which, 16 * h);
            if x.narrow {
                a.evex(
                    op::VPSCATTERDD,
                    Len::Z,
                    v.0,
                    0,
                    to(x.addresses[h]),
                    dec,
                    None,
                );
                continue;
            }
            let low = to(x.addresses[2 * h]);
            a.evex(op::VPSCATTERQD, Len::Z, v.0, 0, low, dec, None);
            a.evex(
                op::VEXTRACTI64X4,
                Len::Z,
                v.0,
                0,
                T1,
                Dec::default(),
                Some(1),
            );
            lane_mask(a, which, 16 * h + 8);
            let high = to(x.addresses[2 * h + 1]);
            a.evex(op::VPSCATTERQD, Len::Z, T1.0, 0, high, dec, None);
        }
    }
}

/// Loads lane by lane, after a check of all that run.
pub(super) fn gather(a: &mut Asm, x: &Lanes, slow: Label, which: Which) {
    check_lanes(a, x, slow, which);
    gather_lanes(a, x, which);
}

/// Gathers a line of the lanes from `first` on; those that do not run get zeros.
#[allow(clippy::too_many_arguments)] // which lanes, and where from
pub(super) fn gather_line(
    a: &mut Asm,
    x: &Lanes,
    which: Which,
    o: Op,
    to: Z,
    from: Z,
    offset: i32,
    first: usize,
) {
    let none = a.label();
    a.v3(op::VPXORD, to, to, to);
    lane_mask(a, which, first);
    if which != Which::All {
        // Warps with few lanes have them side by side.
        a.and_imm(RAX, if o == op::VPGATHERDD { 0xffff } else { 0xff });
        a.branch(Cc::Z, none);
    }
    let dec = Dec {
        k: 7,
        ..Dec::default()
    };
    a.evex(
        o,
        Len::Z,
        to.0,
        0,
        Mem::Vsib(RCX, from, x.imm + offset),
        dec,
        None,
    );
    a.bind(none);
}

/// The result of the lanes that run, in `from`; the others keep theirs where somebody needs it.
pub(super) fn finish_lanes(a: &mut Asm, which: Which, o: Op, to: Z, from: Z, k: u8) {
    let dec = Dec {
        k: if which == Which::Blended { k } else { 0 },
        ..Dec::default()
    };
    a.evex(o, Len::Z, to.0, 0, from, dec, None);
}

/// Loads lane by lane, after [`check_lanes`].
pub(super) fn gather_lanes(a: &mut Asm, x: &Lanes, which: Which) {
    let narrow = x.narrow;
    let lane = |a: &mut Asm, o: Op, to: Z, from: Z, offset: i32, first: usize| {
        gather_line(a, x, which, o, to, from, offset, first);
    };
    let finish = |a: &mut Asm, o: Op, to: Z, k: u8| {
        finish_lanes(a, which, o, to, T1, k);
    };
    for n in (0..usize::from(x.access.count)).rev() {
        let offset = 4 * n as i32;
        // Results may take the registers of addresses: complete before the first is written.
        for h in 0..2 {
            let v = x.element(n);
            if x.access.bytes == 8 {
                for q in [2 * h, 2 * h + 1] {
                    let first = 8 * q;
                    if narrow {
                        let half = x.addresses[h];
                        let mut from = half;
                        if q % 2 == 1 {
                            a.evex(
                                op::VEXTRACTI64X4,
                                Len::Z,
                                half.0,
                                0,
                                T2,
                                Dec::default(),
                                Some(1),
                            );
                            from = T2;
                        }
                        lane(a, op::VPGATHERDQ, T1, from, offset, first);
                    } else {
                        lane(a, op::VPGATHERQQ, T1, x.addresses[q], offset, first);
                    }
                    finish(a, op::VMOVDQA64, v[q], QUARTERS[q & 3]);
                }
                continue;
            }
            if narrow {
                lane(a, op::VPGATHERDD, T1, x.addresses[h], offset, 16 * h);
            } else {
                lane(a, op::VPGATHERQD, T1, x.addresses[2 * h], offset, 16 * h);
                lane(
                    a,
                    op::VPGATHERQD,
                    T2,
                    x.addresses[2 * h + 1],
                    offset,
                    16 * h + 8,
                );
                a.v3i(op::VINSERTI64X4, T1, T1, T2, 1);
            }
            narrow_lanes(a, x, T1);
            finish(a, op::VMOVDQA32, v[h], HALVES[h]);
        }
    }
}
