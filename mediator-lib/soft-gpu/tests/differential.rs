//! Random structured programs: optimised code, reference code and a plain
//! evaluation per thread must agree. Registers are reused freely, so that shapes,
//! blending, live ranges and reconvergence are all under test.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::fmt::Write;

use common::{Arg, devices};

const REGS: usize = 8;
/// Values that registers start with: thread, block and parameter dependent.
const START: [&str; REGS] = [
    "tid.x", "tid.y", "ctaid.x", "param", "3", "laneid", "linear", "0",
];

/// A small generator of pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % below
    }
}

#[derive(Debug)]
enum Stmt {
    /// Register, operation, operands.
    Op(usize, usize, usize, Operand),
    /// Predicated operation.
    Guarded(Cond, usize, usize),
    If(Cond, Vec<Stmt>, Vec<Stmt>),
    /// A loop of at most so many rounds, left early on a condition.
    Loop(u32, Cond, Vec<Stmt>),
    /// Loads word `r & 63` of a table.
    Load(usize, usize),
    /// Widens, adds the base, narrows: address arithmetic.
    Wide(usize, usize),
    Shuffle(usize, usize),
    Return(Cond),
}

#[derive(Debug, Clone, Copy)]
enum Operand {
    Reg(usize),
    Imm(u32),
}

#[derive(Debug, Clone, Copy)]
struct Cond {
    reg: usize,
    mask: u32,
    equal: u32,
}

const OPS: [&str; 9] = [
    "add.s32",
    "sub.s32",
    "mul.lo.s32",
    "and.b32",
    "xor.b32",
    "shl.b32",
    "shr.u32",
    "min.s32",
    "max.u32",
];

fn apply(op: usize, a: u32, b: u32) -> u32 {
    match op {
        0 => a.wrapping_add(b),
        1 => a.wrapping_sub(b),
        2 => a.wrapping_mul(b),
        3 => a & b,
        4 => a ^ b,
        5 => a.checked_shl(b).unwrap_or(0),
        6 => a.checked_shr(b).unwrap_or(0),
        7 => (a as i32).min(b as i32) as u32,
        _ => a.max(b),
    }
}

fn cond(r: &mut Random) -> Cond {
    let mask = [1, 3, 7, 16, 31, 0xff][r.next(6)];
    Cond {
        reg: r.next(REGS),
        mask,
        equal: r.next(4) as u32 & mask,
    }
}

fn block(r: &mut Random, depth: usize, top: bool) -> Vec<Stmt> {
    (0..2 + r.next(4))
        .map(|_| match r.next(if depth == 0 { 8 } else { 14 }) {
            0..=4 => {
                let o = if r.next(2) == 0 {
                    Operand::Reg(r.next(REGS))
                } else {
                    Operand::Imm(r.next(9) as u32)
                };
                Stmt::Op(r.next(REGS), r.next(OPS.len()), r.next(REGS), o)
            }
            5 => Stmt::Guarded(cond(r), r.next(REGS), r.next(REGS)),
            6 => Stmt::Load(r.next(REGS), r.next(REGS)),
            7 => Stmt::Wide(r.next(REGS), r.next(REGS)),
            8..=10 => {
                let (c, a) = (cond(r), block(r, depth - 1, false));
                Stmt::If(
                    c,
                    a,
                    if r.next(2) == 0 {
                        block(r, depth - 1, false)
                    } else {
                        Vec::new()
                    },
                )
            }
            11 | 12 => Stmt::Loop(1 + r.next(5) as u32, cond(r), block(r, depth - 1, false)),
            _ if top && r.next(3) == 0 => Stmt::Return(cond(r)),
            _ if top => Stmt::Shuffle(r.next(REGS), r.next(REGS)),
            _ => Stmt::Op(r.next(REGS), 0, r.next(REGS), Operand::Imm(1)),
        })
        .collect()
}

struct Writer {
    text: String,
    labels: usize,
}

impl Writer {
    fn test(&mut self, c: Cond) {
        let Cond { reg, mask, equal } = c;
        writeln!(
            self.text,
            "and.b32 %t0, %r{reg}, {mask};\nsetp.eq.u32 %p1, %t0, {equal};"
        )
        .unwrap();
    }

    fn label(&mut self) -> usize {
        self.labels += 1;
        self.labels
    }

    fn stmts(&mut self, list: &[Stmt], depth: usize) {
        for s in list {
            match s {
                Stmt::Op(d, op, a, o) => {
                    let b = match o {
                        Operand::Reg(b) => format!("%r{b}"),
                        Operand::Imm(v) => v.to_string(),
                    };
                    writeln!(self.text, "{} %r{d}, %r{a}, {b};", OPS[*op]).unwrap();
                }
                Stmt::Guarded(c, d, a) => {
                    self.test(*c);
                    writeln!(self.text, "@!%p1 add.s32 %r{d}, %r{a}, 13;").unwrap();
                }
                Stmt::If(c, a, b) => {
                    let (other, end) = (self.label(), self.label());
                    self.test(*c);
                    writeln!(self.text, "@%p1 bra L{other};").unwrap();
                    self.stmts(a, depth + 1);
                    writeln!(self.text, "bra L{end};\nL{other}:").unwrap();
                    self.stmts(b, depth + 1);
                    writeln!(self.text, "L{end}:").unwrap();
                }
                Stmt::Loop(n, c, body) => {
                    let (top, end) = (self.label(), self.label());
                    writeln!(self.text, "mov.u32 %n{depth}, {n};\nL{top}:").unwrap();
                    self.stmts(body, depth + 1);
                    self.test(*c);
                    writeln!(self.text, "@%p1 bra L{end};").unwrap();
                    writeln!(self.text, "add.s32 %n{depth}, %n{depth}, -1;\nsetp.ne.s32 %p2, %n{depth}, 0;\n@%p2 bra L{top};\nL{end}:").unwrap();
                }
                Stmt::Load(d, a) => writeln!(
                    self.text,
                    "and.b32 %t1, %r{a}, 63;\nmul.wide.u32 %q1, %t1, 4;\nadd.s64 %q2, %table, %q1;\nld.global.u32 %r{d}, [%q2];"
                )
                .unwrap(),
                Stmt::Wide(d, a) => writeln!(
                    self.text,
                    "mul.wide.s32 %q1, %r{a}, 12;\nadd.s64 %q1, %q1, 5;\nshr.u64 %q2, %q1, 4;\ncvt.u32.u64 %r{d}, %q2;"
                )
                .unwrap(),
                Stmt::Shuffle(d, a) => writeln!(self.text, "shfl.sync.idx.b32 %r{d}, %r{a}, 0, 31, -1;").unwrap(),
                Stmt::Return(c) => {
                    self.test(*c);
                    writeln!(self.text, "@%p1 ret;").unwrap();
                }
            }
        }
    }
}

fn ptx(program: &[Stmt]) -> String {
    let mut w = Writer {
        text: String::new(),
        labels: 0,
    };
    w.stmts(program, 0);
    let mut start = String::new();
    for (k, s) in START.iter().enumerate() {
        match *s {
            "param" => writeln!(start, "ld.param.u32 %r{k}, [p];").unwrap(),
            "linear" => writeln!(start, "mov.u32 %r{k}, %lin;").unwrap(),
            s if s.contains('.') || s == "laneid" => {
                writeln!(start, "mov.u32 %r{k}, %{s};").unwrap()
            }
            s => writeln!(start, "mov.u32 %r{k}, {s};").unwrap(),
        }
    }
    let stores: String = (0..REGS)
        .map(|k| format!("st.global.u32 [%out+{}], %r{k};\n", 4 * k))
        .collect();
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 o, .param .u64 t, .param .u32 p)\n{{\n\
         .reg .pred %p<4>; .reg .b32 %r<{REGS}>, %t<4>, %n<8>, %lin, %a<8>; .reg .b64 %q<4>, %out, %table;\n\
         ld.param.u64 %out, [o]; ld.param.u64 %table, [t];\n\
         mov.u32 %a0, %ntid.x; mov.u32 %a1, %tid.x; mov.u32 %a2, %tid.y; mad.lo.u32 %lin, %a2, %a0, %a1;\n\
         mov.u32 %a3, %ntid.y; mul.lo.u32 %a4, %a0, %a3; mov.u32 %a5, %ctaid.x; mad.lo.u32 %a6, %a5, %a4, %lin;\n\
         mul.wide.u32 %q0, %a6, {}; add.s64 %out, %out, %q0;\n{start}{}{stores}ret;\n}}\n",
        4 * REGS,
        w.text.replace("@%p1 ret;", "@%p1 bra LR;").to_string() + "LR:\n",
    )
}

/// The threads of one warp, evaluated one by one between shuffles.
struct Threads {
    regs: Vec<[u32; REGS]>,
    gone: Vec<bool>,
}

fn holds(c: Cond, r: &[u32; REGS]) -> bool {
    r[c.reg] & c.mask == c.equal
}

fn eval(s: &Stmt, r: &mut [u32; REGS], table: &[u32]) {
    match s {
        Stmt::Op(d, op, a, o) => {
            let b = match o {
                Operand::Reg(b) => r[*b],
                Operand::Imm(v) => *v,
            };
            r[*d] = apply(*op, r[*a], b);
        }
        Stmt::Guarded(c, d, a) => {
            if !holds(*c, r) {
                r[*d] = r[*a].wrapping_add(13);
            }
        }
        Stmt::If(c, a, b) => (if holds(*c, r) { b } else { a })
            .iter()
            .for_each(|s| eval(s, r, table)),
        Stmt::Loop(n, c, body) => {
            for _ in 0..*n {
                body.iter().for_each(|s| eval(s, r, table));
                if holds(*c, r) {
                    break;
                }
            }
        }
        Stmt::Load(d, a) => r[*d] = table[(r[*a] & 63) as usize],
        Stmt::Wide(d, a) => r[*d] = ((i64::from(r[*a] as i32) * 12 + 5) as u64 >> 4) as u32,
        Stmt::Shuffle(..) | Stmt::Return(_) => {}
    }
}

fn evaluate(program: &[Stmt], warp: &mut Threads, table: &[u32]) {
    for s in program {
        match s {
            Stmt::Shuffle(d, a) => {
                // Lanes that are gone keep the value they had.
                let v = warp.regs[0][*a];
                for (r, gone) in warp.regs.iter_mut().zip(&warp.gone) {
                    if !gone {
                        r[*d] = v;
                    }
                }
            }
            Stmt::Return(c) => {
                for (r, gone) in warp.regs.iter().zip(&mut warp.gone) {
                    *gone |= holds(*c, r);
                }
            }
            s => {
                for (r, gone) in warp.regs.iter_mut().zip(&warp.gone) {
                    if !gone {
                        eval(s, r, table);
                    }
                }
            }
        }
    }
}

#[test]
fn random_programs_agree() {
    let table: Vec<u32> = (0..64u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    // More programs than a normal run has time for: `VGPU_FUZZ_ROUNDS=100000`.
    let rounds = std::env::var("VGPU_FUZZ_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok());
    let seed = std::env::var("VGPU_FUZZ_SEED")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut random = Random(seed.unwrap_or(7));
    for round in 0..rounds.unwrap_or(400) {
        let program = block(&mut random, 3, true);
        let text = ptx(&program);
        let mut program = program;
        // After a return, lane 0 may be gone and its registers stale: no shuffles from there on.
        let first_return = program
            .iter()
            .position(|s| matches!(s, Stmt::Return(_)))
            .unwrap_or(usize::MAX);
        if program
            .iter()
            .skip(first_return.min(program.len()))
            .any(|s| matches!(s, Stmt::Shuffle(..)))
        {
            program.clear();
            continue;
        }
        for [x, y] in [[64, 1], [16, 4], [32, 2], [8, 6], [24, 3], [1, 40]] {
            let threads = (x * y) as usize;
            let mut want = Vec::new();
            for b in 0..2u32 {
                let start = |lin: u32| [lin % x, lin / x, b, 77, 3, lin % 32, lin, 0];
                let all: Vec<u32> = (0..threads as u32).collect();
                for lanes in all.chunks(32) {
                    let mut w = Threads {
                        regs: lanes.iter().map(|&l| start(l)).collect(),
                        gone: vec![false; lanes.len()],
                    };
                    evaluate(&program, &mut w, &table);
                    want.extend(w.regs.into_iter().flatten());
                }
            }
            for d in devices(&text) {
                let (o, t) = (d.upload(&vec![0u32; want.len()]), d.upload(&table));
                let args = [Arg::Ptr(o), Arg::Ptr(t), Arg::U32(77)];
                d.try_launch("k", [2, 1, 1], [x, y, 1], 0, &args)
                    .unwrap_or_else(|e| panic!("{e}\n{text}"));
                let got = d.download::<u32>(o, want.len());
                if let Some(k) = (0..want.len()).find(|&k| got[k] != want[k]) {
                    panic!(
                        "round {round}, block {x}x{y}, reference {}, {:?}: thread {} register {}: got {:#x}, expected {:#x}\n{text}",
                        d.reference,
                        d.jit,
                        k / REGS,
                        k % REGS,
                        got[k],
                        want[k]
                    );
                }
            }
        }
    }
}
