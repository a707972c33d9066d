//! Runs the named tests of a program: each gives what it compared, or what differed.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::cuda::{self, Context};

/// A test: its name, and what runs it with the primary context current.
pub type Case = (&'static str, fn() -> Result<String>);

/// `main` of the program `program` that consists of `cases`.
pub fn main(program: &str, cases: &[Case]) -> ExitCode {
    match run(program, cases) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn help(program: &str) -> String {
    format!(
        "\
Usage: {program} [--only NAME] [PTX-DIRECTORY]

The directory is for likeness with the other programs: the kernels are part of this one.

  --only NAME   run one test (--list shows the names)
  --list        print the names"
    )
}

fn run(program: &str, cases: &[Case]) -> Result<()> {
    let help = help(program);
    let mut only = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--only" => {
                only = Some(
                    words
                        .next()
                        .with_context(|| format!("--only wants a name\n{help}"))?,
                )
            }
            "--list" => {
                cases.iter().for_each(|(name, _)| println!("{name}"));
                return Ok(());
            }
            "--help" => {
                println!("{help}");
                return Ok(());
            }
            other if other.starts_with('-') => bail!("unknown option {other}\n{help}"),
            _directory => {}
        }
    }
    if let Some(name) = &only
        && !cases.iter().any(|(known, _)| known == name)
    {
        bail!("no test {name}: --list shows the names");
    }
    cuda::init()?;
    let _context = Context::primary()?;
    println!("device: {}", cuda::device_name()?);
    let mut failed = 0;
    for (name, case) in cases {
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
