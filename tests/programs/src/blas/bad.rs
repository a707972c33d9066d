//! What must fail, and how.

use anyhow::{Result, bail, ensure};

use super::element::Type;
use super::{
    Blas, INVALID_VALUE, Matrix, NOT_INITIALIZED, NOT_SUPPORTED, Random, Test, call, null, ok,
    synchronize,
};

pub const TESTS: &[Test] = &[
    ("library_queries", queries),
    ("handle_modes", modes),
    ("bad_handles", handles),
    ("bad_gemm_arguments", gemm),
    ("unsupported_types", types),
];

fn queries(blas: &Blas) -> Result<()> {
    let mut version = 0i32;
    ok(
        "cublasGetVersion_v2",
        call!(blas, "cublasGetVersion_v2", blas.handle() => u64, &raw mut version => *mut i32),
    )?;
    let soname = blas.name.rsplit('.').next().unwrap_or_default();
    ensure!(
        (version / 10_000).to_string() == soname,
        "version {version} of {}",
        blas.name
    );
    let mut parts = [0i32; 3];
    for (which, part) in parts.iter_mut().enumerate() {
        ok(
            "cublasGetProperty",
            call!(blas, "cublasGetProperty", which as u32 => u32, &raw mut *part => *mut i32),
        )?;
    }
    ensure!(
        parts[0] * 10_000 + parts[1] * 100 + parts[2] == version,
        "{parts:?} and {version}"
    );
    ensure!(
        call!(blas, "cublasGetProperty", 3 => u32, &raw mut version => *mut i32) == INVALID_VALUE
    );
    for (function, status, text) in [
        ("cublasGetStatusName", 7, "CUBLAS_STATUS_INVALID_VALUE"),
        ("cublasGetStatusName", 0, "CUBLAS_STATUS_SUCCESS"),
        (
            "cublasGetStatusString",
            15,
            "the functionality requested is not supported",
        ),
    ] {
        if !blas.has(function) {
            continue;
        }
        let at = blas.symbol(function)?;
        // SAFETY: takes a number, gives a NUL-terminated string that lives as long as the library.
        let got = unsafe {
            let function: extern "C" fn(u32) -> *const std::ffi::c_char = std::mem::transmute(at);
            std::ffi::CStr::from_ptr(function(status))
        };
        ensure!(
            got.to_bytes() == text.as_bytes(),
            "{function}({status}) is {got:?}"
        );
    }
    Ok(())
}

fn modes(blas: &Blas) -> Result<()> {
    let handle = blas.create()?;
    for (set, get, good, bad) in [
        ("cublasSetMathMode", "cublasGetMathMode", 3, 7),
        ("cublasSetPointerMode_v2", "cublasGetPointerMode_v2", 1, 2),
        ("cublasSetAtomicsMode", "cublasGetAtomicsMode", 1, 2),
    ] {
        let mut value = 99u32;
        ok(
            get,
            call!(blas, get, handle => u64, &raw mut value => *mut u32),
        )?;
        ensure!(value == 0, "{get} of a new handle is {value}");
        ensure!(
            call!(blas, set, handle => u64, bad => u32) == INVALID_VALUE,
            "{set}({bad})"
        );
        ok(set, call!(blas, set, handle => u64, good => u32))?;
        ok(
            get,
            call!(blas, get, handle => u64, &raw mut value => *mut u32),
        )?;
        ensure!(value == good, "{get} is {value} after {set}({good})");
    }
    let mut stream = 77u64;
    ok(
        "cublasGetStream_v2",
        call!(blas, "cublasGetStream_v2", handle => u64, &raw mut stream => *mut u64),
    )?;
    ensure!(stream == 0, "the stream of a new handle");
    ensure!(
        call!(blas, "cublasSetStream_v2", handle => u64, 0x1234_5678 => u64) != 0,
        "an invented stream was taken"
    );
    let workspace = crate::cuda::Buffer::<u8>::new(1 << 16)?;
    ok(
        "cublasSetWorkspace_v2",
        call!(blas, "cublasSetWorkspace_v2", handle => u64, workspace.address() => u64, 1 << 16 => usize),
    )?;
    let odd = call!(blas, "cublasSetWorkspace_v2", handle => u64, workspace.address() + 8 => u64, 64 => usize);
    ensure!(
        odd == INVALID_VALUE,
        "a workspace that is not aligned: {odd}"
    );
    ok(
        "cublasDestroy_v2",
        call!(blas, "cublasDestroy_v2", handle => u64),
    )
}

fn handles(blas: &Blas) -> Result<()> {
    let dead = blas.create()?;
    ok(
        "cublasDestroy_v2",
        call!(blas, "cublasDestroy_v2", dead => u64),
    )?;
    let one = 1.0f32;
    for handle in [0, 5, dead, dead + 1, u64::MAX] {
        let destroyed = call!(blas, "cublasDestroy_v2", handle => u64);
        ensure!(
            destroyed == NOT_INITIALIZED,
            "cublasDestroy_v2({handle:#x}) is {destroyed}"
        );
        let multiplied = call!(blas, "cublasSgemm_v2",
            handle => u64, 0 => u32, 0 => u32, 1 => i32, 1 => i32, 1 => i32, &raw const one => *const f32,
            0 => u64, 1 => i32, 0 => u64, 1 => i32, &raw const one => *const f32, 0 => u64, 1 => i32);
        ensure!(
            multiplied == NOT_INITIALIZED,
            "cublasSgemm_v2({handle:#x}) is {multiplied}"
        );
    }
    ensure!(call!(blas, "cublasCreate_v2", std::ptr::null_mut() => *mut u64) == INVALID_VALUE);
    Ok(())
}

/// Each row changes one good argument into a bad one.
fn gemm(blas: &Blas) -> Result<()> {
    let c = Matrix::new(Type::F32, 8, 8, 0, &mut Random(9))?;
    let one = 1.0f32;
    // transa, transb, m, n, k, lda, ldb, ldc.
    let good = [0, 0, 4, 5, 6, 4, 6, 4];
    let run = |v: [i32; 8], alpha: *const f32, beta: *const f32| -> Result<u32> {
        Ok(call!(blas, "cublasSgemm_v2",
            blas.handle() => u64, v[0] => i32, v[1] => i32, v[2] => i32, v[3] => i32, v[4] => i32, alpha => *const f32,
            c.at() => u64, v[5] => i32, c.at() => u64, v[6] => i32, beta => *const f32, c.at() => u64, v[7] => i32))
    };
    let factor = &raw const one;
    ok("good arguments", run(good, factor, factor)?)?;
    let bad = [
        (0, 3),
        (0, -1),
        (1, 3),
        (2, -1),
        (3, -1),
        (4, -1),
        (5, 3),
        (5, 0),
        (6, 5),
        (6, 0),
        (7, 3),
        (7, 0),
    ];
    for (place, value) in bad {
        let mut arguments = good;
        arguments[place] = value;
        let status = run(arguments, factor, factor)?;
        if status != INVALID_VALUE {
            bail!("argument {place} = {value} gives {status}");
        }
    }
    // Transposed, the leading dimensions are counted against the other sizes.
    ensure!(
        run([1, 0, 4, 5, 6, 5, 6, 4], factor, factor)? == INVALID_VALUE,
        "lda < k"
    );
    ensure!(
        run([0, 1, 4, 5, 6, 4, 4, 4], factor, factor)? == INVALID_VALUE,
        "ldb < n"
    );
    ensure!(run(good, null(), factor)? == INVALID_VALUE, "no alpha");
    ensure!(run(good, factor, null())? == INVALID_VALUE, "no beta");
    Ok(synchronize()?)
}

fn types(blas: &Blas) -> Result<()> {
    let c = Matrix::new(Type::F64, 8, 8, 0, &mut Random(10))?;
    let scale = [0u8; 16];
    let run = |a: u32, b: u32, c_type: u32, compute: u32| -> Result<u32> {
        Ok(call!(blas, "cublasGemmEx",
            blas.handle() => u64, 0 => u32, 0 => u32, 4 => i32, 4 => i32, 4 => i32, scale.as_ptr() => *const u8,
            c.at() => u64, a => u32, 4 => i32, c.at() => u64, b => u32, 4 => i32, scale.as_ptr() => *const u8,
            c.at() => u64, c_type => u32, 4 => i32, compute => u32, -1 => i32))
    };
    for (a, b, c_type, compute) in [
        (2, 14, 0, 68),
        (2, 2, 1, 68),
        (0, 0, 0, 64),
        (1, 1, 1, 68),
        (0, 0, 0, 70),
        (3, 3, 3, 72),
        (2, 2, 2, 74),
    ] {
        let status = run(a, b, c_type, compute)?;
        ensure!(
            status == NOT_SUPPORTED,
            "types {a} {b} {c_type} compute {compute}: {status}"
        );
    }
    ensure!(
        run(0, 0, 0, 66)? == INVALID_VALUE,
        "a compute type that there is not"
    );
    Ok(synchronize()?)
}
