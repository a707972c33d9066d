//! Our cublasLt against NVIDIA's headers: the sizes of the opaque structs, and the numbers of attributes.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{abi, nvcc, run, wheels, workspace};

/// NVIDIA's packages, of which only the headers are wanted; the runtime's package of the same version, and its headers.
const HEADERS: &[[&str; 3]] = &[
    [
        "nvidia-cublas-cu11==11.11.3.6",
        "nvidia-cuda-runtime-cu11==11.8.89",
        "nvidia/cuda_runtime/include",
    ],
    [
        "nvidia-cublas-cu12==12.9.1.4",
        "nvidia-cuda-runtime-cu12==12.9.79",
        "nvidia/cuda_runtime/include",
    ],
    [
        "nvidia-cublas==13.10.0.20",
        "nvidia-cuda-runtime==13.0.96",
        "nvidia/cu13/include",
    ],
];

/// Compiles the comparison with each; gives how many there were.
pub fn check() -> Result<u64> {
    let own = workspace::root().join("guest-shim/cublaslt/tests");
    let toolkit = nvcc::Toolkit::fetch()?;
    for [package, runtime, headers] in HEADERS {
        let cublas = abi::files(package, &["*.h"])?;
        let version = runtime.split("==").nth(1).context("no version")?;
        let runtime = wheels::tree(&format!("cudart-{version}"), runtime, &[*runtime], |_| {
            Ok(())
        })?;
        let mut compile = Command::new("cc");
        compile
            .args(["-std=c11", "-Wall", "-Werror", "-fsyntax-only"])
            .arg("-isystem")
            .arg(cublas)
            .arg("-isystem")
            .arg(runtime.join(headers))
            .arg("-isystem")
            .arg(toolkit.root.join("include"))
            .arg("-isystem")
            .arg(own.join("include"))
            .arg(own.join("layout.c"));
        run::ok(&mut compile).with_context(|| (*package).to_owned())?;
    }
    Ok(HEADERS.len() as u64)
}
