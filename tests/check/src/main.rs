//! Runs the tests and measurements of a bundle (`cargo xtask bundle`) on a machine that has nothing else, and
//! prints one table.
//!
//! | module | holds |
//! |---|---|
//! | [`machine`] | what the machine is: processor, kernel, GPU, KVM |
//! | [`target`] | where a CUDA program finds its driver: the software GPU, the GPU through the device, NVIDIA's own |
//! | [`conformance`] | the same test bodies on each target |
//! | [`measure`] | the same measurements on each target, in turn |
//! | [`vm`] | virtual machines with the device |
//! | [`report`] | the table, as text, Markdown and JSON |

mod conformance;
mod machine;
mod measure;
mod report;
mod target;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use report::Report;
use target::Target;

const USAGE: &str = "\
usage: check.sh [--out DIR] [--only PART] [--rounds N] [--quick] [--llama DIR]

  --out DIR     where results.json, results.md and the programs' output go (default: results)
  --only PART   machine, conformance, measure or vm; may be repeated
  --rounds N    how often each measurement is made; medians are shown (default: 5)
  --quick       one round, small sizes
  --llama DIR   also measures llama.cpp: DIR has llama-bench, its libraries with the CUDA one, and a model (.gguf)

Works on any x86-64 Linux with glibc 2.31 or newer. What the machine lacks (GPU, KVM) is skipped, with the reason.
Exit status: 0 when nothing failed, 1 when something did, 2 for a wrong option.";

/// The parts, in their order.
const PARTS: [&str; 4] = ["machine", "conformance", "measure", "vm"];

/// Longest time that one program may take: a test that hangs is a failure, not the end of the run.
const PROGRAM_LIMIT: Duration = Duration::from_secs(240);

/// What was asked for.
pub struct Options {
    /// The bundle.
    pub root: PathBuf,
    /// Where results go.
    pub out: PathBuf,
    /// Rounds of measurements.
    pub rounds: usize,
    /// Small sizes.
    pub quick: bool,
    /// Folder of a llama.cpp with CUDA.
    pub llama: Option<PathBuf>,
    only: Vec<String>,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == part)
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("check: {error:#}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("check: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut words = std::env::args().skip(1);
    let root = words.next().context(USAGE)?;
    let mut options = Options {
        root: std::fs::canonicalize(&root).with_context(|| root.clone())?,
        out: PathBuf::from("results"),
        rounds: 5,
        quick: false,
        llama: None,
        only: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} wants a value\n{USAGE}"))
        };
        match word.as_str() {
            "--out" => options.out = value()?.into(),
            "--only" => {
                let part = value()?;
                if !PARTS.contains(&part.as_str()) {
                    bail!("--only {part}: not one of {}", PARTS.join(", "));
                }
                options.only.push(part);
            }
            "--rounds" => {
                let text = value()?;
                options.rounds = match text.parse() {
                    Ok(n @ 1..=1000) => n,
                    _ => bail!("--rounds {text}: not a number from 1 to 1000"),
                };
            }
            "--llama" => {
                let folder = value()?;
                let whole = std::fs::canonicalize(&folder);
                options.llama = Some(whole.with_context(|| format!("--llama {folder}"))?);
            }
            "--quick" => {
                options.quick = true;
                options.rounds = 1;
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            other => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("--out {}", options.out.display()))?;
    options.out = std::fs::canonicalize(&options.out)?;
    Ok(options)
}

fn run(options: &Options) -> Result<bool> {
    let mut report = Report::new(machine::facts(options));
    report.show_machine();
    let targets = Target::all(options, &mut report)?;
    if options.wants("conformance") {
        conformance::run(options, &targets, &mut report)?;
    }
    if options.wants("measure") {
        measure::run(options, &targets, &mut report)?;
    }
    if options.wants("vm") {
        vm::run(options, &mut report)?;
    }
    report.write(&options.out)?;
    Ok(report.failed() == 0)
}
