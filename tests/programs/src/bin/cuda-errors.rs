//! Does what must fail, and compares how it fails with what NVIDIA documents.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use vgpu_test_programs::cuda::{self, Context};
use vgpu_test_programs::errors::{Place, ROWS, Row};

const HELP: &str = "\
Usage: cuda-errors [--only NAME] PTX-DIRECTORY

  --only NAME   run one row in this process (--list shows the names)
  --list        print the names";

struct Options {
    only: Option<String>,
    directory: PathBuf,
}

/// `None`: something was printed and there is nothing to run.
fn options() -> Result<Option<Options>> {
    let (mut only, mut directory) = (None, PathBuf::new());
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
                ROWS.iter().for_each(|row| println!("{}", row.name));
                return Ok(None);
            }
            "--help" => {
                println!("{HELP}");
                return Ok(None);
            }
            other if other.starts_with('-') => bail!("unknown option {other}\n{HELP}"),
            other => directory = other.into(),
        }
    }
    if directory.as_os_str().is_empty() {
        bail!("no PTX directory\n{HELP}");
    }
    Ok(Some(Options { only, directory }))
}

/// Runs one row in this process.
fn run_here(row: &Row, ptx: &str) -> Result<()> {
    if row.place == Place::BeforeInit {
        return (row.run)(ptx);
    }
    cuda::init()?;
    let _context = Context::primary()?;
    (row.run)(ptx)
}

/// Runs one row in a process of its own.
fn run_alone(row: &Row, options: &Options) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command
        .args(["--only", row.name])
        .arg(&options.directory)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find_map(|line| line.strip_prefix("FAIL ")) {
        Some(why) => bail!("{why}"),
        None if output.status.success() => Ok(()),
        None => bail!(
            "its process: {}, {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    let path = options.directory.join("misc.ptx");
    let ptx = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    if let Some(name) = &options.only {
        let row = ROWS.iter().find(|row| row.name == name);
        let row =
            row.with_context(|| format!("--only {name}: no such row (--list shows the names)"))?;
        return Ok(match run_here(row, &ptx) {
            Ok(()) => {
                println!("PASS {name}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("FAIL {name}: {error:#}");
                ExitCode::FAILURE
            }
        });
    }
    cuda::init()?;
    let _context = Context::primary()?;
    let mut failed = 0;
    for row in ROWS {
        let result = if row.place == Place::Shared {
            (row.run)(&ptx)
        } else {
            run_alone(row, options)
        };
        match result {
            Ok(()) => println!("PASS {}", row.name),
            Err(error) => {
                println!("FAIL {}: {error:#}", row.name);
                failed += 1;
            }
        }
    }
    if failed > 0 {
        println!("{failed} of {} rows failed", ROWS.len());
        return Ok(ExitCode::FAILURE);
    }
    println!("all {} rows passed", ROWS.len());
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let result = options()
        .and_then(|options| options.map_or(Ok(ExitCode::SUCCESS), |options| run(&options)));
    result.unwrap_or_else(|error| {
        eprintln!("cuda-errors: {error:#}");
        ExitCode::from(2)
    })
}
