//! Each argument of each routine of levels 2 and 3 made bad, one at a time (cuBLAS, "cublasStatus_t": "an unsupported value or
//! parameter was passed to the function").

use std::ffi::c_void;

use anyhow::{Result, ensure};

use super::{Blas, INVALID_VALUE, NOT_INITIALIZED, Test, synchronize};
use crate::cuda::Buffer;

pub const TESTS: &[Test] = &[("bad_arguments", bad)];

/// Families, the letters of their types, and their arguments: `h` handle, `e` an enumeration, `n` a size, `k` a width,
/// `p` a scalar, `a` a matrix or vector, `l` a leading dimension, `i` an increment.
const ROUTINES: &[(&str, &str, &str)] = &[
    ("gemv_v2", "SDCZ", "h e n n p a l a i p a i"),
    ("gbmv_v2", "SDCZ", "h e n n k k p a l a i p a i"),
    ("ger_v2", "SD", "h n n p a i a i a l"),
    ("geru_v2", "CZ", "h n n p a i a i a l"),
    ("gerc_v2", "CZ", "h n n p a i a i a l"),
    ("symv_v2", "SDCZ", "h e n p a l a i p a i"),
    ("hemv_v2", "CZ", "h e n p a l a i p a i"),
    ("sbmv_v2", "SD", "h e n k p a l a i p a i"),
    ("hbmv_v2", "CZ", "h e n k p a l a i p a i"),
    ("spmv_v2", "SD", "h e n p a a i p a i"),
    ("hpmv_v2", "CZ", "h e n p a a i p a i"),
    ("syr_v2", "SDCZ", "h e n p a i a l"),
    ("her_v2", "CZ", "h e n p a i a l"),
    ("syr2_v2", "SDCZ", "h e n p a i a i a l"),
    ("her2_v2", "CZ", "h e n p a i a i a l"),
    ("spr_v2", "SD", "h e n p a i a"),
    ("hpr_v2", "CZ", "h e n p a i a"),
    ("spr2_v2", "SD", "h e n p a i a i a"),
    ("hpr2_v2", "CZ", "h e n p a i a i a"),
    ("trmv_v2", "SDCZ", "h e e e n a l a i"),
    ("trsv_v2", "SDCZ", "h e e e n a l a i"),
    ("tpmv_v2", "SDCZ", "h e e e n a a i"),
    ("tpsv_v2", "SDCZ", "h e e e n a a i"),
    ("tbmv_v2", "SDCZ", "h e e e n k a l a i"),
    ("tbsv_v2", "SDCZ", "h e e e n k a l a i"),
    ("gemm_v2", "SDCZ", "h e e n n n p a l a l p a l"),
    ("symm_v2", "SDCZ", "h e e n n p a l a l p a l"),
    ("hemm_v2", "CZ", "h e e n n p a l a l p a l"),
    ("syrk_v2", "SDCZ", "h e e n n p a l p a l"),
    ("herk_v2", "CZ", "h e e n n p a l p a l"),
    ("syr2k_v2", "SDCZ", "h e e n n p a l a l p a l"),
    ("her2k_v2", "CZ", "h e e n n p a l a l p a l"),
    ("syrkx", "SDCZ", "h e e n n p a l a l p a l"),
    ("herkx", "CZ", "h e e n n p a l a l p a l"),
    ("trmm_v2", "SDCZ", "h e e e e n n p a l a l a l"),
    ("trsm_v2", "SDCZ", "h e e e e n n p a l a l"),
    ("geam", "SDCZ", "h e e n n p a l p a l a l"),
    ("dgmm", "SDCZ", "h e n n a l a i a l"),
];

/// The order of the matrices, the bands beside a diagonal, and leading dimensions that are too small for either.
const N: u64 = 8;
const BANDS: u64 = 2;
const SMALL: u64 = 2;

/// Most arguments of a routine.
const MOST: usize = 16;

fn call(blas: &Blas, name: &str, words: &[u64]) -> Result<u32> {
    let at = match blas.wide_symbol(name) {
        Some(at) => at,
        None => blas.symbol(name)?,
    };
    let mut all = [0u64; MOST];
    all[..words.len()].copy_from_slice(words);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = all;
    type Words = unsafe extern "C" fn(
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
    ) -> u32;
    // SAFETY: all arguments are pointers and whole numbers, which x86-64's C ABI passes as words; the caller removes
    // those that the function does not have.
    let status = unsafe {
        std::mem::transmute::<*mut c_void, Words>(at)(
            a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p,
        )
    };
    blas.note(name, status);
    Ok(status)
}

fn bad(blas: &Blas) -> Result<()> {
    let memory = Buffer::<f64>::zeros((2 * N * N) as usize)?;
    let scalar = [0f64; 2];
    for (family, letters, arguments) in ROUTINES {
        for letter in letters.chars() {
            let name = format!("cublas{letter}{family}");
            let kinds: Vec<&str> = arguments.split(' ').collect();
            let good: Vec<u64> = kinds
                .iter()
                .map(|kind| match *kind {
                    "h" => blas.handle(),
                    "n" | "l" => N,
                    "k" => BANDS,
                    "i" => 1,
                    "p" => scalar.as_ptr() as u64,
                    "a" => memory.address(),
                    _ => 0,
                })
                .collect();
            let status = call(blas, &name, &good)?;
            ensure!(status == 0, "{name}: {status}");
            for (place, kind) in kinds.iter().enumerate() {
                let (value, expected) = match *kind {
                    "h" => (0, NOT_INITIALIZED),
                    "e" => (9, INVALID_VALUE),
                    "n" | "k" => (u64::MAX, INVALID_VALUE),
                    "l" => (SMALL, INVALID_VALUE),
                    // Of a diagonal matrix every element may be the same one.
                    "i" if *family != "dgmm" => (0, INVALID_VALUE),
                    "p" => (0, INVALID_VALUE),
                    _ => continue,
                };
                let mut words = good.clone();
                words[place] = value;
                let status = call(blas, &name, &words)?;
                ensure!(
                    status == expected,
                    "{name}: argument {place} ({kind}) = {value:#x} gives {status}, not {expected}"
                );
            }
        }
    }
    Ok(synchronize()?)
}
