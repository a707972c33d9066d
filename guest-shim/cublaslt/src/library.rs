//! What belongs to no handle: versions, names of results, the capacity of the cache of heuristics.
#![allow(unsafe_code)] // Names of functions that return no status.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::{Out, StaticText, exports};
use crate::{logger, status, version};

/// Called with what each export returns.
pub fn returned(name: &str, status: u32) {
    logger::returned(name, status);
}

/// Heuristics of this library need no cache; the host keeps its own. This is the number that programs set.
static CAPACITY: AtomicUsize = AtomicUsize::new(8192);

exports! {
    /// Major (0), minor (1) or patch (2) number of the version.
    fn cublasLtGetProperty(which: u32, out: Out<i32>) {
        out.set(version::part(which)?)
    }

    /// Capacity of the cache of heuristics, in entries.
    fn cublasLtHeuristicsCacheGetCapacity(out: Out<usize>) {
        out.set(CAPACITY.load(Ordering::Relaxed))
    }

    /// Sets it.
    fn cublasLtHeuristicsCacheSetCapacity(capacity: usize) {
        CAPACITY.store(capacity, Ordering::Relaxed);
        Ok(())
    }
}

const _: () = {
    /// Version of the library.
    #[unsafe(no_mangle)]
    #[allow(non_snake_case, reason = "NVIDIA's name")]
    pub extern "C" fn cublasLtGetVersion() -> usize {
        version::number() as usize
    }

    /// Version of the CUDA runtime.
    #[unsafe(no_mangle)]
    #[allow(non_snake_case, reason = "NVIDIA's name")]
    pub extern "C" fn cublasLtGetCudartVersion() -> usize {
        version::cudart_version()
    }

    /// Name of a result.
    #[unsafe(no_mangle)]
    #[allow(non_snake_case, reason = "NVIDIA's name")]
    pub extern "C" fn cublasLtGetStatusName(status: u32) -> StaticText {
        StaticText::of(status::name_of(status))
    }

    /// Text of a result.
    #[unsafe(no_mangle)]
    #[allow(non_snake_case, reason = "NVIDIA's name")]
    pub extern "C" fn cublasLtGetStatusString(status: u32) -> StaticText {
        StaticText::of(status::text_of(status))
    }
};
