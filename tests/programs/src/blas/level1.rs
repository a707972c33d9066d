//! Level 1: each routine against the dense vectors that it stands for.

use anyhow::{Result, ensure};

use super::dense::{INCREMENTS, TYPES, Vector, bound, factor, real};
use super::element::{C64, Type};
use super::{Blas, Matrix, Random, Test, call, int, ok};

pub const TESTS: &[Test] = &[
    ("vectors", vectors),
    ("rotations", rotations),
    ("reductions", reductions),
];

fn vectors(blas: &Blas) -> Result<()> {
    let mut random = Random(21);
    for (t, ty) in TYPES {
        for (n, (incx, incy)) in [1usize, 7, 1000, 70_000].into_iter().zip(INCREMENTS) {
            let mut pair = || -> Result<(Vector, Vector)> {
                Ok((
                    Vector::new(ty, n, incx, &mut random)?,
                    Vector::new(ty, n, incy, &mut random)?,
                ))
            };
            let alpha = factor(ty, 0.75, -1.5);
            let bytes = ty.encode(alpha);
            let (x, y) = pair()?;
            let name = format!("cublas{t}axpy_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, bytes.as_ptr() => *const u8,
                x.at() => u64, incx as i32 => i32, y.at() => u64, incy as i32 => i32),
            )?;
            y.compare(&name, |i| {
                let want = alpha * x.values[i] + y.values[i];
                (
                    want,
                    bound(ty, alpha.abs() * x.values[i].abs() + y.values[i].abs(), 1),
                )
            })?;
            let (x, y) = pair()?;
            let name = format!("cublas{t}copy_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32,
                x.at() => u64, incx as i32 => i32, y.at() => u64, incy as i32 => i32),
            )?;
            y.compare(&name, |i| (x.values[i], 0.0))?;
            let (x, y) = pair()?;
            let name = format!("cublas{t}swap_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32,
                x.at() => u64, incx as i32 => i32, y.at() => u64, incy as i32 => i32),
            )?;
            y.compare(&name, |i| (x.values[i], 0.0))?;
            x.compare(&name, |i| (y.values[i], 0.0))?;
            let (x, _) = pair()?;
            let name = format!("cublas{t}scal_v2");
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, bytes.as_ptr() => *const u8,
                x.at() => u64, incx.abs() as i32 => i32),
            )?;
            // The same elements in either direction.
            x.compare(&name, |i| {
                (
                    alpha * x.values[i],
                    bound(ty, alpha.abs() * x.values[i].abs(), 1),
                )
            })?;
        }
    }
    for (name, ty) in [
        ("cublasCsscal_v2", Type::C32),
        ("cublasZdscal_v2", Type::C64),
    ] {
        let x = Vector::new(ty, 9, 2, &mut random)?;
        let bytes = real(ty).encode(C64::real(-2.5));
        ok(
            name,
            call!(blas, name, blas.handle() => u64, 9 => i32, bytes.as_ptr() => *const u8, x.at() => u64, 2 => i32),
        )?;
        x.compare(name, |i| (C64::real(-2.5) * x.values[i], bound(ty, 4.0, 1)))?;
    }
    Ok(())
}

fn rotations(blas: &Blas) -> Result<()> {
    let mut random = Random(22);
    let rows = [
        ("cublasSrot_v2", Type::F32, Type::F32),
        ("cublasDrot_v2", Type::F64, Type::F64),
        ("cublasCrot_v2", Type::C32, Type::C32),
        ("cublasZrot_v2", Type::C64, Type::C64),
        ("cublasCsrot_v2", Type::C32, Type::F32),
        ("cublasZdrot_v2", Type::C64, Type::F64),
    ];
    for (name, ty, of_s) in rows {
        let (x, y) = (
            Vector::new(ty, 33, 2, &mut random)?,
            Vector::new(ty, 33, -1, &mut random)?,
        );
        let (c, s) = (real(ty).round(C64::real(0.6)), factor(of_s, 0.5, 0.25));
        let (cs, ss) = (real(ty).encode(c), of_s.encode(s));
        ok(
            name,
            call!(blas, name, blas.handle() => u64, 33 => i32, x.at() => u64, 2 => i32, y.at() => u64, -1 => i32,
            cs.as_ptr() => *const u8, ss.as_ptr() => *const u8),
        )?;
        x.compare(name, |i| {
            (c * x.values[i] + s * y.values[i], bound(ty, 3.0, 2))
        })?;
        y.compare(name, |i| {
            (c * y.values[i] - s.conj() * x.values[i], bound(ty, 3.0, 2))
        })?;
    }
    for (name, ty) in [("cublasSrotm_v2", Type::F32), ("cublasDrotm_v2", Type::F64)] {
        for flag in [-2.0, -1.0, 0.0, 1.0] {
            let (x, y) = (
                Vector::new(ty, 10, 1, &mut random)?,
                Vector::new(ty, 10, 1, &mut random)?,
            );
            let h = [0.5, -0.25, 0.75, 1.5];
            let all: Vec<u8> = [flag, h[0], h[1], h[2], h[3]]
                .iter()
                .flat_map(|v| ty.encode(C64::real(*v)))
                .collect();
            ok(
                name,
                call!(blas, name, blas.handle() => u64, 10 => i32, x.at() => u64, 1 => i32, y.at() => u64, 1 => i32,
                all.as_ptr() => *const u8),
            )?;
            // h11, h21, h12, h22.
            let m = match flag {
                -1.0 => h,
                0.0 => [1.0, h[1], h[2], 1.0],
                1.0 => [h[0], -1.0, 1.0, h[3]],
                _ => [1.0, 0.0, 0.0, 1.0],
            }
            .map(C64::real);
            x.compare(name, |i| {
                (m[0] * x.values[i] + m[2] * y.values[i], bound(ty, 3.0, 2))
            })?;
            y.compare(name, |i| {
                (m[1] * x.values[i] + m[3] * y.values[i], bound(ty, 3.0, 2))
            })?;
        }
    }
    Ok(())
}

fn reductions(blas: &Blas) -> Result<()> {
    let mut random = Random(23);
    for (n, (incx, incy)) in [0usize, 5, 1000, 200_000].into_iter().zip(INCREMENTS) {
        for (name, ty, conj) in [
            ("cublasSdot_v2", Type::F32, false),
            ("cublasDdot_v2", Type::F64, false),
            ("cublasCdotu_v2", Type::C32, false),
            ("cublasCdotc_v2", Type::C32, true),
            ("cublasZdotu_v2", Type::C64, false),
            ("cublasZdotc_v2", Type::C64, true),
        ] {
            let (x, y) = (
                Vector::new(ty, n, incx, &mut random)?,
                Vector::new(ty, n, incy, &mut random)?,
            );
            let (mut sum, mut size) = (C64::ZERO, 0.0);
            for (a, b) in x.values.iter().zip(&y.values) {
                sum = sum + if conj { a.conj() } else { *a } * *b;
                size += a.abs() * b.abs();
            }
            let mut raw = [0u8; 16];
            ok(
                name,
                call!(blas, name, blas.handle() => u64, int(n)? => i32, x.at() => u64, incx as i32 => i32,
                y.at() => u64, incy as i32 => i32, raw.as_mut_ptr() => *mut u8),
            )?;
            let got = ty.decode(&raw);
            ensure!(
                got.near(sum, bound(ty, size, n)),
                "{name} n {n}: {got:?}, not {sum:?}"
            );
            // In device memory.
            let place = crate::cuda::Buffer::<u8>::zeros(16)?;
            blas.pointer_mode(true)?;
            let status = call!(blas, name, blas.handle() => u64, int(n)? => i32, x.at() => u64, incx as i32 => i32,
                y.at() => u64, incy as i32 => i32, place.address() => u64);
            blas.pointer_mode(false)?;
            ok(name, status)?;
            ensure!(
                ty.decode(&place.read()?) == got,
                "{name} gives something else on the device"
            );
        }
        let step = incx.abs();
        for (which, name, ty) in [
            (0, "cublasSnrm2_v2", Type::F32),
            (0, "cublasDnrm2_v2", Type::F64),
            (0, "cublasScnrm2_v2", Type::C32),
            (0, "cublasDznrm2_v2", Type::C64),
            (1, "cublasSasum_v2", Type::F32),
            (1, "cublasDasum_v2", Type::F64),
            (1, "cublasScasum_v2", Type::C32),
            (1, "cublasDzasum_v2", Type::C64),
        ] {
            let x = Vector::new(ty, n, step, &mut random)?;
            let want = if which == 0 {
                x.values
                    .iter()
                    .map(|v| v.abs() * v.abs())
                    .sum::<f64>()
                    .sqrt()
            } else {
                x.values.iter().map(|v| v.re.abs() + v.im.abs()).sum()
            };
            let mut raw = [0u8; 8];
            ok(
                name,
                call!(blas, name, blas.handle() => u64, int(n)? => i32, x.at() => u64, step as i32 => i32, raw.as_mut_ptr() => *mut u8),
            )?;
            let got = real(ty).decode(&raw);
            ensure!(
                got.near(C64::real(want), bound(ty, want, n)),
                "{name} n {n}: {got:?}, not {want}"
            );
        }
        for (least, letter, ty) in [false, true].into_iter().flat_map(|l| {
            [
                (l, "s", Type::F32),
                (l, "d", Type::F64),
                (l, "c", Type::C32),
                (l, "z", Type::C64),
            ]
        }) {
            let x = Vector::new(ty, n, step, &mut random)?;
            let size = |v: &C64| v.re.abs() + v.im.abs();
            let mut want = 0;
            for (i, v) in x.values.iter().enumerate() {
                let old = if want == 0 {
                    None
                } else {
                    Some(size(&x.values[want - 1]))
                };
                if old.is_none_or(|old| if least { size(v) < old } else { size(v) > old }) {
                    want = i + 1;
                }
            }
            let name = format!("cublasI{letter}{}_v2", if least { "amin" } else { "amax" });
            // Long enough for either width.
            let mut got = 0i64;
            ok(
                &name,
                call!(blas, &name, blas.handle() => u64, int(n)? => i32, x.at() => u64, step as i32 => i32, (&raw mut got).cast() => *mut i32),
            )?;
            // Complex magnitudes may round differently.
            let close = got > 0
                && want > 0
                && (size(&x.values[got as usize - 1]) - size(&x.values[want - 1])).abs() < 1e-6;
            ensure!(
                got as usize == want || (ty.is_complex() && close),
                "{name} n {n}: {got}, not {want}"
            );
        }
    }
    // Squares beyond the range of doubles.
    let x = Matrix::of(Type::F64, 2, 2, vec![C64::real(3e200), C64::real(4e200)])?;
    let mut norm = 0f64;
    ok(
        "cublasDnrm2_v2",
        call!(blas, "cublasDnrm2_v2", blas.handle() => u64, 2 => i32, x.at() => u64, 1 => i32, &raw mut norm => *mut f64),
    )?;
    ensure!(
        (norm / 5e200 - 1.0).abs() < 1e-14,
        "the norm of large numbers is {norm}"
    );
    // Negative sizes are none.
    let mut sum = 9f32;
    ok(
        "cublasSasum_v2",
        call!(blas, "cublasSasum_v2", blas.handle() => u64, -3 => i32, x.at() => u64, 1 => i32, &raw mut sum => *mut f32),
    )?;
    ensure!(sum == 0.0, "the sum of no elements is {sum}");
    Ok(())
}
