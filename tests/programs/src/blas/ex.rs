//! Functions whose types are arguments, rotations that are made, groups of batches, products with vectors
//! of halves.

use anyhow::{Context as _, Result, ensure};

use super::element::{C64, Type};
use super::{
    Blas, INVALID_VALUE, Matrix, NOT_SUPPORTED, Random, Test, addresses, call, int, null, ok,
};
use crate::cuda::Buffer;

pub const TESTS: &[Test] = &[
    ("ex_vectors", vectors),
    ("ex_results", results),
    ("ex_rank_k", rank_k),
    ("ex_not_supported", unsupported),
    ("rotations_made", rotations),
    ("gemv_batched_halves", gemv),
    ("gemm_grouped", grouped),
    ("logger", logger),
];

/// Type of the elements, in which is computed.
const TYPES: &[(Type, Type)] = &[
    (Type::F16, Type::F32),
    (Type::Bf16, Type::F32),
    (Type::F32, Type::F32),
    (Type::F64, Type::F64),
    (Type::C32, Type::C32),
    (Type::C64, Type::C64),
];

fn factor(ty: Type) -> C64 {
    C64 {
        re: 0.75,
        im: if ty.is_complex() { -0.5 } else { 0.0 },
    }
}

fn vectors(blas: &Blas) -> Result<()> {
    let mut random = Random(71);
    let n = 37usize;
    for &(ty, ex) in TYPES {
        let x = Matrix::new(ty, n, 1, 0, &mut random)?;
        let y = Matrix::new(ty, n, 1, 0, &mut random)?;
        let alpha = ex.encode(factor(ty));
        let bound = 6.0 * ty.epsilon() + 6.0 * ex.epsilon();
        let status = call!(blas, "cublasAxpyEx", blas.handle() => u64, int(n)? => i32, alpha.as_ptr() => *const u8,
            ex as u32 => u32, x.at() => u64, ty as u32 => u32, 1 => i32, y.at() => u64, ty as u32 => u32, 1 => i32,
            ex as u32 => u32);
        ok("cublasAxpyEx", status)?;
        y.compare("cublasAxpyEx", |i, _| {
            (factor(ty) * x.get(i, 0) + y.get(i, 0), bound)
        })?;
        let status = call!(blas, "cublasScalEx", blas.handle() => u64, int(n)? => i32, alpha.as_ptr() => *const u8,
            ex as u32 => u32, x.at() => u64, ty as u32 => u32, 1 => i32, ex as u32 => u32);
        ok("cublasScalEx", status)?;
        x.compare("cublasScalEx", |i, _| (factor(ty) * x.get(i, 0), bound))?;
        if blas.has("cublasCopyEx") {
            let (a, b) = (
                Matrix::new(ty, n, 1, 0, &mut random)?,
                Matrix::new(ty, n, 1, 0, &mut random)?,
            );
            let run = |name: &str| -> Result<()> {
                let status = call!(blas, name, blas.handle() => u64, int(n)? => i32, a.at() => u64, ty as u32 => u32,
                    1 => i32, b.at() => u64, ty as u32 => u32, 1 => i32);
                ok(name, status)
            };
            run("cublasSwapEx")?;
            a.compare("cublasSwapEx: x", |i, _| (b.get(i, 0), 0.0))?;
            b.compare("cublasSwapEx: y", |i, _| (a.get(i, 0), 0.0))?;
            run("cublasCopyEx")?;
            b.compare("cublasCopyEx", |i, _| (b.get(i, 0), 0.0))?;
        }
        if blas.has("cublasRotEx") {
            let (a, b) = (
                Matrix::new(ty, n, 1, 0, &mut random)?,
                Matrix::new(ty, n, 1, 0, &mut random)?,
            );
            let real = match ty {
                Type::C32 => Type::F32,
                Type::C64 => Type::F64,
                own => own,
            };
            let (c, s) = (real.round(C64::real(0.6)), real.round(C64::real(0.8)));
            let status = call!(blas, "cublasRotEx", blas.handle() => u64, int(n)? => i32, a.at() => u64, ty as u32 => u32,
                1 => i32, b.at() => u64, ty as u32 => u32, 1 => i32, real.encode(c).as_ptr() => *const u8,
                real.encode(s).as_ptr() => *const u8, real as u32 => u32, ex as u32 => u32);
            ok("cublasRotEx", status).with_context(|| format!("{ty:?}"))?;
            a.compare("cublasRotEx: x", |i, _| {
                (c * a.get(i, 0) + s * b.get(i, 0), bound)
            })?;
            b.compare("cublasRotEx: y", |i, _| {
                (c * b.get(i, 0) - s * a.get(i, 0), bound)
            })?;
        }
    }
    Ok(())
}

fn results(blas: &Blas) -> Result<()> {
    let mut random = Random(72);
    let n = 37usize;
    for &(ty, ex) in TYPES {
        let x = Matrix::new(ty, n, 1, 0, &mut random)?;
        let y = Matrix::new(ty, n, 1, 0, &mut random)?;
        let sum = |conjugated: bool| {
            (0..n).fold(C64::ZERO, |sum, i| {
                let left = x.get(i, 0);
                sum + if conjugated { left.conj() } else { left } * y.get(i, 0)
            })
        };
        for device in [false, true] {
            let place = Buffer::<u8>::new(16)?;
            let mut here = [0u8; 16];
            let to = if device {
                place.address()
            } else {
                here.as_mut_ptr() as u64
            };
            let read = |ty: Type| -> Result<C64> {
                let bytes = if device { place.read()? } else { here.to_vec() };
                Ok(ty.decode(&bytes))
            };
            let bound = 40.0 * ex.epsilon() * n as f64 + 8.0 * ty.epsilon();
            for (name, conjugated) in [("cublasDotEx", false), ("cublasDotcEx", true)] {
                blas.pointer_mode(device)?;
                let status = call!(blas, name, blas.handle() => u64, int(n)? => i32, x.at() => u64, ty as u32 => u32, 1 => i32,
                    y.at() => u64, ty as u32 => u32, 1 => i32, to => u64, ty as u32 => u32, ex as u32 => u32);
                blas.pointer_mode(false)?;
                ok(name, status)?;
                let (got, want) = (read(ty)?, sum(conjugated));
                ensure!(
                    got.near(want, bound),
                    "{name} of {ty:?} is {got:?}, not {want:?}"
                );
            }
            let real = match ty {
                Type::C32 => Type::F32,
                Type::C64 => Type::F64,
                own => own,
            };
            let real_ex = if real.epsilon() > Type::F32.epsilon() {
                Type::F32
            } else {
                real
            };
            let norm = (0..n)
                .map(|i| x.get(i, 0).abs().powi(2))
                .sum::<f64>()
                .sqrt();
            blas.pointer_mode(device)?;
            let status = call!(blas, "cublasNrm2Ex", blas.handle() => u64, int(n)? => i32, x.at() => u64, ty as u32 => u32,
                1 => i32, to => u64, real as u32 => u32, real_ex as u32 => u32);
            blas.pointer_mode(false)?;
            ok("cublasNrm2Ex", status)?;
            let got = read(real)?;
            ensure!(
                got.near(C64::real(norm), bound),
                "the norm of {ty:?} is {got:?}, not {norm}"
            );
            if !blas.has("cublasIamaxEx") || device {
                continue;
            }
            let total: f64 = (0..n)
                .map(|i| x.get(i, 0).re.abs() + x.get(i, 0).im.abs())
                .sum();
            let status = call!(blas, "cublasAsumEx", blas.handle() => u64, int(n)? => i32, x.at() => u64, ty as u32 => u32,
                1 => i32, to => u64, real as u32 => u32, real_ex as u32 => u32);
            ok("cublasAsumEx", status)?;
            let got = read(real)?;
            ensure!(
                got.near(C64::real(total), bound + total * ty.epsilon() * 2.0),
                "the sum of {ty:?} is {got:?}, not {total}"
            );
            // Long enough for either width.
            let mut index = 0i64;
            let status = call!(blas, "cublasIamaxEx", blas.handle() => u64, int(n)? => i32, x.at() => u64, ty as u32 => u32,
                1 => i32, (&raw mut index).cast() => *mut i32);
            ok("cublasIamaxEx", status)?;
            let size = |i: usize| x.get(i, 0).re.abs() + x.get(i, 0).im.abs();
            let best = (0..n).map(size).fold(0.0, f64::max);
            let found = usize::try_from(index - 1)?;
            ensure!(
                size(found) >= best * (1.0 - 1e-6),
                "the largest of {ty:?} is {index}"
            );
        }
    }
    Ok(())
}

fn rank_k(blas: &Blas) -> Result<()> {
    let mut random = Random(73);
    let (n, k) = (9usize, 13usize);
    for ty in [Type::Ci8, Type::C32] {
        for (name, hermitian) in [
            ("cublasCsyrkEx", false),
            ("cublasCsyrk3mEx", false),
            ("cublasCherkEx", true),
            ("cublasCherk3mEx", true),
        ] {
            let a = Matrix::new(ty, n, k, 3, &mut random)?;
            let c = Matrix::new(Type::C32, n, n, 2, &mut random)?;
            let (alpha, beta) = ([0.5f32, 0.0], [0.0f32, 0.0]);
            let status = call!(blas, name, blas.handle() => u64, 0 => u32, 0 => u32, int(n)? => i32, int(k)? => i32,
                alpha.as_ptr() => *const f32, a.at() => u64, ty as u32 => u32, int(a.ld)? => i32,
                beta.as_ptr() => *const f32, c.at() => u64, 4 => u32, int(c.ld)? => i32);
            ok(name, status)?;
            c.compare(name, |i, j| {
                if i < j {
                    return (c.get(i, j), 0.0);
                }
                let sum = (0..k).fold(C64::ZERO, |sum, p| {
                    let right = a.get(j, p);
                    sum + a.get(i, p) * if hermitian { right.conj() } else { right }
                });
                let size: f64 = (0..k).map(|p| a.get(i, p).abs() * a.get(j, p).abs()).sum();
                (C64::real(0.5) * sum, size * 1e-5)
            })?;
        }
    }
    Ok(())
}

fn unsupported(blas: &Blas) -> Result<()> {
    let x = Matrix::new(Type::F32, 8, 1, 0, &mut Random(74))?;
    let one = [0u8; 16];
    for (alpha, x_type, y_type, ex) in [
        (0, 0, 1, 0),
        (0, 0, 0, 1),
        (1, 0, 0, 0),
        (2, 2, 2, 2),
        (0, 3, 3, 0),
    ] {
        let status = call!(blas, "cublasAxpyEx", blas.handle() => u64, 8 => i32, one.as_ptr() => *const u8, alpha => u32,
            x.at() => u64, x_type => u32, 1 => i32, x.at() => u64, y_type => u32, 1 => i32, ex => u32);
        ensure!(
            status == NOT_SUPPORTED,
            "types {x_type} and {y_type}: {status}"
        );
    }
    let status = call!(blas, "cublasAxpyEx", blas.handle() => u64, 8 => i32, null() => *const u8, 0 => u32,
        x.at() => u64, 0 => u32, 1 => i32, x.at() => u64, 0 => u32, 1 => i32, 0 => u32);
    ensure!(status == INVALID_VALUE, "no factor: {status}");
    Ok(())
}

fn rotations(blas: &Blas) -> Result<()> {
    for (a, b) in [(3.0f32, 4.0f32), (-5.0, 1.0), (0.0, 2.0), (0.0, 0.0)] {
        let (mut r, mut z, mut c, mut s) = (a, b, 9.0f32, 9.0f32);
        let status = call!(blas, "cublasSrotg_v2", blas.handle() => u64, &raw mut r => *mut f32, &raw mut z => *mut f32,
            &raw mut c => *mut f32, &raw mut s => *mut f32);
        ok("cublasSrotg_v2", status)?;
        ensure!(
            (c * a + s * b - r).abs() < 1e-5 && (c * b - s * a).abs() < 1e-5,
            "({a}, {b}): {c}, {s}, {r}"
        );
        ensure!((c * c + s * s - 1.0).abs() < 1e-5, "({a}, {b}): {c}, {s}");
    }
    let (mut a, mut b) = ([1.0f64, 2.0], [-2.0f64, 0.5]);
    let (x, y) = (a, b);
    let (mut c, mut s) = (0.0f64, [0.0f64; 2]);
    let status = call!(blas, "cublasZrotg_v2", blas.handle() => u64, a.as_mut_ptr() => *mut f64, b.as_mut_ptr() => *mut f64,
        &raw mut c => *mut f64, s.as_mut_ptr() => *mut f64);
    ok("cublasZrotg_v2", status)?;
    let complex = |v: [f64; 2]| C64 { re: v[0], im: v[1] };
    let got = C64::real(c) * complex(x) + complex(s) * complex(y);
    ensure!(
        got.near(complex(a), 1e-12),
        "c a + s b is {got:?}, not {a:?}"
    );
    let zero = C64::real(c) * complex(y) - complex(s).conj() * complex(x);
    ensure!(zero.near(C64::ZERO, 1e-12), "{zero:?} is left of b");
    let (mut d1, mut d2, mut x1, y1) = (2.0f64, 3.0f64, 1.5f64, -0.5f64);
    let mut param = [7.0f64; 5];
    let status = call!(blas, "cublasDrotmg_v2", blas.handle() => u64, &raw mut d1 => *mut f64, &raw mut d2 => *mut f64,
        &raw mut x1 => *mut f64, &raw const y1 => *const f64, param.as_mut_ptr() => *mut f64);
    ok("cublasDrotmg_v2", status)?;
    // |d1 x1²| > |d2 y1²|: the flag is 0, and the other two parameters stay.
    ensure!(
        param[0] == 0.0 && param[1] == 7.0 && param[4] == 7.0,
        "{param:?}"
    );
    ensure!((param[2] * 1.5 + -0.5).abs() < 1e-12, "{param:?}");
    ensure!(
        (1.5 + param[3] * -0.5 - x1).abs() < 1e-12,
        "{x1}, {param:?}"
    );
    // With device pointers the numbers would have to be fetched.
    blas.pointer_mode(true)?;
    let status = call!(blas, "cublasDrotmg_v2", blas.handle() => u64, 0 => u64, 0 => u64, 0 => u64, 0 => u64, 0 => u64);
    blas.pointer_mode(false)?;
    ensure!(status == NOT_SUPPORTED, "device pointers: {status}");
    Ok(())
}

fn gemv(blas: &Blas) -> Result<()> {
    if !blas.has("cublasHSHgemvBatched") {
        return Ok(());
    }
    let mut random = Random(75);
    let (m, n, count) = (13usize, 9usize, 3usize);
    for (letters, ty, out) in [
        ("HSH", Type::F16, Type::F16),
        ("HSS", Type::F16, Type::F32),
        ("TST", Type::Bf16, Type::Bf16),
        ("TSS", Type::Bf16, Type::F32),
    ] {
        for trans in [0u32, 1] {
            let (rows, cols) = if trans == 0 { (m, n) } else { (n, m) };
            let of = |ty, r, c, random: &mut Random| -> Result<Vec<Matrix>> {
                (0..count)
                    .map(|_| Matrix::new(ty, r, c, 0, random))
                    .collect()
            };
            let (a, x) = (of(ty, m, n, &mut random)?, of(ty, cols, 1, &mut random)?);
            let y = of(out, rows, 1, &mut random)?;
            let list = |all: &[Matrix]| addresses(&all.iter().map(Matrix::at).collect::<Vec<_>>());
            let (la, lx, ly) = (list(&a)?, list(&x)?, list(&y)?);
            let (alpha, beta) = (0.75f32, -1.5f32);
            let name = format!("cublas{letters}gemvBatched");
            let status = call!(blas, &name, blas.handle() => u64, trans => u32, int(m)? => i32, int(n)? => i32,
                &raw const alpha => *const f32, la.address() => u64, int(m)? => i32, lx.address() => u64, 1 => i32,
                &raw const beta => *const f32, ly.address() => u64, 1 => i32, int(count)? => i32);
            ok(&name, status)?;
            for index in 0..count {
                y[index].compare(&name, |i, _| {
                    let sum = (0..cols).fold(0.0, |sum, p| {
                        sum + a[index].op(trans, i, p).re * x[index].get(p, 0).re
                    });
                    let value = 0.75 * sum - 1.5 * y[index].get(i, 0).re;
                    (
                        C64::real(value),
                        1e-4 + 4.0 * out.epsilon() * (value.abs() + 1.0),
                    )
                })?;
            }
        }
        // One matrix and one vector, twice: the strided form.
        let a = Matrix::new(ty, m, n, 0, &mut random)?;
        let x = Matrix::new(ty, n, 1, 0, &mut random)?;
        let y = Matrix::new(out, m, 2, 0, &mut random)?;
        let (alpha, beta) = (2.0f32, 0.0f32);
        let name = format!("cublas{letters}gemvStridedBatched");
        let status = call!(blas, &name, blas.handle() => u64, 0 => u32, int(m)? => i32, int(n)? => i32,
            &raw const alpha => *const f32, a.at() => u64, int(m)? => i32, 0 => i64, x.at() => u64, 1 => i32, 0 => i64,
            &raw const beta => *const f32, y.at() => u64, 1 => i32, m as i64 => i64, 2 => i32);
        ok(&name, status)?;
        y.compare(&name, |i, _| {
            let sum = (0..n).fold(0.0, |sum, p| sum + a.get(i, p).re * x.get(p, 0).re);
            (
                C64::real(2.0 * sum),
                1e-4 + 4.0 * out.epsilon() * (2.0 * sum.abs() + 1.0),
            )
        })?;
    }
    Ok(())
}

fn grouped(blas: &Blas) -> Result<()> {
    if !blas.has("cublasSgemmGroupedBatched") {
        return Ok(());
    }
    let mut random = Random(76);
    let sizes = [(5usize, 6usize, 7usize, 2usize), (9, 4, 3, 1), (1, 8, 2, 3)];
    let (trans, none) = ([0u32, 1, 0], [0u32; 3]);
    let mut sets = Vec::new();
    for (group, (m, n, k, batch)) in sizes.into_iter().enumerate() {
        for _ in 0..batch {
            let (r, c) = if trans[group] == 0 { (m, k) } else { (k, m) };
            sets.push((
                group,
                Matrix::new(Type::F32, r, c, 0, &mut random)?,
                Matrix::new(Type::F32, k, n, 0, &mut random)?,
                Matrix::new(Type::F32, m, n, 0, &mut random)?,
            ));
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
    let column = |of: fn(&(usize, usize, usize, usize)) -> usize| -> Result<Vec<i32>> {
        sizes.iter().map(|s| int(of(s))).collect()
    };
    let (m, n, k, batch) = (
        column(|s| s.0)?,
        column(|s| s.1)?,
        column(|s| s.2)?,
        column(|s| s.3)?,
    );
    let lda: Vec<i32> = (0..3)
        .map(|g| if trans[g] == 0 { m[g] } else { k[g] })
        .collect();
    let (alpha, beta) = ([0.5f32, 2.0, -1.0], [0.0f32, 1.0, -0.5]);
    let run = |name: &str, m: &[i32]| -> Result<u32> {
        let numbers = |values: &[i32]| blas.numbers(name, values);
        let (m, n, k, lda, batch) = (
            numbers(m),
            numbers(&n),
            numbers(&k),
            numbers(&lda),
            numbers(&batch),
        );
        Ok(
            call!(blas, name, blas.handle() => u64, trans.as_ptr() => *const u32, none.as_ptr() => *const u32,
            m.as_ptr() => *const u8, n.as_ptr() => *const u8, k.as_ptr() => *const u8, alpha.as_ptr() => *const f32,
            la.address() => u64, lda.as_ptr() => *const u8, lb.address() => u64, k.as_ptr() => *const u8,
            beta.as_ptr() => *const f32, lc.address() => u64, m.as_ptr() => *const u8, 3 => i32, batch.as_ptr() => *const u8),
        )
    };
    // A bad group at the end: nothing is computed.
    ensure!(run("cublasSgemmGroupedBatched", &[m[0], m[1], -1])? == INVALID_VALUE);
    ok(
        "cublasSgemmGroupedBatched",
        run("cublasSgemmGroupedBatched", &m)?,
    )?;
    for (group, a, b, c) in &sets {
        c.compare(&format!("group {group}"), |i, j| {
            let inner = sizes[*group].2;
            let sum = (0..inner).fold(0.0, |sum, p| {
                sum + a.op(trans[*group], i, p).re * b.get(p, j).re
            });
            let (alpha, beta) = (f64::from(alpha[*group]), f64::from(beta[*group]));
            (C64::real(alpha * sum + beta * c.get(i, j).re), 1e-5)
        })?;
    }
    Ok(())
}

/// The log in a file names the calls.
fn logger(blas: &Blas) -> Result<()> {
    let path = std::env::temp_dir().join(format!("vgpu-cublas-log-{}", std::process::id()));
    let text = std::ffi::CString::new(path.to_string_lossy().as_bytes())?;
    let configure = |on: i32, path: *const std::ffi::c_char| -> Result<u32> {
        Ok(
            call!(blas, "cublasLoggerConfigure", on => i32, 0 => i32, 0 => i32, path => *const std::ffi::c_char),
        )
    };
    ok("cublasLoggerConfigure", configure(1, text.as_ptr())?)?;
    let mut version = 0i32;
    ok(
        "cublasGetVersion_v2",
        call!(blas, "cublasGetVersion_v2", blas.handle() => u64, &raw mut version => *mut i32),
    )?;
    ensure!(call!(blas, "cublasSetAtomicsMode", blas.handle() => u64, 5 => u32) == INVALID_VALUE);
    ok("cublasLoggerConfigure", configure(0, null())?)?;
    ok(
        "cublasGetVersion_v2",
        call!(blas, "cublasGetVersion_v2", blas.handle() => u64, &raw mut version => *mut i32),
    )?;
    let log = std::fs::read_to_string(&path)?;
    std::fs::remove_file(&path)?;
    ensure!(
        log.matches("cublasGetVersion_v2 returned CUBLAS_STATUS_SUCCESS")
            .count()
            == 1,
        "the log: {log}"
    );
    ensure!(
        log.contains("cublasSetAtomicsMode returned CUBLAS_STATUS_INVALID_VALUE"),
        "the log: {log}"
    );
    Ok(())
}
