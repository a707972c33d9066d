//! What must fail, and how.

use std::ffi::c_void;

use anyhow::{Result, ensure};

use super::{
    Found, INVALID_VALUE, Lt, NOT_INITIALIZED, NOT_SUPPORTED, Random, Test, Type, call, null, ok,
};
use crate::blas::{Matrix, synchronize};

pub const TESTS: &[Test] = &[
    ("lt_bad_handles", handles),
    ("lt_bad_calls", calls),
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

/// A call, what is bad about it, what it gives, and what its section of the cuBLAS documentation names for that.
type Row = (String, &'static str, u32, u32);

/// Functions that set and give attributes: sizes and places.
fn attributes(lt: &Lt, objects: &[(&str, u64)], rows: &mut Vec<Row>) -> Result<()> {
    let (mut value, mut written) = (0u64, 0usize);
    for (kind, at) in objects {
        let name = format!("cublasLt{kind}SetAttribute");
        let mut set = |what, which: u32, from: *const u64, bytes: usize| -> Result<()> {
            let status =
                call!(lt, &name, *at => u64, which => u32, from => *const u64, bytes => usize);
            rows.push((name.clone(), what, status, INVALID_VALUE));
            Ok(())
        };
        set("no value", 1, std::ptr::null(), 4)?;
        set("a size that is not the attribute's", 1, &raw const value, 3)?;
        set("no such attribute", 1000, &raw const value, 4)?;
        let name = format!("cublasLt{kind}GetAttribute");
        let mut get = |what,
                       which: u32,
                       to: *mut u64,
                       bytes: usize,
                       size: *mut usize|
         -> Result<()> {
            let status = call!(lt, &name, *at => u64, which => u32, to => *mut u64, bytes => usize,
                size => *mut usize);
            rows.push((name.clone(), what, status, INVALID_VALUE));
            Ok(())
        };
        let nowhere = std::ptr::null_mut();
        get(
            "a size of 0, and no place for the right one",
            1,
            &raw mut value,
            0,
            std::ptr::null_mut(),
        )?;
        get("no place for the value", 1, nowhere, 4, &raw mut written)?;
        get(
            "a size that is not the attribute's",
            1,
            &raw mut value,
            3,
            &raw mut written,
        )?;
        get(
            "no such attribute",
            1000,
            &raw mut value,
            4,
            &raw mut written,
        )?;
    }
    Ok(())
}

/// Every function but the product itself.
fn calls(lt: &Lt) -> Result<()> {
    let operation = lt.operation(68, Type::F32)?;
    let layout = lt.layout(Type::F32, 8, 8, 8)?;
    let preference = lt.preference()?;
    let mut algorithm = [0u64; 8];
    let init = |at: *mut u64, id: u32| -> Result<u32> {
        Ok(
            call!(lt, "cublasLtMatmulAlgoInit", lt.handle => u64, 68 => u32, 0 => u32, 0 => u32, 0 => u32,
            0 => u32, 0 => u32, id => u32, at => *mut u64),
        )
    };
    let mut rows: Vec<Row> = vec![
        (
            "cublasLtMatmulAlgoInit".into(),
            "no place",
            init(std::ptr::null_mut(), 0)?,
            INVALID_VALUE,
        ),
        (
            "cublasLtMatmulAlgoInit".into(),
            "no such number",
            init(algorithm.as_mut_ptr(), 99_999)?,
            INVALID_VALUE,
        ),
    ];
    ok("cublasLtMatmulAlgoInit", init(algorithm.as_mut_ptr(), 0)?)?;
    let mut number = 0i32;
    let mut add = |name: &str, what, status, want| rows.push((name.to_owned(), what, status, want));
    for (name, what, which, at) in [
        (
            "cublasLtGetProperty",
            "no such property",
            9u32,
            &raw mut number,
        ),
        ("cublasLtGetProperty", "no place", 0, std::ptr::null_mut()),
    ] {
        add(
            name,
            what,
            call!(lt, name, which => u32, at => *mut i32),
            INVALID_VALUE,
        );
    }
    for most in [0, -1] {
        let (mut found, mut count, mut id) = (Found::default(), 0i32, 0i32);
        let name = "cublasLtMatmulAlgoGetHeuristic";
        let status = call!(lt, name, lt.handle => u64, operation.at => u64, layout.at => u64, layout.at => u64,
            layout.at => u64, layout.at => u64, preference.at => u64, most => i32, &raw mut found => *mut Found,
            &raw mut count => *mut i32);
        add(name, "less than one result", status, INVALID_VALUE);
        let name = "cublasLtMatmulAlgoGetIds";
        let status = call!(lt, name, lt.handle => u64, 68 => u32, 0 => u32, 0 => u32, 0 => u32, 0 => u32, 0 => u32,
            most => i32, &raw mut id => *mut i32, &raw mut count => *mut i32);
        add(name, "less than one result", status, INVALID_VALUE);
    }
    let halves = lt.layout(Type::F16, 8, 8, 8)?;
    let mut found = Found::default();
    let name = "cublasLtMatmulAlgoCheck";
    let status = call!(lt, name, lt.handle => u64, operation.at => u64, halves.at => u64, halves.at => u64,
        halves.at => u64, halves.at => u64, algorithm.as_ptr() => *const u64, &raw mut found => *mut Found);
    add(
        name,
        "layouts that are not the algorithm's",
        status,
        INVALID_VALUE,
    );
    let name = "cublasLtMatrixTransform";
    let status = call!(lt, name, 0 => u64, 0 => u64, null() => *const c_void, 0 => u64, layout.at => u64,
        null() => *const c_void, 0 => u64, 0 => u64, 0 => u64, layout.at => u64, 0 => u64);
    add(name, "no handle", status, NOT_INITIALIZED);
    for level in [6, -1] {
        let name = "cublasLtLoggerSetLevel";
        add(
            name,
            "no such level",
            call!(lt, name, level => i32),
            INVALID_VALUE,
        );
    }
    attributes(
        lt,
        &[
            ("MatmulDesc", operation.at),
            ("MatrixLayout", layout.at),
            ("MatmulPreference", preference.at),
            ("MatmulAlgoConfig", algorithm.as_ptr() as u64),
        ],
        &mut rows,
    )?;
    let bad: Vec<String> = rows
        .iter()
        .filter(|(_, _, status, want)| status != want)
        .map(|(name, what, status, want)| format!("{name}, {what}: {status}, not {want}"))
        .collect();
    ensure!(bad.is_empty(), "{}", bad.join("; "));
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
