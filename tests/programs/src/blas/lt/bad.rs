//! What must fail, and how.

use std::ffi::c_void;

use anyhow::{Result, ensure};

use super::{
    Found, INVALID_VALUE, Lt, NOT_INITIALIZED, NOT_SUPPORTED, Random, Test, Type, call, null, ok,
};
use crate::blas::{Matrix, synchronize};

pub const TESTS: &[Test] = &[
    ("lt_bad_handles", handles),
    ("lt_bad_arguments", arguments),
    ("lt_bad_configurations", configurations),
    ("lt_bad_memory", memory),
];

fn handles(lt: &Lt) -> Result<()> {
    let mut dead = 0u64;
    ok(
        "cublasLtCreate",
        call!(lt, "cublasLtCreate", &raw mut dead => *mut u64),
    )?;
    ok("cublasLtDestroy", call!(lt, "cublasLtDestroy", dead => u64))?;
    ensure!(call!(lt, "cublasLtCreate", std::ptr::null_mut() => *mut u64) == INVALID_VALUE);
    let one = 1.0f32;
    for handle in [0, 5, dead, dead + 1, u64::MAX] {
        ensure!(
            call!(lt, "cublasLtDestroy", handle => u64) == NOT_INITIALIZED,
            "destroying {handle:#x}"
        );
        let status = call!(lt, "cublasLtMatmul", handle => u64, 0 => u64, &raw const one => *const f32, 0 => u64, 0 => u64,
            0 => u64, 0 => u64, &raw const one => *const f32, 0 => u64, 0 => u64, 0 => u64, 0 => u64,
            null() => *const c_void, 0 => u64, 0 => usize, 0 => u64);
        ensure!(
            status == NOT_INITIALIZED,
            "a product with {handle:#x}: {status}"
        );
    }
    Ok(())
}

/// A product with one argument after the other made bad.
fn arguments(lt: &Lt) -> Result<()> {
    let c = Matrix::new(Type::F32, 16, 16, 0, &mut Random(61))?;
    let (operation, layout) = (
        lt.operation(68, Type::F32)?,
        lt.layout(Type::F32, 8, 8, 16)?,
    );
    let preference = lt.preference()?;
    let one = 1.0f32;
    let factor = &raw const one as u64;
    // Descriptor, alpha, A, layout, B, layout, beta, C, layout, D, layout, algorithm, workspace, bytes.
    let good = [
        operation.at,
        factor,
        c.at(),
        layout.at,
        c.at(),
        layout.at,
        factor,
        c.at(),
        layout.at,
        c.at(),
        layout.at,
        0,
        0,
        0,
    ];
    let run = |v: [u64; 14]| -> Result<u32> {
        Ok(
            call!(lt, "cublasLtMatmul", lt.handle => u64, v[0] => u64, v[1] => u64, v[2] => u64, v[3] => u64, v[4] => u64,
            v[5] => u64, v[6] => u64, v[7] => u64, v[8] => u64, v[9] => u64, v[10] => u64, v[11] => u64, v[12] => u64,
            v[13] => u64, 0 => u64),
        )
    };
    ok("good arguments", run(good)?)?;
    let zeros = [0u64; 8];
    for (place, value) in [
        (0, 0),
        (0, layout.at),
        (0, preference.at),
        (1, 0),
        (2, 0),
        (3, 0),
        (3, operation.at),
        (4, 0),
        (5, 0),
        (6, 0),
        (7, 0),
        (8, 0),
        (9, 0),
        (10, 0),
        (11, zeros.as_ptr() as u64),
        (12, 8),
        (13, 64),
    ] {
        let mut arguments = good;
        arguments[place] = value;
        if place == 12 {
            arguments[13] = 64;
        }
        let status = run(arguments)?;
        ensure!(
            status == INVALID_VALUE,
            "argument {place} = {value:#x} gives {status}"
        );
    }
    let mut invented = good;
    invented[0] = operation.at;
    let status = call!(lt, "cublasLtMatmul", lt.handle => u64, invented[0] => u64, factor => u64, c.at() => u64, layout.at => u64,
        c.at() => u64, layout.at => u64, factor => u64, c.at() => u64, layout.at => u64, c.at() => u64, layout.at => u64,
        0 => u64, 0 => u64, 0 => u64, 0x1234_5678 => u64);
    ensure!(status != 0, "an invented stream was taken");
    Ok(synchronize()?)
}

/// Heuristics and product agree on what there is.
fn configurations(lt: &Lt) -> Result<()> {
    let c = Matrix::new(Type::F32, 64, 64, 0, &mut Random(62))?;
    let one = [1.0f32; 4];
    type Change = (u32, u32, Vec<u8>);
    let word = |object: u32, which: u32, value: u32| -> Change {
        (object, which, value.to_le_bytes().to_vec())
    };
    let long = |object: u32, which: u32, value: u64| -> Change {
        (object, which, value.to_le_bytes().to_vec())
    };
    // Objects: 0 the descriptor, 1 to 4 the layouts.
    let table: Vec<(&str, Vec<Change>, u32)> = vec![
        ("nothing", vec![], 0),
        (
            "an operation that is none",
            vec![word(0, 3, 7)],
            INVALID_VALUE,
        ),
        (
            "a pointer mode that is none",
            vec![word(0, 2, 9)],
            INVALID_VALUE,
        ),
        ("vectors of factors", vec![word(0, 2, 2)], NOT_SUPPORTED),
        (
            "a compute type that is none",
            vec![word(0, 0, 1)],
            INVALID_VALUE,
        ),
        (
            "a scale type of another",
            vec![word(0, 1, 1)],
            NOT_SUPPORTED,
        ),
        (
            "an epilogue that is none",
            vec![word(0, 7, 77)],
            INVALID_VALUE,
        ),
        ("C transposed", vec![word(0, 5, 1)], NOT_SUPPORTED),
        ("a triangle", vec![word(0, 6, 0)], NOT_SUPPORTED),
        ("a scale of A", vec![long(0, 17, c.at())], INVALID_VALUE),
        (
            "leading bits of ReLU that are too few",
            vec![word(0, 7, 130), long(0, 11, c.at()), long(0, 12, 32)],
            INVALID_VALUE,
        ),
        ("rows that do not match", vec![long(1, 2, 7)], INVALID_VALUE),
        (
            "columns that do not match",
            vec![long(2, 3, 7)],
            INVALID_VALUE,
        ),
        (
            "a leading dimension below the rows",
            vec![long(1, 4, 7)],
            INVALID_VALUE,
        ),
        (
            "a negative leading dimension",
            vec![long(1, 4, u64::MAX)],
            INVALID_VALUE,
        ),
        ("an order of tiles", vec![word(1, 1, 2)], NOT_SUPPORTED),
        ("an order that is none", vec![word(1, 1, 9)], INVALID_VALUE),
        ("no matrix in a batch", vec![word(1, 5, 0)], INVALID_VALUE),
        ("batches that differ", vec![word(1, 5, 2)], INVALID_VALUE),
        ("planes", vec![long(1, 7, 512)], NOT_SUPPORTED),
        (
            "groups",
            (1..5).map(|i| word(i, 8, 2)).collect(),
            NOT_SUPPORTED,
        ),
        ("a type that is none", vec![word(1, 0, 1000)], INVALID_VALUE),
        ("FP8", vec![word(1, 0, 28), word(2, 0, 28)], NOT_SUPPORTED),
        (
            "types that do not match",
            vec![word(1, 0, 2)],
            NOT_SUPPORTED,
        ),
        (
            "C of another type than D",
            vec![word(3, 0, 2)],
            NOT_SUPPORTED,
        ),
        (
            "more rows than an int holds",
            vec![
                long(1, 2, 1 << 40),
                long(1, 4, 1 << 40),
                long(3, 2, 1 << 40),
                long(3, 4, 1 << 40),
                long(4, 2, 1 << 40),
                long(4, 4, 1 << 40),
            ],
            NOT_SUPPORTED,
        ),
    ];
    for (what, changes, want) in table {
        let operation = lt.operation(68, Type::F32)?;
        let layouts = [0; 4].map(|_| lt.layout(Type::F32, 8, 8, 16));
        let [a, b, cl, d] = layouts;
        let layouts = [a?, b?, cl?, d?];
        for (object, which, value) in changes {
            let object = match object {
                0 => &operation,
                i => &layouts[i as usize - 1],
            };
            let name = format!("cublasLt{}SetAttribute", object.kind);
            let status = call!(lt, &name, object.at => u64, which => u32, value.as_ptr() => *const u8, value.len() => usize);
            ok(&format!("{what}: {name}"), status)?;
        }
        let preference = lt.preference()?;
        let (mut found, mut count) = (Found::default(), 5i32);
        let places = [0, 1, 2, 3].map(|i| layouts[i].at);
        let asked = call!(lt, "cublasLtMatmulAlgoGetHeuristic", lt.handle => u64, operation.at => u64, places[0] => u64,
            places[1] => u64, places[2] => u64, places[3] => u64, preference.at => u64, 1 => i32,
            &raw mut found => *mut Found, &raw mut count => *mut i32);
        ensure!(
            asked == want,
            "{what}: the heuristic gives {asked}, not {want}"
        );
        ensure!(count == i32::from(want == 0), "{what}: {count} algorithms");
        let at = |n: u64| c.at() + n * 4096;
        let status = call!(lt, "cublasLtMatmul", lt.handle => u64, operation.at => u64, one.as_ptr() => *const f32,
            at(0) => u64, places[0] => u64, at(1) => u64, places[1] => u64, one.as_ptr() => *const f32, at(2) => u64,
            places[2] => u64, at(3) => u64, places[3] => u64, null() => *const c_void, 0 => u64, 0 => usize, 0 => u64);
        ensure!(status == want, "{what}: {status}, not {want}");
    }
    Ok(synchronize()?)
}

/// Sizes of 0 are no error; heuristics want at least one result.
fn memory(lt: &Lt) -> Result<()> {
    let c = Matrix::new(Type::F32, 8, 8, 0, &mut Random(63))?;
    let operation = lt.operation(68, Type::F32)?;
    let (empty, wide) = (
        lt.layout(Type::F32, 0, 8, 8)?,
        lt.layout(Type::F32, 8, 8, 8)?,
    );
    let one = 1.0f32;
    let status = call!(lt, "cublasLtMatmul", lt.handle => u64, operation.at => u64, &raw const one => *const f32,
        c.at() => u64, empty.at => u64, c.at() => u64, wide.at => u64, &raw const one => *const f32,
        c.at() => u64, empty.at => u64, c.at() => u64, empty.at => u64,
        null() => *const c_void, 0 => u64, 0 => usize, 0 => u64);
    ok("an empty product", status)?;
    c.compare("nothing", |i, j| (c.get(i, j), 0.0))?;
    let preference = lt.preference()?;
    let (mut found, mut count) = (Found::default(), 0i32);
    for most in [0, -1] {
        let status = call!(lt, "cublasLtMatmulAlgoGetHeuristic", lt.handle => u64, operation.at => u64, wide.at => u64,
            wide.at => u64, wide.at => u64, wide.at => u64, preference.at => u64, most => i32,
            &raw mut found => *mut Found, &raw mut count => *mut i32);
        ensure!(status == INVALID_VALUE, "{most} results: {status}");
    }
    Ok(())
}
