//! Calls of cuBLAS for the tests: every routine in every type, as the guest's library sends it, in memory
//! that shows how far each of them reaches.

use std::collections::BTreeMap;

use vgpu_protocol::Status;
use vgpu_protocol::blas::{BlasStatus, ty, type_bytes};
use vgpu_protocol::calls::{
    BlasGemm, BlasId, BlasMatrix, BlasRoutine, BlasScalar, BlasTarget, BlasTrsmBatched, CtxId,
    DevPtr, Level, Routine, StreamId,
};

use crate::harness::{Channel, DEFAULT, FakeDriver, KIB};

pub const HANDLE: BlasId = BlasId(3);

/// Bytes of each allocation.
pub const ROOM: u64 = 64 * KIB;

/// An allocation for each pointer of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    A,
    B,
    C,
    Alpha,
    Beta,
    Result,
    Info,
}

pub const PARTS: [Part; 7] = [
    Part::A,
    Part::B,
    Part::C,
    Part::Alpha,
    Part::Beta,
    Part::Result,
    Part::Info,
];

/// Where the allocations begin.
pub type Memory = BTreeMap<Part, u64>;

pub fn handle(c: &mut Channel, ctx: CtxId) {
    let status = c.session.blas_create(ctx, HANDLE).expect("an answer");
    assert_eq!(BlasStatus(status), BlasStatus::SUCCESS);
}

pub fn memory(c: &mut Channel, ctx: CtxId) -> Memory {
    try_memory(c, ctx).expect("memory")
}

pub fn try_memory(c: &mut Channel, ctx: CtxId) -> Result<Memory, Status> {
    let mut alloc = |part: &Part| Ok((*part, c.session.mem_alloc(ctx, ROOM)?.0));
    PARTS.iter().map(&mut alloc).collect()
}

pub fn free(c: &mut Channel, ctx: CtxId, memory: &Memory) -> Result<(), Status> {
    let mut each = memory.values();
    each.try_for_each(|at| c.session.mem_free(ctx, DevPtr(*at)))
}

pub fn target(stream: StreamId) -> BlasTarget {
    BlasTarget {
        handle: HANDLE,
        stream,
        math: 0,
        atomics: 0,
    }
}

/// Sixteen bytes that tell their places.
pub fn scalar(first: u8) -> BlasScalar {
    let mut scalar = BlasScalar::default();
    for (i, byte) in scalar.value.iter_mut().enumerate() {
        *byte = first + i as u8;
    }
    scalar
}

pub fn part(memory: &Memory, which: Part, ty: u32, ld: i64) -> BlasMatrix {
    BlasMatrix {
        // In the middle: matrices at negative distances have room, too.
        at: DevPtr(memory[&which] + ROOM / 2),
        ty,
        ld,
        stride: 0,
    }
}

fn real(number: u32) -> u32 {
    match number {
        ty::C_32F => ty::R_32F,
        ty::C_64F => ty::R_64F,
        own => own,
    }
}

/// A routine as the guest's library fills it in: its name there, and the message.
pub struct Case {
    pub name: String,
    pub op: BlasRoutine,
}

/// Whether a routine exists in a type only.
fn exists(routine: Routine, complex: bool) -> bool {
    use Routine::*;
    match routine {
        Hemv | Hbmv | Hpmv | Her | Hpr | Her2 | Hpr2 | Hemm | Herk | Her2k | Herkx => complex,
        Sbmv | Spmv | Spr | Spr2 | Rotm => !complex,
        _ => true,
    }
}

/// Every function of levels 1 to 3 and of batches.
pub fn every_routine(memory: &Memory) -> Vec<Case> {
    let mut cases = Vec::new();
    for (letter, number) in [
        ("S", ty::R_32F),
        ("D", ty::R_64F),
        ("C", ty::C_32F),
        ("Z", ty::C_64F),
    ] {
        let complex = real(number) != number;
        for routine in Routine::ALL
            .iter()
            .copied()
            .filter(|routine| exists(*routine, complex))
        {
            one_type(&mut cases, memory, routine, letter, number);
        }
    }
    typed(&mut cases, memory);
    cases
}

fn base(memory: &Memory, routine: Routine, number: u32, scalars: (u32, u32)) -> BlasRoutine {
    BlasRoutine {
        target: target(DEFAULT),
        routine: routine as u32,
        ty: number,
        m: 3,
        n: 5,
        k: 2,
        ku: 1,
        alpha: scalar(0x10),
        beta: scalar(0x40),
        scalars,
        a: part(memory, Part::A, number, 7),
        b: part(memory, Part::B, number, 8),
        c: part(memory, Part::C, number, 9),
        batch: 1,
        param: [0x0807_0605_0403_0201; 5],
        ..BlasRoutine::default()
    }
}

fn one_type(cases: &mut Vec<Case>, memory: &Memory, routine: Routine, letter: &str, number: u32) {
    use Routine::*;
    let complex = real(number) != number;
    let stem = format!("{routine:?}")
        .to_lowercase()
        .replace("stridedbatched", "")
        .replace("batched", "");
    let mut add = |name: String, change: &dyn Fn(&mut BlasRoutine)| {
        let mut op = base(memory, routine, number, (number, number));
        change(&mut op);
        cases.push(Case {
            name: format!("cublas{name}"),
            op,
        });
    };
    let small = if number == ty::C_32F { "s" } else { "d" };
    match routine {
        Scal | Rot => {
            add(format!("{letter}{stem}_v2"), &|op| {
                if routine == Rot {
                    op.scalars = (real(number), number);
                }
            });
            if complex {
                add(format!("{letter}{small}{stem}_v2"), &|op| {
                    op.scalars.0 = real(number);
                    if routine == Rot {
                        op.scalars.1 = real(number);
                    }
                });
            }
        }
        Nrm2 | Asum if complex => {
            let outer = if number == ty::C_32F { "Sc" } else { "Dz" };
            add(format!("{outer}{stem}_v2"), &|_| {});
        }
        Amax | Amin => add(format!("I{}{stem}_v2", letter.to_lowercase()), &|_| {}),
        Dot | Ger if complex => {
            add(format!("{letter}{stem}u_v2"), &|op| op.transb = 1);
            add(format!("{letter}{stem}c_v2"), &|op| op.transb = 2);
        }
        GemvBatched => {
            for trans in [0, 1] {
                add(format!("{letter}gemvBatched"), &|op| {
                    (op.transa, op.batch) = (trans, 3);
                });
            }
        }
        GemvStridedBatched => {
            for trans in [0, 1] {
                for strides in [[40, 41, 42], [-40, -41, -42], [40, 0, -42]] {
                    add(format!("{letter}gemvStridedBatched"), &|op| {
                        (op.transa, op.batch) = (trans, 3);
                        [op.a.stride, op.b.stride, op.c.stride] = strides;
                        op.b.ld = -2;
                    });
                }
            }
        }
        GetrfBatched | GetriBatched | MatinvBatched | GetrsBatched => {
            add(format!("{letter}{stem}Batched"), &|op| {
                (op.batch, op.result) = (3, DevPtr(memory[&Part::Result] + ROOM / 2));
                op.info = DevPtr(memory[&Part::Info] + ROOM / 2);
                if routine == MatinvBatched {
                    op.result = DevPtr(0);
                }
                if routine == GetrsBatched {
                    op.info = DevPtr(0);
                }
            });
        }
        Syrkx | Herkx | Geam | Dgmm => {
            for (side, trans) in [(0, 0), (1, if routine == Herkx { 2 } else { 1 })] {
                add(format!("{letter}{stem}"), &|op| {
                    (op.side, op.transa, op.transb) = (side, trans, trans);
                    if routine == Herkx {
                        op.scalars.1 = real(number);
                    }
                });
            }
        }
        _ => {
            let turned = if matches!(routine, Herk | Her2k) {
                2
            } else {
                1
            };
            for (side, trans) in [(0, 0), (1, turned)] {
                add(format!("{letter}{stem}_v2"), &|op| {
                    (op.side, op.transa, op.uplo, op.diag) = (side, trans, side, side);
                    match routine {
                        Her | Hpr => op.scalars.0 = real(number),
                        Herk => op.scalars = (real(number), real(number)),
                        Her2k => op.scalars.1 = real(number),
                        _ => {}
                    }
                    // Of a vector read backwards.
                    if matches!(routine.level(), Level::One | Level::Two) {
                        op.b.ld = if side == 1 { -8 } else { 8 };
                    }
                });
            }
        }
    }
}

/// Functions whose types are arguments, and products of halves.
fn typed(cases: &mut Vec<Case>, memory: &Memory) {
    use Routine::*;
    for half in [ty::R_16F, ty::R_16BF] {
        for (name, routine, scalars, conjugated) in [
            ("AxpyEx", Axpy, (ty::R_32F, ty::R_32F), 0),
            ("ScalEx", Scal, (ty::R_32F, ty::R_32F), 0),
            ("CopyEx", Copy, (ty::R_32F, ty::R_32F), 0),
            ("SwapEx", Swap, (ty::R_32F, ty::R_32F), 0),
            ("RotEx", Rot, (half, half), 0),
            ("DotEx", Dot, (half, ty::R_32F), 0),
            ("DotcEx", Dot, (half, ty::R_32F), 2),
            ("Nrm2Ex", Nrm2, (half, ty::R_32F), 0),
            ("AsumEx", Asum, (half, ty::R_32F), 0),
            ("IamaxEx", Amax, (ty::R_32F, ty::R_32F), 0),
            ("IaminEx", Amin, (ty::R_32F, ty::R_32F), 0),
        ] {
            let mut op = base(memory, routine, ty::R_32F, scalars);
            op.transb = conjugated;
            (op.a.ty, op.b.ty) = (half, half);
            cases.push(Case {
                name: format!("cublas{name}"),
                op,
            });
        }
        let kind = if half == ty::R_16F { "HS" } else { "TS" };
        for (end, out) in [("", half), ("S", ty::R_32F)] {
            let end = if end.is_empty() { &kind[..1] } else { end };
            for (name, routine) in [
                ("Batched", GemvBatched),
                ("StridedBatched", GemvStridedBatched),
            ] {
                let mut op = base(memory, routine, ty::R_32F, (ty::R_32F, ty::R_32F));
                (op.a.ty, op.b.ty, op.c.ty) = (half, half, out);
                op.batch = 3;
                [op.a.stride, op.b.stride, op.c.stride] = [40, 41, 42];
                cases.push(Case {
                    name: format!("cublas{kind}{end}gemv{name}"),
                    op,
                });
            }
        }
    }
    for (name, routine, factor) in [("CsyrkEx", Syrk, ty::C_32F), ("CherkEx", Herk, ty::R_32F)] {
        let mut op = base(memory, routine, ty::C_32F, (factor, factor));
        op.a.ty = ty::C_8I;
        cases.push(Case {
            name: format!("cublas{name}"),
            op,
        });
    }
}

/// Factors and result in device memory.
pub fn on_the_device(memory: &Memory, op: &BlasRoutine) -> BlasRoutine {
    let at = |part| DevPtr(memory[&part] + ROOM / 2);
    let mut op = op.clone();
    op.alpha.device = at(Part::Alpha);
    op.beta.device = at(Part::Beta);
    if level(&op) == Level::Result {
        op.result = at(Part::Result);
        op.result_bytes = 4;
    }
    op
}

pub fn level(op: &BlasRoutine) -> Level {
    Routine::from_wire(op.routine).expect("a routine").level()
}

/// Sends it by its row; gives the bytes of a result in host memory.
pub fn send(c: &mut Channel, ctx: CtxId, op: BlasRoutine) -> Result<Vec<u8>, Status> {
    let s = &mut c.session;
    let none = |()| Vec::new();
    match level(&op) {
        Level::One => s.blas_level1(ctx, op).map(none),
        Level::Two => s.blas_level2(ctx, op).map(none),
        Level::Three => s.blas_level3(ctx, op).map(none),
        Level::Batched => s.blas_lapack(ctx, op).map(none),
        Level::Result if op.result.0 != 0 => s.blas_result(ctx, op).map(none),
        Level::Result => s.blas_host_result(ctx, op).map(|blob| blob.0),
    }
}

/// What the library has seen of its last call.
pub struct Seen {
    pub name: String,
    pub arguments: BTreeMap<String, String>,
    pub touched: Vec<(u64, u64)>,
}

/// The last call that computes, of those since the log had this length.
pub fn seen(driver: &FakeDriver, from: u64) -> Option<Seen> {
    let calls = driver.calls_since(from);
    let line = (0..calls.len())
        .rev()
        .find(|i| calls[*i].starts_with("with "))?;
    let mut seen = Seen {
        // Other threads' lines may come between.
        name: calls[..line]
            .iter()
            .rfind(|call| call.starts_with("cublas"))?
            .clone(),
        arguments: BTreeMap::new(),
        touched: Vec::new(),
    };
    for word in calls[line].split(' ').skip(1) {
        let (name, value) = word.split_once('=').expect("name and value");
        match value.split_once('+') {
            Some((at, bytes)) => {
                let number = |text: &str| text.parse().expect("a number");
                seen.touched.push((number(at), number(bytes)));
            }
            None => {
                seen.arguments.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    Some(seen)
}

/// From the first to behind the last byte of an allocation that was touched.
pub fn reach(memory: &Memory, part: Part, touched: &[(u64, u64)]) -> Option<(u64, u64)> {
    let base = memory[&part];
    let inside = touched
        .iter()
        .filter(|(at, _)| (base..base + ROOM).contains(at));
    inside
        .map(|(at, bytes)| (*at, at + bytes))
        .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
}

/// Moves one pointer by so many bytes.
pub fn shift(op: &mut BlasRoutine, part: Part, by: i64) {
    let at = match part {
        Part::A => &mut op.a.at,
        Part::B => &mut op.b.at,
        Part::C => &mut op.c.at,
        Part::Alpha => &mut op.alpha.device,
        Part::Beta => &mut op.beta.device,
        Part::Result => &mut op.result,
        Part::Info => &mut op.info,
    };
    at.0 = at.0.wrapping_add_signed(by);
}

/// The arguments that the message stands for, by their names in `cublas_api.h`.
pub fn expected(op: &BlasRoutine) -> BTreeMap<&'static str, i64> {
    let (a, b, c) = (&op.a, &op.b, &op.c);
    let at = |m: &BlasMatrix| m.at.0 as i64;
    let mut map: BTreeMap<&'static str, i64> = [
        ("side", op.side.into()),
        ("uplo", op.uplo.into()),
        ("trans", op.transa.into()),
        ("transa", op.transa.into()),
        ("transb", op.transb.into()),
        ("diag", op.diag.into()),
        ("m", op.m),
        ("n", op.n),
        ("k", op.k),
        ("kl", op.k),
        ("ku", op.ku),
        ("nrhs", op.k),
        ("batch", op.batch),
        ("a", at(a)),
        ("ap", at(a)),
        ("lda", a.ld),
        ("a_type", a.ty.into()),
        ("b", at(b)),
        ("ldb", b.ld),
        ("c", at(c)),
        ("ldc", c.ld),
        ("c_type", c.ty.into()),
        ("inverse", at(c)),
        ("ld_inverse", c.ld),
        ("pivots", op.result.0 as i64),
        ("info", op.info.0 as i64),
        ("stride_a", a.stride),
        ("stride_x", b.stride),
        ("stride_y", c.stride),
        ("alpha_type", op.scalars.0.into()),
        ("factor_type", op.scalars.1.into()),
        ("result_type", op.scalars.0.into()),
        ("execution", op.ty.into()),
        ("stream", op.target.stream.0.into()),
        ("math", op.target.math.into()),
        ("atomics", op.target.atomics.into()),
    ]
    .into();
    // x and y are A and B where there is no A.
    let vectors = match level(op) {
        Level::One | Level::Result => [a, b],
        _ => [b, c],
    };
    for (names, v) in [["x", "incx", "x_type"], ["y", "incy", "y_type"]]
        .into_iter()
        .zip(vectors)
    {
        map.extend(names.into_iter().zip([at(v), v.ld, v.ty.into()]));
    }
    map
}

/// Bytes of an element of a part.
pub fn element(op: &BlasRoutine, part: Part) -> i64 {
    let number = match part {
        Part::A => op.a.ty,
        Part::B => op.b.ty,
        Part::C => op.c.ty,
        _ => return 1,
    };
    type_bytes(number).expect("a type") as i64
}

/// `C = alpha A Bᵀ + beta C`.
pub fn gemm(memory: &Memory, number: u32, compute: u32) -> BlasGemm {
    BlasGemm {
        target: target(DEFAULT),
        transa: 0,
        transb: 1,
        m: 4,
        n: 8,
        k: 12,
        alpha: scalar(0x10),
        a: part(memory, Part::A, number, 20),
        b: part(memory, Part::B, number, 24),
        beta: scalar(0x40),
        c: part(memory, Part::C, number, 28),
        batch: 1,
        compute,
        algo: -1,
    }
}

/// `X Aᵀ = alpha B`, four times.
pub fn trsm(memory: &Memory, number: u32) -> BlasTrsmBatched {
    BlasTrsmBatched {
        target: target(DEFAULT),
        side: 1,
        uplo: 1,
        trans: 1,
        diag: 1,
        m: 3,
        n: 5,
        alpha: scalar(0x10),
        a: part(memory, Part::A, number, 7),
        b: part(memory, Part::B, number, 8),
        batch: 4,
    }
}
