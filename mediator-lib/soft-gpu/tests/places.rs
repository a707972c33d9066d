//! Registers share places in a warp's frame. Whatever stops a kernel in the middle (lanes that part, a barrier, values
//! that do not keep their form, lanes that wait for each other), who goes on with it finds what is still needed.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::fmt::Write;

use common::{Arg, devices};

/// Values that live from the start to the end, between which others come and go.
const VALUES: usize = 9;
const BLOCK: u32 = 64;
const GRID: u32 = 3;
/// A number that wraps in the middle of a warp when the thread's number is added.
const BASE: u32 = i32::MAX as u32 - 40;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

enum Step {
    /// `value[c] += (value[a] * k + value[b]) ^ value[a]`, through registers of its own.
    Mix(usize, usize, usize, u32),
    /// By bits of the thread's number; all lanes wait for each other inside if the last says so.
    If(u32, Vec<Step>, Vec<Step>, bool),
    /// As often as two bits of the thread's number say.
    Loop(Vec<Step>),
    /// A series that wraps: the optimised code does not hold for it.
    Wrap(usize),
    Barrier,
}

fn steps(r: &mut Random, depth: usize) -> Vec<Step> {
    let count = 2 + r.below(4);
    (0..count)
        .map(|_| match r.below(if depth < 3 { 9 } else { 5 }) {
            0..=4 => Step::Mix(
                r.below(VALUES),
                r.below(VALUES),
                r.below(VALUES),
                r.below(1000) as u32,
            ),
            5 => Step::Loop(steps(r, depth + 1)),
            6 if depth == 0 => Step::Barrier,
            6 | 7 => {
                let waits = depth == 0 && r.below(4) == 0;
                let bits = 1 + r.below(7) as u32;
                Step::If(bits, steps(r, depth + 1), steps(r, depth + 1), waits)
            }
            _ => Step::Wrap(r.below(VALUES)),
        })
        .collect()
}

struct Writer {
    text: String,
    /// Registers and labels so far.
    next: usize,
}

impl Writer {
    fn new_name(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn all(&mut self, steps: &[Step]) {
        for step in steps {
            let n = self.new_name();
            match step {
                Step::Mix(a, b, c, k) => {
                    writeln!(
                        self.text,
                        "mad.lo.s32 %a{n}, %v{a}, {k}, %v{b};\nxor.b32 %b{n}, %a{n}, %v{a};\n\
                         add.s32 %v{c}, %v{c}, %b{n};"
                    )
                    .unwrap();
                }
                Step::If(bits, then, other, waits) => {
                    let wait = if *waits {
                        "bar.warp.sync 0xffffffff;\n"
                    } else {
                        ""
                    };
                    writeln!(
                        self.text,
                        "and.b32 %a{n}, %i, {bits};\nsetp.eq.s32 %p{n}, %a{n}, 0;\n@%p{n} bra other{n};"
                    )
                    .unwrap();
                    self.all(then);
                    write!(self.text, "{wait}bra after{n};\nother{n}:\n").unwrap();
                    self.all(other);
                    writeln!(self.text, "{wait}after{n}:").unwrap();
                }
                Step::Loop(body) => {
                    write!(
                        self.text,
                        "and.b32 %a{n}, %i, 3;\nloop{n}:\nsetp.eq.s32 %p{n}, %a{n}, 0;\n@%p{n} bra done{n};\n"
                    )
                    .unwrap();
                    self.all(body);
                    write!(
                        self.text,
                        "sub.s32 %a{n}, %a{n}, 1;\nbra loop{n};\ndone{n}:\n"
                    )
                    .unwrap();
                }
                Step::Wrap(c) => {
                    writeln!(
                        self.text,
                        "add.s32 %a{n}, %i, %base;\nmul.wide.s32 %q{n}, %a{n}, 4;\nshr.u64 %q{n}, %q{n}, 3;\n\
                         cvt.u32.u64 %b{n}, %q{n};\nadd.s32 %v{c}, %v{c}, %b{n};"
                    )
                    .unwrap();
                }
                Step::Barrier => self.text.push_str("bar.sync 0;\n"),
            }
        }
    }
}

fn kernel(steps: &[Step]) -> String {
    let mut w = Writer {
        text: String::new(),
        next: 0,
    };
    w.all(steps);
    let n = w.next + 1;
    let mut text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 out, .param .u32 start) {{\n\
         .reg .b32 %a<{n}>, %b<{n}>, %v<{VALUES}>, %i, %base, %r, %s;\n\
         .reg .b64 %q<{n}>, %out;\n.reg .pred %p<{n}>;\n\
         ld.param.u64 %out, [out];\nld.param.u32 %base, [start];\nmov.u32 %i, %tid.x;\n\
         mov.u32 %r, %ctaid.x;\nmad.lo.s32 %r, %r, {BLOCK}, %i;\nmad.wide.u32 %out, %r, 4, %out;\n\
         mul.lo.s32 %s, %r, %r;\n"
    );
    // Some are series, the others have no form.
    for v in 0..VALUES {
        let from = ["%r", "%s"][v % 2];
        writeln!(text, "mad.lo.s32 %v{v}, {from}, {}, {};", 7 * v + 3, v + 11).unwrap();
    }
    text.push_str(&w.text);
    text.push_str("mov.u32 %s, 0;\n");
    for v in 0..VALUES {
        writeln!(text, "mad.lo.s32 %s, %v{v}, {}, %s;", v + 1).unwrap();
    }
    text.push_str("st.global.u32 [%out], %s;\nret;\n}\n");
    text
}

fn run(steps: &[Step], tid: u32, v: &mut [u32; VALUES]) {
    for step in steps {
        match step {
            Step::Mix(a, b, c, k) => {
                let x = v[*a].wrapping_mul(*k).wrapping_add(v[*b]) ^ v[*a];
                v[*c] = v[*c].wrapping_add(x);
            }
            Step::If(bits, then, other, _) => {
                run(if tid & bits == 0 { other } else { then }, tid, v);
            }
            Step::Loop(body) => (0..tid & 3).for_each(|_| run(body, tid, v)),
            Step::Wrap(c) => {
                let x = i64::from(tid.wrapping_add(BASE) as i32) * 4;
                v[*c] = v[*c].wrapping_add((x as u64 >> 3) as u32);
            }
            Step::Barrier => {}
        }
    }
}

fn expected(steps: &[Step]) -> Vec<u32> {
    let thread = |t: u32| {
        let mut v = std::array::from_fn(|i| {
            let from = if i % 2 == 0 { t } else { t.wrapping_mul(t) };
            from.wrapping_mul(7 * i as u32 + 3)
                .wrapping_add(i as u32 + 11)
        });
        run(steps, t % BLOCK, &mut v);
        (1..)
            .zip(v)
            .fold(0u32, |sum, (k, v)| sum.wrapping_add(v.wrapping_mul(k)))
    };
    (0..GRID * BLOCK).map(thread).collect()
}

#[test]
fn a_kernel_that_is_stopped_finds_what_it_still_needs() {
    let mut deopts = 0;
    for seed in 0..60 {
        let steps = steps(&mut Random(seed), 0);
        let text = kernel(&steps);
        let want = expected(&steps);
        for d in devices(&text) {
            let out = d.upload(&vec![0u32; want.len()]);
            // The second launch finds the registers of the first.
            for _ in 0..2 {
                let stats = d.launch("k", GRID, BLOCK, &[Arg::Ptr(out), Arg::U32(BASE)]);
                deopts += stats.deopts;
                assert_eq!(d.download::<u32>(out, want.len()), want, "{seed}\n{text}");
            }
        }
    }
    assert!(deopts > 100, "{deopts}");
}

#[test]
fn values_that_follow_each_other_share_places() {
    let bytes = |count: usize| {
        let steps: Vec<_> = (0..count)
            .map(|k| Step::Mix(k % 3 * 2 + 1, 7, 7, 5))
            .collect();
        let [d, ..] = devices(&kernel(&steps));
        let f = d.module.function("k").unwrap();
        f.register_bytes([BLOCK, 1, 1]).unwrap()[0]
    };
    // A vector would take 4 bytes each; predicates, which have places of their own, take an eighth.
    assert!(bytes(1000) < bytes(10) + 1000 / 4);
}
