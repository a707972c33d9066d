//! Versions, of cublasLt's library, too.

use crate::abi::{Done, INVALID, major};

/// The newest release of each major version, whose names the library has: major, minor, patch.
pub fn version() -> [i32; 3] {
    match major() {
        11 => [11, 11, 3],
        12 => [12, 9, 3],
        _ => [13, 10, 0],
    }
}

/// The same as one number.
pub fn number() -> i32 {
    let [major, minor, patch] = version();
    major * 10_000 + minor * 100 + patch
}

/// Major (0), minor (1) or patch (2) number.
pub fn part(which: u32) -> Done<i32> {
    version().get(which as usize).copied().ok_or(INVALID)
}

/// What `cublasGetCudartVersion` answers: the runtime of the same release.
pub fn cudart_version() -> usize {
    match major() {
        11 => 11_080,
        12 => 12_090,
        _ => 13_000,
    }
}
