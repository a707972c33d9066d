//! Whether NVML says what this process does to the device.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use vgpu_test_programs::cuda::{self, Context};
use vgpu_test_programs::management::{self, ROWS};

fn run(directory: &str) -> Result<bool> {
    let path = std::path::Path::new(directory).join("vector_add.ptx");
    let ptx = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    cuda::init()?;
    let _context = Context::primary()?;
    let (nvml, device) = management::open()?;
    let mut good = true;
    for (name, row) in ROWS {
        match row(&nvml, device, &ptx) {
            Ok(()) => println!("PASS {name}"),
            Err(error) => {
                good = false;
                println!("FAIL {name}: {error:#}");
            }
        }
    }
    Ok(good)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory] = arguments.as_slice() else {
        eprintln!("usage: nvml-check PTX-DIRECTORY");
        return ExitCode::from(2);
    };
    match run(directory) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("FAIL nvml-check: {error:#}");
            ExitCode::FAILURE
        }
    }
}
