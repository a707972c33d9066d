//! Loads and stores of some lanes of a warp: the others' addresses count for nothing, and each of those that run is
//! checked.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Arg, Device, devices};
use vgpu_soft_gpu::{LaunchError, LaunchStats};

/// Bytes of the memory that the kernels reach.
const BYTES: u64 = 1024;
/// Offset in the instruction.
const AT: u64 = 8;

/// `load`: lanes of the mask load through addresses of which nothing is known, and keep what they had otherwise. `inside`:
/// nobody needs what the others had. `store`: they store.
fn kernels(ty: &str, class: &str) -> String {
    let to = match class {
        "u64" => "cvt.u64.u32",
        _ => "mov.u32",
    };
    let head = |name: &str| {
        format!(
            ".visible .entry {name}(.param .u64 base, .param .u64 offsets, .param .u64 out, .param .u32 mask) {{\n\
             .reg .pred %p; .reg .b32 %r<9>; .reg .b64 %q<9>; .reg .{class} %v, %x;\n\
             ld.param.u64 %q0, [base]; ld.param.u64 %q1, [offsets]; ld.param.u64 %q2, [out]; ld.param.u32 %r0, [mask];\n\
             mov.u32 %r1, %tid.x; mad.wide.u32 %q1, %r1, 8, %q1; mad.wide.u32 %q2, %r1, 8, %q2;\n\
             ld.global.u64 %q3, [%q1]; add.s64 %q3, %q3, %q0; and.b32 %r3, %r1, 31; shr.u32 %r2, %r0, %r3;\n\
             {to} %v, %r1; and.b32 %r2, %r2, 1; setp.eq.u32 %p, %r2, 0;\n"
        )
    };
    let load = format!("ld.global.{ty} %x, [%q3+{AT}];");
    let out = match class {
        "u64" => "st.global.u64 [%q2], %v;",
        _ => "cvt.u64.u32 %q4, %v; st.global.u64 [%q2], %q4;",
    };
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         {}@%p bra after; {} after: {out} ret; }}\n\
         {}@%p bra after; {load} add.{class} %v, %v, %x; after: {out} ret; }}\n\
         {}@%p bra after; st.global.{ty} [%q3+{AT}], %v; after: ret; }}\n",
        head("load"),
        load.replace("%x", "%v"),
        head("inside"),
        head("store"),
    )
}

struct Setup<'a> {
    d: &'a Device,
    base: u64,
    offsets: u64,
    out: u64,
}

impl Setup<'_> {
    fn go(&self, kernel: &str, offsets: &[u64], mask: u32) -> Result<LaunchStats, LaunchError> {
        let bytes: Vec<u8> = offsets.iter().flat_map(|o| o.to_le_bytes()).collect();
        self.d.space.write(self.offsets, &bytes).unwrap();
        let args = [
            Arg::Ptr(self.base),
            Arg::Ptr(self.offsets),
            Arg::Ptr(self.out),
            Arg::U32(mask),
        ];
        self.d.try_launch(kernel, [1; 3], [64, 1, 1], 0, &args)
    }
}

#[test]
fn only_the_lanes_that_run_are_checked_and_each_of_them() {
    let masks = [
        1,
        0x8000_0000,
        0xf,
        0x00ff_0000,
        0x0100_0080,
        0x8001_0001,
        0xffff_0000,
        0x7fff_ffff,
        u32::MAX,
    ];
    let data: Vec<u8> = (0..BYTES).map(|k| (k * 37 + k / 256) as u8).collect();
    for (ty, class, size) in [
        ("u8", "u32", 1),
        ("u16", "u32", 2),
        ("u32", "u32", 4),
        ("u64", "u64", 8),
    ] {
        for d in &devices(&kernels(ty, class)) {
            let s = Setup {
                d,
                base: d.upload(&data),
                offsets: d.upload(&[0u64; 64]),
                out: d.upload(&[0u64; 64]),
            };
            // Places in no order, as far apart as there is room; the last byte as well.
            let place = |l: u64| match l {
                5 => BYTES - AT - size,
                _ => (l * 389 + 16) % (BYTES - AT - size) / size * size,
            };
            let value = |l: u64| {
                let at = (place(l) + AT) as usize;
                let mut raw = [0; 8];
                raw[..size as usize].copy_from_slice(&data[at..at + size as usize]);
                u64::from_le_bytes(raw)
            };
            for mask in masks {
                let runs = |l: u64| mask >> (l % 32) & 1 == 1;
                let wild = |l: u64| [0, 1, u64::MAX - 4, 1 << 62, BYTES][l as usize % 5];
                let good: Vec<u64> = (0..64)
                    .map(|l| if runs(l) { place(l) } else { wild(l) })
                    .collect();
                for (kernel, own) in [("load", 0), ("inside", 1)] {
                    s.go(kernel, &good, mask)
                        .unwrap_or_else(|e| panic!("{kernel} {ty} {mask:#x}: {e}"));
                    let want: Vec<u64> = (0..64)
                        .map(|l| if runs(l) { value(l) + own * l } else { l })
                        .collect();
                    let cut = |v: u64| if class == "u32" { v & 0xffff_ffff } else { v };
                    let want: Vec<u64> = want.into_iter().map(cut).collect();
                    assert_eq!(
                        d.download::<u64>(s.out, 64),
                        want,
                        "{kernel} {ty} {mask:#x}"
                    );
                }
                for l in (0..64).filter(|l| runs(*l)) {
                    // One byte past the end (of more than a byte also misaligned), before the start, far away.
                    let bad = [
                        BYTES - AT - size + 1,
                        0_u64.wrapping_sub(AT + size),
                        1 << 40,
                    ];
                    for bad in bad {
                        let mut offsets = good.clone();
                        offsets[l as usize] = bad;
                        for kernel in ["load", "inside", "store"] {
                            let e = s.go(kernel, &offsets, mask).unwrap_err();
                            let (LaunchError::IllegalAddress(f)
                            | LaunchError::MisalignedAddress(f)) = &e
                            else {
                                panic!("{e}")
                            };
                            let address = s.base.wrapping_add(bad).wrapping_add(AT);
                            assert_eq!(
                                (f.thread[0], f.address, f.write),
                                (l as u32, address, kernel == "store"),
                                "{kernel} {ty} {mask:#x}"
                            );
                        }
                    }
                }
                d.space.write(s.base, &data).unwrap();
            }
        }
    }
}
