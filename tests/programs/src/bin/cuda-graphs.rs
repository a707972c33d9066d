//! Graphs, captures, functions of the program and the order of streams, each compared with what
//! NVIDIA documents.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use vgpu_test_programs::cuda::{self, Context};
use vgpu_test_programs::graphs::CASES;

const HELP: &str = "\
Usage: cuda-graphs [--only NAME] [PTX-DIRECTORY]

The directory is for likeness with the other programs: the kernels are part of this one.

  --only NAME   run one test (--list shows the names)
  --list        print the names";

fn run() -> Result<()> {
    let mut only = None;
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
            "--list" => {
                CASES.iter().for_each(|(name, _)| println!("{name}"));
                return Ok(());
            }
            "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            other if other.starts_with('-') => bail!("unknown option {other}\n{HELP}"),
            _directory => {}
        }
    }
    if let Some(name) = &only
        && !CASES.iter().any(|(known, _)| known == name)
    {
        bail!("no test {name}: --list shows the names");
    }
    cuda::init()?;
    let _context = Context::primary()?;
    println!("device: {}", cuda::device_name()?);
    let mut failed = 0;
    for (name, case) in CASES {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        match case() {
            Ok(compared) => println!("PASS {name}: {compared}"),
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} tests failed");
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cuda-graphs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
