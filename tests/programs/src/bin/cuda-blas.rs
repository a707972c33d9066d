//! cuBLAS: each routine against a plain model, on each version of the library.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use vgpu_test_programs::blas;
use vgpu_test_programs::cuda::{self, Context};

const HELP: &str = "\
Usage: cuda-blas [--only TEST] [LIBRARY...]

  LIBRARY       a soname; libcublas.so and libcublasLt.so of 11, 12 and 13 where none is given";

fn run() -> Result<ExitCode> {
    let (mut only, mut libraries) = (None, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--only" => {
                only = Some(
                    words
                        .next()
                        .with_context(|| format!("--only wants a name\n{HELP}"))?,
                )
            }
            "--help" => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            other if other.starts_with("--") => bail!("unknown option {other}\n{HELP}"),
            other => libraries.push(other.to_owned()),
        }
    }
    // The tests' runner gives the directory of the kernels last, which is not needed here.
    libraries.retain(|name| !name.contains('/'));
    if libraries.is_empty() {
        for library in ["libcublas", "libcublasLt"] {
            libraries.extend([11, 12, 13].map(|major| format!("{library}.so.{major}")));
        }
    }
    cuda::init()?;
    let _context = Context::primary()?;
    let mut failed = 0;
    for library in &libraries {
        failed += if library.contains("cublasLt") {
            blas::lt::run(library, only.as_deref())?
        } else {
            blas::run(library, only.as_deref())?
        };
    }
    if failed > 0 {
        println!("{failed} tests failed");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("cuda-blas: {error:#}");
        ExitCode::from(2)
    })
}
