//! Kernels whose addresses are wild: every state space, width and vector, offsets at the ends of memory, of the
//! windows and of the number range, addresses that are the same in a warp, affine, or of any kind, in loops and
//! branches. They aim at the checks of the executor and of its machine code.

use std::fmt::Write;

use crate::random::Random;

const W32: usize = 12;
const W64: usize = 12;

/// A generator's text and what it has opened.
struct Kernel<'a> {
    r: &'a mut Random,
    text: String,
    labels: usize,
    loops: usize,
    /// Most addresses are good ones: a kernel that faults at its first access shows nothing of the others.
    tame: bool,
}

/// The text of a module with one such kernel, which takes three pointers and two numbers.
pub fn kernel(r: &mut Random) -> String {
    let sizes = [4usize, 16, 48, 64, 100, 256, 1024, 4096, 5000];
    let (shared, local) = (*r.of(&sizes), *r.of(&sizes[..7]));
    let mut k = Kernel {
        r,
        text: String::new(),
        labels: 0,
        loops: 0,
        tame: false,
    };
    k.tame = !k.r.one_in(3);
    k.start();
    let n = 3 + k.r.below(20);
    k.statements(n, 2);
    let bounds = match k.r.below(6) {
        0 => ".maxntid 64, 1, 1",
        1 => ".reqntid 32, 1, 1",
        _ => "",
    };
    format!(
        ".version 8.3\n.target sm_90\n.address_size 64\n\
         .global .align 16 .b8 g[64];\n.const .align 16 .b8 c[48] = {{1, 2, 3, 255}};\n\
         .extern .shared .align 16 .b8 dyn[];\n\
         .visible .func (.param .b32 z) callee(.param .b64 x, .param .b32 y)\n{{\n\
         .local .align 16 .b8 fl[32]; .reg .b64 %a<4>; .reg .b32 %b<4>;\n\
         ld.param.u64 %a0, [x]; ld.param.u32 %b0, [y]; mov.u64 %a1, fl; cvt.s64.s32 %a2, %b0;\n\
         add.s64 %a1, %a1, %a2; st.local.u32 [%a1], %b0; ld.u32 %b1, [%a0]; st.param.b32 [z], %b1; ret;\n}}\n\
         .visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u32 pn, .param .u32 pm)\n{bounds}\n{{\n\
         .reg .pred %p<6>; .reg .b16 %h<8>; .reg .b32 %r<{W32}>, %i<8>; .reg .b64 %q<{W64}>, %t<4>; .reg .f32 %f<8>; .reg .f64 %d<4>;\n\
         .shared .align 16 .b8 s[{shared}];\n.local .align 16 .b8 l[{local}];\n{}ret;\n}}\n",
        k.text
    )
}

impl Kernel<'_> {
    fn line(&mut self, s: &str) {
        self.text.push_str(s);
        self.text.push('\n');
    }

    fn r32(&mut self) -> String {
        format!("%r{}", self.r.below(W32))
    }

    /// A 64-bit register; of a tame kernel none that holds a good address.
    fn q(&mut self) -> String {
        let first = if self.tame { 9 } else { 0 };
        format!("%q{}", first + self.r.below(W64 - first))
    }

    fn start(&mut self) {
        self.line("ld.param.u64 %q0, [pa]; ld.param.u64 %q1, [pb]; ld.param.u64 %q2, [pc]; ld.param.u32 %r1, [pn]; ld.param.u32 %r2, [pm];");
        self.line("mov.u32 %r0, %tid.x; mov.u32 %r3, %laneid; mov.u32 %r4, %ctaid.x; mov.u32 %r5, %tid.y; shl.b32 %r6, %r0, 2; mul.lo.u32 %r7, %r0, %r1;");
        self.line("mov.u64 %q3, s; cvta.shared.u64 %q4, %q3; mov.u64 %q5, l; cvta.local.u64 %q6, %q5; mov.u64 %q7, g; mov.u64 %q8, c;");
        // What PTX leaves open cannot be compared: every register has a value.
        for (kind, ty, first, count) in [
            ("r", "b32", 9, W32),
            ("i", "b32", 0, 8),
            ("q", "b64", 9, W64),
            ("t", "b64", 0, 4),
            ("h", "b16", 0, 8),
        ] {
            for k in first..count {
                self.line(&format!("mov.{ty} %{kind}{k}, {};", 3 * k));
            }
        }
        self.line("cvt.rn.f32.u32 %f0, %r0; cvt.rn.f32.s32 %f1, %r1; mov.f32 %f2, 0f3F800000; mov.f32 %f3, 0fC0400000; mov.f32 %f4, 0f00000001; mov.f32 %f5, 0f7F800000; mov.f32 %f6, 0fFFC00000; mov.f32 %f7, 0f42F6E979;");
        self.line("cvt.rn.f64.u32 %d0, %r0; cvt.rn.f64.s32 %d1, %r1; mov.f64 %d2, 0d3FF0000000000000; mov.f64 %d3, 0dBFB999999999999A;");
        self.line("setp.eq.u32 %p4, %r0, %r3; setp.ge.u32 %p5, %r0, 20;");
        self.line("setp.lt.u32 %p0, %r0, 7; setp.eq.u32 %p1, %r1, 0; setp.gt.s32 %p2, %r3, 15; and.b32 %r8, %r0, 1; setp.ne.u32 %p3, %r8, 0;");
    }

    fn statements(&mut self, n: usize, depth: usize) {
        for _ in 0..n {
            match self.r.below(20) {
                0..=4 => self.arithmetic(),
                5..=7 => self.address(),
                8..=13 => self.access(),
                14 => self.other(),
                15 if depth > 0 => self.branch(depth),
                16 | 17 if depth > 0 => self.cycle(depth),
                18 => self.warp(),
                19 => self.call(),
                _ => self.access(),
            }
        }
    }

    fn small(&mut self) -> i64 {
        match self.r.below(6) {
            0 => self.r.number(),
            1 => -(self.r.below(64) as i64),
            2 => 1 << self.r.below(31),
            _ => self.r.below(70) as i64,
        }
    }

    fn arithmetic(&mut self) {
        let (d, a, b) = (self.r32(), self.r32(), self.r32());
        let n = self.small() as i32;
        let s = match self.r.below(12) {
            0 => format!("add.s32 {d}, {a}, {n};"),
            1 => format!("add.u32 {d}, {a}, {b};"),
            2 => format!("sub.s32 {d}, {a}, {b};"),
            3 => format!("mul.lo.s32 {d}, {a}, {n};"),
            4 => format!("mad.lo.s32 {d}, {a}, {n}, {b};"),
            5 => format!("shl.b32 {d}, {a}, {};", self.r.below(34)),
            6 => format!("and.b32 {d}, {a}, {n};"),
            7 => format!("shr.s32 {d}, {a}, {};", self.r.below(34)),
            8 => format!("min.u32 {d}, {a}, {n};"),
            9 => format!("selp.b32 {d}, {a}, {n}, %p{};", self.r.below(4)),
            10 => format!("xor.b32 {d}, {a}, {b};"),
            _ => {
                let op = *self.r.of(&["lt.u32", "eq.s32", "ge.s32", "ne.u32"]);
                format!("setp.{op} %p{}, {a}, {n};", self.r.below(6))
            }
        };
        self.line(&s);
    }

    fn address(&mut self) {
        let (d, a, b, x) = (self.q(), self.q(), self.q(), self.r32());
        let n = self.r.number();
        let s = match self.r.below(12) {
            0 => format!(
                "mul.wide.u32 {d}, {x}, {};",
                self.small().unsigned_abs() as u32
            ),
            1 => format!("mul.wide.s32 {d}, {x}, {};", self.small() as i32),
            2 => format!("cvt.u64.u32 {d}, {x};"),
            3 => format!("cvt.s64.s32 {d}, {x};"),
            4 | 5 => format!("add.s64 {d}, {a}, {b};"),
            6 => format!("add.s64 {d}, {a}, {n};"),
            7 => format!("shl.b64 {d}, {a}, {};", self.r.below(66)),
            8 => format!(
                "mad.wide.u32 {d}, {x}, {}, {a};",
                *self.r.of(&[1, 2, 4, 8, 16, 4096, 0x4000_0000])
            ),
            9 => format!(
                "mad.wide.s32 {d}, {x}, {}, {a};",
                *self.r.of(&[1, 2, 4, 8, 16, -4, -16])
            ),
            10 => format!("sub.s64 {d}, {a}, {b};"),
            _ => format!(
                "mov.u64 {d}, {};",
                *self.r.of(&[
                    "s",
                    "l",
                    "g",
                    "c",
                    "dyn",
                    "-1",
                    "0x10000000000",
                    "0x1fffffffffc",
                    "0x20000000000",
                    "0x30000000000",
                    "0x40000000000",
                    "0x7ffffffffffc"
                ])
            ),
        };
        self.line(&s);
    }

    fn guard(&mut self) -> String {
        match self.r.below(6) {
            0 => format!("@%p{} ", self.r.below(6)),
            1 => format!("@!%p{} ", self.r.below(6)),
            _ => String::new(),
        }
    }

    fn offset(&mut self) -> i64 {
        match self.r.below(10) {
            0..=2 => 0,
            3 | 4 => 4 * self.r.below(16) as i64,
            5 => 16 * (self.r.below(64) as i64 - 32),
            6 => self.r.below(100) as i64 - 50,
            7 => *self.r.of(&[
                i64::from(i32::MAX),
                i64::from(i32::MIN),
                4080,
                4092,
                4096,
                -4096,
                65532,
            ]),
            _ => i64::from(self.r.number() as i32),
        }
    }

    /// An access that is good unless an argument is not: its address register has any shape.
    fn good_access(&mut self) {
        let (ty, v, bytes) = *self.r.of(&[
            (".u8", "%r8", 1),
            (".s16", "%h1", 2),
            (".u32", "%r8", 4),
            (".u32", "%r9", 4),
            (".f32", "%f1", 4),
            (".u64", "%q9", 8),
            (".f64", "%d1", 8),
            (".v2.u32", "{%r8,%r9}", 8),
            (".v4.u32", "{%r8,%r9,%r10,%r11}", 16),
            (".v2.u64", "{%q9,%q10}", 16),
            (".v4.u8", "{%h0,%h1,%h2,%h3}", 4),
        ]);
        let (space, base, narrow) = *self.r.of(&[
            (".global", "%q0", false),
            (".global", "%q1", false),
            ("", "%q2", false),
            (".shared", "0", true),
            (".shared", "%q3", false),
            ("", "%q4", false),
            ("", "%q6", false),
            (".local", "%q5", false),
            (".global", "%q7", false),
        ]);
        let x = match self.r.below(4) {
            0 => "%r4".to_owned(),
            1 => "%r3".to_owned(),
            _ => self.r32(),
        };
        // Of few bytes: the smallest array must hold it.
        let most = *self.r.of(&[0, 0, 1, 3, 7, 31]);
        self.line(&format!("and.b32 %i7, {x}, {most};"));
        if narrow {
            self.line(&format!("mul.lo.u32 %i7, %i7, {bytes};"));
        } else {
            let s = *self.r.of(&["u", "s"]);
            self.line(&format!("mad.wide.{s}32 %t2, %i7, {bytes}, {base};"));
        }
        let at = if narrow { "%i7" } else { "%t2" };
        let far = bytes * *self.r.of(&[0, 0, 1, 2, 4]);
        let g = self.guard();
        let s = match self.r.below(5) {
            0 if bytes == 4 => format!("{g}atom{space}.add.u32 %r9, [{at}+{far}], 1;"),
            0..=2 => format!("{g}ld{space}{ty} {v}, [{at}+{far}];"),
            _ => format!("{g}st{space}{ty} [{at}+{far}], {v};"),
        };
        let s = if space == ".local" {
            s.replace("atom.local.add.u32 %r9, ", "ld.local.u32 %r9, ")
                .replace(", 1;", ";")
        } else {
            s
        };
        self.line(&s);
    }

    fn access(&mut self) {
        if self.tame && !self.r.one_in(12) {
            return self.good_access();
        }
        let space = *self.r.of(&[
            "", "", ".global", ".global", ".global", ".shared", ".shared", ".local", ".const",
            ".param",
        ]);
        let base = match (space, self.r.below(5)) {
            (_, 0) => self.q(),
            (".shared", 1) => "s".to_owned(),
            (".shared", 2) => self.r32(),
            (".shared", 3) => "dyn".to_owned(),
            (".shared", _) => "%q3".to_owned(),
            (".local", 1) => "l".to_owned(),
            (".local", _) => "%q5".to_owned(),
            (".const", 1) => "c".to_owned(),
            (".const", _) => "%q8".to_owned(),
            (".param", 1..=3) => (*self.r.of(&["pa", "pc", "pm"])).to_owned(),
            ("", 1) => (*self.r.of(&["%q4", "%q6"])).to_owned(),
            (_, 2) => "%q7".to_owned(),
            _ => format!("%q{}", self.r.below(3)),
        };
        let base = if self.r.one_in(3) && base.starts_with("%q") {
            let (x, w) = (self.r32(), *self.r.of(&[1, 2, 4, 4, 8, 16, 32]));
            let s = *self.r.of(&["u", "s"]);
            self.line(&format!("mad.wide.{s}32 %t0, {x}, {w}, {base};"));
            "%t0".to_owned()
        } else {
            base
        };
        let at = match self.offset() {
            0 => format!("[{base}]"),
            n => format!("[{base}+{n}]"),
        };
        let g = self.guard();
        let (kind, x) = (self.r.below(16), self.r.below(6));
        let s = match kind {
            0..=6 => {
                let (ty, v) = self.value();
                let order = if self.r.one_in(6) {
                    *self
                        .r
                        .of(&[".volatile", ".relaxed.gpu", ".acquire.sys", ".nc"])
                } else {
                    ""
                };
                let order = if order == ".nc" && space != ".global" {
                    ""
                } else {
                    order
                };
                let (before, after) = if order == ".nc" {
                    ("", order)
                } else {
                    (order, "")
                };
                format!("{g}ld{before}{space}{after}{ty} {v}, {at};")
            }
            7..=11 if space != ".const" && space != ".param" => {
                let (ty, v) = self.value();
                let order = if self.r.one_in(6) {
                    *self.r.of(&[".volatile", ".relaxed.gpu", ".release.sys"])
                } else {
                    ""
                };
                format!("{g}st{order}{space}{ty} {at}, {v};")
            }
            12 | 13 if matches!(space, "" | ".global" | ".shared") => match x {
                0 => format!("{g}atom{space}.add.u32 %r9, {at}, %r0;"),
                1 => format!("{g}atom{space}.cas.b64 %q9, {at}, %q1, %q2;"),
                2 => format!("{g}red{space}.add.f32 {at}, %f1;"),
                3 => format!("{g}atom{space}.exch.b32 %r9, {at}, %r1;"),
                4 => format!("{g}red{space}.max.s64 {at}, %q1;"),
                _ => format!("{g}atom{space}.cas.b16 %h1, {at}, %h2, %h3;"),
            },
            14 => {
                let n = *self.r.of(&[4, 8, 16]);
                let (to, o) = (
                    *self.r.of(&["%q3", "%q4", "%q5", "%q9", "%q0"]),
                    self.offset(),
                );
                format!(
                    "{g}cp.async.ca.shared.global [{to}+{o}], {at}, {n};\n{}",
                    if self.r.one_in(2) {
                        "cp.async.wait_all;"
                    } else {
                        ""
                    }
                )
            }
            _ => match x {
                0 => format!("{g}prefetch.global.L2 {at};"),
                1 => {
                    format!("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r8,%r9,%r10,%r11}}, {at};")
                }
                2 => format!("stmatrix.sync.aligned.m8n8.x2.shared.b16 {at}, {{%r8,%r9}};"),
                3 => format!(
                    "wmma.load.a.sync.aligned.row.m16n16k16{space}.f16 {{%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}}, {at}, %r1;"
                ),
                4 => format!(
                    "wmma.store.d.sync.aligned.row.m16n16k16{space}.f32 {at}, {{%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7}}, %r2;"
                ),
                _ => format!("{g}isspacep.shared %p4, %q4;"),
            },
        };
        self.line(&s);
    }

    /// A type with its vector, and registers for it.
    fn value(&mut self) -> (&'static str, String) {
        let r = self.r32();
        match self.r.below(14) {
            0 => (".u8", r),
            1 => (".s8", r),
            2 => (".u16", format!("%h{}", self.r.below(8))),
            3..=5 => (".u32", r),
            6 => (".f32", format!("%f{}", self.r.below(8))),
            7 => (".u64", self.q()),
            8 => (".f64", format!("%d{}", self.r.below(4))),
            9 => (".v2.u32", "{%r8,%r9}".to_owned()),
            10 => (".v4.u32", "{%r8,%r9,%r10,%r11}".to_owned()),
            11 => (".v4.f32", "{%f0,%f1,%f2,%f3}".to_owned()),
            12 => (".v2.u64", "{%q9,%q10}".to_owned()),
            _ => (
                *self.r.of(&[".v4.u8", ".v4.u16", ".v2.u16", ".v2.u8"]),
                "x".to_owned(),
            ),
        }
        .fix()
    }

    fn branch(&mut self, depth: usize) {
        self.labels += 2;
        let (a, b) = (self.labels - 1, self.labels);
        let g = format!("@%p{} ", self.r.below(6));
        self.line(&format!("{g}bra L{a};"));
        let n = 1 + self.r.below(4);
        self.statements(n, depth - 1);
        self.line(&format!("bra L{b};\nL{a}:"));
        let n = self.r.below(4);
        self.statements(n, depth - 1);
        self.line(&format!("L{b}:"));
    }

    fn cycle(&mut self, depth: usize) {
        self.labels += 2;
        let (a, b) = (self.labels - 1, self.labels);
        let c = format!("%i{}", self.loops % 8);
        self.loops += 1;
        let (base, step) = (self.q(), self.offset());
        let start = match self.r.below(4) {
            0 => self.r32(),
            _ => (1 + self.r.below(9)).to_string(),
        };
        self.line(&format!("mov.u32 {c}, {start};\nL{a}:"));
        let n = 1 + self.r.below(5);
        self.statements(n, depth - 1);
        self.line(&format!("add.s64 {base}, {base}, {step};"));
        if self.r.one_in(3) {
            let p = self.r.below(6);
            self.line(&format!("@%p{p} bra L{b};"));
        }
        self.line(&format!(
            "add.s32 {c}, {c}, -1;\nsetp.gt.s32 %p5, {c}, 0;\n@%p5 bra L{a};\nL{b}:"
        ));
    }

    fn warp(&mut self) {
        let (d, a, b) = (self.r32(), self.r32(), self.r32());
        let s = match self.r.below(13) {
            0 => format!("shfl.sync.idx.b32 {d}, {a}, {b}, 31, -1;"),
            1 => format!(
                "shfl.sync.down.b32 {d}|%p4, {a}, {}, {}, -1;",
                self.r.below(40),
                self.r.number() as i32
            ),
            2 => format!("vote.sync.ballot.b32 {d}, %p1, -1;"),
            3 => format!("match.any.sync.b32 {d}, {a}, -1;"),
            4 => format!("activemask.b32 {d};"),
            5 => "bar.sync 0;".to_owned(),
            6 => format!(
                "bar.warp.sync {};",
                *self.r.of(&["-1", "-1", "1", "%r9", "0"])
            ),
            7 => {
                let (g, op) = (self.guard(), *self.r.of(&["all", "any", "uni"]));
                format!(
                    "{g}vote.sync.{op}.pred %p4, %p1, {};",
                    *self.r.of(&["-1", "%r9", "0xffff"])
                )
            }
            8 => format!(
                "{}bar.sync {}, {};",
                self.guard(),
                self.r.below(17),
                *self.r.of(&["32", "64", "%r1"])
            ),
            9 => format!("{}bar.arrive 1, 64;", self.guard()),
            10 => "bar.red.popc.u32 %r9, 0, %p1;".to_owned(),
            11 => "{ .reg .u32 %am; activemask.b32 %am; shfl.sync.bfly.b32 %r9, %r8, 1, 31, %am; }"
                .to_owned(),
            _ => format!("redux.sync.add.s32 {d}, {a}, -1;"),
        };
        self.line(&s);
    }

    fn call(&mut self) {
        let (x, y) = match self.tame {
            true => ("%q0".to_owned(), "%r8".to_owned()),
            false => (self.q(), self.r32()),
        };
        let g = self.guard();
        let mut s = String::new();
        let target = if self.r.one_in(3) {
            let _ = writeln!(
                s,
                "mov.u64 %t1, {};",
                *self.r.of(&[
                    "callee",
                    "callee",
                    "0x40000000000",
                    "0x40000000010",
                    "0x40000000008",
                    "7"
                ])
            );
            "%t1"
        } else {
            "callee"
        };
        let proto = if target == "callee" {
            ""
        } else {
            self.labels += 1;
            let _ = writeln!(
                s,
                "proto{}: .callprototype (.param .b32 _) _ (.param .b64 _, .param .b32 _);",
                self.labels
            );
            &*format!(", proto{}", self.labels)
        };
        let _ = write!(
            s,
            "{{ .param .b64 a0; .param .b32 a1; .param .b32 o0;\nst.param.b64 [a0], {x}; st.param.b32 [a1], {y};\n{g}call (o0), {target}, (a0, a1){proto};\nld.param.b32 %r9, [o0]; }}"
        );
        self.line(&s);
    }

    fn other(&mut self) {
        let s = match self.r.below(10) {
            0 => "membar.gl;".to_owned(),
            1 => format!("mov.u32 {}, %dynamic_smem_size;", self.r32()),
            2 => format!("cvta.to.shared.u64 {}, {};", self.q(), self.q()),
            3 => format!("cvta.to.local.u64 {}, {};", self.q(), self.q()),
            4 => format!("brev.b32 {}, {};", self.r32(), self.r32()),
            5 => format!("mov.b64 {{{}, {}}}, {};", self.r32(), self.r32(), self.q()),
            6 | 7 => "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0,%f1,%f2,%f3}, {%r8,%r9,%r10,%r11}, {%r8,%r9}, {%f4,%f5,%f6,%f7};".to_owned(),
            // A series that wraps: on in the reference code.
            8 => {
                let (d, x) = (self.q(), self.r32());
                format!("add.s32 {x}, %r0, {};\nmul.wide.u32 {d}, {x}, 4;", -(self.r.below(40) as i32))
            }
            _ => "fma.rn.f32 %f1, %f2, %f3, %f1;".to_owned(),
        };
        self.line(&s);
    }
}

/// Registers for the short vector types.
trait Fix {
    fn fix(self) -> (&'static str, String);
}

impl Fix for (&'static str, String) {
    fn fix(self) -> (&'static str, String) {
        match self {
            (ty, v) if v == "x" && ty.starts_with(".v2") => (ty, "{%h0,%h1}".to_owned()),
            (ty, v) if v == "x" => (ty, "{%h0,%h1,%h2,%h3}".to_owned()),
            other => other,
        }
    }
}
