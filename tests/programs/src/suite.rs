//! Kernels, their launches in several sizes, and the comparison of every element with the CPU.

mod atomics;
mod control;
mod matrix;
mod modules;
mod reduce;
mod streams;
mod vector;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::cuda::Module;

/// One kernel's test.
pub struct Case {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// The PTX file that it loads, without `.ptx`.
    pub file: &'static str,
    /// Runs it and says what was compared.
    pub run: fn(&Module) -> Result<String>,
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "vector_add",
        file: "vector_add",
        run: vector::add,
    },
    Case {
        name: "vector_add_stride",
        file: "vector_add",
        run: vector::add_stride,
    },
    Case {
        name: "saxpy",
        file: "saxpy",
        run: vector::saxpy,
    },
    Case {
        name: "daxpy",
        file: "saxpy",
        run: vector::daxpy,
    },
    Case {
        name: "sgemm_naive",
        file: "sgemm_naive",
        run: matrix::naive,
    },
    Case {
        name: "sgemm_tiled",
        file: "sgemm_tiled",
        run: matrix::tiled,
    },
    Case {
        name: "reduce_block",
        file: "reduce_block",
        run: reduce::block,
    },
    Case {
        name: "reduce_shuffle",
        file: "reduce_shuffle",
        run: reduce::shuffle,
    },
    Case {
        name: "warp_primitives",
        file: "reduce_shuffle",
        run: reduce::primitives,
    },
    Case {
        name: "histogram_global",
        file: "histogram",
        run: atomics::histogram_global,
    },
    Case {
        name: "histogram_shared",
        file: "histogram",
        run: atomics::histogram_shared,
    },
    Case {
        name: "atomics",
        file: "histogram",
        run: atomics::all,
    },
    Case {
        name: "collatz",
        file: "divergent",
        run: control::collatz,
    },
    Case {
        name: "branches",
        file: "divergent",
        run: control::branches,
    },
    Case {
        name: "local_sort",
        file: "local_array",
        run: control::local_sort,
    },
    Case {
        name: "device_functions",
        file: "device_functions",
        run: control::device_functions,
    },
    Case {
        name: "globals",
        file: "globals",
        run: modules::globals,
    },
    Case {
        name: "dynamic_shared",
        file: "dynamic_shared",
        run: modules::dynamic_shared,
    },
    Case {
        name: "parameters",
        file: "misc",
        run: modules::parameters,
    },
    Case {
        name: "memset_copy",
        file: "vector_add",
        run: modules::memset_copy,
    },
    Case {
        name: "streams",
        file: "vector_add",
        run: streams::two_streams,
    },
    Case {
        name: "events",
        file: "saxpy",
        run: streams::events,
    },
];

/// Loads the module of a case from the directory of the PTX files and runs it.
pub fn run(case: &Case, directory: &Path) -> Result<String> {
    let path = directory.join(case.file).with_extension("ptx");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let module = Module::load(&text).with_context(|| format!("load {}", path.display()))?;
    (case.run)(&module)
}

/// Numbers that look random and are the same in every run.
pub struct Numbers(u64);

impl Numbers {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 32 bits.
    pub fn bits(&mut self) -> u32 {
        // Constants of Knuth's MMIX generator; the upper half is the better one.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// From 0 to `limit - 1`.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.bits() % limit
    }

    /// From -1 to 1, a multiple of 2⁻²³.
    pub fn real(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Many of what `next` makes.
    pub fn many<T>(&mut self, n: usize, mut next: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..n).map(|_| next(self)).collect()
    }
}

/// Fails with the first element that is not the same.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, device: &[T], cpu: &[T]) -> Result<()> {
    ensure!(
        device.len() == cpu.len(),
        "{what}: {} elements, on the CPU {}",
        device.len(),
        cpu.len()
    );
    for (i, (device, cpu)) in device.iter().zip(cpu).enumerate() {
        ensure!(
            device == cpu,
            "{what}: element {i} is {device:?}, on the CPU {cpu:?}"
        );
    }
    Ok(())
}

/// A length as a kernel's `int`.
pub fn int(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_names_the_first_difference() {
        assert!(same("x", &[1, 2, 3], &[1, 2, 3]).is_ok());
        let error = same("x", &[1, 5, 6], &[1, 2, 3]).unwrap_err().to_string();
        assert_eq!(error, "x: element 1 is 5, on the CPU 2");
        assert!(same("x", &[1], &[1, 2]).is_err());
    }

    #[test]
    fn names_are_unique_and_files_exist() {
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        for (i, case) in CASES.iter().enumerate() {
            assert!(
                CASES
                    .iter()
                    .skip(i + 1)
                    .all(|other| other.name != case.name),
                "{}",
                case.name
            );
            assert!(
                kernels.join(case.file).with_extension("cu").is_file(),
                "{}",
                case.file
            );
        }
    }
}
