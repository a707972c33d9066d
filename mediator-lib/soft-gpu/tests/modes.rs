//! Random kernels over all kinds of instructions: machine code, interpreted and reference code must
//! leave the same bits in memory, or fail with the same fault.
//!
//! `VGPU_FUZZ_ROUNDS` and `VGPU_FUZZ_SEED` make the run longer or another one.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::fmt::Write;

use common::{Arg, Device, devices};
use vgpu_soft_gpu::LaunchError;

/// Words of the table that kernels read.
const TABLE: usize = 512;
/// Bytes that each thread writes.
const OWN: usize = 128;
/// 32-bit, 64-bit and f32 registers.
const REGS: usize = 6;

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % below
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.next(list.len())]
    }
}

struct Writer {
    random: Random,
    text: String,
    labels: usize,
    /// Lanes may be gone or somewhere else: no shuffles and barriers.
    divergent: bool,
    shuffles: bool,
    wild: bool,
}

impl Writer {
    fn line(&mut self, s: std::fmt::Arguments<'_>) {
        self.text.write_fmt(s).unwrap();
        self.text.push('\n');
    }

    fn r(&mut self) -> String {
        format!("%r{}", self.random.next(REGS))
    }
    fn q(&mut self) -> String {
        format!("%q{}", self.random.next(REGS))
    }
    fn f(&mut self) -> String {
        format!("%f{}", self.random.next(REGS))
    }

    fn r_or_number(&mut self) -> String {
        match self.random.next(3) {
            0 => [
                "0", "1", "5", "31", "40", "255", "65535", "-1", "-7", "1000003",
            ][self.random.next(10)]
            .into(),
            _ => self.r(),
        }
    }

    fn word(&mut self) {
        let (d, a, b, c) = (self.r(), self.r(), self.r_or_number(), self.r_or_number());
        let two = [
            "add.s32",
            "sub.s32",
            "mul.lo.s32",
            "and.b32",
            "or.b32",
            "xor.b32",
            "shl.b32",
            "shr.u32",
            "shr.s32",
            "min.s32",
            "max.s32",
            "min.u32",
            "max.u32",
            "mul.hi.s32",
            "mul.hi.u32",
            "div.u32",
            "rem.s32",
            "mul24.lo.u32",
        ];
        let three = [
            "mad.lo.s32",
            "dp4a.u32.u32",
            "dp4a.s32.s32",
            "dp4a.s32.u32",
            "dp4a.u32.s32",
            "prmt.b32",
            "bfe.u32",
            "bfe.s32",
            "shf.l.wrap.b32",
            "shf.r.clamp.b32",
            "sad.u32",
        ];
        let one = [
            "not.b32",
            "neg.s32",
            "abs.s32",
            "popc.b32",
            "clz.b32",
            "brev.b32",
            "mov.b32",
            "cvt.s32.s8",
            "cvt.u32.u16",
            "cvt.s32.s16",
            "cvt.u32.u8",
        ];
        match self.random.next(8) {
            0..=3 => {
                let o = self.random.pick(&two);
                self.line(format_args!("{o} {d}, {a}, {b};"));
            }
            4 | 5 => {
                let o = self.random.pick(&three);
                self.line(format_args!("{o} {d}, {a}, {b}, {c};"));
            }
            6 => {
                let o = self.random.pick(&one);
                self.line(format_args!("{o} {d}, {a};"));
            }
            _ => {
                let n = self.random.next(256);
                self.line(format_args!("lop3.b32 {d}, {a}, {b}, {c}, {n};"));
            }
        }
    }

    fn quad(&mut self) {
        let (d, a, b, c) = (self.q(), self.q(), self.q(), self.q());
        let (r, s) = (self.r(), self.r_or_number());
        let two = [
            "add.s64",
            "sub.s64",
            "mul.lo.s64",
            "and.b64",
            "or.b64",
            "xor.b64",
            "min.s64",
            "max.u64",
            "max.s64",
            "min.u64",
        ];
        match self.random.next(9) {
            0 | 1 => {
                let o = self.random.pick(&two);
                self.line(format_args!("{o} {d}, {a}, {b};"));
            }
            2 => self.line(format_args!("mad.lo.s64 {d}, {a}, {b}, {c};")),
            3 => {
                let o = self.random.pick(&["mul.wide.s32", "mul.wide.u32"]);
                self.line(format_args!("{o} {d}, {r}, {s};"));
            }
            4 => {
                let o = self.random.pick(&["mad.wide.s32", "mad.wide.u32"]);
                self.line(format_args!("{o} {d}, {r}, {s}, {c};"));
            }
            5 => {
                let o = self.random.pick(&["cvt.s64.s32", "cvt.u64.u32"]);
                self.line(format_args!("{o} {d}, {r};"));
            }
            6 => {
                let o = self.random.pick(&["shl.b64", "shr.u64", "shr.s64"]);
                self.line(format_args!("{o} {d}, {a}, {s};"));
            }
            7 => self.line(format_args!("cvt.u32.u64 {r}, {a};")),
            _ => {
                let other = self.r();
                self.line(format_args!(
                    "mov.b64 {d}, {{{r}, {other}}};\nmov.b64 {{{r}, {other}}}, {a};"
                ));
            }
        }
    }

    fn float(&mut self) {
        let (d, a, b, c, r) = (self.f(), self.f(), self.f(), self.f(), self.r());
        match self.random.next(9) {
            0 | 1 => {
                let o = self.random.pick(&[
                    "add.f32",
                    "sub.f32",
                    "mul.f32",
                    "div.rn.f32",
                    "min.f32",
                    "max.f32",
                    "add.ftz.f32",
                    "mul.ftz.f32",
                    "sub.ftz.f32",
                    "add.rz.f32",
                    "add.rz.ftz.f32",
                    "sub.rm.f32",
                    "mul.rp.ftz.f32",
                    "min.ftz.f32",
                ]);
                self.line(format_args!("{o} {d}, {a}, {b};"));
            }
            2 | 3 => {
                let o = self.random.pick(&["fma.rn.f32", "fma.rn.ftz.f32"]);
                self.line(format_args!("{o} {d}, {a}, {b}, {c};"));
            }
            4 => {
                let o = self.random.pick(&[
                    "neg.f32",
                    "abs.f32",
                    "sqrt.rn.f32",
                    "rcp.rn.f32",
                    "mov.f32",
                    "ex2.approx.f32",
                    "lg2.approx.f32",
                    "ex2.approx.ftz.f32",
                    "rsqrt.approx.f32",
                    "cvt.rzi.f32.f32",
                    "cvt.rni.ftz.f32.f32",
                    "cvt.rmi.f32.f32",
                ]);
                self.line(format_args!("{o} {d}, {a};"));
            }
            5 => {
                let o = self.random.pick(&["cvt.rn.f32.s32", "cvt.rn.f32.u32"]);
                self.line(format_args!("{o} {d}, {r};"));
            }
            6 => {
                let o = self.random.pick(&[
                    "cvt.rzi.s32.f32",
                    "cvt.rzi.u32.f32",
                    "mov.b32",
                    "cvt.rni.s32.f32",
                    "cvt.rpi.ftz.s32.f32",
                ]);
                self.line(format_args!("{o} {r}, {a};"));
            }
            7 => self.line(format_args!("mov.b32 {d}, {r};")),
            _ => match self.random.next(3) {
                0 => self.line(format_args!(
                    "cvt.rn.f16.f32 %h0, {a};\nmov.b32 {r}, {{%h0, %h0}};"
                )),
                1 => self.line(format_args!("cvt.u16.u32 %h0, {r};\ncvt.f32.f16 {d}, %h0;")),
                _ => {
                    let o = self
                        .random
                        .pick(&["add.f16x2", "sub.f16x2", "mul.f16x2", "max.f16x2"]);
                    let (x, y) = (self.r(), self.r());
                    self.line(format_args!("{o} {r}, {x}, {y};"));
                }
            },
        }
    }

    /// Sets %p0 from a comparison.
    fn compare(&mut self) {
        match self.random.next(4) {
            0 => {
                let o = self.random.pick(&[
                    "eq.s32", "ne.s32", "lt.s32", "le.s32", "gt.s32", "lt.u32", "hs.u32", "ls.u32",
                ]);
                let (a, b) = (self.r(), self.r_or_number());
                self.line(format_args!("setp.{o} %p0, {a}, {b};"));
            }
            1 => {
                let o = self
                    .random
                    .pick(&["eq.s64", "lt.s64", "ge.u64", "le.s64", "ne.s64"]);
                let (a, b) = (self.q(), self.q());
                self.line(format_args!("setp.{o} %p0, {a}, {b};"));
            }
            2 => {
                let o = self.random.pick(&[
                    "eq.f32", "lt.f32", "le.f32", "ne.f32", "neu.f32", "ltu.f32", "nan.f32",
                    "num.f32", "geu.f32",
                ]);
                let (a, b) = (self.f(), self.f());
                self.line(format_args!("setp.{o} %p0, {a}, {b};"));
            }
            _ => {
                let (a, m) = (self.r(), [1, 3, 16, 31][self.random.next(4)]);
                self.line(format_args!(
                    "and.b32 %t0, {a}, {m};\nsetp.eq.u32 %p0, %t0, 1;"
                ));
            }
        }
        if self.random.next(4) == 0 {
            let o = self.random.pick(&[
                "and.pred %p0, %p0, %p1",
                "or.pred %p1, %p0, %p1",
                "xor.pred %p0, %p1, %p0",
                "not.pred %p1, %p0",
            ]);
            self.line(format_args!("{o};"));
        }
    }

    fn select(&mut self) {
        self.compare();
        match self.random.next(3) {
            0 => {
                let (d, a, b) = (self.r(), self.r(), self.r_or_number());
                self.line(format_args!("selp.b32 {d}, {a}, {b}, %p0;"));
            }
            1 => {
                let (d, a, b) = (self.q(), self.q(), self.q());
                self.line(format_args!("selp.b64 {d}, {a}, {b}, %p0;"));
            }
            _ => {
                let (d, a, b) = (self.f(), self.f(), self.f());
                self.line(format_args!("selp.f32 {d}, {a}, {b}, %p0;"));
            }
        }
    }

    /// %x0: an address in the table (or, rarely, anywhere near it) for accesses of `bytes`.
    fn address(&mut self, bytes: usize) -> usize {
        let room = TABLE * 4 / 2;
        let offset = self.random.next(8) * bytes;
        match self.random.next(7) {
            // Anywhere: neighbours have nothing to do with each other.
            0 => {
                let a = self.r();
                self.line(format_args!("and.b32 %t0, {a}, {};\nmul.wide.u32 %x1, %t0, {bytes};", room / bytes - 1));
            }
            // Near each other.
            1 => {
                let a = self.r();
                self.line(format_args!("and.b32 %t0, {a}, 7;\nmul.wide.u32 %x1, %t0, {bytes};"));
            }
            // Consecutive, as far as the compiler does not know.
            2 => self.line(format_args!("ld.global.u32 %t0, [%lanes];\nmul.wide.u32 %x1, %t0, {bytes};")),
            // The same for all.
            3 => self.line(format_args!("mov.u64 %x1, {};", self.labels % 4 * bytes)),
            // Of strides that are known.
            4 => self.line(format_args!("mul.wide.u32 %x1, %tidx, {bytes};")),
            5 => {
                let stride = [0, 2, 3][self.random.next(3)] * bytes;
                self.line(format_args!("and.b32 %t0, %tidx, 63;\nmul.wide.u32 %x1, %lane, {stride};"));
            }
            // Rows, as quantised weights have them.
            _ => self.line(format_args!(
                "shr.u32 %t0, %lane, 2;\nmul.lo.u32 %t0, %t0, 34;\nand.b32 %t1, %lane, 3;\nmad.lo.u32 %t0, %t1, 8, %t0;\nand.b32 %t0, %t0, {};\ncvt.u64.u32 %x1, %t0;",
                !(bytes - 1) & 0x3ff
            )),
        }
        self.line(format_args!("add.s64 %x0, %table, %x1;"));
        if self.wild && self.random.next(12) == 0 {
            let a = self.r();
            self.line(format_args!(
                "and.b32 %t0, {a}, 0xffff;\nmad.wide.u32 %x0, %t0, 3, %x0;"
            ));
        }
        offset
    }

    fn load(&mut self) {
        let shared = self.random.next(3) == 0;
        let (ty, bytes) = [
            ("u8", 1),
            ("s8", 1),
            ("u16", 2),
            ("s16", 2),
            ("u32", 4),
            ("f32", 4),
            ("u64", 8),
            ("v2.u32", 8),
            ("v4.u32", 16),
            ("v2.f32", 8),
        ][self.random.next(10)];
        let offset = self.address(bytes);
        let (a, b, c, d) = (self.r(), self.r(), self.r(), self.r());
        let (f, g, q) = (self.f(), self.f(), self.q());
        let to = match ty {
            "f32" => f,
            "u64" => q,
            "v2.u32" => format!("{{%t0, {b}}}"),
            "v4.u32" => format!("{{%t0, %t1, {c}, {d}}}"),
            "v2.f32" if f != g => format!("{{{f}, {g}}}"),
            "v2.f32" => format!("{{{f}, %g0}}"),
            _ => a.clone(),
        };
        if to.contains(&format!("{c}, {c}")) {
            return;
        }
        if shared {
            self.line(format_args!("sub.s64 %x0, %x0, %table;\ncvt.u32.u64 %t1, %x0;\nmov.u32 %t0, smem;\nadd.u32 %t1, %t1, %t0;"));
            self.line(format_args!(
                "and.b32 %t1, %t1, 0x7ff;\nld.shared.{ty} {to}, [%t1+{offset}];"
            ));
        } else {
            self.line(format_args!("ld.global.{ty} {to}, [%x0+{offset}];"));
        }
        if ty.starts_with('v') && ty != "v2.f32" {
            self.line(format_args!("xor.b32 {a}, {b}, %t0;"));
        }
    }

    /// To the thread's own bytes, or to consecutive words of all threads.
    fn store(&mut self) {
        let (r, s, f, q) = (self.r(), self.r(), self.f(), self.q());
        let at = self.random.next(OWN / 16) * 16;
        match self.random.next(11) {
            // Through addresses of which nothing is known but that they are the thread's own.
            kind @ 8.. => {
                let value = match kind {
                    8 => format!("st.global.u32 [%x0+{at}], {r}"),
                    9 => format!("st.global.v4.u32 [%x0+{at}], {{{r}, {s}, {s}, {r}}}"),
                    _ => format!("st.global.u64 [%x0+{at}], {q}"),
                };
                self.line(format_args!(
                    "shr.u32 %t0, {s}, 31;\nshr.u32 %t0, %t0, 1;\ncvt.u64.u32 %x1, %t0;\nadd.s64 %x0, %own, %x1;\n{value};"
                ));
            }
            0 => self.line(format_args!("st.global.u32 [%own+{at}], {r};")),
            1 => self.line(format_args!("st.global.v2.u32 [%own+{at}], {{{r}, {s}}};")),
            2 => self.line(format_args!("st.global.u64 [%own+{at}], {q};")),
            3 => self.line(format_args!("st.global.f32 [%line4], {f};")),
            4 => self.line(format_args!("st.global.u64 [%line8], {q};")),
            5 => self.line(format_args!(
                "st.global.v4.u32 [%line16], {{{r}, {s}, {r}, %t0}};"
            )),
            6 => self.line(format_args!("st.global.u8 [%line1], {r};")),
            _ => self.line(format_args!("st.global.v2.f32 [%line8], {{{f}, {f}}};")),
        }
    }

    /// Through shared memory, with barriers around.
    fn exchange(&mut self) {
        let (r, d, n) = (self.r(), self.r(), self.random.next(32));
        // In order, or in pairs that change places.
        let swapped = self.random.next(2) * 4;
        self.line(format_args!(
            "bar.sync 0;\nmul.lo.u32 %t0, %lin, 4;\nxor.b32 %t0, %t0, {swapped};\nmov.u32 %t1, smem;\nadd.u32 %t0, %t0, %t1;\nst.shared.u32 [%t0], {r};\nbar.sync 0;"
        ));
        self.line(format_args!(
            "xor.b32 %t0, %t0, {};\nld.shared.u32 {d}, [%t0];\nbar.sync 0;",
            n * 4
        ));
    }

    fn shuffle(&mut self) {
        self.shuffles = true;
        let (d, a, b) = (self.r(), self.r(), self.r());
        let mode = self.random.pick(&["bfly", "up", "down", "idx"]);
        let clamp = match (mode, self.random.next(2)) {
            ("up", 0) => "0",
            ("up", _) => "0x1800",
            (_, 0) => "31",
            _ => "0x181f",
        };
        let lane = match self.random.next(3) {
            0 => b,
            _ => self.random.next(32).to_string(),
        };
        if self.random.next(2) == 0 {
            self.line(format_args!(
                "shfl.sync.{mode}.b32 {d}|%p1, {a}, {lane}, {clamp}, -1;"
            ));
        } else {
            self.line(format_args!(
                "shfl.sync.{mode}.b32 {d}, {a}, {lane}, {clamp}, -1;"
            ));
        }
    }

    fn guarded(&mut self) {
        self.compare();
        let (d, a, f) = (self.r(), self.r(), self.f());
        let not = self.random.pick(&["", "!"]);
        match self.random.next(4) {
            0 => self.line(format_args!("@{not}%p0 add.s32 {d}, {a}, 13;")),
            1 => self.line(format_args!("@{not}%p0 st.global.u32 [%own], {a};")),
            2 => self.line(format_args!("@{not}%p0 ld.global.u32 {d}, [%own+4];")),
            _ => self.line(format_args!("@{not}%p0 mul.f32 {f}, {f}, {f};")),
        }
    }

    fn block(&mut self, depth: usize, top: bool) {
        for _ in 0..3 + self.random.next(6) {
            match self.random.next(if depth == 0 { 15 } else { 20 }) {
                0..=3 => self.word(),
                4 | 5 => self.quad(),
                6..=8 => self.float(),
                9 => self.select(),
                10 | 11 => self.load(),
                12 => self.store(),
                13 => self.guarded(),
                14 | 15 if top && !self.divergent => {
                    if self.random.next(2) == 0 {
                        self.shuffle();
                    } else {
                        self.exchange();
                    }
                }
                14 | 15 => self.float(),
                16 | 17 => {
                    let (other, end) = (self.label(), self.label());
                    self.compare();
                    self.line(format_args!("@%p0 bra L{other};"));
                    self.block(depth - 1, false);
                    self.line(format_args!("bra L{end};\nL{other}:"));
                    if self.random.next(2) == 0 {
                        self.block(depth - 1, false);
                    }
                    self.line(format_args!("L{end}:"));
                }
                _ => {
                    let (start, end) = (self.label(), self.label());
                    let rounds = 1 + self.random.next(6);
                    self.line(format_args!("mov.u32 %n{depth}, {rounds};\nL{start}:"));
                    // Often no branch inside, as the loops that matter most.
                    let inner = if self.random.next(2) == 0 {
                        0
                    } else {
                        depth - 1
                    };
                    self.block(inner, false);
                    if self.random.next(3) == 0 {
                        self.compare();
                        self.line(format_args!("@%p0 bra L{end};"));
                    }
                    self.line(format_args!(
                        "add.s32 %n{depth}, %n{depth}, -1;\nsetp.ne.s32 %p2, %n{depth}, 0;\n@%p2 bra L{start};\nL{end}:"
                    ));
                }
            }
        }
    }

    fn label(&mut self) -> usize {
        self.labels += 1;
        self.labels
    }
}

fn kernel(random: u64, wild: bool) -> (String, bool) {
    let mut w = Writer {
        random: Random(random),
        text: String::new(),
        labels: 0,
        divergent: false,
        shuffles: false,
        wild,
    };
    w.block(2, true);
    if w.random.next(3) == 0 {
        w.divergent = true;
        w.compare();
        w.line(format_args!("@%p0 bra LR;"));
        w.block(2, true);
    }
    let stores: String = (0..REGS)
        .map(|k| {
            format!(
                "st.global.u32 [%own+{}], %r{k};\nst.global.f32 [%own+{}], %f{k};\nst.global.u64 [%own+{}], %q{k};\n",
                4 * k,
                32 + 4 * k,
                64 + 8 * k
            )
        })
        .collect();
    let mut start = String::new();
    for k in 0..REGS {
        let r = ["%tid.x", "%tid.y", "%ctaid.x", "77", "%laneid", "%lin"][k];
        writeln!(start, "mov.u32 %r{k}, {r};\ncvt.s64.s32 %q{k}, %r{k};").unwrap();
        writeln!(start, "ld.global.f32 %f{k}, [%x0+{}];", 4 * 64 * k).unwrap();
    }
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 o, .param .u64 l, .param .u64 t)\n{{\n\
         .reg .pred %p<4>; .reg .b16 %h<2>; .reg .b32 %r<{REGS}>, %t<4>, %n<8>, %a<8>, %lin, %lane, %tidx;\n\
         .reg .f32 %f<{REGS}>, %g<2>; .reg .b64 %q<{REGS}>, %x<4>, %own, %line1, %line4, %line8, %line16, %table, %lanes;\n\
         .shared .align 16 .b8 smem[4096];\n\
         ld.param.u64 %own, [o]; ld.param.u64 %line4, [l]; ld.param.u64 %table, [t];\n\
         mov.u32 %a0, %ntid.x; mov.u32 %a1, %tid.x; mov.u32 %a2, %tid.y; mad.lo.u32 %lin, %a2, %a0, %a1;\n\
         mov.u32 %tidx, %tid.x; mov.u32 %lane, %laneid;\n\
         mov.u32 %a3, %ntid.y; mul.lo.u32 %a4, %a0, %a3; mov.u32 %a5, %ctaid.x; mad.lo.u32 %a6, %a5, %a4, %lin;\n\
         mul.wide.u32 %x1, %a6, {OWN}; add.s64 %own, %own, %x1;\n\
         mul.wide.u32 %x1, %a6, 16; add.s64 %line16, %line4, %x1; add.s64 %line16, %line16, 32768;\n\
         mul.wide.u32 %x1, %a6, 8; add.s64 %line8, %line4, %x1; add.s64 %line8, %line8, 16384;\n\
         cvt.u64.u32 %x1, %a6; add.s64 %line1, %line4, %x1; add.s64 %line1, %line1, 12288;\n\
         mul.wide.u32 %x1, %a6, 4; add.s64 %line4, %line4, %x1;\n\
         and.b32 %t0, %lin, 63; mul.wide.u32 %x1, %t0, 4; add.s64 %x0, %table, %x1;\n\
         add.s64 %lanes, %x0, 1024; setp.eq.s32 %p1, %lin, 3;\n\
         mov.u32 %t0, %lin;\nLZ:\nshl.b32 %t1, %t0, 2; mov.u32 %t2, smem; add.u32 %t1, %t1, %t2; st.shared.u32 [%t1], %t0;\n\
         add.u32 %t0, %t0, %a4; setp.lt.u32 %p2, %t0, 1024;\n@%p2 bra LZ;\nbar.sync 0;\n{start}{}\nLR:\n{stores}ret;\n}}\n",
        w.text
    );
    (text, w.shuffles)
}

/// Runs the kernel: what it left in memory, or how it failed.
fn run(d: &Device, blocks: u32, [x, y]: [u32; 2], table: &[u32]) -> Result<Vec<u8>, LaunchError> {
    let threads = (blocks * x * y) as usize;
    let own = d.upload(&vec![0u8; threads * OWN]);
    let lines = d.upload(&vec![0u8; 65536]);
    let t = d.upload(table);
    let args = [Arg::Ptr(own), Arg::Ptr(lines), Arg::Ptr(t)];
    let done = d.try_launch("k", [blocks, 1, 1], [x, y, 1], 0, &args);
    let mut bytes: Vec<u8> = d.download(own, threads * OWN);
    bytes.extend(d.download::<u8>(lines, 65536));
    for a in [own, lines, t] {
        d.space.free(a).unwrap();
    }
    // Each device has addresses of its own.
    done.map(|_| bytes).map_err(|mut e| {
        if let LaunchError::IllegalAddress(f) | LaunchError::MisalignedAddress(f) = &mut e
            && f.space != "shared"
        {
            f.address = f.address.wrapping_sub(t);
        }
        e
    })
}

fn agree(seed: u64, wild: bool, table: &[u32]) {
    let (text, shuffles) = kernel(seed, wild);
    let all = devices(&text);
    // Of several blocks that run at once, the one that fails first is not always the same.
    let blocks = if wild { 1 } else { 2 };
    // Machine code, interpreted, reference: in this order. Baseline handlers have no part in it.
    let shapes: &[[u32; 2]] = if shuffles {
        &[[64, 1], [16, 4], [32, 2], [8, 8]]
    } else {
        &[[64, 1], [16, 4], [40, 1], [24, 3], [128, 1]]
    };
    for shape in shapes {
        let [jit, interpreted, reference] = [0, 1, 2].map(|k| run(&all[k], blocks, *shape, table));
        for (name, other) in [("interpreted", &interpreted), ("reference", &reference)] {
            match (&jit, other) {
                (Ok(a), Ok(b)) => {
                    if let Some(k) = (0..a.len()).find(|&k| a[k] != b[k]) {
                        panic!(
                            "seed {seed}, block {shape:?}: byte {} of thread {} (or {k}) is {:#x} in machine code, {:#x} {name}\n{text}",
                            k % OWN,
                            k / OWN,
                            a[k],
                            b[k]
                        );
                    }
                }
                (Err(a), Err(b)) if a == b => {}
                (a, b) => panic!(
                    "seed {seed}, block {shape:?}: machine code {:?}, {name} {:?}\n{text}",
                    a.as_ref().err(),
                    b.as_ref().err()
                ),
            }
        }
    }
}

#[test]
fn random_kernels_leave_the_same_bits() {
    let read = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let rounds = read("VGPU_FUZZ_ROUNDS").unwrap_or(300);
    let seed = read("VGPU_FUZZ_SEED").unwrap_or(1);
    // Ordinary and special values of floats; a run of lane numbers for addresses.
    let special = [
        0x0000_0000u32,
        0x8000_0000,
        0x3f80_0000,
        0xbf80_0000,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0xffc1_2345,
        0x7f80_0001,
        0x0000_0001,
        0x807f_ffff,
        0x0080_0000,
        0x7f7f_ffff,
        0x4b00_0001,
        0x4f00_0000,
        0xcf00_0000,
        0x4f80_0000,
        0x3300_0000,
        0x477f_f000,
        0x3880_0000,
        0x3eaa_aaab,
        0x42c8_0000,
    ];
    let table: Vec<u32> = (0..TABLE as u32)
        .map(|i| match i {
            256..320 => i - 256,
            _ if i % 3 == 0 => special[(i / 3) as usize % special.len()],
            _ => i.wrapping_mul(2_654_435_761) ^ (i << 7),
        })
        .collect();
    for round in 0..rounds {
        agree(seed * 1_000_003 + round, round % 5 == 4, &table);
    }
}
