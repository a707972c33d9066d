//! Functions that no other test has a use for, each once with whole arguments.

use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use super::element::{C64, Type};
use super::{
    Blas, INVALID_VALUE, Matrix, NOT_SUPPORTED, Random, Test, addresses, call, int, null, ok,
    synchronize,
};
use crate::cuda::Buffer;

pub const TESTS: &[Test] = &[
    ("gemm_3m_batched", gemm_3m),
    ("gemm_strided_with_types", strided),
    ("gemm_groups", groups),
    ("gemm_ex_by_name", gemm_ex),
    ("gemv_batched", gemv),
    ("vectors_with_types", vectors),
    ("rotations_are_made", rotations),
    ("transfers_in_streams", transfers),
    ("settings", settings),
];

/// Products of small matrices one after the other: element (i, j) of A B.
fn product(a: &Matrix, b: &Matrix, k: usize, i: usize, j: usize) -> C64 {
    (0..k).fold(C64::ZERO, |sum, p| sum + a.get(i, p) * b.get(p, j))
}

fn gemm_3m(blas: &Blas) -> Result<()> {
    let mut random = Random(101);
    let ty = Type::C32;
    let (one, zero) = (ty.encode(C64::real(1.0)), ty.encode(C64::ZERO));
    let (m, n, k) = (5usize, 4usize, 6usize);
    let new = |cols, random: &mut Random, rows| Matrix::new(ty, rows, cols, 0, random);
    let (a, b) = (new(k, &mut random, m)?, new(n, &mut random, k)?);
    let (c, d) = (new(n, &mut random, m)?, new(n, &mut random, m)?);
    let (la, lb, lc) = (
        addresses(&[a.at(), a.at()])?,
        addresses(&[b.at(), b.at()])?,
        addresses(&[c.at(), d.at()])?,
    );
    let name = "cublasCgemm3mBatched";
    ok(
        name,
        call!(blas, name, blas.handle() => u64, 0 => u32, 0 => u32, int(m)? => i32, int(n)? => i32, int(k)? => i32,
            one.as_ptr() => *const u8, la.address() => u64, int(m)? => i32, lb.address() => u64, int(k)? => i32,
            zero.as_ptr() => *const u8, lc.address() => u64, int(m)? => i32, 2 => i32),
    )?;
    for c in [&c, &d] {
        c.compare(name, |i, j| (product(&a, &b, k, i, j), 1e-4))?;
    }
    // The same A twice, B and C one after the other.
    let name = "cublasCgemm3mStridedBatched";
    let (b, c) = (new(2 * n, &mut random, k)?, new(2 * n, &mut random, m)?);
    ok(
        name,
        call!(blas, name, blas.handle() => u64, 0 => u32, 0 => u32, int(m)? => i32, int(n)? => i32, int(k)? => i32,
            one.as_ptr() => *const u8, a.at() => u64, int(m)? => i32, 0 => i64, b.at() => u64, int(k)? => i32,
            (k * n) as i64 => i64, zero.as_ptr() => *const u8, c.at() => u64, int(m)? => i32, (m * n) as i64 => i64, 2 => i32),
    )?;
    c.compare(name, |i, j| (product(&a, &b, k, i, j), 1e-4))
}

fn strided(blas: &Blas) -> Result<()> {
    let mut random = Random(102);
    let (m, n, k) = (8usize, 3usize, 5usize);
    let (one, two) = (1f32, 2f32);
    let a = Matrix::new(Type::F16, m, k, 0, &mut random)?;
    let b = Matrix::new(Type::F16, k, 4 * n, 0, &mut random)?;
    let c = Matrix::new(Type::F32, m, 4 * n, 0, &mut random)?;
    let name = "cublasGemmStridedBatchedEx";
    let run = |batch: i32| -> Result<u32> {
        Ok(
            call!(blas, name, blas.handle() => u64, 0 => u32, 0 => u32, int(m)? => i32, int(n)? => i32, int(k)? => i32,
            &raw const two => *const f32, a.at() => u64, Type::F16 as u32 => u32, int(m)? => i32, 0 => i64,
            b.at() => u64, Type::F16 as u32 => u32, int(k)? => i32, (k * n) as i64 => i64, &raw const one => *const f32,
            c.at() => u64, Type::F32 as u32 => u32, int(m)? => i32, (m * n) as i64 => i64, batch => i32, 68 => u32, -1 => i32),
        )
    };
    ensure!(run(-1)? == INVALID_VALUE);
    ok(name, run(4)?)?;
    c.compare(name, |i, j| {
        let sum = product(&a, &b, k, i, j);
        (C64::real(2.0) * sum + c.get(i, j), 1e-3)
    })
}

fn gemm_ex(blas: &Blas) -> Result<()> {
    let mut random = Random(105);
    let (m, n, k) = (6usize, 5usize, 7usize);
    for (name, ty) in [
        ("cublasSgemmEx", Type::F32),
        ("cublasSgemmEx", Type::F16),
        ("cublasSgemmEx", Type::Bf16),
        ("cublasCgemmEx", Type::C32),
        ("cublasCgemm3mEx", Type::C32),
    ] {
        let scale = if ty.is_complex() {
            Type::C32
        } else {
            Type::F32
        };
        let (one, two) = (scale.encode(C64::real(1.0)), scale.encode(C64::real(2.0)));
        let a = Matrix::new(ty, m, k, 1, &mut random)?;
        let b = Matrix::new(ty, k, n, 2, &mut random)?;
        let c = Matrix::new(ty, m, n, 3, &mut random)?;
        let id = ty as u32;
        ok(
            name,
            call!(blas, name, blas.handle() => u64, 0 => u32, 0 => u32, int(m)? => i32, int(n)? => i32, int(k)? => i32,
                two.as_ptr() => *const u8, a.at() => u64, id => u32, int(a.ld)? => i32, b.at() => u64, id => u32, int(b.ld)? => i32,
                one.as_ptr() => *const u8, c.at() => u64, id => u32, int(c.ld)? => i32),
        )?;
        c.compare(&format!("{name} of {ty:?}"), |i, j| {
            let want = C64::real(2.0) * product(&a, &b, k, i, j) + c.get(i, j);
            (want, 1e-5 + 4.0 * ty.epsilon() * (1.0 + want.abs()))
        })?;
    }
    Ok(())
}

fn gemv(blas: &Blas) -> Result<()> {
    let mut random = Random(106);
    let (m, n) = (9usize, 6usize);
    for (t, ty) in [
        ("S", Type::F32),
        ("D", Type::F64),
        ("C", Type::C32),
        ("Z", Type::C64),
    ] {
        let (two, half) = (ty.encode(C64::real(2.0)), ty.encode(C64::real(0.5)));
        // Two matrices beside each other, two vectors as columns.
        let a = Matrix::new(ty, m, 2 * n, 0, &mut random)?;
        let x = Matrix::new(ty, n, 2, 0, &mut random)?;
        let want = |y: &Matrix, i: usize, j: usize| {
            let sum = (0..n).fold(C64::ZERO, |sum, p| sum + a.get(i, j * n + p) * x.get(p, j));
            let want = C64::real(2.0) * sum + C64::real(0.5) * y.get(i, j);
            (want, 64.0 * ty.epsilon())
        };
        let at = |matrix: &Matrix, element: usize| matrix.at() + (element * ty.bytes()) as u64;
        let y = Matrix::new(ty, m, 2, 0, &mut random)?;
        let lists = [
            addresses(&[at(&a, 0), at(&a, m * n)])?,
            addresses(&[at(&x, 0), at(&x, n)])?,
            addresses(&[at(&y, 0), at(&y, m)])?,
        ];
        let name = format!("cublas{t}gemvBatched");
        if !blas.has(&name) {
            continue;
        }
        ok(
            &name,
            call!(blas, &name, blas.handle() => u64, 0 => u32, int(m)? => i32, int(n)? => i32, two.as_ptr() => *const u8,
                lists[0].address() => u64, int(m)? => i32, lists[1].address() => u64, 1 => i32, half.as_ptr() => *const u8,
                lists[2].address() => u64, 1 => i32, 2 => i32),
        )?;
        y.compare(&name, |i, j| want(&y, i, j))?;
        let y = Matrix::new(ty, m, 2, 0, &mut random)?;
        let name = format!("cublas{t}gemvStridedBatched");
        ok(
            &name,
            call!(blas, &name, blas.handle() => u64, 0 => u32, int(m)? => i32, int(n)? => i32, two.as_ptr() => *const u8,
                a.at() => u64, int(m)? => i32, (m * n) as i64 => i64, x.at() => u64, 1 => i32, n as i64 => i64,
                half.as_ptr() => *const u8, y.at() => u64, 1 => i32, m as i64 => i64, 2 => i32),
        )?;
        y.compare(&name, |i, j| want(&y, i, j))?;
    }
    Ok(())
}

/// Groups of products, of doubles and with types.
fn groups(blas: &Blas) -> Result<()> {
    if !blas.has("cublasGemmGroupedBatchedEx") {
        return Ok(());
    }
    let mut random = Random(103);
    for (name, ty) in [
        ("cublasDgemmGroupedBatched", Type::F64),
        ("cublasGemmGroupedBatchedEx", Type::F32),
        ("cublasGemmGroupedBatchedEx", Type::F16),
        ("cublasGemmGroupedBatchedEx", Type::Bf16),
    ] {
        let typed = name.ends_with("Ex");
        let (m, n, k) = ([4, 7], [3, 2], [5, 6]);
        let mut sets = Vec::new();
        for (group, batch) in [(0usize, 2), (1, 1)] {
            for _ in 0..batch {
                let size = |v: [i32; 2]| usize::try_from(v[group]);
                let (m, n, k) = (size(m)?, size(n)?, size(k)?);
                let mut new = |rows, cols| Matrix::new(ty, rows, cols, 0, &mut random);
                sets.push((k, new(m, k)?, new(k, n)?, new(m, n)?));
            }
        }
        let list = |of: fn(&(usize, Matrix, Matrix, Matrix)) -> u64| {
            addresses(&sets.iter().map(of).collect::<Vec<_>>())
        };
        let (la, lb, lc) = (
            list(|s| s.1.at())?,
            list(|s| s.2.at())?,
            list(|s| s.3.at())?,
        );
        let scale = if ty == Type::F64 {
            Type::F64
        } else {
            Type::F32
        };
        let factors = |values: [f64; 2]| values.map(|v| scale.encode(C64::real(v))).concat();
        let (alpha, beta) = (factors([1.0, 2.0]), factors([0.0, 1.0]));
        let none = [0u32; 2];
        let numbers = |values: &[i32]| blas.numbers(name, values);
        let (ms, ns, ks, batch) = (numbers(&m), numbers(&n), numbers(&k), numbers(&[2, 1]));
        let ty_id = ty as u32;
        let status = if typed {
            call!(blas, name, blas.handle() => u64, none.as_ptr() => *const u32, none.as_ptr() => *const u32,
                ms.as_ptr() => *const u8, ns.as_ptr() => *const u8, ks.as_ptr() => *const u8, alpha.as_ptr() => *const u8,
                la.address() => u64, ty_id => u32, ms.as_ptr() => *const u8, lb.address() => u64, ty_id => u32, ks.as_ptr() => *const u8,
                beta.as_ptr() => *const u8, lc.address() => u64, ty_id => u32, ms.as_ptr() => *const u8, 2 => i32, batch.as_ptr() => *const u8, 68 => u32)
        } else {
            call!(blas, name, blas.handle() => u64, none.as_ptr() => *const u32, none.as_ptr() => *const u32,
                ms.as_ptr() => *const u8, ns.as_ptr() => *const u8, ks.as_ptr() => *const u8, alpha.as_ptr() => *const u8,
                la.address() => u64, ms.as_ptr() => *const u8, lb.address() => u64, ks.as_ptr() => *const u8,
                beta.as_ptr() => *const u8, lc.address() => u64, ms.as_ptr() => *const u8, 2 => i32, batch.as_ptr() => *const u8)
        };
        ok(name, status)?;
        for (at, (k, a, b, c)) in sets.iter().enumerate() {
            let (alpha, beta) = if at < 2 { (1.0, 0.0) } else { (2.0, 1.0) };
            c.compare(&format!("{name} of {ty:?}, {at}"), |i, j| {
                let want =
                    C64::real(alpha) * product(a, b, *k, i, j) + C64::real(beta) * c.get(i, j);
                (want, 1e-5 + 8.0 * ty.epsilon() * (1.0 + want.abs()))
            })?;
        }
    }
    Ok(())
}

fn vectors(blas: &Blas) -> Result<()> {
    let mut random = Random(104);
    let n = 50usize;
    for (ty, ex) in [
        (Type::F32, Type::F32),
        (Type::F64, Type::F64),
        (Type::F16, Type::F32),
    ] {
        let (x, y) = (
            Matrix::new(ty, n, 1, 0, &mut random)?,
            Matrix::new(ty, n, 1, 0, &mut random)?,
        );
        if blas.has("cublasIaminEx") {
            // Long enough for either width.
            let mut index = 0i64;
            ok(
                "cublasIaminEx",
                call!(blas, "cublasIaminEx", blas.handle() => u64, int(n)? => i32, x.at() => u64, ty as u32 => u32, 1 => i32,
                    (&raw mut index).cast() => *mut i32),
            )?;
            let least = (0..n).map(|i| x.get(i, 0).abs()).fold(f64::MAX, f64::min);
            let found = usize::try_from(index - 1)?;
            ensure!(
                x.get(found, 0).abs() <= least,
                "the least of {ty:?} is {index}"
            );
        }
        if blas.has("cublasRotmEx") {
            // Flag -1: H is [h11 h12; h21 h22], stored by columns.
            let h = [-1.0, 0.5, -2.0, 1.5, 0.25];
            // In the type of the elements.
            let bytes: Vec<u8> = h.iter().flat_map(|v| ty.encode(C64::real(*v))).collect();
            let status = call!(blas, "cublasRotmEx", blas.handle() => u64, int(n)? => i32, x.at() => u64, ty as u32 => u32, 1 => i32,
                y.at() => u64, ty as u32 => u32, 1 => i32, bytes.as_ptr() => *const u8, ty as u32 => u32, ex as u32 => u32);
            if ty == Type::F16 {
                ensure!(status == NOT_SUPPORTED, "cublasRotmEx of halves: {status}");
                continue;
            }
            ok("cublasRotmEx", status)?;
            let bound = 8.0 * ty.epsilon();
            let (a, b) = (|i| x.get(i, 0).re, |i| y.get(i, 0).re);
            x.compare("cublasRotmEx: x", |i, _| {
                (C64::real(h[1] * a(i) + h[3] * b(i)), bound)
            })?;
            y.compare("cublasRotmEx: y", |i, _| {
                (C64::real(h[2] * a(i) + h[4] * b(i)), bound)
            })?;
        }
    }
    Ok(())
}

/// A rotation turns (a, b) into (r, 0).
fn rotations(blas: &Blas) -> Result<()> {
    for (name, ty) in [
        ("cublasSrotg_v2", Type::F32),
        ("cublasDrotg_v2", Type::F64),
        ("cublasCrotg_v2", Type::C32),
        ("cublasZrotg_v2", Type::C64),
    ] {
        let turn = |re: f64, im: f64| C64 {
            re,
            im: if ty.is_complex() { im } else { 0.0 },
        };
        let (a, b) = (ty.round(turn(3.0, 0.5)), ty.round(turn(-4.0, 1.0)));
        let (mut r, mut z, mut c, mut s) =
            (ty.encode(a), ty.encode(b), [0u8; 8], ty.encode(C64::ZERO));
        ok(
            name,
            call!(blas, name, blas.handle() => u64, r.as_mut_ptr() => *mut u8, z.as_mut_ptr() => *mut u8,
                c.as_mut_ptr() => *mut u8, s.as_mut_ptr() => *mut u8),
        )?;
        let real = match ty {
            Type::F32 | Type::C32 => Type::F32,
            _ => Type::F64,
        };
        let (r, c, s) = (
            ty.decode(&r),
            real.decode(&c[..real.bytes()]),
            ty.decode(&s),
        );
        let bound = 32.0 * ty.epsilon();
        ensure!((c * a + s * b).near(r, bound), "{name}: r is {r:?}");
        let below = c * b + C64::real(-1.0) * s.conj() * a;
        ensure!(
            below.near(C64::ZERO, bound),
            "{name}: {below:?} is left of b"
        );
    }
    for (name, ty) in [
        ("cublasSrotmg_v2", Type::F32),
        ("cublasDrotmg_v2", Type::F64),
    ] {
        let encode = |v: f64| ty.encode(C64::real(v));
        let (d1, d2, x, y) = (2.0, 3.0, 1.5, 0.5);
        let (mut a, mut b, mut c, fixed) = (encode(d1), encode(d2), encode(x), encode(y));
        let mut h = vec![0u8; 5 * ty.bytes()];
        ok(
            name,
            call!(blas, name, blas.handle() => u64, a.as_mut_ptr() => *mut u8, b.as_mut_ptr() => *mut u8, c.as_mut_ptr() => *mut u8,
                fixed.as_ptr() => *const u8, h.as_mut_ptr() => *mut u8),
        )?;
        let h: Vec<f64> = h.chunks(ty.bytes()).map(|raw| ty.decode(raw).re).collect();
        // d1 x² > d2 y²: flag 0, and H is [1 h12; h21 1], which makes the second element 0.
        ensure!(h[0] == 0.0, "{name}: flag {}", h[0]);
        let bound = 16.0 * ty.epsilon();
        ensure!((h[2] * x + y).abs() < bound, "{name}: H is {h:?}");
        ensure!(
            (ty.decode(&c).re - (x + h[3] * y)).abs() < bound,
            "{name}: x is {c:?}"
        );
    }
    Ok(())
}

fn transfers(blas: &Blas) -> Result<()> {
    let values: Vec<f32> = (0..60).map(|i| i as f32).collect();
    let memory = Buffer::<f32>::zeros(80)?;
    let mut back = vec![-1f32; 60];
    let name = "cublasSetMatrixAsync";
    ok(
        name,
        call!(blas, name, 4 => i32, 5 => i32, 4 => i32, values.as_ptr() => *const f32, 6 => i32,
        memory.address() => u64, 8 => i32, 0 => u64),
    )?;
    let name = "cublasGetMatrixAsync";
    ok(
        name,
        call!(blas, name, 4 => i32, 5 => i32, 4 => i32, memory.address() => u64, 8 => i32,
        back.as_mut_ptr() => *mut f32, 6 => i32, 0 => u64),
    )?;
    synchronize()?;
    ensure!(
        back[..4] == values[..4] && back[6..10] == values[6..10] && back[4] == -1.0,
        "{back:?}"
    );
    let name = "cublasSetVectorAsync";
    ok(
        name,
        call!(blas, name, 10 => i32, 4 => i32, values.as_ptr() => *const f32, 2 => i32, memory.address() => u64, 3 => i32, 0 => u64),
    )?;
    let name = "cublasGetVectorAsync";
    ok(
        name,
        call!(blas, name, 10 => i32, 4 => i32, memory.address() => u64, 3 => i32, back.as_mut_ptr() => *mut f32, 1 => i32, 0 => u64),
    )?;
    synchronize()?;
    ensure!((0..10).all(|i| back[i] == values[2 * i]), "{back:?}");
    ensure!(
        call!(blas, name, 10 => i32, 0 => i32, memory.address() => u64, 3 => i32, back.as_mut_ptr() => *mut f32, 1 => i32, 0 => u64)
            == INVALID_VALUE,
        "elements of no size"
    );
    Ok(())
}

static LINES: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_text: *const c_char) {
    LINES.fetch_add(1, Ordering::Relaxed);
}

fn settings(blas: &Blas) -> Result<()> {
    let mut version = 0i32;
    ok(
        "cublasGetVersion",
        call!(blas, "cublasGetVersion", &raw mut version => *mut i32),
    )?;
    ensure!(
        version / 10_000 == 11 || version / 10_000 >= 12,
        "{version}"
    );
    if blas.has("cublasSetSmCountTarget") {
        let mut target = -1i32;
        for want in [3, 0] {
            ok(
                "cublasSetSmCountTarget",
                call!(blas, "cublasSetSmCountTarget", blas.handle() => u64, want => i32),
            )?;
            ok(
                "cublasGetSmCountTarget",
                call!(blas, "cublasGetSmCountTarget", blas.handle() => u64, &raw mut target => *mut i32),
            )?;
            ensure!(target == want, "{target}");
        }
        ensure!(
            call!(blas, "cublasSetSmCountTarget", blas.handle() => u64, -1 => i32) == INVALID_VALUE
        );
    }
    let set = |to: *const c_void| -> Result<()> {
        let status = call!(blas, "cublasSetLoggerCallback", to => *const c_void);
        ok("cublasSetLoggerCallback", status)
    };
    let callback = count as extern "C" fn(*const c_char) as *const c_void;
    set(callback)?;
    let mut got = null::<c_void>();
    ok(
        "cublasGetLoggerCallback",
        call!(blas, "cublasGetLoggerCallback", &raw mut got => *mut *const c_void),
    )?;
    ensure!(got == callback, "{got:?}");
    let before = LINES.load(Ordering::Relaxed);
    let configure = |on: i32| -> Result<()> {
        let status = call!(blas, "cublasLoggerConfigure", on => i32, 0 => i32, 0 => i32, null() => *const c_char);
        ok("cublasLoggerConfigure", status)
    };
    configure(1)?;
    ensure!(call!(blas, "cublasSetAtomicsMode", blas.handle() => u64, 5 => u32) == INVALID_VALUE);
    configure(0)?;
    set(null())?;
    ensure!(LINES.load(Ordering::Relaxed) > before, "nothing was logged");

    let at = blas.symbol("cublasGetCudartVersion")?;
    // SAFETY: `size_t cublasGetCudartVersion(void)`.
    let runtime = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> usize>(at)() };
    ensure!((11_000..20_000).contains(&runtime), "{runtime}");
    blas.note("cublasGetCudartVersion", 0);
    let at = blas.symbol("cublasXerbla")?;
    // SAFETY: `void cublasXerbla(const char *, int)`: writes a line to the standard error.
    unsafe {
        std::mem::transmute::<*mut c_void, extern "C" fn(*const c_char, i32)>(at)(
            c"SGEMM".as_ptr(),
            3,
        )
    };
    blas.note("cublasXerbla", 0);
    Ok(())
}
